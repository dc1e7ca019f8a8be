package kafka

import (
	"context"
	"time"
)

// Range is what is read of a partition: offsets from Start to End, exclusive.
type Range struct{ Start, End int64 }

// Found says where two instants of broker time lie in the log of a partition.
type Found struct {
	First, End int64 // of the log; End is behind the last committed record
	From, To   int64 // the first record at or after either instant; End when there is none
}

// Find looks for two instants in every partition of a topic. The timestamps are those of the
// broker or of the producers, whichever the topic keeps.
func Find(ctx context.Context, cfg Config, from, to time.Time) (map[int32]Found, error) {
	l, err := Look(cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	extents, err := l.Extents(ctx)
	if err != nil {
		return nil, err
	}
	var at [2]map[int32]int64
	for i, t := range []time.Time{from, to} {
		if at[i], err = l.From(ctx, t.UnixMicro()); err != nil {
			return nil, err
		}
	}
	out := make(map[int32]Found, len(extents))
	for p, e := range extents {
		// What is not committed yet, or came since, is behind the end.
		within := func(offset int64) int64 { return max(e.Start, min(e.End, offset)) }
		out[p] = Found{First: e.Start, End: e.End, From: within(at[0][p]), To: within(at[1][p])}
	}
	return out, nil
}

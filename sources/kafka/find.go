package kafka

import (
	"context"
	"fmt"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
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
	tr, err := cfg.Transport()
	if err != nil {
		return nil, fmt.Errorf("kafka topic %s: %w", cfg.Topic, err)
	}
	defer tr.CloseIdleConnections()
	tr.MetadataTopics = []string{cfg.Topic}
	s := &Source{cfg: cfg, addr: kafkago.TCP(cfg.Brokers...), tr: tr}
	ctx, cancel := context.WithTimeout(ctx, cfg.OpenTimeout)
	defer cancel()
	for try := 1; ; try++ {
		found, err := s.findTimes(ctx, from, to)
		if err == nil {
			return found, nil
		}
		if permanent(err) {
			return nil, fmt.Errorf("kafka topic %s: %w", cfg.Topic, err)
		}
		if !pause(ctx, backoff(try)) {
			return nil, fmt.Errorf("kafka topic %s: %w", cfg.Topic, cfg.Explain(err))
		}
		tr.CloseIdleConnections() // and with them the view of the cluster
	}
}

func (s *Source) findTimes(ctx context.Context, from, to time.Time) (map[int32]Found, error) {
	leaders, err := s.leaders(ctx)
	if err != nil {
		return nil, err
	}
	var parts []int32
	for p := range leaders {
		parts = append(parts, p)
	}
	slices.Sort(parts)
	var at [4]map[int32]listed
	for i, ask := range []int64{atStart, atEnd, max(0, from.UnixMilli()), max(0, to.UnixMilli())} {
		if at[i], err = s.list(ctx, parts, ask, committed); err != nil {
			return nil, err
		}
	}
	out := make(map[int32]Found, len(parts))
	for _, p := range parts {
		f := Found{First: at[0][p].offset, End: at[1][p].offset, From: at[2][p].offset, To: at[3][p].offset}
		for _, o := range []*int64{&f.From, &f.To} {
			if *o < 0 || *o > f.End { // nothing so new, or not committed yet
				*o = f.End
			}
			*o = max(*o, f.First)
		}
		out[p] = f
	}
	return out, nil
}

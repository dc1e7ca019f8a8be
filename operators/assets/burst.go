package assets

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// BurstConfig says when records of a gateway that come together are a burst: what it kept while it was
// offline.
type BurstConfig struct {
	Records int   // at least
	Within  int64 // ticks of ingest time
	Span    int64 // ticks of event time that they span more than
}

// DefaultBurstConfig is the one of the reference.
func DefaultBurstConfig() BurstConfig {
	return BurstConfig{Records: 20, Within: (5 * time.Second).Microseconds(), Span: (5 * time.Minute).Microseconds()}
}

// Validate returns every problem.
func (c BurstConfig) Validate() error {
	var errs []error
	if c.Records < 2 {
		errs = append(errs, fmt.Errorf("records %d: want 2 at least", c.Records))
	}
	if c.Within <= 0 || c.Span <= 0 {
		errs = append(errs, fmt.Errorf("within %s and span %s: want more than 0", spanOf(c.Within), spanOf(c.Span)))
	}
	return errors.Join(errs...)
}

// Buffered is a record as bursts see it.
type Buffered struct {
	At, Ingest int64
	Seq        uint8
	Row        int // of whoever looks for bursts
}

// Bursts finds the bursts among records of one gateway, which are in the order of the broker. It
// returns them as runs of records, which it puts into the order in which they happened: by time, then
// by counter. Records of no burst stay where they are.
//
// A run ends where a record is beyond Within of its first: so it is as long as possible, and a record
// is in one at most.
func Bursts(cfg *BurstConfig, records []Buffered) [][]Buffered {
	var out [][]Buffered
	for from := 0; from < len(records); {
		to := from
		low, high := records[from].At, records[from].At
		for to < len(records) && records[to].Ingest-records[from].Ingest <= cfg.Within {
			low, high = min(low, records[to].At), max(high, records[to].At)
			to++
		}
		if to-from < cfg.Records || high-low <= cfg.Span {
			from++
			continue
		}
		run := records[from:to]
		slices.SortStableFunc(run, func(a, b Buffered) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Seq, b.Seq)) })
		out = append(out, run)
		from = to
	}
	return out
}

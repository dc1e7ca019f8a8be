package assets

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// SkewConfig says when the clock of a gateway is wrong.
type SkewConfig struct {
	Records int   // that the estimate rests on
	MaxAge  int64 // ticks; an older record was kept back, and says nothing of the clock
	Limit   int64 // ticks that a clock may be off
}

// DefaultSkewConfig is the one of the reference.
func DefaultSkewConfig() SkewConfig {
	return SkewConfig{Records: 64, MaxAge: (5 * time.Minute).Microseconds(), Limit: (2 * time.Minute).Microseconds()}
}

// Validate returns every problem.
func (c SkewConfig) Validate() error {
	var errs []error
	if c.Records < 1 || c.Records > 4096 {
		errs = append(errs, fmt.Errorf("records %d: want 1 to 4096", c.Records))
	}
	if c.MaxAge <= 0 || c.Limit <= 0 {
		errs = append(errs, fmt.Errorf("age %s and limit %s: want more than 0", spanOf(c.MaxAge), spanOf(c.Limit)))
	}
	return errors.Join(errs...)
}

// Skew is what is known of the clock of one gateway; the zero value knows nothing. Records come in the
// order of the broker.
type Skew struct {
	delays []int64 // from the gateway's time to the broker's, of the newest records; a ring
	next   int
	sorted []int64 // the same
	// Of all records, and of those that were kept back.
	All, Buffered int64
}

// Record takes a record: when it happened by the gateway's clock, when the broker had it, and whether the
// gateway says that it kept it back.
func (s *Skew) Record(cfg *SkewConfig, at, ingest int64, buffered bool) {
	s.All++
	if buffered || ingest-at > cfg.MaxAge {
		s.Buffered++
		return
	}
	s.delay(cfg.Records, ingest-at)
}

// delay takes the newest of so many delays.
func (s *Skew) delay(records int, d int64) {
	if len(s.delays) < records {
		s.delays = append(s.delays, d)
	} else {
		i, _ := slices.BinarySearch(s.sorted, s.delays[s.next])
		s.sorted = slices.Delete(s.sorted, i, i+1)
		s.delays[s.next] = d
		s.next = (s.next + 1) % records
	}
	i, _ := slices.BinarySearch(s.sorted, d)
	s.sorted = slices.Insert(s.sorted, i, d)
}

// offsetPercent is the percentile of the delays that tells the clock: what is above the smallest ones is
// the way to the broker.
const offsetPercent = 5

// Offset is by how much the clock lags. False while nothing is known.
func (s *Skew) Offset() (offset int64, ok bool) { return s.Delay(offsetPercent) }

// Delay is a percentile of the newest delays of records that were not kept back.
func (s *Skew) Delay(percent int) (delay int64, ok bool) {
	if len(s.sorted) == 0 {
		return 0, false
	}
	return s.sorted[max(0, (len(s.sorted)*percent+99)/100-1)], true
}

// Skewed tells whether the clock is off by more than the limit.
func (s *Skew) Skewed(cfg *SkewConfig) bool {
	offset, _ := s.Offset()
	return offset > cfg.Limit || offset < -cfg.Limit
}

// Correct returns the time of a record by a right clock. Only clocks that run ahead are corrected: a clock
// that lags cannot be told from a way that is long.
func (s *Skew) Correct(cfg *SkewConfig, at int64) (corrected int64, changed bool) {
	if offset, _ := s.Offset(); offset < -cfg.Limit {
		return at + offset, true
	}
	return at, false
}

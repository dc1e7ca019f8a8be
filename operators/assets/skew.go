package assets

import (
	"errors"
	"fmt"
	"math"
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
	if len(s.delays) < cfg.Records {
		s.delays = append(s.delays, ingest-at)
		return
	}
	s.delays[s.next] = ingest - at
	s.next = (s.next + 1) % len(s.delays)
}

// Offset is by how much the clock lags: the 5th percentile of the delays, since what is above the smallest
// ones is the way to the broker. False while nothing is known.
func (s *Skew) Offset() (offset int64, ok bool) {
	if len(s.delays) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(s.delays))
	const percent = 5
	return sorted[max(0, int(math.Ceil(float64(len(sorted)*percent)/100))-1)], true
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

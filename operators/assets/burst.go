package assets

import (
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

// maxWaiting bounds the records that Burst keeps because they may be the first of a burst. Of a
// gateway that sends more of them within BurstConfig.Within the oldest are no part of one.
const maxWaiting = 1024

// Validate returns every problem.
func (c BurstConfig) Validate() error {
	var errs []error
	if c.Records < 2 || c.Records > maxWaiting {
		errs = append(errs, fmt.Errorf("records %d: want 2 to %d", c.Records, maxWaiting))
	}
	if c.Within <= 0 || c.Span <= 0 {
		errs = append(errs, fmt.Errorf("within %s and span %s: want more than 0", spanOf(c.Within), spanOf(c.Span)))
	}
	return errors.Join(errs...)
}

// Burst finds the bursts among the records of one gateway, which come in the order of the broker; the
// zero value has seen none. A run of records ends where one is beyond Within of its first, and is a
// burst from the record on that makes it one: so it is as long as possible, and a record is in one
// at most. The first records of a burst are counted with it, and known as its own only then.
type Burst struct {
	waiting   []arrival // the run, while it is no burst
	low, high int64     // at least what waiting spans
	first     int64     // ingest time of the burst's first record
	size      int64     // of the burst; 0: the run is none
	// Bursts until now, their records, and how many the largest has.
	Bursts, Records, Largest int64
}

// arrival is a record as bursts see it.
type arrival struct{ at, ingest int64 }

// Record takes a record and tells whether it is of a burst.
func (b *Burst) Record(cfg *BurstConfig, at, ingest int64) bool {
	if b.size > 0 {
		if ingest-b.first <= cfg.Within {
			b.grow(1)
			return true
		}
		b.size = 0
	}
	old := 0
	for old < len(b.waiting) && ingest-b.waiting[old].ingest > cfg.Within {
		old++
	}
	if old == 0 && len(b.waiting) == maxWaiting {
		old = 1
	}
	if b.waiting = slices.Delete(b.waiting, 0, old); len(b.waiting) == 0 {
		b.low, b.high = at, at
	}
	b.waiting = append(b.waiting, arrival{at, ingest})
	b.low, b.high = min(b.low, at), max(b.high, at)
	if len(b.waiting) < cfg.Records || b.high-b.low <= cfg.Span {
		return false
	}
	// What was let go may have been the first or the last of them.
	if b.measure(); b.high-b.low <= cfg.Span {
		return false
	}
	b.Bursts++
	b.first = b.waiting[0].ingest
	b.grow(int64(len(b.waiting)))
	b.waiting = nil
	return true
}

func (b *Burst) grow(n int64) {
	b.size += n
	b.Records += n
	b.Largest = max(b.Largest, b.size)
}

// measure sets low and high to what waiting spans.
func (b *Burst) measure() {
	for i, r := range b.waiting {
		if i == 0 {
			b.low, b.high = r.at, r.at
		}
		b.low, b.high = min(b.low, r.at), max(b.high, r.at)
	}
}

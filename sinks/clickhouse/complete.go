package clickhouse

import (
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// This file is what a table says of its completeness: tm_commits has the mark of every
// barrier that was recorded, and what follows from it for the time column.

// told is the newest mark that a receipt has.
type told struct {
	mark int64
	at   time.Time
}

// tells decides whether an epoch gets a receipt: one with rows does, and one whose mark
// rose, unless the last receipt is younger than CommitEvery. The clock decides whether a
// mark is told, never what it says; what is left out now comes with a later epoch. The mark
// of an input that has ended is the last there will be.
func (s *Sink) tells(mark int64, rows bool) bool {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	rose := mark > s.told.mark && (mark == pipeline.MaxTicks || now.Sub(s.told.at) >= s.cfg.CommitEvery)
	if !rows && !rose {
		return false
	}
	if !s.told.at.IsZero() {
		s.every = now.Sub(s.told.at)
	}
	s.told = told{mark, now}
	return true
}

// watermark returns a mark as a DateTime64 holds it, nil before the first row.
func watermark(mark int64) *int64 {
	if mark == pipeline.MinTicks {
		return nil
	}
	return clamped(mark)
}

// clamped returns a time as a DateTime64 holds it.
func clamped(t int64) *int64 { return new(min(max(t, minTime64), maxTime64)) }

// completeTo returns the time before which every row is there, by TimeColumn, nil when
// nobody knows. A mark is inclusive: it has passed a time by After when mark + 1 is that
// much above. Where times lie on a grid, what is complete reaches to the next point of it.
func (c Config) completeTo(mark int64) *int64 {
	switch {
	case c.CompleteAfter < 0 || mark == pipeline.MinTicks:
		return nil
	case mark == pipeline.MaxTicks:
		return clamped(maxTime64)
	}
	to := pipeline.SubTicks(pipeline.AddTicks(mark, 2), c.CompleteAfter)
	if c.CompleteStep > 0 && to > minTime64 && to < maxTime64 {
		over := (to - c.CompleteOffset) % c.CompleteStep
		if over < 0 {
			over += c.CompleteStep
		}
		if over > 0 {
			to += c.CompleteStep - over
		}
	}
	return clamped(to)
}

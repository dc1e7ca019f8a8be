package operators

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// LimitPolicy says what happens when state would exceed its limit.
type LimitPolicy string

const (
	// LimitStop ends the job with an error; it goes on from its checkpoint once the limit is
	// raised.
	LimitStop LimitPolicy = "stop"
	// LimitShed lets go of the oldest windows: what they have is emitted as pane shed, and
	// rows that come for them later are Late with reason shed. Which windows are shed
	// depends on when rows come: answers are then complete only with the Late rows.
	LimitShed LimitPolicy = "shed"
)

// Limit bounds the state of one operator; zeros are no limits.
type Limit struct {
	// Bytes in use by tables, indexes and key clocks.
	Bytes int64
	// KeyWindows is how many windows (slices where windows share them) of one key may be
	// open. A row that would open one more is shed itself; with LimitStop it ends the job.
	KeyWindows int
	Policy     LimitPolicy
}

// Validate returns every problem.
func (l Limit) Validate() error {
	var errs []error
	if l.Bytes < 0 {
		errs = append(errs, fmt.Errorf("limit of %d bytes: must not be negative", l.Bytes))
	}
	if l.KeyWindows < 0 {
		errs = append(errs, fmt.Errorf("limit of %d windows a key: must not be negative", l.KeyWindows))
	}
	if (l.Bytes != 0 || l.KeyWindows != 0) && l.Policy != LimitStop && l.Policy != LimitShed {
		errs = append(errs, fmt.Errorf("limit policy %q: known are %s, %s", l.Policy, LimitStop, LimitShed))
	}
	return errors.Join(errs...)
}

// ErrLimit is what LimitStop ends a job with.
var ErrLimit = errors.New("state limit reached")

const (
	paneShed   = "shed"
	reasonShed = "shed"
)

// admit returns how many of the windows of w.span, the earliest, row r misses: missed of
// them by the rules of lateness, others because they were shed. It returns -1 when none is
// left for a row that the rules would have let in; the row is then among the late ones.
func (w *Window) admit(in pipeline.Batch, r int32, mark int64, missed int) int {
	all := len(w.span.bounds)
	if missed == all {
		return missed
	}
	before := missed
	for missed < all && w.span.bounds[missed].End <= w.shed {
		missed++
	}
	if missed < all && w.crowded(in.Keys.Hash[r], in.Keys.At(r), missed) {
		if w.cfg.Limit.Policy == LimitStop {
			w.fault = fmt.Errorf("a key with %d windows open gets a row for another, at offset %d of split %d: %w; raise the limit of windows a key, or shed",
				w.cfg.Limit.KeyWindows, in.Rec.Column(pipeline.ColOffset).(*array.Int64).Value(int(r)), in.Split, ErrLimit)
		}
		missed = all
	}
	w.missed += int64(missed - before)
	if missed < all {
		return missed
	}
	at := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))[r]
	w.late = append(w.late, lateRow{r, w.span.bounds[all-1], all, max(mark, at), reasonShed})
	return -1
}

// crowded tells whether a key has as many windows as it may, and none of them takes a row
// of w.span, which misses the first of its windows. All tables are asked only when there
// are as many.
func (w *Window) crowded(hash uint64, key []byte, missed int) bool {
	limit := w.cfg.Limit.KeyWindows
	if limit == 0 || len(w.wins)+len(w.slices)+len(w.deltas) < limit {
		return false
	}
	has := func(tab *table) bool {
		_, ok := tab.lookup(hash, key)
		return ok
	}
	if sl := w.slices[w.span.Start]; sl != nil && has(sl.tab) {
		return false
	}
	for _, b := range w.span.bounds[missed:] {
		if win := w.wins[b.End]; win != nil && has(win.tab) {
			return false
		}
		if win := w.deltas[b.End]; win != nil && has(win.tab) {
			return false
		}
	}
	n := 0
	for _, sl := range w.slices {
		n += btoi(has(sl.tab))
	}
	for _, win := range w.wins {
		n += btoi(has(win.tab))
	}
	for _, win := range w.deltas {
		n += btoi(has(win.tab))
	}
	return n >= limit
}

// bound sees to the limit of bytes.
func (w *Window) bound(out pipeline.Emitter) error {
	if w.fault != nil {
		return w.fault
	}
	if w.extras.fault != nil {
		return w.extras.fault
	}
	limit := w.cfg.Limit.Bytes
	if limit == 0 || w.used() <= limit {
		return nil
	}
	if w.cfg.Limit.Policy == LimitStop {
		return fmt.Errorf("windows hold %d bytes, %d are allowed: %w; raise the limit, shorten lateness or disorder bound, or shed", w.used(), limit, ErrLimit)
	}
	for w.used() > limit && len(w.order) > 0 {
		if err := w.shedOldest(out); err != nil {
			return err
		}
	}
	return nil
}

// used returns the bytes of state in use.
func (w *Window) used() int64 { return w.Bytes() - w.store.bytes() + w.store.used() }

// shedOldest lets go of the window that ends first. Slices go with their last window.
func (w *Window) shedOldest(out pipeline.Emitter) error {
	win := w.wins[w.order[0]]
	if !w.merged(win.Bounds) {
		w.mergeSlices(win)
	}
	w.shed = max(w.shed, win.End)
	var err error
	switch {
	case w.cfg.Trigger == OnIngest:
		for i := range win.pending {
			win.pending[i].due = w.mark
		}
		err = w.fireTimers(out)
	case w.cfg.Trigger == OnClose, w.cfg.Trigger == OnMark && !w.cfg.early() && !win.fired:
		err = w.emitAll(win, paneShed, false, out)
	default:
		err = w.emitAll(win, paneShed, true, out)
	}
	if err != nil {
		return err
	}
	w.free(win)
	w.order = w.order[1:]
	w.span.leave()
	w.freeSlices()
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

package operators

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// This file is the trigger OnIngest: windows by event time, emitted by ingest time, for
// consumers who want a first answer soon and corrections for as long as they come.
//
// Its clock is the ingest mark P. The first row that waits for a key and window sets a
// timer at P + EmitDelay; timers that are due fire before the next row is looked at, by
// time, window and key. A firing emits the key's aggregates, as on_time the first time and
// as update later. A window is closed when P has passed its end by more than MaxAge. A row
// for a window that its own split has closed is collected apart, EmitDelay long, and leaves
// as late_delta on the Delta port: it adds to what was emitted and replaces nothing, so
// that no row is lost and a part never stands for the whole.
//
// While OnIngest is the trigger, Window.mark is the ingest mark.

// Panes of OnIngest beside paneOnTime and paneUpdate.
const paneLateDelta = "late_delta"

// maxEventWord is where a row holds the largest event time ever added to it.
func (w *Window) maxEventWord() int { return w.prog.width }

// closing is the ingest mark from which on a window that ends at end is closed.
func (w *Window) closing(end int64) int64 {
	return pipeline.AddTicks(pipeline.AddTicks(end, w.cfg.MaxAge), 1)
}

// processIngest folds a batch row by row, firing the timers that come due in between.
func (w *Window) processIngest(in pipeline.Batch, out pipeline.Emitter) error {
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	if in.Ingest == nil {
		return fmt.Errorf("rows of split %d without ingest marks: trigger %s needs them", in.Split, OnIngest)
	}
	w.span.leave()
	n := in.NumRows()
	outside := 0
	for i := range n {
		r := int32(i)
		if in.Rows != nil {
			r = in.Rows[i]
		}
		if p := in.Ingest.Merged[r]; p > w.mark {
			w.mark = p
			if w.due <= p {
				w.fold(in.Rec)
				if err := w.fireTimers(out); err != nil {
					return err
				}
			}
		}
		if t := times[r]; t < w.span.Start || t >= w.span.End {
			w.moveTo(t)
		}
		if len(w.span.bounds) == 0 {
			outside++
			continue
		}
		closed := max(in.Ingest.Own[r], w.mark)
		missed := 0
		if w.limited {
			if missed = w.admit(in, r, times[r], 0); missed < 0 {
				continue
			}
		}
		for k := missed; k < len(w.span.bounds); k++ {
			b := w.span.bounds[k]
			if w.closing(b.End) <= closed {
				w.collect(in, r, w.openDelta(b), times[r])
				continue
			}
			if w.span.wins[k] == nil {
				w.span.wins[k] = w.open(b)
			}
			w.collect(in, r, w.span.wins[k], times[r])
		}
		if len(w.at) > maxResultRows {
			w.fold(in.Rec)
		}
	}
	w.fold(in.Rec)
	out.Count(pipeline.Aggregated, in.Split, int64(n-len(w.late)-outside))
	if outside > 0 {
		out.Count(pipeline.Filtered, in.Split, int64(outside))
	}
	return w.finish(in, out)
}

// collect puts a row into a window, and sets a timer when none is set.
func (w *Window) collect(in pipeline.Batch, r int32, win *window, time int64) {
	id, added := win.tab.find(in.Keys.Hash[r], in.Keys.At(r))
	row := w.store.row(id)
	if added {
		w.prog.init(row)
	}
	if win.delta {
		row[rowHead] += 1 << headLate
	}
	if row[rowHead]&headPending == 0 {
		if added || win.delta {
			row[w.maxEventWord()] = 1 << 63 // MinTicks
		}
		now := w.mark
		if now == pipeline.MinTicks { // some split has delivered nothing yet
			now = in.Ingest.Own[r]
		}
		due := pipeline.AddTicks(now, w.cfg.EmitDelay)
		row[rowHead] |= headPending
		at := len(win.pending)
		for at > 0 && win.pending[at-1].due > due {
			at--
		}
		win.pending = slices.Insert(win.pending, at, wait{id, due})
		w.due = min(w.due, due)
	}
	row[w.maxEventWord()] = uint64(max(int64(row[w.maxEventWord()]), time))
	w.at, w.ids = append(w.at, r), append(w.ids, id)
	win.changed = true
}

// openDelta returns what collects the rows that came after a window was closed.
func (w *Window) openDelta(b Bounds) *window {
	win := w.deltas[b.End]
	if win == nil {
		win = &window{Bounds: b, tab: newTable(&w.store, 0), delta: true, again: pipeline.MinTicks}
		w.deltas[b.End] = win
	}
	return win
}

// advanceIngest moves the ingest mark.
func (w *Window) advanceIngest(mark int64, out pipeline.Emitter) error {
	w.mark = max(w.mark, mark) // rows may have moved it as far
	if w.due <= w.mark {
		if err := w.fireTimers(out); err != nil {
			return err
		}
	}
	w.order = slices.DeleteFunc(w.order, func(end int64) bool {
		win := w.wins[end]
		if w.closing(end) > w.mark || len(win.pending) > 0 {
			return false
		}
		w.free(win)
		w.span.leave()
		return true
	})
	return nil
}

// firing is a timer that has come due.
type firing struct {
	win *window
	id  uint32
	due int64
	key []byte
}

// fireTimers emits what is due at w.mark, by due time, window and key.
func (w *Window) fireTimers(out pipeline.Emitter) error {
	var list []firing
	w.due = pipeline.MaxTicks
	take := func(win *window) {
		n := 0
		for n < len(win.pending) && win.pending[n].due <= w.mark {
			p := win.pending[n]
			var scratch [16]byte
			key := win.tab.key(w.store.row(p.id), &scratch)
			list = append(list, firing{win, p.id, p.due, bytes.Clone(key)})
			n++
		}
		win.pending = slices.Delete(win.pending, 0, n)
		if len(win.pending) > 0 {
			w.due = min(w.due, win.pending[0].due)
		}
		win.changed = win.changed || n > 0
	}
	for _, win := range w.wins {
		take(win)
	}
	for _, win := range w.deltas {
		take(win)
	}
	slices.SortFunc(list, func(a, b firing) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.win.Start, b.win.Start), cmp.Compare(a.win.End, b.win.End),
			bytes.Compare(a.key, b.key), cmp.Compare(btoi(a.win.delta), btoi(b.win.delta)))
	})
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < maxResultRows && list[n].win.delta == list[0].win.delta {
			n++
		}
		if err := w.emitFirings(list[:n], out); err != nil {
			return err
		}
		list = list[n:]
	}
	for end, win := range w.deltas {
		if len(win.pending) == 0 {
			w.dropRows(win.tab)
			delete(w.deltas, end)
		}
	}
	return nil
}

// emitFirings emits firings of windows, or of deltas.
func (w *Window) emitFirings(list []firing, out pipeline.Emitter) error {
	b := array.NewRecordBuilder(w.mem, w.out)
	defer b.Release()
	b.Reserve(len(list))
	l := line{cols: b.Fields(), keys: len(w.keyer.Fields())}
	port := pipeline.Out
	for _, f := range list {
		w.store.own(f.id)
		row := w.store.row(f.id)
		panes := row[rowHead] >> headPanes & math.MaxUint16
		late := row[rowHead] >> headLate
		if panes == math.MaxUint16 {
			return fmt.Errorf("window %s: a key has emitted %d revisions, the most that fit; raise emit_delay", f.win.name(), panes)
		}
		panes++
		l.last = w.last(f.win, "")
		switch {
		case f.win.delta:
			l.pane, port = paneLateDelta, pipeline.Delta
		case panes == 1:
			l.pane = paneOnTime
		default:
			l.pane = paneUpdate
		}
		if err := w.result(l, f.win, row, row, late, "", panes); err != nil {
			return err
		}
		tail := l.cols[len(l.cols)-2:]
		tail[0].(*array.TimestampBuilder).Append(arrow.Timestamp(row[w.maxEventWord()]))
		tail[1].(*array.TimestampBuilder).Append(arrow.Timestamp(f.due))
		row[rowHead] = late<<headLate | panes<<headPanes
		if f.win.delta {
			row[rowHead] = 0
		}
		if f.win.delta || w.cfg.Discard {
			w.prog.drop(row, &w.extras)
			w.prog.init(row)
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	return out.Emit(port, pipeline.Result(rec))
}

// openIngest returns the number of (key, window) pairs with state.
func (w *Window) openIngest() int {
	n := 0
	for _, win := range w.wins {
		if w.closing(win.End) <= w.mark {
			n += len(win.pending)
		} else {
			n += win.tab.rows
		}
	}
	for _, win := range w.deltas {
		n += len(win.pending)
	}
	return n
}

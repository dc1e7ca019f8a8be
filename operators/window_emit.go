package operators

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// Panes: what made a window emit.
const (
	paneEarly  = "early"
	paneOnTime = "on_time"
	paneLate   = "late"
	paneFinal  = "final"
	paneUpdate = "update"
)

// What a row of a window that corrects itself means (Retract).
const (
	kindInsert   = "+I"
	kindWithdraw = "-U"
	kindUpdate   = "+U"
)

// emitPending emits the rows of a window that wait until due at the latest.
func (w *Window) emitPending(win *window, due int64, out pipeline.Emitter) error {
	n := 0
	for n < len(win.pending) && win.pending[n].due <= due {
		n++
	}
	if n == 0 {
		return nil
	}
	ids := make([]uint32, n)
	for i, p := range win.pending[:n] {
		ids[i] = p.id
	}
	win.pending = append([]wait(nil), win.pending[n:]...)
	pane := paneEarly
	if win.fired {
		pane = paneLate
	}
	return w.emit(win, ids, pane, out)
}

// emitAll emits all rows of a window, or those with something that no pane has shown.
func (w *Window) emitAll(win *window, pane string, unshown bool, out pipeline.Emitter) error {
	win.pending = nil
	ids := make([]uint32, 0, win.tab.rows)
	for i := range win.tab.rows {
		id := win.tab.id(i)
		head := w.store.row(id)[rowHead]
		if head&headGone != 0 || unshown && head&headNew == 0 {
			continue
		}
		ids = append(ids, id)
	}
	return w.emit(win, ids, pane, out)
}

// maxResultRows bounds one result batch.
const maxResultRows = 4096

// emit sends rows of one window. They come in the order in which their keys were first
// seen, which depends on how splits interleave: sinks sort.
func (w *Window) emit(win *window, ids []uint32, pane string, out pipeline.Emitter) error {
	if w.extras.fault != nil {
		return w.extras.fault
	}
	win.changed = true
	for part := range slices.Chunk(ids, maxResultRows) {
		rec, err := w.results(win, part, pane)
		if err != nil {
			return err
		}
		if rec.NumRows() > 0 {
			err = out.Emit(pipeline.Out, pipeline.Result(rec))
		}
		rec.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Window) results(win *window, ids []uint32, pane string) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(w.mem, w.out)
	defer b.Release()
	b.Reserve(len(ids))
	l := line{b.Fields(), len(w.keyer.Fields()), pane, w.last(win, pane)}
	for _, id := range ids {
		w.store.own(id)
		row := w.store.row(id)
		head := row[rowHead]
		panes := head >> headPanes & math.MaxUint16
		row[rowHead] = head>>headLate<<headLate | panes<<headPanes
		var kind string
		if w.cfg.SkipUnchanged && panes > 0 && w.prog.same(row, w.shown(row), &w.extras) {
			continue
		}
		if w.cfg.Retract {
			kind = kindInsert
			if panes > 0 {
				if err := w.result(l, win, row, w.shown(row), row[len(row)-1], kindWithdraw, panes); err != nil {
					return nil, err
				}
				kind = kindUpdate
			}
		}
		if panes == math.MaxUint16 {
			return nil, fmt.Errorf("window %s: a key has emitted %d revisions, the most that fit; raise late_delay", win.name(), panes)
		}
		panes++
		if err := w.result(l, win, row, row, head>>headLate, kind, panes); err != nil {
			return nil, err
		}
		row[rowHead] = head>>headLate<<headLate | panes<<headPanes
		if w.keeps {
			w.prog.show(w.shown(row), row, &w.extras)
			row[len(row)-1] = head >> headLate
		}
		if w.cfg.Discard {
			w.prog.drop(row, &w.extras)
			w.prog.init(row)
		}
	}
	return b.NewRecordBatch(), nil
}

// line is a result being built.
type line struct {
	cols []array.Builder
	keys int
	pane string
	last bool // nothing can follow
}

// last tells whether what a window shows now is the last of it.
func (w *Window) last(win *window, pane string) bool {
	switch {
	case pane == paneShed || win.leaving:
		return true
	case w.cfg.Trigger == OnIngest:
		return win.delta || w.closing(win.End) <= w.mark
	}
	return w.clocks == nil && w.cleanup(win.End) <= w.mark
}

// result appends one result: the key of a row with values, which are those of the row or
// those shown last.
func (w *Window) result(l line, win *window, row, values []uint64, late uint64, kind string, panes uint64) error {
	var scratch [16]byte
	if err := w.keyer.Append(l.cols[:l.keys], win.tab.key(row, &scratch)); err != nil {
		return fmt.Errorf("window %s: %w", win.name(), err)
	}
	cols := l.cols[l.keys:]
	if w.cfg.Kind == Global {
		cols[0].AppendNull()
		cols[1].AppendNull()
	} else {
		cols[0].(*array.TimestampBuilder).Append(arrow.Timestamp(win.Start))
		cols[1].(*array.TimestampBuilder).Append(arrow.Timestamp(win.End))
	}
	for i := range w.prog.outs {
		w.prog.outs[i].build(cols[2+i], values, &w.extras)
	}
	tail := cols[2+len(w.prog.outs):]
	tail[0].(*array.Int64Builder).Append(int64(late))
	tail[1].(*array.StringBuilder).Append(l.pane)
	if win.delta {
		tail[2].AppendNull()
	} else {
		tail[2].(*array.Int32Builder).Append(int32(panes))
	}
	tail[3].(*array.BooleanBuilder).Append(l.last && kind != kindWithdraw)
	if w.cfg.Retract {
		tail[4].(*array.StringBuilder).Append(kind)
	}
	return nil
}

// shown returns the values that a row's last pane had, at the words of the accumulators.
// The words before rowAcc are of no use.
func (w *Window) shown(row []uint64) []uint64 { return row[w.prog.width-rowAcc:] }

func (b Bounds) name() string {
	if b.Start == pipeline.MinTicks {
		return "of all time"
	}
	return arrow.Timestamp(b.Start).ToTime(arrow.Microsecond).Format(time.RFC3339Nano)
}

package operators

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// markPiece is the id of the piece that holds the operator's mark.
const markPiece = "mark"

// Snapshot lends one piece per window, START_END, and one per slice, slice_START_END. The
// columns are the key group, the key, whether the window has fired, until when of the wall
// clock a row waits, the header, the accumulators' words by name, and those shown last.
// Where the mark matters beyond the windows, the piece "mark" has it in column due.
func (w *Window) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	w.settle()
	lend := func(id string, changed bool, rows func(*array.RecordBuilder)) error {
		p := pipeline.Piece{ID: id}
		if full || changed {
			b := array.NewRecordBuilder(w.mem, w.stateSchema())
			rows(b)
			p.Rec = b.NewRecordBatch()
			b.Release()
			defer p.Rec.Release()
		}
		return piece(p)
	}
	for _, end := range w.order {
		win := w.wins[end]
		if win.tab.rows == 0 {
			continue // it is made again from its slices
		}
		err := lend(pieceID(win.Bounds), win.changed, func(b *array.RecordBuilder) { w.pieceOf(b, win.tab, win) })
		if err != nil {
			return err
		}
		win.changed = false
	}
	for _, start := range w.starts {
		sl := w.slices[start]
		err := lend(slicePiece+pieceID(sl.Bounds), sl.changed, func(b *array.RecordBuilder) { w.pieceOf(b, sl.tab, nil) })
		if err != nil {
			return err
		}
		sl.changed = false
	}
	if !w.shares && w.cfg.EarlyEvery == 0 || w.mark == pipeline.MinTicks {
		return nil
	}
	return lend(markPiece, true, func(b *array.RecordBuilder) {
		for i, f := range b.Fields() {
			if i == 3 {
				f.(*array.Int64Builder).Append(w.mark)
				continue
			}
			f.AppendEmptyValue()
		}
	})
}

const slicePiece = "slice_"

func pieceID(b Bounds) string {
	return strconv.FormatInt(b.Start, 10) + "_" + strconv.FormatInt(b.End, 10)
}

func parsePieceID(id string) (b Bounds, shared bool, err error) {
	rest, shared := strings.CutPrefix(id, slicePiece)
	from, to, ok := strings.Cut(rest, "_")
	if ok {
		b.Start, err = strconv.ParseInt(from, 10, 64)
	}
	if ok && err == nil {
		b.End, err = strconv.ParseInt(to, 10, 64)
	}
	if !ok || err != nil {
		return b, shared, fmt.Errorf("window state %q: its id is no window", id)
	}
	return b, shared, nil
}

func (w *Window) stateSchema() *arrow.Schema {
	fields := []arrow.Field{
		{Name: "_group", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "key", Type: arrow.BinaryTypes.Binary},
		{Name: "fired", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "due", Type: arrow.PrimitiveTypes.Int64},
		{Name: "head", Type: arrow.PrimitiveTypes.Int64},
	}
	fields = append(fields, w.prog.stateFields("")...)
	if w.keeps {
		fields = append(fields, w.prog.stateFields("shown_")...)
		fields = append(fields, arrow.Field{Name: "shown_late", Type: arrow.PrimitiveTypes.Int64})
	}
	return arrow.NewSchema(fields, nil)
}

// pieceOf appends the rows of a table; win is nil for those of a slice.
func (w *Window) pieceOf(b *array.RecordBuilder, tab *table, win *window) {
	b.Reserve(tab.rows)
	due := map[uint32]int64{}
	if win != nil {
		for _, p := range win.pending {
			due[p.id] = p.due
		}
	}
	var scratch [16]byte
	for i := range tab.rows {
		id := tab.id(i)
		key := tab.key(w.store.row(id), &scratch)
		b.Field(0).(*array.Uint8Builder).UnsafeAppend(pipeline.Group(w.keyer.Hash(key)))
		b.Field(1).(*array.BinaryBuilder).Append(key)
		b.Field(2).(*array.BooleanBuilder).UnsafeAppend(win != nil && win.fired)
		b.Field(3).(*array.Int64Builder).UnsafeAppend(due[id])
	}
	row := func(i int) []uint64 { return w.store.row(tab.id(i)) }
	words := func(c array.Builder, word int) {
		for i := range tab.rows {
			c.(*array.Int64Builder).UnsafeAppend(int64(row(i)[word]))
		}
	}
	words(b.Field(4), rowHead)
	rest := w.prog.appendState(b.Fields()[5:], tab.rows, row, &w.nodes)
	if w.keeps {
		rest = w.prog.appendState(rest, tab.rows, func(i int) []uint64 { return w.shown(row(i)) }, &w.nodes)
		words(rest[0], w.store.width-1)
	}
}

// Restore takes back the rows of a piece that keep accepts.
func (w *Window) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	if !p.Rec.Schema().Equal(w.stateSchema()) {
		return fmt.Errorf("window state %s: its columns are %v, this job's aggregates need %v; start a new lineage or restore the old aggregates",
			p.ID, p.Rec.Schema().Fields(), w.stateSchema().Fields())
	}
	w.settled = false
	due := p.Rec.Column(3).(*array.Int64).Int64Values()
	if p.ID == markPiece {
		w.mark = max(w.mark, due[0])
		return nil
	}
	b, shared, err := parsePieceID(p.ID)
	if err != nil {
		return err
	}
	if shared && (!w.shares || w.cfg.Span(b.Start) != b) || !shared && !w.cfg.has(b) {
		return fmt.Errorf("window state %s: this job has no such window; start a new lineage or restore the old sizes and trigger", p.ID)
	}
	keys := p.Rec.Column(1).(*array.Binary)
	fired := p.Rec.Column(2).(*array.Boolean)
	heads := p.Rec.Column(4).(*array.Int64).Int64Values()
	for i := range int(p.Rec.NumRows()) {
		key := keys.Value(i)
		hash := w.keyer.Hash(key)
		if !keep(pipeline.Group(hash)) {
			continue
		}
		var tab *table
		var win *window
		if shared {
			tab = w.openSlice(b).tab
		} else {
			win = w.open(b)
			win.fired = fired.Value(i)
			tab = win.tab
		}
		id, added := tab.find(hash, key)
		if !added {
			return fmt.Errorf("window state %s: key %q is there twice", p.ID, key)
		}
		w.restoreRow(p.Rec, i, uint64(heads[i]), w.store.row(id))
		if win != nil && heads[i]&headPending != 0 {
			win.pending = append(win.pending, wait{id, due[i]})
		}
	}
	return nil
}

func (w *Window) restoreRow(rec arrow.RecordBatch, i int, head uint64, row []uint64) {
	rest := w.prog.restoreState(rec, 5, i, row, &w.nodes)
	row[rowHead] = head
	if w.keeps {
		rest = w.prog.restoreState(rec, rest, i, w.shown(row), &w.nodes)
		row[len(row)-1] = uint64(rec.Column(rest).(*array.Int64).Value(i))
	}
}

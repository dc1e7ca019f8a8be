package operators

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// markPiece is the id of the piece that holds the operator's mark, how its windows lie, and
// up to where they were shed.
const markPiece = "mark"

// clocksPiece is the id of the piece that holds the clocks of the keys.
const clocksPiece = "clocks"

// Snapshot lends one piece per window, START_END, and one per slice, slice_START_END. The
// columns are the key group, the key, whether the window has fired, until when of the wall
// clock a row waits, the header, the accumulators' words by name, and those shown last.
// Where the mark matters beyond the windows, the piece "mark" has it in column due.
//
// Windows and slices come frozen, unless there are lists or sketches.
func (w *Window) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	w.settle()
	schema := w.stateSchema()
	lend := func(id string, rows func(*array.RecordBuilder)) error {
		b := array.NewRecordBuilder(w.mem, schema)
		rows(b)
		rec := b.NewRecordBatch()
		b.Release()
		defer rec.Release()
		return piece(pipeline.Piece{ID: id, Rec: rec})
	}
	// freeze lends the rows of a table; win is nil for those of a slice.
	freeze := func(id string, changed *bool, tab *table, win *window) error {
		skip := !full && !*changed
		*changed = false
		if skip {
			return piece(pipeline.Piece{ID: id})
		}
		rows := w.pieceOf(tab, win)
		if w.prog.extras { // lists and sketches do not stay as they are
			return lend(id, rows)
		}
		return piece(pipeline.Piece{ID: id, Frozen: &pipeline.Frozen{Schema: schema, Rows: func() arrow.RecordBatch {
			b := array.NewRecordBuilder(w.mem, schema)
			defer b.Release()
			rows(b)
			return b.NewRecordBatch()
		}}})
	}
	for _, end := range w.order {
		win := w.wins[end]
		if win.tab.rows == 0 {
			continue // it is made again from its slices
		}
		if err := freeze(pieceID(win.Bounds), &win.changed, win.tab, win); err != nil {
			return err
		}
	}
	for _, start := range w.starts {
		sl := w.slices[start]
		if err := freeze(slicePiece+pieceID(sl.Bounds), &sl.changed, sl.tab, nil); err != nil {
			return err
		}
	}
	for _, end := range slices.Sorted(maps.Keys(w.deltas)) {
		win := w.deltas[end]
		if err := freeze(deltaPiece+pieceID(win.Bounds), &win.changed, win.tab, win); err != nil {
			return err
		}
	}
	if w.clocks != nil && w.clocks.tab.rows > 0 {
		if err := lend(clocksPiece, func(b *array.RecordBuilder) { w.clocks.record(b, w.keyer.Hash) }); err != nil {
			return err
		}
	}
	return lend(markPiece, func(b *array.RecordBuilder) {
		for i, f := range b.Fields() {
			switch i {
			case 1:
				f.(*array.BinaryBuilder).Append([]byte(w.cfg.Shape.text()))
			case 2:
				f.(*array.BooleanBuilder).Append(w.shed != pipeline.MinTicks)
			case 3:
				f.(*array.Int64Builder).Append(w.mark)
			case 4:
				f.(*array.Int64Builder).Append(w.shed)
			default:
				f.AppendEmptyValue()
			}
		}
	})
}

const (
	slicePiece = "slice_"
	deltaPiece = "delta_"
)

func pieceID(b Bounds) string {
	return strconv.FormatInt(b.Start, 10) + "_" + strconv.FormatInt(b.End, 10)
}

// parsePieceID returns the window or slice of a piece, and which of them it is: slicePiece,
// deltaPiece, or nothing for a window.
func parsePieceID(id string) (b Bounds, of string, err error) {
	rest := id
	for _, prefix := range []string{slicePiece, deltaPiece} {
		if after, ok := strings.CutPrefix(id, prefix); ok {
			rest, of = after, prefix
		}
	}
	from, to, ok := strings.Cut(rest, "_")
	if ok {
		b.Start, err = strconv.ParseInt(from, 10, 64)
	}
	if ok && err == nil {
		b.End, err = strconv.ParseInt(to, 10, 64)
	}
	if !ok || err != nil {
		return b, of, fmt.Errorf("window state %q: its id is no window", id)
	}
	return b, of, nil
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
	if w.cfg.Trigger == OnIngest {
		fields = append(fields, arrow.Field{Name: "max_event", Type: arrow.PrimitiveTypes.Int64})
	}
	if w.keeps {
		fields = append(fields, w.prog.stateFields("shown_")...)
		fields = append(fields, arrow.Field{Name: "shown_late", Type: arrow.PrimitiveTypes.Int64})
	}
	return arrow.NewSchema(fields, nil)
}

// pieceOf freezes a table and returns what appends its rows; win is nil for those of a slice.
func (w *Window) pieceOf(tab *table, win *window) func(*array.RecordBuilder) {
	rows := tab.view()
	if !w.prog.extras {
		rows = tab.freeze()
	}
	fired := win != nil && win.fired
	due := map[uint32]int64{}
	if win != nil {
		for _, p := range win.pending {
			due[p.id] = p.due
		}
	}
	return func(b *array.RecordBuilder) {
		b.Reserve(rows.n)
		groups, keys := b.Field(0).(*array.Uint8Builder), b.Field(1).(*array.BinaryBuilder)
		var scratch [16]byte
		for i := range rows.n {
			key := rows.key(i, &scratch)
			groups.UnsafeAppend(pipeline.Group(w.keyer.Hash(key)))
			keys.Append(key)
		}
		for range rows.n {
			b.Field(2).(*array.BooleanBuilder).UnsafeAppend(fired)
		}
		waits := make([]int64, rows.n)
		for i := range waits {
			if len(due) > 0 {
				waits[i] = due[rows.id(i)]
			}
		}
		b.Field(3).(*array.Int64Builder).AppendValues(waits, nil)
		words := func(c array.Builder, word int) {
			for i := range rows.n {
				c.(*array.Int64Builder).UnsafeAppend(int64(rows.row(i)[word]))
			}
		}
		words(b.Field(4), rowHead)
		rest := w.prog.appendState(b.Fields()[5:], rows.n, rows.row, &w.extras)
		if w.cfg.Trigger == OnIngest {
			words(rest[0], w.maxEventWord())
			rest = rest[1:]
		}
		if w.keeps {
			rest = w.prog.appendState(rest, rows.n, func(i int) []uint64 { return w.shown(rows.row(i)) }, &w.extras)
			words(rest[0], w.store.width-1)
		}
	}
}

// Restore takes back the rows of a piece that keep accepts.
//
// Windows of the same size may come back with a slide that is a multiple of the old one:
// their slices become one, and windows that are no more go. Any other change is refused.
func (w *Window) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	w.settled = false
	if !p.Rec.Schema().Equal(w.stateSchema()) {
		return fmt.Errorf("window state %s: its columns are %v, this job's aggregates need %v; start a new lineage or restore the old aggregates",
			p.ID, p.Rec.Schema().Fields(), w.stateSchema().Fields())
	}
	due := p.Rec.Column(3).(*array.Int64).Int64Values()
	keys := p.Rec.Column(1).(*array.Binary)
	flags := p.Rec.Column(2).(*array.Boolean)
	heads := p.Rec.Column(4).(*array.Int64).Int64Values()
	if p.ID == markPiece {
		if p.Rec.NumRows() != 1 {
			return fmt.Errorf("window state %s: %d rows, want 1", p.ID, p.Rec.NumRows())
		}
		w.mark = max(w.mark, due[0])
		shed := pipeline.MinTicks
		if flags.Value(0) {
			shed = heads[0]
		}
		w.shed, w.shedByAll = max(w.shed, shed), min(w.shedByAll, shed)
		if old := string(keys.Value(0)); old != "" { // older checkpoints do not say
			return w.cfg.takes(old)
		}
		return nil
	}
	if p.ID == clocksPiece {
		for i := range int(p.Rec.NumRows()) {
			key := keys.Value(i)
			if hash := w.keyer.Hash(key); w.clocks != nil && keep(pipeline.Group(hash)) {
				w.clocks.restore(hash, key, due[i], heads[i])
			}
		}
		return nil
	}
	b, of, err := parsePieceID(p.ID)
	if err != nil {
		return err
	}
	switch span := w.cfg.Span(b.Start); {
	case of == slicePiece && (!w.shares || b.Start < span.Start || b.End > span.End):
		return fmt.Errorf("window state %s: this job's windows have no such slice; start a new lineage or restore the old sizes and trigger", p.ID)
	case of == slicePiece:
		b = span
	case of == deltaPiece && w.cfg.Trigger != OnIngest:
		return fmt.Errorf("window state %s: this job's trigger has no additions; start a new lineage or restore trigger %s", p.ID, OnIngest)
	case !w.cfg.has(b) && w.cfg.Kind == Hopping && w.cfg.Zone == nil && pipeline.SubTicks(b.End, b.Start) == w.cfg.Size:
		return nil // the slide has changed; the piece "mark" says whether that can be
	case !w.cfg.has(b):
		return fmt.Errorf("window state %s: this job has no such window; start a new lineage or restore the old sizes and trigger", p.ID)
	}
	for i := range int(p.Rec.NumRows()) {
		key := keys.Value(i)
		hash := w.keyer.Hash(key)
		head := uint64(heads[i])
		if !keep(pipeline.Group(hash)) || of == deltaPiece && head&headPending == 0 {
			continue
		}
		var tab *table
		var win *window
		switch of {
		case slicePiece:
			tab = w.openSlice(b).tab
		case deltaPiece:
			win = w.openDelta(b)
			tab = win.tab
		default:
			win = w.open(b)
			win.fired = flags.Value(i)
			tab = win.tab
		}
		id, added := tab.find(hash, key)
		var err error
		switch {
		case added:
			err = w.restoreRow(p.Rec, i, head, w.store.row(id))
		case of == slicePiece:
			row := make([]uint64, w.store.width)
			err = w.restoreRow(p.Rec, i, head, row)
			w.prog.merge(w.store.row(id), row, &w.extras)
			w.prog.drop(row, &w.extras)
		default:
			err = fmt.Errorf("key %q is there twice", key)
		}
		if err != nil {
			return fmt.Errorf("window state %s: %w", p.ID, err)
		}
		if win != nil && head&headPending != 0 {
			win.pending = append(win.pending, wait{id, due[i]})
		}
	}
	return nil
}

func (w *Window) restoreRow(rec arrow.RecordBatch, i int, head uint64, row []uint64) error {
	rest, err := w.prog.restoreState(rec, 5, i, row, &w.extras)
	if err != nil {
		return err
	}
	row[rowHead] = head
	if w.cfg.Trigger == OnIngest {
		row[w.maxEventWord()] = uint64(rec.Column(rest).(*array.Int64).Value(i))
	}
	if w.keeps {
		if rest, err = w.prog.restoreState(rec, rest, i, w.shown(row), &w.extras); err != nil {
			return err
		}
		row[len(row)-1] = uint64(rec.Column(rest).(*array.Int64).Value(i))
	}
	return nil
}

package operators

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// holdTicks is the step in which rows that wait are let go: those of a second are sorted
// together.
const holdTicks = 1_000_000

// heldRows are rows that wait for the mark, by the second of their time. Their batches are
// retained, not copied.
type heldRows struct {
	mem     memory.Allocator
	schema  *arrow.Schema // of a piece: the key group, then the row
	seconds map[int64]*heldSecond
	order   []int64 // starts, ascending
	rows    int
	bytes   int64
}

type heldSecond struct {
	rows    []heldRow
	changed bool // since the last snapshot
}

type heldRow struct {
	at, offset int64
	split, row int32
	batch      *heldBatch
}

// heldBatch is a record batch some rows of which wait.
type heldBatch struct {
	rec  arrow.RecordBatch
	keys pipeline.Keys // once somebody has asked
	rows int           // that wait
	each int64         // bytes that a row of it takes: other shards hold the others
}

// keysBy returns the keys of the batch's rows.
func (b *heldBatch) keysBy(keyer *pipeline.Keyer) *pipeline.Keys {
	if b.keys.Hash == nil {
		b.keys = keyer.Keys(b.rec)
	}
	return &b.keys
}

func newHeldRows(rows *arrow.Schema, mem memory.Allocator) (heldRows, error) {
	fields := []arrow.Field{{Name: "_group", Type: arrow.PrimitiveTypes.Uint8}}
	for _, f := range rows.Fields() {
		if f.Name == fields[0].Name {
			return heldRows{}, fmt.Errorf("column %q: the state of an operator has a column of that name; rename it", f.Name)
		}
		fields = append(fields, f)
	}
	return heldRows{mem: mem, schema: arrow.NewSchema(fields, nil), seconds: map[int64]*heldSecond{}}, nil
}

// add keeps a row of a batch; whoever calls retains the batch once.
func (h *heldRows) add(batch *heldBatch, r int, at int64) {
	start := FloorStart(at, holdTicks, 0)
	sec := h.seconds[start]
	if sec == nil {
		sec = &heldSecond{}
		h.seconds[start] = sec
		i, _ := slices.BinarySearch(h.order, start)
		h.order = slices.Insert(h.order, i, start)
	}
	sec.rows = append(sec.rows, heldRow{at: at, offset: batch.rec.Column(pipeline.ColOffset).(*array.Int64).Value(r),
		split: batch.rec.Column(pipeline.ColSplit).(*array.Int32).Value(r), row: int32(r), batch: batch})
	sec.changed = true
	if batch.each == 0 {
		batch.each = heldRowBytes + recordBytes(batch.rec)/max(1, batch.rec.NumRows())
	}
	batch.rows++
	h.rows++
	h.bytes += batch.each
}

// heldRowBytes is what a row that waits takes beside its columns.
const heldRowBytes = 40

// recordBytes is the memory of a batch's buffers.
func recordBytes(rec arrow.RecordBatch) int64 {
	n := int64(0)
	for _, c := range rec.Columns() {
		for _, b := range c.Data().Buffers() {
			if b != nil {
				n += int64(b.Len())
			}
		}
	}
	return n
}

// take lets the rows up to a time go, which ends a second, in their order.
func (h *heldRows) take(until int64, give func(batch *heldBatch, r int32)) {
	n := 0
	for _, start := range h.order {
		if start > until {
			break
		}
		n++
		rows := h.seconds[start].rows
		delete(h.seconds, start)
		slices.SortFunc(rows, compareHeld)

		for i, row := range rows {
			give(row.batch, row.row)
			h.let(row.batch)
			rows[i].batch = nil
		}
	}
	h.order = slices.Delete(h.order, 0, n)
}

func compareHeld(a, b heldRow) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.split, b.split), cmp.Compare(a.offset, b.offset))
}

// let gives a row of a batch back.
func (h *heldRows) let(b *heldBatch) {
	h.rows--
	h.bytes -= b.each
	if b.rows--; b.rows == 0 {
		b.rec.Release()
	}
}

// close gives back all batches.
func (h *heldRows) close() {
	for _, sec := range h.seconds {
		for _, row := range sec.rows {
			h.let(row.batch)
		}
	}
	clear(h.seconds)
	h.order = nil
}

// heldPiece begins the ids of pieces with rows that wait; their second follows.
const heldPiece = "rows_"

// snapshot lends a piece for every second.
func (h *heldRows) snapshot(full bool, keyer *pipeline.Keyer, piece func(pipeline.Piece) error) error {
	for _, start := range h.order {
		sec := h.seconds[start]
		p := pipeline.Piece{ID: heldPiece + strconv.FormatInt(start, 10)}
		if full || sec.changed {
			var err error
			if p.Rec, err = h.record(sec.rows, keyer); err != nil {
				return err
			}
			sec.changed = false
		}
		err := piece(p)
		if p.Rec != nil {
			p.Rec.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// record copies rows into one batch, those of a batch side by side.
func (h *heldRows) record(rows []heldRow, keyer *pipeline.Keyer) (arrow.RecordBatch, error) {
	groups := array.NewUint8Builder(h.mem)
	defer groups.Release()
	var parts []arrow.RecordBatch
	defer func() {
		for _, p := range parts {
			p.Release()
		}
	}()
	for from := 0; from < len(rows); {
		batch, to := rows[from].batch, from
		var places []int32
		for ; to < len(rows) && rows[to].batch == batch; to++ {
			places = append(places, rows[to].row)
			groups.Append(pipeline.Group(batch.keysBy(keyer).Hash[rows[to].row]))
		}
		part, err := pipeline.Gather(h.mem, batch.rec, places)
		if err != nil {
			return nil, fmt.Errorf("rows that wait: %w", err)
		}
		parts, from = append(parts, part), to
	}
	cols := []arrow.Array{groups.NewArray()}
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range h.schema.NumFields() - 1 {
		var of []arrow.Array
		for _, p := range parts {
			of = append(of, p.Column(i))
		}
		col, err := array.Concatenate(of, h.mem)
		if err != nil {
			return nil, fmt.Errorf("rows that wait, column %s: %w", h.schema.Field(i+1).Name, err)
		}
		cols = append(cols, col)
	}
	return array.NewRecordBatch(h.schema, cols, int64(len(rows))), nil
}

// restore takes back the rows of a piece that keep accepts. Columns at the end that an older version
// did not have are null.
func (h *heldRows) restore(p pipeline.Piece, keep func(group uint8) bool) error {
	columns, had := slices.Clone(p.Rec.Columns()), p.Rec.Schema().NumFields()
	old := arrow.NewSchema(h.schema.Fields()[:min(had, h.schema.NumFields())], nil)
	if !p.Rec.Schema().Equal(old) || slices.ContainsFunc(h.schema.Fields()[old.NumFields():], func(f arrow.Field) bool { return !f.Nullable }) {
		return fmt.Errorf("state %s: its columns are %v, the rows of this job have %v; finish the job as it was, or start a new lineage", p.ID, names(p.Rec.Schema()), names(h.schema))
	}
	for _, f := range h.schema.Fields()[had:] {
		null := array.MakeArrayOfNull(h.mem, f.Type, int(p.Rec.NumRows()))
		defer null.Release()
		columns = append(columns, null)
	}
	rec := array.NewRecordBatch(arrow.NewSchema(h.schema.Fields()[1:], nil), columns[1:], p.Rec.NumRows())
	defer rec.Release()
	times := pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))
	batch := &heldBatch{rec: rec}
	for r, g := range p.Rec.Column(0).(*array.Uint8).Uint8Values() {
		if keep(g) {
			h.add(batch, r, times[r])
		}
	}
	if batch.rows > 0 {
		rec.Retain()
	}
	return nil
}

func names(s *arrow.Schema) string {
	var out []string
	for _, f := range s.Fields() {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

package operators

import (
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// UnknownPolicy says what becomes of a row whose key a reference table does not have.
type UnknownPolicy string

const (
	// UnknownNull gives it nulls.
	UnknownNull UnknownPolicy = "null"
	// UnknownDrop counts it as filtered.
	UnknownDrop UnknownPolicy = "drop"
	// UnknownDead sends it to Dead with reason unknown_key.
	UnknownDead UnknownPolicy = "dead"
)

const reasonUnknownKey = "unknown_key"

// EnrichConfig says how rows find their row of a reference table.
type EnrichConfig struct {
	// Name of the table.
	Name string
	// Key are the columns of the rows that hold the table's key, in the order of the table.
	Key     []string
	Missing UnknownPolicy
	// Restored, unless nil, is told which version of the table a checkpoint was made with. The
	// rows behind it are given what the table has now.
	Restored func(version string)
}

// Validate returns every problem.
func (c EnrichConfig) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing"))
	}
	switch c.Missing {
	case UnknownNull, UnknownDrop, UnknownDead:
	default:
		errs = append(errs, fmt.Errorf("missing %q: known are %s, %s, %s", c.Missing, UnknownNull, UnknownDrop, UnknownDead))
	}
	return errors.Join(errs...)
}

// Enrich adds the columns of a reference table to rows, by key. A row whose key has a null, or
// that the table does not have, is unknown: see UnknownPolicy. What else a batch says of its
// rows stays.
//
// A new content of the table comes through the front (pipeline.Reference), so that it holds
// for the same rows at any number of shards. It is pipeline.Stateful: its state is the version
// of the table, for whoever wants to know that another one is used after a restart.
type Enrich struct {
	cfg   EnrichConfig
	mem   memory.Allocator
	rows  *arrow.Schema
	out   *arrow.Schema
	table *pipeline.Table
	keyer *pipeline.Keyer
	saved string // the version in the last snapshot
	told  bool   // the version restored
	// scratch of one Process call
	found, known, unknown []int32
}

// EnrichSchema returns the schema of rows with the columns of a table. A name that rows or
// their Late port have already is an error.
func EnrichSchema(rows *arrow.Schema, columns []arrow.Field) (*arrow.Schema, error) {
	fields, lates := rows.Fields(), LateSchema(rows)
	var errs []error
	for _, f := range columns {
		switch {
		case rows.HasField(f.Name):
			errs = append(errs, fmt.Errorf("column %q: the rows have one of that name", f.Name))
		case lates.HasField(f.Name):
			errs = append(errs, fmt.Errorf("column %q: late rows have one of that name", f.Name))
		}
		f.Nullable = true
		fields = append(fields, f)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return arrow.NewSchema(fields, nil), nil
}

// NewEnrich compiles the operator for rows of the given schema and the table as it is now.
func NewEnrich(cfg EnrichConfig, rows *arrow.Schema, table *pipeline.Table, mem memory.Allocator) (*Enrich, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keyer, err := table.Keyer(rows, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", cfg.Name, err)
	}
	out, err := EnrichSchema(rows, table.Fields())
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", cfg.Name, err)
	}
	// known is never nil: as a selection that would be all rows.
	return &Enrich{cfg: cfg, mem: mem, rows: rows, out: out, table: table, keyer: keyer, known: []int32{}}, nil
}

// Schema is the schema of the rows on Out: those that come in and the table's columns.
func (e *Enrich) Schema() *arrow.Schema { return e.out }

// Refer takes a new content of the table. Its columns must be those of the one before.
func (e *Enrich) Refer(ref pipeline.Reference) error {
	if ref.Name != e.cfg.Name {
		return nil
	}
	keyer, err := ref.Table.Keyer(e.rows, e.cfg.Key)
	if err != nil {
		return fmt.Errorf("reference %s, version %s: %w", ref.Name, ref.Table.Version, err)
	}
	out, err := EnrichSchema(e.rows, ref.Table.Fields())
	if err == nil && !out.Equal(e.out) {
		err = fmt.Errorf("its columns are %v, those of the job %v", ref.Table.Fields(), e.table.Fields())
	}
	if err != nil {
		return fmt.Errorf("reference %s, version %s: %w", ref.Name, ref.Table.Version, err)
	}
	e.table, e.keyer = ref.Table, keyer
	return nil
}

// Process implements pipeline.Operator.
func (e *Enrich) Process(in pipeline.Batch, out pipeline.Emitter) error {
	n := int(in.Rec.NumRows())
	if cap(e.found) < n {
		e.found = make([]int32, n)
	}
	e.found = e.found[:n]
	e.table.Lookup(e.keyer, in.Rec, in.Rows, e.found)
	if e.cfg.Missing != UnknownNull {
		if err := e.part(&in, out); err != nil {
			return err
		}
	}
	if in.NumRows() == 0 {
		return nil
	}
	cols := append([]arrow.Array{}, in.Rec.Columns()...)
	for _, c := range e.table.Columns() {
		added, err := takeColumn(e.mem, c, e.found)
		if err != nil {
			return fmt.Errorf("reference %s: %w", e.cfg.Name, err)
		}
		defer added.Release()
		cols = append(cols, added)
	}
	in.Rec = array.NewRecordBatch(e.out, cols, in.Rec.NumRows())
	defer in.Rec.Release()
	return out.Emit(pipeline.Out, in)
}

// part narrows a batch to the rows that the table has and lets the others go.
func (e *Enrich) part(in *pipeline.Batch, out pipeline.Emitter) error {
	e.known, e.unknown = e.known[:0], e.unknown[:0]
	for i := range in.NumRows() {
		r := int32(i)
		if in.Rows != nil {
			r = in.Rows[i]
		}
		if e.found[r] < 0 {
			e.unknown = append(e.unknown, r)
		} else {
			e.known = append(e.known, r)
		}
	}
	if len(e.unknown) == 0 {
		return nil
	}
	in.Rows = e.known
	if e.cfg.Missing == UnknownDrop {
		out.Count(pipeline.Filtered, in.Split, int64(len(e.unknown)))
		return nil
	}
	return e.emitDead(*in, out)
}

// emitDead sends the unknown rows of a batch. What was in the record is not known any more:
// raw is null, and raw_bytes 0.
func (e *Enrich) emitDead(in pipeline.Batch, out pipeline.Emitter) error {
	b := array.NewRecordBuilder(e.mem, pipeline.DeadSchema())
	defer b.Release()
	b.Reserve(len(e.unknown))
	times, ingest := in.Rec.Column(pipeline.ColTime).(*array.Timestamp), in.Rec.Column(pipeline.ColIngest).(*array.Timestamp)
	splits, offsets := in.Rec.Column(pipeline.ColSplit).(*array.Int32), in.Rec.Column(pipeline.ColOffset).(*array.Int64)
	for _, r := range e.unknown {
		b.Field(0).(*array.TimestampBuilder).Append(times.Value(int(r)))
		b.Field(1).(*array.Int32Builder).Append(splits.Value(int(r)))
		b.Field(2).(*array.Int64Builder).Append(offsets.Value(int(r)))
		b.Field(3).(*array.TimestampBuilder).Append(ingest.Value(int(r)))
		b.Field(4).(*array.StringBuilder).Append(reasonUnknownKey)
		b.Field(5).(*array.StringBuilder).Append(e.unknownText(in.Rec, int(r)))
		b.Field(6).(*array.Int64Builder).Append(0)
		b.Field(7).(*array.BinaryBuilder).AppendNull()
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	return out.Emit(pipeline.Dead, pipeline.Batch{Rec: rec, Split: in.Split, Passed: pipeline.MinTicks})
}

// maxKeyText is how many bytes of a key stand in the error of a Dead row.
const maxKeyText = 256

func (e *Enrich) unknownText(rec arrow.RecordBatch, r int) string {
	var key strings.Builder
	for _, name := range e.cfg.Key {
		fmt.Fprintf(&key, " %s=%s", name, rec.Column(rec.Schema().FieldIndices(name)[0]).ValueStr(r))
	}
	text := key.String()
	if len(text) > maxKeyText {
		text = strings.ToValidUTF8(text[:maxKeyText], "") + "..."
	}
	return "reference " + e.cfg.Name + " has no row for" + text
}

// takeColumn builds a column of the given rows of a table's column; -1 gives null. The caller
// releases it.
func takeColumn(mem memory.Allocator, col arrow.Array, rows []int32) (arrow.Array, error) {
	b := array.NewBuilder(mem, col.DataType())
	defer b.Release()
	b.Reserve(len(rows))
	switch c := col.(type) {
	case *array.Int64:
		takeValues(b.(*array.Int64Builder), c, rows)
	case *array.Float64:
		takeValues(b.(*array.Float64Builder), c, rows)
	case *array.Boolean:
		takeValues(b.(*array.BooleanBuilder), c, rows)
	case *array.Timestamp:
		takeValues(b.(*array.TimestampBuilder), c, rows)
	case *array.String:
		b := b.(*array.StringBuilder)
		size := 0
		for _, r := range rows {
			if r >= 0 {
				size += c.ValueLen(int(r))
			}
		}
		b.ReserveData(size)
		takeValues(b, c, rows)
	default:
		return nil, fmt.Errorf("a table's column of type %s: text, numbers, bools and times are known", col.DataType())
	}
	return b.NewArray(), nil
}

func takeValues[V any, B interface {
	Append(V)
	AppendNull()
}, C interface {
	IsNull(int) bool
	Value(int) V
}](b B, c C, rows []int32) {
	for _, r := range rows {
		if r < 0 || c.IsNull(int(r)) {
			b.AppendNull()
			continue
		}
		b.Append(c.Value(int(r)))
	}
}

// Advance implements pipeline.Operator.
func (e *Enrich) Advance(pipeline.Mark, pipeline.Emitter) error { return nil }

// Tick implements pipeline.Operator.
func (e *Enrich) Tick(int64, pipeline.Emitter) error { return nil }

// tablePiece is the id of the piece that holds the version of the table.
const tablePiece = "table"

func enrichState() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "_group", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "reference", Type: arrow.BinaryTypes.String},
		{Name: "version", Type: arrow.BinaryTypes.String},
	}, nil)
}

// Snapshot lends the version of the table.
func (e *Enrich) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	p := pipeline.Piece{ID: tablePiece}
	if full || e.saved != e.table.Version {
		b := array.NewRecordBuilder(e.mem, enrichState())
		defer b.Release()
		b.Field(0).(*array.Uint8Builder).Append(0)
		b.Field(1).(*array.StringBuilder).Append(e.cfg.Name)
		b.Field(2).(*array.StringBuilder).Append(e.table.Version)
		p.Rec = b.NewRecordBatch()
		defer p.Rec.Release()
		e.saved = e.table.Version
	}
	return piece(p)
}

// Restore takes back the version of the table. Every shard wrote the same one, since tables
// come between the same rows for all.
func (e *Enrich) Restore(p pipeline.Piece, _ func(group uint8) bool) error {
	if p.ID != tablePiece || !p.Rec.Schema().Equal(enrichState()) {
		return fmt.Errorf("state %s is not that of reference %s: the job had other operators before; give the new one a state directory of its own", p.ID, e.cfg.Name)
	}
	if name := p.Rec.Column(1).(*array.String).Value(0); name != e.cfg.Name {
		return fmt.Errorf("state of reference %s is not that of reference %s: the job had other operators before; give the new one a state directory of its own", name, e.cfg.Name)
	}
	if !e.told && e.cfg.Restored != nil {
		e.cfg.Restored(strings.Clone(p.Rec.Column(2).(*array.String).Value(0)))
	}
	e.told = true
	return nil
}

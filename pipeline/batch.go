package pipeline

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Names and places of the columns that every row batch starts with, from the source to
// the fold; Late and Dead rows keep them for ever.
const (
	ColTime   = iota // time: event time
	ColSplit         // _split: index in the job's split table
	ColOffset        // _offset
	ColIngest        // _ingest: broker timestamp
	NumRowColumns
)

// RowFields are the fields that every row batch starts with.
func RowFields() []arrow.Field {
	return []arrow.Field{
		{Name: "time", Type: Timestamp, Nullable: true},
		{Name: "_split", Type: arrow.PrimitiveTypes.Int32},
		{Name: "_offset", Type: arrow.PrimitiveTypes.Int64},
		{Name: "_ingest", Type: Timestamp},
	}
}

// DeadSchema is the schema of the Dead port: the row columns, the reason (a short
// constant), the error in words, the length of the record's value in bytes, and the value
// itself, cut at the decoder's raw limit.
func DeadSchema() *arrow.Schema {
	return arrow.NewSchema(append(RowFields(),
		arrow.Field{Name: "reason", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "error", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "raw_bytes", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "raw", Type: arrow.BinaryTypes.Binary, Nullable: true},
	), nil)
}

// ScaleKey is the field metadata that makes an int64 column fixed point: its value is
// the integer times 10 to the minus scale.
const ScaleKey = "tidemark.scale"

// BitsKey is the field metadata by which an int64 column declares its range: its integers
// lie in [-2^(bits-1), 2^(bits-1)). The decoder holds it.
const BitsKey = "tidemark.bits"

// Batch is a run of rows. Rec is lent for the length of the call; whoever keeps the batch
// calls Retain.
type Batch struct {
	Rec arrow.RecordBatch
	// Rows selects rows of Rec in order; nil selects all.
	Rows []int32
	// Split is the split that all rows come from, -1 for rows without one (results).
	Split int32
	// Keys holds the key of every row of Rec, once the exchange has computed it.
	Keys Keys
	// Behind holds for every row of Rec the mark of its split just before the row; it is
	// nil when no row of Rec is at or behind that mark.
	Behind []int64
	// Passed is the event mark that the job had given away when this batch was stamped
	// while its split was quiet; MinTicks otherwise. Rows at or behind it whose windows it
	// closed are Late with reason quiet_split.
	Passed int64
	// Ingest holds for every row of Rec the ingest marks at that row; nil unless the front
	// was asked for them.
	Ingest *IngestMarks
}

// IngestMarks are the ingest marks at the rows of a record batch, the row itself included:
// that of the rows' split, and the merged one. Neither depends on how rows are batched.
type IngestMarks struct{ Own, Merged []int64 }

// NumRows returns the number of selected rows.
func (b Batch) NumRows() int {
	if b.Rows != nil {
		return len(b.Rows)
	}
	return int(b.Rec.NumRows())
}

// Verdict returns the mark by which row r is judged: its split's own just before it, or
// the mark given away while the split was quiet, whichever is higher.
func (b Batch) Verdict(r int32) int64 {
	if b.Behind == nil {
		return b.Passed
	}
	return max(b.Passed, b.Behind[r])
}

// Retain keeps the batch beyond the call that lent it.
func (b Batch) Retain() { b.Rec.Retain() }

// Release gives a retained batch back.
func (b Batch) Release() { b.Rec.Release() }

// Result wraps a record batch of rows that belong to no split.
func Result(rec arrow.RecordBatch) Batch { return Batch{Rec: rec, Split: -1, Passed: MinTicks} }

// Gather copies the selected rows into a batch of their own. The caller releases it.
func Gather(mem memory.Allocator, rec arrow.RecordBatch, rows []int32) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, 0, rec.NumCols())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range int(rec.NumCols()) {
		c, err := GatherColumn(mem, rec.Column(i), rows)
		if err != nil {
			return nil, fmt.Errorf("gather column %s: %w", rec.ColumnName(i), err)
		}
		cols = append(cols, c)
	}
	return array.NewRecordBatch(rec.Schema(), cols, int64(len(rows))), nil
}

// GatherColumn copies the selected values of a flat column. The caller releases it.
func GatherColumn(mem memory.Allocator, col arrow.Array, rows []int32) (arrow.Array, error) {
	b := array.NewBuilder(mem, col.DataType())
	defer b.Release()
	b.Reserve(len(rows))
	switch c := col.(type) {
	case *array.Int64:
		gather(b.(*array.Int64Builder), c, rows)
	case *array.Int32:
		gather(b.(*array.Int32Builder), c, rows)
	case *array.Uint8:
		gather(b.(*array.Uint8Builder), c, rows)
	case *array.Float64:
		gather(b.(*array.Float64Builder), c, rows)
	case *array.Boolean:
		gather(b.(*array.BooleanBuilder), c, rows)
	case *array.Timestamp:
		gather(b.(*array.TimestampBuilder), c, rows)
	case *array.String:
		gather(b.(*array.StringBuilder), c, rows)
	case *array.Binary:
		gather(b.(*array.BinaryBuilder), c, rows)
	default:
		return nil, fmt.Errorf("type %s cannot be gathered", col.DataType())
	}
	return b.NewArray(), nil
}

func gather[T any](b interface {
	Append(T)
	AppendNull()
}, c interface {
	IsNull(int) bool
	Value(int) T
}, rows []int32) {
	for _, r := range rows {
		if c.IsNull(int(r)) {
			b.AppendNull()
			continue
		}
		b.Append(c.Value(int(r)))
	}
}

// Compact returns the batch with its selection applied. The caller releases it.
func Compact(mem memory.Allocator, b Batch) (Batch, error) {
	if b.Rows == nil {
		b.Retain()
		return b, nil
	}
	rec, err := Gather(mem, b.Rec, b.Rows)
	if err != nil {
		return Batch{}, err
	}
	return Batch{Rec: rec, Split: b.Split, Passed: MinTicks}, nil
}

// TicksOf returns the int64 ticks behind a timestamp column without copying.
func TicksOf(c *array.Timestamp) []int64 {
	return arrow.GetData[int64](arrow.GetBytes(c.TimestampValues()))
}

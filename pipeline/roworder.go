package pipeline

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// PartitionBy says how long a partition of a sink is.
type PartitionBy string

const (
	PartitionNone  PartitionBy = "none"
	PartitionHour  PartitionBy = "hour"
	PartitionDay   PartitionBy = "day"
	PartitionMonth PartitionBy = "month"
)

const (
	// NullPartition holds the rows whose partition time is null.
	NullPartition int64 = math.MinInt64
	// EarlyPartition and FarPartition hold the rows whose partition time is before
	// MinEventTime, and not before MaxEventTime.
	EarlyPartition int64 = math.MinInt64 + 1
	FarPartition   int64 = math.MaxInt64
)

// Of returns the partition of a time in ticks, in UTC: hours or days since 1970, or
// months since January of the year 0.
func (p PartitionBy) Of(t int64) int64 {
	if p == PartitionNone {
		return 0
	}
	switch {
	case t < MinEventTime:
		return EarlyPartition
	case t >= MaxEventTime:
		return FarPartition
	}
	switch p {
	case PartitionMonth:
		u := time.UnixMicro(t).UTC()
		return int64(u.Year())*12 + int64(u.Month()) - 1
	case PartitionDay:
		return floorDivTicks(t, 24*3600*1e6)
	}
	return floorDivTicks(t, 3600*1e6)
}

// Start returns where a partition starts that is none of NullPartition, EarlyPartition and
// FarPartition.
func (p PartitionBy) Start(partition int64) time.Time {
	switch p {
	case PartitionMonth:
		return time.Date(int(partition/12), time.Month(partition%12+1), 1, 0, 0, 0, 0, time.UTC)
	case PartitionDay:
		return time.Unix(partition*24*3600, 0).UTC()
	}
	return time.Unix(partition*3600, 0).UTC()
}

func floorDivTicks(t, size int64) int64 {
	q := t / size
	if t%size < 0 {
		q--
	}
	return q
}

// RowRef points at a row of RowOrder.Recs.
type RowRef struct {
	Partition int64
	prefix    uint64 // orders as the first key does; equal prefixes say nothing
	Rec, Row  int32
}

// RowOrder collects the rows of one epoch for a sink that writes them sorted. It keeps the
// batches and moves references only.
type RowOrder struct {
	// By and TimeColumn tell the partition of a row: the column is a timestamp[us] or an
	// int64 of milliseconds, and top-level.
	By         PartitionBy
	TimeColumn string
	// Keys orders the rows of a partition, ascending, nulls first; then comes the order of
	// arrival. Dots lead into structs: device.uid.
	Keys []string

	Recs  []arrow.RecordBatch
	Rows  []RowRef
	Bytes int64 // Arrow buffers of Recs
}

// CheckRowOrder tells what about the partition and the keys does not fit a schema.
func CheckRowOrder(schema *arrow.Schema, by PartitionBy, timeColumn string, keys []string) error {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	rec := b.NewRecordBatch()
	defer rec.Release()
	o := RowOrder{By: by, TimeColumn: timeColumn, Keys: keys}
	if _, err := o.partition(rec); err != nil {
		return err
	}
	for _, k := range keys {
		if _, err := o.key(k, []arrow.RecordBatch{rec}); err != nil {
			return err
		}
	}
	return nil
}

// Add keeps a lent batch.
func (o *RowOrder) Add(b Batch) error {
	if b.NumRows() == 0 {
		return nil
	}
	part, err := o.partition(b.Rec)
	if err != nil {
		return err
	}
	n := int32(len(o.Recs))
	b.Retain()
	o.Recs = append(o.Recs, b.Rec)
	for _, c := range b.Rec.Columns() {
		o.Bytes += int64(c.Data().SizeInBytes())
	}
	if b.Rows != nil {
		for _, r := range b.Rows {
			o.Rows = append(o.Rows, RowRef{Partition: part(int(r)), Rec: n, Row: r})
		}
		return nil
	}
	for r := range int(b.Rec.NumRows()) {
		o.Rows = append(o.Rows, RowRef{Partition: part(r), Rec: n, Row: int32(r)})
	}
	return nil
}

// Reset gives the batches back.
func (o *RowOrder) Reset() {
	for _, r := range o.Recs {
		r.Release()
	}
	clear(o.Recs)
	o.Recs, o.Rows, o.Bytes = o.Recs[:0], o.Rows[:0], 0
}

// Sort orders Rows by partition, keys and arrival.
func (o *RowOrder) Sort() error {
	keys := make([]rowKey, len(o.Keys))
	for i, name := range o.Keys {
		k, err := o.key(name, o.Recs)
		if err != nil {
			return err
		}
		keys[i] = k
	}
	if len(keys) > 0 {
		for i := range o.Rows {
			o.Rows[i].prefix = keys[0].prefix(o.Rows[i])
		}
	}
	slices.SortFunc(o.Rows, func(a, b RowRef) int {
		if a.Partition != b.Partition {
			return cmp.Compare(a.Partition, b.Partition)
		}
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		for _, k := range keys {
			if c := k.compare(a, b); c != 0 {
				return c
			}
		}
		if a.Rec != b.Rec {
			return cmp.Compare(a.Rec, b.Rec)
		}
		return cmp.Compare(a.Row, b.Row)
	})
	return nil
}

// partition returns the partition of each row of a record.
func (o *RowOrder) partition(rec arrow.RecordBatch) (func(row int) int64, error) {
	if o.By == PartitionNone {
		return func(int) int64 { return 0 }, nil
	}
	ticks, err := ColumnTicks(rec, o.TimeColumn)
	if err != nil {
		return nil, fmt.Errorf("partition %w", err)
	}
	return func(row int) int64 {
		t, ok := ticks(row)
		if !ok {
			return NullPartition
		}
		return o.By.Of(t)
	}, nil
}

// ColumnTicks returns how to read a top-level column that is a timestamp[us] or an int64 of
// milliseconds, in ticks; ok is false for null. Milliseconds beyond int64 ticks saturate.
func ColumnTicks(rec arrow.RecordBatch, column string) (func(row int) (t int64, ok bool), error) {
	i := rec.Schema().FieldIndices(column)
	if len(i) == 0 {
		return nil, fmt.Errorf("column %q is not in the schema: name a timestamp column, or partition by none", column)
	}
	switch c := rec.Column(i[0]).(type) {
	case *array.Timestamp:
		if c.DataType().(*arrow.TimestampType).Unit == arrow.Microsecond {
			return func(row int) (int64, bool) { return int64(c.Value(row)), c.IsValid(row) }, nil
		}
	case *array.Int64:
		return func(row int) (int64, bool) {
			ms := min(max(c.Value(row), math.MinInt64/1000), math.MaxInt64/1000)
			return ms * 1000, c.IsValid(row)
		}, nil
	}
	return nil, fmt.Errorf("column %q: type %s, want timestamp[us] or int64 milliseconds", column, rec.Column(i[0]).DataType())
}

// rowKey compares rows by one column.
type rowKey interface {
	prefix(r RowRef) uint64
	compare(a, b RowRef) int
}

// key binds a column of all records.
func (o *RowOrder) key(name string, recs []arrow.RecordBatch) (rowKey, error) {
	nulls := make([][]arrow.Array, len(recs))
	cols := make([]arrow.Array, len(recs))
	for i, rec := range recs {
		col, above, err := Descend(rec, name)
		if err != nil {
			return nil, fmt.Errorf("sort column %w", err)
		}
		cols[i], nulls[i] = col, above
	}
	if len(cols) == 0 {
		return &typedKey[*array.Int64, int64]{compareValues: cmp.Compare[int64]}, nil
	}
	switch cols[0].(type) {
	case *array.Int8:
		return bindKey[*array.Int8](cols, nulls, signedPrefix[int8], cmp.Compare[int8]), nil
	case *array.Int16:
		return bindKey[*array.Int16](cols, nulls, signedPrefix[int16], cmp.Compare[int16]), nil
	case *array.Int32:
		return bindKey[*array.Int32](cols, nulls, signedPrefix[int32], cmp.Compare[int32]), nil
	case *array.Int64:
		return bindKey[*array.Int64](cols, nulls, signedPrefix[int64], cmp.Compare[int64]), nil
	case *array.Timestamp:
		return bindKey[*array.Timestamp](cols, nulls, signedPrefix[arrow.Timestamp], cmp.Compare[arrow.Timestamp]), nil
	case *array.Uint8:
		return bindKey[*array.Uint8](cols, nulls, func(v uint8) uint64 { return uint64(v) }, cmp.Compare[uint8]), nil
	case *array.Uint16:
		return bindKey[*array.Uint16](cols, nulls, func(v uint16) uint64 { return uint64(v) }, cmp.Compare[uint16]), nil
	case *array.Uint32:
		return bindKey[*array.Uint32](cols, nulls, func(v uint32) uint64 { return uint64(v) }, cmp.Compare[uint32]), nil
	case *array.Uint64:
		return bindKey[*array.Uint64](cols, nulls, func(v uint64) uint64 { return v }, cmp.Compare[uint64]), nil
	case *array.Float32:
		return bindKey[*array.Float32](cols, nulls, func(float32) uint64 { return 0 }, cmp.Compare[float32]), nil
	case *array.Float64:
		return bindKey[*array.Float64](cols, nulls, func(float64) uint64 { return 0 }, cmp.Compare[float64]), nil
	case *array.String:
		k := &typedKey[*array.String, string]{nulls: nulls, compareValues: strings.Compare}
		for _, c := range cols {
			k.cols = append(k.cols, c.(*array.String))
		}
		// Keys like device-0001 begin alike: the eight bytes behind that tell them apart.
		skip := commonPrefix(k.cols)
		k.prefixOf = func(v string) uint64 { return stringPrefix(v[min(skip, len(v)):]) }
		return k, nil
	case *array.Binary:
		return bindKey[*array.Binary](cols, nulls, func(v []byte) uint64 { return stringPrefix(string(v[:min(len(v), 8)])) }, bytes.Compare), nil
	case *array.Boolean:
		return bindKey[*array.Boolean](cols, nulls, func(bool) uint64 { return 0 }, func(a, b bool) int {
			switch {
			case a == b:
				return 0
			case b:
				return -1
			}
			return 1
		}), nil
	}
	return nil, fmt.Errorf("sort column %q: type %s has no order", name, cols[0].DataType())
}

func signedPrefix[T ~int8 | ~int16 | ~int32 | ~int64](v T) uint64 { return uint64(v) ^ 1<<63 }

func stringPrefix(v string) uint64 {
	var b [8]byte
	copy(b[:], v)
	return binary.BigEndian.Uint64(b[:])
}

type typedKey[A interface{ Value(int) T }, T any] struct {
	cols          []A
	nulls         [][]arrow.Array
	prefixOf      func(T) uint64
	compareValues func(a, b T) int
}

func bindKey[A interface {
	arrow.Array
	Value(int) T
}, T any](cols []arrow.Array, nulls [][]arrow.Array, prefix func(T) uint64, compare func(a, b T) int) rowKey {
	k := &typedKey[A, T]{nulls: nulls, prefixOf: prefix, compareValues: compare}
	for _, c := range cols {
		k.cols = append(k.cols, c.(A))
	}
	return k
}

// commonPrefix returns how many bytes all values begin with.
func commonPrefix(cols []*array.String) int {
	first, n := "", -1
	for _, a := range cols {
		for i := range a.Len() {
			if a.IsNull(i) {
				continue
			}
			v := a.Value(i)
			if n < 0 {
				first, n = v, len(v)
			}
			n = min(n, len(v))
			for n > 0 && v[:n] != first[:n] {
				n--
			}
			if n == 0 {
				return 0
			}
		}
	}
	return max(n, 0)
}

func (k *typedKey[A, T]) null(r RowRef) bool {
	for _, a := range k.nulls[r.Rec] {
		if a.IsNull(int(r.Row)) {
			return true
		}
	}
	return false
}

func (k *typedKey[A, T]) prefix(r RowRef) uint64 {
	if k.null(r) {
		return 0
	}
	return k.prefixOf(k.cols[r.Rec].Value(int(r.Row)))
}

func (k *typedKey[A, T]) compare(a, b RowRef) int {
	an, bn := k.null(a), k.null(b)
	switch {
	case an && bn:
		return 0
	case an:
		return -1
	case bn:
		return 1
	}
	return k.compareValues(k.cols[a.Rec].Value(int(a.Row)), k.cols[b.Rec].Value(int(b.Row)))
}

// Descend finds a column by its name, or by a dotted path through structs. A value of it
// is null when it is null in any of nulls, which lists the column and the structs above it
// as far as they have nulls.
func Descend(rec arrow.RecordBatch, name string) (col arrow.Array, nulls []arrow.Array, err error) {
	at := rec.Schema().FieldIndices(name)
	if len(at) > 0 {
		col = rec.Column(at[0])
	} else {
		head, rest, dotted := strings.Cut(name, ".")
		at = rec.Schema().FieldIndices(head)
		if len(at) == 0 || !dotted {
			return nil, nil, fmt.Errorf("%q is not in the schema", name)
		}
		col = rec.Column(at[0])
		for part := range strings.SplitSeq(rest, ".") {
			s, ok := col.(*array.Struct)
			if !ok {
				return nil, nil, fmt.Errorf("%q: what is above %q is no struct", name, part)
			}
			i, ok := s.DataType().(*arrow.StructType).FieldIdx(part)
			if !ok {
				return nil, nil, fmt.Errorf("%q: no field %q", name, part)
			}
			if s.NullN() > 0 {
				nulls = append(nulls, s)
			}
			col = s.Field(i)
		}
	}
	if col.NullN() > 0 {
		nulls = append(nulls, col)
	}
	return col, nulls, nil
}

// SameColumns tells whether batches of one schema can be read as the other.
func SameColumns(want, got *arrow.Schema) error {
	if want == got {
		return nil
	}
	if want.NumFields() != got.NumFields() {
		return fmt.Errorf("batch with %d columns, the table has %d", got.NumFields(), want.NumFields())
	}
	for i, f := range want.Fields() {
		g := got.Field(i)
		if f.Name != g.Name || !arrow.TypeEqual(f.Type, g.Type) {
			return fmt.Errorf("batch with column %d %s %s, the table has %s %s", i, g.Name, g.Type, f.Name, f.Type)
		}
	}
	return nil
}

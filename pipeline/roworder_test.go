package pipeline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestPartitionOf(t *testing.T) {
	at := func(s string) int64 {
		v, err := time.Parse("2006-01-02T15:04:05.999999", s)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixMicro()
	}
	for _, c := range []struct{ time, hour, day, month string }{
		{"2026-11-22T00:59:59.999999", "2026-11-22 00", "2026-11-22 00", "2026-11-01 00"},
		{"2026-11-22T01:00:00", "2026-11-22 01", "2026-11-22 00", "2026-11-01 00"},
		{"1969-12-31T23:59:59.999999", "1969-12-31 23", "1969-12-31 00", "1969-12-01 00"},
		{"1900-01-01T00:00:00", "1900-01-01 00", "1900-01-01 00", "1900-01-01 00"},
		{"2299-12-31T23:59:59.999999", "2299-12-31 23", "2299-12-31 00", "2299-12-01 00"},
	} {
		for by, want := range map[PartitionBy]string{PartitionHour: c.hour, PartitionDay: c.day, PartitionMonth: c.month} {
			if got := by.Start(by.Of(at(c.time))).Format("2006-01-02 15"); got != want {
				t.Errorf("%s by %s = %s, want %s", c.time, by, got, want)
			}
		}
	}
	for far, want := range map[int64]int64{
		MinTicks: EarlyPartition, MinEventTime - 1: EarlyPartition, MaxEventTime: FarPartition, MaxTicks: FarPartition,
	} {
		if got := PartitionDay.Of(far); got != want {
			t.Errorf("Of(%d) = %d, want %d", far, got, want)
		}
	}
}

func TestRowOrder(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "t", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, // milliseconds
		{Name: "device", Type: arrow.StructOf(arrow.Field{Name: "uid", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int32},
	}, nil)
	build := func(rows string) arrow.RecordBatch { // one row each: t uid n, with - for null and ! for a null struct
		b := array.NewRecordBuilder(mem, schema)
		defer b.Release()
		for row := range strings.SplitSeq(rows, ";") {
			var hour, n int64
			var uid string
			f := strings.Fields(row)
			fmt.Sscan(f[2], &n)
			uid = f[1]
			if f[0] == "-" {
				b.Field(0).AppendNull()
			} else {
				fmt.Sscan(f[0], &hour)
				b.Field(0).(*array.Int64Builder).Append(hour * 3600 * 1000)
			}
			s := b.Field(1).(*array.StructBuilder)
			switch uid {
			case "!":
				s.AppendNull()
			case "-":
				s.Append(true)
				s.FieldBuilder(0).AppendNull()
			default:
				s.Append(true)
				s.FieldBuilder(0).(*array.StringBuilder).Append(uid)
			}
			b.Field(2).(*array.Int32Builder).Append(int32(n))
		}
		return b.NewRecordBatch()
	}
	o := RowOrder{By: PartitionHour, TimeColumn: "t", Keys: []string{"device.uid", "n"}}
	for _, c := range []struct {
		rows string
		pick []int32
	}{
		{"7 device-000000002 5;7 device-000000001 -3;99999999 x 1", nil},
		{"7 device-000000001 -7;8 a 2;0 dropped 0;7 ! 9;7 - 4", []int32{0, 1, 3, 4}},
		{"- z 1;7 device-000000001 -3;-1 z 6", nil},
	} {
		rec := build(c.rows)
		b := Result(rec)
		b.Rows = c.pick
		if err := o.Add(b); err != nil {
			t.Fatal(err)
		}
		rec.Release()
	}
	if err := o.Sort(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range o.Rows {
		p := fmt.Sprint(r.Partition)
		switch r.Partition {
		case NullPartition:
			p = "null"
		case FarPartition:
			p = "far"
		}
		rec := o.Recs[r.Rec]
		uid := "null"
		if col, nulls, _ := Descend(rec, "device.uid"); !slices.ContainsFunc(nulls, func(a arrow.Array) bool { return a.IsNull(int(r.Row)) }) {
			uid = col.(*array.String).Value(int(r.Row))
		}
		got = append(got, fmt.Sprintf("%s %s %d @%d", p, uid, rec.Column(2).(*array.Int32).Value(int(r.Row)), r.Rec))
	}
	want := []string{
		"null z 1 @2", "-1 z 6 @2",
		"7 null 4 @1", "7 null 9 @1",
		"7 device-000000001 -7 @1", "7 device-000000001 -3 @0", "7 device-000000001 -3 @2", "7 device-000000002 5 @0",
		"8 a 2 @1", "far x 1 @0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("order:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if o.Bytes <= 0 {
		t.Errorf("Bytes = %d", o.Bytes)
	}
	o.Reset()
	if len(o.Rows) != 0 || o.Bytes != 0 {
		t.Errorf("after Reset: %+v", o)
	}
}

// TestRowOrderTypes sorts by every type that has an order and compares with a plain sort
// of the values' own order.
func TestRowOrderTypes(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	ints := []int64{math.MinInt64, -300, -1, 0, 1, 2, 300, math.MaxInt64}
	for _, typ := range []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Boolean, Timestamp,
		arrow.BinaryTypes.String, arrow.BinaryTypes.Binary,
	} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: typ, Nullable: true}}, nil)
		o := RowOrder{By: PartitionNone, Keys: []string{"k"}}
		for range 3 {
			b := array.NewRecordBuilder(mem, schema)
			for range 200 {
				v := ints[rng.IntN(len(ints))]
				switch f := b.Field(0).(type) {
				case *array.Int8Builder:
					f.Append(int8(v))
				case *array.Int16Builder:
					f.Append(int16(v))
				case *array.Int32Builder:
					f.Append(int32(v))
				case *array.Int64Builder:
					f.Append(v)
				case *array.Uint8Builder:
					f.Append(uint8(v))
				case *array.Uint16Builder:
					f.Append(uint16(v))
				case *array.Uint32Builder:
					f.Append(uint32(v))
				case *array.Uint64Builder:
					f.Append(uint64(v))
				case *array.Float32Builder:
					f.Append(float32(v) / 3)
				case *array.Float64Builder:
					f.Append(float64(v) / 3)
				case *array.BooleanBuilder:
					f.Append(v&1 == 1)
				case *array.TimestampBuilder:
					f.Append(arrow.Timestamp(v))
				case *array.StringBuilder:
					f.Append("device-" + strings.Repeat("ab", rng.IntN(6)))
				case *array.BinaryBuilder:
					f.Append([]byte(strings.Repeat("\xff", rng.IntN(12))))
				}
				if rng.IntN(10) == 0 {
					b.Field(0).AppendNull()
				}
			}
			rec := b.NewRecordBatch()
			if err := o.Add(Result(rec)); err != nil {
				t.Fatal(err)
			}
			rec.Release()
			b.Release()
		}
		if err := CheckRowOrder(schema, PartitionNone, "", []string{"k"}); err != nil {
			t.Fatal(err)
		}
		if err := o.Sort(); err != nil {
			t.Fatal(err)
		}
		key, err := o.key("k", o.Recs)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(o.Rows); i++ {
			a, b := o.Rows[i-1], o.Rows[i]
			c := key.compare(a, b)
			if c > 0 {
				t.Fatalf("%s: rows %d and %d are out of order", typ, i-1, i)
			}
			if c == 0 && (a.Rec > b.Rec || a.Rec == b.Rec && a.Row >= b.Row) {
				t.Fatalf("%s: rows %d and %d are not in order of arrival", typ, i-1, i)
			}
		}
		o.Reset()
	}
}

func TestCheckRowOrder(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "ns", Type: arrow.FixedWidthTypes.Timestamp_ns},
		{Name: "l", Type: arrow.ListOf(arrow.BinaryTypes.String)},
	}, nil)
	for _, c := range []struct {
		by        PartitionBy
		time, key string
		want      string
	}{
		{PartitionNone, "", "s", ""},
		{PartitionDay, "x", "s", "not in the schema"},
		{PartitionDay, "s", "s", "want timestamp[us]"},
		{PartitionDay, "ns", "s", "want timestamp[us]"},
		{PartitionNone, "", "nope", "not in the schema"},
		{PartitionNone, "", "s.x", "no struct"},
		{PartitionNone, "", "l", "has no order"},
	} {
		err := CheckRowOrder(schema, c.by, c.time, []string{c.key})
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("CheckRowOrder(%s, %q, %q) = %v, want %q", c.by, c.time, c.key, err, c.want)
		}
	}
}

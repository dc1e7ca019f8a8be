package pipeline_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// TestJSON: the text of every type, and that it is JSON.
func TestJSON(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	scaled := arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "3"})
	for _, c := range []struct {
		field arrow.Field
		fill  func(b array.Builder)
		want  string // of the rows, in a row
	}{
		{arrow.Field{Type: arrow.PrimitiveTypes.Float64}, func(b array.Builder) {
			b.(*array.Float64Builder).AppendValues([]float64{24, 0.1, -1e300, 1e21, math.Copysign(0, -1), math.NaN(), math.Inf(1)}, nil)
		}, "24.0 0.1 -1e+300 1e+21 -0.0 null null"},
		{arrow.Field{Type: arrow.PrimitiveTypes.Int64, Metadata: scaled}, func(b array.Builder) {
			b.(*array.Int64Builder).AppendValues([]int64{0, -5, 1234, math.MinInt64}, nil)
		}, "0.000 -0.005 1.234 -9223372036854775.808"},
		{arrow.Field{Type: arrow.BinaryTypes.String}, func(b array.Builder) {
			b.(*array.StringBuilder).AppendValues([]string{"a\"b\\", "é\x01", "\xff"}, nil)
		}, `"a\"b\\" "é\u0001" "` + "\ufffd" + `"`},
		{arrow.Field{Type: arrow.BinaryTypes.Binary}, func(b array.Builder) { b.(*array.BinaryBuilder).Append([]byte{0, 255}) }, `"AP8="`},
		{arrow.Field{Type: pipeline.Timestamp}, func(b array.Builder) { b.(*array.TimestampBuilder).Append(1772366400000001) }, `"2026-03-01T12:00:00.000001Z"`},
		{arrow.Field{Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}}, func(b array.Builder) { b.(*array.TimestampBuilder).Append(1772366400500) }, `"2026-03-01T12:00:00.5Z"`},
		{arrow.Field{Type: arrow.ListOf(arrow.PrimitiveTypes.Int32)}, func(b array.Builder) {
			l := b.(*array.ListBuilder)
			l.Append(true)
			l.ValueBuilder().(*array.Int32Builder).AppendValues([]int32{1, 0}, []bool{true, false})
			l.Append(true)
		}, "[1,null] []"},
		{arrow.Field{Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String)}, func(b array.Builder) {
			m := b.(*array.MapBuilder)
			m.Append(true)
			m.KeyBuilder().(*array.StringBuilder).AppendValues([]string{"a", "b", "c"}, nil)
			m.ItemBuilder().(*array.StringBuilder).AppendValues([]string{"1", "", "3"}, []bool{true, false, true})
		}, `{"a":"1","c":"3"}`},
		{arrow.Field{Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Uint8, Nullable: true}, arrow.Field{Name: "y", Type: arrow.FixedWidthTypes.Boolean, Nullable: true})}, func(b array.Builder) {
			s := b.(*array.StructBuilder)
			s.Append(true)
			s.FieldBuilder(0).AppendNull()
			s.FieldBuilder(1).(*array.BooleanBuilder).Append(true)
			s.AppendNull()
		}, `{"y":true} null`},
	} {
		if err := pipeline.CheckJSON(c.field); err != nil {
			t.Fatal(err)
		}
		b := array.NewBuilder(mem, c.field.Type)
		c.fill(b)
		arr := b.NewArray()
		var got []string
		for i := range arr.Len() {
			text := pipeline.AppendJSON(nil, c.field, arr, i)
			if !json.Valid(text) {
				t.Errorf("%s is no JSON", text)
			}
			got = append(got, string(text))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.field.Type, s, c.want)
		}
		arr.Release()
		b.Release()
	}
	deep := arrow.Field{Type: arrow.BinaryTypes.String}
	for range 40 {
		deep = arrow.Field{Type: arrow.ListOfField(deep)}
	}
	for want, f := range map[string]arrow.Field{
		"no JSON here":          {Type: arrow.FixedWidthTypes.Date32},
		"keys of type":          {Type: arrow.MapOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String)},
		"levels deep":           deep,
		"want 0 to 18":          {Type: arrow.PrimitiveTypes.Int64, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "19"})},
		"field d: type date32":  {Type: arrow.StructOf(arrow.Field{Name: "d", Type: arrow.FixedWidthTypes.Date32})},
		"want timestamp[us] or": {Type: arrow.FixedWidthTypes.Timestamp_ns},
	} {
		if err := pipeline.CheckJSON(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", f.Type, err, want)
		}
	}
}

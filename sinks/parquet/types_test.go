package parquet

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// every has a column of every type, and the nestings that OCSF has and a few more. The
// Parquet library reads files into it by its own assembly, which shares nothing with
// column.go.
type every struct {
	I8       int8              `parquet:"i8"`
	I16      *int16            `parquet:"i16,optional"`
	I32      *int32            `parquet:"i32,optional"`
	I64      int64             `parquet:"i64"`
	U8       *uint8            `parquet:"u8,optional"`
	U16      uint16            `parquet:"u16"`
	U32      *uint32           `parquet:"u32,optional"`
	U64      *uint64           `parquet:"u64,optional"`
	F32      float32           `parquet:"f32"`
	F64      *float64          `parquet:"f64,optional"`
	B        *bool             `parquet:"b,optional"`
	S        *string           `parquet:"s,optional"`
	Bin      []byte            `parquet:"bin"`
	T        *int64            `parquet:"t,optional,timestamp(microsecond)"`
	Fixed    int64             `parquet:"fixed,decimal(3:18)"`
	Device   *device           `parquet:"device,optional"`
	Needed   place             `parquet:"needed"`
	Tags     []string          `parquet:"tags,list"`
	Seen     []*observable     `parquet:"seen,optional,list"`
	Matrix   [][]int64         `parquet:"matrix,list"`
	Unmapped map[string]string `parquet:"unmapped,optional"`
	Version  uint64            `parquet:"_tm_ver"`
}

type device struct {
	UID  *string `parquet:"uid,optional"`
	Type int32   `parquet:"type"`
	Loc  *place  `parquet:"loc,optional"`
}

type place struct {
	Lat  float64  `parquet:"lat"`
	Zone *string  `parquet:"zone,optional"`
	Path []string `parquet:"path,list"`
}

type observable struct {
	Name  string            `parquet:"name"`
	Rep   *float64          `parquet:"rep,optional"`
	Attrs map[string]string `parquet:"attrs"`
}

func everySchema() *arrow.Schema {
	null := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	need := func(name string, typ arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: typ} }
	p := arrow.PrimitiveTypes
	str := arrow.BinaryTypes.String
	labels := func() arrow.DataType { m := arrow.MapOf(str, str); m.SetItemNullable(false); return m }
	place := arrow.StructOf(need("lat", p.Float64), null("zone", str), need("path", arrow.ListOfNonNullable(str)))
	return arrow.NewSchema([]arrow.Field{
		need("i8", p.Int8), null("i16", p.Int16), null("i32", p.Int32), need("i64", p.Int64),
		null("u8", p.Uint8), need("u16", p.Uint16), null("u32", p.Uint32), null("u64", p.Uint64),
		need("f32", p.Float32), null("f64", p.Float64), null("b", arrow.FixedWidthTypes.Boolean),
		null("s", str), need("bin", arrow.BinaryTypes.Binary), null("t", pipeline.Timestamp),
		{Name: "fixed", Type: p.Int64, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "3"})},
		null("device", arrow.StructOf(null("uid", str), need("type", p.Int32), null("loc", place))),
		need("needed", place),
		need("tags", arrow.ListOfNonNullable(str)),
		null("seen", arrow.ListOf(arrow.StructOf(need("name", str), null("rep", p.Float64), need("attrs", labels())))),
		need("matrix", arrow.ListOfNonNullable(arrow.ListOfNonNullable(p.Int64))),
		null("unmapped", labels()),
	}, nil)
}

// everyRow makes a random row whose rare cases are common.
func everyRow(rng *rand.Rand) every {
	word := func() string { return []string{"", "a", "zone-7", "ünï", strings.Repeat("long ", 40)}[rng.IntN(5)] }
	words := func() []string {
		out := make([]string, rng.IntN(4))
		for i := range out {
			out[i] = word()
		}
		return out
	}
	labels := func() map[string]string {
		m := map[string]string{}
		for i := range rng.IntN(3) {
			m[fmt.Sprintf("k%d", i)] = word()
		}
		return m
	}
	loc := func() place { return place{Lat: rng.NormFloat64(), Zone: maybe(rng, word()), Path: words()} }
	r := every{
		I8: int8(rng.Uint32()), I16: maybe(rng, int16(rng.Uint32())), I32: maybe(rng, int32(rng.Uint32())), I64: int64(rng.Uint64()),
		U8: maybe(rng, uint8(rng.Uint32())), U16: uint16(rng.Uint32()), U32: maybe(rng, rng.Uint32()), U64: maybe(rng, rng.Uint64()),
		F32: float32(rng.NormFloat64()), F64: maybe(rng, math.Float64frombits(rng.Uint64N(0x7ff0000000000000))), B: maybe(rng, rng.IntN(2) == 1),
		S: maybe(rng, word()), Bin: []byte(word()), T: maybe(rng, int64(rng.Uint64()>>12)), Fixed: rng.Int64N(2e17) - 1e17,
		Needed: loc(), Tags: words(), Version: 3<<48 | 1<<16,
	}
	if rng.IntN(3) > 0 {
		d := device{UID: maybe(rng, word()), Type: int32(rng.IntN(9))}
		if rng.IntN(3) > 0 {
			l := loc()
			d.Loc = &l
		}
		r.Device = &d
	}
	if rng.IntN(4) > 0 {
		r.Seen = []*observable{}
		for range rng.IntN(3) {
			if rng.IntN(4) == 0 {
				r.Seen = append(r.Seen, nil)
				continue
			}
			r.Seen = append(r.Seen, &observable{Name: word(), Rep: maybe(rng, rng.NormFloat64()), Attrs: labels()})
		}
	}
	r.Matrix = make([][]int64, rng.IntN(3))
	for i := range r.Matrix {
		r.Matrix[i] = make([]int64, rng.IntN(3))
		for j := range r.Matrix[i] {
			r.Matrix[i][j] = rng.Int64()
		}
	}
	if rng.IntN(3) > 0 {
		r.Unmapped = labels()
	}
	return r
}

func maybe[T any](rng *rand.Rand, v T) *T {
	if rng.IntN(3) == 0 {
		return nil
	}
	return &v
}

// appendValue appends a Go value to an Arrow builder by reflection.
func appendValue(b array.Builder, v reflect.Value) {
	if (v.Kind() == reflect.Pointer || v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.IsNil() {
		b.AppendNull()
		return
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch b := b.(type) {
	case *array.Int8Builder:
		b.Append(int8(v.Int()))
	case *array.Int16Builder:
		b.Append(int16(v.Int()))
	case *array.Int32Builder:
		b.Append(int32(v.Int()))
	case *array.Int64Builder:
		b.Append(v.Int())
	case *array.Uint8Builder:
		b.Append(uint8(v.Uint()))
	case *array.Uint16Builder:
		b.Append(uint16(v.Uint()))
	case *array.Uint32Builder:
		b.Append(uint32(v.Uint()))
	case *array.Uint64Builder:
		b.Append(v.Uint())
	case *array.Float32Builder:
		b.Append(float32(v.Float()))
	case *array.Float64Builder:
		b.Append(v.Float())
	case *array.BooleanBuilder:
		b.Append(v.Bool())
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v.Int()))
	case *array.StringBuilder:
		b.Append(v.String())
	case *array.BinaryBuilder:
		b.Append(v.Bytes())
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			appendValue(b.FieldBuilder(i), v.Field(i))
		}
	case *array.ListBuilder:
		b.Append(true)
		for i := range v.Len() {
			appendValue(b.ValueBuilder(), v.Index(i))
		}
	case *array.MapBuilder:
		b.Append(true)
		for _, k := range v.MapKeys() {
			appendValue(b.KeyBuilder(), k)
			appendValue(b.ItemBuilder(), v.MapIndex(k))
		}
	default:
		panic(fmt.Sprintf("no case for %T", b))
	}
}

func everyBatch(mem memory.Allocator, rows []every) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, everySchema())
	defer b.Release()
	for _, r := range rows {
		v := reflect.ValueOf(r)
		for i := range b.Schema().NumFields() {
			appendValue(b.Field(i), v.Field(i))
		}
	}
	return b.NewRecordBatch()
}

// text prints a row so that null, empty and absent stay apart where Parquet keeps them
// apart, and a required list or map that the library returns as nil counts as empty.
func text(t *testing.T, r every) string {
	t.Helper()
	for _, l := range []*[]string{&r.Tags, &r.Needed.Path} {
		if *l == nil {
			*l = []string{}
		}
	}
	if r.Device != nil && r.Device.Loc != nil && r.Device.Loc.Path == nil {
		r.Device.Loc.Path = []string{}
	}
	if r.Matrix == nil {
		r.Matrix = [][]int64{}
	}
	for i := range r.Matrix {
		if r.Matrix[i] == nil {
			r.Matrix[i] = []int64{}
		}
	}
	for _, o := range r.Seen {
		if o != nil && o.Attrs == nil {
			o.Attrs = map[string]string{}
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryType writes random rows in slices of several batches, whose offsets are not 0,
// and reads them back.
func TestEveryType(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	rng := rand.New(rand.NewPCG(7, 11))
	rows := make([]every, 3000)
	for i := range rows {
		rows[i] = everyRow(rng)
	}
	cfg := testConfig()
	cfg.PartitionBy, cfg.TimeColumn, cfg.SortBy, cfg.RowGroupRows = pipeline.PartitionNone, "", nil, 1100
	store := newStore(t)
	s, err := New(cfg, store, everySchema())
	if err != nil {
		t.Fatal(err)
	}
	whole := everyBatch(mem, rows)
	recs := []arrow.RecordBatch{whole.NewSlice(0, 1), whole.NewSlice(1, 900), whole.NewSlice(900, 2049), whole.NewSlice(2049, 3000)}
	whole.Release()
	r := stageAll(t, s, 1, recs...)
	got := readRows[every](t, store, r.Files[0].Final)
	if len(got) != len(rows) {
		t.Fatalf("%d rows, want %d", len(got), len(rows))
	}
	for i := range rows {
		if g, w := text(t, got[i]), text(t, rows[i]); g != w {
			t.Fatalf("row %d:\n%s\nwant:\n%s", i, g, w)
		}
	}
}

// TestSchemaText pins what other readers see.
func TestSchemaText(t *testing.T) {
	schema, _, _, err := compile(Config{Table: "every"}, everySchema())
	if err != nil {
		t.Fatal(err)
	}
	want := `message every {
	required int32 i8 (INT(8,true));
	optional int32 i16 (INT(16,true));
	optional int32 i32 (INT(32,true));
	required int64 i64 (INT(64,true));
	optional int32 u8 (INT(8,false));
	required int32 u16 (INT(16,false));
	optional int32 u32 (INT(32,false));
	optional int64 u64 (INT(64,false));
	required float f32;
	optional double f64;
	optional boolean b;
	optional binary s (STRING);
	required binary bin;
	optional int64 t (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	required int64 fixed (DECIMAL(18,3));
	optional group device {
		optional binary uid (STRING);
		required int32 type (INT(32,true));
		optional group loc {
			required double lat;
			optional binary zone (STRING);
			required group path (LIST) {
				repeated group list {
					required binary element (STRING);
				}
			}
		}
	}
	required group needed {
		required double lat;
		optional binary zone (STRING);
		required group path (LIST) {
			repeated group list {
				required binary element (STRING);
			}
		}
	}
	required group tags (LIST) {
		repeated group list {
			required binary element (STRING);
		}
	}
	optional group seen (LIST) {
		repeated group list {
			optional group element {
				required binary name (STRING);
				optional double rep;
				required group attrs (MAP) {
					repeated group key_value {
						required binary key (STRING);
						required binary value (STRING);
					}
				}
			}
		}
	}
	required group matrix (LIST) {
		repeated group list {
			required group element (LIST) {
				repeated group list {
					required int64 element (INT(64,true));
				}
			}
		}
	}
	optional group unmapped (MAP) {
		repeated group key_value {
			required binary key (STRING);
			required binary value (STRING);
		}
	}
	required int64 _tm_ver (INT(64,false));
	required int32 _tm_lineage (INT(32,true));
	required int64 _tm_epoch (INT(64,true));
}`
	if got := schema.String(); got != want {
		t.Errorf("schema:\n%s\nwant:\n%s", got, want)
	}
}

// TestForbiddenNull: a null where the schema allows none is an error; below a null struct
// it is what Arrow has there anyway.
func TestForbiddenNull(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Nullable: true, Type: arrow.StructOf(
			arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64},
			arrow.Field{Name: "l", Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int64)})},
	}, nil)
	for _, c := range []struct {
		name string
		fill func(s *array.StructBuilder)
		want string
	}{
		{"null struct", func(s *array.StructBuilder) { s.AppendNull() }, ""},
		{"null leaf", func(s *array.StructBuilder) {
			s.Append(true)
			s.FieldBuilder(0).AppendNull()
			s.FieldBuilder(1).(*array.ListBuilder).Append(true)
		}, "s.n"},
		{"null list", func(s *array.StructBuilder) {
			s.Append(true)
			s.FieldBuilder(0).(*array.Int64Builder).Append(1)
			s.FieldBuilder(1).AppendNull()
		}, "s.l"},
		{"null element", func(s *array.StructBuilder) {
			s.Append(true)
			s.FieldBuilder(0).(*array.Int64Builder).Append(1)
			l := s.FieldBuilder(1).(*array.ListBuilder)
			l.Append(true)
			l.ValueBuilder().AppendNull()
		}, "element"},
	} {
		b := array.NewRecordBuilder(mem, schema)
		c.fill(b.Field(0).(*array.StructBuilder))
		rec := b.NewRecordBatch()
		b.Release()
		cfg := testConfig()
		cfg.PartitionBy, cfg.SortBy = pipeline.PartitionNone, nil
		s, err := New(cfg, newStore(t), schema)
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.Begin(t.Context(), pipeline.Epoch{Job: cfg.Job, N: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		_, err = st.Prepare(t.Context(), pipeline.Mark{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Prepare = %v, want %q", c.name, err, c.want)
		}
	}
}

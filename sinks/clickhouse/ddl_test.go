package clickhouse

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// wideSchema has every kind of column.
func wideSchema() *arrow.Schema {
	null := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	need := func(name string, typ arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: typ} }
	scaled := func(f arrow.Field) arrow.Field {
		f.Metadata = arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "2"})
		return f
	}
	p, str := arrow.PrimitiveTypes, arrow.BinaryTypes.String
	return arrow.NewSchema([]arrow.Field{
		need("time", p.Int64), need("class_uid", p.Int32), null("seen", pipeline.Timestamp),
		null("device", arrow.StructOf(need("uid", str), null("type", p.Uint8),
			null("loc", arrow.StructOf(need("lat", p.Float64), null("path", arrow.ListOf(str)))))),
		scaled(null("energy", p.Int64)), need("ok", arrow.FixedWidthTypes.Boolean), null("raw", arrow.BinaryTypes.Binary),
		null("tags", arrow.ListOf(str)), need("counts", arrow.ListOfNonNullable(p.Uint8)),
		null("observables", arrow.ListOf(arrow.StructOf(need("name", str), scaled(null("value", p.Int64)), null("at", pipeline.Timestamp),
			null("score", p.Float64), null("bytes", arrow.BinaryTypes.Binary), null("more", arrow.MapOf(str, p.Int32))))),
		null("unmapped", arrow.MapOf(str, str)),
		need("_tm_revision", p.Int32),
	}, nil)
}

func wideConfig() Config {
	cfg := testConfig()
	cfg.Table, cfg.OrderBy, cfg.LowCardinality, cfg.TTLDays = "readings", []string{"device.uid", "time"}, []string{"device.uid"}, 400
	return cfg
}

func TestDDL(t *testing.T) {
	got, err := DDL(wideConfig(), wideSchema())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"CREATE TABLE IF NOT EXISTS `default`.`readings`\n" + `(
    "time" Int64 CODEC(Delta, ZSTD(1)),
    "class_uid" Int32 CODEC(T64, ZSTD(1)),
    "seen" Nullable(DateTime64(6, 'UTC')) CODEC(Delta, ZSTD(1)),
    "device.uid" LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    "device.type" Nullable(UInt8) CODEC(T64, ZSTD(1)),
    "device.loc.lat" Nullable(Float64) CODEC(ZSTD(1)),
    "device.loc.path" Nullable(String) CODEC(ZSTD(1)),
    "energy" Nullable(Decimal(18, 2)) CODEC(T64, ZSTD(1)),
    "ok" Bool CODEC(ZSTD(1)),
    "raw" Nullable(String) CODEC(ZSTD(1)),
    "tags" Array(Nullable(String)) CODEC(ZSTD(1)),
    "counts" Array(UInt8) CODEC(ZSTD(1)),
    "observables" Nullable(String) CODEC(ZSTD(1)),
    "unmapped" Map(String, String) CODEC(ZSTD(1)),
    _tm_ver UInt64 CODEC(Delta, ZSTD(1)),
    _tm_del UInt8 CODEC(ZSTD(1)),
    _tm_lineage UInt16 CODEC(T64, ZSTD(1)),
    _tm_epoch UInt64 CODEC(Delta, ZSTD(1)),
    _tm_block UInt32 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_tm_ver, _tm_del)
PARTITION BY toYYYYMM(fromUnixTimestamp64Milli("time", 'UTC'))
ORDER BY ("device.uid", "time")
TTL toDate(fromUnixTimestamp64Milli("time", 'UTC')) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000, allow_nullable_key = 1`,
		`CREATE VIEW IF NOT EXISTS "default"."readings_current" AS
SELECT * FROM "default"."readings" FINAL`,
		`CREATE TABLE IF NOT EXISTS "default"."tm_commits"
(
    job String,
    table_name String,
    lineage UInt16,
    epoch UInt64,
    blocks UInt32,
    row_count UInt64,
    hash String,
    min_time Nullable(DateTime64(6, 'UTC')),
    max_time Nullable(DateTime64(6, 'UTC')),
    watermark Nullable(DateTime64(6, 'UTC')),
    complete_to Nullable(DateTime64(6, 'UTC')),
    committed_at DateTime64(3, 'UTC'),
    block_rows Array(UInt32),
    keys Array(Array(UInt64)) CODEC(Delta, ZSTD(1)) TTL toDateTime(committed_at) + INTERVAL 7 DAY
)
ENGINE = ReplacingMergeTree(committed_at)
ORDER BY (table_name, job, lineage, epoch)
SETTINGS non_replicated_deduplication_window = 10000`,
		`CREATE VIEW IF NOT EXISTS "default"."tm_complete" AS
SELECT table_name, last.1 AS job, last.2 AS lineage, last.3 AS epoch, last.4 AS watermark, last.5 AS complete_to, last.6 AS committed_at
FROM
(
    SELECT table_name, argMax((job, lineage, epoch, watermark, complete_to, committed_at), (lineage, epoch, committed_at)) AS last
    FROM "default"."tm_commits"
    GROUP BY table_name
)`}
	if len(got) != len(want) {
		t.Fatalf("%d statements, want %d", len(got), len(want))
	}
	for i := range want {
		if w := strings.ReplaceAll(want[i], `"`, "`"); got[i] != w {
			t.Errorf("statement %d:\n%s\nwant:\n%s", i, got[i], w)
		}
	}

	// Dead records: appended, by day, with a nullable time.
	cfg := testConfig()
	cfg.Append, cfg.PartitionBy, cfg.OrderBy, cfg.TTLDays = true, pipeline.PartitionDay, []string{"_split", "_offset"}, 7
	got, err = DDL(cfg, pipeline.DeadSchema())
	if err != nil {
		t.Fatal(err)
	}
	end := "ENGINE = MergeTree\nPARTITION BY toYYYYMMDD(`time`)\nORDER BY (`_split`, `_offset`)\n" +
		"TTL ifNull(toDate(`time`), toDate(0)) + INTERVAL 7 DAY DELETE WHERE `time` IS NOT NULL\n" +
		"SETTINGS non_replicated_deduplication_window = 10000, allow_nullable_key = 1"
	if len(got) != 3 || !strings.HasSuffix(got[0], end) {
		t.Errorf("%d statements, the first:\n%s\nwant at the end:\n%s", len(got), got[0], end)
	}
}

// TestReplicatedDDL: everything is on the cluster, every table replicated, and tokens are
// remembered for a week.
func TestReplicatedDDL(t *testing.T) {
	for _, appended := range []bool{false, true} {
		cfg := testConfig()
		cfg.Cluster, cfg.Replicated, cfg.Append = "{cluster}", true, appended
		got, err := DDL(cfg, readingSchema)
		if err != nil {
			t.Fatal(err)
		}
		engines := map[bool]string{false: "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', _tm_ver, _tm_del)",
			true: "ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')"}
		if !strings.Contains(got[0], "ENGINE = "+engines[appended]+"\n") {
			t.Errorf("table:\n%s", got[0])
		}
		for _, s := range got {
			if !strings.Contains(s, " ON CLUSTER '{cluster}'") {
				t.Errorf("not on the cluster:\n%s", s)
			}
			const windows = "SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
			if strings.HasPrefix(s, "CREATE TABLE") && (!strings.Contains(s, windows) || strings.Contains(s, "non_replicated")) {
				t.Errorf("windows of:\n%s", s)
			}
		}
		info := tableInfo{engine: "Replicated" + map[bool]string{false: "ReplacingMergeTree", true: "MergeTree"}[appended], full: engines[appended] + " SETTINGS x = 1", sorted: "device.uid, time"}
		if errs := info.checkEngine(cfg, nil); len(errs) > 0 {
			t.Errorf("its own engine is refused: %v", errs)
		}
	}
	if n := setting("MergeTree SETTINGS non_replicated_deduplication_window = 5, replicated_deduplication_window = 7", "replicated_deduplication_window", 1); n != 7 {
		t.Errorf("window %d, want 7", n)
	}
}

func TestColumnRefusals(t *testing.T) {
	p := arrow.PrimitiveTypes
	time := arrow.Field{Name: "time", Type: p.Int64}
	for _, c := range []struct {
		want   string
		fields []arrow.Field
		change func(*Config)
	}{
		{"not in the schema", nil, func(c *Config) { c.OrderBy = []string{"nope"} }},
		{"not in the schema", nil, func(c *Config) { c.TimeColumn = "nope" }},
		{"low_cardinality", nil, func(c *Config) { c.LowCardinality = []string{"time"} }},
		{"letters, digits", []arrow.Field{{Name: "a`b", Type: p.Int64}}, nil},
		{"letters, digits", []arrow.Field{{Name: "a.b", Type: p.Int64}, {Name: "", Type: p.Int64}}, nil},
		{"name is taken", []arrow.Field{{Name: "_tm_block", Type: p.Int64}}, nil},
		{"name is taken", []arrow.Field{{Name: "x", Type: p.Int64}, {Name: "x", Type: p.Int64}}, nil},
		{"want bool", []arrow.Field{{Name: "_tm_del", Type: p.Uint8}}, nil},
		{"only grows", []arrow.Field{{Name: "_tm_del", Type: arrow.FixedWidthTypes.Boolean}}, func(c *Config) { c.Append = true }},
		{"want int32", []arrow.Field{{Name: "_tm_revision", Type: p.Int64}}, nil},
		{"without fields", []arrow.Field{{Name: "s", Type: arrow.StructOf()}}, nil},
		{"timestamp[us]", []arrow.Field{{Name: "s", Type: arrow.FixedWidthTypes.Timestamp_s}}, nil},
		{"map<string, string>", []arrow.Field{{Name: "s", Type: arrow.MapOf(p.Int64, p.Int64)}}, nil},
		{"no JSON here", []arrow.Field{{Name: "s", Type: arrow.ListOf(arrow.FixedWidthTypes.Date32)}}, nil},
	} {
		cfg := testConfig()
		cfg.OrderBy = []string{"time"}
		if c.change != nil {
			c.change(&cfg)
		}
		_, err := DDL(cfg, arrow.NewSchema(append([]arrow.Field{time}, c.fields...), nil))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("DDL with %v = %v, want %q", c.fields, err, c.want)
		}
	}
}

// wideBatch has a row where everything is there and one where all that can be is null.
func wideBatch(mem memory.Allocator) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, wideSchema())
	defer b.Release()
	const at = 1785538800123456
	for i := range 2 {
		full := i == 0
		b.Field(0).(*array.Int64Builder).Append(at / 1000)
		b.Field(1).(*array.Int32Builder).Append(-7)
		b.Field(5).(*array.BooleanBuilder).Append(full)
		counts := b.Field(8).(*array.ListBuilder)
		counts.Append(true)
		b.Field(11).(*array.Int32Builder).Append(2)
		if !full {
			for _, k := range []int{2, 3, 4, 6, 7, 9, 10} {
				b.Field(k).AppendNull()
			}
			continue
		}
		counts.ValueBuilder().(*array.Uint8Builder).AppendValues([]uint8{1, 255}, nil)
		b.Field(2).(*array.TimestampBuilder).Append(at)
		dev := b.Field(3).(*array.StructBuilder)
		dev.Append(true)
		dev.FieldBuilder(0).(*array.StringBuilder).Append("d`1")
		dev.FieldBuilder(1).AppendNull()
		loc := dev.FieldBuilder(2).(*array.StructBuilder)
		loc.Append(true)
		loc.FieldBuilder(0).(*array.Float64Builder).Append(1.5)
		path := loc.FieldBuilder(1).(*array.ListBuilder)
		path.Append(true)
		path.ValueBuilder().(*array.StringBuilder).Append("a\"\\\n\x01é\xff")
		path.ValueBuilder().AppendNull()
		b.Field(4).(*array.Int64Builder).Append(-5)
		b.Field(6).(*array.BinaryBuilder).Append([]byte{0, 255})
		tags := b.Field(7).(*array.ListBuilder)
		tags.Append(true)
		tags.ValueBuilder().(*array.StringBuilder).Append("x")
		tags.ValueBuilder().AppendNull()
		obs := b.Field(9).(*array.ListBuilder)
		obs.Append(true)
		o := obs.ValueBuilder().(*array.StructBuilder)
		for k := range 2 {
			o.Append(true)
			o.FieldBuilder(0).(*array.StringBuilder).Append(fmt.Sprint("o", k))
			if k == 1 {
				o.FieldBuilder(1).(*array.Int64Builder).Append(math.MinInt64)
				o.FieldBuilder(2).(*array.TimestampBuilder).Append(at)
				o.FieldBuilder(3).(*array.Float64Builder).Append(math.NaN())
				o.FieldBuilder(4).(*array.BinaryBuilder).Append([]byte{1})
				more := o.FieldBuilder(5).(*array.MapBuilder)
				more.Append(true)
				more.KeyBuilder().(*array.StringBuilder).Append("k")
				more.ItemBuilder().(*array.Int32Builder).Append(3)
				continue
			}
			o.FieldBuilder(1).(*array.Int64Builder).Append(1234)
			for j := 2; j < 6; j++ {
				o.FieldBuilder(j).AppendNull()
			}
		}
		un := b.Field(10).(*array.MapBuilder)
		un.Append(true)
		un.KeyBuilder().(*array.StringBuilder).Append("k")
		un.ItemBuilder().(*array.StringBuilder).Append("v")
	}
	return b.NewRecordBatch()
}

// TestValues follows every kind of column from the schema through the sealed block to
// what the driver is given.
func TestValues(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	cols, own, err := columnsOf(wideConfig(), wideSchema())
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{cfg: wideConfig(), cols: cols, own: own, sealedAs: sealedSchema(cols, own), mem: mem}
	rec := wideBatch(mem)
	defer rec.Release()
	// Row 1 comes first, and from a slice, so that offsets count.
	part := rec.NewSlice(1, 2)
	defer part.Release()
	out, err := s.gather(pipeline.Epoch{Lineage: 1, N: 1}, []arrow.RecordBatch{rec, part}, []pipeline.RowRef{{Rec: 1, Row: 0}, {Rec: 0, Row: 0}})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	want := map[string]string{
		"time":            "[1785538800123 1785538800123]",
		"class_uid":       "[-7 -7]",
		"seen":            "[null 2026-07-31 23:00:00.123456 +0000 UTC]",
		"device.uid":      "[null d`1]",
		"device.type":     "[null null]",
		"device.loc.lat":  "[null 1.5]",
		"device.loc.path": `[null ["a\"\\\u000a\u0001é�",null]]`,
		"energy":          "[null -0.05]",
		"ok":              "[false true]",
		"raw":             "[null \x00\xff]",
		"tags":            "[[] [x null]]",
		"counts":          "[[] [1 255]]",
		"observables":     `[null [{"name":"o0","value":12.34},{"name":"o1","value":-92233720368547758.08,"at":"2026-07-31T23:00:00.123456Z","score":null,"bytes":"AQ==","more":{"k":3}}]]`,
		"unmapped":        "[map[] map[k:v]]",
	}
	for i := range cols {
		v, err := cols[i].values(out.Column(i))
		if err != nil {
			t.Fatal(err)
		}
		if got := shown(v); got != want[cols[i].name] {
			t.Errorf("%s: %s, want %s", cols[i].name, got, want[cols[i].name])
		}
	}
	if v := out.Column(len(cols)).(*array.Uint64).Value(1); v != 1<<48|1<<16|2 {
		t.Errorf("version %x", v)
	}
}

// shown prints values, with what pointers point at.
func shown(v any) string {
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Pointer:
		if rv.IsNil() {
			return "null"
		}
		return shown(rv.Elem().Interface())
	case reflect.Slice:
		out := make([]string, rv.Len())
		for i := range out {
			out[i] = shown(rv.Index(i).Interface())
		}
		return "[" + strings.Join(out, " ") + "]"
	}
	return fmt.Sprint(v)
}

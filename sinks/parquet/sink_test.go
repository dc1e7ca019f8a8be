package parquet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// hourUS is an hour of ticks.
const hourUS = 3600 * 1000 * 1000

// baseUS is 2026-11-22T05:00:00Z.
const baseUS = 1795323600 * 1000 * 1000

// reading is a row of the table that most tests write.
type reading struct {
	Time     *int64 `parquet:"time,optional,timestamp(microsecond)"`
	Key      string `parquet:"key,dict"`
	Value    *int64 `parquet:"value,optional,decimal(1:18)"`
	Version  uint64 `parquet:"_tm_ver"`
	Lineage  int32  `parquet:"_tm_lineage"`
	Epoch    int64  `parquet:"_tm_epoch"`
	Revision int32  `parquet:"-"`
}

func (r reading) String() string {
	return fmt.Sprintf("%s %x %d %d", r.data(), r.Version, r.Lineage, r.Epoch)
}

// data is the row without what the sink adds.
func (r reading) data() string {
	text := func(p *int64) string {
		if p == nil {
			return "null"
		}
		return fmt.Sprint(*p)
	}
	return fmt.Sprintf("%s %s %s", text(r.Time), r.Key, text(r.Value))
}

var readingSchema = arrow.NewSchema([]arrow.Field{
	{Name: "time", Type: pipeline.Timestamp, Nullable: true},
	{Name: "key", Type: arrow.BinaryTypes.String},
	{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
	{Name: "value", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "1"})},
}, nil)

func readingBatch(mem memory.Allocator, rows []reading) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, readingSchema)
	defer b.Release()
	for _, r := range rows {
		if r.Time == nil {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(*r.Time))
		}
		b.Field(1).(*array.StringBuilder).Append(r.Key)
		b.Field(2).(*array.Int32Builder).Append(r.Revision)
		if r.Value == nil {
			b.Field(3).AppendNull()
		} else {
			b.Field(3).(*array.Int64Builder).Append(*r.Value)
		}
	}
	return b.NewRecordBatch()
}

// readings makes n rows of an epoch over three hours, some without time or value.
func readings(epoch int64, n int) []reading {
	rows := make([]reading, n)
	for i := range rows {
		r := &rows[i]
		r.Key = fmt.Sprintf("device-%d", (i*7)%5)
		r.Revision = int32(i % 3)
		r.Version = 3<<48 | uint64(epoch)<<16 | uint64(r.Revision)
		r.Lineage, r.Epoch = 3, epoch
		if i%11 != 4 {
			r.Time = new(int64(baseUS + i%3*hourUS + i))
		}
		if i%7 != 3 {
			r.Value = new(int64(i)*1000 - 5 + epoch)
		}
	}
	return rows
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Job, cfg.Table = pipelinetest.SinkJob, "ocsf/asset seen"
	cfg.SortBy = []string{"key", "time"}
	return cfg
}

func parquetNames(t *testing.T, store pipeline.Store) []string {
	t.Helper()
	objects, err := store.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		if strings.HasSuffix(o.Name, ".parquet") {
			out = append(out, o.Name)
		}
	}
	return out
}

func readRows[T any](t *testing.T, store pipeline.Store, name string) []T {
	t.Helper()
	b, err := store.GetRange(context.Background(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pq.Read[T](bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return rows
}

func TestConformance(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, rows := range []int{1_000_000, 17} { // one cut for each epoch, and several
		t.Run(fmt.Sprintf("cut at %d", rows), func(t *testing.T) {
			pipelinetest.TestSink(t, pipelinetest.SinkTest{
				Place: func(t *testing.T) pipelinetest.SinkPlace {
					local, err := pipeline.NewLocalStore(t.TempDir(), noSync())
					if err != nil {
						t.Fatal(err)
					}
					faults := &pipelinetest.Faults{}
					cfg := testConfig()
					cfg.MaxStageRows, cfg.Codec = rows, "none" // the codecs have tests of their own
					return pipelinetest.SinkPlace{
						Open: func() (pipeline.Sink, error) {
							return New(cfg, pipelinetest.FaultStore{Store: local, Faults: faults}, readingSchema)
						},
						Read: func() ([]string, error) {
							var out []string
							for _, name := range parquetNames(t, local) {
								for _, r := range readRows[reading](t, local, name) {
									out = append(out, r.data())
								}
							}
							return out, nil
						},
						Leftovers: func() ([]string, error) {
							objects, err := local.List(context.Background(), stagingDir)
							var out []string
							for _, o := range objects {
								out = append(out, o.Name)
							}
							return out, err
						},
						Faults: faults,
					}
				},
				Batch: func(n int64) arrow.RecordBatch { return readingBatch(mem, readings(n, 40)) },
				Want: func(n int64) []string {
					var out []string
					for _, r := range readings(n, 40) {
						out = append(out, r.data())
					}
					return out
				},
			})
		})
	}
}

// noSync is the machine's file system without the waiting.
func noSync() pipeline.FS {
	fsys := pipeline.DefaultFS()
	fsys.SyncDir = func(string) error { return nil }
	create := fsys.Create
	fsys.Create = func(path string) (pipeline.File, error) {
		f, err := create(path)
		return unsynced{f}, err
	}
	return fsys
}

type unsynced struct{ pipeline.File }

func (unsynced) Sync() error { return nil }

func newStore(t *testing.T) *pipeline.LocalStore {
	t.Helper()
	s, err := pipeline.NewLocalStore(t.TempDir(), pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stageAll writes batches as one epoch and publishes it.
func stageAll(t *testing.T, s *Sink, n int64, recs ...arrow.RecordBatch) receipt {
	t.Helper()
	ctx := t.Context()
	st, err := s.Begin(ctx, pipeline.Epoch{Job: s.cfg.Job, Lineage: 3, N: n})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range recs {
		if err := st.Write(ctx, pipeline.Result(rec)); err != nil {
			t.Fatal(err)
		}
		rec.Release()
	}
	raw, err := st.Prepare(ctx, pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(ctx, raw); err != nil {
		t.Fatal(err)
	}
	r, err := s.open(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLayout(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	rows := []reading{
		{Key: "b", Time: new(int64(baseUS))},
		{Key: "a", Time: new(int64(baseUS + hourUS - 1))},
		{Key: "late", Time: new(int64(baseUS + hourUS))},
		{Key: "none"},
		{Key: "far", Time: new(int64(pipeline.MaxEventTime))},
		{Key: "before 1970", Time: new(int64(-1))},
	}
	for _, c := range []struct {
		by   pipeline.PartitionBy
		want string
	}{
		{pipeline.PartitionHour, `t/dt=1969-12-31/hour=23/part-j%2F1-3-9-1.parquet before 1970
t/dt=2026-11-22/hour=05/part-j%2F1-3-9-2.parquet a b
t/dt=2026-11-22/hour=06/part-j%2F1-3-9-3.parquet late
t/dt=__far__/hour=__far__/part-j%2F1-3-9-4.parquet far
t/dt=__null__/hour=__null__/part-j%2F1-3-9-0.parquet none`},
		{pipeline.PartitionDay, `t/dt=1969-12-31/part-j%2F1-3-9-1.parquet before 1970
t/dt=2026-11-22/part-j%2F1-3-9-2.parquet a b late
t/dt=__far__/part-j%2F1-3-9-3.parquet far
t/dt=__null__/part-j%2F1-3-9-0.parquet none`},
		{pipeline.PartitionNone, `t/part-j%2F1-3-9-0.parquet a b before 1970 far late none`},
	} {
		cfg := testConfig()
		cfg.Job, cfg.Table, cfg.PartitionBy, cfg.SortBy = "j/1", "t", c.by, []string{"key"}
		store := newStore(t)
		s, err := New(cfg, store, readingSchema)
		if err != nil {
			t.Fatal(err)
		}
		r := stageAll(t, s, 9, readingBatch(mem, rows))
		var got []string
		for _, name := range parquetNames(t, store) {
			line := name
			for _, row := range readRows[reading](t, store, name) {
				line += " " + row.Key
			}
			got = append(got, line)
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("by %s:\n%s\nwant:\n%s", c.by, text, c.want)
		}

		// The manifest log has the same files, with their time ranges.
		logged, err := store.List(t.Context(), logDir+"/")
		if err != nil || len(logged) != 1 || logged[0].Name != "_tidemark/log/t/00003-0000000009-j%2F1.json" {
			t.Fatalf("log: %v %v", logged, err)
		}
		body, err := store.GetRange(t.Context(), logged[0].Name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		var e entry
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		if e.Rows != int64(len(rows)) || e.Epoch != 9 || e.Lineage != 3 || e.Job != "j/1" || e.Table != "t" || len(e.Added) != len(r.Files) {
			t.Errorf("manifest entry %+v", e)
		}
		for i, f := range e.Added {
			size, sum, err := hashObject(t.Context(), store, f.Final)
			if err != nil || size != f.Size || sum != f.XXH64 || f.Staging != "" || f.Final != r.Files[i].Final {
				t.Errorf("manifest file %+v: size %d hash %s %v", f, size, sum, err)
			}
			if strings.Contains(f.Final, "__null__") != (f.MinTime == nil) {
				t.Errorf("manifest file %+v: time range", f)
			}
			if strings.Contains(f.Final, "hour=05") && (*f.MinTime != baseUS || *f.MaxTime != baseUS+hourUS-1) {
				t.Errorf("manifest file %s: times %d to %d", f.Final, *f.MinTime, *f.MaxTime)
			}
		}
	}
}

// TestFiles looks at the files as a reader with a plan does: row groups, page index,
// sorting columns, metadata, statistics.
func TestFiles(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, codec := range []string{"zstd", "snappy", "none"} {
		cfg := testConfig()
		cfg.PartitionBy, cfg.RowGroupRows, cfg.Codec = pipeline.PartitionNone, 1500, codec
		store := newStore(t)
		s, err := New(cfg, store, readingSchema)
		if err != nil {
			t.Fatal(err)
		}
		rows := readings(1, 4000)
		r := stageAll(t, s, 1, readingBatch(mem, rows[:3]), readingBatch(mem, rows[3:2500]), readingBatch(mem, rows[2500:]))
		if len(r.Files) != 1 {
			t.Fatalf("%d files", len(r.Files))
		}
		f, err := pq.OpenFile(&objectReader{ctx: t.Context(), store: store, name: r.Files[0].Final, size: r.Files[0].Size, sum: xxhash.New()}, r.Files[0].Size)
		if err != nil {
			t.Fatal(err)
		}
		var groups []int64
		for _, g := range f.RowGroups() {
			groups = append(groups, g.NumRows())
			if sorted := g.SortingColumns(); len(sorted) != 2 || !slices.Equal(sorted[0].Path(), []string{"key"}) || !sorted[0].NullsFirst() {
				t.Errorf("sorting columns %v", sorted)
			}
			index, err := g.ColumnChunks()[0].ColumnIndex()
			if err != nil || index.NumPages() == 0 {
				t.Errorf("column index: %v", err)
			}
		}
		if !slices.Equal(groups, []int64{1500, 1500, 1000}) {
			t.Errorf("row groups %v", groups)
		}
		if v, ok := f.Lookup("tidemark.epoch"); !ok || v != "1" {
			t.Errorf("metadata epoch %q %v", v, ok)
		}
		var names []string
		for _, field := range f.Schema().Fields() {
			names = append(names, field.Name())
		}
		if want := []string{"time", "key", "value", "_tm_ver", "_tm_lineage", "_tm_epoch"}; !slices.Equal(names, want) {
			t.Errorf("columns %v, want %v", names, want)
		}
		got := readRows[reading](t, store, r.Files[0].Final)
		slices.SortStableFunc(rows, func(a, b reading) int {
			if c := strings.Compare(a.Key, b.Key); c != 0 {
				return c
			}
			switch {
			case a.Time == nil && b.Time == nil:
				return 0
			case a.Time == nil:
				return -1
			case b.Time == nil:
				return 1
			}
			return int(*a.Time - *b.Time)
		})
		if len(got) != len(rows) {
			t.Fatalf("%s: %d rows, want %d", codec, len(got), len(rows))
		}
		for i := range got {
			if got[i].String() != rows[i].String() {
				t.Fatalf("%s: row %d: %s, want %s", codec, i, got[i], rows[i])
			}
		}
	}
}

func TestRoll(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, c := range []struct {
		name  string
		rows  int
		bytes int64
		files int
	}{{"rows", 250, 1 << 30, 4}, {"bytes", 1 << 30, 1, 10}, {"neither", 1 << 30, 1 << 30, 1}} {
		cfg := testConfig()
		cfg.PartitionBy, cfg.MaxStageRows, cfg.MaxStageBytes = pipeline.PartitionNone, c.rows, c.bytes
		store := newStore(t)
		s, err := New(cfg, store, readingSchema)
		if err != nil {
			t.Fatal(err)
		}
		var recs []arrow.RecordBatch
		for range 10 {
			recs = append(recs, readingBatch(mem, readings(1, 100)))
		}
		r := stageAll(t, s, 1, recs...)
		rows := 0
		for _, f := range r.Files {
			rows += len(readRows[reading](t, store, f.Final))
		}
		if len(r.Files) != c.files || rows != 1000 {
			t.Errorf("%s: %d files with %d rows, want %d with 1000", c.name, len(r.Files), rows, c.files)
		}
	}
}

// TestPublishRefuses covers what no repetition repairs: it must be said, and nothing may
// be overwritten.
func TestPublishRefuses(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	prepare := func(t *testing.T) (*Sink, *pipeline.LocalStore, pipeline.Receipt, receipt) {
		store := newStore(t)
		cfg := testConfig()
		cfg.PartitionBy = pipeline.PartitionNone
		s, err := New(cfg, store, readingSchema)
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.Begin(t.Context(), pipeline.Epoch{Job: cfg.Job, Lineage: 3, N: 1})
		if err != nil {
			t.Fatal(err)
		}
		rec := readingBatch(mem, readings(1, 10))
		defer rec.Release()
		if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
			t.Fatal(err)
		}
		raw, err := st.Prepare(t.Context(), pipeline.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.open(raw)
		if err != nil {
			t.Fatal(err)
		}
		return s, store, raw, r
	}
	t.Run("lost", func(t *testing.T) {
		s, store, raw, r := prepare(t)
		if err := store.Delete(t.Context(), r.Files[0].Staging); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "is lost") {
			t.Errorf("publish without a staged object: %v", err)
		}
	})
	t.Run("other final", func(t *testing.T) {
		s, store, raw, r := prepare(t)
		if err := store.Put(t.Context(), r.Files[0].Final, []byte("other")); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "another writer") {
			t.Errorf("publish over another file: %v", err)
		}
		if b, err := store.GetRange(t.Context(), r.Files[0].Final, 0, -1); err != nil || string(b) != "other" {
			t.Errorf("the other file is %q, %v", b, err)
		}
	})
	t.Run("other log entry", func(t *testing.T) {
		s, store, raw, _ := prepare(t)
		if err := store.Put(t.Context(), s.cfg.logName(3, 1), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "manifest entry") {
			t.Errorf("publish beside another manifest entry: %v", err)
		}
	})
	t.Run("other table", func(t *testing.T) {
		s, _, raw, _ := prepare(t)
		s.cfg.Table = "renamed"
		if err := s.Publish(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "renamed") {
			t.Errorf("publish of another table's receipt: %v", err)
		}
	})
	t.Run("path", func(t *testing.T) {
		s, _, _, r := prepare(t)
		r.Files[0].Final = "elsewhere/x.parquet"
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "outside the table") {
			t.Errorf("publish to a path outside the table: %v", err)
		}
	})
}

func TestStageRefuses(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store := newStore(t)
	s, err := New(testConfig(), store, readingSchema)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := s.Begin(ctx, pipeline.Epoch{Job: "other", N: 1}); err == nil {
		t.Error("Begin of another job's epoch returned nil")
	}
	if _, err := s.Begin(ctx, pipeline.Epoch{Job: s.cfg.Job, N: 1 << 32}); err == nil {
		t.Error("Begin of an epoch beyond 32 bits returned nil")
	}
	st, err := s.Begin(ctx, pipeline.Epoch{Job: s.cfg.Job, N: 1})
	if err != nil {
		t.Fatal(err)
	}
	other := pipelinetest.Record(mem, []pipelinetest.Row{{Key: "x"}})
	defer other.Release()
	if err := st.Write(ctx, pipeline.Result(other)); err == nil || !strings.Contains(err.Error(), "columns") {
		t.Errorf("Write of another schema: %v", err)
	}
	// A revision that does not fit fails the stage, and the staged files go.
	bad := readingBatch(mem, []reading{{Key: "x", Time: new(int64(0))}, {Key: "y", Time: new(int64(hourUS)), Revision: -1}})
	defer bad.Release()
	if err := st.Write(ctx, pipeline.Result(bad)); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Prepare(ctx, pipeline.Mark{}); err == nil || !strings.Contains(err.Error(), "revision -1") {
		t.Errorf("Prepare with a bad revision: %v", err)
	}
	if left, err := store.List(ctx, ""); err != nil || len(left) != 0 {
		t.Errorf("left after a failed Prepare: %v %v", left, err)
	}
}

func TestConfig(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Errorf("default configuration: %v", err)
	}
	bad := Config{Table: "_x/../y", PartitionBy: "week", Codec: "lzma", RowGroupRows: MaxRowGroupRows + 1, Verify: "never", MaxStageRows: 0, MaxStageBytes: -1}
	err := bad.Validate()
	for _, want := range []string{"job", "table", "partition_by", "codec", "row_group_rows", "verify", "max_stage_rows", "max_stage_bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not name %s: %v", want, err)
		}
	}
	for _, c := range []struct {
		want   string
		fields []arrow.Field
		change func(*Config)
	}{
		{"partition", []arrow.Field{{Name: "x", Type: arrow.BinaryTypes.String}}, nil},
		{"not in the schema", nil, func(c *Config) { c.SortBy = []string{"nope"} }},
		{"want bool", []arrow.Field{{Name: "_tm_del", Type: arrow.PrimitiveTypes.Uint8}}, nil},
		{"want bool", []arrow.Field{{Name: "_tm_del", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}}, nil},
		{"name is taken", []arrow.Field{{Name: "_tm_ver", Type: arrow.PrimitiveTypes.Int64}}, nil},
		{"want int32", []arrow.Field{{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int64}}, nil},
		{"timestamp[us]", []arrow.Field{{Name: "t", Type: arrow.FixedWidthTypes.Timestamp_ns}}, nil},
		{"without fields", []arrow.Field{{Name: "s", Type: arrow.StructOf()}}, nil},
		{"map<string, string>", []arrow.Field{{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)}}, nil},
		{"no Parquet column", []arrow.Field{{Name: "d", Type: arrow.FixedWidthTypes.Date32}}, nil},
		{"tidemark.scale", []arrow.Field{{Name: "d", Type: arrow.PrimitiveTypes.Int64, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "19"})}}, nil},
	} {
		cfg := testConfig()
		cfg.PartitionBy, cfg.SortBy = pipeline.PartitionNone, nil
		schema := readingSchema
		if c.fields != nil {
			schema = arrow.NewSchema(c.fields, nil)
		}
		if c.want == "partition" {
			cfg.PartitionBy = pipeline.PartitionHour
		}
		if c.change != nil {
			c.change(&cfg)
		}
		if _, err := New(cfg, newStore(t), schema); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New = %v, want %q", err, c.want)
		}
	}
	if _, err := New(Config{}, newStore(t), readingSchema); err == nil {
		t.Error("New with an empty configuration returned nil")
	}
}

func TestSegment(t *testing.T) {
	for in, want := range map[string]string{
		"plain-1_x.y": "plain-1_x.y", "a/b": "a%2Fb", "..": "%2E.", "dt=1": "dt%3D1", "ü": "%C3%BC", "50%": "50%25", "a\x00": "a%00",
	} {
		if got := segment(in); got != want {
			t.Errorf("segment(%q) = %q, want %q", in, got, want)
		}
	}
	if got := folder("ocsf/net work"); got != filepath.ToSlash("ocsf/net%20work") {
		t.Errorf("folder = %q", got)
	}
}

// TestEncoderPanic: a panic below the encoder fails the epoch, not the process.
func TestEncoderPanic(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s, err := New(testConfig(), newStore(t), readingSchema)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: s.cfg.Job, N: 1})
	if err != nil {
		t.Fatal(err)
	}
	rec := readingBatch(mem, readings(1, 10))
	defer rec.Release()
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	g := st.(*stage)
	g.columns = append(g.columns, panicColumn{})
	if _, err := st.Prepare(t.Context(), pipeline.Mark{}); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("Prepare = %v", err)
	}
}

type panicColumn struct{}

func (panicColumn) bind([]arrow.RecordBatch) error { return nil }
func (panicColumn) write([]columnOut, []pipeline.RowRef) error {
	panic(errors.New("boom"))
}

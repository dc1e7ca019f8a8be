package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

var readingSchema = arrow.NewSchema([]arrow.Field{
	{Name: "time", Type: pipeline.Timestamp, Nullable: true},
	{Name: "device", Type: arrow.StructOf(arrow.Field{Name: "uid", Type: arrow.BinaryTypes.String})},
	{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
	{Name: "value", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "1"})},
}, nil)

// julyUS is 2026-07-31T23:00:00Z.
const julyUS = 1785538800 * 1000 * 1000

type reading struct {
	time  *int64
	uid   string
	value *int64
}

// readings makes n rows of an epoch in two months, some without time or value.
func readings(epoch int64, n int) []reading {
	rows := make([]reading, n)
	for i := range rows {
		rows[i].uid = fmt.Sprintf("device-%d-%d", epoch, (i*7)%n)
		if i%11 != 4 {
			rows[i].time = new(int64(julyUS + int64(i%3)*3600*1000*1000))
		}
		if i%7 != 3 {
			rows[i].value = new(int64(i))
		}
	}
	return rows
}

func readingBatch(mem memory.Allocator, rows []reading) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, readingSchema)
	defer b.Release()
	for _, r := range rows {
		if r.time == nil {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(*r.time))
		}
		d := b.Field(1).(*array.StructBuilder)
		d.Append(true)
		d.FieldBuilder(0).(*array.StringBuilder).Append(r.uid)
		b.Field(2).(*array.Int32Builder).Append(0)
		if r.value == nil {
			b.Field(3).AppendNull()
		} else {
			b.Field(3).(*array.Int64Builder).Append(*r.value)
		}
	}
	return b.NewRecordBatch()
}

func readingTexts(rows []reading) []string {
	var out []string
	for _, r := range rows {
		at, value := "(null)", "(null)"
		if r.time != nil {
			at = time.UnixMicro(*r.time).UTC().Format("2006-01-02T15:04:05Z")
		}
		if r.value != nil {
			value = fmt.Sprint(*r.value)
		}
		out = append(out, fmt.Sprintf("%s %s %s ", at, r.uid, value))
	}
	return out
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Job, cfg.URL, cfg.Table = pipelinetest.SinkJob, "http://localhost:8123", "assets"
	cfg.OrderBy = []string{"device.uid", "time"}
	cfg.BlockRows = 9
	return cfg
}

// openModel makes a sink that talks to a model.
func openModel(cfg Config, store pipeline.Store, mem memory.Allocator, m *model) (*Sink, error) {
	s, err := newSink(cfg, store, readingSchema, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	s.mem, s.server = mem, m
	s.pause = func(int) time.Duration { return time.Millisecond }
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info = tableInfo{engine: "ReplacingMergeTree", full: "ReplacingMergeTree(_tm_ver, _tm_del) ORDER BY x", sorted: "(`" + strings.Join(cfg.OrderBy, "`, `") + "`)",
		columns: map[string]string{}, window: dedupWindow{blocks: 10000}}
	if cfg.Append {
		m.info.engine = "MergeTree"
	}
	for _, c := range append(s.cols, column{name: colVersion}, column{name: colDeleted}, column{name: colLineage}, column{name: colEpoch}, column{name: colBlock}) {
		m.info.columns[c.name] = c.typ
	}
	return s, nil
}

func newStore(t *testing.T) *pipeline.LocalStore {
	t.Helper()
	fsys := pipeline.DefaultFS()
	fsys.SyncDir = func(string) error { return nil }
	s, err := pipeline.NewLocalStore(t.TempDir(), fsys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, c := range []struct {
		name   string
		rows   int
		window int
	}{{"window", 1_000_000, 1000}, {"several cuts", 25, 1000}, {"no window", 1_000_000, 0}} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.TestSink(t, pipelinetest.SinkTest{
				Place: func(t *testing.T) pipelinetest.SinkPlace {
					local := newStore(t)
					faults := &pipelinetest.Faults{}
					m := newModel(faults)
					m.window = c.window
					cfg := testConfig()
					cfg.MaxStageRows = c.rows
					return pipelinetest.SinkPlace{
						Open: func() (pipeline.Sink, error) {
							return openModel(cfg, pipelinetest.FaultStore{Store: local, Faults: faults}, mem, m)
						},
						Read: func() ([]string, error) {
							var out []string
							for _, r := range m.rows {
								out = append(out, r.text)
							}
							return out, nil
						},
						Leftovers: func() ([]string, error) {
							objects, err := local.List(context.Background(), "sealed/")
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
				Want:  func(n int64) []string { return readingTexts(readings(n, 40)) },
			})
		})
	}
}

// seal prepares one epoch.
func seal(t *testing.T, s *Sink, n int64, rec arrow.RecordBatch) pipeline.Receipt {
	t.Helper()
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: s.cfg.Job, Lineage: 3, N: n})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	raw, err := st.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func encode(t *testing.T, r receipt) pipeline.Receipt {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// rig is a sink, its model and a sealed epoch of 40 rows.
type rig struct {
	mem   *memory.CheckedAllocator
	cfg   Config
	store *pipeline.LocalStore
	model *model
	sink  *Sink
	raw   pipeline.Receipt
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{mem: memory.NewCheckedAllocator(memory.NewGoAllocator()), cfg: testConfig(), store: newStore(t), model: newModel(nil)}
	if change != nil {
		change(&r.cfg)
	}
	r.open(t)
	rec := readingBatch(r.mem, readings(1, 40))
	r.raw = seal(t, r.sink, 1, rec)
	rec.Release()
	t.Cleanup(func() { r.mem.AssertSize(t, 0) })
	return r
}

func (r *rig) open(t *testing.T) {
	t.Helper()
	s, err := openModel(r.cfg, r.store, r.mem, r.model)
	if err != nil {
		t.Fatal(err)
	}
	r.sink = s
}

func (r *rig) wantRows(t *testing.T, n int) {
	t.Helper()
	texts := map[string]int{}
	for _, row := range r.model.rows {
		texts[row.text]++
	}
	if len(r.model.rows) != n || n == 40 && len(texts) != 40 {
		t.Errorf("%d rows in the table, %d different; want %d", len(r.model.rows), len(texts), n)
	}
}

// TestOutcomes drives a sink through what a server may answer to an INSERT. Each answer
// hits the first block; the rows in the end say whether the sink drew the right
// conclusion.
func TestOutcomes(t *testing.T) {
	fail := func(err error) func(insertion) error { return func(insertion) error { return err } }
	for _, c := range []struct {
		name    string
		window  int
		script  func(m *model) []func(insertion) error
		inserts int // beyond one for each block
	}{
		{"refused, then accepted", 0, func(*model) []func(insertion) error {
			return []func(insertion) error{fail(exception(252)), fail(exception(241)), fail(exception(242))}
		}, 3},
		{"written, answer lost, token forgotten", 0, func(m *model) []func(insertion) error {
			return []func(insertion) error{m.lost}
		}, 0},
		{"not written, connection lost", 0, func(*model) []func(insertion) error {
			return []func(insertion) error{fail(errors.New("broken pipe")), fail(context.DeadlineExceeded)}
		}, 2},
		{"unknown status", 0, func(m *model) []func(insertion) error {
			return []func(insertion) error{func(in insertion) error { m.land(in); return exception(319) }}
		}, 0},
		{"a code nobody knows", 0, func(m *model) []func(insertion) error {
			return []func(insertion) error{func(in insertion) error { m.land(in); return exception(9999) }}
		}, 0},
		{"lands after it was sent again", 1000, func(m *model) []func(insertion) error {
			return []func(insertion) error{m.landLater}
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.model.window = c.window
			r.model.script = c.script(r.model)
			if err := r.sink.Publish(t.Context(), r.raw); err != nil {
				t.Fatal(err)
			}
			r.model.landed()
			r.wantRows(t, 40)
			rc, err := r.sink.open(r.raw)
			if err != nil {
				t.Fatal(err)
			}
			if want := len(rc.Blocks) + c.inserts; r.model.inserts != want {
				t.Errorf("%d inserts, want %d", r.model.inserts, want)
			}
			if len(r.model.commits) != 1 || r.model.commits[0].rows != 40 || r.model.commits[0].blocks != uint32(len(rc.Blocks)) {
				t.Errorf("commits %+v", r.model.commits)
			}
		})
	}
}

func TestFixNeeded(t *testing.T) {
	for _, code := range []int32{60, 516, 53} {
		r := newRig(t, nil)
		r.model.script = []func(insertion) error{func(insertion) error { return exception(code) }}
		err := r.sink.Publish(t.Context(), r.raw)
		if err == nil || !strings.Contains(err.Error(), "no repetition helps") {
			t.Errorf("code %d: Publish = %v", code, err)
		}
		r.wantRows(t, 0)
		// Once it is fixed the same receipt is published, by the same process or another.
		if code == 60 {
			r.open(t)
		}
		if err := r.sink.Publish(t.Context(), r.raw); err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 40)
	}
}

// TestRestartForgottenTokens: the first process dies after some blocks, the server forgets
// every token, the next process sends exactly the missing blocks.
func TestRestartForgottenTokens(t *testing.T) {
	for blocks := 0; blocks <= 6; blocks++ {
		r := newRig(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		r.model.script = make([]func(insertion) error, blocks)
		r.model.script = append(r.model.script, func(insertion) error { cancel(); return context.Canceled })
		err := r.sink.Publish(ctx, r.raw)
		cancel()
		if blocks < 6 && !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d blocks: Publish = %v", blocks, err)
		}
		before := r.model.inserts
		r.model.tokens, r.model.script = nil, nil
		r.open(t)
		if err := r.sink.Publish(t.Context(), r.raw); err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 40)
		rc, err := r.sink.open(r.raw)
		if err != nil {
			t.Fatal(err)
		}
		if want := max(0, len(rc.Blocks)-blocks); blocks <= len(rc.Blocks) && r.model.inserts-before != want {
			t.Errorf("after %d of %d blocks the next process sent %d, want %d", blocks, len(rc.Blocks), r.model.inserts-before, want)
		}
	}
}

// TestReplacedRows: background merges have removed older revisions of a block's keys; the
// block was written all the same. In an append table nothing may be missing.
func TestReplacedRows(t *testing.T) {
	for _, appendOnly := range []bool{false, true} {
		r := newRig(t, func(c *Config) { c.Append = appendOnly })
		ctx, cancel := context.WithCancel(t.Context())
		r.model.script = []func(insertion) error{nil, func(insertion) error { cancel(); return context.Canceled }}
		if err := r.sink.Publish(ctx, r.raw); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
		r.model.rows = r.model.rows[1:]
		r.open(t)
		err := r.sink.Publish(t.Context(), r.raw)
		if appendOnly {
			if err == nil || !strings.Contains(err.Error(), "delete the rows WHERE") {
				t.Errorf("append table with a row missing: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 39)
	}
}

func TestAtLeastOnce(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Delivery, c.URL = AtLeastOnce, "clickhouse://localhost:9000" })
	r.model.window = 0
	r.model.script = []func(insertion) error{r.model.lost}
	if err := r.sink.Publish(t.Context(), r.raw); err != nil {
		t.Fatal(err)
	}
	rc, err := r.sink.open(r.raw)
	if err != nil {
		t.Fatal(err)
	}
	r.wantRows(t, 40+int(rc.Blocks[0].Rows)) // the first block is there twice, none is missing
}

// TestUpsert: a block whose outcome is unknown is sent again without a look; what is there
// twice has the same key and version.
func TestUpsert(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Delivery, c.URL = Upsert, "clickhouse://localhost:9000" })
	r.model.window = 0
	r.model.script = []func(insertion) error{r.model.lost}
	if err := r.sink.Publish(t.Context(), r.raw); err != nil {
		t.Fatal(err)
	}
	texts := map[string]int{}
	for _, row := range r.model.rows {
		texts[row.text]++
	}
	if len(texts) != 40 || len(r.model.rows) == 40 {
		t.Errorf("%d rows, %d different; want 40 different and some of them twice", len(r.model.rows), len(texts))
	}
}

func TestRefusals(t *testing.T) {
	t.Run("lost object", func(t *testing.T) {
		r := newRig(t, nil)
		rc, err := r.sink.open(r.raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.store.Delete(t.Context(), rc.Object); err != nil {
			t.Fatal(err)
		}
		if err := r.sink.Publish(t.Context(), r.raw); err == nil || !strings.Contains(err.Error(), "neither in tm_commits nor in the store") {
			t.Errorf("Publish = %v", err)
		}
	})
	t.Run("damaged object", func(t *testing.T) {
		r := newRig(t, nil)
		rc, err := r.sink.open(r.raw)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.store.GetRange(t.Context(), rc.Object, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := r.store.Put(t.Context(), rc.Object, b); err != nil {
			t.Fatal(err)
		}
		if err := r.sink.Publish(t.Context(), r.raw); err == nil || !strings.Contains(err.Error(), "hash") {
			t.Errorf("Publish = %v", err)
		}
		r.wantRows(t, 0)
	})
	t.Run("other commit", func(t *testing.T) {
		r := newRig(t, nil)
		r.model.commits = []commit{{job: r.cfg.Job, table: "default.assets", lineage: 3, epoch: 1, blocks: 1, rows: 1, hash: "x"}}
		r.open(t)
		r.sink.fresh = map[string]bool{}
		if err := r.sink.Publish(t.Context(), r.raw); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("Publish = %v", err)
		}
	})
	t.Run("other job", func(t *testing.T) {
		r := newRig(t, nil)
		r.model.commits = []commit{{job: "somebody", table: "default.assets"}}
		if err := r.sink.Publish(t.Context(), r.raw); err == nil || !strings.Contains(err.Error(), "belongs to job somebody") {
			t.Errorf("Publish = %v", err)
		}
	})
	t.Run("too many rows", func(t *testing.T) {
		r := newRig(t, nil)
		r.model.rows = slices.Repeat([]modelRow{{"x", 3, 1, 0}}, 100)
		r.open(t)
		if err := r.sink.Publish(t.Context(), r.raw); err == nil || !strings.Contains(err.Error(), "delete the rows WHERE") {
			t.Errorf("Publish = %v", err)
		}
	})
	for _, c := range []struct {
		name   string
		change func(*model, *Config)
		want   string
	}{
		{"no table", func(m *model, c *Config) { m.made, c.Create = false, "never" }, "does not exist"},
		{"no window", func(m *model, c *Config) { m.info.window = dedupWindow{} }, "MODIFY SETTING non_replicated_deduplication_window"},
		{"distributed", func(m *model, c *Config) { m.info.engine = "Distributed" }, "local tables"},
		{"buffer", func(m *model, c *Config) { m.info.engine, c.Delivery = "Buffer", AtLeastOnce }, "table behind it"},
		{"upsert into a plain table", func(m *model, c *Config) { m.info.engine, c.Delivery = "MergeTree", Upsert }, "results need ReplacingMergeTree(_tm_ver, _tm_del)"},
		{"another version", func(m *model, c *Config) { m.info.full = "ReplacingMergeTree(seq) ORDER BY x" }, "version of its ReplacingMergeTree must be _tm_ver"},
		{"another sort key", func(m *model, c *Config) { m.info.sorted = "time" }, "is sorted by (time), want (device.uid, time)"},
		{"another type", func(m *model, c *Config) { m.info.columns["value"] = "Int64" }, "MODIFY COLUMN `value` Nullable(Decimal(18, 1))"},
		{"missing column", func(m *model, c *Config) { delete(m.info.columns, "device.uid") }, "ADD COLUMN `device.uid` String CODEC(ZSTD(1))"},
		{"missing own column", func(m *model, c *Config) { delete(m.info.columns, colBlock) }, "tidemark ddl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			c.change(r.model, &r.sink.cfg)
			if err := r.sink.Publish(t.Context(), r.raw); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Publish = %v, want %q", err, c.want)
			}
		})
	}
}

// TestForget: the object of an epoch stays until the next one is published.
func TestForget(t *testing.T) {
	r := newRig(t, nil)
	count := func() int {
		objects, err := r.store.List(t.Context(), "sealed/")
		if err != nil {
			t.Fatal(err)
		}
		return len(objects)
	}
	if err := r.sink.Publish(t.Context(), r.raw); err != nil {
		t.Fatal(err)
	}
	if count() != 1 {
		t.Errorf("%d objects after the first epoch, want 1", count())
	}
	rec := readingBatch(r.mem, readings(2, 10))
	defer rec.Release()
	if err := r.sink.Publish(t.Context(), seal(t, r.sink, 2, rec)); err != nil {
		t.Fatal(err)
	}
	if count() != 1 {
		t.Errorf("%d objects after the second epoch, want 1", count())
	}
}

func TestBlocks(t *testing.T) {
	r := newRig(t, nil)
	rc, err := r.sink.open(r.raw)
	if err != nil {
		t.Fatal(err)
	}
	// 40 rows: 4 without a time, 13 in July, 23 in August, cut at 9.
	var sizes []int64
	for _, b := range rc.Blocks {
		sizes = append(sizes, b.Rows)
	}
	if !slices.Equal(sizes, []int64{4, 9, 4, 9, 9, 5}) {
		t.Errorf("blocks of %v rows", sizes)
	}
	months := map[int]bool{}
	err = r.sink.readBlocks(t.Context(), rc, func(n int, rec arrow.RecordBatch) error {
		at, uid := rec.Column(0).(*array.Timestamp), rec.Column(1).(*array.String)
		seen := map[int64]bool{}
		for i := range int(rec.NumRows()) {
			p := pipeline.NullPartition
			if at.IsValid(i) {
				p = r.cfg.PartitionBy.Of(int64(at.Value(i)))
			}
			seen[p] = true
			if i > 0 && uid.Value(i) < uid.Value(i-1) {
				t.Errorf("block %d: row %d is out of order", n, i)
			}
			if v := rec.Column(3).(*array.Uint64).Value(i); v != 3<<48|1<<16 {
				t.Errorf("version %x", v)
			}
		}
		if len(seen) != 1 {
			t.Errorf("block %d has %d partitions", n, len(seen))
		}
		months[n] = true
		return nil
	})
	if err != nil || len(months) != 6 {
		t.Errorf("%d blocks read, %v", len(months), err)
	}
	if tok := rc.token(2); !strings.HasPrefix(tok, "tm1/conformance job/3/default.assets/1/2/") || !strings.HasSuffix(tok, rc.Blocks[2].XXH64) {
		t.Errorf("token %s", tok)
	}
	// The same rows give the same blocks and hashes, so the same tokens.
	rec := readingBatch(r.mem, readings(1, 40))
	defer rec.Release()
	r.open(t)
	again, err := r.sink.open(seal(t, r.sink, 1, rec))
	if err != nil || !slices.Equal(again.Blocks, rc.Blocks) {
		t.Errorf("sealed again: %v, %v", again.Blocks, err)
	}
}

func TestTimeRange(t *testing.T) {
	r := newRig(t, nil)
	for _, ticks := range []int64{minTime64 - 1, maxTime64 + 1} {
		rec := readingBatch(r.mem, []reading{{time: &ticks, uid: "x"}})
		st, err := r.sink.Begin(t.Context(), pipeline.Epoch{Job: r.cfg.Job, Lineage: 3, N: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		if _, err := st.Prepare(t.Context(), pipeline.Mark{}); err == nil || !strings.Contains(err.Error(), "1900 to 2262") {
			t.Errorf("time %d: Prepare = %v", ticks, err)
		}
	}
}

func TestPasswordStaysHidden(t *testing.T) {
	cfg := testConfig()
	cfg.Password, cfg.URL = "s3cret-word", "http://127.0.0.1:1"
	s, err := New(cfg, newStore(t), readingSchema, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = s.Check(ctx)
	if err == nil || strings.Contains(err.Error(), string(cfg.Password)) || strings.Contains(err.Error(), "?") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("Check without a server = %v", err)
	}
	request := &url.Error{Op: "Post", URL: "http://user@h:8123?query=INSERT&x=y", Err: http.ErrServerClosed}
	if got := redacted(fmt.Errorf("send: %w", request), ""); got.Error() != `send: Post "http://h:8123": http: Server closed` {
		t.Errorf("redacted: %v", got)
	}
	leak := redacted(fmt.Errorf("get http://u:%s@h: %w", string(cfg.Password), http.ErrServerClosed), string(cfg.Password))
	if strings.Contains(leak.Error(), string(cfg.Password)) || !errors.Is(leak, http.ErrServerClosed) {
		t.Errorf("redacted: %v", leak)
	}
}

func TestConfig(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{URL: "http://u:p@h", Database: "a.b", Table: "x`y", Delivery: "twice", Create: "perhaps", PartitionBy: "hour", TTLDays: -1, BlockRows: MaxBlockRows + 1}
	err := bad.Validate()
	for _, want := range []string{"job", "url", "database", "table", "delivery", "create", "partition_by", "time_column", "order_by", "ttl_days", "block_rows", "attempt_timeout", "dedup_window", "max_stage_rows", "max_stage_bytes", "max_pending_bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not name %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "u:p") {
		t.Errorf("Validate shows the password: %v", err)
	}
	upsert := testConfig()
	upsert.Delivery, upsert.Append = Upsert, true
	if err := upsert.Validate(); err == nil || !strings.Contains(err.Error(), "upsert needs rows that replace each other") {
		t.Errorf("upsert of appended rows: %v", err)
	}
	native := testConfig()
	native.URL = "clickhouse://localhost:9000"
	if err := native.Validate(); err == nil || !strings.Contains(err.Error(), "exactly_once needs the HTTP protocol") {
		t.Errorf("native exactly_once: %v", err)
	}
}

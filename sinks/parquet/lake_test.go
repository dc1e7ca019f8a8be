package parquet

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// seen is an event as most tests of the layout write it.
type seen struct {
	Cloud *seenCloud `parquet:"cloud,optional"`
	Class int32      `parquet:"class_uid"`
	Text  string     `parquet:"message,dict"`
	Tags  []string   `parquet:"tags,optional,list"`
	Time  int64      `parquet:"time"`
	Exact *int64     `parquet:"time_dt,optional,timestamp(millisecond)"`
}

type seenCloud struct {
	Account string `parquet:"account_uid,optional"`
}

func (s seen) String() string {
	account := "none"
	if s.Cloud != nil {
		account = s.Cloud.Account
	}
	return fmt.Sprint(s.Time, " ", account, " ", s.Text, " ", s.Tags)
}

var seenSchema = arrow.NewSchema([]arrow.Field{
	{Name: "cloud", Type: arrow.StructOf(arrow.Field{Name: "account_uid", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
	{Name: "class_uid", Type: arrow.PrimitiveTypes.Int32},
	{Name: "message", Type: arrow.BinaryTypes.String},
	{Name: "tags", Type: arrow.ListOfNonNullable(arrow.BinaryTypes.String), Nullable: true},
	{Name: "time", Type: arrow.PrimitiveTypes.Int64},
	{Name: "time_dt", Type: arrow.FixedWidthTypes.Timestamp_ms, Nullable: true},
	{Name: "_tm_final", Type: arrow.FixedWidthTypes.Boolean},
	{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
}, nil)

func seenBatch(mem memory.Allocator, rows []seen) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, seenSchema)
	defer b.Release()
	for _, r := range rows {
		cloud := b.Field(0).(*array.StructBuilder)
		account := cloud.FieldBuilder(0).(*array.StringBuilder)
		switch {
		case r.Cloud == nil:
			cloud.AppendNull()
		case r.Cloud.Account == "":
			cloud.Append(true)
			account.AppendNull()
		default:
			cloud.Append(true)
			account.Append(r.Cloud.Account)
		}
		b.Field(1).(*array.Int32Builder).Append(r.Class)
		b.Field(2).(*array.StringBuilder).Append(r.Text)
		tags := b.Field(3).(*array.ListBuilder)
		tags.Append(r.Tags != nil)
		for _, tag := range r.Tags {
			tags.ValueBuilder().(*array.StringBuilder).Append(tag)
		}
		b.Field(4).(*array.Int64Builder).Append(r.Time)
		if r.Exact == nil {
			b.Field(5).AppendNull()
		} else {
			b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(*r.Exact))
		}
		b.Field(6).(*array.BooleanBuilder).Append(true)
		b.Field(7).(*array.Int32Builder).Append(0)
	}
	return b.NewRecordBatch()
}

const (
	dayMS  = 24 * 3600 * 1000
	baseMS = baseUS / 1000 // 2026-11-22T05:00:00Z
)

// sightings makes n events of an epoch over two days and four accounts, not in order.
func sightings(epoch int64, n int) []seen {
	rows := make([]seen, n)
	for i := range rows {
		r := &rows[i]
		r.Class, r.Text = 5001, fmt.Sprintf("epoch %d event %d", epoch, i)
		r.Time = baseMS + int64(i%2)*dayMS + int64(i*7919%n)
		switch i % 4 {
		case 0:
			r.Cloud = &seenCloud{"123456789012"}
		case 1:
			r.Cloud = &seenCloud{"a b"}
		case 2:
			r.Cloud = &seenCloud{}
		}
		if i%3 > 0 {
			r.Tags = []string{"x", "y"}[:i%3]
			r.Exact = new(r.Time)
		}
	}
	return rows
}

func lakeConfig() Config {
	cfg := DefaultConfig()
	cfg.Job, cfg.Table, cfg.Layout, cfg.Codec = pipelinetest.SinkJob, "ble", LayoutLake, "none"
	cfg.Lake = &Lake{}
	cfg.Lake.SetDefaults()
	cfg.Lake.Source, cfg.Lake.Region, cfg.Lake.AccountColumn = "tidemark-ble", "eu-central-1", "cloud.account_uid"
	return cfg
}

func TestLakeConformance(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	pipelinetest.TestSink(t, pipelinetest.SinkTest{
		Place: func(t *testing.T) pipelinetest.SinkPlace {
			store, faults := pipelinetest.NewMemStore(), &pipelinetest.Faults{}
			cfg := lakeConfig()
			cfg.Lake.Roll, cfg.MaxStageRows = 0, 17
			return pipelinetest.SinkPlace{
				Open: func() (pipeline.Sink, error) {
					return New(cfg, pipelinetest.FaultStore{Store: store, Faults: faults}, seenSchema)
				},
				Read: func() ([]string, error) { return lakeRows(t, store), nil },
				Leftovers: func() ([]string, error) {
					return slices.Collect(maps.Keys(objects(t, store, stagingDir))), nil
				},
				Faults: faults,
			}
		},
		Batch: func(n int64) arrow.RecordBatch { return seenBatch(mem, sightings(n, 40)) },
		Want: func(n int64) (out []string) {
			for _, r := range sightings(n, 40) {
				out = append(out, r.String())
			}
			return out
		},
	})
}

func lakeRows(t *testing.T, store pipeline.Store) (out []string) {
	for _, name := range parquetNames(t, store) {
		for _, r := range readRows[seen](t, store, name) {
			out = append(out, r.String())
		}
	}
	return out
}

func TestLakeLayout(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store, cfg := newStore(t), lakeConfig()
	cfg.Lake.Roll = 0
	s, err := New(cfg, store, seenSchema)
	if err != nil {
		t.Fatal(err)
	}
	rows := sightings(1, 400)
	rows[7].Time, rows[3].Time = -1, 1<<60
	stageAll(t, s, 9, seenBatch(mem, rows))
	want := `ext/tidemark-ble/region=eu-central-1/accountId=123456789012/eventDay=20261122/part-conformance%20job-3-9-0.parquet
ext/tidemark-ble/region=eu-central-1/accountId=external/eventDay=19691231/part-conformance%20job-3-9-1.parquet
ext/tidemark-ble/region=eu-central-1/accountId=external/eventDay=20261122/part-conformance%20job-3-9-2.parquet
ext/tidemark-ble/region=eu-central-1/accountId=external/eventDay=20261123/part-conformance%20job-3-9-3.parquet
ext/tidemark-ble/region=eu-central-1/accountId=external/eventDay=__far__/part-conformance%20job-3-9-4.parquet
ext/tidemark-ble/region=eu-central-1/accountId=external_a%20b/eventDay=20261123/part-conformance%20job-3-9-5.parquet`
	all := slices.Sorted(maps.Keys(objects(t, store, "ext/")))
	for i := range all { // the number is that of the order in which they were written
		at := strings.LastIndexByte(all[i], '-')
		all[i] = fmt.Sprintf("%s-%d.parquet", all[i][:at], i)
	}
	if got := strings.Join(all, "\n"); got != want {
		t.Errorf("below ext:\n%s\nwant:\n%s", got, want)
	}
	for _, name := range parquetNames(t, store) {
		if !strings.HasPrefix(name, "ext/") {
			t.Errorf("a file beside ext: %s", name)
		}
		times := []int64{}
		for _, r := range readRows[seen](t, store, name) {
			times = append(times, r.Time)
		}
		if !slices.IsSorted(times) || len(times) == 0 {
			t.Errorf("%s is not in the order of time: %v", name, times)
		}
		f := openParquet(t, store, name)
		if text := f.Schema().String(); strings.Contains(text, "_tm_") || text != lakeText {
			t.Errorf("%s has the schema\n%s\nwant\n%s", name, text, lakeText)
		}
		if sorted := f.RowGroups()[0].SortingColumns(); len(sorted) != 1 || sorted[0].Path()[0] != "time" || sorted[0].Descending() {
			t.Errorf("%s says that it is sorted by %v", name, sorted)
		}
	}
}

const lakeText = `message ble {
	optional group cloud {
		optional binary account_uid (STRING);
	}
	required int32 class_uid (INT(32,true));
	required binary message (STRING);
	optional group tags (LIST) {
		repeated group list {
			required binary element (STRING);
		}
	}
	required int64 time (INT(64,true));
	optional int64 time_dt (TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS));
}`

func openParquet(t *testing.T, store pipeline.Store, name string) *pq.File {
	t.Helper()
	b, err := store.GetRange(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pq.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLakeLimits: no page has more than 1 MiB, however long the texts, and a row group ends
// at so many bytes.
func TestLakeLimits(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, size := range []int{10, 700, 30_000} {
		store, cfg := newStore(t), lakeConfig()
		cfg.Lake.Roll, cfg.Lake.Account, cfg.Lake.AccountColumn = 0, "123456789012", ""
		s, err := New(cfg, store, seenSchema)
		if err != nil {
			t.Fatal(err)
		}
		s.rowGroupBytes = 4 << 20
		rnd := rand.New(rand.NewPCG(1, uint64(size)))
		rows := make([]seen, 12<<20/(2*size+100))
		for i := range rows {
			text := make([]byte, 1+rnd.IntN(2*size))
			for j := range text {
				text[j] = 'a' + byte(rnd.IntN(26))
			}
			rows[i] = seen{Class: 5001, Time: baseMS + int64(i), Text: string(text), Tags: []string{string(text), "x"}}
		}
		stageAll(t, s, 1, seenBatch(mem, rows))
		f := openParquet(t, store, parquetNames(t, store)[0])
		if n := len(f.RowGroups()); n < 2 || n > 20 {
			t.Errorf("texts of %d: %d row groups", size, n)
		}
		pages, largest := 0, int64(0)
		for _, g := range f.RowGroups() {
			if total := g.(*pq.FileRowGroup); total != nil && total.NumRows() == 0 {
				t.Error("an empty row group")
			}
			for _, c := range g.ColumnChunks() {
				read := c.Pages()
				for {
					p, err := read.ReadPage()
					if err != nil {
						break
					}
					pages++
					largest = max(largest, p.Size())
					pq.Release(p)
				}
				_ = read.Close()
			}
		}
		if largest > 1<<20 || largest < 100 {
			t.Errorf("texts of %d: the largest of %d pages has %d bytes", size, pages, largest)
		}
	}
}

// rollStep writes the events of an epoch and prepares it.
func rollStep(t *testing.T, mem memory.Allocator, s *Sink, n int64, p step) (pipeline.Receipt, error) {
	t.Helper()
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: s.cfg.Job, Lineage: 1, N: n})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range p.hours { // here: how many
		rec := seenBatch(mem, sightings(n, rows))
		b := pipeline.Result(rec)
		if n%2 == 0 { // some are not selected
			b.Rows = []int32{}
			for i := range rows {
				if i%5 != 2 {
					b.Rows = append(b.Rows, int32(i))
				}
			}
		}
		err := st.Write(t.Context(), b)
		rec.Release()
		if err != nil {
			_ = st.Abort()
			return nil, err
		}
	}
	at := pipeline.Mark{Event: p.mark, Ingest: p.mark}
	return st.Prepare(t.Context(), at)
}

func rollConfig() Config {
	cfg := lakeConfig()
	cfg.Lake.Roll, cfg.MaxStageRows, cfg.Verify = time.Minute, 25, VerifyFooter
	return cfg
}

// rollPlan draws epochs whose marks go on by up to half a minute, the first before there is
// one and the last at the end of the input.
func rollPlan(rng *rand.Rand) (plan []step) {
	mark := int64(baseUS)
	for i := range 12 {
		p := step{mark: mark}
		for range rng.IntN(4) {
			p.hours = append(p.hours, 1+rng.IntN(20))
		}
		if i < 2 {
			p.mark = pipeline.MinTicks
		} else {
			mark += rng.Int64N(30_000_000)
		}
		plan = append(plan, p)
	}
	return append(plan, step{mark: pipeline.MaxTicks})
}

// rollRun lets the process die before every durable step of the epochs of a plan, as
// crashRun does, and returns what lies below ext in the end. forget has a new process start
// with the next epoch, and lose remove what is staged at every start.
func rollRun(t *testing.T, mem memory.Allocator, plan []step, crash, forget, lose bool) (files map[string]string, died int, err error) {
	store, faults := pipelinetest.NewMemStore(), &pipelinetest.Faults{}
	open := func() *Sink {
		faults.Set(pipelinetest.NoFault, 0)
		return openLake(t, rollConfig(), pipelinetest.FaultStore{Store: store, Faults: faults})
	}
	s := open()
	var last pipeline.Receipt
	restart := func() {
		died++
		s = open()
		if err := s.Publish(t.Context(), last); err != nil && !forget {
			t.Fatal(err)
		}
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name := range objects(t, store, stagingDir) {
			if lose {
				_ = store.Delete(t.Context(), name)
			}
		}
	}
	for i, p := range plan {
		var raw pipeline.Receipt
		for at := 1; ; at++ {
			if crash {
				faults.Set(pipelinetest.DieBefore, at)
			}
			raw, err = rollStep(t, mem, s, int64(i+1), p)
			if !faults.Hit() {
				break
			}
			restart()
		}
		if err != nil {
			return nil, died, err
		}
		if last = raw; forget {
			last = nil
		}
		for at := 1; ; at++ {
			if crash {
				faults.Set(pipelinetest.DieBefore, at)
			}
			err := s.Publish(t.Context(), raw)
			if !faults.Hit() {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if restart(); forget {
				break
			}
		}
	}
	if left := objects(t, store, stagingDir); len(left) > 0 && !forget {
		t.Errorf("left behind: %v", slices.Collect(maps.Keys(left)))
	}
	return objects(t, store, "ext/"), died, nil
}

func openLake(t *testing.T, cfg Config, store pipeline.Store) *Sink {
	t.Helper()
	s, err := New(cfg, store, seenSchema)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLakeRoll: rows of several epochs are in one file, each of them once, and the files are
// the same, byte for byte, wherever the process died.
func TestLakeRoll(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	all := 0
	for seed := range uint64(2) {
		plan := rollPlan(rand.New(rand.NewPCG(seed, 1)))
		want, _, err := rollRun(t, mem, plan, false, false, false)
		if err != nil {
			t.Fatal(err)
		}
		got, died, err := rollRun(t, mem, plan, true, false, false)
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("seed %d: %v\n%q\nwant\n%q", seed, err, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		all += died

		var rows, wantRows []string
		epochs := map[string]bool{}
		for name, body := range got {
			read, err := pq.Read[seen](strings.NewReader(body), int64(len(body)))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range read {
				rows = append(rows, r.String())
			}
			epochs[strings.Split(name[strings.LastIndexByte(name, '/'):], "-")[3]] = true
		}
		full := 0
		for i, p := range plan {
			for _, n := range p.hours {
				full++
				for j, r := range sightings(int64(i+1), n) {
					if (i+1)%2 != 0 || j%5 != 2 {
						wantRows = append(wantRows, r.String())
					}
				}
			}
		}
		slices.Sort(rows)
		slices.Sort(wantRows)
		if !slices.Equal(rows, wantRows) {
			t.Fatalf("seed %d: %d rows, want %d", seed, len(rows), len(wantRows))
		}
		if len(epochs) < 2 || len(epochs) > 6 {
			t.Errorf("seed %d: files of %d epochs, of %d batches", seed, len(epochs), full)
		}
	}
	if all < 100 {
		t.Errorf("the process died %d times only", all)
	}
}

// TestLakeRollControls: the run above notices a receipt that was not published, and rows
// that were held and are gone.
func TestLakeRollControls(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	plan := rollPlan(rand.New(rand.NewPCG(0, 1)))
	want, _, err := rollRun(t, mem, plan, false, false, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := rollRun(t, mem, plan, true, true, false); err == nil && maps.Equal(got, want) {
		t.Error("receipts that were not published made no difference")
	}
	if _, _, err := rollRun(t, mem, plan, true, false, true); err == nil || !strings.Contains(err.Error(), "somebody removed it") {
		t.Errorf("rows that were removed: %v", err)
	}
}

// TestLakeRollBySize: rows become files before the mark has gone on when they are many.
func TestLakeRollBySize(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	cfg, store := rollConfig(), newStore(t)
	cfg.Lake.RollBytes = 8000
	s := openLake(t, cfg, store)
	files := 0
	for n := range int64(12) {
		raw, err := rollStep(t, mem, s, n+1, step{[]int{45}, baseUS})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		if now := len(parquetNames(t, store)); now > files {
			files = now
			if n == 0 {
				t.Error("files after the first epoch")
			}
		}
	}
	if files == 0 {
		t.Error("no files")
	}
}

// TestLakeRollChanges: what is held survives another configuration, or stops the job.
func TestLakeRollChanges(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for name, c := range map[string]struct {
		change func(cfg *Config)
		schema *arrow.Schema
		ruin   func(t *testing.T, store pipeline.Store, name string)
		want   string // of the error
	}{
		"files at once": {change: func(cfg *Config) { cfg.Lake.Roll = 0 }},
		"other account": {change: func(cfg *Config) { cfg.Lake.Account, cfg.Lake.AccountColumn = "external_x", "" }},
		"other layout":  {change: func(cfg *Config) { *cfg = cfg.Beside("ble") }},
		"other columns": {change: func(cfg *Config) { cfg.Lake.Roll = 0 }, schema: arrow.NewSchema(seenSchema.Fields()[:7], nil), want: "the columns were changed while rows were held"},
		"changed": {change: func(cfg *Config) { cfg.Lake.Roll = 0 }, want: "written with", ruin: func(t *testing.T, store pipeline.Store, name string) {
			b, err := store.GetRange(t.Context(), name, 0, -1)
			if err == nil {
				b[len(b)/2] ^= 1
				err = store.Put(t.Context(), name, b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		store := newStore(t)
		s := openLake(t, rollConfig(), store)
		raw, err := rollStep(t, mem, s, 1, step{[]int{20}, baseUS})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		for held := range objects(t, store, stagingDir) {
			if c.ruin != nil {
				c.ruin(t, store, held)
			}
		}
		cfg, schema := rollConfig(), seenSchema
		if c.change(&cfg); c.schema != nil {
			schema = c.schema
		}
		if s, err = New(cfg, store, schema); err != nil {
			t.Fatal(err)
		}
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		raw, err = rollStep(t, mem, s, 2, step{nil, pipeline.MaxTicks})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			continue
		}
		if err == nil {
			err = s.Publish(t.Context(), raw)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(lakeRows(t, store)); got != 20 {
			t.Errorf("%s: %d rows, want 20", name, got)
		}
		if left := objects(t, store, stagingDir); len(left) > 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
}

func TestLakeConfig(t *testing.T) {
	if err := lakeConfig().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(l *Lake){
		`source ""`:                         func(l *Lake) { l.Source = "" },
		`source "a/b"`:                      func(l *Lake) { l.Source = "a/b" },
		`source "_a"`:                       func(l *Lake) { l.Source = "_a" },
		`up to 20 letters`:                  func(l *Lake) { l.Source = "a-name-of-21-letters-" },
		`region "eu/1"`:                     func(l *Lake) { l.Region = "eu/1" },
		`region ".."`:                       func(l *Lake) { l.Region = ".." },
		`not both`:                          func(l *Lake) { l.Account = "external" },
		`account: name an account`:          func(l *Lake) { l.AccountColumn = "" },
		`account "12345678901": want`:       func(l *Lake) { l.Account, l.AccountColumn = "12345678901", "" },
		`account "external_": want`:         func(l *Lake) { l.Account, l.AccountColumn = "external_", "" },
		`account "external_a/b": want`:      func(l *Lake) { l.Account, l.AccountColumn = "external_a/b", "" },
		`roll -1ns: want 0 or more`:         func(l *Lake) { l.Roll = -1 },
		`roll_bytes 0: want at least 1`:     func(l *Lake) { l.RollBytes = 0 },
		`security_lake: source "x y": want`: func(l *Lake) { l.Source = "x y" },
	} {
		cfg := lakeConfig()
		change(cfg.Lake)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %s", err, want)
		}
	}
	for _, account := range []string{"123456789012", "external", "external_acme-1"} {
		cfg := lakeConfig()
		cfg.Lake.Account, cfg.Lake.AccountColumn = account, ""
		if err := cfg.Validate(); err != nil {
			t.Error(err)
		}
		if got := cfg.finalName(0, account, pipeline.Epoch{Lineage: 1, N: 2}, 3); got != "ext/tidemark-ble/region=eu-central-1/accountId="+account+"/eventDay=19700101/part-conformance%20job-1-2-3.parquet" {
			t.Error(got)
		}
	}
	for want, change := range map[string]func(c *Config){
		`layout "iceberg": want security_lake, or leave it out`: func(c *Config) { c.Layout = "iceberg" },
		`security_lake: name source, region and account`:        func(c *Config) { c.Lake = nil },
		`security_lake: set layout: security_lake with it`:      func(c *Config) { c.Layout = LayoutHive },
	} {
		cfg := lakeConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %s", err, want)
		}
	}
	for _, c := range []struct {
		column string
		fields []arrow.Field
		want   string
	}{
		{"cloud.account_uid", readingSchema.Fields(), "column time, int64 milliseconds, is not there"},
		{"cloud.nope", seenSchema.Fields(), `"cloud.nope": no field "nope"`},
		{"class_uid", seenSchema.Fields(), `security_lake.account_column "class_uid": type int32, want text`},
	} {
		cfg := lakeConfig()
		cfg.Lake.AccountColumn = c.column
		if _, err := New(cfg, newStore(t), arrow.NewSchema(c.fields, nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New = %v, want %s", err, c.want)
		}
	}
	beside := lakeConfig().Beside("ble_dead")
	if beside.Layout != LayoutHive || beside.PartitionBy != pipeline.PartitionDay || beside.root() != "ble_dead" || beside.Validate() != nil {
		t.Errorf("%+v", beside)
	}
	class := lakeConfig().OfClass("inventory_info", 5001)
	if class.root() != "ext/tidemark-ble_5001/region=eu-central-1" || class.Table != "ble_inventory_info" || lakeConfig().Lake.Source != "tidemark-ble" {
		t.Errorf("%+v", class)
	}
	if hive := testConfig().Beside("x"); hive.PartitionBy != testConfig().PartitionBy || hive.Table != "x" {
		t.Errorf("%+v", hive)
	}
}

func TestCheckLake(t *testing.T) {
	if err := CheckLake([]LakeEvents{{"a", "1.3.0", 5001}, {"b", "1.1.0", 4001}, {"a", "1.3.0", 5001}, {"c", "1.0.0-rc.2", 2004}}); err != nil {
		t.Error(err)
	}
	err := CheckLake([]LakeEvents{{"a", "1.8.0", 5001}, {"a", "1.3.0", 4001}, {"b", "2.0.0", 5001}, {"c", "", 5001}})
	for _, want := range []string{"source a: OCSF 1.8.0", "source a: has events of class 5001 and of class 4001", "source b: OCSF 2.0.0", "source c: OCSF :"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

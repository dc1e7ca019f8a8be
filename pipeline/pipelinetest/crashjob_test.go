package pipelinetest_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// The job that the disk tests run: real Run, LocalStore, Checkpoints and Parquet sinks on a
// pipelinetest.Disk.

const (
	diskSplits = 2
	diskRows   = 50 // per split
	diskBound  = 2_000_000
)

var diskWindow = operators.TumblingConfig{Size: 600_000_000, Lateness: 1_000_000, Trigger: operators.OnClose, Keys: []string{"key"},
	Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"},
		{Fn: "min", Column: "value", As: "min"}, {Fn: "max", Column: "value", As: "max"}}}

// diskInput makes rows over some hours, a tenth of them late.
func diskInput() [][]pipelinetest.Row {
	rng := rand.New(rand.NewPCG(11, 11))
	splits := make([][]pipelinetest.Row, diskSplits)
	for s := range splits {
		at := int64(1_767_225_600_000_000)
		for i := range diskRows {
			at += rng.Int64N(240_000_000)
			back := rng.Int64N(diskBound)
			if rng.IntN(10) == 0 {
				back = 1_000_000_000 + rng.Int64N(1_000_000_000)
			}
			splits[s] = append(splits[s], pipelinetest.Row{Time: at - back, Ingest: at, Key: fmt.Sprintf("asset-%d", rng.IntN(3)),
				Value: rng.Int64N(2001) - 1000, Split: int32(s), Offset: int64(i)})
		}
	}
	return splits
}

// diskWant returns the rows of the job by the oracle, sorted.
func diskWant(input [][]pipelinetest.Row) (lines []string) {
	o := pipelinetest.NewOracle(pipelinetest.OracleSpec{Kind: "hopping", Size: diskWindow.Size, Slide: diskWindow.Size,
		Lateness: diskWindow.Lateness, Bound: diskBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks}, len(input))
	for _, rows := range input {
		for _, r := range rows {
			o.Add(r)
		}
	}
	for _, w := range o.Windows() {
		v := func(fn string) string { return w.Value(fn, "value") }
		lines = append(lines, fmt.Sprintf("out %s %d %s %s %s %s", w.Key, w.Start, v("count"), v("sum"), v("min"), v("max")))
	}
	for _, l := range o.Late {
		lines = append(lines, fmt.Sprintf("late %d/%d %s %d", l.Split, l.Offset, l.Key, l.Value))
	}
	slices.Sort(lines)
	return lines
}

// diskRun is one process of the job.
type diskRun struct {
	disk  *pipelinetest.Disk
	input [][]pipelinetest.Row
	batch int
	// pace is the number of source events between two checkpoints, 0 for any.
	pace int
	// stage is the number of staged rows that ends an epoch, 0 for one that none has.
	stage  int64
	shards int
	fault  func(pipelinetest.DiskCall) error
	wrong  string
	lease  pipeline.Lease
}

// Negative controls of the disk tests.
const (
	wrongDirSync   = "directories are not synced"
	wrongFileSync  = "files are not synced"
	wrongSyncAgain = "a sync that failed is tried again"
	wrongCurrent   = "the commit before the manifest"
	wrongEarly     = "publish before the checkpoint"
	wrongCommit    = "a commit in place of another one"
)

const diskDir = "/data"

func (r diskRun) fs() pipeline.FS {
	fsys := r.disk.FS(r.fault)
	create := fsys.Create
	switch r.wrong {
	case wrongDirSync:
		fsys.SyncDir = func(string) error { return nil }
	case wrongFileSync:
		fsys.Create = func(path string) (pipeline.File, error) {
			f, err := create(path)
			return unsyncedFile{f}, err
		}
	case wrongSyncAgain:
		fsys.Create = func(path string) (pipeline.File, error) {
			f, err := create(path)
			return stubbornFile{f}, err
		}
	}
	return fsys
}

type unsyncedFile struct{ pipeline.File }

func (unsyncedFile) Sync() error { return nil }

type stubbornFile struct{ pipeline.File }

func (f stubbornFile) Sync() error {
	if f.File.Sync() == nil {
		return nil
	}
	return f.File.Sync()
}

// hastyStore makes a commit before the manifest that it names.
type hastyStore struct {
	pipeline.Store
	manifest func() error
}

func (s *hastyStore) Put(ctx context.Context, name string, body []byte) error {
	if strings.HasSuffix(name, "/manifest.json") && s.manifest == nil {
		s.manifest = func() error { return s.Store.Put(ctx, name, body) }
		return nil
	}
	return s.Store.Put(ctx, name, body)
}

func (s *hastyStore) PutIfAbsent(ctx context.Context, name string, body []byte) error {
	err := s.Store.PutIfAbsent(ctx, name, body)
	if s.manifest != nil {
		err = errors.Join(err, s.manifest())
		s.manifest = nil
	}
	return err
}

// notingSink tells the disk's log of every checkpoint that counts: Publish of one is not
// called before.
type notingSink struct {
	pipeline.Sink
	r diskRun
}

func (s notingSink) Publish(ctx context.Context, raw pipeline.Receipt) error {
	s.r.disk.Note(receiptNumber(raw))
	return s.Sink.Publish(ctx, raw)
}

// receiptNumber is larger the later the epoch.
func receiptNumber(raw pipeline.Receipt) int64 {
	var of struct {
		Lineage uint16
		Epoch   int64
	}
	must(json.Unmarshal(raw, &of))
	return epochNumber(of.Lineage, of.Epoch)
}

func epochNumber(lineage uint16, epoch int64) int64 { return int64(lineage)<<32 | epoch }

// earlySink publishes as soon as it has prepared.
type earlySink struct{ pipeline.Sink }

func (s earlySink) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	st, err := s.Sink.Begin(ctx, e)
	return earlyStage{st, s.Sink}, err
}

type earlyStage struct {
	pipeline.Stage
	sink pipeline.Sink
}

func (st earlyStage) Prepare(ctx context.Context, at pipeline.Mark) (pipeline.Receipt, error) {
	r, err := st.Stage.Prepare(ctx, at)
	if err == nil && r != nil {
		err = st.sink.Publish(ctx, r)
	}
	return r, err
}

// sink makes the Parquet sink of a port.
func (r diskRun) sink(store pipeline.Store, name string, schema *arrow.Schema, timeColumn string) (pipeline.Sink, error) {
	cfg := parquet.DefaultConfig()
	cfg.Job, cfg.Table, cfg.Codec = "disk", name, "none"
	cfg.TimeColumn, cfg.PartitionBy = timeColumn, pipeline.PartitionDay
	s, err := parquet.New(cfg, store, schema)
	if err != nil {
		return nil, err
	}
	if r.wrong == wrongEarly {
		return earlySink{s}, nil
	}
	return notingSink{s, r}, nil
}

// run runs the job to its end, or to the death of the process.
func (r diskRun) run(ctx context.Context) error {
	local, err := pipeline.NewLocalStore(diskDir, r.fs())
	if err != nil {
		return err
	}
	var store pipeline.Store = local
	if r.wrong == wrongCurrent {
		store = &hastyStore{Store: local}
	}
	if r.wrong == wrongCommit {
		store = rashStore{local}
	}
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	w, err := operators.NewTumbling(diskWindow, pipelinetest.RowSchema(), mem)
	if err != nil {
		return err
	}
	out, err := r.sink(local, "out", w.Schema(), "window_start")
	if err != nil {
		return err
	}
	late, err := r.sink(local, "late", operators.LateSchema(pipelinetest.RowSchema()), "time")
	if err != nil {
		return err
	}
	pace := &pace{each: r.pace, left: r.pace, more: make(chan struct{}, 1)}
	src := &pipelinetest.RowSource{Splits: r.input, Batch: r.batch}
	err = pipeline.Run(ctx, pipeline.Job{
		Name:       "disk",
		Open:       pace.open(src.Open),
		NewDecoder: func() (pipeline.Decoder, error) { return pipelinetest.RowDecoder{Mem: mem}, nil },
		KeyColumns: diskWindow.Keys,
		NewChain: func(seed uint64) ([]pipeline.Operator, error) {
			cfg := diskWindow
			cfg.Seed = seed
			w, err := operators.NewTumbling(cfg, pipelinetest.RowSchema(), mem)
			return []pipeline.Operator{w}, err
		},
		Outputs: map[pipeline.Port][]pipeline.Output{pipeline.Out: {{Name: "out", Sink: out}}, pipeline.Late: {{Name: "late", Sink: late}}},
		Front:   pipeline.FrontConfig{Bound: diskBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks},
		Shards:  r.shards, Decoders: 1,
		Checkpoints:  pipeline.NewCheckpoints(store, 2, mem),
		Lease:        r.lease,
		Interval:     pace.interval(),
		StopTimeout:  10 * time.Second,
		MaxStageRows: cmp.Or(r.stage, 1000),
		Log:          slog.New(slog.DiscardHandler),
		OnCheckpoint: pace.published,
	})
	if n := mem.CurrentAlloc(); err == nil && n != 0 {
		return fmt.Errorf("%d bytes were not given back", n)
	}
	return err
}

// pace lets a source give some events between two checkpoints.
type pace struct {
	pipeline.Source
	each int // 0 for any
	left int
	more chan struct{}
}

func (p *pace) open(open pipeline.OpenSource) pipeline.OpenSource {
	return func(ctx context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		src, err := open(ctx, from)
		p.Source = src
		return p, err
	}
}

// Next waits for a checkpoint when the events before it were given.
func (p *pace) Next(ctx context.Context) (pipeline.Event, error) {
	if p.each > 0 && p.left == 0 {
		select {
		case <-p.more:
			p.left = p.each
		case <-ctx.Done():
			return pipeline.Event{}, ctx.Err()
		}
	}
	p.left--
	return p.Source.Next(ctx)
}

func (p *pace) interval() time.Duration {
	if p.each == 0 {
		return time.Minute
	}
	return time.Microsecond
}

func (p *pace) published(pipeline.Published) {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// diskOut and diskLate are the columns of published rows that the tests compare.
type diskOut struct {
	Key         string `parquet:"key"`
	WindowStart int64  `parquet:"window_start"`
	Count       int64  `parquet:"count"`
	Sum         *int64 `parquet:"sum"`
	Min         *int64 `parquet:"min"`
	Max         *int64 `parquet:"max"`
}

type diskLate struct {
	Split  int32  `parquet:"_split"`
	Offset int64  `parquet:"_offset"`
	Key    string `parquet:"key"`
	Value  int64  `parquet:"value"`
}

// published is one visible file.
type published struct {
	name    string
	lineage uint16
	epoch   int64
	lines   []string
}

// readPublished reads every visible file of the job: one that is not whole is an error.
func readPublished(ctx context.Context, store pipeline.Store) (files []published, err error) {
	objects, err := store.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if !strings.HasSuffix(o.Name, ".parquet") {
			continue
		}
		b, err := store.GetRange(ctx, o.Name, 0, -1)
		if err != nil {
			return nil, err
		}
		f := published{name: o.Name}
		var n int
		if _, err := fmt.Sscanf(path.Base(o.Name), "part-disk-%d-%d-%d.parquet", &f.lineage, &f.epoch, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name, err)
		}
		if f.lines, err = publishedLines(o.Name, b); err != nil {
			return nil, fmt.Errorf("%s is visible and not whole: %w", o.Name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func publishedLines(name string, b []byte) (lines []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet decoder: %v", p)
		}
	}()
	if strings.HasPrefix(name, "late/") {
		rows, err := pq.Read[diskLate](bytes.NewReader(b), int64(len(b)))
		for _, r := range rows {
			lines = append(lines, fmt.Sprintf("late %d/%d %s %d", r.Split, r.Offset, r.Key, r.Value))
		}
		return lines, err
	}
	rows, err := pq.Read[diskOut](bytes.NewReader(b), int64(len(b)))
	for _, r := range rows {
		lines = append(lines, fmt.Sprintf("out %s %d %d %d %d %d", r.Key, r.WindowStart, r.Count, *r.Sum, *r.Min, *r.Max))
	}
	return lines, err
}

// verdict is what is wrong with what a disk shows at the end of the job.
type verdict struct {
	lost, doubled, wrong int
	text                 string
}

func (v verdict) bad() bool { return v.lost+v.doubled+v.wrong > 0 }

// judge compares what a disk shows with the oracle's rows. A job that was rewound shows rows
// again in its new lineage; within one no row may be twice.
func judge(ctx context.Context, disk *pipelinetest.Disk, want []string, rewound bool) (v verdict) {
	store, err := pipeline.NewLocalStore(diskDir, disk.FS(nil))
	if err != nil {
		return verdict{wrong: 1, text: err.Error()}
	}
	files, err := readPublished(ctx, store)
	if err != nil {
		return verdict{wrong: 1, text: err.Error()}
	}
	seen := map[string]map[uint16]int{}
	for _, f := range files {
		for _, l := range f.lines {
			if seen[l] == nil {
				seen[l] = map[uint16]int{}
			}
			lineage := f.lineage
			if !rewound {
				lineage = 0
			}
			if seen[l][lineage]++; seen[l][lineage] > 1 {
				v.doubled++
				v.text = fmt.Sprintf("%s twice, again in %s", l, f.name)
			}
		}
	}
	for _, l := range want {
		if seen[l] == nil {
			v.lost++
			v.text = l + " is lost"
		}
		delete(seen, l)
	}
	for l := range seen {
		v.wrong++
		v.text = l + " is no row of the job"
	}
	return v
}

// leftovers returns what is staged on a disk. At the end of a job there is nothing; a power
// loss later may bring a name back, and the next start sweeps it.
func leftovers(ctx context.Context, disk *pipelinetest.Disk) error {
	store, err := pipeline.NewLocalStore(diskDir, disk.FS(nil))
	if err != nil {
		return err
	}
	left, err := store.List(ctx, "_tidemark/staging/")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left in staging: %v", left)
	}
	return err
}

// TestDiskJob runs the job undisturbed.
func TestDiskJob(t *testing.T) {
	input := diskInput()
	want := diskWant(input)
	late := 0
	for i, l := range want {
		if strings.HasPrefix(l, "late") {
			late++
		}
		if i > 0 && want[i-1] == l {
			t.Fatalf("%s is there twice: it cannot be told from a row that is doubled", l)
		}
	}
	if late == 0 || late == len(want) {
		t.Fatalf("%d of %d rows are late: they prove little", late, len(want))
	}
	disk := pipelinetest.NewDisk()
	r := diskRun{disk: disk, input: input, batch: 10, pace: 3, shards: 1}
	began := time.Now()
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("run: %v, %d steps", time.Since(began), disk.Len())
	if err := leftovers(t.Context(), disk); err != nil {
		t.Error(err)
	}
	for _, d := range []*pipelinetest.Disk{disk, disk.Lost()} {
		if v := judge(t.Context(), d, want, false); v.bad() {
			t.Errorf("%+v", v)
		}
	}
}

package operators_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cockroachdb/datadriven"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestRollupScenarios: every rule of windows over windows as a text.
func TestRollupScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/rollup/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenarios: %d, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { pipelinetest.RunScenario(t, f, openRollup) })
	}
}

// openRollup builds first windows as openWindow does, with trigger on_close unless another
// is given, and second ones from then=SIZE, then-slide=SLIDE and then-column=COLUMN.
func openRollup(mem memory.Allocator, d *datadriven.TestData) (pipelinetest.Window, error) {
	second := operators.RollupConfig{Shape: operators.TumblingShape(0, 0)}
	column := "sum"
	first := datadriven.TestData{Pos: d.Pos, CmdArgs: []datadriven.CmdArg{{Key: "trigger", Vals: []string{"on_close"}}}}
	for _, a := range d.CmdArgs {
		var err error
		switch a.Key {
		case "then":
			second.Size, err = parseTicks(a.Vals[0])
			second.Slide = second.Size
		case "then-slide":
			second.Slide, err = parseTicks(a.Vals[0])
		case "then-column":
			column = a.Vals[0]
		default:
			first.CmdArgs = append(first.CmdArgs, a)
		}
		if err != nil {
			return nil, err
		}
	}
	second.Aggregates = []operators.Aggregate{{Fn: "count", As: "windows"}, {Fn: "sum", Column: "count", As: "count"}, {Fn: "sum", Column: column, As: "sum"},
		{Fn: "sum", Column: "late_count", As: "late_rows"}}
	w, err := openWindow(mem, &first)
	if err != nil {
		return nil, err
	}
	return operators.NewRollup(second, w.(*operators.Window), mem)
}

func parseTicks(text string) (int64, error) {
	d, err := time.ParseDuration(text)
	return pipeline.Ticks(d), err
}

// rollupRun drives a chain of one Rollup through front, shards and restarts.
type rollupRun struct {
	t      *testing.T
	mem    *memory.CheckedAllocator
	make   func() (*operators.Rollup, error)
	front  *pipeline.Front
	tasks  []*pipeline.Task
	ops    []*operators.Rollup
	counts pipeline.Counts
	got    map[string]string
	late   int
}

const rollupBound = 6

func (r *rollupRun) build(shards int) {
	r.tasks, r.ops = nil, nil
	for range shards {
		op, err := r.make()
		if err != nil {
			r.t.Fatal(err)
		}
		r.ops = append(r.ops, op)
		r.tasks = append(r.tasks, pipeline.NewTask([]pipeline.Operator{op}, r.take))
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), []string{"key"}, 5)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := pipeline.FrontConfig{Bound: rollupBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: shards, Keyer: keyer}
	r.front = pipeline.NewFront(cfg, func(shard int, m pipeline.Message) error { return r.tasks[shard].Step(m) })
}

// take keeps results. A second one of a key and window is an error: results are final.
func (r *rollupRun) take(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Late {
		if !b.Rec.Schema().HasField("value") {
			return errors.New("a result of the first windows was late")
		}
		r.late += b.NumRows()
		return nil
	}
	s := b.Rec.Schema()
	text := func(name string, i int) string { return b.Rec.Column(s.FieldIndices(name)[0]).ValueStr(i) }
	bound := func(name string, i int) int64 {
		return int64(b.Rec.Column(s.FieldIndices(name)[0]).(*array.Timestamp).Value(i))
	}
	for i := range b.NumRows() {
		at := fmt.Sprintf("%s [%d,%d)", text("key", i), bound("window_start", i), bound("window_end", i))
		if _, twice := r.got[at]; twice {
			return fmt.Errorf("window %s came out twice", at)
		}
		r.got[at] = fmt.Sprintf("windows=%s count=%s sum=%s max=%s", text("windows", i), text("count", i), text("sum", i), text("max", i))
	}
	return nil
}

// restart goes on from a snapshot at another number of shards.
func (r *rollupRun) restart(shards int) {
	var pieces []pipeline.Piece
	open := 0
	for i, task := range r.tasks {
		open += task.Open()
		if n := r.ops[i].Overdue(); n != 0 {
			r.t.Errorf("%d rows of state that nothing frees", n)
		}
		if err := task.Snapshot(true, func(_ int, p pipeline.Piece) error {
			pieces = append(pieces, p.Made())
			return nil
		}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.count()
	cp := &pipeline.Checkpoint{Splits: r.front.Cut(), Merged: r.front.Merged()}
	for _, s := range cp.Splits {
		r.counts.Add(s.Counts)
	}
	r.build(shards)
	for s, task := range r.tasks {
		for _, p := range pieces {
			if err := task.Restore(0, p, func(g uint8) bool { return pipeline.ShardOf(g, shards) == s }); err != nil {
				r.t.Fatal(err)
			}
		}
		open -= task.Open()
	}
	if open != 0 {
		r.t.Errorf("%d open windows were lost in a restart", open)
	}
	for _, p := range pieces {
		p.Rec.Release()
	}
	if err := r.front.Restore(cp); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rollupRun) count() {
	for _, task := range r.tasks {
		for _, c := range task.TakeCounts() {
			r.counts.Add(c)
		}
	}
}

// feed gives rows of their splits to the front, cut into batches, with restarts in between.
func (r *rollupRun) feed(rng *rand.Rand, rows []pipelinetest.Row, splits int) {
	r.build(1 + rng.IntN(3))
	for s := range splits {
		r.front.Announce(pipeline.Split{Topic: "t", Partition: int32(s)}, pipeline.Position{})
	}
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Split == rows[0].Split && rng.IntN(5) > 0 {
			n++
		}
		part := rows[:n]
		rows = rows[n:]
		w := &pipeline.Wire{Split: part[0].Split}
		for _, row := range part {
			w.Offset, w.Ingest = append(w.Offset, row.Offset), append(w.Ingest, row.Ingest)
		}
		rec := pipelinetest.Record(r.mem, part)
		err := r.front.Rows(w, &pipeline.Batch{Rec: rec, Split: w.Split, Passed: pipeline.MinTicks}, 0)
		rec.Release()
		if err != nil {
			r.t.Fatal(err)
		}
		if rng.IntN(15) == 0 {
			r.restart(1 + rng.IntN(3))
		}
	}
	for s := range splits {
		if err := r.front.End(pipeline.Split{Topic: "t", Partition: int32(s)}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.count()
	for _, s := range r.front.Cut() {
		r.counts.Add(s.Counts)
	}
}

// rollupRows makes rows of some splits in the order in which the front takes them. Some are
// behind the bound by up to beyond.
func rollupRows(rng *rand.Rand, splits int, beyond int64) []pipelinetest.Row {
	clock, offset := make([]int64, splits), make([]int64, splits)
	var rows []pipelinetest.Row
	for range 200 {
		s := rng.IntN(splits)
		for range 1 + rng.IntN(4) {
			clock[s] += rng.Int64N(3)
			at := clock[s] - rng.Int64N(rollupBound+1)
			if beyond > 0 && rng.IntN(5) == 0 {
				at -= rng.Int64N(beyond)
			}
			rows = append(rows, pipelinetest.Row{Time: at, Key: fmt.Sprint("k", rng.IntN(4)), Value: rng.Int64N(100), Split: int32(s), Offset: offset[s]})
			offset[s]++
		}
	}
	return rows
}

// plainWindows lists the windows that hold t, from the definition.
func plainWindows(s operators.Shape, t int64) (all [][2]int64) {
	mod := func(a, b int64) int64 { return ((a % b) + b) % b }
	for start := t - s.Size + 1; start <= t; start++ {
		switch {
		case s.Kind == operators.Hopping && mod(start-s.Offset, s.Slide) == 0:
			all = append(all, [2]int64{start, start + s.Size})
		case s.Kind == operators.Cumulate && mod(start-s.Offset, s.Size) == 0:
			for end := start + s.Slide; end <= start+s.Size; end += s.Slide {
				if end > t {
					all = append(all, [2]int64{start, end})
				}
			}
		}
	}
	return all
}

// plainResult is what a window over rows, or over first windows, should give.
type plainResult struct {
	key                      string
	window                   [2]int64
	windows, count, sum, top int64
}

func (p *plainResult) add(windows, count, sum, top int64) {
	if p.count == 0 || top > p.top {
		p.top = top
	}
	p.windows, p.count, p.sum = p.windows+windows, p.count+count, p.sum+sum
}

type plainResults map[string]*plainResult

func (r plainResults) of(key string, window [2]int64) *plainResult {
	at := fmt.Sprintf("%s [%d,%d)", key, window[0], window[1])
	if r[at] == nil {
		r[at] = &plainResult{key: key, window: window}
	}
	return r[at]
}

// firstResults are those of windows: a row counts in each that its own split had not passed.
// It also returns how many rows counted in none.
func firstResults(rows []pipelinetest.Row, shape operators.Shape, lateness int64) (first plainResults, late int) {
	first = plainResults{}
	marks := map[int32]int64{}
	for _, row := range rows {
		mark, seen := marks[row.Split]
		if !seen {
			mark = pipeline.MinTicks
		}
		taken := false
		for _, w := range plainWindows(shape, row.Time) {
			if w[1]-1+lateness > mark {
				taken = true
				first.of(row.Key, w).add(0, 1, row.Value, row.Value)
			}
		}
		if !taken {
			late++
		}
		marks[row.Split] = max(mark, row.Time-rollupBound-1)
	}
	return first, late
}

// sessionResults are those of sessions of rows none of which is late.
func sessionResults(rows []pipelinetest.Row, gap int64, touch operators.Touch) plainResults {
	first, spans := plainResults{}, map[string][][2]int64{}
	for _, row := range rows {
		spans[row.Key] = append(spans[row.Key], [2]int64{row.Time, row.Time + gap})
	}
	for key, all := range spans {
		spans[key] = operators.MergeSessions(all, touch)
	}
	for _, row := range rows {
		at := slices.IndexFunc(spans[row.Key], func(w [2]int64) bool { return w[0] <= row.Time && row.Time+gap <= w[1] })
		first.of(row.Key, spans[row.Key][at]).add(0, 1, row.Value, row.Value)
	}
	return first
}

// secondResults counts every first result at the last tick of its window.
func secondResults(first plainResults, shape operators.Shape) map[string]string {
	second, want := plainResults{}, map[string]string{}
	for _, f := range first {
		for _, w := range plainWindows(shape, f.window[1]-1) {
			second.of(f.key, w).add(1, f.count, f.sum, f.top)
		}
	}
	for at, s := range second {
		want[at] = fmt.Sprintf("windows=%d count=%d sum=%d max=%d", s.windows, s.count, s.sum, s.top)
	}
	return want
}

var (
	rollupAggs = []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}, {Fn: "max", Column: "value", As: "max"}}
	secondAggs = []operators.Aggregate{{Fn: "count", As: "windows"}, {Fn: "sum", Column: "count", As: "count"}, {Fn: "sum", Column: "sum", As: "sum"}, {Fn: "max", Column: "max", As: "max"}}
	seconds    = []operators.Shape{operators.TumblingShape(30, 0), operators.TumblingShape(11, -2), {Kind: operators.Hopping, Size: 40, Slide: 10}, {Kind: operators.Cumulate, Size: 60, Slide: 20}}
)

// TestRollupModel compares windows over windows with a plain count of the rows that their own
// split had not passed: for any shards, batches and restarts every result comes once, and no
// result of a first window is late.
func TestRollupModel(t *testing.T) {
	firsts := []operators.Shape{operators.TumblingShape(10, 0), operators.TumblingShape(7, 3), {Kind: operators.Hopping, Size: 10, Slide: 4}, {Kind: operators.Cumulate, Size: 12, Slide: 3}}
	lates := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		first, second, lateness := firsts[rng.IntN(len(firsts))], seconds[rng.IntN(len(seconds))], []int64{0, 5, 40}[rng.IntN(3)]
		splits := 1 + rng.IntN(3)
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		r := &rollupRun{t: t, mem: mem, got: map[string]string{}, make: func() (*operators.Rollup, error) {
			w, err := operators.NewWindow(operators.WindowConfig{Shape: first, Lateness: lateness, Trigger: operators.OnClose, Keys: []string{"key"},
				Aggregates: rollupAggs, Seed: 5}, pipelinetest.RowSchema(), mem)
			if err != nil {
				return nil, err
			}
			return operators.NewRollup(operators.RollupConfig{Shape: second, Aggregates: secondAggs}, w, mem)
		}}
		rows := rollupRows(rng, splits, 60)
		r.feed(rng, rows, splits)
		plain, late := firstResults(rows, first, lateness)
		r.check(secondResults(plain, second), late, fmt.Sprintf("seed %d: %v then %v, lateness %d", seed, first, second, lateness))
		lates += late
	}
	if lates == 0 {
		t.Error("no case had a late row")
	}
}

// TestRollupSessions does the same with sessions as first windows.
func TestRollupSessions(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 4))
		second, lateness, gap := seconds[rng.IntN(len(seconds))], rng.Int64N(10), 1+rng.Int64N(12)
		touch := []operators.Touch{operators.TouchSplit, operators.TouchMerge}[rng.IntN(2)]
		splits := 1 + rng.IntN(3)
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		r := &rollupRun{t: t, mem: mem, got: map[string]string{}, make: func() (*operators.Rollup, error) {
			s, err := operators.NewSession(operators.SessionConfig{Gap: gap, Touch: touch, MaxLength: pipeline.MaxTicks, Lateness: lateness, Trigger: operators.OnClose,
				Keys: []string{"key"}, Aggregates: rollupAggs, Seed: 5}, pipelinetest.RowSchema(), mem)
			if err != nil {
				return nil, err
			}
			return operators.NewRollup(operators.RollupConfig{Shape: second, Aggregates: secondAggs}, s, mem)
		}}
		rows := rollupRows(rng, splits, 0)
		r.feed(rng, rows, splits)
		r.check(secondResults(sessionResults(rows, gap, touch), second), 0, fmt.Sprintf("seed %d: gap %d %s, then %v, lateness %d", seed, gap, touch, second, lateness))
	}
}

func (r *rollupRun) check(want map[string]string, late int, name string) {
	r.t.Helper()
	for _, at := range slices.Sorted(maps.Keys(want)) {
		if r.got[at] != want[at] {
			r.t.Fatalf("%s: window %s: %q, want %q", name, at, r.got[at], want[at])
		}
	}
	if len(r.got) != len(want) || r.late != late {
		r.t.Errorf("%s: %d windows and %d late rows, want %d and %d", name, len(r.got), r.late, len(want), late)
	}
	if !r.counts.Balanced() {
		r.t.Errorf("%s: rows are unaccounted for: %v", name, r.counts)
	}
	r.mem.AssertSize(r.t, 0)
}

package pipelinetest_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const (
	hashSplits = 4
	hashRows   = 3000 // per split
	hashBound  = 2_000_000
)

var hashWindow = operators.TumblingConfig{Size: 10_000_000, Offset: 3_000_000, Lateness: 1_000_000, Trigger: operators.OnMark, Keys: []string{"key"},
	Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}, {Fn: "min", Column: "value", As: "min"},
		{Fn: "max", Column: "value", As: "max"}, {Fn: "first", Column: "value", As: "first"}, {Fn: "last", Column: "value", As: "last"},
		{Fn: "sum", Column: "level", As: "level_sum"}, {Fn: "mean", Column: "level", As: "level_mean"},
		{Fn: "min", Column: "level", As: "level_min"}, {Fn: "max", Column: "level", As: "level_max"}}}

// hashInput makes rows whose event times are behind the newest of their split by up to
// the bound, and 5 % of them by far more.
func hashInput() [][]pipelinetest.Row {
	rng := rand.New(rand.NewPCG(7, 7))
	splits := make([][]pipelinetest.Row, hashSplits)
	for s := range splits {
		at := int64(1_767_225_600_000_000) + int64(s)*700_000
		for i := range hashRows {
			at += rng.Int64N(60_000)
			back := rng.Int64N(hashBound)
			if rng.IntN(100) < 5 {
				back = hashBound + rng.Int64N(30_000_000)
			}
			splits[s] = append(splits[s], pipelinetest.Row{Time: at - back, Ingest: at, Key: fmt.Sprintf("asset-%d", rng.IntN(90)),
				Value: rng.Int64N(2_000_001) - 1_000_000, Split: int32(s), Offset: int64(i), Level: math.Ldexp(rng.Float64()-0.5, rng.IntN(60)-30)})
		}
	}
	return splits
}

// TestOneHash: the same offsets give the same final rows, byte for byte, whatever the
// batches, the shards, the interleaving of splits, and a restart in the middle.
func TestOneHash(t *testing.T) {
	input := hashInput()
	want, late := oracleLines(input)
	if late == 0 || late > hashSplits*hashRows/10 {
		t.Fatalf("the input has %d late rows: it proves little", late)
	}
	wantHash := hashOf(want)
	runs := 0
	for _, batch := range []int{1, 7, 64, 500, 4096} {
		for _, shards := range []int{1, 3, 8} {
			for order := range int(nightly(1, 20)) {
				runs++
				name := fmt.Sprintf("batch=%d/shards=%d/order=%d", batch, shards, order)
				got := runHash(t, input, batch, shards, order)
				if hashOf(got) != wantHash {
					t.Errorf("%s: the final rows differ from the oracle's: %s", name, firstDifference(got, want))
				}
			}
		}
	}
	t.Logf("%d runs and the oracle, one hash: %s (%d final rows, %d of them late)", runs, wantHash[:16], len(want), late)
}

// TestOneHashNegative: a verdict taken from the merged mark instead of the split's own is
// caught by the very same comparison.
func TestOneHashNegative(t *testing.T) {
	input := hashInput()
	want, _ := oracleLines(input)
	broken := 0
	for order := range 3 {
		h := newHashRun(t, input, 7, 2, order)
		h.wrong = true
		if hashOf(h.run()) != hashOf(want) {
			broken++
		}
	}
	if broken == 0 {
		t.Error("late verdicts by the merged mark went unnoticed: the comparison is blind")
	}
}

func runHash(t *testing.T, input [][]pipelinetest.Row, batch, shards, order int) []string {
	return newHashRun(t, input, batch, shards, order).run()
}

// hashRun drives the real Front, Tasks and Checkpoints by hand.
type hashRun struct {
	t      *testing.T
	input  [][]pipelinetest.Row
	batch  int
	order  int
	shards int
	then   int  // shards after the restart, 0 for some others
	wrong  bool // negative control
	mem    memory.Allocator
	front  *pipeline.Front
	tasks  []*pipeline.Task
	next   []int
	final  map[string]string // last revision by key and window
	late   []string
	counts pipeline.Counts
	store  *pipelinetest.MemStore
}

func newHashRun(t *testing.T, input [][]pipelinetest.Row, batch, shards, order int) *hashRun {
	return &hashRun{t: t, input: input, batch: batch, shards: shards, order: order, final: map[string]string{},
		next: make([]int, len(input)), store: pipelinetest.NewMemStore()}
}

func (h *hashRun) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hashRun) build(shards int) {
	h.shards = shards
	h.tasks = nil
	for range shards {
		w, err := operators.NewTumbling(hashWindow, pipelinetest.WideSchema(), h.mem)
		h.must(err)
		h.tasks = append(h.tasks, pipeline.NewTask([]pipeline.Operator{w}, h.take))
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.WideSchema(), hashWindow.Keys, hashWindow.Seed)
	h.must(err)
	cfg := pipeline.FrontConfig{Bound: hashBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Shards: shards, Keyer: keyer}
	h.front = pipeline.NewFront(cfg, func(shard int, m pipeline.Message) error {
		if h.wrong && m.Kind == pipeline.RowsMessage {
			merged := h.front.Merged().Event
			for i := range m.Batch.Behind {
				m.Batch.Behind[i] = merged
			}
		}
		return h.tasks[shard].Step(m)
	})
}

func (h *hashRun) run() []string {
	checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
	h.mem = checked
	h.build(h.shards)
	for s := range h.input {
		h.front.Announce(pipeline.Split{Topic: "t", Partition: int32(s)}, pipeline.Position{})
	}
	rng := rand.New(rand.NewPCG(uint64(h.order), 3))
	restart := hashSplits * hashRows / 2
	done := 0
	for {
		s := h.pick(rng)
		if s < 0 {
			break
		}
		done += h.feed(s)
		if done >= restart {
			restart = 1 << 30
			h.restart()
		}
	}
	for s := range h.input {
		h.must(h.front.End(pipeline.Split{Topic: "t", Partition: int32(s)}))
	}
	for _, c := range h.cut(2).Splits {
		h.counts.Add(c.Counts)
	}
	if h.counts[pipeline.Read] != hashSplits*hashRows || !h.counts.Balanced() {
		h.t.Errorf("rows are unaccounted for: %v", h.counts)
	}
	checked.AssertSize(h.t, 0)
	out := slices.Clone(h.late)
	for at, row := range h.final {
		out = append(out, at+row)
	}
	sort.Strings(out)
	return out
}

// pick chooses the split to read next: in turn, one split far ahead, or by chance, which
// differs with the order.
func (h *hashRun) pick(rng *rand.Rand) int {
	var open []int
	for s := range h.input {
		if h.next[s] < len(h.input[s]) {
			open = append(open, s)
		}
	}
	switch {
	case len(open) == 0:
		return -1
	case h.order == 2:
		return slices.MinFunc(open, func(a, b int) int { return h.next[a] - h.next[b] })
	case h.order == 1:
		return open[len(open)-1]
	}
	return open[rng.IntN(len(open))]
}

func (h *hashRun) feed(s int) int {
	rows := h.input[s][h.next[s]:min(h.next[s]+h.batch, len(h.input[s]))]
	h.next[s] += len(rows)
	w := &pipeline.Wire{Split: int32(s), Next: pipeline.Position{Offset: int64(h.next[s]), LastIngest: rows[len(rows)-1].Ingest}}
	for _, r := range rows {
		w.Offset = append(w.Offset, r.Offset)
		w.Ingest = append(w.Ingest, r.Ingest)
	}
	rec := pipelinetest.WideRecord(h.mem, rows)
	defer rec.Release()
	h.must(h.front.Rows(w, &pipeline.Batch{Rec: rec, Split: int32(s), Passed: pipeline.MinTicks}, 0))
	return len(rows)
}

// cut takes a checkpoint by hand and writes it.
func (h *hashRun) cut(epoch int64) *pipeline.Checkpoint {
	cp := &pipeline.Checkpoint{Job: "one-hash", Lineage: 1, Epoch: epoch, Splits: h.front.Cut(), Merged: h.front.Merged()}
	var pieces []pipeline.ShardPiece
	for s, task := range h.tasks {
		h.must(task.Snapshot(true, func(op int, p pipeline.Piece) error {
			pieces = append(pieces, pipeline.ShardPiece{Op: op, Shard: s, Piece: p.Made()})
			return nil
		}))
		for split, c := range task.TakeCounts() {
			cp.Splits[split].Counts.Add(c)
		}
	}
	checkpoints := pipeline.NewCheckpoints(h.store, 2, h.mem)
	_, _, err := checkpoints.Load(h.t.Context())
	h.must(err)
	_, err = checkpoints.Take(h.t.Context(), pipeline.Lease{Sure: true}, nil, 1)
	h.must(err)
	h.must(checkpoints.Write(h.t.Context(), cp, nil, pieces))
	for _, p := range pieces {
		p.Rec.Release()
	}
	return cp
}

// restart throws everything away and goes on from the checkpoint, with another number of
// shards.
func (h *hashRun) restart() {
	for _, c := range h.cut(1).Splits {
		h.counts.Add(c.Counts)
	}
	checkpoints := pipeline.NewCheckpoints(h.store, 2, h.mem)
	cp, skipped, err := checkpoints.Load(h.t.Context())
	h.must(err)
	if cp == nil || len(skipped) > 0 {
		h.t.Fatalf("checkpoint %v, skipped %v", cp, skipped)
	}
	if h.then == 0 {
		h.then = h.shards%8 + 1
	}
	h.build(h.then)
	h.must(checkpoints.Pieces(h.t.Context(), cp, func(ref pipeline.PieceRef, p pipeline.Piece) error {
		for s, task := range h.tasks {
			if err := task.Restore(ref.Op, p, func(g uint8) bool { return pipeline.ShardOf(g, len(h.tasks)) == s }); err != nil {
				return err
			}
		}
		return nil
	}))
	h.must(h.front.Restore(cp))
}

// take keeps the last revision of every key and window, and the late rows.
func (h *hashRun) take(p pipeline.Port, b pipeline.Batch) error {
	for i := range b.NumRows() {
		at, row := "", ""
		for c := range int(b.Rec.NumCols()) {
			v := fmt.Sprintf(" %s=%s", b.Rec.ColumnName(c), value(b.Rec.Column(c), i))
			switch name := b.Rec.ColumnName(c); {
			case p == pipeline.Out && name[0] == '_':
			case p == pipeline.Out && (name == "key" || name == "window_start"):
				at += v
			case name == "late_by_us" || name == "window_end" || name == "windows_missed":
			default:
				row += v
			}
		}
		if p == pipeline.Late {
			h.late = append(h.late, "late"+row)
			continue
		}
		h.final["out"+at] = row
	}
	return nil
}

func value(c arrow.Array, i int) string {
	if ts, ok := c.(*array.Timestamp); ok {
		return fmt.Sprint(int64(ts.Value(i)))
	}
	return c.ValueStr(i)
}

func oracleLines(input [][]pipelinetest.Row) (lines []string, late int) {
	o := pipelinetest.NewOracle(pipelinetest.OracleSpec{Kind: "hopping", Size: hashWindow.Size, Slide: hashWindow.Size, Offset: hashWindow.Offset,
		Lateness: hashWindow.Lateness, Bound: hashBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks}, len(input))
	for _, rows := range input {
		for _, r := range rows {
			o.Add(r)
		}
	}
	for _, w := range o.Windows() {
		line := fmt.Sprintf("out key=%s window_start=%d", w.Key, w.Start)
		for _, a := range hashWindow.Aggregates {
			line += fmt.Sprintf(" %s=%s", a.As, w.Value(a.Fn, a.Column))
		}
		lines = append(lines, fmt.Sprintf("%s late_count=%d", line, w.Late))
	}
	for _, l := range o.Late {
		lines = append(lines, fmt.Sprintf("late time=%d _split=%d _offset=%d _ingest=%d key=%s value=%d level=%v reason=%s window_start=%d",
			l.Time, l.Split, l.Offset, l.Ingest, l.Key, l.Value, l.Level, l.Reason, l.Start))
	}
	sort.Strings(lines)
	return lines, len(o.Late)
}

func hashOf(lines []string) string {
	h := sha256.New()
	for _, l := range lines {
		fmt.Fprintln(h, l)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return fmt.Sprintf("row %d of %d (want %d):\n\tgot  %s\n\twant %s", i, len(got), len(want), g, w)
		}
	}
	return "none"
}

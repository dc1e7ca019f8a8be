package operators_test

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// jobRun drives windows the way a job does: front, shards, restarts.
type jobRun struct {
	t        *testing.T
	cfg      operators.WindowConfig
	mem      *memory.CheckedAllocator
	splits   int
	bound    int64
	ops      []*operators.Window
	front    *pipeline.Front
	tasks    []*pipeline.Task
	offset   []int64
	out      []string
	counts   pipeline.Counts
	final    map[string]string
	deltas   map[string]int64 // rows by key and window
	late     []string
	missed   int64
	changed  bool             // the windows have changed
	frozen   []pipeline.Piece // of the last snapshot, with the rows that they had then
	measured bool             // its memory is: no snapshots on the way
}

func newJobRun(t *testing.T, cfg operators.WindowConfig, shards, splits int) *jobRun {
	r := &jobRun{t: t, cfg: cfg, mem: memory.NewCheckedAllocator(memory.NewGoAllocator()), splits: splits,
		offset: make([]int64, splits), final: map[string]string{}, deltas: map[string]int64{}}
	r.build(shards)
	for s := range splits {
		r.front.Announce(pipeline.Split{Topic: "t", Partition: int32(s)}, pipeline.Position{})
	}
	return r
}

func (r *jobRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *jobRun) build(shards int) {
	r.tasks, r.ops = nil, nil
	for range shards {
		w, err := operators.NewWindow(r.cfg, pipelinetest.RowSchema(), r.mem)
		r.must(err)
		r.ops = append(r.ops, w)
		r.tasks = append(r.tasks, pipeline.NewTask([]pipeline.Operator{w}, r.take))
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), r.cfg.Keys, r.cfg.Seed)
	r.must(err)
	cfg := pipeline.FrontConfig{Bound: r.bound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Ingest: true, Shards: shards, Keyer: keyer}
	r.front = pipeline.NewFront(cfg, func(shard int, m pipeline.Message) error { return r.tasks[shard].Step(m) })
}

func (r *jobRun) feed(split int32, rows []pipelinetest.Row) {
	r.t.Helper()
	r.must(r.tryFeed(split, rows))
}

func (r *jobRun) tryFeed(split int32, rows []pipelinetest.Row) error {
	w := &pipeline.Wire{Split: split}
	for i := range rows {
		rows[i].Split, rows[i].Offset = split, r.offset[split]
		r.offset[split]++
		w.Offset, w.Ingest = append(w.Offset, rows[i].Offset), append(w.Ingest, rows[i].Ingest)
	}
	w.Next = pipeline.Position{Offset: r.offset[split], LastIngest: rows[len(rows)-1].Ingest}
	rec := pipelinetest.Record(r.mem, rows)
	defer rec.Release()
	r.thaw()
	if !r.measured && r.offset[split]%3 == 0 {
		r.freeze()
	}
	return r.front.Rows(w, &pipeline.Batch{Rec: rec, Split: split, Passed: pipeline.MinTicks}, 0)
}

// freeze takes a snapshot, whose pieces thaw compares with what they were.
func (r *jobRun) freeze() {
	for _, task := range r.tasks {
		r.must(task.Snapshot(true, func(_ int, p pipeline.Piece) error {
			if p.Frozen != nil {
				r.frozen = append(r.frozen, pipeline.Piece{ID: p.ID, Rec: p.Made().Rec, Frozen: p.Frozen})
			}
			return nil
		}))
	}
}

func (r *jobRun) thaw() {
	for _, p := range r.frozen {
		now := p.Made().Rec
		if !array.RecordEqual(now, p.Rec) {
			r.t.Errorf("piece %s has changed since its snapshot:\n%v\nthen\n%v", p.ID, p.Rec, now)
		}
		now.Release()
		p.Rec.Release()
	}
	r.frozen = nil
}

// restart goes on from a snapshot, with another number of shards.
func (r *jobRun) restart(shards int) {
	var pieces []pipeline.Piece
	before := 0
	for _, task := range r.tasks {
		before += task.Open()
		r.must(task.Snapshot(true, func(_ int, p pipeline.Piece) error {
			pieces = append(pieces, p.Made())
			return nil
		}))
		for _, c := range task.TakeCounts() {
			r.counts.Add(c)
		}
	}
	for _, w := range r.ops {
		r.missed += w.Missed()
		if n := w.Overdue(); n != 0 {
			r.t.Errorf("%d rows of state that nothing frees", n)
		}
	}
	cp := &pipeline.Checkpoint{Splits: r.front.Cut(), Merged: r.front.Merged()}
	for _, s := range cp.Splits {
		r.counts.Add(s.Counts)
	}
	r.build(shards)
	after := 0
	for s, task := range r.tasks {
		for _, p := range pieces {
			r.must(task.Restore(0, p, func(g uint8) bool { return pipeline.ShardOf(g, shards) == s }))
		}
	}
	r.must(r.front.Restore(cp))
	for _, task := range r.tasks {
		after += task.Open()
	}
	if before != after && !r.changed {
		r.t.Errorf("%d windows open before a restart, %d after", before, after)
	}
	for _, p := range pieces {
		p.Rec.Release()
	}
}

func (r *jobRun) take(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Late {
		return r.takeLate(b)
	}
	s := b.Rec.Schema()
	text := func(name string, i int) string { return b.Rec.Column(s.FieldIndices(name)[0]).ValueStr(i) }
	ts := func(name string, i int) int64 {
		return int64(b.Rec.Column(s.FieldIndices(name)[0]).(*array.Timestamp).Value(i))
	}
	for i := range b.NumRows() {
		at := fmt.Sprintf("%s [%d,%d)", text("key", i), ts("window_start", i), ts("window_end", i))
		if r.cfg.Trigger == operators.OnIngest {
			r.out = append(r.out, fmt.Sprintf("%v %s %s revision=%s count=%s sum=%s emitted_at=%d max_event=%d", p, at, text("_tm_pane", i),
				text("_tm_revision", i), text("count", i), text("sum", i), ts("_tm_emitted_at", i), ts("max_event_time", i)))
		}
		n := b.Rec.Column(s.FieldIndices("count")[0]).(*array.Int64).Value(i)
		switch {
		case p == pipeline.Delta:
			r.deltas[at] += n
		case r.cfg.Discard:
			r.deltas["window "+at] += n
		default:
			r.final[at] = fmt.Sprintf("count=%s sum=%s", text("count", i), text("sum", i))
		}
	}
	return nil
}

func (r *jobRun) takeLate(b pipeline.Batch) error {
	at := b.Rec.Schema().FieldIndices("reason")[0]
	for i := range b.NumRows() {
		time := b.Rec.Column(pipeline.ColTime).(*array.Timestamp).Value(i)
		r.late = append(r.late, fmt.Sprintf("%d/%s at %d: %s", b.Split, b.Rec.Column(pipeline.ColOffset).ValueStr(i), int64(time), b.Rec.Column(at).ValueStr(i)))
	}
	return nil
}

func (r *jobRun) bytes() int64 {
	var n int64
	for _, w := range r.ops {
		n += w.Bytes()
	}
	return n
}

func (r *jobRun) open() int {
	n := 0
	for _, task := range r.tasks {
		n += task.Open()
	}
	return n
}

func (r *jobRun) done() {
	r.thaw()
	for _, task := range r.tasks {
		for _, c := range task.TakeCounts() {
			r.counts.Add(c)
		}
	}
	for _, s := range r.front.Cut() {
		r.counts.Add(s.Counts)
	}
	if !r.counts.Balanced() {
		r.t.Errorf("rows are unaccounted for: %v", r.counts)
	}
	r.mem.AssertSize(r.t, 0)
}

package pipelinetest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// plan is a job for a machine: windows, what the oracle has to know of them, and the rows.
type plan struct {
	spec       pipelinetest.OracleSpec
	aggs       []operators.Aggregate
	open       func(mem memory.Allocator, seed uint64) (pipelinetest.Window, error)
	schema     *arrow.Schema
	input      [][]pipelinetest.Row
	onAllQuiet pipeline.OnAllQuiet
	discard    bool
	retract    bool
	text       string // what a message says of it
}

// how says what a machine does beside reading: each is one chance in so many steps, 0 for
// never.
type how struct {
	batch   int // most rows of a read
	shards  int // most shards
	order   int // of splits: 0 side by side, 1 by chance, 2 the last one first
	tick    int
	barrier int
	restart int // a clean stop, and on from its checkpoint
	crash   int
	stall   int  // a split has no more rows for a while, a shard does nothing
	jump    int  // the wall clock of a tick jumps by hours, either way
	direct  bool // what the front sends is worked off at once
	wrong   string
}

// Negative controls: what a machine may do wrong.
const (
	wrongVerdict = "verdict by the merged mark"
	wrongLate    = "a late row is dropped"
	wrongTwice   = "a batch is folded twice"
	wrongPublish = "publish before the checkpoint"
	wrongOffsets = "offsets from before the snapshot"
	wrongClock   = "the wall clock tells when a split is quiet"
)

// arrival is something that the front was told, in order: what the oracle is told too.
type arrival struct {
	row   pipelinetest.Row
	kind  pipeline.EventKind
	split int32
	seen  int64
	empty bool
}

// A machine runs the real Front, Tasks, Checkpoints and the steps of a commit in one
// goroutine. A seed decides what happens next: a read of any length from any split, a
// message to any shard, a tick, a barrier, one step of a commit, a crash. Barriers travel in
// the shards' queues; a shard that has met one waits for the others, as in Run.
type machine struct {
	plan
	how
	rng   *rand.Rand
	mem   *memory.CheckedAllocator
	store *pipelinetest.MemStore
	// checkpoints of the process that runs
	checkpoints *pipeline.Checkpoints
	out         *pipelinetest.MemSink
	late        *pipelinetest.MemSink
	durable     int64 // the epoch of the checkpoint that counts
	seed        uint64

	// What a crash takes.
	front   *pipeline.Front
	shards  []*simShard
	prev    *pipeline.Checkpoint
	epoch   int64
	stages  map[pipeline.Port]pipeline.Stage
	commit  *commit
	next    []int
	ended   []bool
	stalled []bool
	newest  []int64 // broker timestamp, per split, delivered since the start
	still   int     // the shard that does nothing, -1 for none
	now     int64

	jumps    int   // of the wall clock
	least    int64 // that it showed
	most     int64
	arrivals []arrival
	at       map[int64]int // arrivals before the barrier of an epoch
	wronged  bool
	missed   int64
	crashes  int
	restarts int
	bad      []string
}

type simShard struct {
	task    *pipeline.Task
	op      pipelinetest.Window
	queue   []pipeline.Message
	waiting bool // it has met a barrier that others have not
	full    bool // its next snapshot has to be
}

// commit is an epoch between its barrier and its publication.
type commit struct {
	cp     *pipeline.Checkpoint
	pieces []pipeline.ShardPiece
	frozen []atBarrier
	snaps  int
	stages map[pipeline.Port]pipeline.Stage
	step   int
}

// broken ends a machine.
type broken struct{ err error }

func must(err error) {
	if err != nil {
		panic(broken{err})
	}
}

func (m *machine) fail(format string, args ...any) {
	m.bad = append(m.bad, fmt.Sprintf(format, args...))
}

// runMachine runs a plan to its end and returns what is wrong with the results.
func runMachine(p plan, h how, seed uint64) (m *machine) {
	m = &machine{plan: p, how: h, rng: rand.New(rand.NewPCG(seed, 99)), mem: memory.NewCheckedAllocator(memory.NewGoAllocator()),
		store: pipelinetest.NewMemStore(), seed: seed, at: map[int64]int{}}
	m.out = &pipelinetest.MemSink{Store: m.store, Name: "out"}
	m.late = &pipelinetest.MemSink{Store: m.store, Name: "late"}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case broken:
			m.fail("%v", r.err)
		default:
			m.fail("panic: %v\n%s", r, debug.Stack())
		}
		m.drop()
	}()
	m.start()
	for n := 0; !m.done(); n++ {
		if n > 1_000_000 {
			panic(broken{errors.New("the machine does not come to an end")})
		}
		m.step()
	}
	for i, s := range m.shards {
		if n := s.task.Open(); n != 0 {
			m.fail("%d windows of shard %d are open after the end", n, i)
		}
		m.missed += s.op.Missed()
	}
	m.drop()
	if n := m.mem.CurrentAlloc(); n != 0 {
		m.fail("%d bytes were not given back", n)
	}
	m.compare()
	return m
}

func (m *machine) chance(n int) bool { return n > 0 && m.rng.IntN(n) == 0 }

// start loads the newest checkpoint, publishes its receipts again and builds everything.
func (m *machine) start() {
	ctx := context.Background()
	m.checkpoints = pipeline.NewCheckpoints(m.store, 2, m.mem)
	cp, skipped, err := m.checkpoints.Load(ctx)
	must(err)
	m.at[0] = 0
	if cp == nil && m.durable > 0 || cp != nil && cp.Epoch < m.durable {
		m.fail("the checkpoint that counts is lost: %v, %v", cp, skipped)
	}
	m.prev, m.epoch, m.commit, m.stages = cp, 1, nil, map[pipeline.Port]pipeline.Stage{}
	n := len(m.input)
	m.next, m.ended, m.stalled, m.newest = make([]int, n), make([]bool, n), make([]bool, n), make([]int64, n)
	for s := range m.newest {
		m.newest[s] = pipeline.MinTicks
	}
	m.still = -1
	lineage := uint16(1)
	if cp != nil {
		m.durable, lineage = cp.Epoch, cp.Lineage
	}
	m.epoch, err = m.checkpoints.Take(ctx, pipeline.Lease{Owner: "machine", Sure: true}, cp, lineage)
	must(err)
	m.visible()
	m.arrivals = m.arrivals[:m.at[m.durable]]
	shards := 1 + m.rng.IntN(m.how.shards)
	m.shards = nil
	for range shards {
		op, err := m.open(m.mem, m.seed)
		must(err)
		s := &simShard{op: op, full: true}
		s.task = pipeline.NewTask([]pipeline.Operator{op}, m.write)
		m.shards = append(m.shards, s)
	}
	keyer, err := pipeline.NewKeyer(m.schema, []string{"key"}, m.seed)
	must(err)
	m.front = pipeline.NewFront(pipeline.FrontConfig{Bound: m.spec.Bound, QuietAfter: m.spec.QuietAfter, OnAllQuiet: m.onAllQuiet, Align: pipeline.MaxTicks,
		MaxAhead: m.spec.MaxAhead, Shards: shards, Keyer: keyer}, m.send)
	if cp != nil {
		for _, r := range cp.Receipts {
			must(map[string]pipeline.Sink{"out": m.out, "late": m.late}[r.Sink].Publish(ctx, r.Receipt))
		}
		must(m.checkpoints.Pieces(ctx, cp, func(ref pipeline.PieceRef, p pipeline.Piece) error {
			for i, s := range m.shards {
				if err := s.task.Restore(ref.Op, p, func(g uint8) bool { return pipeline.ShardOf(g, shards) == i }); err != nil {
					return err
				}
			}
			return nil
		}))
		must(m.front.Restore(cp))
		for i, s := range cp.Splits {
			m.next[i], m.ended[i] = int(s.Position.Offset), s.Ended
		}
	}
	for s := range m.input {
		m.front.Announce(simSplit(s), pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks})
	}
}

func simSplit(s int) pipeline.Split { return pipeline.Split{Topic: "t", Partition: int32(s)} }

// visible looks for rows that were shown before the checkpoint that names them counts.
func (m *machine) visible() {
	objects, err := m.store.List(context.Background(), "published/")
	must(err)
	for _, o := range objects {
		_, n, _ := strings.Cut(o.Name, "-")
		if epoch, err := strconv.ParseInt(n, 10, 64); err != nil || epoch > m.durable {
			m.fail("%s is visible, the last checkpoint is %d", o.Name, m.durable)
		}
	}
}

func (m *machine) send(shard int, msg pipeline.Message) error {
	if msg.Kind == pipeline.RowsMessage {
		if m.wrong == wrongVerdict {
			for i := range msg.Batch.Behind {
				msg.Batch.Behind[i] = m.front.Merged().Event
			}
		}
		msg.Batch.Retain()
	}
	s := m.shards[shard]
	s.queue = append(s.queue, msg)
	return nil
}

// write takes what a shard emits.
func (m *machine) write(p pipeline.Port, b pipeline.Batch) error {
	if m.wrong == wrongLate && p == pipeline.Late && !m.wronged {
		m.wronged = true
		return nil
	}
	st := m.stages[p]
	if st == nil {
		sink := m.out
		if p == pipeline.Late {
			sink = m.late
		}
		var err error
		if st, err = sink.Begin(context.Background(), pipeline.Epoch{Job: "sim", Lineage: 1, N: m.epoch}); err != nil {
			return err
		}
		m.stages[p] = st
	}
	return st.Write(context.Background(), b)
}

func (m *machine) done() bool {
	return m.prev != nil && m.commit == nil && !slices.ContainsFunc(m.prev.Splits, func(s pipeline.SplitState) bool { return !s.Ended })
}

// step does one thing.
func (m *machine) step() {
	switch {
	case m.chance(m.crash):
		m.crashes++
		m.drop()
		m.start()
		return
	case m.chance(m.restart):
		m.restarts++
		m.settle()
		for _, s := range m.shards {
			m.missed += s.op.Missed()
		}
		m.drop()
		m.start()
		return
	case m.queued() < mostQueued && m.chance(m.tick):
		m.now += m.rng.Int64N(20)
		if m.chance(m.jump) {
			m.now += m.rng.Int64N(24*3600_000_000) - 12*3600_000_000
			m.jumps++
		}
		m.least, m.most = min(m.least, m.now), max(m.most, m.now)
		must(m.front.Tick(m.now))
		if m.wrong == wrongClock {
			must(m.front.LogEnd(simSplit(m.rng.IntN(len(m.input))), m.now, false))
		}
	case m.chance(m.barrier) && m.commit == nil:
		m.cut()
	case m.chance(m.stall):
		m.still = m.rng.IntN(len(m.shards)+1) - 1
		if s := m.rng.IntN(len(m.input)); m.spec.QuietAfter != pipeline.MaxTicks {
			m.stalled[s] = !m.stalled[s]
		}
	}
	if m.commit != nil && m.rng.IntN(3) == 0 && m.advance() {
		return
	}
	if m.direct || m.queued() >= mostQueued {
		m.still = -1
		for m.work() {
		}
	} else if m.rng.IntN(3) > 0 && m.work() {
		return
	}
	m.read()
}

// mostQueued is how much may lie in the queues before the shards empty them.
const mostQueued = 100

// queued is how much lies in the queues.
func (m *machine) queued() (n int) {
	for _, s := range m.shards {
		n += len(s.queue)
	}
	return n
}

// work lets a shard take its next message and tells whether there was one.
func (m *machine) work() bool {
	var ready []int
	for i, s := range m.shards {
		if len(s.queue) > 0 && !s.waiting && i != m.still {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return false
	}
	m.take(ready[m.rng.IntN(len(ready))])
	return true
}

func (m *machine) take(i int) {
	s := m.shards[i]
	msg := s.queue[0]
	s.queue = s.queue[1:]
	switch msg.Kind {
	case pipeline.BarrierMessage:
		m.snapshot(i)
		return
	case pipeline.RowsMessage:
		defer msg.Batch.Release()
		if m.wrong == wrongTwice && !m.wronged && len(m.arrivals) > 20 {
			m.wronged = true
			must(s.op.Process(msg.Batch, again{m}))
		}
	}
	must(s.task.Step(msg))
}

// snapshot gives the state of a shard away at its barrier. The last shard seals the epoch,
// and all go on.
func (m *machine) snapshot(i int) {
	s, c := m.shards[i], m.commit
	must(s.task.Snapshot(s.full, func(op int, p pipeline.Piece) error {
		if p.Rec != nil {
			p.Rec.Retain()
		}
		if p.Frozen != nil {
			c.frozen = append(c.frozen, atBarrier{p, p.Made().Rec})
		}
		c.pieces = append(c.pieces, pipeline.ShardPiece{Op: op, Shard: i, Piece: p})
		return nil
	}))
	s.full, s.waiting = false, true
	if n := s.task.Overdue(); n != 0 {
		panic(broken{fmt.Errorf("at barrier %d shard %d holds %d rows of state that nothing frees", c.cp.Epoch, i, n)})
	}
	for split, n := range s.task.TakeCounts() {
		c.cp.Splits[split].Counts.Add(n)
	}
	if c.snaps++; c.snaps < len(m.shards) {
		return
	}
	for _, s := range m.shards {
		s.waiting = false
	}
	c.stages, m.stages = m.stages, map[pipeline.Port]pipeline.Stage{}
	m.epoch++
	for i, split := range c.cp.Splits {
		if !split.Counts.Balanced() {
			panic(broken{fmt.Errorf("split %d at barrier %d: %w: %v", i, c.cp.Epoch, pipeline.ErrConservation, split.Counts)})
		}
	}
}

// cut sends a barrier.
func (m *machine) cut() {
	cp := &pipeline.Checkpoint{Job: "sim", Lineage: 1, Epoch: m.epoch, Seed: m.seed, Splits: m.front.Cut(), Merged: m.front.Merged(),
		Moves: slices.Clone(m.front.Moves())}
	m.at[cp.Epoch] = len(m.arrivals)
	if m.wrong == wrongOffsets {
		if s := m.pick(); s >= 0 {
			m.feed(s)
			late := m.front.Cut() // the counts add up, the offsets are behind
			for i := range late {
				cp.Splits[i].Counts.Add(late[i].Counts)
			}
		}
	}
	if m.prev != nil {
		for i, s := range m.prev.Splits {
			cp.Splits[i].Counts.Add(s.Counts)
		}
	}
	m.commit = &commit{cp: cp}
	must(m.front.Barrier(cp.Epoch))
}

// advance takes the next step of a commit, when every shard has met the barrier, and tells
// whether there was one: prepare each sink, write the checkpoint, publish each, prune.
func (m *machine) advance() bool {
	c := m.commit
	if c.snaps < len(m.shards) {
		return false
	}
	ctx := context.Background()
	sinks := []*pipelinetest.MemSink{m.out, m.late}
	step := c.step
	c.step++
	if m.wrong == wrongPublish { // 2 after 3 and 4
		step = []int{0, 1, 3, 4, 2, 5}[step]
	}
	switch step {
	case 0, 1:
		st := c.stages[[]pipeline.Port{pipeline.Out, pipeline.Late}[step]]
		if st == nil {
			break
		}
		r, err := st.Prepare(ctx, c.cp.Merged)
		must(err)
		if r != nil {
			c.cp.Receipts = append(c.cp.Receipts, pipeline.SinkReceipt{Sink: sinks[step].Name, Receipt: r})
		}
	case 2:
		must(c.unchanged())
		must(m.checkpoints.Write(ctx, c.cp, m.prev, c.pieces))
		m.durable = c.cp.Epoch
		c.release()
	case 3, 4:
		for _, r := range c.cp.Receipts {
			if r.Sink == sinks[step-3].Name {
				must(sinks[step-3].Publish(ctx, r.Receipt))
				m.visible()
			}
		}
	case 5:
		must(m.checkpoints.Prune(ctx, c.cp))
		m.prev, m.commit = c.cp, nil
	}
	return true
}

// atBarrier is a frozen piece with the rows that it had then.
type atBarrier struct {
	piece pipeline.Piece
	rows  arrow.RecordBatch
}

// unchanged tells whether every frozen piece still gives the rows of its barrier.
func (c *commit) unchanged() error {
	for _, f := range c.frozen {
		now := f.piece.Made().Rec
		same := array.RecordEqual(now, f.rows)
		now.Release()
		if !same {
			return fmt.Errorf("piece %s has changed since its barrier", f.piece.ID)
		}
	}
	return nil
}

func (c *commit) release() {
	for _, f := range c.frozen {
		f.rows.Release()
	}
	c.frozen = nil
	for _, p := range c.pieces {
		if p.Rec != nil {
			p.Rec.Release()
		}
	}
	c.pieces = nil
}

// settle brings everything that was read into a published checkpoint.
func (m *machine) settle() {
	m.still = -1
	finish := func() {
		for m.queued() > 0 {
			m.work()
		}
		for m.commit != nil && m.advance() {
		}
	}
	finish()
	m.cut()
	finish()
}

// pick chooses a split that has rows, -1 for none.
func (m *machine) pick() int {
	var open []int
	for s := range m.input {
		if m.next[s] < len(m.input[s]) && !m.stalled[s] {
			open = append(open, s)
		}
	}
	switch {
	case len(open) == 0:
		return -1
	case m.order == 0:
		return slices.MinFunc(open, func(a, b int) int { return m.next[a] - m.next[b] })
	case m.order == 1:
		return open[m.rng.IntN(len(open))]
	}
	return open[len(open)-1]
}

// read takes rows of a split, or says that one is at its log end, or has ended.
func (m *machine) read() {
	if s := m.rng.IntN(len(m.input)); m.stalled[s] && m.rng.IntN(2) == 0 {
		m.logEnd(s)
		return
	}
	if s := m.pick(); s >= 0 {
		m.feed(s)
		return
	}
	for s := range m.input {
		switch {
		case m.stalled[s]:
			m.logEnd(s)
			m.stalled[s] = m.rng.IntN(3) > 0
			return
		case !m.ended[s]:
			m.ended[s] = true
			m.arrivals = append(m.arrivals, arrival{kind: pipeline.EndOfSplit, split: int32(s)})
			must(m.front.End(simSplit(s)))
			return
		}
	}
	if m.commit == nil {
		m.cut()
	}
	m.still = -1
}

func (m *machine) logEnd(s int) {
	ev := arrival{kind: pipeline.LogEnd, split: int32(s), seen: pipeline.MinTicks, empty: m.next[s] == 0}
	for i, t := range m.newest {
		if i != s {
			ev.seen = max(ev.seen, t)
		}
	}
	m.arrivals = append(m.arrivals, ev)
	must(m.front.LogEnd(simSplit(s), ev.seen, ev.empty))
}

// feed reads, decodes and fronts a run of rows of any length.
func (m *machine) feed(s int) {
	rest := m.input[s][m.next[s]:]
	rows := rest[:min(1+m.rng.IntN(m.batch), len(rest))]
	m.next[s] += len(rows)
	for _, r := range rows {
		m.newest[s] = max(m.newest[s], r.Ingest)
		m.arrivals = append(m.arrivals, arrival{row: r})
	}
	w := pipelinetest.NewWire(rows)
	must(pipelinetest.RowDecoder{Mem: m.mem, Wide: m.schema.NumFields() > 6}.Decode(w, fronter{m, w}))
}

// fronter hands what the decoder makes of a wire to the front.
type fronter struct {
	m *machine
	w *pipeline.Wire
}

func (f fronter) Emit(_ pipeline.Port, b pipeline.Batch) error { return f.m.front.Rows(f.w, &b, 0) }
func (f fronter) Count(pipeline.Fate, int32, int64)            {}

// again is the emitter of a batch that is folded once more: neither counts nor late rows
// give it away.
type again struct{ m *machine }

func (a again) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Late {
		return nil
	}
	return a.m.write(p, b)
}
func (a again) Count(pipeline.Fate, int32, int64) {}

// drop loses what is not in the store.
func (m *machine) drop() {
	for _, s := range m.shards {
		for _, msg := range s.queue {
			if msg.Kind == pipeline.RowsMessage {
				msg.Batch.Release()
			}
		}
		s.queue = nil
	}
	if m.commit != nil {
		m.commit.release()
	}
	m.commit = nil
}

// compare holds the published rows against the oracle.
func (m *machine) compare() {
	m.visible()
	o := pipelinetest.NewOracle(m.spec, len(m.input))
	for _, a := range m.arrivals {
		switch a.kind {
		case pipeline.Rows:
			o.Add(a.row)
		case pipeline.LogEnd:
			o.LogEnd(a.split, a.seen, a.empty)
		case pipeline.EndOfSplit:
			o.End(a.split)
		}
	}
	rows := 0
	for _, split := range m.input {
		rows += len(split)
	}
	var all pipeline.Counts
	for _, s := range m.prev.Splits {
		all.Add(s.Counts)
	}
	want := pipeline.Counts{pipeline.Read: int64(rows), pipeline.FateLate: int64(len(o.Late)), pipeline.Filtered: o.Outside,
		pipeline.Aggregated: int64(rows) - int64(len(o.Late)) - o.Outside}
	if all != want {
		m.fail("counts %v, want %v", all, want)
	}
	if m.crash == 0 && m.missed != o.Missed {
		m.fail("%d missed pairs, want %d", m.missed, o.Missed)
	}
	f := &fold{plan: m.plan, final: map[string]string{}, revision: map[string]int{}, sums: map[string][]int64{}}
	lines, err := m.out.Published()
	must(err)
	for _, l := range lines {
		f.row(l)
	}
	m.bad = append(m.bad, f.bad...)
	m.bad = append(m.bad, f.compare(o)...)
	late, err := m.late.Lines()
	must(err)
	m.bad = append(m.bad, compareLate(late, o.Late)...)
}

// fold turns published rows into what they say in the end.
type fold struct {
	plan
	final    map[string]string  // by key and window: the values
	revision map[string]int     // the last of a window
	sums     map[string][]int64 // of discarding panes: rows, sum, least, most
	bad      []string
}

func (f *fold) fail(format string, args ...any) { f.bad = append(f.bad, fmt.Sprintf(format, args...)) }

// row takes the next published row.
func (f *fold) row(line string) {
	at, values := "", ""
	of := map[string]string{}
	for _, field := range strings.Fields(line) {
		name, v, _ := strings.Cut(field, "=")
		of[name] = v
		switch {
		case name == "key" || name == "window_start" || name == "window_end":
			at += " " + v
		case name[0] != '_':
			values += " " + field
		}
	}
	session := f.spec.Kind == "session"
	kind := of["_tm_kind"]
	if deleted := of["_tm_del"] == "true"; deleted != (kind == "-D") && f.retract {
		f.fail("%s says of its deletion both", line)
	} else if deleted {
		kind = "-D"
	}
	revision, err := strconv.Atoi(of["_tm_revision"])
	if last := f.revision[at]; err != nil || session && revision <= last && kind != "-U" || !session && kind != "-U" && revision != last+1 {
		f.fail("%s follows revision %d", line, last)
	}
	f.revision[at] = max(f.revision[at], revision)
	shown, ok := f.final[at]
	switch {
	case kind == "-D" || kind == "-U":
		if !ok || kind == "-U" && shown != values {
			f.fail("%s withdraws%s, shown was%q", line, at, shown)
		}
		delete(f.final, at)
		return
	case f.retract && ok:
		f.fail("%s: shown already as%s", line, shown)
	}
	if f.discard {
		if session {
			at = " " + of["key"]
		}
		f.add(at, of)
		return
	}
	f.final[at] = values
}

// add sums a discarding pane up.
func (f *fold) add(at string, of map[string]string) {
	n := func(name string) int64 {
		v, err := strconv.ParseInt(of[name], 10, 64)
		if err != nil {
			f.fail("%s of a pane is %q", name, of[name])
		}
		return v
	}
	count, sum, least, most := n("count"), n("sum"), n("min"), n("max")
	if old := f.sums[at]; old != nil {
		count, sum, least, most = count+old[0], sum+old[1], min(least, old[2]), max(most, old[3])
	}
	f.sums[at] = []int64{count, sum, least, most}
}

func (f *fold) compare(o *pipelinetest.Oracle) (bad []string) {
	want := map[string]string{}
	sums := map[string][]int64{}
	for _, w := range o.Windows() {
		at := fmt.Sprintf(" %s %d %d", w.Key, w.Start, w.End)
		if f.spec.Kind == "global" {
			at = fmt.Sprintf(" %s (null) (null)", w.Key)
		}
		if f.discard {
			if f.spec.Kind == "session" {
				at = " " + w.Key
			}
			for _, r := range w.Rows {
				s := sums[at]
				if s == nil {
					s = []int64{0, 0, r.Value, r.Value}
				}
				sums[at] = []int64{s[0] + 1, s[1] + r.Value, min(s[2], r.Value), max(s[3], r.Value)}
			}
			continue
		}
		values := ""
		for _, a := range f.aggs {
			values += fmt.Sprintf(" %s=%s", a.As, w.Value(a.Fn, a.Column))
		}
		want[at] = values + fmt.Sprintf(" late_count=%d", w.Late)
	}
	got := f.final
	if f.discard {
		got = map[string]string{}
		for at, s := range f.sums {
			got[at] = fmt.Sprint(s)
		}
		for at, s := range sums {
			want[at] = fmt.Sprint(s)
		}
	}
	for at, v := range want {
		if got[at] != v {
			bad = append(bad, fmt.Sprintf("window%s:\n\tgot %s\n\twant%s", at, got[at], v))
		}
	}
	for at, v := range got {
		if _, ok := want[at]; !ok {
			bad = append(bad, fmt.Sprintf("window%s:\n\tgot %s\n\twant none", at, v))
		}
	}
	return bad
}

func compareLate(lines []string, want []pipelinetest.OracleLate) []string {
	var got, all []string
	for _, l := range lines {
		of := map[string]string{}
		for _, field := range strings.Fields(l) {
			name, v, _ := strings.Cut(field, "=")
			of[name] = v
		}
		got = append(got, fmt.Sprintf("%s/%s %s at %s of %s: %s by %s, [%s,%s)", of["_split"], of["_offset"], of["value"], of["time"], of["key"],
			of["reason"], of["late_by_us"], of["window_start"], of["window_end"]))
	}
	for _, l := range want {
		all = append(all, fmt.Sprintf("%d/%d %d at %d of %s: %s by %d, [%d,%d)", l.Split, l.Offset, l.Value, l.Time, l.Key, l.Reason, l.By, l.Start, l.End))
	}
	slices.Sort(got)
	slices.Sort(all)
	if d := firstDifference(got, all); d != "none" {
		return []string{"late rows: " + d}
	}
	return nil
}

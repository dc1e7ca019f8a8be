package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pipeline/crash"
)

// Job is everything that Run needs. The functions build the parts of which there are
// several; what they return must not share state.
type Job struct {
	Name       string
	Open       OpenSource
	NewDecoder func() (Decoder, error)
	// KeyColumns are the columns that rows are dealt to shards by.
	KeyColumns []string
	// NewChain builds the operators of one shard.
	NewChain func(seed uint64) ([]Operator, error)
	// Outputs are the sinks per port. One that is there at several has one stage for all of them.
	Outputs map[Port][]Output
	Front   FrontConfig // Shards and Keyer are set by Run
	Shards  int
	// Decoders is the number of goroutines that decode.
	Decoders    int
	Checkpoints *Checkpoints
	Lease       Lease
	Interval    time.Duration // between checkpoints
	// StopTimeout bounds the last checkpoint after a stop was asked for.
	StopTimeout time.Duration
	// MaxStageRows bounds what is staged while an earlier epoch is still being published;
	// beyond it the job reads no more until that is done.
	MaxStageRows int64
	Log          *slog.Logger
	Metrics      *Metrics
	// References, unless nil, brings new contents of reference tables. It is not buffered: one
	// that was taken holds for all rows that the front takes after it.
	References <-chan Reference
	// OnCheckpoint, when set, is told of every published checkpoint and of the rows that it
	// published per output.
	OnCheckpoint func(Published)
	// Config is the configuration as JSON, without secrets. Every checkpoint keeps that of the
	// job that wrote it, and Accept, unless nil, is asked whether this job can go on from it
	// before anything is done.
	Config json.RawMessage
	Accept func(*Checkpoint) error
	// Merge reads the splits of a bounded source in the order of event time.
	Merge bool
	// Lineage, unless 0, is that of a job that never gets another: a replay. It cannot go on from
	// a checkpoint before the last.
	Lineage uint16
	// NewLineage publishes what the last checkpoint has prepared and starts over from where
	// the source starts, with no state. What is worked out again replaces what was.
	NewLineage bool
	// Settings, unless nil, brings what may change while the job runs.
	Settings <-chan Settings
}

// Settings are what may change while a job runs, as in Job.
type Settings struct {
	Interval, StopTimeout time.Duration
	Keep                  int // checkpoints
	Config                json.RawMessage
}

// Output is one sink of a port.
type Output struct {
	Name string
	Sink Sink
}

// Published describes a published checkpoint.
type Published struct {
	Lineage uint16
	Epoch   int64
	Splits  []SplitState
	Merged  Mark
	Holder  int32
	// Since is when, by the wall clock, the merged mark rose last; MinTicks for not yet.
	Since int64
	Rows  map[string]int64 // by output name, in this epoch
	Open  int              // open windows: (key, window) pairs that the state holds; where windows overlap, (key, slice) pairs
	Took  time.Duration
	// Pause is how long the shards stood still at the barrier, the first of them.
	Pause time.Duration
	Bytes int64
}

// FirstReplay is the lowest lineage of a replay; those of live jobs are below.
const FirstReplay = 1 << 15

// queue lengths, in messages.
const (
	shardQueue  = 8
	outputQueue = 8
)

// ErrConservation says that rows read and rows with a fate do not add up at a barrier. It
// is a broken invariant of this program.
var ErrConservation = errors.New("rows are unaccounted for")

// decoded is one source event on its way to the front; done is closed once the decoder
// has filled in what came of its wire.
type decoded struct {
	ev   Event
	rows *Batch
	dead *Batch
	err  error
	done chan struct{}
}

// cut is the front's part of a checkpoint.
type cut struct {
	epoch  int64
	splits []SplitState
	merged Mark
	newest int64
	moves  []Move
	gaps   []Gap
	holder int32
	since  int64
	idles  int64             // idle timeouts since the last cut
	clock  arrow.RecordBatch // of the front's Clock; nil without one
	final  bool
	open   int   // windows, summed over the shards
	due    int   // rows of state that nothing would free
	state  int64 // bytes, summed over the shards
	pause  time.Duration
}

// shardCut is one shard's part.
type shardCut struct {
	shard   int
	epoch   int64
	stopped time.Time
	pieces  []ShardPiece
	counts  []Counts
	panes   map[string]int64
	tally   Tally
	open    int
	due     int
	state   int64
}

// emission is what goes to the writer: rows for the sinks of a port, or a shard's barrier.
type emission struct {
	port    Port
	batch   Batch
	barrier bool
}

// sealed is an epoch's stages, complete.
type sealed struct {
	stages []stage
}

func (s sealed) abort() error {
	var errs []error
	for _, st := range s.stages {
		errs = append(errs, st.st.Abort())
	}
	return errors.Join(errs...)
}

type stage struct {
	out  Output
	st   Stage
	rows int64
}

type runner struct {
	job     Job
	lineage uint16
	seed    uint64
	prev    *Checkpoint
	epoch   int64 // of the epoch at hand
	front   *Front
	merge   *merge // nil: splits come as the source gives them
	tasks   []*Task

	decoders []Decoder
	outs     []Output // of all ports, in their order

	stopTimeout atomic.Int64 // read when the job is asked to stop, in nanoseconds

	ordered chan *decoded
	enough  func() // ends the reading
	work    chan *decoded
	due     chan struct{}
	cuts    chan cut
	shards  []chan Message
	snaps   chan shardCut
	resume  []chan struct{}
	outputs chan emission
	seals   chan sealed

	busy  sync.Mutex // guards below
	freed *sync.Cond
	// pending counts epochs that are sealed and not yet published.
	pending int
	failed  bool
}

// Run runs a job until its bounded source has ended, ctx is done (it then stops
// gracefully: reading stops, a last checkpoint is made and published, windows stay open),
// or something fails. After a failure, and after being killed, the next Run goes on from
// the last checkpoint.
func Run(ctx context.Context, job Job) error {
	r := &runner{job: job}
	r.freed = sync.NewCond(&r.busy)
	r.stopTimeout.Store(int64(job.StopTimeout))
	begun := func(err error) error {
		if err != nil && ctx.Err() != nil {
			job.Log.Info("stopped before it had begun", "err", err)
			return nil
		}
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return begun(err)
	}
	from := map[Split]Position{}
	if r.prev != nil {
		for _, s := range r.prev.Splits {
			from[s.Split] = s.Position
		}
		if r.prev.Ended() {
			// Every window is closed: rows that came since would all be late.
			job.Log.Warn("the job has ended: its bounded source was read to the end; records that came later need another job name or checkpoint directory", "epoch", r.prev.Epoch)
			r.report(r.prev, cut{merged: r.prev.Merged, holder: -1}, nil, time.Now())
			return nil
		}
	}
	src, err := job.Open(ctx, from)
	if err != nil {
		return begun(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			job.Log.Warn("source close", "err", err)
		}
	}()
	return r.run(ctx, src)
}

// prepare restores the last checkpoint, publishes its receipts once more and builds the
// parts of the job.
func (r *runner) prepare(ctx context.Context) error {
	for _, p := range slices.Sorted(maps.Keys(r.job.Outputs)) {
		for _, o := range r.job.Outputs[p] {
			if !slices.Contains(r.outs, o) {
				r.outs = append(r.outs, o)
			}
		}
	}
	byName := map[string]Output{}
	for _, o := range r.outs {
		if _, twice := byName[o.Name]; twice {
			return fmt.Errorf("two outputs are named %q", o.Name)
		}
		byName[o.Name] = o
	}
	cp, err := r.claim(ctx)
	if err != nil {
		return err
	}
	if cp != nil {
		for _, rc := range cp.Receipts {
			o, ok := byName[rc.Sink]
			if !ok {
				return fmt.Errorf("checkpoint %d holds rows for sink %q, which the job no longer has: put it back for one run", cp.Epoch, rc.Sink)
			}
			if err := o.Sink.Publish(ctx, rc.Receipt); err != nil {
				return fmt.Errorf("publish epoch %d again to %s: %w", cp.Epoch, o.Name, err)
			}
		}
		r.job.Log.Info("restored", "epoch", cp.Epoch, "lineage", r.lineage, "splits", len(cp.Splits))
	}
	for _, o := range r.outs {
		if err := o.Sink.Sweep(ctx); err != nil {
			return fmt.Errorf("sweep %s: %w", o.Name, err)
		}
	}
	if r.job.NewLineage && cp != nil {
		if err := r.startOver(ctx, cp); err != nil {
			return err
		}
	}
	return r.build(ctx)
}

// startOver makes a checkpoint with nothing in it, whose receipts are none. From then on the
// old state is out of use, also for a process that comes after one that died.
func (r *runner) startOver(ctx context.Context, old *Checkpoint) error {
	cp := &Checkpoint{Job: r.job.Name, Lineage: r.lineage, Epoch: r.epoch, Seed: r.seed, Merged: Mark{Event: MinTicks, Ingest: MinTicks}, Newest: MinTicks, Config: r.job.Config}
	if err := r.job.Checkpoints.Write(ctx, cp, nil, nil); err != nil {
		return err
	}
	r.job.Log.Warn("new lineage: the job starts over from where its source starts", "epoch", cp.Epoch, "lineage", cp.Lineage, "before", old.Epoch)
	r.prev = cp
	r.epoch++
	return nil
}

// claim loads the last checkpoint and takes the job over with it.
func (r *runner) claim(ctx context.Context) (*Checkpoint, error) {
	lease := r.job.Lease
	lease.Now = time.Now
	for {
		cp, skipped, err := r.job.Checkpoints.Load(ctx)
		if err != nil {
			return nil, err
		}
		r.prev, r.lineage, r.seed = cp, max(1, r.job.Lineage), rand.Uint64()
		if cp != nil {
			if cp.Job != r.job.Name {
				return nil, fmt.Errorf("the checkpoint directory holds job %q, this is %q: give each job a directory of its own", cp.Job, r.job.Name)
			}
			r.lineage, r.seed = cp.Lineage, cp.Seed
			if r.job.Accept != nil && !r.job.NewLineage {
				if err := r.job.Accept(cp); err != nil {
					return nil, err
				}
			}
		}
		// What is done again, after a rewind or on request, is not what was done.
		if r.job.Lineage != 0 && len(skipped) > 0 {
			return nil, fmt.Errorf("%w: what was done since the checkpoint before would be there twice; remove this replay and make another", skipped[0].Err)
		}
		if cp != nil && (len(skipped) > 0 || r.job.NewLineage) {
			if err := r.job.Checkpoints.Confirm(ctx, cp); err != nil {
				return nil, err
			}
			taken, err := r.job.Checkpoints.Lineage(ctx)
			if err != nil {
				return nil, err
			}
			if r.lineage = max(r.lineage, taken) + 1; r.lineage >= FirstReplay {
				return nil, errors.New("the job was rewound or started over 32,767 times: lineages are used up")
			}
		}
		r.epoch, err = r.job.Checkpoints.Take(ctx, lease, cp, r.lineage)
		if errors.Is(err, errMoved) && ctx.Err() == nil {
			continue // the process that runs the job was faster by one checkpoint
		}
		for _, s := range skipped {
			r.job.Log.Error("checkpoint passed over", "epoch", s.Epoch, "err", s.Err)
		}
		return cp, err
	}
}

func (r *runner) build(ctx context.Context) error {
	for range max(1, r.job.Decoders) {
		dec, err := r.job.NewDecoder()
		if err != nil {
			return err
		}
		r.decoders = append(r.decoders, dec)
	}
	cfg := r.job.Front
	cfg.Shards = r.job.Shards
	var err error
	rows := r.decoders[0].Schema()
	if cfg.Clock != nil {
		rows = cfg.Clock.Schema()
	}
	if cfg.Keyer, err = NewKeyer(rows, r.job.KeyColumns, r.seed); err != nil {
		return err
	}
	n := r.job.Shards
	r.ordered = make(chan *decoded, 2*r.job.Decoders+2)
	r.work = make(chan *decoded, 2*r.job.Decoders+2)
	r.due = make(chan struct{}, 1)
	r.cuts = make(chan cut, 1)
	r.snaps = make(chan shardCut, n)
	r.outputs = make(chan emission, outputQueue)
	r.seals = make(chan sealed, 1)
	for range n {
		chain, err := r.job.NewChain(r.seed)
		if err != nil {
			return err
		}
		r.shards = append(r.shards, make(chan Message, shardQueue))
		r.resume = append(r.resume, make(chan struct{}, 1))
		r.tasks = append(r.tasks, NewTask(chain, nil))
	}
	if r.prev != nil {
		err := r.job.Checkpoints.Pieces(ctx, r.prev, func(ref PieceRef, p Piece) error {
			if ref.Op == FrontOp {
				return r.restoreFront(p)
			}
			for s, t := range r.tasks {
				if err := t.Restore(ref.Op, p, func(g uint8) bool { return ShardOf(g, n) == s }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && r.prev.Config == nil {
			return fmt.Errorf("%w; checkpoint %d was written by an older version, which may be the reason: go back to that version, which can read it, or start a new lineage with --new-lineage", err, r.prev.Epoch)
		}
		if err != nil {
			return err
		}
		if r.job.Metrics != nil {
			r.job.Metrics.resume(r.prev.Splits)
		}
	}
	r.front = NewFront(cfg, nil)
	return nil
}

// restoreFront gives the front's piece of a checkpoint to the job's clock.
func (r *runner) restoreFront(p Piece) error {
	if r.job.Front.Clock == nil {
		return errors.New("the checkpoint knows the clocks of gateways, and the job has none to follow: put back what followed them, or start a new lineage with --new-lineage")
	}
	return r.job.Front.Clock.Restore(p.Rec)
}

func (r *runner) run(ctx context.Context, src Source) error {
	// The work goes on past the end of ctx, for the last checkpoint: hard ends it.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopped := context.AfterFunc(ctx, func() {
		if d := time.Duration(r.stopTimeout.Load()); d > 0 {
			time.AfterFunc(d, cancel)
		}
	})
	defer stopped()
	g, gctx := errgroup.WithContext(hard)
	context.AfterFunc(gctx, func() { // wakes a writer that waits for room
		r.busy.Lock()
		r.failed = true
		r.busy.Unlock()
		r.freed.Broadcast()
	})
	from, first := r.prev, r.epoch // the coordinator and the front go on to the next ones
	reading, enough := context.WithCancel(ctx)
	defer enough()
	r.enough = enough
	g.Go(func() error { return r.read(reading, gctx, src, from) })
	for _, dec := range r.decoders {
		g.Go(func() error { return r.decode(gctx, dec) })
	}
	g.Go(func() error { return r.runFront(gctx, src) })
	for i := range r.tasks {
		g.Go(func() error { return r.runShard(gctx, i) })
	}
	g.Go(func() error { return r.write(gctx, first) })
	g.Go(func() error { return r.coordinate(gctx, src) })
	err := g.Wait()
	if err != nil && r.job.Metrics != nil {
		r.job.Metrics.ckptFailed.Inc()
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return fmt.Errorf("stop: the last checkpoint was not done within %v; the job goes on from the one before", time.Duration(r.stopTimeout.Load()))
	}
	return err
}

// read takes events from the source, in order, until ctx is done. It numbers splits in the
// order in which the front will announce them.
func (r *runner) read(ctx, hard context.Context, src Source, from *Checkpoint) error {
	defer close(r.ordered)
	defer close(r.work)
	rctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(hard, cancel)()
	index := map[Split]int32{}
	if from != nil {
		for i, s := range from.Splits {
			index[s.Split] = int32(i)
		}
	}
	for {
		ev, err := src.Next(rctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return nil // asked to stop
		case err != nil:
			return err
		}
		d := &decoded{ev: ev, done: make(chan struct{})}
		switch ev.Kind {
		case NewSplit:
			if _, known := index[ev.Split]; !known {
				index[ev.Split] = int32(len(index))
			}
		case Rows:
			i, known := index[ev.Split]
			if !known {
				return fmt.Errorf("source gave rows of %s before it announced the split", ev.Split)
			}
			ev.Wire.Split = i
		}
		if ev.Kind != Rows || ev.Wire.Len() == 0 {
			close(d.done)
		} else if !sendTo(hard, r.work, d) {
			return hard.Err()
		}
		if !sendTo(hard, r.ordered, d) {
			return hard.Err()
		}
	}
}

func sendTo[T any](ctx context.Context, ch chan<- T, v T) bool {
	select {
	case ch <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// decode turns wires into rows. Several run at once; the front takes their results in the
// order of the source. After a failure nothing is decoded any more, and what waits is still
// ended: the front waits for all that it holds before it gives that back.
func (r *runner) decode(ctx context.Context, dec Decoder) error {
	for d := range r.work {
		if d.err = ctx.Err(); d.err == nil {
			d.err = dec.Decode(d.ev.Wire, d)
		}
		close(d.done)
	}
	return ctx.Err()
}

// Emit keeps what the decoder sends.
func (d *decoded) Emit(p Port, b Batch) error {
	at := &d.rows
	if p == Dead {
		at = &d.dead
	}
	if *at != nil {
		return fmt.Errorf("decode %s: two batches on port %s", d.ev.Split, p)
	}
	b.Retain()
	*at = &b
	return nil
}

// release gives back what the decoder gave.
func (d *decoded) release() {
	for _, b := range []*Batch{d.rows, d.dead} {
		if b != nil {
			b.Release()
		}
	}
}

// Count is for operators; a decoder's refusals are counted by the front.
func (d *decoded) Count(Fate, int32, int64) {}

// runFront owns the Front: events, ticks and barriers pass through here one at a time.
func (r *runner) runFront(ctx context.Context, src Source) error {
	defer func() {
		for _, ch := range r.shards {
			close(ch)
		}
	}()
	r.front.send = func(shard int, m Message) error {
		if m.Kind == RowsMessage {
			m.Batch.Retain()
		}
		if !sendTo(ctx, r.shards[shard], m) {
			return ctx.Err()
		}
		return nil
	}
	r.front.cfg.Dead = func(b Batch) error {
		if b.NumRows() == 0 {
			return nil
		}
		b.Retain()
		if !sendTo(ctx, r.outputs, emission{port: Dead, batch: b}) {
			b.Release()
			return ctx.Err()
		}
		return nil
	}
	if r.prev != nil {
		if err := r.front.Restore(r.prev); err != nil {
			return err
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	if r.job.Merge {
		r.merge = newMerge(func(split int32) int64 { return r.front.marks.At(int(split)).Event })
		defer r.merge.drop()
	}
	var paused, ahead []Split
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := r.front.Tick(time.Now().UnixMicro()); err != nil {
				return err
			}
		case <-r.due:
			if err := r.barrier(ctx, false); err != nil {
				return err
			}
		case ref := <-r.job.References:
			if err := r.front.Reference(ref); err != nil {
				return err
			}
		case d, ok := <-r.ordered:
			if !ok {
				return r.barrier(ctx, true)
			}
			if err := r.takeNext(ctx, d); err != nil {
				return err
			}
			if ahead = r.ahead(ahead[:0]); !slices.Equal(ahead, paused) {
				paused = append(paused[:0], ahead...)
				src.Pause(slices.Clone(paused))
			}
			if r.job.Metrics != nil {
				r.job.Metrics.mark.Store(r.front.Merged().Event)
			}
		}
	}
}

// takeNext takes an event of the source, or with Merge those whose turn has come.
func (r *runner) takeNext(ctx context.Context, d *decoded) error {
	if r.merge == nil {
		return r.take(ctx, d)
	}
	if d.ev.Kind == NewSplit { // all of them come before all else
		err := r.take(ctx, d)
		r.merge.grow(len(r.front.splits))
		return err
	}
	r.merge.push(r.front.Index(d.ev.Split), d)
	for d := r.merge.pop(); d != nil; d = r.merge.pop() {
		if err := r.take(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// ahead appends the splits that shall not be read for now, in their order.
func (r *runner) ahead(to []Split) []Split {
	to = r.front.Ahead(to)
	if r.merge != nil {
		for i, s := range r.front.splits[:len(r.merge.queues)] {
			if r.merge.ahead(int32(i)) {
				to = append(to, s.Split)
			}
		}
	}
	slices.SortFunc(to, func(a, b Split) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return slices.Compact(to)
}

func (r *runner) take(ctx context.Context, d *decoded) error {
	select {
	case <-d.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.err != nil {
		return d.err
	}
	ev := d.ev
	switch ev.Kind {
	case NewSplit:
		r.front.Announce(ev.Split, ev.Position)
	case LogEnd:
		return r.front.LogEnd(ev.Split, ev.Seen, ev.Empty)
	case EndOfSplit:
		if err := r.front.End(ev.Split); err != nil {
			return err
		}
		r.endReading()
	case GapFound:
		r.front.Gap(ev)
		r.job.Log.Warn("records are gone from the log", "split", ev.Split.String(), "from", ev.From, "to", ev.To, "reason", ev.Reason)
		if r.job.Metrics != nil {
			r.job.Metrics.gapRecords.WithLabelValues(ev.Split.Topic, ev.Reason).Add(float64(ev.To - ev.From))
		}
	case Rows:
		defer d.release()
		return r.takeRows(ctx, d)
	}
	return nil
}

// takeRows gives the rows of a wire to the front and its dead records to the sinks, as far as
// the split goes.
func (r *runner) takeRows(ctx context.Context, d *decoded) error {
	split := d.ev.Wire.Split
	if _, over := r.front.Over(split); over {
		return nil
	}
	var dead int64
	if d.dead != nil {
		dead = int64(d.dead.NumRows())
	}
	if err := r.front.Rows(d.ev.Wire, d.rows, dead); err != nil {
		return err
	}
	next, over := r.front.Over(split)
	r.endReading()
	if d.dead == nil {
		return nil
	}
	b := *d.dead
	if over {
		b.Rec = before(b.Rec, next)
		defer b.Release()
	}
	return r.front.cfg.Dead(b)
}

// endReading ends the reading when every split has ended. One that Until has ended is paused, so
// that the source never comes to the end of it.
func (r *runner) endReading() {
	if r.job.Front.Until != 0 && r.front.Ended() {
		r.enough()
	}
}

// barrier ends the epoch at hand. The Dead rows of the front are with the writer already,
// so they come before the shards' barriers there.
func (r *runner) barrier(ctx context.Context, final bool) error {
	c := cut{epoch: r.epoch, splits: r.front.Cut(), merged: r.front.Merged(), newest: r.front.Newest(), moves: slices.Clone(r.front.Moves()),
		gaps: slices.Clone(r.front.Gaps()), holder: r.front.Holder(), since: r.front.Since(), idles: r.front.TakeIdles(), final: final}
	if clock := r.job.Front.Clock; clock != nil {
		c.clock = clock.Snapshot()
	}
	if err := r.front.Barrier(r.epoch); err != nil {
		return err
	}
	r.epoch++
	if !sendTo(ctx, r.cuts, c) {
		return ctx.Err()
	}
	return nil
}

// runShard owns one Task. At a barrier it tells the writer, gives its state away and waits
// until every shard has done so: nothing of the next epoch can then come before a barrier
// in the writer's queue.
func (r *runner) runShard(ctx context.Context, i int) error {
	t := r.tasks[i]
	t.out = func(p Port, b Batch) error {
		b, err := r.own(b)
		if err != nil {
			return err
		}
		if !sendTo(ctx, r.outputs, emission{port: p, batch: b}) {
			return ctx.Err()
		}
		return nil
	}
	full := true
	for m := range r.shards[i] {
		if m.Kind != BarrierMessage {
			err := t.Step(m)
			if m.Kind == RowsMessage {
				m.Batch.Release()
			}
			if err != nil {
				return fmt.Errorf("shard %d: %w", i, err)
			}
			continue
		}
		if !sendTo(ctx, r.outputs, emission{barrier: true}) {
			return ctx.Err()
		}
		s := shardCut{shard: i, epoch: m.Epoch, stopped: time.Now()}
		err := t.Snapshot(full, func(op int, p Piece) error {
			if p.Rec != nil { // frozen rows are made when they are written
				p.Rec.Retain()
			}
			s.pieces = append(s.pieces, ShardPiece{Op: op, Shard: i, Piece: p})
			return nil
		})
		if err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
		full = false
		s.counts, s.panes, s.open, s.state = t.TakeCounts(), t.TakePanes(), t.Held(), t.Bytes()
		s.tally, s.due = t.TakeTally(), t.Overdue()
		if !sendTo(ctx, r.snaps, s) {
			return ctx.Err()
		}
		select {
		case <-r.resume[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// own keeps a batch that a task lent.
func (r *runner) own(b Batch) (Batch, error) {
	if b.Rows != nil {
		return Batch{}, errors.New("a selection left the task: operators emit whole batches")
	}
	b.Retain()
	return b, nil
}

// write owns the stages: it writes what shards and front emit, and seals an epoch when
// every shard's barrier has come.
func (r *runner) write(ctx context.Context, first int64) (err error) {
	stages := map[string]*stage{}
	defer func() {
		for _, s := range stages {
			if aerr := s.st.Abort(); aerr != nil && err == nil {
				err = fmt.Errorf("abort stage of %s: %w", s.out.Name, aerr)
			}
		}
	}()
	epoch := Epoch{Job: r.job.Name, Lineage: r.lineage, N: first}
	barriers := 0
	var staged int64
	full := false // the end of this epoch was asked for
	for {
		var e emission
		select {
		case <-ctx.Done():
			return ctx.Err()
		case got, ok := <-r.outputs:
			if !ok {
				return nil
			}
			e = got
		}
		if e.barrier {
			if barriers++; barriers < len(r.tasks) {
				continue
			}
			var s sealed
			for _, o := range r.outs {
				st, err := begin(ctx, epoch, stages, o)
				if err != nil {
					return errors.Join(err, s.abort())
				}
				s.stages = append(s.stages, *st)
				delete(stages, o.Name)
			}
			r.addPending(1)
			if !sendTo(ctx, r.seals, s) {
				return ctx.Err()
			}
			barriers, staged, full = 0, 0, false
			epoch.N++
			continue
		}
		rows := int64(e.batch.NumRows())
		if err := r.stageBatch(ctx, epoch, stages, e); err != nil {
			return err
		}
		if len(r.job.Outputs[e.port]) == 0 {
			continue
		}
		if staged += rows; staged > r.job.MaxStageRows && !full {
			full = true // the barrier comes behind what is in the queues already
			r.waitPublished()
			select { // end this epoch soon
			case r.due <- struct{}{}:
			default:
			}
		}
	}
}

func (r *runner) stageBatch(ctx context.Context, epoch Epoch, stages map[string]*stage, e emission) error {
	defer e.batch.Release()
	if m := r.job.Metrics; m != nil && (e.port == Late || e.port == Dead) {
		m.refused(e.port, e.batch.Rec)
	}
	for _, o := range r.job.Outputs[e.port] {
		s, err := begin(ctx, epoch, stages, o)
		if err != nil {
			return err
		}
		if err := s.st.Write(ctx, e.batch); err != nil {
			return fmt.Errorf("stage epoch %d for %s: %w", epoch.N, o.Name, err)
		}
		s.rows += int64(e.batch.NumRows())
		if r.job.Metrics != nil {
			r.job.Metrics.stageRows.WithLabelValues(o.Name).Set(float64(s.rows))
		}
	}
	return nil
}

// begin returns the stage of an output, which it begins unless it is there.
func begin(ctx context.Context, epoch Epoch, stages map[string]*stage, o Output) (*stage, error) {
	if s := stages[o.Name]; s != nil {
		return s, nil
	}
	st, err := o.Sink.Begin(ctx, epoch)
	if err != nil {
		return nil, fmt.Errorf("stage epoch %d for %s: %w", epoch.N, o.Name, err)
	}
	s := &stage{out: o, st: st}
	stages[o.Name] = s
	return s, nil
}

func (r *runner) addPending(n int) {
	r.busy.Lock()
	r.pending += n
	r.busy.Unlock()
	r.freed.Broadcast()
}

// waitPublished waits while an earlier epoch is being published. Meanwhile queues fill up
// and reading stops: that is the back pressure of a slow sink.
func (r *runner) waitPublished() {
	r.busy.Lock()
	defer r.busy.Unlock()
	for r.pending > 0 && !r.failed {
		r.freed.Wait()
	}
}

// firstInterval is the longest time from a restart to the first checkpoint.
const firstInterval = time.Second

// coordinate asks for barriers and turns each into a published checkpoint.
func (r *runner) coordinate(ctx context.Context, src Source) error {
	first := r.job.Interval
	if r.prev != nil { // what was missed while the job was away is wanted now
		first = min(first, firstInterval)
	}
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			select {
			case r.due <- struct{}{}:
			default:
			}
			continue
		case s := <-r.job.Settings:
			r.job.Interval, r.job.Config = s.Interval, s.Config
			r.stopTimeout.Store(int64(s.StopTimeout))
			r.job.Checkpoints.keep = max(1, s.Keep)
			timer.Reset(r.job.Interval)
		case c := <-r.cuts:
			began := time.Now()
			if err := r.checkpoint(ctx, src, c, began); err != nil {
				return err
			}
			if c.final {
				close(r.outputs) // every sender has ended: this cut was the last
				return nil
			}
			timer.Reset(r.job.Interval)
		}
	}
}

// checkpoint collects the parts of one epoch and makes it count: prepare, checkpoint,
// publish, commit, in this order.
func (r *runner) checkpoint(ctx context.Context, src Source, c cut, began time.Time) error {
	pieces, err := r.collect(ctx, &c)
	if c.clock != nil {
		pieces = append(pieces, ShardPiece{Op: FrontOp, Piece: Piece{ID: clockPiece, Rec: c.clock}})
	}
	defer func() {
		for _, p := range pieces {
			if p.Rec != nil {
				p.Rec.Release()
			}
		}
	}()
	if err != nil {
		return err
	}
	for i, s := range c.splits {
		if !s.Counts.Balanced() {
			return fmt.Errorf("split %s at barrier %d: %w: %v", c.splits[i].Split, c.epoch, ErrConservation, s.Counts)
		}
	}
	var s sealed
	select {
	case s = <-r.seals:
	case <-ctx.Done():
		return ctx.Err()
	}
	cp := &Checkpoint{Job: r.job.Name, Lineage: r.lineage, Epoch: c.epoch, Seed: r.seed, Splits: c.splits, Merged: c.merged, Newest: c.newest, Moves: c.moves, Gaps: c.gaps, Config: r.job.Config, Last: c.final}
	rows := map[string]int64{}
	for i, st := range s.stages {
		receipt, err := st.st.Prepare(ctx, cp.Merged)
		if err != nil {
			err = errors.Join(err, sealed{s.stages[i+1:]}.abort())
			return fmt.Errorf("prepare epoch %d for %s: %w", c.epoch, st.out.Name, err)
		}
		crash.At("sink.prepared")
		rows[st.out.Name] += st.rows
		if receipt != nil {
			cp.Receipts = append(cp.Receipts, SinkReceipt{Sink: st.out.Name, Receipt: receipt})
		}
	}
	if err := r.job.Checkpoints.Write(ctx, cp, r.prev, pieces); err != nil {
		return err
	}
	crash.At("checkpoint.written")
	if err := r.publish(ctx, cp, s, rows); err != nil {
		return err
	}
	crash.At("sink.published")
	r.prev = cp
	r.addPending(-1)
	at := map[Split]Position{}
	for _, s := range cp.Splits {
		at[s.Split] = s.Position
	}
	if err := src.Commit(ctx, at); err != nil && ctx.Err() == nil {
		r.job.Log.Warn("offsets were not committed to the broker; the checkpoint has them", "epoch", c.epoch, "err", err)
	}
	crash.At("source.committed")
	if err := r.job.Checkpoints.Prune(ctx, cp); err != nil {
		return err
	}
	r.report(cp, c, rows, began)
	return nil
}

// collect gathers the shards' parts of an epoch and adds their counts to the splits.
func (r *runner) collect(ctx context.Context, c *cut) ([]ShardPiece, error) {
	var pieces []ShardPiece
	if r.prev != nil {
		for i, s := range r.prev.Splits { // the split table only grows
			c.splits[i].Counts.Add(s.Counts)
		}
	}
	for range r.tasks {
		var s shardCut
		select {
		case s = <-r.snaps:
		case <-ctx.Done():
			return pieces, ctx.Err()
		}
		if s.epoch != c.epoch {
			return pieces, fmt.Errorf("shard %d is at barrier %d, the front at %d", s.shard, s.epoch, c.epoch)
		}
		pieces = append(pieces, s.pieces...)
		c.pause = max(c.pause, time.Since(s.stopped))
		c.open += s.open
		c.state += s.state
		c.due += s.due
		if m := r.job.Metrics; m != nil {
			for pane, n := range s.panes {
				m.windows.WithLabelValues(pane).Add(float64(n))
			}
			m.tally(s.tally)
		}
		for split, n := range s.counts {
			c.splits[split].Counts.Add(n)
		}
	}
	for _, ch := range r.resume {
		ch <- struct{}{}
	}
	return pieces, nil
}

func (r *runner) publish(ctx context.Context, cp *Checkpoint, s sealed, rows map[string]int64) error {
	sinks := map[string]Sink{}
	for _, st := range s.stages {
		sinks[st.out.Name] = st.out.Sink
	}
	for _, rc := range cp.Receipts {
		began := time.Now()
		if err := sinks[rc.Sink].Publish(ctx, rc.Receipt); err != nil {
			return fmt.Errorf("publish epoch %d to %s: %w", cp.Epoch, rc.Sink, err)
		}
		if m := r.job.Metrics; m != nil {
			m.publish.WithLabelValues(rc.Sink).Observe(time.Since(began).Seconds())
			m.sinkRows.WithLabelValues(rc.Sink).Add(float64(rows[rc.Sink]))
		}
	}
	return nil
}

func (r *runner) report(cp *Checkpoint, c cut, rows map[string]int64, began time.Time) {
	var size int64
	for _, f := range cp.Files {
		size += f.Size
	}
	took := time.Since(began)
	if m := r.job.Metrics; m != nil {
		m.barrier(cp.Splits)
		m.stateKeys.Set(float64(c.open))
		m.stateBytes.Set(float64(c.state))
		m.overdue.Set(float64(c.due))
		m.held(c)
		m.checkpoints.Observe(took.Seconds())
		m.pause.Observe(c.pause.Seconds())
		m.ckptBytes.Set(float64(size))
		m.ckptTime.Set(float64(time.Now().UnixMicro()) / 1e6)
	}
	r.job.Log.Debug("checkpoint", "epoch", cp.Epoch, "took", took, "bytes", size)
	if r.job.OnCheckpoint != nil {
		r.job.OnCheckpoint(Published{Lineage: cp.Lineage, Epoch: cp.Epoch, Splits: cp.Splits, Merged: cp.Merged, Holder: c.holder, Since: c.since, Rows: rows, Open: c.open, Took: took, Pause: c.pause, Bytes: size})
	}
}

package pipeline

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// A Message goes from the front to a shard, in order.
type Message struct {
	Kind  MessageKind
	Batch Batch // lent
	Mark  Mark
	Now   int64
	Epoch int64
	// Reference holds for all rows behind this message.
	Reference Reference
}

// MessageKind says what a Message brings.
type MessageKind uint8

const (
	RowsMessage MessageKind = iota
	MarkMessage
	TickMessage
	BarrierMessage
	ReferenceMessage
)

// FrontConfig configures a Front. Times are ticks.
type FrontConfig struct {
	Bound      int64 // disorder bound of every split
	QuietAfter int64 // MaxTicks: never
	OnAllQuiet OnAllQuiet
	// IdleAfter, unless 0, leaves a split out of the merged mark that was at its log end for
	// that long by the wall clock. It is for live jobs whose topics are all slow,
	// where QuietAfter has no other split to go by; a replay does not repeat it.
	IdleAfter int64
	// Align is by how much event time a split may be ahead of the merged mark before it is
	// not read for a while; MaxTicks for any. It bounds the open windows when splits are read
	// at different speeds, as in a replay, and decides nothing.
	Align int64
	// Until, unless 0, ends a split as soon as a row has brought its mark that far: behind that
	// row nothing is taken. It makes a replay of a range of event time end by what the rows
	// say, so that the same rows are taken however the source cuts them.
	Until int64
	// MaxAhead, when below MaxTicks, keeps rows further than that beyond their broker
	// timestamp from moving a mark.
	MaxAhead int64
	// Ingest asks for the ingest marks at every row.
	Ingest bool
	Shards int
	Keyer  *Keyer
	// Clock, unless nil, sets the times of rows right before a mark is made of them. Dead takes
	// the rows that it refuses.
	Clock Clock
	Dead  func(Batch) error // lent
}

// Clock knows the clocks of those who send the rows of a job. It is pure, and called by one
// goroutine.
type Clock interface {
	// Schema is the schema of the rows that Adjust emits.
	Schema() *arrow.Schema
	// Adjust takes the rows of a wire as they were decoded and emits them on Out, in their order,
	// and on Dead those that it refuses, one batch each. Splits come in any interleaving and
	// batches of any size: what becomes of a row must depend on the rows of its split up to it,
	// and on nothing else.
	Adjust(w *Wire, rows Batch, out Emitter) error
	// Snapshot returns what is known of all splits, which the caller releases; Restore takes it,
	// before anything else.
	Snapshot() arrow.RecordBatch
	Restore(rec arrow.RecordBatch) error
}

// FrontOp is the operator in the references to pieces of the front. It has one piece, that of
// its Clock.
const FrontOp = -1

const clockPiece = "clock"

// Front is the single place where the streams of all splits meet: it stamps rows with
// their split's mark, merges marks, and deals rows to shards by key group. It has no
// goroutine, clock or I/O. Because there is one front, every shard has one input, and a
// barrier needs no alignment.
type Front struct {
	cfg    FrontConfig
	marks  *Marks
	splits []SplitState
	index  map[Split]int32
	atEnd  []bool  // read to its log end, per split
	endAt  []int64 // since when, by Tick; MinTicks for before the first
	now    int64   // by Tick
	since  int64   // when the merged mark rose, by Tick
	idles  int64
	gaps   []Gap
	over   map[int32]int64 // splits that Until has ended: where
	sent   Mark
	send   func(shard int, m Message) error
}

// SplitState is what a checkpoint keeps of a split.
type SplitState struct {
	Split    Split
	Position Position
	Mark     Mark
	Quiet    bool
	Ended    bool
	Counts   Counts // since the job began
}

// Gap is a run of records that were gone from the log before they were read, and that the
// configuration allowed to pass over.
type Gap struct {
	Split    int32
	From, To int64 // offsets, To exclusive
	Reason   string
}

// maxGaps bounds the record of gaps; the oldest are forgotten first.
const maxGaps = 1024

// Counts holds the fate of a split's rows.
type Counts [NumFates]int64

// Balanced tells whether every row read has a fate.
func (c Counts) Balanced() bool {
	return c[Read] == c[Aggregated]+c[FateLate]+c[FateDead]+c[Filtered]+c[Duplicate]
}

// Add adds the counts of other.
func (c *Counts) Add(other Counts) {
	for i := range c {
		c[i] += other[i]
	}
}

// NewFront makes a front that sends to shards through send. Batches in messages are lent.
func NewFront(cfg FrontConfig, send func(shard int, m Message) error) *Front {
	f := &Front{cfg: cfg, marks: NewMarks(cfg.Bound, cfg.QuietAfter), index: map[Split]int32{}, over: map[int32]int64{},
		sent: Mark{Event: MinTicks, Ingest: MinTicks}, now: MinTicks, since: MinTicks, send: send}
	f.marks.OnAllQuiet = cfg.OnAllQuiet
	return f
}

// Restore takes the front's part of a checkpoint and sends the merged mark to the shards.
// It comes before anything else.
func (f *Front) Restore(cp *Checkpoint) error {
	f.gaps = slices.Clone(cp.Gaps)
	for _, s := range cp.Splits {
		i := f.add(s.Split)
		s.Counts = Counts{}
		f.splits[i] = s
		if s.Ended && f.cfg.Until != 0 {
			f.over[i] = s.Position.Offset
		}
		f.marks.Resume(i, s.Mark, s.Position.LastIngest, s.Quiet)
	}
	f.marks.ResumeMerged(cp.Merged, cp.Newest, slices.Clone(cp.Moves))
	return f.sendMark()
}

// Cut returns the split table as it is now. Counts are those of what was read and refused
// here since the last Cut.
func (f *Front) Cut() []SplitState {
	out := make([]SplitState, len(f.splits))
	for i := range f.splits {
		s := &f.splits[i]
		s.Mark, s.Quiet = f.marks.At(i), f.marks.Idle(i)
		out[i] = *s
		s.Counts = Counts{}
	}
	return out
}

// Merged returns the merged mark; Holder the split that holds it, -1 for none.
func (f *Front) Merged() Mark { return f.marks.Merged() }

// Newest returns the largest event mark that the rows of any split have given.
func (f *Front) Newest() int64 { return f.marks.Newest() }

// Holder returns the split that holds the merged mark, -1 for none.
func (f *Front) Holder() int32 { return int32(f.marks.Holder()) }

// Moves returns the history of marks that no row moved.
func (f *Front) Moves() []Move { return f.marks.Moves() }

// Index returns the index of a split, adding it when it is new.
func (f *Front) Index(s Split) int32 {
	if i, ok := f.index[s]; ok {
		return i
	}
	return f.add(s)
}

func (f *Front) add(s Split) int32 {
	f.index[s] = int32(len(f.splits))
	f.atEnd, f.endAt = append(f.atEnd, false), append(f.endAt, MinTicks)
	f.splits = append(f.splits, SplitState{Split: s, Position: Position{LastBatch: -1, LastIngest: MinTicks}})
	return f.marks.Add()
}

// Announce takes a NewSplit event. A split that the checkpoint knows keeps its position.
func (f *Front) Announce(s Split, at Position) {
	if _, known := f.index[s]; !known {
		f.splits[f.add(s)].Position = at
	}
}

// Rows takes the decoded rows of a wire of a split, nil when all its records were
// refused; dead is how many were.
//
// It takes fewer of them when the split ends in them: Over then says where.
func (f *Front) Rows(w *Wire, rows *Batch, dead int64) error {
	s := &f.splits[w.Split]
	var refused *Batch
	if f.cfg.Clock != nil && rows != nil && w.Len() > 0 {
		var a adjusted
		defer a.release()
		if err := f.cfg.Clock.Adjust(w, *rows, &a); err != nil {
			return fmt.Errorf("clock of %s up to offset %d: %w", s.Split, w.Next.Offset, err)
		}
		rows, refused = a.rows, a.dead
	}
	if refused != nil {
		dead += int64(refused.NumRows())
	}
	if k := f.last(rows, w.Split); k >= 0 {
		cut := &Batch{Rec: rows.Rec.NewSlice(0, int64(k)+1), Split: w.Split, Passed: MinTicks}
		defer cut.Release()
		w, rows = w.until(cut.Rec.Column(ColOffset).(*array.Int64).Value(k)), cut
		dead = int64(w.Len() - k - 1) // every record is a row or dead
		f.over[w.Split] = w.Next.Offset
		if refused != nil {
			refused = &Batch{Rec: before(refused.Rec, w.Next.Offset), Split: w.Split, Passed: MinTicks}
			defer refused.Release()
		}
	}
	if refused != nil {
		if err := f.cfg.Dead(*refused); err != nil {
			return err
		}
	}
	if err := f.rows(w, rows, dead); err != nil {
		return err
	}
	if _, over := f.over[w.Split]; over {
		return f.End(s.Split)
	}
	return nil
}

// before returns the rows of a record batch, which are in order, below an offset. The caller
// releases it.
func before(rec arrow.RecordBatch, offset int64) arrow.RecordBatch {
	offsets := rec.Column(ColOffset).(*array.Int64).Int64Values()
	n, _ := slices.BinarySearch(offsets, offset)
	return rec.NewSlice(0, int64(n))
}

// last returns the row of a batch that brings its split's mark to Until, -1 for none.
func (f *Front) last(b *Batch, split int32) int {
	if b == nil || f.cfg.Until == 0 {
		return -1
	}
	mark := f.marks.At(int(split)).Event
	still := f.still(*b)
	for i, t := range TicksOf(b.Rec.Column(ColTime).(*array.Timestamp)) {
		if still != nil && still(i) {
			continue
		}
		if mark = max(mark, SubTicks(t, f.cfg.Bound+1)); mark >= f.cfg.Until {
			return i
		}
	}
	return -1
}

// Over returns the offset behind the last record that was taken of a split that Until has
// ended, and whether it has.
func (f *Front) Over(split int32) (next int64, over bool) {
	next, over = f.over[split]
	return next, over
}

// Ended tells whether all splits have ended.
func (f *Front) Ended() bool {
	return !slices.ContainsFunc(f.splits, func(s SplitState) bool { return !s.Ended })
}

func (f *Front) rows(w *Wire, rows *Batch, dead int64) error {
	s := &f.splits[w.Split]
	s.Position = w.Next
	f.atEnd[w.Split] = false
	n := w.Len()
	if n == 0 {
		return nil
	}
	s.Counts[Read] += int64(n)
	s.Counts[FateDead] += dead
	at := f.marks.At(int(w.Split))
	for _, t := range w.Ingest {
		at.Ingest = max(at.Ingest, t)
	}
	if rows != nil && rows.NumRows() > 0 {
		b := *rows
		times := b.Rec.Column(ColTime).(*array.Timestamp)
		if times.NullN() > 0 {
			return fmt.Errorf("rows of %s up to offset %d: %d without event time passed the decoder", s.Split, w.Next.Offset, times.NullN())
		}
		b.Split = w.Split
		b.Behind, at.Event, b.Passed = f.marks.Stamp(w.Split, TicksOf(times), f.still(b))
		b.Keys = f.cfg.Keyer.Keys(b.Rec)
		if f.cfg.Ingest {
			b.Ingest = f.ingest(w, b.Rec)
		}
		if err := f.deal(b); err != nil {
			return err
		}
	}
	f.marks.Arrive(w.Split, at, w.Ingest[n-1])
	return f.sendMark()
}

// adjusted is what a Clock makes of the rows of a wire.
type adjusted struct{ rows, dead *Batch }

// Emit keeps what the clock sends.
func (a *adjusted) Emit(p Port, b Batch) error {
	at := &a.rows
	if p == Dead {
		at = &a.dead
	}
	if *at != nil {
		return fmt.Errorf("two batches on port %s", p)
	}
	b.Retain()
	*at = &b
	return nil
}

// Count is for operators: Rows counts.
func (a *adjusted) Count(Fate, int32, int64) {}

func (a *adjusted) release() {
	for _, b := range []*Batch{a.rows, a.dead} {
		if b != nil {
			b.Release()
		}
	}
}

// ingest returns the ingest marks at every row of a wire. Records that were refused move
// them too.
func (f *Front) ingest(w *Wire, rec arrow.RecordBatch) *IngestMarks {
	offsets := rec.Column(ColOffset).(*array.Int64).Int64Values()
	own, merged := f.marks.At(int(w.Split)).Ingest, f.marks.Merged().Ingest
	others, counts := f.marks.Others(int(w.Split))
	m := &IngestMarks{make([]int64, len(offsets)), make([]int64, len(offsets))}
	next := 0
	for i, offset := range offsets {
		for next < len(w.Offset) && w.Offset[next] <= offset {
			own = max(own, w.Ingest[next])
			next++
		}
		if counts {
			merged = max(merged, min(own, others))
		}
		m.Own[i], m.Merged[i] = own, merged
	}
	return m
}

// still tells which rows are too far ahead of their broker timestamp to move a mark.
func (f *Front) still(b Batch) func(int) bool {
	if f.cfg.MaxAhead == MaxTicks {
		return nil
	}
	times := TicksOf(b.Rec.Column(ColTime).(*array.Timestamp))
	ingest := TicksOf(b.Rec.Column(ColIngest).(*array.Timestamp))
	return func(i int) bool { return times[i] > AddTicks(ingest[i], f.cfg.MaxAhead) }
}

// deal sends every shard the rows of its key groups, as a selection over the one batch.
func (f *Front) deal(b Batch) error {
	if f.cfg.Shards == 1 {
		return f.send(0, Message{Kind: RowsMessage, Batch: b})
	}
	sel := make([][]int32, f.cfg.Shards)
	for i, h := range b.Keys.Hash {
		s := ShardOf(Group(h), f.cfg.Shards)
		sel[s] = append(sel[s], int32(i))
	}
	for s, rows := range sel {
		if len(rows) == 0 {
			continue
		}
		b.Rows = rows
		if err := f.send(s, Message{Kind: RowsMessage, Batch: b}); err != nil {
			return err
		}
	}
	return nil
}

// Gap takes a GapFound event: it is recorded, and reading goes on behind it.
func (f *Front) Gap(ev Event) {
	i := f.Index(ev.Split)
	f.splits[i].Position = ev.Position
	if len(f.gaps) == maxGaps {
		f.gaps = slices.Delete(f.gaps, 0, 1)
	}
	f.gaps = append(f.gaps, Gap{Split: i, From: ev.From, To: ev.To, Reason: ev.Reason})
}

// Gaps returns the record of gaps, oldest first.
func (f *Front) Gaps() []Gap { return f.gaps }

// LogEnd takes a LogEnd event.
func (f *Front) LogEnd(s Split, seen int64, empty bool) error {
	i := f.Index(s)
	if !f.atEnd[i] {
		f.atEnd[i], f.endAt[i] = true, f.now
	}
	f.marks.LogEnd(i, seen, empty)
	return f.sendMark()
}

// Ahead appends the splits that shall not be read for now, in no order: those that Until has
// ended, and those that are ahead of the merged mark. None of the latter is while the split that
// holds the merged mark has nothing to read: its silence ends, or shows, only when the
// others go on.
func (f *Front) Ahead(to []Split) []Split {
	for i := range f.over {
		to = append(to, f.splits[i].Split)
	}
	holder := f.Holder()
	if f.cfg.Align == MaxTicks || holder < 0 || f.atEnd[holder] {
		return to
	}
	limit := AddTicks(f.marks.At(int(holder)).Event, f.cfg.Align)
	for i := range f.splits {
		s := &f.splits[i]
		if mark := f.marks.At(i).Event; mark > limit && !s.Ended {
			to = append(to, s.Split)
		}
	}
	return to
}

// End takes an EndOfSplit event.
func (f *Front) End(s Split) error {
	i := f.Index(s)
	f.splits[i].Ended = true
	f.marks.End(i)
	return f.sendMark()
}

// Tick tells every shard the wall clock. It makes splits idle by IdleAfter.
func (f *Front) Tick(now int64) error {
	f.now = max(f.now, now)
	for i := range f.splits {
		switch {
		case !f.atEnd[i] || f.cfg.IdleAfter == 0 || f.splits[i].Ended:
		case f.endAt[i] == MinTicks:
			f.endAt[i] = f.now
		case SubTicks(f.now, f.endAt[i]) >= f.cfg.IdleAfter && f.marks.Leave(int32(i), MinTicks):
			f.idles++
		}
	}
	if err := f.sendMark(); err != nil {
		return err
	}
	return f.broadcast(Message{Kind: TickMessage, Now: now})
}

// Since returns when the merged event mark rose last, by Tick; MinTicks for not since the
// first Tick.
func (f *Front) Since() int64 { return f.since }

// TakeIdles returns how many splits fell idle by the wall clock since the last call.
func (f *Front) TakeIdles() int64 {
	n := f.idles
	f.idles = 0
	return n
}

// Reference gives every shard a new content of a reference table. It holds for the rows that
// the front takes from here on, whatever the number of shards.
func (f *Front) Reference(ref Reference) error {
	return f.broadcast(Message{Kind: ReferenceMessage, Reference: ref})
}

// Barrier cuts the stream of every shard here.
func (f *Front) Barrier(epoch int64) error {
	return f.broadcast(Message{Kind: BarrierMessage, Epoch: epoch})
}

// sendMark tells the shards the merged mark when it has risen.
func (f *Front) sendMark() error {
	if m := f.marks.Merged(); m != f.sent {
		if m.Event > f.sent.Event || f.since == MinTicks {
			f.since = f.now
		}
		f.sent = m
		m.Newest = f.marks.Newest()
		return f.broadcast(Message{Kind: MarkMessage, Mark: m})
	}
	return nil
}

func (f *Front) broadcast(m Message) error {
	for s := range f.cfg.Shards {
		if err := f.send(s, m); err != nil {
			return err
		}
	}
	return nil
}

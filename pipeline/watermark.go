package pipeline

import "slices"

// Valve merges the marks of several inputs: the minimum over the inputs that count. An
// idle input does not count and its marks are ignored; one that returns counts again once
// its mark has reached the merged one. The merged mark never falls; what it does when all
// inputs are idle, OnAllQuiet says.
type Valve struct {
	OnAllQuiet OnAllQuiet

	in     []input
	merged Mark
}

// OnAllQuiet says what becomes of the merged mark when the last input falls idle.
type OnAllQuiet string

const (
	// HoldMark leaves it where it is: nobody has said that time went on.
	HoldMark OnAllQuiet = "hold"
	// FlushMark raises it to the maximum of the inputs' marks, as Flink does: what was read
	// comes out without waiting for the slowest. An input that returns behind it trails.
	FlushMark OnAllQuiet = "flush"
)

type input struct {
	mark Mark
	idle bool
	// trailing: back from idle, not yet at the merged mark.
	trailing bool
}

// NewValve returns a valve without inputs, at the lowest mark.
func NewValve() *Valve { return &Valve{merged: Mark{Event: MinTicks, Ingest: MinTicks}} }

// Add makes an input, active and at the lowest mark: it holds the merged mark from now on.
func (v *Valve) Add() int {
	v.in = append(v.in, input{mark: Mark{Event: MinTicks, Ingest: MinTicks}})
	return len(v.in) - 1
}

// Merged returns the merged mark.
func (v *Valve) Merged() Mark { return v.merged }

// At returns the mark of an input.
func (v *Valve) At(i int) Mark { return v.in[i].mark }

// Idle tells whether an input is idle; AllIdle whether all are.
func (v *Valve) Idle(i int) bool { return v.in[i].idle }

// AllIdle tells whether there is no active input.
func (v *Valve) AllIdle() bool {
	return !slices.ContainsFunc(v.in, func(in input) bool { return !in.idle })
}

// Observe raises the mark of an input and reports whether the merged mark rose.
func (v *Valve) Observe(i int, m Mark) bool {
	in := &v.in[i]
	if in.idle {
		return false
	}
	in.mark.Event = max(in.mark.Event, m.Event)
	in.mark.Ingest = max(in.mark.Ingest, m.Ingest)
	return v.merge()
}

// SetIdle makes an input idle or active and reports whether the merged mark rose.
func (v *Valve) SetIdle(i int, idle bool) bool {
	in := &v.in[i]
	if in.idle == idle {
		return false
	}
	in.idle = idle
	in.trailing = !idle && in.mark.Event < v.merged.Event
	return v.merge()
}

// Trailing tells whether an input is behind the merged mark because it was idle, or
// because it came late.
func (v *Valve) Trailing(i int) bool { return v.in[i].mark.Event < v.merged.Event }

func (v *Valve) merge() bool {
	if v.OnAllQuiet == FlushMark && v.AllIdle() {
		return v.flush()
	}
	next := Mark{Event: MaxTicks, Ingest: MaxTicks}
	counting := false
	for i := range v.in {
		in := &v.in[i]
		if in.trailing && in.mark.Event >= v.merged.Event {
			in.trailing = false
		}
		if in.idle || in.trailing {
			continue
		}
		counting = true
		next.Event = min(next.Event, in.mark.Event)
		next.Ingest = min(next.Ingest, in.mark.Ingest)
	}
	if !counting {
		return false
	}
	before := v.merged
	v.merged.Event = max(before.Event, next.Event)
	v.merged.Ingest = max(before.Ingest, next.Ingest)
	return v.merged != before
}

// flush raises the merged mark to the largest of the inputs' marks.
func (v *Valve) flush() bool {
	before := v.merged
	for _, in := range v.in {
		v.merged.Event = max(v.merged.Event, in.mark.Event)
		v.merged.Ingest = max(v.merged.Ingest, in.mark.Ingest)
	}
	return v.merged != before
}

// Others returns the smallest ingest mark of the counting inputs other than i, and whether i
// counts itself.
func (v *Valve) Others(i int) (ingest int64, counts bool) {
	ingest = MaxTicks
	for k, in := range v.in {
		if k != i && !in.idle && !in.trailing {
			ingest = min(ingest, in.mark.Ingest)
		}
	}
	return ingest, !v.in[i].idle && !v.in[i].trailing
}

// Holder returns the counting input with the smallest mark, -1 for none.
func (v *Valve) Holder() int {
	holder := -1
	for i, in := range v.in {
		if in.idle || in.trailing {
			continue
		}
		if holder < 0 || in.mark.Event < v.in[holder].mark.Event {
			holder = i
		}
	}
	return holder
}

// Marks makes the marks of a job's splits from their rows and merges them. It is the only
// place where a mark is made, and it has no clock.
type Marks struct {
	Valve
	bound int64
	// quietAfter is the silence, in broker time, after which a split at its log end is
	// quiet; MaxTicks for never.
	quietAfter int64
	last       []int64 // broker timestamp of the last record, per split
	newest     int64   // the largest event mark of any split, that of its end left out
	moves      []Move
}

// Move is one advance of the merged event mark that no row caused: a split fell quiet and
// let it go, or it was the last and OnAllQuiet flushed.
type Move struct {
	Split    int32
	From, To int64
	// Seen is the broker timestamp that proved the silence; MinTicks when it was the wall
	// clock.
	Seen int64
}

// maxMoves bounds the history of moves; the oldest are forgotten first.
const maxMoves = 1024

// NewMarks takes the disorder bound and the quiet rule in ticks, both at least 0.
func NewMarks(bound, quietAfter int64) *Marks {
	return &Marks{Valve: *NewValve(), bound: bound, quietAfter: quietAfter, newest: MinTicks}
}

// Add makes room for the next split and returns its index. A new split holds the merged
// mark until it has given a row or is quiet.
func (m *Marks) Add() int32 {
	m.last = append(m.last, MinTicks)
	return int32(m.Valve.Add())
}

// Moves returns the advances that no row caused, oldest first.
func (m *Marks) Moves() []Move { return m.moves }

// Last returns the broker timestamp of a split's last record.
func (m *Marks) Last(split int32) int64 { return m.last[split] }

// Stamp runs over the rows of a batch of one split in order, moves the split's mark after
// every row, and returns for every row the mark just before it: behind is nil when no row
// is at or behind that mark. Rows for which still is true never move the mark; still may
// be nil. Times must not be null.
//
// passed is the merged mark when the split trails it, and MinTicks otherwise. The merged
// mark itself moves with Arrive.
func (m *Marks) Stamp(split int32, times []int64, still func(row int) bool) (behind []int64, mark, passed int64) {
	passed = MinTicks
	if m.Trailing(int(split)) {
		passed = m.merged.Event
	}
	start := m.in[split].mark.Event
	mark = start
	for i, t := range times {
		if t <= mark && behind == nil {
			behind = make([]int64, len(times))
			m.replay(start, times[:i], still, behind)
		}
		if behind != nil {
			behind[i] = mark
		}
		if next := SubTicks(t, m.bound+1); next > mark && (still == nil || !still(i)) {
			mark = next
		}
	}
	return behind, mark, passed
}

// replay fills in the marks before the rows that came ahead of the first row behind.
func (m *Marks) replay(mark int64, times []int64, still func(row int) bool, behind []int64) {
	for i, t := range times {
		behind[i] = mark
		if next := SubTicks(t, m.bound+1); next > mark && (still == nil || !still(i)) {
			mark = next
		}
	}
}

// Arrive takes what a run of records did to its split: the event mark after it, the
// largest broker timestamp in it and that of its last record. A quiet split is quiet no
// longer. It reports whether the merged mark rose.
func (m *Marks) Arrive(split int32, at Mark, last int64) bool {
	m.last[split] = last
	m.see(at.Event)
	rose := m.SetIdle(int(split), false)
	return m.Observe(int(split), at) || rose
}

func (m *Marks) see(mark int64) {
	if mark != MaxTicks {
		m.newest = max(m.newest, mark)
	}
}

// Newest returns the largest event mark that the rows of any split have given.
func (m *Marks) Newest() int64 { return m.newest }

// LogEnd notes that a split was read to its log end; seen and empty are those of the
// Event. It reports whether the merged mark rose.
func (m *Marks) LogEnd(split int32, seen int64, empty bool) bool {
	if m.quietAfter == MaxTicks || m.Idle(int(split)) {
		return false
	}
	last := m.last[split]
	if !empty && (last == MinTicks || seen == MinTicks || SubTicks(seen, last) <= m.quietAfter) {
		return false
	}
	before := m.merged
	m.Leave(split, seen)
	return m.merged != before
}

// Leave makes a split idle, as seen proves, and reports whether it was not.
func (m *Marks) Leave(split int32, seen int64) bool {
	if m.Idle(int(split)) {
		return false
	}
	before := m.merged.Event
	m.SetIdle(int(split), true)
	if m.merged.Event > before {
		if len(m.moves) == maxMoves {
			m.moves = slices.Delete(m.moves, 0, 1)
		}
		m.moves = append(m.moves, Move{Split: split, From: before, To: m.merged.Event, Seen: seen})
	}
	return true
}

// End gives a bounded split its maximal mark and reports whether the merged mark rose.
func (m *Marks) End(split int32) bool {
	return m.Arrive(split, Mark{Event: MaxTicks, Ingest: MaxTicks}, m.last[split])
}

// Resume sets what a checkpoint kept: the split's marks, its last broker timestamp and
// whether it was quiet. ResumeMerged comes after the last of them.
func (m *Marks) Resume(split int32, at Mark, last int64, quiet bool) {
	m.in[split] = input{mark: at, idle: quiet}
	m.see(at.Event)
	m.last[split] = last
}

// ResumeMerged sets the merged mark, Newest and the history of moves of a checkpoint.
func (m *Marks) ResumeMerged(at Mark, newest int64, moves []Move) {
	m.merged, m.moves = at, moves
	m.see(newest)
	for i := range m.in {
		in := &m.in[i]
		in.trailing = !in.idle && in.mark.Event < at.Event
	}
}

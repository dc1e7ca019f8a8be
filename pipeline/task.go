package pipeline

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Task drives a chain of operators for one shard: what narrows rows, the keyed one, what
// maps its results. It has no goroutine, clock or I/O: all input comes through Step.
type Task struct {
	chain  []Operator
	out    func(p Port, b Batch) error
	counts []Counts // per split, since the last TakeCounts
	panes  map[string]int64
	links  []link
	deltas []link // the same for what comes of a Delta
	tally  Tally  // as of the last TakeTally
}

// link is the Emitter of one operator of the chain.
type link struct {
	t   *Task
	at  int
	out Port // where results leave the chain
}

// NewTask makes a task whose chain sends what leaves it to out. Batches are lent.
func NewTask(chain []Operator, out func(p Port, b Batch) error) *Task {
	t := &Task{chain: chain, out: out}
	for i := range chain {
		t.links = append(t.links, link{t, i, Out})
		t.deltas = append(t.deltas, link{t, i, Delta})
	}
	return t
}

// Step takes one message. A barrier does nothing here: whoever drives the task takes the
// snapshot.
func (t *Task) Step(m Message) error {
	for i, op := range t.chain {
		var err error
		switch m.Kind {
		case RowsMessage:
			return op.Process(m.Batch, &t.links[i]) // the rest of the chain is called by it
		case MarkMessage:
			err = op.Advance(m.Mark, &t.links[i])
		case TickMessage:
			err = op.Tick(m.Now, &t.links[i])
		case ReferenceMessage:
			if r, ok := op.(interface{ Refer(Reference) error }); ok {
				err = r.Refer(m.Reference)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TakeCounts returns the fates counted since the last call, by split.
func (t *Task) TakeCounts() []Counts {
	c := t.counts
	t.counts = nil
	return c
}

// TakePanes returns the result rows of the keyed operator since the last call, by what made
// them come out.
func (t *Task) TakePanes() map[string]int64 {
	p := t.panes
	t.panes = nil
	return p
}

// countPanes reads column _tm_pane, which the results of the keyed operator have.
func (t *Task) countPanes(rec arrow.RecordBatch) {
	at := rec.Schema().FieldIndices("_tm_pane")
	if len(at) != 1 {
		return
	}
	col, ok := rec.Column(at[0]).(*array.String)
	if !ok {
		return
	}
	if t.panes == nil {
		t.panes = map[string]int64{}
	}
	for from := 0; from < col.Len(); { // panes come in runs
		pane := col.Value(from)
		to := from + 1
		for to < col.Len() && col.Value(to) == pane {
			to++
		}
		t.panes[strings.Clone(pane)] += int64(to - from)
		from = to
	}
}

// Open returns how many windows the chain's operators hold open, as (key, window) pairs.
func (t *Task) Open() int {
	n := 0
	for _, op := range t.chain {
		if w, ok := op.(interface{ Open() int }); ok {
			n += w.Open()
		}
	}
	return n
}

// Held returns how many rows of state the chain's operators hold, an open window of a key or, where windows overlap, a slice.
func (t *Task) Held() int {
	n := 0
	for _, op := range t.chain {
		if w, ok := op.(interface{ Held() int }); ok {
			n += w.Held()
		}
	}
	return n
}

// Bytes returns the memory that the chain's operators use for their state.
func (t *Task) Bytes() int64 {
	var n int64
	for _, op := range t.chain {
		if w, ok := op.(interface{ Bytes() int64 }); ok {
			n += w.Bytes()
		}
	}
	return n
}

// Overdue returns how many rows of state nothing would ever free: a leak unless it is 0.
func (t *Task) Overdue() int {
	n := 0
	for _, op := range t.chain {
		if w, ok := op.(interface{ Overdue() int }); ok {
			n += w.Overdue()
		}
	}
	return n
}

// TakeTally returns what the chain's operators have counted since the last call.
func (t *Task) TakeTally() Tally {
	var now Tally
	for _, op := range t.chain {
		if w, ok := op.(interface{ Tally() Tally }); ok {
			now.Add(w.Tally())
		}
	}
	since := now.less(t.tally)
	t.tally = now
	return since
}

// Snapshot lends the state of the chain's stateful operators, by place in the chain.
func (t *Task) Snapshot(full bool, piece func(op int, p Piece) error) error {
	for i, op := range t.chain {
		if s, ok := op.(Stateful); ok {
			if err := s.Snapshot(full, func(p Piece) error { return piece(i, p) }); err != nil {
				return fmt.Errorf("snapshot of operator %d: %w", i, err)
			}
		}
	}
	return nil
}

// Restore gives a piece back to the operator that made it.
func (t *Task) Restore(op int, p Piece, keep func(group uint8) bool) error {
	if op < 0 || op >= len(t.chain) {
		return fmt.Errorf("state of operator %d: the job has %d", op, len(t.chain))
	}
	s, ok := t.chain[op].(Stateful)
	if !ok {
		return fmt.Errorf("state of operator %d: that operator keeps none", op)
	}
	return s.Restore(p, keep)
}

// Emit hands results to the next operator, and what leaves the chain to the task's out.
func (l *link) Emit(p Port, b Batch) error {
	next := l.t.links
	if p == Delta || l.out == Delta {
		next = l.t.deltas
	}
	if _, keyed := l.t.chain[l.at].(interface{ Tally() Tally }); keyed && (p == Out || p == Delta) {
		l.t.countPanes(b.Rec)
	}
	switch {
	case p == Out || p == Delta:
		if l.at+1 < len(l.t.chain) {
			return l.t.chain[l.at+1].Process(b, &next[l.at+1])
		}
		p = next[l.at].out
	case p == Late:
		l.Count(FateLate, b.Split, int64(b.NumRows()))
	case p == Dead && b.Split >= 0: // a refused result is no row that was read
		l.Count(FateDead, b.Split, int64(b.NumRows()))
	}
	return l.t.out(p, b)
}

// Count notes the fate of rows.
func (l *link) Count(f Fate, split int32, rows int64) {
	for int(split) >= len(l.t.counts) {
		l.t.counts = append(l.t.counts, Counts{})
	}
	l.t.counts[split][f] += rows
}

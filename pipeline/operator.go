package pipeline

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// Port says which way an operator sends a batch.
type Port uint8

const (
	Out        Port = iota // results
	Late                   // well-formed rows whose windows are all closed
	Delta                  // results that add to what Out has said and that no revision replaces
	Dead                   // records that cannot be decoded, or rows outside the bounds of time
	Duplicates             // place and key of rows counted as duplicates, where somebody wants to know
	numPorts
)

// MaxSides is the number of Side ports.
const MaxSides = 64

// Side is the port of the i-th table of an operator whose results have several schemas, from
// 0. What leaves through it passes by the operators behind.
func Side(i int) Port {
	if i < 0 || i >= MaxSides {
		panic(fmt.Sprintf("pipeline: side %d, want 0 to %d", i, MaxSides-1))
	}
	return numPorts + Port(i)
}

func (p Port) String() string {
	if p >= numPorts {
		return fmt.Sprintf("side %d", p-numPorts)
	}
	return [...]string{"out", "late", "delta", "dead", "duplicates"}[p]
}

// Fate says what became of a row.
type Fate uint8

const (
	Read       Fate = iota
	Aggregated      // a window took it, or it became a result of its own
	FateLate
	FateDead
	Filtered
	Duplicate
	NumFates
)

func (f Fate) String() string {
	return [...]string{"read", "aggregated", "late", "dead", "filtered", "duplicate"}[f]
}

// Mark is a pair of inclusive watermarks: no more rows with time <= Event, none with
// broker timestamp <= Ingest. Neither ever falls.
type Mark struct {
	Event, Ingest int64
	// Newest, in the marks that operators get, is the largest event mark that the rows of any
	// split have given: how late it is where the end of the input makes Event MaxTicks.
	Newest int64
}

// Emitter takes what an operator sends. Batches are lent for the length of the call.
// Rows that leave through Late and Dead are counted by the runtime; an operator counts
// the fate of every other row that it consumes.
type Emitter interface {
	Emit(p Port, b Batch) error
	Count(f Fate, split int32, rows int64)
}

// Operator turns batches into batches. It is called by one goroutine and owns no
// goroutine, clock or I/O: the same calls give the same output.
type Operator interface {
	Process(in Batch, out Emitter) error
	// Advance says how far time has come. Marks never fall.
	Advance(m Mark, out Emitter) error
	// Tick tells the wall clock in ticks since the epoch. It may wake what was delayed; it
	// never decides a window or a lateness.
	Tick(now int64, out Emitter) error
}

// Tally counts what an operator that keeps state saw beside the fates of rows, since it was
// made.
type Tally struct {
	Missed    int64 // (row, window) pairs that were late
	Partly    int64 // rows that missed a window and were taken by another
	Moved     int64 // rows whose key had come through another split, where keys have clocks
	Overflows int64 // sums that did not fit
	Dropped   int64 // values beyond the cap of a list
	Edges     int64 // rows that came as long after a session as its gap, which opens another
}

// Add adds the counts of other.
func (t *Tally) Add(other Tally) {
	t.Missed += other.Missed
	t.Partly += other.Partly
	t.Moved += other.Moved
	t.Overflows += other.Overflows
	t.Dropped += other.Dropped
	t.Edges += other.Edges
}

func (t Tally) less(other Tally) Tally {
	return Tally{t.Missed - other.Missed, t.Partly - other.Partly, t.Moved - other.Moved, t.Overflows - other.Overflows, t.Dropped - other.Dropped, t.Edges - other.Edges}
}

// Decoder turns wire batches into rows: one batch on Out, and one on Dead when records
// had to be refused. It is pure; each instance is used by one goroutine.
type Decoder interface {
	Decode(w *Wire, out Emitter) error
	// Schema is the schema of the rows on Out.
	Schema() *arrow.Schema
}

// Piece is a part of an operator's state: some rows of some key groups. ID is stable from
// one checkpoint to the next. A piece that has not changed since the last snapshot comes
// without rows, and the manifest goes on pointing at the file that has it.
type Piece struct {
	ID  string
	Rec arrow.RecordBatch // first column _group, uint8
	// Frozen, in place of Rec, are rows as they were at the snapshot that have yet to be
	// made: a checkpoint is written while the operator goes on.
	Frozen *Frozen
}

// Frozen are rows that Rows makes. Any goroutine may call it while the operator that gave it
// goes on; the caller releases what it returns.
type Frozen struct {
	Schema *arrow.Schema
	Rows   func() arrow.RecordBatch
}

// Changed tells whether the piece comes with rows.
func (p Piece) Changed() bool { return p.Rec != nil || p.Frozen != nil }

func (p Piece) schema() *arrow.Schema {
	if p.Frozen != nil {
		return p.Frozen.Schema
	}
	return p.Rec.Schema()
}

// Made returns the piece with its rows made; the caller releases them.
func (p Piece) Made() Piece {
	if p.Frozen != nil {
		return Piece{ID: p.ID, Rec: p.Frozen.Rows()}
	}
	p.Rec.Retain()
	return p
}

// Stateful is an operator with state that belongs in a checkpoint.
type Stateful interface {
	Operator
	// Snapshot lends every piece of the state. Pieces that changed since the previous
	// Snapshot, or all when full, carry their rows.
	Snapshot(full bool, piece func(Piece) error) error
	// Restore takes the rows of a piece that keep accepts. It is called before any other
	// method, possibly several times for one ID, with pieces written by other shards.
	Restore(p Piece, keep func(group uint8) bool) error
}

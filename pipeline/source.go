package pipeline

import (
	"context"
	"fmt"
	"sort"
)

// Split names one ordered input: a Kafka partition, or a file.
type Split struct {
	Topic     string
	Partition int32
}

func (s Split) String() string { return fmt.Sprintf("%s/%d", s.Topic, s.Partition) }

// Position says where reading of a split goes on. Beside the offset it keeps what is
// needed to notice that the log was truncated or created anew: the leader epoch and the
// CRC-32C of the last batch consumed, with that batch's first offset. LastCRC is 0 and
// LastBatch -1 when nothing was consumed yet.
type Position struct {
	Offset      int64 // next offset to read
	LeaderEpoch int32
	LastBatch   int64
	LastCRC     uint32
	// LastIngest is the broker timestamp of the last record consumed, MinTicks for none.
	LastIngest int64
}

// Wire is a run of undecoded records of one split in offset order. Keys and values alias
// Data, which is readable for at least 16 bytes behind every value and is not written
// again: a Wire may be kept and may be read by several goroutines.
type Wire struct {
	Split  int32 // index in the job's split table, set by the runtime
	Data   []byte
	Offset []int64
	Ingest []int64 // broker timestamp in ticks
	Keys   []Span
	Values []Span
	// Next is the position after the last record, and after what was passed over behind
	// it (control records, aborted transactions).
	Next Position
	// Fault, when set, is the reason why no record of this run can be read (for example
	// decompress_limit); every one of them is then Dead with it, and its value is null.
	Fault string
}

// Span is a piece of Wire.Data; Len -1 is null.
type Span struct{ At, Len int32 }

// Len returns the number of records.
func (w *Wire) Len() int { return len(w.Offset) }

// until returns the part of a wire up to an offset, which has a record.
func (w *Wire) until(offset int64) *Wire {
	n := sort.Search(len(w.Offset), func(i int) bool { return w.Offset[i] > offset })
	cut := *w
	cut.Offset, cut.Ingest, cut.Keys, cut.Values = w.Offset[:n], w.Ingest[:n], w.Keys[:n], w.Values[:n]
	cut.Next.Offset, cut.Next.LastIngest = offset+1, w.Ingest[n-1]
	return &cut
}

// Key returns the key of record i, nil for null.
func (w *Wire) Key(i int) []byte { return w.bytes(w.Keys[i]) }

// Value returns the value of record i, nil for null.
func (w *Wire) Value(i int) []byte { return w.bytes(w.Values[i]) }

func (w *Wire) bytes(s Span) []byte {
	if s.Len < 0 {
		return nil
	}
	return w.Data[s.At : s.At+s.Len : s.At+s.Len]
}

// EventKind says what an Event tells.
type EventKind uint8

const (
	// Rows brings a Wire of the split. A Wire without records moves the position only.
	Rows EventKind = iota
	// LogEnd says that the split was read to its log end by a fetch; see Event.Seen.
	LogEnd
	// NewSplit announces a split: all known ones come first, before any Rows, and
	// partition discovery may add more later.
	NewSplit
	// EndOfSplit ends a bounded split: its mark becomes maximal.
	EndOfSplit
	// GapFound says that records From..To (exclusive) are gone from the log and were
	// passed over by configuration (on_gap: skip_and_record).
	GapFound
)

// Event is one item of a source's stream.
type Event struct {
	Kind  EventKind
	Split Split
	Wire  *Wire
	// Position accompanies NewSplit and GapFound: where reading starts, or goes on.
	Position Position
	// Empty accompanies LogEnd: the split has never held a record that could be read.
	Empty bool
	// Seen accompanies LogEnd: the largest broker timestamp that the source had
	// delivered from other splits of the topic when it sent the fetch that found the log
	// end; MinTicks for none. A split is quiet when Seen is more than quiet_after above its
	// own last broker timestamp.
	Seen int64
	// From and To accompany GapFound, Reason says why.
	From, To int64
	Reason   string
}

// Source yields one ordered stream of events for all its splits. Next is called by one
// goroutine and returns io.EOF when every split is bounded and has ended; the other
// methods may be called from another goroutine.
type Source interface {
	Next(ctx context.Context) (Event, error)
	// Pause names the splits that shall not be read for now; all others are read.
	Pause(splits []Split)
	// Commit tells the outside how far the job is. It is advice for lag tools: the
	// checkpoint is the truth.
	Commit(ctx context.Context, at map[Split]Position) error
	Close() error
}

// OpenSource starts a source. Splits named in from go on there; the others start where
// the configuration says.
type OpenSource func(ctx context.Context, from map[Split]Position) (Source, error)

package operators

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Forget, as the time when a key is due next, says that nothing is to be remembered of it.
const Forget = pipeline.MinTicks

// Machine is what a domain knows of its keys: how the state S of one goes on with its rows and
// with time. It is pure: no clock, no I/O, no goroutine.
type Machine[S any] interface {
	// Row takes row r of rec and returns when, in event time, the key is due next:
	// pipeline.MaxTicks for never. Rows of all keys come by (time, split, offset), whatever the
	// batches, shards and restarts. What is due of the key before that time is for Row to do.
	Row(key string, s *S, rec arrow.RecordBatch, r int) (due int64)
	// Advance moves the time of a key that is due to at: no row at or before it follows. It does
	// what is due by then in order of event time, however far the time jumps, and returns when
	// the key is due next, or Forget.
	Advance(key string, s *S, at int64) (due int64)
	// Settled says that Row and Advance have been called for all that is due by at: the place
	// for rules across keys. Flush sends what they have made, the first table to Out, those
	// behind it to pipeline.Side(0) and so on.
	Settled(at int64)
	Flush(out pipeline.Emitter) error
}

// Joiner is a Machine that judges several keys together: Together names what the state of a key
// belongs to, which takes the place of the key. All keys are of one shard then. What belongs
// together may change with a file that the machine uses: after a Refer, or a restart, all keys are
// due at once.
type Joiner interface{ Together(key string) string }

// Resumer is a Machine with settings that decide when a key is due: Resume says when that is for a
// key of a checkpoint, which may have been made with others.
type Resumer[S any] interface{ Resume(s *S) (due int64) }

// KeyedConfig describes a Keyed operator.
type KeyedConfig[S any] struct {
	// Key names columns of the rows: those by which rows are dealt to shards, in that order. A
	// key's text is the column's, several are joined by KeySeparator.
	Key  []string
	Seed uint64 // of the key hash
	// Append and Read are the state of a key as bytes in a checkpoint. Read gets the zero state
	// and an error for what Append has not made.
	Append func(dst []byte, s *S) []byte
	Read   func(b []byte, s *S) error
	// MaxBytes limits the memory of the state; 0 is no limit. Beyond it the job ends with
	// ErrLimit.
	MaxBytes int64
}

// KeySeparator stands between the columns of a key's text.
const KeySeparator = "\x1f"

// Keyed gives the rows of a key, in order, to a machine with the state of that key. It is
// pipeline.Stateful.
//
// Rows wait until the mark has passed them: so their order, and with it all that a machine
// makes of them, depends on nothing but the rows. A row behind the mark of its own split is
// Late. Time comes to the machine in steps of a second of event time.
type Keyed[S any] struct {
	cfg     KeyedConfig[S]
	machine Machine[S]
	mem     memory.Allocator
	joiner  Joiner // nil: every key is on its own
	keyer   *pipeline.Keyer
	cols    []int // of the key
	lates   *arrow.Schema
	held    heldRows
	keys    map[string]*keyState[S]
	due     dueKeys[S]
	until   int64 // what came at or before it has been given to the machine
	log     keyLog[S]
	late    []lateRow // scratch of a Process call
}

// keyState is what is remembered of a key.
type keyState[S any] struct {
	state  S
	key    string
	name   string // for the machine
	group  uint8
	dirty  bool  // changed since the last snapshot
	size   int32 // of the state in the last snapshot
	piece  int64 // of the checkpoint's pieces the last that has it, or noPiece
	due    int64
	queued int64 // its place in the queue, at or before due; MaxTicks: none
}

// NewKeyed makes the operator for rows of the given schema.
func NewKeyed[S any](cfg KeyedConfig[S], m Machine[S], rows *arrow.Schema, mem memory.Allocator) (*Keyed[S], error) {
	keyer, err := pipeline.NewKeyer(rows, cfg.Key, cfg.Seed)
	if err != nil {
		return nil, err
	}
	if cfg.MaxBytes < 0 {
		return nil, fmt.Errorf("limit of %d bytes: must not be negative", cfg.MaxBytes)
	}
	held, err := newHeldRows(rows, mem)
	if err != nil {
		return nil, err
	}
	var cols []int
	for _, name := range cfg.Key {
		cols = append(cols, rows.FieldIndices(name)[0]) // the keyer has found it
	}
	joiner, _ := m.(Joiner)
	return &Keyed[S]{cfg: cfg, machine: m, joiner: joiner, mem: mem, keyer: keyer, cols: cols, lates: LateSchema(rows), held: held, keys: map[string]*keyState[S]{}, log: keyLog[S]{gone: map[string]goneKey{}}, until: pipeline.MinTicks}, nil
}

// Process implements pipeline.Operator.
func (k *Keyed[S]) Process(in pipeline.Batch, out pipeline.Emitter) error {
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	k.late = k.late[:0]
	taken := int64(0)
	batch := &heldBatch{rec: in.Rec, keys: in.Keys}
	err := eachRow(in, func(r int) error {
		switch mark := in.Verdict(int32(r)); {
		case times[r] <= mark:
			missed := Bounds{times[r], pipeline.AddTicks(times[r], 1)}
			k.late = append(k.late, lateRow{int32(r), missed, 1, mark, reasonOf(in, int32(r), times[r])})
		case times[r] <= k.until:
			return fmt.Errorf("broken invariant: a row of time %d, which its split had not passed, comes behind the mark %d", times[r], k.until)
		default:
			k.held.add(batch, r, times[r])
			taken++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if taken > 0 {
		in.Retain()
	}
	if in.Split >= 0 { // results of other operators have no fate
		out.Count(pipeline.Aggregated, in.Split, taken)
	}
	if len(k.late) > 0 {
		if err := emitLate(k.mem, k.lates, in, k.late, out); err != nil {
			return err
		}
	}
	return k.bound()
}

func (k *Keyed[S]) bound() error {
	if n := k.Bytes(); k.cfg.MaxBytes > 0 && n > k.cfg.MaxBytes {
		return fmt.Errorf("%d keys and %d rows that wait for the mark hold %d bytes, %d are allowed: %w; raise the limit, shorten the disorder bound, or see what holds the mark back",
			len(k.keys), k.held.rows, n, k.cfg.MaxBytes, ErrLimit)
	}
	return nil
}

// Advance gives the machine the rows that the mark has passed, and the time.
func (k *Keyed[S]) Advance(m pipeline.Mark, out pipeline.Emitter) error {
	until := m.Event
	if until != pipeline.MaxTicks {
		until = pipeline.SubTicks(FloorStart(pipeline.AddTicks(until, 1), holdTicks, 0), 1)
	}
	if until <= k.until {
		return nil
	}
	k.until = until
	k.held.take(until, k.row)
	if until == pipeline.MaxTicks { // the input is at its end, time is not
		until = m.Newest
	}
	for {
		s, ok := k.due.pop(until)
		if !ok {
			break
		}
		if s.due > until { // it was put off
			k.due.file(s, k.keys)
			continue
		}
		due := k.machine.Advance(s.name, &s.state, until)
		if due != Forget && due <= until {
			return fmt.Errorf("broken invariant: key %q is due at %d, and time is at %d already", s.name, due, until)
		}
		k.await(s, due)
	}
	k.machine.Settled(until)
	return k.machine.Flush(out)
}

// row gives a row to the machine.
func (k *Keyed[S]) row(batch *heldBatch, r int32) {
	s := k.of(batch, r)
	k.await(s, k.machine.Row(s.name, &s.state, batch.rec, int(r)))
}

// of returns the state that a row belongs to.
func (k *Keyed[S]) of(batch *heldBatch, r int32) *keyState[S] {
	if k.joiner != nil {
		return k.joint(k.joiner.Together(k.nameOf(batch.rec, int(r))))
	}
	keys := batch.keysBy(k.keyer)
	if s := k.keys[string(keys.At(r))]; s != nil {
		return s
	}
	return k.add(string(keys.At(r)), k.nameOf(batch.rec, int(r)), pipeline.Group(keys.Hash[r]))
}

// joint returns the state of keys that are judged together.
func (k *Keyed[S]) joint(name string) *keyState[S] {
	if s := k.keys[name]; s != nil {
		return s
	}
	return k.add(name, name, 0)
}

func (k *Keyed[S]) add(key, name string, group uint8) *keyState[S] {
	if name == key {
		name = key // one string
	}
	s := &keyState[S]{key: key, name: name, group: group, due: pipeline.MaxTicks, queued: pipeline.MaxTicks, piece: k.log.revive(key)}
	k.keys[key] = s
	return s
}

// nameOf returns the text of a row's key.
func (k *Keyed[S]) nameOf(rec arrow.RecordBatch, r int) string {
	parts := make([]string, len(k.cols))
	for i, at := range k.cols {
		if col := rec.Column(at); !col.IsNull(r) {
			parts[i] = strings.Clone(col.ValueStr(r))
		}
	}
	return strings.Join(parts, KeySeparator)
}

// await notes that the machine has changed a key, and when it is due next.
func (k *Keyed[S]) await(s *keyState[S], due int64) {
	if due == Forget {
		delete(k.keys, s.key)
		k.log.forget(s)
		s.queued = pipeline.MaxTicks // its places in the queue mean nothing any more
		return
	}
	k.log.note(s)
	if s.due = due; due < s.queued {
		k.due.file(s, k.keys)
	}
}

// Tick implements pipeline.Operator: no wall clock decides anything here.
func (k *Keyed[S]) Tick(int64, pipeline.Emitter) error { return nil }

// Refer takes a new content of a file that the machine uses.
func (k *Keyed[S]) Refer(ref pipeline.Reference) error {
	m, ok := k.machine.(interface {
		Refer(pipeline.Reference) error
	})
	if !ok {
		return nil
	}
	if err := m.Refer(ref); err != nil || k.joiner == nil {
		return err
	}
	for _, s := range k.keys {
		if s.due = pipeline.MinTicks; s.due < s.queued {
			k.due.file(s, k.keys)
		}
		k.log.note(s)
	}
	return nil
}

// Close gives back the batches of rows that wait. Nothing is called after it.
func (k *Keyed[S]) Close() { k.held.close() }

// Open returns how many keys are remembered.
func (k *Keyed[S]) Open() int { return len(k.keys) }

// Held returns how many rows wait for the mark.
func (k *Keyed[S]) Held() int { return k.held.rows }

// Bytes returns the memory of the state, as far as it was in a snapshot.
func (k *Keyed[S]) Bytes() int64 {
	return k.held.bytes + k.log.bytes + int64(len(k.keys))*keyBytes + int64(cap(k.due))*dueBytes
}

const (
	// keyBytes is about what a key costs beside its state: the map's entry and the struct.
	keyBytes = 176
	dueBytes = 16 // a place in the queue
)

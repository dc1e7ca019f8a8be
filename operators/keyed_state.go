package operators

import (
	"container/heap"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// dueKeys is a queue of keys by when they are due. A key may be in it more than once: its place
// is the one at queued. One whose due time alternates between near and far leaves a place behind
// every time; file makes the queue anew before these are many.
type dueKeys[S any] []dueKey[S]

type dueKey[S any] struct {
	at  int64
	key *keyState[S]
}

// Len implements heap.Interface.
func (q dueKeys[S]) Len() int { return len(q) }

// Less implements heap.Interface.
func (q dueKeys[S]) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].key.key < q[j].key.key
}

// Swap implements heap.Interface.
func (q dueKeys[S]) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push and Pop implement heap.Interface; push and pop do without what they allocate.
func (q dueKeys[S]) Push(any) { panic("push is used") }
func (q dueKeys[S]) Pop() any { panic("pop is used") }

// push files a key at the time when it is due.
func (q *dueKeys[S]) push(s *keyState[S]) {
	s.queued = s.due
	if s.due == pipeline.MaxTicks {
		return
	}
	*q = append(*q, dueKey[S]{s.due, s})
	heap.Fix(q, len(*q)-1)
}

// file pushes one of the keys that there are. Making the queue anew costs as much as there are keys,
// and comes once in as many pushes.
func (q *dueKeys[S]) file(s *keyState[S], keys map[string]*keyState[S]) {
	q.push(s)
	if len(*q) <= 2*len(keys)+spareDues {
		return
	}
	was := *q
	*q = was[:0]
	for _, s := range keys {
		if s.queued != pipeline.MaxTicks {
			*q = append(*q, dueKey[S]{s.queued, s})
		}
	}
	clear(was[len(*q):]) // of keys that are forgotten nothing stays
	heap.Init(q)
}

// spareDues are places of a queue that are not worth making it anew.
const spareDues = 64

// pop takes a key whose place is at or before a time out of the queue.
func (q *dueKeys[S]) pop(until int64) (*keyState[S], bool) {
	for len(*q) > 0 && (*q)[0].at <= until {
		d, end := (*q)[0], len(*q)-1
		(*q)[0], (*q)[end] = (*q)[end], dueKey[S]{}
		if *q = (*q)[:end]; end > 0 {
			heap.Fix(q, 0)
		}
		if d.at == d.key.queued {
			d.key.queued = pipeline.MaxTicks
			return d.key, true
		}
	}
	return nil, false
}

// keyLog writes keys to checkpoints. A piece has the keys that have changed since the one
// before it, so that a checkpoint costs what has changed; of several records of a key that in
// the piece of the highest number counts. A piece that is not twice as large as the one to come
// is merged with it: so there are few, and what is superseded takes no more room than what is not.
type keyLog[S any] struct {
	pieces []keyPiece // by number
	next   int64
	dirty  []*keyState[S]
	// gone are keys of which a piece still has a state.
	gone  map[string]goneKey
	went  int // of them since the last snapshot
	bytes int64
}

type keyPiece struct {
	number int64
	rows   int
}

type goneKey struct {
	group uint8
	dirty bool // in no piece as gone
	piece int64
}

// noPiece is the piece of a key that was in no snapshot.
const noPiece = -1

// note says that a key has changed.
func (l *keyLog[S]) note(s *keyState[S]) {
	if !s.dirty {
		s.dirty = true
		l.dirty = append(l.dirty, s)
	}
}

// forget says that a key is no more.
func (l *keyLog[S]) forget(s *keyState[S]) {
	l.bytes -= int64(s.size)
	s.size, s.dirty = 0, false // so that it is passed over in dirty
	if s.piece != noPiece {
		l.gone[s.key] = goneKey{s.group, true, s.piece}
		l.went++
	}
}

// revive says that a key is there again, and returns the piece that has it.
func (l *keyLog[S]) revive(key string) int64 {
	g, ok := l.gone[key]
	if !ok {
		return noPiece
	}
	delete(l.gone, key)
	if g.dirty {
		l.went--
	}
	return g.piece
}

// keysPiece begins the ids of pieces with keys; their number follows.
const keysPiece = "keys_"

// Columns of such a piece.
const (
	ksGroup = iota
	ksKey
	ksName
	ksPiece
	ksDue
	ksState // null: the key is no more
)

func keyedSchema() *arrow.Schema {
	i64, bytes := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.Binary
	return arrow.NewSchema([]arrow.Field{
		{Name: "_group", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "key", Type: bytes},
		{Name: "name", Type: bytes},
		{Name: "piece", Type: i64},
		{Name: "due", Type: i64},
		{Name: "state", Type: bytes, Nullable: true},
	}, nil)
}

// Snapshot lends the keys and the rows that wait.
func (k *Keyed[S]) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	rec := k.log.record(full, k.keys, k.cfg.Append, k.mem)
	if rec != nil {
		defer rec.Release()
	}
	for i, p := range k.log.pieces {
		out := pipeline.Piece{ID: keysPiece + strconv.FormatInt(p.number, 10)}
		if i == len(k.log.pieces)-1 {
			out.Rec = rec
		}
		if err := piece(out); err != nil {
			return err
		}
	}
	return k.held.snapshot(full, k.keyer, piece)
}

// record makes the next piece; nil when nothing has changed.
func (l *keyLog[S]) record(full bool, keys map[string]*keyState[S], encode func([]byte, *S) []byte, mem memory.Allocator) arrow.RecordBatch {
	rows := len(l.dirty) + l.went
	if !full && rows == 0 {
		return nil
	}
	first := l.next // pieces from this on are merged
	for n := len(l.pieces) - 1; n >= 0 && (full || l.pieces[n].rows < 2*rows); n-- {
		rows += l.pieces[n].rows
		first, l.pieces = l.pieces[n].number, l.pieces[:n]
	}
	if len(l.pieces) == 0 { // no older state of what is gone is left
		clear(l.gone)
	}
	states := l.changed(first, full, keys)
	b := array.NewRecordBuilder(mem, keyedSchema())
	defer b.Release()
	b.Reserve(len(states))
	row := func(group uint8, key, name string, due int64) {
		b.Field(ksGroup).(*array.Uint8Builder).Append(group)
		b.Field(ksKey).(*array.BinaryBuilder).AppendString(key)
		b.Field(ksName).(*array.BinaryBuilder).AppendString(name)
		b.Field(ksPiece).(*array.Int64Builder).Append(l.next)
		b.Field(ksDue).(*array.Int64Builder).Append(due)
	}
	var text []byte
	for _, s := range states {
		text = encode(text[:0], &s.state)
		row(s.group, s.key, s.name, s.due)
		b.Field(ksState).(*array.BinaryBuilder).Append(text)
		l.bytes += int64(len(text)) - int64(s.size)
		s.size, s.piece, s.dirty = int32(len(text)), l.next, false
	}
	for key, g := range l.gone {
		if g.dirty || g.piece >= first {
			row(g.group, key, "", pipeline.MaxTicks)
			b.Field(ksState).(*array.BinaryBuilder).AppendNull()
			l.gone[key] = goneKey{g.group, false, l.next}
		}
	}
	clear(l.dirty)
	l.dirty, l.went = l.dirty[:0], 0
	rec := b.NewRecordBatch()
	if rec.NumRows() == 0 { // what came was forgotten before anybody asked
		rec.Release()
		return nil
	}
	l.pieces = append(l.pieces, keyPiece{l.next, int(rec.NumRows())})
	l.next++
	return rec
}

// changed returns the keys that the next piece is to have, in an order that depends on them
// alone: all when full, else what has changed and what the pieces from first on have.
func (l *keyLog[S]) changed(first int64, full bool, keys map[string]*keyState[S]) []*keyState[S] {
	var out []*keyState[S]
	if first == l.next && !full {
		for _, s := range l.dirty {
			if s.dirty { // it is not forgotten
				out = append(out, s)
			}
		}
	} else {
		for _, s := range keys {
			if full || s.dirty || s.piece >= first {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b *keyState[S]) int { return strings.Compare(a.key, b.key) })
	return out
}

// Restore takes back what of a piece keep accepts.
func (k *Keyed[S]) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	if strings.HasPrefix(p.ID, heldPiece) {
		return k.held.restore(p, keep)
	}
	if !strings.HasPrefix(p.ID, keysPiece) || !p.Rec.Schema().Equal(keyedSchema()) {
		return fmt.Errorf("state %s is not of this operator: the job had other operators before; give the new one a state directory of its own", p.ID)
	}
	keys, names := p.Rec.Column(ksKey).(*array.Binary), p.Rec.Column(ksName).(*array.Binary)
	numbers, dues := p.Rec.Column(ksPiece).(*array.Int64), p.Rec.Column(ksDue).(*array.Int64)
	states := p.Rec.Column(ksState).(*array.Binary)
	resumer, _ := k.machine.(Resumer[S])
	for i, g := range p.Rec.Column(ksGroup).(*array.Uint8).Uint8Values() {
		number := numbers.Value(i)
		if number < 0 || number == math.MaxInt64 {
			return fmt.Errorf("state %s: piece number %d", p.ID, number)
		}
		key := string(keys.Value(i))
		if !keep(g) || k.log.newest(key, k.keys[key]) >= number {
			continue
		}
		k.log.next = max(k.log.next, number+1)
		if old := k.keys[key]; old != nil {
			old.queued = pipeline.MaxTicks // its place in the queue means nothing any more
			k.log.bytes -= int64(old.size)
		}
		if states.IsNull(i) {
			delete(k.keys, key)
			k.log.gone[key] = goneKey{g, false, number}
			continue
		}
		delete(k.log.gone, key)
		s := &keyState[S]{key: key, name: string(names.Value(i)), group: g, due: dues.Value(i), size: int32(states.ValueLen(i)), piece: number}
		if err := k.cfg.Read(states.Value(i), &s.state); err != nil {
			return fmt.Errorf("state %s of key %q: %w", p.ID, s.name, err)
		}
		if resumer != nil {
			s.due = resumer.Resume(&s.state)
		}
		k.keys[key] = s
		k.log.bytes += int64(s.size)
		if k.joiner != nil {
			s.due = pipeline.MinTicks
		}
		k.due.file(s, k.keys)
	}
	return nil
}

// newest returns the highest number of the pieces that were restored with a key, whose state is
// s unless it is nil.
func (l *keyLog[S]) newest(key string, s *keyState[S]) int64 {
	if s != nil {
		return s.piece
	}
	if g, ok := l.gone[key]; ok {
		return g.piece
	}
	return noPiece
}

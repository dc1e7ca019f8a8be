package pipelinetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// RowSource is a bounded source over rows in memory, one list per split. Fail, when set,
// is asked before every event.
type RowSource struct {
	Splits [][]Row
	Batch  int
	Fail   func() error
	// Hold keeps the source open at its end until ctx is done.
	Hold bool

	mu        sync.Mutex
	paused    map[pipeline.Split]bool
	next      []int
	announced int
	ended     []bool
	turn      int
	Committed map[pipeline.Split]pipeline.Position
	Pauses    int // calls of Pause
}

// Open is a pipeline.OpenSource.
func (s *RowSource) Open(_ context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
	s.next, s.ended, s.announced = make([]int, len(s.Splits)), make([]bool, len(s.Splits)), 0
	for i := range s.Splits {
		s.next[i] = int(from[rowSplit(i)].Offset)
	}
	return s, nil
}

func rowSplit(i int) pipeline.Split { return pipeline.Split{Topic: "rows", Partition: int32(i)} }

// Next implements pipeline.Source.
func (s *RowSource) Next(ctx context.Context) (pipeline.Event, error) {
	if err := ctx.Err(); err != nil {
		return pipeline.Event{}, err
	}
	if s.Fail != nil {
		if err := s.Fail(); err != nil {
			return pipeline.Event{}, err
		}
	}
	if s.announced < len(s.Splits) {
		i := s.announced
		s.announced++
		return pipeline.Event{Kind: pipeline.NewSplit, Split: rowSplit(i), Position: pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks}}, nil
	}
	for {
		ev, wait := s.turnOf()
		switch {
		case wait: // all that is left is paused
			time.Sleep(100 * time.Microsecond)
			if err := ctx.Err(); err != nil {
				return pipeline.Event{}, err
			}
			continue
		case ev != nil:
			return *ev, nil
		case s.Hold:
			<-ctx.Done()
			return pipeline.Event{}, ctx.Err()
		}
		return pipeline.Event{}, io.EOF
	}
}

// turnOf returns what the next split in turn has, and whether one was passed over because
// it is paused.
func (s *RowSource) turnOf() (ev *pipeline.Event, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.Splits {
		i := s.turn % len(s.Splits)
		s.turn++
		switch {
		case s.next[i] < len(s.Splits[i]) && s.paused[rowSplit(i)]:
			wait = true
		case s.next[i] < len(s.Splits[i]):
			ev := s.rows(i)
			return &ev, false
		case !s.ended[i] && s.Hold:
			s.ended[i] = true
			return &pipeline.Event{Kind: pipeline.LogEnd, Split: rowSplit(i), Seen: pipeline.MinTicks}, false
		case !s.ended[i]:
			s.ended[i] = true
			return &pipeline.Event{Kind: pipeline.EndOfSplit, Split: rowSplit(i)}, false
		}
	}
	return nil, wait
}

func (s *RowSource) rows(i int) pipeline.Event {
	rows := s.Splits[i][s.next[i]:min(s.next[i]+s.Batch, len(s.Splits[i]))]
	s.next[i] += len(rows)
	return pipeline.Event{Kind: pipeline.Rows, Split: rowSplit(i), Wire: NewWire(rows)}
}

// NewWire encodes rows of one split for RowDecoder. Offsets count from 0 without a gap.
func NewWire(rows []Row) *pipeline.Wire {
	w := &pipeline.Wire{Split: rows[0].Split}
	for _, r := range rows {
		at := len(w.Data)
		w.Data = binary.BigEndian.AppendUint64(w.Data, uint64(r.Time))
		w.Data = binary.BigEndian.AppendUint64(w.Data, uint64(r.Value))
		w.Data = binary.BigEndian.AppendUint64(w.Data, math.Float64bits(r.Level))
		w.Data = append(w.Data, r.Key...)
		w.Offset, w.Ingest = append(w.Offset, r.Offset), append(w.Ingest, r.Ingest)
		w.Keys = append(w.Keys, pipeline.Span{Len: -1})
		w.Values = append(w.Values, pipeline.Span{At: int32(at), Len: int32(len(w.Data) - at)})
	}
	end := rows[len(rows)-1]
	w.Next = pipeline.Position{Offset: end.Offset + 1, LastBatch: -1, LastIngest: end.Ingest}
	return w
}

// Pause implements pipeline.Source.
func (s *RowSource) Pause(splits []pipeline.Split) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Pauses++
	s.paused = map[pipeline.Split]bool{}
	for _, sp := range splits {
		s.paused[sp] = true
	}
}

// Commit implements pipeline.Source.
func (s *RowSource) Commit(_ context.Context, at map[pipeline.Split]pipeline.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Committed = at
	return nil
}

// Close implements pipeline.Source.
func (s *RowSource) Close() error { return nil }

// RowDecoder decodes what RowSource sends, to RowSchema or WideSchema.
type RowDecoder struct {
	Mem  memory.Allocator
	Wide bool
}

// Schema implements pipeline.Decoder.
func (d RowDecoder) Schema() *arrow.Schema {
	if d.Wide {
		return WideSchema()
	}
	return RowSchema()
}

// Decode implements pipeline.Decoder.
func (d RowDecoder) Decode(w *pipeline.Wire, out pipeline.Emitter) error {
	var rows []Row
	for i := range w.Len() {
		v := w.Value(i)
		rows = append(rows, Row{Time: int64(binary.BigEndian.Uint64(v)), Value: int64(binary.BigEndian.Uint64(v[8:])),
			Level: math.Float64frombits(binary.BigEndian.Uint64(v[16:])), Key: string(v[24:]),
			Split: w.Split, Offset: w.Offset[i], Ingest: w.Ingest[i]})
	}
	rec := record(d.Mem, d.Schema(), rows)
	defer rec.Release()
	return out.Emit(pipeline.Out, pipeline.Batch{Rec: rec, Split: w.Split, Passed: pipeline.MinTicks})
}

// MemSink keeps rows as lines of text in a Store, times as ticks: staged, then published
// under a name that depends on the epoch alone, once. Fail, when set, is asked before every
// step.
type MemSink struct {
	Store pipeline.Store
	Name  string
	Fail  func(step string) error
}

type memStage struct {
	s     *MemSink
	name  string
	lines []string
}

func (s *MemSink) step(name string) error {
	if s.Fail == nil {
		return nil
	}
	return s.Fail(name)
}

// Begin implements pipeline.Sink.
func (s *MemSink) Begin(_ context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	return &memStage{s: s, name: fmt.Sprintf("%s/%d-%06d", s.Name, e.Lineage, e.N)}, s.step("begin")
}

func (st *memStage) Write(_ context.Context, b pipeline.Batch) error {
	for i := range b.NumRows() {
		var f []string
		for c := range int(b.Rec.NumCols()) {
			col := b.Rec.Column(c)
			v := col.ValueStr(i)
			if ts, ok := col.(*array.Timestamp); ok && !ts.IsNull(i) {
				v = strconv.FormatInt(int64(ts.Value(i)), 10)
			}
			f = append(f, b.Rec.ColumnName(c)+"="+v)
		}
		st.lines = append(st.lines, strings.Join(f, " "))
	}
	return st.s.step("write")
}

func (st *memStage) Prepare(ctx context.Context, _ pipeline.Mark) (pipeline.Receipt, error) {
	if len(st.lines) == 0 {
		return nil, nil
	}
	if err := st.s.step("prepare"); err != nil {
		return nil, err
	}
	return pipeline.Receipt(st.name), st.s.Store.Put(ctx, "staged/"+st.name, []byte(strings.Join(st.lines, "\n")))
}

func (st *memStage) Abort() error { return nil }

// Publish implements pipeline.Sink.
func (s *MemSink) Publish(ctx context.Context, r pipeline.Receipt) error {
	if err := s.step("publish"); err != nil {
		return err
	}
	b, err := s.Store.GetRange(ctx, "staged/"+string(r), 0, -1)
	if err != nil {
		return err
	}
	name := "published/" + string(r)
	err = s.Store.PutIfAbsent(ctx, name, b)
	if errors.Is(err, pipeline.ErrExists) {
		var old []byte
		if old, err = s.Store.GetRange(ctx, name, 0, -1); err == nil && !bytes.Equal(old, b) {
			err = fmt.Errorf("%s is published already, with other rows", name)
		}
	}
	if err != nil {
		return err
	}
	return s.step("published")
}

// Sweep implements pipeline.Sink.
func (s *MemSink) Sweep(context.Context) error { return nil }

// Close implements pipeline.Sink.
func (s *MemSink) Close() error { return nil }

// Lines returns every published row, sorted.
func (s *MemSink) Lines() ([]string, error) {
	lines, err := s.Published()
	sort.Strings(lines)
	return lines, err
}

// Published returns every published row, by epoch and in the order written.
func (s *MemSink) Published() ([]string, error) {
	objects, err := s.Store.List(context.Background(), "published/"+s.Name+"/")
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, o := range objects {
		b, err := s.Store.GetRange(context.Background(), o.Name, 0, -1)
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Split(string(b), "\n")...)
	}
	return lines, nil
}

// FailingStore fails calls of a Store as Fail says.
type FailingStore struct {
	pipeline.Store
	Fail func(op, name string) error
}

// Put implements pipeline.Store.
func (s FailingStore) Put(ctx context.Context, name string, b []byte) error {
	if err := s.Fail("put", name); err != nil {
		return err
	}
	return s.Store.Put(ctx, name, b)
}

// Create implements pipeline.Store.
func (s FailingStore) Create(ctx context.Context, name string) (pipeline.StoreWriter, error) {
	if err := s.Fail("create", name); err != nil {
		return nil, err
	}
	return s.Store.Create(ctx, name)
}

// Corrupt flips one bit of an object, or cuts it short.
func (s *MemStore) Corrupt(name string, at int, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := append([]byte(nil), s.objects[name]...)
	if cut {
		s.objects[name] = b[:at]
		return
	}
	b[at/8] ^= 1 << (at % 8)
	s.objects[name] = b
}

// Object returns the bytes of an object, nil when there is none.
func (s *MemStore) Object(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[name]
}

// Copy returns a store with the same objects.
func (s *MemStore) Copy() *MemStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewMemStore()
	for k, v := range s.objects {
		c.objects[k] = v
	}
	return c
}

// MarshalJSON lists the names, for messages.
func (s *MemStore) MarshalJSON() ([]byte, error) {
	objects, err := s.List(context.Background(), "")
	if err != nil {
		return nil, err
	}
	return json.Marshal(objects)
}

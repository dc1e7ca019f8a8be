package operators

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// A feeder cuts values from what a fuzzer gives; at the end there are zeros.
type feeder struct{ left []byte }

func (f *feeder) byte() byte {
	if len(f.left) == 0 {
		return 0
	}
	b := f.left[0]
	f.left = f.left[1:]
	return b
}

// word is small, huge or anything.
func (f *feeder) word() int64 {
	switch b := f.byte(); {
	case b < 0xf0:
		return int64(b) - 20
	case b < 0xf8:
		return []int64{math.MinInt64, math.MaxInt64, math.MinInt64 + 1, 1 << 31, -1 << 31, 1 << 40, 1 << 62, -1 << 62}[b&7]
	}
	var w [8]byte
	for i := range w {
		w[i] = f.byte()
	}
	return int64(binary.LittleEndian.Uint64(w[:]))
}

func (f *feeder) bytes() []byte {
	b := make([]byte, f.byte()%40)
	for i := range b {
		b[i] = f.byte()
	}
	return b
}

// record makes rows of a schema of state.
func (f *feeder) record(mem memory.Allocator, schema *arrow.Schema) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for range f.byte() % 5 {
		for _, c := range b.Fields() {
			f.value(c)
		}
	}
	return b.NewRecordBatch()
}

func (f *feeder) value(b array.Builder) {
	switch b := b.(type) {
	case *array.Uint8Builder:
		b.Append(f.byte())
	case *array.Int64Builder:
		b.Append(f.word())
	case *array.BooleanBuilder:
		b.Append(f.byte()&1 == 1)
	case *array.BinaryBuilder:
		b.Append(f.bytes())
	case *array.ListBuilder:
		b.Append(true)
		for range f.byte() % 8 {
			f.value(b.ValueBuilder())
		}
	default:
		panic(fmt.Sprintf("state with a column of %s", b.Type()))
	}
}

// restorer is an operator with state.
type restorer interface {
	Snapshot(full bool, piece func(pipeline.Piece) error) error
	Restore(p pipeline.Piece, keep func(group uint8) bool) error
}

// fuzzRestore gives an operator state that nobody wrote: it is taken or refused in words. What
// was taken can be written and taken again.
func fuzzRestore(t *testing.T, open func() restorer, piece pipeline.Piece) {
	op, all := open(), func(uint8) bool { return true }
	if err := op.Restore(piece, all); err != nil {
		if err.Error() == "" {
			t.Fatal("an error without words")
		}
		return
	}
	next := open()
	err := op.Snapshot(true, func(p pipeline.Piece) error {
		p = p.Made()
		defer p.Rec.Release()
		return next.Restore(p, all)
	})
	if err != nil {
		t.Fatalf("state that was taken is refused when it comes back: %v", err)
	}
}

// FuzzWindowRestore restores windows, slices, marks and clocks from any values under any name.
func FuzzWindowRestore(f *testing.F) {
	for _, id := range []string{markPiece, clocksPiece, "0_20", "slice_0_5", "delta_0_20", "-9223372036854775808_9223372036854775807", "1_", "x"} {
		f.Add(id, []byte{}, false)
		f.Add(id, []byte{1, 0, 1, 'k', 1, 20, 21, 1, 2, 3}, false)
		f.Add(id, bytes.Repeat([]byte{3, 9, 0xf1}, 40), true)
	}
	q := 0.5
	plain := WindowConfig{Shape: TumblingShape(20, 0), Lateness: 5, Trigger: OnMark, LateRows: 2, Keys: []string{"k"},
		Aggregates: []Aggregate{{Fn: "count", As: "n"}, {Fn: "sum", Column: "i", As: "s"}}}
	extras := plain
	extras.Aggregates = []Aggregate{{Fn: "distinct", Column: "s", As: "d"}, {Fn: "quantile", Column: "i", As: "q", Q: &q}, {Fn: "increase", Column: "i", As: "u"}}
	extras.Slide = 5
	f.Fuzz(func(t *testing.T, id string, data []byte, sketches bool) {
		cfg := plain
		if sketches {
			cfg = extras
		}
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer mem.AssertSize(t, 0)
		open := func() restorer {
			w, err := NewWindow(cfg, modelSchema(), mem)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		feed := feeder{data}
		rec := feed.record(mem, open().(*Window).stateSchema())
		defer rec.Release()
		fuzzRestore(t, open, pipeline.Piece{ID: id, Rec: rec})
	})
}

// FuzzSessionRestore does the same with sessions.
func FuzzSessionRestore(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte{2, 0, 1, 'k', 21, 40, 0, 0, 0, 0, 1, 2, 1, 1, 'k', 30, 50, 0, 0}, false)
	f.Add(bytes.Repeat([]byte{3, 9, 0xf1}, 40), true)
	q := 0.5
	plain := SessionConfig{Gap: 4, Touch: TouchSplit, MaxLength: pipeline.MaxTicks, Lateness: 5, Trigger: OnMark, LateRows: 1, Keys: []string{"k"},
		Aggregates: []Aggregate{{Fn: "count", As: "n"}, {Fn: "sum", Column: "i", As: "s"}}}
	extras := plain
	extras.Retract, extras.EarlyRows = true, 2
	extras.Aggregates = []Aggregate{{Fn: "distinct", Column: "s", As: "d"}, {Fn: "quantile", Column: "i", As: "q", Q: &q}, {Fn: "collect", Column: "i", As: "c"}}
	f.Fuzz(func(t *testing.T, data []byte, sketches bool) {
		cfg := plain
		if sketches {
			cfg = extras
		}
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer mem.AssertSize(t, 0)
		open := func() restorer {
			w, err := NewSession(cfg, modelSchema(), mem)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		feed := feeder{data}
		rec := feed.record(mem, open().(*Session).state)
		defer rec.Release()
		fuzzRestore(t, open, pipeline.Piece{ID: "g000", Rec: rec})
	})
}

// FuzzSketch decodes sketches: what is taken, is the same again when it is written and read,
// and stays within the memory of a sketch.
func FuzzSketch(f *testing.F) {
	x := &extras{}
	var d, q [1]uint64
	for i := range uint64(2000) {
		x.addDistinct(d[:], hashWord(i))
		x.addQuantile(q[:], float64(i)-50)
		if i == 20 || i == 1999 {
			f.Add(true, x.encode(accumulator{op: accDistinct}, d[:]))
			f.Add(false, x.encode(accumulator{op: accQuantile}, q[:]))
		}
	}
	f.Fuzz(func(t *testing.T, isDistinct bool, b []byte) {
		a := accumulator{op: accQuantile}
		if isDistinct {
			a.op = accDistinct
		}
		x := &extras{}
		var acc, again [1]uint64
		if err := x.decode(a, acc[:], b); err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if size := x.measure(); size > 1<<16 {
			t.Fatalf("%d bytes from %d", size, len(b))
		}
		first := x.encode(a, acc[:])
		if err := x.decode(a, again[:], first); err != nil {
			t.Fatalf("refused when it comes back: %v", err)
		}
		if second := x.encode(a, again[:]); !bytes.Equal(first, second) {
			t.Fatalf("%x\nis %x the second time", first, second)
		}
	})
}

// FuzzShape holds the windows of a time against their definition: starts at offset (mod slide),
// Size long, around the time; a time has the windows of its whole span.
func FuzzShape(f *testing.F) {
	f.Add(int64(-1), int64(20), int64(5), int64(3), false)
	f.Add(int64(7), int64(20), int64(7), int64(-3), false)
	f.Add(int64(7), int64(5), int64(7), int64(6), false)
	f.Add(int64(-41), int64(20), int64(5), int64(-19), true)
	f.Add(int64(1<<40), int64(1<<62), int64(1<<62), int64(0), false)
	f.Fuzz(func(t *testing.T, at, size, slide, offset int64, cumulate bool) {
		s := Shape{Kind: Hopping, Size: size, Slide: slide, Offset: offset}
		if cumulate {
			s.Kind = Cumulate
		}
		if s.Validate() != nil || s.Overlap() > 200 || at > 1<<60 || at < -1<<60 || size > 1<<60 || slide > 1<<60 {
			return
		}
		span := s.Span(at)
		if at < span.Start || at >= span.End {
			t.Fatalf("%+v: %d is not in its span %v", s, at, span)
		}
		// By definition: every window whose number is near the time's own, kept if it holds it.
		var want []Bounds
		if cumulate {
			for base := at - size - (at-size-offset)%size - 2*size; base <= at; base += size {
				for end := base + slide; end <= base+size; end += slide {
					if base <= at && at < end {
						want = append(want, Bounds{base, end})
					}
				}
			}
		} else {
			for start := at - size - (at-size-offset)%slide - 2*slide; start <= at; start += slide {
				if start <= at && at < start+size {
					want = append(want, Bounds{start, start + size})
				}
			}
		}
		if len(want) == 0 { // a hole between windows has a span, and none
			if got := s.Windows(nil, span); len(got) != 0 {
				t.Fatalf("%+v: %d lies in none, got %v", s, at, got)
			}
			return
		}
		for _, probe := range []int64{at, span.Start, span.End - 1} {
			if got := s.Windows(nil, s.Span(probe)); !slices.Equal(got, want) {
				t.Fatalf("%+v: %d (span %v of %d) lies in %v, want %v", s, probe, span, at, got, want)
			}
		}
		for _, w := range want {
			if !s.has(w) {
				t.Fatalf("%+v: %v is none of its windows", s, w)
			}
		}
	})
}

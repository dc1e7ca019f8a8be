package decisions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// rig is a store in a directory with a clock.
type rig struct {
	mem   *memory.CheckedAllocator
	dir   string
	store pipeline.Store
	now   time.Time
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{mem: memory.NewCheckedAllocator(memory.NewGoAllocator()), dir: t.TempDir(), now: time.Now()}
	store, err := pipeline.NewLocalStore(r.dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	r.store = store
	t.Cleanup(func() { r.mem.AssertSize(t, 0) })
	return r
}

func (r *rig) clock() time.Time { return r.now }

func (r *rig) sink(t testing.TB, cfg Config) *Sink {
	t.Helper()
	s := New(cfg, r.store, []string{"device", "unit"}, r.mem, r.clock)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// late are rows of the port Late from the given offset on, each 5 ticks behind its mark.
func (r *rig) late(from int64, n int) pipeline.Batch {
	fields := append(pipeline.RowFields(),
		arrow.Field{Name: "device", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "unit", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "reason", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "late_by_us", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "window_start", Type: pipeline.Timestamp},
		arrow.Field{Name: "window_end", Type: pipeline.Timestamp},
		arrow.Field{Name: "windows_missed", Type: arrow.PrimitiveTypes.Int64})
	b := array.NewRecordBuilder(r.mem, arrow.NewSchema(fields, nil))
	defer b.Release()
	when := func(col int, v int64) { b.Field(col).(*array.TimestampBuilder).Append(arrow.Timestamp(v)) }
	number := func(col int, v int64) { b.Field(col).(*array.Int64Builder).Append(v) }
	for i := range n {
		at := from + int64(i)
		when(0, 1000+at)
		b.Field(1).(*array.Int32Builder).Append(3)
		number(2, at)
		when(3, 2000+at)
		if device := b.Field(4).(*array.StringBuilder); at%2 == 0 {
			device.Append(fmt.Sprintf("RC-%d", at%1000))
		} else {
			device.AppendNull()
		}
		number(5, 7)
		b.Field(6).(*array.StringBuilder).Append("late")
		number(7, 5)
		when(8, 900)
		when(9, 1000)
		number(10, 2)
	}
	return pipeline.Batch{Rec: b.NewRecordBatch(), Split: 3, Passed: pipeline.MinTicks}
}

// dead is a row of the port Dead without a time.
func (r *rig) dead(offset int64) pipeline.Batch {
	b := array.NewRecordBuilder(r.mem, pipeline.DeadSchema())
	defer b.Release()
	b.Field(0).AppendNull()
	b.Field(1).(*array.Int32Builder).Append(3)
	b.Field(2).(*array.Int64Builder).Append(offset)
	b.Field(3).(*array.TimestampBuilder).Append(77)
	b.Field(4).(*array.StringBuilder).Append("malformed")
	b.Field(5).(*array.StringBuilder).Append("it is no JSON")
	b.Field(6).(*array.Int64Builder).Append(1)
	b.Field(7).(*array.BinaryBuilder).Append([]byte("x"))
	return pipeline.Batch{Rec: b.NewRecordBatch(), Split: 3, Passed: pipeline.MinTicks}
}

// epoch prepares an epoch of the given batches, which it releases.
func (r *rig) epoch(t testing.TB, s *Sink, n int64, batches ...pipeline.Batch) {
	t.Helper()
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: "j", Lineage: 1, N: n})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		err := st.Write(t.Context(), b)
		b.Release()
		if err != nil {
			t.Fatal(err)
		}
	}
	if receipt, err := st.Prepare(t.Context(), pipeline.Mark{}); err != nil || receipt != nil {
		t.Fatalf("receipt %q, %v", receipt, err)
	}
}

func (r *rig) decisions(t testing.TB) []Decision {
	t.Helper()
	var out []Decision
	damaged, err := Decisions(t.Context(), r.store, r.mem, func(d Decision) { out = append(out, d) })
	if err := errors.Join(append(damaged, err)...); err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *rig) objects(t testing.TB, folder string) (names []string) {
	t.Helper()
	all, err := r.store.List(t.Context(), folder+"/")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		names = append(names, o.Name)
	}
	return names
}

// TestDecisions: what was decided comes back, each epoch of it as soon as it is prepared, in one
// object that grows; an epoch without such rows writes nothing, and neither does one that was
// aborted.
func TestDecisions(t *testing.T) {
	r := newRig(t)
	s := r.sink(t, DefaultConfig())
	r.epoch(t, s, 4)
	if got := r.objects(t, folder); got != nil {
		t.Errorf("an epoch without decisions wrote %v", got)
	}
	r.epoch(t, s, 5, r.late(10, 2), r.dead(12))
	want := []Decision{
		{Lineage: 1, Epoch: 5, Split: 3, Offset: 10, Time: 1010, Ingest: 2010, Mark: 1015, Fate: pipeline.FateLate, Reason: "late", Key: "RC-10,7", Start: 900, End: 1000, Missed: 2},
		{Lineage: 1, Epoch: 5, Split: 3, Offset: 11, Time: 1011, Ingest: 2011, Mark: 1016, Fate: pipeline.FateLate, Reason: "late", Key: "null,7", Start: 900, End: 1000, Missed: 2},
		{Lineage: 1, Epoch: 5, Split: 3, Offset: 12, Time: pipeline.MinTicks, Ingest: 77, Mark: pipeline.MinTicks, Fate: pipeline.FateDead, Reason: "malformed", Start: pipeline.MinTicks, End: pipeline.MinTicks},
	}
	if got := r.decisions(t); !slices.Equal(got, want) {
		t.Errorf("got %+v,\nwant %+v", got, want)
	}
	aborted, err := s.Begin(t.Context(), pipeline.Epoch{Lineage: 1, N: 6})
	if err != nil {
		t.Fatal(err)
	}
	b := r.dead(13)
	if err := errors.Join(aborted.Write(t.Context(), b), aborted.Abort()); err != nil {
		t.Fatal(err)
	}
	b.Release()
	r.epoch(t, s, 6, r.dead(14))
	if got := r.decisions(t); len(got) != 4 || got[3].Offset != 14 || got[3].Epoch != 6 {
		t.Errorf("got %+v", got)
	}
	if got := r.objects(t, folder); len(got) != 1 {
		t.Errorf("objects %v, want one that grows", got)
	}
}

// TestDecisionsAgain: what a process wrote that died before its checkpoint is replaced by what
// the next one writes for the same epoch.
func TestDecisionsAgain(t *testing.T) {
	r := newRig(t)
	r.epoch(t, r.sink(t, DefaultConfig()), 5, r.late(10, 5))
	r.epoch(t, r.sink(t, DefaultConfig()), 5, r.late(10, 2))
	if got := r.decisions(t); len(got) != 2 {
		t.Errorf("%d decisions, want those of the second time alone", len(got))
	}
}

// TestDecisionsOnce: the same where the object of the process that died has earlier epochs too, and
// where its epoch had objects of its own: every row is there once, and no earlier one is lost.
func TestDecisionsOnce(t *testing.T) {
	r := newRig(t)
	s := r.sink(t, DefaultConfig())
	r.epoch(t, s, 5, r.late(10, 2))
	r.epoch(t, s, 6, r.late(20, 3))
	r.epoch(t, s, 7, r.late(1000, fullRows), r.late(1000+fullRows, fullRows), r.late(30, 1))
	again := r.sink(t, DefaultConfig())
	r.epoch(t, again, 7, r.late(1000, fullRows))
	r.epoch(t, again, 8, r.late(1000+fullRows, fullRows), r.late(30, 1))
	seen := map[int64]int{}
	for _, d := range r.decisions(t) {
		seen[d.Offset]++
	}
	if want := 2 + 3 + 2*fullRows + 1; len(seen) != want {
		t.Errorf("decisions on %d rows, want %d", len(seen), want)
	}
	for offset, n := range seen {
		if n != 1 {
			t.Fatalf("%d decisions on offset %d", n, offset)
		}
	}
}

// TestBounds: the oldest objects go when there is too much, and all when they are too old.
func TestBounds(t *testing.T) {
	r := newRig(t)
	s := r.sink(t, Config{Keep: time.Hour, MaxBytes: 300 << 10})
	for n := range int64(6) {
		r.epoch(t, s, n+1, r.late(n*fullRows, fullRows))
	}
	names := r.objects(t, folder)
	var size int64
	all, err := r.store.List(t.Context(), folder+"/")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		size += o.Size
	}
	t.Logf("%d rows in %d objects are %d bytes", len(r.decisions(t)), len(names), size)
	got := r.decisions(t)
	if len(names) < 2 || len(names) > 5 || got[len(got)-1].Offset != 6*fullRows-1 || got[0].Offset == 0 {
		t.Errorf("%d objects with offsets %d to %d: the newest are wanted", len(names), got[0].Offset, got[len(got)-1].Offset)
	}
	r.now = r.now.Add(2 * time.Hour)
	if err := r.sink(t, Config{Keep: time.Hour, MaxBytes: 1 << 20}).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.objects(t, folder); got != nil {
		t.Errorf("%v are left of what is too old", got)
	}
}

// TestDamaged: an object that cannot be read is told of, and the others are read.
func TestDamaged(t *testing.T) {
	r := newRig(t)
	r.epoch(t, r.sink(t, DefaultConfig()), 5, r.dead(1))
	r.epoch(t, r.sink(t, DefaultConfig()), 6, r.dead(2))
	name := filepath.Join(r.dir, r.objects(t, folder)[0])
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b[:len(b)-9], 0o644); err != nil {
		t.Fatal(err)
	}
	n := 0
	damaged, err := Decisions(t.Context(), r.store, r.mem, func(d Decision) { n++ })
	if err != nil || len(damaged) != 1 || n != 1 {
		t.Errorf("%d decisions, damaged %v, %v", n, damaged, err)
	}
}

// TestHistory: points come back as they were taken. They are written once a second at most, a
// point that says nothing new once a minute, and the rest when the job stops.
func TestHistory(t *testing.T) {
	r := newRig(t)
	h := NewHistory(DefaultConfig(), r.store, true, r.mem, r.clock)
	point := func(epoch, mark int64) pipeline.Published {
		return pipeline.Published{Lineage: 2, Epoch: epoch, Merged: pipeline.Mark{Event: mark, Ingest: mark + 1}, Holder: 1, Since: 9, Splits: []pipeline.SplitState{
			{Split: pipeline.Split{Topic: "t", Partition: 0}, Position: pipeline.Position{Offset: 100 * epoch, LastBatch: -1, LastIngest: 5}, Mark: pipeline.Mark{Event: mark, Ingest: 6}, Quiet: true},
			{Split: pipeline.Split{Topic: "t", Partition: 1}, Position: pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks}, Mark: pipeline.Mark{Event: pipeline.MinTicks, Ingest: pipeline.MinTicks}}}}
	}
	take := func(p pipeline.Published, written int) {
		t.Helper()
		if err := h.Take(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		points, damaged, err := Points(t.Context(), r.store, r.mem)
		if err := errors.Join(append(damaged, err)...); err != nil {
			t.Fatal(err)
		}
		if len(points) != written {
			t.Errorf("epoch %d: %d points are written, want %d", p.Epoch, len(points), written)
		}
	}
	take(pipeline.Published{Lineage: 2, Epoch: 1}, 0) // no splits yet
	take(point(2, 1000), 1)
	r.now = r.now.Add(writeEvery / 2)
	take(point(3, 2000), 1)
	r.now = r.now.Add(writeEvery)
	take(point(4, 3000), 3)
	same := point(4, 3000)
	same.Epoch = 5
	r.now = r.now.Add(writeEvery)
	take(same, 3)
	r.now = r.now.Add(unchangedEvery)
	take(same, 4)
	take(point(6, 4000), 4)
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	points, _, err := Points(t.Context(), r.store, r.mem)
	if err != nil || len(points) != 5 {
		t.Fatalf("%d points, %v", len(points), err)
	}
	want := point(2, 1000)
	if p := points[0]; p.Lineage != 2 || p.Epoch != 2 || !p.Anew || p.Merged != want.Merged || p.Holder != 1 || p.Since != 9 || !slices.Equal(p.Splits, want.Splits) {
		t.Errorf("got %+v, want %+v", p, want)
	}
	if points[1].Anew {
		t.Error("the second point of a lineage says that it began anew")
	}
}

// BenchmarkDecisions is what a row costs that is late, from the port to the object, in epochs of
// 1,000 of them.
func BenchmarkDecisions(b *testing.B) {
	r := newRig(b)
	s := r.sink(b, DefaultConfig())
	batch := r.late(0, 1000)
	defer batch.Release()
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		n++
		st, err := s.Begin(context.Background(), pipeline.Epoch{Lineage: 1, N: n})
		if err != nil {
			b.Fatal(err)
		}
		if err := st.Write(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		if _, err := st.Prepare(context.Background(), pipeline.Mark{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*1000), "ns/row")
}

package pipelinetest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// unevenInput deals the rows of one stream to splits of very different size.
func unevenInput() [][]pipelinetest.Row {
	rng := rand.New(rand.NewPCG(8, 8))
	shares := []int{70, 20, 8, 2, 0}
	input := make([][]pipelinetest.Row, len(shares))
	at := int64(1_767_225_600_000_000)
	for range 9000 {
		at += rng.Int64N(60_000)
		n, s := rng.IntN(100), 0
		for n >= shares[s] {
			n -= shares[s]
			s++
		}
		input[s] = append(input[s], pipelinetest.Row{Time: at - rng.Int64N(hashBound), Ingest: at, Key: fmt.Sprintf("asset-%d", rng.IntN(90)),
			Value: rng.Int64N(1000), Split: int32(s), Offset: int64(len(input[s]))})
	}
	return input
}

// TestMerge: splits of very different size, of which the source gives equally much, are taken
// in the order of event time, so that few windows are open. Without merging there are many more,
// which the same measure notices.
func TestMerge(t *testing.T) {
	input := unevenInput()
	want, _ := oracleFinal(input)
	run := func(merge bool) (most int, j testJob) {
		store := pipelinetest.NewMemStore()
		j = testJob{store: store, src: &pipelinetest.RowSource{Splits: input, Batch: 20}, shards: 1, align: pipeline.MaxTicks, mem: memory.NewGoAllocator(),
			out: &pipelinetest.MemSink{Store: store, Name: "out"}, late: &pipelinetest.MemSink{Store: store, Name: "late"},
			published: func(p pipeline.Published) { most = max(most, p.Open) }}
		job := j.job(t)
		job.Merge = merge
		if err := pipeline.Run(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if d := firstDifference(finalLines(t, j.out), want); d != "none" {
			t.Fatalf("merge %v: %s", merge, d)
		}
		return most, j
	}
	merged, j := run(true)
	apart, _ := run(false)
	if j.src.Pauses == 0 {
		t.Error("no split was ever paused")
	}
	t.Logf("most open windows: %d merged, %d not", merged, apart)
	if merged*3 > apart {
		t.Errorf("%d open windows merged, %d not", merged, apart)
	}
}

// TestUntil: a split ends with the row that brings its mark to Until, however wires are cut:
// the same rows are taken, and records that were refused count as far as that row.
func TestUntil(t *testing.T) {
	checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer checked.AssertSize(t, 0)
	rows := hashInput()[0]
	until := rows[len(rows)/2].Time
	refused := func(r pipelinetest.Row) bool { return r.Offset%5 == 3 }
	var dead, end int64
	for mark := int64(pipeline.MinTicks); mark < until; end++ {
		if r := rows[end]; refused(r) {
			dead++
		} else {
			mark = max(mark, r.Time-hashBound-1)
		}
	}
	if end < 100 || end > int64(len(rows))-100 {
		t.Fatalf("the split is to end behind offset %d of %d: it proves little", end, len(rows))
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), []string{"key"}, 0)
	must(err)
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		last := int64(-1)
		f := pipeline.NewFront(pipeline.FrontConfig{Bound: hashBound, Until: until, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer},
			func(_ int, m pipeline.Message) error {
				if m.Kind == pipeline.RowsMessage {
					offsets := m.Batch.Rec.Column(pipeline.ColOffset).(*array.Int64)
					last = offsets.Value(offsets.Len() - 1)
				}
				return nil
			})
		split := pipeline.Split{Topic: "rows", Partition: 0}
		f.Announce(split, pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks})
		for at := 0; at < len(rows); {
			if _, over := f.Over(0); over {
				break
			}
			n := min(len(rows)-at, 1+rng.IntN(300))
			var good []pipelinetest.Row
			for _, r := range rows[at : at+n] {
				if !refused(r) {
					good = append(good, r)
				}
			}
			rec := pipelinetest.Record(checked, good)
			must(f.Rows(pipelinetest.NewWire(rows[at:at+n]), &pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}, int64(n-len(good))))
			rec.Release()
			at += n
		}
		next, over := f.Over(0)
		counts := f.Cut()[0].Counts
		if !over || next != end || last != end-1 || !f.Ended() {
			t.Fatalf("seed %d: ended %v behind offset %d with row %d, want %d", seed, over, next, last, end)
		}
		if counts[pipeline.Read] != end || counts[pipeline.FateDead] != dead {
			t.Fatalf("seed %d: read %d, dead %d; want %d, %d", seed, counts[pipeline.Read], counts[pipeline.FateDead], end, dead)
		}
	}
}

// TestUntilBeforeEnd: one split comes to Until and is read no more, another ends without coming
// that far. The job ends with the last of them, whichever that is, merged or not: the source
// has no end to tell of a split that is not read.
func TestUntilBeforeEnd(t *testing.T) {
	const second = 1_000_000
	long := func(split int32, from, to int64) (rows []pipelinetest.Row) {
		for at := from; at < to; at++ {
			rows = append(rows, pipelinetest.Row{Time: at * second, Ingest: at * second, Key: "a", Split: split, Offset: int64(len(rows))})
		}
		return rows
	}
	for name, input := range map[string][][]pipelinetest.Row{
		"the end of the short one is last": {append(long(0, 0, 10), long(0, 900, 1900)...), long(1, 0, 500)},
		"the end of the long one is last":  {long(0, 0, 1900), long(1, 0, 10)},
	} {
		for i := range input[0] { // of two parts
			input[0][i].Offset = int64(i)
		}
		for _, merge := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, merge %v", name, merge), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				store := pipelinetest.NewMemStore()
				var last pipeline.Published
				j := testJob{store: store, src: &pipelinetest.RowSource{Splits: input, Batch: 20}, shards: 1, align: pipeline.MaxTicks, mem: memory.NewGoAllocator(),
					out: &pipelinetest.MemSink{Store: store, Name: "out"}, late: &pipelinetest.MemSink{Store: store, Name: "late"},
					published: func(p pipeline.Published) { last = p }}
				job := j.job(t)
				job.Merge, job.Front.Until = merge, 800*second
				if err := pipeline.Run(ctx, job); err != nil {
					t.Fatal(err)
				}
				if ctx.Err() != nil {
					t.Error("the job had to be stopped")
				}
				for _, s := range last.Splits {
					if !s.Ended {
						t.Errorf("split %s at offset %d has not ended", s.Split, s.Position.Offset)
					}
				}
			})
		}
	}
}

// slowDecoder takes a while for each wire.
type slowDecoder struct{ pipelinetest.RowDecoder }

func (d slowDecoder) Decode(w *pipeline.Wire, out pipeline.Emitter) error {
	time.Sleep(2 * time.Millisecond)
	return d.RowDecoder.Decode(w, out)
}

// TestMergeFails: a replay whose sink fails returns, although wires wait for their turn that
// nobody has decoded yet, and gives back what it holds.
func TestMergeFails(t *testing.T) {
	input := unevenInput()
	for range 10 {
		store := pipelinetest.NewMemStore()
		broken := errors.New("sink is broken")
		j := testJob{store: store, src: &pipelinetest.RowSource{Splits: input, Batch: 20}, shards: 1, align: pipeline.MaxTicks, mem: memory.NewGoAllocator(),
			out:  &pipelinetest.MemSink{Store: store, Name: "out", Fail: func(string) error { return broken }},
			late: &pipelinetest.MemSink{Store: store, Name: "late"}}
		job := j.job(t)
		job.Merge, job.Interval = true, 20*time.Millisecond
		job.NewDecoder = func() (pipeline.Decoder, error) {
			return slowDecoder{pipelinetest.RowDecoder{Mem: j.mem, Wide: true}}, nil
		}
		done := make(chan error, 1)
		go func() { done <- pipeline.Run(t.Context(), job) }()
		select {
		case err := <-done:
			if !errors.Is(err, broken) {
				t.Fatalf("got %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the replay hangs")
		}
	}
}

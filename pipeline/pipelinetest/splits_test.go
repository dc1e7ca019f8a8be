package pipelinetest_test

import (
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// hourly is a plan of hours over two splits, of which the second is an hour ahead.
func hourly() plan {
	p := plan{schema: pipelinetest.RowSchema(), aggs: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}}}
	p.spec = pipelinetest.OracleSpec{Kind: "hopping", Size: 60 * minute, Slide: 60 * minute, Bound: 2 * minute,
		QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks}
	p.open = func(mem memory.Allocator, seed uint64) (pipelinetest.Window, error) {
		return operators.NewWindow(operators.WindowConfig{Shape: operators.TumblingShape(60*minute, 0), Trigger: operators.OnMark, LateRows: 1,
			Keys: []string{"key"}, Aggregates: p.aggs, Seed: seed}, p.schema, mem)
	}
	p.input = make([][]pipelinetest.Row, 2)
	for s := range p.input {
		for i := range int64(300) {
			at := int64(s)*60*minute + i*minute
			p.input[s] = append(p.input[s], pipelinetest.Row{Time: at - i%3*minute, Ingest: at, Key: string(rune('a' + i%7)), Value: i, Split: int32(s), Offset: i})
		}
	}
	return p
}

// TestSkewedSplits: two splits an hour apart, of which either is read first to its end, or
// in turn: no row within the bound is late, whichever way.
func TestSkewedSplits(t *testing.T) {
	for order := range 3 {
		p := hourly()
		for range 2 {
			m := runMachine(p, how{batch: 9, shards: 3, order: order, barrier: 40, direct: true}, uint64(order))
			if n := m.lateRows(); n != 0 || len(m.bad) > 0 {
				t.Errorf("order %d: %d late rows, %q", order, n, m.bad)
			}
			slices.Reverse(p.input) // the one behind comes last
			for s := range p.input {
				for i := range p.input[s] {
					p.input[s][i].Split = int32(s)
				}
			}
		}
	}
}

// TestDrainedNotPaused: a split that is not read for a while, because its consumer is
// paused or slow, holds the mark however far the others are. One that was read to its end
// while others went on lets it go, and its next rows are judged by what it gave away.
func TestDrainedNotPaused(t *testing.T) {
	for _, drained := range []bool{false, true} {
		checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
		p := hourly()
		keyer, err := pipeline.NewKeyer(p.schema, []string{"key"}, 0)
		must(err)
		var mark, passed int64
		f := pipeline.NewFront(pipeline.FrontConfig{Bound: 2 * minute, QuietAfter: 5 * minute, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer},
			func(_ int, m pipeline.Message) error {
				switch m.Kind {
				case pipeline.MarkMessage:
					mark = m.Mark.Event
				case pipeline.RowsMessage:
					passed = m.Batch.Passed
				}
				return nil
			})
		for s := range p.input {
			f.Announce(simSplit(s), pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks})
		}
		feed := func(rows []pipelinetest.Row) {
			rec := pipelinetest.Record(checked, rows)
			defer rec.Release()
			must(f.Rows(pipelinetest.NewWire(rows), &pipeline.Batch{Rec: rec, Split: rows[0].Split, Passed: pipeline.MinTicks}, 0))
		}
		feed(p.input[0][:10])
		feed(p.input[1][:200]) // more than three hours ahead
		held := p.input[0][9].Time - 2*minute - 1
		for i := range p.input[0][:10] {
			held = max(held, p.input[0][i].Time-2*minute-1)
		}
		ahead := f.Cut()[1].Mark.Event
		if mark != held {
			t.Fatalf("mark %d, want %d", mark, held)
		}
		if drained {
			must(f.LogEnd(simSplit(0), p.input[1][199].Ingest, false))
			if mark != ahead || len(f.Moves()) != 1 {
				t.Errorf("drained: mark %d, want %d; moves %v", mark, ahead, f.Moves())
			}
		}
		feed(p.input[0][10:12])
		switch {
		case drained && passed != ahead:
			t.Errorf("drained: the next rows are judged by %d, want %d", passed, ahead)
		case !drained && (passed != pipeline.MinTicks || mark >= ahead):
			t.Errorf("paused: the next rows are judged by %d, mark %d", passed, mark)
		}
		checked.AssertSize(t, 0)
	}
}

// TestRestoredShards: one state, restored by 1, 3 and 7 shards, gives the same rows.
func TestRestoredShards(t *testing.T) {
	input := hashInput()
	want, _ := oracleLines(input)
	for _, shards := range []int{1, 3, 7} {
		h := newHashRun(t, input, 300, 4, 0)
		h.then = shards
		if got := h.run(); hashOf(got) != hashOf(want) {
			t.Errorf("%d shards: %s", shards, firstDifference(got, want))
		}
	}
}

// TestIdleAfter: the wall clock leaves out a split that was at its log end for so long,
// nothing else: not one whose rows wait because a sink is slow, however often the clock
// ticks meanwhile. What it gave away is in the history and counted; the split's next rows
// are judged by it.
func TestIdleAfter(t *testing.T) {
	checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
	p := hourly()
	keyer, err := pipeline.NewKeyer(p.schema, []string{"key"}, 0)
	must(err)
	var mark, passed int64
	f := pipeline.NewFront(pipeline.FrontConfig{QuietAfter: pipeline.MaxTicks, IdleAfter: minute, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer},
		func(_ int, m pipeline.Message) error {
			switch m.Kind {
			case pipeline.MarkMessage:
				mark = m.Mark.Event
			case pipeline.RowsMessage:
				passed = m.Batch.Passed
			}
			return nil
		})
	feed := func(split int32, at, offset int64) {
		row := pipelinetest.Row{Time: at, Ingest: at, Key: "a", Split: split, Offset: offset}
		rec := pipelinetest.Record(checked, []pipelinetest.Row{row})
		defer rec.Release()
		w := &pipeline.Wire{Split: split, Offset: []int64{offset}, Ingest: []int64{at}, Next: pipeline.Position{Offset: offset + 1, LastIngest: at}}
		must(f.Rows(w, &pipeline.Batch{Rec: rec, Split: split, Passed: pipeline.MinTicks}, 0))
	}
	for s := range int32(2) {
		f.Announce(pipeline.Split{Topic: "t", Partition: s}, pipeline.Position{})
	}
	now := int64(1000) * minute
	must(f.Tick(now))
	feed(0, 10*minute, 0)
	feed(1, 50*minute, 0)
	for range 100 { // a sink is slow: no rows for more than an hour and a half
		now += minute
		must(f.Tick(now))
	}
	if mark != 10*minute-1 || f.TakeIdles() != 0 {
		t.Errorf("the mark is %d while rows wait, want %d", mark, 10*minute-1)
	}
	must(f.LogEnd(pipeline.Split{Topic: "t", Partition: 0}, pipeline.MinTicks, false))
	must(f.Tick(now + minute - 1))
	if mark != 10*minute-1 {
		t.Errorf("the mark is %d before the split was idle for long enough", mark)
	}
	if since := f.Since(); since != 1000*minute {
		t.Errorf("the mark stands since %d, want %d", since, 1000*minute)
	}
	must(f.Tick(now + minute))
	if mark != 50*minute-1 || f.Since() != now+minute {
		t.Errorf("the mark is %d since %d, want %d since %d", mark, f.Since(), 50*minute-1, now+minute)
	}
	if n := f.TakeIdles(); n != 1 {
		t.Errorf("%d idle timeouts, want 1", n)
	}
	want := pipeline.Move{Split: 0, From: 10*minute - 1, To: 50*minute - 1, Seen: pipeline.MinTicks}
	if moves := f.Moves(); len(moves) != 1 || moves[0] != want {
		t.Errorf("moves %+v, want %+v", moves, want)
	}
	feed(0, 20*minute, 1)
	if passed != 50*minute-1 {
		t.Errorf("the row that came back is judged by %d, want %d", passed, 50*minute-1)
	}
	checked.AssertSize(t, 0)
}

// TestFutureKept: with policy keep a row that is too far ahead of its broker timestamp is in
// its window, and moves no mark: nobody else's rows are late by it.
func TestFutureKept(t *testing.T) {
	p := hourly()
	p.spec.MaxAhead = 2 * minute
	for s := range p.input {
		p.input[s][40].Time += 24 * 60 * minute // one clock is a day ahead
	}
	m := runMachine(p, how{batch: 9, shards: 3, barrier: 40, direct: true}, 1)
	if n := m.lateRows(); n != 0 || len(m.bad) > 0 {
		t.Errorf("%d late rows, %q", n, m.bad)
	}
	p.spec.MaxAhead = pipeline.MaxTicks // and without the guard it makes nearly all of them late
	if n := runMachine(p, how{batch: 9, shards: 3, barrier: 40, direct: true}, 1).lateRows(); n < 400 {
		t.Errorf("without the guard %d rows are late: the test is blind", n)
	}
}

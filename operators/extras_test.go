package operators

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// sink counts what it is given.
type sink struct{ results int }

func (s *sink) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Out {
		s.results += b.NumRows()
	}
	return nil
}

func (s *sink) Count(pipeline.Fate, int32, int64) {}

// TestExtrasGivenBack: whatever windows and sessions do with their lists and sketches,
// those of rows that are gone have been given back, also after a restart.
func TestExtrasGivenBack(t *testing.T) {
	q := 0.5
	aggs := []Aggregate{{Fn: "distinct", Column: "s", As: "d"}, {Fn: "quantile", Column: "i", As: "q", Q: &q}, {Fn: "increase", Column: "i", As: "u"},
		{Fn: "collect", Column: "i", As: "c"}, {Fn: "distinct", Column: "i", As: "w", Where: "k > 2"}}
	window := WindowConfig{Shape: TumblingShape(20, 0), Lateness: 5, Trigger: OnMark, LateRows: 2, Keys: []string{"k"}, Aggregates: aggs}
	hopping := window
	hopping.Slide = 5
	retract := window
	retract.Retract, retract.SkipUnchanged, retract.EarlyRows = true, true, 2
	discard := window
	discard.Discard, discard.EarlyRows = true, 3
	session := SessionConfig{Gap: 4, Touch: TouchSplit, MaxLength: pipeline.MaxTicks, Lateness: 5, Trigger: OnMark, LateRows: 1, Keys: []string{"k"}, Aggregates: aggs}
	retracting := session
	retracting.Retract, retracting.EarlyRows = true, 2
	discarding := session
	discarding.Discard, discarding.EarlyRows = true, 2
	type operator interface {
		pipeline.Operator
		Snapshot(full bool, piece func(pipeline.Piece) error) error
		Restore(p pipeline.Piece, keep func(group uint8) bool) error
	}
	for name, cfg := range map[string]any{"window": window, "hopping": hopping, "retract": retract, "discard": discard,
		"session": session, "session retract": retracting, "session discard": discarding} {
		t.Run(name, func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			open := func() (operator, *extras) {
				var op operator
				var x *extras
				var err error
				switch cfg := cfg.(type) {
				case WindowConfig:
					var w *Window
					if w, err = NewWindow(cfg, modelSchema(), mem); err == nil {
						op, x = w, &w.extras
					}
				case SessionConfig:
					var w *Session
					if w, err = NewSession(cfg, modelSchema(), mem); err == nil {
						op, x = w, &w.extras
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				return op, x
			}
			keyer, err := pipeline.NewKeyer(modelSchema(), []string{"k"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 6))
			op, x := open()
			out := &sink{}
			for step := range int64(60) {
				rows := make([]modelRow, rng.IntN(8))
				for i := range rows {
					rows[i] = modelRow{at: 3*step - rng.Int64N(8), offset: step*10 + int64(i), k: rng.Int64N(4), v: rng.Int64N(1000)}
				}
				rec := modelRecord(mem, rows)
				behind := slices.Repeat([]int64{3*step - 6}, len(rows))
				err := op.Process(pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Behind: behind, Passed: pipeline.MinTicks}, out)
				rec.Release()
				if err == nil {
					err = op.Advance(pipeline.Mark{Event: 3*step - 3, Ingest: pipeline.MinTicks}, out)
				}
				if err != nil {
					t.Fatal(err)
				}
				if step%17 != 16 {
					continue
				}
				next, y := open()
				err = op.Snapshot(true, func(p pipeline.Piece) error { return GiveBack(next, p) })
				if err != nil {
					t.Fatal(err)
				}
				op, x = next, y
			}
			if err := op.Advance(pipeline.Mark{Event: pipeline.MaxTicks, Ingest: pipeline.MinTicks}, out); err != nil {
				t.Fatal(err)
			}
			if out.results == 0 || len(x.lists.all) == 0 || len(x.distincts.all) == 0 || len(x.quantiles.all) == 0 {
				t.Fatalf("%d results, %d lists, %d and %d sketches: the test shows nothing", out.results, len(x.lists.all), len(x.distincts.all), len(x.quantiles.all))
			}
			allGivenBack(t, x)
		})
	}
}

// TestFilterOncePerBatch: a filter is evaluated once for a batch, however many calls fold
// it and however many aggregates ask.
func TestFilterOncePerBatch(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	p, err := compile(modelSchema(), []Aggregate{{Fn: "count", As: "a", Where: "k > 0"}, {Fn: "sum", Column: "k", As: "b", Where: "k > 0"}})
	if err != nil {
		t.Fatal(err)
	}
	calls := &counting{condition: p.filters[0]}
	p.filters[0] = calls
	s, x := &store{width: p.width}, &extras{}
	id, _ := newTable(s, 0).find(1, []byte("a"))
	for batch := range 3 {
		rec := modelRecord(mem, []modelRow{{k: 0}, {k: 5}, {k: 7}})
		for r := range int32(3) {
			p.update(s, rec, []int32{r}, []uint32{id}, x)
		}
		rec.Release()
		if calls.n != batch+1 {
			t.Errorf("%d evaluations after %d batches", calls.n, batch+1)
		}
	}
	if got := fmt.Sprint(built(mem, p, s.row(id), x)); got != "[6 36]" {
		t.Errorf("got %s", got)
	}
}

type counting struct {
	condition
	n int
}

func (c *counting) eval(rec arrow.RecordBatch) []truth {
	c.n++
	return c.condition.eval(rec)
}

// GiveBack restores a piece of a snapshot as a whole; for the tests outside as well.
func GiveBack(op interface {
	Restore(p pipeline.Piece, keep func(uint8) bool) error
}, p pipeline.Piece) error {
	p = p.Made()
	defer p.Rec.Release()
	return op.Restore(p, func(uint8) bool { return true })
}

package operators_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestDedupeOracle compares random streams with the definition, for any batches, restarts
// and marks that lag behind the split's own: what passes is the first of its kind among
// the rows that are judged, and those that are too far behind to be.
func TestDedupeOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for n := range 150 {
		cfg := operators.DedupeConfig{Columns: []string{"key", "value"}, Within: rng.Int64N(12), Horizon: rng.Int64N(30)}
		if n%2 == 0 {
			cfg.Report = []string{"key"}
		}
		bound := rng.Int64N(10)
		var rows []pipelinetest.Row
		at := int64(-50)
		for i := range 300 {
			at += rng.Int64N(4)
			back := rng.Int64N(bound + 1)
			if rng.IntN(8) == 0 {
				back += rng.Int64N(50)
			}
			rows = append(rows, pipelinetest.Row{Time: at - back, Key: fmt.Sprint(rng.IntN(3)), Value: rng.Int64N(3), Offset: int64(i)})
		}
		// The definition, with the mark just before each row.
		marks := make([]int64, len(rows))
		mark := pipeline.MinTicks
		var want []int64
		type kept struct {
			key   string
			value int64
			time  int64
		}
		var seen []kept
		for i, r := range rows {
			marks[i] = mark
			mark = max(mark, r.Time-bound-1)
			if r.Time+cfg.Horizon <= marks[i] {
				want = append(want, r.Offset)
				continue
			}
			if slices.ContainsFunc(seen, func(k kept) bool {
				return k.key == r.Key && k.value == r.Value && max(k.time, r.Time)-min(k.time, r.Time) <= cfg.Within
			}) {
				continue
			}
			seen = append(seen, kept{r.Key, r.Value, r.Time})
			want = append(want, r.Offset)
		}
		for _, lag := range []int64{0, 25} { // the merged mark may be far behind
			got, duplicates := runDedupe(t, cfg, rows, marks, lag, 1+rng.IntN(20), n%3 == 0)
			if !slices.Equal(got, want) || duplicates != int64(len(rows)-len(want)) {
				t.Fatalf("case %d, lag %d: passed %v (%d duplicates), want %v", n, lag, got, duplicates, want)
			}
		}
	}
}

func runDedupe(t *testing.T, cfg operators.DedupeConfig, rows []pipelinetest.Row, marks []int64, lag int64, batch int, restore bool) (passed []int64, duplicates int64) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	d, err := operators.NewDedupe(cfg, pipelinetest.RowSchema(), mem)
	if err != nil {
		t.Fatal(err)
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), []string{"key"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < len(rows); from += batch {
		to := min(from+batch, len(rows))
		rec := pipelinetest.Record(mem, rows[from:to])
		var out kept
		if err := d.Process(pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Behind: marks[from:to], Passed: pipeline.MinTicks}, &out); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		for _, r := range out.rows {
			passed = append(passed, rows[from+int(r)].Offset)
		}
		duplicates += out.duplicates
		if cfg.Report == nil && out.reported != nil || cfg.Report != nil && !slices.Equal(out.reported, dropped(rows[from:to], out.rows)) {
			t.Fatalf("reported %v of %v, passed %v", out.reported, rows[from:to], out.rows)
		}
		if restore {
			next, err := operators.NewDedupe(cfg, pipelinetest.RowSchema(), mem)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Snapshot(true, func(p pipeline.Piece) error { return operators.GiveBack(next, p) }); err != nil {
				t.Fatal(err)
			}
			d = next
		}
		if err := d.Advance(pipeline.Mark{Event: pipeline.SubTicks(marks[to-1], lag)}, &out); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Advance(pipeline.Mark{Event: pipeline.MaxTicks}, &kept{}); err != nil {
		t.Fatal(err)
	}
	if d.Remembered() != 0 {
		t.Errorf("%d rows are remembered after the last mark", d.Remembered())
	}
	return passed, duplicates
}

// dropped are the offsets of the rows that did not pass.
func dropped(rows []pipelinetest.Row, passed []int32) (out []int64) {
	for i, r := range rows {
		if !slices.Contains(passed, int32(i)) {
			out = append(out, r.Offset)
		}
	}
	return out
}

func TestDedupeMistakes(t *testing.T) {
	for want, cfg := range map[string]operators.DedupeConfig{
		"columns: name those in which duplicates agree": {},
		"within -1µs: must not be negative":             {Columns: []string{"key"}, Within: -1},
		"horizon -1µs: must not be negative":            {Columns: []string{"key"}, Horizon: -1},
		`key column "x" is not a column of the rows`:    {Columns: []string{"x"}},
	} {
		if _, err := operators.NewDedupe(cfg, pipelinetest.RowSchema(), memory.DefaultAllocator); fmt.Sprint(err) != want {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
}

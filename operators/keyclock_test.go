package operators_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestKeyClockModel: final rows, late rows and missed windows are those of the definition
// of the key clock, whatever the batches, shards, restarts and interleaving.
func TestKeyClockModel(t *testing.T) {
	shapes := map[string]operators.Shape{
		"tumbling": operators.TumblingShape(10, 0),
		"hopping":  {Kind: operators.Hopping, Size: 10, Slide: 4, Offset: 1},
		"stacked":  {Kind: operators.Hopping, Size: 40, Slide: 2},
	}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		for _, trigger := range []operators.Trigger{operators.OnMark, operators.OnClose, operators.OnUpdate} {
			t.Run(name+"/"+string(trigger), func(t *testing.T) {
				for seed := range uint64(2) {
					cfg := ingestConfig()
					cfg.Trigger, cfg.EmitDelay, cfg.MaxAge = trigger, 0, 0
					cfg.Shape, cfg.Lateness = shapes[name], int64(seed%3)*7
					cfg.Clock = &operators.KeyClock{Bound: 5, MaxOffline: 150, MaxAhead: 1000}
					keyClockModel(t, cfg, seed)
				}
			})
		}
	}
}

func keyClockModel(t *testing.T, cfg operators.WindowConfig, seed uint64) {
	const splits, rows, bound = 2, 400, 5
	rng := rand.New(rand.NewPCG(seed, 17))
	input := make([][]pipelinetest.Row, splits)
	want := map[string][2]int64{}
	var wantLate []string
	var missed int64
	for s := range input {
		mark := pipeline.MinTicks
		newest := map[string]int64{}
		var clock int64 = -300
		type device struct{ until, held int64 } // offline until; its own time meanwhile
		offline := map[string]*device{}
		for i := range rows {
			clock += rng.Int64N(4)
			key := fmt.Sprintf("s%d-%d", s, rng.IntN(6))
			at := clock - rng.Int64N(bound+1)
			d := offline[key]
			switch {
			case d == nil && rng.IntN(30) == 0:
				offline[key] = &device{clock + 20 + rng.Int64N(180), clock}
			case d != nil && clock > d.until: // it delivers what it held, in order
				d.held += rng.Int64N(12)
				if at = d.held; at > clock {
					at = clock
					delete(offline, key)
				}
			case rng.IntN(25) == 0:
				at -= rng.Int64N(250)
			}
			r := pipelinetest.Row{Time: at, Ingest: clock, Key: key, Value: rng.Int64N(100)}
			input[s] = append(input[s], r)
			// the definition
			own := mark
			last, heard := newest[key]
			v := own
			if own != pipeline.MinTicks {
				v = own - cfg.Clock.MaxOffline
				if heard {
					v = max(v, last-cfg.Clock.Bound-1)
				}
				v = min(own, v)
			}
			taken := 0
			for _, b := range cfg.Windows(nil, cfg.Span(at)) {
				if b.End-1+cfg.Lateness <= v {
					missed++
					continue
				}
				taken++
				k := fmt.Sprintf("%s [%d,%d)", key, b.Start, b.End)
				want[k] = [2]int64{want[k][0] + 1, want[k][1] + r.Value}
			}
			if taken == 0 {
				wantLate = append(wantLate, fmt.Sprintf("%d/%d at %d: late", s, i, at))
			}
			mark = max(mark, at-bound-1)
			if !heard || at > last {
				newest[key] = at
			}
		}
	}
	slices.Sort(wantLate)
	for try := range 2 {
		r := newJobRun(t, cfg, 1+try, splits)
		r.bound = bound
		r.build(1 + try)
		for s := range splits {
			r.front.Announce(pipeline.Split{Topic: "t", Partition: int32(s)}, pipeline.Position{})
		}
		next := make([]int, splits)
		for left := splits; left > 0; {
			s := rng.IntN(splits)
			if next[s] == rows {
				continue
			}
			n := min(1+rng.IntN(30), rows-next[s])
			r.feed(int32(s), input[s][next[s]:next[s]+n])
			if next[s] += n; next[s] == rows {
				left--
			}
			if rng.IntN(10) == 0 {
				r.restart(1 + rng.IntN(4))
			}
		}
		for s := range splits {
			r.must(r.front.End(pipeline.Split{Topic: "t", Partition: int32(s)}))
		}
		if n := r.open(); n != 0 {
			t.Errorf("seed %d: %d windows are open after the end", seed, n)
		}
		for _, w := range r.ops {
			r.missed += w.Missed()
		}
		r.done()
		for at, v := range want {
			if line := fmt.Sprintf("count=%d sum=%d", v[0], v[1]); r.final[at] != line {
				t.Errorf("seed %d try %d: %s: got %s, want %s", seed, try, at, r.final[at], line)
			}
		}
		slices.Sort(r.late)
		if len(r.final) != len(want) || !slices.Equal(r.late, wantLate) || r.missed != missed {
			t.Errorf("seed %d try %d: %d windows, %d late rows, %d missed; want %d, %d, %d", seed, try, len(r.final), len(r.late), r.missed, len(want), len(wantLate), missed)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if len(wantLate) == 0 {
		t.Errorf("seed %d: no late row: it proves little", seed)
	}
}

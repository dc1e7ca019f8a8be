package pipelinetest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const (
	minute  = 60_000_000
	dayLong = 24 * 60 * minute
)

// fleet is devices that report every five minutes while they are awake, sixteen hours a
// day. Every day 2 % of them go for ever and others come in their place.
type fleet struct {
	rng     *rand.Rand
	ids     []int
	born    int // ids given so far
	offsets []int64
	name    string // of a device, by its id
}

func (f *fleet) replace() {
	for range max(1, len(f.ids)/50) {
		f.ids[f.rng.IntN(len(f.ids))] = f.born
		f.born++
	}
}

// rows makes the rows of five minutes, one list per split: in disorder within a minute, one
// in a hundred twice, one in a hundred an hour late.
func (f *fleet) rows(at int64) [][]pipelinetest.Row {
	out := make([][]pipelinetest.Row, len(f.offsets))
	for _, id := range f.ids {
		asleep := int64(id%24) * 60 * minute
		if hour := (at%dayLong - asleep + dayLong) % dayLong; hour < 8*60*minute {
			continue
		}
		s := id % len(out)
		r := pipelinetest.Row{Time: at + f.rng.Int64N(minute), Ingest: at + 2*minute, Key: fmt.Sprintf(f.name, id), Value: f.rng.Int64N(1000), Split: int32(s)}
		if f.rng.IntN(100) == 0 {
			r.Time -= 60 * minute
		}
		for n := 0; n == 0 || n == 1 && f.rng.IntN(100) == 0; n++ {
			r.Offset = f.offsets[s]
			f.offsets[s]++
			out[s] = append(out[s], r)
		}
	}
	return out
}

// TestMonth runs thirty days of a fleet through every stateful operator: the state, and the
// heap, are as large at the end as they were in the first week, and a maximal mark leaves
// nothing. Without TIDEMARK_NIGHTLY it is nine days of a smaller fleet.
func TestMonth(t *testing.T) {
	days, devices := int(nightly(9, 30)), int(nightly(150, 1000))
	aggs := []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}, {Fn: "last", Column: "value", As: "last"}}
	window := func(slide int64) func(memory.Allocator) ([]pipeline.Operator, error) {
		return func(mem memory.Allocator) ([]pipeline.Operator, error) {
			w, err := operators.NewWindow(operators.WindowConfig{Shape: operators.Shape{Kind: operators.Hopping, Size: 60 * minute, Slide: slide},
				Lateness: 30 * minute, Trigger: operators.OnMark, LateRows: 1, Keys: []string{"key"}, Aggregates: aggs}, pipelinetest.RowSchema(), mem)
			return []pipeline.Operator{w}, err
		}
	}
	for _, job := range []struct {
		name  string
		chain func(memory.Allocator) ([]pipeline.Operator, error)
	}{
		{"tumbling", window(60 * minute)},
		{"hopping", window(15 * minute)},
		{"session", func(mem memory.Allocator) ([]pipeline.Operator, error) {
			w, err := operators.NewSession(operators.SessionConfig{Gap: 20 * minute, Touch: operators.TouchSplit, Lateness: 30 * minute, MaxLength: pipeline.MaxTicks,
				Trigger: operators.OnMark, LateRows: 1, Keys: []string{"key"}, Aggregates: append(slices.Clone(aggs), operators.Aggregate{Fn: "collect", Column: "value", As: "all"})}, pipelinetest.RowSchema(), mem)
			return []pipeline.Operator{w}, err
		}},
		{"dedupe", func(mem memory.Allocator) ([]pipeline.Operator, error) {
			d, err := operators.NewDedupe(operators.DedupeConfig{Columns: []string{"key", "value"}, Within: 10 * minute, Horizon: 90 * minute}, pipelinetest.RowSchema(), mem)
			return []pipeline.Operator{d}, err
		}},
	} {
		t.Run(job.name, func(t *testing.T) {
			checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
			var mem memory.Allocator = checked
			if os.Getenv("TIDEMARK_NIGHTLY") != "" {
				mem = memory.NewGoAllocator() // a tracked allocation costs more than a row
			}
			m := &month{t: t, mem: mem, f: fleet{rng: rand.New(rand.NewPCG(3, 3)), offsets: make([]int64, 3)}}
			// Sessions copy the long keys in use when 64 kB are not: in a small fleet that is a
			// step every few days, which a few days would take for a slope.
			m.f.name = "device-%06d"
			if days > 20 {
				m.f.name = "device-%06d-with-a-long-name"
			}
			for range devices {
				m.f.ids = append(m.f.ids, m.f.born)
				m.f.born++
			}
			m.open(job.chain)
			var state, heap []float64
			for range days {
				m.day()
				most := slices.Max(m.bytes)
				m.bytes = nil
				state = append(state, float64(most))
				heap = append(heap, liveHeap())
			}
			for s := range m.f.offsets {
				must(m.front.End(simSplit(s)))
			}
			if n := m.task.Open(); n != 0 {
				t.Errorf("%d windows are open after the maximal mark", n)
			}
			must(m.task.Snapshot(true, func(_ int, p pipeline.Piece) error {
				p = p.Made()
				defer p.Rec.Release()
				if p.ID != "mark" && p.Rec.NumRows() > 0 {
					t.Errorf("piece %s has %d rows after the maximal mark", p.ID, p.Rec.NumRows())
				}
				return nil
			}))
			if m.emitted == 0 && job.name != "dedupe" {
				t.Error("no results: it proves nothing")
			}
			checked.AssertSize(t, 0)
			rise, heapRise := slope(state[2:]), slope(heap[2:])
			t.Logf("%d days, %d ids: state %.0f kB (%+.2f %% a day), heap %.0f kB (%+.2f %% a day)", days, m.f.born, state[len(state)-1]/1000, 100*rise,
				heap[len(heap)-1]/1000, 100*heapRise)
			if rise > 0.005 {
				t.Errorf("the state grows by %.2f %% a day: %.0f", 100*rise, state)
			}
			if heapRise > 0.005 && days > 20 { // a short run has too few points against the noise
				t.Errorf("the heap grows by %.2f %% a day: %.0f", 100*heapRise, heap)
			}
		})
	}
}

type month struct {
	t       *testing.T
	mem     memory.Allocator
	f       fleet
	front   *pipeline.Front
	task    *pipeline.Task
	now     int64
	emitted int
	bytes   []int64
}

func (m *month) open(chain func(memory.Allocator) ([]pipeline.Operator, error)) {
	ops, err := chain(m.mem)
	must(err)
	m.task = pipeline.NewTask(ops, func(_ pipeline.Port, b pipeline.Batch) error {
		m.emitted += b.NumRows()
		return nil
	})
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), []string{"key"}, 0)
	must(err)
	m.front = pipeline.NewFront(pipeline.FrontConfig{Bound: 2 * minute, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer},
		func(_ int, msg pipeline.Message) error { return m.task.Step(msg) })
	for s := range m.f.offsets {
		m.front.Announce(simSplit(s), pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks})
	}
}

// day feeds a day and notes the state every hour.
func (m *month) day() {
	m.f.replace()
	for part := range int64(dayLong / (5 * minute)) {
		for s, rows := range m.f.rows(m.now) {
			if len(rows) == 0 {
				continue
			}
			w := &pipeline.Wire{Split: int32(s), Next: pipeline.Position{Offset: m.f.offsets[s]}}
			for _, r := range rows {
				w.Offset, w.Ingest = append(w.Offset, r.Offset), append(w.Ingest, r.Ingest)
			}
			rec := pipelinetest.Record(m.mem, rows)
			err := m.front.Rows(w, &pipeline.Batch{Rec: rec, Split: int32(s), Passed: pipeline.MinTicks}, 0)
			rec.Release()
			must(err)
		}
		must(m.front.Tick(m.now))
		if part%12 == 0 {
			m.bytes = append(m.bytes, m.task.Bytes())
		}
		m.now += 5 * minute
	}
}

// liveHeap is what the collector leaves.
func liveHeap() float64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}

// slope is the median of the slopes between all pairs of days, over the median.
func slope(v []float64) float64 {
	var all []float64
	for i := range v {
		for k := range i {
			all = append(all, (v[i]-v[k])/float64(i-k))
		}
	}
	slices.Sort(all)
	sorted := slices.Sorted(slices.Values(v))
	return all[len(all)/2] / sorted[len(sorted)/2]
}

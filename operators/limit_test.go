package operators_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

func limited(trigger operators.Trigger, shape operators.Shape, limit operators.Limit) operators.WindowConfig {
	cfg := ingestConfig()
	cfg.Shape, cfg.Trigger, cfg.Lateness, cfg.Limit = shape, trigger, 500, limit
	if trigger != operators.OnIngest {
		cfg.EmitDelay, cfg.MaxAge = 0, 0
	} else {
		cfg.Lateness = 0
	}
	return cfg
}

// flood gives every row a key of its own in windows that stay open for long.
func flood(r *jobRun, rows int) error {
	r.measured = true
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < rows; i += 50 {
		var part []pipelinetest.Row
		for k := range 50 {
			at := int64(i+k) / 4
			part = append(part, pipelinetest.Row{Time: at - rng.Int64N(100), Ingest: at, Key: fmt.Sprint("k", i+k), Value: 1})
		}
		if err := r.tryFeed(0, part); err != nil {
			return err
		}
		if i%1000 == 0 {
			r.restart(1 + i/1000%2)
		}
	}
	return nil
}

// TestLimitShed: above the limit the oldest windows go, with their results; every row is in
// a result or among the late rows.
func TestLimitShed(t *testing.T) {
	for _, trigger := range []operators.Trigger{operators.OnMark, operators.OnClose, operators.OnUpdate, operators.OnIngest} {
		for _, shape := range []operators.Shape{operators.TumblingShape(10, 0), {Kind: operators.Hopping, Size: 40, Slide: 2}} {
			if trigger == operators.OnUpdate && shape.Overlap() > 1 {
				continue // every row comes out of 20 windows: slow, and nothing else
			}
			t.Run(fmt.Sprint(trigger, shape.Overlap()), func(t *testing.T) {
				const rows, limit = 6000, 60_000
				r := newJobRun(t, limited(trigger, shape, operators.Limit{Bytes: limit, Policy: operators.LimitShed}), 1, 1)
				if err := flood(r, rows); err != nil {
					t.Fatal(err)
				}
				free := newJobRun(t, limited(trigger, shape, operators.Limit{}), 1, 1)
				if err := flood(free, rows); err != nil {
					t.Fatal(err)
				}
				if with, without := r.bytes(), free.bytes(); with > without/2 {
					t.Errorf("%d bytes are held with the limit, %d without", with, without)
				}
				free.mem.AssertSize(t, 0)
				r.must(r.front.End(pipeline.Split{Topic: "t", Partition: 0}))
				shed := 0
				for _, l := range r.late {
					if strings.HasSuffix(l, ": shed") {
						shed++
					}
				}
				keys := map[string]bool{} // each row has its own
				for at := range r.final {
					keys[strings.Fields(at)[0]] = true
				}
				for at := range r.deltas {
					keys[strings.Fields(at)[0]] = true
				}
				if len(keys)+len(r.late) != rows || shed == 0 {
					t.Errorf("%d rows in results and %d late (%d of them shed) of %d", len(keys), len(r.late), shed, rows)
				}
				if n := r.open(); n != 0 {
					t.Errorf("%d windows are open after the end", n)
				}
				r.done()
			})
		}
	}
}

// TestLimitSessions: sessions shed as windows do.
func TestLimitSessions(t *testing.T) {
	for _, trigger := range []operators.Trigger{operators.OnMark, operators.OnClose} {
		const rows, limit = 6000, 25_000
		var got, late, shed, peak int
		drive := func(l operators.Limit) error {
			got, late, shed, peak = 0, 0, 0, 0
			checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
			cfg := operators.SessionConfig{Gap: 10, Touch: operators.TouchSplit, MaxLength: pipeline.MaxTicks, Lateness: 500, Trigger: trigger, Limit: l, Keys: []string{"key"},
				Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}}}
			op, err := operators.NewSession(cfg, pipelinetest.RowSchema(), checked)
			if err != nil {
				return err
			}
			task := pipeline.NewTask([]pipeline.Operator{op}, func(p pipeline.Port, b pipeline.Batch) error {
				for i := range b.NumRows() {
					if p == pipeline.Out {
						got++ // a key has one row
						continue
					}
					late++
					if b.Rec.Column(b.Rec.Schema().FieldIndices("reason")[0]).ValueStr(i) == "shed" {
						shed++
					}
				}
				return nil
			})
			keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), cfg.Keys, 0)
			if err != nil {
				return err
			}
			front := pipeline.NewFront(pipeline.FrontConfig{QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer},
				func(_ int, m pipeline.Message) error { return task.Step(m) })
			split := pipeline.Split{Topic: "t"}
			front.Announce(split, pipeline.Position{})
			rng := rand.New(rand.NewPCG(1, 1))
			for i := 0; i < rows; i += 50 {
				w := &pipeline.Wire{}
				var part []pipelinetest.Row
				for k := i; k < i+50; k++ {
					at := int64(k) / 4
					part = append(part, pipelinetest.Row{Time: at - rng.Int64N(100), Ingest: at, Key: fmt.Sprint("k", k), Offset: int64(k)})
					w.Offset, w.Ingest = append(w.Offset, int64(k)), append(w.Ingest, at)
				}
				rec := pipelinetest.Record(checked, part)
				err := front.Rows(w, &pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}, 0)
				rec.Release()
				if err != nil {
					return err
				}
				peak = max(peak, op.Open())
			}
			if err := front.End(split); err != nil {
				return err
			}
			checked.AssertSize(t, 0)
			return nil
		}
		if err := drive(operators.Limit{}); err != nil {
			t.Fatal(err)
		}
		free := peak
		if err := drive(operators.Limit{Bytes: limit, Policy: operators.LimitShed}); err != nil {
			t.Fatal(err)
		}
		// With on_mark a session emits again when the mark gets to its end, unless it was shed.
		if got+late != rows && trigger == operators.OnClose || got+late < rows || shed == 0 || peak > free/2 {
			t.Errorf("%s: %d results and %d late rows (%d shed) of %d, at most %d sessions open, %d without the limit", trigger, got, late, shed, rows, peak, free)
		}
		if err := drive(operators.Limit{Bytes: limit, Policy: operators.LimitStop}); !errors.Is(err, operators.ErrLimit) {
			t.Errorf("got %v, want %v", err, operators.ErrLimit)
		}
		if err := drive(operators.Limit{KeyWindows: 1, Policy: operators.LimitStop}); err != nil {
			t.Errorf("a session each: %v", err)
		}
	}
}

func TestLimitStop(t *testing.T) {
	r := newJobRun(t, limited(operators.OnMark, operators.TumblingShape(10, 0), operators.Limit{Bytes: 200_000, Policy: operators.LimitStop}), 1, 1)
	if err := flood(r, 6000); !errors.Is(err, operators.ErrLimit) {
		t.Errorf("got %v, want %v", err, operators.ErrLimit)
	}
	r.mem.AssertSize(t, 0)
}

// TestLimitKey: a key that has its windows gets no more until one is freed; others do.
func TestLimitKey(t *testing.T) {
	for _, policy := range []operators.LimitPolicy{operators.LimitShed, operators.LimitStop} {
		r := newJobRun(t, limited(operators.OnMark, operators.TumblingShape(10, 0), operators.Limit{KeyWindows: 3, Policy: policy}), 1, 1)
		err := r.tryFeed(0, []pipelinetest.Row{{Time: 5, Key: "a"}, {Time: 15, Key: "a"}, {Time: 25, Key: "a"}, {Time: 26, Key: "a"}, {Time: 35, Key: "a"}, {Time: 35, Key: "b"}, {Time: 7, Key: "a"}})
		if policy == operators.LimitStop {
			if !errors.Is(err, operators.ErrLimit) {
				t.Errorf("got %v, want %v", err, operators.ErrLimit)
			}
			continue
		}
		r.must(err)
		r.feed(0, []pipelinetest.Row{{Time: 1000, Key: "b"}})
		r.feed(0, []pipelinetest.Row{{Time: 1001, Key: "a"}})
		if want := "[0/4 at 35: shed]"; fmt.Sprint(r.late) != want {
			t.Errorf("late %v, want %s", r.late, want)
		}
		r.must(r.front.End(pipeline.Split{Topic: "t", Partition: 0}))
		if len(r.final) != 6 {
			t.Errorf("results %v", r.final)
		}
		r.done()
	}
}

// TestReslice: a job goes on with a slide that is a multiple of the old one, and every
// window of the new ones is as if it had always been there. Other changes are refused.
func TestReslice(t *testing.T) {
	for _, trigger := range []operators.Trigger{operators.OnMark, operators.OnClose, operators.OnUpdate} {
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(seed, 4))
			shape := operators.Shape{Kind: operators.Hopping, Size: 60, Slide: 5, Offset: 2}
			if seed%2 == 1 {
				shape = operators.Shape{Kind: operators.Hopping, Size: 50, Slide: 2}
			}
			cfg := limited(trigger, shape, operators.Limit{})
			cfg.Lateness = 10
			r := newJobRun(t, cfg, 2, 1)
			want := map[string][2]int64{}
			mark := pipeline.MinTicks
			coarse := cfg.Shape
			coarse.Slide *= 2
			for i := range 300 {
				row := pipelinetest.Row{Time: int64(i) - rng.Int64N(30), Ingest: int64(i), Key: fmt.Sprint("k", rng.IntN(5)), Value: rng.Int64N(100)}
				for _, b := range coarse.Windows(nil, coarse.Span(row.Time)) {
					if b.End-1+cfg.Lateness > mark {
						at := fmt.Sprintf("%s [%d,%d)", row.Key, b.Start, b.End)
						want[at] = [2]int64{want[at][0] + 1, want[at][1] + row.Value}
					}
				}
				mark = max(mark, row.Time-1)
				r.feed(0, []pipelinetest.Row{row})
				if i == 150 {
					r.cfg.Shape = coarse
					r.changed = true // other windows are open
					r.restart(3)
				}
			}
			r.must(r.front.End(pipeline.Split{Topic: "t", Partition: 0}))
			for at, v := range want {
				if line := fmt.Sprintf("count=%d sum=%d", v[0], v[1]); r.final[at] != line {
					t.Errorf("%s seed %d: %s: got %s, want %s", trigger, seed, at, r.final[at], line)
				}
			}
			r.done()
		}
	}
}

func TestResliceRefused(t *testing.T) {
	old := operators.Shape{Kind: operators.Hopping, Size: 60, Slide: 10}
	for name, shape := range map[string]operators.Shape{
		"finer":    {Kind: operators.Hopping, Size: 60, Slide: 5},
		"askew":    {Kind: operators.Hopping, Size: 60, Slide: 15},
		"moved":    {Kind: operators.Hopping, Size: 60, Slide: 10, Offset: 3},
		"longer":   {Kind: operators.Hopping, Size: 120, Slide: 10},
		"cumulate": {Kind: operators.Cumulate, Size: 60, Slide: 10},
	} {
		t.Run(name, func(t *testing.T) {
			checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
			open := func(s operators.Shape) *operators.Window {
				w, err := operators.NewWindow(limited(operators.OnMark, s, operators.Limit{}), pipelinetest.RowSchema(), checked)
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			w := open(shape)
			err := open(old).Snapshot(true, func(p pipeline.Piece) error {
				return operators.GiveBack(w, p)
			})
			if err == nil || !strings.Contains(err.Error(), "multiple of the old slide") {
				t.Errorf("got %v", err)
			}
			checked.AssertSize(t, 0)
		})
	}
}

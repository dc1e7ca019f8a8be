package parquet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// publishOf writes one epoch of a lineage into a table.
func publishOf(t *testing.T, store pipeline.Store, cfg Config, lineage uint16, n int64, rows []reading) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s, err := New(cfg, store, readingSchema)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: cfg.Job, Lineage: lineage, N: n})
	if err != nil {
		t.Fatal(err)
	}
	rec := readingBatch(mem, rows)
	defer rec.Release()
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	receipt, err := st.Prepare(t.Context(), pipeline.Mark{Event: 0})
	if err == nil {
		err = s.Publish(t.Context(), receipt)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// counting says which files count: lineage and hour of each.
func counting(ctx context.Context, store pipeline.Store, cfg Config, from, to int64) (string, error) {
	ranges, err := Decided(ctx, store, cfg)
	if err != nil {
		return "", err
	}
	files, err := CountingFiles(ctx, store, cfg, ranges, from, to)
	var out []string
	for _, f := range files {
		_, hour, _ := strings.Cut(f.Name, "/hour=")
		out = append(out, fmt.Sprintf("%d:%s", f.Lineage, hour[:2]))
	}
	slices.Sort(out)
	return strings.Join(out, " "), err
}

// switchedTable is a table with three hours and rows without a time, and a replay of the last two.
func switchedTable(t *testing.T) (pipeline.Store, Config, Range) {
	t.Helper()
	store, cfg := pipelinetest.NewMemStore(), testConfig()
	publishOf(t, store, cfg, 1, 1, readings(1, 40))
	replay := cfg
	replay.Table = cfg.Table + "_replays/32768"
	in := slices.DeleteFunc(readings(1, 60), func(r reading) bool { return r.Time == nil || *r.Time < baseUS+hourUS })
	publishOf(t, store, replay, 32768, 1, in)
	return store, cfg, Range{From: baseUS + hourUS, To: baseUS + 3*hourUS, Lineage: 32768, Table: replay.Table, Since: time.Unix(1, 0).UTC()}
}

// TestRanges: which files count after decisions, by time; the newest decision counts, and what
// it covers is forgotten.
func TestRanges(t *testing.T) {
	ctx := t.Context()
	store, cfg, r := switchedTable(t)
	all := func(want string) {
		t.Helper()
		if got, err := counting(ctx, store, cfg, pipeline.MinTicks, pipeline.MaxTicks); got != want || err != nil {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	all("0:05 0:06 0:07 0:__")
	if err := Decide(ctx, store, cfg, r); err != nil {
		t.Fatal(err)
	}
	all("0:05 0:__ 32768:06 32768:07")
	if got, err := counting(ctx, store, cfg, baseUS, baseUS+hourUS+1); got != "0:05 32768:06" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	files, err := CountingFiles(ctx, store, cfg, nil, pipeline.MinTicks, pipeline.MaxTicks)
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := CountRows(ctx, store, files); rows != 40 || err != nil {
		t.Errorf("%d of 40 rows, %v", rows, err)
	}
	// Files of others, and of a job whose name begins like this one's.
	for _, name := range []string{"part-0.parquet", "part-" + segment(cfg.Job) + "-2-1-1-0.parquet", "part-" + segment(cfg.Job) + "-1-1-0.txt"} {
		if err := store.Put(ctx, cfg.root()+"/dt=2026-11-22/hour=05/"+name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	all("0:05 0:__ 32768:06 32768:07")
	if got, err := counting(ctx, store, cfg, baseUS-500*24*hourUS, baseUS+hourUS); got != "0:05" || err != nil {
		t.Errorf("of more days than are listed one by one: %s, %v", got, err)
	}
	other := cfg
	other.Job = "another"
	if ranges, err := Decided(ctx, store, other); err != nil || len(ranges) != 0 {
		t.Errorf("another job: %v, %v", ranges, err)
	}
	if err := Decide(ctx, store, cfg, Range{From: baseUS + 2*hourUS, To: baseUS + 9*hourUS}); err != nil {
		t.Fatal(err)
	}
	all("0:05 0:07 0:__ 32768:06")
	if err := Decide(ctx, store, cfg, r); err != nil {
		t.Fatal(err)
	}
	all("0:05 0:__ 32768:06 32768:07")
	if err := Decide(ctx, store, cfg, Range{From: baseUS, To: baseUS + 24*hourUS}); err != nil {
		t.Fatal(err)
	}
	all("0:05 0:06 0:07 0:__")
	if ranges, err := Decided(ctx, store, cfg); err != nil || len(ranges) != 1 {
		t.Errorf("%v, %v", ranges, err)
	}
}

// TestRangesRefused: what cannot be switched, and objects that are not as they were written.
func TestRangesRefused(t *testing.T) {
	ctx := t.Context()
	store, cfg, r := switchedTable(t)
	refuse := func(want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	cut := r
	cut.From, cut.To = r.From+1, r.To+1
	refuse("is not of whole ones: replay 2026-11-22T06:00:00Z to 2026-11-22T09:00:00Z", Decide(ctx, store, cfg, cut))
	days := cfg
	days.PartitionBy = pipeline.PartitionDay
	refuse("its files are by day, and 2026-11-22T06:00:00Z to 2026-11-22T08:00:00Z is not of whole ones: replay 2026-11-22T00:00:00Z to 2026-11-23T00:00:00Z", Decide(ctx, store, days, r))
	none := cfg
	none.PartitionBy = pipeline.PartitionNone
	refuse("set partition_by", Decide(ctx, store, none, r))
	_, err := counting(ctx, store, none, r.From, r.To)
	refuse("leave the range out", err)
	lake := cfg
	lake.Layout = LayoutLake
	refuse("cannot be switched", Decide(ctx, store, lake, r))

	if err := Decide(ctx, store, cfg, r); err != nil {
		t.Fatal(err)
	}
	publishOf(t, store, days, 1, 2, readings(2, 3))
	_, err = counting(ctx, store, cfg, pipeline.MinTicks, pipeline.MaxTicks)
	refuse("its partition is cut by the decision", err)
	for text, want := range map[string]string{"{": "it was changed", `{"format": 2}`: "has format 2, this version reads 1"} {
		if err := store.Put(ctx, cfg.rangesName(7), []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, err := Decided(ctx, store, cfg)
		refuse(want, err)
	}
}

// TestRangesReaders: ten readers see the files of the job or those of the replay and never some
// of each, while decisions are made by two writers at once, none of which is lost. That they
// would notice is shown by a switch in two steps.
func TestRangesReaders(t *testing.T) {
	ctx := t.Context()
	store, cfg, r := switchedTable(t)
	watch := func(do func(saw func(state string))) map[string]bool {
		var wg sync.WaitGroup
		var stopped atomic.Bool
		var mu sync.Mutex
		seen := map[string]bool{}
		for range 10 {
			wg.Go(func() {
				for !stopped.Load() {
					got, err := counting(ctx, store, cfg, pipeline.MinTicks, pipeline.MaxTicks)
					if err != nil {
						got = err.Error()
					}
					mu.Lock()
					seen[got] = true
					mu.Unlock()
				}
			})
		}
		saw := func(state string) {
			for began := time.Now(); ; time.Sleep(time.Millisecond) {
				mu.Lock()
				ok := seen[state]
				mu.Unlock()
				if ok {
					return
				}
				if time.Since(began) > 20*time.Second {
					t.Errorf("no reader saw %s", state)
					return
				}
			}
		}
		saw("0:05 0:06 0:07 0:__")
		do(saw)
		saw("0:05 0:__ 32768:06 32768:07")
		stopped.Store(true)
		wg.Wait()
		return seen
	}
	back := Range{From: r.From, To: r.To}
	seen := watch(func(func(string)) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 50 {
					if err := errors.Join(Decide(ctx, store, cfg, r), Decide(ctx, store, cfg, back)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := Decide(ctx, store, cfg, r); err != nil {
			t.Error(err)
		}
	})
	if len(seen) != 2 {
		t.Errorf("readers saw %v", seen)
	}
	if _, number, err := decided(ctx, store, cfg); number != 201 || err != nil {
		t.Errorf("%d of 201 decisions, %v", number, err)
	}

	if err := Decide(ctx, store, cfg, back); err != nil {
		t.Fatal(err)
	}
	watch(func(saw func(string)) {
		first, second := r, r
		first.To, second.From = r.From+hourUS, r.From+hourUS
		if err := Decide(ctx, store, cfg, first); err != nil {
			t.Error(err)
		}
		saw("0:05 0:07 0:__ 32768:06")
		if err := Decide(ctx, store, cfg, second); err != nil {
			t.Error(err)
		}
	})
}

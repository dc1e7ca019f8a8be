package pipelinetest_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// closeWindow emits one final row per key and window, so that published rows can be
// compared with the oracle as a multiset: a row twice is a row too many.
var closeWindow = func() operators.TumblingConfig {
	c := hashWindow
	c.Trigger = operators.OnClose
	return c
}()

type testJob struct {
	store     pipeline.Store
	src       *pipelinetest.RowSource
	out, late *pipelinetest.MemSink
	shards    int
	align     int64 // 0: splits are kept as close together as they can be
	mem       memory.Allocator
	published func(pipeline.Published)
}

func (j testJob) job(t *testing.T) pipeline.Job {
	metrics, err := pipeline.NewMetrics(prometheus.NewRegistry(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.Job{
		Name:       "test",
		Open:       j.src.Open,
		NewDecoder: func() (pipeline.Decoder, error) { return pipelinetest.RowDecoder{Mem: j.mem, Wide: true}, nil },
		KeyColumns: closeWindow.Keys,
		NewChain: func(seed uint64) ([]pipeline.Operator, error) {
			cfg := closeWindow
			cfg.Seed = seed
			w, err := operators.NewTumbling(cfg, pipelinetest.WideSchema(), j.mem)
			return []pipeline.Operator{w}, err
		},
		Outputs: map[pipeline.Port][]pipeline.Output{
			pipeline.Out:  {{Name: "out", Sink: j.out}},
			pipeline.Late: {{Name: "late", Sink: j.late}},
		},
		Front:        pipeline.FrontConfig{Bound: hashBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: j.align},
		Shards:       j.shards,
		Decoders:     2,
		Checkpoints:  pipeline.NewCheckpoints(j.store, 3, j.mem),
		Interval:     time.Millisecond,
		StopTimeout:  10 * time.Second,
		MaxStageRows: 500,
		Log:          slog.New(slog.DiscardHandler),
		Metrics:      metrics,
		OnCheckpoint: j.published,
	}
}

// nightly returns how much to do: more with TIDEMARK_NIGHTLY set.
func nightly(now, then uint64) uint64 {
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		return then
	}
	return now
}

func oracleFinal(input [][]pipelinetest.Row) (out, late []string) {
	lines, _ := oracleLines(input)
	for _, l := range lines {
		if strings.HasPrefix(l, "late") {
			late = append(late, l)
		} else {
			out = append(out, l)
		}
	}
	return out, late
}

// finalLines renders published rows like the oracle's.
func finalLines(t *testing.T, s *pipelinetest.MemSink) []string {
	lines, err := s.Lines()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range lines {
		at, row := "", ""
		for _, f := range strings.Fields(l) {
			name, _, _ := strings.Cut(f, "=")
			switch {
			case strings.HasPrefix(name, "_tm") || name == "window_end" || name == "late_by_us" || name == "windows_missed":
			case s.Name == "out" && (name == "key" || name == "window_start"):
				at += " " + f
			default:
				row += " " + f
			}
		}
		lines[i] = s.Name + at + row
	}
	sort.Strings(lines)
	return lines
}

// TestRunSurvives kills the run again and again, at random calls of the source, the store
// and the sinks, restarts it with another number of shards, and wants exactly the oracle's
// rows: none missing, none twice.
func TestRunSurvives(t *testing.T) {
	input := hashInput()
	wantOut, wantLate := oracleFinal(input)
	errKilled := errors.New("killed by the test")
	total := 0
	for seed := range nightly(12, 400) {
		rng := rand.New(rand.NewPCG(seed, 5))
		store := pipelinetest.NewMemStore()
		kills := 0
		var last pipeline.Published
		for {
			// Every part counts down the same fuse; calls come from several goroutines.
			fuse := make(chan int, 1)
			longest := 400
			if kills == 0 { // the run is longer than that
				longest = 60
			}
			fuse <- 1 + rng.IntN(longest)
			die := func() error {
				n := <-fuse - 1
				fuse <- n
				if n == 0 {
					return errKilled
				}
				return nil
			}
			j := testJob{store: pipelinetest.FailingStore{Store: store, Fail: func(string, string) error { return die() }},
				src:       &pipelinetest.RowSource{Splits: input, Batch: 1 + rng.IntN(90), Fail: die},
				out:       &pipelinetest.MemSink{Store: store, Name: "out", Fail: func(string) error { return die() }},
				late:      &pipelinetest.MemSink{Store: store, Name: "late", Fail: func(string) error { return die() }},
				shards:    1 + rng.IntN(4),
				mem:       memory.NewGoAllocator(),
				published: func(p pipeline.Published) { last = p },
			}
			err := pipeline.Run(t.Context(), j.job(t))
			if err == nil {
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if kills++; kills > 500 {
				t.Fatalf("seed %d: no progress after %d kills", seed, kills)
			}
		}
		out := finalLines(t, &pipelinetest.MemSink{Store: store, Name: "out"})
		late := finalLines(t, &pipelinetest.MemSink{Store: store, Name: "late"})
		if d := firstDifference(out, wantOut); d != "none" {
			t.Errorf("seed %d, %d kills: out: %s", seed, kills, d)
		}
		if d := firstDifference(late, wantLate); d != "none" {
			t.Errorf("seed %d, %d kills: late: %s", seed, kills, d)
		}
		var all pipeline.Counts
		for _, s := range last.Splits {
			all.Add(s.Counts)
		}
		if all[pipeline.Read] != hashSplits*hashRows || !all.Balanced() {
			t.Errorf("seed %d: counts %v", seed, all)
		}
		if kills == 0 {
			t.Errorf("seed %d: never killed", seed)
		}
		total += kills
	}
	t.Logf("%d kills survived", total)
	t.Logf("scoreboard: kills=%d", total)
}

// TestRunAligned: splits of very different length and speed are read side by side by event
// time; the rows are the same, and far fewer windows are open at a time.
func TestRunAligned(t *testing.T) {
	input := hashInput()
	for i := range input[0] { // the first split is ten times as dense in event time
		r := &input[0][i]
		r.Time = input[0][0].Time + (r.Time-input[0][0].Time)/10
	}
	wantOut, _ := oracleFinal(input)
	most := map[int64]int{}
	for _, align := range []int64{5_000_000, pipeline.MaxTicks} {
		store := pipelinetest.NewMemStore()
		j := testJob{store: store, src: &pipelinetest.RowSource{Splits: input, Batch: 20}, shards: 1, align: align, mem: memory.NewGoAllocator(),
			out: &pipelinetest.MemSink{Store: store, Name: "out"}, late: &pipelinetest.MemSink{Store: store, Name: "late"},
			published: func(p pipeline.Published) { most[align] = max(most[align], p.Open) }}
		if err := pipeline.Run(t.Context(), j.job(t)); err != nil {
			t.Fatal(err)
		}
		if d := firstDifference(finalLines(t, j.out), wantOut); d != "none" {
			t.Errorf("align %d: %s", align, d)
		}
		if (j.src.Pauses > 0) != (align < pipeline.MaxTicks) {
			t.Errorf("align %d: %d calls of Pause", align, j.src.Pauses)
		}
	}
	if most[5_000_000]*2 > most[pipeline.MaxTicks] {
		t.Errorf("%d open windows with alignment, %d without", most[5_000_000], most[pipeline.MaxTicks])
	}
	t.Logf("most open windows: %d with alignment, %d without", most[5_000_000], most[pipeline.MaxTicks])
}

// TestRunStops: a stop makes a last checkpoint, flushes nothing, and the next run goes on.
func TestRunStops(t *testing.T) {
	input := hashInput()
	wantOut, _ := oracleFinal(input)
	checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
	store := pipelinetest.NewMemStore()
	j := testJob{store: store, src: &pipelinetest.RowSource{Splits: input, Batch: 50, Hold: true}, shards: 2, mem: checked,
		out: &pipelinetest.MemSink{Store: store, Name: "out"}, late: &pipelinetest.MemSink{Store: store, Name: "late"}}
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan struct{})
	var once bool
	j.published = func(p pipeline.Published) {
		var all pipeline.Counts
		for _, s := range p.Splits {
			all.Add(s.Counts)
		}
		if all[pipeline.Read] == hashSplits*hashRows && !once {
			once = true
			close(read)
		}
	}
	go func() {
		<-read
		cancel()
	}()
	if err := pipeline.Run(ctx, j.job(t)); err != nil {
		t.Fatal(err)
	}
	if n := len(finalLines(t, j.out)); n == 0 || n >= len(wantOut) {
		t.Errorf("%d rows after the stop, the whole input gives %d: open windows must stay open", n, len(wantOut))
	}
	j.src = &pipelinetest.RowSource{Splits: input, Batch: 50}
	if err := pipeline.Run(t.Context(), j.job(t)); err != nil {
		t.Fatal(err)
	}
	if d := firstDifference(finalLines(t, j.out), wantOut); d != "none" {
		t.Error(d)
	}
	// The job has ended: another run reads nothing, though the source has more.
	grown := slices.Clone(input)
	grown[0] = append(slices.Clone(grown[0]), pipelinetest.Row{Time: 1 << 50, Key: "new", Offset: hashRows})
	j.src = &pipelinetest.RowSource{Splits: grown, Batch: 50, Fail: func() error { return errors.New("an ended job reads") }}
	if err := pipeline.Run(t.Context(), j.job(t)); err != nil {
		t.Error(err)
	}
	checked.AssertSize(t, 0)
}

package pipelinetest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const (
	stallBatch = 100 // rows of a wire, which fill one window: a key has one row in it
	stallStage = 2000
	// stallInFlight bounds what lies between the source and the stages: the events that wait
	// for a decoder and for the front, the queues of a shard and of the writer, and what each
	// goroutine has in its hands. All in wires, or in windows of as many rows.
	stallInFlight = (4 + 4 + 8 + 8 + 6) * stallBatch
	// stallLimit bounds what was read and is not published while a sink stalls: the epoch that
	// is being published, the one that was sealed meanwhile and the one at hand have each staged
	// MaxStageRows and a batch at most, and the queues are full.
	stallLimit = 3*(stallStage+stallBatch) + stallInFlight
)

var stallWindow = operators.TumblingConfig{Size: stallBatch, Trigger: operators.OnClose, Keys: []string{"key"},
	Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}}}

// stallSource gives rows whenever it is asked, or so many a second.
type stallSource struct {
	total     int64
	perSecond int64 // 0 for any
	began     time.Time
	read      atomic.Int64
	announced bool
	ended     bool
}

func (s *stallSource) open(context.Context, map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
	s.began = time.Now()
	return s, nil
}

func (s *stallSource) Next(ctx context.Context) (pipeline.Event, error) {
	split := pipeline.Split{Topic: "stall"}
	at := s.read.Load()
	switch {
	case ctx.Err() != nil:
		return pipeline.Event{}, ctx.Err()
	case !s.announced:
		s.announced = true
		return pipeline.Event{Kind: pipeline.NewSplit, Split: split, Position: pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks}}, nil
	case s.ended:
		return pipeline.Event{}, io.EOF
	case at >= s.total:
		s.ended = true
		return pipeline.Event{Kind: pipeline.EndOfSplit, Split: split}, nil
	}
	if s.perSecond > 0 {
		time.Sleep(time.Until(s.began.Add(time.Duration(at) * time.Second / time.Duration(s.perSecond))))
	}
	rows := make([]pipelinetest.Row, stallBatch)
	for i := range rows {
		n := at + int64(i)
		rows[i] = pipelinetest.Row{Time: n, Ingest: n, Key: fmt.Sprint("k", i), Value: n, Offset: n}
	}
	s.read.Add(stallBatch)
	return pipeline.Event{Kind: pipeline.Rows, Split: split, Wire: pipelinetest.NewWire(rows)}, nil
}

func (s *stallSource) Pause([]pipeline.Split) {}
func (s *stallSource) Close() error           { return nil }
func (s *stallSource) Commit(context.Context, map[pipeline.Split]pipeline.Position) error {
	return nil
}

// stallSink stalls in its third Publish.
type stallSink struct {
	*pipelinetest.MemSink
	stall     time.Duration
	publishes int
	source    *stallSource
	held      int64  // rows read and not published, at the end of the stall
	heap      uint64 // by how much it grew meanwhile
	peak      uint64
}

func (s *stallSink) Publish(ctx context.Context, r pipeline.Receipt) error {
	if s.publishes++; s.publishes == 3 {
		low := heapInUse()
		for range 10 {
			time.Sleep(s.stall / 10)
			s.peak = max(s.peak, heapInUse())
		}
		s.heap = max(s.peak, low) - low
		lines, err := s.Lines()
		if err != nil {
			return err
		}
		s.held = s.source.read.Load() - int64(len(lines))
	}
	return s.MemSink.Publish(ctx, r)
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// stallRun runs a job whose sink stalls, and returns source and sink.
func stallRun(t *testing.T, src *stallSource, stall time.Duration, maxStage int64) *stallSink {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	store := pipelinetest.NewMemStore()
	sink := &stallSink{MemSink: &pipelinetest.MemSink{Store: store, Name: "out"}, stall: stall, source: src}
	err := pipeline.Run(t.Context(), pipeline.Job{
		Name:       "stall",
		Open:       src.open,
		NewDecoder: func() (pipeline.Decoder, error) { return pipelinetest.RowDecoder{Mem: mem}, nil },
		KeyColumns: stallWindow.Keys,
		NewChain: func(seed uint64) ([]pipeline.Operator, error) {
			cfg := stallWindow
			cfg.Seed = seed
			w, err := operators.NewTumbling(cfg, pipelinetest.RowSchema(), mem)
			return []pipeline.Operator{w}, err
		},
		Outputs: map[pipeline.Port][]pipeline.Output{pipeline.Out: {{Name: "out", Sink: sink}}},
		Front:   pipeline.FrontConfig{QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks},
		Shards:  1, Decoders: 1,
		Checkpoints:  pipeline.NewCheckpoints(store, 2, mem),
		Interval:     time.Second,
		MaxStageRows: maxStage,
		Log:          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	mem.AssertSize(t, 0)
	return sink
}

// published fails unless every row was published, once.
func (s *stallSink) published(t *testing.T) {
	t.Helper()
	lines, err := s.Lines()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, l := range lines {
		f := strings.Fields(l)
		seen[f[0]+f[1]] = true
	}
	if int64(len(lines)) != s.source.total || len(seen) != len(lines) {
		t.Errorf("%d rows published, %d different, want %d", len(lines), len(seen), s.source.total)
	}
}

// TestStalledSink: a sink that takes five minutes for one Publish, while the source has as
// many rows as anybody asks for. Reading stops at the limits of stage and queues, or the
// virtual time would never go on; then all goes on, and every row is published once.
func TestStalledSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stallRun(t, &stallSource{total: 60_000}, 5*time.Minute, stallStage)
		if s.held > stallLimit || s.held < stallStage {
			t.Errorf("%d rows are held at the end of the stall, the limit is %d", s.held, stallLimit)
		}
		s.published(t)
		t.Logf("stall of %v: %d rows held at its end (limit %d), %d in all", s.stall, s.held, stallLimit, s.source.total)
	})
}

// TestStalledSinkNegative: without the limit of a stage reading goes on while the sink
// stalls, and that is noticed.
func TestStalledSinkNegative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &stallSource{total: 200_000, perSecond: 50_000} // the interval cuts the epochs
		if s := stallRun(t, src, 5*time.Minute, math.MaxInt64); s.held <= stallLimit {
			t.Errorf("%d rows are held at the end of the stall: a stage without a limit is not noticed", s.held)
		}
	})
	t.Log("scoreboard: negative_controls_failed=1")
}

// TestStalledSinkLive is TestStalledSink by the real clock, at 50,000 rows a second, and
// measures the heap.
func TestStalledSinkLive(t *testing.T) {
	stall, most := time.Second, uint64(32<<20)
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		stall = 5 * time.Minute
	}
	s := stallRun(t, &stallSource{total: 200_000, perSecond: 50_000}, stall, stallStage)
	if s.held > stallLimit {
		t.Errorf("%d rows are held at the end of the stall, the limit is %d", s.held, stallLimit)
	}
	if s.heap > most {
		t.Errorf("the heap grew by %d bytes while the sink stalled, at most %d are allowed", s.heap, most)
	}
	s.published(t)
	t.Logf("scoreboard: stall_s=%.0f stall_rows_held=%d stall_rows_limit=%d stall_heap_grown_mb=%.1f stall_heap_peak_mb=%.1f",
		stall.Seconds(), s.held, stallLimit, float64(s.heap)/(1<<20), float64(s.peak)/(1<<20))
}

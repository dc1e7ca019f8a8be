package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sources/kafka"
)

// laggingSource is a source at known offsets.
type laggingSource struct {
	lag    map[pipeline.Split]kafka.Lag
	closed bool
}

func (s *laggingSource) Next(context.Context) (pipeline.Event, error) {
	return pipeline.Event{}, io.EOF
}
func (s *laggingSource) Pause([]pipeline.Split) {}
func (s *laggingSource) Commit(context.Context, map[pipeline.Split]pipeline.Position) error {
	return nil
}
func (s *laggingSource) Close() error                      { s.closed = true; return nil }
func (s *laggingSource) Lag() map[pipeline.Split]kafka.Lag { return s.lag }
func (s *laggingSource) Buffered() int64                   { return 4711 }

func TestObserveSource(t *testing.T) {
	reg := prometheus.NewRegistry()
	src := &laggingSource{lag: map[pipeline.Split]kafka.Lag{
		{Topic: "t", Partition: 0}: {Position: 10, HighWatermark: 25},
		{Topic: "t", Partition: 7}: {Position: 10, HighWatermark: 9}, // rows came after the mark was seen
	}}
	refused := errors.New("refused")
	var fail error
	open, err := observeSource(func(_ context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		if from == nil {
			t.Error("positions were not passed on")
		}
		if fail != nil {
			return nil, fail
		}
		return src, nil
	}, reg, "j")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("before Open: %d samples, %v", n, err)
	}
	fail = refused
	if _, err := open(t.Context(), map[pipeline.Split]pipeline.Position{}); !errors.Is(err, refused) {
		t.Errorf("error %v, want that of Open", err)
	}
	fail = nil
	s, err := open(t.Context(), map[pipeline.Split]pipeline.Position{})
	if err != nil {
		t.Fatal(err)
	}
	want := `# HELP tidemark_source_buffered_bytes Bytes that were fetched and not delivered.
# TYPE tidemark_source_buffered_bytes gauge
tidemark_source_buffered_bytes{job="j"} 4711
# HELP tidemark_source_lag_records Offsets between what was delivered and the high watermark last seen.
# TYPE tidemark_source_lag_records gauge
tidemark_source_lag_records{job="j",split="0",topic="t"} 15
tidemark_source_lag_records{job="j",split="7",topic="t"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil || !src.closed {
		t.Errorf("close: %v, the source is closed: %v", err, src.closed)
	}
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("after Close: %d samples, %v", n, err)
	}
	if _, err := observeSource(open, reg, "j"); err == nil || !strings.Contains(err.Error(), "source metrics of job j") {
		t.Errorf("the same job twice: %v", err)
	}
	if _, err := observeSource(open, reg, "k"); err != nil {
		t.Errorf("another job: %v", err)
	}
}

// TestObserveOther: a source that knows no lag is left as it is.
func TestObserveOther(t *testing.T) {
	plain := struct{ pipeline.Source }{}
	open, err := observeSource(func(context.Context, map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		return plain, nil
	}, prometheus.NewRegistry(), "j")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t.Context(), nil); got != plain || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestObserveKafka: the Kafka source is one that can be observed.
func TestObserveKafka(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	addr := broker.ListenAddrs()[0]
	at := time.UnixMilli(1_772_366_400_000)
	if err := appendBatch(addr, "t", 0, []rawRecord{{time: at}, {time: at}, {time: at}}); err != nil {
		t.Fatal(err)
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Topic = []string{addr}, "t"
	reg := prometheus.NewRegistry()
	open, err := observeSource(kafka.Opener(cfg, slog.New(slog.DiscardHandler)), reg, "j")
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	behind := func(n int) bool {
		want := fmt.Sprintf("# HELP tidemark_source_lag_records Offsets between what was delivered and the high watermark last seen.\n"+
			"# TYPE tidemark_source_lag_records gauge\ntidemark_source_lag_records{job=\"j\",split=\"0\",topic=\"t\"} %d\n", n)
		return testutil.GatherAndCompare(reg, strings.NewReader(want), "tidemark_source_lag_records") == nil
	}
	eventually(t, "3 behind", func() bool { return behind(3) })
	for {
		ev, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == pipeline.Rows && ev.Wire.Next.Offset == 3 {
			break
		}
	}
	if !behind(0) {
		t.Error("all was delivered and the source is said to be behind")
	}
}

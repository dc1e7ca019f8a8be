package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sources/kafka"
)

// lagging is a source that tells how far behind it is and what it holds in memory. Both
// are cheap, ask no broker, and may be called from any goroutine.
type lagging interface {
	Lag() map[pipeline.Split]kafka.Lag
	Buffered() int64
}

// observeSource returns open with the source's own metrics, read when they are scraped:
//
//	tidemark_source_lag_records{topic,split}  offsets between what was delivered and the high watermark last seen
//	tidemark_source_buffered_bytes            fetched and not delivered
//
// There are no samples while no source is open. A job is observed once per registry.
func observeSource(open pipeline.OpenSource, reg prometheus.Registerer, job string) (pipeline.OpenSource, error) {
	labels := prometheus.Labels{"job": job}
	m := &sourceMetrics{
		lag: prometheus.NewDesc("tidemark_source_lag_records",
			"Offsets between what was delivered and the high watermark last seen.", []string{"topic", "split"}, labels),
		buffered: prometheus.NewDesc("tidemark_source_buffered_bytes", "Bytes that were fetched and not delivered.", nil, labels),
	}
	if err := reg.Register(m); err != nil {
		return nil, fmt.Errorf("source metrics of job %s: %w", job, err)
	}
	return func(ctx context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		src, err := open(ctx, from)
		if err != nil {
			return nil, err
		}
		l, ok := src.(lagging)
		if !ok {
			return src, nil
		}
		m.set(l)
		return &observedSource{Source: src, metrics: m}, nil
	}, nil
}

// observedSource is a source that sourceMetrics looks at until it is closed.
type observedSource struct {
	pipeline.Source
	metrics *sourceMetrics
}

func (s *observedSource) Close() error {
	s.metrics.set(nil)
	return s.Source.Close()
}

// sourceMetrics is the collector of one job's source.
type sourceMetrics struct {
	lag, buffered *prometheus.Desc

	mu  sync.Mutex
	src lagging // nil while none is open
}

func (m *sourceMetrics) set(src lagging) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.src = src
}

// Describe implements prometheus.Collector.
func (m *sourceMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.lag
	ch <- m.buffered
}

// Collect implements prometheus.Collector.
func (m *sourceMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	src := m.src
	m.mu.Unlock()
	if src == nil {
		return
	}
	for split, l := range src.Lag() {
		behind := max(0, l.HighWatermark-l.Position) // it was asked before what was delivered
		ch <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(behind), split.Topic, strconv.Itoa(int(split.Partition)))
	}
	ch <- prometheus.MustNewConstMetric(m.buffered, prometheus.GaugeValue, float64(src.Buffered()))
}

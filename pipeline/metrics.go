package pipeline

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are a job's Prometheus metrics. Counts are those of the last barrier, where
// they add up.
type Metrics struct {
	rows        *prometheus.CounterVec
	dropped     *prometheus.CounterVec
	lateness    prometheus.Histogram
	windows     *prometheus.CounterVec
	records     *prometheus.CounterVec
	lag         *prometheus.GaugeVec
	gapRecords  *prometheus.CounterVec
	offset      *prometheus.GaugeVec
	splitMark   *prometheus.GaugeVec
	quiet       *prometheus.GaugeVec
	checkpoints prometheus.Histogram
	pause       prometheus.Histogram
	ckptBytes   prometheus.Gauge
	ckptTime    prometheus.Gauge
	ckptFailed  prometheus.Counter
	sinkRows    *prometheus.CounterVec
	publish     *prometheus.HistogramVec
	attempts    *prometheus.CounterVec
	pending     *prometheus.GaugeVec
	headroom    *prometheus.GaugeVec
	mismatches  *prometheus.CounterVec
	stageRows   *prometheus.GaugeVec
	stateKeys   prometheus.Gauge
	stateBytes  prometheus.Gauge
	overdue     prometheus.Gauge
	heldBy      *prometheus.GaugeVec
	idles       prometheus.Counter
	missed      prometheus.Counter
	partly      prometheus.Counter
	moved       prometheus.Counter
	overflows   prometheus.Counter
	capped      prometheus.Counter
	edges       prometheus.Counter
	mark        atomic.Int64 // merged event mark

	reported map[int32]Counts
}

// NewMetrics registers the metrics of one job.
func NewMetrics(reg prometheus.Registerer, job string) (*Metrics, error) {
	labels := prometheus.Labels{"job": job}
	m := &Metrics{reported: map[int32]Counts{}}
	split := []string{"topic", "split"}
	m.rows = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_rows_total", ConstLabels: labels,
		Help: "Rows by fate, as of the last barrier; read is the sum of the others."}, []string{"split", "fate"})
	m.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_events_dropped_total", ConstLabels: labels,
		Help: "Rows that left through the late or the dead port, by reason."}, []string{"port", "reason"})
	m.lateness = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tidemark_event_lateness_seconds", ConstLabels: labels,
		Help: "By how much the mark of its split had passed a late row.", Buckets: prometheus.ExponentialBuckets(1, 2, 18)})
	m.windows = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_windows_emitted_total", ConstLabels: labels,
		Help: "Result rows by what made the window emit."}, []string{"kind"})
	m.records = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_source_records_total", ConstLabels: labels,
		Help: "Records read, as of the last barrier."}, split)
	m.lag = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_source_lag_seconds", ConstLabels: labels,
		Help: "Wall clock less the broker timestamp of the last record read, at the last barrier."}, split)
	m.gapRecords = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_source_gap_records_total", ConstLabels: labels,
		Help: "Records that were gone from the log before they were read."}, []string{"topic", "reason"})
	m.offset = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_source_offset", ConstLabels: labels,
		Help: "Next offset to read, as of the last barrier."}, split)
	m.splitMark = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_split_watermark_timestamp_seconds", ConstLabels: labels,
		Help: "Event mark of a split, as of the last barrier."}, split)
	m.quiet = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_split_quiet", ConstLabels: labels,
		Help: "1 when the split is left out of the merged mark."}, split)
	m.checkpoints = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tidemark_checkpoint_duration_seconds", ConstLabels: labels,
		Help: "From barrier to publication.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)})
	m.pause = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tidemark_barrier_pause_seconds", ConstLabels: labels,
		Help: "How long the shards stood still at a barrier.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)})
	m.ckptBytes = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_checkpoint_bytes", ConstLabels: labels,
		Help: "Size of the files that the last checkpoint refers to."})
	m.ckptTime = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_checkpoint_last_success_timestamp_seconds", ConstLabels: labels,
		Help: "When the last checkpoint was published."})
	m.ckptFailed = prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_checkpoint_failures_total", ConstLabels: labels,
		Help: "Checkpoints that could not be made."})
	m.sinkRows = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_sink_rows_total", ConstLabels: labels,
		Help: "Rows published."}, []string{"sink"})
	m.publish = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tidemark_sink_commit_duration_seconds", ConstLabels: labels,
		Help: "Time to publish one epoch.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, []string{"sink"})
	m.stageRows = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_sink_pending_rows", ConstLabels: labels,
		Help: "Rows of the epoch at hand, staged and not published."}, []string{"sink"})
	m.attempts = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_sink_attempts_total", ConstLabels: labels,
		Help: "Requests to the server of a sink, by outcome."}, []string{"sink", "outcome"})
	m.pending = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_sink_pending_bytes", ConstLabels: labels,
		Help: "Size of what is sealed and not published."}, []string{"sink"})
	m.headroom = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_sink_dedup_window_headroom_seconds", ConstLabels: labels,
		Help: "For how long yet the server remembers the token of the block at hand; after that it is verified before it is sent again."}, []string{"sink"})
	m.mismatches = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_sink_audit_mismatch_total", ConstLabels: labels,
		Help: "Blocks that an audit found otherwise than they were written."}, []string{"sink"})
	m.stateKeys = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_state_keys", ConstLabels: labels,
		Help: "Open (key, window) pairs, as of the last barrier; where windows overlap, (key, slice) pairs."})
	m.stateBytes = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_state_bytes", ConstLabels: labels,
		Help: "Memory of the operators' state, as of the last barrier."})
	m.overdue = prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_state_rows_without_deadline", ConstLabels: labels,
		Help: "Rows of state that nothing would ever free; anything but 0 is a leak."})
	m.heldBy = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_watermark_held_since_timestamp_seconds", ConstLabels: labels,
		Help: "For the split that holds the merged event mark: when the mark rose last, by the wall clock."}, []string{"split"})
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, ConstLabels: labels, Help: help})
	}
	m.idles = counter("tidemark_idle_timeouts_total", "Splits left out of the merged mark by the wall clock (event_time.idle_after).")
	m.missed = counter("tidemark_late_windows_total", "Windows missed by rows: one for each pair of a row and a window that was closed.")
	m.partly = counter("tidemark_partly_late_rows_total", "Rows that missed a window and were taken by a later one; they are aggregated.")
	m.moved = counter("tidemark_moved_keys_total", "Rows whose key had come through another split before, with event_time.scope key: their verdicts depend on the order of reading.")
	m.overflows = counter("tidemark_aggregate_overflows_total", "Sums that did not fit and became null.")
	m.capped = counter("tidemark_aggregate_dropped_total", "Values beyond the cap of a list.")
	m.edges = counter("tidemark_session_edge_rows_total", "Rows that came exactly the gap after a session and opened another: with sensors whose period is the gap, take a longer one or touch merge.")
	mark := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tidemark_watermark_timestamp_seconds", ConstLabels: labels,
		Help: "Merged event mark; 0 before the first."}, func() float64 { return seconds(m.mark.Load()) })
	delay := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tidemark_watermark_delay_seconds", ConstLabels: labels,
		Help: "Wall clock less the merged event mark; 0 before the first."}, func() float64 {
		if at := seconds(m.mark.Load()); at != 0 {
			return float64(time.Now().UnixMicro())/1e6 - at
		}
		return 0
	})
	m.mark.Store(MinTicks)
	for _, c := range []prometheus.Collector{m.rows, m.dropped, m.lateness, m.windows, m.records, m.lag, m.gapRecords, m.offset, m.splitMark, m.quiet, m.checkpoints, m.pause, m.ckptBytes,
		m.ckptTime, m.ckptFailed, m.sinkRows, m.publish, m.attempts, m.pending, m.headroom, m.mismatches, m.stageRows, m.stateKeys, m.stateBytes, m.overdue, m.heldBy, m.idles, m.missed, m.partly, m.moved, m.overflows, m.capped, m.edges, mark, delay} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// SinkMetrics are functions by which a sink with a server tells how it does.
type SinkMetrics struct {
	Attempt  func(outcome string)
	Pending  func(bytes int64)
	Headroom func(left time.Duration)
	Mismatch func(blocks int64)
}

// OfSink returns the metrics of the sink of a name, which are there from now on.
func (m *Metrics) OfSink(name string) SinkMetrics {
	pending, headroom, mismatches := m.pending.WithLabelValues(name), m.headroom.WithLabelValues(name), m.mismatches.WithLabelValues(name)
	return SinkMetrics{
		Attempt:  func(outcome string) { m.attempts.WithLabelValues(name, outcome).Inc() },
		Pending:  func(bytes int64) { pending.Set(float64(bytes)) },
		Headroom: func(left time.Duration) { headroom.Set(left.Seconds()) },
		Mismatch: func(blocks int64) { mismatches.Add(float64(blocks)) },
	}
}

// seconds returns a time in seconds, 0 for a mark at either end.
func seconds(t int64) float64 {
	if t == MinTicks || t == MaxTicks {
		return 0
	}
	return float64(t) / 1e6
}

// barrier takes the split table of a checkpoint.
func (m *Metrics) barrier(splits []SplitState) {
	for i, s := range splits {
		name := s.Split.String()
		before := m.reported[int32(i)]
		for f := range NumFates {
			m.rows.WithLabelValues(name, f.String()).Add(float64(s.Counts[f] - before[f]))
		}
		part := strconv.Itoa(int(s.Split.Partition))
		m.records.WithLabelValues(s.Split.Topic, part).Add(float64(s.Counts[Read] - before[Read]))
		if at := seconds(s.Position.LastIngest); at != 0 {
			m.lag.WithLabelValues(s.Split.Topic, part).Set(max(0, float64(time.Now().UnixMicro())/1e6-at))
		}
		m.reported[int32(i)] = s.Counts
		m.offset.WithLabelValues(s.Split.Topic, part).Set(float64(s.Position.Offset))
		m.splitMark.WithLabelValues(s.Split.Topic, part).Set(seconds(s.Mark.Event))
		q := 0.0
		if s.Quiet {
			q = 1
		}
		m.quiet.WithLabelValues(s.Split.Topic, part).Set(q)
	}
}

func (m *Metrics) tally(t Tally) {
	m.missed.Add(float64(t.Missed))
	m.partly.Add(float64(t.Partly))
	m.moved.Add(float64(t.Moved))
	m.overflows.Add(float64(t.Overflows))
	m.capped.Add(float64(t.Dropped))
	m.edges.Add(float64(t.Edges))
}

// held says who holds the merged mark.
func (m *Metrics) held(c cut) {
	m.heldBy.Reset()
	if c.holder >= 0 && int(c.holder) < len(c.splits) {
		m.heldBy.WithLabelValues(c.splits[c.holder].Split.String()).Set(seconds(c.since))
	}
	m.idles.Add(float64(c.idles))
}

// resume sets the counts that a restored checkpoint had, so that counters start at 0 in
// every process and never count a row twice.
func (m *Metrics) resume(splits []SplitState) {
	for i, s := range splits {
		m.reported[int32(i)] = s.Counts
	}
}

// refused counts late rows and dead records by reason, and how late the late ones are.
func (m *Metrics) refused(port Port, rec arrow.RecordBatch) {
	if at := rec.Schema().FieldIndices("reason"); len(at) == 1 {
		if col, ok := rec.Column(at[0]).(*array.String); ok {
			for i := range col.Len() {
				m.dropped.WithLabelValues(port.String(), col.Value(i)).Inc()
			}
		}
	}
	if at := rec.Schema().FieldIndices("late_by_us"); len(at) == 1 {
		if col, ok := rec.Column(at[0]).(*array.Int64); ok {
			for _, by := range col.Int64Values() {
				m.lateness.Observe(float64(by) / 1e6)
			}
		}
	}
}

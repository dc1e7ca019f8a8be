package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	kafkago "github.com/segmentio/kafka-go"
)

// watched is a live job with a feed of a row in 20 ms, and its metrics.
type watched struct {
	name, topic, file, addr string

	writer   *kafkago.Writer
	sent     atomic.Int64 // all to partition 0
	poison   atomic.Bool  // every other record is none
	stopFeed context.CancelFunc
	fed      chan struct{} // closed when the feed has stopped
	proc     *process
}

// watch starts a job with results in ClickHouse, and waits for its first rows.
func (r *rig) watch(t *testing.T, name string) *watched {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	j := &watched{name: name, topic: name, file: filepath.Join(t.TempDir(), "job.yaml"), addr: free.Addr().String(), fed: make(chan struct{})}
	must(t, free.Close())
	r.createTopic(t, j.topic, nil)
	_, err = r.clickhouse.Query(t.Context(), "CREATE DATABASE "+name)
	must(t, err)
	must(t, os.WriteFile(j.file, fmt.Appendf(nil, `job: %[1]s
feed: ble
source: {kafka: {brokers: [%[2]s], topic: %[1]s, on_gap: skip_and_record}}
event_time: {max_disorder: 0s}
window: {tumbling: 1s}
normalize: {to: none}
sinks: [{clickhouse: {url: %[3]q, database: %[1]s, audit_every: 2}}]
checkpoint: {dir: %[4]q, interval: 200ms}
http: {listen: %[5]q}
`, name, r.kafka.Addr(), r.clickhouse.URL(), filepath.Join(filepath.Dir(j.file), "state"), j.addr), 0o644))
	j.writer = &kafkago.Writer{Addr: kafkago.TCP(r.kafka.Addr()), Topic: j.topic, BatchTimeout: time.Millisecond, RequiredAcks: kafkago.RequireAll,
		Balancer: kafkago.BalancerFunc(func(kafkago.Message, ...int) int { return 0 })}
	t.Cleanup(func() { must(t, j.writer.Close()) })
	ctx, cancel := context.WithCancel(t.Context())
	j.stopFeed = cancel
	go j.feed(ctx)
	t.Cleanup(func() { cancel(); <-j.fed })
	j.start(t, r)
	j.await(t, "tidemark_watermark_timestamp_seconds", func(v float64) bool { return v > 0 })
	j.await(t, "tidemark_sink_rows_total", func(v float64) bool { return v > 0 })
	return j
}

func (j *watched) start(t *testing.T, r *rig) {
	t.Helper()
	j.proc = r.begin(t, "run", "-f", j.file)
}

// stop stops the job, not its feed.
func (j *watched) stop(t *testing.T) {
	t.Helper()
	j.proc.stop(t)
}

// feed sends until ctx is done.
func (j *watched) feed(ctx context.Context) {
	defer close(j.fed)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		value := fmt.Appendf(nil, `{"asset_id":"RC-1","ts_event":%d,"rssi_dbm":-60}`, time.Now().UnixMilli())
		if j.poison.Load() && j.sent.Load()%2 == 0 {
			value = []byte("{")
		}
		if j.writer.WriteMessages(ctx, kafkago.Message{Value: value}) == nil {
			j.sent.Add(1)
		}
	}
}

// await waits until the sum over the series of a metric satisfies ok.
func (j *watched) await(t *testing.T, metric string, ok func(sum float64) bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		sum := 0.0
		for _, v := range j.scrape(t).values {
			if v.labels.Get(model.MetricNameLabel) == metric {
				sum += v.value
			}
		}
		if ok(sum) {
			return
		}
		if time.Now().After(end) {
			j.proc.kill(t)
			t.Fatalf("%s is %v\n%s", metric, sum, j.proc.stderr.String())
		}
	}
}

// scrape reads the counters and gauges of /metrics; none while nobody listens.
func (j *watched) scrape(t *testing.T) scrape {
	t.Helper()
	s := scrape{time.Now(), map[string]sample{}}
	resp, err := http.Get("http://" + j.addr + "/metrics")
	if err != nil {
		return s
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	parse := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parse.TextToMetricFamilies(resp.Body)
	must(t, err)
	for name, f := range families {
		for _, m := range f.Metric {
			b := labels.NewBuilder(labels.FromStrings(model.MetricNameLabel, name))
			for _, l := range m.Label {
				b.Set(l.GetName(), l.GetValue())
			}
			v := sample{labels: b.Labels()}
			switch {
			case m.Gauge != nil:
				v.value = m.Gauge.GetValue()
			case m.Counter != nil:
				v.value = m.Counter.GetValue()
			default:
				continue
			}
			s.values[v.labels.String()] = v
		}
	}
	return s
}

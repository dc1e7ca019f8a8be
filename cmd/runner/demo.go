package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// demoFeed is one of the demo's jobs.
type demoFeed struct {
	feed, topic, job string
	// speed is how much faster event time runs than the wall clock.
	speed    float64
	disorder time.Duration
	settings string // of the job file: what takes the rows, in the demo's folder dir
	how      disorder
	// events makes the telemetry in order of event time.
	events func(seed uint64, start time.Time, how disorder) (func() (message, bool), error)
}

// demoFeeds are three jobs of windows, and one for each domain.
func demoFeeds() []demoFeed {
	return []demoFeed{
		{"ble", "ble.detections", "ble-10s", 60, 30 * time.Second,
			"window: {tumbling: 10s, lateness: 2m, late_delay: 2s}\nfilter: rssi_dbm >= -92\ndedupe: {columns: [asset_id, seq, gateway_id], within: 1s}\n",
			disorder{Within: 25 * time.Second, Late: 0.02, LateBy: 6 * time.Minute, Duplicate: 0.002, Future: 0.0005, Malformed: 0.001},
			generated("ble", 2000, 30*time.Second)},
		{"pdu", "pdu.readings", "pdu-1m", 60, 30 * time.Second, "window: {tumbling: 1m, lateness: 5m, late_delay: 2s}\n",
			disorder{Within: 20 * time.Second, Late: 0.01, LateBy: 12 * time.Minute, Future: 0.001, Malformed: 0.001},
			generated("pdu", 60, 10*time.Second)},
		{"traffic", "traffic.counters", "traffic-15m", 60, time.Minute, "window: {tumbling: 15m, lateness: 10m, late_delay: 2s}\n",
			disorder{Within: 50 * time.Second, Late: 0.01, LateBy: 40 * time.Minute, Future: 0.001, Malformed: 0.001},
			generated("traffic", 50, time.Minute)},
		{"ble", "cages", "cages", 180, 30 * time.Second, "assets: {fences: DIR/fences.geojson, gateways: DIR/gateways.csv}\n",
			disorder{Within: 25 * time.Second, Late: 0.002, LateBy: 6 * time.Minute, Duplicate: 0.002},
			func(seed uint64, start time.Time, _ disorder) (func() (message, bool), error) {
				return newCages(seed, start).next, nil
			}},
		{"pdu", "racks", "racks", 60, 30 * time.Second, "power: {inventory: DIR/inventory.yaml}\n",
			disorder{Within: 20 * time.Second},
			func(seed uint64, start time.Time, _ disorder) (func() (message, bool), error) {
				return newRacks(seed, start).next, nil
			}},
		{"traffic", "volumes", "outages", 1800, time.Minute, "traffic: {bootstrap: [DIR/volumes.csv]}\n",
			disorder{Within: 30 * time.Second},
			func(_ uint64, start time.Time, _ disorder) (func() (message, bool), error) {
				return (&volumes{start: start}).next, nil
			}},
	}
}

// generated is telemetry of the kind that produce --generate makes.
func generated(feed string, devices int, period time.Duration) func(uint64, time.Time, disorder) (func() (message, bool), error) {
	return func(seed uint64, start time.Time, how disorder) (func() (message, bool), error) {
		g, err := newGenerator(feed, seed, start, devices, period, how)
		if err != nil {
			return nil, err
		}
		return g.next, nil
	}
}

// writeFiles writes what the domains read.
func (d *demo) writeFiles() error {
	for name, text := range map[string]string{"fences.geojson": demoFences(), "gateways.csv": demoGateways(), "inventory.yaml": demoInventory(), "volumes.csv": demoHistory(d.start)} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const demoPartitions = 4

// cmdDemo runs the jobs on an embedded broker.
func cmdDemo(ctx context.Context, args []string, out streams) error {
	fs := newFlags("demo", "tidemark demo --for 30s", "starts an embedded Kafka broker, feeds it BLE, PDU and traffic telemetry with disorder, late, future and broken rows, and runs jobs on it: windows, and one for each domain")
	length := fs.Duration("for", time.Minute, "how `long`; Ctrl-C ends it too")
	dir := fs.String("dir", "tidemark-demo", "`folder` for the output; that of an earlier demo is replaced")
	listen := fs.String("listen", "127.0.0.1:0", "`address` of the status page")
	seed := fs.Uint64("seed", 1, "seed of the telemetry")
	level := fs.String("log", "warn", "log `level`")
	clickhouse := fs.String("clickhouse", "", "fill ClickHouse at this HTTP `url` too, for example http://127.0.0.1:8123; tables of an earlier demo are in the way: drop them")
	if err := fs.parse(args); err != nil {
		return err
	}
	log, err := newLogger(out.stderr, *level)
	if err != nil {
		return err
	}
	if *length <= 0 {
		return &usageError{"demo: --for must be above 0"}
	}
	if !loopback(hostOf(*listen)) {
		return &usageError{fmt.Sprintf("demo: --listen %q can be reached from other machines; the demo's page is for this one: 127.0.0.1:0", *listen)}
	}
	if err := clearDemo(*dir); err != nil {
		return err
	}
	d := &demo{dir: filepath.ToSlash(*dir), clickhouse: *clickhouse, seed: *seed, log: log, status: newStatus(), start: time.Now().UTC().Truncate(time.Hour).Add(-24 * time.Hour), out: out}
	return d.run(ctx, *length, *listen)
}

// demoMark is the file by which the demo knows a folder as its own.
const demoMark = ".tidemark-demo"

// clearDemo removes the output of an earlier demo and makes the folder anew.
func clearDemo(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("demo folder: %w", err)
	case len(entries) > 0:
		if _, err := os.Stat(filepath.Join(dir, demoMark)); err != nil {
			return fmt.Errorf("demo folder %s is not empty and not a demo's; choose another with --dir", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("demo folder: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("demo folder: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, demoMark), nil, 0o644)
}

type demo struct {
	dir        string
	clickhouse string // URL, empty for none
	seed       uint64
	log        *slog.Logger
	status     *status
	out        streams
	start      time.Time // of event time
	sent       atomic.Int64
}

func (d *demo) run(ctx context.Context, length time.Duration, listen string) error {
	var topics []string
	for _, f := range demoFeeds() {
		topics = append(topics, f.topic)
	}
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(demoPartitions, topics...))
	if err != nil {
		return fmt.Errorf("embedded broker: %w", err)
	}
	defer broker.Close()
	if err := d.writeFiles(); err != nil {
		return err
	}
	registry := newRegistry()
	srv, err := listenHTTP(HTTPConfig{Listen: listen}, d.status, registry)
	if err != nil {
		return err
	}
	var jobs []pipeline.Job
	for _, f := range demoFeeds() {
		job, closeJob, err := d.job(f, broker.ListenAddrs(), registry)
		if err != nil {
			return fmt.Errorf("job %s: %w", f.job, err)
		}
		defer func() {
			if err := closeJob(); err != nil {
				d.log.Error("close sinks", "err", err)
			}
		}()
		jobs = append(jobs, job)
	}
	fmt.Fprintf(d.out.stderr, "embedded broker at %[1]s, status page at http://%[2]s, the domains live at http://%[2]s/live, output in %[3]s, %[4]v to go\n",
		strings.Join(broker.ListenAddrs(), ","), srv.addr, d.dir, length)
	began := time.Now()

	jobsCtx, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJobs()
	g, gctx := errgroup.WithContext(jobsCtx)
	for _, job := range jobs {
		g.Go(func() error { return pipeline.Run(gctx, job) })
	}
	aside, endAside := context.WithCancel(gctx)
	g.Go(func() error { return srv.serve(aside) })
	g.Go(func() error { d.status.progress(aside, d.out.stderr); return nil })
	g.Go(func() error {
		defer endAside()
		defer stopJobs()
		return d.feed(ctx, gctx, broker.ListenAddrs(), length)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return d.report(time.Since(began))
}

// job is the configuration of a demo job, made from a job file like any other.
func (d *demo) job(f demoFeed, brokers []string, registry prometheus.Registerer) (pipeline.Job, func() error, error) {
	sinks := fmt.Sprintf("{parquet: {dir: %q, partition_by: hour}}", d.dir)
	if d.clickhouse != "" {
		sinks += fmt.Sprintf(", {clickhouse: {url: %q}}", d.clickhouse)
	}
	text := fmt.Sprintf(`job: %s
feed: %s
source: {kafka: {brokers: [%s], topic: %s}}
event_time: {max_disorder: %v, max_ahead: 2m, quiet_after: 5m}
%ssinks: [%s]
checkpoint: {dir: %q, interval: 2s}
http: {listen: ""}
`, f.job, f.feed, strings.Join(brokers, ", "), f.topic, f.disorder, strings.ReplaceAll(f.settings, "DIR", d.dir), sinks, filepath.Join(d.dir, "state", f.job))
	path := filepath.Join(d.dir, f.job+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return pipeline.Job{}, nil, err
	}
	cfg, err := loadConfig(path)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	log := d.log.With("job", f.job)
	refs, err := openReferences(cfg, log, registry)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	return d.status.build(cfg, jobDeps{log: log, registry: registry, references: refs})
}

// feed sends telemetry until the time is over or ctx ends, then waits until the jobs have
// read all of it.
func (d *demo) feed(ctx, jobs context.Context, brokers []string, length time.Duration) error {
	fctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	g, gctx := errgroup.WithContext(jobs)
	for i, f := range demoFeeds() {
		g.Go(func() error { return d.send(fctx, gctx, f, d.seed+uint64(i), brokers) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); d.read() < d.sent.Load() && time.Now().Before(deadline) && jobs.Err() == nil; {
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func (d *demo) read() int64 {
	var n int64
	for _, j := range d.status.snapshot() {
		n += j.counts[pipeline.Read]
	}
	return n
}

func (d *demo) send(until, hard context.Context, f demoFeed, seed uint64, brokers []string) error {
	conn := source.DefaultConnection()
	conn.Brokers = brokers
	tr, err := conn.Transport()
	if err != nil {
		return err
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	prod, err := kafka.New(cfg, tr)
	if err != nil {
		return err
	}
	defer prod.Close()
	events, err := f.events(seed, d.start, f.how)
	if err != nil {
		return err
	}
	t := newTelemetry(seed, f.how, events)
	began := time.Now()
	m, _ := t.Next()
	var batch []kafka.Record
	for until.Err() == nil {
		now := d.start.Add(time.Duration(float64(time.Since(began)) * f.speed))
		for !m.Arrive.After(now) && len(batch) < sendBatch {
			batch = append(batch, kafka.Record{Key: m.Key, Value: m.Value, Time: m.Arrive, Partition: -1})
			m, _ = t.Next() // it has no end
		}
		if err := prod.Produce(hard, f.topic, batch); err != nil {
			return fmt.Errorf("feed %s: %w", f.topic, err)
		}
		d.sent.Add(int64(len(batch)))
		batch = batch[:0]
		select {
		case <-until.Done():
		case <-time.After(sendEvery):
		}
	}
	return nil
}

// report prints what came of it.
func (d *demo) report(took time.Duration) error {
	w := d.out.stdout
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "job\trows in\tevents/s\twindow rows\tlate rows\tdead rows\tfiles\tmark\tmark delay (event time)")
	for i, j := range d.status.snapshot() {
		f := demoFeeds()[i]
		table := strings.ReplaceAll(f.job, "-", "_")
		files, err := countFiles(filepath.Join(d.dir, table))
		if err != nil {
			return err
		}
		mark, delay := "none", "none"
		if j.Mark != nil && j.Ingest != nil {
			mark, delay = j.Mark.Format("15:04:05"), j.Ingest.Sub(*j.Mark).Round(time.Second).String()
		}
		var windows int64
		for _, s := range j.Sinks {
			if strings.HasSuffix(s.Name, table) {
				windows = s.Rows
			}
		}
		fmt.Fprintf(tab, "%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\n", j.Job, j.counts[pipeline.Read], float64(j.counts[pipeline.Read])/took.Seconds(),
			windows, j.counts[pipeline.FateLate], j.counts[pipeline.FateDead], files, mark, delay)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if read, sent := d.read(), d.sent.Load(); read != sent {
		fmt.Fprintf(w, "sent %d rows, of which %d were not read before the end\n", sent, sent-read)
	}
	d.status.summary(w)
	return demoQueries(w, d.dir)
}

// demoQueries prints three questions that the files answer.
func demoQueries(w io.Writer, dir string) error {
	_, err := fmt.Fprintf(w, `
Ask the files (clickhouse local, or any engine that reads Parquet):

# Which cages were heard most in the last window of each? (one row per window: the newest version counts)
clickhouse local -q "SELECT device.uid, max(start_time) AS t, argMax(count, (start_time, _tm_ver)) AS heard FROM file('%[1]s/ble_10s/**/*.parquet') GROUP BY 1 ORDER BY heard DESC LIMIT 5"

# Line currents of each PDU, hottest first
clickhouse local -q "SELECT metadata.uid AS line, max(toFloat64(unmapped['current_a_max'])) AS amps FROM file('%[1]s/pdu_1m/**/*.parquet') GROUP BY 1 ORDER BY amps DESC LIMIT 5"

# Why did rows not make it? (late and dead rows are tables as well)
clickhouse local -q "SELECT reason, count() FROM file('%[1]s/*_dead/**/*.parquet') GROUP BY 1 ORDER BY 2 DESC"
`, dir)
	return err
}

func countFiles(dir string) (int, error) {
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && strings.HasSuffix(path, ".parquet") {
			n++
		}
		return err
	})
	return n, err
}

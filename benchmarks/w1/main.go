// Command w1 measures what a million events cost: W1 of the benchmark plan, windows of
// 10 s over 380,000 devices, count, sum, min, max and last by device, JSON of 110 bytes,
// lz4, eight partitions, one core. It starts a broker in its own process, writes the load
// once per size, runs the real program in another process, and prints that process's CPU
// seconds per million events, as a slope between the two sizes.
//
//	go run ./benchmarks/w1 -seconds 300,900 -sink none
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/benchmarks/gen"
	"github.com/tidemark/tidemark/benchmarks/load"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// options are what the flags say.
type options struct {
	sink, profile string
	heard, runs   int
	procs         int
	lateness      time.Duration
	intervals     []time.Duration // between checkpoints; the first is compared with
}

func main() {
	var o options
	seconds := flag.String("seconds", "300,900", "event time of one size, or of two for a slope, `a,b`; 900 are 10.4 million events")
	flag.StringVar(&o.sink, "sink", "none", "none, parquet, or null: read the topic and do nothing with it")
	drain := flag.String("drain", "", "be the null consumer of the topic at these `brokers`")
	flag.IntVar(&o.heard, "heard", 4, "events per result row")
	flag.IntVar(&o.runs, "runs", 3, "runs of each size; the median counts")
	flag.IntVar(&o.procs, "procs", 1, "GOMAXPROCS of the engine")
	flag.DurationVar(&o.lateness, "lateness", 300*time.Second, "allowed lateness: it decides how many windows are open")
	intervals := flag.String("checkpoint", "1h", "time between checkpoints; of several, `1h,10s`, each is run and compared with the first")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the last run to this `file`")
	flag.Parse()
	if *drain != "" {
		if err := consume(*drain); err != nil {
			fmt.Fprintln(os.Stderr, "w1:", err)
			os.Exit(1)
		}
		return
	}
	for _, text := range strings.Split(*intervals, ",") {
		d, err := time.ParseDuration(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, "w1: -checkpoint:", err)
			os.Exit(2)
		}
		o.intervals = append(o.intervals, d)
	}
	if err := o.run(*seconds); err != nil {
		fmt.Fprintln(os.Stderr, "w1:", err)
		os.Exit(1)
	}
}

// result is one run of the engine.
type result struct {
	events           int64
	cpu, wall        time.Duration
	mallocs, peakMiB int64
	checkpoints      string // how many, their longest pause, and what was open
}

func (o options) run(sizes string) error {
	dir, err := os.MkdirTemp("", "w1")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	bin := filepath.Join(dir, "tidemark")
	if out, err := exec.Command("go", "build", "-o", bin, "./cmd/runner").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	var medians []result
	for _, s := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-seconds %q: want one or two numbers", sizes)
		}
		cfg := gen.Default()
		cfg.Seconds, cfg.Heard = n, o.heard
		med, err := o.size(cfg, bin, dir)
		if err != nil {
			return err
		}
		medians = append(medians, med)
	}
	if len(medians) < 2 {
		return nil
	}
	a, b := medians[0], medians[len(medians)-1]
	slope := (b.cpu - a.cpu).Seconds() / (float64(b.events-a.events) / 1e6)
	allocs := float64(b.mallocs-a.mallocs) / float64(b.events-a.events)
	fmt.Printf("W1 sink=%s r=%d GOMAXPROCS=%d: %.3f CPU-s per million events (slope %d to %d events), %.3f allocations per event\n",
		o.sink, o.heard, o.procs, slope, a.events, b.events, allocs)
	return nil
}

// size runs one load with each interval in turn and returns the median with the first.
func (o options) size(cfg gen.Config, bin, dir string) (result, error) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "ble"))
	if err != nil {
		return result{}, err
	}
	defer broker.Close()
	want := cfg.Expect()
	if err := load.Topic(cfg, broker.ListenAddrs(), "ble", func(gen.Event) int { return -1 }); err != nil {
		return result{}, fmt.Errorf("load: %w", err)
	}
	all := make([][]result, len(o.intervals))
	for i := range o.runs {
		for k, every := range o.intervals {
			r, err := o.engine(bin, dir, broker.ListenAddrs(), every, want)
			if err != nil {
				return result{}, err
			}
			all[k] = append(all[k], r)
			fmt.Printf("  %d events, run %d, checkpoint every %v: %.2f CPU-s, %.2f s wall, %.3f us/event, %.3f allocations/event, %d MiB; %s\n",
				r.events, i+1, every, r.cpu.Seconds(), r.wall.Seconds(), r.cpu.Seconds()*1e6/float64(r.events), float64(r.mallocs)/float64(r.events), r.peakMiB, r.checkpoints)
		}
	}
	for k := range all {
		slices.SortFunc(all[k], func(a, b result) int { return int(a.cpu - b.cpu) })
		if med := all[k][len(all[k])/2]; k > 0 {
			base := all[0][len(all[0])/2]
			fmt.Printf("checkpoint every %v: %.1f %% more CPU than every %v (medians)\n", o.intervals[k],
				100*(med.cpu.Seconds()/base.cpu.Seconds()-1), o.intervals[0])
		}
	}
	return all[0][len(all[0])/2], nil
}

var (
	rowsLine = regexp.MustCompile(`rows in (\d+) = aggregated (\d+) \+ late (\d+) \+ dead (\d+)`)
	used     = regexp.MustCompile(`peak memory (\d+) MiB, allocations (\d+)`)
	stood    = regexp.MustCompile(`\d+ checkpoints, .*`)
)

func (o options) engine(bin, dir string, brokers []string, every time.Duration, want gen.Totals) (result, error) {
	if o.sink == "null" {
		self, err := os.Executable()
		if err != nil {
			return result{}, err
		}
		return measure(exec.Command(self, "-drain", strings.Join(brokers, ",")), o.procs, want)
	}
	out, err := os.MkdirTemp(dir, "run")
	if err != nil {
		return result{}, err
	}
	sinks := "[]"
	if o.sink == "parquet" {
		sinks = fmt.Sprintf("[{parquet: {dir: %q, partition_by: none}}]", filepath.Join(out, "out"))
	}
	job := fmt.Sprintf(`job: w1
feed: ble
source: {kafka: {brokers: [%q], topic: ble, bounded: true}}
fields:
  asset_id: $.device_id
  ts_event: $.ts
  gateway_id: $.gw
  rssi_dbm: $.rssi
  battery_mv: $.battery
  temp_c: $.temp
event_time: {max_disorder: 120s, quiet_after: never}
window:
  tumbling: 10s
  lateness: %s
  trigger: on_close
  aggregates:
    - {fn: count, as: count}
    - {fn: sum, column: rssi_dbm, as: sum}
    - {fn: min, column: rssi_dbm, as: min}
    - {fn: max, column: rssi_dbm, as: max}
    - {fn: last, column: rssi_dbm, as: last}
normalize: {to: none}
sinks: %s
checkpoint: {dir: %q, interval: %s}
http: {listen: ""}
parallelism: {shards: 1, decoders: 1}
`, strings.Join(brokers, ","), o.lateness, sinks, filepath.Join(out, "state"), every)
	file := filepath.Join(out, "job.yaml")
	if err := os.WriteFile(file, []byte(job), 0o644); err != nil {
		return result{}, err
	}
	args := []string{"run", "-f", file, "--stats"}
	if o.profile != "" {
		args = append(args, "--cpuprofile", o.profile)
	}
	r, err := measure(exec.Command(bin, args...), o.procs, want)
	if err == nil && o.sink == "parquet" {
		err = compare(filepath.Join(out, "out", "w1"), want)
	}
	return r, errors.Join(err, os.RemoveAll(out))
}

// compare reads every row that the engine published and wants the generator's totals.
func compare(dir string, want gen.Totals) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		return err
	}
	got := gen.Totals{Events: want.Events, Behind: want.Behind, FarBehind: want.FarBehind, Closable: want.Closable}
	for _, f := range files {
		rows, err := pq.ReadFile[struct {
			Count int64 `parquet:"count"`
			Sum   int64 `parquet:"sum,optional"`
			Min   int64 `parquet:"min,optional"`
			Max   int64 `parquet:"max,optional"`
		}](f)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		for _, r := range rows {
			got.Rows++
			got.Count += r.Count
			got.Sum += r.Sum
			got.Min += r.Min
			got.Max += r.Max
		}
	}
	if got != want {
		return fmt.Errorf("results differ from the generator's: %+v, want %+v", got, want)
	}
	return nil
}

// measure runs a process that says how many rows it took, and what it cost.
func measure(cmd *exec.Cmd, procs int, want gen.Totals) (result, error) {
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(procs))
	began := time.Now()
	b, err := cmd.CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("engine: %w\n%s", err, b)
	}
	r := result{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	m := rowsLine.FindSubmatch(b)
	if m == nil {
		return result{}, fmt.Errorf("engine said nothing of its rows:\n%s", b)
	}
	n := func(i int) int64 { v, _ := strconv.ParseInt(string(m[i]), 10, 64); return v }
	if r.events = n(1); n(1) != want.Events || n(2) != want.Events {
		return result{}, fmt.Errorf("engine: %s; the generator made %d, none of them late", m[0], want.Events)
	}
	if a := used.FindSubmatch(b); a != nil {
		r.peakMiB, _ = strconv.ParseInt(string(a[1]), 10, 64)
		r.mallocs, _ = strconv.ParseInt(string(a[2]), 10, 64)
	}
	r.checkpoints = string(stood.Find(b))
	return r, nil
}

// consume is the null consumer: it reads the topic to its end and counts.
func consume(brokers string) error {
	cfg := source.DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.Bounded = strings.Split(brokers, ","), "ble", true
	ctx := context.Background()
	src, err := source.Open(ctx, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // the process ends
	n := 0
	for {
		ev, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if ev.Wire != nil {
			n += ev.Wire.Len()
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("rows in %d = aggregated %d + late 0 + dead 0\npeak memory 0 MiB, allocations %d\n", n, n, m.Mallocs)
	return nil
}

// Command replay measures a replay of a topic whose partitions differ in size, 50, 20, 10, 8,
// 5, 4, 3 and 0 % of the events, beside the load W1 itself, which has them evenly: the same
// windows, the same sink, one after the other in one run. It then kills a replay twice with
// SIGKILL, lets it go on, and compares the rows of all.
//
//	go run ./benchmarks/replay -events 20000000
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"
	pq "github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/benchmarks/gen"
	"github.com/tidemark/tidemark/benchmarks/load"
)

// shares are the parts of the partitions, in per cent.
var shares = []uint64{50, 20, 10, 8, 5, 4, 3, 0}

func main() {
	events := flag.Int("events", 20_000_000, "events of the load, about")
	runs := flag.Int("runs", 3, "runs of job and replay, in turn; medians count")
	flag.Parse()
	if err := measure(*events, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// rig is a broker with both topics, and the program.
type rig struct {
	dir, bin, broker string
	cfg              gen.Config
}

func measure(events, runs int) error {
	dir, err := os.MkdirTemp("", "replay")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	r := rig{dir: dir, bin: filepath.Join(dir, "tidemark"), cfg: gen.Default()}
	if out, err := exec.Command("go", "build", "-o", r.bin, "./cmd/runner").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	r.cfg.Seconds = max(1, events/r.cfg.Rate)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(int32(len(shares)), "even", "uneven"))
	if err != nil {
		return err
	}
	defer broker.Close()
	r.broker = broker.ListenAddrs()[0]
	for topic, partition := range map[string]func(gen.Event) int{"even": even, "uneven": uneven} {
		if err := load.Topic(r.cfg, []string{r.broker}, topic, partition); err != nil {
			return fmt.Errorf("load %s: %w", topic, err)
		}
	}
	return r.compare(runs)
}

// compare runs job and replay in turn and says what came of it.
func (r rig) compare(runs int) error {
	var live, replayed []outcome
	for i := range runs {
		l, err := r.run("even", i)
		if err != nil {
			return err
		}
		p, err := r.replay(i)
		if err != nil {
			return err
		}
		fmt.Printf("run %d: W1 %s; replay %s\n", i+1, l, p)
		if l.hash != p.hash || l.rows == 0 {
			return fmt.Errorf("the rows of job and replay differ: %d with hash %016x, %d with hash %016x", l.rows, l.hash, p.rows, p.hash)
		}
		live, replayed = append(live, l), append(replayed, p)
	}
	l, p := median(live), median(replayed)
	killed, err := r.replay(runs, p.wall/4, p.wall/3)
	if err != nil {
		return err
	}
	fmt.Printf("replay of %d events from partitions of %v %%: %.0f %% of the speed of W1 (medians of %d), open windows %.2f of W1, late rows %d\n",
		p.events, shares, 100*p.speed()/l.speed(), runs, float64(p.open)/float64(l.open), p.late)
	fmt.Printf("job, replay and a replay killed twice have the same %d rows: hash %016x\n", killed.rows, killed.hash)
	var errs []error
	if killed.hash != l.hash || killed.rows != l.rows {
		errs = append(errs, fmt.Errorf("the replay that was killed has %d rows with hash %016x, the job %d with %016x", killed.rows, killed.hash, l.rows, l.hash))
	}
	if p.speed() < 0.8*l.speed() {
		errs = append(errs, errors.New("the replay is slower than 80 % of W1"))
	}
	if float64(p.open) > 1.5*float64(l.open) {
		errs = append(errs, errors.New("the replay holds more than 1.5 times the windows of W1"))
	}
	if p.late != 0 {
		errs = append(errs, errors.New("rows are late that are not in the job"))
	}
	return errors.Join(errs...)
}

func median(all []outcome) outcome {
	slices.SortFunc(all, func(a, b outcome) int { return int(a.wall - b.wall) })
	return all[len(all)/2]
}

// outcome is what a process did.
type outcome struct {
	events, late, open, peakMiB int64
	wall                        time.Duration
	rows                        int
	hash                        uint64
}

func (o outcome) speed() float64 { return float64(o.events) / o.wall.Seconds() }

func (o outcome) String() string {
	return fmt.Sprintf("%d events in %.2f s (%.0f/s), %d open windows at most, %d MiB, %d late", o.events, o.wall.Seconds(), o.speed(), o.open, o.peakMiB, o.late)
}

// job writes a job file for a topic and returns its name, and the folder of its results.
func (r rig) job(topic string, n int) (file, out string, err error) {
	at := filepath.Join(r.dir, fmt.Sprintf("%s-%d", topic, n))
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", "", err
	}
	text := fmt.Sprintf(`job: w1
feed: ble
source: {kafka: {brokers: [%q], topic: %s, bounded: true}}
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
  lateness: 300s
  trigger: on_close
  aggregates:
    - {fn: count, as: count}
    - {fn: sum, column: rssi_dbm, as: sum}
    - {fn: min, column: rssi_dbm, as: min}
    - {fn: max, column: rssi_dbm, as: max}
normalize: {to: none}
sinks: [{parquet: {dir: %q, partition_by: hour}}]
checkpoint: {dir: %q, interval: 500ms}
http: {listen: ""}
parallelism: {shards: 1, decoders: 1}
`, r.broker, topic, filepath.Join(at, "out"), filepath.Join(at, "state"))
	file = filepath.Join(at, "job.yaml")
	return file, filepath.Join(at, "out"), os.WriteFile(file, []byte(text), 0o644)
}

func (r rig) run(topic string, n int) (outcome, error) {
	file, out, err := r.job(topic, n)
	if err != nil {
		return outcome{}, err
	}
	o, err := r.program("run", "-f", file, "--stats")
	if err != nil {
		return o, err
	}
	o.rows, o.hash, err = hash(filepath.Join(out, "w1"))
	return o, errors.Join(err, os.RemoveAll(out))
}

// replay replays all of the uneven topic. Before that it begins and kills it, after as long as
// each of kills.
func (r rig) replay(n int, kills ...time.Duration) (outcome, error) {
	file, out, err := r.job("uneven", n)
	if err != nil {
		return outcome{}, err
	}
	from := time.UnixMilli(r.cfg.Start).UTC()
	to := from.Add(time.Duration(r.cfg.Seconds+10) * time.Second).Truncate(10 * time.Second)
	args := []string{"replay", "-f", file, "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339), "--stats"}
	for _, after := range kills {
		cmd := exec.Command(r.bin, args...)
		if err := cmd.Start(); err != nil {
			return outcome{}, err
		}
		time.Sleep(after)
		err := cmd.Process.Signal(syscall.SIGKILL)
		if werr := cmd.Wait(); err != nil || werr == nil {
			return outcome{}, fmt.Errorf("the replay ended before it was killed: take more events (%v)", err)
		}
	}
	o, err := r.program(args...)
	if err != nil {
		return o, err
	}
	o.rows, o.hash, err = hash(filepath.Join(out, "w1_replays"))
	return o, errors.Join(err, os.RemoveAll(out))
}

var (
	rowsLine = regexp.MustCompile(`rows in (\d+) = aggregated \d+ \+ late (\d+)`)
	openLine = regexp.MustCompile(`at most (\d+) open windows`)
	peakLine = regexp.MustCompile(`peak memory (\d+) MiB`)
)

// program runs the program on one core.
func (r rig) program(args ...string) (outcome, error) {
	cmd := exec.Command(r.bin, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	began := time.Now()
	b, err := cmd.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("%v: %w\n%s", args, err, b)
	}
	o := outcome{wall: time.Since(began)}
	for _, f := range []struct {
		line *regexp.Regexp
		to   []*int64
	}{{rowsLine, []*int64{&o.events, &o.late}}, {openLine, []*int64{&o.open}}, {peakLine, []*int64{&o.peakMiB}}} {
		m := f.line.FindSubmatch(b)
		if m == nil {
			return o, fmt.Errorf("%v said nothing like %s:\n%s", args, f.line, b)
		}
		for i, to := range f.to {
			if *to, err = strconv.ParseInt(string(m[i+1]), 10, 64); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// hash adds up hashes of all rows below a folder.
func hash(dir string) (rows int, sum uint64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".parquet" {
			return err
		}
		read, err := pq.ReadFile[struct {
			Asset string `parquet:"asset_id"`
			Start int64  `parquet:"window_start"`
			End   int64  `parquet:"window_end"`
			Count int64  `parquet:"count"`
			Sum   int64  `parquet:"sum,optional"`
			Min   int64  `parquet:"min,optional"`
			Max   int64  `parquet:"max,optional"`
		}](path)
		for _, r := range read {
			rows++
			sum += xxhash.Sum64(fmt.Appendf(nil, "%s %d %d %d %d %d %d", r.Asset, r.Start, r.End, r.Count, r.Sum, r.Min, r.Max))
		}
		return err
	})
	return rows, sum, err
}

// even and uneven are the partitions of events. A device is always in one.
func even(e gen.Event) int { return int(e.Device) % len(shares) }

func uneven(e gen.Event) int {
	n := xxhash.Sum64String(strconv.Itoa(int(e.Device))) % 100
	for p, share := range shares {
		if n < share {
			return p
		}
		n -= share
	}
	panic("shares of " + strings.Trim(fmt.Sprint(shares), "[]") + " are no hundred")
}

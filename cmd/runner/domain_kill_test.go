package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

const domainJob = `job: %s
feed: %s
source: {kafka: {brokers: [%q], topic: %[1]s, bounded: %[4]v, fetch_max_bytes: 65536, max_batch_bytes: 16384}}
event_time: {max_disorder: 30s, quiet_after: never}
%[5]snormalize: {to: none}
sinks: [{parquet: {dir: %[6]s, partition_by: hour}}]
checkpoint: {dir: state-%[6]s, interval: 40ms}
http: {listen: ""}
`

// TestDomainsKilled kills the jobs of the demo's domains with SIGKILL in the middle of their
// work. What they have said in the end, in all their tables, is what a job says that nobody
// kills and that shares its work out in another way.
func TestDomainsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	kills := 4
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		kills = 60
	}
	survived, noticed := 0, 0
	for _, f := range demoFeeds()[3:] {
		t.Run(f.job, func(t *testing.T) {
			k := newDomainKill(t, f, 1500*kills)
			k.run(kills)
			survived += kills
			noticed += k.control()
		})
	}
	t.Logf("scoreboard: kills=%d negative_controls_failed=%d", survived, noticed)
}

// domainKill is a job of a domain and its input.
type domainKill struct {
	t        *testing.T
	feed     demoFeed
	dir      string
	brokers  []string
	messages []kafka.Record
	tables   map[string][]string // names of columns, by table
}

func newDomainKill(t *testing.T, f demoFeed, rows int) *domainKill {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, f.job))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	k := &domainKill{t: t, feed: f, dir: t.TempDir(), brokers: broker.ListenAddrs(), tables: map[string][]string{}}
	start := time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)
	d := &demo{dir: k.dir, start: start}
	if err := d.writeFiles(); err != nil {
		t.Fatal(err)
	}
	next, err := f.events(7, start, f.how)
	if err != nil {
		t.Fatal(err)
	}
	for m := newTelemetry(7, f.how, next); len(k.messages) < rows; {
		r, _ := m.Next() // it has no end
		k.messages = append(k.messages, kafka.Record{Key: r.Key, Value: wrongClock(r.Value), Time: r.Arrive, Partition: -1})
	}
	cfg, err := parseConfig("job.yaml", []byte(k.job(true, "once", "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range cfg.domain().tables {
		name := f.job
		if table.suffix != "" {
			name = table.name(name)
		}
		for _, c := range table.schema.Fields() {
			if !strings.HasPrefix(c.Name, "_tm_") && c.Type.ID() != arrow.LIST {
				k.tables[name] = append(k.tables[name], c.Name)
			}
		}
	}
	return k
}

var aheadTruck = regexp.MustCompile(`"gateway_id":"truck-1","ts_event":[0-9]+`)

// wrongClock makes the clock of one truck's gateway run ahead by nine minutes.
func wrongClock(value []byte) []byte {
	return aheadTruck.ReplaceAllFunc(value, func(b []byte) []byte {
		at := bytes.LastIndexByte(b, ':') + 1
		ms, _ := strconv.ParseInt(string(b[at:]), 10, 64) // digits
		return strconv.AppendInt(b[:at:at], ms+(9*time.Minute).Milliseconds(), 10)
	})
}

// job is the job file of a run whose output is in a folder of its own.
func (k *domainKill) job(bounded bool, out, more string) string {
	return fmt.Sprintf(domainJob, k.feed.job, k.feed.feed, k.brokers[0], bounded, strings.ReplaceAll(k.feed.settings, "DIR", k.dir), out) + more
}

func (k *domainKill) write(bounded bool, out, more string) string {
	file := filepath.Join(k.dir, fmt.Sprintf("%s-%v.yaml", out, bounded))
	if err := os.WriteFile(file, []byte(k.job(bounded, out, more)), 0o644); err != nil {
		k.t.Fatal(err)
	}
	return file
}

// feedAll sends the input, in parts of which each waits for ready.
func (k *domainKill) feedAll(ctx context.Context, parts int, ready func() bool) error {
	conn := source.DefaultConnection()
	conn.Brokers = k.brokers
	tr, err := conn.Transport()
	if err != nil {
		return err
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers = k.brokers
	prod, err := kafka.New(cfg, tr)
	if err != nil {
		return err
	}
	defer prod.Close()
	for part := range slices.Chunk(k.messages, (len(k.messages)+parts-1)/parts) {
		if !ready() {
			return nil
		}
		if err := prod.Produce(ctx, k.feed.job, part); err != nil {
			return err
		}
	}
	return nil
}

// run kills the job while its input comes, and compares.
func (k *domainKill) run(kills int) {
	t := k.t
	file, rng := k.write(false, "killed", ""), rand.New(rand.NewPCG(1, 1))
	fed := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		fed <- k.feedAll(ctx, 12*kills, func() bool {
			select {
			case <-time.After(40 * time.Millisecond):
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	for n := range kills {
		var out bytes.Buffer
		p := program(ctx, k.dir, "run", "-f", file)
		p.Stdout, p.Stderr = &out, &out
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(300+rng.IntN(300)) * time.Millisecond)
		if err := p.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("kill %d: the program ended by itself: %v\n%s", n, err, out.String())
		}
	}
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	k.finish("killed", "")
	k.finish("once", "parallelism: {decoders: 3}\n")
	for table, columns := range k.tables {
		got, want := k.rows("killed", table, columns), k.rows("once", table, columns)
		if d := diffLines(got, want); d != "" {
			t.Errorf("table %s: %s", table, d)
		}
		t.Logf("table %s: %d rows", table, len(want))
		if table == "cages" && !slices.ContainsFunc(want, func(row string) bool { return strings.Contains(row, "corrected") }) {
			t.Error("no event rests on a clock that was corrected: the test proves nothing of clocks")
		}
	}
}

// finish runs the job to the end of its input.
func (k *domainKill) finish(out, more string) {
	k.t.Helper()
	said, err := program(k.t.Context(), k.dir, "run", "-f", k.write(true, out, more)).CombinedOutput()
	if err != nil {
		k.t.Fatalf("%v: %s", err, said)
	}
	if want := fmt.Sprintf("rows in %d =", len(k.messages)); !bytes.Contains(said, []byte(want)) {
		k.t.Errorf("the job %s says %s, want %s", out, said, want)
	}
}

func (k *domainKill) rows(out, table string, columns []string) []string {
	k.t.Helper()
	lines, err := tableRows(filepath.Join(k.dir, out, table), columns)
	if err != nil {
		k.t.Fatal(err)
	}
	return lines
}

// control takes the state away from a job that is stopped half-way: it has to be noticed. It
// returns in how many of its tables it was.
func (k *domainKill) control() int {
	t := k.t
	half := *k
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, k.feed.job))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	half.brokers, half.messages = broker.ListenAddrs(), k.messages[:len(k.messages)/2]
	if err := half.feedAll(t.Context(), 1, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	half.finish("control", "")
	half.messages = k.messages[len(k.messages)/2:]
	if err := half.feedAll(t.Context(), 1, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	half.messages = k.messages
	if err := os.RemoveAll(filepath.Join(k.dir, "state-control")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(k.dir, "control"), filepath.Join(k.dir, "before")); err != nil {
		t.Fatal(err)
	}
	half.finish("control", "")
	for table, columns := range k.tables {
		both := append(k.rows("before", table, columns), k.rows("control", table, columns)...)
		slices.Sort(both)
		if diffLines(both, k.rows("once", table, columns)) != "" {
			return 1
		}
	}
	t.Error("a job that began again was not noticed")
	return 0
}

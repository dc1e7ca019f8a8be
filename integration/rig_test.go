package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark/tidemark/integration/peers"
	sink "github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// rig is what all tests share: a broker, an engine and the binary.
type rig struct {
	kafka      *peers.Kafka
	clickhouse *peers.ClickHouse
	bin        string
}

var shared struct {
	dir string
	rig func() (*rig, error)
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tidemark-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var r rig
	shared.dir = dir
	shared.rig = sync.OnceValues(func() (*rig, error) { return &r, r.start(context.Background()) })
	code := m.Run()
	if err := r.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func (r *rig) start(ctx context.Context) error {
	r.bin = filepath.Join(shared.dir, "tidemark")
	if err := peers.Build(r.bin, "..", "./cmd/runner"); err != nil {
		return err
	}
	for _, d := range []string{"kafka", "clickhouse"} {
		if err := os.Mkdir(filepath.Join(shared.dir, d), 0o755); err != nil {
			return err
		}
	}
	var err error
	if r.clickhouse, err = peers.StartClickHouse(ctx, filepath.Join(shared.dir, "clickhouse")); err != nil {
		return err
	}
	r.kafka, err = peers.StartKafka(ctx, filepath.Join(shared.dir, "kafka"))
	return err
}

func (r *rig) stop() error {
	var err error
	if r.kafka != nil {
		err = errors.Join(err, r.kafka.Stop())
	}
	if r.clickhouse != nil {
		err = errors.Join(err, r.clickhouse.Stop())
	}
	return err
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r, err := shared.rig()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("broker:\n%s\nengine:\n%s", r.kafka.Log(), r.clickhouse.Log())
		}
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dataFile returns the path of a data file.
func dataFile(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("TIDEMARK_SHARED")
	if dir == "" {
		dir = "../../shared" // beside the repository
	}
	path, err := filepath.Abs(filepath.Join(dir, "data", name))
	must(t, err)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("absent: %s", name)
		}
		t.Skipf("absent: %s", name)
	}
	return path
}

// process is a run of the binary.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	ended          chan error
}

// begin starts the binary. It ends with the test, however that ends.
func (r *rig) begin(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(r.bin, args...), ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the death signal comes with the end of the thread
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.ended <- p.cmd.Wait()
		}
	}()
	must(t, <-started)
	t.Cleanup(func() { p.cmd.Process.Kill() }) //nolint:errcheck // it has ended, as a rule
	return p
}

// processLimit bounds a run that is waited for.
const processLimit = 2 * time.Minute

// wait waits until the process has ended well and returns what it printed.
func (p *process) wait(t *testing.T) string {
	t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", strings.Join(p.cmd.Args[1:], " "), err, p.stdout.String(), p.stderr.String())
		}
	case <-time.After(processLimit):
		p.kill(t)
		t.Fatalf("%s: still running after %v\n%s%s", strings.Join(p.cmd.Args[1:], " "), processLimit, p.stdout.String(), p.stderr.String())
	}
	return p.stdout.String()
}

// kill ends the process with SIGKILL. One that has ended before is a failure.
func (p *process) kill(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		t.Fatalf("%s ended before it was killed: %v\n%s%s", strings.Join(p.cmd.Args[1:], " "), err, p.stdout.String(), p.stderr.String())
	default:
	}
	must(t, p.cmd.Process.Kill())
	<-p.ended
}

// stop asks the process to stop and waits.
func (p *process) stop(t *testing.T) string {
	t.Helper()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	return p.wait(t)
}

// tidemark runs the binary to its end.
func (r *rig) tidemark(t *testing.T, args ...string) string {
	t.Helper()
	return r.begin(t, args...).wait(t)
}

// produceArgs sends a file to a topic.
func (r *rig) produceArgs(topic, csv string, more ...string) []string {
	return append([]string{"produce", "--brokers", r.kafka.Addr(), "--topic", topic, "--csv", csv}, more...)
}

// createTopic makes a topic ahead of its producer, which runs beside the job.
func (r *rig) createTopic(t *testing.T, name string, config map[string]string) {
	t.Helper()
	conn := source.DefaultConnection()
	conn.Brokers = []string{r.kafka.Addr()}
	tr, err := conn.Transport()
	must(t, err)
	cfg := sink.DefaultConfig()
	cfg.Brokers = conn.Brokers
	p, err := sink.New(cfg, tr)
	must(t, err)
	defer p.Close()
	must(t, p.CreateTopic(t.Context(), name, partitionsOfTopic, config))
}

// partitionsOfTopic is what produce makes when nobody says otherwise.
const partitionsOfTopic = 4

// job is a job file and where its results go: a folder of Parquet files and a database of
// its own.
type job struct {
	db      string // database, and the name of the table of results
	dir     string
	file    string
	bounded string // the same job with bounded: true
	row     string // what a version of a result is known by
}

// newJob writes the job files. key names the key column, text has what else differs from
// job to job.
func (r *rig) newJob(t *testing.T, name, topic, key, text string) job {
	t.Helper()
	j := job{db: strings.ReplaceAll(name, "-", "_"), dir: t.TempDir(), row: key + ", window_start, _tm_ver"}
	if strings.Contains(text, "to: ocsf") {
		j.row = "metadata.uid, _tm_ver"
	}
	if _, err := r.clickhouse.Query(t.Context(), "CREATE DATABASE "+j.db); err != nil {
		t.Fatal(err)
	}
	write := func(file string, bounded bool) string {
		path := filepath.Join(j.dir, file)
		must(t, os.WriteFile(path, fmt.Appendf(nil, `job: %s
source:
  kafka: {brokers: [%s], topic: %s, bounded: %v, stall_after: 5s}
%s
sinks:
  - parquet: {dir: %q, partition_by: day}
  - clickhouse: {url: %q, database: %s, attempt_timeout: 3s}
checkpoint: {dir: %q, interval: 200ms}
http: {listen: ""}
parallelism: {shards: 2, decoders: 2}
`, name, r.kafka.Addr(), topic, bounded, text, filepath.Join(j.dir, "out"), r.clickhouse.URL(), j.db, filepath.Join(j.dir, "state")), 0o644))
		return path
	}
	j.file, j.bounded = write("job.yaml", false), write("bounded.yaml", true)
	// Made ahead and never merged: merges would hide rows that are there twice.
	for _, s := range strings.Split(r.tidemark(t, "ddl", "-f", j.file), ";\n") {
		if strings.TrimSpace(s) != "" {
			_, err := r.clickhouse.Query(t.Context(), s)
			must(t, err)
		}
	}
	for _, table := range j.tables() {
		_, err := r.clickhouse.Query(t.Context(), "ALTER TABLE "+j.db+"."+table+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
		must(t, err)
	}
	return j
}

func (j job) tables() []string { return []string{j.db, j.db + "_late", j.db + "_dead"} }

// place is where results are read: table functions over files, or tables.
type place struct {
	name  string
	table func(name string) string
}

// places returns the Parquet files and the tables of a job.
func (j job) places() []place {
	return []place{
		{"parquet", func(name string) string {
			glob := filepath.Join(j.dir, "out", name, "**", "*.parquet")
			if found, err := filepath.Glob(filepath.Join(j.dir, "out", name, "*", "*.parquet")); err != nil || len(found) == 0 {
				return "" // no rows, no file
			}
			return fmt.Sprintf("file('%s', Parquet)", glob)
		}},
		{"clickhouse", func(name string) string { return j.db + "." + name }},
	}
}

// lines runs a query whose FROM is a table of a place. A table that has no files has no
// lines.
func (r *rig) lines(t *testing.T, p place, table, query string) []string {
	t.Helper()
	from := p.table(table)
	if from == "" {
		return nil
	}
	out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf(query, from))
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return strings.Split(out, "\n")[:strings.Count(out, "\n")]
}

// physical fails when a row is there twice.
func (r *rig) physical(t *testing.T, j job) {
	t.Helper()
	merged, err := r.clickhouse.Query(t.Context(), "SELECT count() FROM system.parts WHERE database = '"+j.db+"' AND table != 'tm_commits' AND active AND min_block_number != max_block_number")
	must(t, err)
	if merged != "0\n" {
		t.Errorf("%s parts of %s were merged, so nobody can tell whether rows were there twice", strings.TrimSpace(merged), j.db)
	}
	for _, problem := range r.twice(t, j) {
		t.Error(problem)
	}
}

// twice says in which tables of a job rows are there twice.
func (r *rig) twice(t *testing.T, j job) []string {
	t.Helper()
	var problems []string
	for _, p := range j.places() {
		for _, q := range []struct{ table, row string }{
			{j.db, j.row},
			{j.db + "_late", "_split, _offset"},
			{j.db + "_dead", "_split, _offset"},
		} {
			for _, l := range r.lines(t, p, q.table, "SELECT count() - uniqExact("+q.row+") FROM %s") {
				if l != "0" {
					problems = append(problems, fmt.Sprintf("%s: %s rows of %s are there twice", p.name, l, q.table))
				}
			}
		}
	}
	return problems
}

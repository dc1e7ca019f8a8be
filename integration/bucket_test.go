package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/integration/peers"
)

// bucketJob is a job whose files and checkpoints go to a dir. owner names the process that
// runs it.
func (r *rig) bucketJob(t *testing.T, owner, topic, dir, s3 string, bounded bool) string {
	t.Helper()
	name := "bucket"
	if s3 == "" {
		name = "local"
	}
	path := filepath.Join(t.TempDir(), "job.yaml")
	must(t, os.WriteFile(path, fmt.Appendf(nil, `job: %s
feed: ble
source:
  kafka: {brokers: [%s], topic: %s, bounded: %v, stall_after: 5s}
event_time: {max_disorder: 30s, quiet_after: never}
window: {tumbling: 10s, lateness: 1m, late_delay: 100ms}
normalize: {to: none}
sinks:
  - parquet: {dir: %q, partition_by: hour, table: t%s}
checkpoint: {dir: %q, interval: 200ms, owner: %s%s}
http: {listen: ""}
parallelism: {shards: 2, decoders: 2}
`, name, r.kafka.Addr(), topic, bounded, dir, s3, dir+"/state", owner, s3), 0o644))
	return path
}

// TestBucket: a job with its files in a bucket is killed, and so is the service of the bucket,
// while rows come in. In the end the bucket has the final rows of a job that wrote local files
// undisturbed, no version of a row twice, nothing staged, and a marker for every hour that
// counts the files and rows that are there.
func TestBucket(t *testing.T) {
	r := newRig(t)
	t.Setenv("AWS_ACCESS_KEY_ID", peers.S3User)
	t.Setenv("AWS_SECRET_ACCESS_KEY", peers.S3Secret)
	s3, err := peers.StartS3(t.Context(), t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("s3:\n%s", s3.Log())
		}
		if err := s3.Stop(); err != nil {
			t.Error(err)
		}
	})
	must(t, s3.MakeBucket("lake"))
	const topic = "ble-bucket"
	r.createTopic(t, topic, nil)
	s3Text := fmt.Sprintf(", s3: {endpoint: %q, path_style: true}", s3.Endpoint())
	live := r.bucketJob(t, "one", topic, "s3://lake/tide", s3Text, false)
	produce := r.begin(t, "produce", "--brokers", r.kafka.Addr(), "--topic", topic, "--feed", "ble", "--devices", "100", "--period", "10s",
		"--events", "60000", "--rate", "6000", "--disorder", "20s", "--late", "0.02", "--start", "2026-03-01T00:30:00Z", "--seed", "11")
	for i := range 4 {
		p := r.begin(t, "run", "-f", live)
		time.Sleep(time.Duration(1200+300*i) * time.Millisecond)
		if i%2 == 1 { // the job waits for it
			must(t, s3.Kill())
			time.Sleep(300 * time.Millisecond)
			must(t, s3.Start(t.Context()))
			time.Sleep(time.Second)
		}
		p.kill(t)
	}
	// Another process is refused while this one is alive, or takes the job over: then this one
	// stops.
	old := r.begin(t, "run", "-f", live)
	time.Sleep(1500 * time.Millisecond)
	other := r.bucketJob(t, "two", topic, "s3://lake/tide", s3Text, false)
	refused := r.begin(t, "run", "-f", other)
	if err := <-refused.ended; err == nil || !strings.Contains(refused.stderr.String(), "another process runs the job: one, and its lease lasts") {
		t.Errorf("a second process: %v\n%s", err, refused.stderr.String())
	}
	fresh := r.begin(t, "run", "-f", other, "--take-over")
	if err := <-old.ended; err == nil || !strings.Contains(old.stderr.String(), "another process has taken the job over: two") {
		t.Errorf("the process that was taken over: %v\n%s", err, old.stderr.String())
	}
	produce.wait(t)
	time.Sleep(5 * time.Second) // one that has yet to begin would keep its lease
	fresh.stop(t)
	bounded := r.bucketJob(t, "three", topic, "s3://lake/tide", s3Text, true)
	got := r.tidemark(t, "run", "-f", bounded)
	if said := r.tidemark(t, "checkpoint", "verify", "-f", bounded); !strings.Contains(said, "\na start would use checkpoint ") || strings.Contains(said, "CORRUPT") {
		t.Errorf("checkpoints in the bucket: %s", said)
	}
	if said := r.tidemark(t, "checkpoint", "ls", "-f", bounded, "--dir", "s3://lake/tide/state"); strings.Count(said, " newest ") != 1 || strings.Count(said, " manifest ok\n") < 1 {
		t.Errorf("checkpoints in the bucket: %s", said)
	}
	local := t.TempDir()
	want := r.tidemark(t, "run", "-f", r.bucketJob(t, "local", topic, local, "", true))
	if rowsIn(got) != rowsIn(want) || rowsIn(want) == "" {
		t.Errorf("the job in the bucket: %s\nthe local one: %s", got, want)
	}

	const final = "SELECT asset_id, window_start, argMax(count, _tm_ver), argMax(last_event_time, _tm_ver) FROM file('%s/t/**/*.parquet', Parquet) GROUP BY asset_id, window_start ORDER BY asset_id, window_start"
	lake := filepath.Join(s3.Folder("lake"), "tide")
	query := func(text, dir string) string {
		out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf(text, dir))
		must(t, err)
		return out
	}
	bucketRows, localRows := query(final, lake), query(final, local)
	if bucketRows != localRows || strings.Count(localRows, "\n") < 5000 {
		t.Errorf("the bucket has %d final rows, the local job %d, or they differ", strings.Count(bucketRows, "\n"), strings.Count(localRows, "\n"))
	}
	if staged, err := filepath.Glob(filepath.Join(lake, "_tidemark/staging/*/*/*/*")); err != nil || len(staged) > 0 {
		t.Errorf("staged: %v %v", staged, err)
	}
	if problems := r.bucketProblems(t, lake); len(problems) > 0 {
		t.Error(problems)
	}
	// The checks see a file that was published twice.
	files, err := filepath.Glob(filepath.Join(lake, "t/dt=*/hour=*/*.parquet"))
	must(t, err)
	b, err := os.ReadFile(files[0])
	must(t, err)
	must(t, os.WriteFile(strings.TrimSuffix(files[0], ".parquet")+"-again.parquet", b, 0o644))
	if problems := r.bucketProblems(t, lake); len(problems) != 2 {
		t.Errorf("a file that is there twice: %q", problems)
	}
}

// bucketProblems says what is wrong with the files of a table: versions of rows that are there
// twice, and hours whose marker counts other files or rows than there are.
func (r *rig) bucketProblems(t *testing.T, lake string) []string {
	t.Helper()
	count := func(query string, args ...any) int64 {
		out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf(query, args...))
		must(t, err)
		n, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		must(t, err)
		return n
	}
	var problems []string
	if n := count("SELECT count() - uniqExact(asset_id, window_start, _tm_ver) FROM file('%s/t/**/*.parquet', Parquet)", lake); n != 0 {
		problems = append(problems, fmt.Sprintf("%d rows are there twice", n))
	}
	hours, err := filepath.Glob(filepath.Join(lake, "t/dt=*/hour=*"))
	must(t, err)
	if len(hours) < 2 {
		t.Fatalf("hours: %v", hours)
	}
	for _, dir := range hours {
		b, err := os.ReadFile(filepath.Join(dir, "_SUCCESS"))
		must(t, err)
		var marker struct{ Revision, Files, Rows int64 }
		must(t, json.Unmarshal(b, &marker))
		files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
		must(t, err)
		if rows := count("SELECT count() FROM file('%s/*.parquet', Parquet)", dir); marker.Revision != 1 || marker.Files != int64(len(files)) || marker.Rows != rows {
			problems = append(problems, fmt.Sprintf("%s: marker %s for %d files with %d rows", dir, b, len(files), rows))
		}
	}
	return problems
}

// rowsIn returns the line of a summary that counts rows.
func rowsIn(summary string) string {
	for line := range strings.Lines(summary) {
		if strings.HasPrefix(line, "rows in") {
			return line
		}
	}
	return ""
}

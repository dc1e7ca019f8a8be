package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

var (
	goldenBinary  = flag.String("golden-binary", "", "make a golden checkpoint with this program")
	goldenVersion = flag.String("golden-version", "", "the name of its version")
)

// goldenJobs are the jobs whose checkpoints are kept. Windows are open, some have fired, one
// with a row behind its end that waits; sessions are open.
var goldenJobs = map[string]string{
	"windows": `job: windows
feed: ble
source: {kafka: {brokers: [$BROKER], topic: t, group: g}}
event_time: {max_disorder: 5s}
dedupe: {columns: [asset_id, rssi_dbm], within: 1m}
window:
  hopping: {size: 20s, slide: 10s}
  lateness: 30s
  late_delay: 1h
  aggregates: [{fn: count, as: count}, {fn: min, column: rssi_dbm, as: lowest}, {fn: mean, column: rssi_dbm, as: middle}]
normalize: {to: none}
sinks: [{parquet: {dir: out}}]
checkpoint: {dir: state, interval: 50ms, keep: 1}
http: {listen: ""}
`,
	"sessions": `job: sessions
feed: ble
source: {kafka: {brokers: [$BROKER], topic: t, group: g}}
event_time: {max_disorder: 5s}
window:
  session: {gap: 15s}
  lateness: 30s
  trigger: on_close
  aggregates: [{fn: count, as: count}, {fn: min, column: rssi_dbm, as: lowest}, {fn: mean, column: rssi_dbm, as: middle}]
normalize: {to: none}
sinks: [{parquet: {dir: out}}]
checkpoint: {dir: state, interval: 50ms, keep: 1}
http: {listen: ""}
`,
	"cages": `job: cages
feed: ble
source: {kafka: {brokers: [$BROKER], topic: t, group: g}}
event_time: {max_disorder: 5s}
assets: {bottom: {time: 10s}}
normalize: {to: none}
sinks: [{parquet: {dir: out}}]
checkpoint: {dir: state, interval: 50ms, keep: 1}
http: {listen: ""}
`,
}

// goldenRefused are those that this version cannot go on from, with what it says then.
var goldenRefused = map[string]string{
	// The columns of its accumulators lie in another order, before there was one place for it.
	"first-windows": "checkpoint 2 was written by an older version, which may be the reason: go back to that version, which can read it, or start a new lineage with --new-lineage",
}

// What the jobs read before the checkpoint, and after it: with duplicates over the cut, rows
// for windows that have fired, and late ones on both sides.
const (
	goldenBefore = `2026-03-01T12:00:00Z {"asset_id":"RC-1","ts_event":1772366400000,"rssi_dbm":-60}
2026-03-01T12:00:02Z {"asset_id":"RC-2","ts_event":1772366402000,"rssi_dbm":-61}
2026-03-01T12:00:40Z {"asset_id":"RC-1","ts_event":1772366440000,"rssi_dbm":-62}
2026-03-01T12:00:41Z {"asset_id":"RC-1","ts_event":1772366412000,"rssi_dbm":-63}
2026-03-01T12:01:20Z {"asset_id":"RC-2","ts_event":1772366480000,"rssi_dbm":-64}
2026-03-01T12:01:21Z {"asset_id":"RC-2","ts_event":1772366450000,"rssi_dbm":-65}
2026-03-01T12:01:22Z {"asset_id":"RC-1","ts_event":1772366401000,"rssi_dbm":-66}
2026-03-01T12:01:23Z {"asset_id":"RC-3","ts_event":1772366483000,"rssi_dbm":-67}
`
	goldenAfter = `2026-03-01T12:01:24Z {"asset_id":"RC-3","ts_event":1772366484000,"rssi_dbm":-67}
2026-03-01T12:01:25Z {"asset_id":"RC-2","ts_event":1772366452000,"rssi_dbm":-68}
2026-03-01T12:01:26Z {"asset_id":"RC-2","ts_event":1772366486000,"rssi_dbm":-69}
2026-03-01T12:01:27Z {"asset_id":"RC-1","ts_event":1772366403000,"rssi_dbm":-70}
2026-03-01T12:02:40Z {"asset_id":"RC-1","ts_event":1772366560000,"rssi_dbm":-71}
`
)

// cagesBefore and cagesAfter are what job cages reads: a plate is folded before the checkpoint and down
// after it. The clock of the gateway runs ten minutes ahead; what is known of it before decides on the
// times behind.
const (
	cagesBefore = `2026-03-01T12:00:02Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367000000,"accel_mg":[985,0,174]}
2026-03-01T12:00:11Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367010000,"accel_mg":[985,0,174]}
2026-03-01T12:00:24Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367020000,"accel_mg":[985,0,174]}
2026-03-01T12:01:01Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367060000,"accel_mg":[985,0,174]}
2026-03-01T12:01:04Z {"asset_id":"RC-2","gateway_id":"g","ts_event":1772367062000,"accel_mg":[985,0,174]}
`
	cagesAfter = `2026-03-01T12:01:25Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367080000,"accel_mg":[0,0,1000]}
2026-03-01T12:01:36Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367090000,"accel_mg":[0,0,1000]}
2026-03-01T12:01:47Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367100000,"accel_mg":[0,0,1000]}
2026-03-01T12:03:00Z {"asset_id":"RC-1","gateway_id":"g","ts_event":1772367170000,"accel_mg":[0,0,1000]}
`
)

// goldenInput is what a job reads before its checkpoint and after it.
func goldenInput(job string) (before, after string) {
	if job == "cages" {
		return cagesBefore, cagesAfter
	}
	return goldenBefore, goldenAfter
}

// TestGoldenCheckpoints goes on from the checkpoints that earlier versions left in
// testdata/checkpoints/<version>-<job>, and wants the rows of a run that nobody stopped; or a
// refusal that says what to do, where goldenRefused has one.
//
// A landing that changes what is in a checkpoint adds its own, with the program of the
// version and a name for it:
//
//	go test ./cmd/runner -run TestGoldenCheckpoints -golden-binary ./tidemark -golden-version NAME
func TestGoldenCheckpoints(t *testing.T) {
	if *goldenBinary != "" {
		for job := range goldenJobs {
			makeGolden(t, job)
		}
	}
	dirs, err := filepath.Glob("testdata/checkpoints/*")
	if err != nil || len(dirs) < 4 {
		t.Fatalf("checkpoints: %d, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			name := strings.Split(filepath.Base(dir), "-")
			job := name[len(name)-1]
			went, whole := t.TempDir(), t.TempDir()
			if err := os.CopyFS(went, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			before, after := goldenInput(job)
			broker := goldenBroker(t, before, after)
			text := strings.Replace(goldenJobs[job], "group: g", "group: g, bounded: true", 1)
			for _, at := range []string{went, whole} {
				writeJob(t, at, text, broker)
				if says := goldenRefused[filepath.Base(dir)]; says != "" && at == went {
					if out, err := program(t.Context(), at, "run", "-f", "job.yaml").CombinedOutput(); err == nil || !strings.Contains(string(out), says) {
						t.Fatalf("%v, printed %s; want a refusal that says %q", err, out, says)
					}
					return
				}
				if out, err := program(t.Context(), at, "run", "-f", "job.yaml").CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				} else if at == went && !strings.Contains(string(out), "msg=restored") {
					t.Fatalf("the checkpoint was not used: %s", out)
				}
			}
			got, want := goldenRows(t, went, job), goldenRows(t, whole, job)
			if !slices.Equal(got, want) {
				t.Errorf("after the restart:\n%s\nwithout it:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			// The control: what was published before the checkpoint is not all there is.
			if slices.Equal(goldenRows(t, dir, job), want) {
				t.Error("the checkpoint had nothing left to do")
			}
		})
	}
}

// goldenRows are the valid results and all late rows.
func goldenRows(t *testing.T, dir, job string) []string {
	t.Helper()
	if job == "cages" { // its events are never corrected
		lines, err := tableRows(filepath.Join(dir, "out", job), []string{"time", "asset_id", "event_code", "confirmed_time", "time_quality"})
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	lines, err := tableRows(filepath.Join(dir, "out", job), []string{"asset_id", "window_start", "window_end", "_tm_ver", "count", "lowest", "middle"})
	if err != nil {
		t.Fatal(err)
	}
	newest, rows := map[string]int64{}, map[string]string{}
	for _, l := range lines {
		cells := strings.Split(l, " | ")
		id := strings.Join(cells[:3], " | ")
		version, err := strconv.ParseInt(cells[3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if version >= newest[id] {
			newest[id], rows[id] = version, id+" | "+strings.Join(cells[4:], " | ")
		}
	}
	late, err := tableRows(filepath.Join(dir, "out", job+"_late"), []string{"asset_id", "time", "_offset", "reason"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		late = append(late, r)
	}
	slices.Sort(late)
	return late
}

// goldenBroker starts a broker whose topic t has some batches.
func goldenBroker(t *testing.T, batches ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for _, text := range batches {
		recs, err := parseRecords(text)
		if err == nil {
			err = appendBatch(c.ListenAddrs()[0], "t", 0, recs)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func writeJob(t *testing.T, dir, text string, broker *kfake.Cluster) {
	t.Helper()
	text = strings.ReplaceAll(text, "$BROKER", fmt.Sprintf("%q", broker.ListenAddrs()[0]))
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// makeGolden stops a job before the rest of its input, and keeps its checkpoint and what it published.
func makeGolden(t *testing.T, job string) {
	t.Helper()
	before, _ := goldenInput(job)
	broker := goldenBroker(t, before)
	dir := t.TempDir()
	writeJob(t, dir, strings.Replace(goldenJobs[job], "keep: 1", "keep: 1, owner: golden", 1), broker)
	path, err := filepath.Abs(*goldenBinary)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "run", "-f", "job.yaml")
	var out strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := int64(strings.Count(before, "\n"))
	for at := int64(0); at < read && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if g := broker.GroupInfo("g"); g != nil {
			at = g.Commits["t"][0].Offset
		}
	}
	if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
		t.Logf("%s makes no checkpoint of %s: %v: %s", *goldenVersion, job, err, out.String())
		return // that version does not have such jobs
	}
	for _, sub := range []string{"state", "out"} {
		if err := os.CopyFS(filepath.Join("testdata", "checkpoints", *goldenVersion+"-"+job, sub), os.DirFS(filepath.Join(dir, sub))); err != nil {
			t.Fatal(err)
		}
	}
}

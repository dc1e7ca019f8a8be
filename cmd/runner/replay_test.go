package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

// TestReplay replays the middle of a topic, once in one go and once killed twice by SIGKILL, and
// wants the very windows that an oracle has of the whole topic, and the late rows and dead
// records of both replays to be the same. What is outside the range is not there, and the results of
// the job itself are as they were.
func TestReplay(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "kill"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir, addr := t.TempDir(), broker.ListenAddrs()[0]
	input := killInput(30_000)
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	do := func(args ...string) string {
		t.Helper()
		out, err := program(t.Context(), dir, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	do("produce", "--brokers", addr, "--topic", "kill", "--csv", write("input.csv", killCSV(input)), "--time", "time", "--key", "key")
	file := write("job.yaml", fmt.Appendf(nil, killJob, addr, true))
	do("run", "-f", file)
	live := killResults(t, filepath.Join(dir, "out", "kill"))

	from, to := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC), time.Date(2026, 3, 1, 12, 1, 30, 0, time.UTC)
	args := []string{"replay", "-f", file, "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339)}
	said := do(append(args, "--name", "whole")...)
	if !strings.Contains(said, "Replay whole has ended") {
		t.Fatalf("replay says %s", said)
	}
	if n := countRead(t, said); n >= len(input)*9/10 {
		t.Errorf("a replay of a quarter of the topic has read %d of %d records", n, len(input))
	}
	var want []string
	for _, line := range killWant(input, 3).windows {
		var key string
		var start int64
		if _, err := fmt.Sscanf(line, "%s %d", &key, &start); err != nil {
			t.Fatal(err)
		}
		if from.UnixMicro() <= start && start < to.UnixMicro() {
			want = append(want, line)
		}
	}
	if len(want) < 100 {
		t.Fatalf("%d windows are in the range: it proves little", len(want))
	}
	staged := func(table string, n int) string { return filepath.Join(dir, "out", table, fmt.Sprint(n)) }
	if d := diffLines(killResults(t, staged("kill_replays", 32768)), want); d != "" {
		t.Errorf("windows of the replay: %s", d)
	}

	for _, wait := range []time.Duration{700 * time.Millisecond, 400 * time.Millisecond} {
		p := program(t.Context(), dir, append(args, "--name", "killed", "--rate", "4000")...)
		var out bytes.Buffer
		p.Stdout, p.Stderr = &out, &out
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		if err := p.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the replay ended before it was killed: %v\n%s", err, out.String())
		}
	}
	if said := do("replay", "ls", "-f", file); !strings.Contains(said, "killed") || strings.Count(said, "ended") != 1 {
		t.Errorf("replay ls says %s", said)
	}
	do(append(args, "--name", "killed")...)
	if d := diffLines(killResults(t, staged("kill_replays", 32769)), want); d != "" {
		t.Errorf("windows of the replay that was killed: %s", d)
	}
	if a, b := replayLate(t, staged("kill_replays_late", 32768)), replayLate(t, staged("kill_replays_late", 32769)); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("%d late rows in one go, %d with kills", len(a), len(b))
	}
	if said := do(append(args, "--name", "killed")...); !strings.Contains(said, "It has ended") {
		t.Errorf("once more: %s", said)
	}
	if d := diffLines(killResults(t, filepath.Join(dir, "out", "kill")), live); d != "" {
		t.Errorf("results of the job: %s", d)
	}
}

func countRead(t *testing.T, said string) (n int) {
	t.Helper()
	at := strings.Index(said, "rows in ")
	if _, err := fmt.Sscanf(said[max(at, 0):], "rows in %d", &n); err != nil {
		t.Fatalf("%v in %s", err, said)
	}
	return n
}

// replayLate returns split, offset and mark of late rows, in order.
func replayLate(t *testing.T, dir string) (lines []string) {
	for _, f := range parquetFiles(t, dir) {
		rows, err := pq.ReadFile[struct {
			Split  int32 `parquet:"_split"`
			Offset int64 `parquet:"_offset"`
			Time   int64 `parquet:"time"`
		}](f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			lines = append(lines, fmt.Sprintf("%d %d %d", r.Split, r.Offset, r.Time))
		}
	}
	slices.Sort(lines)
	return lines
}

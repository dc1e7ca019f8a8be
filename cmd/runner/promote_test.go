package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// TestPublishAgain: a process that ended between the last checkpoint of a replay and its
// publishing has published nothing; both the replay, given again, and promote make up for it.
func TestPublishAgain(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "kill"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	t.Chdir(t.TempDir())
	write := func(name string, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(args ...string) {
		t.Helper()
		var out, errs strings.Builder
		if code := Main(t.Context(), args, streams{&out, &errs}); code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, code, out.String(), errs.String())
		}
	}
	addr := broker.ListenAddrs()[0]
	write("input.csv", killCSV(killInput(2000)))
	write("job.yaml", fmt.Appendf(nil, strings.ReplaceAll(killJob, "interval: 25ms", "interval: 1h"), addr, true))
	do("produce", "--brokers", addr, "--topic", "kill", "--csv", "input.csv", "--time", "time", "--key", "key")
	replay := []string{"replay", "-f", "job.yaml", "--from", "2026-03-01T12:00:00Z", "--to", "2026-03-01T13:00:00Z", "--name", "r"}
	do(replay...)

	cfg, err := loadConfig("job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	register, err := readReplays(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := register.named(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	// unpublish puts the files of the last checkpoint back to where they were before.
	unpublish := func() (final []string) {
		t.Helper()
		cp, err := plan.last(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, rc := range cp.Receipts {
			var r struct {
				Files []struct{ Staging, Final string } `json:"files"`
			}
			if err := json.Unmarshal(rc.Receipt, &r); err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Files {
				from, to := filepath.Join("out", f.Final), filepath.Join("out", f.Staging)
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
				final = append(final, from)
			}
		}
		return final
	}
	for _, again := range [][]string{replay, {"promote", "-f", "job.yaml", "r"}} {
		files := unpublish()
		if len(files) == 0 {
			t.Fatal("the last checkpoint holds no files: the test tests nothing")
		}
		do(again...)
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Errorf("after %s: %v", again[0], err)
			}
		}
	}
}

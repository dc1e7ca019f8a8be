//go:build crash

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

var crashAt = regexp.MustCompile(`crash\.At\("([a-z.]+)"\)`)

// TestCrashPoints lets the program die at every named step between fetching and
// committing, at several passings of each, starts it again without a cleanup, and wants
// the rows of an independent count. A point that was never reached fails the test.
func TestCrashPoints(t *testing.T) {
	points := crashPoints(t)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "kill"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	brokers := strings.Join(broker.ListenAddrs(), ",")
	input := killInput(40_000)
	want := killWant(input, 3)
	csvFile := filepath.Join(t.TempDir(), "input.csv")
	if err := os.WriteFile(csvFile, killCSV(input), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := program(t.Context(), t.TempDir(), "produce", "--brokers", brokers, "--topic", "kill", "--csv", csvFile, "--time", "time", "--key", "key").CombinedOutput(); err != nil {
		t.Fatalf("produce: %v\n%s", err, out)
	}
	rng := rand.New(rand.NewPCG(1, 12))
	deaths := 0
	for _, point := range points {
		dir := t.TempDir()
		file := filepath.Join(dir, "job.yaml")
		if err := os.WriteFile(file, []byte(fmt.Sprintf(killJob, brokers, true)), 0o644); err != nil {
			t.Fatal(err)
		}
		died := 0
		for n := 0; ; n++ {
			if n > 60 {
				t.Fatalf("%s: no progress after %d deaths", point, died)
			}
			p := program(t.Context(), dir, "run", "-f", file)
			// The first runs die early, later ones further on, so that each makes progress.
			p.Env = append(p.Env, fmt.Sprintf("TIDEMARK_CRASH=%s:%d", point, 1+rng.IntN(1+2*n)))
			var out bytes.Buffer
			p.Stdout, p.Stderr = &out, &out
			err := p.Run()
			if err == nil {
				break
			}
			if exit, ok := err.(*exec.ExitError); !ok || !strings.Contains(exit.Error(), "killed") {
				t.Fatalf("%s: %v\n%s", point, err, out.String())
			}
			died++
		}
		if died == 0 {
			t.Errorf("%s was never reached", point)
		}
		deaths += died
		if d := diffLines(killResults(t, filepath.Join(dir, "out", "kill")), want.windows); d != "" {
			t.Errorf("%s, %d deaths: windows: %s", point, died, d)
		}
		if n := countRows(t, filepath.Join(dir, "out", "kill_late")); n != want.late {
			t.Errorf("%s, %d deaths: %d late rows, want %d", point, died, n, want.late)
		}
	}
	t.Logf("%d points, %d deaths survived", len(points), deaths)
}

// crashPoints finds the points in the source, but for those of the ClickHouse sink, which
// the integration suite has.
func crashPoints(t *testing.T) []string {
	var points []string
	for _, glob := range []string{"../../pipeline/*.go", "../../sinks/parquet/*.go"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range crashAt.FindAllSubmatch(b, -1) {
				points = append(points, string(m[1]))
			}
		}
	}
	sort.Strings(points)
	if len(points) < 12 {
		t.Fatalf("only %d crash points in the source", len(points))
	}
	var once []string
	for i, p := range points {
		if i == 0 || points[i-1] != p {
			once = append(once, p)
		}
	}
	return once
}

//go:build crash

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

var crashAt = regexp.MustCompile(`crash\.At\("([a-z.]+)"\)`)

// TestCrashPoints lets the program die at every named step between fetching and
// committing, at several passings of each, starts it again without a cleanup, and wants
// the rows of an independent count. A point that was never reached fails the test, and so
// does one that no test lets the program die at.
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
	rounds := 1
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		rounds = 5
	}
	rng := rand.New(rand.NewPCG(1, 12))
	deaths, covered := 0, 0
	for _, point := range points {
		died := 0
		for range rounds {
			died += dieAt(t, point, fmt.Sprintf(killJob, brokers, true), want, rng)
		}
		if died < rounds {
			t.Errorf("%s was reached %d times in %d rounds", point, died, rounds)
			continue
		}
		deaths += died
		covered++
	}
	t.Logf("%d of %d points, %d deaths survived", covered, len(points), deaths)
	t.Logf("scoreboard: kills=%d crash_points_covered=%d crash_points_total=%d", deaths, covered, len(points))
}

// dieAt runs a job until it comes to its end past a point where it dies, and compares its
// rows. It returns how often it died.
func dieAt(t *testing.T, point, job string, want killExpect, rng *rand.Rand) (died int) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(file, []byte(job), 0o644); err != nil {
		t.Fatal(err)
	}
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
	if d := diffLines(killResults(t, filepath.Join(dir, "out", "kill")), want.windows); d != "" {
		t.Errorf("%s, %d deaths: windows: %s", point, died, d)
	}
	if n := countRows(t, filepath.Join(dir, "out", "kill_late")); n != want.late {
		t.Errorf("%s, %d deaths: %d late rows, want %d", point, died, n, want.late)
	}
	return died
}

// crashPoints finds the points in the source, but for those of the ClickHouse sink, which
// has a TestCrashPoints of its own. A package that has neither is a hole.
func crashPoints(t *testing.T) []string {
	var points []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range crashAt.FindAllSubmatch(b, -1) {
			switch dir := filepath.ToSlash(filepath.Dir(path)); dir {
			case "../../pipeline", "../../sinks/parquet":
				points = append(points, string(m[1]))
			case "../../sinks/clickhouse":
			default:
				t.Errorf("%s: no test lets the program die at %s", path, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(points)
	if points = slices.Compact(points); len(points) < 12 {
		t.Fatalf("only %d crash points in the source", len(points))
	}
	return points
}

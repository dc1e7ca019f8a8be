//go:build crash

package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
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

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// crashDir names, for the process that dies, where its store and its server are.
const crashDir = "TIDEMARK_CRASH_DIR"

const crashEpochs = 6

// TestCrashPoints lets a process die at every named step of the sink, at several passings
// of each, starts it again without a cleanup, and wants every row in the table once and
// every epoch recorded once.
func TestCrashPoints(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(t, dir)
		return
	}
	points := crashPoints(t)
	rounds := 1
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		rounds = 5
	}
	rng := rand.New(rand.NewPCG(1, 13))
	deaths, covered := 0, 0
	for _, point := range points {
		died := 0
		for range rounds {
			died += dieAt(t, point, rng)
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

func crashPoints(t *testing.T) (points []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`crash\.At\("([a-z.]+)"\)`).FindAllSubmatch(b, -1) {
			points = append(points, string(m[1]))
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

// dieAt runs processes until one comes to the end past a point where they die, and returns
// how often one died.
func dieAt(t *testing.T, point string, rng *rand.Rand) (died int) {
	t.Helper()
	dir := t.TempDir()
	for n := 0; ; n++ {
		if n > 60 {
			t.Fatalf("%s: no progress after %d deaths", point, died)
		}
		p := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestCrashPoints$")
		p.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("TIDEMARK_CRASH=%s:%d", point, 1+rng.IntN(1+n)))
		out, err := p.CombinedOutput()
		if err == nil {
			break
		}
		if exit, ok := err.(*exec.ExitError); !ok || !strings.Contains(exit.Error(), "killed") {
			t.Fatalf("%s: %v\n%s", point, err, out)
		}
		died++
	}
	var want, got []string
	for n := range int64(crashEpochs) {
		want = append(want, readingTexts(readings(n+1, 40))...)
	}
	m := loadModel(t, dir)
	for _, r := range m.rows {
		got = append(got, r.text)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s, %d deaths: %d rows in the table, want %d", point, died, len(got), len(want))
	}
	if len(m.commits) != crashEpochs {
		t.Errorf("%s, %d deaths: %d epochs are recorded, want %d", point, died, len(m.commits), crashEpochs)
	}
	return died
}

// crashChild is a job that consists of epochs alone: prepare, keep the receipt, publish.
// A file says which epoch is durable, as a checkpoint does.
func crashChild(t *testing.T, dir string) {
	store, err := pipeline.NewLocalStore(filepath.Join(dir, "store"), pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	m := loadModel(t, dir)
	s, err := openModel(testConfig(), store, mem, m)
	if err != nil {
		t.Fatal(err)
	}
	s.server = lastingModel{m, dir}
	var last struct {
		Epoch   int64
		Receipt pipeline.Receipt
	}
	b, err := store.GetRange(t.Context(), "last", 0, -1)
	switch {
	case errors.Is(err, pipeline.ErrNotExist):
	case err != nil:
		t.Fatal(err)
	default:
		if err := errors.Join(json.Unmarshal(b, &last), s.Publish(t.Context(), last.Receipt)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for last.Epoch < crashEpochs {
		last.Epoch++
		rec := readingBatch(mem, readings(last.Epoch, 40))
		last.Receipt = seal(t, s, last.Epoch, rec)
		rec.Release()
		b, err := json.Marshal(last)
		if err := errors.Join(err, store.Put(t.Context(), "last", b), s.Publish(t.Context(), last.Receipt)); err != nil {
			t.Fatal(err)
		}
	}
}

// lastingModel is a model that outlives the process that talks to it: what it has done is in
// a file before it answers.
type lastingModel struct {
	*model
	dir string
}

// savedModel is the model in its file.
type savedModel struct {
	Made    bool
	Tokens  []string
	Rows    []savedRow
	Commits []savedCommit
}

type savedRow struct {
	Text    string
	Lineage uint16
	Epoch   int64
	Block   uint32
}

type savedCommit struct {
	Job, Table string
	Lineage    uint16
	Epoch      int64
	Blocks     uint32
	Rows       int64
	Hash       string
}

func (m lastingModel) exec(ctx context.Context, sql string) error {
	return errors.Join(m.model.exec(ctx, sql), m.save())
}

func (m lastingModel) insert(ctx context.Context, in insertion) error {
	return errors.Join(m.model.insert(ctx, in), m.save())
}

func (m lastingModel) record(ctx context.Context, c commit, token string) error {
	return errors.Join(m.model.record(ctx, c, token), m.save())
}

func (m lastingModel) save() error {
	s := savedModel{Made: m.made, Tokens: m.tokens}
	for _, r := range m.rows {
		s.Rows = append(s.Rows, savedRow{r.text, r.lineage, r.epoch, r.block})
	}
	for _, c := range m.commits {
		s.Commits = append(s.Commits, savedCommit{c.job, c.table, c.lineage, c.epoch, c.blocks, c.rows, c.hash})
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, "model.json"), b, 0o644)
}

func loadModel(t *testing.T, dir string) *model {
	t.Helper()
	m := newModel(nil)
	b, err := os.ReadFile(filepath.Join(dir, "model.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return m
	}
	var s savedModel
	if err := errors.Join(err, json.Unmarshal(b, &s)); err != nil {
		t.Fatal(err)
	}
	m.made, m.tokens = s.Made, s.Tokens
	for _, r := range s.Rows {
		m.rows = append(m.rows, modelRow{r.Text, r.Lineage, r.Epoch, r.Block})
	}
	for _, c := range s.Commits {
		m.commits = append(m.commits, commit{job: c.Job, table: c.Table, lineage: c.Lineage, epoch: c.Epoch, blocks: c.Blocks, rows: c.Rows, hash: c.Hash})
	}
	return m
}

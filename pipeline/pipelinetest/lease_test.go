package pipelinetest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// rashStore puts a commit in the place of one that is there.
type rashStore struct{ pipeline.Store }

func (s rashStore) PutIfAbsent(ctx context.Context, name string, body []byte) error {
	if strings.HasPrefix(name, "commits/") {
		return s.Put(ctx, name, body)
	}
	return s.Store.PutIfAbsent(ctx, name, body)
}

// takeOver runs several processes of one job side by side: each takes it over from the one
// before, and all are slow at random. A last one finds no other and ends the job.
func takeOver(ctx context.Context, seed uint64, wrong string) (fenced int, err error) {
	disk := pipelinetest.NewDisk()
	input := diskInput()
	errs := make([]error, 4)
	var all sync.WaitGroup
	for i := range errs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		pause := time.Duration(rng.IntN(4000)) * time.Microsecond
		var mu sync.Mutex // guards rng from here on
		r := diskRun{disk: disk, input: input, batch: 5 + rng.IntN(20), pace: 1 + rng.IntN(3), shards: 1, wrong: wrong,
			lease: pipeline.Lease{Owner: fmt.Sprint("process ", i), TTL: time.Hour, Force: true}}
		r.fault = func(pipelinetest.DiskCall) error {
			mu.Lock()
			defer mu.Unlock()
			if rng.IntN(40) == 0 {
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			}
			return nil
		}
		all.Go(func() { errs[i] = r.run(ctx) })
		time.Sleep(pause)
	}
	all.Wait()
	for _, err := range errs {
		if errors.Is(err, pipeline.ErrFenced) {
			fenced++
		}
	}
	last := diskRun{disk: disk, input: input, batch: 40, shards: 1, wrong: wrong, lease: pipeline.Lease{Owner: "last", Force: true}}
	if err := last.run(ctx); err != nil {
		return fenced, fmt.Errorf("the last process: %w", err)
	}
	if v := judge(ctx, disk, diskWant(input), false); v.bad() {
		return fenced, fmt.Errorf("%+v", v)
	}
	return fenced, nil
}

// TestTakenOver: of processes that run a job at the same time only one publishes, whichever
// is slow, and the rows are those of an undisturbed run.
func TestTakenOver(t *testing.T) {
	fenced := 0
	for seed := range nightly(20, 400) {
		n, err := takeOver(t.Context(), seed, "")
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		fenced += n
	}
	if fenced == 0 {
		t.Error("no process was fenced: it proves little")
	}
	t.Logf("scoreboard: takeovers=%d fenced=%d", 4*nightly(20, 400), fenced)
}

// TestTakenOverNegative: with a store that lets two processes make the same commit it shows.
func TestTakenOverNegative(t *testing.T) {
	for seed := range uint64(40) {
		if _, err := takeOver(t.Context(), seed, wrongCommit); err != nil {
			t.Logf("noticed: %.200v", err)
			t.Logf("scoreboard: negative_controls_failed=1")
			return
		}
	}
	t.Error("two processes made the same commits, and nothing shows it")
}

// TestLease: a job that another process has is left alone until its lease ends.
func TestLease(t *testing.T) {
	store := pipelinetest.NewMemStore()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lease := func(owner string) pipeline.Lease {
		return pipeline.Lease{Owner: owner, TTL: time.Minute, Now: func() time.Time { return now }}
	}
	take := func(l pipeline.Lease) (*pipeline.Checkpoints, error) {
		c := pipeline.NewCheckpoints(store, 2, memory.NewGoAllocator())
		cp, _, err := c.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Take(t.Context(), l, cp, 1)
		return c, err
	}
	first, err := take(lease("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(lease("two")); !errors.Is(err, pipeline.ErrHeld) || !strings.Contains(err.Error(), "one, and its lease lasts 1m0s more") {
		t.Errorf("got %v", err)
	}
	now = now.Add(2 * time.Minute)
	second, err := take(lease("two"))
	if err != nil {
		t.Fatal(err)
	}
	cp := func(last bool) *pipeline.Checkpoint {
		return &pipeline.Checkpoint{Job: "j", Lineage: 1, Epoch: 2, Last: last}
	}
	if err := first.Write(t.Context(), cp(false), nil, nil); !errors.Is(err, pipeline.ErrFenced) || !strings.Contains(err.Error(), "two") {
		t.Errorf("got %v", err)
	}
	if err := second.Write(t.Context(), cp(true), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := take(lease("three")); err != nil { // the second one has given the lease back
		t.Errorf("got %v", err)
	}
	forced := lease("four")
	forced.Force = true
	if _, err := take(forced); err != nil {
		t.Error(err)
	}
	if _, err := take(lease("four")); err != nil { // the same process again
		t.Error(err)
	}
}

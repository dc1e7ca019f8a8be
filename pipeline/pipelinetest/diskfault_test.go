package pipelinetest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// diskFault is a class of faults.
type diskFault struct {
	name    string
	errno   syscall.Errno
	ops     []string
	lasting bool // for ever, not once
	partial bool // a write writes half
	hint    string
}

var (
	changes = []string{"create", "write", "sync", "link", "rename", "remove", "mkdir", "syncdir"}
	opening = []string{"create", "open", "syncdir", "readdir"} // what needs a descriptor

	diskFaults = []diskFault{
		{"ENOSPC on write", syscall.ENOSPC, []string{"write"}, true, false, "free space"},
		{"ENOSPC on names", syscall.ENOSPC, []string{"create", "link", "rename", "mkdir"}, true, false, "free space"},
		{"ENOSPC, short write", syscall.ENOSPC, []string{"write"}, false, true, "free space"},
		{"EIO on write", syscall.EIO, []string{"write"}, false, false, "kernel log"},
		{"EIO on fsync, once", syscall.EIO, []string{"sync"}, false, false, "kernel log"},
		{"EIO on fsync, lasting", syscall.EIO, []string{"sync"}, true, false, "kernel log"},
		{"EIO on directory fsync", syscall.EIO, []string{"syncdir"}, false, false, "kernel log"},
		{"EIO on rename and link", syscall.EIO, []string{"rename", "link"}, false, false, "kernel log"},
		{"EIO on read, once", syscall.EIO, []string{"open", "read", "readdir"}, false, false, "kernel log"},
		{"EIO on read, lasting", syscall.EIO, []string{"open", "read", "readdir"}, true, false, "kernel log"},
		{"EROFS", syscall.EROFS, changes, true, false, "read-only"},
		{"EMFILE, once", syscall.EMFILE, opening, false, false, "open files"},
		{"EMFILE, lasting", syscall.EMFILE, opening, true, false, "open files"},
	}
)

// inject returns the fault at the nth matching call, and which call was hit first.
func (f diskFault) inject(n int) (fault func(pipelinetest.DiskCall) error, hit func() string) {
	var mu sync.Mutex
	first := ""
	fault = func(c pipelinetest.DiskCall) error {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(f.ops, c.Op) {
			return nil
		}
		if n--; n > 0 || n < 0 && !f.lasting {
			return nil
		}
		if first == "" {
			first = c.Op
		}
		if f.partial {
			return pipelinetest.PartialWrite{Err: f.errno}
		}
		return f.errno
	}
	return fault, func() string { mu.Lock(); defer mu.Unlock(); return first }
}

// TestDiskFaults lets calls of the disk fail in the first run of the job or in its restart:
// the run stops with an error that says what to do, what counted is not lost by a power
// loss then, and the next run ends with the oracle's rows, none lost and none twice.
func TestDiskFaults(t *testing.T) {
	x := newExplorer(t.Context(), 0, "")
	injected, total := map[string]int{}, 0
	for seed := range seeds(t, 182, 5200) {
		f := diskFaults[seed%uint64(len(diskFaults))]
		hit, err := x.fault(f, seed, "")
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, f.name, err)
		}
		if hit {
			injected[f.name]++
			total++
		}
	}
	for _, f := range diskFaults {
		t.Logf("%-24s %d", f.name, injected[f.name])
		if injected[f.name] == 0 && total > len(diskFaults) {
			t.Errorf("%s: never hit", f.name)
		}
	}
	t.Logf("scoreboard: disk_faults=%d lost=%d doubled=%d wrong=%d", total, x.lost, x.doubled, x.other)
}

// fault runs the job with a fault, then without, and tells whether it was hit.
func (x *explorer) fault(f diskFault, seed uint64, wrong string) (hit bool, err error) {
	rng := rand.New(rand.NewPCG(seed, 31))
	disk := pipelinetest.NewDisk()
	r := diskRun{disk: disk, input: x.input, batch: 10, pace: 2 + rng.IntN(4), shards: 1, wrong: wrong}
	if rng.IntN(2) == 0 { // the fault comes when a job goes on that was killed
		r.fault = pipelinetest.DieAt(100+rng.IntN(300), pipelinetest.DiskCall.Changes)
		if err := r.run(x.ctx); err != nil && !errors.Is(err, pipelinetest.ErrPowerLoss) {
			return false, err
		}
	}
	fault, first := f.inject(1 + rng.IntN(oneOf(rng, 4, 20, 100)))
	r.fault = fault
	err = r.run(x.ctx)
	if first() == "" {
		return false, err
	}
	if err := f.stops(err, first()); err != nil {
		return true, err
	}
	for _, disk := range []*pipelinetest.Disk{disk.Lost(), disk} {
		r.disk, r.fault = disk, nil
		if err := r.run(x.ctx); err != nil {
			return true, fmt.Errorf("the next run: %w", err)
		}
		if v := judge(x.ctx, disk.Lost(), x.want, false); v.bad() {
			x.violation(seed, pipelinetest.Crash{}, v)
			return true, errors.New(v.text)
		}
	}
	return true, nil
}

// stops tells what is wrong with the end of a run that met a fault.
func (f diskFault) stops(err error, op string) error {
	switch {
	case err == nil && op == "remove": // of a file under .tmp that was linked: nothing depends on it
		return nil
	case err == nil:
		return fmt.Errorf("%s failed, and the run went on", op)
	case !errors.Is(err, f.errno):
		return fmt.Errorf("%s failed, and the error hides it: %w", op, err)
	case errors.Is(err, pipeline.ErrCheckpoint):
		return fmt.Errorf("%s failed, and the error blames the checkpoint: %w", op, err)
	case !strings.Contains(err.Error(), f.hint):
		return fmt.Errorf("%s failed, and the error does not say %q: %w", op, f.hint, err)
	}
	return nil
}

// TestDiskFaultsNegative: a file whose sync failed and then worked is not on the disk.
// That it is trusted is noticed.
func TestDiskFaultsNegative(t *testing.T) {
	x := newExplorer(t.Context(), 0, "")
	f := diskFaults[slices.IndexFunc(diskFaults, func(f diskFault) bool { return f.name == "EIO on fsync, once" })]
	noticed, of := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 32))
		disk := pipelinetest.NewDisk()
		r := diskRun{disk: disk, input: x.input, batch: 10, pace: 2, shards: 1, wrong: wrongSyncAgain}
		fault, first := f.inject(1 + rng.IntN(60))
		r.fault = fault
		if err := r.run(t.Context()); err != nil || first() == "" {
			t.Fatalf("seed %d: %v, hit %q", seed, err, first())
		}
		of++
		after := disk.Lost()
		r.disk, r.fault, r.wrong = after, nil, ""
		if err := r.run(t.Context()); err != nil || judge(t.Context(), after, x.want, false).bad() {
			noticed++
		}
	}
	if noticed == 0 {
		t.Errorf("a sync that failed is trusted in %d runs: not noticed", of)
	}
	t.Logf("%s: noticed in %d of %d runs", wrongSyncAgain, noticed, of)
	t.Logf("scoreboard: negative_controls_failed=%d", min(noticed, 1))
}

package pipelinetest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// explorer plays histories of the job on a disk and lets the power fail at every point of
// them, in every way that the rules of the disk allow.
type explorer struct {
	ctx   context.Context
	input [][]pipelinetest.Row
	want  []string
	most  int // images after each step
	wrong string

	states, distinct, deaths, rewinds int
	lost, doubled, other              int
	text                              string // of the first violation
}

func newExplorer(ctx context.Context, most int, wrong string) *explorer {
	input := diskInput()
	return &explorer{ctx: ctx, input: input, want: diskWant(input), most: most, wrong: wrong}
}

func (x *explorer) violations() int { return x.lost + x.doubled + x.other }

func (x *explorer) violation(seed uint64, c pipelinetest.Crash, v verdict) {
	x.lost, x.doubled, x.other = x.lost+v.lost, x.doubled+v.doubled, x.other+v.wrong
	if x.text == "" {
		x.text = fmt.Sprintf("seed %d, power loss after step %d: %s", seed, c.At, v.text)
	}
}

// history is a disk on which processes have worked.
type history struct {
	seed    uint64
	disk    *pipelinetest.Disk
	rewound bool
	// floor is the number of the newest checkpoint that counted before the log began.
	floor int64
}

// play lets processes die at random points of the job on one disk, the last comes to the
// end. With rewind the newest checkpoint is corrupted after some of them.
func (x *explorer) play(seed uint64, deaths int, rewind bool) (history, error) {
	rng := rand.New(rand.NewPCG(seed, 21))
	h := history{seed: seed, disk: pipelinetest.NewDisk()}
	for n := 0; ; n++ {
		r := x.process(h.disk, rng)
		if n < deaths {
			r.fault = x.death(rng, 500)
			if rewind {
				r.fault = pipelinetest.DieAt(300+rng.IntN(500), pipelinetest.DiskCall.Changes)
			}
		}
		err := r.run(x.ctx)
		if err == nil {
			return h, nil
		}
		if !errors.Is(err, pipelinetest.ErrPowerLoss) {
			return h, err
		}
		x.deaths++
		if rewind && !h.rewound {
			h.rewound = x.rewind(h.disk)
		}
	}
}

// death draws when a process dies: anywhere, or between a change of names and the sync
// that makes it durable, so that the next process finds what a power loss may still take.
func (x *explorer) death(rng *rand.Rand, changes int) func(pipelinetest.DiskCall) error {
	if rng.IntN(4) == 0 {
		return pipelinetest.DieAt(1+rng.IntN(changes), pipelinetest.DiskCall.Changes)
	}
	below := diskDir + oneOf(rng, "", "/checkpoints/", "/state", "/out", "/late", "/_tidemark/")
	return pipelinetest.DieAt(1+rng.IntN(1+changes/50), func(c pipelinetest.DiskCall) bool {
		return c.Op == "syncdir" && (c.Path == below || below != diskDir && strings.HasPrefix(c.Path, below))
	})
}

func (x *explorer) process(disk *pipelinetest.Disk, rng *rand.Rand) diskRun {
	return diskRun{disk: disk, input: x.input, batch: 6 + rng.IntN(20), pace: 1 + rng.IntN(4), shards: 1 + rng.IntN(2), wrong: x.wrong, lease: pipeline.Lease{Sure: rng.IntN(2) == 0}}
}

// rewind corrupts the newest checkpoint, if there are two, and tells whether it did.
func (x *explorer) rewind(disk *pipelinetest.Disk) bool {
	store, err := pipeline.NewLocalStore(diskDir, disk.FS(nil))
	must(err)
	cp, _, err := pipeline.NewCheckpoints(store, 2, memory.NewGoAllocator()).Load(x.ctx)
	if err != nil || cp == nil || cp.Epoch < 3 {
		return false
	}
	must(disk.Flip(fmt.Sprintf("%s/checkpoints/%020d/splits.arrow", diskDir, cp.Epoch), 3001))
	x.rewinds++
	return true
}

// explore recovers from every power loss of a history. Those that look alike to the store
// are recovered from once: what is under .tmp is read by nobody.
func (x *explorer) explore(h history) {
	rng := rand.New(rand.NewPCG(h.seed, 22))
	known := map[string]bool{}
	h.disk.Crashes(x.most, rng, func(c pipelinetest.Crash) bool {
		x.states++
		at := fmt.Sprint(c.Noted, "\n", c.Seen)
		if known[at] {
			return true
		}
		known[at] = true
		x.distinct++
		if v := x.recover(h, c, rng); v.bad() {
			x.violation(h.seed, c, v)
		}
		return x.wrong == "" || x.violations() == 0 // one is enough of a control
	})
}

// recover starts the job on what a power loss left, and judges what was there before, and
// what is there in the end.
func (x *explorer) recover(h history, c pipelinetest.Crash, rng *rand.Rand) verdict {
	disk := c.Mount()
	if err := x.before(disk, h, max(h.floor, c.Noted)); err != nil {
		return verdict{wrong: 1, text: err.Error()}
	}
	r := diskRun{disk: disk, input: x.input, batch: 40, shards: 1, wrong: x.wrong}
	if rng.IntN(4) == 0 { // the process that recovers dies as well, and the power fails then
		r.fault = x.death(rng, 120)
		if err := r.run(x.ctx); err != nil && !errors.Is(err, pipelinetest.ErrPowerLoss) {
			return verdict{wrong: 1, text: err.Error()}
		}
		x.deaths++
		if rng.IntN(2) == 0 {
			disk = disk.Lost()
		}
	}
	r.disk, r.fault = disk, nil
	if err := r.run(x.ctx); err != nil {
		return verdict{wrong: 1, text: err.Error()}
	}
	if err := leftovers(x.ctx, disk); err != nil {
		return verdict{wrong: 1, text: err.Error()}
	}
	// What the job says is done stays done.
	return judge(x.ctx, disk.Lost(), x.want, h.rewound)
}

// before looks at what a power loss left: the checkpoint found is the newest that counted,
// or a newer one, and nothing is visible that it does not name.
func (x *explorer) before(disk *pipelinetest.Disk, h history, counted int64) error {
	store, err := pipeline.NewLocalStore(diskDir, disk.FS(nil))
	if err != nil {
		return err
	}
	cp, skipped, err := pipeline.NewCheckpoints(store, 2, memory.NewGoAllocator()).Load(x.ctx)
	if err != nil {
		return err
	}
	found := int64(0)
	if cp != nil {
		found = epochNumber(cp.Lineage, cp.Epoch)
	}
	if found < counted && !(h.rewound && len(skipped) > 0) {
		return fmt.Errorf("checkpoint %x is found, %x counted: %v", found, counted, skipped)
	}
	files, err := readPublished(x.ctx, store)
	if err != nil {
		return err
	}
	for _, f := range files {
		if n := epochNumber(f.lineage, f.epoch); n > found && !(h.rewound && len(skipped) > 0) {
			return fmt.Errorf("%s is visible before the checkpoint that names it: %x is found", f.name, found)
		}
	}
	return nil
}

// TestCrashStates lets the power fail after every step of the job's history on a disk:
// what is found is a checkpoint that counted, and the job ends with the oracle's rows.
func TestCrashStates(t *testing.T) {
	x := newExplorer(t.Context(), int(nightly(3, 1024)), "")
	for seed := range seeds(t, 3, 60) {
		h, err := x.play(seed, int(seed)%4, seed%3 == 2)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		x.explore(h)
		if x.violations() > 0 {
			t.Fatal(x.text)
		}
	}
	if x.rewinds == 0 || x.deaths == 0 {
		t.Errorf("%d deaths, %d rewinds: the histories prove little", x.deaths, x.rewinds)
	}
	if want := int(nightly(5000, 100_000)); x.states < want && os.Getenv("TIDEMARK_SEED") == "" {
		t.Errorf("%d states, want %d", x.states, want)
	}
	t.Logf("%d states, %d of them distinct to the store, %d deaths, %d rewinds", x.states, x.distinct, x.deaths, x.rewinds)
	t.Logf("scoreboard: crash_states=%d violations=%d lost=%d doubled=%d wrong=%d", x.states, x.violations(), x.lost, x.doubled, x.other)
}

// TestCrashStatesNegative: what breaks the rules of a commit is noticed.
func TestCrashStatesNegative(t *testing.T) {
	noticed := 0
	for _, wrong := range []string{wrongDirSync, wrongFileSync, wrongCurrent, wrongEarly} {
		x := newExplorer(t.Context(), 24, wrong)
		h, err := x.play(0, 0, false)
		if err != nil {
			t.Fatalf("%s: %v", wrong, err)
		}
		x.explore(h)
		if x.violations() == 0 {
			t.Errorf("%s: not noticed in %d states", wrong, x.states)
			continue
		}
		noticed++
		t.Logf("%s: noticed after %d states: %s", wrong, x.states, strings.ReplaceAll(x.text, "\n", " "))
	}
	t.Logf("scoreboard: negative_controls_failed=%d", noticed)
}

// TestCrashStatesUnsynced: a process dies just before the nth sync of a name in a checkpoint,
// the next one goes on from what it finds, and then the power fails. The fifth is the one of
// the first manifest, which no commit names.
func TestCrashStatesUnsynced(t *testing.T) {
	for n := 5; n <= int(nightly(5, 40)); n++ {
		x := newExplorer(t.Context(), 32, "")
		disk := pipelinetest.NewDisk()
		r := diskRun{disk: disk, input: x.input, batch: 10, stage: 8, shards: 1} // every epoch has rows
		r.fault = pipelinetest.DieAt(n, func(c pipelinetest.DiskCall) bool {
			return c.Op == "syncdir" && strings.HasPrefix(c.Path, diskDir+"/checkpoints/")
		})
		if err := r.run(t.Context()); err != nil && !errors.Is(err, pipelinetest.ErrPowerLoss) {
			t.Fatal(err)
		}
		r.fault, r.batch = nil, 7 // other cuts: other rows under the same names
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if x.explore(history{seed: uint64(n), disk: disk}); x.violations() > 0 {
			t.Errorf("death before sync %d: %s", n, x.text)
		}
		t.Logf("scoreboard: crash_states=%d violations=%d", x.states, x.violations())
	}
}

// TestRewoundTwice: the first checkpoint of a new lineage is corrupt in its turn, so that the
// job goes back to one from before the first rewind. Its epochs are in files of the second
// lineage already: it takes the third.
func TestRewoundTwice(t *testing.T) {
	x := newExplorer(t.Context(), 0, "")
	disk := pipelinetest.NewDisk()
	r := diskRun{disk: disk, input: x.input, batch: 10, pace: 2, shards: 1, fault: pipelinetest.DieAt(600, pipelinetest.DiskCall.Changes)}
	if err := r.run(t.Context()); !errors.Is(err, pipelinetest.ErrPowerLoss) {
		t.Fatal(err)
	}
	if !x.rewind(disk) {
		t.Fatal("no checkpoint to go back to")
	}
	for n := 60; newestLineage(t, r.disk) < 2; n += 10 { // until just behind the first epoch of lineage 2
		r.disk, r.pace, r.fault = disk.Lost(), 5, pipelinetest.DieAt(n, pipelinetest.DiskCall.Changes)
		if err := r.run(t.Context()); !errors.Is(err, pipelinetest.ErrPowerLoss) {
			t.Fatal(err)
		}
	}
	if !x.rewind(r.disk) {
		t.Fatal("no checkpoint to go back to")
	}
	r.fault, r.batch, r.pace = nil, 7, 3 // other cuts: other rows under the same names
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := judge(t.Context(), r.disk.Lost(), x.want, true); v.bad() {
		t.Errorf("%+v", v)
	}
	if n := newestLineage(t, r.disk); n != 3 {
		t.Errorf("lineage %d after two rewinds, want 3", n)
	}
}

// newestLineage returns the newest lineage that has visible files.
func newestLineage(t *testing.T, disk *pipelinetest.Disk) (newest uint16) {
	store, err := pipeline.NewLocalStore(diskDir, disk.FS(nil))
	if err != nil {
		t.Fatal(err)
	}
	files, err := readPublished(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		newest = max(newest, f.lineage)
	}
	return newest
}

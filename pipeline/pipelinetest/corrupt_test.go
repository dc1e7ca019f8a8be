package pipelinetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// corruption is what became of a file, and how.
type corruption struct {
	file, how string
	body      []byte
}

// corruptions gives ways in which a disk ruins a file: small ones cut after every byte and
// every bit flipped, of large ones as many as most by chance; pages zeroed or there twice.
// Every of them differs from the file.
func corruptions(rng *rand.Rand, file string, b []byte, most int) (all []corruption) {
	add := func(body []byte, how string, args ...any) {
		if !bytes.Equal(body, b) {
			all = append(all, corruption{file, fmt.Sprintf(how, args...), body})
		}
	}
	pick := func(of, n int, do func(int)) {
		for i := range min(of, n) {
			if of > n {
				i = rng.IntN(of)
			}
			do(i)
		}
	}
	pick(len(b)*8, most, func(bit int) {
		c := bytes.Clone(b)
		c[bit/8] ^= 1 << (bit % 8)
		add(c, "bit %d flipped", bit)
	})
	pick(len(b), max(1, most/8), func(n int) { add(b[:n], "cut after %d bytes", n) })
	for _, page := range []int{16, 512, 4096} {
		pick((len(b)+page-1)/page, max(1, most/16), func(i int) {
			at, end := i*page, min(len(b), (i+1)*page)
			c := bytes.Clone(b)
			clear(c[at:end])
			add(c, "%d bytes zeroed at %d", page, at)
			add(bytes.Join([][]byte{b[:end], b[at:]}, nil), "%d bytes twice at %d", page, at)
			add(bytes.Join([][]byte{b[:at], b[end:]}, nil), "%d bytes gone at %d", page, at)
		})
	}
	return all
}

// checkpointed runs a job for some checkpoints and returns its store and the number of
// the newest.
func checkpointed(t *testing.T) (*pipelinetest.MemStore, int64) {
	store := pipelinetest.NewMemStore()
	j := testJob{store: store, src: &pipelinetest.RowSource{Splits: diskInput(), Batch: 5, Hold: true}, shards: 2, mem: memory.NewGoAllocator(),
		out: &pipelinetest.MemSink{Store: store, Name: "out"}, late: &pipelinetest.MemSink{Store: store, Name: "late"}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var newest int64
	j.published = func(p pipeline.Published) {
		if newest = p.Epoch; newest == 4 {
			cancel()
		}
	}
	job := j.job(t)
	p := &pace{each: 4, left: 4, more: make(chan struct{}, 1)}
	job.Open, job.OnCheckpoint = p.open(job.Open), func(pub pipeline.Published) { j.published(pub); p.published(pub) }
	if err := pipeline.Run(ctx, job); err != nil {
		t.Fatal(err)
	}
	return store, newest
}

// lastCommit names the newest commit.
func lastCommit(t *testing.T, store pipeline.Store) string {
	commits, err := store.List(t.Context(), "commits/")
	if err != nil || len(commits) == 0 {
		t.Fatalf("%d commits, %v", len(commits), err)
	}
	return commits[len(commits)-1].Name
}

func manifestName(epoch int64) string {
	return fmt.Sprintf("checkpoints/%020d/manifest.json", epoch)
}

// loaded returns the checkpoints of a store by epoch, as they were written.
func loaded(t *testing.T, store *pipelinetest.MemStore, newest int64) map[int64]*pipeline.Checkpoint {
	known := map[int64]*pipeline.Checkpoint{}
	without := store.Copy()
	for epoch := newest; epoch > newest-3; epoch-- {
		cp, _, err := pipeline.NewCheckpoints(without, 3, memory.NewGoAllocator()).Load(t.Context())
		if err != nil || cp == nil || cp.Epoch != epoch {
			t.Fatalf("checkpoint %d: loaded %+v, %v", epoch, cp, err)
		}
		known[epoch] = cp
		if err := without.Delete(t.Context(), manifestName(epoch)); err != nil {
			t.Fatal(err)
		}
	}
	return known
}

// accepted tells what is wrong with how the loader takes a store in which a file was ruined
// that the newest checkpoint needs, "" for nothing.
func accepted(t *testing.T, store pipeline.Store, file string, known map[int64]*pipeline.Checkpoint) string {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	cp, skipped, err := pipeline.NewCheckpoints(store, 3, mem).Load(t.Context())
	switch {
	case mem.CurrentAlloc() != 0:
		return fmt.Sprintf("%d bytes were not given back", mem.CurrentAlloc())
	case err != nil && !errors.Is(err, pipeline.ErrCheckpoint):
		return err.Error()
	case err != nil:
		return "" // refused
	case cp == nil:
		return "the job would start anew"
	case len(skipped) == 0:
		return "went unnoticed"
	case !reflect.DeepEqual(cp, known[cp.Epoch]), slices.ContainsFunc(cp.Files, func(f pipeline.FileRef) bool { return f.Name == file }):
		return fmt.Sprintf("checkpoint %d is used, and it is not as it was written", cp.Epoch)
	}
	return ""
}

// TestCorruptCheckpoint ruins every file of the newest checkpoint, its commit included, in
// many ways: it is never used; an older one that is whole is, or the run refuses to start.
func TestCorruptCheckpoint(t *testing.T) {
	store, newest := checkpointed(t)
	known := loaded(t, store, newest)
	last := lastCommit(t, store)
	names := []string{last, manifestName(newest)}
	for _, f := range known[newest].Files {
		names = append(names, f.Name)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	var all []corruption
	for _, name := range names {
		b := store.Object(name)
		most := int(nightly(200, 12_000))
		if name == last {
			most = 8 * len(b)
		}
		all = append(all, corruptions(rng, name, b, most)...)
		for _, other := range swaps(known, name) {
			if c := store.Object(other); !bytes.Equal(b, c) {
				all = append(all, corruption{name, "replaced by " + other, c})
			}
		}
	}
	for _, c := range all {
		broken := store.Copy()
		if err := broken.Put(t.Context(), c.file, c.body); err != nil {
			t.Fatal(err)
		}
		if problem := accepted(t, broken, c.file, known); problem != "" {
			t.Fatalf("%s, %s: %s", c.file, c.how, problem)
		}
	}
	if want := int(nightly(2000, 50_000)); len(all) < want {
		t.Errorf("%d corruptions, want %d", len(all), want)
	}
	t.Logf("%d corruptions injected, none accepted", len(all))
	t.Logf("scoreboard: corruptions=%d", len(all))
}

// swaps names files that a disk may deliver in place of one: the same of another epoch, and
// the others of its own.
func swaps(known map[int64]*pipeline.Checkpoint, name string) (others []string) {
	for _, cp := range known {
		for _, f := range cp.Files {
			if f.Name != name {
				others = append(others, f.Name)
			}
		}
		if m := manifestName(cp.Epoch); m != name {
			others = append(others, m)
		}
	}
	return others
}

// TestCorruptCheckpointNegative ruins the manifest and makes its checksum in the commit fit, as
// a loader without checksums would see it: that such a checkpoint is used is noticed.
func TestCorruptCheckpointNegative(t *testing.T) {
	store, newest := checkpointed(t)
	known := loaded(t, store, newest)
	name, last := manifestName(newest), lastCommit(t, store)
	good := store.Object(name)
	hash := func(b []byte) []byte { return fmt.Appendf(nil, "%016x", xxhash.Sum64(b)) }
	ruined := corruptions(rand.New(rand.NewPCG(4, 5)), name, good, 400)
	used := 0
	for _, c := range ruined {
		forged := store.Copy()
		for name, b := range map[string][]byte{name: c.body, last: bytes.Replace(store.Object(last), hash(good), hash(c.body), 1)} {
			if err := forged.Put(t.Context(), name, b); err != nil {
				t.Fatal(err)
			}
		}
		if accepted(t, forged, name, known) != "" {
			used++
		}
	}
	if used*10 < len(ruined) { // most of the others are no JSON, or name files that are not there
		t.Errorf("%d of %d forged manifests were noticed: the comparison is blind", used, len(ruined))
	}
	t.Logf("%d of %d manifests with a forged checksum were used, and noticed", used, len(ruined))
	t.Logf("scoreboard: negative_controls_failed=1")
}

// TestCorruptPublished ruins what the sinks read back of the last epoch, which is published
// once more at every start: its entries in the manifest log, and its files. The start is
// refused, whatever the job would show otherwise.
func TestCorruptPublished(t *testing.T) {
	var disk *pipelinetest.Disk
	var r diskRun
	var store pipeline.Store
	var last []string // objects of the last epoch
	for try := 0; len(last) == 0; try++ {
		if try == 20 {
			t.Fatal("the last epoch of 20 runs had no rows")
		}
		disk = pipelinetest.NewDisk()
		r = diskRun{disk: disk, input: diskInput(), batch: 10, pace: 3, shards: 1}
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		if store, err = pipeline.NewLocalStore(diskDir, disk.FS(nil)); err != nil {
			t.Fatal(err)
		}
		last = ofLastEpoch(t, store)
	}
	rng := rand.New(rand.NewPCG(4, 6))
	injected := 0
	for _, name := range last {
		b, err := store.GetRange(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range corruptions(rng, name, b, int(nightly(60, 3000))) {
			broken := disk.Lost()
			over, err := pipeline.NewLocalStore(diskDir, broken.FS(nil))
			if err != nil {
				t.Fatal(err)
			}
			if err := over.Put(t.Context(), c.file, c.body); err != nil {
				t.Fatal(err)
			}
			injected++
			if err := (diskRun{disk: broken, input: r.input, batch: 10, shards: 1}).run(t.Context()); err == nil {
				t.Fatalf("%s, %s: went unnoticed", c.file, c.how)
			} else if !strings.Contains(err.Error(), path.Base(c.file)) {
				t.Fatalf("%s, %s: error %v does not name it", c.file, c.how, err)
			}
		}
	}
	if injected < 100 {
		t.Errorf("%d corruptions of what is read back: they prove little", injected)
	}
	t.Logf("%d corruptions injected, none accepted", injected)
	t.Logf("scoreboard: corruptions=%d", injected)
}

// ofLastEpoch returns what is published of the epoch of the newest checkpoint: when a machine is
// slow, all rows may have been in the epochs before.
func ofLastEpoch(t *testing.T, store pipeline.Store) []string {
	t.Helper()
	cp, _, err := pipeline.NewCheckpoints(store, 2, memory.NewGoAllocator()).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	objects, err := store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		base := path.Base(o.Name)
		if strings.HasPrefix(base, fmt.Sprintf("part-disk-%d-%d-", cp.Lineage, cp.Epoch)) || strings.HasPrefix(base, fmt.Sprintf("%05d-%010d-", cp.Lineage, cp.Epoch)) {
			out = append(out, o.Name)
		}
	}
	return out
}

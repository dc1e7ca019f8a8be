package parquet

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// step is one epoch: the hours in which it has a row each, and the mark at its end, in
// minutes after baseUS.
type step struct {
	hours []int
	mark  int64
}

func (p step) at() pipeline.Mark { return pipeline.Mark{Event: baseUS + p.mark*60e6} }

func (p step) rows() []reading {
	var rows []reading
	for i, h := range p.hours {
		rows = append(rows, reading{Key: fmt.Sprint(i), Time: new(baseUS + int64(h)*hourUS)})
	}
	return rows
}

// successConfig completes a partition half an hour after its end.
func successConfig() Config {
	cfg := testConfig()
	cfg.Table, cfg.CompleteAfter = "t", hourUS/2
	return cfg
}

func openSink(t *testing.T, cfg Config, store pipeline.Store) *Sink {
	t.Helper()
	s, err := New(cfg, store, readingSchema)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// prepareStep seals an epoch.
func prepareStep(t *testing.T, mem memory.Allocator, s *Sink, e pipeline.Epoch, p step) (pipeline.Receipt, error) {
	t.Helper()
	e.Job = s.cfg.Job
	st, err := s.Begin(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	rec := readingBatch(mem, p.rows())
	defer rec.Release()
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	return st.Prepare(t.Context(), p.at())
}

// doStep seals an epoch and publishes it.
func doStep(t *testing.T, mem memory.Allocator, s *Sink, e pipeline.Epoch, p step) pipeline.Receipt {
	t.Helper()
	raw, err := prepareStep(t, mem, s, e, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// objects returns the contents of the objects below a prefix.
func objects(t *testing.T, store pipeline.Store, prefix string) map[string]string {
	t.Helper()
	found, err := store.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, o := range found {
		b, err := store.GetRange(t.Context(), o.Name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		out[o.Name] = string(b)
	}
	return out
}

// markers says for every partition what its marker says: revision, minutes of the mark,
// files and rows.
func markers(t *testing.T, store pipeline.Store) string {
	t.Helper()
	all := objects(t, store, "t/")
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasSuffix(name, "/"+successName) {
			continue
		}
		var m success
		if err := json.Unmarshal([]byte(all[name]), &m); err != nil {
			t.Fatal(err)
		}
		hour := name[strings.Index(name, "hour=")+5:][:2]
		out = append(out, fmt.Sprintf("%s: r%d @%d %d/%d", hour, m.Revision, (m.Watermark-baseUS)/60e6, m.Files, m.Rows))
	}
	return strings.Join(out, ", ")
}

// checkLog returns an error unless every entry of the log names the one before.
func checkLog(t *testing.T, store pipeline.Store, cfg Config) error {
	t.Helper()
	previous := ""
	all := objects(t, store, cfg.logPrefix())
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var e entry
		if err := json.Unmarshal([]byte(all[name]), &e); err != nil {
			return err
		}
		if e.Previous != previous {
			return fmt.Errorf("%s names %q as the one before, which has hash %q", name, e.Previous, previous)
		}
		previous = hashEntry([]byte(all[name]))
	}
	return nil
}

// TestSuccess tells how markers come and change. baseUS is five o'clock.
func TestSuccess(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store := newStore(t)
	s := openSink(t, successConfig(), store)
	for i, c := range []struct {
		step
		want string
	}{
		{step{[]int{0, 0, 1}, 30}, ""},
		{step{[]int{0, 1}, 89}, ""},
		{step{nil, 90}, "05: r1 @90 2/3"},                                                              // inclusive: end - 1 + half an hour has passed
		{step{nil, 91}, "05: r1 @90 2/3"},                                                              // nothing to say
		{step{[]int{3}, 150}, "05: r1 @90 2/3, 06: r1 @150 2/2"},                                       // seven has no files, so no marker
		{step{[]int{0, 0}, 151}, "05: r2 @151 3/5, 06: r1 @150 2/2"},                                   // a late file
		{step{[]int{1, -5}, 152}, "00: r1 @152 1/1, 05: r2 @151 3/5, 06: r2 @152 3/3"},                 // long past, new and old
		{step{nil, 270}, "00: r1 @152 1/1, 05: r2 @151 3/5, 06: r2 @152 3/3, 08: r1 @270 1/1"},         // the open one
		{step{[]int{3, 4}, 270}, "00: r1 @152 1/1, 05: r2 @151 3/5, 06: r2 @152 3/3, 08: r2 @270 2/2"}, // nine is open
		{step{[]int{4}, 1 << 20}, "00: r1 @152 1/1, 05: r2 @151 3/5, 06: r2 @152 3/3, 08: r2 @270 2/2, 09: r1 @1048576 2/2"},
	} {
		if i%3 == 2 { // in a new process as well as in the same
			s = openSink(t, successConfig(), store)
		}
		doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: int64(i + 1)}, c.step)
		if got := markers(t, store); got != c.want {
			t.Errorf("epoch %d, mark %d: %s\nwant %s", i+1, c.mark, got, c.want)
		}
	}
	if err := checkLog(t, store, s.cfg); err != nil {
		t.Error(err)
	}
	// Neither rows without a time nor rows far away lie in a partition that ends.
	doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 20}, step{[]int{1 << 21}, 1 << 21})
	for name := range objects(t, store, "t/dt=__far__/") {
		if strings.HasSuffix(name, successName) {
			t.Errorf("a marker at %s", name)
		}
	}
}

// TestSuccessNever: without CompleteAfter, or without partitions, there are no markers and
// the log says nothing of what is open.
func TestSuccessNever(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, change := range []func(*Config){
		func(c *Config) { c.CompleteAfter = -1 },
		func(c *Config) { c.PartitionBy = pipeline.PartitionNone },
	} {
		store, cfg := newStore(t), successConfig()
		change(&cfg)
		s := openSink(t, cfg, store)
		doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 1}, step{[]int{0}, 1 << 20})
		doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 2}, step{[]int{0}, 1 << 20})
		if got := markers(t, store); got != "" {
			t.Errorf("markers: %s", got)
		}
		for name, body := range objects(t, store, cfg.logPrefix()) {
			if strings.Contains(body, `"open"`) || !strings.Contains(body, `"watermark_us"`) {
				t.Errorf("%s: %s", name, body)
			}
		}
		if err := checkLog(t, store, cfg); err != nil {
			t.Error(err)
		}
	}
}

// visible is all that a reader can find, apart from the files' bytes.
func visible(t *testing.T, store pipeline.Store, cfg Config) map[string]string {
	out := objects(t, store, "_tidemark/log/")
	maps.Copy(out, objects(t, store, "_tidemark/head/"))
	for name, body := range objects(t, store, "t/") {
		if strings.HasSuffix(name, ".parquet") {
			body = fmt.Sprint(len(body))
		}
		out[name] = body
	}
	return out
}

// crashRun lets the process die before every durable step of Prepare and Publish, of random
// epochs, and returns all that is visible in the end, and what it is without a crash. What
// was never prepared is done again; what was prepared is published again by a new process,
// any number of times, unless forget has it start with the next epoch.
func crashRun(t *testing.T, mem memory.Allocator, seed uint64, forget bool) (got, want map[string]string, died int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	var plan []step
	for mark := int64(0); len(plan) < 12; mark += rng.Int64N(50) {
		p := step{mark: mark}
		for range rng.IntN(3) {
			p.hours = append(p.hours, int(mark/60)+rng.IntN(4)-2)
		}
		plan = append(plan, p)
	}
	calm := pipelinetest.NewMemStore()
	s := openSink(t, successConfig(), calm)
	for i, p := range plan {
		doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: int64(i + 1)}, p)
	}
	want = visible(t, calm, s.cfg)

	rough, faults := pipelinetest.NewMemStore(), &pipelinetest.Faults{}
	open := func() *Sink {
		faults.Set(pipelinetest.NoFault, 0)
		return openSink(t, successConfig(), pipelinetest.FaultStore{Store: rough, Faults: faults})
	}
	s = open()
	for i, p := range plan {
		var raw pipeline.Receipt
		for at := 1; raw == nil; at++ {
			faults.Set(pipelinetest.DieBefore, at)
			var err error
			if raw, err = prepareStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: int64(i + 1)}, p); !faults.Hit() {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			died++
			s = open()
		}
		for at := 1; ; at++ {
			faults.Set(pipelinetest.DieBefore, at)
			if err := s.Publish(t.Context(), raw); !faults.Hit() {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			died++
			if s = open(); forget {
				break
			}
			for range rng.IntN(3) {
				if err := s.Publish(t.Context(), raw); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := checkLog(t, rough, s.cfg); err != nil && !forget {
		t.Error(err)
	}
	return visible(t, rough, s.cfg), want, died
}

func TestSuccessCrashes(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	all := 0
	for seed := range uint64(6) {
		got, want, died := crashRun(t, mem, seed, false)
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d: after crashes:\n%v\nwant:\n%v", seed, got, want)
		}
		all += died
	}
	if all < 100 {
		t.Errorf("the process died %d times only", all)
	}
}

// TestSuccessControls: the checks above notice what they are there for.
func TestSuccessControls(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store := newStore(t)
	s := openSink(t, successConfig(), store)
	for n := range int64(3) {
		doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: n + 1}, step{[]int{0}, 20})
	}
	if err := checkLog(t, store, s.cfg); err != nil {
		t.Fatal(err)
	}
	name := s.cfg.logName(1, 2)
	body := objects(t, store, name)[name]
	if err := store.Put(t.Context(), name, []byte(strings.Replace(body, `"rows":1`, `"rows":2`, 1))); err != nil {
		t.Fatal(err)
	}
	if err := checkLog(t, store, s.cfg); err == nil {
		t.Error("an entry that was changed went unnoticed")
	}
	if err := store.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := checkLog(t, store, s.cfg); err == nil {
		t.Error("an entry that was removed went unnoticed")
	}
	if got, want, _ := crashRun(t, mem, 1, true); maps.Equal(got, want) {
		t.Error("receipts that were not published again went unnoticed")
	}
}

// TestRewind: a lineage that goes on from an earlier epoch finds what the one before made
// visible; its files are new ones of complete partitions, and no mark falls.
func TestRewind(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store := newStore(t)
	s := openSink(t, successConfig(), store)
	first := doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 1}, step{[]int{0, 1}, 20})
	doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 2}, step{nil, 100})
	s = openSink(t, successConfig(), store)
	if err := s.Publish(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	doStep(t, mem, s, pipeline.Epoch{Lineage: 2, N: 2}, step{[]int{0}, 30})
	if got, want := markers(t, store), "05: r2 @100 2/2"; got != want {
		t.Errorf("after the rewind: %s, want %s", got, want)
	}
	doStep(t, mem, s, pipeline.Epoch{Lineage: 2, N: 3}, step{nil, 200})
	if got, want := markers(t, store), "05: r2 @100 2/2, 06: r1 @200 1/1"; got != want {
		t.Errorf("in the end: %s, want %s", got, want)
	}
	if err := checkLog(t, store, s.cfg); err != nil {
		t.Error(err)
	}
}

// TestOldLog: a log of format 1, or one of a table that never completed, is counted once;
// its receipts are published as they were.
func TestOldLog(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	never := successConfig()
	never.CompleteAfter = -1
	for _, format := range []int{1, 2} {
		store := newStore(t)
		s := openSink(t, never, store)
		for n := range int64(3) {
			raw, err := prepareStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: n + 1}, step{[]int{0, int(n)}, 20})
			if err != nil {
				t.Fatal(err)
			}
			if format == 1 {
				var r receipt
				if err := json.Unmarshal(raw, &r); err != nil {
					t.Fatal(err)
				}
				r.Format, r.settled = 1, settled{}
				if raw, err = json.Marshal(r); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := s.Publish(t.Context(), raw); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Another job's entries in the same log are passed over.
		if err := store.Put(t.Context(), never.logPrefix()+"09999-0000000001-a-"+segment(never.Job)+".json", []byte("x")); err != nil {
			t.Fatal(err)
		}
		for _, h := range []string{"with its head", "without"} {
			if h == "without" {
				if err := store.Delete(t.Context(), never.headName()); err != nil {
					t.Fatal(err)
				}
			}
			l, err := openSink(t, successConfig(), store).loadLedger(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]tally{"dt=2026-11-22/hour=05": {3, 4}, "dt=2026-11-22/hour=06": {1, 1}, "dt=2026-11-22/hour=07": {1, 1}}
			if !maps.Equal(l.open, want) || l.last == "" {
				t.Errorf("format %d, %s: ledger %+v, want %v", format, h, l, want)
			}
		}
		doStep(t, mem, openSink(t, successConfig(), store), pipeline.Epoch{Lineage: 1, N: 4}, step{[]int{3}, 90})
		if got, want := markers(t, store), "05: r1 @90 3/4"; got != want {
			t.Errorf("format %d: %s, want %s", format, got, want)
		}
	}
}

// TestMarkerRefuses covers what a job must not write over.
func TestMarkerRefuses(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, c := range []struct{ marker, want string }{
		{`{"revision":1,"job":"other"}`, "job other"},
		{`{"revision":0}`, "not as it was written"},
		{``, "not as it was written"},
	} {
		store := newStore(t)
		s := openSink(t, successConfig(), store)
		if err := store.Put(t.Context(), s.markerName("dt=2026-11-22/hour=05"), []byte(c.marker)); err != nil {
			t.Fatal(err)
		}
		_, err := prepareStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 1}, step{[]int{0}, 90})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("marker %q: %v", c.marker, err)
		}
		if left := objects(t, store, stagingDir); len(left) > 0 {
			t.Errorf("left after a failed Prepare: %v", left)
		}
	}
	// A head that lies, and an entry that was changed behind it.
	store := newStore(t)
	s := openSink(t, successConfig(), store)
	doStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 1}, step{[]int{0}, 0})
	if err := store.Put(t.Context(), s.cfg.logName(1, 1), []byte(`{"format":2}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := openSink(t, successConfig(), store).loadLedger(t.Context()); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("load behind a changed entry: %v", err)
	}
	// A receipt cannot put a marker outside the table.
	raw, err := json.Marshal(receipt{Format: 2, Table: "t", Job: s.cfg.Job, settled: settled{Complete: []completion{{Partition: "../x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "no partition") {
		t.Errorf("publish of a marker elsewhere: %v", err)
	}
}

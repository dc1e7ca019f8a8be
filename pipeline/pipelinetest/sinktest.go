package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// SinkJob is the job of every epoch of SinkTest.
const SinkJob = "conformance job"

// ErrInjected is what an injected fault returns.
var ErrInjected = errors.New("injected fault")

// SinkPlace is where a sink under test keeps its rows: durable, and apart from any other.
type SinkPlace struct {
	// Open makes a sink at the place. Every call is a new process: what only the one before
	// had in memory is gone.
	Open func() (pipeline.Sink, error)
	// Read returns the rows that a reader sees, as Want gives them, in any order.
	Read func() ([]string, error)
	// Leftovers names what is durable and not visible, apart from what stays for good.
	Leftovers func() ([]string, error)
	// Faults breaks the durable steps of the place.
	Faults *Faults
}

// SinkTest is what TestSink needs to know of a sink.
type SinkTest struct {
	// Place makes a new, empty place.
	Place func(t *testing.T) SinkPlace
	// Batch makes rows of an epoch. The suite releases them.
	Batch func(n int64) arrow.RecordBatch
	// Want returns the rows of Batch(n) as Read gives them.
	Want func(n int64) []string
}

// Faults decides which durable step of a place goes wrong. Whoever makes a step asks
// Before and After.
type Faults struct {
	mu    sync.Mutex
	mode  FaultMode
	at    int
	steps int
	onHit func()
}

// FaultMode says what happens at a step.
type FaultMode int

const (
	// NoFault lets every step work.
	NoFault FaultMode = iota
	// DieBefore makes a step and all after it fail without effect.
	DieBefore
	// LoseAnswer makes one step work and say that it failed.
	LoseAnswer
	// FailOnce makes one step fail without effect.
	FailOnce
)

// Set arms a fault at the nth step from now, the first being 1.
func (f *Faults) Set(mode FaultMode, at int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode, f.at, f.steps, f.onHit = mode, at, 0, nil
}

// OnHit arms what is called when the step of Set is reached.
func (f *Faults) OnHit(call func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onHit = call
}

// Hit tells whether the step of Set was reached.
func (f *Faults) Hit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode != NoFault && f.steps >= f.at
}

// Before counts a step and tells whether it must fail without effect. A nil Faults lets
// everything work.
func (f *Faults) Before() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	if f.mode != NoFault && f.steps == f.at && f.onHit != nil {
		f.onHit()
	}
	if f.mode == DieBefore && f.steps >= f.at || f.mode == FailOnce && f.steps == f.at {
		return ErrInjected
	}
	return nil
}

// After tells whether the step that Before counted last must say that it failed.
func (f *Faults) After() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == LoseAnswer && f.steps == f.at {
		return ErrInjected
	}
	return nil
}

// Do makes a step.
func (f *Faults) Do(step func() error) error {
	if err := f.Before(); err != nil {
		return err
	}
	if err := step(); err != nil {
		return err
	}
	return f.After()
}

// FaultStore is a store whose writes are steps of Faults.
type FaultStore struct {
	pipeline.Store
	Faults *Faults
}

func (s FaultStore) PutIfAbsent(ctx context.Context, name string, body []byte) error {
	return s.Faults.Do(func() error { return s.Store.PutIfAbsent(ctx, name, body) })
}

func (s FaultStore) Put(ctx context.Context, name string, body []byte) error {
	return s.Faults.Do(func() error { return s.Store.Put(ctx, name, body) })
}

func (s FaultStore) Link(ctx context.Context, from, to string) error {
	return s.Faults.Do(func() error { return s.Store.Link(ctx, from, to) })
}

func (s FaultStore) Delete(ctx context.Context, name string) error {
	return s.Faults.Do(func() error { return s.Store.Delete(ctx, name) })
}

func (s FaultStore) Create(ctx context.Context, name string) (pipeline.StoreWriter, error) {
	w, err := s.Store.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return faultWriter{w, s.Faults}, nil
}

type faultWriter struct {
	pipeline.StoreWriter
	faults *Faults
}

func (w faultWriter) Write(p []byte) (int, error) {
	if err := w.faults.Before(); err != nil {
		return 0, err
	}
	n, err := w.StoreWriter.Write(p)
	if err == nil {
		err = w.faults.After()
	}
	return n, err
}

func (w faultWriter) Commit() error { return w.faults.Do(w.StoreWriter.Commit) }

// TestSink proves that a sink keeps the contract of pipeline.Sink. It judges by what a
// reader sees, not by what the sink says.
func TestSink(t *testing.T, st SinkTest) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, st SinkTest)
	}{
		{"PublishShows", sinkPublishShows},
		{"NothingBeforePublish", sinkNothingBeforePublish},
		{"AbortLeavesNothing", sinkAbortLeavesNothing},
		{"PublishTwice", sinkPublishTwice},
		{"PublishByAnother", sinkPublishByAnother},
		{"EmptyEpoch", sinkEmptyEpoch},
		{"Selection", sinkSelection},
		{"EpochsOverlap", sinkEpochsOverlap},
		{"EpochAgain", sinkEpochAgain},
		{"Sweep", sinkSweep},
		{"BadReceipt", sinkBadReceipt},
		{"Cancel", sinkCancel},
		{"PrepareFaults", sinkPrepareFaults},
		{"PublishFaults", sinkPublishFaults},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, st) })
	}
}

// sinkRun is one place under test and the sink that is open there.
type sinkRun struct {
	t     *testing.T
	st    SinkTest
	place SinkPlace
	sink  pipeline.Sink
}

func newSinkRun(t *testing.T, st SinkTest) *sinkRun {
	r := &sinkRun{t: t, st: st, place: st.Place(t)}
	r.reopen()
	t.Cleanup(func() {
		if err := r.sink.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// reopen makes a new process at the place, one without faults.
func (r *sinkRun) reopen() {
	r.t.Helper()
	if r.sink != nil {
		_ = r.sink.Close() // the process is gone, whatever it says
	}
	if r.place.Faults != nil {
		r.place.Faults.Set(NoFault, 0)
	}
	sink, err := r.place.Open()
	if err != nil {
		r.t.Fatalf("open: %v", err)
	}
	r.sink = sink
}

func sinkEpoch(n int64) pipeline.Epoch { return pipeline.Epoch{Job: SinkJob, Lineage: 3, N: n} }

// stage begins an epoch and writes its batch.
func (r *sinkRun) stage(n int64) (pipeline.Stage, error) {
	stage, err := r.sink.Begin(r.t.Context(), sinkEpoch(n))
	if err != nil {
		return nil, err
	}
	rec := r.st.Batch(n)
	defer rec.Release()
	if err := stage.Write(r.t.Context(), pipeline.Result(rec)); err != nil {
		return nil, errors.Join(err, stage.Abort())
	}
	return stage, nil
}

func (r *sinkRun) prepare(n int64) pipeline.Receipt {
	r.t.Helper()
	stage, err := r.stage(n)
	if err != nil {
		r.t.Fatalf("stage epoch %d: %v", n, err)
	}
	receipt, err := stage.Prepare(r.t.Context(), pipeline.Mark{})
	if err != nil {
		r.t.Fatalf("prepare epoch %d: %v", n, err)
	}
	if len(receipt) == 0 {
		r.t.Fatalf("prepare epoch %d: no receipt for a stage with rows", n)
	}
	return receipt
}

func (r *sinkRun) publish(receipt pipeline.Receipt) {
	r.t.Helper()
	if err := r.sink.Publish(r.t.Context(), receipt); err != nil {
		r.t.Fatalf("publish: %v", err)
	}
}

func (r *sinkRun) sweep() {
	r.t.Helper()
	if err := r.sink.Sweep(r.t.Context()); err != nil {
		r.t.Fatalf("sweep: %v", err)
	}
}

// sees fails unless a reader sees exactly the rows of these epochs.
func (r *sinkRun) sees(when string, epochs ...int64) {
	r.t.Helper()
	got, err := r.place.Read()
	if err != nil {
		r.t.Fatalf("%s: read: %v", when, err)
	}
	var want []string
	for _, n := range epochs {
		want = append(want, r.st.Want(n)...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Fatalf("%s: a reader sees %d rows:\n%s\nwant %d:\n%s", when, len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}

func (r *sinkRun) leftovers(when string, want int) {
	r.t.Helper()
	left, err := r.place.Leftovers()
	if err != nil {
		r.t.Fatal(err)
	}
	if len(left) != want {
		r.t.Fatalf("%s: %d objects are left, want %d: %v", when, len(left), want, left)
	}
}

func sinkPublishShows(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	r.publish(r.prepare(1))
	r.sees("after epoch 1", 1)
	r.publish(r.prepare(2))
	r.sees("after epoch 2", 1, 2)
	r.reopen()
	r.sees("after a restart", 1, 2)
	r.sweep()
	r.sees("after a sweep", 1, 2)
	r.leftovers("after a sweep", 0)
}

func sinkNothingBeforePublish(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	stage, err := r.stage(1)
	if err != nil {
		t.Fatal(err)
	}
	r.sees("after Write")
	if _, err := stage.Prepare(t.Context(), pipeline.Mark{}); err != nil {
		t.Fatal(err)
	}
	r.sees("after Prepare")
	r.reopen()
	r.sees("after a restart")
	r.sweep()
	r.sees("after a sweep without receipts")
	r.leftovers("after a sweep without receipts", 0)
}

func sinkAbortLeavesNothing(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	stage, err := r.stage(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage.Abort(); err != nil {
		t.Fatal(err)
	}
	r.sees("after Abort")
	r.leftovers("after Abort", 0)
	rec := st.Batch(1)
	defer rec.Release()
	if err := stage.Write(t.Context(), pipeline.Result(rec)); err == nil {
		t.Error("Write after Abort returned nil")
	}
	if _, err := stage.Prepare(t.Context(), pipeline.Mark{}); err == nil {
		t.Error("Prepare after Abort returned nil")
	}
	// The epoch can be done again.
	r.publish(r.prepare(1))
	r.sees("after doing it again", 1)
}

func sinkPublishTwice(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	receipt := r.prepare(1)
	for i := range 3 {
		r.publish(receipt)
		r.sees(fmt.Sprintf("after publish %d", i+1), 1)
	}
	next := r.prepare(2)
	r.publish(next)
	r.publish(receipt)
	r.sees("after publishing epoch 1 behind epoch 2", 1, 2)
}

func sinkPublishByAnother(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	receipt := slices.Clone(r.prepare(1))
	r.reopen()
	r.publish(receipt)
	r.sees("published by another process", 1)
	for range 2 {
		r.reopen()
		r.publish(receipt)
		r.sweep()
		r.sees("published again by another process", 1)
	}
	r.leftovers("at the end", 0)
}

func sinkEmptyEpoch(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	for _, withBatch := range []bool{false, true} {
		stage, err := r.sink.Begin(t.Context(), sinkEpoch(1))
		if err != nil {
			t.Fatal(err)
		}
		if withBatch {
			rec := st.Batch(1)
			empty := rec.NewSlice(0, 0)
			rec.Release()
			if err := stage.Write(t.Context(), pipeline.Result(empty)); err != nil {
				t.Fatal(err)
			}
			empty.Release()
		}
		receipt, err := stage.Prepare(t.Context(), pipeline.Mark{Event: pipeline.MinTicks, Ingest: pipeline.MinTicks})
		if err != nil {
			t.Fatal(err)
		}
		if receipt != nil { // there is no mark either that could be told
			t.Errorf("receipt of an epoch without rows: %s", receipt)
		}
		if err := r.sink.Publish(t.Context(), receipt); err != nil {
			t.Errorf("publish of an epoch without rows: %v", err)
		}
	}
	r.sees("after empty epochs")
	r.leftovers("after empty epochs", 0)
}

// sinkSelection writes an epoch as two selections of a batch; nothing is lost or doubled.
func sinkSelection(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	rec := st.Batch(1)
	defer rec.Release()
	var odd, even []int32
	for i := range int32(rec.NumRows()) {
		if i%2 == 1 {
			odd = append(odd, i)
		} else {
			even = append(even, i)
		}
	}
	stage, err := r.sink.Begin(t.Context(), sinkEpoch(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range [][]int32{odd, even, {}} {
		b := pipeline.Result(rec)
		b.Rows = rows
		if err := stage.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	receipt, err := stage.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	r.publish(receipt)
	r.sees("after two selections", 1)
}

func sinkEpochsOverlap(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	first, err := r.stage(1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.stage(2)
	if err != nil {
		t.Fatal(err)
	}
	one, err := first.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	r.publish(one)
	r.sees("while epoch 2 is open", 1)
	two, err := second.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	r.publish(two)
	r.sees("at the end", 1, 2)
}

// sinkEpochAgain: a process dies between Prepare and the checkpoint. The next one does
// the epoch again, with other rows, under the same name.
func sinkEpochAgain(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	one := r.prepare(1)
	r.publish(one)
	r.prepare(2)
	r.reopen()
	r.publish(one)
	r.sweep()
	stage, err := r.sink.Begin(t.Context(), sinkEpoch(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{2, 3} {
		rec := st.Batch(n)
		if err := stage.Write(t.Context(), pipeline.Result(rec)); err != nil {
			t.Fatal(err)
		}
		rec.Release()
	}
	two, err := stage.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	r.publish(two)
	r.sees("after epoch 2 was done again", 1, 2, 3)
}

func sinkSweep(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	one := r.prepare(1)
	r.prepare(2) // the process dies before a checkpoint names it
	r.reopen()
	live, err := r.stage(3)
	if err != nil {
		t.Fatal(err)
	}
	r.publish(one)
	r.sweep()
	r.sees("after the sweep", 1)
	three, err := live.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatalf("prepare of a stage that was open during the sweep: %v", err)
	}
	r.publish(three)
	r.sees("at the end", 1, 3)
	r.reopen()
	r.sweep()
	r.leftovers("at the end", 0)
}

func sinkBadReceipt(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	good := r.prepare(1)
	for _, bad := range []pipeline.Receipt{
		pipeline.Receipt("x"), pipeline.Receipt("{}"), good[:len(good)/2],
		append(slices.Clone(good[:len(good)/2]), 0xff),
	} {
		if err := r.sink.Publish(t.Context(), bad); err == nil {
			t.Errorf("publish of receipt %q returned nil", bad)
		}
	}
	r.sees("after bad receipts")
	r.publish(good)
	r.sees("after the good one", 1)
}

func sinkCancel(t *testing.T, st SinkTest) {
	r := newSinkRun(t, st)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	stage, err := r.stage(1)
	if err != nil {
		t.Fatal(err)
	}
	rec := st.Batch(1)
	defer rec.Release()
	receipt := r.prepare(2)
	within := func(what string, f func() error) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- f() }()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s with a canceled context: %v", what, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s with a canceled context does not return", what)
		}
	}
	within("Begin", func() error { _, err := r.sink.Begin(canceled, sinkEpoch(9)); return err })
	within("Write", func() error { return stage.Write(canceled, pipeline.Result(rec)) })
	within("Prepare", func() error { _, err := stage.Prepare(canceled, pipeline.Mark{}); return err })
	within("Publish", func() error { return r.sink.Publish(canceled, receipt) })
	within("Sweep", func() error { return r.sink.Sweep(canceled) })
	r.reopen()
	r.publish(receipt)
	r.sweep()
	r.sees("after it all", 2)
	r.leftovers("after it all", 0)
}

// sinkPrepareFaults breaks every durable step from Begin to Prepare, in three ways. Nothing
// may become visible; a restart does the epoch again.
func sinkPrepareFaults(t *testing.T, st SinkTest) {
	for _, mode := range []FaultMode{DieBefore, LoseAnswer, FailOnce} {
		for at := 1; ; at++ {
			r := newSinkRun(t, st)
			r.place.Faults.Set(mode, at)
			var receipt pipeline.Receipt
			stage, err := r.stage(1)
			if err == nil {
				receipt, err = stage.Prepare(t.Context(), pipeline.Mark{})
			}
			when := fmt.Sprintf("fault %d at step %d of Prepare", mode, at)
			hit := r.place.Faults.Hit()
			if hit && err == nil && mode == DieBefore {
				t.Fatalf("%s: Prepare returned nil", when)
			}
			r.reopen()
			r.sees(when)
			if err == nil { // the checkpoint has it
				r.publish(receipt)
			} else {
				r.sweep()
				r.leftovers(when, 0)
				r.publish(r.prepare(1))
			}
			r.sees(when+", after the restart", 1)
			if !hit {
				break
			}
		}
	}
}

// sinkPublishFaults breaks every durable step of Publish in three ways. Where the process
// dies, another one publishes the receipt; where one step fails or its answer is lost,
// the same sink may get over it or say so, and then publishes again.
func sinkPublishFaults(t *testing.T, st SinkTest) {
	for _, mode := range []FaultMode{DieBefore, LoseAnswer, FailOnce} {
		for _, another := range []bool{true, false} {
			if mode == DieBefore && !another {
				continue
			}
			for at := 1; ; at++ {
				r := newSinkRun(t, st)
				receipt := r.prepare(1)
				r.place.Faults.Set(mode, at)
				// A sink may go on trying: it gets a little time after the fault, not before.
				ctx, cancel := context.WithCancel(t.Context())
				r.place.Faults.OnHit(func() { time.AfterFunc(10*time.Millisecond, cancel) })
				err := r.sink.Publish(ctx, receipt)
				cancel()
				hit := r.place.Faults.Hit()
				r.place.Faults.Set(NoFault, 0)
				if !hit && err != nil {
					t.Fatalf("publish without a fault: %v", err)
				}
				if another {
					r.reopen()
				}
				r.publish(receipt)
				when := fmt.Sprintf("fault %d at step %d of Publish (%v), published again", mode, at, err)
				r.sees(when, 1)
				if another {
					r.sweep()
					r.leftovers(when, 0)
				}
				r.publish(r.prepare(2))
				r.sees(when+", with the next epoch", 1, 2)
				if !hit {
					break
				}
			}
		}
	}
}

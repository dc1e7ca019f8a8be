package pipeline_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// threeCheckpoints writes epochs 1 to 3 with one piece of state that changes in epoch 2 only.
func threeCheckpoints(t *testing.T, store pipeline.Store, mem memory.Allocator) *pipeline.Checkpoints {
	t.Helper()
	c := pipeline.NewCheckpoints(store, 3, mem)
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.BinaryTypes.Binary}}, nil))
	defer b.Release()
	b.Field(0).(*array.BinaryBuilder).AppendString("RC-1")
	rec := b.NewRecordBatch()
	defer rec.Release()
	var prev *pipeline.Checkpoint
	for epoch := range int64(3) {
		p := pipeline.Piece{ID: "p"}
		if epoch < 2 {
			p.Rec = rec
		}
		cp := &pipeline.Checkpoint{Job: "j", Lineage: 1, Epoch: epoch + 1, Merged: pipeline.Mark{Event: epoch}}
		if err := c.Write(t.Context(), cp, prev, []pipeline.ShardPiece{{Op: 1, Piece: p}}); err != nil {
			t.Fatal(err)
		}
		prev = cp
	}
	return c
}

// TestList: what is there is listed with what is wrong with it, the newest first, and state is
// read by Verify and Look alone.
func TestList(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	ctx, store := t.Context(), pipelinetest.NewMemStore()
	c := threeCheckpoints(t, store, mem)
	list := func() []pipeline.Listed {
		t.Helper()
		all, err := c.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := list()
	var epochs []int64
	for _, l := range all {
		epochs = append(epochs, l.Epoch)
		if l.Err != nil || !l.Named || l.Newest != (l.Epoch == 3) || l.Checkpoint.Merged.Event != l.Epoch-1 {
			t.Errorf("%+v", l)
		}
	}
	if !slices.Equal(epochs, []int64{3, 2, 1}) {
		t.Fatalf("epochs %d", epochs)
	}

	// A state file that two checkpoints have is damaged: the list does not see it.
	state := all[0].Checkpoint.Pieces[0].File
	b := object(t, store, state)
	b[len(b)/2] ^= 1
	if err := store.Put(ctx, state, b); err != nil {
		t.Fatal(err)
	}
	for _, l := range list() {
		if l.Err != nil {
			t.Errorf("checkpoint %d: %v", l.Epoch, l.Err)
		}
		damaged, err := c.Verify(ctx, l.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		if want := l.Epoch > 1; want != (len(damaged) == 1 && damaged[0].File == state && errors.Is(damaged[0].Err, pipeline.ErrCheckpoint)) || !want && damaged != nil {
			t.Errorf("checkpoint %d: damaged %v", l.Epoch, damaged)
		}
		rows := int64(0)
		err = c.Look(ctx, l.Checkpoint, func(_ pipeline.PieceRef, p pipeline.Piece) error {
			rows += p.Rec.NumRows()
			return nil
		})
		if l.Epoch == 1 && (err != nil || rows != 1) || l.Epoch > 1 && !errors.Is(err, pipeline.ErrCheckpoint) {
			t.Errorf("checkpoint %d: %d rows, %v", l.Epoch, rows, err)
		}
	}

	// A manifest that nobody has committed is listed as such; one that is changed as corrupt.
	manifest := func(epoch string) string { return "checkpoints/0000000000000000000" + epoch + "/manifest.json" }
	text := object(t, store, manifest("1"))
	err := errors.Join(store.Put(ctx, manifest("1"), append(bytes.Clone(text), ' ')), store.Put(ctx, manifest("4"), bytes.Replace(text, []byte(`"epoch": 1`), []byte(`"epoch": 4`), 1)))
	if err != nil {
		t.Fatal(err)
	}
	all = list()
	if l := all[0]; l.Epoch != 4 || l.Named || l.Newest || l.Err != nil {
		t.Errorf("without a commit: %+v", l)
	}
	if l := all[3]; l.Epoch != 1 || !l.Named || !errors.Is(l.Err, pipeline.ErrCheckpoint) || l.Checkpoint != nil {
		t.Errorf("with another manifest: %+v", l)
	}

	// One that the job removes while it is read is gone, not corrupt.
	second := all[2].Checkpoint
	for _, o := range []string{manifest("2"), state} {
		if err := store.Delete(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Verify(ctx, second); !errors.Is(err, pipeline.ErrNotExist) || errors.Is(err, pipeline.ErrCheckpoint) {
		t.Errorf("verify of what is removed: %v", err)
	}
	if all = list(); len(all) != 3 {
		t.Errorf("%d checkpoints, want 3", len(all))
	}
}

// TestLookDistrusts: what is wrong with pieces is an error, also where a reader panics over it.
func TestLookDistrusts(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	c := threeCheckpoints(t, pipelinetest.NewMemStore(), mem)
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	look := func(cp pipeline.Checkpoint, piece func(pipeline.PieceRef, pipeline.Piece) error) error {
		return c.Look(t.Context(), &cp, piece)
	}
	nothing := func(pipeline.PieceRef, pipeline.Piece) error { return nil }
	whole := *all[0].Checkpoint
	if err := look(whole, nothing); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pipeline.PieceRef){
		"a batch that is not there": func(p *pipeline.PieceRef) { p.Batch = 9 },
		"a batch below 0":           func(p *pipeline.PieceRef) { p.Batch = -1 },
		"a file of somebody else":   func(p *pipeline.PieceRef) { p.File = "../\xff" },
	} {
		cp := whole
		cp.Pieces = slices.Clone(whole.Pieces)
		change(&cp.Pieces[0])
		if err := look(cp, nothing); err == nil || strings.Contains(err.Error(), "\xff") {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = look(whole, func(_ pipeline.PieceRef, p pipeline.Piece) error {
		_ = p.Rec.Column(0).(*array.Int64)
		return nil
	})
	if !errors.Is(err, pipeline.ErrCheckpoint) {
		t.Errorf("a panic of the reader: %v", err)
	}
}

// TestReadLocalStore: it makes no directory and removes no file.
func TestReadLocalStore(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent")
	if _, err := pipeline.ReadLocalStore(absent, pipeline.DefaultFS()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := os.Stat(absent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pipeline.ReadLocalStore(file, pipeline.DefaultFS()); err == nil {
		t.Error("a file is no directory")
	}
	s, err := pipeline.ReadLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	objects, err := s.List(t.Context(), "")
	entries, derr := os.ReadDir(dir)
	if err != nil || derr != nil || len(objects) != 1 || string(object(t, s, "file")) != "x" || len(entries) != 1 {
		t.Errorf("objects %v, entries %v, %v, %v", objects, entries, err, derr)
	}
}

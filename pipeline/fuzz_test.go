package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const (
	fuzzManifest = "checkpoints/00000000000000000001/manifest.json"
	fuzzSplits   = "checkpoints/00000000000000000001/splits.arrow"
)

// fuzzStore holds one checkpoint as a job writes it.
func fuzzStore(t testing.TB) *pipelinetest.MemStore {
	t.Helper()
	store := pipelinetest.NewMemStore()
	cp := &pipeline.Checkpoint{Job: "j", Lineage: 2, Epoch: 1, Seed: 7, Merged: pipeline.Mark{Event: 5, Ingest: 6},
		Splits:   []pipeline.SplitState{{Split: pipeline.Split{Topic: "t", Partition: 3}, Position: pipeline.Position{Offset: 9, LeaderEpoch: -1}, Quiet: true}},
		Moves:    []pipeline.Move{{Split: 0, From: 1, To: 2, Seen: 3}},
		Receipts: []pipeline.SinkReceipt{{Sink: "s", Receipt: pipeline.Receipt("r")}}}
	if err := pipeline.NewCheckpoints(store, 1, memory.NewGoAllocator()).Write(context.Background(), cp, nil, nil); err != nil {
		t.Fatal(err)
	}
	return store
}

func object(t testing.TB, s pipeline.Store, name string) []byte {
	t.Helper()
	b, err := s.GetRange(context.Background(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// point lets CURRENT name a manifest, whatever it holds.
func point(t testing.TB, s pipeline.Store, manifest []byte) {
	t.Helper()
	current := fmt.Sprintf(`{"epoch":1,"lineage":2,"manifest_xxh64":"%016x"}`, xxhash.Sum64(manifest))
	for name, b := range map[string][]byte{fuzzManifest: manifest, "CURRENT": []byte(current)} {
		if err := s.Put(context.Background(), name, b); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzCheckpoint puts anything in the place of CURRENT and of the manifest, with a checksum
// that holds where that is asked for: either it is the checkpoint that was written, or one of
// the same epoch, or it is refused as a checkpoint and not as a store that fails.
func FuzzCheckpoint(f *testing.F) {
	whole := fuzzStore(f)
	current, manifest := object(f, whole, "CURRENT"), object(f, whole, fuzzManifest)
	f.Add(current, manifest, false)
	f.Add([]byte("{}"), manifest, false)
	f.Add(current, manifest[:len(manifest)/2], true)
	f.Add(current, []byte(`{"format":1,"epoch":1,"lineage":2,"seed":"7","files":[{"name":"../x"}]}`), true)
	f.Fuzz(func(t *testing.T, current, manifest []byte, held bool) {
		s := fuzzStore(t)
		if held {
			point(t, s, manifest)
		} else if err := errors.Join(s.Put(t.Context(), fuzzManifest, manifest), s.Put(t.Context(), "CURRENT", current)); err != nil {
			t.Fatal(err)
		}
		checkpoints := pipeline.NewCheckpoints(s, 1, memory.NewGoAllocator())
		cp, skipped, err := checkpoints.Load(t.Context())
		if err != nil {
			if !errors.Is(err, pipeline.ErrCheckpoint) {
				t.Fatalf("refused as something else: %v", err)
			}
			return
		}
		if cp == nil {
			t.Fatalf("a job with a checkpoint starts anew, skipped %v", skipped)
		}
		if cp.Epoch != 1 {
			t.Fatalf("epoch %d is under the name of epoch 1", cp.Epoch)
		}
		if err := checkpoints.Pieces(t.Context(), cp, func(pipeline.PieceRef, pipeline.Piece) error { return nil }); err != nil && !errors.Is(err, pipeline.ErrCheckpoint) && len(cp.Pieces) == 0 {
			t.Fatalf("pieces of a checkpoint without any: %v", err)
		}
	})
}

// FuzzSplits puts anything in the place of the table of splits, with all checksums made to
// hold: it is read as splits or refused, and never ends the process.
func FuzzSplits(f *testing.F) {
	whole := fuzzStore(f)
	splits := object(f, whole, fuzzSplits)
	f.Add(splits)
	f.Add(splits[:len(splits)-9])
	for at := 8; at < len(splits); at += 97 {
		b := append([]byte(nil), splits...)
		b[at] ^= 0x41
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, splits []byte) {
		if len(splits) > 1<<14 {
			return
		}
		s := fuzzStore(t)
		var m map[string]any
		if err := json.Unmarshal(object(t, s, fuzzManifest), &m); err != nil {
			t.Fatal(err)
		}
		for _, file := range m["files"].([]any) {
			if ref := file.(map[string]any); ref["name"] == fuzzSplits {
				ref["size"], ref["xxh64"] = len(splits), fmt.Sprintf("%016x", xxhash.Sum64(splits))
			}
		}
		manifest, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		point(t, s, manifest)
		if err := s.Put(t.Context(), fuzzSplits, splits); err != nil {
			t.Fatal(err)
		}
		cp, _, err := pipeline.NewCheckpoints(s, 1, memory.NewGoAllocator()).Load(t.Context())
		if err != nil && !errors.Is(err, pipeline.ErrCheckpoint) || err == nil && cp == nil {
			t.Fatalf("%+v, %v", cp, err)
		}
	})
}

package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const (
	fuzzCommit   = "commits/00000000000000000001"
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

// point lets the newest commit name a manifest, whatever it holds.
func point(t testing.TB, s pipeline.Store, manifest []byte) {
	t.Helper()
	text := fmt.Sprintf(`{"epoch":1,"lineage":2,"manifest_xxh64":"%016x","next_epoch":2,"owner":"","until_ms":0`, xxhash.Sum64(manifest))
	commit := fmt.Sprintf(`%s,"xxh64":"%016x"}`, text, xxhash.Sum64String(text+"}"))
	for name, b := range map[string][]byte{fuzzManifest: manifest, fuzzCommit: []byte(commit)} {
		if err := s.Put(context.Background(), name, b); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzCheckpoint puts anything in the place of the commit and of the manifest, with a checksum
// that holds where that is asked for: either it is the checkpoint that was written, or one of
// the same epoch, or it is refused as a checkpoint and not as a store that fails.
func FuzzCheckpoint(f *testing.F) {
	whole := fuzzStore(f)
	current, manifest := object(f, whole, fuzzCommit), object(f, whole, fuzzManifest)
	f.Add(current, manifest, false)
	f.Add([]byte("{}"), manifest, false)
	f.Add(current, manifest[:len(manifest)/2], true)
	f.Add(current, []byte(`{"format":1,"epoch":1,"lineage":2,"seed":"7","files":[{"name":"../x"}]}`), true)
	f.Fuzz(func(t *testing.T, current, manifest []byte, held bool) {
		s := fuzzStore(t)
		if held {
			point(t, s, manifest)
		} else if err := errors.Join(s.Put(t.Context(), fuzzManifest, manifest), s.Put(t.Context(), fuzzCommit, current)); err != nil {
			t.Fatal(err)
		}
		checkpoints := pipeline.NewCheckpoints(s, 1, memory.NewGoAllocator())
		cp, skipped, err := checkpoints.Load(t.Context())
		if err != nil {
			if !errors.Is(err, pipeline.ErrCheckpoint) && !errors.Is(err, pipeline.ErrNewer) {
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

// FuzzSplits puts any Arrow file in the place of the table of splits, columns of other types,
// too few of them and nulls included: with checksums that hold it is read as so many splits or
// refused, and never ends the process. One changed byte under the old checksum is refused
// before Arrow sees it, whose reader trusts the lengths that it is given.
func FuzzSplits(f *testing.F) {
	f.Add([]byte("t"), uint8(19), uint8(255), 0)
	f.Add([]byte("tttt"), uint8(3), uint8(255), 9)
	f.Add([]byte{0, 1, 2, 0xff}, uint8(19), uint8(1), 77)
	f.Fuzz(func(t *testing.T, data []byte, columns, odd uint8, flip int) {
		if len(data) > 1<<10 {
			return
		}
		rows := len(data)
		splits := splitsFile(t, data, int(columns)%24, int(odd))
		s := fuzzStore(t)
		putSplits(t, s, splits)
		load := func() (*pipeline.Checkpoint, error) {
			cp, _, err := pipeline.NewCheckpoints(s, 1, memory.NewGoAllocator()).Load(t.Context())
			return cp, err
		}
		cp, err := load()
		if err != nil && !errors.Is(err, pipeline.ErrCheckpoint) || err == nil && len(cp.Splits) != rows {
			t.Fatalf("%d rows: %+v, %v", rows, cp, err)
		}
		splits = slices.Clone(splits)
		splits[uint(flip)%uint(len(splits))] ^= 0x20
		if err := s.Put(t.Context(), fuzzSplits, splits); err != nil {
			t.Fatal(err)
		}
		if _, err := load(); !errors.Is(err, pipeline.ErrCheckpoint) {
			t.Fatalf("a changed byte: %v", err)
		}
	})
}

// splitsFile makes an Arrow file of as many rows as there are bytes. Column odd has another
// type than a table of splits, and nulls.
func splitsFile(t *testing.T, data []byte, columns, odd int) []byte {
	types := append([]arrow.DataType{arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32,
		arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint32}, slices.Repeat([]arrow.DataType{arrow.PrimitiveTypes.Int64}, 18)...)
	types[9], types[10] = arrow.FixedWidthTypes.Boolean, arrow.FixedWidthTypes.Boolean
	var fields []arrow.Field
	for i, typ := range types[:columns] {
		if i == odd {
			typ = arrow.PrimitiveTypes.Float64
		}
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: typ, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	b := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
	for _, v := range data {
		for i, c := range b.Fields() {
			switch c := c.(type) {
			case *array.Float64Builder:
				c.AppendNull()
			case *array.StringBuilder:
				c.Append(string(v))
			case *array.Int64Builder:
				c.Append(int64(v) << (i * 3))
			default:
				c.AppendEmptyValue()
			}
		}
	}
	rec := b.NewRecordBatch()
	if columns == 0 {
		rec = array.NewRecordBatch(schema, nil, int64(len(data)))
	}
	var file bytes.Buffer
	w, err := ipc.NewFileWriter(&file, ipc.WithSchema(schema))
	if err == nil {
		err = errors.Join(w.Write(rec), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// putSplits puts a file in the place of the table of splits and lets all checksums hold.
func putSplits(t *testing.T, s pipeline.Store, splits []byte) {
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
}

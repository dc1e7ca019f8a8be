package parquet

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// encoded returns a file of rows, its digests, and the sink that wrote it.
func encoded(t *testing.T, mem memory.Allocator, cfg Config, rows []reading) (*Sink, *pipelinetest.MemStore, file, []byte, []digest) {
	t.Helper()
	store := pipelinetest.NewMemStore()
	s := openSink(t, cfg, store)
	rec := readingBatch(mem, rows)
	defer rec.Release()
	g := newStage(s, pipeline.Epoch{Job: cfg.Job, Lineage: 3, N: 1})
	if err := g.order.Add(pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	defer g.order.Reset()
	for _, c := range g.columns {
		if err := c.bind(g.order.Recs); err != nil {
			t.Fatal(err)
		}
	}
	var body bytes.Buffer
	sums, err := g.encode(t.Context(), &body, g.order.Rows)
	if err != nil {
		t.Fatal(err)
	}
	return s, store, file{Staging: "f", Size: int64(body.Len()), Rows: int64(len(rows)), XXH64: fmt.Sprintf("%016x", xxhash.Sum64(body.Bytes()))}, body.Bytes(), sums
}

// TestVerify flips every byte of a file, or every ninth, one at a time: none goes unnoticed, and most are
// noticed by the values alone, as a fault of the encoder would be. What the footer lets
// through is what reading everything is for.
func TestVerify(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for codec, stride := range map[string]int{"none": 1, "zstd": 9} {
		cfg := testConfig()
		cfg.Codec, cfg.RowGroupRows = codec, 25
		s, store, f, body, sums := encoded(t, mem, cfg, readings(1, 40))
		put := func(b []byte) {
			if err := store.Put(t.Context(), f.Staging, b); err != nil {
				t.Fatal(err)
			}
		}
		put(body)
		if err := s.verify(t.Context(), f, sums); err != nil {
			t.Fatalf("%s: the file as it was written: %v", codec, err)
		}
		values, footer := 0, 0
		for at := 0; at < len(body); at += stride {
			bad := bytes.Clone(body)
			bad[at] ^= 0x41
			put(bad)
			s.cfg.Verify = VerifyFooter
			if err := s.verify(t.Context(), f, sums); err != nil {
				footer++
			}
			s.cfg.Verify = VerifyFull
			err := s.verify(t.Context(), f, sums)
			if err == nil {
				t.Errorf("%s: byte %d of %d changed unnoticed", codec, at, len(body))
			} else if !strings.HasPrefix(err.Error(), "hash ") {
				values++
			}
		}
		t.Logf("%s: of %d bytes, %d were noticed by the values, %d by the footer", codec, len(body)/stride, values, footer)
		if footer >= values {
			t.Errorf("%s: the footer notices %d, the values %d", codec, footer, values)
		}
	}
}

// TestVerifyNames: what is wrong is said by column.
func TestVerifyNames(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	rows := readings(1, 40)
	s, store, f, body, sums := encoded(t, mem, testConfig(), rows)
	if err := store.Put(t.Context(), f.Staging, body); err != nil {
		t.Fatal(err)
	}
	for i, column := range []string{"time", "key", "value", "_tm_ver", "_tm_lineage", "_tm_epoch"} {
		other := slices.Clone(sums)
		other[i]++
		if err := s.verify(t.Context(), f, other); err == nil || !strings.Contains(err.Error(), "column "+column+": other values") {
			t.Errorf("another digest of %s: %v", column, err)
		}
	}
	f.Rows++
	if err := s.verify(t.Context(), f, sums); err == nil || !strings.Contains(err.Error(), "41 written") {
		t.Errorf("another row count: %v", err)
	}
}

// badStore gives staged objects back with a byte changed, as a bad disk or cable would.
type badStore struct {
	pipeline.Store
	at int64
}

func (s badStore) GetRange(ctx context.Context, name string, off, n int64) ([]byte, error) {
	b, err := s.Store.GetRange(ctx, name, off, n)
	if strings.HasPrefix(name, stagingDir) && err == nil && off <= s.at && s.at < off+int64(len(b)) {
		b[s.at-off] ^= 1
	}
	return b, err
}

// TestVerifyStops: a file that does not read back fails the epoch and leaves nothing.
func TestVerifyStops(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store := pipelinetest.NewMemStore()
	cfg := testConfig()
	cfg.Codec, cfg.PartitionBy = "none", pipeline.PartitionNone
	s := openSink(t, cfg, badStore{store, 100})
	if _, err := prepareStep(t, mem, s, pipeline.Epoch{Lineage: 1, N: 1}, step{[]int{0, 1, 2}, 0}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("Prepare over a bad disk: %v", err)
	}
	if left := objects(t, store, ""); len(left) > 0 {
		t.Errorf("left: %d objects", len(left))
	}
}

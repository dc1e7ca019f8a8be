package operators_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

type discardAll struct{}

func (discardAll) Emit(pipeline.Port, pipeline.Batch) error { return nil }
func (discardAll) Count(pipeline.Fate, int32, int64)        {}

// BenchmarkSession folds rows of 100k devices, in order, into sessions that mostly go on.
func BenchmarkSession(b *testing.B) {
	const devices, batches, rows = 100_000, 256, 4096
	cfg := oracleConfig()
	cfg.Gap = 30_000_000
	rng := rand.New(rand.NewPCG(1, 1))
	var recs []arrow.RecordBatch
	var keys []pipeline.Keys
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), cfg.Keys, 0)
	if err != nil {
		b.Fatal(err)
	}
	at := int64(0)
	for range batches {
		var part []pipelinetest.Row
		for range rows {
			at += 100
			part = append(part, pipelinetest.Row{Time: at, Key: fmt.Sprintf("RC-%07d", rng.IntN(devices)), Value: rng.Int64N(100)})
		}
		rec := pipelinetest.Record(memory.DefaultAllocator, part)
		defer rec.Release()
		recs, keys = append(recs, rec), append(keys, keyer.Keys(rec))
	}
	b.ReportAllocs()
	for b.Loop() {
		w, err := operators.NewSession(cfg, pipelinetest.RowSchema(), memory.DefaultAllocator)
		if err != nil {
			b.Fatal(err)
		}
		for i, rec := range recs {
			if err := w.Process(pipeline.Batch{Rec: rec, Keys: keys[i], Passed: pipeline.MinTicks}, discardAll{}); err != nil {
				b.Fatal(err)
			}
			if err := w.Advance(pipeline.Mark{Event: int64(i+1)*rows*100 - 2_000_001}, discardAll{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(w.Bytes())/float64(max(1, w.Open())), "B/session")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batches*rows), "ns/row")
}

package parquet

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const benchBatches, benchRows = 64, 4096

// benchStage makes an epoch of eight columns and a struct of three floats.
func benchStage(b *testing.B, store pipeline.Store) (*Sink, []arrow.RecordBatch) {
	f := arrow.PrimitiveTypes.Float64
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "time", Type: pipeline.Timestamp}, {Name: "device", Type: arrow.BinaryTypes.String},
		{Name: "gateway", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "rssi", Type: arrow.PrimitiveTypes.Int32}, {Name: "lat", Type: f}, {Name: "lon", Type: f},
		{Name: "battery", Type: f, Nullable: true},
		{Name: "accel", Type: arrow.StructOf(arrow.Field{Name: "x", Type: f}, arrow.Field{Name: "y", Type: f}, arrow.Field{Name: "z", Type: f})},
	}, nil)
	cfg := testConfig()
	cfg.SortBy, cfg.PartitionBy = []string{"device", "time"}, pipeline.PartitionNone
	s, err := New(cfg, store, schema)
	if err != nil {
		b.Fatal(err)
	}
	bld := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	var recs []arrow.RecordBatch
	for k := range benchBatches {
		for i := range benchRows {
			n := k*benchRows + i
			bld.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(baseUS + n*1000))
			bld.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("device-%07d", n*7919%50000))
			bld.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("gateway-%03d", n%97))
			bld.Field(3).(*array.Int64Builder).Append(int64(n % 13))
			bld.Field(4).(*array.Int32Builder).Append(int32(-40 - n%50))
			bld.Field(5).(*array.Float64Builder).Append(52 + float64(n%1000)/1e5)
			bld.Field(6).(*array.Float64Builder).Append(13 + float64(n%1777)/1e5)
			bld.Field(7).(*array.Float64Builder).Append(float64(n%100) / 100)
			a := bld.Field(8).(*array.StructBuilder)
			a.Append(true)
			for j := range 3 {
				a.FieldBuilder(j).(*array.Float64Builder).Append(float64(n%(100+j)) / 64)
			}
		}
		recs = append(recs, bld.NewRecordBatch())
	}
	return s, recs
}

// sorted begins a stage with rows that are sorted.
func sorted(b *testing.B, s *Sink, recs []arrow.RecordBatch) *stage {
	g := newStage(s, pipeline.Epoch{Job: s.cfg.Job, Lineage: 1, N: 1})
	for _, r := range recs {
		if err := g.order.Add(pipeline.Result(r)); err != nil {
			b.Fatal(err)
		}
	}
	if err := g.order.Sort(); err != nil {
		b.Fatal(err)
	}
	for _, c := range g.columns {
		if err := c.bind(g.order.Recs); err != nil {
			b.Fatal(err)
		}
	}
	return g
}

func perRow(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(benchBatches*benchRows), "ns/row")
}

// BenchmarkEncode sorts and encodes an epoch; ns/row is the figure to compare.
func BenchmarkEncode(b *testing.B) {
	s, recs := benchStage(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		g := sorted(b, s, recs)
		if _, err := g.encode(b.Context(), io.Discard, g.order.Rows); err != nil {
			b.Fatal(err)
		}
		g.order.Reset()
	}
	perRow(b)
}

// BenchmarkVerify reads the same file back. Its share of BenchmarkEncode is the price of
// verify: full.
func BenchmarkVerify(b *testing.B) {
	store := pipelinetest.NewMemStore()
	s, recs := benchStage(b, store)
	g := sorted(b, s, recs)
	var body bytes.Buffer
	sums, err := g.encode(b.Context(), &body, g.order.Rows)
	if err != nil {
		b.Fatal(err)
	}
	f := file{Staging: "f", Size: int64(body.Len()), Rows: benchBatches * benchRows, XXH64: fmt.Sprintf("%016x", xxhash.Sum64(body.Bytes()))}
	if err := store.Put(b.Context(), f.Staging, body.Bytes()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.verify(b.Context(), f, sums); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b)
}

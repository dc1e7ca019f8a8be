package main

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/benchmarks/gen"
	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// Columns of the load behind those that every row has.
const (
	colDevice = pipeline.NumRowColumns + iota
	colRSSI
	colBattery
)

func schema() *arrow.Schema {
	bits := arrow.MetadataFrom(map[string]string{pipeline.BitsKey: "16"})
	return arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "device_id", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "rssi_dbm", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: bits},
		arrow.Field{Name: "battery_mv", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: bits}), nil)
}

// query is what both operators are asked: W1's aggregates, one final row per window.
type query struct {
	size, slide, lateness int64
}

func (q query) config(aggs []operators.Aggregate) operators.WindowConfig {
	shape := operators.TumblingShape(q.size, 0)
	if q.slide != q.size {
		shape = operators.Shape{Kind: operators.Hopping, Size: q.size, Slide: q.slide}
	}
	return operators.WindowConfig{Shape: shape, Lateness: q.lateness, Trigger: operators.OnClose, Keys: []string{"device_id"}, Aggregates: aggs, Seed: 1}
}

// w1 are the aggregates of W1.
func w1() []operators.Aggregate {
	return []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "rssi_dbm", As: "sum"},
		{Fn: "min", Column: "rssi_dbm", As: "min"}, {Fn: "max", Column: "rssi_dbm", As: "max"}, {Fn: "last", Column: "rssi_dbm", As: "last"}}
}

// A step is a batch as the exchange hands it on, and the mark that follows it.
type step struct {
	batch pipeline.Batch
	mark  int64
}

// bound is the disorder bound of W1, in ticks.
const bound = 120_000_000

// batchRows is a usual size of a batch.
const batchRows = 4096

// load is the events of the generator as batches of one split. The rows' marks are there, as
// from the front; their key hashes are not, since the rival's map hashes too.
func load(cfg gen.Config, mem memory.Allocator) []step {
	marks := pipeline.NewMarks(bound, pipeline.MaxTicks)
	split := marks.Add()
	b := array.NewRecordBuilder(mem, schema())
	defer b.Release()
	var steps []step
	var times []int64
	var key []byte
	offset := int64(0)
	flush := func() {
		behind, mark, passed := marks.Stamp(split, times, nil)
		marks.Arrive(split, pipeline.Mark{Event: mark, Ingest: pipeline.MinTicks}, 0)
		steps = append(steps, step{pipeline.Batch{Rec: b.NewRecordBatch(), Split: split, Behind: behind, Passed: passed}, mark})
		times = times[:0]
	}
	_ = cfg.Each(func(es []gen.Event) error {
		for _, e := range es {
			at := e.TS * 1000
			key = e.Key(key[:0])
			times = append(times, at)
			b.Field(pipeline.ColTime).(*array.TimestampBuilder).Append(arrow.Timestamp(at))
			b.Field(pipeline.ColSplit).(*array.Int32Builder).Append(split)
			b.Field(pipeline.ColOffset).(*array.Int64Builder).Append(offset)
			b.Field(pipeline.ColIngest).(*array.TimestampBuilder).Append(arrow.Timestamp(e.Arrive * 1000))
			b.Field(colDevice).(*array.StringBuilder).BinaryBuilder.Append(key)
			b.Field(colRSSI).(*array.Int64Builder).Append(int64(e.RSSI))
			b.Field(colBattery).(*array.Int64Builder).Append(int64(3000 + e.Device%200))
			offset++
			if len(times) == batchRows {
				flush()
			}
		}
		return nil
	})
	if len(times) > 0 {
		flush()
	}
	return append(steps, step{mark: pipeline.MaxTicks})
}

func release(steps []step) {
	for _, s := range steps {
		if s.batch.Rec != nil {
			s.batch.Release()
		}
	}
}

// runEngine runs operators.Window over the load, the hashes of the keys included.
func runEngine(q query, steps []step, mem memory.Allocator, emit func(arrow.RecordBatch)) (late int64, err error) {
	cfg := q.config(w1())
	w, err := operators.NewWindow(cfg, schema(), mem)
	if err != nil {
		return 0, err
	}
	keyer, err := pipeline.NewKeyer(schema(), cfg.Keys, cfg.Seed)
	if err != nil {
		return 0, err
	}
	out := &results{emit: emit}
	for _, s := range steps {
		if b := s.batch; b.Rec != nil {
			b.Keys = keyer.Keys(b.Rec)
			if err := w.Process(b, out); err != nil {
				return 0, err
			}
		}
		if err := w.Advance(pipeline.Mark{Event: s.mark, Ingest: pipeline.MinTicks}, out); err != nil {
			return 0, err
		}
	}
	return out.late, nil
}

// runRival runs the rival over the load.
func runRival(q query, steps []step, mem memory.Allocator, emit func(arrow.RecordBatch)) (late int64, err error) {
	r := newRival(q.size, q.slide, q.lateness, mem, emit)
	defer r.release()
	for _, s := range steps {
		if s.batch.Rec != nil {
			r.process(s.batch)
		}
		r.advance(s.mark)
	}
	return r.late, nil
}

// results takes what the engine emits.
type results struct {
	emit func(arrow.RecordBatch)
	late int64
}

func (r *results) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Out {
		r.emit(b.Rec)
	} else {
		r.late += int64(b.NumRows())
	}
	return nil
}

func (r *results) Count(pipeline.Fate, int32, int64) {}

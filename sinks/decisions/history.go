package decisions

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Point is where a job stood when a checkpoint had been published.
type Point struct {
	At      int64 // wall clock
	Lineage uint16
	Epoch   int64
	// Anew says that the lineage began with no state, from where its source starts, and that
	// this is the first point of it.
	Anew   bool
	Merged pipeline.Mark
	Holder int32 // index in Splits, -1 for none
	Since  int64 // when the merged mark rose last, by the wall clock; MinTicks for not known
	Splits []pipeline.SplitState
}

const marksFolder = "marks"

const (
	markAt = iota
	markLineage
	markEpoch
	markAnew
	markMerged
	markMergedIngest
	markHolder
	markSince
	markTopic
	markPartition
	markOffset
	markEvent
	markIngest
	markLast
	markQuiet
	markEnded
)

// Marks may be beyond what a timestamp can show, so they are numbers.
func pointSchema() *arrow.Schema {
	number := func(name string) arrow.Field { return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64} }
	return arrow.NewSchema([]arrow.Field{
		{Name: "published", Type: pipeline.Timestamp},
		{Name: "lineage", Type: arrow.PrimitiveTypes.Int32},
		number("epoch"),
		{Name: "anew", Type: arrow.FixedWidthTypes.Boolean},
		number("merged_mark_us"),
		number("merged_ingest_mark_us"),
		{Name: "holder", Type: arrow.PrimitiveTypes.Int32},
		number("since_us"),
		{Name: "topic", Type: arrow.BinaryTypes.String},
		{Name: "partition", Type: arrow.PrimitiveTypes.Int32},
		number("next_offset"),
		number("mark_us"),
		number("ingest_mark_us"),
		number("last_ingest_us"),
		{Name: "quiet", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "ended", Type: arrow.FixedWidthTypes.Boolean},
	}, nil)
}

const (
	// writeEvery is how often the history is written at most.
	writeEvery = time.Second
	// unchangedEvery is how often a point is kept that says what the one before has said.
	unchangedEvery = time.Minute
)

// History keeps where the marks stood. It is used by one goroutine.
type History struct {
	journal
	waits   []arrow.RecordBatch // not written yet
	epoch   pipeline.Epoch      // of the first of them
	anew    bool
	last    Point // the newest point
	written time.Time
}

// NewHistory begins the history of a process; anew says that the job starts over.
func NewHistory(cfg Config, store pipeline.Store, anew bool, mem memory.Allocator, now func() time.Time) *History {
	return &History{journal: journal{cfg: cfg, store: store, folder: marksFolder, schema: pointSchema(), mem: mem, now: now}, anew: anew}
}

// Take adds the point of a checkpoint. After an error the points wait for the next call, as far
// as an object holds them.
func (h *History) Take(ctx context.Context, p pipeline.Published) error {
	now := h.now()
	point := Point{At: now.UnixMicro(), Lineage: p.Lineage, Epoch: p.Epoch, Anew: h.anew, Merged: p.Merged, Holder: p.Holder, Since: p.Since, Splits: slices.Clone(p.Splits)}
	if len(p.Splits) == 0 || h.said(point) {
		return nil
	}
	if len(h.waits) == 0 {
		h.epoch = pipeline.Epoch{Lineage: p.Lineage, N: p.Epoch}
	}
	h.waits = append(h.waits, h.record(point))
	h.last, h.anew = point, false
	if now.Sub(h.written) < writeEvery {
		return nil
	}
	h.written = now
	return h.Flush(ctx)
}

// said tells whether a point says what the newest one does, a short while ago.
func (h *History) said(p Point) bool {
	if p.At-h.last.At >= unchangedEvery.Microseconds() || p.Lineage != h.last.Lineage || p.Merged != h.last.Merged {
		return false
	}
	return slices.EqualFunc(p.Splits, h.last.Splits, func(a, b pipeline.SplitState) bool {
		return a.Split == b.Split && a.Position.Offset == b.Position.Offset && a.Mark == b.Mark && a.Quiet == b.Quiet && a.Ended == b.Ended
	})
}

// Flush writes the points that wait.
func (h *History) Flush(ctx context.Context) error {
	if len(h.waits) == 0 {
		return nil
	}
	defer func() {
		for _, rec := range h.waits {
			rec.Release()
		}
		h.waits = nil
	}()
	err := h.add(ctx, h.epoch.Lineage, h.epoch.N, h.waits)
	if err != nil && h.rows >= fullRows {
		h.forget()
	}
	return err
}

// Close writes the points that wait.
func (h *History) Close(ctx context.Context) error {
	err := h.Flush(ctx)
	h.forget()
	return err
}

// record has the rows of a point, one per split.
func (h *History) record(p Point) arrow.RecordBatch {
	b := array.NewRecordBuilder(h.mem, h.schema)
	defer b.Release()
	number := func(col int, v int64) { b.Field(col).(*array.Int64Builder).Append(v) }
	flag := func(col int, v bool) { b.Field(col).(*array.BooleanBuilder).Append(v) }
	for _, s := range p.Splits {
		b.Field(markAt).(*array.TimestampBuilder).Append(arrow.Timestamp(p.At))
		b.Field(markLineage).(*array.Int32Builder).Append(int32(p.Lineage))
		number(markEpoch, p.Epoch)
		flag(markAnew, p.Anew)
		number(markMerged, p.Merged.Event)
		number(markMergedIngest, p.Merged.Ingest)
		b.Field(markHolder).(*array.Int32Builder).Append(p.Holder)
		number(markSince, p.Since)
		b.Field(markTopic).(*array.StringBuilder).Append(s.Split.Topic)
		b.Field(markPartition).(*array.Int32Builder).Append(s.Split.Partition)
		number(markOffset, s.Position.Offset)
		number(markEvent, s.Mark.Event)
		number(markIngest, s.Mark.Ingest)
		number(markLast, s.Position.LastIngest)
		flag(markQuiet, s.Quiet)
		flag(markEnded, s.Ended)
	}
	return b.NewRecordBatch()
}

// Points returns the history that is kept, oldest first. Objects that are damaged are passed
// over and told of.
func Points(ctx context.Context, store pipeline.Store, mem memory.Allocator) (out []Point, damaged []error, err error) {
	damaged, err = read(ctx, store, marksFolder, pointSchema(), mem, func(rec arrow.RecordBatch) {
		number := func(col, i int) int64 { return rec.Column(col).(*array.Int64).Value(i) }
		small := func(col, i int) int32 { return rec.Column(col).(*array.Int32).Value(i) }
		flag := func(col, i int) bool { return rec.Column(col).(*array.Boolean).Value(i) }
		for i := range int(rec.NumRows()) {
			at := int64(rec.Column(markAt).(*array.Timestamp).Value(i))
			if n := len(out); n == 0 || out[n-1].At != at || out[n-1].Epoch != number(markEpoch, i) || out[n-1].Lineage != uint16(small(markLineage, i)) {
				out = append(out, Point{At: at, Lineage: uint16(small(markLineage, i)), Epoch: number(markEpoch, i), Anew: flag(markAnew, i),
					Merged: pipeline.Mark{Event: number(markMerged, i), Ingest: number(markMergedIngest, i)}, Holder: small(markHolder, i), Since: number(markSince, i)})
			}
			s := pipeline.SplitState{Split: pipeline.Split{Topic: strings.Clone(rec.Column(markTopic).(*array.String).Value(i)), Partition: small(markPartition, i)},
				Position: pipeline.Position{Offset: number(markOffset, i), LastBatch: -1, LastIngest: number(markLast, i)},
				Mark:     pipeline.Mark{Event: number(markEvent, i), Ingest: number(markIngest, i)}, Quiet: flag(markQuiet, i), Ended: flag(markEnded, i)}
			p := &out[len(out)-1]
			p.Splits = append(p.Splits, s)
		}
	})
	return out, damaged, err
}

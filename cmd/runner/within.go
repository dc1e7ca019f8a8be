package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// within is a sink of a replay: it passes on the rows whose time is in the range. A replay reads
// more than that, and makes rows that are not whole.
type within struct {
	pipeline.Sink
	column   string // timestamp, or int64 of milliseconds; rows where it is null are of no range
	from, to int64  // ticks, to exclusive
}

// within returns a sink for the rows of the range of a replay.
func (p *replayPlan) within(s pipeline.Sink, timeColumn string) pipeline.Sink {
	w := within{s, timeColumn, p.From.UnixMicro(), pipeline.MaxTicks}
	if p.bounded() {
		w.to = p.To.UnixMicro()
	}
	return w
}

// Ready is that of the sink, where it has one.
func (w within) Ready(ctx context.Context) error {
	if s, ok := w.Sink.(interface{ Ready(context.Context) error }); ok {
		return s.Ready(ctx)
	}
	return nil
}

// Begin implements pipeline.Sink.
func (w within) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	st, err := w.Sink.Begin(ctx, e)
	if err != nil {
		return nil, err
	}
	return withinStage{st, w}, nil
}

type withinStage struct {
	pipeline.Stage
	w within
}

// Write implements pipeline.Stage. Rows that follow each other go on as one batch.
func (s withinStage) Write(ctx context.Context, b pipeline.Batch) error {
	in, err := s.w.inside(b.Rec)
	if err != nil {
		return err
	}
	for at := 0; at < len(in); {
		from := at + slices.Index(in[at:], true)
		if from < at {
			return nil
		}
		at = len(in)
		if n := slices.Index(in[from:], false); n >= 0 {
			at = from + n
		}
		part := b
		part.Rec = b.Rec.NewSlice(int64(from), int64(at))
		err := s.Stage.Write(ctx, part)
		part.Rec.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// inside tells which rows are in the range.
func (w within) inside(rec arrow.RecordBatch) ([]bool, error) {
	at := rec.Schema().FieldIndices(w.column)
	if len(at) != 1 {
		return nil, fmt.Errorf("replay: rows have no column %s, which says when they are of", w.column)
	}
	in := make([]bool, rec.NumRows())
	switch c := rec.Column(at[0]).(type) {
	case *array.Timestamp:
		for i, t := range pipeline.TicksOf(c) {
			in[i] = c.IsValid(i) && w.from <= t && t < w.to
		}
	case *array.Int64:
		for i, t := range c.Int64Values() {
			ticks := pipeline.Ticks(time.Duration(t) * time.Millisecond)
			in[i] = c.IsValid(i) && w.from <= ticks && ticks < w.to
		}
	default:
		return nil, fmt.Errorf("replay: column %s of type %s says no time", w.column, c.DataType())
	}
	return in, nil
}

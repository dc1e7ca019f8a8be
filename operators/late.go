package operators

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Reasons of the Late port.
const (
	reasonLate       = "late"
	reasonQuietSplit = "quiet_split"
)

// lateRow is a row of a batch, the last window that it missed, of how many, the mark that
// was behind its end by then, and why.
type lateRow struct {
	row    int32
	missed Bounds
	of     int
	mark   int64
	reason string
}

// reasonOf says why a row is late for a window, of which latest is the mark from which on
// rows are: by its own split, or because that split was quiet.
func reasonOf(in pipeline.Batch, row int32, latest int64) string {
	if in.Behind != nil && latest <= in.Behind[row] {
		return reasonLate
	}
	return reasonQuietSplit
}

// emitLate sends late rows of a batch in the given schema, one of LateSchema.
func emitLate(mem memory.Allocator, lates *arrow.Schema, in pipeline.Batch, late []lateRow, out pipeline.Emitter) error {
	cols := make([]arrow.Array, 0, lates.NumFields())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	rows := make([]int32, len(late))
	for i, l := range late {
		rows[i] = l.row
	}
	for i := range int(in.Rec.NumCols()) {
		c, err := pipeline.GatherColumn(mem, in.Rec.Column(i), rows)
		if err != nil {
			return fmt.Errorf("late rows, column %s: %w", in.Rec.ColumnName(i), err)
		}
		cols = append(cols, c)
	}
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	reason := array.NewStringBuilder(mem)
	defer reason.Release()
	by := array.NewInt64Builder(mem)
	defer by.Release()
	start := array.NewTimestampBuilder(mem, pipeline.Timestamp)
	defer start.Release()
	end := array.NewTimestampBuilder(mem, pipeline.Timestamp)
	defer end.Release()
	of := array.NewInt64Builder(mem)
	defer of.Release()
	for _, l := range late {
		of.Append(int64(l.of))
		reason.Append(l.reason)
		by.Append(pipeline.SubTicks(l.mark, times[l.row]))
		start.Append(arrow.Timestamp(l.missed.Start))
		end.Append(arrow.Timestamp(l.missed.End))
	}
	cols = append(cols, reason.NewArray(), by.NewArray(), start.NewArray(), end.NewArray(), of.NewArray())
	rec := array.NewRecordBatch(lates, cols, int64(len(late)))
	defer rec.Release()
	return out.Emit(pipeline.Late, pipeline.Batch{Rec: rec, Split: in.Split, Passed: pipeline.MinTicks})
}

package operators

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// MapFunc turns a record batch into another one with as many rows. It keeps nothing of
// its argument that it does not retain; the caller releases the result.
type MapFunc func(memory.Allocator, arrow.RecordBatch) (arrow.RecordBatch, error)

// Normalize maps every batch, row by row and in order. It has no state and holds no row
// back, so marks and ticks mean nothing to it.
type Normalize struct {
	mapRows MapFunc
	mem     memory.Allocator
}

// NewNormalize wraps a mapping.
func NewNormalize(f MapFunc, mem memory.Allocator) *Normalize {
	return &Normalize{mapRows: f, mem: mem}
}

// Process sends the mapped rows of in to Out.
func (n *Normalize) Process(in pipeline.Batch, out pipeline.Emitter) error {
	if in.NumRows() == 0 {
		return nil
	}
	whole, err := pipeline.Compact(n.mem, in)
	if err != nil {
		return fmt.Errorf("normalize: %w", err)
	}
	defer whole.Release()
	rec, err := n.mapRows(n.mem, whole.Rec)
	if err != nil {
		return fmt.Errorf("normalize: %w", err)
	}
	defer rec.Release()
	if rec.NumRows() != whole.Rec.NumRows() {
		return fmt.Errorf("normalize: the mapping made %d rows of %d", rec.NumRows(), whole.Rec.NumRows())
	}
	return out.Emit(pipeline.Out, pipeline.Batch{Rec: rec, Split: in.Split, Passed: in.Passed})
}

// Advance does nothing: no row waits for a mark.
func (n *Normalize) Advance(pipeline.Mark, pipeline.Emitter) error { return nil }

// Tick does nothing.
func (n *Normalize) Tick(int64, pipeline.Emitter) error { return nil }

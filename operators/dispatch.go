package operators

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Class is a class of events and the table that they become rows of.
type Class struct {
	ID    int64
	Table Rows
}

// Dispatch turns rows that hold an event as text into rows of the table of the event's class.
// The table of the i-th class leaves by pipeline.Side(i). A row becomes a row: it counts as
// aggregated. There is no state.
type Dispatch struct {
	classes []Class
	schemas []*arrow.Schema
	byID    map[int64]int
	class   int // place of the int64 column with the class
	event   int // place of the binary column with the event
	added   []int64
}

// NewDispatch reads columns class (int64) and event (binary) of rows.
func NewDispatch(class, event string, rows *arrow.Schema, classes []Class) (*Dispatch, error) {
	d := &Dispatch{classes: classes, byID: map[int64]int{}, added: make([]int64, len(classes))}
	var errs []error
	column := func(name string, typ arrow.Type) int {
		at := rows.FieldIndices(name)
		if len(at) != 1 || rows.Field(at[0]).Type.ID() != typ {
			errs = append(errs, fmt.Errorf("dispatch: rows have no column %q of type %s", name, typ))
			return -1
		}
		return at[0]
	}
	d.class, d.event = column(class, arrow.INT64), column(event, arrow.BINARY)
	if len(classes) == 0 || len(classes) > pipeline.MaxSides {
		errs = append(errs, fmt.Errorf("dispatch: %d classes of events, want 1 to %d", len(classes), pipeline.MaxSides))
	}
	for i, c := range classes {
		if _, twice := d.byID[c.ID]; twice {
			errs = append(errs, fmt.Errorf("dispatch: class %d is there twice", c.ID))
		}
		d.byID[c.ID] = i
		d.schemas = append(d.schemas, arrow.NewSchema(c.Table.Fields(), nil))
	}
	return d, errors.Join(errs...)
}

// Schema is the schema of the i-th class's rows.
func (d *Dispatch) Schema(i int) *arrow.Schema { return d.schemas[i] }

// Process implements pipeline.Operator.
func (d *Dispatch) Process(in pipeline.Batch, out pipeline.Emitter) error {
	classes, events := in.Rec.Column(d.class).(*array.Int64), in.Rec.Column(d.event).(*array.Binary)
	err := eachRow(in, func(r int) error {
		i, known := d.byID[classes.Value(r)]
		if !known {
			return fmt.Errorf("dispatch: an event of class %d, which has no table", classes.Value(r))
		}
		if err := d.classes[i].Table.Append(events.Value(r)); err != nil {
			return fmt.Errorf("dispatch: an event of class %d: %w", classes.Value(r), err)
		}
		d.added[i]++
		return nil
	})
	if err != nil {
		return err
	}
	out.Count(pipeline.Aggregated, in.Split, int64(in.NumRows()))
	for i, n := range d.added {
		if n == 0 {
			continue
		}
		d.added[i] = 0
		if err := d.emit(i, n, out); err != nil {
			return err
		}
	}
	return nil
}

// emit sends the n rows that the i-th table has.
func (d *Dispatch) emit(i int, n int64, out pipeline.Emitter) error {
	cols := d.classes[i].Table.Columns()
	rec := array.NewRecordBatch(d.schemas[i], cols, n)
	defer rec.Release()
	for _, c := range cols {
		c.Release()
	}
	return out.Emit(pipeline.Side(i), pipeline.Result(rec))
}

// eachRow calls f with the selected rows.
func eachRow(in pipeline.Batch, f func(r int) error) error {
	for _, r := range in.Rows {
		if err := f(int(r)); err != nil {
			return err
		}
	}
	if in.Rows != nil {
		return nil
	}
	for r := range int(in.Rec.NumRows()) {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// Advance implements pipeline.Operator: no row waits for a mark.
func (d *Dispatch) Advance(pipeline.Mark, pipeline.Emitter) error { return nil }

// Tick implements pipeline.Operator.
func (d *Dispatch) Tick(int64, pipeline.Emitter) error { return nil }

// Each makes a result of its own of every row, which counts as aggregated. There is no state.
type Each struct{ mem memory.Allocator }

// NewEach is for jobs without a keyed operator.
func NewEach(mem memory.Allocator) *Each { return &Each{mem} }

// Process implements pipeline.Operator.
func (e *Each) Process(in pipeline.Batch, out pipeline.Emitter) error {
	if in.NumRows() == 0 {
		return nil
	}
	whole, err := pipeline.Compact(e.mem, in)
	if err != nil {
		return fmt.Errorf("each: %w", err)
	}
	defer whole.Release()
	out.Count(pipeline.Aggregated, in.Split, int64(in.NumRows()))
	return out.Emit(pipeline.Out, pipeline.Result(whole.Rec))
}

// Advance implements pipeline.Operator: no row waits for a mark.
func (e *Each) Advance(pipeline.Mark, pipeline.Emitter) error { return nil }

// Tick implements pipeline.Operator.
func (e *Each) Tick(int64, pipeline.Emitter) error { return nil }

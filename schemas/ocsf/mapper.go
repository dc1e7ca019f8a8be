package ocsf

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Mapper turns batches of result rows into batches of OCSF events, one for one. It is
// used by one goroutine.
type Mapper struct {
	in     *arrow.Schema
	inputs []*Input // the columns that attributes read
	attrs  []Attr
	schema *arrow.Schema
	kept   []int // input columns that are passed through as the last ones
}

// newMapper makes a mapper of the rows that c reads. The columns named by kept follow
// the event unchanged, in that order; all others must have been taken before.
func newMapper(c *Inputs, attrs []Attr, kept []string) *Mapper {
	m := &Mapper{in: c.schema, inputs: c.All(), attrs: attrs}
	fields := make([]arrow.Field, len(attrs), len(attrs)+len(kept))
	for i := range attrs {
		fields[i] = attrs[i].Field()
	}
	for _, name := range kept {
		at := c.byName[name].at
		m.kept = append(m.kept, at)
		fields = append(fields, c.schema.Field(at))
	}
	m.schema = arrow.NewSchema(fields, nil)
	return m
}

// Schema is the schema of the events.
func (m *Mapper) Schema() *arrow.Schema { return m.schema }

// Map maps the rows of rec. The columns that it makes own Go memory, so the allocator is
// not asked; the caller releases the result all the same.
func (m *Mapper) Map(_ memory.Allocator, rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	if !rec.Schema().Equal(m.in) {
		return nil, fmt.Errorf("ocsf: rows of another schema than the mapper was made for:\n%s\nwant\n%s", rec.Schema(), m.in)
	}
	for _, c := range m.inputs {
		c.arr = rec.Column(c.at)
	}
	defer func() {
		for _, c := range m.inputs {
			c.arr = nil
		}
	}()
	n := int(rec.NumRows())
	cols := make([]arrow.Array, 0, len(m.attrs)+len(m.kept))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range m.attrs {
		c, err := m.attrs[i].column(n)
		if err != nil {
			return nil, fmt.Errorf("ocsf: %w", err)
		}
		cols = append(cols, c)
	}
	for _, at := range m.kept {
		c := rec.Column(at)
		c.Retain()
		cols = append(cols, c)
	}
	return array.NewRecordBatch(m.schema, cols, int64(n)), nil
}

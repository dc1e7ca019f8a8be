package ocsf

import (
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Attr is an attribute of the rows that a mapper makes. Exactly one of Fixed, Int32,
// Int64, Text, Map and Of says what it holds. Functions get the number of the row in the
// batch that is being mapped and return false for null.
type Attr struct {
	Name  string
	Fixed any // the same in every row: int32, int64 or string
	Int32 func(row int) (int32, bool)
	Int64 func(row int) (int64, bool)
	Text  func(dst []byte, row int) ([]byte, bool) // appends to dst
	Map   func(m *Pairs, row int)                  // adds the entries of the row
	Of    []Attr                                   // an object
	// List makes an object a list that holds it once.
	List bool
	// Present tells in which rows an object is there; nil means in all.
	Present func(row int) bool
	// Required refuses rows in which the attribute would be null.
	Required bool

	fixed arrow.Array // Fixed, for as many rows as the largest batch had
	bytes int         // text of the last batch, to size the next; of a map, its values
	names int         // of a map: text of the keys
	pairs int         // of a map: entries
}

// Pairs collects the entries of a map column.
type Pairs struct {
	keys, values texts
	ends         []int32
}

// Add adds an entry whose value is the text that value appends; false adds none.
func (p *Pairs) Add(key string, value func(dst []byte) ([]byte, bool)) {
	text, ok := value(p.values.data)
	if !ok {
		p.values.data = p.values.data[:p.values.len()]
		return
	}
	p.values.data = text
	p.values.end()
	p.keys.data = append(p.keys.data, key...)
	p.keys.end()
}

// AddText adds an entry.
func (p *Pairs) AddText(key, value string) {
	p.Add(key, func(dst []byte) ([]byte, bool) { return append(dst, value...), true })
}

// texts is a string column without nulls.
type texts struct {
	data []byte
	ends []int32
	over bool // the text passed 2 GiB and was cut: the batch is refused
}

// newTexts makes a column with room for rows values and a tenth more than bytes.
func newTexts(rows, bytes int) texts {
	return texts{ends: make([]int32, 1, rows+1), data: make([]byte, 0, bytes+bytes/10)}
}

func (t *texts) len() int32 { return t.ends[len(t.ends)-1] }

func (t *texts) end() {
	if len(t.data) > math.MaxInt32 {
		t.over, t.data = true, t.data[:t.len()]
	}
	t.ends = append(t.ends, int32(len(t.data)))
}

func (t *texts) array(valid *validity) arrow.Array {
	n := len(t.ends) - 1
	return newArray(arrow.BinaryTypes.String, n, valid,
		memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(t.ends)), memory.NewBufferBytes(t.data))
}

var errTooMuchText = errors.New("more than 2 GiB of text in one batch; make the batches of results smaller")

// validity is the validity bitmap of a column; the zero value has no nulls.
type validity struct {
	bits  []byte
	nulls int
}

func (v *validity) setNull(row, rows int) {
	if v.bits == nil {
		v.bits = make([]byte, (rows+7)/8)
		for i := range v.bits {
			v.bits[i] = 0xff
		}
	}
	v.bits[row/8] &^= 1 << (row % 8)
	v.nulls++
}

func (v *validity) buffer() *memory.Buffer {
	if v == nil || v.nulls == 0 {
		return nil
	}
	return memory.NewBufferBytes(v.bits)
}

func (v *validity) count() int {
	if v == nil {
		return 0
	}
	return v.nulls
}

func newArray(t arrow.DataType, n int, valid *validity, bufs ...*memory.Buffer) arrow.Array {
	return wrap(t, n, valid, nil, bufs...)
}

func wrap(t arrow.DataType, n int, valid *validity, children []arrow.ArrayData, bufs ...*memory.Buffer) arrow.Array {
	d := array.NewData(t, n, append([]*memory.Buffer{valid.buffer()}, bufs...), children, valid.count(), 0)
	defer d.Release()
	return array.MakeFromData(d)
}

// Type is the Arrow type of the attribute.
func (a *Attr) Type() arrow.DataType {
	switch {
	case a.Of != nil:
		fields := make([]arrow.Field, len(a.Of))
		for i := range a.Of {
			fields[i] = a.Of[i].Field()
		}
		if a.List {
			return arrow.ListOfNonNullable(arrow.StructOf(fields...))
		}
		return arrow.StructOf(fields...)
	case a.Map != nil:
		m := arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String)
		m.SetItemNullable(false)
		return m
	case a.Int32 != nil:
		return arrow.PrimitiveTypes.Int32
	case a.Int64 != nil:
		return arrow.PrimitiveTypes.Int64
	case a.Text != nil:
		return arrow.BinaryTypes.String
	}
	switch a.Fixed.(type) {
	case int32:
		return arrow.PrimitiveTypes.Int32
	case int64:
		return arrow.PrimitiveTypes.Int64
	case string:
		return arrow.BinaryTypes.String
	}
	panic(fmt.Sprintf("ocsf: attribute %s holds %T", a.Name, a.Fixed))
}

// Field is the Arrow field of the attribute.
func (a *Attr) Field() arrow.Field {
	never := a.Fixed != nil || a.Map != nil || a.Of != nil && a.Present == nil
	return arrow.Field{Name: a.Name, Type: a.Type(), Nullable: !a.Required && !never}
}

// column fills the attribute for n rows.
func (a *Attr) column(n int) (arrow.Array, error) {
	switch {
	case a.Fixed != nil:
		if a.fixed == nil || a.fixed.Len() < n {
			a.fixed = repeat(a.Fixed, n)
		}
		return array.NewSlice(a.fixed, 0, int64(n)), nil
	case a.Of != nil:
		return a.object(n)
	case a.Map != nil:
		return a.entries(n)
	}
	var valid validity
	var out arrow.Array
	switch {
	case a.Int32 != nil:
		vs := make([]int32, n)
		for i := range vs {
			v, ok := a.Int32(i)
			if !ok {
				valid.setNull(i, n)
			}
			vs[i] = v
		}
		out = newArray(arrow.PrimitiveTypes.Int32, n, &valid, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(vs)))
	case a.Int64 != nil:
		vs := make([]int64, n)
		for i := range vs {
			v, ok := a.Int64(i)
			if !ok {
				valid.setNull(i, n)
			}
			vs[i] = v
		}
		out = newArray(arrow.PrimitiveTypes.Int64, n, &valid, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(vs)))
	default:
		vs := newTexts(n, a.bytes)
		for i := range n {
			text, ok := a.Text(vs.data, i)
			if ok {
				vs.data = text
			} else {
				vs.data = vs.data[:vs.len()]
				valid.setNull(i, n)
			}
			vs.end()
		}
		if vs.over {
			return nil, fmt.Errorf("attribute %s: %w", a.Name, errTooMuchText)
		}
		a.bytes = len(vs.data)
		out = vs.array(&valid)
	}
	if a.Required && valid.nulls > 0 {
		out.Release()
		return nil, fmt.Errorf("attribute %s: null in %d of %d rows", a.Name, valid.nulls, n)
	}
	return out, nil
}

func (a *Attr) object(n int) (arrow.Array, error) {
	children := make([]arrow.ArrayData, 0, len(a.Of))
	for i := range a.Of {
		c, err := a.Of[i].column(n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
		defer c.Release()
		children = append(children, c.Data())
	}
	var valid validity
	if a.Present != nil {
		for i := range n {
			if !a.Present(i) {
				valid.setNull(i, n)
			}
		}
	}
	if !a.List {
		return wrap(a.Type(), n, &valid, children), nil
	}
	typ := a.Type().(*arrow.ListType)
	items := wrap(typ.Elem(), n, nil, children)
	defer items.Release()
	ends := make([]int32, n+1)
	for i := range ends {
		ends[i] = int32(i)
	}
	return wrap(typ, n, &valid, []arrow.ArrayData{items.Data()}, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(ends))), nil
}

func (a *Attr) entries(n int) (arrow.Array, error) {
	p := Pairs{keys: newTexts(a.pairs, a.names), values: newTexts(a.pairs, a.bytes), ends: make([]int32, 1, n+1)}
	for i := range n {
		a.Map(&p, i)
		p.ends = append(p.ends, int32(len(p.keys.ends)-1))
	}
	if p.keys.over || p.values.over {
		return nil, fmt.Errorf("attribute %s: %w", a.Name, errTooMuchText)
	}
	a.pairs, a.names, a.bytes = len(p.keys.ends), len(p.keys.data), len(p.values.data)
	keys, values := p.keys.array(nil), p.values.array(nil)
	defer keys.Release()
	defer values.Release()
	typ := a.Type().(*arrow.MapType)
	entries := wrap(typ.Elem(), keys.Len(), nil, []arrow.ArrayData{keys.Data(), values.Data()})
	defer entries.Release()
	return wrap(typ, n, nil, []arrow.ArrayData{entries.Data()}, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(p.ends))), nil
}

// repeat makes a column of n times v.
func repeat(v any, n int) arrow.Array {
	switch v := v.(type) {
	case int32:
		vs := make([]int32, n)
		for i := range vs {
			vs[i] = v
		}
		return newArray(arrow.PrimitiveTypes.Int32, n, nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(vs)))
	case int64:
		vs := make([]int64, n)
		for i := range vs {
			vs[i] = v
		}
		return newArray(arrow.PrimitiveTypes.Int64, n, nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(vs)))
	case string:
		vs := newTexts(n, n*len(v))
		for range n {
			vs.data = append(vs.data, v...)
			vs.end()
		}
		return vs.array(nil)
	}
	panic(fmt.Sprintf("ocsf: a fixed %T", v))
}

// Mapper turns batches of result rows into batches of OCSF events, one for one. It is
// used by one goroutine.
type Mapper struct {
	in     *arrow.Schema
	inputs []*Input // the columns that attributes read
	attrs  []Attr
	schema *arrow.Schema
	kept   []int // input columns that are passed through as the last ones
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

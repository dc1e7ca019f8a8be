package ocsf

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Attr is an attribute of the rows that a mapper makes. Exactly one of Fixed, Bool, Int32,
// Int64, Float64, Text, Texts, Floats, Map and Of says what it holds. Functions get the
// number of the row in the batch that is being mapped and return false for null.
type Attr struct {
	Name    string
	Fixed   any // the same in every row: int32, int64, string or []string
	Bool    func(row int) (bool, bool)
	Int32   func(row int) (int32, bool)
	Int64   func(row int) (int64, bool)
	Float64 func(row int) (float64, bool)
	Text    func(dst []byte, row int) ([]byte, bool)       // appends to dst, also where it gives false
	Texts   func(l *Texts, row int) bool                   // a list: adds the texts of the row
	Floats  func(dst []float64, row int) ([]float64, bool) // a list: appends the numbers of the row
	Map     func(m *Pairs, row int)                        // adds the entries of the row
	Of      []Attr                                         // an object
	// List makes an object a list that holds it once. See also ListOf.
	List bool
	// Present tells in which rows an object is there; nil means in all.
	Present func(row int) bool
	// Required refuses rows in which the attribute would be null.
	Required bool

	items *items      // of ListOf: which objects the rows have
	fixed arrow.Array // Fixed, for as many rows as the largest batch had
	bytes int         // text of the last batch, to size the next; of a map, its values
	names int         // of a map: text of the keys
	pairs int         // of a map or list: entries
}

// Pairs collects the entries of a map column.
type Pairs struct {
	keys, values texts
	ends         []int32
}

// textMap is the type of unmapped.
func textMap() *arrow.MapType {
	m := arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String)
	m.SetItemNullable(false)
	return m
}

// end ends a row.
func (p *Pairs) end() { p.ends = append(p.ends, int32(len(p.keys.ends)-1)) }

// array makes the column of all rows that were ended.
func (p *Pairs) array() arrow.Array {
	keys, values := p.keys.array(nil), p.values.array(nil)
	defer keys.Release()
	defer values.Release()
	typ := textMap()
	return listOf(typ, nil, p.ends, wrap(typ.Elem(), keys.Len(), nil, []arrow.ArrayData{keys.Data(), values.Data()}))
}

// Add adds an entry whose value is the text that value appends; false adds none.
func (p *Pairs) Add(key string, value func(dst []byte) ([]byte, bool)) {
	text, ok := value(p.values.data)
	if p.values.take(text, ok); !ok {
		return
	}
	p.values.end()
	p.keys.data = append(p.keys.data, key...)
	p.keys.end()
}

// AddText adds an entry.
func (p *Pairs) AddText(key, value string) {
	p.Add(key, func(dst []byte) ([]byte, bool) { return append(dst, value...), true })
}

// Texts collects the items of a list of texts.
type Texts struct{ items texts }

// Add adds an item.
func (t *Texts) Add(item string) {
	t.items.data = append(t.items.data, item...)
	t.items.end()
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

// take takes over what was appended to data, or only the room that was made for it: else
// a column of nulls would be given room in every row.
func (t *texts) take(appended []byte, ok bool) {
	if ok || cap(appended) > cap(t.data) {
		t.data = appended
	}
	if !ok {
		t.data = t.data[:t.len()]
	}
}

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
		if a.List || a.items != nil {
			return arrow.ListOfNonNullable(arrow.StructOf(fields...))
		}
		return arrow.StructOf(fields...)
	case a.Map != nil:
		return textMap()
	case a.Bool != nil:
		return arrow.FixedWidthTypes.Boolean
	case a.Int32 != nil:
		return arrow.PrimitiveTypes.Int32
	case a.Int64 != nil:
		return arrow.PrimitiveTypes.Int64
	case a.Float64 != nil:
		return arrow.PrimitiveTypes.Float64
	case a.Text != nil:
		return arrow.BinaryTypes.String
	case a.Texts != nil:
		return arrow.ListOfNonNullable(arrow.BinaryTypes.String)
	case a.Floats != nil:
		return arrow.ListOfNonNullable(arrow.PrimitiveTypes.Float64)
	}
	switch a.Fixed.(type) {
	case int32:
		return arrow.PrimitiveTypes.Int32
	case int64:
		return arrow.PrimitiveTypes.Int64
	case string:
		return arrow.BinaryTypes.String
	case []string:
		return arrow.ListOfNonNullable(arrow.BinaryTypes.String)
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
	out, err := a.values(n, &valid)
	if err != nil {
		return nil, fmt.Errorf("attribute %s: %w", a.Name, err)
	}
	if a.Required && valid.nulls > 0 {
		out.Release()
		return nil, fmt.Errorf("attribute %s: null in %d of %d rows", a.Name, valid.nulls, n)
	}
	return out, nil
}

// values fills an attribute that functions give the values of.
func (a *Attr) values(n int, valid *validity) (arrow.Array, error) {
	switch {
	case a.Bool != nil:
		bits := make([]byte, (n+7)/8)
		for i := range n {
			v, ok := a.Bool(i)
			if !ok {
				valid.setNull(i, n)
			} else if v {
				bits[i/8] |= 1 << (i % 8)
			}
		}
		return newArray(arrow.FixedWidthTypes.Boolean, n, valid, memory.NewBufferBytes(bits)), nil
	case a.Int32 != nil:
		vs := fill(n, a.Int32, valid)
		return newArray(arrow.PrimitiveTypes.Int32, n, valid, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(vs))), nil
	case a.Int64 != nil:
		vs := fill(n, a.Int64, valid)
		return newArray(arrow.PrimitiveTypes.Int64, n, valid, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(vs))), nil
	case a.Float64 != nil:
		vs := fill(n, a.Float64, valid)
		return newArray(arrow.PrimitiveTypes.Float64, n, valid, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(vs))), nil
	case a.Floats != nil:
		return a.floatLists(n, valid), nil
	case a.Texts != nil:
		return a.textLists(n, valid)
	}
	vs := newTexts(n, a.bytes)
	for i := range n {
		text, ok := a.Text(vs.data, i)
		vs.take(text, ok)
		if !ok {
			valid.setNull(i, n)
		}
		vs.end()
	}
	if vs.over {
		return nil, errTooMuchText
	}
	a.bytes = len(vs.data)
	return vs.array(valid), nil
}

func fill[T any](n int, value func(row int) (T, bool), valid *validity) []T {
	vs := make([]T, n)
	for i := range vs {
		v, ok := value(i)
		if !ok {
			valid.setNull(i, n)
		}
		vs[i] = v
	}
	return vs
}

func (a *Attr) floatLists(n int, valid *validity) arrow.Array {
	vs, ends := make([]float64, 0, a.pairs), make([]int32, 1, n+1)
	for i := range n {
		more, ok := a.Floats(vs, i)
		if ok {
			vs = more
		} else {
			valid.setNull(i, n)
		}
		ends = append(ends, int32(len(vs)))
	}
	a.pairs = len(vs)
	items := newArray(arrow.PrimitiveTypes.Float64, len(vs), nil, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(vs)))
	return listOf(a.Type(), valid, ends, items)
}

func (a *Attr) textLists(n int, valid *validity) (arrow.Array, error) {
	l, ends := Texts{newTexts(a.pairs, a.bytes)}, make([]int32, 1, n+1)
	for i := range n {
		if !a.Texts(&l, i) {
			valid.setNull(i, n)
		}
		ends = append(ends, int32(len(l.items.ends)-1))
	}
	if l.items.over {
		return nil, errTooMuchText
	}
	a.pairs, a.bytes = len(l.items.ends), len(l.items.data)
	return listOf(a.Type(), valid, ends, l.items.array(nil)), nil
}

// listOf makes a list column of items, which it releases.
func listOf(typ arrow.DataType, valid *validity, ends []int32, items arrow.Array) arrow.Array {
	defer items.Release()
	return wrap(typ, len(ends)-1, valid, []arrow.ArrayData{items.Data()}, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(ends)))
}

func (a *Attr) object(n int) (arrow.Array, error) {
	var valid validity
	if a.Present != nil {
		for i := range n {
			if !a.Present(i) {
				valid.setNull(i, n)
			}
		}
	}
	switch {
	case a.items != nil:
		objects, err := a.structs(a.items.place(n), nil)
		if err != nil {
			return nil, err
		}
		// The lists outlive the batch, the places do not.
		return listOf(a.Type(), &valid, slices.Clone(a.items.ends), objects), nil
	case a.List:
		objects, err := a.structs(n, nil)
		if err != nil {
			return nil, err
		}
		ends := make([]int32, n+1)
		for i := range ends {
			ends[i] = int32(i)
		}
		return listOf(a.Type(), &valid, ends, objects), nil
	}
	return a.structs(n, &valid)
}

// structs fills n objects.
func (a *Attr) structs(n int, valid *validity) (arrow.Array, error) {
	children := make([]arrow.ArrayData, 0, len(a.Of))
	fields := make([]arrow.Field, len(a.Of))
	for i := range a.Of {
		c, err := a.Of[i].column(n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
		defer c.Release()
		children = append(children, c.Data())
		fields[i] = a.Of[i].Field()
	}
	return wrap(arrow.StructOf(fields...), n, valid, children), nil
}

func (a *Attr) entries(n int) (arrow.Array, error) {
	p := Pairs{keys: newTexts(a.pairs, a.names), values: newTexts(a.pairs, a.bytes), ends: make([]int32, 1, n+1)}
	for i := range n {
		a.Map(&p, i)
		p.end()
	}
	if p.keys.over || p.values.over {
		return nil, fmt.Errorf("attribute %s: %w", a.Name, errTooMuchText)
	}
	a.pairs, a.names, a.bytes = len(p.keys.ends), len(p.keys.data), len(p.values.data)
	return p.array(), nil
}

// repeat makes a column of n times v.
func repeat(v any, n int) arrow.Array {
	switch v := v.(type) {
	case int32:
		return newArray(arrow.PrimitiveTypes.Int32, n, nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(slices.Repeat([]int32{v}, n))))
	case int64:
		return newArray(arrow.PrimitiveTypes.Int64, n, nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(slices.Repeat([]int64{v}, n))))
	case string:
		vs := newTexts(n, n*len(v))
		for range n {
			vs.data = append(vs.data, v...)
			vs.end()
		}
		return vs.array(nil)
	case []string:
		l, ends := Texts{newTexts(n*len(v), 0)}, make([]int32, 1, n+1)
		for range n {
			for _, s := range v {
				l.Add(s)
			}
			ends = append(ends, int32(len(l.items.ends)-1))
		}
		return listOf(arrow.ListOfNonNullable(arrow.BinaryTypes.String), nil, ends, l.items.array(nil))
	}
	panic(fmt.Sprintf("ocsf: a fixed %T", v))
}

package ocsf

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// unmappedName is the attribute of every class that holds what has no other place.
const unmappedName = "unmapped"

// jsonKey marks fields whose texts are JSON, so that AppendEvent writes them as they are.
const jsonKey = "tidemark.json"

// kind is what a column holds.
type kind uint8

const (
	ofInt32 kind = iota
	ofInt64
	ofFloat
	ofBool
	ofText
	ofJSON
	ofTime // milliseconds
	ofObject
	ofList
)

// column collects the values of an attribute. Its slices become the buffers of an array.
type column struct {
	name     string
	kind     kind
	nullable bool
	fields   []column         // of an object
	index    map[string]int32 // of fields
	elem     *column          // of a list

	n     int // rows so far
	valid validity
	int32 []int32 // values, of a list the ends
	int64 []int64
	float []float64
	bits  []byte // of booleans
	texts texts
}

func (c *column) indexFields() {
	c.index = make(map[string]int32, len(c.fields))
	for i := range c.fields {
		c.index[c.fields[i].name] = int32(i)
	}
}

func (c *column) arrowFields() []arrow.Field {
	out := make([]arrow.Field, len(c.fields))
	for i := range c.fields {
		out[i] = c.fields[i].field()
	}
	return out
}

func (c *column) field() arrow.Field {
	f := arrow.Field{Name: c.name, Type: c.typ(), Nullable: c.nullable}
	if c.kind == ofJSON {
		f.Metadata = arrow.NewMetadata([]string{jsonKey}, []string{"true"})
	}
	return f
}

func (c *column) typ() arrow.DataType {
	switch c.kind {
	case ofInt32:
		return arrow.PrimitiveTypes.Int32
	case ofInt64:
		return arrow.PrimitiveTypes.Int64
	case ofFloat:
		return arrow.PrimitiveTypes.Float64
	case ofBool:
		return arrow.FixedWidthTypes.Boolean
	case ofTime:
		return arrow.FixedWidthTypes.Timestamp_ms
	case ofObject:
		return arrow.StructOf(c.arrowFields()...)
	case ofList:
		return arrow.ListOfField(c.elem.field())
	}
	return arrow.BinaryTypes.String
}

// reset empties the column, with room for as much as it held and a tenth more. The old
// slices belong to the arrays that were made of them.
func (c *column) reset() {
	n := c.n
	c.n, c.valid = 0, validity{}
	if c.nullable {
		c.valid.bits = room[byte](n/8 + 1)
	}
	switch c.kind {
	case ofInt32:
		c.int32 = room[int32](n)
	case ofInt64, ofTime:
		c.int64 = room[int64](n)
	case ofFloat:
		c.float = room[float64](n)
	case ofBool:
		c.bits = room[byte](n/8 + 1)
	case ofText, ofJSON:
		c.texts = newTexts(n+n/10, len(c.texts.data))
	case ofObject:
		for i := range c.fields {
			c.fields[i].reset()
		}
	case ofList:
		c.int32 = append(room[int32](n+1), 0)
		c.elem.reset()
	}
}

func room[T any](n int) []T { return make([]T, 0, n+n/10) }

// end ends a row whose value was appended, or whose place was.
func (c *column) end(there bool) {
	if c.nullable {
		c.valid.bits = growBits(c.valid.bits, c.n, there)
		if !there {
			c.valid.nulls++
		}
	}
	c.n++
}

// growBits appends bit n.
func growBits(bits []byte, n int, set bool) []byte {
	if n%8 == 0 {
		bits = append(bits, 0)
	}
	if set {
		bits[n/8] |= 1 << (n % 8)
	}
	return bits
}

// none appends a null, or what stands in its place where there must be none.
func (c *column) none() {
	switch c.kind {
	case ofInt32:
		c.int32 = append(c.int32, 0)
	case ofInt64, ofTime:
		c.int64 = append(c.int64, 0)
	case ofFloat:
		c.float = append(c.float, 0)
	case ofBool:
		c.bits = growBits(c.bits, c.n, false)
	case ofText, ofJSON:
		c.texts.end()
	case ofObject:
		for i := range c.fields {
			c.fields[i].none()
		}
	case ofList:
		c.int32 = append(c.int32, int32(c.elem.n))
	}
	c.end(false)
}

// truncate removes all rows from n on, and what was appended of one more.
func (c *column) truncate(n int) {
	if c.nullable {
		c.valid.bits = cutBits(c.valid.bits, n)
		c.valid.nulls = n - bitutil.CountSetBits(c.valid.bits, 0, n)
	}
	switch c.kind {
	case ofInt32:
		c.int32 = c.int32[:n]
	case ofInt64, ofTime:
		c.int64 = c.int64[:n]
	case ofFloat:
		c.float = c.float[:n]
	case ofBool:
		c.bits = cutBits(c.bits, n)
	case ofText, ofJSON:
		c.texts.truncate(n)
	case ofObject:
		for i := range c.fields {
			c.fields[i].truncate(n)
		}
	case ofList:
		c.int32 = c.int32[:n+1]
		c.elem.truncate(int(c.int32[n]))
	}
	c.n = n
}

// cutBits keeps n bits and clears what is behind them, where growBits sets only.
func cutBits(bits []byte, n int) []byte {
	bits = bits[:(n+7)/8]
	if n%8 != 0 {
		bits[n/8] &= 1<<(n%8) - 1
	}
	return bits
}

func (t *texts) truncate(n int) {
	t.ends = t.ends[:n+1]
	t.data, t.over = t.data[:t.len()], false
}

// over tells whether some text or list passed what 32 bits can count.
func (c *column) over() bool {
	if c.texts.over || c.kind == ofList && (c.elem.n > math.MaxInt32 || c.elem.over()) {
		return true
	}
	for i := range c.fields {
		if c.fields[i].over() {
			return true
		}
	}
	return false
}

// array makes an array of the rows, which then owns the slices.
func (c *column) array() arrow.Array {
	switch c.kind {
	case ofInt32:
		return newArray(c.typ(), c.n, &c.valid, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.int32)))
	case ofInt64, ofTime:
		return newArray(c.typ(), c.n, &c.valid, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(c.int64)))
	case ofFloat:
		return newArray(c.typ(), c.n, &c.valid, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(c.float)))
	case ofBool:
		return newArray(c.typ(), c.n, &c.valid, memory.NewBufferBytes(c.bits))
	case ofObject:
		children := make([]arrow.ArrayData, len(c.fields))
		for i := range c.fields {
			child := c.fields[i].array()
			defer child.Release()
			children[i] = child.Data()
		}
		return wrap(c.typ(), c.n, &c.valid, children)
	case ofList:
		elem := c.elem.array()
		defer elem.Release()
		return wrap(c.typ(), c.n, &c.valid, []arrow.ArrayData{elem.Data()}, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.int32)))
	}
	return c.texts.array(&c.valid)
}

func (p *Pairs) reset() {
	n := len(p.ends)
	entries := len(p.keys.ends)
	p.keys, p.values = newTexts(entries, len(p.keys.data)), newTexts(entries, len(p.values.data))
	p.ends = append(room[int32](n+1), 0)
}

func (p *Pairs) truncate(n int) {
	p.ends = p.ends[:n+1]
	p.keys.truncate(int(p.ends[n]))
	p.values.truncate(int(p.ends[n]))
}

// Len is the number of rows since the last NewRecordBatch.
func (c *Columns) Len() int { return c.rows }

// NewRecordBatch returns the rows since the last call; the caller releases it. The columns
// own Go memory, as those of a Mapper do.
func (c *Columns) NewRecordBatch() arrow.RecordBatch {
	cols := make([]arrow.Array, 0, len(c.root.fields)+1)
	for i := range c.root.fields {
		cols = append(cols, c.root.fields[i].array())
	}
	cols = append(cols, c.unmapped.array())
	rec := array.NewRecordBatch(c.schema, cols, int64(c.rows))
	for _, col := range cols {
		col.Release()
	}
	c.Reset()
	return rec
}

// Reset forgets the rows since the last NewRecordBatch.
func (c *Columns) Reset() {
	c.root.reset()
	c.unmapped.reset()
	c.rows = 0
}

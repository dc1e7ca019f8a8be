package schemas

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// column collects the values of one field for the rows of a batch. Its slices have room
// for the row that is being read, whose values are written before anyone knows whether
// the row will be taken: a row that is refused is simply overwritten.
type column struct {
	Field
	arrow arrow.Field
	scale int    // of the integer kept: Field.Scale, or the unit of a Time
	set   uint64 // the last payload that gave a value

	lowest, highest int64 // of an Int64

	ints   []int64   // Int64 and Time
	floats []float64 // Float64
	bits   []byte    // Bool, one bit each
	ends   []int32   // String: where text of row i ends is ends[i+1]
	text   []byte

	valid []byte // one bit each; nil while there is no null
	nulls int

	// live: some payload of this batch gave a value. A column that is not costs nothing per
	// row; its rows are all null.
	live    bool
	textCap int // room for the text of a batch, from the last one
}

// begin makes a column live: the rows so far are null.
func (c *column) begin(rows, room int) {
	c.live = true
	c.grow(room)
	if c.Type == String {
		c.text = make([]byte, 0, c.textCap)
	}
	if rows > 0 {
		c.growValid(room)
		clear(c.valid[:rows/8])
		c.valid[rows/8] &^= 1<<(rows%8) - 1
		c.nulls = rows
	}
}

// grow makes room for rows rows, keeping what is there.
func (c *column) grow(rows int) {
	switch c.Type {
	case Int64, Time:
		c.ints = enlarge(c.ints, rows)
	case Float64:
		c.floats = enlarge(c.floats, rows)
	case Bool:
		c.bits = enlarge(c.bits, (rows+7)/8)
	case String:
		c.ends = enlarge(c.ends, rows+1)
	}
	if c.valid != nil {
		c.growValid(rows)
	}
}

// growValid sets the bits of new rows: only nulls write to the bitmap.
func (c *column) growValid(rows int) {
	from := len(c.valid)
	c.valid = enlarge(c.valid, (rows+7)/8)
	for i := from; i < len(c.valid); i++ {
		c.valid[i] = 0xff
	}
}

func enlarge[T any](s []T, n int) []T {
	out := make([]T, n)
	copy(out, s)
	return out
}

func (c *column) setBit(row int, v bool) {
	if v {
		c.bits[row/8] |= 1 << (row % 8)
	} else {
		c.bits[row/8] &^= 1 << (row % 8)
	}
}

// setNull makes row null; what lies under a null is always zero.
func (c *column) setNull(row, rows int) {
	switch c.Type {
	case Int64, Time:
		c.ints[row] = 0
	case Float64:
		c.floats[row] = 0
	case Bool:
		c.setBit(row, false)
	case String:
		c.ends[row+1] = c.ends[row]
	}
	if c.valid == nil {
		c.growValid(rows)
	}
	c.valid[row/8] &^= 1 << (row % 8)
	c.nulls++
}

// array wraps the first n rows without copying them.
func (c *column) array(n int) arrow.Array {
	if !c.live {
		c.begin(n, n+1)
	}
	var valid *memory.Buffer
	if c.nulls > 0 {
		valid = memory.NewBufferBytes(c.valid[:(n+7)/8])
	}
	bufs := make([]*memory.Buffer, 2, 3)
	bufs[0] = valid
	switch c.Type {
	case Int64, Time:
		bufs[1] = memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(c.ints[:n]))
	case Float64:
		bufs[1] = memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(c.floats[:n]))
	case Bool:
		bufs[1] = memory.NewBufferBytes(c.bits[:(n+7)/8])
	case String:
		bufs[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.ends[:n+1]))
		bufs = append(bufs, memory.NewBufferBytes(c.text[:c.ends[n]]))
	}
	data := array.NewData(c.arrow.Type, n, bufs, nil, c.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// reset leaves the slices to the arrays that wrap them. The text of the next batch gets a
// quarter more than this one had.
func (c *column) reset() {
	c.textCap = len(c.text) + len(c.text)/4
	c.ints, c.floats, c.bits, c.ends, c.text = nil, nil, nil, nil, nil
	c.valid, c.nulls, c.live = nil, 0, false
}

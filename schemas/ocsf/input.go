package ocsf

import (
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/schemas"
)

// Input is a column of the result rows. Int and AppendText read the batch that is being
// mapped.
type Input struct {
	Name  string
	at    int
	typ   arrow.DataType
	scale int  // of a fixed point int64
	null  bool // may be null

	arr arrow.Array
}

func newInput(schema *arrow.Schema, at int) (*Input, error) {
	f := schema.Field(at)
	c := &Input{Name: f.Name, at: at, typ: f.Type, null: f.Nullable}
	switch f.Type.ID() {
	case arrow.INT64, arrow.LIST:
		if l, ok := f.Type.(*arrow.ListType); ok && l.Elem().ID() != arrow.INT64 && l.Elem().ID() != arrow.STRING {
			return nil, fmt.Errorf("column %q: type %s has no place in an OCSF event; leave the column out of the results", f.Name, f.Type)
		}
		if s, ok := f.Metadata.GetValue(schemas.ScaleKey); ok {
			n, err := strconv.ParseUint(s, 10, 8)
			if err != nil || n > 18 {
				return nil, fmt.Errorf("column %q: %s %q, want 0 to 18", f.Name, schemas.ScaleKey, s)
			}
			c.scale = int(n)
		}
	case arrow.TIMESTAMP:
		if f.Type.(*arrow.TimestampType).Unit != arrow.Microsecond {
			return nil, fmt.Errorf("column %q: type %s, want timestamp[us]", f.Name, f.Type)
		}
	case arrow.INT32, arrow.UINT8, arrow.FLOAT64, arrow.STRING, arrow.BOOL:
	default:
		return nil, fmt.Errorf("column %q: type %s has no place in an OCSF event; leave the column out of the results", f.Name, f.Type)
	}
	return c, nil
}

// IsInt tells whether Int can read the column: whole numbers, and times.
func (c *Input) IsInt() bool {
	switch c.typ.ID() {
	case arrow.INT64:
		return c.scale == 0
	case arrow.INT32, arrow.UINT8, arrow.TIMESTAMP:
		return true
	}
	return false
}

func (c *Input) isText() bool { return c.typ.ID() == arrow.STRING }
func (c *Input) isTime() bool { return c.typ.ID() == arrow.TIMESTAMP }

// isNumber tells whether Float can read the column.
func (c *Input) isNumber() bool {
	switch c.typ.ID() {
	case arrow.INT64, arrow.INT32, arrow.UINT8, arrow.FLOAT64:
		return true
	}
	return false
}

// isTexts tells whether the column is a list of texts.
func (c *Input) isTexts() bool {
	l, ok := c.typ.(*arrow.ListType)
	return ok && l.Elem().ID() == arrow.STRING
}

// Has tells whether the value is not null. A nil Input is null in every row.
func (c *Input) Has(row int) bool { return c != nil && !c.arr.IsNull(row) }

// Int returns the value, a time in milliseconds; false for null. A nil Input is null in
// every row.
func (c *Input) Int(row int) (int64, bool) {
	if c == nil || c.arr.IsNull(row) {
		return 0, false
	}
	switch a := c.arr.(type) {
	case *array.Int64:
		return a.Value(row), true
	case *array.Int32:
		return int64(a.Value(row)), true
	case *array.Uint8:
		return int64(a.Value(row)), true
	case *array.Timestamp:
		return millis(int64(a.Value(row))), true
	}
	return 0, false
}

// micros returns a time in microseconds; false for null.
func (c *Input) micros(row int) (int64, bool) {
	a, ok := c.arr.(*array.Timestamp)
	if !ok || a.IsNull(row) {
		return 0, false
	}
	return int64(a.Value(row)), true
}

// Bool tells whether the value is true; null is not.
func (c *Input) Bool(row int) bool {
	if c == nil || c.arr.IsNull(row) {
		return false
	}
	a, ok := c.arr.(*array.Boolean)
	return ok && a.Value(row)
}

// Float returns the value of a number, rounded; false for null and for what is no number.
func (c *Input) Float(row int) (float64, bool) {
	if c == nil || c.arr.IsNull(row) {
		return 0, false
	}
	switch a := c.arr.(type) {
	case *array.Float64:
		return a.Value(row), true
	case *array.Int64:
		return float64(a.Value(row)) / math.Pow10(c.scale), true
	case *array.Int32:
		return float64(a.Value(row)), true
	case *array.Uint8:
		return float64(a.Value(row)), true
	}
	return 0, false
}

// Number is Float without what OCSF cannot say: infinite is null too.
func (c *Input) Number(row int) (float64, bool) {
	f, ok := c.Float(row)
	return f, ok && !math.IsInf(f, 0) && !math.IsNaN(f)
}

func (c *Input) finite(row int) bool {
	_, ok := c.Number(row)
	return ok
}

// Text returns a text, "" for null. It lies in the batch that is being mapped.
func (c *Input) Text(row int) string {
	if !c.Has(row) {
		return ""
	}
	a, ok := c.arr.(*array.String)
	if !ok {
		return ""
	}
	return a.Value(row)
}

// AddTo adds the texts of a list; false for null.
func (c *Input) AddTo(l *Texts, row int) bool {
	if !c.Has(row) {
		return false
	}
	a := c.arr.(*array.List)
	items := a.ListValues().(*array.String)
	from, to := a.ValueOffsets(row)
	for i := int(from); i < int(to); i++ {
		if items.IsValid(i) {
			l.Add(items.Value(i))
		}
	}
	return true
}

// AppendText appends the value as text, a list as JSON; false for null.
func (c *Input) AppendText(dst []byte, row int) ([]byte, bool) {
	if c == nil || c.arr.IsNull(row) {
		return dst, false
	}
	switch a := c.arr.(type) {
	case *array.String:
		return append(dst, a.Value(row)...), true
	case *array.Int64:
		return appendFixed(dst, a.Value(row), c.scale), true
	case *array.Float64:
		return appendFloat(dst, a.Value(row)), true
	case *array.Boolean:
		return strconv.AppendBool(dst, a.Value(row)), true
	case *array.List:
		return c.appendList(dst, a, row), true
	}
	n, _ := c.Int(row)
	return strconv.AppendInt(dst, n, 10), true
}

func (c *Input) appendList(dst []byte, a *array.List, row int) []byte {
	from, to := a.ValueOffsets(row)
	dst = append(dst, '[')
	for i := int(from); i < int(to); i++ {
		if i > int(from) {
			dst = append(dst, ',')
		}
		switch items := a.ListValues().(type) {
		case *array.Int64:
			if items.IsNull(i) {
				dst = append(dst, "null"...)
			} else {
				dst = appendFixed(dst, items.Value(i), c.scale)
			}
		case *array.String:
			if items.IsNull(i) {
				dst = append(dst, "null"...)
			} else {
				dst = appendQuoted(dst, items.Value(i))
			}
		}
	}
	return append(dst, ']')
}

// millis cuts ticks of 1 us to milliseconds, downwards.
func millis(ticks int64) int64 {
	ms := ticks / 1000
	if ticks%1000 < 0 {
		ms--
	}
	return ms
}

// appendFixed writes v / 10^scale without trailing zeros, but with one digit behind the
// point; scale 0 is a whole number.
func appendFixed(dst []byte, v int64, scale int) []byte {
	if scale == 0 {
		return strconv.AppendInt(dst, v, 10)
	}
	u := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		u = -u
	}
	var buf [40]byte
	s := strconv.AppendUint(buf[:0], u, 10)
	if lack := scale + 1 - len(s); lack > 0 { // zeros up to one digit before the point
		s = buf[:scale+1]
		copy(s[lack:], buf[:scale+1-lack])
		for i := range lack {
			s[i] = '0'
		}
	}
	whole, frac := s[:len(s)-scale], s[len(s)-scale:]
	for len(frac) > 1 && frac[len(frac)-1] == '0' {
		frac = frac[:len(frac)-1]
	}
	dst = append(dst, whole...)
	dst = append(dst, '.')
	return append(dst, frac...)
}

// appendFloat writes the shortest text that reads back as f, with a fraction: OCSF
// validators take 24 for an integer.
func appendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	from := len(dst)
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	for _, c := range dst[from:] {
		if c == '.' || c == 'e' || c == 'N' || c == 'I' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

package clickhouse

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// checkJSON tells whether a type can become JSON text.
func checkJSON(t arrow.DataType, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	switch t := t.(type) {
	case *arrow.StructType:
		for _, f := range t.Fields() {
			if err := checkJSONField(f, depth); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
		return nil
	case *arrow.ListType:
		return checkJSONField(t.ElemField(), depth)
	case *arrow.MapType:
		if t.KeyType().ID() != arrow.STRING {
			return fmt.Errorf("type %s, want string keys", t)
		}
		return checkJSONField(t.ItemField(), depth)
	}
	return fmt.Errorf("type %s is no list, map or struct", t)
}

func checkJSONField(f arrow.Field, depth int) error {
	switch f.Type.ID() {
	case arrow.STRUCT, arrow.LIST, arrow.MAP:
		return checkJSON(f.Type, depth+1)
	}
	_, _, err := flatType(f)
	return err
}

// appendJSON appends the value at row i. Struct fields come in the order of the schema and
// without those that are null; fixed point numbers have their decimal point, times are RFC
// 3339 in UTC, bytes are base64, and what JSON cannot hold (NaN, infinity) is null. The
// same value always gives the same text.
func appendJSON(b []byte, f arrow.Field, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return append(b, "null"...)
	}
	switch a := arr.(type) {
	case *array.Struct:
		b = append(b, '{')
		first := true
		for k, cf := range f.Type.(*arrow.StructType).Fields() {
			child := a.Field(k)
			if child.IsNull(i) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendText(b, cf.Name), ':')
			b = appendJSON(b, cf, child, i)
		}
		return append(b, '}')
	case *array.List:
		elem := f.Type.(*arrow.ListType).ElemField()
		b = append(b, '[')
		start, end := a.ValueOffsets(i)
		for j := start; j < end; j++ {
			if j > start {
				b = append(b, ',')
			}
			b = appendJSON(b, elem, a.ListValues(), int(j))
		}
		return append(b, ']')
	case *array.Map:
		item := f.Type.(*arrow.MapType).ItemField()
		b = append(b, '{')
		start, end := a.ValueOffsets(i)
		for j := start; j < end; j++ {
			if j > start {
				b = append(b, ',')
			}
			b = append(appendText(b, a.Keys().(*array.String).Value(int(j))), ':')
			b = appendJSON(b, item, a.Items(), int(j))
		}
		return append(b, '}')
	case *array.Int8:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int32:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int64:
		_, scale, _ := flatType(f) // checked when the sink was made
		return appendFixed(b, a.Value(i), scale)
	case *array.Uint8:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint16:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint32:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint64:
		return strconv.AppendUint(b, a.Value(i), 10)
	case *array.Float32:
		return appendFloat(b, float64(a.Value(i)), 32)
	case *array.Float64:
		return appendFloat(b, a.Value(i), 64)
	case *array.Boolean:
		return strconv.AppendBool(b, a.Value(i))
	case *array.Timestamp:
		b = append(b, '"')
		b = time.UnixMicro(int64(a.Value(i))).UTC().AppendFormat(b, "2006-01-02T15:04:05.999999Z")
		return append(b, '"')
	case *array.String:
		return appendText(b, a.Value(i))
	case *array.Binary:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, a.Value(i))
		return append(b, '"')
	}
	panic(fmt.Sprintf("type %s passed checkJSON", arr.DataType()))
}

// appendFixed appends v times 10 to the minus scale.
func appendFixed(b []byte, v int64, scale int) []byte {
	if scale == 0 {
		return strconv.AppendInt(b, v, 10)
	}
	u := uint64(v)
	if v < 0 {
		b, u = append(b, '-'), -u
	}
	digits := strconv.FormatUint(u, 10)
	for len(digits) <= scale {
		digits = "0" + digits
	}
	b = append(b, digits[:len(digits)-scale]...)
	b = append(b, '.')
	return append(b, digits[len(digits)-scale:]...)
}

func appendFloat(b []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, bits)
}

func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default: // broken UTF-8 comes as U+FFFD
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

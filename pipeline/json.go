package pipeline

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// ScaleOf reads the scale of a fixed point column, 0 for one of whole numbers.
func ScaleOf(f arrow.Field) (int, error) {
	text, ok := f.Metadata.GetValue(ScaleKey)
	if !ok {
		return 0, nil
	}
	scale, err := strconv.Atoi(text)
	if err != nil || scale < 0 || scale > 18 {
		return 0, fmt.Errorf("metadata %s %q: want 0 to 18", ScaleKey, text)
	}
	return scale, nil
}

// maxJSONDepth bounds the nesting of what becomes JSON.
const maxJSONDepth = 32

// CheckJSON tells whether the values of a field can become JSON. Errors do not name the field
// itself.
func CheckJSON(f arrow.Field) error { return checkJSON(f, 0) }

func checkJSON(f arrow.Field, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("nested more than %d levels deep", maxJSONDepth)
	}
	switch t := f.Type.(type) {
	case *arrow.StructType:
		for _, c := range t.Fields() {
			if err := checkJSON(c, depth+1); err != nil {
				return fmt.Errorf("field %s: %w", c.Name, err)
			}
		}
		return nil
	case *arrow.ListType:
		return checkJSON(t.ElemField(), depth+1)
	case *arrow.MapType:
		if t.KeyType().ID() != arrow.STRING {
			return fmt.Errorf("keys of type %s, want text", t.KeyType())
		}
		return checkJSON(t.ItemField(), depth+1)
	case *arrow.TimestampType:
		if t.Unit != arrow.Microsecond && t.Unit != arrow.Millisecond {
			return fmt.Errorf("type %s, want timestamp[us] or timestamp[ms]", t)
		}
		return nil
	case *arrow.Int64Type:
		_, err := ScaleOf(f)
		return err
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type,
		*arrow.Float32Type, *arrow.Float64Type, *arrow.BooleanType, *arrow.StringType, *arrow.BinaryType:
		return nil
	}
	return fmt.Errorf("type %s has no JSON here: convert it before the sink", f.Type)
}

// AppendJSONMember appends a member of an object, and nothing for null. open is the length of b
// behind the brace of the object.
func AppendJSONMember(b []byte, open int, f arrow.Field, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return b
	}
	if len(b) > open {
		b = append(b, ',')
	}
	return AppendJSON(append(appendText(b, f.Name), ':'), f, arr, i)
}

// AppendJSON appends the value at row i of a field that CheckJSON has let through. Null members
// of objects and maps are left out, fixed point numbers have their decimal point, floating ones
// a fraction or an exponent always (24.0: the validator of OCSF takes 24 for an integer), times
// are RFC 3339 in UTC, bytes are base64, and what JSON cannot hold (NaN, infinity) is null. The
// same value always gives the same text.
func AppendJSON(b []byte, f arrow.Field, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return append(b, "null"...)
	}
	switch a := arr.(type) {
	case *array.Struct:
		b = append(b, '{')
		open := len(b)
		for k, c := range f.Type.(*arrow.StructType).Fields() {
			b = AppendJSONMember(b, open, c, a.Field(k), i)
		}
		return append(b, '}')
	case *array.Map: // before List, which it holds
		b = append(b, '{')
		open := len(b)
		item := f.Type.(*arrow.MapType).ItemField()
		from, to := a.ValueOffsets(i)
		for j := int(from); j < int(to); j++ {
			item.Name = a.Keys().(*array.String).Value(j)
			b = AppendJSONMember(b, open, item, a.Items(), j)
		}
		return append(b, '}')
	case *array.List:
		b = append(b, '[')
		elem := f.Type.(*arrow.ListType).ElemField()
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			if j > from {
				b = append(b, ',')
			}
			b = AppendJSON(b, elem, a.ListValues(), int(j))
		}
		return append(b, ']')
	case *array.Int8:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int32:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int64:
		return appendFixed(b, a.Value(i), f)
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
		at := a.Value(i).ToTime(f.Type.(*arrow.TimestampType).Unit)
		return append(at.AppendFormat(b, "2006-01-02T15:04:05.999999Z"), '"')
	case *array.String:
		return appendText(b, a.Value(i))
	case *array.Binary:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, a.Value(i))
		return append(b, '"')
	}
	panic(fmt.Sprintf("type %s passed CheckJSON", arr.DataType()))
}

// appendFixed appends v times 10 to the minus scale of its field.
func appendFixed(b []byte, v int64, f arrow.Field) []byte {
	scale, _ := ScaleOf(f) // CheckJSON has seen it
	if scale == 0 {
		return strconv.AppendInt(b, v, 10)
	}
	u := uint64(v)
	if v < 0 {
		b, u = append(b, '-'), -u
	}
	digits := fmt.Sprintf("%0*d", scale+1, u)
	b = append(b, digits[:len(digits)-scale]...)
	b = append(b, '.')
	return append(b, digits[len(digits)-scale:]...)
}

func appendFloat(b []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	from := len(b)
	b = strconv.AppendFloat(b, v, 'g', -1, bits)
	if !bytes.ContainsAny(b[from:], ".e") {
		b = append(b, ".0"...)
	}
	return b
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

package kafka

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// checkJSON tells whether a field can become JSON.
func checkJSON(f arrow.Field) error {
	var err error
	switch t := f.Type.(type) {
	case *arrow.StructType:
		for _, c := range t.Fields() {
			if err = checkJSON(c); err != nil {
				break
			}
		}
	case *arrow.ListType:
		err = checkJSON(t.ElemField())
	case *arrow.MapType:
		if t.KeyType().ID() != arrow.STRING {
			return fmt.Errorf("field %s: keys of type %s, want text", f.Name, t.KeyType())
		}
		err = checkJSON(t.ItemField())
	case *arrow.TimestampType:
		if t.Unit != arrow.Microsecond {
			return fmt.Errorf("field %s: type %s, want timestamp[us]", f.Name, t)
		}
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type,
		*arrow.Float32Type, *arrow.Float64Type, *arrow.BooleanType, *arrow.StringType, *arrow.BinaryType:
	case *arrow.Int64Type:
		if text, ok := f.Metadata.GetValue(pipeline.ScaleKey); ok {
			if scale, serr := strconv.Atoi(text); serr != nil || scale < 0 || scale > 18 {
				return fmt.Errorf("field %s: metadata %s %q: want 0 to 18", f.Name, pipeline.ScaleKey, text)
			}
		}
	default:
		return fmt.Errorf("field %s: type %s has no JSON here: convert it before the sink", f.Name, f.Type)
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", f.Name, err)
	}
	return nil
}

// appendMember appends a member of an object, and nothing for null. open is the length of b
// behind the brace of the object.
func appendMember(b []byte, open int, f arrow.Field, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return b
	}
	if len(b) > open {
		b = append(b, ',')
	}
	return appendValue(append(appendText(b, f.Name), ':'), f, arr, i)
}

// appendValue appends a value that checkJSON has let through. Null members of objects are left
// out, fixed point numbers have their decimal point, times are RFC 3339 in UTC, bytes are
// base64, and what JSON cannot hold (NaN, infinity) is null. The same value always gives the
// same text.
func appendValue(b []byte, f arrow.Field, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return append(b, "null"...)
	}
	switch a := arr.(type) {
	case *array.Struct:
		b = append(b, '{')
		open := len(b)
		for k, c := range f.Type.(*arrow.StructType).Fields() {
			b = appendMember(b, open, c, a.Field(k), i)
		}
		return append(b, '}')
	case *array.Map: // before List, which it holds
		b = append(b, '{')
		open := len(b)
		item := f.Type.(*arrow.MapType).ItemField()
		from, to := a.ValueOffsets(i)
		for j := int(from); j < int(to); j++ {
			item.Name = a.Keys().(*array.String).Value(j)
			b = appendMember(b, open, item, a.Items(), j)
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
			b = appendValue(b, elem, a.ListValues(), int(j))
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

// appendFixed appends v times 10 to the minus scale of its field.
func appendFixed(b []byte, v int64, f arrow.Field) []byte {
	text, _ := f.Metadata.GetValue(pipeline.ScaleKey)
	scale, _ := strconv.Atoi(text) // none is 0; checkJSON has seen the rest
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

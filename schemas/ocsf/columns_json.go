package ocsf

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// AppendEvent appends a row of Columns or of a Mapper as an OCSF event, in JSON. What is null
// is left out, and so are an unmapped without entries and the columns of the engine, whose
// names begin with an underscore. Numbers of a float_t have a fraction.
func AppendEvent(dst []byte, rec arrow.RecordBatch, row int) []byte {
	dst = append(dst, '{')
	from := len(dst)
	schema := rec.Schema()
	for i := range schema.NumFields() { // Fields would copy them
		if f := schema.Field(i); !strings.HasPrefix(f.Name, "_") {
			dst = appendMember(dst, from, f, rec.Column(i), row)
		}
	}
	return append(dst, '}')
}

// appendMember appends a member of the object whose members begin at from.
func appendMember(dst []byte, from int, f arrow.Field, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return dst
	}
	if m, ok := arr.(*array.Map); ok {
		if start, end := m.ValueOffsets(i); start == end {
			return dst
		}
	}
	if len(dst) > from {
		dst = append(dst, ',')
	}
	dst = append(appendQuoted(dst, f.Name), ':')
	return appendValue(dst, f, arr, i)
}

func appendValue(dst []byte, f arrow.Field, arr arrow.Array, i int) []byte {
	switch a := arr.(type) {
	case *array.Int32:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int64:
		return strconv.AppendInt(dst, a.Value(i), 10)
	case *array.Float64:
		return appendFloat(dst, a.Value(i))
	case *array.Boolean:
		return strconv.AppendBool(dst, a.Value(i))
	case *array.Timestamp:
		t := time.UnixMilli(int64(a.Value(i))).UTC()
		return append(t.AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.999Z07:00"), '"')
	case *array.String:
		if f.HasMetadata() && f.Metadata.FindKey(jsonKey) >= 0 {
			return append(dst, a.Value(i)...)
		}
		return appendQuoted(dst, a.Value(i))
	case *array.Struct:
		dst = append(dst, '{')
		from := len(dst)
		typ := f.Type.(*arrow.StructType)
		for k := range typ.NumFields() {
			dst = appendMember(dst, from, typ.Field(k), a.Field(k), i)
		}
		return append(dst, '}')
	case *array.Map:
		start, end := a.ValueOffsets(i)
		keys, values := a.Keys().(*array.String), a.Items().(*array.String)
		dst = append(dst, '{')
		for j := int(start); j < int(end); j++ {
			if j > int(start) {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, keys.Value(j)), ':')
			dst = appendQuoted(dst, values.Value(j))
		}
		return append(dst, '}')
	case *array.List:
		start, end := a.ValueOffsets(i)
		elem := f.Type.(*arrow.ListType).ElemField()
		dst = append(dst, '[')
		for j := int(start); j < int(end); j++ {
			if j > int(start) {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, elem, a.ListValues(), j)
		}
		return append(dst, ']')
	}
	panic(fmt.Sprintf("ocsf: column %s of type %s is no attribute", f.Name, f.Type))
}

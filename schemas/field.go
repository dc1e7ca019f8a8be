package schemas

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
)

// ScaleKey is the Arrow field metadata that makes an int64 column fixed point: its value
// is the integer times 10 to the minus scale.
const ScaleKey = "tidemark.scale"

// BitsKey is the Arrow field metadata by which an int64 column declares its range: its
// integers lie in [-2^(bits-1), 2^(bits-1)).
const BitsKey = "tidemark.bits"

// Type is what a field's JSON value becomes.
type Type uint8

const (
	// String takes a JSON string.
	String Type = iota
	// Int64 takes a JSON number as fixed point with Field.Scale decimal digits: with scale
	// 3, 12.345 is 12345. Further digits are rounded half to even, in decimal.
	Int64
	// Float64 takes a JSON number, rounded to the nearest double.
	Float64
	// Bool takes true or false.
	Bool
	// Time takes a time in Field.Unit and becomes timestamp[us, UTC]. What is finer than
	// a microsecond is cut downwards, so that no time moves into the next window.
	Time
)

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

var typeNames = [...]string{"string", "int64", "float64", "bool", "time"}

// maxScale keeps 10^scale inside int64.
const maxScale = 18

// Units of a Time: numbers since 1970-01-01 UTC, which may be quoted, or RFC 3339 text.
const (
	Seconds = "s"
	Millis  = "ms"
	Micros  = "us"
	Nanos   = "ns"
	RFC3339 = "rfc3339"
)

// Field maps a place in the payload to a column.
type Field struct {
	Name string // column name
	Type Type
	// Scale is the number of decimal digits of an Int64, 0 to 18.
	Scale int
	// Bits declares the range of an Int64 at its scale: [-2^(Bits-1), 2^(Bits-1)), 1 to 64;
	// 0 for 64. Payloads with a number beyond it are refused as out_of_range, so that what
	// comes later may rely on it: up to 31 bits a window keeps its min and max in half a word.
	Bits int
	// Unit is the unit of a Time, one of s, ms, us, ns, rfc3339.
	Unit string
	// Path is the place: "$.tag.mac", "$.accel_mg[0]", "$['dotted.name'].x".
	Path string
	// Required refuses payloads in which the field is null or absent.
	Required bool
}

// Arrow returns the column's Arrow field.
func (f Field) Arrow() arrow.Field {
	out := arrow.Field{Name: f.Name, Nullable: !f.Required}
	switch f.Type {
	case String:
		out.Type = arrow.BinaryTypes.String
	case Int64:
		out.Type = arrow.PrimitiveTypes.Int64
		meta := map[string]string{}
		if f.Scale > 0 {
			meta[ScaleKey] = strconv.Itoa(f.Scale)
		}
		if f.Bits > 0 {
			meta[BitsKey] = strconv.Itoa(f.Bits)
		}
		if len(meta) > 0 {
			out.Metadata = arrow.MetadataFrom(meta)
		}
	case Float64:
		out.Type = arrow.PrimitiveTypes.Float64
	case Bool:
		out.Type = arrow.FixedWidthTypes.Boolean
	case Time:
		out.Type = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	}
	return out
}

// limits returns the smallest and the largest integer of an Int64.
func (f Field) limits() (lowest, highest int64) {
	if f.Bits < 1 || f.Bits > 64 {
		return math.MinInt64, math.MaxInt64
	}
	lowest = math.MinInt64 >> (64 - f.Bits)
	return lowest, -(lowest + 1)
}

func (f Field) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("field %q: "+format, append([]any{f.Name}, args...)...))
	}
	if f.Name == "" {
		bad("a name is needed")
	}
	if f.Type > Time {
		bad("unknown type %s", f.Type)
	}
	if f.Type != Int64 && f.Scale != 0 {
		bad("scale %d on a %s: only int64 has a scale", f.Scale, f.Type)
	}
	if f.Scale < 0 || f.Scale > maxScale {
		bad("scale %d: want 0 to %d", f.Scale, maxScale)
	}
	if f.Type != Int64 && f.Bits != 0 {
		bad("%d bits on a %s: only int64 has a range", f.Bits, f.Type)
	}
	if f.Bits < 0 || f.Bits > 64 {
		bad("%d bits: want 1 to 64, or 0 for 64", f.Bits)
	}
	switch f.Unit {
	case Seconds, Millis, Micros, Nanos, RFC3339:
		if f.Type != Time {
			bad("unit %q on a %s: only time has a unit", f.Unit, f.Type)
		}
	case "":
		if f.Type == Time {
			bad("a time needs a unit: s, ms, us, ns or rfc3339")
		}
	default:
		bad("unit %q: want s, ms, us, ns or rfc3339", f.Unit)
	}
	return errors.Join(errs...)
}

// FieldMap is what a job changes about a field; empty members keep the default.
type FieldMap struct {
	Path string `yaml:"path"`
	Unit string `yaml:"unit"`
}

// Override returns fields with the paths and units that m gives by field name. All
// problems come joined: names that fields does not have, and fields that are not valid
// any more.
func Override(fields []Field, m map[string]FieldMap) ([]Field, error) {
	out := slices.Clone(fields)
	var names []string
	for _, f := range fields {
		names = append(names, f.Name)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(m)) {
		i := slices.IndexFunc(out, func(f Field) bool { return f.Name == name })
		if i < 0 {
			best, _ := Nearest(name, names)
			errs = append(errs, fmt.Errorf("field %q is not one of this feed; the nearest is %q", name, best))
			continue
		}
		if m[name].Path != "" {
			out[i].Path = m[name].Path
		}
		if m[name].Unit != "" {
			out[i].Unit = m[name].Unit
		}
		if err := out[i].validate(); err != nil {
			errs = append(errs, err)
		}
		if _, err := parsePath(out[i].Path); err != nil {
			errs = append(errs, fmt.Errorf("field %q: %w", name, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// Nearest returns the name with the smallest edit distance, in bytes, the first of equals.
func Nearest(name string, names []string) (best string, by int) {
	for i, n := range names {
		if d := distance(name, n); i == 0 || d < by {
			best, by = n, d
		}
	}
	return best, by
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diag
			if a[i] != b[j] {
				d++
			}
			diag = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

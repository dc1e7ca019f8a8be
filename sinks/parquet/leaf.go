package parquet

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// folderLeaf is a column of a file of any writer that has values. While a row is given it
// keeps track of where in the lists around it the value stands.
type folderLeaf struct {
	index  int
	parts  []part
	name   string // of a column without lists and maps around it
	maxDef int
	typ    pq.Type
	at     []int             // the place of the last value in every list around it
	keys   map[string]string // of a column of the keys of a map: by place
}

// part is a part of the name of a value.
type part struct {
	text string
	kind partKind
	keys *folderLeaf // of a mapKey
}

type partKind uint8

const (
	fieldName partKind = iota
	listPlace
	mapKey // a list too
)

// leavesOf returns the columns of a file that have values, in the order of their numbers.
func leavesOf(root *pq.Column) []*folderLeaf {
	var w leafWalk
	for _, c := range root.Columns() {
		w.node(c, []part{{text: c.Name()}})
	}
	slices.SortFunc(w.out, func(a, b *folderLeaf) int { return a.index - b.index })
	return w.out
}

type leafWalk struct{ out []*folderLeaf }

func plus(parts []part, p part) []part { return append(parts[:len(parts):len(parts)], p) }

// node takes a column whose name ends in parts.
func (w *leafWalk) node(c *pq.Column, parts []part) {
	inner := c.Columns()
	switch {
	case !c.Leaf() && isGroup[format.ListType](c) && len(inner) == 1 && inner[0].Repeated():
		w.element(inner[0], plus(parts, part{kind: listPlace}))
	case !c.Leaf() && isGroup[format.MapType](c) && len(inner) == 1 && len(inner[0].Columns()) == 2:
		pair := inner[0].Columns()
		keys := w.leaf(pair[0], plus(parts, part{kind: listPlace}))
		keys.keys = map[string]string{}
		w.node(pair[1], plus(parts, part{kind: mapKey, keys: keys}))
	case c.Repeated():
		w.inside(c, plus(parts, part{kind: listPlace}))
	default:
		w.inside(c, parts)
	}
}

// element takes what repeats in a list: by the rules of the format a group of one column
// stands for that column.
func (w *leafWalk) element(c *pq.Column, parts []part) {
	if inner := c.Columns(); len(inner) == 1 {
		w.node(inner[0], parts)
		return
	}
	w.inside(c, parts)
}

func (w *leafWalk) inside(c *pq.Column, parts []part) {
	if c.Leaf() {
		w.leaf(c, parts)
		return
	}
	for _, f := range c.Columns() {
		w.node(f, plus(parts, part{text: f.Name()}))
	}
}

func (w *leafWalk) leaf(c *pq.Column, parts []part) *folderLeaf {
	l := &folderLeaf{index: c.Index(), parts: parts, maxDef: c.MaxDefinitionLevel(), typ: c.Type(), at: make([]int, c.MaxRepetitionLevel())}
	if len(l.at) == 0 {
		l.name = l.nameNow()
	}
	w.out = append(w.out, l)
	return l
}

func isGroup[T any](c *pq.Column) bool {
	lt := c.Type().LogicalType()
	if lt == nil {
		return false
	}
	_, ok := any(lt.Value).(*T)
	return ok
}

// nameNow is the name of the value at its place.
func (l *folderLeaf) nameNow() string {
	var b strings.Builder
	level := 0
	for i, p := range l.parts {
		switch {
		case p.kind == listPlace:
			fmt.Fprintf(&b, "[%d]", l.at[level])
			level++
			continue
		case p.kind == mapKey:
			level++
			p.text = p.keys.keys[spot(l.at[:level])]
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// spot is a place in lists as a key of a map.
func spot(at []int) string {
	if len(at) == 1 {
		return strconv.Itoa(at[0])
	}
	return fmt.Sprint(at)
}

// giveRow calls leaf with the values of a row.
func giveRow(cells pq.Row, leaves []*folderLeaf, leaf func(name string, value any)) error {
	for _, v := range cells {
		l := leaves[v.Column()]
		if rep := v.RepetitionLevel(); rep > 0 {
			l.at[rep-1]++
			clear(l.at[rep:])
		} else {
			clear(l.at)
		}
		if v.DefinitionLevel() != l.maxDef || v.IsNull() {
			continue
		}
		value, err := l.value(v)
		if err != nil {
			return fmt.Errorf("column %s: %w", l.nameNow(), err)
		}
		if l.keys != nil {
			l.keys[spot(l.at)] = fmt.Sprint(value)
			continue
		}
		name := l.name
		if name == "" {
			name = l.nameNow()
		}
		leaf(name, value)
	}
	return nil
}

// find returns the time in a row; false when there is none.
func (l *folderLeaf) find(cells pq.Row) (int64, bool) {
	for _, v := range cells {
		if v.Column() == l.index {
			return l.ticks(v)
		}
	}
	return 0, false
}

// ticks is the time of a value in ticks, rounded down. An integer is of milliseconds.
func (l *folderLeaf) ticks(v pq.Value) (int64, bool) {
	if v.IsNull() {
		return 0, false
	}
	value, err := l.value(v)
	if err != nil {
		return 0, false
	}
	switch t := value.(type) {
	case time.Time:
		return t.UnixMicro(), true
	case int64:
		return t * 1000, true
	case uint64:
		return int64(t) * 1000, true
	}
	return 0, false
}

// value returns a value as Scan gives it.
func (l *folderLeaf) value(v pq.Value) (any, error) {
	var logical any
	if lt := l.typ.LogicalType(); lt != nil {
		logical = lt.Value
	}
	switch t := logical.(type) {
	case *format.DecimalType:
		return decimal(v, int(t.Scale))
	case *format.TimestampType:
		return timeOf(v.Int64(), t.Unit.Value.Duration()), nil
	case *format.DateType:
		return time.Unix(int64(v.Int32())*24*3600, 0).UTC(), nil
	case *format.UUIDType:
		b := v.ByteArray()
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
	case *format.IntType:
		if !t.IsSigned {
			if v.Kind() == pq.Int32 {
				return uint64(v.Uint32()), nil
			}
			return v.Uint64(), nil
		}
	}
	switch v.Kind() {
	case pq.Boolean:
		return v.Boolean(), nil
	case pq.Int32:
		return int64(v.Int32()), nil
	case pq.Int64:
		return v.Int64(), nil
	case pq.Int96:
		return int96(v), nil
	case pq.Float:
		return v.Float(), nil
	case pq.Double:
		return v.Double(), nil
	case pq.ByteArray, pq.FixedLenByteArray:
		return string(v.ByteArray()), nil
	}
	return nil, fmt.Errorf("%v cannot be read", v.Kind())
}

// timeOf is a time since 1970 in a unit.
func timeOf(n int64, unit time.Duration) time.Time {
	perSecond := int64(time.Second / unit)
	s, rest := n/perSecond, n%perSecond
	return time.Unix(s, rest*int64(unit)).UTC()
}

// int96 is a time as Spark and Hive used to write it: nanoseconds of a Julian day.
func int96(v pq.Value) time.Time {
	const epoch = 2440588 // the Julian day of 1970-01-01
	i := v.Int96()
	return time.Unix((int64(i[2])-epoch)*24*3600, int64(i[0])|int64(i[1])<<32).UTC()
}

// decimal is a decimal in plain digits.
func decimal(v pq.Value, scale int) (json.Number, error) {
	n := new(big.Int)
	switch v.Kind() {
	case pq.Int32:
		n.SetInt64(int64(v.Int32()))
	case pq.Int64:
		n.SetInt64(v.Int64())
	case pq.ByteArray, pq.FixedLenByteArray: // two's complement, the highest byte first
		b := v.ByteArray()
		n.SetBytes(b)
		if len(b) > 0 && b[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
		}
	default:
		return "", fmt.Errorf("a decimal of %v cannot be read", v.Kind())
	}
	digits, sign := n.String(), ""
	if n.Sign() < 0 {
		digits, sign = digits[1:], "-"
	}
	if scale <= 0 {
		return json.Number(sign + digits + strings.Repeat("0", -scale)), nil
	}
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale-len(digits)+1) + digits
	}
	return json.Number(sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]), nil
}

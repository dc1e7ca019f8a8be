package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
)

// This file compares two sets of rows that are in memory: it reads nothing and prints nothing.
//
// A row is known by its time and its key. Everything else of it is a list of values by name,
// each as a text that is the same whatever held it: 3, 3.0 and a decimal of 3.00 are "3", a
// time is RFC 3339 in UTC. What is null is not there, and neither is an empty list or map,
// since not every table can tell them apart. Text that is a list or an object of JSON is taken
// apart, since a table without lists of structs keeps them so.
//
// Rows that have a version (_tm_ver) replace each other, those of a table without do not: then
// several rows of a time and key are compared with as many of the other side.

// diffRule says what of the rows is compared, and how.
type diffRule struct {
	key  []string
	time string
	// ignore and only name columns, and all that is in them. An empty only is all.
	ignore, only []string
	tolerance    map[string]tolerance
}

// tolerance is by how much two numbers may differ.
type tolerance struct{ abs, rel float64 }

// unstable are the columns that depend on how often a window has emitted.
var unstable = []string{"metadata.sequence", "unmapped.firing"}

// counts tells whether a column is compared.
func (r *diffRule) counts(name string) bool {
	if strings.HasPrefix(name, "_tm_") || slices.Contains(unstable, name) {
		return false
	}
	in := func(c string) bool { return isOf(name, c) }
	return !slices.ContainsFunc(r.ignore, in) && (len(r.only) == 0 || slices.ContainsFunc(r.only, in))
}

// isOf tells whether a value is of a column or of something in it.
func isOf(name, column string) bool {
	rest, ok := strings.CutPrefix(name, column)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// near tells whether two texts are numbers within the tolerance of their column.
func (r *diffRule) near(name, a, b string) bool {
	column, ok := closest(name, r.tolerance)
	if !ok {
		return false
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	size := max(math.Abs(x), math.Abs(y))
	if errX != nil || errY != nil || math.IsInf(size, 0) { // any number is 1 % of infinity
		return false
	}
	const rounding = 1e-15 // so that 1.01 is within 0.01 of 1
	t := r.tolerance[column]
	return math.Abs(x-y) <= max(t.abs, t.rel*size)+rounding*size
}

// closest returns the column that a value is of; of a column and one that is in it the latter.
func closest[T any](name string, columns map[string]T) (column string, ok bool) {
	for c := range columns {
		if isOf(name, c) && (!ok || len(c) > len(column)) {
			column, ok = c, true
		}
	}
	return column, ok
}

// diffRow is a row of one side.
type diffRow struct {
	time    int64
	key     string
	version uint64
	deleted bool
	values  string // packed, in the order of their names
}

func (r *diffRow) identity(o *diffRow) int {
	return cmp.Or(cmp.Compare(r.time, o.time), strings.Compare(r.key, o.key))
}

// namedValue is a value of a row.
type namedValue struct{ name, text string }

// leafNames numbers the names of both sides, so that rows are small and equal ones have equal
// bytes.
type leafNames struct {
	ids  map[string]uint64
	text []string
}

func (n *leafNames) id(name string) uint64 {
	if n.ids == nil {
		n.ids = map[string]uint64{}
	}
	id, ok := n.ids[name]
	if !ok {
		id = uint64(len(n.text))
		n.ids[name] = id
		n.text = append(n.text, name)
	}
	return id
}

// pack sorts values and makes one text of them.
func (n *leafNames) pack(buf []byte, values []namedValue) []byte {
	slices.SortFunc(values, func(a, b namedValue) int { return strings.Compare(a.name, b.name) })
	for _, v := range values {
		buf = binary.AppendUvarint(buf, n.id(v.name))
		buf = binary.AppendUvarint(buf, uint64(len(v.text)))
		buf = append(buf, v.text...)
	}
	return buf
}

// unpack returns the values of a row, in the order of their names.
func (n *leafNames) unpack(packed string) []namedValue {
	var out []namedValue
	for b := []byte(packed); len(b) > 0; {
		id, k := binary.Uvarint(b)
		size, l := binary.Uvarint(b[k:])
		b = b[k+l:]
		out = append(out, namedValue{n.text[id], string(b[:size])})
		b = b[size:]
	}
	return out
}

// rowTaker makes rows of the values that a reader gives one by one.
type rowTaker struct {
	rule  *diffRule
	names *leafNames
	// renamed has our names of the columns of this side, by theirs.
	renamed map[string]string
	// part of parts is the rows that are kept, by a hash of the key; most is how many there
	// may be.
	part, parts uint64
	most        int

	roles     map[string]leafRole
	versioned bool
	row       diffRow
	keys      []string
	values    []namedValue
	buf       []byte
	rows      []diffRow
}

// leafRole is what becomes of a value.
type leafRole struct {
	name string
	kind roleKind
	key  int
}

type roleKind uint8

const (
	roleValue roleKind = iota
	roleNone
	roleKey
	roleTime
	roleVersion
	roleDeleted
)

// errTooManyRows says that a slice has more rows than may be in memory.
var errTooManyRows = fmt.Errorf("more rows than are compared at once")

func newRowTaker(rule *diffRule, names *leafNames, renamed map[string]string) *rowTaker {
	t := &rowTaker{rule: rule, names: names, renamed: renamed, parts: 1, most: math.MaxInt, roles: map[string]leafRole{}}
	t.begin()
	return t
}

func (t *rowTaker) begin() {
	t.row = diffRow{time: pipeline.MinTicks}
	t.keys = slices.Repeat([]string{nullKey}, len(t.rule.key))
	t.values = t.values[:0]
}

// leaf takes a value of the row.
func (t *rowTaker) leaf(name string, value any) {
	role, ok := t.roles[name]
	if !ok {
		role = t.role(name)
		t.roles[name] = role
	}
	switch role.kind {
	case roleNone:
	case roleVersion:
		t.versioned = true
		switch v := value.(type) {
		case uint64:
			t.row.version = v
		case int64:
			t.row.version = uint64(v)
		}
	case roleDeleted:
		t.row.deleted = value == true || value == uint64(1) || value == int64(1)
	case roleTime:
		t.row.time = ticksOf(value)
	case roleKey:
		t.keys[role.key] = escapedKey(canonicalText(value))
	case roleValue:
		t.value(role.name, value)
	}
}

func (t *rowTaker) role(name string) leafRole {
	switch name {
	case "_tm_ver":
		return leafRole{kind: roleVersion}
	case "_tm_del":
		return leafRole{kind: roleDeleted}
	}
	if theirs, ok := closest(name, t.renamed); ok {
		name = t.renamed[theirs] + name[len(theirs):]
	}
	switch {
	case name == t.rule.time:
		return leafRole{kind: roleTime}
	case slices.Contains(t.rule.key, name):
		return leafRole{kind: roleKey, key: slices.Index(t.rule.key, name)}
	case !t.rule.counts(name) && !mayHold(name, t.rule):
		return leafRole{kind: roleNone}
	}
	return leafRole{name: name}
}

// mayHold tells whether a column may be a JSON text with a column that is compared in it.
func mayHold(name string, r *diffRule) bool {
	return slices.ContainsFunc(r.only, func(c string) bool { return isOf(c, name) })
}

// value takes a value that is compared.
func (t *rowTaker) value(name string, value any) {
	if s, ok := value.(string); ok {
		if inner, ok := jsonOf(s); ok {
			t.inner(name, inner)
			return
		}
	}
	if t.rule.counts(name) {
		t.values = append(t.values, namedValue{name, canonicalText(value)})
	}
}

// inner takes what is in a list or an object of JSON.
func (t *rowTaker) inner(name string, value any) {
	switch v := value.(type) {
	case nil:
	case []any:
		for i, e := range v {
			t.inner(fmt.Sprintf("%s[%d]", name, i), e)
		}
	case map[string]any:
		for k, e := range v {
			t.inner(name+"."+k, e)
		}
	default:
		if t.rule.counts(name) {
			t.values = append(t.values, namedValue{name, canonicalText(v)})
		}
	}
}

// jsonOf returns the list or the object that a text is.
func jsonOf(s string) (any, bool) {
	if len(s) < 2 || s[0] != '[' && s[0] != '{' {
		return nil, false
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.InputOffset() != int64(len(s)) {
		return nil, false
	}
	return v, true
}

// end ends the row.
func (t *rowTaker) end() error {
	defer t.begin()
	t.row.key = joinKeys(t.keys)
	if t.parts > 1 && xxhash.Sum64String(t.row.key)%t.parts != t.part {
		return nil
	}
	if len(t.rows) == t.most {
		return errTooManyRows
	}
	t.buf = t.names.pack(t.buf[:0], t.values)
	t.row.values = string(t.buf)
	t.rows = append(t.rows, t.row)
	return nil
}

// nullKey is what null is in a key: no text is escaped so.
const nullKey = "%00"

// joinKeys makes one text of the columns of a key, as metadata.uid has them.
func joinKeys(keys []string) string { return strings.Join(keys, "|") }

// escapedKey is a column of a key that is not null.
func escapedKey(text string) string { return keyEscapes.Replace(text) }

// keysOf is the reverse of joinKeys: the columns as texts, nil for null.
func keysOf(key string) []*string {
	var out []*string
	for part := range strings.SplitSeq(key, "|") {
		if part == nullKey {
			out = append(out, nil)
			continue
		}
		out = append(out, new(keyUnescapes.Replace(part)))
	}
	return out
}

// shownKey is a key for people: a column that is alone stands for itself.
func shownKey(key string) string {
	if parts := keysOf(key); len(parts) == 1 && parts[0] != nil {
		return *parts[0]
	}
	return key
}

var (
	keyEscapes   = strings.NewReplacer("%", "%25", "|", "%7C")
	keyUnescapes = strings.NewReplacer("%25", "%", "%7C", "|")
)

// ticksOf is a time in ticks; an integer is of milliseconds.
func ticksOf(value any) int64 {
	switch v := value.(type) {
	case time.Time:
		return v.UnixMicro()
	case int64:
		return v * 1000
	case uint64:
		return int64(v) * 1000
	}
	return pipeline.MinTicks
}

// canonicalText is a value as a text that does not depend on its type.
func canonicalText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float32:
		return floatText(float64(v), 32)
	case float64:
		return floatText(v, 64)
	case json.Number:
		return decimalText(v.String())
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprint(value)
}

func floatText(v float64, bits int) string {
	switch abs := math.Abs(v); {
	case v == 0:
		return "0" // and not -0
	case abs >= 1e21 || abs < 1e-21:
		return strconv.FormatFloat(v, 'e', -1, bits)
	}
	return strconv.FormatFloat(v, 'f', -1, bits)
}

// decimalText is a decimal without zeros that say nothing.
func decimalText(s string) string {
	if strings.ContainsAny(s, "eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return s
		}
		return floatText(f, 64)
	}
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" || s == "" || s == "-" {
		return "0"
	}
	return s
}

// settle sorts the rows and leaves those that are valid: of versions the newest one, and none
// when that one withdraws the row.
func (t *rowTaker) settle() ([]diffRow, error) {
	rows := t.rows
	slices.SortFunc(rows, func(a, b diffRow) int {
		return cmp.Or(a.identity(&b), cmp.Compare(a.version, b.version), strings.Compare(a.values, b.values))
	})
	if !t.versioned {
		return slices.DeleteFunc(rows, func(r diffRow) bool { return r.deleted }), nil
	}
	kept := rows[:0]
	for i := range rows {
		r := rows[i]
		if i+1 < len(rows) && r.identity(&rows[i+1]) == 0 {
			if next := &rows[i+1]; r.version == next.version && r.values != next.values {
				return nil, fmt.Errorf("two rows of key %s at %s have one version and other values: name more columns in --key, so that it tells rows apart", visible(shownKey(r.key)), tick(r.time))
			}
			continue
		}
		if !r.deleted {
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// setSum is a set of rows in two numbers; their order makes no difference.
type setSum struct {
	rows int64
	hash [2]uint64
}

func (s *setSum) String() string { return fmt.Sprintf("%016x%016x", s.hash[0], s.hash[1]) }

// add adds rows.
func (s *setSum) add(rows []diffRow, names *leafNames) {
	var buf []byte
	for i := range rows {
		r := &rows[i]
		buf = binary.BigEndian.AppendUint64(buf[:0], uint64(r.time))
		buf = append(buf, r.key...)
		for _, v := range names.unpack(r.values) {
			buf = fmt.Appendf(buf, "\x00%d:%s%d:%s", len(v.name), v.name, len(v.text), v.text)
		}
		h := sha256.Sum256(buf)
		s.rows++
		s.hash[0] += binary.BigEndian.Uint64(h[:])
		s.hash[1] += binary.BigEndian.Uint64(h[8:])
	}
}

// diffKind is how two sets differ in a row.
type diffKind string

const (
	diffLate    diffKind = "late" // explained by late rows of its window
	diffValue   diffKind = "value"
	diffMissing diffKind = "missing" // A only
	diffExtra   diffKind = "extra"   // B only
)

// rowDifference is one of them.
type rowDifference struct {
	Kind    diffKind     `json:"kind"`
	Key     string       `json:"key"`
	Time    tick         `json:"time"`
	Columns []columnDiff `json:"columns,omitempty"`
	// Late is what explains it.
	Late *lateReason `json:"late,omitempty"`

	row diffRow // of A, or of B when A has none
}

// columnDiff is a column in which rows differ; nil is null.
type columnDiff struct {
	Column string  `json:"column"`
	A      *string `json:"a"`
	B      *string `json:"b"`
}

// lateReason is which side has late rows of the window.
type lateReason struct {
	Side string   `json:"side"`
	Rows int64    `json:"rows"`
	In   diffKind `json:"in"` // what it would be otherwise
}

// compareRows calls found with every difference between two lists of settle, in their order.
func (r *diffRule) compareRows(a, b []diffRow, names *leafNames, found func(rowDifference)) {
	for len(a) > 0 || len(b) > 0 {
		side := nextSide(a, b, func(x, y *diffRow) int { return x.identity(y) })
		var same [2][]diffRow
		if side <= 0 {
			same[0], a = cutSame(a)
		}
		if side >= 0 {
			same[1], b = cutSame(b)
		}
		r.compareSame(same[0], same[1], names, found)
	}
}

// nextSide tells which of two sorted lists, not both empty, has the next element: below 0 for a,
// above for b, 0 for both.
func nextSide[T any](a, b []T, compare func(x, y *T) int) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return compare(&a[0], &b[0])
}

// cutSame cuts the rows of the first identity off.
func cutSame(rows []diffRow) (same, rest []diffRow) {
	n := 1
	for n < len(rows) && rows[n].identity(&rows[0]) == 0 {
		n++
	}
	return rows[:n], rows[n:]
}

// compareSame compares the rows of one identity. Equal ones are taken away first; of the rest
// each is compared with the one at its place.
func (r *diffRule) compareSame(a, b []diffRow, names *leafNames, found func(rowDifference)) {
	a, b = withoutEqual(a, b)
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(b):
			found(rowDifference{Kind: diffMissing, Key: shownKey(a[i].key), Time: tick(a[i].time), row: a[i]})
		case i >= len(a):
			found(rowDifference{Kind: diffExtra, Key: shownKey(b[i].key), Time: tick(b[i].time), row: b[i]})
		default:
			if cols := r.columns(names.unpack(a[i].values), names.unpack(b[i].values)); len(cols) > 0 {
				found(rowDifference{Kind: diffValue, Key: shownKey(a[i].key), Time: tick(a[i].time), Columns: cols, row: a[i]})
			}
		}
	}
}

// withoutEqual takes rows with equal values from both lists, which are in the order of their
// values.
func withoutEqual(a, b []diffRow) (onlyA, onlyB []diffRow) {
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0].values, b[0].values); {
		case c == 0:
			a, b = a[1:], b[1:]
		case c < 0:
			onlyA, a = append(onlyA, a[0]), a[1:]
		default:
			onlyB, b = append(onlyB, b[0]), b[1:]
		}
	}
	return append(onlyA, a...), append(onlyB, b...)
}

// columns returns the columns in which two rows differ by more than is tolerated.
func (r *diffRule) columns(a, b []namedValue) []columnDiff {
	var out []columnDiff
	for len(a) > 0 || len(b) > 0 {
		side := nextSide(a, b, func(x, y *namedValue) int { return strings.Compare(x.name, y.name) })
		switch {
		case side < 0:
			out, a = append(out, columnDiff{a[0].name, &a[0].text, nil}), a[1:]
		case side > 0:
			out, b = append(out, columnDiff{b[0].name, nil, &b[0].text}), b[1:]
		default:
			if a[0].text != b[0].text && !r.near(a[0].name, a[0].text, b[0].text) {
				out = append(out, columnDiff{a[0].name, &a[0].text, &b[0].text})
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

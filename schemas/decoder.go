package schemas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// Limits bound what a payload may ask of the decoder.
type Limits struct {
	Depth       int // nesting of objects and arrays; the payload itself is 1
	Keys        int // members of all objects together, skipped ones too
	StringBytes int // a string that becomes a value, in bytes between the quotes
}

// DefaultLimits returns the limits of a decoder without configuration.
func DefaultLimits() Limits { return Limits{Depth: 32, Keys: 1024, StringBytes: 64 << 10} }

// Validate returns every problem.
func (l Limits) Validate() error {
	var errs []error
	if l.Depth < 1 || l.Depth > 1000 {
		errs = append(errs, fmt.Errorf("limit depth %d: want 1 to 1000", l.Depth))
	}
	if l.Keys < 1 {
		errs = append(errs, fmt.Errorf("limit keys %d: want at least 1", l.Keys))
	}
	if l.StringBytes < 1 || l.StringBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("limit string_bytes %d: want 1 to 1 GiB", l.StringBytes))
	}
	return errors.Join(errs...)
}

// firstRows is the room for rows in the first batch.
const firstRows = 1024

// Decoder turns payloads into columns, one per field. It learns in which order names
// come, which makes it fast and changes nothing else. It is used by one goroutine.
type Decoder struct {
	cols   []column
	fields []arrow.Field
	root   *node
	limits Limits

	rows int // taken in this batch
	room int // rows that live columns have room for

	live     []int32 // columns that were given a value in this batch
	required []int32

	// Of the payload that is being read:
	gen  uint64 // its number; nodes and columns that carry it were seen in it
	got  int    // values written
	keys int    // names seen
	fail failure

	scratch []byte // unescaped text
}

// failure is a refusal before it is put into words.
type failure struct {
	reason string
	at     int
	node   *node
	what   string
}

// NewDecoder prepares a decoder for fields. All problems come joined.
func NewDecoder(fields []Field, limits Limits) (*Decoder, error) {
	errs := []error{limits.Validate()}
	if len(fields) == 0 {
		errs = append(errs, errors.New("no fields: a decoder needs at least one"))
	}
	d := &Decoder{limits: limits, cols: make([]column, len(fields))}
	for i, f := range fields {
		errs = append(errs, f.validate())
		if slices.ContainsFunc(fields[:i], func(g Field) bool { return g.Name == f.Name }) {
			errs = append(errs, fmt.Errorf("field %q: the name is used twice", f.Name))
		}
		c := &d.cols[i]
		c.Field, c.scale, c.arrow = f, f.Scale, f.Arrow()
		c.lowest, c.highest = f.limits()
		if f.Type == Time {
			c.scale = timeScale(f.Unit)
		}
		d.fields = append(d.fields, c.arrow)
		if f.Required {
			d.required = append(d.required, int32(i))
		}
	}
	root, err := buildTree(fields)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	d.root, d.room = root, firstRows
	return d, nil
}

// Fields returns the Arrow fields of the columns, in the order of the fields given.
func (d *Decoder) Fields() []arrow.Field { return slices.Clone(d.fields) }

// Len returns the number of rows taken since the last Columns.
func (d *Decoder) Len() int { return d.rows }

// Columns returns the rows taken so far as one array per field and begins a new batch,
// with room for an eighth more than this one had. The caller releases the arrays; they own
// their memory, which the garbage collector frees.
func (d *Decoder) Columns() []arrow.Array {
	out := make([]arrow.Array, len(d.cols))
	room := max(d.rows+d.rows/8, 64)
	for i := range d.cols {
		out[i] = d.cols[i].array(d.rows)
		d.cols[i].reset()
	}
	d.rows, d.room, d.live = 0, room, d.live[:0]
	return out
}

func (d *Decoder) grow(rows int) {
	for _, i := range d.live {
		d.cols[i].grow(rows)
	}
	d.room = rows
}

// Append reads one payload and adds a row, or returns a *Refusal and adds none. The
// payload is not kept.
func (d *Decoder) Append(payload []byte) error {
	if d.rows == d.room {
		d.grow(2 * d.room)
	}
	d.gen++
	d.got, d.keys = 0, 0
	if d.document(payload) && d.complete(len(payload)) {
		d.rows++
		return nil
	}
	for _, i := range d.live {
		if c := &d.cols[i]; c.Type == String {
			c.text = c.text[:c.ends[d.rows]]
		}
	}
	return d.refusal(payload)
}

func (d *Decoder) document(b []byte) bool {
	p := blanks(b, 0)
	if p == len(b) {
		return d.no(ReasonEmpty, p, nil, "") > 0
	}
	if b[p] != '{' {
		return d.no(ReasonNotObject, p, nil, "") > 0
	}
	p = d.object(b, p, d.root, 1)
	if p < 0 {
		return false
	}
	if p = blanks(b, p); p < len(b) {
		return d.no(ReasonMalformed, p, nil, "something behind the object") > 0
	}
	return true
}

// complete makes null what the payload did not give, unless it is required.
func (d *Decoder) complete(end int) bool {
	if d.got == len(d.cols) {
		return true
	}
	for _, i := range d.required {
		if c := &d.cols[i]; c.set != d.gen {
			d.fail = failure{reason: ReasonMissingField, at: end, what: fmt.Sprintf("%s (%s) is required and null or absent", c.Name, c.Path)}
			return false
		}
	}
	if d.got == len(d.live) {
		return true
	}
	for _, i := range d.live {
		if c := &d.cols[i]; c.set != d.gen {
			c.setNull(d.rows, d.room)
		}
	}
	return true
}

// no notes why the payload is refused and returns -1, the position that means so.
func (d *Decoder) no(reason string, at int, n *node, what string) int {
	d.fail = failure{reason: reason, at: at, node: n, what: what}
	return -1
}

// blanks returns the first position from p that is not JSON white space.
func blanks(b []byte, p int) int {
	for p < len(b) && b[p] <= ' ' && (b[p] == ' ' || b[p] == '\n' || b[p] == '\r' || b[p] == '\t') {
		p++
	}
	return p
}

// object reads the object at b[p], which is a brace, and returns the position behind it.
// The key that is expected next is tried before any other.
func (d *Decoder) object(b []byte, p int, n *node, depth int) int {
	if depth > d.limits.Depth {
		return d.no(ReasonTooDeep, p, n, "")
	}
	p = blanks(b, p+1)
	if p < len(b) && b[p] == '}' {
		return p + 1
	}
	last := int32(-1) // index of the key before
	guess := n.first
	for {
		if p >= len(b) || b[p] != '"' {
			return d.no(ReasonMalformed, p, n, "a name in quotes is missing")
		}
		p++
		if d.keys++; d.keys > d.limits.Keys {
			return d.no(ReasonTooManyKeys, p, n, "")
		}
		at := int32(-1)
		if p+16 <= len(b) {
			w0, w1 := binary.LittleEndian.Uint64(b[p:]), binary.LittleEndian.Uint64(b[p+8:])
			k := &n.keys[guess]
			if (w0^k.w0)&k.m0|(w1^k.w1)&k.m1 == 0 && k.long(b, p) {
				at = guess
			} else {
				for i := range n.keys {
					k := &n.keys[i]
					if (w0^k.w0)&k.m0|(w1^k.w1)&k.m1 == 0 && k.long(b, p) {
						at = int32(i)
						break
					}
				}
			}
		} else if q := n.keys[guess].quoted; literal(b, p, q) {
			at = guess
		}
		var child *node
		if at >= 0 {
			k := &n.keys[at]
			child = k.node
			p += len(k.quoted)
		} else if p, at, child = d.name(b, p, n); p < 0 {
			return -1
		}
		if at >= 0 {
			if guess != at {
				if last < 0 {
					n.first = at
				} else {
					n.keys[last].next = at
				}
			}
			last, guess = at, n.keys[at].next
		}
		if p < len(b) && b[p] == ':' {
			p++
		} else if p = blanks(b, p); p < len(b) && b[p] == ':' {
			p++
		} else {
			return d.no(ReasonMalformed, p, n, "a colon is missing")
		}
		if p < len(b) && b[p] <= ' ' {
			p = blanks(b, p)
		}
		if child == nil {
			p = d.skip(b, p, depth)
		} else {
			p = d.value(b, p, child, depth)
		}
		if p < 0 {
			return -1
		}
		if p < len(b) && b[p] <= ' ' {
			p = blanks(b, p)
		}
		if p >= len(b) {
			return d.no(ReasonMalformed, p, n, "the object has no end")
		}
		if b[p] == '}' {
			return p + 1
		}
		if b[p] != ',' {
			return d.no(ReasonMalformed, p, n, "a comma or brace is missing")
		}
		p++
		if p < len(b) && b[p] <= ' ' {
			p = blanks(b, p)
		}
	}
}

// name reads the name whose first byte is b[p] the slow way: near the end of the
// payload, with escapes, or not seen before. It returns the position behind the closing
// quote, the index of the key or -1, and its node or nil.
func (d *Decoder) name(b []byte, p int, n *node) (int, int32, *node) {
	end, seen := scanText(b, p)
	if end < 0 {
		return d.no(ReasonMalformed, p, n, "a name has no end or holds a control character"), -1, nil
	}
	name := b[p:end]
	if seen != 0 {
		if name = d.clean(b, p, end, seen, n); name == nil {
			return -1, -1, nil
		}
	}
	if at, ok := n.names[string(name)]; ok {
		return end + 1, at, n.keys[at].node
	}
	if seen&textEscape != 0 || end+16 > len(b) {
		return end + 1, -1, nil
	}
	return end + 1, n.learn(name), nil
}

// clean checks the UTF-8 of the string b[p:end] and resolves its escapes, if it has any
// of them, and returns nil when it may not stand in a payload. The result is lent until
// the next call.
func (d *Decoder) clean(b []byte, p, end int, seen uint8, n *node) []byte {
	s := b[p:end]
	if seen&textHigh != 0 && !utf8.Valid(s) {
		d.no(ReasonInvalidUTF8, p, n, "")
		return nil
	}
	if seen&textEscape == 0 {
		return s
	}
	var fault textFault
	d.scratch, fault = unescape(d.scratch[:0], s)
	switch fault {
	case textBadEscape:
		d.no(ReasonMalformed, p, n, "an escape that JSON does not know")
		return nil
	case textHalfPair:
		d.no(ReasonInvalidUTF8, p, n, "half a surrogate pair")
		return nil
	}
	return d.scratch
}

// value reads the value at b[p] into what n stands for.
func (d *Decoder) value(b []byte, p int, n *node, depth int) int {
	if n.seen == d.gen {
		return d.no(ReasonDuplicateKey, p, n, "")
	}
	n.seen = d.gen
	if p >= len(b) {
		return d.no(ReasonMalformed, p, n, "a value is missing")
	}
	if b[p] == 'n' && p+4 <= len(b) && string(b[p:p+4]) == "null" {
		return p + 4
	}
	switch {
	case n.isObject():
		if b[p] != '{' {
			return d.wrongType(b, p, n)
		}
		return d.object(b, p, n, depth+1)
	case n.isArray():
		if b[p] != '[' {
			return d.wrongType(b, p, n)
		}
		return d.array(b, p, n, depth+1)
	}
	c := &d.cols[n.column]
	if !c.live {
		c.begin(d.rows, d.room)
		d.live = append(d.live, int32(n.column))
	}
	switch c.Type {
	case Int64:
		m, frac, kind, end := scanNumber(b, p)
		if kind == numBad {
			return d.wrongType(b, p, n)
		}
		v, ok := m, true
		if kind == numLong {
			v, ok = fixedLong(b[p:end], c.scale, halfEven)
		} else if frac != c.scale {
			v, ok = fixedShort(m, frac, c.scale, halfEven)
		}
		if !ok || v < c.lowest || v > c.highest {
			return d.no(ReasonOutOfRange, p, n, "")
		}
		c.ints[d.rows] = v
		p = end
	case Float64:
		m, frac, kind, end := scanNumber(b, p)
		if kind == numBad {
			return d.wrongType(b, p, n)
		}
		v, ok := float(m, frac, kind, b[p:end])
		if !ok {
			return d.no(ReasonNotFinite, p, n, "")
		}
		c.floats[d.rows] = v
		p = end
	case String:
		if b[p] != '"' {
			return d.wrongType(b, p, n)
		}
		p++
		end, seen := scanText(b, p)
		if end < 0 {
			return d.no(ReasonMalformed, p, n, "a string has no end or holds a control character")
		}
		if end-p > d.limits.StringBytes {
			return d.no(ReasonStringTooLong, p, n, "")
		}
		s := b[p:end]
		if seen != 0 {
			if s = d.clean(b, p, end, seen, n); s == nil {
				return -1
			}
		}
		if len(c.text)+len(s) > math.MaxInt32 {
			return d.no(ReasonBatchFull, p, n, "")
		}
		c.text = append(c.text, s...)
		c.ends[d.rows+1] = int32(len(c.text))
		p = end + 1
	case Bool:
		switch {
		case literal(b, p, "true"):
			c.setBit(d.rows, true)
			p += 4
		case literal(b, p, "false"):
			c.setBit(d.rows, false)
			p += 5
		default:
			return d.wrongType(b, p, n)
		}
	case Time:
		if p = d.time(b, p, n, c); p < 0 {
			return -1
		}
	}
	c.set = d.gen
	d.got++
	return p
}

// time reads a number or a string into a Time.
func (d *Decoder) time(b []byte, p int, n *node, c *column) int {
	if b[p] != '"' {
		if c.Unit == RFC3339 {
			return d.wrongType(b, p, n)
		}
		m, frac, kind, end := scanNumber(b, p)
		if kind == numBad {
			return d.wrongType(b, p, n)
		}
		v, ok := c.ticks(m, frac, kind, b[p:end])
		if !ok {
			return d.no(ReasonTimeRange, p, n, "")
		}
		c.ints[d.rows] = v
		return end
	}
	p++
	end, seen := scanText(b, p)
	if end < 0 {
		return d.no(ReasonMalformed, p, n, "a string has no end or holds a control character")
	}
	s := b[p:end]
	if seen != 0 {
		if s = d.clean(b, p, end, seen, n); s == nil {
			return -1
		}
	}
	if c.Unit == RFC3339 {
		v, ok := parseRFC3339(s)
		if !ok {
			return d.no(ReasonBadTime, p, n, "")
		}
		c.ints[d.rows] = v
		return end + 1
	}
	m, frac, kind, stop := scanNumber(s, 0)
	if kind == numBad || stop != len(s) {
		return d.no(ReasonBadTime, p, n, "")
	}
	v, ok := c.ticks(m, frac, kind, s)
	if !ok {
		return d.no(ReasonTimeRange, p, n, "")
	}
	c.ints[d.rows] = v
	return end + 1
}

func (c *column) ticks(m int64, frac int, kind numKind, text []byte) (int64, bool) {
	if kind == numLong {
		return fixedLong(text, c.scale, down)
	}
	return fixedShort(m, frac, c.scale, down)
}

// array reads the array at b[p], which is a bracket, and returns the position behind it.
func (d *Decoder) array(b []byte, p int, n *node, depth int) int {
	if depth > d.limits.Depth {
		return d.no(ReasonTooDeep, p, n, "")
	}
	p = blanks(b, p+1)
	if p < len(b) && b[p] == ']' {
		return p + 1
	}
	for i := 0; ; i++ {
		if i < len(n.elems) && n.elems[i] != nil {
			p = d.value(b, p, n.elems[i], depth)
		} else {
			p = d.skip(b, p, depth)
		}
		if p < 0 {
			return -1
		}
		p = blanks(b, p)
		if p >= len(b) {
			return d.no(ReasonMalformed, p, n, "the array has no end")
		}
		if b[p] == ']' {
			return p + 1
		}
		if b[p] != ',' {
			return d.no(ReasonMalformed, p, n, "a comma or bracket is missing")
		}
		p = blanks(b, p+1)
	}
}

// skip checks the value at b[p] and returns the position behind it.
func (d *Decoder) skip(b []byte, p, depth int) int {
	if p >= len(b) {
		return d.no(ReasonMalformed, p, nil, "a value is missing")
	}
	switch c := b[p]; c {
	case '"':
		return d.skipText(b, p)
	case '{', '[':
		return d.skipNested(b, p, depth+1)
	case 't', 'f', 'n':
		for _, word := range [...]string{"true", "false", "null"} {
			if literal(b, p, word) {
				return p + len(word)
			}
		}
	default:
		if _, _, kind, end := scanNumber(b, p); kind != numBad {
			return end
		}
	}
	return d.noValue(b, p, nil)
}

func (d *Decoder) skipText(b []byte, p int) int {
	p++
	end, seen := scanText(b, p)
	if end < 0 {
		return d.no(ReasonMalformed, p, nil, "a string has no end or holds a control character")
	}
	if seen != 0 && d.clean(b, p, end, seen, nil) == nil {
		return -1
	}
	return end + 1
}

func (d *Decoder) skipNested(b []byte, p, depth int) int {
	if depth > d.limits.Depth {
		return d.no(ReasonTooDeep, p, nil, "")
	}
	object := b[p] == '{'
	end := byte(']')
	if object {
		end = '}'
	}
	p = blanks(b, p+1)
	if p < len(b) && b[p] == end {
		return p + 1
	}
	for {
		if object {
			if p >= len(b) || b[p] != '"' {
				return d.no(ReasonMalformed, p, nil, "a name in quotes is missing")
			}
			if d.keys++; d.keys > d.limits.Keys {
				return d.no(ReasonTooManyKeys, p, nil, "")
			}
			if p = d.skipText(b, p); p < 0 {
				return -1
			}
			if p = blanks(b, p); p >= len(b) || b[p] != ':' {
				return d.no(ReasonMalformed, p, nil, "a colon is missing")
			}
			p = blanks(b, p+1)
		}
		if p = d.skip(b, p, depth); p < 0 {
			return -1
		}
		if p = blanks(b, p); p >= len(b) {
			return d.no(ReasonMalformed, p, nil, "an object or array has no end")
		}
		if b[p] == end {
			return p + 1
		}
		if b[p] != ',' {
			return d.no(ReasonMalformed, p, nil, "a comma is missing")
		}
		p = blanks(b, p+1)
	}
}

func literal(b []byte, p int, word string) bool {
	return p+len(word) <= len(b) && string(b[p:p+len(word)]) == word
}

// wrongType refuses the value at b[p] as another JSON type than n wants, or as no JSON
// value at all.
func (d *Decoder) wrongType(b []byte, p int, n *node) int {
	switch b[p] {
	case '"', '{', '[':
		return d.no(ReasonWrongType, p, n, "")
	}
	if literal(b, p, "true") || literal(b, p, "false") || literal(b, p, "null") {
		return d.no(ReasonWrongType, p, n, "")
	}
	if _, _, kind, _ := scanNumber(b, p); kind != numBad {
		return d.no(ReasonWrongType, p, n, "")
	}
	return d.noValue(b, p, n)
}

// noValue refuses what is not JSON at all, telling the numbers that are not finite in
// other languages' notations from the rest.
func (d *Decoder) noValue(b []byte, p int, n *node) int {
	for _, word := range [...]string{"NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "Inf", "-Inf", "-NaN", "-nan"} {
		if literal(b, p, word) {
			return d.no(ReasonNotFinite, p, n, "")
		}
	}
	return d.no(ReasonMalformed, p, n, "not a JSON value")
}

// refusal puts the failure into words.
func (d *Decoder) refusal(b []byte) *Refusal {
	f := d.fail
	where := fmt.Sprintf("at byte %d", f.at)
	var c *column
	if f.node != nil {
		where = f.node.path + " " + where
		if !f.node.isObject() && !f.node.isArray() {
			c = &d.cols[f.node.column]
			where = c.Name + " (" + f.node.path + fmt.Sprintf(") at byte %d", f.at)
		}
	}
	r := &Refusal{Reason: f.reason}
	switch f.reason {
	case ReasonEmpty:
		r.Detail = fmt.Sprintf("%d bytes and no object", len(b))
	case ReasonNotObject:
		r.Detail = fmt.Sprintf("the payload begins with %s at byte %d, an object is wanted", jsonType(b, f.at), f.at)
	case ReasonMissingField:
		r.Detail = f.what
	case ReasonWrongType:
		want := "an object"
		switch {
		case c != nil:
			want = wants(c.Field)
		case f.node.isArray():
			want = "an array"
		}
		r.Detail = fmt.Sprintf("%s: %s where %s is wanted", where, jsonType(b, f.at), want)
	case ReasonDuplicateKey:
		r.Detail = where + ": the second value"
	case ReasonTooDeep:
		r.Detail = fmt.Sprintf("%s: nested deeper than %d", where, d.limits.Depth)
	case ReasonTooManyKeys:
		r.Detail = fmt.Sprintf("%s: more than %d names", where, d.limits.Keys)
	case ReasonStringTooLong:
		r.Detail = fmt.Sprintf("%s: longer than %d bytes", where, d.limits.StringBytes)
	case ReasonOutOfRange:
		r.Detail = fmt.Sprintf("%s: beyond int64 at scale %d", where, c.Scale)
		if c.Bits > 0 {
			r.Detail = fmt.Sprintf("%s: beyond the %d bits at scale %d that the field declares", where, c.Bits, c.Scale)
		}
	case ReasonNotFinite:
		r.Detail = where + ": not a finite number"
	case ReasonBadTime:
		r.Detail = fmt.Sprintf("%s: %s is wanted", where, wants(c.Field))
	case ReasonTimeRange:
		r.Detail = fmt.Sprintf("%s: a time in %s that microseconds cannot hold", where, c.Unit)
	case ReasonBatchFull:
		r.Detail = where + ": the text of the batch would pass 2 GiB"
	case ReasonInvalidUTF8:
		r.Detail = where + ": not UTF-8"
		if f.what != "" {
			r.Detail = where + ": " + f.what
		}
	default:
		r.Detail = where + ": " + f.what
	}
	return r
}

// wants names the JSON that a field takes.
func wants(f Field) string {
	switch f.Type {
	case String:
		return "a string"
	case Bool:
		return "true or false"
	case Time:
		if f.Unit == RFC3339 {
			return "RFC 3339 text"
		}
		return "a number of " + f.Unit + ", bare or quoted,"
	}
	return "a number"
}

// jsonType names the JSON type of the value that begins at b[p].
func jsonType(b []byte, p int) string {
	switch c := b[p]; {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case literal(b, p, "true"), literal(b, p, "false"):
		return "a boolean"
	case literal(b, p, "null"):
		return "null"
	case c == '-' || isDigit(c):
		return "a number"
	default:
		return fmt.Sprintf("byte 0x%02x", c)
	}
}

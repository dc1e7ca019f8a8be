package mapping

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxBytes bounds an event, a line, an envelope and a mapping file.
	MaxBytes = 16 << 20
	// MaxDepth bounds the nesting of objects and lists. The library has a bound too: it
	// fails near 1000, less the frames of its own calls.
	MaxDepth = 900
	// maxDigits is the longest integer that the library reads.
	maxDigits = 4300
)

type kind uint8

const (
	null kind = iota
	no
	yes
	integer
	float
	text
	list
	object
)

// span is a piece of a document's bytes.
type span struct{ from, to int32 }

// node is a value of a document: the literal of a number, or a text without its escapes.
type node struct {
	kind  kind
	used  usage
	name  span
	text  span
	first int32 // child, 0 for none
	next  int32 // sibling, 0 for none
}

// usage is what a mapping did with a value; the zero value is nothing.
type usage uint8

const (
	usedUp   usage = iota + 1 // with all that is in it
	usedPart                  // an object or a list, of which some was used
)

// document is one JSON value as a tree of nodes. Node 0 is the value. Bytes hold what was
// read, and behind it every text that had escapes or was made by a preprocessor. Half of a
// surrogate pair is kept as the three bytes that UTF-8 would have for it. The slices are
// used again for the next value.
type document struct {
	b     []byte
	end   int  // of what was read
	json  bool // what was read is JSON: texts in it need no escapes
	nodes []node
	fault *fault
}

// fault says why bytes are no document. The library handles what is no JSON in another way
// than what it cannot hold, so limit tells them apart.
type fault struct {
	at    int
	cause string
	limit bool
}

func (f *fault) Error() string { return fmt.Sprintf("byte %d: %s", f.at, f.cause) }

// read takes b as text. Nothing is parsed; there are no nodes yet.
func (d *document) read(b []byte) *fault {
	d.b, d.nodes, d.fault = d.b[:0], d.nodes[:0], nil
	if len(b) > MaxBytes {
		return &fault{MaxBytes, fmt.Sprintf("longer than %d bytes", MaxBytes), true}
	}
	if !utf8.Valid(b) {
		at := 0
		for r, n := utf8.DecodeRune(b); r != utf8.RuneError || n != 1; r, n = utf8.DecodeRune(b[at:]) {
			at += n
		}
		return &fault{at, "not UTF-8", true}
	}
	d.b = append(d.b, b...)
	d.end, d.json = len(b), false
	return nil
}

// parse reads the JSON value that read took.
func (d *document) parse() *fault {
	p := d.value(d.blanks(0), 1)
	if p >= 0 {
		if p = d.blanks(p); p < d.end {
			p = d.no(p, "something follows the value")
		}
	}
	if p < 0 {
		return d.fault
	}
	d.json = true
	return nil
}

// no notes that this is no JSON and returns the position that says so.
func (d *document) no(at int, cause string) int {
	d.fault = &fault{at, cause, false}
	return -1
}

func (d *document) blanks(p int) int {
	for p < d.end && (d.b[p] == ' ' || d.b[p] == '\n' || d.b[p] == '\t' || d.b[p] == '\r') {
		p++
	}
	return p
}

// value reads the value at p as the next node and returns where it ends, -1 for a fault.
func (d *document) value(p, depth int) int {
	if p >= d.end {
		return d.no(p, "the text ends where a value is due")
	}
	at := len(d.nodes)
	d.nodes = append(d.nodes, node{})
	switch c := d.b[p]; c {
	case '{', '[':
		if depth > MaxDepth {
			d.fault = &fault{p, fmt.Sprintf("nested deeper than %d", MaxDepth), true}
			return -1
		}
		d.nodes[at].kind = list
		if c == '{' {
			d.nodes[at].kind = object
		}
		return d.children(int32(at), p, depth)
	case '"':
		s, end := d.string(p)
		d.nodes[at].kind, d.nodes[at].text = text, s
		return end
	case 't':
		return d.word(at, p, yes, "true")
	case 'f':
		return d.word(at, p, no, "false")
	case 'n':
		return d.word(at, p, null, "null")
	case 'N':
		return d.word(at, p, float, "NaN")
	case 'I':
		return d.word(at, p, float, "Infinity")
	case '-':
		if p+1 < d.end && d.b[p+1] == 'I' {
			return d.word(at, p, float, "-Infinity")
		}
	}
	return d.number(at, p)
}

// children reads the members of an object or the elements of a list.
func (d *document) children(parent int32, p, depth int) int {
	last := byte(']')
	if d.nodes[parent].kind == object {
		last = '}'
	}
	p = d.blanks(p + 1)
	if p < d.end && d.b[p] == last {
		return p + 1
	}
	prev := int32(0)
	for {
		var name span
		if last == '}' {
			if p >= d.end || d.b[p] != '"' {
				return d.no(p, "want a name in quotes")
			}
			if name, p = d.string(p); p < 0 {
				return p
			}
			if p = d.blanks(p); p >= d.end || d.b[p] != ':' {
				return d.no(p, "want :")
			}
			p = d.blanks(p + 1)
		}
		at := int32(len(d.nodes))
		if p = d.value(p, depth+1); p < 0 {
			return p
		}
		d.nodes[at].name = name
		d.link(parent, prev, at)
		prev = at
		p = d.blanks(p)
		if p >= d.end {
			return d.no(p, "the text ends inside an object or list")
		}
		switch d.b[p] {
		case last:
			return p + 1
		case ',':
			p = d.blanks(p + 1)
		default:
			return d.no(p, "want , or the end of the object or list")
		}
	}
}

// link puts node at behind its sibling prev, or as the first child of parent.
func (d *document) link(parent, prev, at int32) {
	if prev == 0 {
		d.nodes[parent].first = at
		return
	}
	d.nodes[prev].next = at
}

// string reads the string at p, which is its quote, and returns where it ends.
func (d *document) string(p int) (span, int) {
	start := p + 1
	for i := start; i < d.end; i++ {
		switch c := d.b[i]; {
		case c == '"':
			return span{int32(start), int32(i)}, i + 1
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			return span{}, d.no(i, "a control character in a string")
		}
	}
	return span{}, d.no(p, "a string without end")
}

// escaped reads the rest of the string that begins at start and has its first escape at i.
func (d *document) escaped(start, i int) (span, int) {
	out := len(d.b)
	d.b = append(d.b, d.b[start:i]...)
	for i < d.end {
		c := d.b[i]
		switch {
		case c == '"':
			return span{int32(out), int32(len(d.b))}, i + 1
		case c < ' ':
			return span{}, d.no(i, "a control character in a string")
		case c != '\\':
			d.b = append(d.b, c)
			i++
			continue
		case i+1 >= d.end:
			return span{}, d.no(i, "a string without end")
		}
		if d.b[i+1] != 'u' {
			c := unescape(d.b[i+1])
			if c == 0 {
				return span{}, d.no(i, "an escape that JSON does not have")
			}
			d.b = append(d.b, c)
			i += 2
			continue
		}
		r := d.hex4(i + 2)
		if r < 0 {
			return span{}, d.no(i, "an escape that JSON does not have")
		}
		i += 6
		if utf16.IsSurrogate(r) && i+1 < d.end && d.b[i] == '\\' && d.b[i+1] == 'u' {
			if pair := utf16.DecodeRune(r, d.hex4(i+2)); pair != utf8.RuneError {
				r = pair
				i += 6
			}
		}
		d.b = appendRune(d.b, r)
	}
	return span{}, d.no(start-1, "a string without end")
}

// unescape returns what the letter behind a backslash stands for, 0 for nothing.
func unescape(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

// hex4 returns the number of the four digits at p, -1 if there are none.
func (d *document) hex4(p int) rune {
	if d.end-p < 4 {
		return -1
	}
	var r rune
	for _, c := range d.b[p : p+4] {
		switch {
		case isDigit(c):
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendRune is utf8.AppendRune that keeps half of a surrogate pair.
func appendRune(b []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(b, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
	}
	return utf8.AppendRune(b, r)
}

// decodeRune is utf8.DecodeRune for what appendRune wrote.
func decodeRune(b []byte) (rune, int) {
	if len(b) >= 3 && b[0] == 0xed && b[1] >= 0xa0 {
		return 0xd000 | rune(b[1]&0x3f)<<6 | rune(b[2]&0x3f), 3
	}
	return utf8.DecodeRune(b)
}

func (d *document) word(at, p int, k kind, word string) int {
	end := p + len(word)
	if end > d.end || string(d.b[p:end]) != word {
		return d.no(p, "want a value")
	}
	d.nodes[at].kind, d.nodes[at].text = k, span{int32(p), int32(end)}
	return end
}

func (d *document) number(at, p int) int {
	start := p
	if d.b[p] == '-' {
		p++
	}
	whole := p
	p = d.digits(p)
	if p == whole || p > whole+1 && d.b[whole] == '0' {
		return d.no(start, "want a value")
	}
	k := integer
	if p < d.end && d.b[p] == '.' {
		frac := p + 1
		if p = d.digits(frac); p == frac {
			return d.no(start, "a number without digits behind the point")
		}
		k = float
	}
	if p < d.end && d.b[p]|0x20 == 'e' {
		p++
		if p < d.end && (d.b[p] == '+' || d.b[p] == '-') {
			p++
		}
		exp := p
		if p = d.digits(exp); p == exp {
			return d.no(start, "a number without digits in the exponent")
		}
		k = float
	}
	if k == integer && p-whole > maxDigits {
		d.fault = &fault{start, fmt.Sprintf("an integer of more than %d digits", maxDigits), true}
		return -1
	}
	d.nodes[at].kind, d.nodes[at].text = k, span{int32(start), int32(p)}
	return p
}

func (d *document) digits(p int) int {
	for p < d.end && isDigit(d.b[p]) {
		p++
	}
	return p
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func (d *document) bytes(s span) []byte { return d.b[s.from:s.to] }

// append puts s behind the bytes.
func (d *document) append(s ...string) span {
	from := int32(len(d.b))
	for _, s := range s {
		d.b = append(d.b, s...)
	}
	return span{from, int32(len(d.b))}
}

// member returns the member of object n with that name, -1 for none. Of several members
// with one name the last counts.
func (d *document) member(n int32, name string) int32 {
	found := int32(-1)
	for c := d.nodes[n].first; c != 0; c = d.nodes[c].next {
		if s := d.nodes[c].name; int(s.to-s.from) == len(name) && string(d.bytes(s)) == name {
			found = c
		}
	}
	return found
}

// double returns the value of a number; beyond the largest double it is infinite.
func (d *document) double(n *node) float64 {
	f, err := strconv.ParseFloat(string(d.bytes(n.text)), 64)
	if err != nil && !math.IsInf(f, 0) {
		panic(fmt.Sprintf("mapping: %q was checked: %v", d.bytes(n.text), err))
	}
	return f
}

// maxScan is the number of members up to which names are compared one by one.
const maxScan = 32

// names are the members of an object in the order in which their names come first, each
// with the node that comes last.
type names struct {
	d     *document
	nodes []int32
	index map[string]int // into nodes, when there are many
}

// put takes member at.
func (s *names) put(at int32) {
	name := s.d.bytes(s.d.nodes[at].name)
	if s.index == nil && len(s.nodes) == maxScan {
		s.index = map[string]int{}
		for i, n := range s.nodes {
			s.index[string(s.d.bytes(s.d.nodes[n].name))] = i
		}
	}
	if s.index != nil {
		i, ok := s.index[string(name)]
		if ok {
			s.nodes[i] = at
			return
		}
		s.index[string(name)] = len(s.nodes)
	} else {
		for i, n := range s.nodes {
			if string(s.d.bytes(s.d.nodes[n].name)) == string(name) {
				s.nodes[i] = at
				return
			}
		}
	}
	s.nodes = append(s.nodes, at)
}

// members returns the members of object n.
func (d *document) members(n int32) []int32 {
	s := names{d: d}
	for c := d.nodes[n].first; c != 0; c = d.nodes[c].next {
		s.put(c)
	}
	return s.nodes
}

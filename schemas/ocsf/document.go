package ocsf

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// ErrNotJSON is behind every error of a payload that is not one JSON object.
var ErrNotJSON = errors.New("not a JSON object")

// maxDepth bounds the nesting of objects and arrays in an event.
const maxDepth = 128

// node is a value of a document. Numbers and strings are kept as they are written.
type node struct {
	kind    byte // { [ " 0 t f n
	escaped bool // the string has escapes
	named   bool // the name has escapes
	attr    int32
	name    [2]int32 // of a member: where it is, without the quotes
	text    [2]int32 // without the quotes
	first   int32    // child, 0 for none
	next    int32    // sibling, 0 for none
}

// document is one JSON object as a tree of nodes. Node 0 is the object. The slices are
// used again for the next payload.
type document struct {
	b     []byte
	nodes []node
	// schema is that of the attributes that nodes are known to be, nil for none.
	schema *Schema
	fault  string
	at     int
}

// parse reads b, which must not change while the document is used.
func (d *document) parse(b []byte) error {
	d.b, d.nodes, d.schema, d.fault = b, d.nodes[:0], nil, ""
	if len(b) > math.MaxInt32 {
		return fmt.Errorf("%w: more than 2 GiB", ErrNotJSON)
	}
	p := d.blanks(0)
	if p >= len(b) || b[p] != '{' {
		return fmt.Errorf("%w: byte %d: want {", ErrNotJSON, p)
	}
	_, p = d.value(p, 1)
	if p >= 0 {
		if p = d.blanks(p); p < len(b) {
			p = d.no(p, "something follows the object")
		}
	}
	if p < 0 {
		return fmt.Errorf("%w: byte %d: %s", ErrNotJSON, d.at, d.fault)
	}
	return nil
}

// no notes the fault and returns the position that says so.
func (d *document) no(at int, fault string) int {
	d.at, d.fault = at, fault
	return -1
}

func (d *document) blanks(p int) int {
	for p < len(d.b) && (d.b[p] == ' ' || d.b[p] == '\n' || d.b[p] == '\t' || d.b[p] == '\r') {
		p++
	}
	return p
}

// value reads the value at p and returns its node and where it ends, -1 for a fault.
func (d *document) value(p, depth int) (at int32, end int) {
	if p >= len(d.b) {
		return 0, d.no(p, "the text ends where a value is due")
	}
	at = d.add(d.b[p], int32(p))
	switch c := d.b[p]; {
	case c == '{' || c == '[':
		if depth > maxDepth {
			return 0, d.no(p, fmt.Sprintf("nested deeper than %d", maxDepth))
		}
		end = d.children(at, p, depth)
	case c == '"':
		var escaped bool
		if end, escaped = d.string(p); end > 0 {
			n := &d.nodes[at]
			n.escaped, n.text[0], n.text[1] = escaped, int32(p+1), int32(end-1)
		}
		return at, end
	case c == 't':
		end = d.literal(p, "true")
	case c == 'f':
		end = d.literal(p, "false")
	case c == 'n':
		end = d.literal(p, "null")
	default:
		d.nodes[at].kind = '0'
		end = d.number(p)
	}
	if end > 0 {
		d.nodes[at].text[1] = int32(end)
	}
	return at, end
}

// add makes a node of a value that begins at p. A literal of a node would be put together on
// the stack and copied, which takes several times as long.
func (d *document) add(kind byte, p int32) int32 {
	at := len(d.nodes)
	if at == cap(d.nodes) {
		d.nodes = append(d.nodes, node{})
	}
	d.nodes = d.nodes[:at+1]
	n := &d.nodes[at]
	*n = node{}
	n.kind, n.attr, n.text[0], n.text[1] = kind, -1, p, p
	return int32(at)
}

// children reads the members of an object or the elements of an array.
func (d *document) children(parent int32, p, depth int) int {
	object := d.b[p] == '{'
	last := byte(']')
	if object {
		last = '}'
	}
	p = d.blanks(p + 1)
	if p < len(d.b) && d.b[p] == last {
		return p + 1
	}
	prev := int32(0)
	for {
		var from, to int
		var named bool
		if object {
			if p >= len(d.b) || d.b[p] != '"' {
				return d.no(p, "want a name in quotes")
			}
			end, escaped := d.string(p)
			if end < 0 {
				return end
			}
			from, to, named = p+1, end-1, escaped
			if p = d.blanks(end); p >= len(d.b) || d.b[p] != ':' {
				return d.no(p, "want :")
			}
			p = d.blanks(p + 1)
		}
		at, end := d.value(p, depth+1)
		if end < 0 {
			return end
		}
		n := &d.nodes[at]
		n.name[0], n.name[1], n.named = int32(from), int32(to), named
		if prev == 0 {
			d.nodes[parent].first = at
		} else {
			d.nodes[prev].next = at
		}
		prev = at
		p = d.blanks(end)
		if p >= len(d.b) {
			return d.no(p, "the text ends inside an object or array")
		}
		switch d.b[p] {
		case last:
			return p + 1
		case ',':
			p = d.blanks(p + 1)
		default:
			return d.no(p, "want , or the end of the object or array")
		}
	}
}

// string checks the string at p, which is its quote, and returns where it ends.
func (d *document) string(p int) (end int, escaped bool) {
	start := p + 1
	high := false
	for i := start + plainLen(d.b[start:]); i < len(d.b); i++ {
		c := d.b[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			continue
		}
		switch {
		case c == '"':
			if high && !utf8.Valid(d.b[start:i]) {
				return d.no(start, "text that is not UTF-8"), false
			}
			return i + 1, escaped
		case c == '\\':
			escaped = true
			n := escape(d.b[i:])
			if n == 0 {
				return d.no(i, "an escape that JSON does not have"), false
			}
			i += n - 1
		case c < ' ':
			return d.no(i, "a control character in a string"), false
		default:
			high = true
		}
	}
	return d.no(p, "a string without end"), false
}

// plainLen returns how many bytes, in words of eight, need no look of their own in a string:
// ASCII that is no quote, no backslash and no control character.
func plainLen(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^ones*'"', w^ones*'\\'
		// A byte that is 0 borrows from the one above it, so that more may be found than are
		// there, never fewer.
		if ((w-ones*' ')|(quote-ones)|(slash-ones)|w)&highs != 0 {
			break
		}
	}
	return i
}

// escape returns the length of the escape at b, 0 for a wrong one. Half of a surrogate
// pair is wrong: it is no character.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		r, ok := hex4(b[2:])
		switch {
		case !ok || r >= 0xdc00 && r < 0xe000:
			return 0
		case r < 0xd800 || r >= 0xe000:
			return 6
		}
		if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
			return 0
		}
		if r, ok = hex4(b[8:]); ok && r >= 0xdc00 && r < 0xe000 {
			return 12
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (d *document) literal(p int, word string) int {
	if len(d.b)-p < len(word) || string(d.b[p:p+len(word)]) != word {
		return d.no(p, "want a value")
	}
	return p + len(word)
}

func (d *document) number(p int) int {
	start := p
	if p < len(d.b) && d.b[p] == '-' {
		p++
	}
	whole := p
	for p < len(d.b) && isDigit(d.b[p]) {
		p++
	}
	if p == whole || p > whole+1 && d.b[whole] == '0' {
		return d.no(start, "want a value")
	}
	if p < len(d.b) && d.b[p] == '.' {
		p++
		frac := p
		for p < len(d.b) && isDigit(d.b[p]) {
			p++
		}
		if p == frac {
			return d.no(start, "a number without digits behind the point")
		}
	}
	if p < len(d.b) && d.b[p]|0x20 == 'e' {
		p++
		if p < len(d.b) && (d.b[p] == '+' || d.b[p] == '-') {
			p++
		}
		exp := p
		for p < len(d.b) && isDigit(d.b[p]) {
			p++
		}
		if p == exp {
			return d.no(start, "a number without digits in the exponent")
		}
	}
	return p
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// name returns the name of a member.
func (d *document) name(n *node) []byte {
	if n.named {
		return d.unescaped(n.name)
	}
	return d.b[n.name[0]:n.name[1]]
}

// text returns a string without its escapes, and any other value as it is written.
func (d *document) text(n *node) []byte {
	if n.escaped {
		return d.unescaped(n.text)
	}
	return d.b[n.text[0]:n.text[1]]
}

// unescaped reads a string that has escapes.
func (d *document) unescaped(at [2]int32) []byte { return unquote(d.b[at[0]-1 : at[1]+1]) }

// unquote reads a string that parse has checked.
func unquote(quoted []byte) []byte {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic(fmt.Sprintf("ocsf: %q was checked: %v", quoted, err))
	}
	return []byte(s)
}

// member returns the last member of object n with that name, -1 for none.
func (d *document) member(n int32, name string) int32 {
	found := int32(-1)
	if n < 0 || d.nodes[n].kind != '{' {
		return found
	}
	for c := d.nodes[n].first; c != 0; {
		v := &d.nodes[c]
		if v.named || int(v.name[1]-v.name[0]) == len(name) {
			if string(d.name(v)) == name {
				found = c
			}
		}
		c = v.next
	}
	return found
}

// topMembers are members of the event that rules ask for by name, -1 for none.
type topMembers struct{ classUID, activityID, typeUID, metadata, observables, unmapped int32 }

// top finds them in one pass; of several with one name the last.
func (d *document) top() topMembers {
	m := topMembers{-1, -1, -1, -1, -1, -1}
	for c := d.nodes[0].first; c != 0; c = d.nodes[c].next {
		switch string(d.name(&d.nodes[c])) {
		case "class_uid":
			m.classUID = c
		case "activity_id":
			m.activityID = c
		case "type_uid":
			m.typeUID = c
		case "metadata":
			m.metadata = c
		case "observables":
			m.observables = c
		case "unmapped":
			m.unmapped = c
		}
	}
	return m
}

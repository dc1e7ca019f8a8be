package ocsf

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// outline is the tree of the event that a Conformer writes, as a parse of the event would give
// it: who validates the event need not read it once more. While it is written, the nodes stand
// in the order of the text, each with its spans, and what is cut from the text is cut from
// them; link makes the tree. Spans count from the start of what the event is appended to.
type outline struct {
	document
	// Of the value that comes next: its name, nothing for an element, the attribute, -1 where the
	// Conformer does not say, and where it begins.
	name  [2]int32
	attr  int32
	from  int32
	doubt bool // only a parse can say whether the event is JSON
	open  []openNode
}

// openNode is an object or array whose children are being linked.
type openNode struct{ at, last, end int32 }

// reset begins the tree of an event, with attributes of a schema.
func (o *outline) reset(s *Schema, from int) {
	o.nodes, o.schema, o.doubt = o.nodes[:0], s, !s.plain
	o.due(0, 0, from)
}

// due says what comes next.
func (o *outline) due(name, end, from int) {
	o.name[0], o.name[1], o.attr, o.from = int32(name), int32(end), -1, int32(from)
}

// begin notes an object or array, which end ends.
func (o *outline) begin(kind byte) int32 {
	at := o.add(kind, o.from)
	n := &o.nodes[at]
	n.name, n.attr = o.name, o.attr
	return at
}

// scalar notes a value that needs no parse and ends where the text does.
func (o *outline) scalar(kind byte, end int) *node {
	n := &o.nodes[o.add(kind, o.from)]
	n.name, n.attr, n.text[1] = o.name, o.attr, int32(end)
	return n
}

// value notes any value of an event; b is the text up to its end. A string that escapes is false
// of has none.
func (o *outline) value(b []byte, escapes bool) {
	switch first := b[o.from]; first {
	case '"':
		n := o.scalar('"', len(b)-1)
		n.text[0]++
		n.escaped = escapes && bytes.IndexByte(b[n.text[0]:n.text[1]], '\\') >= 0
	case '{', '[':
		o.b = b
		at, end := o.document.value(int(o.from), 1)
		n := &o.nodes[at]
		n.name, n.attr = o.name, o.attr
		o.doubt = o.doubt || end != len(b)
	case 't', 'f', 'n':
		o.scalar(first, len(b))
	default:
		o.scalar('0', len(b))
	}
}

// trust notes that a text stands in the event that no parse has seen. What is not UTF-8 is no JSON.
func (o *outline) trust(text []byte) { o.doubt = o.doubt || !utf8.Valid(text) }

// link makes the tree of the event; false says that a parse has to make it.
func (o *outline) link(event []byte) bool {
	if o.b = event; o.doubt || len(o.nodes) == 0 || len(event) > math.MaxInt32 {
		return false
	}
	o.open = append(o.open[:0], openNode{end: int32(len(event))})
	for i := range o.nodes[1:] {
		at := int32(i + 1)
		n := &o.nodes[at]
		in := &o.open[len(o.open)-1]
		for n.text[0] >= in.end {
			o.open = o.open[:len(o.open)-1]
			in = &o.open[len(o.open)-1]
		}
		if in.last == 0 {
			o.nodes[in.at].first = at
		} else {
			o.nodes[in.last].next = at
		}
		in.last = at
		if n.kind == '{' || n.kind == '[' {
			if len(o.open) == maxDepth {
				return false
			}
			o.open = append(o.open, openNode{at: at, end: n.text[1]})
		}
	}
	return true
}

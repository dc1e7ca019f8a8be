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
	name  [2]int32 // of the value that is due, nothing for an element
	from  int32    // where that begins
	doubt bool     // only a parse can say whether the event is JSON
	open  []openNode
}

// openNode is an object or array whose children are being linked.
type openNode struct{ at, last, end int32 }

// begin notes an object or array, which end ends.
func (o *outline) begin(kind byte) int32 {
	at := o.add(kind, o.from)
	o.nodes[at].name = o.name
	return at
}

// scalar notes a value that needs no parse and ends where the text does.
func (o *outline) scalar(kind byte, end int) *node {
	n := &o.nodes[o.add(kind, o.from)]
	n.name, n.text[1] = o.name, int32(end)
	return n
}

// value notes any value of an event; b is the text up to its end.
func (o *outline) value(b []byte) {
	switch first := b[o.from]; first {
	case '"':
		n := o.scalar('"', len(b)-1)
		n.text[0]++
		n.escaped = bytes.IndexByte(b[n.text[0]:n.text[1]], '\\') >= 0
	case '{', '[':
		o.b = b
		at, end := o.document.value(int(o.from), 1)
		o.nodes[at].name = o.name
		o.doubt = o.doubt || end != len(b)
	case 't', 'f', 'n':
		o.scalar(first, len(b))
	default:
		o.scalar('0', len(b))
	}
}

// trust notes that a text stands in the event that no parse has seen.
func (o *outline) trust(text []byte) { o.doubt = o.doubt || !utf8.Valid(text) }

// link makes the tree of an event; false says that a parse has to make it.
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

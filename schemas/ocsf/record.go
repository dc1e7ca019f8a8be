package ocsf

import (
	"bytes"
	"fmt"
)

// Record is a record for a Conformer, written value by value: so it need not be read again.
// The zero value is ready after Reset.
type Record struct {
	doc  document
	open []openObject // innermost last
}

// Name is the name of a member of a Record.
type Name struct {
	label   []byte
	escaped bool
}

// NewName takes a name in JSON form, with quotes and colon.
func NewName(label []byte) Name { return Name{label, bytes.IndexByte(label, '\\') >= 0} }

// openObject is an object that is being written.
type openObject struct {
	node, last int32 // the object, and its last member, 0 for none
	before     int32 // the sibling before it, 0 for none
	from       int   // where it begins, with its name
}

// Reset begins a new record and keeps the memory of the last one.
func (r *Record) Reset() {
	r.doc.b, r.doc.nodes, r.open = append(r.doc.b[:0], '{'), append(r.doc.nodes[:0], node{kind: '{', attr: -1}), append(r.open[:0], openObject{})
}

// Begin opens an object.
func (r *Record) Begin(name Name) {
	from, before := len(r.doc.b), r.open[len(r.open)-1].last
	at := r.member(name, '{')
	r.doc.b = append(r.doc.b, '{')
	r.open = append(r.open, openObject{node: at, before: before, from: from})
}

// End closes the object that was opened last; the record itself is the first one. Another one
// without members is taken back.
func (r *Record) End() {
	in := r.open[len(r.open)-1]
	r.open = r.open[:len(r.open)-1]
	if in.last == 0 && len(r.open) > 0 {
		r.doc.b, r.doc.nodes = r.doc.b[:in.from], r.doc.nodes[:in.node]
		of := &r.open[len(r.open)-1]
		if of.last = in.before; in.before == 0 {
			r.doc.nodes[of.node].first = 0
		} else {
			r.doc.nodes[in.before].next = 0
		}
		return
	}
	r.doc.b = append(r.doc.b, '}')
	r.doc.nodes[in.node].text[1] = int32(len(r.doc.b))
}

// Text adds a text that stands between quotes as it is: UTF-8 that needs no escapes.
func (r *Record) Text(name Name, text []byte) {
	at := r.member(name, '"')
	r.doc.b = append(r.doc.b, '"')
	start := int32(len(r.doc.b))
	r.doc.b = append(r.doc.b, text...)
	r.doc.nodes[at].text = [2]int32{start, int32(len(r.doc.b))}
	r.doc.b = append(r.doc.b, '"')
}

// Number adds a number as JSON writes it.
func (r *Record) Number(name Name, literal []byte) {
	at := r.member(name, '0')
	r.doc.b = append(r.doc.b, literal...)
	r.doc.nodes[at].text[1] = int32(len(r.doc.b))
}

// Value adds any value, as JSON. The error says that it is none, or nested too deep; then the
// record is of no use until it is Reset.
func (r *Record) Value(name Name, value []byte) error {
	at := r.member(name, 0)
	n := r.doc.nodes[at]
	r.doc.nodes = r.doc.nodes[:at] // it is read again, with what is in it
	r.doc.b = append(r.doc.b, value...)
	_, end := r.doc.value(int(n.text[0]), len(r.open)+1)
	if end >= 0 && end < len(r.doc.b) {
		end = r.doc.no(end, "something follows the value")
	}
	if end < 0 {
		return fmt.Errorf("%w: %s%s", ErrNotJSON, name.label, r.doc.fault)
	}
	r.doc.nodes[at].name, r.doc.nodes[at].named = n.name, n.named
	return nil
}

// member adds a node with a name to the object that was opened last.
func (r *Record) member(name Name, kind byte) int32 {
	in := &r.open[len(r.open)-1]
	at := r.doc.add(kind, 0)
	if in.last == 0 {
		r.doc.nodes[in.node].first = at
	} else {
		r.doc.b = append(r.doc.b, ',')
		r.doc.nodes[in.last].next = at
	}
	in.last = at
	start := int32(len(r.doc.b)) + 1
	r.doc.b = append(r.doc.b, name.label...)
	end := int32(len(r.doc.b))
	n := &r.doc.nodes[at]
	n.named = name.escaped
	n.name[0], n.name[1], n.text[0], n.text[1] = start, end-2, end, end
	return at
}

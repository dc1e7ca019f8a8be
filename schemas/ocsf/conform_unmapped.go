package ocsf

import (
	"bytes"
	"strconv"
)

// cast notes that the value of node n changes its form.
func (c *Conformer) cast(n int32, to string) {
	if c.rep.Casts++; c.cfg.Fixes {
		c.fix("made "+to, clip(c.doc.text(&c.doc.nodes[n])))
	}
}

// filled notes that an attribute was derived.
func (c *Conformer) filled(value string) {
	if c.rep.Filled++; c.cfg.Fixes {
		c.fix("filled in, "+value, "")
	}
}

func (c *Conformer) fix(what, from string) {
	c.rep.Fixes = append(c.rep.Fixes, Fix{string(c.appendPath(nil, c.doc.b)), what, from})
}

// move sends the value of node n to unmapped, under the path.
func (c *Conformer) move(n int32, why string) {
	before := len(c.moved)
	c.flatten(n)
	added := len(c.moved) - before
	if c.rep.Moved += added; added > 0 && c.cfg.Fixes {
		c.fix("moved to unmapped: "+why, clip(c.doc.text(&c.doc.nodes[n])))
	}
}

// moveMember moves a member of the object that has the path.
func (c *Conformer) moveMember(n int32, why string) {
	was := c.enterMember(&c.doc.nodes[n])
	c.move(n, why)
	c.leave(was)
}

// moveText sends a text to unmapped, under the path.
func (c *Conformer) moveText(text []byte, why string) {
	c.add(func(dst []byte) []byte { return appendEscaped(dst, text) })
	if c.rep.Moved++; c.cfg.Fixes {
		c.fix("moved to unmapped: "+why, clip(text))
	}
}

// flatten adds the values below node n: the members of objects one by one, lists whole.
func (c *Conformer) flatten(n int32) {
	v := &c.doc.nodes[n]
	switch {
	case v.kind == 'n':
	case v.kind == '{' && v.first != 0:
		for m := v.first; m != 0; m = c.doc.nodes[m].next {
			was := c.enterMember(&c.doc.nodes[m])
			c.flatten(m)
			c.leave(was)
		}
	case v.kind == '{' || v.kind == '[':
		c.add(func(dst []byte) []byte { return appendEscaped(dst, c.doc.b[v.text[0]:v.text[1]]) })
	default:
		c.add(func(dst []byte) []byte { return append(dst, c.doc.b[v.text[0]:v.text[1]]...) })
	}
}

// add adds a value under the path.
func (c *Conformer) add(value func([]byte) []byte) {
	start := int32(len(c.text))
	c.text = c.appendPath(c.text, c.doc.b)
	middle := int32(len(c.text))
	c.text = value(c.text)
	c.moved = append(c.moved, movedValue{[2]int32{start, middle}, [2]int32{middle, int32(len(c.text))}})
}

// ownUnmapped takes what the record itself has in unmapped.
func (c *Conformer) ownUnmapped() {
	if n := c.doc.member(0, "unmapped"); n >= 0 && c.doc.nodes[n].kind == '{' {
		for m := c.doc.nodes[n].first; m != 0; m = c.doc.nodes[m].next {
			was := c.enterMember(&c.doc.nodes[m])
			c.flatten(m)
			c.leave(was)
		}
	} else if n >= 0 {
		was := c.enter("unmapped")
		c.flatten(n)
		c.leave(was)
	}
	c.given = len(c.moved)
}

// maxScan is the number of members up to which names are compared one by one.
const maxScan = 24

// unmapped writes what has no other place.
func (c *Conformer) unmapped() *ConformError {
	for _, f := range c.at.Rest {
		start := int32(len(c.text))
		c.text = appendEscaped(c.text, f.Path)
		middle := int32(len(c.text))
		c.text = appendEscaped(c.text, f.Text)
		c.tree.trust(c.text[start:])
		c.moved = append(c.moved, movedValue{[2]int32{start, middle}, [2]int32{middle, int32(len(c.text))}})
	}
	if len(c.moved) == 0 {
		return nil
	}
	if c.plan.unmapped < 0 {
		return &ConformError{Path: string(c.text[c.moved[0].path[0]:c.moved[0].path[1]]), Cause: c.plan.class.name + " has no place for it, and no attribute unmapped"}
	}
	c.member(c.plan.class, c.plan.unmapped)
	unmapped := c.begin('{')
	clear(c.keys)
	for i := range c.moved {
		c.unmappedValue(i)
	}
	c.end(unmapped)
	return nil
}

// unmappedValue writes value i, unless it is there already. A path that has another value
// gets a number behind it.
func (c *Conformer) unmappedValue(i int) {
	m := &c.moved[i]
	for n := 2; ; n++ {
		other := c.samePath(i)
		if other < 0 {
			break
		}
		if o := c.moved[other]; string(c.text[o.value[0]:o.value[1]]) == string(c.text[m.value[0]:m.value[1]]) {
			m.path = [2]int32{-1, -1}
			return
		}
		start := int32(len(c.text))
		c.text = append(c.text, c.text[m.path[0]:m.path[1]]...)
		if n > 2 {
			c.text = c.text[:len(c.text)-len(strconv.Itoa(n-1))-1]
		}
		c.text = strconv.AppendInt(append(c.text, '#'), int64(n), 10)
		m.path = [2]int32{start, int32(len(c.text))}
	}
	if len(c.moved) > maxScan {
		c.keys[string(c.text[m.path[0]:m.path[1]])] = i
	}
	path := c.text[m.path[0]:m.path[1]]
	c.rawName(path)
	c.out = append(append(append(c.out, '"'), c.text[m.value[0]:m.value[1]]...), '"')
	c.wrote()
	c.tree.nodes[len(c.tree.nodes)-1].named = bytes.IndexByte(path, '\\') >= 0
}

// samePath returns the value before i that has the path of i, -1 for none.
func (c *Conformer) samePath(i int) int {
	path := c.text[c.moved[i].path[0]:c.moved[i].path[1]]
	if len(c.moved) > maxScan {
		if at, ok := c.keys[string(path)]; ok {
			return at
		}
		return -1
	}
	for at, m := range c.moved[:i] {
		if m.path[0] >= 0 && string(c.text[m.path[0]:m.path[1]]) == string(path) {
			return at
		}
	}
	return -1
}

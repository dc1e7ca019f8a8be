package ocsf

import (
	"bytes"
	"slices"
	"strings"
)

// openEmpty makes room for the attributes of an item and returns where it is.
func (c *Conformer) openEmpty(it *item) int {
	base := len(c.slots)
	c.slots = slices.Grow(c.slots, len(it.attrs))[:base+len(it.attrs)]
	clear(c.slots[base:])
	return base
}

// open finds the members of object n that are attributes of the item, and moves the others.
// Of members with one name the last counts.
func (c *Conformer) open(it *item, n int32) int {
	base := c.openEmpty(it)
	for m := c.doc.nodes[n].first; m != 0; m = c.doc.nodes[m].next {
		at := c.doc.nodes[m].attr
		if at < 0 || !it.attrs[at].active(c.on) {
			c.moveMember(m, "no attribute of the object")
			continue
		}
		if twice := c.slots[base+int(at)]; twice != 0 {
			c.moveMember(twice, "the name occurs twice")
		}
		c.slots[base+int(at)] = m
	}
	return base
}

// members writes the attributes that object n has, in its order.
func (c *Conformer) members(it *item, n int32, base int) {
	for m := c.doc.nodes[n].first; m != 0; m = c.doc.nodes[m].next {
		at := c.doc.nodes[m].attr
		if at < 0 || c.slots[base+int(at)] != m || it.class && (at == c.plan.unmapped || at == c.plan.observables) {
			continue
		}
		c.attribute(it, at, base)
	}
}

// attribute writes an attribute if it has a value that can be cast, and an id and its
// caption together.
func (c *Conformer) attribute(it *item, at int32, base int) {
	a := &it.attrs[at]
	if a.captionOf >= 0 && it.attrs[a.captionOf].active(c.on) {
		if id := &it.attrs[a.captionOf]; !id.array {
			c.pair(it, a.captionOf, base)
			return
		} else if c.slots[base+int(a.captionOf)] > 0 {
			c.pairs(it, a.captionOf, base)
			return
		}
	}
	switch {
	case a.enum == nil || a.typ == nil || a.typ.primitive == text:
		c.plain(it, at, base)
	case a.array:
		c.pairs(it, at, base)
	default:
		c.pair(it, at, base)
	}
}

// plain writes an attribute that has nothing to do with others.
func (c *Conformer) plain(it *item, at int32, base int) {
	a := &it.attrs[at]
	n := c.slots[base+int(at)]
	if n <= 0 {
		return
	}
	start := c.here()
	c.member(it, at)
	was := c.enter(a.name)
	c.slots[base+int(at)] = written
	if !c.whole(a, n) {
		c.cut(start)
		c.slots[base+int(at)] = 0
	}
	c.leave(was)
}

// elements returns the first element of a list, or the value itself as the only one.
func (c *Conformer) elements(n int32) int32 {
	if c.doc.nodes[n].kind == '[' {
		return c.doc.nodes[n].first
	}
	only := c.doc.nodes[n]
	only.next = 0
	c.doc.nodes = append(c.doc.nodes, only)
	return int32(len(c.doc.nodes) - 1)
}

// broken says what rule over the presence of attributes the item breaks, empty for none.
func (c *Conformer) broken(it *item, base int) string {
	for _, k := range it.constraints {
		n := 0
		for _, at := range k.attrs {
			if c.slots[base+int(at)] == written {
				n++
			}
		}
		switch {
		case k.kind == "at_least_one" && n == 0:
			return "needs at least one of " + strings.Join(k.names, ", ")
		case k.kind == "just_one" && n != 1:
			return "needs exactly one of " + strings.Join(k.names, ", ")
		}
	}
	return ""
}

// whole writes the value of an attribute, with all its elements if it is a list. What
// cannot be cast is moved; false says that nothing is left.
func (c *Conformer) whole(a *attr, n int32) bool {
	if !a.array {
		return c.value(a, n)
	}
	first := c.doc.nodes[n].first
	if kind := c.doc.nodes[n].kind; kind != '[' {
		if c.cast(n, "a list"); kind == '"' && a.object == nil {
			first = c.split(n)
		} else {
			first = c.elements(n)
		}
	}
	list := c.begin('[')
	i, kept := 0, 0
	for e := first; e != 0; e = c.doc.nodes[e].next {
		if c.doc.nodes[e].kind == 'n' {
			i++
			continue
		}
		start := c.here()
		c.comma()
		was := c.enterElement(i)
		if c.value(a, e) {
			kept++
		} else {
			c.cut(start)
		}
		c.leave(was)
		i++
	}
	c.end(list)
	return kept > 0 || first == 0
}

// split makes nodes of the parts of a text between commas and returns the first, 0 for none.
func (c *Conformer) split(n int32) int32 {
	v := c.doc.nodes[n]
	first, prev := int32(0), int32(0)
	for p := v.text[0]; p <= v.text[1]; {
		end := v.text[1]
		if i := bytes.IndexByte(c.doc.b[p:end], ','); i >= 0 {
			end = p + int32(i)
		}
		from, to := p, end
		for from < to && c.doc.b[from] == ' ' {
			from++
		}
		for from < to && c.doc.b[to-1] == ' ' {
			to--
		}
		if from < to {
			at := int32(len(c.doc.nodes))
			c.doc.nodes = append(c.doc.nodes, node{kind: '"', escaped: v.escaped, attr: -1, text: [2]int32{from, to}})
			if prev == 0 {
				first = at
			} else {
				c.doc.nodes[prev].next = at
			}
			prev = at
		}
		p = end + 1
	}
	return first
}

// value writes one value, or moves it.
func (c *Conformer) value(a *attr, n int32) bool {
	if a.object != nil {
		return c.object(a.object, n)
	}
	if c.scalar(a, n) {
		c.tree.value(c.out, c.doc.nodes[n].escaped || a.enum != nil)
		return true
	}
	if c.cfg.Fixes {
		c.move(n, "no "+a.wants())
	} else {
		c.move(n, "")
	}
	return false
}

// state is what a failed object takes back.
type state struct {
	spot
	moved, text int
	rep         ConformReport
}

func (c *Conformer) mark() state { return state{c.here(), len(c.moved), len(c.text), c.rep} }

func (c *Conformer) reset(s state) {
	c.cut(s.spot)
	c.moved, c.text, c.rep = c.moved[:s.moved], c.text[:s.text], s.rep
}

// object writes an object, or moves all of it when what is left is not valid.
func (c *Conformer) object(it *item, n int32) bool {
	kind := c.doc.nodes[n].kind
	if it.open() && kind == '{' {
		c.raw(n)
		c.wrote()
		return true
	}
	name, named := int32(-1), false
	if kind == '"' {
		name, named = it.index["name"]
		named = named && it.attrs[name].typ != nil && it.attrs[name].typ.primitive == text && it.attrs[name].active(c.on)
	}
	if kind != '{' && !named {
		c.move(n, "want an object")
		return false
	}
	before := c.mark()
	object := c.begin('{')
	var base int
	if named {
		base = c.openEmpty(it)
		c.slots[base+int(name)] = n
		c.cast(n, "the name of an object")
		c.attribute(it, name, base)
	} else {
		base = c.open(it, n)
		c.members(it, n, base)
	}
	cause := c.complete(it, n, base)
	c.slots = c.slots[:base]
	if cause != "" {
		c.reset(before)
		c.move(n, cause)
		return false
	}
	if c.out[len(c.out)-1] == '{' {
		return false // all of it was null, or has moved
	}
	c.end(object)
	return true
}

// complete fills what is required and returns what makes the object not valid.
func (c *Conformer) complete(it *item, n int32, base int) string {
	for _, at := range it.required {
		c.fill(it, at, base)
	}
	cause := c.broken(it, base)
	if cause != "" && it.name == "actor" && c.actorByName(it, n, base) {
		cause = c.broken(it, base)
	}
	for _, at := range it.required {
		if it.attrs[at].active(c.on) && c.slots[base+int(at)] != written {
			return it.name + " requires " + it.attrs[at].name
		}
	}
	if cause != "" {
		return it.name + " " + cause
	}
	return ""
}

// actorByName gives an actor that has a text where its process or user is due that name.
func (c *Conformer) actorByName(it *item, n int32, base int) bool {
	at, ok := it.index["app_name"]
	if !ok {
		at, ok = it.index["invoked_by"]
	}
	if !ok || c.slots[base+int(at)] != 0 {
		return false
	}
	for m := c.doc.nodes[n].first; m != 0; m = c.doc.nodes[m].next {
		if of := c.doc.nodes[m].attr; c.doc.nodes[m].kind == '"' && of >= 0 && it.attrs[of].object != nil {
			was := c.enter(it.attrs[at].name)
			c.cast(m, "the name of the actor")
			c.leave(was)
			c.slots[base+int(at)] = m
			c.plain(it, at, base)
			return true
		}
	}
	return false
}

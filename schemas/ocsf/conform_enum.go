package ocsf

import (
	"strconv"
	"strings"
)

// pair writes an id and its caption, from whichever of the two there is.
func (c *Conformer) pair(it *item, at int32, base int) {
	a := &it.attrs[at]
	n, s := c.slots[base+int(at)], int32(0)
	if a.sibling >= 0 {
		s = max(c.slots[base+int(a.sibling)], 0)
	}
	if n == written {
		return
	}
	was := c.enter(a.name)
	key, ok := c.enumKey(a, n)
	word := s
	switch {
	case ok || n == 0:
	case a.hasOther() && c.doc.nodes[n].kind == '"' && s == 0:
		c.cast(n, "Other")
		key, word = "99", n
	default:
		c.move(n, "none of its values")
		if a.hasOther() && s == 0 {
			key = "99"
		}
	}
	c.leave(was)
	if key == "" && s > 0 {
		key = c.keyOfCaption(a, s)
	}
	if key == "" {
		c.slots[base+int(at)] = 0
		if s > 0 {
			c.plain(it, a.sibling, base)
		}
		return
	}
	c.writePair(it, at, base, key, word)
}

// keyOfCaption is the id that a caption stands for, 99 if it is none.
func (c *Conformer) keyOfCaption(a *attr, s int32) string {
	key := ""
	if c.doc.nodes[s].kind == '"' {
		key = a.keyOf(c.doc.text(&c.doc.nodes[s]))
	}
	if key == "" && a.hasOther() {
		key = "99"
	}
	if key != "" {
		was := c.enter(a.name)
		c.filled(key)
		c.leave(was)
	}
	return key
}

// writePair writes an id and its caption: word beside 99, else what the schema says.
func (c *Conformer) writePair(it *item, at int32, base int, key string, word int32) {
	a := &it.attrs[at]
	c.member(it, at)
	c.digits(key)
	c.slots[base+int(at)] = written
	if it.class && at == c.plan.activityID {
		c.kind, _ = parseInt([]byte(key))
	}
	if a.sibling < 0 || !it.attrs[a.sibling].active(c.on) || c.slots[base+int(a.sibling)] == written {
		return
	}
	s := &it.attrs[a.sibling]
	was := c.enter(s.name)
	defer c.leave(was)
	slot := &c.slots[base+int(a.sibling)]
	if key == "99" && word > 0 {
		start := c.here()
		c.member(it, a.sibling)
		*slot = written
		if !c.value(s, word) {
			c.cut(start)
			*slot = 0
		}
		return
	}
	e, _ := a.value([]byte(key))
	caption := e.Caption
	if n := *slot; n > 0 && string(c.doc.text(&c.doc.nodes[n])) != caption {
		if c.doc.nodes[n].kind == '"' && strings.EqualFold(string(c.doc.text(&c.doc.nodes[n])), caption) {
			c.cast(n, "the caption of the schema")
		} else {
			c.move(n, "not the caption of its id")
		}
	} else if n == 0 {
		if key == "99" {
			return // the word of the source is due, and there is none
		}
		c.filled(caption)
	}
	c.member(it, a.sibling)
	c.quoted(caption)
	*slot = written
}

// pairs writes a list of ids and, as a list too, their captions.
func (c *Conformer) pairs(it *item, at int32, base int) {
	a := &it.attrs[at]
	n := c.slots[base+int(at)]
	if n <= 0 {
		return
	}
	var captions []byte
	start := c.here()
	c.member(it, at)
	list := c.begin('[')
	was := c.enter(a.name)
	s := int32(0) // the caption that the record has beside the id
	if a.sibling >= 0 {
		if s = max(c.slots[base+int(a.sibling)], 0); s > 0 {
			s = c.elements(s)
		}
	}
	i := 0
	for e := c.elements(n); e != 0; e = c.doc.nodes[e].next {
		here := c.enterElement(i)
		key, ok := c.enumKey(a, e)
		if !ok {
			c.move(e, "none of its values")
		} else {
			c.comma()
			c.digits(key)
			caption := []byte(a.enum[key].Caption)
			if key == "99" && s > 0 && c.doc.nodes[s].kind == '"' {
				caption = c.doc.text(&c.doc.nodes[s])
			}
			captions = appendQuoted(append(captions, ','), caption)
		}
		c.leave(here)
		if s > 0 {
			s = c.doc.nodes[s].next
		}
		i++
	}
	c.leave(was)
	c.end(list)
	c.slots[base+int(at)] = written
	if captions == nil {
		c.cut(start)
		c.slots[base+int(at)] = 0
	}
	if a.sibling < 0 || !it.attrs[a.sibling].active(c.on) {
		return
	}
	c.slots[base+int(a.sibling)] = 0
	if captions != nil {
		c.member(it, a.sibling)
		c.out = append(append(append(c.out, '['), captions[1:]...), ']')
		c.wrote()
		c.slots[base+int(a.sibling)] = written
	}
}

func (a *attr) hasOther() bool {
	return len(a.ids) == smallIDs && a.sibling >= 0
}

// enumKey reads node n, if it is not 0, as a value of an enum.
func (c *Conformer) enumKey(a *attr, n int32) (key string, ok bool) {
	if n <= 0 {
		return "", false
	}
	v := &c.doc.nodes[n]
	if v.kind != '0' && v.kind != '"' {
		return "", false
	}
	b := c.doc.text(v)
	if id, ok := parseInt(b); ok {
		key = strconv.FormatInt(id, 10)
	} else if v.kind == '"' {
		key = a.keyOf(b)
	}
	if _, ok = a.value([]byte(key)); !ok {
		return "", false
	}
	if v.kind == '"' || string(b) != key {
		c.cast(n, "id")
	}
	return key, true
}

// keyOf returns the smallest id with that caption, in any case of letters.
func (a *attr) keyOf(caption []byte) string {
	for id := range a.ids {
		if a.ids[id].there && strings.EqualFold(a.ids[id].Caption, string(caption)) {
			return strconv.Itoa(id)
		}
	}
	if len(a.ids) == len(a.enum) {
		return ""
	}
	best, found := int64(0), ""
	for key, e := range a.enum {
		if id, ok := parseInt([]byte(key)); ok && strings.EqualFold(e.Caption, string(caption)) && (found == "" || id < best) {
			best, found = id, key
		}
	}
	return found
}

// fill gives a required attribute that is absent the value 0, Unknown, if it has that.
func (c *Conformer) fill(it *item, at int32, base int) {
	a := &it.attrs[at]
	if a.requirement != required || c.slots[base+int(at)] == written || !a.active(c.on) || !a.fillable() {
		return
	}
	was := c.enter(a.name)
	c.filled("0")
	c.leave(was)
	c.writePair(it, at, base, "0", 0)
}

// enumText writes a text of an enum, in any case of letters.
func (c *Conformer) enumText(a *attr, n int32) bool {
	b := c.doc.text(&c.doc.nodes[n])
	key := string(b)
	if _, ok := a.enum[key]; !ok {
		key = ""
		for k := range a.enum {
			if strings.EqualFold(k, string(b)) && (key == "" || k < key) {
				key = k
			}
		}
		if key == "" {
			return false
		}
		c.cast(n, "the spelling of the schema")
	}
	c.out = appendQuoted(c.out, key)
	return true
}

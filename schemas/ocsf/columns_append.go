package ocsf

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// ErrNotOfColumns is behind the errors of events that are JSON and cannot be rows: of another
// class, or without what is required.
var ErrNotOfColumns = errors.New("not an event of the columns")

// leftover is an entry of unmapped: where key and value are in Columns.text.
type leftover struct {
	key, value [2]int
	quoted     bool // the value is a text, not a number or JSON
}

// Append appends one event, given as JSON. An event is refused as a whole, with ErrNotJSON
// or ErrNotOfColumns, and then no row is appended. It is not validated: what is required
// must be there, and anything else finds its place.
func (c *Columns) Append(event []byte) error {
	if err := c.doc.parse(event); err != nil {
		return err
	}
	if err := c.ofClass(); err != nil {
		return err
	}
	c.slots, c.path, c.leftover, c.text, c.fault = c.slots[:0], c.path[:0], c.leftover[:0], c.text[:0], nil
	c.object(&c.root, 0)
	c.settle()
	if c.fault == nil && (c.root.over() || c.unmapped.keys.over || c.unmapped.values.over) {
		c.fault = errTooMuchText
	}
	if c.fault != nil {
		c.root.truncate(c.rows)
		c.unmapped.truncate(c.rows)
		return c.fault
	}
	c.rows++
	return nil
}

func (c *Columns) ofClass() error {
	at := c.doc.member(0, "class_uid")
	if at < 0 || c.doc.nodes[at].kind != '0' {
		return fmt.Errorf("%w: class_uid: want %d", ErrNotOfColumns, c.class.uid)
	}
	text := c.doc.text(&c.doc.nodes[at])
	if uid, err := strconv.ParseInt(string(text), 10, 64); err != nil || uid != c.class.uid {
		return fmt.Errorf("%w: class_uid: is %s, want %d (%s)", ErrNotOfColumns, clip(text), c.class.uid, c.class.name)
	}
	return nil
}

// object appends the object at node n, whose path is that of the moment.
func (c *Columns) object(to *column, n int32) {
	base, before := len(c.slots), c.taken
	c.slots = slices.Grow(c.slots, len(to.fields))[:base+len(to.fields)]
	clear(c.slots[base:])
	c.members(to, n, base)
	missing := ""
	for i := range to.fields {
		f, m := &to.fields[i], c.slots[base+i]
		if !c.member(f, m) && !f.nullable && missing == "" {
			missing = f.name
		}
	}
	c.slots = c.slots[:base]
	there := c.taken > before || !to.nullable
	if there && missing != "" && c.fault == nil {
		was := c.enterBytes([]byte(missing))
		c.fault = fmt.Errorf("%w: %s: required, and missing or of the wrong type", ErrNotOfColumns, clip(c.path))
		c.leave(was)
	}
	to.end(there)
}

// members finds the member of every column and keeps the others. Of members with the same
// name the last one counts.
func (c *Columns) members(to *column, n int32, base int) {
	nodes := c.doc.nodes
	for m := nodes[n].first; m != 0; m = nodes[m].next {
		name := c.doc.name(&nodes[m])
		if to == &c.root && string(name) == unmappedName && nodes[m].kind == '{' {
			c.keep(m) // under the names of its members, for there is no path yet
			continue
		}
		other := m
		if i, ok := to.index[string(name)]; ok {
			other, c.slots[base+int(i)] = c.slots[base+int(i)], m
		}
		if other != 0 {
			was := c.enterBytes(name)
			c.keep(other)
			c.leave(was)
		}
	}
}

// member appends the value of a column and tells whether there is one.
func (c *Columns) member(f *column, m int32) bool {
	if m == 0 || c.doc.nodes[m].kind == 'n' {
		f.none()
		return false
	}
	was := c.enterBytes([]byte(f.name))
	defer c.leave(was)
	if c.value(f, m) {
		return true
	}
	f.none()
	c.keep(m)
	return false
}

// value appends the value at node m and returns false, and appends nothing, where it is not
// what the column holds.
func (c *Columns) value(f *column, m int32) bool {
	n := &c.doc.nodes[m]
	switch f.kind {
	case ofObject:
		if n.kind != '{' {
			return false
		}
		c.object(f, m)
		return true // the values in it are counted
	case ofList:
		return c.list(f, m)
	}
	if !c.leaf(f, n) {
		return false
	}
	f.end(true)
	c.taken++
	return true
}

func (c *Columns) leaf(f *column, n *node) bool {
	text := c.doc.text(n)
	switch f.kind {
	case ofBool:
		ok := n.kind == 't' || n.kind == 'f'
		if ok {
			f.bits = growBits(f.bits, f.n, n.kind == 't')
		}
		return ok
	case ofText:
		if n.kind != '"' {
			return false
		}
		f.texts.data = append(f.texts.data, text...)
		f.texts.end()
		return true
	case ofJSON:
		f.texts.data = c.doc.appendJSON(f.texts.data, n)
		f.texts.end()
		return true
	case ofTime:
		ms, ok := parseMillis(text)
		if ok = ok && n.kind == '"'; ok {
			f.int64 = append(f.int64, ms)
		}
		return ok
	}
	return n.kind == '0' && f.number(text)
}

func (c *column) number(text []byte) bool {
	switch c.kind {
	case ofFloat:
		v, ok := parseDouble(text)
		if ok {
			c.float = append(c.float, v)
		}
		return ok
	case ofInt32:
		v, err := strconv.ParseInt(string(text), 10, 32)
		if err == nil {
			c.int32 = append(c.int32, int32(v))
		}
		return err == nil
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	if err == nil {
		c.int64 = append(c.int64, v)
	}
	return err == nil
}

// parseDouble reads a number that a double holds as well as it is written: none too large
// or too small, and no whole number that would be rounded.
func parseDouble(text []byte) (float64, bool) {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0, false
	}
	if !bytes.ContainsAny(text, ".eE") {
		const exact = 1 << 53
		return v, v > -exact && v < exact
	}
	digits, _, _ := bytes.Cut(text, []byte{'e'})
	digits, _, _ = bytes.Cut(digits, []byte{'E'})
	return v, v != 0 || !bytes.ContainsAny(digits, "123456789")
}

// parseMillis reads a datetime_t of whole milliseconds. The instant is kept, the zone that
// it was written in is not.
func parseMillis(text []byte) (int64, bool) {
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil || t.Nanosecond()%int(time.Millisecond) != 0 {
		return 0, false
	}
	return t.UnixMilli(), true
}

// list appends a list. Of one with an element that the column cannot hold it takes nothing,
// so that positions stay what they were.
func (c *Columns) list(f *column, m int32) bool {
	if c.doc.nodes[m].kind != '[' {
		return false
	}
	elems, kept, text, taken, fault := f.elem.n, len(c.leftover), len(c.text), c.taken, c.fault
	i := 0
	for e := c.doc.nodes[m].first; e != 0; e = c.doc.nodes[e].next {
		was := len(c.path)
		c.path = append(strconv.AppendInt(append(c.path, '['), int64(i), 10), ']')
		ok := c.value(f.elem, e)
		c.leave(was)
		if !ok {
			f.elem.truncate(elems)
			c.leftover, c.text, c.taken, c.fault = c.leftover[:kept], c.text[:text], taken, fault
			return false
		}
		i++
	}
	f.int32 = append(f.int32, int32(f.elem.n))
	f.end(true)
	c.taken++
	return true
}

// keep adds a value that no column takes to unmapped.
func (c *Columns) keep(m int32) {
	n := &c.doc.nodes[m]
	switch n.kind {
	case 'n':
		return
	case '{':
		for e := n.first; e != 0; e = c.doc.nodes[e].next {
			was := c.enterBytes(c.doc.name(&c.doc.nodes[e]))
			c.keep(e)
			c.leave(was)
		}
		return
	}
	l := leftover{quoted: n.kind == '"'}
	l.key[0] = len(c.text)
	c.text = append(c.text, c.path...)
	l.key[1] = len(c.text)
	l.value[0] = len(c.text)
	if l.quoted {
		c.text = append(c.text, c.doc.text(n)...)
	} else {
		c.text = c.doc.appendJSON(c.text, n)
	}
	l.value[1] = len(c.text)
	c.leftover = append(c.leftover, l)
}

// settle appends the entries of unmapped, by name.
func (c *Columns) settle() {
	all := c.leftover
	slices.SortStableFunc(all, func(a, b leftover) int {
		return bytes.Compare(c.text[a.key[0]:a.key[1]], c.text[b.key[0]:b.key[1]])
	})
	for len(all) > 0 {
		key := c.text[all[0].key[0]:all[0].key[1]]
		same := 1
		for same < len(all) && bytes.Equal(key, c.text[all[same].key[0]:all[same].key[1]]) {
			same++
		}
		c.unmapped.keys.data = append(c.unmapped.keys.data, key...)
		c.unmapped.keys.end()
		c.entry(all[:same])
		all = all[same:]
	}
	c.unmapped.end()
}

// entry appends the value of an entry, of several with one name all of them.
func (c *Columns) entry(all []leftover) {
	to := &c.unmapped.values
	if len(all) == 1 {
		to.data = append(to.data, c.text[all[0].value[0]:all[0].value[1]]...)
		to.end()
		return
	}
	for i, l := range all {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		to.data = append(to.data, sep)
		if v := c.text[l.value[0]:l.value[1]]; l.quoted {
			to.data = appendQuoted(to.data, v)
		} else {
			to.data = append(to.data, v...)
		}
	}
	to.data = append(to.data, ']')
	to.end()
}

// appendJSON writes a value as it was, without blanks.
func (d *document) appendJSON(dst []byte, n *node) []byte {
	switch n.kind {
	case '{', '[':
		dst = append(dst, n.kind)
		for c := n.first; c != 0; c = d.nodes[c].next {
			m := &d.nodes[c]
			if c != n.first {
				dst = append(dst, ',')
			}
			if n.kind == '{' {
				dst = append(dst, d.b[m.name[0]-1:m.name[1]+1]...)
				dst = append(dst, ':')
			}
			dst = d.appendJSON(dst, m)
		}
		return append(dst, n.kind+2) // the brackets of ASCII
	case '"':
		return append(dst, d.b[n.text[0]-1:n.text[1]+1]...)
	}
	return append(dst, d.b[n.text[0]:n.text[1]]...)
}

package ocsf

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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
	start := len(c.out)
	c.name(a.name)
	was := c.enter(a.name)
	c.slots[base+int(at)] = written
	if !c.whole(a, n) {
		c.out = c.out[:start]
		c.slots[base+int(at)] = 0
	}
	c.leave(was)
}

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
		c.filled()
		c.leave(was)
	}
	return key
}

// writePair writes an id and its caption: word beside 99, else what the schema says.
func (c *Conformer) writePair(it *item, at int32, base int, key string, word int32) {
	a := &it.attrs[at]
	c.name(a.name)
	c.out = append(c.out, key...)
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
		start := len(c.out)
		c.name(s.name)
		*slot = written
		if !c.value(s, word) {
			c.out, *slot = c.out[:start], 0
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
		c.filled()
	}
	c.name(s.name)
	c.out = appendQuoted(c.out, caption)
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
	start := len(c.out)
	c.name(a.name)
	c.out = append(c.out, '[')
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
			c.out = append(c.out, key...)
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
	c.out = append(c.out, ']')
	c.slots[base+int(at)] = written
	if captions == nil {
		c.out, c.slots[base+int(at)] = c.out[:start], 0
	}
	if a.sibling < 0 || !it.attrs[a.sibling].active(c.on) {
		return
	}
	c.slots[base+int(a.sibling)] = 0
	if captions != nil {
		c.name(it.attrs[a.sibling].name)
		c.out = append(append(append(c.out, '['), captions[1:]...), ']')
		c.slots[base+int(a.sibling)] = written
	}
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
	c.filled()
	c.leave(was)
	c.writePair(it, at, base, "0", 0)
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
	c.out = append(c.out, '[')
	i, kept := 0, 0
	for e := first; e != 0; e = c.doc.nodes[e].next {
		if c.doc.nodes[e].kind == 'n' {
			i++
			continue
		}
		start := len(c.out)
		c.comma()
		was := c.enterElement(i)
		if c.value(a, e) {
			kept++
		} else {
			c.out = c.out[:start]
		}
		c.leave(was)
		i++
	}
	c.out = append(c.out, ']')
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
	out, moved, text int
	rep              ConformReport
}

func (c *Conformer) mark() state { return state{len(c.out), len(c.moved), len(c.text), c.rep} }

func (c *Conformer) reset(s state) {
	c.out, c.moved, c.text, c.rep = c.out[:s.out], c.moved[:s.moved], c.text[:s.text], s.rep
}

// object writes an object, or moves all of it when what is left is not valid.
func (c *Conformer) object(it *item, n int32) bool {
	kind := c.doc.nodes[n].kind
	if it.open() && kind == '{' {
		c.raw(n)
		return true
	}
	name, named := it.index["name"]
	named = named && kind == '"' && it.attrs[name].typ != nil && it.attrs[name].typ.primitive == text && it.attrs[name].active(c.on)
	if kind != '{' && !named {
		c.move(n, "want an object")
		return false
	}
	before := c.mark()
	c.out = append(c.out, '{')
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
	c.out = append(c.out, '}')
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

// scalar writes a value that is no object; false says that it cannot be cast.
func (c *Conformer) scalar(a *attr, n int32) bool {
	v := c.doc.nodes[n]
	if a.typ.primitive == anyJSON {
		c.raw(n)
		return true
	}
	if v.kind == '{' || v.kind == '[' || v.kind == 'n' {
		return false
	}
	if a.typ.name == "timestamp_t" {
		return c.timestamp(n)
	}
	start := len(c.out)
	ok := false
	switch a.typ.primitive {
	case text:
		ok = c.textOf(a, n)
	case integer, long:
		ok = c.integer(a, n)
	case float:
		ok = c.float(n)
	case boolean:
		ok = c.boolean(n)
	}
	if ok && a.typ.values != nil {
		ok = slices.ContainsFunc(a.typ.values, func(want any) bool { return equalJSON(c.out[start:], want) })
	}
	return ok
}

// equalJSON compares a scalar with a value of a schema as encoding/json reads it.
func equalJSON(b []byte, want any) bool {
	switch want := want.(type) {
	case string:
		return string(b) == string(appendQuoted(nil, want))
	case bool:
		return string(b) == strconv.FormatBool(want)
	case float64:
		f, err := strconv.ParseFloat(string(b), 64)
		return err == nil && f == want
	}
	return false
}

// textOf writes a text; numbers and booleans become text as they are written.
func (c *Conformer) textOf(a *attr, n int32) bool {
	v := &c.doc.nodes[n]
	t := a.typ
	if size := int(v.text[1] - v.text[0]); t.maxLen.there && size > t.maxLen.n && utf8.RuneCount(c.doc.text(v)) > t.maxLen.n {
		return false
	}
	if a.enum != nil {
		return c.enumText(a, n)
	}
	if v.kind != '"' {
		c.cast(n, "text")
	}
	c.out = append(append(append(c.out, '"'), c.doc.b[v.text[0]:v.text[1]]...), '"')
	return true
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

// integer writes an integer: digits, also as text. 5.0 is one, "5.0" is not.
func (c *Conformer) integer(a *attr, n int32) bool {
	v := &c.doc.nodes[n]
	if v.kind == 't' || v.kind == 'f' {
		return false
	}
	b := bytes.TrimSpace(c.doc.text(v))
	start := len(c.out)
	i, ok := parseInt(b)
	switch {
	case ok:
		c.out = strconv.AppendInt(c.out, i, 10)
	case v.kind == '0' && bytes.ContainsAny(b, ".eE"):
		f, err := strconv.ParseFloat(string(b), 64)
		if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return false
		}
		c.out = strconv.AppendInt(c.out, int64(f), 10)
	case a.typ.primitive == long && v.kind == '0' && isLong(b):
		c.out = append(c.out, b...)
	default:
		return false
	}
	if t := a.typ; t.ranged.there {
		if f, err := number(c.out[start:]); err != nil || f < t.lo || f > t.hi {
			c.out = c.out[:start]
			return false
		}
	}
	if v.kind == '"' || string(b) != string(c.out[start:]) {
		c.cast(n, "number")
	}
	return true
}

// parseInt reads an integer in base 10: blanks around, a sign, leading zeros.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 1 && isDigit(b[0]) {
		return int64(b[0] - '0'), true
	}
	b = bytes.TrimSpace(b)
	negative := len(b) > 0 && b[0] == '-'
	if negative || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	var u uint64
	for _, d := range b {
		if !isDigit(d) || u > (math.MaxUint64-9)/10 {
			return 0, false
		}
		u = u*10 + uint64(d-'0')
	}
	switch {
	case negative && u <= 1<<63:
		return -int64(u), true
	case !negative && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}

// float writes a number with a fraction or an exponent.
func (c *Conformer) float(n int32) bool {
	v := &c.doc.nodes[n]
	if v.kind == 't' || v.kind == 'f' {
		return false
	}
	b := bytes.TrimSpace(c.doc.text(v))
	if !isNumber(b) {
		return false
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return false
	}
	written := v.kind == '0' || isLiteral(b)
	if written && bytes.ContainsAny(b, ".eE") {
		c.out = append(c.out, b...)
	} else if written {
		c.out = append(append(c.out, b...), ".0"...)
	} else {
		start := len(c.out)
		if c.out = strconv.AppendFloat(c.out, f, 'g', -1, 64); !bytes.ContainsAny(c.out[start:], ".e") {
			c.out = append(c.out, ".0"...)
		}
	}
	if v.kind == '"' || !bytes.ContainsAny(b, ".eE") {
		c.cast(n, "number with a fraction")
	}
	return true
}

// isLiteral tells whether b is a number as JSON writes it.
func isLiteral(b []byte) bool {
	d := document{b: b}
	return d.number(0) == len(b)
}

// boolean writes true or false, for 1 and 0, yes and no as well.
func (c *Conformer) boolean(n int32) bool {
	v := &c.doc.nodes[n]
	if v.kind == 't' || v.kind == 'f' {
		c.raw(n)
		return true
	}
	switch b := string(bytes.TrimSpace(c.doc.text(v))); {
	case b == "1" || strings.EqualFold(b, "true") || strings.EqualFold(b, "yes"):
		c.out = append(c.out, "true"...)
	case b == "0" || strings.EqualFold(b, "false") || strings.EqualFold(b, "no"):
		c.out = append(c.out, "false"...)
	default:
		return false
	}
	c.cast(n, "boolean")
	return true
}

// timestamp writes milliseconds.
func (c *Conformer) timestamp(n int32) bool {
	t, ok := c.instant(n)
	if ok {
		c.out = strconv.AppendInt(c.out, t.Millis, 10)
	}
	return ok
}

// instant reads a time: text in the form that the config reads, or in a common one.
func (c *Conformer) instant(n int32) (t Instant, ok bool) {
	v := &c.doc.nodes[n]
	if v.kind != '"' && v.kind != '0' {
		return t, false
	}
	b := c.doc.text(v)
	if v.kind == '"' && c.cfg.Time != nil {
		t, ok = c.cfg.Time(b)
	}
	if !ok {
		t, ok = ParseInstant(b)
	}
	if ok {
		var is [20]byte
		if v.kind == '"' || string(strconv.AppendInt(is[:0], t.Millis, 10)) != string(b) {
			c.cast(n, "milliseconds")
		}
	}
	return t, ok
}

// raw writes a value as it is.
func (c *Conformer) raw(n int32) {
	v := &c.doc.nodes[n]
	if v.kind == '"' {
		c.out = append(c.out, c.doc.b[v.text[0]-1:v.text[1]+1]...)
		return
	}
	c.out = append(c.out, c.doc.b[v.text[0]:v.text[1]]...)
}

func (c *Conformer) comma() {
	if last := c.out[len(c.out)-1]; last != '{' && last != '[' {
		c.out = append(c.out, ',')
	}
}

func (c *Conformer) name(name string) {
	c.comma()
	c.out = append(c.out, '"')
	c.out = append(c.out, name...)
	c.out = append(c.out, '"', ':')
}

// member writes the name of an attribute of the class.
func (c *Conformer) member(at int32) { c.name(c.plan.class.attrs[at].name) }

// appendQuoted appends a text as JSON.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	return append(appendEscaped(dst, s), '"')
}

// appendEscaped appends a text as it stands between quotes.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	const digits = "0123456789abcdef"
	done := 0
	for i := range len(s) {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		if b == '"' || b == '\\' {
			dst = append(dst, '\\', b)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', digits[b>>4], digits[b&15])
		}
		done = i + 1
	}
	return append(dst, s[done:]...)
}

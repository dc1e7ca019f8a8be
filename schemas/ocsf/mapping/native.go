package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CompileConform is Compile for files that only Conform runs. They have all that other files
// have, and more keys; docs/mapping.md has each with an example. Locators in lists are
// resolved, and in what each makes of an element @ is the element.
//
//	{"get": LOCATOR}                 the value
//	{"first_of": [NODE, …]}          the first that is neither null nor empty text
//	{"const": ANY}                   the value as it stands
//	{"each": LOCATOR, "map": NODE}   a list: what NODE makes of each element
//
// with cast (int, hex, float, bool, text, timestamp:FORMAT), default and when in each of
// them, and when, rest and observables beside schema.
func CompileConform(file string, text []byte) (*Mapping, error) {
	c := compiler{file: file, native: true}
	m := c.compile(text)
	if err := errors.Join(append(c.fatal, c.doubts...)...); err != nil {
		return nil, err
	}
	return m, nil
}

// ruleKey returns a member of object n that makes it a rule, empty for none.
func (c *compiler) ruleKey(n int32) string {
	for _, m := range c.members(n) {
		switch name := string(c.bytes(c.nodes[m].name)); name {
		case "get", "first_of", "const", "each", "cast", "default", "when":
			return name
		}
	}
	return ""
}

// misspelt doubts the members of an object that are nearly a key of a rule. No attribute of
// OCSF is that near to one of them.
func (c *compiler) misspelt(n int32, path string) {
	for _, m := range c.members(n) {
		name := string(c.bytes(c.nodes[m].name))
		for _, key := range []string{"get", "first_of", "const", "each", "cast", "default", "when"} {
			if nearly(name, key) {
				c.doubt(path, "unknown member %q: did you mean %s?", name, key)
			}
		}
	}
}

// nearly tells whether one letter is missing, too much, wrong, or two changed places.
func nearly(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i, j := 0, 0 // what is the same at the beginning and at the end
	for i < len(a) && a[i] == b[i] {
		i++
	}
	for j < len(a)-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	a, b = a[i:len(a)-j], b[i:len(b)-j]
	return len(a) <= 1 && len(b) == 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// used notes that the file has keys that only Conform knows.
func (c *compiler) used(path string) {
	if c.key == "" {
		c.key = path
	}
}

// nativeTarget compiles what a target has beside its class and its tree.
func (c *compiler) nativeTarget(n int32, path string, t *target, m *Mapping) {
	c.only(n, path, "schema", "schema_mapping", "when", "rest", "observables")
	if w := c.member(n, "when"); w >= 0 {
		c.used(path + ".when")
		t.when = c.whenOf(w, path+".when")
		m.conditional = append(m.conditional, t)
	} else if !m.matches {
		c.doubt(path, "there is no matched_field: say when")
	}
	if r := c.member(n, "rest"); r >= 0 {
		c.used(path + ".rest")
		switch {
		case c.nodes[r].kind == text && c.text(r) == "drop":
			t.drop = true
		case c.nodes[r].kind != text || c.text(r) != "unmapped":
			c.doubt(path+".rest", "want unmapped or drop")
		}
	}
	o := c.member(n, "observables")
	if o < 0 {
		return
	}
	c.used(path + ".observables")
	if c.nodes[o].kind != list {
		c.doubt(path+".observables", "want a list of attributes")
		return
	}
	i := 0
	for e := c.nodes[o].first; e != 0; e = c.nodes[e].next {
		t.observables = append(t.observables, c.observable(e, fmt.Sprintf("%s.observables[%d]", path, i)))
		i++
	}
}

// observable compiles the path of an attribute, or {"name": PATH, "type_id": NUMBER}.
func (c *compiler) observable(n int32, path string) observableRule {
	r := observableRule{path: path}
	switch c.nodes[n].kind {
	case text:
		r.name = c.text(n)
	case object:
		c.only(n, path, "name", "type_id")
		if name := c.member(n, "name"); name >= 0 && c.nodes[name].kind == text {
			r.name = c.text(name)
		}
		if id := c.member(n, "type_id"); id >= 0 {
			var err error
			if r.typeID, err = strconv.ParseInt(string(c.appendJSON(nil, id)), 10, 64); err != nil {
				c.doubt(path+".type_id", "want a number")
			}
		}
	}
	if r.name == "" {
		c.doubt(path, "want the path of an attribute, or an object with name and type_id")
	}
	return r
}

// whenOf reads a condition.
func (c *compiler) whenOf(n int32, path string) condition {
	if c.nodes[n].kind != text {
		c.doubt(path, "want a condition as text")
		return condition{}
	}
	out, err := c.condition(c.text(n))
	if err != nil {
		c.doubt(path, "%v", err)
	}
	return out
}

// locatorOf reads a locator of a file for Conform.
func (c *compiler) locatorOf(s string) (locator, error) {
	l := locator{text: s}
	switch {
	case s == "@" || strings.HasPrefix(s, "@."):
		l.local = true
		if c.each == 0 {
			return locator{never: true}, fmt.Errorf("%q: @ is an element, and there is none outside each; of the event it is $", s)
		}
	case !strings.HasPrefix(s, "$."):
		return locator{never: true}, fmt.Errorf("%q is no locator: want $.name", s)
	}
	l.parts = strings.Split(s, ".")[1:]
	if slices.Contains(l.parts, "") {
		return locator{never: true}, fmt.Errorf("%q has an empty part", s)
	}
	if !l.local && l.parts[0] == "UserDefined" {
		if len(l.parts) != 2 {
			return locator{never: true}, fmt.Errorf("%q: want one name behind $.UserDefined", s)
		}
		l.user, l.parts = true, l.parts[1:]
	}
	if !l.local {
		l.step = c.ways.add(l.parts)
	}
	return l, nil
}

// rule compiles an object that has a key of Conform.
func (c *compiler) rule(n int32, path string) attribute {
	c.used(path)
	a := attribute{literal: []byte("null")}
	sources := 0
	for _, key := range []string{"get", "first_of", "const", "each"} {
		of := c.member(n, key)
		if of < 0 {
			continue
		}
		if sources++; sources > 1 {
			c.doubt(path, "want one of get, first_of, const and each, not several")
			break
		}
		c.source(&a, n, of, key, path+"."+key)
	}
	if sources == 0 {
		c.doubt(path, "want get, first_of, const or each: what should %q work on?", c.ruleKey(n))
	}
	known := []string{"get", "first_of", "const", "each", "cast", "default", "when"}
	if a.kind == each {
		known = append(known, "map")
	}
	c.only(n, path, known...)
	if of := c.member(n, "cast"); of >= 0 {
		c.castOf(&a, of, path+".cast")
	}
	if of := c.member(n, "default"); of >= 0 {
		c.noLocators(of, path+".default")
		a.def = c.appendJSON(nil, of)
	}
	if of := c.member(n, "when"); of >= 0 {
		a.when = c.whenOf(of, path+".when")
	}
	return a
}

// source compiles what a rule takes its value from.
func (c *compiler) source(a *attribute, rule, of int32, key, path string) {
	switch key {
	case "get":
		a.kind, a.locator = locate, c.locator(c.due(rule, key, path, text), path)
	case "const":
		a.literal = c.appendJSON(nil, of)
	case "first_of":
		a.kind = firstOf
		if c.nodes[of].kind != list || c.nodes[of].first == 0 {
			c.doubt(path, "want a list of locators or rules")
			return
		}
		a.attrs = c.nodesOf(of, path)
	case "each":
		a.kind, a.locator = each, c.locator(c.due(rule, key, path, text), path)
		tree := c.member(rule, "map")
		if tree < 0 {
			c.doubt(path, "want map beside it: what becomes of each element")
			return
		}
		c.each++
		made, _ := c.attribute(tree, strings.TrimSuffix(path, "each")+"map")
		a.attrs = []attribute{made}
		c.each--
	}
}

// nodesOf compiles the elements of a list.
func (c *compiler) nodesOf(n int32, path string) []attribute {
	var out []attribute
	i := 0
	for e := c.nodes[n].first; e != 0; e = c.nodes[e].next {
		if a, ok := c.attribute(e, fmt.Sprintf("%s[%d]", path, i)); ok {
			out = append(out, a)
		}
		i++
	}
	return out
}

// resolves tells whether something in a list is to be resolved.
func (c *compiler) resolves(n int32) bool {
	for e := c.nodes[n].first; e != 0; e = c.nodes[e].next {
		if c.isLocator(e) || c.nodes[e].kind == object && (c.ruleKey(e) != "" || c.member(e, "enum") >= 0) || c.resolves(e) {
			return true
		}
	}
	return false
}

func (c *compiler) list(n int32, path string) attribute {
	c.used(path)
	return attribute{kind: listed, attrs: c.nodesOf(n, path)}
}

// castKind is what a value is made.
type castKind uint8

const (
	noCast castKind = iota
	castInt
	castHex
	castFloat
	castBool
	castText
	castTime
)

func (c *compiler) castOf(a *attribute, n int32, path string) {
	word := ""
	if c.nodes[n].kind == text {
		word = c.text(n)
	}
	switch format, isTime := strings.CutPrefix(word, "timestamp:"); {
	case isTime:
		l := newLayout(format)
		if a.cast, a.layout = castTime, &l; l.cause != "" {
			c.doubt(path, "%s", l.cause)
		}
	case word == "int":
		a.cast = castInt
	case word == "hex":
		a.cast = castHex
	case word == "float":
		a.cast = castFloat
	case word == "bool":
		a.cast = castBool
	case word == "text":
		a.cast = castText
	default:
		c.doubt(path, "%q is unknown; want int, hex, float, bool, text or timestamp:FORMAT", word)
	}
}

package mapping

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// Mapping is a mapping file, compiled. It does not change and may be shared.
type Mapping struct {
	file      string
	source    string
	timestamp locator
	layout    layout
	matched   locator
	targets   map[string]*target

	// What follows is of files for Conform alone.
	conditional []*target // those with a condition, in the order of the file
	matches     bool      // there is a matched_field
	ways        trie      // of all locators
	native      string    // where the first key of such files is, empty for none
}

// target is what becomes of the events with one matched value.
type target struct {
	schema string
	attrs  []attribute

	// What follows is of files for Conform alone.
	value       string
	when        condition
	drop        bool // what no locator reads
	observables []observableRule
}

// observableRule is an attribute that becomes an observable, its type 0 for the usual one.
type observableRule struct {
	path   string // of the rule in the file
	name   string
	typeID int64
}

// attribute is one member of the record. Literals are JSON texts already.
type attribute struct {
	name    []byte // as JSON, with the colon
	member  ocsf.Name
	kind    attributeKind
	literal []byte
	locator locator
	values  map[string][]byte
	other   []byte
	attrs   []attribute // of nested, listed, firstOf, and each: what is made of an element
	cast    castKind
	layout  *layout // of castTime
	when    condition
	def     []byte // instead of null, nil for none
}

type attributeKind uint8

const (
	literal attributeKind = iota
	locate
	enum
	nested
	// Of files for Conform alone.
	listed  // a list with locators in it
	firstOf // the first of attrs that is there
	each    // a list of what is made of every element
)

// locator is a path to a value of an event.
type locator struct {
	text  string
	parts []string
	user  bool  // one part, of the event itself, and the value keeps its type
	never bool  // no locator: finds nothing
	fails bool  // $.UserDefined without a name
	local bool  // @: of the element that each is at
	step  int32 // in the trie, of a way from the event
}

// SourceName returns the source_name of the file, empty when it has none.
func (m *Mapping) SourceName() string { return m.source }

// Compile reads a mapping file, whose name is for messages only. It refuses what the
// library would take without a word although it cannot be meant: unknown members, names
// that occur twice, locators that never find anything or are no locators where one is due,
// timestamp formats that match nothing. The error has every problem, with file, path and
// cause.
func Compile(file string, text []byte) (*Mapping, error) {
	c := compiler{file: file}
	m := c.compile(text)
	if err := errors.Join(append(c.fatal, c.doubts...)...); err != nil {
		return nil, err
	}
	return m, nil
}

// CompileLenient is Compile for files that must do what they do in the library, mistakes
// included. It refuses only what maps no event there either: what is no JSON, and a member
// that is due and absent or of the wrong type.
func CompileLenient(file string, text []byte) (*Mapping, error) {
	c := compiler{file: file}
	m := c.compile(text)
	if err := errors.Join(c.fatal...); err != nil {
		return nil, err
	}
	return m, nil
}

type compiler struct {
	document
	file   string
	native bool   // keys of files for Conform are known
	key    string // where the first of them is
	each   int    // how many are open
	ways   trie
	fatal  []error
	doubts []error
}

func (c *compiler) fail(path, format string, args ...any) {
	c.fatal = append(c.fatal, fmt.Errorf("%s: %s: %s", c.file, path, fmt.Sprintf(format, args...)))
}

func (c *compiler) doubt(path, format string, args ...any) {
	c.doubts = append(c.doubts, fmt.Errorf("%s: %s: %s", c.file, path, fmt.Sprintf(format, args...)))
}

func (c *compiler) compile(b []byte) *Mapping {
	f := c.read(b)
	if f == nil {
		f = c.parse()
	}
	if f != nil {
		c.fatal = append(c.fatal, fmt.Errorf("%s: %w", c.file, f))
		return nil
	}
	m := &Mapping{file: c.file, targets: map[string]*target{}}
	c.ways.steps = []step{{}}
	if c.nodes[0].kind != object {
		c.fail("$", "no object")
		return nil
	}
	c.only(0, "$", "custom_source_events")
	const events = "custom_source_events"
	root := c.due(0, events, events, object)
	if root < 0 {
		return nil
	}
	c.only(root, events, "source_name", "matched_field", "timestamp", "ocsf_mapping")
	if m.matches = !c.native || c.member(root, "matched_field") >= 0; !m.matches {
		m.matched = locator{never: true}
	}
	if n := c.member(root, "source_name"); n >= 0 && c.nodes[n].kind == text {
		m.source = c.text(n)
	} else {
		c.doubt(events+".source_name", "want a text")
	}
	if m.matches {
		m.matched = c.locator(c.due(root, "matched_field", events+".matched_field", text), events+".matched_field")
	}
	if n := c.due(root, "timestamp", events+".timestamp", object); n >= 0 {
		path := events + ".timestamp"
		c.only(n, path, "field", "format")
		m.timestamp = c.locator(c.due(n, "field", path+".field", text), path+".field")
		if n = c.due(n, "format", path+".format", text); n >= 0 {
			if m.layout = newLayout(c.text(n)); m.layout.cause != "" {
				c.doubt(path+".format", "%s", m.layout.cause)
			}
		}
	}
	n := c.due(root, "ocsf_mapping", events+".ocsf_mapping", object)
	if n < 0 {
		return m
	}
	c.twice(n, events+".ocsf_mapping")
	for _, n := range c.members(n) {
		value := string(c.bytes(c.nodes[n].name))
		path := events + ".ocsf_mapping." + value
		if c.nodes[n].kind != object {
			c.fail(path, "want an object")
			continue
		}
		t := &target{value: value}
		if c.native {
			c.nativeTarget(n, path, t, m)
		} else {
			c.only(n, path, "schema", "schema_mapping")
		}
		if s := c.due(n, "schema", path+".schema", text); s >= 0 {
			t.schema = c.text(s)
		}
		if tree := c.due(n, "schema_mapping", path+".schema_mapping", object); tree >= 0 {
			t.attrs = c.attributes(tree, path+".schema_mapping")
		}
		m.targets[value] = t
	}
	m.native, m.ways = c.key, c.ways
	return m
}

// due returns the member of an object that must be there, -1 if it is not.
func (c *compiler) due(of int32, name, path string, k kind) int32 {
	n := c.member(of, name)
	if n >= 0 && c.nodes[n].kind == k {
		return n
	}
	what := "a text"
	if k == object {
		what = "an object"
	}
	c.fail(path, "want %s", what)
	return -1
}

// only doubts the members of an object that do not belong there.
func (c *compiler) only(of int32, path string, known ...string) {
	c.twice(of, path)
	for _, n := range c.members(of) {
		name := string(c.bytes(c.nodes[n].name))
		found := false
		for _, k := range known {
			found = found || k == name
		}
		if !found {
			c.doubt(path, "unknown member %q; want %s", name, strings.Join(known, ", "))
		}
	}
}

// twice doubts the names of an object that occur more than once.
func (c *compiler) twice(of int32, path string) {
	seen := map[string]bool{}
	for n := c.nodes[of].first; n != 0; n = c.nodes[n].next {
		name := string(c.bytes(c.nodes[n].name))
		if seen[name] {
			c.doubt(path, "%q occurs twice", name)
		}
		seen[name] = true
	}
}

func (c *compiler) text(n int32) string { return string(c.bytes(c.nodes[n].text)) }

// isLocator tells whether node n is text that the library takes for a locator, or in a file
// for Conform one that begins at an element.
func (c *compiler) isLocator(n int32) bool {
	if c.nodes[n].kind != text {
		return false
	}
	s := c.text(n)
	return strings.HasPrefix(s, "$.") || c.native && (s == "@" || strings.HasPrefix(s, "@."))
}

// locator reads the text of node n.
func (c *compiler) locator(n int32, path string) locator {
	if n < 0 {
		return locator{never: true}
	}
	l := locator{text: c.text(n)}
	if c.native {
		l, err := c.locatorOf(l.text)
		if err != nil {
			c.doubt(path, "%v", err)
		}
		return l
	}
	if !c.isLocator(n) {
		c.doubt(path, "%q is no locator ($.name): it finds nothing", l.text)
		l.never = true
		return l
	}
	l.parts = strings.Split(l.text, ".")[1:]
	if l.parts[0] == "UserDefined" {
		l.user = true
		if l.fails = len(l.parts) == 1; l.fails {
			c.doubt(path, "%q needs a name", l.text)
			return l
		}
		if len(l.parts) > 2 {
			c.doubt(path, "%q: what follows %q is ignored", l.text, l.parts[1])
		}
		l.parts = l.parts[1:2]
	}
	for _, part := range l.parts {
		if part == "" {
			c.doubt(path, "%q has an empty part", l.text)
		}
	}
	l.step = c.ways.add(l.parts)
	return l
}

// attributes compiles the members of object n.
func (c *compiler) attributes(n int32, path string) []attribute {
	c.twice(n, path)
	var attrs []attribute
	for _, n := range c.members(n) {
		name := string(c.bytes(c.nodes[n].name))
		a, ok := c.attribute(n, path+"."+name)
		if !ok {
			continue
		}
		a.name = append(appendQuoted(nil, []byte(name)), ':')
		a.member = ocsf.NewName(a.name)
		attrs = append(attrs, a)
	}
	return attrs
}

// attribute compiles node n; false leaves the attribute out.
func (c *compiler) attribute(n int32, path string) (attribute, bool) {
	switch {
	case c.nodes[n].kind == object && c.member(n, "enum") >= 0:
		c.only(n, path, "enum")
		return c.enum(c.member(n, "enum"), path+".enum")
	case c.nodes[n].kind == object:
		if key := c.ruleKey(n); key != "" && c.native {
			return c.rule(n, path), true
		} else if key != "" {
			c.doubt(path, "%q is a key of the mode conform; with compat it would be an attribute", key)
		} else if c.native {
			c.misspelt(n, path)
		}
		return attribute{kind: nested, attrs: c.attributes(n, path)}, true
	case c.isLocator(n):
		return attribute{kind: locate, locator: c.locator(n, path)}, true
	case c.native && c.nodes[n].kind == list && c.resolves(n):
		return c.list(n, path), true
	}
	c.noLocators(n, path)
	return attribute{literal: c.appendJSON(nil, n)}, true
}

// noLocators doubts locators where nothing resolves them.
func (c *compiler) noLocators(n int32, path string) {
	if c.isLocator(n) {
		c.doubt(path, "the locator %q stays text here", c.text(n))
	}
	for child := c.nodes[n].first; child != 0; child = c.nodes[child].next {
		c.noLocators(child, path)
	}
}

// enum compiles what a member enum has.
func (c *compiler) enum(n int32, path string) (attribute, bool) {
	none := attribute{literal: []byte("null")}
	if c.nodes[n].kind != object {
		c.doubt(path, "want an object: the attribute is always null")
		return none, true
	}
	c.only(n, path, "evaluate", "values", "other")
	evaluate, values, other := c.member(n, "evaluate"), c.member(n, "values"), c.member(n, "other")
	if evaluate >= 0 && c.nodes[evaluate].kind == text && !c.isLocator(evaluate) {
		c.doubt(path+".evaluate", "%q is no locator ($.name): the attribute is always left out", c.text(evaluate))
		return none, false
	}
	if evaluate < 0 || c.nodes[evaluate].kind != text {
		c.doubt(path+".evaluate", "want a locator: the attribute is always null")
		return none, true
	}
	if values < 0 || c.nodes[values].kind != object {
		c.doubt(path+".values", "want an object: the attribute is always null")
		return none, true
	}
	a := attribute{kind: enum, locator: c.locator(evaluate, path+".evaluate"), values: map[string][]byte{}, other: none.literal}
	c.twice(values, path+".values")
	for _, n := range c.members(values) {
		name := string(c.bytes(c.nodes[n].name))
		c.noLocators(n, path+".values."+name)
		a.values[name] = c.appendJSON(nil, n)
	}
	if other >= 0 {
		c.noLocators(other, path+".other")
		a.other = c.appendJSON(nil, other)
	}
	return a, true
}

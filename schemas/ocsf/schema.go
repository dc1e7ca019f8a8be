package ocsf

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Schema is one version of OCSF, ready to validate events: NewSchema gives a built-in one,
// ReadSchema one from a compiled export, Merge adds extensions. It does not change once
// made, so validators of several goroutines may share it.
type Schema struct {
	facts   *facts
	version semver

	profiles map[string]uint64 // by name: the bit of the profile
	classes  map[int64]*item   // by class_uid
	plain    bool              // names of attributes and ids of enums are JSON as they are
}

// facts are what a schema says, by name, as the official export has it: what decides
// whether an event is valid, and no texts. Both readers and extensions make facts; link
// makes a Schema of them.
type facts struct {
	Version    string                `json:"version"`
	Profiles   map[string]flag       `json:"profiles"`
	Categories categoryFacts         `json:"categories"`
	Classes    map[string]*itemFacts `json:"classes"`
	Objects    map[string]*itemFacts `json:"objects"`
	Dictionary dictionaryFacts       `json:"dictionary"`
}

type categoryFacts struct {
	Attributes map[string]category `json:"attributes"`
}

type category struct {
	UID     int64  `json:"uid"`
	Caption string `json:"caption"`
}

type dictionaryFacts struct {
	Attributes map[string]*attrFacts `json:"attributes"`
	Types      struct {
		Attributes map[string]typeFacts `json:"attributes"`
	} `json:"types"`
}

// typeFacts are those of a type of the dictionary.
type typeFacts struct {
	Type   string    `json:"type,omitempty"` // the supertype; none for a primitive type
	MaxLen int       `json:"max_len,omitempty"`
	Range  []float64 `json:"range,omitempty"`
	Regex  string    `json:"regex,omitempty"`
	Values []any     `json:"values,omitempty"`
}

// itemFacts are those of a class or an object.
type itemFacts struct {
	Name        string                `json:"name"`
	Caption     string                `json:"caption"`
	UID         int64                 `json:"uid"`
	CategoryUID int64                 `json:"category_uid"`
	Deprecated  flag                  `json:"@deprecated"`
	Attributes  map[string]*attrFacts `json:"attributes"`
	Constraints map[string][]string   `json:"constraints"`
}

// attrFacts are those of an attribute of an item or the dictionary.
type attrFacts struct {
	Type        string               `json:"type"`
	ObjectType  string               `json:"object_type"`
	Array       bool                 `json:"is_array"`
	Requirement string               `json:"requirement"`
	Profiles    []string             `json:"profiles"`
	Enum        map[string]enumFacts `json:"enum"`
	Sibling     string               `json:"sibling"`
	Deprecated  flag                 `json:"@deprecated"`
}

type enumFacts struct {
	Caption    string `json:"caption"`
	Deprecated flag   `json:"@deprecated"`
}

// flag is true when the member is there, whatever it holds.
type flag bool

// UnmarshalJSON takes any value but null and false for true.
func (f *flag) UnmarshalJSON(b []byte) error {
	*f = string(b) != "null" && string(b) != "false"
	return nil
}

// item is a class or an object.
type item struct {
	name        string
	uid         int64 // of a class
	category    int64 // of a class
	class       bool
	deprecated  bool
	attrs       []attr // by name
	index       map[string]int32
	names       nameTable // as index
	required    []int32
	recommended []int32
	constraints []constraint
}

// constraint is a rule over the presence of attributes.
type constraint struct {
	kind  string // at_least_one or just_one
	names []string
	attrs []int32 // of names that are attributes
}

type requirement uint8

const (
	optional requirement = iota
	recommended
	required
)

// attr is an attribute of an item.
type attr struct {
	name        string
	label       string     // the name as a member begins with it, in quotes and with the colon
	typ         *valueType // nil for an object
	object      *item
	array       bool
	requirement requirement
	profiles    uint64 // any of these switches it on; 0 for always there
	enum        map[string]enumFacts
	ids         []idFacts // of enum, by id, where that is small
	sibling     int32     // the attribute with the caption, -1 for none
	captionOf   int32     // the attribute that this is the caption of, -1 for none
	deprecated  bool
}

// idFacts is a value of an enum, if it has that.
type idFacts struct {
	enumFacts
	there bool
}

// smallIDs is how far idFacts go: to 99, which is Other.
const smallIDs = 100

// smallValues lists the values of an enum with small ids, nil if there are none.
func smallValues(enum map[string]enumFacts) []idFacts {
	var out []idFacts
	for key, e := range enum {
		id, err := strconv.Atoi(key)
		if err != nil || id < 0 || id >= smallIDs || strconv.Itoa(id) != key {
			continue
		}
		for len(out) <= id {
			out = append(out, idFacts{})
		}
		out[id] = idFacts{e, true}
	}
	return out
}

// value returns the value of the enum for a key.
func (a *attr) value(key []byte) (enumFacts, bool) {
	id := 0
	switch {
	case len(key) == 1 && isDigit(key[0]):
		id = int(key[0] - '0')
	case len(key) == 2 && isDigit(key[0]) && isDigit(key[1]) && key[0] != '0':
		id = int(key[0]-'0')*10 + int(key[1]-'0')
	default:
		e, ok := a.enum[string(key)]
		return e, ok
	}
	if id >= len(a.ids) {
		return enumFacts{}, false
	}
	return a.ids[id].enumFacts, a.ids[id].there
}

// active tells whether the attribute is there under the profiles of an event.
func (a *attr) active(profiles uint64) bool { return a.profiles == 0 || a.profiles&profiles != 0 }

type primitive uint8

const (
	boolean primitive = iota
	float
	integer
	long
	text
	anyJSON
)

func primitives() map[string]primitive {
	return map[string]primitive{"boolean_t": boolean, "float_t": float, "integer_t": integer, "long_t": long, "string_t": text, "json_t": anyJSON}
}

// valueType is a type of the dictionary. What it does not limit itself, its supertype
// limits, and a finding says which of the two it was.
type valueType struct {
	name      string
	primitive primitive
	maxLen    limit
	lo, hi    float64
	ranged    limit
	regex     *regexp.Regexp // nil for none
	ofRegex   limit
	form      form  // of regex, nil for none
	values    []any // nil for any
	ofValues  limit
}

// limit tells where a limit of a type comes from.
type limit struct {
	n     int  // of max_len
	there bool // the type or its supertype has one
	super bool // it is the supertype's
}

// open tells whether the item takes any member: one that defines no attribute does.
func (it *item) open() bool { return len(it.attrs) == 0 }

// Version is the version of the schema.
func (s *Schema) Version() Version { return Version(s.facts.Version) }

// Compare orders schemas by version as semver does: a prerelease is before its release.
func (s *Schema) Compare(other *Schema) int { return s.version.compare(other.version) }

// Classes lists the class_uid of every class, ascending.
func (s *Schema) Classes() []int64 { return slices.Sorted(maps.Keys(s.classes)) }

// ClassUID returns the class_uid of a class by its name, which may change with versions.
func (s *Schema) ClassUID(name string) (int64, bool) {
	c := s.facts.Classes[name]
	if c == nil {
		return 0, false
	}
	return c.UID, true
}

// ClassName returns the name of a class, empty for one that is not there.
func (s *Schema) ClassName(uid int64) string {
	if c := s.classes[uid]; c != nil {
		return c.name
	}
	return ""
}

// maxSchemaBytes bounds a compiled export; the largest published one has a few MiB.
const maxSchemaBytes = 64 << 20

// ReadSchema reads a compiled schema: the JSON of the official export (/export/v2/schema
// of the OCSF server, or the output of ocsf-schema-compiler), with whatever extensions it
// was compiled with. More than 64 MiB are refused. All problems come joined.
func ReadSchema(r io.Reader) (*Schema, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSchemaBytes+1))
	if err != nil {
		return nil, fmt.Errorf("compiled schema: %w", err)
	}
	if len(b) > maxSchemaBytes {
		return nil, fmt.Errorf("compiled schema: more than %d bytes", maxSchemaBytes)
	}
	var f facts
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("compiled schema: %w", err)
	}
	return link(&f)
}

// maxProfiles is the width of the set of profiles of an event.
const maxProfiles = 64

// linker turns names into pointers.
type linker struct {
	s       *Schema
	types   map[string]*valueType
	objects map[string]*item
	ids     map[uintptr][]idFacts // by enum: many attributes have the same
	errs    []error
}

func (l *linker) errorf(format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

func link(f *facts) (*Schema, error) {
	s := &Schema{facts: f, profiles: map[string]uint64{}, classes: map[int64]*item{}, plain: true}
	l := &linker{s: s, types: map[string]*valueType{}, objects: map[string]*item{}, ids: map[uintptr][]idFacts{}}
	var ok bool
	if s.version, ok = parseSemver(f.Version); !ok {
		l.errorf("version %q: want x.y.z", f.Version)
	}
	if len(f.Classes) == 0 {
		l.errorf("no classes: this is no compiled schema")
	}
	if len(f.Profiles) > maxProfiles {
		l.errorf("%d profiles: want at most %d", len(f.Profiles), maxProfiles)
	}
	for i, name := range slices.Sorted(maps.Keys(f.Profiles)) {
		s.profiles[name] = 1 << (i % maxProfiles)
	}
	for name := range f.Dictionary.Types.Attributes {
		l.valueType(name)
	}
	// Objects refer to each other, so all are there before the first is filled.
	for name := range f.Objects {
		l.objects[name] = &item{name: name}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Objects)) {
		l.item(l.objects[name], f.Objects[name])
	}
	for _, name := range slices.Sorted(maps.Keys(f.Classes)) {
		c := f.Classes[name]
		it := &item{name: name, class: true}
		l.item(it, c)
		if c == nil {
			continue
		}
		it.uid, it.category = c.UID, c.CategoryUID
		if other := s.classes[it.uid]; other != nil {
			l.errorf("class %s: class_uid %d is %s's too", name, it.uid, other.name)
		}
		s.classes[it.uid] = it
	}
	if err := errors.Join(l.errs...); err != nil {
		return nil, fmt.Errorf("compiled schema: %w", err)
	}
	return s, nil
}

func (l *linker) valueType(name string) {
	own := l.s.facts.Dictionary.Types.Attributes[name]
	t := &valueType{name: name}
	l.types[name] = t
	base, super := name, typeFacts{}
	if own.Type != "" {
		base, super = own.Type, l.s.facts.Dictionary.Types.Attributes[own.Type]
	}
	var ok bool
	if t.primitive, ok = primitives()[base]; !ok {
		l.errorf("type %s: its base %q is no primitive type", name, base)
	}
	for _, of := range []struct {
		typeFacts
		super bool
	}{{own, false}, {super, true}} {
		if of.MaxLen > 0 && !t.maxLen.there {
			t.maxLen = limit{n: of.MaxLen, there: true, super: of.super}
		}
		if len(of.Range) > 0 && !t.ranged.there {
			if len(of.Range) != 2 || !(of.Range[0] <= of.Range[1]) {
				l.errorf("type %s: range %v, want two numbers that rise", name, of.Range)
				continue
			}
			t.lo, t.hi, t.ranged = of.Range[0], of.Range[1], limit{there: true, super: of.super}
		}
		if of.Regex != "" && !t.ofRegex.there {
			re, err := regexp.Compile(of.Regex)
			if err != nil {
				l.errorf("type %s: %w", name, err)
			}
			t.regex, t.ofRegex, t.form = re, limit{there: true, super: of.super}, formOf(of.Regex)
		}
		if of.Values != nil && !t.ofValues.there {
			t.values, t.ofValues = of.Values, limit{there: true, super: of.super}
		}
	}
	// JSON has but two booleans: the values of boolean_t say nothing more.
	if t.primitive == boolean && len(t.values) == 2 {
		t.values = nil
	}
}

func (l *linker) item(it *item, f *itemFacts) {
	if f == nil {
		l.errorf("%s: null", it.name)
		return
	}
	it.deprecated = bool(f.Deprecated)
	it.index = make(map[string]int32, len(f.Attributes))
	for i, name := range slices.Sorted(maps.Keys(f.Attributes)) {
		it.index[name] = int32(i)
	}
	it.attrs = make([]attr, len(it.index))
	for name, at := range it.index {
		it.attrs[at] = l.attr(it, name, f.Attributes[name])
	}
	it.names = newNameTable(it.attrs)
	for i, a := range it.attrs {
		if a.sibling >= 0 && it.attrs[a.sibling].captionOf < 0 {
			it.attrs[a.sibling].captionOf = int32(i)
		}
		switch a.requirement {
		case required:
			it.required = append(it.required, int32(i))
		case recommended:
			it.recommended = append(it.recommended, int32(i))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(f.Constraints)) {
		c := constraint{kind: kind, names: f.Constraints[kind]}
		if kind != "at_least_one" && kind != "just_one" {
			l.errorf("%s: constraint %q: want at_least_one or just_one", it.name, kind)
		}
		for _, n := range c.names {
			if at, ok := it.index[n]; ok {
				c.attrs = append(c.attrs, at)
			}
		}
		it.constraints = append(it.constraints, c)
	}
}

func (l *linker) attr(it *item, name string, f *attrFacts) attr {
	a := attr{name: name, label: `"` + name + `":`, sibling: -1, captionOf: -1}
	l.s.plain = l.s.plain && string(appendQuoted(nil, name))+":" == a.label
	if f == nil {
		l.errorf("%s.%s: null", it.name, name)
		return a
	}
	a.array, a.enum, a.deprecated = f.Array, f.Enum, bool(f.Deprecated)
	a.ids = l.values(f.Enum)
	if f.Type == "object_t" {
		if a.object = l.objects[f.ObjectType]; a.object == nil {
			l.errorf("%s.%s: object %q is not defined", it.name, name, f.ObjectType)
		}
	} else if a.typ = l.types[f.Type]; a.typ == nil {
		l.errorf("%s.%s: type %q is not defined", it.name, name, f.Type)
	}
	switch f.Requirement {
	case "required":
		a.requirement = required
	case "recommended":
		a.requirement = recommended
	case "optional", "":
	default:
		l.errorf("%s.%s: requirement %q: want required, recommended or optional", it.name, name, f.Requirement)
	}
	for _, p := range f.Profiles {
		bit, ok := l.s.profiles[p]
		if !ok {
			l.errorf("%s.%s: profile %q is not defined", it.name, name, p)
		}
		a.profiles |= bit
	}
	if at, ok := it.index[f.Sibling]; ok && f.Enum != nil {
		a.sibling = at
	}
	return a
}

// values is smallValues, once for each enum.
func (l *linker) values(enum map[string]enumFacts) []idFacts {
	if enum == nil {
		return nil
	}
	at := reflect.ValueOf(enum).Pointer()
	out, ok := l.ids[at]
	if !ok {
		out = smallValues(enum)
		for key := range enum {
			if id, ok := parseInt([]byte(key)); ok && strconv.FormatInt(id, 10) != key {
				l.s.plain = false
			}
		}
		l.ids[at] = out
	}
	return out
}

// semver is a version of the form x.y.z-prerelease+build.
type semver struct {
	core [3]uint64
	pre  []string
}

// parseSemver reads the form that semver.org gives; the build is left out, because it
// orders nothing.
func parseSemver(s string) (v semver, ok bool) {
	s, build, built := strings.Cut(s, "+")
	core, pre, prerelease := strings.Cut(s, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) != len(v.core) || built && !isIdentifiers(build) || prerelease && !isIdentifiers(pre) {
		return v, false
	}
	for i, n := range numbers {
		var err error
		if v.core[i], err = strconv.ParseUint(n, 10, 64); err != nil || n != strconv.FormatUint(v.core[i], 10) {
			return v, false
		}
	}
	if prerelease {
		v.pre = strings.Split(pre, ".")
	}
	return v, true
}

// isIdentifiers takes words of letters, digits and hyphens with dots between them.
func isIdentifiers(s string) bool {
	for word := range strings.SplitSeq(s, ".") {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool {
			return !(r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		}) {
			return false
		}
	}
	return true
}

// compare orders as semver does: a prerelease is before its release.
func (v semver) compare(w semver) int {
	if c := slices.Compare(v.core[:], w.core[:]); c != 0 {
		return c
	}
	switch {
	case len(v.pre) == 0 && len(w.pre) == 0:
		return 0
	case len(v.pre) == 0:
		return 1
	case len(w.pre) == 0:
		return -1
	}
	return slices.CompareFunc(v.pre, w.pre, func(a, b string) int {
		x, errX := strconv.ParseUint(a, 10, 64)
		y, errY := strconv.ParseUint(b, 10, 64)
		switch {
		case errX == nil && errY == nil:
			return cmp.Compare(x, y)
		case errX == nil:
			return -1
		case errY == nil:
			return 1
		}
		return cmp.Compare(a, b)
	})
}

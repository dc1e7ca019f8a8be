package ocsf

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Finding is one thing that is wrong with an event, or merely odd.
type Finding struct {
	Code    string `json:"code"`
	Path    string `json:"path"` // a.b[2].c, empty for the class itself
	Message string `json:"message"`
}

// Report is what is to be said of an event.
type Report struct {
	Errors   []Finding
	Warnings []Finding
	// Values is the number of numbers, texts, booleans and nulls in the event, Unmapped how
	// many of them lie in its member unmapped: their quotient is the unmapped ratio.
	Values, Unmapped int
	// Omitted is the number of findings beyond the first 1000 errors and 1000 warnings.
	Omitted int
}

// maxFindings bounds each list of a report: an event may be as large as it likes.
const maxFindings = 1000

// Codes of findings, as the OCSF server has them; the last three are ours.
const (
	classUIDUnknown      = "class_uid_unknown"
	classDeprecated      = "class_deprecated"
	objectDeprecated     = "object_deprecated"
	attrDeprecated       = "attribute_deprecated"
	enumDeprecated       = "attribute_enum_value_deprecated"
	enumArrayDeprecated  = "attribute_enum_array_value_deprecated"
	profileUnknown       = "profile_unknown"
	requiredMissing      = "attribute_required_missing"
	recommendedMissing   = "attribute_recommended_missing"
	wrongType            = "attribute_wrong_type"
	attrUnknown          = "attribute_unknown"
	notInValues          = "attribute_value_not_in_type_values"
	notInSuperValues     = "attribute_value_not_in_super_type_values"
	exceedsRange         = "attribute_value_exceeds_range"
	exceedsSuperRange    = "attribute_value_exceeds_super_type_range"
	exceedsMaxLen        = "attribute_value_exceeds_max_len"
	exceedsSuperMaxLen   = "attribute_value_exceeds_super_type_max_len"
	regexMismatch        = "attribute_value_regex_not_matched"
	superRegexMismatch   = "attribute_value_super_type_regex_not_matched"
	enumUnknown          = "attribute_enum_value_unknown"
	enumArrayUnknown     = "attribute_enum_array_value_unknown"
	siblingIncorrect     = "attribute_enum_sibling_incorrect"
	siblingSuspicious    = "attribute_enum_sibling_suspicious_other"
	siblingArrayMissing  = "attribute_enum_array_sibling_missing"
	siblingArrayWrong    = "attribute_enum_array_sibling_incorrect"
	typeUIDIncorrect     = "type_uid_incorrect"
	constraintFailed     = "constraint_failed"
	observableInvalid    = "observable_name_invalid_reference"
	versionEarlier       = "version_earlier"
	versionLater         = "version_incompatible_later"
	versionPrerelease    = "version_incompatible_prerelease"
	versionInitial       = "version_incompatible_initial_development"
	versionInvalidFormat = "version_invalid_format"
	memberTwice          = "attribute_duplicate"
)

// Validator checks events against a schema and uses its memory again for the next one. It
// is used by one goroutine.
type Validator struct {
	schemas []*Schema
	schema  *Schema // of the event
	// Recommended asks for a warning for every recommended attribute that is missing.
	Recommended bool

	doc      *document // of the event
	own      document  // of an event that was given as text
	names    guesses
	top      topMembers
	profiles uint64
	// slots holds, for the items that are open, the node of each attribute, 0 for none.
	slots  []int32
	walks  []walk
	report Report
}

// NewValidator returns a validator. With several schemas an event is checked against the
// one of the version that it names, or else the first.
func NewValidator(first *Schema, others ...*Schema) *Validator {
	return &Validator{schemas: append([]*Schema{first}, others...)}
}

// Validator returns a validator of the schema alone.
func (s *Schema) Validator() *Validator { return NewValidator(s) }

// Validate checks one event, given as JSON. A Validator does the same for many.
func (s *Schema) Validate(event []byte) (Report, error) { return s.Validator().Validate(event) }

// Validate checks one event, given as JSON. The error says that it is no JSON object
// (ErrNotJSON); everything else is a finding. The findings are those of the OCSF server's
// second validator, in the order of the members. They are valid until the next call.
func (v *Validator) Validate(event []byte) (Report, error) {
	if err := v.own.parse(event); err != nil {
		return Report{}, err
	}
	return v.validate(&v.own), nil
}

// ValidateConformed is Validate for the event that a Conformer has just made, and that has not
// been changed since. It takes the tree of the event from the Conformer in place of a parse.
func (v *Validator) ValidateConformed(c *Conformer) (Report, error) {
	if !c.tree.link(c.out) {
		return v.Validate(c.out[c.base:])
	}
	return v.validate(&c.tree.document), nil
}

func (v *Validator) validate(doc *document) Report {
	v.report = Report{Errors: v.report.Errors[:0], Warnings: v.report.Warnings[:0]}
	v.slots, v.walks = v.slots[:0], v.walks[:0]
	v.doc = doc
	v.names.reset(len(v.doc.nodes))
	v.top = v.doc.top()
	v.measure()
	v.schema = v.schemas[0]
	if len(v.schemas) > 1 {
		v.useNamed()
	}
	if doc.schema != v.schema && doc.schema != nil {
		for i := range doc.nodes {
			doc.nodes[i].attr = -1
		}
	}
	doc.schema = v.schema
	if class := v.class(); class != nil {
		v.useProfiles()
		if class.deprecated {
			v.warning(here(0), classDeprecated, "class %s (%d) is deprecated", class.name, class.uid)
		}
		v.item(class, 0)
		v.eventVersion()
		v.typeUID(class)
		v.observables(class)
	}
	return v.report
}

// useNamed takes the schema of the version that the event names, if there is one.
func (v *Validator) useNamed() {
	at, ok := v.versionAt()
	if !ok {
		return
	}
	named := v.doc.text(&v.doc.nodes[at])
	if i := slices.IndexFunc(v.schemas, func(s *Schema) bool { return s.facts.Version == string(named) }); i >= 0 {
		v.schema = v.schemas[i]
	}
}

// measure counts values. The nodes of a value stand together, behind it.
func (v *Validator) measure() {
	from, to := v.top.unmapped, int32(len(v.doc.nodes))
	if from > 0 {
		if next := v.doc.nodes[from].next; next != 0 {
			to = next
		}
	}
	for i := range v.doc.nodes {
		if k := v.doc.nodes[i].kind; k == '{' || k == '[' {
			continue
		}
		v.report.Values++
		if from > 0 && int32(i) >= from && int32(i) < to {
			v.report.Unmapped++
		}
	}
}

// where says where a finding is: at a node, or where a member of the node is or would be.
type where struct {
	n      int32
	member bool
	name   string
}

func here(n int32) where                { return where{n: n} }
func inside(n int32, name string) where { return where{n, true, name} }

func (v *Validator) error(at where, code, format string, args ...any) {
	v.report.Errors = v.add(v.report.Errors, at, code, format, args)
}

func (v *Validator) warning(at where, code, format string, args ...any) {
	v.report.Warnings = v.add(v.report.Warnings, at, code, format, args)
}

func (v *Validator) add(to []Finding, at where, code, format string, args []any) []Finding {
	if len(to) == maxFindings {
		v.report.Omitted++
		return to
	}
	path := v.path(at.n)
	if at.member {
		path.enter(at.name)
	}
	return append(to, Finding{code, string(path.path), fmt.Sprintf(format, args...)})
}

// walk is how far the members or elements of a node were passed on the way to another one.
type walk struct {
	of, to int32
	i      int // number of to among them
}

// path finds the way to a node. Most events have no findings, so that it is cheaper to look for
// the way than to keep it; where the last way went past the same nodes this one goes on.
func (v *Validator) path(n int32) trail {
	var out trail
	nodes := v.doc.nodes
	for at, depth := int32(0), 0; at != n; depth++ {
		if depth == len(v.walks) {
			v.walks = append(v.walks, walk{})
		}
		w := &v.walks[depth]
		if w.to == 0 || w.of != at || w.to > n {
			*w = walk{of: at, to: nodes[at].first}
		}
		// The nodes of a value stand together, behind it.
		for next := nodes[w.to].next; next != 0 && next <= n; next = nodes[next].next {
			w.to = next
			w.i++
		}
		if nodes[at].kind == '[' {
			out.enterElement(w.i)
		} else {
			out.enterBytes(v.doc.name(&nodes[w.to]))
		}
		at = w.to
	}
	return out
}

// class finds the class of the event; without it nothing can be checked.
func (v *Validator) class() *item {
	at := v.top.classUID
	if at < 0 {
		v.error(inside(0, "class_uid"), requiredMissing, "required, and not there")
		return nil
	}
	uid, ok := v.int(at)
	if !ok {
		v.error(here(at), wrongType, "is %s, want integer_t", v.describe(at))
		return nil
	}
	c := v.schema.classes[uid]
	switch {
	case c == nil && uid >= 100_000:
		v.error(here(at), classUIDUnknown, "OCSF %s has no class %d; it would be of extension %d, which is not merged in", v.schema.facts.Version, uid, uid/100_000)
	case c == nil:
		v.error(here(at), classUIDUnknown, "OCSF %s has no class %d", v.schema.facts.Version, uid)
	}
	return c
}

// useProfiles switches the profiles on that the event names. Elements of another type are
// reported where metadata.profiles is checked.
func (v *Validator) useProfiles() {
	v.profiles = 0
	list := v.doc.member(v.top.metadata, "profiles")
	if list < 0 || v.doc.nodes[list].kind != '[' {
		return
	}
	for c := v.doc.nodes[list].first; c != 0; c = v.doc.nodes[c].next {
		if n := &v.doc.nodes[c]; n.kind == '"' {
			name := v.doc.text(n)
			bit, ok := v.schema.profiles[string(name)]
			if !ok {
				v.error(here(c), profileUnknown, "OCSF %s has no profile %q", v.schema.facts.Version, clip(name))
			}
			v.profiles |= bit
		}
	}
}

// item checks the object at node n against a class or object.
func (v *Validator) item(it *item, n int32) {
	base := len(v.slots)
	v.slots = slices.Grow(v.slots, len(it.attrs))[:base+len(it.attrs)]
	clear(v.slots[base:])
	if !it.class && it.deprecated {
		v.warning(here(n), objectDeprecated, "object %s is deprecated", it.name)
	}
	nodes := v.doc.nodes
	first := nodes[n].first
	if it.open() {
		first = 0
	}
	for c := first; c != 0; c = nodes[c].next {
		at := nodes[c].attr
		if at < 0 {
			at = v.names.find(it, c, v.doc.name(&nodes[c]))
			nodes[c].attr = at
		}
		ok := at >= 0
		if !ok || !it.attrs[at].active(v.profiles) {
			v.unknown(it, n, c, ok)
		}
		if !ok {
			continue
		}
		if v.slots[base+int(at)] != 0 {
			v.error(inside(n, it.attrs[at].name), memberTwice, "the name occurs twice; the last value is the one that was checked")
		}
		v.slots[base+int(at)] = c
	}
	for c := first; c != 0; c = nodes[c].next {
		at := nodes[c].attr
		if at < 0 || v.slots[base+int(at)] != c || !it.attrs[at].active(v.profiles) {
			continue
		}
		a := &it.attrs[at]
		if nodes[c].kind != 'n' {
			v.attribute(a, c)
		}
		if a.enum != nil {
			v.enum(it, n, a, c, base)
		}
	}
	for _, at := range it.required {
		if v.missing(it, at, base) {
			v.error(inside(n, it.attrs[at].name), requiredMissing, "%s requires it, and it is not there", it.name)
		}
	}
	if v.Recommended {
		for _, at := range it.recommended {
			if v.missing(it, at, base) {
				v.warning(inside(n, it.attrs[at].name), recommendedMissing, "%s recommends it, and it is not there", it.name)
			}
		}
	}
	v.constraints(it, n, base)
	v.slots = v.slots[:base]
}

func (v *Validator) missing(it *item, at int32, base int) bool {
	c := v.slots[base+int(at)]
	return it.attrs[at].active(v.profiles) && (c == 0 || v.doc.nodes[c].kind == 'n')
}

func (v *Validator) unknown(it *item, n, c int32, ofProfile bool) {
	why := "has no such attribute"
	if ofProfile {
		why = "has it only with a profile that metadata.profiles does not name"
	}
	v.error(inside(n, clip(v.doc.name(&v.doc.nodes[c]))), attrUnknown, "%s %s", it.name, why)
}

// constraints looks at the presence of members; null is present.
func (v *Validator) constraints(it *item, n int32, base int) {
	for _, c := range it.constraints {
		there := 0
		for _, at := range c.attrs {
			if v.slots[base+int(at)] != 0 {
				there++
			}
		}
		switch {
		case c.kind == "at_least_one" && there == 0:
			v.error(here(n), constraintFailed, "%s needs at least one of %s", it.name, strings.Join(c.names, ", "))
		case c.kind == "just_one" && there != 1:
			v.error(here(n), constraintFailed, "%s needs exactly one of %s, and has %d", it.name, strings.Join(c.names, ", "), there)
		}
	}
}

// attribute checks a value that is not null.
func (v *Validator) attribute(a *attr, c int32) {
	if a.deprecated {
		v.warning(here(c), attrDeprecated, "the attribute is deprecated")
	}
	if !a.array {
		v.value(a, c)
		return
	}
	if v.doc.nodes[c].kind != '[' {
		v.error(here(c), wrongType, "is %s, want an array of %s", v.describe(c), a.wants())
		return
	}
	for e := v.doc.nodes[c].first; e != 0; e = v.doc.nodes[e].next {
		v.value(a, e)
	}
}

func (a *attr) wants() string {
	if a.object != nil {
		return "object " + a.object.name
	}
	return a.typ.name
}

// value checks one value, or an element of an array.
func (v *Validator) value(a *attr, c int32) {
	n := &v.doc.nodes[c]
	if a.object != nil {
		if n.kind == '{' {
			v.item(a.object, c)
			return
		}
		v.error(here(c), wrongType, "is %s, want %s", v.describe(c), a.wants())
		return
	}
	t := a.typ
	ok := false
	switch t.primitive {
	case anyJSON:
		return
	case boolean:
		ok = n.kind == 't' || n.kind == 'f'
	case text:
		ok = n.kind == '"'
	case float:
		ok = n.kind == '0' && v.isFloat(n)
	case integer:
		_, ok = v.int(c)
	case long:
		ok = n.kind == '0' && isLong(v.doc.text(n))
	}
	switch {
	case !ok:
		v.error(here(c), wrongType, "is %s, want %s", v.describe(c), t.name)
		return
	case t.primitive == text:
		v.textLimits(t, c)
	case t.ranged.there && t.primitive != boolean:
		f, err := number(v.doc.text(n))
		if err != nil || f < t.lo || f > t.hi {
			v.error(here(c), either(t.ranged, exceedsRange, exceedsSuperRange), "is %s, %s takes %v to %v", clip(v.doc.text(n)), t.name, t.lo, t.hi)
		}
	}
	if t.values != nil && !slices.ContainsFunc(t.values, func(want any) bool { return v.equal(n, want) }) {
		v.error(here(c), either(t.ofValues, notInValues, notInSuperValues), "is %s, %s takes %v", v.describe(c), t.name, t.values)
	}
}

// number is strconv.ParseFloat, which short digits do without.
func number(b []byte) (float64, error) {
	if len(b) < 15 && isDigits(b) {
		i, _ := digits(b, 0)
		return float64(i), nil
	}
	return strconv.ParseFloat(string(b), 64)
}

func either(l limit, own, super string) string {
	if l.super {
		return super
	}
	return own
}

func (v *Validator) textLimits(t *valueType, c int32) {
	n := &v.doc.nodes[c]
	// The bytes as written are never fewer than the characters.
	if size := int(n.text[1] - n.text[0]); t.maxLen.there && size > t.maxLen.n {
		if chars := utf8.RuneCount(v.doc.text(n)); chars > t.maxLen.n {
			v.error(here(c), either(t.maxLen, exceedsMaxLen, exceedsSuperMaxLen), "has %d characters, %s takes %d", chars, t.name, t.maxLen.n)
		}
	}
	if t.regex == nil {
		return
	}
	if b := v.doc.text(n); (t.form == nil || !t.form(b)) && !t.regex.Match(b) {
		v.warning(here(c), either(t.ofRegex, regexMismatch, superRegexMismatch), "%q has not the form of %s", clip(b), t.name)
	}
}

// equal compares with a value of a schema as encoding/json reads it.
func (v *Validator) equal(n *node, want any) bool {
	switch want := want.(type) {
	case string:
		return n.kind == '"' && string(v.doc.text(n)) == want
	case bool:
		return n.kind == 't' && want || n.kind == 'f' && !want
	case float64:
		if n.kind != '0' {
			return false
		}
		f, err := strconv.ParseFloat(string(v.doc.text(n)), 64)
		return err == nil && f == want
	}
	return false
}

// int returns an integer_t: digits without point and exponent, within 64 bits.
func (v *Validator) int(c int32) (int64, bool) {
	n := &v.doc.nodes[c]
	if n.kind != '0' {
		return 0, false
	}
	b := v.doc.text(n)
	if len(b) < 19 && isDigits(b) {
		i, _ := digits(b, 0)
		return i, true
	}
	i, err := strconv.ParseInt(string(b), 10, 64)
	return i, err == nil
}

func isDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) > 0
}

// isFloat tells whether a number is a float_t: written with a point or an exponent, and
// within a double.
func (v *Validator) isFloat(n *node) bool {
	b := v.doc.text(n)
	if !bytes.ContainsAny(b, ".eE") {
		return false
	}
	_, err := strconv.ParseFloat(string(b), 64)
	return err == nil
}

// isLong tells whether a number is a long_t: digits without point and exponent, within 128
// bits.
func isLong(b []byte) bool {
	if len(b) < 39 && isDigits(b) {
		return true
	}
	limit := "170141183460469231731687303715884105727"
	if b[0] == '-' {
		b, limit = b[1:], "170141183460469231731687303715884105728"
	}
	if len(b) < len(limit) {
		return !bytes.ContainsAny(b, ".eE")
	}
	return len(b) == len(limit) && !bytes.ContainsAny(b, ".eE") && string(b) <= limit
}

// enum checks the value of an attribute that has a list of them, and its caption; the object is
// node in.
func (v *Validator) enum(it *item, in int32, a *attr, c int32, base int) {
	sibling := int32(0)
	if a.sibling >= 0 {
		sibling = v.slots[base+int(a.sibling)]
	}
	n := &v.doc.nodes[c]
	if !a.array {
		if e, ok := a.value(v.enumKey(n)); !ok {
			v.error(here(c), enumUnknown, "%s is none of its values", v.describe(c))
		} else {
			v.caption(it, a, n, e, sibling)
			if e.Deprecated {
				v.warning(here(c), enumDeprecated, "value %s is deprecated", v.describe(c))
			}
		}
		return
	}
	if n.kind != '[' {
		return // of the wrong type, or null
	}
	caption := int32(0)
	captions := sibling != 0 && v.doc.nodes[sibling].kind == '['
	if captions {
		caption = v.doc.nodes[sibling].first
	}
	i := 0
	for el := n.first; el != 0; el = v.doc.nodes[el].next {
		if e, ok := a.value(v.enumKey(&v.doc.nodes[el])); !ok {
			v.error(here(el), enumArrayUnknown, "%s is none of its values", v.describe(el))
		} else {
			if captions {
				v.captionOfElement(it, in, a, el, e, caption, i)
			}
			if e.Deprecated {
				v.warning(here(el), enumArrayDeprecated, "value %s is deprecated", v.describe(el))
			}
		}
		if caption != 0 {
			caption = v.doc.nodes[caption].next
		}
		i++
	}
}

// enumKey is a value as the keys of an enum are written. The text of null is empty, and
// that of a list or an object is no key.
func (v *Validator) enumKey(n *node) []byte {
	switch b := v.doc.text(n); {
	case n.kind == 'n':
		return nil
	case n.kind == '0' && string(b) == "-0":
		return b[1:]
	default:
		return b
	}
}

func (v *Validator) other(n *node) bool { return n.kind == '0' && string(v.doc.text(n)) == "99" }

// caption compares the caption beside an enum value, if there is one, with the schema's.
// Beside 99 the source's own word is due. The finding has the path of the caption.
func (v *Validator) caption(it *item, a *attr, n *node, e enumFacts, sibling int32) {
	if sibling == 0 {
		return
	}
	s := &v.doc.nodes[sibling]
	same := s.kind == '"' && string(v.doc.text(s)) == e.Caption
	if same != v.other(n) {
		return
	}
	if same {
		v.warning(here(sibling), siblingSuspicious, "%q beside 99: the word of the source is due", e.Caption)
	} else {
		v.warning(here(sibling), siblingIncorrect, "is %s, %s %s is %q", v.describe(sibling), a.name, v.doc.text(n), e.Caption)
	}
}

// captionOfElement is caption for lists, where a caption that differs is an error.
func (v *Validator) captionOfElement(it *item, in int32, a *attr, el int32, e enumFacts, caption int32, i int) {
	n := &v.doc.nodes[el]
	if v.other(n) {
		return
	}
	if caption != 0 {
		if s := &v.doc.nodes[caption]; s.kind == '"' && string(v.doc.text(s)) == e.Caption {
			return
		}
	}
	name := fmt.Sprintf("%s[%d]", it.attrs[a.sibling].name, i)
	if caption == 0 || v.doc.nodes[caption].kind == 'n' {
		v.error(inside(in, name), siblingArrayMissing, "is not there, %s %s is %q", a.name, v.doc.text(n), e.Caption)
	} else {
		v.error(inside(in, name), siblingArrayWrong, "is %s, %s %s is %q", v.describe(caption), a.name, v.doc.text(n), e.Caption)
	}
}

// versionAt finds the version that the event names, if it is a text.
func (v *Validator) versionAt() (at int32, ok bool) {
	at = v.doc.member(v.top.metadata, "version")
	return at, at >= 0 && v.doc.nodes[at].kind == '"'
}

// eventVersion compares the version that the event names with the schema's.
func (v *Validator) eventVersion() {
	at, ok := v.versionAt()
	if !ok {
		return
	}
	named := v.doc.text(&v.doc.nodes[at])
	of := v.schema.facts.Version
	if string(named) == of {
		return
	}
	event, ok := parseSemver(string(named))
	if !ok {
		v.error(here(at), versionInvalidFormat, "%q is no version, want x.y.z", clip(named))
		return
	}
	switch c := event.compare(v.schema.version); {
	case c > 0:
		v.error(here(at), versionLater, "the event is of OCSF %s, the schema is %s", clip(named), of)
	case c == 0:
	case event.core[0] == 0:
		v.error(here(at), versionInitial, "OCSF %s is of the initial development, the schema is %s", clip(named), of)
	case len(event.pre) > 0:
		v.error(here(at), versionPrerelease, "OCSF %s is a prerelease, the schema is %s", clip(named), of)
	default:
		v.warning(here(at), versionEarlier, "the event is of OCSF %s, the schema is %s", clip(named), of)
	}
}

// typeUID checks type_uid = class_uid * 100 + activity_id.
func (v *Validator) typeUID(class *item) {
	activity, typ := v.top.activityID, v.top.typeUID
	if activity < 0 || typ < 0 {
		return
	}
	n := &v.doc.nodes[typ]
	id, ok := v.int(activity)
	const huge = 1 << 56 // no enum has it, so that is said already
	if !ok || id >= huge || id <= -huge || n.kind != '0' || !isLong(v.doc.text(n)) {
		return
	}
	if is, ok := v.int(typ); ok && is == class.uid*100+id {
		return
	}
	if want := strconv.FormatInt(class.uid*100+id, 10); string(v.enumKey(n)) != want {
		v.error(here(typ), typeUIDIncorrect, "is %s, class_uid %d * 100 + activity_id %d is %s", clip(v.doc.text(n)), class.uid, id, want)
	}
}

// observables checks that every name leads to an attribute of the class.
func (v *Validator) observables(class *item) {
	list := v.top.observables
	if list < 0 || v.doc.nodes[list].kind != '[' {
		return
	}
	for c := v.doc.nodes[list].first; c != 0; c = v.doc.nodes[c].next {
		at := v.doc.member(c, "name")
		if at < 0 || v.doc.nodes[at].kind != '"' {
			continue
		}
		if name := v.doc.text(&v.doc.nodes[at]); !class.leads(name, v.profiles) {
			v.error(here(at), observableInvalid, "%q is no attribute of %s", clip(name), class.name)
		}
	}
}

// leads follows a path like resources[0].uid or resources[].uid from an item.
func (it *item) leads(path []byte, profiles uint64) bool {
	for {
		part, rest, more := bytes.Cut(path, []byte{'.'})
		name, index, indexed := bytes.Cut(part, []byte{'['})
		at, ok := it.index[string(name)]
		if !ok || !it.attrs[at].active(profiles) || indexed && !(it.attrs[at].array && isIndex(index)) {
			return false
		}
		if !more {
			return true
		}
		if it = it.attrs[at].object; it == nil {
			return false
		}
		path = rest
	}
}

// isIndex takes "]" and digits before it.
func isIndex(b []byte) bool {
	for len(b) > 1 && isDigit(b[0]) {
		b = b[1:]
	}
	return string(b) == "]"
}

// describe is a value in a message.
func (v *Validator) describe(c int32) string {
	switch n := &v.doc.nodes[c]; n.kind {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return strconv.Quote(clip(v.doc.text(n)))
	default:
		return clip(v.doc.text(n))
	}
}

// clip bounds what a message shows of a value.
func clip(b []byte) string {
	const most = 100
	if len(b) <= most {
		return string(b)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(b[cut]) {
		cut--
	}
	return string(b[:cut]) + "..."
}

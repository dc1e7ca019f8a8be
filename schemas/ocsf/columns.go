package ocsf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas"
)

// ColumnsConfig declares which attributes of a class become columns. A class has thousands
// of them, counted through its objects; a table has those that are asked for.
type ColumnsConfig struct {
	// Class is the class_uid.
	Class int64
	// Profiles switch their attributes on. Without datetime no *_dt attribute is a column.
	Profiles []string
	// Paths are attributes with dots between them: device.location.city. Lists have no mark
	// of their own: measurements.name. The path of an object stands for its attributes that
	// are no objects.
	Paths []string
}

// Columns turns events of one class into rows. What is a column:
//
//   - every path, and the objects on the way to it;
//   - what the class requires, and what every object that is a column requires. An object
//     that nobody asked for and that requires nothing has what its constraints name;
//   - unmapped, the last one: a map of texts.
//
// Types are those of Amazon Security Lake: timestamp_t and long_t are int64, integer_t is
// int32 (type_uid and autonomous_system.number are int64), float_t is float64, datetime_t a
// timestamp of milliseconds, json_t and objects without attributes are JSON text, objects
// are structs and arrays lists without nulls. What is required of every event is never
// null; what a profile requires may be.
//
// A value that no column takes goes to unmapped as text, under its path: attributes that are
// no columns, and values that are not what the column holds (2^31 for an integer_t, a list
// where none is due, a time with microseconds). The members of the event's own unmapped are
// there too, with dots between names, lists as JSON. Null is absence, and so is an object
// without members. Where two values have the same name, the entry is a JSON list of both.
//
// Columns is used by one goroutine.
type Columns struct {
	class  *item
	schema *arrow.Schema
	root   column
	// unmapped is the last column, and not below root.
	unmapped Pairs
	rows     int

	doc   document
	slots []int32 // for the objects that are open, the member of each column, 0 for none
	trail
	taken int   // values of the event that columns took
	fault error // why the event is refused
	// leftover are the entries of unmapped, over text.
	leftover []leftover
	text     []byte
}

// maxColumnDepth bounds the nesting of columns: objects refer to each other in circles.
const maxColumnDepth = 24

// pick is an object of which some attributes become columns.
type pick struct {
	item  *item
	all   bool // every attribute that is no object
	attrs map[int32]*pick
}

func newPick(it *item) *pick { return &pick{item: it, attrs: map[int32]*pick{}} }

// planner makes columns of paths.
type planner struct {
	schema   *Schema
	profiles uint64
	errs     []error
}

func (p *planner) errorf(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

// NewColumns makes the columns of a class. All problems come joined.
func NewColumns(s *Schema, cfg ColumnsConfig) (*Columns, error) {
	p := planner{schema: s}
	for _, name := range cfg.Profiles {
		bit, ok := s.profiles[name]
		if !ok {
			p.errorf("profile %q: OCSF %s has none of this name%s", name, s.facts.Version, nearest(name, slices.Sorted(maps.Keys(s.profiles))))
		}
		p.profiles |= bit
	}
	class := s.classes[cfg.Class]
	if class == nil {
		p.errorf("class %d: OCSF %s has none of this uid%s", cfg.Class, s.facts.Version, s.nearestClass(cfg.Class))
		return nil, fmt.Errorf("ocsf columns: %w", errors.Join(p.errs...))
	}
	root := newPick(class)
	for _, path := range cfg.Paths {
		p.take(root, path)
	}
	p.complete(root, "", 0)
	if err := errors.Join(p.errs...); err != nil {
		return nil, fmt.Errorf("ocsf columns of %s: %w", class.name, err)
	}
	c := &Columns{class: class, root: column{kind: ofObject, fields: p.columns(root)}}
	c.root.indexFields()
	fields := append(c.root.arrowFields(), arrow.Field{Name: unmappedName, Type: textMap()})
	c.schema = arrow.NewSchema(fields, nil)
	c.Reset()
	return c, nil
}

// Schema is the schema of the rows.
func (c *Columns) Schema() *arrow.Schema { return c.schema }

// nearest is the end of a message about a name that is not known.
func nearest(name string, names []string) string {
	if best, _ := schemas.Nearest(name, names); best != "" {
		return fmt.Sprintf("; the nearest is %q", best)
	}
	return ""
}

func (s *Schema) nearestClass(uid int64) string {
	var uids []string
	for _, u := range s.Classes() {
		uids = append(uids, strconv.FormatInt(u, 10))
	}
	best, _ := schemas.Nearest(strconv.FormatInt(uid, 10), uids)
	u, err := strconv.ParseInt(best, 10, 64)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; the nearest is %d (%s)", u, s.classes[u].name)
}

// take follows a path from the class.
func (p *planner) take(at *pick, path string) {
	if path == unmappedName {
		return
	}
	rest, more := path, true
	for more {
		var name string
		name, rest, more = strings.Cut(rest, ".")
		i, ok := at.item.index[name]
		if !ok || at.item.class && name == unmappedName {
			p.errorf("path %q: %s has no attribute %q%s", path, at.item.name, name, nearest(name, p.names(at.item)))
			return
		}
		a := &at.item.attrs[i]
		if !a.active(p.profiles) {
			p.errorf("path %q: %s has %q only with a profile: add one of %s", path, at.item.name, name, strings.Join(p.schema.profilesOf(a), ", "))
			return
		}
		object := p.structured(a)
		if more && !object {
			p.errorf("path %q: %q has no attributes below it: end the path there", path, name)
			return
		}
		at = at.add(i, object)
	}
	if at != nil {
		at.all = true
	}
}

// add returns the pick of the attribute, nil where it is no struct.
func (at *pick) add(i int32, structured bool) *pick {
	below, ok := at.attrs[i]
	if !ok && structured {
		below = newPick(at.item.attrs[i].object)
	}
	at.attrs[i] = below
	return below
}

// names lists the attributes that a path may name.
func (p *planner) names(it *item) []string {
	var out []string
	for i := range it.attrs {
		if it.attrs[i].active(p.profiles) {
			out = append(out, it.attrs[i].name)
		}
	}
	return out
}

// profilesOf lists the profiles that switch an attribute on.
func (s *Schema) profilesOf(a *attr) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.profiles)) {
		if a.profiles&s.profiles[name] != 0 {
			out = append(out, name)
		}
	}
	return out
}

// structured tells whether the attribute becomes a struct or a list of them. An object that
// takes anything becomes JSON text.
func (p *planner) structured(a *attr) bool {
	if a.object == nil {
		return false
	}
	for i := range a.object.attrs {
		if t := a.object.attrs[i].typ; t == nil || t.primitive != anyJSON {
			return true
		}
	}
	return false
}

// complete adds what is required, and what the path of an object stands for.
func (p *planner) complete(at *pick, path string, depth int) {
	if depth > maxColumnDepth {
		p.errorf("path %q: nested deeper than %d", path, maxColumnDepth)
		return
	}
	for i := range at.item.attrs {
		a := &at.item.attrs[i]
		if !a.active(p.profiles) || at.item.class && a.name == unmappedName {
			continue
		}
		if a.requirement == required || at.all && a.object == nil {
			at.add(int32(i), p.structured(a))
		}
	}
	if len(at.attrs) == 0 {
		p.byConstraint(at)
	}
	if len(at.attrs) == 0 {
		p.errorf("path %q: %s has objects only: name a path below it: %s", path, at.item.name, strings.Join(p.names(at.item), ", "))
	}
	for i, below := range at.attrs {
		if below != nil {
			p.complete(below, strings.TrimPrefix(path+"."+at.item.attrs[i].name, "."), depth+1)
		}
	}
}

// byConstraint takes the attributes that the constraints of an object name, or else all
// that are no objects.
func (p *planner) byConstraint(at *pick) {
	take := func(i int32) {
		if a := &at.item.attrs[i]; a.object == nil && a.active(p.profiles) {
			at.add(i, false)
		}
	}
	for _, c := range at.item.constraints {
		for _, i := range c.attrs {
			take(i)
		}
	}
	if len(at.attrs) == 0 {
		for i := range at.item.attrs {
			take(int32(i))
		}
	}
}

// columns makes the columns of an object, by name.
func (p *planner) columns(at *pick) []column {
	var out []column
	for _, i := range slices.Sorted(maps.Keys(at.attrs)) {
		a := &at.item.attrs[i]
		c := column{name: a.name, kind: kindOf(at.item, a)}
		if below := at.attrs[i]; below != nil {
			c.kind, c.fields = ofObject, p.columns(below)
			c.indexFields()
		}
		if a.array {
			elem := c
			elem.name = "item"
			c = column{name: a.name, kind: ofList, elem: &elem}
		}
		c.nullable = a.requirement != required || a.profiles != 0
		out = append(out, c)
	}
	return out
}

// kindOf is the kind of an attribute, or of its elements.
func kindOf(it *item, a *attr) kind {
	switch {
	case a.typ == nil:
		return ofJSON
	case a.typ.name == "datetime_t":
		return ofTime
	case a.typ.primitive == boolean:
		return ofBool
	case a.typ.primitive == float:
		return ofFloat
	case a.typ.primitive == long, a.name == "type_uid", it.name == "autonomous_system" && a.name == "number":
		return ofInt64
	case a.typ.primitive == integer:
		return ofInt32
	case a.typ.primitive == anyJSON:
		return ofJSON
	}
	return ofText
}

package ocsf

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// extensionFiles is the Tidemark extension, in the layout that ocsf-schema has for
// extensions. Its uid 988 is provisional.
//
//go:embed extension
var extensionFiles embed.FS

// Tidemark is our extension, for Merge: asset observations, device measurements and state
// changes with attributes of their own.
func Tidemark() fs.FS {
	sub, err := fs.Sub(extensionFiles, "extension")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

// extension is a folder with extension.json, dictionary.json, categories.json, events and
// objects; all but the first may be lacking.
type extension struct {
	Name    string `json:"name"`
	UID     int64  `json:"uid"`
	Version string `json:"version"`

	facts   *facts // of the core, with what is merged so far
	errs    []error
	parents map[string]*itemFacts // what an object may extend and the export leaves out
}

// part is a class or object of an extension as it is written.
type part struct {
	Name        string                                `json:"name"`
	Caption     string                                `json:"caption"`
	UID         *int64                                `json:"uid"`
	Category    string                                `json:"category"`
	Extends     string                                `json:"extends"`
	Profiles    []string                              `json:"profiles"`
	Deprecated  flag                                  `json:"@deprecated"`
	Attributes  map[string]map[string]json.RawMessage `json:"attributes"`
	Constraints map[string][]string                   `json:"constraints"`

	file string
}

// patches tells whether the part changes what it extends instead of making something new.
func (p *part) patches() bool { return p.Name == "" || p.Name == p.Extends }

// Merge returns the schema with an extension compiled in, as the official compiler does
// it: uids are scoped by that of the extension, attributes get their types from the
// dictionary, times get their _dt siblings, a part without a name of its own patches what
// it extends. An extension with profiles or $include is refused: compile it with
// ocsf-schema-compiler and read the result with ReadSchema. All problems come joined.
func (s *Schema) Merge(dir fs.FS) (*Schema, error) {
	e := extension{facts: &facts{
		Version:  s.facts.Version,
		Profiles: s.facts.Profiles,
		Classes:  copyOf(s.facts.Classes), Objects: copyOf(s.facts.Objects),
	}}
	e.facts.Categories.Attributes = copyOf(s.facts.Categories.Attributes)
	e.facts.Dictionary.Attributes = copyOf(s.facts.Dictionary.Attributes)
	e.facts.Dictionary.Types.Attributes = copyOf(s.facts.Dictionary.Types.Attributes)
	if err := readJSON(dir, "extension.json", &e); err != nil {
		return nil, fmt.Errorf("ocsf extension: %w", err)
	}
	if e.Name == "" || e.Version == "" || e.UID < 1 || e.UID > 999 {
		e.errorf("extension.json: name %q, version %q, uid %d: want a name, a version and a uid from 1 to 999", e.Name, e.Version, e.UID)
	}
	// The hidden object that named things extend; exports hold no hidden ones.
	e.parents = map[string]*itemFacts{"object": {}, "_entity": {
		Attributes: map[string]*attrFacts{
			"name": {Type: "string_t", Requirement: "recommended"},
			"uid":  {Type: "string_t", Requirement: "recommended"},
		},
		Constraints: map[string][]string{"at_least_one": {"name", "uid"}},
	}}
	e.categories(dir)
	e.dictionary(dir)
	e.parts(dir, "objects", e.facts.Objects, nil)
	e.parts(dir, "events", e.facts.Classes, e.classify)
	if _, err := fs.Stat(dir, "profiles"); err == nil {
		e.errorf("profiles: not read here; compile the extension with ocsf-schema-compiler and name its output")
	}
	if err := errors.Join(e.errs...); err != nil {
		return nil, fmt.Errorf("ocsf extension %s: %w", e.Name, err)
	}
	out, err := link(e.facts)
	if err != nil {
		return nil, fmt.Errorf("ocsf extension %s: %w", e.Name, err)
	}
	return out, nil
}

// copyOf is a copy that can be added to, also where an export leaves the part out.
func copyOf[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m))
	maps.Copy(out, m)
	return out
}

func (e *extension) errorf(format string, args ...any) {
	e.errs = append(e.errs, fmt.Errorf(format, args...))
}

func readJSON(dir fs.FS, name string, v any) error {
	b, err := fs.ReadFile(dir, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// optional is readJSON for a file that may be lacking.
func (e *extension) optional(dir fs.FS, name string, v any) {
	if err := readJSON(dir, name, v); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.errs = append(e.errs, err)
	}
}

func (e *extension) categories(dir fs.FS) {
	var own categoryFacts
	e.optional(dir, "categories.json", &own)
	for name, c := range own.Attributes {
		if _, taken := e.facts.Categories.Attributes[name]; taken {
			e.errorf("categories.json: category %q is there already", name)
		}
		e.facts.Categories.Attributes[name] = category{UID: e.UID*100 + c.UID, Caption: c.Caption}
	}
}

func (e *extension) dictionary(dir fs.FS) {
	var own dictionaryFacts
	e.optional(dir, "dictionary.json", &own)
	types := e.facts.Dictionary.Types.Attributes
	for name, t := range own.Types.Attributes {
		if _, taken := types[name]; taken {
			e.errorf("dictionary.json: type %q is there already", name)
		}
		types[name] = t
	}
	for _, name := range slices.Sorted(maps.Keys(own.Attributes)) {
		a := own.Attributes[name]
		if a == nil {
			e.errorf("dictionary.json: attribute %q: null", name)
			continue
		}
		// What is no type of the dictionary is an object.
		if _, ok := types[a.Type]; !ok {
			a.Type, a.ObjectType = "object_t", a.Type
		}
		if core := e.facts.Dictionary.Attributes[name]; core != nil && (core.Type != a.Type || core.ObjectType != a.ObjectType || core.Array != a.Array) {
			e.errorf("dictionary.json: attribute %q is %s in the core", name, core.kind())
		}
		e.facts.Dictionary.Attributes[name] = a
	}
}

// kind is the type in words.
func (a *attrFacts) kind() string {
	s := a.Type
	if a.ObjectType != "" {
		s = "object " + a.ObjectType
	}
	if a.Array {
		s = "a list of " + s
	}
	return s
}

// parts merges the files below a folder: patches first, so that what extends them has
// them, and then each behind what it extends.
func (e *extension) parts(dir fs.FS, folder string, to map[string]*itemFacts, finish func(p *part, it *itemFacts) bool) {
	var all []*part
	err := fs.WalkDir(dir, folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(file) != ".json" {
			return err
		}
		p := &part{file: file}
		if err := readJSON(dir, file, p); err != nil {
			return err
		}
		all = append(all, p)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.errs = append(e.errs, err)
		return
	}
	hidden := copyOf(e.parents)
	find := func(name string) *itemFacts {
		if it := to[name]; it != nil {
			return it
		}
		return hidden[name]
	}
	rest := all[:0:0]
	for _, p := range all {
		if !p.patches() {
			rest = append(rest, p)
			continue
		}
		core := to[p.Extends]
		if core == nil {
			e.errorf("%s: extends %q, which the schema does not have", p.file, p.Extends)
			continue
		}
		to[p.Extends] = e.merge(core, p, true)
	}
	for len(rest) > 0 {
		var waiting []*part
		for _, p := range rest {
			parent := find(p.Extends)
			if p.Extends == "" {
				parent = &itemFacts{}
			}
			if parent == nil {
				waiting = append(waiting, p)
				continue
			}
			if find(p.Name) != nil {
				e.errorf("%s: %q is there already", p.file, p.Name)
				continue
			}
			it := e.merge(parent, p, false)
			if strings.HasPrefix(p.Name, "_") || finish != nil && !finish(p, it) {
				hidden[p.Name] = it
				continue
			}
			to[p.Name] = it
		}
		if len(waiting) == len(rest) {
			for _, p := range waiting {
				e.errorf("%s: extends %q, which neither the schema nor the extension has", p.file, p.Extends)
			}
			return
		}
		rest = waiting
	}
}

// merge returns parent with the attributes of p. Constraints are replaced, not merged.
func (e *extension) merge(parent *itemFacts, p *part, patch bool) *itemFacts {
	it := &itemFacts{Name: p.Name, Caption: p.Caption, CategoryUID: parent.CategoryUID, Deprecated: p.Deprecated,
		Attributes: copyOf(parent.Attributes), Constraints: parent.Constraints}
	if patch {
		it.Name, it.Caption, it.UID, it.Deprecated = parent.Name, parent.Caption, parent.UID, parent.Deprecated || p.Deprecated
	}
	if p.Constraints != nil {
		it.Constraints = p.Constraints
	}
	if len(p.Profiles) > 0 {
		e.errorf("%s: profiles: not read here; compile the extension with ocsf-schema-compiler and name its output", p.file)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Attributes)) {
		inherited := it.Attributes[name]
		a, err := e.attribute(name, inherited, p.Attributes[name], patch)
		if err != nil {
			e.errorf("%s: attribute %q: %w", p.file, name, err)
			continue
		}
		it.Attributes[name] = a
		_, timed := e.facts.Profiles["datetime"]
		if dt := name + "_dt"; a.Type == "timestamp_t" && timed && it.Attributes[dt] == nil {
			it.Attributes[dt] = &attrFacts{Type: "datetime_t", Array: a.Array, Requirement: "optional", Profiles: []string{"datetime"}}
		}
	}
	return it
}

// attribute returns an attribute as it is inherited, or else as the dictionary has it, with
// what the extension says of it.
func (e *extension) attribute(name string, inherited *attrFacts, own map[string]json.RawMessage, patch bool) (*attrFacts, error) {
	if name == "$include" {
		return nil, errors.New("not read here; compile the extension with ocsf-schema-compiler and name its output")
	}
	from := inherited
	if from == nil {
		if from = e.facts.Dictionary.Attributes[name]; from == nil {
			return nil, errors.New("no dictionary has it")
		}
	}
	a := *from
	if a.Requirement == "" {
		a.Requirement = "optional"
	}
	was := a.Requirement
	var values map[string]enumFacts
	for key, to := range map[string]any{"requirement": &a.Requirement, "enum": &values, "sibling": &a.Sibling, "@deprecated": &a.Deprecated} {
		if raw, ok := own[key]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	rank := []string{"optional", "recommended", "required"}
	if patch && inherited != nil && slices.Index(rank, a.Requirement) < slices.Index(rank, was) {
		return nil, fmt.Errorf("requirement %s: the core says %s, which a patch may not lower", a.Requirement, was)
	}
	if values != nil {
		a.Enum = copyOf(a.Enum)
		maps.Copy(a.Enum, values)
	}
	// "profile": null cuts what is inherited: the attribute is always there.
	if raw, ok := own["profile"]; ok {
		var names []string
		var one *string
		if json.Unmarshal(raw, &one) == nil {
			if one != nil {
				names = []string{*one}
			}
		} else if err := json.Unmarshal(raw, &names); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		a.Profiles = names
	}
	return &a, nil
}

// classify gives a class its numbers; false for a hidden one, which has none.
func (e *extension) classify(p *part, it *itemFacts) bool {
	if p.UID == nil {
		return false
	}
	cat, ok := e.facts.Categories.Attributes[p.Category]
	if !ok {
		e.errorf("%s: category %q is not defined", p.file, p.Category)
	}
	if *p.UID < 0 || *p.UID > 999 {
		e.errorf("%s: uid %d: want 0 to 999", p.file, *p.UID)
	}
	if cat.UID >= 100 { // of an extension, whose uid is in it
		it.UID = cat.UID*1000 + *p.UID
	} else {
		it.UID = (e.UID*100+cat.UID)*1000 + *p.UID
	}
	it.CategoryUID = cat.UID
	types := map[string]enumFacts{}
	if activity := it.Attributes["activity_id"]; activity != nil {
		for id, v := range activity.Enum {
			n, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				e.errorf("%s: activity_id %q: want a number", p.file, id)
			}
			types[strconv.FormatInt(it.UID*100+n, 10)] = enumFacts{Caption: p.Caption + ": " + v.Caption, Deprecated: v.Deprecated}
		}
	}
	for name, values := range map[string]map[string]enumFacts{
		"category_uid": {strconv.FormatInt(cat.UID, 10): {Caption: cat.Caption}},
		"class_uid":    {strconv.FormatInt(it.UID, 10): {Caption: p.Caption}},
		"type_uid":     types,
	} {
		if a := it.Attributes[name]; a != nil {
			own := *a
			own.Enum = values
			it.Attributes[name] = &own
		}
	}
	return true
}

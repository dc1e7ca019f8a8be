package ocsf

import (
	"cmp"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

//go:generate go run ./gen

// The tables of the built-in versions, made by gen from the official export of
// ocsf/ocsf-schema (Apache-2.0). They hold facts only: names, types, requirements, enums,
// constraints and profiles.
//
//go:embed tables/*.gz
var builtIn embed.FS

// NewSchema returns a built-in schema, without extensions. It reads the tables of the
// version, which takes some milliseconds: callers keep the result.
func NewSchema(v Version) (*Schema, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	f, err := builtIn.Open("tables/" + string(v) + ".gz")
	if err != nil {
		return nil, fmt.Errorf("ocsf tables: %w", err)
	}
	defer f.Close()
	return readTables(f)
}

// tables are facts with everything that repeats written once: an attribute that many
// classes have, an enum that many attributes have.
type tables struct {
	Version    string
	Profiles   []string
	Categories map[string]category
	Types      map[string]typeFacts
	Enums      [][]string // "id=caption", with a ! before it when the value is deprecated
	Attributes []attrRow
	Classes    []itemRow
	Objects    []itemRow
	Dictionary []int // of Attributes
}

type attrRow struct {
	Name       string   `json:"n"`
	Type       string   `json:"t,omitempty"` // of an object: o:NAME
	Array      bool     `json:"a,omitempty"`
	Require    string   `json:"r,omitempty"`
	Profiles   []string `json:"p,omitempty"`
	Enum       int      `json:"e,omitempty"` // of Enums, from 1
	Sibling    string   `json:"s,omitempty"`
	Deprecated bool     `json:"d,omitempty"`
}

type itemRow struct {
	Name        string              `json:"n"`
	Caption     string              `json:"c,omitempty"` // of a class
	UID         int64               `json:"u,omitempty"`
	Category    int64               `json:"k,omitempty"`
	Deprecated  bool                `json:"d,omitempty"`
	Attributes  []int               `json:"a"`
	Constraints map[string][]string `json:"x,omitempty"`
}

// interner gives equal values the same number, in the order in which they first come.
type interner struct {
	t     *tables
	enums map[string]int
	attrs map[string]int
}

// WriteTables writes the schema in the form of the built-in tables, gzipped: the same
// schema gives the same bytes.
func (s *Schema) WriteTables(w io.Writer) error {
	f := s.facts
	t := tables{Version: f.Version, Profiles: slices.Sorted(maps.Keys(f.Profiles)), Categories: f.Categories.Attributes, Types: f.Dictionary.Types.Attributes}
	in := interner{&t, map[string]int{}, map[string]int{}}
	for _, name := range slices.Sorted(maps.Keys(f.Dictionary.Attributes)) {
		t.Dictionary = append(t.Dictionary, in.attr(name, f.Dictionary.Attributes[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Objects)) {
		t.Objects = append(t.Objects, in.item(name, f.Objects[name], false))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Classes)) {
		t.Classes = append(t.Classes, in.item(name, f.Classes[name], true))
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(t); err != nil {
		return err
	}
	return z.Close()
}

func (in *interner) item(name string, f *itemFacts, class bool) itemRow {
	row := itemRow{Name: name, Deprecated: bool(f.Deprecated), Constraints: f.Constraints, Attributes: []int{}}
	if class {
		row.Caption, row.UID, row.Category = f.Caption, f.UID, f.CategoryUID
	}
	for _, name := range slices.Sorted(maps.Keys(f.Attributes)) {
		row.Attributes = append(row.Attributes, in.attr(name, f.Attributes[name]))
	}
	return row
}

func (in *interner) attr(name string, f *attrFacts) int {
	row := attrRow{Name: name, Type: f.Type, Array: f.Array, Require: f.Requirement, Profiles: f.Profiles,
		Enum: in.enum(f.Enum), Sibling: f.Sibling, Deprecated: bool(f.Deprecated)}
	if f.ObjectType != "" {
		row.Type = "o:" + f.ObjectType
	}
	key := fmt.Sprintf("%+v", row)
	at, ok := in.attrs[key]
	if !ok {
		at = len(in.t.Attributes)
		in.attrs[key] = at
		in.t.Attributes = append(in.t.Attributes, row)
	}
	return at
}

// enum returns the number from 1, 0 for no enum.
func (in *interner) enum(values map[string]enumFacts) int {
	if values == nil {
		return 0
	}
	row := make([]string, 0, len(values))
	keys := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for _, k := range keys {
		text := k + "=" + values[k].Caption
		if values[k].Deprecated {
			text = "!" + text
		}
		row = append(row, text)
	}
	key := strings.Join(row, "\x00")
	at, ok := in.enums[key]
	if !ok {
		in.t.Enums = append(in.t.Enums, row)
		at = len(in.t.Enums)
		in.enums[key] = at
	}
	return at
}

func readTables(r io.Reader) (*Schema, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("ocsf tables: %w", err)
	}
	var t tables
	if err := json.NewDecoder(z).Decode(&t); err != nil {
		return nil, fmt.Errorf("ocsf tables: %w", err)
	}
	f := facts{Version: t.Version, Profiles: map[string]flag{}, Classes: map[string]*itemFacts{}, Objects: map[string]*itemFacts{}}
	f.Categories.Attributes, f.Dictionary.Types.Attributes = t.Categories, t.Types
	for _, p := range t.Profiles {
		f.Profiles[p] = true
	}
	enums := make([]map[string]enumFacts, len(t.Enums)+1) // of 0 there is none
	for i, row := range t.Enums {
		enums[i+1] = make(map[string]enumFacts, len(row))
		for _, text := range row {
			text, deprecated := strings.CutPrefix(text, "!")
			key, caption, _ := strings.Cut(text, "=")
			enums[i+1][key] = enumFacts{caption, flag(deprecated)}
		}
	}
	attrs := make([]attrFacts, len(t.Attributes))
	for i, row := range t.Attributes {
		if row.Enum < 0 || row.Enum >= len(enums) {
			return nil, fmt.Errorf("ocsf tables: attribute %s: enum %d of %d", row.Name, row.Enum, len(enums)-1)
		}
		attrs[i] = attrFacts{Type: row.Type, Array: row.Array, Requirement: row.Require, Profiles: row.Profiles,
			Enum: enums[row.Enum], Sibling: row.Sibling, Deprecated: flag(row.Deprecated)}
		if object, ok := strings.CutPrefix(row.Type, "o:"); ok {
			attrs[i].Type, attrs[i].ObjectType = "object_t", object
		}
	}
	named := func(rows []int) (map[string]*attrFacts, error) {
		out := make(map[string]*attrFacts, len(rows))
		for _, at := range rows {
			if at < 0 || at >= len(attrs) {
				return nil, fmt.Errorf("ocsf tables: attribute %d of %d", at, len(attrs))
			}
			out[t.Attributes[at].Name] = &attrs[at]
		}
		return out, nil
	}
	for _, part := range []struct {
		rows []itemRow
		to   map[string]*itemFacts
	}{{t.Classes, f.Classes}, {t.Objects, f.Objects}} {
		for _, row := range part.rows {
			own, err := named(row.Attributes)
			if err != nil {
				return nil, err
			}
			part.to[row.Name] = &itemFacts{Name: row.Name, Caption: row.Caption, UID: row.UID, CategoryUID: row.Category,
				Deprecated: flag(row.Deprecated), Attributes: own, Constraints: row.Constraints}
		}
	}
	if f.Dictionary.Attributes, err = named(t.Dictionary); err != nil {
		return nil, err
	}
	return link(&f)
}

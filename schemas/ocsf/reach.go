package ocsf

import (
	"errors"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// Reach is what events of a class can hold when a Conformer makes them of records of which
// the paths are known: what a table for them needs.
type Reach struct {
	Paths    []string // dotted, of attributes that are no objects, sorted
	Profiles []string
}

// Reach finds the attributes that a Conformer can fill when records have values at the
// dotted paths (of lists without indexes) and name the profiles. Paths that the class does
// not have are left out: their values go to unmapped.
func (s *Schema) Reach(class int64, paths, profiles []string) (Reach, error) {
	it := s.classes[class]
	if it == nil {
		return Reach{}, errors.New("no such class")
	}
	r := reacher{s: s, class: it, used: map[string]bool{}, paths: map[string]bool{}}
	for _, p := range paths {
		r.used[strings.Split(p, ".")[0]] = true
	}
	for _, p := range profiles {
		r.on |= r.possible(s.profiles[p])
	}
	r.always()
	for _, p := range paths {
		r.path(it, "", strings.Split(p, "."))
	}
	out := Reach{Paths: slices.Sorted(maps.Keys(r.paths))}
	names := slices.Sorted(maps.Keys(s.profiles))
	for on := r.on; on != 0; on &= on - 1 {
		out.Profiles = append(out.Profiles, names[bits.TrailingZeros64(on)])
	}
	return out, nil
}

type reacher struct {
	s     *Schema
	class *item
	used  map[string]bool // members of the class
	paths map[string]bool
	on    uint64
}

// possible returns the profiles whose required attributes are used or can be Unknown.
func (r *reacher) possible(profiles uint64) uint64 {
	for _, at := range r.class.required {
		if a := &r.class.attrs[at]; a.profiles&profiles != 0 && !r.used[a.name] && !a.fillable() {
			profiles &^= a.profiles
		}
	}
	return profiles
}

// always adds what every event has, or may have from its origin.
func (r *reacher) always() {
	for _, p := range []string{"category_uid", "class_uid", "activity_id", "type_uid", "severity_id", "time", "timezone_offset",
		"metadata.version", "metadata.profiles", "metadata.product.name", "metadata.product.vendor_name", "metadata.product.version",
		"metadata.uid", "metadata.log_name", "metadata.log_provider", "metadata.original_time", "metadata.logged_time", "metadata.sequence"} {
		r.path(r.class, "", strings.Split(p, "."))
	}
	r.fills(r.class, "")
}

// fills adds the attributes of an item that can be Unknown.
func (r *reacher) fills(it *item, path string) {
	for _, at := range it.required {
		if a := &it.attrs[at]; a.fillable() && a.active(r.on) {
			r.add(it, path, at)
		}
	}
}

// add adds an attribute and what is written with it.
func (r *reacher) add(it *item, path string, at int32) {
	a := &it.attrs[at]
	r.paths[path+a.name] = true
	for _, with := range []int32{a.sibling, a.captionOf} {
		if with >= 0 && it.attrs[with].active(r.on) {
			r.paths[path+it.attrs[with].name] = true
		}
	}
}

// path adds what a value at a path can fill.
func (r *reacher) path(it *item, path string, parts []string) {
	at, ok := it.index[parts[0]]
	if !ok || it.class && at == r.unmapped() {
		return
	}
	a := &it.attrs[at]
	if !a.active(r.on) {
		need := r.possible(a.profiles & -a.profiles)
		if r.on |= need; need == 0 {
			return
		}
		r.fills(r.class, "")
	}
	switch {
	case a.object == nil:
		r.add(it, path, at) // what is below it is an object where none is due
	case a.object.open():
		r.paths[path+a.name] = true
	case len(parts) == 1:
		r.named(it, path, a)
	default:
		r.fills(a.object, path+a.name+".")
		r.path(a.object, path+a.name+".", parts[1:])
	}
}

// named adds what a text can fill where an object is due.
func (r *reacher) named(it *item, path string, a *attr) {
	if at, ok := a.object.index["name"]; ok && a.object.attrs[at].object == nil {
		r.fills(a.object, path+a.name+".")
		r.add(a.object, path+a.name+".", at)
	}
	if it.name != "actor" {
		return
	}
	at, ok := it.index["app_name"]
	if !ok {
		at, ok = it.index["invoked_by"]
	}
	if ok {
		r.add(it, path, at)
	}
}

func (r *reacher) unmapped() int32 {
	if at, ok := r.class.index["unmapped"]; ok {
		return at
	}
	return -1
}

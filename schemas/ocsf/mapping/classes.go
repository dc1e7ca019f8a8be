package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// Class is a class of the events that Conform makes of a file, with what they can hold: a
// table needs no other columns for them.
type Class struct {
	UID  int64
	Name string
	ocsf.Reach
}

// Classes lists the classes that a file makes events of in Conform, by class_uid. A target
// whose class depends on the event is an error: its table cannot be known.
func (m *Mapping) Classes(s *ocsf.Schema) ([]Class, error) {
	paths, profiles := map[int64][]string{}, map[int64][]string{}
	var errs []error
	for _, value := range slices.Sorted(maps.Keys(m.targets)) {
		t := m.targets[value]
		uid, err := t.class(s)
		if err == nil && uid == fromEvent {
			err = errors.New("schema_mapping.class_uid depends on the event: give each class a target of its own")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: custom_source_events.ocsf_mapping.%s: %w", m.file, value, err))
			continue
		}
		paths[uid] = appendPaths(paths[uid], "", t.attrs)
		profiles[uid] = append(profiles[uid], t.profiles()...)
		if len(t.observables) > 0 {
			paths[uid] = append(paths[uid], "observables.name", "observables.type_id", "observables.value")
		}
	}
	var out []Class
	for _, uid := range slices.Sorted(maps.Keys(paths)) {
		reach, err := s.Reach(uid, paths[uid], profiles[uid])
		errs = append(errs, err)
		out = append(out, Class{uid, s.ClassName(uid), reach})
	}
	return out, errors.Join(errs...)
}

// appendPaths appends the dotted paths of the attributes of a tree.
func appendPaths(paths []string, path string, attrs []attribute) []string {
	for i := range attrs {
		a := &attrs[i]
		paths = appendNodePaths(paths, path+a.text(), a)
	}
	return paths
}

// appendNodePaths appends the paths that a node of a tree can fill.
func appendNodePaths(paths []string, path string, a *attribute) []string {
	switch a.kind {
	case nested:
		return appendPaths(paths, path+".", a.attrs)
	case listed, firstOf, each:
		for i := range a.attrs {
			paths = appendNodePaths(paths, path, &a.attrs[i])
		}
	case enum:
		for _, v := range a.values {
			paths = appendLiteralPaths(paths, path, v)
		}
		paths = appendLiteralPaths(append(paths, path), path, a.other)
	default:
		paths = appendLiteralPaths(append(paths, path), path, a.literal)
	}
	return appendLiteralPaths(paths, path, a.def)
}

// appendLiteralPaths appends the paths inside a value that is copied.
func appendLiteralPaths(paths []string, path string, literal []byte) []string {
	if len(literal) == 0 || literal[0] != '{' && literal[0] != '[' {
		return paths
	}
	var members map[string]json.RawMessage
	var elements []json.RawMessage
	if json.Unmarshal(literal, &members) == nil {
		for _, name := range slices.Sorted(maps.Keys(members)) {
			paths = appendLiteralPaths(append(paths, path+"."+name), path+"."+name, members[name])
		}
	} else if json.Unmarshal(literal, &elements) == nil {
		for _, e := range elements {
			paths = appendLiteralPaths(paths, path, e)
		}
	}
	return paths
}

// text is the name of an attribute.
func (a *attribute) text() string {
	var name string
	if err := json.Unmarshal(bytes.TrimSuffix(a.name, []byte(":")), &name); err != nil {
		panic(fmt.Sprintf("mapping: %s was compiled: %v", a.name, err))
	}
	return name
}

// profiles are those that the tree names.
func (t *target) profiles() []string {
	for i := range t.attrs {
		for j := range t.attrs[i].attrs {
			if a := &t.attrs[i].attrs[j]; string(t.attrs[i].name) == `"metadata":` && string(a.name) == `"profiles":` {
				var list []string
				var one string
				if json.Unmarshal(a.literal, &one) == nil {
					list = strings.Split(one, ",")
				} else if err := json.Unmarshal(a.literal, &list); err != nil {
					return nil
				}
				for k := range list {
					list[k] = strings.TrimSpace(list[k])
				}
				return list
			}
		}
	}
	return nil
}

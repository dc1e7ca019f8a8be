package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/schemas"
)

// A document is a configuration file: its tree, and what is wrong with it so far.
type document struct {
	path     string
	root     *yaml.Node
	problems []problem
}

// problem is one mistake with its place.
type problem struct {
	line, col int
	path      string // of the setting, with dots
	text      string
}

// parseYAML reads one YAML document whose root is a mapping.
func parseYAML(path string, b []byte) (*document, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("%s: is empty; `tidemark demo` leaves a job file to start from, examples/ has more", path)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d:%d: want a mapping of settings", path, root.Line, root.Column)
	}
	return &document{path: path, root: root}, nil
}

// decode fills the struct behind v, strictly: unknown and repeated keys and values of the
// wrong type become problems, each at its place, and secrets are resolved.
func (d *document) decode(v any) { d.value(d.root, reflect.ValueOf(v).Elem(), "") }

// add notes a problem of the setting at path. One that was noted for the same setting, or
// for a part of it, stands for this one as well.
func (d *document) add(n *yaml.Node, path, format string, args ...any) {
	for _, p := range d.problems {
		if p.path == path || strings.HasPrefix(p.path, path+".") || strings.HasPrefix(path, p.path+".") {
			return
		}
	}
	d.problems = append(d.problems, problem{n.Line, n.Column, path, path + ": " + fmt.Sprintf(format, args...)})
}

func (d *document) value(n *yaml.Node, v reflect.Value, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if isSecret(v.Type()) {
		s, err := resolveSecret(n)
		if err != nil {
			d.add(n, path, "%v", err)
			return
		}
		v.SetString(s)
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(newOf(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
	case v.Kind() == reflect.Struct && !implements(v, (*yaml.Unmarshaler)(nil)) && v.Type() != timeType:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, c := range n.Content {
			out.Index(i).Set(newOf(v.Type().Elem()).Elem())
			d.value(c, out.Index(i), fmt.Sprintf("%s.%d", path, i))
		}
		v.Set(out)
	default:
		if err := n.Decode(v.Addr().Interface()); err != nil {
			d.add(n, path, "%s", typeError(err, n, v))
		}
	}
}

// defaulter is a struct that lists start from when the file names them.
type defaulter interface{ setDefaults() }

// newOf makes a value with its defaults set. Structs of other packages have SetDefaults.
func newOf(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	switch d := v.Interface().(type) {
	case defaulter:
		d.setDefaults()
	case interface{ SetDefaults() }:
		d.SetDefaults()
	}
	return v
}

var timeType = reflect.TypeFor[time.Time]()

func implements(v reflect.Value, iface any) bool {
	return reflect.PointerTo(v.Type()).Implements(reflect.TypeOf(iface).Elem())
}

// mapping decodes the keys of a mapping into the fields of a struct.
func (d *document) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		if n.Tag == "!!null" {
			return // a key without a value keeps the defaults
		}
		d.add(n, path, "want a mapping of settings")
		return
	}
	fields := map[string]reflect.Value{}
	collect(v, fields)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		at := join(path, k.Value)
		f, ok := fields[k.Value]
		switch {
		case !ok:
			d.add(k, at, "unknown setting%s", suggest(k.Value, fields))
		case seen[k.Value]:
			d.add(k, at, "given twice")
		default:
			d.value(val, f, at)
		}
		seen[k.Value] = true
	}
}

// collect gathers the settable fields of a struct by their yaml names, inline ones too.
func collect(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			collect(v.Field(i), into)
		case name == "-" || !f.IsExported():
		case name == "":
			into[strings.ToLower(f.Name)] = v.Field(i)
		default:
			into[name] = v.Field(i)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// typeError says what was wanted in the words of the file, not of Go.
func typeError(err error, n *yaml.Node, v reflect.Value) string {
	var te *yaml.TypeError
	if !errors.As(err, &te) && v.Type() != timeType {
		return err.Error()
	}
	want := v.Kind().String()
	switch {
	case v.Type() == timeType:
		want = "a time such as 2026-01-31T14:00:00Z"
	case v.Type() == reflect.TypeFor[time.Duration]():
		want = "a duration such as 30s, 5m or 1h"
	case v.CanInt() || v.CanUint():
		want = "a whole number"
	case v.CanFloat():
		want = "a number"
	case v.Kind() == reflect.Bool:
		want = "true or false"
	case v.Kind() == reflect.Slice:
		want = "a list"
	case v.Kind() == reflect.Map:
		want = "a mapping"
	case v.Kind() == reflect.String:
		want = "text"
	}
	return fmt.Sprintf("%q is not %s", short(n.Value), want)
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

func suggest(key string, fields map[string]reflect.Value) string {
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	best, at := schemas.Nearest(key, names)
	if at <= 1+len(key)/3 {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; known here: " + strings.Join(names, ", ")
}

// node returns the node at a path of keys, or the nearest one above it.
func (d *document) node(path ...string) *yaml.Node {
	n := d.root
	for _, key := range path {
		next := child(n, key)
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		var i int
		if _, err := fmt.Sscanf(key, "%d", &i); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// invalid adds what a section's Validate returned. An error that begins with a key of the
// section is placed there.
func (d *document) invalid(err error, path ...string) {
	if err == nil {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			d.invalid(e, path...)
		}
		return
	}
	text := err.Error()
	word := text[:len(text)-len(strings.TrimLeft(text, "abcdefghijklmnopqrstuvwxyz_0123456789"))]
	at := d.node(path...)
	for _, key := range []string{word, word + "s"} {
		if c := child(at, key); c != nil {
			text = strings.TrimPrefix(strings.TrimPrefix(text, key), ": ")
			d.add(c, strings.Join(append(slices.Clone(path), key), "."), "%s", strings.TrimSpace(text))
			return
		}
	}
	d.problems = append(d.problems, problem{at.Line, at.Column, "", strings.Join(path, ".") + ": " + text})
}

// err returns every problem, one a line, in the order of the file; nil when there is none.
func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b problem) int { return (a.line-b.line)*10000 + a.col - b.col })
	var lines []string
	for _, p := range d.problems {
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", d.path, p.line, p.col, p.text))
	}
	return &configError{lines}
}

// configError is a file with mistakes; the program exits with 78 (EX_CONFIG).
type configError struct{ lines []string }

func (e *configError) Error() string { return strings.Join(e.lines, "\n") }

// isSecret tells whether a type holds a secret: a string type of that name.
func isSecret(t reflect.Type) bool { return t.Kind() == reflect.String && t.Name() == "Secret" }

var secretRef = regexp.MustCompile(`^\$\{(env|file):([^}]+)\}$`)

// resolveSecret reads a secret from where the file says. It never stands in the file.
func resolveSecret(n *yaml.Node) (string, error) {
	ref := secretRef.FindStringSubmatch(n.Value)
	if n.Kind != yaml.ScalarNode || ref == nil {
		return "", errors.New("a secret does not stand in the file: write ${env:NAME} or ${file:PATH}")
	}
	if ref[1] == "env" {
		s, ok := os.LookupEnv(ref[2])
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", ref[2])
		}
		return s, nil
	}
	b, err := os.ReadFile(ref[2])
	if err != nil {
		return "", fmt.Errorf("secret file: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

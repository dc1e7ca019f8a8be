package ocsf

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// RandomEvent draws an event of a class and returns it with the paths of its values. All
// profiles are switched on. Below depth only what is required is there.
func (s *Schema) RandomEvent(rnd *rand.Rand, class int64, depth int) (event []byte, paths []string) {
	d := drawing{rnd: rnd, paths: map[string]bool{}}
	d.object(s.classes[class], "", depth, false)
	for p := range d.paths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return d.out, paths
}

// AllProfiles lists the profiles of the schema.
func (s *Schema) AllProfiles() []string {
	var out []string
	for name := range s.profiles {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

type drawing struct {
	rnd   *rand.Rand
	out   []byte
	paths map[string]bool
}

// object draws an object; an element of a list has a value at least, so that it has a path.
func (d *drawing) object(it *item, path string, depth int, element bool) {
	d.out = append(d.out, '{')
	first := true
	order := d.rnd.Perm(len(it.attrs))
	scalar := slices.IndexFunc(order, func(at int) bool { return it.attrs[at].object == nil })
	for i, at := range order {
		a := &it.attrs[at]
		forced := element && i == max(scalar, 0)
		if a.requirement != required && !forced && (depth <= 0 || d.rnd.IntN(len(it.attrs)) > 6) {
			continue
		}
		if !first {
			d.out = append(d.out, ',', ' ')
		}
		first = false
		d.out = append(strconv.AppendQuote(d.out, a.name), ':')
		d.attr(it, a, path, depth)
	}
	d.out = append(d.out, '}')
}

func (d *drawing) attr(it *item, a *attr, path string, depth int) {
	if path != "" {
		path += "."
	}
	path += a.name
	switch {
	case it.class && a.name == "class_uid":
		d.out = strconv.AppendInt(d.out, it.uid, 10)
		return
	case it.class && a.name == unmappedName:
		d.out = append(d.out, `{"a":{"b":7,"c":[1,{"d":null}]},"e":"x\"y"}`...)
		return
	case a.object == nil || a.object.open():
		d.paths[path] = true
	}
	if !a.array {
		d.value(it, a, path, depth)
		return
	}
	d.out = append(d.out, '[')
	n := d.rnd.IntN(4)
	if a.object != nil && !a.object.open() && n == 0 {
		n = 1 // without elements there would be no path
	}
	for i := range n {
		if i > 0 {
			d.out = append(d.out, ',')
		}
		d.value(it, a, path, depth)
	}
	d.out = append(d.out, ']')
}

func (d *drawing) value(it *item, a *attr, path string, depth int) {
	if a.object != nil && !a.object.open() {
		d.object(a.object, path, depth-1, a.array)
		return
	}
	switch kindOf(it, a) {
	case ofBool:
		d.out = strconv.AppendBool(d.out, d.rnd.IntN(2) == 0)
	case ofInt32:
		d.out = strconv.AppendInt(d.out, int64(int32(d.rnd.Uint32())), 10)
	case ofInt64:
		d.out = strconv.AppendInt(d.out, int64(d.rnd.Uint64())>>d.rnd.IntN(64), 10)
	case ofFloat:
		f := math.Float64frombits(d.rnd.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			f = 0.5
		}
		d.out = strconv.AppendFloat(d.out, f, 'e', -1, 64)
	case ofTime:
		t := time.UnixMilli(d.rnd.Int64N(4e12)).UTC()
		d.out = append(t.AppendFormat(append(d.out, '"'), "2006-01-02T15:04:05.999Z07:00"), '"')
	case ofJSON:
		d.out = append(d.out, []string{`{"a":[1,2.50,"x"],"b":{"c":null}}`, `"text \u00e9"`, `-1e3`, `[]`, `true`}[d.rnd.IntN(5)]...)
	default:
		text := make([]rune, d.rnd.IntN(12))
		for i := range text {
			text[i] = []rune("ab\"\\/\n\x00\x7fé€😀\u2028")[d.rnd.IntN(12)]
		}
		quoted, err := json.Marshal(string(text))
		if err != nil {
			panic(fmt.Sprint(text, err))
		}
		d.out = append(d.out, quoted...)
	}
}

// SameTree compares the tree of the event that a Conformer made with a parse of the event, node
// by node, and tells whether the Conformer had one.
func SameTree(c *Conformer, event []byte) (had bool, err error) {
	var want document
	if err := want.parse(event); err != nil {
		return false, err
	}
	if !c.tree.link(c.out) {
		return false, nil
	}
	got := slices.Clone(c.tree.nodes)
	for i := range got {
		n, base := &got[i], int32(c.base)
		n.attr = -1 // checked below
		n.text = [2]int32{n.text[0] - base, n.text[1] - base}
		if n.name != [2]int32{} {
			n.name = [2]int32{n.name[0] - base, n.name[1] - base}
		}
	}
	if c.tree.schema == c.schema {
		if err := sameAttrs(&c.tree.document, c.plan.class, 0); err != nil {
			return true, err
		}
	}
	for i := range min(len(got), len(want.nodes)) {
		if got[i] != want.nodes[i] {
			return true, fmt.Errorf("node %d: got %+v, want %+v", i, got[i], want.nodes[i])
		}
	}
	if len(got) != len(want.nodes) {
		return true, fmt.Errorf("%d nodes, want %d", len(got), len(want.nodes))
	}
	return true, nil
}

// sameAttrs compares the attributes that nodes are known to be with their names.
func sameAttrs(d *document, it *item, n int32) error {
	for c := d.nodes[n].first; c != 0; c = d.nodes[c].next {
		known := d.nodes[c].attr
		at := it.names.find(d.name(&d.nodes[c]))
		if known >= 0 && known != at {
			return fmt.Errorf("node %d, %s, is attribute %d, want %d", c, d.name(&d.nodes[c]), known, at)
		}
		if at < 0 || it.attrs[at].object == nil {
			continue
		}
		children := []int32{c}
		if d.nodes[c].kind == '[' {
			children = nil
			for e := d.nodes[c].first; e != 0; e = d.nodes[e].next {
				children = append(children, e)
			}
		}
		for _, e := range children {
			if d.nodes[e].attr >= 0 && e != c {
				return fmt.Errorf("element %d is attribute %d", e, d.nodes[e].attr)
			}
			if err := sameAttrs(d, it.attrs[at].object, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Misattribute makes the last member whose attribute is known another one.
func Misattribute(c *Conformer) {
	for i := len(c.tree.nodes) - 1; i > 0; i-- {
		if n := &c.tree.nodes[i]; n.attr >= 0 {
			n.attr++
			return
		}
	}
}

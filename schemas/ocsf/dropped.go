package ocsf

import (
	"fmt"
	"strconv"
	"strings"
)

// Dropped returns the paths of the numbers and texts of source, a JSON object, that appear
// nowhere in event: what the mapping lost or rewrote. A value appears if some number or
// text of the event is the same number or text, under whatever name. The error says which
// of the two is no JSON object (ErrNotJSON).
func Dropped(source, event []byte) ([]string, error) {
	var from, to document
	if err := from.parse(source); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if err := to.parse(event); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	there := map[string]bool{}
	for i := range to.nodes {
		if k := to.nodes[i].kind; k == '"' || k == '0' {
			there[sameText(to.text(&to.nodes[i]))] = true
		}
	}
	return from.absent(nil, 0, "", there), nil
}

// absent appends the paths of values below n that are not there.
func (d *document) absent(out []string, n int32, path string, there map[string]bool) []string {
	i := 0
	for c := d.nodes[n].first; c != 0; c = d.nodes[c].next {
		at := path + "[" + strconv.Itoa(i) + "]"
		if d.nodes[n].kind == '{' {
			at = strings.TrimPrefix(path+"."+string(d.name(&d.nodes[c])), ".")
		}
		i++
		switch d.nodes[c].kind {
		case '{', '[':
			out = d.absent(out, c, at, there)
		case '"', '0':
			if !there[sameText(d.text(&d.nodes[c]))] {
				out = append(out, at)
			}
		}
	}
	return out
}

// sameText writes numbers that are the same in the same way, also where one of them has
// become text, as in unmapped: 24 and 24.0. Digits alone are kept, however many.
func sameText(b []byte) string {
	s := string(b)
	if !strings.ContainsAny(s, ".eE") {
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

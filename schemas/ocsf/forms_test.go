package ocsf

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestForms: what a form takes, its regular expression matches. The built-in schemas know
// them, so that a change of an expression is noticed.
func TestForms(t *testing.T) {
	s, err := NewSchema(V130)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]*valueType{}
	for _, c := range s.classes {
		collect(c, types, map[*item]bool{})
	}
	words := map[string][]string{
		"ip_t":       {"0", "1", "9", "10", "192", "249", "255", "256", "00", ".", ".", ".", ":", ":", "::", "a", "FFFF", "12345", "%", " "},
		"mac_t":      {"00:", "aB-", "F9:", "7c", "-", "g"},
		"hostname_t": {"a", "Z9", "-", ".", "www", "example", "_", "0"},
	}
	for name, parts := range words {
		typ := types[name]
		if typ == nil || typ.form == nil {
			t.Fatalf("%s has no form: its expression has changed", name)
		}
		r := rand.New(rand.NewPCG(1, 2))
		taken := 0
		for range 200_000 {
			var b strings.Builder
			for range r.IntN(17) {
				b.WriteString(parts[r.IntN(len(parts))])
			}
			if text := []byte(b.String()); typ.form(text) {
				if taken++; !typ.regex.Match(text) {
					t.Fatalf("%s: %q is taken, and does not match", name, text)
				}
			}
		}
		if taken < 20 {
			t.Errorf("%s: %d texts taken", name, taken)
		}
	}
	for _, text := range []string{"192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8:0:1:2:3:4:5", "::", "::1", "fe80::1", "1:2:3:4:5:6:7::"} {
		if !isIP([]byte(text)) {
			t.Errorf("%s is not taken", text)
		}
	}
	if !isMAC([]byte("C4:7f:51-0a:9E:21")) || !isHostname([]byte("a-1.example.com")) {
		t.Error("a common form is not taken")
	}
	// An expression that is not known has no form, so nothing is taken for it.
	if formOf("^x$") != nil {
		t.Error("a form for any expression")
	}
}

// collect gathers the types of an item and of the objects in it.
func collect(it *item, types map[string]*valueType, seen map[*item]bool) {
	if seen[it] {
		return
	}
	seen[it] = true
	for _, a := range it.attrs {
		if a.typ != nil {
			types[a.typ.name] = a.typ
		} else if a.object != nil {
			collect(a.object, types, seen)
		}
	}
}

// TestNameTable: it finds what the index has and nothing else.
func TestNameTable(t *testing.T) {
	s, err := NewSchema(V180)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.classes {
		for name, at := range c.index {
			if got := c.names.find([]byte(name)); got != at {
				t.Fatalf("%s.%s: got %d, want %d", c.name, name, got, at)
			}
			for _, other := range []string{name + "x", name[1:], "", strings.ToUpper(name), name[:len(name)-1] + "é"} {
				want, ok := c.index[other]
				if !ok {
					want = -1
				}
				if got := c.names.find([]byte(other)); got != want {
					t.Fatalf("%s.%q: got %d, want %d", c.name, other, got, want)
				}
			}
		}
	}
}

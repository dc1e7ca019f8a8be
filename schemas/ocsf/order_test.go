package ocsf

import (
	"cmp"
	"testing"
)

// The order of versions is that of semver.org, section 11.
func TestVersionOrder(t *testing.T) {
	order := []string{"0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1-dev", "1.2.0", "1.10.0", "2.0.0"}
	var vs []semver
	for _, s := range order {
		v, ok := parseSemver(s)
		if !ok {
			t.Fatal(s)
		}
		vs = append(vs, v)
	}
	for i, a := range vs {
		for j, b := range vs {
			if got, want := a.compare(b), cmp.Compare(i, j); got != want {
				t.Errorf("%s and %s: %d, want %d", order[i], order[j], got, want)
			}
		}
	}
}

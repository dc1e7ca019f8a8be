package ocsf_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// TestGolden runs the sets of golden cases of this package. The name of a case is
// TestGolden/SET/NAME. A set that is absent is a failure.
func TestGolden(t *testing.T) {
	for _, set := range []struct {
		name string
		run  func(t *testing.T, file string)
	}{
		{"ocsf-mapping", goldenMapping},
		{"ocsf-validation", goldenValidation},
	} {
		t.Run(set.name, func(t *testing.T) { set.run(t, pipelinetest.Golden(t, set.name+".json")) })
	}
}

// goldenFinding is a finding as the cases have it.
type goldenFinding struct {
	Error   string `json:"error"`
	Warning string `json:"warning"`
	Path    string `json:"path"`
}

func goldenValidation(t *testing.T, file string) {
	var golden struct {
		Format string `json:"format"`
		Note   string `json:"note"`
		Cases  []struct {
			Name    string          `json:"name"`
			Version ocsf.Version    `json:"schema_version"`
			Why     string          `json:"why"`
			Event   json.RawMessage `json:"event"`
			Expect  struct {
				Errors   []goldenFinding `json:"errors"`
				Warnings []goldenFinding `json:"warnings"`
			} `json:"expect"`
		} `json:"cases"`
	}
	pipelinetest.Strict(t, file, &golden)
	if golden.Format != "tidemark-ocsf-validation-cases/1" || len(golden.Cases) == 0 {
		t.Fatalf("format %q, %d cases", golden.Format, len(golden.Cases))
	}
	built := builtIn(t)
	for _, c := range golden.Cases {
		t.Run(c.Name, func(t *testing.T) {
			s := built[c.Version]
			if s == nil {
				t.Fatalf("schema_version %s is not built in", c.Version)
			}
			got, err := s.Validate(c.Event)
			if err != nil {
				t.Fatal(err)
			}
			sameFindings(t, "errors", findings(got.Errors), goldenSet(c.Expect.Errors))
			sameFindings(t, "warnings", findings(got.Warnings), goldenSet(c.Expect.Warnings))
		})
	}
}

// builtIn are the built-in schemas.
func builtIn(t testing.TB) map[ocsf.Version]*ocsf.Schema {
	t.Helper()
	out := map[ocsf.Version]*ocsf.Schema{}
	for _, v := range ocsf.Versions() {
		s, err := ocsf.NewSchema(v)
		if err != nil {
			t.Fatal(err)
		}
		out[v] = s
	}
	return out
}

// findings are codes with their paths, as a sorted set.
func findings(fs []ocsf.Finding) []string {
	out := []string{}
	for _, f := range fs {
		out = append(out, fmt.Sprintf("%s at %q", f.Code, f.Path))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func goldenSet(fs []goldenFinding) []string {
	var out []ocsf.Finding
	for _, f := range fs {
		out = append(out, ocsf.Finding{Code: f.Error + f.Warning, Path: f.Path})
	}
	return findings(out)
}

func sameFindings(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s\n got %q\nwant %q", what, got, want)
	}
}

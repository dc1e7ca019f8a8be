package ocsf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// samples calls f with every sample event of the shared folder and a validator of its
// schema, our extension merged in.
func samples(t *testing.T, f func(t *testing.T, v *ocsf.Validator, event []byte)) {
	samplesAndSchemas(t, func(t *testing.T, s *ocsf.Schema, event []byte) { f(t, s.Validator(), event) })
}

func samplesAndSchemas(t *testing.T, f func(t *testing.T, s *ocsf.Schema, event []byte)) {
	dir := pipelinetest.Shared(t, "ocsf/samples")
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) < 60 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	core := builtIn(t)
	full := map[ocsf.Version]*ocsf.Schema{}
	for v, s := range core {
		if full[v], err = s.Merge(ocsf.Tidemark()); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// ble_window.core.1.3.0.json
			dialect := filepath.Ext(name[:len(name)-len(".1.3.0.json")])
			of := core
			if dialect == ".ext" {
				of = full
			}
			version := ocsf.Version(name[len(name)-len("1.3.0.json") : len(name)-len(".json")])
			f(t, of[version], raw)
		})
	}
}

// Every sample is valid, and nothing about it is odd.
func TestSamplesAreValid(t *testing.T) {
	samples(t, func(t *testing.T, v *ocsf.Validator, event []byte) {
		got, err := v.Validate(event)
		if err != nil || len(got.Errors)+len(got.Warnings) > 0 {
			t.Errorf("%v %+v", err, got)
		}
	})
}

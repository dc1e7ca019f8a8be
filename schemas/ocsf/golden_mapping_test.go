package ocsf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
)

// mappingCase is a golden case of mapping files.
type mappingCase struct {
	Name         string               `json:"name"`
	Tags         []string             `json:"tags"`
	Why          string               `json:"why"`
	Transport    string               `json:"transport"`
	Mapping      json.RawMessage      `json:"mapping"`
	MappingRef   string               `json:"mapping_ref"`
	Source       string               `json:"source"`
	Preprocessor mapping.Preprocessor `json:"preprocessor"`
	Event        json.RawMessage      `json:"event"`
	Raw          *string              `json:"raw"`
	Expect       struct {
		Result       string          `json:"result"`
		Reason       *mapping.Reason `json:"reason"`
		Source       *string         `json:"source"`
		TargetSchema *string         `json:"target_schema"`
		EventDay     *string         `json:"eventday"`
		Record       json.RawMessage `json:"record"`
	} `json:"expect"`
}

func goldenMapping(t *testing.T, file string) {
	var golden struct {
		Format string        `json:"format"`
		Cases  []mappingCase `json:"cases"`
	}
	pipelinetest.Strict(t, file, &golden)
	if golden.Format != "tidemark-mapping-cases/1" || len(golden.Cases) == 0 {
		t.Fatalf("format %q, %d cases", golden.Format, len(golden.Cases))
	}
	for _, c := range golden.Cases {
		t.Run(c.Name, func(t *testing.T) { c.run(t) })
	}
}

func (c *mappingCase) run(t *testing.T) {
	got, u := c.mapped(t)
	want := &c.Expect
	switch want.Result {
	case "unmapped":
		if u == nil {
			t.Fatalf("mapped to %s", got.Record)
		}
		t.Log(u)
		same(t, "reason", u.Reason, want.Reason)
		return
	case "mapped":
		if u != nil {
			t.Fatalf("%s: %v", u.Reason, u)
		}
	default:
		t.Fatalf("expect.result %q", want.Result)
	}
	same(t, "source", got.Source, want.Source)
	same(t, "target_schema", got.Schema, want.TargetSchema)
	same(t, "eventday", got.EventDay, want.EventDay)
	if want.Record == nil {
		return
	}
	if diff := differs("", exact(t, got.Record), exact(t, want.Record)); diff != "" {
		t.Errorf("record: %s\n got %s", diff, got.Record)
	}
}

// mapped sends the event of a case through its transport.
func (c *mappingCase) mapped(t *testing.T) (mapping.Mapped, *mapping.Unmapped) {
	file, text := c.Name, []byte(c.Mapping)
	if c.MappingRef != "" {
		var err error
		file = c.MappingRef
		text, err = os.ReadFile(filepath.Join(pipelinetest.Shared(t, path.Join("ocsf", "aws-mappings")), file))
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := mapping.CompileLenient(file, text)
	if err != nil {
		t.Fatal(err)
	}
	cfg := mapping.DefaultConfig(m)
	cfg.Preprocessor = c.Preprocessor
	if c.Source != "" {
		cfg.Source = c.Source
	}
	if c.Transport != "kinesis" {
		cfg.SourceField = ""
	}
	mapper, err := mapping.NewMapper(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(c.Event)
	if c.Raw != nil {
		payload = []byte(*c.Raw)
	}
	switch c.Transport {
	case "event":
		return mapper.Event(payload)
	case "s3":
		return mapper.Line(payload)
	case "kinesis", "event-envelope-message":
		return mapper.Envelope(payload)
	}
	t.Fatalf("transport %q", c.Transport)
	return mapping.Mapped{}, nil
}

// same compares a member of expect, if it is there.
func same[T comparable](t *testing.T, what string, got T, want *T) {
	t.Helper()
	if want != nil && got != *want {
		t.Errorf("%s: got %v, want %v", what, got, *want)
	}
}

// exact reads JSON and keeps the spelling of numbers.
func exact(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// differs returns the first difference of two JSON values, empty for none. Members may be
// in any order, numbers spelled in any way.
func differs(at string, got, want any) string {
	different := fmt.Sprintf("%s: got %#v, want %#v", at, got, want)
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return different
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				return fmt.Sprintf("%s.%s: not wanted", at, name)
			}
		}
		for name, w := range want {
			g, ok := got[name]
			if !ok {
				return fmt.Sprintf("%s.%s: missing", at, name)
			}
			if diff := differs(at+"."+name, g, w); diff != "" {
				return diff
			}
		}
		return ""
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return different
		}
		for i := range want {
			if diff := differs(fmt.Sprintf("%s[%d]", at, i), got[i], want[i]); diff != "" {
				return diff
			}
		}
		return ""
	case json.Number:
		got, ok := got.(json.Number)
		if !ok {
			return different
		}
		g, _ := strconv.ParseFloat(string(got), 64)
		w, _ := strconv.ParseFloat(string(want), 64)
		if got == want || g == w {
			return ""
		}
		return different
	}
	if got != want {
		return different
	}
	return ""
}

package ocsf_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// valve is an extension with all that Merge knows: a category, a type, objects that extend
// each other in the wrong order, a hidden class, a patch of a core class and one of a core
// object.
func valve() fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"extension.json":  `{"name":"valve","uid":990,"version":"1.0.0"}`,
		"categories.json": `{"attributes":{"plant":{"uid":1,"caption":"Plant"}}}`,
		"dictionary.json": `{"attributes":{"opening":{"type":"share_t"},"valve":{"type":"big_valve"},"opened_time":{"type":"timestamp_t"},
			"mode_id":{"type":"integer_t","sibling":"mode","enum":{"1":{"caption":"Manual"}}},"mode":{"type":"string_t"}},
			"types":{"attributes":{"share_t":{"type":"integer_t","range":[0,100]}}}}`,
		"objects/a_big_valve.json": `{"name":"big_valve","extends":"valve","attributes":{"opening":{"requirement":"required"}},"constraints":{"just_one":["uid","opening"]}}`,
		"objects/valve.json":       `{"name":"valve","extends":"_entity","attributes":{"opened_time":{"requirement":"optional"}}}`,
		"objects/patch.json":       `{"extends":"location","attributes":{"opening":{"requirement":"optional"}}}`,
		"events/base.json":         `{"name":"plant","extends":"base_event","category":"plant","attributes":{"mode_id":{"requirement":"required","enum":{"2":{"caption":"Automatic"}}},"mode":{}}}`,
		"events/valve.json": `{"name":"valve_activity","caption":"Valve Activity","uid":7,"extends":"plant","category":"plant",
			"attributes":{"activity_id":{"enum":{"1":{"caption":"Open"}}},"valve":{"requirement":"required"},"device":{"profile":null,"requirement":"required"}}}`,
		"events/patch.json": `{"extends":"inventory_info","attributes":{"opening":{"requirement":"required"}}}`,
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func TestMerge(t *testing.T) {
	core := builtIn(t)[ocsf.V180]
	s, err := core.Merge(valve())
	if err != nil {
		t.Fatal(err)
	}
	const head = `"class_uid":99001007,"category_uid":99001,"category_name":"Plant","class_name":"Valve Activity","activity_id":1,"activity_name":"Open",
		"type_uid":9900100701,"type_name":"Valve Activity: Open","severity_id":1,"time":1,"metadata":{"version":"1.8.0","product":{"name":"x"}},"device":{"uid":"a","type_id":7}`
	for _, c := range []struct{ event, errors, warnings string }{
		{`"mode_id":1,"mode":"Manual","valve":{"opening":100}`, ``, ``},
		{`"mode_id":2,"mode":"Manual","valve":{"opening":101,"opened_time":1}`, `attribute_value_exceeds_range at "valve.opening"`, `attribute_enum_sibling_incorrect at "mode"`},
		{`"mode_id":3,"valve":{"opening":1,"uid":"v","opened_time_dt":"2024-01-01T00:00:00Z"}`,
			`attribute_enum_value_unknown at "mode_id"|attribute_unknown at "valve.opened_time_dt"|constraint_failed at "valve"`, ``},
		{`"valve":{"name":"v"}`, `attribute_required_missing at "mode_id"|attribute_required_missing at "valve.opening"|constraint_failed at "valve"`, ``},
		{`"mode_id":1,"valve":{"opening":1},"observables":[{"name":"valve.opening","type_id":99}]`, ``, ``},
	} {
		got, err := s.Validate([]byte("{" + head + "," + c.event + "}"))
		if es, ws := strings.Join(findings(got.Errors), "|"), strings.Join(findings(got.Warnings), "|"); err != nil || es != c.errors || ws != c.warnings {
			t.Errorf("%s: %v\nerrors   %s\nwant     %s\nwarnings %s\nwant     %s", c.event, err, es, c.errors, ws, c.warnings)
		}
	}
	// The patches change the core classes of the new schema, and not those of the old one.
	patched := []byte(`{"class_uid":5001,"category_uid":5,"activity_id":2,"type_uid":500102,"severity_id":1,"time":1,"metadata":{"version":"1.8.0","product":{"name":"x"}},
		"opening":1,"device":{"uid":"a","type_id":7,"location":{"country":"NL","opening":5}}}`)
	if got, err := s.Validate(patched); err != nil || len(got.Errors) > 0 {
		t.Errorf("patched: %v %v", err, got.Errors)
	}
	got, err := core.Validate(patched)
	if want := `attribute_unknown at "device.location.opening"|attribute_unknown at "opening"`; err != nil || strings.Join(findings(got.Errors), "|") != want {
		t.Errorf("core: %v %v", err, got.Errors)
	}
	// Two extensions, one behind the other.
	if both, err := s.Merge(ocsf.Tidemark()); err != nil || len(both.Classes()) != len(core.Classes())+4 {
		t.Errorf("both: %v", err)
	}
}

func TestMergeRefuses(t *testing.T) {
	core := builtIn(t)[ocsf.V110]
	for _, c := range []struct{ file, text, want string }{
		{"extension.json", ``, "extension.json"},
		{"extension.json", `{"name":"valve","uid":0,"version":"1"}`, "uid 0"},
		{"extension.json", `{"name":"valve","uid":990}`, `version ""`},
		{"categories.json", `{"attributes":{"system":{"uid":1}}}`, `category "system" is there already`},
		{"dictionary.json", `{"attributes":{"device":{"type":"string_t"}}}`, `attribute "device" is object device in the core`},
		{"dictionary.json", `{"attributes":{"opening":null}}`, `"opening": null`},
		{"dictionary.json", `{"types":{"attributes":{"ip_t":{}}}}`, `type "ip_t" is there already`},
		{"objects/valve.json", `{"name":"valve","extends":"_resource"}`, `extends "_resource"`},
		{"objects/valve.json", `{"name":"valve","extends":"big_valve"}`, `a_big_valve.json: extends "valve"`},
		{"objects/valve.json", `{"name":"valve","extends":"_entity","attributes":{"openings":{}}}`, `"openings": no dictionary has it`},
		{"objects/valve.json", `{"name":"device","extends":"_entity"}`, `"device" is there already`},
		{"objects/patch.json", `{"extends":"locution"}`, `extends "locution"`},
		{"objects/patch.json", `{"extends":"metadata","attributes":{"version":{"requirement":"optional"}}}`, "may not lower"},
		{"events/valve.json", `{"name":"v","uid":1,"extends":"base_event","category":"none"}`, `category "none"`},
		{"events/valve.json", `{"name":"v","uid":1000,"extends":"base_event","category":"plant"}`, "uid 1000"},
		{"events/valve.json", `{"name":"v","uid":1,"extends":"base_event","category":"plant","profiles":["x"]}`, "ocsf-schema-compiler"},
		{"events/valve.json", `{"name":"v","uid":1,"extends":"base_event","category":"plant","attributes":{"$include":{}}}`, "ocsf-schema-compiler"},
		{"events/valve.json", `{"name":"v","uid":1,"extends":"base_event","category":"plant","attributes":{"mode_id":{"profile":"none"}}}`, `profile "none" is not defined`},
		{"events/valve.json", `{"name":"v","uid":1,"extends":"base_event","category":"plant","attributes":{"mode_id":{"requirement":5}}}`, "requirement: "},
		{"profiles/p.json", `{}`, "ocsf-schema-compiler"},
	} {
		files := valve()
		files[c.file] = &fstest.MapFile{Data: []byte(c.text)}
		if _, err := core.Merge(files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.file, c.text, err, c.want)
		}
	}
	if _, err := core.Merge(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), fs.ErrNotExist.Error()) {
		t.Errorf("an empty folder: %v", err)
	}
	s, err := core.Merge(valve())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Merge(valve()); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("twice: %v", err)
	}
}

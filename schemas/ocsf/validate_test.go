package ocsf_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// smallSchema is a schema whose types and enums have what no class of the samples uses.
const smallSchema = `{"version":"2.0.0","profiles":{"p":{},"q":{}},
"dictionary":{"attributes":{},"types":{"attributes":{
 "string_t":{"max_len":5,"regex":"^[a-z]*$"},"integer_t":{"range":[-100,100]},"float_t":{"values":[0.5,1.5]},"boolean_t":{"values":[false,true]},
 "json_t":{},"long_t":{},"word_t":{"type":"string_t"},"small_t":{"type":"integer_t"},"half_t":{"type":"float_t"},"one_t":{"type":"string_t","values":["one"]}}}},
"objects":{"object":{"name":"object","attributes":{}},"pair":{"name":"pair","@deprecated":{"since":"1.0.0"},"constraints":{"just_one":["a","b"]},
 "attributes":{"a":{"type":"integer_t","requirement":"optional"},"b":{"type":"json_t","requirement":"recommended","@deprecated":{}}}}},
"classes":{"c":{"name":"c","uid":1,"attributes":{
 "class_uid":{"type":"integer_t","requirement":"required"},
 "word":{"type":"word_t"},"small":{"type":"small_t"},"half":{"type":"half_t"},"one":{"type":"one_t"},"yes":{"type":"boolean_t"},
 "pair":{"type":"object_t","object_type":"pair"},"pairs":{"type":"object_t","object_type":"pair","is_array":true},
 "flags":{"type":"string_t","is_array":true},
 "flag_ids":{"type":"integer_t","is_array":true,"sibling":"flags","enum":{"1":{"caption":"a"},"2":{"caption":"b","@deprecated":{}},"99":{"caption":"other"}}},
 "level":{"type":"string_t"},
 "level_id":{"type":"integer_t","sibling":"level","enum":{"0":{"caption":"low"},"1":{"caption":"high","@deprecated":{}},"99":{"caption":"other"}}},
 "verb":{"type":"string_t","enum":{"get":{"caption":"Get"},"true":{"caption":"True"}}},
 "both":{"type":"json_t","requirement":"required","profiles":["p","q"]},
 "metadata":{"type":"object_t","object_type":"object"}}}}}`

func TestRules(t *testing.T) {
	s, err := ocsf.ReadSchema(strings.NewReader(smallSchema))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ event, errors, warnings string }{
		{``, ``, ``},
		{`"word":"abcde"`, ``, ``},
		{`"word":"abcdef"`, `attribute_value_exceeds_super_type_max_len at "word"`, ``},
		{`"word":"\u00e9\u00e9\u00e9\u00e9\u00e9"`, ``, `attribute_value_super_type_regex_not_matched at "word"`},
		{`"level":"abcdef"`, `attribute_value_exceeds_max_len at "level"`, ``},
		{`"level":"ABC"`, ``, `attribute_value_regex_not_matched at "level"`},
		{`"small":101`, `attribute_value_exceeds_super_type_range at "small"`, ``},
		{`"small":-100`, ``, ``},
		{`"small":3e0`, `attribute_wrong_type at "small"`, ``},
		{`"half":0.5`, ``, ``},
		{`"half":5e-1`, ``, ``},
		{`"half":0.6`, `attribute_value_not_in_super_type_values at "half"`, ``},
		{`"half":1`, `attribute_wrong_type at "half"`, ``},
		{`"half":1e400`, `attribute_wrong_type at "half"`, ``},
		{`"one":"one"`, ``, ``},
		{`"one":"two"`, `attribute_value_not_in_type_values at "one"`, ``},
		{`"yes":true`, ``, ``},
		{`"yes":"true"`, `attribute_wrong_type at "yes"`, ``},
		{`"pair":{"a":1}`, ``, `object_deprecated at "pair"`},
		{`"pair":{"a":null}`, ``, `object_deprecated at "pair"`},
		{`"pair":{"a":1,"b":[1]}`, `constraint_failed at "pair"`, `attribute_deprecated at "pair.b"|object_deprecated at "pair"`},
		{`"pair":{}`, `constraint_failed at "pair"`, `object_deprecated at "pair"`},
		{`"pairs":[{"a":"x"},null,{"a":1,"z":1}]`, `attribute_unknown at "pairs[2].z"|attribute_wrong_type at "pairs[0].a"|attribute_wrong_type at "pairs[1]"`,
			`object_deprecated at "pairs[0]"|object_deprecated at "pairs[2]"`},
		{`"pairs":{}`, `attribute_wrong_type at "pairs"`, ``},
		{`"flag_ids":[1,99],"flags":["a","mine"]`, ``, ``},
		{`"flag_ids":[1,2]`, ``, `attribute_enum_array_value_deprecated at "flag_ids[1]"`},
		{`"flag_ids":[1,3],"flags":["b"]`, `attribute_enum_array_sibling_incorrect at "flags[0]"|attribute_enum_array_value_unknown at "flag_ids[1]"`, ``},
		{`"flag_ids":[1,1],"flags":["a"]`, `attribute_enum_array_sibling_missing at "flags[1]"`, ``},
		{`"flag_ids":null`, ``, ``},
		{`"flag_ids":1`, `attribute_wrong_type at "flag_ids"`, ``},
		{`"level_id":0,"level":"low"`, ``, ``},
		{`"level_id":1,"level":"low"`, ``, `attribute_enum_sibling_incorrect at "level"|attribute_enum_value_deprecated at "level_id"`},
		{`"level_id":99,"level":"mine"`, ``, ``},
		{`"level_id":99,"level":"other"`, ``, `attribute_enum_sibling_suspicious_other at "level"`},
		{`"level_id":"0","level":"low"`, `attribute_wrong_type at "level_id"`, ``},
		{`"level_id":[0]`, `attribute_enum_value_unknown at "level_id"|attribute_wrong_type at "level_id"`, ``},
		{`"verb":"get"`, ``, ``},
		{`"verb":"g\u0065t"`, ``, ``},
		{`"verb":"put"`, `attribute_enum_value_unknown at "verb"`, ``},
		{`"verb":true`, `attribute_wrong_type at "verb"`, ``},
		{`"v\u0065rb":"put"`, `attribute_enum_value_unknown at "verb"`, ``},
		{`"verb":"put","verb":"get"`, `attribute_duplicate at "verb"`, ``},
		{`"both":1`, `attribute_unknown at "both"`, ``},
		{`"metadata":{"profiles":["q"]},"both":1`, ``, ``},
		{`"both":1,"metadata":{"profiles":["p",3,null]}`, ``, ``},
		{`"metadata":{"profiles":["p"]}`, `attribute_required_missing at "both"`, ``},
		{`"metadata":{"profiles":"p"}`, ``, ``},
		{`"metadata":{"version":"2.0.0-rc.1"}`, `version_incompatible_prerelease at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0.0+build"}`, ``, ``},
		{`"metadata":{"version":"2.0.1-dev"}`, `version_incompatible_later at "metadata.version"`, ``},
		{`"metadata":{"version":"10.0.0"}`, `version_incompatible_later at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0.0-rc.10"}`, `version_incompatible_prerelease at "metadata.version"`, ``},
		{`"metadata":{"version":"1.10.0"}`, ``, `version_earlier at "metadata.version"`},
		{`"metadata":{"version":"0.1.0-rc.1"}`, `version_incompatible_initial_development at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0"}`, `version_invalid_format at "metadata.version"`, ``},
		{`"metadata":{"version":"02.0.0"}`, `version_invalid_format at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0.0-"}`, `version_invalid_format at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0.0-a..b"}`, `version_invalid_format at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0.0-é"}`, `version_invalid_format at "metadata.version"`, ``},
		{`"metadata":{"version":"2.0.0+"}`, `version_invalid_format at "metadata.version"`, ``},
		{`"metadata":{"version":2}`, ``, ``},
		{`"nothing":{"deep":1}`, `attribute_unknown at "nothing"`, ``},
	} {
		event := `{"class_uid":1` + strings.TrimRight(","+c.event, ",") + `}`
		got, err := s.Validate([]byte(event))
		if err != nil {
			t.Errorf("%s: %v", event, err)
			continue
		}
		if es, ws := strings.Join(findings(got.Errors), "|"), strings.Join(findings(got.Warnings), "|"); es != c.errors || ws != c.warnings {
			t.Errorf("%s\nerrors   %s\nwant     %s\nwarnings %s\nwant     %s", event, es, c.errors, ws, c.warnings)
		}
	}
	for event, want := range map[string]string{
		`{}`:                                 `attribute_required_missing at "class_uid"`,
		`{"class_uid":null}`:                 `attribute_wrong_type at "class_uid"`,
		`{"class_uid":1.0,"word":7}`:         `attribute_wrong_type at "class_uid"`,
		`{"class_uid":2,"word":7}`:           `class_uid_unknown at "class_uid"`,
		`{"class_uid":1,"class_uid":2}`:      `class_uid_unknown at "class_uid"`,
		`{"class_uid":92233720368547758080}`: `attribute_wrong_type at "class_uid"`,
	} {
		got, err := s.Validate([]byte(event))
		if err != nil || strings.Join(findings(got.Errors), "|") != want {
			t.Errorf("%s: %v %v", event, err, got.Errors)
		}
	}
	v := s.Validator()
	v.Recommended = true
	if got, err := v.Validate([]byte(`{"class_uid":1,"pair":{"a":1}}`)); err != nil || strings.Join(findings(got.Warnings), "|") != `attribute_recommended_missing at "pair.b"|object_deprecated at "pair"` {
		t.Errorf("recommended: %v %v", err, got.Warnings)
	}
}

func TestUnmappedRatio(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	for event, want := range map[string][2]int{
		`{}`:                             {0, 0},
		`{"a":1,"b":[1,{"c":null}]}`:     {3, 0},
		`{"unmapped":{"a":1,"b":[2,3]}}`: {3, 3},
		`{"x":1,"unmapped":{"a":{"b":"c"}},"y":{"unmapped":{"z":1}}}`: {3, 1},
		`{"unmapped":"text","x":1}`:                                   {2, 1},
	} {
		got, err := s.Validate([]byte(event))
		if err != nil || got.Values != want[0] || got.Unmapped != want[1] {
			t.Errorf("%s: %v, %d values, %d of them unmapped; want %v", event, err, got.Values, got.Unmapped, want)
		}
	}
}

func TestNoJSON(t *testing.T) {
	v := builtIn(t)[ocsf.V130].Validator()
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for _, event := range []string{"", " ", "[]", "1", "null", `"{}"`, "{", "{}{}", "{} x", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a":01}`, `{"a":+1}`,
		`{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":-}`, `{"a":tru}`, `{"a":truee}`, `{"a":[1,]}`, `{"a":[1}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\ud800"}`, `{"a":"\udc00"}`,
		`{"a":"\ud800\u0041"}`, "{\"a\":\"\xff\"}", "{\"a\":\"\n\"}", `{"a":"`, `{"a":"\`, "\ufeff{}", deep(129), strings.Repeat(`{"a":`, 100_000)} {
		if got, err := v.Validate([]byte(event)); !errors.Is(err, ocsf.ErrNotJSON) || len(got.Errors) > 0 {
			t.Errorf("%.40q: %v, %v", event, err, got.Errors)
		}
	}
	for _, event := range []string{"{}", " { } \n", `{"a":"\ud83d\ude00\n\/"}`, `{"a":[[],{},-0,1e5,1.5E-3,true,false,null,"é"]}`, deep(128)} {
		if _, err := v.Validate([]byte(event)); err != nil {
			t.Errorf("%.40q: %v", event, err)
		}
	}
}

func TestReadSchemaRefuses(t *testing.T) {
	for change, want := range map[[2]string]string{
		{`"version":"2.0.0"`, `"version":"two"`}:                                          `version "two"`,
		{`"classes":{`, `"others":{`}:                                                     "no classes",
		{`"object_type":"pair"}`, `"object_type":"pear"}`}:                                `c.pair: object "pear" is not defined`,
		{`"word":{"type":"word_t"}`, `"word":{"type":"ward_t"}`}:                          `c.word: type "ward_t" is not defined`,
		{`"regex":"^[a-z]*$"`, `"regex":"("`}:                                             "type string_t: error parsing regexp",
		{`"range":[-100,100]`, `"range":[100,-100]`}:                                      "type integer_t: range",
		{`"profiles":["p","q"]`, `"profiles":["r"]`}:                                      `c.both: profile "r" is not defined`,
		{`"just_one"`, `"just_two"`}:                                                      `constraint "just_two"`,
		{`"word_t":{"type":"string_t"}`, `"word_t":{"type":"text_t"}`}:                    `its base "text_t"`,
		{`"requirement":"recommended"`, `"requirement":"wanted"`}:                         `requirement "wanted"`,
		{`"classes":{`, `"classes":{"d":{"name":"d","uid":1,"attributes":{}},`}:           "class_uid 1 is",
		{`"classes":{`, `"classes":{"d":null,`}:                                           "d: null",
		{`"pair":{"name"`, `"nil":{"name":"nil","attributes":{"x":null}},"pair":{"name"`}: "nil.x: null",
		{`{"version"`, `{{"version"`}:                                                     "invalid character",
	} {
		text := strings.Replace(smallSchema, change[0], change[1], 1)
		if text == smallSchema {
			t.Errorf("%q is not in the schema", change[0])
		}
		if _, err := ocsf.ReadSchema(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change[1], err, want)
		}
	}
}

// The built-in tables are the facts of the exports: made again they are the same, and a
// schema read from an export judges as the tables do.
func TestTablesAreTheExports(t *testing.T) {
	dir := pipelinetest.Shared(t, "ocsf/compiled")
	for v, s := range builtIn(t) {
		file, err := os.Open(filepath.Join(dir, "ocsf-"+string(v)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		export, err := ocsf.ReadSchema(file)
		if err != nil {
			t.Fatal(err)
		}
		var a, b bytes.Buffer
		if err := errors.Join(export.WriteTables(&a), s.WriteTables(&b)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: the tables are not those of the export; run go generate ./schemas/ocsf", v)
		}
		if a.Len() > 100<<10 || len(s.Classes()) < 50 {
			t.Errorf("%s: %d bytes, %d classes", v, a.Len(), len(s.Classes()))
		}
	}
	if _, err := ocsf.NewSchema("1.2.0"); err == nil {
		t.Error("1.2.0 is built in")
	}
}

// TestPaths: a finding has the path of its value, whatever lies before it.
func TestPaths(t *testing.T) {
	event := `{"class_uid":4001,"":1,"metadata":{"":1,"labels":["a",1,"b",2],"loggers":[{"name":1},{"name":"x","device":{"":{},"x.y":2}},{"name":2}],"labels":[3]},
		"observables":[{"name":7},{"name":"x"},{"x":[1,[2]],"name":8}]}`
	got, err := builtIn(t)[ocsf.V130].Validate([]byte(event))
	var paths []string
	for _, f := range got.Errors {
		if f.Code != "attribute_required_missing" && f.Code != "constraint_failed" {
			paths = append(paths, f.Path)
		}
	}
	want := []string{"", "metadata.", "metadata.labels", "metadata.loggers[0].name", "metadata.loggers[1].device.", "metadata.loggers[1].device.x.y", "metadata.loggers[2].name",
		"metadata.labels[0]", "observables[0].name", "observables[2].x", "observables[2].name", "observables[1].name"}
	if err != nil || !slices.Equal(paths, want) {
		t.Errorf("%v\n got %q\nwant %q", err, paths, want)
	}
}

// A report is bounded, and says what it leaves out.
func TestManyFindings(t *testing.T) {
	s, err := ocsf.ReadSchema(strings.NewReader(smallSchema))
	if err != nil {
		t.Fatal(err)
	}
	event := `{"class_uid":1,"pairs":[` + strings.Repeat(`{"a":1,"b":1},`, 3000) + `{"a":1}]}`
	got, err := s.Validate([]byte(event))
	// 3000 constraints fail, 3001 objects and 3000 attributes are deprecated.
	if err != nil || len(got.Errors) != 1000 || len(got.Warnings) != 1000 || got.Omitted != 2000+5001 {
		t.Errorf("%v, %d errors, %d warnings, %d omitted", err, len(got.Errors), len(got.Warnings), got.Omitted)
	}
}

// A schema that is read can be used, written and merged with, whatever it is.
func FuzzReadSchema(f *testing.F) {
	f.Add([]byte(smallSchema), []byte(`{"class_uid":1,"pairs":[{"a":"x"},null],"flag_ids":[1,3],"flags":["b"]}`))
	f.Add([]byte(`{"version":"1.0.0","classes":{"":{"attributes":{}}},"dictionary":{"types":{"attributes":{"string_t":{}}}}}`), []byte(`{"class_uid":0}`))
	f.Fuzz(func(t *testing.T, export, event []byte) {
		s, err := ocsf.ReadSchema(bytes.NewReader(export))
		if err != nil {
			return
		}
		got, err := s.Validate(event)
		first := fmt.Sprint(got, err)
		if err := s.WriteTables(io.Discard); err != nil {
			t.Error(err)
		}
		_, _ = s.Merge(ocsf.Tidemark()) // may well fail, and changes nothing
		got, err = s.Validate(event)
		if second := fmt.Sprint(got, err); first != second {
			t.Errorf("the schema changed\n%s\n%s", first, second)
		}
	})
}

func FuzzValidate(f *testing.F) {
	small, err := ocsf.ReadSchema(strings.NewReader(smallSchema))
	if err != nil {
		f.Fatal(err)
	}
	v := []*ocsf.Validator{small.Validator()}
	for _, s := range builtIn(f) {
		v = append(v, s.Validator())
	}
	for _, name := range []string{"ble_window.core.1.3.0", "pdu_window.core.1.1.0", "traffic_window.core.1.8.0"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "samples", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"class_uid":1,"flag_ids":[1,3],"flags":["b"],"pairs":[{"a":"x"},null]}`))
	f.Add([]byte(`{"class_uid":1,"metadata":{"profiles":["p"],"version":"1.0.0-rc.2"},"verb":"\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		for _, v := range v {
			kept := bytes.Clone(event)
			got, err := v.Validate(event)
			first := fmt.Sprint(got, err)
			if !bytes.Equal(kept, event) {
				t.Fatal("the event was changed")
			}
			if got.Unmapped > got.Values {
				t.Errorf("%d of %d values are unmapped", got.Unmapped, got.Values)
			}
			again, err := v.Validate(event)
			if second := fmt.Sprint(again, err); first != second {
				t.Errorf("the second time differs\n%s\n%s", first, second)
			}
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	for _, name := range []string{"ble_window.core.1.3.0", "traffic_window.core.1.8.0"} {
		b.Run(name, func(b *testing.B) {
			raw, err := os.ReadFile(filepath.Join("testdata", "samples", name+".json"))
			if err != nil {
				b.Fatal(err)
			}
			v := builtIn(b)[ocsf.Version(name[len(name)-5:])].Validator()
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				got, err := v.Validate(raw)
				if err != nil || len(got.Errors) > 0 {
					b.Fatal(err, got.Errors)
				}
			}
		})
	}
}

func BenchmarkNewSchema(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ocsf.NewSchema(ocsf.V180); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDropped(t *testing.T) {
	source := `{"a":{"mac":"aa","seq":18446744073709551616},"v":[24,1.5,0.1],"t":"lost","on":true,"n":null,"x":7,"e":2e1}`
	event := `{"device":{"mac":"aa"},"unmapped":{"seq":"18446744073709551616","v":"24.0","w":1.50,"e":20}}`
	got, err := ocsf.Dropped([]byte(source), []byte(event))
	if want := "v[2] t x"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v %v, want %s", got, err, want)
	}
	for _, c := range [][2]string{{"[]", "{}"}, {"{}", "[]"}} {
		if _, err := ocsf.Dropped([]byte(c[0]), []byte(c[1])); !errors.Is(err, ocsf.ErrNotJSON) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// With several schemas the version that the event names decides.
func TestSeveralSchemas(t *testing.T) {
	built := builtIn(t)
	v := ocsf.NewValidator(built[ocsf.V180], built[ocsf.V110], built[ocsf.V130])
	for _, version := range ocsf.Versions() {
		raw, err := os.ReadFile(filepath.Join("testdata", "samples", "pdu_window.core."+string(version)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Validate(raw); err != nil || len(got.Errors)+len(got.Warnings) > 0 {
			t.Errorf("%s: %v %v", version, err, got)
		}
		got, err := v.Validate(bytes.Replace(raw, []byte(`"version": "`+string(version)), []byte(`"version": "1.2.0`), 1))
		if err != nil || len(got.Warnings) == 0 || got.Warnings[len(got.Warnings)-1].Code != "version_earlier" {
			t.Errorf("%s as 1.2.0: %v %v", version, err, got)
		}
	}
}

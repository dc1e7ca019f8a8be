package ocsf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// tree reads an event with its numbers as they are written.
func tree(t testing.TB, event []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	out := map[string]any{}
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// place is a value in an event that the schema looks at: the container, how to change it
// there, and the path that a finding has.
type place struct {
	path  string
	value any
	set   func(v any)
	drop  func() // nil in an array
}

// places lists the values of an object, those in it first. What has no schema (unmapped,
// the data of evidences) is left out.
func places(o map[string]any, path string) []place {
	var out []place
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if name == "unmapped" || name == "data" {
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		switch v := o[name].(type) {
		case map[string]any:
			out = append(out, places(v, at)...)
		case []any:
			for i, el := range v {
				here := fmt.Sprintf("%s[%d]", at, i)
				if in, ok := el.(map[string]any); ok {
					out = append(out, places(in, here)...)
				}
				out = append(out, place{here, el, func(x any) { v[i] = x }, nil})
			}
		}
		out = append(out, place{at, o[name], func(v any) { o[name] = v }, func() { delete(o, name) }})
	}
	return out
}

// mutant is a change of an event and the finding that it must lead to.
type mutant struct {
	name string
	// change changes the event and returns false when it has no place there.
	change func(o map[string]any) bool
	want   ocsf.Finding
}

// onMember is a change of one top-level member.
func onMember(name string, v any) func(map[string]any) bool {
	return func(o map[string]any) bool {
		_, ok := o[name]
		o[name] = v
		return ok
	}
}

func inObject(names ...string) func(o map[string]any) map[string]any {
	return func(o map[string]any) map[string]any {
		for _, n := range names {
			o, _ = o[n].(map[string]any)
		}
		return o
	}
}

// mutants lists the changes of one kind each. Those of every place come from everywhere.
func mutants(version ocsf.Version) []mutant {
	find := func(code, path string) ocsf.Finding { return ocsf.Finding{Code: code, Path: path} }
	later := strings.Replace(string(version), "1.", "9.", 1)
	setVersion := func(v string) func(map[string]any) bool {
		return func(o map[string]any) bool {
			inObject("metadata")(o)["version"] = v
			return true
		}
	}
	out := []mutant{
		{"class removed", func(o map[string]any) bool { delete(o, "class_uid"); return true }, find("attribute_required_missing", "class_uid")},
		{"class as text", onMember("class_uid", "5001"), find("attribute_wrong_type", "class_uid")},
		{"class unknown", onMember("class_uid", 5999), find("class_uid_unknown", "class_uid")},
		{"enum unknown", onMember("severity_id", 77), find("attribute_enum_value_unknown", "severity_id")},
		{"enum null", onMember("severity_id", nil), find("attribute_enum_value_unknown", "severity_id")},
		{"required null", onMember("severity_id", nil), find("attribute_required_missing", "severity_id")},
		{"activity unknown", onMember("activity_id", 77), find("attribute_enum_value_unknown", "activity_id")},
		{"type_uid off", onMember("type_uid", json.Number("500100")), find("type_uid_incorrect", "type_uid")},
		{"caption wrong", onMember("severity", "Mild"), find("attribute_enum_sibling_incorrect", "severity")},
		{"caption null", onMember("severity", nil), find("attribute_enum_sibling_incorrect", "severity")},
		{"Other beside 99", func(o map[string]any) bool { o["severity_id"], o["severity"] = 99, "Other"; return true },
			find("attribute_enum_sibling_suspicious_other", "severity")},
		{"profile unknown", func(o map[string]any) bool {
			inObject("metadata")(o)["profiles"] = []any{"host", "hots"}
			return true
		}, find("profile_unknown", "metadata.profiles[1]")},
		{"profile forgotten", func(o map[string]any) bool {
			_, named := inObject("metadata")(o)["profiles"]
			delete(inObject("metadata")(o), "profiles")
			return named && o["device"] != nil && version != ocsf.V180 // where findings have it always
		}, find("attribute_unknown", "device")},
		{"profile requires", func(o map[string]any) bool {
			inObject("metadata")(o)["profiles"] = []any{"cloud"}
			return o["class_uid"] == json.Number("5001")
		}, find("attribute_required_missing", "cloud")},
		{"text that is too long", func(o map[string]any) bool {
			o["message"] = strings.Repeat("é", 65536)
			return version != ocsf.V180 // 1.8.0 has no limit
		}, find("attribute_value_exceeds_max_len", "message")},
		{"device without a name", func(o map[string]any) bool {
			d := inObject("device")(o)
			if d == nil {
				return false
			}
			for _, n := range []string{"uid", "name", "hostname", "ip", "instance_uid"} {
				delete(d, n)
			}
			return true
		}, find("constraint_failed", "device")},
		{"endpoint without a name", func(o map[string]any) bool {
			ok := inObject("dst_endpoint")(o) != nil
			o["dst_endpoint"] = map[string]any{"location": map[string]any{"country": "NL"}}
			return ok
		}, find("constraint_failed", "dst_endpoint")},
		{"port out of range", func(o map[string]any) bool {
			d := inObject("dst_endpoint")(o)
			if d != nil {
				d["port"] = 65536
			}
			return d != nil
		}, find("attribute_value_exceeds_range", "dst_endpoint.port")},
		{"no address", func(o map[string]any) bool {
			d := inObject("device")(o)
			if d != nil {
				d["ip"] = "10.0.0.256"
			}
			return d != nil
		}, find("attribute_value_regex_not_matched", "device.ip")},
		{"observable without place", func(o map[string]any) bool {
			list, _ := o["observables"].([]any)
			if len(list) > 0 {
				list[0].(map[string]any)["name"] = "device.uidd"
			}
			return len(list) > 0
		}, find("observable_name_invalid_reference", "observables[0].name")},
		{"evidence empty", func(o map[string]any) bool {
			_, ok := o["evidences"]
			o["evidences"] = []any{map[string]any{}}
			return ok
		}, find("constraint_failed", "evidences[0]")},
		{"version later", setVersion(later), find("version_incompatible_later", "metadata.version")},
		{"version earlier", setVersion("1.0.0"), find("version_earlier", "metadata.version")},
		{"version early prerelease", setVersion("1.0.0-rc.2"), find("version_incompatible_prerelease", "metadata.version")},
		{"version of this prerelease", setVersion(string(version) + "-dev"), find("version_incompatible_prerelease", "metadata.version")},
		{"version initial", setVersion("0.9.0"), find("version_incompatible_initial_development", "metadata.version")},
		{"version with v", setVersion("v" + string(version)), find("version_invalid_format", "metadata.version")},
		{"integer beyond 64 bits", onMember("count", json.Number("9223372036854775808")), find("attribute_wrong_type", "count")},
		{"long beyond 128 bits", onMember("time", json.Number("170141183460469231731687303715884105728")), find("attribute_wrong_type", "time")},
	}
	return out
}

// everywhere lists the changes of every value of an event.
func everywhere(t *testing.T, event []byte) []mutant {
	var out []mutant
	for i, p := range places(tree(t, event), "") {
		at := func(f func(p place)) func(map[string]any) bool {
			return func(o map[string]any) bool { f(places(o, "")[i]); return true }
		}
		add := func(name string, code, path string, f func(p place)) {
			out = append(out, mutant{name, at(f), ocsf.Finding{Code: code, Path: path}})
		}
		if p.path == "class_uid" { // has mutants of its own: nothing is checked without a class
			continue
		}
		wrong := map[string]any{"object": map[string]any{"x": 1}, "array": []any{[]any{}}, "bool": true, "text": "x", "float": json.Number("1.5")}
		switch v := p.value.(type) {
		case map[string]any:
			delete(wrong, "object")
			add("unknown member", "attribute_unknown", p.path+".no_such", func(p place) { p.value.(map[string]any)["no_such"] = 1 })
		case []any:
			delete(wrong, "array")
		case bool:
			delete(wrong, "bool")
		case string:
			delete(wrong, "text")
		case json.Number:
			if strings.Contains(v.String(), ".") {
				delete(wrong, "float")
				add("float as integer", "attribute_wrong_type", p.path, func(p place) { p.set(json.Number("24")) })
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(wrong)) {
			add("wrong type "+kind, "attribute_wrong_type", p.path, func(p place) { p.set(wrong[kind]) })
		}
		if p.drop == nil {
			add("null in an array", "attribute_wrong_type", p.path, func(p place) { p.set(nil) })
		}
	}
	for _, name := range []string{"activity_id", "category_uid", "metadata", "severity_id", "time", "type_uid", "metadata.version", "metadata.product"} {
		out = append(out, mutant{"drop required", func(o map[string]any) bool { drop(t, o, name); return true },
			ocsf.Finding{Code: "attribute_required_missing", Path: name}})
	}
	return append(out, mutant{"unknown member", onAny("no_such", 1), ocsf.Finding{Code: "attribute_unknown", Path: "no_such"}})
}

func onAny(name string, v any) func(map[string]any) bool {
	return func(o map[string]any) bool { o[name] = v; return true }
}

func has(r ocsf.Report, want ocsf.Finding) bool {
	same := func(f ocsf.Finding) bool { return f.Code == want.Code && f.Path == want.Path }
	return slices.ContainsFunc(r.Errors, same) || slices.ContainsFunc(r.Warnings, same)
}

// Every change of every sample is caught, with the code and at the place that is due, and
// the sample without it does not have that finding.
func TestMutants(t *testing.T) {
	caught := map[string]int{}
	samples(t, func(t *testing.T, v *ocsf.Validator, event []byte) {
		version := ocsf.Version(inObject("metadata")(tree(t, event))["version"].(string))
		good, err := v.Validate(encode(t, tree(t, event)))
		if err != nil || len(good.Errors)+len(good.Warnings) > 0 {
			t.Fatalf("the sample itself: %v %+v", err, good)
		}
		for _, m := range append(mutants(version), everywhere(t, event)...) {
			o := tree(t, event)
			if !m.change(o) {
				continue
			}
			got, err := v.Validate(encode(t, o))
			if err != nil || !has(got, m.want) {
				t.Errorf("%s: %v, want %s at %q\nerrors %v\nwarnings %v", m.name, err, m.want.Code, m.want.Path, findings(got.Errors), findings(got.Warnings))
			}
			for _, f := range append(got.Errors, got.Warnings...) {
				if f.Message == "" {
					t.Errorf("%s: %s without a message", m.name, f.Code)
				}
			}
			caught[m.name]++
		}
	})
	for _, m := range mutants(ocsf.V130) {
		if caught[m.name] == 0 && len(caught) > 0 {
			t.Errorf("%s: no sample has a place for it", m.name)
		}
	}
	total := 0
	for _, n := range caught {
		total += n
	}
	t.Logf("%d mutants of %d kinds caught", total, len(caught))
}

// Changes that break nothing are not reported.
func TestHarmlessChanges(t *testing.T) {
	for _, c := range []mutant{
		{name: "none", change: func(map[string]any) bool { return true }},
		{name: "anything in unmapped", change: onAny("unmapped", map[string]any{"a": []any{nil, 1, map[string]any{"b": 1.5}}, "": true})},
		{name: "a time of 127 bits", change: onAny("start_time", json.Number("170141183460469231731687303715884105727"))},
		{name: "the smallest long", change: onAny("start_time", json.Number("-170141183460469231731687303715884105728"))},
		{name: "the largest integer", change: onAny("count", json.Number("9223372036854775807"))},
		{name: "optional null", change: onAny("message", nil)},
		{name: "an own word beside 99", change: func(o map[string]any) bool {
			o["severity_id"], o["severity"] = 99, "mild"
			return true
		}},
		{name: "minus zero is zero", change: onAny("timezone_offset", json.Number("-0"))},
		{name: "a profile", change: func(o map[string]any) bool {
			m := inObject("metadata")(o)
			profiles, _ := m["profiles"].([]any)
			m["profiles"] = append(profiles, "datetime")
			o["time_dt"] = "2023-10-04T07:30:10.250Z"
			return true
		}},
		{name: "observables with indexes", change: func(o map[string]any) bool {
			typ := o["observables"]
			list, _ := typ.([]any)
			if len(list) == 0 {
				return false
			}
			for _, path := range []string{"observables[0].name", "observables[].value", "metadata.product.name"} {
				entry := maps.Clone(list[0].(map[string]any))
				entry["name"] = path
				list = append(list, entry)
			}
			o["observables"] = list
			return true
		}},
	} {
		samples(t, func(t *testing.T, v *ocsf.Validator, event []byte) {
			o := tree(t, event)
			if !c.change(o) {
				return
			}
			got, err := v.Validate(encode(t, o))
			if err != nil || len(got.Errors)+len(got.Warnings) > 0 {
				t.Errorf("%s: %v\nerrors %v\nwarnings %v", c.name, err, findings(got.Errors), findings(got.Warnings))
			}
		})
	}
}

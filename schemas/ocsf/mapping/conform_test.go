package mapping_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
)

func schema(t testing.TB, v ocsf.Version) *ocsf.Schema {
	t.Helper()
	s, err := ocsf.NewSchema(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// native is a Mapper of a file for Conform.
func native(t testing.TB, text []byte, change func(*mapping.Config)) *mapping.Mapper {
	t.Helper()
	m, err := mapping.CompileConform("demo.json", text)
	if err != nil {
		t.Fatal(err)
	}
	cfg := mapping.DefaultConfig(m)
	if cfg.Mode = mapping.Conform; change != nil {
		change(&cfg)
	}
	if cfg.Schema == nil {
		cfg.Schema = schema(t, ocsf.V130)
	}
	out, err := mapping.NewMapper(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// base is a file whose tree gives all that an event of class 5001 needs, and more members.
func base(more string) []byte {
	return fmt.Appendf(nil, `{"custom_source_events": {"source_name": "demo", "matched_field": "$.kind", "timestamp": {"field": "$.ts", "format": "epoch"},
		"ocsf_mapping": {"k": {"schema": "inventory_info", "schema_mapping": {"class_uid": 5001, "activity_id": 2, "severity_id": 1, "time": "$.ts",
		"metadata": {"product": {"name": "p", "vendor_name": "v"}, "labels": "$.no"}, "device": {"type_id": 7, "uid": "$.id"}%s}}}}}`, more)
}

// member returns a value of an event by its dotted path, "absent" for none.
func member(t *testing.T, event []byte, path string) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	for part := range strings.SplitSeq(path, "/") {
		o, _ := v.(map[string]any)
		var ok bool
		if v, ok = o[part]; !ok {
			return "absent"
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRules: what a rule makes of an event, in an attribute that takes anything
// (enrichments.data) or that has a type.
func TestRules(t *testing.T) {
	s := schema(t, ocsf.V130)
	const event = `{"kind":"k","ts":1700000000,"id":"x","n":7,"s":"7","hex":"1b","h2":"0X1B","f":"2.50","yes":"On","empty":"","null":null,
		"at":"04/10/2023","list":[{"a":1},{"a":null},{"a":3,"b":[{"c":4}]}],"one":{"a":9},"deep":{"x":{"y":"z"}},"big":9007199254740993,"bool":true,"quote":"it's"}`
	for _, c := range []struct{ rule, want string }{
		{`"$.n"`, `7`}, {`"$.s"`, `"7"`}, {`"$.big"`, `9007199254740993`}, {`"$.deep"`, `{"x":{"y":"z"}}`}, {`"$.f"`, `"2.50"`},
		{`{"get": "$.s"}`, `"7"`}, {`{"get": "$.no"}`, `absent`}, {`{"get": "$.s.x"}`, `absent`}, {`{"get": "$.null", "default": [1]}`, `[1]`},
		{`{"get": "$.s", "cast": "int"}`, `7`}, {`{"get": "$.hex", "cast": "hex"}`, `27`}, {`{"get": "$.h2", "cast": "hex"}`, `27`}, {`{"get": "$.n", "cast": "hex"}`, `7`},
		{`{"get": "$.f", "cast": "float"}`, `2.5`}, {`{"get": "$.n", "cast": "float"}`, `7.0`}, {`{"get": "$.yes", "cast": "bool"}`, `true`}, {`{"get": "$.n", "cast": "text"}`, `"7"`},
		{`{"get": "$.bool", "cast": "text"}`, `"true"`}, {`{"get": "$.at", "cast": "timestamp:%d/%m/%Y"}`, `1696377600000`}, {`{"get": "$.ts", "cast": "timestamp:epoch"}`, `1700000000000`},
		{`{"get": "$.hex", "cast": "int"}`, `"1b"`}, {`{"get": "$.at", "cast": "hex", "default": 1}`, `"04/10/2023"`}, {`{"get": "$.deep", "cast": "int"}`, `{"x":{"y":"z"}}`},
		{`{"get": "$.no", "cast": "int", "default": "none"}`, `"none"`},
		{`{"const": "$.n"}`, `"$.n"`}, {`{"const": {"get": 1}}`, `{"get":1}`}, {`{"const": 5, "when": "$.n = 8"}`, `absent`}, {`{"const": 5, "when": "$.n = 7"}`, `5`},
		{`{"first_of": ["$.no", "$.null", "$.empty", "$.s"]}`, `"7"`}, {`{"first_of": ["$.no"], "default": 0}`, `0`}, {`{"first_of": ["$.no", {"get": "$.s", "cast": "int"}]}`, `7`},
		{`{"first_of": [{"const": 1, "when": "$.n = '8'"}, {"const": 2, "when": "$.n = '7'"}, {"const": 3}]}`, `2`}, {`{"first_of": ["$.f", "$.s"], "cast": "float"}`, `2.5`},
		{`{"each": "$.list", "map": "@.a"}`, `[1,3]`}, {`{"each": "$.list", "map": {"v": "@.a", "n": "$.n"}}`, `[{"n":7,"v":1},{"n":7,"v":null},{"n":7,"v":3}]`},
		{`{"each": "$.one", "map": "@.a"}`, `[9]`}, {`{"each": "$.no", "map": "@"}`, `absent`}, {`{"each": "$.s", "map": "@"}`, `["7"]`},
		{`{"each": "$.list", "map": {"each": "@.b", "map": "@.c"}}`, `[[4]]`}, {`{"each": "$.list", "map": {"get": "@.a", "when": "@.b exists"}}`, `[3]`},
		{`["$.n", "$.no", "x", ["$.s"], {"get": "$.f", "cast": "float"}, {"const": "$.n"}, {"y": "$.yes"}]`, `[7,"x",["7"],2.5,"$.n",{"y":"On"}]`}, {`[1, "x", {"y": 2}]`, `[1,"x",{"y":2}]`},
		{`{"enum": {"evaluate": "$.n", "values": {"7": {"a": 1}}, "other": 2}}`, `{"a":1}`}, {`{"enum": {"evaluate": "$.s", "values": {}, "other": 2}}`, `2`},
	} {
		m := native(t, base(`, "enrichments": [{"name": "time", "value": "v", "data": `+c.rule+`}], "message": {"const": "m"}`), func(cfg *mapping.Config) { cfg.Schema = s })
		got, u := m.Event([]byte(event))
		want := `[{"data":` + c.want + `,"name":"time","value":"v"}]`
		if c.want == "absent" { // which enrichments may not be
			want = "absent"
		}
		if u != nil || member(t, got.Record, "enrichments") != want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.rule, u, member(t, got.Record, "enrichments"), want)
		}
	}
}

// TestConditions: every operator, both ways.
func TestConditions(t *testing.T) {
	s := schema(t, ocsf.V130)
	const event = `{"kind":"k","ts":1700000000,"id":"x","n":7,"s":"7","text":"it's","t":true,"null":null,"list":[1],"f":1.50}`
	for _, c := range []struct {
		when string
		want bool
	}{
		{"$.n = 7", true}, {"$.n = '7'", true}, {"$.s = 7", true}, {"$.n != 7", false}, {"$.n=8", false}, {"$.no = 7", false}, {"$.no != 7", true},
		{"$.null exists", false}, {"not $.null exists", true}, {"$.list exists", true}, {"$.list = 1", false}, {"$.t = true", true}, {"$.t = 'true'", true}, {"$.t = false", false},
		{"$.text = 'it''s'", true}, {"$.n in (6, 7)", true}, {"$.n not in (6,7)", false}, {"$.n IN ('x')", false}, {"$.f = 1.50", true},
		{"$.n = 8 or $.s = 7 and $.t = true", true}, {"($.n = 8 or $.s = 7) and $.t = false", false}, {"not ($.n = 7 and $.t = true)", false}, {"not not $.n = 7", true},
	} {
		m := native(t, base(`, "message": {"const": "holds", "when": "`+c.when+`"}`), func(cfg *mapping.Config) { cfg.Schema = s })
		got, u := m.Event([]byte(event))
		if holds := member(t, got.Record, "message") == `"holds"`; u != nil || holds != c.want {
			t.Errorf("%s: %t, want %t (%v)", c.when, holds, c.want, u)
		}
	}
}

// TestTargets: conditions go before the matched value, in the order of the file.
func TestTargets(t *testing.T) {
	target := func(extra, name string) string {
		return fmt.Sprintf(`{"schema": "inventory_info"%s, "schema_mapping": {"activity_id": 2, "time": "$.ts", "message": %q,
			"metadata": {"product": {"name": "p", "vendor_name": "v"}}, "device": {"type_id": 7, "uid": "d"}}}`, extra, name)
	}
	file := fmt.Sprintf(`{"custom_source_events": {"source_name": "demo", "matched_field": "$.kind", "timestamp": {"field": "$.ts", "format": "epoch"},
		"ocsf_mapping": {"b": %s, "second": %s, "first": %s}}}`, target("", "matched"), target(`, "when": "$.n exists"`, "second"), target(`, "when": "$.n = 1", "rest": "drop"`, "first"))
	m := native(t, []byte(file), nil)
	for _, c := range []struct{ event, want string }{
		{`{"ts":1,"n":1,"kind":"b"}`, `"second"`}, {`{"ts":1,"kind":"b"}`, `"matched"`}, {`{"ts":1,"kind":"c"}`, "no_mapping_for_matched_value"},
		{`{"ts":1,"kind":"first"}`, "no_mapping_for_matched_value"}, {`{"ts":1}`, "no_matched_value"}, {`{"ts":1,"kind":""}`, "no_matched_value"},
	} {
		got, u := m.Event([]byte(c.event))
		if u != nil && string(u.Reason) != c.want || u == nil && member(t, got.Record, "message") != c.want {
			t.Errorf("%s: %v %s, want %s", c.event, u, got.Record, c.want)
		}
	}
}

// TestRest: what no locator read goes to unmapped, what one read does not.
func TestRest(t *testing.T) {
	const event = `{"kind":"k","ts":1700000000,"id":"x","a":{"b":1,"c":{"d":"\ud800\"","e":null}},"list":[1,"two",{"x":true}],"used":[{"a":1,"b":2},{"a":3}],"f":1e400,"empty":{},"word":"z","nan":NaN,"id":"y"}`
	more := `, "enrichments": [{"name": "time", "value": "$.a.b", "data": {"each": "$.used", "map": "@.a"}}],
		"status_id": {"enum": {"evaluate": "$.word", "values": {"x": 1}, "other": 99}}`
	got, u := native(t, base(more), nil).Event([]byte(event))
	const want = `{"a.c.d":"�\"","empty":"{}","f":"1e400","id":"x","kind":"k","list":"[1,\"two\",{\"x\":true}]","nan":"NaN","used[0].b":"2","word":"z"}`
	if u != nil || member(t, got.Record, "unmapped") != want || got.Rest != 9 {
		t.Errorf("%v, %d\n got %s\nwant %s", u, got.Rest, member(t, got.Record, "unmapped"), want)
	}
	for _, change := range []func(*mapping.Config){func(c *mapping.Config) { c.DropRest = true }} {
		got, u = native(t, base(more), change).Event([]byte(event))
		if u != nil || member(t, got.Record, "unmapped") != "absent" || got.Rest != 0 {
			t.Errorf("%v: %s", u, got.Record)
		}
	}
	dropping := bytes.Replace(base(more), []byte(`"schema": "inv`), []byte(`"rest": "drop", "schema": "inv`), 1)
	if got, u = native(t, dropping, nil).Event([]byte(event)); u != nil || member(t, got.Record, "unmapped") != "absent" {
		t.Errorf("%v: %s", u, got.Record)
	}
}

// TestNothingOfNulls: objects of which the event has nothing leave no trace.
func TestNothingOfNulls(t *testing.T) {
	m := native(t, base(`, "actor": {"user": {"name": "$.no", "uid": {"get": "$.null"}}, "session": {"uid": "$.no"}}, "message": "$.m", "end": {"x": {}}`), func(c *mapping.Config) { c.DropRest = true })
	for event, want := range map[string]string{
		`{"kind":"k","ts":1,"id":1,"null":null,"m":"x"}`: `{"category_uid":5,"category_name":"Discovery","class_uid":5001,"class_name":"Device Inventory Info","activity_id":2,"activity_name":"Collect","type_uid":500102,"type_name":"Device Inventory Info: Collect","severity_id":1,"severity":"Informational","time":1000,"timezone_offset":0,"metadata":{"version":"1.3.0","product":{"name":"p","vendor_name":"v"},"original_time":"1"},"device":{"type_id":7,"type":"IOT","uid":"1"},"message":"x"}`,
	} {
		m.SetOrigin(ocsf.Origin{Logged: ocsf.Unknown, Sequence: -1})
		if got, u := m.Event([]byte(event)); u != nil || string(got.Record) != want || got.Moved != 0 {
			t.Errorf("%v, %d moved\n got %s\nwant %s", u, got.Moved, got.Record, want)
		}
	}
}

// TestOrigin: what a job knows of an event stands in its metadata, unless the event says it.
func TestOrigin(t *testing.T) {
	m := native(t, base(`, "timezone_offset": "$.zone"`), nil)
	m.SetOrigin(ocsf.Origin{UID: []byte("t:0:7"), Logged: 1700000001000, LogName: "t", LogProvider: "kafka", Sequence: 0})
	got, u := m.Event([]byte(`{"kind":"k","ts":"1700000000.1234","id":1}`))
	if u != nil {
		t.Fatal(u)
	}
	const want = `{"log_name":"t","log_provider":"kafka","logged_time":1700000001000,"original_time":"1700000000.1234","product":{"name":"p","vendor_name":"v"},"sequence":0,"uid":"t:0:7","version":"1.3.0"}`
	if member(t, got.Record, "metadata") != want || got.Time != 1700000000123 || got.EventDay != "20231114" || got.Class != 5001 {
		t.Errorf("%d %s %d\n got %s\nwant %s", got.Time, got.EventDay, got.Class, member(t, got.Record, "metadata"), want)
	}
	m.SetOrigin(ocsf.Origin{Logged: ocsf.Unknown, Sequence: -1})
	if got, u = m.Event([]byte(`{"kind":"k","ts":1700000000123,"id":1}`)); u != nil || member(t, got.Record, "metadata") != `{"product":{"name":"p","vendor_name":"v"},"version":"1.3.0"}` {
		t.Errorf("%v %s", u, got.Record)
	}
	if got, u = m.Event([]byte(`{"kind":"k","ts":"x"}`)); u == nil || u.Reason != mapping.NotConform || u.Path != "time" {
		t.Errorf("%v %s", u, got.Record)
	}
	if got, u = m.Event([]byte(`{"kind":"k","ts":1}`)); u == nil || u.Path != "device" || !strings.Contains(u.Error(), `demo.json: device: inventory_info requires it`) {
		t.Errorf("%v %s", u, got.Record)
	}
}

func TestCompileConformRefuses(t *testing.T) {
	const tree = "custom_source_events.ocsf_mapping.k.schema_mapping."
	for _, c := range []struct{ more, want string }{
		{`, "message": {"gte": "$.x"}`, tree + `message: unknown member "gte": did you mean get?`},
		{`, "message": {"get": "$.x", "cats": "int"}`, tree + `message: unknown member "cats"; want get, first_of, const, each, cast, default, when`},
		{`, "message": {"get": "$.x", "const": 1}`, tree + `message: want one of get, first_of, const and each, not several`},
		{`, "message": {"default": 1}`, tree + `message: want get, first_of, const or each: what should "default" work on?`},
		{`, "message": {"get": "x"}`, tree + `message.get: "x" is no locator: want $.name`},
		{`, "message": {"get": ["$.x"]}`, tree + `message.get: want a text`},
		{`, "message": {"get": "$.x", "cast": "integer"}`, tree + `message.cast: "integer" is unknown; want int, hex, float, bool, text or timestamp:FORMAT`},
		{`, "message": {"get": "$.x", "cast": "timestamp:%Q"}`, tree + `message.cast: %Q is no directive`},
		{`, "message": {"get": "$.x", "default": "$.y"}`, tree + `message.default: the locator "$.y" stays text here`},
		{`, "message": {"first_of": "$.x"}`, tree + `message.first_of: want a list of locators or rules`},
		{`, "message": {"first_of": ["$.x", {"get": "$."}]}`, tree + `message.first_of[1].get: "$." has an empty part`},
		{`, "message": {"each": "$.x"}`, tree + `message.each: want map beside it: what becomes of each element`},
		{`, "message": {"get": "$.x", "map": 1}`, tree + `message: unknown member "map"; want get, first_of, const, each, cast, default, when`},
		{`, "message": "@.x"`, tree + `message: "@.x": @ is an element, and there is none outside each; of the event it is $`},
		{`, "message": ["$.x", "$.y..z"]`, tree + `message[1]: "$.y..z" has an empty part`},
		{`, "message": {"get": "$.x", "when": 1}`, tree + `message.when: want a condition as text`},
		{`, "message": {"get": "$.x", "when": "$.x == 1"}`, tree + `message.when: when: byte 5: a value is missing`},
		{`, "message": {"get": "$.x", "when": "$.x = open"}`, tree + `message.when: when: byte 6: "open" is no value: put text in single quotes`},
		{`, "message": {"get": "$.x", "when": "$.x = 'a' und $.y exists"}`, tree + `message.when: when: byte 10: unexpected "und $.y exists"`},
		{`, "message": {"get": "$.x", "when": "(x exists)"}`, tree + `message.when: when: byte 1: "x" is no locator: want $.name`},
		{`, "message": {"get": "$.x", "when": "($.x exists"}`, `a closing parenthesis is missing`},
		{`, "message": {"get": "$.x", "when": "$.x in 1"}`, `want ( behind in`},
		{`, "message": {"get": "$.x", "when": "$.x = 'a"}`, `a text without its closing quote`},
		{`, "message": {"get": "$.x", "when": "` + strings.Repeat("not ", 101) + `$.x exists"}`, `nested deeper than 100`},
	} {
		_, err := mapping.CompileConform("demo.json", base(c.more))
		if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "demo.json: ") {
			t.Errorf("%s\n got %v\nwant demo.json: %s", c.more, err, c.want)
		}
	}
	for _, c := range []struct{ old, new, want string }{
		{`"schema": `, `"whn": "x", "schema": `, `unknown member "whn"; want schema, schema_mapping, when, rest, observables`},
		{`"schema": `, `"rest": "keep", "schema": `, `k.rest: want unmapped or drop`},
		{`"schema": `, `"observables": "x", "schema": `, `k.observables: want a list of attributes`},
		{`"schema": `, `"observables": [{"type_id": 1}], "schema": `, `k.observables[0]: want the path of an attribute`},
		{`"matched_field": "$.kind", `, ``, `k: there is no matched_field: say when`},
	} {
		_, err := mapping.CompileConform("demo.json", bytes.Replace(base(""), []byte(c.old), []byte(c.new), 1))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.new, err, c.want)
		}
	}
	// The other modes do not take such files.
	rules := base(`, "message": {"get": "$.x"}`)
	if _, err := mapping.Compile("demo.json", rules); err == nil || !strings.Contains(err.Error(), tree+`message: "get" is a key of the mode conform`) {
		t.Errorf("Compile: %v", err)
	}
	m, err := mapping.CompileConform("demo.json", rules)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mapping.NewMapper(m, mapping.DefaultConfig(m)); err == nil || !strings.Contains(err.Error(), "message: a key of the mode conform: set the mode, or take the key out") {
		t.Errorf("NewMapper: %v", err)
	}
}

// TestConformRefuses: what only the schema can tell.
func TestConformRefuses(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`"class_uid": 5001`, `"class_uid": 5999`, "schema_mapping.class_uid: OCSF 1.3.0 has no class 5999"},
		{`"class_uid": 5001`, `"class_uid": 4001`, "schema is inventory_info, which is class 5001, but schema_mapping.class_uid is 4001, which is network_activity: correct one of them"},
		{`"class_uid": 5001`, `"class_uid": "x"`, `schema_mapping.class_uid: "x" is no number of a class`},
		{`"schema": "inventory_info", "schema_mapping": {"class_uid": 5001, `, `"schema": "inventory", "schema_mapping": {`, "schema: OCSF 1.3.0 has no class inventory: correct the name, or say schema_mapping.class_uid"},
		{`"schema": `, `"observables": ["device.uidd"], "schema": `, "ocsf_mapping.k.observables[0]: device has no attribute uidd in OCSF 1.3.0"},
		{`"schema": `, `"observables": ["device"], "schema": `, "device is an object: name one of its attributes"},
		{`"schema": `, `"observables": ["message"], "schema": `, "message is string_t, of which OCSF 1.3.0 has no type of observables: say type_id"},
	} {
		m, err := mapping.CompileConform("demo.json", bytes.Replace(base(""), []byte(c.old), []byte(c.new), 1))
		if err != nil {
			t.Fatal(err)
		}
		cfg := mapping.DefaultConfig(m)
		cfg.Mode, cfg.Schema = mapping.Conform, schema(t, ocsf.V130)
		if _, err = mapping.NewMapper(m, cfg); err == nil || !strings.HasPrefix(err.Error(), "demo.json: custom_source_events.ocsf_mapping.k") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.new, err, c.want)
		}
	}
	if err := (mapping.Config{Source: "x", Mode: "strict"}).Validate(); err == nil || err.Error() != `mode: "strict" is unknown; want compat or conform` {
		t.Error(err)
	}
	if err := (mapping.Config{Source: "x", Mode: mapping.Conform}).Validate(); err == nil || err.Error() != "schema: conform needs one" {
		t.Error(err)
	}
}

// shipped are events as the three files of the library map them.
func shipped() map[string][]string {
	const alb = `https 2024-05-06T07:08:09.123456Z app/web/1 192.0.2.10:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "GET https://a.example/x HTTP/1.1" "curl/8.4.0" - TLSv1.2 arn:x "Root=1" "a.example" "arn:y" 0 2024-05-06T07:08:09.1Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1`
	return map[string][]string{
		"aws_nfw.json": {
			`{"firewall_name":"fw","availability_zone":"z","event_timestamp":"1700000000","event":{"tx_id":5,"app_proto":"tls","src_ip":"10.0.0.1","src_port":4000,"dest_ip":"10.0.0.2","dest_port":"443","event_type":"netflow","flow_id":123456789012345,"proto":"TCP","timestamp":"2023-11-14T22:13:20.104000+0100","netflow":{"bytes":100,"pkts":"7","start":"2023-11-14T22:13:20.104000+0000","end":"2023-11-14T22:13:21.104000+0000","age":1,"min_ttl":3,"max_ttl":4},"tcp":{"tcp_flags":"1b","syn":true}}}`,
			`{"firewall_name":"fw","event_timestamp":"1700000000","event":{"src_ip":"10.0.0.1","src_port":4000,"dest_ip":"10.0.0.2","dest_port":"443","event_type":"alert","alert":{"severity":3,"signature":"a \"b\""},"flow_id":1234,"proto":"TCP","timestamp":"2023-11-14T22:13:20.104000+0100","tls":{"version":"1.2","sni":"a.example"}}}`},
		"windows_sysmon.json": {
			`{"EventId":1,"source_instance_id":"i-1","Description":{"UtcTime":"2023-11-14 22:13:20.104","ProcessGuid":"{x}","ProcessId":"0042","Image":"C:\\a.exe","User":"NT\\SYSTEM","CommandLine":"a b","RuleName":"-"}}`,
			`{"EventId":5,"source_instance_id":"i-1","Description":{"UtcTime":"2023-11-14 22:13:20.104","ProcessGuid":"{x}","ProcessId":"42","Image":"C:\\a.exe","ImageLoaded":"x.dll,y.dll"}}`,
			`{"EventId":"23","source_instance_id":"i-1","Description":{"UtcTime":"2023-11-14 22:13:20.104","ProcessId":"42","Image":"C:\\a.exe","TargetFilename":"c.txt"}}`},
		"aws_alb.json": {alb, strings.Replace(alb, "GET", "PATCH", 1), strings.Replace(alb, "https 2", "h2 2", 1)},
	}
}

// oddValue is a value that a field may have when its source is not as expected.
func oddValue(r *rand.Rand) any {
	return []any{nil, "", "-", "010", "1b", "2147483648", "9223372036854775808", "1e400", "x\"\\\u00e9", "1700000000", "1700000000123456", "2023-13-40 99:00:00", json.Number("-0"), json.Number("5.5"),
		json.Number("1e400"), json.Number("65536"), json.Number("12345678901234567890"), true, []any{}, []any{json.Number("1"), nil, "a,b"}, map[string]any{}, map[string]any{"name": "n", "x.y": nil}}[r.IntN(22)]
}

// mutated changes some members of an object, or fields of a line.
func mutated(t *testing.T, r *rand.Rand, event string) []byte {
	if event[0] != '{' {
		fields := strings.Split(event, " ")
		for range r.IntN(4) {
			fields[3+r.IntN(len(fields)-3)] = []string{"-", `""`, "10.0.0.1", "x:y", "00", "1.5", `"a b"`}[r.IntN(7)]
		}
		return []byte(strings.Join(fields, " "))
	}
	var root map[string]any
	d := json.NewDecoder(strings.NewReader(event))
	d.UseNumber()
	if err := d.Decode(&root); err != nil {
		t.Fatal(err)
	}
	objects := []map[string]any{root}
	for i := 0; i < len(objects); i++ {
		for _, name := range slices.Sorted(maps.Keys(objects[i])) {
			if o, ok := objects[i][name].(map[string]any); ok {
				objects = append(objects, o)
			}
		}
	}
	for range r.IntN(5) {
		o := objects[r.IntN(len(objects))]
		names := append(slices.Sorted(maps.Keys(o)), "unheard")
		name := names[r.IntN(len(names))]
		if name == "EventId" || name == "event_type" {
			continue
		}
		if o[name] = oddValue(r); r.IntN(5) == 0 {
			delete(o, name)
		}
	}
	b, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameReport compares what a Validator says of the event that was mapped last with what it says
// of the text of the event.
func sameReport(t *testing.T, m *mapping.Mapper, event []byte, s *ocsf.Schema) {
	t.Helper()
	v := s.Validator()
	v.Recommended = true
	want, wantErr := v.Validate(event)
	wanted := fmt.Sprintf("%+v", want) // the next call takes the memory
	if got, err := m.Validate(v); fmt.Sprint(err) != fmt.Sprint(wantErr) || fmt.Sprintf("%+v", got) != wanted {
		t.Fatalf("%v, want %v\n got %+v\nwant %s\n%s", err, wantErr, got, wanted, event)
	}
}

// TestShippedFilesConform: events of the library's files, good and odd, become valid OCSF of
// each version or are refused with a reason. So do the records of compat, which are text.
func TestShippedFilesConform(t *testing.T) {
	dir := pipelinetest.Shared(t, "ocsf/aws-mappings")
	for _, version := range ocsf.Versions() {
		s := schema(t, version)
		v := s.Validator()
		compatible, err := ocsf.NewConformer(s, ocsf.ConformConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for name, events := range shipped() {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			m, err := mapping.CompileConform(name, text)
			if err != nil {
				t.Fatal(err)
			}
			cfg := mapping.DefaultConfig(m)
			if name == "aws_alb.json" {
				cfg.Preprocessor = mapping.ALB
			}
			compat, err := mapping.NewMapper(m, cfg)
			if err != nil {
				t.Fatal(err)
			}
			known := map[int64][]string{}
			classes, err := m.Classes(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range classes {
				known[c.UID] = c.Paths
			}
			cfg.Mode, cfg.Schema = mapping.Conform, s
			conform, err := mapping.NewMapper(m, cfg)
			if err != nil {
				t.Fatal(err)
			}
			valid := func(event []byte, of string) {
				if rep, err := v.Validate(event); err != nil || len(rep.Errors) > 0 {
					t.Fatalf("OCSF %s, %s: %v %v\n%s\n%s", version, name, err, rep.Errors, of, event)
				}
			}
			made, refused, invalid := 0, 0, 0
			for seed := range 2000 + len(events) {
				event := []byte(events[seed%len(events)])
				if seed >= len(events) {
					event = mutated(t, rand.New(rand.NewPCG(uint64(seed), 3)), string(event))
				}
				got, u := conform.Line(event)
				if u == nil {
					made++
					sameReport(t, conform, got.Record, s)
					valid(got.Record, string(event))
					hasColumns(t, known[got.Class], got.Record)
				} else if refused++; seed < len(events) || u.Reason == mapping.NotConform && u.Path == "" || u.Cause == "" {
					t.Fatalf("OCSF %s, %s: %s: %v\n%s", version, name, u.Reason, u, event)
				}
				if got, u = compat.Line(event); u != nil {
					continue
				}
				if rep, err := v.Validate(got.Record); err != nil || len(rep.Errors) > 0 {
					invalid++
				}
				out, _, err := compatible.Conform(nil, 0, got.Record, ocsf.Origin{Time: ocsf.Instant{Millis: ocsf.Unknown}})
				var why *ocsf.ConformError
				if err == nil {
					valid(out, string(got.Record))
				} else if !errors.As(err, &why) || why.Cause == "" {
					t.Fatalf("OCSF %s, %s: %v\n%s", version, name, err, got.Record)
				}
			}
			t.Logf("OCSF %s, %s: %d events, %d refused; %d of compat are not valid", version, name, made, refused, invalid)
			if made < 1000 || invalid < 1000 {
				t.Errorf("OCSF %s, %s: %d events only, or the records need no Conform (%d)", version, name, made, invalid)
			}
		}
	}
}

// TestClasses: the columns that the files of the library need are attributes of the class,
// and every attribute of an event is among them.
func TestClasses(t *testing.T) {
	dir := pipelinetest.Shared(t, "ocsf/aws-mappings")
	for _, version := range ocsf.Versions() {
		s := schema(t, version)
		for name, events := range shipped() {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			m, err := mapping.CompileConform(name, text)
			if err != nil {
				t.Fatal(err)
			}
			classes, err := m.Classes(s)
			if err != nil {
				t.Fatal(err)
			}
			known := map[int64][]string{}
			for _, c := range classes {
				known[c.UID] = c.Paths
			}
			cfg := mapping.DefaultConfig(m)
			cfg.Mode, cfg.Schema = mapping.Conform, s
			if name == "aws_alb.json" {
				cfg.Preprocessor = mapping.ALB
			}
			run, err := mapping.NewMapper(m, cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, event := range events {
				got, u := run.Line([]byte(event))
				if u != nil {
					t.Fatal(u)
				}
				hasColumns(t, known[got.Class], got.Record)
			}
		}
	}
}

// hasColumns tells whether every value of an event is in one of the attributes.
func hasColumns(t *testing.T, paths []string, event []byte) {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(event, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "unmapped")
	for _, path := range leaves(nil, "", v) {
		if !slices.ContainsFunc(paths, func(p string) bool { return path == p || strings.HasPrefix(path, p+".") }) {
			t.Errorf("%s: no column for %s", event, path)
		}
	}
}

// leaves are the paths of the values of an event that are no objects.
func leaves(out []string, path string, v any) []string {
	switch v := v.(type) {
	case map[string]any:
		for name, el := range v {
			out = leaves(out, strings.TrimPrefix(path+"."+name, "."), el)
		}
		return out
	case []any:
		for _, el := range v {
			out = leaves(out, path, el)
		}
		return out
	}
	return append(out, path)
}

// FuzzConform: no file and no event panics, and what comes of them is valid.
func FuzzConform(f *testing.F) {
	f.Add(base(`, "message": {"first_of": ["$.m", {"const": 1, "when": "$.n in (1, 'a') and not $.x exists"}], "cast": "text"}, "enrichments": {"each": "$.list", "map": {"name": "@.n", "value": ["@", "$.x"]}}`),
		[]byte(`{"kind":"k","ts":"1.5","id":1,"list":[{"n":"time"},2],"n":1,"x":{"y":["\ud800",NaN,1e400]}}`))
	f.Add([]byte(mappingOf22), []byte(logOf22))
	f.Add(bytes.Replace(base(`, "actor": "$.a"`), []byte("5001"), []byte("1007"), 1), []byte(`{"kind":"k","ts":1,"a":{"process":"p"},"id":null}`))
	s := schema(f, ocsf.V130)
	f.Fuzz(func(t *testing.T, text, event []byte) {
		m, err := mapping.CompileConform("f", text)
		if err != nil {
			if m, err = mapping.CompileConform("f", []byte(mappingOf22)); err != nil {
				t.Fatal(err)
			}
		}
		cfg := mapping.Config{Source: "f", Mode: mapping.Conform, Schema: s, Product: ocsf.Product{Name: "p", Vendor: "v"}, Fixes: true}
		conforming, err := mapping.NewMapper(m, cfg)
		if err != nil {
			return
		}
		for _, run := range []func([]byte) (mapping.Mapped, *mapping.Unmapped){conforming.Event, conforming.Line, conforming.Envelope} {
			got, u := run(event)
			if u != nil && (u.Reason == "" || u.Cause == "") {
				t.Fatalf("%#v", u)
			}
			if u != nil {
				continue
			}
			sameReport(t, conforming, got.Record, s)
			if rep, err := s.Validate(got.Record); err != nil || len(rep.Errors) > 0 {
				t.Fatalf("%v %v\n%s", err, rep.Errors, got.Record)
			}
		}
	})
}

package mapping_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
)

// file is a mapping file with one tree.
func file(format, tree string) []byte {
	return fmt.Appendf(nil, `{"custom_source_events": {"source_name": "demo", "matched_field": "$.kind",
		"timestamp": {"field": "$.ts", "format": %q}, "ocsf_mapping": {"k": {"schema": "s", "schema_mapping": %s}}}}`, format, tree)
}

func mapper(t testing.TB, text []byte, change func(*mapping.Config)) *mapping.Mapper {
	t.Helper()
	m, err := mapping.CompileLenient("demo.json", text)
	if err != nil {
		t.Fatal(err)
	}
	cfg := mapping.DefaultConfig(m)
	if change != nil {
		change(&cfg)
	}
	out, err := mapping.NewMapper(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestShippedFiles: the files of the library need no leniency.
func TestShippedFiles(t *testing.T) {
	dir := pipelinetest.Shared(t, "ocsf/aws-mappings")
	for name, source := range map[string]string{"aws_alb.json": "aws-alb", "aws_nfw.json": "aws-nfw", "windows_sysmon.json": "windows-sysmon"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		m, err := mapping.Compile(name, text)
		if err != nil {
			t.Error(err)
			continue
		}
		if m.SourceName() != source {
			t.Errorf("%s: source %q", name, m.SourceName())
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	const events = "custom_source_events"
	const tree = events + ".ocsf_mapping.k.schema_mapping"
	deep := strings.Repeat("[", mapping.MaxDepth+1) + strings.Repeat("]", mapping.MaxDepth+1)
	for _, c := range []struct {
		name, text string
		fatal      bool // CompileLenient refuses it too
		want       []string
	}{
		{"no JSON", `{"a":`, true, []string{"byte 5: the text ends where a value is due"}},
		{"text behind", `{} x`, true, []string{"byte 3: something follows the value"}},
		{"no UTF-8", "\"a\xff\"", true, []string{"byte 2: not UTF-8"}},
		{"deep", deep, true, []string{"byte 900: nested deeper than 900"}},
		{"long integer", "[" + strings.Repeat("9", 4301) + "]", true, []string{"byte 1: an integer of more than 4300 digits"}},
		{"no object", `[]`, true, []string{"$: no object"}},
		{"nothing", `{}`, true, []string{events + ": want an object"}},
		{"empty", `{"custom_source_events": {"source_name": "x"}}`, true, []string{
			events + ".matched_field: want a text", events + ".timestamp: want an object", events + ".ocsf_mapping: want an object"}},
		{"wrong types", `{"custom_source_events": {"source_name": "x", "matched_field": 1, "timestamp": {"field": [], "format": null},
			"ocsf_mapping": {"a": 1, "b": {}, "c": {"schema": 1, "schema_mapping": []}}}}`, true, []string{
			events + ".matched_field: want a text", events + ".timestamp.field: want a text", events + ".timestamp.format: want a text",
			events + ".ocsf_mapping.a: want an object", events + ".ocsf_mapping.b.schema: want a text",
			events + ".ocsf_mapping.b.schema_mapping: want an object", events + ".ocsf_mapping.c.schema: want a text",
			events + ".ocsf_mapping.c.schema_mapping: want an object"}},
		{"unknown members", `{"x": 1, "custom_source_events": {"y": 1, "source_name": "x", "matched_field": "$.k", "timestamp": {"field": "$.t", "format": "epoch", "zone": "UTC"},
			"ocsf_mapping": {"a": {"schema": "s", "class": 1, "schema_mapping": {"e": {"enum": {"evaluate": "$.e", "values": {}, "default": 1}, "z": 1}}}}}}`, false, []string{
			`$: unknown member "x"; want custom_source_events`, events + `: unknown member "y"; want source_name`,
			events + `.timestamp: unknown member "zone"; want field, format`, events + `.ocsf_mapping.a: unknown member "class"; want schema, schema_mapping`,
			events + `.ocsf_mapping.a.schema_mapping.e: unknown member "z"; want enum`,
			events + `.ocsf_mapping.a.schema_mapping.e.enum: unknown member "default"; want evaluate, values, other`}},
		{"no locators", `{"custom_source_events": {"matched_field": "kind", "timestamp": {"field": "$ts", "format": "epoch"}, "ocsf_mapping": {}}}`, false, []string{
			events + ".source_name: want a text", events + `.matched_field: "kind" is no locator`, events + `.timestamp.field: "$ts" is no locator`}},
		{"locators", string(file("epoch", `{"a": "$.UserDefined", "b": "$.UserDefined.x.y", "c": "$.x..y", "d": ["$.x", {"y": "$.z"}], "e": {"enum": {"evaluate": "$.x", "values": {"1": "$.v"}, "other": "$.w"}}}`)), false, []string{
			tree + `.a: "$.UserDefined" needs a name`, tree + `.b: "$.UserDefined.x.y": what follows "x" is ignored`, tree + `.c: "$.x..y" has an empty part`,
			tree + `.d: the locator "$.x" stays text here`, tree + `.d: the locator "$.z" stays text here`,
			tree + `.e.enum.values.1: the locator "$.v" stays text here`, tree + `.e.enum.other: the locator "$.w" stays text here`}},
		{"enums", string(file("epoch", `{"a": {"enum": 1}, "b": {"enum": {"values": {}}}, "c": {"enum": {"evaluate": "x", "values": {}}}, "d": {"enum": {"evaluate": "$.x", "values": []}}}`)), false, []string{
			tree + ".a.enum: want an object: the attribute is always null", tree + ".b.enum.evaluate: want a locator: the attribute is always null",
			tree + `.c.enum.evaluate: "x" is no locator ($.name): the attribute is always left out`, tree + ".d.enum.values: want an object: the attribute is always null"}},
		{"twice", string(file("epoch", `{"a": 1, "a": {"b": 1, "b": 2}}`)), false, []string{tree + `: "a" occurs twice`, tree + `.a: "b" occurs twice`}},
		{"format", string(file("%Y %Q", `{}`)), false, []string{events + ".timestamp.format: %Q is no directive"}},
		{"format repeats", string(file("%c %Y", `{}`)), false, []string{events + ".timestamp.format: %Y twice"}},
		{"format ends", string(file("%Y%", `{}`)), false, []string{events + ".timestamp.format: a % at the end"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := mapping.Compile("demo.json", []byte(c.text))
			if err == nil {
				t.Fatal("taken")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Errorf("%d problems, want %d:\n%v", len(lines), len(c.want), err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), "demo.json: "+want) {
					t.Errorf("want %s in\n%v", want, err)
				}
			}
			if _, err = mapping.CompileLenient("demo.json", []byte(c.text)); (err != nil) != c.fatal {
				t.Errorf("CompileLenient: %v", err)
			}
		})
	}
}

func TestConfigRefuses(t *testing.T) {
	err := mapping.Config{Preprocessor: "nfw", Mode: mapping.Compat}.Validate()
	const want = "source: must not be empty\npreprocessor: \"nfw\" is unknown; want sysmon, alb or none"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestRecord: the bytes of a record and what is counted. The golden cases compare values.
func TestRecord(t *testing.T) {
	m := mapper(t, file("epoch", `{"z": "$.v", "a": {"n": "$.UserDefined.v"}, "o": "$.ts.x", "m": "$.no", "l": 1e3}`), nil)
	for _, c := range []struct{ v, z, n string }{
		{`"\u00e9\" \\ \u0001\n\/\ud83d\ude00\ud800"`, `"é\" \\ \u0001\n/😀\ud800"`, `"é\" \\ \u0001\n/😀\ud800"`},
		{`1e400`, `"inf"`, `1e999`},
		{`-1e400`, `"-inf"`, `-1e999`},
		{`NaN`, `"nan"`, `null`},
		{`1.50`, `"1.5"`, `1.5`},
		{`{"b":1,"a":[1E3,"\u007f"],"b":-0}`, `"{'b': 0, 'a': [1000.0, '\\x7f']}"`, "{\"b\":0,\"a\":[1000.0,\"\x7f\"]}"},
	} {
		got, u := m.Event(fmt.Appendf(nil, `{"kind":"k","ts":1,"v":%s}`, c.v))
		if u != nil {
			t.Fatalf("%s: %v", c.v, u)
		}
		want := fmt.Sprintf(`{"z":%s,"a":{"n":%s},"o":null,"m":null,"l":1000.0}`, c.z, c.n)
		if string(got.Record) != want || got.Absent != 1 || got.Faults != 1 {
			t.Errorf("%s, %d absent, %d faults\n got %s\nwant %s", c.v, got.Absent, got.Faults, got.Record, want)
		}
	}
}

// TestUTCDay: with UTCDay the day is the one of the instant.
func TestUTCDay(t *testing.T) {
	for _, c := range []struct{ format, ts, written, utc string }{
		{"%Y-%m-%dT%H:%M:%S%z", "2023-10-03T23:30:00-0500", "20231003", "20231004"},
		{"%Y-%m-%dT%H:%M:%S%z", "2024-01-01T00:30:00+0100", "20240101", "20231231"},
		{"%Y-%m-%dT%H:%M:%S%z", "2024-01-01T00:30:00Z", "20240101", "20240101"},
		{"%Y-%m-%d %I:%M %p %z", "2024-01-01 11:30 PM -00:31", "20240101", "20240102"},
		{"%Y-%m-%d %I:%M %p %z", "2024-01-01 12:30 AM +00:31", "20240101", "20231231"},
		{"%Y-%m-%d %H:%M:%S.%f %z", "2024-01-01 00:00:00.5 +00:00:00.500001", "20240101", "20231231"},
		{"%Y-%m-%d %H:%M:%S.%f %z", "2024-01-01 00:00:00.5 +00:00:00.5", "20240101", "20240101"},
		{"%Y-%m-%d %z", "9999-12-31 -0001", "99991231", "99991231"},
		{"%Y-%m-%d %z", "0001-01-01 +0001", "10101", ""},
		{"%Y-%m-%d %H", "2024-01-01 23", "20240101", "20240101"},
		{"epoch", "86399", "19700101", "19700101"},
	} {
		for _, utc := range []bool{false, true} {
			m := mapper(t, file(c.format, `{}`), func(cfg *mapping.Config) { cfg.UTCDay = utc })
			want := c.written
			if utc {
				want = c.utc
			}
			got, u := m.Event(fmt.Appendf(nil, `{"kind":"k","ts":%q}`, c.ts))
			if got.EventDay != want || (u != nil) != (want == "") {
				t.Errorf("%s, UTC %t: got %s (%v), want %s", c.ts, utc, got.EventDay, u, want)
			}
		}
	}
}

// TestUnmapped: file, path and cause.
func TestUnmapped(t *testing.T) {
	m := mapper(t, file("%Y", `{}`), nil)
	big := append(bytes.Repeat([]byte(" "), mapping.MaxBytes-1), "{}"...)
	const ts, kind = "demo.json: custom_source_events.timestamp.field: ", "demo.json: custom_source_events."
	for _, c := range []struct {
		event  string
		reason mapping.Reason
		want   string
	}{
		{`{"kind":"k"}`, mapping.NoTimestamp, ts + "$.ts is absent or empty"},
		{`{"ts":"x"}`, mapping.Failed, ts + `"x" does not match the format`},
		{`{"ts":"` + strings.Repeat("9", 70) + `"}`, mapping.Failed, ts + `"` + strings.Repeat("9", 64) + `" and 6 bytes more does not match the format`},
		{`{"ts":2024}`, mapping.NoMatchedValue, kind + "matched_field: $.kind is absent or empty"},
		{`{"ts":2024,"kind":"j"}`, mapping.NoMapping, kind + `ocsf_mapping: nothing for "j"`},
		{`[]`, mapping.Failed, ts + "$.ts: what has ts is no object"},
		{`{"ts":2024`, mapping.Failed, "demo.json: byte 10: the text ends inside an object or list"},
		{string(big), mapping.Failed, "demo.json: byte 16777216: longer than 16777216 bytes"},
		{strings.Repeat("[", 1_000_000), mapping.Failed, "demo.json: byte 900: nested deeper than 900"},
	} {
		_, u := m.Event([]byte(c.event))
		if u == nil || u.Reason != c.reason || u.Error() != c.want {
			t.Errorf("got %v\nwant %s: %s", u, c.reason, c.want)
		}
	}
}

// TestAmbiguousTimestamp: a pattern whose parts can share digits in many ways is given up,
// not tried for ever.
func TestAmbiguousTimestamp(t *testing.T) {
	m := mapper(t, file("%d%m%H%M%S%I%j%U%W%V%f %Y", `{}`), nil)
	if _, u := m.Event([]byte(`{"kind":"k","ts":"1111111111111111111111111"}`)); u == nil || !strings.Contains(u.Cause, "too many ways") {
		t.Errorf("got %v", u)
	}
}

// TestMapperIsReused: nothing of an event is left for the next one.
func TestMapperIsReused(t *testing.T) {
	text := file("epoch", `{"v": "$.v", "w": "$.rawData"}`)
	shared := mapper(t, text, nil)
	for _, line := range []string{
		`{"kind":"k","ts":1,"v":"a\tb"}`, "{", `{"kind":"k","ts":100000,"v":[[1]]}`, `{"kind":"k","ts":1}`, `5`, `{"kind":"k","ts":1,"v":"\u00e9"}`,
	} {
		want, wantU := mapper(t, text, nil).Line([]byte(line))
		got, u := shared.Line([]byte(line))
		if fmt.Sprint(u) != fmt.Sprint(wantU) || got.EventDay != want.EventDay || !bytes.Equal(got.Record, want.Record) || got.Absent != want.Absent {
			t.Errorf("%s: got %s %v, want %s %v", line, got.Record, u, want.Record, wantU)
		}
	}
}

// FuzzMapper: no input panics, and what is mapped is JSON.
func FuzzMapper(f *testing.F) {
	f.Add(file("epoch", `{"a": "$.v", "b": {"enum": {"evaluate": "$.v", "values": {"1": 2}}}, "c": "$.UserDefined.v"}`), []byte(`{"kind":"k","ts":"1","v":[1,{"a":null}]}`))
	f.Add(file("%Y-%m-%d %H:%M:%S.%f", `{"a": "$.Description.x"}`), []byte(`{"kind":"k","ts":"2024-05-06 07:08:09.1","message":{"kind":"k","Description":"x: 1\r\ny"}}`))
	f.Add(file("%G %V %u %z %b %I%p", `{"a": ["\ud800", 1e999]}`), []byte(`http 2024-05-06T07:08:09Z app "GET / x" a:1 "b:2 c:3`))
	f.Add(file("%j%U%w%y", `{"a": "$.UserDefined.v"}`), []byte("\"\\ud800\\udc00 \u2028\""))
	f.Fuzz(func(t *testing.T, text, event []byte) {
		m, err := mapping.CompileLenient("f", text)
		if _, strict := mapping.Compile("f", text); strict == nil && err != nil {
			t.Fatalf("taken by Compile only: %v", err)
		}
		if err != nil {
			if m, err = mapping.CompileLenient("f", file(string(text), `{"a": "$.v", "b": "$.UserDefined.v", "c": "$.client_ip"}`)); err != nil {
				return
			}
		}
		for _, pre := range []mapping.Preprocessor{mapping.None, mapping.Sysmon, mapping.ALB} {
			mapper, err := mapping.NewMapper(m, mapping.Config{Source: "f", Preprocessor: pre, Mode: mapping.Compat})
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range []func([]byte) (mapping.Mapped, *mapping.Unmapped){mapper.Event, mapper.Line, mapper.Envelope} {
				got, u := run(event)
				if u == nil && (!json.Valid(got.Record) || len(got.EventDay) < 5 || len(got.EventDay) > 8) {
					t.Fatalf("day %q, record %q", got.EventDay, got.Record)
				}
				if u != nil && (u.Reason == "" || u.Cause == "") {
					t.Fatalf("%#v", u)
				}
			}
		}
	})
}

// FuzzTimestamp: no format and no text panics.
func FuzzTimestamp(f *testing.F) {
	for _, c := range [][2]string{{"%Y-%m-%dT%H:%M:%S.%f%z", "2024-05-06T07:08:09.1+01:02:03.4"}, {"%c", "Mon May  6 07:08:09 2024"},
		{"%G %V %u", "2020 53 7"}, {"%Y %U %A", "2024 0 sunday"}, {"%y%j", "٢٤٣٦٦"}, {"epoch", " -1_0"}} {
		f.Add(c[0], c[1], true)
	}
	f.Fuzz(func(t *testing.T, format, ts string, utc bool) {
		tree, err := json.Marshal(map[string]any{"custom_source_events": map[string]any{"matched_field": "$.k",
			"timestamp": map[string]any{"field": "$.t", "format": format}, "ocsf_mapping": map[string]any{}}})
		if err != nil {
			t.Skip()
		}
		event, err := json.Marshal(map[string]string{"t": ts})
		if err != nil {
			t.Skip()
		}
		if _, u := mapper(t, tree, func(c *mapping.Config) { c.Source, c.UTCDay = "f", utc }).Event(event); u == nil || u.Reason == mapping.NoMapping {
			t.Fatalf("%v", u)
		}
	})
}

var benchmarkTree = `{"metadata": {"version": "1.3.0", "product": {"name": "demo", "vendor_name": "demo"}}, "class_uid": 4001, "category_uid": 4,
	"time": "$.event.time", "activity_id": {"enum": {"evaluate": "$.event.kind", "values": {"open": 1, "close": 2}, "other": 99}},
	"src_endpoint": {"ip": "$.event.src.ip", "port": "$.event.src.port"}, "dst_endpoint": {"ip": "$.event.dst.ip", "port": "$.event.dst.port"},
	"traffic": {"bytes": "$.event.bytes", "packets": "$.event.packets"}, "device": {"uid": "$.UserDefined.device"},
	"unmapped": {"tags": "$.event.tags", "age": "$.event.age", "no": "$.event.no"}}`

func BenchmarkEvent(b *testing.B) {
	for _, c := range []struct{ format, ts string }{{"epoch", "1700000000"}, {"%Y-%m-%dT%H:%M:%S.%fZ", "2024-05-06T07:08:09.123456Z"}} {
		name, _, _ := strings.Cut(c.format, "-")
		b.Run(name, func(b *testing.B) {
			m := mapper(b, file(c.format, benchmarkTree), nil)
			event := fmt.Appendf(nil, `{"device":"fw-1","ts":%q,"kind":"k","event":{"time":"2023-11-14T22:13:20.104+0000","id":99000111222333,"kind":"open",
				"src":{"ip":"198.51.100.7","port":40112},"dst":{"ip":"10.1.2.3","port":443},"bytes":4096,"packets":12,"age":78.5,"tags":["a","b"],"zone":"eu \"1\""}}`, c.ts)
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			for b.Loop() {
				if _, u := m.Event(event); u != nil {
					b.Fatal(u)
				}
			}
		})
	}
}

func BenchmarkLineALB(b *testing.B) {
	text := []byte(`{"custom_source_events": {"source_name": "demo", "matched_field": "$.type", "timestamp": {"field": "$.time", "format": "%Y-%m-%dT%H:%M:%S.%fZ"},
		"ocsf_mapping": {"http": {"schema": "s", "schema_mapping": {"src_endpoint": {"ip": "$.client_ip", "port": "$.client_port"},
		"http_request": {"http_method": "$.request_method", "url": {"url_string": "$.request_url"}, "user_agent": "$.user_agent"},
		"duration": "$.request_processing_time", "uid": "$.conn_trace_id", "unmapped": {"targets": "$.target_ip_list", "arn": "$.target_group_arn"}}}}}}`)
	m := mapper(b, text, func(c *mapping.Config) { c.Preprocessor = mapping.ALB })
	line := []byte(`http 2024-05-06T07:08:09.123456Z app/web/1 192.0.2.10:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "GET http://a/ HTTP/1.1" "curl/8.4.0" - - arn:x "Root=1" "-" "-" 0 2024-05-06T07:08:09.1Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1`)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, u := m.Line(line); u != nil {
			b.Fatal(u)
		}
	}
}

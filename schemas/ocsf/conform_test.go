package ocsf_test

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

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// noOrigin knows nothing.
func noOrigin() ocsf.Origin {
	return ocsf.Origin{Logged: ocsf.Unknown, Sequence: -1, Time: ocsf.Instant{Millis: ocsf.Unknown}}
}

func conformer(t testing.TB, s *ocsf.Schema, cfg ocsf.ConformConfig) *ocsf.Conformer {
	t.Helper()
	c, err := ocsf.NewConformer(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// odd returns a value that an attribute may not expect.
func odd(r *rand.Rand, depth int) any {
	texts := []string{"", "-", "010", "1b", " 7 ", "99", "Other", "unknown", "High", "true", "yes", "a,b , c", "x\"\\\n\u00e9", "1.5", "1e400", "inf", "0x10",
		"2023-11-14T22:13:20.104Z", "2023-11-14 22:13:20,5 +0100", "1700000000", "1700000000123", "192.0.2.1", "cloud", "v1.1.0", strings.Repeat("long", 20000)}
	numbers := []string{"0", "-0", "1", "7", "99", "-5", "5.0", "5.5", "1e400", "1e3", "65536", "2147483648", "9223372036854775808", "170141183460469231731687303715884105728", "1700000000", "1700000000123456789"}
	switch n := r.IntN(12); {
	case n < 4:
		return texts[r.IntN(len(texts))]
	case n < 7:
		return json.Number(numbers[r.IntN(len(numbers))])
	case n == 7:
		return nil
	case n == 8:
		return r.IntN(2) == 0
	case depth > 3:
		return "deep"
	case n == 9:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = odd(r, depth+1)
		}
		return list
	}
	names := []string{"name", "uid", "type_id", "type", "value", "ip", "provider", "process", "user", "x.y", "time_dt", "", "group", "pid", "status_id", "country"}
	o := map[string]any{}
	for range r.IntN(4) {
		o[names[r.IntN(len(names))]] = odd(r, depth+1)
	}
	return o
}

// mutate changes some values of an event and adds members that its class may have.
func mutate(r *rand.Rand, event map[string]any) {
	for range 1 + r.IntN(5) {
		all := places(event, "")
		p := all[r.IntN(len(all))]
		if p.drop != nil && r.IntN(4) == 0 {
			p.drop()
		} else {
			p.set(odd(r, 0))
		}
	}
	members := []string{"cloud", "osint", "actor", "device", "proxy_endpoint", "tls", "observables", "metadata", "time_dt", "severity", "severity_id", "activity_name",
		"activity_id", "unmapped", "enrichments", "unheard", "action_id", "disposition", "api", "raw_data", "is_alert", "category_ids", "type_uid", "start_time", "evidences", "vulnerabilities"}
	for range r.IntN(4) {
		event[members[r.IntN(len(members))]] = odd(r, 0)
	}
	if meta, ok := event["metadata"].(map[string]any); ok && r.IntN(2) == 0 {
		meta["profiles"] = []any{"cloud,host", []any{"security_control", "osint", "x"}, "datetime", []any{"cloud", json.Number("1")}}[r.IntN(4)]
	}
}

// conformed returns the event that a record of class 4001 makes, which has all that is
// required and one value more.
func conformed(t *testing.T, s *ocsf.Schema, path, value string) map[string]any {
	t.Helper()
	o := tree(t, []byte(`{"activity_id":6,"severity_id":1,"time":1,"metadata":{"product":{"name":"p","vendor_name":"v"}},"src_endpoint":{"ip":"192.0.2.1"},"dst_endpoint":{"ip":"192.0.2.2"}}`))
	at, parts := o, strings.Split(path, "/")
	if parts[0] == "device" { // which is not valid without a name
		o["device"] = map[string]any{"name": "d", "location": map[string]any{"country": "NL"}}
	}
	for _, part := range parts[:len(parts)-1] {
		if _, ok := at[part].(map[string]any); !ok {
			at[part] = map[string]any{}
		}
		at = at[part].(map[string]any)
	}
	at[parts[len(parts)-1]] = json.RawMessage(value)
	event, _, err := conformer(t, s, ocsf.ConformConfig{Fixes: true}).Conform(nil, 4001, encode(t, o), noOrigin())
	if err != nil {
		t.Fatalf("%s = %s: %v", path, value, err)
	}
	if report, err := s.Validate(event); err != nil || len(report.Errors) > 0 {
		t.Errorf("%s = %s: %v %v", path, value, err, report.Errors)
	}
	return tree(t, event)
}

// valueAt is a value of an event as JSON, empty for none.
func valueAt(t *testing.T, event map[string]any, path string) string {
	t.Helper()
	v := any(event)
	for part := range strings.SplitSeq(path, "/") {
		o, _ := v.(map[string]any)
		if v = o[part]; v == nil {
			return ""
		}
	}
	return string(encode(t, v))
}

// movedFrom is what stands in unmapped under a path.
func movedFrom(event map[string]any, path string) string {
	unmapped, _ := event["unmapped"].(map[string]any)
	text, _ := unmapped[strings.ReplaceAll(path, "/", ".")].(string)
	return text
}

// TestConformCasts: what becomes of one value.
func TestConformCasts(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	for _, c := range []struct{ path, value, want, moved string }{
		// integer_t and long_t
		{"count", `"010"`, `10`, ""}, {"count", `" -7 "`, `-7`, ""}, {"count", `"+7"`, `7`, ""}, {"count", `5.0`, `5`, ""}, {"count", `1e3`, `1000`, ""}, {"count", `-0`, `0`, ""},
		{"count", `"5.0"`, "", "5.0"}, {"count", `5.5`, "", "5.5"}, {"count", `"0x10"`, "", "0x10"}, {"count", `"1_0"`, "", "1_0"}, {"count", `""`, "", ""}, {"count", `true`, "", "true"},
		{"count", `"9223372036854775807"`, `9223372036854775807`, ""}, {"count", `9223372036854775808`, "", "9223372036854775808"}, {"count", `"-9223372036854775808"`, `-9223372036854775808`, ""},
		{"count", `[1]`, "", "[1]"}, {"count", `null`, "", ""}, {"duration", `170141183460469231731687303715884105727`, `170141183460469231731687303715884105727`, ""},
		{"src_endpoint/port", `"443"`, `443`, ""}, {"src_endpoint/port", `65536`, "", "65536"}, {"src_endpoint/port", `"-1"`, "", "-1"},
		// float_t
		{"device/location/lat", `"x"`, "", "x"}, {"device/location/lat", `52`, `52.0`, ""}, {"device/location/lat", `"5.20"`, `5.20`, ""}, {"device/location/lat", `"+.5"`, `0.5`, ""}, {"device/location/lat", `1e400`, "", "1e400"},
		{"device/location/lat", `"1e2"`, `1e2`, ""}, {"device/location/lat", `12345678901234567890`, `12345678901234567890.0`, ""}, {"device/location/lat", `"nan"`, "", "nan"},
		// boolean_t
		{"device/is_managed", `"TRUE"`, `true`, ""}, {"device/is_managed", `0`, `false`, ""}, {"device/is_managed", `"yes"`, `true`, ""}, {"device/is_managed", `"maybe"`, "", "maybe"},
		// string_t
		{"message", `7.50`, `"7.50"`, ""}, {"message", `false`, `"false"`, ""}, {"message", `{"a":{"b":[1,"x\""]}}`, "", ""}, {"message", `["a","b"]`, "", `["a","b"]`}, {"message", `"\u00e9\n"`, `"é\n"`, ""},
		{"message", `"` + strings.Repeat("é", 65536) + `"`, "", strings.Repeat("é", 65536)},
		// timestamp_t
		{"start_time", `"2023-11-14T22:13:20.1049Z"`, `1700000000104`, ""}, {"start_time", `1700000000`, `1700000000000`, ""}, {"start_time", `1700000000123`, `1700000000123`, ""}, {"start_time", `"soon"`, "", "soon"}, {"start_time", `true`, "", "true"},
		// lists
		{"device/hw_info/x", `1`, "", "1"}, {"metadata/labels", `"a, b,,c "`, `["a","b","c"]`, ""}, {"metadata/labels", `7`, `["7"]`, ""}, {"metadata/labels", `["a",null,2,["x"]]`, `["a","2"]`, ""}, {"metadata/labels", `[]`, `[]`, ""},
		{"metadata/loggers", `{"name":"l"}`, `[{"name":"l"}]`, ""}, {"metadata/loggers", `[{"name":"l"},{"x":1},"m"]`, `[{"name":"l"},{"name":"m"}]`, ""},
		// ids and captions
		{"severity_id", `"3"`, `3`, ""}, {"severity_id", `"high"`, `4`, ""}, {"severity_id", `77`, `99`, "77"}, {"severity_id", `"Mild"`, `99`, ""}, {"severity", `"Low"`, `"Informational"`, "Low"}, {"severity", `"INFORMATIONAL"`, `"Informational"`, ""},
		{"status", `"failure"`, `"Failure"`, ""}, {"status", `"odd"`, `"odd"`, ""}, {"connection_info/direction", `"Outbound"`, `"Outbound"`, ""}, {"connection_info/boundary", `"wide"`, `"wide"`, ""},
		{"http_request/http_method", `"get"`, "", "get"}, {"proxy_http_request/http_method", `"get"`, `"GET"`, ""}, {"proxy_http_request/http_method", `"FETCH"`, "", "FETCH"},
		// objects
		{"actor/user", `"root"`, `{"name":"root"}`, ""}, {"actor/process", `"sh"`, "", "sh"}, {"tls", `"1.2"`, "", "1.2"}, {"traffic", `{}`, "", ""}, {"traffic", `{"bytes":null}`, "", ""}, {"traffic/octets", `5`, "", "5"},
		{"dst_endpoint/owner", `{"x":1}`, "", ""}, {"device/location", `{"lat":1.5,"long":2.5}`, "", ""}, {"evidences", `[1]`, "", "[1]"},
		// what the class decides
		{"class_uid", `"4001"`, `4001`, ""}, {"category_name", `"x"`, `"Network Activity"`, ""}, {"type_uid", `400101`, `400106`, ""}, {"metadata/version", `"v1.0.0"`, `"1.3.0"`, ""}, {"metadata/version", `["x"]`, `"1.3.0"`, `["x"]`},
		// profiles
		{"metadata/profiles", `"host, nope"`, `["host"]`, "nope"}, {"metadata/profiles", `["cloud"]`, "", "cloud"}, {"metadata/profiles", `{"a":1}`, "", ""}, {"time_dt", `"2023-11-14T22:13:20Z"`, `"2023-11-14T22:13:20Z"`, ""},
		{"cloud", `{"provider":"x"}`, `{"provider":"x"}`, ""}, {"cloud", `{}`, "", "{}"}, {"cloud", `{"region":"r"}`, "", ""}, {"osint", `[]`, `[]`, ""}, {"firewall_rule", `"r"`, `{"name":"r"}`, ""},
		// observables
		{"observables", `[{"name":"src_endpoint.ip","type_id":2,"value":"192.0.2.1"},{"name":"nowhere","type_id":2}]`, `[{"name":"src_endpoint.ip","type":"IP Address","type_id":2,"value":"192.0.2.1"}]`, ""},
		{"unmapped", `{"a":{"b":1.0},"c":[1],"d":null,"e":""}`, `{"a.b":"1.0","c":"[1]","e":""}`, ""}, {"unmapped", `5`, `{"unmapped":"5"}`, "5"},
	} {
		event := conformed(t, s, c.path, c.value)
		if got, moved := valueAt(t, event, c.path), movedFrom(event, c.path); got != c.want || moved != c.moved {
			t.Errorf("%s = %.60s\n got %s, moved %q\nwant %s, moved %q", c.path, c.value, got, moved, c.want, c.moved)
		}
	}
}

// TestConformPairs: an id and its caption say the same, whichever is there.
func TestConformPairs(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	for _, c := range []struct{ path, value, want string }{
		{"severity_id", `4`, `4 "High"`}, {"severity_id", `"High"`, `4 "High"`}, {"severity_id", `null`, `0 "Unknown"`}, {"severity_id", `99`, `99 `}, {"severity_id", `"Mild"`, `99 "Mild"`}, {"severity_id", `[4]`, `99 `},
		{"status_id", `null`, ` `}, {"activity_id", `"Open"`, `1 "Open"`}, {"activity_id", `null`, `0 "Unknown"`}, {"activity_id", `"7.5"`, `99 "7.5"`},
	} {
		event := conformed(t, s, c.path, c.value)
		caption := strings.NewReplacer("activity_id", "activity_name", "_id", "").Replace(c.path)
		if got := valueAt(t, event, c.path) + " " + valueAt(t, event, caption); got != c.want {
			t.Errorf("%s = %s: got %s, want %s", c.path, c.value, got, c.want)
		}
	}
}

// TestConformProperty: whatever the record, the event is valid or the error says why; the
// same record gives the same event; a value that is nowhere in the event is in a fix.
func TestConformProperty(t *testing.T) {
	files, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	built, all := builtIn(t), anyVersion(t)
	made, refused := 0, 0
	for _, version := range ocsf.Versions() {
		s := built[version]
		c := conformer(t, s, ocsf.ConformConfig{Fixes: true, Product: ocsf.Product{Name: "p", Vendor: "v"}})
		again := conformer(t, s, ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}})
		v := s.Validator()
		for seed := range 1000 {
			r := rand.New(rand.NewPCG(uint64(seed), 5))
			text, err := os.ReadFile(files[seed%len(files)])
			if err != nil {
				t.Fatal(err)
			}
			event := tree(t, text)
			mutate(r, event)
			record := encode(t, event)
			class := int64(0)
			if r.IntN(4) == 0 {
				class = s.Classes()[r.IntN(len(s.Classes()))]
			}
			got, rep, err := c.Conform([]byte("before"), class, record, noOrigin())
			if err != nil {
				refused++
				var why *ocsf.ConformError
				if !errors.As(err, &why) || why.Cause == "" || string(got) != "before" {
					t.Fatalf("%s: %v, %q", record, err, got)
				}
				continue
			}
			made++
			got = got[len("before"):]
			sameReport(t, c, got, all)
			report, err := v.Validate(got)
			if err != nil || len(report.Errors) > 0 {
				t.Fatalf("OCSF %s, seed %d: %v %v\nrecord %s\n event %s", version, seed, err, report.Errors, record, got)
			}
			same, counts, err := again.Conform(nil, class, record, noOrigin())
			if err != nil || !bytes.Equal(same, got) || counts.Casts != rep.Casts || counts.Filled != rep.Filled || counts.Moved != rep.Moved {
				t.Fatalf("seed %d: another event: %v\n%s\n%s", seed, err, same, got)
			}
			sameReport(t, again, same, all)
			if lost := lost(t, record, got, rep); len(lost) > 0 {
				t.Fatalf("OCSF %s, seed %d: lost %q\nrecord %s\n event %s\nfixes %v", version, seed, lost, record, got, rep.Fixes)
			}
		}
	}
	t.Logf("%d events, %d refused", made, refused)
	if made < refused/4 || refused < 50 {
		t.Errorf("the records are too good or too bad: %d events, %d refused", made, refused)
	}
}

// lost returns the values of a record that are neither in the event nor named in a fix.
func lost(t *testing.T, record, event []byte, rep ocsf.ConformReport) []string {
	t.Helper()
	var out []string
	var walk func(v any)
	walk = func(v any) {
		text := fmt.Sprint(v)
		switch v := v.(type) {
		case nil:
			return
		case map[string]any:
			for _, el := range v {
				walk(el)
			}
			return
		case []any:
			for _, el := range v {
				walk(el)
			}
			return
		case string:
			quoted := encode(t, v)
			text = string(quoted[1 : len(quoted)-1])
		}
		twice := encode(t, text) // inside a list that became text
		if bytes.Contains(event, []byte(text)) || bytes.Contains(event, twice[1:len(twice)-1]) {
			return
		}
		if !slices.ContainsFunc(rep.Fixes, func(f ocsf.Fix) bool {
			return strings.Contains(f.From, fmt.Sprint(v)) || strings.HasSuffix(f.From, "...") && strings.HasPrefix(fmt.Sprint(v), strings.TrimSuffix(f.From, "..."))
		}) {
			out = append(out, text)
		}
	}
	walk(tree(t, record))
	return out
}

// TestRecord: a record that is written value by value gives the event of its JSON.
func TestRecord(t *testing.T) {
	s := builtIn(t)[ocsf.V130]
	read, write := conformer(t, s, ocsf.ConformConfig{Fixes: true}), conformer(t, s, ocsf.ConformConfig{Fixes: true})
	text, err := os.ReadFile("testdata/samples/traffic_window.core.1.3.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var record ocsf.Record
	all, made := anyVersion(t), 0
	for seed := range 500 {
		event := tree(t, text)
		mutate(rand.New(rand.NewPCG(uint64(seed), 6)), event)
		event["gone"] = map[string]any{}
		record.Reset()
		writeRecord(t, &record, event)
		delete(event, "gone")
		want, wantRep, wantErr := read.Conform(nil, 4001, encode(t, event), noOrigin())
		got, rep, err := write.ConformRecord(nil, 4001, &record, noOrigin())
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || !bytes.Equal(got, want) || fmt.Sprint(rep) != fmt.Sprint(wantRep) {
			t.Fatalf("seed %d: %v, want %v\n got %s\nwant %s", seed, err, wantErr, got, want)
		}
		if made += len(got); err == nil {
			sameReport(t, write, got, all)
		}
	}
	if made == 0 {
		t.Error("no event was made")
	}
	for _, value := range []string{"", "{", "1 2", strings.Repeat("[", 200) + strings.Repeat("]", 200)} {
		record.Reset()
		if err := record.Value(ocsf.NewName([]byte(`"x":`)), []byte(value)); !errors.Is(err, ocsf.ErrNotJSON) {
			t.Errorf("%.10s: %v", value, err)
		}
	}
}

// writeRecord writes the members of an object, by name, and ends it.
func writeRecord(t *testing.T, r *ocsf.Record, o map[string]any) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(o)) {
		quoted := ocsf.NewName(append(encode(t, name), ':'))
		switch v := o[name].(type) {
		case map[string]any:
			if len(v) > 0 || name == "gone" {
				r.Begin(quoted)
				writeRecord(t, r, v)
				continue
			}
		case json.Number:
			r.Number(quoted, []byte(v))
			continue
		case string:
			if b := encode(t, v); !bytes.ContainsAny(b, `\`) {
				r.Text(quoted, b[1:len(b)-1])
				continue
			}
		}
		if err := r.Value(quoted, encode(t, o[name])); err != nil {
			t.Fatal(err)
		}
	}
	r.End()
}

// TestConformUnmapped: paths that are taken, and many of them.
func TestConformUnmapped(t *testing.T) {
	c := conformer(t, builtIn(t)[ocsf.V130], ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}})
	at := noOrigin()
	for _, f := range []string{"a=1", "a=1", "a=2", "a=3", "x.y=\"\n", "traffic.octets=6", "traffic.octets=5"} {
		path, text, _ := strings.Cut(f, "=")
		at.Rest = append(at.Rest, ocsf.Field{Path: []byte(path), Text: []byte(text)})
	}
	const record = `{"activity_id":6,"time":5,"src_endpoint":{"ip":"192.0.2.1"},"dst_endpoint":{"ip":"192.0.2.2"},"traffic":{"octets":5},"unmapped":{"a":0,"b":{"a":[{}]}}}`
	const want = `{"a":"0","a#2":"1","a#3":"2","a#4":"3","b.a":"[{}]","traffic.octets":"5","traffic.octets#2":"6","x.y":"\"\n"}`
	event, rep, err := c.Conform(nil, 4001, []byte(record), at)
	if err != nil || valueAt(t, tree(t, event), "unmapped") != want || rep.Rest != len(at.Rest) || rep.Moved != 1 {
		t.Errorf("%v, %+v\n got %s\nwant %s", err, rep, valueAt(t, tree(t, event), "unmapped"), want)
	}
	for i := range 100 {
		at.Rest = append(at.Rest, ocsf.Field{Path: fmt.Appendf(nil, "many.%d", i%50), Text: fmt.Append(nil, i%75)})
	}
	event, _, err = c.Conform(nil, 4001, []byte(record), at)
	unmapped, _ := tree(t, event)["unmapped"].(map[string]any)
	if err != nil || len(unmapped) != 8+50+50 || unmapped["many.0"] != "0" || unmapped["many.0#2"] != "50" || unmapped["many.49#2"] != "24" || unmapped["traffic.octets#2"] != "6" {
		t.Errorf("%v: %d of %v", err, len(unmapped), unmapped)
	}
}

// TestConformRefuses: what cannot be saved, and why.
func TestConformRefuses(t *testing.T) {
	built := builtIn(t)
	const endpoints = `"src_endpoint":{"ip":"a"},"dst_endpoint":{"ip":"b"}`
	for _, c := range []struct {
		version      ocsf.Version
		class        int64
		record, want string
	}{
		{ocsf.V130, 0, `{}`, "class_uid: neither the mapping nor the record says which class it is"},
		{ocsf.V130, 0, `{"class_uid":5999}`, "class_uid: OCSF 1.3.0 has no class 5999"},
		{ocsf.V130, 4001, `{` + endpoints + `}`, "time: network_activity requires it, and the record does not give it"},
		{ocsf.V130, 4001, `{"time":"soon",` + endpoints + `}`, `time: network_activity requires it, and the record does not give it; what it gives is not valid there: time is "soon"`},
		{ocsf.V130, 4001, `{"time":1,"dst_endpoint":{"port":"x","mac":5}}`, `dst_endpoint: network_activity requires it, and the record does not give it; what it gives is not valid there: dst_endpoint.port is "x", dst_endpoint.mac is "5"`},
		{ocsf.V110, 4001, `{"time":1,"dst_endpoint":{"ip":"b"}}`, "src_endpoint: network_activity requires it"},
		{ocsf.V180, 4001, `{"time":1}`, "network_activity needs at least one of dst_endpoint, src_endpoint"},
		{ocsf.V130, 1007, `{"time":1,"device":{"name":"d"},"process":{"pid":1},"actor":{"process":{"name":"p"}}}`, `actor: process_activity requires it, and the record does not give it; what it gives is not valid there: actor.process.name is "p"`},
		{ocsf.V110, 4001, `{"time":1,"metadata":{"product":{"name":"x"}},` + endpoints + `}`, `metadata.product: metadata requires it, and neither the record nor the config gives it; what it gives is not valid there: metadata.product.name is "x"`},
		{ocsf.V130, 4001, `[]`, "not a JSON object: byte 0: want {"},
		{ocsf.V130, 4001, `{"a":`, "not a JSON object: byte 5: the text ends where a value is due"},
		{ocsf.V130, 4001, `{"a":"\ud800"}`, "not a JSON object: byte 6: an escape that JSON does not have"},
	} {
		cfg := ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}}
		if strings.Contains(c.record, "product") {
			cfg.Product = ocsf.Product{}
		}
		got, _, err := conformer(t, built[c.version], cfg).Conform([]byte("before"), c.class, []byte(c.record), noOrigin())
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || string(got) != "before" {
			t.Errorf("%s\n got %v\nwant %s", c.record, err, c.want)
		}
	}
	if _, err := ocsf.NewConformer(nil, ocsf.ConformConfig{}); err == nil {
		t.Error("no schema is taken")
	}
	if _, err := ocsf.NewConformer(built[ocsf.V130], ocsf.ConformConfig{Product: ocsf.Product{Vendor: "v"}}); err == nil {
		t.Error("a product without a name is taken")
	}
}

// TestLostNotices is the negative control of TestConformProperty: a value that goes missing
// without a fix is noticed.
func TestLostNotices(t *testing.T) {
	record := []byte(`{"a":"kept","b":{"c":["gone",7.25]},"d":"named"}`)
	rep := ocsf.ConformReport{Fixes: []ocsf.Fix{{Path: "d", What: "made x", From: "named"}}}
	if got := lost(t, record, []byte(`{"a":"kept","n":7.25}`), rep); !slices.Equal(got, []string{"gone"}) {
		t.Errorf("got %q", got)
	}
}

// FuzzConform: no record panics, and what comes of it is valid.
func FuzzConform(f *testing.F) {
	f.Add([]byte(`{"class_uid":4001,"activity_id":"Open","time":"1.5","observables":[{"name":"x"}],"metadata":{"profiles":"cloud"},"unmapped":[1]}`), int64(4001))
	f.Add([]byte(`{"actor":{"process":"x"},"device":"d","process":{"pid":"1"},"time":5,"file":{"name":1e5}}`), int64(1007))
	schemas, all := builtIn(f), anyVersion(f)
	f.Fuzz(func(t *testing.T, record []byte, class int64) {
		for _, s := range schemas {
			c := conformer(t, s, ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}, Fixes: true})
			got, _, err := c.Conform(nil, class, record, noOrigin())
			if err != nil {
				continue
			}
			sameReport(t, c, got, all)
			if rep, err := s.Validate(got); err != nil || len(rep.Errors) > 0 {
				t.Fatalf("OCSF %s: %v %v\n%s", s.Version(), err, rep.Errors, got)
			}
		}
	})
}

package mapping_test

import (
	"testing"

	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
)

// logOf22 is a log with 22 fields; mappingOf22 has an attribute for each.
const logOf22 = `{"ts":"2023-11-14T22:13:20.104Z","action":"accept","level":"info","device":"fw-ams-01","vendor":"Example","product":"Edge",
	"version":"7.2","rule":"r-1007","src_ip":"192.0.2.17","src_port":40112,"src_host":"laptop-4711","src_mac":"c4:7f:51:0a:9e:21","user":"j.doe",
	"dst_ip":"198.51.100.9","dst_port":"443","dst_host":"www.example.com","proto":"tcp","direction":"outbound","bytes_in":"18211","bytes_out":4096,
	"session":"a1b2c3d4","msg":"session closed"}`

const mappingOf22 = `{"custom_source_events": {"source_name": "edge", "timestamp": {"field": "$.ts", "format": "%Y-%m-%dT%H:%M:%S.%fZ"},
	"ocsf_mapping": {"all": {"when": "$.ts exists", "schema": "network_activity", "schema_mapping": {
	"class_uid": 4001,
	"time": "$.ts",
	"activity_id": {"enum": {"evaluate": "$.action", "values": {"accept": 1, "close": 2, "deny": 5}, "other": 99}},
	"severity_id": {"enum": {"evaluate": "$.level", "values": {"info": 1, "warn": 2, "error": 3}, "other": 99}},
	"metadata": {"product": {"name": "$.product", "vendor_name": "$.vendor", "version": "$.version"}, "log_name": "$.device"},
	"status_detail": "$.rule",
	"src_endpoint": {"ip": "$.src_ip", "port": "$.src_port", "hostname": "$.src_host", "mac": "$.src_mac", "name": "$.user"},
	"dst_endpoint": {"ip": "$.dst_ip", "port": "$.dst_port", "hostname": "$.dst_host"},
	"connection_info": {"protocol_name": "$.proto", "direction": "$.direction", "uid": "$.session"},
	"traffic": {"bytes_in": "$.bytes_in", "bytes_out": "$.bytes_out"},
	"message": "$.msg"}}}}}`

// of22 is a Mapper for the log and the validator of its events.
func of22(t testing.TB) (*mapping.Mapper, *ocsf.Validator) {
	t.Helper()
	s := schema(t, ocsf.V130)
	return native(t, []byte(mappingOf22), func(c *mapping.Config) { c.Schema = s }), s.Validator()
}

// TestAllocations: a log is mapped and validated with next to no allocations.
func TestAllocations(t *testing.T) {
	m, v := of22(t)
	run := func() {
		got, u := m.Event([]byte(logOf22))
		if u != nil {
			t.Fatal(u)
		}
		if rep, err := m.Validate(v); err != nil || len(rep.Errors)+len(rep.Warnings) > 0 || got.Rest > 0 || got.Moved > 0 {
			t.Fatalf("%v %v %v %s", err, rep.Errors, rep.Warnings, got.Record)
		}
	}
	const most = 5
	if n := testing.AllocsPerRun(100, run); n > most {
		t.Errorf("%v allocations an event, want at most %d", n, most)
	}
}

// BenchmarkConform is the cost of a log with 22 fields: mapped, validated as text, and
// both as a job does it, where the validator takes the tree of the event from the mapper.
func BenchmarkConform(b *testing.B) {
	m, v := of22(b)
	got, u := m.Event([]byte(logOf22))
	if u != nil {
		b.Fatal(u)
	}
	record := append([]byte(nil), got.Record...)
	for _, c := range []struct {
		name string
		run  func() bool
	}{
		{"map", func() bool { _, u := m.Event([]byte(logOf22)); return u == nil }},
		{"validate", func() bool { _, err := v.Validate(record); return err == nil }},
		{"both", func() bool {
			if _, u := m.Event([]byte(logOf22)); u != nil {
				return false
			}
			_, err := m.Validate(v)
			return err == nil
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !c.run() {
					b.Fatal(c.name)
				}
			}
		})
	}
}

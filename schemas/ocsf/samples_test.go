package ocsf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/pdu"
	"github.com/tidemark/tidemark/schemas/traffic"
)

// A producer is a mapper with the schema of its rows.
type producer struct {
	name   string
	schema *arrow.Schema
	mapper func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error)
}

// rowsOf is the schema that a feed's decoder gives, and what reference tables add to it.
func rowsOf(fields []schemas.Field, eventTime string, more ...arrow.Field) *arrow.Schema {
	d, err := schemas.NewDecoder(fields, schemas.DefaultLimits())
	if err != nil {
		panic(err)
	}
	cfg := operators.DefaultDecodeConfig()
	cfg.Time = eventTime
	cfg.Missing = operators.MissingDead
	dec, err := operators.NewDecode(cfg, d, memory.DefaultAllocator)
	if err != nil {
		panic(err)
	}
	out := dec.Schema().Fields()
	for _, f := range more {
		if !dec.Schema().HasField(f.Name) {
			out = append(out, f)
		}
	}
	return arrow.NewSchema(out, nil)
}

// windowOf is the schema of window results. Columns are name:type, the type text, int,
// float or time.
func windowOf(key string, columns ...string) *arrow.Schema {
	fields := []arrow.Field{
		{Name: key, Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "window_start", Type: timestamp}, {Name: "window_end", Type: timestamp},
	}
	return arrow.NewSchema(append(append(fields, columnsOf(columns...)...),
		arrow.Field{Name: "_tm_pane", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32}), nil)
}

func columnsOf(columns ...string) []arrow.Field {
	types := map[string]arrow.DataType{"text": arrow.BinaryTypes.String, "int": arrow.PrimitiveTypes.Int64, "float": arrow.PrimitiveTypes.Float64, "time": timestamp}
	var out []arrow.Field
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, ":")
		out = append(out, arrow.Field{Name: name, Type: types[typ], Nullable: true})
	}
	return out
}

func windowed(op string, f func(ocsf.WindowConfig, *arrow.Schema) (*ocsf.Mapper, error)) func(ocsf.Config, *arrow.Schema) (*ocsf.Mapper, error) {
	return func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
		return f(ocsf.WindowConfig{Config: cfg, Op: op, Kind: ocsf.Tumbling}, in)
	}
}

func streamed(stream string, f func(ocsf.RowConfig, *arrow.Schema) (*ocsf.Mapper, error)) func(ocsf.Config, *arrow.Schema) (*ocsf.Mapper, error) {
	return func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
		return f(ocsf.RowConfig{Config: cfg, Stream: stream, KeepPlace: true}, in)
	}
}

// producers are all mappers of the feeds, over rows that have whatever they know.
func producers() []producer {
	device := ocsf.DeviceFields()
	bleWindow := append(windowOf("asset_id", "count:int", "late_count:int", "first_event_time:time", "last_event_time:time", "rssi_min_dbm:int",
		"rssi_max_dbm:int", "rssi_avg_dbm:float", "battery_last_mv:int", "gateways:int", "temp_max_c:float", "speed_mps:float").Fields(), device...)
	pduWindow := append(windowOf("pdu_id", "element:text", "count:int", "late_count:int", "first_event_time:time", "last_event_time:time", "L1_current_a_avg:float",
		"L1_current_a_max:float", "L2_current_a_avg:float", "L2_current_a_max:float", "L3_current_a_avg:float", "L3_current_a_max:float", "imbalance_pct_max:float",
		"imbalance_pct_avg:float", "total_power_w_avg:float", "energy_wh_delta:float", "voltage_v_min:float", "current_a_avg:float").Fields(), device...)
	trafficWindow := append(windowOf("entity", "direction:text", "source:text", "device:text", "count:int", "late_count:int", "bytes:int", "packets:int", "bytes_in:int", "bytes_out:int",
		"packets_in:int", "packets_out:int", "requests:int", "bytes_total:int", "packets_total:int").Fields(), traffic.Describing()...)
	record := columnsOf("original_time:text", "raw_bytes:int")
	wide := columnsOf("rated_current_a:float", "fuse_current_a:float", "rated_power_w:float", "L1_current_a:float", "L2_current_a:float", "L3_current_a:float",
		"L1_L2_voltage_v:float", "L2_L3_voltage_v:float", "L3_L1_voltage_v:float", "total_power_w:float", "energy_wh:int")
	hop := columnsOf("gateway_name:text", "gateway_time:time")
	return []producer{
		{"ble_window", arrow.NewSchema(bleWindow, nil), windowed("ble_5m", ble.NewWindowMapper)},
		{"pdu_window", arrow.NewSchema(pduWindow, nil), windowed("pdu_5m", pdu.NewWindowMapper)},
		{"traffic_window", arrow.NewSchema(trafficWindow, nil), windowed("traffic_15m", traffic.NewWindowMapper)},
		{"ble_row", rowsOf(ble.Fields(), ble.EventTime, slices.Concat(device, record, hop)...), streamed("ble", ble.NewRowMapper)},
		{"pdu_row", rowsOf(pdu.Fields(), pdu.EventTime, slices.Concat(device, record, wide)...), streamed("pdu", pdu.NewRowMapper)},
		{"traffic_row", rowsOf(traffic.Fields(), traffic.EventTime, slices.Concat(traffic.Describing(), record, columnsOf("bytes_total:int", "packets_total:int"))...), streamed("traffic", traffic.NewRowMapper)},
		{"ble_state", ble.StateSchema(), ble.NewStateMapper},
		{"pdu_finding", pdu.FindingSchema(), func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
			f := pdu.DefaultFindingConfig()
			f.Config = cfg
			return pdu.NewFindingMapper(f, in)
		}},
		{"traffic_finding", traffic.FindingSchema(), func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
			f := traffic.DefaultFindingConfig()
			f.Config = cfg
			return traffic.NewFindingMapper(f, in)
		}},
	}
}

func producerOf(name string) producer {
	all := producers()
	return all[slices.IndexFunc(all, func(p producer) bool { return p.name == name })]
}

// values are the columns of a row that are not null.
type values map[string]any

// with returns the values and others over them; a nil one is null.
func (v values) with(more values) values {
	out := values{}
	for _, vs := range []values{v, more} {
		for name, x := range vs {
			out[name] = x
		}
	}
	return out
}

// record builds a batch of rows. The caller releases it.
func record(t testing.TB, mem memory.Allocator, schema *arrow.Schema, rows ...values) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for _, row := range rows {
		for name := range row {
			if !schema.HasField(name) {
				t.Fatalf("the rows have no column %s", name)
			}
		}
		for i, f := range schema.Fields() {
			appendValue(t, b.Field(i), f, row[f.Name])
		}
	}
	return b.NewRecordBatch()
}

func appendValue(t testing.TB, to array.Builder, f arrow.Field, v any) {
	t.Helper()
	switch b := to.(type) {
	case *array.Int32Builder:
		if v, ok := v.(int); ok {
			b.Append(int32(v))
			return
		}
	case *array.Int64Builder:
		if v, ok := v.(int); ok {
			b.Append(int64(v))
			return
		}
	case *array.Float64Builder:
		if v, ok := v.(float64); ok {
			b.Append(v)
			return
		}
	case *array.StringBuilder:
		if v, ok := v.(string); ok {
			b.Append(v)
			return
		}
	case *array.BooleanBuilder:
		if v, ok := v.(bool); ok {
			b.Append(v)
			return
		}
	case *array.TimestampBuilder:
		switch v := v.(type) {
		case ms:
			b.Append(arrow.Timestamp(v * 1000))
			return
		case arrow.Timestamp:
			b.Append(v)
			return
		}
	case *array.ListBuilder:
		switch v := v.(type) {
		case []int64:
			b.Append(true)
			b.ValueBuilder().(*array.Int64Builder).AppendValues(v, nil)
			return
		case []string:
			b.Append(true)
			b.ValueBuilder().(*array.StringBuilder).AppendValues(v, nil)
			return
		}
	}
	if v != nil || !f.Nullable {
		t.Fatalf("column %s: %s of %T %v", f.Name, f.Type, v, v)
	}
	to.AppendNull()
}

func mapperConfig(topic string, v ocsf.Version, d ocsf.Dialect) ocsf.Config {
	cfg := ocsf.DefaultConfig()
	cfg.Topic, cfg.Version, cfg.Dialect, cfg.ProductVersion = topic, v, d, "0.1.0"
	return cfg
}

// events maps rows and returns each as OCSF JSON, without the columns of the engine beside
// it.
func events(t testing.TB, p producer, cfg ocsf.Config, in arrow.RecordBatch) [][]byte {
	t.Helper()
	m, err := p.mapper(cfg, in.Schema())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := m.Map(memory.DefaultAllocator, in)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	out := make([][]byte, rec.NumRows())
	for i := range out {
		ev := event(rec, i)
		for name := range ev {
			if strings.HasPrefix(name, "_") {
				delete(ev, name)
			}
		}
		if len(ev["unmapped"].(map[string]any)) == 0 {
			delete(ev, "unmapped") // the map of a row without leftovers is empty: nothing to say
		}
		out[i] = encode(t, ev)
	}
	return out
}

// sample is a row and the sample event that it must become.
type sample struct {
	producer string
	topic    string
	row      func(v ocsf.Version, d ocsf.Dialect) values
}

// sampleRows are the rows behind the samples, by their names. Where the samples of two
// versions or dialects tell of different columns, so do the rows.
func sampleRows() map[string]sample {
	cage := values{"asset_id": "RC-0003811", "device_name": "roller cage 3811", "device_mac": "C4:7F:51:0A:9E:21", "country": "NL", "location_desc": "depot Utrecht, dock 4"}
	at := values{"lat": 52.0894, "lon": 5.0913}
	rack := values{"pdu_id": "PDU-LIS01-R12-A", "device_name": "lis01 rack 12 feed A", "device_hostname": "pdu-a.r12.lis01.example", "country": "PT", "city": "Lisbon"}
	as := values{"entity": "AS64500", "entity_name": "AS64500 EXAMPLE-NET", "country": "US"}
	five := values{"window_start": ms(1696404600000), "window_end": ms(1696404900000)}
	state := cage.with(at).with(values{"_tm_revision": 1})
	finding := rack.with(values{
		"time": ms(1696404902000), "start_time": ms(1696404600000), "end_time": ms(1696404900000), "data_sources": []string{"pdu.readings"},
		"related_uid": "agg:pdu_5m:PDU-LIS01-R12-A:1696404600000", "_tm_revision": 1,
	})
	same := func(v values) func(ocsf.Version, ocsf.Dialect) values {
		return func(ocsf.Version, ocsf.Dialect) values { return v }
	}
	byDialect := func(core, ext values) func(ocsf.Version, ocsf.Dialect) values {
		return func(_ ocsf.Version, d ocsf.Dialect) values {
			if d == ocsf.Ext {
				return ext
			}
			return core
		}
	}
	detection := cage.with(values{
		"time": ms(1696404610250), "_split": 0, "_offset": 18812, "_ingest": ms(1696404610670), "original_time": "2023-10-04T07:30:10.250Z",
		"gateway_id": "GW-UTR-04", "gateway_name": "dock 4 gateway", "rssi_dbm": -71, "battery_mv": 2960, "lat": 520894000, "lon": 50913000,
	})
	window := cage.with(at).with(five).with(values{
		"count": 41, "late_count": 2, "first_event_time": ms(1696404601150), "last_event_time": ms(1696404897900), "gateways": 3,
		"rssi_min_dbm": -88, "rssi_max_dbm": -64, "rssi_avg_dbm": -72.4, "battery_last_mv": 2958, "_tm_pane": "on_time", "_tm_revision": 1,
	})
	reading := rack.with(values{
		"time": ms(1696404610250), "_split": 3, "_offset": 5512, "_ingest": ms(1696404610340), "original_time": "1696404610250",
		"L1_current_a": 18.1, "L2_current_a": 21.3, "L3_current_a": 15.2, "L1_L2_voltage_v": 207.8, "L2_L3_voltage_v": 208.3, "L3_L1_voltage_v": 208.0,
		"total_power_w": 6571.0, "energy_wh": 1828311,
	})
	phases := rack.with(five).with(values{
		"count": 30, "late_count": 1, "L1_current_a_avg": 18.0, "L1_current_a_max": 18.4, "L2_current_a_avg": 21.0, "L2_current_a_max": 21.3,
		"L3_current_a_avg": 15.1, "L3_current_a_max": 15.6, "imbalance_pct_max": 17.0, "total_power_w_avg": 6540.2, "energy_wh_delta": 545.0,
		"_tm_pane": "late", "_tm_revision": 2,
	})
	return map[string]sample{
		"ble_detection": {"ble_row", "ble.detections", func(v ocsf.Version, d ocsf.Dialect) values {
			if d == ocsf.Ext {
				return detection
			}
			row := detection.with(values{"gateway_time": ms(1696404610430), "tx_power_dbm": -59, "accel_x_mg": 12, "accel_y_mg": -4, "accel_z_mg": 1003})
			if v == ocsf.V180 {
				return row.with(values{"seq": 99120, "raw_bytes": 212})
			}
			return row
		}},
		"ble_window": {"ble_window", "ble.detections", same(window)},
		"geofence_exit": {"ble_state", "ble.detections", byDialect(
			state.with(values{"kind": "geofence", "event": "exit", "event_code": "geofence_exit", "uid": "state:geofence:RC-0003811:17", "time": ms(1696405323000),
				"last_seen_time": ms(1696405315000), "prev_state": "inside", "state": "outside", "geofence_uid": "depot-utrecht", "dwell_ms": 5412000}),
			state.with(values{"kind": "geofence", "event": "exit", "uid": "state:geofence:RC-0003811:17", "time": ms(1696405323000),
				"last_seen_time": ms(1696405315000), "prev_state": "inside", "state": "outside", "geofence_uid": "depot-utrecht", "geofence_name": "depot Utrecht", "geofence_type": "depot"}))},
		"unavailable": {"ble_state", "ble.detections", func(_ ocsf.Version, d ocsf.Dialect) values {
			row := state.with(values{"kind": "availability", "event": "unavailable", "event_code": "unavailable", "uid": "state:availability:RC-0003811:9", "time": ms(1696412515000),
				"last_seen_time": ms(1696405315000), "prev_state": "available", "state": "unavailable"})
			if d == ocsf.Core {
				row["timeout_ms"] = 7200000
			}
			return row
		}},
		"bottom_open": {"ble_state", "ble.detections", func(_ ocsf.Version, d ocsf.Dialect) values {
			row := state.with(values{"kind": "bottom", "event": "open", "event_code": "bottom_open", "uid": "state:bottom:RC-0003811:9", "time": ms(1696404980000),
				"last_seen_time": ms(1696404980000), "prev_state": "closed", "state": "open"})
			if d == ocsf.Core {
				row["accel_mg"], row["hold_ms"] = []int64{990, 20, 110}, 15000
			}
			return row
		}},
		"transit_start": {"ble_state", "ble.detections", func(_ ocsf.Version, d ocsf.Dialect) values {
			row := state.with(values{"kind": "transit", "event": "start", "event_code": "transit_start", "uid": "state:transit:RC-0003811:9", "time": ms(1696405800000),
				"last_seen_time": ms(1696405800000), "prev_state": "at_rest", "state": "in_transit", "from_geofence": "depot-utrecht"})
			if d == ocsf.Core {
				row["distance_m"] = 640
			} else {
				row["geofence_name"], row["geofence_type"] = "depot Utrecht", "depot"
			}
			return row
		}},
		"pdu_reading": {"pdu_row", "pdu.readings", byDialect(
			reading.with(values{"wiring": "delta", "rated_current_a": 24.0, "fuse_current_a": 20.0, "rated_power_w": 8646.0}), reading)},
		"pdu_window": {"pdu_window", "pdu.readings", byDialect(phases,
			phases.with(values{"imbalance_pct_avg": 16.4, "first_event_time": ms(1696404601150), "last_event_time": ms(1696404897900)}))},
		"traffic_window": {"traffic_window", "traffic.counters", func(v ocsf.Version, _ ocsf.Dialect) values {
			row := as.with(values{
				"window_start": ms(1691018100000), "window_end": ms(1691019000000), "direction": "inbound", "source": "http", "count": 180, "late_count": 0,
				"bytes": 918273645, "packets": 812344, "bytes_in": 640112233, "bytes_out": 278161412, "packets_in": 520001, "packets_out": 292343,
				"requests": 1203345, "_tm_pane": "on_time", "_tm_revision": 1,
			})
			if v != ocsf.V110 {
				row["as_name"] = "EXAMPLE-NET"
			}
			if v == ocsf.V180 {
				row["device"], row["bytes_total"], row["packets_total"] = "edge-collector-3", 90218273645, 77812344
			}
			return row
		}},
		"pdu_overload_finding": {"pdu_finding", "pdu.readings", func(v ocsf.Version, _ ocsf.Dialect) values {
			row := finding.with(values{"rule": "pdu_branch_overload", "rule_version": "3", "activity": "create", "n": 1, "phase": "L2",
				"finding_uid": "finding:pdu_branch_overload:PDU-LIS01-R12-A:L2:1696404600000",
				"avg_a":       21.0, "max_a": 21.3, "fuse_a": 20.0, "rated_a": 24.0, "load_pct": 105.0})
			if v == ocsf.V180 {
				row["count"] = 30
			}
			return row
		}},
		"pdu_imbalance_finding": {"pdu_finding", "pdu.readings", func(v ocsf.Version, _ ocsf.Dialect) values {
			row := finding.with(values{"rule": "pdu_phase_imbalance", "rule_version": "1", "activity": "update", "n": 2, "modified_time": ms(1696405202000),
				"finding_uid": "finding:pdu_phase_imbalance:PDU-LIS01-R12-A:1696404600000",
				"l1_avg_a":    18.0, "l2_avg_a": 21.0, "l3_avg_a": 15.1, "imbalance_pct": 16.5, "limit_pct": 15.0})
			if v == ocsf.V180 {
				row["count"] = 30
			}
			return row
		}},
		"traffic_outage_finding": {"traffic_finding", "traffic.counters", func(v ocsf.Version, _ ocsf.Dialect) values {
			row := as.with(values{"rule": "traffic_drop_forecast", "rule_version": "1", "activity": "close", "n": 3, "finding_uid": "55a57f33-0000-4984-b4df-fdaff72df39d",
				"time": ms(1691019005000), "modified_time": ms(1691104505000), "start_time": ms(1691018100000), "end_time": ms(1691104500000), "verification": "VERIFIED",
				"data_sources": []string{"http", "netflow"}, "related_uid": "agg:traffic_15m:AS64500:1691018100000", "as_name": "EXAMPLE-NET",
				"expected_bytes": 2100000000, "observed_bytes": 918273645, "drop_pct": 56.3, "blocks": 96, "_tm_revision": 1})
			if v == ocsf.V180 {
				row["slot_ms"], row["method"] = 900000, "median of 6 most similar 24 h spans"
			}
			return row
		}},
	}
}

// Every sample is what our mapper makes of a row, as JSON values: the order of members
// does not count. The values of unmapped are compared as text, since that is how a map of
// texts holds them; lists as JSON. The samples are our own; testdata has a copy.
func TestSamples(t *testing.T) {
	checkSamples(t, filepath.Join("testdata", "samples"))
	t.Run("shared", func(t *testing.T) { checkSamples(t, pipelinetest.Shared(t, "ocsf/samples")) })
}

func checkSamples(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) < 60 {
		t.Fatalf("%d samples in %s: %v", len(files), dir, err)
	}
	all := sampleRows()
	for _, file := range files {
		name, rest, _ := strings.Cut(filepath.Base(file), ".")
		dialect, version, _ := strings.Cut(strings.TrimSuffix(rest, ".json"), ".")
		s, ok := all[name]
		if !ok {
			t.Errorf("%s: no row makes it", file)
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := producerOf(s.producer)
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		in := record(t, mem, p.schema, s.row(ocsf.Version(version), ocsf.Dialect(dialect)))
		got := events(t, p, mapperConfig(s.topic, ocsf.Version(version), ocsf.Dialect(dialect)), in)[0]
		in.Release()
		mem.AssertSize(t, 0)
		for _, d := range differences("", eventOf(t, got), eventOf(t, want)) {
			t.Errorf("%s: %s", filepath.Base(file), d)
		}
	}
}

// eventOf reads an event. Values of unmapped become texts.
func eventOf(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	out := map[string]any{}
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	unmapped, _ := out["unmapped"].(map[string]any)
	for name, v := range unmapped {
		if list, ok := v.([]any); ok {
			unmapped[name] = string(encode(t, list))
		} else {
			unmapped[name] = fmt.Sprint(v)
		}
	}
	return out
}

// differences lists where two JSON values differ. Numbers are the same only if they are
// written in the same way: 24 is no float_t.
func differences(path string, got, want any) []string {
	switch g := got.(type) {
	case map[string]any:
		if w, ok := want.(map[string]any); ok {
			var out []string
			for _, name := range slices.Sorted(slices.Values(keysOf(g, w))) {
				out = append(out, differences(path+"."+name, g[name], w[name])...)
			}
			return out
		}
	case []any:
		if w, ok := want.([]any); ok && len(w) == len(g) {
			var out []string
			for i := range g {
				out = append(out, differences(fmt.Sprintf("%s[%d]", path, i), g[i], w[i])...)
			}
			return out
		}
	}
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return []string{fmt.Sprintf("%s: got %v, want %v", path, got, want)}
}

// The comparison sees a change of any one member.
func TestSamplesNotice(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "samples", "ble_window.ext.1.8.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ev := eventOf(t, raw)
	for _, p := range places(ev, "") {
		p.set("other")
		if d := differences("", ev, any(eventOf(t, raw))); len(d) != 1 {
			t.Errorf("%s changed: %v", p.path, d)
		}
		p.set(p.value)
		n++
	}
	if n < 60 {
		t.Errorf("%d places only", n)
	}
}

package ocsf_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/operators/power"
	drops "github.com/tidemark/tidemark/operators/traffic"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/pdu"
	"github.com/tidemark/tidemark/schemas/traffic"
)

// at reads a member: device.uid, measurements[0].name. The text of an absent one is "<nil>".
func at(ev any, path string) string {
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch v := ev.(type) {
		case map[string]any:
			ev = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if ev = nil; err == nil && i < len(v) {
				ev = v[i]
			}
		default:
			ev = nil
		}
	}
	return fmt.Sprint(ev)
}

// mapped maps rows of a producer.
func mapped(t *testing.T, name string, v ocsf.Version, d ocsf.Dialect, rows ...values) []map[string]any {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	p := producerOf(name)
	in := record(t, mem, p.schema, rows...)
	defer in.Release()
	var out []map[string]any
	for _, ev := range events(t, p, mapperConfig("t", v, d), in) {
		out = append(out, eventOf(t, ev))
	}
	return out
}

// expect compares members of an event: "path text" each.
func expect(t *testing.T, what string, ev map[string]any, want ...string) {
	t.Helper()
	for _, w := range want {
		path, text, _ := strings.Cut(w, " ")
		if got := at(ev, path); got != text {
			t.Errorf("%s: %s is %q, want %q", what, path, got, text)
		}
	}
}

func TestStates(t *testing.T) {
	base := values{"asset_id": "RC-1", "time": ms(1000), "_tm_revision": 1}
	row := func(kind, event string, more values) values {
		return base.with(values{"kind": kind, "event": event}).with(more)
	}
	rows := []values{
		row("geofence", "exit", values{"geofence_uid": "a|b"}),
		row("geofence", "exit", values{"geofence_uid": "c"}),
		row("geofence", "dwell", values{"geofence_uid": "c", "dwell_ms": 5}),
		row("availability", "unavailable", values{"prev_state": "available", "state": "in_use", "_tm_revision": 3}),
		row("transit", "end", values{"from_geofence": "a", "to_geofence": "b", "geofence_name": "B"}),
		row("transit", "unknown", values{"from_geofence": "a", "geofence_name": "A"}),
		row("bottom", "close", values{"time": arrow.Timestamp(1500)}),
	}
	core, ext := mapped(t, "ble_state", ocsf.V130, ocsf.Core, rows...), mapped(t, "ble_state", ocsf.V180, ocsf.Ext, rows...)
	for i, want := range []struct{ core, ext []string }{
		{[]string{"metadata.uid state:geofence:RC-1|a%7Cb|exit:1000", "activity_id 99", "activity_name Geofence Exit", "type_uid 500199", "type_name Device Inventory Info: Other", "message RC-1 left geofence a|b"},
			[]string{"type_uid 9880500302", "type_name Asset State Change: Geofence Exit", "geofence.uid a|b", "message <nil>"}},
		{[]string{"metadata.uid state:geofence:RC-1|c|exit:1000"}, []string{"geofence.uid c"}},
		{[]string{"metadata.uid state:geofence:RC-1|c|dwell:1000", "activity_name State Change", "message RC-1 dwell in geofence c", "unmapped.kind geofence", "unmapped.event dwell", "unmapped.dwell_ms 5"},
			[]string{"activity_id 99", "activity_name State Change", "type_name Asset State Change: Other", "unmapped.event dwell", "unmapped.dwell_ms 5"}},
		{[]string{"message RC-1 become unavailable", "metadata.sequence 2", "unmapped.state in_use"}, []string{"activity_id 4", "asset_state in_use", "prev_asset_state available", "unmapped <nil>"}},
		{[]string{"message RC-1 transit end", "unmapped.to_geofence b"}, []string{"geofence.uid b", "geofence.name B", "unmapped.from_geofence a", "unmapped.to_geofence <nil>"}},
		{[]string{"activity_name State Change"}, []string{"geofence <nil>", "unmapped.geofence_name A", "unmapped.from_geofence a"}},
		{[]string{"metadata.uid state:bottom:RC-1|close:1.500", "time 1"}, []string{"activity_id 6"}},
	} {
		expect(t, fmt.Sprintf("core %d", i), core[i], want.core...)
		expect(t, fmt.Sprintf("ext %d", i), ext[i], want.ext...)
	}
}

// TestStateUID: who has no mapper gives the ids that mappers give.
func TestStateUID(t *testing.T) {
	for want, got := range map[string]string{
		"state:geofence:RC-1|a%7Cb|exit:1000": ocsf.StateUID("geofence", 1_000_000, "RC-1", "a|b", "exit"),
		"state:bottom:RC-1|close:1.500":       ocsf.StateUID("bottom", 1500, "RC-1", "close"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestPDUFindings(t *testing.T) {
	base := values{"pdu_id": "P", "time": ms(5000), "finding_uid": "f", "n": 1, "activity": "create", "_tm_revision": 1,
		"start_time": ms(0), "end_time": ms(600000), "device_name": "rack 1"}
	row := func(rule string, more values) values { return base.with(values{"rule": rule}).with(more) }
	rows := []values{
		row(pdu.Continuous, values{"phase": "L2", "load_pct": 85.25, "avg_a": 17.05, "fuse_a": 20.0}),
		row(pdu.Overload, values{"phase": "L2", "load_pct": 70.0, "activity": "close", "n": 3, "modified_time": ms(9000)}),
		row(pdu.Redundancy, values{"failed_feed": "A", "load_pct": 112.0, "limit_pct": 100.0, "lost_devices": 2}),
		row(pdu.Imbalance, values{"imbalance_pct": 16.5, "limit_pct": 15.0, "activity": "update", "n": 2}),
		row(pdu.Imbalance, values{"activity": "close", "verification": "FALSE_POSITIVE", "end_time": nil}),
		row("site_rule", values{"activity": "review"}),
		row(pdu.Overload, values{"phase": "L1", "load_pct": 117.7, "avg_a": 28.25, "rated_a": 24.0, "silenced": true}),
		row(pdu.Energy, values{"counter_kwh": 4.2, "power_kwh": 6.0, "limit_pct": 10.0}),
	}
	v180 := mapped(t, "pdu_finding", ocsf.V180, ocsf.Core, rows...)
	for i, want := range [][]string{
		{"severity Medium", "risk_level Medium", "finding_info.title PDU branch current above continuous rating", "finding_info.desc Phase L2 averaged 17.1 A over 10 min against a 20 A fuse.",
			"message P L2 at 85.3 % of fuse rating", "resources[0].uid P/L2", "is_alert true", "metadata.profiles [host]", "status New",
			"anomaly_analyses[0].anomalies[0].observations[0].value 17.05", "anomaly_analyses[0].anomalies[0].observed_pattern ABOVE_CONTINUOUS_RATING", "anomaly_analyses[0].baselines[0].observations[0].value 20.0", "metadata.uid f/1", "metadata.sequence 0"},
		{"severity Low", "status Resolved", "message P L2 overload closed after 10 min", "is_alert false", "anomaly_analyses <nil>", "metadata.uid f/3", "metadata.sequence 2",
			"time 5000", "finding_info.created_time 5000", "finding_info.modified_time 9000", "evidences[0].data.load_pct 70.0"},
		{"severity High", "finding_info.types [Power Redundancy]", "finding_info.desc If feed A failed the other one would carry 112 % of its rating.", "message P lost redundancy: 112 % if feed A failed",
			"resources[0].uid P", "resources[0].type pdu", "resources[0].name rack 1", "evidences[0].data.lost_devices 2", "anomaly_analyses[0].anomalies[0].observed_pattern ABOVE_RATING"},
		{"severity Low", "risk_level Low", "status In Progress", "finding_info.desc Phase currents differ from their mean by 16.5 %, limit 15 %.", "message P phase imbalance 16.5 %"},
		{"severity Unknown", "risk_level <nil>", "status Suppressed", "status_detail FALSE_POSITIVE", "verdict_id 1", "metadata.profiles [host incident]", "confidence Low", "evidences <nil>",
			"message P phase imbalance closed", "end_time <nil>", "duration <nil>"},
		{"activity_id 99", "activity_name review", "type_name Detection Finding: Other", "status Unknown", "finding_info.title PDU rule site_rule", "finding_info.analytic.uid rule:site_rule", "message P site_rule"},
		{"finding_info.title PDU line current above rating", "finding_info.desc Phase L1 averaged 28.2 A over 10 min against a rating of 24 A.", "message P L1 at 117.7 % of rating",
			"anomaly_analyses[0].anomalies[0].observed_pattern ABOVE_RATING", "anomaly_analyses[0].baselines[0].observations[0].value 24.0", "unmapped.silenced true"},
		{"finding_info.title PDU energy counter and power differ", "finding_info.desc The counter says 4.2 kWh, the power adds up to 6 kWh, limit 10 %.", "message P energy mismatch",
			"severity Low", "finding_info.types [Power Data Quality]", "anomaly_analyses[0].anomalies[0].observations[0].value 4.2", "evidences[0].data.power_kwh 6.0"},
	} {
		expect(t, fmt.Sprint(i), v180[i], want...)
	}
	// Related events have the class that the windows of the dialect have.
	related := base.with(values{"rule": pdu.Overload, "related_uid": "agg:x"})
	for d, want := range map[ocsf.Dialect]string{ocsf.Core: "500102", ocsf.Ext: "9880500202"} {
		expect(t, string(d), mapped(t, "pdu_finding", ocsf.V130, d, related)[0], "finding_info.related_events[0].type_uid "+want, "class_uid 2004", "metadata.extensions <nil>")
	}
}

func TestOutages(t *testing.T) {
	base := values{"entity": "AS1", "rule": "r", "time": ms(5000), "finding_uid": "f", "n": 1, "activity": "create", "_tm_revision": 1, "start_time": ms(0), "drop_pct": 24.0}
	rows := []values{
		base,
		base.with(values{"drop_pct": 90.0, "activity": "update", "n": 2, "end_time": ms(7200000), "verification": "UNVERIFIED", "observed_bytes": 5, "slot_ms": 900000}),
		base.with(values{"entity": "NL", "entity_type": "location", "activity": "close", "verification": "FALSE_POSITIVE", "observed_bytes": 5, "expected_bytes": 9}),
	}
	v180, v110 := mapped(t, "traffic_finding", ocsf.V180, ocsf.Core, rows...), mapped(t, "traffic_finding", ocsf.V110, ocsf.Core, rows...)
	for i, want := range [][]string{
		{"severity Low", "impact Low", "message AS1 traffic 24.0 % below forecast", "finding_info.desc Observed traffic stayed under the forecast.", "confidence Unknown", "metadata.profiles <nil>", "duration <nil>",
			"resources[0].type autonomous_system", "evidences[0].dst_endpoint.uid AS1"},
		{"severity Critical", "impact Critical", "message AS1 traffic 90.0 % below forecast for 2 h", "confidence Low", "duration 7200000", "anomaly_analyses[0].anomalies[0].observation_parameter bytes per 15 min",
			"anomaly_analyses[0].analysis_targets[0].type Autonomous System", "anomaly_analyses[0].baselines <nil>"},
		{"status Suppressed", "verdict False Positive", "metadata.profiles [incident]", "resources[0].type location", "anomaly_analyses[0].analysis_targets[0].type Location",
			"anomaly_analyses[0].baselines[0].observation_parameter forecast bytes per slot"},
	} {
		expect(t, fmt.Sprint(i), v180[i], want...)
	}
	expect(t, "1.1.0", v110[1], "unmapped.slot_ms 900000", "duration 7200000", "anomaly_analyses <nil>", "is_alert <nil>")
	expect(t, "1.1.0", v110[2], "status Suppressed", "verdict <nil>", "metadata.profiles <nil>")
}

// The words that mappers know are those that the domain operators say; neither imports the
// other.
func TestWordsOfOperators(t *testing.T) {
	for word, of := range map[string]string{
		pdu.Overload: string(power.RuleOver), pdu.Continuous: string(power.RuleOverContinuous),
		pdu.Imbalance: string(power.RuleImbalance), pdu.Redundancy: string(power.RuleRedundancy),
	} {
		if word != of {
			t.Errorf("rule %s is %s in operators/power", word, of)
		}
	}
	state := values{"asset_id": "a", "time": ms(1), "_tm_revision": 1, "kind": ble.Geofence}
	for event, activity := range map[assets.GeofenceKind]string{assets.Enter: "Geofence Enter", assets.Exit: "Geofence Exit"} {
		expect(t, string(event), mapped(t, "ble_state", ocsf.V130, ocsf.Ext, state.with(values{"event": string(event)}))[0], "activity_name "+activity)
	}
	outage := values{"entity": "AS1", "rule": "r", "time": ms(1), "finding_uid": "f", "n": 1, "activity": "close", "_tm_revision": 1}
	for status, confidence := range map[drops.Status]string{drops.Unverified: "Low", drops.Verified: "High", drops.FalsePositive: "Low"} {
		ev := mapped(t, "traffic_finding", ocsf.V180, ocsf.Core, outage.with(values{"verification": string(status)}))[0]
		expect(t, string(status), ev, "confidence "+confidence, "status_detail "+string(status))
		if refuted := at(ev, "verdict_id") == "1"; refuted != (status == drops.FalsePositive) {
			t.Errorf("%s: verdict %s", status, at(ev, "verdict_id"))
		}
	}
}

// A job may count other percents as severe.
func TestSeveritiesOfJobs(t *testing.T) {
	p := producerOf("pdu_finding")
	in := record(t, memory.DefaultAllocator, p.schema, values{"pdu_id": "P", "time": ms(1), "finding_uid": "f", "n": 1, "activity": "create", "_tm_revision": 1, "rule": pdu.Overload, "load_pct": 95.0})
	defer in.Release()
	p.mapper = func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
		f := pdu.DefaultFindingConfig()
		f.Config, f.Load = cfg, ocsf.Severities{{From: 90, Severity: 6}}
		return pdu.NewFindingMapper(f, in)
	}
	expect(t, "", eventOf(t, events(t, p, mapperConfig("t", ocsf.V130, ocsf.Core), in)[0]), "severity_id 6", "severity Fatal", "risk_level Critical")
	for _, c := range []struct {
		s    ocsf.Severities
		want string
	}{
		{nil, "no step"}, {ocsf.Severities{{From: 0, Severity: 7}}, "severity 7: want 1 to 6"},
		{ocsf.Severities{{From: 5, Severity: 1}, {From: 5, Severity: 2}}, "from 5 %: want more than 5 %"},
	} {
		f, o := pdu.DefaultFindingConfig(), traffic.DefaultFindingConfig()
		f.Imbalance, o.Drop = c.s, c.s
		for _, err := range []error{f.Validate(), o.Validate()} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v, want %s", c.s, err, c.want)
			}
		}
	}
}

func TestReadings(t *testing.T) {
	base := values{"time": ms(5), "_split": 1, "_offset": 7, "_ingest": ms(6)}
	cage, rack, net := base.with(values{"asset_id": "RC-1"}), base.with(values{"pdu_id": "P"}), base.with(values{"entity": "AS1"})
	for _, c := range []struct {
		producer string
		dialect  ocsf.Dialect
		row      values
		want     []string
	}{
		{"ble_row", ocsf.Core, cage.with(values{"_ingest": ms(-1), "gateway_name": "dock", "accel_y_mg": 4, "seq": 3}),
			[]string{"metadata.uid ble:1:7", "metadata.logged_time <nil>", "metadata.loggers <nil>", "unmapped.gateway_name dock", "unmapped.accel_mg [null,4,null]", "unmapped.seq 3", "message RC-1 heard", "device.last_seen_time 5"}},
		{"ble_row", ocsf.Ext, cage.with(values{"gateway_id": "G", "temp_c": -250, "buffered": true, "seq": 3}),
			[]string{"metadata.logged_time 6", "gateway.uid G", "measurements[0].name temperature", "measurements[0].value_num -2.5", "measurements[1] <nil>", "unmapped.buffered true", "metadata.original_event_uid G/3"}},
		{"ble_row", ocsf.Ext, cage, []string{"measurements []", "gateway <nil>", "unmapped <nil>"}},
		{"pdu_row", ocsf.Core, rack.with(values{"element": "B3", "a": 8330, "w": 17321}), []string{"message P B3 1.73 kW, 8.3 A", "unmapped.a 8.33", "unmapped.w 1732.1", "unmapped.element B3"}},
		{"pdu_row", ocsf.Ext, rack.with(values{"element": "B3", "scope": "branch", "a": 8330, "pf": 9800, "kwh_total": 1500}),
			[]string{"measurements[0].measure_phase B3", "measurements[0].value_num 8.33", "measurements[1].name power_factor", "measurements[2].measure_unit kW.h", "unmapped.scope branch", "unmapped.element <nil>"}},
		{"pdu_row", ocsf.Ext, rack.with(values{"element": "B3"}), []string{"measurements []", "unmapped.element B3"}},
		{"traffic_row", ocsf.Core, net.with(values{"bytes": 12345678, "direction": "in", "bytes_total": 5, "device": "D", "if_name": "eth0"}),
			[]string{"class_uid 4001", "type_uid 400106", "traffic.bytes 12345678", "cumulative_traffic.bytes 5", "network_observation_point.uid D", "observation_point_id 3", "unmapped.if_name eth0",
				"connection_info.direction Inbound", "message AS1 in 12.3 MB", "dst_endpoint.autonomous_system.number 1", "start_time <nil>"}},
		{"traffic_row", ocsf.Ext, net, []string{"class_uid 4001", "metadata.extensions <nil>", "network_observation_point <nil>", "observation_point_id <nil>", "message AS1"}},
	} {
		ev := mapped(t, c.producer, ocsf.V180, c.dialect, c.row)[0]
		expect(t, c.producer+" "+string(c.dialect), ev, c.want...)
		expect(t, c.producer, ev, "metadata.sequence 0")
	}
}

// _split and _offset are the last columns, as they came.
func TestRowsKeepTheirPlace(t *testing.T) {
	p := producerOf("ble_row")
	in := record(t, memory.DefaultAllocator, p.schema,
		values{"time": ms(5), "_split": 4, "_offset": 1 << 40, "_ingest": ms(6), "asset_id": "a"},
		values{"time": ms(5), "_split": 0, "_offset": 0, "_ingest": ms(6), "asset_id": "a"})
	defer in.Release()
	m, err := p.mapper(mapperConfig("t", ocsf.V130, ocsf.Core), in.Schema())
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Map(memory.DefaultAllocator, in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	fields := out.Schema().Fields()
	for i, name := range []string{"_split", "_offset"} {
		at := len(fields) - 2 + i
		was, _ := in.Schema().FieldsByName(name)
		if !fields[at].Equal(was[0]) || !array.Equal(out.Column(at), in.Column(in.Schema().FieldIndices(name)[0])) {
			t.Errorf("column %d is %v %v", at, fields[at], out.Column(at))
		}
	}
	// They may be left out: the uid says the same.
	m, err = ble.NewRowMapper(ocsf.RowConfig{Config: mapperConfig("t", ocsf.V130, ocsf.Core), Stream: "t"}, in.Schema())
	if err != nil {
		t.Fatal(err)
	}
	if last := m.Schema().Field(m.Schema().NumFields() - 1).Name; last != "unmapped" {
		t.Errorf("the last column is %s", last)
	}
}

// Ways of a window that tumbling ones do not have.
func TestAggWindow(t *testing.T) {
	base := values{"asset_id": "a", "window_start": ms(0), "window_end": ms(5), "_tm_revision": 1, "_tm_pane": "late_delta", "late_count": 1 << 40, "rssi_min_dbm": -80}
	p := producerOf("ble_window")
	in := record(t, memory.DefaultAllocator, p.schema, base)
	defer in.Release()
	for kind, want := range map[ocsf.Kind]string{ocsf.Hopping: "2 Sliding", ocsf.Session: "3 Session", ocsf.Cumulate: "99 cumulate"} {
		p.mapper = func(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
			return ble.NewWindowMapper(ocsf.WindowConfig{Config: cfg, Op: "w", Kind: kind}, in)
		}
		ev := eventOf(t, events(t, p, mapperConfig("t", ocsf.V130, ocsf.Ext), in)[0])
		id, name, _ := strings.Cut(want, " ")
		expect(t, want, ev, "agg_window.window_type_id "+id, "agg_window.window_type "+name, "agg_window.firing_id 99", "agg_window.firing late_delta",
			"agg_window.late_count <nil>", "unmapped.late_count 1099511627776", "unmapped.rssi_min_dbm -80", "measurements []", "message <nil>", "unmapped.firing <nil>")
	}
}

// The phase is in the name of a column or, in rows of one element, in a column of its own.
func TestPhases(t *testing.T) {
	base := values{"pdu_id": "P", "window_start": ms(0), "window_end": ms(5), "_tm_revision": 1, "_tm_pane": "on_time", "count": 4}
	evs := mapped(t, "pdu_window", ocsf.V130, ocsf.Ext,
		base.with(values{"element": "B3", "current_a_avg": 5.0, "L1_current_a_avg": 6.0, "imbalance_pct_avg": 7.0}),
		base.with(values{"element": "B3", "voltage_v_min": 207.0, "L1_current_a_max": 6.0}))
	expect(t, "one element", evs[0], "measurements[0].measure_phase L1", "measurements[1].measure_phase total", "measurements[2].measure_phase B3",
		"measurements[2].count 4", "measurements[2].value_avg 5.0", "unmapped <nil>")
	expect(t, "none", evs[1], "measurements []", "unmapped.element B3", "unmapped.voltage_v_min 207.0", "unmapped.L1_current_a_max 6.0")
}

// A withdrawal says so in dialect ext too.
func TestExtWithdrawal(t *testing.T) {
	cols := append([]col{{"pdu_id", []any{"P", "P"}}}, tail(2)...)
	cols = append(cols, col{"total_power_w_avg", []any{5.0, nil}}, col{"_tm_del", []any{false, true}})
	in := results(t, memory.DefaultAllocator, cols)
	defer in.Release()
	evs := events(t, producerOf("pdu_window"), mapperConfig("t", ocsf.V130, ocsf.Ext), in)
	expect(t, "given", eventOf(t, evs[0]), "message <nil>", "measurements[0].value_avg 5.0")
	expect(t, "withdrawn", eventOf(t, evs[1]), "message withdrawn", "measurements []")
}

// Lists of a batch do not change when another batch is mapped.
func TestListsAreIndependent(t *testing.T) {
	p := producerOf("pdu_row")
	full := values{"time": ms(5), "_split": 1, "_offset": 7, "_ingest": ms(6), "pdu_id": "P", "a": 5, "v": 6}
	in1, in2 := record(t, memory.DefaultAllocator, p.schema, full), record(t, memory.DefaultAllocator, p.schema, full.with(values{"a": nil}), full)
	defer in1.Release()
	defer in2.Release()
	m, err := p.mapper(mapperConfig("t", ocsf.V130, ocsf.Ext), p.schema)
	if err != nil {
		t.Fatal(err)
	}
	out1, err := m.Map(memory.DefaultAllocator, in1)
	if err != nil {
		t.Fatal(err)
	}
	defer out1.Release()
	before := string(encode(t, event(out1, 0)))
	out2, err := m.Map(memory.DefaultAllocator, in2)
	if err != nil {
		t.Fatal(err)
	}
	defer out2.Release()
	if after := string(encode(t, event(out1, 0))); after != before {
		t.Errorf("changed\n%s\n%s", before, after)
	}
	if at(event(out2, 0), "measurements[1]") != "<nil>" || at(event(out2, 1), "measurements[1].name") == "<nil>" {
		t.Errorf("lists %v %v", event(out2, 0)["measurements"], event(out2, 1)["measurements"])
	}
}

func TestMappersRefuse(t *testing.T) {
	good := mapperConfig("t", ocsf.V130, ocsf.Core)
	bad := ocsf.Config{Version: "1.2.0", Dialect: "own", ExtensionUID: 1000}
	for _, p := range producers() {
		_, err := p.mapper(bad, p.schema)
		for _, want := range []string{`version "1.2.0"`, `dialect "own": want core or ext`, "extension_uid 1000: want 1 to 999", "topic", "product_version", "feature"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v\nwant a word on %s", p.name, err, want)
			}
		}
		// Without one of the columns that it needs, and with one of another type.
		for i, f := range p.schema.Fields() {
			if f.Nullable && f.Name != "time" {
				continue
			}
			fields := p.schema.Fields()
			if _, err := p.mapper(good, arrow.NewSchema(slices.Delete(slices.Clone(fields), i, i+1), nil)); err == nil || !strings.Contains(err.Error(), `"`+f.Name+`": the results have none`) {
				t.Errorf("%s without %s: %v", p.name, f.Name, err)
			}
			fields[i].Type = arrow.FixedWidthTypes.Boolean
			if _, err := p.mapper(good, arrow.NewSchema(fields, nil)); err == nil || !strings.Contains(err.Error(), `"`+f.Name+`": type bool`) {
				t.Errorf("%s with another %s: %v", p.name, f.Name, err)
			}
		}
	}
	if _, err := ble.NewRowMapper(ocsf.RowConfig{Config: good}, producerOf("ble_row").schema); err == nil || !strings.Contains(err.Error(), "stream: must not be empty") {
		t.Errorf("no stream: %v", err)
	}
	ext := mapperConfig("t", ocsf.V130, ocsf.Ext)
	if _, err := producerOf("pdu_window").mapper(ext, windowOf("pdu_id", "count:int", "current_a_max:float")); err == nil || !strings.Contains(err.Error(), "name one like current_a_avg, or take dialect core") {
		t.Errorf("no measurement: %v", err)
	}
	taken := arrow.NewSchema(append(producerOf("ble_row").schema.Fields(), columnsOf("gateway_uid:text")...), nil)
	if _, err := producerOf("ble_row").mapper(good, taken); err == nil || !strings.Contains(err.Error(), `"gateway_uid": unmapped has an entry of that name`) {
		t.Errorf("a taken name: %v", err)
	}
}

// The schemas of rows that operators emit change only on purpose.
func TestRowSchemas(t *testing.T) {
	for name, want := range map[string]string{
		"ble_state": "time kind event event_code uid prev_state state last_seen_time asset_id geofence_uid geofence_name geofence_type from_geofence to_geofence " +
			"dwell_ms timeout_ms hold_ms distance_m duration_ms inferred accel_mg tilt_deg load_kg " +
			"device_name device_mac device_hostname country region city postal_code location_desc lat lon _tm_revision",
		"pdu_finding": "time finding_uid n activity rule rule_version start_time end_time modified_time verification related_uid data_sources " +
			"pdu_id phase failed_feed peer_id count lost_devices avg_a max_a fuse_a rated_a load_pct l1_avg_a l2_avg_a l3_avg_a imbalance_pct limit_pct counter_kwh power_kwh " +
			"device_name device_mac device_hostname country region city postal_code location_desc lat lon silenced _tm_revision",
		"traffic_finding": "time finding_uid n activity rule rule_version start_time end_time modified_time verification related_uid data_sources " +
			"entity entity_type method expected_bytes observed_bytes blocks slot_ms drop_pct entity_name as_name country region city _tm_revision",
	} {
		var got []string
		for _, f := range producerOf(name).schema.Fields() {
			got = append(got, f.Name)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s\n got %s\nwant %s", name, s, want)
		}
	}
}

func TestDefaultVersions(t *testing.T) {
	if ocsf.Core.DefaultVersion() != ocsf.V130 || ocsf.Ext.DefaultVersion() != ocsf.V180 {
		t.Errorf("%s %s", ocsf.Core.DefaultVersion(), ocsf.Ext.DefaultVersion())
	}
}

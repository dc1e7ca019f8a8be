package ocsf_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/pdu"
	"github.com/tidemark/tidemark/schemas/traffic"
)

// ms is a time column value in milliseconds, fixed a fixed point one.
type ms int64

type fixed struct {
	v     int64
	scale int
}

type col struct {
	name string
	vals []any // int64, int32, float64, string, bool, ms, fixed, []int64 or nil; the first is not nil
}

var timestamp = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

// results builds a batch of result rows. The caller releases it.
func results(t testing.TB, mem memory.Allocator, cols []col) arrow.RecordBatch {
	t.Helper()
	fields := make([]arrow.Field, len(cols))
	for i, c := range cols {
		f := arrow.Field{Name: c.name, Nullable: true}
		switch v := c.vals[0].(type) {
		case int64:
			f.Type = arrow.PrimitiveTypes.Int64
		case int32:
			f.Type = arrow.PrimitiveTypes.Int32
		case float64:
			f.Type = arrow.PrimitiveTypes.Float64
		case string:
			f.Type = arrow.BinaryTypes.String
		case bool:
			f.Type = arrow.FixedWidthTypes.Boolean
		case ms:
			f.Type = timestamp
		case arrow.Timestamp:
			f.Type = timestamp
		case []int64:
			f.Type = arrow.ListOf(arrow.PrimitiveTypes.Int64)
		case fixed:
			f.Type = arrow.PrimitiveTypes.Int64
			f.Metadata = arrow.MetadataFrom(map[string]string{schemas.ScaleKey: fmt.Sprint(v.scale)})
		default:
			t.Fatalf("column %s: %T", c.name, v)
		}
		fields[i] = f
	}
	b := array.NewRecordBuilder(mem, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i, c := range cols {
		for _, v := range c.vals {
			switch v := v.(type) {
			case nil:
				b.Field(i).AppendNull()
			case int64:
				b.Field(i).(*array.Int64Builder).Append(v)
			case int32:
				b.Field(i).(*array.Int32Builder).Append(v)
			case float64:
				b.Field(i).(*array.Float64Builder).Append(v)
			case string:
				b.Field(i).(*array.StringBuilder).Append(v)
			case bool:
				b.Field(i).(*array.BooleanBuilder).Append(v)
			case ms:
				b.Field(i).(*array.TimestampBuilder).Append(arrow.Timestamp(v * 1000))
			case arrow.Timestamp:
				b.Field(i).(*array.TimestampBuilder).Append(v)
			case []int64:
				b.Field(i).(*array.ListBuilder).Append(true)
				b.Field(i).(*array.ListBuilder).ValueBuilder().(*array.Int64Builder).AppendValues(v, nil)
			case fixed:
				b.Field(i).(*array.Int64Builder).Append(v.v)
			}
		}
	}
	return b.NewRecordBatch()
}

// value renders a value the way JSON has it: objects without their nulls.
func value(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Int32:
		return json.Number(fmt.Sprint(a.Value(i)))
	case *array.Int64:
		return json.Number(fmt.Sprint(a.Value(i)))
	case *array.Float64:
		return json.Number(floatText(a.Value(i)))
	case *array.String:
		return a.Value(i)
	case *array.Boolean:
		return a.Value(i)
	case *array.Struct:
		out := map[string]any{}
		for f := range a.NumField() {
			if v := value(a.Field(f), i); v != nil {
				out[a.DataType().(*arrow.StructType).Field(f).Name] = v
			}
		}
		return out
	case *array.Map:
		out := map[string]any{}
		for k := a.Offsets()[i]; k < a.Offsets()[i+1]; k++ {
			out[a.Keys().(*array.String).Value(int(k))] = a.Items().(*array.String).Value(int(k))
		}
		return out
	case *array.List:
		from, to := a.ValueOffsets(i)
		out := []any{}
		for k := from; k < to; k++ {
			out = append(out, value(a.ListValues(), int(k)))
		}
		return out
	}
	panic(fmt.Sprintf("%T", a))
}

// floatText writes a float_t: with a fraction or an exponent.
func floatText(f float64) string {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	s := strconv.FormatFloat(f, format, -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func event(rec arrow.RecordBatch, i int) map[string]any {
	out := map[string]any{}
	for c, a := range rec.Columns() {
		if v := value(a, i); v != nil {
			out[rec.ColumnName(c)] = v
		}
	}
	return out
}

type feed struct {
	name   string
	op     string
	topic  string
	mapper func(ocsf.WindowConfig, *arrow.Schema) (*ocsf.Mapper, error)
	cols   []col
}

func feeds() []feed {
	return []feed{{
		name: "ble", op: "ble_5m", topic: "ble.detections", mapper: ble.NewWindowMapper,
		cols: []col{
			{"asset_id", []any{"RC-0003811"}},
			{"window_start", []any{ms(1696404600000)}}, {"window_end", []any{ms(1696404900000)}},
			{"count", []any{int64(41)}},
			{"first_event_time", []any{ms(1696404601150)}}, {"last_event_time", []any{ms(1696404897900)}},
			{"gateways", []any{int64(3)}}, {"rssi_min_dbm", []any{int64(-88)}}, {"rssi_max_dbm", []any{int64(-64)}},
			{"rssi_avg_dbm", []any{-72.4}}, {"battery_last_mv", []any{int64(2958)}},
			{"late_count", []any{int64(2)}}, {"_tm_pane", []any{"on_time"}}, {"_tm_revision", []any{int32(1)}},
		},
	}, {
		name: "pdu", op: "pdu_5m", topic: "pdu.readings", mapper: pdu.NewWindowMapper,
		cols: []col{
			{"pdu_id", []any{"PDU-LIS01-R12-A"}},
			{"window_start", []any{ms(1696404600000)}}, {"window_end", []any{ms(1696404900000)}},
			{"L1_current_a_avg", []any{18.0}}, {"L1_current_a_max", []any{fixed{18400, 3}}},
			{"L2_current_a_avg", []any{fixed{21000, 3}}}, {"L2_current_a_max", []any{fixed{21300, 3}}},
			{"L3_current_a_avg", []any{15.1}}, {"L3_current_a_max", []any{fixed{15600, 3}}},
			{"imbalance_pct_max", []any{17.0}}, {"total_power_w_avg", []any{fixed{65402, 1}}}, {"energy_wh_delta", []any{545.0}},
			{"count", []any{int64(30)}}, {"late_count", []any{int64(1)}}, {"_tm_revision", []any{int32(2)}}, {"_tm_pane", []any{"late"}},
		},
	}, {
		name: "traffic", op: "traffic_15m", topic: "traffic.counters", mapper: traffic.NewWindowMapper,
		cols: []col{
			{"entity", []any{"AS64500"}},
			{"window_start", []any{ms(1691018100000)}}, {"window_end", []any{ms(1691019000000)}},
			{"direction", []any{"inbound"}}, {"source", []any{"http"}}, {"count", []any{int64(180)}},
			{"bytes", []any{int64(918273645)}}, {"packets", []any{int64(812344)}}, {"bytes_in", []any{int64(640112233)}},
			{"bytes_out", []any{int64(278161412)}}, {"packets_in", []any{int64(520001)}}, {"packets_out", []any{int64(292343)}},
			{"requests", []any{int64(1203345)}}, {"late_count", []any{int64(0)}}, {"_tm_pane", []any{"on_time"}}, {"_tm_revision", []any{int32(1)}},
		},
	}}
}

func (f feed) config(v ocsf.Version) ocsf.WindowConfig {
	cfg := ocsf.DefaultWindowConfig()
	cfg.Op, cfg.Topic, cfg.Version, cfg.ProductVersion = f.op, f.topic, v, "0.1.0"
	return cfg
}

// drop removes a member if it is there: what is unknown differs by version.
func drop(t *testing.T, event map[string]any, path string) {
	t.Helper()
	names := strings.Split(path, ".")
	for _, n := range names[:len(names)-1] {
		event, _ = event[n].(map[string]any)
	}
	delete(event, names[len(names)-1])
}

// Every event of every feed and version is valid: full rows, rows that lack what may be
// lacking, and rows that withdraw.
func TestEventsAreValid(t *testing.T) {
	for v, s := range builtIn(t) {
		for _, f := range feeds() {
			check := func(what string, events []map[string]any) {
				for i, ev := range events {
					delete(ev, "_tm_revision")
					delete(ev, "_tm_del")
					got, err := s.Validate(encode(t, ev))
					if err != nil || len(got.Errors)+len(got.Warnings) > 0 {
						t.Errorf("%s %s %s %d: %v\nerrors %v\nwarnings %v", f.name, v, what, i, err, got.Errors, got.Warnings)
					}
				}
			}
			check("sample", mapRows(t, f, f.config(v), f.cols))
			for _, kind := range []ocsf.Kind{ocsf.Tumbling, ocsf.Session} {
				cfg := f.config(v)
				cfg.Kind = kind
				del := []col{{"_tm_del", []any{false, true}}}
				cols := slices.Clone(f.cols)
				for i, c := range cols {
					cols[i].vals = []any{c.vals[0], nil}
					if c.name == f.cols[0].name || strings.HasPrefix(c.name, "window_") || strings.HasPrefix(c.name, "_tm_") {
						cols[i].vals[1] = c.vals[0]
					}
				}
				check("sparse", mapRows(t, f, cfg, cols))
				check("withdrawn", mapRows(t, f, cfg, append(cols, del...)))
			}
		}
	}
	// The control: an event that is not valid is found by the same way.
	f := feeds()[0]
	ev := mapRows(t, f, f.config(ocsf.V130), f.cols)[0]
	if got, err := builtIn(t)[ocsf.V130].Validate(encode(t, ev)); err != nil || !slices.Equal(findings(got.Errors), []string{`attribute_unknown at "_tm_revision"`}) {
		t.Errorf("with the column of the sinks: %v %v", err, got.Errors)
	}
}

func keysOf(ms ...map[string]any) []string {
	seen := map[string]bool{}
	var out []string
	for _, m := range ms {
		for k := range m {
			if !seen[k] {
				out = append(out, k)
			}
			seen[k] = true
		}
	}
	return out
}

type compiled struct {
	Classes map[string]struct {
		UID        int32                `json:"uid"`
		Attributes map[string]attribute `json:"attributes"`
	} `json:"classes"`
	Objects map[string]struct {
		Attributes  map[string]attribute `json:"attributes"`
		Constraints struct {
			AtLeastOne []string `json:"at_least_one"`
		} `json:"constraints"`
	} `json:"objects"`
}

type attribute struct {
	Type        string                              `json:"type"`
	ObjectType  string                              `json:"object_type"`
	IsArray     bool                                `json:"is_array"`
	Requirement string                              `json:"requirement"`
	Profiles    []string                            `json:"profiles"`
	Sibling     string                              `json:"sibling"`
	Enum        map[string]struct{ Caption string } `json:"enum"`
}

// Every attribute that a mapper declares is in the published schema, with the type that
// the schema wants, every required one is there, and the captions are the schema's.
func TestCompiledSchema(t *testing.T) {
	dir := pipelinetest.Shared(t, "ocsf/compiled")
	for _, v := range ocsf.Versions() {
		raw, err := os.ReadFile(filepath.Join(dir, "ocsf-"+string(v)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var s compiled
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		for _, f := range feeds() {
			t.Run(f.name+"/"+string(v), func(t *testing.T) {
				in := results(t, memory.DefaultAllocator, f.cols)
				defer in.Release()
				m, err := f.mapper(f.config(v), in.Schema())
				if err != nil {
					t.Fatal(err)
				}
				out, err := m.Map(memory.DefaultAllocator, in)
				if err != nil {
					t.Fatal(err)
				}
				defer out.Release()
				ev := event(out, 0)
				fields := m.Schema().Fields()
				checkObject(t, &s, "class", classOf(t, &s, ev["class_uid"]), nil, fields[:len(fields)-1], ev)
			})
		}
	}
}

func classOf(t *testing.T, s *compiled, uid any) map[string]attribute {
	t.Helper()
	for _, c := range s.Classes {
		if fmt.Sprint(c.UID) == fmt.Sprint(uid) {
			return c.Attributes
		}
	}
	t.Fatalf("class %v is not in the schema", uid)
	return nil
}

func checkObject(t *testing.T, s *compiled, path string, attrs map[string]attribute, atLeastOne []string, fields []arrow.Field, ev map[string]any) {
	t.Helper()
	declared := map[string]bool{}
	for _, f := range fields {
		declared[f.Name] = true
		at := path + "." + f.Name
		a, ok := attrs[f.Name]
		if !ok || len(a.Profiles) > 0 {
			t.Errorf("%s is not in the schema (or only with profiles %v)", at, a.Profiles)
			continue
		}
		if want := typeOf(a, f.Name); f.Type.ID() != want {
			t.Errorf("%s has type %s, the schema says %s", at, f.Type, a.Type)
			continue
		}
		v := ev[f.Name]
		if v == nil {
			t.Errorf("%s is null in the sample row", at)
		}
		if id, ok := v.(json.Number); ok && a.Enum != nil {
			e, ok := a.Enum[id.String()]
			if !ok {
				t.Errorf("%s: %s is not in the enum", at, id)
			}
			if text, ok := ev[a.Sibling]; ok && id != "99" && text != e.Caption {
				t.Errorf("%s: caption %v, the schema says %s", at, text, e.Caption)
			}
		}
		if a.ObjectType == "" || f.Name == "unmapped" {
			continue
		}
		typ := f.Type
		if l, ok := typ.(*arrow.ListType); ok {
			typ = l.Elem()
			v = v.([]any)[0]
		}
		o := s.Objects[a.ObjectType]
		checkObject(t, s, at, o.Attributes, o.Constraints.AtLeastOne, typ.(*arrow.StructType).Fields(), v.(map[string]any))
	}
	for name, a := range attrs {
		if a.Requirement == "required" && len(a.Profiles) == 0 && !declared[name] {
			t.Errorf("%s.%s is required and missing", path, name)
		}
	}
	if len(atLeastOne) > 0 && !slices.ContainsFunc(atLeastOne, func(n string) bool { return declared[n] }) {
		t.Errorf("%s has none of %v", path, atLeastOne)
	}
}

func typeOf(a attribute, name string) arrow.Type {
	switch {
	case name == "unmapped":
		return arrow.MAP
	case name == "number": // of an autonomous system: 32 bits without a sign
		return arrow.INT64
	case a.IsArray:
		return arrow.LIST
	case a.Type == "object_t":
		return arrow.STRUCT
	case a.Type == "integer_t":
		return arrow.INT32
	case a.Type == "long_t" || a.Type == "timestamp_t":
		return arrow.INT64
	}
	return arrow.STRING
}

// tail are the columns that every result has, for rows rows of ten seconds.
func tail(rows int) []col {
	rep := func(v any) []any { return slices.Repeat([]any{v}, rows) }
	return []col{
		{"window_start", rep(ms(1000))}, {"window_end", rep(ms(11000))},
		{"_tm_pane", rep("on_time")}, {"_tm_revision", rep(int32(1))},
	}
}

func mapRows(t *testing.T, f feed, cfg ocsf.WindowConfig, cols []col) []map[string]any {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	in := results(t, mem, cols)
	defer in.Release()
	m, err := f.mapper(cfg, in.Schema())
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Map(mem, in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	events := make([]map[string]any, out.NumRows())
	for i := range events {
		events[i] = event(out, i)
	}
	return events
}

func uid(ev map[string]any) any { return ev["metadata"].(map[string]any)["uid"] }

// Different keys never share a uid.
func TestUID(t *testing.T) {
	f := feeds()[0]
	keys := [][2]any{{"a", "b"}, {"a|b", ""}, {"a", "|b"}, {"a%7Cb", ""}, {"", nil}, {"", ""}, {nil, ""}, {"%00", ""}, {"a:1", "b"}}
	cols := []col{{"asset_id", []any{}}, {"zone", []any{}}}
	for _, k := range keys {
		cols[0].vals, cols[1].vals = append(cols[0].vals, k[0]), append(cols[1].vals, k[1])
	}
	cfg := f.config(ocsf.V130)
	seen := map[any]bool{}
	for i, ev := range mapRows(t, f, cfg, append(cols, tail(len(keys))...)) {
		if seen[uid(ev)] {
			t.Errorf("key %v: uid %v is there already", keys[i], uid(ev))
		}
		seen[uid(ev)] = true
	}
	if !seen["agg:ble_5m:a|b:1000"] || !seen["agg:ble_5m:a:1|b:1000"] {
		t.Errorf("uids %v", seen)
	}
	cfg.Kind = ocsf.Session
	ev := mapRows(t, f, cfg, append([]col{{"asset_id", []any{"a"}}}, tail(1)...))[0]
	if uid(ev) != "agg:ble_5m:a:1000-11000" || ev["unmapped"].(map[string]any)["window"] != "session" {
		t.Errorf("session %v", ev)
	}
}

// Bounds that differ by less than a millisecond give uids that differ.
func TestUIDBelowMillis(t *testing.T) {
	f := feeds()[0]
	cfg := f.config(ocsf.V130)
	cfg.Kind = ocsf.Session
	cols := []col{{"asset_id", []any{"a", "a", "a"}},
		{"window_start", []any{arrow.Timestamp(1_000_001), arrow.Timestamp(-500), arrow.Timestamp(1_000_000)}},
		{"window_end", []any{arrow.Timestamp(11_000_000), arrow.Timestamp(2_050), arrow.Timestamp(11_000_000)}},
		{"_tm_pane", []any{"late", "late", "late"}}, {"_tm_revision", []any{int32(1), int32(1), int32(1)}}}
	for i, ev := range mapRows(t, f, cfg, cols) {
		if want := []string{"agg:ble_5m:a:1000.001-11000", "agg:ble_5m:a:-0.500-2.050", "agg:ble_5m:a:1000-11000"}[i]; uid(ev) != want {
			t.Errorf("uid %v, want %s", uid(ev), want)
		}
	}
}

// A withdrawal has the uid of what it withdraws and every attribute that is required, and
// the columns that sinks order and delete by come last.
func TestWithdrawal(t *testing.T) {
	for _, f := range feeds() {
		for _, v := range ocsf.Versions() {
			cfg := f.config(v)
			cfg.Kind = ocsf.Session
			cols := []col{{"_tm_del", []any{false, true}}, {"_tm_kind", []any{"+I", "-D"}}}
			for _, c := range f.cols {
				c.vals = []any{c.vals[0], nil}
				switch {
				case c.name == f.cols[0].name || strings.HasPrefix(c.name, "window_"):
					c.vals[1] = c.vals[0]
				case c.name == "_tm_pane":
					c.vals[1] = "retracted"
				case c.name == "_tm_revision":
					c.vals = []any{int32(1), int32(2)}
				}
				cols = append(cols, c)
			}
			// The key columns stand in front of window_start.
			slices.SortStableFunc(cols, func(a, b col) int {
				return strings.Compare(fmt.Sprint(strings.HasPrefix(a.name, "_tm_")), fmt.Sprint(strings.HasPrefix(b.name, "_tm_")))
			})
			evs := mapRows(t, f, cfg, cols)
			if uid(evs[0]) != uid(evs[1]) || evs[1]["metadata"].(map[string]any)["sequence"] != json.Number("1") {
				t.Errorf("%s %s: %v\n%v", f.name, v, evs[0]["metadata"], evs[1]["metadata"])
			}
			if m := evs[1]["message"].(string); !strings.HasPrefix(m, "withdrawn: ") || strings.HasPrefix(evs[0]["message"].(string), "withdrawn") {
				t.Errorf("%s %s: message %q", f.name, v, m)
			}
			if evs[0]["_tm_del"] != false || evs[1]["_tm_del"] != true || evs[1]["_tm_revision"] != json.Number("2") || evs[1]["unmapped"].(map[string]any)["firing"] != "retracted" {
				t.Errorf("%s %s: %v", f.name, v, evs[1])
			}
			if _, taken := evs[0]["unmapped"].(map[string]any)["_tm_del"]; taken {
				t.Errorf("%s %s: _tm_del is in unmapped too", f.name, v)
			}
		}
	}
}

// A row that lacks everything that may be lacking, and rows after it.
func TestSparseRows(t *testing.T) {
	for _, f := range feeds() {
		for _, v := range ocsf.Versions() {
			cols := slices.Clone(f.cols)
			for i, c := range cols {
				c.vals = []any{c.vals[0], nil, c.vals[0]}
				if c.name == f.cols[0].name || strings.HasPrefix(c.name, "window_") || strings.HasPrefix(c.name, "_tm_") {
					c.vals[1] = c.vals[0]
				}
				cols[i] = c
			}
			evs := mapRows(t, f, f.config(v), cols)
			if !reflect.DeepEqual(evs[0], evs[2]) {
				t.Errorf("%s %s: rows 0 and 2 differ\n%v\n%v", f.name, v, evs[0], evs[2])
			}
			if evs[1]["count"] != nil || len(evs[1]["unmapped"].(map[string]any)) > 2 {
				t.Errorf("%s %s: %v", f.name, v, evs[1])
			}
			want := map[string]string{"ble": "detections of RC-0003811", "pdu": "readings", "traffic": "AS64500 15 min traffic"}[f.name]
			if evs[1]["message"] != want {
				t.Errorf("%s: message %q, want %q", f.name, evs[1]["message"], want)
			}
			bare := mapRows(t, f, f.config(v), append([]col{f.cols[0]}, tail(1)...))[0]
			if m := bare["message"].(string); !strings.Contains(want, strings.Fields(m)[0]) {
				t.Errorf("%s without aggregates: message %q", f.name, m)
			}
		}
	}
}

// What integer_t cannot hold is null and kept in unmapped.
func TestIntegersBeyond32Bits(t *testing.T) {
	f := feeds()[0]
	for _, v := range ocsf.Versions() {
		cols := []col{{"asset_id", []any{"a"}}, {"window_start", []any{ms(0)}}, {"window_end", []any{ms(30 * 86400000)}},
			{"count", []any{int64(math.MaxInt32 + 1)}}, {"_tm_pane", []any{"on_time"}}, {"_tm_revision", []any{int32(1)}}}
		ev := mapRows(t, f, f.config(v), cols)[0]
		un := ev["unmapped"].(map[string]any)
		if ev["count"] != nil || un["count"] != "2147483648" {
			t.Errorf("%s: count %v, unmapped %v", v, ev["count"], un)
		}
		if want := json.Number("2592000000"); v == ocsf.V110 && (ev["duration"] != nil || un["duration"] != "2592000000") || v != ocsf.V110 && ev["duration"] != want {
			t.Errorf("%s: duration %v, unmapped %v", v, ev["duration"], un)
		}
	}
}

func TestUnmappedText(t *testing.T) {
	f := feeds()[0]
	cols := append([]col{{"asset_id", []any{"a"}}}, tail(1)...)
	want := map[string]any{"window": "tumbling", "firing": "on_time"}
	for i, c := range []struct {
		v    any
		text string
	}{
		{24.0, "24.0"}, {-0.5, "-0.5"}, {1e21, "1e+21"}, {1e-7, "1e-07"}, {123456789.0, "123456789.0"}, {0.0, "0.0"}, {0.30000000000000004, "0.30000000000000004"},
		{fixed{2400, 2}, "24.0"}, {fixed{-5, 3}, "-0.005"}, {fixed{1250, 3}, "1.25"}, {fixed{0, 2}, "0.0"}, {fixed{math.MinInt64, 18}, "-9.223372036854775808"},
		{fixed{7, 0}, "7"}, {int64(-7), "-7"}, {"text", "text"}, {"", ""}, {true, "true"}, {ms(-1), "-1"}, {int32(9), "9"},
		{[]int64{1, -2}, "[1,-2]"}, {[]int64{}, "[]"},
	} {
		name := fmt.Sprintf("c%d", i)
		cols = append(cols, col{name, []any{c.v}})
		want[name] = c.text
	}
	if got := mapRows(t, f, f.config(ocsf.V130), cols)[0]["unmapped"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestTraffic(t *testing.T) {
	f := feeds()[2]
	words := []any{"in", "Egress", "lateral", "sideways", nil}
	entities := []any{"AS1", "AS4294967295", "AS4294967296", "eth0", "ASX"}
	sizes := []any{int64(999), int64(1000), int64(91899999999), int64(math.MaxInt64), int64(-5)}
	cols := append([]col{{"entity", entities}, {"direction", words}}, tail(5)...)
	cols = append(cols, col{"bytes", sizes})
	evs := mapRows(t, f, f.config(ocsf.V130), cols)
	for i, want := range []string{
		"1 Inbound 1 AS1 10 s traffic 999 B", "2 Outbound 4294967295 AS4294967295 10 s traffic 1.00 kB", "3 Lateral <nil> AS4294967296 10 s traffic 91.8 GB",
		"99 sideways <nil> eth0 10 s traffic 9.22 EB", "0 Unknown <nil> ASX 10 s traffic -5 B",
	} {
		info := evs[i]["connection_info"].(map[string]any)
		as, _ := evs[i]["dst_endpoint"].(map[string]any)["autonomous_system"].(map[string]any)
		if got := fmt.Sprint(info["direction_id"], " ", info["direction"], " ", as["number"], " ", evs[i]["message"]); got != want {
			t.Errorf("row %d\n got %s\nwant %s", i, got, want)
		}
	}
	cols[len(cols)-1] = col{"bytes", []any{1.5, 1.5, 1.5, 1.5, 1.5}}
	in := results(t, memory.DefaultAllocator, cols)
	defer in.Release()
	if _, err := f.mapper(f.config(ocsf.V130), in.Schema()); err == nil || !strings.Contains(err.Error(), `column "bytes": type float64`) {
		t.Errorf("bytes as float64: %v", err)
	}
}

func TestMapperRefuses(t *testing.T) {
	f := feeds()[0]
	good := append([]col{{"asset_id", []any{"a"}}}, tail(1)...)
	for _, c := range []struct {
		name string
		cols []col
		want string
	}{
		{"no key", tail(1), "no key column"},
		{"no pane", slices.Delete(slices.Clone(good), 3, 4), `column "_tm_pane": the results have none`},
		{"count is no int64", append(slices.Clone(good), col{"count", []any{1.5}}), `column "count": type float64`},
		{"firing", append(slices.Clone(good), col{"firing", []any{"x"}}), `column "firing": unmapped has an entry`},
		{"twice", append(slices.Clone(good), good[0]), `"asset_id": the name is used twice`},
	} {
		in := results(t, memory.DefaultAllocator, c.cols)
		_, err := f.mapper(f.config(ocsf.V130), in.Schema())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		in.Release()
	}
	list := arrow.NewSchema([]arrow.Field{{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64)}}, nil)
	if _, err := f.mapper(f.config(ocsf.V130), list); err == nil || !strings.Contains(err.Error(), "has no place in an OCSF event") {
		t.Errorf("a list: %v", err)
	}
	_, err := f.mapper(ocsf.WindowConfig{Config: ocsf.Config{Version: "1.2.0"}}, list)
	for _, want := range []string{`version "1.2.0"`, "ocsf op", "ocsf topic", "ocsf product_version", "ocsf feature", "window kind", "dialect \"\"", "extension_uid 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant a word on %s", err, want)
		}
	}

	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	in := results(t, mem, good)
	defer in.Release()
	m, err := f.mapper(f.config(ocsf.V130), in.Schema())
	if err != nil {
		t.Fatal(err)
	}
	other := results(t, mem, append(slices.Clone(good), col{"more", []any{"x"}}))
	defer other.Release()
	if _, err := m.Map(mem, other); err == nil || !strings.Contains(err.Error(), "another schema") {
		t.Errorf("another schema: %v", err)
	}
	null := slices.Clone(good)
	null[1] = col{"window_start", []any{ms(1), nil}}
	for i, c := range null {
		if i != 1 {
			null[i] = col{c.name, []any{c.vals[0], c.vals[0]}}
		}
	}
	without := results(t, mem, null)
	defer without.Release()
	if _, err := m.Map(mem, without); err == nil || !strings.Contains(err.Error(), "attribute time: null in 1 of 2 rows") {
		t.Errorf("no window start: %v", err)
	}
}

// Batches that were mapped before do not change, also when a larger one comes.
func TestBatchesAreIndependent(t *testing.T) {
	f := feeds()[0]
	in1 := results(t, memory.DefaultAllocator, append([]col{{"asset_id", []any{"a"}}}, tail(1)...))
	defer in1.Release()
	in3 := results(t, memory.DefaultAllocator, append([]col{{"asset_id", []any{"b", "c", "d"}}}, tail(3)...))
	defer in3.Release()
	m, err := f.mapper(f.config(ocsf.V180), in1.Schema())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	var outs []arrow.RecordBatch
	for _, in := range []arrow.RecordBatch{in1, in3, in1} {
		out, err := m.Map(memory.DefaultAllocator, in)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Release()
		outs = append(outs, out)
		texts = append(texts, fmt.Sprint(event(out, 0)))
	}
	for i, out := range outs {
		if s := fmt.Sprint(event(out, 0)); s != texts[i] {
			t.Errorf("batch %d changed\n%s\n%s", i, texts[i], s)
		}
	}
	if texts[0] != texts[2] || outs[1].NumRows() != 3 {
		t.Error("the same rows gave other events")
	}
}

// BenchmarkMap maps batches of one row over and over: that of the samples.
func BenchmarkMap(b *testing.B) {
	for _, c := range []struct {
		sample  string
		dialect ocsf.Dialect
	}{{"ble_window", ocsf.Core}, {"ble_window", ocsf.Ext}, {"pdu_window", ocsf.Ext}, {"traffic_window", ocsf.Core},
		{"ble_detection", ocsf.Core}, {"ble_detection", ocsf.Ext}, {"pdu_reading", ocsf.Ext}} {
		b.Run(c.sample+"/"+string(c.dialect), func(b *testing.B) {
			const rows = 4096
			s := sampleRows()[c.sample]
			p := producerOf(s.producer)
			row := s.row(ocsf.V180, c.dialect)
			in := record(b, memory.DefaultAllocator, p.schema, slices.Repeat([]values{row}, rows)...)
			defer in.Release()
			m, err := p.mapper(mapperConfig(s.topic, ocsf.V180, c.dialect), in.Schema())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				out, err := m.Map(memory.DefaultAllocator, in)
				if err != nil {
					b.Fatal(err)
				}
				out.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}

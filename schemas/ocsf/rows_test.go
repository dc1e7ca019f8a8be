package ocsf_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// words are texts that mean something to some mapper, and texts that may hurt.
func words() []string {
	return []string{
		"", " ", "Other", "other", "Unknown", "AS64500", "AS4294967296", "ASX", "L2", "N", "B3", "a|b%c:d", "\"\\\x01<é\u2028", "RC-0003811",
		"C4:7F:51:0A:9E:21", "C4-7F-51-0A-9E-21", "C4:7F:51:0A:9E", "gw-1.example", "-gw", "a..b", "NL", "Utrecht",
		"early", "on_time", "late", "late_delta", "inbound", "tx", "lateral", "sideways",
		"geofence", "enter", "exit", "dwell", "availability", "available", "unavailable", "bottom", "open", "transit", "start", "end",
		"create", "update", "close", "VERIFIED", "UNVERIFIED", "FALSE_POSITIVE", "DISPUTED",
		"pdu_branch_overload", "pdu_phase_imbalance", "pdu_continuous_overload", "pdu_lost_redundancy", "location",
	}
}

// random makes a row of a schema. Nullable columns are null in one row of four. extreme
// numbers and times are among them if asked for.
func random(r *rand.Rand, schema *arrow.Schema, extreme bool) values {
	whole := func() int {
		if all := []int{math.MinInt64, math.MaxInt64, math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MinInt32 - 1}; extreme && r.IntN(3) == 0 {
			return all[r.IntN(len(all))]
		}
		return r.IntN(2000) - 1000
	}
	out := values{}
	for _, f := range schema.Fields() {
		if f.Nullable && f.Name != "time" && r.IntN(4) == 0 {
			continue
		}
		var v any
		switch f.Type.ID() {
		case arrow.INT32:
			v = 1 + r.IntN(1000)
			if extreme && r.IntN(8) == 0 {
				v = math.MaxInt32
			}
		case arrow.INT64:
			v = whole()
		case arrow.FLOAT64:
			all := []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.Copysign(0, -1)}
			if v = float64(r.IntN(4000))/8 - 100; extreme && r.IntN(3) == 0 {
				v = all[r.IntN(len(all))]
			}
		case arrow.STRING:
			v = words()[r.IntN(len(words()))]
		case arrow.BOOL:
			v = r.IntN(2) == 0
		case arrow.TIMESTAMP:
			v = arrow.Timestamp(1696404600000000 + r.Int64N(1e12))
			if all := []arrow.Timestamp{math.MinInt64, math.MaxInt64, 0, -1, -1000}; extreme && r.IntN(4) == 0 {
				v = all[r.IntN(len(all))]
			}
		case arrow.LIST:
			if f.Type.(*arrow.ListType).Elem().ID() == arrow.STRING {
				v = words()[:r.IntN(3)]
			} else {
				v = []int64{int64(whole()), int64(whole())}[:r.IntN(3)]
			}
		default:
			panic(f.Type)
		}
		out[f.Name] = v
	}
	return out
}

// validators are the schemas with our extension under a uid.
func validators(t testing.TB, uid int) map[ocsf.Version]*ocsf.Validator {
	t.Helper()
	dir := fstest.MapFS{}
	for _, name := range []string{"dictionary.json", "objects/agg_window.json", "objects/geofence.json", "objects/measurement.json",
		"events/asset_observation.json", "events/asset_state_change.json", "events/device_measurement.json"} {
		f, err := ocsf.Tidemark().(interface{ ReadFile(string) ([]byte, error) }).ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		dir[name] = &fstest.MapFile{Data: f}
	}
	dir["extension.json"] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"name":"tidemark","uid":%d,"version":"0.1.0"}`, uid)}
	out := map[ocsf.Version]*ocsf.Validator{}
	for v, s := range builtIn(t) {
		full, err := s.Merge(dir)
		if err != nil {
			t.Fatal(err)
		}
		out[v] = full.Validator()
	}
	return out
}

func dialects() []ocsf.Dialect { return []ocsf.Dialect{ocsf.Core, ocsf.Ext} }

// randomRows is for each version: 2,100 for every mapper in every dialect.
const randomRows = 700

// Events of random rows are valid, whatever is null, huge or senseless in them.
func TestRandomRowsAreValid(t *testing.T) {
	for _, uid := range []int{ocsf.ExtensionUID, 990} {
		for v, check := range validators(t, uid) {
			for _, p := range producers() {
				for _, d := range dialects() {
					t.Run(fmt.Sprintf("%s/%s/%s/%d", p.name, d, v, uid), func(t *testing.T) {
						rows := randomRows
						if uid != ocsf.ExtensionUID {
							rows = 20
						}
						cfg := mapperConfig("t", v, d)
						cfg.ExtensionUID = int32(uid)
						for i, ev := range randomEvents(t, p, cfg, rows, true) {
							got, err := check.Validate(ev)
							if err != nil || len(got.Errors)+len(got.Warnings) > 0 {
								t.Fatalf("row %d: %v\nerrors %v\nwarnings %v\n%s", i, err, got.Errors, got.Warnings, ev)
							}
						}
					})
				}
			}
		}
	}
}

func randomEvents(t *testing.T, p producer, cfg ocsf.Config, rows int, extreme bool) [][]byte {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	in := record(t, mem, p.schema, randomBatch(p, cfg.Version, rows, extreme)...)
	defer in.Release()
	return events(t, p, cfg, in)
}

// randomBatch makes other rows for each version.
func randomBatch(p producer, v ocsf.Version, rows int, extreme bool) []values {
	r := rand.New(rand.NewPCG(uint64(v[2]), uint64(len(p.name))))
	batch := make([]values, rows)
	for i := range batch {
		batch[i] = random(r, p.schema, extreme)
	}
	return batch
}

// One attribute of a valid event changed to what the schema does not know is found: in
// every mapper and dialect, at the top and within lists.
func TestInvalidEventsAreFound(t *testing.T) {
	checks := validators(t, ocsf.ExtensionUID)
	for _, p := range producers() {
		for _, d := range dialects() {
			ev := eventOf(t, randomEvents(t, p, mapperConfig("t", ocsf.V180, d), 1, false)[0])
			n := 0
			for _, place := range places(ev, "") {
				place.set(map[string]any{"nothing": "known"})
				got, err := checks[ocsf.V180].Validate(encode(t, ev))
				if err != nil || len(got.Errors) == 0 {
					t.Errorf("%s %s: %s changed: %v, no error", p.name, d, place.path, err)
				}
				place.set(place.value)
				n++
			}
			if n < 20 {
				t.Errorf("%s %s: %d places only", p.name, d, n)
			}
		}
	}
}

// No number and no text of a row is lost. What is told in another form: words that became
// an enum, a number that became part of a text.
func TestNothingIsLost(t *testing.T) {
	told := []string{"_tm_", "_split", "_offset", "kind", "event", "activity", "direction", "slot_ms", "n", "accel_mg", "data_sources"}
	detection := []string{"accel_", "seq"} // one vector, and a part of original_event_uid
	for _, p := range producers() {
		in := func(name string) bool {
			return !slices.ContainsFunc(told, func(s string) bool { return name == s || strings.HasSuffix(s, "_") && strings.HasPrefix(name, s) }) &&
				!(p.name == "ble_row" && slices.ContainsFunc(detection, func(s string) bool { return strings.HasPrefix(name, s) }))
		}
		for _, v := range ocsf.Versions() {
			batch := randomBatch(p, v, 100, false)
			for _, d := range dialects() {
				for i, ev := range randomEvents(t, p, mapperConfig("t", v, d), len(batch), false) {
					lost, err := ocsf.Dropped(source(t, p.schema, batch[i], in), ev)
					if err != nil || len(lost) > 0 {
						t.Fatalf("%s %s %s row %d: %v, lost %v\n%v\n%s", p.name, v, d, i, err, lost, batch[i], ev)
					}
				}
			}
		}
	}
	// The control: a column that the event has not.
	p := producerOf("ble_state")
	row := randomBatch(p, ocsf.V130, 1, false)[0]
	row["asset_id"] = "another"
	if lost, err := ocsf.Dropped(source(t, p.schema, row, func(name string) bool { return name == "asset_id" }), randomEvents(t, p, mapperConfig("t", ocsf.V130, ocsf.Core), 1, false)[0]); err != nil || len(lost) != 1 {
		t.Errorf("a value that is not there: %v %v", lost, err)
	}
}

// source is a row as JSON, times in milliseconds.
func source(t *testing.T, schema *arrow.Schema, row values, in func(name string) bool) []byte {
	t.Helper()
	out := map[string]any{}
	for name, v := range row {
		f, _ := schema.FieldsByName(name)
		scale, fixed := f[0].Metadata.GetValue("tidemark.scale")
		switch x := v.(type) {
		case arrow.Timestamp:
			v = int64(x) / 1000
		case float64:
			v = json.Number(floatText(x))
		case int:
			if fixed {
				v = json.Number(fmt.Sprintf("%de-%s", x, scale))
			}
		}
		if in(name) {
			out[name] = v
		}
	}
	return encode(t, out)
}

// The extension that events name is the one that is built in.
func TestExtensionIsNamed(t *testing.T) {
	raw, err := ocsf.Tidemark().(interface{ ReadFile(string) ([]byte, error) }).ReadFile("extension.json")
	if err != nil {
		t.Fatal(err)
	}
	var built struct {
		Name    string
		UID     int
		Version string
	}
	if err := json.Unmarshal(raw, &built); err != nil {
		t.Fatal(err)
	}
	ev := eventOf(t, randomEvents(t, producerOf("ble_window"), mapperConfig("t", ocsf.V130, ocsf.Ext), 1, false)[0])
	want := []any{map[string]any{"name": built.Name, "uid": fmt.Sprint(built.UID), "version": built.Version}}
	if d := differences("", ev["metadata"].(map[string]any)["extensions"], want); len(d) > 0 {
		t.Error(d)
	}
}

package main

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// TestAssetsDefaults: a section without settings is the reference, but for times, which are the
// decoder's.
func TestAssetsDefaults(t *testing.T) {
	var c AssetsConfig
	c.setDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := assets.DefaultConfig()
	want.Filter.OldestTime, want.Filter.MaxAhead = math.MinInt64, math.MaxInt64
	if got := c.config(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestAssetsSchema: what the operator says of a change of state are the columns that the mapper
// knows, and few beside them.
func TestAssetsSchema(t *testing.T) {
	more := map[string]bool{"confirmed_time": true, "battery_mv": true, "time_quality": true}
	for _, f := range assets.EventSchema().Fields() {
		at := ble.StateSchema().FieldIndices(f.Name)
		switch {
		case len(at) == 0 && !more[f.Name]:
			t.Errorf("column %s: no mapper knows it", f.Name)
		case len(at) > 0 && !arrow.TypeEqual(ble.StateSchema().Field(at[0]).Type, f.Type):
			t.Errorf("column %s: a %s, where mappers want %s", f.Name, f.Type, ble.StateSchema().Field(at[0]).Type)
		}
	}
}

// TestAssetsEvents: every change of state is a valid event, in both dialects and all versions.
func TestAssetsEvents(t *testing.T) {
	fences, err := assets.NewFences([]assets.Fence{
		{ID: "a|b", Name: "A", Kind: "depot", Center: assets.Position{Lat: 52, Lon: 5}, Radius: 200},
		{ID: "c", Center: assets.Position{Lat: 52, Lon: 5.2}, Radius: 200},
	}, 50)
	if err != nil {
		t.Fatal(err)
	}
	payloads := assetsStory()
	for _, version := range ocsf.Versions() {
		for _, dialect := range []string{"core", "ext"} {
			cfg, err := parseConfig("job.yaml", fmt.Appendf(nil, `job: j
feed: ble
source: {kafka: {brokers: ["127.0.0.1:1"], topic: t}}
event_time: {future: keep}
normalize: {version: %s, dialect: %s}
assets: {fences: fences.geojson, clocks: {correct: false}} # the records of wireOf have one time of the broker
sinks: [{parquet: {dir: out}}]
`, version, dialect))
			if err != nil {
				t.Fatal(err)
			}
			p, err := planOf(cfg)
			if err != nil {
				t.Fatal(err)
			}
			p.refs = &references{list: []*reference{{name: assets.FencesFile, content: pipeline.Reference{Value: fences}}}}
			schema, err := ocsf.NewSchema(version)
			if err != nil {
				t.Fatal(err)
			}
			if schema, err = schema.Merge(ocsf.Tidemark()); err != nil {
				t.Fatal(err)
			}
			validator, kinds := schema.Validator(), map[string]int{}
			for _, e := range p.run(t, payloads) {
				if report, err := validator.Validate([]byte(e)); err != nil || len(report.Errors) > 0 {
					t.Fatalf("%s %s: %v %v\n%s", version, dialect, err, report.Errors, e)
				}
				_, uid, _ := strings.Cut(e, `"uid":"state:`)
				kind, rest, _ := strings.Cut(uid, ":")
				rest = rest[:strings.LastIndex(rest[:strings.Index(rest, `"`)], ":")]
				kinds[kind+" "+rest[strings.LastIndex(rest, "|")+1:]]++
			}
			for _, kind := range []string{"geofence enter", "geofence exit", "geofence dwell", "geofence lost", "transit start", "transit end", "transit unknown", "bottom open", "bottom close",
				"availability available", "availability unavailable", "battery low", "battery replaced"} {
				if kinds[kind] == 0 {
					t.Errorf("%s %s: no %s among %v", version, dialect, kind, kinds)
				}
			}
		}
	}
}

// assetsStory are detections by which everything happens to a cage.
func assetsStory() [][]byte {
	var out [][]byte
	at := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	say := func(after time.Duration, lon float64, accel string, mv int) {
		at = at.Add(after)
		out = append(out, fmt.Appendf(nil, `{"asset_id":"RC-1","ts_event":%d,"gateway_id":"g","rssi_dbm":-60,"gps":{"lat":52,"lon":%v,"acc_m":5},"accel_mg":%s,"battery_mv":%d,"temp_c":10}`,
			at.UnixMilli(), lon, accel, mv))
	}
	const down, up = "[0,0,1000]", "[985,0,174]"
	for range 20 {
		say(time.Minute, 5, down, 2400)
	}
	for range 20 {
		say(time.Minute, 5, up, 2400)
	}
	for i := range 10 { // to the other
		say(2*time.Minute, 5+float64(i)*0.02, up, 2400)
	}
	for range 10 {
		say(time.Minute, 5.2, up, 2400)
	}
	say(10*time.Hour, 5.2, up, 2400) // lost
	for i := range 5 {
		say(24*time.Hour, 5.2, up, 2400+i*50)
		say(time.Minute, 5.2, up, 2400)
	}
	say(24*time.Hour, 5.2, up, 2950)
	say(24*time.Hour, 5.2, up, 2950)
	say(time.Minute, 5.2, up, 2950)
	for range 5 { // away, and no more
		say(2*time.Minute, 5.3, up, 2950)
	}
	at = at.Add(20 * time.Hour)
	return append(out, fmt.Appendf(nil, `{"asset_id":"clock","ts_event":%d}`, at.UnixMilli()), fmt.Appendf(nil, `{"asset_id":"clock","ts_event":%d}`, at.Add(time.Hour).UnixMilli()))
}

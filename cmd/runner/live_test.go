package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline"
)

// TestLive runs a job that follows cages: the page has where they are and what happened, and
// the metrics what the filter has left out.
func TestLive(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir, addr := t.TempDir(), broker.ListenAddrs()[0]
	fences := filepath.Join(dir, "fences.geojson")
	if err := os.WriteFile(fences, []byte(demoFences()), 0o644); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	s := demoSites()[0]
	for i := range 30 {
		rssi := -60
		if i == 4 {
			rssi = 127
		}
		for _, id := range []string{"a", "b"} {
			fmt.Fprintf(&rows, `{"asset_id":%q,"ts_event":%d,"seq":%d,"rssi_dbm":%d,"gps":{"lat":%f,"lon":%f,"acc_m":5}}`+"\n", id, 1_772_438_400_000+i*20_000, i, rssi, s.lat, s.lon)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), []byte(rows.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := program(t.Context(), dir, "produce", "--brokers", addr, "--topic", "t", "--lines", "rows.jsonl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cfg, err := parseConfig("job.yaml", fmt.Appendf(nil, `job: cages
feed: ble
source: {kafka: {brokers: [%q], topic: t, bounded: true}}
event_time: {max_disorder: 1s, quiet_after: never}
assets: {fences: %q}
sinks: [{parquet: {dir: %q}}]
checkpoint: {dir: %q, interval: 50ms}
http: {listen: ""}
`, addr, fences, filepath.Join(dir, "out"), filepath.Join(dir, "state")))
	if err != nil {
		t.Fatal(err)
	}
	st, registry, log := newStatus(), newRegistry(), slog.New(slog.DiscardHandler)
	refs, err := openReferences(cfg, log, registry)
	if err != nil {
		t.Fatal(err)
	}
	job, closeJob, err := st.build(cfg, jobDeps{log: log, registry: registry, references: refs})
	if err != nil {
		t.Fatal(err)
	}
	if err := pipeline.Run(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if cp, _, err := job.Checkpoints.Load(t.Context()); err != nil || slices.ContainsFunc(cp.Receipts, func(r pipeline.SinkReceipt) bool { return strings.HasPrefix(r.Sink, "live:") }) {
		t.Errorf("%v: the checkpoint holds rows of the page: %+v", err, cp)
	}
	if err := closeJob(); err != nil {
		t.Fatal(err)
	}
	want := `# HELP tidemark_assets_filtered_total Detections, or readings of them, that a rule of the filter has left out, as of the mark.
# TYPE tidemark_assets_filtered_total counter
`
	for _, rule := range []string{"accel", "battery", "future", "gps", "redelivered", "rssi", "ts_replaced", "unknown_asset"} {
		n := 0
		if rule == "rssi" {
			n = 2
		}
		want += fmt.Sprintf("tidemark_assets_filtered_total{job=\"cages\",rule=%q} %d\n", rule, n)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "tidemark_assets_filtered_total"); err != nil {
		t.Error(err)
	}
	w := httptest.NewRecorder()
	routes(st, registry).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/live", nil))
	var jobs []struct {
		Job, Domain string
		Tables      map[string]map[string][]struct {
			AssetID string `json:"asset_id"`
			Site    string `json:"site"`
			Message string `json:"message"`
		}
		Files map[string]struct{ Features []any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &jobs); err != nil || len(jobs) != 1 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	j := jobs[0]
	if now := j.Tables["now"]; len(now) != 2 || len(now["a"]) != 1 || now["a"][0].AssetID != "a" || now["a"][0].Site != s.id {
		t.Errorf("now %+v", now)
	}
	if events := j.Tables["events"][""]; len(events) < 4 || !strings.Contains(w.Body.String(), `"message":"a entered geofence `+s.id+`"`) {
		t.Errorf("%d events: %+v", len(events), events)
	}
	if f := j.Files[assets.FencesFile]; j.Job != "cages" || j.Domain != "assets" || len(f.Features) != len(demoSites()) {
		t.Errorf("job %s of domain %s with %d fences", j.Job, j.Domain, len(f.Features))
	}
	w = httptest.NewRecorder()
	routes(st, registry).ServeHTTP(w, httptest.NewRequest("GET", "/live", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "/api/v1/live") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("page: %d %v", w.Code, w.Header())
	}
}

// TestLiveEpochs: rows are on the page when their checkpoint was published, not before, and no
// checkpoint has a receipt of them; that of an earlier version is taken and shows nothing.
func TestLiveEpochs(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "pdu_id", Type: arrow.BinaryTypes.String}, {Name: "w", Type: arrow.PrimitiveTypes.Int64}}, nil)
	l := &liveView{}
	j := l.add("racks", "power", &domain{tables: []domainTable{{schema: schema, live: 2, liveBy: []string{"pdu_id"}}}})
	out := map[pipeline.Port][]pipeline.Output{}
	j.sinks(l, schema, out)
	sink := out[pipeline.Out][0].Sink
	for epoch, want := range []string{`[{"pdu_id":"a","w":0}]`, `[{"pdu_id":"a","w":0},{"pdu_id":"a","w":1}]`, `[{"pdu_id":"a","w":1},{"pdu_id":"a","w":2}]`} {
		before := shownRows(t, l, "a")
		st, err := sink.Begin(t.Context(), pipeline.Epoch{Job: "racks", N: int64(epoch)})
		if err != nil {
			t.Fatal(err)
		}
		rec, _, err := array.RecordFromJSON(mem, schema, strings.NewReader(fmt.Sprintf(`[{"pdu_id":"a","w":%d}]`, epoch)))
		if err != nil {
			t.Fatal(err)
		}
		err = st.Write(t.Context(), pipeline.Batch{Rec: rec})
		rec.Release()
		if err != nil {
			t.Fatal(err)
		}
		if receipt, err := st.Prepare(t.Context(), pipeline.Mark{}); err != nil || receipt != nil {
			t.Errorf("epoch %d: receipt %q, %v", epoch, receipt, err)
		}
		if got := shownRows(t, l, "a"); got != before {
			t.Errorf("epoch %d: %s is shown before it counts", epoch, got)
		}
		j.published(l)
		j.published(l)
		if got := shownRows(t, l, "a"); got != want {
			t.Errorf("epoch %d: %s is shown, want %s", epoch, got, want)
		}
	}
	before := shownRows(t, l, "a")
	if err := sink.Publish(t.Context(), pipeline.Receipt(`[{"k":"a","r":{"w":9}}]`)); err != nil || shownRows(t, l, "a") != before {
		t.Errorf("a receipt of an earlier version: %v, %s", err, shownRows(t, l, "a"))
	}
}

// shownRows is what the page has of a key of the first table.
func shownRows(t *testing.T, l *liveView, key string) string {
	t.Helper()
	b, err := json.Marshal(l.answer()[0].Tables["events"][key])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLiveBounds: the page keeps the last rows of a key, and so many keys.
func TestLiveBounds(t *testing.T) {
	table := &liveTable{keep: 3, keys: map[string][]json.RawMessage{}}
	for i := range 100 {
		table.show(liveRow{"k", fmt.Appendf(nil, "%d", i)})
	}
	for i := range maxLiveKeys + 10 {
		table.show(liveRow{fmt.Sprint(i), json.RawMessage("1")})
	}
	if list := table.keys["k"]; len(list) > 6 || string(list[len(list)-1]) != "99" || string(list[len(list)-2]) != "98" {
		t.Errorf("the last rows are %s", list)
	}
	if len(table.keys) != maxLiveKeys || len(table.order) != maxLiveKeys {
		t.Errorf("%d keys in order of %d, want %d", len(table.keys), len(table.order), maxLiveKeys)
	}
}

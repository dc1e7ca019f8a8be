package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

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

// TestLiveBounds: the page keeps the last rows of a key, and the keys that changed last, within so
// many bytes; it says how many keys it has no room for.
func TestLiveBounds(t *testing.T) {
	row := func(n int) json.RawMessage { return fmt.Appendf(nil, "%q", strings.Repeat("x", n)) }
	table := newLiveTable(nil, 3, 100_000)
	for i := range 100 {
		table.show(liveRow{"k", fmt.Appendf(nil, "%d", i)})
	}
	if got := fmt.Sprintf("%s", table.rows()["k"]); got != "[97 98 99]" {
		t.Errorf("the last rows are %s", got)
	}
	const keys = 1000
	for i := range keys {
		table.show(liveRow{fmt.Sprint(i), row(1000)})
		table.show(liveRow{"k", row(10)}) // changes all the time
		if size := sizeOf(table); size != table.size || size > table.limit {
			t.Fatalf("after key %d %d bytes are held, %d are counted, %d are allowed", i, size, table.size, table.limit)
		}
	}
	shown := table.rows()
	if n := len(shown); n < 50 || n > 100 || n+len(table.hidden) != keys+1 {
		t.Errorf("%d keys are shown and %d hidden, of %d", n, len(table.hidden), keys+1)
	}
	if shown["0"] != nil || shown[fmt.Sprint(keys-1)] == nil || len(shown["k"]) != 3 {
		t.Errorf("the wrong keys are forgotten: of those that changed last %d and %d rows, of the first %d", len(shown[fmt.Sprint(keys-1)]), len(shown["k"]), len(shown["0"]))
	}
	before := len(table.hidden)
	if table.show(liveRow{"0", row(10)}); table.rows()["0"] == nil || len(table.hidden) != before {
		t.Errorf("a key that came again: %s, hidden %d, before %d", table.rows()["0"], len(table.hidden), before)
	}

	table = newLiveTable(nil, 60, 10_000) // one key: its oldest rows go
	for i := range 100 {
		table.show(liveRow{"", fmt.Appendf(nil, "%04000d", i)})
	}
	if got := table.rows()[""]; len(got) != 2 || !strings.HasSuffix(string(got[1]), "99") || len(table.hidden) != 0 {
		t.Errorf("%d rows, hidden %d", len(got), len(table.hidden))
	}
	table.show(liveRow{"", row(20_000)}) // no room for it at all
	if len(table.keys) != 0 || len(table.hidden) != 1 || table.size != 0 {
		t.Errorf("a row too long: %d keys, %d hidden, %d bytes", len(table.keys), len(table.hidden), table.size)
	}
}

// sizeOf adds up what a table holds.
func sizeOf(t *liveTable) int {
	n := 0
	for key, rows := range t.rows() {
		n += len(key) + liveKeyCost
		for _, r := range rows {
			n += liveRow{row: r}.size()
		}
	}
	return n
}

// TestLiveHidden: an epoch of more than there is room for ends with a page within its bytes, which
// says so.
func TestLiveHidden(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}, {Name: "text", Type: arrow.BinaryTypes.String}}, nil)
	l := &liveView{}
	tables := []domainTable{{schema: schema, live: 2, liveBy: []string{"id"}}, {suffix: "more", schema: schema, live: 2, liveBy: []string{"id"}}}
	j := l.add("racks", "power", &domain{tables: tables})
	out := map[pipeline.Port][]pipeline.Output{}
	j.sinks(l, schema, out)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	const keys, long = 3000, 10_000
	for epoch := range 2 {
		st, err := out[pipeline.Out][0].Sink.Begin(t.Context(), pipeline.Epoch{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range keys / 2 {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprint(epoch, " ", i))
			b.Field(1).(*array.StringBuilder).Append(strings.Repeat("x", long))
		}
		rec := b.NewRecordBatch()
		err = st.Write(t.Context(), pipeline.Batch{Rec: rec})
		rec.Release()
		if err != nil {
			t.Fatal(err)
		}
		if held := sizeOf(st.(*liveStage).rows); held > maxLiveBytes/2 {
			t.Errorf("the stage holds %d bytes", held)
		}
		if _, err := st.Prepare(t.Context(), pipeline.Mark{}); err != nil {
			t.Fatal(err)
		}
		j.published(l)
	}
	w := httptest.NewRecorder()
	writeJSON(w, 200, l.answer())
	var got []liveAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	n := len(got[0].Tables["events"])
	if n < maxLiveBytes/2/(2*long) || w.Body.Len() > maxLiveBytes/2 || n+got[0].Hidden["events"] != keys || got[0].Hidden["more"] != 0 {
		t.Errorf("%d keys in %d bytes, hidden %v", n, w.Body.Len(), got[0].Hidden)
	}
}

// TestLiveFiles: a file is read when it has changed, and what is no file of JSON is not drawn. That
// nobody writes to the pipe must not keep the page from answering.
func TestLiveFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fences.geojson")
	j := (&liveView{}).add("cages", "assets", &domain{files: []domainFile{{name: "f", path: path}, {name: "table", path: path + ".csv"}}})
	if len(j.files) != 1 {
		t.Fatalf("%d files are drawn", len(j.files))
	}
	at := time.Unix(1_700_000_000, 0)
	write := func(text string, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(step, want string) {
		t.Helper()
		if got := string(j.files[0].read()); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
	read("none yet", "")
	write("[1]", at)
	read("there", "[1]")
	write("[2]", at)
	read("the same by time and size", "[1]")
	write("[2]", at.Add(time.Second))
	read("changed", "[2]")
	write("[2", at.Add(time.Second))
	read("half", "")
	write(`"`+strings.Repeat("x", maxDrawn)+`"`, at)
	read("too long", "")
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	read("a pipe", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("[3]", at)
	read("a file again", "[3]")
}

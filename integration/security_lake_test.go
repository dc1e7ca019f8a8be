package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/integration/peers"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ocsf"
	sink "github.com/tidemark/tidemark/sinks/parquet"
)

// lakeSource is a custom source: the events of one class, of one version, that are in its
// files.
type lakeSource struct {
	name   string
	schema *ocsf.Schema
	cfg    ocsf.ColumnsConfig
	events [][]byte
}

// lakeSources sorts the sample events that Security Lake takes by version, dialect and class,
// and adds to every sample one that is a day later and has texts and numbers of its own.
func lakeSources(t *testing.T) []*lakeSource {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(dataFile(t, "../ocsf/samples/ble_window.core.1.3.0.json")), "*.json"))
	must(t, err)
	by := map[string]*lakeSource{}
	for _, file := range files {
		parts := strings.SplitN(filepath.Base(file), ".", 3) // ble_window.core.1.3.0.json
		version := ocsf.Version(strings.TrimSuffix(parts[2], ".json"))
		raw, err := os.ReadFile(file)
		must(t, err)
		var o map[string]any
		must(t, numbers(raw, &o))
		class, err := o["class_uid"].(json.Number).Int64()
		must(t, err)
		events := sink.LakeEvents{Source: fmt.Sprintf("%s-%d-%s", parts[1], class, version), Version: string(version), Class: class}
		if err := sink.CheckLake([]sink.LakeEvents{events}); (err != nil) != (version == ocsf.V180) {
			t.Fatalf("OCSF %s: %v", version, err)
		}
		if version == ocsf.V180 {
			continue
		}
		s := by[events.Source]
		if s == nil {
			s = &lakeSource{name: events.Source, cfg: ocsf.ColumnsConfig{Class: class, Profiles: []string{"datetime"}}}
			s.schema, err = ocsf.NewSchema(version)
			must(t, err)
			if parts[1] == "ext" {
				s.schema, err = s.schema.Merge(ocsf.Tidemark())
				must(t, err)
			}
			by[s.name] = s
		}
		s.add(t, o)
	}
	if len(by) < 10 {
		t.Fatalf("%d sources", len(by))
	}
	return slices.SortedFunc(maps.Values(by), func(a, b *lakeSource) int { return strings.Compare(a.name, b.name) })
}

// add adds an event, and one like it.
func (s *lakeSource) add(t *testing.T, o map[string]any) {
	t.Helper()
	paths := map[string]bool{"time_dt": true, "duration": true, "enrichments.data": true, "enrichments.name": true, "metadata.modified_time": true}
	eventPaths(o, "", paths)
	s.cfg.Paths = append(s.cfg.Paths, slices.Sorted(maps.Keys(paths))...)
	metadata := o["metadata"].(map[string]any)
	if list, ok := metadata["profiles"].([]any); ok {
		for _, p := range list {
			s.cfg.Profiles = append(s.cfg.Profiles, p.(string))
		}
	}
	plain, err := json.Marshal(o)
	must(t, err)
	ms, err := o["time"].(json.Number).Int64()
	must(t, err)
	o["time"], o["time_dt"] = ms+24*3600*1000, "2026-03-01T12:00:00.25Z"
	o["message"] = "tab\t, quote \", \u00e9 \u2028 \U0001f600"
	o["duration"] = 1 << 31 // no integer_t takes it
	o["enrichments"] = []any{map[string]any{"name": "message", "value": "x", "data": map[string]any{"list": []any{1, "two", nil}}}}
	metadata["modified_time"] = json.Number("9007199254740993")
	o["unmapped"] = map[string]any{"a": map[string]any{"b": json.Number("1.50")}, "list": []any{1, "x"}}
	changed, err := json.Marshal(o)
	must(t, err)
	s.events = append(s.events, plain, changed)
}

// eventPaths collects the paths of the values of an event.
func eventPaths(v any, path string, to map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			at := strings.TrimPrefix(path+"."+name, ".")
			if name == "data" || at == "unmapped" {
				to[at] = true
				continue
			}
			eventPaths(member, at, to)
		}
		return
	case []any:
		for _, e := range v {
			eventPaths(e, path, to)
		}
		return
	}
	to[path] = true
}

// numbers reads JSON with its numbers as they are written.
func numbers(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}

// write writes the events as files of the layout, and returns what they are as rows.
func (s *lakeSource) write(t *testing.T, dir string) (want []any) {
	t.Helper()
	columns, err := ocsf.NewColumns(s.schema, s.cfg)
	must(t, err)
	for _, e := range s.events {
		must(t, columns.Append(e))
	}
	rec := columns.NewRecordBatch()
	defer rec.Release()
	for i := range int(rec.NumRows()) {
		var row any
		must(t, numbers(ocsf.AppendEvent(nil, rec, i), &row))
		want = append(want, row)
	}
	cfg := sink.DefaultConfig()
	cfg.Job, cfg.Table, cfg.Layout, cfg.Lake = "lake", s.name, sink.LayoutLake, &sink.Lake{}
	cfg.Lake.SetDefaults()
	cfg.Lake.Source, cfg.Lake.Region, cfg.Lake.Account = s.name, "eu-central-1", "123456789012"
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	must(t, err)
	out, err := sink.New(cfg, store, columns.Schema())
	must(t, err)
	// Two epochs, of which the second makes the files of both.
	half := int64(rec.NumRows() / 2)
	for n, at := range []int64{1, pipeline.MaxTicks} {
		part := rec.NewSlice(int64(n)*half, int64(n)*half+half)
		stage, err := out.Begin(t.Context(), pipeline.Epoch{Job: "lake", Lineage: 1, N: int64(n + 1)})
		must(t, err)
		must(t, stage.Write(t.Context(), pipeline.Result(part)))
		part.Release()
		receipt, err := stage.Prepare(t.Context(), pipeline.Mark{Event: at, Ingest: at})
		must(t, err)
		must(t, out.Publish(t.Context(), receipt))
	}
	return want
}

// lakeReader reads the rows of a source as JSON values, and tells how it understands a leaf.
type lakeReader struct {
	name string
	rows func(t *testing.T, glob string) []any
	typ  func(t *testing.T, file, column string) string
}

// lakeReaders are three that share no code: DuckDB, ClickHouse, and the library that writes.
func lakeReaders(t *testing.T, r *rig) []lakeReader {
	t.Helper()
	duck, err := peers.NewDuckDB()
	must(t, err)
	return []lakeReader{
		{"duckdb", func(t *testing.T, glob string) []any {
			out, err := duck.Query(t.Context(), fmt.Sprintf("SELECT to_json(t) FROM read_parquet('%s', hive_partitioning = false) t", glob))
			must(t, err)
			return jsonLines(t, out)
		}, func(t *testing.T, file, column string) string {
			name := column[strings.LastIndexByte(column, '.')+1:]
			out, err := duck.Query(t.Context(), fmt.Sprintf("SELECT DISTINCT type, coalesce(logical_type, '') FROM parquet_schema('%s') WHERE name = '%s' AND type IS NOT NULL", file, name))
			must(t, err)
			return strings.NewReplacer("IntType(bitWidth=@, isSigned=1)", "INT(64,true)", "IntType(bitWidth= , isSigned=1)", "INT(32,true)", // it shows 64 and 32 as characters
				"TimestampType(isAdjustedToUTC=1, unit=TimeUnit(MILLIS=MilliSeconds(), MICROS=<null>, NANOS=<null>))", "TIMESTAMP(MILLIS,UTC)",
				"StringType()", "STRING", "\t", " ").Replace(out)
		}},
		{"clickhouse", func(t *testing.T, glob string) []any {
			out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT * FROM file('%s', Parquet) SETTINGS output_format_json_quote_64bit_integers = 0, use_hive_partitioning = 0 FORMAT JSONEachRow", glob))
			must(t, err)
			return jsonLines(t, out)
		}, func(t *testing.T, file, column string) string {
			out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT c.physical_type, c.logical_type FROM file('%s', ParquetMetadata) ARRAY JOIN columns AS c WHERE c.path = '%s'", file, column))
			must(t, err)
			return strings.NewReplacer("Int(bitWidth=64, isSigned=true)", "INT(64,true)", "Int(bitWidth=32, isSigned=true)", "INT(32,true)",
				"Timestamp(isAdjustedToUTC=true, timeUnit=milliseconds, is_from_converted_type=false, force_set_converted_type=false)", "TIMESTAMP(MILLIS,UTC)",
				"String", "STRING", "None", "", "\t", " ").Replace(out)
		}},
		{"parquet-go", func(t *testing.T, glob string) (out []any) {
			files, err := filepath.Glob(glob)
			must(t, err)
			for _, file := range files {
				rows, err := parquet.ReadFile[any](file)
				must(t, err)
				for _, row := range rows {
					b, err := json.Marshal(textsOf(reflect.ValueOf(row)))
					must(t, err)
					out = append(out, jsonLines(t, string(b))...)
				}
			}
			return out
		}, func(t *testing.T, file, column string) string {
			b, err := os.ReadFile(file)
			must(t, err)
			f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
			must(t, err)
			leaf, ok := f.Schema().Lookup(strings.Split(column, ".")...)
			if !ok {
				return "absent"
			}
			typ := leaf.Node.Type()
			return typ.Kind().String() + " " + strings.NewReplacer("TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS)", "TIMESTAMP(MILLIS,UTC)", "DOUBLE", "").Replace(typ.String())
		}},
	}
}

// textsOf makes texts of the bytes in a row.
func textsOf(v reflect.Value) any {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch {
	case !v.IsValid():
		return nil
	case v.Kind() == reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[fmt.Sprint(textsOf(k))] = textsOf(v.MapIndex(k))
		}
		return out
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return string(v.Bytes())
	case v.Kind() == reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = textsOf(v.Index(i))
		}
		return out
	}
	return v.Interface()
}

func jsonLines(t *testing.T, text string) (out []any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var row any
		if err := numbers([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, row)
	}
	return out
}

// canonical writes rows so that two are equal when they say the same, in order. A null, an
// object and a list without anything in it are alike: ClickHouse has no null for the last two.
func canonical(t *testing.T, rows []any) (out []string) {
	t.Helper()
	for _, row := range rows {
		said, _ := said(t, "", row)
		b, err := json.Marshal(said)
		must(t, err)
		out = append(out, string(b))
	}
	slices.Sort(out)
	return out
}

func said(t *testing.T, name string, v any) (any, bool) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return nil, false
	case map[string]any:
		out := map[string]any{}
		for k, member := range v {
			if x, ok := said(t, k, member); ok {
				out[k] = x
			}
		}
		return out, len(out) > 0
	case []any:
		out := []any{}
		for _, e := range v {
			x, _ := said(t, name, e)
			out = append(out, x)
		}
		return out, len(out) > 0
	case string:
		if name == "data" { // JSON as text
			var inner any
			must(t, numbers([]byte(v), &inner))
			return said(t, "", inner)
		}
		if strings.HasSuffix(name, "_dt") {
			for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05"} {
				if at, err := time.Parse(layout, v); err == nil {
					return fmt.Sprint(at.UnixMilli()), true
				}
			}
			t.Fatalf("%s: %q is no time", name, v)
		}
		return v, true
	case json.Number:
		r, ok := new(big.Rat).SetString(string(v))
		if !ok {
			t.Fatalf("%s: %s is no number", name, v)
		}
		return strings.TrimSuffix(r.RatString(), "/1"), true
	}
	return v, true
}

// TestSecurityLake: files of the layout security_lake have the same values for three readers,
// and the types that Security Lake itself writes.
func TestSecurityLake(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	readers := lakeReaders(t, r)
	seen := map[string]bool{} // columns whose types were looked at
	for _, s := range lakeSources(t) {
		t.Run(s.name, func(t *testing.T) {
			rows := s.write(t, dir)
			want := canonical(t, rows)
			glob := filepath.Join(dir, "ext", s.name, "region=eu-central-1/accountId=123456789012/eventDay=*/part-lake-1-2-*.parquet")
			files, err := filepath.Glob(glob)
			must(t, err)
			if len(files) < 2 || len(rows) != len(s.events) || !strings.Contains(strings.Join(want, ""), `"duration":"2147483648"`) {
				t.Fatalf("%d rows of %d events in %d files", len(rows), len(s.events), len(files))
			}
			for _, reader := range readers {
				if got := canonical(t, reader.rows(t, glob)); !slices.Equal(got, want) {
					t.Errorf("%s: rows differ: %s", reader.name, firstOf(got, want))
				}
			}
			// The comparison notices one other value.
			rows[0].(map[string]any)["activity_id"] = json.Number("77")
			if slices.Equal(canonical(t, rows), want) {
				t.Error("another value went unnoticed")
			}
			s.types(t, readers, files[0], seen)
			s.order(t, files)
		})
	}
	for column := range lakeTypes {
		if !seen[column] {
			t.Errorf("no source has %s", column)
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, "ext"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) != ".parquet" {
			t.Errorf("beside the files: %s", path)
		}
		return err
	})
	must(t, err)
}

// lakeTypes are the physical and logical types of what Security Lake writes.
var lakeTypes = map[string]string{
	"time":                             "INT64 INT(64,true)",
	"metadata.modified_time":           "INT64 INT(64,true)",
	"time_dt":                          "INT64 TIMESTAMP(MILLIS,UTC)",
	"severity_id":                      "INT32 INT(32,true)",
	"type_uid":                         "INT64 INT(64,true)",
	"traffic.bytes":                    "INT64 INT(64,true)",
	"device.location.lat":              "DOUBLE",
	"message":                          "BYTE_ARRAY STRING",
	"enrichments.list.element.data":    "BYTE_ARRAY STRING",
	"metadata.product.vendor_name":     "BYTE_ARRAY STRING",
	"finding_info.types.list.element":  "BYTE_ARRAY STRING",
	"unmapped.key_value.key":           "BYTE_ARRAY STRING",
	"observables.list.element.type_id": "INT32 INT(32,true)",
}

// types looks at the columns that the source has.
func (s *lakeSource) types(t *testing.T, readers []lakeReader, file string, seen map[string]bool) {
	t.Helper()
	own := readers[len(readers)-1]
	for column, want := range lakeTypes {
		if own.typ(t, file, column) == "absent" || seen[column] {
			continue
		}
		seen[column] = true
		for _, r := range readers {
			if r.name == "duckdb" && column == "finding_info.types.list.element" {
				continue // it finds leaves by their last name, and other lists have this one too
			}
			if got := strings.TrimSpace(r.typ(t, file, column)); got != want {
				t.Errorf("%s: %s is %s, want %s", r.name, column, got, want)
			}
		}
	}
}

// order checks that the rows of a file are in the order of their time, and of the day of
// their folder.
func (s *lakeSource) order(t *testing.T, files []string) {
	t.Helper()
	for _, file := range files {
		rows, err := parquet.ReadFile[struct {
			Time int64 `parquet:"time"`
		}](file)
		must(t, err)
		last := int64(0)
		for _, row := range rows {
			if day := time.UnixMilli(row.Time).UTC().Format("20060102"); row.Time < last || !strings.Contains(file, "/eventDay="+day+"/") {
				t.Errorf("%s: %d behind %d", file, row.Time, last)
			}
			last = row.Time
		}
	}
}

// firstOf shows the first row that only one of two sorted lists has.
func firstOf(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "missing: " + want[i]
		case i >= len(want) || got[i] != want[i]:
			return "\n got " + got[i] + "\nwant " + want[min(i, len(want)-1)]
		}
	}
	return ""
}

// TestSecurityLakeJob: a job that is killed while rows come in writes every event once into
// files of many checkpoints, the same events as a job with the usual layout, and holds nothing
// back at its end.
func TestSecurityLakeJob(t *testing.T) {
	r := newRig(t)
	const topic = "ble-lake"
	r.createTopic(t, topic, nil)
	dir := t.TempDir()
	file := func(name, layout string, bounded bool) string {
		path := filepath.Join(dir, fmt.Sprintf("%s-%v.yaml", name, bounded))
		must(t, os.WriteFile(path, fmt.Appendf(nil, `job: %[1]s
feed: ble
source:
  kafka: {brokers: [%[2]s], topic: %[3]s, bounded: %[4]v, stall_after: 5s}
event_time: {max_disorder: 30s, quiet_after: never}
window: {id: ble_1m, tumbling: 1m}
normalize: {to: ocsf, version: 1.3.0}
sinks:
  - parquet: {dir: %[5]q%[6]s}
checkpoint: {dir: %[5]q, interval: 100ms}
http: {listen: ""}
`, name, r.kafka.Addr(), topic, bounded, filepath.Join(dir, name), layout), 0o644))
		return path
	}
	lake := `, layout: security_lake, security_lake: {source: tidemark-ble, region: eu-central-1, account: external, roll: 20m}`
	produce := r.begin(t, "produce", "--brokers", r.kafka.Addr(), "--topic", topic, "--feed", "ble", "--devices", "50", "--period", "10s",
		"--events", "30000", "--rate", "3000", "--disorder", "20s", "--late", "0.02", "--start", "2026-03-01T23:30:00Z", "--seed", "12")
	epochs := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "lake/_tidemark/log/lake/*"))
		must(t, err)
		return found
	}
	for range 3 {
		p := r.begin(t, "run", "-f", file("lake", lake, false))
		for until, n := time.Now().Add(processLimit), len(epochs()); len(epochs()) < n+3; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("no epoch with rows in %v", processLimit)
			}
		}
		p.kill(t)
	}
	produce.wait(t)
	r.tidemark(t, "run", "-f", file("lake", lake, true))
	r.tidemark(t, "run", "-f", file("hive", "", true))

	query := func(sql string, args ...any) string {
		out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf(sql, args...))
		must(t, err)
		return out
	}
	source := filepath.Join(dir, "lake/ext/tidemark-ble/region=eu-central-1/accountId=external/eventDay=*/*.parquet")
	hive := filepath.Join(dir, "hive/hive/dt=*/hour=*/*.parquet")
	const events = "SELECT metadata.uid, metadata.sequence, time, device.uid, count, unmapped FROM file('%s', Parquet) ORDER BY ALL"
	got, want := query(events, source), query(events, hive)
	if lines := strings.Split(want, "\n"); got != want || len(lines) < 3000 {
		t.Errorf("%d lines in the lake, %d in the other job: %s", strings.Count(got, "\n"), len(lines)-1, firstOf(strings.Split(got, "\n"), lines))
	}
	days := query("SELECT extract(_path, 'eventDay=(\\\\d+)') AS day, toYYYYMMDD(fromUnixTimestamp64Milli(min(time)), 'UTC'), toYYYYMMDD(fromUnixTimestamp64Milli(max(time)), 'UTC') FROM file('%s', Parquet) GROUP BY day ORDER BY day", source)
	if days != "20260301\t20260301\t20260301\n20260302\t20260302\t20260302\n" {
		t.Errorf("days of the folders and of their events:\n%s", days)
	}
	// A hundred minutes of events, in rolls of twenty: some epochs make no files, and
	// there are two days.
	files, err := filepath.Glob(source)
	must(t, err)
	if n := len(epochs()); len(files) < 2 || len(files) >= n {
		t.Errorf("%d files of %d epochs", len(files), n)
	}
	if staged, err := filepath.Glob(filepath.Join(dir, "lake/_tidemark/staging/*/lake/*/*")); err != nil || len(staged) > 0 {
		t.Errorf("staged: %v %v", staged, err)
	}
	// The comparison notices a file that is there twice.
	b, err := os.ReadFile(files[0])
	must(t, err)
	must(t, os.WriteFile(strings.TrimSuffix(files[0], ".parquet")+"-again.parquet", b, 0o644))
	if query(events, source) == want {
		t.Error("a file that is there twice went unnoticed")
	}
	late := query("SELECT count() FROM file('%s', Parquet)", filepath.Join(dir, "lake/lake_late/dt=*/*.parquet"))
	if late != query("SELECT count() FROM file('%s', Parquet)", filepath.Join(dir, "hive/hive_late/dt=*/hour=*/*.parquet")) || late == "0\n" {
		t.Errorf("late rows: %s", late)
	}
}

// TestSecurityLakeClasses: the example whose mapping makes events of two classes writes each
// class to a source of its own.
func TestSecurityLakeClasses(t *testing.T) {
	r := newRig(t)
	const topic = "firewall-lake"
	r.createTopic(t, topic, nil)
	examples, err := filepath.Abs("../examples")
	must(t, err)
	lines := filepath.Join(examples, "network-firewall.jsonl")
	r.tidemark(t, "produce", "--brokers", r.kafka.Addr(), "--topic", topic, "--lines", lines)
	text, err := os.ReadFile(filepath.Join(examples, "network-firewall.yaml"))
	must(t, err)
	dir := t.TempDir()
	job := strings.NewReplacer("127.0.0.1:9092", r.kafka.Addr(), "topic: firewall", "topic: "+topic+"\n    bounded: true",
		"examples/mappings", examples+"/mappings", "dir: lake", "dir: "+dir, "dir: state", "dir: "+dir+"/state", "127.0.0.1:9474", `""`).Replace(string(text))
	file := filepath.Join(dir, "job.yaml")
	must(t, os.WriteFile(file, []byte(job), 0o644))
	r.tidemark(t, "run", "-f", file)

	sources, err := filepath.Glob(filepath.Join(dir, "ext/*"))
	must(t, err)
	out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT extract(_path, '/ext/([^/]+)/'), class_uid, count() > 0, countIf(metadata.version != '1.3.0') FROM file('%s', Parquet) GROUP BY ALL ORDER BY ALL",
		filepath.Join(dir, "ext/*/region=eu-central-1/accountId=external/eventDay=*/*.parquet")))
	must(t, err)
	if want := "nfw_2004\t2004\t1\t0\nnfw_4001\t4001\t1\t0\n"; out != want || len(sources) != 2 {
		t.Errorf("sources %v\n%s\nwant\n%s", sources, out, want)
	}
}

package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// settingsOf returns every setting that a type can have, as patterns.
func settingsOf(t reflect.Type, path string) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case isSecret(t):
		return nil
	case path == "sinks":
		t = t.Elem()
	case t.Kind() != reflect.Struct || t == timeType:
		return []string{path}
	}
	var out []string
	for _, f := range yamlFields(reflect.New(t).Elem()) {
		out = append(out, settingsOf(f.value.Type(), strings.TrimPrefix(path+"."+f.name, "."))...)
	}
	return out
}

// TestClasses: every setting of a job file has a class, once, and no class is of a setting
// that there is not.
func TestClasses(t *testing.T) {
	var classed []string
	for _, row := range changeClasses {
		for _, name := range strings.Fields(row.settings) {
			classed = append(classed, strings.TrimPrefix(row.section+"."+name, "."))
		}
	}
	all := settingsOf(reflect.TypeFor[Config](), "")
	for _, path := range all {
		if n := len(slices.DeleteFunc(slices.Clone(classed), func(c string) bool { return c != path })); n != 1 {
			t.Errorf("setting %s has %d classes in changeClasses: say what a change of it takes", path, n)
		}
	}
	for _, path := range classed {
		if !slices.Contains(all, path) {
			t.Errorf("changeClasses has %s, which is no setting", path)
		}
	}
	for path := range milder {
		if !slices.Contains(classed, path) {
			t.Errorf("milder has %s, which is no setting", path)
		}
	}
}

const changeJob = `job: j
feed: ble
source: {kafka: {brokers: ["127.0.0.1:1"], topic: t}}
window: {tumbling: 10s, lateness: 5s}
filter: rssi_dbm > -90
normalize: {to: none}
sinks: [{parquet: {dir: out}}]
`

// TestChanges: what changes are found, and their classes.
func TestChanges(t *testing.T) {
	for _, c := range []struct {
		from, to string // a part of the job file
		want     string
	}{
		{"", "", ""},
		{"job: j", "checkpoint: {dir: state, interval: 1s, keep: 7}\njob: j", "checkpoint.dir 1, checkpoint.interval 0, checkpoint.keep 0"},
		{"lateness: 5s", "lateness: 4s", "window.lateness 1"},
		{"lateness: 5s", "lateness: 6s", "window.lateness 2"},
		{"> -90", "> -80", "filter 1"},
		{"filter: rssi_dbm > -90\n", "", "filter 2"},
		{"{tumbling: 10s, lateness: 5s}", "{hopping: {size: 10s, slide: 5s}, lateness: 5s}", "window.hopping.size 2, window.hopping.slide 2, window.tumbling 2"},
		{"lateness: 5s", "lateness: 5s, early: {rows: 3}", "window.early.rows 1"},
		{"[{parquet: {dir: out}}]", "[{parquet: {dir: more, codec: none}}, {parquet: {dir: out}}]", "added sinks[parquet more/j] 1"},
		{"{dir: out}", "{dir: out, codec: none}", "sinks[parquet out/j].codec 1"},
		{"topic: t", "topic: u", "source.kafka.topic 2"},
		{"topic: t", "topic: t, sasl: {mechanism: plain, user: me, password: \"${env:HOME}\"}", "source.kafka.sasl.mechanism 1, source.kafka.sasl.user 1"},
		{"filter:", "dedupe: {columns: [asset_id, rssi_dbm], within: 1m}\nfilter:", "dedupe.columns 2, dedupe.within 1"},
	} {
		before, err := parseConfig("job.yaml", []byte(changeJob))
		if err != nil {
			t.Fatal(err)
		}
		after, err := parseConfig("job.yaml", []byte(strings.Replace(changeJob, c.from, c.to, 1)))
		if err != nil {
			t.Fatalf("%s: %v", c.to, err)
		}
		old, err := canonical(before)
		if err != nil {
			t.Fatal(err)
		}
		found, err := changes(old, after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			text := f.path
			if strings.HasPrefix(text, "sinks") && f.fresh {
				text = "added " + section(text)
			}
			got = append(got, text+" "+string('0'+rune(f.class)))
		}
		slices.Sort(got)
		if text := strings.Join(slices.Compact(got), ", "); text != c.want {
			t.Errorf("%q for %q: %s, want %s", c.to, c.from, text, c.want)
		}
	}
}

// TestChangesOfVersions: a setting that the version of the checkpoint did not have is unchanged
// when it has its default, and one that this version does not have counts for nothing.
func TestChangesOfVersions(t *testing.T) {
	cfg, err := parseConfig("job.yaml", []byte(changeJob))
	if err != nil {
		t.Fatal(err)
	}
	old, err := canonical(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(old), `"window.fingerprints":"false",`, "", 1)
	text = strings.Replace(text, `"event_time.align":"5m0s",`, `"event_time.forgotten":"1",`, 1)
	if len(text) == len(old) {
		t.Fatalf("nothing was taken out of %s", old)
	}
	if found, err := changes([]byte(text), cfg); err != nil || len(found) != 0 {
		t.Errorf("%v, %v; want no changes", found, err)
	}
	cfg.Window.Fingerprints = true
	if found, err := changes([]byte(text), cfg); err != nil || len(found) != 1 || found[0].class != newLineage {
		t.Errorf("%v, %v; want one that needs a new lineage", found, err)
	}
	if _, err := changes([]byte("[]"), cfg); err == nil {
		t.Error("a configuration that is none was read")
	}
}

// TestRestartKeepsState gives the state of one job's windows to another's: where the changes
// are of class restart, it is taken. Where the operators refuse it the class must be
// newLineage; those that they would take all the same say why in changeClasses.
func TestRestartKeepsState(t *testing.T) {
	refused := 0
	for _, c := range []struct{ was, is string }{
		{"{tumbling: 10s, lateness: 5s}", "{tumbling: 10s, lateness: 1s}"},
		{"{tumbling: 10s}", "{tumbling: 10s, early: {rows: 1, delay: 1s, every: 2s}}"},
		{"{tumbling: 10s, lateness: 5s}", "{tumbling: 10s, lateness: 5s, late_rows: 2, late_delay: 1s}"},
		{"{tumbling: 10s}", "{tumbling: 20s}"},
		{"{tumbling: 10s}", "{tumbling: 10s, offset: 1s}"},
		{"{tumbling: 10s}", "{tumbling: 10s, retract: true}"},
		{"{tumbling: 10s}", "{tumbling: 10s, skip_unchanged: true}"},
		{"{tumbling: 10s}", "{tumbling: 10s, fingerprints: true}"},
		{"{tumbling: 10s}", "{tumbling: 10s, trigger: on_ingest}"},
		{"{tumbling: 10s}", "{tumbling: 10s, aggregates: [{fn: count, as: count}]}"},
		{"{tumbling: 2h}", "{tumbling: 2h, zone: Europe/Berlin}"},
		{"{tumbling: 10s}", "{session: {gap: 10s}}"},
		{"{tumbling: 10s}", "{global: true, early: {every: 1h}}"},
		{"{tumbling: 10s}", "{tumbling: 10s, trigger: on_close, then: {tumbling: 1m, aggregates: [{fn: count, as: count}]}}"},
		{"{hopping: {size: 12s, slide: 2s}}", "{hopping: {size: 12s, slide: 4s}}"},
		{"{hopping: {size: 12s, slide: 4s}}", "{hopping: {size: 12s, slide: 2s}}"},
		{"{hopping: {size: 12s, slide: 4s}}", "{hopping: {size: 16s, slide: 4s}}"},
		{"{hopping: {size: 12s, slide: 4s}}", "{hopping: {size: 12s, slide: 4s}, early: {rows: 1}}"},
		{"{cumulate: {size: 12s, step: 4s}}", "{cumulate: {size: 12s, step: 2s}}"},
		{"{session: {gap: 10s}, lateness: 5s}", "{session: {gap: 10s}, lateness: 1s}"},
		{"{session: {gap: 10s}}", "{session: {gap: 10s}, early: {rows: 1}}"},
		{"{session: {gap: 10s}}", "{session: {gap: 10s}, retract: true}"},
		{"{tumbling: 10s, trigger: on_ingest}", "{tumbling: 10s, trigger: on_ingest, emit_delay: 1s, max_age: 1m}"},
	} {
		job := func(window string) Config {
			cfg, err := parseConfig("job.yaml", []byte(strings.Replace(changeJob, "{tumbling: 10s, lateness: 5s}", window, 1)))
			if err != nil {
				t.Fatalf("%s: %v", window, err)
			}
			return cfg
		}
		was, is := job(c.was), job(c.is)
		old, err := canonical(was)
		if err != nil {
			t.Fatal(err)
		}
		found, err := changes(old, is)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", c.is, found, err)
		}
		class := slices.MaxFunc(found, func(a, b change) int { return int(a.class - b.class) }).class
		err = takesState(t, was, is)
		if err != nil {
			refused++
		}
		if err != nil && class != newLineage {
			t.Errorf("%s after %s is of class %q, but the state is refused: %v", c.is, c.was, class, err)
		}
	}
	if refused < 8 {
		t.Errorf("the operators refused %d changes only: the test tries nothing", refused)
	}
}

// takesState gives the state of one job's keyed operator, with a row in it, to another's.
func takesState(t *testing.T, was, is Config) error {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	p, err := planOf(was)
	if err != nil {
		t.Fatal(err)
	}
	from, err := was.newKeyed(1, p.rows, mem)
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(mem, p.rows)
	defer b.Release()
	at := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC).UnixMicro()
	for i, f := range p.rows.Fields() {
		switch c := b.Field(i).(type) {
		case *array.TimestampBuilder:
			c.Append(arrow.Timestamp(at))
		case *array.StringBuilder:
			c.Append("RC-1")
		default:
			if f.Nullable {
				c.AppendNull()
			} else {
				c.AppendEmptyValue()
			}
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	keyer, err := pipeline.NewKeyer(p.rows, was.Window.Key, 1)
	if err != nil {
		t.Fatal(err)
	}
	batch := pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks, Ingest: &pipeline.IngestMarks{Own: []int64{at}, Merged: []int64{at}}}
	batch.Keys = keyer.Keys(rec)
	if err := from.Process(batch, ignore{}); err != nil {
		t.Fatal(err)
	}
	to, err := is.newKeyed(1, p.rows, mem)
	if err != nil {
		t.Fatal(err)
	}
	pieces := 0
	err = from.Snapshot(true, func(piece pipeline.Piece) error {
		pieces++
		made := piece.Made()
		defer made.Rec.Release()
		return to.Restore(made, func(uint8) bool { return true })
	})
	if pieces == 0 {
		t.Fatalf("%s has no state", was.Window.shape())
	}
	return err
}

// ignore takes what operators emit.
type ignore struct{}

func (ignore) Emit(pipeline.Port, pipeline.Batch) error { return nil }
func (ignore) Count(pipeline.Fate, int32, int64)        {}

package clickhouse

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestSwitchDDL: tables of several lineages keep the rows of each, and a view that decides reads
// the decisions in one place.
func TestSwitchDDL(t *testing.T) {
	cfg := wideConfig()
	cfg.ByLineage = true
	ddl, err := DDL(cfg, wideSchema())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(ddl, "\n"), "readings_current") {
		t.Error("a table of several lineages has a view")
	}
	want := "\nPARTITION BY (_tm_lineage, toYYYYMM(fromUnixTimestamp64Milli(`time`, 'UTC')))\nORDER BY (`device.uid`, `time`, _tm_lineage)\n"
	if !strings.Contains(ddl[0], want) {
		t.Errorf("%s\nwant %s", ddl[0], want)
	}
	cfg.ByLineage = false
	if ddl, err = SwitchDDL(cfg, wideSchema()); err != nil {
		t.Fatal(err)
	}
	wantRanges := "CREATE TABLE IF NOT EXISTS `default`.`tm_ranges`\n" + `(
    job String,
    table_name String,
    from_time DateTime64(6, 'UTC'),
    to_time DateTime64(6, 'UTC'),
    lineage UInt16,
    since DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (table_name, job, since)
SETTINGS non_replicated_deduplication_window = 10000`
	if ddl[0] != wantRanges {
		t.Errorf("%s\nwant\n%s", ddl[0], wantRanges)
	}
	view := ddl[1]
	for _, want := range []string{
		"CREATE OR REPLACE VIEW `default`.`readings_current` AS\nSELECT `time`, ",
		"FROM (SELECT * FROM `default`.`readings` FINAL)\n",
		"FROM (SELECT * FROM `default`.`readings_replays` FINAL)\n",
		"WHERE _tm_set = arrayFirst(r -> r.2 <= fromUnixTimestamp64Milli(`time`, 'UTC') AND ",
		"FROM `default`.`tm_ranges` WHERE table_name = 'default.readings' AND job = ",
	} {
		if strings.Count(view, want) != 1 {
			t.Errorf("not once in the view: %s\n%s", want, view)
		}
	}
	cfg.TimeColumn = "seen"
	if ddl, err = SwitchDDL(cfg, wideSchema()); err != nil || !strings.Contains(ddl[1], "r.2 <= ifNull(`seen`, toDateTime64('1900-01-01', 6, 'UTC') - 1)") {
		t.Errorf("a time that may be null: %s, %v", ddl[1], err)
	}
	cfg.Cluster, cfg.Replicated = "main", true
	if ddl, err = SwitchDDL(cfg, wideSchema()); err != nil || strings.Count(strings.Join(ddl, ""), " ON CLUSTER 'main'") != 2 || !strings.Contains(ddl[0], "ReplicatedMergeTree(") {
		t.Errorf("on a cluster: %s, %v", ddl, err)
	}
}

// TestByLineageCheck: a table that was made otherwise is refused.
func TestByLineageCheck(t *testing.T) {
	cfg := testConfig()
	cfg.ByLineage = true
	info := tableInfo{engine: "ReplacingMergeTree", full: "ReplacingMergeTree(_tm_ver, _tm_del)", sorted: strings.Join(cfg.OrderBy, ", ")}
	if errs := info.checkEngine(cfg, nil); len(errs) != 1 || !strings.Contains(errs[0].Error(), ", _tm_lineage): rows replace each other") {
		t.Errorf("%v", errs)
	}
	info.sorted += ", _tm_lineage"
	if errs := info.checkEngine(cfg, nil); len(errs) != 0 {
		t.Errorf("%v", errs)
	}
}

// TestKeysByLineage: the keys of rows of two lineages differ, so that one does not stand for the
// other in an audit.
func TestKeysByLineage(t *testing.T) {
	cfg := testConfig()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	keys := func(lineage uint16) []uint64 {
		s, err := newSink(cfg, nil, readingSchema, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		b := array.NewRecordBuilder(mem, s.sealedAs)
		defer b.Release()
		for i := range s.sealedAs.NumFields() {
			b.Field(i).AppendEmptyValue()
		}
		rec := b.NewRecordBatch()
		defer rec.Release()
		return s.keysOf(rec, lineage)
	}
	if a, b := keys(1), keys(2); !slices.Equal(a, b) {
		t.Error("keys of a table of one lineage depend on it")
	}
	cfg.ByLineage = true
	if a, b := keys(1), keys(2); len(a) == 0 || slices.Equal(a, b) {
		t.Error("keys do not depend on the lineage")
	}
}

// TestStanding: a decision stands until one that is newer covers it, as with files.
func TestStanding(t *testing.T) {
	day := func(from, to int64, lineage uint16) Range { return Range{From: from, To: to, Lineage: lineage} }
	for _, c := range []struct{ decided, want []Range }{
		{nil, nil},
		{[]Range{day(0, 9, 1)}, []Range{day(0, 9, 1)}},
		{[]Range{day(0, 9, 0), day(0, 9, 1)}, []Range{day(0, 9, 0)}},
		{[]Range{day(0, 9, 2), day(2, 5, 1)}, []Range{day(0, 9, 2)}},
		{[]Range{day(2, 5, 2), day(0, 9, 1)}, []Range{day(2, 5, 2), day(0, 9, 1)}},
		{[]Range{day(5, 9, 3), day(0, 5, 2), day(0, 9, 1)}, []Range{day(5, 9, 3), day(0, 5, 2), day(0, 9, 1)}},
	} {
		if got := Standing(c.decided); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.decided, got, c.want)
		}
	}
}

// TestSince: a decision is newer than all before it, also when the clock was set back.
func TestSince(t *testing.T) {
	now := time.Unix(100, 0)
	if got := Since(now, []Range{{Since: now.Add(-time.Second)}}); !got.Equal(now) {
		t.Errorf("%v", got)
	}
	if got := Since(now, []Range{{Since: now.Add(time.Hour)}, {Since: now}}); !got.Equal(now.Add(time.Hour + time.Microsecond)) {
		t.Errorf("%v", got)
	}
}

// TestReadySwitched: a job that starts when there are decisions makes the view that knows them,
// and never the other one.
func TestReadySwitched(t *testing.T) {
	for _, decided := range []bool{false, true} {
		r := newRig(t, nil)
		r.model.ranges = decided
		if err := r.sink.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		ran := strings.Join(r.model.ran, ";\n")
		if plain, switched := strings.Count(ran, "CREATE VIEW IF NOT EXISTS `default`.`assets_current`"), strings.Count(ran, "CREATE OR REPLACE VIEW `default`.`assets_current`"); plain+switched != 1 || switched == 1 != decided {
			t.Errorf("decided %v: %s", decided, ran)
		}
	}
}

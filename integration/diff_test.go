package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// differs runs tidemark diff and returns what it prints; equal says how it is to end.
func (r *rig) differs(t *testing.T, equal bool, args ...string) string {
	t.Helper()
	p := r.begin(t, append([]string{"diff"}, args...)...)
	if err := <-p.ended; (err == nil) != equal {
		t.Fatalf("tidemark diff %s: %v\n%s%s", strings.Join(args, " "), err, p.stdout.String(), p.stderr.String())
	}
	return p.stdout.String() + p.stderr.String()
}

// TestDiffTables: a table of ours equals the Parquet files that the engine makes of it and a
// table of somebody else with other types, versions and withdrawn rows left out; what is
// changed by hand is found, whatever the type of its column.
func TestDiffTables(t *testing.T) {
	r := newRig(t)
	d := r.direct(t, nil)
	d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 10, 1}, countRow{"a", 2, 20, 1}, countRow{"", 1, 30, 1}, countRow{"b", 1, 1, 1})
	d.epoch(t, d.sink, 2, 0, countRow{"a", 1, 12, 2})
	d.query(t, "INSERT INTO $db.counts (`key`, window_start, `count`, _tm_ver, _tm_del) VALUES ('b', '2026-07-01 01:00:00', 0, 9000000000000000000, 1)")
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "files"), 0o755))
	d.query(t, "INSERT INTO FUNCTION file('"+filepath.Join(dir, "files", "a.parquet")+"', Parquet) SELECT * EXCEPT (_tm_ver, _tm_del) FROM $db.counts_current")
	d.query(t, `CREATE TABLE $db.theirs (k LowCardinality(Nullable(String)), at DateTime('UTC'), n Decimal(18, 3), mean Nullable(Float32), unmapped Map(LowCardinality(String), String),
		ver UInt8, tags Array(Tuple(a UInt8, b Nullable(UUID))), day Date) ENGINE = ReplacingMergeTree(ver) ORDER BY (k, at) SETTINGS allow_nullable_key = 1`)
	d.query(t, "INSERT INTO $db.theirs (k, at, n, mean, unmapped, ver) SELECT key, window_start, count, mean, unmapped, 2 FROM $db.counts_current")
	d.query(t, "INSERT INTO $db.theirs (k, at, n, ver) SELECT key, window_start, 77, 1 FROM $db.counts_current")

	ours := "clickhouse:" + d.cfg.Database + ".counts"
	by := []string{"--url", r.clickhouse.URL(), "--key", "key", "--time", "window_start"}
	files := append(by, ours, "parquet:"+filepath.Join(dir, "files"))
	if out := r.differs(t, true, files...); strings.Count(out, " 3 rows  hash ") != 2 || !strings.Contains(out, "equal: late 0, value 0, missing 0, extra 0") {
		t.Errorf("table and files:\n%s", out)
	}
	theirs := append(by, "--map-b", "k=key,at=window_start,n=count", "--ignore", "ver,tags,day", ours, "clickhouse:"+d.cfg.Database+".theirs")
	r.differs(t, true, append(theirs, "--slice-rows", "1")...)
	d.query(t, "INSERT INTO $db.theirs (k, at, n, mean, unmapped, ver, tags) SELECT key, window_start, if(key = 'a' AND count = 20, 20.5, count), mean, unmapped, 3, [(1, NULL)] FROM $db.counts_current WHERE key IS NOT NULL")
	if out := r.differs(t, false, theirs...); strings.Count(out, "\nvalue ") != 1 || !strings.Contains(out, "  a    count: 20 | 20.5\n") {
		t.Errorf("a value was changed:\n%s", out)
	}
	if out := r.differs(t, false, append(theirs, "--ignore", "ver,day", "--from", "2026-07-01T02:00:00Z")...); !strings.Contains(out, "count: 20 | 20.5; tags[0].a: null | 1\n") {
		t.Errorf("a column that one side has:\n%s", out)
	}
	r.differs(t, false, append(by, ours, "clickhouse:"+d.cfg.Database+".absent")...)

	_, err := clickhouse.OpenRows(t.Context(), clickhouse.RowsConfig{Config: d.cfg, TimeColumn: "key"})
	if err == nil || !strings.Contains(err.Error(), "column key is Nullable(String): want a time") {
		t.Errorf("a time column that is none: %v", err)
	}
}

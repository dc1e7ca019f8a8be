package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ddlOf returns the statements of a job with a ClickHouse sink.
func ddlOf(t *testing.T, text string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := cmdDDL(append([]string{"-f", file}, args...), &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const hybridJob = `job: h
feed: traffic
source: {kafka: {brokers: [h:1], topic: t}}
window:
  tumbling: 1m
  trigger: on_ingest
  aggregates: [{fn: count, as: count}, {fn: sum, column: bytes, as: bytes}, {fn: max, column: requests, as: most}, {fn: mean, column: packets, as: avg}]
sinks: [{clickhouse: {url: "http://h:8123"}}]
`

// TestAdditions: of a job with late additions the view adds what is additive, wherever the
// results have it, and leaves the rest.
func TestAdditions(t *testing.T) {
	view := ddlOf(t, hybridJob)
	view = view[strings.Index(view, "CREATE VIEW"):]
	view = view[:strings.Index(view, ";")]
	for _, want := range []string{
		"sum(b.`count`) AS `count`",
		"sum(b.`traffic.bytes`) AS `traffic.bytes`",
		"'most', ifNull(toString(max(accurateCastOrNull(b.`unmapped`['most'], 'Int64'))), '')",
		"'late_count', ifNull(toString(sum(",
		"max(b.`_tm_emitted_at`) AS `_tm_emitted_at`",
		"argMax(tuple(b.`message`), (b._tm_result, b._tm_ver)).1 AS `message`",
		"b.`metadata.uid` AS `metadata.uid`",
	} {
		if !strings.Contains(view, want) {
			t.Errorf("the view lacks %s:\n%s", want, view)
		}
	}
	if strings.Contains(view, "'avg'") {
		t.Error("the view adds means")
	}
	plain := ddlOf(t, strings.ReplaceAll(hybridJob, "  trigger: on_ingest\n", ""))
	if !strings.Contains(plain, "SELECT * FROM `default`.`h` FINAL") || strings.Contains(plain, "_late_delta") {
		t.Errorf("a job without additions:\n%s", plain)
	}
}

// TestLowCardinality: constants and names of enums, in the tables of events alone; what the
// job file says counts instead.
func TestLowCardinality(t *testing.T) {
	out := ddlOf(t, hybridJob)
	for _, name := range []string{"class_name", "severity", "metadata.product.vendor_name", "metadata.version"} {
		if n := strings.Count(out, "`"+name+"` LowCardinality(String)"); n != 2 {
			t.Errorf("%s: %d columns of low cardinality, want those of results and additions", name, n)
		}
	}
	if n := strings.Count(ddlOf(t, strings.ReplaceAll(hybridJob, "8123\"", "8123\", low_cardinality: [message]")), "LowCardinality"); n != 2 {
		t.Errorf("%d columns of low cardinality, want message twice", n)
	}
}

func TestDDLCluster(t *testing.T) {
	out := ddlOf(t, hybridJob, "--cluster", "main", "--replicated")
	if n := strings.Count(out, " ON CLUSTER 'main'"); n != 7 { // four tables, tm_commits, two views
		t.Errorf("%d statements on the cluster:\n%s", n, out)
	}
	if strings.Contains(out, "non_replicated") || !strings.Contains(out, "insert_quorum") {
		t.Errorf("not for replicas:\n%s", out)
	}
}

// TestDDLReplays: the tables of replays, by lineage and without a view, and the view of the job
// that reads them; late additions have no view of their own.
func TestDDLReplays(t *testing.T) {
	out := ddlOf(t, hybridJob, "--replays")
	for want, n := range map[string]int{
		"CREATE TABLE IF NOT EXISTS `default`.`h_replays`\n":            1,
		"CREATE TABLE IF NOT EXISTS `default`.`h_replays_late_delta`\n": 1,
		"CREATE TABLE IF NOT EXISTS `default`.`h_replays_late`\n":       1,
		"CREATE TABLE IF NOT EXISTS `default`.`tm_ranges`\n":            1,
		"CREATE OR REPLACE VIEW `default`.`h_current` AS":               1,
		"PARTITION BY (_tm_lineage, ":                                   4,
		"_replays_current":                                              0,
		"FROM `default`.`h_replays` FINAL":                              2,
	} {
		if got := strings.Count(out, want); got != n {
			t.Errorf("%d times %s, want %d:\n%s", got, want, n, out)
		}
	}
	if strings.Contains(ddlOf(t, hybridJob), "_replays") {
		t.Error("the statements of the job speak of replays")
	}
}

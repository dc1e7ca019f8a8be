package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const explainJob = `job: %[1]s
feed: ble
source: {kafka: {brokers: [%[2]s], topic: explained, bounded: true}}
event_time: {max_disorder: 1s, quiet_after: never}
window: {tumbling: 10s, lateness: 0s}
normalize: {to: %[3]s}
sinks: [{clickhouse: {url: %[4]q, table: %[1]s}}]
checkpoint: {dir: %[5]q}
http: {listen: ""}
`

// TestExplain: records of a real broker are found in tables of the real engine, as results of
// either form, as late rows and as dead records; and the query that is printed finds them as well.
func TestExplain(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	var lines []string
	for i, second := range []int64{0, 13, 1, 60} { // the third is late
		lines = append(lines, fmt.Sprintf(`{"asset_id":"RC-%d","gateway_id":"GW","ts_event":%d,"rssi_dbm":-60}`, i, 1772366400000+second*1000))
	}
	lines = append(lines, "poison")
	file := filepath.Join(dir, "lines")
	must(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	r.tidemark(t, "produce", "--brokers", r.kafka.Addr(), "--topic", "explained", "--partitions", "1", "--lines", file)
	for name, to := range map[string]string{"explained_rows": "none", "explained_events": "ocsf"} {
		job := filepath.Join(dir, name+".yaml")
		must(t, os.WriteFile(job, fmt.Appendf(nil, explainJob, name, r.kafka.Addr(), to, r.clickhouse.URL(), filepath.Join(dir, name)), 0o644))
		r.tidemark(t, "run", "-f", job)
		r.explains(t, job, 0, "on time", "clickhouse:default."+name)
		r.explains(t, job, 2, "late", "clickhouse:default."+name+"_late")
		r.explains(t, job, 4, "dead", "clickhouse:default."+name+"_dead")
	}
}

// explains wants a record to be found in a table.
func (r *rig) explains(t *testing.T, job string, offset int, became, table string) {
	t.Helper()
	text := r.tidemark(t, "explain", "offset", "-f", job, "-o", "json", fmt.Sprintf("explained/0@%d", offset))
	var w struct {
		Became string
		Landed []struct{ Table, State, Query string }
	}
	must(t, json.Unmarshal([]byte(text), &w))
	if w.Became != became || len(w.Landed) != 1 || w.Landed[0].Table != table || w.Landed[0].State != "found, 1 version" {
		t.Fatalf("want %s, found in %s: %s", became, table, text)
	}
	out, err := r.clickhouse.Query(t.Context(), w.Landed[0].Query)
	must(t, err)
	if strings.Count(out, "\n") != 1 {
		t.Errorf("the query finds %q: %s", out, w.Landed[0].Query)
	}
}

package integration

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// visitJob has sessions with a gap of a minute. No row is late, but one in twenty comes up
// to five minutes behind, when the sessions that it lies in or between are out already.
const visitJob = bleFields + `event_time: {max_disorder: 30s, quiet_after: never}
window:
  session: {gap: 1m, max_length: none}
  lateness: 1h
  late_delay: 100ms
  early: {rows: 40}
  retract: %v
  key: [asset_id]
  aggregates:
    - {fn: count, as: count}
    - {fn: min, column: rssi_dbm, as: rssi_min}
    - {fn: max, column: rssi_dbm, as: rssi_max}
    - {fn: sum, column: rssi_dbm, as: rssi_sum}
normalize: {to: %s}`

// visitLines counts visits the plain way: the rows of a key by time, cut where a row is a
// gap or more behind the one before. A line is key, start, end, count, min, max, sum.
func visitLines(events []event, gap int64) []string {
	sorted := slices.SortedFunc(slices.Values(events), func(a, b event) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.at, b.at))
	})
	var out []string
	for len(sorted) > 0 {
		first, s, n := sorted[0], sums{}, 0
		for n < len(sorted) && sorted[n].key == first.key && (n == 0 || sorted[n].at < sorted[n-1].at+gap) {
			s = s.add(sorted[n].value)
			n++
		}
		out = append(out, fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d\t%d", first.key, first.at, sorted[n-1].at+gap, s.count, s.min, s.max, s.sum))
		sorted = sorted[n:]
	}
	return out
}

// TestSessions: visits of 45,012 hearings, spread over all partitions, that grow and merge
// after they were shown. What is withdrawn is in the tables, and <table>_current and the
// recipe for the files show what is not: the visits that the file has. With retract the
// files have the old values of every change too, and it makes no difference; of an INSERT the
// server keeps the last row of a sort key alone.
func TestSessions(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	all := csvEvents(t, file, bleFromCSV)
	want := visitLines(all, 60*second)
	if len(want) < 100 {
		t.Fatalf("only %d visits: the test tests little", len(want))
	}
	const topic = "ble-visits"
	r.tidemark(t, r.produceBLE(file, topic)...)
	for to, q := range map[string]struct {
		retract     bool
		id, columns string
	}{
		"none": {false, "asset_id, window_start, window_end", "asset_id AS k, toUnixTimestamp64Micro(window_start) AS s, toUnixTimestamp64Micro(window_end) AS e, count, rssi_min, rssi_max, rssi_sum"},
		"ocsf": {true, "metadata.uid", "device.uid AS k, start_time * 1000 AS s, end_time * 1000 AS e, count, unmapped['rssi_min'], unmapped['rssi_max'], unmapped['rssi_sum']"},
	} {
		t.Run(to, func(t *testing.T) {
			j := r.newJob(t, "ble-visits-"+to, topic, "asset_id", fmt.Sprintf(visitJob, q.retract, to))
			j.row = q.id + ", _tm_ver"
			if q.retract { // old values have the version with which they were shown
				j.row += ", unmapped['_tm_kind']"
			}
			summary := r.tidemark(t, "run", "-f", j.bounded)
			if counts := fmt.Sprintf("rows in %d = aggregated %d + late 0 ", len(all), len(all)); !strings.Contains(summary, counts) {
				t.Errorf("summary %q, want %q", summary, counts)
			}
			files, tables := j.places()[0], j.places()[1]
			for _, p := range []place{files, tables} {
				withdrawn := r.lines(t, p, j.db, "SELECT countIf(_tm_del) > 100, countIf(_tm_del AND count IS NOT NULL), countIf(NOT _tm_del AND count IS NULL) FROM %s")
				sameLines(t, p.name+": many are withdrawn, without values", withdrawn, []string{"1\t0\t0"})
				if q.retract && p.name == "parquet" {
					sameLines(t, p.name+": old values", r.lines(t, p, j.db, "SELECT countIf(unmapped['_tm_kind'] = '-U') > 100, countIf((unmapped['_tm_kind'] = '-D') != _tm_del) FROM %s"), []string{"1\t0"})
				}
				sameLines(t, p.name+": visits", r.lines(t, p, j.db, "SELECT "+q.columns+" FROM (SELECT * FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY "+q.id+") WHERE NOT _tm_del) ORDER BY k, s"), want)
			}
			sameLines(t, "current", r.lines(t, tables, j.db+"_current", "SELECT "+q.columns+" FROM %s ORDER BY k, s"), want)
			sameLines(t, "current", r.lines(t, tables, j.db+"_current", "SELECT count(), countIf(_tm_del = 1) FROM %s"), []string{fmt.Sprintf("%d\t0", len(want))})
			// The same after the server has merged what it has.
			r.physical(t, j)
			_, err := r.clickhouse.Query(t.Context(), "OPTIMIZE TABLE "+j.db+"."+j.db+" FINAL")
			must(t, err)
			sameLines(t, "current, merged", r.lines(t, tables, j.db+"_current", "SELECT count() FROM %s"), []string{fmt.Sprint(len(want))})
		})
	}
}

// TestGlobal: one result per key for all time, when the input ends. It has no bounds, so
// the rows are in the partition and the folder of rows without a time.
func TestGlobal(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	totals := map[string]sums{}
	for _, e := range csvEvents(t, file, bleFromCSV) {
		totals[e.key] = totals[e.key].add(e.value)
	}
	var want []string
	for _, key := range slices.Sorted(maps.Keys(totals)) {
		want = append(want, fmt.Sprintf("%s\t%d\t%d\t1", key, totals[key].count, totals[key].sum))
	}
	const topic = "ble-all-time"
	r.tidemark(t, r.produceBLE(file, topic)...)
	text := bleFields + `event_time: {quiet_after: never}
window:
  global: true
  early: {every: 1h}
  key: [asset_id]
  aggregates: [{fn: count, as: count}, {fn: sum, column: rssi_dbm, as: rssi_sum}]
normalize: {to: none}`
	j := r.newJob(t, topic, topic, "asset_id", text)
	j.row = "asset_id, _tm_ver"
	r.tidemark(t, "run", "-f", j.bounded)
	for _, p := range j.places() {
		sameLines(t, p.name, r.lines(t, p, j.db, "SELECT asset_id, count, rssi_sum, window_start IS NULL AND window_end IS NULL FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY asset_id) ORDER BY asset_id"), want)
	}
	sameLines(t, "current", r.lines(t, j.places()[1], j.db+"_current", "SELECT asset_id, count, rssi_sum, window_start IS NULL FROM %s ORDER BY asset_id"), want)
	r.physical(t, j)
}

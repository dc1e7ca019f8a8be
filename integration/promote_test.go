package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/integration/peers"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// replayed is the sink of the replays of a table.
func (d *direct) replayed(t *testing.T) *direct {
	t.Helper()
	r := *d
	r.cfg.Table, r.cfg.ByLineage = d.cfg.Table+clickhouse.ReplaySuffix, true
	r.sink = r.open(t)
	return &r
}

// lineage writes one epoch of a lineage.
func (d *direct) lineage(t *testing.T, lineage uint16, n int64, rows ...countRow) {
	t.Helper()
	must(t, d.sink.Publish(t.Context(), d.sealOf(t, d.sink, pipeline.Epoch{Job: d.cfg.Job, Lineage: lineage, N: n}, 0, rows...)))
}

func (d *direct) openSwitch(t *testing.T) *clickhouse.Switch {
	t.Helper()
	s, err := clickhouse.OpenSwitch([]clickhouse.SwitchTable{{Config: d.cfg, Schema: countSchema}})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// hours is a decision about the hours of a day of july.
func hours(from, to int64, lineage uint16, since int64) clickhouse.Range {
	return clickhouse.Range{From: july + from*hour, To: july + to*hour, Lineage: lineage, Since: time.Unix(since, 0)}
}

// watchers read a table over and over until they are stopped, and note every answer that was not
// wanted.
type watchers struct {
	stopped atomic.Bool
	wg      sync.WaitGroup
	mu      sync.Mutex
	seen    map[string]int
}

func (d *direct) watch(t *testing.T, n int, sql string) *watchers {
	w := &watchers{seen: map[string]int{}}
	for range n {
		w.wg.Go(func() {
			for !w.stopped.Load() {
				out, err := d.clickhouse.Query(t.Context(), strings.ReplaceAll(sql, "$db", d.cfg.Database))
				if err != nil {
					out = err.Error()
				}
				w.mu.Lock()
				w.seen[strings.TrimSpace(out)]++
				w.mu.Unlock()
			}
		})
	}
	return w
}

// stop returns what was seen.
func (w *watchers) stop() map[string]int {
	w.stopped.Store(true)
	w.wg.Wait()
	return w.seen
}

// await waits until the watchers have answered so many times more.
func (w *watchers) await(n int) {
	answered := func() (sum int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.seen {
			sum += c
		}
		return sum
	}
	for until := answered() + n; answered() < until; {
		time.Sleep(time.Millisecond)
	}
}

// TestSwitch: ten readers of <table>_current see the rows of the job or those of a replay and
// never some of each, while the view is replaced and decisions are made; what a replay does not
// have is gone with it, and comes back. The audit of both tables finds nothing. That readers
// would notice a mix is shown by a switch in two steps.
func TestSwitch(t *testing.T) {
	r := newRig(t)
	d := r.direct(t, nil)
	d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 10, 1}, countRow{"a", 2, 20, 1}, countRow{"", 3, 30, 1}, countRow{"a", 3, 31, 1}, countRow{"a", 4, 40, 1})
	replay := d.replayed(t)
	replay.lineage(t, 32768, 1, countRow{"a", 2, 21, 1}, countRow{"a", 3, 32, 1})
	replay.lineage(t, 32768, 2, countRow{"b", 3, 99, 1}, countRow{"a", 3, 33, 2})
	replay.lineage(t, 32769, 1, countRow{"a", 2, 22, 1})
	const sql = "SELECT groupArray((k, h, count)) FROM (SELECT ifNull(key, '-') AS k, toHour(window_start) AS h, count FROM $db.counts_current ORDER BY h, k)"
	before := "[('a',1,10),('a',2,20),('-',3,30),('a',3,31),('a',4,40)]"
	after := "[('a',1,10),('a',2,21),('a',3,33),('b',3,99),('a',4,40)]"
	d.want(t, sql, before+"\n")

	w := d.watch(t, 10, sql)
	s := d.openSwitch(t)
	if got, err := s.Decided(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("decided before there is a table: %v, %v", got, err)
	}
	w.await(20)
	must(t, s.Prepare(t.Context()))
	d.want(t, sql, before+"\n")
	counted, err := s.Count(t.Context(), hours(2, 4, 32768, 1))
	if want := (clickhouse.Counted{Table: d.cfg.Database + ".counts", Now: 3, Decision: 3}); err != nil || !slices.Equal(counted, []clickhouse.Counted{want}) {
		t.Errorf("counted %v, %v", counted, err)
	}
	for i := range int64(6) {
		w.await(10)
		must(t, s.Decide(t.Context(), hours(2, 4, 32768, 2*i+1)))
		must(t, s.Prepare(t.Context()))
		w.await(10)
		must(t, s.Decide(t.Context(), hours(2, 4, 0, 2*i+2)))
	}
	seen := w.stop()
	if len(seen) != 2 || seen[before] == 0 || seen[after] == 0 {
		t.Errorf("readers saw %v", seen)
	}

	w = d.watch(t, 10, sql)
	must(t, s.Decide(t.Context(), hours(2, 3, 32768, 100)))
	w.await(20)
	must(t, s.Decide(t.Context(), hours(3, 4, 32768, 101)))
	w.await(20)
	if seen := w.stop(); seen["[('a',1,10),('a',2,21),('-',3,30),('a',3,31),('a',4,40)]"] == 0 {
		t.Errorf("a mix went unnoticed: %v", seen)
	}
	d.want(t, sql, after+"\n")

	// A query looks the decisions up once, before it reads anything, and both tables by their keys.
	d.want(t, "SELECT countIf(position(explain, '32768)]).4') > 0), countIf(position(explain, '(key in [') > 0) FROM (EXPLAIN indexes = 1 SELECT * FROM $db.counts_current WHERE key = 'a')", "2\t2\n")
	// The newest decision counts, whatever the order in which they came.
	must(t, s.Decide(t.Context(), hours(0, 24, 0, 50)))
	d.want(t, sql, after+"\n")
	must(t, s.Decide(t.Context(), hours(2, 3, 32769, 102)))
	d.want(t, sql, strings.Replace(after, "21", "22", 1)+"\n")
	decided, err := s.Decided(t.Context())
	if err != nil || len(decided) != 16 || decided[0] != (clickhouse.Range{From: july + 2*hour, To: july + 3*hour, Lineage: 32769, Since: time.Unix(102, 0).UTC()}) {
		t.Errorf("decided %d times, %v, %v", len(decided), decided[:1], err)
	}
	d.query(t, "DROP VIEW $db.counts_current")
	must(t, d.open(t).Ready(t.Context()))
	d.query(t, "OPTIMIZE TABLE $db.counts_replays FINAL")
	d.want(t, sql, strings.Replace(after, "21", "22", 1)+"\n")
	d.want(t, "SELECT partition FROM system.parts WHERE database = '$db' AND table = 'counts_replays' AND active ORDER BY partition", "(32768,202607)\n(32769,202607)\n")
	for _, s := range []*clickhouse.Sink{d.sink, replay.sink} {
		if a, err := s.Audit(t.Context(), 0); err != nil || a.Mismatches != 0 || a.Rows < 4 {
			t.Errorf("audit %+v, %v", a, err)
		}
	}
	d.query(t, "ALTER TABLE $db.counts_replays DROP PARTITION (32769, 202607)")
	a, err := replay.sink.Audit(t.Context(), 0)
	if err != nil || a.Mismatches != 1 || a.Faults[0].Lineage != 32769 {
		t.Errorf("audit of a table that lacks a replay %+v, %v", a, err)
	}
}

// TestSwitchAdditions: late additions belong to the rows that they were made for, those of a job
// to its results and those of a replay to its own.
func TestSwitchAdditions(t *testing.T) {
	r := newRig(t)
	d := r.direct(t, func(c *clickhouse.Config) {
		c.LateDelta, c.Additions = true, []clickhouse.Addition{{Column: "count", How: clickhouse.Sum}}
	})
	replay := d.replayed(t)
	additions := func(of *direct) *direct {
		delta := *of
		delta.cfg.Table, delta.cfg.Append, delta.cfg.LateDelta, delta.cfg.Additions = of.cfg.Table+clickhouse.DeltaSuffix, true, false, nil
		delta.sink = delta.open(t)
		return &delta
	}
	d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 10, 1}, countRow{"", 2, 20, 1})
	live := additions(d)
	live.epoch(t, live.sink, 1, 0, countRow{"", 2, 1, 0}, countRow{"c", 2, 5, 0})
	replay.lineage(t, 32768, 1, countRow{"a", 1, 11, 1}, countRow{"", 2, 30, 1})
	replay.lineage(t, 32769, 1, countRow{"", 2, 40, 1})
	late := additions(replay)
	late.lineage(t, 32768, 1, countRow{"", 2, 7, 0}, countRow{"", 2, 3, 0}, countRow{"d", 2, 6, 0})
	const sql = "SELECT groupArray((k, h, count)) FROM (SELECT ifNull(key, '-') AS k, toHour(window_start) AS h, count FROM $db.counts_current ORDER BY h, k)"
	s := d.openSwitch(t)
	must(t, s.Prepare(t.Context()))
	d.want(t, sql, "[('a',1,10),('-',2,21),('c',2,5)]\n")
	counted, err := s.Count(t.Context(), hours(2, 3, 32768, 1))
	if err != nil || counted[0].Now != 2 || counted[0].Decision != 2 {
		t.Errorf("counted %v, %v", counted, err)
	}
	must(t, s.Decide(t.Context(), hours(2, 3, 32768, 1)))
	d.want(t, sql, "[('a',1,10),('-',2,40),('d',2,6)]\n")
	must(t, s.Decide(t.Context(), hours(2, 3, 32769, 2)))
	d.want(t, sql, "[('a',1,10),('-',2,40)]\n")
	must(t, s.Decide(t.Context(), hours(0, 24, 0, 3)))
	d.want(t, sql, "[('a',1,10),('-',2,21),('c',2,5)]\n")
	d.want(t, fmt.Sprintf("SELECT count() FROM $db.%s", clickhouse.RangesTable), "3\n")
}

// TestPromoteJob: a replay of the real data equals what the job has made, in every sink and from
// one to the other; when somebody has damaged the job's table, diff says what is missing, and
// promote brings it back into <table>_current until it is demoted.
func TestPromoteJob(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-promote"
	r.tidemark(t, r.produceBLE(file, topic)...)
	j := r.newJob(t, topic, topic, "asset_id", bleFields+`event_time: {max_disorder: 2s, quiet_after: never}
window: {tumbling: 1m, key: [asset_id], aggregates: [{fn: count, as: count}, {fn: mean, column: rssi_dbm, as: rssi_avg_dbm}]}
normalize: {to: ocsf}`)
	r.tidemark(t, "run", "-f", j.bounded)
	tables := j.places()[1]
	days := r.lines(t, tables, j.db, "SELECT toDate(fromUnixTimestamp64Milli(min(time)), 'UTC'), toDate(fromUnixTimestamp64Milli(max(time)), 'UTC') + 1, count() FROM %s")
	bounds := strings.Split(days[0], "\t")
	r.tidemark(t, "replay", "-f", j.bounded, "--from", bounds[0], "--to", bounds[1], "--name", "again")
	equal := fmt.Sprintf(" %s rows  hash ", bounds[2])
	for name, args := range map[string][]string{
		"files":            {"-f", j.bounded, "--sink", "1", "live", "replay:again"},
		"tables":           {"-f", j.bounded, "--sink", "2", "live", "replay:again"},
		"files and tables": {"-f", j.bounded, "live", "clickhouse:" + j.db + "." + j.db},
	} {
		if out := r.differs(t, true, args...); strings.Count(out, equal) != 2 {
			t.Errorf("%s, want %stwice:\n%s", name, equal, out)
		}
	}
	// Files of other writers, which name and type lists and maps in ways of their own.
	files := filepath.Join(j.dir, "out", j.db, "**", "*.parquet")
	duck, err := peers.NewDuckDB()
	must(t, err)
	for _, writer := range []string{"duckdb", "engine"} {
		dir := filepath.Join(j.dir, writer)
		must(t, os.Mkdir(dir, 0o755))
		to := filepath.Join(dir, "all.parquet")
		if writer == "duckdb" {
			_, err = duck.Query(t.Context(), fmt.Sprintf("COPY (SELECT * FROM read_parquet('%s', hive_partitioning = false)) TO '%s' (FORMAT parquet)", files, to))
		} else {
			_, err = r.clickhouse.Query(t.Context(), fmt.Sprintf("INSERT INTO FUNCTION file('%s', Parquet) SELECT * FROM file('%s', Parquet) SETTINGS use_hive_partitioning = 0", to, files))
		}
		must(t, err)
		if out := r.differs(t, true, "-f", j.bounded, "live", "parquet:"+dir); strings.Count(out, equal) != 2 {
			t.Errorf("%s, want %stwice:\n%s", writer, equal, out)
		}
	}
	for _, args := range [][]string{{"audit", "-f", j.bounded}, {"audit", "-f", j.bounded, "--replays"}} {
		r.tidemark(t, args...)
	}

	whole := r.lines(t, tables, j.db+"_current", "SELECT count(), sum(count), sum(cityHash64(metadata.uid, count)) FROM %s")
	_, err = r.clickhouse.Query(t.Context(), "ALTER TABLE "+j.db+"."+j.db+" DELETE WHERE cityHash64(metadata.uid) % 10 = 0 SETTINGS mutations_sync = 2")
	must(t, err)
	damaged := r.lines(t, tables, j.db+"_current", "SELECT count(), sum(count), sum(cityHash64(metadata.uid, count)) FROM %s")
	var have, lost int
	fmt.Sscan(bounds[2], &have)  //nolint:errcheck // compared below
	fmt.Sscan(damaged[0], &lost) //nolint:errcheck // compared below
	if lost = have - lost; lost < 10 {
		t.Fatalf("%d of %d rows were damaged: the test tests little", lost, have)
	}
	if out := r.differs(t, false, "-f", j.bounded, "--sink", "2", "live", "replay:again", "--limit", "1"); !strings.Contains(out, fmt.Sprintf("late 0, value 0, missing 0, extra %d\n", lost)) {
		t.Errorf("%d rows are lost:\n%s", lost, out)
	}
	out := r.tidemark(t, "promote", "-f", j.bounded, "again", "--yes")
	if want := fmt.Sprintf("clickhouse:%[1]s.%[1]s  ", j.db); !strings.Contains(out, want) {
		t.Errorf("promote says\n%s", out)
	}
	sameLines(t, "promoted", r.lines(t, tables, j.db+"_current", "SELECT count(), sum(count), sum(cityHash64(metadata.uid, count)) FROM %s"), whole)
	for _, f := range strings.Fields(r.tidemark(t, "files", "-f", j.bounded)) {
		if !strings.Contains(f, "_replays/32768/dt=") {
			t.Errorf("a file of the job counts: %s", f)
		}
	}
	r.tidemark(t, "demote", "-f", j.bounded, "again", "--yes")
	sameLines(t, "demoted", r.lines(t, tables, j.db+"_current", "SELECT count(), sum(count), sum(cityHash64(metadata.uid, count)) FROM %s"), damaged)
	r.tidemark(t, "audit", "-f", j.bounded, "--replays")
}

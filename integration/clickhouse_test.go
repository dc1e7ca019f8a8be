package integration

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/integration/peers"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// The tests of this file drive the sink itself against the engine, epoch by epoch.

var countSchema = arrow.NewSchema([]arrow.Field{
	{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "window_start", Type: pipeline.Timestamp},
	{Name: "count", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "mean", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "unmapped", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String), Nullable: true},
	{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
}, nil)

// countRow is a result: a key, the hour that its window begins in, a count of which the
// other columns are made. Revision 0 is none, and so is the key "".
type countRow struct {
	key      string
	hour     int64
	count    int64
	revision int32
}

const hour = 3600 * second

// july is 2026-07-01T00:00:00Z in ticks.
const july = 1782864000 * second

func countBatch(mem memory.Allocator, rows []countRow) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, countSchema)
	defer b.Release()
	for _, r := range rows {
		if r.key == "" {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.StringBuilder).Append(r.key)
		}
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(july + r.hour*hour))
		b.Field(2).(*array.Int64Builder).Append(r.count)
		b.Field(3).(*array.Float64Builder).Append(float64(r.count) / 2)
		b.Field(4).(*array.MapBuilder).Append(true)
		for k, v := range map[string]string{"kwh": fmt.Sprintf("%d.5", r.count), "least": fmt.Sprint(r.count)} {
			b.Field(4).(*array.MapBuilder).KeyBuilder().(*array.StringBuilder).Append(k)
			b.Field(4).(*array.MapBuilder).ItemBuilder().(*array.StringBuilder).Append(v)
		}
		if r.revision == 0 {
			b.Field(5).AppendNull()
		} else {
			b.Field(5).(*array.Int32Builder).Append(r.revision)
		}
	}
	return b.NewRecordBatch()
}

// direct is a sink of its own database without a job around it.
type direct struct {
	*rig
	cfg  clickhouse.Config
	sink *clickhouse.Sink
}

func (r *rig) direct(t *testing.T, change func(*clickhouse.Config)) *direct {
	t.Helper()
	d := &direct{rig: r, cfg: clickhouse.DefaultConfig()}
	d.cfg.Job, d.cfg.URL, d.cfg.Table = "direct", r.clickhouse.URL(), "counts"
	d.cfg.Database = strings.ToLower(strings.NewReplacer("/", "_", "-", "_", "#", "_").Replace(t.Name()))
	d.cfg.TimeColumn, d.cfg.OrderBy, d.cfg.BlockRows = "window_start", []string{"key", "window_start"}, 10
	if change != nil {
		change(&d.cfg)
	}
	d.query(t, "CREATE DATABASE IF NOT EXISTS "+d.cfg.Database)
	d.sink = d.open(t)
	return d
}

// open makes a sink for d.cfg.
func (d *direct) open(t *testing.T) *clickhouse.Sink {
	t.Helper()
	s := d.openOn(t, t.TempDir())
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// openOn makes a sink whose store is a folder, which may hold what another one has sealed.
func (d *direct) openOn(t *testing.T, dir string) *clickhouse.Sink {
	t.Helper()
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	must(t, err)
	s, err := clickhouse.New(d.cfg, store, countSchema, slog.New(slog.DiscardHandler))
	must(t, err)
	return s
}

// epoch writes, seals and publishes one epoch.
func (d *direct) epoch(t *testing.T, s *clickhouse.Sink, n, mark int64, rows ...countRow) {
	t.Helper()
	must(t, s.Publish(t.Context(), d.seal(t, s, n, mark, rows...)))
}

// seal writes and seals one epoch.
func (d *direct) seal(t *testing.T, s *clickhouse.Sink, n, mark int64, rows ...countRow) pipeline.Receipt {
	t.Helper()
	return d.sealOf(t, s, pipeline.Epoch{Job: d.cfg.Job, Lineage: 1, N: n}, mark, rows...)
}

func (d *direct) sealOf(t *testing.T, s *clickhouse.Sink, e pipeline.Epoch, mark int64, rows ...countRow) pipeline.Receipt {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	st, err := s.Begin(t.Context(), e)
	must(t, err)
	rec := countBatch(mem, rows)
	defer rec.Release()
	must(t, st.Write(t.Context(), pipeline.Result(rec)))
	receipt, err := st.Prepare(t.Context(), pipeline.Mark{Event: mark})
	must(t, err)
	return receipt
}

// query runs a statement in the database of the sink's tables, which $db stands for.
func (d *direct) query(t *testing.T, sql string) string {
	t.Helper()
	out, err := d.clickhouse.Query(t.Context(), strings.ReplaceAll(sql, "$db", d.cfg.Database))
	must(t, err)
	return out
}

func (d *direct) want(t *testing.T, sql, want string) {
	t.Helper()
	if got := d.query(t, sql); got != want {
		t.Errorf("%s:\n%swant\n%s", sql, got, want)
	}
}

// TestComplete: tm_complete says up to where a table is complete, epochs without rows
// included, until the input ends; a table of which nobody knows says so.
func TestComplete(t *testing.T) {
	r := newRig(t)
	d := r.direct(t, func(c *clickhouse.Config) {
		c.CompleteAfter, c.CompleteStep, c.CommitEvery = 2*hour, hour, 0 // an hour, and an hour's lateness
	})
	const is = "SELECT lineage, epoch, watermark, complete_to, complete_to >= '2026-07-01 14:00:00' FROM $db.tm_complete WHERE table_name = '$db.counts'"
	d.epoch(t, d.sink, 1, july+14*hour, countRow{"a", 12, 1, 1})
	d.want(t, is, "1\t1\t2026-07-01 14:00:00.000000\t2026-07-01 13:00:00.000000\t0\n")
	d.epoch(t, d.sink, 2, july+15*hour-2)
	d.want(t, is, "1\t2\t2026-07-01 14:59:59.999998\t2026-07-01 13:00:00.000000\t0\n")
	d.epoch(t, d.sink, 3, july+15*hour-1)
	d.want(t, is, "1\t3\t2026-07-01 14:59:59.999999\t2026-07-01 14:00:00.000000\t1\n")
	d.epoch(t, d.sink, 4, pipeline.MaxTicks)
	d.want(t, is, "1\t4\t2262-04-11 23:47:16.854775\t2262-04-11 23:47:16.854775\t1\n")
	d.want(t, "SELECT epoch, blocks, row_count FROM $db.tm_commits ORDER BY epoch", "1\t1\t1\n2\t0\t0\n3\t0\t0\n4\t0\t0\n")

	late := *d
	late.cfg.Table, late.cfg.Append, late.cfg.CompleteAfter = "counts_late", true, -1
	late.epoch(t, late.open(t), 1, july+14*hour, countRow{"a", 12, 1, 1})
	d.want(t, "SELECT table_name, watermark, complete_to FROM $db.tm_complete ORDER BY table_name",
		fmt.Sprintf("%[1]s.counts\t2262-04-11 23:47:16.854775\t2262-04-11 23:47:16.854775\n%[1]s.counts_late\t2026-07-01 14:00:00.000000\t\\N\n", d.cfg.Database))
}

// TestLateDelta: <table>_current has results, each with what was added to it later, and
// additions to windows that have no result, whatever their keys; a sum of it is that of all
// rows. What is not additive stays.
func TestLateDelta(t *testing.T) {
	r := newRig(t)
	d := r.direct(t, func(c *clickhouse.Config) {
		c.LateDelta = true
		c.Additions = []clickhouse.Addition{{Column: "count", How: clickhouse.Sum}, {Column: "unmapped", Entry: "kwh", Type: "Decimal(38, 1)", How: clickhouse.Sum},
			{Column: "unmapped", Entry: "least", Type: "Int64", How: clickhouse.Least}, {Column: "unmapped", Entry: "absent", Type: "Int64", How: clickhouse.Greatest}}
	})
	d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 10, 1}, countRow{"b", 1, 20, 1}, countRow{"", 1, 30, 1}, countRow{"", 2, 31, 1})
	d.epoch(t, d.sink, 2, 0, countRow{"a", 1, 12, 2})
	delta := *d
	delta.cfg.Table, delta.cfg.Append, delta.cfg.LateDelta, delta.cfg.Additions = "counts"+clickhouse.DeltaSuffix, true, false, nil
	added := delta.open(t)
	delta.epoch(t, added, 1, 0, countRow{"a", 1, 3, 0}, countRow{"", 1, 4, 0})
	delta.epoch(t, added, 2, 0, countRow{"a", 1, 5, 0}, countRow{"c", 1, 6, 0}, countRow{"c", 1, 7, 0}, countRow{"", 3, 8, 0})
	d.want(t, "SELECT key, toHour(window_start) AS h, count, if(key = 'c', 0, mean), unmapped['kwh'], unmapped['least'], mapContains(unmapped, 'absent'), _tm_epoch FROM $db.counts_current ORDER BY key, h",
		"a\t1\t20\t6\t21.5\t3\t0\t2\n"+ // 12 + 3 + 5, 12.5 + 3.5 + 5.5
			"b\t1\t20\t10\t20.5\t20\t0\t1\n"+
			"c\t1\t13\t0\t14\t6\t0\t2\n"+
			"\\N\t1\t34\t15\t35\t4\t0\t1\n"+
			"\\N\t2\t31\t15.5\t31.5\t31\t0\t1\n"+
			"\\N\t3\t8\t4\t8.5\t8\t0\t2\n")
	d.want(t, "SELECT count() FROM $db.counts_current WHERE key = 'a'", "1\n")
}

// TestUpsert: the answers to blocks get lost and the table remembers no token, so that
// blocks are there twice; the view has every row once.
func TestUpsert(t *testing.T) {
	r := newRig(t)
	d := r.direct(t, func(c *clickhouse.Config) { c.Delivery = clickhouse.Upsert })
	d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 10, 1})
	d.query(t, "ALTER TABLE $db.counts MODIFY SETTING non_replicated_deduplication_window = 0")
	d.query(t, "SYSTEM STOP MERGES $db.counts")
	must(t, r.clickhouse.Inject(t.Context(), peers.Fault{Kind: peers.HTTP500AfterCommit, N: 2, Match: "counts"}))
	d.epoch(t, d.sink, 2, 0, countRow{"a", 1, 12, 2}, countRow{"b", 1, 20, 1})
	d.want(t, "SELECT count() > 3 FROM $db.counts", "1\n")
	d.want(t, "SELECT key, count FROM $db.counts_current ORDER BY key", "a\t12\nb\t20\n")
}

// TestAudit: what the audit says of a table in which nothing is wrong, merged or not, and of
// one where somebody deleted or doubled a block, removed a record, or added rows.
func TestAudit(t *testing.T) {
	r := newRig(t)
	for _, appended := range []bool{false, true} {
		t.Run(fmt.Sprintf("append %v", appended), func(t *testing.T) {
			for _, c := range []struct {
				name, sql string
				want      []string // by whether the table only grows
			}{
				{"as written", "", []string{"", ""}},
				{"lost block", "DELETE FROM $db.counts WHERE _tm_epoch = 3 AND _tm_block = 1",
					[]string{"lineage 1 epoch 3 block 1: rows are missing that nothing has replaced: 10 rows written, 0 found", "lineage 1 epoch 3 block 1: rows are missing: 10 rows written, 0 found"}},
				{"lost row", "DELETE FROM $db.counts WHERE _tm_epoch = 3 AND key = 'k7'",
					[]string{"rows are missing that nothing has replaced: 10 rows written, 9 found", "rows are missing: 10 rows written, 9 found"}},
				{"doubled block", "INSERT INTO $db.counts SELECT * FROM $db.counts WHERE _tm_epoch = 3 AND _tm_block = 0 SETTINGS insert_deduplication_token = 'x'",
					[]string{"rows are there that were not written: 10 rows written, 20 found", "rows are there that were not written: 10 rows written, 20 found"}},
				{"half replaced and doubled", "INSERT INTO $db.counts SELECT * FROM $db.counts WHERE _tm_epoch = 1 AND _tm_block = 0 SETTINGS insert_deduplication_token = 'x'",
					[]string{"epoch 1 block 0: rows are there twice: 10 rows written, 4 found", "rows are there that were not written: 10 rows written, 20 found"}},
				{"lost record", "DELETE FROM $db.tm_commits WHERE epoch = 2",
					[]string{"rows of an epoch that is not in tm_commits: 0 rows written", "rows of an epoch that is not in tm_commits: 0 rows written"}},
				{"an epoch under way", "INSERT INTO $db.counts SELECT * REPLACE (7 AS _tm_epoch) FROM $db.counts WHERE _tm_epoch = 3", []string{"", ""}},
			} {
				t.Run(c.name, func(t *testing.T) {
					want := c.want[0]
					if appended {
						want = c.want[1]
					}
					d := r.direct(t, func(cfg *clickhouse.Config) { cfg.Append = appended })
					d.audited(t)
					// Merges would make rows that are there twice one; deletions must run.
					d.query(t, "ALTER TABLE $db.counts MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
					for _, sql := range strings.Split(c.sql, "; ") {
						if sql != "" {
							d.query(t, sql)
						}
					}
					a, err := d.sink.Audit(t.Context(), 0)
					must(t, err)
					if want == "" && a.Mismatches != 0 || want != "" && (a.Mismatches == 0 || !strings.Contains(a.Faults[0].String(), want)) {
						t.Errorf("%d mismatches, %v; want %q", a.Mismatches, a.Faults, want)
					}
				})
			}
		})
	}
}

// audited writes three epochs of 20 rows: the second has ten of the keys of the first again,
// and the third only new ones. In a table of results merges then remove what was replaced.
func (d *direct) audited(t *testing.T) {
	t.Helper()
	for n := int64(1); n <= 3; n++ {
		var rows []countRow
		for i := range int64(20) {
			key := (n-1)*10 + i
			if n == 3 {
				key += 20
			}
			rows = append(rows, countRow{fmt.Sprintf("k%d", key), 1, n, int32(n)})
		}
		if n == 3 {
			rows[19].key = ""
			rows[18].key = "k7"
			rows[18].hour = 2
		}
		d.epoch(t, d.sink, n, 0, rows...)
	}
	d.query(t, "OPTIMIZE TABLE $db.counts FINAL")
	want := "60\n"
	if !d.cfg.Append {
		want = "50\n"
	}
	d.want(t, "SELECT count() FROM $db.counts", want)
	d.want(t, "SELECT uniqExact(epoch), sum(length(arrayFlatten(keys))) FROM $db.tm_commits FINAL", fmt.Sprintf("3\t%d\n", map[bool]int{true: 0, false: 60}[d.cfg.Append]))
}

// TestCheck: what check says of tables that the job made, of one that was made by hand and
// differs, and of a view whose target counts twice what is sent twice.
func TestCheck(t *testing.T) {
	r := newRig(t)
	has := func(t *testing.T, found []clickhouse.Finding, verdict clickhouse.Verdict, text string) {
		t.Helper()
		for _, f := range found {
			if f.Verdict == verdict && strings.Contains(f.Text, text) {
				return
			}
		}
		t.Errorf("no %s with %q in %v", verdict, text, found)
	}
	t.Run("well", func(t *testing.T) {
		d := r.direct(t, func(c *clickhouse.Config) { c.DedupWindow = 1000 })
		has(t, d.sink.Inspect(t.Context(), 5*time.Second), clickhouse.OK, "does not exist; the job will make it")
		d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 10, 1})
		found := d.sink.Inspect(t.Context(), 5*time.Second)
		for _, f := range found {
			if f.Verdict != clickhouse.OK {
				t.Errorf("%s %s", f.Verdict, f.Text)
			}
		}
		has(t, found, clickhouse.OK, "tokens protect a block for ")
		has(t, found, clickhouse.OK, "clickhouse: version ")
	})
	t.Run("by hand", func(t *testing.T) {
		d := r.direct(t, func(c *clickhouse.Config) { c.Create = "never" })
		has(t, d.sink.Inspect(t.Context(), time.Second), clickhouse.Fail, "does not exist: run the statements of tidemark ddl")
		d.query(t, `CREATE TABLE $db.counts (key LowCardinality(Nullable(String)), window_start DateTime64(3, 'UTC'), count Nullable(Int64), unmapped Map(String, String),
			_tm_ver UInt64, _tm_del UInt8, _tm_lineage UInt16, _tm_epoch UInt64, _tm_block UInt32) ENGINE = ReplacingMergeTree(_tm_ver) ORDER BY (window_start, key) SETTINGS allow_nullable_key = 1`)
		found := d.sink.Inspect(t.Context(), time.Second)
		for _, text := range []string{"column window_start is DateTime64(3, 'UTC'), want DateTime64(6, 'UTC')", "has no column mean: ALTER TABLE", "must be _tm_ver and its deletions _tm_del",
			"is sorted by (window_start, key), want (key, window_start)", "forgets deduplication tokens at once"} {
			has(t, found, clickhouse.Fail, text)
		}
	})
	t.Run("small window", func(t *testing.T) {
		d := r.direct(t, func(c *clickhouse.Config) { c.Append, c.BlockRows = true, 1 })
		d.epoch(t, d.sink, 1, 0, countRow{"a", 1, 1, 1}, countRow{"b", 1, 1, 1}, countRow{"c", 1, 1, 1})
		d.query(t, "ALTER TABLE $db.counts MODIFY SETTING non_replicated_deduplication_window = 11")
		has(t, d.sink.Inspect(t.Context(), time.Second), clickhouse.Fail, "remembers the tokens of 11 blocks, and 4 epochs have 12")
		d.query(t, "ALTER TABLE $db.counts MODIFY SETTING non_replicated_deduplication_window = 12")
		has(t, d.sink.Inspect(t.Context(), time.Second), clickhouse.OK, "protect a block for 4s, at 3 blocks in 1s")
		d.query(t, "CREATE TABLE $db.hours (h DateTime, n UInt64) ENGINE = SummingMergeTree ORDER BY h")
		d.query(t, "CREATE MATERIALIZED VIEW $db.by_hour TO $db.hours AS SELECT toStartOfHour(window_start) AS h, count() AS n FROM $db.counts GROUP BY h")
		has(t, d.sink.Inspect(t.Context(), time.Second), clickhouse.Fail, "by_hour writes to testcheck_small_window.hours (SummingMergeTree): it forgets")
		d.query(t, "CREATE MATERIALIZED VIEW $db.inner ENGINE = SummingMergeTree ORDER BY h AS SELECT toStartOfHour(window_start) AS h, count() AS n FROM $db.counts GROUP BY h")
		has(t, d.sink.Inspect(t.Context(), time.Second), clickhouse.Fail, ".inner writes to testcheck_small_window..inner")
		d.query(t, "ALTER TABLE $db.hours MODIFY SETTING non_replicated_deduplication_window = 1000")
		has(t, d.sink.Inspect(t.Context(), time.Second), clickhouse.OK, "by_hour writes to testcheck_small_window.hours, which remembers tokens too")
	})
}

// fails runs the binary, which must exit with 1, and returns what it printed.
func (r *rig) fails(t *testing.T, args ...string) string {
	t.Helper()
	p := r.begin(t, args...)
	var exit *exec.ExitError
	if err := <-p.ended; !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%s: %v, want exit code 1\n%s", strings.Join(args, " "), err, p.stdout.String())
	}
	return p.stdout.String()
}

// TestCheckAndAudit: the two commands on a job that has run, in peace and after somebody
// deleted a block.
func TestCheckAndAudit(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-audit"
	r.tidemark(t, r.produceBLE(file, topic, "--key", "trace_id", "--events", "20000")...)
	j := r.newJob(t, topic, topic, "asset_id", bleJob(0, "ocsf"))
	r.tidemark(t, "run", "-f", j.bounded)
	t.Log(r.tidemark(t, "check", "-f", j.file))
	out := r.tidemark(t, "audit", "-f", j.file)
	t.Log(out)
	if strings.Count(out, "0 blocks differ") != 3 || strings.Contains(out, " 0 epochs, 0 blocks, 0 rows; 0 blocks differ\n"+"ok    "+j.db+"_late") {
		t.Errorf("audit:\n%s", out)
	}
	complete, err := r.clickhouse.Query(t.Context(), "SELECT table_name, epoch, watermark, complete_to FROM "+j.db+".tm_complete ORDER BY table_name FORMAT PrettyCompactMonoBlock")
	must(t, err)
	t.Log(complete)
	if strings.Count(complete, "2262-04-11") != 4 { // watermarks of all, complete_to of the results
		t.Errorf("complete:\n%s", complete)
	}
	_, err = r.clickhouse.Query(t.Context(), fmt.Sprintf("DELETE FROM %[1]s.%[1]s WHERE (_tm_epoch, _tm_block) IN (SELECT max((_tm_epoch, _tm_block)) FROM %[1]s.%[1]s)", j.db))
	must(t, err)
	out = r.fails(t, "audit", "-f", j.file)
	t.Log(out)
	if !strings.Contains(out, "1 blocks differ") || !strings.Contains(out, "rows are missing that nothing has replaced") {
		t.Errorf("audit after a deletion:\n%s", out)
	}
}

// TestHybridView: windows close a second after their end, and most rows come later:
// <table>_current counts every one of them, once.
func TestHybridView(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-hybrid"
	r.tidemark(t, r.produceBLE(file, topic, "--partitions", "1")...)
	for _, to := range []string{"none", "ocsf"} {
		t.Run(to, func(t *testing.T) {
			j := r.newJob(t, topic+"-"+to, topic, "asset_id", bleFields+`event_time: {max_disorder: 30s, quiet_after: never}
window: {tumbling: 10s, trigger: on_ingest, emit_delay: 100ms, max_age: 1s, key: [asset_id], aggregates: [{fn: count, as: count}, {fn: sum, column: rssi_dbm, as: rssi_sum}]}
normalize: {to: `+to+`}`)
			r.tidemark(t, "run", "-f", j.bounded)
			id, sum := "asset_id, window_start", "rssi_sum"
			if to == "ocsf" {
				id, sum = "metadata.uid", "toInt64(unmapped['rssi_sum'])"
			}
			all := tally(csvEvents(t, file, bleFromCSV), 10*second)
			count, rssi := int64(0), int64(0)
			for _, s := range all {
				count, rssi = count+s.count, rssi+s.sum
			}
			out, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT count(), uniqExact(%s), sum(count), sum(%s) FROM %[3]s.%[3]s_current", id, sum, j.db))
			must(t, err)
			if want := fmt.Sprintf("%d\t%d\t%d\t%d\n", len(all), len(all), count, rssi); out != want {
				t.Errorf("current: %s want %s", out, want)
			}
			added, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT count() > 1000 FROM %[1]s.%[1]s_late_delta", j.db))
			must(t, err)
			if added != "1\n" {
				t.Error("few additions: the test tests little")
			}
		})
	}
}

package integration

import (
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/integration/peers"
)

// bleFields maps the columns of the BLE file to the feed.
const bleFields = `feed: ble
fields:
  asset_id: $.trace_id
  gateway_id: $.beacon_mac
  ts_event: {path: $.ts, unit: ms}
  rssi_dbm: $.rssi_dbm
  tx_power_dbm: $.tx_power_dbm
`

// bleJob has windows of 10 s with a bound of 30 s.
func bleJob(lateness time.Duration, to string) string {
	return bleFields + fmt.Sprintf(`event_time: {max_disorder: 30s, quiet_after: never}
window:
  tumbling: 10s
  lateness: %v
  late_delay: 100ms
  key: [asset_id]
  aggregates:
    - {fn: count, as: count}
    - {fn: min, column: rssi_dbm, as: rssi_min}
    - {fn: max, column: rssi_dbm, as: rssi_max}
    - {fn: sum, column: rssi_dbm, as: rssi_sum}
    - {fn: mean, column: rssi_dbm, as: rssi_avg}
normalize: {to: %s}`, lateness, to)
}

func bleRules(lateness time.Duration) rules {
	return rules{size: 10 * second, bound: 30 * second, lateness: lateness.Microseconds()}
}

const (
	bleWindows = "SELECT asset_id, toUnixTimestamp64Micro(window_start) AS s, count, rssi_min, rssi_max, rssi_sum FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY asset_id, window_start) ORDER BY asset_id, s"
	bleMeans   = "SELECT count(), countIf(abs(rssi_avg - rssi_sum / count) > 1e-9) FROM %s"
	bleLate    = "SELECT asset_id, toUnixTimestamp64Micro(time) AS s, rssi_dbm FROM %s ORDER BY asset_id, s, rssi_dbm"
)

func bleFromCSV(row map[string]string) (event, error) {
	at, err := strconv.ParseInt(row["ts_ms"], 10, 64)
	if err != nil {
		return event{}, err
	}
	rssi, err := strconv.ParseInt(row["rssi_dbm"], 10, 64)
	return event{row["trace_id"], at * 1000, rssi}, err
}

func bleFromTopic(v map[string]any) event {
	return event{v["trace_id"].(string), int64(v["ts"].(float64)) * 1000, int64(v["rssi_dbm"].(float64))}
}

// produceBLE sends the BLE file, each event up to 20 s late and one in twenty up to five
// minutes more.
func (r *rig) produceBLE(csv, topic string, more ...string) []string {
	return r.produceArgs(topic, csv, append([]string{"--time", "ts_ms", "--disorder", "20s", "--late", "0.05", "--late-by", "5m", "--seed", "7"}, more...)...)
}

// checkBLE compares what a job has written with what it should have, and what its last run
// says of the rows of all its runs.
func (r *rig) checkBLE(t *testing.T, j job, partitions [][]event, lateness time.Duration, summary string) {
	t.Helper()
	onTime, late := judge(partitions, bleRules(lateness))
	windows := tally(onTime, 10*second)
	if want := fmt.Sprintf("rows in %d = aggregated %d + late %d + dead 0 + filtered 0 + duplicate 0 ", len(onTime)+len(late), len(onTime), len(late)); !strings.Contains(summary, want) {
		t.Errorf("summary %q, want %q", summary, want)
	}
	for _, p := range j.places() {
		sameLines(t, p.name+": windows", r.lines(t, p, j.db, bleWindows), windowLines(windows))
		sameLines(t, p.name+": late rows", r.lines(t, p, j.db+"_late", bleLate), eventLines(late))
		if dead := r.lines(t, p, j.db+"_dead", "SELECT reason FROM %s"); len(dead) > 0 {
			t.Errorf("%s: dead rows: %q", p.name, dead)
		}
		if means := r.lines(t, p, j.db, bleMeans); len(means) != 1 || !strings.HasSuffix(means[0], "\t0") {
			t.Errorf("%s: rows and wrong means: %q", p.name, means)
		}
	}
	r.physical(t, j)
}

// TestBLE: windows and late rows of 45,012 hearings, once with the rows of a trace in one
// partition, once spread over all of them; without lateness, and with so much that no row
// is late.
func TestBLE(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	all := csvEvents(t, file, bleFromCSV)
	if len(all) != 45_012 {
		t.Fatalf("%d rows in %s", len(all), file)
	}
	for _, way := range []string{"keyed", "spread"} {
		topic := "ble-" + way
		var more []string
		stamp := "LogAppendTime" // event time decides: the broker's clock must not matter
		if way == "keyed" {
			more, stamp = []string{"--key", "trace_id"}, "CreateTime"
		}
		r.createTopic(t, topic, map[string]string{"message.timestamp.type": stamp})
		if out := r.tidemark(t, r.produceBLE(file, topic, more...)...); !strings.HasPrefix(out, "45012 records") {
			t.Fatalf("produce: %s", out)
		}
		partitions := topicEvents(t, r, topic, bleFromTopic)
		var sent []event
		for _, p := range partitions {
			sent = append(sent, p...)
		}
		sameEvents(t, "topic "+topic, sent, all)

		t.Run(way+"/late", func(t *testing.T) {
			j := r.newJob(t, topic+"-late", topic, "asset_id", bleJob(0, "none"))
			summary := r.tidemark(t, "run", "-f", j.bounded)
			onTime, late := judge(partitions, bleRules(0))
			if len(late) < 500 {
				t.Fatalf("only %d rows are late: the test tests nothing", len(late))
			}
			sameEvents(t, "judged rows", append(onTime, late...), all)
			r.checkBLE(t, j, partitions, 0, summary)
		})
		t.Run(way+"/covered", func(t *testing.T) {
			j := r.newJob(t, topic+"-covered", topic, "asset_id", bleJob(time.Hour, "none"))
			summary := r.tidemark(t, "run", "-f", j.bounded)
			for _, p := range j.places() { // straight from the file
				sameLines(t, p.name+": windows", r.lines(t, p, j.db, bleWindows), windowLines(tally(all, 10*second)))
			}
			r.checkBLE(t, j, partitions, time.Hour, summary)
		})
		t.Run(way+"/ocsf", func(t *testing.T) {
			j := r.newJob(t, topic+"-ocsf", topic, "asset_id", bleJob(time.Hour, "ocsf"))
			r.tidemark(t, "run", "-f", j.bounded)
			for _, p := range j.places() {
				sameLines(t, p.name+": windows", r.lines(t, p, j.db, `SELECT device.uid AS d, start_time * 1000 AS s, count, unmapped['rssi_min'], unmapped['rssi_max'], unmapped['rssi_sum']
					FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY metadata.uid) ORDER BY d, s`), windowLines(tally(all, 10*second)))
				sameLines(t, p.name+": classes", r.lines(t, p, j.db, "SELECT DISTINCT class_uid, class_name, end_time - start_time, time = start_time, metadata.uid = concat('agg:"+j.db+":', device.uid, ':', toString(start_time)) FROM %s"),
					[]string{"5001\tDevice Inventory Info\t10000\t1\t1"})
			}
			r.physical(t, j)
		})
	}
}

// TestChecksSeeDuplicates: the check for rows that are there twice finds a file that was
// published twice and a block that was inserted twice.
func TestChecksSeeDuplicates(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-twice"
	r.tidemark(t, r.produceBLE(file, topic, "--events", "5000")...)
	j := r.newJob(t, topic, topic, "asset_id", bleJob(0, "none"))
	r.tidemark(t, "run", "-f", j.bounded)
	if problems := r.twice(t, j); len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, table := range []string{j.db, j.db + "_late"} {
		found, err := filepath.Glob(filepath.Join(j.dir, "out", table, "*", "*.parquet"))
		must(t, err)
		if len(found) == 0 {
			t.Fatalf("no files of %s", table)
		}
		b, err := os.ReadFile(found[0])
		must(t, err)
		must(t, os.WriteFile(strings.TrimSuffix(found[0], ".parquet")+"-again.parquet", b, 0o644))
		_, err = r.clickhouse.Query(t.Context(), fmt.Sprintf("INSERT INTO %[1]s.%[2]s SELECT * FROM %[1]s.%[2]s LIMIT 1", j.db, table))
		must(t, err)
	}
	if problems := r.twice(t, j); len(problems) != 4 {
		t.Errorf("problems %q, want one for each table and place", problems)
	}
}

// withColumn copies a CSV file with one more column, whose value is the same in every row.
func withColumn(t *testing.T, path, name, value string) string {
	t.Helper()
	in, err := os.ReadFile(path)
	must(t, err)
	rows, err := csv.NewReader(strings.NewReader(string(in))).ReadAll()
	must(t, err)
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	out, err := os.Create(to)
	must(t, err)
	defer out.Close() //nolint:errcheck // Flush tells
	w := csv.NewWriter(out)
	for i, row := range rows {
		v := value
		if i == 0 {
			v = name
		}
		must(t, w.Write(append(row, v)))
	}
	w.Flush()
	must(t, w.Error())
	return to
}

const steelJob = `feed: pdu
fields:
  pdu_id: $.plant
  ts_device: {path: $.ts, unit: ms}
  kwh_total: $.Usage_kWh
  pf: $.Lagging_Current_Power_Factor
event_time: {max_disorder: 0s, quiet_after: never}
window:
  tumbling: 1h
  key: [pdu_id]
  aggregates:
    - {fn: count, as: count}
    - {fn: min, column: kwh_total, as: kwh_min}
    - {fn: max, column: kwh_total, as: kwh_max}
    - {fn: sum, column: kwh_total, as: kwh_sum}
    - {fn: mean, column: pf, as: pf_avg}
normalize: {to: none}`

// TestSteel: half a year of a plant's energy. The row that ends at midnight carries the
// date of the day it closes. Taken as it is it comes a day late, 181 times; with
// --fix midnight-end no row is late.
func TestSteel(t *testing.T) {
	r := newRig(t)
	file := withColumn(t, dataFile(t, "steel-power-15min/steel_2018_h1.csv"), "plant", "gwangyang")
	zone := time.FixedZone("KST", 9*3600)
	for _, fix := range []bool{true, false} {
		name := map[bool]string{true: "steel-fixed", false: "steel-raw"}[fix]
		t.Run(name, func(t *testing.T) {
			all := csvEvents(t, file, func(row map[string]string) (event, error) {
				at, err := time.ParseInLocation("2/1/2006 15:04", row["date"], zone)
				if err != nil {
					return event{}, err
				}
				if fix && at.Format("15:04") == "00:00" {
					at = at.Add(24 * time.Hour)
				}
				wh, err := fixed(row["Usage_kWh"], 3)
				return event{"gwangyang", at.UnixMicro(), wh}, err
			})
			args := r.produceArgs(name, file, "--time", "date", "--layout", "2/1/2006 15:04", "--zone", "Asia/Seoul", "--partitions", "1")
			if fix {
				args = append(args, "--fix", "midnight-end")
			}
			r.tidemark(t, args...)
			j := r.newJob(t, name, name, "pdu_id", steelJob)
			r.tidemark(t, "run", "-f", j.bounded)
			onTime, late := judge([][]event{all}, rules{size: 3600 * second})
			if want := map[bool]int{true: 0, false: 181}[fix]; len(late) != want {
				t.Fatalf("%d late rows by the rule, want %d", len(late), want)
			}
			for _, p := range j.places() {
				sameLines(t, p.name+": windows", r.lines(t, p, j.db, `SELECT pdu_id, toUnixTimestamp64Micro(window_start) AS s, count, toInt64(round(kwh_min * 1000)), toInt64(round(kwh_max * 1000)), toInt64(round(kwh_sum * 1000))
					FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY pdu_id, window_start) ORDER BY pdu_id, s`), windowLines(tally(onTime, 3600*second)))
				sameLines(t, p.name+": late rows", r.lines(t, p, j.db+"_late", "SELECT pdu_id, toUnixTimestamp64Micro(time) AS s, toInt64(round(kwh_total * 1000)) AS v FROM %s ORDER BY pdu_id, s, v"), eventLines(late))
			}
			r.physical(t, j)
		})
	}
}

const taxiJob = `feed: traffic
fields:
  entity: $.city
  ts: {path: $.ts, unit: ms}
  requests: $.value
event_time: {max_disorder: 0s, quiet_after: never}
window:
  tumbling: 1h
  key: [entity]
  aggregates:
    - {fn: count, as: count}
    - {fn: min, column: requests, as: requests_min}
    - {fn: max, column: requests, as: requests_max}
    - {fn: sum, column: requests, as: requests}
normalize: {to: %s}`

// TestTaxi: passengers per half hour as traffic, on a clock that steps back an hour on
// 2014-11-02: the hour from 01:00 is there once, so one hour of universal time is empty.
func TestTaxi(t *testing.T) {
	r := newRig(t)
	file := withColumn(t, dataFile(t, "nab-series/nyc_taxi.csv"), "city", "new-york")
	all := csvEvents(t, file, func(row map[string]string) (event, error) {
		at, err := time.Parse("2006-01-02 15:04:05", row["timestamp"])
		if err != nil {
			return event{}, err
		}
		offset := 4 * time.Hour
		if !at.Before(time.Date(2014, 11, 2, 2, 0, 0, 0, time.UTC)) {
			offset = 5 * time.Hour
		}
		n, err := strconv.ParseInt(row["value"], 10, 64)
		return event{"new-york", at.Add(offset).UnixMicro(), n}, err
	})
	windows := tally(all, 3600*second)
	gap := time.Date(2014, 11, 2, 6, 0, 0, 0, time.UTC).UnixMicro()
	if _, there := windows[window{"new-york", gap}]; there || len(windows) != 5160 {
		t.Fatalf("%d windows by the file, the repeated hour %v", len(windows), there)
	}
	r.tidemark(t, r.produceArgs("taxi", file, "--time", "timestamp", "--layout", "2006-01-02 15:04:05", "--zone", "America/New_York", "--partitions", "1")...)
	for to, query := range map[string]string{
		"none": `SELECT entity, toUnixTimestamp64Micro(window_start) AS s, count, requests_min, requests_max, requests
			FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY entity, window_start) ORDER BY entity, s`,
		"ocsf": `SELECT dst_endpoint.uid AS d, start_time * 1000 AS s, count, unmapped['requests_min'], unmapped['requests_max'], unmapped['requests']
			FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY metadata.uid) ORDER BY d, s`,
	} {
		t.Run(to, func(t *testing.T) {
			j := r.newJob(t, "taxi-"+to, "taxi", "entity", fmt.Sprintf(taxiJob, to))
			r.tidemark(t, "run", "-f", j.bounded)
			for _, p := range j.places() {
				sameLines(t, p.name+": windows", r.lines(t, p, j.db, query), windowLines(windows))
				if late := r.lines(t, p, j.db+"_late", "SELECT time FROM %s"); len(late) > 0 {
					t.Errorf("%s: late rows %q", p.name, late)
				}
			}
			r.physical(t, j)
		})
	}
}

// allRows are the final rows of a job without the columns of the engine's own.
const allRows = "SELECT COLUMNS('^[^_]') FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY asset_id, window_start) ORDER BY asset_id, window_start"

// lateRows are its late rows; they keep where they came from.
const lateRows = "SELECT COLUMNS('^([^_]|_[^t])') FROM %s ORDER BY _split, _offset"

// sameAsUndisturbed runs the job once more from the beginning, in peace, and compares the
// final rows byte for byte.
func (r *rig) sameAsUndisturbed(t *testing.T, j job, topic string, lateness time.Duration) {
	t.Helper()
	calm := r.newJob(t, strings.ReplaceAll(j.db, "_", "-")+"-calm", topic, "asset_id", bleJob(lateness, "none"))
	r.tidemark(t, "run", "-f", calm.bounded)
	for i, p := range j.places() {
		q := calm.places()[i]
		sameLines(t, p.name+": final rows", r.lines(t, p, j.db, allRows), r.lines(t, q, calm.db, allRows))
		sameLines(t, p.name+": final late rows", r.lines(t, p, j.db+"_late", lateRows), r.lines(t, q, calm.db+"_late", lateRows))
	}
}

// visible counts the rows of results that can be seen in the files.
func (r *rig) visible(t *testing.T, j job) int {
	t.Helper()
	n := 0
	for _, l := range r.lines(t, j.places()[0], j.db, "SELECT count() FROM %s") {
		m, err := strconv.Atoi(l)
		must(t, err)
		n += m
	}
	return n
}

// TestRunnerKilled: the runner is killed with SIGKILL ten times while it works on a topic
// that grows, and a last run ends it.
func TestRunnerKilled(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic, lateness = "ble-runner-killed", 2 * time.Minute
	r.createTopic(t, topic, nil)
	producer := r.begin(t, r.produceBLE(file, topic, "--key", "trace_id", "--rate", "3000")...)
	j := r.newJob(t, topic, topic, "asset_id", bleJob(lateness, "none"))
	rng := rand.New(rand.NewPCG(7, 10))
	grew, seen := 0, 0
	for i := range 10 {
		p := r.begin(t, "run", "-f", j.file)
		if i%2 == 1 { // well under way; the others are killed at their start or soon after
			for deadline := time.Now().Add(5 * time.Second); r.visible(t, j) == seen && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond)
		p.kill(t)
		n := r.visible(t, j)
		t.Logf("kill %d: %d rows to be seen", i+1, n)
		if n < seen {
			t.Errorf("kill %d: %d rows to be seen, %d before", i+1, n, seen)
		}
		if n > seen {
			grew++
		}
		seen = n
	}
	if grew < 4 {
		t.Errorf("only %d of ten runs got anywhere", grew)
	}
	producer.wait(t)
	summary := r.tidemark(t, "run", "-f", j.bounded)
	if n := r.visible(t, j); n <= seen {
		t.Errorf("the last run added nothing to %d rows: the kills came too late", seen)
	}
	partitions := topicEvents(t, r, topic, bleFromTopic)
	r.checkBLE(t, j, partitions, lateness, summary)
	r.sameAsUndisturbed(t, j, topic, lateness)
}

// startDisturbed starts a job on a topic that a producer is filling, and waits for its first
// results. The rate, in events a second, has to leave enough of the topic for what is done to it.
func (r *rig) startDisturbed(t *testing.T, file, topic, rate string, lateness time.Duration) (producer, runner *process, j job) {
	t.Helper()
	r.createTopic(t, topic, nil)
	producer = r.begin(t, r.produceBLE(file, topic, "--rate", rate)...)
	j = r.newJob(t, topic, topic, "asset_id", bleJob(lateness, "none"))
	runner = r.begin(t, "run", "-f", j.file)
	r.awaitVisible(t, j, runner, 300)
	return producer, runner, j
}

// awaitVisible waits until a running job shows so many rows.
func (r *rig) awaitVisible(t *testing.T, j job, runner *process, rows int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); r.visible(t, j) < rows; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) || len(runner.ended) > 0 {
			runner.kill(t)
			t.Fatalf("%d rows can be seen, want %d:\n%s", r.visible(t, j), rows, runner.stderr.String())
		}
	}
}

// TestBrokerKilled: the broker is killed while the producer writes and the runner reads,
// and comes back. The producer repeats what was not acknowledged, so the topic may hold
// events twice; what counts is the topic, and that every event of the file is in it.
func TestBrokerKilled(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic, lateness = "ble-broker-killed", 2 * time.Minute
	producer, p, j := r.startDisturbed(t, file, topic, "3500", lateness)
	must(t, r.kafka.Kill())
	time.Sleep(time.Second)
	before := r.visible(t, j)
	must(t, r.kafka.Start(t.Context()))
	producer.wait(t)
	r.awaitVisible(t, j, p, 2*before)
	p.stop(t)
	summary := r.tidemark(t, "run", "-f", j.bounded)

	partitions := topicEvents(t, r, topic, bleFromTopic)
	held := map[event]int{}
	for _, part := range partitions {
		for _, e := range part {
			held[e]++
		}
	}
	for _, e := range csvEvents(t, file, bleFromCSV) {
		held[e]--
	}
	for e, n := range held {
		if n < 0 {
			t.Fatalf("event %+v was acknowledged and is not in the topic", e)
		}
	}
	r.checkBLE(t, j, partitions, lateness, summary)
	r.sameAsUndisturbed(t, j, topic, lateness)
}

// TestEngineKilled: ClickHouse is killed three times while the job writes to it, and comes
// back after a while.
func TestEngineKilled(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic, lateness = "ble-engine-killed", 2 * time.Minute
	producer, p, j := r.startDisturbed(t, file, topic, "1200", lateness)
	for range 3 {
		must(t, r.clickhouse.Kill())
		time.Sleep(700 * time.Millisecond)
		must(t, r.clickhouse.Start(t.Context()))
		r.awaitVisible(t, j, p, r.visible(t, j)+20)
	}
	producer.wait(t)
	p.stop(t)
	summary := r.tidemark(t, "run", "-f", j.bounded)
	r.checkBLE(t, j, topicEvents(t, r, topic, bleFromTopic), lateness, summary)
	r.sameAsUndisturbed(t, j, topic, lateness)
}

// TestLostAnswers: ClickHouse takes blocks and the answers do not come: the connection is
// cut, a proxy answers 500, nothing comes at all; or it refuses for a while. In between the
// runner is killed, so that a process that knows nothing of the first try has to find out.
func TestLostAnswers(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic, lateness = "ble-lost-answers", 2 * time.Minute
	producer, p, j := r.startDisturbed(t, file, topic, "3500", lateness)
	for _, kind := range []string{peers.DropBefore, peers.DropAfterCommit, peers.HTTP500AfterCommit, peers.Code252, peers.StallAfterCommit} {
		must(t, r.clickhouse.Inject(t.Context(), peers.Fault{Kind: kind, Match: "INSERT INTO `" + j.db + "`.", N: 2}))
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			hits, err := r.clickhouse.Hits(t.Context())
			must(t, err)
			if hits > 0 {
				break
			}
			if time.Now().After(deadline) || len(p.ended) > 0 {
				p.kill(t)
				t.Fatalf("%s hit nothing:\n%s", kind, p.stderr.String())
			}
		}
		if kind == peers.DropAfterCommit || kind == peers.StallAfterCommit {
			p.kill(t)
			must(t, r.clickhouse.ClearFaults(t.Context()))
			p = r.begin(t, "run", "-f", j.file)
		}
		seen := r.visible(t, j)
		r.awaitVisible(t, j, p, seen+20)
		must(t, r.clickhouse.ClearFaults(t.Context()))
	}
	producer.wait(t)
	p.stop(t)
	summary := r.tidemark(t, "run", "-f", j.bounded)
	r.checkBLE(t, j, topicEvents(t, r, topic, bleFromTopic), lateness, summary)
	r.sameAsUndisturbed(t, j, topic, lateness)
}

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	sink "github.com/tidemark/tidemark/sinks/kafka"
)

// ends runs the binary to its end, which must be exit code 1, and returns what it said of it.
func (r *rig) ends(t *testing.T, args ...string) string {
	t.Helper()
	p := r.begin(t, args...)
	select {
	case <-p.ended:
	case <-time.After(processLimit):
		p.kill(t)
		t.Fatalf("%s: still running after %v", strings.Join(args, " "), processLimit)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		t.Fatalf("%s: exit code %d, want 1\n%s%s", strings.Join(args, " "), code, p.stdout.String(), p.stderr.String())
	}
	return p.stderr.String()
}

// stopped runs a job on a topic until it shows results, and stops it.
func (r *rig) stopped(t *testing.T, topic string) job {
	t.Helper()
	j := r.newJob(t, topic, topic, "asset_id", bleJob(0, "none"))
	p := r.begin(t, "run", "-f", j.file)
	r.awaitVisible(t, j, p, 20)
	p.stop(t)
	return j
}

// TestAgedOutJob: records that a stopped job had not read are deleted. It says which, writes
// nothing, and goes on where the log begins once it is told to.
func TestAgedOutJob(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-aged-out"
	produce := r.produceBLE(file, topic, "--partitions", "1", "--events", "4000")
	r.tidemark(t, produce...)
	j := r.stopped(t, topic)
	seen := r.visible(t, j)
	r.tidemark(t, produce...)
	must(t, r.kafka.DeleteRecords(t.Context(), topic, 0, 6000))
	said := r.ends(t, "run", "-f", j.bounded)
	m := regexp.MustCompile(`(\d+)\.\.6000 are gone, the log starts at 6000: raise the topic's retention, or set on_gap: skip_and_record`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("the job says\n%s", said)
	}
	read, err := strconv.Atoi(m[1])
	must(t, err)
	if n := r.visible(t, j); n != seen {
		t.Errorf("%d rows can be seen, %d before", n, seen)
	}
	text, err := os.ReadFile(j.bounded)
	must(t, err)
	onward := filepath.Join(j.dir, "onward.yaml")
	must(t, os.WriteFile(onward, []byte(strings.Replace(string(text), "stall_after: 5s", "stall_after: 5s, on_gap: skip_and_record", 1)), 0o644))
	if summary := r.tidemark(t, "run", "-f", onward); !strings.Contains(summary, fmt.Sprintf("rows in %d =", read+2000)) {
		t.Errorf("the job says %s, want %d rows before the gap and 2000 behind it", summary, read)
	}
	r.physical(t, j)
}

// TestRecreatedJob: a topic is deleted and made again under its name while the job is
// stopped. Its offsets mean other records now; the job says so, and writes nothing.
func TestRecreatedJob(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-recreated"
	r.tidemark(t, r.produceBLE(file, topic, "--events", "4000")...)
	j := r.stopped(t, topic)
	seen := r.visible(t, j)
	client := &kafkago.Client{Addr: kafkago.TCP(r.kafka.Addr()), Timeout: 10 * time.Second}
	res, err := client.DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{topic}})
	must(t, err)
	must(t, res.Errors[topic])
	time.Sleep(time.Second) // the broker deletes in its own time
	r.tidemark(t, r.produceBLE(file, topic, "--events", "8000")...)
	if said := r.ends(t, "run", "-f", j.bounded); !strings.Contains(said, "the topic was re-created; start the job anew") {
		t.Errorf("the job says\n%s", said)
	}
	if n := r.visible(t, j); n != seen {
		t.Errorf("%d rows can be seen, %d before", n, seen)
	}
	r.physical(t, j)
}

// TestAbortedJob: a topic holds an aborted transaction between two that were committed and
// the records of a plain producer. No row of the aborted one is in any result, and every
// other is.
func TestAbortedJob(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-aborted"
	produce := r.produceBLE(file, topic, "--partitions", "1", "--events", "3000")
	r.tidemark(t, produce...)
	tx, err := r.kafka.Transactions(t.Context(), topic, 0)
	must(t, err)
	for _, x := range []struct {
		key    string
		n      int
		commit bool
	}{{"kept", 100, true}, {"aborted", 700, false}, {"kept", 200, true}} {
		must(t, tx.Write(t.Context(), hearings(x.key, x.n)))
		must(t, tx.End(t.Context(), x.commit))
	}
	r.tidemark(t, produce...)
	j := r.newJob(t, topic, topic, "asset_id", strings.Replace(bleJob(time.Hour, "none"), "  lateness:", "  fingerprints: true\n  lateness:", 1))
	r.tidemark(t, "run", "-f", j.bounded)
	want := printOfTopic(t, r, topic)
	if want.count != 6300 {
		t.Errorf("a reader of the topic sees %d records, want 6300", want.count)
	}
	for _, p := range j.places() {
		if got := r.printOfJob(t, p, j); got != want {
			t.Errorf("%s: the job has rows %+v, the topic %+v", p.name, got, want)
		}
		sameLines(t, p.name, r.lines(t, p, j.db, "SELECT asset_id, sum(count) FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY asset_id, window_start) WHERE asset_id IN ('kept', 'aborted') GROUP BY asset_id"), []string{"kept\t300"})
	}
	r.physical(t, j)
}

// hearings are records as produce makes them of the BLE file, of a trace of their own.
func hearings(key string, n int) []sink.Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var recs []sink.Record
	for range n {
		recs = append(recs, sink.Record{Key: []byte(key), Time: at,
			Value: fmt.Appendf(nil, `{"trace_id": %q, "beacon_mac": "m", "ts": %d, "rssi_dbm": -70, "tx_power_dbm": 0}`, key, at.UnixMilli())})
	}
	return recs
}

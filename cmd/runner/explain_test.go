package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
)

// whyRig is a broker with a topic, and a directory for a job.
type whyRig struct {
	t      *testing.T
	broker *kfake.Cluster
	dir    string
	at     time.Time // second 0 of the readings
	seq    int
	stuck  bool // a sink takes nothing, so that a job cannot end well
}

func newWhyRig(t *testing.T, partitions int32) *whyRig {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return &whyRig{t, broker, t.TempDir(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 0, false}
}

// heard is a record: what it says, and when the broker had it.
type heard struct {
	value string
	at    time.Time
}

// reading is a reading of an asset so many seconds behind the start, which the broker has a second later.
func (r *whyRig) reading(asset string, second float64, rssi int) heard {
	at := r.at.Add(time.Duration(second * float64(time.Second)))
	r.seq++
	return heard{fmt.Sprintf(`{"asset_id":%q,"gateway_id":"GW-1","ts_event":%d,"rssi_dbm":%d,"seq":%d}`, asset, at.UnixMilli(), rssi, r.seq), at.Add(time.Second)}
}

// send appends records to a partition.
func (r *whyRig) send(partition int, records ...heard) {
	r.t.Helper()
	conn, err := kafkago.DialLeader(r.t.Context(), "tcp", r.broker.ListenAddrs()[0], "t", partition)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	var messages []kafkago.Message
	for _, h := range records {
		messages = append(messages, kafkago.Message{Value: []byte(h.value), Time: h.at})
	}
	if _, err := conn.WriteMessages(messages...); err != nil {
		r.t.Fatal(err)
	}
}

// job writes a job file; of what is missing in text the defaults hold.
func (r *whyRig) job(name, text string) string {
	r.t.Helper()
	file := filepath.Join(r.dir, name+".yaml")
	head := fmt.Sprintf("job: %s\nfeed: ble\ncheckpoint: {dir: %q, interval: 20ms}\nhttp: {listen: \"\"}\n", name, filepath.Join(r.dir, "state-"+name))
	text = strings.ReplaceAll(text, "SOURCE", fmt.Sprintf("brokers: [%q], topic: t, fetch_wait: 20ms", r.broker.ListenAddrs()[0]))
	if !strings.Contains(text, "sinks") {
		text += fmt.Sprintf("sinks: [{parquet: {dir: %q, table: %s}}]\n", filepath.Join(r.dir, "out"), name)
	}
	if !strings.Contains(text, "normalize") {
		text += "normalize: {to: none}\n"
	}
	if err := os.WriteFile(file, []byte(head+text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// do runs the program in this process and wants it to succeed.
func (r *whyRig) do(args ...string) string {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	if code := Main(r.t.Context(), args, streams{&stdout, &stderr}); code != 0 {
		r.t.Fatalf("%v: exit code %d: %s", args, code, stderr.String())
	}
	return stdout.String()
}

// live runs a job until every partition has been read to the given offsets, and stops it.
func (r *whyRig) live(file string, offsets ...int64) {
	r.t.Helper()
	ctx, stop := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer stop()
	done := make(chan string, 1)
	go func() {
		var stdout, stderr bytes.Buffer
		if code := Main(ctx, []string{"run", "-f", file, "-log", "error"}, streams{&stdout, &stderr}); code != 0 {
			done <- stderr.String()
		}
		close(done)
	}()
	cfg, err := loadConfig(file)
	if err != nil {
		r.t.Fatal(err)
	}
	for !r.reached(cfg, offsets) {
		select {
		case said := <-done:
			r.t.Fatalf("the job ended: %s", said)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	if said := <-done; said != "" && !r.stuck {
		r.t.Fatal(said)
	}
}

// stall makes a topic take nothing.
func (r *whyRig) stall(topic string) {
	r.stuck = true
	r.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: -1})
}

// age makes the checkpoints of a job a minute older.
func (r *whyRig) age(name string) {
	r.t.Helper()
	manifests, err := filepath.Glob(filepath.Join(r.dir, "state-"+name, "checkpoints", "*", "manifest.json"))
	if err != nil || len(manifests) == 0 {
		r.t.Fatalf("%d manifests, %v", len(manifests), err)
	}
	ago := time.Now().Add(-time.Minute)
	for _, m := range manifests {
		if err := os.Chtimes(m, ago, ago); err != nil {
			r.t.Fatal(err)
		}
	}
}

// merged is the mark of the newest checkpoint.
func (r *whyRig) merged(file string) int64 {
	r.t.Helper()
	var w struct {
		Mark *time.Time `json:"mark"`
	}
	if err := json.Unmarshal([]byte(r.do("explain", "watermark", "-f", file, "-o", "json")), &w); err != nil {
		r.t.Fatal(err)
	}
	if w.Mark == nil {
		return pipeline.MinTicks
	}
	return w.Mark.UnixMicro()
}

// reached tells whether the newest checkpoint has the offsets.
func (r *whyRig) reached(cfg Config, offsets []int64) bool {
	store, err := readStore(r.t.Context(), cfg.Checkpoint.Dir, nil)
	if err != nil {
		return false // not made yet
	}
	v := stateView{dir: cfg.Checkpoint.Dir, checkpoints: pipeline.NewCheckpoints(store, 1, memory.DefaultAllocator)}
	l, err := v.newest(r.t.Context())
	if err != nil || len(l.Checkpoint.Splits) < len(offsets) {
		return false
	}
	for i, o := range offsets {
		if l.Checkpoint.Splits[i].Position.Offset < o {
			return false
		}
	}
	return true
}

// why explains a record, for programs and for people.
func (r *whyRig) why(file string, partition int, offset int64) (became, reason string, exact bool, all string) {
	r.t.Helper()
	place := fmt.Sprintf("t/%d@%d", partition, offset)
	text := r.do("explain", "offset", "-f", file, "-o", "json", place)
	var w struct {
		Became string `json:"became"`
		Reason string `json:"reason"`
		Exact  bool   `json:"mark_is_exact"`
	}
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		r.t.Fatalf("%v in %s", err, text)
	}
	return w.Became, w.Reason, w.Exact, r.do("explain", "offset", "-f", file, place)
}

// wants compares what became of the records of partition 0.
func (r *whyRig) wants(file string, cases []whyCase) {
	r.t.Helper()
	for _, c := range cases {
		became, reason, exact, all := r.why(file, 0, c.offset)
		if became != c.became || reason != c.reason || !exact {
			r.t.Errorf("offset %d: %s, reason %q, want %s, %q\n%s", c.offset, became, reason, c.became, c.reason, all)
		}
		for _, want := range c.says {
			if !strings.Contains(all, want) {
				r.t.Errorf("offset %d: nothing says %q:\n%s", c.offset, want, all)
			}
		}
	}
}

type whyCase struct {
	offset int64
	became string
	reason string
	says   []string
}

// TestExplainOffset has a record of every fate, in jobs that differ in their windows, and wants
// each to be explained: what became of it, by which rule, with its numbers, and where it is.
func TestExplainOffset(t *testing.T) {
	r := newWhyRig(t, 1)
	ahead := r.reading("RC-2", 2*3600, -60)
	ahead.at = r.at.Add(2 * time.Second)
	ahead.value = strings.ReplaceAll(ahead.value, "GW-1", "GW-2")
	first := r.reading("RC-1", 0, -60)
	seconds := heard{fmt.Sprintf(`{"asset_id":"RC-9","ts_event":%d,"rssi_dbm":-60}`, r.at.Unix()+14), r.at.Add(15 * time.Second)}
	r.send(0,
		first,                       // 0
		heard{`{"asset_id":`, r.at}, // 1
		ahead,                       // 2
		r.reading("RC-1", 1, -99),   // 3
		first,                       // 4
		r.reading("RC-1", 13, -60),  // 5: the mark is 11.999999
		r.reading("RC-3", 8, -60),   // 6
		seconds,                     // 7
		r.reading("RC-1", 20, -60),  // 8: the mark is 18.999999
		r.reading("RC-3", 9, -60),   // 9
		r.reading("RC-3", 15, -60),  // 10
	)
	const common = "source: {kafka: {SOURCE, bounded: true}}\nevent_time: {max_disorder: 1s, quiet_after: never}\n"
	for name, c := range map[string]struct {
		job  string
		want []whyCase
	}{
		"tumbling": {"window: {tumbling: 10s, lateness: 5s}\nfilter: rssi_dbm > -90\ndedupe: {columns: [asset_id, seq], within: 1s}\n", []whyCase{
			{0, becameOnTime, "", []string{"RC-1", "in time", "2026-03-01T12:00:10Z", "found in"}},
			{1, becameDead, "malformed_json", []string{"parquet:", "tumbling_dead", "found in"}},
			{2, becameDead, "future", []string{"14:00:00Z, more than 2m0s (max_ahead) beyond the broker's 2026-03-01T12:00:02Z"}},
			{3, becameFiltered, "", []string{"rssi_dbm > -90", "rssi_dbm is -99"}},
			{4, becameDuplicate, "", []string{"t/0@0 is the same reading", "asset_id, seq"}},
			{6, becameRevision, "", []string{"2026-03-01T12:00:11.999999Z", "as a revision", "found in"}},
			{7, becameOnTime, "", []string{"is it in seconds where milliseconds are expected", "2026-03-01T12:00:14Z"}},
			{9, becameLate, "late", []string{"2026-03-01T12:00:09.999999Z + lateness 5s = 2026-03-01T12:00:14.999999Z is at or behind", "9.999999s behind the mark", "tumbling_late", "found in"}},
			{10, becameOnTime, "", []string{"2026-03-01T12:00:18.999999Z"}},
		}},
		"hopping": {"window: {hopping: {size: 20s, slide: 10s}, lateness: 0s}\n", []whyCase{
			{9, becamePartly, "", []string{"1 of its 2 windows", "missed", "in time", "found in"}},
			{10, becameOnTime, "", []string{"in time"}},
		}},
		"events": {"window: {hopping: {size: 20s, slide: 10s}, lateness: 0s}\nnormalize: {to: ocsf}\n", []whyCase{
			{9, becamePartly, "", []string{"agg:events:RC-3:1772366400000", "found in"}},
		}},
		"shed": {"window: {tumbling: 10s, lateness: 0s}\nstate: {max_key_windows: 1, over_limit: shed}\nparallelism: {shards: 1}\n", []whyCase{
			{5, becameLate, "shed", []string{"as many as it may", "shed_late", "found in"}},
		}},
		"session": {"window: {session: {gap: 5s}, lateness: 0s}\n", []whyCase{
			{0, becameTaken, "", []string{"late when no open session takes it"}},
			{9, becameLate, "late", []string{"session_late", "found in"}},
		}},
		"unsure": {"window: {session: {gap: 5s}, lateness: 0s}\ndecisions: {off: true}\n", []whyCase{
			{0, becameTaken, "", []string{"late when no open session takes it"}},
			{9, becameUnsure, "", []string{"by itself it would be, and decisions.off is set"}},
		}},
		"ingest": {"window: {tumbling: 10s, trigger: on_ingest, emit_delay: 2s, max_age: 1s}\n", []whyCase{
			{6, becameAddition, "", []string{"ingest_late_delta", "max_age 1s", "found in"}},
			{10, becameOnTime, "", nil},
		}},
		"rows": {"rows: true\n", []whyCase{{9, becameRow, "", []string{"found in"}}, {1, becameDead, "malformed_json", nil}}},
		"keys": {"window: {tumbling: 10s, lateness: 0s}\nevent_time: {scope: key, max_offline: 1h, max_disorder: 1s, quiet_after: never}\n", []whyCase{
			{9, becameOnTime, "", []string{"the clock of its key"}},
		}},
		"assets": {"assets: {}\n", []whyCase{
			{9, becameLate, "late", []string{"more than event_time.max_disorder (1s) allows", "assets_late"}},
			{8, becameGiven, "", []string{"given to assets under key RC-1"}},
		}},
		"off": {"window: {tumbling: 10s, lateness: 5s}\ndecisions: {off: true}\ndedupe: {columns: [asset_id, seq], within: 1s}\n", []whyCase{
			{4, becameDuplicate, "", []string{"t/0@0 is the same reading", "keeps no decisions"}},
			{9, becameLate, "", []string{"off_late", "found in"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			at := *r
			at.t = t
			text := common + c.job
			if strings.Contains(c.job, "event_time") {
				text = strings.Split(common, "\n")[0] + "\n" + c.job
			}
			file := at.job(name, text)
			at.do("run", "-f", file)
			at.wants(file, c.want)
		})
	}
}

// TestExplainHistory has a job that was stopped and started: the mark before a record is that of
// the job, from the nearest point where it is known; where that is too far back it is a bound and
// is called so. What retention has removed, the decisions tell.
func TestExplainHistory(t *testing.T) {
	r := newWhyRig(t, 1)
	file := r.job("history", "source: {kafka: {SOURCE}}\nevent_time: {max_disorder: 1s, quiet_after: never}\nwindow: {tumbling: 10s, lateness: 0s}\n")
	r.send(0, r.reading("RC-1", 0, -60), r.reading("RC-1", 100, -60))
	r.live(file, 2)
	between := time.Now().UTC().Format(time.RFC3339Nano)
	r.send(0, r.reading("RC-2", 50, -60), r.reading("RC-2", 99, -60), r.reading("RC-2", 90, -60))
	r.live(file, 5)
	r.send(0, r.reading("RC-3", 10, -60))
	for at, want := range map[string]string{between: "holds +2 ", "2100-01-01T00:00:00Z": "holds +5 "} {
		if said := r.do("explain", "watermark", "-f", file, "--at", at); !regexp.MustCompile(want).MatchString(said) || !strings.Contains(said, "mark 2026-03-01T12:01:38.999999Z, held by t/0") {
			t.Errorf("at %s: nothing says %q:\n%s", at, want, said)
		}
	}
	if code, _, stderr := run(t, "explain", "watermark", "-f", file, "--at", "2026-03-01T12:00:00Z"); code != exitFailed || !strings.Contains(stderr, "the history of the marks begins at 20") {
		t.Errorf("before the history: code %d, %s", code, stderr)
	}

	wants := func(offset int64, became string, says ...string) {
		t.Helper()
		got, _, _, all := r.why(file, 0, offset)
		if got != became {
			t.Errorf("offset %d: %s, want %s\n%s", offset, got, became, all)
		}
		for _, want := range says {
			if !strings.Contains(all, want) {
				t.Errorf("offset %d: nothing says %q:\n%s", offset, want, all)
			}
		}
	}
	wants(0, becameOnTime)
	wants(1, becameOnTime, "the window that ends at 2026-03-01T12:01:50Z is still open")
	wants(2, becameLate, "2026-03-01T12:01:38.999999Z (exact: 0 records before it read again)", "history_late")
	wants(4, becameOnTime, "(exact: 2 records before it read again)")
	wants(5, becameUnread, "the job has not read it")
	wants(9, becameNothing, "ends at offset 6")
	if all := r.do("explain", "offset", "-f", file, "--scan", "1", "t/0@4"); !strings.Contains(all, "at least: what is known") {
		t.Errorf("a mark that cannot be known is no bound:\n%s", all)
	}
	if err := r.broker.DeleteRecords("t", 0, 5); err != nil {
		t.Fatal(err)
	}
	wants(2, becameLate, "retention has removed the record", "RC-2", "2026-03-01T12:00:50Z to 2026-03-01T12:01:00Z")
	wants(3, becameUnknown, "removed by retention")
}

// TestExplainSilence: a row that comes back behind a mark which the silence of its partition had
// let go is late for that reason, whatever the mark of its own partition.
func TestExplainSilence(t *testing.T) {
	r := newWhyRig(t, 2)
	file := r.job("silence", "source: {kafka: {SOURCE}}\nevent_time: {max_disorder: 1s, quiet_after: 10s}\nwindow: {tumbling: 10s, lateness: 0s}\n")
	r.send(1, r.reading("RC-1", 0, -60))
	r.send(0, r.reading("RC-2", 200, -60))
	r.live(file, 1, 1)
	for r.merged(file) < r.at.UnixMicro() { // a stop may come before the end of the partition is found
		r.live(file, 1, 1)
	}
	r.send(1, r.reading("RC-1", 5, -60))
	r.live(file, 1, 2)
	became, reason, _, all := r.why(file, 1, 1)
	if became != becameLate || reason != "quiet_split" || !strings.Contains(all, "its partition had been quiet, and the others went on without it to mark 2026-03-01T12:03:18.999999Z") {
		t.Errorf("%s, reason %s:\n%s", became, reason, all)
	}
	if said := r.do("explain", "watermark", "-f", file, "--at", "2100-01-01T00:00:00Z"); !strings.Contains(said, "held by t/0") && !strings.Contains(said, "trails") {
		t.Errorf("said %s", said)
	}
}

// TestAround finds the points before and behind an offset, also where a job was rewound or began
// anew: what was read again counts as read then, and as before until it is.
func TestAround(t *testing.T) {
	s := pipeline.Split{Topic: "t"}
	point := func(lineage uint16, epoch, offset int64, anew bool) decisions.Point {
		return decisions.Point{Lineage: lineage, Epoch: epoch, Anew: anew, Splits: []pipeline.SplitState{{Split: s, Position: pipeline.Position{Offset: offset}}}}
	}
	for name, c := range map[string]struct {
		points []decisions.Point
		want   map[int64][2]int64 // by offset, the epochs before and behind; 0: none
	}{
		"straight": {[]decisions.Point{point(1, 1, 10, false), point(1, 2, 20, false), point(1, 3, 20, false), point(1, 4, 30, false)},
			map[int64][2]int64{0: {0, 1}, 9: {0, 1}, 10: {1, 2}, 19: {1, 2}, 20: {3, 4}, 30: {4, 0}, 99: {4, 0}}},
		"rewound": {[]decisions.Point{point(1, 1, 10, false), point(1, 2, 20, false), point(1, 3, 30, false), point(2, 3, 25, false), point(2, 4, 40, false)},
			map[int64][2]int64{5: {0, 1}, 15: {1, 2}, 22: {2, 3}, 27: {3, 4}, 35: {3, 4}}},
		"anew": {[]decisions.Point{point(1, 1, 10, false), point(1, 2, 20, false), point(2, 4, 15, true), point(2, 5, 18, false)},
			map[int64][2]int64{5: {0, 4}, 16: {4, 5}, 19: {1, 2}}},
	} {
		e := evidence{points: c.points}
		for offset, want := range c.want {
			before, after := e.around(s, offset)
			var got [2]int64
			for i, at := range []*stand{before, after} {
				if at != nil {
					got[i] = at.point.Epoch
				}
			}
			if got != want {
				t.Errorf("%s, offset %d: %v, want %v", name, offset, got, want)
			}
		}
	}
}

// TestExplainKey asks why readings of an asset are missing: because they are late, of whatever
// arrival, or dead, because the job has not read them, or because there are none; and of one that is not.
func TestExplainKey(t *testing.T) {
	r := newWhyRig(t, 2)
	file := r.job("key", "source: {kafka: {SOURCE}}\nevent_time: {max_disorder: 1s}\nwindow: {tumbling: 10s, lateness: 0s}\n")
	burst := r.reading("RC-1", 35, -60) // kept back for an hour
	burst.at = r.at.Add(time.Hour)
	dead := r.reading("RC-DEAD", 3, -60)
	dead.value = strings.TrimSuffix(dead.value, "}")
	r.send(0, r.reading("RC-1", 5, -60), dead, r.reading("RC-2", 60, -60), r.reading("RC-1", 15, -60), r.reading("RC-2", 3599, -60), burst)
	r.send(1, r.reading("RC-9", 3600, -60), r.reading("RC-1", 3605, -60))
	r.live(file, 6, 2)
	r.send(1, r.reading("RC-NEW", 3606, -60))
	for _, c := range []struct {
		key    string
		second int
		says   []string
	}{
		{"RC-1", 5, []string{"t/0@0", "on time", "found in", "the reading nearest to that time, t/0@0, was taken (on time); 2 others near it were not"}},
		{"RC-1", 15, []string{"the reading nearest to that time, t/0@3, is missing since it is late: it came 43.999999s behind the mark of its partition"}},
		{"RC-1", 35, []string{"t/0@5, is missing since it is late: it came 59m22.999999s behind"}},
		{"RC-1", 3605, []string{"nothing is missing: 1 reading of RC-1 near that time, all taken", "the window that ends at 2026-03-01T13:00:10Z is still open", "in state: operator 0, windows, 2026-03-01T13:00:00Z to 2026-03-01T13:00:10Z", "rows 1"}},
		{"RC-DEAD", 3, []string{"t/0@1, is missing since it is dead: no row could be made of it"}},
		{"RC-NEW", 3606, []string{"t/1@2, is missing since it is not read yet"}},
		{"RC-7", 5, []string{"no record of RC-7 came with a broker time from 2026-03-01T11:", "it was not sent, or has another key"}},
		{"RC-2", 200, []string{"no reading of RC-2 near that time", "the nearest of them is of 2026-03-01T12:01:00Z, t/0@2"}},
	} {
		said := r.do("explain", "key", "-f", file, c.key, "--at", r.at.Add(time.Duration(c.second)*time.Second).Format(time.RFC3339))
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s at %d s: nothing says %q:\n%s", c.key, c.second, want, said)
			}
		}
	}
	if text := r.do("explain", "key", "-f", file, "RC-1", "--at", "2026-03-01T12:00:05Z", "-o", "json"); !json.Valid([]byte(text)) {
		t.Errorf("no JSON: %s", text)
	}
}

// TestSixFaults plants what goes wrong in the field, one fault in a job of its own, and wants one
// command to name it.
func TestSixFaults(t *testing.T) {
	const windows = "event_time: {max_disorder: 1s}\nwindow: {tumbling: 10s, lateness: 0s}\n"
	steady := func(r *whyRig, asset string, from, to int) (out []heard) {
		for second := from; second < to; second++ {
			out = append(out, r.reading(asset, float64(second), -60))
		}
		return out
	}
	for name, c := range map[string]struct {
		plant   func(r *whyRig)
		job     string
		offsets []int64
		command []string // -f is added
		says    []string
	}{
		"a device two hours ahead": {
			plant: func(r *whyRig) {
				ahead := r.reading("RC-FAST", 2*3600+5, -60)
				ahead.at = r.at.Add(6 * time.Second)
				r.send(0, append(append(steady(r, "RC-1", 0, 5), ahead), steady(r, "RC-1", 5, 60)...)...)
			},
			offsets: []int64{61},
			command: []string{"explain", "watermark"},
			says:    []string{"mark 2026-03-01T12:00:57.999999Z, held by t/0", "dead, future: 1 row of t/0, offsets 5 to 5, event times 2026-03-01T14:00:05Z to 2026-03-01T14:00:05Z, up to 1h59m59s ahead of the broker", "t/0@5"},
		},
		"an idle partition": {
			plant: func(r *whyRig) {
				r.send(0, steady(r, "RC-1", 0, 50)...)
				r.send(1, steady(r, "RC-2", 0, 3)...)
			},
			offsets: []int64{50, 3},
			command: []string{"explain", "watermark"},
			says:    []string{"held by t/1", "the newest row of partition t/1", "released by silence: t/1 is read to its end and another partition of the topic brings a record with a broker timestamp after 2026-03-01T12:01:03Z"},
		},
		"a burst three hours late": {
			plant: func(r *whyRig) {
				r.send(0, steady(r, "RC-1", 0, 30)...)
				burst := steady(r, "RC-OFF", -3*3600, -3*3600+20)
				for i := range burst {
					burst[i].at = r.at.Add(31 * time.Second)
				}
				r.send(0, burst...)
			},
			offsets: []int64{50},
			command: []string{"explain", "watermark"},
			says:    []string{"late: 20 rows of t/0, offsets 30 to 49, event times 2026-03-01T09:00:00Z to 2026-03-01T09:00:19Z, up to 3h0m27.999999s behind the mark, 1 key such as RC-OFF"},
		},
		"a poison record": {
			plant: func(r *whyRig) {
				r.send(0, append(steady(r, "RC-1", 0, 5), heard{"\x00\x00\x00\x00\x07avro", r.at})...)
			},
			offsets: []int64{6},
			command: []string{"explain", "offset", "t/0@5"},
			says:    []string{"DEAD, reason not_object", "no row could be made of it: the payload begins with byte 0x00", `avro"`, "_dead: _split 0, _offset 5: found in"},
		},
		"seconds sent as milliseconds": {
			plant: func(r *whyRig) {
				r.send(0, append(steady(r, "RC-1", 0, 5), heard{fmt.Sprintf(`{"asset_id":"RC-9","ts_event":%d}`, r.at.Unix()+6), r.at.Add(6 * time.Second)})...)
			},
			offsets: []int64{6},
			command: []string{"check"},
			says:    []string{"warn  kafka: of the newest 6 records 1 have a time that does not count: t/0@5: the payload's ts_event is 1970-01-21T12:19:26.406Z", "is it in seconds where milliseconds are expected"},
		},
		"a stalled sink": {
			plant: func(r *whyRig) {
				r.send(0, steady(r, "RC-1", 0, 30)...)
				r.stall("results")
			},
			job:     "sinks: [{kafka: {topic: results}}]\nstop_timeout: 50ms\n",
			offsets: []int64{30},
			command: []string{"explain", "watermark"},
			says:    []string{"SINK STALLED: checkpoint ", "is not published", "It waits for kafka:results"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			partitions := int32(len(c.offsets))
			r := newWhyRig(t, partitions)
			file := r.job("fault", "source: {kafka: {SOURCE}}\n"+windows+c.job)
			c.plant(r)
			r.live(file, c.offsets...)
			r.age("fault")
			said := r.do(append(c.command, "-f", file)...)
			if strings.Contains(said, "STALLED") != r.stuck {
				t.Error("a sink is stalled, or is not")
			}
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("nothing says %q:\n%s", want, said)
				}
			}
		})
	}
}

// TestExplainPlan: what a job will do is said before it runs, and what a change takes once it has.
func TestExplainPlan(t *testing.T) {
	r := newWhyRig(t, 1)
	const text = "source: {kafka: {SOURCE}}\nevent_time: {max_disorder: 7s}\nwindow: {hopping: {size: 10s, slide: 5s}, lateness: 3s}\n"
	file := r.job("plan", text)
	wants := func(said string, says ...string) {
		t.Helper()
		for _, want := range says {
			if !strings.Contains(said, want) {
				t.Errorf("nothing says %q:\n%s", want, said)
			}
		}
	}
	wants(r.do("explain", "-f", file, "--keys", "1000"), "topic t of ", "windows of 10s every 5s by asset_id: count", "up to 7s behind the newest row", "at most 3s before the mark (lateness)",
		"exactly once: each epoch's files appear once", "not promised", "with 1000 keys", "4 windows open at a time",
		"asset_id (id of a device, which may be carried by a person): as it is in results", "lat (position): as it is in late rows and in dead payloads only", "checkpoint     none")
	if !json.Valid([]byte(r.do("explain", "-f", file, "-o", "json"))) {
		t.Error("no JSON")
	}
	r.send(0, r.reading("RC-1", 0, -60))
	r.live(file, 1)
	if said := r.do("explain", "-f", file); strings.Contains(said, "changed") || !strings.Contains(said, "the job goes on from it") {
		t.Errorf("said %s", said)
	}
	r.job("plan", strings.ReplaceAll(text, "lateness: 3s", "lateness: 4s")+"filter: rssi_dbm > -90\n")
	wants(r.do("explain", "-f", file), "which the job cannot go on from", "window.lateness: was 3s, is 4s: needs a new lineage", `filter: was "", is rssi_dbm > -90: needs a new lineage`)
}

// TestExplainUsage: mistakes on the command line are said, help is there, and a command reads what
// is there or says that it is not.
func TestExplainUsage(t *testing.T) {
	r := newWhyRig(t, 1)
	file := r.job("usage", "source: {kafka: {SOURCE}}\nwindow: {tumbling: 10s}\n")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", exitUsage, "want watermark, offset or key, or -f"},
		{"wind", exitUsage, `unexpected "wind"`},
		{"--keys -1 -f FILE", exitUsage, "must not be negative"},
		{"-f FILE -o xml", exitUsage, "want table or json"},
		{"offset -f FILE", exitFailed, "open store"},
		{"offset --dir x t/0@0", exitUsage, "-f names no job file"},
		{"offset -f FILE --scan 0 t/0@0", exitUsage, "at least 1"},
		{"key -f FILE RC-1 --at 2026-03-01T12:00:00Z", exitFailed, "open store"},
		{"watermark -f FILE --at noon", exitUsage, "want a time such as"},
	} {
		args := append([]string{"explain"}, strings.Fields(strings.ReplaceAll(c.args, "FILE", file))...)
		if c.want == "want a time such as" { // of a job that has run
			r.live(file, 0)
		}
		code, stdout, stderr := run(t, args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%v: code %d, printed %q, want %d and %q", args, code, stdout+stderr, c.code, c.want)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"offset -f FILE", "want one record"}, {"offset -f FILE t@1", "want topic/partition@offset"}, {"offset -f FILE t/x@1", "two numbers"},
		{"offset -f FILE u/0@1", "the job reads topic t"}, {"key -f FILE RC-1", "want a time"}, {"key -f FILE --at 2026-03-01T12:00:00Z", "want a key"},
	} {
		args := append([]string{"explain"}, strings.Fields(strings.ReplaceAll(c.args, "FILE", file))...)
		if code, stdout, stderr := run(t, args...); code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: code %d, printed %q, want %q", args, code, stdout+stderr, c.want)
		}
	}
	for _, name := range []string{"watermark", "offset", "key"} {
		out, err := program(t.Context(), t.TempDir(), "explain", name, "--help").Output()
		if err != nil || !strings.Contains(string(out), "Example:\n  tidemark explain "+name) {
			t.Errorf("explain %s --help: %v, %q", name, err, out)
		}
	}
}

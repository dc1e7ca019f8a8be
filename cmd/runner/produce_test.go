package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sources/kafka"
)

func newBroker(t *testing.T) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// produced is a record as it is in a topic.
type produced struct {
	part       int32
	ingest     time.Time
	key, value string
}

// readTopic returns all records, by partition in offset order.
func readTopic(t *testing.T, broker, topic string) []produced {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.Bounded = []string{broker}, topic, true
	src, err := kafka.Open(t.Context(), cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var out []produced
	for {
		ev, err := src.Next(t.Context())
		if errors.Is(err, io.EOF) {
			slices.SortStableFunc(out, func(a, b produced) int { return int(a.part - b.part) })
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind != pipeline.Rows {
			continue
		}
		for i := range ev.Wire.Len() {
			out = append(out, produced{ev.Split.Partition, time.UnixMicro(ev.Wire.Ingest[i]).UTC(), string(ev.Wire.Key(i)), string(ev.Wire.Value(i))})
		}
	}
}

// mustProduce runs produce and returns what is in the topic.
func mustProduce(t *testing.T, broker, topic string, args ...string) []produced {
	t.Helper()
	code, stdout, stderr := run(t, append([]string{"produce", "--brokers", broker, "--topic", topic}, args...)...)
	if code != 0 {
		t.Fatalf("produce %v: %d %s", args, code, stderr)
	}
	recs := readTopic(t, broker, topic)
	if want := fmt.Sprintf("%d records to %s in ", len(recs), topic); !strings.HasPrefix(stdout, want) {
		t.Errorf("produce %v says %q, want %q", args, stdout, want)
	}
	return recs
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProduceFiles: rows of files, as the topic has them: value, key and broker timestamp.
func TestProduceFiles(t *testing.T) {
	broker := newBroker(t)
	for name, c := range map[string]struct {
		csv, jsonl string
		args       []string
		want       []string // broker timestamp, key, value
	}{
		"csv": {
			csv:  "when,who,n,text\n1772366400000,a,1.50,x\n1772366401000,b,,\"q\"\"uo,te\"\n1772366402000,c,007,NaN\n",
			args: []string{"--time", "when", "--key", "who"},
			want: []string{
				`12:00:00 a {"ts":1772366400000,"when":1772366400000,"who":"a","n":1.50,"text":"x"}`,
				`12:00:01 b {"ts":1772366401000,"when":1772366401000,"who":"b","n":null,"text":"q\"uo,te"}`,
				`12:00:02 c {"ts":1772366402000,"when":1772366402000,"who":"c","n":"007","text":"NaN"}`,
			},
		},
		"byte order mark": {
			csv:  "\ufeffts,v\n1772366400000,1\n",
			args: []string{"--time", "ts"},
			want: []string{`12:00:00  {"ts":1772366400000,"v":1}`},
		},
		"jsonl": {
			jsonl: `{"ts":1772366400000,"id":"a","deep":{"x":[1,null]},"n":1e3}` + "\n\n" + `{"id":"b","ts":"1772366401000"}`,
			args:  []string{"--time", "ts", "--key", "id"},
			want: []string{
				`12:00:00 a {"ts":1772366400000,"id":"a","deep":{"x":[1,null]},"n":1e3}`,
				`12:00:01 b {"ts":1772366401000,"id":"b"}`,
			},
		},
		"layout and zone": {
			csv:  "at,v\n2026-03-01 21:00:00,1\n",
			args: []string{"--time", "at", "--layout", "2006-01-02 15:04:05", "--zone", "Asia/Seoul"},
			want: []string{`12:00:00  {"ts":1772366400000,"at":"2026-03-01 21:00:00","v":1}`},
		},
		"midnight closes the day": {
			csv:  "at,v\n1/3/2026 23:45,1\n1/3/2026 00:00,2\n2/3/2026 00:15,3\n",
			args: []string{"--time", "at", "--layout", "2/1/2006 15:04", "--fix", "midnight-end"},
			want: []string{
				`23:45:00  {"ts":1772408700000,"at":"1/3/2026 23:45","v":1}`,
				`00:00:00  {"ts":1772409600000,"at":"1/3/2026 00:00","v":2}`,
				`00:15:00  {"ts":1772410500000,"at":"2/3/2026 00:15","v":3}`,
			},
		},
		// A row that goes back in time is sent in its place: the broker has it after the one before.
		"order kept": {
			csv:  "ts,v\n1772366400000,1\n1772366399000,2\n1772366401000,3\n",
			args: []string{"--time", "ts"},
			want: []string{`12:00:00  {"ts":1772366400000,"v":1}`, `12:00:00  {"ts":1772366399000,"v":2}`, `12:00:01  {"ts":1772366401000,"v":3}`},
		},
		"limit": {
			csv:  "ts,v\n1772366400000,1\n1772366401000,2\n1772366402000,3\n",
			args: []string{"--time", "ts", "--events", "2"},
			want: []string{`12:00:00  {"ts":1772366400000,"v":1}`, `12:00:01  {"ts":1772366401000,"v":2}`},
		},
	} {
		args := append([]string{"--partitions", "1"}, c.args...)
		if c.csv != "" {
			args = append(args, "--csv", writeFile(t, "in.csv", c.csv))
		} else {
			args = append(args, "--jsonl", writeFile(t, "in.jsonl", c.jsonl))
		}
		var got []string
		for _, r := range mustProduce(t, broker, strings.ReplaceAll(name, " ", "-"), args...) {
			got = append(got, fmt.Sprintf("%s %s %s", r.ingest.Format("15:04:05"), r.key, r.value))
			if !json.Valid([]byte(r.value)) {
				t.Errorf("%s: %s is not JSON", name, r.value)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// Lines are sent as they are, in their order.
func TestProduceLines(t *testing.T) {
	broker := newBroker(t)
	const text = "https 2026-03-01 \"GET / HTTP/1.1\"\n\n{\"no\": json\r\nlast"
	var got []string
	for _, r := range mustProduce(t, broker, "lines", "--partitions", "1", "--lines", writeFile(t, "in.log", text)) {
		if age := time.Since(r.ingest); age < -time.Minute || age > time.Minute {
			t.Errorf("a line is of %s, want now", r.ingest)
		}
		got = append(got, r.key+"|"+r.value)
	}
	if want := []string{`|https 2026-03-01 "GET / HTTP/1.1"`, `|{"no": json`, "|last"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestProduceBadFiles: a file with a mistake sends nothing; the message names file, row and
// column.
func TestProduceBadFiles(t *testing.T) {
	broker := newBroker(t)
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		want       string
	}{
		{"in.csv", "ts,v\n1772366400000,1\nnoon,2\n", []string{"--time", "ts"}, exitFailed, `in.csv: row 2: column ts: "noon" is no number of ms; --layout says how to read it`},
		{"in.csv", "ts,v\n1772366400000,1,2\n", []string{"--time", "ts"}, exitFailed, "in.csv: row 1: record on line 2: wrong number of fields"},
		{"in.csv", "ts,v,v\n1772366400000,1,2\n", []string{"--time", "ts"}, exitFailed, `in.csv: row 1: column "v" is there twice`},
		{"in.csv", "ts,v\n1772366400000,\xff\n", []string{"--time", "ts"}, exitFailed, `in.csv: row 1: column "v": "\xff" is not UTF-8`},
		{"in.csv", "ts,when\n1,1772366400000\n", []string{"--time", "when"}, exitFailed, "in.csv: row 1: column ts: the event time is sent under that name"},
		{"in.csv", "ts,v\n1772366400000,1\n", []string{"--time", "at"}, exitFailed, `in.csv: row 1: no column "at"`},
		{"in.csv", "ts,v\n1772366400000,1\n", []string{"--time", "ts", "--key", "k"}, exitFailed, `in.csv: row 1: no column "k"`},
		{"in.csv", "ts\n2026-13-01\n", []string{"--time", "ts", "--layout", "2006-01-02"}, exitFailed, "in.csv: row 1: column ts: parsing time"},
		{"in.csv", "ts\n1\n", []string{"--time", "ts", "--zone", "Mars/Olympus"}, exitUsage, `--zone "Mars/Olympus"`},
		{"in.csv", "ts\n1\n", []string{"--time", "ts", "--fix", "midnight-end"}, exitUsage, "--fix needs --layout"},
		{"in.jsonl", `{"ts":1772366400000,"v":1`, []string{"--time", "ts"}, exitFailed, "in.jsonl: row 1: want a JSON object"},
		{"in.jsonl", `{"ts":1772366400000} {}`, []string{"--time", "ts"}, exitFailed, "in.jsonl: row 1: want a JSON object"},
		{"in.jsonl", `[1]`, []string{"--time", "ts"}, exitFailed, "in.jsonl: row 1: want a JSON object"},
		{"in.jsonl", strings.Repeat("x", 17<<20), []string{"--time", "ts"}, exitFailed, "in.jsonl: row 1: bufio.Scanner: token too long"},
	} {
		kind := "--" + strings.TrimPrefix(filepath.Ext(c.name), ".")
		args := append([]string{"produce", "--brokers", broker, "--topic", "none", kind, writeFile(t, c.name, c.text)}, c.args...)
		code, stdout, stderr := run(t, args...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%.60q %v: %d %s%s; want %d %s", c.text, c.args, code, stdout, stderr, c.code, c.want)
		}
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.OpenTimeout = []string{broker}, "none", time.Second
	if _, err := kafka.Open(t.Context(), cfg, nil, nil); !errors.Is(err, kafka.ErrUnknownTopic) {
		t.Errorf("the topic of the bad files: %v, want none", err)
	}
}

// TestProduceUsage: limits and contradictions.
func TestProduceUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--feed", "ble"}, "--topic is missing"},
		{[]string{"--topic", "t"}, "give one of --feed, --csv, --jsonl, --lines"},
		{[]string{"--topic", "t", "--lines", "x", "--key", "k"}, "lines are not looked into"},
		{[]string{"--topic", "t", "--lines", "x", "--late", "0.1"}, "lines are not looked into"},
		{[]string{"--topic", "t", "--feed", "ble", "--csv", "x"}, "give one of --feed, --csv, --jsonl, --lines"},
		{[]string{"--topic", "t", "--csv", "x"}, "--time names no column"},
		{[]string{"--topic", "t", "--feed", "weather"}, `feed "weather": known are ble, pdu, traffic`},
		{[]string{"--topic", "t", "--feed", "ble", "--late", "1.1"}, "--late 1.1: want a share from 0 to 1"},
		{[]string{"--topic", "t", "--feed", "ble", "--duplicates", "-0.1"}, "--duplicates -0.1"},
		{[]string{"--topic", "t", "--feed", "ble", "--malformed", "NaN"}, "--malformed NaN"},
		{[]string{"--topic", "t", "--csv", "x", "--time", "ts", "--future", "0.1"}, "--future is for a generated feed"},
		{[]string{"--topic", "t", "--feed", "ble", "--events", "-1"}, "--events"},
		{[]string{"--topic", "t", "--feed", "ble", "--rate", "-1"}, "--rate"},
		{[]string{"--topic", "t", "--feed", "ble", "--devices", "0"}, "--devices 0: want 1 to 10000000"},
		{[]string{"--topic", "t", "--feed", "ble", "--devices", "2000000000"}, "--devices 2000000000: want 1 to 10000000"},
		{[]string{"--topic", "t", "--feed", "ble", "--period", "0s"}, "--period"},
		{[]string{"--topic", "t", "--feed", "ble", "--disorder", "-1s"}, "--disorder"},
		{[]string{"--topic", "t", "--feed", "ble", "--start", "today"}, `--start "today": want RFC 3339`},
		{[]string{"--topic", "t", "--feed", "ble", "--compression", "brotli"}, `--compression: "brotli" is not one of`},
		{[]string{"--topic", "t", "--csv", "x", "--time", "ts", "--fix", "all"}, `--fix "all": want midnight-end`},
	} {
		code, stdout, stderr := run(t, append([]string{"produce"}, c.args...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("produce %v: %d %s%s; want %d %s", c.args, code, stdout, stderr, exitUsage, c.want)
		}
	}
	if code, _, stderr := run(t, "produce", "--topic", "t", "--csv", "/no/such/file", "--time", "ts"); code != exitFailed || !strings.Contains(stderr, "open /no/such/file") {
		t.Errorf("a file that is not there: %d %s", code, stderr)
	}
}

var start = []string{"--start", "2026-03-01T12:00:00Z", "--partitions", "3"}

// TestProduceSeed: the same seed gives the same records, another one others.
func TestProduceSeed(t *testing.T) {
	broker := newBroker(t)
	for _, feed := range []string{"ble", "pdu", "traffic"} {
		args := append([]string{"--feed", feed, "--events", "500", "--devices", "20", "--disorder", "10s", "--late", "0.1",
			"--duplicates", "0.1", "--malformed", "0.1", "--future", "0.1"}, start...)
		a := mustProduce(t, broker, feed+"-a", args...)
		b := mustProduce(t, broker, feed+"-b", args...)
		c := mustProduce(t, broker, feed+"-c", append(args, "--seed", "2")...)
		if len(a) < 500 || !slices.Equal(a, b) {
			t.Errorf("%s: the same seed gives %d and %d records that differ", feed, len(a), len(b))
		}
		if slices.Equal(a, c) {
			t.Errorf("%s: another seed gives the same", feed)
		}
	}
}

// TestProduceShares: shares of late, future, duplicate and malformed records are kept, and
// no event is missing.
func TestProduceShares(t *testing.T) {
	const events, devices = 20_000, 100
	const late, duplicates, malformed, future = 0.05, 0.02, 0.03, 0.01
	broker := newBroker(t)
	recs := mustProduce(t, broker, "t", append([]string{"--feed", "ble", "--events", fmt.Sprint(events), "--devices", fmt.Sprint(devices), "--period", "10s",
		"--disorder", "5s", "--late", fmt.Sprint(late), "--late-by", "10m", "--duplicates", fmt.Sprint(duplicates),
		"--malformed", fmt.Sprint(malformed), "--future", fmt.Sprint(future)}, start...)...)
	seen := map[string]int{}
	var got struct{ late, duplicates, malformed, future int }
	last := map[int32]time.Time{}
	for _, r := range recs {
		if r.ingest.Before(last[r.part]) {
			t.Fatalf("partition %d: broker timestamps fall", r.part)
		}
		last[r.part] = r.ingest
		seen[r.value]++
		var v struct {
			TS int64 `json:"ts_event"`
		}
		if json.Unmarshal([]byte(r.value), &v) != nil {
			got.malformed++
			continue
		}
		switch by := r.ingest.Sub(time.UnixMilli(v.TS)); {
		case by < -time.Hour:
			got.future++
		case by > 6*time.Second+time.Second: // a duplicate comes up to a second after the first
			got.late++
		case by < 0:
			t.Fatalf("%s arrives %v before it happens", r.value, -by)
		}
	}
	got.duplicates = len(recs) - events
	for name, c := range map[string]struct {
		n     int
		share float64
	}{"late": {got.late, late}, "duplicates": {got.duplicates, duplicates}, "malformed": {got.malformed, malformed}, "future": {got.future, future}} {
		// Four standard deviations of a binomial; a little of late is hidden by the others.
		want := c.share * events
		if tolerance := 4*math.Sqrt(want) + 0.08*want; math.Abs(float64(c.n)-want) > tolerance {
			t.Errorf("%d %s, want %.0f within %.0f", c.n, name, want, tolerance)
		}
	}
	if len(recs) < events || len(seen) < events-got.malformed {
		t.Errorf("%d records, %d unlike: events are missing", len(recs), len(seen))
	}
}

// TestProduceRate: the rate is kept, roughly, and Ctrl-C ends with what was sent.
func TestProduceRate(t *testing.T) {
	broker := newBroker(t)
	began := time.Now()
	recs := mustProduce(t, broker, "rate", append([]string{"--feed", "ble", "--events", "1000", "--rate", "2000"}, start...)...)
	if took := time.Since(began); len(recs) != 1000 || took < 450*time.Millisecond || took > 3*time.Second {
		t.Errorf("%d records in %v, want 1000 in half a second", len(recs), took)
	}

	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	var stdout, stderr lockedBuffer
	code := Main(ctx, append([]string{"produce", "--brokers", broker, "--topic", "ever", "--feed", "ble", "--rate", "1000"}, start...), streams{&stdout, &stderr})
	n := len(readTopic(t, broker, "ever"))
	if code != 0 || n == 0 || n > 1000 || !strings.HasPrefix(stdout.String(), fmt.Sprintf("%d records to ever in ", n)) {
		t.Errorf("stopped: %d, %s%s, %d records in the topic", code, stdout.String(), stderr.String(), n)
	}
}

// TestTelemetryOrder: what arrives is in order of arrival, and every event of a file comes
// once, whatever its order.
func TestTelemetryOrder(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var events []message
	for i := range 2000 {
		events = append(events, message{Event: at.Add(time.Duration(i*7%501) * time.Second), Value: fmt.Appendf(nil, "%d", i)})
	}
	i := 0
	tel := newTelemetry(3, disorder{Within: 20 * time.Second, Late: 0.1, LateBy: time.Minute}, func() (message, bool) {
		if i == len(events) {
			return message{}, false
		}
		i++
		return events[i-1], true
	})
	seen := map[string]bool{}
	var last time.Time
	for {
		m, ok := tel.Next()
		if !ok {
			break
		}
		if m.Arrive.Before(last) || m.Arrive.Before(m.Event) || seen[string(m.Value)] {
			t.Fatalf("event %s of %v arrives at %v, after one at %v", m.Value, m.Event, m.Arrive, last)
		}
		last, seen[string(m.Value)] = m.Arrive, true
	}
	if len(seen) != len(events) {
		t.Errorf("%d events, want %d", len(seen), len(events))
	}
}

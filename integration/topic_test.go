package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// topicJob writes the same rows to files and to topics.
const topicJob = `job: %[1]s
feed: ble
source: {kafka: {brokers: [%[2]s], topic: %[1]s, bounded: %[3]v, stall_after: 5s}}
event_time: {max_disorder: 1s, quiet_after: never}
window: {tumbling: 10s, lateness: 1m, late_delay: 50ms}
normalize: {to: none}
sinks:
  - parquet: {dir: %[4]q, partition_by: day}
  - kafka: {topic: %[1]s_results, partitions: 3}
checkpoint: {dir: %[5]q, interval: 100ms}
http: {listen: ""}
parallelism: {shards: 2, decoders: 2}
`

// TestTopicRunnerKilled: the runner is killed three times while it writes the same rows to files
// and to topics of a real broker. A reader that drops repetitions by their header has exactly
// the rows of the files. It must not see a difference where records are repeated, and must where
// some are missing.
func TestTopicRunnerKilled(t *testing.T) {
	r := newRig(t)
	const name = "topic-killed"
	r.createTopic(t, name, nil)
	dir := t.TempDir()
	write := func(file string, bounded bool) string {
		path := filepath.Join(dir, file)
		must(t, os.WriteFile(path, fmt.Appendf(nil, topicJob, name, r.kafka.Addr(), bounded, filepath.Join(dir, "out"), filepath.Join(dir, "state")), 0o644))
		return path
	}
	live, bounded := write("job.yaml", false), write("bounded.yaml", true)
	producer := r.begin(t, "produce", "--brokers", r.kafka.Addr(), "--topic", name, "--feed", "ble", "--events", "30000", "--devices", "200",
		"--start", "2026-07-31T14:00:00Z", "--disorder", "2s", "--late", "0.05", "--rate", "4000")
	sent := 0
	for i := range 3 {
		p := r.begin(t, "run", "-f", live)
		deadline := time.Now().Add(20 * time.Second)
		for n := sent; n == sent && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			n = len(r.records(t, name+"_results"))
			if n > sent {
				sent = n
				break
			}
		}
		time.Sleep(300 * time.Millisecond)
		p.kill(t)
		t.Logf("kill %d: %d records", i+1, len(r.records(t, name+"_results")))
	}
	if sent == 0 {
		t.Fatal("no run got anywhere before it was killed")
	}
	producer.wait(t)
	r.tidemark(t, "run", "-f", bounded)

	parquet := job{dir: dir}.places()[0]
	for _, c := range []struct {
		topic, table, query string
		line                func(headers map[string]string, row map[string]any) string
	}{
		{name + "_results", "topic_killed", "SELECT asset_id, toUnixTimestamp64Micro(window_start), count, _tm_ver FROM %s", func(h map[string]string, row map[string]any) string {
			return fmt.Sprintf("%s\t%d\t%d\t%d", row["asset_id"], micros(t, row["window_start"]), int64(row["count"].(float64)), number(t, h["tm-lineage"])<<48|number(t, h["tm-epoch"])<<16|number(t, h["tm-revision"]))
		}},
		{name + "_results_late", "topic_killed_late", "SELECT asset_id, _split, _offset, reason FROM %s", func(_ map[string]string, row map[string]any) string {
			return fmt.Sprintf("%s\t%d\t%d\t%s", row["asset_id"], int64(row["_split"].(float64)), int64(row["_offset"].(float64)), row["reason"])
		}},
	} {
		want := r.lines(t, parquet, c.table, c.query)
		slices.Sort(want)
		all := r.records(t, c.topic)
		got := distinct(t, all, c.line)
		t.Logf("%s: %d rows in files, %d records, %d without repetitions", c.topic, len(want), len(all), len(got))
		if len(want) < 100 {
			t.Errorf("%s: only %d rows: the test tests nothing", c.table, len(want))
		}
		sameLines(t, c.topic, got, want)
		// The control: repetitions of the first records, as a lost answer makes them.
		twice := append(slices.Clone(all), all[:50]...)
		if again := distinct(t, twice, c.line); !slices.Equal(again, got) {
			t.Errorf("%s: %d rows with repetitions, %d without", c.topic, len(again), len(got))
		}
		if missing := distinct(t, all[len(all)/2:], c.line); slices.Equal(missing, got) {
			t.Errorf("%s: half of the records are missing, and nobody notices", c.topic)
		}
	}
}

// distinct gives the lines of records without repetitions, which must be repetitions in every
// byte, in order.
func distinct(t *testing.T, all []kafkago.Message, line func(headers map[string]string, row map[string]any) string) []string {
	t.Helper()
	seen := map[string]string{}
	var out []string
	for _, m := range all {
		headers := map[string]string{}
		for _, h := range m.Headers {
			headers[h.Key] = string(h.Value)
		}
		id, is := headers["tm-dedup"], fmt.Sprint(m.Partition, m.Time.UnixMilli(), string(m.Key), string(m.Value), slices.Sorted(maps.Values(headers)))
		if was, there := seen[id]; there {
			if was != is {
				t.Errorf("%s is two rows:\n%s\n%s", id, was, is)
			}
			continue
		}
		seen[id] = is
		var row map[string]any
		must(t, json.Unmarshal(m.Value, &row))
		out = append(out, line(headers, row))
	}
	slices.Sort(out)
	return out
}

// records reads a topic as it is now; one that is not there has none.
func (r *rig) records(t *testing.T, topic string) []kafkago.Message {
	t.Helper()
	conn, err := kafkago.Dial("tcp", r.kafka.Addr())
	must(t, err)
	parts, err := conn.ReadPartitions()
	must(t, err)
	must(t, conn.Close())
	var out []kafkago.Message
	for _, p := range parts {
		if p.Topic == topic {
			out = append(out, r.partition(t, topic, p.ID)...)
		}
	}
	return out
}

func (r *rig) partition(t *testing.T, topic string, part int) []kafkago.Message {
	t.Helper()
	conn, err := kafkago.DialLeader(context.Background(), "tcp", r.kafka.Addr(), topic, part)
	must(t, err)
	defer conn.Close() //nolint:errcheck // it only reads
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	end, err := conn.ReadLastOffset()
	for range 100 { // a topic that was just made
		if !errors.Is(err, kafkago.NotLeaderForPartition) && !errors.Is(err, kafkago.LeaderNotAvailable) {
			break
		}
		time.Sleep(50 * time.Millisecond)
		end, err = conn.ReadLastOffset()
	}
	must(t, err)
	var out []kafkago.Message
	for int64(len(out)) < end {
		batch := conn.ReadBatch(1, 8<<20)
		for {
			m, err := batch.ReadMessage()
			if err != nil {
				break // the end of the batch, or what Close says
			}
			m.Partition = part
			out = append(out, m)
		}
		must(t, batch.Close())
	}
	return out
}

func micros(t *testing.T, v any) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, v.(string))
	must(t, err)
	return at.UnixMicro()
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 48)
	must(t, err)
	return n
}

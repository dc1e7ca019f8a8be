package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

const topicJob = `job: topics
feed: ble
source: {kafka: {brokers: [%q], topic: in, bounded: true}}
event_time: {max_disorder: 1s, quiet_after: never}
window: {tumbling: 10s, lateness: 0s}
normalize: {to: %s}
sinks: [{kafka: {topic: %[2]s, partitions: 2}}]
checkpoint: {dir: state-%[2]s}
http: {listen: ""}
`

// TestTopics runs a job with a topic of results, once as OCSF events, which the validator takes
// as they are, once as plain rows. Late and dead rows have topics of their own, and every row
// is there once with its headers.
func TestTopics(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir, addr := t.TempDir(), broker.ListenAddrs()[0]
	do := func(args ...string) string {
		t.Helper()
		out, err := program(t.Context(), dir, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	do("produce", "--brokers", addr, "--topic", "in", "--feed", "ble", "--events", "900", "--devices", "20", "--start", "2026-07-31T14:00:00Z", "--late", "0.05", "--malformed", "0.01")
	for _, to := range []string{"ocsf", "none"} {
		file := filepath.Join(dir, to+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, topicJob, addr, to), 0o644); err != nil {
			t.Fatal(err)
		}
		promise := "delivery: at_least_once: consumers drop repeats by header tm-dedup"
		if said := do("validate", "-f", file); !strings.Contains(said, promise) {
			t.Errorf("validate says %q", said)
		}
		summary := do("run", "-f", file)
		if !strings.Contains(summary, promise) {
			t.Errorf("run says %q", summary)
		}
		var counts struct{ in, aggregated, late, dead int }
		at := strings.Index(summary, "rows in ")
		if _, err := fmt.Sscanf(summary[max(at, 0):], "rows in %d = aggregated %d + late %d + dead %d", &counts.in, &counts.aggregated, &counts.late, &counts.dead); err != nil {
			t.Fatalf("%v in %s", err, summary)
		}
		rows := topicRows(t, broker, to)
		if late, dead := topicRows(t, broker, to+"_late"), topicRows(t, broker, to+"_dead"); counts.late == 0 || len(late) != counts.late || counts.dead == 0 || len(dead) != counts.dead {
			t.Errorf("%s: %d late and %d dead records, the job counts %+v", to, len(late), len(dead), counts)
		}
		var events bytes.Buffer
		heard := 0
		for _, m := range rows {
			events.Write(m.Value)
			events.WriteByte('\n')
			var row struct {
				Metadata struct{ UID string }
				AssetID  string `json:"asset_id"`
				Count    int
				Start    any `json:"window_start"`
			}
			if err := json.Unmarshal(m.Value, &row); err != nil {
				t.Fatalf("%s: %v", m.Value, err)
			}
			if heard += row.Count; string(m.Key) != row.Metadata.UID+row.AssetID || bytes.Contains(m.Value, []byte("_tm_revision")) {
				t.Fatalf("key %q of %s", m.Key, m.Value)
			}
		}
		if heard != counts.aggregated {
			t.Errorf("%s: %d events are in %d results, the job counts %+v", to, heard, len(rows), counts)
		}
		if to == "none" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "events.jsonl"), events.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		do("ocsf", "validate", "events.jsonl")
		if err := os.WriteFile(filepath.Join(dir, "bad.jsonl"), bytes.Replace(events.Bytes(), []byte(`"severity_id":`), []byte(`"severity_ID":`), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := program(t.Context(), dir, "ocsf", "validate", "bad.jsonl").CombinedOutput(); err == nil {
			t.Errorf("the validator takes an event without severity_id: %s", out)
		}
	}
}

// topicRows reads a topic. Nothing was repeated here, so every tm-dedup is there once.
func topicRows(t *testing.T, c *kfake.Cluster, topic string) []kafkago.Message {
	t.Helper()
	seen := map[string]bool{}
	var out []kafkago.Message
	for _, p := range c.PartitionInfos(topic) {
		conn, err := kafkago.DialLeader(context.Background(), "tcp", c.ListenAddrs()[0], topic, int(p.Partition))
		if err != nil {
			t.Fatal(err)
		}
		for range p.HighWatermark {
			m, err := conn.ReadMessage(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			headers := map[string]string{}
			for _, h := range m.Headers {
				headers[h.Key] = string(h.Value)
			}
			if id := headers["tm-dedup"]; id == "" || seen[id] || headers["tm-lineage"] == "" || headers["tm-epoch"] == "" {
				t.Errorf("%s: headers %v", topic, headers)
			}
			seen[headers["tm-dedup"]] = true
			out = append(out, m)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

const dialectJob = `job: %[1]s
feed: %[2]s
source: {kafka: {brokers: [%[3]q], topic: %[2]s, bounded: true}}
event_time: {quiet_after: never}
%[4]s
normalize: %[5]s
sinks: [{kafka: {topic: %[1]s}}]
checkpoint: {dir: state-%[1]s}
http: {listen: ""}
`

// TestDialects writes the events of every feed to a topic, by windows and by rows, in both
// dialects: the validator takes all of them, with our extension under the uid of the job.
func TestDialects(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "ble", "pdu", "traffic"))
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
	for _, feed := range []string{"ble", "pdu", "traffic"} {
		do("produce", "--brokers", addr, "--topic", feed, "--feed", feed, "--events", "200", "--devices", "10", "--start", "2026-07-31T14:00:00Z")
		for _, c := range []struct{ name, shape, normalize, class string }{
			{"window", "window: {tumbling: 10s}", "{dialect: ext}", map[string]string{"ble": "98805001", "pdu": "98805002", "traffic": "4001"}[feed]},
			{"rows", "rows: true", "{to: ocsf}", map[string]string{"ble": "5001", "pdu": "5001", "traffic": "4001"}[feed]},
			{"extrows", "rows: true", "{dialect: ext, version: 1.3.0}", map[string]string{"ble": "98805001", "pdu": "98805002", "traffic": "4001"}[feed]},
		} {
			job := feed + c.name
			file := filepath.Join(dir, job+".yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, dialectJob, job, feed, addr, c.shape, c.normalize), 0o644); err != nil {
				t.Fatal(err)
			}
			do("run", "-f", file)
			var events bytes.Buffer
			rows := topicRows(t, broker, job)
			for _, m := range rows {
				if !bytes.Contains(m.Value, []byte(`"class_uid":`+c.class+`,`)) {
					t.Fatalf("%s: want class %s: %s", job, c.class, m.Value)
				}
				events.Write(m.Value)
				events.WriteByte('\n')
			}
			if err := os.WriteFile(filepath.Join(dir, job+".jsonl"), events.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			if said := do("ocsf", "validate", "--warnings", "--schema", "tidemark", job+".jsonl"); len(rows) == 0 || !strings.Contains(said, fmt.Sprintf("%[1]d events, %[1]d valid", len(rows))) || strings.Contains(said, "warning ") {
				t.Errorf("%s: %d events: %s", job, len(rows), said)
			}
		}
	}
}

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

package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusedRows: the files and the tables of a job give the commands that look at its refused rows the
// same, and what is requeued comes with its key and the place where it was.
func TestRefusedRows(t *testing.T) {
	r := newRig(t)
	const topic = "refused"
	r.tidemark(t, "produce", "--brokers", r.kafka.Addr(), "--topic", topic, "--feed", "ble", "--devices", "50", "--events", "8000", "--start", "2026-03-01T12:00:00Z",
		"--disorder", "10s", "--late", "0.02", "--malformed", "0.003", "--future", "0.002")
	j := r.newJob(t, "refused-rows", topic, "asset_id", `feed: ble
event_time: {max_disorder: 12s}
window: {tumbling: 10s, aggregates: [{fn: count, as: count}]}
normalize: {to: none}`)
	r.tidemark(t, "run", "-f", j.bounded)
	for name, args := range map[string][]string{
		"dead": {"dead", "ls"}, "late rows": {"dead", "ls", "--late", "--from", "2026-03-01T12:05:00Z"}, "shown": {"dead", "show", "--limit", "5"},
		"shown late": {"dead", "show", "--late", "--limit", "5", "-o", "json"}, "lateness": {"late"},
	} {
		var said []string
		for sink := range 2 {
			said = append(said, r.tidemark(t, append(args, "-f", j.bounded, "--sink", fmt.Sprint(sink+1))...))
		}
		if said[0] != said[1] || strings.Contains(said[0], "\n0 ") {
			t.Errorf("%s: the files say\n%s\nthe tables say\n%s", name, said[0], said[1])
		}
	}
	dead := map[string]bool{}
	for _, place := range strings.Fields(strings.Join(r.lines(t, j.places()[1], j.db+"_dead", "SELECT concat('refused/', toString(_split), '@', toString(_offset)) FROM %s WHERE reason = 'malformed_json'"), "\n")) {
		dead[place] = true
	}
	before := len(r.records(t, topic))
	r.tidemark(t, "dead", "requeue", "-f", j.bounded, "--sink", "2", "--reason", "malformed_json", "--yes")
	r.tidemark(t, "dead", "requeue", "-f", j.bounded, "--sink", "1", "--reason", "malformed_json", "--yes") // the same rows
	was := map[string]string{}
	for i, m := range r.records(t, topic) {
		at := fmt.Sprintf("%s/%d@%d", topic, m.Partition, m.Offset)
		text := fmt.Sprintf("%q %q", m.Key, m.Value)
		was[at] = text
		if len(m.Headers) == 0 {
			continue
		}
		from := string(m.Headers[0].Value)
		if m.Headers[0].Key != "tidemark_requeued" || !dead[from] || was[from] != text || len(m.Key) == 0 {
			t.Errorf("record %d, %s: %v %s, was %s", i, at, m.Headers, text, was[from])
		}
		delete(dead, from)
		before++
	}
	if all := len(was); len(dead) > 0 || all != before || before < 8010 {
		t.Errorf("%d records, %d without a header and with one; %d dead ones were not sent", all, before, len(dead))
	}
}

// TestGatewaysSQL: what a checkpoint knows of the clocks of gateways (docs/assets.md).
func TestGatewaysSQL(t *testing.T) {
	r := newRig(t)
	dir, err := filepath.Abs("../cmd/runner/testdata/checkpoints/fourth-cages")
	must(t, err)
	got, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT gateway_id, skew_us / 1e6 AS skew, skewed, buffered / records AS kept_back, age_p50_us / 1e6 AS age, largest_burst FROM file('%s/state/state/*-front-0.arrow', Arrow)", dir))
	must(t, err)
	if want := "g\t-599\ttrue\t0\t-598\t0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

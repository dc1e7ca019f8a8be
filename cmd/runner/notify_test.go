package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

const notifyJob = `job: racks
feed: pdu
source: {kafka: {brokers: [%[1]q], topic: t, bounded: %[2]v}}
event_time: {max_disorder: 1s, quiet_after: never}
power: {raise: 2, clear: 2}
sinks: [{parquet: {dir: out-%[4]s}}]
notify:
  policies: [{name: ops, rules: [pdu_branch_overload], transitions: [create, close], webhooks: [{url: %[3]q, allow_http: true}]}]
  allow_networks: [127.0.0.0/8]
checkpoint: {dir: %[4]s, interval: 50ms}
http: {listen: ""}
`

// TestNotify runs a job that finds an overload: its receiver is told of the beginning and of the
// end, though the job is killed and started again, and knows repetitions by their key; a job that reads the same from the
// start and ends tells nobody.
func TestNotify(t *testing.T) {
	var mu sync.Mutex
	var told, keys []string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Transition, Entity string
			Event              struct {
				Class int `json:"class_uid"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m.Event.Class != 2004 || r.Header.Get("Idempotency-Key") == "" {
			t.Errorf("a message of class %d: %v", m.Event.Class, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if key := r.Header.Get("Idempotency-Key"); !slices.Contains(keys, key) { // at least once
			keys, told = append(keys, key), append(told, m.Transition+" "+m.Entity)
		}
	}))
	defer hook.Close()
	said := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(told, ", ")
	}
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir, addr := t.TempDir(), broker.ListenAddrs()[0]
	for name, text := range map[string]string{"live.yaml": fmt.Sprintf(notifyJob, addr, false, hook.URL, "state"), "again.yaml": fmt.Sprintf(notifyJob, addr, true, hook.URL, "again")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now().Add(-time.Hour).Truncate(time.Minute)
	send := func(from, to int, amps float64) {
		t.Helper()
		var b bytes.Buffer
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, `{"pdu_id":"R1-A","scope":"line","element":"L1","feed":"A","wiring":"delta","v":230,"a":%g,"w":%g,"rated_a":16,"ts_device":%d}`+"\n", amps, amps*230, start.Add(time.Duration(i)*10*time.Second).UnixMilli())
		}
		if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := program(t.Context(), dir, "produce", "--brokers", addr, "--topic", "t", "--lines", "rows.jsonl").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); said() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("told %q, want %q", said(), want)
			}
		}
	}
	run := func() (kill func()) {
		cmd := program(t.Context(), dir, "run", "-f", "live.yaml")
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			_ = cmd.Process.Signal(syscall.SIGKILL)
			_ = cmd.Wait() // killed
			if t.Failed() {
				t.Log(log.String())
			}
		}
	}
	kill := run()
	defer func() { kill() }()
	send(0, 5, 12)
	send(5, 10, 18) // of 16 A
	until("create R1-A/L1")
	kill()
	send(10, 15, 18)
	kill = run()
	send(15, 25, 12)
	until("create R1-A/L1, close R1-A/L1")
	kill()
	out, err := program(t.Context(), dir, "run", "-f", "again.yaml").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("nobody is notified")) {
		t.Errorf("the job that ends: %v: %s", err, out)
	}
	if got := said(); got != "create R1-A/L1, close R1-A/L1" {
		t.Errorf("told %s", got)
	}
}

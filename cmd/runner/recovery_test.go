package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// recoveryJob keeps every window open for hours after it was shown.
const recoveryJob = `job: recovery
feed: ble
source: {kafka: {brokers: [%q], topic: recovery}}
fields: {asset_id: $.k, ts_event: $.ts}
event_time: {max_disorder: 0s, missing: dead, quiet_after: never, max_ahead: 24h}
window:
  tumbling: 10s
  lateness: 12h
  aggregates: [{fn: count, as: count}, {fn: min, column: rssi_dbm, as: min}, {fn: max, column: rssi_dbm, as: max}]
normalize: {to: none}
sinks: [{parquet: {dir: out, partition_by: none}}]
checkpoint: {dir: state, interval: 5s}
http: {listen: ""}
`

// recoveryLimit is the longest time from a start to the first new row.
const recoveryLimit = 3 * time.Second * slower

// TestRecovery kills the program with SIGKILL while it holds many open windows, and takes
// the time from the next start to the first file with new rows.
func TestRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	keys, kills := 5_000, 3
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		keys, kills = 50_000, 20
	}
	const windows = 20
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "recovery"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, recoveryJob, strings.Join(broker.ListenAddrs(), ",")), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := newRecoveryFeed(t, broker.ListenAddrs())
	for w := range windows {
		for k := range keys {
			f.add(fmt.Sprintf("key-%06d", k), int64(w)*10_000)
		}
		if err := f.send(ctx); err != nil {
			t.Fatal(err)
		}
	}
	fed := make(chan error, 1)
	go func() { fed <- f.live(ctx, windows*10_000) }()
	rng := rand.New(rand.NewPCG(3, 3))
	var took []time.Duration
	for n := range kills + 1 {
		after := checkpointAt(t, filepath.Join(dir, "state"))
		p := program(ctx, dir, "run", "-f", file)
		var out bytes.Buffer
		p.Stdout, p.Stderr = &out, &out
		began := time.Now()
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := published(filepath.Join(dir, "out", "recovery"), after, 60*time.Second); err != nil {
			t.Fatalf("start %d: %v\n%s", n, err, out.String())
		}
		if n > 0 { // the first one has everything to read
			took = append(took, time.Since(began))
		} else {
			time.Sleep(6 * time.Second) // until a checkpoint holds it all
		}
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
		if err := p.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = p.Wait() // killed
	}
	if n := stateRows(t, filepath.Join(dir, "state")); n < keys*windows {
		t.Errorf("the last checkpoint holds %d open windows, want %d and more", n, keys*windows)
	}
	cancel()
	if err := <-fed; err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	p95 := took[(len(took)*95+99)/100-1]
	t.Logf("scoreboard: recovery_open_windows=%d recovery_kills=%d recovery_p50_s=%.2f recovery_p95_s=%.2f", keys*windows, len(took), took[len(took)/2].Seconds(), p95.Seconds())
	if p95 > recoveryLimit {
		t.Errorf("from the start to the first new row it took %v in 95 of 100 cases, %v are allowed", p95, recoveryLimit)
	}
}

// checkpointAt returns the epoch of the checkpoint that counts, 0 for none.
func checkpointAt(t *testing.T, dir string) int64 {
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := pipeline.NewCheckpoints(store, 1, memory.DefaultAllocator).Load(t.Context())
	switch {
	case err != nil:
		t.Fatal(err)
	case cp == nil:
		return 0
	}
	return cp.Epoch
}

// stateRows counts the rows of state in the checkpoint that counts.
func stateRows(t *testing.T, dir string) int {
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	checkpoints := pipeline.NewCheckpoints(store, 1, memory.DefaultAllocator)
	cp, _, err := checkpoints.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = checkpoints.Pieces(t.Context(), cp, func(_ pipeline.PieceRef, p pipeline.Piece) error {
		n += int(p.Rec.NumRows())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// published waits for a file of an epoch after the given one.
func published(dir string, epoch int64, wait time.Duration) error {
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "part-recovery-*.parquet"))
		if err != nil {
			return err
		}
		for _, f := range files {
			var lineage, of int64
			if _, err := fmt.Sscanf(filepath.Base(f), "part-recovery-%d-%d-", &lineage, &of); err != nil {
				return err
			}
			if of > epoch {
				return nil
			}
		}
	}
	return fmt.Errorf("no file of an epoch after %d in %s within %v", epoch, dir, wait)
}

// recoveryFeed sends rows to the topic.
type recoveryFeed struct {
	prod *kafka.Producer
	at   int64 // of event time 0, in milliseconds
	recs []kafka.Record
}

func newRecoveryFeed(t *testing.T, brokers []string) *recoveryFeed {
	conn := source.DefaultConnection()
	conn.Brokers = brokers
	tr, err := conn.Transport()
	if err != nil {
		t.Fatal(err)
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	prod, err := kafka.New(cfg, tr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(prod.Close)
	return &recoveryFeed{prod: prod, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()}
}

func (f *recoveryFeed) add(key string, ms int64) {
	f.recs = append(f.recs, kafka.Record{Key: []byte(key), Value: fmt.Appendf(nil, `{"k":%q,"ts":%d,"rssi_dbm":-70}`, key, f.at+ms), Time: time.Now(), Partition: 0})
}

func (f *recoveryFeed) send(ctx context.Context) error {
	err := f.prod.Produce(ctx, "recovery", f.recs)
	f.recs = nil
	return err
}

// live sends a few rows a second, each second a window of event time later.
func (f *recoveryFeed) live(ctx context.Context, ms int64) error {
	for ; ctx.Err() == nil; ms += 2_000 {
		for k := range 10 {
			f.add(fmt.Sprintf("key-%06d", k), ms)
		}
		if err := f.send(ctx); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// TestRequeueRecords: a record is sent as it was, to where it was, with a header that says where that is.
func TestRequeueRecords(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	records := []rawRecord{{at, []byte("RC-1"), []byte("bad")}, {at, nil, []byte("worse")}, {at, []byte("RC-2"), nil}, {at, []byte("RC-3"), []byte("good")}}
	if err := appendBatch(broker.ListenAddrs()[0], "t", 1, records); err != nil {
		t.Fatal(err)
	}
	cfg := source.DefaultConfig()
	cfg.Brokers, cfg.Topic = broker.ListenAddrs(), "t"
	r := &requeue{refusedFlags: &refusedFlags{}}
	if r.log, err = source.Look(cfg); err != nil {
		t.Fatal(err)
	}
	defer r.log.Close()
	if r.extents, err = r.log.Extents(t.Context()); err != nil {
		t.Fatal(err)
	}
	row := func(split string, offset int64) *refusedRow {
		return &refusedRow{Split: split, Offset: offset, raw: "kept", hasRaw: true, RawBytes: 4}
	}
	rows := []*refusedRow{row("t/0", 7), row("t/1", 0), row("t/1", 1), row("t/1", 2), row("t/1", 9)}
	said := func() string {
		t.Helper()
		whose, records, err := r.records(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for i, rec := range records {
			if len(rec.Headers) != 1 || rec.Headers[0].Key != requeuedHeader || string(rec.Headers[0].Value) != fmt.Sprintf("%s@%d", whose[i].Split, whose[i].Offset) {
				t.Errorf("record of %s@%d has headers %v", whose[i].Split, whose[i].Offset, rec.Headers)
			}
			text += fmt.Sprintf("%s@%d to %d %q=%q; ", whose[i].Split, whose[i].Offset, rec.Partition, rec.Key, rec.Value)
		}
		return text + fmt.Sprintf("gone %d, without value %d", r.gone, r.valuless)
	}
	if got, want := said(), `t/1@0 to 1 "RC-1"="bad"; t/1@1 to 1 ""="worse"; gone 2, without value 1`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	r.fromTable, r.topic, r.gone, r.valuless = true, "other", 0, 0
	rows[4].RawBytes = 5 // the table has a part of it
	if got, want := said(), `t/0@7 to -1 ""="kept"; t/1@0 to -1 "RC-1"="bad"; t/1@1 to -1 ""="worse"; gone 1, without value 1`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestRequeueClaims: what is claimed is not claimed again, by whomever, whatever became of it.
func TestRequeueClaims(t *testing.T) {
	ctx := context.Background()
	cfg := DefaultConfig()
	cfg.Checkpoint.Dir = t.TempDir() + "/state"
	open := func() *requeues {
		t.Helper()
		store, err := openStore(requeueDir(cfg), nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := loadRequeues(ctx, store)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	rows := func(offsets ...int64) (out []*refusedRow) {
		for _, at := range offsets {
			out = append(out, &refusedRow{Split: "t/0", Offset: at})
		}
		return out
	}
	if q, err := readRequeues(ctx, cfg); err != nil || len(q.rows) != 0 {
		t.Fatalf("%v, %v before the first", q, err)
	}
	one, other := open(), open()
	if n, err := one.claim(ctx, "j", "t", rows(3, 4, 5, 9)); n != 1 || err != nil {
		t.Fatalf("claim %d, %v", n, err)
	}
	if _, err := other.claim(ctx, "j", "t", rows(20)); !errors.Is(err, errBusy) {
		t.Errorf("%v: two have the same number", err)
	}
	late := open()
	if _, err := late.claim(ctx, "j", "t", rows(9)); !errors.Is(err, errBusy) {
		t.Errorf("%v: a row was claimed twice", err)
	}
	if n, err := late.claim(ctx, "j", "t", rows(10)); n != 2 || err != nil {
		t.Errorf("claim %d, %v", n, err)
	}
	q, err := readRequeues(ctx, cfg)
	if err != nil || len(q.rows) != 5 || !q.rows[logPlace{"t/0", 4}] || q.rows[logPlace{"t/0", 6}] || len(q.open) != 2 {
		t.Errorf("%+v, %v", q, err)
	}
	if err := late.store.PutIfAbsent(ctx, claimName(claimsDir, 3), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err = readRequeues(ctx, cfg); err == nil || !strings.Contains(err.Error(), "claims/00003.json") {
		t.Errorf("%v: a claim that cannot be read was passed over", err)
	}
}

// TestNeededLateness: with it the last window that a row missed takes it, with a tick less it does not.
func TestNeededLateness(t *testing.T) {
	for _, c := range []struct{ at, end, mark int64 }{{100, 110, 200}, {100, 110, 109}, {-50, -40, 0}} {
		need := needed(&refusedRow{Time: new(tick(c.at)), End: new(tick(c.end)), LateBy: c.mark - c.at})
		late := func(lateness int64) bool { return pipeline.AddTicks(c.end-1, lateness) <= c.mark }
		if late(need) || !late(need-1) {
			t.Errorf("%+v: %d", c, need)
		}
	}
	if got := keptBy([]int64{1, 5, 5, 9}, 5*time.Microsecond); got != 3 {
		t.Errorf("%d rows are kept, want 3", got)
	}
}

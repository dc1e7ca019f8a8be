package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// fingerprint is the number of rows, the sum of their ids modulo 2^64 and their exclusive or.
type fingerprint struct{ count, sum, xor uint64 }

func (f fingerprint) add(g fingerprint) fingerprint {
	return fingerprint{f.count + g.count, f.sum + g.sum, f.xor ^ g.xor}
}

// rowID is operators.RowID in SQL.
const rowID = "intHash64(bitOr(bitShiftLeft(toUInt64(_split), 48), toUInt64(_offset)))"

// The fingerprint of the windows, of which the newest revision counts, and that of single rows.
const (
	windowPrint = `SELECT sum(_tm_fp_count), sum(reinterpretAsUInt64(assumeNotNull(_tm_fp_sum))), groupBitXor(reinterpretAsUInt64(assumeNotNull(_tm_fp_xor)))
		FROM (SELECT * FROM %s ORDER BY _tm_ver DESC LIMIT 1 BY asset_id, window_start)`
	rowPrint = "SELECT count(), sum(id), groupBitXor(id) FROM (SELECT " + rowID + " AS id FROM %s)"
)

// print adds up what a query says of a table of a place. A table without files has no rows.
func (r *rig) print(t *testing.T, p place, table, query string) (f fingerprint) {
	t.Helper()
	for _, l := range r.lines(t, p, table, query) {
		if _, err := fmt.Sscan(l, &f.count, &f.sum, &f.xor); err != nil {
			t.Fatalf("%s: %q: %v", p.name, l, err)
		}
	}
	return f
}

// printOfJob is the left side of the equation: windows, late rows and dead rows.
func (r *rig) printOfJob(t *testing.T, p place, j job) fingerprint {
	t.Helper()
	return r.print(t, p, j.db, windowPrint).add(r.print(t, p, j.db+"_late", rowPrint)).add(r.print(t, p, j.db+"_dead", rowPrint))
}

// printOfTopic is the right side: every record of the topic, as a reader of the log finds it.
func printOfTopic(t *testing.T, r *rig, topic string) (f fingerprint) {
	t.Helper()
	cfg := source.DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.Bounded = []string{r.kafka.Addr()}, topic, true
	src, err := source.Open(context.Background(), cfg, slog.New(slog.DiscardHandler), nil)
	must(t, err)
	defer src.Close() //nolint:errcheck // read to its end
	for {
		ev, err := src.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return f
		}
		must(t, err)
		if ev.Kind != pipeline.Rows {
			continue
		}
		for _, offset := range ev.Wire.Offset {
			id := operators.RowID(ev.Split.Partition, offset)
			f = f.add(fingerprint{1, id, id})
		}
	}
}

// TestRowID: the ids of rows are the engine's hash of their place, so anybody can add them up
// in SQL.
func TestRowID(t *testing.T) {
	r := newRig(t)
	rng := rand.New(rand.NewPCG(48, 64))
	for i := range 100 {
		split, offset := rng.Int32N(1<<15), rng.Int64N(1<<48)
		if i == 0 {
			split, offset = 0, 0
		}
		got, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("SELECT %s FROM (SELECT toInt32(%d) AS _split, toInt64(%d) AS _offset)", rowID, split, offset))
		must(t, err)
		if want := fmt.Sprintln(operators.RowID(split, offset)); got != want {
			t.Fatalf("split %d offset %d: the engine says %s the job %s", split, offset, got, want)
		}
	}
}

// lostOf and doubledOf are a place from which the row of a table with the smallest key is
// missing, and one where it is there twice.
func lostOf(p place, table, key string) place {
	return changed(p, table, "(SELECT * FROM %[1]s WHERE ("+key+") != (SELECT min(("+key+")) FROM %[1]s))")
}

func doubledOf(p place, table, key string) place {
	return changed(p, table, "(SELECT * FROM %[1]s UNION ALL SELECT * FROM %[1]s WHERE ("+key+") = (SELECT min(("+key+")) FROM %[1]s))")
}

func changed(p place, table, query string) place {
	return place{p.name, func(name string) string {
		if name != table {
			return p.table(name)
		}
		return fmt.Sprintf(query, p.table(name))
	}}
}

// TestFingerprints: the runner is killed five times while a topic grows in which some records
// cannot be read. The fingerprints of the windows with the ids of late and dead rows are those
// of all offsets of the topic: by the engine from the Parquet files, by SQL from the tables,
// and by who reads the topic. A row that is lost or there twice breaks the equation.
func TestFingerprints(t *testing.T) {
	r, file := newRig(t), dataFile(t, "indoor-ble/detections.csv")
	const topic = "ble-fingerprints"
	r.createTopic(t, topic, nil)
	producer := r.begin(t, r.produceBLE(file, topic, "--rate", "6000")...)
	unreadable := filepath.Join(t.TempDir(), "unreadable.csv")
	must(t, os.WriteFile(unreadable, []byte("trace_id,ts,rssi_dbm\n"+strings.Repeat("x,1700000000000,loud\n", 50)), 0o644))
	r.tidemark(t, r.produceArgs(topic, unreadable, "--time", "ts")...)
	text := strings.Replace(bleJob(time.Minute, "none"), "  lateness:", "  fingerprints: true\n  lateness:", 1)
	j := r.newJob(t, topic, topic, "asset_id", text)
	rng := rand.New(rand.NewPCG(5, 64))
	for range 5 {
		p := r.begin(t, "run", "-f", j.file)
		time.Sleep(time.Duration(500+rng.IntN(1000)) * time.Millisecond)
		p.kill(t)
	}
	producer.wait(t)
	summary := r.tidemark(t, "run", "-f", j.bounded)
	if strings.Contains(summary, "late 0 ") || strings.Contains(summary, "dead 0 ") {
		t.Fatalf("%s: the equation wants late and dead rows", summary)
	}
	want := printOfTopic(t, r, topic)
	noticed := 0
	for _, p := range j.places() {
		if got := r.printOfJob(t, p, j); got != want {
			t.Errorf("%s: windows, late and dead rows are of rows %+v, the topic has %+v", p.name, got, want)
		}
		for what, planted := range map[string]place{
			"lost window":          lostOf(p, j.db, "asset_id, window_start"),
			"lost late row":        lostOf(p, j.db+"_late", "_split, _offset"),
			"late row there twice": doubledOf(p, j.db+"_late", "_split, _offset"),
			"dead row there twice": doubledOf(p, j.db+"_dead", "_split, _offset"),
		} {
			if r.printOfJob(t, planted, j) == want {
				t.Errorf("%s: %s: not noticed", p.name, what)
				continue
			}
			noticed++
		}
	}
	r.physical(t, j)
	t.Logf("scoreboard: kills=5 fingerprint_rows=%d negative_controls_failed=%d", want.count, noticed)
}

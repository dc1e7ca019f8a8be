package integration

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/tidemark/tidemark/pipeline"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// event is a row of the data as far as a test looks at it. Times are in microseconds,
// values in the resolution of their column.
type event struct {
	key   string
	at    int64
	value int64
}

// csvRows reads a CSV file with its header and turns every row into an event.
func csvEvents(t *testing.T, path string, event1 func(row map[string]string) (event, error)) []event {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close() //nolint:errcheck // read only
	recs, err := csv.NewReader(f).ReadAll()
	must(t, err)
	var out []event
	for i, rec := range recs[1:] {
		row := map[string]string{}
		for j, v := range rec {
			row[recs[0][j]] = v
		}
		e, err := event1(row)
		if err != nil {
			t.Fatalf("%s, row %d: %v", path, i+1, err)
		}
		out = append(out, e)
	}
	return out
}

// topicEvents reads what every partition of a topic holds, in order.
func topicEvents(t *testing.T, r *rig, topic string, event1 func(value map[string]any) event) [][]event {
	t.Helper()
	cfg := source.DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.Bounded = []string{r.kafka.Addr()}, topic, true
	src, err := source.Open(context.Background(), cfg, slog.New(slog.DiscardHandler), nil)
	must(t, err)
	defer src.Close() //nolint:errcheck // read to its end
	var out [][]event
	for {
		ev, err := src.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		for int(ev.Split.Partition) >= len(out) {
			out = append(out, nil)
		}
		if ev.Kind != pipeline.Rows {
			continue
		}
		for i := range ev.Wire.Len() {
			var v map[string]any
			must(t, json.Unmarshal(ev.Wire.Value(i), &v))
			out[ev.Split.Partition] = append(out[ev.Split.Partition], event1(v))
		}
	}
}

// sameEvents fails when two collections differ, whatever the order.
func sameEvents(t *testing.T, what string, got, want []event) {
	t.Helper()
	order := func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key), cmp.Compare(a.value, b.value))
	}
	got, want = slices.SortedFunc(slices.Values(got), order), slices.SortedFunc(slices.Values(want), order)
	if len(got) != len(want) {
		t.Errorf("%s: %d events, want %d", what, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: event %d of the sorted ones is %+v, want %+v", what, i, got[i], want[i])
		}
	}
}

// rules are the rules of time of a job, in microseconds.
type rules struct{ size, bound, lateness int64 }

const second = 1_000_000

// window is a key and a start.
type window struct {
	key   string
	start int64
}

// sums is what a window says of its events.
type sums struct{ count, min, max, sum int64 }

func (s sums) add(v int64) sums {
	if s.count == 0 {
		return sums{1, v, v, v}
	}
	return sums{s.count + 1, min(s.min, v), max(s.max, v), s.sum + v}
}

// tally puts every event into its window.
func tally(events []event, size int64) map[window]sums {
	out := map[window]sums{}
	for _, e := range events {
		w := window{e.key, e.at - (e.at%size+size)%size}
		out[w] = out[w].add(e.value)
	}
	return out
}

// judge applies the rule of lateness as it is written down, one row after the other: a row
// is late when its window's last instant plus lateness is at or behind the mark of its own
// partition, which is the largest time before the row, less the bound and one.
func judge(partitions [][]event, r rules) (onTime, late []event) {
	for _, rows := range partitions {
		seen, newest := false, int64(0)
		for _, e := range rows {
			end := e.at - (e.at%r.size+r.size)%r.size + r.size
			if seen && end-1+r.lateness <= newest-r.bound-1 {
				late = append(late, e)
			} else {
				onTime = append(onTime, e)
			}
			if !seen || e.at > newest {
				seen, newest = true, e.at
			}
		}
	}
	return onTime, late
}

// windowLines are windows as the queries print them: key, start, count, min, max, sum,
// tab separated, in order.
func windowLines(m map[window]sums) []string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b window) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.start, b.start))
	})
	var out []string
	for _, k := range keys {
		s := m[k]
		out = append(out, fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d", k.key, k.start, s.count, s.min, s.max, s.sum))
	}
	return out
}

// eventLines are events as the queries print late rows.
func eventLines(events []event) []string {
	order := func(a, b event) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.at, b.at), cmp.Compare(a.value, b.value))
	}
	var out []string
	for _, e := range slices.SortedFunc(slices.Values(events), order) {
		out = append(out, fmt.Sprintf("%s\t%d\t%d", e.key, e.at, e.value))
	}
	return out
}

// sameLines fails with the first line that differs.
func sameLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: line %d of %d is\n%s\nwant, of %d,\n%s", what, i, len(got), got[i], len(want), want[i])
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d lines, want %d", what, len(got), len(want))
	}
}

// fixed reads a decimal number as an integer of 10 to the minus scale.
func fixed(s string, scale int) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, err
	}
	for range scale {
		f *= 10
	}
	n := int64(f + 0.5)
	if f < 0 {
		n = int64(f - 0.5)
	}
	if d := f - float64(n); d > 1e-6 || d < -1e-6 {
		return 0, fmt.Errorf("%s has more than %d decimals", s, scale)
	}
	return n, nil
}

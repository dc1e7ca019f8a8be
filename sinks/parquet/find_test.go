package parquet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
)

// TestFind: rows are found by all that is said of them, in any row group, by columns in structs
// and by nulls, and only where their time puts them.
func TestFind(t *testing.T) {
	type row struct {
		Key      *string `parquet:"key,optional"`
		Start    int64   `parquet:"start,timestamp(millisecond)"`
		Metadata struct {
			UID *string `parquet:"uid,optional"`
		} `parquet:"metadata"`
		N int64 `parquet:"n"`
	}
	dir := t.TempDir()
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	write := func(hour string, from int64) {
		t.Helper()
		folder := filepath.Join(dir, "t", "dt=2026-03-01", hour)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		var rows []row
		for n := from; n < from+3000; n++ {
			r := row{Start: at.UnixMilli(), N: n}
			if n%3 != 0 {
				r.Key, r.Metadata.UID = new(fmt.Sprint("k", n%3)), new(fmt.Sprint("u", n))
			}
			rows = append(rows, r)
		}
		if err := pq.WriteFile(filepath.Join(folder, "a.parquet"), rows, pq.MaxRowsPerRowGroup(1100), pq.PageBufferSize(512)); err != nil {
			t.Fatal(err)
		}
	}
	write("hour=12", 0)
	write("hour=13", 3000)
	cfg := DefaultConfig()
	cfg.Job, cfg.Table = "j", "t"
	find := func(at int64, where ...Match) (found []int64) {
		t.Helper()
		err := Find(t.Context(), store, cfg, at, where, []string{"n", "metadata.uid", "none"}, func(file string, values []any) error {
			if !strings.HasPrefix(file, "t/dt=2026-03-01/hour=1") || values[2] != nil {
				t.Errorf("file %s, values %v", file, values)
			}
			n := values[0].(int64)
			if want := fmt.Sprint("u", n); n%3 != 0 && values[1] != want || n%3 == 0 && values[1] != nil {
				t.Errorf("row %d has uid %v", n, values[1])
			}
			found = append(found, n)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, c := range []struct {
		at    int64
		where []Match
		want  []int64
	}{
		{pipeline.MinTicks, []Match{{"metadata.uid", "u2500"}}, []int64{2500}},
		{pipeline.MinTicks, []Match{{"metadata.uid", "u4000"}, {"key", "k1"}}, []int64{4000}},
		{pipeline.MinTicks, []Match{{"metadata.uid", "u4000"}, {"key", "k2"}}, nil},
		{pipeline.MinTicks, []Match{{"key", nil}, {"n", int64(2997)}, {"start", at.UnixMicro()}}, []int64{2997}},
		{pipeline.MinTicks, []Match{{"none", "x"}}, nil},
		{at.UnixMicro(), []Match{{"metadata.uid", "u2500"}}, []int64{2500}},
		{at.Add(time.Hour).UnixMicro(), []Match{{"metadata.uid", "u2500"}}, nil},
	} {
		if got := find(c.at, c.where...); !slices.Equal(got, c.want) {
			t.Errorf("%v: rows %v, want %v", c.where, got, c.want)
		}
	}
	if got := find(at.UnixMicro(), Match{"key", "k1"}); len(got) != 1000 || !slices.IsSorted(got) {
		t.Errorf("%d rows have key k1 in that hour, want 1000", len(got))
	}
	stop := errors.New("stop")
	if err := Find(t.Context(), store, cfg, pipeline.MinTicks, []Match{{"n", int64(7)}}, nil, func(string, []any) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the caller becomes %v", err)
	}
}

// TestFindDamaged: a file that is damaged, wherever, is an error and never ends the program.
func TestFindDamaged(t *testing.T) {
	type row struct {
		Key *string `parquet:"key,optional,dict"`
		N   int64   `parquet:"n"`
	}
	dir := t.TempDir()
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "t", "a.parquet")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	var rows []row
	for n := range 300 {
		rows = append(rows, row{new(fmt.Sprint("k", n%7)), int64(n)})
	}
	if err := pq.WriteFile(file, rows, pq.MaxRowsPerRowGroup(110)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Job, cfg.Table = "j", "t"
	refused := 0
	for at := range whole {
		b := slices.Clone(whole)
		b[at] ^= 0x55
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Find(t.Context(), store, cfg, pipeline.MinTicks, []Match{{"key", "k3"}}, []string{"n"}, func(string, []any) error { return nil }); err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

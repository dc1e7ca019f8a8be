package parquet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"github.com/tidemark/tidemark/pipeline"
)

// readSet opens the store of a directory.
func readSet(t *testing.T, dir string) pipeline.Store {
	t.Helper()
	s, err := pipeline.ReadLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// folderRows returns the rows of a scan as texts, in order.
func folderRows(t *testing.T, scan func(leaf func(string, any), row func() error) error) []string {
	t.Helper()
	var out, row []string
	err := scan(func(name string, v any) {
		if at, ok := v.(time.Time); ok {
			v = at.Format(time.RFC3339Nano)
		}
		row = append(row, fmt.Sprintf("%s=%T:%v", name, v, v))
	}, func() error {
		slices.Sort(row)
		out, row = append(out, strings.Join(row, " ")), nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// TestFolder: rows of files of any writer by their time, the values of lists, maps and structs
// by name, and types that are only known by what stands beside them.
func TestFolder(t *testing.T) {
	type point struct {
		X     *int32         `parquet:"x,optional"`
		Names []string       `parquet:"names,list"`
		In    map[string]int `parquet:"in"`
	}
	type row struct {
		Time    *time.Time       `parquet:"time,optional,timestamp(millisecond)"`
		Day     int32            `parquet:"day,date"`
		Old     deprecated.Int96 `parquet:"old"`
		Points  []point          `parquet:"points,list"`
		Plain   []uint32         `parquet:"plain"`
		Price   int64            `parquet:"price,decimal(2:9)"`
		Wide    [4]byte          `parquet:"wide,decimal(1:9)"`
		ID      [16]byte         `parquet:"id,uuid"`
		Big     uint64           `parquet:"big"`
		Single  float32          `parquet:"single"`
		Missing *bool            `parquet:"missing,optional"`
	}
	dir := t.TempDir()
	write := func(name string, rows ...row) {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := pq.WriteFile(filepath.Join(dir, name), rows); err != nil {
			t.Fatal(err)
		}
	}
	at := func(s int64) *time.Time { return new(time.Unix(s, 5e6).UTC()) }
	write("t/dt=1/a.parquet", row{Time: at(1), Day: -1, Old: deprecated.Int96{1000, 0, 2440589}, Price: -105, Wide: [4]byte{255, 255, 255, 254}, ID: [16]byte{1, 15: 2},
		Big: 1 << 63, Single: 0.5, Plain: []uint32{7, 8},
		Points: []point{{X: new(int32(1)), Names: []string{"a", "b"}, In: map[string]int{"k": 1}}, {}, {Names: []string{"c"}, In: map[string]int{"k": 2}}}})
	write("t/b.parquet", row{Time: at(2)}, row{})
	write("t/_tmp/c.parquet", row{Time: at(3)})
	write("t/.d.parquet", row{Time: at(3)})
	write("t_late/e.parquet", row{Time: at(3)})
	ctx := t.Context()
	f, err := OpenFolder(ctx, readSet(t, dir), "t", "time")
	if err != nil {
		t.Fatal(err)
	}
	first, last, rows, timeless, err := f.Span(ctx)
	if err != nil || first != 1_005_000 || last != 2_005_000 || rows != 3 || timeless != 1 || f.Files() != 2 {
		t.Errorf("span %d to %d of %d rows, %d without time, %v", first, last, rows, timeless, err)
	}
	if n, err := f.Count(ctx, 0, 2_000_000); n != 1 || err != nil {
		t.Errorf("%d rows before 2 s, %v", n, err)
	}
	got := folderRows(t, func(leaf func(string, any), row func() error) error {
		return f.Scan(ctx, 1_005_000, 2_005_000, leaf, row)
	})
	want := "big=uint64:9223372036854775808 day=string:1969-12-31T00:00:00Z id=string:01000000-0000-0000-0000-000000000002 old=string:1970-01-02T00:00:00.000001Z " +
		"plain[0]=uint64:7 plain[1]=uint64:8 points[0].in.k=int64:1 points[0].names[0]=string:a points[0].names[1]=string:b points[0].x=int64:1 " +
		"points[2].in.k=int64:2 points[2].names[0]=string:c price=json.Number:-1.05 single=float32:0.5 time=string:1970-01-01T00:00:01.005Z wide=json.Number:-0.2"
	if len(got) != 1 || got[0] != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	got = folderRows(t, func(leaf func(string, any), row func() error) error { return f.ScanTimeless(ctx, leaf, row) })
	if len(got) != 1 || strings.Contains(got[0], "time=") {
		t.Errorf("without time: %v", got)
	}
	// A column whose statistics say nothing of its order is read.
	f, err = OpenFolder(ctx, readSet(t, dir), "t", "old")
	if err != nil {
		t.Fatal(err)
	}
	if first, last, _, _, _ := f.Span(ctx); last != 24*3600*1e6+1 || first >= last {
		t.Errorf("span of old times: %d to %d", first, last)
	}
	for column, want := range map[string]string{"none": "it has no column none", "plain": "it has no column plain", "price": "want a time"} {
		if _, err := OpenFolder(ctx, readSet(t, dir), "t", column); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("time column %s: %v", column, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "t", "z.parquet"), []byte("PAR1 nothing PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(ctx, readSet(t, dir), "t", "time"); err == nil || !strings.Contains(err.Error(), "t/z.parquet: ") {
		t.Errorf("a file that is none: %v", err)
	}
}

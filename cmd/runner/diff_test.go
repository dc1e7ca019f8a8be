package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
)

// diffEvent is a result as some writer has it.
type diffEvent struct {
	Device  diffDevice        `parquet:"device"`
	Start   *int64            `parquet:"start,optional,timestamp(millisecond)"`
	Count   int64             `parquet:"count"`
	Mean    *float64          `parquet:"mean,optional"`
	KWh     int64             `parquet:"kwh,decimal(2:18)"`
	Seen    []diffSeen        `parquet:"seen,list"`
	Unmap   map[string]string `parquet:"unmapped"`
	Version uint64            `parquet:"_tm_ver"`
	Deleted bool              `parquet:"_tm_del"`
}

type diffDevice struct {
	UID  string  `parquet:"uid"`
	Name *string `parquet:"name,optional"`
}

type diffSeen struct {
	Gateway string   `parquet:"gateway"`
	RSSI    []int32  `parquet:"rssi,list"`
	Tags    []string `parquet:"tags,list"`
}

// diffEvents makes n results of devices in hours.
func diffEvents(r *rand.Rand, n int) []diffEvent {
	out := make([]diffEvent, n)
	for i := range out {
		e := diffEvent{Device: diffDevice{UID: fmt.Sprintf("d%d", i%7)}, Count: r.Int64N(9), KWh: r.Int64N(1000), Version: 1,
			Unmap: map[string]string{"firing": fmt.Sprint(r.IntN(9)), "a": fmt.Sprint(r.IntN(3)), "b.c": "x"}}
		if i%10 != 9 { // the others have no time
			e.Start = new(int64(i/7) * 3600_000)
		}
		if r.IntN(3) > 0 {
			e.Mean, e.Device.Name = new(r.Float64()), new("name")
		}
		for range r.IntN(3) {
			s := diffSeen{Gateway: fmt.Sprint("g", r.IntN(3))}
			for range r.IntN(3) {
				s.RSSI, s.Tags = append(s.RSSI, -r.Int32N(90)), append(s.Tags, fmt.Sprint("t", r.IntN(9)))
			}
			e.Seen = append(e.Seen, s)
		}
		if e.Start == nil {
			e.Device.UID += fmt.Sprint("-", i)
		}
		out[i] = e
	}
	return out
}

// writeDiffEvents writes rows in random order into a few files in folders of their own.
func writeDiffEvents(t *testing.T, r *rand.Rand, dir string, rows []diffEvent) {
	t.Helper()
	rows = slices.Clone(rows)
	r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	for i := 0; len(rows) > 0; i++ {
		n := min(len(rows), 1+r.IntN(40))
		path := filepath.Join(dir, fmt.Sprintf("dt=%d", i%3), fmt.Sprintf("part-%d.parquet", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := pq.WriteFile(path, rows[:n], pq.MaxRowsPerRowGroup(15)); err != nil {
			t.Fatal(err)
		}
		rows = rows[n:]
	}
}

// diffOf runs the command and returns its report and exit code.
func diffOf(t *testing.T, args ...string) (diffReport, int, string) {
	t.Helper()
	var out, errs strings.Builder
	code := Main(t.Context(), append([]string{"diff", "-o", "json"}, args...), streams{&out, &errs})
	var report diffReport
	if out.Len() > 0 {
		if err := json.Unmarshal([]byte(out.String()), &report); err != nil {
			t.Fatalf("%v:\n%s", err, out.String())
		}
	}
	return report, code, errs.String()
}

// UnmarshalJSON is the reverse of MarshalJSON.
func (t *tick) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = tick(pipeline.MinTicks)
		return nil
	}
	var at time.Time
	err := json.Unmarshal(b, &at)
	*t = tick(at.UnixMicro())
	return err
}

// TestDiffFindsSeededChanges: each of a hundred changes of one row is found, and that alone,
// whatever the order of files and rows and however few fit into memory; equal sets are equal.
func TestDiffFindsSeededChanges(t *testing.T) {
	kinds := []string{"none", "count", "mean", "decimal", "list", "map", "null", "removed", "added", "key", "time", "withdrawn", "revision"}
	seen := map[string]int{}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		a := diffEvents(r, 40)
		b := slices.Clone(a)
		i := r.IntN(len(b))
		e := b[i]
		want := map[diffKind]int64{diffLate: 0, diffValue: 1, diffMissing: 0, diffExtra: 0}
		column := ""
		kind := kinds[int(seed)%len(kinds)]
		switch kind {
		case "none":
			want[diffValue] = 0
			e.Unmap = map[string]string{"firing": "other", "a": e.Unmap["a"], "b.c": "x"}
		case "count":
			e.Count, column = e.Count+1, "count"
		case "mean":
			e.Mean, column = new(2.0), "mean"
		case "decimal":
			e.KWh, column = e.KWh+1, "kwh"
		case "list":
			e.Seen = append(slices.Clone(e.Seen), diffSeen{Gateway: "new"})
			column = fmt.Sprintf("seen[%d].gateway", len(e.Seen)-1)
		case "map":
			e.Unmap, column = map[string]string{"a": e.Unmap["a"], "b.c": "y"}, "unmapped.b.c"
		case "null":
			column = "device.name"
			if e.Device.Name == nil {
				e.Device.Name = new("")
			} else {
				e.Device.Name = nil
			}
		case "removed":
			b = slices.Delete(b, i, i+1)
			want[diffValue], want[diffMissing] = 0, 1
		case "added":
			added := e
			added.Device.UID = "new"
			b = append(b, added)
			want[diffValue], want[diffExtra] = 0, 1
		case "key":
			e.Device.UID = "other"
			want[diffValue], want[diffMissing], want[diffExtra] = 0, 1, 1
		case "time":
			e.Start = new(int64(seed)*1000 + 1)
			want[diffValue], want[diffMissing], want[diffExtra] = 0, 1, 1
		case "withdrawn":
			gone := e
			gone.Version, gone.Deleted = 2, true
			b = append(b, gone)
			want[diffValue], want[diffMissing] = 0, 1
		case "revision":
			next := e
			next.Version, next.Count = 2, next.Count+5
			b, column = append(b, next), "count"
		}
		if i < len(b) && kind != "removed" {
			b[i] = e
		}
		seen[kind]++
		dir := t.TempDir()
		writeDiffEvents(t, r, filepath.Join(dir, "a"), a)
		writeDiffEvents(t, r, filepath.Join(dir, "b"), b)
		got, code, errs := diffOf(t, "parquet:"+filepath.Join(dir, "a"), "--key", "device.uid", "parquet:"+filepath.Join(dir, "b"),
			"--time", "start", "--slice-rows", fmt.Sprint(15+r.IntN(50)))
		if code != min(1, int(got.total())) || fmt.Sprint(got.Counts) != fmt.Sprint(want) || got.Equal != (got.A.Hash == got.B.Hash) || len(got.Differences) != int(got.total()) {
			t.Fatalf("seed %d, %s: exit %d, %+v\n%s", seed, kind, code, got, errs)
		}
		if column != "" {
			if d := got.Differences[0]; len(d.Columns) != 1 || d.Columns[0].Column != column || d.Key != e.Device.UID {
				t.Errorf("seed %d, %s: %+v", seed, kind, d)
			}
		}
	}
	if len(seen) != len(kinds) {
		t.Errorf("only %v", seen)
	}
}

// memorySet is a rowSet of rows in memory, each a list of values by name.
type memorySet []map[string]any

func (m memorySet) Span(context.Context) (first, last, rows, timeless int64, err error) {
	first, last = pipeline.MaxTicks, pipeline.MinTicks
	for _, r := range m {
		t, ok := r["at"].(time.Time)
		if rows++; !ok {
			timeless++
			continue
		}
		first, last = min(first, t.UnixMicro()), max(last, t.UnixMicro())
	}
	return first, last, rows, timeless, nil
}

// Count says nothing of use, as a bad estimate does.
func (m memorySet) Count(context.Context, int64, int64) (int64, error) { return 1, nil }

func (m memorySet) Scan(_ context.Context, from, to int64, leaf func(string, any), row func() error) error {
	return m.scan(func(t time.Time, ok bool) bool { return ok && from <= t.UnixMicro() && t.UnixMicro() < to }, leaf, row)
}

func (m memorySet) ScanTimeless(_ context.Context, leaf func(string, any), row func() error) error {
	return m.scan(func(_ time.Time, ok bool) bool { return !ok }, leaf, row)
}

func (m memorySet) scan(wanted func(time.Time, bool) bool, leaf func(string, any), row func() error) error {
	for _, r := range m {
		if t, ok := r["at"].(time.Time); !wanted(t, ok) {
			continue
		}
		for name, v := range r {
			leaf(name, v)
		}
		if err := row(); err != nil {
			return err
		}
	}
	return nil
}

func (m memorySet) Close() error { return nil }

// naiveDiff is the plain version: rows by time and key as texts, most of them compared as
// multisets.
func naiveDiff(a, b memorySet) (missing, extra, value int64) {
	sets := [2]map[string]map[string]int{{}, {}}
	for i, set := range []memorySet{a, b} {
		for _, r := range set {
			id := fmt.Sprintf("%v %q %v", r["at"], r["k"], r["l"])
			if sets[i][id] == nil {
				sets[i][id] = map[string]int{}
			}
			sets[i][id][fmt.Sprint(r["v"], r["w"])]++
		}
	}
	count := func(rows map[string]int) (n int64) {
		for _, c := range rows {
			n += int64(c)
		}
		return n
	}
	for id, rows := range sets[0] {
		for text, n := range rows {
			same := min(n, sets[1][id][text])
			if rows[text] -= same; same > 0 {
				sets[1][id][text] -= same
			}
		}
		left, right := count(rows), count(sets[1][id])
		both := min(left, right)
		missing, value = missing+left-both, value+both
		extra += right - both
		delete(sets[1], id)
	}
	for _, rows := range sets[1] {
		extra += count(rows)
	}
	return missing, extra, value
}

// TestDiffAgainstNaive: slices, parts of keys and the merge of sorted rows find what the plain
// version finds, with rows that are there more than once, times and keys that are null, and
// memory for a few rows.
func TestDiffAgainstNaive(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		random := func() memorySet {
			var m memorySet
			for range r.IntN(60) {
				row := map[string]any{"v": int64(r.IntN(2)), "_tm_epoch": r.Int64()}
				if r.IntN(8) > 0 {
					row["at"] = time.UnixMicro(int64(r.IntN(5)))
				}
				if r.IntN(8) > 0 {
					row["k"] = []string{"a", "b|", "%00", "%7C"}[r.IntN(4)]
				}
				if r.IntN(3) > 0 {
					row["l"] = int64(r.IntN(3))
				}
				if r.IntN(3) > 0 {
					row["w"] = r.IntN(2) == 0
				}
				m = append(m, row)
			}
			return m
		}
		a, b := random(), random()
		if r.IntN(4) == 0 {
			b = slices.Clone(a)
			r.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
		}
		d := &diffRun{rule: &diffRule{key: []string{"k", "l"}, time: "at"}, most: 12, counts: map[diffKind]int64{},
			sides: [2]*diffSide{{name: "a", rows: a}, {name: "b", rows: b}}, found: func(rowDifference) error { return nil }}
		if err := d.run(t.Context(), pipeline.MinTicks, pipeline.MaxTicks); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		missing, extra, value := naiveDiff(a, b)
		if d.counts[diffMissing] != missing || d.counts[diffExtra] != extra || d.counts[diffValue] != value {
			t.Fatalf("seed %d: %v, want missing %d, extra %d, value %d", seed, d.counts, missing, extra, value)
		}
		equal := missing+extra+value == 0
		if same := d.sides[0].sum == d.sides[1].sum; same != equal || d.sides[0].sum.rows != int64(len(a)) {
			t.Fatalf("seed %d: hashes %v and %v, equal %v", seed, d.sides[0].sum, d.sides[1].sum, equal)
		}
	}
}

// TestDiffLate: less in a set is explained by more late rows of that key and window in it, and
// by nothing else: not by those of another key or window, nor by as many on both sides, nor
// when the side that has them has more, or as many rows in the window.
func TestDiffLate(t *testing.T) {
	at := func(minute int64) time.Time { return time.UnixMicro(minute * 60e6).UTC() }
	result := func(key string, minute, count int64) map[string]any {
		return map[string]any{"metadata.uid": fmt.Sprintf("agg:op:%s:%d", key, minute*60_000), "at": at(minute), "end_time": (minute + 1) * 60_000, "count": count}
	}
	row := func(key string, minute int64) map[string]any {
		return map[string]any{"site": key[:1], "dev|ice": key[2:], "at": at(minute).Add(30 * time.Second), "time": at(minute).Add(30 * time.Second)}
	}
	a := memorySet{result("a|1", 0, 5), result("a|1", 1, 5), result("a|1", 2, 5), result("a|1", 3, 5), result("a|1", 5, 9), result("a|1", 6, 9), result("b|1", 0, 1)}
	b := memorySet{result("a|1", 0, 4), result("a|1", 2, 6), result("a|1", 3, 6), result("a|1", 5, 8), result("a|1", 6, 9), result("b|1", 0, 2), result("c|1", 9, 1)}
	a[5]["mean"], b[4]["mean"] = 1.0, 2.0
	lateA := memorySet{row("a|1", 3), row("a|2", 2), row("a|1", 4), row("a|1", 5), row("a|1", 6), row("b|1", 0), row("c|1", 9)}
	lateB := memorySet{row("a|1", 0), row("a|1", 0), row("a|1", 1), row("b|1", 0), row("b|1", 1)}
	rule := &diffRule{key: []string{"metadata.uid"}, time: "at"}
	for _, size := range []int64{0, 60e6} {
		var got []string
		d := &diffRun{rule: rule, most: 100, counts: map[diffKind]int64{}, windows: &windowFinder{op: "op", key: []string{"site", "dev|ice"}, end: "end_time", size: size, rule: rule},
			sides: [2]*diffSide{{name: "a", rows: a, late: lateA}, {name: "b", rows: b, late: lateB}},
			found: func(r rowDifference) error {
				got = append(got, fmt.Sprint(r.Kind, " ", r.Key, " ", r.what()))
				return nil
			}}
		if err := d.run(t.Context(), pipeline.MinTicks, pipeline.MaxTicks); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"late agg:op:a|1:0 count: 5 | 4 (2 late rows of the window in b)",
			"value agg:op:b|1:0 count: 1 | 2",
			"late agg:op:a|1:60000 in A only (1 late rows of the window in b)",
			"value agg:op:a|1:120000 count: 5 | 6",
			"late agg:op:a|1:180000 count: 5 | 6 (1 late rows of the window in a)",
			"value agg:op:a|1:300000 count: 9 | 8",
			"value agg:op:a|1:360000 mean: 1 | 2",
			"late agg:op:c|1:540000 in B only (1 late rows of the window in a)",
		}
		if !slices.Equal(got, want) {
			t.Errorf("size %d:\n%s\nwant\n%s", size, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestDiffTolerance: numbers may differ by what is said of their column, whatever their types;
// texts may not, and neither may a number and null.
func TestDiffTolerance(t *testing.T) {
	for _, c := range []struct {
		tolerance string
		a, b      any
		equal     bool
	}{
		{"v=0.01", 1.0, 1.01, true},
		{"v=0.01", 1.0, 1.02, false},
		{"v=1%", 100.0, 99.0, true},
		{"v=1%", int64(-100), -98.9, false},
		{"v=1%", float32(0.1), json.Number("0.1000"), true},
		{"w=1", 1.0, 1.5, false},
		{"v=1", "a", "b", false},
		{"v=1", 1.0, nil, false},
		{"v=0", int64(3), 3.0, true},
		{"v=0", uint64(1 << 63), json.Number("9223372036854775808"), true},
		{"v=0", true, "true", true},
		{"v=0", time.UnixMicro(1).UTC(), "1970-01-01T00:00:00.000001Z", true},
		{"v=0", `[{"x": 1.50}, null]`, `[{"x":1.5}]`, true},
		{"v=1", `[{"x": 1}]`, `[{"x":2}]`, true},
		{"v=1", `[{"x": 1}]`, `[{"x":1},{"x":1}]`, false},
		{"v=1%", math.Inf(1), 5.0, false},
		{"v=1%", math.Inf(1), math.Inf(1), true},
	} {
		tol := tolerances{}
		if err := tol.Set(c.tolerance); err != nil {
			t.Fatal(err)
		}
		set := func(v any) memorySet {
			r := map[string]any{"k": "a", "at": time.UnixMicro(1)}
			if v != nil {
				r["v"] = v
			}
			return memorySet{r}
		}
		d := &diffRun{rule: &diffRule{key: []string{"k"}, time: "at", tolerance: tol}, most: 9, counts: map[diffKind]int64{},
			sides: [2]*diffSide{{rows: set(c.a)}, {rows: set(c.b)}}, found: func(rowDifference) error { return nil }}
		if err := d.run(t.Context(), pipeline.MinTicks, pipeline.MaxTicks); err != nil {
			t.Fatal(err)
		}
		if got := d.counts[diffValue] == 0; got != c.equal {
			t.Errorf("%v and %v with %s: equal %v", c.a, c.b, c.tolerance, got)
		}
	}
}

// TestDiffToleranceInside: what is in a column that has a tolerance may have one of its own.
func TestDiffToleranceInside(t *testing.T) {
	tol := tolerances{"unmapped": {abs: 1}, "unmapped.rssi": {abs: 5}, "unmapped.rssi.max": {abs: 0}}
	r := &diffRule{tolerance: tol}
	for range 50 { // a map has no order
		if r.near("unmapped.count", "1", "3") || !r.near("unmapped.rssi", "1", "3") || r.near("unmapped.rssi.max", "1", "1.5") {
			t.Fatal("not the tolerance of the column that is named most closely")
		}
	}
}

// TestDiffUsage: what is wrong is said, with exit code 2 where it is the command line.
func TestDiffUsage(t *testing.T) {
	dir := t.TempDir()
	a := diffEvents(rand.New(rand.NewPCG(1, 1)), 20)
	b := slices.Clone(a)
	b[3].Version, b[3].Count = 1, 99
	writeDiffEvents(t, rand.New(rand.NewPCG(2, 2)), filepath.Join(dir, "a"), a)
	writeDiffEvents(t, rand.New(rand.NewPCG(2, 2)), filepath.Join(dir, "twice"), append(slices.Clone(a), b[3]))
	set := "parquet:" + filepath.Join(dir, "a")
	identified := []string{"--key", "device.uid", "--time", "start"}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, ""},
		{[]string{set}, 2, "1 sets: want two"},
		{[]string{set, set, set}, 2, "3 sets"},
		{[]string{set, set}, 2, "name it with --time"},
		{[]string{set, set, "--time", "start"}, 2, "name them with --key"},
		{append(identified, set, "live"), 2, "of which job? name its file with -f"},
		{append(identified, set, "table"), 2, `"table" is no set`},
		{append(identified, set, "clickhouse:a.b"), 2, "--url"},
		{append(identified, set, set, "--map-b", "x"), 2, "want theirs=ours"},
		{append(identified, set, set, "--tolerance", "v=-1"), 2, "not negative"},
		{append(identified, set, set, "--from", "now"), 2, "--from"},
		{append(identified, set, set, "-o", "xml"), 2, "table or json"},
		{append(identified, set, "parquet:"+dir+"/none"), 1, "no such file"},
		{append(identified, set, "parquet:"+t.TempDir()), 1, "no file there ends in .parquet"},
		{append(identified, set, "parquet:"+filepath.Join(dir, "twice")), 1, "two rows of key d3 at"},
		{[]string{set, set, "--key", "device.uid", "--time", "when"}, 1, "it has no column when: name its time column, or map it"},
		{append(identified, set, set), 0, ""},
	} {
		_, code, errs := diffOf(t, c.args...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%q: exit %d, %s", c.args, code, errs)
		}
	}
}

// TestDiffColumns: maps, ignored and chosen columns, and a range of time.
func TestDiffColumns(t *testing.T) {
	type theirs struct {
		Device string    `parquet:"dev"`
		At     time.Time `parquet:"at,timestamp(nanosecond)"`
		N      float32   `parquet:"n"`
		Name   string    `parquet:"name"`
	}
	type ours struct {
		Device diffDevice `parquet:"device"`
		Time   int64      `parquet:"time"`
		Count  int64      `parquet:"count"`
		Extra  bool       `parquet:"extra"`
	}
	dir := t.TempDir()
	name := "x"
	write := func(name string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return "parquet:" + filepath.Join(dir, name)
	}
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := write("a", pq.WriteFile(filepath.Join(dir, "a", "1.parquet"), []ours{{diffDevice{"d", &name}, 1000, 3, true}, {diffDevice{"d", &name}, 2000, 4, true}}))
	b := write("b", pq.WriteFile(filepath.Join(dir, "b", "1.parquet"), []theirs{{"d", time.Unix(1, 0), 3, "x"}, {"d", time.Unix(2, 0), 5, "x"}}))
	args := []string{a, b, "--key", "device.uid", "--time", "time", "--map-b", "dev=device.uid,at=time,n=count,name=device.name"}
	for _, c := range []struct {
		more   []string
		values int64
		what   string
	}{
		{nil, 2, "extra: true | null"},
		{[]string{"--ignore", "extra"}, 1, "count: 4 | 5"},
		{[]string{"--only", "device,count"}, 1, "count: 4 | 5"},
		{[]string{"--only", "device"}, 0, ""},
		{[]string{"--ignore", "extra", "--to", "1970-01-01T00:00:02Z"}, 0, ""},
		{[]string{"--ignore", "extra", "--from", "1970-01-01T00:00:02Z"}, 1, "count: 4 | 5"},
		{[]string{"--ignore", "extra", "--tolerance", "count=20%"}, 0, ""},
	} {
		got, _, errs := diffOf(t, append(slices.Clone(args), c.more...)...)
		if got.Counts[diffValue] != c.values || got.total() != c.values || c.values > 0 && got.Differences[0].what() != c.what {
			t.Errorf("%v: %+v\n%s", c.more, got, errs)
		}
	}
}

package operators

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// narrowSchema is modelSchema with ranges declared for columns k, i and d.
func narrowSchema() *arrow.Schema {
	fields := modelSchema().Fields()
	for i, f := range fields {
		if f.Type.ID() == arrow.INT64 && i >= pipeline.NumRowColumns {
			meta := f.Metadata.ToMap()
			meta[pipeline.BitsKey] = fmt.Sprint(narrowBits)
			fields[i].Metadata = arrow.MetadataFrom(meta)
		}
	}
	return arrow.NewSchema(fields, nil)
}

func narrowRecord(mem memory.Allocator, rows []modelRow) arrow.RecordBatch {
	rec := modelRecord(mem, rows)
	defer rec.Release()
	return array.NewRecordBatch(narrowSchema(), rec.Columns(), rec.NumRows())
}

// narrowRows are rows within the declared range, its ends among them.
func narrowRows(rng *rand.Rand, n int) []modelRow {
	rows := make([]modelRow, n)
	for i := range rows {
		rows[i] = modelRow{at: rng.Int64N(100), offset: int64(i), k: rng.Int64N(5), null: rng.IntN(3) == 0, f: rng.Float64(),
			v: []int64{-1 << 30, 1<<30 - 1, rng.Int64N(200) - 100, 0}[rng.IntN(4)]}
	}
	return rows
}

// TestNarrowSame: every aggregate has the same value in the narrow layout as in the wide one,
// whose state goes into a checkpoint and comes back in the other layout as it was.
func TestNarrowSame(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	wide, err := compile(narrowSchema(), modelAggregates())
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := compileNarrow(narrowSchema(), modelAggregates())
	if err != nil {
		t.Fatal(err)
	}
	if narrow.width >= wide.width {
		t.Fatalf("a narrow row has %d words, a wide one %d", narrow.width, wide.width)
	}
	if !arrow.NewSchema(narrow.stateFields(""), nil).Equal(arrow.NewSchema(wide.stateFields(""), nil)) {
		t.Fatal("the layouts have different columns in a checkpoint")
	}
	rng := rand.New(rand.NewPCG(8, 2))
	for round := range 60 {
		rec := narrowRecord(mem, narrowRows(rng, rng.IntN(40)))
		var at []int32
		var ids []uint32
		for i := range int(rec.NumRows()) {
			at, ids = append(at, int32(i)), append(ids, uint32(rng.IntN(3)))
		}
		var rows [2][]uint64
		var xs [2]*extras
		var states [2]arrow.RecordBatch
		for i, p := range []*program{wide, narrow} {
			s, x := &store{width: p.width}, &extras{}
			tab := newTable(s, 0)
			for k := range 3 { // a row without values, merged, must not matter
				id, _ := tab.find(uint64(k), []byte{byte(k)})
				p.init(s.row(id))
			}
			p.update(s, rec, at, ids, x)
			p.merge(s.row(1), s.row(2), x)
			p.merge(s.row(0), s.row(1), x)
			if x.fault != nil {
				t.Fatal(x.fault)
			}
			rows[i], xs[i], states[i] = s.row(0), x, stateOf(mem, p, s.row(0), x)
		}
		want := built(mem, wide, rows[0], xs[0])
		if got := built(mem, narrow, rows[1], xs[1]); !slices.Equal(got, want) {
			t.Fatalf("round %d: narrow %v, wide %v", round, got, want)
		}
		if !array.RecordEqual(states[0], states[1]) {
			t.Fatalf("round %d: the checkpoints differ:\n%v\n%v", round, states[0], states[1])
		}
		for i, p := range []*program{narrow, wide} { // each from the state of the other
			row, x := make([]uint64, p.width), &extras{}
			if _, err := p.restoreState(states[i], 0, 0, row, x); err != nil {
				t.Fatal(err)
			}
			if got := built(mem, p, row, x); !slices.Equal(got, want) {
				t.Fatalf("round %d: restored %v, want %v", round, got, want)
			}
			again := stateOf(mem, p, row, x)
			if !array.RecordEqual(again, states[i]) {
				t.Fatalf("round %d: the state has changed on the way:\n%v\n%v", round, again, states[i])
			}
			again.Release()
		}
		states[0].Release()
		states[1].Release()
		rec.Release()
	}
}

func stateOf(mem memory.Allocator, p *program, row []uint64, x *extras) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, arrow.NewSchema(p.stateFields(""), nil))
	defer b.Release()
	p.appendState(b.Fields(), 1, func(int) []uint64 { return row }, x)
	return b.NewRecordBatch()
}

// TestNarrowWindows: windows of both layouts show the same rows, whatever their shape, when
// their state goes over to the other layout on the way.
func TestNarrowWindows(t *testing.T) {
	for name, shape := range map[string]Shape{"tumbling": TumblingShape(10, 3), "hopping": {Kind: Hopping, Size: 10, Slide: 4}, "stacked": {Kind: Hopping, Size: 40, Slide: 2}} {
		for seed := range uint64(4) {
			want := runLayouts(t, shape, seed, compile, compile)
			for _, layouts := range [][2]layout{{compileNarrow, compileNarrow}, {compile, compileNarrow}, {compileNarrow, compile}} {
				if got := runLayouts(t, shape, seed, layouts[0], layouts[1]); !maps.Equal(got, want) || len(want) < 10 {
					t.Errorf("%s, seed %d: %v\nwant %v", name, seed, got, want)
				}
			}
		}
	}
}

type layout = func(*arrow.Schema, []Aggregate) (*program, error)

// runLayouts runs a window in one layout and, from its checkpoint, in another. It returns
// the last row of every key and window.
func runLayouts(t *testing.T, shape Shape, seed uint64, first, second layout) map[string]string {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	cfg := WindowConfig{Shape: shape, Lateness: 15, Trigger: OnMark, LateRows: 2, Retract: true, SkipUnchanged: true, Keys: []string{"k"}}
	for _, fn := range []string{"count", "sum", "min", "max", "mean", "last", "variance"} {
		cfg.Aggregates = append(cfg.Aggregates, Aggregate{Fn: fn, Column: "i", As: fn})
	}
	if !cfg.narrow() {
		t.Fatal("the window is not narrow")
	}
	open := func(l layout) *Window {
		w, err := newWindow(cfg, narrowSchema(), mem, l)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	keyer, err := pipeline.NewKeyer(narrowSchema(), cfg.Keys, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := lastRows{}
	rng := rand.New(rand.NewPCG(seed, 3))
	w := open(first)
	for step := range 20 {
		rows := narrowRows(rng, 12)
		for i := range rows {
			rows[i].at = int64(step*5) + rng.Int64N(14)
		}
		rec := narrowRecord(mem, rows)
		err := w.Process(pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Passed: pipeline.MinTicks}, out)
		rec.Release()
		if err == nil {
			err = w.Advance(pipeline.Mark{Event: int64(step * 5)}, out)
		}
		if err != nil {
			t.Fatal(err)
		}
		if step%7 != 3 {
			continue
		}
		next := open(second)
		err = w.Snapshot(true, func(p pipeline.Piece) error { return GiveBack(next, p) })
		if err != nil {
			t.Fatal(err)
		}
		w, first, second = next, second, first
	}
	if err := w.Advance(pipeline.Mark{Event: pipeline.MaxTicks}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// lastRows keeps the last row of every key and window as text.
type lastRows map[string]string

func (l lastRows) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p != pipeline.Out {
		return fmt.Errorf("a row on port %v", p)
	}
	for i := range int(b.Rec.NumRows()) {
		key, row := "", ""
		for c := range int(b.Rec.NumCols()) {
			v := b.Rec.ColumnName(c) + "=" + b.Rec.Column(c).ValueStr(i) + " "
			if c < 3 { // key, start, end
				key += v
			} else {
				row += v
			}
		}
		l[key] = row
	}
	return nil
}

func (l lastRows) Count(pipeline.Fate, int32, int64) {}

// TestNarrowFaults: what a narrow accumulator cannot take is an error, of folds, merges and
// restores alike, and the row beside it in the word keeps its value.
func TestNarrowFaults(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	p, err := compileNarrow(narrowSchema(), []Aggregate{{Fn: "count", As: "rows"}, {Fn: "count", Column: "i", As: "n"},
		{Fn: "sum", Column: "i", As: "sum"}, {Fn: "min", Column: "i", As: "min"}, {Fn: "max", Column: "i", As: "max"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  []int64 // rows, n, sum, sign of the sum, min, max
		v    int64
		want string // of a fold; "" when it fits
	}{
		"fits":      {[]int64{math.MaxUint32 - 1, math.MaxUint32 - 1, 5, 0, 5, 5}, 7, ""},
		"rows":      {[]int64{math.MaxUint32, 1, 5, 0, 5, 5}, 7, "state rows: a window has more rows of a key than 32 bits count"},
		"n":         {[]int64{1, math.MaxUint32, 5, 0, 5, 5}, 7, "state n_i: a window has more rows"},
		"sum":       {[]int64{1, 1, math.MaxInt64 - 6, 0, 5, 5}, 7, "state sum_i: "},
		"minus sum": {[]int64{1, 1, math.MinInt64 + 6, -1, -7, 5}, -7, "state sum_i: "},
		"low":       {[]int64{1, 1, 5, 0, 5, 5}, -1<<30 - 1, "state min_i: value -1073741825 is beyond the range"},
		"high":      {[]int64{1, 1, 5, 0, 5, 5}, 1 << 30, "value 1073741824 is beyond the range"},
		"far":       {[]int64{1, 1, 5, 0, 5, 5}, math.MinInt64, "value -9223372036854775808 is beyond the range"},
		"sentinel":  {[]int64{1, 1, 5, 0, 5, 5}, math.MaxInt32, "value 2147483647 is beyond the range"},
	} {
		for _, null := range []bool{false, true} { // a column with nulls is folded elsewhere
			s, x := &store{width: p.width}, &extras{}
			id, _ := newTable(s, 0).find(1, []byte("a"))
			restore(t, mem, p, s.row(id), c.set, "")
			rec := narrowRecord(mem, []modelRow{{v: c.v}, {null: true}})
			at, ids := []int32{0, 1}[:1], []uint32{id, id}[:1]
			if !null {
				rec.Release()
				rec = narrowRecord(mem, []modelRow{{v: c.v}})
			}
			p.update(s, rec, at, ids, x)
			rec.Release()
			if c.want == "" && x.fault != nil || c.want != "" && (x.fault == nil || !strings.Contains(x.fault.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", name, x.fault, c.want)
			}
			if got := built(mem, p, s.row(id), x); name == "rows" && got[1] != "2" {
				t.Errorf("%s: the count beside it is %s, want 2", name, got[1])
			}
		}
	}
	a, b, x := make([]uint64, p.width), make([]uint64, p.width), &extras{}
	restore(t, mem, p, a, []int64{math.MaxUint32, 1, 5, 0, 5, 5}, "")
	restore(t, mem, p, b, []int64{1, 1, 5, 0, 5, 5}, "")
	if p.merge(a, b, x); x.fault == nil {
		t.Error("a merge of 2^32 rows is taken")
	}
	restore(t, mem, p, a, []int64{1 << 32, 1, 5, 0, 5, 5}, "column rows_0, row 0: 4294967296 rows of a key")
	restore(t, mem, p, a, []int64{1, 1, 5, 1, 5, 5}, "column sum_i_0, row 0: the sum does not fit")
	restore(t, mem, p, a, []int64{1, 1, 5, 0, 1 << 30, 5}, "column min_i_0, row 0: value 1073741824 is beyond the range")
}

// restore sets a row from the words of the wide layout and wants the error.
func restore(t *testing.T, mem memory.Allocator, p *program, row []uint64, words []int64, want string) {
	t.Helper()
	b := array.NewRecordBuilder(mem, arrow.NewSchema(p.stateFields(""), nil))
	defer b.Release()
	for i, v := range words {
		b.Field(i).(*array.Int64Builder).Append(v)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	_, err := p.restoreState(rec, 0, 0, row, &extras{})
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("restore %v: %v, want %q", words, err, want)
	}
}

// TestNarrowFault: a window whose rows break what their column declares returns the error
// before it shows anything.
func TestNarrowFault(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, trigger := range []Trigger{OnMark, OnUpdate} {
		cfg := WindowConfig{Shape: TumblingShape(10, 0), Trigger: trigger, Keys: []string{"k"}, Aggregates: []Aggregate{{Fn: "max", Column: "i", As: "max"}}}
		w, err := NewWindow(cfg, narrowSchema(), mem)
		if err != nil {
			t.Fatal(err)
		}
		keyer, err := pipeline.NewKeyer(narrowSchema(), cfg.Keys, 0)
		if err != nil {
			t.Fatal(err)
		}
		rec := narrowRecord(mem, []modelRow{{v: 1 << 40}})
		out := lastRows{}
		err = w.Process(pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Passed: pipeline.MinTicks}, out)
		rec.Release()
		if err == nil || !strings.Contains(err.Error(), "value 1099511627776 is beyond the range that the column declares") || len(out) != 0 {
			t.Errorf("%s: %v, shown %v", trigger, err, out)
		}
	}
}

package operators

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// modelRow is a row as the model of the aggregates sees it: v is the integer of column i
// and of the fixed-point column d, f of column f; all are null together.
type modelRow struct {
	at     int64
	split  int32
	offset int64
	k, v   int64
	f      float64
	null   bool
}

func modelSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "k", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "d", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "2"})},
		arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}), nil)
}

func modelRecord(mem memory.Allocator, rows []modelRow) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, modelSchema())
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
		b.Field(1).(*array.Int32Builder).Append(r.split)
		b.Field(2).(*array.Int64Builder).Append(r.offset)
		b.Field(3).(*array.TimestampBuilder).Append(0)
		b.Field(4).(*array.Int64Builder).Append(r.k)
		if r.null {
			for c := 5; c < 9; c++ {
				b.Field(c).AppendNull()
			}
			continue
		}
		b.Field(5).(*array.Int64Builder).Append(r.v)
		b.Field(6).(*array.Int64Builder).Append(r.v)
		b.Field(7).(*array.Float64Builder).Append(r.f)
		b.Field(8).(*array.StringBuilder).Append(fmt.Sprint("device ", r.v))
	}
	return b.NewRecordBatch()
}

// modelAggregates is every function of every column that takes it, with and without where.
func modelAggregates() []Aggregate {
	aggs := []Aggregate{{Fn: "count"}, {Fn: "distinct", Column: "s"}, {Fn: "count", Column: "s"},
		{Fn: "collect", Column: "i"}, {Fn: "collect_by_ts", Column: "i"}, {Fn: "collect", Column: "i", Cap: 5}, {Fn: "collect_by_ts", Column: "i", Cap: 5},
		{Fn: "sum", Column: "k"}, {Fn: "mean", Column: "k"}, {Fn: "variance", Column: "k"}, {Fn: "min", Column: "k"}, {Fn: "last", Column: "k"}}
	q := []float64{0, 0.25, 0.5, 0.99, 1}
	for _, col := range []string{"i", "d", "f"} {
		for _, fn := range []string{"count", "sum", "min", "max", "mean", "variance", "first", "last", "distinct", "increase", "rate"} {
			aggs = append(aggs, Aggregate{Fn: fn, Column: col})
		}
		aggs = append(aggs, Aggregate{Fn: "increase", Column: col, Wrap: 100}, Aggregate{Fn: "rate", Column: col, Wrap: 100})
		for i := range q {
			aggs = append(aggs, Aggregate{Fn: "quantile", Column: col, Q: &q[i]})
		}
	}
	for _, where := range []string{"k > 2", "k = 100"} {
		for _, g := range aggs {
			if g.Where == "" {
				g.Where = where
				aggs = append(aggs, g)
			}
		}
	}
	for i, g := range aggs {
		aggs[i].As = fmt.Sprint(i, "_", g.Fn, "_", g.Column)
	}
	return aggs
}

// TestAggregateModel: rows in any order, folded into several accumulators that go through
// checkpoints and are merged in any tree, give the bits that one accumulator gives for the
// rows in order, and what a plain model with exact numbers gives.
func TestAggregateModel(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	aggs := modelAggregates()
	p, err := compile(modelSchema(), aggs)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.filters) != 2 {
		t.Errorf("%d filters for two texts", len(p.filters))
	}
	rng := rand.New(rand.NewPCG(3, 4))
	s, x := &store{width: p.width}, &extras{}
	tab := newTable(s, 0)
	names := []string{"whole", "a", "bb", "ccc", "dddd"}
	row := func(name string) uint32 {
		id, _ := tab.find(uint64(len(name)), []byte(name))
		p.init(s.row(id))
		return id
	}
	for round := range 60 {
		rows := make([]modelRow, 1+rng.IntN(40))
		spread := []int64{10, 300, math.MaxInt64 / 3}[round%3]
		for i := range rows {
			rows[i] = modelRow{at: rng.Int64N(5e6) - 2e6, split: rng.Int32N(2), offset: int64(i), k: rng.Int64N(5), null: rng.IntN(4) == 0,
				v: rng.Int64N(spread) - spread/4, f: math.Ldexp(rng.Float64()-0.2, rng.IntN(12))}
			if rng.IntN(2) == 0 { // equal event times
				rows[i].at = 0
			}
		}
		rec := modelRecord(mem, rows)
		at := make([]int32, len(rows))
		for i := range at {
			at[i] = int32(i)
		}
		whole := row(names[0])
		p.update(s, rec, at, slices.Repeat([]uint32{whole}, len(at)), x)
		want := built(mem, p, s.row(whole), x)
		for i, g := range aggs {
			if wrong := judge(g, rows, want[i]); wrong != "" {
				t.Fatalf("round %d: %s where %q of %d rows: %s", round, g.As, g.Where, len(rows), wrong)
			}
		}
		rng.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
		var parts []uint32
		for _, name := range names[1:] {
			parts = append(parts, row(name))
		}
		for chunk := range slices.Chunk(at, 1+rng.IntN(20)) {
			ids := make([]uint32, len(chunk))
			for i := range ids {
				ids[i] = parts[rng.IntN(len(parts))]
			}
			p.update(s, rec, chunk, ids, x)
		}
		rec.Release()
		for len(parts) > 1 {
			i := rng.IntN(len(parts) - 1)
			into, from := parts[i], parts[i+1]
			if rng.IntN(2) == 0 {
				into, from = from, into
			}
			p.merge(s.row(into), s.row(from), x)
			parts[i] = into
			parts = slices.Delete(parts, i+1, i+2)
			if rng.IntN(2) == 0 {
				throughCheckpoint(t, mem, p, s.row(into), x)
			}
		}
		arrived := make([]modelRow, len(rows))
		for i, r := range at {
			arrived[i] = rows[r]
		}
		got := built(mem, p, s.row(parts[0]), x)
		for i, g := range aggs {
			if g.Fn == "collect" {
				if wrong := judge(g, arrived, got[i]); wrong != "" {
					t.Fatalf("round %d: merged %s: %s", round, g.As, wrong)
				}
			} else if got[i] != want[i] {
				t.Fatalf("round %d: %s where %q of %d rows: %s, merged %s", round, g.As, g.Where, len(rows), want[i], got[i])
			}
		}
		for i := range p.outs {
			if p.outs[i].fn != "collect" && !p.outs[i].same(s.row(whole), s.row(parts[0]), x) {
				t.Fatalf("round %d: %s is not the same", round, aggs[i].As)
			}
		}
		for i := range tab.rows {
			p.drop(s.row(tab.id(i)), x)
		}
		allGivenBack(t, x)
	}
	if n := len(x.quantiles.all); n > len(names)*3*3 {
		t.Errorf("%d quantile sketches for %d rows of 9: they are not used again", n, len(names))
	}
}

// allGivenBack fails when a list or sketch is still held.
func allGivenBack(t *testing.T, x *extras) {
	t.Helper()
	if len(x.lists.free) != len(x.lists.all) || len(x.distincts.free) != len(x.distincts.all) || len(x.quantiles.free) != len(x.quantiles.all) {
		t.Fatalf("of %d lists, %d and %d sketches %d, %d and %d were given back", len(x.lists.all), len(x.distincts.all), len(x.quantiles.all),
			len(x.lists.free), len(x.distincts.free), len(x.quantiles.free))
	}
}

// throughCheckpoint replaces the accumulators of a row by what a checkpoint of them holds.
func throughCheckpoint(t *testing.T, mem memory.Allocator, p *program, row []uint64, x *extras) {
	t.Helper()
	b := array.NewRecordBuilder(mem, arrow.NewSchema(p.stateFields(""), nil))
	defer b.Release()
	if rest := p.appendState(b.Fields(), 1, func(int) []uint64 { return row }, x); len(rest) != 0 {
		t.Fatalf("%d columns are left over", len(rest))
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	p.drop(row, x)
	if _, err := p.restoreState(rec, 0, 0, row, x); err != nil {
		t.Fatal(err)
	}
}

// built returns the values of a row as text, floats to the bit.
func built(mem memory.Allocator, p *program, row []uint64, x *extras) []string {
	var out []string
	for i := range p.outs {
		b := array.NewBuilder(mem, p.outs[i].field.Type)
		p.outs[i].build(b, row, x)
		a := b.NewArray()
		switch c := a.(type) {
		case *array.Float64:
			out = append(out, floatText(c.Value(0)))
			if c.IsNull(0) {
				out[i] = "null"
			}
		default:
			out = append(out, strings.ReplaceAll(a.ValueStr(0), "(null)", "null"))
		}
		a.Release()
		b.Release()
	}
	return out
}

func floatText(f float64) string { return fmt.Sprintf("%v (%b)", f, f) }

// judge compares the value of an aggregate with that of the rows, which are in order of
// arrival. It returns what is wrong.
func judge(g Aggregate, rows []modelRow, got string) string {
	var seen []modelRow
	n := 0
	for _, r := range rows {
		if g.Where == "k > 2" && r.k <= 2 || g.Where == "k = 100" {
			continue
		}
		n++
		if !r.null || g.Column == "k" || g.Column == "" {
			seen = append(seen, r)
		}
	}
	scale := int64(1)
	if g.Column == "d" {
		scale = 100
	}
	exact := func(r modelRow) *big.Rat {
		switch g.Column {
		case "f":
			return new(big.Rat).SetFloat64(r.f)
		case "k":
			return big.NewRat(r.k, 1)
		}
		return big.NewRat(r.v, scale)
	}
	near := func(v *big.Rat) string { // rounded more than once
		want, _ := v.Float64()
		var f float64
		if _, err := fmt.Sscan(got, &f); err != nil || math.Abs(f-want) > 1e-14*math.Abs(want) {
			return fmt.Sprintf("%s, want %v", got, want)
		}
		return ""
	}
	is := func(want string) string {
		if got == want {
			return ""
		}
		return fmt.Sprintf("%s, want %s", got, want)
	}
	number := func(v *big.Rat) string { // as the column of sum, min, first and increase has it
		switch {
		case g.Column == "d":
			return near(v) // above 2^53 rounded before the division too
		case g.Column == "f":
			f, _ := v.Float64()
			return is(floatText(f))
		case !v.Num().IsInt64():
			return is("null")
		}
		return is(v.Num().String())
	}
	ordered := slices.Clone(seen)
	slices.SortFunc(ordered, func(a, b modelRow) int {
		return slices.Compare([]int64{a.at, int64(a.split), a.offset}, []int64{b.at, int64(b.split), b.offset})
	})
	sum, squares := new(big.Rat), new(big.Rat)
	different := map[string]bool{}
	for _, r := range seen {
		sum.Add(sum, exact(r))
		squares.Add(squares, new(big.Rat).Mul(exact(r), exact(r)))
		different[exact(r).String()] = true
	}
	count := big.NewRat(int64(max(1, len(seen))), 1)
	list := func(from []modelRow) string {
		most := g.Cap
		if most == 0 {
			most = CollectCap
		}
		text := []string{}
		for _, r := range from[:min(most, len(from))] {
			text = append(text, fmt.Sprint(r.v))
		}
		return "[" + strings.Join(text, ",") + "]"
	}
	switch g.Fn {
	case "count":
		return is(fmt.Sprint(len(seen)))
	case "distinct":
		return is(fmt.Sprint(len(different)))
	case "collect":
		return is(list(seen))
	case "collect_by_ts":
		return is(list(ordered))
	}
	if len(seen) == 0 {
		return is("null")
	}
	switch g.Fn {
	case "sum":
		return number(sum)
	case "mean":
		return near(sum.Quo(sum, count))
	case "variance":
		if len(seen) < 2 {
			return is("null")
		}
		mean := new(big.Rat).Quo(sum, count)
		sum := new(big.Rat)
		for _, r := range seen {
			d := new(big.Rat).Sub(exact(r), mean)
			sum.Add(sum, d.Mul(d, d))
		}
		f, _ := sum.Quo(sum, big.NewRat(int64(len(seen)-1), 1)).Float64()
		return is(floatText(f))
	case "first":
		return number(exact(ordered[0]))
	case "last":
		return number(exact(ordered[len(ordered)-1]))
	}
	sorted := slices.Clone(seen)
	slices.SortFunc(sorted, func(a, b modelRow) int { return exact(a).Cmp(exact(b)) })
	switch g.Fn {
	case "min":
		return number(exact(sorted[0]))
	case "max":
		return number(exact(sorted[len(sorted)-1]))
	case "quantile":
		var f float64
		if _, err := fmt.Sscan(got, &f); err != nil {
			return err.Error()
		}
		rank := *g.Q * float64(len(sorted)-1)
		for _, at := range []float64{math.Floor(rank), math.Ceil(rank)} {
			if want, _ := exact(sorted[int(at)]).Float64(); math.Abs(f-want) <= 1.0000001*quantileAccuracy*math.Abs(want) {
				return ""
			}
		}
		return fmt.Sprintf("%v is not within 1 %% of a value at rank %v", f, rank)
	}
	if len(ordered) < 2 {
		return is("null")
	}
	increase := new(big.Rat)
	wrap, half := big.NewRat(g.Wrap, 1), big.NewRat(g.Wrap, 2)
	for i, r := range ordered[1:] {
		prev, cur := exact(ordered[i]), exact(r)
		switch {
		case cur.Cmp(prev) >= 0:
			increase.Add(increase, cur).Sub(increase, prev)
		case g.Wrap > 0 && prev.Cmp(half) >= 0 && prev.Cmp(wrap) < 0 && cur.Sign() >= 0 && cur.Cmp(half) < 0:
			increase.Add(increase, cur).Add(increase, wrap).Sub(increase, prev)
		case cur.Sign() > 0:
			increase.Add(increase, cur)
		}
	}
	span := ordered[len(ordered)-1].at - ordered[0].at
	switch {
	case g.Fn == "rate" && span == 0:
		return is("null")
	case g.Fn == "rate":
		return near(increase.Quo(increase, big.NewRat(span, 1e6)))
	}
	return number(increase)
}

// TestListCap: the first in order are kept, whatever comes when; the others are counted.
// A counter with values beyond the cap has no increase.
func TestListCap(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	p, err := compile(modelSchema(), []Aggregate{{Fn: "collect_by_ts", Column: "i", As: "l"}, {Fn: "increase", Column: "i", As: "u"}, {Fn: "rate", Column: "i", As: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.accs) != 1 {
		t.Errorf("%d accumulators for points that can be shared", len(p.accs))
	}
	for _, extra := range []int{0, 1, CollectCap + 5} {
		rows := make([]modelRow, CollectCap+extra)
		for i := range rows {
			rows[i] = modelRow{at: int64(i), v: int64(i)}
		}
		rng := rand.New(rand.NewPCG(8, uint64(extra)))
		rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		rec := modelRecord(mem, rows)
		s, x := &store{width: p.width}, &extras{}
		tab := newTable(s, 0)
		var at []int32
		var ids []uint32
		for i := range rows {
			id, added := tab.find(uint64(i%3), []byte{byte(i % 3)})
			if added {
				p.init(s.row(id))
			}
			at, ids = append(at, int32(i)), append(ids, id)
		}
		p.update(s, rec, at, ids, x)
		rec.Release()
		sum := s.row(tab.id(0))
		p.merge(sum, s.row(tab.id(1)), x)
		throughCheckpoint(t, mem, p, sum, x)
		p.merge(sum, s.row(tab.id(2)), x)
		list := x.list(p.accs[0].of(sum), CollectCap)
		if len(list) != CollectCap || list[0].val != 0 || list[CollectCap-1].val != CollectCap-1 {
			t.Errorf("%d too many: %d values from %d to %d", extra, len(list), list[0].val, list[len(list)-1].val)
		}
		got := built(mem, p, sum, x)[1:]
		want := []string{"null", "null"}
		if extra == 0 {
			want = []string{"9999", floatText(1e6)}
		}
		if !slices.Equal(got, want) || x.dropped != int64(3*extra) {
			t.Errorf("%d too many: increase and rate %v, want %v; %d dropped, want %d", extra, got, want, x.dropped, 3*extra)
		}
	}
}

// TestOverflow: what does not fit is null and counted.
func TestOverflow(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	p, err := compile(modelSchema(), []Aggregate{{Fn: "sum", Column: "i", As: "sum"}, {Fn: "mean", Column: "i", As: "mean"}, {Fn: "increase", Column: "i", As: "up"},
		{Fn: "rate", Column: "i", As: "rate"}, {Fn: "variance", Column: "f", As: "var"}, {Fn: "sum", Column: "d", As: "fixed"}})
	if err != nil {
		t.Fatal(err)
	}
	rec := modelRecord(mem, []modelRow{{at: 0, v: math.MaxInt64, f: 1e300}, {at: 1e6, v: math.MaxInt64 - 1, f: -1e300}})
	defer rec.Release()
	s, x := &store{width: p.width}, &extras{}
	id, _ := newTable(s, 0).find(1, []byte("a"))
	p.init(s.row(id))
	p.update(s, rec, []int32{0, 1}, []uint32{id, id}, x)
	got := built(mem, p, s.row(id), x)
	// The step down by one is a reset to nearly 2^63.
	want := []string{"null", floatText(math.MaxInt64), fmt.Sprint(math.MaxInt64 - 1), floatText(math.MaxInt64), "null", floatText(math.MaxInt64 / 50.0)}
	if !slices.Equal(got, want) || x.overflows != 2 {
		t.Errorf("got %v, want %v; %d overflows, want 2", got, want, x.overflows)
	}
	p.update(s, rec, []int32{1, 0}, []uint32{id, id}, x)
	p.update(s, rec, []int32{1, 0}, []uint32{id, id}, x)
	if got := built(mem, p, s.row(id), x)[2:4]; got[0] == "null" || got[1] == "null" {
		t.Errorf("the same points again: %v", got) // equal points: no step
	}
}

// TestAggregateErrors: every mistake is named with its fix.
func TestAggregateErrors(t *testing.T) {
	q, out, nan := 0.5, -0.1, math.NaN()
	for _, c := range []struct {
		g    Aggregate
		want string
	}{
		{Aggregate{Fn: "mode", Column: "i", As: "x"}, "aggregate mode(i) as x: unknown function; known are count, sum"},
		{Aggregate{Fn: "count"}, "aggregate count(): a name for the result (as) is missing"},
		{Aggregate{Fn: "sum", Column: "j", As: "x"}, `"j" is not a column of the rows; there are time`},
		{Aggregate{Fn: "sum", Column: "s", As: "x"}, "column s has type utf8: sum takes numbers"},
		{Aggregate{Fn: "max", Column: "s", As: "x"}, "column s has type utf8: max takes numbers and times"},
		{Aggregate{Fn: "variance", Column: "time", As: "x"}, "variance takes numbers"},
		{Aggregate{Fn: "collect", Column: "d", As: "x"}, "column d has type int64, scale 2: collect takes integers"},
		{Aggregate{Fn: "quantile", Column: "i", As: "x"}, "q is missing"},
		{Aggregate{Fn: "quantile", Column: "i", As: "x", Q: &out}, "q -0.1: must be 0 to 1"},
		{Aggregate{Fn: "quantile", Column: "i", As: "x", Q: &nan}, "q NaN: must be 0 to 1"},
		{Aggregate{Fn: "sum", Column: "i", As: "x", Q: &q}, "q belongs to quantile"},
		{Aggregate{Fn: "sum", Column: "i", As: "x", Wrap: 5}, "wrap belongs to increase and rate"},
		{Aggregate{Fn: "rate", Column: "i", As: "x", Wrap: -5}, "wrap -5: must be above 0"},
		{Aggregate{Fn: "rate", Column: "d", As: "x", Wrap: math.MaxInt64 / 50}, "with the 2 decimals of column d it must be below 2^63"},
		{Aggregate{Fn: "sum", Column: "i", As: "x", Cap: 5}, "cap belongs to collect"},
		{Aggregate{Fn: "collect", Column: "i", As: "x", Cap: -1}, "cap -1: must be 1 to 10000"},
		{Aggregate{Fn: "count", As: "x", Where: "i >"}, "where: filter at 4"},
	} {
		if _, err := compile(modelSchema(), []Aggregate{c.g}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.g, err, c.want)
		}
	}
	_, err := compile(modelSchema(), []Aggregate{{Fn: "sum", Column: "i", Wrap: 5, Cap: 3}, {Fn: "count", As: "x"}, {Fn: "count", As: "x"}})
	for _, want := range []string{"(as) is missing", "wrap belongs", "cap belongs", `column "x" already`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}

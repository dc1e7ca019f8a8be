package operators

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// TestStateValue: the words of a checkpoint read as the results that they are, by whoever knows
// the column; and as words, not as another number, by whoever does not.
func TestStateValue(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	rows := modelSchema()
	var aggs []Aggregate
	for _, col := range []string{"i", "d", "f"} {
		for _, fn := range []string{"sum", "min", "max", "first", "last"} {
			aggs = append(aggs, Aggregate{Fn: fn, Column: col, As: fn + "_" + col})
		}
	}
	p, err := compile(rows, aggs)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for round := range 50 {
		var in []modelRow
		for i := range round {
			in = append(in, modelRow{at: rng.Int64N(1000), offset: int64(i), v: rng.Int64N(1e6) - 5e5, f: rng.Float64() - 0.5, null: rng.IntN(4) == 0})
		}
		s, x := &store{width: p.width}, &extras{}
		id, _ := newTable(s, 0).find(1, []byte("k"))
		p.init(s.row(id))
		rec := modelRecord(mem, in)
		at, ids := make([]int32, len(in)), make([]uint32, len(in))
		for i := range in {
			at[i], ids[i] = int32(i), id
		}
		p.update(s, rec, at, ids, x)
		rec.Release()
		want := built(mem, p, s.row(id), x)
		for i, o := range p.outs {
			var words []int64
			for _, w := range o.acc.of(s.row(id)) {
				words = append(words, int64(w))
			}
			value := StateValue(o.acc.name, words, rows.Field(o.acc.col))
			got := fmt.Sprint(value)
			if f, ok := value.(float64); ok {
				got = floatText(f)
			}
			if value == nil {
				got = "null"
			}
			if aggs[i].Fn == "sum" && want[i] == "null" { // of no values: the count beside it says so
				want[i] = got
			}
			if got != want[i] {
				t.Fatalf("round %d, %s: %s, want %s", round, o.acc.name, got, want[i])
			}
		}
	}
	for _, c := range []struct {
		name  string
		words []int64
		want  string
	}{
		{"rows", []int64{7}, "7"},
		{"min_f", []int64{orderedBits(0.5)}, fmt.Sprint(orderedBits(0.5))},
		{"max_f where x > 1", []int64{math.MinInt64}, "<nil>"},
		{"sum_i", []int64{0, 1}, "18446744073709551616"},
		{"squares_i", []int64{-1, 0, 0}, "18446744073709551615"},
		{"what_is_this", []int64{1, 2, 3, 4}, "[1 2 3 4]"},
		{"none", nil, "[]"},
	} {
		if got := fmt.Sprint(StateValue(c.name, c.words, arrow.Field{})); got != c.want {
			t.Errorf("%s %d: %s, want %s", c.name, c.words, got, c.want)
		}
	}
}

func TestHeaderOf(t *testing.T) {
	word := int64(headPending | headNew | 3<<headPanes | 4<<headWaiting | 5<<headLate)
	if h := HeaderOf(word); h != (Header{Pending: true, Panes: 3, Waiting: 4, Late: 5}) {
		t.Errorf("%+v", h)
	}
}

// TestStateKindOf: every operator's pieces are told apart; those of nobody are unknown.
func TestStateKindOf(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	i64 := arrow.PrimitiveTypes.Int64
	window := arrow.NewSchema([]arrow.Field{{Name: "_group", Type: arrow.PrimitiveTypes.Uint8}, {Name: "key", Type: arrow.BinaryTypes.Binary},
		{Name: "fired", Type: arrow.FixedWidthTypes.Boolean}, {Name: "due", Type: i64}, {Name: "head", Type: i64}}, nil)
	gateways := arrow.NewSchema([]arrow.Field{{Name: "_split", Type: arrow.PrimitiveTypes.Int32}, {Name: "gateway_id", Type: arrow.BinaryTypes.String}, {Name: "_offset", Type: i64}}, nil)
	other := arrow.NewSchema([]arrow.Field{{Name: "x", Type: i64}}, nil)
	for _, c := range []struct {
		id     string
		schema *arrow.Schema
		want   StateKind
	}{
		{"0_10", window, StateWindows}, {"then_0_10", window, StateThen}, {"slice_0_10", window, StateSlices}, {"then_slice_0_10", window, StateSlices},
		{"delta_0_10", window, StateDeltas}, {"mark", window, StateMark}, {"then_mark", window, StateMark}, {"clocks", window, StateClocks},
		{"10", dedupeSchema(), StateDedupe}, {"table", enrichState(), StateTable}, {"keys_3", keyedSchema(), StateKeys},
		{"clock", gateways, StateGateways}, {"rows_0", other, StateUnknown}, {"", arrow.NewSchema(nil, nil), StateUnknown},
	} {
		b := array.NewRecordBuilder(mem, c.schema)
		rec := b.NewRecordBatch()
		b.Release()
		if got := StateKindOf(pipeline.Piece{ID: c.id, Rec: rec}); got != c.want {
			t.Errorf("%q: %s, want %s", c.id, got, c.want)
		}
		rec.Release()
	}
	if b, err := PieceBounds("then_-10_20"); err != nil || b != (Bounds{-10, 20}) {
		t.Errorf("%v, %v", b, err)
	}
	if _, err := PieceBounds("then_"); err == nil {
		t.Error("no window, and no error")
	}
}

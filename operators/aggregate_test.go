package operators

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// TestMerge: rows folded into several accumulators that are then merged, in any order,
// give what one accumulator gives; what was given back is used again.
func TestMerge(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true}), nil)
	var aggs []Aggregate
	for _, fn := range []string{"count", "sum", "min", "max", "mean", "first", "last", "collect", "collect_by_ts"} {
		aggs = append(aggs, Aggregate{Fn: fn, Column: "i", As: fn + "_i"})
		if fn != "collect" && fn != "collect_by_ts" {
			aggs = append(aggs, Aggregate{Fn: fn, Column: "f", As: fn + "_f"})
		}
	}
	aggs = append(aggs, Aggregate{Fn: "count", As: "rows"})
	p, err := compile(schema, aggs)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	s, x := store{width: p.width}, &extras{}
	tab := newTable(&s, 0)
	row := func(name string) uint32 {
		id, _ := tab.find(uint64(len(name)), []byte(name))
		p.init(s.row(id))
		return id
	}
	for round := range 50 {
		b := array.NewRecordBuilder(mem, schema)
		n := rng.IntN(40)
		for i := range n {
			b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(rng.IntN(5) - 2))
			b.Field(1).(*array.Int32Builder).Append(int32(rng.IntN(2)))
			b.Field(2).(*array.Int64Builder).Append(int64(i))
			b.Field(3).(*array.TimestampBuilder).Append(0)
			if rng.IntN(4) == 0 {
				b.Field(4).AppendNull()
				b.Field(5).AppendNull()
				continue
			}
			b.Field(4).(*array.Int64Builder).Append(rng.Int64() - 1<<62)
			b.Field(5).(*array.Float64Builder).Append((rng.Float64() - 0.5) * []float64{1, 1e30, 1e-30}[rng.IntN(3)])
		}
		rec := b.NewRecordBatch()
		b.Release()
		whole, parts := row("whole"), []uint32{row("a"), row("b"), row("c")}
		var all, into []uint32
		var at []int32
		for i := range n {
			at, all, into = append(at, int32(i)), append(all, whole), append(into, parts[rng.IntN(len(parts))])
		}
		arrived := x.arrived
		p.update(&s, rec, at, all, x)
		x.arrived = arrived // the same rows once more
		p.update(&s, rec, at, into, x)
		rec.Release()
		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		sum := row("merged")
		for _, id := range parts {
			p.merge(s.row(sum), s.row(id), x)
		}
		if got, want := built(mem, p, s.row(sum), x), built(mem, p, s.row(whole), x); got != want {
			t.Fatalf("round %d, %d rows:\n got %s\nwant %s", round, n, got, want)
		}
		for i := range tab.rows {
			p.drop(s.row(tab.id(i)), x)
		}
	}
	if len(x.lists.all) > 2*5 {
		t.Errorf("%d lists of 10 at a time: they are not used again", len(x.lists.all))
	}
}

// TestMergeCap: two lists that are too long together keep the first in order.
func TestMergeCap(t *testing.T) {
	x := &extras{}
	a, b := make([]uint64, 2), make([]uint64, 2)
	for i := range CollectCap + 5 {
		x.add(a, point{val: int64(i), at: int64(2*i + 1)}, CollectCap)
		x.add(b, point{val: int64(-i), at: int64(2 * i)}, CollectCap)
	}
	x.mergeList(a, b, CollectCap)
	got := x.list(a, CollectCap)
	if len(got) != CollectCap || got[0].at != 0 || got[CollectCap-1].at != CollectCap-1 {
		t.Errorf("%d values from order %d to %d", len(got), got[0].at, got[len(got)-1].at)
	}
}

func built(mem memory.Allocator, p *program, row []uint64, x *extras) string {
	text := ""
	for i := range p.outs {
		b := array.NewBuilder(mem, p.outs[i].field.Type)
		p.outs[i].build(b, row, x)
		a := b.NewArray()
		text += fmt.Sprintf(" %s=%s", p.outs[i].field.Name, a.ValueStr(0))
		a.Release()
		b.Release()
	}
	return text
}

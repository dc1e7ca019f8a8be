package operators

import (
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

// sketched is a row with one sketch, folded from values in some order and some pieces.
func sketched[T any](x *extras, rng *rand.Rand, values []T, add func(acc []uint64, v T), merge func(dst, src []uint64), again func(acc []uint64)) []uint64 {
	values = slices.Clone(values)
	rng.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	var parts [][]uint64
	for len(values) > 0 {
		n := min(len(values), 1+rng.IntN(30_000))
		acc := make([]uint64, 1)
		for _, v := range values[:n] {
			add(acc, v)
		}
		values = values[n:]
		parts = append(parts, acc)
	}
	for len(parts) > 1 {
		i := rng.IntN(len(parts) - 1)
		merge(parts[i], parts[i+1])
		parts = slices.Delete(parts, i+1, i+2)
		again(parts[i])
	}
	return parts[0]
}

// TestDistinctSketch: exact up to distinctExact, then within four standard errors; the same
// estimate whatever the order and the merges, and through checkpoints.
func TestDistinctSketch(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	x := &extras{}
	a := accumulator{op: accDistinct}
	again := func(acc []uint64) {
		b := x.encode(a, acc)
		x.dropDistinct(acc)
		if err := x.decode(a, acc, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{1, 100, distinctExact, distinctExact + 1, 600, 2000, 10_000, 30_000, 100_000} {
		hashes := make([]uint64, 0, 2*n)
		for i := range n {
			hashes = append(hashes, hashWord(uint64(i)))
			if i%3 == 0 {
				hashes = append(hashes, hashWord(uint64(i)))
			}
		}
		var counts []int64
		for range 3 {
			acc := sketched(x, rng, hashes, x.addDistinct, x.mergeDistinct, again)
			d := x.distincts.at(acc[0])
			counts = append(counts, d.count())
			if n > distinctExact && (d.regs == nil || d.hashes != nil) || d.bytes() > 2*distinctBytes {
				t.Errorf("%d values: %d bytes", n, d.bytes())
			}
		}
		if counts[1] != counts[0] || counts[2] != counts[0] {
			t.Errorf("%d values: estimates %v depend on the order", n, counts)
		}
		bound := 0.0
		if n > distinctExact {
			bound = 4 * 1.04 / math.Sqrt(1<<distinctPrecision)
		}
		off := math.Abs(float64(counts[0])-float64(n)) / float64(n)
		if off > bound {
			t.Errorf("%d values: counted %d, off by %.2f %%", n, counts[0], 100*off)
		}
	}
	for _, bad := range [][]byte{{7}, {distinctHashes, 1, 2}, {distinctRegisters, 9}, append([]byte{distinctHashes}, make([]byte, 8*(distinctExact+1))...)} {
		if err := x.decode(a, make([]uint64, 1), bad); err == nil {
			t.Errorf("%d bytes of form %d were taken for a sketch", len(bad), bad[0])
		}
	}
}

// TestQuantileSketch: within 1 % of the value at the rank, the same bits whatever the order
// and the merges, and through checkpoints; values that spread too far go together at the
// end closest to 0 and leave the others right.
func TestQuantileSketch(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	x := &extras{}
	a := accumulator{op: accQuantile}
	again := func(acc []uint64) {
		b := x.encode(a, acc)
		x.dropQuantile(acc)
		if err := x.decode(a, acc, b); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		value func() float64
		from  float64 // least quantile within the accuracy
	}{
		"normal":   {func() float64 { return rng.NormFloat64() * 1000 }, 0},
		"heavy":    {func() float64 { return math.Exp(rng.NormFloat64() * 4) }, 0},
		"ints":     {func() float64 { return float64(int64(rng.Uint64()) >> rng.IntN(63)) }, 0},
		"constant": {func() float64 { return -40 }, 0},
		"far":      {func() float64 { return math.Ldexp(1+rng.Float64(), rng.IntN(2000)-1000) }, 0.99},
		"extreme":  {func() float64 { return []float64{1.26e308, -1.26e308, 0}[rng.IntN(3)] }, 0},
	} {
		values := make([]float64, 100_000)
		for i := range values {
			values[i] = c.value()
		}
		first := sketched(x, rng, values, x.addQuantile, x.mergeQuantile, again)
		second := sketched(x, rng, values, x.addQuantile, x.mergeQuantile, again)
		slices.Sort(values)
		for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
			o := output{fn: "quantile", acc: a, q: q}
			got, same := o.value(first, x).f, o.value(second, x).f
			if math.Float64bits(got) != math.Float64bits(same) {
				t.Errorf("%s: quantile %v is %v and %v for two orders", name, q, got, same)
			}
			if q < c.from {
				continue
			}
			rank := q * float64(len(values)-1)
			low, high := values[int(math.Floor(rank))], values[int(math.Ceil(rank))]
			if got < low-1.0000001*quantileAccuracy*math.Abs(low) || got > high+1.0000001*quantileAccuracy*math.Abs(high) {
				t.Errorf("%s: quantile %v is %v, want %v to %v", name, q, got, low, high)
			}
		}
		if n := quantileBytes(*x.quantiles.at(first[0])); n > 2*8*quantileBins {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
	if err := x.decode(a, make([]uint64, 1), []byte{0xFF, 1, 2}); err == nil {
		t.Error("bytes of nothing were taken for a sketch")
	}
}

// TestHashes: equal values have equal hashes, also -0 and 0, and the hashes are those that
// checkpoints of other versions hold.
func TestHashes(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	for _, c := range []struct {
		typ    arrow.DataType
		values string // as JSON
		want   []uint64
	}{
		{arrow.BinaryTypes.String, `["", "a", "a"]`, []uint64{0xef46db3751d8e999, 0xd24ec4f1a98c6e5b, 0xd24ec4f1a98c6e5b}},
		{arrow.BinaryTypes.Binary, `["", "YQ=="]`, []uint64{0xef46db3751d8e999, 0xd24ec4f1a98c6e5b}},
		{arrow.PrimitiveTypes.Int64, `[0, 1, -1]`, []uint64{0x34c96acdcadb1bbb, 0x9f29cb17a2a49995, 0x85d136adb773c6c9}},
		{arrow.PrimitiveTypes.Int32, `[0, 1, -1]`, []uint64{0x34c96acdcadb1bbb, 0x9f29cb17a2a49995, 0x85d136adb773c6c9}},
		{pipeline.Timestamp, `["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"]`, []uint64{0x34c96acdcadb1bbb, 0x9f29cb17a2a49995, 0x85d136adb773c6c9}},
		{arrow.FixedWidthTypes.Boolean, `[false, true]`, []uint64{0x34c96acdcadb1bbb, 0x9f29cb17a2a49995}},
		{arrow.PrimitiveTypes.Float64, `[0, -0.0, 1]`, []uint64{0x34c96acdcadb1bbb, 0x34c96acdcadb1bbb, 0x949522f153a1a395}},
	} {
		col, _, err := array.FromJSON(mem, c.typ, strings.NewReader(c.values))
		if err != nil {
			t.Fatal(err)
		}
		at := make([]int32, col.Len())
		for i := range at {
			at[i] = int32(i)
		}
		if got := appendHashes(nil, col, at); !slices.Equal(got, c.want) || !hashable(c.typ) {
			t.Errorf("%s %s: hashes %#x, want %#x", c.typ, c.values, got, c.want)
		}
		col.Release()
	}
	if hashable(arrow.ListOf(arrow.PrimitiveTypes.Int64)) {
		t.Error("lists are hashable")
	}
}

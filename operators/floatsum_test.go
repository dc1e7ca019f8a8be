package operators

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

func sumOf(vs []float64) float64 {
	acc := make([]uint64, floatSumWords)
	for _, v := range vs {
		addFloat(acc, v)
	}
	return floatSum(acc)
}

// TestFloatSumOrder: whatever the order, the same bits; and the exact sum, rounded once,
// while all values lie within 2^96 of each other.
func TestFloatSumOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	for n := range 400 {
		spread := []int{1, 20, 40, 900}[n%4]
		vs := make([]float64, 1+rng.IntN(60))
		for i := range vs {
			vs[i] = math.Ldexp(rng.Float64()-0.5, rng.IntN(spread)-spread/2)
		}
		if n%7 == 0 { // cancellation, denormals, ends of the range
			vs = append(vs, -vs[0], 5e-324, -5e-324, 1e300, -1e300)
		}
		want := sumOf(vs)
		for range 5 {
			rng.Shuffle(len(vs), func(i, j int) { vs[i], vs[j] = vs[j], vs[i] })
			if got := sumOf(vs); math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("case %d: %b and %b for two orders of %v", n, got, want, vs)
			}
		}
		if spread > 40 || n%7 == 0 {
			continue
		}
		exact := new(big.Float).SetPrec(4000)
		for _, v := range vs {
			exact.Add(exact, new(big.Float).SetFloat64(v))
		}
		if f, _ := exact.Float64(); f != want {
			t.Fatalf("case %d: %v, exact is %v", n, want, f)
		}
	}
}

// TestFloatSumPlainDiffers shows that the property is not free: adding up as it comes
// gives other bits in another order.
func TestFloatSumPlainDiffers(t *testing.T) {
	a := []float64{0.1, 0.2, 0.3, 1e16, -1e16}
	b := []float64{1e16, 0.1, 0.2, 0.3, -1e16}
	plain := func(vs []float64) (s float64) {
		for _, v := range vs {
			s += v
		}
		return s
	}
	if plain(a) == plain(b) {
		t.Skip("these values no longer show it")
	}
	if sumOf(a) != sumOf(b) || sumOf(a) != 0.6 {
		t.Errorf("%v and %v, want 0.6", sumOf(a), sumOf(b))
	}
}

func TestInt128(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	acc := make([]uint64, 2)
	want := new(big.Int)
	for range 2000 {
		v := int64(rng.Uint64())
		addInt(acc, v)
		want.Add(want, big.NewInt(v))
		if sumBig(acc).Cmp(want) != 0 {
			t.Fatalf("sum %v, want %v", sumBig(acc), want)
		}
		if got, ok := sumInt64(acc); ok != want.IsInt64() || ok && got != want.Int64() {
			t.Fatalf("int64 %v %v of %v", got, ok, want)
		}
	}
}

func TestOrderedBits(t *testing.T) {
	vs := []float64{math.Inf(-1), -1e300, -1, -5e-324, 0, 5e-324, 1, 1e300, math.Inf(1)}
	for i := 1; i < len(vs); i++ {
		if orderedBits(vs[i-1]) >= orderedBits(vs[i]) {
			t.Errorf("%v and %v are out of order", vs[i-1], vs[i])
		}
		if fromOrderedBits(orderedBits(vs[i])) != vs[i] {
			t.Errorf("%v does not come back", vs[i])
		}
	}
	if orderedBits(math.Copysign(0, -1)) != orderedBits(0) {
		t.Error("-0 and 0 differ")
	}
}

// varianceOf folds values in their order and returns their variance.
func varianceOf(vs []float64) value {
	o := output{fn: "variance", float: true, counted: true, acc: accumulator{op: accSumFloat, word: 1}, squares: accumulator{op: accSquareFloat, word: 1 + floatSumWords}}
	row := make([]uint64, 1+floatSumWords+floatSquareWords)
	for _, v := range vs {
		row[0]++
		addFloat(o.acc.of(row), v)
		addFloatSquare(o.squares.of(row), v)
	}
	return o.value(row, &extras{})
}

// TestFloatVariance: values that hardly differ, on top of a large one, do not cancel; and
// whatever the order, the same bits.
func TestFloatVariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for name, value := range map[string]func() float64{
		"unit":      rng.Float64,
		"last bit":  func() float64 { return 1e9 + math.Ldexp(float64(rng.IntN(3)), -23) },
		"denormal":  func() float64 { return math.Float64frombits(uint64(rng.IntN(5))) },
		"signs":     rng.NormFloat64,
		"large":     func() float64 { return rng.NormFloat64() * 1e150 },
		"factor":    func() float64 { return math.Ldexp(1+rng.Float64(), rng.IntN(11)) },
		"identical": func() float64 { return 0.1 },
	} {
		for range 50 {
			vs := make([]float64, 2+rng.IntN(40))
			sum := new(big.Rat)
			for i := range vs {
				vs[i] = value()
				sum.Add(sum, new(big.Rat).SetFloat64(vs[i]))
			}
			n := int64(len(vs))
			mean, want := sum.Quo(sum, big.NewRat(n, 1)), new(big.Rat)
			for _, v := range vs {
				d := new(big.Rat).SetFloat64(v)
				d.Sub(d, mean)
				want.Add(want, d.Mul(d, d))
			}
			exact, _ := want.Quo(want, big.NewRat(n-1, 1)).Float64()
			for range 3 {
				if got := varianceOf(vs); got.f != exact || got.null || got.overflow {
					t.Fatalf("%s: variance %v of %v, exact is %v", name, got, vs, exact)
				}
				rng.Shuffle(len(vs), func(i, j int) { vs[i], vs[j] = vs[j], vs[i] })
			}
		}
	}
	for range 200 { // any spread: right to the last bits, and the same ones in any order
		vs := make([]float64, 2+rng.IntN(40))
		var largest float64
		for i := range vs {
			vs[i] = math.Ldexp(rng.Float64()-0.5, rng.IntN(900)-450)
			largest = max(largest, math.Abs(vs[i]))
		}
		first := varianceOf(vs).f
		slices.Sort(vs)
		if again := varianceOf(vs).f; math.Float64bits(again) != math.Float64bits(first) {
			t.Fatalf("variance %b and %b for two orders of %v", first, again, vs)
		}
		if n := float64(len(vs)); first < largest*largest/n/2 {
			t.Fatalf("variance %v of %v, whose largest is %v", first, vs, largest)
		}
	}
	if got := varianceOf([]float64{1e200, -1e200}); !got.overflow {
		t.Errorf("variance %v does not fit float64", got)
	}
	if got := varianceOf([]float64{1}); !got.null {
		t.Errorf("variance %v of one value", got)
	}
}

package operators

import (
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// An output builds one result column from accumulators.
type output struct {
	field   arrow.Field
	fn      string
	acc     accumulator // the one that holds the value
	squares accumulator // of variance: the sum of squares
	n       accumulator // the number of values
	counted bool        // n is there; else there is always a value
	scale   int
	float   bool // source column is float64
	q       float64
	wrap    int64 // in units of the source column's integers
}

// value is the value of an output for one row.
type value struct {
	null     bool
	overflow bool    // null because it does not fit
	dropped  int64   // values beyond the cap
	i        int64   // of columns of integers and times
	f        float64 // of columns of floats
	list     []point // of columns of lists
}

// build appends the value of a row to its column.
func (o *output) build(b array.Builder, row []uint64, x *extras) {
	v := o.value(row, x)
	x.dropped += v.dropped
	if v.overflow {
		x.overflows++
	}
	if v.null || v.overflow {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.Int64Builder:
		b.Append(v.i)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v.i))
	case *array.Float64Builder:
		b.Append(v.f)
	case *array.ListBuilder:
		b.Append(true)
		ints := b.ValueBuilder().(*array.Int64Builder)
		for _, p := range v.list {
			ints.Append(p.val)
		}
	default:
		panic(fmt.Sprintf("result column of type %s", b.Type()))
	}
}

// same tells whether two rows give the same value.
func (o *output) same(a, b []uint64, x *extras) bool {
	v, w := o.value(a, x), o.value(b, x)
	return v.null == w.null && v.overflow == w.overflow && v.i == w.i && v.f == w.f &&
		slices.EqualFunc(v.list, w.list, func(p, q point) bool { return p.val == q.val })
}

// value returns the value of a row.
func (o *output) value(row []uint64, x *extras) value {
	v := o.compute(row, x)
	v.overflow = v.overflow || math.IsInf(v.f, 0)
	return v
}

func (o *output) compute(row []uint64, x *extras) value {
	var words, count [maxWide]uint64
	n := uint64(1)
	if o.counted {
		n = o.n.wide(row, &count)[0]
	}
	if n == 0 {
		return value{null: true}
	}
	acc := o.acc.wide(row, &words)
	switch o.fn {
	case "count", "id_sum", "id_xor":
		return value{i: int64(acc[0])}
	case "sum":
		return o.sum(acc)
	case "mean":
		return o.mean(acc, n)
	case "variance":
		return o.variance(acc, o.squares.of(row), n)
	case "min", "max":
		return o.single(int64(acc[0]))
	case "first", "last":
		return o.single(int64(acc[2]))
	case "distinct":
		if acc[0] == 0 {
			return value{}
		}
		return value{i: x.distincts.at(acc[0]).count()}
	case "quantile":
		if acc[0] == 0 {
			return value{null: true}
		}
		f, err := (*x.quantiles.at(acc[0])).GetValueAtQuantile(o.q)
		if err != nil {
			panic(fmt.Sprintf("quantile %v of %d values: %v", o.q, n, err))
		}
		return value{f: f / pow10[o.scale]}
	}
	list := x.list(acc, o.acc.cap)
	dropped := int64(acc[1]) - int64(len(list))
	switch {
	case o.fn == "collect" || o.fn == "collect_by_ts":
		return value{list: list, dropped: dropped}
	case dropped > 0 || len(list) < 2:
		return value{null: true, dropped: dropped}
	case o.fn == "increase":
		return o.increase(list)
	case o.fn == "rate":
		return o.rate(list)
	}
	panic("result of unknown function " + o.fn)
}

// single is the value of one value of the source column, a float by its orderedBits.
func (o *output) single(v int64) value {
	switch {
	case o.float:
		return value{f: fromOrderedBits(v)}
	case o.scale > 0:
		return value{f: unscale(v, o.scale)}
	}
	return value{i: v}
}

// sum is the value of a sum of values of the source column.
func (o *output) sum(acc []uint64) value {
	if o.float {
		return value{f: floatSum(acc)}
	}
	if o.field.Type.ID() == arrow.FLOAT64 {
		return value{f: sumFloat(acc) / pow10[o.scale]}
	}
	v, ok := sumInt64(acc)
	if !ok {
		return value{overflow: true}
	}
	return value{i: v}
}

func (o *output) mean(acc []uint64, n uint64) value {
	if o.float {
		return value{f: floatSum(acc) / float64(n)}
	}
	return value{f: sumFloat(acc) / (float64(n) * pow10[o.scale])}
}

// variance is (n * squares - sum^2) / (n * (n - 1)), rounded once.
func (o *output) variance(sum, squares []uint64, n uint64) value {
	if n < 2 {
		return value{null: true}
	}
	var s, q *big.Int
	exp := 0 // n * q - s * s counts units of 2^exp
	if o.float {
		var se, qe int
		s, se = floatPlaces(sum, lowestExp)
		q, qe = floatPlaces(squares, 2*lowestExp)
		exp = min(2*se, qe)
		q.Lsh(q, uint(qe-exp))
		s.Mul(s, s).Lsh(s, uint(2*se-exp))
	} else {
		s, q = sumBig(sum), unsignedBig(squares)
		s.Mul(s, s)
	}
	count := new(big.Int).SetUint64(n)
	num := q.Mul(q, count)
	num.Sub(num, s)
	if num.Sign() <= 0 { // below 0: of floats, see floatsum.go
		return value{}
	}
	den := count.Mul(count, new(big.Int).SetUint64(n-1))
	den.Mul(den, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(2*o.scale)), nil))
	if exp > 0 {
		num.Lsh(num, uint(exp))
	} else {
		den.Lsh(den, uint(-exp))
	}
	f, _ := new(big.Rat).SetFrac(num, den).Float64()
	return value{f: f}
}

// sumInt64 returns the sum when it fits.
func sumInt64(acc []uint64) (int64, bool) {
	return int64(acc[0]), int64(acc[1]) == int64(acc[0])>>63
}

// sumFloat returns the sum of integers, rounded once.
func sumFloat(acc []uint64) float64 {
	if v, ok := sumInt64(acc); ok {
		return float64(v)
	}
	f, _ := new(big.Float).SetInt(sumBig(acc)).Float64()
	return f
}

func sumBig(acc []uint64) *big.Int {
	b := new(big.Int).Lsh(big.NewInt(int64(acc[1])), 64)
	return b.Add(b, new(big.Int).SetUint64(acc[0]))
}

// unsignedBig returns the number whose words, low first, are in acc.
func unsignedBig(acc []uint64) *big.Int {
	b := new(big.Int)
	for _, w := range slices.Backward(acc) {
		b.Lsh(b, 64)
		b.Add(b, new(big.Int).SetUint64(w))
	}
	return b
}

var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// unscale returns v * 10^-scale, correctly rounded while v is below 2^53.
func unscale(v int64, scale int) float64 { return float64(v) / pow10[scale] }

package operators

import (
	"fmt"
	"math"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	bins "github.com/DataDog/sketches-go/ddsketch/store"
)

// A quantile sketch counts values in bins whose bounds grow by a constant factor, those
// above and those below 0 apart. Counts are whole numbers, and when there are too many bins
// the lowest go into one, where they would have gone at once had the highest value come
// first: so the order of values and merges does not matter.
const (
	quantileAccuracy = 0.01
	// quantileBins bounds the bins above 0, and those below, of 8 bytes each. Every int64
	// has its bin: ln(2^63) / ln(1.01 / 0.99) = 2184.
	quantileBins = 2200
)

func (x *extras) quantile(acc []uint64) *ddsketch.DDSketch {
	if acc[0] != 0 {
		return *x.quantiles.at(acc[0])
	}
	if x.mapping == nil {
		m, err := mapping.NewLogarithmicMapping(quantileAccuracy)
		if err != nil {
			panic(fmt.Sprintf("quantiles within %v: %v", quantileAccuracy, err))
		}
		x.mapping = m
	}
	acc[0] = x.quantiles.take()
	q := ddsketch.NewDDSketch(x.mapping, bins.NewCollapsingLowestDenseStore(quantileBins), bins.NewCollapsingLowestDenseStore(quantileBins))
	*x.quantiles.at(acc[0]) = q
	return q
}

// addQuantile adds a value; one that is not a number is none. Floats above 1.26e308, which
// have no bin, go into the last.
func (x *extras) addQuantile(acc []uint64, v float64) {
	if math.IsNaN(v) {
		return
	}
	q := x.quantile(acc)
	most := x.mapping.MaxIndexableValue()
	if err := q.Add(max(-most, min(v, most))); err != nil {
		panic(fmt.Sprintf("quantile of %v: %v", v, err))
	}
}

func (x *extras) mergeQuantile(dst, src []uint64) {
	if src[0] == 0 {
		return
	}
	if err := x.quantile(dst).MergeWith(*x.quantiles.at(src[0])); err != nil {
		panic(fmt.Sprintf("quantile sketches of the same accuracy: %v", err))
	}
}

// decodeQuantile merges the bytes of a sketch into acc. The library believes what it reads, and
// panics later on bins that no value has.
func (x *extras) decodeQuantile(acc []uint64, b []byte) error {
	q := x.quantile(acc)
	read, err := ddsketch.DecodeDDSketch(b, bins.SparseStoreConstructor, x.mapping) // it refuses another accuracy
	if err != nil {
		return err
	}
	least, most := x.mapping.Index(x.mapping.MinIndexableValue()), x.mapping.Index(x.mapping.MaxIndexableValue())
	counted := func(n float64) bool { return n >= 0 && n <= 1<<53 && n == math.Trunc(n) }
	if !counted(read.GetZeroCount()) || !counted(read.GetCount()) {
		return fmt.Errorf("%v values, %v of them 0", read.GetCount(), read.GetZeroCount())
	}
	for _, s := range []bins.Store{read.GetPositiveValueStore(), read.GetNegativeValueStore()} {
		s.ForEach(func(bin int, n float64) (stop bool) {
			if bin < least || bin > most || !counted(n) {
				err = fmt.Errorf("%v values in bin %d of %d to %d", n, bin, least, most)
			}
			return err != nil
		})
	}
	if err != nil {
		return err
	}
	return q.MergeWith(read)
}

func (x *extras) dropQuantile(acc []uint64) {
	if acc[0] != 0 {
		*x.quantiles.at(acc[0]) = nil // its bins are as many as its values spread
		x.quantiles.give(acc[0])
	}
	acc[0] = 0
}

// quantileBytes is a bound of the memory of a sketch: all bins between its values.
func quantileBytes(q *ddsketch.DDSketch) int64 {
	n := int64(0)
	for _, s := range []bins.Store{q.GetPositiveValueStore(), q.GetNegativeValueStore()} {
		if s.IsEmpty() {
			continue
		}
		least, _ := s.MinIndex()
		most, _ := s.MaxIndex()
		n += int64(most-least+1) * 8
	}
	return n
}

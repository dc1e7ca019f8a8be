package operators

import (
	"math"
	"math/big"
)

// The sum of float64 values depends on their order, so that two runs over the same rows
// would differ in the last bits. This one does not: every value is cut, exactly, into
// pieces of 32 bits on a fixed grid of exponents, and pieces of the same place are added
// as integers. The accumulator keeps the floatSumBins highest places that any value
// reached; which those are depends on the largest value alone, not on the order, and
// nothing is carried from a place that may still be dropped. What is dropped is below
// 2^-96 of the largest value's leading place.
//
// Layout: word 0 is the number of the highest place kept plus one (0: empty), words
// 1..floatSumBins are the sums of the places, highest first. 2^31 values fit.
const (
	floatSumBins  = 4
	floatSumWords = 1 + floatSumBins
	placeBits     = 32
	// lowestExp is the exponent of the least bit of the smallest denormal.
	lowestExp = -1074
)

// addFloat adds a finite value; zero changes nothing.
func addFloat(acc []uint64, v float64) {
	if v == 0 {
		return
	}
	bits := math.Float64bits(v)
	mant := bits & (1<<52 - 1)
	exp := int(bits >> 52 & 0x7FF)
	if exp == 0 {
		exp = 1
	} else {
		mant |= 1 << 52
	}
	// v = mant * 2^(shift + lowestExp), shift = exp-1 >= 0: bit 0 of mant lies in place
	// shift/32 at bit shift%32, and mant spans at most three places.
	shift := exp - 1
	low, at := shift/placeBits, shift%placeBits
	lo := mant << at
	hi := uint64(0)
	if at > 0 {
		hi = mant >> (64 - at)
	}
	pieces := [3]int64{int64(lo & (1<<placeBits - 1)), int64(lo >> placeBits), int64(hi)}
	top := low + 2
	for top > low && pieces[top-low] == 0 {
		top--
	}
	raise(acc, top)
	highest := int(acc[0]) - 1
	for i, p := range pieces {
		bin := highest - (low + i)
		if bin < 0 || bin >= floatSumBins || p == 0 {
			continue
		}
		if v < 0 {
			p = -p
		}
		acc[1+bin] += uint64(p)
	}
}

// raise makes top the highest place kept unless a higher one is.
func raise(acc []uint64, top int) {
	if int(acc[0]) > top {
		return
	}
	if acc[0] > 0 {
		by := top + 1 - int(acc[0])
		for i := floatSumBins; i >= 1; i-- {
			acc[i] = 0
			if i-by >= 1 {
				acc[i] = acc[i-by]
			}
		}
	}
	acc[0] = uint64(top + 1)
}

// mergeFloat adds the sum src to dst; the result is that of adding all values to one.
func mergeFloat(dst, src []uint64) {
	if src[0] == 0 {
		return
	}
	raise(dst, int(src[0])-1)
	by := int(dst[0]) - int(src[0])
	for i := 1; i+by <= floatSumBins; i++ {
		dst[i+by] += src[i]
	}
}

// floatSum returns the sum, rounded once to the nearest even.
func floatSum(acc []uint64) float64 {
	if acc[0] == 0 {
		return 0
	}
	sum := new(big.Int)
	for i := range floatSumBins {
		sum.Lsh(sum, placeBits)
		sum.Add(sum, big.NewInt(int64(acc[1+i])))
	}
	lowest := int(acc[0]) - floatSumBins
	f := new(big.Float).SetInt(sum)
	f.SetMantExp(f, lowest*placeBits+lowestExp)
	v, _ := f.Float64()
	return v
}

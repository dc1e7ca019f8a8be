package operators

import (
	"math"
	"math/big"
	"math/bits"
)

// The sum of float64 values depends on their order, so that two runs over the same rows
// would differ in the last bits. This one does not: every value is cut, exactly, into
// pieces of 32 bits on a fixed grid of exponents, and pieces of the same place are added
// as integers. The accumulator keeps the floatSumBins highest places that any value
// reached; which those are depends on the largest value alone, not on the order, and
// nothing is carried from a place that may still be dropped. What is dropped is below
// 2^-96 of the largest value's leading place.
//
// The sum of squares is made in the same way: the square of a value, 106 bits, is cut on a
// grid that reaches twice as low, and floatSquareBins places hold at least 129 bits. So the
// variance of values within 2^11 of each other is computed from exact sums. Of values that
// differ by more the variance is at least of the order of the largest square divided by
// their number, and what is dropped is below 2^-95 of the largest square per value.
//
// Layout: word 0 is the number of the highest place kept plus one (0: empty), words
// 1..floatSumBins are the sums of the places, highest first. 2^31 values fit.
const (
	floatSumBins     = 4
	floatSumWords    = 1 + floatSumBins
	floatSquareBins  = 5
	floatSquareWords = 1 + floatSquareBins
	placeBits        = 32
	placeMask        = 1<<placeBits - 1
	// lowestExp is the exponent of the least bit of the smallest denormal.
	lowestExp = -1074
)

// cutFloat returns mant, 53 bits, and shift with |v| = mant * 2^(shift + lowestExp).
func cutFloat(v float64) (mant uint64, shift int) {
	b := math.Float64bits(v)
	mant = b & (1<<52 - 1)
	exp := int(b >> 52 & 0x7FF)
	if exp == 0 {
		return mant, 0
	}
	return mant | 1<<52, exp - 1
}

// addFloat adds a finite value; zero changes nothing.
func addFloat(acc []uint64, v float64) {
	if v == 0 {
		return
	}
	// Bit 0 of mant lies in place shift/32 at bit shift%32.
	mant, shift := cutFloat(v)
	at := shift % placeBits
	lo, hi := mant<<at, mant>>(64-at)
	pieces := [...]uint64{lo & placeMask, lo >> placeBits, hi}
	addPieces(acc, shift/placeBits, pieces[:], v < 0)
}

// addFloatSquare adds the square of a finite value, exactly.
func addFloatSquare(acc []uint64, v float64) {
	if v == 0 {
		return
	}
	mant, shift := cutFloat(v)
	hi, lo := bits.Mul64(mant, mant)
	at := 2 * shift % placeBits
	lo, mid, hi := lo<<at, hi<<at|lo>>(64-at), hi>>(64-at)
	pieces := [...]uint64{lo & placeMask, lo >> placeBits, mid & placeMask, mid >> placeBits, hi}
	addPieces(acc, 2*shift/placeBits, pieces[:], false)
}

// addPieces adds the pieces of one value, lowest first, to the places from low on.
func addPieces(acc []uint64, low int, pieces []uint64, negative bool) {
	for pieces[len(pieces)-1] == 0 {
		pieces = pieces[:len(pieces)-1]
	}
	raise(acc, low+len(pieces)-1)
	highest := int(acc[0]) - 1
	for i, p := range pieces {
		bin := highest - (low + i)
		if bin >= len(acc)-1 {
			continue
		}
		if negative {
			p = -p
		}
		acc[1+bin] += p
	}
}

// raise makes top the highest place kept unless a higher one is.
func raise(acc []uint64, top int) {
	if int(acc[0]) > top {
		return
	}
	if acc[0] > 0 {
		by := top + 1 - int(acc[0])
		for i := len(acc) - 1; i >= 1; i-- {
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
	for i := 1; i+by < len(dst); i++ {
		dst[i+by] += src[i]
	}
}

// floatSum returns the sum, rounded once to the nearest even.
func floatSum(acc []uint64) float64 {
	sum, exp := floatPlaces(acc, lowestExp)
	f := new(big.Float).SetInt(sum)
	v, _ := f.SetMantExp(f, exp).Float64()
	return v
}

// floatPlaces returns the sum as sum * 2^exp; grid is the exponent of bit 0 of place 0.
func floatPlaces(acc []uint64, grid int) (sum *big.Int, exp int) {
	sum = new(big.Int)
	for _, place := range acc[1:] {
		sum.Lsh(sum, placeBits)
		sum.Add(sum, big.NewInt(int64(place)))
	}
	return sum, (int(acc[0])-len(acc)+1)*placeBits + grid
}

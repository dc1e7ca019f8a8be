package operators

import (
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// The narrow layout. A pair of key and window costs what its row is wide, and most of a row
// is zeros: a window of an hour does not see 2^32 rows of a key, and an integer column that
// declares its range (pipeline.BitsKey) does not fill 64 bits. So counts take half a word,
// min and max of a column of at most narrowBits bits too, and its sum takes one word.
//
// What is not so narrow after all is an error of the operator, never a wrong number: every
// addition and every value is checked. Results and checkpoints see the wide words alone, so
// that a checkpoint restores in either layout.

const (
	// narrowSize is the longest window with the narrow layout, in ticks: an hour.
	narrowSize = 3_600_000_000
	// narrowBits is the widest range of a column that fits half a word, with room on both
	// sides for noMin and noMax.
	narrowBits = 31

	noMin = math.MaxInt32 // the min of no values
	noMax = math.MinInt32

	// maxWide is the most words that an accumulator with a narrow twin has.
	maxWide = 2
)

// narrow tells whether the windows are short enough for counts of 32 bits.
func (c WindowConfig) narrow() bool { return c.Kind != Global && c.Size <= narrowSize }

// narrow returns the narrow twin of an accumulator of a column, or op itself.
func (op accOp) narrow(rows *arrow.Schema, col int) accOp {
	switch {
	case op == accRows:
		return accRows32
	case op == accNotNull:
		return accNotNull32
	case col < 0 || !declaredNarrow(rows.Field(col)):
		return op
	case op == accSumInt:
		return accSum64
	case op == accMin:
		return accMin32
	case op == accMax:
		return accMax32
	}
	return op
}

// widen returns the accumulator of the wide layout that op stands for.
func (op accOp) widen() accOp {
	switch op {
	case accRows32:
		return accRows
	case accNotNull32:
		return accNotNull
	case accSum64:
		return accSumInt
	case accMin32:
		return accMin
	case accMax32:
		return accMax
	}
	return op
}

// declaredNarrow tells whether a column declares a range of at most narrowBits bits.
func declaredNarrow(f arrow.Field) bool {
	v, _ := f.Metadata.GetValue(pipeline.BitsKey)
	bits, err := strconv.Atoi(v)
	return err == nil && f.Type.ID() == arrow.INT64 && bits >= 1 && bits <= narrowBits
}

// settle gives an accumulator its place in the row: words of its own, or the half word that
// another one has left over.
func (p *program) settle(a *accumulator) {
	if n := a.op.words(); n > 0 {
		a.word = p.width
		p.width += n
		return
	}
	if p.half == 0 {
		a.word, p.half = p.width, p.width
		p.width++
		return
	}
	a.word, a.shift, p.half = p.half, 32, 0
}

// half returns one half of a word as a signed number, setHalf sets it.
func half(word uint64, shift uint8) int32 { return int32(word >> (shift & 32)) }

func setHalf(word *uint64, shift uint8, v int32) {
	shift &= 32
	*word = *word&^(math.MaxUint32<<shift) | uint64(uint32(v))<<shift
}

// The folds below tell whether the value fits. When it does not the operator is at fault and
// shows nothing any more.

// addCount adds to a count of half a word.
func addCount(word *uint64, shift uint8, n uint32) bool {
	sum := *word + uint64(n)<<(shift&32)
	fits := uint32(sum>>(shift&32)) >= n
	if fits {
		*word = sum
	}
	return fits
}

// addShort adds to a sum of one word.
func addShort(word *uint64, v int64) bool {
	sum := int64(*word) + v
	fits := (sum^v)&(sum^int64(*word)) >= 0 // else both have the sign that the sum has not
	if fits {
		*word = uint64(sum)
	}
	return fits
}

// declared tells whether a value has the range of narrow columns.
func declared(v int64) bool { return uint64(v+1<<(narrowBits-1)) < 1<<narrowBits }

// takeMin makes v the min if it is smaller.
func takeMin(word *uint64, shift uint8, v int64) bool {
	if int32(v) < half(*word, shift) {
		setHalf(word, shift, int32(v))
	}
	return declared(v)
}

// takeMax makes v the max if it is larger.
func takeMax(word *uint64, shift uint8, v int64) bool {
	if int32(v) > half(*word, shift) {
		setHalf(word, shift, int32(v))
	}
	return declared(v)
}

// full and beyond note the first fault; the operator returns it before it shows anything.
func (x *extras) full(a accumulator) {
	if x.fault == nil {
		x.fault = fmt.Errorf("aggregate state %s: a window has more rows of a key than 32 bits count; windows of more than an hour count with 64", a.name)
	}
}

func (x *extras) beyond(a accumulator, v int64) {
	if x.fault == nil {
		x.fault = fmt.Errorf("aggregate state %s: value %d is beyond the range that the column declares (%s)", a.name, v, pipeline.BitsKey)
	}
}

// wide returns the words that the accumulator has in the wide layout: its own, or words
// filled from them.
func (a *accumulator) wide(row []uint64, words *[maxWide]uint64) []uint64 {
	switch a.op {
	case accRows32, accNotNull32:
		words[0] = uint64(uint32(half(row[a.word], a.shift)))
		return words[:1]
	case accSum64:
		words[0], words[1] = row[a.word], uint64(int64(row[a.word])>>63)
		return words[:2]
	case accMin32, accMax32:
		v := int64(half(row[a.word], a.shift))
		switch v {
		case noMin:
			v = math.MaxInt64
		case noMax:
			v = math.MinInt64
		}
		words[0] = uint64(v)
		return words[:1]
	}
	return a.of(row)
}

// setWide sets a narrow accumulator from words of the wide layout; those of another one are
// there already. The error says what does not fit.
func (a accumulator) setWide(row []uint64, words []uint64) error {
	v := int64(words[0])
	switch a.op {
	case accRows32, accNotNull32:
		if words[0] > math.MaxUint32 {
			return fmt.Errorf("%d rows of a key in a window of at most an hour", words[0])
		}
		setHalf(&row[a.word], a.shift, int32(uint32(words[0])))
	case accSum64:
		if int64(words[1]) != v>>63 {
			return fmt.Errorf("the sum does not fit 64 bits, though the column declares a narrow range (%s)", pipeline.BitsKey)
		}
		row[a.word] = words[0]
	case accMin32, accMax32:
		switch {
		case v == math.MaxInt64:
			v = noMin
		case v == math.MinInt64:
			v = noMax
		case !declared(v):
			return fmt.Errorf("value %d is beyond the range that the column declares (%s)", v, pipeline.BitsKey)
		}
		setHalf(&row[a.word], a.shift, int32(v))
	}
	return nil
}

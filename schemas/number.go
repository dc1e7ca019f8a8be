package schemas

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// numKind says how a scanned number is to be read.
type numKind uint8

const (
	numBad   numKind = iota // not a JSON number
	numShort                // at most 18 digits, no exponent: the mantissa says it all
	numLong                 // anything else: read the text again
)

// maxShort is the number of digits that always fit int64.
const maxShort = 18

var pow10 = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// scanNumber reads the JSON number at b[p:] and returns where it ends. A short number's
// value is m / 10^frac; the sign of zero is lost.
func scanNumber(b []byte, p int) (m int64, frac int, kind numKind, end int) {
	start := p
	neg := p < len(b) && b[p] == '-'
	if neg {
		p++
	}
	first := p
	u, p := digits(b, p, 0)
	n := p - first
	if n == 0 || n > 1 && b[first] == '0' {
		return 0, 0, numBad, start
	}
	if p < len(b) && b[p] == '.' {
		point := p
		u, p = digits(b, p+1, u)
		frac = p - point - 1
		if frac == 0 {
			return 0, 0, numBad, start
		}
		n += frac
	}
	kind = numShort
	if n > maxShort {
		kind = numLong
	}
	if p < len(b) && b[p]|0x20 == 'e' {
		p++
		if p < len(b) && (b[p] == '+' || b[p] == '-') {
			p++
		}
		exp := p
		for p < len(b) && isDigit(b[p]) {
			p++
		}
		if p == exp {
			return 0, 0, numBad, start
		}
		kind = numLong
	}
	m = int64(u)
	if neg {
		m = -m
	}
	return m, frac, kind, p
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// digits appends the decimal digits at b[p:] to m, which may wrap: the caller counts
// them. Eight bytes are read at a time; a byte of the word that is no digit marks itself
// in the high nibble, and the lowest mark is exact because a carry only moves upwards.
func digits(b []byte, p int, m uint64) (uint64, int) {
	for p+8 <= len(b) {
		t := binary.LittleEndian.Uint64(b[p:]) ^ 0x3030303030303030
		marks := (t | (t + 0x0606060606060606)) & 0xf0f0f0f0f0f0f0f0
		if marks == 0 {
			m = m*1e8 + eight(t)
			p += 8
			continue
		}
		n := bits.TrailingZeros64(marks) / 8
		// The digits move to the top; the zero bytes below them are leading zeros.
		return m*pow10[n&7] + eight(t<<(64-8*uint(n))), p + n
	}
	for p < len(b) && isDigit(b[p]) {
		m = m*10 + uint64(b[p]-'0')
		p++
	}
	return m, p
}

// eight returns the number whose eight digits are the bytes of t, the first one lowest.
func eight(t uint64) uint64 {
	const low = 0x000000ff000000ff
	t = t*10 + t>>8
	return ((t&low)*(100+1000000<<32) + (t>>16&low)*(1+10000<<32)) >> 32
}

// rounding says where the digits behind the last kept one go.
type rounding uint8

const (
	halfEven rounding = iota
	down              // towards minus infinity
)

// fixedShort returns m / 10^frac * 10^scale, false when it does not fit int64. Scale may
// be negative; frac is at most 18.
func fixedShort(m int64, frac, scale int, r rounding) (int64, bool) {
	shift := scale - frac
	if shift == 0 || m == 0 {
		return m, true
	}
	if shift > 0 {
		if shift > maxShort {
			return 0, false
		}
		hi, lo := bits.Mul64(magnitude(m), pow10[shift])
		return signed(hi, lo, m < 0)
	}
	if -shift >= len(pow10) {
		// Less than a tenth of the last kept digit.
		if r == down && m < 0 {
			return -1, true
		}
		return 0, true
	}
	u, div := magnitude(m), pow10[-shift]
	q, rest := u/div, u%div
	if up(q, compare(rest, div-rest), rest != 0, m < 0, r) {
		q++
	}
	return signed(0, q, m < 0)
}

// fixedLong is fixedShort for the text of any JSON number.
func fixedLong(text []byte, scale int, r rounding) (int64, bool) {
	d := split(text)
	// whole is the number of digits before the point of the scaled value; digits that
	// are not written are zeros.
	whole := d.whole + int64(scale)
	if d.count == 0 {
		return 0, true
	}
	if whole > 19 { // 19 digits always fit uint64, 20 never int64
		return 0, false
	}
	var q uint64
	for i := int64(0); i < whole; i++ {
		q = q*10 + uint64(d.at(i))
	}
	half, rest := -1, false
	if whole >= 0 {
		first := int(d.at(whole))
		for i := whole + 1; i < d.count && !rest; i++ {
			rest = d.at(i) != 0
		}
		half = compare(uint64(first), 5)
		if half == 0 && rest {
			half = 1
		}
		rest = rest || first != 0
	} else {
		rest = true
	}
	if up(q, half, rest, d.neg, r) {
		q++
	}
	return signed(0, q, d.neg)
}

// up tells whether the magnitude q goes up by one; half compares what is cut off with
// one half, rest tells whether anything is cut off.
func up(q uint64, half int, rest, neg bool, r rounding) bool {
	if r == down {
		return rest && neg
	}
	return half > 0 || half == 0 && q&1 == 1
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func magnitude(m int64) uint64 {
	if m < 0 {
		return -uint64(m)
	}
	return uint64(m)
}

func signed(hi, lo uint64, neg bool) (int64, bool) {
	if neg {
		return int64(-lo), hi == 0 && lo <= 1<<63
	}
	return int64(lo), hi == 0 && lo <= math.MaxInt64
}

// decimal is the text of a JSON number taken apart: 0.DIGITS * 10^whole, where DIGITS
// begins with a digit that is not 0. count is 0 for zero.
type decimal struct {
	text  []byte // from the first digit that is not 0, with the point
	point int    // index of the point in text, len(text) for none
	count int64  // digits in text
	whole int64
	neg   bool
}

// maxExponent is where exponents saturate: no payload has that many digits, so the value
// is zero or beyond any range anyway.
const maxExponent = 1 << 40

func split(text []byte) decimal {
	var d decimal
	if text[0] == '-' {
		d.neg = true
		text = text[1:]
	}
	end := 0
	for end < len(text) && (isDigit(text[end]) || text[end] == '.') {
		end++
	}
	var exp int64
	if e := end + 1; e < len(text) {
		neg := text[e] == '-'
		if neg || text[e] == '+' {
			e++
		}
		for ; e < len(text) && exp < maxExponent; e++ {
			exp = exp*10 + int64(text[e]-'0')
		}
		if neg {
			exp = -exp
		}
	}
	text = text[:end]
	point := len(text)
	for i, c := range text {
		if c == '.' {
			point = i
			break
		}
	}
	first := 0
	for first < len(text) && (text[first] == '0' || text[first] == '.') {
		first++
	}
	if first == len(text) {
		return d
	}
	d.text, d.point = text[first:], point-first
	d.count = int64(len(d.text))
	if d.point >= 0 {
		d.whole = int64(d.point) + exp
		if d.point < len(d.text) {
			d.count--
		}
	} else {
		d.whole = int64(d.point) + 1 + exp
		d.point = len(d.text)
	}
	return d
}

// at returns digit i of DIGITS.
func (d *decimal) at(i int64) byte {
	if i >= d.count {
		return 0
	}
	if i >= int64(d.point) {
		i++
	}
	return d.text[i] - '0'
}

var float10 = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
}

// float returns the double nearest to a scanned number; text is the number as written.
// A mantissa of up to 53 bits over a power of ten that is exact gives the exact quotient
// rounded once. False: beyond the largest double.
func float(m int64, frac int, kind numKind, text []byte) (float64, bool) {
	if kind == numShort && m != 0 && m >= -1<<53 && m <= 1<<53 {
		return float64(m) / float10[frac], true
	}
	f, err := strconv.ParseFloat(unsafe.String(&text[0], len(text)), 64)
	return f, err == nil
}

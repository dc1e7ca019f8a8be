package schemas

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// What scanText saw in a string.
const (
	textEscape = 1 << iota
	textHigh   // bytes of 0x80 and above
)

// scanText finds the closing quote of the string whose first byte is b[p]. It returns -1
// when there is none or a control character comes first. Escapes and UTF-8 are not
// checked.
//
// Eight bytes are looked at together. A byte that is a quote, a backslash or below 0x20
// marks its top bit; subtraction borrows only from higher bytes, so the lowest mark is
// exact.
func scanText(b []byte, p int) (end int, seen uint8) {
	const (
		ones = 0x0101010101010101
		tops = 0x8080808080808080
	)
	for {
		for p+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[p:])
			q := x ^ ones*'"'
			s := x ^ ones*'\\'
			marks := ((q-ones)&^q | (s-ones)&^s | (x-ones*0x20)&^x) & tops &^ x
			if marks == 0 {
				if x&tops != 0 {
					seen |= textHigh
				}
				p += 8
				continue
			}
			if x&tops&(marks-1)&^marks != 0 {
				seen |= textHigh
			}
			p += bits.TrailingZeros64(marks) / 8
			break
		}
		if p >= len(b) {
			return -1, seen
		}
		switch c := b[p]; {
		case c == '"':
			return p, seen
		case c == '\\':
			seen |= textEscape
			p += 2
		case c < 0x20:
			return -1, seen
		default:
			if c >= 0x80 {
				seen |= textHigh
			}
			p++
		}
	}
}

// Outcomes of unescape.
type textFault uint8

const (
	textFine textFault = iota
	textBadEscape
	textHalfPair
)

// unescape appends the string with its escapes resolved to dst.
func unescape(dst, s []byte) ([]byte, textFault) {
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		if i+1 == len(s) {
			return dst, textBadEscape
		}
		c = s[i+1]
		i += 2
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(s[i:])
			if !ok {
				return dst, textBadEscape
			}
			i += 4
			if utf16.IsSurrogate(r) {
				if len(s) < i+2 || s[i] != '\\' || s[i+1] != 'u' {
					return dst, textHalfPair
				}
				low, ok := hex4(s[i+2:])
				if !ok {
					return dst, textBadEscape
				}
				r = utf16.DecodeRune(r, low)
				if r == utf8.RuneError {
					return dst, textHalfPair
				}
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default:
			return dst, textBadEscape
		}
	}
	return dst, textFine
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

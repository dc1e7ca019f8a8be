package mapping

import (
	"bytes"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// appendText appends node n as the library turns a value into text.
func (d *document) appendText(dst []byte, n int32) []byte {
	v := &d.nodes[n]
	if v.kind == text {
		return append(dst, d.bytes(v.text)...)
	}
	return d.appendShown(dst, n)
}

// appendShown appends node n as it stands inside a list or object that became text: texts
// have quotes there.
func (d *document) appendShown(dst []byte, n int32) []byte {
	v := &d.nodes[n]
	switch v.kind {
	case null:
		return append(dst, "None"...)
	case no:
		return append(dst, "False"...)
	case yes:
		return append(dst, "True"...)
	case integer:
		return appendInteger(dst, d.bytes(v.text))
	case float:
		return appendFloat(dst, d.double(v))
	case text:
		return appendShownText(dst, d.bytes(v.text))
	case list:
		dst = append(dst, '[')
		for c := v.first; c != 0; c = d.nodes[c].next {
			if c != v.first {
				dst = append(dst, ", "...)
			}
			dst = d.appendShown(dst, c)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i, c := range d.members(n) {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendShownText(dst, d.bytes(d.nodes[c].name))
		dst = append(dst, ": "...)
		dst = d.appendShown(dst, c)
	}
	return append(dst, '}')
}

// appendInteger appends the literal of an integer. Integers have no negative zero.
func appendInteger(dst, literal []byte) []byte {
	if string(literal) == "-0" {
		return append(dst, '0')
	}
	return append(dst, literal...)
}

// appendFloat appends the shortest text that reads as f again: with an exponent below 1e-4
// and from 1e16 on, and otherwise with a fraction, if only ".0".
func appendFloat(dst []byte, f float64) []byte {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case a != 0 && a < 1e-4 || a >= 1e16:
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	for _, c := range dst[start:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

const hexDigits = "0123456789abcdef"

// appendShownText appends s in single quotes, in double ones when it has a single but no
// double quote. What does not print is written as an escape.
func appendShownText(dst, s []byte) []byte {
	quote := byte('\'')
	single, double := false, false
	for _, c := range s {
		single, double = single || c == '\'', double || c == '"'
	}
	if single && !double {
		quote = '"'
	}
	dst = append(dst, quote)
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		switch {
		case r == rune(quote) || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case unicode.IsPrint(r):
			dst = append(dst, s[i:i+n]...)
		case r <= 0xff:
			dst = appendHex(append(dst, `\x`...), r, 2)
		case r <= 0xffff:
			dst = appendHex(append(dst, `\u`...), r, 4)
		default:
			dst = appendHex(append(dst, `\U`...), r, 8)
		}
		i += n
	}
	return append(dst, quote)
}

func appendHex(dst []byte, r rune, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[r>>shift&15])
	}
	return dst
}

// appendJSON appends node n as JSON with its own type. Numbers are spelled as appendText
// does it; JSON has no infinity, so that is 1e999, and not a number is null.
func (d *document) appendJSON(dst []byte, n int32) []byte {
	v := &d.nodes[n]
	switch v.kind {
	case null:
		return append(dst, "null"...)
	case no:
		return append(dst, "false"...)
	case yes:
		return append(dst, "true"...)
	case integer:
		return appendInteger(dst, d.bytes(v.text))
	case float:
		switch f := d.double(v); {
		case math.IsNaN(f):
			return append(dst, "null"...)
		case math.IsInf(f, 1):
			return append(dst, "1e999"...)
		case math.IsInf(f, -1):
			return append(dst, "-1e999"...)
		default:
			return appendFloat(dst, f)
		}
	case text:
		return appendQuoted(dst, d.bytes(v.text))
	case list:
		dst = append(dst, '[')
		for c := v.first; c != 0; c = d.nodes[c].next {
			if c != v.first {
				dst = append(dst, ',')
			}
			dst = d.appendJSON(dst, c)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i, c := range d.members(n) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, d.bytes(d.nodes[c].name)), ':')
		dst = d.appendJSON(dst, c)
	}
	return append(dst, '}')
}

// appendTyped appends node n as JSON with its own type and numbers as they are written. What
// JSON does not have is made text (NaN) or replaced (half of a surrogate pair).
func (d *document) appendTyped(dst []byte, n int32) []byte {
	v := &d.nodes[n]
	switch v.kind {
	case integer:
		return append(dst, d.bytes(v.text)...)
	case float:
		if b := d.bytes(v.text); b[len(b)-1] > '9' {
			return append(append(append(dst, '"'), b...), '"')
		}
		return append(dst, d.bytes(v.text)...)
	case text:
		if d.asRead(v.text) {
			dst = append(dst, '"')
			dst = append(dst, d.bytes(v.text)...)
			return append(dst, '"')
		}
		start := len(dst)
		dst = appendQuoted(dst, d.bytes(v.text))
		return replaceHalves(dst, start)
	case list:
		dst = append(dst, '[')
		for c := v.first; c != 0; c = d.nodes[c].next {
			if c != v.first {
				dst = append(dst, ',')
			}
			dst = d.appendTyped(dst, c)
		}
		return append(dst, ']')
	case object:
		dst = append(dst, '{')
		for i, c := range d.members(n) {
			if i > 0 {
				dst = append(dst, ',')
			}
			start := len(dst)
			dst = appendQuoted(dst, d.bytes(d.nodes[c].name))
			dst = append(replaceHalves(dst, start), ':')
			dst = d.appendTyped(dst, c)
		}
		return append(dst, '}')
	}
	return d.appendJSON(dst, n)
}

// asRead tells whether a text is one of the JSON that was read, without escapes.
func (d *document) asRead(s span) bool { return d.json && int(s.to) <= d.end }

// replaceHalves replaces the escapes \ud800 to \udfff in dst[start:], which appendQuoted
// writes for halves of surrogate pairs only.
func replaceHalves(dst []byte, start int) []byte {
	for i := start; i+5 < len(dst); i++ {
		if dst[i] != '\\' {
			continue
		}
		if dst[i+1] == 'u' && dst[i+2] == 'd' && dst[i+3] >= '8' {
			copy(dst[i+2:], "fffd")
		}
		i++
	}
	return dst
}

// appendWhole appends s, with U+FFFD for halves of surrogate pairs.
func appendWhole(dst, s []byte) []byte {
	for len(s) > 0 {
		half := bytes.IndexByte(s, 0xed)
		if half < 0 || len(s) < half+3 || s[half+1] < 0xa0 {
			if half < 0 {
				return append(dst, s...)
			}
			dst, s = append(dst, s[:half+1]...), s[half+1:]
			continue
		}
		dst, s = append(append(dst, s[:half]...), "\ufffd"...), s[half+3:]
	}
	return dst
}

// appendQuoted appends s as a JSON string. Half of a surrogate pair, which UTF-8 does not
// have, is an escape.
func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		half := c == 0xed && i+2 < len(s) && s[i+1] >= 0xa0
		if c >= ' ' && c != '"' && c != '\\' && !half {
			continue
		}
		dst = append(dst, s[done:i]...)
		switch {
		case half:
			r, n := decodeRune(s[i:])
			dst = appendHex(append(dst, `\u`...), r, 4)
			i += n - 1
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		default:
			dst = appendHex(append(dst, `\u`...), rune(c), 4)
		}
		done = i + 1
	}
	return append(append(dst, s[done:]...), '"')
}

// isSpace tells whether the library takes r for white space: in a timestamp, around an
// integer, between the fields of a line.
func isSpace(r rune) bool {
	return r >= 0x1c && r <= 0x1f || unicode.IsSpace(r)
}

// digitAt returns the decimal digit at s[p:], in any script, and its length, 0 for none.
func digitAt(s []byte, p int) (value, length int) {
	if p >= len(s) {
		return 0, 0
	}
	if s[p] < utf8.RuneSelf {
		if isDigit(s[p]) {
			return int(s[p] - '0'), 1
		}
		return 0, 0
	}
	r, n := decodeRune(s[p:])
	if !unicode.IsDigit(r) {
		return 0, 0
	}
	// The digits of a script are ten in a row, and every range of the table begins with a
	// zero.
	for _, t := range unicode.Nd.R16 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return int(r-rune(t.Lo)) % 10, n
		}
	}
	for _, t := range unicode.Nd.R32 {
		if uint32(r) >= t.Lo && uint32(r) <= t.Hi {
			return int(uint32(r)-t.Lo) % 10, n
		}
	}
	return 0, 0
}

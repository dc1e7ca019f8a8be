package ocsf

import (
	"bytes"
	"hash/fnv"
)

// form tells that a text has the form of a regular expression, without running it: that
// costs as much as all other checks of an event. It may miss texts that have the form, and
// never takes one that has it not.
type form func([]byte) bool

// formOf returns the form for a regular expression of the published schemas, nil for others.
func formOf(regex string) form {
	h := fnv.New64a()
	h.Write([]byte(regex)) //nolint:errcheck // it cannot fail
	switch h.Sum64() {
	case ipRegex:
		return isIP
	case macRegex:
		return isMAC[[]byte]
	case hostnameRegex:
		return isHostname[[]byte]
	}
	return nil
}

// Hashes of regular expressions, which are the same in all built-in versions.
const (
	ipRegex       = 0x64b17405a7a3abf0
	macRegex      = 0xf1ab3ad997a40ecf
	hostnameRegex = 0x6aa173efab563e72
)

func isIP(b []byte) bool {
	if bytes.IndexByte(b, ':') >= 0 {
		return isIPv6(b)
	}
	for octet := 0; octet < 4; octet++ {
		if octet > 0 {
			if len(b) == 0 || b[0] != '.' {
				return false
			}
			b = b[1:]
		}
		n, v := 0, 0
		for n < len(b) && n < 4 && isDigit(b[n]) {
			v = v*10 + int(b[n]-'0')
			n++
		}
		if n == 0 || v > 255 || n > 1 && b[0] == '0' {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// isIPv6 takes eight groups, or fewer with :: in one place.
func isIPv6(b []byte) bool {
	left, right, double := bytes.Cut(b, []byte("::"))
	l, ok := groups(left)
	if !double {
		return ok && l == 8
	}
	r, okR := groups(right)
	return ok && okR && l+r <= 7
}

// groups counts groups of up to four hexadecimal digits with colons between them.
func groups(b []byte) (n int, ok bool) {
	for len(b) > 0 {
		size := 0
		for size < len(b) && isHex(b[size]) {
			size++
		}
		n++
		switch {
		case size == 0 || size > 4:
			return n, false
		case size == len(b):
			return n, true
		case b[size] != ':' || size+1 == len(b):
			return n, false
		}
		b = b[size+1:]
	}
	return n, true
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// isMAC takes six pairs of hexadecimal digits between : or -.
func isMAC[T string | []byte](b T) bool {
	if len(b) != 17 {
		return false
	}
	for i := range len(b) {
		c := b[i]
		if i%3 == 2 && c != ':' && c != '-' || i%3 != 2 && !isHex(c) {
			return false
		}
	}
	return true
}

// isHostname takes labels of letters, digits and hyphens, the last not at their ends.
func isHostname[T string | []byte](b T) bool {
	last := byte('.')
	for i := range len(b) {
		c := b[i]
		switch {
		case isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z':
		case c == '-' && last != '.':
		case c == '.' && last != '.' && last != '-':
		default:
			return false
		}
		last = c
	}
	return last != '.' && last != '-'
}

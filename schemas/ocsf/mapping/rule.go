package mapping

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// made appends what a node of a tree makes of the event: JSON, null for nothing.
func (m *Mapper) made(dst []byte, a *attribute) []byte {
	start := len(dst)
	if a.when.op != always && !m.holds(&a.when) {
		m.absent++
		dst = append(dst, "null"...)
	} else {
		dst = m.uncast(dst, a)
		if a.cast != noCast {
			dst = m.cast(dst, start, a)
		}
	}
	if a.def != nil && string(dst[start:]) == "null" {
		return append(dst[:start], a.def...)
	}
	return dst
}

func (m *Mapper) uncast(dst []byte, a *attribute) []byte {
	switch a.kind {
	case nested:
		return m.madeObject(dst, a.attrs)
	case locate:
		n, fault := m.locate(&a.locator)
		if n >= 0 {
			m.doc.nodes[n].used = usedUp
			return m.doc.appendTyped(dst, n)
		}
		m.missed(fault)
	case enum:
		return append(dst, m.chosen(a)...)
	case listed:
		return m.madeList(dst, a.attrs)
	case firstOf:
		return m.first(dst, a.attrs)
	case each:
		return m.elements(dst, a)
	default:
		return append(dst, a.literal...)
	}
	return append(dst, "null"...)
}

// madeList appends a list of what is not null.
func (m *Mapper) madeList(dst []byte, nodes []attribute) []byte {
	dst = append(dst, '[')
	first := len(dst)
	for i := range nodes {
		dst = m.element(dst, first, &nodes[i])
	}
	return append(dst, ']')
}

// element appends an element to the list whose elements begin at first.
func (m *Mapper) element(dst []byte, first int, a *attribute) []byte {
	before := len(dst)
	if before > first {
		dst = append(dst, ',')
	}
	start := len(dst)
	if dst = m.made(dst, a); string(dst[start:]) == "null" {
		return dst[:before]
	}
	return dst
}

// first appends the first value that is there.
func (m *Mapper) first(dst []byte, nodes []attribute) []byte {
	start, absent, faults := len(dst), m.absent, m.faults
	for i := range nodes {
		dst = m.made(dst[:start], &nodes[i])
		if string(dst[start:]) != "null" && string(dst[start:]) != `""` {
			m.absent, m.faults = absent, faults
			return dst
		}
	}
	return append(dst[:start], "null"...)
}

// elements appends a list of what the tree of each makes of every element. A value that is no
// list is the only element.
func (m *Mapper) elements(dst []byte, a *attribute) []byte {
	n, fault := m.locate(&a.locator)
	if n < 0 {
		m.missed(fault)
		return append(dst, "null"...)
	}
	outer := m.conform.element
	defer func() { m.conform.element = outer }()
	dst = append(dst, '[')
	first := len(dst)
	if m.doc.nodes[n].kind != list {
		m.conform.element = n
		dst = m.element(dst, first, &a.attrs[0])
		return append(dst, ']')
	}
	m.doc.nodes[n].used = max(m.doc.nodes[n].used, usedPart)
	for e := m.doc.nodes[n].first; e != 0; e = m.doc.nodes[e].next {
		m.conform.element = e
		dst = m.element(dst, first, &a.attrs[0])
	}
	return append(dst, ']')
}

// cast makes the value in dst[start:] another one. What cannot be cast stays: the schema
// decides whether it fits.
func (m *Mapper) cast(dst []byte, start int, a *attribute) []byte {
	value := dst[start:]
	if len(value) >= 2 && value[0] == '"' {
		if value = value[1 : len(value)-1]; bytes.IndexByte(value, '\\') >= 0 {
			return dst
		}
	} else if len(value) == 0 || value[0] == '{' || value[0] == '[' || value[0] == 'n' {
		return dst
	}
	value = bytes.TrimSpace(value)
	switch a.cast {
	case castInt:
		if i, err := strconv.ParseInt(string(bytes.TrimPrefix(value, []byte("+"))), 10, 64); err == nil {
			return strconv.AppendInt(dst[:start], i, 10)
		}
	case castHex:
		if i, ok := hexNumber(value); ok {
			return strconv.AppendInt(dst[:start], i, 10)
		}
	case castFloat:
		if f, err := strconv.ParseFloat(string(value), 64); err == nil && json.Valid(appendFloat(nil, f)) {
			return appendFloat(dst[:start], f)
		}
	case castBool:
		if b, ok := truth(value); ok {
			return strconv.AppendBool(dst[:start], b)
		}
	case castText:
		if dst[start] != '"' {
			m.scratch = append(m.scratch[:0], value...)
			return appendQuoted(dst[:start], m.scratch)
		}
	case castTime:
		if t, ok := timeIn(a.layout, value); ok {
			if a == m.conform.timeOf {
				m.conform.seen, m.conform.time = t, append(m.conform.time[:0], value...)
			}
			return strconv.AppendInt(dst[:start], t.Millis, 10)
		}
	}
	m.faults++
	return dst
}

// hexNumber reads base 16, 0x before it or not.
func hexNumber(s []byte) (int64, bool) {
	if len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		s = s[2:]
	}
	for _, c := range s {
		if !isDigit(c) && !(c|0x20 >= 'a' && c|0x20 <= 'f') {
			return 0, false
		}
	}
	i, err := strconv.ParseInt(string(s), 16, 64)
	return i, err == nil
}

func truth(s []byte) (value, ok bool) {
	switch strings.ToLower(string(s)) {
	case "true", "1", "yes", "on":
		return true, true
	case "false", "0", "no", "off":
		return false, true
	}
	return false, false
}

// timeIn reads a time as the cast says.
func timeIn(l *layout, s []byte) (ocsf.Instant, bool) {
	if l.epoch {
		return ocsf.ParseInstant(s)
	}
	return l.instant(s)
}

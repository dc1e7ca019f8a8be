package ocsf

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// scalar writes a value that is no object; false says that it cannot be cast.
func (c *Conformer) scalar(a *attr, n int32) bool {
	v := &c.doc.nodes[n]
	if a.typ.primitive == anyJSON {
		c.raw(n)
		return true
	}
	if v.kind == '{' || v.kind == '[' || v.kind == 'n' {
		return false
	}
	if a.typ.name == "timestamp_t" {
		return c.timestamp(n)
	}
	start := len(c.out)
	ok := false
	switch a.typ.primitive {
	case text:
		ok = c.textOf(a, n)
	case integer, long:
		ok = c.integer(a, n)
	case float:
		ok = c.float(n)
	case boolean:
		ok = c.boolean(n)
	}
	if ok && a.typ.values != nil {
		ok = slices.ContainsFunc(a.typ.values, func(want any) bool { return equalJSON(c.out[start:], want) })
	}
	return ok
}

// equalJSON compares a scalar with a value of a schema as encoding/json reads it.
func equalJSON(b []byte, want any) bool {
	switch want := want.(type) {
	case string:
		return string(b) == string(appendQuoted(nil, want))
	case bool:
		return string(b) == strconv.FormatBool(want)
	case float64:
		f, err := strconv.ParseFloat(string(b), 64)
		return err == nil && f == want
	}
	return false
}

// textOf writes a text; numbers and booleans become text as they are written.
func (c *Conformer) textOf(a *attr, n int32) bool {
	v := &c.doc.nodes[n]
	t := a.typ
	if size := int(v.text[1] - v.text[0]); t.maxLen.there && size > t.maxLen.n && utf8.RuneCount(c.doc.text(v)) > t.maxLen.n {
		return false
	}
	if a.enum != nil {
		return c.enumText(a, n)
	}
	if v.kind != '"' {
		c.cast(n, "text")
	}
	c.out = append(append(append(c.out, '"'), c.doc.b[v.text[0]:v.text[1]]...), '"')
	return true
}

// integer writes an integer: digits, also as text. 5.0 is one, "5.0" is not.
func (c *Conformer) integer(a *attr, n int32) bool {
	v := &c.doc.nodes[n]
	if v.kind == 't' || v.kind == 'f' {
		return false
	}
	b := bytes.TrimSpace(c.doc.text(v))
	start := len(c.out)
	i, ok := parseInt(b)
	switch {
	case ok:
		c.out = strconv.AppendInt(c.out, i, 10)
	case v.kind == '0' && bytes.ContainsAny(b, ".eE"):
		f, err := strconv.ParseFloat(string(b), 64)
		if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return false
		}
		c.out = strconv.AppendInt(c.out, int64(f), 10)
	case a.typ.primitive == long && v.kind == '0' && isLong(b):
		c.out = append(c.out, b...)
	default:
		return false
	}
	if t := a.typ; t.ranged.there {
		if f, err := number(c.out[start:]); err != nil || f < t.lo || f > t.hi {
			c.out = c.out[:start]
			return false
		}
	}
	if v.kind == '"' || string(b) != string(c.out[start:]) {
		c.cast(n, "number")
	}
	return true
}

// parseInt reads an integer in base 10: blanks around, a sign, leading zeros.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 1 && isDigit(b[0]) {
		return int64(b[0] - '0'), true
	}
	b = bytes.TrimSpace(b)
	negative := len(b) > 0 && b[0] == '-'
	if negative || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	var u uint64
	for _, d := range b {
		if !isDigit(d) || u > (math.MaxUint64-9)/10 {
			return 0, false
		}
		u = u*10 + uint64(d-'0')
	}
	switch {
	case negative && u <= 1<<63:
		return -int64(u), true
	case !negative && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}

// float writes a number with a fraction or an exponent.
func (c *Conformer) float(n int32) bool {
	v := &c.doc.nodes[n]
	if v.kind == 't' || v.kind == 'f' {
		return false
	}
	b := bytes.TrimSpace(c.doc.text(v))
	if !isNumber(b) {
		return false
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return false
	}
	written := v.kind == '0' || isLiteral(b)
	if written && bytes.ContainsAny(b, ".eE") {
		c.out = append(c.out, b...)
	} else if written {
		c.out = append(append(c.out, b...), ".0"...)
	} else {
		start := len(c.out)
		if c.out = strconv.AppendFloat(c.out, f, 'g', -1, 64); !bytes.ContainsAny(c.out[start:], ".e") {
			c.out = append(c.out, ".0"...)
		}
	}
	if v.kind == '"' || !bytes.ContainsAny(b, ".eE") {
		c.cast(n, "number with a fraction")
	}
	return true
}

// isLiteral tells whether b is a number as JSON writes it.
func isLiteral(b []byte) bool {
	d := document{b: b}
	return d.number(0) == len(b)
}

// boolean writes true or false, for 1 and 0, yes and no as well.
func (c *Conformer) boolean(n int32) bool {
	v := &c.doc.nodes[n]
	if v.kind == 't' || v.kind == 'f' {
		c.raw(n)
		return true
	}
	switch b := string(bytes.TrimSpace(c.doc.text(v))); {
	case b == "1" || strings.EqualFold(b, "true") || strings.EqualFold(b, "yes"):
		c.out = append(c.out, "true"...)
	case b == "0" || strings.EqualFold(b, "false") || strings.EqualFold(b, "no"):
		c.out = append(c.out, "false"...)
	default:
		return false
	}
	c.cast(n, "boolean")
	return true
}

// timestamp writes milliseconds.
func (c *Conformer) timestamp(n int32) bool {
	t, ok := c.instant(n)
	if ok {
		c.out = strconv.AppendInt(c.out, t.Millis, 10)
	}
	return ok
}

// instant reads a time: text in the form that the config reads, or in a common one.
func (c *Conformer) instant(n int32) (t Instant, ok bool) {
	v := &c.doc.nodes[n]
	if v.kind != '"' && v.kind != '0' {
		return t, false
	}
	b := c.doc.text(v)
	if v.kind == '"' && c.cfg.Time != nil {
		t, ok = c.cfg.Time(b)
	}
	if !ok {
		t, ok = ParseInstant(b)
	}
	if ok {
		var is [20]byte
		if v.kind == '"' || string(strconv.AppendInt(is[:0], t.Millis, 10)) != string(b) {
			c.cast(n, "milliseconds")
		}
	}
	return t, ok
}

// raw writes a value as it is.
func (c *Conformer) raw(n int32) {
	v := &c.doc.nodes[n]
	if v.kind == '"' {
		c.out = append(c.out, c.doc.b[v.text[0]-1:v.text[1]+1]...)
		return
	}
	c.out = append(c.out, c.doc.b[v.text[0]:v.text[1]]...)
}

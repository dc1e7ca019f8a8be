package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// The oracle reads a payload with encoding/json and big.Rat, one tree per payload, and
// says what a row has to hold. It shares nothing with the decoder but the field list.

type member struct {
	name  string
	value any
}

// tree reads the next JSON value: []member for objects (with duplicates), []any, and
// what json.Decoder gives for the rest.
func tree(dec *json.Decoder, depth, maxDepth int, keys *int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth++; depth > maxDepth {
		return nil, fmt.Errorf("too deep")
	}
	obj, list := []member{}, []any{}
	for dec.More() {
		var name string
		if delim == '{' {
			tok, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name = tok.(string)
			*keys++
		}
		v, err := tree(dec, depth, maxDepth, keys)
		if err != nil {
			return nil, err
		}
		obj, list = append(obj, member{name, v}), append(list, v)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if delim == '{' {
		return obj, nil
	}
	return list, nil
}

// halfPair tells whether some string has an escaped surrogate without its other half.
func halfPair(b []byte) bool {
	s := strings.ReplaceAll(string(b), `\\`, "")
	for i := 0; i+6 <= len(s); i++ {
		if s[i:i+2] != `\u` {
			continue
		}
		u, _ := strconv.ParseUint(s[i+2:i+6], 16, 32)
		switch {
		case u >= 0xdc00 && u < 0xe000:
			return true
		case u >= 0xd800 && u < 0xdc00:
			if i+12 > len(s) || s[i+6:i+8] != `\u` {
				return true
			}
			low, _ := strconv.ParseUint(s[i+8:i+12], 16, 32)
			if low < 0xdc00 || low >= 0xe000 {
				return true
			}
			i += 11
		}
	}
	return false
}

// oracle returns the row as TestAppend renders it, or an error when the payload has to
// be refused.
func oracle(fields []Field, limits Limits, b []byte) (string, error) {
	if !json.Valid(b) || !utf8.Valid(b) || halfPair(b) {
		return "", fmt.Errorf("not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	keys := 0
	v, err := tree(dec, 0, limits.Depth, &keys)
	if err != nil {
		return "", err
	}
	root, ok := v.([]member)
	if !ok || keys > limits.Keys {
		return "", fmt.Errorf("no object or too many keys")
	}
	var out []string
	for _, f := range fields {
		v, err := find(root, f.Path)
		if err != nil {
			return "", err
		}
		if v == nil {
			if f.Required {
				return "", fmt.Errorf("missing %s", f.Name)
			}
			continue
		}
		text, err := oracleValue(f, limits, v)
		if err != nil {
			return "", err
		}
		out = append(out, f.Name+"="+text)
	}
	return strings.Join(out, " "), nil
}

func find(v any, path string) (any, error) {
	steps, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	for _, s := range steps {
		if v == nil {
			return nil, nil
		}
		if s.index >= 0 {
			list, ok := v.([]any)
			if !ok {
				return nil, fmt.Errorf("not an array")
			}
			v = nil
			if s.index < len(list) {
				v = list[s.index]
			}
			continue
		}
		obj, ok := v.([]member)
		if !ok {
			return nil, fmt.Errorf("not an object")
		}
		v = nil
		found := 0
		for _, m := range obj {
			if m.name == s.name {
				v = m.value
				found++
			}
		}
		if found > 1 {
			return nil, fmt.Errorf("%s twice", s.name)
		}
	}
	return v, nil
}

// strictTime refuses what time.Parse lets through: hours of one digit, commas, offsets
// of a day.
var strictTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func oracleValue(f Field, limits Limits, v any) (string, error) {
	wrong := fmt.Errorf("%s: wrong type %T", f.Name, v)
	switch f.Type {
	case String:
		s, ok := v.(string)
		if !ok {
			return "", wrong
		}
		return s, nil
	case Bool:
		b, ok := v.(bool)
		if !ok {
			return "", wrong
		}
		return strconv.FormatBool(b), nil
	case Float64:
		n, ok := v.(json.Number)
		if !ok {
			return "", wrong
		}
		x, err := strconv.ParseFloat(string(n), 64)
		if err != nil || math.IsInf(x, 0) {
			return "", fmt.Errorf("not finite")
		}
		return strconv.FormatFloat(x, 'g', -1, 64), nil
	case Int64:
		n, ok := v.(json.Number)
		if !ok {
			return "", wrong
		}
		return oracleFixed(string(n), f.Scale, false)
	case Time:
		if s, ok := v.(string); ok && f.Unit == RFC3339 {
			if len(s) > 11 && s[10] == ' ' || strings.ContainsAny(s, "tz") {
				s = strings.ToUpper(strings.Replace(s, " ", "T", 1))
			}
			ts, err := time.Parse(time.RFC3339Nano, s)
			if err != nil || !strictTime.MatchString(s) {
				return "", fmt.Errorf("no time")
			}
			return strconv.FormatInt(ts.UnixMicro(), 10), nil
		}
		n, ok := v.(json.Number)
		if s, quoted := v.(string); quoted {
			var x json.Number
			if json.Unmarshal([]byte(s), &x) != nil || strings.TrimSpace(s) != s || s == "" || s == "null" || s[0] == '"' {
				return "", wrong
			}
			n, ok = json.Number(s), true
		}
		if !ok || f.Unit == RFC3339 {
			return "", wrong
		}
		return oracleFixed(string(n), map[string]int{Seconds: 6, Millis: 3, Micros: 0, Nanos: -3}[f.Unit], true)
	}
	return "", wrong
}

func oracleFixed(n string, scale int, floor bool) (string, error) {
	x, ok := new(big.Rat).SetString(n)
	if !ok {
		return "", fmt.Errorf("no number")
	}
	ten := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(scale, -scale))), nil))
	if scale < 0 {
		ten.Inv(ten)
	}
	x.Mul(x, ten)
	q, rest := new(big.Int).DivMod(x.Num(), x.Denom(), new(big.Int)) // floor: the denominator is positive
	if !floor {
		twice := new(big.Int).Lsh(rest, 1)
		if c := twice.Cmp(x.Denom()); c > 0 || c == 0 && q.Bit(0) == 1 {
			q.Add(q, big.NewInt(1))
		}
	}
	if !q.IsInt64() {
		return "", fmt.Errorf("out of range")
	}
	return q.String(), nil
}

// check compares decoder and oracle on one payload; d is used again and again, so that
// what it learned is under test too.
func check(t *testing.T, d *Decoder, fields []Field, in []byte) (taken bool) {
	t.Helper()
	want, wantErr := oracle(fields, DefaultLimits(), in)
	before := d.Len()
	err := d.Append(in)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q\ndecoder: %v\n oracle: %v", in, err, wantErr)
	}
	if err != nil {
		if d.Len() != before {
			t.Fatalf("%q: %d rows were added by a refusal", in, d.Len()-before)
		}
		return false
	}
	cols := d.Columns()
	defer release(cols)
	if before != 0 || cols[0].Len() != 1 {
		t.Fatalf("%q: %d rows", in, cols[0].Len())
	}
	if got := row(d, cols, 0); got != want {
		t.Fatalf("%q\n got %s\nwant %s", in, got, want)
	}
	return true
}

// document writes random payloads that mostly fit the fields.
type document struct {
	*rand.Rand
	buf []byte
}

func (g *document) blank() {
	for g.IntN(12) == 0 {
		g.buf = append(g.buf, " \t\n\r"[g.IntN(4)])
	}
}

func (g *document) text(s string) { g.buf = append(g.buf, s...) }

func (g *document) number() {
	switch g.IntN(8) {
	case 0:
		g.text(strconv.FormatInt(int64(g.Uint64()), 10))
	case 1:
		g.text(strconv.FormatFloat(g.NormFloat64()*1e6, 'g', -1, 64))
	case 2:
		g.text(strconv.FormatFloat(g.NormFloat64()*1000, 'f', g.IntN(30), 64))
	case 3:
		fmt.Fprintf(g, "%d.%de%d", g.IntN(1000), g.IntN(100000), g.IntN(40)-20)
	case 4:
		g.text([]string{"0", "-0", "0.5", "-1.5", "2.5", "0.005", "0.015", "-0.025", "9223372036854775807", "9223372036854775807.5", "-9223372036854775808",
			"92233720368547758.075", "1e18", "1E-3", "123456789012345678", "1234567890123456789", "0.0000000000000000005", "5e-324", "1.7976931348623157e308", "1e309"}[g.IntN(20)])
	default:
		g.text(strconv.Itoa(g.IntN(1 << g.IntN(40))))
		if g.IntN(2) == 0 {
			fmt.Fprintf(g, ".%d", g.IntN(1<<g.IntN(20)))
		}
	}
}

func (g *document) Write(b []byte) (int, error) {
	g.buf = append(g.buf, b...)
	return len(b), nil
}

func (g *document) str() {
	g.text(`"`)
	for range g.IntN(24) {
		switch g.IntN(20) {
		case 0:
			g.text([]string{`\n`, `\"`, `\\`, `\/`, `\u0041`, `\ud83d\ude00`, `\u20ac`}[g.IntN(7)])
		case 1:
			g.text([]string{"é", "東", "😀"}[g.IntN(3)])
		default:
			g.buf = append(g.buf, "abcdefghijkl0123 -_:{}[],"[g.IntN(25)])
		}
	}
	g.text(`"`)
}

func (g *document) stamp() {
	ts := time.UnixMicro(int64(g.Uint64N(4e15))).UTC()
	if g.IntN(3) == 0 {
		ts = ts.In(time.FixedZone("", (g.IntN(48)-24)*1800))
	}
	fmt.Fprintf(g, "%q", ts.Format(time.RFC3339Nano))
}

func (g *document) any(depth int) {
	switch g.IntN(9) {
	case 0, 1:
		g.str()
	case 2, 3:
		g.number()
	case 4:
		g.text([]string{"true", "false", "null"}[g.IntN(3)])
	case 5:
		g.stamp()
	case 6:
		if depth < 5 {
			g.list(depth, g.IntN(4), nil)
			return
		}
		g.text("null")
	default:
		if depth < 5 {
			g.object(depth, []string{"k1", "a longer name", "k3", "id", "lat"}[:g.IntN(6)], nil)
			return
		}
		g.text("{}")
	}
}

func (g *document) list(depth, n int, value func(i int)) {
	g.text("[")
	for i := range n {
		if i > 0 {
			g.text(",")
		}
		g.blank()
		if value != nil && g.IntN(40) > 0 {
			value(i)
		} else {
			g.any(depth + 1)
		}
		g.blank()
	}
	g.text("]")
}

func (g *document) object(depth int, names []string, value func(name string)) {
	g.text("{")
	g.blank()
	for i, name := range names {
		if i > 0 {
			g.text(",")
			g.blank()
		}
		if len(name) > 0 && g.IntN(30) == 0 {
			fmt.Fprintf(g, `"\u%04x%s"`, name[0], name[1:])
		} else {
			fmt.Fprintf(g, "%q", name)
		}
		g.blank()
		g.text(":")
		g.blank()
		switch {
		case value == nil || g.IntN(60) == 0:
			g.any(depth + 1)
		case g.IntN(20) == 0:
			g.text("null")
		default:
			value(name)
		}
		g.blank()
	}
	g.text("}")
}

// sample writes a payload for sampleFields.
func (g *document) sample() []byte {
	g.buf = g.buf[:0]
	names := []string{"tag", "ts", "temp_c", "gps", "accel", "on", "at", "a_name_of_more_than_16_bytes", "list", "fw", "seq", "ts2"}
	if g.IntN(3) == 0 {
		g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
	if g.IntN(4) == 0 {
		names = names[:g.IntN(len(names)+1)]
	}
	if g.IntN(40) == 0 && len(names) > 0 {
		names = append(names, names[g.IntN(len(names))])
	}
	g.object(1, names, func(name string) {
		switch name {
		case "tag":
			g.object(2, []string{"id", "x"}[:1+g.IntN(2)], func(string) { g.str() })
		case "ts":
			if g.IntN(4) == 0 {
				g.text(`"`)
				g.number()
				g.text(`"`)
				return
			}
			g.number()
		case "temp_c":
			g.number()
		case "gps":
			g.object(2, []string{"lat", "lon", "acc"}, func(string) { g.number() })
		case "accel":
			g.list(2, g.IntN(5), func(int) { g.number() })
		case "on":
			g.text(strconv.FormatBool(g.IntN(2) == 0))
		case "at":
			g.stamp()
		case "a_name_of_more_than_16_bytes":
			g.str()
		case "list":
			g.list(2, g.IntN(3), func(int) {
				g.object(3, []string{"m"}, func(string) {
					g.object(4, []string{"dotted.name"}, func(string) { g.list(5, 1, func(int) { g.str() }) })
				})
			})
		default:
			g.any(2)
		}
	})
	return g.buf
}

func TestOracle(t *testing.T) {
	g := &document{Rand: rand.New(rand.NewPCG(1, 2))}
	fields := sampleFields()
	d := newTestDecoder(t, fields)
	taken, n := 0, 30000
	if testing.Short() {
		n = 3000
	}
	for i := range n {
		in := g.sample()
		if i%5 == 4 { // damage it
			for range 1 + g.IntN(3) {
				at := g.IntN(len(in))
				switch g.IntN(3) {
				case 0:
					in[at] = byte(g.IntN(256))
				case 1:
					in[at] = "{}[]\",:\\0n."[g.IntN(11)]
				default:
					in = append(in[:at], in[at+1:]...)
				}
				if len(in) == 0 {
					break
				}
			}
		}
		if hugeExponent(in) {
			continue
		}
		if check(t, d, fields, in) {
			taken++
		}
	}
	if taken < n/4 || taken > n*9/10 {
		t.Errorf("%d of %d payloads were taken: the generator is out of tune", taken, n)
	}
}

// hugeExponent tells numbers that big.Rat would spell out in megabytes.
func hugeExponent(b []byte) bool {
	for i := range b {
		if b[i]|0x20 != 'e' {
			continue
		}
		digits := 0
		for _, c := range b[i+1:] {
			if isDigit(c) {
				digits++
			} else if c != '+' && c != '-' {
				break
			}
		}
		if digits > 4 {
			return true
		}
	}
	return false
}

// Every rounding of every scale, against big.Rat.
func TestFixed(t *testing.T) {
	g := &document{Rand: rand.New(rand.NewPCG(3, 4))}
	for range 30000 {
		g.buf = g.buf[:0]
		g.number()
		scale, r := g.IntN(maxScale+4)-3, rounding(g.IntN(2))
		want, wantErr := oracleFixed(string(g.buf), scale, r == down)
		long, ok := fixedLong(g.buf, scale, r)
		if ok != (wantErr == nil) || ok && strconv.FormatInt(long, 10) != want {
			t.Fatalf("%s scale %d rounding %d: long gives %d %v, want %s %v", g.buf, scale, r, long, ok, want, wantErr)
		}
		m, frac, kind, end := scanNumber(g.buf, 0)
		if end != len(g.buf) || kind == numBad {
			t.Fatalf("%s: scanned to %d, kind %d", g.buf, end, kind)
		}
		if kind == numShort {
			short, ok := fixedShort(m, frac, scale, r)
			if ok != (wantErr == nil) || ok && short != long {
				t.Fatalf("%s scale %d rounding %d: short gives %d %v, long %d", g.buf, scale, r, short, ok, long)
			}
		}
	}
}

func TestRFC3339(t *testing.T) {
	g := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		// The years 0 to 9999.
		ts := time.Unix(g.Int64N(253402300800+62167219200)-62167219200, g.Int64N(1e9)).In(time.FixedZone("", (g.IntN(46)-23)*1800))
		if ts.Year() < 0 || ts.Year() > 9999 {
			continue
		}
		text := ts.Format(time.RFC3339Nano)
		if got, ok := parseRFC3339([]byte(text)); !ok || got != ts.UnixMicro() {
			t.Fatalf("%s: got %d %v, want %d", text, got, ok, ts.UnixMicro())
		}
	}
}

func FuzzAppend(f *testing.F) {
	g := &document{Rand: rand.New(rand.NewPCG(7, 8))}
	for range 50 {
		f.Add(bytes.Clone(g.sample()))
	}
	for _, s := range []string{``, `{`, `{"tag":{"id":"a"}}`, `{"tag":{"id":"\ud83d\ude00"},"ts":"1.5e3"}`, `{"tag":{"id":"a"},"at":"2023-11-14T22:13:20Z"}`, `{"tag":{"i\u0064":"a"},"temp_c":-0.005}`} {
		f.Add([]byte(s))
	}
	fields := sampleFields()
	f.Fuzz(func(t *testing.T, in []byte) {
		d := newTestDecoder(t, fields)
		if hugeExponent(in) || len(in) > 1<<16 {
			_ = d.Append(in) // it must not panic
			return
		}
		check(t, d, fields, in)
		check(t, d, fields, in)
	})
}

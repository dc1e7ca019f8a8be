package mapping

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// epoch is the format of timestamps that count seconds since 1970.
const epoch = "epoch"

const (
	// The calendar of the library goes from year 1 to 9999. Its conversion of seconds looks
	// one day back, so that the first day is out of reach for epoch.
	minEpoch = -62135510400
	maxEpoch = 253402300799
	// maxSteps bounds the ways that are tried to match one text against a pattern.
	maxSteps = 1 << 12
)

// layout reads timestamps: epoch, or the items of a strptime pattern.
type layout struct {
	epoch bool
	items []item
	dates []byte // the directives among the items, in order
	cause string // why no text matches, empty for a good pattern
}

// item is a part of a pattern: a directive (then slot is its place in layout.dates), white
// space (directive ' ') or a character (directive 0).
type item struct {
	directive byte
	slot      int
	char      rune
}

// wide are the directives that stand for several.
var wide = map[rune]string{'c': "%a %b %d %H:%M:%S %Y", 'x': "%m/%d/%y", 'X': "%H:%M:%S"}

// numeric has the forms of the directives that are numbers, the first that leads to a match
// counts. A form is a sequence of byte pairs, each the first and last character that may
// stand there; ## is a digit of any script.
var numeric = map[byte][]string{
	'd': {"3301", "12##", "0019", "19", "  19"},
	'f': {"090909090909", "0909090909", "09090909", "090909", "0909", "09"},
	'G': {"########"},
	'H': {"2203", "01##", "##"},
	'I': {"1102", "0019", "19"},
	'j': {"336606", "3305##", "12####", "0019##", "000019", "19##", "0019", "19"},
	'm': {"1102", "0019", "19"},
	'M': {"05##", "##"},
	'S': {"6601", "05##", "##"},
	'u': {"17"},
	'U': {"5503", "04##", "##"},
	'V': {"5503", "0019", "14##", "##"},
	'w': {"06"},
	'W': {"5503", "04##", "##"},
	'y': {"####"},
	'Y': {"########"},
}

var (
	months   = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
	weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	named    = map[byte][]string{
		'A': weekdays, 'a': short(weekdays), 'B': months, 'b': short(months), 'p': {"am", "pm"}, 'Z': {"utc", "gmt"},
	}
)

func short(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n[:3]
	}
	return out
}

func newLayout(format string) layout {
	if format == epoch {
		return layout{epoch: true}
	}
	var l layout
	l.add([]rune(format))
	return l
}

func (l *layout) add(format []rune) {
	for i := 0; i < len(format); i++ {
		c := format[i]
		switch {
		case isSpace(c):
			for i+1 < len(format) && isSpace(format[i+1]) {
				i++
			}
			l.items = append(l.items, item{directive: ' '})
			continue
		case c != '%':
			l.items = append(l.items, item{char: c})
			continue
		case i+1 == len(format):
			l.cause = "a % at the end"
			return
		}
		i++
		c = format[i]
		if c == '%' {
			l.items = append(l.items, item{char: c})
			continue
		}
		if many, ok := wide[c]; ok {
			if l.add([]rune(many)); l.cause != "" {
				return
			}
			continue
		}
		if c > unicode.MaxASCII || numeric[byte(c)] == nil && named[byte(c)] == nil && c != 'z' {
			l.cause = fmt.Sprintf("%%%c is no directive", c)
			return
		}
		if bytes.IndexByte(l.dates, byte(c)) >= 0 {
			l.cause = fmt.Sprintf("%%%c twice", c)
			return
		}
		l.items = append(l.items, item{directive: byte(c), slot: len(l.dates)})
		l.dates = append(l.dates, byte(c))
	}
}

// matching is one attempt to match a text.
type matching struct {
	s     []byte
	steps int
	at    [32]span // of the directives; there are 23
}

// match matches s[p:] from an item on.
func (l *layout) match(m *matching, i, p int) bool {
	for ; i < len(l.items); i++ {
		it := l.items[i]
		if it.directive != 0 {
			break
		}
		r, n := decodeRune(m.s[p:])
		if p == len(m.s) || !sameLetter(r, it.char) {
			return false
		}
		p += n
	}
	if m.steps++; m.steps > maxSteps {
		return false
	}
	if i == len(l.items) {
		return p == len(m.s)
	}
	it := l.items[i]
	if it.directive == ' ' {
		return l.matchBlanks(m, i, p)
	}
	var ends [8]int
	for _, end := range ends[:directiveEnds(it.directive, m.s, p, &ends)] {
		m.at[it.slot] = span{int32(p), int32(end)}
		if l.match(m, i+1, end) {
			return true
		}
	}
	return false
}

// matchBlanks takes as much white space as it can, at least one character.
func (l *layout) matchBlanks(m *matching, i, p int) bool {
	end := p
	for end < len(m.s) {
		r, n := decodeRune(m.s[end:])
		if !isSpace(r) {
			break
		}
		end += n
	}
	for end > p {
		if l.match(m, i+1, end) {
			return true
		}
		if m.steps > maxSteps {
			return false
		}
		for end--; end > p && m.s[end]&0xc0 == 0x80; end-- {
		}
	}
	return false
}

// sameLetter tells whether two characters differ in case only.
func sameLetter(a, b rune) bool {
	for r := unicode.SimpleFold(a); a != b && r != a; r = unicode.SimpleFold(r) {
		if r == b {
			return true
		}
	}
	return a == b
}

// directiveEnds puts the places where a directive that begins at p may end into ends, the
// preferred one first, and returns their number.
func directiveEnds(directive byte, s []byte, p int, ends *[8]int) int {
	n := 0
	if directive == 'z' {
		return zoneEnds(s, p, ends)
	}
	for _, form := range numeric[directive] {
		if end := formEnd(form, s, p); end > 0 {
			ends[n] = end
			n++
		}
	}
	for _, name := range named[directive] {
		if len(s)-p >= len(name) && strings.EqualFold(string(s[p:p+len(name)]), name) {
			ends[n] = p + len(name)
			return n + 1
		}
	}
	return n
}

// formEnd returns where a form that begins at p ends, -1 if it is not there.
func formEnd(form string, s []byte, p int) int {
	for i := 0; i < len(form); i += 2 {
		switch {
		case form[i] == '#':
			_, n := digitAt(s, p)
			if n == 0 {
				return -1
			}
			p += n
		case p >= len(s) || s[p] < form[i] || s[p] > form[i+1]:
			return -1
		default:
			p++
		}
	}
	return p
}

// zoneEnds is directiveEnds for %z: Z, or a sign, hours, minutes, and maybe seconds with a
// fraction, with or without colons.
func zoneEnds(s []byte, p int, ends *[8]int) int {
	if p < len(s) && s[p] == 'Z' {
		ends[0] = p + 1
		return 1
	}
	colon := func(p int) int {
		if p < len(s) && s[p] == ':' {
			return p + 1
		}
		return p
	}
	if p >= len(s) || s[p] != '+' && s[p] != '-' {
		return 0
	}
	hours := formEnd("####", s, p+1)
	if hours < 0 {
		return 0
	}
	minutes := formEnd("05##", s, colon(hours))
	if minutes < 0 {
		return 0
	}
	n := 0
	if seconds := formEnd("05##", s, colon(minutes)); seconds > 0 {
		if seconds < len(s) && s[seconds] == '.' {
			end := seconds + 1
			var digits [6]int
			k := 0
			for ; k < len(digits); k++ {
				_, length := digitAt(s, end)
				if length == 0 {
					break
				}
				end += length
				digits[k] = end
			}
			for k--; k >= 0; k-- {
				ends[n] = digits[k]
				n++
			}
		}
		ends[n] = seconds
		n++
	}
	ends[n] = minutes
	return n + 1
}

// day is a day of the calendar, month and day from 1.
type day struct{ year, month, day int }

// seconds reads text in the format epoch: blanks around, a sign and single underscores
// between digits are allowed.
func seconds(s []byte) (int64, bool) {
	s = bytes.TrimFunc(s, isSpace)
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	var v int64
	for p := 0; ; {
		digit, n := digitAt(s, p)
		if n == 0 {
			return 0, false
		}
		p += n
		// Beyond the calendar the value does not matter.
		if v = v*10 + int64(digit); v > 1<<40 {
			v = 1 << 40
		}
		if p == len(s) {
			break
		}
		if s[p] == '_' {
			p++
		}
	}
	if negative {
		v = -v
	}
	return v, true
}

// epochDay returns the UTC day of a second.
func epochDay(v int64) (day, string) {
	if v < minEpoch || v > maxEpoch {
		return day{}, fmt.Sprintf("%d seconds are out of the calendar's range", v)
	}
	return dayOf(time.Unix(v, 0).UTC()), ""
}

func dayOf(t time.Time) day { return day{t.Year(), int(t.Month()), t.Day()} }

// parsed is what the directives of one text say. A value that is not there is -1.
type parsed struct {
	year, month, day     int
	hour, minute, second int
	micros               int
	isoYear, isoWeek     int
	week, weekStart      int // %U or %W, and the weekday on which such weeks start
	weekday              int // from Monday, 0
	julian               int
	zoned                bool
	offset               time.Duration
}

// date returns the day of s: the one that is written, or with utc the one of the instant if
// the text has an offset.
func (l *layout) date(s []byte, utc bool) (day, string) {
	if l.cause != "" {
		return day{}, "the format has " + l.cause
	}
	m := matching{s: s}
	if !l.match(&m, 0, 0) {
		if m.steps > maxSteps {
			return day{}, fmt.Sprintf("%s can be read in too many ways", clip(s))
		}
		return day{}, clip(s) + " does not match the format"
	}
	v, cause := l.parsed(&m)
	if cause != "" {
		return day{}, cause
	}
	on, cause := v.on()
	if cause != "" {
		return day{}, clip(s) + ": " + cause
	}
	if !utc || !v.zoned {
		return on, ""
	}
	t := time.Date(on.year, time.Month(on.month), on.day, v.hour, v.minute, v.second, v.micros*1000, time.UTC).Add(-v.offset)
	if on = dayOf(t); on.year < 1 || on.year > 9999 {
		return day{}, clip(s) + ": out of the calendar's range"
	}
	return on, ""
}

// instant reads a text as a point in time, UTC where it has no offset. A format without a
// year gives none.
func (l *layout) instant(s []byte) (ocsf.Instant, bool) {
	if l.epoch {
		return ocsf.Instant{}, false // ParseInstant takes it, and other units as well
	}
	if t, ok := l.plainInstant(s); ok {
		return t, true
	}
	m := matching{s: s}
	if l.cause != "" || !l.match(&m, 0, 0) {
		return ocsf.Instant{}, false
	}
	v, cause := l.parsed(&m)
	if cause != "" || v.year < 0 && v.isoYear < 0 {
		return ocsf.Instant{}, false
	}
	on, cause := v.on()
	if cause != "" {
		return ocsf.Instant{}, false
	}
	t := time.Date(on.year, time.Month(on.month), on.day, v.hour, v.minute, v.second, v.micros*1000, time.UTC).Add(-v.offset)
	return ocsf.Instant{Millis: t.UnixMilli(), Offset: int(v.offset / time.Minute), Zoned: v.zoned || l.endsInZ()}, true
}

// plainInstant is instant for most texts: a whole date and time in digits of full length,
// with the other characters as they are in the pattern. What it takes, the pattern matches in
// the same way, for it has no earlier choice.
func (l *layout) plainInstant(s []byte) (ocsf.Instant, bool) {
	var year, month, day, hour, minute, second, micros int
	for _, it := range l.items {
		var to *int
		size, lo, hi := 2, 0, 59
		switch it.directive {
		case 0:
			if len(s) == 0 || rune(s[0]) != it.char || it.char >= utf8.RuneSelf {
				return ocsf.Instant{}, false
			}
			s = s[1:]
			continue
		case ' ':
			if len(s) < 2 || s[0] != ' ' || isSpace(rune(s[1])) || s[1] >= utf8.RuneSelf {
				return ocsf.Instant{}, false
			}
			s = s[1:]
			continue
		case 'f':
			n := 0
			for n < 6 && n < len(s) && isDigit(s[n]) {
				micros = micros*10 + int(s[n]-'0')
				n++
			}
			if n == 0 {
				return ocsf.Instant{}, false
			}
			for s = s[n:]; n < 6; n++ {
				micros *= 10
			}
			continue
		case 'Y':
			to, size, lo, hi = &year, 4, 1, 9999
		case 'm':
			to, lo, hi = &month, 1, 12
		case 'd':
			to, lo, hi = &day, 1, 31
		case 'H':
			to, hi = &hour, 23
		case 'M':
			to = &minute
		case 'S':
			to = &second
		default:
			return ocsf.Instant{}, false
		}
		if len(s) < size {
			return ocsf.Instant{}, false
		}
		for _, c := range s[:size] {
			if !isDigit(c) {
				return ocsf.Instant{}, false
			}
			*to = *to*10 + int(c-'0')
		}
		if *to < lo || *to > hi {
			return ocsf.Instant{}, false
		}
		s = s[size:]
	}
	if len(s) > 0 || year == 0 || month == 0 || day == 0 {
		return ocsf.Instant{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, micros*1000, time.UTC)
	if t.Day() != day {
		return ocsf.Instant{}, false
	}
	return ocsf.Instant{Millis: t.UnixMilli(), Zoned: l.endsInZ()}, true
}

// endsInZ tells whether the pattern says UTC with a letter of its own.
func (l *layout) endsInZ() bool {
	n := len(l.items)
	return n > 0 && l.items[n-1].directive == 0 && l.items[n-1].char == 'Z'
}

// dayOfMillis returns the UTC day of a time.
func dayOfMillis(ms int64) day { return dayOf(time.UnixMilli(ms).UTC()) }

// clip quotes s, cut when it is long.
func clip(s []byte) string {
	if len(s) > 64 {
		return fmt.Sprintf("%q and %d bytes more", s[:64], len(s)-64)
	}
	return fmt.Sprintf("%q", s)
}

// parsed reads what was matched. Of directives for the same thing the last one counts.
func (l *layout) parsed(m *matching) (parsed, string) {
	v := parsed{year: -1, month: 1, day: 1, isoYear: -1, isoWeek: -1, week: -1, weekday: -1, julian: -1}
	half, twelve := -1, false
	for slot, directive := range l.dates {
		s := m.s[m.at[slot].from:m.at[slot].to]
		switch n := value(directive, s); directive {
		case 'Y':
			v.year = n
		case 'y':
			if v.year = 1900 + n; n <= 68 {
				v.year = 2000 + n
			}
		case 'G':
			v.isoYear = n
		case 'm':
			v.month = n
		case 'B', 'b':
			v.month = n + 1
		case 'd':
			v.day = n
		case 'H':
			v.hour, twelve = n, false
		case 'I':
			v.hour, twelve = n%12, true
		case 'p':
			half = n
		case 'M':
			v.minute = n
		case 'S':
			v.second = n
		case 'f':
			for v.micros = n; len(s) < 6; s = append(s[:len(s):len(s)], '0') {
				v.micros *= 10
			}
		case 'A', 'a':
			v.weekday = n
		case 'w':
			v.weekday = (n + 6) % 7
		case 'u':
			v.weekday = n - 1
		case 'j':
			v.julian = n
		case 'U':
			v.week, v.weekStart = n, 6
		case 'W':
			v.week, v.weekStart = n, 0
		case 'V':
			v.isoWeek = n
		case 'z':
			var ok bool
			if v.offset, ok = offset(s); !ok {
				return v, clip(s) + " is no offset"
			}
			v.zoned = true
		}
	}
	if twelve && half == 1 {
		v.hour += 12
	}
	return v, ""
}

// value returns the number that s is, or the place of the name.
func value(directive byte, s []byte) int {
	for i, name := range named[directive] {
		if strings.EqualFold(string(s), name) {
			return i
		}
	}
	n := 0
	for p := 0; p < len(s); {
		digit, length := digitAt(s, p)
		if length == 0 {
			length = 1 // the blank of %d, what is in %z
		} else {
			n = n*10 + digit
		}
		p += length
	}
	return n
}

// offset reads what %z matched. Colons are between all parts or none, and it is less than a
// day.
func offset(s []byte) (time.Duration, bool) {
	if s[0] == 'Z' {
		return 0, true
	}
	var parts [4]int // hours, minutes, seconds, millionths
	var digits [4]int
	colons, part := 0, 0
	for p := 1; p < len(s); {
		n, length := digitAt(s, p)
		switch {
		case s[p] == ':':
			if colons++; digits[part] != 2 || colons != part+1 {
				return 0, false
			}
			length = 1
		case s[p] == '.':
			part, length = 3, 1
		default:
			if part < 2 && digits[part] == 2 {
				part++
			}
			parts[part] = parts[part]*10 + n
			digits[part]++
		}
		p += length
	}
	if colons == 1 && digits[2] > 0 {
		return 0, false
	}
	for ; digits[3] < 6; digits[3]++ {
		parts[3] *= 10
	}
	d := time.Duration(parts[0])*time.Hour + time.Duration(parts[1])*time.Minute + time.Duration(parts[2])*time.Second +
		time.Duration(parts[3])*time.Microsecond
	if s[0] == '-' {
		d = -d
	}
	return d, d > -24*time.Hour && d < 24*time.Hour
}

// on returns the day that is written.
func (v *parsed) on() (day, string) {
	switch {
	case v.year < 0 && v.isoYear >= 0:
		if v.isoWeek < 0 || v.weekday < 0 {
			return day{}, "%G needs %V and a weekday"
		}
		if v.julian >= 0 {
			return day{}, "%G and %j exclude each other"
		}
	case v.week < 0 && v.isoWeek >= 0:
		return day{}, "%V needs %G and a weekday, and no %Y"
	}
	year, noYear := v.year, v.year < 0
	if noYear {
		// Without a year it is 1900, but weeks are counted in a leap year on 29 February.
		if year = 1900; v.month == 2 && v.day == 29 {
			year = 1904
		}
	}
	leap := noYear && year == 1904
	at := day{year, v.month, v.day}
	weeks := v.julian < 0 && v.weekday >= 0
	switch {
	case year < 1 || weeks && v.week < 0 && v.isoYear == 0 && v.isoWeek >= 0:
		return day{}, "out of the calendar's range"
	case v.julian >= 0:
		at = dayOf(firstDay(year).AddDate(0, 0, v.julian-1))
	case weeks && v.week >= 0:
		at = dayOf(firstDay(year).AddDate(0, 0, dayOfWeek(year, v.week, v.weekday, v.weekStart)))
	case weeks && v.isoYear >= 0 && v.isoWeek >= 0:
		// Week 1 holds 4 January and starts on Monday.
		fourth := firstDay(v.isoYear).AddDate(0, 0, 3)
		at = dayOf(fourth.AddDate(0, 0, 7*(v.isoWeek-1)+v.weekday-monday(fourth)))
	}
	if at.year < 1 || at.year > 9999 {
		return day{}, "out of the calendar's range"
	}
	if leap {
		at.year = 1900
	}
	if dayOf(time.Date(at.year, time.Month(at.month), at.day, 0, 0, 0, 0, time.UTC)) != at {
		return day{}, "no such day"
	}
	if v.second > 59 {
		return day{}, "a leap second"
	}
	return at, ""
}

func firstDay(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// monday returns the weekday of t, Monday is 0.
func monday(t time.Time) int { return (int(t.Weekday()) + 6) % 7 }

// dayOfWeek returns the days from 1 January to a weekday of a week. Week 1 begins at the
// first weekStart of the year, what is before it is week 0.
func dayOfWeek(year, week, weekday, weekStart int) int {
	first := (monday(firstDay(year)) - weekStart + 7) % 7
	weekday = (weekday - weekStart + 7) % 7
	if week == 0 {
		return weekday - first
	}
	return (7-first)%7 + 7*(week-1) + weekday
}

// wholeSeconds returns a number of seconds without its fraction.
func wholeSeconds(f float64) (int64, bool) {
	if math.IsNaN(f) || math.Abs(f) > 1<<40 {
		return 0, false
	}
	return int64(f), true
}

package ocsf

import (
	"math"
	"strconv"
)

// Instant is a point in time that a text says.
type Instant struct {
	Millis int64 // since 1970 UTC, cut downwards
	// Offset is the zone of the text in minutes east of UTC, if Zoned says that it has one.
	Offset int
	Zoned  bool
}

// ParseInstant reads the forms in which logs have times: a number of seconds, milli-, micro-
// or nanoseconds since 1970, told apart by magnitude, and YYYY-MM-DD with T or a blank, a
// time of day, maybe a fraction, and maybe a zone (Z, +01:00, +0100, +01), without which it
// is UTC. Leap seconds are no time.
func ParseInstant(s []byte) (Instant, bool) {
	for len(s) > 0 && s[0] == ' ' {
		s = s[1:]
	}
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	if len(s) >= 10 && s[4] == '-' && s[7] == '-' {
		return parseCivil(s)
	}
	return parseEpoch(s)
}

// Below these a number is of seconds (until the year 5138), milliseconds, microseconds.
const (
	maxSeconds = 100_000_000_000
	maxMillis  = maxSeconds * 1000
	maxMicros  = maxMillis * 1000
)

// parseEpoch reads digits with maybe a sign and a fraction.
func parseEpoch(s []byte) (Instant, bool) {
	negative := len(s) > 0 && s[0] == '-'
	if negative || len(s) > 0 && s[0] == '+' {
		s = s[1:]
	}
	whole, p := digits(s, 0)
	if p == 0 || p > 19 || whole < 0 {
		return Instant{}, false
	}
	var millis int64 // of the fraction of a second
	more := false    // there is a fraction beyond
	if p < len(s) {
		if s[p] != '.' || p+1 == len(s) {
			return exponent(s, negative)
		}
		unit := int64(100)
		for p++; p < len(s); p++ {
			if !isDigit(s[p]) {
				return exponent(s, negative)
			}
			millis += int64(s[p]-'0') * unit
			more = more || unit == 0 && s[p] != '0'
			unit /= 10
		}
	}
	switch {
	case whole < maxSeconds:
		whole = whole*1000 + millis
	case whole < maxMillis:
		more = more || millis > 0
	case whole < maxMicros:
		more = more || millis > 0 || whole%1000 > 0
		whole /= 1000
	default:
		more = more || millis > 0 || whole%1_000_000 > 0
		whole /= 1_000_000
	}
	if negative {
		if whole = -whole; more {
			whole--
		}
	}
	return Instant{Millis: whole, Zoned: true}, true
}

// exponent reads a number in the form 1.7e9, as some languages print large floats.
func exponent(s []byte, negative bool) (Instant, bool) {
	f, err := strconv.ParseFloat(string(s), 64)
	if err != nil || !isNumber(s) {
		return Instant{}, false
	}
	switch {
	case f < maxSeconds:
		f *= 1000
	case f < maxMillis:
	case f < maxMicros:
		f /= 1000
	default:
		f /= 1_000_000
	}
	if negative {
		f = -f
	}
	if f = math.Floor(f); math.Abs(f) > 1<<53 {
		return Instant{}, false
	}
	return Instant{Millis: int64(f), Zoned: true}, true
}

// isNumber tells whether s has only what numbers are written with: ParseFloat takes more.
func isNumber(s []byte) bool {
	for _, c := range s {
		if !isDigit(c) && c != '.' && c != '-' && c != '+' && c|0x20 != 'e' {
			return false
		}
	}
	return len(s) > 0
}

// digits reads digits from p on and returns their number and where they end. More than an
// int64 holds is negative.
func digits(s []byte, p int) (n int64, end int) {
	for ; p < len(s) && isDigit(s[p]); p++ {
		if n > (math.MaxInt64-9)/10 {
			return -1, p
		}
		n = n*10 + int64(s[p]-'0')
	}
	return n, p
}

// parseCivil reads a date, and a time of day behind it.
func parseCivil(s []byte) (Instant, bool) {
	year, ok1 := fixed(s, 0, 4)
	month, ok2 := fixed(s, 5, 2)
	day, ok3 := fixed(s, 8, 2)
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > monthDays(year, month) {
		return Instant{}, false
	}
	ms := daysFromCivil(year, month, day) * 86_400_000
	s = s[10:]
	if len(s) == 0 {
		return Instant{Millis: ms}, true
	}
	if len(s) < 6 || s[0]|0x20 != 't' && s[0] != ' ' || s[3] != ':' {
		return Instant{}, false
	}
	hour, ok1 := fixed(s, 1, 2)
	minute, ok2 := fixed(s, 4, 2)
	second := int64(0)
	p := 6
	if ok3 = true; p+3 <= len(s) && s[p] == ':' {
		second, ok3 = fixed(s, p+1, 2)
		p += 3
	}
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return Instant{}, false
	}
	ms += (hour*60+minute)*60_000 + second*1000
	if p+1 < len(s) && (s[p] == '.' || s[p] == ',') && isDigit(s[p+1]) {
		for unit := int64(100); p+1 < len(s) && isDigit(s[p+1]); p++ {
			ms += int64(s[p+1]-'0') * unit
			unit /= 10
		}
		p++
	}
	offset, zoned, ok := parseZone(s[p:])
	return Instant{Millis: ms - int64(offset)*60_000, Offset: offset, Zoned: zoned}, ok
}

// parseZone reads what is behind the time of day, in minutes east of UTC.
func parseZone(s []byte) (minutes int, zoned, ok bool) {
	if len(s) > 0 && s[0] == ' ' {
		s = s[1:]
	}
	switch {
	case len(s) == 0:
		return 0, false, true
	case len(s) == 1 && s[0]|0x20 == 'z', string(s) == "UTC", string(s) == "GMT":
		return 0, true, true
	case s[0] != '+' && s[0] != '-':
		return 0, false, false
	}
	h, ok := fixed(s, 1, 2)
	var m int64
	switch {
	case !ok || h > 18:
		return 0, false, false
	case len(s) == 6 && s[3] == ':':
		m, ok = fixed(s, 4, 2)
	case len(s) == 5:
		m, ok = fixed(s, 3, 2)
	case len(s) != 3:
		ok = false
	}
	if !ok || m > 59 {
		return 0, false, false
	}
	if minutes = int(h*60 + m); s[0] == '-' {
		minutes = -minutes
	}
	return minutes, true, true
}

// fixed reads exactly n digits at p.
func fixed(s []byte, p, n int) (int64, bool) {
	if len(s) < p+n {
		return 0, false
	}
	v, end := digits(s[:p+n], p)
	return v, end == p+n
}

func monthDays(year, month int64) int64 {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysFromCivil returns the days since 1970 in the Gregorian calendar. Years begin in March
// here, so that the leap day is the last of its year.
func daysFromCivil(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	if year < 0 {
		year, day = year+400, day-146_097
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719_468
}

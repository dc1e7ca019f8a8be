package schemas

// timeScale is the power of ten from each numeric unit to microseconds.
func timeScale(unit string) int {
	switch unit {
	case Seconds:
		return 6
	case Millis:
		return 3
	case Nanos:
		return -3
	}
	return 0
}

// parseRFC3339 returns microseconds since 1970 for "2006-01-02T15:04:05[.fraction]Z" or
// with an offset "+07:00"; T may be t or a blank, Z may be z. Digits finer than a
// microsecond are cut. Leap seconds and times of day beyond 23:59:59 are refused.
func parseRFC3339(s []byte) (int64, bool) {
	if len(s) < 20 || s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	if s[10]|0x20 != 't' && s[10] != ' ' {
		return 0, false
	}
	hi, ok1 := two(s[0:])
	lo, ok2 := two(s[2:])
	month, ok3 := two(s[5:])
	day, ok4 := two(s[8:])
	hour, ok5 := two(s[11:])
	minute, ok6 := two(s[14:])
	sec, ok7 := two(s[17:])
	year := hi*100 + lo
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) ||
		month < 1 || month > 12 || day < 1 || day > monthDays(year, month) || hour > 23 || minute > 59 || sec > 59 {
		return 0, false
	}
	p := 19
	var micros int64
	if s[p] == '.' {
		p++
		from := p
		for unit := int64(100000); p < len(s) && isDigit(s[p]); p++ {
			micros += int64(s[p]-'0') * unit
			unit /= 10
		}
		if p == from {
			return 0, false
		}
	}
	var offset int64 // minutes east of UTC
	switch rest := s[p:]; {
	case len(rest) == 1 && rest[0]|0x20 == 'z':
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, okH := two(rest[1:])
		m, okM := two(rest[4:])
		if !okH || !okM || h > 23 || m > 59 {
			return 0, false
		}
		offset = h*60 + m
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return 0, false
	}
	minutes := (daysSince1970(year, month, day)*24+hour)*60 + minute - offset
	return (minutes*60+sec)*1e6 + micros, true
}

func two(s []byte) (int64, bool) {
	return int64(s[0]-'0')*10 + int64(s[1]-'0'), isDigit(s[0]) && isDigit(s[1])
}

func monthDays(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts days in the proleptic Gregorian calendar, years 0 to 9999. The
// year begins in March, so that the leap day is its last.
func daysSince1970(year, month, day int64) int64 {
	month -= 3
	if month < 0 {
		month += 12
		year--
	}
	year += 400 // keeps the divisions of year -1 non-negative
	return year*365 + year/4 - year/100 + year/400 + (153*month+2)/5 + day - 1 - daysToEpoch
}

// daysToEpoch is the count at 1970-01-01, with the 400 years added.
const daysToEpoch = 719468 + 146097

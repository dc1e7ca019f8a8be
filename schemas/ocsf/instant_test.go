package ocsf_test

import (
	"testing"
	"time"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

func TestParseInstant(t *testing.T) {
	for _, c := range []struct {
		text   string
		millis int64
		offset int
		zoned  bool
	}{
		{"1700000000", 1700000000000, 0, true},
		{" 1700000000.1239 ", 1700000000123, 0, true},
		{"-0.0001", -1, 0, true},
		{"-1", -1000, 0, true},
		{"+5", 5000, 0, true},
		{"99999999999", 99999999999000, 0, true},
		{"100000000000", 100000000000, 0, true},
		{"1700000000123", 1700000000123, 0, true},
		{"1700000000123456", 1700000000123, 0, true},
		{"1700000000123456789", 1700000000123, 0, true},
		{"-1700000000123456", -1700000000124, 0, true},
		{"1.7e9", 1700000000000, 0, true},
		{"1.700000000123e12", 1700000000123, 0, true},
		{"2023-11-14T22:13:20Z", 1700000000000, 0, true},
		{"2023-11-14t22:13:20.104999z", 1700000000104, 0, true},
		{"2023-11-14 22:13:20,5", 1700000000500, 0, false},
		{"2023-11-14 23:13:20 +0100", 1700000000000, 60, true},
		{"2023-11-14 22:13:20 UTC", 1700000000000, 0, true},
		{"2023-11-14T17:43:20-04:30", 1700000000000, -270, true},
		{"2023-11-14T22:13+00", 1699999980000, 0, true},
		{"2024-02-29", 1709164800000, 0, false},
		{"1969-12-31T23:59:59.9999Z", -1, 0, true},
		{"0000-03-01T00:00:00Z", -62162035200000, 0, true},
		{"9999-12-31T23:59:59.999Z", 253402300799999, 0, true},
	} {
		got, ok := ocsf.ParseInstant([]byte(c.text))
		if !ok || got.Millis != c.millis || got.Offset != c.offset || got.Zoned != c.zoned {
			t.Errorf("%q: %t %+v, want %d %d %t", c.text, ok, got, c.millis, c.offset, c.zoned)
		}
	}
	for _, text := range []string{"", " ", "-", "x", "12x", "1.5x", "0x10", "1_000", "NaN", "inf", "1e400", "99999999999999999999", "2023-02-29", "2023-13-01", "2023-00-01", "2023-01-00",
		"2023-11-14T24:00:00Z", "2023-11-14T22:60:00Z", "2023-11-14T22:13:60Z", "2023-11-14T22", "2023-11-14T22:13:20.Z", "2023-11-14T22:13:20+1", "2023-11-14T22:13:20+19:00",
		"2023-11-14T22:13:20+01:60", "2023-11-14T22:13:20 CET", "2023-11-14X22:13:20Z", "2023-11-1422:13", "22023-11-14"} {
		if got, ok := ocsf.ParseInstant([]byte(text)); ok {
			t.Errorf("%q is taken for %d", text, got.Millis)
		}
	}
}

// TestParseInstantDays compares every day of some centuries with the calendar of time.
func TestParseInstantDays(t *testing.T) {
	for day := time.Date(1583, 1, 1, 12, 30, 15, 0, time.UTC); day.Year() < 2500; day = day.AddDate(0, 0, 1) {
		got, ok := ocsf.ParseInstant([]byte(day.Format(time.RFC3339)))
		if !ok || got.Millis != day.UnixMilli() {
			t.Fatalf("%s: %d, want %d", day, got.Millis, day.UnixMilli())
		}
	}
}

// FuzzParseInstant: nothing panics, and what RFC 3339 takes is the same time here.
func FuzzParseInstant(f *testing.F) {
	for _, s := range []string{"1700000000.5", "1.7e9", "2023-11-14T22:13:20.1+01:00", "2023-11-14 22:13"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ocsf.ParseInstant([]byte(s))
		if want, err := time.Parse(time.RFC3339Nano, s); err == nil && want.Year() > 0 && ok && got.Millis != want.UnixMilli() {
			t.Fatalf("%q: %d, want %d", s, got.Millis, want.UnixMilli())
		}
	})
}

package mapping

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// TestPlainInstant: what is read without a search is what the search finds.
func TestPlainInstant(t *testing.T) {
	formats := []string{"%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%Y%m%d%H%M%S%f", "%Y-%m-%d", "%m-%d %H:%M %Y", "%Y %j", "%H:%M", "%Y-%m-%d %z"}
	r := rand.New(rand.NewPCG(4, 2))
	plain := 0
	for i := range 100_000 {
		format := formats[i%len(formats)]
		text := []byte(time.Unix(r.Int64N(8e9)-4e9, r.Int64N(1e9)).UTC().Format(strings.NewReplacer("%Y", "2006", "%m", "01", "%d", "02", "%H", "15", "%M", "04", "%S", "05",
			".%f", ".000000", "%f", "000", "%j", "002", "%z", "-0700").Replace(format)))
		for range r.IntN(3) {
			text[r.IntN(len(text))] = "0159 :-/TZx"[r.IntN(11)]
		}
		l := newLayout(format)
		got, ok := l.plainInstant(text)
		if !ok {
			continue
		}
		plain++
		m := matching{s: text}
		if !l.match(&m, 0, 0) {
			t.Fatalf("%s: %q does not match", format, text)
		}
		v, cause := l.parsed(&m)
		on, no := v.on()
		want := time.Date(on.year, time.Month(on.month), on.day, v.hour, v.minute, v.second, v.micros*1000, time.UTC).UnixMilli()
		if cause != "" || no != "" || got.Millis != want {
			t.Fatalf("%s: %q is %d, want %d %s%s", format, text, got.Millis, want, cause, no)
		}
	}
	if plain < 20_000 {
		t.Errorf("%d texts read", plain)
	}
}

// TestInstant: zones, and formats that say too little.
func TestInstant(t *testing.T) {
	for _, c := range []struct {
		format, text string
		want         ocsf.Instant
		ok           bool
	}{
		{"%Y-%m-%dT%H:%M:%S%z", "2023-11-14T23:13:20+0100", ocsf.Instant{Millis: 1700000000000, Offset: 60, Zoned: true}, true},
		{"%Y-%m-%dT%H:%M:%SZ", "2023-11-14T22:13:20Z", ocsf.Instant{Millis: 1700000000000, Zoned: true}, true},
		{"%d %b %Y %I:%M:%S %p", "14 nov 2023 10:13:20 PM", ocsf.Instant{Millis: 1700000000000}, true},
		{"%Y-%m-%d %H:%M:%S.%f", "1969-12-31 23:59:59.999900", ocsf.Instant{Millis: -1}, true},
		{"%b %d %H:%M:%S", "Nov 14 22:13:20", ocsf.Instant{}, false},
		{"%Y-%m-%d", "2023-02-29", ocsf.Instant{}, false},
		{"%Y-%m-%d", "x", ocsf.Instant{}, false},
		{"%Q", "x", ocsf.Instant{}, false},
		{"", "", ocsf.Instant{}, false},
		{"epoch", "1700000000", ocsf.Instant{}, false},
	} {
		l := newLayout(c.format)
		if got, ok := l.instant([]byte(c.text)); got != c.want || ok != c.ok {
			t.Errorf("%s, %q: %+v %t, want %+v %t", c.format, c.text, got, ok, c.want, c.ok)
		}
	}
}

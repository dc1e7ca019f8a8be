package assets_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark/tidemark/operators/assets"
)

// TestSkew: the 5th percentile of the delays of the last 64 records that were not kept back.
func TestSkew(t *testing.T) {
	cfg := assets.DefaultSkewConfig()
	const now = 1_700_000_000 * 1_000_000
	fill := func(delays ...int64) *assets.Skew {
		var s assets.Skew
		for _, d := range delays {
			s.Record(&cfg, now-d*second, now, false)
		}
		return &s
	}
	many := func(n int, delay int64) []int64 { return slices.Repeat([]int64{delay}, n) }
	for name, c := range map[string]struct {
		s       *assets.Skew
		offset  int64 // seconds
		skewed  bool
		changed bool
	}{
		"nothing is known":              {fill(), 0, false, false},
		"one record":                    {fill(3), 3, false, false},
		"the 4th smallest of 64":        {fill(append(many(60, 9), 1, 2, 4, 5)...), 5, false, false},
		"older ones are forgotten":      {fill(append(many(64, -500), many(64, 2)...)...), 2, false, false},
		"three of them are left":        {fill(append(many(64, -500), many(61, 2)...)...), 2, false, false},
		"four are enough":               {fill(append(many(64, -500), many(60, 2)...)...), -500, true, true},
		"2 min behind is no skew":       {fill(many(9, 120)...), 120, false, false},
		"more is, and is not corrected": {fill(many(9, 121)...), 121, true, false},
		"2 min ahead is no skew":        {fill(many(9, -120)...), -120, false, false},
		"more is corrected":             {fill(many(9, -121)...), -121, true, true},
		"older than 5 min says nothing": {fill(append(many(50, 301), 7)...), 7, false, false},
		"but one of 5 min does":         {fill(300), 300, true, false},
	} {
		offset, _ := c.s.Offset()
		at, changed := c.s.Correct(&cfg, now)
		if offset != c.offset*second || c.s.Skewed(&cfg) != c.skewed || changed != c.changed || changed && at != now+offset || !changed && at != now {
			t.Errorf("%s: %d s, skewed %t, corrected %t by %d s", name, offset/second, c.s.Skewed(&cfg), changed, (at-now)/second)
		}
	}
	var s assets.Skew
	s.Record(&cfg, now-second, now, true)
	if _, known := s.Offset(); known || s.All != 1 || s.Buffered != 1 {
		t.Errorf("a record that was kept back counts: %+v", s)
	}
}

// TestBursts: 20 records within 5 s of the broker that span more than 5 min. Of each the lengths of
// the bursts, and the first record that is known to be of one.
func TestBursts(t *testing.T) {
	cfg := assets.DefaultBurstConfig()
	run := func(n int, ingest, step, from, every int64) []record {
		var out []record
		for i := range int64(n) {
			out = append(out, record{(from + i*every) * second, ingest*second + i*step})
		}
		return out
	}
	for name, c := range map[string]struct {
		records []record
		want    []int64 // lengths
		known   int
	}{
		"none":                      {nil, nil, -1},
		"a burst":                   {run(40, 9000, 1000, 0, 60), []int64{40}, 19},
		"19 are none":               {run(19, 9000, 1000, 0, 60), nil, -1},
		"20 are one":                {run(20, 9000, 1000, 0, 60), []int64{20}, 19},
		"of 5 min they are none":    {run(20, 9000, 1000, 0, 15), nil, -1},
		"22 span more":              {run(22, 9000, 1000, 0, 15), []int64{22}, 21},
		"slower than 5 s":           {run(40, 9000, second, 0, 60), nil, -1},
		"two":                       {append(run(25, 9000, 1000, 0, 60), run(30, 9100, 1000, 5000, 60)...), []int64{25, 30}, 19},
		"behind what comes at once": {append(run(30, 8990, second, 8990, 1), run(25, 9100, 1000, 0, 60)...), []int64{25}, 49},
		"one is far from many":      {append(run(1, 9000, 0, 0, 0), run(30, 9001, 1000, 9001, 0)...), []int64{31}, 19},
	} {
		if got, known := bursts(&cfg, c.records); !slices.Equal(got, c.want) || known != c.known {
			t.Errorf("%s: %v, known from record %d on; want %v, %d", name, got, known, c.want, c.known)
		}
	}
}

// TestBurstsLimit: of a gateway that sends more than are kept the oldest are let go.
func TestBurstsLimit(t *testing.T) {
	cfg := assets.DefaultBurstConfig()
	for between, want := range map[int][]int64{1023: nil, 1022: {1024}} {
		records := append([]record{{0, 0}}, slices.Repeat([]record{{299 * second, 1}}, between)...)
		if got, _ := bursts(&cfg, append(records, record{301 * second, 2})); !slices.Equal(got, want) {
			t.Errorf("%d records between two that are far from each other: %v, want %v", between, got, want)
		}
	}
}

// TestBurstsRandom: as the rule says it, a run from every record on.
func TestBurstsRandom(t *testing.T) {
	cfg := assets.BurstConfig{Records: 4, Within: 50, Span: 300}
	found := 0
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var records []record
		ingest := int64(1000)
		for range 100 {
			ingest += rng.Int64N(30) - 3
			records = append(records, record{ingest - rng.Int64N(400), ingest})
		}
		got, _ := bursts(&cfg, records)
		want := plainBursts(cfg, records)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
		found += len(got)
	}
	if found < 400 {
		t.Errorf("%d bursts prove little", found)
	}
}

// record is what a gateway sent: when it was by its clock, and by the broker's.
type record struct{ at, ingest int64 }

// bursts returns the lengths of the bursts, and the first record that is known to be of one.
func bursts(cfg *assets.BurstConfig, records []record) (lengths []int64, known int) {
	var b assets.Burst
	known = -1
	before := b
	for i, r := range records {
		of := b.Record(cfg, r.at, r.ingest)
		switch {
		case b.Bursts > before.Bursts:
			lengths = append(lengths, b.Records-before.Records)
		case of:
			lengths[len(lengths)-1]++
		}
		if of && known < 0 {
			known = i
		}
		before = b
	}
	return lengths, known
}

// plainBursts is the rule of the reference.
func plainBursts(cfg assets.BurstConfig, records []record) (lengths []int64) {
	for from := 0; from < len(records); {
		to, low, high := from, records[from].at, records[from].at
		for to < len(records) && records[to].ingest-records[from].ingest <= cfg.Within {
			low, high = min(low, records[to].at), max(high, records[to].at)
			to++
		}
		if to-from < cfg.Records || high-low <= cfg.Span {
			from++
			continue
		}
		lengths = append(lengths, int64(to-from))
		from = to
	}
	return lengths
}

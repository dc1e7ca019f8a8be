package assets_test

import (
	"fmt"
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

// TestBursts: 20 records within 5 s of the broker that span more than 5 min.
func TestBursts(t *testing.T) {
	cfg := assets.DefaultBurstConfig()
	run := func(n int, ingest, step, from, every int64) []assets.Buffered {
		var out []assets.Buffered
		for i := range int64(n) {
			out = append(out, assets.Buffered{At: (from + i*every) * second, Ingest: ingest*second + i*step, Seq: uint8(i)})
		}
		return out
	}
	for name, c := range map[string]struct {
		records []assets.Buffered
		want    []int // lengths
	}{
		"none":                      {nil, nil},
		"a burst":                   {run(40, 9000, 1000, 0, 60), []int{40}},
		"19 are none":               {run(19, 9000, 1000, 0, 60), nil},
		"20 are one":                {run(20, 9000, 1000, 0, 60), []int{20}},
		"of 5 min they are none":    {run(20, 9000, 1000, 0, 15)[:20:20], nil},
		"21 span more":              {run(22, 9000, 1000, 0, 15), []int{22}},
		"slower than 5 s":           {run(40, 9000, second, 0, 60), nil},
		"two":                       {append(run(25, 9000, 1000, 0, 60), run(30, 9100, 1000, 5000, 60)...), []int{25, 30}},
		"behind what comes at once": {append(run(30, 8990, second, 8990, 1), run(25, 9100, 1000, 0, 60)...), []int{25}},
	} {
		var got []int
		for _, b := range assets.Bursts(&cfg, slices.Clone(c.records)) {
			got = append(got, len(b))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	records := run(40, 9000, 1000, 0, 60)
	records[7].At = records[8].At // ties go by the counter
	rand.New(rand.NewPCG(1, 1)).Shuffle(40, func(i, j int) {
		records[i].At, records[j].At = records[j].At, records[i].At
		records[i].Seq, records[j].Seq = records[j].Seq, records[i].Seq
	})
	b := assets.Bursts(&cfg, records)
	if len(b) != 1 || !slices.IsSortedFunc(b[0], func(a, b assets.Buffered) int { return int(a.Seq) - int(b.Seq) }) {
		t.Errorf("not in the order in which it happened: %v", fmt.Sprint(b))
	}
}

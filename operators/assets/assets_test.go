package assets_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/assets"
)

const second = int64(time.Second / time.Microsecond)

// offset moves a position by metres east and north.
func offset(p assets.Position, east, north float64) assets.Position {
	const perDegree = 6_371_008.8 * math.Pi / 180
	return assets.Position{Lat: p.Lat + north/perDegree, Lon: p.Lon + east/perDegree/math.Cos(p.Lat*math.Pi/180)}
}

var depot = assets.Position{Lat: 52.0894, Lon: 5.0913}

func square(at assets.Position, half float64) []assets.Position {
	return []assets.Position{offset(at, -half, -half), offset(at, half, -half), offset(at, half, half), offset(at, -half, half)}
}

// TestFences: distances from circles, polygons, holes and corners, to a metre.
func TestFences(t *testing.T) {
	set, err := assets.NewFences([]assets.Fence{
		{ID: "circle", Center: depot, Radius: 100},
		{ID: "square", Rings: [][]assets.Position{square(depot, 1000)}},
		{ID: "hole", Rings: [][]assets.Position{square(depot, 1000), square(depot, 200)}},
	}, 50)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fence       int
		east, north float64
		want        float64
	}{
		{0, 0, 0, -100}, {0, 250, 0, 150}, {0, 60, 80, 0},
		{1, 0, 0, -1000}, {1, 990, 0, -10}, {1, 1300, 1400, 500}, {1, 0, 1600, 600}, {1, 1000, 1000, 0},
		{2, 0, 0, 200}, {2, 190, 0, 10}, {2, 300, 0, -100}, {2, 1100, 0, 100},
	} {
		if d := set.At(c.fence).Outside(offset(depot, c.east, c.north)); math.Abs(d-c.want) > 1 {
			t.Errorf("%s at %v, %v: %v m, want %v", set.At(c.fence).ID, c.east, c.north, d, c.want)
		}
	}
	if p := set.Primary([]int32{2, 1, 0}); p != 0 || set.Primary([]int32{1, 2}) != 2 || set.Primary(nil) != -1 {
		t.Errorf("primary %d", p)
	}
	for want, fences := range map[string][]assets.Fence{
		"a fence without id":              {{Center: depot, Radius: 1}},
		"fence x is there twice":          {{ID: "x", Center: depot, Radius: 1}, {ID: "x", Center: depot, Radius: 1}},
		"fence x: radius -1":              {{ID: "x", Center: depot, Radius: -1}},
		"fence x: radius 0":               {{ID: "x"}},
		"fence x: position 91":            {{ID: "x", Center: assets.Position{Lat: 91}, Radius: 1}},
		"fence x: ring 0 has 2 corners":   {{ID: "x", Rings: [][]assets.Position{{depot, offset(depot, 1, 1), depot}}}},
		"m: want less than 50 km":         {{ID: "x", Rings: [][]assets.Position{square(depot, 30_000)}}},
		"fence x: ring 1 has 0 corners":   {{ID: "x", Rings: [][]assets.Position{square(depot, 10), nil}}},
		"fence x: ring 0: position NaN, ": {{ID: "x", Rings: [][]assets.Position{{depot, offset(depot, 1, 1), {Lat: math.NaN()}}}}},
	} {
		if _, err := assets.NewFences(fences, 50); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// walk is a random way of an asset around some fences: slow, fast, silent, jumping.
func walk(rng *rand.Rand, n int) []assets.Fix {
	var out []assets.Fix
	at, x, y := int64(0), 0.0, 0.0
	vx, vy := 0.0, 0.0
	for range n {
		step := 5*second + rng.Int64N(120*second)
		switch rng.IntN(25) {
		case 0:
			step += 7 * 3600 * second
		case 1:
			vx, vy = rng.NormFloat64()*10, rng.NormFloat64()*10
		case 2:
			vx, vy = 0, 0
		case 3:
			x, y = rng.NormFloat64()*800, rng.NormFloat64()*800
		}
		at += step
		x, y = x+vx*float64(step)/1e6, y+vy*float64(step)/1e6
		if math.Hypot(x, y) > 3000 {
			vx, vy = -x/100, -y/100
		}
		fix := assets.Fix{At: at, Position: offset(depot, x+rng.NormFloat64()*10, y+rng.NormFloat64()*10), Accuracy: 8}
		switch rng.IntN(30) {
		case 0:
			fix.Accuracy = 500
		case 1:
			fix.Position = offset(depot, 50_000*rng.NormFloat64(), 50_000)
		case 2:
			fix.At -= rng.Int64N(300 * second)
		}
		out = append(out, fix)
	}
	return out
}

func manyFences(rng *rand.Rand, n int) []assets.Fence {
	var out []assets.Fence
	for i := range n {
		at := offset(depot, rng.NormFloat64()*1500, rng.NormFloat64()*1500)
		f := assets.Fence{ID: fmt.Sprint("f", i), Center: at, Radius: 20 + rng.Float64()*600}
		if i%3 == 0 {
			f = assets.Fence{ID: f.ID, Rings: [][]assets.Position{square(at, f.Radius)}}
		}
		out = append(out, f)
	}
	return out
}

// TestGeofenceRandom: over random ways, a set of fences says what each fence alone says, the
// steps of the mark do not matter, and enter and exit take turns.
func TestGeofenceRandom(t *testing.T) {
	cfg := assets.DefaultGeofenceConfig()
	kinds := map[assets.GeofenceKind]int{}
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		fences, fixes := manyFences(rng, 20), walk(rng, 600)
		play := func(fences []assets.Fence, every int64) []string {
			set, err := assets.NewFences(fences, cfg.OutMargin)
			if err != nil {
				t.Fatal(err)
			}
			var tracker assets.Tracker
			var events []assets.GeofenceEvent
			newest := int64(0)
			for _, f := range fixes {
				if every > 0 {
					for m := newest + every; m < f.At; m += every {
						events = tracker.Advance(&cfg, m, events)
					}
				}
				newest = max(newest, f.At)
				events = tracker.Fix(&cfg, set, f, events)
			}
			events = tracker.Advance(&cfg, newest+24*3600*second, events)
			inside := map[int32]bool{}
			var out []string
			for _, e := range events {
				id := "-"
				if e.Fence >= 0 {
					id = set.At(int(e.Fence)).ID
				}
				switch e.Kind {
				case assets.Enter:
					if inside[e.Fence] {
						t.Fatalf("seed %d: enters %s twice", seed, id)
					}
					inside[e.Fence] = true
				case assets.Exit, assets.Lost:
					if !inside[e.Fence] {
						t.Fatalf("seed %d: %s of %s, where it is not", seed, e.Kind, id)
					}
					inside[e.Fence] = false
				case assets.Dwell:
					if !inside[e.Fence] {
						t.Fatalf("seed %d: dwells in %s, where it is not", seed, id)
					}
				}
				out = append(out, fmt.Sprintf("%s %s %d %d %d %d", id, e.Kind, e.At, e.Confirmed, e.Duration, e.LastSeen))
				kinds[e.Kind]++
			}
			return out
		}
		all := play(fences, 0)
		slices.Sort(all) // a fix tells its exits before the dwells that a mark before it tells
		for _, every := range []int64{7 * second, 3600 * second} {
			got := play(fences, every)
			if slices.Sort(got); !slices.Equal(got, all) {
				t.Fatalf("seed %d, mark every %d s: %d events, want %d", seed, every/second, len(got), len(all))
			}
		}
		for _, f := range fences[:6] {
			alone := slices.DeleteFunc(play([]assets.Fence{f}, 0), func(e string) bool { return strings.HasPrefix(e, "-") })
			slices.Sort(alone)
			part := slices.DeleteFunc(slices.Clone(all), func(e string) bool { return !strings.HasPrefix(e, f.ID+" ") })
			if !slices.Equal(alone, part) {
				t.Fatalf("seed %d: fence %s alone:\n%s\namong others\n%s", seed, f.ID, strings.Join(alone, "\n"), strings.Join(part, "\n"))
			}
		}
	}
	for _, k := range []assets.GeofenceKind{assets.Enter, assets.Exit, assets.Dwell, assets.Lost, assets.LateDropped} {
		if kinds[k] < 20 {
			t.Errorf("%d events %s: the test proves little", kinds[k], k)
		}
	}
}

func TestSightings(t *testing.T) {
	cfg := assets.DefaultSightingConfig()
	var s assets.Sightings
	hear := func(at float64, seq int, gateway string, rssi float64) bool {
		h := assets.Hearing{At: int64(at * 1e6), Seq: uint8(max(seq, 0)), HasSeq: seq >= 0, Gateway: gateway, RSSI: rssi, HasRSSI: rssi < 0}
		return s.Hear(&cfg, h)
	}
	for i, again := range []bool{
		hear(10, 7, "g2", -64), hear(12, 7, "g1", -64), hear(10, 7, "g2", -64), hear(12.1, 7, "g1", -70), // 2.1 s: another round of the counter
		hear(9, 7, "g3", 0), hear(11, 7, "g2", -60), hear(20, -1, "g1", -70), hear(20.5, -1, "g2", -71), hear(20.6, -1, "g3", -72),
	} {
		if again != (i == 2) {
			t.Errorf("hearing %d: delivered again: %t", i, again)
		}
	}
	var got []string
	for _, mark := range []int64{12 * second, 13 * second, 21 * second, 99 * second} {
		for _, o := range s.Final(&cfg, mark) {
			best, _ := o.Best()
			got = append(got, fmt.Sprintf("%d at %v %v best %s", mark/second, float64(o.At)/1e6, o.Heard, best.Gateway))
		}
	}
	want := []string{
		"13 at 10 [{g1 -64 true} {g2 -60 true} {g3 0 false}] best g2",
		"21 at 12.1 [{g1 -70 true}] best g1",
		"21 at 20 [{g1 -70 true} {g2 -71 true}] best g1",
		"99 at 20.6 [{g3 -72 true}] best g3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNearest(t *testing.T) {
	cfg := assets.DefaultNearestConfig()
	for name, c := range map[string]struct {
		windows []string
		want    string
	}{
		"nobody":                             {[]string{""}, ""},
		"of equals the first by name":        {[]string{"b-60 a-60"}, "0 a first"},
		"an owner that nobody hears":         {[]string{"a-60", "b-90", "b-90", "b-90"}, "0 a first, 3 b lost"},
		"silence is no other owner":          {[]string{"a-60", "", "", "", "a-60"}, "0 a first"},
		"after silence anybody":              {[]string{"a-60", "", "", "b-99"}, "0 a first, 3 b lost"},
		"a silent window breaks the row":     {[]string{"a-90", "b-40 a-90", "", "b-40 a-90", "b-40 a-90"}, "0 a first, 4 b stronger"},
		"both windows want one challenger":   {[]string{"a-90", "b-40 a-90 c-50", "c-1 a-90 b-99", "c-1 a-90 b-99"}, "0 a first, 3 c stronger"},
		"exactly the margin":                 {[]string{"a-60", "a-60 b-54", "a-60 b-54"}, "0 a first, 2 b stronger"},
		"less than the margin, for ever":     {[]string{"a-60", "a-60 b-54.1", "a-60 b-54.1", "a-60 b-54.1"}, "0 a first"},
		"a gateway that is new is not young": {[]string{"a-80 b-81", "a-80 c-70", "a-80 c-70"}, "0 a first, 2 c stronger"},
	} {
		var n assets.Nearest
		var got []string
		for i, w := range c.windows {
			var heard []assets.Loudness
			for _, h := range strings.Fields(w) {
				var rssi float64
				if _, err := fmt.Sscanf(h[1:], "%f", &rssi); err != nil {
					t.Fatal(err)
				}
				heard = append(heard, assets.Loudness{Gateway: h[:1], RSSI: rssi})
			}
			if ch, ok := n.Window(&cfg, heard); ok {
				got = append(got, fmt.Sprintf("%d %s %s", i, ch.Owner, ch.Why))
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
	if m := assets.Metres(-59, -75); math.Abs(m-6.310) > 0.001 {
		t.Errorf("%v m", m)
	}
}

func TestBottom(t *testing.T) {
	cfg := assets.DefaultBottomConfig()
	flat, folded, between, moving := assets.Accel{Z: 1000}, assets.Accel{X: 985, Z: 174}, assets.Accel{X: 500, Z: 866}, assets.Accel{Z: 1200}
	for name, c := range map[string]struct {
		samples []assets.Accel
		want    string
	}{
		"three":                             {[]assets.Accel{flat, flat, flat}, "UNKNOWN-DOWN 0"},
		"two are not enough":                {[]assets.Accel{flat, flat}, ""},
		"moving samples do not count":       {[]assets.Accel{flat, moving, flat, moving, flat}, "UNKNOWN-DOWN 0"},
		"between clears":                    {[]assets.Accel{flat, flat, between, flat, flat}, ""},
		"the present state clears":          {[]assets.Accel{flat, flat, flat, folded, folded, flat, folded, folded}, "UNKNOWN-DOWN 0"},
		"a change":                          {[]assets.Accel{flat, flat, flat, folded, folded, folded}, "UNKNOWN-DOWN 0, DOWN-UP 60"},
		"the other state begins a new run":  {[]assets.Accel{folded, folded, flat, flat, flat}, "UNKNOWN-DOWN 40"},
		"what measures nothing is no plate": {[]assets.Accel{{}, {}, {}}, ""},
	} {
		var b assets.Bottom
		var got []string
		for i, s := range c.samples {
			if e, ok := b.Sample(&cfg, int64(i)*20*second, s); ok {
				got = append(got, fmt.Sprintf("%s-%s %d", e.Before, e.State, e.At/second))
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
	for want, tilt := range map[float64]assets.Accel{0: flat, 79.982: folded, 30.001: between, 180: {Z: -1000}} {
		if d := assets.Tilt(tilt, cfg.Rest); math.Abs(d-want) > 0.01 {
			t.Errorf("%v: %v degrees, want %v", tilt, d, want)
		}
	}
}

func TestConfigs(t *testing.T) {
	short, back := assets.DefaultConfig(), assets.DefaultConfig()
	short.ForgetAfter, back.ForgetAfter = 24*3600*second, -1
	for want, err := range map[string]error{
		"counts 0 and 0: want 1 to": assets.GeofenceConfig{MaxAccuracy: 1, MaxSpeed: 1, LostAfter: 1}.Validate(),
		"dwell [5µs 3µs]":           assets.GeofenceConfig{InCount: 1, OutCount: 1, MaxAccuracy: 1, MaxSpeed: 1, LostAfter: 1, Dwell: []int64{5, 3}}.Validate(),
		"alpha 0":                   assets.NearestConfig{Windows: 1, Unheard: 1}.Validate(),
		"rest {0 0 0}":              assets.BottomConfig{Down: 1, Up: 2, Count: 1}.Validate(),
		"angles 60 and 20":          assets.BottomConfig{Rest: assets.Accel{Z: 1}, Down: 60, Up: 20, Count: 1}.Validate(),
		"join -1µs and 0s: mu":      assets.SightingConfig{Join: -1}.Validate(),
		"forget_after 24h0m0s: want more than 24h0m0s": short.Validate(),
		"forget_after -1µs: want":                      back.Validate(),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// BenchmarkGeofence is a fix of one of 20,000 assets among 10,000 sites: half of them are at one.
func BenchmarkGeofence(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var fences []assets.Fence
	for i := range 10_000 {
		f := assets.Fence{ID: fmt.Sprint(i), Center: offset(depot, rng.NormFloat64()*100_000, rng.NormFloat64()*100_000), Radius: 300}
		if i%2 == 0 { // four corners and a hole
			f = assets.Fence{ID: f.ID, Rings: [][]assets.Position{square(f.Center, 300), square(f.Center, 50)}}
		}
		fences = append(fences, f)
	}
	cfg := assets.DefaultGeofenceConfig()
	set, err := assets.NewFences(fences, cfg.OutMargin)
	if err != nil {
		b.Fatal(err)
	}
	const cages = 20_000
	trackers := make([]assets.Tracker, cages)
	places := make([]assets.Position, cages)
	for i := range places {
		at := set.At(rng.IntN(set.Len()))
		low, high := at.Box()
		places[i] = assets.Position{Lat: (low.Lat + high.Lat) / 2, Lon: (low.Lon+high.Lon)/2 + float64(i%2)*0.02}
	}
	var events []assets.GeofenceEvent
	i, at := 0, int64(0)
	b.ReportAllocs()
	for b.Loop() {
		if i++; i == cages {
			i, at = 0, at+30*second
		}
		p := places[i]
		p.Lat += float64(at/second%7) * 1e-4
		events = trackers[i].Fix(&cfg, set, assets.Fix{At: at + second, Position: p, Accuracy: 8}, events[:0])
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mfixes/s")
}

// BenchmarkFollow is a detection of one of 20,000 assets with all states.
func BenchmarkFollow(b *testing.B) {
	fl := newFleet(b, 20_000)
	at, n := int64(1_772_434_800)*second, 0
	b.ReportAllocs()
	for b.Loop() {
		if n--; n < 0 {
			before := fl.seq
			fl.minute(at, 1)
			at += 60 * second
			n = (fl.seq - before) * 4 // detections of a minute
		}
	}
}

package assets_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/assets"
)

// diary writes down what happens, in seconds from the begin.
type diary struct {
	silent
	lines []string
}

const begin = int64(1_772_434_800) * second

func (d *diary) note(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func since(at int64) float64 { return float64(at-begin) / 1e6 }

func (d *diary) Geofence(_ string, f *assets.Fence, e *assets.GeofenceEvent) {
	d.note("%s %s %v", e.Kind, f.ID, since(e.At))
}

func (d *diary) Transit(_ string, e *assets.TransitEvent) {
	text := fmt.Sprintf("transit %s %v %s", e.Kind, since(e.At), e.Origin)
	if e.Kind == assets.TransitEnd {
		text += fmt.Sprintf("-%s %.0f m", e.Destination, e.Metres)
	}
	if e.Inferred {
		text += " inferred"
	}
	d.note("%s", text)
}

// TestFollower: what sightings and positions come to, through all states of one asset.
func TestFollower(t *testing.T) {
	type said struct {
		at      float64 // seconds
		gateway string
		rssi    float64
		pos     *assets.Position
	}
	every := func(step, from, to float64, gateway string, rssi float64) (out []said) {
		for at := from; at < to; at += step {
			out = append(out, said{at, gateway, rssi, nil})
		}
		return out
	}
	place := func(east, north float64) *assets.Position { p := offset(depot, east, north); return &p }
	for name, c := range map[string]struct {
		said  []said
		until float64
		want  string // events of fences and legs
		owner string
		last  *assets.Position
	}{
		"a gateway that hears well is where the asset is": {every(20, 0, 180, "shop1", -85), 200,
			"enter shop 40", "shop1", place(4000, 10)},
		"one that hears badly is not, but owns it": {every(20, 0, 180, "shop1", -91), 200, "", "shop1", nil},
		"-90 dBm is well enough":                   {every(20, 0, 180, "shop1", -90), 200, "enter shop 40", "shop1", place(4000, 10)},
		"a gateway without a place says nothing":   {every(20, 0, 180, "far1", -60), 200, "", "far1", nil},
		"nor one that nobody knows":                {every(20, 0, 180, "stranger", -60), 200, "", "stranger", nil},
		"a position of the device that is newer wins": {append(every(20, 0, 60, "shop1", -60), said{50, "shop1", -60, place(4100, 0)}), 70,
			"", "shop1", place(4100, 0)},
		"and one that is older does not": {append([]said{{0, "shop1", -60, place(4100, 0)}}, every(20, 10, 60, "shop1", -60)...), 70,
			"enter shop 0", "shop1", place(4000, 10)},
		"dwell and lost come with time": {every(20, 0, 180, "shop1", -60), 22_000,
			"enter shop 40, dwell shop 340, dwell shop 1840, lost shop 21760", "shop1", place(4000, 10)},
		"a dwell waits for the window that is open": {append(every(20, 0, 120, "shop1", -60), said{335, "shop1", -60, place(9000, 0)}, said{400, "shop1", -60, place(9000, 0)}), 500,
			"enter shop 40, exit shop 335, transit start 335 shop", "shop1", place(9000, 0)},
		"a louder gateway twice": {append(every(20, 0, 180, "north1", -75), append(every(20, 180, 420, "dock1", -60), every(20, 181, 420, "north1", -75)...)...), 430,
			"enter north 40, enter dock 280", "dock1", place(0, 5110)},
		"from site to site with nothing between": {append(every(20, 0, 180, "north1", -60), every(20, 1800, 2100, "south1", -60)...), 2300,
			// The owner has changed at the end of the first window in which it was not heard for three.
			"enter north 40, exit north 1840, enter south 1840, transit start 160 north inferred, transit end 1840 north-south 10000 m inferred", "south1", place(0, -5000)},
		"from site to site of gateways that have no place": {append(every(20, 0, 180, "far1", -60), every(20, 1800, 2100, "other", -60)...), 2300,
			"transit start 160 far inferred, transit end 1800 far-elsewhere 0 m inferred", "other", nil},
		"with a truck from nowhere": {append([]said{{0, "truck", -60, place(9000, 0)}, {60, "truck", -60, place(8000, 0)}, {120, "truck", -60, place(7000, 0)}, {180, "truck", -60, place(5500, 0)}}, every(20, 240, 600, "shop1", -60)...), 700,
			"transit start 60 , enter shop 400, transit end 400 -shop 4000 m", "shop1", place(4000, 10)},
		"from a dock in a depot": {append(every(20, 0, 300, "dock1", -60), said{330, "truck", -60, place(0, 4000)}, said{420, "truck", -60, place(0, 3000)}, said{700, "truck", -60, place(0, 1000)}), 800,
			"enter north 40, enter dock 40, exit north 330, exit dock 330, transit start 330 dock", "truck", place(0, 1000)},
	} {
		cfg := assets.DefaultConfig()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, step := range []float64{0, 7, 1000} { // of time between detections
			book := &diary{}
			f := &assets.Follower{Config: cfg, World: town(t), To: book}
			var s assets.Asset
			slices.SortStableFunc(c.said, func(a, b said) int { return int(a.at - b.at) })
			at := 0.0
			advance := func(to float64) {
				for step > 0 && at+step < to {
					at += step
					f.Advance("x", &s, begin+int64(at*1e6))
				}
				at = to
			}
			for i, x := range c.said {
				advance(x.at)
				d := assets.Detection{HasTime: true}
				d.At, d.Gateway, d.RSSI, d.HasRSSI, d.Seq, d.HasSeq = begin+int64(x.at*1e6), x.gateway, x.rssi, true, uint8(i), true
				if x.pos != nil {
					d.Fix, d.HasFix = assets.Fix{Position: *x.pos, Accuracy: 5}, true
				}
				d.Ingest = d.At
				f.Detect("x", &s, &d)
			}
			advance(c.until)
			if due := f.Advance("x", &s, begin+int64(c.until*1e6)); due <= begin+int64(c.until*1e6) {
				t.Errorf("%s: due at %v", name, since(due))
			}
			lines := slices.DeleteFunc(book.lines, func(l string) bool { return strings.HasPrefix(l, "dwell") && !strings.Contains(c.want, "dwell") })
			if got := strings.Join(lines, ", "); got != c.want {
				t.Errorf("%s, time in steps of %v s:\n%s\nwant\n%s", name, step, got, c.want)
			}
			last, ok := s.Last()
			if s.Owner() != c.owner || ok != (c.last != nil) || ok && assets.Distance(last.Position, *c.last) > 1 {
				t.Errorf("%s: owner %s, last at %v", name, s.Owner(), last)
			}
		}
	}
}

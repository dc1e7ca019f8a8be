package assets_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/tidemark/tidemark/operators/assets"
)

// silent is a listener that counts.
type silent struct{ events, geofence, now int }

func (s *silent) Geofence(string, *assets.Fence, *assets.GeofenceEvent) {
	s.events, s.geofence = s.events+1, s.geofence+1
}
func (s *silent) Transit(string, *assets.TransitEvent)                            { s.events++ }
func (s *silent) Bottom(string, *assets.Asset, *assets.BottomEvent, assets.Accel) { s.events++ }
func (s *silent) Availability(string, *assets.Asset, *assets.AvailabilityEvent)   { s.events++ }
func (s *silent) Battery(string, *assets.BatteryEvent)                            { s.events++ }
func (s *silent) Now(string, int64, *assets.Asset)                                { s.now++ }

// fleet is many cages at 300 sites. Each is heard every minute or so by three to six gateways of its site,
// reports an acceleration, a voltage and sometimes a position, and changes its site about once a day.
type fleet struct {
	rng    *rand.Rand
	f      *assets.Follower
	told   silent
	sites  []assets.Position
	names  [][]string
	states []assets.Asset
	site   []int
	seq    int
}

func newFleet(t testing.TB, cages int) *fleet {
	fl := &fleet{rng: rand.New(rand.NewPCG(1, 2)), states: make([]assets.Asset, cages), site: make([]int, cages)}
	var fences []assets.Fence
	text := "gateway_id,site,lat,lon\n"
	for i := range 300 {
		at := offset(depot, fl.rng.NormFloat64()*40_000, fl.rng.NormFloat64()*40_000)
		fl.sites = append(fl.sites, at)
		fences = append(fences, assets.Fence{ID: fmt.Sprint("site-", i), Kind: "depot", Center: at, Radius: 250})
		var names []string
		for k := range 6 {
			names = append(names, fmt.Sprintf("GW-%03d-%d", i, k))
			g := offset(at, fl.rng.NormFloat64()*60, fl.rng.NormFloat64()*60)
			text += fmt.Sprintf("%s,site-%d,%.7f,%.7f\n", names[k], i, g.Lat, g.Lon)
		}
		fl.names = append(fl.names, names)
	}
	set, err := assets.NewFences(fences, 50)
	if err != nil {
		t.Fatal(err)
	}
	gateways, err := assets.ParseGateways([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	fl.f = &assets.Follower{Config: assets.DefaultConfig(), World: assets.World{Fences: set, Gateways: gateways}, To: &fl.told}
	for i := range fl.site {
		fl.site[i] = fl.rng.IntN(len(fl.sites))
	}
	return fl
}

// minute is a minute of all cages that begins at a time, of which each is heard with a chance.
func (fl *fleet) minute(from int64, chance float64) {
	for i := range fl.states {
		if fl.rng.Float64() > chance {
			continue
		}
		if fl.rng.IntN(1000) == 0 {
			fl.site[i] = fl.rng.IntN(len(fl.sites))
		}
		fl.seq++
		at := from + fl.rng.Int64N(50*second)
		name := fmt.Sprint("RC-", i)
		for k := range 3 + fl.rng.IntN(3) {
			d := assets.Detection{HasTime: true, Ingest: at, HasAccel: true, HasBatt: true, Battery: 2900 + float64(fl.rng.IntN(30)), Accel: assets.Accel{X: 10, Z: 995}}
			d.HasRSSI = true
			d.At, d.Gateway, d.Seq, d.HasSeq, d.RSSI = at, fl.names[fl.site[i]][k], uint8(fl.seq), true, float64(-60-k*4-fl.rng.IntN(12))
			if k == 0 && fl.rng.IntN(5) == 0 {
				d.Fix, d.HasFix = assets.Fix{Position: offset(fl.sites[fl.site[i]], fl.rng.NormFloat64()*30, 10), Accuracy: 8}, true
			}
			fl.f.Detect(name, &fl.states[i], &d)
			at += second / 20
		}
	}
}

func (fl *fleet) sizes(by int64) []int {
	var out []int
	for i := range fl.states {
		fl.f.Advance(fmt.Sprint("RC-", i), &fl.states[i], by)
		out = append(out, fl.states[i].Size())
	}
	slices.Sort(out)
	return out
}

// TestMemory: with all states an asset takes up to 1 KB in the median, 4 KB in the 99th percentile, in
// the middle of a window when there is most to keep.
func TestMemory(t *testing.T) {
	const cages = 20_000
	var before, after runtime.MemStats
	fl := newFleet(t, cages)
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := int64(1_772_434_800) * second
	for m := range int64(15) {
		fl.minute(start+m*60*second, 1)
	}
	sizes := fl.sizes(0)
	runtime.GC()
	runtime.ReadMemStats(&after)
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	states := cages * assets.StateSize // were there before
	median, p99, mean := sizes[cages/2], sizes[cages*99/100], sum/cages
	grown := (int(after.HeapAlloc) - int(before.HeapAlloc) + states) / cages
	t.Logf("%d assets: %d B in the median, %d B in the 99th percentile, %d B in the mean; the heap has %d B an asset; %d events", cages, median, p99, mean, grown, fl.told.events)
	if median > 1024 || p99 > 4096 {
		t.Errorf("%d B and %d B an asset, want up to 1024 and 4096", median, p99)
	}
	if float64(grown) > 1.3*float64(mean)+100 {
		t.Errorf("the heap has grown by %d B an asset, where the states say %d", grown, mean)
	}
}

// TestFlat: over 30 days the states of assets do not grow.
func TestFlat(t *testing.T) {
	fl := newFleet(t, 20)
	start := int64(1_772_434_800) * second
	var days []int
	for d := range int64(30) {
		for m := range int64(24 * 60) {
			fl.minute(start+(d*24*60+m)*60*second, 0.2)
		}
		sizes := fl.sizes(start + (d+1)*24*3600*second - 1)
		sum := 0
		for _, n := range sizes {
			sum += n
		}
		days = append(days, sum/len(sizes))
	}
	t.Logf("bytes an asset at the end of each day: %v; %d events", days, fl.told.events)
	if first, last := slices.Max(days[1:6]), slices.Max(days[25:]); float64(last) > 1.1*float64(first) {
		t.Errorf("%d B an asset in the last days, %d B in the first", last, first)
	}
	if fl.told.events < 500 {
		t.Errorf("%d events: the test proves little", fl.told.events)
	}
}

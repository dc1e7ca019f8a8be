package assets_test

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// table reads a CSV file as rows by column.
func table(t *testing.T, folder, file string) []map[string]string {
	f, err := os.Open(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		out = append(out, row)
	}
	return out
}

func numberOf(t *testing.T, text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// logbook keeps legs, and the owner at the end of every window.
type logbook struct {
	silent
	legs   []assets.TransitEvent
	by     []string
	fences map[assets.GeofenceKind]int
	owners map[string][]owner
}

type owner struct {
	at      int64
	gateway string
}

func (l *logbook) Transit(asset string, e *assets.TransitEvent) {
	l.legs, l.by = append(l.legs, *e), append(l.by, asset)
}

func (l *logbook) Geofence(_ string, _ *assets.Fence, e *assets.GeofenceEvent) { l.fences[e.Kind]++ }

func (l *logbook) Now(asset string, _ int64, s *assets.Asset) {
	l.owners[asset] = append(l.owners[asset], owner{s.Seen(), s.Owner()})
}

// TestBuses: buses of one line between two ends, both fenced. The file has no way back: a bus that
// has come to the end is next seen at the start. Those legs are inferred when the first position is
// within the fence.
func TestBuses(t *testing.T) {
	folder := pipelinetest.Shared(t, "data/liverpool-bus")
	type fix struct {
		asset string
		at    int64
		pos   assets.Position
	}
	var fixes []fix
	for _, row := range table(t, folder, "route14_outbound.csv") {
		at, err := time.Parse(time.DateTime, row["timestamp"])
		if err != nil {
			t.Fatal(err)
		}
		fixes = append(fixes, fix{row["vehicle_id"], at.UnixMicro(), assets.Position{Lat: numberOf(t, row["latitude"]), Lon: numberOf(t, row["longitude"])}})
	}
	slices.SortStableFunc(fixes, func(a, b fix) int { return cmp.Compare(a.at, b.at) })
	cfg := assets.DefaultConfig()
	fences, err := assets.NewFences([]assets.Fence{
		{ID: "city", Kind: "depot", Center: assets.Position{Lat: 53.4076, Lon: -2.9800}, Radius: 250},
		{ID: "suburb", Kind: "depot", Center: assets.Position{Lat: 53.4620, Lon: -2.8945}, Radius: 300},
	}, cfg.Geofence.OutMargin)
	if err != nil {
		t.Fatal(err)
	}
	book := &logbook{fences: map[assets.GeofenceKind]int{}, owners: map[string][]owner{}}
	f := &assets.Follower{Config: cfg, World: assets.World{Fences: fences}, To: book}
	states := map[string]*assets.Asset{}
	for i, x := range fixes {
		if states[x.asset] == nil {
			states[x.asset] = &assets.Asset{}
		}
		d := assets.Detection{HasTime: true, Ingest: x.at, Fix: assets.Fix{Position: x.pos}, HasFix: true}
		d.At, d.Payload = x.at, uint64(i)
		f.Detect(x.asset, states[x.asset], &d)
	}
	var there, back int
	for i, e := range book.legs {
		if e.Kind != assets.TransitEnd {
			continue
		}
		took := time.Duration(e.At-e.Started) * time.Microsecond
		t.Logf("bus %s: %s to %s in %s, %.1f km, inferred %t", book.by[i], e.Origin, e.Destination, took, e.Metres/1000, e.Inferred)
		switch {
		case e.Origin == "city" && e.Destination == "suburb" && !e.Inferred:
			there++
			if took < 20*time.Minute || took > time.Hour || e.Metres < 8_000 || e.Metres > 14_000 {
				t.Errorf("bus %s: %s, %.0f m are no ride to the suburb", book.by[i], took, e.Metres)
			}
		case e.Origin == "suburb" && e.Destination == "city" && e.Inferred:
			back++
		}
	}
	t.Logf("%d fixes of %d buses, events %v, %d legs there, %d back that are inferred; late %d", len(fixes), len(states), book.fences, there, back, f.LateFixes)
	if there < 7 || back < 4 || book.fences[assets.Enter] < 20 {
		t.Errorf("%d legs there, %d back, events %v", there, back, book.fences)
	}
}

// spot is a position on a floor.
type spot struct {
	floor string
	x, y  float64
}

// TestIndoor: a person walks past fixed beacons; read the other way round, an asset passes gateways.
// Where the beacons are is learned from every other walk, where they were heard loudly; the
// walks between say how far the owner is from the walker.
func TestIndoor(t *testing.T) {
	folder := pipelinetest.Shared(t, "data/indoor-ble")
	type point struct {
		at int64
		spot
	}
	walks := map[string][]point{}
	for _, row := range table(t, folder, "waypoints.csv") {
		at := int64(numberOf(t, row["ts_ms"])) * 1000
		walks[row["trace_id"]] = append(walks[row["trace_id"]], point{at, spot{row["floor"], numberOf(t, row["x_m"]), numberOf(t, row["y_m"])}})
	}
	where := func(trace string, at int64) (spot, bool) { // on the line between two waypoints
		w := walks[trace]
		for i := range len(w) - 1 {
			if a, b := w[i], w[i+1]; a.at <= at && at <= b.at && b.at > a.at {
				k := float64(at-a.at) / float64(b.at-a.at)
				return spot{a.floor, a.x + k*(b.x-a.x), a.y + k*(b.y-a.y)}, true
			}
		}
		return spot{}, false
	}
	type hearing struct {
		trace, beacon string
		at            int64
		rssi          float64
	}
	var heard []hearing
	learn := map[string]bool{}
	for _, row := range table(t, folder, "detections.csv") {
		h := hearing{row["trace_id"], row["beacon_mac"], int64(numberOf(t, row["ts_ms"])) * 1000, numberOf(t, row["rssi_dbm"])}
		if _, known := learn[h.trace]; !known {
			learn[h.trace] = len(learn)%2 == 0
		}
		heard = append(heard, h)
	}
	type sum struct{ w, x, y float64 }
	sums := map[string]map[string]*sum{} // by beacon and floor
	for _, h := range heard {
		at, ok := where(h.trace, h.at)
		if !ok || !learn[h.trace] {
			continue
		}
		if sums[h.beacon] == nil {
			sums[h.beacon] = map[string]*sum{}
		}
		s := sums[h.beacon][at.floor]
		if s == nil {
			s = &sum{}
			sums[h.beacon][at.floor] = s
		}
		w := math.Pow(10, h.rssi/10)
		s.w, s.x, s.y = s.w+w, s.x+w*at.x, s.y+w*at.y
	}
	beacons := map[string]spot{}
	for beacon, floors := range sums {
		best := 0.0
		for floor, s := range floors {
			if s.w > best {
				best, beacons[beacon] = s.w, spot{floor, s.x / s.w, s.y / s.w}
			}
		}
	}
	for _, c := range []struct {
		window  time.Duration
		nearest assets.NearestConfig
		median  float64 // at most
	}{
		{5 * time.Second, assets.NearestConfig{Alpha: 1, Windows: 1, Unheard: 1}, 11}, // the loudest of each window
		{5 * time.Second, assets.DefaultNearestConfig(), 15},
		{10 * time.Second, assets.DefaultNearestConfig(), 16},
	} {
		cfg := assets.DefaultConfig()
		cfg.Window, cfg.Nearest = c.window.Microseconds(), c.nearest
		fences, err := assets.NewFences(nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		book := &logbook{fences: map[assets.GeofenceKind]int{}, owners: map[string][]owner{}}
		f := &assets.Follower{Config: cfg, World: assets.World{Fences: fences}, To: book}
		states := map[string]*assets.Asset{}
		newest := int64(0)
		for _, h := range heard {
			if learn[h.trace] {
				continue
			}
			if states[h.trace] == nil {
				states[h.trace] = &assets.Asset{}
			}
			d := assets.Detection{HasTime: true, Ingest: h.at}
			d.At, d.Gateway, d.RSSI, d.HasRSSI = h.at, h.beacon, h.rssi, true
			f.Detect(h.trace, states[h.trace], &d)
			newest = max(newest, h.at)
		}
		var off []float64
		floors, changes, unknown := 0, 0, 0
		for trace, s := range states {
			f.Advance(trace, s, newest+second*60)
			last := ""
			for _, o := range book.owners[trace] {
				at, ok := where(trace, o.at)
				if !ok || o.gateway == "" {
					continue
				}
				if o.gateway != last {
					changes, last = changes+1, o.gateway
				}
				b, known := beacons[o.gateway]
				switch {
				case !known:
					unknown++
				case b.floor != at.floor:
					floors++
				default:
					off = append(off, math.Hypot(b.x-at.x, b.y-at.y))
				}
			}
		}
		slices.Sort(off)
		n := len(off)
		text := fmt.Sprintf("windows of %s, alpha %v, margin %v dB: %d windows of %d walks, median %.1f m, 90 %% within %.1f m; %d on another floor, %d at a beacon that was not learned, %d owners; rssi refused %d times",
			c.window, c.nearest.Alpha, c.nearest.Margin, n, len(states), off[n/2], off[n*9/10], floors, unknown, changes, f.Counts[assets.RuleRSSI])
		t.Log(text)
		if n < 400 || off[n/2] > c.median || floors > n/50 {
			t.Errorf("%s: want a median of %v m at most", text, c.median)
		}
	}
}

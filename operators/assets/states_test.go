package assets_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/assets"
)

const minute = 60 * second

// TestFilter: every rule with its counter, what it takes away, and the order of the rules.
func TestFilter(t *testing.T) {
	cfg, join := assets.DefaultFilterConfig(), assets.DefaultSightingConfig()
	const at = 1_700_000_000 * 1_000_000
	good := assets.Detection{Hearing: assets.Hearing{At: at, Gateway: "g", RSSI: -70, HasRSSI: true, Seq: 1, HasSeq: true}, HasTime: true, Ingest: at,
		Fix: assets.Fix{Position: depot, Accuracy: 8}, HasFix: true, Accel: assets.Accel{Z: 1000}, HasAccel: true, Battery: 3000, HasBatt: true}
	for name, c := range map[string]struct {
		change func(d *assets.Detection)
		rules  []assets.Rule // that count
		drop   bool
		check  func(d *assets.Detection) bool
	}{
		"nothing":             {func(*assets.Detection) {}, nil, false, func(d *assets.Detection) bool { return *d == good }},
		"no time":             {func(d *assets.Detection) { d.HasTime = false }, []assets.Rule{assets.RuleReplaced}, false, func(d *assets.Detection) bool { return d.At == at }},
		"2015 is lost":        {func(d *assets.Detection) { d.At = cfg.OldestTime }, []assets.Rule{assets.RuleReplaced}, false, func(d *assets.Detection) bool { return d.At == at }},
		"a tick later is not": {func(d *assets.Detection) { d.At = cfg.OldestTime + 1 }, nil, false, func(d *assets.Detection) bool { return d.At == cfg.OldestTime+1 }},
		"120 s ahead":         {func(d *assets.Detection) { d.At += 120 * second }, nil, false, func(d *assets.Detection) bool { return d.At == at+120*second }},
		"more":                {func(d *assets.Detection) { d.At += 120*second + 1 }, []assets.Rule{assets.RuleFuture}, true, nil},
		"the far future":      {func(d *assets.Detection) { d.At, d.Ingest = math.MaxInt64, -at }, []assets.Rule{assets.RuleFuture}, true, nil},
		"rssi 0":              {func(d *assets.Detection) { d.RSSI = 0 }, []assets.Rule{assets.RuleRSSI}, false, func(d *assets.Detection) bool { return !d.HasRSSI }},
		"rssi 127":            {func(d *assets.Detection) { d.RSSI = 127 }, []assets.Rule{assets.RuleRSSI}, false, func(d *assets.Detection) bool { return !d.HasRSSI }},
		"rssi -19":            {func(d *assets.Detection) { d.RSSI = -19 }, []assets.Rule{assets.RuleRSSI}, false, func(d *assets.Detection) bool { return !d.HasRSSI }},
		"rssi -101":           {func(d *assets.Detection) { d.RSSI = -101 }, []assets.Rule{assets.RuleRSSI}, false, func(d *assets.Detection) bool { return !d.HasRSSI }},
		"rssi -20":            {func(d *assets.Detection) { d.RSSI = -20 }, nil, false, func(d *assets.Detection) bool { return d.HasRSSI }},
		"rssi -100":           {func(d *assets.Detection) { d.RSSI = -100 }, nil, false, func(d *assets.Detection) bool { return d.HasRSSI }},
		"no rssi":             {func(d *assets.Detection) { d.RSSI, d.HasRSSI = 0, false }, nil, false, func(d *assets.Detection) bool { return !d.HasRSSI }},
		"latitude 91":         {func(d *assets.Detection) { d.Fix.Lat = 91 }, []assets.Rule{assets.RulePlace}, false, func(d *assets.Detection) bool { return !d.HasFix && d.HasAccel }},
		"longitude -181":      {func(d *assets.Detection) { d.Fix.Lon = -181 }, []assets.Rule{assets.RulePlace}, false, func(d *assets.Detection) bool { return !d.HasFix }},
		"0, 0":                {func(d *assets.Detection) { d.Fix.Position = assets.Position{} }, []assets.Rule{assets.RulePlace}, false, func(d *assets.Detection) bool { return !d.HasFix }},
		"the equator":         {func(d *assets.Detection) { d.Fix.Lat = 0 }, nil, false, func(d *assets.Detection) bool { return d.HasFix }},
		"within 1000 m":       {func(d *assets.Detection) { d.Fix.Accuracy = 1000 }, nil, false, func(d *assets.Detection) bool { return d.HasFix }},
		"within 1001 m":       {func(d *assets.Detection) { d.Fix.Accuracy = 1001 }, []assets.Rule{assets.RulePlace}, false, func(d *assets.Detection) bool { return !d.HasFix }},
		"199 mg":              {func(d *assets.Detection) { d.Accel = assets.Accel{X: 199} }, []assets.Rule{assets.RuleAccel}, false, func(d *assets.Detection) bool { return !d.HasAccel }},
		"4001 mg":             {func(d *assets.Detection) { d.Accel = assets.Accel{Y: -4001} }, []assets.Rule{assets.RuleAccel}, false, func(d *assets.Detection) bool { return !d.HasAccel }},
		"200 mg":              {func(d *assets.Detection) { d.Accel = assets.Accel{X: 200} }, nil, false, func(d *assets.Detection) bool { return d.HasAccel }},
		"1799 mV":             {func(d *assets.Detection) { d.Battery = 1799 }, []assets.Rule{assets.RuleBattery}, false, func(d *assets.Detection) bool { return !d.HasBatt }},
		"4201 mV":             {func(d *assets.Detection) { d.Battery = 4201 }, []assets.Rule{assets.RuleBattery}, false, func(d *assets.Detection) bool { return !d.HasBatt }},
		"4200 mV":             {func(d *assets.Detection) { d.Battery = 4200 }, nil, false, func(d *assets.Detection) bool { return d.HasBatt }},
		"three at once": {func(d *assets.Detection) { d.RSSI, d.Battery, d.Fix.Lat = 5, 0, 200 }, []assets.Rule{assets.RuleRSSI, assets.RulePlace, assets.RuleBattery}, false,
			func(d *assets.Detection) bool { return !d.HasRSSI && !d.HasFix && !d.HasBatt && d.HasAccel }},
	} {
		d := good
		c.change(&d)
		var s assets.Sightings
		var n, want assets.FilterCounts
		rule, drop := cfg.Filter(&d, true, &join, &s, &n)
		for _, r := range c.rules {
			want[r]++
		}
		if drop != c.drop || drop && rule != c.rules[0] || n != want || c.check != nil && !c.check(&d) {
			t.Errorf("%s: dropped %t by %s, counts %v, want %v: %+v", name, drop, rule, n, want, d)
		}
	}

	var s assets.Sightings
	var n assets.FilterCounts
	take := func(registered bool, change func(d *assets.Detection)) string {
		d := good
		change(&d)
		if rule, drop := cfg.Filter(&d, registered, &join, &s, &n); drop {
			return rule.String()
		}
		return "kept"
	}
	none := func(*assets.Detection) {}
	got := []string{
		take(false, none), take(true, none), take(true, none),
		take(true, func(d *assets.Detection) { d.Gateway = "h" }), // another gateway heard the same
		take(true, func(d *assets.Detection) { d.Seq = 2 }),       // another advertisement
		take(true, func(d *assets.Detection) { d.At += second }),  // heard again by the same one
		take(true, func(d *assets.Detection) { d.Frame = 1 }),     // another frame
		take(true, func(d *assets.Detection) { d.Battery = 0 }),   // what was delivered before counts by no other rule
	}
	want := []string{"unknown_asset", "kept", "redelivered", "kept", "kept", "kept", "kept", "redelivered"}
	if !slices.Equal(got, want) || n[assets.RuleBattery] != 0 {
		t.Errorf("%v, want %v; %v", got, want, n)
	}
	cfg.AcceptUnknown = true
	if got := take(false, func(d *assets.Detection) { d.Seq = 9 }); got != "kept" {
		t.Errorf("unknown assets are accepted: %s", got)
	}
	for r := range assets.Rules {
		if r.String() == "" {
			t.Errorf("rule %d has no name", r)
		}
	}
}

// at is a fix of a way: seconds, metres east, accuracy.
type at struct{ t, east, acc float64 }

// TestMovement: states behind each fix.
func TestMovement(t *testing.T) {
	cfg := assets.DefaultMovementConfig()
	for name, c := range map[string]struct {
		fixes []at
		want  string // U, S, M
	}{
		"one fix says nothing":              {[]at{{0, 0, 5}}, "U"},
		"two in the same place":             {[]at{{0, 0, 5}, {60, 10, 5}}, "US"},
		"50 m is near, not far":             {[]at{{0, 0, 5}, {60, 49.9, 5}}, "US"},
		"more is far":                       {[]at{{0, 0, 5}, {60, 51, 5}}, "UM"},
		"not within 30 s":                   {[]at{{0, 0, 5}, {29, 400, 5}}, "UU"},
		"but at 30 s":                       {[]at{{0, 0, 5}, {30, 400, 5}}, "UM"},
		"twice the accuracies":              {[]at{{0, 0, 20}, {60, 79, 20}}, "UU"},
		"more than them":                    {[]at{{0, 0, 20}, {60, 81, 20}}, "UM"},
		"an hour apart":                     {[]at{{0, 0, 5}, {3600, 5000, 5}}, "UM"},
		"far in steps that are near":        {[]at{{0, 0, 5}, {40, 30, 5}, {80, 60, 5}}, "USM"},
		"stays moving until all are near":   {[]at{{0, 0, 5}, {60, 100, 5}, {120, 100, 5}, {300, 100, 5}, {360, 100, 5}, {361, 100, 5}}, "UMMMSS"},
		"rests where it came to":            {[]at{{0, 0, 5}, {400, 5000, 5}, {640, 5000, 5}}, "UMS"},
		"a lone fix leaves all as it was":   {[]at{{0, 0, 5}, {60, 0, 5}, {1000, 0, 5}}, "USS"},
		"between near and far: as it was":   {[]at{{0, 0, 20}, {60, 0, 20}, {120, 70, 20}}, "USS"},
		"one that is away among those near": {[]at{{0, 0, 5}, {60, 0, 5}, {120, 60, 5}, {180, 0, 5}, {400, 0, 5}, {430, 0, 5}}, "USMMMS"},
	} {
		var m assets.Movement
		got := ""
		for _, f := range c.fixes {
			m.Fix(&cfg, assets.Fix{At: int64(f.t * 1e6), Position: offset(depot, f.east, 0), Accuracy: f.acc})
			got += m.State.String()[:1]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}

	var m assets.Movement
	for i, c := range []struct {
		speed float64
		want  assets.MovementState
	}{{3, 0}, {1.9, 0}, {2, 0}, {2, assets.Moving}, {0, assets.Moving}} {
		if m.Speed(&cfg, int64(i)*second, c.speed); m.State != c.want {
			t.Errorf("speed %d: %s, want %s", i, m.State, c.want)
		}
	}
	for _, c := range []struct {
		from, to int64
		want     bool
	}{{0, 2, false}, {0, 3, true}, {3, 9, true}, {4, 9, false}} {
		if got := m.MovedIn(c.from*second, c.to*second); got != c.want {
			t.Errorf("moved from %d to %d: %t", c.from, c.to, got)
		}
	}
}

// TestMovementThinned: however many fixes there are, few are kept, and they decide as all would.
func TestMovementThinned(t *testing.T) {
	cfg := assets.DefaultMovementConfig()
	var m assets.Movement
	for i := range 3600 {
		m.Fix(&cfg, assets.Fix{At: int64(i) * second, Position: offset(depot, float64(i%7), 0), Accuracy: 5})
	}
	if n := m.Kept(); n > 12 || m.State != assets.Stationary {
		t.Errorf("%d fixes kept, %s", n, m.State)
	}
	for i := range 120 {
		m.Fix(&cfg, assets.Fix{At: int64(3600+i) * second, Position: offset(depot, float64(10*i), 0), Accuracy: 5})
	}
	if n := m.Kept(); n > 12 || m.State != assets.Moving {
		t.Errorf("%d fixes kept, %s", n, m.State)
	}
	for i := range 300 { // a gateway says the same every minute, for five hours
		m.Fix(&cfg, assets.Fix{At: int64(4000+60*i) * second, Position: depot, Accuracy: 25})
	}
	if n := m.Kept(); n > 2 || m.State != assets.Stationary {
		t.Errorf("%d fixes of one place kept, %s", n, m.State)
	}
}

// TestBattery: days of readings, and what is known at the end of each.
func TestBattery(t *testing.T) {
	cfg := assets.DefaultBatteryConfig()
	const day = 24 * 3600 * second
	type days [][]float64 // readings of each day
	for name, c := range map[string]struct {
		days days
		want string // kind and day
	}{
		"two low days are not enough":     {days{{2400}, {2400}, {2500}}, ""},
		"three are":                       {days{{2400}, {2490}, {2300}}, "low 3"},
		"told once":                       {days{{2400}, {2400}, {2400}, {2400}, {2400}}, "low 3"},
		"a good day begins again":         {days{{2400}, {2400}, {2600}, {2400}, {2400}, {2400}}, "low 6"},
		"days without readings pass":      {days{{2400}, {}, {2400}, {}, {}, {2400}}, "low 6"},
		"the median counts":               {days{{2400, 2400, 2900}, {2900, 2400, 2400}, {2400, 2900, 2400}}, "low 3"},
		"of two the lower":                {days{{2400, 2900}, {2900, 2400}, {2400, 2900}}, "low 3"},
		"2500 is not low":                 {days{{2500}, {2500}, {2500}}, ""},
		"2499 is":                         {days{{2499}, {2499}, {2499}}, "low 3"},
		"replaced":                        {days{{2400}, {2400}, {2400}, {2950}}, "low 3, replaced 4"},
		"replaced though not low":         {days{{2500}, {2800}}, "replaced 2"},
		"a rise of less is none":          {days{{2510}, {2800}}, ""},
		"nor one to less than 2700":       {days{{2300}, {2650}}, ""},
		"slowly back up is no new cell":   {days{{2400}, {2400}, {2400}, {2600}, {2800}, {2400}, {2400}, {2400}}, "low 3"},
		"low again with the new cell":     {days{{2400}, {2400}, {2400}, {3000}, {2400}, {2400}, {2400}}, "low 3, replaced 4, low 7"},
		"the first day has nothing below": {days{{3000}, {3000}}, ""},
	} {
		var b assets.Battery
		var got []string
		for i, readings := range c.days {
			start := int64(i) * day
			for k, mv := range readings {
				b.Reading(&cfg, start+int64(k)*second, mv, 20, true)
				b.Reading(&cfg, start+int64(k)*second, 2001, -0.1, true) // a cold one does not count
			}
			if b.Due() != math.MaxInt64 && b.Due() != start+day-1 {
				t.Errorf("%s: due at %d on day %d", name, b.Due(), i)
			}
			if _, early := b.Advance(&cfg, start+day-2); early {
				t.Errorf("%s: told before the end of the day", name)
			}
			if e, ok := b.Advance(&cfg, start+day-1); ok {
				got = append(got, fmt.Sprintf("%s %d", e.Kind, e.At/day))
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
	for mv, want := range map[float64]float64{1900: 0, 2000: 0, 2250: 5, 2500: 10, 2650: 30, 2800: 50, 2900: 70, 3000: 90, 3100: 95, 3200: 100, 4000: 100} {
		if got := assets.BatteryPercent(mv); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v mV: %v %%, want %v", mv, got, want)
		}
	}
	var b assets.Battery
	if b.Reading(&cfg, 0, 2900, 0, false); b.Due() == math.MaxInt64 || b.Percent != 70 {
		t.Error("a reading counts when nobody knows how warm it is")
	}
}

// TestAvailability: the first rule that holds, told when it has held for a minute, as of when it
// began.
func TestAvailability(t *testing.T) {
	cfg := assets.DefaultAvailabilityConfig()
	depotSite := assets.Circumstances{AtSite: true, Kind: "depot"}
	with := func(x assets.Circumstances, change func(x *assets.Circumstances)) assets.Circumstances {
		change(&x)
		return x
	}
	for name, c := range map[string]struct {
		at   int64 // minutes; seen at 0, entered at 0
		x    assets.Circumstances
		want assets.AvailabilityState
	}{
		"nowhere":                {1, assets.Circumstances{}, assets.AvailabilityUnknown},
		"59 min":                 {59, assets.Circumstances{}, assets.AvailabilityUnknown},
		"60 min of silence":      {60, with(depotSite, func(x *assets.Circumstances) { x.InTransit = true }), assets.Offline},
		"in transit":             {1, with(depotSite, func(x *assets.Circumstances) { x.InTransit = true }), assets.InTransit},
		"just come":              {9, depotSite, assets.InUse},
		"settled":                {10, depotSite, assets.Available},
		"settled, folded":        {10, with(depotSite, func(x *assets.Circumstances) { x.Bottom = assets.BottomUp }), assets.Available},
		"settled, bottom down":   {10, with(depotSite, func(x *assets.Circumstances) { x.Bottom = assets.BottomDown }), assets.InUse},
		"settled, loaded":        {10, with(depotSite, func(x *assets.Circumstances) { x.Loaded = true }), assets.InUse},
		"settled at a customer":  {10, assets.Circumstances{AtSite: true, Kind: "customer"}, assets.AvailabilityUnknown},
		"just come to one":       {9, assets.Circumstances{AtSite: true, Kind: "customer"}, assets.InUse},
		"bottom down, but where": {10, assets.Circumstances{Bottom: assets.BottomDown}, assets.AvailabilityUnknown},
	} {
		var a assets.Availability
		a.Look(&cfg, c.at*minute, c.at*minute, &c.x)
		e, ok := a.Advance(&cfg, c.at*minute+60*second)
		if e.State != c.want || ok != (c.want != assets.AvailabilityUnknown) {
			t.Errorf("%s: %s, want %s", name, e.State, c.want)
		}
	}

	var a assets.Availability
	var got []string
	in := depotSite
	in.Seen = 400 * second
	transit := in
	transit.InTransit = true
	tell := func(at int64) {
		if e, ok := a.Advance(&cfg, at*second); ok {
			got = append(got, fmt.Sprintf("%d: %s to %s since %d", at, e.Before, e.State, e.At/second))
		}
	}
	look := func(at, since int64, x assets.Circumstances) {
		a.Look(&cfg, at*second, since*second, &x)
		tell(at)
	}
	look(30, 0, in) // proved at 30 to be in since 0
	if due := a.Due(&cfg, &in); due != 60*second {
		t.Errorf("due at %d", due)
	}
	tell(59)
	tell(60)
	look(200, 150, transit) // proved at 200 to be on its way since 150
	tell(210)
	look(300, 300, in) // back, for less than a minute
	look(340, 340, transit)
	tell(360)
	tell(500)
	look(600, 100, in) // what follows does not begin before what it follows
	if due := a.Due(&cfg, &in); due != 4000*second {
		t.Errorf("due at %d, want an hour after it was seen", due)
	}
	want := []string{"60: UNKNOWN to IN_USE since 0", "210: IN_USE to IN_TRANSIT since 150", "600: IN_TRANSIT to AVAILABLE since 340"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestTransit: legs as fixes, exits and enters bring them about.
func TestTransit(t *testing.T) {
	cfg := assets.DefaultTransitConfig()
	moving := func(from, to int64) assets.Movement {
		var m assets.Movement
		mc := assets.DefaultMovementConfig()
		m.Speed(&mc, from*second, 5)
		m.Speed(&mc, from*second, 5)
		m.Until = to * second
		return m
	}
	const never = math.MaxInt64
	leave := assets.Departure{Site: "A", At: 1000 * second, Seen: 940 * second, Metres: 500}
	arrive := func(at, before int64) assets.Arrival {
		return assets.Arrival{Site: "B", At: at * second, Before: before * second, Metres: 12_500, Hop: 900}
	}
	atA := assets.Arrival{Site: "A", At: 100 * second, Before: 0}
	show := func(events []assets.TransitEvent) string {
		var out []string
		for _, e := range events {
			text := fmt.Sprintf("%s %d %s", e.Kind, e.At/second, e.Origin)
			if e.Kind == assets.TransitEnd {
				text += fmt.Sprintf("-%s %.0f m", e.Destination, e.Metres)
			}
			if e.Inferred {
				text += " inferred"
			}
			out = append(out, text)
		}
		return strings.Join(out, ", ")
	}
	for name, c := range map[string]struct {
		play func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent
		want string
	}{
		"a leg": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			m := moving(1000, 1060)
			out = t.Leave(&cfg, leave, false, &m, out)
			out = t.Advance(&cfg, 1119*second, 1060*second, never, out)
			if len(out) > 0 || t.Due(&cfg, 1060*second, never) != 1120*second {
				return append(out, assets.TransitEvent{Kind: "early"})
			}
			out = t.Advance(&cfg, 1120*second, 1060*second, never, out)
			return t.Arrive(&cfg, arrive(2000, 1900), false, out)
		}, "start 1000 A, end 2000 A-B 12000 m"},
		"moving comes within 10 min": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			var still assets.Movement
			out = t.Leave(&cfg, leave, false, &still, out)
			m := moving(1600, 1600)
			t.Move(&cfg, &m, false)
			return t.Advance(&cfg, 1700*second, 1600*second, never, out)
		}, "start 1000 A"},
		"or too late": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			var still assets.Movement
			out = t.Leave(&cfg, leave, false, &still, out)
			m := moving(1601, 1700)
			t.Move(&cfg, &m, false)
			out = t.Advance(&cfg, 1700*second, 1600*second, never, out)
			return t.Arrive(&cfg, arrive(2000, 1900), false, out)
		}, ""},
		"unless a vehicle has it": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			var still assets.Movement
			out = t.Leave(&cfg, leave, false, &still, out)
			m := moving(1601, 1700)
			t.Move(&cfg, &m, true)
			return t.Advance(&cfg, 1700*second, 1600*second, never, out)
		}, "start 1000 A"},
		"with a vehicle from no site": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			*t = assets.Transit{}
			t.Board(1500*second, 500)
			out = t.Advance(&cfg, 1700*second, 1600*second, never, out)
			return t.Arrive(&cfg, arrive(2000, 1900), false, out)
		}, "start 1500 , end 2000 -B 12000 m"},
		"a leg that is too short is none": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			m := moving(1000, 1060)
			out = t.Leave(&cfg, leave, false, &m, out)
			out = t.Advance(&cfg, 1130*second, 1130*second, 1119*second, out) // it may have arrived at 1119
			return t.Arrive(&cfg, arrive(1119, 1060), false, out)
		}, ""},
		"one of two minutes is one": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			m := moving(1000, 1060)
			out = t.Leave(&cfg, leave, false, &m, out)
			return t.Arrive(&cfg, arrive(1120, 1060), false, out)
		}, "start 1000 A, end 1120 A-B 12000 m"},
		"back where it left": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			m := moving(1000, 1060)
			out = t.Leave(&cfg, leave, false, &m, out)
			a := arrive(2000, 1900)
			a.Site = "A"
			return t.Arrive(&cfg, a, false, out)
		}, "start 1000 A, end 2000 A-A 12000 m"},
		"nothing between A and B": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			out = t.Arrive(&cfg, arrive(3000, 940), true, out) // B is proved before A is left
			var still assets.Movement
			d := leave
			d.At = 3000 * second
			return t.Leave(&cfg, d, true, &still, out)
		}, "start 940 A inferred, end 3000 A-B 900 m inferred"},
		"something between, and B is proved first": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			out = t.Arrive(&cfg, arrive(3000, 1000), true, out)
			m := moving(1000, 1100)
			return t.Leave(&cfg, leave, true, &m, out)
		}, "start 1000 A, end 3000 A-B 12000 m"},
		"lost in A, next in B": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			t.Lose("A", 940*second)
			return t.Arrive(&cfg, arrive(90_000, 940), false, out)
		}, "start 940 A inferred, end 90000 A-B 900 m inferred"},
		"lost in A, seen outside, then in B": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			t.Lose("A", 940*second)
			return t.Arrive(&cfg, arrive(90_000, 80_000), false, out)
		}, ""},
		"lost in A, next in A": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			t.Lose("A", 940*second)
			a := arrive(90_000, 940)
			a.Site = "A"
			return t.Arrive(&cfg, a, false, out)
		}, ""},
		"a dock inside of A": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			out = t.Arrive(&cfg, arrive(500, 440), true, out)
			m := moving(1000, 1060)
			d := leave
			d.Site = "B"
			out = t.Leave(&cfg, d, true, &m, out) // of the dock
			d.Site, d.At = "A", 1300*second
			m = moving(1300, 1400)
			out = t.Leave(&cfg, d, false, &m, out)
			return t.Advance(&cfg, 2000*second, 1900*second, never, out)
		}, "start 1300 A"},
		"two that overlap, left and entered at once": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			m := moving(1000, 1060)
			out = t.Leave(&cfg, leave, false, &m, out)
			d := leave
			d.Site = "around A"
			out = t.Leave(&cfg, d, false, &m, out)
			a := arrive(2000, 1900)
			out = t.Arrive(&cfg, a, false, out)
			a.Site = "around B"
			return t.Arrive(&cfg, a, false, out)
		}, "start 1000 A, end 2000 A-B 12000 m"},
		"12 hours of silence": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			m := moving(1000, 1060)
			out = t.Leave(&cfg, leave, false, &m, out)
			out = t.Advance(&cfg, (1060+12*3600-1)*second, 1060*second, never, out)
			if due := t.Due(&cfg, 1060*second, never); due != (1060+12*3600)*second {
				return append(out, assets.TransitEvent{Kind: "due", At: due})
			}
			out = t.Advance(&cfg, (1060+13*3600)*second, 1060*second, never, out)
			out = t.Advance(&cfg, (1060+14*3600)*second, 1060*second, never, out) // told once
			t.Heard()
			return t.Arrive(&cfg, arrive(90_000, 80_000), false, out)
		}, "start 1000 A, unknown 44260 A, end 90000 A-B 12000 m"},
		"gateways of another site": {func(t *assets.Transit, out []assets.TransitEvent) []assets.TransitEvent {
			return t.Switch(&cfg, assets.Departure{Site: "X", At: 900 * second, Seen: 900 * second}, arrive(3000, 900), out)
		}, "start 900 X inferred, end 3000 X-B 900 m inferred"},
	} {
		var tr assets.Transit
		tr.Arrive(&cfg, atA, false, nil)
		if got := show(c.play(&tr, nil)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

package power_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline"
)

// rack is an inventory with two PDUs of one group, and one alone.
func rack(t *testing.T, devices []power.Equipment, silences ...power.Silence) *power.Inventory {
	t.Helper()
	pdu := func(id, feed string) power.PDU {
		p := power.DefaultPDU(id)
		p.Feed, p.Wiring, p.Volts, p.Limits = feed, power.WiringDelta, 208, power.Limits{LineA: 24, BreakerA: 20, Continuous: 0.8}
		if feed != "" {
			p.Group = "R"
		}
		return p
	}
	e := power.Entries{PDUs: []power.PDU{pdu("A", "A"), pdu("B", "B"), pdu("C", "")}, Devices: devices, Silences: silences, Other: power.DefaultPDU("")}
	inv, errs := power.NewInventory(e, "1")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return inv
}

// site drives a judge by text: a line is a time since noon, a PDU, a scope, an element and values.
type site struct {
	t      *testing.T
	inv    *power.Inventory
	judge  *power.Judge
	groups map[string]*power.Group
}

func newSite(t *testing.T, inv *power.Inventory, change func(*power.Config)) *site {
	t.Helper()
	cfg := power.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	j, err := power.NewJudge(cfg, inv)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, inv, j, map[string]*power.Group{}}
}

func (s *site) group(key string) *power.Group {
	if s.groups[key] == nil {
		s.groups[key] = &power.Group{}
	}
	return s.groups[key]
}

func (s *site) read(text string) *site {
	s.t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		at, err := time.ParseDuration(f[0])
		if err != nil {
			s.t.Fatal(err)
		}
		sample := power.NewSample(power.Scope(strings.TrimSuffix(f[2], "-")), strings.TrimSuffix(f[3], "-"))
		for _, value := range f[4:] {
			name, number, _ := strings.Cut(value, "=")
			v, err := strconv.ParseFloat(number, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			sample.Set(power.Quantity(name), v)
		}
		key := s.inv.Key(f[1])
		s.judge.Read(key, s.group(key), pipeline.Ticks(at), f[1], sample)
	}
	return s
}

// branches are readings of three branches of a PDU.
func branches(at time.Duration, pdu string, l12, l23, l31 float64) string {
	var b strings.Builder
	for k, w := range []float64{l12, l23, l31} {
		fmt.Fprintf(&b, "%v %s branch %s v=208 w=%v\n", at, pdu, power.Branches[k], w)
	}
	return b.String()
}

// to moves time on.
func (s *site) to(at time.Duration) *site {
	for _, key := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[key]
		if s.judge.Advance(key, g, pipeline.Ticks(at)); len(g.Members) == 0 {
			delete(s.groups, key)
		}
	}
	return s
}

func (s *site) last() power.Report {
	s.t.Helper()
	if len(s.judge.Reports) == 0 {
		s.t.Fatal("no report")
	}
	return s.judge.Reports[len(s.judge.Reports)-1]
}

// found are the findings so far, of one rule or all of them.
func (s *site) found(rules ...power.Rule) string {
	var out []string
	for _, f := range s.judge.Findings {
		if len(rules) > 0 && !slices.Contains(rules, f.Rule) {
			continue
		}
		line := fmt.Sprintf("%v %s %s %s", time.Duration(f.Modified)*time.Microsecond, f.Change, f.Rule, f.PDU.ID)
		for _, more := range []string{f.Element, f.Peer} {
			if more != "" {
				line += " " + more
			}
		}
		if f.Silenced {
			line += " silenced"
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

func expectText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

// TestStory is the rack of the article: what it draws, what more fits, and 280 W too much on two
// branches and 1080 W on the third.
func TestStory(t *testing.T) {
	s := newSite(t, rack(t, nil), nil)
	for m := range 13 {
		at := time.Duration(m) * time.Minute
		if m >= 3 && m < 9 {
			s.read(branches(at, "C", 3880, 1880, 2880))
		} else {
			s.read(branches(at, "C", 3600, 1800, 1800))
		}
	}
	s.to(13 * time.Minute)
	r := s.last()
	got := fmt.Sprintf("%.3f %.3f %.1f %.1f %.2f %.2f %v %v %v", r.Line, r.Branch, r.Room(), r.W, r.Imbalance.NEMA, r.Imbalance.IEC, r.Headroom.Over, r.Headroom.OverContinuous, r.Headroom.Near)
	expectText(t, "load", got, "[22.896 22.896 14.989] [17.308 8.654 8.654] [242.4 298.7 298.7] 7200.0 26.02 25.00 [] [L12] [L1 L2 L12]")
	expectText(t, "findings", s.found(),
		"2m0s create pdu_phase_imbalance C; 5m0s create pdu_branch_overload C L1; 5m0s create pdu_branch_overload C L2; 11m0s close pdu_branch_overload C L1; 11m0s close pdu_branch_overload C L2")
	first := s.judge.Findings[1]
	expectText(t, "finding", fmt.Sprintf("%s %d %v %.2f %.2f %.1f", first.UID, first.N, time.Duration(first.Since)*time.Microsecond, first.AvgA, first.RatedA, first.LoadPct),
		"finding:pdu_branch_overload:C:L1:180000 1 3m0s 28.25 24.00 117.7")
}

// TestContinuous: four fifths of a breaker may be passed for three hours, unless there is a gap.
func TestContinuous(t *testing.T) {
	for _, c := range []struct {
		name string
		gap  time.Duration
		want string
	}{
		{"three hours", 0, "3h0m0s create pdu_continuous_overload C L12"},
		{"a gap of three intervals", 3 * time.Minute, "3h0m0s create pdu_continuous_overload C L12"},
		{"a gap of more", 4 * time.Minute, "4h4m0s create pdu_continuous_overload C L12"},
	} {
		s := newSite(t, rack(t, nil), func(c *power.Config) { c.ImbalancePct = 0 })
		for at := time.Duration(0); at <= 4*time.Hour+10*time.Minute; at += time.Minute {
			if at > time.Hour && at < time.Hour+c.gap {
				continue
			}
			s.read(branches(at, "C", 3400, 0, 0))
		}
		expectText(t, c.name, s.to(5*time.Hour).found(), c.want)
	}
	s := newSite(t, rack(t, nil), func(c *power.Config) { c.ImbalancePct, c.Continuous.For = 0, 0 })
	for m := range 4 {
		s.read(branches(time.Duration(m)*time.Minute, "C", 3400, 0, 0))
	}
	expectText(t, "immediate", s.found(), "2m0s create pdu_continuous_overload C L12")
}

// TestMeasured: what is measured counts, the rest is computed, and what cannot be known is not.
func TestMeasured(t *testing.T) {
	for _, c := range []struct {
		name   string
		wiring power.Wiring
		rows   string
		want   string // lines, computed, neutral, W, pf
	}{
		{"branches of a delta", power.WiringDelta, branches(0, "X", 3600, 1800, 1800), "[22.896 22.896 14.989] true NaN 7200 1.000"},
		{"currents of branches", power.WiringDelta, "0s X branch L12 v=208 a=17.308\n0s X branch L2-L3 v=208 a=8.654\n0s X branch l31 v=208 a=8.654", "[22.896 22.896 14.989] true NaN 7200.128 1.000"},
		{"a line that is measured", power.WiringDelta, branches(0, "X", 3600, 1800, 1800) + "0s X line 1 a=23", "[23.000 22.896 14.989] false NaN 7200 1.000"},
		{"lines alone", power.WiringDelta, "0s X line L1 a=10\n0s X phase 2 a=11\n0s X - L3 a=12", "[10.000 11.000 12.000] false NaN NaN NaN"},
		{"lines with watts", power.WiringDelta, "0s X line L1 a=10 w=1000\n0s X line L2 a=11 w=900\n0s X line L3 a=12 w=800", "[10.000 11.000 12.000] false NaN 2700 NaN"},
		{"a branch is missing", power.WiringDelta, "0s X branch L12 v=208 w=1000\n0s X branch L23 v=208 w=1000\n0s X unit - w=2500 pf=0.95", "[NaN NaN NaN] true NaN 2500 0.950"},
		{"a wye", power.WiringWye, "0s X phase L1 v=230 w=2300\n0s X phase L2 v=230 w=1150\n0s X phase L3 v=230 w=0", "[10.000 5.000 0.000] true 8.66 3450 1.000"},
		{"a neutral that is measured", power.WiringWye, "0s X phase L1 v=230 w=2300\n0s X phase L2 v=230 w=1150\n0s X phase L3 v=230 w=0\n0s X neutral - a=11.5", "[10.000 5.000 0.000] true 11.5 3450 1.000"},
		{"watts and var", power.WiringWye, "0s X phase L1 v=230 w=800 var=600\n0s X phase L2 v=230 w=0\n0s X phase L3 v=230 w=0", "[4.348 0.000 0.000] true 4.348 800 0.800"},
		{"one line", power.WiringSingle, "0s X unit - v=230 a=10 pf=0.9", "[10.000 NaN NaN] false NaN 2070 0.900"},
		{"two inlets", power.WiringDelta, "0s X inlet 1 w=1000\n0s X inlet 2 w=500", "[NaN NaN NaN] true NaN 1500 NaN"},
		{"the unit before its inlets", power.WiringDelta, "0s X unit - w=1490\n0s X inlet 1 w=1000\n0s X inlet 2 w=500", "[NaN NaN NaN] true NaN 1490 NaN"},
		{"watts below 0", power.WiringDelta, branches(0, "X", -5, 1800, 1800), "[NaN NaN NaN] true NaN NaN NaN"},
	} {
		other := power.DefaultPDU("")
		other.Wiring = c.wiring
		inv, _ := power.NewInventory(power.Entries{Other: other}, "")
		r := newSite(t, inv, nil).read(c.rows).to(time.Hour).last()
		neutral := fmt.Sprintf("%.4g", r.Neutral)
		if c.wiring == power.WiringSingle {
			neutral = "NaN"
		}
		got := fmt.Sprintf("%.3f %t %s %.9g %.3f", r.Line, r.Computed, neutral, r.W, r.PF)
		if c.name == "watts below 0" && r.Problem == "" {
			t.Errorf("%s: no problem is named", c.name)
		}
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestInstant: readings that are less than join apart are of one instant; 0 is the same time only.
func TestInstant(t *testing.T) {
	rows := "0s C line L1 a=1\n400ms C line L2 a=2\n999ms C line L3 a=3\n1s C line L1 a=4\n1.5s C line L1 a=5"
	for join, want := range map[time.Duration]string{
		time.Second: "0 [1 2 3] 1000000 [5 NaN NaN]",
		0:           "0 [1 NaN NaN] 400000 [NaN 2 NaN] 999000 [NaN NaN 3] 1000000 [4 NaN NaN] 1500000 [5 NaN NaN]",
	} {
		s := newSite(t, rack(t, nil), func(c *power.Config) { c.Join = pipeline.Ticks(join) })
		s.read(rows).to(time.Minute)
		var got []string
		for _, r := range s.judge.Reports {
			got = append(got, fmt.Sprint(r.At, " ", r.Line))
		}
		expectText(t, join.String(), strings.Join(got, " "), want)
	}
	s := newSite(t, rack(t, nil), nil).read("0s C line L1 a=1").to(998 * time.Millisecond)
	if len(s.judge.Reports) != 0 {
		t.Error("an instant is complete before its time")
	}
	if due := s.judge.Due(s.groups[s.inv.Key("C")]); due != 999_999 {
		t.Errorf("due at %d", due)
	}
}

// TestRedundancy: both directions, by devices, by their outlets, and without a map of them.
func TestRedundancy(t *testing.T) {
	both := func(s *site, n int, a, b string) *site {
		for m := range n {
			for _, row := range []string{a, b} {
				for line := range strings.Lines(row) {
					s.read(fmt.Sprintf("%dm%s", m, line))
				}
			}
		}
		return s.to(time.Duration(n) * time.Minute)
	}
	load := func(pdu string, l12, l23, l31 float64) string {
		return strings.ReplaceAll("\n"+branches(0, pdu, l12, l23, l31), "\n0s", "\n0s")[1:]
	}
	fails := func(s *site) string {
		var out []string
		for _, r := range s.judge.Reports[len(s.judge.Reports)-2:] {
			if r.Fail == nil {
				out = append(out, r.PDU.ID+" unknown: "+r.FailProblem)
				continue
			}
			out = append(out, fmt.Sprintf("%s %s %.3f %s %v %t", r.PDU.ID, r.Fail.Verdict, r.Fail.Utilisation, r.Fail.Worst, r.Fail.Lost, r.Fail.AssumedMirror))
		}
		return strings.Join(out, "; ")
	}
	device := func(name string, w float64, a, b string) power.Equipment {
		return power.Equipment{Device: power.Device{Name: name, W: w, A: a, B: b, ShareA: 0.5}, Group: "R"}
	}

	t.Run("devices", func(t *testing.T) {
		inv := rack(t, []power.Equipment{device("x", 3600, "L12", "L12"), device("y", 1000, "L12", "L23"), device("z", 100, "L31", "")})
		s := both(newSite(t, inv, nil), 4, load("A", 3000, 0, 100), load("B", 1800, 1200, 0))
		expectText(t, "verdicts", fails(s), "A OVERLOAD 1.106 L12 [] false; B OVER_CONTINUOUS 0.865 L12 [z] false")
		expectText(t, "findings", s.found(power.RuleRedundancy), "2m0s create pdu_lost_redundancy B A; 2m0s create pdu_lost_redundancy A B")
		f := s.judge.Findings[slices.IndexFunc(s.judge.Findings, func(f power.Finding) bool { return f.PDU.ID == "A" && f.Rule == power.RuleRedundancy })]
		expectText(t, "finding", fmt.Sprintf("%s %s %d %.1f %.1f %.1f", f.UID, f.FailedFeed, f.Lost, f.AvgA, f.RatedA, f.LoadPct), "finding:pdu_lost_redundancy:A:0 A 1 17.3 20.0 86.5")
	})
	t.Run("outlets", func(t *testing.T) {
		x := device("x", 0, "L12", "L12")
		x.OutletA, x.OutletB = "7", "9"
		y := device("y", 500, "L12", "")
		y.OutletA = "8" // never heard of: its watts count
		s := both(newSite(t, rack(t, []power.Equipment{x, y}), nil), 1, load("A", 10, 10, 10)+"0s A outlet 7 w=1500\n", load("B", 10, 10, 10)+"0s B outlet 9 w=1000\n")
		expectText(t, "verdicts", fails(s), "A OK 0.721 L12 [] false; B OK 0.601 L12 [y] false")
		s = both(newSite(t, rack(t, []power.Equipment{x}), nil), 1, load("A", 10, 10, 10), load("B", 10, 10, 10)+"0s B outlet 9 w=1000\n")
		expectText(t, "one is silent", fails(s), "A unknown: device x: its outlets have not been read for three intervals, and the inventory has no watts; B unknown: device x: its outlets have not been read for three intervals, and the inventory has no watts")
	})
	t.Run("mirror", func(t *testing.T) {
		s := both(newSite(t, rack(t, nil), nil), 3, load("A", 3000, 0, 0), load("B", 1200, 0, 0))
		expectText(t, "verdicts", fails(s), "A OVERLOAD 1.010 L12 [] true; B OVERLOAD 1.010 L12 [] true")
	})
	t.Run("lines", func(t *testing.T) {
		s := both(newSite(t, rack(t, nil), nil), 1, "0s A line L1 a=10\n", "0s B line L1 a=9.5\n")
		expectText(t, "verdicts", fails(s), "A OVER_CONTINUOUS 0.812 L1 [] true; B OVER_CONTINUOUS 0.812 L1 [] true")
	})
	t.Run("silent peer", func(t *testing.T) {
		s := newSite(t, rack(t, nil), nil).read(branches(0, "A", 1, 1, 1) + branches(0, "B", 1, 1, 1) + branches(3*time.Minute, "B", 1, 1, 1) + branches(4*time.Minute, "B", 1, 1, 1)).to(time.Hour)
		expectText(t, "verdicts", fails(s), "B OK 0.001 L1 [] true; B unknown: PDU A has not been read for three intervals")
	})
}

// TestSilence: a silence marks what is found in its time, and changes nothing else.
func TestSilence(t *testing.T) {
	s := newSite(t, rack(t, nil, power.Silence{PDU: "C", From: pipeline.Ticks(3 * time.Minute), To: pipeline.Ticks(6 * time.Minute)}), func(c *power.Config) { c.ImbalancePct = 0 })
	for m := range 10 {
		w := 4200 + 300*float64(m)
		if m > 3 {
			w = 3000
		}
		s.read(branches(time.Duration(m)*time.Minute, "C", w, 0, 0))
	}
	expectText(t, "findings", s.to(time.Hour).found(),
		"2m0s create pdu_branch_overload C L12; 3m0s update pdu_branch_overload C L12 silenced; 6m0s close pdu_branch_overload C L12")
}

// TestForget: a PDU that is not heard for a day is forgotten, and what was found of it closed.
func TestForget(t *testing.T) {
	s := newSite(t, rack(t, nil), func(c *power.Config) { c.ImbalancePct = 0 })
	for m := range 3 {
		s.read(branches(time.Duration(m)*time.Minute, "C", 4200, 0, 0))
	}
	s.to(24 * time.Hour)
	if len(s.groups) != 1 {
		t.Fatal("forgotten before its time")
	}
	expectText(t, "findings", s.to(24*time.Hour+2*time.Minute).found(), "2m0s create pdu_branch_overload C L12; 24h2m0s close pdu_branch_overload C L12")
	if len(s.groups) != 0 {
		t.Errorf("%v is left", s.groups)
	}
}

// TestSilentElement: what is found of an element that is not read any more ends a day later, though
// the PDU goes on, be it with its outlets alone; what goes on to be read stays.
func TestSilentElement(t *testing.T) {
	s := newSite(t, rack(t, nil), nil)
	for m := range 3 {
		at := time.Duration(m) * time.Minute
		s.read(branches(at, "C", 4200, 0, 0) + fmt.Sprintf("%v C branch B7 a=21\n%v C branch B8 a=21", at, at))
	}
	for at := 3 * time.Minute; at <= 24*time.Hour+4*time.Minute; at += time.Minute {
		s.read(fmt.Sprintf("%v C branch B8 a=21", at))
	}
	over := "2m0s create pdu_branch_overload C L12; 2m0s create pdu_branch_overload C B7; 2m0s create pdu_branch_overload C B8"
	expectText(t, "findings", s.found(power.RuleOver), over+"; 24h3m0s close pdu_branch_overload C L12; 24h3m0s close pdu_branch_overload C B7")
	expectText(t, "imbalance", s.found(power.RuleImbalance), "2m0s create pdu_phase_imbalance C; 24h3m0s close pdu_phase_imbalance C")

	s = newSite(t, rack(t, nil), nil)
	for m := range 3 {
		s.read(branches(time.Duration(m)*time.Minute, "C", 4200, 0, 0))
	}
	for at := 3 * time.Minute; at <= 24*time.Hour+4*time.Minute; at += time.Minute {
		s.read(fmt.Sprintf("%v C outlet 1 w=10", at))
	}
	expectText(t, "outlets alone", s.found(power.RuleOver), "2m0s create pdu_branch_overload C L12; 24h3m0s close pdu_branch_overload C L12")
}

// TestReload: a PDU that another content of the inventory has elsewhere begins anew there, and a
// limit that is not known any more ends what was found against it.
func TestReload(t *testing.T) {
	s := newSite(t, rack(t, nil), func(c *power.Config) { c.ImbalancePct = 0 })
	for m := range 3 {
		s.read(branches(time.Duration(m)*time.Minute, "A", 4200, 0, 0) + branches(time.Duration(m)*time.Minute, "C", 4200, 0, 0))
	}
	s.to(2*time.Minute + 30*time.Second)
	other := power.DefaultPDU("")
	other.Limits.LineA = 100
	inv, errs := power.NewInventory(power.Entries{Other: other}, "2")
	if errs != nil {
		t.Fatal(errs)
	}
	s.inv = inv
	s.judge.Use(inv)
	s.read(branches(3*time.Minute, "A", 4200, 0, 0) + branches(3*time.Minute, "C", 4200, 0, 0)).to(4 * time.Minute)
	expectText(t, "findings", s.found(power.RuleOver), "2m0s create pdu_branch_overload C L12; 2m0s create pdu_branch_overload A L12; "+
		"3m0s close pdu_branch_overload C L12; 2m0s close pdu_branch_overload A L12")
}

// TestEnergy: what a counter and the power say, and the hour in which they do not agree.
func TestEnergy(t *testing.T) {
	s := newSite(t, rack(t, nil), nil)
	kwh := 1000.0
	for m := range 5 * 60 {
		at := time.Duration(m) * time.Minute
		s.read(fmt.Sprintf("%v C unit - w=6000 kwh_total=%.3f", at, kwh))
		if kwh += 0.1; m >= 120 && m < 180 {
			kwh -= 0.03 // a third of the load is not counted
		}
	}
	s.to(6 * time.Hour)
	expectText(t, "findings", s.found(), "3h0m0s create pdu_energy_mismatch C; 4h0m0s close pdu_energy_mismatch C")
	f := s.judge.Findings[0]
	expectText(t, "finding", fmt.Sprintf("%s %.2f %.2f", f.UID, f.CounterKWh, f.PowerKWh), "finding:pdu_energy_mismatch:C:10800000 4.20 6.00")

	// A gap, a reset and a counter that is not there make an hour begin anew.
	s = newSite(t, rack(t, nil), nil)
	s.read("0s C unit - w=6000 kwh_total=10\n1m C unit - w=6000 kwh_total=10.1\n2m C unit - w=6000\n3m C unit - kwh_total=10.3\n4m C unit - w=6000 kwh_total=10.4\n8m C unit - w=6000 kwh_total=10.8\n9m C unit - w=6000 kwh_total=0.1\n10m C unit - w=6000 kwh_total=99").to(time.Hour)
	var got []string
	for _, r := range s.judge.Reports {
		got = append(got, fmt.Sprintf("%s %.2f %.2f", r.Energy.Kind, r.Energy.KWh, r.PowerKWh))
	}
	expectText(t, "kinds", strings.Join(got, "; "), "first NaN NaN; ok 0.10 0.10;  NaN 0.10; ok 0.20 NaN; ok 0.10 0.20; ok 0.40 NaN; reset 0.10 0.10; implausible NaN 0.10")

	// The counters of lines are added up until the whole PDU has one.
	s = newSite(t, rack(t, nil), nil)
	s.read("0s C line L1 kwh_total=1\n0s C line L2 kwh_total=2\n1m C line L1 kwh_total=1.1\n1m C line L2 kwh_total=2.1\n2m C unit - kwh_total=50\n3m C unit - kwh_total=50.2\n3m C line L1 kwh_total=1.3").to(time.Hour)
	got = nil
	for _, r := range s.judge.Reports {
		got = append(got, fmt.Sprintf("%s %.2f", r.Energy.Kind, r.Energy.KWh))
	}
	expectText(t, "lines", strings.Join(got, "; "), "first NaN; ok 0.20; first NaN; ok 0.20")
}

// TestBanks: breakers that are none of the three branches have limits and alarms of their own.
func TestBanks(t *testing.T) {
	s := newSite(t, rack(t, nil), nil)
	for m := range 3 {
		s.read(fmt.Sprintf("%dm C branch B10 a=21\n%dm C branch B2 a=18.5\n%dm C branch L1 a=3", m, m, m))
	}
	r := s.to(time.Hour).last()
	expectText(t, "banks", fmt.Sprint(r.Banks, r.Headroom.Over, r.Headroom.OverContinuous, r.Headroom.Near, r.BankHeadroom), "[{B2 18.5} {B10 21} {branch L1 3}] [B10] [B2 B10] [B2 B10] [1.5 -1 17]")
	expectText(t, "findings", s.found(), "2m0s create pdu_branch_overload C B10")
}

// TestInventory: every mistake is named, with its entry and field.
func TestInventory(t *testing.T) {
	limits := power.DefaultLimits()
	_, errs := power.NewInventory(power.Entries{
		PDUs: []power.PDU{{ID: "A", Country: "us", Feed: "A", Group: "g", Limits: limits}, {ID: "A", Limits: limits}, {ID: "B", Feed: "C", Limits: limits}, {ID: "D", Group: "g", Limits: limits}, {ID: "E", Feed: "A", Group: "g", Limits: limits},
			{Wiring: "star", Volts: -1, Limits: power.Limits{LineA: -1}}},
		Devices: []power.Equipment{{Device: power.Device{Name: "x", A: "L12", B: "L12", W: 1}, Group: "g"}, {Device: power.Device{W: 1, A: "L4"}, Group: "g"},
			{Device: power.Device{Name: "y", ShareA: 2}, Group: "h"}, {Device: power.Device{Name: "z"}, Group: "g", OutletB: "1"}},
		Silences: []power.Silence{{PDU: "Z", From: 5, To: 5}},
	}, "")
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	want := []string{
		`pdus.0.country: "us": want a code of two capital letters, such as US`,
		"pdus.1.id: A is there twice: one entry a PDU",
		`pdus.2.feed: "C": want A or B`,
		"pdus.3.feed: missing: a PDU of a group is feed A or feed B of it",
		"pdus.4.group: g has feed A already, PDU A: a group has one PDU of either feed",
		"pdus.5.id: missing: the pdu_id of its readings",
		`pdus.5.wiring: "star": want delta, wye or single`,
		"pdus.5.volts: -1: want a number above 0, or leave it out",
		"pdus.5.line_a: -1: want a number above 0, or leave it out",
		"pdus.5.continuous: 0: want a share above 0 and up to 1, such as 0.8",
		"devices.0.b: L12: the group has no PDU of that feed",
		"devices.1.name: missing",
		`devices.1.a: "L4": PDU A has [L12 L23 L31]`,
		"devices.2.watts: missing: give its watts, or a_outlet and b_outlet, which measure them",
		"devices.2.share: 2: want the part of its load on feed A, 0 to 1",
		"devices.2.a: missing: name the branch of a cord in a or b",
		`devices.2.group: "h": no PDU has this group; give a PDU the same group, or correct it`,
		"devices.3.a: missing: name the branch of a cord in a or b",
		"devices.3.b_outlet: 1: without a branch in b",
		`silences.0.pdu: "Z" is none of the PDUs`,
		"silences.0.to: is not after from",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestWye: phases of a wye do not share lines, when one feed fails and when room is asked for.
func TestWye(t *testing.T) {
	v := power.Three{230, 230, 230}
	limits := power.Limits{LineA: 16, Continuous: 1}
	devices := []power.Device{{Name: "x", W: 2300, A: "L1", B: "L2"}, {Name: "y", W: 1150, A: "L1", B: "L1"}, {Name: "z", W: 10, A: "L3"}}
	s, err := power.Survive(power.WiringWye, v, devices, true, limits)
	if got := fmt.Sprintf("%.1f %.3f %s %v %v", s.Load.Line, s.Utilisation, s.Worst, s.Lost, s.Verdict); err != nil || got != "[5.0 10.0 0.0] 0.625 L2 [z] OK" {
		t.Error(got, err)
	}
	s, err = power.Survive(power.WiringWye, v, devices, false, limits)
	if got := fmt.Sprintf("%.1f %.3f %s %v", s.Load.Line, s.Utilisation, s.Worst, s.Verdict); err != nil || got != "[15.0 0.0 0.0] 0.940 L1 OK" && got != "[15.0 0.0 0.0] 0.938 L1 OK" {
		t.Error(got, err)
	}
	if _, err := power.Survive(power.WiringWye, v, []power.Device{{Name: "x", W: 1, A: "L12"}}, false, limits); err == nil || !strings.Contains(err.Error(), `branch "L12": want one of [L1 L2 L3]`) {
		t.Error(err)
	}
	room, err := power.RoomOf(power.WiringWye, v, power.Three{3600, 0, 5000}, limits)
	if got := fmt.Sprintf("%.1f", room); err != nil || got != "[80.0 3680.0 0.0]" {
		t.Error(got, err)
	}
	if _, err := power.RoomOf(power.WiringWye, v, power.Three{}, power.Limits{}); err == nil {
		t.Error("room without a rating")
	}
}

// BenchmarkRead: a PDU with three branches, 24 outlets and a counter, read every minute.
func BenchmarkRead(b *testing.B) {
	inv, _ := power.NewInventory(power.Entries{Other: power.DefaultPDU("")}, "")
	j, err := power.NewJudge(power.DefaultConfig(), inv)
	if err != nil {
		b.Fatal(err)
	}
	var samples []power.Sample
	add := func(scope power.Scope, element string, q power.Quantity, v float64) {
		s := power.NewSample(scope, element)
		s.V = 208
		s.Set(q, v)
		samples = append(samples, s)
	}
	for k := range power.Branches {
		add(power.Branch, power.Branches[k], power.PowerW, 1000*float64(k+1))
	}
	for n := range 24 {
		add(power.Outlet, strconv.Itoa(n), power.PowerW, 100)
	}
	add(power.Unit, "", power.EnergyKWh, 1000)
	var g power.Group
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		at := int64(n/len(samples)) * 60_000_000
		j.Read("x", &g, at, "x", samples[n%len(samples)])
		j.Reports = j.Reports[:0]
	}
}

// TestConfig: every problem of a configuration is named.
func TestConfig(t *testing.T) {
	cfg := power.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Join, cfg.Forget, cfg.Over.Raise, cfg.Energy.ClearShare, cfg.EnergyPct = cfg.Interval, cfg.Interval, 0, 2, -1
	err := cfg.Validate()
	for _, want := range []string{"join: want less than interval", "forget: want more", "over: raise 0", "energy: clear_share 2", "energy_pct -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := power.NewJudge(power.Config{}, nil); err == nil || errors.Unwrap(err) != nil {
		t.Error(err)
	}
}

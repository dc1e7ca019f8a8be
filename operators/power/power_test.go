package power_test

import (
	"fmt"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/power"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(a), math.Abs(b)) }

// TestClosedForms: phasors give what the formulas of the textbook give, where there are some.
func TestClosedForms(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	v := power.Three{208, 208, 208}
	for range 2000 {
		w := power.Three{rng.Float64() * 4000, rng.Float64() * 4000, rng.Float64() * 4000}
		l, err := power.Delta(v, power.Unity(w))
		if err != nil {
			t.Fatal(err)
		}
		side := func(a, b float64) float64 { return math.Sqrt(a*a + b*b + a*b) }
		i12, i23, i31 := l.Branch[0], l.Branch[1], l.Branch[2]
		if want := (power.Three{side(i12, i31), side(i12, i23), side(i23, i31)}); !near(l.Line[0], want[0]) || !near(l.Line[1], want[1]) || !near(l.Line[2], want[2]) {
			t.Fatalf("%v W: lines %v, want %v", w, l.Line, want)
		}
		// The three line currents close a triangle, and both ways to the imbalance agree.
		iec, ok := power.IEC(l.Line)
		if !ok {
			t.Fatalf("%v: no triangle", l.Line)
		}
		a := cmplx.Rect(1, 2*math.Pi/3)
		i := [3]complex128{complex(i12, 0), complex(i23, 0) * cmplx.Conj(a), complex(i31, 0) * a}
		lines := [3]complex128{i[0] - i[2], i[1] - i[0], i[2] - i[1]}
		if sum := lines[0] + lines[1] + lines[2]; cmplx.Abs(sum) > 1e-9 {
			t.Fatalf("line currents add up to %v", sum)
		}
		positive := lines[0] + a*lines[1] + a*a*lines[2]
		negative := lines[0] + a*a*lines[1] + a*lines[2]
		if want := 100 * cmplx.Abs(negative) / cmplx.Abs(positive); !near(iec, want) {
			t.Fatalf("%v W: IEC %v, want %v", w, iec, want)
		}
		wye, err := power.Wye(power.Three{230, 230, 230}, power.Unity(w))
		if err != nil {
			t.Fatal(err)
		}
		x, y, z := wye.Line[0], wye.Line[1], wye.Line[2]
		if n := math.Sqrt(max(0, x*x+y*y+z*z-x*y-y*z-z*x)); !near(wye.Neutral, n) {
			t.Fatalf("%v W: neutral %v, want %v", w, wye.Neutral, n)
		}
		if wye.Imbalance().HasIEC {
			t.Fatal("currents of a wye with neutral have an IEC imbalance")
		}
	}
}

// TestRoom: what is said to fit fits, and 1 W more does not.
func TestRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	limits := power.Limits{LineA: 24, BreakerA: 20, Continuous: 0.8}
	full := 0
	for range 2000 {
		v := power.Three{200 + rng.Float64()*20, 200 + rng.Float64()*20, 200 + rng.Float64()*20}
		w := power.Three{rng.Float64() * 4500, rng.Float64() * 4500, rng.Float64() * 4500}
		room, err := power.Room(v, w, limits)
		if err != nil {
			t.Fatal(err)
		}
		before, err := power.Delta(v, power.Unity(w))
		if err != nil {
			t.Fatal(err)
		}
		for b := range room {
			if room[b] == 0 {
				full++
				continue
			}
			// Only what this branch feeds is looked at: its own breaker and its two lines.
			fits := func(more float64) bool {
				w := w
				w[b] += more
				l, err := power.Delta(v, power.Unity(w))
				if err != nil {
					t.Fatal(err)
				}
				lines := [3][2]int{{0, 1}, {1, 2}, {2, 0}}[b]
				return l.Branch[b] <= limits.BreakerA*(1+1e-9) && l.Line[lines[0]] <= limits.LineA*(1+1e-9) && l.Line[lines[1]] <= limits.LineA*(1+1e-9)
			}
			if !fits(room[b]) || fits(room[b]+1) {
				t.Fatalf("%v V, %v W, lines %v: room %v on %s", v, w, before.Line, room[b], power.Branches[b])
			}
		}
	}
	if full == 0 {
		t.Error("no branch was full: the test proves little")
	}
	if _, err := power.Room(power.Three{208, 208, 208}, power.Three{}, power.Limits{}); err == nil {
		t.Error("room without a rating")
	}
}

func TestVerdicts(t *testing.T) {
	v := power.Three{208, 208, 208}
	for _, c := range []struct {
		w                           power.Three
		continuous                  float64
		over, overContinuous, close string
	}{
		{power.Three{3600, 1800, 1800}, 0.8, "", "L12", "L1 L2 L12"},
		{power.Three{3600, 1800, 1800}, 1, "", "", "L1 L2"},
		{power.Three{4160, 0, 0}, 0.8, "", "L12", "L12"}, // exactly at the breaker
		{power.Three{4161, 0, 0}, 0.8, "L12", "L12", "L12"},
		{power.Three{3880, 1880, 2880}, 0.8, "L1 L2", "L12", "L1 L2 L12"},
		{power.Three{3328, 0, 0}, 0.8, "", "", "L12"}, // exactly at the continuous part
	} {
		l, err := power.Delta(v, power.Unity(c.w))
		if err != nil {
			t.Fatal(err)
		}
		h := l.Headroom(power.Limits{LineA: 24, BreakerA: 20, Continuous: c.continuous})
		if got, want := strings.Join(h.Over, " ")+"|"+strings.Join(h.OverContinuous, " ")+"|"+strings.Join(h.Near, " "), c.over+"|"+c.overContinuous+"|"+c.close; got != want {
			t.Errorf("%v: %s, want %s", c.w, got, want)
		}
	}
	if h := (power.Load{Line: power.Three{99, 0, 0}}).Headroom(power.DefaultLimits()); len(h.Over) != 0 {
		t.Errorf("over a rating that is not known: %v", h.Over)
	}
}

func TestFailover(t *testing.T) {
	v := power.Three{208, 208, 208}
	limits := power.Limits{LineA: 24, BreakerA: 20, Continuous: 0.8}
	devices := []power.Device{{Name: "both", W: 3000, A: "L12", B: "L23", ShareA: 0.5}, {Name: "only a", W: 500, A: "L31"}, {Name: "only b", W: 700, B: "L23"}}
	s, err := power.Failover(v, devices, limits)
	if err != nil {
		t.Fatal(err)
	}
	if s[0].BranchW != (power.Three{0, 3700, 0}) || !slices.Equal(s[0].Lost, []string{"only a"}) || s[0].Verdict != power.OverContinuous {
		t.Errorf("A fails: %+v", s[0])
	}
	if s[1].BranchW != (power.Three{3000, 0, 500}) || !slices.Equal(s[1].Lost, []string{"only b"}) || s[1].Verdict != power.Holds {
		t.Errorf("B fails: %+v", s[1])
	}
	a, b := power.Shared(devices)
	if a != (power.Three{1500, 0, 500}) || b != (power.Three{0, 2200, 0}) {
		t.Errorf("both up: %v, %v", a, b)
	}
	m, err := power.Mirror(power.WiringDelta, v, power.Three{3000, 0, 0}, power.Three{1200, 0, 0}, limits)
	if err != nil || !m.AssumedMirror || m.Verdict != power.Overload || m.BranchW[0] != 4200 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := power.Failover(v, []power.Device{{Name: "x", W: 1, A: "L12", B: "L13"}}, limits); err == nil || !strings.Contains(err.Error(), `device x: branch "L13"`) {
		t.Error(err)
	}
}

func TestBadLoads(t *testing.T) {
	v := power.Three{208, 208, 208}
	for want, c := range map[string]struct {
		v power.Three
		d power.Draw
	}{
		"branch L12: -1 W":            {v, power.Draw{W: -1, PF: 1}},
		"branch L12: NaN W":           {v, power.Draw{W: math.NaN(), PF: 1}},
		"branch L12: power factor 0":  {v, power.Draw{W: 1}},
		"branch L12: power factor 2":  {v, power.Draw{W: 1, PF: 2}},
		"branch L12: 0 V: want a num": {power.Three{0, 208, 208}, power.Draw{W: 1, PF: 1}},
	} {
		draws := power.Unity(power.Three{})
		draws[0] = c.d
		if _, err := power.Delta(c.v, draws); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestVendors: integers as devices send them.
func TestVendors(t *testing.T) {
	for _, c := range []struct {
		object string
		raw    int64
		want   string
	}{
		{"rPDU2DeviceStatusPower", 657, "w unit 6570 true"},
		{"rPDU2PhaseStatusCurrent", 213, "a line 21.3 true"},
		{"rPDU2PhaseStatusCurrent", -1, "a line 0 false"},
		{"rPDU2BankStatusCurrent", 199, "a branch 19.9 true"},
		{"infeedLoadValue", 2130, "a line 21.3 true"},
		{"outletEnergy", 1828311, "kwh_total outlet 1828.311 true"},
		{"st4LineCurrent", 2289, "a line 22.89 true"},
		{"st4InputCordOutOfBalance", 260, "vendor_imbalance_pct inlet 26 true"},
		{"inletCurrent", 15_200, "a inlet 15.2 true"},
	} {
		r, err := power.Convert(c.object, c.raw)
		if got := fmt.Sprint(r.Quantity, " ", r.Scope, " ", r.Value, " ", r.OK); err != nil || got != c.want {
			t.Errorf("%s %d: %s, %v; want %s", c.object, c.raw, got, err, c.want)
		}
	}
	if _, err := power.Convert("nosuch", 1); err == nil {
		t.Error("an object that is unknown")
	}
	if r, err := power.ConvertSensor(8, power.Inlet, 1828311, 0); err != nil || r.Value != 1828.311 || r.Quantity != power.EnergyKWh {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := power.ConvertSensor(1, power.Branch, 1731, 2); err != nil || r.Value != 17.31 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range [][2]int{{99, 0}, {1, 12}, {1, -1}} {
		if _, err := power.ConvertSensor(bad[0], power.Inlet, 1, bad[1]); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// TestAlarm: three over raise, three under 97 % clear, and inside the band nothing happens. What is a little worse than was told is not told again.
func TestAlarm(t *testing.T) {
	cfg := power.DefaultAlarmConfig(power.RuleOver)
	minute := time.Minute.Microseconds()
	var a power.Alarm
	var got []string
	for i, v := range []float64{21, 21, 19, 21, 21, 20.5, 22.5, 22.7, 19.5, 20.5, 19.3, 19.3, 19.9, 19.3, 19.3, 19.3, 21} {
		if c := a.Read(cfg, int64(i)*minute, v, 20); c != power.NoChange {
			got = append(got, fmt.Sprintf("%d %s %v %d %s", i, c, a.Highest, a.Changes, a.ID(power.RuleOver, "P1", "L12")))
		}
	}
	want := []string{
		"5 create 21 1 finding:pdu_branch_overload:P1:L12:180000",
		"6 update 22.5 2 finding:pdu_branch_overload:P1:L12:180000",
		"15 close 22.7 3 finding:pdu_branch_overload:P1:L12:180000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Four fifths of a breaker may be passed for three hours.
	a, cfg = power.Alarm{}, power.DefaultAlarmConfig(power.RuleOverContinuous)
	for i := range int64(4 * 60) {
		if c := a.Read(cfg, i*minute, 17, 16); c != power.NoChange && i != 180 || c != power.Created && i == 180 {
			t.Errorf("minute %d: %q", i, c)
		}
	}
	// Whatever comes, an alarm is created, then updated, then closed.
	rng := rand.New(rand.NewPCG(9, 9))
	a, cfg = power.Alarm{}, power.DefaultAlarmConfig(power.RuleImbalance)
	open, ids := false, map[string]bool{}
	for i := range int64(100_000) {
		switch c := a.Read(cfg, i*minute, 19.3+rng.Float64(), 20); {
		case c == power.Created && !open:
			id := a.ID(power.RuleImbalance, "P1", "")
			if open = true; ids[id] {
				t.Fatalf("%s is there twice", id)
			}
			ids[id] = true
		case c == power.Closed && open:
			open = false
		case c == power.NoChange, c == power.Updated && open:
		default:
			t.Fatalf("reading %d: %s while open is %t", i, c, open)
		}
	}
	if len(ids) < 20 {
		t.Errorf("%d alarms: the test proves little", len(ids))
	}
}

// TestEnergyAddsUp: over resets and rollovers of a counter the energy is that of the load, but
// for what passed before a reset.
func TestEnergyAddsUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	cfg := power.EnergyConfig{MaxW: 10_000, WrapKWh: 1000, ResolutionKWh: 0.1}
	for range 200 {
		var s power.EnergyCounter
		counter, total, sum, resets := rng.Float64()*1000, 0.0, 0.0, 0
		s.Read(cfg, 0, counter)
		at := int64(0)
		for range 300 {
			step := (5 + rng.Int64N(30)) * time.Minute.Microseconds()
			at += step
			used := rng.Float64() * cfg.MaxW / 1000 * (time.Duration(step) * time.Microsecond).Hours()
			total += used
			if counter += used; counter >= cfg.WrapKWh {
				counter -= cfg.WrapKWh
			}
			e := s.Read(cfg, at, counter)
			if !e.Added || e.Kind == power.EnergyReset {
				resets++
			}
			sum += e.KWh
		}
		if resets > 0 || !near(sum, total) {
			t.Fatalf("%v kWh, want %v; %d resets", sum, total, resets)
		}
	}
	var s power.EnergyCounter
	for i, c := range []struct {
		kwh  float64
		want power.EnergyKind
	}{{500, power.EnergyFirst}, {501, power.EnergyOK}, {0.2, power.EnergyReset}, {900, power.EnergyImplausible}, {901, power.EnergyOK}, {300, power.EnergyImplausible}, {300.5, power.EnergyOK}} {
		if e := s.Read(cfg, int64(i)*time.Hour.Microseconds(), c.kwh); e.Kind != c.want || e.Added != (c.want == power.EnergyOK || c.want == power.EnergyReset) {
			t.Errorf("reading %d: %+v, want %s", i, e, c.want)
		}
	}
	if e := s.Read(cfg, 0, 301); e.Kind != power.EnergyLate {
		t.Errorf("a reading from before: %+v", e)
	}
}

func BenchmarkDelta(b *testing.B) {
	v, d := power.Three{208, 208, 208}, [3]power.Draw{{W: 3000, PF: 0.95}, {W: 2000, PF: 0.9}, {W: 2500, PF: -0.98}}
	limits := power.Limits{LineA: 24, BreakerA: 20, Continuous: 0.8}
	b.ReportAllocs()
	for b.Loop() {
		l, err := power.Delta(v, d)
		if err != nil {
			b.Fatal(err)
		}
		_ = l.Headroom(limits)
	}
}

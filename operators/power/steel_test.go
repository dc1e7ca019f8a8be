package power_test

import (
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// quarter is a quarter hour of a steel plant.
type quarter struct {
	end              time.Time // as it stands in the file
	kwh, lag, lead   float64
	lagPF, leadingPF float64 // percent
}

// steel reads half a year of quarter hours.
func steel(t *testing.T) []quarter {
	t.Helper()
	f, err := os.Open(filepath.Join(pipelinetest.Shared(t, "data/steel-power-15min"), "steel_2018_h1.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []quarter
	for n, row := range rows[1:] {
		var q quarter
		if q.end, err = time.Parse("2/1/2006 15:04", row[0]); err != nil {
			t.Fatalf("row %d: %v", n, err)
		}
		for at, v := range map[int]*float64{1: &q.kwh, 2: &q.lag, 3: &q.lead, 5: &q.lagPF, 6: &q.leadingPF} {
			if *v, err = strconv.ParseFloat(row[at], 64); err != nil {
				t.Fatalf("row %d: %v", n, err)
			}
		}
		out = append(out, q)
	}
	return out
}

// TestSteel runs half a year of a real meter through the energy operators.
func TestSteel(t *testing.T) {
	quarters := steel(t)

	t.Run("power factor", func(t *testing.T) {
		worst := 0.0
		for _, q := range quarters {
			in := power.Instant{}
			s := power.NewSample(power.Unit, "")
			s.W, s.Var = 4000*q.kwh, 4000*q.lag
			in.Add(s)
			m := in.Measure(power.PDU{ID: "steel", Wiring: power.WiringDelta})
			worst = math.Max(worst, math.Abs(100*m.PF-q.lagPF))
			// The same from phasors: the load is shared by three branches.
			draws := [3]power.Draw{}
			for k := range draws {
				draws[k] = power.Draw{W: m.W / 3, PF: m.PF}
			}
			l, err := power.Delta(power.Three{400, 400, 400}, draws)
			if err != nil || math.Abs(l.PF-m.PF) > 1e-9 || math.Abs(l.Var-m.Var) > 1e-6*math.Max(1, m.W) {
				t.Fatalf("%v: %+v, %v", q, l, err)
			}
		}
		if t.Logf("%d rows, the power factor differs by %.4f %% at most", len(quarters), worst); !(worst <= 0.01) {
			t.Errorf("a power factor is off by %v %%", worst)
		}
	})

	t.Run("time", func(t *testing.T) {
		back := 0
		for i := 1; i < len(quarters); i++ {
			if quarters[i].end.Before(quarters[i-1].end) {
				back++
			}
		}
		fixed := ends(quarters)
		for i := 1; i < len(fixed); i++ {
			if d := fixed[i].Sub(fixed[i-1]); d != 15*time.Minute {
				t.Fatalf("row %d is %v behind the one before", i, d)
			}
		}
		if t.Logf("%d steps back as the rows are stamped", back); back != 181 {
			t.Errorf("%d steps back, want one a day", back)
		}
	})

	t.Run("energy", func(t *testing.T) {
		s := newSite(t, rack(t, nil), func(c *power.Config) { c.Interval = 15 * 60 * 1_000_000 })
		counter, total, integral := 0.0, 0.0, 0.0
		for i, at := range ends(quarters) {
			q := quarters[i]
			counter += q.kwh
			s.read(fmt.Sprintf("%ds steel unit - w=%v kwh_total=%v", at.Unix(), 4000*q.kwh, counter))
		}
		s.to(1 << 62)
		for _, r := range s.judge.Reports[1:] {
			total += r.Energy.KWh
			integral += r.PowerKWh
		}
		if want := counter - quarters[0].kwh; !(math.Abs(total-want) <= 1e-6*want) {
			t.Errorf("%v kWh by the counter, want %v", total, want)
		}
		t.Logf("%.0f kWh by the counter, %.0f kWh by trapezoids; %d mismatches begin in %d hours", total, integral, countOf(s.judge.Findings, power.RuleEnergy), len(quarters)/4)
		if !(math.Abs(integral-total) <= 0.001*total) {
			t.Errorf("%v kWh by the power, %v by the counter", integral, total)
		}
	})

	t.Run("as stamped", func(t *testing.T) {
		// A midnight on the wrong date comes a day too early: behind what was read already.
		var c power.EnergyCounter
		cfg := power.EnergyConfig{MaxW: math.Inf(1), ResolutionKWh: 0.1}
		kinds, counter := map[power.EnergyKind]int{}, 0.0
		for _, q := range quarters {
			counter += q.kwh
			kinds[c.Read(cfg, q.end.UnixMicro(), counter).Kind]++
		}
		t.Logf("%v", kinds)
		if kinds[power.EnergyLate] != 181 || kinds[power.EnergyOK] != len(quarters)-182 {
			t.Errorf("%v", kinds)
		}
	})
}

// ends moves a midnight, which has the date of the day that it ends, to where it belongs.
func ends(quarters []quarter) []time.Time {
	var out []time.Time
	for _, q := range quarters {
		if q.end.Hour() == 0 && q.end.Minute() == 0 {
			q.end = q.end.AddDate(0, 0, 1)
		}
		out = append(out, q.end)
	}
	return out
}

func countOf(findings []power.Finding, rule power.Rule) int {
	n := 0
	for _, f := range findings {
		if f.Rule == rule && f.Change == power.Created {
			n++
		}
	}
	return n
}

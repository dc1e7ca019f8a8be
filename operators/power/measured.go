package power

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Bank is a breaker of a PDU that is none of the three branches.
type Bank struct {
	Name string
	A    float64
}

// Measured is what an instant says of a PDU. Numbers that cannot be known are Unknown.
type Measured struct {
	Load
	V     Three // that currents were computed with
	LoadW Three // of branches, or of the phases of a wye
	Banks []Bank
	// Computed says that the line currents come from the loads: no line was measured.
	Computed bool
	// Problem says why loads could not be computed, empty for none.
	Problem string
}

func unknowns() Three { return Three{Unknown(), Unknown(), Unknown()} }

func (t Three) known() bool { return known(t[0]) && known(t[1]) && known(t[2]) }

// override takes from other what is known there.
func (t *Three) override(other Three) {
	for k, v := range other {
		t[k] = either(v, t[k])
	}
}

// Measure computes the load of a PDU. Currents that were measured count; the others come from
// the watts of branches or phases.
func (in *Instant) Measure(p PDU) Measured {
	m := Measured{V: unknowns(), LoadW: unknowns()}
	m.Line, m.Branch, m.Neutral = unknowns(), unknowns(), Unknown()
	m.W, m.Var, m.VA, m.VAArithSum, m.PF = Unknown(), Unknown(), Unknown(), Unknown(), Unknown()
	m.Delta = p.Wiring == WiringDelta
	lines := in.lines(p)
	branches := unknowns()
	m.compute(in, p)
	if m.Delta {
		for k, name := range Branches {
			branches[k] = in.of(name, Branch, Phase, Line).A
		}
		m.Branch.override(branches)
	}
	m.Computed = !known(lines[0]) && !known(lines[1]) && !known(lines[2])
	m.Line.override(lines)
	m.Neutral = either(in.sum(Neutral, func(s *Sample) float64 { return s.A }), m.Neutral)
	m.totals(in)
	m.banks(in)
	return m
}

// lines are the currents of the lines as measured.
func (in *Instant) lines(p PDU) Three {
	out := unknowns()
	for k, name := range Lines {
		out[k] = in.of(name, Line, Phase).A
	}
	if p.Wiring == WiringSingle {
		out[0] = either(out[0], in.total(func(s *Sample) float64 { return s.A }))
	}
	return out
}

// compute computes currents from loads, as far as all loads are known.
func (m *Measured) compute(in *Instant, p PDU) {
	var draws [3]Draw
	pf := in.total(func(s *Sample) float64 { return s.PF })
	for k, name := range p.Wiring.Loads() {
		if name == "" { // a line that is not there
			m.V[k], m.LoadW[k], draws[k] = m.V[0], 0, Draw{0, 1}
			continue
		}
		s := in.load(name, p.Wiring)
		m.V[k] = voltage(s, in.of(Lines[k], Phase, Line), p)
		draws[k] = s.draw(m.V[k], pf)
		m.LoadW[k] = draws[k].W
	}
	if !m.LoadW.known() || !m.V.known() {
		return
	}
	l, err := p.Wiring.load(m.V, draws)
	if err != nil {
		m.Problem = err.Error()
		m.LoadW = unknowns()
		return
	}
	m.Load = l
	if l.Delta { // has none
		m.Neutral = Unknown()
	}
	if p.Wiring == WiringSingle {
		m.Line[1], m.Line[2] = Unknown(), Unknown()
	}
}

// load is the sample of what hangs on a branch or phase.
func (in *Instant) load(name string, w Wiring) Sample {
	if w == WiringDelta {
		return in.of(name, Branch, Phase, Line)
	}
	s := in.of(name, Phase, Line)
	if w == WiringSingle {
		s.W = either(s.W, in.total(func(s *Sample) float64 { return s.W }))
		s.A = either(s.A, in.total(func(s *Sample) float64 { return s.A }))
		s.V = either(s.V, in.total(func(s *Sample) float64 { return s.V }))
	}
	return s
}

// voltage is that of a load. Devices with delta wiring give that of branch L12 at line L1 as
// well, or that between L1 and neutral: one that is far from what the PDU has is not taken.
func voltage(load, line Sample, p PDU) float64 {
	v := load.V
	if near := line.V; !known(v) && (p.Volts == 0 || near > 0.75*p.Volts && near < 1.25*p.Volts) {
		v = near
	}
	if !known(v) && p.Volts > 0 {
		v = p.Volts
	}
	return v
}

// draw is what a load draws: its watts, or its current at a voltage. A power factor that is not
// known is that of the whole PDU, else 1.
func (s *Sample) draw(v, whole float64) Draw {
	pf := either(s.PF, ratio(s.W, s.VA), whole, 1)
	if known(s.Var) && known(s.W) {
		pf = math.Copysign(ratio(s.W, math.Hypot(s.W, s.Var)), s.Var)
	}
	w := either(s.W, v*s.A*math.Abs(pf))
	if w == 0 { // the power factor of nothing is anything
		pf = 1
	}
	return Draw{w, pf}
}

// ratio is a over b; Unknown where b is 0. Roundings of what is measured lead above 1.
func ratio(a, b float64) float64 {
	if b == 0 {
		return Unknown()
	}
	r := a / b
	if r > 1 && r < 1.05 {
		return 1
	}
	return r
}

// totals are those of the meter, else those of the loads.
func (m *Measured) totals(in *Instant) {
	of := func(value func(*Sample) float64, computed float64) float64 {
		return either(in.total(value), computed, in.sum(Phase, value), in.sum(Line, value))
	}
	m.W = of(func(s *Sample) float64 { return s.W }, m.W)
	m.Var = of(func(s *Sample) float64 { return s.Var }, m.Var)
	m.VA = of(func(s *Sample) float64 { return s.VA }, m.VA)
	if !known(m.VA) {
		m.VA = math.Hypot(m.W, m.Var)
	}
	pf := either(in.total(func(s *Sample) float64 { return s.PF }), ratio(m.W, m.VA))
	if m.HasPF = known(pf) && m.W != 0; m.HasPF {
		m.PF = pf
	} else {
		m.PF = Unknown()
	}
}

// banks are the breakers that are none of the branches, in the order of their names.
func (m *Measured) banks(in *Instant) {
	for i := range in.Samples {
		s := &in.Samples[i]
		if s.Scope == Branch && known(s.A) && !(m.Delta && slices.Contains(Branches[:], s.Element)) {
			m.Banks = append(m.Banks, Bank{bankName(s.Element), s.A})
		}
	}
	slices.SortFunc(m.Banks, func(a, b Bank) int { return compareNames(a.Name, b.Name) })
}

// bankName keeps the names of breakers apart from those of lines.
func bankName(element string) string {
	if element == "" || slices.Contains(Lines[:], element) {
		return strings.TrimSpace("branch " + element)
	}
	return element
}

// compareNames orders B2 before B10.
func compareNames(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// load computes the currents of draws.
func (w Wiring) load(v Three, draws [3]Draw) (Load, error) {
	if w == WiringDelta || w == "" {
		return Delta(v, draws)
	}
	return Wye(v, draws)
}

package power

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Unknown is a number that was not measured. Nothing compares with it.
func Unknown() float64 { return math.NaN() }

func known(v float64) bool { return !math.IsNaN(v) }

// either is the first number that is known.
func either(values ...float64) float64 {
	for _, v := range values {
		if known(v) {
			return v
		}
	}
	return Unknown()
}

// Sample is what a PDU says of one of its elements.
type Sample struct {
	Scope   Scope
	Element string
	// Feed and Wiring are what the reading says of its PDU, empty for nothing.
	Feed   string
	Wiring Wiring
	// Unknown where they were not measured.
	V, A, W, VA, Var, PF, KWh, RatedA float64
}

// NewSample is a sample that says nothing yet.
func NewSample(scope Scope, element string) Sample {
	u := Unknown()
	return Sample{Scope: scope, Element: element, V: u, A: u, W: u, VA: u, Var: u, PF: u, KWh: u, RatedA: u}
}

// values are the numbers of a sample.
func (s *Sample) values() [8]*float64 {
	return [8]*float64{&s.V, &s.A, &s.W, &s.VA, &s.Var, &s.PF, &s.KWh, &s.RatedA}
}

// Set takes a value of a vendor. A quantity that nothing is made of is left out.
func (s *Sample) Set(q Quantity, v float64) {
	switch q {
	case VoltageV:
		s.V = v
	case CurrentA:
		s.A = v
	case PowerW:
		s.W = v
	case ApparentVA:
		s.VA = v
	case ReactiveVar:
		s.Var = v
	case PowerFactor:
		s.PF = v
	case EnergyKWh:
		s.KWh = v
	case RatedA:
		s.RatedA = v
	}
}

// Normalize brings scope and element into one form: L1 for 1 and l1, L12 for L1-L2. A reading
// without scope has that of its element.
func (s *Sample) Normalize() {
	e := strings.ToUpper(strings.TrimSpace(s.Element))
	if s.Scope == Line || s.Scope == Phase || s.Scope == Branch || s.Scope == "" {
		switch e {
		case "1", "2", "3":
			if s.Scope == Line || s.Scope == Phase {
				e = "L" + e
			}
		case "L1-L2", "L1L2":
			e = "L12"
		case "L2-L3", "L2L3":
			e = "L23"
		case "L3-L1", "L3L1", "L1-L3", "L1L3":
			e = "L31"
		}
		s.Element = e
	}
	if s.Scope == "" {
		switch {
		case slices.Contains(Lines[:], e):
			s.Scope = Line
		case slices.Contains(Branches[:], e):
			s.Scope = Branch
		case e == "":
			s.Scope = Unit
		}
	}
}

// maxSamples bounds the elements of an instant; a PDU has a hundred at most.
const maxSamples = 1024

// Instant is what a PDU says at one time, in the order in which its elements were first heard.
type Instant struct {
	At      int64
	Samples []Sample
}

// Add takes a reading. What it says of an element replaces what was said of it before. It
// returns false for one element too many.
func (in *Instant) Add(s Sample) bool {
	s.Normalize()
	i := slices.IndexFunc(in.Samples, func(o Sample) bool { return o.Scope == s.Scope && o.Element == s.Element })
	if i < 0 {
		if len(in.Samples) == maxSamples {
			return false
		}
		in.Samples = append(in.Samples, s)
		return true
	}
	o := &in.Samples[i]
	o.Feed, o.Wiring = cmp.Or(s.Feed, o.Feed), cmp.Or(s.Wiring, o.Wiring)
	was := o.values()
	for k, v := range s.values() {
		*was[k] = either(*v, *was[k])
	}
	return true
}

// of returns the sample of an element, one without values for none.
func (in *Instant) of(element string, scopes ...Scope) Sample {
	out := NewSample("", element)
	values := out.values()
	for _, scope := range scopes {
		for i := range in.Samples {
			if s := &in.Samples[i]; s.Scope == scope && s.Element == element {
				for k, v := range s.values() {
					*values[k] = either(*values[k], *v)
				}
			}
		}
	}
	return out
}

// sum adds a value up over the elements of a scope; Unknown where one of them lacks it.
func (in *Instant) sum(scope Scope, value func(*Sample) float64) float64 {
	out, n := 0.0, 0
	for i := range in.Samples {
		if s := &in.Samples[i]; s.Scope == scope {
			out += value(s)
			n++
		}
	}
	if n == 0 {
		return Unknown()
	}
	return out
}

// total is a value of the whole PDU: that of the unit, else that of its inlets.
func (in *Instant) total(value func(*Sample) float64) float64 {
	return either(in.sum(Unit, value), in.sum(Inlet, value))
}

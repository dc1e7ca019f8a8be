package power

import (
	"errors"
	"fmt"
	"math"
)

// Limits are what a PDU may carry. 0 is unknown.
type Limits struct {
	LineA    float64 // rating of every line; that of a plug at 80 % has the 80 % in it
	BreakerA float64 // of every branch
	// Continuous is the share of a breaker that may be drawn for hours: 0.8 in North America,
	// 1 where breakers are rated by IEC.
	Continuous float64
}

// DefaultLimits knows no rating.
func DefaultLimits() Limits { return Limits{Continuous: 0.8} }

// Validate returns every problem.
func (l Limits) Validate() error {
	var errs []error
	for name, v := range map[string]float64{"line": l.LineA, "breaker": l.BreakerA} {
		if !(v >= 0) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("%s rating %v A: want a number above 0, or 0 for unknown", name, v))
		}
	}
	if !(l.Continuous > 0 && l.Continuous <= 1) {
		errs = append(errs, fmt.Errorf("continuous %v: want a share above 0 and up to 1", l.Continuous))
	}
	return errors.Join(errs...)
}

// tolerance is the relative part by which a value must be above a limit to be over it: 20.0 A
// on a 20 A breaker are not.
const tolerance = 1e-9

// Above tells whether v is over a limit; nothing is over one that is not known.
func Above(v, limit float64) bool { return limit > 0 && v > limit*(1+tolerance) }

// nearShare is the share of a limit above which a current is near it.
const nearShare = 0.9

// Headroom is what is left of the limits, negative beyond them, and what is over.
type Headroom struct {
	Line       Three // to the rating of the lines
	Branch     Three // to where the breaker trips
	Continuous Three // to the continuous part of the breaker
	// Over names lines over their rating and branches over their breaker; OverContinuous
	// branches over the continuous part of it; Near what is above nine tenths of either.
	Over, OverContinuous, Near []string
}

// Headroom compares a load with limits.
func (l Load) Headroom(limits Limits) Headroom {
	var h Headroom
	for k, a := range l.Line {
		h.Line[k] = limits.LineA - a
		h.take(Lines[k], a, limits.LineA, 0)
	}
	if !l.Delta {
		return h
	}
	for k, a := range l.Branch {
		h.Branch[k] = limits.BreakerA - a
		h.Continuous[k] = limits.Continuous*limits.BreakerA - a
		h.take(Branches[k], a, limits.BreakerA, limits.Continuous*limits.BreakerA)
	}
	return h
}

func (h *Headroom) take(name string, a, limit, continuous float64) {
	if Above(a, limit) {
		h.Over = append(h.Over, name)
	}
	if Above(a, continuous) {
		h.OverContinuous = append(h.OverContinuous, name)
	}
	if Above(a, nearShare*limit) || Above(a, nearShare*continuous) {
		h.Near = append(h.Near, name)
	}
}

// Room returns how many more watts fit on each branch of a delta at a power factor of one,
// each by itself, before a line reaches its rating or the branch its breaker.
func Room(v, watts Three, limits Limits) (Three, error) {
	l, err := Delta(v, Unity(watts))
	if err != nil {
		return Three{}, err
	}
	if limits.LineA <= 0 {
		return Three{}, errors.New("line rating: is needed to say what fits")
	}
	var out Three
	for b := range out {
		most := math.Inf(1)
		if limits.BreakerA > 0 {
			most = limits.BreakerA
		}
		for _, other := range []float64{l.Branch[(b+1)%3], l.Branch[(b+2)%3]} {
			// |I_b|² + |I_o|² + |I_b||I_o| = rating² on the line that both share.
			rest := 4*limits.LineA*limits.LineA - 3*other*other
			if rest < 0 {
				most = 0
				break
			}
			most = min(most, (math.Sqrt(rest)-other)/2)
		}
		out[b] = max(0, (most-l.Branch[b])*v[b])
	}
	return out, nil
}

// RoomOf is Room for any wiring. Phases of a wye do not share lines.
func RoomOf(w Wiring, v, watts Three, limits Limits) (Three, error) {
	if w == WiringDelta || w == "" {
		return Room(v, watts, limits)
	}
	l, err := Wye(v, Unity(watts))
	if err != nil {
		return Three{}, err
	}
	if limits.LineA <= 0 {
		return Three{}, errors.New("line rating: is needed to say what fits")
	}
	var out Three
	for k, name := range w.Loads() {
		if name != "" {
			out[k] = max(0, (limits.LineA-l.Line[k])*v[k])
		}
	}
	return out, nil
}

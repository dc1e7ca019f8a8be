package power

import (
	"errors"
	"fmt"
	"slices"
)

// Device is what has cords in two feeds, or in one.
type Device struct {
	Name string
	W    float64
	A, B string // branches, empty for no cord
	// ShareA is the part of its load on feed A while both are up.
	ShareA float64
}

// Shared returns what hangs on the branches of either feed while both are up. A device with one
// cord draws all from it.
func Shared(devices []Device) (a, b Three) {
	for _, d := range devices {
		share := d.ShareA
		switch {
		case d.B == "":
			share = 1
		case d.A == "":
			share = 0
		}
		if at := slices.Index(Branches[:], d.A); at >= 0 {
			a[at] += d.W * share
		}
		if at := slices.Index(Branches[:], d.B); at >= 0 {
			b[at] += d.W * (1 - share)
		}
	}
	return a, b
}

// Verdict says whether a feed holds.
type Verdict string

const (
	Holds          Verdict = "OK"
	OverContinuous Verdict = "OVER_CONTINUOUS" // for a while
	Overload       Verdict = "OVERLOAD"
)

// verdictOf judges the larger of line over rating and branch over breaker.
func verdictOf(utilisation, continuous float64) Verdict {
	switch {
	case Above(utilisation, 1):
		return Overload
	case Above(utilisation, continuous):
		return OverContinuous
	}
	return Holds
}

// Survivor is the feed that is left when the other has failed.
type Survivor struct {
	BranchW     Three // what hangs on its branches, or on its phases; Unknown where only lines are known
	Load        Load
	Lost        []string // devices without a cord in it, in the order given
	Utilisation float64  // the largest of line over rating, branch over breaker
	Verdict     Verdict
	// Worst is the line or branch of that, WorstA its current and WorstLimit what it may carry.
	Worst              string
	WorstA, WorstLimit float64
	// AssumedMirror says that no map of devices was given and every branch was taken to be
	// backed by its like.
	AssumedMirror bool
}

// Failover computes what either feed carries when the other fails: [0] when A fails, [1] when
// B does. Both have delta wiring; voltages are those between lines.
func Failover(v Three, devices []Device, limits Limits) ([2]Survivor, error) {
	b, errB := Survive(WiringDelta, v, devices, true, limits)
	a, errA := Survive(WiringDelta, v, devices, false, limits)
	return [2]Survivor{b, a}, errors.Join(errB, errA)
}

// Survive computes what feed B carries when A has failed, or A when B has.
func Survive(w Wiring, v Three, devices []Device, feedB bool, limits Limits) (Survivor, error) {
	var s Survivor
	var errs []error
	for _, d := range devices {
		on := d.A
		if feedB {
			on = d.B
		}
		at := w.place(on)
		switch {
		case on == "":
			s.Lost = append(s.Lost, d.Name)
		case at < 0:
			errs = append(errs, fmt.Errorf("device %s: branch %q: want one of %v", d.Name, on, w.Loads()))
		default:
			s.BranchW[at] += d.W
		}
	}
	errs = append(errs, s.carry(w, v, limits))
	return s, errors.Join(errs...)
}

// Mirror is Survive without a map of devices: every branch of a feed takes what hangs on its
// like in the other.
func Mirror(w Wiring, v, a, b Three, limits Limits) (Survivor, error) {
	s := Survivor{AssumedMirror: true}
	for k := range s.BranchW {
		s.BranchW[k] = a[k] + b[k]
	}
	return s, s.carry(w, v, limits)
}

// MirrorLines is Mirror where nothing but the currents of the lines is known: every line takes
// the current of its like, as if both were in phase. That is the most it can be.
func MirrorLines(a, b Three, limits Limits) Survivor {
	s := Survivor{AssumedMirror: true, BranchW: unknowns(), Load: Load{Branch: unknowns(), W: Unknown(), Var: Unknown(), VA: Unknown(), VAArithSum: Unknown()}}
	for k := range a {
		s.Load.Line[k] = a[k] + b[k]
	}
	s.judge(limits)
	return s
}

// carry computes the load of what hangs on the branches.
func (s *Survivor) carry(w Wiring, v Three, limits Limits) error {
	l, err := w.load(v, Unity(s.BranchW))
	if err != nil {
		return err
	}
	s.Load = l
	s.judge(limits)
	return nil
}

func (s *Survivor) judge(limits Limits) {
	s.Utilisation = 0
	worse := func(name string, a, limit float64) {
		if limit > 0 && a/limit > s.Utilisation {
			s.Utilisation, s.Worst, s.WorstA, s.WorstLimit = a/limit, name, a, limit
		}
	}
	for k := range s.Load.Line {
		worse(Lines[k], s.Load.Line[k], limits.LineA)
		worse(Branches[k], s.Load.Branch[k], limits.BreakerA)
	}
	s.Verdict = verdictOf(s.Utilisation, limits.Continuous)
}

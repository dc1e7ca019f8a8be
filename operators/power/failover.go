package power

import (
	"errors"
	"fmt"
	"math"
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
	BranchW     Three
	Load        Load
	Lost        []string // devices without a cord in it, in the order given
	Utilisation float64  // the largest of line over rating, branch over breaker
	Verdict     Verdict
	// AssumedMirror says that no map of devices was given and every branch was taken to be
	// backed by its like.
	AssumedMirror bool
}

// Failover computes what either feed carries when the other fails: [0] when A fails, [1] when
// B does. Voltages are those between lines.
func Failover(v Three, devices []Device, limits Limits) ([2]Survivor, error) {
	var out [2]Survivor
	var errs []error
	for f := range out {
		s := &out[f]
		for _, d := range devices {
			on := d.B
			if f == 1 {
				on = d.A
			}
			at := slices.Index(Branches[:], on)
			switch {
			case on == "":
				s.Lost = append(s.Lost, d.Name)
			case at < 0:
				errs = append(errs, fmt.Errorf("device %s: branch %q: want L12, L23 or L31", d.Name, on))
			default:
				s.BranchW[at] += d.W
			}
		}
		errs = append(errs, s.judge(v, limits))
	}
	return out, errors.Join(errs...)
}

// Mirror is Failover without a map of devices: every branch of a feed takes what hangs on its
// like in the other.
func Mirror(v, a, b Three, limits Limits) (Survivor, error) {
	s := Survivor{AssumedMirror: true}
	for k := range s.BranchW {
		s.BranchW[k] = a[k] + b[k]
	}
	return s, s.judge(v, limits)
}

func (s *Survivor) judge(v Three, limits Limits) error {
	l, err := Delta(v, Unity(s.BranchW))
	if err != nil {
		return err
	}
	s.Load, s.Utilisation = l, 0
	for k := range l.Line {
		if limits.LineA > 0 {
			s.Utilisation = math.Max(s.Utilisation, l.Line[k]/limits.LineA)
		}
		if limits.BreakerA > 0 {
			s.Utilisation = math.Max(s.Utilisation, l.Branch[k]/limits.BreakerA)
		}
	}
	s.Verdict = verdictOf(s.Utilisation, limits.Continuous)
	return nil
}

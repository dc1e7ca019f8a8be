package power

import (
	"errors"
	"fmt"
	"math"
	"math/cmplx"
)

// Three has a value for each of the three lines or branches.
type Three [3]float64

// Names of lines and of branches, in the order of Three.
var (
	Lines    = [3]string{"L1", "L2", "L3"}
	Branches = [3]string{"L12", "L23", "L31"}
)

// Draw is what hangs on one branch or phase. PF is the power factor: above 0 the current
// lags, below 0 it leads.
type Draw struct{ W, PF float64 }

// Unity makes draws of plain watts.
func Unity(w Three) [3]Draw { return [3]Draw{{w[0], 1}, {w[1], 1}, {w[2], 1}} }

// reactive returns Q of a draw.
func (d Draw) reactive() float64 {
	q := d.W * math.Tan(math.Acos(min(math.Abs(d.PF), 1)))
	return math.Copysign(q, d.PF)
}

func (d Draw) validate() error {
	switch {
	case !(d.W >= 0) || math.IsInf(d.W, 0):
		return fmt.Errorf("%v W: want a number of 0 or more", d.W)
	case !(math.Abs(d.PF) > 0 && math.Abs(d.PF) <= 1):
		return fmt.Errorf("power factor %v: want -1 to 1 and not 0", d.PF)
	}
	return nil
}

// Load is a three-phase load with the currents that it draws.
type Load struct {
	Line    Three // A
	Branch  Three // A; of a delta
	Delta   bool
	Neutral float64 // A, of a wye; harmonics of the third order add to it and cannot be seen here

	W, Var     float64 // totals
	VA         float64 // of the vector sum: sqrt(W² + Var²)
	VAArithSum float64 // sum of the branches' apparent powers
	// PF is W / VA; it means nothing without load (HasPF).
	PF    float64
	HasPF bool
}

// rotation is the angle of the three voltages.
var rotation = [3]complex128{1, cmplx.Rect(1, -2*math.Pi/3), cmplx.Rect(1, 2*math.Pi/3)}

// Delta computes the currents of draws between lines, at voltages v between them.
func Delta(v Three, draws [3]Draw) (Load, error) {
	l, i, err := load("branch", Branches, v, draws)
	if err != nil {
		return Load{}, err
	}
	l.Delta = true
	for b := range i {
		l.Branch[b] = cmplx.Abs(i[b])
	}
	l.Line = Three{cmplx.Abs(i[0] - i[2]), cmplx.Abs(i[1] - i[0]), cmplx.Abs(i[2] - i[1])}
	return l, nil
}

// Wye computes the currents of draws between lines and neutral, at voltages v to the neutral.
func Wye(v Three, draws [3]Draw) (Load, error) {
	l, i, err := load("phase", Lines, v, draws)
	if err != nil {
		return Load{}, err
	}
	for p := range i {
		l.Line[p] = cmplx.Abs(i[p])
	}
	l.Neutral = cmplx.Abs(i[0] + i[1] + i[2])
	return l, nil
}

// load computes the phasor of every draw's current and the totals.
func load(what string, names [3]string, v Three, draws [3]Draw) (l Load, currents [3]complex128, err error) {
	var errs []error
	for k, d := range draws {
		if err := d.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", what, names[k], err))
			continue
		}
		if !(v[k] > 0) || math.IsInf(v[k], 0) {
			errs = append(errs, fmt.Errorf("%s %s: %v V: want a number above 0", what, names[k], v[k]))
			continue
		}
		s := complex(d.W, d.reactive())
		currents[k] = cmplx.Conj(s / (complex(v[k], 0) * rotation[k]))
		l.W += real(s)
		l.Var += imag(s)
		l.VAArithSum += cmplx.Abs(s)
	}
	l.VA = math.Hypot(l.W, l.Var)
	if l.HasPF = l.VA > 0; l.HasPF {
		l.PF = l.W / l.VA
	}
	return l, currents, errors.Join(errs...)
}

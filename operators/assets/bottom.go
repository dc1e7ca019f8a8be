package assets

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Accel is what an accelerometer measures, in mg.
type Accel struct{ X, Y, Z float64 }

func (a Accel) norm() float64 { return math.Sqrt(a.X*a.X + a.Y*a.Y + a.Z*a.Z) }

// Tilt is the angle between two vectors, in degrees.
func Tilt(a, b Accel) float64 {
	n := a.norm() * b.norm()
	if n == 0 {
		return 0
	}
	return math.Acos(min(1, max(-1, (a.X*b.X+a.Y*b.Y+a.Z*b.Z)/n))) * 180 / math.Pi
}

// BottomConfig says when a cage's bottom plate is down, and when it is folded up.
type BottomConfig struct {
	Rest  Accel   // what the tag measures when the plate is down
	Still float64 // mg by which a sample may differ from 1 g
	Down  float64 // degrees up to which it is down
	Up    float64 // degrees from which it is up
	Count int     // samples that agree
	Span  int64   // ticks that they span
}

// DefaultBottomConfig is the one of the reference.
func DefaultBottomConfig() BottomConfig {
	return BottomConfig{Rest: Accel{0, 0, 1000}, Still: 100, Down: 20, Up: 60, Count: 3, Span: (30 * time.Second).Microseconds()}
}

// Validate returns every problem.
func (c BottomConfig) Validate() error {
	var errs []error
	if n := c.Rest.norm(); !(n > 0) || math.IsInf(n, 0) {
		errs = append(errs, fmt.Errorf("rest %v: want a vector that is not 0", c.Rest))
	}
	if !(c.Still >= 0) {
		errs = append(errs, fmt.Errorf("still %v mg: must not be negative", c.Still))
	}
	if !(c.Down >= 0 && c.Down < c.Up && c.Up <= 180) {
		errs = append(errs, fmt.Errorf("angles %v and %v: want 0 or more, the second larger, up to 180", c.Down, c.Up))
	}
	if c.Count < 1 || c.Span < 0 {
		errs = append(errs, fmt.Errorf("%d samples over %s: want at least 1, and a time that is not negative", c.Count, spanOf(c.Span)))
	}
	return errors.Join(errs...)
}

// BottomState is where the plate is.
type BottomState uint8

const (
	BottomUnknown BottomState = iota
	BottomDown                // usable: OCSF closed
	BottomUp                  // folded: OCSF open
)

func (s BottomState) String() string { return [...]string{"UNKNOWN", "DOWN", "UP"}[s] }

// BottomEvent is a change of state, or the first state.
type BottomEvent struct {
	State, Before BottomState
	At            int64 // of the first sample that agrees
	Confirmed     int64
	Tilt          float64 // of the sample that confirms
}

// Bottom is the state of one cage; the zero value has seen nothing.
type Bottom struct {
	State   BottomState
	Pending BottomState
	Count   int32
	Since   int64
}

// Sample takes the next sample.
func (b *Bottom) Sample(cfg *BottomConfig, at int64, a Accel) (BottomEvent, bool) {
	const g = 1000
	if !(math.Abs(a.norm()-g) <= cfg.Still) {
		return BottomEvent{}, false // it moves
	}
	tilt := Tilt(a, cfg.Rest)
	speaks := BottomUnknown
	switch {
	case tilt <= cfg.Down:
		speaks = BottomDown
	case tilt >= cfg.Up:
		speaks = BottomUp
	}
	if speaks == BottomUnknown || speaks == b.State {
		b.Pending, b.Count = BottomUnknown, 0
		return BottomEvent{}, false
	}
	if speaks != b.Pending {
		b.Pending, b.Count, b.Since = speaks, 0, at
	}
	if b.Count++; int(b.Count) < cfg.Count || at-b.Since < cfg.Span {
		return BottomEvent{}, false
	}
	e := BottomEvent{State: speaks, Before: b.State, At: b.Since, Confirmed: at, Tilt: tilt}
	*b = Bottom{State: speaks}
	return e, true
}

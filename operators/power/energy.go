package power

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// EnergyConfig is what is known of an energy counter.
type EnergyConfig struct {
	// MaxW is the most that the meter can see: more energy than MaxW gives with a fifth on top
	// is not plausible.
	MaxW float64
	// WrapKWh is where the counter begins again at 0; 0 is never.
	WrapKWh float64
	// ResolutionKWh is one step of the counter.
	ResolutionKWh float64
}

// DefaultEnergyConfig lacks MaxW.
func DefaultEnergyConfig() EnergyConfig { return EnergyConfig{ResolutionKWh: 0.1} }

// Validate returns every problem.
func (c EnergyConfig) Validate() error {
	var errs []error
	if !(c.MaxW > 0) {
		errs = append(errs, fmt.Errorf("max_w %v: want a number above 0", c.MaxW))
	}
	if !(c.WrapKWh >= 0) {
		errs = append(errs, fmt.Errorf("wrap_kwh %v: want a number above 0, or 0 for never", c.WrapKWh))
	}
	if !(c.ResolutionKWh >= 0) {
		errs = append(errs, fmt.Errorf("resolution_kwh %v: want 0 or more", c.ResolutionKWh))
	}
	return errors.Join(errs...)
}

// EnergyKind says what became of a reading of a counter.
type EnergyKind string

const (
	EnergyFirst       EnergyKind = "first" // the baseline of those that follow
	EnergyOK          EnergyKind = "ok"
	EnergyReset       EnergyKind = "reset"       // begins again at 0
	EnergyRollover    EnergyKind = "rollover"    // passed WrapKWh
	EnergyImplausible EnergyKind = "implausible" // more than can be; the baseline of those that follow
	EnergyLate        EnergyKind = "late"        // not after the one before: not used
)

// EnergyCounter is the state of one counter; the zero value has seen nothing.
type EnergyCounter struct {
	Seen bool
	At   int64 // ticks
	KWh  float64
}

// Energy is what a reading adds. KWh and AvgW are there with ok, reset and rollover (Added).
type Energy struct {
	Kind  EnergyKind
	Added bool
	KWh   float64
	AvgW  float64
}

const (
	plausible = 1.2 // times what MaxW gives
	nearWrap  = 0.9 // of the modulus: only above it a fall can be a rollover
)

// Read takes the next reading of a counter.
func (s *EnergyCounter) Read(cfg EnergyConfig, at int64, kwh float64) Energy {
	if !s.Seen {
		*s = EnergyCounter{true, at, kwh}
		return Energy{Kind: EnergyFirst}
	}
	if at <= s.At {
		return Energy{Kind: EnergyLate}
	}
	hours := (time.Duration(at-s.At) * time.Microsecond).Hours()
	most := cfg.MaxW*hours*plausible/1000 + cfg.ResolutionKWh
	was := s.KWh
	*s = EnergyCounter{true, at, kwh}
	added := func(kind EnergyKind, delta float64) Energy {
		return Energy{kind, true, delta, delta * 1000 / hours}
	}
	wrapped := kwh + cfg.WrapKWh - was
	switch {
	case kwh >= was && !Above(kwh-was, most):
		return added(EnergyOK, kwh-was)
	case kwh >= was:
	case cfg.WrapKWh > 0 && was > nearWrap*cfg.WrapKWh && !Above(wrapped, most):
		return added(EnergyRollover, wrapped)
	case !Above(kwh, most):
		return added(EnergyReset, kwh)
	}
	return Energy{Kind: EnergyImplausible}
}

// maxGap is how many intervals readings may be apart for what was drawn between them to be known.
const maxGap = 3

// Integral adds up the energy of power readings, by trapezoids; the zero value has seen nothing.
type Integral struct {
	Seen bool
	At   int64 // ticks
	W    float64
}

// Read returns the energy since the reading before. There is none for the first one, for one
// that is not after the one before, and over a gap: more than three intervals.
func (s *Integral) Read(at int64, w float64, interval int64) (kwh float64, ok bool) {
	was := *s
	if was.Seen && at <= was.At {
		return 0, false
	}
	*s = Integral{true, at, w}
	if !was.Seen || at-was.At > maxGap*interval {
		return 0, false
	}
	return (was.W + w) / 2 / 1000 * (time.Duration(at-was.At) * time.Microsecond).Hours(), true
}

// Balance compares what a counter counts with what its power readings add up to; the zero value
// has seen nothing.
type Balance struct {
	Open              bool
	Since             int64 // ticks
	Counter, Integral float64
}

// balanceSpan is over how long both are compared.
const balanceSpan = time.Hour

// Read takes what both say of the time since the reading before; ok is whether both know. Where
// one does not, comparing begins anew. When an hour is full it returns by how many percent of the
// integral the counter is off; one step of the counter is no difference.
func (s *Balance) Read(at int64, counter, integral float64, ok bool, resolution float64) (pct float64, full bool) {
	if !ok || !s.Open {
		*s = Balance{Open: true, Since: at}
		return 0, false
	}
	s.Counter += counter
	s.Integral += integral
	if at-s.Since < balanceSpan.Microseconds() {
		return 0, false
	}
	off := math.Abs(s.Counter - s.Integral)
	if Above(off, resolution) || resolution == 0 {
		pct = 100
		if s.Integral > 0 {
			pct = 100 * off / s.Integral
		}
	}
	return pct, true
}

// Next begins another span behind one that is full.
func (s *Balance) Next(at int64) { *s = Balance{Open: true, Since: at} }

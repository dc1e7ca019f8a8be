package power

import (
	"errors"
	"fmt"
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

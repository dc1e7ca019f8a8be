package traffic

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Policy says what a fall of a counter counts when nothing proves what it was.
type Policy string

const (
	// PolicyZero takes the counter for one that began again at 0, as PromQL does.
	PolicyZero Policy = "zero"
	// PolicyGap counts nothing.
	PolicyGap Policy = "gap"
)

// CounterConfig is what is known of a counter.
type CounterConfig struct {
	Bits   int     // 32, 53 (what came through a float) or 64
	MaxBps float64 // of the interface, 0 for unknown
	MaxGap int64   // ticks; samples further apart have no delta
	Policy Policy
}

// DefaultCounterConfig is a counter of 64 bits of which nothing else is known.
func DefaultCounterConfig() CounterConfig {
	return CounterConfig{Bits: 64, MaxGap: (45 * time.Minute).Microseconds(), Policy: PolicyZero}
}

// Validate returns every problem.
func (c CounterConfig) Validate() error {
	var errs []error
	switch c.Bits {
	case 32, 53, 64:
	default:
		errs = append(errs, fmt.Errorf("bits %d: want 32, 53 or 64", c.Bits))
	}
	if !(c.MaxBps >= 0) {
		errs = append(errs, fmt.Errorf("max_bps %v: want a number above 0, or 0 for unknown", c.MaxBps))
	}
	if c.MaxGap <= 0 {
		errs = append(errs, fmt.Errorf("max_gap %d: want more than 0", c.MaxGap))
	}
	if c.Policy != PolicyZero && c.Policy != PolicyGap {
		errs = append(errs, fmt.Errorf("policy %q: want zero or gap", c.Policy))
	}
	return errors.Join(errs...)
}

// Sample is a reading of a counter of bytes.
type Sample struct {
	At    int64
	Value uint64
	// Up is how long the device has been up, in ticks, and Discontinuity when the counter last
	// began anew, in units of the device; HasUp and HasDiscontinuity tell whether it says so.
	Up               int64
	HasUp            bool
	Discontinuity    int64
	HasDiscontinuity bool
}

// Kind says what a sample is, compared with the one before.
type Kind string

const (
	First         Kind = "first" // nothing to compare with
	OK            Kind = "ok"
	Reset         Kind = "reset" // the counter began again at 0
	Wrap          Kind = "wrap"  // it passed its largest value
	Dip           Kind = "dip"   // it fell a little: some agents do
	Gap           Kind = "gap"   // too long after the one before
	Discontinuity Kind = "discontinuity"
	Implausible   Kind = "implausible" // faster than the interface
	Duplicate     Kind = "duplicate"
	Conflict      Kind = "conflict" // another value at the same time: the first is kept
	Late          Kind = "late"
	NoValue       Kind = "no_value" // null, or below 0
)

// Kinds are those of samples of counters.
func Kinds() []Kind {
	return []Kind{First, OK, Reset, Wrap, Dip, Gap, Discontinuity, Implausible, Duplicate, Conflict, Late, NoValue}
}

// Delta is what a sample adds: Bytes in (Since, At], when Added.
type Delta struct {
	At    int64
	Kind  Kind
	Added bool
	Bytes uint64
	Since int64
}

// Bps is the rate of the delta in bits a second.
func (d Delta) Bps() float64 { return 8 * float64(d.Bytes) / seconds(d.At-d.Since) }

func seconds(ticks int64) float64 { return float64(ticks) / 1e6 }

// Counter is the state of one counter; the zero value has seen nothing.
type Counter struct {
	Seen bool
	Last Sample // the sample before
	Base uint64 // what the next value is compared with: that of Last, or a higher one before a dip
}

const (
	headroom   = 1.1                   // of the speed of the interface
	dipShare   = 0.0001                // of the counter
	restarted  = 5_000_000             // ticks by which the uptime falls at least
	uptimeWrap = int64(1<<32) * 10_000 // of a counter of 1/100 s with 32 bits, in ticks
	noProof    = uint64(1) << 31       // a wrap of 32 bits with unknown speed is below that
)

// Read takes the next sample of a counter.
func (c *Counter) Read(cfg CounterConfig, s Sample) Delta {
	if !c.Seen {
		*c = Counter{true, s, s.Value}
		return Delta{At: s.At, Kind: First}
	}
	dt := s.At - c.Last.At
	switch {
	case dt < 0:
		return Delta{At: s.At, Kind: Late}
	case dt == 0 && s.Value == c.Last.Value:
		return Delta{At: s.At, Kind: Duplicate}
	case dt == 0:
		return Delta{At: s.At, Kind: Conflict}
	}
	was, base := c.Last, c.Base
	c.Last, c.Base = s, s.Value
	d := c.compare(cfg, was, base, s, dt)
	if d.Kind == Dip {
		c.Base = base
	}
	return d
}

// compare decides what s is after was.
func (c *Counter) compare(cfg CounterConfig, was Sample, base uint64, s Sample, dt int64) Delta {
	none := func(k Kind) Delta { return Delta{At: s.At, Kind: k} }
	added := func(k Kind, bytes uint64) Delta { return Delta{s.At, k, true, bytes, was.At} }
	most := math.Inf(1)
	if cfg.MaxBps > 0 {
		most = cfg.MaxBps / 8 * seconds(dt) * headroom
	}
	plausible := func(bytes uint64) bool { return float64(bytes) <= most }
	switch {
	case dt > cfg.MaxGap:
		return none(Gap)
	case hasRestarted(was, s, dt):
		d := added(Reset, s.Value)
		d.Since = max(was.At, s.At-s.Up)
		return d
	case was.HasDiscontinuity && s.HasDiscontinuity && was.Discontinuity != s.Discontinuity:
		return none(Discontinuity)
	case s.Value >= base && plausible(s.Value-base):
		return added(OK, s.Value-base)
	case s.Value >= base:
		return none(Implausible)
	case cfg.Bits != 32 && float64(base-s.Value) <= dipShare*float64(base):
		return added(Dip, 0)
	}
	if wrapped := wrap(cfg.Bits, base, s.Value); plausible(wrapped) && (cfg.MaxBps > 0 || cfg.Bits == 32 && wrapped < noProof) {
		return added(Wrap, wrapped)
	}
	switch {
	case cfg.Policy == PolicyGap:
		return none(Reset)
	case plausible(s.Value):
		return added(Reset, s.Value)
	}
	return none(Implausible)
}

// wrap is how far it is from base over the largest value to v.
func wrap(bits int, base, v uint64) uint64 {
	if bits == 64 {
		return v - base // modulo 2^64
	}
	return v + 1<<bits - base
}

// hasRestarted tells whether the device was restarted in between: its uptime fell, and not
// because it wrapped.
func hasRestarted(was, s Sample, dt int64) bool {
	if !was.HasUp || !s.HasUp || s.Up >= was.Up-restarted {
		return false
	}
	slack := max(restarted, dt/20)
	off := was.Up + dt - uptimeWrap - s.Up
	return off < -slack || off > slack
}

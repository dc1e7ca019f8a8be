package assets

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// AvailabilityConfig says whether an asset can be used.
type AvailabilityConfig struct {
	Offline int64    // ticks without a sighting
	Settled int64    // ticks at a site before which it is in use
	Hold    int64    // ticks that a state lasts before it is told
	Depots  []string // kinds of sites where assets wait for use
}

// DefaultAvailabilityConfig is the one of the reference.
func DefaultAvailabilityConfig() AvailabilityConfig {
	m := time.Minute.Microseconds()
	return AvailabilityConfig{Offline: 60 * m, Settled: 10 * m, Hold: m, Depots: []string{"depot"}}
}

// Validate returns every problem.
func (c AvailabilityConfig) Validate() error {
	var errs []error
	if c.Offline <= 0 {
		errs = append(errs, fmt.Errorf("offline %s: want more than 0", spanOf(c.Offline)))
	}
	if c.Settled < 0 || c.Hold < 0 {
		errs = append(errs, fmt.Errorf("settled %s and hold %s: must not be negative", spanOf(c.Settled), spanOf(c.Hold)))
	}
	return errors.Join(errs...)
}

// AvailabilityState is whether an asset can be used.
type AvailabilityState uint8

const (
	AvailabilityUnknown AvailabilityState = iota
	Available
	InUse
	InTransit
	Offline
)

func (s AvailabilityState) String() string {
	return [...]string{"UNKNOWN", "AVAILABLE", "IN_USE", "IN_TRANSIT", "OFFLINE"}[s]
}

// Circumstances are what decides on availability.
type Circumstances struct {
	Seen      int64 // last sighting
	InTransit bool
	AtSite    bool
	Kind      string // of the site
	Entered   int64
	Bottom    BottomState
	Loaded    bool // a load above 0
}

// rule is the first rule that holds at a time.
func (c *AvailabilityConfig) rule(at int64, x *Circumstances) AvailabilityState {
	switch {
	case at-x.Seen >= c.Offline:
		return Offline
	case x.InTransit:
		return InTransit
	case x.AtSite && (x.Bottom == BottomDown || x.Loaded || at-x.Entered < c.Settled):
		return InUse
	case x.AtSite && slices.Contains(c.Depots, x.Kind):
		return Available
	}
	return AvailabilityUnknown
}

// AvailabilityEvent is a change that lasted.
type AvailabilityEvent struct {
	State, Before AvailabilityState
	At            int64 // when its rule began to hold
}

// Availability is the state of one asset; the zero value has told nothing.
type Availability struct {
	State AvailabilityState // told
	next  AvailabilityState // holds now
	begun bool              // something was looked at
	told  bool              // one was
	Since int64             // when the told one began
	from  int64             // when the next one did
}

// Look finds the rule that holds at a time, after everything that happened by then. What happened
// may be proved later than it began: since is when it began, and with it the rule. But a state begins
// not before the one that it follows, and later than the last that was told: its id has the time.
func (a *Availability) Look(cfg *AvailabilityConfig, at, since int64, x *Circumstances) {
	next := cfg.rule(at, x)
	if a.begun {
		if next == a.next {
			return
		}
		since = max(since, a.from)
	}
	if a.told {
		since = max(since, a.Since+time.Millisecond.Microseconds())
	}
	a.next, a.from, a.begun = next, since, true
}

// Advance tells a state that has lasted.
func (a *Availability) Advance(cfg *AvailabilityConfig, mark int64) (AvailabilityEvent, bool) {
	if a.next == a.State || mark < a.from+cfg.Hold {
		return AvailabilityEvent{}, false
	}
	e := AvailabilityEvent{State: a.next, Before: a.State, At: a.from}
	a.State, a.Since, a.told = a.next, a.from, true
	return e, true
}

// Due is when something happens by time alone: MaxInt64 for never.
func (a *Availability) Due(cfg *AvailabilityConfig, x *Circumstances) int64 {
	due := int64(math.MaxInt64)
	if a.next != a.State {
		due = a.from + cfg.Hold
	}
	if !a.begun || a.next == Offline {
		return due
	}
	due = min(due, x.Seen+cfg.Offline)
	if a.next == InUse && x.AtSite && x.Bottom != BottomDown && !x.Loaded {
		due = min(due, x.Entered+cfg.Settled)
	}
	return due
}

package power

import (
	"errors"
	"fmt"
	"time"
)

// Rule is a kind of alarm.
type Rule string

const (
	RuleOver           Rule = "pdu_branch_overload" // above the rating of a line, or a breaker
	RuleOverContinuous Rule = "pdu_continuous_overload"
	RuleImbalance      Rule = "pdu_phase_imbalance"
	RuleRedundancy     Rule = "pdu_lost_redundancy"
	RuleEnergy         Rule = "pdu_energy_mismatch" // the counter is not what the power adds up to
)

// AlarmConfig says when an alarm is raised and when it is over.
type AlarmConfig struct {
	// Raise and Clear are how many readings in a row it takes.
	Raise, Clear int
	// ClearShare is the part of the limit that readings must be under to clear it.
	ClearShare float64
	// For is how long, in ticks, readings must have been over, beside Raise.
	For int64
	// Worse is the part of the limit by which a reading must be above what was told last to be
	// told too: the highest there ever was is in every finding anyway.
	Worse float64
}

// DefaultAlarmConfig is that of a rule.
func DefaultAlarmConfig(r Rule) AlarmConfig {
	c := AlarmConfig{Raise: 3, Clear: 3, ClearShare: 0.97, Worse: 0.05}
	switch r {
	case RuleOverContinuous:
		c.For = (3 * time.Hour).Microseconds()
	case RuleEnergy: // an hour is a reading
		c.Raise, c.Clear = 1, 1
	}
	return c
}

// Validate returns every problem.
func (c AlarmConfig) Validate() error {
	var errs []error
	if c.Raise < 1 || c.Clear < 1 {
		errs = append(errs, fmt.Errorf("raise %d, clear %d: want 1 or more readings in a row", c.Raise, c.Clear))
	}
	if !(c.ClearShare > 0 && c.ClearShare <= 1) {
		errs = append(errs, fmt.Errorf("clear_share %v: want a part of the limit above 0 and up to 1", c.ClearShare))
	}
	if !(c.Worse >= 0) {
		errs = append(errs, fmt.Errorf("worse %v: want a part of the limit of 0 or more", c.Worse))
	}
	if c.For < 0 {
		errs = append(errs, errors.New("for: want a time of 0 or more"))
	}
	return errors.Join(errs...)
}

// Change is what a reading does to an alarm.
type Change string

const (
	NoChange Change = ""
	Created  Change = "create"
	Updated  Change = "update" // it is worse than was told
	Closed   Change = "close"
)

// Alarm is the state of one rule for one element; the zero value is at rest.
type Alarm struct {
	Open    bool
	Over    int     // readings in a row over the limit, while at rest
	Under   int     // readings in a row under the lower limit, while open
	Since   int64   // ticks: the first reading over
	Made    int64   // when it was created
	At      int64   // the last reading
	Highest float64 // since the first reading over
	Told    float64 // the highest when the last change was
	Count   int64   // of readings since then
	Sum     float64 // of them
	Changes int     // of this alarm: the sequence of the finding
}

// Read takes a reading at a time and compares it with a limit. The time of an alarm is that of
// its first reading over, so that the same readings give the same ids.
func (a *Alarm) Read(cfg AlarmConfig, at int64, value, limit float64) Change {
	over := Above(value, limit)
	a.At = at
	if !a.Open {
		return a.rest(cfg, at, value, over)
	}
	a.Count++
	a.Sum += value
	if over || value > limit*cfg.ClearShare {
		a.Under = 0
	} else if a.Under++; a.Under >= cfg.Clear {
		return a.End()
	}
	a.Highest = max(a.Highest, value)
	if over && Above(a.Highest, a.Told+limit*cfg.Worse) {
		a.Told = a.Highest
		a.Changes++
		return Updated
	}
	return NoChange
}

func (a *Alarm) rest(cfg AlarmConfig, at int64, value float64, over bool) Change {
	if !over {
		*a = Alarm{}
		return NoChange
	}
	if a.Over++; a.Over == 1 {
		*a = Alarm{Over: 1, Since: at, At: at, Highest: value}
	}
	a.Highest = max(a.Highest, value)
	a.Count++
	a.Sum += value
	if a.Over < cfg.Raise || at-a.Since < cfg.For {
		return NoChange
	}
	a.Open, a.Changes, a.Made, a.Told = true, 1, at, a.Highest
	return Created
}

// Interrupt says that readings were missing: what is not open yet begins anew.
func (a *Alarm) Interrupt() {
	if !a.Open {
		a.Over = 0
	}
}

// End closes an alarm that nothing will be heard of any more.
func (a *Alarm) End() Change {
	if !a.Open {
		return NoChange
	}
	a.Open, a.Over, a.Under = false, 0, 0
	a.Changes++
	return Closed
}

// Mean is that of all readings since the first one over.
func (a *Alarm) Mean() float64 { return a.Sum / float64(a.Count) }

// ID is the uid of the finding: the same in every replay.
func (a *Alarm) ID(r Rule, pdu, element string) string {
	if element == "" {
		return fmt.Sprintf("finding:%s:%s:%d", r, pdu, a.Since/1000)
	}
	return fmt.Sprintf("finding:%s:%s:%s:%d", r, pdu, element, a.Since/1000)
}

package operators

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Trigger says when a window emits.
type Trigger string

const (
	// OnMark emits when the mark reaches the window's end, and again for rows accepted
	// within the lateness.
	OnMark Trigger = "on_mark"
	// OnClose emits once, when the window is freed.
	OnClose Trigger = "on_close"
	// OnUpdate emits after every row.
	OnUpdate Trigger = "on_update"
	// OnRule emits when the early rules, and after the window's end the late rules, say so;
	// the end itself emits nothing. Freeing the window emits the rest.
	OnRule Trigger = "on_rule"
	// OnIngest emits by ingest time: EmitDelay after the first row that no pane has shown,
	// until MaxAge after the window's end, and what comes later as an addition.
	OnIngest Trigger = "on_ingest"
)

// WindowConfig describes windows by event time. Sizes are ticks.
type WindowConfig struct {
	Shape
	Lateness int64
	Trigger  Trigger
	// EarlyRows, EarlyDelay and EarlyEvery say when rows are emitted before the window's
	// end: per key as soon as EarlyRows of them wait (0: no such rule); per key EarlyDelay
	// of wall time after the first that waits (0: no such rule), or with EarlyAligned at the
	// next multiple of EarlyDelay; all keys when the mark passes a multiple of EarlyEvery
	// (0: no such rule), once however many it passes.
	EarlyRows    int
	EarlyDelay   int64
	EarlyAligned bool
	EarlyEvery   int64
	// LateRows and LateDelay say when rows accepted after the window fired are emitted: per
	// key as soon as LateRows of them have come (1: each at once, 0: no such rule), and
	// LateDelay of wall time after the first. They come out in any case when the window is
	// freed.
	LateRows  int
	LateDelay int64
	// EmitDelay and MaxAge belong to OnIngest, which has no lateness.
	EmitDelay, MaxAge int64
	// Discard starts the aggregates anew after each pane; a pane without rows is left out.
	Discard bool
	// OnTimeIfNew leaves out, at the end of the window, keys without rows that no pane has
	// shown.
	OnTimeIfNew bool
	// Retract withdraws the previous result of a key and window before the next: column
	// _tm_kind is +I for the first, then -U with the old values and +U with the new.
	Retract bool
	// SkipUnchanged leaves out a result whose aggregates are those of the one before.
	SkipUnchanged bool
	// Clock gives every key a clock of its own, by which its rows are late and its windows
	// are freed; nil for the marks of the splits.
	Clock *KeyClock
	// Limit bounds the state.
	Limit      Limit
	Keys       []string
	Aggregates []Aggregate
	// Seed of the key hash.
	Seed uint64
}

// Validate returns every problem.
func (c WindowConfig) Validate() error {
	errs := append([]error{c.Shape.Validate()}, c.emission().problems()...)
	if c.Clock != nil {
		errs = append(errs, c.Clock.Validate())
	}
	errs = append(errs, c.Limit.Validate())
	if c.Kind == Global && c.Limit.Policy == LimitShed {
		errs = append(errs, fmt.Errorf("limit policy %s: the global window is the only one there is; take %s", LimitShed, LimitStop))
	}
	errs = append(errs, c.validateIngest()...)
	return errors.Join(errs...)
}

func (c WindowConfig) validateIngest() []error {
	if c.Trigger != OnIngest {
		if c.EmitDelay != 0 || c.MaxAge != 0 {
			return []error{fmt.Errorf("emit delay and max age belong to trigger %s", OnIngest)}
		}
		return nil
	}
	var errs []error
	if c.EmitDelay <= 0 {
		errs = append(errs, fmt.Errorf("emit delay %v: must be above 0", ticks(c.EmitDelay)))
	}
	if c.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("max age %v: must not be negative", ticks(c.MaxAge)))
	}
	if c.Kind == Global {
		errs = append(errs, fmt.Errorf("trigger %s: the global window has no age", OnIngest))
	}
	if c.Lateness != 0 || c.emission().early() || c.LateRows != 0 || c.LateDelay != 0 || c.Retract || c.SkipUnchanged || c.Clock != nil {
		errs = append(errs, fmt.Errorf("trigger %s: knows emit delay, max age and discard; lateness, early and late rules, retract, skip unchanged and key clocks go with the others", OnIngest))
	}
	return errs
}

func (c WindowConfig) emission() emission {
	return emission{lateness: c.Lateness, trigger: c.Trigger, earlyRows: c.EarlyRows, earlyDelay: c.EarlyDelay, earlyEvery: c.EarlyEvery,
		lateRows: c.LateRows, lateDelay: c.LateDelay, discard: c.Discard, retract: c.Retract, skipUnchanged: c.SkipUnchanged, aggregates: len(c.Aggregates), ingest: true}
}

func ticks(t int64) time.Duration {
	if t > math.MaxInt64/1000 || t < math.MinInt64/1000 {
		return time.Duration(math.MaxInt64)
	}
	return time.Duration(t) * time.Microsecond
}

// early tells whether windows may show rows before their end.
func (c WindowConfig) early() bool { return c.emission().early() }

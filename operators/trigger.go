package operators

import (
	"fmt"
	"slices"
)

// emission is what windows and sessions share of their configurations.
type emission struct {
	lateness                          int64
	trigger                           Trigger
	earlyRows, lateRows               int
	earlyDelay, earlyEvery, lateDelay int64
	discard, retract, skipUnchanged   bool
	aggregates                        int
	ingest                            bool // OnIngest is possible
}

// early tells whether windows may show rows before their end.
func (e emission) early() bool { return e.earlyRows > 0 || e.earlyDelay > 0 || e.earlyEvery > 0 }

// problems returns everything that is wrong with it.
func (e emission) problems() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.lateness < 0 {
		add("lateness %v: must not be negative", ticks(e.lateness))
	}
	known := []Trigger{OnMark, OnClose, OnUpdate, OnRule}
	if e.ingest {
		known = append(known, OnIngest)
	}
	if !slices.Contains(known, e.trigger) {
		add("trigger %q: known are %v", e.trigger, known)
	}
	for _, r := range []struct {
		name string
		n    int
	}{{"early", e.earlyRows}, {"late", e.lateRows}} {
		if r.n < 0 || r.n > maxLateRows {
			add("%s rows %d: must be 0 to %d", r.name, r.n, maxLateRows)
		}
	}
	for _, d := range []struct {
		name string
		d    int64
	}{{"early delay", e.earlyDelay}, {"early every", e.earlyEvery}, {"late delay", e.lateDelay}} {
		if d.d < 0 {
			add("%s %v: must not be negative", d.name, ticks(d.d))
		}
	}
	if (e.trigger == OnClose || e.trigger == OnUpdate) && e.early() {
		add("trigger %s: early rows, early delay and early every belong to %s and %s", e.trigger, OnMark, OnRule)
	}
	if e.trigger == OnRule && !e.early() {
		add("trigger %s: needs early rows, early delay or early every", e.trigger)
	}
	if e.discard && (e.retract || e.skipUnchanged) {
		add("results that are discarded when shown cannot be compared or withdrawn")
	}
	if e.aggregates == 0 {
		add("a window without aggregates")
	}
	return errs
}

// same tells whether two rows of accumulators give the same results.
func (p *program) same(a, b []uint64, x *extras) bool {
	for i := range p.outs {
		if !p.outs[i].same(a, b, x) {
			return false
		}
	}
	return true
}

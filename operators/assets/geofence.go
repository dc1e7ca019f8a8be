package assets

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// GeofenceConfig says when an asset is inside of a fence, and when it is outside again.
type GeofenceConfig struct {
	InMargin    float64 // metres that a fix must be inside at least
	OutMargin   float64 // metres beyond which it is outside
	InCount     int     // fixes in a row
	InSpan      int64   // ticks that they span
	OutCount    int
	OutSpan     int64
	MaxAccuracy float64 // metres; fixes that are less accurate do not count
	MaxSpeed    float64 // metres a second; a faster fix is a candidate only
	LostAfter   int64   // ticks of silence
	Dwell       []int64 // ticks after the enter, ascending
}

// DefaultGeofenceConfig is the one of the reference.
func DefaultGeofenceConfig() GeofenceConfig {
	s := time.Second.Microseconds()
	return GeofenceConfig{OutMargin: 50, InCount: 2, InSpan: 30 * s, OutCount: 2, OutSpan: 60 * s, MaxAccuracy: 100, MaxSpeed: 70, LostAfter: 6 * 3600 * s, Dwell: []int64{300 * s, 1800 * s}}
}

// Validate returns every problem.
func (c GeofenceConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !(c.InMargin >= 0) || !(c.OutMargin >= 0) {
		bad("margins %v and %v m: must not be negative", c.InMargin, c.OutMargin)
	}
	if c.InCount < 1 || c.OutCount < 1 {
		bad("counts %d and %d: want at least 1", c.InCount, c.OutCount)
	}
	if c.InSpan < 0 || c.OutSpan < 0 {
		bad("spans %d and %d: must not be negative", c.InSpan, c.OutSpan)
	}
	if !(c.MaxAccuracy > 0) {
		bad("accuracy %v m: want a number above 0", c.MaxAccuracy)
	}
	if !(c.MaxSpeed > 0) {
		bad("speed %v m/s: want a number above 0", c.MaxSpeed)
	}
	if c.LostAfter <= 0 {
		bad("silence %d: want more than 0", c.LostAfter)
	}
	if !slices.IsSorted(c.Dwell) || len(c.Dwell) > 0 && c.Dwell[0] <= 0 || len(c.Dwell) > 64 {
		bad("dwell %v: want up to 64 times above 0, ascending", c.Dwell)
	}
	return errors.Join(errs...)
}

// Fix is where an asset is. Accuracy is in metres.
type Fix struct {
	At int64
	Position
	Accuracy float64
}

// FenceState is where an asset is with respect to a fence.
type FenceState uint8

const (
	Unknown FenceState = iota
	Outside
	Inside
)

func (s FenceState) String() string { return [...]string{"UNKNOWN", "OUTSIDE", "INSIDE"}[s] }

// GeofenceKind is what happened.
type GeofenceKind string

const (
	Enter       GeofenceKind = "enter"
	Exit        GeofenceKind = "exit"
	Dwell       GeofenceKind = "dwell"
	Lost        GeofenceKind = "lost"         // silence while inside
	LateDropped GeofenceKind = "late_dropped" // a fix that is not newer than the one before
)

// GeofenceEvent is a change, or a fix that was dropped.
type GeofenceEvent struct {
	Kind      GeofenceKind
	Fence     int32 // in Fences; -1 with LateDropped
	At        int64
	Confirmed int64 // time of the fix that proved it; with Enter and Exit
	Duration  int64 // of the visit, with Exit; the threshold, with Dwell
	LastSeen  int64 // with Lost
}

// visit is the state of one asset and fence. One that is outside, with no run, need not be kept
// but for being known.
type visit struct {
	fence   int32
	state   FenceState
	entered int64
	dwelled int   // how many thresholds are behind it
	count   int   // of the run of fixes that speak for a change
	since   int64 // first of them
}

// Tracker is the state of one asset; the zero value has seen nothing.
type Tracker struct {
	visits    []visit // by fence
	seen      bool
	last      Fix // accepted
	candidate Fix // too far to have come by itself
	doubt     bool
	done      int64 // time has come so far
	quiet     bool  // silence has made everything unknown
	near      []int32
}

// State is where the asset is with respect to a fence.
func (t *Tracker) State(fence int32) FenceState {
	if i, ok := t.find(fence); ok {
		return t.visits[i].state
	}
	if t.seen && !t.quiet {
		return Outside // a fence that no fix was near of
	}
	return Unknown
}

// Inside appends the fences that the asset is inside of.
func (t *Tracker) Inside(dst []int32) []int32 {
	for i := range t.visits {
		if t.visits[i].state == Inside {
			dst = append(dst, t.visits[i].fence)
		}
	}
	return dst
}

func (t *Tracker) find(fence int32) (int, bool) {
	return slices.BinarySearchFunc(t.visits, fence, func(v visit, f int32) int { return int(v.fence - f) })
}

func (t *Tracker) visit(fence int32) *visit {
	i, ok := t.find(fence)
	if !ok {
		t.visits = slices.Insert(t.visits, i, visit{fence: fence})
		if t.seen && !t.quiet { // earlier fixes were not near it
			t.visits[i].state = Outside
		}
	}
	return &t.visits[i]
}

// Fix takes the next fix and appends what it brings about.
func (t *Tracker) Fix(cfg *GeofenceConfig, fences *Fences, fix Fix, out []GeofenceEvent) []GeofenceEvent {
	if t.seen && fix.At <= t.last.At {
		return append(out, GeofenceEvent{Kind: LateDropped, Fence: -1, At: fix.At})
	}
	if !(fix.Accuracy <= cfg.MaxAccuracy) || fix.validate() != nil {
		return out
	}
	out = t.silence(cfg, fix.At, out)
	if !t.accept(cfg, fix) {
		return out
	}
	return t.take(cfg, fences, fix, out)
}

// accept tells whether the asset can have come to the fix.
func (t *Tracker) accept(cfg *GeofenceConfig, fix Fix) bool {
	reaches := func(from Fix) bool {
		return Distance(from.Position, fix.Position) <= cfg.MaxSpeed*float64(fix.At-from.At)/1e6
	}
	if t.seen && !t.quiet && !reaches(t.last) && !(t.doubt && fix.At > t.candidate.At && reaches(t.candidate)) {
		t.candidate, t.doubt = fix, true
		return false
	}
	t.doubt = false
	return true
}

// take looks at an accepted fix: overdue dwells of the fences that are left, exits, enters, the
// other dwells.
func (t *Tracker) take(cfg *GeofenceConfig, fences *Fences, fix Fix, out []GeofenceEvent) []GeofenceEvent {
	t.near = fences.near(t.near[:0], fix.Position)
	for i := range t.visits { // those it is inside of, and those with a run or unknown
		if _, near := slices.BinarySearch(t.near, t.visits[i].fence); !near {
			t.near = append(t.near, t.visits[i].fence)
		}
	}
	slices.Sort(t.near)
	t.near = slices.Compact(t.near)
	first := !t.seen || t.quiet
	if first { // what is near decides; of all other fences it is outside
		t.visits = t.visits[:0]
	}
	var exits, enters []GeofenceEvent
	for _, f := range t.near {
		v := t.visit(f)
		switch d := fences.At(int(f)).Outside(fix.Position); {
		case d <= -cfg.InMargin && v.state == Inside, d > cfg.OutMargin && v.state != Inside:
			v.count = 0
			if v.state == Unknown {
				v.state = Outside
			}
		case d <= -cfg.InMargin:
			if v.extend(fix.At, cfg.InCount, cfg.InSpan) {
				*v = visit{fence: f, state: Inside, entered: v.since}
				enters = append(enters, GeofenceEvent{Kind: Enter, Fence: f, At: v.entered, Confirmed: fix.At})
			}
		case d > cfg.OutMargin:
			if v.extend(fix.At, cfg.OutCount, cfg.OutSpan) {
				exits = v.dwells(cfg, v.since, exits)
				exits = append(exits, GeofenceEvent{Kind: Exit, Fence: f, At: v.since, Confirmed: fix.At, Duration: v.since - v.entered})
				*v = visit{fence: f, state: Outside}
			}
		}
	}
	// Overdue dwells of all fences that are left come before all exits.
	slices.SortStableFunc(exits, func(a, b GeofenceEvent) int { return rank(a.Kind) - rank(b.Kind) })
	out = append(append(out, exits...), enters...)
	t.seen, t.quiet, t.last, t.done = true, false, fix, max(t.done, fix.At)
	out = t.dwells(cfg, fix.At, out)
	t.forget()
	return out
}

func rank(k GeofenceKind) int {
	if k == Dwell {
		return 0
	}
	return 1
}

// forget drops what is outside with no run: that is what a fence without a visit is.
func (t *Tracker) forget() {
	t.visits = slices.DeleteFunc(t.visits, func(v visit) bool { return v.state == Outside && v.count == 0 })
}

// extend counts a fix that speaks for a change, and tells whether it is proved.
func (v *visit) extend(at int64, count int, span int64) bool {
	if v.count == 0 {
		v.since = at
	}
	v.count++
	return v.count >= count && at-v.since >= span
}

// dwells appends the thresholds that are due by a time and before any run of exit.
func (v *visit) dwells(cfg *GeofenceConfig, by int64, out []GeofenceEvent) []GeofenceEvent {
	for v.state == Inside && v.dwelled < len(cfg.Dwell) {
		due := v.entered + cfg.Dwell[v.dwelled]
		if due > by || v.count > 0 && v.since < due {
			break
		}
		out = append(out, GeofenceEvent{Kind: Dwell, Fence: v.fence, At: due, Duration: cfg.Dwell[v.dwelled]})
		v.dwelled++
	}
	return out
}

// dwells appends the dwells of all fences that are due by a time, in the order of their times.
func (t *Tracker) dwells(cfg *GeofenceConfig, by int64, out []GeofenceEvent) []GeofenceEvent {
	from := len(out)
	for i := range t.visits {
		out = t.visits[i].dwells(cfg, by, out)
	}
	slices.SortStableFunc(out[from:], func(a, b GeofenceEvent) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return int(a.Fence - b.Fence)
	})
	return out
}

// silence moves time to a fix or mark: what is due on the way comes out in the order of its time.
func (t *Tracker) silence(cfg *GeofenceConfig, to int64, out []GeofenceEvent) []GeofenceEvent {
	if !t.seen || t.quiet {
		return out
	}
	lost := t.last.At + cfg.LostAfter
	if lost < t.last.At { // beyond the end of time
		lost = math.MaxInt64
	}
	if to < lost {
		return out
	}
	out = t.dwells(cfg, lost, out)
	for i := range t.visits {
		if v := &t.visits[i]; v.state == Inside {
			out = append(out, GeofenceEvent{Kind: Lost, Fence: v.fence, At: lost, LastSeen: t.last.At})
		}
	}
	t.visits, t.quiet, t.doubt = t.visits[:0], true, false
	return out
}

// Advance moves time to a mark and appends what is due by then.
func (t *Tracker) Advance(cfg *GeofenceConfig, mark int64, out []GeofenceEvent) []GeofenceEvent {
	if mark <= t.done {
		return out
	}
	t.done = mark
	out = t.silence(cfg, mark, out)
	return t.dwells(cfg, mark, out)
}

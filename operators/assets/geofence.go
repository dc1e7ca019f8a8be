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
	if c.InCount < 1 || c.OutCount < 1 || max(c.InCount, c.OutCount) > 1000 {
		bad("counts %d and %d: want 1 to 1000", c.InCount, c.OutCount)
	}
	if c.InSpan < 0 || c.OutSpan < 0 {
		bad("times %s and %s: must not be negative", spanOf(c.InSpan), spanOf(c.OutSpan))
	}
	if !(c.MaxAccuracy > 0) {
		bad("accuracy %v m: want a number above 0", c.MaxAccuracy)
	}
	if !(c.MaxSpeed > 0) {
		bad("speed %v m/s: want a number above 0", c.MaxSpeed)
	}
	if c.LostAfter <= 0 {
		bad("silence %s: want more than 0", spanOf(c.LostAfter))
	}
	if !slices.IsSorted(c.Dwell) || len(c.Dwell) > 0 && c.Dwell[0] <= 0 || len(c.Dwell) > 64 {
		var times []time.Duration
		for _, d := range c.Dwell {
			times = append(times, spanOf(d))
		}
		bad("dwell %v: want up to 64 times above 0, ascending", times)
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
	Before    FenceState
	At        int64
	Confirmed int64   // time of the fix that proved it; with Enter and Exit
	Duration  int64   // of the visit, with Exit; the threshold, with Dwell
	LastSeen  int64   // with Lost; with Enter and Exit, the fix before At, At itself when there is none
	Odometer  float64 // metres at the fix of At; with Enter and Exit
	Hop       float64 // metres from the fix before
}

// visit is the state of one asset and fence. One that is outside, with no run, need not be kept
// but for being known.
type visit struct {
	fence   int32
	state   FenceState
	dwelled uint8  // how many thresholds are behind it
	count   uint16 // of the run of fixes that speak for a change
	entered int64
	since   int64   // first fix of the run
	before  int64   // the fix before it
	metres  float64 // of the odometer at since
	hop     float64 // from the fix before
}

// Tracker is the state of one asset; the zero value has seen nothing.
type Tracker struct {
	set       *Fences // of visits
	visits    []visit // by fence
	last      Fix     // accepted
	metres    float64 // between accepted fixes
	candidate *Fix    // too far to have come by itself; nil for none
	seen      bool
	quiet     bool // silence has made everything unknown
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

// insideBefore tells whether the asset is inside of a fence that it entered before a time.
func (t *Tracker) insideBefore(at int64) bool {
	for i := range t.visits {
		if v := &t.visits[i]; v.state == Inside && v.entered < at {
			return true
		}
	}
	return false
}

// Entered is when the asset entered a fence that it is inside of.
func (t *Tracker) Entered(fence int32) int64 {
	if i, ok := t.find(fence); ok {
		return t.visits[i].entered
	}
	return 0
}

// Arriving is the first fix of a run that may prove an enter; false when there is none.
func (t *Tracker) Arriving() (since int64, ok bool) {
	for i := range t.visits {
		if v := &t.visits[i]; v.state != Inside && v.count > 0 && (!ok || v.since < since) {
			since, ok = v.since, true
		}
	}
	return since, ok
}

// Last is the newest fix that was accepted; false when there is none.
func (t *Tracker) Last() (Fix, bool) { return t.last, t.seen }

// Use brings the tracker to another set of fences: visits go on in the fence of the same id, and
// are forgotten where there is none any more.
func (t *Tracker) Use(fences *Fences) {
	if t.set == fences {
		return
	}
	old := t.set
	t.set = fences
	if old == nil || len(t.visits) == 0 {
		return
	}
	t.visits = slices.DeleteFunc(t.visits, func(v visit) bool {
		_, there := fences.byID[old.all[v.fence].ID]
		return !there
	})
	for i := range t.visits {
		t.visits[i].fence = fences.byID[old.all[t.visits[i].fence].ID]
	}
	t.sort()
}

// sort brings visits into the order of their fences.
func (t *Tracker) sort() {
	slices.SortFunc(t.visits, func(a, b visit) int { return int(a.fence - b.fence) })
}

// Due is when Advance has something to do next; MaxInt64 for never.
func (t *Tracker) Due(cfg *GeofenceConfig) int64 {
	if !t.seen || t.quiet || len(t.visits) == 0 {
		return math.MaxInt64
	}
	due := t.lostAt(cfg)
	for i := range t.visits {
		if at, ok := t.visits[i].due(cfg); ok {
			due = min(due, at)
		}
	}
	return due
}

func (t *Tracker) find(fence int32) (int, bool) {
	return slices.BinarySearchFunc(t.visits, fence, func(v visit, f int32) int { return int(v.fence - f) })
}

func (t *Tracker) visit(fence int32) *visit {
	i, ok := t.find(fence)
	if !ok {
		t.visits = insert(t.visits, i, visit{fence: fence})
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
	t.Use(fences)
	out = t.silence(cfg, fix.At, out)
	hop, ok := t.accept(cfg, fix)
	if !ok {
		return out
	}
	return t.take(cfg, fences, fix, hop, out)
}

// accept tells whether the asset can have come to the fix, and how far it is from the one before.
func (t *Tracker) accept(cfg *GeofenceConfig, fix Fix) (hop float64, ok bool) {
	if !t.seen {
		return 0, true
	}
	hop = Distance(t.last.Position, fix.Position)
	within := func(metres float64, from int64) bool { return metres <= cfg.MaxSpeed*float64(fix.At-from)/1e6 }
	if c := t.candidate; !t.quiet && !within(hop, t.last.At) && !(c != nil && fix.At > c.At && within(Distance(c.Position, fix.Position), c.At)) {
		t.candidate = &Fix{At: fix.At, Position: fix.Position, Accuracy: fix.Accuracy}
		return hop, false
	}
	t.candidate = nil
	t.metres += hop
	return hop, true
}

// take looks at an accepted fix: overdue dwells of the fences that are left, exits, enters, the
// other dwells.
func (t *Tracker) take(cfg *GeofenceConfig, fences *Fences, fix Fix, hop float64, out []GeofenceEvent) []GeofenceEvent {
	var scratch [16]int32
	near := fences.near(scratch[:0], fix.Position)
	if !t.seen || t.quiet { // what is near decides; of all other fences it is outside
		t.visits = t.visits[:0]
	}
	if len(t.visits) > 0 { // those it is inside of, and those with a run or unknown
		for i := range t.visits {
			near = append(near, t.visits[i].fence)
		}
		slices.Sort(near)
		near = slices.Compact(near)
	}
	before := fix.At
	if t.seen {
		before = t.last.At
	}
	run := visit{since: fix.At, before: before, metres: t.metres, hop: hop}
	var exits, enters []GeofenceEvent
	for _, f := range near {
		v := t.visit(f)
		switch d := fences.At(int(f)).Outside(fix.Position); {
		case d <= -cfg.InMargin && v.state == Inside, d > cfg.OutMargin && v.state != Inside:
			v.count = 0
			if v.state == Unknown {
				v.state = Outside
			}
		case d <= -cfg.InMargin:
			if v.extend(&run, fix.At, cfg.InCount, cfg.InSpan) {
				enters = append(enters, GeofenceEvent{Kind: Enter, Fence: f, Before: v.state, At: v.since, Confirmed: fix.At, LastSeen: v.before, Odometer: v.metres, Hop: v.hop})
				*v = visit{fence: f, state: Inside, entered: v.since}
			}
		case d > cfg.OutMargin:
			if v.extend(&run, fix.At, cfg.OutCount, cfg.OutSpan) {
				exits = v.dwells(cfg, v.since, exits)
				exits = append(exits, GeofenceEvent{Kind: Exit, Fence: f, Before: Inside, At: v.since, Confirmed: fix.At, Duration: v.since - v.entered, LastSeen: v.before, Odometer: v.metres, Hop: v.hop})
				*v = visit{fence: f, state: Outside}
			}
		}
	}
	// Overdue dwells of all fences that are left come before all exits.
	slices.SortStableFunc(exits, func(a, b GeofenceEvent) int { return rank(a.Kind) - rank(b.Kind) })
	out = append(append(out, exits...), enters...)
	t.seen, t.quiet, t.last = true, false, fix
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

// extend counts a fix that speaks for a change, and tells whether it is proved. A first one
// begins the run.
func (v *visit) extend(run *visit, at int64, count int, span int64) bool {
	if v.count == 0 {
		v.since, v.before, v.metres, v.hop = run.since, run.before, run.metres, run.hop
	}
	v.count = min(v.count, math.MaxUint16-1) + 1
	return int(v.count) >= count && at-v.since >= span
}

// due is when the next threshold is reached; false when there is none, or a run of exit began
// before it.
func (v *visit) due(cfg *GeofenceConfig) (int64, bool) {
	if v.state != Inside || int(v.dwelled) >= len(cfg.Dwell) {
		return 0, false
	}
	at := v.entered + cfg.Dwell[v.dwelled]
	return at, v.count == 0 || v.since >= at
}

// dwells appends the thresholds that are reached by a time.
func (v *visit) dwells(cfg *GeofenceConfig, by int64, out []GeofenceEvent) []GeofenceEvent {
	for {
		at, ok := v.due(cfg)
		if !ok || at > by {
			return out
		}
		out = append(out, GeofenceEvent{Kind: Dwell, Fence: v.fence, Before: Inside, At: at, Duration: cfg.Dwell[v.dwelled]})
		v.dwelled++
	}
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
	lost := t.lostAt(cfg)
	if to < lost {
		return out
	}
	out = t.dwells(cfg, lost, out)
	for i := range t.visits {
		if v := &t.visits[i]; v.state == Inside {
			out = append(out, GeofenceEvent{Kind: Lost, Fence: v.fence, Before: Inside, At: lost, LastSeen: t.last.At})
		}
	}
	t.visits, t.set, t.quiet, t.candidate = nil, nil, true, nil
	return out
}

// lostAt is when silence is too long.
func (t *Tracker) lostAt(cfg *GeofenceConfig) int64 {
	if t.last.At > math.MaxInt64-cfg.LostAfter { // beyond the end of time
		return math.MaxInt64
	}
	return t.last.At + cfg.LostAfter
}

// Advance moves time to a mark and appends what is due by then.
func (t *Tracker) Advance(cfg *GeofenceConfig, mark int64, out []GeofenceEvent) []GeofenceEvent {
	out = t.silence(cfg, mark, out)
	return t.dwells(cfg, mark, out)
}

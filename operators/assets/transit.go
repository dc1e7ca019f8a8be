package assets

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// TransitConfig says when an asset is on its way between sites.
type TransitConfig struct {
	MoveWithin int64 // ticks after it left in which it must move
	Shortest   int64 // ticks; a shorter leg is none
	Silence    int64 // ticks without any data after which nobody knows
}

// DefaultTransitConfig is the one of the reference.
func DefaultTransitConfig() TransitConfig {
	m := time.Minute.Microseconds()
	return TransitConfig{MoveWithin: 10 * m, Shortest: 2 * m, Silence: 12 * 60 * m}
}

// Validate returns every problem.
func (c TransitConfig) Validate() error {
	var errs []error
	if c.MoveWithin < 0 || c.Shortest < 0 {
		errs = append(errs, fmt.Errorf("times %s and %s: must not be negative", spanOf(c.MoveWithin), spanOf(c.Shortest)))
	}
	if c.Silence <= c.Shortest {
		errs = append(errs, fmt.Errorf("silence %s: want more than the shortest leg, %s", spanOf(c.Silence), spanOf(c.Shortest)))
	}
	return errors.Join(errs...)
}

// TransitKind is what happened to a leg.
type TransitKind string

const (
	TransitStart   TransitKind = "start"
	TransitEnd     TransitKind = "end"
	TransitUnknown TransitKind = "unknown" // no data for too long
)

// TransitEvent is a change of a leg. Origin is empty where it is not known.
type TransitEvent struct {
	Kind                TransitKind
	At                  int64
	Origin, Destination string
	Started             int64   // of the leg
	Metres              float64 // sum of the hops between fixes, with TransitEnd
	Inferred            bool    // from where it was seen next: there is no fix between
	LastSeen            int64   // with TransitUnknown
}

// Arrival is an enter of a site.
type Arrival struct {
	Site   string
	At     int64
	Before int64   // the fix before it
	Metres float64 // of the odometer
	Hop    float64 // metres from the fix before
}

// Departure is an exit of a site: the first fix outside.
type Departure struct {
	Site   string
	At     int64
	Seen   int64 // last there
	Metres float64
}

type legState uint8

const (
	legNone legState = iota // at a site, or nobody knows
	legOut                  // outside, and not yet moving
	legOpen                 // in transit, and too short yet to be told
	legTold
)

// Transit is the state of one asset; the zero value has seen nothing.
type Transit struct {
	state   legState
	unknown bool      // silence was told
	lost    bool      // silent, and last seen at left
	linked  bool      // the leg to here is known
	here    Arrival   // the newest
	left    Departure // the newest
}

// InTransit tells whether a leg is open.
func (t *Transit) InTransit() bool { return t.state >= legOpen }

// Started is when the open leg began.
func (t *Transit) Started() int64 { return t.left.At }

// Arrive takes an enter. Elsewhere says that the asset has been in another site too: one that
// overlaps, or that it is about to have left. Of sites that are entered at once the first counts.
func (t *Transit) Arrive(cfg *TransitConfig, a Arrival, elsewhere bool, out []TransitEvent) []TransitEvent {
	if t.state == legNone && !t.lost && t.here.Site != "" && t.here.At == a.At {
		return out
	}
	from := t.left
	t.here, t.linked = a, false
	switch {
	case elsewhere:
		return out
	case t.InTransit():
		out = t.end(cfg, out)
	case t.lost && from.Site != a.Site && a.Before <= from.Seen:
		out = t.infer(cfg, out)
	}
	t.state, t.lost = legNone, false
	return out
}

// Leave takes an exit. Elsewhere says that the asset is in another site now. Of sites that are left
// at once the first counts.
func (t *Transit) Leave(cfg *TransitConfig, d Departure, elsewhere bool, m *Movement, out []TransitEvent) []TransitEvent {
	switch {
	case t.state != legNone:
		return out
	case !elsewhere:
		t.state, t.left, t.lost = legOut, d, false
		t.Move(cfg, m, false)
		return out
	case t.linked || t.here.Site == d.Site || t.here.At <= d.Seen: // it has been in both
		return out
	}
	t.left = d
	switch {
	case t.here.Before <= d.Seen:
		return t.infer(cfg, out)
	case m.MovedIn(d.At, d.At+cfg.MoveWithin):
		return t.end(cfg, out)
	}
	return out
}

// Lose says that the asset was last seen in a site, and is not known to have left it.
func (t *Transit) Lose(site string, seen int64) {
	if t.here.Site == site {
		t.left, t.lost = Departure{Site: site, At: seen, Seen: seen}, true
	}
}

// Move looks whether an asset that has left has begun to move. Vehicle says that a gateway of a
// vehicle owns it.
func (t *Transit) Move(cfg *TransitConfig, m *Movement, vehicle bool) {
	if t.state == legOut && (m.MovedIn(t.left.At, t.left.At+cfg.MoveWithin) || vehicle && m.State == Moving) {
		t.state = legOpen
	}
}

// Board says that an asset that is in no site, and has not been seen to leave one, moves with a
// vehicle: the leg begins then.
func (t *Transit) Board(at int64, metres float64) {
	if t.state != legNone {
		return
	}
	from := ""
	if t.lost {
		from = t.left.Site
	}
	t.state, t.lost, t.left = legOpen, false, Departure{Site: from, At: at, Seen: at, Metres: metres}
}

// Switch says that a gateway of another site owns the asset, with no fix between.
func (t *Transit) Switch(cfg *TransitConfig, d Departure, a Arrival, out []TransitEvent) []TransitEvent {
	t.here = a
	if t.InTransit() {
		return t.end(cfg, out)
	}
	t.left = d
	return t.infer(cfg, out)
}

// Advance moves time: a leg is told when it is long enough, unless a run that began before may
// still prove an enter (arriving); one of which nothing is heard is unknown.
func (t *Transit) Advance(cfg *TransitConfig, mark, seen, arriving int64, out []TransitEvent) []TransitEvent {
	if t.state == legOpen && mark >= t.told(cfg, arriving) {
		out = t.start(out)
	}
	if t.InTransit() && !t.unknown && mark >= seen+cfg.Silence {
		t.unknown = true
		out = append(out, TransitEvent{Kind: TransitUnknown, At: seen + cfg.Silence, Origin: t.left.Site, Started: t.left.At, LastSeen: seen})
	}
	return out
}

// Due is when Advance has something to do; MaxInt64 for never.
func (t *Transit) Due(cfg *TransitConfig, seen, arriving int64) int64 {
	due := int64(math.MaxInt64)
	if t.state == legOpen {
		due = t.told(cfg, arriving)
	}
	if t.InTransit() && !t.unknown {
		due = min(due, seen+cfg.Silence)
	}
	return due
}

// Heard says that there is data again.
func (t *Transit) Heard() { t.unknown = false }

// told is when the start of an open leg is to be told.
func (t *Transit) told(cfg *TransitConfig, arriving int64) int64 {
	at := t.left.At + cfg.Shortest
	if arriving < at {
		return math.MaxInt64
	}
	return at
}

func (t *Transit) start(out []TransitEvent) []TransitEvent {
	t.state = legTold
	return append(out, TransitEvent{Kind: TransitStart, At: t.left.At, Origin: t.left.Site, Started: t.left.At})
}

// end closes the leg from left to here.
func (t *Transit) end(cfg *TransitConfig, out []TransitEvent) []TransitEvent {
	return t.finish(cfg, t.left.At, t.here.Metres-t.left.Metres, false, out)
}

// infer makes a leg from where the asset was last seen to where it was seen next.
func (t *Transit) infer(cfg *TransitConfig, out []TransitEvent) []TransitEvent {
	return t.finish(cfg, t.left.Seen, t.here.Hop, true, out)
}

func (t *Transit) finish(cfg *TransitConfig, started int64, metres float64, inferred bool, out []TransitEvent) []TransitEvent {
	told := t.state == legTold
	t.state, t.unknown, t.lost, t.linked = legNone, false, false, true
	if t.here.At-started < cfg.Shortest {
		return out
	}
	e := TransitEvent{Kind: TransitStart, At: started, Origin: t.left.Site, Started: started, Inferred: inferred}
	if !told {
		out = append(out, e)
	}
	e.Kind, e.At, e.Destination, e.Metres = TransitEnd, t.here.At, t.here.Site, metres
	return append(out, e)
}

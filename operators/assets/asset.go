package assets

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Config is all that the states of an asset follow.
type Config struct {
	Window       int64   // ticks in which gateways are compared
	Weakest      float64 // dBm of the smoothed RSSI at which an asset is still where its gateway is
	Accuracy     float64 // metres of such a fix
	ForgetAfter  int64   // ticks of silence after which nothing is remembered; 0 for never
	Filter       FilterConfig
	Sighting     SightingConfig
	Nearest      NearestConfig
	Geofence     GeofenceConfig
	Movement     MovementConfig
	Bottom       BottomConfig
	Transit      TransitConfig
	Availability AvailabilityConfig
	Battery      BatteryConfig
}

// DefaultConfig is the one of the reference.
func DefaultConfig() Config {
	return Config{
		Window: time.Minute.Microseconds(), Weakest: -90, Accuracy: 25, ForgetAfter: 30 * day,
		Filter: DefaultFilterConfig(), Sighting: DefaultSightingConfig(), Nearest: DefaultNearestConfig(), Geofence: DefaultGeofenceConfig(), Movement: DefaultMovementConfig(),
		Bottom: DefaultBottomConfig(), Transit: DefaultTransitConfig(), Availability: DefaultAvailabilityConfig(), Battery: DefaultBatteryConfig(),
	}
}

// Validate returns every problem.
func (c *Config) Validate() error {
	var errs []error
	if c.Window <= max(c.Sighting.Join, c.Sighting.JoinPayload) || c.Window > day {
		errs = append(errs, fmt.Errorf("nearest: window %s: want more than the time in which hearings join, %s, up to a day", spanOf(c.Window), spanOf(c.Sighting.Join)))
	}
	if !(c.Accuracy > 0) || math.IsNaN(c.Weakest) {
		errs = append(errs, fmt.Errorf("nearest: weakest %v dBm, accuracy %v m: want numbers, the second above 0", c.Weakest, c.Accuracy))
	}
	if least := c.longest(); c.ForgetAfter != 0 && c.ForgetAfter <= least {
		errs = append(errs, fmt.Errorf("forget_after %s: want more than %s, the longest silence that something is told of, or 0 for never", spanOf(c.ForgetAfter), spanOf(least)))
	}
	for _, part := range []struct {
		name string
		err  error
	}{
		{"filter", c.Filter.Validate()}, {"sighting", c.Sighting.Validate()}, {"nearest", c.Nearest.Validate()}, {"geofence", c.Geofence.Validate()}, {"movement", c.Movement.Validate()},
		{"bottom", c.Bottom.Validate()}, {"transit", c.Transit.Validate()}, {"availability", c.Availability.Validate()}, {"battery", c.Battery.Validate()},
	} {
		if many, ok := part.err.(interface{ Unwrap() []error }); ok {
			for _, err := range many.Unwrap() {
				errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// longest is the longest silence after which time alone tells something of what was there before;
// batteries are judged within a day.
func (c *Config) longest() int64 {
	window := c.Window + max(c.Sighting.Join, c.Sighting.JoinPayload)
	return max(window, day, c.Geofence.LostAfter, c.Transit.Silence, c.Availability.Offline+c.Availability.Hold)
}

// spanOf is a number of ticks as messages have it.
func spanOf(ticks int64) time.Duration { return time.Duration(ticks) * time.Microsecond }

// World is what is known of the places. Fences is never nil; the others may be.
type World struct {
	Fences   *Fences
	Gateways *Gateways
	Registry *Registry
}

// Listener is told what happens to an asset.
type Listener interface {
	Geofence(asset string, f *Fence, e *GeofenceEvent)
	Transit(asset string, e *TransitEvent)
	Bottom(asset string, s *Asset, e *BottomEvent, a Accel)
	Availability(asset string, s *Asset, e *AvailabilityEvent)
	Battery(asset string, e *BatteryEvent)
	// Now says that a window is over, or that a state is another.
	Now(asset string, at int64, s *Asset)
}

// Follower follows assets: the order in which the states of one asset see its detections and time.
// It belongs to one goroutine.
//
// Detections of an asset come in order of time. A detection joins its sighting; positions,
// accelerations and voltages are looked at at once. When a window is over and no hearing can join
// its sightings any more, the median RSSI of each gateway in it decides on the owner, whose place
// is a fix at the time at which it last heard the asset, unless there is a newer one. What time
// alone brings about waits for such a fix while a window is open. Between detections all that is
// due happens in the order of its time, however far time goes at once.
type Follower struct {
	Config Config
	World  World
	To     Listener
	Counts FilterCounts
	// Fixes that were not newer than the one before, or not accurate enough.
	LateFixes, VagueFixes int64

	geofence []GeofenceEvent
	transit  []TransitEvent
}

// heardBy is what a gateway heard of an asset in a window.
type heardBy struct {
	gateway string
	first   int64
	last    int64
	rssi    []level // by height
}

// level counts readings.
type level struct {
	dbm int16
	n   uint16
}

// Asset is the state of one asset; the zero value has seen nothing.
type Asset struct {
	known   bool // there was a detection
	open    bool // a window is
	windows bool // there was one
	hasLoad bool
	quality Quality // of the time of the newest detection

	seen      int64   // newest detection
	load      float64 // kg, the newest reading
	sightings Sightings
	window    int64 // start of it, or of the last one that was open
	first     int64 // detection in it
	heard     []heardBy

	nearest    Nearest
	ownerSince int64
	ownerSeen  int64 // last sighting of the owner

	tracker      Tracker
	movement     Movement
	bottom       Bottom
	transit      Transit
	availability Availability
	battery      Battery
}

// Seen is when the asset was last heard.
func (s *Asset) Seen() int64 { return s.seen }

// Owner is the nearest gateway, "" for none.
func (s *Asset) Owner() string { return s.nearest.Owner }

// brief is what of an asset makes a new row of where it is now.
type brief struct {
	fence        int32
	owner        string
	availability AvailabilityState
	movement     MovementState
	bottom       BottomState
	transit      bool
	low          bool
}

func (f *Follower) brief(s *Asset) brief {
	return brief{f.site(s), s.nearest.Owner, s.availability.State, s.movement.State, s.bottom.State, s.transit.InTransit(), s.battery.Low}
}

// site is the smallest fence that the asset is inside of, -1 for none.
func (f *Follower) site(s *Asset) int32 {
	var scratch [8]int32
	s.tracker.Use(f.World.Fences)
	return f.World.Fences.Primary(s.tracker.Inside(scratch[:0]))
}

// Detect takes a detection of an asset. It returns when the asset is due next.
func (f *Follower) Detect(asset string, s *Asset, d *Detection) int64 {
	f.admit(asset, s)
	if d.At > math.MinInt64 {
		f.catchUp(asset, s, d.At-1)
	}
	before := f.brief(s)
	if _, dropped := f.Config.Filter.Filter(d, f.World.Registry.Has(asset), &f.Config.Sighting, &s.sightings, &f.Counts); dropped {
		return f.next(s)
	}
	s.seen, s.quality, s.known = d.At, d.Quality, true
	s.transit.Heard()
	f.listen(s, d.At)
	f.observe(asset, s, d)
	f.look(s, d.At, d.At)
	if f.brief(s) != before {
		f.To.Now(asset, d.At, s)
	}
	return f.next(s)
}

// Advance moves the time of an asset. It returns when the asset is due next.
func (f *Follower) Advance(asset string, s *Asset, at int64) int64 {
	f.admit(asset, s)
	f.catchUp(asset, s, at)
	return f.next(s)
}

// admit forgets an asset that the registry has no more. Nothing is told of it.
func (f *Follower) admit(asset string, s *Asset) {
	if !f.Config.Filter.AcceptUnknown && !f.World.Registry.Has(asset) {
		*s = Asset{}
	}
}

// listen opens a window, and folds the sightings of it that are complete.
func (f *Follower) listen(s *Asset, at int64) {
	cfg := &f.Config
	if !s.open {
		s.openAt(cfg, at)
	}
	for _, o := range s.sightings.take(&cfg.Sighting, at, s.window+cfg.Window) {
		s.fold(&o)
	}
}

// openAt opens the window of a time. Those between it and the one before heard nothing.
func (s *Asset) openAt(cfg *Config, at int64) {
	start := at - floorMod(at, cfg.Window)
	if s.windows {
		s.nearest.Skip((start-s.window)/cfg.Window - 1)
	}
	s.open, s.window, s.first, s.windows = true, start, at, true
}

// mostGateways bounds what a window keeps of an asset.
const mostGateways = 256

// fold adds a sighting to its window.
func (s *Asset) fold(o *Sighting) {
	for _, h := range o.Heard {
		if h.Gateway == "" || !h.HasRSSI {
			continue
		}
		i, there := slices.BinarySearchFunc(s.heard, h.Gateway, func(b heardBy, g string) int { return cmp.Compare(b.gateway, g) })
		if !there {
			if len(s.heard) >= mostGateways {
				continue
			}
			s.heard = insert(s.heard, i, heardBy{gateway: h.Gateway, first: o.At})
		}
		b := &s.heard[i]
		b.last = max(b.last, o.At)
		dbm := int16(math.Round(h.RSSI))
		k, there := slices.BinarySearchFunc(b.rssi, dbm, func(l level, v int16) int { return int(l.dbm) - int(v) })
		if !there {
			b.rssi = insert(b.rssi, k, level{dbm: dbm})
		}
		b.rssi[k].n = min(b.rssi[k].n, math.MaxUint16-1) + 1
	}
}

// median of an even number of readings is between the two in the middle.
func (b *heardBy) median() float64 {
	all := 0
	for _, l := range b.rssi {
		all += int(l.n)
	}
	nth := func(n int) float64 { // from 0
		for _, l := range b.rssi {
			if n -= int(l.n); n < 0 {
				return float64(l.dbm)
			}
		}
		return 0
	}
	return (nth((all-1)/2) + nth(all/2)) / 2
}

// observe looks at what a detection says beside its RSSI.
func (f *Follower) observe(asset string, s *Asset, d *Detection) {
	cfg := &f.Config
	if d.HasFix {
		fix := d.Fix
		fix.At = d.At
		f.fix(asset, s, fix, d.At)
	}
	if d.HasSpeed {
		s.movement.Speed(&cfg.Movement, d.At, d.Speed)
	}
	if d.HasLoad {
		s.load, s.hasLoad = d.Load, true
	}
	if d.HasAccel {
		if e, ok := s.bottom.Sample(&cfg.Bottom, d.At, d.Accel); ok {
			f.To.Bottom(asset, s, &e, d.Accel)
			f.look(s, d.At, e.At)
		}
	}
	if d.HasBatt {
		s.battery.Reading(&cfg.Battery, d.At, d.Battery, d.Temp, d.HasTemp)
	}
	f.board(s, d.At)
}

// look looks at availability at a time, as of when what may have changed it began.
func (f *Follower) look(s *Asset, at, since int64) {
	x := f.circumstances(s)
	s.availability.Look(&f.Config.Availability, at, since, &x)
}

func (f *Follower) circumstances(s *Asset) Circumstances {
	x := Circumstances{Seen: s.seen, InTransit: s.transit.InTransit(), Bottom: s.bottom.State, Loaded: s.load > 0}
	if i := f.site(s); i >= 0 {
		x.AtSite, x.Kind, x.Entered = true, f.World.Fences.At(int(i)).Kind, s.tracker.Entered(i)
	}
	return x
}

// fix takes a position that is known at a time.
func (f *Follower) fix(asset string, s *Asset, fix Fix, at int64) {
	cfg := &f.Config
	if !(fix.Accuracy <= cfg.Geofence.MaxAccuracy) {
		f.VagueFixes++
		return
	}
	f.geofence = s.tracker.Fix(&cfg.Geofence, f.World.Fences, fix, f.geofence[:0])
	if last, ok := s.tracker.Last(); ok && last == fix {
		s.movement.Fix(&cfg.Movement, fix)
	}
	f.places(asset, s, at)
}

// places tells what the tracker has found, and what it means for legs and availability.
func (f *Follower) places(asset string, s *Asset, at int64) {
	fences := f.World.Fences
	since, changed := int64(math.MinInt64), false
	for i := range f.geofence {
		e := &f.geofence[i]
		if e.Kind == LateDropped {
			f.LateFixes++
			continue
		}
		f.To.Geofence(asset, fences.At(int(e.Fence)), e)
		if e.Kind != Dwell {
			since, changed = max(since, e.At), true
		}
	}
	if !changed {
		return
	}
	f.legs(asset, s)
	f.look(s, at, since)
}

// legs tells what the tracker has found to the legs: what was entered before what was left, so that a
// leg with no fix between has both its ends. Of fences that are left or entered at once the smallest
// is the site.
func (f *Follower) legs(asset string, s *Asset) {
	cfg, fences, out := &f.Config.Transit, f.World.Fences, f.transit[:0]
	order := func(e *GeofenceEvent) int { return slices.Index([]GeofenceKind{Enter, Exit}, e.Kind) }
	slices.SortStableFunc(f.geofence, func(a, b GeofenceEvent) int {
		if c := cmp.Or(order(&a)-order(&b), cmp.Compare(a.At, b.At)); c != 0 || a.Fence < 0 || b.Fence < 0 {
			return c
		}
		return cmp.Compare(fences.At(int(a.Fence)).surface, fences.At(int(b.Fence)).surface)
	})
	left := slices.ContainsFunc(f.geofence, func(e GeofenceEvent) bool { return e.Kind == Exit })
	for i := range f.geofence {
		e := &f.geofence[i]
		switch e.Kind {
		case Enter:
			a := Arrival{Site: fences.At(int(e.Fence)).ID, At: e.At, Before: e.LastSeen, Metres: e.Odometer, Hop: e.Hop}
			out = s.transit.Arrive(cfg, a, left || s.tracker.insideBefore(e.At), out)
		case Exit:
			d := Departure{Site: fences.At(int(e.Fence)).ID, At: e.At, Seen: e.LastSeen, Metres: e.Odometer}
			out = s.transit.Leave(cfg, d, s.tracker.insideBefore(math.MaxInt64), &s.movement, out)
		case Lost:
			s.transit.Lose(fences.At(int(e.Fence)).ID, e.LastSeen)
		}
	}
	f.tell(asset, out)
}

func (f *Follower) tell(asset string, events []TransitEvent) {
	for i := range events {
		f.To.Transit(asset, &events[i])
	}
	f.transit = events[:0]
}

// board looks whether an asset that is outside has begun to move, by itself or with a vehicle.
func (f *Follower) board(s *Asset, at int64) {
	if s.transit.InTransit() {
		return
	}
	vehicle := f.World.Gateways.Get(s.nearest.Owner).Vehicle
	s.transit.Move(&f.Config.Transit, &s.movement, vehicle)
	if vehicle && s.movement.State == Moving && !s.tracker.insideBefore(math.MaxInt64) {
		s.transit.Board(max(s.ownerSince, s.movement.Since), s.tracker.metres)
	}
	if s.transit.InTransit() {
		f.look(s, at, s.transit.Started())
	}
}

// catchUp does what is due up to a time. An asset that has been silent for too long by then is
// forgotten, after what was due before.
func (f *Follower) catchUp(asset string, s *Asset, to int64) {
	gone := f.gone(s)
	for at := f.due(s); at <= min(to, gone); {
		f.step(asset, s, at)
		next := f.due(s)
		if next <= at {
			panic(fmt.Sprintf("asset %q is due at %d, and was at %d already", asset, next, at))
		}
		at = next
	}
	if gone <= to {
		*s = Asset{}
	}
}

// gone is when an asset is forgotten unless it is heard; MaxInt64 for never.
func (f *Follower) gone(s *Asset) int64 {
	if !s.known || f.Config.ForgetAfter == 0 {
		return math.MaxInt64
	}
	return s.seen + f.Config.ForgetAfter
}

// next is when time has something to do; MaxInt64 for never.
func (f *Follower) next(s *Asset) int64 { return min(f.due(s), f.gone(s)) }

// due is when time alone brings something about; MaxInt64 for never. What would have been due before
// the newest detection proved it is due now.
func (f *Follower) due(s *Asset) int64 {
	if !s.known {
		return math.MaxInt64
	}
	cfg := &f.Config
	x := f.circumstances(s)
	due := min(s.transit.Due(&cfg.Transit, s.seen, s.arriving()), s.availability.Due(&cfg.Availability, &x), s.battery.Due())
	fences := s.tracker.Due(&cfg.Geofence)
	if s.open {
		closes := f.closes(s)
		fences, due = max(fences, closes), min(due, closes)
	}
	return max(min(due, fences), s.seen)
}

// closes is when no hearing can join a sighting of the open window any more.
func (f *Follower) closes(s *Asset) int64 {
	return s.window + f.Config.Window - 1 + max(f.Config.Sighting.Join, f.Config.Sighting.JoinPayload)
}

func (s *Asset) arriving() int64 {
	if since, ok := s.tracker.Arriving(); ok {
		return since
	}
	return math.MaxInt64
}

// step does what is due at a time.
func (f *Follower) step(asset string, s *Asset, at int64) {
	cfg := &f.Config
	before, closed := f.brief(s), false
	if e, ok := s.battery.Advance(&cfg.Battery, at); ok {
		f.To.Battery(asset, &e)
	}
	if s.open && at >= f.closes(s) {
		f.close(asset, s, at)
		closed = true
	}
	reached := at
	if s.open { // it may still give a fix
		reached = min(at, s.first-1)
	}
	f.geofence = s.tracker.Advance(&cfg.Geofence, reached, f.geofence[:0])
	f.places(asset, s, at)
	f.tell(asset, s.transit.Advance(&cfg.Transit, at, s.seen, s.arriving(), f.transit[:0]))
	f.look(s, at, at)
	if e, ok := s.availability.Advance(&cfg.Availability, at); ok {
		f.To.Availability(asset, s, &e)
	}
	if closed || f.brief(s) != before {
		f.To.Now(asset, at, s)
	}
}

// close ends the open window, and opens the next one if it has begun.
func (f *Follower) close(asset string, s *Asset, at int64) {
	cfg := &f.Config
	end := s.window + cfg.Window
	for _, o := range s.sightings.take(&cfg.Sighting, at+1, end) {
		s.fold(&o)
	}
	heard := make([]Loudness, 0, len(s.heard))
	for i := range s.heard {
		heard = append(heard, Loudness{s.heard[i].gateway, s.heard[i].median()})
	}
	change, changed := s.nearest.Window(&cfg.Nearest, heard)
	i, there := slices.BinarySearchFunc(s.heard, s.nearest.Owner, func(b heardBy, g string) int { return cmp.Compare(b.gateway, g) })
	if there {
		f.owned(asset, s, &s.heard[i], change, changed, at)
	}
	s.heard, s.open = nil, false
	if first, ok := s.sightings.first(); ok {
		s.openAt(&f.Config, first)
	}
}

// owned looks at what the owner of a window, who heard the asset in it, says of where it is.
func (f *Follower) owned(asset string, s *Asset, by *heardBy, change Change, changed bool, at int64) {
	cfg, owner := &f.Config, f.World.Gateways.Get(by.gateway)
	last, fixed := s.tracker.Last()
	if changed {
		before := f.World.Gateways.Get(change.Before)
		if !fixed || last.At <= s.ownerSeen {
			f.moved(asset, s, before, owner, by.first, at)
		}
		s.ownerSince = by.first
	}
	s.ownerSeen = by.last
	if m, _ := s.nearest.Mean(owner.ID); owner.Placed && m.RSSI >= cfg.Weakest && (!fixed || last.At < by.last) {
		f.fix(asset, s, Fix{At: by.last, Position: owner.Position, Accuracy: cfg.Accuracy}, at)
	}
	f.board(s, at)
}

// moved tells the leg of an asset that gateways of one site own, and then those of another, where
// no fence says the same.
func (f *Follower) moved(asset string, s *Asset, from, to Gateway, first, at int64) {
	if from.Site == to.Site || from.Site == "" || to.Site == "" || f.World.Fences.Has(from.Site) || f.World.Fences.Has(to.Site) {
		return
	}
	a := Arrival{Site: to.Site, At: first, Before: s.ownerSeen, Metres: s.tracker.metres}
	if from.Placed && to.Placed {
		a.Hop = Distance(from.Position, to.Position)
	}
	d := Departure{Site: from.Site, At: s.ownerSeen, Seen: s.ownerSeen, Metres: s.tracker.metres}
	f.tell(asset, s.transit.Switch(&f.Config.Transit, d, a, f.transit[:0]))
	f.look(s, at, first)
}

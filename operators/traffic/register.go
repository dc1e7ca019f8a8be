package traffic

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// RegisterConfig says what a register does with the events that it is told of.
type RegisterConfig struct {
	Merge MergeConfig
	// HoldFaults holds what opens while a fault of the collector is suspected.
	HoldFaults bool
	// Keep is for how long, in ticks, an anomaly that is over is remembered.
	Keep int64
}

// DefaultRegisterConfig remembers anomalies for 400 days.
func DefaultRegisterConfig() RegisterConfig {
	return RegisterConfig{Merge: DefaultMergeConfig(), HoldFaults: true, Keep: (400 * 24 * time.Hour).Microseconds()}
}

// Validate returns every problem.
func (c RegisterConfig) Validate() error {
	err := c.Merge.Validate()
	if c.Keep < mergeable {
		err = errors.Join(err, fmt.Errorf("keep %d: want at least 30 days", c.Keep))
	}
	return err
}

// mergeable is how long an event that is over may still be merged with others.
const mergeable = int64(30 * day * 15 * time.Minute / time.Microsecond)

// Notice is what a detector tells a register.
type Notice struct {
	At       int64 // when it was known: of a slot, when that is final
	Kind     NoticeKind
	Entity   string
	Signal   string
	Eligible bool // is the series fit to be published
	Event    Event
}

// NoticeKind says what a Notice is about.
type NoticeKind string

const (
	EventOpened NoticeKind = "opened"
	EventClosed NoticeKind = "closed"
	Eligibly    NoticeKind = "eligible" // Eligible has changed
)

// Verdict is what a person says of an anomaly: by its UUID or, without one, of that of the
// entity which starts at Start, or goes on then. It takes effect with the first minute after At.
type Verdict struct {
	ID     uint64 // of the line that says it
	At     int64
	UUID   string
	Entity string
	Start  int64
	End    int64 // when HasEnd
	HasEnd bool
	Status Status
	// Manual makes an anomaly where there is none: it is born VERIFIED.
	Manual bool
	By     string
	Note   string
}

// takesEffect is the first minute after a verdict.
func (v Verdict) takesEffect() int64 {
	return v.At - mod(v.At, minute) + minute
}

// covers tells whether a verdict is about an event that starts at a time. While nobody knew the end
// it is about what had started by then.
func (v Verdict) covers(start int64) bool {
	if v.HasEnd {
		return start >= v.Start && start < v.End
	}
	return start >= v.Start && start <= max(v.Start, v.At)
}

const minute = int64(time.Minute / time.Microsecond)

func mod(t, by int64) int64 { return (t%by + by) % by }

// Record is an anomaly in a register.
type Record struct {
	UUID       string // of the start with which it was first seen
	Entity     string
	Start, End int64 // End means nothing without HasEnd
	HasEnd     bool
	Open       bool // an event goes on
	DetectedAt int64
	Signals    []string // that have seen it, sorted
	Fit        bool     // of series that are fit to be published
	ByHand     bool     // a person has entered it
	Status     Status
	Person     bool // a person has said so
	Held       bool // a fault of the collector is suspected
	Withdrawn  bool // it has become a part of another one
	Final      bool // its events are forgotten
	Published  bool
	Changed    int64 // when any of this changed
	// Told is how often it was told of; Said what of it then, and SaidOpen whether it was open.
	Told     int
	Said     string
	SaidOpen bool
	// Of the event with the deepest drop, for a slot on average.
	MinChange, Expected, Observed float64
	Slots                         int
	Trigger                       Trigger
}

// Listed tells whether it is for people who look for anomalies.
func (r *Record) Listed() bool {
	return r.Published && !r.Held && !r.Withdrawn && r.Status != FalsePositive
}

// Type is AS for autonomous systems (AS64500), else LOCATION.
func (r *Record) Type() string { return entityType(r.Entity) }

func entityType(entity string) string {
	if digits, ok := strings.CutPrefix(entity, "AS"); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
		return "AS"
	}
	return "LOCATION"
}

// Activity says what a change is.
type Activity string

const (
	Created Activity = "create"
	Updated Activity = "update"
	Over    Activity = "close"
)

// Change is what is told of an anomaly that is published.
type Change struct {
	At       int64
	Activity Activity
	Record   Record // as it is now
}

// Audit is a change of a status, or of what holds one back.
type Audit struct {
	At           int64
	UUID, Entity string
	From, To     Status // From is "" for one that is new
	By           string // a person, or rule
	Reason, Note string
}

const byRule = "rule"

// held is the reason of a hold.
const held = "suspected_collector_fault"

// Register holds the anomalies of all entities. It is a function of the notices and verdicts: the
// zero value has seen none. Configure comes before anything else.
type Register struct {
	cfg      RegisterConfig
	verdicts []Verdict // by when they take effect, those first that were given first

	now      int64 // all until then is done, when any
	any      bool
	entities map[string]*entity
	openings []opening // of the last two slots
	applied  map[uint64]bool
	pending  []Notice // of one instant after now

	changes []Change
	audits  []Audit
	touched map[*Record]bool
}

// entity is what is known of an entity.
type entity struct {
	Name     string
	Eligible []string // signals, sorted
	Events   []entityEvent
	Records  []*Record
}

// entityEvent is an event, and the anomaly that it is a part of.
type entityEvent struct {
	SignalEvent
	Eligible bool
	Of       string // UUID
}

// opening is an event that was opened.
type opening struct {
	At     int64
	Entity string
}

// Configure sets what is no state: the configuration, and the verdicts as far as they are known.
func (g *Register) Configure(cfg RegisterConfig, verdicts []Verdict) {
	g.cfg, g.verdicts = cfg, verdicts
	if g.entities == nil {
		g.entities, g.applied = map[string]*entity{}, map[uint64]bool{}
	}
	g.touched = map[*Record]bool{}
}

// SortVerdicts brings verdicts into the order in which a register wants them.
func SortVerdicts(vs []Verdict) {
	slices.SortStableFunc(vs, func(a, b Verdict) int { return cmp.Compare(a.takesEffect(), b.takesEffect()) })
}

// Take takes a notice. They come by At.
func (g *Register) Take(n Notice) {
	g.Advance(n.At - 1)
	g.pending = append(g.pending, n)
}

// Advance does what is due by a time, in order.
func (g *Register) Advance(to int64) {
	for {
		at, ok := g.next()
		if !ok || at > to {
			break
		}
		g.settle(at)
	}
	if g.any {
		g.now = max(g.now, to)
	} else {
		g.now, g.any = to, true
	}
}

// next is the next instant at which something is to be done.
func (g *Register) next() (at int64, ok bool) {
	if len(g.pending) > 0 {
		at, ok = g.pending[0].At, true
	}
	for _, v := range g.verdicts {
		if g.applied[v.ID] || g.find(v) == nil && !v.Manual {
			continue
		}
		when := v.takesEffect()
		if g.any && when <= g.now { // it has come to our notice just now
			when = g.now - mod(g.now, minute) + minute
		}
		if !ok || when < at {
			at, ok = when, true
		}
	}
	return at, ok
}

// Due is when something may be due next: verdicts may come at any time.
func (g *Register) Due() int64 {
	due := g.now - mod(g.now, minute) + minute
	if at, ok := g.next(); ok {
		due = min(due, max(at, g.now+1))
	}
	return due
}

// settle does what is due at an instant.
func (g *Register) settle(at int64) {
	var notices []Notice
	if len(g.pending) > 0 && g.pending[0].At == at {
		notices, g.pending = g.pending, nil
	}
	g.now, g.any = at, true
	slices.SortStableFunc(notices, func(a, b Notice) int {
		return cmp.Or(strings.Compare(a.Entity, b.Entity), strings.Compare(a.Signal, b.Signal))
	})
	for _, n := range notices {
		g.notice(n)
	}
	for _, n := range notices {
		if n.Kind != Eligibly {
			g.reconcile(g.entity(n.Entity))
		}
	}
	if g.cfg.HoldFaults {
		g.holdFaults()
	}
	for _, r := range g.sorted() {
		g.verify(r)
	}
	for _, v := range g.verdicts {
		if !g.applied[v.ID] && v.takesEffect() <= at {
			g.judge(v)
		}
	}
	g.tell()
	g.forget()
}

func (g *Register) entity(name string) *entity {
	e := g.entities[name]
	if e == nil {
		e = &entity{Name: name}
		g.entities[name] = e
	}
	return e
}

func (g *Register) notice(n Notice) {
	e := g.entity(n.Entity)
	i, there := slices.BinarySearch(e.Eligible, n.Signal)
	switch {
	case n.Eligible && !there:
		e.Eligible = slices.Insert(e.Eligible, i, n.Signal)
	case !n.Eligible && there:
		e.Eligible = slices.Delete(e.Eligible, i, i+1)
	}
	switch n.Kind {
	case EventOpened:
		e.Events = append(e.Events, entityEvent{SignalEvent: SignalEvent{n.Signal, n.Event}, Eligible: n.Eligible})
		if n.Eligible {
			g.openings = append(g.openings, opening{n.At, n.Entity})
		}
	case EventClosed:
		for i := range e.Events {
			if old := &e.Events[i]; old.Signal == n.Signal && old.Start == n.Event.Start {
				old.Event = n.Event
			}
		}
	}
}

// reconcile merges the events of an entity and finds the records that the anomalies are: those
// that their earliest events were a part of. What series have seen that are not fit to be published
// is kept apart: it neither verifies nor widens what others have seen.
func (g *Register) reconcile(e *entity) {
	claimed := map[*Record]bool{}
	for _, eligible := range []bool{true, false} {
		var events []SignalEvent
		for _, ev := range e.Events {
			if ev.Eligible == eligible {
				events = append(events, ev.SignalEvent)
			}
		}
		kind := entityType(e.Name)
		if !eligible {
			kind += " unfit" // no name that an anomaly has that is published
		}
		for _, a := range group(g.cfg.Merge, events) {
			r := g.recordOf(e, a, a.UUID(kind, e.Name), claimed)
			claimed[r] = true
			for i := range e.Events {
				if ev := &e.Events[i]; ev.Eligible == eligible && slices.ContainsFunc(a.Events, ev.same) {
					ev.Of = r.UUID
				}
			}
			r.take(a)
			r.Fit = eligible
			g.touched[r] = true
		}
	}
	for _, r := range e.Records {
		if !claimed[r] && !r.Final && !r.Withdrawn {
			r.Withdrawn, r.Open = true, false
			g.touched[r] = true
			g.audits = append(g.audits, Audit{At: g.now, UUID: r.UUID, Entity: e.Name, From: r.Status, To: r.Status, By: byRule, Reason: "merged"})
		}
	}
}

// same tells whether another event is this one.
func (ev entityEvent) same(o SignalEvent) bool { return o.Signal == ev.Signal && o.Start == ev.Start }

// recordOf returns the record of an anomaly, which nobody has claimed, or a new one with a name.
func (g *Register) recordOf(e *entity, a Anomaly, uuid string, claimed map[*Record]bool) *Record {
	for _, ev := range a.Events {
		for _, known := range e.Events {
			if known.Of == "" || !known.same(ev) {
				continue
			}
			if r := e.record(known.Of); r != nil && !claimed[r] {
				return r
			}
		}
	}
	if r := e.record(uuid); r != nil && !claimed[r] { // it was withdrawn
		return r
	}
	r := &Record{UUID: uuid, Entity: e.Name, Status: Unverified, DetectedAt: a.Events[0].DetectedAt}
	e.Records = append(e.Records, r)
	g.audits = append(g.audits, Audit{At: g.now, UUID: uuid, Entity: e.Name, To: Unverified, By: byRule, Reason: string(EventOpened)})
	return r
}

func (e *entity) record(uuid string) *Record {
	for _, r := range e.Records {
		if r.UUID == uuid {
			return r
		}
	}
	return nil
}

// take makes the record say what the anomaly says.
func (r *Record) take(a Anomaly) {
	r.Start, r.End, r.HasEnd, r.Open, r.Withdrawn = a.Start, a.End, a.HasEnd, a.open(), false
	r.Signals, r.ByHand = a.Signals, a.byHand()
	for i, ev := range a.Events {
		if ev.DetectedAt < r.DetectedAt {
			r.DetectedAt = ev.DetectedAt
		}
		if i > 0 && ev.MinChange >= r.MinChange {
			continue
		}
		slots := float64(max(ev.Counted, 1))
		r.MinChange, r.Expected, r.Observed = ev.MinChange, ev.Expected/slots, (ev.Expected-ev.Lost)/slots
		r.Slots, r.Trigger = ev.Slots, ev.Trigger
	}
}

// holdFaults holds what has opened in the last two slots, if that is too much at once. What a
// person has judged, or the rule has verified, is no longer held.
func (g *Register) holdFaults() {
	g.openings = slices.DeleteFunc(g.openings, func(o opening) bool { return o.At <= g.now-2*SlotTicks })
	opened := map[string]bool{}
	for _, o := range g.openings {
		opened[o.Entity] = true
	}
	eligible := 0
	for _, e := range g.entities {
		if len(e.Eligible) > 0 {
			eligible++
		}
	}
	if !CollectorFault(len(opened), eligible) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(opened)) {
		for _, r := range g.entity(name).Records {
			recent := r.Open && r.DetectedAt+finality > g.now-2*SlotTicks
			if recent && r.Fit && !r.Held && !r.Person && r.Status == Unverified {
				r.Held = true
				g.touched[r] = true
				g.audits = append(g.audits, Audit{At: g.now, UUID: r.UUID, Entity: name, From: r.Status, To: r.Status, By: byRule, Reason: held,
					Note: fmt.Sprintf("%d of %d eligible entities opened within two slots", len(opened), eligible)})
			}
		}
	}
}

// verify believes what enough signals have seen.
func (g *Register) verify(r *Record) {
	if r.Status != Unverified || r.Person || r.Held || !r.Fit || g.cfg.Merge.AutoVerify == 0 || len(r.Signals) < g.cfg.Merge.AutoVerify {
		return
	}
	r.Status = Verified
	g.audits = append(g.audits, Audit{At: g.now, UUID: r.UUID, Entity: r.Entity, From: Unverified, To: Verified, By: byRule, Reason: "auto_verify_sources"})
}

// find returns the record that a verdict is about, nil for none.
func (g *Register) find(v Verdict) *Record {
	e := g.entities[v.Entity]
	if e == nil {
		return nil
	}
	if v.UUID != "" {
		return e.record(v.UUID)
	}
	var at *Record
	for _, r := range e.Records {
		switch {
		case r.Withdrawn:
		case r.Start == v.Start:
			return r
		case r.Start < v.Start && (!r.HasEnd || v.Start < r.End):
			at = r
		}
	}
	return at
}

// judge does what a person has said.
func (g *Register) judge(v Verdict) {
	if v.Manual {
		g.enter(v)
	}
	r := g.find(v)
	if r == nil {
		return
	}
	g.applied[v.ID] = true
	g.touched[r] = true
	g.audits = append(g.audits, Audit{At: g.now, UUID: r.UUID, Entity: r.Entity, From: r.Status, To: v.Status, By: v.By, Reason: "verdict", Note: v.Note})
	r.Status, r.Person = v.Status, true
	if v.Status == Verified {
		r.Held = false
	}
}

// enter takes an anomaly that a person has seen, or its end.
func (g *Register) enter(v Verdict) {
	e := g.entity(v.Entity)
	ev := Event{Start: v.Start, End: v.End, HasEnd: v.HasEnd, DetectedAt: v.Start}
	if v.HasEnd {
		ev.Reason, ev.ClosedAt = Recovered, v.End
		ev.Slots = int((v.End - v.Start) / SlotTicks)
	}
	i := slices.IndexFunc(e.Events, func(o entityEvent) bool { return o.Signal == "" && o.Start == v.Start })
	if i < 0 {
		i = len(e.Events)
		e.Events = append(e.Events, entityEvent{Eligible: true})
	}
	e.Events[i].Event = ev
	g.reconcile(e)
}

// sorted returns the records that were touched, in an order that depends on them alone.
func (g *Register) sorted() []*Record { return slices.SortedFunc(maps.Keys(g.touched), compareRecords) }

func compareRecords(a, b *Record) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Entity, b.Entity), strings.Compare(a.UUID, b.UUID))
}

// tell says what has changed of the anomalies that are published.
func (g *Register) tell() {
	for _, r := range g.sorted() {
		r.Changed = g.now
		if !r.Published {
			if !g.publishes(r) {
				continue
			}
			r.Published = true
			open := r.Open
			r.Open = true
			g.say(r, Created)
			r.Open = open
		}
		switch text := r.said(); {
		case r.SaidOpen && !r.Open:
			g.say(r, Over)
		case text != r.Said:
			g.say(r, Updated)
		}
	}
	clear(g.touched)
}

// said is what a change is about.
func (r *Record) said() string {
	return fmt.Sprint(r.Start, r.End, r.HasEnd, r.Signals, r.Status, r.Held, r.Withdrawn)
}

func (g *Register) say(r *Record, a Activity) {
	r.Told++
	r.Said, r.SaidOpen = r.said(), r.Open
	g.changes = append(g.changes, Change{g.now, a, *r})
}

// publishes tells whether enough signals that are fit for it have seen an anomaly.
func (g *Register) publishes(r *Record) bool {
	return r.Fit && !r.Held && !r.Withdrawn && r.Status != FalsePositive && (r.ByHand || len(r.Signals) >= g.cfg.Merge.Quorum)
}

// forget drops the events that no other can touch any more, and anomalies that have been over for
// long enough.
func (g *Register) forget() {
	for _, e := range g.entities {
		recent := map[string]bool{}
		for _, ev := range e.Events {
			if ev.Reason == StillOpen || ev.ClosedAt+mergeable >= g.now {
				recent[ev.Of] = true
			}
		}
		e.Events = slices.DeleteFunc(e.Events, func(ev entityEvent) bool {
			if r := e.record(ev.Of); r != nil && !recent[ev.Of] {
				r.Final = true
			}
			return !recent[ev.Of]
		})
		e.Records = slices.DeleteFunc(e.Records, func(r *Record) bool {
			return !r.Open && (r.Final || r.Withdrawn) && r.Changed+g.cfg.Keep < g.now
		})
	}
}

// TakeChanges takes what the register has to say since the last call.
func (g *Register) TakeChanges() ([]Change, []Audit) {
	changes, audits := g.changes, g.audits
	g.changes, g.audits = nil, nil
	return changes, audits
}

// Now is how far time is.
func (g *Register) Now() int64 { return g.now }

// Records returns all anomalies, by start.
func (g *Register) Records() []Record {
	var all []*Record
	for _, e := range g.entities {
		all = append(all, e.Records...)
	}
	slices.SortFunc(all, compareRecords)
	out := make([]Record, len(all)) // never nil
	for i, r := range all {
		out[i] = *r
	}
	return out
}

// registerVersion is the first byte of the state of a register.
const registerVersion = 1

// registerState is the state of a register. Settled instants leave nothing pending but in
// between.
type registerState struct {
	Now      int64
	Any      bool
	Entities []*entity
	Openings []opening
	Applied  []uint64
	Pending  []Notice
}

// Append appends the state of the register, for Read.
func (g *Register) Append(dst []byte) []byte {
	s := registerState{Now: g.now, Any: g.any, Openings: g.openings, Applied: slices.Sorted(maps.Keys(g.applied)), Pending: g.pending}
	for _, name := range slices.Sorted(maps.Keys(g.entities)) {
		s.Entities = append(s.Entities, g.entities[name])
	}
	b, err := json.Marshal(s)
	if err != nil { // it has neither NaN nor Inf: see mostVolume
		panic(fmt.Sprintf("traffic: state of a register: %v", err))
	}
	return append(append(dst, registerVersion), b...)
}

// Read makes the register, which has seen nothing, go on where that of Append was.
func (g *Register) Read(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("register: %w", errShort)
	}
	if b[0] != registerVersion {
		return fmt.Errorf("register: version %d: this program reads %d; run the one that wrote it", b[0], registerVersion)
	}
	var s registerState
	d := json.NewDecoder(bytes.NewReader(b[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if d.More() {
		return errors.New("register: bytes behind it")
	}
	g.now, g.any, g.openings, g.pending = s.Now, s.Any, s.Openings, s.Pending
	g.entities, g.applied = map[string]*entity{}, map[uint64]bool{}
	for _, e := range s.Entities {
		if err := e.check(); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		g.entities[e.Name] = e
	}
	for _, id := range s.Applied {
		g.applied[id] = true
	}
	return nil
}

// check refuses what Append cannot have made of an entity.
func (e *entity) check() error {
	if e == nil {
		return errors.New("an entity is null")
	}
	for _, r := range e.Records {
		if r == nil || r.Entity != e.Name || !r.Status.known() {
			return fmt.Errorf("entity %q: an anomaly that cannot be", e.Name)
		}
	}
	return nil
}

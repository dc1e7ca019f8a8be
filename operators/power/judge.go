package power

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// Config says how PDUs are judged. Times are in ticks.
type Config struct {
	// Join is how far apart readings of one PDU may be that are of one instant, which has the
	// time of the first: those at its time only where it is 0.
	Join int64
	// Interval is how often a PDU is read. What was drawn is not known over more than three of
	// them.
	Interval int64
	// Forget is how long after its last reading a PDU is forgotten and its findings are closed.
	Forget int64

	Over, Continuous, Imbalance, Redundancy, Energy AlarmConfig

	// ImbalancePct is the imbalance, as NEMA reckons it, above which there is a finding, 0 for
	// none; ImbalanceMinA is the mean current that it takes.
	ImbalancePct, ImbalanceMinA float64
	// EnergyPct is by how much a counter may differ from what the power adds up to.
	EnergyPct float64
}

// DefaultConfig is that of PDUs which are read every minute.
func DefaultConfig() Config {
	return Config{
		Join: pipeline.Ticks(time.Second), Interval: pipeline.Ticks(time.Minute), Forget: pipeline.Ticks(24 * time.Hour),
		Over: DefaultAlarmConfig(RuleOver), Continuous: DefaultAlarmConfig(RuleOverContinuous), Imbalance: DefaultAlarmConfig(RuleImbalance),
		Redundancy: DefaultAlarmConfig(RuleRedundancy), Energy: DefaultAlarmConfig(RuleEnergy),
		ImbalancePct: 15, ImbalanceMinA: LowLoad, EnergyPct: 10,
	}
}

// Validate returns every problem.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Join < 0 {
		add("join: want a time of 0 or more")
	}
	if c.Interval <= 0 {
		add("interval: want a time above 0: how often a PDU is read")
	}
	if c.Interval > 0 && c.Join >= c.Interval {
		add("join: want less than interval, or two readings become one")
	}
	if c.Forget <= maxGap*c.Interval {
		add("forget: want more than three intervals")
	}
	for _, a := range []struct {
		name string
		cfg  AlarmConfig
	}{{"over", c.Over}, {"continuous", c.Continuous}, {"imbalance", c.Imbalance}, {"redundancy", c.Redundancy}, {"energy", c.Energy}} {
		if err := a.cfg.Validate(); err != nil {
			add("%s: %w", a.name, err)
		}
	}
	for _, v := range []struct {
		name string
		is   float64
	}{{"imbalance_pct", c.ImbalancePct}, {"imbalance_min_a", c.ImbalanceMinA}, {"energy_pct", c.EnergyPct}} {
		if !(v.is >= 0) || math.IsInf(v.is, 0) {
			add("%s %v: want a number of 0 or more", v.name, v.is)
		}
	}
	return errors.Join(errs...)
}

// Report is what an instant of a PDU comes to.
type Report struct {
	At     int64
	PDU    PDU // as it was taken: by the inventory, then by the readings
	Listed bool
	Measured
	Headroom  Headroom
	Imbalance Imbalance
	// Banks and their headroom are in one order. What is over is in Headroom too.
	BankHeadroom, BankContinuous []float64
	// Energy is what the counter says, none without a counter. PowerKWh is what the power adds
	// up to since the instant before, Unknown over a gap.
	Energy   Energy
	PowerKWh float64
	// Fail is what this PDU carries when that of the other feed, Peer, fails; nil where that
	// cannot be said, for the reason in FailProblem if it should.
	Fail        *Survivor
	Peer        string
	FailProblem string
}

// Finding is what a rule has to say of a PDU. Numbers that do not belong to the rule are Unknown.
type Finding struct {
	UID      string
	N        int // counts what is said of it, from 1
	Change   Change
	Rule     Rule
	Made     int64 // event time of the reading that made it
	Modified int64 // and of the one that this is about
	Since    int64 // of the first reading that shows it
	PDU      PDU
	Element  string // line, branch or breaker
	// FailedFeed is the feed that is thought to fail and Peer the PDU that is left.
	FailedFeed, Peer                             string
	Count, Lost                                  int64
	AvgA, MaxA, FuseA, RatedA, LoadPct           float64
	Line                                         Three
	ImbalancePct, LimitPct, CounterKWh, PowerKWh float64
	Silenced                                     bool
}

// Group is the state of the PDUs that are judged together: a redundancy group, or one PDU.
type Group struct {
	Members []Member // by ID
}

// Member is the state of a PDU.
type Member struct {
	ID      string
	Heard   int64 // the newest reading
	Pending bool
	Instant Instant // what is not complete yet
	// Feed, Wiring and RatedA are what readings have said.
	Feed   string
	Wiring Wiring
	RatedA float64

	Line, Branch, Continuous      [3]Alarm
	Banks                         []BankAlarms
	Imbalance, Redundancy, Energy Alarm

	Against string // the PDU whose failure Redundancy is about
	Last    Last
	Outlets []OutletPower

	MeterScope Scope
	Meters     []Meter
	Paired     bool // the instant before had both a counter and its power
	Integral   Integral
	Balance    Balance
}

// BankAlarms are those of a breaker that is none of the branches, while they are not at rest.
type BankAlarms struct {
	Name             string
	At               int64 // of the last reading
	Over, Continuous Alarm
}

// Last is the newest load of a PDU, for what its peer must carry.
type Last struct {
	Seen        bool
	At          int64
	LoadW, Line Three
}

// OutletPower is the newest power of an outlet that a device hangs on.
type OutletPower struct {
	Name string
	At   int64
	W    float64
}

// Meter is a counter of an element.
type Meter struct {
	Element string
	EnergyCounter
}

// Judge takes readings, whole groups of PDUs at a time, in the order of their times, and collects
// what comes of them.
type Judge struct {
	cfg Config
	inv *Inventory

	Reports  []Report
	Findings []Finding
	// Dropped counts readings of more elements than a PDU has.
	Dropped int64
}

// NewJudge makes a judge.
func NewJudge(cfg Config, inv *Inventory) (*Judge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Judge{cfg: cfg, inv: inv}, nil
}

// Use takes another content of the inventory, for all that is complete from here on.
func (j *Judge) Use(inv *Inventory) { j.inv = inv }

// Read takes a reading of a PDU of the group. None before it comes after it.
func (j *Judge) Read(key string, g *Group, at int64, pdu string, s Sample) {
	j.settle(key, g, at-1)
	i, ok := slices.BinarySearchFunc(g.Members, pdu, func(u Member, id string) int { return cmp.Compare(u.ID, id) })
	if !ok {
		g.Members = slices.Insert(g.Members, i, Member{ID: pdu})
	}
	u := &g.Members[i]
	u.Heard = at
	if !u.Pending {
		u.Pending, u.Instant.At = true, at
	}
	if !u.Instant.Add(s) {
		j.Dropped++
	}
}

// Advance says that no reading at or before a time follows. It returns when the group is due
// next; a group without members may be forgotten.
func (j *Judge) Advance(key string, g *Group, at int64) (due int64) {
	j.settle(key, g, at)
	j.moved(key, g)
	return j.Due(g)
}

// Due is when something happens in a group without a reading; MaxTicks for never.
func (j *Judge) Due(g *Group) int64 {
	due := int64(pipeline.MaxTicks)
	for i := range g.Members {
		due = min(due, j.due(&g.Members[i]))
	}
	return due
}

// due is when the instant of a member is complete, or the member is forgotten.
func (j *Judge) due(u *Member) int64 {
	if u.Pending {
		return pipeline.AddTicks(u.Instant.At, max(j.cfg.Join-1, 0))
	}
	return pipeline.AddTicks(u.Heard, j.cfg.Forget)
}

// settle does all that is due by a time, in the order of when it was: so the answer does not
// depend on how often it is called. Of members that are due at once all are measured before
// redundancy is judged; they go by their ids.
func (j *Judge) settle(key string, g *Group, at int64) {
	for due := j.Due(g); due <= at && len(g.Members) > 0; due = j.Due(g) {
		first := len(j.Reports)
		g.Members = slices.DeleteFunc(g.Members, func(m Member) bool {
			if m.Pending || j.due(&m) != due {
				return false
			}
			j.end(&m, due)
			return true
		})
		for i := range g.Members {
			if m := &g.Members[i]; m.Pending && j.due(m) == due {
				j.complete(m)
			}
		}
		for i := first; i < len(j.Reports); i++ {
			r := &j.Reports[i]
			j.redundancy(g, g.member(r.PDU.ID), r)
		}
		j.moved(key, g)
	}
}

// moved lets members go that the inventory has elsewhere now.
func (j *Judge) moved(key string, g *Group) {
	g.Members = slices.DeleteFunc(g.Members, func(m Member) bool {
		if m.Pending || j.inv.Key(m.ID) == key {
			return false
		}
		j.end(&m, m.Heard)
		return true
	})
}

// complete judges the instant of a member.
func (j *Judge) complete(u *Member) {
	in := &u.Instant
	p, listed := j.inv.PDU(u.ID)
	for i := range in.Samples {
		s := &in.Samples[i]
		u.Feed, u.Wiring = cmp.Or(s.Feed, u.Feed), cmp.Or(s.Wiring, u.Wiring)
		if known(s.RatedA) && (s.Scope == Line || s.Scope == Unit || s.Scope == Inlet) {
			u.RatedA = s.RatedA
		}
	}
	p = p.merged(u.Wiring, u.Feed, u.RatedA)
	j.hear(u, &p)
	r := Report{At: in.At, PDU: p, Listed: listed, Measured: in.Measure(p), PowerKWh: Unknown(), Energy: Energy{KWh: Unknown(), AvgW: Unknown()}}
	j.silent(u, &p, in.At)
	if r.says(in) {
		j.report(u, &r)
	}
	u.Pending = false
	clear(in.Samples)
	in.Samples = in.Samples[:0]
}

// says tells whether an instant is about the load, and not about outlets alone.
func (r *Report) says(in *Instant) bool {
	return r.Line.any() || r.Branch.any() || r.LoadW.any() || known(r.W) || len(r.Banks) > 0 || r.Problem != "" || in.meterScope() != ""
}

func (t Three) any() bool { return known(t[0]) || known(t[1]) || known(t[2]) }

// hear keeps the power of outlets that devices hang on.
func (j *Judge) hear(u *Member, p *PDU) {
	in := &u.Instant
	u.Outlets = slices.DeleteFunc(u.Outlets, func(o OutletPower) bool { return in.At-o.At > j.cfg.Forget })
	_, devices := j.inv.peer(p)
	for i := range in.Samples {
		s := &in.Samples[i]
		if s.Scope != Outlet || !known(s.W) || !slices.ContainsFunc(devices, func(d Equipment) bool { return d.outlet(p.Feed) == s.Element }) {
			continue
		}
		at := slices.IndexFunc(u.Outlets, func(o OutletPower) bool { return o.Name == s.Element })
		if at < 0 {
			at = len(u.Outlets)
			u.Outlets = append(u.Outlets, OutletPower{Name: s.Element})
		}
		u.Outlets[at].At, u.Outlets[at].W = in.At, s.W
	}
}

func (d *Equipment) outlet(feed string) string {
	if feed == "A" {
		return d.OutletA
	}
	return d.OutletB
}

// report judges a load.
func (j *Judge) report(u *Member, r *Report) {
	if u.Last.Seen && r.At-u.Last.At > maxGap*j.cfg.Interval {
		u.interrupt()
	}
	j.headroom(u, r)
	j.imbalance(u, r)
	j.energy(u, r)
	u.Banks = slices.DeleteFunc(u.Banks, func(b BankAlarms) bool { return j.idle(r, &b) })
	u.Last = Last{true, r.At, r.LoadW, r.Line}
	j.Reports = append(j.Reports, *r)
}

// interrupt lets no run of readings go over a gap.
func (u *Member) interrupt() {
	for _, a := range u.alarms() {
		a.Interrupt()
	}
}

// alarms are all of a member.
func (u *Member) alarms() []*Alarm {
	out := []*Alarm{&u.Imbalance, &u.Redundancy, &u.Energy}
	for k := range 3 {
		out = append(out, &u.Line[k], &u.Branch[k], &u.Continuous[k])
	}
	for i := range u.Banks {
		out = append(out, &u.Banks[i].Over, &u.Banks[i].Continuous)
	}
	return out
}

// headroom compares lines and breakers with their limits.
func (j *Judge) headroom(u *Member, r *Report) {
	limits := r.PDU.Limits
	r.Headroom = r.Load.Headroom(limits)
	r.Headroom.forget(limits)
	for k, name := range Lines {
		j.current(u, r, &u.Line[k], RuleOver, name, r.Line[k], limits.LineA, Unknown())
	}
	for k, name := range Branches {
		j.current(u, r, &u.Branch[k], RuleOver, name, r.Branch[k], limits.BreakerA, limits.BreakerA)
		j.current(u, r, &u.Continuous[k], RuleOverContinuous, name, r.Branch[k], limits.Continuous*limits.BreakerA, limits.BreakerA)
	}
	for _, b := range r.Banks {
		a := j.bank(u, b.Name)
		a.At = r.At
		left := zeroUnknown(limits.BreakerA)
		r.BankHeadroom = append(r.BankHeadroom, left-b.A)
		r.BankContinuous = append(r.BankContinuous, limits.Continuous*left-b.A)
		r.Headroom.take(b.Name, b.A, limits.BreakerA, limits.Continuous*limits.BreakerA)
		j.current(u, r, &a.Over, RuleOver, b.Name, b.A, limits.BreakerA, limits.BreakerA)
		j.current(u, r, &a.Continuous, RuleOverContinuous, b.Name, b.A, limits.Continuous*limits.BreakerA, limits.BreakerA)
	}
}

// zeroUnknown makes Unknown of 0.
func zeroUnknown(v float64) float64 {
	if v == 0 {
		return Unknown()
	}
	return v
}

// forget leaves out what is left of limits that are not known.
func (h *Headroom) forget(limits Limits) {
	if limits.LineA == 0 {
		h.Line = unknowns()
	}
	if limits.BreakerA == 0 {
		h.Branch, h.Continuous = unknowns(), unknowns()
	}
}

// bank returns the alarms of a breaker.
func (j *Judge) bank(u *Member, name string) *BankAlarms {
	i := slices.IndexFunc(u.Banks, func(b BankAlarms) bool { return b.Name == name })
	if i < 0 && len(u.Banks) == maxSamples {
		j.Dropped++
		return &BankAlarms{}
	}
	if i < 0 {
		i = len(u.Banks)
		u.Banks = append(u.Banks, BankAlarms{Name: name})
	}
	return &u.Banks[i]
}

// idle tells whether there is nothing to keep of a breaker: its alarms are at rest, or have nothing
// open and are not heard of any more.
func (j *Judge) idle(r *Report, b *BankAlarms) bool {
	if (b.Over == Alarm{} && b.Continuous == Alarm{}) {
		return true
	}
	return !b.Over.Open && !b.Continuous.Open && r.At-b.At > maxGap*j.cfg.Interval
}

// close ends an alarm that nothing will be heard of any more.
func (j *Judge) close(a *Alarm, rule Rule, id, element string, p PDU, at int64) {
	if a.End() == Closed {
		j.Findings = append(j.Findings, j.finding(a, rule, id, element, p, Closed, at))
	}
}

// current reads an alarm on a current. Fuse is the breaker, Unknown for a line.
func (j *Judge) current(u *Member, r *Report, a *Alarm, rule Rule, element string, amps, limit, fuse float64) {
	cfg := j.cfg.Over
	rated := Unknown()
	switch {
	case rule == RuleOverContinuous:
		cfg, rated = j.cfg.Continuous, limit
	case !known(fuse):
		rated = limit
	}
	j.alarm(u.ID, r, a, cfg, rule, element, amps, limit, func(f *Finding) {
		f.AvgA, f.MaxA, f.FuseA, f.RatedA = a.Mean(), a.Highest, fuse, rated
		f.LoadPct = 100 * a.Mean() / either(fuse, limit)
	})
}

// alarm reads an alarm and makes a finding of what it does. One whose limit is not known, or not
// any more, ends.
func (j *Judge) alarm(id string, r *Report, a *Alarm, cfg AlarmConfig, rule Rule, element string, value, limit float64, fill func(*Finding)) {
	if !known(value) {
		return
	}
	change := NoChange
	if limit > 0 {
		change = a.Read(cfg, r.At, value, limit)
	} else {
		change = a.End()
	}
	if change == NoChange {
		return
	}
	f := j.finding(a, rule, id, element, r.PDU, change, r.At)
	fill(&f)
	j.Findings = append(j.Findings, f)
}

// finding is what is said of an alarm whatever its rule.
func (j *Judge) finding(a *Alarm, rule Rule, id, element string, p PDU, change Change, at int64) Finding {
	u := Unknown()
	return Finding{
		UID: a.ID(rule, id, element), N: a.Changes, Change: change, Rule: rule, Made: a.Made, Modified: at, Since: a.Since,
		PDU: p, Element: element, Count: a.Count, Silenced: j.inv.Silenced(id, at),
		AvgA: u, MaxA: u, FuseA: u, RatedA: u, LoadPct: u, Line: unknowns(), ImbalancePct: u, LimitPct: u, CounterKWh: u, PowerKWh: u,
	}
}

// imbalance compares the lines with each other.
func (j *Judge) imbalance(u *Member, r *Report) {
	r.Imbalance = r.imbalance()
	value := r.Imbalance.NEMA
	if (r.Line[0]+r.Line[1]+r.Line[2])/3 < j.cfg.ImbalanceMinA {
		value = 0
	}
	limit := j.cfg.ImbalancePct
	j.alarm(u.ID, r, &u.Imbalance, j.cfg.Imbalance, RuleImbalance, "", value, limit, func(f *Finding) {
		f.Line, f.ImbalancePct, f.LimitPct = r.Line, r.Imbalance.NEMA, limit
	})
}

// energy reads the counters and compares them with the power.
func (j *Judge) energy(u *Member, r *Report) {
	counted := j.count(u, r)
	integral, ok := 0.0, false
	if known(r.W) {
		if integral, ok = u.Integral.Read(r.At, r.W, j.cfg.Interval); ok {
			r.PowerKWh = integral
		}
	}
	both := counted && known(r.W)
	sure := ok && u.Paired && (r.Energy.Kind == EnergyOK || r.Energy.Kind == EnergyRollover)
	u.Paired = both
	resolution := r.PDU.Energy.ResolutionKWh * float64(max(len(u.Meters), 1))
	pct, full := u.Balance.Read(r.At, r.Energy.KWh, integral, both && sure, resolution)
	if !full {
		return
	}
	counter, power := u.Balance.Counter, u.Balance.Integral
	u.Balance.Next(r.At)
	j.alarm(u.ID, r, &u.Energy, j.cfg.Energy, RuleEnergy, "", pct, j.cfg.EnergyPct, func(f *Finding) {
		f.CounterKWh, f.PowerKWh, f.LimitPct = counter, power, j.cfg.EnergyPct
	})
}

// meterScopes are those whose counters add up to the PDU's, the best first.
var meterScopes = [...]Scope{Unit, Inlet, Line, Phase}

// meterScope is the best scope that has a counter, empty for none.
func (in *Instant) meterScope() Scope {
	for _, scope := range meterScopes {
		if slices.ContainsFunc(in.Samples, func(s Sample) bool { return s.Scope == scope && known(s.KWh) }) {
			return scope
		}
	}
	return ""
}

// count reads the counters of one scope, the best that the PDU ever had. It tells whether there
// were any.
func (j *Judge) count(u *Member, r *Report) bool {
	scope := u.Instant.meterScope()
	rank := func(s Scope) int { return slices.Index(meterScopes[:], s) }
	switch {
	case scope == "":
		return false
	case u.MeterScope == "" || rank(scope) < rank(u.MeterScope):
		u.MeterScope, u.Meters = scope, nil
	case scope != u.MeterScope:
		return false
	}
	sum := Energy{Kind: EnergyOK, Added: true}
	for i := range u.Instant.Samples {
		s := &u.Instant.Samples[i]
		if s.Scope != scope || !known(s.KWh) {
			continue
		}
		e := j.meter(u, s.Element).Read(r.PDU.Energy, r.At, s.KWh)
		if sum.Kind == EnergyOK {
			sum.Kind = e.Kind
		}
		sum.Added = sum.Added && e.Added
		sum.KWh += e.KWh
		sum.AvgW += e.AvgW
	}
	if !sum.Added {
		sum.KWh, sum.AvgW = Unknown(), Unknown()
	}
	r.Energy = sum
	return true
}

func (j *Judge) meter(u *Member, element string) *EnergyCounter {
	i := slices.IndexFunc(u.Meters, func(m Meter) bool { return m.Element == element })
	if i < 0 && len(u.Meters) == maxSamples {
		j.Dropped++
		return &EnergyCounter{}
	}
	if i < 0 {
		i = len(u.Meters)
		u.Meters = append(u.Meters, Meter{Element: element})
	}
	return &u.Meters[i].EnergyCounter
}

// redundancy judges what the PDU carries when its peer fails.
func (j *Judge) redundancy(g *Group, u *Member, r *Report) {
	limits := r.PDU.Limits
	peer, devices := j.inv.peer(&r.PDU)
	if u.Against != "" && (peer == nil || peer.ID != u.Against) {
		j.endRedundancy(u, &r.PDU, r.At)
	}
	if peer == nil || limits.LineA == 0 && limits.BreakerA == 0 {
		return
	}
	r.Peer, u.Against = peer.ID, peer.ID
	s, err := j.survive(g, r, peer, devices)
	if err != nil {
		r.FailProblem = err.Error()
		return
	}
	r.Fail = &s
	// The finding is about the PDU that fails; this one is what is left.
	j.alarm(peer.ID, r, &u.Redundancy, j.cfg.Redundancy, RuleRedundancy, "", s.Utilisation, limits.Continuous, func(f *Finding) {
		f.PDU, f.FailedFeed, f.Peer, f.Lost = *peer, peer.Feed, u.ID, int64(len(s.Lost))
		f.AvgA, f.RatedA, f.LoadPct, f.LimitPct = s.WorstA, s.WorstLimit, 100*s.Utilisation, 100*limits.Continuous
		f.Silenced = f.Silenced || j.inv.Silenced(u.ID, r.At)
	})
}

// survive computes what the PDU of a report carries when its peer fails.
func (j *Judge) survive(g *Group, r *Report, peer *PDU, equipment []Equipment) (Survivor, error) {
	p := &r.PDU
	if len(equipment) > 0 {
		devices, err := j.devices(g, r, equipment)
		if err != nil {
			return Survivor{}, err
		}
		v := r.V
		for k := range v {
			v[k] = either(v[k], zeroUnknown(p.Volts))
		}
		if !v.known() {
			return Survivor{}, errors.New("its voltage is not known: give volts in the inventory")
		}
		return Survive(p.Wiring, v, devices, p.Feed == "B", p.Limits)
	}
	other := g.member(peer.ID)
	if other == nil || !other.Last.Seen || r.At-other.Last.At > maxGap*j.cfg.Interval {
		return Survivor{}, fmt.Errorf("PDU %s has not been read for three intervals", peer.ID)
	}
	switch last := other.Last; {
	case r.LoadW.known() && last.LoadW.known() && (peer.Wiring == "" || peer.Wiring == p.Wiring):
		return Mirror(p.Wiring, r.V, r.LoadW, last.LoadW, p.Limits)
	case r.Line.any() && last.Line.any():
		return MirrorLines(r.Line, last.Line, p.Limits), nil
	}
	return Survivor{}, fmt.Errorf("the load of this PDU, or of %s, is not known", peer.ID)
}

// devices returns equipment with what it draws: what its outlets measured, else what the
// inventory says.
func (j *Judge) devices(g *Group, r *Report, equipment []Equipment) ([]Device, error) {
	var out []Device
	for _, e := range equipment {
		d := e.Device
		if w, ok := j.measured(g, r, &e); ok {
			d.W = w
		}
		if d.W == 0 {
			return nil, fmt.Errorf("device %s: its outlets have not been read for three intervals, and the inventory has no watts", d.Name)
		}
		out = append(out, d)
	}
	return out, nil
}

// measured adds up the outlets of a device, which must all have been read lately.
func (j *Judge) measured(g *Group, r *Report, e *Equipment) (w float64, ok bool) {
	p, peer := r.PDU.ID, r.Peer
	for _, at := range []struct{ pdu, outlet string }{{p, e.outlet(r.PDU.Feed)}, {peer, e.outlet(otherFeed(r.PDU.Feed))}} {
		if at.outlet == "" {
			continue
		}
		o := g.member(at.pdu).outlet(at.outlet)
		if o == nil || r.At-o.At > maxGap*j.cfg.Interval {
			return 0, false
		}
		w, ok = w+o.W, true
	}
	return w, ok && w > 0
}

func otherFeed(feed string) string {
	if feed == "A" {
		return "B"
	}
	return "A"
}

// member returns a member by its id, nil for none.
func (g *Group) member(id string) *Member {
	i, ok := slices.BinarySearchFunc(g.Members, id, func(u Member, id string) int { return cmp.Compare(u.ID, id) })
	if !ok {
		return nil
	}
	return &g.Members[i]
}

func (u *Member) outlet(name string) *OutletPower {
	if u == nil {
		return nil
	}
	i := slices.IndexFunc(u.Outlets, func(o OutletPower) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &u.Outlets[i]
}

// end closes all findings of a member.
func (j *Judge) end(u *Member, at int64) {
	p, _ := j.inv.PDU(u.ID)
	p = p.merged(u.Wiring, u.Feed, u.RatedA)
	u.each(func(a *Alarm, rule Rule, element string) { j.close(a, rule, u.ID, element, p, at) })
	j.endRedundancy(u, &p, at)
}

// silent closes findings about what has not been read for the time after which a silent PDU is
// forgotten, while readings of something else go on.
func (j *Judge) silent(u *Member, p *PDU, at int64) {
	u.each(func(a *Alarm, rule Rule, element string) {
		if at-a.At > j.cfg.Forget {
			j.close(a, rule, u.ID, element, *p, at)
		}
	})
	if u.Redundancy.Open && at-u.Redundancy.At > j.cfg.Forget {
		j.endRedundancy(u, p, at)
	}
}

// each calls do with all alarms about the PDU itself.
func (u *Member) each(do func(a *Alarm, rule Rule, element string)) {
	for k := range 3 {
		do(&u.Line[k], RuleOver, Lines[k])
	}
	for k := range 3 {
		do(&u.Branch[k], RuleOver, Branches[k])
		do(&u.Continuous[k], RuleOverContinuous, Branches[k])
	}
	for i := range u.Banks {
		do(&u.Banks[i].Over, RuleOver, u.Banks[i].Name)
		do(&u.Banks[i].Continuous, RuleOverContinuous, u.Banks[i].Name)
	}
	do(&u.Imbalance, RuleImbalance, "")
	do(&u.Energy, RuleEnergy, "")
}

// endRedundancy closes the finding about the peer of a member.
func (j *Judge) endRedundancy(u *Member, p *PDU, at int64) {
	against := u.Against
	u.Against = ""
	if u.Redundancy.End() != Closed {
		return
	}
	failed, _ := j.inv.PDU(against)
	f := j.finding(&u.Redundancy, RuleRedundancy, against, "", failed, Closed, at)
	f.FailedFeed, f.Peer = otherFeed(p.Feed), u.ID
	f.Silenced = f.Silenced || j.inv.Silenced(u.ID, at)
	j.Findings = append(j.Findings, f)
}

// Describe is the report of a PDU with loads at a power factor of one.
func Describe(p PDU, watts Three) (Report, error) {
	p = p.merged("", "", 0)
	in := Instant{}
	for k, name := range p.Wiring.Loads() {
		if name == "" {
			continue
		}
		s := NewSample(Branch, name)
		if p.Wiring != WiringDelta {
			s.Scope = Phase
		}
		s.W = watts[k]
		in.Samples = append(in.Samples, s)
	}
	r := Report{PDU: p, Measured: in.Measure(p), PowerKWh: Unknown(), Energy: Energy{KWh: Unknown(), AvgW: Unknown()}}
	if r.Problem != "" {
		return Report{}, errors.New(r.Problem)
	}
	r.Headroom = r.Load.Headroom(p.Limits)
	r.Headroom.forget(p.Limits)
	r.Imbalance = r.imbalance()
	return r, nil
}

// imbalance is that of the lines; its numbers are Unknown where one of them is not known.
func (r *Report) imbalance() Imbalance {
	if !r.Line.known() {
		return Imbalance{NEMA: Unknown(), IEC: Unknown()}
	}
	return r.Load.Imbalance()
}

// Room is how many watts fit on each branch or phase, by itself; Unknown where that cannot be said.
func (r *Report) Room() Three {
	if !r.LoadW.known() {
		return unknowns()
	}
	room, err := RoomOf(r.PDU.Wiring, r.V, r.LoadW, r.PDU.Limits)
	if err != nil {
		return unknowns()
	}
	return room
}

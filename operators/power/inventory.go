package power

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Wiring says between what the loads of a PDU hang.
type Wiring string

const (
	WiringDelta  Wiring = "delta"  // between lines: branches L12, L23, L31
	WiringWye    Wiring = "wye"    // between a line and neutral: phases L1, L2, L3
	WiringSingle Wiring = "single" // one line and neutral: phase L1
)

// Loads are the names of what loads hang on.
func (w Wiring) Loads() [3]string {
	switch w {
	case WiringWye:
		return Lines
	case WiringSingle:
		return [3]string{Lines[0]}
	}
	return Branches
}

// place is the index of a load of this wiring by name, -1 for none.
func (w Wiring) place(name string) int {
	if name == "" {
		return -1
	}
	names := w.Loads()
	return slices.Index(names[:], name)
}

// PDU is what is known of a PDU beside what it measures.
type PDU struct {
	ID string
	// Name is how people call it; Country is where it is, both for findings.
	Name, Country string
	Feed          string // A or B, empty for a PDU that is alone
	Group         string // of redundancy: one PDU of either feed
	Wiring        Wiring // empty: what readings say, else delta
	Volts         float64
	Limits        Limits
	// Energy is of the counter. MaxW 0 is what the lines carry at their rating.
	Energy EnergyConfig
}

// DefaultPDU is one of which nothing is known.
func DefaultPDU(id string) PDU {
	return PDU{ID: id, Limits: DefaultLimits(), Energy: DefaultEnergyConfig()}
}

// ContinuousIn is the share of a breaker that may be drawn for hours in a country, by its code
// of two letters: four fifths in North America and where the country is not known.
func ContinuousIn(country string) float64 {
	if country == "" || slices.Contains([]string{"US", "CA", "MX"}, country) {
		return 0.8
	}
	return 1
}

// Equipment is a device and the outlets that it hangs on. With outlets its watts are what they
// measure, and W is what it is taken for while they say nothing.
type Equipment struct {
	Device
	Group            string
	OutletA, OutletB string
}

// Silence keeps findings about a PDU from people for a time, [From, To) in ticks. They are made
// all the same.
type Silence struct {
	PDU      string
	From, To int64
	Reason   string
}

// Inventory is what a site knows of its PDUs. It is immutable.
type Inventory struct {
	Version string // of the content

	pdus     map[string]*PDU
	keys     map[string]string // of PDUs that are judged with others
	groups   map[string]*redundancy
	silences map[string][]Silence
	other    PDU // what is taken for PDUs that are not there
}

// redundancy is a group.
type redundancy struct {
	feeds   [2]*PDU // A and B
	devices []Equipment
}

// InventoryError is a mistake in entry Index, from 0, of a list: pdus, devices or silences.
type InventoryError struct {
	List  string
	Index int
	Field string
	Text  string
}

func (e *InventoryError) Error() string {
	return fmt.Sprintf("%s.%d.%s: %s", e.List, e.Index, e.Field, e.Text)
}

// Entries are the content of an inventory.
type Entries struct {
	PDUs     []PDU
	Devices  []Equipment
	Silences []Silence
	// Other is what is taken for PDUs that are not there; their readings may know more.
	Other PDU
}

// NewInventory checks entries and indexes them; it returns every mistake, nil for none.
func NewInventory(e Entries, version string) (*Inventory, []*InventoryError) {
	inv := &Inventory{Version: version, pdus: map[string]*PDU{}, keys: map[string]string{}, groups: map[string]*redundancy{}, silences: map[string][]Silence{}, other: e.Other}
	c := checker{inv: inv}
	for i := range e.PDUs {
		c.list, c.index = "pdus", i
		c.pdu(e.PDUs[i])
	}
	for i := range e.Devices {
		c.list, c.index = "devices", i
		c.device(e.Devices[i])
	}
	for i := range e.Silences {
		c.list, c.index = "silences", i
		c.silence(e.Silences[i])
	}
	return inv, c.errs
}

// checker adds entries to an inventory.
type checker struct {
	inv   *Inventory
	list  string
	index int
	errs  []*InventoryError
}

func (c *checker) bad(field, format string, args ...any) {
	c.errs = append(c.errs, &InventoryError{c.list, c.index, field, fmt.Sprintf(format, args...)})
}

// measure checks a number that may be 0 for not known.
func (c *checker) measure(field string, v float64) {
	if !(v >= 0) || math.IsInf(v, 0) {
		c.bad(field, "%v: want a number above 0, or leave it out", v)
	}
}

func (c *checker) pdu(p PDU) {
	switch {
	case p.ID == "":
		c.bad("id", "missing: the pdu_id of its readings")
	case c.inv.pdus[p.ID] != nil:
		c.bad("id", "%s is there twice: one entry a PDU", p.ID)
	default:
		c.inv.pdus[p.ID] = &p
	}
	switch p.Wiring {
	case "", WiringDelta, WiringWye, WiringSingle:
	default:
		c.bad("wiring", "%q: want delta, wye or single", p.Wiring)
	}
	if p.Country != "" && !isCountry(p.Country) {
		c.bad("country", "%q: want a code of two capital letters, such as US", p.Country)
	}
	c.measure("volts", p.Volts)
	c.measure("line_a", p.Limits.LineA)
	c.measure("breaker_a", p.Limits.BreakerA)
	c.measure("max_w", p.Energy.MaxW)
	c.measure("wrap_kwh", p.Energy.WrapKWh)
	c.measure("resolution_kwh", p.Energy.ResolutionKWh)
	if x := p.Limits.Continuous; !(x > 0 && x <= 1) {
		c.bad("continuous", "%v: want a share above 0 and up to 1, such as 0.8", x)
	}
	c.feed(&p)
}

func isCountry(code string) bool {
	return len(code) == 2 && code[0] >= 'A' && code[0] <= 'Z' && code[1] >= 'A' && code[1] <= 'Z'
}

// feed puts a PDU into its group.
func (c *checker) feed(p *PDU) {
	at := slices.Index([]string{"A", "B"}, p.Feed)
	switch {
	case p.Feed != "" && at < 0:
		c.bad("feed", "%q: want A or B", p.Feed)
		return
	case p.Group == "":
		return
	case p.Feed == "":
		c.bad("feed", "missing: a PDU of a group is feed A or feed B of it")
		return
	}
	g := c.inv.groups[p.Group]
	if g == nil {
		g = &redundancy{}
		c.inv.groups[p.Group] = g
	}
	if was := g.feeds[at]; was != nil {
		c.bad("group", "%s has feed %s already, PDU %s: a group has one PDU of either feed", p.Group, p.Feed, was.ID)
		return
	}
	g.feeds[at] = c.inv.pdus[p.ID]
	c.inv.keys[p.ID] = p.Group + "\x1f" // a PDU with such an id would share the place of its state, and nothing else
}

func (c *checker) device(d Equipment) {
	if d.Name == "" {
		c.bad("name", "missing")
	}
	c.measure("watts", d.W)
	if d.W == 0 && d.OutletA == "" && d.OutletB == "" {
		c.bad("watts", "missing: give its watts, or a_outlet and b_outlet, which measure them")
	}
	if !(d.ShareA >= 0 && d.ShareA <= 1) {
		c.bad("share", "%v: want the part of its load on feed A, 0 to 1", d.ShareA)
	}
	if d.A == "" && d.B == "" {
		c.bad("a", "missing: name the branch of a cord in a or b")
	}
	g := c.inv.groups[d.Group]
	if g == nil {
		c.bad("group", "%q: no PDU has this group; give a PDU the same group, or correct it", d.Group)
		return
	}
	if slices.ContainsFunc(g.devices, func(o Equipment) bool { return o.Name == d.Name }) {
		c.bad("name", "%s is there twice in group %s", d.Name, d.Group)
	}
	c.cord("a", g.feeds[0], d.A, d.OutletA)
	c.cord("b", g.feeds[1], d.B, d.OutletB)
	g.devices = append(g.devices, d)
}

func (c *checker) cord(field string, p *PDU, branch, outlet string) {
	switch {
	case branch == "" && outlet != "":
		c.bad(field+"_outlet", "%s: without a branch in %s", outlet, field)
	case branch == "":
	case p == nil:
		c.bad(field, "%s: the group has no PDU of that feed", branch)
	case p.Wiring.place(branch) < 0:
		names := p.Wiring.Loads()
		c.bad(field, "%q: PDU %s has %v", branch, p.ID, slices.DeleteFunc(names[:], func(n string) bool { return n == "" }))
	}
}

func (c *checker) silence(s Silence) {
	if c.inv.pdus[s.PDU] == nil {
		c.bad("pdu", "%q is none of the PDUs", s.PDU)
	}
	if s.To <= s.From {
		c.bad("to", "is not after from")
	}
	c.inv.silences[s.PDU] = append(c.inv.silences[s.PDU], s)
}

// Len is how many PDUs the inventory has.
func (inv *Inventory) Len() int { return len(inv.pdus) }

// PDU returns what is known of a PDU, and whether the inventory has it.
func (inv *Inventory) PDU(id string) (PDU, bool) {
	if p := inv.pdus[id]; p != nil {
		return *p, true
	}
	p := inv.other
	p.ID = id
	return p, false
}

// Key names what is judged together with a PDU: its group, or the PDU alone.
func (inv *Inventory) Key(id string) string {
	if key, ok := inv.keys[id]; ok {
		return key
	}
	return id
}

// peer returns the PDU of the other feed and what hangs on both, nil for none.
func (inv *Inventory) peer(p *PDU) (*PDU, []Equipment) {
	g := inv.groups[p.Group]
	if p.Group == "" || g == nil {
		return nil, nil
	}
	if p.Feed == "A" {
		return g.feeds[1], g.devices
	}
	return g.feeds[0], g.devices
}

// Silenced tells whether findings about a PDU are kept from people at a time.
func (inv *Inventory) Silenced(id string, at int64) bool {
	return slices.ContainsFunc(inv.silences[id], func(s Silence) bool { return s.From <= at && at < s.To })
}

// merged completes what is known of a PDU by what its readings say of it.
func (p PDU) merged(w Wiring, feed string, rated float64) PDU {
	p.Wiring = cmp.Or(p.Wiring, w, WiringDelta)
	p.Feed = cmp.Or(p.Feed, feed)
	if p.Limits.LineA == 0 && rated > 0 {
		p.Limits.LineA = rated
	}
	if p.Energy.MaxW == 0 {
		p.Energy.MaxW = p.most()
	}
	return p
}

// most is what the lines carry at their rating; +Inf where that is not known.
func (p PDU) most() float64 {
	va := p.Volts * p.Limits.LineA
	switch {
	case va == 0:
		return math.Inf(1)
	case p.Wiring == WiringWye:
		return 3 * va
	case p.Wiring == WiringSingle:
		return va
	}
	return math.Sqrt(3) * va
}

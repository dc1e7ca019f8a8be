package ocsf

import (
	"bytes"
	"math/bits"
	"strconv"
)

// planMetadata finds the attributes of metadata that the conformer knows by name.
func (p *classPlan) planMetadata(it *item) {
	at := func(name string) int32 { return it.names.find([]byte(name)) }
	p.metadata = it
	p.version, p.names, p.product, p.eventUID = at("version"), at("profiles"), at("product"), at("uid")
	p.logName, p.logProvider, p.originalTime = at("log_name"), at("log_provider"), at("original_time")
	p.loggedTime, p.sequence = at("logged_time"), at("sequence")
}

// useProfiles switches on the profiles that the record names and those that its attributes
// need, but none that requires what the record lacks.
func (c *Conformer) useProfiles() {
	c.on, c.named = 0, c.named[:0]
	list := c.doc.member(c.doc.member(0, "metadata"), "profiles")
	if list >= 0 {
		if c.doc.nodes[list].kind == '[' {
			for e := c.doc.nodes[list].first; e != 0; e = c.doc.nodes[e].next {
				c.useProfile(c.doc.text(&c.doc.nodes[e]))
			}
		} else if c.doc.nodes[list].kind == '"' {
			for name := range bytes.SplitSeq(c.doc.text(&c.doc.nodes[list]), []byte{','}) {
				c.useProfile(bytes.TrimSpace(name))
			}
		}
	}
	c.resolve(c.plan.class, 0)
	for _, at := range c.plan.profiled {
		a := &c.plan.class.attrs[at]
		if a.active(c.on) && !a.fillable() && !c.has(at) {
			c.switchOff(a.profiles & c.on)
		}
	}
}

func (c *Conformer) useProfile(name []byte) {
	bit, ok := c.schema.profiles[string(name)]
	if c.on |= bit; !ok && len(name) > 0 {
		c.dropProfile(name)
	}
}

func (c *Conformer) dropProfile(name []byte) {
	if len(c.named) > 0 {
		c.named = append(c.named, ',')
	}
	c.named = append(c.named, name...)
}

// switchOff switches profiles off and keeps their names.
func (c *Conformer) switchOff(off uint64) {
	c.on &^= off
	for ; off != 0; off &= off - 1 {
		c.dropProfile([]byte(c.profiles[bits.TrailingZeros64(off)]))
	}
}

// has tells whether the record has a value for an attribute of the class.
func (c *Conformer) has(at int32) bool {
	for n := c.doc.nodes[0].first; n != 0; n = c.doc.nodes[n].next {
		if c.doc.nodes[n].attr == at && c.doc.nodes[n].kind != 'n' {
			return true
		}
	}
	return false
}

// fillable tells whether the attribute can be 0, Unknown.
func (a *attr) fillable() bool {
	return len(a.ids) > 0 && a.ids[0].there && !a.array && a.typ != nil && (a.typ.primitive == integer || a.typ.primitive == long)
}

// resolve finds the attributes of the members of object n and of the objects in it, and
// switches on the profiles that they need.
func (c *Conformer) resolve(it *item, n int32) {
	if it.open() {
		return
	}
	nodes := c.doc.nodes
	for m := nodes[n].first; m != 0; m = nodes[m].next {
		at := c.names.find(it, m, c.doc.name(&nodes[m]))
		if at < 0 || nodes[m].kind == 'n' {
			continue
		}
		nodes[m].attr = at
		a := &it.attrs[at]
		if !a.active(c.on) {
			c.on |= a.profiles & -a.profiles
		}
		switch {
		case a.object == nil:
		case nodes[m].kind == '{':
			c.resolve(a.object, m)
		case nodes[m].kind == '[':
			for e := nodes[m].first; e != 0; e = nodes[e].next {
				if nodes[e].kind == '{' {
					c.resolve(a.object, e)
				}
			}
		}
	}
}

// metadata writes the metadata of the record, with what the origin and the schema know.
func (c *Conformer) metadata(base int) *ConformError {
	n := max(c.slots[base+int(c.plan.meta)], 0)
	c.member(c.plan.class, c.plan.meta)
	was := c.enter("metadata")
	defer c.leave(was)
	if n > 0 && c.doc.nodes[n].kind != '{' {
		c.move(n, "want an object")
		n = 0
	}
	it := c.plan.metadata
	own := c.openEmpty(it)
	if n > 0 {
		c.slots = c.slots[:own]
		own = c.open(it, n)
	}
	metadata := c.begin('{')
	c.version(it, own)
	c.profileNames(it, own)
	if n > 0 {
		c.members(it, n, own)
	}
	c.product(it, own)
	c.fromOrigin(it, own)
	for _, at := range it.required {
		c.fill(it, at, own)
		if it.attrs[at].active(c.on) && c.slots[own+int(at)] != written {
			e := &ConformError{Path: "metadata." + it.attrs[at].name, Cause: "metadata requires it, and neither the record nor the config gives it", profiles: it.attrs[at].profiles}
			e.because(c, e.Path)
			return e
		}
	}
	if cause := c.broken(it, own); cause != "" {
		return &ConformError{Path: "metadata", Cause: cause}
	}
	c.end(metadata)
	c.slots = c.slots[:own]
	c.slots[base+int(c.plan.meta)] = written
	return nil
}

func (c *Conformer) version(it *item, base int) {
	at := c.plan.version
	if at < 0 {
		return
	}
	was := c.enter("version")
	c.replaced(c.slots[base+int(at)], c.schema.facts.Version, "the version of the schema")
	c.leave(was)
	c.member(it, at)
	c.quoted(c.schema.facts.Version)
	c.slots[base+int(at)] = written
}

// profileNames writes metadata.profiles.
func (c *Conformer) profileNames(it *item, base int) {
	at := c.plan.names
	if at < 0 {
		return
	}
	n := c.slots[base+int(at)]
	c.slots[base+int(at)] = 0
	was := c.enter("profiles")
	defer c.leave(was)
	if n > 0 && c.doc.nodes[n].kind != '[' {
		c.cast(n, "list of profiles")
	}
	if len(c.named) > 0 {
		c.moveText(c.named, "no profile that the event can have")
	}
	if c.on == 0 {
		return
	}
	c.member(it, at)
	list := c.begin('[')
	for on := c.on; on != 0; on &= on - 1 {
		c.comma()
		c.quoted(c.profiles[bits.TrailingZeros64(on)])
	}
	c.end(list)
	c.slots[base+int(at)] = written
}

// product writes the product of the config if the record has none.
func (c *Conformer) product(it *item, base int) {
	at := c.plan.product
	if at < 0 || c.slots[base+int(at)] == written || c.cfg.Product.Name == "" {
		return
	}
	was := c.enter("product")
	c.filled(c.cfg.Product.Name)
	c.leave(was)
	c.member(it, at)
	product := c.begin('{')
	for _, m := range [...]struct{ name, value string }{{"name", c.cfg.Product.Name}, {"vendor_name", c.cfg.Product.Vendor}, {"version", c.cfg.Product.Version}} {
		if m.value != "" {
			c.name(m.name)
			c.quoted(m.value)
			c.tree.trust([]byte(m.value))
		}
	}
	c.end(product)
	c.slots[base+int(at)] = written
}

// fromOrigin writes what the origin knows and the record does not say.
func (c *Conformer) fromOrigin(it *item, base int) {
	p, at := c.plan, &c.at
	if c.lacks(base, p.eventUID) && len(at.UID) > 0 {
		c.metadataText(it, base, p.eventUID, at.UID)
	}
	if c.lacks(base, p.logName) && at.LogName != "" {
		c.metadataText(it, base, p.logName, []byte(at.LogName))
	}
	if c.lacks(base, p.logProvider) && at.LogProvider != "" {
		c.metadataText(it, base, p.logProvider, []byte(at.LogProvider))
	}
	if c.lacks(base, p.originalTime) {
		if t := c.timeText(); len(t) > 0 {
			c.metadataText(it, base, p.originalTime, t)
		}
	}
	if c.lacks(base, p.loggedTime) && at.Logged != Unknown {
		c.metadataNumber(it, base, p.loggedTime, at.Logged)
	}
	if c.lacks(base, p.sequence) && at.Sequence >= 0 {
		c.metadataNumber(it, base, p.sequence, at.Sequence)
	}
}

func (c *Conformer) lacks(base int, at int32) bool { return at >= 0 && c.slots[base+int(at)] == 0 }

// timeText is the text of the event's time, if it had another form.
func (c *Conformer) timeText() []byte {
	var is [20]byte
	millis := strconv.AppendInt(is[:0], c.time.Millis, 10)
	for n := c.doc.nodes[0].first; n != 0; n = c.doc.nodes[n].next {
		if c.doc.nodes[n].attr != c.plan.time {
			continue
		}
		if t := c.doc.text(&c.doc.nodes[n]); c.doc.nodes[n].kind == '"' || !bytes.Equal(t, millis) {
			return t
		}
		break
	}
	if c.time != c.at.Time || bytes.Equal(c.at.TimeText, millis) {
		return nil
	}
	return c.at.TimeText
}

func (c *Conformer) metadataText(it *item, base int, at int32, value []byte) {
	c.member(it, at)
	c.out = appendQuoted(c.out, value)
	c.wrote()
	c.tree.trust(value)
	c.slots[base+int(at)] = written
}

func (c *Conformer) metadataNumber(it *item, base int, at int32, value int64) {
	c.member(it, at)
	c.number(value)
	c.slots[base+int(at)] = written
}

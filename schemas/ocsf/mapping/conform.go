package mapping

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// conforming is what a Mapper has for Conform.
type conforming struct {
	conformer *ocsf.Conformer
	classes   map[*target]int64 // or fromEvent
	origin    ocsf.Origin
	element   int32   // that each is at
	found     []int32 // nodes by step of the file's ways

	observables map[*target][]ocsf.Observable

	record ocsf.Record
	value  []byte // of it

	rest []span // path and text of each value that no locator read
	text []byte // of them
	path []byte

	// The time of the event, its text, and the attribute that is the time of the record.
	seen   ocsf.Instant
	time   []byte
	timeOf *attribute

	event []byte
}

// newConforming finds the classes of the targets in the schema. The error has every problem.
func newConforming(m *Mapping, cfg Config) (*conforming, error) {
	c := &conforming{classes: map[*target]int64{}, found: make([]int32, len(m.ways.steps)), observables: map[*target][]ocsf.Observable{}, origin: ocsf.Origin{Logged: ocsf.Unknown, Time: ocsf.Instant{Millis: ocsf.Unknown}}}
	var errs []error
	for _, value := range slices.Sorted(maps.Keys(m.targets)) {
		uid, err := m.targets[value].class(cfg.Schema)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: custom_source_events.ocsf_mapping.%s: %w", m.file, value, err))
		}
		c.classes[m.targets[value]] = uid
		for _, rule := range m.targets[value].observables {
			o, err := cfg.Schema.Observable(uid, rule.name, rule.typeID)
			if uid == fromEvent {
				err = errors.New("the class depends on the event, so its attributes are not known")
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", m.file, rule.path, err))
			}
			c.observables[m.targets[value]] = append(c.observables[m.targets[value]], o)
		}
	}
	conformer, err := ocsf.NewConformer(cfg.Schema, ocsf.ConformConfig{Product: cfg.Product, Time: m.layout.instant, Fixes: cfg.Fixes})
	c.conformer = conformer
	return c, errors.Join(append(errs, err)...)
}

// fromEvent stands for a class that depends on the event.
const fromEvent = -1

// class returns the class_uid of a target, or fromEvent. The number in the
// tree decides: names of classes change between versions.
func (t *target) class(s *ocsf.Schema) (int64, error) {
	named, known := s.ClassUID(t.schema)
	for i := range t.attrs {
		a := &t.attrs[i]
		if string(a.name) != `"class_uid":` {
			continue
		}
		if a.kind != literal {
			return fromEvent, nil
		}
		uid, err := strconv.ParseInt(string(a.literal), 10, 64)
		switch {
		case err != nil:
			return 0, fmt.Errorf("schema_mapping.class_uid: %s is no number of a class", a.literal)
		case s.ClassName(uid) == "":
			return 0, fmt.Errorf("schema_mapping.class_uid: OCSF %s has no class %d", s.Version(), uid)
		case known && named != uid:
			return 0, fmt.Errorf("schema is %s, which is class %d, but schema_mapping.class_uid is %d, which is %s: correct one of them", t.schema, named, uid, s.ClassName(uid))
		}
		return uid, nil
	}
	if !known {
		return 0, fmt.Errorf("schema: OCSF %s has no class %s: correct the name, or say schema_mapping.class_uid", s.Version(), t.schema)
	}
	return named, nil
}

// SetOrigin says where the events that follow come from; for Conform. What is not known of
// an event must be said again: nothing is kept from the one before.
func (m *Mapper) SetOrigin(at ocsf.Origin) {
	if m.conform != nil {
		m.conform.origin = at
	}
}

// conformed maps the event at the root to a valid event.
func (m *Mapper) conformed() (Mapped, *Unmapped) {
	c := m.conform
	if clear(c.found); m.doc.nodes[m.root].kind == object {
		m.m.ways.walk(&m.doc, c.found, 0, m.root)
	}
	t, u := m.conditional()
	if u != nil {
		return Mapped{}, u
	}
	at := c.origin
	at.Observables = c.observables[t]
	c.timeOf = t.timeOf()
	m.eventTime()
	m.absent, m.faults = 0, 0
	c.record.Reset()
	if err := m.writeObject(t.attrs); err != nil {
		return Mapped{}, m.notConform(err)
	}
	at.Time, at.TimeText = c.seen, c.time
	if !m.cfg.DropRest && !t.drop {
		at.Rest = m.leftovers()
	}
	event, rep, err := c.conformer.ConformRecord(c.event[:0], max(c.classes[t], 0), &c.record, at)
	if err != nil {
		return Mapped{}, m.notConform(err)
	}
	c.event = event
	out := Mapped{Source: m.cfg.Source, Schema: t.schema, EventDay: m.dayName(dayOfMillis(rep.Time)), Record: event, Absent: m.absent, Faults: m.faults,
		Class: rep.Class, Time: rep.Time, Casts: rep.Casts, Filled: rep.Filled, Moved: rep.Moved, Rest: rep.Rest, Fixes: rep.Fixes}
	if m.cfg.Fixes {
		out.Leftovers = at.Rest
	}
	return out, nil
}

// conditional finds what the file has for the event: the first target whose condition holds,
// else the one of the matched value.
func (m *Mapper) conditional() (*target, *Unmapped) {
	for _, t := range m.m.conditional {
		if m.holds(&t.when) {
			return t, nil
		}
	}
	if !m.m.matches {
		return nil, &Unmapped{NoMapping, m.m.file, "custom_source_events.ocsf_mapping", "no when holds"}
	}
	t, u := m.target()
	if u == nil && t.when.op != always {
		return nil, &Unmapped{NoMapping, m.m.file, "custom_source_events.ocsf_mapping." + t.value, "its when does not hold"}
	}
	return t, u
}

func (m *Mapper) notConform(err error) *Unmapped {
	u := &Unmapped{Reason: NotConform, File: m.m.file, Cause: err.Error()}
	var refused *ocsf.ConformError
	if errors.As(err, &refused) {
		u.Path, u.Cause = refused.Path, refused.Cause
	}
	return u
}

// timeOf is the attribute time of a tree, nil for none.
func (t *target) timeOf() *attribute {
	for i := range t.attrs {
		if string(t.attrs[i].name) == `"time":` {
			return &t.attrs[i]
		}
	}
	return nil
}

// eventTime reads the timestamp of the file.
func (m *Mapper) eventTime() {
	c := m.conform
	c.seen, c.time = ocsf.Instant{Millis: ocsf.Unknown}, c.time[:0]
	n, _ := m.locate(&m.m.timestamp)
	if n < 0 || m.doc.nodes[n].kind == list || m.doc.nodes[n].kind == object {
		return
	}
	c.time = m.doc.appendText(c.time, n)
	t, ok := m.m.layout.instant(c.time)
	if !ok {
		t, ok = ocsf.ParseInstant(c.time)
	}
	if ok {
		c.seen = t
	}
}

// locate returns the node of a locator, -1 when the event does not have it, and whether
// that is because the way goes through what is no object.
func (m *Mapper) locate(l *locator) (n int32, fault bool) {
	if l.local {
		return m.locateIn(m.conform.element, l.parts)
	}
	if l.step == 0 {
		return -1, l.fails
	}
	n = m.conform.found[l.step]
	if n > 0 && m.doc.nodes[n].kind != null {
		return n, false
	}
	if n > 0 {
		return -1, false
	}
	for at := m.m.ways.steps[l.step].parent; at != 0; at = m.m.ways.steps[at].parent {
		if n := m.conform.found[at]; n > 0 {
			k := m.doc.nodes[n].kind
			return -1, k != object && k != null
		}
	}
	return -1, m.doc.nodes[m.root].kind != object
}

// locateIn goes from node n on.
func (m *Mapper) locateIn(n int32, parts []string) (at int32, fault bool) {
	for _, part := range parts {
		if m.doc.nodes[n].kind != object {
			return -1, true
		}
		if n = m.doc.member(n, part); n < 0 || m.doc.nodes[n].kind == null {
			return -1, false
		}
	}
	if m.doc.nodes[n].kind == null {
		return -1, false
	}
	return n, false
}

// writeObject writes the attributes to the record, and ends the object that they are in.
func (m *Mapper) writeObject(attrs []attribute) error {
	c := m.conform
	for i := range attrs {
		a := &attrs[i]
		plain := a.when.op == always && a.cast == noCast && a.def == nil
		switch {
		case plain && a.kind == nested:
			c.record.Begin(a.member)
			if err := m.writeObject(a.attrs); err != nil {
				return err
			}
			continue
		case plain && a.kind == locate:
			if m.writeLocated(a) {
				continue
			}
		}
		if c.value = m.made(c.value[:0], a); string(c.value) == "null" {
			continue
		}
		if err := c.record.Value(a.member, c.value); err != nil {
			return err
		}
	}
	c.record.End()
	return nil
}

// writeLocated writes a value that stands in the record as it does in the event; false leaves
// it to others.
func (m *Mapper) writeLocated(a *attribute) bool {
	n, _ := m.locate(&a.locator)
	if n < 0 {
		return false
	}
	v := &m.doc.nodes[n]
	switch b := m.doc.bytes(v.text); {
	case v.kind == text && m.doc.asRead(v.text):
		m.conform.record.Text(a.member, b)
	case v.kind == integer || v.kind == float && b[len(b)-1] <= '9':
		m.conform.record.Number(a.member, b)
	default:
		return false
	}
	v.used = usedUp
	return true
}

// madeObject appends an object with the attributes, where located values have the type that
// they have in the event. Absent ones are null.
func (m *Mapper) madeObject(dst []byte, attrs []attribute) []byte {
	dst = append(dst, '{')
	for i := range attrs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, attrs[i].name...)
		dst = m.made(dst, &attrs[i])
	}
	return append(dst, '}')
}

func (m *Mapper) missed(fault bool) {
	if fault {
		m.faults++
	} else {
		m.absent++
	}
}

// chosen returns the value of an enum. Only a value that is a key is used: one that
// leads to other is kept as a leftover.
func (m *Mapper) chosen(a *attribute) []byte {
	n, fault := m.locate(&a.locator)
	if n < 0 {
		m.missed(fault)
		return a.other
	}
	if k := m.doc.nodes[n].kind; k == list || k == object {
		m.faults++
		return a.other
	}
	m.scratch = m.doc.appendText(m.scratch[:0], n)
	if v, ok := a.values[string(m.scratch)]; ok {
		m.doc.nodes[n].used = usedUp
		return v
	}
	return a.other
}

// leftovers are the values of the event that nothing used.
func (m *Mapper) leftovers() []ocsf.Field {
	c := m.conform
	c.rest, c.text, c.path = c.rest[:0], c.text[:0], c.path[:0]
	m.leftover(m.root)
	fields := c.origin.Rest[:len(c.origin.Rest):len(c.origin.Rest)]
	for i := 0; i < len(c.rest); i += 2 {
		path, text := c.rest[i], c.rest[i+1]
		fields = append(fields, ocsf.Field{Path: c.text[path.from:path.to], Text: c.text[text.from:text.to]})
	}
	return fields
}

// leftover adds what is unused of node n: the members of an object one by one, a list
// whole if nothing of it was used.
func (m *Mapper) leftover(n int32) {
	v := &m.doc.nodes[n]
	if v.used == usedUp || v.kind == null {
		return
	}
	if v.first == 0 || v.kind == list && v.used == 0 {
		m.addLeftover(n)
		return
	}
	i := 0
	for child := v.first; child != 0; child = m.doc.nodes[child].next {
		if c := &m.doc.nodes[child]; c.used != usedUp && c.kind != null {
			was := len(m.conform.path)
			m.enter(v.kind, child, i)
			m.leftover(child)
			m.conform.path = m.conform.path[:was]
		}
		i++
	}
}

// enter appends a member or element i to the path.
func (m *Mapper) enter(of kind, child int32, i int) {
	c := m.conform
	if of == list {
		c.path = append(strconv.AppendInt(append(c.path, '['), int64(i), 10), ']')
		return
	}
	if len(c.path) > 0 {
		c.path = append(c.path, '.')
	}
	c.path = appendWhole(c.path, m.doc.bytes(m.doc.nodes[child].name))
}

func (m *Mapper) addLeftover(n int32) {
	c := m.conform
	start := int32(len(c.text))
	c.text = append(c.text, c.path...)
	middle := int32(len(c.text))
	switch v := &m.doc.nodes[n]; v.kind {
	case text:
		c.text = appendWhole(c.text, m.doc.bytes(v.text))
	case integer, float:
		c.text = append(c.text, m.doc.bytes(v.text)...)
	default:
		c.text = m.doc.appendTyped(c.text, n)
	}
	c.rest = append(c.rest, span{start, middle}, span{middle, int32(len(c.text))})
}

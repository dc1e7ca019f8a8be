package ocsf

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Conformer makes valid events of records that have roughly the shape of a class: it casts
// values to the types of the schema, derives what the schema can derive, and moves to
// unmapped, under its dotted path and as text, whatever has no place. Nothing is lost but
// nulls, and what the class and the schema decide (class_uid, class_name, category_uid,
// category_name, type_uid, type_name, metadata.version). A record that cannot be saved is a
// ConformError. The same record gives the same bytes. It is used by one goroutine.
//
// What it does that is not plain from the schema:
//
//   - Numbers in text are base 10, 010 is ten. A number with a fraction is no integer.
//   - A text beside which an id is due gives the id, by caption in any case of letters; one
//     that is no caption is kept beside 99. A caption that contradicts its id is moved.
//   - An id that is required and absent is 0, Unknown.
//   - A text where an object is due becomes its name, if it is then valid. An actor without
//     any other member is the program of that name (app_name, before 1.3.0 invoked_by).
//   - A text where a list is due is split at commas; one value is a list of one.
//   - A profile is named when an attribute needs it, and not when what it requires is
//     absent.
type Conformer struct {
	schema   *Schema
	cfg      ConformConfig
	classes  map[int64]*classPlan
	profiles []string // by bit

	doc   *document
	names guesses
	own   Record  // of Conform
	slots []int32 // for the objects that are open: the node of each attribute, and written
	way
	out   []byte
	base  int     // where the event begins in out
	tree  outline // of it
	on    uint64  // profiles
	plan  *classPlan
	at    Origin
	time  Instant
	given int   // of moved: those of the record's unmapped
	kind  int64 // activity_id
	// What goes to unmapped; the texts are in JSON form already.
	moved []movedValue
	text  []byte
	named []byte // profiles of the record that are not on, with commas
	keys  map[string]int
	rep   ConformReport
}

// ConformConfig is what the records do not say.
type ConformConfig struct {
	// Product stands in metadata.product of events that have none. Without a name there is
	// no such rule.
	Product Product
	// Time reads timestamps before ParseInstant does; nil for none.
	Time func(text []byte) (Instant, bool)
	// Fixes asks for a list of what was changed.
	Fixes bool
}

// Product is what reported an event.
type Product struct{ Name, Vendor, Version string }

// Unknown is a time that an Origin does not know.
const Unknown = math.MinInt64

// Origin is what is known of a record beside its content. What is empty is left out.
type Origin struct {
	UID         []byte // metadata.uid of records that have none
	Logged      int64  // metadata.logged_time in milliseconds, or Unknown
	LogName     string
	LogProvider string
	Sequence    int64 // metadata.sequence, left out when negative
	// Time is the event time of records that have none or the same, with its text. Unknown
	// for none.
	Time     Instant
	TimeText []byte
	// Rest are values of the source that the record lacks: they go to unmapped.
	Rest []Field
	// Observables are attributes that observables are made of, from Schema.Observable.
	Observables []Observable
}

// Field is a value under a dotted path.
type Field struct{ Path, Text []byte }

// ConformReport is what was done to a record.
type ConformReport struct {
	Class  int64
	Time   int64 // event time in milliseconds
	Casts  int   // values that changed their form
	Filled int   // attributes that were derived
	Moved  int   // values that went to unmapped because they have no place
	Rest   int   // values of the source that went to unmapped because the record lacks them
	// Fixes has one element for each cast, filled and moved value, if it was asked for.
	Fixes []Fix
}

// Fix is one change of a record.
type Fix struct {
	Path string `json:"path"`
	What string `json:"what"`
	From string `json:"from,omitempty"` // the value before
}

func (f Fix) String() string {
	if f.From == "" {
		return f.Path + ": " + f.What
	}
	return f.Path + ": " + f.What + ", from " + f.From
}

// ConformError says why no event can be made of a record.
type ConformError struct {
	Path  string
	Cause string

	profiles uint64 // that would make it valid if they were off
}

func (e *ConformError) Error() string {
	if e.Path == "" {
		return e.Cause
	}
	return e.Path + ": " + e.Cause
}

// movedValue is a member of unmapped; the spans are of Conformer.text, in JSON form.
type movedValue struct{ path, value [2]int32 }

// classPlan is what is looked up once for a class.
type classPlan struct {
	class    *item
	metadata *item
	// The attributes that the conformer knows by name, -1 where there is none.
	categoryUID, categoryName, classUID, className, typeUID, typeName int32
	activityID, time, timezone, meta, unmapped, observables           int32
	head                                                              []int32 // what comes first
	profiled                                                          []int32 // required by a profile

	// The texts that the class decides, and those of type_uid by activity.
	category, uid decision
	types         [smallIDs]decision

	version, names, product, eventUID, logName, logProvider, originalTime, loggedTime, sequence int32 // of metadata
}

// decision is an id that the class decides, and its caption.
type decision struct{ id, caption string }

// written marks the slot of an attribute that the event has.
const written = -1

// NewConformer returns a Conformer for the classes of a schema.
func NewConformer(s *Schema, cfg ConformConfig) (*Conformer, error) {
	if s == nil {
		return nil, errors.New("conform: no schema")
	}
	if cfg.Product.Name == "" && cfg.Product != (Product{}) {
		return nil, errors.New("conform: product: a vendor or version without a name")
	}
	return &Conformer{schema: s, cfg: cfg, classes: map[int64]*classPlan{},
		profiles: slices.Sorted(maps.Keys(s.profiles)), keys: map[string]int{}}, nil
}

// Conform appends the event that the record, a JSON object, makes in a class (0 for the one
// that class_uid of the record names). The report is valid until the next call. An error
// leaves dst as it was: a *ConformError, or ErrNotJSON.
func (c *Conformer) Conform(dst []byte, class int64, record []byte, at Origin) ([]byte, ConformReport, error) {
	if err := c.own.doc.parse(record); err != nil {
		c.nothing(dst)
		return dst, ConformReport{}, err
	}
	return c.ConformRecord(dst, class, &c.own, at)
}

// ConformRecord is Conform for a record that is complete.
func (c *Conformer) ConformRecord(dst []byte, class int64, record *Record, at Origin) ([]byte, ConformReport, error) {
	c.doc = &record.doc
	c.nothing(dst)
	c.names.reset(len(c.doc.nodes))
	if class == 0 {
		var ok bool
		if class, ok = c.namedClass(); !ok {
			return dst, ConformReport{}, &ConformError{Path: "class_uid", Cause: "neither the mapping nor the record says which class it is"}
		}
	}
	if c.plan = c.planOf(class); c.plan == nil {
		return dst, ConformReport{}, &ConformError{Path: "class_uid", Cause: fmt.Sprintf("OCSF %s has no class %d", c.schema.facts.Version, class)}
	}
	c.at, c.slots, c.turns = at, c.slots[:0], c.turns[:0]
	c.useProfiles()
	for {
		c.rep = ConformReport{Class: class, Rest: len(at.Rest), Fixes: c.rep.Fixes[:0]}
		c.moved, c.text, c.slots, c.turns = c.moved[:0], c.text[:0], c.slots[:0], c.turns[:0]
		c.out = dst
		c.tree.reset(c.schema, len(dst))
		err := c.event()
		if err == nil {
			c.rep.Time = c.time.Millis
			return c.out, c.rep, nil
		}
		c.nothing(dst)
		// What a profile requires may be there and not be valid: then the event has to do
		// without the profile.
		off := err.profiles & c.on
		if off == 0 {
			return dst, ConformReport{}, err
		}
		c.switchOff(off)
	}
}

// nothing says that there is no event, or not yet.
func (c *Conformer) nothing(dst []byte) { c.out, c.base, c.tree.doubt = dst, len(dst), true }

// namedClass is class_uid of the record.
func (c *Conformer) namedClass() (int64, bool) {
	n := c.doc.member(0, "class_uid")
	if n < 0 {
		return 0, false
	}
	return parseInt(c.doc.text(&c.doc.nodes[n]))
}

// planOf returns nil for a class that the schema does not have.
func (c *Conformer) planOf(class int64) *classPlan {
	if p := c.classes[class]; p != nil {
		return p
	}
	it := c.schema.classes[class]
	if it == nil {
		return nil
	}
	at := func(name string) int32 { return it.names.find([]byte(name)) }
	p := &classPlan{class: it, categoryUID: at("category_uid"), categoryName: at("category_name"), classUID: at("class_uid"), className: at("class_name"),
		typeUID: at("type_uid"), typeName: at("type_name"), activityID: at("activity_id"), time: at("time"), timezone: at("timezone_offset"),
		meta: at("metadata"), unmapped: at("unmapped"), observables: at("observables")}
	for _, i := range []int32{p.activityID, p.typeUID, at("severity_id"), p.time, p.timezone, p.meta} {
		if i >= 0 {
			p.head = append(p.head, i)
		}
	}
	if p.meta >= 0 && it.attrs[p.meta].object != nil {
		p.planMetadata(it.attrs[p.meta].object)
	}
	p.category, p.uid = p.decision(p.categoryUID, it.category), p.decision(p.classUID, it.uid)
	for activity := range p.types {
		p.types[activity] = p.decision(p.typeUID, it.uid*100+int64(activity))
	}
	for _, i := range it.required {
		if it.attrs[i].profiles != 0 {
			p.profiled = append(p.profiled, i)
		}
	}
	c.classes[class] = p
	return p
}

// decision is the value of an id and its caption, if the schema has one.
func (p *classPlan) decision(at int32, id int64) decision {
	d := decision{id: strconv.FormatInt(id, 10)}
	if at >= 0 {
		d.caption = p.class.attrs[at].enum[d.id].Caption
	}
	return d
}

// event writes the event.
func (c *Conformer) event() *ConformError {
	p, it := c.plan, c.plan.class
	c.ownUnmapped()
	base := c.open(it, 0)
	event := c.begin('{')
	c.decided(base, p.categoryUID, p.categoryName, p.category)
	c.decided(base, p.classUID, p.className, p.uid)
	if c.findTime(base); c.time.Millis == Unknown {
		return c.missing(p.time)
	}
	for _, at := range p.head {
		switch at {
		case p.typeUID:
			c.typeUID(base)
		case p.meta:
			if err := c.metadata(base); err != nil {
				return err
			}
		case p.timezone:
			c.timezone(base)
		case p.time:
			c.member(c.plan.class, at)
			c.number(c.time.Millis)
			c.slots[base+int(at)] = written
		default:
			c.attribute(it, at, base)
			c.fill(it, at, base)
		}
	}
	c.members(it, 0, base)
	for _, at := range it.required {
		c.fill(it, at, base)
		if it.attrs[at].active(c.on) && c.slots[base+int(at)] != written {
			return c.missing(at)
		}
	}
	if cause := c.broken(it, base); cause != "" {
		e := &ConformError{Cause: it.name + " " + cause}
		e.because(c, "")
		return e
	}
	c.addObservables(base)
	if err := c.unmapped(); err != nil {
		return err
	}
	c.end(event)
	return nil
}

// missing is the error of a required attribute of the class.
func (c *Conformer) missing(at int32) *ConformError {
	a := &c.plan.class.attrs[at]
	e := &ConformError{Path: a.name, Cause: c.plan.class.name + " requires it, and the record does not give it", profiles: a.profiles}
	e.because(c, a.name)
	return e
}

// because adds what of the attribute was there and had no place.
func (e *ConformError) because(c *Conformer, path string) {
	var there []string
	for _, m := range c.moved[c.given:] {
		if p := string(c.text[m.path[0]:m.path[1]]); p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			there = append(there, fmt.Sprintf("%s is %q", p, clip(c.text[m.value[0]:m.value[1]])))
		}
	}
	if len(there) > 0 {
		e.Cause += "; what it gives is not valid there: " + strings.Join(there, ", ")
	}
}

// decided writes an id of the class and its caption, whatever the record says.
func (c *Conformer) decided(base int, id, name int32, d decision) {
	if id < 0 {
		return
	}
	if c.settled(base, id, d.id); d.caption != "" && name >= 0 {
		c.settled(base, name, d.caption)
	}
}

// settled writes a value of the class that the record does not decide.
func (c *Conformer) settled(base int, at int32, value string) {
	a := &c.plan.class.attrs[at]
	n := c.slots[base+int(at)]
	was := c.enter(a.name)
	c.replaced(n, value, "what the class decides")
	c.leave(was)
	c.slots[base+int(at)] = written
	c.member(c.plan.class, at)
	if a.typ.primitive == text {
		c.quoted(value)
		return
	}
	c.digits(value)
}

// replaced notes what becomes of a value that the record does not decide.
func (c *Conformer) replaced(n int32, value, what string) {
	switch {
	case n <= 0:
		c.filled(value)
	case c.doc.nodes[n].kind == '{' || c.doc.nodes[n].kind == '[':
		c.move(n, "replaced by "+value)
	case string(c.doc.text(&c.doc.nodes[n])) != value:
		c.cast(n, what)
	}
}

// typeUID writes type_uid and type_name behind activity_id.
func (c *Conformer) typeUID(base int) {
	p := c.plan
	if p.activityID < 0 || c.slots[base+int(p.activityID)] != written {
		return
	}
	if c.kind >= 0 && c.kind < smallIDs {
		c.decided(base, p.typeUID, p.typeName, p.types[c.kind])
		return
	}
	c.decided(base, p.typeUID, p.typeName, p.decision(p.typeUID, p.class.uid*100+c.kind))
}

// findTime finds the time of the event in the record, or else takes that of its origin.
func (c *Conformer) findTime(base int) {
	c.time = c.at.Time
	if n := c.slots[base+int(c.plan.time)]; n > 0 {
		was := c.enter("time")
		if v := &c.doc.nodes[n]; v.kind == '"' && c.at.Time.Millis != Unknown && bytes.Equal(c.doc.text(v), c.at.TimeText) {
			c.cast(n, "milliseconds") // it has been read
		} else if t, ok := c.instant(n); ok {
			if c.time = t; t.Millis == c.at.Time.Millis {
				c.time = c.at.Time
			}
		} else {
			c.move(n, "no time")
			c.slots[base+int(c.plan.time)] = 0
		}
		c.leave(was)
	}
}

func (c *Conformer) timezone(base int) {
	slot := &c.slots[base+int(c.plan.timezone)]
	c.attribute(c.plan.class, c.plan.timezone, base)
	if *slot == written || !c.time.Zoned {
		return
	}
	c.member(c.plan.class, c.plan.timezone)
	c.number(int64(c.time.Offset))
	*slot = written
}

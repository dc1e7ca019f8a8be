package mapping

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// Mode says what the records are.
type Mode string

const (
	Compat  Mode = "compat"  // what the library makes, bit for bit
	Conform Mode = "conform" // valid OCSF events
)

// Preprocessor names what makes an event of something else.
type Preprocessor string

const (
	None   Preprocessor = ""
	Sysmon Preprocessor = "sysmon" // the text of an event's Description becomes an object
	ALB    Preprocessor = "alb"    // a line of a load balancer's access log becomes an event
)

// Config is what a stream of events says besides its mapping file.
type Config struct {
	// Source is the name of the stream in the results.
	Source string
	// Preprocessor is applied to every event.
	Preprocessor Preprocessor
	// SourceField is the member of an envelope, or of its member metadata, that must be
	// Source. Without one any envelope is taken.
	SourceField string
	// UTCDay makes the event day that of the instant when a timestamp has an offset. The
	// library, and so the default, keeps the day that is written.
	UTCDay bool

	// Mode is Compat or Conform. What follows is for Conform alone.
	Mode Mode
	// Schema is what the events conform to.
	Schema *ocsf.Schema
	// Product stands in metadata.product of events whose mapping gives none.
	Product ocsf.Product
	// DropRest leaves out what no locator reads. Otherwise it goes to unmapped, unless the
	// file says rest: drop.
	DropRest bool
	// Fixes asks for the lists Mapped.Fixes and Mapped.Leftovers.
	Fixes bool
}

// DefaultConfig is the config of a mapping file: its own source name, envelopes that name
// it as source, no preprocessor.
func DefaultConfig(m *Mapping) Config {
	return Config{Source: m.source, SourceField: "source", Mode: Compat}
}

// Validate returns every problem.
func (c Config) Validate() error {
	var errs []error
	if c.Source == "" {
		errs = append(errs, errors.New("source: must not be empty"))
	}
	switch c.Preprocessor {
	case None, Sysmon, ALB:
	default:
		errs = append(errs, fmt.Errorf("preprocessor: %q is unknown; want sysmon, alb or none", c.Preprocessor))
	}
	switch {
	case c.Mode != Compat && c.Mode != Conform:
		errs = append(errs, fmt.Errorf("mode: %q is unknown; want compat or conform", c.Mode))
	case c.Mode == Conform && c.Schema == nil:
		errs = append(errs, errors.New("schema: conform needs one"))
	}
	return errors.Join(errs...)
}

// Reason says why an event was not mapped.
type Reason string

const (
	NoTimestamp    Reason = "no_timestamp"                 // absent or empty
	NoMatchedValue Reason = "no_matched_value"             // absent or empty
	NoMapping      Reason = "no_mapping_for_matched_value" // the file has nothing for the value
	Failed         Reason = "error"                        // what the library ends with an exception
	NotConform     Reason = "not_conform"                  // of Conform: no valid event can be made of it; Path is the attribute's
)

// Unmapped is an event that was not mapped: data for a port of its own, not a failure of
// the Mapper.
type Unmapped struct {
	Reason Reason
	File   string // the mapping file
	Path   string // the member of the mapping file that was at work, empty before any
	Cause  string
}

func (u *Unmapped) Error() string {
	if u.Path == "" {
		return fmt.Sprintf("%s: %s", u.File, u.Cause)
	}
	return fmt.Sprintf("%s: %s: %s", u.File, u.Path, u.Cause)
}

// Mapped is the result for one event.
type Mapped struct {
	Source   string
	Schema   string // name of the class, as the mapping file has it
	EventDay string // YYYYMMDD; years before 1000 have fewer digits, as in the library
	Record   []byte // a JSON object, valid until the next call
	// Absent counts attributes that are null because the event does not have the value.
	Absent int
	// Faults counts attributes that are null because the way to the value goes through
	// something that is no object.
	Faults int

	// What follows is of Conform alone, where Record is a valid event.
	Class  int64 // class_uid
	Time   int64 // event time, milliseconds
	Casts  int   // values that changed their form
	Filled int   // attributes that were derived
	Moved  int   // values that went to unmapped because they have no place in the class
	Rest   int   // values that went to unmapped because no locator read them
	// Of Config.Fixes, valid until the next call: what was changed, and the values of Rest.
	Fixes     []ocsf.Fix
	Leftovers []ocsf.Field
}

// Mapper maps the events of one stream. It is for one goroutine.
type Mapper struct {
	m    *Mapping
	cfg  Config
	doc  document
	root int32 // of the event

	record  []byte
	scratch []byte
	day     day
	dayText string
	absent  int
	faults  int

	conform *conforming // nil in Compat
}

// NewMapper returns a Mapper, or every problem of cfg.
func NewMapper(m *Mapping, cfg Config) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	out := &Mapper{m: m, cfg: cfg}
	if cfg.Mode == Compat {
		if m.native != "" {
			return nil, fmt.Errorf("%s: %s: a key of the mode conform: set the mode, or take the key out", m.file, m.native)
		}
		return out, nil
	}
	var err error
	out.conform, err = newConforming(m, cfg)
	return out, err
}

// Event maps one event, as JSON. The second result is nil if it was mapped.
func (m *Mapper) Event(event []byte) (Mapped, *Unmapped) {
	if u := m.parse(event); u != nil {
		return Mapped{}, u
	}
	return m.preprocessed()
}

// Validate checks the event that was mapped last, which the Validator then need not read. It
// must not have been changed.
func (m *Mapper) Validate(v *ocsf.Validator) (ocsf.Report, error) {
	if m.conform == nil {
		return v.Validate(m.record)
	}
	return v.ValidateConformed(m.conform.conformer)
}

// Line maps one line of a file, its line end included. Without a preprocessor a line that
// is no JSON becomes an event with the one member rawData.
func (m *Mapper) Line(line []byte) (Mapped, *Unmapped) {
	if f := m.doc.read(line); f != nil {
		return Mapped{}, m.failed("", f.Error())
	}
	switch m.cfg.Preprocessor {
	case ALB:
		m.doc.alb(span{0, int32(len(line))})
		m.root = 0
		return m.mapped()
	case Sysmon:
		return Mapped{}, m.failed("", "the preprocessor sysmon takes events, not lines")
	}
	if f := m.doc.parse(); f != nil {
		if f.limit {
			return Mapped{}, m.failed("", f.Error())
		}
		m.doc.rawData()
	}
	m.root = 0
	return m.mapped()
}

// Envelope maps the member message of an envelope, as JSON, or the envelope itself if it
// has no such member.
func (m *Mapper) Envelope(envelope []byte) (Mapped, *Unmapped) {
	if u := m.parse(envelope); u != nil {
		return Mapped{}, u
	}
	if m.doc.nodes[0].kind != object {
		return Mapped{}, m.failed("", "the envelope is no object")
	}
	if field := m.cfg.SourceField; field != "" && !m.names(0, field) {
		metadata := m.doc.member(0, "metadata")
		if metadata < 0 || m.doc.nodes[metadata].kind != object || !m.names(metadata, field) {
			return Mapped{}, m.failed("", fmt.Sprintf("%s of the envelope is not %s", field, m.cfg.Source))
		}
	}
	if n := m.doc.member(0, "message"); n >= 0 {
		m.root = n
	}
	return m.preprocessed()
}

// names tells whether a member of object n is the name of the source.
func (m *Mapper) names(n int32, field string) bool {
	n = m.doc.member(n, field)
	return n >= 0 && m.doc.nodes[n].kind == text && string(m.doc.bytes(m.doc.nodes[n].text)) == m.cfg.Source
}

func (m *Mapper) parse(b []byte) *Unmapped {
	f := m.doc.read(b)
	if f == nil {
		f = m.doc.parse()
	}
	if f != nil {
		return m.failed("", f.Error())
	}
	m.root = 0
	return nil
}

func (m *Mapper) failed(path, cause string) *Unmapped {
	return &Unmapped{Failed, m.m.file, path, cause}
}

// preprocessed maps what the preprocessor makes of the root.
func (m *Mapper) preprocessed() (Mapped, *Unmapped) {
	switch m.cfg.Preprocessor {
	case Sysmon:
		if cause := m.doc.sysmon(m.root); cause != "" {
			return Mapped{}, m.failed("", cause)
		}
	case ALB:
		line := &m.doc.nodes[m.root]
		if line.kind != text {
			return Mapped{}, m.failed("", "the preprocessor alb takes a line, not an event")
		}
		m.doc.alb(line.text)
		m.root = 0
	}
	return m.mapped()
}

const (
	timestampPath = "custom_source_events.timestamp.field"
	matchedPath   = "custom_source_events.matched_field"
)

// mapped maps the event at the root.
func (m *Mapper) mapped() (Mapped, *Unmapped) {
	if m.conform != nil {
		return m.conformed()
	}
	at, cause := m.find(&m.m.timestamp)
	if cause != "" {
		return Mapped{}, m.failed(timestampPath, cause)
	}
	if m.empty(at, m.m.timestamp.user) {
		return Mapped{}, &Unmapped{NoTimestamp, m.m.file, timestampPath, m.m.timestamp.text + " is absent or empty"}
	}
	on, cause := m.eventDay(at, m.m.timestamp.user)
	if cause != "" {
		return Mapped{}, m.failed(timestampPath, cause)
	}
	t, u := m.target()
	if u != nil {
		return Mapped{}, u
	}
	m.absent, m.faults = 0, 0
	m.record = m.object(m.record[:0], t.attrs)
	return Mapped{Source: m.cfg.Source, Schema: t.schema, EventDay: m.dayName(on), Record: m.record, Absent: m.absent, Faults: m.faults}, nil
}

// target finds what the file has for the matched value.
func (m *Mapper) target() (*target, *Unmapped) {
	at, cause := m.find(&m.m.matched)
	if cause != "" {
		return nil, m.failed(matchedPath, cause)
	}
	if m.empty(at, m.m.matched.user) {
		return nil, &Unmapped{NoMatchedValue, m.m.file, matchedPath, m.m.matched.text + " is absent or empty"}
	}
	key, cause := m.key(at, m.m.matched.user)
	if cause != "" {
		return nil, m.failed(matchedPath, cause)
	}
	t := m.m.targets[string(key)]
	if t == nil || key == nil {
		return nil, &Unmapped{NoMapping, m.m.file, "custom_source_events.ocsf_mapping", "nothing for " + m.shown(at)}
	}
	return t, nil
}

// find returns the node of a locator, -1 when the event does not have it, and a cause
// where the library has an exception.
func (m *Mapper) find(l *locator) (int32, string) {
	switch {
	case l.never:
		return -1, ""
	case l.fails:
		return -1, l.text + " has no name"
	case l.user:
		if m.doc.nodes[m.root].kind != object {
			return -1, l.text + ": the event is no object"
		}
		n := m.doc.member(m.root, l.parts[0])
		if n < 0 {
			return -1, l.text + " is absent"
		}
		return n, ""
	}
	n := m.root
	for _, part := range l.parts {
		if m.doc.nodes[n].kind != object {
			return -1, l.text + ": what has " + part + " is no object"
		}
		if n = m.doc.member(n, part); n < 0 || m.doc.nodes[n].kind == null {
			return -1, ""
		}
	}
	return n, ""
}

// empty tells whether a timestamp or matched value counts as absent. As text only the empty
// text does; with its own type also null, false, zero and what has no elements.
func (m *Mapper) empty(n int32, typed bool) bool {
	if n < 0 {
		return true
	}
	v := &m.doc.nodes[n]
	if v.kind == text {
		return v.text.from == v.text.to
	}
	if !typed {
		return false
	}
	switch v.kind {
	case null, no:
		return true
	case integer, float:
		return m.doc.double(v) == 0
	case list, object:
		return v.first == 0
	}
	return false
}

// eventDay returns the day of the timestamp at node n.
func (m *Mapper) eventDay(n int32, typed bool) (day, string) {
	v := &m.doc.nodes[n]
	if !m.m.layout.epoch {
		if typed && v.kind != text {
			return day{}, m.shown(n) + " is no text"
		}
		m.scratch = m.doc.appendText(m.scratch[:0], n)
		return m.m.layout.date(m.scratch, m.cfg.UTCDay)
	}
	var (
		s  int64
		ok bool
	)
	switch {
	case v.kind == text || v.kind == integer:
		s, ok = seconds(m.doc.bytes(v.text))
	case typed && v.kind == float:
		s, ok = wholeSeconds(m.doc.double(v))
	case typed && v.kind == yes:
		s, ok = 1, true
	}
	if !ok {
		return day{}, m.shown(n) + " is no number of seconds"
	}
	return epochDay(s)
}

// shown is node n for a message.
func (m *Mapper) shown(n int32) string {
	if v := &m.doc.nodes[n]; v.kind == list || v.kind == object {
		return "a list or object"
	}
	return clip(m.doc.appendText(nil, n))
}

// key returns the text under which node n is looked up, nil for a value that equals no text,
// and a cause where the library has an exception.
func (m *Mapper) key(n int32, typed bool) ([]byte, string) {
	switch v := &m.doc.nodes[n]; {
	case v.kind == text:
		return m.doc.bytes(v.text), ""
	case !typed:
		m.scratch = m.doc.appendText(m.scratch[:0], n)
		return m.scratch, ""
	case v.kind == list || v.kind == object:
		return nil, "a list or object has no key"
	}
	return nil, ""
}

// dayName is the day as text.
func (m *Mapper) dayName(d day) string {
	if d != m.day {
		m.day = d
		m.dayText = fmt.Sprintf("%s%02d%02d", strconv.Itoa(d.year), d.month, d.day)
	}
	return m.dayText
}

// object appends an object with the attributes.
func (m *Mapper) object(dst []byte, attrs []attribute) []byte {
	dst = append(dst, '{')
	for i := range attrs {
		if i > 0 {
			dst = append(dst, ',')
		}
		a := &attrs[i]
		dst = append(dst, a.name...)
		switch a.kind {
		case literal:
			dst = append(dst, a.literal...)
		case nested:
			dst = m.object(dst, a.attrs)
		case locate:
			dst = m.value(dst, &a.locator)
		case enum:
			dst = append(dst, m.choice(a)...)
		}
	}
	return append(dst, '}')
}

// value appends what the event has at a locator: text, or what it is with $.UserDefined.
func (m *Mapper) value(dst []byte, l *locator) []byte {
	n, cause := m.find(l)
	switch {
	case cause != "":
		m.faults++
		return append(dst, "null"...)
	case n < 0 || m.doc.nodes[n].kind == null:
		m.absent++
		return append(dst, "null"...)
	case l.user:
		return m.doc.appendJSON(dst, n)
	case m.doc.nodes[n].kind == text:
		return appendQuoted(dst, m.doc.bytes(m.doc.nodes[n].text))
	}
	m.scratch = m.doc.appendText(m.scratch[:0], n)
	return appendQuoted(dst, m.scratch)
}

// choice returns the value of an enum. An absent value is no key, so it has the other one.
func (m *Mapper) choice(a *attribute) []byte {
	n, cause := m.find(&a.locator)
	if cause == "" && n < 0 {
		return a.other
	}
	var key []byte
	if cause == "" {
		key, cause = m.key(n, a.locator.user)
	}
	if cause != "" {
		m.faults++
		return []byte("null")
	}
	if v, ok := a.values[string(key)]; ok && key != nil {
		return v
	}
	return a.other
}

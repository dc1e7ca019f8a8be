package ocsf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// Columns of rows that say what changed and when, besides time.
const (
	colKind      = "kind"
	colUID       = "uid"
	colEventCode = "event_code"
	colLastSeen  = "last_seen_time"
)

// StateSpec is what a feed adds to state events.
type StateSpec struct {
	// Device is the type of what changes its state, Entity the column that has its id.
	Device Enum
	Entity string
	// Activities are the changes that the extension has numbers for.
	Activities []StateActivity
	// Key names the columns that tell what has states apart of one entity and kind: a null
	// is left out of the uid.
	Key []string
	// Message appends the message of a row.
	Message func(s *State) func(dst []byte, row int) []byte
	// Attrs are more attributes of the class of the extension.
	Attrs func(s *State) []Attr
}

// StateActivity is a kind and event of rows, and the activity that they are.
type StateActivity struct {
	Kind, Event string
	Enum
}

// State gives a feed the columns of state rows while its mapper is built.
type State struct {
	*Inputs
	Config Config
	Entity *Input

	spec        StateSpec
	time        *Input
	kind, event *Input
	uid         *Input // nil: the rows have none
	keys        []*Input
	revision    *Input
}

// StateFields are the columns that all state rows begin with, but for the entity.
//
// time is when the state began, an event time. kind and event say what happened: geofence
// and exit. A null uid stands for state:<kind>:<entity and what else Key names>:<time>.
// event_code names the rule that saw it.
func StateFields() []arrow.Field {
	text := func(name string, null bool) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: null}
	}
	at := func(name string, null bool) arrow.Field {
		return arrow.Field{Name: name, Type: timestamp(), Nullable: null}
	}
	return []arrow.Field{
		at(colTime, false), text(colKind, false), text("event", false), text(colEventCode, true), text(colUID, true),
		text("prev_state", true), text("state", true), at(colLastSeen, true),
	}
}

// timestamp is the type of times in rows.
func timestamp() arrow.DataType {
	return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
}

// Revision is the last column of rows that results are made of.
func Revision() arrow.Field {
	return arrow.Field{Name: colRevision, Type: arrow.PrimitiveTypes.Int32}
}

// NewStateMapper maps changes of state to Device Inventory Info with an activity of its
// own, in dialect ext to Asset State Change. The columns of in are those of StateFields,
// the entity, and others in any order; _tm_revision is the last of the event.
func NewStateMapper(cfg Config, spec StateSpec, in *arrow.Schema) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newStateMapper(cfg, spec, in)
	if err != nil {
		return nil, fmt.Errorf("ocsf states: %w", err)
	}
	return m, nil
}

func newStateMapper(cfg Config, spec StateSpec, in *arrow.Schema) (*Mapper, error) {
	c, err := bindInputs(in)
	if err != nil {
		return nil, err
	}
	s := &State{Inputs: c, Config: cfg, spec: spec}
	if err := s.bind(); err != nil {
		return nil, err
	}
	class := DeviceInventory()
	if cfg.Dialect == Ext {
		class = cfg.AssetStateChange()
	}
	head, own := s.head(class), s.attrs()
	unmapped, err := s.unmapped(nil)
	if err != nil {
		return nil, err
	}
	return newMapper(c, slices.Concat(head, own, []Attr{unmapped}), []string{colRevision}), nil
}

func (s *State) bind() error {
	var errs []error
	need := func(name string, typ arrow.Type) *Input {
		c, err := s.need(name, typ)
		errs = append(errs, err)
		return c
	}
	s.time = need(colTime, arrow.TIMESTAMP)
	s.kind, s.event = need(colKind, arrow.STRING), need("event", arrow.STRING)
	s.Entity = need(s.spec.Entity, arrow.STRING)
	s.revision = need(colRevision, arrow.INT32)
	s.uid = s.TakeText(colUID)
	for _, name := range s.spec.Key {
		if in := s.Column(name); in != nil {
			s.keys = append(s.keys, in)
		}
	}
	return errors.Join(errs...)
}

// EntityText appends the entity.
func (s *State) EntityText(dst []byte, row int) ([]byte, bool) { return s.Entity.AppendText(dst, row) }

func (s *State) head(class Class) []Attr {
	var more []Attr
	if in := s.TakeText(colEventCode); in != nil {
		more = append(more, Attr{Name: "event_code", Text: in.AppendText})
	}
	known := func(row int) bool { _, ok := s.known(row); return ok }
	s.HeldIf(s.kind, known)
	s.HeldIf(s.event, known)
	e := event{
		cfg: s.Config, class: class, activityOf: s.activity, time: s.time.Int, uid: s.appendUID,
		sequence: Attr{Int32: sequence(s.revision), Required: true}, correlate: s.EntityText, metadata: more,
	}
	return e.head()
}

func (s *State) attrs() []Attr {
	var seen func(row int) (int64, bool)
	if in := s.TakeTime(colLastSeen); in != nil {
		seen = in.Int
	}
	out := []Attr{s.Device(s.Config.Version, s.spec.Device, s.EntityText, seen)}
	if s.Config.Dialect == Core {
		return append(out, said("message", s.spec.Message(s)), s.Config.observables(s.EntityText))
	}
	for _, a := range [...]struct{ name, column string }{{"prev_asset_state", "prev_state"}, {"asset_state", "state"}} {
		if in := s.TakeText(a.column); in != nil {
			out = append(out, Attr{Name: a.name, Text: in.AppendText})
		}
	}
	return append(out, s.spec.Attrs(s)...)
}

// known finds the activity of a row.
func (s *State) known(row int) (StateActivity, bool) {
	kind, event := s.kind.Text(row), s.event.Text(row)
	for _, a := range s.spec.Activities {
		if a.Kind == kind && a.Event == event {
			return a, true
		}
	}
	return StateActivity{}, false
}

// activity is that of the extension; the core has a number for none of them, and those that
// the extension has none for are told by unmapped.
func (s *State) activity(row int) Enum {
	a, ok := s.known(row)
	switch {
	case !ok:
		return Enum{99, "State Change"}
	case s.Config.Dialect == Core:
		return Other(a.Name)
	}
	return a.Enum
}

// ActivityName is the name of what happened in a row.
func (s *State) ActivityName(row int) string { return s.activity(row).Name }

// StateUID is the uid of a change of state that has none of its own; key is the entity, then what
// StateSpec.Key names.
func StateUID(kind string, at int64, key ...string) string {
	dst := append(append([]byte("state:"), kind...), ':')
	for i, k := range key {
		if i > 0 {
			dst = append(dst, '|')
		}
		from := len(dst)
		dst = escapeKey(append(dst, k...), from)
	}
	return string(appendMillis(append(dst, ':'), at))
}

// appendUID appends the row's own uid, else state:<kind>:<key>:<time in ms>, as windows
// have it.
func (s *State) appendUID(dst []byte, row int) ([]byte, bool) {
	if s.uid.Has(row) {
		return s.uid.AppendText(dst, row)
	}
	dst = append(dst, "state:"...)
	dst = append(append(dst, s.kind.Text(row)...), ':')
	from := len(dst)
	dst, _ = s.Entity.AppendText(dst, row)
	dst = escapeKey(dst, from)
	for _, k := range s.keys {
		if k.Has(row) {
			dst = append(dst, '|')
			from := len(dst)
			dst, _ = k.AppendText(dst, row)
			dst = escapeKey(dst, from)
		}
	}
	at, ok := s.time.micros(row)
	return appendMillis(append(dst, ':'), at), ok
}

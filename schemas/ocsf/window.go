package ocsf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Kind says how windows are cut.
type Kind string

const (
	Tumbling Kind = "tumbling"
	Hopping  Kind = "hopping"
	Cumulate Kind = "cumulate"
	Session  Kind = "session"
)

// WindowConfig is what a mapper of window results needs to know of the job.
type WindowConfig struct {
	Config
	Op   string // id of the window operator, part of metadata.uid
	Kind Kind   // sessions and cumulating windows have no fixed size, so their end is part of metadata.uid
}

// DefaultWindowConfig lacks Op, Topic and ProductVersion.
func DefaultWindowConfig() WindowConfig {
	return WindowConfig{Config: DefaultConfig(), Kind: Tumbling}
}

// Validate returns every problem.
func (c WindowConfig) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Op == "" {
		errs = append(errs, errors.New("ocsf op: must not be empty"))
	}
	switch c.Kind {
	case Tumbling, Hopping, Cumulate, Session:
	default:
		errs = append(errs, fmt.Errorf("ocsf window kind %q: want tumbling, hopping, cumulate or session", c.Kind))
	}
	return errors.Join(errs...)
}

// Names of the columns that results of every window have.
const (
	colStart    = "window_start"
	colEnd      = "window_end"
	colCount    = "count"
	colPane     = "_tm_pane"
	colRevision = "_tm_revision"
	colDeleted  = "_tm_del"
)

// Spec is what a feed adds to the attributes of every window event.
type Spec struct {
	Class    Class
	Activity Enum
	// Entity names the key column that the event is about; without it the first key
	// column is.
	Entity string
	// Attrs are the attributes of the class, built over the columns of w.
	Attrs func(w *Window) ([]Attr, error)
	// Message appends the message of a row. Without it only events that withdraw have one.
	Message func(w *Window) func(dst []byte, row int) []byte
	// Observables lists the entity as observable device.uid.
	Observables bool
	// ShowKind writes the kind of window to unmapped.
	ShowKind bool
}

// Window gives a feed the columns of the results while its mapper is built, and reads
// them while rows are mapped.
type Window struct {
	*Inputs
	Config WindowConfig
	// Entity is the key column that the event is about.
	Entity *Input

	keys       []*Input
	start, end *Input
	count      *Input // nil when the results have none
	pane       *Input
	revision   *Input
	additions  bool   // some results add to others: they have no revision
	deleted    *Input // nil when results are never withdrawn
	inWindow   bool   // attribute agg_window has the kind and the pane
}

// NewWindowMapper builds the mapper of one feed. The columns of in are the key columns,
// window_start, window_end, and behind them in any order the aggregates, late_count,
// _tm_pane and _tm_revision; the aggregate named count is the number of events. A row whose
// _tm_del is true withdraws the event of its window: it becomes an event with the same uid
// and the next sequence whose aggregates are null.
func NewWindowMapper(cfg WindowConfig, spec Spec, in *arrow.Schema) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newWindowMapper(cfg, spec, in)
	if err != nil {
		return nil, fmt.Errorf("ocsf %s of %s: %w", spec.Class.Name, cfg.Op, err)
	}
	return m, nil
}

func newWindowMapper(cfg WindowConfig, spec Spec, in *arrow.Schema) (*Mapper, error) {
	c, err := bindInputs(in)
	if err != nil {
		return nil, err
	}
	w := &Window{Inputs: c, Config: cfg}
	if err := w.bind(spec.Entity); err != nil {
		return nil, err
	}
	own, err := spec.Attrs(w)
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, f := range in.Fields() {
		if isKept(f.Name) && f.Name != colDeleted && f.Name != colRevision {
			kept = append(kept, f.Name)
			w.Take(f.Name)
		}
	}
	if w.deleted != nil {
		kept = append(kept, colDeleted)
	}
	head := w.head(spec)
	tail, err := w.tail(spec)
	if err != nil {
		return nil, err
	}
	return newMapper(c, slices.Concat(head, own, tail), append(kept, colRevision)), nil
}

// isKept tells whether a column of the results stays beside the event: those of the engine
// but the pane and the kind, which unmapped has.
func isKept(name string) bool {
	return strings.HasPrefix(name, "_tm_") && name != colPane && name != "_tm_kind"
}

// bind finds the columns that every result has.
func (w *Window) bind(entity string) error {
	var errs []error
	need := func(name string, typ arrow.Type) *Input {
		c, err := w.need(name, typ)
		errs = append(errs, err)
		return c
	}
	w.start, w.end = need(colStart, arrow.TIMESTAMP), need(colEnd, arrow.TIMESTAMP)
	w.pane, w.revision = need(colPane, arrow.STRING), need(colRevision, arrow.INT32)
	w.additions = w.revision != nil && w.revision.null
	if w.Column(colDeleted) != nil {
		w.deleted = need(colDeleted, arrow.BOOL)
	}
	if w.Column(colCount) != nil {
		w.count = need(colCount, arrow.INT64)
		if w.count.scale != 0 {
			errs = append(errs, fmt.Errorf("column %q: scale %d, want a whole number", colCount, w.count.scale))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	w.keys = w.All()[:w.start.at]
	for _, k := range w.keys {
		if k.Name == entity {
			w.Entity = k
		}
	}
	if len(w.keys) == 0 {
		return fmt.Errorf("no key column before window_start: group by %s, an event needs something that it is about", entity)
	}
	if w.Entity == nil {
		w.Entity = w.keys[0]
	}
	w.Take(w.Entity.Name)
	return nil
}

// Count is the number of events of a row, false when the results do not say.
func (w *Window) Count(row int) (int64, bool) { return w.count.Int(row) }

// Start, End and Duration are in milliseconds.
func (w *Window) Start(row int) (int64, bool) { return w.start.Int(row) }
func (w *Window) End(row int) (int64, bool)   { return w.end.Int(row) }
func (w *Window) Duration(row int) (int64, bool) {
	s, okS := w.start.Int(row)
	e, okE := w.end.Int(row)
	return e - s, okS && okE
}

// Span are the members of traffic that say when it passed: start_time, end_time and
// timespan. There are none before 1.8.0.
func (w *Window) Span() []Attr {
	if w.Config.Version != V180 {
		return nil
	}
	return []Attr{
		{Name: "start_time", Int64: w.Start},
		{Name: "end_time", Int64: w.End},
		timespan(w.Start, w.End, w.Duration),
	}
}

// EntityText appends the entity.
func (w *Window) EntityText(dst []byte, row int) ([]byte, bool) { return w.Entity.AppendText(dst, row) }

// Device is the attribute of the entity; last_event_time tells when it was heard last.
func (w *Window) Device(typ Enum) Attr {
	var seen func(row int) (int64, bool)
	if last := w.Column("last_event_time"); last != nil && last.IsInt() {
		seen = last.Int
	}
	return w.Inputs.Device(w.Config.Version, typ, w.EntityText, seen)
}

// AggWindow is attribute agg_window of the extension. It takes late_count,
// first_event_time and last_event_time.
func (w *Window) AggWindow() Attr {
	w.inWindow = true
	kind := w.Config.Kind.windowType()
	of := []Attr{
		{Name: "start_time", Int64: w.Start, Required: true},
		{Name: "end_time", Int64: w.End, Required: true},
		{Name: "window_type_id", Fixed: kind.ID},
		{Name: "window_type", Fixed: kind.Name},
	}
	of = append(of, enumAttrs("firing", func(row int) Enum { return firing(w.pane.Text(row)) }, false)...)
	of = append(of, Attr{Name: "pane", Int32: sequence(w.revision)})
	if late := w.TakeWhole("late_count"); late != nil {
		of = append(of, Attr{Name: "late_count", Int32: w.small(late)})
	}
	for _, name := range [...]string{"first_event_time", "last_event_time"} {
		if in := w.TakeTime(name); in != nil {
			of = append(of, Attr{Name: name, Int64: in.Int})
		}
	}
	return Attr{Name: "agg_window", Of: of}
}

// windowType is the kind as agg_window has it.
func (k Kind) windowType() Enum {
	switch k {
	case Tumbling:
		return Enum{1, "Tumbling"}
	case Hopping:
		return Enum{2, "Sliding"}
	case Session:
		return Enum{3, "Session"}
	}
	return Other(string(k))
}

// firing is a pane as agg_window has it: what made the window emit.
func firing(pane string) Enum {
	switch pane {
	case "early":
		return Enum{1, "Early"}
	case "on_time":
		return Enum{2, "On Time"}
	case "late":
		return Enum{3, "Late"}
	}
	return Other(pane)
}

// head has the attributes up to those of the class.
func (w *Window) head(spec Spec) []Attr {
	e := event{
		cfg: w.Config.Config, class: spec.Class, activity: spec.Activity, time: w.Start, uid: w.uid,
		sequence: Attr{Int32: sequence(w.revision), Required: !w.additions}, correlate: w.EntityText,
	}
	return append(e.head(),
		Attr{Name: "count", Int32: w.small(w.count)},
		Attr{Name: "start_time", Int64: w.Start, Required: true},
		Attr{Name: "end_time", Int64: w.End, Required: true},
		w.Config.duration(w.Duration))
}

// tail has the attributes behind those of the class.
func (w *Window) tail(spec Spec) ([]Attr, error) {
	var out []Attr
	if spec.Message != nil {
		message := spec.Message(w)
		out = append(out, Attr{Name: "message", Text: func(dst []byte, row int) ([]byte, bool) {
			if w.deleted.Bool(row) {
				dst = append(dst, "withdrawn: "...)
			}
			return message(dst, row), true
		}, Required: true})
	} else if w.deleted != nil {
		out = append(out, Attr{Name: "message", Text: func(dst []byte, row int) ([]byte, bool) {
			return append(dst, "withdrawn"...), w.deleted.Bool(row)
		}})
	}
	if spec.Observables {
		out = append(out, w.Config.observables(w.EntityText))
	}
	var reserved []string
	if !w.inWindow {
		reserved = []string{"window", "firing"}
	}
	unmapped, err := w.unmapped(func(m *Pairs, row int) {
		if !w.inWindow {
			if spec.ShowKind {
				m.AddText("window", string(w.Config.Kind))
			}
			w.pane.add(m, "firing", row)
		}
		w.Config.keepDuration(m, w.Duration, row)
	}, reserved...)
	return append(out, unmapped), err
}

// uid appends agg:<op>:<key>:<start>, with -<end> where windows have no fixed size, in
// milliseconds with three digits behind the point where that is not whole: a session may
// give way to one that differs by less. Several key columns are joined by |; a % or | inside a key is escaped as in URLs, and a null is %00, so that
// different keys never share a uid.
func (w *Window) uid(dst []byte, row int) ([]byte, bool) {
	dst = append(dst, "agg:"...)
	dst = append(dst, w.Config.Op...)
	dst = append(dst, ':')
	for i, k := range w.keys {
		if i > 0 {
			dst = append(dst, '|')
		}
		from := len(dst)
		var ok bool
		if dst, ok = k.AppendText(dst, row); !ok {
			dst = append(dst, "%00"...)
			continue
		}
		dst = escapeKey(dst, from)
	}
	start, okS := w.start.micros(row)
	dst = appendMillis(append(dst, ':'), start)
	end, okE := w.end.micros(row)
	if w.Config.Kind == Session || w.Config.Kind == Cumulate {
		dst = appendMillis(append(dst, '-'), end)
	}
	return dst, okS && okE
}

// appendMillis appends a time in microseconds as milliseconds.
func appendMillis(dst []byte, us int64) []byte {
	if us%1000 == 0 {
		return strconv.AppendInt(dst, us/1000, 10)
	}
	abs := uint64(us)
	if us < 0 {
		dst, abs = append(dst, '-'), -abs
	}
	return fmt.Appendf(dst, "%d.%03d", abs/1000, abs%1000)
}

// escapeKey escapes dst[from:].
func escapeKey(dst []byte, from int) []byte {
	special := func(c byte) bool { return c == '%' || c == '|' }
	if !slices.ContainsFunc(dst[from:], special) {
		return dst
	}
	key := slices.Clone(dst[from:])
	dst = dst[:from]
	for _, c := range key {
		if special(c) {
			dst = fmt.Appendf(dst, "%%%02X", c)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// AppendDuration writes the largest unit that divides ms; one day is 24 h.
func AppendDuration(dst []byte, ms int64) []byte {
	if ms == 86400000 {
		return append(dst, "24 h"...)
	}
	for _, u := range [...]struct {
		ms   int64
		name string
	}{{86400000, " d"}, {3600000, " h"}, {60000, " min"}, {1000, " s"}} {
		if ms != 0 && ms%u.ms == 0 {
			return append(strconv.AppendInt(dst, ms/u.ms, 10), u.name...)
		}
	}
	return append(strconv.AppendInt(dst, ms, 10), " ms"...)
}

// AppendCount appends "1 reading" or "30 readings".
func AppendCount(dst []byte, n int64, what string) []byte {
	dst = strconv.AppendInt(dst, n, 10)
	dst = append(dst, ' ')
	dst = append(dst, what...)
	if n != 1 {
		dst = append(dst, 's')
	}
	return dst
}

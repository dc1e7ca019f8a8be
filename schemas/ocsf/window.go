package ocsf

import (
	"errors"
	"fmt"
	"math"
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
	Op             string  // id of the window operator, part of metadata.uid
	Topic          string  // metadata.log_name
	Version        Version // of the OCSF schema
	ProductVersion string  // metadata.product.version: Tidemark's own
	Feature        string  // metadata.product.feature.name: the job or operator
	Kind           Kind    // sessions and cumulating windows have no fixed size, so their end is part of metadata.uid
}

// DefaultWindowConfig lacks Op, Topic and ProductVersion.
func DefaultWindowConfig() WindowConfig {
	return WindowConfig{Version: V130, Feature: "normalize", Kind: Tumbling}
}

// Validate returns every problem.
func (c WindowConfig) Validate() error {
	errs := []error{c.Version.Validate()}
	for _, s := range [...]struct{ name, value string }{
		{"op", c.Op}, {"topic", c.Topic}, {"product_version", c.ProductVersion}, {"feature", c.Feature},
	} {
		if s.value == "" {
			errs = append(errs, fmt.Errorf("ocsf %s: must not be empty", s.name))
		}
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
	// Message appends the message of a row.
	Message func(w *Window) func(dst []byte, row int) []byte
	// Observables lists the entity as observable device.uid.
	Observables bool
	// ShowKind writes the kind of window to unmapped.
	ShowKind bool
}

// Window gives a feed the columns of the results while its mapper is built, and reads
// them while rows are mapped. Columns that nobody takes end in unmapped.
type Window struct {
	Config WindowConfig
	// Entity is the key column that the event is about.
	Entity *Input

	schema     *arrow.Schema
	byName     map[string]*Input
	keys       []*Input
	start, end *Input
	count      *Input // nil when the results have none
	pane       *Input
	revision   *Input
	additions  bool   // some results add to others: they have no revision
	deleted    *Input // nil when results are never withdrawn
	taken      map[string]bool
	rest       []*Input
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
	w := &Window{Config: cfg, schema: in, byName: map[string]*Input{}, taken: map[string]bool{}}
	if err := w.bind(spec.Entity); err != nil {
		return nil, fmt.Errorf("ocsf %s of %s: %w", spec.Class.Name, cfg.Op, err)
	}
	own, err := spec.Attrs(w)
	if err != nil {
		return nil, fmt.Errorf("ocsf %s of %s: %w", spec.Class.Name, cfg.Op, err)
	}
	attrs := slices.Concat(w.head(spec), own, w.tail(spec))
	m := &Mapper{in: in, attrs: attrs}
	for i, f := range in.Fields() {
		if c := w.byName[f.Name]; kept(f.Name) && c != w.deleted && c != w.revision {
			m.kept = append(m.kept, i)
			w.taken[f.Name] = true
		}
	}
	if w.deleted != nil {
		m.kept = append(m.kept, w.deleted.at)
	}
	m.kept = append(m.kept, w.revision.at)
	for _, f := range in.Fields() {
		m.inputs = append(m.inputs, w.byName[f.Name])
		if !w.taken[f.Name] {
			if f.Name == "window" || f.Name == "firing" {
				return nil, fmt.Errorf("ocsf %s of %s: column %q: unmapped has an entry of that name; give the aggregate another one", spec.Class.Name, cfg.Op, f.Name)
			}
			w.rest = append(w.rest, w.byName[f.Name])
		}
	}
	fields := make([]arrow.Field, len(attrs), len(attrs)+len(m.kept))
	for i := range attrs {
		fields[i] = attrs[i].Field()
	}
	for _, at := range m.kept {
		fields = append(fields, in.Field(at))
	}
	m.schema = arrow.NewSchema(fields, nil)
	return m, nil
}

// kept tells whether a column of the results stays beside the event: those of the engine
// but the pane and the kind, which unmapped has.
func kept(name string) bool {
	return strings.HasPrefix(name, "_tm_") && name != colPane && name != "_tm_kind"
}

// bind finds the columns that every result has.
func (w *Window) bind(entity string) error {
	var errs []error
	for i, f := range w.schema.Fields() {
		c, err := newInput(w.schema, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if w.byName[f.Name] != nil {
			errs = append(errs, fmt.Errorf("column %q: the name is used twice", f.Name))
		}
		w.byName[f.Name] = c
	}
	need := func(name string, typ arrow.Type) *Input {
		c := w.Take(name)
		if c == nil {
			errs = append(errs, fmt.Errorf("column %q: the results have none", name))
		} else if c.typ.ID() != typ {
			errs = append(errs, fmt.Errorf("column %q: type %s, want %s", name, c.typ, typ))
		}
		return c
	}
	w.start, w.end = need(colStart, arrow.TIMESTAMP), need(colEnd, arrow.TIMESTAMP)
	w.pane, w.revision = need(colPane, arrow.STRING), need(colRevision, arrow.INT32)
	w.additions = w.revision != nil && w.revision.null
	if w.byName[colDeleted] != nil {
		w.deleted = need(colDeleted, arrow.BOOL)
	}
	if w.byName[colCount] != nil {
		w.count = need(colCount, arrow.INT64)
		if w.count.scale != 0 {
			errs = append(errs, fmt.Errorf("column %q: scale %d, want a whole number", colCount, w.count.scale))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, f := range w.schema.Fields()[:w.start.at] {
		w.keys = append(w.keys, w.byName[f.Name])
		if f.Name == entity {
			w.Entity = w.byName[f.Name]
		}
	}
	if len(w.keys) == 0 {
		return fmt.Errorf("no key column before window_start: group by %s, an event needs something that it is about", entity)
	}
	if w.Entity == nil {
		w.Entity = w.keys[0]
	}
	w.taken[w.Entity.Name] = true
	return nil
}

// Column returns a column of the results, nil when there is none. It goes to unmapped all
// the same.
func (w *Window) Column(name string) *Input { return w.byName[name] }

// Take is Column for one that an attribute holds, so that unmapped need not.
func (w *Window) Take(name string) *Input {
	c := w.byName[name]
	if c != nil {
		w.taken[name] = true
	}
	return c
}

// TakeInt is Take for a column of whole numbers or times.
func (w *Window) TakeInt(name string) (*Input, error) {
	c := w.Take(name)
	if c != nil && !c.IsInt() {
		return nil, fmt.Errorf("column %q: type %s with scale %d, want a whole number", name, c.typ, c.scale)
	}
	return c, nil
}

// Columns returns the columns of the results in order.
func (w *Window) Columns() []*Input {
	out := make([]*Input, w.schema.NumFields())
	for i, f := range w.schema.Fields() {
		out[i] = w.byName[f.Name]
	}
	return out
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

// EntityText appends the entity.
func (w *Window) EntityText(dst []byte, row int) ([]byte, bool) { return w.Entity.AppendText(dst, row) }

// small narrows to integer_t; what does not fit is null, and unmapped has it.
func small(f func(row int) (int64, bool)) func(row int) (int32, bool) {
	return func(row int) (int32, bool) {
		v, ok := f(row)
		if !ok || v < math.MinInt32 || v > math.MaxInt32 {
			return 0, false
		}
		return int32(v), true
	}
}

// head has the attributes up to those of the class.
func (w *Window) head(spec Spec) []Attr {
	severity := Informational()
	duration := Attr{Name: "duration", Int64: w.Duration}
	if w.Config.Version == V110 { // integer_t until 1.2.0
		duration = Attr{Name: "duration", Int32: small(w.Duration)}
	}
	return []Attr{
		{Name: "category_uid", Fixed: spec.Class.Category.ID},
		{Name: "category_name", Fixed: spec.Class.Category.Name},
		{Name: "class_uid", Fixed: spec.Class.ID},
		{Name: "class_name", Fixed: spec.Class.Name},
		{Name: "activity_id", Fixed: spec.Activity.ID},
		{Name: "activity_name", Fixed: spec.Activity.Name},
		{Name: "type_uid", Fixed: spec.Class.TypeUID(spec.Activity)},
		{Name: "type_name", Fixed: spec.Class.TypeName(spec.Activity)},
		{Name: "severity_id", Fixed: severity.ID},
		{Name: "severity", Fixed: severity.Name},
		{Name: "time", Int64: w.Start, Required: true},
		{Name: "timezone_offset", Fixed: int32(0)},
		{Name: "metadata", Of: []Attr{
			{Name: "version", Fixed: string(w.Config.Version)},
			{Name: "product", Of: []Attr{
				{Name: "name", Fixed: "Tidemark"},
				{Name: "vendor_name", Fixed: "Tidemark"},
				{Name: "version", Fixed: w.Config.ProductVersion},
				{Name: "feature", Of: []Attr{{Name: "name", Fixed: w.Config.Feature}}},
			}},
			{Name: "uid", Text: w.uid, Required: true},
			{Name: "sequence", Int32: w.sequence, Required: !w.additions},
			{Name: "log_name", Fixed: w.Config.Topic},
			{Name: "log_provider", Fixed: "kafka"},
			{Name: "correlation_uid", Text: w.EntityText},
		}},
		{Name: "count", Int32: small(w.Count)},
		{Name: "start_time", Int64: w.Start, Required: true},
		{Name: "end_time", Int64: w.End, Required: true},
		duration,
	}
}

// tail has the attributes behind those of the class.
func (w *Window) tail(spec Spec) []Attr {
	message := spec.Message(w)
	out := []Attr{{Name: "message", Text: func(dst []byte, row int) ([]byte, bool) {
		if w.deleted.Bool(row) {
			dst = append(dst, "withdrawn: "...)
		}
		return message(dst, row), true
	}, Required: true}}
	if spec.Observables {
		typ := w.Config.Version.DeviceUID()
		out = append(out, Attr{Name: "observables", List: true, Of: []Attr{
			{Name: "name", Fixed: "device.uid"},
			{Name: "type_id", Fixed: typ.ID},
			{Name: "type", Fixed: typ.Name},
			{Name: "value", Text: w.EntityText},
		}})
	}
	return append(out, Attr{Name: "unmapped", Map: func(m *Pairs, row int) { w.unmapped(m, row, spec.ShowKind) }})
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

// sequence counts the firings of a window from 0.
func (w *Window) sequence(row int) (int32, bool) {
	rev, ok := w.revision.Int(row)
	return int32(rev - 1), ok && rev > math.MinInt32
}

// unmapped adds what no attribute holds.
func (w *Window) unmapped(m *Pairs, row int, showKind bool) {
	if showKind {
		m.AddText("window", string(w.Config.Kind))
	}
	m.Add("firing", func(dst []byte) ([]byte, bool) { return w.pane.AppendText(dst, row) })
	for _, c := range w.rest {
		m.Add(c.Name, func(dst []byte) ([]byte, bool) { return c.AppendText(dst, row) })
	}
	if n, ok := w.Count(row); ok && (n < math.MinInt32 || n > math.MaxInt32) {
		m.Add(colCount, func(dst []byte) ([]byte, bool) { return strconv.AppendInt(dst, n, 10), true })
	}
	if n, ok := w.Duration(row); ok && w.Config.Version == V110 && n > math.MaxInt32 {
		m.Add("duration", func(dst []byte) ([]byte, bool) { return strconv.AppendInt(dst, n, 10), true })
	}
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

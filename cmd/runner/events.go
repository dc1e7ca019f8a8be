package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
	topics "github.com/tidemark/tidemark/sinks/kafka"
)

// MappingConfig says how records become OCSF events.
type MappingConfig struct {
	// File is a mapping file of the AWS transformation library, or one of ours.
	File string `yaml:"file"`
	// Mode conform makes valid events, compat exactly those of the library.
	Mode mapping.Mode `yaml:"mode"`
	// Input says what a record is.
	Input        Input                `yaml:"input"`
	Preprocessor mapping.Preprocessor `yaml:"preprocessor"`
	// Source is the name of the stream that envelopes have in SourceField; the source_name of
	// the file unless said otherwise.
	Source      string `yaml:"source"`
	SourceField string `yaml:"source_field"`
	// UTCDay of compat makes the event day that of the instant, whatever the offset.
	UTCDay bool `yaml:"utc_day"`
	// OnInvalid says what becomes of an event that is no valid OCSF.
	OnInvalid InvalidPolicy `yaml:"on_invalid"`
	// Schemas are compiled schema files, folders of extensions, or tidemark, as those of
	// `ocsf validate --schema`.
	Schemas []string `yaml:"schemas"`
	// Columns are the attributes that get columns, by class; those that the mapping file can
	// fill unless said otherwise. What has no column is in unmapped.
	Columns map[string][]string `yaml:"columns"`
}

func (c *MappingConfig) setDefaults() {
	c.Mode, c.Input, c.OnInvalid, c.SourceField = mapping.Conform, InputEvent, InvalidDead, "source"
}

// Input says what a record is.
type Input string

const (
	InputEvent    Input = "event"    // the event as JSON, or what the preprocessor takes
	InputLine     Input = "line"     // a line of a log
	InputEnvelope Input = "envelope" // an object whose member message is the event
)

// InvalidPolicy says what becomes of an event that is no valid OCSF.
type InvalidPolicy string

const (
	InvalidDead InvalidPolicy = "dead" // it leaves with the dead records
	InvalidPass InvalidPolicy = "pass" // it goes on and is counted
	InvalidStop InvalidPolicy = "stop" // it stops the job
)

// Validate returns every problem that can be seen without the file.
func (c *MappingConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.File == "" {
		bad("file: name the mapping file; examples/mappings has one")
	}
	switch c.Input {
	case InputEvent, InputLine, InputEnvelope:
	default:
		bad("input %q: want event, line or envelope", c.Input)
	}
	switch c.OnInvalid {
	case InvalidDead, InvalidPass, InvalidStop:
	default:
		bad("on_invalid %q: want dead, pass or stop", c.OnInvalid)
	}
	if c.Mode == mapping.Compat && (c.Columns != nil || c.Schemas != nil) {
		bad("mode: compat keeps events as they are: columns and schemas belong to conform")
	}
	return errors.Join(errs...)
}

// Columns of mapped records.
const (
	colEventTime = "event_time"
	colClass     = "class_uid"
	colEvent     = "event"
)

// events is what a job with a mapping file makes of its records.
type events struct {
	cfg     MappingConfig
	topic   string
	mapping *mapping.Mapping
	schema  *ocsf.Schema
	classes []eventClass  // none in compat mode
	metrics *eventMetrics // nil: not counted
}

// eventClass is a class of events and its table.
type eventClass struct {
	name    string
	columns ocsf.ColumnsConfig
	schema  *arrow.Schema
}

// newEvents reads the mapping file and the schemas of a job. The error has every problem.
func newEvents(cfg Config) (*events, error) {
	e := &events{cfg: *cfg.Mapping, topic: cfg.Source.Kafka.Topic}
	errs := []error{e.cfg.Validate()}
	if e.cfg.File == "" {
		return nil, errors.Join(errs...)
	}
	conform := e.cfg.Mode != mapping.Compat
	err := e.compile(conform)
	errs = append(errs, err)
	if conform {
		var serr error
		e.schema, serr = jobSchema(e.cfg.Schemas, cfg.Normalize.Version)
		errs = append(errs, serr)
		err = errors.Join(err, serr)
	}
	if err == nil { // what follows needs both
		_, err = e.mapper()
		errs = append(errs, err)
	}
	if err == nil && conform {
		errs = append(errs, e.findClasses())
	}
	return e, errors.Join(errs...)
}

// compile reads the mapping file; that of the library with its mistakes.
func (e *events) compile(conform bool) error {
	text, err := os.ReadFile(e.cfg.File)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	compile := mapping.CompileConform
	if !conform {
		compile = mapping.CompileLenient
	}
	e.mapping, err = compile(e.cfg.File, text)
	return err
}

// jobSchema returns the schema of one version.
func jobSchema(names []string, version ocsf.Version) (*ocsf.Schema, error) {
	all, err := loadSchemas(names)
	if err != nil {
		return nil, fmt.Errorf("schemas: %w", err)
	}
	var there []string
	for _, s := range all {
		if s.Version() == version {
			return s, nil
		}
		there = append(there, string(s.Version()))
	}
	return nil, fmt.Errorf("schemas: normalize.version is %s, and there is %s", version, strings.Join(there, ", "))
}

// loadSchemas reads compiled schemas, those that are built in unless a file is named, and
// merges extensions in.
func loadSchemas(names []string) ([]*ocsf.Schema, error) {
	var all []*ocsf.Schema
	var extensions []fs.FS
	for _, name := range names {
		if name == "tidemark" {
			extensions = append(extensions, ocsf.Tidemark())
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, errors.Unwrap(err))
		}
		if info.IsDir() {
			extensions = append(extensions, os.DirFS(name))
			continue
		}
		s, err := readSchema(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		for _, v := range ocsf.Versions() {
			s, err := ocsf.NewSchema(v)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	for i := range all {
		for _, e := range extensions {
			var err error
			if all[i], err = all[i].Merge(e); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func readSchema(name string) (*ocsf.Schema, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return ocsf.ReadSchema(f)
}

// findClasses decides on the tables.
func (e *events) findClasses() error {
	classes, err := e.mapping.Classes(e.schema)
	if err != nil {
		return err
	}
	var errs []error
	known := map[string]bool{}
	for _, c := range classes {
		known[c.Name] = true
		columns := ocsf.ColumnsConfig{Class: c.UID, Profiles: c.Profiles, Paths: c.Paths}
		if own, ok := e.cfg.Columns[c.Name]; ok {
			columns.Paths = own
		}
		table, err := ocsf.NewColumns(e.schema, columns)
		if err != nil {
			errs = append(errs, fmt.Errorf("columns: %w", err))
			continue
		}
		e.classes = append(e.classes, eventClass{c.Name, columns, table.Schema()})
	}
	for name := range e.cfg.Columns {
		if !known[name] {
			errs = append(errs, fmt.Errorf("columns: %s gives no events of class %s", e.cfg.File, name))
		}
	}
	return errors.Join(errs...)
}

// class returns the class whose events leave by a port.
func (e *events) class(port pipeline.Port) (eventClass, bool) {
	if e == nil || len(e.classes) == 0 || port < pipeline.Side(0) {
		return eventClass{}, false
	}
	return e.classes[port-pipeline.Side(0)], true
}

// mapper makes the mapper of one decoder.
func (e *events) mapper() (*mapping.Mapper, error) {
	cfg := mapping.DefaultConfig(e.mapping)
	cfg.Source = cmp.Or(e.cfg.Source, cfg.Source)
	cfg.SourceField, cfg.Preprocessor, cfg.UTCDay = e.cfg.SourceField, e.cfg.Preprocessor, e.cfg.UTCDay
	cfg.Mode, cfg.Schema, cfg.Product = e.cfg.Mode, e.schema, jobProduct()
	return mapping.NewMapper(e.mapping, cfg)
}

// jobProduct stands in events whose mapping names no product.
func jobProduct() ocsf.Product {
	return ocsf.Product{Name: "Tidemark", Vendor: "Tidemark", Version: version}
}

// rows makes the rows of one decoder.
func (e *events) rows(mem memory.Allocator) (operators.Rows, error) {
	m, err := e.mapper()
	if err != nil {
		return nil, err
	}
	r := eventRows{events: e, mapper: m}
	if e.cfg.Mode == mapping.Compat {
		r.fields = []arrow.Field{{Name: colEventTime, Type: pipeline.Timestamp}, {Name: "source", Type: arrow.BinaryTypes.String},
			{Name: "class", Type: arrow.BinaryTypes.String}, {Name: "event_day", Type: arrow.BinaryTypes.String}, {Name: colEvent, Type: arrow.BinaryTypes.String}}
		r.columns = array.NewRecordBuilder(mem, arrow.NewSchema(r.fields, nil))
		return &compatRows{r}, nil
	}
	r.fields = []arrow.Field{{Name: colEventTime, Type: pipeline.Timestamp}, {Name: colClass, Type: arrow.PrimitiveTypes.Int64}, {Name: colEvent, Type: arrow.BinaryTypes.Binary}}
	r.columns = array.NewRecordBuilder(mem, arrow.NewSchema(r.fields, nil))
	c := &conformRows{eventRows: r, validator: e.schema.Validator()}
	if e.cfg.OnInvalid == InvalidPass {
		for _, class := range e.classes {
			table, err := ocsf.NewColumns(e.schema, class.columns)
			if err != nil {
				return nil, err
			}
			c.fits = append(c.fits, table)
		}
	}
	return c, nil
}

// chain makes the operators of one shard.
func (e *events) chain(rows *arrow.Schema, mem memory.Allocator) ([]pipeline.Operator, error) {
	if len(e.classes) == 0 {
		return []pipeline.Operator{operators.NewEach(mem)}, nil
	}
	var classes []operators.Class
	for _, c := range e.classes {
		table, err := ocsf.NewColumns(e.schema, c.columns)
		if err != nil {
			return nil, err
		}
		classes = append(classes, operators.Class{ID: c.columns.Class, Table: classTable{table}})
	}
	d, err := operators.NewDispatch(colClass, colEvent, rows, classes)
	return []pipeline.Operator{d}, err
}

// classTable is a table as operators take it.
type classTable struct{ table *ocsf.Columns }

// Append implements operators.Rows.
func (t classTable) Append(event []byte) error { return t.table.Append(event) }

// Fields implements operators.Rows.
func (t classTable) Fields() []arrow.Field { return t.table.Schema().Fields() }

// Columns implements operators.Rows.
func (t classTable) Columns() []arrow.Array {
	rec := t.table.NewRecordBatch()
	defer rec.Release()
	cols := slices.Clone(rec.Columns())
	for _, c := range cols {
		c.Retain()
	}
	return cols
}

// refusal is an event that leaves with the dead records.
type refusal struct{ reason, text string }

func (r *refusal) Error() string { return r.text }

// DeadReason is what operators.Decode asks for.
func (r *refusal) DeadReason() string { return r.reason }

// Reasons of refusals; those of the mapper stand beside them.
const (
	reasonInvalid = "invalid_event" // no valid OCSF
	reasonNoRow   = "no_row"        // not valid, and nothing that the columns of its class can hold
)

// eventRows is what both modes share.
type eventRows struct {
	*events
	mapper  *mapping.Mapper
	fields  []arrow.Field
	columns *array.RecordBuilder
}

// Fields implements operators.Rows.
func (r *eventRows) Fields() []arrow.Field { return r.fields }

// Columns implements operators.Rows.
func (r *eventRows) Columns() []arrow.Array {
	out := make([]arrow.Array, len(r.fields))
	for i := range out {
		out[i] = r.columns.Field(i).NewArray()
	}
	return out
}

// mapRecord maps a record of the job's kind.
func (r *eventRows) mapRecord(payload []byte) (mapping.Mapped, error) {
	var m mapping.Mapped
	var u *mapping.Unmapped
	switch r.cfg.Input {
	case InputLine:
		m, u = r.mapper.Line(payload)
	case InputEnvelope:
		m, u = r.mapper.Envelope(payload)
	default:
		m, u = r.mapper.Event(payload)
	}
	if u != nil {
		return m, &refusal{string(u.Reason), u.Error()}
	}
	return m, nil
}

// compatRows are the events of compat mode, as the library would write them.
type compatRows struct{ eventRows }

// Append implements operators.Rows.
func (r *compatRows) Append(payload []byte) error {
	m, err := r.mapRecord(payload)
	if err != nil {
		return err
	}
	// Years before 1000 are shorter; none of them is a time that sinks take.
	day, err := time.Parse("20060102", fmt.Sprintf("%08s", m.EventDay))
	if err != nil {
		return fmt.Errorf("event day %q: %w", m.EventDay, err)
	}
	r.columns.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(day.UnixMicro()))
	for i, text := range []string{m.Source, m.Schema, m.EventDay, string(m.Record)} {
		r.columns.Field(1 + i).(*array.StringBuilder).Append(text)
	}
	r.metrics.mapped(m.Schema)
	return nil
}

// conformRows are valid events. They know where they come from.
type conformRows struct {
	eventRows
	validator *ocsf.Validator
	fits      []*ocsf.Columns // tried with events that are not valid and go on
	uid       []byte
	seen      int
}

// Append implements operators.Rows; a record without a place has no metadata.uid.
func (r *conformRows) Append(payload []byte) error {
	return r.append(payload, ocsf.Origin{Logged: ocsf.Unknown, Time: ocsf.Instant{Millis: ocsf.Unknown}, Sequence: -1})
}

// AppendAt implements operators.Placed. With one topic the split is the partition.
func (r *conformRows) AppendAt(payload []byte, split int32, offset, ingest int64) error {
	r.uid = append(append(r.uid[:0], r.topic...), ':')
	r.uid = append(strconv.AppendInt(r.uid, int64(split), 10), ':')
	r.uid = strconv.AppendInt(r.uid, offset, 10)
	at := ocsf.Origin{UID: r.uid, Logged: ocsf.Unknown, LogName: r.topic, LogProvider: "kafka", Time: ocsf.Instant{Millis: ocsf.Unknown}}
	if ingest >= 0 {
		at.Logged = ingest / 1000
	}
	return r.append(payload, at)
}

// sampleEvery is how many events there are for one whose source is compared with it: that
// costs as much as mapping it.
const sampleEvery = 64

func (r *conformRows) append(payload []byte, at ocsf.Origin) error {
	r.mapper.SetOrigin(at)
	m, err := r.mapRecord(payload)
	if err != nil {
		return r.invalid(err)
	}
	report, err := r.mapper.Validate(r.validator)
	if err != nil {
		return fmt.Errorf("the mapper made what is no event: %w", err)
	}
	r.metrics.validated(report)
	if len(report.Errors) > 0 {
		if err := r.invalid(&refusal{reasonInvalid, findings(report)}); err != nil {
			return err
		}
		if err := r.fit(m); err != nil {
			return err
		}
	}
	r.columns.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(m.Time * 1000))
	r.columns.Field(1).(*array.Int64Builder).Append(m.Class)
	r.columns.Field(2).(*array.BinaryBuilder).Append(m.Record)
	r.metrics.conformed(r.schema.ClassName(m.Class), m)
	if r.seen++; r.seen%sampleEvery == 1 && r.cfg.Input == InputEvent && r.cfg.Preprocessor == mapping.None {
		if lost, err := ocsf.Dropped(payload, m.Record); err == nil {
			r.metrics.sampled(len(lost))
		}
	}
	return nil
}

// invalid decides on an event that is not valid; nil lets it pass. What is no event at all
// cannot pass.
func (r *conformRows) invalid(err error) error {
	var refused *refusal
	if !errors.As(err, &refused) {
		return err
	}
	bad := refused.reason == reasonInvalid || refused.reason == string(mapping.NotConform)
	switch {
	case bad && r.cfg.OnInvalid == InvalidStop:
		return fmt.Errorf("an event is no valid OCSF: %s; correct %s, or set mapping.on_invalid", refused.text, r.cfg.File)
	case refused.reason == reasonInvalid && r.cfg.OnInvalid == InvalidPass:
		return nil
	}
	return refused
}

// fit tells whether an event that is not valid is a row all the same.
func (r *conformRows) fit(m mapping.Mapped) error {
	for i, c := range r.classes {
		if c.columns.Class != m.Class {
			continue
		}
		defer r.fits[i].Reset()
		if err := r.fits[i].Append(m.Record); err != nil {
			return &refusal{reasonNoRow, err.Error()}
		}
	}
	return nil
}

// shownFindings is how many findings the error of a dead record names.
const shownFindings = 3

func findings(r ocsf.Report) string {
	var out []string
	for _, f := range r.Errors[:min(len(r.Errors), shownFindings)] {
		out = append(out, fmt.Sprintf("%s: %s: %s", f.Code, f.Path, f.Message))
	}
	if more := len(r.Errors) + r.Omitted - shownFindings; more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, "; ")
}

// eventMetrics counts what mapping does:
//
//	tidemark_ocsf_events_total{class}         events that were mapped
//	tidemark_ocsf_findings_total{code}        errors that the validator found
//	tidemark_ocsf_values_total                values of events
//	tidemark_ocsf_unmapped_values_total       those of them in unmapped
//	tidemark_ocsf_changes_total{what}         cast, filled, moved (it has no place), rest (nothing reads it)
//	tidemark_ocsf_sampled_events_total        events that were compared with their source
//	tidemark_ocsf_dropped_fields_total        values of the source that those lack
//
// They begin at 0 with the process, and what is done again after a crash counts again.
type eventMetrics struct {
	events, findings, changes         *prometheus.CounterVec
	values, unmapped, compared, fewer prometheus.Counter
}

func newEventMetrics(reg prometheus.Registerer, job string) (*eventMetrics, error) {
	labels := prometheus.Labels{"job": job}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, []string{label})
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &eventMetrics{
		events:   vec("tidemark_ocsf_events_total", "Events that were mapped, by class.", "class"),
		findings: vec("tidemark_ocsf_findings_total", "Errors that the validator found, by code.", "code"),
		changes:  vec("tidemark_ocsf_changes_total", "Values that conform has cast, filled in, or moved to unmapped.", "what"),
		values:   one("tidemark_ocsf_values_total", "Values of events."),
		unmapped: one("tidemark_ocsf_unmapped_values_total", "Values of events that lie in unmapped."),
		compared: one("tidemark_ocsf_sampled_events_total", "Events that were compared with their source."),
		fewer:    one("tidemark_ocsf_dropped_fields_total", "Values of the source that are nowhere in the events compared."),
	}
	for _, c := range []prometheus.Collector{m.events, m.findings, m.changes, m.values, m.unmapped, m.compared, m.fewer} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("mapping metrics of job %s: %w", job, err)
		}
	}
	return m, nil
}

func (m *eventMetrics) mapped(class string) {
	if m != nil {
		m.events.WithLabelValues(class).Inc()
	}
}

func (m *eventMetrics) validated(r ocsf.Report) {
	if m == nil {
		return
	}
	m.values.Add(float64(r.Values))
	m.unmapped.Add(float64(r.Unmapped))
	for _, f := range r.Errors {
		m.findings.WithLabelValues(f.Code).Inc()
	}
}

func (m *eventMetrics) conformed(class string, e mapping.Mapped) {
	if m == nil {
		return
	}
	m.mapped(class)
	m.changes.WithLabelValues("cast").Add(float64(e.Casts))
	m.changes.WithLabelValues("filled").Add(float64(e.Filled))
	m.changes.WithLabelValues("moved").Add(float64(e.Moved))
	m.changes.WithLabelValues("rest").Add(float64(e.Rest))
}

func (m *eventMetrics) sampled(lost int) {
	if m != nil {
		m.compared.Inc()
		m.fewer.Add(float64(lost))
	}
}

// validateMapping checks a job whose records a mapping file describes.
func (c *Config) validateMapping(d *document) {
	bad := func(section, format string, args ...any) { d.add(d.node(section), section, format, args...) }
	switch {
	case c.Mapping == nil:
		bad("feed", "mapping wants a section mapping with the file")
		return
	case c.Feed != feedMapping:
		bad("mapping", "belongs to feed mapping, and this is feed %s: what its records hold is known", c.Feed)
		return
	}
	c.validateWindowless(d)
	for _, section := range []string{"fields", "filter", "reference", "rows"} {
		if child(d.root, section) != nil {
			bad(section, "is of feeds whose fields are known; a mapping file says where values are")
		}
	}
	if c.Normalize.To != "ocsf" {
		bad("normalize", "a mapping file makes OCSF events: leave to as it is")
	}
	f, err := feedOf(feedMapping)
	d.invalid(errors.Join(err, c.decodeConfig(f).Validate()), "event_time")
	p, err := newPlan(*c, f, nil)
	if err != nil {
		d.invalid(err, "mapping")
		return
	}
	for i, s := range c.Sinks {
		for _, port := range p.ports() {
			if s.Kafka != nil {
				topic, schema := p.kafka(s.Kafka.SinkConfig, port)
				d.invalid(topics.CheckColumns(topic, schema), "sinks", strconv.Itoa(i), "kafka")
			}
		}
	}
}

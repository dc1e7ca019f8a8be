package ocsf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
)

// Names of the columns that every row has from the source on.
const (
	colTime   = "time"
	colSplit  = "_split"
	colOffset = "_offset"
	colIngest = "_ingest"
)

// Columns that rows may have about the record they come from.
const (
	colOriginalTime = "original_time" // the text that the event time was read from
	colRawBytes     = "raw_bytes"     // the size of the record
)

// RowConfig is what a mapper of rows, one for each record, needs to know of the job.
type RowConfig struct {
	Config
	// Stream is the first part of metadata.uid: the topic, or what names it.
	Stream string
	// KeepPlace leaves _split and _offset beside the event, as its last columns, for sinks that
	// know a row by them. metadata.uid says the same.
	KeepPlace bool
}

// DefaultRowConfig lacks Stream, Topic and ProductVersion.
func DefaultRowConfig() RowConfig { return RowConfig{Config: DefaultConfig(), KeepPlace: true} }

// Validate returns every problem.
func (c RowConfig) Validate() error {
	err := c.Config.Validate()
	if c.Stream == "" {
		err = errors.Join(err, errors.New("ocsf stream: must not be empty"))
	}
	return err
}

// RowSpec is what a feed adds to the attributes of every row's event.
type RowSpec struct {
	Class    Class
	Activity Enum
	// Entity names the column that the event is about.
	Entity string
	// Attrs are the attributes of the class, built over the columns of r.
	Attrs func(r *Row) ([]Attr, error)
	// Metadata are more members of metadata; nil for none.
	Metadata func(r *Row) []Attr
	// Message appends the message of a row; nil for none.
	Message func(r *Row) func(dst []byte, row int) []byte
	// Observables lists the entity as observable device.uid.
	Observables bool
	// Unmapped adds to unmapped what the feed has another name or form for, as entries named
	// Names; nil for nothing.
	Unmapped func(r *Row) func(m *Pairs, row int)
	Names    []string
}

// Row gives a feed the columns of the rows while its mapper is built.
type Row struct {
	*Inputs
	Config RowConfig
	// Entity is the column that the event is about.
	Entity *Input

	time, split, offset, ingest *Input
}

// NewRowMapper builds the mapper of one feed for rows as its decoder gives them: time,
// _split, _offset, _ingest and the fields of the feed; columns of reference tables may
// follow. The event is one for each record: its uid is stream, split and offset.
func NewRowMapper(cfg RowConfig, spec RowSpec, in *arrow.Schema) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newRowMapper(cfg, spec, in)
	if err != nil {
		return nil, fmt.Errorf("ocsf %s of %s: %w", spec.Class.Name, cfg.Stream, err)
	}
	return m, nil
}

func newRowMapper(cfg RowConfig, spec RowSpec, in *arrow.Schema) (*Mapper, error) {
	c, err := bindInputs(in)
	if err != nil {
		return nil, err
	}
	r := &Row{Inputs: c, Config: cfg}
	if err := r.bind(spec.Entity); err != nil {
		return nil, err
	}
	own, err := spec.Attrs(r)
	if err != nil {
		return nil, err
	}
	head := r.head(spec)
	tail, err := r.tail(spec)
	if err != nil {
		return nil, err
	}
	var kept []string
	if cfg.KeepPlace {
		kept = []string{colSplit, colOffset}
	}
	return newMapper(c, slices.Concat(head, own, tail), kept), nil
}

func (r *Row) bind(entity string) error {
	var errs []error
	need := func(name string, typ arrow.Type) *Input {
		c, err := r.need(name, typ)
		errs = append(errs, err)
		return c
	}
	r.time, r.ingest = need(colTime, arrow.TIMESTAMP), need(colIngest, arrow.TIMESTAMP)
	r.split, r.offset = need(colSplit, arrow.INT32), need(colOffset, arrow.INT64)
	r.Entity = need(entity, arrow.STRING)
	return errors.Join(errs...)
}

// Time is the event time in milliseconds.
func (r *Row) Time(row int) (int64, bool) { return r.time.Int(row) }

// EntityText appends the entity.
func (r *Row) EntityText(dst []byte, row int) ([]byte, bool) { return r.Entity.AppendText(dst, row) }

// Device is the attribute of the entity, which the record itself is a sign of.
func (r *Row) Device(typ Enum) Attr {
	return r.Inputs.Device(r.Config.Version, typ, r.EntityText, r.Time)
}

func (r *Row) head(spec RowSpec) []Attr {
	var more []Attr
	if in := r.TakeText(colOriginalTime); in != nil {
		more = append(more, Attr{Name: "original_time", Text: in.AppendText})
	}
	more = append(more, Attr{Name: "logged_time", Int64: r.logged})
	if spec.Metadata != nil {
		more = append(more, spec.Metadata(r)...)
	}
	e := event{
		cfg: r.Config.Config, class: spec.Class, activity: spec.Activity, time: r.Time, uid: r.uid,
		sequence: Attr{Fixed: int32(0)}, metadata: more,
	}
	return e.head()
}

// logged is when the broker got the record. It gives negative times where it does not say.
func (r *Row) logged(row int) (int64, bool) {
	ms, ok := r.ingest.Int(row)
	return ms, ok && ms >= 0
}

// uid appends <stream>:<split>:<offset>.
func (r *Row) uid(dst []byte, row int) ([]byte, bool) {
	split, okS := r.split.Int(row)
	offset, okO := r.offset.Int(row)
	dst = append(append(dst, r.Config.Stream...), ':')
	dst = append(strconv.AppendInt(dst, split, 10), ':')
	return strconv.AppendInt(dst, offset, 10), okS && okO
}

func (r *Row) tail(spec RowSpec) ([]Attr, error) {
	var out []Attr
	if spec.Message != nil {
		out = append(out, said("message", spec.Message(r)))
	}
	if spec.Observables {
		out = append(out, r.Config.observables(r.EntityText))
	}
	if r.Config.Version == V180 { // there since 1.5.0
		if size := r.TakeWhole(colRawBytes); size != nil {
			out = append(out, Attr{Name: "raw_data_size", Int64: size.Int})
		}
	}
	var more func(m *Pairs, row int)
	if spec.Unmapped != nil {
		more = spec.Unmapped(r)
	}
	unmapped, err := r.unmapped(more, spec.Names...)
	return append(out, unmapped), err
}

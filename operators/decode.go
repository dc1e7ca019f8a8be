package operators

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Rows collects payloads as columns.
type Rows interface {
	// Append adds one row or, with an error, none. An error that has DeadReason makes the
	// record Dead; any other stops the job.
	Append(payload []byte) error
	// Columns returns the rows added since the last call, one array per field. The caller
	// releases them.
	Columns() []arrow.Array
	// Fields are the fields of Columns.
	Fields() []arrow.Field
}

// Placed are Rows that want to know where a record comes from: its split, its offset, and its
// broker timestamp in ticks, negative where there is none.
type Placed interface {
	Rows
	AppendAt(payload []byte, split int32, offset, ingest int64) error
}

// deadReason is what an error of Rows.Append has when it concerns the record only.
type deadReason interface {
	error
	DeadReason() string
}

// Reasons of Dead rows that Decode gives itself; Rows and Wire.Fault give others.
const (
	ReasonNullValue   = "null_value"       // the record has no value
	ReasonTooLarge    = "record_too_large" // DecodeConfig.MaxRecordBytes
	ReasonMissingTime = "missing_time"     // no event time, or a clock that was lost
	ReasonTimeRange   = "time_range"       // outside 1900 to 2299
	ReasonFuture      = "future"           // DecodeConfig.MaxAhead
)

// ColReplaced is the column that tells whether column time is the broker's timestamp in
// place of the payload's time. It exists only with MissingReplace.
const ColReplaced = "ts_replaced"

// MissingPolicy says what becomes of a row without event time.
type MissingPolicy string

const (
	MissingReplace MissingPolicy = "replace" // the broker's timestamp takes its place
	MissingDead    MissingPolicy = "dead"
)

// FuturePolicy says what becomes of a row that is too far ahead of the broker.
type FuturePolicy string

const (
	FutureDead  FuturePolicy = "dead"
	FutureClamp FuturePolicy = "clamp" // the broker's timestamp takes its place
	FutureKeep  FuturePolicy = "keep"
)

// DecodeConfig configures Decode.
type DecodeConfig struct {
	// Time is the field of Rows that is event time. It becomes column time and is not
	// repeated.
	Time string `yaml:"time"`
	// Missing decides on rows whose time is null or at or before MissingBound: tags that
	// lost their clock begin at 1970 or 2000 again.
	Missing      MissingPolicy `yaml:"missing"`
	MissingBound time.Time     `yaml:"missing_bound"`
	// Future decides on rows more than MaxAhead beyond the broker's timestamp. Where that
	// is not known, no row is.
	Future   FuturePolicy  `yaml:"future"`
	MaxAhead time.Duration `yaml:"max_ahead"`
	// MaxRecordBytes is the largest value that is decoded.
	MaxRecordBytes int `yaml:"max_record_bytes"`
	// RawLimit is how much of a refused value a Dead row keeps, in bytes.
	RawLimit int `yaml:"raw_limit"`
}

// DefaultDecodeConfig lacks nothing but Time.
func DefaultDecodeConfig() DecodeConfig {
	return DecodeConfig{
		Missing:        MissingReplace,
		MissingBound:   time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC),
		Future:         FutureDead,
		MaxAhead:       2 * time.Minute,
		MaxRecordBytes: 4 << 20,
		RawLimit:       64 << 10,
	}
}

// Validate returns every problem.
func (c DecodeConfig) Validate() error {
	var errs []error
	if c.Time == "" {
		errs = append(errs, errors.New("time: name the field that is event time"))
	}
	switch c.Missing {
	case MissingReplace, MissingDead:
	default:
		errs = append(errs, fmt.Errorf("missing %q: want replace or dead", c.Missing))
	}
	switch c.Future {
	case FutureDead, FutureClamp, FutureKeep:
	default:
		errs = append(errs, fmt.Errorf("future %q: want dead, clamp or keep", c.Future))
	}
	if b := c.MissingBound; b.Year() < 1900 || b.Year() > 2299 {
		errs = append(errs, fmt.Errorf("missing_bound %s: want a year from 1900 to 2299", b.Format(time.RFC3339)))
	}
	if c.MaxAhead < 0 {
		errs = append(errs, fmt.Errorf("max_ahead %s: want 0 or more", c.MaxAhead))
	}
	if c.MaxRecordBytes < 1 {
		errs = append(errs, fmt.Errorf("max_record_bytes %d: want at least 1", c.MaxRecordBytes))
	}
	if c.RawLimit < 0 {
		errs = append(errs, fmt.Errorf("raw_limit %d: want 0 or more", c.RawLimit))
	}
	return errors.Join(errs...)
}

// Decode turns wire batches into rows. Every record of a wire leaves on Out or on Dead, in
// offset order, with its split, offset and ingest time. The columns on Out are those of
// pipeline.RowFields, the fields of Rows without event time, and ColReplaced with
// MissingReplace.
//
// The rules of time, in this order:
//
//  1. null: Missing decides.
//  2. outside pipeline.MinEventTime and MaxEventTime: Dead, time_range; column time of the
//     Dead row is null, since no sink can hold it.
//  3. at or before MissingBound: Missing decides.
//  4. more than MaxAhead beyond the ingest time: Future decides.
//
// A row that would take its ingest time where that is not known (negative) is Dead with
// missing_time, and where that is out of range with time_range.
type Decode struct {
	cfg    DecodeConfig
	rows   Rows
	placed Placed // rows, when they are
	mem    memory.Allocator
	schema *arrow.Schema

	timeAt  int // place of event time in the columns of rows
	bound   int64
	ahead   int64
	replace bool

	took    []int32 // records that became rows
	refused []Refusal
	split   []int32 // column _split, shared by batches of one split: never written again
}

// NewDecode prepares a decoder over rows.
func NewDecode(cfg DecodeConfig, rows Rows, mem memory.Allocator) (*Decode, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Decode{
		cfg: cfg, rows: rows, mem: mem, timeAt: -1,
		bound: cfg.MissingBound.UnixMicro(), ahead: pipeline.Ticks(cfg.MaxAhead),
		replace: cfg.Missing == MissingReplace,
	}
	d.placed, _ = rows.(Placed)
	fields := pipeline.RowFields()
	var errs []error
	for i, f := range rows.Fields() {
		if f.Name == cfg.Time {
			if !arrow.TypeEqual(f.Type, pipeline.Timestamp) {
				errs = append(errs, fmt.Errorf("time: field %q is a %s, want a time", f.Name, f.Type))
			}
			d.timeAt = i
			continue
		}
		if f.Name == ColReplaced || slices.ContainsFunc(fields[:pipeline.NumRowColumns], func(g arrow.Field) bool { return g.Name == f.Name }) {
			errs = append(errs, fmt.Errorf("field %q: the name is taken by a column of every row", f.Name))
		}
		fields = append(fields, f)
	}
	if d.timeAt < 0 {
		errs = append(errs, fmt.Errorf("time: there is no field %q", cfg.Time))
	}
	if d.replace {
		fields = append(fields, arrow.Field{Name: ColReplaced, Type: arrow.FixedWidthTypes.Boolean})
	}
	d.schema = arrow.NewSchema(fields, nil)
	return d, errors.Join(errs...)
}

// Schema is the schema of the rows on Out.
func (d *Decode) Schema() *arrow.Schema { return d.schema }

// Decode sends the records of w that can be read to Out and the others to Dead.
func (d *Decode) Decode(w *pipeline.Wire, out pipeline.Emitter) error {
	d.took, d.refused = d.took[:0], d.refused[:0]
	for i := range w.Len() {
		if err := d.append(w, i); err != nil {
			return err
		}
	}
	if err := d.emitRows(w, out); err != nil {
		return err
	}
	return EmitDead(d.mem, w, d.refused, d.cfg.RawLimit, out)
}

func (d *Decode) append(w *pipeline.Wire, i int) error {
	v := w.Value(i)
	switch {
	case w.Fault != "":
		d.refuse(i, w.Fault, "the batch cannot be read: "+w.Fault+" (source.kafka sets its limits)")
		return nil
	case v == nil:
		d.refuse(i, ReasonNullValue, "the record has no value")
		return nil
	case len(v) > d.cfg.MaxRecordBytes:
		d.refuse(i, ReasonTooLarge, fmt.Sprintf("%d bytes, at most %d are decoded (max_record_bytes)", len(v), d.cfg.MaxRecordBytes))
		return nil
	}
	var err error
	if d.placed != nil {
		err = d.placed.AppendAt(v, w.Split, w.Offset[i], w.Ingest[i])
	} else {
		err = d.rows.Append(v)
	}
	if err == nil {
		d.took = append(d.took, int32(i))
		return nil
	}
	var dead deadReason
	if !errors.As(err, &dead) {
		return fmt.Errorf("decode split %d offset %d: %w", w.Split, w.Offset[i], err)
	}
	d.refuse(i, dead.DeadReason(), err.Error())
	return nil
}

func (d *Decode) refuse(rec int, reason, err string) {
	d.refused = append(d.refused, Refusal{Record: int32(rec), Reason: reason, Err: err})
}

// emitRows decides on the time of every row and sends those that stay.
func (d *Decode) emitRows(w *pipeline.Wire, out pipeline.Emitter) error {
	cols := d.rows.Columns()
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	n := len(d.took)
	if n == 0 {
		return nil
	}
	offset, ingest := w.Offset, w.Ingest
	if n < w.Len() {
		offset, ingest = pick(w.Offset, d.took), pick(w.Ingest, d.took)
	}
	t := d.judge(cols[d.timeAt].(*array.Timestamp), ingest, w)

	all := make([]arrow.Array, 0, d.schema.NumFields())
	all = append(all,
		wrap(pipeline.Timestamp, n, arrow.Int64Traits.CastToBytes(t.time)),
		wrap(arrow.PrimitiveTypes.Int32, n, arrow.Int32Traits.CastToBytes(d.splitColumn(w.Split, n))),
		wrap(arrow.PrimitiveTypes.Int64, n, arrow.Int64Traits.CastToBytes(offset)),
		wrap(pipeline.Timestamp, n, arrow.Int64Traits.CastToBytes(ingest)))
	for i, c := range cols {
		if i != d.timeAt {
			c.Retain()
			all = append(all, c)
		}
	}
	if d.replace {
		if t.replaced == nil {
			t.replaced = make([]byte, (n+7)/8)
		}
		all = append(all, wrap(arrow.FixedWidthTypes.Boolean, n, t.replaced))
	}
	rec := array.NewRecordBatch(d.schema, all, int64(n))
	for _, c := range all {
		c.Release()
	}
	defer func() { rec.Release() }()
	if t.refused {
		// Refused rows are cut out, so that nobody behind sees their times.
		if len(t.keep) == 0 {
			return nil
		}
		kept, err := pipeline.Gather(d.mem, rec, t.keep)
		if err != nil {
			return fmt.Errorf("decode split %d offset %d: %w", w.Split, w.Offset[0], err)
		}
		rec.Release()
		rec = kept
	}
	return out.Emit(pipeline.Out, pipeline.Batch{Rec: rec, Split: w.Split, Passed: pipeline.MinTicks})
}

// verdict is what the rules of time made of a batch.
type verdict struct {
	time     []int64
	replaced []byte // one bit each; nil for none
	refused  bool
	keep     []int32 // rows that stay, when some were refused
}

// judge applies the rules of time. It copies the times only when it changes one.
func (d *Decode) judge(col *array.Timestamp, ingest []int64, w *pipeline.Wire) verdict {
	n := col.Len()
	// The arrays of Rows hold int64; the type of the slice is all that differs.
	v := verdict{time: arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(col.TimestampValues()))}
	copied := false
	nulls := col.NullN() > 0
	for i := range n {
		t, in := v.time[i], ingest[i]
		null := nulls && col.IsNull(i)
		if !null && t > d.bound && t < pipeline.MaxEventTime &&
			(d.cfg.Future == FutureKeep || in < 0 || t <= pipeline.AddTicks(in, d.ahead)) {
			if v.refused {
				v.keep = append(v.keep, int32(i))
			}
			continue
		}
		take, reason, why := d.replacement(t, null, in)
		if reason != "" {
			if !v.refused {
				v.refused = true
				v.keep = make([]int32, i, n)
				for k := range v.keep {
					v.keep[k] = int32(k)
				}
			}
			timed := !null && reason != ReasonTimeRange
			d.refused = append(d.refused, Refusal{Record: d.took[i], Reason: reason, Err: why, Time: t, Timed: timed})
			continue
		}
		if !copied {
			v.time, copied = slices.Clone(v.time), true
		}
		v.time[i] = take
		if v.replaced == nil {
			v.replaced = make([]byte, (n+7)/8)
		}
		v.replaced[i/8] |= 1 << (i % 8)
		if v.refused {
			v.keep = append(v.keep, int32(i))
		}
	}
	return v
}

// replacement returns the time that takes the place of t, or the reason why the row is
// Dead.
func (d *Decode) replacement(t int64, null bool, ingest int64) (take int64, reason, why string) {
	clamp := false
	switch {
	case null:
		why = d.cfg.Time + " is null or absent"
	case t < pipeline.MinEventTime || t >= pipeline.MaxEventTime:
		return 0, ReasonTimeRange, fmt.Sprintf("%s is %s, outside the years 1900 to 2299; is its unit right?", d.cfg.Time, ticksText(t))
	case t <= d.bound:
		why = fmt.Sprintf("%s is %s, not after %s (missing_bound)", d.cfg.Time, ticksText(t), ticksText(d.bound))
	default:
		clamp = true
		why = FutureText(d.cfg.Time, t, ingest, d.cfg.MaxAhead)
	}
	switch {
	case clamp && d.cfg.Future == FutureDead:
		return 0, ReasonFuture, why
	case !clamp && !d.replace:
		return 0, ReasonMissingTime, why
	case ingest < 0:
		return 0, ReasonMissingTime, why + ", and the broker gave no timestamp"
	case ingest >= pipeline.MaxEventTime:
		return 0, ReasonTimeRange, why + fmt.Sprintf(", and the broker's timestamp %s is out of range", ticksText(ingest))
	}
	return ingest, "", ""
}

// FutureText says that the time of a field is too far ahead of the broker's.
func FutureText(field string, t, ingest int64, maxAhead time.Duration) string {
	return fmt.Sprintf("%s is %s, more than %s (max_ahead) beyond the broker's %s", field, ticksText(t), maxAhead, ticksText(ingest))
}

// ticksText writes a time for people.
func ticksText(t int64) string { return time.UnixMicro(t).UTC().Format(time.RFC3339Nano) }

func pick(from []int64, at []int32) []int64 {
	out := make([]int64, len(at))
	for i, a := range at {
		out[i] = from[a]
	}
	return out
}

// splitColumn returns n times split.
func (d *Decode) splitColumn(split int32, n int) []int32 {
	if len(d.split) < n || d.split[0] != split {
		d.split = make([]int32, n)
		for i := range d.split {
			d.split[i] = split
		}
	}
	return d.split[:n]
}

// wrap makes an array without nulls over data, which is not written again.
func wrap(t arrow.DataType, n int, data []byte) arrow.Array {
	d := array.NewData(t, n, []*memory.Buffer{nil, memory.NewBufferBytes(data)}, nil, 0, 0)
	defer d.Release()
	return array.MakeFromData(d)
}

// Refusal is a record on its way to Dead.
type Refusal struct {
	Record int32 // of its wire
	Timed  bool  // it has an event time that a sink can hold
	Time   int64
	Reason string // a short constant
	Err    string // in words
}

// EmitDead sends the refused records of a wire to Dead, in offset order, each with as much of its
// value as rawLimit. It sorts refused.
func EmitDead(mem memory.Allocator, w *pipeline.Wire, refused []Refusal, rawLimit int, out pipeline.Emitter) error {
	if len(refused) == 0 {
		return nil
	}
	slices.SortFunc(refused, func(a, b Refusal) int { return int(a.Record - b.Record) })
	b := array.NewRecordBuilder(mem, pipeline.DeadSchema())
	defer b.Release()
	b.Reserve(len(refused))
	var (
		when    = b.Field(pipeline.ColTime).(*array.TimestampBuilder)
		split   = b.Field(pipeline.ColSplit).(*array.Int32Builder)
		offset  = b.Field(pipeline.ColOffset).(*array.Int64Builder)
		ingest  = b.Field(pipeline.ColIngest).(*array.TimestampBuilder)
		reason  = b.Field(pipeline.NumRowColumns).(*array.StringBuilder)
		text    = b.Field(pipeline.NumRowColumns + 1).(*array.StringBuilder)
		rawSize = b.Field(pipeline.NumRowColumns + 2).(*array.Int64Builder)
		raw     = b.Field(pipeline.NumRowColumns + 3).(*array.BinaryBuilder)
	)
	for _, r := range refused {
		if r.Timed {
			when.Append(arrow.Timestamp(r.Time))
		} else {
			when.AppendNull()
		}
		split.Append(w.Split)
		offset.Append(w.Offset[r.Record])
		ingest.Append(arrow.Timestamp(w.Ingest[r.Record]))
		reason.Append(r.Reason)
		text.Append(r.Err)
		v := w.Value(int(r.Record))
		rawSize.Append(int64(len(v)))
		if v == nil {
			raw.AppendNull()
		} else {
			raw.Append(v[:min(len(v), rawLimit)])
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	return out.Emit(pipeline.Dead, pipeline.Batch{Rec: rec, Split: w.Split, Passed: pipeline.MinTicks})
}

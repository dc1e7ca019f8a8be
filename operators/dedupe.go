package operators

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// DedupeConfig says what a duplicate is: a row that agrees with an earlier one in Columns,
// at an event time at most Within away. Durations are ticks.
type DedupeConfig struct {
	Columns []string
	Within  int64
	// Horizon is by how much a row may be behind the mark of its own split and still be
	// judged. A row that is further behind passes: choose it so that the window then finds
	// it late, at least a window's length and lateness.
	Horizon int64
	// Seed of the key hash.
	Seed uint64
	// Report, unless nil, sends the place of every duplicate, with these columns of it, to the
	// port Duplicates.
	Report []string
}

// Validate returns every problem.
func (c DedupeConfig) Validate() error {
	var errs []error
	if len(c.Columns) == 0 {
		errs = append(errs, errors.New("columns: name those in which duplicates agree"))
	}
	if c.Within < 0 {
		errs = append(errs, fmt.Errorf("within %v: must not be negative", ticks(c.Within)))
	}
	if c.Horizon < 0 {
		errs = append(errs, fmt.Errorf("horizon %v: must not be negative", ticks(c.Horizon)))
	}
	return errors.Join(errs...)
}

// Dedupe lets the first of equal rows through and counts the others as duplicates. What it
// remembers is bounded by event time: a bucket of times is forgotten as a whole once the
// mark has passed it by Within and Horizon. It is pipeline.Stateful and copies no rows.
//
// For the rows of one split the answer is the same whatever the batches, restarts and
// other splits; where duplicates come through different splits, which of them is the first
// depends on how splits interleave.
type Dedupe struct {
	cfg     DedupeConfig
	mem     memory.Allocator
	keyer   *pipeline.Keyer
	width   int64 // of a bucket: times in one bucket are duplicates of each other
	store   store
	buckets map[int64]*dedupeBucket
	order   []int64 // starts, ascending
	mark    int64
	rows    []int32
	report  []int         // columns of what is sent to Duplicates
	reports *arrow.Schema // of it; nil: nothing is
	dropped []int32
}

type dedupeBucket struct {
	tab     *table
	changed bool
}

// Words of a row behind the header: event time, and the key group of the job's key, which
// decides where the row goes at a restore.
const (
	dedupeTime  = rowAcc
	dedupeGroup = rowAcc + 1
	dedupeWidth = rowAcc + 2
)

// NewDedupe compiles the operator for rows of the given schema. Columns must include the
// columns by which rows are dealt to shards, or duplicates do not meet.
func NewDedupe(cfg DedupeConfig, rows *arrow.Schema, mem memory.Allocator) (*Dedupe, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keyer, err := pipeline.NewKeyer(rows, cfg.Columns, cfg.Seed)
	if err != nil {
		return nil, err
	}
	d := &Dedupe{cfg: cfg, mem: mem, keyer: keyer, width: max(1, cfg.Within), store: store{width: dedupeWidth},
		buckets: map[int64]*dedupeBucket{}, mark: pipeline.MinTicks}
	if cfg.Report != nil {
		d.reportOf(rows)
	}
	return d, nil
}

// reportOf notes which columns of rows are reported.
func (d *Dedupe) reportOf(rows *arrow.Schema) {
	var fields []arrow.Field
	for i, f := range rows.Fields() {
		if i < pipeline.NumRowColumns || slices.Contains(d.cfg.Report, f.Name) {
			d.report, fields = append(d.report, i), append(fields, f)
		}
	}
	d.reports = arrow.NewSchema(fields, nil)
}

// Process implements pipeline.Operator.
func (d *Dedupe) Process(in pipeline.Batch, out pipeline.Emitter) error {
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	keys := d.keyer.Keys(in.Rec)
	d.rows, d.dropped = d.rows[:0], d.dropped[:0]
	n := in.NumRows()
	for i := range n {
		r := int32(i)
		if in.Rows != nil {
			r = in.Rows[i]
		}
		// Judged by the row's own split, which the merged mark never passes: so what the row
		// could be a duplicate of is still there, however far the other splits are.
		unjudged := pipeline.AddTicks(times[r], d.cfg.Horizon) <= in.Verdict(r)
		if unjudged || d.first(times[r], keys.Hash[r], keys.At(r), pipeline.Group(in.Keys.Hash[r])) {
			d.rows = append(d.rows, r)
		} else if d.reports != nil {
			d.dropped = append(d.dropped, r)
		}
	}
	if dropped := n - len(d.rows); dropped > 0 {
		out.Count(pipeline.Duplicate, in.Split, int64(dropped))
		in.Rows = d.rows
	}
	if len(d.dropped) > 0 {
		if err := d.tell(in, out); err != nil {
			return err
		}
	}
	if len(d.rows) == 0 {
		return nil
	}
	return out.Emit(pipeline.Out, in)
}

// tell sends what is reported of the duplicates of a batch.
func (d *Dedupe) tell(in pipeline.Batch, out pipeline.Emitter) error {
	cols := make([]arrow.Array, 0, len(d.report))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for _, i := range d.report {
		c, err := pipeline.GatherColumn(d.mem, in.Rec.Column(i), d.dropped)
		if err != nil {
			return fmt.Errorf("duplicates, column %s: %w", in.Rec.ColumnName(i), err)
		}
		cols = append(cols, c)
	}
	rec := array.NewRecordBatch(d.reports, cols, int64(len(d.dropped)))
	defer rec.Release()
	return out.Emit(pipeline.Duplicates, pipeline.Batch{Rec: rec, Split: in.Split, Passed: pipeline.MinTicks})
}

// first tells whether a row is the first of its kind, and remembers it.
func (d *Dedupe) first(t int64, hash uint64, key []byte, group uint8) bool {
	start := FloorStart(t, d.width, 0)
	for _, s := range [...]int64{start, pipeline.SubTicks(start, d.width), pipeline.AddTicks(start, d.width)} {
		b := d.buckets[s]
		if b == nil {
			continue
		}
		if id, ok := b.tab.lookup(hash, key); ok {
			seen := int64(d.store.row(id)[dedupeTime])
			if pipeline.SubTicks(max(t, seen), min(t, seen)) <= d.cfg.Within {
				return false
			}
		}
	}
	b := d.bucket(start)
	id, _ := b.tab.find(hash, key)
	row := d.store.row(id)
	row[dedupeTime], row[dedupeGroup] = uint64(t), uint64(group)
	b.changed = true
	return true
}

func (d *Dedupe) bucket(start int64) *dedupeBucket {
	b := d.buckets[start]
	if b == nil {
		b = &dedupeBucket{tab: newTable(&d.store, 0)}
		d.buckets[start] = b
		at, _ := slices.BinarySearch(d.order, start)
		d.order = slices.Insert(d.order, at, start)
	}
	return b
}

// expired tells whether no row that is still judged can be a duplicate of one in the
// bucket: its last tick plus Within is at or behind the mark less Horizon.
func (d *Dedupe) expired(start int64) bool {
	last := pipeline.AddTicks(start, d.width-1)
	return pipeline.AddTicks(pipeline.AddTicks(last, d.cfg.Within), d.cfg.Horizon) <= d.mark
}

// Advance forgets what no row can be a duplicate of any more.
func (d *Dedupe) Advance(m pipeline.Mark, _ pipeline.Emitter) error {
	d.mark = max(d.mark, m.Event)
	freed := 0
	for _, start := range d.order {
		if !d.expired(start) {
			break
		}
		d.buckets[start].tab.release()
		delete(d.buckets, start)
		freed++
	}
	d.order = slices.Delete(d.order, 0, freed)
	return nil
}

// Tick implements pipeline.Operator.
func (d *Dedupe) Tick(int64, pipeline.Emitter) error { return nil }

// Bytes returns the memory of the state.
func (d *Dedupe) Bytes() int64 {
	n := d.store.bytes()
	for _, b := range d.buckets {
		n += int64(len(b.tab.index))*8 + int64(cap(b.tab.arena))
	}
	return n
}

// Remembered returns how many rows are remembered.
func (d *Dedupe) Remembered() int {
	n := 0
	for _, b := range d.buckets {
		n += b.tab.rows
	}
	return n
}

func dedupeSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "_group", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "key", Type: arrow.BinaryTypes.Binary},
		{Name: "time", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
}

// Snapshot lends one piece per bucket, with the bucket's start as its id.
func (d *Dedupe) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	for _, start := range d.order {
		b := d.buckets[start]
		p := pipeline.Piece{ID: strconv.FormatInt(start, 10)}
		if full || b.changed {
			p.Rec = d.pieceOf(b)
			b.changed = false
		}
		err := piece(p)
		if p.Rec != nil {
			p.Rec.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Dedupe) pieceOf(bucket *dedupeBucket) arrow.RecordBatch {
	b := array.NewRecordBuilder(d.mem, dedupeSchema())
	defer b.Release()
	var scratch [16]byte
	for i := range bucket.tab.rows {
		row := d.store.row(bucket.tab.id(i))
		b.Field(0).(*array.Uint8Builder).Append(uint8(row[dedupeGroup]))
		b.Field(1).(*array.BinaryBuilder).Append(bucket.tab.key(row, &scratch))
		b.Field(2).(*array.Int64Builder).Append(int64(row[dedupeTime]))
	}
	return b.NewRecordBatch()
}

// Restore takes back the rows of a piece that keep accepts.
func (d *Dedupe) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	if !p.Rec.Schema().Equal(dedupeSchema()) {
		return fmt.Errorf("dedupe state %s: its columns are %v; it was written by another operator", p.ID, p.Rec.Schema().Fields())
	}
	groups := p.Rec.Column(0).(*array.Uint8).Uint8Values()
	keys := p.Rec.Column(1).(*array.Binary)
	times := p.Rec.Column(2).(*array.Int64).Int64Values()
	for i, g := range groups {
		if !keep(g) {
			continue
		}
		// Placed anew by time, so that another Within needs no other state.
		b := d.bucket(FloorStart(times[i], d.width, 0))
		id, _ := b.tab.find(d.keyer.Hash(keys.Value(i)), keys.Value(i))
		row := d.store.row(id)
		row[dedupeTime], row[dedupeGroup] = uint64(times[i]), uint64(g)
	}
	return nil
}

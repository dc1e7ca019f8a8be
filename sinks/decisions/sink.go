package decisions

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Decision says what became of a row that did not go the ordinary way.
type Decision struct {
	Lineage uint16
	Epoch   int64
	Split   int32
	Offset  int64
	// Time is MinTicks for a record whose time is not known.
	Time, Ingest int64
	// Mark is that by which a late row was judged; MinTicks for others.
	Mark   int64
	Fate   pipeline.Fate
	Reason string
	Key    string // its columns with commas between them; empty for dead records
	// Start and End are the last window that a late row missed, of how many.
	Start, End int64
	Missed     int64
}

const (
	colLineage = iota
	colEpoch
	colSplit
	colOffset
	colTime
	colIngest
	colMark
	colFate
	colReason
	colKey
	colStart
	colEnd
	colMissed
)

func decisionSchema() *arrow.Schema {
	when := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: pipeline.Timestamp, Nullable: true}
	}
	return arrow.NewSchema([]arrow.Field{
		{Name: "lineage", Type: arrow.PrimitiveTypes.Int32},
		{Name: "epoch", Type: arrow.PrimitiveTypes.Int64},
		{Name: "_split", Type: arrow.PrimitiveTypes.Int32},
		{Name: "_offset", Type: arrow.PrimitiveTypes.Int64},
		when("time"),
		when("_ingest"),
		when("mark"),
		{Name: "fate", Type: arrow.BinaryTypes.String},
		{Name: "reason", Type: arrow.BinaryTypes.String},
		{Name: "key", Type: arrow.BinaryTypes.String},
		when("window_start"),
		when("window_end"),
		{Name: "windows_missed", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
}

// folder of the decisions in the store.
const folder = "decisions"

// Sink writes the decisions of the ports Late, Dead and Duplicates. Nothing of it is to be made
// visible: its receipts are nil.
type Sink struct {
	journal
	keys  []string
	begun bool
}

// New makes a sink for rows with the given key columns. now is the wall clock, by which objects
// grow old.
func New(cfg Config, store pipeline.Store, keys []string, mem memory.Allocator, now func() time.Time) *Sink {
	return &Sink{journal: journal{cfg: cfg, store: store, folder: folder, schema: decisionSchema(), mem: mem, now: now}, keys: keys}
}

// Begin implements pipeline.Sink. The first epoch of a process may have been prepared by one that
// died before its checkpoint: what that one has left of it goes.
func (s *Sink) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	if !s.begun {
		if err := s.withdraw(ctx, e); err != nil {
			return nil, err
		}
		s.begun = true
	}
	return &stage{sink: s, epoch: e}, nil
}

// withdraw removes the decisions of an epoch, and of those behind it, of its lineage: the objects
// that begin with one of them, and the end of the one before these, which grew until its process
// died.
func (s *Sink) withdraw(ctx context.Context, e pipeline.Epoch) error {
	objects, err := s.store.List(ctx, folder+"/")
	if err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	grew := ""
	for _, o := range objects {
		var of pipeline.Epoch
		var n int
		if _, err := fmt.Sscanf(o.Name, folder+"/%d-%d-%d.arrow", &of.Lineage, &of.N, &n); err != nil || of.Lineage != e.Lineage {
			continue
		}
		if of.N >= e.N {
			if err := s.store.Delete(ctx, o.Name); err != nil {
				return fmt.Errorf("%s: %w", o.Name, err)
			}
		} else if n == 0 {
			grew = o.Name
		}
	}
	if grew == "" {
		return nil
	}
	return s.shorten(ctx, grew, e.N)
}

// shorten removes the rows of an object from an epoch on. One that cannot be read stays: whoever
// reads it is told.
func (s *Sink) shorten(ctx context.Context, name string, epoch int64) error {
	b, err := s.store.GetRange(ctx, name, 0, -1)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var put error
	_ = readObject(b, s.schema, s.mem, func(rec arrow.RecordBatch) { // an object has one batch
		kept, _ := slices.BinarySearch(rec.Column(colEpoch).(*array.Int64).Int64Values(), epoch)
		if int64(kept) == rec.NumRows() {
			return
		}
		part := rec.NewSlice(0, int64(kept))
		defer part.Release()
		put = s.put(ctx, name, []arrow.RecordBatch{part})
	})
	return put
}

// Publish implements pipeline.Sink.
func (s *Sink) Publish(context.Context, pipeline.Receipt) error { return nil }

// Sweep removes what has grown too old while the job was away.
func (s *Sink) Sweep(ctx context.Context) error { return s.prune(ctx) }

// Close implements pipeline.Sink.
func (s *Sink) Close() error {
	s.forget()
	return nil
}

// stage holds the decisions of an epoch.
type stage struct {
	sink  *Sink
	epoch pipeline.Epoch
	recs  []arrow.RecordBatch
	rows  int64
	full  int // objects written already
}

// Write implements pipeline.Stage. What is more than an object takes is written at once: the
// order in the list is then not that of the rows, which nobody relies on.
func (st *stage) Write(ctx context.Context, b pipeline.Batch) error {
	if b.Split < 0 { // a result that was refused is no row that was read
		return nil
	}
	rec, err := st.decisions(b.Rec)
	if err != nil {
		return err
	}
	st.recs, st.rows = append(st.recs, rec), st.rows+rec.NumRows()
	if st.rows < fullRows {
		return nil
	}
	st.full++
	err = st.sink.put(ctx, st.sink.object(st.epoch.Lineage, st.epoch.N, st.full), st.recs)
	st.release()
	return err
}

// Prepare implements pipeline.Stage.
func (st *stage) Prepare(ctx context.Context, _ pipeline.Mark) (pipeline.Receipt, error) {
	defer st.release()
	if len(st.recs) > 0 {
		if err := st.sink.add(ctx, st.epoch.Lineage, st.epoch.N, st.recs); err != nil {
			return nil, err
		}
	}
	if st.full > 0 {
		return nil, st.sink.prune(ctx)
	}
	return nil, nil
}

// Abort implements pipeline.Stage.
func (st *stage) Abort() error {
	st.release()
	return nil
}

func (st *stage) release() {
	for _, rec := range st.recs {
		rec.Release()
	}
	st.recs, st.rows = nil, 0
}

// decisions takes what is kept from rows of one of the ports. Which it is their columns tell.
func (st *stage) decisions(in arrow.RecordBatch) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(st.sink.mem, st.sink.schema)
	defer b.Release()
	n := int(in.NumRows())
	b.Reserve(n)
	p := partsOf(in, st.sink.keys)
	if p.err != nil {
		return nil, p.err
	}
	for i := range n {
		b.Field(colLineage).(*array.Int32Builder).Append(int32(st.epoch.Lineage))
		b.Field(colEpoch).(*array.Int64Builder).Append(st.epoch.N)
		p.row(b, i)
	}
	return b.NewRecordBatch(), nil
}

// parts are the columns of a batch that decisions are made of.
type parts struct {
	time, ingest *array.Timestamp
	split        *array.Int32
	offset       *array.Int64
	fate         pipeline.Fate
	reason       *array.String // nil: of duplicates
	by, missed   *array.Int64  // of late rows
	start, end   *array.Timestamp
	keys         []arrow.Array
	key          []string
	err          error
}

func partsOf(in arrow.RecordBatch, keys []string) parts {
	p := parts{fate: pipeline.Duplicate}
	take := func(name string) arrow.Array {
		at := in.Schema().FieldIndices(name)
		if len(at) == 0 {
			return nil
		}
		return in.Column(at[0])
	}
	var ok [4]bool
	p.time, ok[0] = in.Column(pipeline.ColTime).(*array.Timestamp)
	p.split, ok[1] = in.Column(pipeline.ColSplit).(*array.Int32)
	p.offset, ok[2] = in.Column(pipeline.ColOffset).(*array.Int64)
	p.ingest, ok[3] = in.Column(pipeline.ColIngest).(*array.Timestamp)
	if slices.Contains(ok[:], false) {
		p.err = fmt.Errorf("rows without a place in the source: %v", in.Schema().Fields())
		return p
	}
	if p.by, _ = take("late_by_us").(*array.Int64); p.by != nil {
		p.fate = pipeline.FateLate
		p.missed, _ = take("windows_missed").(*array.Int64)
		p.start, _ = take("window_start").(*array.Timestamp)
		p.end, _ = take("window_end").(*array.Timestamp)
	} else if take("raw") != nil {
		p.fate = pipeline.FateDead
	}
	if p.fate != pipeline.Duplicate { // a column of that name may be the feed's
		p.reason, _ = take("reason").(*array.String)
	}
	if p.fate == pipeline.FateDead {
		return p
	}
	for _, name := range keys {
		if c := take(name); c != nil {
			p.keys = append(p.keys, c)
		}
	}
	p.key = make([]string, len(p.keys))
	return p
}

func (p *parts) row(b *array.RecordBuilder, i int) {
	b.Field(colSplit).(*array.Int32Builder).Append(p.split.Value(i))
	b.Field(colOffset).(*array.Int64Builder).Append(p.offset.Value(i))
	appendTime(b, colTime, p.time, i)
	appendTime(b, colIngest, p.ingest, i)
	b.Field(colFate).(*array.StringBuilder).Append(p.fate.String())
	reason := ""
	if p.reason != nil {
		reason = p.reason.Value(i)
	}
	b.Field(colReason).(*array.StringBuilder).Append(reason)
	for k, c := range p.keys {
		if p.key[k] = "null"; c.IsValid(i) {
			p.key[k] = c.ValueStr(i)
		}
	}
	b.Field(colKey).(*array.StringBuilder).Append(strings.Join(p.key, ","))
	appendTime(b, colStart, p.start, i)
	appendTime(b, colEnd, p.end, i)
	missed, mark := int64(0), b.Field(colMark).(*array.TimestampBuilder)
	if p.missed != nil {
		missed = p.missed.Value(i)
	}
	b.Field(colMissed).(*array.Int64Builder).Append(missed)
	if p.by == nil || p.time.IsNull(i) {
		mark.AppendNull()
		return
	}
	mark.Append(arrow.Timestamp(pipeline.AddTicks(int64(p.time.Value(i)), p.by.Value(i))))
}

// appendTime appends a time, null where there is none.
func appendTime(b *array.RecordBuilder, col int, from *array.Timestamp, i int) {
	to := b.Field(col).(*array.TimestampBuilder)
	if from == nil || from.IsNull(i) {
		to.AppendNull()
		return
	}
	to.Append(from.Value(i))
}

// Decisions gives visit all decisions that are kept. Where there are two on one row of a
// lineage, the later one is behind the other. Objects that are damaged are passed over and
// told of.
func Decisions(ctx context.Context, store pipeline.Store, mem memory.Allocator, visit func(Decision)) (damaged []error, err error) {
	return read(ctx, store, folder, decisionSchema(), mem, func(rec arrow.RecordBatch) {
		text := func(col, i int) string { return strings.Clone(rec.Column(col).(*array.String).Value(i)) }
		number := func(col, i int) int64 { return rec.Column(col).(*array.Int64).Value(i) }
		for i := range int(rec.NumRows()) {
			visit(Decision{
				Lineage: uint16(rec.Column(colLineage).(*array.Int32).Value(i)), Epoch: number(colEpoch, i),
				Split: rec.Column(colSplit).(*array.Int32).Value(i), Offset: number(colOffset, i),
				Time: timeAt(rec, colTime, i), Ingest: timeAt(rec, colIngest, i), Mark: timeAt(rec, colMark, i),
				Fate: fateOf(text(colFate, i)), Reason: text(colReason, i), Key: text(colKey, i),
				Start: timeAt(rec, colStart, i), End: timeAt(rec, colEnd, i), Missed: number(colMissed, i),
			})
		}
	})
}

// timeAt returns a time, MinTicks for null.
func timeAt(rec arrow.RecordBatch, col, i int) int64 {
	c := rec.Column(col).(*array.Timestamp)
	if c.IsNull(i) {
		return pipeline.MinTicks
	}
	return int64(c.Value(i))
}

func fateOf(text string) pipeline.Fate {
	for f := range pipeline.NumFates {
		if f.String() == text {
			return f
		}
	}
	return pipeline.Read
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
	"github.com/tidemark/tidemark/sources/kafka"
)

// evidence is what a job has left behind: its newest checkpoint, where its marks stood, and the
// topic that it reads.
type evidence struct {
	view   *stateView
	plan   *plan
	newest pipeline.Listed
	points []decisions.Point // of the oldest first
	notes  []string          // what of it is missing or damaged
	log    *kafka.Log
	scan   int64 // records of a partition that are read at most
}

// openEvidence gathers the evidence of a job that has a file. The caller closes it.
func (v *stateView) openEvidence(ctx context.Context, scan int64) (*evidence, error) {
	e := &evidence{view: v, scan: scan}
	var err error
	if e.plan, err = planOf(*v.job); err != nil {
		return nil, err
	}
	// Files of a domain are not needed to tell what becomes of a row.
	if len(v.job.Reference) > 0 {
		if e.plan.refs, err = openReferences(*v.job, slog.New(slog.DiscardHandler), newRegistry()); err != nil {
			return nil, err
		}
		e.notes = append(e.notes, "columns of reference tables are those that the files have now")
	}
	if e.newest, err = v.newest(ctx); err != nil {
		return nil, err
	}
	if err := e.history(ctx); err != nil {
		return nil, err
	}
	if e.log, err = kafka.Look(v.job.Source.Kafka); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *evidence) close() { e.log.Close() }

// history reads where the marks stood. The newest checkpoint is the last point, whether the
// history has it or not.
func (e *evidence) history(ctx context.Context) error {
	points, damaged, err := decisions.Points(ctx, e.view.store, boundedAllocator{memory.DefaultAllocator})
	if err != nil {
		return err
	}
	e.damaged(damaged)
	e.points = points
	cp := e.newest.Checkpoint
	if n := len(points); n == 0 || points[n-1].Epoch != cp.Epoch || points[n-1].Lineage != cp.Lineage {
		e.points = append(e.points, decisions.Point{At: e.newest.Written.UnixMicro(), Lineage: cp.Lineage, Epoch: cp.Epoch, Merged: cp.Merged, Holder: -1, Since: pipeline.MinTicks, Splits: cp.Splits})
	}
	return nil
}

func (e *evidence) damaged(errs []error) {
	for _, err := range errs {
		e.notes = append(e.notes, err.Error())
	}
}

// stand is where a split stood at a point.
type stand struct {
	point *decisions.Point // nil: before the job had read anything of it
	split pipeline.SplitState
	index int32
}

func standOf(p *decisions.Point, s pipeline.Split) (stand, bool) {
	i := slices.IndexFunc(p.Splits, func(of pipeline.SplitState) bool { return of.Split == s })
	if i < 0 {
		return stand{}, false
	}
	return stand{p, p.Splits[i], int32(i)}, true
}

// around returns where a split stood before an offset was read, and by which point it had been;
// nil where there is none. What was read again, in a later lineage, counts as read then.
func (e *evidence) around(s pipeline.Split, offset int64) (before, after *stand) {
	var last *stand
	for i := range e.points {
		p := &e.points[i]
		at, there := standOf(p, s)
		if !there {
			continue
		}
		if last != nil && last.point.Lineage != p.Lineage {
			last = e.rewound(p, s)
		}
		if offset < at.split.Position.Offset && (last == nil || last.split.Position.Offset <= offset) {
			before, after = last, &at
		}
		last = &at
	}
	if after == nil && last != nil && last.split.Position.Offset <= offset {
		before = last
	}
	return before, after
}

// rewound returns where the lineage began whose first point is p: at the newest point of an
// epoch before it, or anew.
func (e *evidence) rewound(p *decisions.Point, s pipeline.Split) (from *stand) {
	if p.Anew {
		return nil
	}
	for i := range e.points {
		o := &e.points[i]
		if o.Lineage < p.Lineage && o.Epoch < p.Epoch {
			if at, there := standOf(o, s); there {
				from = &at
			}
		}
	}
	return from
}

// traced is a record as the job sees it.
type traced struct {
	split  pipeline.Split
	offset int64
	ingest int64
	mark   int64 // of its split, just before it
	exact  bool  // else the mark was that at least
	ahead  int64 // ingest mark of its split, the record included
	// passed is the merged mark that a silence of the split had let go by then, at least;
	// MinTicks for none.
	passed int64
	raw    []byte
	// reason and err say why the record is dead; empty for a row.
	reason, err string
	time        int64 // MinTicks where a dead record has none
	rec         arrow.RecordBatch
	row         int // of rec
	read        int64
}

// errEnough ends a trace.
var errEnough = errors.New("enough")

// trace reads a partition up to offset to, exclusive, from where it stood, and gives visit its
// records with their marks: through the decoder of the job, and the code that makes its marks.
// Records are lent. Where what is known begins too far back, the last of the records are read
// and marks are not exact.
func (e *evidence) trace(ctx context.Context, s pipeline.Split, from *stand, extent kafka.Extent, to int64, visit func(*traced) error) error {
	cfg := e.plan.cfg
	t := tracer{visit: visit, split: s, passed: pipeline.MinTicks, still: pipeline.Ticks(cfg.EventTime.MaxAhead), keep: cfg.maxAhead() != pipeline.MaxTicks,
		marks: pipeline.NewMarks(pipeline.Ticks(cfg.EventTime.MaxDisorder), pipeline.MaxTicks)}
	t.marks.Add()
	start := extent.Start
	// Whoever starts at the beginning of a log has seen all that there was.
	t.exact = start == 0 && cfg.Source.Kafka.Start == kafka.Earliest
	if from != nil {
		start, t.exact = max(start, from.split.Position.Offset), from.split.Position.Offset >= extent.Start
		t.marks.Resume(0, from.split.Mark, from.split.Position.LastIngest, false)
		if from.split.Mark.Event < from.point.Merged.Event {
			t.passed = from.point.Merged.Event
		}
	}
	to = min(to, extent.End)
	if to-start > e.scan {
		start, t.exact = to-e.scan, false
	}
	var err error
	if t.dec, err = e.plan.decoder(memory.DefaultAllocator); err != nil {
		return err
	}
	if t.clock, err = e.plan.clock(memory.DefaultAllocator); err != nil {
		return err
	}
	t.exact = t.exact && (t.clock == nil || start == 0) // the history does not have what clocks were known
	err = e.log.Read(ctx, s.Partition, start, to, t.wire)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// tracer gives the records of a split their marks.
type tracer struct {
	dec    *operators.Decode
	clock  pipeline.Clock // of gateways; nil for none
	marks  *pipeline.Marks
	visit  func(*traced) error
	split  pipeline.Split
	exact  bool
	passed int64
	still  int64
	keep   bool // rows that are further ahead than still of their broker timestamp are kept, and move no mark
	read   int64

	rows *pipeline.Batch
	dead []pipeline.Batch // of the decoder, of the clock
}

// Emit keeps what the decoder sends.
func (t *tracer) Emit(p pipeline.Port, b pipeline.Batch) error {
	b.Retain()
	if p == pipeline.Dead {
		t.dead = append(t.dead, b)
	} else {
		t.rows = &b
	}
	return nil
}

// Count is for operators.
func (t *tracer) Count(pipeline.Fate, int32, int64) {}

func (t *tracer) wire(w *pipeline.Wire) (more bool, err error) {
	defer t.release()
	if err := t.decode(w); err != nil {
		return false, err
	}
	row, dead := 0, make([]int, len(t.dead))
	for i, offset := range w.Offset {
		r := traced{split: t.split, offset: offset, ingest: w.Ingest[i], raw: w.Value(i), exact: t.exact, passed: t.passed, time: pipeline.MinTicks, read: t.read}
		at := t.marks.At(0)
		r.mark, at.Ingest = at.Event, max(at.Ingest, w.Ingest[i])
		r.ahead = at.Ingest
		switch {
		case t.rows != nil && row < int(t.rows.Rec.NumRows()) && offsetAt(t.rows.Rec, row) == offset:
			r.rec, r.row = t.rows.Rec, row
			times := pipeline.TicksOf(r.rec.Column(pipeline.ColTime).(*array.Timestamp))[row : row+1]
			r.time = times[0]
			_, at.Event, _ = t.marks.Stamp(0, times, func(int) bool { return t.keep && r.time > pipeline.AddTicks(r.ingest, t.still) })
			row++
		case !t.refused(&r, dead):
			return false, fmt.Errorf("offset %d is neither a row nor dead: %w", offset, pipeline.ErrConservation)
		}
		if t.passed != pipeline.MinTicks && r.mark >= t.passed {
			t.passed, r.passed = pipeline.MinTicks, pipeline.MinTicks // it has caught up
		}
		t.marks.Arrive(0, at, w.Ingest[i])
		t.read++
		if err := t.visit(&r); err != nil {
			return false, err
		}
	}
	return true, nil
}

// decode makes rows of a wire as the job does.
func (t *tracer) decode(w *pipeline.Wire) error {
	if err := t.dec.Decode(w, t); err != nil || t.clock == nil || t.rows == nil {
		return err
	}
	decoded := *t.rows
	defer decoded.Release()
	t.rows = nil
	return t.clock.Adjust(w, decoded, t)
}

func (t *tracer) release() {
	if t.rows != nil {
		t.rows.Release()
	}
	for _, b := range t.dead {
		b.Release()
	}
	t.rows, t.dead = nil, nil
}

// refused finds a record among the dead, of which the first next are behind it.
func (t *tracer) refused(r *traced, next []int) bool {
	for k, b := range t.dead {
		if next[k] < int(b.Rec.NumRows()) && offsetAt(b.Rec, next[k]) == r.offset {
			r.refused(b.Rec, next[k])
			next[k]++
			return true
		}
	}
	return false
}

func offsetAt(rec arrow.RecordBatch, i int) int64 {
	return rec.Column(pipeline.ColOffset).(*array.Int64).Value(i)
}

func (r *traced) refused(rec arrow.RecordBatch, i int) {
	if when := rec.Column(pipeline.ColTime).(*array.Timestamp); when.IsValid(i) {
		r.time = int64(when.Value(i))
	}
	r.reason = rec.Column(pipeline.NumRowColumns).(*array.String).Value(i)
	r.err = rec.Column(pipeline.NumRowColumns + 1).(*array.String).Value(i)
}

// alone returns the row of a record as a batch of its own, with the columns of reference tables,
// or nil when the filter drops it. The caller releases it.
func (e *evidence) alone(r *traced) (kept arrow.RecordBatch, filtered bool, err error) {
	rec, err := pipeline.Gather(memory.DefaultAllocator, r.rec, []int32{int32(r.row)})
	if err != nil {
		return nil, false, err
	}
	defer rec.Release()
	chain, err := e.plan.refs.enrich(onRows, e.plan.decoded, memory.DefaultAllocator)
	if err != nil {
		return nil, false, err
	}
	at := len(chain)
	if e.plan.cfg.Filter != "" {
		f, err := operators.NewFilter(e.plan.cfg.Filter, e.plan.rows)
		if err != nil {
			return nil, false, err
		}
		chain = append(chain, f)
	}
	if len(chain) == 0 {
		rec.Retain()
		return rec, false, nil
	}
	enriched := &first{}
	if at > 0 {
		if err := pipeline.NewTask(chain[:at], enriched.take).Step(rowsMessage(rec)); err != nil || enriched.rec == nil {
			return nil, false, err
		}
		defer enriched.rec.Release()
		rec = enriched.rec
	}
	if at == len(chain) {
		rec.Retain()
		return rec, false, nil
	}
	passed := &first{}
	if err := pipeline.NewTask(chain[at:], passed.take).Step(rowsMessage(rec)); err != nil {
		return nil, false, err
	}
	rec.Retain()
	if passed.rec == nil {
		return rec, true, nil
	}
	passed.rec.Release()
	return rec, false, nil
}

// first keeps the first batch that leaves a chain by its end.
type first struct{ rec arrow.RecordBatch }

func (f *first) take(p pipeline.Port, b pipeline.Batch) error {
	if f.rec == nil && p == pipeline.Out {
		b.Rec.Retain()
		f.rec = b.Rec
	}
	return nil
}

func rowsMessage(rec arrow.RecordBatch) pipeline.Message {
	return pipeline.Message{Kind: pipeline.RowsMessage, Batch: pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}}
}

// keyText is the key of a row as people write it, with commas between its columns.
func keyText(rec arrow.RecordBatch, row int, columns []string) (parts []string) {
	for _, name := range columns {
		if at := rec.Schema().FieldIndices(name); len(at) == 1 {
			parts = append(parts, valueText(rec.Column(at[0]), row))
		}
	}
	return parts
}

package operators

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// RollupConfig describes the second windows of a Rollup. Sizes are ticks.
type RollupConfig struct {
	Shape
	// Aggregates are over the columns of the first windows' results.
	Aggregates []Aggregate
}

// Validate returns every problem.
func (c RollupConfig) Validate() error {
	errs := []error{c.Shape.Validate()}
	if c.Kind == Global {
		errs = append(errs, errors.New("windows of all time cannot follow other windows"))
	}
	if c.Kind == Hopping && c.Slide > c.Size {
		errs = append(errs, fmt.Errorf("window slide %v: is above the size %v, so that results in between would be in no window", ticks(c.Slide), ticks(c.Size)))
	}
	if len(c.Aggregates) == 0 {
		errs = append(errs, errors.New("windows without aggregates"))
	}
	return errors.Join(errs...)
}

// Final returns every reason why a window does not give exactly one result per key that
// nothing follows, at its end and lateness.
func (c WindowConfig) Final() error {
	errs := c.emission().notFinal()
	if c.Kind == Global {
		errs = append(errs, errors.New("the window of all time has no end that could lie in another window"))
	}
	if c.Clock != nil {
		errs = append(errs, errors.New("keys with clocks of their own close windows after the mark has passed them"))
	}
	return errors.Join(append(errs, c.Limit.notFinal())...)
}

// Final is that of WindowConfig.
func (c SessionConfig) Final() error {
	return errors.Join(append(c.emission().notFinal(), c.Limit.notFinal())...)
}

func (l Limit) notFinal() error {
	if l.Bytes != 0 && l.Policy == LimitShed {
		return fmt.Errorf("limit policy %s: closes windows early, and one that is shed may come again; take %s", LimitShed, LimitStop)
	}
	return nil
}

func (e emission) notFinal() []error {
	var errs []error
	if e.trigger != OnClose {
		errs = append(errs, fmt.Errorf("trigger %s: gives a window's result more than once, and each would be counted; take %s", e.trigger, OnClose))
	}
	for _, s := range []struct {
		on   bool
		name string
	}{{e.early(), "early"}, {e.discard, "discard"}, {e.retract, "retract"}, {e.skipUnchanged, "skip_unchanged"}} {
		if s.on {
			errs = append(errs, fmt.Errorf("%s: windows that feed others have one result each", s.name))
		}
	}
	return errs
}

// firstWindows is what a Rollup needs of its first windows.
type firstWindows interface {
	pipeline.Stateful
	Schema() *arrow.Schema
	Open() int
	Bytes() int64
	Overdue() int
	Held() int
	Tally() pipeline.Tally
	used() int64
	// feed says how results go on; an error when they are not final.
	feed() (feed, error)
}

// feed is what second windows take over from the first.
type feed struct {
	keys  []string
	seed  uint64 // of the key hash
	after int64  // by how much the mark is past a window's last tick at most when its result comes
	limit int64  // of bytes, for both; 0 for none
}

func (w *Window) feed() (feed, error) {
	return feed{w.cfg.Keys, w.cfg.Seed, w.cfg.Lateness, w.cfg.Limit.Bytes}, w.cfg.Final()
}

func (w *Session) feed() (feed, error) {
	after := w.cfg.Lateness
	if w.cfg.Touch == TouchMerge { // a session is kept for one tick more
		after = pipeline.AddTicks(after, 1)
	}
	return feed{w.cfg.Keys, w.cfg.Seed, after, w.cfg.Limit.Bytes}, w.cfg.Final()
}

// Rollup folds the results of windows or sessions into longer windows of the same key, by
// the same marks. It is pipeline.Stateful; only the results of the second windows leave it.
//
// A result becomes a row at the last tick of its window, end - 1, so that windows whose bounds
// the longer ones share lie in one of them whole. First windows give one result, when the mark
// m reaches end - 1 + lateness; so after the mark m no result has a time at or behind
// m - lateness. That is the mark of the second windows. Therefore none of their rows is ever
// late, and they are complete as soon as the last first window in them has closed: their
// results are final too.
//
// Fates and lateness are those of the rows that the first windows read. The limit of bytes of
// the first windows is one for both; its policy is LimitStop.
type Rollup struct {
	first firstWindows
	then  *Window
	mem   memory.Allocator
	feed  feed
	rows  *arrow.Schema
	keyer *pipeline.Keyer
	cols  []int // of the results, behind the row columns
	start int   // window_start in the results
	end   int
	out   pipeline.Emitter // during a call
}

// NewRollup puts second windows behind first, a *Window or *Session whose configuration is
// Final.
func NewRollup(cfg RollupConfig, first firstWindows, mem memory.Allocator) (*Rollup, error) {
	from, err := first.feed()
	if err := errors.Join(err, cfg.Validate()); err != nil {
		return nil, err
	}
	results := first.Schema()
	r := &Rollup{first: first, mem: mem, feed: from}
	fields := pipeline.RowFields()
	for i, f := range results.Fields() {
		switch {
		case f.Name == "window_start":
			r.start = i
		case f.Name == "window_end":
			r.end = i
		}
		if strings.HasPrefix(f.Name, "_tm_") {
			continue
		}
		if slices.ContainsFunc(fields, func(g arrow.Field) bool { return g.Name == f.Name }) {
			return nil, fmt.Errorf("result column %q: a result becomes a row, which has a column of that name; rename it (as)", f.Name)
		}
		r.cols, fields = append(r.cols, i), append(fields, f)
	}
	r.rows = arrow.NewSchema(fields, nil)
	if r.keyer, err = pipeline.NewKeyer(r.rows, from.keys, from.seed); err != nil {
		return nil, err
	}
	r.then, err = NewWindow(WindowConfig{Shape: cfg.Shape, Trigger: OnClose, Keys: from.keys, Aggregates: cfg.Aggregates, Seed: from.seed}, r.rows, mem)
	return r, err
}

// Schema is the schema of the second windows' results, that of Window.
func (r *Rollup) Schema() *arrow.Schema { return r.then.Schema() }

// Process implements pipeline.Operator.
func (r *Rollup) Process(in pipeline.Batch, out pipeline.Emitter) error {
	r.out = out
	return r.first.Process(in, (*rollupFirst)(r))
}

// Advance closes first windows, and then the second ones that have got the last of them.
func (r *Rollup) Advance(m pipeline.Mark, out pipeline.Emitter) error {
	r.out = out
	if err := r.first.Advance(m, (*rollupFirst)(r)); err != nil {
		return err
	}
	if m.Event != pipeline.MaxTicks { // the end of the input is the end of all windows
		m.Event = pipeline.SubTicks(m.Event, r.feed.after)
	}
	if err := r.then.Advance(m, (*rollupThen)(r)); err != nil {
		return err
	}
	if n := r.first.used() + r.then.used(); r.feed.limit != 0 && n > r.feed.limit {
		return fmt.Errorf("windows and the windows behind them hold %d bytes, %d are allowed: %w; raise the limit, or shorten the second windows", n, r.feed.limit, ErrLimit)
	}
	return nil
}

// Tick implements pipeline.Operator.
func (r *Rollup) Tick(now int64, out pipeline.Emitter) error {
	r.out = out
	if err := r.first.Tick(now, (*rollupFirst)(r)); err != nil {
		return err
	}
	return r.then.Tick(now, (*rollupThen)(r))
}

// rollupFirst is the Emitter of the first windows.
type rollupFirst Rollup

// Emit hands results on as rows; late rows leave.
func (f *rollupFirst) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p != pipeline.Out {
		return f.out.Emit(p, b)
	}
	r := (*Rollup)(f)
	rec := r.rowsOf(b.Rec)
	defer rec.Release()
	in := pipeline.Result(rec)
	in.Keys = r.keyer.Keys(rec)
	return r.then.Process(in, (*rollupThen)(r))
}

// Count notes the fate of rows that were read.
func (f *rollupFirst) Count(fate pipeline.Fate, split int32, rows int64) {
	f.out.Count(fate, split, rows)
}

// rollupThen is the Emitter of the second windows.
type rollupThen Rollup

// Emit lets results out. There are no others, by the marks of Advance.
func (t *rollupThen) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p != pipeline.Out {
		return fmt.Errorf("broken invariant: %d results of windows left the windows behind them on port %s, at mark %d", b.NumRows(), p, t.then.mark)
	}
	return t.out.Emit(p, b)
}

// Count does nothing: results have no fate.
func (t *rollupThen) Count(pipeline.Fate, int32, int64) {}

// rowsOf makes rows of results. Column _offset is the length of the window: of sessions that
// end together the longer one counts as the later for first and last. Time is that of the
// broker, too. The caller releases the rows.
func (r *Rollup) rowsOf(results arrow.RecordBatch) arrow.RecordBatch {
	n := int(results.NumRows())
	starts := pipeline.TicksOf(results.Column(r.start).(*array.Timestamp))
	ends := pipeline.TicksOf(results.Column(r.end).(*array.Timestamp))
	b := array.NewRecordBuilder(r.mem, arrow.NewSchema(pipeline.RowFields(), nil))
	defer b.Release()
	b.Reserve(n)
	for i, end := range ends {
		at := arrow.Timestamp(last(end))
		b.Field(pipeline.ColTime).(*array.TimestampBuilder).UnsafeAppend(at)
		b.Field(pipeline.ColSplit).(*array.Int32Builder).UnsafeAppend(0)
		b.Field(pipeline.ColOffset).(*array.Int64Builder).UnsafeAppend(pipeline.SubTicks(end, starts[i]))
		b.Field(pipeline.ColIngest).(*array.TimestampBuilder).UnsafeAppend(at)
	}
	head := b.NewRecordBatch()
	defer head.Release()
	cols := slices.Clone(head.Columns())
	for _, c := range r.cols {
		cols = append(cols, results.Column(c))
	}
	return array.NewRecordBatch(r.rows, cols, int64(n))
}

// Open returns the number of open (key, window) pairs of both kinds.
func (r *Rollup) Open() int { return r.first.Open() + r.then.Open() }

// Held returns the number of rows of state of both kinds.
func (r *Rollup) Held() int { return r.first.Held() + r.then.Held() }

// Bytes returns the memory of the state.
func (r *Rollup) Bytes() int64 { return r.first.Bytes() + r.then.Bytes() }

// Overdue returns how many rows of state nothing would free.
func (r *Rollup) Overdue() int { return r.first.Overdue() + r.then.Overdue() }

// Tally returns what was counted since the operator was made.
func (r *Rollup) Tally() pipeline.Tally {
	t := r.first.Tally()
	t.Add(r.then.Tally())
	return t
}

// Missed returns how many (row, first window) pairs were late.
func (r *Rollup) Missed() int64 { return r.Tally().Missed }

// thenPiece begins the ids of the second windows' pieces. Those of the first are unchanged,
// so that windows which are there already can get others behind them.
const thenPiece = "then_"

// Snapshot lends the pieces of both.
func (r *Rollup) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	if err := r.first.Snapshot(full, piece); err != nil {
		return err
	}
	return r.then.Snapshot(full, func(p pipeline.Piece) error {
		p.ID = thenPiece + p.ID
		return piece(p)
	})
}

// Restore takes back the rows of a piece that keep accepts.
func (r *Rollup) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	id, then := strings.CutPrefix(p.ID, thenPiece)
	if !then {
		return r.first.Restore(p, keep)
	}
	p.ID = id
	if err := r.then.Restore(p, keep); err != nil {
		return fmt.Errorf("second windows: %w", err)
	}
	return nil
}

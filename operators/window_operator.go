package operators

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Window folds rows into windows by key. It is pipeline.Stateful.
//
// Every window has a table with one accumulator row per key, and one deadline. Where
// windows overlap and nothing is shown before their end, rows are folded once, into the
// slice between two window bounds that they lie in; a window that fires takes in its
// slices and is from then on a table of its own. A row that came behind its split's mark
// goes straight to the tables of the windows that accept it, since the slice's other
// windows may have to do without it: so a slice holds nothing that any of its windows must
// not have.
type Window struct {
	cfg     WindowConfig
	mem     memory.Allocator
	keyer   *pipeline.Keyer
	prog    *program
	in      *arrow.Schema
	out     *arrow.Schema
	lates   *arrow.Schema
	shares  bool // rows are folded into slices
	limited bool // rows may be shed
	keeps   bool // state rows hold the values shown last behind the accumulators

	store  store
	extras extras
	wins   map[int64]*window // by end
	order  []int64           // ends of the windows, ascending
	slices map[int64]*slice  // by start
	starts []int64           // starts of the slices, ascending
	stacks stacks            // where a window has many slices
	clocks *keyClocks        // nil: the marks of the splits decide
	deltas map[int64]*window // of OnIngest, by end
	due    int64             // of OnIngest: no timer is due before
	shed   int64             // windows that end by then were shed
	// shedByAll: so were those that end by then in every shard before the restore. In
	// between a window may be there whose keys come from several shards: it is emitted
	// (once more), so that nothing is lost.
	shedByAll int64
	fault     error // a limit was reached
	mark      int64
	now       int64
	expect    int  // rows of the window fired last, to size the next
	settled   bool // windows of restored slices are there

	missed int64
	partly int64
	// scratch of one Process call
	late    []lateRow
	block   []assigned
	at      []int32
	ids     []uint32
	touched uint64
	span    cover
}

// window is one open window.
type window struct {
	Bounds
	tab     *table
	fired   bool   // the mark has passed its end
	pending []wait // rows with something that no pane has shown, the one due first in front
	changed bool   // since the last snapshot
	leaving bool   // its keys' clocks have passed it
	delta   bool   // of OnIngest: collects rows that came after the window was closed
	again   int64  // the mark at which keys that outlive the window are looked at again
}

// wait is a row that is shown at a time of the wall clock at the latest.
type wait struct {
	id  uint32
	due int64
}

// Header word of a row: flags (8 bits), panes emitted (16), rows that no pane has shown
// (8, counted with EarlyRows and LateRows only), late rows in all (32).
const (
	headPending = 1 << 0 // on window.pending
	headNew     = 1 << 1 // has rows that no pane has shown; kept with early rules and after the end
	headGone    = 1 << 7 // has moved to another table
	headPanes   = 8      // shifts
	headWaiting = 24
	headLate    = 32
	maxLateRows = math.MaxUint8
)

// NewWindow compiles the window for rows of the given schema.
func NewWindow(cfg WindowConfig, rows *arrow.Schema, mem memory.Allocator) (*Window, error) {
	if cfg.narrow() {
		return newWindow(cfg, rows, mem, compileNarrow)
	}
	return newWindow(cfg, rows, mem, compile)
}

// newWindow is NewWindow with a layout of the accumulators.
func newWindow(cfg WindowConfig, rows *arrow.Schema, mem memory.Allocator, layout func(*arrow.Schema, []Aggregate) (*program, error)) (*Window, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keyer, kerr := pipeline.NewKeyer(rows, cfg.Keys, cfg.Seed)
	prog, perr := layout(rows, cfg.Aggregates)
	if err := errors.Join(kerr, perr); err != nil {
		return nil, err
	}
	w := &Window{cfg: cfg, mem: mem, keyer: keyer, prog: prog, in: rows, wins: map[int64]*window{}, slices: map[int64]*slice{},
		mark: pipeline.MinTicks, now: pipeline.MinTicks, shed: pipeline.MinTicks, shedByAll: pipeline.MaxTicks, settled: true, limited: cfg.Limit != (Limit{}),
		shares: cfg.Overlap() > 1 && (cfg.Trigger == OnMark && !cfg.early() || cfg.Trigger == OnClose),
		keeps:  cfg.Retract || cfg.SkipUnchanged}
	if cfg.Trigger == OnIngest {
		w.deltas, w.due = map[int64]*window{}, pipeline.MaxTicks
	}
	if cfg.Clock != nil {
		w.clocks = newKeyClocks(*cfg.Clock)
	}
	w.store.width = prog.width
	if cfg.Trigger == OnIngest {
		w.store.width++ // the largest event time
	}
	if w.keeps {
		w.store.width += prog.width - rowAcc + 1 // the last word is the late count shown
	}
	bounded := cfg.Kind == Global // its bounds are no times
	fields := slices.Clone(keyer.Fields())
	fields = append(fields,
		arrow.Field{Name: "window_start", Type: pipeline.Timestamp, Nullable: bounded},
		arrow.Field{Name: "window_end", Type: pipeline.Timestamp, Nullable: bounded})
	for _, o := range prog.outs {
		fields = append(fields, o.field)
	}
	fields = append(fields,
		arrow.Field{Name: "late_count", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "_tm_pane", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32, Nullable: cfg.Trigger == OnIngest},
		arrow.Field{Name: "_tm_final", Type: arrow.FixedWidthTypes.Boolean})
	if cfg.Trigger == OnIngest {
		fields = append(fields,
			arrow.Field{Name: "max_event_time", Type: pipeline.Timestamp},
			arrow.Field{Name: "_tm_emitted_at", Type: pipeline.Timestamp})
	}
	if cfg.Retract {
		fields = append(fields, arrow.Field{Name: "_tm_kind", Type: arrow.BinaryTypes.String})
	}
	var err error
	if w.out, err = resultSchema(fields); err != nil {
		return nil, err
	}
	w.lates = LateSchema(rows)
	return w, nil
}

// resultSchema is the schema of results with the given columns. Two of one name are an error.
func resultSchema(fields []arrow.Field) (*arrow.Schema, error) {
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return nil, fmt.Errorf("result column %q is there twice: rename an aggregate (as)", f.Name)
		}
		seen[f.Name] = true
	}
	return arrow.NewSchema(fields, nil), nil
}

// LateSchema is the schema of the Late port of a window over rows of the given schema:
// the row, why it is late, by how much its split's mark had passed it, the window that it
// missed, and how many it missed, where windows overlap: that is then the last of them.
func LateSchema(rows *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(append(slices.Clone(rows.Fields()),
		arrow.Field{Name: "reason", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "late_by_us", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "window_start", Type: pipeline.Timestamp},
		arrow.Field{Name: "window_end", Type: pipeline.Timestamp},
		arrow.Field{Name: "windows_missed", Type: arrow.PrimitiveTypes.Int64}), nil)
}

// Schema is the schema of the results: key columns, window_start, window_end (null for the
// global window), the aggregates, late_count (rows that came behind their split's mark and
// were accepted), _tm_pane, _tm_revision, _tm_final (nothing can follow), and _tm_kind with
// Retract. With OnIngest max_event_time follows, the largest event time that was ever added,
// and _tm_emitted_at, the ingest time at which the row was due; additions have no revision.
func (w *Window) Schema() *arrow.Schema { return w.out }

// Open returns the number of open (key, window) pairs. Where windows share slices it looks
// every key of every slice up once.
func (w *Window) Open() int {
	w.settle()
	if w.cfg.Trigger == OnIngest {
		return w.openIngest()
	}
	n := 0
	for _, win := range w.wins {
		n += win.tab.rows
	}
	if !w.shares {
		return n
	}
	// A key makes a pair with each window that begins behind the slice in which it was seen
	// before; keys that a window has by itself are not counted again.
	scratch := store{width: rowAcc}
	seen := newTable(&scratch, w.expect)
	var key [16]byte
	var bounds []Bounds
	for _, start := range w.starts {
		sl := w.slices[start]
		bounds = w.cfg.Windows(bounds[:0], sl.Bounds)
		for i := range sl.tab.rows {
			k := sl.tab.key(w.store.row(sl.tab.id(i)), &key)
			hash := w.keyer.Hash(k)
			id, added := seen.find(hash, k)
			before := int64(scratch.row(id)[rowHead])
			scratch.row(id)[rowHead] = uint64(start)
			for _, b := range bounds {
				win := w.wins[b.End]
				if win == nil || w.merged(b) || !added && b.Start <= before {
					continue
				}
				if win.tab.rows > 0 {
					if _, held := win.tab.lookup(hash, k); held {
						continue
					}
				}
				n++
			}
		}
	}
	return n
}

// Held returns the number of rows of state: one for each open (key, window) pair, and where
// windows share slices one for each key and slice in place of the pairs that it makes. It is
// cheap, Open is not.
func (w *Window) Held() int {
	n := 0
	for _, win := range w.wins {
		n += win.tab.rows
	}
	for _, sl := range w.slices {
		n += sl.tab.rows
	}
	for _, win := range w.deltas {
		n += win.tab.rows
	}
	return n
}

// Bytes returns the memory of the state.
func (w *Window) Bytes() int64 {
	n := w.store.bytes() + w.extras.bytes()
	for _, win := range w.wins {
		n += win.tab.bytes()
	}
	for _, sl := range w.slices {
		n += sl.tab.bytes()
	}
	for _, win := range w.deltas {
		n += win.tab.bytes()
	}
	n += w.stacks.bytes()
	if w.clocks != nil {
		n += w.clocks.bytes()
	}
	return n
}

// Overflows returns how many values of results are null because they did not fit.
func (w *Window) Overflows() int64 { return w.extras.overflows }

// Dropped returns how many values results were made without because they were beyond a
// cap; a value counts once for each result that lacks it.
func (w *Window) Dropped() int64 { return w.extras.dropped }

// Missed returns how many (row, window) pairs were late since the operator was made: all
// windows of a late row, and those that a row missed while a later one took it.
func (w *Window) Missed() int64 { return w.missed }

// Tally returns what was counted since the operator was made.
func (w *Window) Tally() pipeline.Tally {
	t := pipeline.Tally{Missed: w.missed, Partly: w.partly, Overflows: w.extras.overflows, Dropped: w.extras.dropped}
	if w.clocks != nil {
		t.Moved = w.clocks.moved
	}
	return t
}

// blockRows is how many rows are looked up together, so that their cache misses overlap.
const blockRows = 256

// Process folds a batch. Rows keep their order within a key. Rows that lie in no window
// (between windows) are counted as filtered.
func (w *Window) Process(in pipeline.Batch, out pipeline.Emitter) error {
	w.settle()
	w.late = w.late[:0]
	if w.cfg.Trigger == OnIngest {
		return w.processIngest(in, out)
	}
	n := in.NumRows()
	outside := 0
	block := blockRows
	if w.cfg.Limit.KeyWindows > 0 {
		block = 1 // a row must see what the one before it has opened
	}
	for from := 0; from < n; from += block {
		outside += w.assign(in, from, min(from+block, n))
		for part := range slices.Chunk(w.block, blockRows) {
			if err := w.take(in, part, out); err != nil {
				return err
			}
		}
	}
	w.fold(in.Rec)
	out.Count(pipeline.Aggregated, in.Split, int64(n-len(w.late)-outside))
	if outside > 0 {
		out.Count(pipeline.Filtered, in.Split, int64(outside))
	}
	return w.finish(in, out)
}

// finish sends the late rows of a batch and sees to the limit.
func (w *Window) finish(in pipeline.Batch, out pipeline.Emitter) error {
	if len(w.late) > 0 {
		if err := emitLate(w.mem, w.lates, in, w.late, out); err != nil {
			return err
		}
	}
	return w.bound(out)
}

// assigned is a row with a table that takes it.
type assigned struct {
	tab    *table
	win    *window // nil for a slice
	row    int32
	behind bool // accepted after its split's mark had completed the window
}

// cover is the span of the rows at hand and its windows, opened when a row needs them.
type cover struct {
	Bounds
	bounds []Bounds
	wins   []*window // nil where not looked up yet
	slice  *slice
}

// leave forgets the span, since a window that it names has gone.
func (c *cover) leave() { c.Bounds = Bounds{pipeline.MaxTicks, pipeline.MinTicks} }

// assign finds the tables of every row of a block and puts aside the rows that are late.
// It returns how many rows lie in no window.
func (w *Window) assign(in pipeline.Batch, from, to int) (outside int) {
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	judged := in.Behind != nil || in.Passed != pipeline.MinTicks
	var ingest []int64
	if w.clocks != nil {
		ingest = pipeline.TicksOf(in.Rec.Column(pipeline.ColIngest).(*array.Timestamp))
	}
	w.block = w.block[:0]
	sp := &w.span
	sp.leave()
	for i := from; i < to; i++ {
		r := int32(i)
		if in.Rows != nil {
			r = in.Rows[i]
		}
		if t := times[r]; t < sp.Start || t >= sp.End {
			w.moveTo(t)
		}
		v := pipeline.MinTicks
		missed := 0
		if judged {
			v = in.Verdict(r)
		}
		if w.clocks != nil {
			v = w.clocks.judge(in.Keys.Hash[r], in.Keys.At(r), v, times[r], ingest[r], in.Split)
		}
		if judged {
			for missed < len(sp.bounds) && w.cleanup(sp.bounds[missed].End) <= v {
				missed++
			}
			w.missed += int64(missed)
		}
		if w.limited {
			if missed = w.admit(in, r, v, missed); missed < 0 {
				continue
			}
		}
		if missed == len(sp.bounds) {
			if missed == 0 {
				outside++
				continue
			}
			w.late = append(w.late, w.lateRow(in, r, v))
			continue
		}
		if missed > 0 {
			w.partly++
		}
		if w.shares && missed == 0 && last(sp.bounds[0].End) > max(v, w.mark) {
			if sp.slice == nil {
				sp.slice = w.openSlice(sp.Bounds)
			}
			w.block = append(w.block, assigned{tab: sp.slice.tab, row: r})
			sp.slice.changed = true
			continue
		}
		for k := missed; k < len(sp.bounds); k++ {
			if sp.wins[k] == nil {
				sp.wins[k] = w.open(sp.bounds[k])
			}
			win := sp.wins[k]
			w.block = append(w.block, assigned{win.tab, win, r, last(win.End) <= v})
		}
	}
	return outside
}

// lateRow judges a row that came when all windows of w.span were passed by mark.
func (w *Window) lateRow(in pipeline.Batch, r int32, mark int64) lateRow {
	missed := w.span.bounds[len(w.span.bounds)-1] // the last of them
	return lateRow{r, missed, len(w.span.bounds), mark, reasonOf(in, r, w.cleanup(missed.End))}
}

// moveTo makes w.span the span around t.
func (w *Window) moveTo(t int64) {
	sp := &w.span
	sp.Bounds = w.cfg.Span(t)
	sp.bounds = w.cfg.Windows(sp.bounds[:0], sp.Bounds)
	sp.wins = sp.wins[:0]
	for _, b := range sp.bounds {
		sp.wins = append(sp.wins, w.wins[b.End])
	}
	sp.slice = nil
	if w.shares {
		sp.slice = w.slices[sp.Start]
	}
}

// cleanup returns the mark at which a window that ends at end is freed.
func (w *Window) cleanup(end int64) int64 { return pipeline.AddTicks(last(end), w.cfg.Lateness) }

// merged tells whether a window has taken in its slices, as far as the mark has come.
func (w *Window) merged(b Bounds) bool { return b.End <= w.shed || w.passed(b) }

// passed tells whether the mark has come far enough for a window to take in its slices.
func (w *Window) passed(b Bounds) bool {
	if w.cfg.Trigger == OnClose {
		return w.cleanup(b.End) <= w.mark
	}
	return last(b.End) <= w.mark
}

// take looks up the rows of a block and folds them.
func (w *Window) take(in pipeline.Batch, block []assigned, out pipeline.Emitter) error {
	w.touch(in, block)
	early := w.cfg.Trigger == OnUpdate || w.cfg.early()
	for i := range block {
		a := &block[i]
		id, added := a.tab.find(in.Keys.Hash[a.row], in.Keys.At(a.row))
		if added {
			w.prog.init(w.store.row(id))
		}
		w.at, w.ids = append(w.at, a.row), append(w.ids, id)
		if a.win == nil {
			continue
		}
		a.win.changed = true
		if a.behind {
			w.store.row(id)[rowHead] += 1 << headLate
		}
		if early || a.win.fired && w.cfg.Trigger == OnMark {
			if err := w.accepted(in.Rec, a.win, id, out); err != nil {
				return err
			}
		}
	}
	if len(w.at) > maxResultRows {
		w.fold(in.Rec)
	}
	return nil
}

// touch reads the slot of every row of the block, then the state row behind it. The reads
// do not depend on each other, so the processor waits for them together; what they find
// is not used.
func (w *Window) touch(in pipeline.Batch, block []assigned) {
	if w.store.bytes() < 1<<20 {
		return // it lies in the cache anyway
	}
	var slots [blockRows]uint64
	for i, a := range block {
		tab := a.tab
		slots[i&(blockRows-1)] = tab.index[in.Keys.Hash[a.row]&uint64(len(tab.index)-1)]
	}
	var sum uint64
	for i := range block {
		if slot := slots[i&(blockRows-1)]; slot != 0 {
			sum += w.store.row(uint32(slot) - 1)[rowKey]
		}
	}
	w.touched = sum
}

func (w *Window) fold(rec arrow.RecordBatch) {
	if len(w.ids) == 0 {
		return
	}
	w.prog.update(&w.store, rec, w.at, w.ids, &w.extras)
	w.at, w.ids = w.at[:0], w.ids[:0]
}

// open returns the window with the given bounds.
func (w *Window) open(b Bounds) *window {
	if win := w.wins[b.End]; win != nil {
		return win
	}
	expect := w.expect
	if w.shares {
		expect = 0 // it gets its rows when it takes in its slices
	}
	win := &window{Bounds: b, tab: newTable(&w.store, expect), fired: last(b.End) <= w.mark, again: pipeline.MinTicks}
	w.wins[b.End] = win
	at, _ := slices.BinarySearch(w.order, b.End)
	w.order = slices.Insert(w.order, at, b.End)
	return win
}

// settle makes the windows of restored slices, those that had not taken them in at the
// restored mark.
func (w *Window) settle() {
	if w.settled {
		return
	}
	w.settled = true
	for _, start := range w.starts {
		w.openWindows(w.cfg.Windows(nil, w.slices[start].Bounds), w.shedByAll)
	}
	for _, win := range w.deltas {
		w.settleWaits(win)
	}
	for _, win := range w.wins {
		win.fired = win.fired || last(win.End) <= w.mark
		w.settleWaits(win)
	}
}

func (w *Window) settleWaits(win *window) {
	slices.SortStableFunc(win.pending, func(a, b wait) int { return cmp.Compare(a.due, b.due) })
	if len(win.pending) > 0 {
		w.due = min(w.due, win.pending[0].due)
	}
}

// accepted handles a row of a window that may show rows before its end, or has fired.
// Before anything is shown the rows that came first are folded, and this one.
func (w *Window) accepted(rec arrow.RecordBatch, win *window, id uint32, out pipeline.Emitter) error {
	row := w.store.row(id)
	row[rowHead] |= headNew
	if w.cfg.Trigger == OnUpdate {
		w.fold(rec)
		return w.emit(win, []uint32{id}, paneUpdate, out)
	}
	pane, rows := paneEarly, w.cfg.EarlyRows
	if win.fired {
		pane, rows = paneLate, w.cfg.LateRows
	}
	if rows > 0 {
		row[rowHead] += 1 << headWaiting
		if int(row[rowHead]>>headWaiting&maxLateRows) >= rows {
			if at := slices.IndexFunc(win.pending, func(p wait) bool { return p.id == id }); at >= 0 {
				win.pending = slices.Delete(win.pending, at, at+1)
			}
			w.fold(rec)
			return w.emit(win, []uint32{id}, pane, out)
		}
	}
	if row[rowHead]&headPending != 0 {
		return nil
	}
	due := pipeline.AddTicks(w.now, w.cfg.LateDelay)
	if !win.fired {
		switch {
		case w.cfg.EarlyDelay == 0:
			return nil
		case w.cfg.EarlyAligned:
			due = pipeline.AddTicks(FloorStart(w.now, w.cfg.EarlyDelay, 0), w.cfg.EarlyDelay)
		default:
			due = pipeline.AddTicks(w.now, w.cfg.EarlyDelay)
		}
	}
	row[rowHead] |= headPending
	win.pending = append(win.pending, wait{id, due})
	return nil
}

// Advance fires the windows that the mark completes, then frees those whose lateness it
// has passed.
func (w *Window) Advance(m pipeline.Mark, out pipeline.Emitter) error {
	w.settle()
	if w.cfg.Trigger == OnIngest {
		return w.advanceIngest(m.Ingest, out)
	}
	if m.Event <= w.mark {
		return nil
	}
	before := w.mark
	w.mark = m.Event
	kept := w.order[:0]
	for i, end := range w.order {
		win := w.wins[end]
		if last(end) > w.mark && w.cfg.EarlyEvery == 0 {
			kept = append(kept, w.order[i:]...)
			break
		}
		rest, err := w.pass(win, before, out)
		if err != nil {
			return err
		}
		if rest != win {
			w.free(win)
			w.span.leave()
		}
		if rest != nil {
			w.wins[end] = rest
			kept = append(kept, end)
		}
	}
	w.order = kept
	if cap(w.order) > 4*len(w.order)+64 {
		w.order = slices.Clone(w.order)
	}
	w.freeSlices()
	if w.clocks != nil {
		w.clocks.sweep(w.mark, w.keyer.Hash)
	}
	return nil
}

// Overdue returns how many rows of state are there though nothing would ever free them: 0
// unless there is a leak.
func (w *Window) Overdue() int {
	n := 0
	for _, win := range w.wins {
		due := w.cleanup(win.End)
		switch {
		case w.cfg.Trigger == OnIngest && len(win.pending) > 0:
			continue
		case w.cfg.Trigger == OnIngest:
			due = w.closing(win.End)
		case w.clocks != nil:
			due = pipeline.AddTicks(due, w.clocks.MaxOffline)
		}
		if due <= w.mark {
			n += win.tab.rows
		}
	}
	for _, win := range w.deltas {
		if len(win.pending) == 0 {
			n += win.tab.rows
		}
	}
	for _, sl := range w.slices {
		if w.merged(Bounds{End: sl.until}) {
			n += sl.tab.rows
		}
	}
	return n
}

// pass does what becomes due in a window when the mark rises from before to w.mark. It
// returns what is left of the window: itself, nil when it is done with, or a window of the
// keys whose own clock has not passed it.
func (w *Window) pass(win *window, before int64, out pipeline.Emitter) (rest *window, err error) {
	if last(win.End) > w.mark {
		return win, w.passing(win, before, out)
	}
	now := !win.fired
	if now {
		if err := w.fire(win, out); err != nil {
			return nil, err
		}
	}
	if w.cleanup(win.End) > w.mark || w.mark < win.again {
		return win, nil
	}
	if w.cfg.Trigger == OnClose && w.cleanup(win.End) > before {
		w.mergeSlices(win)
		win.changed = true
	}
	if w.clocks != nil {
		if rest = w.outliving(win); rest == win {
			return win, nil
		}
		win.leaving = true
	}
	switch {
	case w.cfg.Trigger == OnClose:
		err = w.emitAll(win, paneFinal, false, out)
	case w.cfg.Trigger == OnRule && now:
		err = w.emitAll(win, paneOnTime, true, out)
	case w.cfg.Trigger == OnRule:
		err = w.emitAll(win, paneLate, true, out)
	default:
		err = w.emitPending(win, pipeline.MaxTicks, out)
	}
	return rest, err
}

// passing emits the rows of an open window when the mark has passed a multiple of
// EarlyEvery behind its start.
func (w *Window) passing(win *window, before int64, out pipeline.Emitter) error {
	at := FloorStart(w.mark, w.cfg.EarlyEvery, 0)
	if at <= before || at <= win.Start {
		return nil
	}
	return w.emitAll(win, paneEarly, w.cfg.Discard, out)
}

// fire completes a window.
func (w *Window) fire(win *window, out pipeline.Emitter) error {
	win.fired, win.changed = true, true
	if w.cfg.Trigger == OnMark {
		w.mergeSlices(win)
		w.expect = win.tab.rows
		return w.emitAll(win, paneOnTime, w.cfg.early() && (w.cfg.Discard || w.cfg.OnTimeIfNew), out)
	}
	w.expect = win.tab.rows
	return nil
}

func (w *Window) free(win *window) {
	w.dropRows(win.tab)
	delete(w.wins, win.End)
}

func (w *Window) dropRows(tab *table) {
	if w.prog.extras {
		for i := range tab.rows {
			row := w.store.row(tab.id(i))
			w.prog.drop(row, &w.extras)
			if w.keeps {
				w.prog.drop(w.shown(row), &w.extras)
			}
		}
	}
	tab.release()
}

// Tick emits the rows that have waited long enough.
func (w *Window) Tick(now int64, out pipeline.Emitter) error {
	w.settle()
	w.now = max(w.now, now)
	if w.cfg.Trigger == OnIngest {
		return nil
	}
	for _, end := range w.order {
		win := w.wins[end]
		if !win.fired && w.cfg.EarlyDelay == 0 {
			break
		}
		if err := w.emitPending(win, w.now, out); err != nil {
			return err
		}
	}
	return nil
}

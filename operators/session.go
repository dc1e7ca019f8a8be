package operators

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Touch says what becomes of two sessions when one ends at the tick where the other
// starts.
type Touch string

const (
	// TouchSplit keeps them apart: a session [first, last+gap) takes rows with time <
	// last+gap, and the mark that completes it says that there are no more of them.
	TouchSplit Touch = "split"
	// TouchMerge makes them one, as Flink does. A session is then kept for one tick more,
	// so that a row that is on time finds it.
	TouchMerge Touch = "merge"
)

// SessionConfig describes sessions: runs of rows of a key, each less than Gap after the
// one before. All durations are ticks.
type SessionConfig struct {
	Gap int64
	// GapColumn names an int64 column that holds the gap after each row in ticks; a row
	// where it is null or not above 0 has Gap. Empty: all rows have Gap.
	GapColumn string
	// Limit bounds the state.
	Limit    Limit
	Touch    Touch
	Lateness int64
	// MaxLength cuts a session: it ends MaxLength after its first row at the latest, and
	// the next row begins another. A row that would join two sessions to one that is longer
	// joins the earlier only, and the windows of the two then overlap. The rows that such a
	// session has depend on their order, as no other does. MaxTicks: no cap.
	MaxLength int64
	Trigger   Trigger
	// EarlyRows emits an early pane of a session whenever that many of its rows wait that no
	// pane has shown. 0: none.
	EarlyRows int
	// EarlyDelay emits an early pane of a session that much wall time after the first of its
	// rows that wait, or with EarlyAligned at the next multiple of EarlyDelay. Of sessions
	// that become one, the row that waits longest counts. 0: none.
	EarlyDelay   int64
	EarlyAligned bool
	// EarlyEvery emits an early pane of the open sessions that have something new
	// whenever the mark passes a multiple of it. 0: none.
	EarlyEvery int64
	// LateRows and LateDelay are those of TumblingConfig, per session.
	LateRows  int
	LateDelay int64
	// Discard starts the aggregates anew after each pane; the panes of sessions that become
	// one add up, so nothing is withdrawn.
	Discard bool
	// OnTimeIfNew leaves out, when the mark completes a session, one without anything that no
	// pane has shown.
	OnTimeIfNew bool
	// Retract adds column _tm_kind: +I for a new result, -U and +U for the old and the new
	// values of one that changes, -D for a withdrawal.
	Retract bool
	// SkipUnchanged leaves out a pane whose aggregates are those of the one before; one with
	// another window is never left out.
	SkipUnchanged bool
	Keys          []string
	Aggregates    []Aggregate
	// Seed of the key hash.
	Seed uint64
}

// Validate returns every problem.
func (c SessionConfig) Validate() error {
	var errs []error
	if c.Gap <= 0 {
		errs = append(errs, fmt.Errorf("session gap %v: must be above 0", ticks(c.Gap)))
	} else if c.MaxLength < c.Gap {
		errs = append(errs, fmt.Errorf("session max_length %v: must be at least the gap (%v)", ticks(c.MaxLength), ticks(c.Gap)))
	}
	switch c.Touch {
	case TouchSplit, TouchMerge:
	default:
		errs = append(errs, fmt.Errorf("session touch %q: known are %s, %s", c.Touch, TouchSplit, TouchMerge))
	}
	errs = append(errs, c.Limit.Validate())
	return errors.Join(append(errs, c.emission().problems()...)...)
}

func (c SessionConfig) emission() emission {
	return emission{lateness: c.Lateness, trigger: c.Trigger, earlyRows: c.EarlyRows, earlyDelay: c.EarlyDelay, earlyEvery: c.EarlyEvery,
		lateRows: c.LateRows, lateDelay: c.LateDelay, discard: c.Discard, retract: c.Retract, skipUnchanged: c.SkipUnchanged, aggregates: len(c.Aggregates)}
}

// paneRetracted is the pane of a row that takes back what was shown of a session.
const paneRetracted = "retracted"

// kindDelete is the kind of that row with Retract.
const kindDelete = "-D"

// Session folds rows into sessions by key. It is pipeline.Stateful.
//
// A row at t asks for the window [t, t+gap). It joins every session of its key that this
// window meets, and they become one session from the earliest start to the latest end. A
// session that the row's own split has passed, end - 1 + lateness <= its mark before the
// row, takes no rows, whether or not the merged mark has freed it yet; a row that finds no
// session and whose own window is passed is Late. So the sessions of a key that comes
// through one split are a function of that split, and rows within the bound give the same
// sessions in any order.
//
// A session emits when the mark reaches end - 1, and is freed at end - 1 + lateness. A row
// that is accepted later may give it another window: then what was shown of the old window
// is withdrawn by a row with the old bounds, null aggregates and pane "retracted" (with
// Retract: kind "-D"), and the new window emits, at once as "late" when the mark has passed
// its end too, else as "on_time" when the mark gets there.
type Session struct {
	cfg   SessionConfig
	mem   memory.Allocator
	keyer *pipeline.Keyer
	prog  *program
	gap   int // column of the gap, -1 for none
	out   *arrow.Schema
	lates *arrow.Schema
	state *arrow.Schema

	keeps bool // rows hold what was shown last

	ses     *sessions
	extras  extras
	ends    *calendar
	frees   *calendar
	before  waitings // sessions with rows that wait for an early pane, and
	after   waitings // for a late one
	shed    int64    // sessions that end by then were shed
	edges   int64    // rows at the very end of a session
	fault   error    // a limit was reached
	mark    int64
	now     int64
	longest int64 // no session was ever longer
	changed [pipeline.NumGroups]bool

	missed int64
	// scratch of one call
	times []int64
	gaps  *array.Int64 // nil when all rows have the gap of the configuration
	late  []lateRow
	at    []int32
	ids   []uint32
	cands []uint32
}

// Flags in the header word of a session, beside headPending and headNew.
const (
	headFired = 1 << 2 // the mark has passed its end
	headShown = 1 << 3 // a pane of this window is out and not withdrawn
	headEnds  = 1 << 4 // filed in ends
	headFrees = 1 << 5 // filed in frees
)

// calendarBuckets is into how many buckets the gap, or the lateness, is divided.
const calendarBuckets = 256

// NewSession compiles sessions for rows of the given schema.
func NewSession(cfg SessionConfig, rows *arrow.Schema, mem memory.Allocator) (*Session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keyer, kerr := pipeline.NewKeyer(rows, cfg.Keys, cfg.Seed)
	prog, perr := compile(rows, cfg.Aggregates)
	gap, gerr := -1, error(nil)
	if cfg.GapColumn != "" {
		at := rows.FieldIndices(cfg.GapColumn)
		if len(at) != 1 || rows.Field(at[0]).Type.ID() != arrow.INT64 {
			gerr = fmt.Errorf("session gap_column %q: not an int64 column of the rows", cfg.GapColumn)
		} else if scale, ok := rows.Field(at[0]).Metadata.GetValue(pipeline.ScaleKey); ok && scale != "0" {
			gerr = fmt.Errorf("session gap_column %q: %s digits behind the point, want whole microseconds", cfg.GapColumn, scale)
		} else {
			gap = at[0]
		}
	}
	if err := errors.Join(kerr, perr, gerr); err != nil {
		return nil, err
	}
	keeps := cfg.Retract || cfg.SkipUnchanged
	w := &Session{cfg: cfg, mem: mem, keyer: keyer, prog: prog, gap: gap, lates: LateSchema(rows),
		keeps: keeps, ses: newSessions(prog.width, keeps), mark: pipeline.MinTicks, shed: pipeline.MinTicks, now: pipeline.MinTicks}
	w.ends = newCalendar(cfg.Gap/calendarBuckets, headEnds)
	w.frees = newCalendar(max(cfg.Gap, cfg.Lateness)/calendarBuckets, headFrees)
	fields := slices.Clone(keyer.Fields())
	fields = append(fields,
		arrow.Field{Name: "window_start", Type: pipeline.Timestamp},
		arrow.Field{Name: "window_end", Type: pipeline.Timestamp})
	for _, o := range prog.outs {
		f := o.field
		f.Nullable = true // in a withdrawal
		fields = append(fields, f)
	}
	fields = append(fields,
		arrow.Field{Name: "late_count", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "_tm_pane", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "_tm_final", Type: arrow.FixedWidthTypes.Boolean})
	if cfg.Retract {
		fields = append(fields, arrow.Field{Name: "_tm_kind", Type: arrow.BinaryTypes.String})
	}
	if !cfg.Discard { // panes that add up are never withdrawn
		fields = append(fields, arrow.Field{Name: "_tm_del", Type: arrow.FixedWidthTypes.Boolean})
	}
	var err error
	if w.out, err = resultSchema(fields); err != nil {
		return nil, err
	}
	w.state = w.stateSchema()
	return w, nil
}

// Schema is the schema of the results: key columns, window_start (time of the first row),
// window_end (of the last row plus its gap), the aggregates, late_count (rows that were
// accepted after their split's mark had completed the session), _tm_pane, _tm_revision,
// _tm_final (nothing can follow, under these bounds), with
// Retract _tm_kind, and without Discard _tm_del: true for a row that withdraws the results
// of its key and window, and gives null aggregates.
func (w *Session) Schema() *arrow.Schema { return w.out }

// Open returns the number of open sessions.
func (w *Session) Open() int { return w.ses.rows }

// Held is Open.
func (w *Session) Held() int { return w.Open() }

// Bytes returns the memory of the state.
func (w *Session) Bytes() int64 {
	return w.ses.bytes() + w.ends.bytes() + w.frees.bytes() + w.extras.bytes() + w.before.bytes() + w.after.bytes()
}

// Overflows returns how many values of results are null because they did not fit.
func (w *Session) Overflows() int64 { return w.extras.overflows }

// Dropped returns how many values results were made without because they were beyond a
// cap; a value counts once for each result that lacks it.
func (w *Session) Dropped() int64 { return w.extras.dropped }

// Overdue returns how many sessions nothing would ever free: 0 unless there is a leak.
func (w *Session) Overdue() int {
	n := 0
	w.ses.each(func(id uint32) {
		row := w.ses.row(id)
		if row[rowHead]&(headEnds|headFrees) == 0 || w.cleanup(w.ses.end(row)) <= w.mark {
			n++
		}
	})
	return n
}

// Tally returns what was counted since the operator was made.
func (w *Session) Tally() pipeline.Tally {
	return pipeline.Tally{Edges: w.edges, Missed: w.missed, Overflows: w.extras.overflows, Dropped: w.extras.dropped}
}

// Missed returns how many rows were late since the operator was made.
func (w *Session) Missed() int64 { return w.missed }

// Process folds a batch. Rows keep their order.
func (w *Session) Process(in pipeline.Batch, out pipeline.Emitter) error {
	w.late = w.late[:0]
	w.times = pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	if w.gap >= 0 {
		w.gaps = in.Rec.Column(w.gap).(*array.Int64)
	}
	defer func() { w.times, w.gaps = nil, nil }() // the batch is lent
	n := in.NumRows()
	for i := range n {
		r := int32(i)
		if in.Rows != nil {
			r = in.Rows[i]
		}
		if err := w.take(in, r, out); err != nil {
			return err
		}
	}
	w.fold(in.Rec)
	out.Count(pipeline.Aggregated, in.Split, int64(n-len(w.late)))
	if len(w.late) > 0 {
		w.missed += int64(len(w.late))
		if err := emitLate(w.mem, w.lates, in, w.late, out); err != nil {
			return err
		}
	}
	return w.bound(out)
}

// refuse says why a row that finds no session may not open one: it is late, its session was
// shed, or its key has as many as it may. Empty: it may.
func (w *Session) refuse(in pipeline.Batch, r int32, own Bounds, head uint32, v int64) string {
	latest := w.latest(own.End)
	switch {
	case latest <= v:
		return reasonOf(in, r, latest)
	case own.End <= w.shed:
		return reasonShed
	case w.cfg.Limit.KeyWindows == 0:
		return ""
	}
	n := 0
	for id := head; id != 0; id = w.ses.next(w.ses.row(id - 1)) {
		n++
	}
	if n < w.cfg.Limit.KeyWindows {
		return ""
	}
	if w.cfg.Limit.Policy == LimitStop {
		w.fault = fmt.Errorf("a key with %d sessions open gets a row for another, at offset %d of split %d: %w; raise the limit of windows a key, or shed",
			n, in.Rec.Column(pipeline.ColOffset).(*array.Int64).Value(int(r)), in.Split, ErrLimit)
	}
	return reasonShed
}

// bound sees to the limit of bytes. It sheds a tenth of the sessions at a time, those that
// end first.
func (w *Session) bound(out pipeline.Emitter) error {
	limit := w.cfg.Limit.Bytes
	switch {
	case w.fault != nil:
		return w.fault
	case limit == 0 || w.used() <= limit:
		return nil
	case w.cfg.Limit.Policy == LimitStop:
		return fmt.Errorf("sessions hold %d bytes, %d are allowed: %w; raise the limit, shorten gap, lateness or disorder bound, or shed", w.used(), limit, ErrLimit)
	}
	for w.used() > limit && w.ses.rows > 0 {
		ids := make([]uint32, 0, w.ses.rows)
		w.ses.each(func(id uint32) { ids = append(ids, id) })
		slices.SortFunc(ids, func(a, b uint32) int { return cmp.Compare(w.ses.end(w.ses.row(a)), w.ses.end(w.ses.row(b))) })
		w.shed = max(w.shed, w.ses.end(w.ses.row(ids[len(ids)/10])))
		n := 0
		for n < len(ids) && w.ses.end(w.ses.row(ids[n])) <= w.shed {
			n++
		}
		if err := w.free(ids[:n], paneShed, out); err != nil {
			return err
		}
	}
	return nil
}

// used returns the bytes of state in use.
func (w *Session) used() int64 {
	free := w.ses.store.bytes() - int64(w.ses.rows)*int64(w.ses.store.width)*8
	return w.Bytes() - free
}

// own returns the window that row r of the batch at hand asks for.
func (w *Session) own(r int32) Bounds {
	t, gap := w.times[r], w.cfg.Gap
	if w.gaps != nil && w.gaps.IsValid(int(r)) && w.gaps.Value(int(r)) > 0 {
		gap = min(w.gaps.Value(int(r)), w.cfg.MaxLength)
	}
	return Bounds{t, pipeline.AddTicks(t, gap)}
}

// cleanup is the mark at which a session that ends at end is freed.
func (w *Session) cleanup(end int64) int64 {
	if w.cfg.Touch == TouchMerge {
		return pipeline.AddTicks(end, w.cfg.Lateness)
	}
	return w.latest(end)
}

// latest is the mark from which on a session that ends at end is late.
func (w *Session) latest(end int64) int64 { return pipeline.AddTicks(last(end), w.cfg.Lateness) }

// candidates collects the sessions of a list that a row with the window own may join,
// earliest start first.
func (w *Session) candidates(head uint32, own Bounds, v int64) []uint32 {
	w.cands = w.cands[:0]
	for id := head; id != 0; {
		row := w.ses.row(id - 1)
		start, end := w.ses.start(row), w.ses.end(row)
		if pipeline.AddTicks(start, w.longest) < own.Start {
			break // and all that start earlier end earlier too
		}
		meets := start < own.End && own.Start < end
		passed := w.latest(end) <= v
		if w.cfg.Touch == TouchMerge && (start == own.End || own.Start == end) {
			meets = true
			passed = w.cleanup(end) <= v
		}
		if own.Start == end && w.cfg.Touch == TouchSplit {
			w.edges++
		}
		if meets && !passed {
			w.cands = append(w.cands, id-1)
		}
		id = w.ses.next(row)
	}
	slices.Reverse(w.cands)
	return w.cands
}

// join returns which of the candidates become one session with a row, and its window.
func (w *Session) join(cands []uint32, own Bounds) ([]uint32, Bounds) {
	joined, win := cands[:0:len(cands)], own
	home := -1
	for i, id := range cands {
		row := w.ses.row(id)
		start, end := w.ses.start(row), w.ses.end(row)
		if start <= own.Start && own.Start < pipeline.AddTicks(start, w.cfg.MaxLength) {
			win = Bounds{start, min(max(end, own.End), pipeline.AddTicks(start, w.cfg.MaxLength))}
			home = i
			break
		}
	}
	for i, id := range cands {
		row := w.ses.row(id)
		both := Bounds{min(win.Start, w.ses.start(row)), max(win.End, w.ses.end(row))}
		if i != home && pipeline.SubTicks(both.End, both.Start) > w.cfg.MaxLength {
			continue
		}
		win = both
		joined = append(joined, id)
	}
	return joined, win
}

// take puts one row into its session.
func (w *Session) take(in pipeline.Batch, r int32, out pipeline.Emitter) error {
	own, v := w.own(r), in.Verdict(r)
	hash, key := in.Keys.Hash[r], in.Keys.At(r)
	head, _ := w.ses.lookup(hash, key)
	joined, win := w.join(w.candidates(head, own, v), own)
	if len(joined) == 0 {
		if reason := w.refuse(in, r, own, head, v); reason != "" {
			w.late = append(w.late, lateRow{r, own, 1, max(v, w.times[r]), reason})
			return nil
		}
	}
	w.changed[pipeline.Group(hash)] = true
	w.longest = max(w.longest, pipeline.SubTicks(win.End, win.Start))
	var id uint32
	if len(joined) == 0 {
		id = w.ses.add(hash, key, win.Start, win.End)
		w.prog.init(w.ses.prog(w.ses.row(id)))
	} else {
		var err error
		if id, err = w.merge(in.Rec, hash, key, joined, win, out); err != nil {
			return err
		}
	}
	row := w.ses.row(id)
	if last(win.End) <= v {
		row[rowHead] += 1 << headLate
	}
	row[rowHead] |= headNew
	w.at, w.ids = append(w.at, r), append(w.ids, id)
	fired := last(win.End) <= w.mark
	if fired {
		row[rowHead] |= headFired
	} else { // one that had fired is revived: it fires again when the mark gets there
		row[rowHead] &^= headFired
	}
	w.schedule(id, row)
	switch {
	case w.cfg.Trigger == OnUpdate:
		w.fold(in.Rec)
		return w.emit([]uint32{id}, paneUpdate, out)
	case w.fires():
		return w.accepted(in.Rec, id, out)
	}
	return nil
}

// merge makes one session with the window win of those joined, and returns its row.
func (w *Session) merge(rec arrow.RecordBatch, hash uint64, key []byte, joined []uint32, win Bounds, out pipeline.Emitter) (uint32, error) {
	keep := joined[0]
	for _, id := range joined {
		if row := w.ses.row(id); w.ses.start(row) == win.Start && w.ses.end(row) == win.End {
			keep = id // its window stays
		}
	}
	for _, id := range joined {
		row := w.ses.row(id)
		if row[rowHead]&headShown != 0 && (w.ses.start(row) != win.Start || w.ses.end(row) != win.End) {
			if err := w.withdraw(id, out); err != nil {
				return 0, err
			}
		}
	}
	if len(joined) > 1 {
		w.fold(rec) // before rows go
	}
	due := w.dueOf(joined, win)
	into := w.ses.row(keep)
	for _, id := range joined {
		if id == keep {
			continue
		}
		from := w.ses.row(id)
		w.prog.merge(w.ses.prog(into), w.ses.prog(from), &w.extras)
		into[rowHead] = mergeHeads(into[rowHead], from[rowHead])
		w.drop(hash, key, id)
	}
	w.ses.move(hash, key, keep, win.Start, win.End)
	if into[rowHead]&headPending == 0 || int64(into[w.ses.acc+sesDue]) != due {
		into[rowHead] &^= headPending
		if due < pipeline.MaxTicks {
			w.await(keep, due, last(win.End) <= w.mark)
		}
	}
	return keep, nil
}

// dueOf returns until when the rows of sessions that become one with the window win wait,
// MaxTicks for no time. The mark has passed the end of that window or not, and what waits
// for the other case waits no more: a late pane does not come before the end.
func (w *Session) dueOf(joined []uint32, win Bounds) int64 {
	fired, due := last(win.End) <= w.mark, pipeline.MaxTicks
	for _, id := range joined {
		row := w.ses.row(id)
		if row[rowHead]&headPending != 0 && row[rowHead]&headFired != 0 == fired {
			due = min(due, int64(row[w.ses.acc+sesDue]))
		}
	}
	return due
}

// mergeHeads adds the header of a session that is absorbed: the larger number of panes,
// the sums of late rows.
func mergeHeads(into, from uint64) uint64 {
	panes := max(into>>headPanes&math.MaxUint16, from>>headPanes&math.MaxUint16)
	waits := min(into>>headWaiting&maxLateRows+from>>headWaiting&maxLateRows, maxLateRows)
	lates := min(into>>headLate+from>>headLate, math.MaxUint32)
	return lates<<headLate | waits<<headWaiting | panes<<headPanes | into&(1<<headPanes-1) | from&headNew
}

// drop frees a session.
func (w *Session) drop(hash uint64, key []byte, id uint32) {
	row := w.ses.row(id)
	w.prog.drop(w.ses.prog(row), &w.extras)
	if w.keeps {
		w.prog.drop(w.ses.shown(row), &w.extras)
	}
	w.ses.remove(hash, key, id)
}

func (w *Session) fold(rec arrow.RecordBatch) {
	if len(w.ids) == 0 {
		return
	}
	w.prog.update(&w.ses.store, rec, w.at, w.ids, &w.extras)
	w.at, w.ids = w.at[:0], w.ids[:0]
}

// accepted handles a row of a session by the early rules, or by the late ones when the
// session has fired.
func (w *Session) accepted(rec arrow.RecordBatch, id uint32, out pipeline.Emitter) error {
	row := w.ses.row(id)
	fired := row[rowHead]&headFired != 0
	pane, rows, delay := paneEarly, w.cfg.EarlyRows, w.cfg.EarlyDelay
	if fired {
		pane, rows, delay = paneLate, w.cfg.LateRows, w.cfg.LateDelay
	}
	if rows > 0 {
		if row[rowHead]>>headWaiting&maxLateRows < maxLateRows {
			row[rowHead] += 1 << headWaiting
		}
		if int(row[rowHead]>>headWaiting&maxLateRows) >= rows {
			w.fold(rec) // this row and those before it
			return w.emit([]uint32{id}, pane, out)
		}
	}
	if row[rowHead]&headPending != 0 || !fired && delay == 0 {
		return nil
	}
	due := pipeline.AddTicks(w.now, delay)
	if !fired && w.cfg.EarlyAligned {
		due = pipeline.AddTicks(FloorStart(w.now, delay, 0), delay)
	}
	w.await(id, due, fired)
	return nil
}

// await makes a session emit at a time of the wall clock at the latest.
func (w *Session) await(id uint32, due int64, fired bool) {
	row := w.ses.row(id)
	row[rowHead] |= headPending
	row[w.ses.acc+sesDue] = uint64(due)
	queue := &w.before
	if fired {
		queue = &w.after
	}
	queue.put(waiting{id, due}, w.waits)
}

// waits tells whether an entry still is the one that its session waits for.
func (w *Session) waits(p waiting) bool {
	row := w.ses.row(p.id)
	return row[rowHead]&headPending != 0 && int64(row[w.ses.acc+sesDue]) == p.due
}

// fires tells whether the end of a session, or what comes after it, emits.
func (w *Session) fires() bool { return w.cfg.Trigger == OnMark || w.cfg.Trigger == OnRule }

// deadline is the mark at which something is due for a session.
func (w *Session) deadline(row []uint64) int64 {
	end := w.ses.end(row)
	if !w.fires() || row[rowHead]&headFired != 0 {
		return w.cleanup(end)
	}
	d := last(end)
	if w.cfg.EarlyEvery > 0 && row[rowHead]&headNew != 0 {
		passed := max(w.ses.start(row), w.mark)
		d = min(d, pipeline.AddTicks(FloorStart(passed, w.cfg.EarlyEvery, 0), w.cfg.EarlyEvery))
	}
	return d
}

// schedule files a session under its deadline, unless it will be looked at before.
func (w *Session) schedule(id uint32, row []uint64) {
	c, other := w.frees, w.ends
	if w.fires() && row[rowHead]&headFired == 0 {
		c, other = w.ends, w.frees
	}
	d := w.deadline(row)
	start := c.start(d)
	if row[rowHead]&c.flag != 0 {
		switch filed := int64(row[w.ses.acc+sesFiled]); {
		case filed < start:
			return
		case filed == start:
			b := c.buckets[start]
			b.first = min(b.first, d)
			return
		}
	}
	row[rowHead] = row[rowHead]&^other.flag | c.flag
	row[w.ses.acc+sesFiled] = uint64(start)
	c.put(start, id, d)
}

// due takes the sessions out of a calendar that the mark makes due. The others are filed
// again.
func (w *Session) due(c *calendar, mark int64) []uint32 {
	var due, again []uint32
	c.take(mark, func(id uint32, start int64) {
		row := w.ses.row(id)
		if row[rowHead]&c.flag == 0 || int64(row[w.ses.acc+sesFiled]) != start {
			return // it is filed elsewhere, or gone
		}
		row[rowHead] &^= c.flag
		if w.deadline(row) <= mark {
			due = append(due, id)
			return
		}
		again = append(again, id)
	})
	for _, id := range again {
		w.schedule(id, w.ses.row(id))
	}
	return due
}

// Advance fires the sessions that the mark completes, then frees those whose lateness it
// has passed.
func (w *Session) Advance(m pipeline.Mark, out pipeline.Emitter) error {
	if m.Event <= w.mark {
		return nil
	}
	fire := w.due(w.ends, m.Event)
	w.mark = m.Event
	early, onTime := fire[:0:0], fire[:0:0]
	for _, id := range fire {
		row := w.ses.row(id)
		if last(w.ses.end(row)) > w.mark {
			early = append(early, id)
			continue
		}
		row[rowHead] |= headFired
		w.changed[w.ses.group(row)] = true
		isNew := row[rowHead]&headNew != 0
		if w.cfg.Trigger == OnMark && (isNew || !w.cfg.Discard && !w.cfg.OnTimeIfNew) || isNew && w.cleanup(w.ses.end(row)) <= w.mark {
			onTime = append(onTime, id)
		}
	}
	if err := errors.Join(w.emit(early, paneEarly, out), w.emit(onTime, paneOnTime, out)); err != nil {
		return err
	}
	for _, id := range fire {
		w.schedule(id, w.ses.row(id))
	}
	pane := paneLate
	if w.cfg.Trigger == OnClose {
		pane = paneFinal
	}
	return w.free(w.due(w.frees, w.mark), pane, out)
}

// free shows what no pane has shown of sessions and gives them back.
func (w *Session) free(ids []uint32, pane string, out pipeline.Emitter) error {
	show := ids[:0:0]
	if w.cfg.Trigger == OnClose {
		show = ids
	} else {
		for _, id := range ids {
			if w.ses.row(id)[rowHead]&headNew != 0 {
				show = append(show, id)
			}
		}
	}
	if err := w.emit(show, pane, out); err != nil {
		return err
	}
	var scratch [16]byte
	for _, id := range ids {
		row := w.ses.row(id)
		w.changed[w.ses.group(row)] = true
		key := w.ses.key(row, &scratch)
		w.drop(w.keyer.Hash(key), key, id)
	}
	return nil
}

// Tick emits the sessions with rows that have waited long enough.
func (w *Session) Tick(now int64, out pipeline.Emitter) error {
	w.now = max(w.now, now)
	for _, queue := range []*waitings{&w.before, &w.after} {
		var early, late []uint32
		for _, p := range queue.take(w.now) {
			row := w.ses.row(p.id)
			switch {
			case !w.waits(p):
				continue
			case row[rowHead]&headFired != 0: // by now, with OnRule
				late = append(late, p.id)
			default:
				early = append(early, p.id)
			}
			row[rowHead] &^= headPending
		}
		if err := errors.Join(w.emit(early, paneEarly, out), w.emit(late, paneLate, out)); err != nil {
			return err
		}
	}
	return nil
}

// emit sends a pane of sessions.
func (w *Session) emit(ids []uint32, pane string, out pipeline.Emitter) error {
	for part := range slices.Chunk(ids, maxResultRows) {
		b := array.NewRecordBuilder(w.mem, w.out)
		b.Reserve(len(part))
		for _, id := range part {
			if err := w.pane(b, id, pane); err != nil {
				b.Release()
				return err
			}
		}
		if err := w.send(b, out); err != nil {
			return err
		}
	}
	return nil
}

func (w *Session) send(b *array.RecordBuilder, out pipeline.Emitter) error {
	rec := b.NewRecordBatch()
	b.Release()
	defer rec.Release()
	if rec.NumRows() == 0 {
		return nil
	}
	return out.Emit(pipeline.Out, pipeline.Result(rec))
}

// pane appends the next revision of a session.
func (w *Session) pane(b *array.RecordBuilder, id uint32, pane string) error {
	row := w.ses.row(id)
	win := Bounds{w.ses.start(row), w.ses.end(row)}
	head := row[rowHead]
	panes := head >> headPanes & math.MaxUint16
	if w.cfg.SkipUnchanged && head&headShown != 0 && w.prog.same(w.ses.prog(row), w.ses.shown(row), &w.extras) {
		row[rowHead] = head &^ (headNew | headPending | maxLateRows<<headWaiting)
		w.changed[w.ses.group(row)] = true
		return nil
	}
	if panes == math.MaxUint16 {
		return fmt.Errorf("session %s: it has emitted %d revisions, the most that fit; raise late_delay", startText(win.Start), panes)
	}
	kind := kindInsert
	if w.cfg.Retract && head&headShown != 0 {
		kind = kindUpdate
		if err := w.result(b, w.ses.shown(row), win, pane, int(panes), kindWithdraw); err != nil {
			return err
		}
	}
	if err := w.result(b, w.ses.prog(row), win, pane, int(panes+1), kind); err != nil {
		return err
	}
	row[rowHead] = head>>headLate<<headLate | (panes+1)<<headPanes | head&(headFired|headEnds|headFrees) | headShown
	w.changed[w.ses.group(row)] = true
	if w.cfg.Discard {
		w.prog.drop(w.ses.prog(row), &w.extras)
		w.prog.init(w.ses.prog(row))
		row[rowHead] &^= headShown // nothing to withdraw: panes add up
	}
	if w.keeps {
		shown := w.ses.shown(row)
		copy(shown[:rowAcc], row[:rowAcc])
		w.prog.show(shown, w.ses.prog(row), &w.extras)
	}
	return nil
}

// result appends a row with the values of acc, a row of the program.
func (w *Session) result(b *array.RecordBuilder, acc []uint64, win Bounds, pane string, revision int, kind string) error {
	tail, err := w.bounds(b, acc, win)
	if err != nil {
		return err
	}
	for i := range w.prog.outs {
		w.prog.outs[i].build(tail[i], acc, &w.extras)
	}
	final := kind != kindWithdraw && (pane == paneShed || w.cleanup(win.End) <= w.mark)
	w.labels(tail[len(w.prog.outs):], int64(acc[rowHead]>>headLate), pane, revision, final, kind)
	return nil
}

// withdraw takes back what was shown of a session whose window will change.
func (w *Session) withdraw(id uint32, out pipeline.Emitter) error {
	row := w.ses.row(id)
	pane := paneRetracted
	if w.cfg.Retract {
		switch {
		case w.cfg.Trigger == OnUpdate:
			pane = paneUpdate
		case row[rowHead]&headFired != 0:
			pane = paneLate
		default:
			pane = paneEarly
		}
	}
	b := array.NewRecordBuilder(w.mem, w.out)
	tail, err := w.bounds(b, w.ses.prog(row), Bounds{w.ses.start(row), w.ses.end(row)})
	if err != nil {
		b.Release()
		return err
	}
	for i := range w.prog.outs {
		tail[i].AppendNull()
	}
	panes := row[rowHead] >> headPanes & math.MaxUint16
	w.labels(tail[len(w.prog.outs):], 0, pane, int(panes+1), true, kindDelete)
	row[rowHead] &^= headShown
	return w.send(b, out)
}

// bounds appends key and window and returns the builders that follow.
func (w *Session) bounds(b *array.RecordBuilder, acc []uint64, win Bounds) ([]array.Builder, error) {
	var scratch [16]byte
	cols, nk := b.Fields(), len(w.keyer.Fields())
	if err := w.keyer.Append(cols[:nk], w.ses.key(acc, &scratch)); err != nil {
		return nil, fmt.Errorf("session %s: %w", startText(win.Start), err)
	}
	cols[nk].(*array.TimestampBuilder).Append(arrow.Timestamp(win.Start))
	cols[nk+1].(*array.TimestampBuilder).Append(arrow.Timestamp(win.End))
	return cols[nk+2:], nil
}

func (w *Session) labels(cols []array.Builder, lates int64, pane string, revision int, final bool, kind string) {
	cols[0].(*array.Int64Builder).Append(lates)
	cols[1].(*array.StringBuilder).Append(pane)
	cols[2].(*array.Int32Builder).Append(int32(revision))
	cols[3].(*array.BooleanBuilder).Append(final)
	cols = cols[4:]
	if w.cfg.Retract {
		cols[0].(*array.StringBuilder).Append(kind)
		cols = cols[1:]
	}
	if !w.cfg.Discard {
		cols[0].(*array.BooleanBuilder).Append(kind == kindDelete)
	}
}

func startText(t int64) string {
	return arrow.Timestamp(t).ToTime(arrow.Microsecond).Format(time.RFC3339Nano)
}

func MergeSessions(windows [][2]int64, touch Touch) [][2]int64 {
	sorted := slices.Clone(windows)
	slices.SortFunc(sorted, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	var out [][2]int64
	for _, win := range sorted {
		if n := len(out); n > 0 && (win[0] < out[n-1][1] || touch == TouchMerge && win[0] == out[n-1][1]) {
			out[n-1][1] = max(out[n-1][1], win[1])
			continue
		}
		out = append(out, win)
	}
	return out
}

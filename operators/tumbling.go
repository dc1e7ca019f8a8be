package operators

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Trigger says when a window emits.
type Trigger string

const (
	// OnMark emits when the mark reaches the window's end, and again for rows accepted
	// within the lateness.
	OnMark Trigger = "on_mark"
	// OnClose emits once, when the window is freed.
	OnClose Trigger = "on_close"
	// OnUpdate emits after every row.
	OnUpdate Trigger = "on_update"
)

// Panes: what made a window emit.
const (
	paneOnTime = "on_time"
	paneLate   = "late"
	paneFinal  = "final"
	paneUpdate = "update"
)

// Reasons of the Late port.
const (
	reasonLate       = "late"
	reasonQuietSplit = "quiet_split"
)

// TumblingConfig describes windows [start, start+Size) by event time. Sizes are ticks.
type TumblingConfig struct {
	Size, Offset, Lateness int64
	Trigger                Trigger
	// LateRows and LateDelay say when rows accepted after the window fired are emitted: per
	// key as soon as LateRows of them have come (1: each at once, 0: no such rule), and all
	// of a window once LateDelay of wall time has passed. They come out in any case when
	// the window is freed.
	LateRows  int
	LateDelay int64
	// Discard starts the aggregates anew after each pane.
	Discard    bool
	Keys       []string
	Aggregates []Aggregate
	// Seed of the key hash.
	Seed uint64
}

// Validate returns every problem.
func (c TumblingConfig) Validate() error {
	var errs []error
	if c.Size <= 0 {
		errs = append(errs, fmt.Errorf("window size %v: must be above 0", ticks(c.Size)))
	} else if c.Offset <= -c.Size || c.Offset >= c.Size {
		errs = append(errs, fmt.Errorf("window offset %v: must be within one size (%v)", ticks(c.Offset), ticks(c.Size)))
	}
	if c.Lateness < 0 {
		errs = append(errs, fmt.Errorf("lateness %v: must not be negative", ticks(c.Lateness)))
	}
	switch c.Trigger {
	case OnMark, OnClose, OnUpdate:
	default:
		errs = append(errs, fmt.Errorf("trigger %q: known are %s, %s, %s", c.Trigger, OnMark, OnClose, OnUpdate))
	}
	if c.LateRows < 0 || c.LateRows > maxLateRows {
		errs = append(errs, fmt.Errorf("late rows %d: must be 0 to %d", c.LateRows, maxLateRows))
	}
	if c.LateDelay < 0 {
		errs = append(errs, fmt.Errorf("late delay %v: must not be negative", ticks(c.LateDelay)))
	}
	if len(c.Aggregates) == 0 {
		errs = append(errs, errors.New("a window without aggregates"))
	}
	return errors.Join(errs...)
}

func ticks(t int64) time.Duration { return time.Duration(t) * time.Microsecond }

// Tumbling folds rows into windows of fixed size by key: one slice per window start, one
// accumulator row per key and slice, one deadline per slice. It is pipeline.Stateful.
type Tumbling struct {
	cfg   TumblingConfig
	mem   memory.Allocator
	keyer *pipeline.Keyer
	prog  *program
	in    *arrow.Schema
	out   *arrow.Schema
	lates *arrow.Schema

	store  store
	nodes  nodes
	slices map[int64]*slice
	order  []int64 // starts of the slices, ascending
	mark   int64
	now    int64
	expect int // rows of the slice fired last, to size the next

	overflows int64
	// scratch of one Process call
	late    []int32
	block   []assigned
	at      []int32
	ids     []uint32
	touched uint64
}

// slice is one window start.
type slice struct {
	start   int64
	tab     *table
	fired   bool     // the mark has passed its end
	pending []uint32 // rows with something that no pane has shown, after firing
	since   int64    // when the first of them came, by Tick
	changed bool     // since the last snapshot
}

// Header word of a row: flags (8 bits), panes emitted (16), late rows that no pane has
// shown (8, counted with LateRows only), late rows in all (32).
const (
	headPending = 1 << 0 // on slice.pending
	headPanes   = 8      // shifts
	headWaiting = 24
	headLate    = 32
	maxLateRows = math.MaxUint8
)

// NewTumbling compiles the window for rows of the given schema.
func NewTumbling(cfg TumblingConfig, rows *arrow.Schema, mem memory.Allocator) (*Tumbling, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keyer, kerr := pipeline.NewKeyer(rows, cfg.Keys, cfg.Seed)
	prog, perr := compile(rows, cfg.Aggregates)
	if err := errors.Join(kerr, perr); err != nil {
		return nil, err
	}
	w := &Tumbling{cfg: cfg, mem: mem, keyer: keyer, prog: prog, in: rows, slices: map[int64]*slice{}, mark: pipeline.MinTicks, now: pipeline.MinTicks}
	w.store.width = prog.width
	fields := slices.Clone(keyer.Fields())
	fields = append(fields,
		arrow.Field{Name: "window_start", Type: pipeline.Timestamp},
		arrow.Field{Name: "window_end", Type: pipeline.Timestamp})
	for _, o := range prog.outs {
		fields = append(fields, o.field)
	}
	fields = append(fields,
		arrow.Field{Name: "late_count", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "_tm_pane", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32})
	w.out = arrow.NewSchema(fields, nil)
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return nil, fmt.Errorf("result column %q is there twice: rename an aggregate (as)", f.Name)
		}
		seen[f.Name] = true
	}
	w.lates = LateSchema(rows)
	return w, nil
}

// LateSchema is the schema of the Late port of a window over rows of the given schema:
// the row, why it is late, by how much its split's mark had passed it, and the window
// that it missed.
func LateSchema(rows *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(append(slices.Clone(rows.Fields()),
		arrow.Field{Name: "reason", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "late_by_us", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "window_start", Type: pipeline.Timestamp},
		arrow.Field{Name: "window_end", Type: pipeline.Timestamp}), nil)
}

// Schema is the schema of the results: key columns, window_start, window_end, the
// aggregates, late_count (rows that came behind their split's mark and were accepted),
// _tm_pane and _tm_revision.
func (w *Tumbling) Schema() *arrow.Schema { return w.out }

// Open returns the number of open (key, window) pairs, Bytes the memory of their rows.
func (w *Tumbling) Open() int {
	n := 0
	for _, s := range w.slices {
		n += s.tab.rows
	}
	return n
}

// Bytes returns the memory of the state.
func (w *Tumbling) Bytes() int64 {
	n := w.store.bytes() + int64(cap(w.nodes.all))*nodeBytes
	for _, s := range w.slices {
		n += int64(len(s.tab.index))*8 + int64(cap(s.tab.arena))
	}
	return n
}

// Overflows returns how many sums did not fit int64.
func (w *Tumbling) Overflows() int64 { return w.overflows }

// blockRows is how many rows are looked up together, so that their cache misses overlap.
const blockRows = 256

// Process folds a batch. Rows keep their order within a key.
func (w *Tumbling) Process(in pipeline.Batch, out pipeline.Emitter) error {
	w.late = w.late[:0]
	n := in.NumRows()
	for from := 0; from < n; from += blockRows {
		w.assign(in, from, min(from+blockRows, n))
		if err := w.take(in, out); err != nil {
			return err
		}
	}
	w.fold(in.Rec)
	out.Count(pipeline.Aggregated, in.Split, int64(n-len(w.late)))
	if len(w.late) > 0 {
		return w.emitLate(in, w.late, out)
	}
	return nil
}

// assign finds the slice of every row of a block and puts aside the rows that are late.
func (w *Tumbling) assign(in pipeline.Batch, from, to int) {
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	judged := in.Behind != nil || in.Passed != pipeline.MinTicks
	w.block = w.block[:0]
	var sl *slice
	start, end := int64(math.MaxInt64), int64(math.MinInt64) // of the slice at hand
	for i := from; i < to; i++ {
		r := int32(i)
		if in.Rows != nil {
			r = in.Rows[i]
		}
		t := times[r]
		if t < start || t >= end {
			start = FloorStart(t, w.cfg.Size, w.cfg.Offset)
			end = pipeline.AddTicks(start, w.cfg.Size)
			sl = w.slices[start]
		}
		behind := false
		if judged {
			v := w.verdict(in, r)
			if cleanupTick(start, w.cfg.Size, w.cfg.Lateness) <= v {
				w.late = append(w.late, r)
				continue
			}
			behind = lastTick(start, w.cfg.Size) <= v
		}
		if sl == nil {
			sl = w.open(start)
		}
		w.block = append(w.block, assigned{sl, r, behind})
	}
}

// assigned is a row with its slice.
type assigned struct {
	sl     *slice
	row    int32
	behind bool // accepted after its split's mark had completed the window
}

// take looks up the rows of a block and folds them.
func (w *Tumbling) take(in pipeline.Batch, out pipeline.Emitter) error {
	w.touch(in)
	for _, a := range w.block {
		id, added := a.sl.tab.find(in.Keys.Hash[a.row], in.Keys.At(a.row))
		if added {
			w.prog.init(w.store.row(id))
		}
		a.sl.changed = true
		w.at, w.ids = append(w.at, a.row), append(w.ids, id)
		if a.behind {
			w.store.row(id)[rowHead] += 1 << headLate
		}
		if w.cfg.Trigger == OnUpdate || a.sl.fired && w.cfg.Trigger == OnMark {
			if err := w.accepted(in.Rec, a.sl, id, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// touch reads the slot of every row of the block, then the state row behind it. The reads
// do not depend on each other, so the processor waits for them together; what they find
// is not used.
func (w *Tumbling) touch(in pipeline.Batch) {
	if w.store.bytes() < 1<<20 {
		return // it lies in the cache anyway
	}
	var slots [blockRows]uint64
	for i, a := range w.block {
		tab := a.sl.tab
		slots[i&(blockRows-1)] = tab.index[in.Keys.Hash[a.row]&uint64(len(tab.index)-1)]
	}
	var sum uint64
	for i := range w.block {
		if slot := slots[i&(blockRows-1)]; slot != 0 {
			sum += w.store.row(uint32(slot) - 1)[rowKey]
		}
	}
	w.touched = sum
}

// verdict returns the mark by which row r is judged: its split's own just before it, or
// the mark given away while the split was quiet.
func (w *Tumbling) verdict(in pipeline.Batch, r int32) int64 {
	v := in.Passed
	if in.Behind != nil {
		v = max(v, in.Behind[r])
	}
	return v
}

func (w *Tumbling) fold(rec arrow.RecordBatch) {
	if len(w.ids) == 0 {
		return
	}
	w.prog.update(&w.store, rec, w.at, w.ids, &w.nodes)
	w.at, w.ids = w.at[:0], w.ids[:0]
}

// open makes the slice that starts at start.
func (w *Tumbling) open(start int64) *slice {
	sl := &slice{start: start, tab: newTable(&w.store, w.expect), fired: lastTick(start, w.cfg.Size) <= w.mark}
	w.slices[start] = sl
	at, _ := slices.BinarySearch(w.order, start)
	w.order = slices.Insert(w.order, at, start)
	return sl
}

// accepted handles a row of a window that shows rows one by one or has fired. Before
// anything is shown the rows that came first are folded, and this one.
func (w *Tumbling) accepted(rec arrow.RecordBatch, sl *slice, id uint32, out pipeline.Emitter) error {
	if w.cfg.Trigger == OnUpdate {
		w.fold(rec)
		return w.emit(sl, []uint32{id}, paneUpdate, out)
	}
	row := w.store.row(id)
	if w.cfg.LateRows > 0 {
		row[rowHead] += 1 << headWaiting
		if int(row[rowHead]>>headWaiting&maxLateRows) == w.cfg.LateRows {
			if at := slices.Index(sl.pending, id); at >= 0 {
				sl.pending = slices.Delete(sl.pending, at, at+1)
			}
			w.fold(rec)
			return w.emit(sl, []uint32{id}, paneLate, out)
		}
	}
	if row[rowHead]&headPending == 0 {
		row[rowHead] |= headPending
		if len(sl.pending) == 0 {
			sl.since = w.now
		}
		sl.pending = append(sl.pending, id)
	}
	return nil
}

// Advance fires the windows that the mark completes, then frees those whose lateness it
// has passed.
func (w *Tumbling) Advance(m pipeline.Mark, out pipeline.Emitter) error {
	if m.Event <= w.mark {
		return nil
	}
	w.mark = m.Event
	freed := 0
	for _, start := range w.order {
		sl := w.slices[start]
		if lastTick(start, w.cfg.Size) > w.mark {
			break
		}
		if !sl.fired {
			sl.fired = true
			sl.changed = true
			w.expect = sl.tab.rows
			if w.cfg.Trigger == OnMark {
				if err := w.emitAll(sl, paneOnTime, out); err != nil {
					return err
				}
			}
		}
		if cleanupTick(start, w.cfg.Size, w.cfg.Lateness) > w.mark {
			continue
		}
		var err error
		if w.cfg.Trigger == OnClose {
			err = w.emitAll(sl, paneFinal, out)
		} else {
			err = w.emitPending(sl, out)
		}
		if err != nil {
			return err
		}
		w.free(sl)
		freed++
	}
	w.order = w.order[freed:]
	if freed > 0 && cap(w.order) > 4*len(w.order)+64 {
		w.order = slices.Clone(w.order)
	}
	return nil
}

func (w *Tumbling) free(sl *slice) {
	if w.prog.collect {
		for i := range sl.tab.rows {
			w.prog.dropLists(w.store.row(sl.tab.id(i)), &w.nodes)
		}
	}
	sl.tab.release()
	delete(w.slices, sl.start)
}

// Tick emits late rows that have waited for LateDelay.
func (w *Tumbling) Tick(now int64, out pipeline.Emitter) error {
	w.now = max(w.now, now)
	for _, start := range w.order {
		sl := w.slices[start]
		if !sl.fired {
			break
		}
		if len(sl.pending) > 0 && w.now >= pipeline.AddTicks(sl.since, w.cfg.LateDelay) {
			if err := w.emitPending(sl, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Tumbling) emitPending(sl *slice, out pipeline.Emitter) error {
	if len(sl.pending) == 0 {
		return nil
	}
	ids := sl.pending
	sl.pending = nil
	return w.emit(sl, ids, paneLate, out)
}

func (w *Tumbling) emitAll(sl *slice, pane string, out pipeline.Emitter) error {
	ids := make([]uint32, 0, sl.tab.rows)
	for i := range sl.tab.rows {
		ids = append(ids, sl.tab.id(i))
	}
	return w.emit(sl, ids, pane, out)
}

// maxResultRows bounds one result batch.
const maxResultRows = 4096

// emit sends rows of one slice. They come in the order in which their keys were first
// seen, which depends on how splits interleave: sinks sort.
func (w *Tumbling) emit(sl *slice, ids []uint32, pane string, out pipeline.Emitter) error {
	sl.changed = true
	for part := range slices.Chunk(ids, maxResultRows) {
		rec, err := w.results(sl, part, pane)
		if err != nil {
			return err
		}
		err = out.Emit(pipeline.Out, pipeline.Result(rec))
		rec.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Tumbling) results(sl *slice, ids []uint32, pane string) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(w.mem, w.out)
	defer b.Release()
	b.Reserve(len(ids))
	cols := b.Fields()
	nk := len(w.keyer.Fields())
	start, end := arrow.Timestamp(sl.start), arrow.Timestamp(pipeline.AddTicks(sl.start, w.cfg.Size))
	var scratch [16]byte
	for _, id := range ids {
		row := w.store.row(id)
		if err := w.keyer.Append(cols[:nk], sl.tab.key(row, &scratch)); err != nil {
			return nil, fmt.Errorf("window %s: %w", start.ToTime(arrow.Microsecond).Format(time.RFC3339Nano), err)
		}
		cols[nk].(*array.TimestampBuilder).Append(start)
		cols[nk+1].(*array.TimestampBuilder).Append(end)
		for i := range w.prog.outs {
			if w.prog.outs[i].build(cols[nk+2+i], row, &w.nodes) {
				w.overflows++
			}
		}
		tail := cols[nk+2+len(w.prog.outs):]
		head := row[rowHead]
		panes := head >> headPanes & math.MaxUint16
		if panes == math.MaxUint16 {
			return nil, fmt.Errorf("window %s: a key has emitted %d revisions, the most that fit; raise late_delay", start.ToTime(arrow.Microsecond).Format(time.RFC3339Nano), panes)
		}
		panes++
		tail[0].(*array.Int64Builder).Append(int64(head >> headLate))
		tail[1].(*array.StringBuilder).Append(pane)
		tail[2].(*array.Int32Builder).Append(int32(panes))
		row[rowHead] = head>>headLate<<headLate | panes<<headPanes
		if w.cfg.Discard {
			w.prog.dropLists(row, &w.nodes)
			w.prog.init(row)
		}
	}
	return b.NewRecordBatch(), nil
}

func (w *Tumbling) emitLate(in pipeline.Batch, late []int32, out pipeline.Emitter) error {
	cols := make([]arrow.Array, 0, w.lates.NumFields())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range int(in.Rec.NumCols()) {
		c, err := pipeline.GatherColumn(w.mem, in.Rec.Column(i), late)
		if err != nil {
			return fmt.Errorf("late rows, column %s: %w", in.Rec.ColumnName(i), err)
		}
		cols = append(cols, c)
	}
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	reason := array.NewStringBuilder(w.mem)
	defer reason.Release()
	by := array.NewInt64Builder(w.mem)
	defer by.Release()
	ws := array.NewTimestampBuilder(w.mem, pipeline.Timestamp)
	defer ws.Release()
	we := array.NewTimestampBuilder(w.mem, pipeline.Timestamp)
	defer we.Release()
	for _, r := range late {
		start := FloorStart(times[r], w.cfg.Size, w.cfg.Offset)
		own := pipeline.MinTicks
		if in.Behind != nil {
			own = in.Behind[r]
		}
		if cleanupTick(start, w.cfg.Size, w.cfg.Lateness) <= own {
			reason.Append(reasonLate)
		} else {
			reason.Append(reasonQuietSplit)
		}
		by.Append(pipeline.SubTicks(w.verdict(in, r), times[r]))
		ws.Append(arrow.Timestamp(start))
		we.Append(arrow.Timestamp(pipeline.AddTicks(start, w.cfg.Size)))
	}
	cols = append(cols, reason.NewArray(), by.NewArray(), ws.NewArray(), we.NewArray())
	rec := array.NewRecordBatch(w.lates, cols, int64(len(late)))
	defer rec.Release()
	return out.Emit(pipeline.Late, pipeline.Batch{Rec: rec, Split: in.Split, Passed: pipeline.MinTicks})
}

// Snapshot lends one piece per slice, with the slice's start as its id. Its columns are
// the key group, the key, whether the window has fired and since when rows wait, the
// header, and the accumulators' words by name.
func (w *Tumbling) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	for _, start := range w.order {
		sl := w.slices[start]
		p := pipeline.Piece{ID: strconv.FormatInt(start, 10)}
		if full || sl.changed {
			p.Rec = w.pieceOf(sl)
			sl.changed = false
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

func (w *Tumbling) stateSchema() *arrow.Schema {
	fields := []arrow.Field{
		{Name: "_group", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "key", Type: arrow.BinaryTypes.Binary},
		{Name: "fired", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "since", Type: arrow.PrimitiveTypes.Int64},
		{Name: "head", Type: arrow.PrimitiveTypes.Int64},
	}
	for _, a := range w.prog.accs {
		if a.op.list() {
			fields = append(fields, arrow.Field{Name: a.name, Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)})
			continue
		}
		for i := range a.op.words() {
			fields = append(fields, arrow.Field{Name: fmt.Sprintf("%s_%d", a.name, i), Type: arrow.PrimitiveTypes.Int64})
		}
	}
	return arrow.NewSchema(fields, nil)
}

func (w *Tumbling) pieceOf(sl *slice) arrow.RecordBatch {
	b := array.NewRecordBuilder(w.mem, w.stateSchema())
	defer b.Release()
	b.Reserve(sl.tab.rows)
	var scratch [16]byte
	for i := range sl.tab.rows {
		row := w.store.row(sl.tab.id(i))
		key := sl.tab.key(row, &scratch)
		b.Field(0).(*array.Uint8Builder).UnsafeAppend(pipeline.Group(w.keyer.Hash(key)))
		b.Field(1).(*array.BinaryBuilder).Append(key)
		b.Field(2).(*array.BooleanBuilder).UnsafeAppend(sl.fired)
		b.Field(3).(*array.Int64Builder).UnsafeAppend(sl.since)
	}
	words := func(field, word int) {
		c := b.Field(field).(*array.Int64Builder)
		for i := range sl.tab.rows {
			c.UnsafeAppend(int64(w.store.row(sl.tab.id(i))[word]))
		}
	}
	words(4, rowHead)
	f := 5
	for _, a := range w.prog.accs {
		if a.op.list() {
			l := b.Field(f).(*array.ListBuilder)
			v := l.ValueBuilder().(*array.Int64Builder)
			for i := range sl.tab.rows {
				l.Append(true)
				w.nodes.each(w.store.row(sl.tab.id(i))[a.word:a.word+2], func(x node) {
					v.AppendValues([]int64{x.val, x.at, int64(x.place)}, nil)
				})
			}
			f++
			continue
		}
		for i := range a.op.words() {
			words(f, a.word+i)
			f++
		}
	}
	return b.NewRecordBatch()
}

// Restore takes back the rows of a piece that keep accepts.
func (w *Tumbling) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	start, err := strconv.ParseInt(p.ID, 10, 64)
	if err != nil {
		return fmt.Errorf("window state %q: its id is no window start", p.ID)
	}
	if !p.Rec.Schema().Equal(w.stateSchema()) {
		return fmt.Errorf("window state %s: its columns are %v, this job's aggregates need %v; start a new lineage or restore the old aggregates",
			p.ID, p.Rec.Schema().Fields(), w.stateSchema().Fields())
	}
	keys := p.Rec.Column(1).(*array.Binary)
	fired := p.Rec.Column(2).(*array.Boolean)
	since := p.Rec.Column(3).(*array.Int64).Int64Values()
	heads := p.Rec.Column(4).(*array.Int64).Int64Values()
	for i := range int(p.Rec.NumRows()) {
		key := keys.Value(i)
		hash := w.keyer.Hash(key)
		if !keep(pipeline.Group(hash)) {
			continue
		}
		sl := w.slices[start]
		if sl == nil {
			sl = w.open(start)
			sl.fired, sl.since = fired.Value(i), since[i]
		}
		id, added := sl.tab.find(hash, key)
		if !added {
			return fmt.Errorf("window state %s: key %q is there twice", p.ID, key)
		}
		row := w.store.row(id)
		w.prog.init(row)
		row[rowHead] = uint64(heads[i])
		if row[rowHead]&headPending != 0 {
			sl.pending = append(sl.pending, id)
		}
		f := 5
		for _, a := range w.prog.accs {
			if a.op.list() {
				l := p.Rec.Column(f).(*array.List)
				from, to := l.ValueOffsets(i)
				v := l.ListValues().(*array.Int64).Int64Values()[from:to]
				for ; len(v) >= 3; v = v[3:] {
					w.nodes.add(row[a.word:a.word+2], node{val: v[0], at: v[1], place: uint64(v[2])})
					if a.op == accCollect {
						w.nodes.arrived = max(w.nodes.arrived, v[1]+1)
					}
				}
				f++
				continue
			}
			for k := range a.op.words() {
				row[a.word+k] = uint64(p.Rec.Column(f).(*array.Int64).Value(i))
				f++
			}
		}
	}
	return nil
}

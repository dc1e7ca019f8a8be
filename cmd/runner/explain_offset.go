package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
	"github.com/tidemark/tidemark/sources/kafka"
)

// What became of a record.
const (
	becameOnTime    = "on time"
	becameRevision  = "late but accepted"
	becamePartly    = "partly late"
	becameLate      = "late"
	becameDead      = "dead"
	becameDuplicate = "duplicate"
	becameFiltered  = "filtered"
	becameAddition  = "late, added"
	becameRow       = "a result of its own"
	becameGiven     = "given to the machine"
	becameTaken     = "taken by a session"
	becameUnread    = "not read yet"
	becameGap       = "passed over"
	becameNothing   = "no record"
	becameUnknown   = "gone"
)

// offsetWhy says what became of a record, and why.
type offsetWhy struct {
	Job     string      `json:"job"`
	Split   string      `json:"partition"`
	Offset  int64       `json:"offset"`
	Became  string      `json:"became"`
	Reason  string      `json:"reason,omitempty"`
	Answer  string      `json:"answer"`
	Time    *tick       `json:"time,omitempty"`
	Broker  *tick       `json:"broker_time,omitempty"`
	Key     string      `json:"key,omitempty"`
	Mark    *tick       `json:"mark_before,omitempty"`
	Exact   bool        `json:"mark_is_exact"`
	MarkHow string      `json:"mark_by,omitempty"`
	Rule    string      `json:"rule,omitempty"`
	Windows []windowWhy `json:"windows,omitempty"`
	Read    *readBy     `json:"read,omitempty"`
	Landed  []landing   `json:"landed,omitempty"`
	Notes   []string    `json:"notes,omitempty"`
	// Record is how the record begins.
	Record string `json:"record,omitempty"`

	// port has the record, when looked is set; Out the results that it is part of.
	port   pipeline.Port
	looked bool
}

// place notes where a record, or its results, are to be found.
func (e *evidence) place(ctx context.Context, w *offsetWhy, r *traced) error {
	switch {
	case !w.looked:
		return nil
	case w.port == pipeline.Out:
		return e.results(ctx, w, r)
	}
	return e.land(ctx, w, r, w.port)
}

// lies says by which port what became of the record has left.
func (w *offsetWhy) lies(port pipeline.Port) { w.port, w.looked = port, true }

// shownBytes is how much of a record is shown.
const shownBytes = 200

// beginning is how a value begins.
func beginning(raw []byte) string {
	if len(raw) <= shownBytes {
		return strings.ToValidUTF8(string(raw), "?")
	}
	return strings.ToValidUTF8(string(raw[:shownBytes]), "?") + fmt.Sprintf("... (%d bytes)", len(raw))
}

// windowWhy is a window that a row belongs to.
type windowWhy struct {
	Start  tick   `json:"start"`
	End    tick   `json:"end"`
	Took   string `json:"took"` // in time, as a revision, missed
	Rule   string `json:"rule"`
	State  string `json:"state"` // open, complete, closed
	bounds operators.Bounds
}

// readBy is the checkpoint by which a record had been read.
type readBy struct {
	Epoch     int64     `json:"epoch"`
	Lineage   uint16    `json:"lineage"`
	Published time.Time `json:"published"`
	Exact     bool      `json:"exact"` // else by an earlier one, perhaps
}

// cmdExplainOffset says what became of one record.
func cmdExplainOffset(ctx context.Context, args []string, out streams) error {
	f := newExplainFlags("explain offset", "tidemark explain offset -f job.yaml readings/3@1841", "says what became of the record at TOPIC/PARTITION@OFFSET, by which rule, and where it landed: from the topic, the job's decisions, marks and newest checkpoint, and its Parquet tables")
	e, rest, err := f.evidence(ctx, args)
	if err != nil {
		return err
	}
	defer e.close()
	if len(rest) != 1 {
		return &usageError{"explain offset: want one record, as topic/partition@offset"}
	}
	split, offset, err := placeOf(rest[0])
	if err != nil {
		return &usageError{"explain offset: " + err.Error()}
	}
	if topic := e.plan.cfg.Source.Kafka.Topic; split.Topic != topic {
		return &usageError{fmt.Sprintf("explain offset: the job reads topic %s, not %s", topic, split.Topic)}
	}
	w, err := e.explain(ctx, split, offset)
	if err != nil {
		return err
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, w)
	}
	w.print(out.stdout)
	return nil
}

// placeOf reads topic/partition@offset.
func placeOf(text string) (s pipeline.Split, offset int64, err error) {
	name, at, ok := strings.Cut(text, "@")
	slash := strings.LastIndexByte(name, '/')
	if !ok || slash < 1 {
		return s, 0, fmt.Errorf("%q: want topic/partition@offset", text)
	}
	p, perr := strconv.ParseInt(name[slash+1:], 10, 32)
	offset, oerr := strconv.ParseInt(at, 10, 64)
	if perr != nil || oerr != nil || p < 0 || offset < 0 {
		return s, 0, fmt.Errorf("%q: want topic/partition@offset, with two numbers from 0", text)
	}
	return pipeline.Split{Topic: name[:slash], Partition: int32(p)}, offset, nil
}

// explainFlags are those of commands that need a job's file.
type explainFlags struct {
	*stateFlags
	scan *int64
}

func newExplainFlags(name, example, what string) *explainFlags {
	f := &explainFlags{stateFlags: newStateFlags(name, example, what)}
	f.scan = f.Int64("scan", 1_000_000, "read at most `N` records of a partition to find the mark; what lies further back makes it a bound")
	return f
}

// evidence parses the command line and opens what a job has left.
func (f *explainFlags) evidence(ctx context.Context, args []string) (*evidence, []string, error) {
	rest, err := f.parse(args)
	if err != nil {
		return nil, nil, err
	}
	if f.file == "" {
		return nil, nil, &usageError{f.Name() + ": -f names no job file; the topic and the rules are in it"}
	}
	if *f.scan < 1 {
		return nil, nil, &usageError{f.Name() + ": --scan: want at least 1"}
	}
	v, err := f.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	e, err := v.openEvidence(ctx, *f.scan)
	return e, rest, err
}

// explain says what became of one record.
func (e *evidence) explain(ctx context.Context, s pipeline.Split, offset int64) (*offsetWhy, error) {
	w := &offsetWhy{Job: e.plan.cfg.Job, Split: s.String(), Offset: offset, Notes: slices.Clone(e.notes)}
	extents, err := e.log.Extents(ctx)
	if err != nil {
		return nil, err
	}
	extent, there := extents[s.Partition]
	if !there {
		return nil, fmt.Errorf("%s: the topic has no such partition, it has %d", s, len(extents))
	}
	before, after := e.around(s, offset)
	w.readBy(before, after)
	d, err := e.decision(ctx, w, s, offset, after)
	if err != nil {
		return nil, err
	}
	if offset >= extent.End {
		w.say(becameNothing, "partition %s ends at offset %d: there is no such record yet", s, extent.End)
		return w, nil
	}
	if g, in := e.gap(s, offset); in {
		w.Reason = g.Reason
		w.say(becameGap, "the job passed over offsets %d to %d of %s: %s (source.kafka.on_gap)", g.From, g.To-1, s, g.Reason)
		return w, nil
	}
	if offset < extent.Start {
		w.gone(d, extent, after)
		return w, nil
	}
	var found *traced
	newest := map[string]int64{} // of keys that have clocks
	err = e.trace(ctx, s, before, extent, offset+1, func(r *traced) error {
		if r.offset == offset {
			found = r
			return errors.Join(e.judge(ctx, w, r, d, after, newest), e.place(ctx, w, r))
		}
		e.clock(r, newest)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		w.say(becameNothing, "there is no record at offset %d of %s: it was compacted away, is of an aborted transaction, or marks the end of one", offset, s)
	}
	return w, nil
}

// clock notes the newest time of a key where keys have clocks.
func (e *evidence) clock(r *traced, newest map[string]int64) {
	cfg := e.plan.cfg
	if cfg.EventTime.Scope != ScopeKey || r.rec == nil || r.time > pipeline.AddTicks(r.ingest, cfg.maxAhead()) {
		return
	}
	key := strings.Join(keyText(r.rec, r.row, cfg.keyColumns()), ",")
	if t, there := newest[key]; !there || r.time > t {
		newest[key] = r.time
	}
}

func (w *offsetWhy) say(became, format string, args ...any) {
	w.Became, w.Answer = became, fmt.Sprintf(format, args...)
}

func (w *offsetWhy) readBy(before, after *stand) {
	if after == nil {
		return
	}
	w.Read = &readBy{Epoch: after.point.Epoch, Lineage: after.point.Lineage, Published: time.UnixMicro(after.point.At).UTC(),
		Exact: after.point.Epoch == 1 || before != nil && before.point.Epoch == after.point.Epoch-1}
}

// gap returns the run of records that the job passed over and that holds an offset.
func (e *evidence) gap(s pipeline.Split, offset int64) (pipeline.Gap, bool) {
	cp := e.newest.Checkpoint
	i := slices.IndexFunc(cp.Splits, func(of pipeline.SplitState) bool { return of.Split == s })
	at := slices.IndexFunc(cp.Gaps, func(g pipeline.Gap) bool { return int(g.Split) == i && g.From <= offset && offset < g.To })
	if at < 0 {
		return pipeline.Gap{}, false
	}
	return cp.Gaps[at], true
}

// decision returns what was decided on a record when it was read last; nil when it went the
// ordinary way, or nobody knows.
func (e *evidence) decision(ctx context.Context, w *offsetWhy, s pipeline.Split, offset int64, after *stand) (*decisions.Decision, error) {
	if e.plan.cfg.Decisions.Off {
		w.Notes = append(w.Notes, "the job keeps no decisions (decisions.off): what is said follows from its rules")
	}
	if after == nil {
		return nil, nil
	}
	var found *decisions.Decision
	damaged, err := decisions.Decisions(ctx, e.view.store, boundedAllocator{memory.DefaultAllocator}, func(d decisions.Decision) {
		if d.Split == after.index && d.Offset == offset && d.Lineage == after.point.Lineage {
			found = &d
		}
	})
	for _, err := range damaged {
		w.Notes = append(w.Notes, err.Error())
	}
	return found, err
}

// gone says what is known of a record that the topic has lost.
func (w *offsetWhy) gone(d *decisions.Decision, extent kafka.Extent, after *stand) {
	w.Notes = append(w.Notes, fmt.Sprintf("the topic begins at offset %d: retention has removed the record", extent.Start))
	switch {
	case d != nil:
		w.Became, w.Reason, w.Key = d.Fate.String(), d.Reason, d.Key
		if d.Time != pipeline.MinTicks {
			w.Time = new(tick(d.Time))
		}
		w.Broker = new(tick(d.Ingest))
		if d.Mark != pipeline.MinTicks {
			w.Mark, w.Exact, w.MarkHow = new(tick(d.Mark)), true, "as it was recorded"
		}
		w.Answer = fmt.Sprintf("the record was %s", w.Became)
		if d.Reason != "" {
			w.Answer += ", reason " + d.Reason
		}
		if d.Missed > 0 {
			w.Answer += fmt.Sprintf(": it missed %d windows, the last from %s to %s, which mark %s had passed", d.Missed, tick(d.Start), tick(d.End), tick(d.Mark))
		}
	case after == nil:
		w.say(becameUnknown, "retention removed the record before the job had read it, or the job began behind it")
	default:
		w.say(becameUnknown, "the record has been removed by retention; the job had read it, and no decision on it is kept: it went the ordinary way, was filtered, or the decision has been removed by now")
	}
}

// judge says what became of a record that is there.
func (e *evidence) judge(ctx context.Context, w *offsetWhy, r *traced, d *decisions.Decision, after *stand, newest map[string]int64) error {
	w.Broker, w.Mark, w.Exact, w.Record = new(tick(r.ingest)), new(tick(r.mark)), r.exact, beginning(r.raw)
	w.MarkHow = fmt.Sprintf("exact: %d records before it were read again", r.read)
	if !r.exact {
		w.MarkHow = fmt.Sprintf("at least: what is known of the marks begins too far back, the %d records before it were read again", r.read)
	}
	if r.time != pipeline.MinTicks {
		w.Time = new(tick(r.time))
	}
	if r.reason != "" {
		w.dead(r, after)
		return nil
	}
	w.Key = strings.Join(keyText(r.rec, r.row, e.keyShown()), ",")
	if note := e.replaced(r); note != "" {
		w.Notes = append(w.Notes, note)
	}
	row, filtered, err := e.alone(r)
	if err != nil {
		return err
	}
	if row != nil {
		defer row.Release()
	}
	if filtered {
		w.Rule = "filter: " + e.plan.cfg.Filter
		w.say(becameFiltered, "the filter %q is not true for it%s", e.plan.cfg.Filter, e.filterValues(row))
		return nil
	}
	w.windows(e, r, newest)
	switch {
	case d != nil && d.Fate == pipeline.FateLate:
		w.late(e, d)
	case d != nil && d.Fate == pipeline.Duplicate:
		w.Windows = nil
		if err := e.duplicate(ctx, w, r); err != nil {
			return err
		}
		if w.Became != becameDuplicate {
			w.say(becameDuplicate, "an earlier row agrees with it in %s; that one is not among the records that were searched", strings.Join(e.plan.cfg.Dedupe.Columns, ", "))
		}
		return nil
	case d != nil && d.Fate == pipeline.FateDead:
		w.Reason = d.Reason
		w.say(becameDead, "no event could be made of it, reason %s", d.Reason)
		w.lies(pipeline.Dead)
		return nil
	case e.plan.cfg.Dedupe != nil && (after == nil || e.plan.cfg.Decisions.Off):
		if err := e.duplicate(ctx, w, r); err != nil || w.Became == becameDuplicate {
			w.Windows = nil
			return err
		}
		w.took(e, r)
	default:
		w.took(e, r)
	}
	if after == nil {
		w.Answer = fmt.Sprintf("the job has not read it as of checkpoint %d; by what was read before it, it would be %s", e.newest.Epoch, w.Became)
		w.Became = becameUnread
		return nil
	}
	w.lies(pipeline.Out)
	if w.Became == becameLate {
		w.lies(pipeline.Late)
	}
	return nil
}

// keyShown are the columns by which people know a row.
func (e *evidence) keyShown() []string {
	if e.plan.cfg.windowless() {
		return e.plan.feed.key
	}
	return e.plan.cfg.keyColumns()
}

// dead says why a record is none that could be read.
func (w *offsetWhy) dead(r *traced, after *stand) {
	why := strings.TrimPrefix(r.err, r.reason+": ")
	w.Reason = r.reason
	w.say(becameDead, "no row could be made of it: %s", why)
	if hint := r.deadHint(); hint != "" {
		w.Notes = append(w.Notes, hint)
	}
	if after == nil {
		w.say(becameUnread, "the job has not read it yet; it will be dead: %s", why)
		return
	}
	w.lies(pipeline.Dead)
}

// replaced says so when the payload's time was replaced, and when it looks as if its unit were
// another one.
func (e *evidence) replaced(r *traced) string {
	at := r.rec.Schema().FieldIndices(operators.ColReplaced)
	if len(at) != 1 || valueText(r.rec.Column(at[0]), r.row) != "true" {
		return ""
	}
	t, ok := e.given(r.raw)
	if !ok {
		return fmt.Sprintf("the payload has no %s: the broker's %s took its place (event_time.missing)", e.plan.feed.time, tick(r.ingest))
	}
	cfg := e.plan.cfg.EventTime
	note := fmt.Sprintf("the payload's %s is %s, which event_time.missing_bound (%s) or max_ahead (%v) refuses: the broker's %s took its place",
		e.plan.feed.time, tick(t), tick(cfg.MissingBound.UnixMicro()), cfg.MaxAhead, tick(r.ingest))
	if hint := unitHint(t, r.ingest); hint != "" {
		note += "; " + hint
	}
	return note
}

// given returns the event time of a payload as it is.
func (e *evidence) given(raw []byte) (int64, bool) {
	cfg := e.plan.cfg
	cfg.EventTime.Missing, cfg.EventTime.MissingBound, cfg.EventTime.Future = operators.MissingDead, time.UnixMicro(pipeline.MinEventTime).UTC(), operators.FutureKeep
	p := *e.plan
	p.cfg = cfg
	dec, err := p.decoder(memory.DefaultAllocator)
	if err != nil {
		return 0, false
	}
	t := tracer{dec: dec, marks: pipeline.NewMarks(0, pipeline.MaxTicks)}
	t.marks.Add()
	var at int64
	ok := false
	t.visit = func(r *traced) error {
		at, ok = r.time, r.rec != nil
		return nil
	}
	data := append(slices.Clone(raw), make([]byte, 16)...)
	w := &pipeline.Wire{Data: data, Offset: []int64{0}, Ingest: []int64{-1}, Keys: []pipeline.Span{{Len: -1}}, Values: []pipeline.Span{{Len: int32(len(raw))}}}
	if _, err := t.wire(w); err != nil {
		return 0, false
	}
	return at, ok
}

// unitHint says so when a time would be near its broker timestamp in another unit.
func unitHint(t, ingest int64) string {
	const near = int64(24 * time.Hour / time.Microsecond)
	if t == pipeline.MinTicks || t == 0 {
		return ""
	}
	for _, u := range []struct {
		factor float64
		text   string
	}{
		{1e3, "1,000 times as much would be %s: is it in seconds where milliseconds are expected, or in milliseconds where microseconds are?"},
		{1e6, "1,000,000 times as much would be %s: is it in seconds where microseconds are expected?"},
		{1e-3, "a thousandth of it would be %s: is it in milliseconds where seconds are expected, or in microseconds where milliseconds are?"},
	} {
		if at := float64(t) * u.factor; at > float64(ingest-near) && at < float64(ingest+near) {
			return fmt.Sprintf(u.text, tick(int64(at)))
		}
	}
	return ""
}

// filterValues are the values that a filter has judged.
func (e *evidence) filterValues(row arrow.RecordBatch) string {
	var out []string
	for i, f := range row.Schema().Fields() {
		if namedIn(e.plan.cfg.Filter, f.Name) {
			out = append(out, f.Name+" is "+valueText(row.Column(i), 0)+scaleText(f))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

// namedIn tells whether a word stands in an expression.
func namedIn(text, name string) bool {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !(r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	return slices.Contains(words, name)
}

// scaleText says by how much the integer of a fixed-point column is to be divided.
func scaleText(f arrow.Field) string {
	scale, _ := f.Metadata.GetValue(pipeline.ScaleKey)
	if scale == "" || scale == "0" {
		return ""
	}
	return " (times 10^-" + scale + ")"
}

// verdict is the time by which a row is judged: its split's mark, what a silence had let go, or
// the clock of its key.
func (e *evidence) verdict(r *traced, newest map[string]int64) (int64, string) {
	v, what := r.mark, "the mark of its partition"
	if r.passed > v {
		v, what = r.passed, "the mark that the silence of its partition had let go"
	}
	cfg := e.plan.cfg
	if cfg.EventTime.Scope != ScopeKey || v == pipeline.MaxTicks {
		return v, what
	}
	own := pipeline.MinTicks
	if t, there := newest[strings.Join(keyText(r.rec, r.row, cfg.keyColumns()), ",")]; there {
		own = pipeline.SubTicks(t, pipeline.Ticks(cfg.EventTime.MaxDisorder)+1)
	}
	return min(v, max(own, pipeline.SubTicks(v, pipeline.Ticks(cfg.EventTime.MaxOffline)))), "the clock of its key"
}

// windows says which windows a row belongs to, and which of them took it.
func (w *offsetWhy) windows(e *evidence, r *traced, newest map[string]int64) {
	cfg := e.plan.cfg
	v, by := e.verdict(r, newest)
	switch {
	case cfg.windowless():
		w.Rule = "no window: every row is a result of its own"
		return
	case e.plan.dom != nil:
		w.Rule = fmt.Sprintf("late when its time is at or behind %s: %s against %s", by, tick(r.time), tick(v))
		return
	case cfg.Window.Session != nil:
		gap := pipeline.Ticks(cfg.Window.Session.Gap)
		latest := pipeline.AddTicks(pipeline.AddTicks(r.time, gap-1), pipeline.Ticks(cfg.Window.Lateness))
		w.Rule = fmt.Sprintf("late when no open session takes it, and one of its own would be over: its last tick + lateness, %s, against %s, %s", tick(latest), by, tick(v))
		return
	}
	shape := cfg.windowConfig(0).Shape
	merged := e.newest.Checkpoint.Merged
	for _, b := range shape.Windows(nil, shape.Span(r.time)) {
		x := windowWhy{Start: tick(b.Start), End: tick(b.End), bounds: b}
		last := pipeline.SubTicks(b.End, 1)
		if cfg.Window.Trigger == operators.OnIngest {
			x.ingest(cfg, r.ahead, merged.Ingest)
		} else {
			x.event(cfg, last, v, by, merged.Event)
		}
		w.Windows = append(w.Windows, x)
	}
	w.Rule = "late for a window when the window's last tick + lateness is at or behind " + by + " just before the row"
	if cfg.Window.Trigger == operators.OnIngest {
		w.Rule = "late, and added apart, when broker time has passed the window's end by more than max_age"
	}
}

// event judges by event time.
func (x *windowWhy) event(cfg Config, last, v int64, by string, merged int64) {
	latest := pipeline.AddTicks(last, pipeline.Ticks(cfg.Window.Lateness))
	sum := fmt.Sprintf("%s + lateness %v = %s", tick(last), cfg.Window.Lateness, tick(latest))
	switch {
	case latest <= v:
		x.Took, x.Rule = "missed", fmt.Sprintf("%s is at or behind %s, %s", sum, by, tick(v))
	case last <= v:
		x.Took, x.Rule = "as a revision", fmt.Sprintf("%s, %s, has passed its end, and not yet %s", by, tick(v), sum)
	default:
		x.Took, x.Rule = "in time", fmt.Sprintf("%s, %s, has not reached its last tick %s", by, tick(v), tick(last))
	}
	switch {
	case latest <= merged:
		x.State = "closed"
	case last <= merged:
		x.State = "complete"
	default:
		x.State = "open"
	}
}

// ingest judges by broker time.
func (x *windowWhy) ingest(cfg Config, own, merged int64) {
	closing := pipeline.AddTicks(pipeline.AddTicks(int64(x.End), pipeline.Ticks(cfg.Window.MaxAge)), 1)
	x.Took, x.Rule = "in time", fmt.Sprintf("broker time %s has not passed its end + max_age %v", tick(own), cfg.Window.MaxAge)
	if closing <= own {
		x.Took, x.Rule = "added", fmt.Sprintf("broker time %s has passed its end + max_age %v", tick(own), cfg.Window.MaxAge)
	}
	x.State = "open"
	if closing <= merged {
		x.State = "closed"
	}
}

// late says why a row is late, as it was recorded.
func (w *offsetWhy) late(e *evidence, d *decisions.Decision) {
	w.Reason = d.Reason
	for i := range w.Windows {
		x := &w.Windows[i]
		if x.Took != "missed" {
			x.Took, x.Rule = "missed", fmt.Sprintf("by mark %s, as it was recorded", tick(d.Mark))
		}
		if d.Reason == "shed" {
			x.Rule = "let go at the limit of the state"
		}
	}
	switch {
	case d.Reason == "shed":
		w.say(becameLate, "it was shed: the state was at its limit (state), so the windows that it belongs to were let go, or its key had as many as it may")
		return
	case d.Reason == "quiet_split":
		w.say(becameLate, "its partition had been quiet, and the others went on without it to mark %s: the row's time is %v behind that, and its window from %s to %s was closed (event_time.quiet_after)",
			tick(d.Mark), durationOf(pipeline.SubTicks(d.Mark, d.Time)), tick(d.Start), tick(d.End))
		return
	}
	w.Answer = fmt.Sprintf("it came %v behind the mark of its partition, %s, when all of its windows were closed; event_time.max_disorder is %v and window.lateness %v",
		durationOf(pipeline.SubTicks(d.Mark, d.Time)), tick(d.Mark), e.plan.cfg.EventTime.MaxDisorder, e.plan.cfg.Window.Lateness)
	if e.plan.dom != nil {
		w.Answer = fmt.Sprintf("it came %v behind the mark of its partition, %s, more than event_time.max_disorder (%v) allows", durationOf(pipeline.SubTicks(d.Mark, d.Time)), tick(d.Mark), e.plan.cfg.EventTime.MaxDisorder)
	}
	w.Became = becameLate
}

// took says how the windows took a row that nothing was decided on.
func (w *offsetWhy) took(e *evidence, r *traced) {
	cfg := e.plan.cfg
	count := map[string]int{}
	for _, x := range w.Windows {
		count[x.Took]++
	}
	n := len(w.Windows)
	switch {
	case cfg.windowless():
		w.say(becameRow, "it became a row of its own")
	case e.plan.dom != nil && r.time <= r.mark:
		w.say(becameLate, "it came behind the mark of its partition, %s, more than event_time.max_disorder (%v) allows", tick(r.mark), cfg.EventTime.MaxDisorder)
	case e.plan.dom != nil:
		section, _ := cfg.domainSection()
		w.say(becameGiven, "it was given to %s under key %s, once the mark had passed it", section, w.Key)
	case cfg.Window.Session != nil:
		w.say(becameTaken, "a session of %s took it; `tidemark state get` shows those that are open", w.Key)
	case n == 0:
		w.say(becameFiltered, "its time lies between windows, in none of them")
	case count["missed"] == n:
		w.say(becameLate, "all of its windows were closed when it came, by the marks as they can be worked out now")
	case count["missed"] > 0:
		w.say(becamePartly, "%d of its %d windows took it, the others were closed when it came", n-count["missed"], n)
	case count["added"] > 0:
		w.say(becameAddition, "broker time had closed its window: it left as an addition (late_delta)")
	case count["as a revision"] > 0:
		w.say(becameRevision, "it came behind the mark and within the lateness of %v: %d of its %d windows took it as a revision", cfg.Window.Lateness, count["as a revision"], n)
	default:
		w.say(becameOnTime, "it was on time: its windows took it before they were complete")
	}
}

func (w *offsetWhy) print(out io.Writer) {
	fmt.Fprintf(out, "%s@%d of job %s: %s", visible(w.Split), w.Offset, visible(w.Job), strings.ToUpper(w.Became))
	if w.Reason != "" {
		fmt.Fprintf(out, ", reason %s", visible(w.Reason))
	}
	fmt.Fprintf(out, "\n%s\n", visible(w.Answer))
	tab := newTable(out)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(tab, "%s\t%s\n", name, visible(fmt.Sprintf(format, args...)))
	}
	if w.Record != "" {
		line("record", "%s", w.Record)
	}
	if w.Time != nil {
		line("time", "%s", *w.Time)
	}
	if w.Broker != nil {
		line("broker time", "%s", *w.Broker)
	}
	if w.Key != "" {
		line("key", "%s", w.Key)
	}
	if w.Mark != nil {
		line("mark before", "%s (%s)", *w.Mark, w.MarkHow)
	}
	if w.Rule != "" {
		line("rule", "%s", w.Rule)
	}
	for _, x := range w.Windows {
		line("window", "%s to %s: %s (%s); %s now", x.Start, x.End, x.Took, x.Rule, x.State)
	}
	if w.Read != nil {
		by := ""
		if !w.Read.Exact {
			by = " or before"
		}
		line("read", "by checkpoint %d%s, lineage %d, published %s", w.Read.Epoch, by, w.Read.Lineage, w.Read.Published.Format(time.RFC3339))
	}
	for _, l := range w.Landed {
		line("landed", "%s", l)
	}
	for _, n := range w.Notes {
		line("note", "%s", n)
	}
	_ = tab.Flush() // of a writer that does not fail
}

// duplicate looks for the row that came before a duplicate of it.
func (e *evidence) duplicate(ctx context.Context, w *offsetWhy, r *traced) error {
	cfg := e.plan.cfg
	keyer, err := pipeline.NewKeyer(r.rec.Schema(), cfg.Dedupe.Columns, 0)
	if err != nil { // a column of a reference table
		return nil
	}
	within := pipeline.Ticks(cfg.Dedupe.Within)
	all := keyer.Keys(r.rec)
	want := slices.Clone(all.At(int32(r.row)))
	from, err := e.log.From(ctx, pipeline.SubTicks(r.ingest, within+pipeline.Ticks(cfg.EventTime.MaxDisorder)))
	if err != nil {
		return err
	}
	extents, err := e.log.Extents(ctx)
	if err != nil {
		return err
	}
	var parts []int32
	for p := range from {
		parts = append(parts, p)
	}
	own := r.split.Partition
	slices.SortFunc(parts, func(a, b int32) int { // its own first
		return cmp.Or(cmp.Compare(btoi(a != own), btoi(b != own)), cmp.Compare(a, b))
	})
	target, at, rules := *r, r.time, w.Rule
	for _, p := range parts {
		to := extents[p].End
		if p == own {
			to = target.offset
		}
		s := pipeline.Split{Topic: cfg.Source.Kafka.Topic, Partition: p}
		begin := &stand{point: &decisions.Point{}, split: pipeline.SplitState{Split: s, Position: pipeline.Position{Offset: from[p]}}}
		var rec arrow.RecordBatch
		var keys pipeline.Keys
		err := e.trace(ctx, s, begin, extents[p], to, func(o *traced) error {
			if o.rec == nil || p != own && o.ingest > target.ingest {
				return nil
			}
			if o.rec != rec {
				rec, keys = o.rec, keyer.Keys(o.rec)
			}
			if string(keys.At(int32(o.row))) != string(want) || max(o.time, at)-min(o.time, at) > within {
				return nil
			}
			w.Rule = fmt.Sprintf("dedupe: equal in %s, and at most %v apart", strings.Join(cfg.Dedupe.Columns, ", "), cfg.Dedupe.Within)
			w.say(becameDuplicate, "%s@%d is the same reading: it agrees in %s, %v away in event time, and came %v earlier by broker time",
				s, o.offset, strings.Join(cfg.Dedupe.Columns, ", "), durationOf(max(o.time, at)-min(o.time, at)), durationOf(target.ingest-o.ingest))
			return errEnough
		})
		if err != nil || w.Became == becameDuplicate {
			return err
		}
	}
	w.Rule = rules
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

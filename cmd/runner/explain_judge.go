package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
)

// judge says what became of a record that is there.
func (e *evidence) judge(ctx context.Context, w *offsetWhy, r *traced, d *decisions.Decision, after *stand, newest map[string]int64) error {
	w.Broker, w.Mark, w.Exact, w.Record = new(tick(r.ingest)), new(tick(r.mark)), r.exact, beginning(r.raw)
	w.MarkHow = fmt.Sprintf("exact: %s before it read again", plural(r.read, "record"))
	if !r.exact {
		w.MarkHow = fmt.Sprintf("at least: what is known of the marks begins too far back, %s before it read again", plural(r.read, "record"))
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
		w.behind = latest <= v
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
	case cfg.Window.Session != nil && w.behind && cfg.Decisions.Off:
		w.say(becameUnsure, "a session of %s that was open took it, or it is late: by itself it would be, and decisions.off is set", w.Key)
	case cfg.Window.Session != nil && w.behind:
		w.say(becameTaken, "a session of %s that was open took it: by itself it would be late, and the log of decisions, which keeps %v, does not have it", w.Key, cfg.Decisions.Keep)
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
		w.say(becameRevision, "it came behind the mark and within the lateness of %v: %s took it as a revision", cfg.Window.Lateness, plural(int64(count["as a revision"]), "window"))
	default:
		w.say(becameOnTime, "it was on time: its windows took it before they were complete")
	}
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

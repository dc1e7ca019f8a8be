package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

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
	becameUnsure    = "taken by a session, or late"
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
	behind bool // a session of its own would be over
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
	f := newExplainFlags("explain offset", "tidemark explain offset -f job.yaml readings/3@1841", "says what became of the record at TOPIC/PARTITION@OFFSET, by which rule, and where it landed: from the topic, the job's decisions, marks and newest checkpoint, and its tables")
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

// say sums up what became of the record.
func (w *offsetWhy) say(became, format string, args ...any) {
	w.Became, w.Answer = became, fmt.Sprintf(format, args...)
}

// readBy notes the checkpoint by which the record had been read.
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

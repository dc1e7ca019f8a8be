package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
)

// cmdExplain is the group of commands that say why, and says by itself what a job will do.
func cmdExplain(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "watermark":
			return cmdExplainWatermark(ctx, args[1:], out)
		case "offset":
			return cmdExplainOffset(ctx, args[1:], out)
		case "key":
			return cmdExplainKey(ctx, args[1:], out)
		}
	}
	return cmdExplainPlan(ctx, args, out)
}

// markWhy is what is known of the mark of a job, by its newest checkpoint.
type markWhy struct {
	Job     string    `json:"job"`
	Epoch   int64     `json:"epoch"`
	Written time.Time `json:"written"`
	Mark    tick      `json:"mark"`
	// Stands is the oldest kept checkpoint, without one in between that is different, that has
	// this mark.
	Stands time.Time   `json:"stands_since"`
	Holder string      `json:"held_by,omitempty"`
	Why    string      `json:"why"`
	Until  []string    `json:"released_by"`
	Splits []splitMark `json:"splits"`
	Moves  []moveLine  `json:"moves_by_silence"`
	// Refused are the rows that did not go the ordinary way, Stalled the checkpoint that waits for
	// a sink; of the newest checkpoint only.
	Refused []*refusedRows `json:"refused,omitempty"`
	Stalled *publishing    `json:"stalled,omitempty"`
	Notes   []string       `json:"notes,omitempty"`
}

// splitMark is a split, those that hold the mark back most first.
type splitMark struct {
	Split  string `json:"split"`
	Mark   tick   `json:"mark"`
	Behind string `json:"behind"` // the newest mark of any
	State  string `json:"state"`  // holds, counts, trails, quiet, ended
	Offset int64  `json:"offset"`
	Last   tick   `json:"last_broker_time"`

	at pipeline.SplitState
}

func cmdExplainWatermark(ctx context.Context, args []string, out streams) error {
	f := newStateFlags("explain watermark", "tidemark explain watermark -f job.yaml", "says which partition holds the mark of a job back, since when, and what would release it, as of the newest checkpoint; which rows did not go the ordinary way; and whether a checkpoint waits for a sink")
	at := f.String("at", "", "as of the last checkpoint published by `TIME`, such as 2026-03-01T12:00:00Z, in place of now")
	v, _, err := f.start(ctx, args, 0)
	if err != nil {
		return err
	}
	var why *markWhy
	if *at == "" {
		why, err = v.markWhy(ctx, time.Now())
	} else {
		var t time.Time
		if t, err = timeFlag("at", *at, time.Now()); err != nil {
			return err
		}
		why, err = v.markThen(ctx, t)
	}
	if err != nil {
		return err
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, why)
	}
	return why.print(out.stdout)
}

// markWhy is of the newest checkpoint.
func (v *stateView) markWhy(ctx context.Context, now time.Time) (*markWhy, error) {
	l, err := v.newest(ctx)
	if err != nil {
		return nil, err
	}
	all, err := v.list(ctx)
	if err != nil {
		return nil, err
	}
	cp := l.Checkpoint
	w := &markWhy{Stands: l.Written.UTC()}
	for _, older := range all { // newest first
		if older.Epoch > cp.Epoch {
			continue
		}
		if older.Err != nil || older.Checkpoint.Merged.Event != cp.Merged.Event || older.Checkpoint.Lineage != cp.Lineage {
			break
		}
		w.Stands = older.Written.UTC()
	}
	points, damaged, err := decisions.Points(ctx, v.store, boundedAllocator{memory.DefaultAllocator})
	if err != nil {
		return nil, err
	}
	w.stood(points, len(points), cp)
	if err := w.of(cp, l.Written); err != nil {
		return nil, err
	}
	w.Stalled = v.stalled(l, points, now)
	refused, others, err := v.refused(ctx, cp)
	w.Refused = refused
	for _, d := range append(damaged, others...) {
		w.Notes = append(w.Notes, d.Error())
	}
	return w, err
}

// markThen is of the last checkpoint that had been published by a time.
func (v *stateView) markThen(ctx context.Context, at time.Time) (*markWhy, error) {
	l, err := v.newest(ctx)
	if err != nil {
		return nil, err
	}
	points, _, err := decisions.Points(ctx, v.store, boundedAllocator{memory.DefaultAllocator})
	if err != nil {
		return nil, err
	}
	n := len(points)
	for n > 0 && points[n-1].At > at.UnixMicro() {
		n--
	}
	switch {
	case len(points) == 0:
		return nil, fmt.Errorf("the job has no history of its marks: it is written while the job runs, unless decisions.off is set")
	case n == 0:
		return nil, fmt.Errorf("the history of the marks begins at %s: decisions.keep and decisions.max_bytes bound it", tick(points[0].At))
	}
	p := points[n-1]
	cp := *l.Checkpoint
	cp.Epoch, cp.Lineage, cp.Splits, cp.Merged, cp.Newest = p.Epoch, p.Lineage, p.Splits, p.Merged, pipeline.MinTicks
	cp.Moves = slices.DeleteFunc(slices.Clone(cp.Moves), func(m pipeline.Move) bool { return m.To > p.Merged.Event })
	for _, s := range p.Splits {
		if s.Mark.Event != pipeline.MaxTicks {
			cp.Newest = max(cp.Newest, s.Mark.Event)
		}
	}
	written := time.UnixMicro(p.At).UTC()
	w := &markWhy{Stands: written}
	w.stood(points, n, &cp)
	return w, w.of(&cp, written)
}

// stood finds since when the mark stands, among the first n points.
func (w *markWhy) stood(points []decisions.Point, n int, cp *pipeline.Checkpoint) {
	for n > 0 && points[n-1].Merged.Event == cp.Merged.Event && points[n-1].Lineage == cp.Lineage {
		n--
		if at := time.UnixMicro(points[n].At).UTC(); at.Before(w.Stands) {
			w.Stands = at
		}
	}
}

// of says what a checkpoint shows.
func (w *markWhy) of(cp *pipeline.Checkpoint, written time.Time) error {
	settings, err := configOf(cp)
	if err != nil {
		return err
	}
	w.Job, w.Epoch, w.Written, w.Mark, w.Until, w.Splits, w.Moves = cp.Job, cp.Epoch, written.UTC(), tick(cp.Merged.Event), []string{}, []splitMark{}, movesOf(cp)
	w.splits(cp)
	w.reason(cp, settings)
	return nil
}

// splits sorts the splits by what they do to the mark.
func (w *markWhy) splits(cp *pipeline.Checkpoint) {
	newest := cp.Newest
	for _, s := range cp.Splits {
		m := splitMark{Split: s.Split.String(), Mark: tick(s.Mark.Event), State: "counts", Offset: s.Position.Offset, Last: tick(s.Position.LastIngest), at: s}
		switch {
		case s.Ended:
			m.State = "ended"
		case s.Quiet:
			m.State = "quiet"
		case s.Mark.Event < cp.Merged.Event:
			m.State = "trails"
		}
		switch {
		case s.Ended:
		case s.Mark.Event == pipeline.MinTicks:
			m.Behind = "no row yet"
		default:
			m.Behind = time.Duration(pipeline.SubTicks(newest, s.Mark.Event) * int64(time.Microsecond)).String()
		}
		w.Splits = append(w.Splits, m)
	}
	order := map[string]int{"counts": 0, "trails": 1, "quiet": 2, "ended": 3}
	slices.SortStableFunc(w.Splits, func(a, b splitMark) int {
		return cmp.Or(cmp.Compare(order[a.State], order[b.State]), cmp.Compare(a.Mark, b.Mark))
	})
	if len(w.Splits) > 0 && w.Splits[0].State == "counts" {
		w.Splits[0].State, w.Holder = "holds", w.Splits[0].Split
	}
}

// reason says why the mark is where it is, and what would let it go on.
func (w *markWhy) reason(cp *pipeline.Checkpoint, settings map[string]string) {
	quiet := settings["event_time.quiet_after"]
	if w.Holder == "" {
		switch {
		case len(w.Splits) == 0:
			w.Why = "the job knows of no partition yet"
		case cp.Merged.Event == pipeline.MaxTicks:
			w.Why = "the input has been read to its end"
		default:
			w.Why = "no partition counts: all are quiet, have ended, or trail the mark after a silence"
			w.Until = append(w.Until, fmt.Sprintf("a row that brings a partition to the mark; with event_time.on_all_quiet %s silence alone does not move it", cmp.Or(settings["event_time.on_all_quiet"], string(pipeline.HoldMark))))
		}
		return
	}
	holder, bound := w.Splits[0].at, settings["event_time.max_disorder"]
	if holder.Mark.Event == pipeline.MinTicks {
		w.Why = fmt.Sprintf("partition %s has given no row with a time yet, and a partition that may still give any holds all others", w.Holder)
	} else {
		w.Why = fmt.Sprintf("the newest row of partition %s, less the bound of %s, is the smallest of those that count", w.Holder, cmp.Or(bound, "its disorder"))
	}
	row := fmt.Sprintf("a row of %s with a newer time", w.Holder)
	if len(w.Splits) > 1 && w.Splits[1].State == "counts" && int64(w.Splits[1].Mark) > holder.Mark.Event {
		next := w.Splits[1]
		row += fmt.Sprintf("; then %s holds it, at %s", next.Split, next.Mark)
	}
	w.Until = append(w.Until, row)
	w.Until = append(w.Until, w.silence(quiet))
	if idle := settings["event_time.idle_after"]; idle != "" && idle != "0s" {
		w.Until = append(w.Until, fmt.Sprintf("%s of the wall clock at the end of the partition (event_time.idle_after)", idle))
	}
}

// silence says what it takes for the holder to be quiet.
func (w *markWhy) silence(quiet string) string {
	if quiet == "never" {
		return "nothing else: event_time.quiet_after is never"
	}
	after, err := time.ParseDuration(quiet)
	holder := w.Splits[0].at
	if err != nil || holder.Position.LastIngest == pipeline.MinTicks {
		return fmt.Sprintf("silence: %s is read to its end while it is empty, or another partition of the topic brings a record whose broker timestamp is more than %s newer", w.Holder, cmp.Or(quiet, "event_time.quiet_after"))
	}
	needed := pipeline.AddTicks(holder.Position.LastIngest, pipeline.Ticks(after))
	seen := pipeline.MinTicks
	for _, s := range w.Splits[1:] {
		if s.at.Split.Topic == holder.Split.Topic {
			seen = max(seen, s.at.Position.LastIngest)
		}
	}
	if seen > needed {
		return fmt.Sprintf("silence, which is long enough (its last record came %s, another partition is at %s, %s are wanted): %s has yet to be read to its end, so there are records in it", tick(holder.Position.LastIngest), tick(seen), quiet, w.Holder)
	}
	return fmt.Sprintf("silence: %s is read to its end and another partition of the topic brings a record with a broker timestamp after %s; the newest so far is %s", w.Holder, tick(needed), tick(seen))
}

func (w *markWhy) print(out io.Writer) error {
	fmt.Fprintf(out, "job %s, checkpoint %d of %s\n", visible(w.Job), w.Epoch, w.Written.Format(time.RFC3339))
	fmt.Fprintf(out, "mark %s", w.Mark)
	if w.Holder != "" {
		fmt.Fprintf(out, ", held by %s", visible(w.Holder))
	}
	if w.Written.Sub(w.Stands) >= time.Second {
		fmt.Fprintf(out, ", unchanged since %s at least", w.Stands.Format(time.RFC3339))
	}
	fmt.Fprintf(out, "\nwhy: %s\n", visible(w.Why))
	for _, u := range w.Until {
		fmt.Fprintf(out, "released by %s\n", visible(u))
	}
	tab := newTable(out)
	fmt.Fprintln(tab, "PARTITION\tMARK\tBEHIND\tSTATE\tOFFSET\tLAST BROKER TIME")
	for _, s := range w.Splits {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%d\t%s\n", visible(s.Split), s.Mark, s.Behind, s.State, s.Offset, s.Last)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	for _, m := range w.Moves {
		proof := fmt.Sprintf("proved by a record of %s", m.Seen)
		if int64(m.Seen) == pipeline.MinTicks {
			proof = "it was empty, or idle by the wall clock"
		}
		fmt.Fprintf(out, "silence of %s moved the mark from %s to %s: %s\n", visible(m.Split), m.From, m.To, proof)
	}
	if w.Stalled != nil {
		w.Stalled.print(out)
	}
	for _, r := range w.Refused {
		r.print(out)
	}
	for _, n := range w.Notes {
		fmt.Fprintf(out, "note: %s\n", visible(n))
	}
	return nil
}

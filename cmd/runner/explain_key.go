package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
	"github.com/tidemark/tidemark/sources/kafka"
)

// keyWhy says what became of the records of a key near an instant.
type keyWhy struct {
	Job    string `json:"job"`
	Key    string `json:"key"`
	At     tick   `json:"at"`
	Around string `json:"around"`
	Answer string `json:"answer"`
	// Read is how many records were read, with broker times from From to To.
	Read    int64        `json:"records_read"`
	From    tick         `json:"from"`
	To      tick         `json:"to"`
	Records []*offsetWhy `json:"records"`
	More    int          `json:"records_left_out"`
	State   []keyState   `json:"state,omitempty"`
	Landed  []landing    `json:"landed,omitempty"`
	Notes   []string     `json:"notes,omitempty"`

	at, around int64
	near       *offsetWhy // of the key, outside the range, nearest to it
}

// maxKeyRecords is how many records of a key are explained.
const maxKeyRecords = 100

// cmdExplainKey says what became of the records of a key.
func cmdExplainKey(ctx context.Context, args []string, out streams) error {
	f := newExplainFlags("explain key", "tidemark explain key -f job.yaml RC-1 --at 2026-03-01T12:00:00Z", "says what became of the readings of KEY near an instant of event time, and why one is missing: from the topic around that time, the job's decisions, state and tables. Columns of a key of several stand with a comma between them")
	at := f.String("at", "", "event `TIME`, such as 2026-03-01T12:00:00Z")
	around := f.Duration("around", 0, "by how much times may differ from it: the length of a window, 1m at least, unless said otherwise")
	e, key, err := f.evidence(ctx, args)
	if err != nil {
		return err
	}
	defer e.close()
	t, err := timeFlag("at", *at, time.Now())
	switch {
	case err != nil:
		return err
	case len(key) == 0:
		return &usageError{"explain key: want a key"}
	case *around < 0:
		return &usageError{"explain key: --around: must not be negative"}
	}
	w := &keyWhy{Job: e.plan.cfg.Job, Key: strings.Join(key, ","), At: tick(t.UnixMicro()), at: t.UnixMicro(), Notes: e.notes, Records: []*offsetWhy{}}
	w.around = cmp.Or(pipeline.Ticks(*around), e.windowLength())
	w.Around = durationOf(w.around).String()
	if err := e.explainKey(ctx, w); err != nil {
		return err
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, w)
	}
	return w.print(out.stdout)
}

// windowLength is how long the job's windows are, a minute at least and a day at most.
func (e *evidence) windowLength() int64 {
	size := int64(0)
	if e.plan.cfg.windowed() && e.plan.cfg.Window.Session == nil {
		size = e.plan.cfg.windowConfig(0).Size
	}
	return min(max(size, pipeline.Ticks(time.Minute)), pipeline.Ticks(24*time.Hour))
}

// inRange tells whether an event time is near the instant that was asked for.
func (w *keyWhy) inRange(t int64) bool {
	return t >= pipeline.SubTicks(w.at, w.around) && t <= pipeline.AddTicks(w.at, w.around)
}

// recordAt names a record in the log of decisions.
type recordAt struct {
	lineage uint16
	split   int32
	offset  int64
}

// explainKey fills in all but the names of what was asked for.
func (e *evidence) explainKey(ctx context.Context, w *keyWhy) error {
	cfg := e.plan.cfg.EventTime
	w.From = tick(pipeline.SubTicks(w.at, w.around+pipeline.Ticks(cfg.MaxAhead)))
	w.To = tick(pipeline.AddTicks(w.at, w.around+pipeline.Ticks(cfg.MaxDisorder+e.plan.cfg.Window.Lateness+time.Minute)))
	from, err := e.log.From(ctx, int64(w.From))
	if err != nil {
		return err
	}
	to, err := e.log.From(ctx, int64(w.To))
	if err != nil {
		return err
	}
	extents, err := e.log.Extents(ctx)
	if err != nil {
		return err
	}
	decided, elsewhere, err := e.decisionsNear(ctx, w, from, to)
	if err != nil {
		return err
	}
	for p := range int32(len(from)) {
		if err := e.keyIn(ctx, w, p, from[p], to[p], extents[p], decided); err != nil {
			return err
		}
	}
	for _, d := range elsewhere {
		if err := e.keyElsewhere(ctx, w, d); err != nil {
			return err
		}
	}
	slices.SortStableFunc(w.Records, func(a, b *offsetWhy) int { return cmp.Compare(a.when(), b.when()) })
	if err := e.keyState(ctx, w); err != nil {
		return err
	}
	w.answer()
	return nil
}

// when is the event time of a record, or else its broker time.
func (w *offsetWhy) when() tick {
	switch {
	case w.Time != nil:
		return *w.Time
	case w.Broker != nil:
		return *w.Broker
	}
	return 0
}

// decisionsNear returns the decisions on the records that will be read, and those on records of
// the key near the instant that came at another time.
func (e *evidence) decisionsNear(ctx context.Context, w *keyWhy, from, to map[int32]int64) (map[recordAt]*decisions.Decision, []*decisions.Decision, error) {
	splits := e.newest.Checkpoint.Splits
	near, elsewhere := map[recordAt]*decisions.Decision{}, map[recordAt]*decisions.Decision{}
	damaged, err := decisions.Decisions(ctx, e.view.store, boundedAllocator{memory.DefaultAllocator}, func(d decisions.Decision) {
		if int(d.Split) >= len(splits) {
			return
		}
		p := splits[d.Split].Split.Partition
		at := recordAt{d.Lineage, d.Split, d.Offset}
		switch {
		case d.Offset >= from[p] && d.Offset < to[p]:
			near[at] = &d
		case d.Key == w.Key && w.inRange(d.Time) && len(elsewhere) < maxKeyRecords:
			elsewhere[at] = &d
		}
	})
	e.damaged(damaged)
	var out []*decisions.Decision
	for _, d := range elsewhere {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *decisions.Decision) int {
		return cmp.Or(cmp.Compare(a.Split, b.Split), cmp.Compare(a.Offset, b.Offset))
	})
	return near, out, err
}

// keyIn explains the records of the key in a part of a partition.
func (e *evidence) keyIn(ctx context.Context, w *keyWhy, partition int32, from, to int64, extent kafka.Extent, decided map[recordAt]*decisions.Decision) error {
	s := pipeline.Split{Topic: e.plan.cfg.Source.Kafka.Topic, Partition: partition}
	if from >= to {
		return nil
	}
	begin, _ := e.around(s, from)
	newest := map[string]int64{}
	return e.trace(ctx, s, begin, extent, to, func(r *traced) error {
		defer e.clock(r, newest)
		if r.offset < from {
			return nil
		}
		w.Read++
		if !e.of(w, r) {
			return nil
		}
		if len(w.Records) == maxKeyRecords {
			w.More++
			return nil
		}
		before, after := e.around(s, r.offset)
		x := &offsetWhy{Job: w.Job, Split: s.String(), Offset: r.offset}
		x.readBy(before, after)
		var d *decisions.Decision
		if after != nil {
			d = decided[recordAt{after.point.Lineage, after.index, r.offset}]
		}
		if err := e.judge(ctx, x, r, d, after, newest); err != nil {
			return err
		}
		w.Records = append(w.Records, x)
		return w.landed(ctx, e, x, r)
	})
}

// of tells whether a record is of the key and near the instant, and notes the nearest that is
// not near. Of a dead record nobody knows the key: it is of it when it has the text.
func (e *evidence) of(w *keyWhy, r *traced) bool {
	if r.rec == nil {
		first, _, _ := strings.Cut(w.Key, ",")
		return bytes.Contains(r.raw, []byte(first))
	}
	if strings.Join(keyText(r.rec, r.row, e.keyShown()), ",") != w.Key {
		return false
	}
	if w.inRange(r.time) {
		return true
	}
	off := func(t int64) int64 { return max(t, w.at) - min(t, w.at) }
	if w.near == nil || off(r.time) < off(int64(*w.near.Time)) {
		w.near = &offsetWhy{Split: r.split.String(), Offset: r.offset, Time: new(tick(r.time))}
	}
	return false
}

// landed notes where the results are that a record is part of, each once.
func (w *keyWhy) landed(ctx context.Context, e *evidence, x *offsetWhy, r *traced) error {
	if err := e.place(ctx, x, r); err != nil {
		return err
	}
	for _, l := range x.Landed {
		if !slices.ContainsFunc(w.Landed, func(o landing) bool { return o.Table == l.Table && o.Row == l.Row }) {
			w.Landed = append(w.Landed, l)
		}
	}
	return nil
}

// keyElsewhere explains a record of the key that came at another time.
func (e *evidence) keyElsewhere(ctx context.Context, w *keyWhy, d *decisions.Decision) error {
	x, err := e.explain(ctx, e.newest.Checkpoint.Splits[d.Split].Split, d.Offset)
	if err != nil {
		return err
	}
	if x.Read == nil || x.Read.Lineage != d.Lineage { // it was read again since
		return nil
	}
	w.Records = append(w.Records, x)
	w.Landed = append(w.Landed, x.Landed...)
	return nil
}

// keyState takes from the newest checkpoint what it knows of the key at the instant.
func (e *evidence) keyState(ctx context.Context, w *keyWhy) error {
	return e.view.with(ctx, nil, func(l pipeline.Listed) error {
		s, err := e.view.search(l.Checkpoint, w.Key)
		if err != nil {
			return err
		}
		if err := e.view.checkpoints.Look(ctx, l.Checkpoint, s.piece); err != nil {
			return err
		}
		w.State = nil
		for _, st := range s.answer().Found {
			if st.Start == nil || int64(*st.Start) <= w.at && w.at < int64(*st.End) {
				w.State = append(w.State, st)
			}
		}
		return nil
	})
}

// answer says in one sentence why a reading is missing, or that none is.
func (w *keyWhy) answer() {
	var nearest *offsetWhy
	off := func(x *offsetWhy) tick { return max(x.when(), w.At) - min(x.when(), w.At) }
	missing := 0
	for _, x := range w.Records {
		if x.missing() {
			missing++
		}
		if nearest == nil || off(x) < off(nearest) || off(x) == off(nearest) && x.missing() && !nearest.missing() {
			nearest = x
		}
	}
	switch {
	case nearest == nil && w.near != nil:
		w.Answer = fmt.Sprintf("no reading of %s near that time is among the records with broker times from %s to %s; the nearest of them is of %s, %s@%d", w.Key, w.From, w.To, *w.near.Time, w.near.Split, w.near.Offset)
	case nearest == nil:
		w.Answer = fmt.Sprintf("no record of %s came with a broker time from %s to %s, and none of that time was refused later: it was not sent, or has another key", w.Key, w.From, w.To)
	case missing == 0:
		w.Answer = fmt.Sprintf("nothing is missing: %s of %s near that time, all taken; the nearest is %s@%d, %s", plural(int64(len(w.Records)+w.More), "reading"), w.Key, nearest.Split, nearest.Offset, nearest.Became)
	case nearest.missing():
		w.Answer = fmt.Sprintf("the reading nearest to that time, %s@%d, is missing since it is %s: %s", nearest.Split, nearest.Offset, nearest.Became, nearest.Answer)
	default:
		w.Answer = fmt.Sprintf("the reading nearest to that time, %s@%d, was taken (%s); %d others near it were not", nearest.Split, nearest.Offset, nearest.Became, missing)
	}
}

// missing tells whether no window took a record.
func (w *offsetWhy) missing() bool {
	return slices.Contains([]string{becameLate, becameDead, becameDuplicate, becameFiltered, becameUnread, becameGap}, w.Became)
}

func (w *keyWhy) print(out io.Writer) error {
	fmt.Fprintf(out, "%s of job %s within %s of %s\n%s\n\n", visible(w.Key), visible(w.Job), w.Around, w.At, visible(w.Answer))
	if len(w.Records) > 0 {
		tab := newTable(out)
		fmt.Fprintln(tab, "RECORD\tTIME\tBROKER TIME\tBECAME\tWHY")
		for _, x := range w.Records {
			at, broker := "-", "-"
			if x.Time != nil {
				at = x.Time.String()
			}
			if x.Broker != nil {
				broker = x.Broker.String()
			}
			fmt.Fprintf(tab, "%s@%d\t%s\t%s\t%s\t%s\n", visible(x.Split), x.Offset, at, broker, x.Became, visible(x.Answer))
		}
		if err := tab.Flush(); err != nil {
			return err
		}
	}
	if w.More > 0 {
		fmt.Fprintf(out, "and %s more\n", plural(int64(w.More), "record"))
	}
	for _, st := range w.State {
		fmt.Fprintf(out, "in state: operator %d, %s", st.Op, st.Kind)
		if st.Start != nil {
			fmt.Fprintf(out, ", %s to %s", *st.Start, *st.End)
		}
		for _, f := range st.Facts {
			if _, nested := f.value.(facts); !nested {
				fmt.Fprintf(out, ", %s %s", visible(f.name), visible(fmt.Sprint(f.value)))
			}
		}
		fmt.Fprintln(out)
	}
	for _, l := range w.Landed {
		fmt.Fprintf(out, "landed: %s\n", visible(l.String()))
	}
	fmt.Fprintf(out, "%s read, with broker times from %s to %s\n", plural(w.Read, "record"), w.From, w.To)
	for _, n := range w.Notes {
		fmt.Fprintf(out, "note: %s\n", visible(n))
	}
	return nil
}

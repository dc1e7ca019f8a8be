package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
)

// refusedRows are the rows of a partition that did not go the ordinary way for one reason.
type refusedRows struct {
	Fate   string   `json:"fate"`
	Reason string   `json:"reason,omitempty"`
	Split  string   `json:"partition"`
	Rows   int64    `json:"rows"`
	First  int64    `json:"first_offset"`
	Last   int64    `json:"last_offset"`
	From   tick     `json:"from"` // event times
	To     tick     `json:"to"`
	Worst  string   `json:"worst,omitempty"` // how late, or how far ahead, the worst is
	Keys   int      `json:"keys"`
	Like   []string `json:"keys_like,omitempty"`

	worst int64
	keys  map[string]bool
}

// maxRefusedKeys bounds what is remembered of the keys of refused rows, and refusedLike how many
// are shown.
const (
	maxRefusedKeys = 10_000
	refusedLike    = 3
)

// refused sums up the decisions of the newest lineage, those on most rows first.
func (v *stateView) refused(ctx context.Context, cp *pipeline.Checkpoint) (out []*refusedRows, damaged []error, err error) {
	type id struct {
		fate   pipeline.Fate
		reason string
		split  int32
	}
	sums := map[id]*refusedRows{}
	damaged, err = decisions.Decisions(ctx, v.store, boundedAllocator{memory.DefaultAllocator}, func(d decisions.Decision) {
		if d.Lineage != cp.Lineage || int(d.Split) >= len(cp.Splits) || d.Offset >= cp.Splits[d.Split].Position.Offset {
			return // of an epoch that does not count, or not yet
		}
		at := id{d.Fate, d.Reason, d.Split}
		r := sums[at]
		if r == nil {
			r = &refusedRows{Fate: d.Fate.String(), Reason: d.Reason, Split: cp.Splits[d.Split].Split.String(), First: d.Offset, Last: d.Offset,
				From: tick(pipeline.MaxTicks), To: tick(pipeline.MinTicks), keys: map[string]bool{}}
			sums[at] = r
		}
		r.add(d)
	})
	for _, at := range slices.SortedFunc(maps.Keys(sums), func(a, b id) int {
		return cmp.Or(cmp.Compare(sums[b].Rows, sums[a].Rows), cmp.Compare(a.reason, b.reason), cmp.Compare(a.split, b.split))
	}) {
		sums[at].finish()
		out = append(out, sums[at])
	}
	return out, damaged, err
}

func (r *refusedRows) add(d decisions.Decision) {
	r.Rows++
	r.First, r.Last = min(r.First, d.Offset), max(r.Last, d.Offset)
	if d.Time != pipeline.MinTicks {
		r.From, r.To = min(r.From, tick(d.Time)), max(r.To, tick(d.Time))
		switch {
		case d.Mark != pipeline.MinTicks:
			r.worst = max(r.worst, pipeline.SubTicks(d.Mark, d.Time))
		case d.Reason == operators.ReasonFuture:
			r.worst = max(r.worst, pipeline.SubTicks(d.Time, d.Ingest))
		}
	}
	if d.Key != "" && len(r.keys) < maxRefusedKeys {
		r.keys[d.Key] = true
	}
}

func (r *refusedRows) finish() {
	r.Keys = len(r.keys)
	all := slices.Sorted(maps.Keys(r.keys))
	r.Like = all[:min(refusedLike, len(all))]
	if r.From > r.To {
		r.From, r.To = tick(pipeline.MinTicks), tick(pipeline.MinTicks)
	}
	switch {
	case r.worst <= 0:
	case r.Reason == operators.ReasonFuture:
		r.Worst = durationOf(r.worst).String() + " ahead of the broker"
	default:
		r.Worst = durationOf(r.worst).String() + " behind the mark"
	}
}

func (r *refusedRows) print(w io.Writer) {
	fmt.Fprintf(w, "%s", r.Fate)
	if r.Reason != "" && r.Reason != r.Fate {
		fmt.Fprintf(w, ", %s", visible(r.Reason))
	}
	fmt.Fprintf(w, ": %s of %s, offsets %d to %d", plural(r.Rows, "row"), visible(r.Split), r.First, r.Last)
	if int64(r.From) != pipeline.MinTicks {
		fmt.Fprintf(w, ", event times %s to %s", r.From, r.To)
	}
	if r.Worst != "" {
		fmt.Fprintf(w, ", up to %s", r.Worst)
	}
	if r.Keys > 0 {
		fmt.Fprintf(w, ", %s such as %s", plural(int64(r.Keys), "key"), visible(strings.Join(r.Like, " ")))
	}
	fmt.Fprintf(w, "; see `tidemark explain offset -f JOB %s@%d`\n", visible(r.Split), r.First)
}

// publishing says that a checkpoint waits for a sink.
type publishing struct {
	Epoch   int64     `json:"epoch"`
	Written time.Time `json:"written"`
	// Before is when the checkpoint before it was published.
	Before *time.Time `json:"published_last"`
	Sinks  []string   `json:"sinks"` // that have something to publish, in their order
}

// historySlack is for how long a checkpoint may be without a point in the history: it is written once a
// second.
const historySlack = 2 * time.Second

// stalled tells whether the newest checkpoint was written and has not been published since. A
// checkpoint that says nothing new leaves no point, and waits for nobody.
func (v *stateView) stalled(l pipeline.Listed, points []decisions.Point, now time.Time) *publishing {
	cp := l.Checkpoint
	if settings, err := configOf(cp); err != nil || settings["decisions.off"] != "false" || len(cp.Receipts) == 0 || now.Sub(l.Written) < historySlack {
		return nil // nobody knows
	}
	p := &publishing{Epoch: cp.Epoch, Written: l.Written.UTC()}
	if n := len(points); n > 0 {
		last := points[n-1]
		same := slices.EqualFunc(cp.Splits, last.Splits, func(a, b pipeline.SplitState) bool {
			return a.Position.Offset == b.Position.Offset && a.Mark == b.Mark
		})
		if last.Lineage == cp.Lineage && (last.Epoch >= cp.Epoch || same) {
			return nil
		}
		p.Before = new(time.UnixMicro(last.At).UTC())
	}
	for _, r := range cp.Receipts {
		p.Sinks = append(p.Sinks, r.Sink)
	}
	return p
}

func (p *publishing) print(w io.Writer) {
	before := "none was before"
	if p.Before != nil {
		before = "the last one was at " + p.Before.Format(time.RFC3339)
	}
	fmt.Fprintf(w, "SINK STALLED: checkpoint %d was written at %s and is not published, %s. It waits for %s, unless the job died in between; `tidemark check -f JOB` tries the sinks\n",
		p.Epoch, p.Written.Format(time.RFC3339), before, visible(strings.Join(p.Sinks, ", then ")))
}

// plural is a number of things.
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// lateSteps are the latenesses that are tried.
var lateSteps = []time.Duration{0, time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// lateAnswer says by how much the rows of a job were late, and what more lateness would have kept.
type lateAnswer struct {
	Job     string           `json:"job"`
	Epoch   int64            `json:"epoch"`
	Setting string           `json:"setting"` // that decides
	Now     string           `json:"now"`     // what it is
	Rows    int64            `json:"rows"`    // aggregated and late ones, by the checkpoint
	Late    int64            `json:"late"`    // by the checkpoint
	Found   int64            `json:"found"`   // in the table
	Reasons map[string]int64 `json:"reasons"`
	Missed  int64            `json:"windows_missed"`
	Steps   []lateStep       `json:"steps"`
	Splits  []lateSplit      `json:"splits"`
	WhatIf  lateStep         `json:"what_if"`
}

// lateStep is what a setting would have kept.
type lateStep struct {
	Value   time.Duration `json:"-"`
	Text    string        `json:"value"`
	Newly   int64         `json:"rows"` // late rows that it keeps and the step before does not
	Kept    int64         `json:"kept"` // of the late ones
	Percent float64       `json:"percent_of_all"`
}

// lateSplit are the late rows of a partition.
type lateSplit struct {
	Split  string `json:"split"`
	Rows   int64  `json:"rows"`
	Newest tick   `json:"newest"` // broker's timestamp
}

func cmdLate(ctx context.Context, args []string, out streams) error {
	f := newRefusedFlags("late", "tidemark late -f job.yaml --lateness 5m", "shows by how much rows came late, as the job's table of late rows has them, and what more lateness would have kept. `tidemark dead show --late` shows the rows")
	asked := f.Duration("lateness", 0, "say what this lateness would have kept; 0: the least that would have kept nine of ten late rows")
	f.late = true
	if err := f.parse(args); err != nil {
		return err
	}
	if *asked < 0 {
		return f.wrong("--lateness %s: must not be negative", *asked)
	}
	a, need, err := f.lateRows(ctx)
	if err != nil {
		return err
	}
	a.steps(need)
	a.whatIf(need, *asked)
	if f.format == formatJSON {
		return printJSON(out.stdout, a)
	}
	return a.print(out.stdout)
}

// lateRows reads the late rows, and which lateness each would have needed, in ascending order.
func (f *refusedFlags) lateRows(ctx context.Context) (*lateAnswer, []int64, error) {
	cp, err := f.jobCheckpoint(ctx)
	if err != nil {
		return nil, nil, err
	}
	a := &lateAnswer{Job: f.plan.cfg.Job, Epoch: cp.Epoch, Reasons: map[string]int64{}, Setting: "window.lateness", Now: f.plan.cfg.Window.Lateness.String()}
	base := int64(0)
	if f.plan.dom != nil { // there is no lateness: the bound decides
		a.Setting, a.Now, base = "event_time.max_disorder", f.plan.cfg.EventTime.MaxDisorder.String(), pipeline.Ticks(f.plan.cfg.EventTime.MaxDisorder)
	}
	for _, s := range cp.Splits {
		a.Late += s.Counts[pipeline.FateLate]
		a.Rows += s.Counts[pipeline.FateLate] + s.Counts[pipeline.Aggregated]
	}
	var need []int64
	splits := map[string]*lateSplit{}
	err = f.scan(ctx, func(r *refusedRow) error {
		if r.Time == nil || r.End == nil {
			return fmt.Errorf("late row %s@%d has no time or no window: the table is of another program", r.Split, r.Offset)
		}
		need = append(need, pipeline.AddTicks(base, needed(r)))
		a.Found++
		a.Missed += r.Missed
		a.Reasons[r.Reason]++
		s := splits[r.Split]
		if s == nil {
			s = &lateSplit{Split: r.Split, Newest: r.Ingest}
			splits[r.Split] = s
		}
		s.Rows++
		s.Newest = max(s.Newest, r.Ingest)
		return nil
	})
	for _, s := range cp.Splits {
		if l := splits[s.Split.String()]; l != nil {
			a.Splits = append(a.Splits, *l)
		}
	}
	slices.Sort(need)
	return a, need, err
}

// needed is the least lateness with which the last window that a row missed would have taken it: a row is
// late for a window when end - 1 + lateness is not above the mark.
func needed(r *refusedRow) int64 {
	mark := pipeline.AddTicks(int64(*r.Time), r.LateBy)
	return pipeline.AddTicks(pipeline.SubTicks(mark, int64(*r.End)), 2)
}

// keptBy counts the late rows that a lateness would have kept.
func keptBy(need []int64, lateness time.Duration) int64 {
	n, _ := slices.BinarySearchFunc(need, pipeline.Ticks(lateness), func(need, have int64) int {
		if need <= have {
			return -1
		}
		return 1
	})
	return int64(n)
}

// step says what a lateness would have kept. The percentage is of the rows of the checkpoint.
func (a *lateAnswer) step(need []int64, lateness time.Duration) lateStep {
	s := lateStep{Value: lateness, Text: shortTime(lateness), Kept: keptBy(need, lateness)}
	if a.Rows > 0 {
		s.Percent = math.Round(1e4*float64(a.Rows-a.Late+min(s.Kept, a.Late))/float64(a.Rows)) / 100
	}
	return s
}

// steps makes the histogram, from the first step that keeps a row to the one that keeps all.
func (a *lateAnswer) steps(need []int64) {
	before := int64(0)
	for _, d := range lateSteps {
		s := a.step(need, d)
		if s.Newly = s.Kept - before; s.Kept == 0 || s.Newly == 0 && len(a.Steps) == 0 {
			continue
		}
		if before == int64(len(need)) {
			break
		}
		before = s.Kept
		a.Steps = append(a.Steps, s)
	}
}

// whatIf answers for a lateness, or for the least step that keeps nine of ten late rows.
func (a *lateAnswer) whatIf(need []int64, asked time.Duration) {
	if asked == 0 {
		i := slices.IndexFunc(lateSteps, func(d time.Duration) bool { return 10*keptBy(need, d) >= 9*int64(len(need)) })
		if i < 0 {
			i = len(lateSteps) - 1
		}
		asked = lateSteps[i]
	}
	a.WhatIf = a.step(need, asked)
}

// shortTime is a duration without parts that are zero.
func shortTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (a *lateAnswer) print(w io.Writer) error {
	percent := 0.0
	if a.Rows > 0 {
		percent = 100 * float64(a.Rows-a.Late) / float64(a.Rows)
	}
	fmt.Fprintf(w, "job %s, checkpoint %d: %d of %d rows were late; %s %s kept %.2f %%\n", a.Job, a.Epoch, a.Late, a.Rows, a.Setting, a.Now, percent)
	if a.Found == 0 {
		_, err := fmt.Fprintln(w, "the table of late rows has none of them")
		return err
	}
	fmt.Fprintf(w, "%d rows of the table of late rows, which missed %d windows", a.Found, a.Missed)
	for _, reason := range []string{"late", "quiet_split"} {
		if n := a.Reasons[reason]; n > 0 {
			fmt.Fprintf(w, "; %d %s", n, reason)
		}
	}
	fmt.Fprintln(w)
	t := newTable(w)
	fmt.Fprintln(t, "\nNEEDED\tROWS\tKEPT OF THE LATE\tKEPT OF ALL")
	for _, s := range a.Steps {
		share := float64(s.Kept) / float64(a.Found)
		fmt.Fprintf(t, "up to %s\t%d\t%.1f %%\t%.2f %%\n", s.Text, s.Newly, 100*share, s.Percent)
	}
	fmt.Fprintln(t, "\nPARTITION\tLATE\tNEWEST")
	for _, s := range a.Splits {
		fmt.Fprintf(t, "%s\t%d\t%s\n", visible(s.Split), s.Rows, s.Newest)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s %s would have kept %.2f %%\n", a.Setting, a.WhatIf.Text, a.WhatIf.Percent)
	return err
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sources/kafka"
)

// cmdReplay runs a job over a range of event time, beside the job itself.
func cmdReplay(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 && args[0] == "ls" {
		return cmdReplayLs(ctx, args[1:], out)
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return &usageError{fmt.Sprintf("replay: unknown %q: want ls, or flags; `tidemark replay --help` shows them", args[0])}
	}
	var o replayOptions
	fs := newFlags("replay", "tidemark replay -f job.yaml --from 2026-11-20T00:00Z --to 2026-11-21T00:00Z",
		"makes the results of a range of event time again, beside those of the job: same job file, a lineage and tables of its own (NAME_replays). "+
			"One that was killed goes on where it was when the command is given again. `tidemark replay ls -f job.yaml` lists them")
	file := fs.String("f", "", "job `file`")
	fs.StringVar(&o.from, "from", "", "`time` from which on results count: RFC 3339, a day, or -3h before now")
	fs.StringVar(&o.to, "to", "", "`time` up to which, exclusive")
	fs.StringVar(&o.name, "name", "", "`name` of the replay; its range unless said otherwise")
	fs.BoolVar(&o.partial, "partial", false, "replay what is there when retention has removed a part of the range")
	fs.DurationVar(&o.before, "before", -1, "how far before the range reading starts, for state that comes from before it; follows from the job unless said otherwise")
	fs.DurationVar(&o.after, "after", -1, "how far behind the range reading ends, for rows that come late")
	fs.BoolVar(&o.again, "again", false, "make another replay although one of that name has ended")
	fs.BoolVar(&o.dryRun, "dry-run", false, "say what would be read, and read nothing")
	fs.IntVar(&o.rate, "rate", 0, "records per second at most, 0 for as fast as it goes")
	format := fs.String("o", formatTable, "`form` of the output: table, which is text, or json, and then the text goes to standard error")
	level := fs.String("log", "warn", "log `level`: debug, info, warn, error")
	stats := fs.Bool("stats", false, "say at the end what the process used")
	if err := fs.parse(args); err != nil {
		return err
	}
	text, err := aside(fs, *format, out)
	switch {
	case err != nil:
		return err
	case *file == "":
		return &usageError{"replay: -f names no job file"}
	case o.name == "" && (o.from == "" || o.to == ""):
		return &usageError{"replay: want --from and --to, or the --name of a replay that is to go on"}
	case o.rate < 0:
		return &usageError{"replay: --rate must not be negative"}
	}
	log, err := newLogger(out.stderr, *level)
	if err != nil {
		return err
	}
	loaded, err := loadJobFile(*file)
	if err != nil {
		return err
	}
	plan, fresh, err := o.plan(ctx, loaded)
	if err != nil {
		return err
	}
	plan.describe(text)
	done, err := plan.ended(ctx, loaded.cfg)
	switch {
	case err != nil:
		return err
	case done && !fresh:
		if err := plan.publishAgain(ctx, loaded.cfg); err != nil {
			return err
		}
		fmt.Fprintln(text, "It has ended: --again makes another of this range.")
	case o.dryRun:
	default:
		if fresh {
			r, err := openReplays(loaded.cfg)
			if err != nil {
				return err
			}
			if plan, err = r.add(ctx, plan); err != nil {
				return err
			}
		}
		if err := plan.run(ctx, loaded.cfg, o.rate, *stats, log, streams{text, out.stderr}); err != nil {
			return fmt.Errorf("replay %s: %w", plan.Name, err)
		}
		if done, err = plan.ended(ctx, loaded.cfg); err != nil {
			return err
		}
		if done {
			fmt.Fprintf(text, "Compare: tidemark diff -f %s live replay:%s\n", *file, plan.Name)
		} else {
			fmt.Fprintln(text, "Stopped; the same command goes on from here.")
		}
	}
	if *format != formatJSON {
		return nil
	}
	l, err := plan.line(ctx, loaded.cfg)
	if err != nil {
		return err
	}
	return printJSON(out.stdout, l)
}

// aside says where text goes that is no data: to standard error when the data are JSON.
func aside(fs *flags, format string, out streams) (io.Writer, error) {
	switch format {
	case formatTable:
		return out.stdout, nil
	case formatJSON:
		return out.stderr, nil
	}
	return nil, &usageError{fmt.Sprintf("%s: -o %q: want table or json", fs.Name(), format)}
}

// run runs a replay to its end, or until ctx is done.
func (p replayPlan) run(ctx context.Context, of Config, rate int, stats bool, log *slog.Logger, out streams) error {
	log = log.With("job", p.Job, "replay", p.Name)
	cfg := p.staged(of)
	registry := newRegistry()
	refs, err := openReferences(cfg, log, registry)
	if err != nil {
		return err
	}
	progress := newReplayProgress(p, out.stderr)
	st := newStatus()
	job, closeJob, err := st.build(cfg, jobDeps{log: log, registry: registry, references: refs, rate: rate, onCheckpoint: progress.take})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := errors.Join(progress.show(ctx, func() error { return pipeline.Run(ctx, job) }), closeJob()); err != nil {
		return err
	}
	st.summary(out.stdout)
	if stats {
		st.printStats(out.stderr)
	}
	ended, err := p.ended(ctx, of)
	if err != nil || !ended {
		return err
	}
	fmt.Fprintf(out.stdout, "Replay %s has ended after %v. Its results are in\n", p.Name, time.Since(began).Round(100*time.Millisecond))
	staged, err := planOf(cfg)
	if err != nil {
		return err
	}
	for _, s := range cfg.Sinks {
		fmt.Fprintf(out.stdout, "  %s, lineage %d\n", staged.place(s, pipeline.Out), p.Lineage)
	}
	return nil
}

// replayOptions are what the flags say.
type replayOptions struct {
	from, to, name         string
	before, after          time.Duration // negative: follows from the job
	partial, again, dryRun bool
	rate                   int
}

// plan finds the replay that is to go on, or makes the plan of a new one.
func (o replayOptions) plan(ctx context.Context, f jobFile) (plan replayPlan, fresh bool, err error) {
	now := time.Now()
	var from, to time.Time
	if o.from != "" {
		if from, err = timeFlag("from", o.from, now); err != nil {
			return plan, false, err
		}
	}
	if o.to != "" {
		if to, err = timeFlag("to", o.to, now); err != nil {
			return plan, false, err
		}
	}
	if o.name == "" {
		const short = "20060102T150405"
		o.name = from.Format(short) + "-" + to.Format(short)
	}
	if !jobName.MatchString(strings.ToLower(o.name)) {
		return plan, false, &usageError{fmt.Sprintf("replay: --name %q: want letters, digits, - and _", o.name)}
	}
	r, err := readReplays(ctx, f.cfg)
	if err != nil {
		return plan, false, err
	}
	all, err := r.list(ctx)
	if err != nil {
		return plan, false, err
	}
	for _, p := range slices.Backward(all) {
		if p.Name != o.name {
			continue
		}
		ended, err := p.ended(ctx, f.cfg)
		if err != nil {
			return plan, false, err
		}
		if ended && o.again {
			if o.from == "" {
				from = p.From
			}
			if o.to == "" {
				to = p.To
			}
			break
		}
		if !p.bounded() {
			return plan, false, fmt.Errorf("%s is a shadow: give the replay another --name", p.Name)
		}
		if o.from != "" && !p.From.Equal(from) || o.to != "" && !p.To.Equal(to) {
			return plan, false, fmt.Errorf("replay %s is of %s to %s: give this one another --name", p.Name, p.From.Format(time.RFC3339), p.To.Format(time.RFC3339))
		}
		return p, false, p.accepts(f)
	}
	if from.IsZero() || to.IsZero() {
		_, err := r.named(ctx, o.name)
		return plan, false, err
	}
	plan, err = newReplay(ctx, f.cfg, o, from, to, now)
	return plan, true, err
}

// accepts tells whether a replay can go on with a job file.
func (p replayPlan) accepts(f jobFile) error {
	found, err := changes(p.Config, f.cfg)
	if err != nil {
		return fmt.Errorf("replay %s: %w", p.Name, err)
	}
	if found = slices.DeleteFunc(found, func(c change) bool { return c.class != newLineage }); len(found) > 0 {
		return f.refusal(found, fmt.Sprintf("replay %s was begun with other settings: put them back, or give this one another --name", p.Name))
	}
	return nil
}

// timeFlag reads a time of the command line, which without a zone is UTC.
func timeFlag(name, text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d <= 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	return time.Time{}, &usageError{fmt.Sprintf("--%s %q: want a time such as 2026-11-20T14:00Z, a day, or -3h before now", name, text)}
}

// newReplay plans a replay: which offsets hold what its range needs.
func newReplay(ctx context.Context, cfg Config, o replayOptions, from, to, now time.Time) (replayPlan, error) {
	switch {
	case !from.Before(to):
		return replayPlan{}, &usageError{fmt.Sprintf("replay: --from %s is not before --to %s", from.Format(time.RFC3339), to.Format(time.RFC3339))}
	case to.After(now):
		return replayPlan{}, &usageError{fmt.Sprintf("replay: --to %s is in the future: what is not over cannot be replayed", to.Format(time.RFC3339))}
	}
	before, after, err := cfg.reach(to)
	if err != nil {
		return replayPlan{}, err
	}
	if o.before >= 0 {
		before = o.before
	}
	if o.after >= 0 {
		after = o.after
	}
	found, err := kafka.Find(ctx, cfg.Source.Kafka, from.Add(-before), to.Add(after+cfg.EventTime.MaxDisorder))
	if err != nil {
		return replayPlan{}, err
	}
	plan := replayPlan{Name: o.name, Job: cfg.Job, From: from, To: to, Made: now.UTC().Truncate(time.Second), Partial: o.partial, Topic: cfg.Source.Kafka.Topic,
		Until: to.Add(after)}
	var cut []string
	for _, id := range slices.Sorted(maps.Keys(found)) {
		at := found[id]
		if at.First > 0 && at.From == at.First {
			cut = append(cut, fmt.Sprint(id))
		}
		plan.Splits = append(plan.Splits, replayPart{Partition: id, Start: at.From, Expect: at.To, End: at.End})
	}
	if len(cut) > 0 && !o.partial {
		return plan, fmt.Errorf("topic %s: retention may have removed records from before %s, where the range needs them, of partition %s: take a later --from, or --partial to replay what is there",
			plan.Topic, from.Add(-before).Format(time.RFC3339), strings.Join(cut, ", "))
	}
	plan.Config, err = canonical(cfg)
	return plan, err
}

// defaultMemory is how far back a job without windows is taken to look, since nobody knows it.
const defaultMemory = time.Hour

// reach says how much more than the range of its results a replay of the job must read: from
// how long before it, by the clock of the broker, and until marks are how far behind its end. A
// state that may begin at any time before has no such bound, and machines of domains have one
// that nobody knows (defaultMemory).
func (c *Config) reach(to time.Time) (before, after time.Duration, err error) {
	before = c.EventTime.MaxAhead + c.EventTime.MaxDisorder
	if c.Dedupe != nil {
		before += c.Dedupe.Within
	}
	_, column := c.resultOrder()
	late, step, offset := c.complete(column)
	switch {
	case !c.windowed():
		return before + defaultMemory, defaultMemory, nil
	case c.Window.Global:
		return 0, 0, errors.New("the window of all time has no range that could be replayed: start over with `tidemark run --new-lineage`")
	case c.horizon() == pipeline.MaxTicks:
		return 0, 0, errors.New("a session without max_length may begin at any time before the range: set window.session.max_length")
	case late < 0:
		late = c.horizon()
	case step > 0: // the last result of the range may be of a time before its end
		past := (to.UnixMicro() - 1 - offset) % step
		if past < 0 {
			past += step
		}
		late -= past + 1
	}
	// The window that the first row of the range belongs to may have begun so long before.
	before += time.Duration(c.longest()) * time.Microsecond
	if then := c.Window.Then; then != nil {
		before += time.Duration(c.resultShape().Size) * time.Microsecond
	}
	if s := c.Window.Session; s != nil {
		before += s.Gap
	}
	return before, time.Duration(late) * time.Microsecond, nil
}

// staged is the configuration of the job that a replay is.
func (p replayPlan) staged(cfg Config) Config {
	cfg.replay = &p
	cfg.Checkpoint.Dir = p.checkpointDir(cfg)
	cfg.Notify, cfg.HTTP = nil, HTTPConfig{}
	k := &cfg.Source.Kafka
	k.Group, k.Bounded, k.Ranges = "", p.bounded(), map[int32]kafka.Range{}
	if p.Partial {
		k.OnGap = kafka.SkipAndRecord
	}
	for _, s := range p.Splits {
		k.Ranges[s.Partition] = kafka.Range{Start: s.Start, End: s.End}
	}
	cfg.Sinks = slices.Clone(cfg.Sinks)
	for i, s := range cfg.Sinks {
		switch {
		case s.Parquet != nil:
			to := *s.Parquet
			to.Table += replaySuffix
			cfg.Sinks[i].Parquet = &to
		case s.ClickHouse != nil:
			to := *s.ClickHouse
			to.Table += replaySuffix
			cfg.Sinks[i].ClickHouse = &to
		case s.Kafka != nil:
			to := *s.Kafka
			to.Topic += replaySuffix
			cfg.Sinks[i].Kafka = &to
		}
	}
	return cfg
}

// lineage is that of what the job writes, 0 for one that is no replay.
func (p *replayPlan) lineage() uint16 {
	if p == nil {
		return 0
	}
	return p.Lineage
}

// bounded tells whether the job is a replay that ends.
func (p *replayPlan) bounded() bool { return p != nil && !p.To.IsZero() }

// until is the mark at which a split has given all that belongs to the range, 0 for none.
func (p *replayPlan) until() int64 {
	if !p.bounded() {
		return 0
	}
	return p.Until.UnixMicro()
}

// records is how many records the plan expects to read.
func (p *replayPlan) records() (n int64) {
	for _, s := range p.Splits {
		n += s.Expect - s.Start
	}
	return n
}

// describe says what a replay reads.
func (p *replayPlan) describe(w io.Writer) {
	fmt.Fprintf(w, "Replay %s of job %s: results from %s to %s.\n", p.Name, p.Job, p.From.Format(time.RFC3339), p.To.Format(time.RFC3339))
	fmt.Fprintf(w, "About %d records of topic %s, read until every partition is past %s:\n", p.records(), p.Topic, p.Until.Format(time.RFC3339))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  partition\tfrom offset\tto about\tlog end")
	for _, s := range p.Splits {
		fmt.Fprintf(t, "  %d\t%d\t%d\t%d\n", s.Partition, s.Start, s.Expect, s.End)
	}
	_ = t.Flush() // to a writer whose errors nobody asks for
	var short []string
	for _, s := range p.Splits {
		if s.Expect == s.End && s.Start < s.End {
			short = append(short, fmt.Sprint(s.Partition))
		}
	}
	if len(short) > 0 {
		fmt.Fprintf(w, "The log of partition %s ends before that: rows may still come that change results at the end of the range.\n", strings.Join(short, ", "))
	}
}

// cmdReplayLs lists the replays of a job.
func cmdReplayLs(ctx context.Context, args []string, out streams) error {
	fs := newFlags("replay ls", "tidemark replay ls -f job.yaml", "lists the replays of a job")
	file := fs.String("f", "", "job `file`")
	format := fs.String("o", formatTable, "`form` of the output: table or json")
	if err := fs.parse(args); err != nil {
		return err
	}
	switch {
	case *file == "":
		return &usageError{"replay ls: -f names no job file"}
	case *format != formatTable && *format != formatJSON:
		return &usageError{fmt.Sprintf("replay ls: -o %q: want table or json", *format)}
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	r, err := readReplays(ctx, cfg)
	if err != nil {
		return err
	}
	all, err := r.list(ctx)
	if err != nil {
		return err
	}
	lines := []replayLine{} // not null in JSON
	for _, p := range all {
		l, err := p.line(ctx, cfg)
		if err != nil {
			return err
		}
		lines = append(lines, l)
	}
	if *format == formatJSON {
		return printJSON(out.stdout, lines)
	}
	if len(lines) == 0 {
		fmt.Fprintf(out.stdout, "Job %s has no replays.\n", cfg.Job)
		return nil
	}
	t := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tLINEAGE\tFROM\tTO\tSTATE\tRECORDS\tMADE")
	for _, l := range lines {
		to := "-"
		if l.bounded() {
			to = l.To.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\t%s\n", l.Name, l.Lineage, l.From.Format(time.RFC3339), to, l.State, l.Rows[pipeline.Read], l.Made.Format(time.RFC3339))
	}
	return t.Flush()
}

// replayLine is a replay and how far it is.
type replayLine struct {
	replayPlan
	State string `json:"state"` // new, begun, ended, shadow
	Rows  fates  `json:"rows"`
}

func (p replayPlan) line(ctx context.Context, cfg Config) (replayLine, error) {
	cp, err := p.last(ctx, cfg)
	if err != nil || cp == nil {
		return replayLine{replayPlan: p, State: "new"}, err
	}
	l := replayLine{p, "begun", sumFates(cp.Splits)}
	switch {
	case cp.Ended():
		l.State = "ended"
	case !p.bounded():
		l.State = "shadow"
	}
	return l, nil
}

// limited returns open with a limit on the records per second that its source gives.
func limited(open pipeline.OpenSource, rate int) pipeline.OpenSource {
	return func(ctx context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		src, err := open(ctx, from)
		if err != nil {
			return nil, err
		}
		return &limitedSource{Source: src, rate: rate, began: time.Now()}, nil
	}
}

type limitedSource struct {
	pipeline.Source
	rate  int
	began time.Time
	given int64
}

// Next waits before it gives the records that come too early. What was not given while nobody asked
// for it is not made up for.
func (s *limitedSource) Next(ctx context.Context) (pipeline.Event, error) {
	due := s.began.Add(time.Duration(float64(s.given) / float64(s.rate) * float64(time.Second)))
	wait := time.Until(due)
	if late := -wait - time.Second; late > 0 {
		s.began = s.began.Add(late)
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return pipeline.Event{}, ctx.Err()
		}
	}
	ev, err := s.Source.Next(ctx)
	if err == nil && ev.Kind == pipeline.Rows {
		s.given += int64(ev.Wire.Len())
	}
	return ev, err
}

// bar draws a share of width characters.
func bar(share float64, width int) string {
	n := min(width, max(0, int(share*float64(width))))
	return string(bytes.Repeat([]byte("#"), n)) + strings.Repeat(".", width-n)
}

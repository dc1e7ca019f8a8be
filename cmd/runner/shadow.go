package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sources/kafka"
)

// cmdShadow runs a version of a job beside the job and compares what both say, for as long as it
// takes to trust it.
func cmdShadow(ctx context.Context, args []string, out streams) error {
	f := &diffFlags{flags: newFlags("shadow", "tidemark shadow -f new.yaml --of job.yaml --every 1m",
		"runs the job of -f on the records that the job of --of reads, into tables of its own (NAME_replays), and compares the results of both as they become final: "+
			"late, value, missing (in the job only) or extra (in the shadow only). The job is not touched. It ends with Ctrl-C, and exits with 1 when there was a difference"),
		tolerances: tolerances{}, sliceRows: 100_000}
	f.StringVar(&f.format, "o", formatTable, "`form` of the comparisons: table, or json, and then all else goes to standard error")
	f.StringVar(&f.file, "f", "", "job `file` of the version that is tried")
	of := f.String("of", "", "job `file` of the job that runs")
	name := f.String("name", "shadow", "`name` of the shadow; one that was stopped goes on")
	f.StringVar(&f.from, "from", "-0s", "`time` from which on results are compared, of a new shadow")
	every := f.Duration("every", time.Minute, "`time` between two comparisons")
	long := f.Duration("for", 0, "end after this `time`, 0 for never")
	f.IntVar(&f.sink, "sink", 0, "compare what sink `N` of the jobs has, from 1 on; 0: the first that can be read")
	f.StringVar(&f.table, "table", "", "which `table` of the jobs; as a rule they have one")
	f.StringVar(&f.key, "key", "", "`columns` that with the time tell rows apart; those that the sink sorts by as a rule")
	f.StringVar(&f.maps[0], "map-a", "", "columns of the job that have another name, as `theirs=ours,...`")
	f.StringVar(&f.maps[1], "map-b", "", "columns of the shadow that have another name, as `theirs=ours,...`")
	f.StringVar(&f.ignore, "ignore", "", "`columns` that may differ")
	f.Var(f.tolerances, "tolerance", "by how much a number may differ: `column=0.01` or column=1%; may be repeated")
	f.IntVar(&f.limit, "limit", 20, "show `N` differences of a comparison; all are counted")
	level := f.String("log", "warn", "log `level`: debug, info, warn, error")
	if err := f.flags.parse(args); err != nil {
		return err
	}
	switch {
	case f.file == "" || *of == "":
		return f.wrong("want two job files, -f NEW --of RUNNING")
	case *every <= 0:
		return f.wrong("--every must be above 0")
	}
	text, err := aside(f.flags, f.format, out)
	if err != nil {
		return err
	}
	log, err := newLogger(out.stderr, *level)
	if err != nil {
		return err
	}
	s, err := newShadow(ctx, f, *of, *name)
	if err != nil {
		return err
	}
	if *long > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *long)
		defer cancel()
	}
	s.text = text
	return s.run(ctx, *every, log, out)
}

// shadow is a job that runs beside another one.
type shadow struct {
	flags *diffFlags
	sets  [2]*jobSets // of the job, and of the shadow
	plan  replayPlan
	mark  atomic.Int64 // of the shadow's last checkpoint
	done  int64        // compared up to here, in ticks
	total map[diffKind]int64
	rows  int64
	text  io.Writer // for what is no comparison
}

func newShadow(ctx context.Context, f *diffFlags, of, name string) (*shadow, error) {
	loaded, err := loadJobFile(f.file)
	if err != nil {
		return nil, err
	}
	s := &shadow{flags: f, total: map[diffKind]int64{}}
	for i, file := range []string{of, f.file} {
		flags := *f
		flags.file = file
		if s.sets[i], err = flags.job(); err != nil {
			return nil, err
		}
	}
	// Ids of events have the id of the window in them, which follows from the name of the job.
	if id := s.sets[0].plan.cfg.Window.ID; loaded.cfg.Window.ID != id {
		loaded.cfg.Window.ID = id
		if s.sets[1].plan, err = planOf(loaded.cfg); err != nil {
			return nil, err
		}
	}
	a, b := s.sets[0].plan.cfg.Source.Kafka, loaded.cfg.Source.Kafka
	if a.Topic != b.Topic {
		return nil, f.wrong("job %s reads topic %s, and %s reads %s: they cannot say the same", s.sets[0].plan.cfg.Job, a.Topic, loaded.cfg.Job, b.Topic)
	}
	register, err := openReplays(loaded.cfg)
	if err != nil {
		return nil, err
	}
	all, err := register.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Backward(all) {
		if p.Name == name {
			s.plan = p
			if p.bounded() {
				return nil, f.wrong("--name %s is that of a replay", name)
			}
			return s, p.accepts(loaded)
		}
	}
	if !jobName.MatchString(name) {
		return nil, f.wrong("--name %q: want lower-case letters, digits, - and _", name)
	}
	if s.plan, err = openPlan(ctx, loaded.cfg, name, f.from); err != nil {
		return nil, err
	}
	s.plan, err = register.add(ctx, s.plan)
	return s, err
}

// openPlan plans a replay without an end.
func openPlan(ctx context.Context, cfg Config, name, from string) (replayPlan, error) {
	now := time.Now()
	at, err := timeFlag("from", from, now)
	if err != nil {
		return replayPlan{}, err
	}
	before, _, err := cfg.reach(at)
	if err != nil {
		return replayPlan{}, err
	}
	found, err := kafka.Find(ctx, cfg.Source.Kafka, at.Add(-before), now)
	if err != nil {
		return replayPlan{}, err
	}
	plan := replayPlan{Name: name, Job: cfg.Job, From: at, Made: now.UTC().Truncate(time.Second), Topic: cfg.Source.Kafka.Topic}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		plan.Splits = append(plan.Splits, replayPart{Partition: id, Start: found[id].From, Expect: found[id].End, End: found[id].End})
	}
	plan.Config, err = canonical(cfg)
	return plan, err
}

// run runs the shadow and compares every so often, and once more at the end.
func (s *shadow) run(ctx context.Context, every time.Duration, log *slog.Logger, out streams) error {
	cfg := s.plan.staged(s.sets[1].plan.cfg)
	log = log.With("job", s.plan.Job, "shadow", s.plan.Name)
	registry := newRegistry()
	refs, err := openReferences(cfg, log, registry)
	if err != nil {
		return err
	}
	s.mark.Store(pipeline.MinTicks)
	s.done = s.plan.From.UnixMicro()
	job, closeJob, err := newStatus().build(cfg, jobDeps{log: log, registry: registry, references: refs,
		onCheckpoint: func(c pipeline.Published) { s.mark.Store(c.Merged.Event) }})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.text, "Shadow %s: job %s beside %s, results from %s on.\n", s.plan.Name, s.plan.Job, s.sets[0].plan.cfg.Job, s.plan.From.Format(time.RFC3339))
	done := make(chan error, 1)
	go func() { done <- pipeline.Run(ctx, job) }()
	t := time.NewTicker(every)
	defer t.Stop()
	for running := true; running; {
		select {
		case err = <-done:
			running = false
		case <-t.C:
		}
		if err != nil {
			break
		}
		// The last comparison is made although ctx is done.
		if err = s.compare(context.WithoutCancel(ctx), out); err != nil && running {
			log.Error("the results cannot be compared, which is tried again", "err", err)
			err = nil
		}
	}
	if err := errors.Join(err, closeJob()); err != nil {
		return fmt.Errorf("shadow %s: %w", s.plan.Name, err)
	}
	n := int64(0)
	for _, c := range s.total {
		n += c
	}
	if s.rows == 0 {
		return errors.New("shadow: no result of both jobs became final, so nothing was compared")
	}
	if n > 0 {
		return fmt.Errorf("shadow: %d differences in %d rows up to %s", n, s.rows, tick(s.done))
	}
	fmt.Fprintf(s.text, "%d rows up to %s are equal. The same command goes on from here.\n", s.rows, tick(s.done))
	return nil
}

// compare compares what has become final in both jobs since the last time.
func (s *shadow) compare(ctx context.Context, out streams) error {
	cp, err := newestOf(ctx, s.sets[0].plan.cfg)
	if err != nil || cp == nil {
		return err
	}
	to := min(s.final(0, cp.Merged.Event), s.final(1, s.mark.Load()))
	if to <= s.done {
		return nil
	}
	flags := s.flags
	d := &diffRun{rule: flags.rule(s.sets[0]), most: flags.sliceRows, counts: map[diffKind]int64{}}
	d.windows = s.sets[0].windows(d.rule)
	defer d.close()
	report := diffReport{Differences: []rowDifference{}}
	d.found = func(r rowDifference) error {
		if len(report.Differences) < flags.limit {
			report.Differences = append(report.Differences, r)
		}
		return nil
	}
	for i, side := range []*diffSide{{name: "live"}, {name: "replay:" + s.plan.Name}} {
		if side.renamed, err = flags.renamed(i); err != nil {
			return err
		}
		replay := ""
		if i == 1 {
			replay = s.plan.Name
		}
		if err := s.sets[i].open(ctx, side, replay, theirName(side.renamed, d.rule.time)); err != nil {
			return err
		}
		d.sides[i] = side
	}
	if err := d.run(ctx, s.done, to); err != nil {
		return err
	}
	fmt.Fprintf(s.text, "%s to %s\n", tick(s.done), tick(to))
	report.A, report.B, report.Counts = d.sides[0].report(), d.sides[1].report(), d.counts
	report.Equal = report.total() == 0
	first, end := tick(s.done), tick(to)
	report.From, report.To = &first, &end
	for kind, n := range d.counts {
		s.total[kind] += n
	}
	s.rows += max(report.A.Rows, report.B.Rows)
	s.done = to
	if flags.format == formatJSON {
		return printJSON(out.stdout, report)
	}
	return report.print(out.stdout)
}

// final is the time before which no result of a job changes any more, given its mark.
func (s *shadow) final(side int, mark int64) int64 {
	cfg := &s.sets[side].plan.cfg
	_, column := s.sets[side].identity()
	after, _, _ := cfg.complete(column)
	if after < 0 {
		if after = cfg.horizon(); !cfg.windowed() {
			after = pipeline.Ticks(defaultMemory)
		}
	}
	return pipeline.SubTicks(mark, after)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sources/kafka"
)

// cmdTap shows rows of a step of a job as they come.
func cmdTap(ctx context.Context, args []string, out streams) error {
	f := newFlags("tap", "tidemark tap -f job.yaml --of late --limit 10",
		"shows what comes out of a step of a job, a JSON object a line, by running a copy of the job that writes nothing and commits nothing. Windows are those of what the copy has seen")
	file := f.String("f", "", "job `file`")
	of := f.String("of", "", "`step`: decode, enrich, filter, dedupe, window, describe, normalize as far as the job has it, or late or dead; the last step unless said otherwise")
	from := f.String("from", "", "`time` where reading begins, by broker timestamp: RFC 3339, a day, or -10m before now; only new records unless said otherwise")
	key := f.String("key", "", "show only rows that have this `text` in a column of the job's key")
	limit := f.Int("limit", 0, "end after so many rows, 0 for never")
	long := f.Duration("for", 0, "end after this `time`, 0 for never")
	level := f.String("log", "warn", "log `level`: debug, info, warn, error")
	if err := f.parse(args); err != nil {
		return err
	}
	p, err := trialPlan(*file, f)
	if err != nil {
		return err
	}
	log, err := newLogger(out.stderr, *level)
	if err != nil {
		return err
	}
	steps, err := p.stepsOf()
	if err != nil {
		return err
	}
	t := trial{plan: p, log: log}
	port, wanted := pipeline.Out, func(got pipeline.Port) bool { return got != pipeline.Late && got != pipeline.Dead }
	switch {
	case *of == "":
	case *of == "late":
		port = pipeline.Late
	case *of == "dead":
		port = pipeline.Dead
	case slices.Contains(steps, *of):
		t.until = *of
	default:
		return &usageError{fmt.Sprintf("tap: --of %q: job %s has %s, late, dead", *of, p.cfg.Job, strings.Join(steps, ", "))}
	}
	if port != pipeline.Out {
		wanted = func(got pipeline.Port) bool { return got == port }
	}
	if t.open, err = p.reading(*from, false, 0); err != nil {
		return err
	}
	if *long > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *long)
		defer cancel()
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	// A reader such as head goes when it has enough: the trial then ends, and takes its state with it.
	signal.Ignore(syscall.SIGPIPE)
	n := 0
	t.rows = func(got pipeline.Port, rec arrow.RecordBatch) error {
		for i := range int(rec.NumRows()) {
			if !wanted(got) || *key != "" && !p.keyed(rec, i, *key) {
				continue
			}
			if *limit > 0 && n == *limit {
				break
			}
			n++
			_, err := out.stdout.Write(append(appendRow(nil, rec, i), '\n'))
			if errors.Is(err, syscall.EPIPE) {
				enough()
				return nil
			}
			if err != nil {
				return err
			}
		}
		if *limit > 0 && n == *limit {
			enough()
		}
		return nil
	}
	_, err = t.run(ctx)
	return err
}

// keyed tells whether a row has a text in a column of the job's key.
func (p *plan) keyed(rec arrow.RecordBatch, i int, text string) bool {
	for _, k := range p.cfg.keyColumns() {
		for _, at := range rec.Schema().FieldIndices(k) {
			if rec.Column(at).ValueStr(i) == text {
				return true
			}
		}
	}
	return false
}

// trialPlan is the plan of a job file for a trial.
func trialPlan(file string, f *flags) (*plan, error) {
	if file == "" {
		return nil, &usageError{f.Name() + ": -f names no job file"}
	}
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	return cfg.trialPlan()
}

func (c Config) trialPlan() (*plan, error) {
	c.Notify = nil
	p, err := planOf(c)
	if err != nil {
		return nil, err
	}
	p.refs, err = openReferences(c, slog.New(slog.DiscardHandler), newRegistry())
	return p, err
}

// reading opens the job's topic at a time, or at its end, without a group. A bounded reading ends
// where the topic ends now, and one with a limit after about so many records, as many of each partition.
func (p *plan) reading(from string, bounded bool, limit int) (pipeline.OpenSource, error) {
	cfg := p.cfg.Source.Kafka
	cfg.Group, cfg.Bounded, cfg.Start, cfg.StartTime = "", bounded, kafka.Latest, time.Time{}
	if from != "" {
		at, err := timeFlag("from", from, time.Now())
		if err != nil {
			return nil, err
		}
		cfg.Start, cfg.StartTime = kafka.Timestamp, at
	}
	open := kafka.Opener(cfg, slog.New(slog.DiscardHandler))
	if limit == 0 {
		return open, nil
	}
	return func(ctx context.Context, at map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		src, err := open(ctx, at)
		if err != nil {
			return nil, err
		}
		return &firstRecords{Source: src, limit: limit, given: map[pipeline.Split]int{}}, nil
	}, nil
}

// firstRecords is a bounded source of which every split ends once it has given its part of a number
// of records, to the next batch of them.
type firstRecords struct {
	pipeline.Source
	limit int
	given map[pipeline.Split]int // -1: has ended
}

// Next implements pipeline.Source.
func (s *firstRecords) Next(ctx context.Context) (pipeline.Event, error) {
	for {
		if len(s.given) > 0 && !slices.ContainsFunc(slices.Collect(maps.Values(s.given)), func(n int) bool { return n >= 0 }) {
			return pipeline.Event{}, io.EOF
		}
		ev, err := s.Source.Next(ctx)
		if err != nil {
			return ev, err
		}
		switch n := s.given[ev.Split]; {
		case ev.Kind == pipeline.NewSplit:
			s.given[ev.Split] = 0
		case n < 0:
			continue
		case ev.Kind == pipeline.EndOfSplit:
			s.given[ev.Split] = -1
		case ev.Kind == pipeline.Rows && n >= max(1, s.limit/len(s.given)):
			s.given[ev.Split] = -1
			return pipeline.Event{Kind: pipeline.EndOfSplit, Split: ev.Split}, nil
		case ev.Kind == pipeline.Rows:
			s.given[ev.Split] += ev.Wire.Len()
		}
		return ev, nil
	}
}

// dryRun reads what the topic has since a time, as the job would, and says what would come of it.
type dryRun struct {
	from  string
	limit int
}

// samples is how many rows of a port a dry run shows.
const samples = 3

func (d dryRun) run(ctx context.Context, cfg Config, log *slog.Logger, w io.Writer) error {
	p, err := cfg.trialPlan()
	if err != nil {
		return err
	}
	open, err := p.reading(d.from, true, d.limit)
	if err != nil {
		return err
	}
	rows := map[pipeline.Port]int64{}
	some := map[pipeline.Port][]string{}
	reasons := map[string]int64{}
	counts, err := trial{plan: p, log: log, open: open, merge: true, rows: func(port pipeline.Port, rec arrow.RecordBatch) error {
		rows[port] += rec.NumRows()
		for i := 0; i < int(rec.NumRows()) && len(some[port]) < samples; i++ {
			some[port] = append(some[port], string(appendRow(nil, rec, i)))
		}
		if at := rec.Schema().FieldIndices("reason"); len(at) == 1 && (port == pipeline.Dead || port == pipeline.Late) {
			if c, ok := rec.Column(at[0]).(*array.String); ok {
				for i := range c.Len() {
					reasons[fmt.Sprintf("%s: %s", port, c.Value(i))]++
				}
			}
		}
		return nil
	}}.run(ctx)
	if err != nil {
		return err
	}
	if counts[pipeline.Read] == 0 {
		return errors.New("dry run: the topic has no records since then: take an earlier --from")
	}
	fmt.Fprintf(w, "Dry run of job %s: nothing was written, committed or kept.\n%s\n", cfg.Job, conservation(counts, 0))
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(w, "  %d rows are %s\n", reasons[r], r)
	}
	for _, port := range p.ports() {
		var places []string
		for _, sc := range cfg.Sinks {
			places = append(places, p.place(sc, port))
		}
		fmt.Fprintf(w, "%d rows would go to %s", rows[port], strings.Join(places, " and "))
		if len(places) == 0 {
			fmt.Fprintf(w, "no sink (port %s)", port)
		}
		fmt.Fprintln(w)
		for _, row := range some[port] {
			fmt.Fprintf(w, "  %s\n", row)
		}
	}
	return nil
}

// place says where a sink puts the rows of a port.
func (p *plan) place(sc SinkConfig, port pipeline.Port) string {
	switch {
	case sc.Parquet != nil:
		cfg, _ := p.parquet(sc.Parquet.Config, port)
		return "parquet:" + below(sc.Parquet.Dir, cfg.Table)
	case sc.ClickHouse != nil:
		cfg, _ := p.clickhouse(sc.ClickHouse.Config, port)
		return "clickhouse:" + cfg.Database + "." + cfg.Table
	}
	cfg, _ := p.kafka(sc.Kafka.SinkConfig, port)
	return "kafka:" + cfg.Topic
}

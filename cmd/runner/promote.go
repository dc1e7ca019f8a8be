package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// cmdPromote makes the results of a replay those that count.
func cmdPromote(ctx context.Context, args []string, out streams) error {
	return decide(ctx, "promote", "makes the results of replay NAME those that count for its range, in <table>_current and in `tidemark files`; the rows of the job stay where they are", args, out)
}

// cmdDemote takes that back.
func cmdDemote(ctx context.Context, args []string, out streams) error {
	return decide(ctx, "demote", "makes the results of the job those that count for the range of replay NAME again", args, out)
}

// decide is both commands.
func decide(ctx context.Context, command, what string, args []string, out streams) error {
	fs := newFlags(command, "tidemark "+command+" -f job.yaml july --yes", what)
	file := fs.String("f", "", "job `file`")
	yes := fs.Bool("yes", false, "do it; without this flag it is only said what would change")
	format := fs.String("o", formatTable, "`form` of the output: table, which is text, or json, and then the text goes to standard error")
	names, err := fs.parseFiles(args)
	if err != nil {
		return err
	}
	text, err := aside(fs, *format, out)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return &usageError{fmt.Sprintf("%s: %d names: want that of one replay, as `tidemark replay ls` shows it", command, len(names))}
	}
	p, err := planOfFile(*file, fs)
	if err != nil {
		return err
	}
	d, err := newDecision(ctx, p, names[0], command == "promote")
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.undoes(ctx); err != nil {
		return err
	}
	tables, err := d.counted(ctx)
	if err != nil {
		return err
	}
	if err := d.show(text, tables); err != nil {
		return err
	}
	if *yes {
		if err := d.make(ctx); err != nil {
			return err
		}
		fmt.Fprintln(text, "Done.")
	} else {
		fmt.Fprintln(text, "Nothing has changed yet: --yes does it.")
	}
	if *format != formatJSON {
		return nil
	}
	return printJSON(out.stdout, struct {
		Replay  string        `json:"replay"`
		Lineage uint16        `json:"lineage"`
		From    time.Time     `json:"from"`
		To      time.Time     `json:"to"`
		Tables  []switchCount `json:"tables"`
		Done    bool          `json:"done"`
	}{d.replay.Name, d.lineage, d.replay.From, d.replay.To, tables, *yes})
}

// decision is which rows are to count for the range of a replay, in every sink of its job.
type decision struct {
	replay   replayPlan
	lineage  uint16 // 0: the job's own
	from, to int64
	places   []switchPlace
	ignored  []string // sinks that cannot be switched
}

// switchPlace is a sink in which rows are switched.
type switchPlace interface {
	// check refuses a decision that cannot be made.
	check(d *decision) error
	// promoted tells whether it was decided that the rows of a lineage count, and not decided anew.
	promoted(ctx context.Context, lineage uint16) (bool, error)
	counted(ctx context.Context, d *decision) ([]switchCount, error)
	// prepare does what makes no difference to readers, make does what does.
	prepare(ctx context.Context) error
	make(ctx context.Context, d *decision) error
	close()
}

// switchCount is how many rows of a table are of the range.
type switchCount struct {
	Table string `json:"table"`
	Now   int64  `json:"rows_now"`
	Then  int64  `json:"rows_then"`
}

func newDecision(ctx context.Context, p *plan, name string, promote bool) (*decision, error) {
	register, err := readReplays(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	r, err := register.named(ctx, name)
	if err != nil {
		return nil, err
	}
	if !r.bounded() {
		return nil, fmt.Errorf("replay %s has no end: what runs beside the job cannot be promoted; replay the range", r.Name)
	}
	d := &decision{replay: r, from: r.From.UnixMicro(), to: r.To.UnixMicro()}
	staged, err := planOf(r.staged(p.cfg))
	if err != nil {
		return nil, err
	}
	if promote {
		d.lineage = r.Lineage
		if err := r.publishAgain(ctx, p.cfg); err != nil {
			return nil, err
		}
	}
	for i, sc := range p.cfg.Sinks {
		place, err := switchOf(p, staged, i)
		if err != nil {
			d.close()
			return nil, err
		}
		if place == nil {
			d.ignored = append(d.ignored, "kafka:"+sc.Kafka.Topic)
			continue
		}
		d.places = append(d.places, place)
		if err := place.check(d); err != nil {
			d.close()
			return nil, err
		}
	}
	if len(d.places) == 0 {
		return nil, errors.New("topics have no rows that count for a range and others that do not: the job has no sink that can be switched")
	}
	return d, nil
}

func (d *decision) close() {
	for _, p := range d.places {
		p.close()
	}
}

// undoes refuses to take back what was never done.
func (d *decision) undoes(ctx context.Context) error {
	if d.lineage > 0 {
		return nil
	}
	for _, p := range d.places {
		if promoted, err := p.promoted(ctx, d.replay.Lineage); err != nil || promoted {
			return err
		}
	}
	return fmt.Errorf("replay %s does not count anywhere: it was not promoted, or everything of it was decided anew since", d.replay.Name)
}

// publishAgain publishes what the last checkpoint of a replay that has ended holds. As a rule
// that has been done: not when the process ended just before. cfg is that of the job.
func (p replayPlan) publishAgain(ctx context.Context, cfg Config) error {
	cp, err := p.last(ctx, cfg)
	if err != nil {
		return err
	}
	if cp == nil || !cp.Ended() {
		return fmt.Errorf("replay %s has not ended: the command that began it goes on with it", p.Name)
	}
	staged, err := planOf(p.staged(cfg))
	if err != nil {
		return err
	}
	receipts := map[string]pipeline.Receipt{}
	for _, rc := range cp.Receipts {
		receipts[rc.Sink] = rc.Receipt
	}
	checkpoints, err := openStore(staged.cfg.Checkpoint.Dir, staged.cfg.Checkpoint.S3)
	if err != nil {
		return err
	}
	metrics, err := pipeline.NewMetrics(newRegistry(), cfg.Job)
	if err != nil {
		return err
	}
	outputs, closeSinks, err := staged.outputs(checkpoints, slog.New(slog.DiscardHandler), metrics)
	if err != nil {
		return err
	}
	var errs []error
	for _, of := range outputs {
		for _, o := range of {
			if receipt, ok := receipts[o.Name]; ok {
				errs = append(errs, o.Sink.Publish(ctx, receipt))
			}
		}
	}
	return errors.Join(append(errs, closeSinks())...)
}

// counted returns what a decision changes.
func (d *decision) counted(ctx context.Context) ([]switchCount, error) {
	out := []switchCount{} // not null in JSON
	for _, p := range d.places {
		counts, err := p.counted(ctx, d)
		if err != nil {
			return nil, err
		}
		out = append(out, counts...)
	}
	return out, nil
}

// show prints what a decision changes.
func (d *decision) show(w io.Writer, tables []switchCount) error {
	whose := fmt.Sprintf("replay %s (lineage %d)", d.replay.Name, d.lineage)
	if d.lineage == 0 {
		whose = "the job"
	}
	fmt.Fprintf(w, "From %s to %s the results of %s are to count:\n", d.replay.From.Format(time.RFC3339), d.replay.To.Format(time.RFC3339), whose)
	t := newTable(w)
	fmt.Fprintln(t, "TABLE\tROWS NOW\tROWS THEN")
	for _, c := range tables {
		fmt.Fprintf(t, "%s\t%d\t%d\n", c.Table, c.Now, c.Then)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if d.lineage > 0 && d.replay.Partial {
		fmt.Fprintln(w, "The replay was made with --partial: of what retention had removed by then it has no results.")
	}
	for _, name := range d.ignored {
		fmt.Fprintf(w, "%s stays as it is: what was sent to a topic cannot be switched.\n", name)
	}
	return nil
}

// make prepares all sinks, and then decides in one after the other.
func (d *decision) make(ctx context.Context) error {
	for _, p := range d.places {
		if err := p.prepare(ctx); err != nil {
			return err
		}
	}
	for i, p := range d.places {
		if err := p.make(ctx, d); err != nil {
			if i > 0 {
				err = fmt.Errorf("%w; %d of %d sinks are switched, the same command goes on", err, i, len(d.places))
			}
			return err
		}
	}
	return nil
}

// switchOf returns the place of a sink of the job, nil when it has none.
func switchOf(live, staged *plan, sink int) (switchPlace, error) {
	switch sc := live.cfg.Sinks[sink]; {
	case sc.ClickHouse != nil:
		return newTableSwitch(live, sc.ClickHouse.Config)
	case sc.Parquet != nil:
		return newFileSwitch(live, staged, sink)
	}
	return nil, nil
}

// tableSwitch is a database of ClickHouse.
type tableSwitch struct{ *clickhouse.Switch }

func newTableSwitch(live *plan, cfg clickhouse.Config) (switchPlace, error) {
	var tables []clickhouse.SwitchTable
	for _, port := range live.ports() {
		if table, schema := live.clickhouse(cfg, port); !table.Append {
			tables = append(tables, clickhouse.SwitchTable{Config: table, Schema: schema})
		}
	}
	s, err := clickhouse.OpenSwitch(tables)
	if err != nil {
		return nil, err
	}
	return tableSwitch{s}, nil
}

func (s tableSwitch) check(*decision) error { return nil }

func (s tableSwitch) promoted(ctx context.Context, lineage uint16) (bool, error) {
	decided, err := s.Decided(ctx)
	return slices.ContainsFunc(clickhouse.Standing(decided), func(r clickhouse.Range) bool { return r.Lineage == lineage }), err
}

func (s tableSwitch) close() { s.Close() } //nolint:errcheck // nothing is under way

func (s tableSwitch) prepare(ctx context.Context) error { return s.Prepare(ctx) }

func (s tableSwitch) counted(ctx context.Context, d *decision) ([]switchCount, error) {
	counts, err := s.Count(ctx, clickhouse.Range{From: d.from, To: d.to, Lineage: d.lineage})
	var out []switchCount
	for _, c := range counts {
		out = append(out, switchCount{"clickhouse:" + c.Table, int64(c.Now), int64(c.Decision)})
	}
	return out, err
}

func (s tableSwitch) make(ctx context.Context, d *decision) error {
	decided, err := s.Decided(ctx)
	if err != nil {
		return err
	}
	return s.Decide(ctx, clickhouse.Range{From: d.from, To: d.to, Lineage: d.lineage, Since: clickhouse.Since(time.Now(), decided)})
}

// fileSwitch is the folders of Parquet files of a sink.
type fileSwitch struct {
	dir    string
	store  pipeline.Store
	tables []fileTable
}

// fileTable is a table of files, and the one of a replay of it.
type fileTable struct {
	live, replay parquet.Config
}

func newFileSwitch(live, staged *plan, sink int) (switchPlace, error) {
	sc := live.cfg.Sinks[sink].Parquet
	store, err := openStore(sc.Dir, sc.S3)
	if err != nil {
		return nil, fmt.Errorf("parquet directory: %w", err)
	}
	s := &fileSwitch{dir: sc.Dir, store: store}
	for _, port := range switchedPorts(live) {
		a, _ := live.parquet(sc.Config, port)
		b, _ := staged.parquet(staged.cfg.Sinks[sink].Parquet.Config, port)
		s.tables = append(s.tables, fileTable{a, b})
	}
	return s, nil
}

// switchedPorts are those of results.
func switchedPorts(p *plan) []pipeline.Port {
	return slices.DeleteFunc(p.ports(), func(port pipeline.Port) bool { return port == pipeline.Late || port == pipeline.Dead })
}

func (s *fileSwitch) close() {}

func (s *fileSwitch) prepare(context.Context) error { return nil }

func (s *fileSwitch) check(d *decision) error {
	for _, t := range s.tables {
		if err := t.live.WholePartitions(d.from, d.to); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileSwitch) promoted(ctx context.Context, lineage uint16) (bool, error) {
	for _, t := range s.tables {
		decided, err := parquet.Decided(ctx, s.store, t.live)
		if err != nil || slices.ContainsFunc(decided, func(r parquet.Range) bool { return r.Lineage == lineage }) {
			return err == nil, err
		}
	}
	return false, nil
}

func (s *fileSwitch) counted(ctx context.Context, d *decision) ([]switchCount, error) {
	var out []switchCount
	for _, t := range s.tables {
		ranges, err := parquet.Decided(ctx, s.store, t.live)
		if err != nil {
			return nil, err
		}
		c := switchCount{Table: "parquet:" + below(s.dir, t.live.Table)}
		for i, ranges := range [][]parquet.Range{ranges, slices.Insert(slices.Clone(ranges), 0, s.decision(d, t))} {
			files, err := parquet.CountingFiles(ctx, s.store, t.live, ranges, d.from, d.to)
			if err != nil {
				return nil, err
			}
			if *[]*int64{&c.Now, &c.Then}[i], err = parquet.CountRows(ctx, s.store, files); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func (s *fileSwitch) decision(d *decision, t fileTable) parquet.Range {
	r := parquet.Range{From: d.from, To: d.to, Lineage: d.lineage, Since: time.Now().UTC().Truncate(time.Second)}
	if d.lineage > 0 {
		r.Table = t.replay.Table
	}
	return r
}

func (s *fileSwitch) make(ctx context.Context, d *decision) error {
	for _, t := range s.tables {
		if err := parquet.Decide(ctx, s.store, t.live, s.decision(d, t)); err != nil {
			return err
		}
	}
	return nil
}

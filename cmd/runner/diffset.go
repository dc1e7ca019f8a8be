package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// diffFlags are what `tidemark diff` was told.
type diffFlags struct {
	*flags
	file, format, table           string
	sink, limit, sliceRows        int
	key, time, ignore, only       string
	from, to                      string
	maps                          [2]string
	tolerances                    tolerances
	url, user, passwordFile, cert string
}

// tolerances are those of columns, as flags say them: col=0.01 or col=1%.
type tolerances map[string]tolerance

// String implements flag.Value.
func (t tolerances) String() string { return "" }

// Set implements flag.Value.
func (t tolerances) Set(s string) error {
	column, text, ok := strings.Cut(s, "=")
	if !ok || column == "" {
		return errors.New("want column=0.01, or column=1%")
	}
	number, percent := strings.CutSuffix(text, "%")
	by, err := strconv.ParseFloat(number, 64)
	if err != nil || by < 0 || math.IsInf(by, 0) || math.IsNaN(by) {
		return fmt.Errorf("%q: want a number that is not negative, or a percentage", text)
	}
	if percent {
		t[column] = tolerance{rel: by / 100}
	} else {
		t[column] = tolerance{abs: by}
	}
	return nil
}

const (
	diffExample = "tidemark diff -f job.yaml live replay:july --tolerance unmapped.rssi_avg_dbm=0.5"
	diffWhat    = `compares two sets of results row by row and says why rows differ: late, value, missing (in A only) or extra (in B only).
A and B are each one of
  live               the results of the job
  replay:NAME        those of a replay of it
  parquet:DIR        a folder of Parquet files of any writer, or s3://bucket/prefix
  clickhouse:DB.T    a table of any writer
A row is known by its key and its time. Of several that have a _tm_ver the newest counts. Left out are _tm_ columns,
metadata.sequence and unmapped.firing, which depend on how often a window has come out.
It exits with 0 when the sets are equal, with 1 when they are not`
)

func newDiffFlags() *diffFlags {
	f := &diffFlags{flags: newFlags("diff", diffExample, diffWhat), tolerances: tolerances{}}
	f.StringVar(&f.file, "f", "", "job `file`")
	f.IntVar(&f.sink, "sink", 0, "compare what sink `N` of the job has, from 1 on; 0: the first that can be read")
	f.StringVar(&f.table, "table", "", "which `table` of the job; as a rule it has one")
	f.StringVar(&f.key, "key", "", "`columns` that with the time tell rows apart; those that the sink sorts by as a rule")
	f.StringVar(&f.time, "time", "", "the time `column`: a time, or an integer of milliseconds; that of the sink as a rule")
	f.StringVar(&f.maps[0], "map-a", "", "columns of A that have another name, as `theirs=ours,...`")
	f.StringVar(&f.maps[1], "map-b", "", "columns of B that have another name, as `theirs=ours,...`")
	f.StringVar(&f.ignore, "ignore", "", "`columns` that may differ")
	f.StringVar(&f.only, "only", "", "compare these `columns` alone")
	f.Var(f.tolerances, "tolerance", "by how much a number may differ: `column=0.01` or column=1%; may be repeated")
	f.StringVar(&f.from, "from", "", "compare rows from this `time` on")
	f.StringVar(&f.to, "to", "", "compare rows before this `time`")
	f.IntVar(&f.limit, "limit", 20, "show `N` differences; all are counted")
	f.IntVar(&f.sliceRows, "slice-rows", 100_000, "have `N` rows of each side in memory, or twice as many")
	f.StringVar(&f.url, "url", "", "`URL` of clickhouse: sets, http://host:8123; that of the job's sink as a rule")
	f.StringVar(&f.user, "user", "", "user of clickhouse: sets")
	f.StringVar(&f.passwordFile, "password-file", "", "`file` with the password of clickhouse: sets")
	f.StringVar(&f.cert, "ca-file", "", "certificates that https trusts for clickhouse: sets, a `file`")
	f.StringVar(&f.format, "o", formatTable, "`form` of the output: table or json")
	return f
}

// columnList is a list of columns on the command line.
func columnList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// cmdDiff compares two sets of rows.
func cmdDiff(ctx context.Context, args []string, out streams) error {
	f := newDiffFlags()
	names, err := f.parseFiles(args)
	if err != nil {
		return err
	}
	d, from, to, err := f.prepare(ctx, names)
	if err != nil {
		return err
	}
	defer d.close()
	report := diffReport{Differences: []rowDifference{}}
	d.found = func(r rowDifference) error {
		if len(report.Differences) < f.limit {
			report.Differences = append(report.Differences, r)
		}
		return nil
	}
	if err := d.run(ctx, from, to); err != nil {
		return err
	}
	report.A, report.B, report.Counts = d.sides[0].report(), d.sides[1].report(), d.counts
	report.Equal = report.total() == 0
	if f.format == formatJSON {
		err = printJSON(out.stdout, report)
	} else {
		err = report.print(out.stdout)
	}
	if err == nil && !report.Equal {
		err = fmt.Errorf("%s and %s differ in %d rows", visible(names[0]), visible(names[1]), report.total())
	}
	return err
}

func (f *diffFlags) wrong(format string, args ...any) error {
	return &usageError{f.Name() + ": " + fmt.Sprintf(format, args...)}
}

// prepare opens the sets. The caller closes the run.
func (f *diffFlags) prepare(ctx context.Context, names []string) (d *diffRun, from, to int64, err error) {
	switch {
	case len(names) != 2:
		return nil, 0, 0, f.wrong("%d sets: want two, of live, replay:NAME, parquet:DIR and clickhouse:DB.TABLE", len(names))
	case f.format != formatTable && f.format != formatJSON:
		return nil, 0, 0, f.wrong("-o %q: want table or json", f.format)
	case f.sliceRows < 1 || f.limit < 0:
		return nil, 0, 0, f.wrong("--slice-rows must be at least 1, --limit not negative")
	}
	if from, err = f.bound("from", f.from, pipeline.MinTicks); err != nil {
		return nil, 0, 0, err
	}
	if to, err = f.bound("to", f.to, pipeline.MaxTicks); err != nil {
		return nil, 0, 0, err
	}
	var job *jobSets
	if f.file != "" {
		if job, err = f.job(); err != nil {
			return nil, 0, 0, err
		}
	}
	d = &diffRun{rule: f.rule(job), most: f.sliceRows, counts: map[diffKind]int64{diffLate: 0, diffValue: 0, diffMissing: 0, diffExtra: 0}}
	if d.rule.time == "" {
		return nil, 0, 0, f.wrong("which column is the time? name it with --time, or a job with -f")
	}
	if len(d.rule.key) == 0 {
		return nil, 0, 0, f.wrong("which columns tell rows apart? name them with --key, or a job with -f")
	}
	d.windows = job.windows(d.rule)
	for i, name := range names {
		s := &diffSide{name: name}
		if s.renamed, err = f.renamed(i); err == nil {
			err = f.open(ctx, s, job, theirName(s.renamed, d.rule.time))
		}
		if err != nil {
			d.close()
			return nil, 0, 0, err
		}
		d.sides[i] = s
		if s.replay != nil { // it has no other rows
			from = max(from, s.replay.From.UnixMicro())
			if !s.replay.To.IsZero() {
				to = min(to, s.replay.To.UnixMicro())
			}
		}
	}
	return d, from, to, nil
}

func (d *diffRun) close() {
	for _, s := range d.sides {
		if s == nil {
			continue
		}
		s.rows.Close() //nolint:errcheck // it was only read
		if s.late != nil {
			s.late.Close() //nolint:errcheck // it was only read
		}
	}
}

// bound reads a time of the command line.
func (f *diffFlags) bound(name, text string, open int64) (int64, error) {
	if text == "" {
		return open, nil
	}
	t, err := timeFlag(name, text, time.Now())
	return t.UnixMicro(), err
}

// rule is what is compared; job is nil without a job.
func (f *diffFlags) rule(job *jobSets) *diffRule {
	r := &diffRule{key: columnList(f.key), time: f.time, ignore: columnList(f.ignore), only: columnList(f.only), tolerance: f.tolerances}
	if job != nil {
		key, at := job.identity()
		r.time = cmp.Or(r.time, at)
		if r.key == nil {
			r.key = key
		}
	}
	if len(r.key) > 1 {
		r.key = slices.DeleteFunc(slices.Clone(r.key), func(k string) bool { return k == r.time })
	}
	return r
}

// renamed reads a column map.
func (f *diffFlags) renamed(side int) (map[string]string, error) {
	m := map[string]string{}
	for _, pair := range columnList(f.maps[side]) {
		theirs, ours, ok := strings.Cut(pair, "=")
		if !ok || theirs == "" || ours == "" {
			return nil, f.wrong("--map-%c %q: want theirs=ours", 'a'+side, pair)
		}
		m[theirs] = ours
	}
	return m, nil
}

func theirName(renamed map[string]string, ours string) string {
	for theirs, o := range renamed {
		if o == ours {
			return theirs
		}
	}
	return ours
}

// open opens the set of a side.
func (f *diffFlags) open(ctx context.Context, s *diffSide, job *jobSets, timeColumn string) error {
	kind, what, _ := strings.Cut(s.name, ":")
	switch {
	case s.name == "live" || kind == "replay" && what != "":
		if job == nil {
			return f.wrong("%s: of which job? name its file with -f", s.name)
		}
		return job.open(ctx, s, what, timeColumn)
	case kind == "parquet" && what != "":
		return openParquetSet(ctx, s, what, timeColumn)
	case kind == "clickhouse" && strings.Contains(what, "."):
		cfg, err := f.server(job)
		if err != nil {
			return err
		}
		cfg.Database, cfg.Table, _ = strings.Cut(what, ".")
		s.rows, err = clickhouse.OpenRows(ctx, clickhouse.RowsConfig{Config: cfg, TimeColumn: timeColumn})
		return err
	}
	return f.wrong("%q is no set: want live, replay:NAME, parquet:DIR or clickhouse:DB.TABLE", s.name)
}

func openParquetSet(ctx context.Context, s *diffSide, dir, timeColumn string) error {
	store, err := readStore(ctx, dir, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	folder, err := parquet.OpenFolder(ctx, store, "", timeColumn)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if folder.Files() == 0 {
		return fmt.Errorf("%s: no file there ends in .parquet: name the folder of the table", s.name)
	}
	s.rows = folder
	return nil
}

// server says where the tables of clickhouse: sets are.
func (f *diffFlags) server(job *jobSets) (clickhouse.Config, error) {
	cfg := clickhouse.DefaultConfig()
	if job != nil {
		for _, sc := range job.plan.cfg.Sinks {
			if sc.ClickHouse != nil {
				cfg = sc.ClickHouse.Config
				break
			}
		}
	}
	cfg.URL, cfg.User, cfg.CAFile = cmp.Or(f.url, cfg.URL), cmp.Or(f.user, cfg.User), cmp.Or(f.cert, cfg.CAFile)
	if cfg.URL == "" {
		return cfg, f.wrong("where is the server of clickhouse: sets? name it with --url, or a job that has a clickhouse sink with -f")
	}
	if f.passwordFile != "" {
		b, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return cfg, fmt.Errorf("password file: %w", err)
		}
		cfg.Password = pipeline.Secret(strings.TrimRight(string(b), "\r\n"))
	}
	return cfg, nil
}

// jobSets are the sets of a job: a table of one of its sinks, live and of replays.
type jobSets struct {
	plan *plan
	sink int // index of its sink
	port pipeline.Port
}

// job finds the table that the flags mean.
func (f *diffFlags) job() (*jobSets, error) {
	p, err := planOfFile(f.file, f.flags)
	if err != nil {
		return nil, err
	}
	j := &jobSets{plan: p}
	if j.sink, err = f.sinkOf(p.cfg); err != nil {
		return nil, err
	}
	var names []string
	for _, port := range p.ports() {
		if port == pipeline.Late || port == pipeline.Dead || port == pipeline.Delta {
			continue
		}
		name := j.tableOf(port)
		if names = append(names, name); f.table == "" || name == f.table {
			j.port = port
			return j, nil
		}
	}
	return nil, f.wrong("--table %s: the job has %s", f.table, strings.Join(names, ", "))
}

func (f *diffFlags) sinkOf(cfg Config) (int, error) {
	if f.sink < 0 || f.sink > len(cfg.Sinks) {
		return 0, f.wrong("--sink %d: the job has %d sinks", f.sink, len(cfg.Sinks))
	}
	for i, sc := range cfg.Sinks {
		if (f.sink == 0 || f.sink == i+1) && sc.Kafka == nil {
			return i, nil
		}
	}
	return 0, f.wrong("the job has no such sink that can be read: want parquet or clickhouse")
}

// tableOf names the table of a port.
func (j *jobSets) tableOf(port pipeline.Port) string {
	sc := j.plan.cfg.Sinks[j.sink]
	if sc.ClickHouse != nil {
		c, _ := j.plan.clickhouse(sc.ClickHouse.Config, port)
		return c.Table
	}
	c, _ := j.plan.parquet(sc.Parquet.Config, port)
	return c.Table
}

// identity returns the columns by which a row of the table is known.
func (j *jobSets) identity() (key []string, at string) {
	sc := j.plan.cfg.Sinks[j.sink]
	if sc.ClickHouse != nil {
		c, _ := j.plan.clickhouse(sc.ClickHouse.Config, j.port)
		return c.OrderBy, c.TimeColumn
	}
	c, _ := j.plan.parquet(sc.Parquet.Config, j.port)
	return c.SortBy, c.TimeColumn
}

// windows says how the window of a result is found, nil when the results are none of windows.
func (j *jobSets) windows(rule *diffRule) *windowFinder {
	if j == nil || !j.plan.cfg.windowed() || j.port != pipeline.Out {
		return nil
	}
	c := j.plan.cfg
	w := &windowFinder{key: c.Window.Key, end: "window_end", rule: rule}
	if c.Normalize.To == "ocsf" {
		w.op, w.end = c.Window.ID, "end_time"
	}
	switch last := c.Window.last(); {
	case last.Global:
		return nil
	case last.Session == nil && last.Cumulate == nil && last.Zone == "":
		w.size = c.resultShape().Size
	}
	return w
}

// open opens the table, live or that of a replay, and its late rows.
func (j *jobSets) open(ctx context.Context, s *diffSide, replay, timeColumn string) error {
	of := j.plan
	if replay != "" {
		var err error
		if of, err = j.replayed(ctx, replay); err != nil {
			return err
		}
		s.replay = of.cfg.replay
	}
	rows, err := j.rows(ctx, of, j.port, timeColumn)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.rows = rows
	if j.port != pipeline.Out || !slices.Contains(of.ports(), pipeline.Late) {
		return nil
	}
	late, err := j.rows(ctx, of, pipeline.Late, "time")
	switch {
	case errors.Is(err, clickhouse.ErrNoTable):
		return nil
	case err != nil:
		return errors.Join(fmt.Errorf("%s: late rows: %w", s.name, err), rows.Close())
	}
	s.late = late
	return nil
}

// replayed is the plan of the job that a replay is.
func (j *jobSets) replayed(ctx context.Context, name string) (*plan, error) {
	register, err := readReplays(ctx, j.plan.cfg)
	if err != nil {
		return nil, err
	}
	r, err := register.named(ctx, name)
	if err != nil {
		return nil, err
	}
	return planOf(r.staged(j.plan.cfg))
}

// rows opens the rows of a port of the job, or of a replay of it.
func (j *jobSets) rows(ctx context.Context, of *plan, port pipeline.Port, timeColumn string) (rowSet, error) {
	sc := of.cfg.Sinks[j.sink]
	if sc.ClickHouse != nil {
		cfg, _ := of.clickhouse(sc.ClickHouse.Config, port)
		return clickhouse.OpenRows(ctx, clickhouse.RowsConfig{Config: cfg, Lineage: of.cfg.replay.lineage(), TimeColumn: timeColumn})
	}
	cfg, _ := of.parquet(sc.Parquet.Config, port)
	store, err := readStore(ctx, sc.Parquet.Dir, sc.Parquet.S3)
	if err != nil {
		return nil, err
	}
	return parquet.OpenFolder(ctx, store, cfg.Root(), timeColumn)
}

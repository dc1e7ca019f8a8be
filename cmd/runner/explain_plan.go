package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	topics "github.com/tidemark/tidemark/sinks/kafka"
	"github.com/tidemark/tidemark/sources/kafka"
)

// planWhy is what a job will do, before it does.
type planWhy struct {
	Job        string       `json:"job"`
	Source     string       `json:"source"`
	Columns    []string     `json:"columns"`
	Operators  []string     `json:"operators"`
	Time       []string     `json:"time"`
	Guarantees []guarantee  `json:"guarantees"`
	State      []string     `json:"state"`
	Personal   []personal   `json:"personal_data"`
	Change     []changeLine `json:"change"`
	Checkpoint string       `json:"checkpoint"`
}

// guarantee is what a table may be relied on for, and for what not.
type guarantee struct {
	Sink     string `json:"sink"`
	Promises string `json:"promises"`
	Not      string `json:"does_not_promise"`
}

// personal is a field that may tell of a person.
type personal struct {
	Field   string `json:"field"`
	Is      string `json:"is"`
	Treated string `json:"treated"`
}

// changeLine is a setting that is not as in the newest checkpoint.
type changeLine struct {
	Setting string `json:"setting"`
	Takes   string `json:"takes"`
}

// cmdExplainPlan says what a job will do.
func cmdExplainPlan(ctx context.Context, args []string, out streams) error {
	f := newFlags("explain", "tidemark explain -f job.yaml --keys 100000", "says what a job will do before it runs: source, columns, operators, what late means, what each sink promises and what not, how much state to expect, which fields may tell of persons, and what has changed since its checkpoint. It reads the job file and the checkpoints. explain watermark, explain offset and explain key say why a running job did what it did; each has a --help")
	file := f.String("f", "", "job `file`")
	keys := f.Int("keys", 0, "estimate the state with so many `KEYS`")
	format := f.String("o", formatTable, "`form` of the output: table or json")
	if err := f.parse(args); err != nil {
		return err
	}
	switch {
	case *file == "":
		return &usageError{"explain: want watermark, offset or key, or -f with a job file; `tidemark explain --help` shows the flags"}
	case *format != formatTable && *format != formatJSON:
		return &usageError{fmt.Sprintf("explain: -o %q: want table or json", *format)}
	case *keys < 0:
		return &usageError{"explain: --keys: must not be negative"}
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	w, err := explainPlan(ctx, cfg, *keys)
	if err != nil {
		return err
	}
	if *format == formatJSON {
		return printJSON(out.stdout, w)
	}
	w.print(out.stdout)
	return nil
}

func explainPlan(ctx context.Context, cfg Config, keys int) (*planWhy, error) {
	p, err := planOf(cfg)
	if err != nil {
		return nil, err
	}
	w := &planWhy{Job: cfg.Job, Source: sourceText(cfg.Source.Kafka), Operators: p.operatorTexts(), Time: p.timeTexts(), Guarantees: p.guarantees(), Personal: p.personal(), State: []string{}, Change: []changeLine{}}
	for _, c := range p.rows.Fields() {
		w.Columns = append(w.Columns, c.Name)
	}
	if keys > 0 {
		text, err := p.estimate(keys)
		if err != nil {
			return nil, err
		}
		w.State = append(w.State, text)
	}
	if err := w.against(ctx, cfg); err != nil {
		return nil, err
	}
	if cfg.State.MaxBytes > 0 && cfg.windowed() {
		w.State = append(w.State, fmt.Sprintf("at most %s (state.max_bytes), then %s", bytesText(cfg.State.MaxBytes), cfg.State.OverLimit))
	}
	return w, nil
}

func sourceText(k kafka.Config) string {
	start := k.Start
	if k.Start == kafka.Timestamp {
		start = tick(k.StartTime.UnixMicro()).String()
	}
	end := "live"
	if k.Bounded {
		end = "up to the end as of the start"
	}
	gaps := "records that are gone before they were read stop the job"
	if k.OnGap != kafka.Fail {
		gaps = "records that are gone before they were read are passed over, and recorded"
	}
	return fmt.Sprintf("topic %s of %s, from %s, %s; %s", k.Topic, strings.Join(k.Brokers, ", "), start, end, gaps)
}

// operatorTexts are what rows go through, in order.
func (p *plan) operatorTexts() []string {
	c := p.cfg
	out := []string{fmt.Sprintf("decode: %s by the fields of feed %s; what cannot be read is dead", c.Format, c.Feed)}
	for _, r := range c.Reference {
		out = append(out, fmt.Sprintf("reference table %s by %s, on %s", r.File, strings.Join(r.Key, ", "), r.On))
	}
	if c.Filter != "" {
		out = append(out, fmt.Sprintf("filter: %s; rows for which it is false or unknown are counted as filtered", c.Filter))
	}
	if d := c.Dedupe; d != nil {
		out = append(out, fmt.Sprintf("dedupe: of rows equal in %s and at most %v apart in event time the first counts", strings.Join(d.Columns, ", "), d.Within))
	}
	work := c.work()
	if c.windowed() {
		var names []string
		for _, a := range c.Window.last().Aggregates {
			names = append(names, strings.TrimSuffix(a.Fn+"("+a.Column+")", "()"))
		}
		work += ": " + strings.Join(names, ", ")
	}
	out = append(out, work)
	if c.Normalize.To == "ocsf" {
		out = append(out, fmt.Sprintf("OCSF %s, dialect %s", c.Normalize.Version, c.Normalize.Dialect))
	}
	return out
}

// timeTexts say what the settings of time mean.
func (p *plan) timeTexts() []string {
	c, t := p.cfg, p.cfg.EventTime
	out := []string{fmt.Sprintf("event time is %s; a row may be up to %v behind the newest row of its partition (max_disorder)", p.feed.time, t.MaxDisorder)}
	switch {
	case c.windowless():
		out = append(out, "nothing is late: every row is a result of its own")
	case p.dom != nil:
		out = append(out, "a row further behind is late, and goes to the table of late rows: what was said cannot be taken back")
	case c.Window.Trigger == operators.OnIngest:
		out = append(out, fmt.Sprintf("a window shows results %v after a row by broker time, and takes rows until %v after its end by broker time; what comes later leaves as an addition, and nothing is lost", c.Window.EmitDelay, c.Window.MaxAge))
	default:
		out = append(out, fmt.Sprintf("a row further behind is taken, as a revision of the result, while its window ended at most %v before the mark (lateness); then it is late, and goes to the table of late rows", c.Window.Lateness))
		out = append(out, fmt.Sprintf("a window comes out when the newest row of every partition is %v past its end, and is final %v later", t.MaxDisorder, c.Window.Lateness))
	}
	if t.Scope == ScopeKey {
		out = append(out, fmt.Sprintf("every key has a clock of its own, at most %v behind that of its partition (max_offline)", t.MaxOffline))
	}
	quiet := fmt.Sprintf("a partition without rows holds all results back until another one is %v further by broker time (quiet_after)", t.QuietAfter)
	if t.QuietAfter == Quiet(pipeline.MaxTicks) {
		quiet = "a partition without rows holds all results back, for ever (quiet_after is never)"
	}
	out = append(out, quiet)
	future := map[operators.FuturePolicy]string{operators.FutureDead: "is dead, reason future", operators.FutureClamp: "gets the broker's time", operators.FutureKeep: "is kept, and moves no mark"}[t.Future]
	out = append(out, fmt.Sprintf("a row more than %v ahead of its broker timestamp %s; where the topic has the producers' timestamps (CreateTime) that rests on their clocks", t.MaxAhead, future))
	missing := "the broker's"
	if t.Missing == operators.MissingDead {
		missing = "none: the row is dead"
	}
	return append(out, fmt.Sprintf("a time that is missing, or at or before %s, is %s", tick(t.MissingBound.UnixMicro()), missing))
}

// guarantees are those of the results; late rows and dead records have the same, except where a
// table is named.
func (p *plan) guarantees() []guarantee {
	var out []guarantee
	for _, s := range p.cfg.Sinks {
		switch {
		case s.Parquet != nil:
			out = append(out, guarantee{"parquet " + below(s.Parquet.Dir, s.Parquet.Table), "exactly once: each epoch's files appear once, whatever fails",
				"a revision is a row beside the one that it replaces: readers take the last of an id"})
		case s.Kafka != nil:
			out = append(out, guarantee{"kafka " + s.Kafka.Topic, topics.Promise, "the order of rows of different keys; transactions"})
		default:
			out = append(out, clickhouseGuarantee(s.ClickHouse.Config))
		}
	}
	for i := range out {
		out[i].Promises += fmt.Sprintf("; visible with the checkpoint that has them, every %v", p.cfg.Checkpoint.Interval)
	}
	if p.cfg.Notify != nil {
		out = append(out, guarantee{"notify", "each transition of a finding is sent once to a receiver, as far as the receiver says that it has it", "that a receiver which answers nothing has not got it: it is sent again"})
	}
	return out
}

func clickhouseGuarantee(c clickhouse.Config) guarantee {
	g := guarantee{Sink: "clickhouse " + c.Database + "." + c.Table}
	switch c.Delivery {
	case clickhouse.ExactlyOnce:
		g.Promises, g.Not = "exactly once: blocks are verified before any is sent again", "reading without FINAL or the view _current shows revisions beside what they replace"
	case clickhouse.Upsert:
		g.Promises, g.Not = "the last revision of a row counts once merged (upsert)", "that a row is there once before parts are merged: read with FINAL"
	default:
		g.Promises, g.Not = "at least once", "that a row is there once: a block whose outcome is unknown is sent again"
	}
	return g
}

// personalFields are those of the feeds that may tell of persons.
var personalFields = []struct{ name, is string }{
	{"asset_id", "id of a device, which may be carried by a person"},
	{"gateway_id", "id of a device at a known place"},
	{"lat", "position"}, {"lon", "position"}, {"speed_mps", "movement"},
	{"entity", "name of a network, a customer or a device"},
	{"device", "name of a device"},
	{"pdu_id", "id of a device at a known place"},
}

// personal says what becomes of such fields.
func (p *plan) personal() []personal {
	if p.cfg.Mapping != nil {
		return []personal{{Field: "(all)", Is: "the mapping file decides", Treated: "events have what the file maps; dead records have the payload as it came"}}
	}
	out := []personal{}
	for _, f := range personalFields {
		if len(p.rows.FieldIndices(f.name)) == 0 {
			continue
		}
		out = append(out, personal{f.name, f.is, p.treated(f.name)})
	}
	return out
}

// treated says where a field goes.
func (p *plan) treated(field string) string {
	c := p.cfg
	where := "as it is in late rows and in dead payloads only"
	uses := func(a AggregateConfig) bool { return a.Column == field }
	switch {
	case c.Rows || p.dom != nil:
		where = "as it is in results, late rows and dead payloads"
	case slices.Contains(c.Window.Key, field):
		where = "as it is in results, late rows, dead payloads and the log of decisions"
	case slices.ContainsFunc(c.Window.Aggregates, uses):
		where = "aggregated in results; as it is in late rows and dead payloads"
	}
	return where + "; in checkpoints while it is open; it is neither hashed nor coarsened"
}

// estimateKeys is with how many keys state is measured.
const estimateKeys = 10_000

// estimate measures the state of a window with some keys.
func (p *plan) estimate(keys int) (string, error) {
	c := p.cfg
	if !c.windowed() {
		return fmt.Sprintf("no estimate for %d keys: the job keeps no windows; its checkpoints tell, once it has run", keys), nil
	}
	n := min(keys, estimateKeys)
	per, err := p.measured(n)
	if err != nil {
		return "", err
	}
	open := int64(1)
	what := "one session"
	if c.Window.Session == nil && !c.Window.Global {
		shape := c.windowConfig(0).Shape
		wait := pipeline.Ticks(c.EventTime.MaxDisorder + c.Window.Lateness)
		if c.Window.Trigger == operators.OnIngest {
			wait = pipeline.Ticks(c.Window.MaxAge)
		}
		open = shape.Overlap() + (wait+shape.Slide-1)/shape.Slide
		what = plural(open, "window")
	}
	total := per * open * int64(keys)
	return fmt.Sprintf("about %s with %d keys: %d bytes a key and window, as measured with %d, and %s open at a time (those that hold a row, and those that wait for disorder and lateness); alignment of partitions (event_time.align), duplicates and keys that are offline come on top",
		bytesText(total), keys, per, n, what), nil
}

// measured returns the bytes of state of a key in one window.
func (p *plan) measured(n int) (int64, error) {
	op, err := p.cfg.newKeyed(0, p.rows, memory.DefaultAllocator)
	if err != nil {
		return 0, err
	}
	rec := sampleRows(p.rows, p.cfg.Window.Key, n)
	defer rec.Release()
	keyer, err := pipeline.NewKeyer(p.rows, p.cfg.keyColumns(), 0)
	if err != nil {
		return 0, err
	}
	m := rowsMessage(rec)
	m.Batch.Keys = keyer.Keys(rec)
	zeros := make([]int64, n)
	m.Batch.Ingest = &pipeline.IngestMarks{Own: zeros, Merged: zeros}
	task := pipeline.NewTask([]pipeline.Operator{op}, func(pipeline.Port, pipeline.Batch) error { return nil })
	if err := task.Step(m); err != nil {
		return 0, err
	}
	return task.Bytes() / int64(max(1, task.Held())), nil
}

// sampleRows are rows of one instant with a key each, and nothing else.
func sampleRows(schema *arrow.Schema, key []string, n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i, f := range schema.Fields() {
		keyed := slices.Contains(key, f.Name)
		for k := range n {
			switch c := b.Field(i).(type) {
			case *array.TimestampBuilder:
				c.Append(0)
			case *array.Int32Builder:
				c.Append(0)
			case *array.Int64Builder:
				c.Append(int64(k))
			case *array.StringBuilder:
				if keyed {
					c.Append(fmt.Sprintf("key-%08d", k))
				} else {
					c.AppendNull()
				}
			default:
				c.AppendNull()
			}
		}
	}
	return b.NewRecordBatch()
}

// against compares the job with its newest checkpoint, where it has one.
func (w *planWhy) against(ctx context.Context, cfg Config) error {
	v := &stateView{dir: cfg.Checkpoint.Dir, job: &cfg}
	store, err := readStore(ctx, cfg.Checkpoint.Dir, cfg.Checkpoint.S3)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, pipeline.ErrNotExist) {
		w.Checkpoint = "none: the job begins from where its source starts"
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoints: %w", err)
	}
	v.store, v.checkpoints = store, pipeline.NewCheckpoints(store, 1, boundedAllocator{memory.DefaultAllocator})
	all, err := v.checkpoints.List(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		w.Checkpoint = "none: the job begins from where its source starts"
		return nil
	}
	l, err := v.newest(ctx)
	if err != nil {
		return err
	}
	cp := l.Checkpoint
	w.Checkpoint = fmt.Sprintf("%d of lineage %d, mark %s; the job goes on from it", cp.Epoch, cp.Lineage, tick(cp.Merged.Event))
	w.State = append(w.State, fmt.Sprintf("%s in checkpoint %d", bytesText(bytesOf(cp.Files)), cp.Epoch))
	if len(cp.Config) == 0 {
		return nil
	}
	found, err := changes(cp.Config, cfg)
	for _, c := range found {
		w.Change = append(w.Change, changeLine{c.String(), c.class.String()})
		if c.class == newLineage {
			w.Checkpoint = fmt.Sprintf("%d of lineage %d, which the job cannot go on from: it takes --new-lineage, and starts over", cp.Epoch, cp.Lineage)
		}
	}
	return err
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

func (w *planWhy) print(out io.Writer) {
	fmt.Fprintf(out, "job %s\n", visible(w.Job))
	tab := newTable(out)
	list := func(name string, lines []string) {
		for i, l := range lines {
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(tab, "%s\t%s\n", name, visible(l))
		}
	}
	list("source", []string{w.Source})
	list("columns", []string{strings.Join(w.Columns, ", ")})
	list("operators", w.Operators)
	list("time", w.Time)
	var lines []string
	for _, g := range w.Guarantees {
		lines = append(lines, g.Sink+": "+g.Promises, "    not promised: "+g.Not)
	}
	list("sinks", lines)
	list("state", []string{cmp.Or(strings.Join(w.State, "; "), "no estimate: give --keys")})
	lines = nil
	for _, f := range w.Personal {
		lines = append(lines, fmt.Sprintf("%s (%s): %s", f.Field, f.Is, f.Treated))
	}
	list("personal data", lines)
	list("checkpoint", []string{w.Checkpoint})
	lines = nil
	for _, c := range w.Change {
		lines = append(lines, c.Setting+": "+c.Takes)
	}
	list("changed", lines)
	_ = tab.Flush() // of a writer that does not fail
}

package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// cmdDead is the group of commands about rows that a job has refused.
func cmdDead(ctx context.Context, args []string, out streams) error {
	commands := map[string]func(context.Context, []string, streams) error{"ls": cmdDeadLs, "show": cmdDeadShow, "requeue": cmdDeadRequeue}
	if len(args) > 0 {
		if run, ok := commands[args[0]]; ok {
			return run(ctx, args[1:], out)
		}
		if slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			return cmdDeadLs(ctx, args[:1], out)
		}
	}
	return &usageError{"dead: want ls, show or requeue; `tidemark dead COMMAND --help` shows the flags"}
}

// refusedFlags say which of the refused rows of a job are meant.
type refusedFlags struct {
	*flags
	file, format, reasons, from, to, offsets string
	late                                     bool
	sink                                     int

	plan *plan
	open []int // claims that nobody has seen through
	want struct {
		reasons    []string
		from, to   int64 // of the table's time column
		split      string
		first, end int64 // offsets of split, end exclusive
	}
}

func newRefusedFlags(name, example, what string) *refusedFlags {
	f := &refusedFlags{flags: newFlags(name, example, what)}
	f.StringVar(&f.file, "f", "", "job `file`")
	f.StringVar(&f.format, "o", formatTable, "`form` of the output: table or json")
	f.StringVar(&f.reasons, "reason", "", "only rows with one of these `reasons`, with commas between them")
	f.StringVar(&f.from, "from", "", "only rows from this `time` on: of dead rows by the broker's timestamp, of late ones by event time")
	f.StringVar(&f.to, "to", "", "only rows before this `time`")
	f.StringVar(&f.offsets, "offset", "", "only rows of `topic/partition`, topic/partition@offset or topic/partition@first..last")
	f.IntVar(&f.sink, "sink", 0, "read what sink `N` of the job has, from 1 on; 0: the first that can be read")
	return f
}

// newDeadFlags are those of a command for dead rows and, if asked, for late ones.
func newDeadFlags(name, example, what string) *refusedFlags {
	f := newRefusedFlags(name, example, what)
	f.BoolVar(&f.late, "late", false, "the late rows in place of the dead ones")
	return f
}

// parse reads the command line and the job file.
func (f *refusedFlags) parse(args []string) (err error) {
	if err := f.flags.parse(args); err != nil {
		return err
	}
	if f.format != formatTable && f.format != formatJSON {
		return f.wrong("-o %q: want table or json", f.format)
	}
	if f.want.from, err = boundFlag("from", f.from, pipeline.MinTicks); err != nil {
		return err
	}
	if f.want.to, err = boundFlag("to", f.to, pipeline.MaxTicks); err != nil {
		return err
	}
	f.want.reasons = columnList(f.reasons)
	if err := f.parseOffsets(); err != nil {
		return err
	}
	if f.plan, err = planOfFile(f.file, f.flags); err != nil {
		return err
	}
	if f.late && !slices.Contains(f.plan.ports(), pipeline.Late) {
		return f.wrong("nothing can be late in job %s, which has no windows", f.plan.cfg.Job)
	}
	return nil
}

func (f *refusedFlags) wrong(format string, args ...any) error {
	return &usageError{f.Name() + ": " + fmt.Sprintf(format, args...)}
}

// boundFlag reads a time of the command line, open when there is none.
func boundFlag(name, text string, open int64) (int64, error) {
	if text == "" {
		return open, nil
	}
	t, err := timeFlag(name, text, time.Now())
	return t.UnixMicro(), err
}

// parseOffsets reads --offset.
func (f *refusedFlags) parseOffsets() error {
	w := &f.want
	split, offsets, some := strings.Cut(f.offsets, "@")
	if w.split, w.first, w.end = split, 0, pipeline.MaxTicks; !some && (split == "" || strings.Contains(split, "/")) {
		return nil
	}
	first, last, _ := strings.Cut(offsets, "..")
	var err1, err2 error
	w.first, err1 = strconv.ParseInt(first, 10, 64)
	w.end, err2 = strconv.ParseInt(cmp.Or(last, first), 10, 64)
	w.end = pipeline.AddTicks(w.end, 1)
	if !strings.Contains(split, "/") || err1 != nil || err2 != nil || w.first < 0 || w.end <= w.first {
		return f.wrong("--offset %q: want topic/partition, topic/partition@offset or topic/partition@first..last", f.offsets)
	}
	return nil
}

// port is the one by which the rows left.
func (f *refusedFlags) port() (port pipeline.Port, timeColumn string) {
	if f.late {
		return pipeline.Late, "time"
	}
	return pipeline.Dead, "_ingest"
}

// kind says what the rows are.
func (f *refusedFlags) kind() string {
	if f.late {
		return "late"
	}
	return "dead"
}

// refusedRow is a row of a table of dead or of late rows.
type refusedRow struct {
	Split  string `json:"split"` // topic/partition
	Offset int64  `json:"offset"`
	Ingest tick   `json:"broker_time"`
	Time   *tick  `json:"time,omitempty"`
	Reason string `json:"reason"`
	// Of dead rows.
	Error    string `json:"error,omitempty"`
	RawBytes int64  `json:"raw_bytes,omitempty"`
	raw      string // the beginning of the record's value
	hasRaw   bool
	// Of late rows: the last window that the row missed, of how many, by how much the mark was
	// ahead of the row's time.
	LateBy int64          `json:"late_by_us,omitempty"`
	Missed int64          `json:"windows_missed,omitempty"`
	Start  *tick          `json:"window_start,omitempty"`
	End    *tick          `json:"window_end,omitempty"`
	Values map[string]any `json:"values,omitempty"`

	Requeued bool `json:"requeued"`
}

// logPlace is where a row was in the log.
type logPlace struct {
	split  string
	offset int64
}

func (r *refusedRow) place() logPlace { return logPlace{r.Split, r.Offset} }

// maxRefused is how many rows a command holds; of all it knows where they were.
const maxRefused = 2_000_000

// jobCheckpoint is the newest checkpoint of the job.
func (f *refusedFlags) jobCheckpoint(ctx context.Context) (*pipeline.Checkpoint, error) {
	v, err := (&stateFlags{flags: f.flags, file: f.file}).open(ctx)
	if err != nil {
		return nil, err
	}
	l, err := v.newest(ctx)
	if err != nil {
		return nil, err
	}
	return l.Checkpoint, nil
}

// scan gives each the rows that are meant, in no order. A row that several lineages have refused comes
// once.
func (f *refusedFlags) scan(ctx context.Context, each func(*refusedRow) error) error {
	cp, err := f.jobCheckpoint(ctx)
	if err != nil {
		return err
	}
	sink, err := (&diffFlags{flags: f.flags, sink: f.sink}).sinkOf(f.plan.cfg)
	if err != nil {
		return err
	}
	port, timeColumn := f.port()
	rows, err := (&jobSets{plan: f.plan, sink: sink, port: port}).rows(ctx, f.plan, port, timeColumn)
	if errors.Is(err, clickhouse.ErrNoTable) {
		return nil // no row was refused yet
	}
	if err != nil {
		return fmt.Errorf("%s rows: %w", f.kind(), err)
	}
	sent, err := readRequeues(ctx, f.plan.cfg)
	if err != nil {
		return errors.Join(err, rows.Close())
	}
	f.open = sent.open
	seen, values := map[logPlace]bool{}, map[string]any{}
	err = rows.Scan(ctx, f.want.from, f.want.to, func(name string, v any) { values[name] = v }, func() error {
		r, err := newRefusedRow(values, cp.Splits)
		clear(values)
		if err != nil || !f.wanted(r) || seen[r.place()] {
			return err
		}
		if len(seen) == maxRefused {
			return f.wrong("more than %d rows: narrow them with --from, --to, --reason or --offset", maxRefused)
		}
		seen[r.place()] = true
		r.Requeued = sent.rows[r.place()]
		return each(r)
	})
	return errors.Join(err, rows.Close())
}

func (f *refusedFlags) wanted(r *refusedRow) bool {
	w := &f.want
	return (len(w.reasons) == 0 || slices.Contains(w.reasons, r.Reason)) &&
		(w.split == "" || w.split == r.Split && w.first <= r.Offset && r.Offset < w.end)
}

// newRefusedRow makes a row of the values of its columns, which it takes out.
func newRefusedRow(values map[string]any, splits []pipeline.SplitState) (*refusedRow, error) {
	r := &refusedRow{}
	take := func(name string) any {
		v := values[name]
		delete(values, name)
		return v
	}
	when := func(name string) *tick {
		t, ok := take(name).(time.Time)
		if !ok {
			return nil
		}
		return new(tick(t.UnixMicro()))
	}
	whole := func(name string) int64 {
		n, _ := take(name).(int64)
		return n
	}
	text := func(name string) string {
		s, _ := take(name).(string)
		return s
	}
	i := whole("_split")
	if i < 0 || i >= int64(len(splits)) {
		return nil, fmt.Errorf("a row of split %d, where the newest checkpoint knows %d: the table is of another job", i, len(splits))
	}
	r.Split, r.Offset, r.Time, r.Reason = splits[i].Split.String(), whole("_offset"), when("time"), text("reason")
	if at := when("_ingest"); at != nil {
		r.Ingest = *at
	}
	r.Error, r.RawBytes, r.LateBy, r.Missed = text("error"), whole("raw_bytes"), whole("late_by_us"), whole("windows_missed")
	r.Start, r.End = when("window_start"), when("window_end")
	r.raw, r.hasRaw = values["raw"].(string)
	delete(values, "raw")
	for name, v := range values {
		if !strings.HasPrefix(name, "_tm_") {
			if r.Values == nil {
				r.Values = map[string]any{}
			}
			r.Values[name] = v
		}
	}
	return r, nil
}

// whole tells whether the row has all of the record's value.
func (r *refusedRow) whole() bool { return r.hasRaw && int64(len(r.raw)) == r.RawBytes }

// refusedGroup are the rows of a reason in a split.
type refusedGroup struct {
	Reason   string `json:"reason"`
	Split    string `json:"split"`
	Rows     int64  `json:"rows"`
	Requeued int64  `json:"requeued"`
	First    tick   `json:"first"` // by the broker's timestamp
	Last     tick   `json:"last"`
	Low      int64  `json:"first_offset"`
	High     int64  `json:"last_offset"`
}

func cmdDeadLs(ctx context.Context, args []string, out streams) error {
	f := newDeadFlags("dead ls", "tidemark dead ls -f job.yaml --from -24h", "counts the rows that a job has refused, by reason and partition, as its Parquet folder or its ClickHouse table has them")
	if err := f.parse(args); err != nil {
		return err
	}
	type key struct{ reason, split string }
	groups := map[key]*refusedGroup{}
	err := f.scan(ctx, func(r *refusedRow) error {
		g := groups[key{r.Reason, r.Split}]
		if g == nil {
			g = &refusedGroup{Reason: r.Reason, Split: r.Split, First: r.Ingest, Last: r.Ingest, Low: r.Offset, High: r.Offset}
			groups[key{r.Reason, r.Split}] = g
		}
		g.Rows++
		if r.Requeued {
			g.Requeued++
		}
		g.First, g.Last = min(g.First, r.Ingest), max(g.Last, r.Ingest)
		g.Low, g.High = min(g.Low, r.Offset), max(g.High, r.Offset)
		return nil
	})
	if err != nil {
		return err
	}
	list := slices.SortedFunc(maps.Values(groups), func(a, b *refusedGroup) int {
		return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Split, b.Split))
	})
	if f.format == formatJSON {
		return printJSON(out.stdout, append([]*refusedGroup{}, list...))
	}
	t := newTable(out.stdout)
	fmt.Fprintln(t, "REASON\tPARTITION\tROWS\tREQUEUED\tFIRST\tLAST\tOFFSETS")
	all := int64(0)
	for _, g := range list {
		all += g.Rows
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%d..%d\n", visible(g.Reason), visible(g.Split), g.Rows, g.Requeued, g.First, g.Last, g.Low, g.High)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.stdout, "%d %s rows of job %s\n", all, f.kind(), f.plan.cfg.Job)
	return err
}

// showLimit is how many rows are shown unless said otherwise.
const showLimit = 20

func cmdDeadShow(ctx context.Context, args []string, out streams) error {
	f := newDeadFlags("dead show", "tidemark dead show -f job.yaml --reason malformed_json --limit 5", "shows rows that a job has refused, with why and with what was in the record, the first by partition and offset")
	limit := f.Int("limit", showLimit, "show `N` rows")
	asHex := f.Bool("hex", false, "show payloads as hexadecimal digits; those that are no text are anyway")
	if err := f.parse(args); err != nil {
		return err
	}
	if *limit < 1 {
		return f.wrong("--limit %d: want 1 at least", *limit)
	}
	all, first := 0, []*refusedRow{}
	err := f.scan(ctx, func(r *refusedRow) error {
		all++
		first = append(first, r)
		if len(first) >= 2**limit {
			first = firstRows(first, *limit)
		}
		return nil
	})
	if err != nil {
		return err
	}
	first = firstRows(first, *limit)
	if f.format == formatJSON {
		type shown struct {
			*refusedRow
			Payload string `json:"payload,omitempty"`
			Hex     string `json:"payload_hex,omitempty"`
			Cut     bool   `json:"payload_is_cut,omitempty"`
		}
		list := []shown{}
		for _, r := range first {
			s := shown{refusedRow: r, Cut: r.hasRaw && !r.whole()}
			if s.Payload = r.raw; *asHex || !utf8.ValidString(r.raw) {
				s.Payload, s.Hex = "", hex.EncodeToString([]byte(r.raw))
			}
			list = append(list, s)
		}
		return printJSON(out.stdout, list)
	}
	for _, r := range first {
		if err := r.print(out.stdout, *asHex); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out.stdout, "%d of %d %s rows of job %s\n", len(first), all, f.kind(), f.plan.cfg.Job)
	return err
}

// firstRows returns the first rows by partition and offset.
func firstRows(rows []*refusedRow, n int) []*refusedRow {
	slices.SortFunc(rows, compareRefused)
	return rows[:min(n, len(rows))]
}

func compareRefused(a, b *refusedRow) int {
	return cmp.Or(cmp.Compare(a.Split, b.Split), cmp.Compare(a.Offset, b.Offset))
}

// print shows a row in two or three lines.
func (r *refusedRow) print(w io.Writer, asHex bool) error {
	said := r.Error
	if r.Missed > 0 {
		said = fmt.Sprintf("the mark was %s ahead of %s; missed %d windows, the last from %s to %s", durationOf(r.LateBy), r.Time, r.Missed, r.Start, r.End)
	}
	if r.Requeued {
		said += " (requeued)"
	}
	if _, err := fmt.Fprintf(w, "%s@%d  %s  %s\n  %s\n", visible(r.Split), r.Offset, r.Ingest, visible(r.Reason), visible(said)); err != nil {
		return err
	}
	payload := visible(r.raw)
	switch {
	case r.Values != nil:
		payload = ""
		for _, name := range slices.Sorted(maps.Keys(r.Values)) {
			payload += " " + name + "=" + visible(fmt.Sprint(r.Values[name]))
		}
		payload = strings.TrimPrefix(payload, " ")
	case !r.hasRaw:
		payload = "(no payload)"
	case asHex || !utf8.ValidString(r.raw):
		payload = hex.EncodeToString([]byte(r.raw))
	}
	if r.hasRaw && !r.whole() {
		payload += fmt.Sprintf(" … (%d bytes in all)", r.RawBytes)
	}
	_, err := fmt.Fprintf(w, "  %s\n", payload)
	return err
}

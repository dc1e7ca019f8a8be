package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/pipeline"
)

// jobTests is a file of tests of a job: events in, rows out.
type jobTests struct {
	Job   string    `yaml:"job"` // its file, beside this one
	Tests []jobTest `yaml:"tests"`
}

// jobTest is one test. What it does not mention is not looked at.
type jobTest struct {
	Name string `yaml:"name"`
	// Rows is the step whose rows out are: window, or normalize for what sinks get.
	Rows string `yaml:"rows"`
	// Revisions wants every revision of a result, not only the last one.
	Revisions bool `yaml:"revisions"`
	// Open ends the test without the end of the input: windows that are open stay so.
	Open bool `yaml:"open"`
	// Events come in this order.
	Events []testEvent `yaml:"events"`
	// Out, Late and Dead are all the rows that come out, in any order, with some of their columns.
	Out  *[]testRow `yaml:"out"`
	Late *[]testRow `yaml:"late"`
	Dead *[]testRow `yaml:"dead"`
	// Counts are rows by fate: aggregated, late, dead, filtered, duplicate.
	Counts map[string]int64 `yaml:"counts"`
}

func (t *jobTest) setDefaults() { t.Rows = stepWindow }

// testEvent is a record of the topic.
type testEvent struct {
	Partition int32  `yaml:"partition"`
	Key       string `yaml:"key"`
	// At is its broker timestamp; that of the event time when it has one, else that of the event
	// before.
	At    time.Time `yaml:"at"`
	Value testValue `yaml:"value"`
}

// testValue is a payload: a text as it is, anything else as JSON.
type testValue []byte

// UnmarshalYAML implements yaml.Unmarshaler.
func (v *testValue) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*v = testValue(n.Value)
		return nil
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return err
	}
	b, err := json.Marshal(value)
	*v = b
	return err
}

// testRow is what is wanted of a row, as JSON has it.
type testRow struct{ columns map[string]any }

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *testRow) UnmarshalYAML(n *yaml.Node) error {
	var value map[string]any
	if err := n.Decode(&value); err != nil {
		return fmt.Errorf("want columns with their values")
	}
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	r.columns, err = rowOf(b)
	return err
}

// rowOf reads a row of JSON. Numbers keep their digits.
func rowOf(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var row map[string]any
	err := d.Decode(&row)
	return row, err
}

// cmdTest runs the tests of files.
func cmdTest(ctx context.Context, args []string, out streams) error {
	f := newFlags("test", "tidemark test examples/ble-test.yaml", "runs a job on the events of test FILEs, without Kafka or sinks, and compares what comes out")
	only := f.String("run", "", "run only tests whose name has this `text` in it")
	format := f.String("o", formatTable, "`form` of the output: table, which is text, or json, and then the text goes to standard error")
	files, err := f.parseFiles(args)
	if err != nil {
		return err
	}
	text, err := aside(f, *format, out)
	switch {
	case err != nil:
		return err
	case len(files) == 0:
		return &usageError{"test: no files: want one or more"}
	}
	type outcome struct {
		File  string   `json:"file"`
		Name  string   `json:"name"`
		Wrong []string `json:"wrong"`
	}
	all, ran, failed := []outcome{}, 0, 0
	for _, path := range files {
		tests, p, err := loadTests(path)
		if err != nil {
			return err
		}
		for _, t := range tests.Tests {
			if !strings.Contains(t.Name, *only) {
				continue
			}
			began := time.Now()
			wrong, err := t.run(ctx, p)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", path, t.Name, err)
			}
			word := "ok  "
			if ran++; len(wrong) > 0 {
				failed++
				word = "FAIL"
			}
			fmt.Fprintf(text, "%s %s: %s (%v)\n", word, path, t.Name, time.Since(began).Round(time.Millisecond))
			for _, w := range wrong {
				fmt.Fprintf(text, "     %s\n", w)
			}
			all = append(all, outcome{path, t.Name, append([]string{}, wrong...)})
		}
	}
	if *format == formatJSON {
		if err := printJSON(out.stdout, all); err != nil {
			return err
		}
	}
	switch {
	case ran == 0:
		return fmt.Errorf("test: there is no test whose name has %q in it", *only)
	case failed > 0:
		return fmt.Errorf("test: %d of %d failed", failed, ran)
	}
	fmt.Fprintf(text, "%d passed\n", ran)
	return nil
}

// loadTests reads a file of tests and the job that they are of.
func loadTests(path string) (jobTests, *plan, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return jobTests{}, nil, fmt.Errorf("test file: %w", err)
	}
	d, err := parseYAML(path, b)
	if err != nil {
		return jobTests{}, nil, &configError{[]string{err.Error()}}
	}
	var tests jobTests
	d.decode(&tests)
	if tests.Job == "" {
		d.add(d.node("job"), "job", "missing: the job file, beside this one")
	}
	if len(tests.Tests) == 0 {
		d.add(d.node("tests"), "tests", "missing: there is nothing to do")
	}
	if err := d.err(); err != nil {
		return tests, nil, err
	}
	cfg, err := loadConfig(filepath.Join(filepath.Dir(path), tests.Job))
	if err != nil {
		return tests, nil, err
	}
	cfg.Parallelism = ParallelismConfig{1, 1}
	p, err := cfg.trialPlan()
	if err != nil {
		return tests, nil, err
	}
	steps, err := p.stepsOf()
	if err != nil {
		return tests, nil, err
	}
	for i, t := range tests.Tests {
		at := []string{"tests", fmt.Sprint(i)}
		bad := func(key, format string, args ...any) {
			d.add(d.node(append(at, key)...), strings.Join(append(at, key), "."), format, args...)
		}
		if t.Name == "" {
			bad("name", "missing")
		}
		if !slices.Contains(steps, t.Rows) {
			bad("rows", "%q: the steps of job %s are %s", t.Rows, cfg.Job, strings.Join(steps, ", "))
		}
		if t.Out == nil && t.Late == nil && t.Dead == nil && t.Counts == nil {
			bad("out", "missing: say what is to come, in out, late, dead or counts")
		}
		for _, fate := range slices.Sorted(maps.Keys(t.Counts)) {
			if !slices.Contains(fateNames(), fate) {
				bad("counts", "%q: the fates are %s", fate, strings.Join(fateNames(), ", "))
			}
		}
		for k, e := range t.Events {
			if e.Partition < 0 || e.Partition > 1000 {
				bad("events", "event %d: partition %d: want 0 to 1000", k+1, e.Partition)
			}
		}
	}
	return tests, p, d.err()
}

func fateNames() []string {
	var names []string
	for f := range pipeline.NumFates {
		names = append(names, f.String())
	}
	return names
}

// run runs a test and returns what is wrong.
func (t jobTest) run(ctx context.Context, p *plan) ([]string, error) {
	src, err := t.source(p)
	if err != nil {
		return nil, err
	}
	got := map[pipeline.Port][]map[string]any{}
	counts, err := trial{plan: p, log: slog.New(slog.DiscardHandler), until: t.Rows,
		open: func(context.Context, map[pipeline.Split]pipeline.Position) (pipeline.Source, error) { return src, nil },
		rows: func(port pipeline.Port, rec arrow.RecordBatch) error {
			for i := range int(rec.NumRows()) {
				row, err := rowOf(appendRow(nil, rec, i))
				if err != nil {
					return err
				}
				got[port] = append(got[port], row)
			}
			return nil
		}}.run(ctx)
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, c := range []struct {
		name string
		want *[]testRow
		got  []map[string]any
	}{
		{"out", t.Out, t.results(p, got)}, {"late", t.Late, got[pipeline.Late]}, {"dead", t.Dead, got[pipeline.Dead]},
	} {
		if c.want != nil {
			wrong = append(wrong, compareRows(c.name, *c.want, c.got)...)
		}
	}
	for f := range pipeline.NumFates {
		if want, ok := t.Counts[f.String()]; ok && want != counts[f] {
			wrong = append(wrong, fmt.Sprintf("counts: %d rows are %s, want %d", counts[f], f, want))
		}
	}
	return wrong, nil
}

// results are the rows of all ports but Late and Dead: the last revision of each unless all are wanted.
func (t jobTest) results(p *plan, got map[pipeline.Port][]map[string]any) (rows []map[string]any) {
	for _, port := range p.ports() {
		if port != pipeline.Late && port != pipeline.Dead {
			rows = append(rows, got[port]...)
		}
	}
	if t.Revisions {
		return rows
	}
	cfg := p.cfg
	if t.Rows != stepNormalize {
		cfg.Normalize.To = "none"
	}
	key, _ := cfg.resultOrder()
	last := map[string]int{}
	var final []map[string]any
	for _, row := range rows {
		id := ""
		for _, k := range key {
			id += fmt.Sprintf("%v\x00", valueAt(row, k))
		}
		at, again := last[id]
		switch {
		case !cfg.windowed(): // none replaces another
			final = append(final, row)
		case again:
			final[at] = row
		default:
			last[id] = len(final)
			final = append(final, row)
		}
	}
	return slices.DeleteFunc(final, func(row map[string]any) bool { return fmt.Sprint(row["_tm_del"]) == "1" })
}

// valueAt returns what is at a dotted path.
func valueAt(row map[string]any, path string) any {
	name, rest, nested := strings.Cut(path, ".")
	if inner, ok := row[name].(map[string]any); ok && nested {
		return valueAt(inner, rest)
	}
	return row[path]
}

// source makes the records of a test.
func (t jobTest) source(p *plan) (*eventSource, error) {
	dec, err := p.decoder(memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	s := &eventSource{topic: p.cfg.Source.Kafka.Topic, open: t.Open}
	before := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	next := map[int32]int64{}
	for _, e := range t.Events {
		w := &pipeline.Wire{}
		for _, f := range []struct {
			spans *[]pipeline.Span
			b     []byte
		}{{&w.Keys, []byte(e.Key)}, {&w.Values, e.Value}} {
			span := pipeline.Span{At: int32(len(w.Data)), Len: int32(len(f.b))}
			if len(f.b) == 0 {
				span.Len = -1
			}
			*f.spans = append(*f.spans, span)
			w.Data = append(append(w.Data, f.b...), make([]byte, 16)...)
		}
		w.Offset, w.Ingest = []int64{next[e.Partition]}, []int64{pipeline.MaxEventTime}
		next[e.Partition]++
		if at := e.At.UnixMicro(); !e.At.IsZero() {
			before = at
		} else {
			own := ownTime{at: before}
			if err := dec.Decode(w, &own); err != nil {
				return nil, err
			}
			before = own.at
		}
		w.Ingest[0] = before
		w.Next = pipeline.Position{Offset: w.Offset[0] + 1, LastBatch: -1, LastIngest: before}
		for int(e.Partition) >= s.splits {
			s.splits++
		}
		s.events = append(s.events, pipeline.Event{Kind: pipeline.Rows, Split: s.split(int(e.Partition)), Wire: w})
	}
	return s, nil
}

// ownTime takes the event time of a row that can be decoded.
type ownTime struct{ at int64 }

// Emit implements pipeline.Emitter.
func (o *ownTime) Emit(p pipeline.Port, b pipeline.Batch) error {
	if c := b.Rec.Column(pipeline.ColTime).(*array.Timestamp); p == pipeline.Out && c.Len() > 0 && c.IsValid(0) {
		if t := int64(c.Value(0)); t < pipeline.MaxEventTime {
			o.at = t
		}
	}
	return nil
}

// Count implements pipeline.Emitter.
func (o *ownTime) Count(pipeline.Fate, int32, int64) {}

// eventSource gives the events of a test.
type eventSource struct {
	topic  string
	splits int
	open   bool // the splits do not end
	events []pipeline.Event
	at     int // splits, events and ends that were given
}

func (s *eventSource) split(i int) pipeline.Split {
	return pipeline.Split{Topic: s.topic, Partition: int32(i)}
}

// Next implements pipeline.Source.
func (s *eventSource) Next(context.Context) (pipeline.Event, error) {
	n := s.at
	s.at++
	if n < s.splits {
		return pipeline.Event{Kind: pipeline.NewSplit, Split: s.split(n), Position: pipeline.Position{LastBatch: -1, LastIngest: pipeline.MinTicks}}, nil
	}
	if n -= s.splits; n < len(s.events) {
		return s.events[n], nil
	}
	if n -= len(s.events); n < s.splits && !s.open {
		return pipeline.Event{Kind: pipeline.EndOfSplit, Split: s.split(n)}, nil
	}
	return pipeline.Event{}, io.EOF
}

// Pause implements pipeline.Source.
func (s *eventSource) Pause([]pipeline.Split) {}

// Commit implements pipeline.Source.
func (s *eventSource) Commit(context.Context, map[pipeline.Split]pipeline.Position) error { return nil }

// Close implements pipeline.Source.
func (s *eventSource) Close() error { return nil }

// compareRows pairs the rows that are wanted with those that came, as many as can be, and says
// what is left on either side.
func compareRows(name string, want []testRow, got []map[string]any) []string {
	owner := make([]int, len(got)) // of each row, the one that wants it
	for i := range owner {
		owner[i] = -1
	}
	var wrong []string
	for i := range want {
		if !claim(i, want, got, owner, map[int]bool{}) {
			wrong = append(wrong, fmt.Sprintf("%s: no row has %s", name, jsonText(want[i].columns)))
		}
	}
	for i, row := range got {
		if owner[i] < 0 {
			wrong = append(wrong, fmt.Sprintf("%s: unexpected %s", name, jsonText(row)))
		}
	}
	return wrong
}

// claim finds a row for the i-th that is wanted, if need be by giving another one what it has.
func claim(i int, want []testRow, got []map[string]any, owner []int, tried map[int]bool) bool {
	for k, row := range got {
		if tried[k] || !has(row, want[i].columns) {
			continue
		}
		tried[k] = true
		if owner[k] < 0 || claim(owner[k], want, got, owner, tried) {
			owner[k] = i
			return true
		}
	}
	return false
}

// has tells whether a value is as wanted: objects have at least the members that are named,
// numbers and times are compared as such, and null stands for nothing there.
func has(got, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range w {
			if !has(g[k], v) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		return ok && len(g) == len(w) && !slices.ContainsFunc(indexes(w), func(i int) bool { return !has(g[i], w[i]) })
	case json.Number:
		g, ok := got.(json.Number)
		if !ok {
			return false
		}
		a, aok := new(big.Rat).SetString(g.String())
		b, bok := new(big.Rat).SetString(w.String())
		return aok && bok && a.Cmp(b) == 0
	case string:
		g, ok := got.(string)
		if !ok {
			return false
		}
		at, aerr := time.Parse(time.RFC3339Nano, g)
		wanted, berr := time.Parse(time.RFC3339Nano, w)
		return g == w || aerr == nil && berr == nil && at.Equal(wanted)
	}
	return got == want
}

func indexes[T any](s []T) []int {
	out := make([]int, len(s))
	for i := range out {
		out[i] = i
	}
	return out
}

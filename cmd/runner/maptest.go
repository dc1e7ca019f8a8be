package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
)

// cmdMap is the group of commands about mapping files.
func cmdMap(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "test":
			return cmdMapTest(ctx, args[1:], out)
		case "-h", "-help", "--help":
			return cmdMapTest(ctx, args[:1], out)
		}
	}
	return &usageError{"map: want test; `tidemark map --help` shows its flags"}
}

// mapFlags are the flags of map test.
type mapFlags struct {
	mapping, mode, preprocessor, expect string
	schemas                             []string
}

// cmdMapTest maps the events of a file. An event that is not valid, or not as expected, makes
// it fail.
func cmdMapTest(ctx context.Context, args []string, out streams) error {
	f := newFlags("map test", "tidemark map test --mapping doors.json --schema 1.3.0 --expect wanted.jsonl events.jsonl",
		"maps the events of FILE, or of standard input for -, and prints what comes of them, one a line. On standard error it says of each event what was changed, what was left over, and what the validator finds")
	var m mapFlags
	f.StringVar(&m.mapping, "mapping", "", "the mapping `file`")
	f.Func("schema", "OCSF `version` (1.1.0, 1.3.0, 1.8.0; default 1.3.0), the file of a compiled schema, the folder of an extension, or tidemark. May be repeated. With --mode compat nothing is validated without it", func(s string) error {
		m.schemas = append(m.schemas, s)
		return nil
	})
	f.StringVar(&m.mode, "mode", string(mapping.Conform), "conform or compat; docs/mapping.md tells them apart")
	f.StringVar(&m.preprocessor, "preprocessor", "", "sysmon or alb; with alb every line is an event")
	f.StringVar(&m.expect, "expect", "", "`file` with the event that is expected of each, in the same order and form; null for one that is not mapped")
	file, err := f.parseFile(args)
	if err != nil {
		return err
	}
	switch {
	case m.mapping == "":
		return &usageError{"map test: want --mapping FILE"}
	}
	t, err := m.test()
	if err != nil {
		return &usageError{"map test: " + err.Error()}
	}
	in, err := openInput(file)
	if err != nil {
		return err
	}
	defer in.Close()
	t.name, t.next = file, newEventReader(in).next
	if m.preprocessor == string(mapping.ALB) {
		t.next = newLineReader(in).next
	}
	if m.expect != "" {
		wanted, err := openInput(m.expect)
		if err != nil {
			return err
		}
		defer wanted.Close()
		t.wanted = newEventReader(wanted)
	}
	t.stdout, t.stderr = bufio.NewWriter(out.stdout), bufio.NewWriter(out.stderr)
	err = t.run(ctx)
	return errors.Join(err, t.stdout.Flush(), t.stderr.Flush())
}

// test reads the mapping file and the schema.
func (m *mapFlags) test() (*mapTest, error) {
	text, err := os.ReadFile(m.mapping)
	if err != nil {
		return nil, err
	}
	cfg := mapping.Config{Mode: mapping.Mode(m.mode), Preprocessor: mapping.Preprocessor(m.preprocessor), Product: jobProduct(), Fixes: true}
	compile := mapping.CompileConform
	switch cfg.Mode {
	case mapping.Compat:
		compile = mapping.Compile
	case mapping.Conform:
	default:
		return nil, fmt.Errorf("--mode %q: want conform or compat", m.mode)
	}
	file, err := compile(m.mapping, text)
	if err != nil {
		return nil, err
	}
	t := &mapTest{reasons: map[mapping.Reason]int{}, errors: map[string]int{}}
	if cfg.Schema, err = m.readSchema(); err != nil {
		return nil, err
	}
	if cfg.Schema != nil {
		t.validator = cfg.Schema.Validator()
	}
	cfg.Source = cmp.Or(file.SourceName(), m.mapping)
	mapper, err := mapping.NewMapper(file, cfg)
	if err != nil {
		return nil, err
	}
	if t.mapped = mapper.Event; cfg.Preprocessor == mapping.ALB {
		t.mapped = mapper.Line
	}
	return t, nil
}

// readSchema returns the schema that the flags name, nil for none.
func (m *mapFlags) readSchema() (*ocsf.Schema, error) {
	var version ocsf.Version
	var files []string
	for _, name := range m.schemas {
		if v := ocsf.Version(name); v.Validate() == nil {
			version = v
		} else {
			files = append(files, name)
		}
	}
	if m.mode == string(mapping.Compat) && len(m.schemas) == 0 {
		return nil, nil
	}
	all, err := loadSchemas(files)
	if err != nil {
		return nil, fmt.Errorf("--schema: want 1.1.0, 1.3.0, 1.8.0, tidemark, a compiled schema or the folder of an extension: %w", err)
	}
	if version == "" {
		if version = ocsf.V130; len(all) == 1 {
			version = all[0].Version()
		}
	}
	for _, s := range all {
		if s.Version() == version {
			return s, nil
		}
	}
	return nil, fmt.Errorf("--schema: %s is not the version of the file", version)
}

// lineReader gives each line of a file as an event, without its end.
type lineReader struct {
	r    *bufio.Reader
	line int
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{r: bufio.NewReader(r)} }

func (r *lineReader) next() ([]byte, int, error) {
	for {
		b, err := r.r.ReadBytes('\n')
		r.line++
		if b = bytes.TrimRight(b, "\r\n"); len(b) > 0 || err != nil {
			if len(b) > 0 {
				err = nil
			}
			return b, r.line, err
		}
	}
}

// mapTest is one run of map test.
type mapTest struct {
	mapped    func([]byte) (mapping.Mapped, *mapping.Unmapped)
	validator *ocsf.Validator // nil for none
	next      func() (event []byte, line int, err error)
	wanted    *eventReader // nil for none
	name      string       // of the input
	stdout    *bufio.Writer
	stderr    *bufio.Writer

	events, made, valid, different, failed int
	fixes, left, lost, values, unmapped    int
	reasons                                map[mapping.Reason]int
	errors                                 map[string]int // by code
}

func (t *mapTest) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		event, line, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("map test: %s:%d: %w", t.name, line, err)
		}
		t.events++
		if err := t.event(event, fmt.Sprintf("%s:%d: event %d: ", t.name, line, t.events)); err != nil {
			return err
		}
	}
	if t.wanted != nil {
		if _, line, err := t.wanted.next(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("map test: --expect has more than %d events: line %d", t.events, line)
		}
	}
	t.printSummary()
	switch {
	case t.events == 0:
		return fmt.Errorf("map test: %s has no event", t.name)
	case t.failed > 0:
		return fmt.Errorf("map test: %d of %d events are not as they should be", t.failed, t.events)
	}
	return nil
}

// event maps one event and says what came of it; at begins every line.
func (t *mapTest) event(event []byte, at string) error {
	got, u := t.mapped(event)
	good := true
	if u != nil {
		t.reasons[u.Reason]++
		fmt.Fprintf(t.stderr, "%snot mapped: %s: %v\n", at, u.Reason, u)
		// A file need not have something for every event, but what it has must work.
		good = t.wanted != nil || u.Reason != mapping.NotConform && u.Reason != mapping.Failed
		got.Record = []byte("null")
	} else {
		good = t.print(event, got, at)
	}
	if t.wanted != nil {
		want, line, err := t.wanted.next()
		if err != nil {
			return fmt.Errorf("map test: --expect, event %d: %w", t.events, err)
		}
		same, err := t.compare(got.Record, want, at)
		if err != nil {
			return fmt.Errorf("map test: --expect, line %d: %w", line, err)
		}
		if !same {
			t.different++
			good = false
		}
	}
	if !good {
		t.failed++
	}
	return nil
}

// print prints an event and what there is to say of it. It returns whether it is valid.
func (t *mapTest) print(source []byte, got mapping.Mapped, at string) bool {
	t.made++
	fmt.Fprintf(t.stdout, "%s\n", got.Record)
	for _, f := range got.Fixes {
		fmt.Fprintf(t.stderr, "%s%v\n", at, f)
	}
	for _, l := range got.Leftovers {
		fmt.Fprintf(t.stderr, "%sleft over: %s: %s\n", at, l.Path, l.Text)
	}
	t.fixes, t.left = t.fixes+len(got.Fixes), t.left+len(got.Leftovers)
	if lost, err := ocsf.Dropped(source, got.Record); err == nil {
		t.lost += len(lost)
	}
	if t.validator == nil {
		return true
	}
	rep, err := t.validator.Validate(got.Record)
	if err != nil {
		rep.Errors = []ocsf.Finding{{Code: notJSON, Message: err.Error()}}
	}
	for _, f := range rep.Errors {
		t.errors[f.Code]++
		fmt.Fprintf(t.stderr, "%serror %s at %s: %s\n", at, f.Code, f.Path, f.Message)
	}
	for _, f := range rep.Warnings {
		fmt.Fprintf(t.stderr, "%swarning %s at %s: %s\n", at, f.Code, f.Path, f.Message)
	}
	t.values, t.unmapped = t.values+rep.Values, t.unmapped+rep.Unmapped
	if len(rep.Errors) > 0 {
		return false
	}
	t.valid++
	return true
}

// compare prints the differences of two events. The order of members does not matter, the
// spelling of numbers does: 24 is no 24.0.
func (t *mapTest) compare(got, want []byte, at string) (same bool, err error) {
	var values [2]any
	for i, b := range [][]byte{got, want} {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			return false, err
		}
	}
	var lines []string
	differences(&lines, "", values[0], values[1])
	for _, l := range lines {
		fmt.Fprintf(t.stderr, "%sdifference: %s\n", at, l)
	}
	return len(lines) == 0, nil
}

// differences appends a line for every value that differs.
func differences(lines *[]string, path string, got, want any) {
	g, gotObject := got.(map[string]any)
	w, wantObject := want.(map[string]any)
	if gotObject && wantObject {
		names := slices.Sorted(maps.Keys(g))
		for name := range w {
			if _, ok := g[name]; !ok {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			at := strings.TrimPrefix(path+"."+name, ".")
			switch {
			case !hasMember(g, name):
				*lines = append(*lines, fmt.Sprintf("%s: is not there, want %s", at, jsonText(w[name])))
			case !hasMember(w, name):
				*lines = append(*lines, fmt.Sprintf("%s: is %s, want nothing", at, jsonText(g[name])))
			default:
				differences(lines, at, g[name], w[name])
			}
		}
		return
	}
	a, gotList := got.([]any)
	b, wantList := want.([]any)
	if gotList && wantList && len(a) == len(b) {
		for i := range a {
			differences(lines, fmt.Sprintf("%s[%d]", path, i), a[i], b[i])
		}
		return
	}
	if x, y := jsonText(got), jsonText(want); x != y {
		*lines = append(*lines, fmt.Sprintf("%s: is %s, want %s", cmp.Or(path, "the event"), x, y))
	}
}

func hasMember(o map[string]any, name string) bool {
	_, ok := o[name]
	return ok
}

func jsonText(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// printSummary prints what came of all events.
func (t *mapTest) printSummary() {
	fmt.Fprintf(t.stderr, "%d events, %d mapped", t.events, t.made)
	if t.validator != nil {
		fmt.Fprintf(t.stderr, ", %d valid, %d invalid", t.valid, t.made-t.valid)
	}
	fmt.Fprintf(t.stderr, "; %d fixes, %d values left over, %d dropped", t.fixes, t.left, t.lost)
	if t.values > 0 {
		fmt.Fprintf(t.stderr, "; unmapped ratio %.3f", float64(t.unmapped)/float64(t.values))
	}
	if t.wanted != nil {
		fmt.Fprintf(t.stderr, "; %d differ from what is expected", t.different)
	}
	fmt.Fprintln(t.stderr)
	for _, reason := range slices.Sorted(maps.Keys(t.reasons)) {
		fmt.Fprintf(t.stderr, "%8d not mapped: %s\n", t.reasons[reason], reason)
	}
	for _, code := range slices.Sorted(maps.Keys(t.errors)) {
		fmt.Fprintf(t.stderr, "%8d error %s\n", t.errors[code], code)
	}
}

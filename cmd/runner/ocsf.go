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
)

const (
	// maxEventBytes bounds one event of a file; a longer one ends the command.
	maxEventBytes = 16 << 20

	// Codes of ours, beside those of the validator.
	notJSON      = "not_json"
	omitted      = "findings_omitted"
	droppedField = "dropped_field"
)

// cmdOCSF is the group of commands about OCSF.
func cmdOCSF(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "validate":
			return cmdOCSFValidate(ctx, args[1:], out)
		case "-h", "-help", "--help":
			return cmdOCSFValidate(ctx, args[:1], out)
		}
	}
	return &usageError{"ocsf: want validate; `tidemark ocsf --help` shows its flags"}
}

// validateFlags are the flags of ocsf validate.
type validateFlags struct {
	version, source, output string
	schemas                 []string
	warnings, recommended   bool
}

// cmdOCSFValidate checks the events of a file. An event that is not valid makes it fail.
func cmdOCSFValidate(ctx context.Context, args []string, out streams) error {
	f := newFlags("ocsf validate", "tidemark ocsf validate --schema tidemark --warnings events.jsonl",
		"checks the events of FILE, or of standard input for -, with the rules and codes of the OCSF server: a JSON array, or JSON objects one behind the other, one a line or not")
	var v validateFlags
	f.StringVar(&v.version, "version", "", "check against this OCSF `version` whatever the events say (default the one that each event names, or the highest there is)")
	f.Func("schema", "a compiled schema `file` (the official export), which then replaces the built-in 1.1.0, 1.3.0 and 1.8.0; or the folder of an extension to merge in; or tidemark, our own extension. May be repeated", func(s string) error {
		v.schemas = append(v.schemas, s)
		return nil
	})
	f.BoolVar(&v.warnings, "warnings", false, "print warnings too")
	f.BoolVar(&v.recommended, "recommended", false, "with --warnings: warn of recommended attributes that are missing")
	f.StringVar(&v.source, "source", "", "`file` with the source of each event, in the same order: prints the values that the events have lost")
	f.StringVar(&v.output, "o", "text", "`form` of the output: text or json, one object a line and the summary last")
	file, err := f.parseFile(args)
	if err != nil {
		return err
	}
	switch {
	case v.output != "text" && v.output != "json":
		return &usageError{fmt.Sprintf("ocsf validate: -o %q: want text or json", v.output)}
	case v.recommended && !v.warnings:
		return &usageError{"ocsf validate: --recommended gives warnings: add --warnings"}
	}
	validator, err := v.validator()
	if err != nil {
		return &usageError{"ocsf validate: " + err.Error()}
	}
	in, err := openInput(file)
	if err != nil {
		return err
	}
	defer in.Close()
	c := ocsfCheck{validator: validator, events: newEventReader(in), warnings: v.warnings,
		out: bufio.NewWriter(out.stdout), name: file, json: v.output == "json", sum: ocsfSummary{Errors: map[string]int{}}}
	if v.warnings {
		c.sum.Warnings = map[string]int{}
	}
	if v.source != "" {
		source, err := openInput(v.source)
		if err != nil {
			return err
		}
		defer source.Close()
		c.sources = newEventReader(source)
	}
	err = c.run(ctx)
	return errors.Join(err, c.out.Flush())
}

// openInput opens a file, or standard input for -.
func openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(name)
}

// validator has the schemas that the flags name, the highest version first.
func (v *validateFlags) validator() (*ocsf.Validator, error) {
	schemas, err := loadSchemas(v.schemas)
	if err != nil {
		return nil, fmt.Errorf("--schema %w", err)
	}
	var there []string
	for _, s := range schemas {
		there = append(there, string(s.Version()))
	}
	if v.version != "" {
		if schemas = slices.DeleteFunc(schemas, func(s *ocsf.Schema) bool { return string(s.Version()) != v.version }); len(schemas) == 0 {
			return nil, fmt.Errorf("--version %s: there is %s; name another compiled schema with --schema", v.version, strings.Join(there, ", "))
		}
	}
	slices.SortStableFunc(schemas, func(a, b *ocsf.Schema) int { return b.Compare(a) })
	validator := ocsf.NewValidator(schemas[0], schemas[1:]...)
	validator.Recommended = v.recommended
	return validator, nil
}

// ocsfCheck is one run of ocsf validate.
type ocsfCheck struct {
	validator *ocsf.Validator
	events    *eventReader
	sources   *eventReader // nil for none
	warnings  bool

	out  *bufio.Writer
	name string // of the input
	json bool

	sum              ocsfSummary
	values, unmapped int
}

// ocsfSummary is the last line of the output.
type ocsfSummary struct {
	Events   int            `json:"events"`
	Valid    int            `json:"valid"`
	Errors   map[string]int `json:"errors"`             // by code
	Warnings map[string]int `json:"warnings,omitempty"` // by code
	// UnmappedRatio is the share of values that lie in unmapped, Dropped the number of source
	// values that are nowhere.
	UnmappedRatio float64 `json:"unmapped_ratio"`
	Dropped       *int    `json:"dropped,omitempty"`
}

// ocsfFinding is a line of the output.
type ocsfFinding struct {
	Event int    `json:"event"` // from 1
	Line  int    `json:"line"`  // where the event begins
	Level string `json:"level"` // error, warning or dropped
	ocsf.Finding
}

func (c *ocsfCheck) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		event, line, err := c.events.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("ocsf validate: %s:%d: %w", c.name, line, err)
		}
		if err := c.event(event, line); err != nil {
			return err
		}
	}
	if c.sources != nil {
		if _, line, err := c.sources.next(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("ocsf validate: --source has more than %d events: line %d", c.sum.Events, line)
		}
	}
	if c.values > 0 {
		c.sum.UnmappedRatio = float64(c.unmapped) / float64(c.values)
	}
	if err := c.printSummary(); err != nil {
		return err
	}
	switch bad := c.sum.Events - c.sum.Valid; {
	case c.sum.Events == 0:
		return fmt.Errorf("ocsf validate: %s has no event", c.name)
	case bad > 0:
		return fmt.Errorf("ocsf validate: %d of %d events are not valid", bad, c.sum.Events)
	}
	return nil
}

func (c *ocsfCheck) event(event []byte, line int) error {
	c.sum.Events++
	report, err := c.validator.Validate(event)
	if err != nil {
		report.Errors = []ocsf.Finding{{Code: notJSON, Message: err.Error()}}
	}
	if len(report.Errors) == 0 {
		c.sum.Valid++
	}
	c.values, c.unmapped = c.values+report.Values, c.unmapped+report.Unmapped
	if err := c.print("error", line, report.Errors, c.sum.Errors); err != nil {
		return err
	}
	if c.warnings {
		if err := c.print("warning", line, report.Warnings, c.sum.Warnings); err != nil {
			return err
		}
	}
	if report.Omitted > 0 {
		left := []ocsf.Finding{{Code: omitted, Message: fmt.Sprintf("%d more findings are not listed", report.Omitted)}}
		if err := c.print("error", line, left, c.sum.Errors); err != nil {
			return err
		}
	}
	if c.sources == nil {
		return nil
	}
	source, _, err := c.sources.next()
	if err != nil {
		return fmt.Errorf("ocsf validate: --source, event %d: %w", c.sum.Events, err)
	}
	return c.dropped(source, event, line)
}

func (c *ocsfCheck) dropped(source, event []byte, line int) error {
	paths, err := ocsf.Dropped(source, event)
	if errors.Is(err, ocsf.ErrNotJSON) { // of the event, which is reported, or the source
		return c.print("dropped", line, []ocsf.Finding{{Code: notJSON, Message: err.Error()}}, map[string]int{})
	}
	if c.sum.Dropped == nil {
		c.sum.Dropped = new(int)
	}
	*c.sum.Dropped += len(paths)
	found := make([]ocsf.Finding, len(paths))
	for i, p := range paths {
		found[i] = ocsf.Finding{Code: droppedField, Path: p, Message: "the value is nowhere in the event"}
	}
	return c.print("dropped", line, found, map[string]int{})
}

func (c *ocsfCheck) print(level string, line int, found []ocsf.Finding, counts map[string]int) error {
	for _, f := range found {
		counts[f.Code]++
		if c.json {
			if err := json.NewEncoder(c.out).Encode(ocsfFinding{c.sum.Events, line, level, f}); err != nil {
				return err
			}
			continue
		}
		at := ""
		if f.Path != "" {
			at = " at " + f.Path
		}
		if _, err := fmt.Fprintf(c.out, "%s:%d: event %d: %s %s%s: %s\n", c.name, line, c.sum.Events, level, f.Code, at, f.Message); err != nil {
			return err
		}
	}
	return nil
}

func (c *ocsfCheck) printSummary() error {
	if c.json {
		return json.NewEncoder(c.out).Encode(struct {
			Summary ocsfSummary `json:"summary"`
		}{c.sum})
	}
	fmt.Fprintf(c.out, "%d events, %d valid; unmapped ratio %.3f\n", c.sum.Events, c.sum.Valid, c.sum.UnmappedRatio)
	if c.sum.Dropped != nil {
		fmt.Fprintf(c.out, "%d values of the source are nowhere in the events\n", *c.sum.Dropped)
	}
	for _, counts := range []struct {
		level  string
		byCode map[string]int
	}{{"error", c.sum.Errors}, {"warning", c.sum.Warnings}} {
		codes := slices.SortedFunc(maps.Keys(counts.byCode), func(a, b string) int {
			return cmp.Or(counts.byCode[b]-counts.byCode[a], strings.Compare(a, b))
		})
		for _, code := range codes {
			fmt.Fprintf(c.out, "%8d %s %s\n", counts.byCode[code], counts.level, code)
		}
	}
	return c.out.Flush()
}

// eventReader cuts a file into events: the elements of an array, or what stands in it
// one behind the other. Where the first line is a whole value every line is, so that a
// broken one costs no other; else the brackets tell. It holds one event.
type eventReader struct {
	r     *bufio.Reader
	form  form
	line  int // of the next byte, from 1
	event []byte
}

type form uint8

const (
	formUnknown form = iota
	formLines
	formValues
	formArray
	formArrayMore // behind an element
	formEnded
)

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{r: bufio.NewReaderSize(r, 64<<10), line: 1}
}

var errTooLong = fmt.Errorf("an event of more than %d MiB", maxEventBytes>>20)

// next returns the next event and the line on which it begins; io.EOF behind the last. The
// event is valid until the next call, and not checked.
func (r *eventReader) next() (event []byte, line int, err error) {
	r.event = r.event[:0]
	c, err := r.skipBlanks()
	line = r.line
	if r.form == formUnknown && err == nil {
		if c == '[' {
			r.form = formArray
			if c, err = r.skipBlanks(); err == nil && c == ']' {
				r.form = formEnded
				c, err = r.skipBlanks()
			}
			line = r.line
		} else {
			return r.first(c)
		}
	}
	if err == nil && r.form == formArrayMore {
		switch c {
		case ',':
			c, err = r.skipBlanks()
			line = r.line
		case ']':
			r.form = formEnded
			c, err = r.skipBlanks()
		default:
			return nil, line, fmt.Errorf("%q between the elements of the array, want , or ]", c)
		}
	}
	switch {
	case errors.Is(err, io.EOF) && (r.form == formArray || r.form == formArrayMore):
		return nil, line, errors.New("the array has no end")
	case err != nil:
		return nil, line, err
	case r.form == formEnded:
		return nil, line, fmt.Errorf("%q behind the array", c)
	case r.form == formLines:
		err = r.restOfLine(c)
		return r.event, line, err
	}
	if r.form == formArray {
		r.form = formArrayMore
	}
	err = r.value(c)
	return r.event, line, err
}

// first reads the first event and finds out the form of the file.
func (r *eventReader) first(c byte) ([]byte, int, error) {
	line := r.line
	if err := r.restOfLine(c); err != nil {
		return nil, line, err
	}
	if json.Valid(r.event) {
		r.form = formLines
		return r.event, line, nil
	}
	// The line goes back, and brackets tell where the event ends.
	r.form, r.line = formValues, line
	r.r = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(append(bytes.Clone(r.event[1:]), '\n')), r.r), 64<<10)
	r.event = r.event[:0]
	err := r.value(c)
	return r.event, line, err
}

func (r *eventReader) readByte() (byte, error) {
	c, err := r.r.ReadByte()
	if c == '\n' && err == nil {
		r.line++
	}
	return c, err
}

func (r *eventReader) skipBlanks() (byte, error) {
	for {
		c, err := r.readByte()
		if err != nil || c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, err
		}
	}
}

// restOfLine reads c and what is left of its line.
func (r *eventReader) restOfLine(c byte) error {
	r.event = append(r.event, c)
	for {
		part, err := r.r.ReadSlice('\n')
		r.event = append(r.event, part...)
		switch {
		case len(r.event) > maxEventBytes:
			return errTooLong
		case err == nil:
			r.line++
			r.event = r.event[:len(r.event)-1]
			return nil
		case errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// value reads the value that begins with c: to the bracket that closes it, or for another
// kind of value to the next comma, bracket or line.
func (r *eventReader) value(c byte) error {
	depth, quoted, escaped := 0, false, false
	for {
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		r.event = append(r.event, c)
		if len(r.event) > maxEventBytes {
			return errTooLong
		}
		if depth <= 0 && !quoted && (c == '}' || c == ']') {
			return nil
		}
		next, err := r.r.Peek(1)
		if depth == 0 && !quoted && err == nil && bytes.ContainsAny(next, ",]\n") {
			return nil
		}
		if c, err = r.readByte(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil // cut short, which whoever checks it says
			}
			return err
		}
	}
}

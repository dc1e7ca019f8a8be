package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// ReferenceConfig is a table in a file whose columns rows get by key.
type ReferenceConfig struct {
	Name string `yaml:"name"`
	// File is CSV with a header (.csv) or one JSON object a line (.jsonl, .ndjson). It is read
	// again when it changes; replace it by a rename, so that nobody reads half of it.
	File string `yaml:"file"`
	// Key are columns of the rows; the file has columns of the same names and types.
	Key []string `yaml:"key"`
	// Columns of the file that rows get, with their types: text, int, float, bool, time. Others
	// are not read.
	Columns map[string]string `yaml:"columns"`
	// Missing says what becomes of a row whose key the table does not have.
	Missing operators.UnknownPolicy `yaml:"missing"`
	// On says what gets the columns: rows, before the filter, or results, behind the window.
	On string `yaml:"on"`
}

const (
	onRows    = "rows"
	onResults = "results"
)

func (c *ReferenceConfig) setDefaults() { c.Missing, c.On = operators.UnknownNull, onRows }

const (
	// maxReferenceBytes is the largest file that is read.
	maxReferenceBytes = 256 << 20
	// referencePoll is how often files are looked at. One that has changed is read when it has
	// not changed any further since the look before.
	referencePoll = time.Second
)

var columnName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

var referenceTypes = map[string]arrow.DataType{
	"text": arrow.BinaryTypes.String, "int": arrow.PrimitiveTypes.Int64, "float": arrow.PrimitiveTypes.Float64,
	"bool": arrow.FixedWidthTypes.Boolean, "time": pipeline.Timestamp,
}

// Validate returns every problem that shows without the columns of the rows.
func (c ReferenceConfig) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !columnName.MatchString(c.Name) {
		add("name %q: name the table with lower-case letters, digits and _", c.Name)
	}
	switch filepath.Ext(c.File) {
	case ".csv", ".jsonl", ".ndjson":
	default:
		add("file %q: want the name of a .csv, .jsonl or .ndjson file", c.File)
	}
	switch {
	case c.On != onRows && c.On != onResults:
		add("on %q: known are %s, %s", c.On, onRows, onResults)
	case c.On == onResults && c.Missing != operators.UnknownNull:
		add("missing %s: results are never dropped; take %s, or a table on rows", c.Missing, operators.UnknownNull)
	}
	if len(c.Key) == 0 {
		add("key: missing: the columns by which rows find their row of the table")
	}
	if len(c.Columns) == 0 {
		add("columns: missing: those that rows shall get, with their types")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Columns)) {
		if !columnName.MatchString(name) {
			add("columns: %q: want lower-case letters, digits and _", name)
		}
		if slices.Contains(c.Key, name) {
			add("columns: %s is the key, which rows have already", name)
		}
		if referenceTypes[c.Columns[name]] == nil {
			add("columns: %s has type %q: known are text, int, float, bool, time", name, c.Columns[name])
		}
	}
	errs = append(errs, operators.EnrichConfig{Name: "reference", Missing: c.Missing}.Validate())
	return errors.Join(errs...)
}

// fields returns the columns that rows of the given schema get, by name, and the key's.
func (c ReferenceConfig) fields(rows *arrow.Schema) (keys, columns []arrow.Field, err error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	keyer, err := pipeline.NewKeyer(rows, c.Key, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range keyer.Fields() {
		if scale, ok := f.Metadata.GetValue(pipeline.ScaleKey); ok && scale != "0" {
			return nil, nil, fmt.Errorf("key column %q has %s digits behind the point: a key is text, a whole number, a bool or a time", f.Name, scale)
		}
		keys = append(keys, arrow.Field{Name: f.Name, Type: f.Type})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Columns)) {
		columns = append(columns, arrow.Field{Name: name, Type: referenceTypes[c.Columns[name]], Nullable: true})
	}
	return keys, columns, nil
}

// enrichRows returns the schema of rows with the columns of all tables, each of which may be
// looked up by columns of those before it. The problem of table i is told to bad.
func enrichRows(refs []ReferenceConfig, on string, rows *arrow.Schema, bad func(i int, err error)) *arrow.Schema {
	names := map[string]bool{}
	for i, c := range refs {
		if c.On != on {
			names[c.Name] = true
			continue
		}
		_, columns, err := c.fields(rows)
		if names[c.Name] {
			err = errors.Join(err, fmt.Errorf("name %s: another table has it", c.Name))
		}
		names[c.Name] = true
		next := rows
		if err == nil {
			next, err = operators.EnrichSchema(rows, columns)
		}
		if err != nil {
			bad(i, err)
			continue
		}
		rows = next
	}
	return rows
}

// references are the files that a job reads at start and again when they change: reference
// tables, and what its domain needs to know.
type references struct {
	job     string
	log     *slog.Logger
	list    []*reference
	updates chan pipeline.Reference
	metrics referenceMetrics
}

// reference is a file and what was read of it.
type reference struct {
	name, file string
	// cfg is of a reference table, nil of a domain's file.
	cfg        *ReferenceConfig
	parse      func(b []byte) (pipeline.Reference, error)
	read, seen fileStamp // of the content that was read, and at the last look

	mu      sync.Mutex // guards below
	content pipeline.Reference
	loaded  time.Time
	failure string // of the last reload
	told    bool   // that the checkpoint had another version
}

// what says what kind of file it is.
func (ref *reference) what() string {
	if ref.cfg == nil {
		return "file"
	}
	return "reference table"
}

// entries is how many rows a content has, or what else a domain's file counts.
func entries(ref pipeline.Reference) int {
	if ref.Table != nil {
		return ref.Table.NumRows()
	}
	if v, ok := ref.Value.(interface{ Len() int }); ok {
		return v.Len()
	}
	return 0
}

// fileStamp changes when a file does. Zero: there is none.
type fileStamp struct {
	mtime time.Time
	size  int64
}

func stampOf(file string) fileStamp {
	info, err := os.Stat(file)
	if err != nil {
		return fileStamp{} // reading it says why
	}
	return fileStamp{info.ModTime(), info.Size()}
}

type referenceMetrics struct {
	rows, loaded *prometheus.GaugeVec
	failures     *prometheus.CounterVec
}

// openReferences reads the tables and files of a job; nil when it has none. The job must not
// begin when one cannot be read.
func openReferences(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*references, error) {
	if _, domain := cfg.domainSection(); domain == nil && len(cfg.Reference) == 0 {
		return nil, nil
	}
	p, err := planOf(cfg)
	if err != nil {
		return nil, err
	}
	list, err := p.references()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	labels := prometheus.Labels{"job": cfg.Job}
	r := &references{job: cfg.Job, log: log, updates: make(chan pipeline.Reference), metrics: referenceMetrics{
		rows:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_reference_rows", Help: "Rows of a reference table, or entries of another file.", ConstLabels: labels}, []string{"reference"}),
		loaded:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_reference_loaded_timestamp_seconds", Help: "When the reference table in use was read.", ConstLabels: labels}, []string{"reference"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_reference_reload_failures_total", Help: "Contents of a reference file that could not be used; the table before stayed.", ConstLabels: labels}, []string{"reference"}),
	}}
	for _, c := range []prometheus.Collector{r.metrics.rows, r.metrics.loaded, r.metrics.failures} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("reference metrics of job %s: %w", cfg.Job, err)
		}
	}
	for _, ref := range list {
		ref.read = stampOf(ref.file)
		ref.seen = ref.read
		content, err := ref.load()
		if err != nil {
			return nil, fmt.Errorf("reference %s: %w", ref.name, err)
		}
		r.use(ref, content, ref.what())
		r.metrics.failures.WithLabelValues(ref.name).Add(0)
		r.list = append(r.list, ref)
	}
	return r, nil
}

// references describes the files of the job, none of which is read.
func (p *plan) references() ([]*reference, error) {
	var list []*reference
	for i, c := range p.cfg.Reference {
		rows := p.decoded
		if c.On == onResults {
			rows = p.folded
		}
		var err error
		rows = enrichRows(p.cfg.Reference[:i], c.On, rows, func(_ int, e error) { err = e })
		if err != nil {
			return nil, fmt.Errorf("reference %s: %w", c.Name, err)
		}
		keys, columns, err := c.fields(rows)
		if err != nil {
			return nil, fmt.Errorf("reference %s: %w", c.Name, err)
		}
		list = append(list, &reference{name: c.Name, file: c.File, cfg: &c, parse: func(b []byte) (pipeline.Reference, error) {
			t, err := parseTable(c.File, b, keys, columns)
			if err != nil {
				return pipeline.Reference{}, err
			}
			return pipeline.Reference{Name: c.Name, Table: t, Version: t.Version}, nil
		}})
	}
	if p.dom == nil {
		return list, nil
	}
	for _, f := range p.dom.files {
		list = append(list, &reference{name: f.name, file: f.path, parse: func(b []byte) (pipeline.Reference, error) {
			v, err := f.parse(b)
			return pipeline.Reference{Name: f.name, Value: v, Version: versionOf(b)}, err
		}})
	}
	return list, nil
}

// versionOf names a content by its hash.
func versionOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// use notes that a content is in use.
func (r *references) use(ref *reference, content pipeline.Reference, message string) {
	ref.mu.Lock()
	ref.content, ref.loaded, ref.failure = content, time.Now(), ""
	ref.mu.Unlock()
	r.metrics.rows.WithLabelValues(ref.name).Set(float64(entries(content)))
	r.metrics.loaded.WithLabelValues(ref.name).SetToCurrentTime()
	r.log.Info(message, "reference", ref.name, "file", ref.file, "rows", entries(content), "version", content.Version)
}

// watch reads files that have changed until ctx is done, and sends what they hold to the job.
func (r *references) watch(ctx context.Context) error {
	t := time.NewTicker(referencePoll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			for _, ref := range r.list {
				r.look(ctx, ref)
			}
		}
	}
}

// look reads a file that has changed, unless it changes still. What cannot be read leaves the
// content as it is.
func (r *references) look(ctx context.Context, ref *reference) {
	now := stampOf(ref.file)
	settled := now == ref.seen
	ref.seen = now
	if now == ref.read || !settled {
		return
	}
	ref.read = now
	content, err := ref.load()
	if err != nil {
		r.metrics.failures.WithLabelValues(ref.name).Inc()
		ref.mu.Lock()
		ref.failure = err.Error()
		version := ref.content.Version
		ref.mu.Unlock()
		r.log.Warn(ref.what()+" was not replaced", "reference", ref.name, "version", version, "err", err)
		return
	}
	if content.Version == ref.content.Version {
		ref.mu.Lock()
		ref.failure = ""
		ref.mu.Unlock()
		return
	}
	select {
	case r.updates <- content:
		r.use(ref, content, ref.what()+" replaced")
	case <-ctx.Done():
	}
}

// enrich builds the operators of one shard that add the tables' columns, and returns the
// schema of their rows.
func (r *references) enrich(on string, rows *arrow.Schema, mem memory.Allocator) ([]pipeline.Operator, error) {
	if r == nil {
		return nil, nil
	}
	var chain []pipeline.Operator
	for _, ref := range r.list {
		if ref.cfg == nil || ref.cfg.On != on {
			continue
		}
		cfg := operators.EnrichConfig{Name: ref.name, Key: ref.cfg.Key, Missing: ref.cfg.Missing, Restored: func(version string) { r.restored(ref, version) }}
		ref.mu.Lock()
		e, err := operators.NewEnrich(cfg, rows, ref.content.Table, mem)
		ref.mu.Unlock()
		if err != nil {
			return nil, err
		}
		rows, chain = e.Schema(), append(chain, e)
	}
	return chain, nil
}

// values returns what was read of a domain's files, by name.
func (r *references) values() map[string]any {
	out := map[string]any{}
	if r == nil {
		return out
	}
	for _, ref := range r.list {
		if ref.cfg == nil {
			ref.mu.Lock()
			out[ref.name] = ref.content.Value
			ref.mu.Unlock()
		}
	}
	return out
}

// restored is told which version of a table the checkpoint was made with, by every shard.
func (r *references) restored(ref *reference, version string) {
	ref.mu.Lock()
	defer ref.mu.Unlock()
	if version != ref.content.Version && !ref.told {
		ref.told = true
		r.log.Warn("reference table is not the one of the checkpoint: rows from here on get what it has now",
			"reference", ref.name, "checkpoint", version, "version", ref.content.Version)
	}
}

// referenceStatus is a table as /api/v1/status shows it.
type referenceStatus struct {
	Name    string    `json:"reference"`
	File    string    `json:"file"`
	Rows    int       `json:"rows"`
	Version string    `json:"version"` // of the content
	Loaded  time.Time `json:"loaded_at"`
	Failure string    `json:"reload_error,omitempty"` // of the content found since
}

func (r *references) status() []referenceStatus {
	if r == nil {
		return nil
	}
	var out []referenceStatus
	for _, ref := range r.list {
		ref.mu.Lock()
		out = append(out, referenceStatus{ref.name, ref.file, entries(ref.content), ref.content.Version, ref.loaded, ref.failure})
		ref.mu.Unlock()
	}
	return out
}

// load reads the file.
func (ref *reference) load() (pipeline.Reference, error) {
	f, err := os.Open(ref.file)
	if err != nil {
		return pipeline.Reference{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxReferenceBytes+1))
	if err != nil {
		return pipeline.Reference{}, err
	}
	if len(b) > maxReferenceBytes {
		return pipeline.Reference{}, fmt.Errorf("%s: has more than %d bytes, the most that are read", ref.file, maxReferenceBytes)
	}
	return ref.parse(b)
}

// parseTable reads a table, strictly. An error names the line. The version is a hash of b.
func parseTable(file string, b []byte, keys, columns []arrow.Field) (*pipeline.Table, error) {
	// Go's memory: nobody releases a table.
	t := &tableBuilder{keys: len(keys), rows: array.NewRecordBuilder(memory.NewGoAllocator(), arrow.NewSchema(slices.Concat(keys, columns), nil))}
	version := versionOf(b)
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	for n, line := 1, b; !utf8.Valid(line); n++ {
		first, rest, _ := bytes.Cut(line, []byte("\n"))
		if !utf8.Valid(first) {
			return nil, fmt.Errorf("%s:%d: is not UTF-8", file, n)
		}
		line = rest
	}
	read := t.jsonLines
	if filepath.Ext(file) == ".csv" {
		read = t.csv
	}
	if line, err := read(b); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, line, err)
	}
	table, err := pipeline.NewTable(t.rows.NewRecordBatch(), len(keys), version)
	if twice := (*pipeline.DuplicateKeyError)(nil); errors.As(err, &twice) {
		return nil, fmt.Errorf("%s:%d: its key is there already, at line %d", file, t.lines[twice.Second], t.lines[twice.First])
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return table, nil
}

// tableBuilder collects the rows of a table: the key's columns, then the others.
type tableBuilder struct {
	rows  *array.RecordBuilder
	keys  int
	lines []int // of every row
}

// csv reads a header and rows. An empty cell is null. On error it returns the line.
func (t *tableBuilder) csv(b []byte) (line int, err error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.ReuseRecord = true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return 1, errors.New("is empty: want a header with the names of the columns")
	}
	if err != nil {
		return 1, csvError(err)
	}
	var at []int
	for _, f := range t.rows.Schema().Fields() {
		i := slices.Index(header, f.Name)
		if i < 0 {
			return 1, fmt.Errorf("has no column %s; it has %q", f.Name, header)
		}
		if slices.Contains(header[i+1:], f.Name) {
			return 1, fmt.Errorf("has column %s twice", f.Name)
		}
		at = append(at, i)
	}
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
			return parse.Line, csvError(err)
		}
		if err != nil {
			return 0, err
		}
		line, _ := r.FieldPos(0)
		t.lines = append(t.lines, line)
		for i, from := range at {
			if err := t.value(i, rec[from], rec[from] == ""); err != nil {
				return line, err
			}
		}
	}
}

// csvError leaves out the place, which whoever calls names.
func csvError(err error) error {
	if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
		return parse.Err
	}
	return err
}

// jsonLines reads an object a line; a field that an object does not have is null. On error it
// returns the line.
func (t *tableBuilder) jsonLines(b []byte) (line int, err error) {
	fields := t.rows.Schema().Fields()
	at := map[string]int{}
	for i, f := range fields {
		at[f.Name] = i
	}
	values, given := make([]any, len(fields)), make([]bool, len(fields))
	for text := range bytes.Lines(b) {
		line++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		clear(values)
		clear(given)
		if err := readObject(text, func(name string, v any) error {
			i, ok := at[name]
			if ok && given[i] {
				return fmt.Errorf("has field %s twice", name)
			}
			if ok {
				values[i], given[i] = v, true
			}
			return nil
		}); err != nil {
			return line, err
		}
		t.lines = append(t.lines, line)
		for i, v := range values {
			text, null, err := textOf(fields[i], v)
			if err == nil {
				err = t.value(i, text, null)
			}
			if err != nil {
				return line, err
			}
		}
	}
	return 0, nil
}

// readObject calls yield with the fields of a JSON object, which is all that text holds.
func readObject(text []byte, yield func(name string, v any) error) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return errors.New("is no JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return err
		}
		if err := yield(name.(string), v); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("the object is cut off: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has something behind the object")
	}
	return nil
}

// textOf returns a JSON value of a field as a CSV cell has it.
func textOf(f arrow.Field, v any) (text string, null bool, err error) {
	ok := false
	switch v := v.(type) {
	case nil:
		return "", true, nil
	case string:
		text, ok = v, f.Type.ID() == arrow.STRING || f.Type.ID() == arrow.TIMESTAMP
	case json.Number:
		text, ok = v.String(), f.Type.ID() == arrow.INT64 || f.Type.ID() == arrow.INT32 || f.Type.ID() == arrow.FLOAT64
	case bool:
		text, ok = strconv.FormatBool(v), f.Type.ID() == arrow.BOOL
	}
	if !ok {
		b, _ := json.Marshal(v) // it was read from JSON
		return "", false, fmt.Errorf("%s: %s is not %s", f.Name, short(string(b)), wanted(f.Type))
	}
	return text, false, nil
}

// value appends a value to column i.
func (t *tableBuilder) value(i int, text string, null bool) error {
	f := t.rows.Schema().Field(i)
	if null {
		if i < t.keys {
			return fmt.Errorf("%s: is missing, and is part of the key", f.Name)
		}
		t.rows.Field(i).AppendNull()
		return nil
	}
	var err error
	switch b := t.rows.Field(i).(type) {
	case *array.StringBuilder:
		b.Append(text)
	case *array.Int64Builder:
		var v int64
		v, err = strconv.ParseInt(text, 10, 64)
		b.Append(v)
	case *array.Int32Builder:
		var v int64
		v, err = strconv.ParseInt(text, 10, 32)
		b.Append(int32(v))
	case *array.Float64Builder:
		var v float64
		if v, err = strconv.ParseFloat(text, 64); math.IsNaN(v) || math.IsInf(v, 0) {
			err = errors.New("not finite")
		}
		b.Append(v)
	case *array.BooleanBuilder:
		if text != "true" && text != "false" {
			err = errors.New("neither")
		}
		b.Append(text == "true")
	case *array.TimestampBuilder:
		var v time.Time
		v, err = time.Parse(time.RFC3339, text)
		at := v.UnixMicro()
		if at < pipeline.MinEventTime || at >= pipeline.MaxEventTime { // no sink can hold it
			err = errors.New("out of range")
		}
		b.Append(arrow.Timestamp(at))
	}
	if err != nil {
		return fmt.Errorf("%s: %q is not %s", f.Name, short(text), wanted(f.Type))
	}
	return nil
}

func wanted(t arrow.DataType) string {
	switch t.ID() {
	case arrow.INT64, arrow.INT32:
		return "a whole number"
	case arrow.FLOAT64:
		return "a number"
	case arrow.BOOL:
		return "true or false"
	case arrow.TIMESTAMP:
		return "a time such as 2026-01-31T14:00:00Z, from 1900 to 2299"
	}
	return "text"
}

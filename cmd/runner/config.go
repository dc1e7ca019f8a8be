package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	"github.com/tidemark/tidemark/sinks/parquet"
	"github.com/tidemark/tidemark/sources/kafka"
)

// Config is a job file.
type Config struct {
	Job       string              `yaml:"job"`
	Feed      string              `yaml:"feed"`   // ble, pdu or traffic
	Format    string              `yaml:"format"` // json
	Source    SourceConfig        `yaml:"source"`
	Fields    map[string]FieldMap `yaml:"fields"`
	EventTime EventTimeConfig     `yaml:"event_time"`
	Limits    LimitsConfig        `yaml:"limits"`
	// Filter keeps the rows for which it is true, for example rssi_dbm >= -90.
	Filter string `yaml:"filter"`
	// Dedupe lets the first of equal rows through.
	Dedupe      *DedupeConfig     `yaml:"dedupe"`
	Window      WindowConfig      `yaml:"window"`
	Normalize   NormalizeConfig   `yaml:"normalize"`
	Sinks       []SinkConfig      `yaml:"sinks"`
	Checkpoint  CheckpointConfig  `yaml:"checkpoint"`
	HTTP        HTTPConfig        `yaml:"http"`
	Parallelism ParallelismConfig `yaml:"parallelism"`
	// StopTimeout bounds the last checkpoint after a stop was asked for.
	StopTimeout time.Duration `yaml:"stop_timeout"`
}

// SourceConfig names the source; there is one kind.
type SourceConfig struct {
	Kafka kafka.Config `yaml:"kafka"`
}

// FieldMap says where a field of the feed is in the user's payload: a path, or a path and
// the unit of a time.
type FieldMap schemas.FieldMap

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *FieldMap) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		f.Path = n.Value
		return nil
	}
	var d document
	d.mapping(n, valueOf((*schemas.FieldMap)(f)), "")
	if len(d.problems) > 0 {
		return errors.New(strings.TrimPrefix(d.problems[0].text, ": "))
	}
	return nil
}

// EventTimeConfig holds the rules of time.
type EventTimeConfig struct {
	// MaxDisorder is by how much a row may be behind the newest of its split.
	MaxDisorder time.Duration `yaml:"max_disorder"`
	// MaxAhead is by how much a row may be ahead of its broker timestamp; Future says what
	// becomes of one that is further.
	MaxAhead     time.Duration           `yaml:"max_ahead"`
	Future       operators.FuturePolicy  `yaml:"future"`
	Missing      operators.MissingPolicy `yaml:"missing"`
	MissingBound time.Time               `yaml:"missing_bound"`
	// Align is by how much event time a partition may be ahead of the one that holds the
	// mark before it waits for it.
	Align time.Duration `yaml:"align"`
	// QuietAfter is the silence, in broker time, after which a partition that was read to
	// its end no longer holds the others back; never is allowed.
	QuietAfter Quiet `yaml:"quiet_after"`
}

// Quiet is a duration in ticks, or never.
type Quiet int64

// UnmarshalYAML implements yaml.Unmarshaler.
func (q *Quiet) UnmarshalYAML(n *yaml.Node) error {
	if n.Value == "never" {
		*q = Quiet(pipeline.MaxTicks)
		return nil
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 60s, or never", n.Value)
	}
	*q = Quiet(pipeline.Ticks(d))
	return nil
}

// LimitsConfig bounds what one record may cost.
type LimitsConfig struct {
	MaxRecordBytes int `yaml:"max_record_bytes"`
	RawBytes       int `yaml:"raw_bytes"` // of a refused record that its Dead row keeps
	JSONDepth      int `yaml:"json_depth"`
	JSONKeys       int `yaml:"json_keys"`
	StringBytes    int `yaml:"string_bytes"`
}

// WindowConfig is the keyed operator.
type WindowConfig struct {
	ID string `yaml:"id"`
	// One of the three says how windows lie.
	Tumbling time.Duration   `yaml:"tumbling"`
	Hopping  *HoppingConfig  `yaml:"hopping"`
	Cumulate *CumulateConfig `yaml:"cumulate"`
	Offset   time.Duration   `yaml:"offset"`
	// Zone makes tumbling windows of 2 hours and more follow the clock of a place.
	Zone      string            `yaml:"zone"`
	Lateness  time.Duration     `yaml:"lateness"`
	Trigger   operators.Trigger `yaml:"trigger"`
	Early     EarlyConfig       `yaml:"early"`
	LateRows  int               `yaml:"late_rows"`
	LateDelay time.Duration     `yaml:"late_delay"`
	Discard   bool              `yaml:"discard"`
	// SkipUnchanged leaves out a revision whose values are those of the one before.
	SkipUnchanged bool              `yaml:"skip_unchanged"`
	Key           []string          `yaml:"key"`
	Aggregates    []AggregateConfig `yaml:"aggregates"`
}

// DedupeConfig says in which columns duplicates agree, the window's key among them, and how
// far apart in event time they are at most.
type DedupeConfig struct {
	Columns []string      `yaml:"columns"`
	Within  time.Duration `yaml:"within"`
}

// HoppingConfig is windows of one size that begin every slide.
type HoppingConfig struct {
	Size  time.Duration `yaml:"size"`
	Slide time.Duration `yaml:"slide"`
}

// CumulateConfig is windows that begin every size and end after one, two, ... steps.
type CumulateConfig struct {
	Size time.Duration `yaml:"size"`
	Step time.Duration `yaml:"step"`
}

// EarlyConfig says when a window shows what it has before its end; 0 for not.
type EarlyConfig struct {
	Rows  int           `yaml:"rows"`  // of a key that wait
	Delay time.Duration `yaml:"delay"` // of wall time after the first that waits
	Every time.Duration `yaml:"every"` // of event time
}

// AggregateConfig is one aggregate.
type AggregateConfig struct {
	Fn     string `yaml:"fn"`
	Column string `yaml:"column"`
	As     string `yaml:"as"`
}

// NormalizeConfig says what the results become.
type NormalizeConfig struct {
	To      string       `yaml:"to"` // ocsf or none
	Dialect string       `yaml:"dialect"`
	Version ocsf.Version `yaml:"version"`
}

// SinkConfig names one sink.
type SinkConfig struct {
	Parquet    *ParquetConfig    `yaml:"parquet"`
	ClickHouse *ClickHouseConfig `yaml:"clickhouse"`
}

// ParquetConfig is a folder of Parquet files: results in <table>, late rows in
// <table>_late, dead records in <table>_dead.
type ParquetConfig struct {
	Dir            string `yaml:"dir"`
	parquet.Config `yaml:",inline"`
}

func (c *ParquetConfig) setDefaults() {
	c.Config = parquet.DefaultConfig()
	c.TimeColumn = "" // follows from normalize
}

// ClickHouseConfig is a table of results, <table>, one of late rows, <table>_late, and one
// of dead records, <table>_dead.
type ClickHouseConfig struct {
	clickhouse.Config `yaml:",inline"`
}

func (c *ClickHouseConfig) setDefaults() {
	c.Config = clickhouse.DefaultConfig()
	c.TimeColumn = "" // follows from normalize
}

// CheckpointConfig says where the job keeps its state.
type CheckpointConfig struct {
	Dir      string        `yaml:"dir"`
	Interval time.Duration `yaml:"interval"`
	Keep     int           `yaml:"keep"`
}

// HTTPConfig is the job's own server; an empty address turns it off.
type HTTPConfig struct {
	Listen    string `yaml:"listen"`
	TokenFile string `yaml:"token_file"` // what a POST must bring
}

// ParallelismConfig says how many goroutines work.
type ParallelismConfig struct {
	Shards   int `yaml:"shards"`
	Decoders int `yaml:"decoders"`
}

// DefaultConfig holds the defaults of every feed; the key and the aggregates come with
// the feed.
func DefaultConfig() Config {
	dec, lim := operators.DefaultDecodeConfig(), schemas.DefaultLimits()
	return Config{
		Format: "json",
		Source: SourceConfig{Kafka: kafka.DefaultConfig()},
		EventTime: EventTimeConfig{MaxDisorder: 30 * time.Second, MaxAhead: dec.MaxAhead, Future: dec.Future, Missing: dec.Missing,
			MissingBound: dec.MissingBound, Align: 5 * time.Minute, QuietAfter: Quiet(pipeline.Ticks(time.Minute))},
		Limits:      LimitsConfig{MaxRecordBytes: dec.MaxRecordBytes, RawBytes: dec.RawLimit, JSONDepth: lim.Depth, JSONKeys: lim.Keys, StringBytes: lim.StringBytes},
		Window:      WindowConfig{Trigger: operators.OnMark, LateDelay: 10 * time.Second},
		Normalize:   NormalizeConfig{To: "ocsf", Dialect: "core", Version: ocsf.V130},
		Checkpoint:  CheckpointConfig{Interval: 5 * time.Second, Keep: 3},
		HTTP:        HTTPConfig{Listen: "127.0.0.1:9464"},
		Parallelism: ParallelismConfig{Shards: max(1, runtime.GOMAXPROCS(0)/2), Decoders: max(1, runtime.GOMAXPROCS(0)/2)},
		StopTimeout: 30 * time.Second,
	}
}

// loadConfig reads a job file. The error names every problem with its place.
func loadConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("job file: %w", err)
	}
	return parseConfig(path, b)
}

func parseConfig(path string, b []byte) (Config, error) {
	d, err := parseYAML(path, b)
	if err != nil {
		return Config{}, &configError{[]string{err.Error()}}
	}
	cfg := DefaultConfig()
	if n := child(d.root, "feed"); n != nil {
		if f, err := feedOf(n.Value); err == nil { // an unknown feed is reported by validate
			cfg.Window.Key, cfg.Window.Aggregates = f.key, f.aggregates
		}
	}
	d.decode(&cfg)
	cfg.resolve()
	cfg.validate(d)
	return cfg, d.err()
}

// resolve fills in what follows from other settings.
func (c *Config) resolve() {
	if c.Window.ID == "" {
		c.Window.ID = strings.ReplaceAll(c.Job, "-", "_")
	}
	if c.Checkpoint.Dir == "" {
		c.Checkpoint.Dir = filepath.Join("tidemark-state", c.Job)
	}
	table := strings.ReplaceAll(c.Job, "-", "_")
	sortBy, timeColumn := append(slices.Clone(c.Window.Key), "window_start"), "window_start"
	if c.Window.Cumulate != nil { // several windows begin at one start
		sortBy = append(sortBy, "window_end")
	}
	if c.Normalize.To == "ocsf" {
		sortBy, timeColumn = []string{"metadata.uid"}, "time"
	}
	for _, s := range c.Sinks {
		if p := s.Parquet; p != nil {
			p.Job = c.Job
			p.Table = cmp.Or(p.Table, table)
			p.TimeColumn = cmp.Or(p.TimeColumn, timeColumn)
			if p.SortBy == nil {
				p.SortBy = sortBy
			}
		}
		if h := s.ClickHouse; h != nil {
			h.Job = c.Job
			h.Table = cmp.Or(h.Table, table)
			h.TimeColumn = cmp.Or(h.TimeColumn, timeColumn)
			if h.OrderBy == nil {
				h.OrderBy = sortBy
			}
		}
	}
}

var jobName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// validate adds every problem of the settings to the document.
func (c *Config) validate(d *document) {
	bad := func(path, format string, args ...any) {
		d.add(d.node(strings.Split(path, ".")...), path, format, args...)
	}
	if !jobName.MatchString(c.Job) {
		bad("job", "%q: name the job with lower-case letters, digits, - and _", c.Job)
	}
	f, err := feedOf(c.Feed)
	if err != nil {
		bad("feed", "%v", err)
	}
	if c.Format != "json" {
		bad("format", "%q: only json is known", c.Format)
	}
	d.invalid(c.Source.Kafka.Validate(), "source", "kafka")
	if c.EventTime.MaxDisorder < 0 {
		bad("event_time.max_disorder", "%v: must not be negative", c.EventTime.MaxDisorder)
	}
	if c.EventTime.Align < 0 {
		bad("event_time.align", "%v: must not be negative", c.EventTime.Align)
	}
	switch c.Normalize.To {
	case "none":
	case "ocsf":
		if c.Normalize.Dialect != "core" {
			bad("normalize.dialect", "%q: only core is known", c.Normalize.Dialect)
		}
		d.invalid(c.Normalize.Version.Validate(), "normalize")
	default:
		bad("normalize.to", "%q: want ocsf or none", c.Normalize.To)
	}
	for i, s := range c.Sinks {
		at := fmt.Sprint(i)
		switch {
		case s.Parquet != nil && s.ClickHouse != nil:
			bad("sinks."+at, "two kinds of sink in one entry: make two")
		case s.Parquet != nil:
			if s.Parquet.Dir == "" {
				bad("sinks."+at+".parquet.dir", "missing: where the files go")
			}
			d.invalid(s.Parquet.Validate(), "sinks", at, "parquet")
		case s.ClickHouse != nil:
			d.invalid(s.ClickHouse.Validate(), "sinks", at, "clickhouse")
		default:
			bad("sinks."+at, "name a kind of sink: parquet or clickhouse")
		}
	}
	if c.Checkpoint.Interval < 10*time.Millisecond {
		bad("checkpoint.interval", "%v: at least 10ms", c.Checkpoint.Interval)
	}
	if c.Checkpoint.Keep < 1 || c.Checkpoint.Keep > 1000 {
		bad("checkpoint.keep", "%d: want 1 to 1000", c.Checkpoint.Keep)
	}
	if c.HTTP.Listen != "" {
		host, _, err := net.SplitHostPort(c.HTTP.Listen)
		switch {
		case err != nil:
			bad("http.listen", "%q: want host:port, or nothing to turn it off", c.HTTP.Listen)
		case !loopback(host) && c.HTTP.TokenFile == "":
			bad("http.listen", "%q can be reached from other machines: that needs http.token_file; 127.0.0.1 does not", c.HTTP.Listen)
		}
	}
	if n := c.Parallelism; n.Shards < 1 || n.Shards > pipeline.NumGroups {
		bad("parallelism.shards", "%d: want 1 to %d", n.Shards, pipeline.NumGroups)
	}
	if n := c.Parallelism; n.Decoders < 1 || n.Decoders > 256 {
		bad("parallelism.decoders", "%d: want 1 to 256", n.Decoders)
	}
	if c.StopTimeout < 0 {
		bad("stop_timeout", "%v: must not be negative", c.StopTimeout)
	}
	if err != nil {
		return // what follows needs the feed
	}
	c.validateRows(d, f)
}

// validateRows checks what depends on the columns of the feed, by building it.
func (c *Config) validateRows(d *document, f feed) {
	kinds := 0
	for _, given := range []bool{child(d.node("window"), "tumbling") != nil, c.Window.Hopping != nil, c.Window.Cumulate != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		d.add(d.node("window"), "window", "say how windows lie by one of tumbling, hopping and cumulate")
	}
	if _, err := time.LoadLocation(c.Window.Zone); err != nil {
		d.add(d.node("window", "zone"), "window.zone", "%q is no time zone, such as Europe/Amsterdam", c.Window.Zone)
	}
	if kinds == 1 && c.Window.Hopping == nil && c.Window.Cumulate == nil && c.Window.Tumbling <= 0 {
		d.add(d.node("window", "tumbling"), "window.tumbling", "%v: a window must be longer than that", c.Window.Tumbling)
	}
	fields, err := schemas.Override(f.fields(), c.fieldMaps())
	d.invalid(err, "fields")
	d.invalid(c.decodeConfig(f).Validate(), "event_time")
	d.invalid(c.jsonLimits().Validate(), "limits")
	sized := *c // the columns can be checked whatever the sizes are
	if sized.Window.Hopping == nil && sized.Window.Cumulate == nil && sized.Window.Tumbling <= 0 {
		sized.Window.Tumbling, sized.Window.Offset = time.Hour, 0
	}
	d.invalid(sized.windowConfig(0).Validate(), "window")
	sized.Window = WindowConfig{ID: c.Window.ID, Tumbling: time.Hour, Trigger: operators.OnMark, Key: c.Window.Key, Aggregates: c.Window.Aggregates}
	sized.Source.Kafka.Topic, sized.Window.ID = cmp.Or(c.Source.Kafka.Topic, "topic"), cmp.Or(c.Window.ID, "window")
	if err != nil || c.decodeConfig(f).Validate() != nil || c.jsonLimits().Validate() != nil || c.Normalize.Version.Validate() != nil {
		return
	}
	p := &plan{cfg: sized, feed: f, fields: fields}
	dec, err := p.decoder(memory.DefaultAllocator)
	if err != nil {
		d.invalid(err, "fields")
		return
	}
	if c.Filter != "" {
		if _, err := operators.NewFilter(c.Filter, dec.Schema()); err != nil {
			d.add(d.node("filter"), "filter", "%s", strings.TrimPrefix(err.Error(), "filter "))
		}
	}
	if dd := c.Dedupe; dd != nil {
		_, err := operators.NewDedupe(c.dedupeConfig(0), dec.Schema(), memory.DefaultAllocator)
		d.invalid(err, "dedupe")
		for _, k := range c.Window.Key {
			if !slices.Contains(dd.Columns, k) {
				d.add(d.node("dedupe", "columns"), "dedupe.columns", "%s is missing: duplicates must agree in the window's key", k)
			}
		}
	}
	if _, err := newPlan(sized, f, fields); err != nil {
		d.invalid(err, "window")
	}
}

func (c *Config) fieldMaps() map[string]schemas.FieldMap {
	m := map[string]schemas.FieldMap{}
	for name, f := range c.Fields {
		m[name] = schemas.FieldMap(f)
	}
	return m
}

func (c *Config) decodeConfig(f feed) operators.DecodeConfig {
	return operators.DecodeConfig{Time: f.time, Missing: c.EventTime.Missing, MissingBound: c.EventTime.MissingBound,
		Future: c.EventTime.Future, MaxAhead: c.EventTime.MaxAhead, MaxRecordBytes: c.Limits.MaxRecordBytes, RawLimit: c.Limits.RawBytes}
}

func (c *Config) jsonLimits() schemas.Limits {
	return schemas.Limits{Depth: c.Limits.JSONDepth, Keys: c.Limits.JSONKeys, StringBytes: c.Limits.StringBytes}
}

func (c *Config) windowConfig(seed uint64) operators.WindowConfig {
	w := c.Window
	cfg := operators.WindowConfig{Shape: operators.TumblingShape(pipeline.Ticks(w.Tumbling), pipeline.Ticks(w.Offset)),
		Lateness: pipeline.Ticks(w.Lateness), Trigger: w.Trigger, EarlyRows: w.Early.Rows, EarlyDelay: pipeline.Ticks(w.Early.Delay),
		EarlyEvery: pipeline.Ticks(w.Early.Every), LateRows: w.LateRows, LateDelay: pipeline.Ticks(w.LateDelay), Discard: w.Discard,
		SkipUnchanged: w.SkipUnchanged, Keys: w.Key, Seed: seed}
	switch {
	case w.Hopping != nil:
		cfg.Size, cfg.Slide = pipeline.Ticks(w.Hopping.Size), pipeline.Ticks(w.Hopping.Slide)
	case w.Cumulate != nil:
		cfg.Kind, cfg.Size, cfg.Slide = operators.Cumulate, pipeline.Ticks(w.Cumulate.Size), pipeline.Ticks(w.Cumulate.Step)
	}
	if w.Zone != "" {
		cfg.Zone, _ = time.LoadLocation(w.Zone) // validate has tried it
	}
	for _, a := range w.Aggregates {
		cfg.Aggregates = append(cfg.Aggregates, operators.Aggregate(a))
	}
	return cfg
}

// dedupeConfig judges every row that a window can still take.
func (c *Config) dedupeConfig(seed uint64) operators.DedupeConfig {
	w := c.windowConfig(seed)
	horizon := pipeline.AddTicks(w.Size, w.Lateness)
	if w.Zone != nil { // a day may have an hour more
		horizon = pipeline.AddTicks(horizon, pipeline.Ticks(24*time.Hour))
	}
	return operators.DedupeConfig{Columns: c.Dedupe.Columns, Within: pipeline.Ticks(c.Dedupe.Within), Horizon: horizon, Seed: seed}
}

// shape says how the windows lie, in words.
func (w WindowConfig) shape() string {
	switch {
	case w.Hopping != nil:
		return fmt.Sprintf("windows of %v every %v", w.Hopping.Size, w.Hopping.Slide)
	case w.Cumulate != nil:
		return fmt.Sprintf("windows of %v growing by %v", w.Cumulate.Size, w.Cumulate.Step)
	}
	return fmt.Sprintf("windows of %v", w.Tumbling)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

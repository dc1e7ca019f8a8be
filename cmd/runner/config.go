package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	"github.com/tidemark/tidemark/sinks/decisions"
	topics "github.com/tidemark/tidemark/sinks/kafka"
	"github.com/tidemark/tidemark/sinks/notify"
	"github.com/tidemark/tidemark/sinks/parquet"
	"github.com/tidemark/tidemark/sources/kafka"
)

// Config is a job file.
type Config struct {
	Job    string       `yaml:"job"`
	Feed   string       `yaml:"feed"`   // ble, pdu, traffic, or mapping
	Format string       `yaml:"format"` // json
	Source SourceConfig `yaml:"source"`
	// Mapping says how records of feed mapping become OCSF events. Such a job has no window.
	Mapping   *MappingConfig      `yaml:"mapping"`
	Fields    map[string]FieldMap `yaml:"fields"`
	EventTime EventTimeConfig     `yaml:"event_time"`
	Limits    LimitsConfig        `yaml:"limits"`
	// Reference adds columns of tables in files to the rows, before the filter, or to the
	// results.
	Reference []ReferenceConfig `yaml:"reference"`
	// Filter keeps the rows for which it is true, for example rssi_dbm >= -90.
	Filter string `yaml:"filter"`
	// Dedupe lets the first of equal rows through.
	Dedupe *DedupeConfig `yaml:"dedupe"`
	// Rows makes a result of every row, in place of a window.
	Rows bool `yaml:"rows"`
	// One of these follows what the feed is about, in place of a window.
	Assets    *AssetsConfig   `yaml:"assets"`
	Power     *PowerConfig    `yaml:"power"`
	Traffic   *TrafficConfig  `yaml:"traffic"`
	Window    WindowConfig    `yaml:"window"`
	State     StateConfig     `yaml:"state"`
	Normalize NormalizeConfig `yaml:"normalize"`
	Sinks     []SinkConfig    `yaml:"sinks"`
	// Notify tells people and programs about findings, which sections power and traffic make.
	Notify     *notify.Config   `yaml:"notify"`
	Checkpoint CheckpointConfig `yaml:"checkpoint"`
	// Decisions bounds what is kept, beside the checkpoints, to say why.
	Decisions   decisions.Config  `yaml:"decisions"`
	HTTP        HTTPConfig        `yaml:"http"`
	Parallelism ParallelismConfig `yaml:"parallelism"`
	// StopTimeout bounds the last checkpoint after a stop was asked for.
	StopTimeout time.Duration `yaml:"stop_timeout"`

	replay *replayPlan // the job is that replay of itself; nil for the job
}

// windowless tells whether every row is a result of its own.
func (c *Config) windowless() bool { return c.Rows || c.Mapping != nil }

// windowed tells whether a window takes the rows.
func (c *Config) windowed() bool {
	_, s := c.domainSection()
	return !c.windowless() && s == nil
}

// keyColumns are those that rows are dealt to shards by.
func (c *Config) keyColumns() []string {
	if c.windowless() { // nothing is kept by key: all shards have as much to do
		return []string{"_offset"}
	}
	if d := c.domain(); d != nil {
		return d.key
	}
	return c.Window.Key
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
	// its end no longer holds the others back; never is allowed. OnAllQuiet says what then
	// becomes of the mark when there is no other left.
	QuietAfter Quiet               `yaml:"quiet_after"`
	OnAllQuiet pipeline.OnAllQuiet `yaml:"on_all_quiet"`
	// IdleAfter is the same by the wall clock, for topics that are slow as a whole; 0 is off.
	IdleAfter time.Duration `yaml:"idle_after"`
	// Scope key gives every key a clock of its own, which is at most MaxOffline behind that of
	// its partition.
	Scope      Scope         `yaml:"scope"`
	MaxOffline time.Duration `yaml:"max_offline"`
}

// Scope says whose clock judges a row.
type Scope string

const (
	ScopeSplit Scope = "split"
	ScopeKey   Scope = "key"
)

// Quiet is a duration in ticks, or never.
type Quiet int64

func (q Quiet) String() string {
	if q == Quiet(pipeline.MaxTicks) {
		return "never"
	}
	return (time.Duration(q) * time.Microsecond).String()
}

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
	// One of the five says how windows lie.
	Tumbling time.Duration   `yaml:"tumbling"`
	Hopping  *HoppingConfig  `yaml:"hopping"`
	Cumulate *CumulateConfig `yaml:"cumulate"`
	Session  *SessionConfig  `yaml:"session"`
	// Global is one window for all time: a result per key when the input ends.
	Global bool          `yaml:"global"`
	Offset time.Duration `yaml:"offset"`
	// Zone makes tumbling windows of 2 hours and more follow the clock of a place.
	Zone      string            `yaml:"zone"`
	Lateness  time.Duration     `yaml:"lateness"`
	Trigger   operators.Trigger `yaml:"trigger"`
	Early     EarlyConfig       `yaml:"early"`
	LateRows  int               `yaml:"late_rows"`
	LateDelay time.Duration     `yaml:"late_delay"`
	Discard   bool              `yaml:"discard"`
	// EmitDelay and MaxAge belong to trigger on_ingest.
	EmitDelay time.Duration `yaml:"emit_delay"`
	MaxAge    time.Duration `yaml:"max_age"`
	// SkipUnchanged leaves out a revision whose values are those of the one before.
	SkipUnchanged bool `yaml:"skip_unchanged"`
	// Retract adds column _tm_kind and gives the old values before the new ones.
	Retract    bool              `yaml:"retract"`
	Key        []string          `yaml:"key"`
	Aggregates []AggregateConfig `yaml:"aggregates"`
	// Fingerprints adds _tm_fp_count, _tm_fp_sum and _tm_fp_xor: number, sum and exclusive or
	// of the ids of a result's rows, by which a row lost or taken twice is found.
	Fingerprints bool `yaml:"fingerprints"`
	// Then folds the results into longer windows of the same key; only theirs leave.
	Then *ThenConfig `yaml:"then"`
}

// ThenConfig is windows over the results of other windows, which count at the last tick of
// their window.
type ThenConfig struct {
	// One of the three says how windows lie.
	Tumbling   time.Duration     `yaml:"tumbling"`
	Hopping    *HoppingConfig    `yaml:"hopping"`
	Cumulate   *CumulateConfig   `yaml:"cumulate"`
	Offset     time.Duration     `yaml:"offset"`
	Zone       string            `yaml:"zone"`
	Aggregates []AggregateConfig `yaml:"aggregates"`
}

// last returns the windows whose results leave.
func (w WindowConfig) last() WindowConfig {
	t := w.Then
	if t == nil {
		return w
	}
	return WindowConfig{ID: w.ID, Tumbling: t.Tumbling, Hopping: t.Hopping, Cumulate: t.Cumulate, Offset: t.Offset, Zone: t.Zone, Key: w.Key, Aggregates: t.Aggregates}
}

// StateConfig bounds the state of the window.
type StateConfig struct {
	MaxBytes      int64                 `yaml:"max_bytes"`       // of the job, 0 for no limit
	MaxKeyWindows int                   `yaml:"max_key_windows"` // open windows of one key, 0 for no limit
	OverLimit     operators.LimitPolicy `yaml:"over_limit"`
}

// DedupeConfig says in which columns duplicates agree, the window's key among them, and how
// far apart in event time they are at most. What it remembers covers every row that a window
// can still take: with sessions, max_length and lateness.
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

// SessionConfig is runs of rows of a key, each less than gap after the one before.
type SessionConfig struct {
	Gap time.Duration `yaml:"gap"`
	// GapColumn names a column of whole numbers with the gap after each row in microseconds;
	// a row without one has Gap.
	GapColumn string `yaml:"gap_column"`
	// Touch is split or merge: what becomes of two sessions when one ends where the other
	// starts.
	Touch operators.Touch `yaml:"touch"`
	// MaxLength cuts sessions, so that a device that never pauses does not keep one open for
	// ever.
	MaxLength Length `yaml:"max_length"`
}

// defaultMaxLength lets no session outlive a day: the state of a key is then bounded, and
// its results come out daily.
const defaultMaxLength = 24 * time.Hour

func (c *SessionConfig) setDefaults() {
	c.Touch, c.MaxLength = operators.TouchSplit, Length(pipeline.Ticks(defaultMaxLength))
}

// Length is a duration in ticks, or none.
type Length int64

func (l Length) String() string {
	if l == Length(pipeline.MaxTicks) {
		return "none"
	}
	return (time.Duration(l) * time.Microsecond).String()
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *Length) UnmarshalYAML(n *yaml.Node) error {
	if n.Value == "none" {
		*l = Length(pipeline.MaxTicks)
		return nil
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration such as 24h, or none", n.Value)
	}
	*l = Length(pipeline.Ticks(d))
	return nil
}

// EarlyConfig says when a window shows what it has before its end; 0 for not.
type EarlyConfig struct {
	Rows  int           `yaml:"rows"`  // of a key that wait
	Delay time.Duration `yaml:"delay"` // of wall time after the first that waits
	// Aligned moves the delay to its next multiple.
	Aligned bool          `yaml:"aligned"`
	Every   time.Duration `yaml:"every"` // of event time
}

// AggregateConfig is one aggregate, as operators.Aggregate describes it.
type AggregateConfig struct {
	Fn     string   `yaml:"fn"`
	Column string   `yaml:"column"`
	As     string   `yaml:"as"`
	Q      *float64 `yaml:"q"`     // of quantile
	Wrap   int64    `yaml:"wrap"`  // of increase and rate
	Where  string   `yaml:"where"` // which rows count
	Cap    int      `yaml:"cap"`   // of collect and collect_by_ts
}

// NormalizeConfig says what the results become.
type NormalizeConfig struct {
	To string `yaml:"to"` // ocsf or none
	// Dialect core has published classes only, ext those of our extension too.
	Dialect ocsf.Dialect `yaml:"dialect"`
	// Version is 1.3.0 of core and 1.8.0 of ext unless said otherwise.
	Version ocsf.Version `yaml:"version"`
	// ExtensionUID is the uid under which a site has our extension.
	ExtensionUID int32 `yaml:"extension_uid"`
}

// Validate returns every problem of the events.
func (c *NormalizeConfig) Validate() error {
	errs := []error{c.Version.Validate(), c.Dialect.Validate()}
	if c.ExtensionUID < 1 || c.ExtensionUID > 999 {
		errs = append(errs, fmt.Errorf("extension_uid %d: want 1 to 999", c.ExtensionUID))
	}
	return errors.Join(errs...)
}

// SinkConfig names one sink.
type SinkConfig struct {
	Parquet    *ParquetConfig    `yaml:"parquet"`
	ClickHouse *ClickHouseConfig `yaml:"clickhouse"`
	Kafka      *KafkaConfig      `yaml:"kafka"`
}

// kinds is how many sinks an entry names.
func (c SinkConfig) kinds() int {
	n := 0
	for _, there := range []bool{c.Parquet != nil, c.ClickHouse != nil, c.Kafka != nil} {
		if there {
			n++
		}
	}
	return n
}

// ParquetConfig is a folder of Parquet files: results in <table>, late rows in
// <table>_late, dead records in <table>_dead.
type ParquetConfig struct {
	// Dir is a directory, or s3://bucket/prefix; S3 says how to reach the latter.
	Dir            string    `yaml:"dir"`
	S3             *S3Config `yaml:"s3"`
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

// KafkaConfig is a topic of results, <topic>, one of late rows, <topic>_late, and one of dead
// records, <topic>_dead. Without brokers it is on the cluster of the source, and reached as that.
type KafkaConfig struct {
	topics.SinkConfig `yaml:",inline"`
}

func (c *KafkaConfig) setDefaults() { c.SinkConfig = topics.DefaultSinkConfig() }

// CheckpointConfig says where the job keeps its state.
type CheckpointConfig struct {
	// Dir is a directory or s3://bucket/prefix. A directory has a lock; in a bucket a lease
	// keeps a second process away.
	Dir string    `yaml:"dir"`
	S3  *S3Config `yaml:"s3"`
	// Owner names the process in the lease; one of the same name is taken over at once. The
	// name of the machine unless said otherwise.
	Owner    string        `yaml:"owner"`
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
			MissingBound: dec.MissingBound, Align: 5 * time.Minute, QuietAfter: Quiet(pipeline.Ticks(time.Minute)),
			OnAllQuiet: pipeline.HoldMark, Scope: ScopeSplit, MaxOffline: 3 * time.Hour},
		Limits:      LimitsConfig{MaxRecordBytes: dec.MaxRecordBytes, RawBytes: dec.RawLimit, JSONDepth: lim.Depth, JSONKeys: lim.Keys, StringBytes: lim.StringBytes},
		Window:      WindowConfig{Trigger: operators.OnMark, LateDelay: 10 * time.Second},
		State:       StateConfig{MaxBytes: 8 << 30, OverLimit: operators.LimitStop},
		Normalize:   NormalizeConfig{To: "ocsf", Dialect: ocsf.Core, ExtensionUID: ocsf.ExtensionUID},
		Checkpoint:  CheckpointConfig{Interval: 5 * time.Second, Keep: 3},
		Decisions:   decisions.DefaultConfig(),
		HTTP:        HTTPConfig{Listen: "127.0.0.1:9464"},
		Parallelism: ParallelismConfig{Shards: max(1, runtime.GOMAXPROCS(0)/2), Decoders: max(1, runtime.GOMAXPROCS(0)/2)},
		StopTimeout: 30 * time.Second,
	}
}

// loadConfig reads a job file. The error names every problem with its place.
func loadConfig(path string) (Config, error) {
	f, err := loadJobFile(path)
	return f.cfg, err
}

func loadJobFile(path string) (jobFile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return jobFile{}, fmt.Errorf("job file: %w", err)
	}
	return parseJobFile(path, b)
}

func parseConfig(path string, b []byte) (Config, error) {
	f, err := parseJobFile(path, b)
	return f.cfg, err
}

func parseJobFile(path string, b []byte) (jobFile, error) {
	d, err := parseYAML(path, b)
	if err != nil {
		return jobFile{}, &configError{[]string{err.Error()}}
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
	return jobFile{d, cfg}, d.err()
}

// resolve fills in what follows from other settings.
func (c *Config) resolve() {
	if w := &c.Window; w.Trigger == operators.OnIngest {
		size := w.Tumbling
		if w.Hopping != nil {
			size = w.Hopping.Size
		}
		w.EmitDelay = cmp.Or(w.EmitDelay, max(size/2, 5*time.Second))
		w.MaxAge = cmp.Or(w.MaxAge, 15*time.Minute)
		w.LateDelay = 0
	}
	if c.Window.ID == "" {
		c.Window.ID = strings.ReplaceAll(c.Job, "-", "_")
	}
	c.Normalize.Version = cmp.Or(c.Normalize.Version, c.Normalize.Dialect.DefaultVersion())
	if c.Checkpoint.Dir == "" {
		c.Checkpoint.Dir = filepath.Join("tidemark-state", c.Job)
	}
	table := strings.ReplaceAll(c.Job, "-", "_")
	dom := c.domain()
	if dom != nil && dom.oneShard {
		c.Parallelism.Shards = 1
	}
	sortBy, timeColumn := c.resultOrder()
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
		if k := s.Kafka; k != nil {
			k.Job, k.Identity = c.Job, sortBy
			if k.Brokers == nil && reflect.DeepEqual(k.Connection, topics.DefaultSinkConfig().Connection) {
				k.Connection = c.Source.Kafka.Connection
			}
			switch {
			case k.Key != nil:
			case c.Mapping != nil:
				k.Key = sortBy[1:]
			case c.Normalize.To == "ocsf":
				k.Key = sortBy
			case dom != nil:
				k.Key = sortBy[:1]
			default:
				k.Key = c.Window.Key
			}
		}
	}
}

// resultOrder names the columns that tell results apart, and the one that says when they are
// of.
func (c *Config) resultOrder() (sortBy []string, timeColumn string) {
	switch {
	case c.Mapping != nil && c.Mapping.Mode == mapping.Conform:
		return []string{"time", "metadata.uid"}, "time"
	case c.Mapping != nil, c.Rows && c.Normalize.To == "none":
		return []string{"_split", "_offset"}, "time"
	case c.Normalize.To == "ocsf":
		return []string{"metadata.uid"}, "time"
	}
	if dom := c.domain(); dom != nil {
		return dom.tables[0].sortBy, dom.tables[0].timeColumn
	}
	sortBy = append(slices.Clone(c.Window.Key), "window_start")
	switch w := c.Window.last(); {
	case w.Cumulate != nil || w.Session != nil: // several windows begin at one start
		sortBy = append(sortBy, "window_end")
	case w.Global: // window_start is null
		sortBy = slices.Clone(c.Window.Key)
	}
	return sortBy, "window_start"
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
	if c.EventTime.IdleAfter < 0 {
		bad("event_time.idle_after", "%v: must not be negative; 0 is off", c.EventTime.IdleAfter)
	}
	switch c.State.OverLimit {
	case operators.LimitStop:
	case operators.LimitShed:
		if c.Window.Global {
			bad("state.over_limit", "%s: the window of all time is the only one there is; take %s", operators.LimitShed, operators.LimitStop)
		}
	default:
		bad("state.over_limit", "%q: known are %s, %s", c.State.OverLimit, operators.LimitStop, operators.LimitShed)
	}
	if c.State.MaxBytes < 0 {
		bad("state.max_bytes", "%d: must not be negative; 0 is no limit", c.State.MaxBytes)
	}
	if c.State.MaxKeyWindows < 0 {
		bad("state.max_key_windows", "%d: must not be negative; 0 is no limit", c.State.MaxKeyWindows)
	}
	if q := c.EventTime.OnAllQuiet; q != pipeline.HoldMark && q != pipeline.FlushMark {
		bad("event_time.on_all_quiet", "%q: known are %s, %s", q, pipeline.HoldMark, pipeline.FlushMark)
	}
	switch c.EventTime.Scope {
	case ScopeSplit:
	case ScopeKey:
		if c.Window.Session != nil {
			bad("event_time.scope", "sessions have no clocks by key: a session is open for as long as its device may be late; raise max_disorder or lateness")
		}
	default:
		bad("event_time.scope", "%q: known are %s, %s", c.EventTime.Scope, ScopeSplit, ScopeKey)
	}
	if c.EventTime.Align < 0 {
		bad("event_time.align", "%v: must not be negative", c.EventTime.Align)
	}
	switch c.Normalize.To {
	case "none":
	case "ocsf":
		c.validateOCSF(d)
	default:
		bad("normalize.to", "%q: want ocsf or none", c.Normalize.To)
	}
	for i, s := range c.Sinks {
		at := fmt.Sprint(i)
		switch {
		case s.kinds() > 1:
			bad("sinks."+at, "two kinds of sink in one entry: make two")
		case s.Parquet != nil:
			d.validateStore(s.Parquet.Dir, s.Parquet.S3, "sinks", at, "parquet")
			c.validateLake(d, at, s.Parquet.Lake)
			d.invalid(s.Parquet.Validate(), "sinks", at, "parquet")
		case s.ClickHouse != nil:
			d.invalid(s.ClickHouse.Validate(), "sinks", at, "clickhouse")
		case s.Kafka != nil:
			d.invalid(s.Kafka.Validate(), "sinks", at, "kafka")
			for j, o := range c.Sinks[:i] {
				if o.Kafka != nil && o.Kafka.Topic == s.Kafka.Topic { // a receipt would be that of either
					bad("sinks."+at+".kafka.topic", "%q is that of sink %d too: give each a topic of its own", s.Kafka.Topic, j)
				}
			}
			if s.Kafka.Topic == c.Source.Kafka.Topic && s.Kafka.Topic != "" {
				bad("sinks."+at+".kafka.topic", "%q is the topic that the job reads: it would read its own results", s.Kafka.Topic)
			}
		default:
			bad("sinks."+at, "name a kind of sink: parquet, clickhouse or kafka")
		}
	}
	if c.Notify != nil {
		d.invalid(c.Notify.Validate(), "notify")
		if _, s := c.domainSection(); s == nil || c.Normalize.To != "ocsf" {
			bad("notify", "the job finds nothing that anybody could be told of: it takes a section power or traffic, and normalize: {to: ocsf}")
		}
	}
	d.validateStore(c.Checkpoint.Dir, c.Checkpoint.S3, "checkpoint")
	if c.Checkpoint.Interval < 10*time.Millisecond {
		bad("checkpoint.interval", "%v: at least 10ms", c.Checkpoint.Interval)
	}
	if c.Checkpoint.Keep < 1 || c.Checkpoint.Keep > 1000 {
		bad("checkpoint.keep", "%d: want 1 to 1000", c.Checkpoint.Keep)
	}
	d.invalid(c.Decisions.Validate(), "decisions")
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
	switch {
	case err != nil: // what follows needs the feed
	case c.Mapping != nil || c.Feed == feedMapping:
		c.validateMapping(d)
	default:
		c.validateRows(d, f)
	}
}

// validateOCSF checks what the events are to be.
func (c *Config) validateOCSF(d *document) {
	d.invalid(c.Normalize.Validate(), "normalize")
	if c.Normalize.Dialect != ocsf.Ext {
		return
	}
	if c.Mapping != nil {
		d.add(d.node("normalize", "dialect"), "normalize.dialect", "a mapping file names the classes itself; mapping.schemas: [tidemark] lets it use those of our extension")
	}
	for _, s := range c.Sinks {
		if s.ClickHouse != nil && c.Window.Trigger == operators.OnIngest && c.Feed != "traffic" {
			d.add(d.node("normalize", "dialect"), "normalize.dialect", "with trigger on_ingest ClickHouse adds late rows to results, and nothing adds to lists of measurements: take dialect core")
		}
	}
}

// validateRows checks what depends on the columns of the feed, by building it.
func (c *Config) validateRows(d *document, f feed) {
	sized := *c
	switch {
	case c.windowless():
		c.validateWindowless(d)
	case c.domain() != nil:
		c.validateDomain(d)
	default:
		c.validateShape(d)
		sized = c.sized(d)
	}
	sized.Source.Kafka.Topic = cmp.Or(c.Source.Kafka.Topic, "topic")
	fields, err := schemas.Override(f.fields(), c.fieldMaps())
	d.invalid(err, "fields")
	d.invalid(c.decodeConfig(f).Validate(), "event_time")
	d.invalid(c.jsonLimits().Validate(), "limits")
	if err != nil || c.decodeConfig(f).Validate() != nil || c.jsonLimits().Validate() != nil || c.Normalize.Validate() != nil {
		return
	}
	p := &plan{cfg: sized, feed: f, fields: fields}
	dec, err := p.decoder(memory.DefaultAllocator)
	if err != nil {
		d.invalid(err, "fields")
		return
	}
	rows, ok := c.timed(dec.Schema()), true
	rows = enrichRows(c.Reference, onRows, rows, func(i int, err error) {
		d.invalid(err, "reference", fmt.Sprint(i))
		ok = false
	})
	for i, ref := range c.Reference {
		if err := ref.Validate(); ref.On != onRows && err != nil { // enrichRows checks the others
			d.invalid(err, "reference", fmt.Sprint(i))
			ok = false
		}
	}
	for _, k := range c.keyColumns() {
		if !dec.Schema().HasField(k) && rows.HasField(k) {
			d.add(d.node("window", "key"), "window.key", "%s comes from a reference table: rows are dealt to shards by their key before they get it; take columns of the feed", k)
			ok = false
		}
	}
	if !ok {
		return // what follows needs the columns of all tables
	}
	if dom := c.domain(); dom != nil && dom.check != nil {
		name, _ := c.domainSection()
		d.invalid(dom.check(rows), name)
	}
	if c.Filter != "" {
		if _, err := operators.NewFilter(c.Filter, rows); err != nil {
			d.add(d.node("filter"), "filter", "%s", strings.TrimPrefix(err.Error(), "filter "))
		}
	}
	if dd := c.Dedupe; dd != nil && c.windowed() {
		_, err := operators.NewDedupe(c.dedupeConfig(0), rows, memory.DefaultAllocator)
		d.invalid(err, "dedupe")
		for _, k := range c.Window.Key {
			if !slices.Contains(dd.Columns, k) {
				d.add(d.node("dedupe", "columns"), "dedupe.columns", "%s is missing: duplicates must agree in the window's key", k)
			}
		}
	}
	if c.windowed() {
		for i, a := range c.Window.Aggregates {
			at := strconv.Itoa(i)
			if err := operators.Aggregate(a).Validate(rows); err != nil {
				d.add(d.node("window", "aggregates", at), "window.aggregates."+at, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		}
	}
	made, err := newPlan(sized, f, fields)
	if err != nil {
		d.invalidWindow(err)
		return
	}
	for i, s := range c.Sinks {
		if s.Kafka != nil { // sizes do not decide which columns there are
			d.invalid(topics.CheckColumns(topics.SinkConfig{Key: s.Kafka.Key}, made.results), "sinks", strconv.Itoa(i), "kafka")
		}
	}
}

// sized returns the configuration with windows of some size, whose columns can be checked
// whatever is wrong with theirs, which it adds.
func (c *Config) sized(d *document) Config {
	sized := *c
	if w := &sized.Window; !w.Global && w.Session == nil && w.Hopping == nil && w.Cumulate == nil && w.Tumbling <= 0 {
		w.Tumbling, w.Offset = time.Hour, 0
	}
	d.invalidWindow(sized.validateWindow())
	sized.State = StateConfig{}
	sized.Window = WindowConfig{ID: cmp.Or(c.Window.ID, "window"), Tumbling: time.Hour, Trigger: operators.OnMark, Key: c.Window.Key, Aggregates: c.Window.Aggregates}
	if t := c.Window.Then; t != nil && len(t.Aggregates) > 0 {
		sized.Window.Trigger, sized.Window.Then = operators.OnClose, &ThenConfig{Tumbling: time.Hour, Aggregates: t.Aggregates}
	}
	if s := c.Window.Session; s != nil {
		sized.Window.Session = &SessionConfig{Gap: time.Hour, GapColumn: s.GapColumn, Touch: operators.TouchSplit, MaxLength: Length(pipeline.MaxTicks)}
	}
	return sized
}

// validateWindowless checks that a job without a window has nothing that needs one.
func (c *Config) validateWindowless(d *document) {
	for _, section := range []string{"window", "dedupe", "state", "assets", "power", "traffic"} {
		if n := child(d.root, section); n != nil {
			d.add(n, section, "every row is a result of its own here, and no window keeps it: take %s out, or what makes the job so (rows, mapping)", section)
		}
	}
	if c.EventTime.Scope == ScopeKey {
		d.add(d.node("event_time", "scope"), "event_time.scope", "clocks by key decide when windows end, and the job has none")
	}
}

// validateLake checks what a sink of the layout security_lake needs of its job. A source has one
// class by itself: the tables of several have sources of their own (parquet.Config.OfClass).
func (c *Config) validateLake(d *document, at string, lake *parquet.Lake) {
	if lake == nil {
		return
	}
	path := []string{"sinks", at, "parquet", "security_lake"}
	d.invalid(lake.Validate(), path...)
	if c.Normalize.To != "ocsf" {
		d.invalid(errors.New("source: takes OCSF events: set normalize: {to: ocsf}"), path...)
		return
	}
	if c.Mapping != nil && c.Mapping.Mode == mapping.Compat {
		d.invalid(errors.New("source: takes OCSF events, and mode compat makes none that anybody has checked: take conform"), path...)
	}
	if c.Normalize.Dialect != "core" {
		d.invalid(errors.New("source: is registered for a class of OCSF, and those of an extension are none: set normalize: {dialect: core}"), path...)
	}
	d.invalid(parquet.CheckLake([]parquet.LakeEvents{{Source: lake.Source, Version: string(c.Normalize.Version)}}), path...)
}

// invalidWindow adds what is wrong with the keyed operator. What begins with session is
// placed at the settings of sessions, and so for then.
func (d *document) invalidWindow(err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			d.invalidWindow(e)
		}
		return
	}
	if err == nil {
		return
	}
	for _, section := range []string{"session", "then"} {
		if rest, ok := strings.CutPrefix(err.Error(), section+" "); ok {
			d.invalid(errors.New(rest), "window", section)
			return
		}
	}
	d.invalid(err, "window")
}

// validateShape checks that windows lie in one way, and what belongs to it.
func (c *Config) validateShape(d *document) {
	w := c.Window
	bad := func(key, format string, args ...any) {
		d.add(d.node("window", key), "window."+key, format, args...)
	}
	tumbling := child(d.node("window"), "tumbling") != nil
	kinds := 0
	for _, given := range []bool{tumbling, w.Hopping != nil, w.Cumulate != nil, w.Session != nil, w.Global} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		d.add(d.node("window"), "window", "say how windows lie by one of tumbling, hopping, cumulate, session and global")
	case tumbling && w.Tumbling <= 0:
		bad("tumbling", "%v: a window must be longer than that", w.Tumbling)
	}
	if t := w.Then; t != nil {
		tumbling := child(d.node("window", "then"), "tumbling") != nil
		kinds := 0
		for _, given := range []bool{tumbling, t.Hopping != nil, t.Cumulate != nil} {
			if given {
				kinds++
			}
		}
		if kinds != 1 {
			bad("then", "say how windows lie by one of tumbling, hopping and cumulate")
		}
		if w.Fingerprints {
			bad("fingerprints", "results of then are not of rows and have none: take one of the two out")
		}
		if _, err := time.LoadLocation(t.Zone); err != nil {
			d.add(d.node("window", "then", "zone"), "window.then.zone", "%q is no time zone, such as Europe/Amsterdam", t.Zone)
		}
	}
	if _, err := time.LoadLocation(w.Zone); err != nil {
		bad("zone", "%q is no time zone, such as Europe/Amsterdam", w.Zone)
	}
	if w.Session != nil || w.Global {
		if w.Offset != 0 {
			bad("offset", "%v: windows with bounds that rows give, or none, cannot be moved", w.Offset)
		}
		if w.Zone != "" {
			bad("zone", "%s: only tumbling windows follow a zone's clock", w.Zone)
		}
	}
	if w.Global {
		if c.Normalize.To == "ocsf" {
			bad("global", "an OCSF event needs a time, and the window of all time has none: set normalize.to to none")
		}
		early := w.Early.Rows > 0 || w.Early.Delay > 0 || w.Early.Every > 0
		if !c.Source.Kafka.Bounded && !early && w.Trigger != operators.OnUpdate {
			bad("global", "the input of a live job does not end, so nothing would come out: set window.early, or source.kafka.bounded")
		}
	}
	if c.Dedupe != nil && c.horizon() == pipeline.MaxTicks {
		text := "the window of all time takes a row however old"
		if w.Session != nil {
			text = "a session without max_length takes a row however old"
		}
		d.add(d.node("dedupe"), "dedupe", "%s, so nothing could ever be forgotten", text)
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
	if c.Mapping != nil { // an event has its own time, however old, or is none
		c.EventTime.Missing, c.EventTime.MissingBound = operators.MissingDead, time.UnixMicro(pipeline.MinEventTime).UTC()
	}
	cfg := c.timeConfig(f.time)
	if dom := c.domain(); dom != nil && dom.clock != nil && cfg.Validate() == nil {
		cfg.Future = operators.FutureKeep // for the clock to decide on
	}
	return cfg
}

// timeConfig says what the job makes of times.
func (c *Config) timeConfig(field string) operators.DecodeConfig {
	return operators.DecodeConfig{Time: field, Missing: c.EventTime.Missing, MissingBound: c.EventTime.MissingBound,
		Future: c.EventTime.Future, MaxAhead: c.EventTime.MaxAhead, MaxRecordBytes: c.Limits.MaxRecordBytes, RawLimit: c.Limits.RawBytes}
}

// timed returns the columns of decoded rows once their times are settled.
func (c *Config) timed(rows *arrow.Schema) *arrow.Schema {
	if dom := c.domain(); dom != nil && dom.timed != nil {
		return dom.timed(rows)
	}
	return rows
}

func (c *Config) jsonLimits() schemas.Limits {
	return schemas.Limits{Depth: c.Limits.JSONDepth, Keys: c.Limits.JSONKeys, StringBytes: c.Limits.StringBytes}
}

func (c *Config) windowConfig(seed uint64) operators.WindowConfig {
	w := c.Window
	cfg := operators.WindowConfig{Shape: operators.TumblingShape(pipeline.Ticks(w.Tumbling), pipeline.Ticks(w.Offset)),
		Lateness: pipeline.Ticks(w.Lateness), Trigger: w.Trigger, EarlyRows: w.Early.Rows, EarlyDelay: pipeline.Ticks(w.Early.Delay),
		EarlyAligned: w.Early.Aligned, EarlyEvery: pipeline.Ticks(w.Early.Every), LateRows: w.LateRows, LateDelay: pipeline.Ticks(w.LateDelay),
		Discard: w.Discard, Retract: w.Retract, SkipUnchanged: w.SkipUnchanged, EmitDelay: pipeline.Ticks(w.EmitDelay), MaxAge: pipeline.Ticks(w.MaxAge),
		Limit: c.limit(), Keys: w.Key, Seed: seed}
	if c.EventTime.Scope == ScopeKey {
		cfg.Clock = &operators.KeyClock{Bound: pipeline.Ticks(c.EventTime.MaxDisorder), MaxOffline: pipeline.Ticks(c.EventTime.MaxOffline), MaxAhead: c.maxAhead()}
	}
	switch {
	case w.Global:
		cfg.Kind = operators.Global
	case w.Hopping != nil:
		cfg.Size, cfg.Slide = pipeline.Ticks(w.Hopping.Size), pipeline.Ticks(w.Hopping.Slide)
	case w.Cumulate != nil:
		cfg.Kind, cfg.Size, cfg.Slide = operators.Cumulate, pipeline.Ticks(w.Cumulate.Size), pipeline.Ticks(w.Cumulate.Step)
	}
	if w.Zone != "" {
		cfg.Zone, _ = time.LoadLocation(w.Zone) // validate has tried it
	}
	cfg.Aggregates = c.aggregates()
	return cfg
}

func (c *Config) aggregates() []operators.Aggregate {
	var out []operators.Aggregate
	for _, a := range c.Window.Aggregates {
		out = append(out, operators.Aggregate(a))
	}
	if c.Window.Fingerprints {
		out = append(out, operators.Aggregate{Fn: "count", As: "_tm_fp_count"},
			operators.Aggregate{Fn: "id_sum", As: "_tm_fp_sum"}, operators.Aggregate{Fn: "id_xor", As: "_tm_fp_xor"})
	}
	return out
}

// limit is each shard's part of the limits of state.
func (c *Config) limit() operators.Limit {
	l := operators.Limit{Bytes: c.State.MaxBytes, KeyWindows: c.State.MaxKeyWindows, Policy: c.State.OverLimit}
	if l.Bytes > 0 {
		l.Bytes = max(1, l.Bytes/int64(max(1, c.Parallelism.Shards)))
	}
	return l
}

// maxAhead is by how much a row may be ahead of its broker timestamp and still move a
// clock. Rows that are further are refused or set back by the decoder unless they are kept.
func (c *Config) maxAhead() int64 {
	if c.EventTime.Future == operators.FutureKeep {
		return pipeline.Ticks(c.EventTime.MaxAhead)
	}
	return pipeline.MaxTicks
}

// sessionConfig is for a job with sessions.
func (c *Config) sessionConfig(seed uint64) operators.SessionConfig {
	w, s := c.Window, c.Window.Session
	return operators.SessionConfig{Gap: pipeline.Ticks(s.Gap), GapColumn: s.GapColumn, Touch: s.Touch, MaxLength: int64(s.MaxLength),
		Lateness: pipeline.Ticks(w.Lateness), Trigger: w.Trigger, EarlyRows: w.Early.Rows, EarlyDelay: pipeline.Ticks(w.Early.Delay),
		EarlyAligned: w.Early.Aligned, EarlyEvery: pipeline.Ticks(w.Early.Every), LateRows: w.LateRows, LateDelay: pipeline.Ticks(w.LateDelay),
		Discard: w.Discard, Retract: w.Retract, SkipUnchanged: w.SkipUnchanged, Limit: c.limit(), Keys: w.Key, Aggregates: c.aggregates(), Seed: seed}
}

// rollupConfig is for a job with windows over windows.
func (c *Config) rollupConfig() operators.RollupConfig {
	then := *c
	then.Window = c.Window.last()
	return operators.RollupConfig{Shape: c.resultShape(), Aggregates: then.aggregates()}
}

// resultShape says how the windows lie whose results leave; of no meaning with sessions.
func (c *Config) resultShape() operators.Shape {
	then := *c
	then.Window = c.Window.last()
	return then.windowConfig(0).Shape
}

// prefixed puts a word before every error that is joined in err.
func prefixed(word string, err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, prefixed(word, e))
		}
		return errors.Join(errs...)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %w", word, err)
}

// validateWindow checks the keyed operator as far as that goes without columns.
func (c *Config) validateWindow() error {
	window, session := c.windowConfig(0), operators.SessionConfig{}
	final := window.Final
	window.Limit = operators.Limit{} // validate has checked it
	check := window.Validate
	if c.Window.Session != nil {
		session = c.sessionConfig(0)
		final = session.Final
		session.Limit = operators.Limit{} // validate has checked it
		check = session.Validate
	}
	if c.Window.Then == nil {
		return check()
	}
	return errors.Join(check(), final(), prefixed("then", c.rollupConfig().Validate()))
}

// keyed is what folds rows by key: windows or sessions.
type keyed interface {
	pipeline.Stateful
	Schema() *arrow.Schema
}

// newKeyed builds the keyed operator.
func (c *Config) newKeyed(seed uint64, rows *arrow.Schema, mem memory.Allocator) (keyed, error) {
	then := c.Window.Then != nil
	if c.Window.Session != nil {
		s, err := operators.NewSession(c.sessionConfig(seed), rows, mem)
		if err != nil || !then {
			return s, err
		}
		r, err := operators.NewRollup(c.rollupConfig(), s, mem)
		return r, prefixed("then", err)
	}
	w, err := operators.NewWindow(c.windowConfig(seed), rows, mem)
	if err != nil || !then {
		return w, err
	}
	r, err := operators.NewRollup(c.rollupConfig(), w, mem)
	return r, prefixed("then", err)
}

// dedupeConfig judges every row that a window can still take.
func (c *Config) dedupeConfig(seed uint64) operators.DedupeConfig {
	cfg := operators.DedupeConfig{Columns: c.Dedupe.Columns, Within: pipeline.Ticks(c.Dedupe.Within), Horizon: c.horizon(), Seed: seed}
	if !c.Decisions.Off {
		cfg.Report = c.keyColumns()
	}
	return cfg
}

// horizon is how far behind its split's mark a row may be and still be taken: the longest
// window that may hold it, and the lateness. MaxTicks: any.
func (c *Config) horizon() int64 {
	longest := c.longest()
	if c.EventTime.Scope == ScopeKey {
		longest = pipeline.AddTicks(longest, pipeline.Ticks(c.EventTime.MaxOffline))
	}
	return pipeline.AddTicks(longest, pipeline.Ticks(c.Window.Lateness+c.Window.MaxAge))
}

// longest is how long a window is at most, in ticks. MaxTicks: any.
func (c *Config) longest() int64 {
	longest := c.windowConfig(0).Size
	switch {
	case c.Window.Session != nil:
		longest = int64(c.Window.Session.MaxLength)
	case c.Window.Global:
		longest = pipeline.MaxTicks
	case c.Window.Zone != "": // a day may have an hour more
		longest = pipeline.AddTicks(longest, pipeline.Ticks(24*time.Hour))
	}
	return longest
}

// complete says by how much the mark is past a time column of the results at most when a row
// comes out, negative when nobody knows, and the grid on which its values lie.
func (c *Config) complete(column string) (after, step, offset int64) {
	if !c.windowed() { // a row comes out however late it is
		return -1, 0, 0
	}
	last := c.Window.last()
	shape := c.resultShape()
	events := c.Normalize.To == "ocsf"
	ends := column == "window_end" || events && column == "end_time"
	starts := column == "window_start" || events && (column == "start_time" || column == "time")
	endless := last.Session != nil && last.Session.MaxLength == Length(pipeline.MaxTicks)
	if last.Global || endless || c.Window.Trigger == operators.OnIngest || !starts && !ends {
		return -1, 0, 0
	}
	switch {
	case last.Session != nil: // bounds are withdrawn for as long as the session grows
		after = int64(last.Session.MaxLength)
	case starts:
		after = shape.Size
	}
	switch {
	case last.Session != nil:
	case shape.Zone != nil && starts: // a day may have an hour more
		after = pipeline.AddTicks(after, pipeline.Ticks(24*time.Hour))
	case shape.Zone != nil:
	case shape.Kind == operators.Cumulate && starts:
		step, offset = shape.Size, shape.Offset
	case starts:
		step, offset = shape.Slide, shape.Offset
	default:
		step, offset = shape.Slide, pipeline.AddTicks(shape.Offset, shape.Size)
	}
	if s := c.Window.Session; s != nil && s.Touch == operators.TouchMerge { // kept for one tick more
		after = pipeline.AddTicks(after, 1)
	}
	if ms := pipeline.Ticks(time.Millisecond); events && (step == 0 || step%ms != 0 || offset%ms != 0) {
		after, step = pipeline.AddTicks(after, ms), 0 // events have whole milliseconds
	}
	if c.EventTime.Scope == ScopeKey {
		after = pipeline.AddTicks(after, pipeline.Ticks(c.EventTime.MaxOffline))
	}
	return pipeline.AddTicks(after, pipeline.Ticks(c.Window.Lateness)), step, offset
}

// work says what becomes of rows, in words.
func (c *Config) work() string {
	switch {
	case c.Mapping != nil:
		return fmt.Sprintf("events by %s (%s)", c.Mapping.File, c.Mapping.Mode)
	case c.Rows:
		return "every row by itself"
	}
	if d := c.domain(); d != nil {
		return d.work
	}
	return fmt.Sprintf("%s by %s", c.Window.shape(), strings.Join(c.Window.Key, ", "))
}

// shape says how the windows lie, in words.
func (w WindowConfig) shape() string {
	if w.Then != nil {
		first := w
		first.Then = nil
		return first.shape() + " into " + w.last().shape()
	}
	switch {
	case w.Hopping != nil:
		return fmt.Sprintf("windows of %v every %v", w.Hopping.Size, w.Hopping.Slide)
	case w.Cumulate != nil:
		return fmt.Sprintf("windows of %v growing by %v", w.Cumulate.Size, w.Cumulate.Step)
	case w.Session != nil:
		return fmt.Sprintf("sessions with a gap of %v", w.Session.Gap)
	case w.Global:
		return "one window of all time"
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

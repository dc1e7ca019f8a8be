package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/traffic"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ocsf"
	trafficfeed "github.com/tidemark/tidemark/schemas/traffic"
)

// TrafficConfig is section traffic of a job: it finds drops in what entities send and receive.
type TrafficConfig struct {
	// Input says what rows are: volumes, which are added up by quarter of an hour, or samples of
	// counters.
	Input string `yaml:"input"`
	// Entity, Signal and Value are columns. Without a signal an entity has one.
	Entity string `yaml:"entity"`
	Signal string `yaml:"signal"`
	Value  string `yaml:"value"`
	// Absent says what a quarter of an hour without a row is: missing, or zero.
	Absent      string                   `yaml:"absent"`
	Counters    TrafficCounterConfig     `yaml:"counters"`
	Detector    TrafficDetectorConfig    `yaml:"detector"`
	Eligibility TrafficEligibilityConfig `yaml:"eligibility"`
	Merge       TrafficMergeConfig       `yaml:"merge"`
	// CollectorFault says what becomes of events that open with those of too many others: hold,
	// or publish.
	CollectorFault string `yaml:"collector_fault"`
	// Keep is for how long an anomaly that is over is remembered.
	Keep time.Duration `yaml:"keep"`
	// Bootstrap are files with what is known of series from before the first row: CSV, Parquet,
	// folders of Parquet, or addresses that answer with CSV.
	Bootstrap []string `yaml:"bootstrap"`
	// Verdicts is a file of what people say, which the API appends to.
	Verdicts string `yaml:"verdicts"`
	// Names is a CSV file of what entities are called: entity, name.
	Names string `yaml:"names"`

	view *radarView `yaml:"-"` // what the API shows
}

// TrafficCounterConfig is what is known of the counters.
type TrafficCounterConfig struct {
	// Key are the columns beside the entity and the signal by which a counter is one.
	Key    []string       `yaml:"key"`
	Bits   int            `yaml:"bits"`
	MaxBps float64        `yaml:"max_bps"`
	MaxGap time.Duration  `yaml:"max_gap"`
	Policy traffic.Policy `yaml:"policy"`
}

// TrafficDetectorConfig has the thresholds of the detector.
type TrafficDetectorConfig struct {
	Sustained float64 `yaml:"sustained"`
	Point     float64 `yaml:"point"`
	Closing   float64 `yaml:"closing"`
	LeastDrop float64 `yaml:"least_drop"`
	// Replace says which events lend their forecast to later days in place of what there was: all,
	// or verified_only.
	Replace string `yaml:"replace"`
}

// TrafficEligibilityConfig says which series are fit to be published.
type TrafficEligibilityConfig struct {
	Median    float64 `yaml:"median"`
	P5        float64 `yaml:"p5"`
	Leave     float64 `yaml:"leave"`
	LeaveDays int     `yaml:"leave_days"`
}

// TrafficMergeConfig says how the events of signals become anomalies.
type TrafficMergeConfig struct {
	Gap               time.Duration `yaml:"gap"`
	AutoVerifySources int           `yaml:"auto_verify_sources"`
	Quorum            int           `yaml:"quorum"`
}

// Words of the settings.
const (
	inputVolumes  = "volumes"
	inputCounters = "counters"
	absentMissing = "missing"
	absentZero    = "zero"
	replaceAll    = "all"
	replaceOnly   = "verified_only"
	faultHold     = "hold"
	faultPublish  = "publish"
)

func (c *TrafficConfig) setDefaults() {
	counter, det, elig, merge, reg := traffic.DefaultCounterConfig(), traffic.DefaultDetectorConfig(), traffic.DefaultEligibilityConfig(), traffic.DefaultMergeConfig(), traffic.DefaultRegisterConfig()
	*c = TrafficConfig{
		Input: inputVolumes, Entity: "entity", Signal: "source", Value: "bytes", Absent: absentMissing,
		Counters:       TrafficCounterConfig{Key: []string{"device", "if_name"}, Bits: counter.Bits, MaxGap: durationOf(counter.MaxGap), Policy: counter.Policy},
		Detector:       TrafficDetectorConfig{Sustained: det.Sustained, Point: det.Point, Closing: det.Closing, LeastDrop: det.LeastDrop, Replace: replaceAll},
		Eligibility:    TrafficEligibilityConfig{Median: elig.Median, P5: elig.P5, Leave: elig.Leave, LeaveDays: elig.LeaveDays},
		Merge:          TrafficMergeConfig{Gap: durationOf(merge.Gap), AutoVerifySources: merge.AutoVerify, Quorum: merge.Quorum},
		CollectorFault: faultHold, Keep: durationOf(reg.Keep),
		view: newRadarView(),
	}
}

func (c *TrafficConfig) feed() string { return "traffic" }

// Validate returns every problem.
func (c *TrafficConfig) Validate() error {
	var errs []error
	for _, w := range []struct{ name, value, one, other string }{
		{"input", c.Input, inputVolumes, inputCounters}, {"absent", c.Absent, absentMissing, absentZero},
		{"detector.replace", c.Detector.Replace, replaceAll, replaceOnly}, {"collector_fault", c.CollectorFault, faultHold, faultPublish},
	} {
		if w.value != w.one && w.value != w.other {
			errs = append(errs, fmt.Errorf("%s %q: known are %s, %s", w.name, w.value, w.one, w.other))
		}
	}
	if c.Entity == "" || c.Value == "" {
		errs = append(errs, errors.New("entity, value: name a column each"))
	}
	if c.Input == inputCounters && c.Absent == absentZero {
		errs = append(errs, errors.New("absent zero: a counter that nobody read is missing; take missing"))
	}
	if c.Eligibility.LeaveDays < 1 || !(c.Eligibility.Leave > 0 && c.Eligibility.Leave <= 1) || !(c.Eligibility.Median >= 0) || !(c.Eligibility.P5 >= 0) {
		errs = append(errs, errors.New("eligibility: want median and p5 of 0 or more, leave above 0 and at most 1, leave_days of 1 or more"))
	}
	for _, f := range c.Bootstrap {
		if u, err := url.Parse(f); isURL(f) && (err != nil || u.User != nil) {
			errs = append(errs, errors.New("bootstrap: a URL with a name or password in it: the job's state would show it; let the server know the machine, or take a file"))
		}
	}
	errs = append(errs, under("counters", c.counterConfig().Validate())...)
	errs = append(errs, under("detector", c.seriesConfig().Detector.Validate())...)
	errs = append(errs, under("merge", c.registerConfig().Merge.Validate())...)
	if c.Keep < leastKept {
		errs = append(errs, fmt.Errorf("keep %v: want at least %v: for so long events may still be merged", c.Keep, leastKept))
	}
	return errors.Join(errs...)
}

// leastKept is for how long an anomaly is remembered at least: traffic.RegisterConfig.
const leastKept = 30 * 24 * time.Hour

// under says of every problem in which section it is.
func under(section string, err error) []error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{fmt.Errorf("%s: %w", section, err)}
	}
	var out []error
	for _, e := range many.Unwrap() {
		out = append(out, fmt.Errorf("%s: %w", section, e))
	}
	return out
}

func (c *TrafficConfig) counterConfig() traffic.CounterConfig {
	return traffic.CounterConfig{Bits: c.Counters.Bits, MaxBps: c.Counters.MaxBps, MaxGap: pipeline.Ticks(c.Counters.MaxGap), Policy: c.Counters.Policy}
}

func (c *TrafficConfig) seriesConfig() traffic.SeriesConfig {
	d, e := c.Detector, c.Eligibility
	return traffic.SeriesConfig{
		AbsentIsZero: c.Absent == absentZero,
		Detector:     traffic.DetectorConfig{Sustained: d.Sustained, Point: d.Point, Closing: d.Closing, LeastDrop: d.LeastDrop, VerifiedOnly: d.Replace == replaceOnly},
		Eligibility:  traffic.EligibilityConfig{Median: e.Median, P5: e.P5, Leave: e.Leave, LeaveDays: e.LeaveDays},
	}
}

func (c *TrafficConfig) registerConfig() traffic.RegisterConfig {
	return traffic.RegisterConfig{
		Merge:      traffic.MergeConfig{Gap: pipeline.Ticks(c.Merge.Gap), AutoVerify: c.Merge.AutoVerifySources, Quorum: c.Merge.Quorum},
		HoldFaults: c.CollectorFault == faultHold, Keep: pipeline.Ticks(c.Keep),
	}
}

// verdictsFile is the name of the file of verdicts among those of the job.
const verdictsFile = "traffic.verdicts"

func (c *TrafficConfig) domain(job *Config) domain {
	var counted func(map[traffic.Kind]int64)
	d := domain{
		work: fmt.Sprintf("drops in %s of %s by %s", c.Input, c.Value, c.Entity), key: c.rowKey(), oneShard: true,
		tables: []domainTable{
			{schema: traffic.FindingSchema(), sortBy: []string{"finding_uid", "n"}, timeColumn: "time", mapper: findingMapper, live: 60},
			traffic.SlotsTable + 1: {suffix: "slots", schema: traffic.SlotSchema(), sortBy: []string{"entity", "signal", "slot_start", "state", "counter"}, timeColumn: "slot_start",
				live: 200, liveBy: []string{"entity", "signal"}},
			traffic.AuditTable + 1: {suffix: "audit", schema: traffic.AuditSchema(), sortBy: []string{"time", "finding_uid", "reason"}, timeColumn: "time"},
		},
		check: c.checkColumns,
		metrics: func(reg prometheus.Registerer, job string) (err error) {
			if c.Input == inputCounters {
				counted, err = countSamples(reg, job)
			}
			return err
		},
		build: func(rows *arrow.Schema, values map[string]any, seed uint64, mem memory.Allocator) ([]pipeline.Operator, error) {
			verdicts, _ := values[verdictsFile].([]traffic.Verdict)
			b := trafficChain{cfg: c, seed: seed, maxBytes: job.keyedBytes(trafficOperators), mem: mem, verdicts: verdicts, rows: rows, key: c.rowKey(), counted: counted}
			return b.build()
		},
	}
	if c.Verdicts != "" {
		d.files = []domainFile{{verdictsFile, c.Verdicts, func(b []byte) (any, error) { return parseVerdicts(c.Verdicts, b) }}}
	}
	if c.Names != "" {
		d.files = append(d.files, domainFile{"traffic.names", c.Names, func(b []byte) (any, error) {
			names, err := parseNames(c.Names, b)
			if err == nil {
				c.view.name(names) // nobody but the API uses them
			}
			return names, err
		}})
	}
	return d
}

// checkColumns says which columns the rows do not have, or have with another type.
func (c *TrafficConfig) checkColumns(rows *arrow.Schema) error {
	var errs []error
	check := func(setting, name string, types ...arrow.Type) {
		at := rows.FieldIndices(name)
		switch {
		case len(at) != 1:
			errs = append(errs, fmt.Errorf("%s: column %q: the rows have none of that name", setting, name))
		case !slices.Contains(types, rows.Field(at[0]).Type.ID()):
			errs = append(errs, fmt.Errorf("%s: column %q: has type %s, want %s", setting, name, rows.Field(at[0]).Type, strings.ToLower(types[0].String())))
		}
	}
	check("entity", c.Entity, arrow.STRING)
	if c.Signal != "" {
		check("signal", c.Signal, arrow.STRING)
	}
	if c.Input != inputCounters {
		check("value", c.Value, arrow.INT64, arrow.FLOAT64)
		return errors.Join(errs...)
	}
	check("value", c.Value, arrow.INT64)
	for _, k := range c.Counters.Key {
		if len(rows.FieldIndices(k)) != 1 {
			errs = append(errs, fmt.Errorf("counters: key: column %q: the rows have none of that name", k))
		}
	}
	return errors.Join(errs...)
}

func findingMapper(base ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
	cfg := trafficfeed.DefaultFindingConfig()
	cfg.Config = base
	return trafficfeed.NewFindingMapper(cfg, in)
}

// rowKey are the columns by which rows are one counter, or one series.
func (c *TrafficConfig) rowKey() []string {
	key := []string{c.Entity}
	if c.Signal != "" {
		key = append(key, c.Signal)
	}
	if c.Input == inputCounters {
		key = append(key, c.Counters.Key...)
	}
	return key
}

// trafficOperators is how many operators trafficChain makes.
const trafficOperators = 3

// trafficChain makes the operators of a job, one after the other.
type trafficChain struct {
	cfg      *TrafficConfig
	seed     uint64
	maxBytes int64 // of each
	mem      memory.Allocator
	verdicts []traffic.Verdict
	rows     *arrow.Schema // of what the next operator gets, and its key
	key      []string
	ops      []pipeline.Operator
	counted  func(map[traffic.Kind]int64) // nil: nobody counts
}

// build makes the operators: counters or volumes to slots, slots to events, and events to
// anomalies.
func (b *trafficChain) build() ([]pipeline.Operator, error) {
	slots := b.volumes
	if b.cfg.Input == inputCounters {
		slots = b.counters
	}
	for _, step := range []func() error{slots, b.series, b.anomalies} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("traffic: %w", err)
		}
	}
	return b.ops, nil
}

// keep appends the operator of a machine, whose rows are those of the next one.
func keep[S any](b *trafficChain, m operators.Machine[S], write func([]byte, *S) []byte, read func([]byte, *S) error, then *arrow.Schema, key ...string) error {
	op, err := operators.NewKeyed(operators.KeyedConfig[S]{Key: b.key, Seed: b.seed, Append: write, Read: read, MaxBytes: b.maxBytes}, m, b.rows, b.mem)
	if err != nil {
		return err
	}
	b.ops, b.rows, b.key = append(b.ops, op), then, key
	return nil
}

func (b *trafficChain) counters() error {
	columns := traffic.CounterColumns{Entity: b.cfg.Entity, Signal: b.cfg.Signal, Value: b.cfg.Value, Up: "sys_uptime", Discontinuity: "discontinuity"}
	m, err := traffic.NewCounters(b.cfg.counterConfig(), columns, b.rows, b.mem)
	if err != nil {
		return err
	}
	m.Counted = b.counted
	return keep(b, m, traffic.AppendCounter, traffic.ReadCounter, traffic.CountedSchema(), "entity", "signal")
}

func (b *trafficChain) volumes() error {
	m, err := traffic.NewVolumes(traffic.VolumeColumns{Entity: b.cfg.Entity, Signal: b.cfg.Signal, Value: b.cfg.Value}, b.rows, b.mem)
	if err != nil {
		return err
	}
	return keep(b, m, traffic.AppendVolume, traffic.ReadVolume, traffic.CountedSchema(), "entity", "signal")
}

func (b *trafficChain) series() error {
	cfg := b.cfg.seriesConfig()
	var err error
	if cfg.History, err = readHistory(b.cfg.Bootstrap); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	m, err := traffic.NewSeries(cfg, b.verdicts, b.mem)
	if err != nil {
		return err
	}
	return keep(b, m, traffic.AppendSeries, m.Read, traffic.NoticeSchema(), traffic.NoticeKey)
}

func (b *trafficChain) anomalies() error {
	show := b.cfg.view.show
	m, err := traffic.NewAnomalies(b.cfg.registerConfig(), b.verdicts, show, b.mem)
	if err != nil {
		return err
	}
	read := func(state []byte, g *traffic.Register) error {
		err := traffic.ReadRegister(state, g)
		if err == nil {
			show(g.Now(), g.Records())
		}
		return err
	}
	return keep(b, m, traffic.AppendRegister, read, traffic.FindingSchema())
}

// countSamples makes the metric of what the samples of counters were.
func countSamples(reg prometheus.Registerer, job string) (func(map[traffic.Kind]int64), error) {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_traffic_samples_total", ConstLabels: prometheus.Labels{"job": job},
		Help: "Samples of counters by what they were, compared with the one before, as of the mark."}, []string{"kind"})
	if err := reg.Register(v); err != nil {
		return nil, fmt.Errorf("traffic metrics of job %s: %w", job, err)
	}
	by := map[traffic.Kind]prometheus.Counter{}
	for _, k := range traffic.Kinds() {
		by[k] = v.WithLabelValues(string(k))
	}
	return func(n map[traffic.Kind]int64) {
		for k, samples := range n {
			by[k].Add(float64(samples))
		}
	}, nil
}

// radar serves the anomalies of the job; nil when it has none.
func (c *Config) radar() http.Handler {
	if c.Traffic == nil {
		return nil
	}
	return newRadarAPI(c.Traffic.view, c.Traffic.Verdicts)
}

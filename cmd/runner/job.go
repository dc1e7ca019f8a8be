package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	topics "github.com/tidemark/tidemark/sinks/kafka"
	"github.com/tidemark/tidemark/sinks/notify"
	"github.com/tidemark/tidemark/sinks/parquet"
	"github.com/tidemark/tidemark/sources/kafka"
)

func valueOf(v any) reflect.Value { return reflect.ValueOf(v).Elem() }

// A plan is a checked job: the columns on its ways.
type plan struct {
	cfg     Config
	feed    feed
	fields  []schemas.Field
	decoded *arrow.Schema // what the decoder gives, and the job's clock
	rows    *arrow.Schema // what windows read: with the columns of reference tables
	folded  *arrow.Schema // what windows give
	// described is that with the columns of reference tables on results.
	described *arrow.Schema
	results   *arrow.Schema // what sinks get
	late      *arrow.Schema
	mapper    func() (*ocsf.Mapper, error) // of described; nil: results as they are
	refs      *references                  // nil: none
	events    *events                      // of a mapping file; nil: none
	dom       *domain                      // in place of a window; nil: none
	// notified counts what became of notifications; nil: nobody does.
	notified func(policy string, o notify.Outcome)
}

// newPlan checks everything that depends on columns.
func newPlan(cfg Config, f feed, fields []schemas.Field) (*plan, error) {
	p := &plan{cfg: cfg, feed: f, fields: fields}
	if cfg.Mapping != nil {
		var err error
		if p.events, err = newEvents(cfg); err != nil {
			return nil, err
		}
	}
	dec, err := p.decoder(memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	p.decoded = cfg.timed(dec.Schema())
	if p.events != nil {
		p.rows, p.results = p.decoded, p.decoded // of compat; others have a table per class
		return p, nil
	}
	bad := func(i int, e error) { err = errors.Join(err, fmt.Errorf("reference %d: %w", i, e)) }
	p.rows = enrichRows(cfg.Reference, onRows, p.decoded, bad)
	if err != nil {
		return nil, err
	}
	p.dom = cfg.domain()
	switch {
	case cfg.Rows:
		p.folded = p.rows
	case p.dom != nil:
		p.folded = p.dom.tables[0].schema
	default:
		w, err := cfg.newKeyed(0, p.rows, memory.DefaultAllocator)
		if err != nil {
			return nil, err
		}
		p.folded = w.Schema()
	}
	p.described, p.late = enrichRows(cfg.Reference, onResults, p.folded, bad), operators.LateSchema(p.rows)
	if err != nil {
		return nil, err
	}
	p.results = p.described
	if cfg.Normalize.To != "ocsf" {
		return p, nil
	}
	p.mapper = p.newMapper
	m, err := p.mapper()
	if err != nil {
		return nil, fmt.Errorf("ocsf: %w", err)
	}
	p.results = m.Schema()
	return p, nil
}

// newMapper makes a mapper of described.
func (p *plan) newMapper() (*ocsf.Mapper, error) {
	cfg, base := p.cfg, ocsf.DefaultConfig()
	base.Topic, base.ProductVersion = cfg.Source.Kafka.Topic, version
	base.Version, base.Dialect, base.ExtensionUID = cfg.Normalize.Version, cfg.Normalize.Dialect, cfg.Normalize.ExtensionUID
	switch {
	case cfg.Rows:
		return p.feed.rowMapper(ocsf.RowConfig{Config: base, Stream: base.Topic}, p.described)
	case p.dom != nil:
		return p.dom.tables[0].mapper(base, p.described)
	}
	oc := ocsf.WindowConfig{Config: base, Op: cfg.Window.ID, Kind: ocsf.Tumbling}
	switch w := cfg.Window.last(); {
	case w.Hopping != nil:
		oc.Kind = ocsf.Hopping
	case w.Cumulate != nil:
		oc.Kind = ocsf.Cumulate
	case w.Session != nil:
		oc.Kind = ocsf.Session
	}
	return p.feed.mapper(oc, p.described)
}

// planOf makes the plan of a configuration.
func planOf(cfg Config) (*plan, error) {
	f, err := feedOf(cfg.Feed)
	if err != nil {
		return nil, err
	}
	fields, err := schemas.Override(f.fields(), cfg.fieldMaps())
	if err != nil {
		return nil, err
	}
	return newPlan(cfg, f, fields)
}

func (p *plan) decoder(mem memory.Allocator) (*operators.Decode, error) {
	if p.events != nil {
		rows, err := p.events.rows(mem)
		if err != nil {
			return nil, err
		}
		return operators.NewDecode(p.cfg.decodeConfig(p.feed), rows, mem)
	}
	rows, err := schemas.NewDecoder(p.fields, p.cfg.jsonLimits())
	if err != nil {
		return nil, err
	}
	return operators.NewDecode(p.cfg.decodeConfig(p.feed), rows, mem)
}

// clock makes what sets the times of rows before marks are made of them; nil for nothing.
func (p *plan) clock(mem memory.Allocator) (pipeline.Clock, error) {
	if p.dom == nil || p.dom.clock == nil {
		return nil, nil
	}
	dec, err := p.decoder(mem)
	if err != nil {
		return nil, err
	}
	return p.dom.clock(dec.Schema(), mem)
}

// step is an operator of the chain with its name.
type step struct {
	name string
	op   pipeline.Operator
}

// Names of steps, in their order. An operator that keeps rows by key is stepWindow.
const (
	stepDecode    = "decode" // before the chain
	stepEnrich    = "enrich"
	stepFilter    = "filter"
	stepDedupe    = "dedupe"
	stepWindow    = "window"
	stepDescribe  = "describe"
	stepNormalize = "normalize"
)

// steps builds the operators of one shard.
func (p *plan) steps(seed uint64, mem memory.Allocator) ([]step, error) {
	var chain []step
	add := func(name string, ops ...pipeline.Operator) {
		for _, op := range ops {
			chain = append(chain, step{name, op})
		}
	}
	if p.events != nil {
		ops, err := p.events.chain(p.decoded, mem)
		add(stepNormalize, ops...)
		return chain, err
	}
	enrich, err := p.refs.enrich(onRows, p.decoded, mem)
	if err != nil {
		return nil, err
	}
	add(stepEnrich, enrich...)
	if p.cfg.Filter != "" {
		f, err := operators.NewFilter(p.cfg.Filter, p.rows)
		if err != nil {
			return nil, err
		}
		add(stepFilter, f)
	}
	if p.cfg.Dedupe != nil {
		d, err := operators.NewDedupe(p.cfg.dedupeConfig(seed), p.rows, mem)
		if err != nil {
			return nil, err
		}
		add(stepDedupe, d)
	}
	switch {
	case p.cfg.Rows:
		add(stepWindow, operators.NewEach(mem))
	case p.dom != nil:
		ops, err := p.dom.build(p.rows, p.refs.values(), seed, mem)
		if err != nil {
			return nil, err
		}
		add(stepWindow, ops...)
	default:
		w, err := p.cfg.newKeyed(seed, p.rows, mem)
		if err != nil {
			return nil, err
		}
		add(stepWindow, w)
		described, err := p.refs.enrich(onResults, w.Schema(), mem)
		if err != nil {
			return nil, err
		}
		add(stepDescribe, described...)
	}
	if p.mapper == nil {
		return chain, nil
	}
	m, err := p.mapper()
	if err != nil {
		return nil, err
	}
	add(stepNormalize, operators.NewNormalize(m.Map, mem))
	return chain, nil
}

// chain is steps without names.
func (p *plan) chain(seed uint64, mem memory.Allocator) ([]pipeline.Operator, error) {
	steps, err := p.steps(seed, mem)
	return operatorsOf(steps), err
}

func operatorsOf(steps []step) []pipeline.Operator {
	ops := make([]pipeline.Operator, len(steps))
	for i, s := range steps {
		ops[i] = s.op
	}
	return ops
}

// jobDeps is what a job gets from the program around it.
type jobDeps struct {
	log          *slog.Logger
	registry     prometheus.Registerer
	onCheckpoint func(pipeline.Published)
	references   *references // of the configuration; nil for none
	live         *liveView   // the page of domains; nil for none
	takeOver     bool        // the job from whoever runs it
	// accept, newLineage and settings are as in pipeline.Job.
	accept     func(*pipeline.Checkpoint) error
	newLineage bool
	settings   <-chan pipeline.Settings
	rate       int // records a second at most; 0 for any
}

// buildJob turns a validated configuration into a job. The caller closes it.
func buildJob(cfg Config, deps jobDeps) (pipeline.Job, func() error, error) {
	p, err := planOf(cfg)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	p.refs = deps.references
	mem := memory.DefaultAllocator
	store, err := openStore(cfg.Checkpoint.Dir, cfg.Checkpoint.S3)
	if err != nil {
		return pipeline.Job{}, nil, fmt.Errorf("checkpoint directory: %w", err)
	}
	unlock := func() error { return nil }
	if !inBucket(cfg.Checkpoint.Dir) {
		lock, err := lockState(cfg.Checkpoint.Dir)
		if err != nil {
			return pipeline.Job{}, nil, fmt.Errorf("checkpoint directory: %w", err)
		}
		unlock = lock.Close
	}
	job, closeSinks, err := p.job(store, deps, mem)
	if err != nil {
		return pipeline.Job{}, nil, errors.Join(err, unlock())
	}
	return job, func() error { return errors.Join(closeSinks(), unlock()) }, nil
}

// leaseIntervals is how many checkpoints a process may miss before it is taken for dead, and
// leaseTime how long at least.
const (
	leaseIntervals = 3
	leaseTime      = 30 * time.Second
)

// lease is the process's claim to the job. Where there is a lock, whoever has it is alone.
func (c *Config) lease(takeOver bool) (pipeline.Lease, error) {
	l := pipeline.Lease{Owner: c.Checkpoint.Owner, TTL: max(leaseTime, leaseIntervals*c.Checkpoint.Interval), Sure: !inBucket(c.Checkpoint.Dir), Force: takeOver}
	if l.Owner == "" {
		name, err := os.Hostname()
		if err != nil {
			return l, fmt.Errorf("the machine's name, which is to stand in the lease: %w; set checkpoint.owner", err)
		}
		l.Owner = name
	}
	return l, nil
}

// job puts the parts together. The caller closes the sinks.
func (p *plan) job(store pipeline.Store, deps jobDeps, mem memory.Allocator) (pipeline.Job, func() error, error) {
	cfg := p.cfg
	metrics, err := pipeline.NewMetrics(deps.registry, cfg.Job)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	if p.events != nil {
		if p.events.metrics, err = newEventMetrics(deps.registry, cfg.Job); err != nil {
			return pipeline.Job{}, nil, err
		}
		if p.events.cfg.Mode == mapping.Compat {
			deps.log.Warn("mode compat keeps events as the mapping file makes them: they are not checked, and most mapping files make none that are valid OCSF; mode conform does")
		}
	}
	if p.dom != nil && p.dom.metrics != nil {
		if err := p.dom.metrics(deps.registry, cfg.Job); err != nil {
			return pipeline.Job{}, nil, err
		}
	}
	if cfg.Notify != nil {
		if p.notified, err = countNotifications(deps.registry, cfg.Job); err != nil {
			return pipeline.Job{}, nil, err
		}
		if cfg.Source.Kafka.Bounded {
			deps.log.Info("nobody is notified: a job that ends reads what is past")
		}
	}
	front, err := p.front(mem)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	outputs, closeSinks, err := p.outputs(store, deps.log, metrics)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	if section, _ := cfg.domainSection(); p.dom != nil && deps.live != nil {
		shown, then := deps.live.add(cfg.Job, section, p.dom), deps.onCheckpoint
		shown.sinks(deps.live, p.results, outputs)
		deps.onCheckpoint = func(c pipeline.Published) {
			shown.published(deps.live)
			if then != nil {
				then(c)
			}
		}
	}
	if !cfg.Decisions.Off {
		flush, closeRest := p.remember(store, &deps, mem), closeSinks
		closeSinks = func() error { return errors.Join(flush(), closeRest()) }
	}
	open, err := observeSource(kafka.Opener(cfg.Source.Kafka, deps.log), deps.registry, cfg.Job)
	if err != nil {
		return pipeline.Job{}, nil, err
	}
	if deps.rate > 0 {
		open = limited(open, deps.rate)
	}
	lease, lerr := cfg.lease(deps.takeOver)
	config, cerr := canonical(cfg)
	if err := errors.Join(lerr, cerr); err != nil {
		return pipeline.Job{}, nil, errors.Join(err, closeSinks())
	}
	var updates <-chan pipeline.Reference
	if p.refs != nil {
		updates = p.refs.updates
	}
	return pipeline.Job{
		Name:         cfg.Job,
		Open:         whenReady(outputs, open),
		NewDecoder:   func() (pipeline.Decoder, error) { return p.decoder(mem) },
		KeyColumns:   cfg.keyColumns(),
		NewChain:     func(seed uint64) ([]pipeline.Operator, error) { return p.chain(seed, mem) },
		Outputs:      outputs,
		Front:        front,
		Shards:       cfg.Parallelism.Shards,
		Merge:        cfg.replay.bounded(),
		Lineage:      cfg.replay.lineage(),
		Decoders:     cfg.Parallelism.Decoders,
		Checkpoints:  pipeline.NewCheckpoints(store, cfg.Checkpoint.Keep, mem),
		Lease:        lease,
		Interval:     cfg.Checkpoint.Interval,
		StopTimeout:  cfg.StopTimeout,
		MaxStageRows: maxStageRows,
		Log:          deps.log,
		Metrics:      metrics,
		References:   updates,
		OnCheckpoint: deps.onCheckpoint,
		Config:       config,
		Accept:       deps.accept,
		NewLineage:   deps.newLineage,
		Settings:     deps.settings,
	}, closeSinks, nil
}

// front says how splits meet.
func (p *plan) front(mem memory.Allocator) (pipeline.FrontConfig, error) {
	c := p.cfg
	clock, err := p.clock(mem)
	return pipeline.FrontConfig{Bound: pipeline.Ticks(c.EventTime.MaxDisorder), QuietAfter: int64(c.EventTime.QuietAfter), OnAllQuiet: c.EventTime.OnAllQuiet,
		IdleAfter: pipeline.Ticks(c.EventTime.IdleAfter), MaxAhead: c.maxAhead(), Until: c.replay.until(), Align: pipeline.Ticks(c.EventTime.Align),
		Ingest: c.Window.Trigger == operators.OnIngest, Clock: clock}, err
}

// maxStageRows is pipeline.Job.MaxStageRows of every job.
const maxStageRows = 1 << 20

// readyTimeout bounds the wait for the servers of the sinks at start.
const readyTimeout = 10 * time.Second

// whenReady opens the source once every sink that has a server has made or checked its
// tables there: a job that cannot deliver does not begin to read.
func whenReady(outputs map[pipeline.Port][]pipeline.Output, open pipeline.OpenSource) pipeline.OpenSource {
	return func(ctx context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		rctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		for _, of := range outputs {
			for _, o := range of {
				if s, ok := o.Sink.(interface{ Ready(context.Context) error }); ok {
					if err := s.Ready(rctx); err != nil {
						return nil, fmt.Errorf("sink %s is not ready: %w; check that the server is up and that url and user are right", o.Name, err)
					}
				}
			}
		}
		return open(ctx, from)
	}
}

// outputs opens the sinks: for each, one of results, one of late rows, one of dead records.
func (p *plan) outputs(checkpoints pipeline.Store, log *slog.Logger, metrics *pipeline.Metrics) (map[pipeline.Port][]pipeline.Output, func() error, error) {
	out := map[pipeline.Port][]pipeline.Output{}
	var sinks []pipeline.Sink
	closeAll := func() error {
		var errs []error
		for _, s := range sinks {
			errs = append(errs, s.Close())
		}
		return errors.Join(errs...)
	}
	for _, sc := range p.cfg.Sinks {
		store := checkpoints // where ClickHouse keeps its blocks
		if sc.Parquet != nil {
			var err error
			if store, err = openStore(sc.Parquet.Dir, sc.Parquet.S3); err != nil {
				return nil, nil, errors.Join(fmt.Errorf("parquet directory: %w", err), closeAll())
			}
		}
		for _, port := range p.ports() {
			name, timeColumn, s, err := p.sink(sc, port, store, log)
			if err != nil {
				return nil, nil, errors.Join(err, closeAll())
			}
			sinks = append(sinks, s)
			if c, ok := s.(*clickhouse.Sink); ok {
				c.Observe(clickhouse.Observer(metrics.OfSink(name)))
			}
			if p.cfg.replay != nil {
				s = p.cfg.replay.within(s, timeColumn)
			}
			out[port] = append(out[port], pipeline.Output{Name: name, Sink: s})
		}
	}
	if p.cfg.Notify != nil {
		s, err := notify.New(*p.cfg.Notify, checkpoints, p.results, log, p.notified)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		if p.cfg.Source.Kafka.Bounded { // what is bounded is of the past
			s.Mute()
		}
		sinks = append(sinks, s)
		out[pipeline.Out] = append(out[pipeline.Out], pipeline.Output{Name: "notify", Sink: s})
	}
	if !p.cfg.Decisions.Off {
		sinks = append(sinks, p.decided(out, checkpoints, memory.DefaultAllocator))
	}
	return out, closeAll, nil
}

// ports are those by which rows leave the job.
func (p *plan) ports() []pipeline.Port {
	switch {
	case p.events != nil && len(p.events.classes) > 0:
		ports := []pipeline.Port{pipeline.Dead}
		for i := range p.events.classes {
			ports = append(ports, pipeline.Side(i))
		}
		return ports
	case p.cfg.windowless(): // nothing can be late
		return []pipeline.Port{pipeline.Out, pipeline.Dead}
	}
	ports := []pipeline.Port{pipeline.Out, pipeline.Late, pipeline.Dead}
	if p.dom != nil {
		for i := range p.dom.tables[1:] {
			ports = append(ports, pipeline.Side(i))
		}
		return ports
	}
	if p.cfg.Window.Trigger == operators.OnIngest {
		ports = append(ports, pipeline.Delta)
	}
	return ports
}

// sink opens the sink of one port, whose durable bytes are in store. timeColumn says when its
// rows are of.
func (p *plan) sink(sc SinkConfig, port pipeline.Port, store pipeline.Store, log *slog.Logger) (name, timeColumn string, s pipeline.Sink, err error) {
	if sc.ClickHouse != nil {
		cfg, schema := p.clickhouse(sc.ClickHouse.Config, port)
		s, err := clickhouse.New(cfg, store, schema, log)
		return "clickhouse:" + cfg.Database + "." + cfg.Table, cfg.TimeColumn, s, err
	}
	if sc.Kafka != nil {
		cfg, schema := p.kafka(sc.Kafka.SinkConfig, port)
		s, err := topics.NewSink(cfg, store, schema, log)
		return "kafka:" + cfg.Topic, p.timeColumn(port), s, err
	}
	cfg, schema := p.parquet(sc.Parquet.Config, port)
	s, err = parquet.New(cfg, store, schema)
	return "parquet:" + below(sc.Parquet.Dir, cfg.Table), cfg.TimeColumn, s, err
}

// parquet returns the folder of a port and its columns.
func (p *plan) parquet(cfg parquet.Config, port pipeline.Port) (parquet.Config, *arrow.Schema) {
	schema := p.results
	if class, ok := p.events.class(port); ok {
		cfg, schema = cfg.OfClass(class.name, class.columns.Class), class.schema
	}
	if t, ok := p.dom.side(port); ok {
		cfg = cfg.Beside(t.name(cfg.Table))
		cfg.TimeColumn, cfg.SortBy, schema = t.timeColumn, t.sortBy, t.schema
	}
	switch port {
	case pipeline.Out:
		cfg.CompleteAfter, _, _ = p.cfg.complete(cfg.TimeColumn)
	case pipeline.Delta:
		cfg = cfg.Beside(cfg.Table + "_late_delta")
	case pipeline.Late:
		cfg = cfg.Beside(cfg.Table + "_late")
		cfg.TimeColumn, cfg.SortBy, schema = "time", nil, p.late
	case pipeline.Dead:
		cfg = cfg.Beside(cfg.Table + "_dead")
		cfg.TimeColumn, cfg.SortBy, schema = "_ingest", nil, pipeline.DeadSchema()
	}
	if p.cfg.replay != nil { // a table for each, or one would sweep what another has staged
		cfg = cfg.Beside(cfg.Table + "/" + p.cfg.replay.number())
	}
	return cfg, schema
}

// clickhouse returns the table of a port and its columns. Late rows and dead records have
// no revisions: their tables only grow, so that upsert means nothing to them.
func (p *plan) clickhouse(cfg clickhouse.Config, port pipeline.Port) (clickhouse.Config, *arrow.Schema) {
	replays := cfg
	replays.Table += replaySuffix
	replays, _ = p.table(replays, port)
	cfg, schema := p.table(cfg, port)
	cfg.Replays = replays.Table
	return cfg, schema
}

func (p *plan) table(cfg clickhouse.Config, port pipeline.Port) (clickhouse.Config, *arrow.Schema) {
	cfg.ByLineage = p.cfg.replay != nil
	if class, ok := p.events.class(port); ok {
		cfg.Table += "_" + class.name
		if cfg.LowCardinality == nil {
			cfg.LowCardinality = fewValues(class.schema.Fields(), "")
		}
		return cfg, class.schema
	}
	if t, ok := p.dom.side(port); ok {
		cfg.Table, cfg.TimeColumn, cfg.OrderBy, cfg.LowCardinality = t.name(cfg.Table), t.timeColumn, t.sortBy, nil
		return cfg, t.schema
	}
	if port != pipeline.Out && cfg.Delivery == clickhouse.Upsert {
		cfg.Delivery = cfg.Strongest()
	}
	if cfg.LowCardinality == nil && p.mapper != nil {
		cfg.LowCardinality = fewValues(p.results.Fields(), "")
	}
	switch port {
	case pipeline.Out:
		if !p.cfg.windowed() {
			break
		}
		cfg.CompleteAfter, cfg.CompleteStep, cfg.CompleteOffset = p.cfg.complete(cfg.TimeColumn)
		cfg.LateDelta = slices.Contains(p.ports(), pipeline.Delta)
		cfg.Additions = p.additions()
	case pipeline.Delta:
		cfg.Table, cfg.Append = cfg.Table+clickhouse.DeltaSuffix, true
	case pipeline.Late:
		cfg.Table, cfg.Append, cfg.TimeColumn, cfg.LowCardinality = cfg.Table+"_late", true, "time", nil
		cfg.OrderBy = []string{"_split", "_offset"}
		return cfg, p.late
	case pipeline.Dead:
		cfg.Table, cfg.Append, cfg.TimeColumn, cfg.LowCardinality = cfg.Table+"_dead", true, "_ingest", nil
		cfg.OrderBy = []string{"_split", "_offset"}
		return cfg, pipeline.DeadSchema()
	}
	return cfg, p.results
}

// timeColumn names the column that says when the rows of a port are of.
func (p *plan) timeColumn(port pipeline.Port) string {
	if t, ok := p.dom.side(port); ok {
		return t.timeColumn
	}
	switch port {
	case pipeline.Late:
		return "time"
	case pipeline.Dead:
		return "_ingest"
	}
	_, column := p.cfg.resultOrder()
	return column
}

// kafka returns the topic of a port and the columns of its rows. Late rows and dead records are
// known by their place in the source; additions to a window have nothing that tells them apart.
func (p *plan) kafka(cfg topics.SinkConfig, port pipeline.Port) (topics.SinkConfig, *arrow.Schema) {
	if class, ok := p.events.class(port); ok {
		cfg.Topic += "_" + class.name
		return cfg, class.schema
	}
	if t, ok := p.dom.side(port); ok {
		cfg.Topic, cfg.Key, cfg.Identity = t.name(cfg.Topic), t.sortBy[:1], t.sortBy
		return cfg, t.schema
	}
	switch port {
	case pipeline.Delta:
		cfg.Topic, cfg.Identity = cfg.Topic+"_late_delta", nil
	case pipeline.Late:
		cfg.Topic, cfg.Key, cfg.Identity = cfg.Topic+"_late", p.cfg.keyColumns(), []string{"_split", "_offset"}
		return cfg, p.late
	case pipeline.Dead:
		cfg.Topic, cfg.Key, cfg.Identity = cfg.Topic+"_dead", []string{"_split"}, []string{"_split", "_offset"}
		return cfg, pipeline.DeadSchema()
	}
	return cfg, p.results
}

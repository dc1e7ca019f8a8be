package main

import (
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/sinks/notify"
)

// A domain is what a job does with the rows of its feed in place of windows: it follows assets,
// PDUs or traffic.
type domain struct {
	// work says what, in words.
	work string
	// key are the columns by which rows are dealt to shards. With oneShard the job has one: its
	// rules look across keys.
	key      []string
	oneShard bool
	// tables are what leaves: the first by port Out, the i-th behind it by pipeline.Side(i).
	tables []domainTable
	// files are read at start and again when they change.
	files []domainFile
	// check says what is wrong with the section, given the columns of the rows; nil: nothing to check.
	check func(rows *arrow.Schema) error
	// clock makes what sets the times of rows before marks are made of them, and timed says which columns
	// they have then; nil: times are those of the payloads.
	clock func(rows *arrow.Schema, mem memory.Allocator) (pipeline.Clock, error)
	timed func(rows *arrow.Schema) *arrow.Schema
	// build makes the operators of one shard, of which the last gives the tables. Values are
	// what was read of the files, by name.
	// metrics registers what the domain counts, before build; nil for nothing.
	metrics func(reg prometheus.Registerer, job string) error
	build   func(rows *arrow.Schema, values map[string]any, seed uint64, mem memory.Allocator) ([]pipeline.Operator, error)
}

// domainTable is a table of a domain.
type domainTable struct {
	suffix     string // of the table's name, behind a _: load; none for the first
	schema     *arrow.Schema
	sortBy     []string // of rows as they are, in which they are one
	timeColumn string
	// mapper makes OCSF events of rows whose first columns are those of schema; nil: there is
	// none, which only tables behind the first may say.
	mapper func(base ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error)
	// live is how many rows of a key the live page shows, 0 for none; liveBy names the columns
	// of the key, none for one key.
	live   int
	liveBy []string
}

// domainFile is a file that a domain reads.
type domainFile struct {
	name, path string
	parse      func(b []byte) (any, error)
}

// durationOf is a time of the operators as settings have it.
func durationOf(ticks int64) time.Duration { return time.Duration(ticks) * time.Microsecond }

// domainConfig is a section of the job file that names a domain.
type domainConfig interface {
	// feed is the one that it reads.
	feed() string
	Validate() error
	domain(c *Config) domain
}

// countNotifications makes the metric of what became of notifications.
func countNotifications(reg prometheus.Registerer, job string) (func(policy string, o notify.Outcome), error) {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_notifications_total", ConstLabels: prometheus.Labels{"job": job},
		Help: "Notifications by policy and by what became of them: sent, retried, dead, stale, silenced, repeated, excess."}, []string{"policy", "outcome"})
	if err := reg.Register(v); err != nil {
		return nil, fmt.Errorf("notification metrics of job %s: %w", job, err)
	}
	return func(policy string, o notify.Outcome) { v.WithLabelValues(policy, string(o)).Inc() }, nil
}

// domainSection returns the section of the job's domain and its name; nil for none.
func (c *Config) domainSection() (string, domainConfig) {
	switch {
	case c.Assets != nil:
		return "assets", c.Assets
	case c.Power != nil:
		return "power", c.Power
	case c.Traffic != nil:
		return "traffic", c.Traffic
	}
	return "", nil
}

// domain returns the job's domain, nil for none.
func (c *Config) domain() *domain {
	_, s := c.domainSection()
	if s == nil {
		return nil
	}
	d := s.domain(c)
	return &d
}

// side returns the table that leaves by a port behind the first.
func (d *domain) side(port pipeline.Port) (domainTable, bool) {
	if d != nil {
		for i, t := range d.tables[1:] {
			if port == pipeline.Side(i) {
				return t, true
			}
		}
	}
	return domainTable{}, false
}

// validateDomain checks the section of a domain, and that there is nothing beside it that takes
// rows as well.
func (c *Config) validateDomain(d *document) {
	name, s := c.domainSection()
	d.invalid(s.Validate(), name)
	if c.Feed != s.feed() {
		d.add(d.node(name), name, "is for feed %s, the job has feed %s", s.feed(), c.Feed)
	}
	for _, section := range []string{"rows", "window", "dedupe", "assets", "power", "traffic"} {
		if n := child(d.root, section); n != nil && section != name {
			d.add(n, section, "the job has a section %s, which takes the rows: take one of the two out", name)
		}
	}
	if c.EventTime.Scope == ScopeKey {
		d.add(d.node("event_time", "scope"), "event_time.scope", "clocks by key decide when windows end, and the job has none")
	}
	// Parallelism.Shards is 1 already; what the file says is not.
	if n := child(d.node("parallelism"), "shards"); n != nil && n.Value != "1" && c.domain().oneShard {
		d.add(n, "parallelism.shards", "%s: section %s has rules across its keys, which need them in one shard: set 1", n.Value, name)
	}
	// Both are about windows. What goes beyond state.max_bytes here stops the job.
	if c.State.MaxKeyWindows > 0 {
		d.add(d.node("state", "max_key_windows"), "state.max_key_windows", "section %s has no windows: take it out; state.max_bytes limits what the job holds", name)
	}
	if c.State.OverLimit == operators.LimitShed {
		d.add(d.node("state", "over_limit"), "state.over_limit", "%s: section %s has no windows that could leave early: take %s", operators.LimitShed, name, operators.LimitStop)
	}
	for i, ref := range c.Reference {
		if ref.On == onResults {
			d.add(d.node("reference", fmt.Sprint(i), "on"), fmt.Sprintf("reference.%d.on", i), "section %s gives tables of its own: take %s", name, onRows)
		}
	}
}

// keyedBytes is the part of the limit of state that each operator of a shard's chain of so many has; 0 for
// no limit.
func (c *Config) keyedBytes(chain int) int64 {
	limit := c.limit().Bytes
	if limit > 0 {
		limit = max(1, limit/int64(chain))
	}
	return limit
}

// name is what a table behind the first is called, where the first is called of.
func (t domainTable) name(of string) string { return of + "_" + t.suffix }

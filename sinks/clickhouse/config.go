package clickhouse

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// Delivery is what the sink promises.
type Delivery string

const (
	// ExactlyOnce writes every row once, whatever fails. It needs HTTP, because only there
	// is one block one request.
	ExactlyOnce Delivery = "exactly_once"
	// Upsert sends a block again, unverified, when its outcome is unknown: rows that are
	// there twice have the same sort key and version, so that FINAL and <table>_current show
	// one. It is for tables of results only.
	Upsert Delivery = "upsert"
	// AtLeastOnce sends a block again, unverified, when its outcome is unknown.
	AtLeastOnce Delivery = "at_least_once"
)

// MaxBlockRows is the largest BlockRows: above about a million rows the server cuts a
// block itself.
const MaxBlockRows = 1_000_000

// Config describes one table.
type Config struct {
	// Job is the job whose epochs will be staged. A table belongs to one job.
	Job string `yaml:"-"`

	// URL is http://host:8123, https://host:8443, or clickhouse://host:9000 for the native
	// protocol.
	URL      string          `yaml:"url"`
	Database string          `yaml:"database"`
	Table    string          `yaml:"table"`
	User     string          `yaml:"user"`
	Password pipeline.Secret `yaml:"password"`
	// CAFile holds the certificates that https trusts, instead of the system's.
	CAFile string `yaml:"ca_file"`

	Delivery Delivery `yaml:"delivery"`
	// Create is auto: make tables and views that are missing; or never.
	Create string `yaml:"create"`
	// Cluster makes tables and views ON CLUSTER, and Replicated by the Replicated engines,
	// with the macros {shard} and {replica}.
	Cluster    string `yaml:"cluster"`
	Replicated bool   `yaml:"replicated"`
	// Append makes a plain MergeTree, for rows that have no later revisions: late rows,
	// dead records. Otherwise the table is a ReplacingMergeTree.
	Append bool `yaml:"append"`
	// PartitionBy is month or day, of TimeColumn: a top-level timestamp, or an int64 of
	// milliseconds.
	PartitionBy pipeline.PartitionBy `yaml:"partition_by"`
	TimeColumn  string               `yaml:"time_column"`
	// OrderBy is the sort key. In a table of results it identifies a row: rows that agree
	// in it replace each other.
	OrderBy []string `yaml:"order_by"`
	// LowCardinality names string columns with less than about 100,000 values.
	LowCardinality []string `yaml:"low_cardinality"`
	// TTLDays removes rows so many days after TimeColumn; 0 keeps them.
	TTLDays int `yaml:"ttl_days"`

	// ByLineage makes a table in which the rows of several lineages stand side by side: the
	// lineage ends the sort key and begins the partition, so that rows of one replace none of
	// another, and one is dropped by its partitions. It has no view.
	ByLineage bool `yaml:"-"`
	// Replays is the table of that kind with the rows of the replays of this one; <table>_replays
	// unless said otherwise.
	Replays string `yaml:"-"`

	// CompleteAfter is by how much the mark is past TimeColumn at most when a row comes out,
	// in ticks; negative: nobody knows. CompleteStep and CompleteOffset say on which grid
	// the values of TimeColumn lie; a step of 0 is none.
	CompleteAfter  int64 `yaml:"-"`
	CompleteStep   int64 `yaml:"-"`
	CompleteOffset int64 `yaml:"-"`
	// LateDelta says that the job has late additions too, in table <table>_late_delta of the
	// same columns, which view <table>_current adds to the results as Additions say.
	LateDelta bool       `yaml:"-"`
	Additions []Addition `yaml:"-"`
	// CommitEvery bounds how often an epoch without rows is recorded, because its mark rose.
	CommitEvery time.Duration `yaml:"commit_every"`

	// AuditKeys keeps a hash of every sort key in tm_commits for a week, 8 bytes a row, so
	// that an audit tells rows that were replaced from rows that are lost.
	AuditKeys bool `yaml:"audit_keys"`
	// AuditEvery is the number of epochs with rows between two audits of the running job; 0
	// is none.
	AuditEvery int `yaml:"audit_every"`

	// BlockRows is the number of rows of an INSERT.
	BlockRows int `yaml:"block_rows"`
	// AttemptTimeout bounds one request.
	AttemptTimeout time.Duration `yaml:"attempt_timeout"`
	// DedupWindow is the number of blocks whose tokens the table remembers.
	DedupWindow int `yaml:"dedup_window"`
	// MaxStageRows and MaxStageBytes bound what an epoch keeps in memory: at either, the
	// rows so far are sealed and sorting starts anew. Bytes are those of the Arrow buffers.
	MaxStageRows  int   `yaml:"max_stage_rows"`
	MaxStageBytes int64 `yaml:"max_stage_bytes"`
	// MaxPendingBytes bounds what is sealed and not in the table: above it the next epoch
	// waits, and with it the reading. Bytes are those of the sealed objects.
	MaxPendingBytes int64 `yaml:"max_pending_bytes"`
}

// DefaultConfig is what a configuration file is decoded onto.
func DefaultConfig() Config {
	return Config{
		Database:        "default",
		User:            "default",
		Delivery:        ExactlyOnce,
		Create:          "auto",
		PartitionBy:     pipeline.PartitionMonth,
		TimeColumn:      "time",
		CompleteAfter:   -1,
		CommitEvery:     time.Minute,
		AuditKeys:       true,
		BlockRows:       100_000,
		MaxPendingBytes: 256 << 20,
		AttemptTimeout:  60 * time.Second,
		DedupWindow:     10_000,
		MaxStageRows:    1_000_000,
		MaxStageBytes:   512 << 20,
	}
}

// plainName is what may name a database, a table or a field without further thought.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate returns all problems of the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Job == "" {
		bad("job: name missing")
	}
	scheme, err := c.scheme()
	if err != nil {
		errs = append(errs, err)
	}
	if !plainName.MatchString(c.Database) {
		bad("database %q: want letters, digits and underscores", c.Database)
	}
	if !plainName.MatchString(c.Table) {
		bad("table %q: want letters, digits and underscores", c.Table)
	}
	switch c.Delivery {
	case ExactlyOnce:
		if err == nil && !strings.HasPrefix(scheme, "http") {
			bad("delivery: exactly_once needs the HTTP protocol: set url to http://host:8123 or https://host:8443, or delivery: at_least_once")
		}
	case Upsert:
		if c.Append {
			bad("delivery: upsert needs rows that replace each other, and the rows of an append table do not: take exactly_once or at_least_once")
		}
	case AtLeastOnce:
	default:
		bad("delivery %q: want exactly_once, upsert or at_least_once", c.Delivery)
	}
	if c.Create != "auto" && c.Create != "never" {
		bad("create %q: want auto or never", c.Create)
	}
	if c.PartitionBy != pipeline.PartitionMonth && c.PartitionBy != pipeline.PartitionDay {
		bad("partition_by %q: want month, or day above ten million rows a day", c.PartitionBy)
	}
	if c.TimeColumn == "" {
		bad("time_column: name the column to partition by")
	}
	if len(c.OrderBy) == 0 {
		bad("order_by: name the columns of the sort key, the device first")
	}
	for i, k := range c.OrderBy {
		if slices.Contains(c.OrderBy[:i], k) {
			bad("order_by: %s is named twice", k)
		}
	}
	if c.TTLDays < 0 {
		bad("ttl_days %d: want 0 for none, or more", c.TTLDays)
	}
	if c.CommitEvery < 0 {
		bad("commit_every %s: must not be negative; 0 records every epoch whose mark rose", c.CommitEvery)
	}
	if c.AuditEvery < 0 {
		bad("audit_every %d: must not be negative; 0 is never", c.AuditEvery)
	}
	if c.CompleteStep < 0 {
		bad("complete step %d: must not be negative", c.CompleteStep)
	}
	if c.BlockRows < 1 || c.BlockRows > MaxBlockRows {
		bad("block_rows %d: want 1 to %d", c.BlockRows, MaxBlockRows)
	}
	if c.AttemptTimeout < time.Second {
		bad("attempt_timeout %s: want at least 1s", c.AttemptTimeout)
	}
	if c.DedupWindow < 100 {
		bad("dedup_window %d: want at least 100", c.DedupWindow)
	}
	if c.MaxStageRows < 1 {
		bad("max_stage_rows %d: want at least 1", c.MaxStageRows)
	}
	if c.MaxStageBytes < 1 {
		bad("max_stage_bytes %d: want at least 1", c.MaxStageBytes)
	}
	if c.MaxPendingBytes < 1 {
		bad("max_pending_bytes %d: want at least 1", c.MaxPendingBytes)
	}
	return errors.Join(errs...)
}

func (c Config) replays() string { return cmp.Or(c.Replays, c.Table+ReplaySuffix) }

// Strongest is the strongest delivery that the protocol of URL allows a table that only
// grows.
func (c Config) Strongest() Delivery {
	if s, err := c.scheme(); err == nil && s == "clickhouse" {
		return AtLeastOnce
	}
	return ExactlyOnce
}

// scheme returns the scheme of URL. The error does not repeat the URL, which may hold a
// password.
func (c Config) scheme() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return "", errors.New("url: want http://host:8123, https://host:8443 or clickhouse://host:9000")
	}
	if u.User != nil {
		return "", errors.New("url: put user and password into their own fields")
	}
	switch u.Scheme {
	case "http", "https", "clickhouse":
		return u.Scheme, nil
	}
	return "", fmt.Errorf("url: scheme %q, want http, https or clickhouse", u.Scheme)
}

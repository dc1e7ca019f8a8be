package kafka

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	source "github.com/tidemark/tidemark/sources/kafka"
)

// Header names of the rows that a sink writes.
const (
	HeaderDedup    = "tm-dedup"    // the same in every repetition of a row, and in no other row
	HeaderRevision = "tm-revision" // of the window, where the row has one
	HeaderFinal    = "tm-final"    // true when nothing can follow
	HeaderDel      = "tm-del"      // true on a row that withdraws the one with its identity
	HeaderLineage  = "tm-lineage"
	HeaderEpoch    = "tm-epoch"
)

// Promise is what a sink says of its delivery, in words for whoever reads its topic.
const Promise = "delivery: at_least_once: consumers drop repeats by header " + HeaderDedup

// SinkConfig describes one topic of results.
type SinkConfig struct {
	// Job is the job whose epochs will be staged. A topic belongs to one job.
	Job string `yaml:"-"`

	source.Connection `yaml:",inline"`

	Topic string `yaml:"topic"`
	// Create is auto: make the topic with so many Partitions when it is missing; or never.
	Create     string `yaml:"create"`
	Partitions int    `yaml:"partitions"`

	// Format is json.
	Format string `yaml:"format"`
	// Key names the columns of the record's key. One column is its plain text, several are a
	// JSON array.
	Key []string `yaml:"key"`
	// Identity names the columns that no two rows share, but for their revisions. Without any a
	// row is known by its place in the epoch.
	Identity []string `yaml:"-"`

	Compression string `yaml:"compression"`
	BatchBytes  int    `yaml:"batch_bytes"`
	// AttemptTimeout bounds one request.
	AttemptTimeout time.Duration `yaml:"attempt_timeout"`
}

// DefaultSinkConfig lacks the topic and the brokers.
func DefaultSinkConfig() SinkConfig {
	p, c := DefaultConfig(), source.DefaultConnection()
	c.Brokers = nil
	return SinkConfig{Connection: c, Create: "auto", Partitions: 4, Format: "json", Compression: p.Compression, BatchBytes: p.BatchBytes, AttemptTimeout: 30 * time.Second}
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// Validate returns every problem.
func (c SinkConfig) Validate() error {
	errs := []error{c.Connection.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Job == "" {
		bad("job: name missing")
	}
	if !topicName.MatchString(c.Topic) || c.Topic == "." || c.Topic == ".." {
		bad("topic: %q: want 1 to 249 letters, digits, dots, underscores and hyphens", c.Topic)
	}
	if c.Create != "auto" && c.Create != "never" {
		bad("create: %q: want auto or never", c.Create)
	}
	if c.Partitions < 1 {
		bad("partitions: %d: want at least 1", c.Partitions)
	}
	if c.Format != "json" {
		bad("format: %q: only json is known", c.Format)
	}
	for i, k := range c.Key {
		if slices.Contains(c.Key[:i], k) {
			bad("key: %s is named twice", k)
		}
	}
	if c.AttemptTimeout < time.Second {
		bad("attempt_timeout: %s: want at least 1s", c.AttemptTimeout)
	}
	p := c.producer()
	p.Brokers = []string{"-"} // those of the connection were looked at
	errs = append(errs, p.Validate())
	return errors.Join(errs...)
}

func (c SinkConfig) producer() Config {
	return Config{Brokers: c.Brokers, Compression: c.Compression, BatchBytes: c.BatchBytes, Timeout: c.AttemptTimeout}
}

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/apache/arrow-go/v18/arrow"
)

// server is what the protocol needs of ClickHouse. Its methods make one attempt each.
// nil means that the server said so; any other outcome is judged by classify.
type server interface {
	exec(ctx context.Context, sql string) error
	// table describes a table of the database; found is false when there is none.
	table(ctx context.Context, name string) (t tableInfo, found bool, err error)
	// insert sends a block as one INSERT.
	insert(ctx context.Context, in insertion) error
	// blockRows counts the rows of each block of an epoch that are in the table.
	blockRows(ctx context.Context, lineage uint16, epoch int64) (map[uint32]int64, error)
	// record writes a row of tm_commits.
	record(ctx context.Context, c commit, token string) error
	// recorded reads the row of an epoch.
	recorded(ctx context.Context, job, table string, lineage uint16, epoch int64) (c commit, found bool, err error)
	// otherJob names a job other than this one that has recorded epochs for the table, ""
	// for none.
	otherJob(ctx context.Context, job, table string) (string, error)
	// audit returns what was compared of the last epochs, and every block that differs.
	audit(ctx context.Context, last int) (Audit, []blockState, error)
	// decided tells whether tm_ranges has decisions about the table.
	decided(ctx context.Context) (bool, error)
	// about describes the server and the materialized views that read a table.
	about(ctx context.Context, name string) (serverInfo, error)
	// pace is the largest number of blocks of the epochs of late, 0 for none.
	pace(ctx context.Context) (int64, error)
	close() error
}

// serverInfo is what tidemark check wants to know of a server.
type serverInfo struct {
	version string
	now     time.Time
	views   []viewTarget
}

// viewTarget is a table that a materialized view writes to.
type viewTarget struct {
	view, target, engine string
	window               dedupWindow
}

// insertion is one block on its way.
type insertion struct {
	rec     arrow.RecordBatch // of the sealed schema
	lineage uint16
	epoch   int64
	n       uint32
	token   string
}

// commit is a row of tm_commits.
type commit struct {
	job, table       string // database.table
	lineage          uint16
	epoch            int64
	blocks           uint32
	rows             int64
	hash             string
	minTime, maxTime *int64 // ticks
	watermark        *int64
	completeTo       *int64
	blockRows        []uint32
	keys             [][]uint64 // hashes of the sort keys of each block; nil for none
	at               time.Time
}

// tableInfo is what the system tables say of a table.
type tableInfo struct {
	engine  string
	full    string            // engine with its clauses and settings
	sorted  string            // the sort key
	columns map[string]string // name to type
	window  dedupWindow
}

// outcome is what is known after an attempt.
type outcome uint8

const (
	done outcome = iota
	// slowDown: the server refused before it wrote anything; later it may accept.
	slowDown
	// unknown: what was sent may or may not have been written.
	unknown
	// fixNeeded: the server refused and will again.
	fixNeeded
)

func (o outcome) String() string {
	return [...]string{"done", "slow down", "unknown", "fix needed"}[o]
}

// refusals are the errors that say that nothing was written. What is not named here is
// unknown.
var refusals = map[int32]outcome{
	202: slowDown, // TOO_MANY_SIMULTANEOUS_QUERIES
	241: slowDown, // MEMORY_LIMIT_EXCEEDED
	242: slowDown, // TABLE_IS_READ_ONLY
	243: slowDown, // NOT_ENOUGH_SPACE
	252: slowDown, // TOO_MANY_PARTS
	439: slowDown, // CANNOT_SCHEDULE_TASK

	8:   fixNeeded, // THERE_IS_NO_COLUMN
	16:  fixNeeded, // NO_SUCH_COLUMN_IN_TABLE
	36:  fixNeeded, // BAD_ARGUMENTS
	43:  fixNeeded, // ILLEGAL_TYPE_OF_ARGUMENT
	44:  fixNeeded, // ILLEGAL_COLUMN
	46:  fixNeeded, // UNKNOWN_FUNCTION
	47:  fixNeeded, // UNKNOWN_IDENTIFIER
	48:  fixNeeded, // NOT_IMPLEMENTED
	50:  fixNeeded, // UNKNOWN_TYPE
	53:  fixNeeded, // TYPE_MISMATCH
	56:  fixNeeded, // UNKNOWN_STORAGE
	60:  fixNeeded, // UNKNOWN_TABLE
	62:  fixNeeded, // SYNTAX_ERROR
	70:  fixNeeded, // CANNOT_CONVERT_TYPE
	81:  fixNeeded, // UNKNOWN_DATABASE
	115: fixNeeded, // UNKNOWN_SETTING
	164: fixNeeded, // READONLY
	192: fixNeeded, // UNKNOWN_USER
	193: fixNeeded, // WRONG_PASSWORD
	194: fixNeeded, // REQUIRED_PASSWORD
	195: fixNeeded, // IP_ADDRESS_NOT_ALLOWED
	349: fixNeeded, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
	452: fixNeeded, // SETTING_CONSTRAINT_VIOLATION
	497: fixNeeded, // ACCESS_DENIED
	516: fixNeeded, // AUTHENTICATION_FAILED
}

// errUnsendable marks blocks that the driver refused to encode: nothing was sent.
var errUnsendable = errors.New("block cannot be encoded")

// classify judges the error of one attempt. The caller has looked at its own context.
func classify(err error) outcome {
	if err == nil {
		return done
	}
	if errors.Is(err, errUnsendable) {
		return fixNeeded
	}
	var ex *ch.Exception
	if errors.As(err, &ex) {
		if o, ok := refusals[ex.Code]; ok {
			return o
		}
	}
	return unknown
}

// redacted takes out of the text of an error the password and the URL of a request, which
// names the user and repeats the statement with every setting.
func redacted(err error, password string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var ue *url.Error
	if errors.As(err, &ue) {
		if u, perr := url.Parse(ue.URL); perr == nil && u.Host != "" {
			text = strings.ReplaceAll(text, ue.URL, u.Scheme+"://"+u.Host)
		}
	}
	if password != "" {
		text = strings.ReplaceAll(text, password, "***")
	}
	if text == err.Error() {
		return err
	}
	return hidden{err, text}
}

// hidden is an error with another text.
type hidden struct {
	error
	text string
}

func (h hidden) Error() string { return h.text }
func (h hidden) Unwrap() error { return h.error }

// check tells whether the table can keep the promise.
func (t tableInfo) check(cfg Config, cols []column) error {
	name := cfg.Database + "." + cfg.Table
	var errs []error
	for _, c := range cols {
		if typ, ok := t.columns[c.name]; ok && plainType(typ) != plainType(c.typ) {
			errs = append(errs, fmt.Errorf("table %s: column %s is %s, want %s: ALTER TABLE %s MODIFY COLUMN %s %s",
				name, c.name, typ, c.typ, quoted(cfg.Database, cfg.Table), quoted(c.name), c.typ))
		} else if !ok {
			errs = append(errs, fmt.Errorf("table %s has no column %s: ALTER TABLE %s ADD COLUMN %s %s CODEC(%s)",
				name, c.name, quoted(cfg.Database, cfg.Table), quoted(c.name), c.typ, c.codec))
		}
	}
	for _, c := range []string{colVersion, colDeleted, colLineage, colEpoch, colBlock} {
		if _, ok := t.columns[c]; !ok {
			errs = append(errs, fmt.Errorf("table %s has no column %s: make it anew with the statements of tidemark ddl", name, c))
		}
	}
	if strings.HasSuffix(t.engine, "MergeTree") {
		errs = append(errs, t.checkEngine(cfg, cols)...)
	}
	if t.engine == "Buffer" {
		errs = append(errs, fmt.Errorf("table %s has engine Buffer, which loses what it has not flushed when the server dies: write to the table behind it", name))
	}
	if cfg.Delivery == ExactlyOnce {
		switch {
		case !strings.HasSuffix(t.engine, "MergeTree"):
			errs = append(errs, fmt.Errorf("table %s has engine %s, exactly_once needs a MergeTree: write to the local tables, or set delivery: at_least_once", name, t.engine))
		case t.window.blocks == 0:
			errs = append(errs, fmt.Errorf("table %s forgets deduplication tokens at once: ALTER TABLE %s MODIFY SETTING %s = %d",
				name, quoted(cfg.Database, cfg.Table), windowSetting(t.engine), cfg.DedupWindow))
		}
	}
	return errors.Join(errs...)
}

// checkEngine tells whether merges do to the rows what the job means: results replace each
// other by sort key and version, appended rows stay.
func (t tableInfo) checkEngine(cfg Config, cols []column) []error {
	name := cfg.Database + "." + cfg.Table
	kind := strings.TrimPrefix(strings.TrimPrefix(t.engine, "Replicated"), "Shared")
	if cfg.Append {
		if kind != "MergeTree" {
			return []error{fmt.Errorf("table %s has engine %s, merges of which remove rows: rows that are only appended want a MergeTree", name, t.engine)}
		}
		return nil
	}
	var errs []error
	switch {
	case kind != "ReplacingMergeTree":
		errs = append(errs, fmt.Errorf("table %s has engine %s, in which old revisions stay: results need ReplacingMergeTree(%s, %s)", name, t.engine, colVersion, colDeleted))
	case !regexp.MustCompile(`MergeTree\([^)]*\b` + colVersion + `, ` + colDeleted + `\)`).MatchString(t.full):
		errs = append(errs, fmt.Errorf("table %s: the version of its ReplacingMergeTree must be %s and its deletions %s: make it anew with the statements of tidemark ddl", name, colVersion, colDeleted))
	}
	want := strings.Join(cfg.OrderBy, ", ")
	if cfg.ByLineage {
		want += ", " + colLineage
	}
	if got := strings.Trim(strings.ReplaceAll(t.sorted, "`", ""), "()"); got != want { // a single dotted name is in brackets
		errs = append(errs, fmt.Errorf("table %s is sorted by (%s), want (%s): rows replace each other by the sort key; make it anew, or set order_by", name, got, want))
	}
	return errs
}

// plainType is a type without what makes no difference to an INSERT.
func plainType(typ string) string {
	if inner, ok := strings.CutPrefix(typ, "LowCardinality("); ok {
		return strings.TrimSuffix(inner, ")")
	}
	return typ
}

// checkCommits tells whether tm_commits has the columns that are written.
func (t tableInfo) checkCommits(cfg Config) error {
	var errs []error
	for _, c := range commitColumns {
		if typ, ok := t.columns[c.Name]; !ok {
			errs = append(errs, fmt.Errorf("table %s.%s has no column %s: ALTER TABLE %s ADD COLUMN %s %s",
				cfg.Database, commitsTable, c.Name, quoted(cfg.Database, commitsTable), c.Name, c.Type))
		} else if typ != c.Type {
			errs = append(errs, fmt.Errorf("table %s.%s: column %s is %s, want %s: make the table anew with the statements of tidemark ddl",
				cfg.Database, commitsTable, c.Name, typ, c.Type))
		}
	}
	return errors.Join(errs...)
}

// dedupWindow is how long a table remembers the tokens of its blocks: so many, and those of
// so many seconds; 0 seconds is no limit.
type dedupWindow struct{ blocks, seconds int64 }

func replicated(engine string) bool {
	return strings.HasPrefix(engine, "Replicated") || strings.HasPrefix(engine, "Shared")
}

func windowSetting(engine string) string {
	if replicated(engine) {
		return "replicated_deduplication_window"
	}
	return "non_replicated_deduplication_window"
}

// setting reads a number out of the clauses of an engine; other is what holds when they do
// not have it.
func setting(full, name string, other int64) int64 {
	m := regexp.MustCompile(`(?:\s|,)` + name + ` = (\d+)`).FindStringSubmatch(full)
	if m == nil {
		return other
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return other
	}
	return n
}

package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/apache/arrow-go/v18/arrow"
)

// This file says which rows of a table of results count for which time: those of the job, or
// those of a replay of it. Table tm_ranges has a row for every decision; of those that cover a
// time the newest counts, and a time that none covers has the rows of the job.
//
// The view <table>_current is as it was made until the first decision. Then it is replaced by
// one that reads both tables and tm_ranges. That one says the same for as long as tm_ranges has
// no row of the table, so it makes no difference when a reader finds which; and a decision is
// one INSERT, which is there as a whole or not. A job that starts when there are decisions makes
// the view of that form, should somebody have dropped it. The view asks tm_ranges in one place: whatever
// a query reads of the two tables, it reads by one answer.

// RangesTable is the table of decisions.
const RangesTable = "tm_ranges"

// ReplaySuffix ends the name of the table in which the rows of replays stand beside each other.
const ReplaySuffix = "_replays"

var rangesColumns = []ch.ColumnNameAndType{
	{Name: "job", Type: "String"},
	{Name: "table_name", Type: "String"},
	{Name: "from_time", Type: "DateTime64(6, 'UTC')"},
	{Name: "to_time", Type: "DateTime64(6, 'UTC')"},
	{Name: "lineage", Type: "UInt16"},
	{Name: "since", Type: "DateTime64(6, 'UTC')"},
}

// Range is a decision: from Since on the rows of a lineage count, 0 for those of the job, whose
// time is in [From, To), in ticks.
type Range struct {
	From, To int64
	Lineage  uint16
	Since    time.Time
}

// SwitchDDL returns the statements that make what decisions about a table of results need, in
// order. The tables of results and of replays must be there. Each may be repeated.
func SwitchDDL(cfg Config, schema *arrow.Schema) ([]string, error) {
	var out []string
	_, err := statements(cfg, schema, func(cfg Config, cols []column) []string {
		out = switchedView(cfg, cols)
		return nil
	})
	return out, err
}

func rangesDDL(cfg Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s%s\n(\n", quoted(cfg.Database, RangesTable), cfg.onCluster())
	for i, c := range rangesColumns {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString("    " + c.Name + " " + c.Type)
	}
	fmt.Fprintf(&b, "\n)\nENGINE = %s\nORDER BY (table_name, job, since)\nSETTINGS %s", cfg.engine("MergeTree"), cfg.windows())
	return b.String()
}

// switchedView makes <table>_current of the rows that count, and what it reads.
func switchedView(cfg Config, cols []column) []string {
	replay := cfg
	replay.Table, replay.ByLineage = cfg.replays(), true
	list := strings.Join(columnNames(cols), ", ")
	return []string{rangesDDL(cfg), fmt.Sprintf(`CREATE OR REPLACE VIEW %s%s AS
SELECT %s
FROM
(
    SELECT %s, toUInt16(0) AS _tm_set
    FROM (%s)
    UNION ALL
    SELECT %s, _tm_lineage
    FROM (%s)
)
WHERE _tm_set = arrayFirst(r -> r.2 <= %s AND r.3 > %s, (%s)).4`,
		quoted(cfg.Database, cfg.Table+currentSuffix), cfg.onCluster(), list,
		list, valid(cfg, cols), list, valid(replay, cols), cfg.instant(cols), cfg.instant(cols), decisions(cfg))}
}

// decisions selects the decisions about a table as one array, the newest first.
func decisions(cfg Config) string {
	return fmt.Sprintf("SELECT arrayReverseSort(groupArray((since, from_time, to_time, lineage))) FROM %s WHERE table_name = %s AND job = %s",
		quoted(cfg.Database, RangesTable), text(cfg.Database+"."+cfg.Table), text(cfg.Job))
}

// instant is the time of a row as an expression; that of one without lies in no range.
func (c Config) instant(cols []column) string {
	at := columnNamed(cols, c.TimeColumn)
	expr := quoted(at.name)
	if at.field.Type.ID() == arrow.INT64 {
		expr = "fromUnixTimestamp64Milli(" + expr + ", 'UTC')"
	}
	if at.nullable {
		expr = "ifNull(" + expr + ", toDateTime64('1900-01-01', 6, 'UTC') - 1)"
	}
	return expr
}

// Switch is what decides about the tables of results of a job.
type Switch struct {
	cfg     Config
	conn    *conn
	tables  []Config
	schemas []*arrow.Schema
}

// SwitchTable is a table of results, that of the job.
type SwitchTable struct {
	Config Config
	Schema *arrow.Schema
}

// OpenSwitch prepares connections. All tables are of one database.
func OpenSwitch(tables []SwitchTable) (*Switch, error) {
	s := &Switch{cfg: tables[0].Config}
	for _, t := range tables {
		if err := t.Config.Validate(); err != nil {
			return nil, fmt.Errorf("clickhouse: %w", err)
		}
		s.tables, s.schemas = append(s.tables, t.Config), append(s.schemas, t.Schema)
	}
	var err error
	if s.conn, err = dial(s.cfg, nil); err != nil {
		return nil, fmt.Errorf("clickhouse: %w", redacted(err, string(s.cfg.Password)))
	}
	return s, nil
}

// Close ends the connections.
func (s *Switch) Close() error { return s.conn.close() }

func (s *Switch) hide(err error) error { return redacted(err, string(s.cfg.Password)) }

// Prepare makes tm_ranges and the views. Views that were of the old form say the same
// afterwards.
func (s *Switch) Prepare(ctx context.Context) error {
	for i, cfg := range s.tables {
		ddl, err := SwitchDDL(cfg, s.schemas[i])
		if err != nil {
			return err
		}
		if cfg.Create != "auto" {
			if err := s.prepared(ctx, cfg, ddl); err != nil {
				return err
			}
			continue
		}
		for _, sql := range ddl {
			if err := s.conn.exec(ctx, sql); err != nil {
				return fmt.Errorf("view %s.%s: %w", cfg.Database, cfg.Table+currentSuffix, s.hide(err))
			}
		}
	}
	return nil
}

// prepared tells whether somebody else has done what Prepare does.
func (s *Switch) prepared(ctx context.Context, cfg Config, ddl []string) error {
	var found uint64
	err := s.conn.ch.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = ? AND position(create_table_query, ?) > 0",
		cfg.Database, cfg.Table+currentSuffix, RangesTable).Scan(&found)
	if err == nil && found == 0 {
		err = fmt.Errorf("does not read %s yet, and create is never: run\n%s;\nthen try again", RangesTable, strings.Join(ddl, ";\n"))
	}
	if err != nil {
		return fmt.Errorf("view %s.%s: %w", cfg.Database, cfg.Table+currentSuffix, s.hide(err))
	}
	return nil
}

// Decided returns the decisions about the first table, the newest first: about all tables the
// same is decided. None is also when tm_ranges does not exist.
func (s *Switch) Decided(ctx context.Context) ([]Range, error) {
	if _, found, err := s.conn.table(ctx, RangesTable); err != nil || !found {
		return nil, s.hide(err)
	}
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{"select_sequential_consistency": 1}))
	rows, err := s.conn.ch.Query(ctx, fmt.Sprintf("SELECT from_time, to_time, lineage, since FROM %s WHERE table_name = ? AND job = ? ORDER BY since DESC",
		quoted(s.cfg.Database, RangesTable)), s.cfg.Database+"."+s.cfg.Table, s.cfg.Job)
	if err != nil {
		return nil, s.hide(err)
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	var out []Range
	for rows.Next() {
		var from, to time.Time
		var r Range
		if err := rows.Scan(&from, &to, &r.Lineage, &r.Since); err != nil {
			return nil, err
		}
		r.From, r.To = from.UnixMicro(), to.UnixMicro()
		out = append(out, r)
	}
	return out, s.hide(rows.Err())
}

// Standing leaves those decisions out, of the newest first, that one newer decision covers.
func Standing(decided []Range) []Range {
	var out []Range
	for i, r := range decided {
		if !slices.ContainsFunc(decided[:i], func(newer Range) bool { return newer.From <= r.From && r.To <= newer.To }) {
			out = append(out, r)
		}
	}
	return out
}

// Decide records one decision about all tables, in one INSERT. It may be repeated.
func (s *Switch) Decide(ctx context.Context, r Range) error {
	ctx = ch.Context(ctx, ch.WithSettings(s.conn.insertSettings(fmt.Sprintf("tm1r/%s/%d", s.cfg.Job, r.Since.UnixMicro()), "tidemark "+s.cfg.Job+" decides")),
		ch.WithColumnNamesAndTypes(rangesColumns))
	names := make([]string, len(rangesColumns))
	for i, c := range rangesColumns {
		names[i] = c.Name
	}
	from, to := *clamped(r.From), *clamped(r.To)
	statement := fmt.Sprintf("INSERT INTO %s (%s)", quoted(s.cfg.Database, RangesTable), strings.Join(names, ", "))
	return s.hide(s.conn.sendOnce(ctx, statement, len(s.tables), func(b driver.Batch) error {
		for _, t := range s.tables {
			if err := b.Append(t.Job, t.Database+"."+t.Table, time.UnixMicro(from).UTC(), time.UnixMicro(to).UTC(), r.Lineage, r.Since.UTC()); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Counted is how many rows of a table have a time in a range.
type Counted struct {
	Table         string
	Now, Decision uint64 // that count now, and that will
}

// Count tells what a decision would change. The views must be prepared.
func (s *Switch) Count(ctx context.Context, r Range) ([]Counted, error) {
	var out []Counted
	for i, cfg := range s.tables {
		cols, _, err := columnsOf(cfg, s.schemas[i])
		if err != nil {
			return nil, err
		}
		in := fmt.Sprintf("%[1]s >= %[2]s AND %[1]s < %[3]s", cfg.instant(cols), instant(r.From), instant(r.To))
		next, of := cfg, "1"
		if r.Lineage > 0 {
			next.Table, next.ByLineage = cfg.replays(), true
			of = fmt.Sprintf("%s = %d", colLineage, r.Lineage)
		}
		c := Counted{Table: cfg.Database + "." + cfg.Table}
		err = s.conn.ch.QueryRow(ctx, fmt.Sprintf("SELECT count() FROM (%s) WHERE %s AND %s", valid(next, cols), in, of)).Scan(&c.Decision)
		if err == nil {
			err = s.conn.ch.QueryRow(ctx, fmt.Sprintf("SELECT count() FROM %s WHERE %s", quoted(cfg.Database, cfg.Table+currentSuffix), in)).Scan(&c.Now)
		}
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", c.Table, s.hide(err))
		}
		out = append(out, c)
	}
	return out, nil
}

// Since returns the time of a decision that is newer than all there are, whatever clocks say.
func Since(now time.Time, decided []Range) time.Time {
	for _, r := range decided {
		if !now.After(r.Since) {
			now = r.Since.Add(time.Microsecond)
		}
	}
	return now.UTC().Truncate(time.Microsecond)
}

package clickhouse

import (
	"fmt"
	"slices"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

const (
	commitsTable = "tm_commits"
	completeView = "tm_complete"
)

// commitColumns are the columns of tm_commits, in order.
var commitColumns = []ch.ColumnNameAndType{
	{Name: "job", Type: "String"},
	{Name: "table_name", Type: "String"},
	{Name: "lineage", Type: "UInt16"},
	{Name: "epoch", Type: "UInt64"},
	{Name: "blocks", Type: "UInt32"},
	{Name: "row_count", Type: "UInt64"},
	{Name: "hash", Type: "String"},
	{Name: "min_time", Type: "Nullable(DateTime64(6, 'UTC'))"},
	{Name: "max_time", Type: "Nullable(DateTime64(6, 'UTC'))"},
	{Name: "watermark", Type: "Nullable(DateTime64(6, 'UTC'))"},
	{Name: "complete_to", Type: "Nullable(DateTime64(6, 'UTC'))"},
	{Name: "committed_at", Type: "DateTime64(3, 'UTC')"},
	{Name: "block_rows", Type: "Array(UInt32)"},
	{Name: "keys", Type: "Array(Array(UInt64))"}, // hashes, by block
}

// DDL returns the statements that make what a table of results or of appended rows needs,
// in order. Each does nothing when its object is there.
func DDL(cfg Config, schema *arrow.Schema) ([]string, error) {
	return statements(cfg, schema, currentView)
}

// statements is DDL with another view <table>_current.
func statements(cfg Config, schema *arrow.Schema, current func(Config, []column) []string) ([]string, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cols, _, err := columnsOf(cfg, schema)
	if err != nil {
		return nil, err
	}
	if err := checkKeys(cfg, schema, cols); err != nil {
		return nil, err
	}
	out := []string{tableDDL(cfg, cols)}
	if cfg.LateDelta && !cfg.Append {
		if err := checkAdditions(cfg, cols); err != nil {
			return nil, err
		}
		delta := cfg
		delta.Table, delta.Append = cfg.Table+DeltaSuffix, true
		out = append(out, tableDDL(delta, cols))
	}
	if !cfg.Append && !cfg.ByLineage {
		out = append(out, current(cfg, cols)...)
	}
	return append(out, commitsDDL(cfg), completeDDL(cfg)), nil
}

// checkKeys tells whether sort key and partition fit the columns.
func checkKeys(cfg Config, schema *arrow.Schema, cols []column) error {
	if err := pipeline.CheckRowOrder(schema, cfg.PartitionBy, cfg.TimeColumn, cfg.OrderBy); err != nil {
		return err
	}
	for _, k := range append(cfg.OrderBy[:len(cfg.OrderBy):len(cfg.OrderBy)], cfg.TimeColumn) {
		if !slices.ContainsFunc(cols, func(c column) bool { return c.name == k && c.shape == flat }) {
			return fmt.Errorf("order_by and time_column: %q is not a plain column of the table", k)
		}
	}
	return nil
}

func columnNamed(cols []column, name string) column {
	return cols[slices.IndexFunc(cols, func(c column) bool { return c.name == name })]
}

// onCluster is the clause that makes an object on every node.
func (c Config) onCluster() string {
	if c.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + text(c.Cluster)
}

// engine names an engine of the MergeTree family with its parameters.
func (c Config) engine(kind string, params ...string) string {
	if c.Replicated {
		kind = "Replicated" + kind
		params = append([]string{"'/clickhouse/tables/{shard}/{database}/{table}'", "'{replica}'"}, params...)
	}
	if len(params) == 0 {
		return kind
	}
	return kind + "(" + strings.Join(params, ", ") + ")"
}

// windows are the settings by which a table remembers tokens. A replicated one forgets them
// after an hour unless it is told otherwise.
func (c Config) windows() string {
	if c.Replicated {
		return fmt.Sprintf("replicated_deduplication_window = %d, replicated_deduplication_window_seconds = %d", c.DedupWindow, replicatedSeconds)
	}
	return fmt.Sprintf("non_replicated_deduplication_window = %d", c.DedupWindow)
}

// replicatedSeconds is a week.
const replicatedSeconds = 7 * 24 * 3600

func tableDDL(cfg Config, cols []column) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s%s\n(\n", quoted(cfg.Database, cfg.Table), cfg.onCluster())
	for _, c := range cols {
		fmt.Fprintf(&b, "    %s %s CODEC(%s),\n", quoted(c.name), c.typ, c.codec)
	}
	b.WriteString("    " + colVersion + " UInt64 CODEC(Delta, ZSTD(1)),\n")
	b.WriteString("    " + colDeleted + " UInt8 CODEC(ZSTD(1)),\n")
	b.WriteString("    " + colLineage + " UInt16 CODEC(T64, ZSTD(1)),\n")
	b.WriteString("    " + colEpoch + " UInt64 CODEC(Delta, ZSTD(1)),\n")
	b.WriteString("    " + colBlock + " UInt32 CODEC(T64, ZSTD(1))\n)\n")

	engine := cfg.engine("ReplacingMergeTree", colVersion, colDeleted)
	if cfg.Append {
		engine = cfg.engine("MergeTree")
	}
	at := columnNamed(cols, cfg.TimeColumn)
	time := quoted(at.name)
	if at.field.Type.ID() == arrow.INT64 {
		time = "fromUnixTimestamp64Milli(" + time + ", 'UTC')"
	}
	part := "toYYYYMM"
	if cfg.PartitionBy == pipeline.PartitionDay {
		part = "toYYYYMMDD"
	}
	nullable := at.nullable
	keys := make([]string, len(cfg.OrderBy))
	for i, k := range cfg.OrderBy {
		keys[i] = quoted(k)
		nullable = nullable || columnNamed(cols, k).nullable
	}
	part += "(" + time + ")"
	if cfg.ByLineage {
		part, keys = "("+colLineage+", "+part+")", append(keys, colLineage)
	}
	fmt.Fprintf(&b, "ENGINE = %s\nPARTITION BY %s\nORDER BY (%s)\n", engine, part, strings.Join(keys, ", "))
	if cfg.TTLDays > 0 {
		if at.nullable { // a TTL cannot be null; rows without a time stay
			fmt.Fprintf(&b, "TTL ifNull(toDate(%s), toDate(0)) + INTERVAL %d DAY DELETE WHERE %s IS NOT NULL\n", time, cfg.TTLDays, quoted(at.name))
		} else {
			fmt.Fprintf(&b, "TTL toDate(%s) + INTERVAL %d DAY\n", time, cfg.TTLDays)
		}
	}
	b.WriteString("SETTINGS " + cfg.windows())
	if nullable {
		b.WriteString(", allow_nullable_key = 1")
	}
	return b.String()
}

func commitsDDL(cfg Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s%s\n(\n", quoted(cfg.Database, commitsTable), cfg.onCluster())
	for i, c := range commitColumns {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString("    " + c.Name + " " + c.Type)
	}
	b.WriteString(" CODEC(Delta, ZSTD(1)) TTL toDateTime(committed_at) + INTERVAL 7 DAY")
	fmt.Fprintf(&b, "\n)\nENGINE = %s\nORDER BY (table_name, job, lineage, epoch)\nSETTINGS %s", cfg.engine("ReplacingMergeTree", "committed_at"), cfg.windows())
	return b.String()
}

// completeDDL makes the view that has a row for each table: how far it is complete. Within a
// lineage marks do not fall, so the newest record says most.
func completeDDL(cfg Config) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %s%s AS
SELECT table_name, last.1 AS job, last.2 AS lineage, last.3 AS epoch, last.4 AS watermark, last.5 AS complete_to, last.6 AS committed_at
FROM
(
    SELECT table_name, argMax((job, lineage, epoch, watermark, complete_to, committed_at), (lineage, epoch, committed_at)) AS last
    FROM %s
    GROUP BY table_name
)`, quoted(cfg.Database, completeView), cfg.onCluster(), quoted(cfg.Database, commitsTable))
}

// quoted returns an identifier, or several with dots between.
func quoted(parts ...string) string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(p) + "`"
	}
	return strings.Join(out, ".")
}

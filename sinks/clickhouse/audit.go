package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
)

// This file compares a table with what tm_commits says was written.
//
// In a table that only grows every block has as many rows as its record says, no more and
// no fewer. In a table of results merges remove rows that others of their sort key have
// replaced, so fewer may be left. Whether those that are missing were replaced, or are lost,
// is told by the keys: the record has a hash of every row's sort key for a week, and of each
// the table must have a row of that epoch or a later one. A block that is there twice has
// rows with one key and version twice, until a merge makes them one, which does no harm.
//
// Rows of epochs after the last record are on their way and are left out.

// Audit is what a comparison found.
type Audit struct {
	Epochs, Blocks, Rows int64 // that have been compared
	// Unproven counts blocks that lack rows and whose keys are not known any more: merges
	// explain it, but do not prove it.
	Unproven int64
	// Faults are the first faultLimit, of Mismatches.
	Faults     []Fault
	Mismatches int64
}

// Fault is a block that is not in the table as it was written.
type Fault struct {
	Lineage   uint16
	Epoch     int64
	Block     uint32
	What      string
	Want, Got int64 // rows
}

func (f Fault) String() string {
	return fmt.Sprintf("lineage %d epoch %d block %d: %s: %d rows written, %d found", f.Lineage, f.Epoch, f.Block, f.What, f.Want, f.Got)
}

// What a Fault can be.
const (
	faultMissing    = "rows are missing"
	faultLost       = "rows are missing that nothing has replaced"
	faultSurplus    = "rows are there that were not written"
	faultTwice      = "rows are there twice"
	faultUnrecorded = "rows of an epoch that is not in " + commitsTable
)

// faultLimit bounds what an audit lists.
const faultLimit = 100

// blockState is a block that differs from its record in number, or whose keys are not all
// there.
type blockState struct {
	Fault
	recorded bool
	twice    int64 // rows beyond the first of a key and version
	proven   bool  // the record has the keys
	lost     int64 // keys of which the table has no row of that epoch or a later one
}

// Audit compares the last epochs that have rows with the table, all of them for 0. It makes
// one attempt, which takes as long as the table is large: ctx alone ends it.
func (s *Sink) Audit(ctx context.Context, last int) (Audit, error) {
	a, states, err := s.server.audit(ctx, last)
	if err != nil {
		return a, fmt.Errorf("audit %s: %w", s.tableName(), redacted(err, string(s.cfg.Password)))
	}
	for _, b := range states {
		b.What = b.fault(s.cfg.Append)
		switch {
		case b.What == "" && b.Got < b.Want && !b.proven:
			a.Unproven++
		case b.What != "":
			a.Mismatches++
			if len(a.Faults) < faultLimit {
				a.Faults = append(a.Faults, b.Fault)
			}
		}
	}
	return a, nil
}

// fault names what is wrong with a block, "" for nothing.
func (b blockState) fault(appended bool) string {
	switch {
	case !b.recorded:
		return faultUnrecorded
	case b.Got > b.Want:
		return faultSurplus
	case appended && b.Got < b.Want:
		return faultMissing
	case !appended && b.twice > 0:
		return faultTwice
	case b.lost > 0:
		return faultLost
	}
	return ""
}

// auditIfDue audits the last epochs every AuditEvery epochs that had rows. A mismatch is
// reported and does not stop the job: what is wrong is in the table already.
func (s *Sink) auditIfDue(ctx context.Context) {
	s.mu.Lock()
	s.audited++
	due := s.cfg.AuditEvery > 0 && s.audited >= s.cfg.AuditEvery
	if due {
		s.audited = 0
	}
	s.mu.Unlock()
	if !due {
		return
	}
	actx, cancel := context.WithTimeout(ctx, s.cfg.AttemptTimeout) // the job waits for it
	defer cancel()
	a, err := s.Audit(actx, s.cfg.AuditEvery+1)
	if err != nil {
		s.log.Warn("audit not made", "error", err)
		return
	}
	if a.Mismatches == 0 {
		return
	}
	s.observer.Mismatch(a.Mismatches)
	s.log.Error("table differs from what was written: run tidemark audit", "blocks", a.Mismatches, "first", a.Faults[0].String())
}

// auditTable is what an audit reads.
type auditTable struct {
	table  string // quoted
	epochs string // a query of the records
	bounds string // a condition on the rows of the table
	hash   string // of the sort key, an expression; "" when rows are not replaced
}

// sql selects the blocks that differ from their records.
func (s auditTable) sql() string {
	keys := "SELECT lineage, epoch, block, toUInt64(0) AS n FROM records WHERE 0"
	if s.hash != "" {
		keys = fmt.Sprintf(`SELECT lineage, epoch, block, countIf(ver < bitShiftLeft(toUInt64(lineage), 48) + bitShiftLeft(epoch, 16)) AS n
    FROM (SELECT lineage, epoch, block, arrayJoin(block_keys) AS k FROM records) AS w
    LEFT JOIN (SELECT %s AS k, max(_tm_ver) AS ver FROM %s WHERE k IN (SELECT arrayJoin(block_keys) FROM records) GROUP BY k) AS h ON w.k = h.k
    GROUP BY lineage, epoch, block`, s.hash, s.table)
	}
	distinct := "count()"
	if s.hash != "" {
		distinct = "uniqExact(" + s.hash + ", _tm_ver)"
	}
	return fmt.Sprintf(`WITH
    epochs AS (%s),
    records AS
    (
        SELECT lineage, epoch, toUInt32(n - 1) AS block, toInt64(block_rows[n]) AS want, if(length(keys) >= n, keys[n], []) AS block_keys
        FROM epochs ARRAY JOIN arrayEnumerate(block_rows) AS n
    ),
    found AS
    (
        SELECT _tm_lineage AS lineage, _tm_epoch AS epoch, _tm_block AS block, toInt64(count()) AS got, toInt64(count() - %s) AS twice
        FROM %s
        WHERE %s
        GROUP BY lineage, epoch, block
    ),
    gone AS
    (
    %s
    )
SELECT b.lineage, b.epoch, b.block, sum(b.want) AS wanted, sum(b.got) AS there, max(b.recorded) AS known, sum(b.twice), max(b.proven), toInt64(sum(b.lost)) AS missing
FROM
(
    SELECT lineage, epoch, block, want, toInt64(0) AS got, 1 AS recorded, toInt64(0) AS twice, notEmpty(block_keys) AS proven, toUInt64(0) AS lost FROM records
    UNION ALL
    SELECT lineage, epoch, block, 0, got, 0, twice, 0, 0 FROM found
    UNION ALL
    SELECT lineage, epoch, block, 0, 0, 0, 0, 0, n FROM gone
) AS b
GROUP BY b.lineage, b.epoch, b.block
HAVING wanted != there OR known = 0 OR missing > 0 OR sum(b.twice) > 0
ORDER BY b.lineage, b.epoch, b.block
LIMIT 100000`, s.epochs, distinct, s.table, s.bounds, keys)
}

// auditOf says what is read for the last epochs. Records of rows whose TTL has come, or
// comes within a day, are left out.
func auditOf(cfg Config, cols []column, last int) auditTable {
	commits, own := quoted(cfg.Database, commitsTable), fmt.Sprintf("table_name = %s AND job = %s", text(cfg.Database+"."+cfg.Table), text(cfg.Job))
	where := own + " AND blocks > 0"
	if cfg.TTLDays > 0 {
		where += fmt.Sprintf(" AND ifNull(min_time > now() - INTERVAL %d DAY, 1)", cfg.TTLDays-1)
	}
	limit := ""
	if last > 0 {
		limit = fmt.Sprintf(" ORDER BY lineage DESC, epoch DESC LIMIT %d", last)
	}
	// What is newer than the last record is on its way: the last of all, or of each lineage where
	// several are written at the same time.
	newest := fmt.Sprintf("(_tm_lineage, _tm_epoch) <= (SELECT max((lineage, epoch)) FROM %s WHERE %s)", commits, own)
	if cfg.ByLineage {
		newest = fmt.Sprintf("_tm_epoch <= (SELECT CAST((groupArray(lineage), groupArray(last)), 'Map(UInt16, UInt64)') FROM (SELECT lineage, max(epoch) AS last FROM %s WHERE %s GROUP BY lineage))[_tm_lineage]", commits, own)
	}
	t := auditTable{
		table:  quoted(cfg.Database, cfg.Table),
		epochs: fmt.Sprintf("SELECT lineage, epoch, block_rows, keys FROM %s FINAL WHERE %s%s", commits, where, limit),
		// What is older than the first record of the range, newer than the last one, or
		// expired by its record, is not compared.
		bounds: fmt.Sprintf(`(_tm_lineage, _tm_epoch) >= (SELECT min((lineage, epoch)) FROM epochs)
          AND %[3]s
          AND (_tm_lineage, _tm_epoch) NOT IN (SELECT lineage, epoch FROM %[1]s WHERE %[2]s AND blocks > 0 AND (lineage, epoch) NOT IN (SELECT lineage, epoch FROM epochs))`, commits, own, newest),
	}
	if !cfg.Append {
		t.hash, _ = keyHash(cfg, cols)
	}
	return t
}

// keyHash is the expression that keysOf computes here; false for a type that it does not
// know.
func keyHash(cfg Config, cols []column) (expr string, ok bool) {
	var parts []string
	for _, k := range cfg.OrderBy {
		c := columnNamed(cols, k)
		part := "toString(" + quoted(k) + ")"
		switch {
		case arrow.TypeEqual(c.field.Type, pipeline.Timestamp):
			part = "toString(toUnixTimestamp64Micro(" + quoted(k) + "))"
		case c.scale != 0 || !slices.Contains(hashed, c.field.Type.ID()):
			return "", false
		}
		if c.nullable {
			part = "ifNull(" + part + `, '\x01')`
		}
		parts = append(parts, part)
	}
	if cfg.ByLineage {
		parts = append(parts, "toString("+colLineage+")")
	}
	return `xxHash64(concat(` + strings.Join(parts, `, '\0', `) + `, '\0'))`, true
}

// hashed are the types of which toString gives what appendKey does.
var hashed = []arrow.Type{arrow.STRING, arrow.BINARY, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64}

// keysOf returns a hash of the sort key of every row of a sealed block; nil when the table
// needs none or its keys are of another type.
func (s *Sink) keysOf(rec arrow.RecordBatch, lineage uint16) []uint64 {
	if !s.hashes {
		return nil
	}
	cols := make([]arrow.Array, len(s.cfg.OrderBy))
	for i, k := range s.cfg.OrderBy {
		cols[i] = rec.Column(slices.IndexFunc(s.cols, func(c column) bool { return c.name == k }))
	}
	out := make([]uint64, rec.NumRows())
	var buf []byte
	for row := range out {
		buf = buf[:0]
		for _, c := range cols {
			buf = append(appendKey(buf, c, row), 0)
		}
		if s.cfg.ByLineage {
			buf = append(strconv.AppendUint(buf, uint64(lineage), 10), 0)
		}
		out[row] = xxhash.Sum64(buf)
	}
	slices.Sort(out) // neighbours compress better
	return out
}

func appendKey(b []byte, arr arrow.Array, i int) []byte {
	if arr.IsNull(i) {
		return append(b, 1)
	}
	switch a := arr.(type) {
	case *array.String:
		return append(b, a.Value(i)...)
	case *array.Binary:
		return append(b, a.Value(i)...)
	case *array.Timestamp:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int8:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int32:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int64:
		return strconv.AppendInt(b, a.Value(i), 10)
	case *array.Uint8:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint16:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint32:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint64:
		return strconv.AppendUint(b, a.Value(i), 10)
	}
	panic(fmt.Sprintf("type %s passed keyHash", arr.DataType()))
}

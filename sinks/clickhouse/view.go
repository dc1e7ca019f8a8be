package clickhouse

import (
	"fmt"
	"slices"
	"strings"
)

// This file is the view of a job with late additions. Results replace each other, additions
// add to them and to each other, so they never share a table; the view makes one row of
// both. Rows that nothing was added to, nearly all, are read as without additions: what is
// grouped is as much as there are additions.

const (
	// DeltaSuffix ends the name of a table of late additions.
	DeltaSuffix = "_late_delta"

	currentSuffix = "_current"
)

// Combine says what becomes of the values of a result and its additions.
type Combine string

const (
	Sum      Combine = "sum"
	Least    Combine = "min"
	Greatest Combine = "max"
)

// Addition is a column that has a part of every addition. What no Addition names is that of
// the result, or of the newest addition where there is no result.
type Addition struct {
	Column string
	// Entry is a key of a map column, and Type what its texts hold: Int64, Decimal(38, 2),
	// Float64. Both are empty for a plain column.
	Entry, Type string
	How         Combine
}

func checkAdditions(cfg Config, cols []column) error {
	for _, a := range cfg.Additions {
		i := slices.IndexFunc(cols, func(c column) bool { return c.name == a.Column })
		switch {
		case i < 0:
			return fmt.Errorf("addition %s: the table has no such column", a.Column)
		case a.Entry == "" && cols[i].shape != flat, a.Entry != "" && cols[i].shape != labels:
			return fmt.Errorf("addition %s %s: column of type %s", a.Column, a.Entry, cols[i].typ)
		}
	}
	return nil
}

// columnNames are those of all columns of a table, quoted.
func columnNames(cols []column) []string {
	names := make([]string, 0, len(cols)+5)
	for _, c := range cols {
		names = append(names, quoted(c.name))
	}
	return append(names, colVersion, colDeleted, colLineage, colEpoch, colBlock)
}

// currentView makes <table>_current as it is as long as nothing was decided about lineages.
func currentView(cfg Config, cols []column) []string {
	return []string{fmt.Sprintf("CREATE VIEW IF NOT EXISTS %s%s AS\n%s", quoted(cfg.Database, cfg.Table+currentSuffix), cfg.onCluster(), valid(cfg, cols))}
}

// valid selects the rows of a table that count if the table does, with their additions.
func valid(cfg Config, cols []column) string {
	if cfg.LateDelta {
		return sums(cfg, cols)
	}
	return "SELECT * FROM " + quoted(cfg.Database, cfg.Table) + " FINAL"
}

// sums selects results with their additions. A null in a sort key is a value like any other.
func sums(cfg Config, cols []column) string {
	names := columnNames(cols)
	list := strings.Join(names, ", ")
	keys := make([]string, len(cfg.OrderBy))
	for i, k := range cfg.OrderBy {
		keys[i] = quoted(k)
	}
	if cfg.ByLineage {
		keys = append(keys, colLineage)
	}
	key := "(" + strings.Join(keys, ", ") + ")"
	table, delta := quoted(cfg.Database, cfg.Table), quoted(cfg.Database, cfg.Table+DeltaSuffix)

	grouped := make([]string, 0, len(names))
	for _, n := range names {
		if slices.Contains(keys, n) {
			grouped = append(grouped, "b."+n+" AS "+n)
			continue
		}
		grouped = append(grouped, combined(cfg.Additions, n)+" AS "+n)
	}
	by := "b." + strings.Join(keys, ", b.")
	return fmt.Sprintf(`SELECT %s
FROM %s FINAL
WHERE %s NOT IN (SELECT %s FROM %s)
SETTINGS transform_null_in = 1
UNION ALL
SELECT
    %s
FROM
(
    SELECT %s, 1 AS _tm_result
    FROM %s FINAL
    WHERE %s IN (SELECT %s FROM %s)
    UNION ALL
    SELECT %s, 0
    FROM %s
) AS b
GROUP BY %s
SETTINGS transform_null_in = 1`, list, table, key, strings.Join(keys, ", "), delta,
		strings.Join(grouped, ",\n    "), list, table, key, strings.Join(keys, ", "), delta, list, delta, by)
}

// combined is the expression of a quoted column over the rows of one sort key.
func combined(additions []Addition, name string) string {
	// A tuple, since argMax passes over nulls.
	kept := fmt.Sprintf("argMax(tuple(b.%s), (b._tm_result, b.%s)).1", name, colVersion)
	var entries []string
	for _, a := range additions {
		switch {
		case quoted(a.Column) != name:
		case a.Entry == "":
			return fmt.Sprintf("%s(b.%s)", a.How, name)
		default:
			entries = append(entries, fmt.Sprintf("%[1]s, ifNull(toString(%[2]s(accurateCastOrNull(b.%[3]s[%[1]s], %[4]s))), '')", text(a.Entry), a.How, name, text(a.Type)))
		}
	}
	if len(entries) == 0 {
		return kept
	}
	return fmt.Sprintf("mapUpdate(%s, mapFilter((k, v) -> v != '', map(%s)))", kept, strings.Join(entries, ", "))
}

// text returns a string literal.
func text(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}

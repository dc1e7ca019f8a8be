package parquet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
)

// Match is a value that a column has, an int64 or a string. Dots lead into structs; times are
// microseconds.
type Match struct {
	Column string
	Value  any
}

// Find gives found the rows of a table in which all matches hold, with the values of the columns
// that are wanted, as Read gives them. Where at is not MinTicks it is the rows' time column, and
// only the partition of that time is looked at. Files that are removed meanwhile are passed over.
func Find(ctx context.Context, store pipeline.Store, cfg Config, at int64, where []Match, want []string, found func(file string, values []any) error) error {
	prefix := cfg.root() + "/"
	if cfg.Layout == LayoutHive && at != pipeline.MinTicks && cfg.PartitionBy != pipeline.PartitionNone {
		prefix += cfg.hivePath(cfg.PartitionBy.Of(at)) + "/"
	}
	objects, err := store.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("table %s: %w", cfg.Table, err)
	}
	for _, o := range objects {
		if !strings.HasSuffix(o.Name, ".parquet") {
			continue
		}
		err := useStored(ctx, store, o.Name, o.Size, func(file *pq.File) error {
			return findRows(file, where, want, func(values []any) error { return found(o.Name, values) })
		})
		if err != nil && !errors.Is(err, pipeline.ErrNotExist) {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
	}
	return nil
}

// findRows reads the columns of the matches, and of the others only where there are any.
func findRows(file *pq.File, where []Match, want []string, found func([]any) error) error {
	for _, group := range file.RowGroups() {
		rows := make([]int64, 0, 8)
		for i, m := range where {
			at, err := matching(group, m)
			if err != nil {
				return err
			}
			if i == 0 {
				rows = at
				continue
			}
			rows = slices.DeleteFunc(rows, func(r int64) bool { _, there := slices.BinarySearch(at, r); return !there })
		}
		if len(rows) == 0 {
			continue
		}
		values := make([][]any, len(rows))
		for i := range values {
			values[i] = make([]any, len(want))
		}
		for w, name := range want {
			err := cellsOf(group, name, func(row int64, v any) {
				if i, there := slices.BinarySearch(rows, row); there {
					values[i][w] = v
				}
			})
			if err != nil {
				return err
			}
		}
		for _, v := range values {
			if err := found(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// matching returns the rows of a group in which a match holds, ascending.
func matching(group pq.RowGroup, m Match) (rows []int64, err error) {
	err = cellsOf(group, m.Column, func(row int64, v any) {
		if v == m.Value {
			rows = append(rows, row)
		}
	})
	return rows, err
}

// cellsOf gives the values of a column that has one in every row. A column that is not there has
// none.
func cellsOf(group pq.RowGroup, name string, value func(row int64, v any)) error {
	leaf, ok := group.Schema().Lookup(strings.Split(name, ".")...)
	if !ok {
		return nil
	}
	ticks, err := unitOf(leaf.Node, name)
	if err != nil {
		return err
	}
	row := int64(0)
	err = eachValues(group.ColumnChunks()[leaf.ColumnIndex], make([]pq.Value, rowsRead), func(cells []pq.Value) error {
		for _, v := range cells {
			var to [1]any
			if err := (readLeaf{column: v.Column(), ticks: ticks}).read(pq.Row{v}, to[:]); err != nil {
				return err
			}
			value(row, to[0])
			row++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("column %s: %w", name, err)
	}
	return nil
}

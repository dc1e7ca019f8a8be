package parquet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	pq "github.com/parquet-go/parquet-go"
)

// rowsRead is how many rows Read asks for at once.
const rowsRead = 1024

// Read gives rows of a file some of its top-level columns, in the order in which they are named: an
// int64 of any integer, a time as microseconds since the epoch, a float64, a string, or nil for null
// and for a column that the file does not have. The values are overwritten after the call.
func Read(path string, columns []string, row func(values []any) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := pq.OpenFile(f, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var leaves []readLeaf
	for i, name := range columns {
		leaf, ok := file.Schema().Lookup(name)
		if !ok {
			continue
		}
		ticks, err := unitOf(leaf.Node, name)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		l := readLeaf{to: i, column: leaf.ColumnIndex, ticks: ticks}
		leaves = append(leaves, l)
	}
	r := pq.NewReader(file)
	defer r.Close()
	rows, values := make([]pq.Row, rowsRead), make([]any, len(columns))
	for at := 0; ; {
		n, err := r.ReadRows(rows)
		for _, cells := range rows[:n] {
			at++
			clear(values)
			for _, l := range leaves {
				if err := l.read(cells, values); err != nil {
					return fmt.Errorf("%s: row %d: column %s: %w", path, at, columns[l.to], err)
				}
			}
			if err := row(values); err != nil {
				return fmt.Errorf("%s: row %d: %w", path, at, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: row %d: %w", path, at+1, err)
		}
	}
}

// unitOf returns how many microseconds the unit of a column has, -1000 for a thousandth of one.
func unitOf(node pq.Node, name string) (int64, error) {
	lt := node.Type().LogicalType()
	if lt == nil {
		return 1, nil
	}
	switch text := lt.String(); {
	case strings.HasPrefix(text, "DECIMAL"):
		return 0, fmt.Errorf("column %s: is a decimal: want a number, a time or a text", name)
	case strings.HasPrefix(text, "TIMESTAMP") && strings.Contains(text, "MILLIS"):
		return 1000, nil
	case strings.HasPrefix(text, "TIMESTAMP") && strings.Contains(text, "NANOS"):
		return -1000, nil
	}
	return 1, nil
}

// readLeaf is a column that is read, with its unit.
type readLeaf struct {
	to, column int
	ticks      int64
}

func (l readLeaf) read(cells pq.Row, to []any) error {
	for _, v := range cells {
		if v.Column() != l.column || v.IsNull() {
			continue
		}
		switch v.Kind() {
		case pq.Int32:
			to[l.to] = int64(v.Int32())
		case pq.Int64:
			n := v.Int64()
			if l.ticks < 0 {
				n /= -l.ticks
			} else {
				n *= l.ticks
			}
			to[l.to] = n
		case pq.Float:
			to[l.to] = float64(v.Float())
		case pq.Double:
			to[l.to] = v.Double()
		case pq.ByteArray:
			to[l.to] = string(v.ByteArray())
		default:
			return fmt.Errorf("is a %v: want a number, a time or a text", v.Kind())
		}
		return nil
	}
	return nil
}

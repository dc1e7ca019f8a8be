package clickhouse

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"

	"github.com/tidemark/tidemark/pipeline"
)

// Rows are those of a table of anybody that somebody compares, by their time, each as the
// values of its columns.
type Rows struct {
	conn  *conn
	from  string // table, FINAL where only that shows the valid rows
	where string
	at    string // the time as microseconds, an expression
	index string // the time as it is stored
	milli bool   // it is stored as an integer of milliseconds
}

// RowsConfig says which rows.
type RowsConfig struct {
	Config            // URL, Database, Table, User, Password and CAFile
	Lineage    uint16 // only rows of it; 0: of any
	TimeColumn string // a time, or an integer of milliseconds
}

// OpenRows looks the table up. ErrNoTable says that it is not there.
func OpenRows(ctx context.Context, cfg RowsConfig) (*Rows, error) {
	if _, err := cfg.scheme(); err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	c, err := dial(cfg.Config, nil)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", redacted(err, string(cfg.Password)))
	}
	r := &Rows{conn: c}
	if err := r.open(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("table %s.%s: %w", cfg.Database, cfg.Table, r.hide(err)), c.close())
	}
	return r, nil
}

// ErrNoTable says that a table does not exist.
var ErrNoTable = errors.New("it does not exist")

func (r *Rows) hide(err error) error { return redacted(err, string(r.conn.cfg.Password)) }

func (r *Rows) open(ctx context.Context, cfg RowsConfig) error {
	var engine string
	err := r.conn.ch.QueryRow(ctx, "SELECT engine FROM system.tables WHERE database = ? AND name = ?", cfg.Database, cfg.Table).Scan(&engine)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoTable
	}
	if err != nil {
		return err
	}
	types, err := r.columns(ctx, cfg)
	if err != nil {
		return err
	}
	typ, ok := types[cfg.TimeColumn]
	if !ok {
		return fmt.Errorf("it has no column %s: name its time column, or map it", cfg.TimeColumn)
	}
	r.from, r.where = quoted(cfg.Database, cfg.Table), "1"
	// Of our own tables whoever reads takes the newest version of a row, which costs less: a
	// FINAL reads all that has a sort key near that of a row.
	_, versioned := types[colVersion]
	if !versioned && regexp.MustCompile(`(Replacing|Collapsing|Summing|Aggregating)MergeTree$`).MatchString(engine) {
		r.from += " FINAL"
	}
	if _, ok := types[colLineage]; ok && cfg.Lineage > 0 {
		r.where = fmt.Sprintf("%s = %d", colLineage, cfg.Lineage)
	}
	r.index = quoted(cfg.TimeColumn)
	switch plain := strings.TrimSuffix(strings.TrimPrefix(plainType(typ), "Nullable("), ")"); {
	case strings.HasPrefix(plain, "Date"):
		r.at = "toUnixTimestamp64Micro(toDateTime64(" + r.index + ", 6, 'UTC'))"
	case strings.HasPrefix(plain, "Int"), strings.HasPrefix(plain, "UInt"):
		r.at, r.milli = "toInt64("+r.index+") * 1000", true
	default:
		return fmt.Errorf("column %s is %s: want a time, or an integer of milliseconds", cfg.TimeColumn, typ)
	}
	return nil
}

func (r *Rows) columns(ctx context.Context, cfg RowsConfig) (map[string]string, error) {
	rows, err := r.conn.ch.Query(ctx, "SELECT name, type FROM system.columns WHERE database = ? AND table = ?", cfg.Database, cfg.Table)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	types := map[string]string{}
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return nil, err
		}
		types[name] = typ
	}
	return types, rows.Err()
}

// Close ends the connections.
func (r *Rows) Close() error { return r.conn.close() }

// Span returns the first and the last time of all rows, how many rows there are, and how many
// of them have no time. Without a row with a time first is above last. Rows that a merge has
// yet to remove are counted.
func (r *Rows) Span(ctx context.Context) (first, last, rows, timeless int64, err error) {
	var low, high *int64
	var all, timed uint64
	plain := strings.TrimSuffix(r.from, " FINAL")
	err = r.conn.ch.QueryRow(ctx, fmt.Sprintf("SELECT minOrNull(%[1]s), maxOrNull(%[1]s), count(), count(%[2]s) FROM %[3]s WHERE %[4]s", r.at, r.index, plain, r.where)).
		Scan(&low, &high, &all, &timed)
	if err != nil {
		return 0, 0, 0, 0, r.hide(err)
	}
	first, last = pipeline.MaxTicks, pipeline.MinTicks
	if low != nil && high != nil {
		first, last = *low, *high
	}
	return first, last, int64(all), int64(all - timed), nil
}

// Count returns how many rows have a time in [from, to).
func (r *Rows) Count(ctx context.Context, from, to int64) (int64, error) {
	var n uint64
	plain := strings.TrimSuffix(r.from, " FINAL")
	err := r.conn.ch.QueryRow(ctx, fmt.Sprintf("SELECT count() FROM %s WHERE %s AND %s", plain, r.where, r.between(from, to))).Scan(&n)
	return int64(n), r.hide(err)
}

// between is a condition on the time that can use an index.
func (r *Rows) between(from, to int64) string {
	if r.milli {
		return fmt.Sprintf("%[1]s >= %[2]d AND %[1]s < %[3]d", r.index, ceilMillis(from), ceilMillis(to))
	}
	return fmt.Sprintf("%[1]s >= %[2]s AND %[1]s < %[3]s", r.index, instant(from), instant(to))
}

// instant is a time as a DateTime64; those that it cannot hold are its bounds.
func instant(ticks int64) string {
	return fmt.Sprintf("fromUnixTimestamp64Micro(%d, 'UTC')", min(max(ticks, minTime64), maxTime64))
}

// ceilMillis rounds up: a row of n milliseconds is not before t when n is not below it.
func ceilMillis(t int64) int64 {
	q := t / 1000
	if t%1000 > 0 {
		q++
	}
	return q
}

// Scan gives the rows whose time is in [from, to), in no order: leaf is called with every value
// of a row that is not null, then row. A value is a bool, int64, uint64, float32, float64,
// string, time.Time, or json.Number for a decimal. Names are those of columns, with the key of
// a map behind a dot and [i] for an element of a list.
func (r *Rows) Scan(ctx context.Context, from, to int64, leaf func(name string, value any), row func() error) error {
	return r.scan(ctx, r.between(from, to), leaf, row)
}

// ScanTimeless gives the rows that have no time.
func (r *Rows) ScanTimeless(ctx context.Context, leaf func(name string, value any), row func() error) error {
	return r.scan(ctx, r.index+" IS NULL", leaf, row)
}

func (r *Rows) scan(ctx context.Context, where string, leaf func(string, any), row func() error) (err error) {
	defer func() {
		if p := recover(); p != nil { // the decoder
			err = fmt.Errorf("driver: %v", p)
		}
	}()
	rows, err := r.conn.ch.Query(ctx, fmt.Sprintf("SELECT * FROM %s WHERE %s AND %s", r.from, r.where, where))
	if err != nil {
		return r.hide(err)
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	types := rows.ColumnTypes()
	values := make([]any, len(types))
	for i, t := range types {
		values[i] = reflect.New(t.ScanType()).Interface()
	}
	for rows.Next() {
		if err := giveRow(rows, types, values, leaf); err != nil {
			return err
		}
		if err := row(); err != nil {
			return err
		}
	}
	return r.hide(rows.Err())
}

func giveRow(rows driver.Rows, types []driver.ColumnType, values []any, leaf func(string, any)) error {
	for _, v := range values {
		reflect.ValueOf(v).Elem().SetZero()
	}
	if err := rows.Scan(values...); err != nil {
		return err
	}
	for i, t := range types {
		if err := giveValue(t.Name(), reflect.ValueOf(values[i]).Elem(), leaf); err != nil {
			return fmt.Errorf("column %s of type %s: %w", t.Name(), t.DatabaseTypeName(), err)
		}
	}
	return nil
}

// giveValue calls leaf with what a value of the driver holds.
func giveValue(name string, v reflect.Value, leaf func(string, any)) error {
	if x, ok := v.Interface().(*big.Int); ok && x != nil {
		leaf(name, json.Number(x.String()))
		return nil
	}
	if k := v.Kind(); k == reflect.Pointer || k == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		return giveValue(name, v.Elem(), leaf)
	}
	switch x := v.Interface().(type) {
	case time.Time:
		leaf(name, x.UTC())
		return nil
	case decimal.Decimal:
		leaf(name, json.Number(x.String()))
		return nil
	case fmt.Stringer:
		leaf(name, x.String())
		return nil
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := giveValue(fmt.Sprintf("%s[%d]", name, i), v.Index(i), leaf); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if err := giveValue(name+"."+fmt.Sprint(k.Interface()), v.MapIndex(k), leaf); err != nil {
				return err
			}
		}
	case reflect.Bool:
		leaf(name, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		leaf(name, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		leaf(name, v.Uint())
	case reflect.Float32:
		leaf(name, float32(v.Float()))
	case reflect.Float64:
		leaf(name, v.Float())
	case reflect.String:
		leaf(name, v.String())
	default:
		return fmt.Errorf("%s cannot be read", v.Type())
	}
	return nil
}

package clickhouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/shopspring/decimal"
)

// conn is the server behind clickhouse-go.
type conn struct {
	cfg  Config
	cols []column
	ch   driver.Conn
	// names and types of the columns of an INSERT, and its text.
	types     []ch.ColumnNameAndType
	statement string
	// newDedup says that the server has the setting deduplicate_insert (26.2), which
	// decides before insert_deduplicate does.
	newDedup atomic.Bool
}

// longestRequest bounds the wait for an answer where the context does not: an audit of a whole
// table reads all of it. Attempts have AttemptTimeout.
const longestRequest = time.Hour

// dial prepares connections; none is made yet.
func dial(cfg Config, cols []column) (*conn, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("url: cannot be parsed") // Validate has said more
	}
	opts := &ch.Options{
		Protocol: ch.HTTP,
		Addr:     strings.Split(u.Host, ","),
		// No default database: it may have to be made first.
		Auth:        ch.Auth{Username: cfg.User, Password: string(cfg.Password)},
		Compression: &ch.Compression{Method: ch.CompressionLZ4},
		DialTimeout: min(10*time.Second, cfg.AttemptTimeout),
		ReadTimeout: longestRequest,
		// One block is sent at a time; the second connection asks questions.
		MaxOpenConns: 2,
		MaxIdleConns: 2,
	}
	switch u.Scheme {
	case "clickhouse":
		opts.Protocol = ch.Native
	case "https":
		opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if cfg.CAFile != "" {
			pem, err := os.ReadFile(cfg.CAFile)
			if err != nil {
				return nil, fmt.Errorf("ca_file: %w", err)
			}
			opts.TLS.RootCAs = x509.NewCertPool()
			if !opts.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("ca_file %s: no certificate in PEM form", cfg.CAFile)
			}
		}
	}
	opened, err := ch.Open(opts)
	if err != nil {
		return nil, err
	}
	c := &conn{cfg: cfg, cols: cols, ch: opened}
	c.types, c.statement = insertStatement(cfg, cols)
	return c, nil
}

// insertStatement names every column: a server never has to guess, and never fills one in.
func insertStatement(cfg Config, cols []column) ([]ch.ColumnNameAndType, string) {
	types := make([]ch.ColumnNameAndType, 0, len(cols)+5)
	for _, c := range cols {
		types = append(types, ch.ColumnNameAndType{Name: c.name, Type: c.typ})
	}
	types = append(types,
		ch.ColumnNameAndType{Name: colVersion, Type: "UInt64"}, ch.ColumnNameAndType{Name: colDeleted, Type: "UInt8"},
		ch.ColumnNameAndType{Name: colLineage, Type: "UInt16"}, ch.ColumnNameAndType{Name: colEpoch, Type: "UInt64"},
		ch.ColumnNameAndType{Name: colBlock, Type: "UInt32"})
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = quoted(t.Name)
	}
	return types, fmt.Sprintf("INSERT INTO %s (%s)", quoted(cfg.Database, cfg.Table), strings.Join(names, ", "))
}

func (c *conn) close() error { return c.ch.Close() }

func (c *conn) exec(ctx context.Context, sql string) error { return c.ch.Exec(ctx, sql) }

// insertSettings pins what changed its default from version to version.
func (c *conn) insertSettings(token, comment string) ch.Settings {
	s := ch.Settings{
		"insert_deduplication_token":      token,
		"insert_deduplicate":              1,
		"async_insert":                    0,
		"max_partitions_per_insert_block": 1,
		"log_comment":                     comment,
		// Without it a Distributed table says done when it has only put the rows by.
		"distributed_foreground_insert": 1,
	}
	if c.newDedup.Load() {
		s["deduplicate_insert"] = "enable"
	}
	return s
}

func (c *conn) insert(ctx context.Context, in insertion) error {
	ctx = ch.Context(ctx,
		ch.WithSettings(c.insertSettings(in.token, fmt.Sprintf("tidemark %s epoch %d block %d", c.cfg.Job, in.epoch, in.n))),
		ch.WithColumnNamesAndTypes(c.types))
	rows := int(in.rec.NumRows())
	return c.sendOnce(ctx, c.statement, rows, func(b driver.Batch) error {
		for i := range c.cols {
			vals, err := c.cols[i].values(in.rec.Column(i))
			if err != nil {
				return fmt.Errorf("column %s: %w", c.cols[i].name, err)
			}
			if err := b.Column(i).Append(vals); err != nil {
				return fmt.Errorf("column %s: %w", c.cols[i].name, err)
			}
		}
		at := len(c.cols)
		deleted := make([]uint8, rows)
		if at+1 < int(in.rec.NumCols()) {
			deleted = in.rec.Column(at + 1).(*array.Uint8).Uint8Values()
		}
		return errors.Join(
			b.Column(at).Append(in.rec.Column(at).(*array.Uint64).Uint64Values()),
			b.Column(at+1).Append(deleted),
			b.Column(at+2).Append(repeated(in.lineage, rows)),
			b.Column(at+3).Append(repeated(uint64(in.epoch), rows)),
			b.Column(at+4).Append(repeated(in.n, rows)))
	})
}

func repeated[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// sendOnce makes one driver batch, fills it and sends it, once: sending a batch of this
// driver a second time inserts its rows a second time.
func (c *conn) sendOnce(ctx context.Context, statement string, rows int, fill func(b driver.Batch) error) (err error) {
	defer func() {
		if p := recover(); p != nil { // the encoder; nothing was sent
			err = fmt.Errorf("%w: driver: %v", errUnsendable, p)
		}
	}()
	b, err := c.ch.PrepareBatch(ctx, statement)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // returns the connection; after Send it does nothing
	if err := fill(b); err != nil {
		return fmt.Errorf("%w: %w", errUnsendable, err)
	}
	// Over HTTP an encoding error inside Send would be taken for an empty body, and that
	// for success; columns of different lengths are the one way to get there.
	for _, col := range b.Columns() {
		if col.Rows() != rows {
			return fmt.Errorf("%w: column %s has %d of %d rows", errUnsendable, col.Name(), col.Rows(), rows)
		}
	}
	return send(b)
}

// send is apart from sendOnce so that a panic in it is not taken for "nothing was sent".
func send(b driver.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("driver: send: %v", p)
		}
	}()
	return b.Send()
}

// values returns a column of a sealed block as the driver takes it.
func (c *column) values(arr arrow.Array) (any, error) {
	switch c.shape {
	case arrays:
		return c.slices(arr.(*array.List))
	case labels:
		return mapsOf(arr.(*array.Map)), nil
	}
	return flatValues(arr, c.nullable, c.scale)
}

// flatValues returns plain values, as pointers where nulls are possible.
func flatValues(arr arrow.Array, nullable bool, scale int) (any, error) {
	switch a := arr.(type) {
	case *array.Int8:
		return valuesOf(a.Int8Values(), a, nullable), nil
	case *array.Int16:
		return valuesOf(a.Int16Values(), a, nullable), nil
	case *array.Int32:
		return valuesOf(a.Int32Values(), a, nullable), nil
	case *array.Int64:
		if scale == 0 {
			return valuesOf(a.Int64Values(), a, nullable), nil
		}
		out := make([]decimal.Decimal, a.Len())
		for i, v := range a.Int64Values() {
			out[i] = decimal.New(v, int32(-scale))
		}
		return valuesOf(out, a, nullable), nil
	case *array.Uint8:
		return valuesOf(a.Uint8Values(), a, nullable), nil
	case *array.Uint16:
		return valuesOf(a.Uint16Values(), a, nullable), nil
	case *array.Uint32:
		return valuesOf(a.Uint32Values(), a, nullable), nil
	case *array.Uint64:
		return valuesOf(a.Uint64Values(), a, nullable), nil
	case *array.Float32:
		return valuesOf(a.Float32Values(), a, nullable), nil
	case *array.Float64:
		return valuesOf(a.Float64Values(), a, nullable), nil
	case *array.Timestamp:
		out := make([]time.Time, a.Len())
		unit := a.DataType().(*arrow.TimestampType).Unit
		for i, v := range a.TimestampValues() {
			out[i] = v.ToTime(unit)
		}
		return valuesOf(out, a, nullable), nil
	case *array.Boolean:
		return valuesOf(collect(a.Len(), a.Value), a, nullable), nil
	case *array.String:
		return valuesOf(collect(a.Len(), a.Value), a, nullable), nil
	case *array.Binary:
		return valuesOf(collect(a.Len(), a.ValueString), a, nullable), nil
	}
	return nil, fmt.Errorf("type %s cannot be sent", arr.DataType())
}

func collect[T any](n int, value func(int) T) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = value(i)
	}
	return out
}

// valuesOf returns vals, or pointers to those that are not null.
func valuesOf[T any](vals []T, arr arrow.Array, nullable bool) any {
	if !nullable {
		return vals
	}
	out := make([]*T, len(vals))
	for i := range vals {
		if arr.IsValid(i) {
			out[i] = &vals[i]
		}
	}
	return out
}

// slices returns the rows of a list column.
func (c *column) slices(a *array.List) (any, error) {
	elem := c.field.Type.(*arrow.ListType).ElemField()
	_, scale, err := flatType(elem)
	if err != nil {
		return nil, err
	}
	all, err := flatValues(a.ListValues(), elem.Nullable, scale)
	if err != nil {
		return nil, err
	}
	switch v := all.(type) {
	case []int8:
		return sliced(v, a), nil
	case []int16:
		return sliced(v, a), nil
	case []int32:
		return sliced(v, a), nil
	case []int64:
		return sliced(v, a), nil
	case []uint8: // [][]uint8 would be taken for strings
		return widened(v, a), nil
	case []uint16:
		return sliced(v, a), nil
	case []uint32:
		return sliced(v, a), nil
	case []uint64:
		return sliced(v, a), nil
	case []float32:
		return sliced(v, a), nil
	case []float64:
		return sliced(v, a), nil
	case []bool:
		return sliced(v, a), nil
	case []string:
		return sliced(v, a), nil
	case []time.Time:
		return sliced(v, a), nil
	case []decimal.Decimal:
		return sliced(v, a), nil
	case []*int8:
		return sliced(v, a), nil
	case []*int16:
		return sliced(v, a), nil
	case []*int32:
		return sliced(v, a), nil
	case []*int64:
		return sliced(v, a), nil
	case []*uint8:
		return sliced(v, a), nil
	case []*uint16:
		return sliced(v, a), nil
	case []*uint32:
		return sliced(v, a), nil
	case []*uint64:
		return sliced(v, a), nil
	case []*float32:
		return sliced(v, a), nil
	case []*float64:
		return sliced(v, a), nil
	case []*bool:
		return sliced(v, a), nil
	case []*string:
		return sliced(v, a), nil
	case []*time.Time:
		return sliced(v, a), nil
	case []*decimal.Decimal:
		return sliced(v, a), nil
	}
	return nil, fmt.Errorf("type %s cannot be sent", a.DataType())
}

func sliced[T any](vals []T, a *array.List) [][]T {
	out := make([][]T, a.Len())
	for i := range out {
		start, end := a.ValueOffsets(i)
		out[i] = vals[start:end]
	}
	return out
}

func widened(vals []uint8, a *array.List) [][]*uint8 {
	all := make([]*uint8, len(vals))
	for i := range vals {
		all[i] = &vals[i]
	}
	return sliced(all, a)
}

func mapsOf(a *array.Map) []map[string]string {
	keys, items := a.Keys().(*array.String), a.Items().(*array.String)
	out := make([]map[string]string, a.Len())
	for i := range out {
		start, end := a.ValueOffsets(i)
		m := make(map[string]string, end-start)
		for j := int(start); j < int(end); j++ {
			m[keys.Value(j)] = items.Value(j)
		}
		out[i] = m
	}
	return out
}

func (c *conn) table(ctx context.Context, name string) (t tableInfo, found bool, err error) {
	row := c.ch.QueryRow(ctx, "SELECT engine, engine_full, sorting_key FROM system.tables WHERE database = ? AND name = ?", c.cfg.Database, name)
	if err := row.Scan(&t.engine, &t.full, &t.sorted); errors.Is(err, sql.ErrNoRows) {
		return t, false, nil
	} else if err != nil {
		return t, false, err
	}
	var known uint64
	if err := c.ch.QueryRow(ctx, "SELECT count() FROM system.settings WHERE name = 'deduplicate_insert'").Scan(&known); err != nil {
		return t, false, err
	}
	c.newDedup.Store(known > 0)
	if t.window, err = c.window(ctx, t); err != nil {
		return t, false, err
	}
	t.columns = map[string]string{}
	rows, err := c.ch.Query(ctx, "SELECT name, type FROM system.columns WHERE database = ? AND table = ?", c.cfg.Database, name)
	if err != nil {
		return t, false, err
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return t, false, err
		}
		t.columns[name] = typ
	}
	return t, true, rows.Err()
}

// window returns for how long a table remembers tokens: by its own settings, or by those of
// the server.
func (c *conn) window(ctx context.Context, t tableInfo) (w dedupWindow, err error) {
	from, name := "system.merge_tree_settings", windowSetting(t.engine)
	if replicated(t.engine) {
		from = "system.replicated_merge_tree_settings"
	}
	rows, err := c.ch.Query(ctx, "SELECT name, toInt64OrZero(value) FROM "+from+" WHERE name IN (?, ?)", name, name+"_seconds")
	if err != nil {
		return w, err
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	for rows.Next() {
		var is string
		var value int64
		if err := rows.Scan(&is, &value); err != nil {
			return w, err
		}
		if is == name {
			w.blocks = value
		} else {
			w.seconds = value
		}
	}
	w.blocks, w.seconds = setting(t.full, name, w.blocks), setting(t.full, name+"_seconds", w.seconds)
	return w, rows.Err()
}

// about describes the server and what reads a table on it.
func (c *conn) about(ctx context.Context, name string) (a serverInfo, err error) {
	if err := c.ch.QueryRow(ctx, "SELECT version(), now64(3, 'UTC')").Scan(&a.version, &a.now); err != nil {
		return a, err
	}
	var databases, tables []string
	err = c.ch.QueryRow(ctx, "SELECT dependencies_database, dependencies_table FROM system.tables WHERE database = ? AND name = ?", c.cfg.Database, name).Scan(&databases, &tables)
	if errors.Is(err, sql.ErrNoRows) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	for i := range tables {
		v := viewTarget{view: databases[i] + "." + tables[i]}
		var target tableInfo
		// What a view writes to: the table behind TO, or its own inner one.
		err := c.ch.QueryRow(ctx, `SELECT t.database || '.' || t.name, t.engine, t.engine_full FROM system.tables AS v, system.tables AS t
			WHERE v.database = ? AND v.name = ? AND v.engine = 'MaterializedView' AND (t.database || '.' || t.name) = if(
				position(v.create_table_query, ' TO ') > 0, replaceAll(extract(v.create_table_query, ' TO ([^ (]+)'), '`+"`"+`', ''),
				v.database || '.' || if(v.uuid = '00000000-0000-0000-0000-000000000000', '.inner.' || v.name, '.inner_id.' || toString(v.uuid)))`,
			databases[i], tables[i]).Scan(&v.target, &target.engine, &target.full)
		if errors.Is(err, sql.ErrNoRows) { // a plain view, or a target that is gone
			continue
		}
		if err != nil {
			return a, err
		}
		w, err := c.window(ctx, target)
		if err != nil {
			return a, err
		}
		v.engine, v.window = target.engine, w
		a.views = append(a.views, v)
	}
	return a, nil
}

// pace returns the largest number of blocks of a recorded epoch, of the last hundred.
func (c *conn) pace(ctx context.Context) (blocks int64, err error) {
	err = c.ch.QueryRow(ctx, fmt.Sprintf("SELECT toInt64(max(blocks)) FROM (SELECT blocks FROM %s WHERE table_name = ? AND job = ? ORDER BY lineage DESC, epoch DESC LIMIT 100)",
		quoted(c.cfg.Database, commitsTable)), c.cfg.Database+"."+c.cfg.Table, c.cfg.Job).Scan(&blocks)
	return blocks, err
}

func (c *conn) blockRows(ctx context.Context, lineage uint16, epoch int64) (map[uint32]int64, error) {
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{"select_sequential_consistency": 1}))
	rows, err := c.ch.Query(ctx, fmt.Sprintf("SELECT %s, count() FROM %s WHERE %s = ? AND %s = ? GROUP BY %s",
		colBlock, quoted(c.cfg.Database, c.cfg.Table), colLineage, colEpoch, colBlock), lineage, epoch)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	out := map[uint32]int64{}
	for rows.Next() {
		var n uint32
		var count uint64
		if err := rows.Scan(&n, &count); err != nil {
			return nil, err
		}
		out[n] = int64(count)
	}
	return out, rows.Err()
}

func (c *conn) record(ctx context.Context, m commit, token string) error {
	ctx = ch.Context(ctx, ch.WithSettings(c.insertSettings(token, fmt.Sprintf("tidemark %s epoch %d", m.job, m.epoch))),
		ch.WithColumnNamesAndTypes(commitColumns))
	names := make([]string, len(commitColumns))
	for i, col := range commitColumns {
		names[i] = col.Name
	}
	statement := fmt.Sprintf("INSERT INTO %s (%s)", quoted(c.cfg.Database, commitsTable), strings.Join(names, ", "))
	return c.sendOnce(ctx, statement, 1, func(b driver.Batch) error {
		return b.Append(m.job, m.table, m.lineage, uint64(m.epoch), m.blocks, uint64(m.rows), m.hash,
			timeOrNil(m.minTime), timeOrNil(m.maxTime), timeOrNil(m.watermark), timeOrNil(m.completeTo), m.at,
			m.blockRows, m.keys)
	})
}

// timeOrNil returns what a nullable DateTime64 takes; a time that it cannot hold is null.
func timeOrNil(ticks *int64) *time.Time {
	if ticks == nil || *ticks < minTime64 || *ticks > maxTime64 {
		return nil
	}
	return new(time.UnixMicro(*ticks).UTC())
}

func (c *conn) recorded(ctx context.Context, job, table string, lineage uint16, epoch int64) (m commit, found bool, err error) {
	row := c.ch.QueryRow(ctx, fmt.Sprintf("SELECT blocks, row_count, hash FROM %s WHERE job = ? AND table_name = ? AND lineage = ? AND epoch = ? ORDER BY committed_at DESC LIMIT 1",
		quoted(c.cfg.Database, commitsTable)), job, table, lineage, epoch)
	var rows uint64
	if err := row.Scan(&m.blocks, &rows, &m.hash); errors.Is(err, sql.ErrNoRows) {
		return m, false, nil
	} else if err != nil {
		return m, false, err
	}
	m.rows = int64(rows)
	return m, true, nil
}

func (c *conn) audit(ctx context.Context, last int) (a Audit, states []blockState, err error) {
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{"select_sequential_consistency": 1}))
	t := auditOf(c.cfg, c.cols, last)
	var epochs, blocks, total uint64
	err = c.ch.QueryRow(ctx, "SELECT count(), sum(length(block_rows)), sum(arraySum(block_rows)) FROM ("+t.epochs+")").Scan(&epochs, &blocks, &total)
	a.Epochs, a.Blocks, a.Rows = int64(epochs), int64(blocks), int64(total)
	if err != nil || epochs == 0 {
		return a, nil, err
	}
	rows, err := c.ch.Query(ctx, t.sql())
	if err != nil {
		return a, nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	for rows.Next() {
		var b blockState
		var epoch uint64
		var recorded, proven uint8
		if err := rows.Scan(&b.Lineage, &epoch, &b.Block, &b.Want, &b.Got, &recorded, &b.twice, &proven, &b.lost); err != nil {
			return a, nil, err
		}
		b.Epoch, b.recorded, b.proven = int64(epoch), recorded > 0, proven > 0
		states = append(states, b)
	}
	return a, states, rows.Err()
}

func (c *conn) decided(ctx context.Context) (bool, error) {
	var n uint64
	err := c.ch.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = ?", c.cfg.Database, RangesTable).Scan(&n)
	if err != nil || n == 0 {
		return false, err
	}
	err = c.ch.QueryRow(ctx, fmt.Sprintf("SELECT count() FROM %s WHERE table_name = ? AND job = ?", quoted(c.cfg.Database, RangesTable)),
		c.cfg.Database+"."+c.cfg.Table, c.cfg.Job).Scan(&n)
	return n > 0, err
}

func (c *conn) otherJob(ctx context.Context, job, table string) (other string, err error) {
	row := c.ch.QueryRow(ctx, fmt.Sprintf("SELECT job FROM %s WHERE table_name = ? AND job != ? LIMIT 1", quoted(c.cfg.Database, commitsTable)), table, job)
	if err := row.Scan(&other); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	return other, nil
}

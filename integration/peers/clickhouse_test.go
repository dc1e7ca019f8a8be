package peers_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/integration/peers"
)

// driver connects clickhouse-go.
func driver(t *testing.T, c *peers.ClickHouse, z ch.CompressionMethod) ch.Conn {
	t.Helper()
	conn, err := ch.Open(&ch.Options{
		Protocol: ch.HTTP, Addr: []string{c.Addr()}, Auth: ch.Auth{Database: "default", Username: "default"},
		Compression: &ch.Compression{Method: z}, DialTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, MaxOpenConns: 8,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// table makes a table named after the test and returns its name.
func table(t *testing.T, conn ch.Conn, columns, rest string) string {
	t.Helper()
	name := strings.NewReplacer("/", "_", "-", "_").Replace(t.Name())
	must(t, conn.Exec(t.Context(), fmt.Sprintf("CREATE TABLE %s (%s) ENGINE = MergeTree %s", name, columns, rest)))
	return name
}

// count returns the rows of a table, by the plain interface.
func count(t *testing.T, c *peers.ClickHouse, table string) int {
	t.Helper()
	out, err := c.Query(t.Context(), "SELECT count() FROM "+table)
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(out))
	must(t, err)
	return n
}

// TestClickHouseTypes sends columns of every kind that sinks use in one columnar batch and
// reads them back through the driver and as text.
func TestClickHouseTypes(t *testing.T) {
	c := clickhouse(t)
	for name, z := range map[string]ch.CompressionMethod{"none": ch.CompressionNone, "lz4": ch.CompressionLZ4, "zstd": ch.CompressionZSTD} {
		t.Run(name, func(t *testing.T) {
			conn := driver(t, c, z)
			tab := table(t, conn, `id UInt32, key LowCardinality(String), at DateTime64(6, 'UTC'), later Nullable(DateTime64(6, 'UTC')),
				kwh Decimal(18, 3), rssi Array(Int64), labels Map(String, String), mean Nullable(Float64), note Nullable(String), flag Bool`, "ORDER BY id")
			const rows = 3000
			at := time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
			var (
				id     []uint32
				key    []string
				ats    []time.Time
				later  []*time.Time
				kwh    []decimal.Decimal
				rssi   [][]int64
				labels []map[string]string
				mean   []*float64
				note   []*string
				flag   []bool
			)
			for i := range rows {
				id, key = append(id, uint32(i)), append(key, fmt.Sprintf("cage-%d", i%7))
				ats = append(ats, at.Add(time.Duration(i)*time.Microsecond))
				kwh, flag = append(kwh, decimal.New(int64(i)-1500, -3)), append(flag, i%2 == 1)
				rssi = append(rssi, []int64{-1, int64(-i)}[:i%3%2+i%2])
				labels = append(labels, map[string]string{"floor": "F1", "it's": `a\b'` + strconv.Itoa(i)})
				if i%3 == 0 {
					later, mean, note = append(later, nil), append(mean, nil), append(note, nil)
					continue
				}
				m, n := float64(i)/4, "café"
				later, mean, note = append(later, &ats[i]), append(mean, &m), append(note, &n)
			}
			b, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+tab)
			must(t, err)
			for i, col := range []any{id, key, ats, later, kwh, rssi, labels, mean, note, flag} {
				must(t, b.Column(i).Append(col))
			}
			must(t, b.Send())

			got, err := conn.Query(t.Context(), "SELECT * FROM "+tab+" WHERE id >= ? ORDER BY id", uint32(0))
			must(t, err)
			defer got.Close() //nolint:errcheck // read to its end
			n := 0
			for ; got.Next(); n++ {
				var (
					gid    uint32
					gkey   string
					gat    time.Time
					glater *time.Time
					gkwh   decimal.Decimal
					grssi  []int64
					glab   map[string]string
					gmean  *float64
					gnote  *string
					gflag  bool
				)
				must(t, got.Scan(&gid, &gkey, &gat, &glater, &gkwh, &grssi, &glab, &gmean, &gnote, &gflag))
				if gid != id[n] || gkey != key[n] || !gat.Equal(ats[n]) || !gkwh.Equal(kwh[n]) || !slices.Equal(grssi, rssi[n]) ||
					!maps.Equal(glab, labels[n]) || gflag != flag[n] {
					t.Fatalf("row %d: %v %v %v %v %v %v %v", n, gid, gkey, gat, gkwh, grssi, glab, gflag)
				}
				if n%3 == 0 && (glater != nil || gmean != nil || gnote != nil) {
					t.Fatalf("row %d: %v %v %v, want nulls", n, glater, gmean, gnote)
				}
				if n%3 != 0 && (!glater.Equal(*later[n]) || *gmean != *mean[n] || *gnote != *note[n]) {
					t.Fatalf("row %d: %v %v %v", n, *glater, *gmean, *gnote)
				}
			}
			must(t, got.Err())
			if n != rows {
				t.Fatalf("%d rows back of %d", n, rows)
			}
			out, err := c.Query(t.Context(), "SELECT at, later, kwh, rssi, labels['floor'], mean FROM "+tab+" WHERE id IN (0, 5) ORDER BY id")
			must(t, err)
			want := "1969-12-31 23:59:59.999999\t\\N\t-1.5\t[]\tF1\t\\N\n1970-01-01 00:00:00.000004\t1970-01-01 00:00:00.000004\t-1.495\t[-1]\tF1\t1.25\n"
			if out != want {
				t.Errorf("as text:\n%swant\n%s", out, want)
			}
		})
	}
}

// insert sends rows from..to under a token as one INSERT.
func insert(ctx context.Context, conn ch.Conn, table, token string, from, to int) error {
	settings := ch.Settings{"async_insert": 0}
	if token != "" {
		settings["insert_deduplicate"], settings["insert_deduplication_token"] = 1, token
	}
	b, err := conn.PrepareBatch(ch.Context(ctx, ch.WithSettings(settings)), "INSERT INTO "+table+" (id)")
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // gives the connection back
	var ids []uint32
	for i := from; i < to; i++ {
		ids = append(ids, uint32(i))
	}
	if err := b.Column(0).Append(ids); err != nil {
		return err
	}
	return b.Send()
}

const dedup = "ORDER BY id SETTINGS non_replicated_deduplication_window = 1000"

// A token that was seen drops the INSERT, whatever is in it, also after a kill. Without
// the table's setting it does not.
func TestClickHouseDeduplication(t *testing.T) {
	c := clickhouse(t)
	conn := driver(t, c, ch.CompressionLZ4)
	tab := table(t, conn, "id UInt32", dedup)
	for range 3 {
		must(t, insert(t.Context(), conn, tab, "block-1", 0, 100))
	}
	must(t, insert(t.Context(), conn, tab, "block-1", 500, 512))
	if n := count(t, c, tab); n != 100 {
		t.Errorf("%d rows after repeats of one token, want 100", n)
	}
	must(t, insert(t.Context(), conn, tab, "block-2", 0, 100))
	if n := count(t, c, tab); n != 200 {
		t.Errorf("%d rows after the same rows under another token, want 200", n)
	}

	must(t, conn.Exec(t.Context(), "CREATE TABLE forgetful (id UInt32) ENGINE = MergeTree ORDER BY id"))
	must(t, insert(t.Context(), conn, "forgetful", "block-1", 0, 100))
	must(t, insert(t.Context(), conn, "forgetful", "block-1", 0, 100))
	if n := count(t, c, "forgetful"); n != 200 {
		t.Errorf("%d rows in a table without a deduplication window, want 200", n)
	}

	must(t, c.Kill())
	must(t, c.Start(t.Context()))
	if n := count(t, c, tab); n != 200 {
		t.Errorf("%d rows after SIGKILL, want 200", n)
	}
	conn = driver(t, c, ch.CompressionNone)
	must(t, insert(t.Context(), conn, tab, "block-2", 0, 100))
	if n := count(t, c, tab); n != 200 {
		t.Errorf("%d rows: the token was forgotten in the kill", n)
	}
}

// Errors come back with the engine's code.
func TestClickHouseExceptions(t *testing.T) {
	conn := driver(t, clickhouse(t), ch.CompressionLZ4)
	tab := table(t, conn, "id UInt32", "ORDER BY id")
	ctx := t.Context()
	for _, tc := range []struct {
		what string
		code int32
		do   func() error
	}{
		{"unknown table", 60, func() error { return conn.Exec(ctx, "SELECT * FROM nowhere") }},
		{"syntax", 62, func() error { return conn.Exec(ctx, "SELEKT 1") }},
		{"unknown setting", 115, func() error {
			return conn.Exec(ch.Context(ctx, ch.WithSettings(ch.Settings{"no_such_setting": 1})), "SELECT 1")
		}},
		{"unknown database", 81, func() error { return conn.Exec(ctx, "SELECT * FROM nowhere.t") }},
		{"table that is there", 57, func() error { return conn.Exec(ctx, "CREATE TABLE "+tab+" (id UInt32) ENGINE = Memory") }},
		{"in the middle of a SELECT", 395, func() error {
			rows, err := conn.Query(ctx, "SELECT throwIf(number = 100000) FROM numbers(200000)")
			if err != nil {
				return err
			}
			defer rows.Close() //nolint:errcheck // the error is read below
			for rows.Next() {
			}
			return rows.Err()
		}},
		{"INSERT into an unknown column", 16, func() error {
			b, err := conn.PrepareBatch(ch.Context(ctx, ch.WithColumnNamesAndTypes([]ch.ColumnNameAndType{{Name: "x", Type: "UInt32"}})), "INSERT INTO "+tab+" (x)")
			if err != nil {
				return err
			}
			if err := b.Append(uint32(1)); err != nil {
				return err
			}
			return b.Send()
		}},
	} {
		var ex *ch.Exception
		if err := tc.do(); !errors.As(err, &ex) || ex.Code != tc.code {
			t.Errorf("%s: %v, want code %d", tc.what, err, tc.code)
		}
	}
	// A setting of one statement is not one of the next on the same connection.
	var v string
	must(t, conn.QueryRow(ch.Context(ctx, ch.WithSettings(ch.Settings{"max_block_size": 12345})), "SELECT toString(getSetting('max_block_size'))").Scan(&v))
	if v != "12345" {
		t.Errorf("max_block_size is %s in its statement", v)
	}
	for range 20 {
		must(t, conn.QueryRow(ctx, "SELECT toString(getSetting('max_block_size'))").Scan(&v))
		if v == "12345" {
			t.Fatal("max_block_size stayed after its statement")
		}
	}
}

// Other databases, server-side parameters, statements without a result.
func TestClickHouseStatements(t *testing.T) {
	c := clickhouse(t)
	conn := driver(t, c, ch.CompressionLZ4)
	ctx := t.Context()
	must(t, conn.Exec(ctx, "CREATE DATABASE other"))
	other, err := ch.Open(&ch.Options{Protocol: ch.HTTP, Addr: []string{c.Addr()}, Auth: ch.Auth{Database: "other", Username: "default"}})
	must(t, err)
	defer other.Close() //nolint:errcheck // nothing is under way
	must(t, other.Exec(ctx, "CREATE TABLE t (id UInt32) ENGINE = MergeTree ORDER BY id"))
	must(t, insert(ctx, other, "t", "", 0, 10))
	if n := count(t, c, "other.t"); n != 10 {
		t.Errorf("%d rows in other.t, want 10", n)
	}
	if _, err := c.Query(ctx, "SELECT count() FROM t"); err == nil {
		t.Error("the database of one connection became that of another")
	}
	var n uint64
	must(t, conn.QueryRow(ch.Context(ctx, ch.WithParameters(ch.Parameters{"low": "7"})), "SELECT count() FROM other.t WHERE id >= {low:UInt32}").Scan(&n))
	if n != 3 {
		t.Errorf("%d rows by a parameter, want 3", n)
	}
	rows, err := conn.Query(ctx, "SELECT id FROM other.t WHERE id > 100")
	must(t, err)
	if rows.Next() {
		t.Error("a row of an empty result")
	}
	must(t, errors.Join(rows.Err(), rows.Close()))

	out, err := c.Query(ctx, "INSERT INTO other.t FORMAT JSONEachRow {\"id\": 77}")
	must(t, err)
	if out != "" {
		t.Errorf("answer of an INSERT: %q", out)
	}
	if n := count(t, c, "other.t"); n != 11 {
		t.Errorf("%d rows in other.t, want 11", n)
	}
}

// The engine reads Parquet files by a glob.
func TestClickHouseReadsParquet(t *testing.T) {
	c := clickhouse(t)
	dir := t.TempDir()
	for i := range 3 {
		_, err := c.Query(t.Context(), fmt.Sprintf("INSERT INTO FUNCTION file('%s/dt=%d/a.parquet', Parquet) SELECT number AS n FROM numbers(%d)", dir, i, 10*(i+1)))
		must(t, err)
	}
	if found, err := filepath.Glob(dir + "/*/*.parquet"); err != nil || len(found) != 3 {
		t.Fatalf("files %v: %v", found, err)
	}
	out, err := c.Query(t.Context(), fmt.Sprintf("SELECT count(), sum(n) FROM file('%s/**/*.parquet', Parquet)", dir))
	must(t, err)
	if out != "60\t670\n" { // 45 + 190 + 435
		t.Errorf("count and sum %q", out)
	}
}

func TestClickHouseParallelWriters(t *testing.T) {
	c := clickhouse(t)
	conn := driver(t, c, ch.CompressionLZ4)
	tab := table(t, conn, "id UInt32", dedup)
	g, ctx := errgroup.WithContext(t.Context())
	for w := range 8 {
		g.Go(func() error {
			for i := range 5 {
				from := (w*5 + i) * 1000
				for range 2 { // each twice under its token
					if err := insert(ctx, conn, tab, fmt.Sprint(w, "/", i), from, from+1000); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
	out, err := c.Query(t.Context(), "SELECT count(), uniqExact(id), sum(id) FROM "+tab)
	must(t, err)
	if want := "40000\t40000\t799980000\n"; out != want {
		t.Errorf("count, distinct, sum: %q, want %q", out, want)
	}
}

// TestClickHouseFaults: what the client is told, and what is in the table.
func TestClickHouseFaults(t *testing.T) {
	c := clickhouse(t)
	conn := driver(t, c, ch.CompressionLZ4)
	for _, tc := range []struct {
		kind   string
		rows   int                  // in the table after the failed INSERT
		judged func(err error) bool // what the client sees
	}{
		{peers.DropBefore, 0, untyped},
		{peers.DropAfterCommit, 100, untyped},
		{peers.HTTP500AfterCommit, 100, untyped},
		{peers.Code252, 0, func(err error) bool {
			var ex *ch.Exception
			return errors.As(err, &ex) && ex.Code == 252
		}},
		{peers.Stall, 0, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{peers.StallAfterCommit, 100, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			tab := table(t, conn, "id UInt32", dedup)
			must(t, c.Inject(t.Context(), peers.Fault{Kind: tc.kind, Match: "INSERT INTO " + tab, N: 2}))
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := insert(ctx, conn, tab, "only", 0, 100)
				cancel()
				if err == nil || !tc.judged(err) {
					t.Fatalf("INSERT under the fault: %v", err)
				}
			}
			if hits, err := c.Hits(t.Context()); err != nil || hits != 2 {
				t.Fatalf("%d hits (%v), want 2", hits, err)
			}
			if n := count(t, c, "default."+tab); n != tc.rows {
				t.Errorf("%d rows after the faults, want %d", n, tc.rows)
			}
			must(t, c.ClearFaults(t.Context()))
			must(t, insert(t.Context(), conn, tab, "only", 0, 100))
			if n := count(t, c, "default."+tab); n != 100 {
				t.Errorf("%d rows after the repeat, want 100", n)
			}
		})
	}
	if err := c.Inject(t.Context(), peers.Fault{Kind: "nonsense", N: 1}); err == nil {
		t.Error("an unknown fault was taken")
	}
}

// untyped: the client cannot tell whether the rows are there.
func untyped(err error) bool {
	var ex *ch.Exception
	return !errors.As(err, &ex) || ex.Code == 0
}

// An INSERT whose sender goes away in its middle writes nothing.
func TestClickHouseCutInsert(t *testing.T) {
	c := clickhouse(t)
	conn := driver(t, c, ch.CompressionNone)
	tab := table(t, conn, "id UInt32", "ORDER BY id")
	raw, err := net.Dial("tcp", c.Addr())
	must(t, err)
	_, err = fmt.Fprintf(raw, "POST /?query=INSERT%%20INTO%%20%s%%20FORMAT%%20RowBinary HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n%s", tab, strings.Repeat("\x01\x00\x00\x00", 500))
	must(t, err)
	must(t, raw.(*net.TCPConn).CloseWrite())
	answer := make([]byte, 1<<10)
	must(t, raw.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, _ := raw.Read(answer) // an error answer, or just the end
	must(t, raw.Close())
	if strings.Contains(string(answer[:n]), "200 OK") {
		t.Errorf("half an INSERT was taken: %s", answer[:n])
	}
	if n := count(t, c, tab); n != 0 {
		t.Errorf("%d rows of half an INSERT", n)
	}
}

// SIGKILL while writers are at work: every INSERT that was acknowledged is there, whole,
// and every other one is there whole or not at all.
func TestClickHouseKill(t *testing.T) {
	c := clickhouse(t)
	conn := driver(t, c, ch.CompressionLZ4)
	tab := table(t, conn, "id UInt32", dedup)
	const size = 20_000
	acked := make(chan int, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < cap(acked); i++ {
			if insert(t.Context(), conn, tab, fmt.Sprint(i), i*size, (i+1)*size) != nil {
				return
			}
			acked <- i
		}
	}()
	for range 5 {
		<-acked
	}
	must(t, c.Kill())
	<-done
	close(acked)
	sure := 5
	for range acked {
		sure++
	}
	must(t, c.Start(t.Context()))
	out, err := c.Query(t.Context(), fmt.Sprintf("SELECT intDiv(id, %d) AS block, count(), uniqExact(id) FROM %s GROUP BY block ORDER BY block", size, tab))
	must(t, err)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, l := range lines {
		if l != fmt.Sprintf("%d\t%d\t%d", i, size, size) {
			t.Errorf("block %q, want all of it once", l)
		}
	}
	if len(lines) < sure || len(lines) > sure+1 {
		t.Errorf("%d blocks are there, %d were acknowledged", len(lines), sure)
	}
}

// A library that is not the one we know is refused.
func TestEngineChecksum(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("TIDEMARK_CACHE", cache)
	dir := filepath.Join(cache, "chdb-"+peers.EngineVersion)
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "libchdb.so"), []byte("something else"), 0o755))
	_, err := peers.StartClickHouse(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "SHA-256") || !strings.Contains(err.Error(), "remove "+dir) {
		t.Errorf("start with another library: %v", err)
	}
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/integration/peers"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

const (
	faultBlockRows = 200
	faultEpochRows = 5 * faultBlockRows
)

// faultTable is a table that the rig fills, and what it must hold.
type faultTable struct {
	*direct
	store         string // folder of the sealed blocks, which outlives the sinks
	epochs        int64
	rows, sum     int64 // of all that was written; a row's count is its number, so none has another's
	keys, keysSum int64 // of the newest row of each key
}

// faultRig writes epochs through faults, restarts and deaths of the engine.
type faultRig struct {
	*rig
	rng      *rand.Rand
	kinds    []string // drawn from, so a kind named twice is twice as likely
	chance   float64  // of a fault, for each block and for each record
	restarts int
	hits     map[string]int
}

// everyKind are the faults of the rig. Those that cost a second of waiting are rare.
var everyKind = []string{
	peers.DropBefore, peers.DropBefore, peers.DropBefore,
	peers.DropAfterCommit, peers.DropAfterCommit, peers.DropAfterCommit, peers.DropAfterCommit,
	peers.HTTP500AfterCommit, peers.HTTP500AfterCommit, peers.HTTP500AfterCommit,
	peers.CloseMidBody, peers.CloseMidBody, peers.CloseMidBody,
	peers.Code252, peers.Code252,
	peers.Stall, peers.StallAfterCommit, peers.RunLate, peers.KillBefore, peers.KillAfterCommit,
}

func (r *rig) faults(seed uint64, chance float64, kinds ...string) *faultRig {
	return &faultRig{rig: r, rng: rand.New(rand.NewPCG(seed, 252)), kinds: kinds, chance: chance, hits: map[string]int{}}
}

// table makes one of the rig's tables. It is never merged: merges would hide rows that are
// there twice.
func (f *faultRig) table(t *testing.T, name string, change func(*clickhouse.Config)) *faultTable {
	t.Helper()
	d := f.direct(t, func(c *clickhouse.Config) {
		c.Table, c.BlockRows, c.AttemptTimeout = name, faultBlockRows, time.Second
		change(c)
	})
	must(t, d.sink.Ready(t.Context()))
	d.query(t, "ALTER TABLE $db."+name+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
	tab := &faultTable{direct: d, store: t.TempDir()}
	tab.sink = tab.openOn(t, tab.store)
	t.Cleanup(func() { must(t, tab.sink.Close()) })
	return tab
}

// next returns the rows of the next epoch. In every second one half of the rows are newer
// revisions of rows of the epoch before.
func (tab *faultTable) next() (n int64, rows []countRow) {
	tab.epochs++
	n = tab.epochs
	for i := range int64(faultEpochRows) {
		id := n*faultEpochRows + i
		row := countRow{fmt.Sprintf("k%d", id), (n + 1) / 2 * 24, id, 1}
		if n%2 == 0 && i < faultEpochRows/2 {
			replaced := id - faultEpochRows
			row.key, row.revision = fmt.Sprintf("k%d", replaced), 2
			tab.keys--
			tab.keysSum -= replaced
		}
		tab.rows++
		tab.sum += id
		tab.keys++
		tab.keysSum += id
		rows = append(rows, row)
	}
	return n, rows
}

// write seals and publishes the next epoch of a table as a job does that is not spared
// anything: it may die before its checkpoint, which makes it seal the epoch again, and in the
// middle of publishing, which makes it publish the receipt again.
func (f *faultRig) write(t *testing.T, tab *faultTable) {
	t.Helper()
	n, rows := tab.next()
	if f.rng.IntN(12) == 0 {
		tab.seal(t, tab.sink, n, 0, rows...)
		f.restart(t, tab)
	}
	receipt := tab.seal(t, tab.sink, n, 0, rows...)
	f.inject(t, tab)
	dies := f.rng.IntN(12) == 0
	if dies {
		f.publishFor(t, tab, receipt, time.Duration(f.rng.IntN(80))*time.Millisecond)
		f.restart(t, tab)
	}
	must(t, f.publish(t, tab, t.Context(), receipt))
	if dies {
		must(t, tab.sink.Sweep(t.Context()))
	}
	f.clear(t)
}

// restart is what the death of a process leaves: the folder and what the server has.
func (f *faultRig) restart(t *testing.T, tab *faultTable) {
	t.Helper()
	old := tab.sink
	tab.sink = tab.openOn(t, tab.store)
	must(t, old.Close())
	f.restarts++
}

// inject adds faults for the blocks of an epoch and for its record.
func (f *faultRig) inject(t *testing.T, tab *faultTable) {
	t.Helper()
	add := func(table string, skip int) {
		if f.rng.Float64() >= f.chance {
			return
		}
		x := peers.Fault{Kind: f.kinds[f.rng.IntN(len(f.kinds))], Match: tab.insert(table), Skip: skip, N: 1}
		if x.Kind == peers.Code252 {
			x.N = 2
		}
		must(t, f.clickhouse.Inject(t.Context(), x))
	}
	for block := range faultEpochRows / faultBlockRows {
		add(tab.cfg.Table, block)
	}
	add("tm_commits", 0)
}

// insert is the beginning of the statements that write to a table of its database.
func (d *direct) insert(table string) string {
	return fmt.Sprintf("INSERT INTO `%s`.`%s`", d.cfg.Database, table)
}

// publish publishes a receipt and starts the engine again whenever a fault has killed it.
func (f *faultRig) publish(t *testing.T, tab *faultTable, ctx context.Context, receipt pipeline.Receipt) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- tab.sink.Publish(ctx, receipt) }()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case err := <-ended:
			tick.Stop()
			f.revive(t)
			return err
		case <-tick.C:
			f.revive(t)
		}
	}
}

func (f *faultRig) revive(t *testing.T) {
	t.Helper()
	if !f.clickhouse.Alive() {
		f.hits["kill"]++
		must(t, f.clickhouse.Start(t.Context()))
	}
}

// publishFor begins to publish and gives up after a while, as a process does that dies.
func (f *faultRig) publishFor(t *testing.T, tab *faultTable, receipt pipeline.Receipt, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := f.publish(t, tab, ctx, receipt); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
}

// clear counts and removes faults. Those of an engine that died are not counted.
func (f *faultRig) clear(t *testing.T) {
	t.Helper()
	hits, err := f.clickhouse.HitsByKind(t.Context())
	must(t, err)
	for kind, n := range hits {
		f.hits[kind] += n
	}
	must(t, f.clickhouse.ClearFaults(t.Context()))
}

func (f *faultRig) faultsHit() (n int) {
	for _, hits := range f.hits {
		n += hits
	}
	return n
}

// verdict is what the engine says of tables, against what they must hold.
type verdict struct {
	lost, duplicated, wrong int64
	notes                   []string
}

func (v *verdict) note(format string, args ...any) {
	v.wrong++
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}

// judge counts the rows of a table, those that its readers see, and its records, and has the
// sink audit it.
func (v *verdict) judge(t *testing.T, tab *faultTable) {
	t.Helper()
	table := "$db." + tab.cfg.Table
	var rows, unique, sum int64
	tab.scan(t, "SELECT count(), uniqExact(count), sum(count) FROM "+table, &rows, &unique, &sum)
	v.duplicated += rows - unique
	v.lost += max(tab.rows-unique, 0)
	if rows == tab.rows && unique == tab.rows && sum != tab.sum || unique > tab.rows {
		v.note("%s: %d rows add up to %d, want %d rows and %d", tab.cfg.Table, rows, sum, tab.rows, tab.sum)
	}
	if !tab.cfg.Append {
		var keys, keysSum int64
		tab.scan(t, "SELECT count(), sum(count) FROM "+table+" FINAL", &keys, &keysSum)
		if keys != tab.keys || keysSum != tab.keysSum {
			v.note("%s FINAL: %d rows add up to %d, want %d and %d", tab.cfg.Table, keys, keysSum, tab.keys, tab.keysSum)
		}
	}
	var epochs, first, last, recorded int64
	tab.scan(t, fmt.Sprintf("SELECT uniqExact(epoch), min(epoch), max(epoch), sum(row_count) FROM (SELECT DISTINCT epoch, blocks, row_count FROM $db.tm_commits WHERE table_name = '%s.%s')",
		tab.cfg.Database, tab.cfg.Table), &epochs, &first, &last, &recorded)
	if epochs != tab.epochs || first != 1 || last != tab.epochs || recorded != tab.rows {
		v.note("tm_commits: %d epochs from %d to %d with %d rows, want %d with %d", epochs, first, last, recorded, tab.epochs, tab.rows)
	}
	a, err := tab.sink.Audit(t.Context(), 0)
	must(t, err)
	if a.Mismatches != 0 || a.Rows != tab.rows {
		v.note("audit: %d rows, %d mismatches, first %v", a.Rows, a.Mismatches, a.Faults)
	}
}

// scan reads the one line of numbers that a query answers with.
func (d *direct) scan(t *testing.T, sql string, into ...*int64) {
	t.Helper()
	var args []any
	for _, p := range into {
		args = append(args, p)
	}
	if _, err := fmt.Sscan(d.query(t, sql), args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// outlived waits until statements that outlive their senders have run.
func outlived() { time.Sleep(time.Second) }

// TestClickHouseFaultRig: blocks of 200 rows into a table of results and one that only grows,
// one in eight met by a fault. Nothing is lost, nothing is there twice, every epoch is
// recorded, and the audit agrees.
func TestClickHouseFaultRig(t *testing.T) {
	r := newRig(t)
	blocks, chance, want := 300, 0.16, 40
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		blocks, chance, want = 10_000, 0.125, 1000
	}
	const seed = 11
	f := r.faults(seed, chance, everyKind...)
	tables := []*faultTable{
		f.table(t, "counts", func(*clickhouse.Config) {}),
		f.table(t, "appended", func(c *clickhouse.Config) { c.Append = true }),
	}
	began := time.Now()
	for i := range blocks / (faultEpochRows / faultBlockRows) {
		f.write(t, tables[i%len(tables)])
	}
	outlived()
	var v verdict
	for _, tab := range tables {
		v.judge(t, tab)
	}
	for _, kind := range slices.Sorted(maps.Keys(f.hits)) {
		t.Logf("scoreboard: fault_%s=%d", kind, f.hits[kind])
	}
	t.Logf("%d blocks in %v, %d faults, %d restarts, seed %d", blocks, time.Since(began).Round(time.Second), f.faultsHit(), f.restarts, seed)
	t.Logf("scoreboard: clickhouse_blocks=%d clickhouse_faults=%d clickhouse_restarts=%d lost=%d duplicated=%d wrong=%d",
		blocks, f.faultsHit(), f.restarts, v.lost, v.duplicated, v.wrong)
	if v.lost+v.duplicated+v.wrong > 0 {
		t.Errorf("%d lost, %d duplicated, %q", v.lost, v.duplicated, v.notes)
	}
	if f.faultsHit() < want || f.restarts < blocks/100 {
		t.Errorf("%d faults and %d restarts: the rig proves little", f.faultsHit(), f.restarts)
	}
}

// TestClickHouseFaultRigNegative: without one of its defences the sink loses or doubles rows,
// and the rig says so.
func TestClickHouseFaultRigNegative(t *testing.T) {
	r := newRig(t)
	noticed := 0
	for _, c := range []struct {
		name    string
		run     func(t *testing.T, f *faultRig) *faultTable
		noticed func(v verdict) bool
	}{
		{"a new token for every attempt", randomTokens, func(v verdict) bool { return v.duplicated > 0 }},
		{"no look before a block is sent again and no token", noDefence, func(v verdict) bool { return v.duplicated > 0 }},
		{"blocks cut again after a restart", cutAgain, func(v verdict) bool { return v.duplicated > 0 }},
		{"blocks cut again and looked for", cutAgainAndLook, func(v verdict) bool { return v.lost > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := c.run(t, r.faults(7, 0))
			must(t, r.clickhouse.ClearFaults(t.Context()))
			outlived()
			var v verdict
			v.judge(t, tab)
			t.Logf("%d lost, %d duplicated, %q", v.lost, v.duplicated, v.notes)
			if !c.noticed(v) {
				t.Error("not noticed")
				return
			}
			noticed++
		})
	}
	t.Logf("scoreboard: negative_controls_failed=%d", noticed)
}

// randomTokens puts a proxy before the server that gives every request its own token. A look
// does not help against a first attempt that is still under way.
func randomTokens(t *testing.T, f *faultRig) *faultTable {
	to, err := url.Parse(f.clickhouse.URL())
	must(t, err)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		q := r.Out.URL.Query()
		if q.Has("insert_deduplication_token") {
			q.Set("insert_deduplication_token", fmt.Sprint(rand.Uint64()))
		}
		r.Out.URL.RawQuery = q.Encode()
	}, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }})
	t.Cleanup(proxy.Close)
	tab := f.table(t, "counts", func(c *clickhouse.Config) { c.URL = proxy.URL })
	f.disturb(t, tab, peers.RunLate)
	return tab
}

func noDefence(t *testing.T, f *faultRig) *faultTable {
	tab := f.table(t, "counts", func(c *clickhouse.Config) { c.Delivery = clickhouse.AtLeastOnce })
	tab.query(t, "ALTER TABLE $db.counts MODIFY SETTING non_replicated_deduplication_window = 0")
	f.disturb(t, tab, peers.DropAfterCommit)
	return tab
}

// disturb writes three epochs whose third block meets a fault.
func (f *faultRig) disturb(t *testing.T, tab *faultTable, kind string) {
	t.Helper()
	for range 3 {
		must(t, f.clickhouse.Inject(t.Context(), peers.Fault{Kind: kind, Skip: 2, N: 1, Match: tab.insert("counts")}))
		n, rows := tab.next()
		tab.epoch(t, tab.sink, n, 0, rows...)
	}
}

// cutAgain dies with two blocks sent, and then seals larger blocks of the same rows.
func cutAgain(t *testing.T, f *faultRig) *faultTable {
	tab, n, rows := halfSent(t, f)
	must(t, tab.sink.Publish(t.Context(), tab.seal(t, tab.sink, n, 0, rows...)))
	return tab
}

// cutAgainAndLook dies once more before it sends them, so that the next process looks.
func cutAgainAndLook(t *testing.T, f *faultRig) *faultTable {
	tab, n, rows := halfSent(t, f)
	receipt := tab.seal(t, tab.sink, n, 0, rows...)
	f.restart(t, tab)
	must(t, tab.sink.Publish(t.Context(), receipt))
	return tab
}

func halfSent(t *testing.T, f *faultRig) (tab *faultTable, n int64, rows []countRow) {
	t.Helper()
	tab = f.table(t, "counts", func(*clickhouse.Config) {})
	n, rows = tab.next()
	must(t, f.clickhouse.Inject(t.Context(), peers.Fault{Kind: peers.Stall, Skip: 2, N: 1, Match: tab.insert("counts")}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	receipt := tab.seal(t, tab.sink, n, 0, rows...)
	go func() { ended <- tab.sink.Publish(ctx, receipt) }()
	for hits := 0; hits == 0; time.Sleep(5 * time.Millisecond) {
		var err error
		hits, err = f.clickhouse.Hits(t.Context())
		must(t, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("publish: %v, want that it was cancelled", err)
	}
	must(t, f.clickhouse.ClearFaults(t.Context()))
	if got := strings.TrimSpace(tab.query(t, "SELECT count() FROM $db.counts")); got != fmt.Sprint(2*faultBlockRows) {
		t.Fatalf("%s rows were sent, want %d", got, 2*faultBlockRows)
	}
	tab.cfg.BlockRows = faultBlockRows * 5 / 4
	f.restart(t, tab)
	return tab, n, rows
}

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// model is a ClickHouse in memory, as far as the protocol can tell: physical rows by
// block, a window of deduplication tokens, answers that get lost, and inserts that land
// after the client gave up on them.
type model struct {
	mu      sync.Mutex
	faults  *pipelinetest.Faults
	window  int // tokens remembered
	tokens  []string
	rows    []modelRow
	commits []commit
	made    bool // the table exists
	ran     []string
	ranges  bool // tm_ranges has decisions
	info    tableInfo
	inserts int
	server  serverInfo
	// script holds what the next inserts do instead of working.
	script []func(in insertion) error
	late   []insertion // inserts on their way, see landLater
}

type modelRow struct {
	text    string
	lineage uint16
	epoch   int64
	block   uint32
}

func newModel(faults *pipelinetest.Faults) *model {
	return &model{faults: faults, window: 1000}
}

func exception(code int32) error {
	return &ch.Exception{Code: code, Message: fmt.Sprint("code ", code)}
}

func (m *model) exec(_ context.Context, sql string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults.Do(func() error { m.made = true; m.ran = append(m.ran, sql); return nil })
}

func (m *model) decided(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ranges, nil
}

func (m *model) table(_ context.Context, name string) (tableInfo, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == commitsTable {
		info := tableInfo{columns: map[string]string{}}
		for _, c := range commitColumns {
			info.columns[c.Name] = c.Type
		}
		return info, m.made, m.faults.Do(func() error { return nil })
	}
	return m.info, m.made, m.faults.Do(func() error { return nil })
}

func (m *model) otherJob(_ context.Context, job, table string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.commits {
		if c.table == table && c.job != job {
			return c.job, nil
		}
	}
	return "", nil
}

func (m *model) insert(ctx context.Context, in insertion) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inserts++
	if len(m.script) > 0 {
		next := m.script[0]
		m.script = m.script[1:]
		if next != nil {
			return next(in)
		}
	}
	return m.faults.Do(func() error { m.land(in); return ctx.Err() })
}

// land does what the server does with an INSERT.
func (m *model) land(in insertion) {
	if slices.Contains(m.tokens, in.token) {
		return
	}
	m.tokens = append(m.tokens, in.token)
	m.tokens = m.tokens[max(0, len(m.tokens)-m.window):]
	for i := range int(in.rec.NumRows()) {
		m.rows = append(m.rows, modelRow{rowText(in.rec, i), in.lineage, in.epoch, in.n})
	}
}

// landLater keeps an insert on its way: the client learns nothing, the rows come when the
// test calls landed.
func (m *model) landLater(in insertion) error {
	in.rec.Retain()
	m.late = append(m.late, in)
	return errors.New("read: connection reset by peer")
}

func (m *model) landed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.late {
		m.land(in)
		in.rec.Release()
	}
	m.late = nil
}

// lost lets an insert work and loses the answer.
func (m *model) lost(in insertion) error {
	m.land(in)
	return errors.New("EOF")
}

func rowText(rec arrow.RecordBatch, i int) string {
	out := ""
	for k := range int(rec.NumCols()) - 1 { // without _tm_ver
		out += rec.Column(k).ValueStr(i) + " "
	}
	return out
}

func (m *model) blockRows(_ context.Context, lineage uint16, epoch int64) (map[uint32]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[uint32]int64{}
	for _, r := range m.rows {
		if r.lineage == lineage && r.epoch == epoch {
			out[r.block]++
		}
	}
	return out, m.faults.Do(func() error { return nil })
}

func (m *model) record(_ context.Context, c commit, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults.Do(func() error { m.commits = append(m.commits, c); return nil })
}

func (m *model) recorded(_ context.Context, job, table string, lineage uint16, epoch int64) (commit, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.faults.Do(func() error { return nil }); err != nil {
		return commit{}, false, err
	}
	for _, c := range m.commits {
		if c.job == job && c.table == table && c.lineage == lineage && c.epoch == epoch {
			return c, true, nil
		}
	}
	return commit{}, false, nil
}

// audit counts only, as of a table that grows.
func (m *model) audit(context.Context, int) (a Audit, states []blockState, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.commits {
		a.Epochs++
		for n, want := range c.blockRows {
			a.Blocks++
			a.Rows += int64(want)
			b := blockState{Fault: Fault{Lineage: c.lineage, Epoch: c.epoch, Block: uint32(n), Want: int64(want)}, recorded: true}
			for _, r := range m.rows {
				if r.lineage == c.lineage && r.epoch == c.epoch && r.block == uint32(n) {
					b.Got++
				}
			}
			if b.Got != b.Want {
				states = append(states, b)
			}
		}
	}
	return a, states, m.faults.Do(func() error { return nil })
}

func (m *model) about(context.Context, string) (serverInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server, nil
}

func (m *model) pace(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := uint32(0)
	for _, c := range m.commits {
		most = max(most, c.blocks)
	}
	return int64(most), nil
}

func (m *model) close() error { return nil }

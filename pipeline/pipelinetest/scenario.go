package pipelinetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cockroachdb/datadriven"

	"github.com/tidemark/tidemark/pipeline"
)

// RunScenario runs a text scenario of one window operator over RowSchema. The file states
// a rule and shows it. Commands:
//
//	open ARGS           a new operator; ARGS are for open
//	rows                one row a line: TIME KEY VALUE [@SPLIT]; a row is judged by the mark
//	                    that the last advance gave, or by passed=T of the command
//	advance T           the mark
//	tick T              the wall clock
//	restore             snapshot, a new operator, restore
//
// Times are HH:MM:SS[.frac] of 2026-01-01, or integers of ticks. Output is a line per
// result (out, its columns by name), a line per late row, then the mark and the number of
// open windows.
//
// Each file is replayed in three more ways that must not matter: every row in a batch of
// its own; a restore before every command; and, when it says "shuffle" in a comment's
// first word, the rows of each command in another order. A difference fails.
func RunScenario(t *testing.T, path string, open func(mem memory.Allocator, d *datadriven.TestData) (Window, error)) {
	for _, way := range []string{"", "one-row batches", "restored", "shuffled"} {
		name := way
		if name == "" {
			name = "as is"
		}
		t.Run(name, func(t *testing.T) {
			checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
			s := &scenario{t: t, mem: checked, open: open, way: way, rng: rand.New(rand.NewPCG(1, 2))}
			datadriven.RunTest(t, path, s.run)
			checked.AssertSize(t, 0)
		})
	}
}

type scenario struct {
	t    *testing.T
	mem  memory.Allocator
	open func(mem memory.Allocator, d *datadriven.TestData) (Window, error)
	way  string
	rng  *rand.Rand

	op     Window
	opened datadriven.TestData
	mark   int64
	now    int64
	offset int64
	out    []string
}

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	s.out = nil
	if err := s.command(d); err != nil {
		return "error: " + err.Error() + "\n"
	}
	slices.Sort(s.out)
	s.out = append(s.out, fmt.Sprintf("mark=%s open=%d", clock(s.mark), s.op.Open()))
	return strings.Join(s.out, "\n") + "\n"
}

func (s *scenario) command(d *datadriven.TestData) (err error) {
	if s.op != nil && s.way == "restored" && d.Cmd != "open" {
		if err := s.restore(); err != nil {
			return err
		}
	}
	arg := func() (int64, error) {
		if len(d.CmdArgs) != 1 {
			return 0, fmt.Errorf("%s wants one time", d.Cmd)
		}
		return parseClock(d.CmdArgs[0].Key)
	}
	switch d.Cmd {
	case "open":
		s.opened, s.mark, s.now = *d, pipeline.MinTicks, pipeline.MinTicks
		s.op, err = s.open(s.mem, d)
		return err
	case "rows":
		return s.rows(d)
	case "advance":
		to, err := arg()
		if err != nil {
			return err
		}
		s.mark = max(s.mark, to)
		return s.op.Advance(pipeline.Mark{Event: to, Ingest: pipeline.MinTicks}, s)
	case "tick":
		now, err := arg()
		if err != nil {
			return err
		}
		s.now = now
		return s.op.Tick(now, s)
	case "restore":
		return s.restore()
	}
	return fmt.Errorf("unknown command %s", d.Cmd)
}

func (s *scenario) rows(d *datadriven.TestData) error {
	passed := pipeline.MinTicks
	shuffle := s.way == "shuffled"
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "passed":
			p, err := parseClock(a.Vals[0])
			if err != nil {
				return err
			}
			passed = p
		case "ordered":
			shuffle = false
		}
	}
	var rows []Row
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 {
			return fmt.Errorf("row %q: want TIME KEY VALUE", line)
		}
		at, err := parseClock(f[0])
		if err != nil {
			return err
		}
		v, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return fmt.Errorf("row %q: %w", line, err)
		}
		rows = append(rows, Row{Time: at, Key: f[1], Value: v, Offset: s.offset, Ingest: at})
		s.offset++
	}
	if shuffle {
		s.rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	}
	size := len(rows)
	if s.way == "one-row batches" {
		size = 1
	}
	for part := range slices.Chunk(rows, size) {
		if err := s.process(part, passed); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) process(rows []Row, passed int64) error {
	rec := Record(s.mem, rows)
	defer rec.Release()
	keyer, err := pipeline.NewKeyer(rec.Schema(), []string{"key"}, 0)
	if err != nil {
		return err
	}
	b := pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Passed: passed}
	if passed == pipeline.MinTicks {
		for range rows {
			b.Behind = append(b.Behind, s.mark)
		}
	}
	return s.op.Process(b, s)
}

func (s *scenario) restore() error {
	op, err := s.open(s.mem, &s.opened)
	if err != nil {
		return err
	}
	err = s.op.Snapshot(true, func(p pipeline.Piece) error {
		p = p.Made()
		defer p.Rec.Release()
		return op.Restore(p, func(uint8) bool { return true })
	})
	if err != nil {
		return err
	}
	s.op = op
	if err := op.Advance(pipeline.Mark{Event: s.mark, Ingest: pipeline.MinTicks}, s); err != nil {
		return err
	}
	return op.Tick(s.now, s)
}

// Emit implements pipeline.Emitter.
func (s *scenario) Emit(p pipeline.Port, b pipeline.Batch) error {
	for i := range b.NumRows() {
		line := p.String()
		for c := range int(b.Rec.NumCols()) {
			name := b.Rec.ColumnName(c)
			if p == pipeline.Late && strings.HasPrefix(name, "_") {
				continue
			}
			col := b.Rec.Column(c)
			if ts, ok := col.(*array.Timestamp); ok && !col.IsNull(i) {
				line += fmt.Sprintf(" %s=%s", name, clock(int64(ts.Value(i))))
				continue
			}
			line += fmt.Sprintf(" %s=%s", name, col.ValueStr(i))
		}
		s.out = append(s.out, line)
	}
	return nil
}

// Count implements pipeline.Emitter.
func (s *scenario) Count(pipeline.Fate, int32, int64) {}

func parseClock(v string) (int64, error) {
	if at, err := time.Parse("15:04:05.999999", v); err == nil {
		return day + int64(at.Hour())*3600e6 + int64(at.Minute())*60e6 + int64(at.Second())*1e6 + int64(at.Nanosecond())/1e3, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("time %q: want HH:MM:SS or an integer", v)
	}
	return n, nil
}

func clock(t int64) string {
	switch {
	case t == pipeline.MinTicks:
		return "-"
	case t == pipeline.MaxTicks:
		return "end"
	case t >= day && t < day+86400e6:
		return arrow.Timestamp(t).ToTime(arrow.Microsecond).Format("15:04:05.999999")
	}
	return strconv.FormatInt(t, 10)
}

package operators_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestWindowModel compares the last result of every key and window, the late rows and the
// count of missed windows with the oracle, for every shape with every trigger. On the way
// the state goes through checkpoints that hold only what changed, and comes back in another
// number of shards.
func TestWindowModel(t *testing.T) {
	shapes := map[string]operators.Shape{
		"tumbling": operators.TumblingShape(10, 3),
		"even":     {Kind: operators.Hopping, Size: 10, Slide: 5},
		"odd":      {Kind: operators.Hopping, Size: 10, Slide: 4, Offset: -1},
		"dense":    {Kind: operators.Hopping, Size: 6, Slide: 1},
		"stacked":  {Kind: operators.Hopping, Size: 40, Slide: 2, Offset: 1},
		"odder":    {Kind: operators.Hopping, Size: 52, Slide: 3},
		"growing":  {Kind: operators.Cumulate, Size: 36, Slide: 2},
		"holes":    {Kind: operators.Hopping, Size: 3, Slide: 7},
		"cumulate": {Kind: operators.Cumulate, Size: 12, Slide: 3, Offset: 1},
		"global":   {Kind: operators.Global},
	}
	base := operators.WindowConfig{Trigger: operators.OnMark, Keys: []string{"key"}, Seed: 5,
		Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"},
			{Fn: "last", Column: "value", As: "last"}, {Fn: "collect_by_ts", Column: "value", As: "list"}}}
	triggers := map[string]func(*operators.WindowConfig){
		"on_mark":   func(*operators.WindowConfig) {},
		"late_rows": func(c *operators.WindowConfig) { c.LateRows = 2 },
		"on_close":  func(c *operators.WindowConfig) { c.Trigger = operators.OnClose },
		"on_update": func(c *operators.WindowConfig) { c.Trigger = operators.OnUpdate },
		"early":     func(c *operators.WindowConfig) { c.EarlyRows, c.EarlyDelay = 3, 2 },
		"every":     func(c *operators.WindowConfig) { c.EarlyEvery, c.SkipUnchanged = 4, true },
		"retract":   func(c *operators.WindowConfig) { c.EarlyRows, c.Retract, c.SkipUnchanged = 1, true, true },
		"on_rule":   func(c *operators.WindowConfig) { c.Trigger, c.EarlyRows, c.LateRows = operators.OnRule, 2, 2 },
	}
	for _, shape := range slices.Sorted(maps.Keys(shapes)) {
		for _, trigger := range slices.Sorted(maps.Keys(triggers)) {
			t.Run(shape+"/"+trigger, func(t *testing.T) {
				seed := uint64(len(shape) + len(trigger)) // TestRandom has thousands
				cfg := base
				cfg.Shape = shapes[shape]
				cfg.Lateness = []int64{0, 4, 25}[seed%3]
				triggers[trigger](&cfg)
				lists := seed%2 == 0
				if !lists { // then the state is given away frozen
					cfg.Aggregates = cfg.Aggregates[:3]
				}
				m := &model{t: t, cfg: cfg, rng: rand.New(rand.NewPCG(seed, 7)), got: map[modelWindow]string{}}
				m.run()
				if !lists && m.frozen == 0 {
					t.Error("no piece was frozen")
				}
			})
		}
	}
}

type modelWindow struct {
	key string
	operators.Bounds
}

type model struct {
	t      *testing.T
	cfg    operators.WindowConfig
	rng    *rand.Rand
	mem    *memory.CheckedAllocator
	shards []*operators.Window
	pieces []map[string]pipeline.Piece // per shard, as a chain of checkpoints keeps them
	missed int64                       // by operators that were thrown away

	oracle   *pipelinetest.Oracle
	got      map[modelWindow]string
	lateRows int
	frozen   int // comparisons of frozen pieces
}

func (m *model) run() {
	m.mem = memory.NewCheckedAllocator(memory.NewGoAllocator())
	m.open(1 + m.rng.IntN(3))
	const splits, bound = 3, 4
	marks := pipeline.NewMarks(bound, pipeline.MaxTicks)
	m.oracle = pipelinetest.NewOracle(pipelinetest.OracleSpec{Kind: string(m.cfg.Kind), Size: m.cfg.Size, Slide: m.cfg.Slide, Offset: m.cfg.Offset,
		Lateness: m.cfg.Lateness, Bound: bound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks}, splits)
	var offset, clock [splits]int64
	for s := range splits {
		marks.Add()
		clock[s] = -20
	}
	now := int64(0)
	for range 40 {
		s := m.rng.IntN(splits)
		var rows []pipelinetest.Row
		var times []int64
		for range 1 + m.rng.IntN(6) {
			clock[s] += int64(m.rng.IntN(4))
			at := clock[s] - int64(m.rng.IntN(5))
			if m.rng.IntN(6) == 0 {
				at -= int64(m.rng.IntN(30))
			}
			r := pipelinetest.Row{Time: at, Key: fmt.Sprint("k", m.rng.IntN(4)), Value: int64(m.rng.IntN(100)), Split: int32(s), Offset: offset[s]}
			offset[s]++
			m.oracle.Add(r)
			rows, times = append(rows, r), append(times, at)
		}
		behind, mark, passed := marks.Stamp(int32(s), times, nil)
		m.rows(rows, behind, passed, int32(s))
		if marks.Arrive(int32(s), pipeline.Mark{Event: mark, Ingest: pipeline.MinTicks}, 0) {
			m.each(func(w *operators.Window) error { return w.Advance(marks.Merged(), m) })
		}
		if m.rng.IntN(4) == 0 {
			now++
			m.each(func(w *operators.Window) error { return w.Tick(now, m) })
		}
		if m.rng.IntN(5) == 0 {
			m.checkpoint(false)
		}
		if m.rng.IntN(12) == 0 {
			m.checkpoint(false)
			m.reopen(marks.Merged())
		}
	}
	m.each(func(w *operators.Window) error {
		return w.Advance(pipeline.Mark{Event: pipeline.MaxTicks, Ingest: pipeline.MinTicks}, m)
	})
	for _, w := range m.oracle.Windows() {
		at := modelWindow{w.Key, operators.Bounds{Start: w.Start, End: w.End}}
		want := ""
		for _, a := range m.cfg.Aggregates {
			want += fmt.Sprintf("%s=%s ", a.As, w.Value(a.Fn, a.Column))
		}
		if want += fmt.Sprintf("late=%d", w.Late); m.got[at] != want {
			m.t.Errorf("%s [%d,%d): got %s, want %s", at.key, at.Start, at.End, m.got[at], want)
		}
		delete(m.got, at)
	}
	for at, v := range m.got {
		m.t.Errorf("%s [%d,%d): got %s, want none", at.key, at.Start, at.End, v)
	}
	missed := m.missed
	for _, w := range m.shards {
		missed += w.Missed()
		if n := w.Open(); n != 0 {
			m.t.Errorf("%d windows are open after the end", n)
		}
	}
	if m.lateRows != len(m.oracle.Late) || missed != m.oracle.Missed {
		m.t.Errorf("%d late rows and %d missed windows, want %d and %d", m.lateRows, missed, len(m.oracle.Late), m.oracle.Missed)
	}
	m.drop()
	m.mem.AssertSize(m.t, 0)
}

func (m *model) open(shards int) {
	m.shards, m.pieces = nil, nil
	for range shards {
		w, err := operators.NewWindow(m.cfg, pipelinetest.RowSchema(), m.mem)
		if err != nil {
			m.t.Fatal(err)
		}
		m.shards, m.pieces = append(m.shards, w), append(m.pieces, map[string]pipeline.Piece{})
	}
}

func (m *model) each(f func(*operators.Window) error) {
	for _, w := range m.shards {
		if err := f(w); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) rows(rows []pipelinetest.Row, behind []int64, passed int64, split int32) {
	rec := pipelinetest.Record(m.mem, rows)
	defer rec.Release()
	keyer, err := pipeline.NewKeyer(rec.Schema(), []string{"key"}, m.cfg.Seed)
	if err != nil {
		m.t.Fatal(err)
	}
	keys := keyer.Keys(rec)
	for s, w := range m.shards {
		b := pipeline.Batch{Rec: rec, Rows: []int32{}, Keys: keys, Behind: behind, Passed: passed, Split: split}
		for i, h := range keys.Hash {
			if pipeline.ShardOf(pipeline.Group(h), len(m.shards)) == s {
				b.Rows = append(b.Rows, int32(i))
			}
		}
		if err := w.Process(b, m); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) checkpoint(full bool) {
	for s, w := range m.shards {
		kept := map[string]pipeline.Piece{}
		err := w.Snapshot(full, func(p pipeline.Piece) error {
			if !p.Changed() {
				old, ok := m.pieces[s][p.ID]
				if !ok {
					return fmt.Errorf("piece %s has no rows and none before", p.ID)
				}
				p = old
			}
			made := p.Made()
			made.Frozen = p.Frozen
			kept[p.ID] = made
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
		m.dropPieces(s)
		m.pieces[s] = kept
	}
}

func (m *model) reopen(mark pipeline.Mark) {
	pieces := m.pieces
	before := 0
	for _, w := range m.shards {
		m.missed += w.Missed()
		before += w.Open()
	}
	m.open(1 + m.rng.IntN(3))
	after := 0
	for s, w := range m.shards {
		for _, ps := range pieces {
			for _, p := range ps {
				m.staysFrozen(p)
				if err := w.Restore(p, func(g uint8) bool { return pipeline.ShardOf(g, len(m.shards)) == s }); err != nil {
					m.t.Fatal(err)
				}
			}
		}
		if err := w.Advance(mark, m); err != nil {
			m.t.Fatal(err)
		}
		after += w.Open()
	}
	if before != after {
		m.t.Errorf("%d open windows before the checkpoint, %d after", before, after)
	}
	for _, ps := range pieces {
		for _, p := range ps {
			p.Rec.Release()
		}
	}
	m.checkpoint(true)
}

// staysFrozen compares the rows of a piece that were made at once with those that are made
// now, after all that the operator has done since.
func (m *model) staysFrozen(p pipeline.Piece) {
	if p.Frozen == nil {
		return
	}
	m.frozen++
	now := p.Frozen.Rows()
	defer now.Release()
	if !array.RecordEqual(now, p.Rec) {
		m.t.Errorf("piece %s has changed while it was frozen:\n%v\nthen\n%v", p.ID, p.Rec, now)
	}
}

func (m *model) dropPieces(s int) {
	for _, p := range m.pieces[s] {
		m.staysFrozen(p)
		p.Rec.Release()
	}
}

func (m *model) drop() {
	for s := range m.pieces {
		m.dropPieces(s)
	}
}

// Emit implements pipeline.Emitter: the last result of a key and window counts.
func (m *model) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Late {
		m.lateRows += b.NumRows()
		return nil
	}
	text := func(name string, i int) string { return b.Rec.Column(b.Rec.Schema().FieldIndices(name)[0]).ValueStr(i) }
	for i := range b.NumRows() {
		at := modelWindow{key: text("key", i), Bounds: operators.Bounds{Start: pipeline.MinTicks, End: pipeline.MaxTicks}}
		if start := b.Rec.Column(1).(*array.Timestamp); !start.IsNull(i) {
			at.Start, at.End = int64(start.Value(i)), int64(b.Rec.Column(2).(*array.Timestamp).Value(i))
		}
		line := ""
		for _, a := range m.cfg.Aggregates {
			line += fmt.Sprintf("%s=%s ", a.As, text(a.As, i))
		}
		line += "late=" + text("late_count", i)
		if m.cfg.Retract && text("_tm_kind", i) == "-U" {
			if m.got[at] != line {
				m.t.Errorf("%s [%d,%d): withdrawn %s, shown was %s", at.key, at.Start, at.End, line, m.got[at])
			}
			continue
		}
		m.got[at] = line
	}
	return nil
}

// Count implements pipeline.Emitter.
func (m *model) Count(pipeline.Fate, int32, int64) {}

// TestCivilDays: in every zone the days follow each other without a hole, hold the times
// that they are counted for, and begin at the local midnight, or where it was leapt over.
func TestCivilDays(t *testing.T) {
	for _, name := range []string{"Europe/Amsterdam", "America/St_Johns", "America/Sao_Paulo", "America/Havana", "Australia/Lord_Howe",
		"Asia/Kathmandu", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo", "Asia/Tehran", "America/Los_Angeles", "UTC"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, hours := range []int64{2, 4, 12, 24, 24 * 7} {
			s := operators.TumblingShape(hours*3600e6, 0)
			s.Zone = zone
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			at := time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
			w := s.Span(at)
			for w.End < at+12*366*86400e6 {
				for _, in := range []int64{w.Start, (w.Start + w.End) / 2, w.End - 1} {
					if got := s.Span(in); got != w {
						t.Fatalf("%s, %d h: %d lies in %v, not in %v", name, hours, in, got, w)
					}
				}
				if hours == 24 {
					start := time.UnixMicro(w.Start).In(zone)
					before := time.UnixMicro(w.Start - 1).In(zone)
					if start.YearDay() == before.YearDay() || start.Hour() > 1 {
						t.Errorf("%s: a day begins at %s", name, start)
					}
				}
				next := s.Span(w.End)
				if next.Start != w.End {
					t.Fatalf("%s, %d h: %v follows %v", name, hours, next, w)
				}
				w = next
			}
		}
	}
}

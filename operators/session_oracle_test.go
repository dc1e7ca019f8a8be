package operators_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

const (
	oracleSplits = 3
	oracleRows   = 400 // per split
	oracleBound  = 60
)

// sessionInput makes rows of which far percent are beyond the bound. Keys are long and
// short, and belong to one split unless shared.
func sessionInput(seed uint64, far int, shared bool) [][]pipelinetest.Row {
	rng := rand.New(rand.NewPCG(seed, 11))
	splits := make([][]pipelinetest.Row, oracleSplits)
	for s := range splits {
		at := int64(-20_000) + int64(s)*37
		newest := at
		for i := range oracleRows {
			at += rng.Int64N(25)
			if rng.IntN(60) == 0 {
				at += rng.Int64N(500)
			}
			newest = max(newest, at)
			back := rng.Int64N(oracleBound + 1)
			if rng.IntN(100) < far {
				back += rng.Int64N(600)
			}
			key := fmt.Sprintf("k%d", rng.IntN(9))
			if key > "k4" {
				key += "-with-a-long-name"
			}
			if !shared {
				key = fmt.Sprintf("s%d/%s", s, key)
			}
			splits[s] = append(splits[s], pipelinetest.Row{Time: newest - back, Ingest: newest, Key: key, Value: rng.Int64N(2001) - 1000, Split: int32(s), Offset: int64(i)})
		}
	}
	return splits
}

// sessionRun drives an operator over splits the way a job does: front, shards, restarts.
type sessionRun struct {
	t     *testing.T
	cfg   operators.SessionConfig
	input [][]pipelinetest.Row
	batch int
	order int
	wrong bool // negative control: rows are judged by the merged mark
	mem   memory.Allocator

	front  *pipeline.Front
	tasks  []*pipeline.Task
	kept   map[string]pipeline.Piece // of the last snapshot; none after a restart
	next   []int
	final  map[string]string
	revs   map[string]int64 // the largest revision of each key and window
	sums   map[string]int64 // by key: what discarding panes add up to
	late   []string
	counts pipeline.Counts
}

func (r *sessionRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *sessionRun) build(shards int) {
	r.tasks = nil
	for range shards {
		w, err := operators.NewSession(r.cfg, pipelinetest.RowSchema(), r.mem)
		r.must(err)
		r.tasks = append(r.tasks, pipeline.NewTask([]pipeline.Operator{w}, r.take))
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), r.cfg.Keys, r.cfg.Seed)
	r.must(err)
	cfg := pipeline.FrontConfig{Bound: oracleBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: shards, Keyer: keyer}
	r.front = pipeline.NewFront(cfg, func(shard int, m pipeline.Message) error {
		for i := range m.Batch.Behind {
			if r.wrong {
				m.Batch.Behind[i] = r.front.Merged().Event
			}
		}
		return r.tasks[shard].Step(m)
	})
}

// run reads all input, snapshots now and then, and restarts twice with other shards.
func (r *sessionRun) run(shards int) {
	checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
	r.mem, r.next, r.final, r.sums = checked, make([]int, len(r.input)), map[string]string{}, map[string]int64{}
	r.revs = map[string]int64{}
	r.build(shards)
	for s := range r.input {
		r.front.Announce(pipeline.Split{Topic: "t", Partition: int32(s)}, pipeline.Position{})
	}
	rng := rand.New(rand.NewPCG(uint64(r.order), 5))
	done, snap := 0, 0
	for s := r.pick(rng); s >= 0; s = r.pick(rng) {
		rows := r.input[s][r.next[s]:min(r.next[s]+r.batch, len(r.input[s]))]
		r.next[s] += len(rows)
		r.feed(int32(s), rows)
		done += len(rows)
		r.must(r.front.Tick(int64(done)))
		if at := done * 12 / (oracleSplits * oracleRows); at > snap {
			snap = at
			r.snapshot()
			if snap == 4 || snap == 8 {
				shards = shards%4 + 1
				r.restart(shards)
			}
		}
	}
	for s := range r.input {
		r.must(r.front.End(pipeline.Split{Topic: "t", Partition: int32(s)}))
	}
	for _, task := range r.tasks {
		if task.Open() != 0 {
			r.t.Errorf("%d sessions are open after the end", task.Open())
		}
	}
	r.drop()
	checked.AssertSize(r.t, 0)
	sort.Strings(r.late)
}

// pick chooses the split to read next: in turn, by chance, or one split far ahead.
func (r *sessionRun) pick(rng *rand.Rand) int {
	var open []int
	for s := range r.input {
		if r.next[s] < len(r.input[s]) {
			open = append(open, s)
		}
	}
	switch {
	case len(open) == 0:
		return -1
	case r.order == 0:
		return slices.MinFunc(open, func(a, b int) int { return r.next[a] - r.next[b] })
	case r.order == 1:
		return open[rng.IntN(len(open))]
	}
	return open[len(open)-1]
}

func (r *sessionRun) feed(s int32, rows []pipelinetest.Row) {
	w := &pipeline.Wire{Split: s, Next: pipeline.Position{Offset: int64(r.next[s]), LastIngest: rows[len(rows)-1].Ingest}}
	for _, row := range rows {
		w.Offset = append(w.Offset, row.Offset)
		w.Ingest = append(w.Ingest, row.Ingest)
	}
	rec := pipelinetest.Record(r.mem, rows)
	defer rec.Release()
	r.must(r.front.Rows(w, &pipeline.Batch{Rec: rec, Split: s, Passed: pipeline.MinTicks}, 0))
}

// snapshot takes the pieces that changed and keeps the others of the time before.
func (r *sessionRun) snapshot() {
	kept := map[string]pipeline.Piece{}
	for s, task := range r.tasks {
		r.must(task.Snapshot(r.kept == nil, func(_ int, p pipeline.Piece) error {
			id := fmt.Sprintf("%d/%s", s, p.ID)
			if !p.Changed() {
				old, ok := r.kept[id]
				if !ok {
					return fmt.Errorf("piece %s never had rows", id)
				}
				p = old
			}
			kept[id] = p.Made()
			return nil
		}))
	}
	r.drop()
	r.kept = kept
}

func (r *sessionRun) drop() {
	for _, p := range r.kept {
		p.Rec.Release()
	}
	r.kept = nil
}

func (r *sessionRun) restart(shards int) {
	for _, task := range r.tasks {
		for _, c := range task.TakeCounts() {
			r.counts.Add(c)
		}
	}
	cp := &pipeline.Checkpoint{Splits: r.front.Cut(), Merged: r.front.Merged()}
	r.build(shards)
	ids := make([]string, 0, len(r.kept))
	for id := range r.kept {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for s, task := range r.tasks {
		for _, id := range ids {
			r.must(task.Restore(0, r.kept[id], func(g uint8) bool { return pipeline.ShardOf(g, len(r.tasks)) == s }))
		}
	}
	r.drop()
	r.must(r.front.Restore(cp))
}

// take keeps what is shown and not taken back, and the late rows.
func (r *sessionRun) take(p pipeline.Port, b pipeline.Batch) error {
	text := func(name string, i int) string {
		c := b.Rec.Column(b.Rec.Schema().FieldIndices(name)[0])
		if ts, ok := c.(*array.Timestamp); ok {
			return fmt.Sprint(int64(ts.Value(i)))
		}
		return strings.Clone(c.ValueStr(i))
	}
	for i := range b.NumRows() {
		if p == pipeline.Late {
			r.late = append(r.late, fmt.Sprintf("late %s @%s [%s,%s) %s/%s %s", text("key", i), text("time", i), text("window_start", i), text("window_end", i), text("_split", i), text("_offset", i), text("reason", i)))
			continue
		}
		at := fmt.Sprintf("%s [%s,%s)", text("key", i), text("window_start", i), text("window_end", i))
		row := ""
		for c, f := range b.Rec.Schema().Fields() {
			if c > 2 && f.Name[0] != '_' {
				row += fmt.Sprintf(" %s=%s", f.Name, text(f.Name, i))
			}
		}
		shown, ok := r.final[at]
		kind := "+I"
		if r.cfg.Retract {
			kind = text("_tm_kind", i)
		} else if text("_tm_pane", i) == "retracted" {
			kind = "-D"
		}
		// What a table that keeps the largest revision needs: each new row of a key and window
		// has a larger one, a withdrawal and what comes back after it too.
		rev := int64(b.Rec.Column(b.Rec.Schema().FieldIndices("_tm_revision")[0]).(*array.Int32).Value(i))
		if kind != "-U" && rev <= r.revs[at] {
			r.t.Errorf("%s %s has revision %d after %d", at, kind, rev, r.revs[at])
		}
		r.revs[at] = max(r.revs[at], rev)
		if del := b.Rec.Schema().FieldIndices("_tm_del"); len(del) > 0 && b.Rec.Column(del[0]).(*array.Boolean).Value(i) != (kind == "-D") {
			r.t.Errorf("%s %s: _tm_del is not that", at, kind)
		}
		switch kind {
		case "-D":
			if !ok {
				r.t.Errorf("%s is taken back, but was not shown", at)
			}
			delete(r.final, at)
			continue
		case "-U":
			if shown != row {
				r.t.Errorf("%s is withdrawn as%s, but was shown as%s", at, row, shown)
			}
			delete(r.final, at)
			continue
		}
		if r.cfg.Retract && ok {
			r.t.Errorf("%s is shown twice", at)
		}
		r.final[at] = row
		r.sums[text("key", i)] += b.Rec.Column(b.Rec.Schema().FieldIndices("count")[0]).(*array.Int64).Value(i)
	}
	return nil
}

func (r *sessionRun) lines() []string {
	out := slices.Clone(r.late)
	for at, row := range r.final {
		out = append(out, at+row)
	}
	sort.Strings(out)
	return out
}

// sessionLines is what the oracle makes of the splits, one after the other: keys belong to
// one split each, so that their order does not matter.
func sessionLines(cfg operators.SessionConfig, input [][]pipelinetest.Row) (lines []string, lates int) {
	o := pipelinetest.NewOracle(pipelinetest.OracleSpec{Kind: "session", Gap: cfg.Gap, MaxLength: cfg.MaxLength, Merge: cfg.Touch == operators.TouchMerge,
		Lateness: cfg.Lateness, Bound: oracleBound, QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks}, len(input))
	for _, rows := range input {
		for _, r := range rows {
			o.Add(r)
		}
	}
	for _, l := range o.Late {
		lines = append(lines, fmt.Sprintf("late %s @%d [%d,%d) %d/%d %s", l.Key, l.Time, l.Start, l.End, l.Split, l.Offset, l.Reason))
	}
	for _, w := range o.Windows() {
		lines = append(lines, sessionLine(w))
	}
	sort.Strings(lines)
	return lines, len(o.Late)
}

func sessionLine(w *pipelinetest.OracleWindow) string {
	line := fmt.Sprintf("%s [%d,%d)", w.Key, w.Start, w.End)
	for _, fn := range []string{"count", "sum", "min", "max", "first", "last"} {
		line += fmt.Sprintf(" %s=%s", fn, w.Value(fn, "value"))
	}
	return fmt.Sprintf("%s late_count=%d", line, w.Late)
}

func oracleConfig() operators.SessionConfig {
	cfg := sessionConfig()
	cfg.Gap = 100
	cfg.Aggregates = []operators.Aggregate{{Fn: "count", As: "count"}}
	for _, fn := range []string{"sum", "min", "max", "first", "last"} {
		cfg.Aggregates = append(cfg.Aggregates, operators.Aggregate{Fn: fn, Column: "value", As: fn})
	}
	return cfg
}

// TestSessionOracle: what is shown and not taken back is what the oracle finds, and
// so are the late rows, whatever the batches, shards, order of splits and restarts.
func TestSessionOracle(t *testing.T) {
	for name, change := range map[string]func(*operators.SessionConfig){
		"plain":     func(*operators.SessionConfig) {},
		"lateness":  func(c *operators.SessionConfig) { c.Lateness = 150 },
		"merge":     func(c *operators.SessionConfig) { c.Touch, c.Gap, c.Lateness = operators.TouchMerge, 40, 20 },
		"short gap": func(c *operators.SessionConfig) { c.Gap, c.Lateness = 7, 300 },
		"coalesced": func(c *operators.SessionConfig) { c.Lateness, c.LateRows, c.LateDelay = 150, 3, 10 },
		"cap":       func(c *operators.SessionConfig) { c.MaxLength, c.Lateness = 220, 80 },
		"early":     func(c *operators.SessionConfig) { c.EarlyEvery, c.Lateness = 30, 50 },
		"retract": func(c *operators.SessionConfig) {
			c.Retract, c.Lateness, c.EarlyEvery = true, 150, 50
		},
		"early delay": func(c *operators.SessionConfig) {
			c.EarlyDelay, c.LateRows, c.LateDelay, c.Lateness = 3, 0, 5, 150
		},
		"early aligned": func(c *operators.SessionConfig) {
			c.EarlyDelay, c.EarlyAligned, c.EarlyRows, c.Lateness, c.Trigger = 8, true, 4, 150, operators.OnRule
		},
		"unchanged": func(c *operators.SessionConfig) {
			c.SkipUnchanged, c.Retract, c.EarlyEvery, c.EarlyDelay, c.Lateness = true, true, 30, 3, 50
		},
		"on update": func(c *operators.SessionConfig) { c.Trigger, c.Lateness = operators.OnUpdate, 50 },
		"on close":  func(c *operators.SessionConfig) { c.Trigger, c.Lateness = operators.OnClose, 50 },
		"on rule":   func(c *operators.SessionConfig) { c.Trigger, c.EarlyEvery, c.Lateness = operators.OnRule, 64, 50 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := oracleConfig()
			change(&cfg)
			input := sessionInput(7, 12, false)
			want, lates := sessionLines(cfg, input)
			if lates == 0 || lates > oracleSplits*oracleRows/8 {
				t.Fatalf("%d late rows of %d: the input proves little", lates, oracleSplits*oracleRows)
			}
			for order, batch := range []int{17, 1, 1000} {
				r := &sessionRun{t: t, cfg: cfg, input: input, batch: batch, order: order}
				r.run(1 + order)
				compareLines(t, fmt.Sprintf("batch=%d order=%d", batch, order), r.lines(), want)
			}
			t.Logf("%d sessions, %d late rows", len(want)-lates, lates)
		})
	}
}

// TestSessionOracleNegative: verdicts by the merged mark do not go unnoticed.
func TestSessionOracleNegative(t *testing.T) {
	cfg := oracleConfig()
	input := sessionInput(7, 12, false)
	want, _ := sessionLines(cfg, input)
	r := &sessionRun{t: t, cfg: cfg, input: input, batch: 17, order: 2, wrong: true}
	r.run(2)
	if slices.Equal(r.lines(), want) {
		t.Error("the comparison is blind")
	}
}

// TestSessionOrder: rows within the bound give the same sessions, whichever splits the
// rows of a key come through and in whatever order those are read: those that the rows,
// sorted by time, fall into.
func TestSessionOrder(t *testing.T) {
	for _, touch := range []operators.Touch{operators.TouchSplit, operators.TouchMerge} {
		cfg := oracleConfig()
		cfg.Touch, cfg.Gap = touch, 60
		input := sessionInput(3, 0, true)
		byKey := map[string][][2]int64{}
		rows := 0
		for _, split := range input {
			for _, r := range split {
				byKey[r.Key] = append(byKey[r.Key], [2]int64{r.Time, r.Time + cfg.Gap})
				rows++
			}
		}
		var want []string
		for key, wins := range byKey {
			for _, win := range operators.MergeSessions(wins, touch) {
				s := &pipelinetest.OracleWindow{Key: key, Start: win[0], End: win[1]}
				for _, split := range input {
					for _, r := range split {
						if r.Key == key && r.Time >= win[0] && r.Time < win[1] {
							s.Rows = append(s.Rows, r)
						}
					}
				}
				want = append(want, sessionLine(s))
			}
		}
		sort.Strings(want)
		for _, batch := range []int{3, 40} {
			for order := range 3 {
				r := &sessionRun{t: t, cfg: cfg, input: input, batch: batch, order: order}
				r.run(2)
				compareLines(t, fmt.Sprintf("touch=%s batch=%d order=%d", touch, batch, order), r.lines(), want)
			}
		}
		if len(want) < 50 || len(want) > rows/2 {
			t.Errorf("%d sessions of %d rows prove little", len(want), rows)
		}
	}
}

// TestSessionDiscard: the panes of discarding sessions hold every accepted row once.
func TestSessionDiscard(t *testing.T) {
	cfg := oracleConfig()
	cfg.Discard, cfg.Lateness, cfg.EarlyEvery = true, 150, 64
	input := sessionInput(7, 12, false)
	_, lates := sessionLines(cfg, input)
	r := &sessionRun{t: t, cfg: cfg, input: input, batch: 13, order: 1}
	r.run(2)
	total := int64(0)
	for _, n := range r.sums {
		total += n
	}
	if want := int64(oracleSplits*oracleRows - lates); total != want || len(r.late) != lates {
		t.Errorf("panes hold %d rows and %d are late, want %d and %d", total, len(r.late), want, lates)
	}
}

func compareLines(t *testing.T, name string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	have := map[string]bool{}
	for _, l := range got {
		have[l] = true
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(l string) bool { return have[l] })
	wanted := map[string]bool{}
	for _, l := range want {
		wanted[l] = true
	}
	extra := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return wanted[l] })
	t.Errorf("%s: %d lines, want %d; missing %d:\n\t%s\nunwanted %d:\n\t%s", name, len(got), len(want),
		len(missing), strings.Join(missing[:min(3, len(missing))], "\n\t"), len(extra), strings.Join(extra[:min(3, len(extra))], "\n\t"))
}

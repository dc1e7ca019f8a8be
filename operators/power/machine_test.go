package power_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/power"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
	"github.com/tidemark/tidemark/schemas/pdu"
)

// feedRow is a reading as a row of feed pdu.
type feedRow struct {
	split  int32
	offset int64
	at     int64
	pdu    string
	scope  power.Scope
	name   string
	w, kwh float64 // NaN: none
	a      float64 // 0: none
}

func feedSchema() *arrow.Schema {
	fields := pipeline.RowFields()
	for _, f := range pdu.Fields() {
		if f.Name != pdu.EventTime {
			fields = append(fields, f.Arrow())
		}
	}
	return arrow.NewSchema(fields, nil)
}

// feedBatch makes a batch of rows.
func feedBatch(mem memory.Allocator, rows []feedRow) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, feedSchema())
	defer b.Release()
	for _, r := range rows {
		for i, f := range feedSchema().Fields() {
			switch f.Name {
			case "time", "_ingest":
				b.Field(i).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
			case "_split":
				b.Field(i).(*array.Int32Builder).Append(r.split)
			case "_offset":
				b.Field(i).(*array.Int64Builder).Append(r.offset)
			case "pdu_id":
				b.Field(i).(*array.StringBuilder).Append(r.pdu)
			case "scope":
				b.Field(i).(*array.StringBuilder).Append(string(r.scope))
			case "element":
				b.Field(i).(*array.StringBuilder).Append(r.name)
			case "w":
				b.Field(i).(*array.Int64Builder).AppendValues([]int64{int64(r.w * 10)}, []bool{r.w == r.w})
			case "a":
				b.Field(i).(*array.Int64Builder).AppendValues([]int64{int64(r.a * 1000)}, []bool{r.a != 0})
			case "kwh_total":
				b.Field(i).(*array.Int64Builder).AppendValues([]int64{int64(r.kwh * 1000)}, []bool{r.kwh == r.kwh})
			default:
				b.Field(i).AppendNull()
			}
		}
	}
	return b.NewRecordBatch()
}

// randomFeed are readings of two groups and some PDUs alone, in splits, each a little out of order.
func randomFeed(rng *rand.Rand, minutes int) [][]feedRow {
	splits := make([][]feedRow, 3)
	pdus := []string{"A", "B", "C", "X", "Y"}
	kwh := map[string]float64{}
	for m := range minutes {
		for n, id := range pdus {
			if rng.IntN(20) == 0 || id == "Y" && m > minutes/2 {
				continue // not read
			}
			s := n % len(splits)
			at := int64(m)*60_000_000 + rng.Int64N(3_000_000)/1000*1000
			add := func(scope power.Scope, name string, w, kwh float64) {
				splits[s] = append(splits[s], feedRow{int32(s), 0, at + rng.Int64N(700)*1000, id, scope, name, w, kwh, 0})
			}
			heavy := 1 + float64(m/17%2)*0.3
			for _, name := range power.Branches {
				add(power.Branch, name, float64(1500+rng.IntN(2000))*heavy, power.Unknown())
			}
			kwh[id] += rng.Float64() * 0.2
			if rng.IntN(200) == 0 {
				kwh[id] = 0
			}
			add(power.Unit, "", power.Unknown(), kwh[id])
			add(power.Outlet, "7", float64(rng.IntN(900)), power.Unknown())
			add(power.Branch, fmt.Sprint("B", rng.IntN(4)), power.Unknown(), power.Unknown())
		}
	}
	for s := range splits {
		rows := splits[s]
		for i := range rows {
			if j := i + rng.IntN(6); j < len(rows) {
				rows[i], rows[j] = rows[j], rows[i]
			}
		}
		for i := range rows {
			rows[i].offset = int64(i)
		}
	}
	return splits
}

// collected are the rows that an operator has sent, as text.
type collected struct {
	found, loads, late []string
	aggregated         int64
}

// Emit implements pipeline.Emitter.
func (c *collected) Emit(p pipeline.Port, b pipeline.Batch) error {
	for r := range int(b.Rec.NumRows()) {
		var text []string
		for i, f := range b.Rec.Schema().Fields() {
			if b.Rec.Column(i).IsValid(r) {
				text = append(text, f.Name+"="+b.Rec.Column(i).ValueStr(r))
			}
		}
		line := strings.Join(text, " ")
		switch p {
		case pipeline.Out:
			c.found = append(c.found, line)
		case pipeline.Side(0):
			c.loads = append(c.loads, line)
		case pipeline.Late:
			c.late = append(c.late, line)
		default:
			return fmt.Errorf("a row on port %s", p)
		}
	}
	return nil
}

// Count implements pipeline.Emitter.
func (c *collected) Count(_ pipeline.Fate, _ int32, rows int64) { c.aggregated += rows }

// stream drives a machine through Keyed as the runtime does.
type stream struct {
	t   *testing.T
	mem memory.Allocator
	inv *power.Inventory
	m   *power.Machine
	k   *operators.Keyed[power.Group]
	collected
	pipelinetest.Shards
}

func (s *stream) start() {
	s.t.Helper()
	m, err := power.NewMachine(power.DefaultConfig(), s.inv, feedSchema(), pdu.FindingSchema(), s.mem)
	if err != nil {
		s.t.Fatal(err)
	}
	s.m = m
	if s.k, err = operators.NewKeyed(operators.KeyedConfig[power.Group]{Key: []string{"pdu_id"}, Append: power.AppendGroup, Read: power.ReadGroup}, m, feedSchema(), s.mem); err != nil {
		s.t.Fatal(err)
	}
	if s.Keyer, err = pipeline.NewKeyer(feedSchema(), []string{"pdu_id"}, 0); err != nil {
		s.t.Fatal(err)
	}
	s.T, s.Out = s.t, s
	s.Start(s.k)
}

func (s *stream) stop() {
	s.k.Close()
	s.m.Release()
}

func (s *stream) process(marks *pipeline.Marks, rows []feedRow) {
	s.t.Helper()
	rec := feedBatch(s.mem, rows)
	defer rec.Release()
	s.Rows(marks, rows[0].split, rec)
}

func (s *stream) restart() {
	s.t.Helper()
	s.Checkpoint(false)
	s.stop()
	s.start()
	s.Restore(nil)
}

// run gives splits to the stream. Cut says how many rows come at once and how often time moves and
// the process starts anew; nil is all of it in order, one row at a time.
func (s *stream) run(splits [][]feedRow, cut *rand.Rand) {
	s.t.Helper()
	const bound = 120_000_000
	s.start()
	marks := pipeline.NewMarks(bound, pipeline.MaxTicks)
	rest := slices.Clone(splits)
	for range rest {
		marks.Add()
	}
	for {
		var open []int
		for i := range rest {
			if len(rest[i]) > 0 {
				open = append(open, i)
			}
		}
		if len(open) == 0 {
			break
		}
		i, n := open[0], 1
		if cut != nil {
			i = open[cut.IntN(len(open))]
			n = min(len(rest[i]), 1+cut.IntN(1<<cut.IntN(8)))
		} else {
			for _, o := range open {
				if rest[o][0].at < rest[i][0].at {
					i = o
				}
			}
		}
		s.process(marks, rest[i][:n])
		if rest[i] = rest[i][n:]; len(rest[i]) == 0 {
			marks.End(int32(i))
		}
		if cut == nil || cut.IntN(3) == 0 {
			s.Advance(marks)
		}
		if cut != nil && cut.IntN(30) == 0 {
			s.restart()
		}
	}
	s.Advance(marks)
	s.Drop()
	s.stop()
	slices.Sort(s.found)
	slices.Sort(s.loads)
	slices.Sort(s.late)
}

// twoGroups is the inventory of random feeds.
func twoGroups(t *testing.T) *power.Inventory {
	t.Helper()
	var e power.Entries
	for id, feed := range map[string]string{"A": "A", "B": "B", "X": "A", "Y": "B"} {
		p := power.DefaultPDU(id)
		p.Feed, p.Group, p.Wiring, p.Volts, p.Limits = feed, "one", power.WiringDelta, 208, power.Limits{LineA: 24, BreakerA: 20, Continuous: 0.8}
		if id > "C" {
			p.Group = "two"
		}
		e.PDUs = append(e.PDUs, p)
	}
	e.Devices = []power.Equipment{{Device: power.Device{Name: "d", A: "L12", B: "L31"}, Group: "two", OutletA: "7"}}
	e.Silences = []power.Silence{{PDU: "A", From: 0, To: pipeline.Ticks(time.Hour)}}
	e.Other = power.DefaultPDU("")
	e.Other.Volts = 208
	inv, errs := power.NewInventory(e, "")
	if errs != nil {
		t.Fatal(errs)
	}
	return inv
}

// TestMachine: what comes of rows depends on the rows alone, not on batches, marks and restarts.
func TestMachine(t *testing.T) {
	rules := map[string]int{}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			rng := rand.New(rand.NewPCG(seed, 8))
			splits := randomFeed(rng, 150)
			inv := twoGroups(t)
			one := &stream{t: t, mem: mem, inv: inv}
			one.run(splits, nil)
			if len(one.late) < 10 || len(one.loads) < 400 {
				t.Fatalf("%d late rows, %d loads: the test has become too easy", len(one.late), len(one.loads))
			}
			for _, line := range one.found {
				_, rule, _ := strings.Cut(line, " rule=")
				rule, _, _ = strings.Cut(rule, " ")
				rules[rule]++
			}
			for range 2 {
				cut := &stream{t: t, mem: mem, inv: inv}
				cut.run(splits, rng)
				if d := firstDifference(cut.found, one.found) + firstDifference(cut.loads, one.loads) + firstDifference(cut.late, one.late); d != "" {
					t.Fatal(d)
				}
				if cut.aggregated != one.aggregated {
					t.Errorf("%d rows aggregated, want %d", cut.aggregated, one.aggregated)
				}
			}
		})
	}
	for _, rule := range []power.Rule{power.RuleOver, power.RuleImbalance, power.RuleRedundancy, power.RuleEnergy} {
		if rules[string(rule)] < 3 {
			t.Errorf("%d findings of %s: the test has become too easy", rules[string(rule)], rule)
		}
	}
}

// firstDifference names the first line that differs, empty for none.
func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return fmt.Sprintf("line %d is\n%s\nwant\n%s\n", i, g, w)
		}
	}
	return ""
}

// TestMachineMoved: what was found of a PDU that another inventory has elsewhere is closed with the
// next step of time, whether the file changes while the operator runs or while it is stopped.
func TestMachineMoved(t *testing.T) {
	for name, change := range map[string]func(*stream){
		"running": func(s *stream) {
			if err := s.k.Refer(pipeline.Reference{Value: s.inv}); err != nil {
				t.Fatal(err)
			}
		},
		"stopped": (*stream).restart,
	} {
		t.Run(name, func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			s := &stream{t: t, mem: mem, inv: twoGroups(t)}
			s.start()
			defer func() {
				s.Drop()
				s.stop()
			}()
			marks := pipeline.NewMarks(0, pipeline.MaxTicks)
			marks.Add()
			n := int64(0)
			read := func(pdu string, at time.Duration) {
				s.process(marks, []feedRow{{offset: n, at: pipeline.Ticks(at), pdu: pdu, scope: power.Branch, name: "L12", a: 21, w: power.Unknown(), kwh: power.Unknown()}})
				s.Advance(marks)
				n++
			}
			for m := range time.Duration(4) {
				read("A", m*time.Minute)
			}
			read("Z", 3*time.Minute+30*time.Second) // nothing of A is pending
			before := strings.Join(s.found, "\n")
			if strings.Contains(before, "close") || !strings.Contains(before, "pdu_branch_overload") {
				t.Fatalf("%s", before)
			}
			p := power.DefaultPDU("A")
			p.Group, p.Feed = "two", "A"
			s.inv, _ = power.NewInventory(power.Entries{PDUs: []power.PDU{p}, Other: power.DefaultPDU("")}, "2")
			change(s)
			read("Z", 4*time.Minute)
			after := strings.Join(s.found[len(strings.Split(before, "\n")):], "\n")
			if !strings.Contains(after, "close") || !strings.Contains(after, "pdu_branch_overload") {
				t.Errorf("not closed: %s", after)
			}
		})
	}
}

// TestMachineNotices: the comparison of TestMachine sees a single reading that is lost.
func TestMachineNotices(t *testing.T) {
	mem := memory.NewGoAllocator()
	rng := rand.New(rand.NewPCG(1, 1))
	splits := randomFeed(rng, 60)
	all := &stream{t: t, mem: mem, inv: twoGroups(t)}
	all.run(splits, nil)
	lost := slices.IndexFunc(splits[0], func(r feedRow) bool { return r.name == "L12" && r.at > 600_000_000 })
	splits[0] = slices.Delete(slices.Clone(splits[0]), lost, lost+1)
	less := &stream{t: t, mem: mem, inv: twoGroups(t)}
	less.run(splits, nil)
	if firstDifference(all.loads, less.loads) == "" {
		t.Error("a lost reading was not noticed")
	}
}

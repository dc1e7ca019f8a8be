package traffic_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/traffic"
	"github.com/tidemark/tidemark/pipeline"
)

// trafficRow is a row of a job: a volume, or a sample of a counter of a device.
type trafficRow struct {
	at             int64
	entity, device string
	value          int64
}

func rowSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "entity", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "device", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "source", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "bytes", Type: arrow.PrimitiveTypes.Int64}), nil)
}

// jobConfig is the chain of a test.
type jobConfig struct {
	counters bool
	zero     bool
	verdicts []traffic.Verdict
	history  []traffic.History
}

func (c jobConfig) chain(t testing.TB, mem memory.Allocator) []pipeline.Operator {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rows := rowSchema()
	var chain []pipeline.Operator
	if c.counters {
		m, err := traffic.NewCounters(traffic.DefaultCounterConfig(), traffic.CounterColumns{Entity: "entity", Signal: "source", Value: "bytes"}, rows, mem)
		check(err)
		op, err := operators.NewKeyed(operators.KeyedConfig[traffic.CounterState]{Key: []string{"entity", "device"}, Append: traffic.AppendCounter, Read: traffic.ReadCounter}, m, rows, mem)
		check(err)
		chain = append(chain, op)
	} else {
		m, err := traffic.NewVolumes(traffic.VolumeColumns{Entity: "entity", Signal: "source", Value: "bytes"}, rows, mem)
		check(err)
		op, err := operators.NewKeyed(operators.KeyedConfig[traffic.VolumeState]{Key: []string{"entity", "source"}, Append: traffic.AppendVolume, Read: traffic.ReadVolume}, m, rows, mem)
		check(err)
		chain = append(chain, op)
	}
	series := traffic.SeriesConfig{AbsentIsZero: c.zero,
		Detector: traffic.DefaultDetectorConfig(), Eligibility: traffic.DefaultEligibilityConfig(), History: c.history}
	m, err := traffic.NewSeries(series, c.verdicts, mem)
	check(err)
	op, err := operators.NewKeyed(operators.KeyedConfig[traffic.SeriesState]{Key: []string{"entity", "signal"}, Append: traffic.AppendSeries, Read: m.Read}, m, traffic.CountedSchema(), mem)
	check(err)
	a, err := traffic.NewAnomalies(traffic.DefaultRegisterConfig(), c.verdicts, nil, mem)
	check(err)
	last, err := operators.NewKeyed(operators.KeyedConfig[traffic.Register]{Key: []string{traffic.NoticeKey}, Append: traffic.AppendRegister, Read: traffic.ReadRegister}, a, traffic.NoticeSchema(), mem)
	check(err)
	return append(chain, op, last)
}

// jobRun is a run of a chain over rows.
type jobRun struct {
	t     *testing.T
	mem   memory.Allocator
	cfg   jobConfig
	chain []pipeline.Operator
	task  *pipeline.Task
	said  map[pipeline.Port][]string
	loses func(op int, p pipeline.Piece) bool // pieces that a restart does not find; nil: none
}

func newJobRun(t *testing.T, cfg jobConfig, mem memory.Allocator) *jobRun {
	r := &jobRun{t: t, mem: mem, cfg: cfg, said: map[pipeline.Port][]string{}}
	r.start()
	return r
}

func (r *jobRun) start() {
	r.chain = r.cfg.chain(r.t, r.mem)
	r.task = pipeline.NewTask(r.chain, func(p pipeline.Port, b pipeline.Batch) error {
		for i := range b.NumRows() {
			var cells []string
			for c := range int(b.Rec.NumCols()) {
				if col := b.Rec.Column(c); !col.IsNull(i) {
					cells = append(cells, b.Rec.ColumnName(c)+"="+strings.TrimSpace(col.ValueStr(i)))
				}
			}
			r.said[p] = append(r.said[p], strings.Join(cells, " "))
		}
		return nil
	})
}

func (r *jobRun) step(m pipeline.Message) {
	r.t.Helper()
	if err := r.task.Step(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *jobRun) rows(rows []trafficRow, offset int) {
	b := array.NewRecordBuilder(r.mem, rowSchema())
	defer b.Release()
	for i, row := range rows {
		appendRow(b, row, offset+i)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	r.step(pipeline.Message{Kind: pipeline.RowsMessage, Batch: pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}})
}

func appendRow(b *array.RecordBuilder, row trafficRow, offset int) {
	b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(row.at))
	b.Field(1).(*array.Int32Builder).Append(0)
	b.Field(2).(*array.Int64Builder).Append(int64(offset))
	b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(row.at))
	b.Field(4).(*array.StringBuilder).Append(row.entity)
	b.Field(5).(*array.StringBuilder).Append(row.device)
	b.Field(6).AppendNull()
	b.Field(7).(*array.Int64Builder).Append(row.value)
}

func (r *jobRun) mark(at int64) {
	r.step(pipeline.Message{Kind: pipeline.MarkMessage, Mark: pipeline.Mark{Event: at, Ingest: at, Newest: at}})
}

// restart writes the state and goes on with other operators that have read it.
func (r *jobRun) restart() {
	old := r.chain
	r.start()
	for i, op := range old {
		err := op.(pipeline.Stateful).Snapshot(true, func(p pipeline.Piece) error {
			made := p.Made()
			defer made.Rec.Release()
			if r.loses != nil && r.loses(i, p) {
				return nil
			}
			return r.chain[i].(pipeline.Stateful).Restore(made, func(uint8) bool { return true })
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	closeAll(old)
}

func closeAll(chain []pipeline.Operator) {
	for _, op := range chain {
		op.(interface{ Close() }).Close()
	}
}

// all is what was said, port by port.
func (r *jobRun) all() string {
	var b strings.Builder
	for _, p := range []pipeline.Port{pipeline.Out, pipeline.Side(traffic.SlotsTable), pipeline.Side(traffic.AuditTable), pipeline.Late} {
		fmt.Fprintf(&b, "%v\n", p)
		if p != pipeline.Out { // what is revised comes with the rows that revise it
			slices.Sort(r.said[p])
		}
		for _, l := range r.said[p] {
			fmt.Fprintln(&b, l)
		}
	}
	return b.String()
}

// quarters are volumes of entities, some rows a slot, with drops in the last days.
func quarters(rng *rand.Rand, days int) []trafficRow {
	var rows []trafficRow
	for i, entity := range []string{"AS1", "AS2", "DE", "small"} {
		drop := (days-2)*day + 40 + 5*i
		for s := range days * day {
			v := 400 + 100*math.Sin(2*math.Pi*float64(s%day)/day) + 10*rng.NormFloat64()
			if s >= drop && s < drop+12 {
				v *= 0.1
			}
			if i == 3 {
				v /= 100
			}
			if rng.IntN(200) == 0 {
				continue // missing
			}
			for part := range 2 {
				rows = append(rows, trafficRow{int64(s)*slot + int64(part)*7*minute + rng.Int64N(minute), entity, "d", int64(v)})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b trafficRow) int { return int(a.at/1000 - b.at/1000) })
	return rows
}

// samples are counters: two devices of an entity, and one of another, polled every five minutes.
func samples(rng *rand.Rand, days int) []trafficRow {
	var rows []trafficRow
	for i, entity := range []string{"AS1", "AS1", "AS2"} {
		count := int64(rng.IntN(1000))
		drop := int64((days-2)*day+40) * slot
		for at := rng.Int64N(5 * minute); at < int64(days*day)*slot; at += 5*minute + rng.Int64N(10_000_000) {
			v := 40_000 + 10_000*math.Sin(2*math.Pi*float64(at%(24*hour))/float64(24*hour)) + 500*rng.NormFloat64()
			if at >= drop && at < drop+3*hour && i < 2 {
				v *= 0.05
			}
			count += int64(v)
			if rng.IntN(2000) == 0 {
				count = 0
			}
			if rng.IntN(3000) == 0 {
				at += hour / 2
			}
			rows = append(rows, trafficRow{at, entity, fmt.Sprint("d", i), count})
		}
	}
	slices.SortStableFunc(rows, func(a, b trafficRow) int { return int(a.at/1000 - b.at/1000) })
	return rows
}

// TestMachines: what a job says depends neither on batches and marks nor on restarts.
func TestMachines(t *testing.T) {
	for name, counters := range map[string]bool{"volumes": false, "counters": true} {
		t.Run(name, func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
			defer mem.AssertSize(t, 0)
			rng := rand.New(rand.NewPCG(4, 9))
			const days = 33
			rows := quarters(rng, days)
			if counters {
				rows = samples(rng, days)
			}
			events := slices.IndexFunc(rows, func(r trafficRow) bool { return r.at > int64(days-2)*24*hour })
			cfg := jobConfig{counters: counters, verdicts: []traffic.Verdict{
				{ID: 1, At: int64(days-1) * 24 * hour, Entity: "AS1", Start: int64((days-2)*day+40) * slot, Status: traffic.FalsePositive, By: "ann"}}}
			run := func(cuts *rand.Rand, loses func(int, pipeline.Piece) bool) string {
				r := newJobRun(t, cfg, mem)
				r.loses = loses
				mark := int64(0)
				for from := 0; from < len(rows); {
					to := min(from+2000, len(rows))
					if cuts != nil {
						to = min(from+1+cuts.IntN(3000), max(events, from+1+cuts.IntN(100)), len(rows))
					}
					r.rows(rows[from:to], from)
					if cuts == nil || cuts.IntN(3) > 0 {
						mark = max(mark, rows[to-1].at-2*minute)
						r.mark(mark)
					}
					if cuts != nil && cuts.IntN(8) == 0 {
						r.restart()
					}
					from = to
				}
				r.mark(int64(days)*24*hour + 2*hour)
				closeAll(r.chain)
				return r.all()
			}
			want := run(nil, nil)
			for _, part := range []string{"activity=create", "activity=close", "to_status=FALSE_POSITIVE", "state=open", "state=normal", "state=missing"} {
				if !strings.Contains(want, part) {
					t.Fatalf("nothing says %s: the test proves little\n%s", part, want[:min(len(want), 3000)])
				}
			}
			if strings.Contains(want, "entity=small method") {
				t.Error("a series that is not fit is published")
			}
			for seed := range uint64(2) {
				if got := run(rand.New(rand.NewPCG(seed, 1)), nil); got != want {
					t.Fatalf("seed %d: %s", seed, firstDifference(got, want))
				}
			}
			// A restart that loses what an operator knows is noticed.
			for op := range len(cfg.chain(t, mem)) {
				loses := func(i int, p pipeline.Piece) bool { return i == op && strings.HasPrefix(p.ID, "keys") }
				if run(rand.New(rand.NewPCG(1, 1)), loses) == want {
					t.Errorf("operator %d may lose its state: the test proves nothing", op)
				}
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d:\n%s\nwant\n%s", i, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// TestHistory: with a history the first slot is judged.
func TestHistory(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	h := traffic.History{Entity: "AS1", Values: week(30 * day)}
	for i := range h.Values {
		h.Values[i] *= 10
	}
	for name, c := range map[string]struct {
		history []traffic.History
		from    int64 // of the rows, in slots
		want    string
	}{
		"with one":             {[]traffic.History{h}, 30 * day, "create"},
		"with a gap behind it": {[]traffic.History{h}, 30*day + 8, "create"},
		"too long ago":         {[]traffic.History{h}, 200 * day, ""},
		"without one":          {nil, 30 * day, ""},
		"of another entity":    {[]traffic.History{{Entity: "AS2", Values: h.Values}}, 30 * day, ""},
	} {
		r := newJobRun(t, jobConfig{history: c.history}, mem)
		var rows []trafficRow
		for i := range int64(8) {
			rows = append(rows, trafficRow{at: (c.from+i)*slot + 1, entity: "AS1", value: 10})
		}
		r.rows(rows, 0)
		r.mark((c.from + 12) * slot)
		if got := strings.Join(r.said[pipeline.Out], "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		closeAll(r.chain)
	}
}

// TestVerdictsFirst: in a replay verdicts are there before what they are about. Ten mornings with
// little traffic are three events when each was a false positive (TestJudge), and ten when nobody
// says so.
func TestVerdictsFirst(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	const from, mornings = 31*day + 24, 10
	var rows []trafficRow
	var verdicts []traffic.Verdict
	for s, v := range week(45 * day) {
		if m := (s - from) / day; s >= from && m < mornings && (s-from)%day < 24 {
			v *= 0.3
		}
		rows = append(rows, trafficRow{at: int64(s) * slot, entity: "AS1", value: int64(100 * v)})
	}
	for m := range mornings {
		start := int64(from+m*day) * slot
		verdicts = append(verdicts, traffic.Verdict{ID: uint64(m + 1), Entity: "AS1", Start: start, HasEnd: m%2 == 0, End: start + 6*hour, Status: traffic.FalsePositive})
	}
	for want, verdicts := range map[int][]traffic.Verdict{10: nil, 3: verdicts} {
		r := newJobRun(t, jobConfig{verdicts: verdicts}, mem)
		r.rows(rows, 0)
		r.mark(46 * 24 * hour)
		opened := strings.Count(strings.Join(r.said[pipeline.Side(traffic.AuditTable)], "\n"), "reason=opened")
		if opened != want {
			t.Errorf("%d verdicts: %d events, want %d", len(verdicts), opened, want)
		}
		closeAll(r.chain)
	}
}

// TestAbsentIsZero: an entity of which nothing comes any more has no traffic, if the job says so.
func TestAbsentIsZero(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, zero := range []bool{false, true} {
		r := newJobRun(t, jobConfig{zero: zero}, mem)
		var rows []trafficRow
		for s := range int64(30 * day) {
			rows = append(rows, trafficRow{at: s * slot, entity: "AS1", value: 1000 + s%day})
		}
		r.rows(rows, 0)
		r.mark(31 * 24 * hour)
		if found := len(r.said[pipeline.Out]) > 0; found != zero {
			t.Errorf("zero %t: %v", zero, r.said[pipeline.Out])
		}
		// Nothing is followed for ever.
		r.mark(300 * 24 * hour)
		for i, op := range r.chain[:2] {
			if n := op.(interface{ Open() int }).Open(); n != 0 {
				t.Errorf("zero %t: operator %d remembers %d series", zero, i, n)
			}
		}
		closeAll(r.chain)
	}
}

// TestRevised: what a delta adds to slots that are final is told apart.
func TestRevised(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newJobRun(t, jobConfig{counters: true}, mem)
	r.rows([]trafficRow{{0, "AS1", "d", 0}, {15 * minute, "AS1", "d", 900}, {55 * minute, "AS1", "d", 3300}}, 0)
	r.mark(2 * hour)
	want := []string{"value=900 coverage=1 state=warming", "state=missing", "value=900 coverage=1 state=revised"}
	got := strings.Join(r.said[pipeline.Side(traffic.SlotsTable)], "\n")
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s\nhas no %s", got, w)
		}
	}
	closeAll(r.chain)
}

func FuzzReadSeries(f *testing.F) {
	cfg := traffic.DefaultDetectorConfig()
	d, err := traffic.NewDetector(cfg, 0)
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range week(30 * day) {
		d.Add(v)
	}
	f.Add(traffic.AppendSeries(nil, &traffic.SeriesState{Entity: "AS1", Signal: "http", Detector: d, Applied: []uint64{7}, HasTold: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again traffic.SeriesState
		if traffic.ReadSeries(cfg, b, &s) != nil {
			return
		}
		if err := traffic.ReadSeries(cfg, traffic.AppendSeries(nil, &s), &again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}

func FuzzReadVolume(f *testing.F) {
	f.Add(traffic.AppendVolume(nil, &traffic.VolumeState{Entity: "AS1", Signal: "http"}))
	f.Add([]byte("\x01\x01a\x01b\x02\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again traffic.VolumeState
		if traffic.ReadVolume(b, &s) != nil {
			return
		}
		out := traffic.AppendVolume(nil, &s)
		if err := traffic.ReadVolume(out, &again); err != nil || !bytes.Equal(traffic.AppendVolume(nil, &again), out) {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}

func FuzzReadCounter(f *testing.F) {
	var s traffic.CounterState
	f.Add(traffic.AppendCounter(nil, &s))
	s = traffic.CounterState{Entity: "AS1", Counter: traffic.Counter{Seen: true, Base: 5}, Slots: traffic.Slots{Open: []traffic.Slot{{Start: slot, Bytes: 4.5, Covered: 7}}}}
	f.Add(traffic.AppendCounter(nil, &s))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again traffic.CounterState
		if traffic.ReadCounter(b, &s) != nil {
			return
		}
		out := traffic.AppendCounter(nil, &s)
		if err := traffic.ReadCounter(out, &again); err != nil || !bytes.Equal(traffic.AppendCounter(nil, &again), out) {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}

// BenchmarkMachines is the whole chain from volumes to findings, a slot of one of 200 series a time.
func BenchmarkMachines(b *testing.B) {
	const series = 200
	rng := rand.New(rand.NewPCG(1, 1))
	chain := jobConfig{}.chain(b, memory.DefaultAllocator)
	defer closeAll(chain)
	task := pipeline.NewTask(chain, func(pipeline.Port, pipeline.Batch) error { return nil })
	slotRows := func(s int) {
		rows := array.NewRecordBuilder(memory.DefaultAllocator, rowSchema())
		defer rows.Release()
		for i := range series {
			appendRow(rows, trafficRow{at: int64(s)*slot + int64(i), entity: fmt.Sprint("AS", i), value: 1000 + int64(s%day) + rng.Int64N(50)}, s*series+i)
		}
		rec := rows.NewRecordBatch()
		defer rec.Release()
		for _, m := range []pipeline.Message{
			{Kind: pipeline.RowsMessage, Batch: pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}},
			{Kind: pipeline.MarkMessage, Mark: pipeline.Mark{Event: int64(s) * slot, Ingest: pipeline.MinTicks, Newest: int64(s) * slot}},
		} {
			if err := task.Step(m); err != nil {
				b.Fatal(err)
			}
		}
	}
	s := 0
	for ; s < 30*day; s++ {
		slotRows(s)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%series == 0 { // a slot of all of them
			slotRows(s)
			s++
		}
	}
}

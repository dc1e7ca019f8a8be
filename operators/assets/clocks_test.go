package assets_test

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
	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline"
)

// sent is a record of a gateway. Payloads are its offset as text.
type sent struct {
	at, ingest         int64
	gateway            string // "": null
	buffered, replaced bool
}

func clockRows() *arrow.Schema {
	yes := arrow.FixedWidthTypes.Boolean
	return arrow.NewSchema(append(pipeline.RowFields(), arrow.Field{Name: "gateway_id", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "buffered", Type: yes, Nullable: true}, arrow.Field{Name: "ts_replaced", Type: yes}), nil)
}

// clockJob is a front whose clock tells what it makes of every row.
type clockJob struct {
	t     *testing.T
	mem   memory.Allocator
	cfg   assets.ClocksConfig
	front *pipeline.Front
	clock *assets.Clocks
	rows  []string // of all splits, as they came
	seen  assets.ClockCounts
}

func (j *clockJob) start() {
	j.begin()
	for i := range 3 {
		j.front.Announce(pipeline.Split{Topic: "t", Partition: int32(i)}, pipeline.Position{})
	}
}

// begin makes a front that knows no split.
func (j *clockJob) begin() {
	clock, err := assets.NewClocks(j.cfg, clockRows(), j.mem)
	if err != nil {
		j.t.Fatal(err)
	}
	j.clock = clock
	clock.Seen = func(n assets.ClockCounts) {
		for q, rows := range n.Records {
			j.seen.Records[q] += rows
		}
		j.seen.Bursts += n.Bursts
		j.seen.Forgotten += n.Forgotten
		j.seen.Known, j.seen.Skewed = n.Known, n.Skewed
	}
	keyer, err := pipeline.NewKeyer(clock.Schema(), []string{"gateway_id"}, 1)
	if err != nil {
		j.t.Fatal(err)
	}
	j.front = pipeline.NewFront(pipeline.FrontConfig{QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer, Clock: clock,
		Dead: func(b pipeline.Batch) error { return j.take("dead", b) }},
		func(_ int, m pipeline.Message) error {
			if m.Kind == pipeline.RowsMessage {
				return j.take("row", m.Batch)
			}
			return nil
		})
}

// take notes rows: with the mark before each if it is behind it, which tells a mark that moved too soon.
func (j *clockJob) take(what string, b pipeline.Batch) error {
	for r := range int(b.Rec.NumRows()) {
		text := what
		for i, c := range b.Rec.Columns() {
			text += " " + b.Rec.ColumnName(i) + "=" + c.ValueStr(r)
		}
		if b.Behind != nil && pipeline.TicksOf(b.Rec.Column(pipeline.ColTime).(*array.Timestamp))[r] <= b.Behind[r] {
			text += fmt.Sprint(" behind ", b.Behind[r])
		}
		j.rows = append(j.rows, text)
	}
	return nil
}

// send gives a run of records of a split to the front, the first of which has an offset.
func (j *clockJob) send(split int32, offset int64, records []sent) {
	j.t.Helper()
	b := array.NewRecordBuilder(j.mem, clockRows())
	defer b.Release()
	w := &pipeline.Wire{Split: split, Next: pipeline.Position{Offset: offset + int64(len(records))}}
	for i, r := range records {
		at := offset + int64(i)
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
		b.Field(1).(*array.Int32Builder).Append(split)
		b.Field(2).(*array.Int64Builder).Append(at)
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(r.ingest))
		if r.gateway == "" {
			b.Field(4).AppendNull()
		} else {
			b.Field(4).(*array.StringBuilder).Append(r.gateway)
		}
		b.Field(5).(*array.BooleanBuilder).Append(r.buffered)
		b.Field(6).(*array.BooleanBuilder).Append(r.replaced)
		text := fmt.Sprint(at)
		w.Offset, w.Ingest = append(w.Offset, at), append(w.Ingest, r.ingest)
		w.Values = append(w.Values, pipeline.Span{At: int32(len(w.Data)), Len: int32(len(text))})
		w.Data = append(w.Data, text...)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	if err := j.front.Rows(w, &pipeline.Batch{Rec: rec, Split: split, Passed: pipeline.MinTicks}, 0); err != nil {
		j.t.Fatal(err)
	}
}

// restart begins anew with what a checkpoint has; with forget without the clocks.
func (j *clockJob) restart(forget bool) {
	j.t.Helper()
	splits, merged := j.front.Cut(), j.front.Merged()
	snapshot := j.clock.Snapshot()
	defer snapshot.Release()
	j.begin()
	if err := j.front.Restore(&pipeline.Checkpoint{Splits: splits, Merged: merged, Newest: pipeline.MinTicks}); err != nil {
		j.t.Fatal(err)
	}
	if forget {
		return
	}
	if err := j.clock.Restore(snapshot); err != nil {
		j.t.Fatal(err)
	}
}

const clockStart = 1_772_366_400 * second

// TestClocks: what becomes of single records.
func TestClocks(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	const minute = 60 * second
	ahead := func(d int64) sent { return sent{at: clockStart + d, ingest: clockStart, gateway: "g"} }
	lost := sent{at: clockStart, ingest: clockStart, gateway: "g", replaced: true}
	kept := sent{at: clockStart - 30*minute, ingest: clockStart, gateway: "g", buffered: true}
	for name, c := range map[string]struct {
		change  func(*assets.ClocksConfig)
		records []sent
		want    string // of the last one: minutes from clockStart, quality, whether it has an original
	}{
		"a right clock":                  {nil, []sent{ahead(0)}, "0  (null)"},
		"ahead":                          {nil, []sent{ahead(10 * minute)}, "0 corrected 10"},
		"ahead by the smallest delay":    {nil, []sent{ahead(10 * minute), ahead(13 * minute)}, "0 corrected 13"},
		"ahead but for its way":          {nil, []sent{ahead(10 * minute), ahead(9 * minute)}, "-1 corrected 9"},
		"two minutes are allowed":        {nil, []sent{ahead(2 * minute)}, "2  (null)"},
		"behind":                         {nil, []sent{ahead(-3 * minute)}, "-3 skewed (null)"},
		"kept back by a clock ahead":     {nil, []sent{ahead(10 * minute), kept}, "-40 corrected -30"},
		"kept back by a right one":       {nil, []sent{ahead(0), kept}, "-30  (null)"},
		"nothing known of it":            {nil, []sent{kept}, "-30  (null)"},
		"no time":                        {nil, []sent{ahead(10 * minute), lost}, "0 replaced (null)"},
		"no gateway":                     {nil, []sent{{at: clockStart, ingest: clockStart}}, "0  (null)"},
		"no gateway, ahead":              {nil, []sent{{at: clockStart + 3*minute, ingest: clockStart}}, "dead future"},
		"no broker timestamp":            {nil, []sent{{at: clockStart, ingest: -1, gateway: "g"}}, "0  (null)"},
		"one record of many is ahead":    {nil, append(slices.Repeat([]sent{ahead(0)}, 30), ahead(10*minute)), "dead future"},
		"that is clamped":                {func(c *assets.ClocksConfig) { c.Future = operators.FutureClamp }, append(slices.Repeat([]sent{ahead(0)}, 30), ahead(10*minute)), "0 replaced 10"},
		"or kept":                        {func(c *assets.ClocksConfig) { c.Future = operators.FutureKeep }, append(slices.Repeat([]sent{ahead(0)}, 30), ahead(10*minute)), "10  (null)"},
		"not to be corrected":            {func(c *assets.ClocksConfig) { c.Correct = false }, []sent{ahead(10 * minute)}, "dead future"},
		"not to be corrected, and kept":  {func(c *assets.ClocksConfig) { c.Correct, c.Future = false, operators.FutureKeep }, []sent{ahead(10 * minute)}, "10 skewed (null)"},
		"corrected out of all centuries": {nil, []sent{ahead(200 * 365 * 1440 * minute), kept}, "dead time_range"},
	} {
		j := &clockJob{t: t, mem: mem, cfg: assets.DefaultClocksConfig()}
		if c.change != nil {
			c.change(&j.cfg)
		}
		j.start()
		j.send(0, 0, c.records)
		if got := described(t, j.rows); got != c.want {
			t.Errorf("%s: %q, want %q\n%s", name, got, c.want, strings.Join(j.rows, "\n"))
		}
	}
}

// described says what became of the last record of all.
func described(t *testing.T, rows []string) string {
	last, field := "", func(row, name string) string {
		_, rest, _ := strings.Cut(row, " "+name+"=")
		for _, cut := range []string{" _split=", " time_quality=", " burst=", " error=", " _offset=", " _ingest="} {
			rest, _, _ = strings.Cut(rest, cut)
		}
		return rest
	}
	newest := -1
	for _, row := range rows {
		var offset int
		if _, err := fmt.Sscan(field(row, "_offset"), &offset); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		if offset > newest {
			newest, last = offset, row
		}
	}
	if strings.HasPrefix(last, "dead") {
		return "dead " + field(last, "reason")
	}
	minutes := func(text string) string {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return text
		}
		return fmt.Sprint((at.UnixMicro() - clockStart) / 60 / second)
	}
	return minutes(field(last, "time")) + " " + strings.ReplaceAll(field(last, "time_quality"), "(null)", "") + " " + minutes(field(last, "ts_original"))
}

// gatewaysSent are the records of three splits: right clocks and wrong ones, one that is set, bursts.
func gatewaysSent(rng *rand.Rand) [3][]sent {
	var out [3][]sent
	offsets := [...]int64{0, 0, 400, -200, 250, 90, 0}
	ingest := int64(clockStart)
	for len(out[0])+len(out[1])+len(out[2]) < 1500 {
		ingest += rng.Int64N(4 * second)
		g := rng.IntN(len(offsets))
		split := rng.IntN(3)
		if rng.IntN(400) == 0 {
			offsets[g] = rng.Int64N(1000) - 500
		}
		r := sent{at: ingest + offsets[g]*second - rng.Int64N(20*second), ingest: ingest, gateway: fmt.Sprint("g", g)}
		switch rng.IntN(60) {
		case 0:
			for range 15 + rng.IntN(30) {
				r.ingest, r.at = r.ingest+rng.Int64N(second/5), r.at-rng.Int64N(90*second)
				r.buffered = rng.IntN(3) > 0
				out[split] = append(out[split], r)
			}
			ingest = r.ingest
			continue
		case 1:
			r.at += 3600 * second
		case 2:
			r.replaced = true
		case 3:
			r.gateway = ""
		}
		out[split] = append(out[split], r)
	}
	return out
}

// TestClocksOneAnswer: how records are cut into batches, how splits interleave and where the job begins
// again decides nothing. The control is a job that forgets its clocks.
func TestClocksOneAnswer(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	noticed := 0
	const seeds = 30
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 3))
		records := gatewaysSent(rng)
		run := func(cuts, forget bool) *clockJob {
			j := &clockJob{t: t, mem: mem, cfg: assets.DefaultClocksConfig()}
			j.cfg.Gateways = 6 // one fewer than there are
			j.start()
			at := [3]int{}
			for at != [3]int{len(records[0]), len(records[1]), len(records[2])} {
				s := rng.IntN(3)
				if rest := len(records[s]) - at[s]; rest > 0 {
					n := rest
					if cuts {
						n = 1 + rng.IntN(min(rest, 200))
					}
					j.send(int32(s), int64(at[s]), records[s][at[s]:at[s]+n])
					at[s] += n
				}
				if cuts && rng.IntN(8) == 0 {
					j.restart(forget)
				}
			}
			slices.Sort(j.rows)
			return j
		}
		want, got := run(false, false), run(true, false)
		if !slices.Equal(got.rows, want.rows) {
			t.Fatalf("seed %d: %d rows, want %d, and the same", seed, len(got.rows), len(want.rows))
		}
		if got.seen.Records != want.seen.Records || got.seen.Bursts != want.seen.Bursts || got.seen.Forgotten != want.seen.Forgotten {
			t.Fatalf("seed %d: counted %+v, want %+v", seed, got.seen, want.seen)
		}
		if n := want.seen; n.Records[assets.TimeCorrected] < 50 || n.Records[assets.TimeSkewed] < 20 || n.Bursts == 0 || n.Forgotten == 0 {
			t.Fatalf("seed %d: %+v proves little", seed, n)
		}
		if !slices.Equal(run(true, true).rows, want.rows) {
			noticed++
		}
	}
	if noticed < seeds*9/10 { // some begin again where nothing is known yet
		t.Errorf("a job that forgot its clocks was noticed in %d of %d runs", noticed, seeds)
	}
}

// TestClocksState: what a checkpoint says of a gateway, and what is no state of one.
func TestClocksState(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	j := &clockJob{t: t, mem: mem, cfg: assets.DefaultClocksConfig()}
	j.start()
	var records []sent
	for i := range int64(100) {
		records = append(records, sent{at: clockStart + i*second + 600*second, ingest: clockStart + i*second, gateway: "g"})
	}
	for i := range int64(25) {
		records = append(records, sent{at: clockStart - i*60*second, ingest: clockStart + 200*second, gateway: "g", buffered: true})
	}
	j.send(2, 0, records)
	rec := j.clock.Snapshot()
	defer rec.Release()
	want := "2 g 124 2026-03-01T12:03:20Z 125 25 -600000000 true 125 -600000000 -600000000 1 25 25"
	var got []string
	for _, c := range rec.Columns()[:rec.NumCols()-1] {
		got = append(got, c.ValueStr(0))
	}
	if text := strings.Join(got, " "); rec.NumRows() != 1 || text != want {
		t.Errorf("%d gateways, %s\nwant %s", rec.NumRows(), text, want)
	}
	state := rec.Column(int(rec.NumCols()) - 1).(*array.Binary).Value(0)
	for n := range len(state) {
		if err := j.restoreWith(rec, state[:n]); err == nil {
			t.Fatalf("%d of %d bytes are read as if they were all", n, len(state))
		}
	}
	for text, b := range map[string][]byte{"1 bytes too many": append(slices.Clone(state), 0), "version 9, want 1": {9}} {
		if err := j.restoreWith(rec, b); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
	j.cfg.Skew.Records = 8 // the newest of them
	j.start()
	if err := j.clock.Restore(rec); err != nil {
		t.Fatal(err)
	}
	j.rows = nil
	j.send(2, 125, []sent{{at: clockStart + 900*second, ingest: clockStart + 300*second, gateway: "g"}})
	if got := described(t, j.rows); got != "5 corrected 15" {
		t.Errorf("with fewer records: %s", got)
	}
}

// restoreWith restores a snapshot of one gateway with another state.
func (j *clockJob) restoreWith(rec arrow.RecordBatch, state []byte) error {
	b := array.NewBinaryBuilder(j.mem, arrow.BinaryTypes.Binary)
	defer b.Release()
	b.Append(state)
	column := b.NewArray()
	defer column.Release()
	other := array.NewRecordBatch(rec.Schema(), append(slices.Clone(rec.Columns()[:rec.NumCols()-1]), column), 1)
	defer other.Release()
	return j.clock.Restore(other)
}

package operators_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// visits is a machine that counts the rows of a visit: one that is silent for 10 s is over, and
// a key of which nothing is heard for 30 s more is forgotten.
type visits struct {
	rows *array.RecordBuilder
}

type visit struct{ n, last, said int64 }

const (
	visitGap    = 10_000_000
	visitForget = 25_000_000
)

func visitSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "key", Type: arrow.BinaryTypes.String},
		{Name: "time", Type: arrow.PrimitiveTypes.Int64},
		{Name: "said", Type: arrow.BinaryTypes.String},
	}, nil)
}

func newVisits(mem memory.Allocator) *visits {
	return &visits{array.NewRecordBuilder(mem, visitSchema())}
}

func (m *visits) say(key string, at int64, format string, args ...any) {
	m.rows.Field(0).(*array.StringBuilder).Append(key)
	m.rows.Field(1).(*array.Int64Builder).Append(at)
	m.rows.Field(2).(*array.StringBuilder).Append(fmt.Sprintf(format, args...))
}

func (m *visits) Row(key string, s *visit, rec arrow.RecordBatch, r int) int64 {
	at := pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))[r]
	m.over(key, s, at)
	if s.n++; s.n == 1 {
		m.say(key, at, "begin %d", rec.Column(pipeline.ColOffset).(*array.Int64).Value(r))
	}
	s.last = at
	return at + visitGap
}

func (m *visits) over(key string, s *visit, at int64) {
	if s.n > 0 && s.last+visitGap <= at {
		s.said++
		m.say(key, s.last+visitGap, "end of %d, number %d", s.n, s.said)
		s.n = 0
	}
	if s.said > 0 && s.last+visitForget <= at {
		*s = visit{}
	}
}

func (m *visits) Advance(key string, s *visit, at int64) int64 {
	m.over(key, s, at)
	switch {
	case *s == visit{}:
		return operators.Forget
	case s.n > 0:
		return s.last + visitGap
	}
	return s.last + visitForget
}

func (m *visits) Settled(int64) {}

func (m *visits) Flush(out pipeline.Emitter) error {
	rec := m.rows.NewRecordBatch()
	defer rec.Release()
	if rec.NumRows() == 0 {
		return nil
	}
	return out.Emit(pipeline.Out, pipeline.Result(rec))
}

func appendVisit(dst []byte, s *visit) []byte {
	for _, v := range [...]int64{s.n, s.last, s.said} {
		dst = binary.AppendVarint(dst, v)
	}
	return dst
}

func readVisit(b []byte, s *visit) error {
	for _, v := range [...]*int64{&s.n, &s.last, &s.said} {
		x, n := binary.Varint(b)
		if n <= 0 {
			return errors.New("a visit is cut off")
		}
		*v, b = x, b[n:]
	}
	return nil
}

// visitRow is a row of a random job.
type visitRow struct {
	split  int32
	offset int64
	at     int64
	key    string
}

// randomVisits makes rows of some splits, which come behind the newest by up to twice the bound.
func randomVisits(rng *rand.Rand, bound int64) [][]visitRow {
	splits := make([][]visitRow, 1+rng.IntN(3))
	for i := range splits {
		now := rng.Int64N(20_000_000)
		for n := range 200 {
			now += rng.Int64N(4_000_000)
			at := now - rng.Int64N(2*bound)*int64(rng.IntN(2))
			splits[i] = append(splits[i], visitRow{int32(i), int64(n), at / 1000 * 1000, fmt.Sprintf("k%d", rng.IntN(8+n%64))})
		}
	}
	return splits
}

// visitOracle says what comes of rows: those in time, by key and in order, one at a time.
func visitOracle(splits [][]visitRow, bound int64) (said, late []string) {
	var rows []visitRow
	newest := pipeline.MinTicks
	for _, s := range splits {
		mark := pipeline.MinTicks
		for _, r := range s {
			if r.at <= mark {
				late = append(late, fmt.Sprint(r.split, " ", r.offset))
				continue
			}
			mark = max(mark, r.at-bound-1)
			rows = append(rows, r)
		}
		newest = max(newest, mark)
	}
	slices.SortFunc(rows, func(a, b visitRow) int {
		return int(max(-1, min(1, 4*sign(a.at-b.at)+2*sign(int64(a.split-b.split))+sign(a.offset-b.offset))))
	})
	state := map[string]*visit{}
	over := func(key string, v *visit, at int64) {
		if v.n > 0 && v.last+visitGap <= at {
			v.said++
			said = append(said, fmt.Sprint(key, " ", v.last+visitGap, " end of ", v.n, ", number ", v.said))
			v.n = 0
		}
		if v.said > 0 && v.last+visitForget <= at {
			*v = visit{}
		}
	}
	for _, r := range rows {
		v := state[r.key]
		if v == nil {
			v = &visit{}
			state[r.key] = v
		}
		over(r.key, v, r.at)
		if v.n == 0 {
			said = append(said, fmt.Sprint(r.key, " ", r.at, " begin ", r.offset))
		}
		v.n, v.last = v.n+1, r.at
	}
	for key, v := range state {
		over(key, v, newest)
	}
	slices.Sort(said)
	slices.Sort(late)
	return said, late
}

func sign(v int64) int64 { return max(-1, min(1, v)) }

// visitJob drives a Keyed operator of several shards as the runtime does.
type visitJob struct {
	pipelinetest.Shards
	t          *testing.T
	mem        memory.Allocator
	rng        *rand.Rand
	ops        []*operators.Keyed[visit]
	machines   []*visits
	said, late []string
	aggregated int64
}

func visitRows() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(), arrow.Field{Name: "key", Type: arrow.BinaryTypes.String}), nil)
}

func (j *visitJob) start(shards int) {
	keyer, err := pipeline.NewKeyer(visitRows(), []string{"key"}, 7)
	if err != nil {
		j.t.Fatal(err)
	}
	j.T, j.Keyer, j.Out = j.t, keyer, j
	j.ops, j.machines = nil, nil
	var ops []pipeline.Stateful
	for range shards {
		m := newVisits(j.mem)
		k, err := operators.NewKeyed(operators.KeyedConfig[visit]{Key: []string{"key"}, Seed: 7, Append: appendVisit, Read: readVisit}, m, visitRows(), j.mem)
		if err != nil {
			j.t.Fatal(err)
		}
		j.ops, j.machines, ops = append(j.ops, k), append(j.machines, m), append(ops, k)
	}
	j.Start(ops...)
}

// Emit implements pipeline.Emitter.
func (j *visitJob) Emit(p pipeline.Port, b pipeline.Batch) error {
	for i := range int(b.Rec.NumRows()) {
		switch p {
		case pipeline.Out:
			j.said = append(j.said, fmt.Sprint(b.Rec.Column(0).ValueStr(i), " ", b.Rec.Column(1).ValueStr(i), " ", b.Rec.Column(2).ValueStr(i)))
		case pipeline.Late:
			j.late = append(j.late, fmt.Sprint(b.Rec.Column(pipeline.ColSplit).ValueStr(i), " ", b.Rec.Column(pipeline.ColOffset).ValueStr(i)))
		default:
			return fmt.Errorf("a row on port %s", p)
		}
	}
	return nil
}

// Count implements pipeline.Emitter.
func (j *visitJob) Count(f pipeline.Fate, _ int32, rows int64) {
	if f != pipeline.Aggregated {
		j.t.Errorf("%d rows are %s", rows, f)
	}
	j.aggregated += rows
}

func appendVisitRow(b *array.RecordBuilder, r visitRow) {
	b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
	b.Field(1).(*array.Int32Builder).Append(r.split)
	b.Field(2).(*array.Int64Builder).Append(r.offset)
	b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(r.at))
	b.Field(4).(*array.StringBuilder).Append(r.key)
}

// process deals a run of rows of one split to the shards.
func (j *visitJob) process(marks *pipeline.Marks, rows []visitRow) {
	b := array.NewRecordBuilder(j.mem, visitRows())
	defer b.Release()
	for _, r := range rows {
		appendVisitRow(b, r)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	j.Rows(marks, rows[0].split, rec)
}

// restart goes on from the last checkpoint with another number of shards.
func (j *visitJob) restart() {
	j.stop()
	j.start(1 + j.rng.IntN(3))
	j.Restore(j.rng)
}

// stop lets go of what the operators hold, as the end of the process does.
func (j *visitJob) stop() {
	for i, op := range j.ops {
		op.Close()
		j.machines[i].rows.Release()
	}
}

// TestKeyed: what a machine makes of rows depends on the rows alone, not on batches, marks,
// shards and restarts.
func TestKeyed(t *testing.T) {
	const bound = 15_000_000
	var ends, lates, restarts int
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			rng := rand.New(rand.NewPCG(seed, 1))
			splits := randomVisits(rng, bound)
			wantSaid, wantLate := visitOracle(splits, bound)
			j := &visitJob{t: t, mem: mem, rng: rng}
			j.start(1)
			marks := pipeline.NewMarks(bound, pipeline.MaxTicks)
			left, ended := len(splits), make([]bool, len(splits))
			for range splits {
				marks.Add()
			}
			for left > 0 {
				s := rng.IntN(len(splits))
				switch rest := splits[s]; {
				case len(rest) > 0:
					n := 1 + rng.IntN(min(len(rest), 1<<rng.IntN(6)))
					j.process(marks, rest[:n])
					splits[s] = rest[n:]
				case !ended[s]:
					ended[s] = true
					marks.End(int32(s))
					left--
				}
				if rng.IntN(3) == 0 || left == 0 {
					j.Advance(marks)
				}
				switch rng.IntN(10) {
				case 0, 1, 2:
					j.Checkpoint(rng.IntN(20) == 0)
				case 3:
					if j.Pieces() > 0 || rng.IntN(2) == 0 {
						j.Checkpoint(false)
						j.restart()
						restarts++
					}
				}
			}
			slices.Sort(j.said)
			slices.Sort(j.late)
			if !slices.Equal(j.said, wantSaid) {
				t.Errorf("said, and was not to be said:\n%s\nnot said:\n%s", strings.Join(without(j.said, wantSaid), "\n"), strings.Join(without(wantSaid, j.said), "\n"))
			}
			if !slices.Equal(j.late, wantLate) {
				t.Errorf("late %v, want %v", j.late, wantLate)
			}
			if want := int64(200*len(splits) - len(wantLate)); j.aggregated != want {
				t.Errorf("%d rows aggregated, want %d", j.aggregated, want)
			}
			ends, lates = ends+len(wantSaid), lates+len(wantLate)
			j.Drop()
			j.stop()
		})
	}
	if ends < 1000 || lates < 100 || restarts < 60 {
		t.Errorf("%d events, %d late rows, %d restarts: the test has become too easy", ends, lates, restarts)
	}
}

// TestKeyedForgotten: a key that is forgotten stays so after a restart, though a piece of an
// older checkpoint still has it.
func TestKeyedForgotten(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	j := &visitJob{t: t, mem: mem, rng: rand.New(rand.NewPCG(1, 1))}
	j.start(1)
	marks := pipeline.NewMarks(0, pipeline.MaxTicks)
	marks.Add()
	const second = 1_000_000
	offset := int64(0)
	row := func(at int64, key string) {
		j.process(marks, []visitRow{{0, offset, at, key}})
		offset++
	}
	to := func(at int64) {
		marks.Arrive(0, pipeline.Mark{Event: at - 1, Ingest: at - 1}, at)
		j.Advance(marks)
	}
	open := func(want int) {
		t.Helper()
		n := 0
		for _, op := range j.ops {
			n += op.Open()
		}
		if n != want {
			t.Errorf("%d keys, want %d", n, want)
		}
	}
	row(1*second, "x") // its visit ends at 11 s, it is forgotten at 26 s
	to(18 * second)
	for i := range 100 {
		row(18*second+int64(i), fmt.Sprint("k", i))
	}
	to(20 * second)
	j.Checkpoint(true)
	to(27 * second)
	open(100)
	j.Checkpoint(false)
	if j.Pieces() != 2 {
		t.Errorf("%d pieces, want that of all keys and one of the change", j.Pieces())
	}
	j.restart()
	open(100)
	row(27*second, "x")
	to(28 * second)
	open(101)
	j.Checkpoint(false)
	for i := range 100 {
		row(28*second+int64(i), fmt.Sprint("k", i))
	}
	to(53 * second) // x again
	open(100)
	row(53*second, "x") // and again, between two checkpoints
	to(79 * second)
	open(0)
	j.Checkpoint(false)
	j.restart()
	open(0)
	if last := j.said[len(j.said)-1]; last != "x 63000000 end of 1, number 1" {
		t.Errorf("said last: %s", last)
	}
	j.Drop()
	j.stop()
}

// meters is a machine that is due soon after a row, and a day after the last one, when a key is
// forgotten.
type meters struct{ advanced []string }

type meter struct {
	last  int64
	ready bool // what comes soon after a row has come
}

const (
	meterSoon   = 30_000_000
	meterForget = 24 * 3600 * 1_000_000
)

func (m *meters) Row(_ string, s *meter, rec arrow.RecordBatch, r int) int64 {
	*s = meter{last: pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))[r]}
	return s.last + meterSoon
}

func (m *meters) Advance(key string, s *meter, _ int64) int64 {
	if s.ready {
		m.advanced = append(m.advanced, fmt.Sprint(key, " forgotten"))
		return operators.Forget
	}
	m.advanced = append(m.advanced, fmt.Sprint(key, " ", s.last))
	s.ready = true
	return s.last + meterForget
}

func (m *meters) Settled(int64) {}

func (m *meters) Flush(pipeline.Emitter) error { return nil }

// TestKeyedDues: keys that are due soon and late in turns take no more places in the queue with
// time, and none is forgotten there.
func TestKeyedDues(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	m := &meters{}
	k, err := operators.NewKeyed(operators.KeyedConfig[meter]{Key: []string{"key"}, Seed: 7}, m, visitRows(), mem)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	to := func(at int64) {
		t.Helper()
		if err := k.Advance(pipeline.Mark{Event: at - 1, Ingest: at - 1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	const minute, keys, rounds = 60_000_000, 5, 1000
	var want []string
	most, bytes := 0, int64(0)
	for i := range int64(rounds) {
		at := (i + 1) * minute
		for key := range int64(keys) {
			takeVisit(t, mem, k, visitRow{0, i*keys + key, at + key, fmt.Sprint("k", key)})
			want = append(want, fmt.Sprint("k", key, " ", at+key))
		}
		to(at + meterSoon + 2_000_000)
		most, bytes = max(most, k.Dues()), max(bytes, k.Bytes())
	}
	if limit := 2*keys + 64; most <= keys || most > limit {
		t.Errorf("the queue of %d keys had %d places, want more than keys and at most %d", keys, most, limit)
	}
	if least := int64(most) * 16; bytes < least || bytes > 8192 {
		t.Errorf("%d bytes of state, want from %d to 8192", bytes, least)
	}
	to((rounds+2)*minute + meterForget)
	for key := range keys {
		want = append(want, fmt.Sprint("k", key, " forgotten"))
	}
	if !slices.Equal(m.advanced, want) {
		t.Errorf("%d calls of Advance, want %d, or they are others", len(m.advanced), len(want))
	}
	if k.Open() != 0 {
		t.Errorf("%d keys, want none", k.Open())
	}
}

// TestKeyedColumns: rows that wait are taken back by a version whose rows have more columns, where these
// may be null, and by no other.
func TestKeyedColumns(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	with := func(fields ...arrow.Field) *operators.Keyed[meter] {
		rows := arrow.NewSchema(append(visitRows().Fields(), fields...), nil)
		k, err := operators.NewKeyed(operators.KeyedConfig[meter]{Key: []string{"key"}, Seed: 7}, &meters{}, rows, mem)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	var piece pipeline.Piece // of the rows that wait
	keep := func(p pipeline.Piece) error {
		if p.Rec.Schema().HasField("_offset") {
			p.Rec.Retain()
			piece = p
		}
		return nil
	}
	old := with()
	defer old.Close()
	takeVisit(t, mem, old, visitRow{key: "a", at: 5})
	if err := old.Snapshot(true, keep); err != nil {
		t.Fatal(err)
	}
	defer piece.Rec.Release()
	for _, c := range []struct {
		more arrow.Field
		err  string
	}{
		{arrow.Field{Name: "more", Type: arrow.BinaryTypes.String, Nullable: true}, ""},
		{arrow.Field{Name: "more", Type: arrow.BinaryTypes.String}, "its columns are _group time _split _offset _ingest key, the rows of this job have _group time _split _offset _ingest key more"},
	} {
		k := with(c.more)
		err := k.Restore(piece, func(uint8) bool { return true })
		if c.err == "" && (err != nil || k.Held() != 1) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%v: %d rows, %v; want %q", c.more, k.Held(), err, c.err)
		}
		k.Close()
	}
}

// takeVisit gives a row to an operator.
func takeVisit(t *testing.T, mem memory.Allocator, op pipeline.Operator, r visitRow) {
	t.Helper()
	b := array.NewRecordBuilder(mem, visitRows())
	defer b.Release()
	appendVisitRow(b, r)
	rec := b.NewRecordBatch()
	defer rec.Release()
	keyer, err := pipeline.NewKeyer(visitRows(), []string{"key"}, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Process(pipeline.Batch{Rec: rec, Split: -1, Keys: keyer.Keys(rec)}, nil); err != nil {
		t.Fatal(err)
	}
}

// without returns what of a is not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

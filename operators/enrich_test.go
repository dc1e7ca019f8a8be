package operators_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cockroachdb/datadriven"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// tableOf builds a table with text key columns, then site and floor as far as names say.
// Cells are columns of a row; - is null.
func tableOf(version string, names []string, keys int, rows [][]string) (*pipeline.Table, error) {
	var fields []arrow.Field
	for i, name := range names {
		f := arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: i >= keys}
		if name == "floor" {
			f.Type = arrow.PrimitiveTypes.Int64
		}
		fields = append(fields, f)
	}
	b := array.NewRecordBuilder(memory.NewGoAllocator(), arrow.NewSchema(fields, nil))
	for _, row := range rows {
		for i, cell := range row {
			switch f := b.Field(i).(type) {
			case *array.StringBuilder:
				if cell == "-" {
					f.AppendNull()
				} else {
					f.Append(cell)
				}
			case *array.Int64Builder:
				if v, err := strconv.ParseInt(cell, 10, 64); err == nil {
					f.Append(v)
				} else {
					f.AppendNull()
				}
			}
		}
	}
	return pipeline.NewTable(b.NewRecordBatch(), keys, version)
}

// enrichTest runs the scenarios of testdata/enrich. Commands:
//
//	table version=V [columns=site]  the content at hand: KEY SITE FLOOR a line
//	refer NAME                      gives it to the operator as that of table NAME
//	enrich missing=POLICY [rows=I,...]  sends a batch with a key a line, of which some rows are
//	                                selected; the operator is made by the first of a policy
//
// A key of - is null.
type enrichTest struct {
	mem   memory.Allocator
	table *pipeline.Table
	ops   map[string]*operators.Enrich
	out   []string
}

func enrichRowSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(), arrow.Field{Name: "asset", Type: arrow.BinaryTypes.String, Nullable: true}), nil)
}

// TestEnrichScenarios: every rule of reference tables as a text.
func TestEnrichScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/enrich", func(t *testing.T, path string) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		e := &enrichTest{mem: mem, ops: map[string]*operators.Enrich{}}
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string {
			e.out = nil
			if err := e.command(d); err != nil {
				return "error: " + err.Error() + "\n"
			}
			if len(e.out) == 0 {
				return "ok\n"
			}
			return strings.Join(e.out, "\n") + "\n"
		})
		mem.AssertSize(t, 0)
	})
}

func (e *enrichTest) command(d *datadriven.TestData) error {
	lines := strings.Split(strings.TrimSpace(d.Input), "\n")
	switch d.Cmd {
	case "table":
		names := []string{"asset", "site", "floor"}
		if d.HasArg("columns") {
			names = names[:2]
		}
		var rows [][]string
		for _, line := range lines {
			rows = append(rows, strings.Fields(line))
		}
		table, err := tableOf(d.CmdArgs[0].Vals[0], names, 1, rows)
		if err == nil {
			e.table = table
		}
		return err
	case "refer":
		for _, policy := range slices.Sorted(maps.Keys(e.ops)) {
			if err := e.ops[policy].Refer(pipeline.Reference{Name: d.CmdArgs[0].Key, Table: e.table}); err != nil {
				return err
			}
		}
		return nil
	case "enrich":
		return e.enrich(d, lines)
	}
	return fmt.Errorf("unknown command %s", d.Cmd)
}

func (e *enrichTest) enrich(d *datadriven.TestData, keys []string) error {
	var selected []int32
	policy := ""
	for _, a := range d.CmdArgs {
		for _, v := range a.Vals {
			if a.Key == "missing" {
				policy = v
				continue
			}
			r, err := strconv.Atoi(v)
			if err != nil {
				return err
			}
			selected = append(selected, int32(r))
		}
	}
	op := e.ops[policy]
	if op == nil {
		var err error
		op, err = operators.NewEnrich(operators.EnrichConfig{Name: "devices", Key: []string{"asset"}, Missing: operators.UnknownPolicy(policy)}, enrichRowSchema(), e.table, e.mem)
		if err != nil {
			return err
		}
		e.ops[policy] = op
	}
	b := array.NewRecordBuilder(e.mem, enrichRowSchema())
	defer b.Release()
	for i, key := range keys {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		b.Field(1).(*array.Int32Builder).Append(3)
		b.Field(2).(*array.Int64Builder).Append(int64(100 + i))
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		if key == "-" {
			b.Field(4).AppendNull()
		} else {
			b.Field(4).(*array.StringBuilder).Append(key)
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	return op.Process(pipeline.Batch{Rec: rec, Rows: selected, Split: 3, Passed: pipeline.MinTicks}, e)
}

// Emit prints the selected rows from the fifth column on.
func (e *enrichTest) Emit(p pipeline.Port, b pipeline.Batch) error {
	for i := range int(b.Rec.NumRows()) {
		if b.Rows != nil && !slices.Contains(b.Rows, int32(i)) {
			continue
		}
		line := fmt.Sprintf("%s %s", p, b.Rec.Column(pipeline.ColOffset).ValueStr(i))
		for c := pipeline.NumRowColumns; c < int(b.Rec.NumCols()); c++ {
			line += fmt.Sprintf(" %s=%s", b.Rec.ColumnName(c), b.Rec.Column(c).ValueStr(i))
		}
		e.out = append(e.out, line)
	}
	return nil
}

// Count prints.
func (e *enrichTest) Count(f pipeline.Fate, split int32, rows int64) {
	e.out = append(e.out, fmt.Sprintf("%s: %d of split %d", f, rows, split))
}

// TestEnrichReload sends random rows with new tables at known places between them through
// front, shards and restarts. Every row gets what the table had at its place, at 1 and at 3
// shards alike, whatever the batches, and with a key of two columns and of two types.
func TestEnrichReload(t *testing.T) {
	for seed := range uint64(40) {
		for _, shards := range []int{1, 3} {
			for _, policy := range []operators.UnknownPolicy{operators.UnknownNull, operators.UnknownDrop, operators.UnknownDead} {
				r := &enrichRun{t: t, rng: rand.New(rand.NewPCG(seed, uint64(shards))), policy: policy, mem: memory.NewCheckedAllocator(memory.NewGoAllocator()), got: map[int64]string{}}
				r.run(seed, shards)
				r.mem.AssertSize(t, 0)
				if t.Failed() {
					t.Fatalf("seed %d, %d shards, %s", seed, shards, policy)
				}
			}
		}
	}
}

type enrichRun struct {
	t      *testing.T
	rng    *rand.Rand // of batches and restarts
	policy operators.UnknownPolicy
	mem    *memory.CheckedAllocator
	front  *pipeline.Front
	tasks  []*pipeline.Task
	counts pipeline.Counts
	told   []string
	got    map[int64]string // by offset
	dead   int64
}

// enrichSink is the operator behind Enrich: it checks what a batch says of its rows, counts them
// and keeps the columns that they have got.
type enrichSink struct{ r *enrichRun }

func (s enrichSink) Process(in pipeline.Batch, out pipeline.Emitter) error {
	key, offsets := in.Rec.Column(4).(*array.String), in.Rec.Column(pipeline.ColOffset).(*array.Int64)
	rows := in.Rows
	if rows == nil {
		rows = make([]int32, in.Rec.NumRows())
		for i := range rows {
			rows[i] = int32(i)
		}
	}
	for _, row := range rows {
		if string(in.Keys.At(row)) != key.Value(int(row)) {
			return fmt.Errorf("the key of row %d is %q, want %q", row, in.Keys.At(row), key.Value(int(row)))
		}
		at := offsets.Value(int(row))
		if _, twice := s.r.got[at]; twice {
			return fmt.Errorf("offset %d came twice", at)
		}
		s.r.got[at] = in.Rec.Column(6).ValueStr(int(row)) + " " + in.Rec.Column(7).ValueStr(int(row))
	}
	out.Count(pipeline.Aggregated, in.Split, int64(len(rows)))
	return nil
}

func (enrichSink) Advance(pipeline.Mark, pipeline.Emitter) error { return nil }
func (enrichSink) Tick(int64, pipeline.Emitter) error            { return nil }

func (r *enrichRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *enrichRun) build(shards int, table *pipeline.Table) {
	r.tasks = nil
	for range shards {
		e, err := operators.NewEnrich(operators.EnrichConfig{Name: "devices", Key: []string{"value", "key"}, Missing: r.policy,
			Restored: func(version string) { r.told = append(r.told, version) }}, pipelinetest.RowSchema(), table, r.mem)
		r.must(err)
		r.tasks = append(r.tasks, pipeline.NewTask([]pipeline.Operator{e, enrichSink{r}}, func(p pipeline.Port, b pipeline.Batch) error {
			if p != pipeline.Dead || !b.Rec.Schema().Equal(pipeline.DeadSchema()) {
				return fmt.Errorf("rows of %v on port %s", b.Rec.Schema(), p)
			}
			r.dead += int64(b.NumRows())
			return nil
		}))
	}
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), []string{"key"}, 5)
	r.must(err)
	cfg := pipeline.FrontConfig{QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: shards, Keyer: keyer}
	r.front = pipeline.NewFront(cfg, func(shard int, m pipeline.Message) error { return r.tasks[shard].Step(m) })
}

func (r *enrichRun) run(seed uint64, shards int) {
	type place struct {
		value int64
		key   string
	}
	data := rand.New(rand.NewPCG(seed, 99)) // the same at every number of shards
	newTable := func(version int) (*pipeline.Table, map[place]string) {
		b := array.NewRecordBuilder(memory.NewGoAllocator(), arrow.NewSchema([]arrow.Field{
			{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "tag", Type: arrow.BinaryTypes.String},
			{Name: "site", Type: arrow.BinaryTypes.String}, {Name: "floor", Type: arrow.PrimitiveTypes.Int64}}, nil))
		want := map[place]string{}
		for v := range int64(5) {
			for k := range 6 {
				if data.IntN(3) == 0 {
					continue
				}
				site, floor := fmt.Sprint("site-", data.IntN(1000)), data.Int64N(100)
				b.Field(0).(*array.Int64Builder).Append(v)
				b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("k", k))
				b.Field(2).(*array.StringBuilder).Append(site)
				b.Field(3).(*array.Int64Builder).Append(floor)
				want[place{v, fmt.Sprint("k", k)}] = fmt.Sprint(site, " ", floor)
			}
		}
		table, err := pipeline.NewTable(b.NewRecordBatch(), 2, fmt.Sprint("v", version))
		r.must(err)
		return table, want
	}
	version := 0
	table, has := newTable(version)
	r.build(shards, table)
	r.front.Announce(pipeline.Split{Topic: "t"}, pipeline.Position{})
	want := map[int64]string{}
	unknown := int64(0)
	offset := int64(0)
	for offset < 200 {
		// A run of rows under one table, in batches that the data do not decide.
		var rows []pipelinetest.Row
		for range 1 + data.IntN(30) {
			row := pipelinetest.Row{Time: offset, Key: fmt.Sprint("k", data.IntN(7)), Value: data.Int64N(6), Offset: offset}
			offset++
			rows = append(rows, row)
			columns, known := has[place{row.Value, row.Key}]
			if !known {
				columns = "(null) (null)"
				unknown++
			}
			if known || r.policy == operators.UnknownNull {
				want[row.Offset] = columns
			}
		}
		for len(rows) > 0 {
			part := rows[:1+r.rng.IntN(len(rows))]
			rows = rows[len(part):]
			w := &pipeline.Wire{}
			for _, row := range part {
				w.Offset, w.Ingest = append(w.Offset, row.Offset), append(w.Ingest, 0)
			}
			rec := pipelinetest.Record(r.mem, part)
			err := r.front.Rows(w, &pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}, 0)
			rec.Release()
			r.must(err)
		}
		if r.rng.IntN(4) == 0 {
			r.restart(shards, table)
		}
		version++
		table, has = newTable(version)
		r.must(r.front.Reference(pipeline.Reference{Name: "devices", Table: table}))
	}
	r.count()
	if !maps.Equal(r.got, want) {
		for at := range offset {
			if r.got[at] != want[at] {
				r.t.Errorf("offset %d: got %q, want %q", at, r.got[at], want[at])
			}
		}
	}
	wantCounts := pipeline.Counts{pipeline.Read: offset, pipeline.Aggregated: int64(len(want))}
	switch r.policy {
	case operators.UnknownDrop:
		wantCounts[pipeline.Filtered] = unknown
	case operators.UnknownDead:
		wantCounts[pipeline.FateDead] = unknown
		if r.dead != unknown {
			r.t.Errorf("%d dead rows, want %d", r.dead, unknown)
		}
	}
	if unknown == 0 || r.counts != wantCounts {
		r.t.Errorf("fates %v, want %v", r.counts, wantCounts)
	}
}

func (r *enrichRun) count() {
	for _, task := range r.tasks {
		for _, c := range task.TakeCounts() {
			r.counts.Add(c)
		}
	}
	for _, s := range r.front.Cut() {
		r.counts.Add(s.Counts)
	}
}

// restart goes on from a snapshot with the table that it was made with: every shard is told
// its version, once.
func (r *enrichRun) restart(shards int, table *pipeline.Table) {
	var pieces []pipeline.Piece
	for _, task := range r.tasks {
		r.must(task.Snapshot(true, func(_ int, p pipeline.Piece) error {
			pieces = append(pieces, p.Made())
			return nil
		}))
	}
	r.count()
	cp := &pipeline.Checkpoint{Splits: r.front.Cut(), Merged: r.front.Merged()}
	r.build(shards, table)
	r.told = nil
	for s, task := range r.tasks {
		for _, p := range pieces {
			r.must(task.Restore(0, p, func(g uint8) bool { return pipeline.ShardOf(g, shards) == s }))
		}
	}
	if len(r.told) != shards || len(slices.Compact(r.told)) != 1 || r.told[0] != table.Version {
		r.t.Errorf("told %q, want %d times %s", r.told, shards, table.Version)
	}
	for _, p := range pieces {
		p.Rec.Release()
	}
	r.must(r.front.Restore(cp))
}

// TestEnrichRefused: what a job must not do, by name.
func TestEnrichRefused(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	table, err := tableOf("1", []string{"asset", "site", "floor"}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		cfg  operators.EnrichConfig
		rows *arrow.Schema
	}{
		`missing "maybe": known are null, drop, dead`:                {operators.EnrichConfig{Name: "d", Key: []string{"asset"}, Missing: "maybe"}, enrichRowSchema()},
		`key column "tag" is not a column of the rows`:               {operators.EnrichConfig{Name: "d", Key: []string{"tag"}, Missing: operators.UnknownNull}, enrichRowSchema()},
		`the table has 1 key columns, 2 are given`:                   {operators.EnrichConfig{Name: "d", Key: []string{"key", "value"}, Missing: operators.UnknownNull}, pipelinetest.RowSchema()},
		`key column value has type int64, that of the table is utf8`: {operators.EnrichConfig{Name: "d", Key: []string{"value"}, Missing: operators.UnknownNull}, pipelinetest.RowSchema()},
		`column "site": the rows have one of that name`:              {operators.EnrichConfig{Name: "d", Key: []string{"site"}, Missing: operators.UnknownNull}, arrow.NewSchema(append(pipeline.RowFields(), arrow.Field{Name: "site", Type: arrow.BinaryTypes.String}), nil)},
	} {
		if _, err := operators.NewEnrich(c.cfg, c.rows, table, mem); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	var twice *pipeline.DuplicateKeyError
	if _, err := tableOf("1", []string{"asset", "site"}, 1, [][]string{{"a", "x"}, {"b", "x"}, {"a", "y"}}); !errors.As(err, &twice) || *twice != (pipeline.DuplicateKeyError{First: 0, Second: 2}) {
		t.Errorf("got %v, want rows 0 and 2", err)
	}
	if _, err := tableOf("1", []string{"asset", "site"}, 1, [][]string{{"-", "x"}}); err == nil {
		t.Error("a key that is null was taken")
	}
	// The state of another operator, or of another table, is not taken.
	devices, err := operators.NewEnrich(operators.EnrichConfig{Name: "devices", Key: []string{"asset"}, Missing: operators.UnknownNull}, enrichRowSchema(), table, mem)
	if err != nil {
		t.Fatal(err)
	}
	racks, err := operators.NewEnrich(operators.EnrichConfig{Name: "racks", Key: []string{"asset"}, Missing: operators.UnknownNull}, enrichRowSchema(), table, mem)
	if err != nil {
		t.Fatal(err)
	}
	err = devices.Snapshot(true, func(p pipeline.Piece) error { return racks.Restore(p, func(uint8) bool { return true }) })
	if err == nil || !strings.Contains(err.Error(), "state of reference devices is not that of reference racks") {
		t.Errorf("another table's state: %v", err)
	}
	err = devices.Snapshot(false, func(p pipeline.Piece) error {
		if p.Rec != nil {
			return errors.New("written again though it has not changed")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

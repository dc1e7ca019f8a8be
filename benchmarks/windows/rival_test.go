package main

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/benchmarks/gen"
	"github.com/tidemark/tidemark/pipeline"
)

// TestSameAnswer: engine and rival give the same rows on the same load, each once, and call
// the same rows late: else their costs could not be compared.
func TestSameAnswer(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	cfg := gen.Config{Seed: 3, Devices: 300, Rate: 60, Heard: 4, Seconds: 1500, Start: gen.Default().Start}
	steps := load(cfg, mem)
	defer release(steps)
	for _, q := range []query{
		{10 * second, 10 * second, 300 * second},
		{10 * second, 10 * second, 0},
		{10 * minute, minute, 0},
		{7 * minute, 2 * minute, 30 * second},
	} {
		want, got := map[string]string{}, map[string]string{}
		wantLate, err := runRival(q, steps, mem, collect(t, want))
		if err != nil {
			t.Fatal(err)
		}
		gotLate, err := runEngine(q, steps, mem, collect(t, got))
		if err != nil {
			t.Fatal(err)
		}
		if gotLate != wantLate {
			t.Errorf("%+v: the engine has %d late rows, the rival %d", q, gotLate, wantLate)
		}
		if q == (query{10 * second, 10 * second, 0}) && wantLate == 0 {
			t.Errorf("%+v: no row is late, the load tests nothing", q)
		}
		if len(got) != len(want) || len(want) < 1000 {
			t.Errorf("%+v: the engine has %d rows, the rival %d", q, len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%+v, %s: the engine says %s, the rival %s", q, k, got[k], v)
			}
		}
	}
}

// collect puts the values of the rival's columns into rows, by key and window.
func collect(t *testing.T, rows map[string]string) func(arrow.RecordBatch) {
	return func(rec arrow.RecordBatch) {
		for i, f := range rivalSchema.Fields() {
			if got := rec.Schema().Field(i).Name; got != f.Name {
				t.Fatalf("column %d is %s, want %s", i, got, f.Name)
			}
		}
		for i := range int(rec.NumRows()) {
			key := fmt.Sprint(rec.Column(0).ValueStr(i), " ", rec.Column(1).ValueStr(i), " ", rec.Column(2).ValueStr(i))
			if _, twice := rows[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			v := ""
			for c := 3; c < len(rivalSchema.Fields()); c++ {
				v += rec.ColumnName(c) + "=" + rec.Column(c).ValueStr(i) + " "
			}
			rows[key] = v
		}
	}
}

// TestRivalNulls: a key with nulls alone has a count and nothing else, as the engine has it.
func TestRivalNulls(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	b := array.NewRecordBuilder(mem, schema())
	defer b.Release()
	for i := range 4 {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i * second))
		b.Field(1).(*array.Int32Builder).Append(0)
		b.Field(2).(*array.Int64Builder).Append(int64(i))
		b.Field(3).(*array.TimestampBuilder).Append(0)
		b.Field(colDevice).(*array.StringBuilder).Append([]string{"a", "b"}[i%2])
		if i == 1 {
			b.Field(colRSSI).(*array.Int64Builder).Append(-40)
		} else {
			b.Field(colRSSI).AppendNull()
		}
		b.Field(colBattery).AppendNull()
	}
	steps := []step{{batch: pipeline.Batch{Rec: b.NewRecordBatch(), Passed: pipeline.MinTicks}}, {mark: pipeline.MaxTicks}}
	defer release(steps)
	want, got := map[string]string{}, map[string]string{}
	q := query{10 * second, 10 * second, 0}
	if _, err := runRival(q, steps, mem, collect(t, want)); err != nil {
		t.Fatal(err)
	}
	if _, err := runEngine(q, steps, mem, collect(t, got)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(want) != 2 {
		t.Errorf("engine %v, rival %v", got, want)
	}
}

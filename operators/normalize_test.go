package operators_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// double maps column n to column twice.
func double(mem memory.Allocator, rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "twice", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	for _, v := range rec.Column(0).(*array.Int64).Int64Values() {
		if v < 0 {
			return nil, errors.New("negative")
		}
		b.Field(0).(*array.Int64Builder).Append(2 * v)
	}
	return b.NewRecordBatch(), nil
}

func numbers(mem memory.Allocator, vs ...int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues(vs, nil)
	return b.NewRecordBatch()
}

func TestNormalize(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	var n pipeline.Operator = operators.NewNormalize(double, mem)
	k := &keeper{}
	defer k.release()
	rec := numbers(mem, 1, 2, 3)
	defer rec.Release()
	some := pipeline.Result(rec)
	some.Rows = []int32{0, 2}
	none := pipeline.Result(rec)
	none.Rows = []int32{}
	for _, b := range []pipeline.Batch{pipeline.Result(rec), some, none} {
		if err := n.Process(b, k); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(n.Advance(pipeline.Mark{Event: 1, Ingest: 1}, k), n.Tick(1, k)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range k.out {
		if b.Split != -1 || b.Passed != pipeline.MinTicks {
			t.Errorf("split %d passed %d", b.Split, b.Passed)
		}
		got = append(got, b.Rec.Column(0).String())
	}
	if s := strings.Join(got, " "); s != "[2 4 6] [2 6]" {
		t.Error(s)
	}
	bad := numbers(mem, -1)
	defer bad.Release()
	if err := n.Process(pipeline.Result(bad), k); err == nil || !strings.Contains(err.Error(), "normalize: negative") {
		t.Error(err)
	}
	short := operators.NewNormalize(func(mem memory.Allocator, _ arrow.RecordBatch) (arrow.RecordBatch, error) {
		return numbers(mem), nil
	}, mem)
	if err := short.Process(pipeline.Result(rec), k); err == nil || !strings.Contains(err.Error(), "0 rows of 3") {
		t.Error(err)
	}
}

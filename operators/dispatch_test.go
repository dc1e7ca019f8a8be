package operators_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// words is a table with one column of texts; the event "bad" does not fit it.
type words struct{ b *array.StringBuilder }

func (w words) Fields() []arrow.Field {
	return []arrow.Field{{Name: "word", Type: arrow.BinaryTypes.String}}
}

func (w words) Append(event []byte) error {
	if string(event) == "bad" {
		return errors.New("does not fit")
	}
	w.b.Append(string(event))
	return nil
}

func (w words) Columns() []arrow.Array { return []arrow.Array{w.b.NewArray()} }

// ways keeps what leaves by each port, as text, and counts fates.
type ways struct {
	texts  map[pipeline.Port][]string
	counts [pipeline.NumFates]int64
	split  int32
}

func (w *ways) Emit(p pipeline.Port, b pipeline.Batch) error {
	if b.Split != -1 || b.Rows != nil {
		return fmt.Errorf("split %d, selection %v", b.Split, b.Rows)
	}
	w.texts[p] = append(w.texts[p], b.Rec.Column(0).String())
	return nil
}

func (w *ways) Count(f pipeline.Fate, split int32, rows int64) {
	w.counts[f] += rows
	w.split = split
}

var dispatchSchema = arrow.NewSchema([]arrow.Field{{Name: "class_uid", Type: arrow.PrimitiveTypes.Int64}, {Name: "event", Type: arrow.BinaryTypes.Binary}}, nil)

// classified makes rows "class:event".
func classified(mem memory.Allocator, rows ...string) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, dispatchSchema)
	defer b.Release()
	for _, r := range rows {
		class, event, _ := strings.Cut(r, ":")
		b.Field(0).(*array.Int64Builder).Append(int64(class[0] - '0'))
		b.Field(1).(*array.BinaryBuilder).Append([]byte(event))
	}
	return b.NewRecordBatch()
}

func TestDispatch(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	one, two := words{array.NewStringBuilder(mem)}, words{array.NewStringBuilder(mem)}
	defer one.b.Release()
	defer two.b.Release()
	d, err := operators.NewDispatch("class_uid", "event", dispatchSchema, []operators.Class{{ID: 1, Table: one}, {ID: 2, Table: two}})
	if err != nil {
		t.Fatal(err)
	}
	w := &ways{texts: map[pipeline.Port][]string{}}
	rec := classified(mem, "1:a", "2:b", "1:c", "1:d")
	defer rec.Release()
	whole := pipeline.Batch{Rec: rec, Split: 3, Passed: pipeline.MinTicks}
	some := whole
	some.Rows = []int32{0, 3}
	none := whole
	none.Rows = []int32{}
	for _, b := range []pipeline.Batch{whole, some, none} {
		if err := d.Process(b, w); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := w.texts[pipeline.Side(0)], []string{`["a" "c" "d"]`, `["a" "d"]`}; !slices.Equal(got, want) {
		t.Errorf("side 0: %v, want %v", got, want)
	}
	if got, want := w.texts[pipeline.Side(1)], []string{`["b"]`}; !slices.Equal(got, want) {
		t.Errorf("side 1: %v, want %v", got, want)
	}
	if len(w.texts) != 2 || w.counts[pipeline.Aggregated] != 6 || w.split != 3 {
		t.Errorf("ports %v, counts %v of split %d", w.texts, w.counts, w.split)
	}
	for row, cause := range map[string]string{"7:x": "class 7, which has no table", "2:bad": "class 2: does not fit"} {
		bad := classified(mem, row)
		err := d.Process(pipeline.Result(bad), w)
		bad.Release()
		if err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("%s: %v", row, err)
		}
	}
	for _, c := range []struct {
		class, event string
		classes      []operators.Class
		want         string
	}{
		{"kind", "event", []operators.Class{{ID: 1, Table: one}}, `no column "kind"`},
		{"class_uid", "class_uid", []operators.Class{{ID: 1, Table: one}}, `no column "class_uid" of type BINARY`},
		{"class_uid", "event", nil, "0 classes of events"},
		{"class_uid", "event", []operators.Class{{ID: 1, Table: one}, {ID: 1, Table: two}}, "class 1 is there twice"},
	} {
		if _, err := operators.NewDispatch(c.class, c.event, dispatchSchema, c.classes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// A row of Each is what it was, without its split, whatever the selection.
func TestEach(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	e := operators.NewEach(mem)
	w := &ways{texts: map[pipeline.Port][]string{}}
	rec := classified(mem, "1:a", "2:b", "3:c")
	defer rec.Release()
	for _, rows := range [][]int32{nil, {1}, {}} {
		if err := e.Process(pipeline.Batch{Rec: rec, Rows: rows, Split: 5, Passed: pipeline.MinTicks}, w); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := w.texts[pipeline.Out], []string{"[1 2 3]", "[2]"}; !slices.Equal(got, want) || w.counts[pipeline.Aggregated] != 4 || w.split != 5 {
		t.Errorf("%v, want %v; counts %v of split %d", got, want, w.counts, w.split)
	}
}

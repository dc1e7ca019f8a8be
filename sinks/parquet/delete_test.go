package parquet

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// visit is a row of a session as a reader finds it.
type visit struct {
	Start   int64  `parquet:"window_start,timestamp(microsecond)"`
	End     int64  `parquet:"window_end,timestamp(microsecond)"`
	Count   *int64 `parquet:"count,optional"`
	Deleted bool   `parquet:"_tm_del"`
	Version uint64 `parquet:"_tm_ver"`
}

func visitBatch(mem memory.Allocator, rows ...string) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{
		{Name: "window_start", Type: pipeline.Timestamp},
		{Name: "window_end", Type: pipeline.Timestamp},
		{Name: "count", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
		{Name: "_tm_del", Type: arrow.FixedWidthTypes.Boolean},
	}, nil))
	defer b.Release()
	for _, r := range rows {
		var end, count int64
		var revision int32
		if _, err := fmt.Sscan(r, &end, &count, &revision); err != nil {
			panic(err)
		}
		b.Field(0).(*array.TimestampBuilder).Append(baseUS)
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(baseUS + end))
		b.Field(3).(*array.Int32Builder).Append(revision)
		b.Field(4).(*array.BooleanBuilder).Append(count == 0)
		if count == 0 {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.Int64Builder).Append(count)
		}
	}
	return b.NewRecordBatch()
}

// TestDeletions: a reader that follows the recipe of the package comment finds what is not
// withdrawn. Rows are end, count (0 for a withdrawal) and revision.
func TestDeletions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	cfg := testConfig()
	cfg.TimeColumn, cfg.SortBy = "window_start", []string{"window_start", "window_end"}
	store := newStore(t)
	var s *Sink
	for n, rows := range [][]string{
		{"10 1 1", "20 2 1", "30 3 1"},
		{"10 0 2", "20 0 2", "20 5 3", "40 4 1", "40 0 2"},
		{"10 9 3", "30 7 2"},
	} {
		rec := visitBatch(mem, rows...)
		if s == nil {
			var err error
			if s, err = New(cfg, store, rec.Schema()); err != nil {
				t.Fatal(err)
			}
		}
		stageAll(t, s, int64(n+1), rec)
	}
	last := map[int64]visit{}
	rows := 0
	for _, name := range parquetNames(t, store) {
		for _, r := range readRows[visit](t, store, name) {
			rows++
			if old, ok := last[r.End]; !ok || r.Version > old.Version {
				last[r.End] = r
			}
		}
	}
	var got []string
	for _, r := range last {
		if !r.Deleted {
			got = append(got, fmt.Sprintf("%d:%d", r.End-baseUS, *r.Count))
		} else if r.Count != nil {
			t.Errorf("a withdrawal with count %d", *r.Count)
		}
	}
	slices.Sort(got)
	if want := "10:9 20:5 30:7"; strings.Join(got, " ") != want || rows != 10 {
		t.Errorf("current %v of %d rows, want %s of 10", got, rows, want)
	}
}

package clickhouse

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

var visitSchema = arrow.NewSchema([]arrow.Field{
	{Name: "key", Type: arrow.BinaryTypes.String},
	{Name: "window_start", Type: pipeline.Timestamp},
	{Name: "window_end", Type: pipeline.Timestamp},
	{Name: "count", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
	{Name: "_tm_kind", Type: arrow.BinaryTypes.String},
	{Name: "_tm_del", Type: arrow.FixedWidthTypes.Boolean},
}, nil)

// visit is a row of a session: its end in minutes, its count, revision and kind.
type visit struct {
	end, count int64
	revision   int32
	kind       string
}

func visitBatch(mem memory.Allocator, rows []visit) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, visitSchema)
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.StringBuilder).Append("cage-1")
		b.Field(1).(*array.TimestampBuilder).Append(julyUS)
		b.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(julyUS + r.end*60e6))
		if r.kind == "-D" {
			b.Field(3).AppendNull()
		} else {
			b.Field(3).(*array.Int64Builder).Append(r.count)
		}
		b.Field(4).(*array.Int32Builder).Append(r.revision)
		b.Field(5).(*array.StringBuilder).Append(r.kind)
		b.Field(6).(*array.BooleanBuilder).Append(r.kind == "-D")
	}
	return b.NewRecordBatch()
}

// TestDeletions: of the rows of a sort key the one with the largest _tm_ver counts, across
// epochs and within a block, and it is gone when that one has _tm_del. So a session that is
// withdrawn and comes back is there, and old values beside new ones do no harm.
func TestDeletions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	cfg := testConfig()
	cfg.TimeColumn, cfg.OrderBy = "window_start", []string{"key", "window_start", "window_end"}
	s, err := newSink(cfg, newStore(t), visitSchema, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.mem = mem
	type stored struct {
		version uint64
		deleted bool
		count   string
	}
	current := map[int64]stored{}
	blocks, deletions := 0, 0
	for n, rows := range [][]visit{
		{{10, 1, 1, "+I"}, {20, 2, 1, "+I"}, {30, 3, 1, "+I"}},
		{{10, 0, 2, "-D"}, {20, 0, 2, "-D"}, {20, 5, 3, "+I"}, {40, 4, 1, "+I"}, {40, 0, 2, "-D"}},
		{{30, 3, 1, "-U"}, {30, 7, 2, "+U"}, {20, 0, 4, "-D"}},
		{{10, 9, 3, "+I"}},
	} {
		rec := visitBatch(mem, rows)
		raw := seal(t, s, int64(n+1), rec)
		rec.Release()
		rc, err := s.open(raw)
		if err != nil {
			t.Fatal(err)
		}
		err = s.readBlocks(t.Context(), rc, func(_ int, rec arrow.RecordBatch) error {
			blocks++
			end := rec.Column(2).(*array.Timestamp)
			version, deleted := rec.Column(5).(*array.Uint64), rec.Column(6).(*array.Uint8)
			for i := range int(rec.NumRows()) {
				at := (int64(end.Value(i)) - julyUS) / 60e6
				old, ok := current[at]
				if ok && old.version == version.Value(i) {
					t.Errorf("epoch %d, end %d: version %x is there twice", n+1, at, old.version)
				}
				deletions += int(deleted.Value(i))
				if !ok || old.version < version.Value(i) {
					current[at] = stored{version.Value(i), deleted.Value(i) == 1, rec.Column(3).ValueStr(i)}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for end, c := range current {
		if !c.deleted {
			got = append(got, fmt.Sprintf("%d:%s", end, c.count))
		}
	}
	slices.Sort(got)
	if want := "10:9 30:7"; strings.Join(got, " ") != want || blocks != 4 || deletions != 4 {
		t.Errorf("current %v of %d blocks with %d deletions, want %s of 4 with 4", got, blocks, deletions, want)
	}
}

// TestSealedWithoutDeletions: rows that cannot be withdrawn are sealed as before.
func TestSealedWithoutDeletions(t *testing.T) {
	r := newRig(t, nil)
	if n := r.sink.sealedAs.NumFields(); n != 4 || r.sink.sealedAs.Field(3).Name != colVersion {
		t.Errorf("sealed as %v", r.sink.sealedAs)
	}
}

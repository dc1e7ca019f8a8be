package pipeline

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestTable looks random keys up, of one column and of two, in tables from empty to large, for
// all rows and for some, and compares with a map.
func TestTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	fields := []arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}
	schema := arrow.NewSchema(fields, nil)
	for _, size := range []int{0, 1, 7, 300, 20000} {
		for width := 1; width <= 2; width++ {
			want := map[string]int32{}
			b := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
			for i := range size {
				b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("key-", i*3))
				b.Field(1).(*array.Int64Builder).Append(int64(i % 5))
				want[fmt.Sprint("key-", i*3, "/", i%5)] = int32(i)
			}
			table, err := NewTable(b.NewRecordBatch(), width, "v")
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"id", "n"}[:width]
			k, err := table.Keyer(schema, names)
			if err != nil {
				t.Fatal(err)
			}
			rows := array.NewRecordBuilder(mem, schema)
			var expect []int32
			for range 2000 {
				i := rng.IntN(3*size + 3)
				n := int64(i / 3 % 5)
				row, ok := want[fmt.Sprint("key-", i, "/", n)]
				if !ok {
					row = -1
				}
				if width == 2 && rng.IntN(4) == 0 {
					n, row = n+1, -1
				}
				if rng.IntN(10) == 0 {
					rows.Field(0).AppendNull()
					row = -1
				} else {
					rows.Field(0).(*array.StringBuilder).Append(fmt.Sprint("key-", i))
				}
				rows.Field(1).(*array.Int64Builder).Append(n)
				expect = append(expect, row)
			}
			rec := rows.NewRecordBatch()
			rows.Release()
			var selected []int32
			for r := range expect {
				if rng.IntN(3) > 0 {
					selected = append(selected, int32(r))
				}
			}
			found, some := make([]int32, len(expect)), make([]int32, len(expect))
			table.Lookup(k, rec, nil, found)
			table.Lookup(k, rec, selected, some)
			rec.Release()
			at := 0
			for r, row := range expect {
				narrowed := int32(-1)
				if at < len(selected) && selected[at] == int32(r) {
					narrowed = row
					at++
				}
				if found[r] != row || some[r] != narrowed {
					t.Fatalf("%d rows, %d key columns, row %d: found %d and, selected, %d, want %d and %d", size, width, r, found[r], some[r], row, narrowed)
				}
			}
		}
	}
}

// TestStateOfSeveralSchemas: pieces of one operator with unlike columns come back as they
// were, also when only some are written again.
func TestStateOfSeveralSchemas(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	store, err := NewLocalStore(t.TempDir(), DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	c := NewCheckpoints(store, 2, mem)
	piece := func(id string, columns int, value int64) ShardPiece {
		fields := []arrow.Field{{Name: "_group", Type: arrow.PrimitiveTypes.Uint8}}
		for i := range columns {
			fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: arrow.PrimitiveTypes.Int64})
		}
		b := array.NewRecordBuilder(mem, arrow.NewSchema(fields, nil))
		defer b.Release()
		b.Field(0).(*array.Uint8Builder).Append(7)
		for i := range columns {
			b.Field(i + 1).(*array.Int64Builder).Append(value)
		}
		return ShardPiece{Piece: Piece{ID: id, Rec: b.NewRecordBatch()}}
	}
	write := func(cp, prev *Checkpoint, pieces ...ShardPiece) {
		t.Helper()
		if err := c.Write(t.Context(), cp, prev, pieces); err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			if p.Rec != nil {
				p.Rec.Release()
			}
		}
	}
	if _, err := c.Take(t.Context(), Lease{}, nil, 1); err != nil {
		t.Fatal(err)
	}
	first := &Checkpoint{Job: "j", Lineage: 1, Epoch: 1}
	write(first, nil, piece("a", 1, 1), piece("then_a", 2, 2), piece("b", 1, 3), piece("then_b", 2, 4))
	second := &Checkpoint{Job: "j", Lineage: 1, Epoch: 2}
	write(second, first, ShardPiece{Piece: Piece{ID: "a"}}, piece("then_a", 2, 5), piece("b", 1, 6), ShardPiece{Piece: Piece{ID: "then_b"}})
	cp, skipped, err := c.Load(t.Context())
	if err != nil || len(skipped) > 0 || cp.Epoch != 2 {
		t.Fatalf("%v, %v, %+v", err, skipped, cp)
	}
	want := map[string]string{"a": "1 columns 1", "then_a": "2 columns 5", "b": "1 columns 6", "then_b": "2 columns 4"}
	err = c.Pieces(t.Context(), cp, func(_ PieceRef, p Piece) error {
		got := fmt.Sprintf("%d columns %s", p.Rec.NumCols()-1, p.Rec.Column(1).ValueStr(0))
		if want[p.ID] != got {
			return fmt.Errorf("piece %s: %s, want %q", p.ID, got, want[p.ID])
		}
		delete(want, p.ID)
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("%v; did not come back: %v", err, want)
	}
}

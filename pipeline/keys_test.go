package pipeline

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestKeys: keys of any columns come back as they were, nulls included, and two rows have
// equal bytes only when all their key columns agree.
func TestKeys(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "t", Type: Timestamp, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for _, s := range []string{"", "a", "ab", "abc", "\x00", "a much longer key than sixteen bytes", "-"} {
		for _, i := range []int64{0, 1, -1, 1 << 62} {
			b.Field(0).(*array.StringBuilder).Append(s)
			b.Field(1).(*array.Int64Builder).Append(i)
			b.Field(2).(*array.BooleanBuilder).Append(i > 0)
			b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
			b.Field(4).(*array.Int32Builder).Append(int32(i))
		}
	}
	for range 2 { // two rows of nulls: one key
		for c := range 5 {
			b.Field(c).AppendNull()
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	for _, cols := range [][]string{{"s"}, {"i"}, {"s", "i"}, {"i", "s"}, {"s", "i", "b", "t", "n"}} {
		k, err := NewKeyer(schema, cols, 99)
		if err != nil {
			t.Fatal(err)
		}
		keys := k.Keys(rec)
		var back []array.Builder
		for _, f := range k.Fields() {
			back = append(back, array.NewBuilder(mem, f.Type))
		}
		seen := map[string]string{}
		for r := range int32(rec.NumRows()) {
			want := ""
			for _, c := range cols {
				at := schema.FieldIndices(c)[0]
				want += fmt.Sprintf("%v|%s|", rec.Column(at).IsNull(int(r)), rec.Column(at).ValueStr(int(r)))
			}
			key := string(keys.At(r))
			if other, ok := seen[key]; ok && other != want {
				t.Errorf("%v: %q and %q have the same key", cols, other, want)
			}
			seen[key] = want
			if keys.Hash[r] != k.Hash([]byte(key)) {
				t.Errorf("%v: row %d: hash differs", cols, r)
			}
			if err := k.Append(back, []byte(key)); err != nil {
				t.Fatal(err)
			}
		}
		distinct := map[string]bool{}
		for _, w := range seen {
			distinct[w] = true
		}
		if len(distinct) != len(seen) {
			t.Errorf("%v: %d keys for %d values", cols, len(seen), len(distinct))
		}
		for i, c := range cols {
			got := back[i].NewArray()
			if !array.Equal(got, rec.Column(schema.FieldIndices(c)[0])) {
				t.Errorf("%v: column %s came back as %v", cols, c, got)
			}
			got.Release()
			back[i].Release()
		}
	}
	for _, cut := range [][]byte{{}, {1}, {1, 5, 'a'}, {0, 1, 2}} {
		k, err := NewKeyer(schema, []string{"s", "i"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		bs := []array.Builder{array.NewBuilder(mem, arrow.BinaryTypes.String), array.NewBuilder(mem, arrow.PrimitiveTypes.Int64)}
		if err := k.Append(bs, cut); err == nil {
			t.Errorf("key %v: taken", cut)
		}
		for _, b := range bs {
			b.Release()
		}
	}
}

// TestGroups: the hash spreads keys over key groups, and every shard gets some.
func TestGroups(t *testing.T) {
	k := &Keyer{plain: true, seed: 1}
	var groups [NumGroups]int
	const n = 256 * 200
	for i := range n {
		groups[Group(k.Hash(fmt.Appendf(nil, "RC-%07d", i)))]++
	}
	for g, c := range groups {
		if c < 100 || c > 320 {
			t.Errorf("group %d has %d keys of %d", g, c, n)
		}
	}
	for shards := 1; shards <= 7; shards++ {
		last := 0
		for g := range NumGroups {
			s := ShardOf(uint8(g), shards)
			if s < last || s > last+1 {
				t.Fatalf("%d shards: group %d goes from shard %d to %d", shards, g, last, s)
			}
			last = s
		}
		if last != shards-1 {
			t.Errorf("%d shards: the last group is of shard %d", shards, last)
		}
	}
}

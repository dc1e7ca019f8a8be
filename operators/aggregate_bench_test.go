package operators

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// BenchmarkFold folds batches into 10k rows, by kind of accumulator, in the narrow layout
// except where the name says wide.
func BenchmarkFold(b *testing.B) {
	const keys, rows = 10_000, 4096
	q := 0.5
	for name, aggs := range map[string][]Aggregate{
		"sum, min, max":      {{Fn: "count", As: "n"}, {Fn: "sum", Column: "k", As: "s"}, {Fn: "min", Column: "k", As: "a"}, {Fn: "max", Column: "k", As: "b"}, {Fn: "last", Column: "k", As: "l"}},
		"wide sum, min, max": {{Fn: "count", As: "n"}, {Fn: "sum", Column: "k", As: "s"}, {Fn: "min", Column: "k", As: "a"}, {Fn: "max", Column: "k", As: "b"}, {Fn: "last", Column: "k", As: "l"}},
		"mean":               {{Fn: "count", As: "n"}, {Fn: "mean", Column: "i", As: "m"}},
		"wide mean":          {{Fn: "count", As: "n"}, {Fn: "mean", Column: "i", As: "m"}},
		"float sum":          {{Fn: "sum", Column: "f", As: "s"}},
		"variance":           {{Fn: "variance", Column: "k", As: "v"}},
		"variance f":         {{Fn: "variance", Column: "f", As: "v"}},
		"distinct":           {{Fn: "distinct", Column: "k", As: "d"}},
		"distinct text":      {{Fn: "distinct", Column: "s", As: "d"}},
		"quantile":           {{Fn: "quantile", Column: "k", As: "q", Q: &q}},
		"where":              {{Fn: "sum", Column: "k", As: "s", Where: "k > 500"}, {Fn: "count", As: "n", Where: "k > 500"}},
	} {
		b.Run(name, func(b *testing.B) {
			layout := compileNarrow
			if strings.HasPrefix(name, "wide") {
				layout = compile
			}
			p, err := layout(narrowSchema(), aggs)
			if err != nil {
				b.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			s, x := &store{width: p.width}, &extras{}
			tab := newTable(s, keys)
			in := make([]modelRow, rows)
			var at []int32
			var ids []uint32
			for i := range in {
				in[i] = modelRow{at: int64(i), offset: int64(i), k: rng.Int64N(1000), v: rng.Int64N(1000), f: rng.Float64()}
				k := rng.IntN(keys)
				id, added := tab.find(hashWord(uint64(k)), fmt.Append(nil, k))
				if added {
					p.init(s.row(id))
				}
				at, ids = append(at, int32(i)), append(ids, id)
			}
			rec := modelRecord(memory.DefaultAllocator, in)
			defer rec.Release()
			b.ReportAllocs()
			for b.Loop() {
				p.update(s, rec, at, ids, x)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}

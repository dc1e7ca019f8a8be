package main

import (
	"container/heap"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// rival is the window operator that a textbook writes: a map from (key, window) to an
// accumulator, and a heap with one timer for each. It answers the query that the engine is
// asked (count, sum, min, max and last of one column, once per window, when the mark has
// passed its end and the lateness) by the same rules, in Arrow batches too.
//
// It is written as well as that design allows: the accumulator is its own timer, so that the
// heap boxes nothing; a key is copied once per row that opens windows, however many; and the
// windows of a row are tried from the latest, so that the first one that is late ends the row.
type rival struct {
	size, slide, lateness int64
	accs                  map[pair]*acc
	timers                timers
	out                   *array.RecordBuilder
	emit                  func(arrow.RecordBatch)
	mark                  int64
	late                  int64 // rows that no window took
}

type pair struct {
	key    string
	window int64 // its start
}

type acc struct {
	pair
	count, n, sum, min, max, last int64
	lastTime, lastOffset          int64 // of last
}

// timers is a heap of accumulators by the start of their window.
type timers []*acc

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].window < t[j].window }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(a any)        { *t = append(*t, a.(*acc)) }
func (t *timers) Pop() any {
	last := len(*t) - 1
	a := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return a
}

// rivalSchema is the results of the rival: the engine's without what it has no words for.
var rivalSchema = arrow.NewSchema([]arrow.Field{
	{Name: "device_id", Type: arrow.BinaryTypes.String},
	{Name: "window_start", Type: pipeline.Timestamp},
	{Name: "window_end", Type: pipeline.Timestamp},
	{Name: "count", Type: arrow.PrimitiveTypes.Int64},
	{Name: "sum", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "min", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "max", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "last", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
}, nil)

// newRival makes a rival that lends its results to emit.
func newRival(size, slide, lateness int64, mem memory.Allocator, emit func(arrow.RecordBatch)) *rival {
	return &rival{size: size, slide: slide, lateness: lateness, accs: map[pair]*acc{}, emit: emit,
		out: array.NewRecordBuilder(mem, rivalSchema), mark: pipeline.MinTicks}
}

// process folds a batch of one split.
func (r *rival) process(in pipeline.Batch) {
	times := pipeline.TicksOf(in.Rec.Column(pipeline.ColTime).(*array.Timestamp))
	offsets := in.Rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values()
	keys := in.Rec.Column(colDevice).(*array.String)
	rssi := in.Rec.Column(colRSSI).(*array.Int64)
	for i, t := range times {
		key, copied := keys.Value(i), false
		verdict := in.Verdict(int32(i))
		taken := false
		for start := operators.FloorStart(t, r.slide, 0); start > t-r.size && start+r.size-1+r.lateness > verdict; start -= r.slide {
			taken = true
			a := r.accs[pair{key, start}]
			if a == nil {
				if !copied {
					key, copied = strings.Clone(key), true // it is lent
				}
				a = &acc{pair: pair{key, start}}
				r.accs[a.pair] = a
				heap.Push(&r.timers, a)
			}
			a.count++
			if rssi.IsNull(i) {
				continue
			}
			v := rssi.Value(i)
			if a.n == 0 {
				a.min, a.max = v, v
			}
			if a.n == 0 || t > a.lastTime || t == a.lastTime && offsets[i] > a.lastOffset {
				a.last, a.lastTime, a.lastOffset = v, t, offsets[i]
			}
			a.n++
			a.sum += v
			a.min, a.max = min(a.min, v), max(a.max, v)
		}
		if !taken {
			r.late++
		}
	}
}

// resultRows is as many rows as the engine puts into a batch.
const resultRows = 4096

// advance emits the windows that the mark has closed.
func (r *rival) advance(mark int64) {
	r.mark = max(r.mark, mark)
	rows := 0
	for len(r.timers) > 0 && pipeline.AddTicks(r.timers[0].window, r.size-1+r.lateness) <= r.mark {
		a := heap.Pop(&r.timers).(*acc)
		delete(r.accs, a.pair)
		r.result(a)
		if rows++; rows == resultRows {
			r.flush()
			rows = 0
		}
	}
	if rows > 0 {
		r.flush()
	}
}

func (r *rival) result(a *acc) {
	r.out.Field(0).(*array.StringBuilder).Append(a.key)
	r.out.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(a.window))
	r.out.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(a.window + r.size))
	for i, v := range [...]int64{a.count, a.sum, a.min, a.max, a.last} {
		b := r.out.Field(3 + i).(*array.Int64Builder)
		if i > 0 && a.n == 0 {
			b.AppendNull()
		} else {
			b.Append(v)
		}
	}
}

func (r *rival) flush() {
	rec := r.out.NewRecordBatch()
	r.emit(rec)
	rec.Release()
}

// release gives the builder back.
func (r *rival) release() { r.out.Release() }

package operators

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// Aggregate asks for one aggregate of the rows of a window.
//
//	count          rows; with a column, rows where it is not null
//	sum            exact for integers and fixed point (128 bits inside; null and counted as
//	               an overflow when the result does not fit int64), reproducible for floats:
//	               the same bits in whatever order the rows came
//	min, max       of a number or a time
//	mean           sum / count of the non-null values, float64
//	first, last    value at the smallest or largest (event time, split, offset); nulls do
//	               not count
//	collect        the non-null integers in order of arrival, at most CollectCap
//	collect_by_ts  the same in the order of first and last
//
// Nulls are left out; an aggregate over nulls only is null. A fixed-point column of scale 0
// gives int64 for sum, min, max, first and last, one of a larger scale float64.
type Aggregate struct {
	Fn     string
	Column string // empty for count of rows
	As     string // name in the result
}

// CollectCap bounds what collect keeps per key and window; what comes after is counted
// in the window, not kept.
const CollectCap = 10_000

// An accumulator takes some words of a row. One fold over a batch updates it for all rows.
type accumulator struct {
	op   accOp
	name string // column name in a checkpoint
	col  int    // index in the row schema, -1 for none
	word int    // first word in the row
}

type accOp uint8

const (
	accRows          accOp = iota // 1 word: rows
	accNotNull                    // 1: rows where the column is not null
	accSumInt                     // 2: low and high word of a 128-bit sum
	accSumFloat                   // floatSumWords
	accMin                        // 1: in the order of orderedBits
	accMax                        // 1
	accFirst                      // 3: time, split and offset, value
	accLast                       // 3
	accCollect                    // 2: head and tail of a list in the operator's nodes
	accCollectByTime              // 2
)

func (op accOp) words() int {
	return [...]int{accRows: 1, accNotNull: 1, accSumInt: 2, accSumFloat: floatSumWords, accMin: 1, accMax: 1, accFirst: 3, accLast: 3, accCollect: 2, accCollectByTime: 2}[op]
}

func (op accOp) String() string {
	return [...]string{accRows: "rows", accNotNull: "n", accSumInt: "sum", accSumFloat: "sum", accMin: "min", accMax: "max", accFirst: "first", accLast: "last", accCollect: "collect", accCollectByTime: "collect_by_ts"}[op]
}

// list tells whether the accumulator is a list in the operator's nodes.
func (op accOp) list() bool { return op == accCollect || op == accCollectByTime }

// An output builds one result column from accumulators.
type output struct {
	field arrow.Field
	fn    string
	acc   accumulator // the one that holds the value
	n     int         // word of the not-null count, -1 when the value is never null
	scale int
	float bool // source column is float64
}

// program is the compiled list of aggregates: what to fold, what to build.
type program struct {
	accs    []accumulator
	outs    []output
	width   int // words of a row
	collect bool
}

// compile checks the aggregates against the row schema. The error names every problem.
func compile(rows *arrow.Schema, aggs []Aggregate) (*program, error) {
	p := &program{width: rowAcc}
	acc := func(op accOp, col int) accumulator {
		for _, a := range p.accs {
			if a.op == op && a.col == col {
				return a
			}
		}
		a := accumulator{op: op, col: col, word: p.width, name: op.String()}
		if col >= 0 {
			a.name = op.String() + "_" + rows.Field(col).Name
		}
		p.accs = append(p.accs, a)
		p.width += op.words()
		return a
	}
	var errs []error
	seen := map[string]bool{}
	for _, g := range aggs {
		o, err := compileOne(rows, g, acc)
		if err != nil {
			errs = append(errs, fmt.Errorf("aggregate %s(%s): %w", g.Fn, g.Column, err))
			continue
		}
		if seen[o.field.Name] {
			errs = append(errs, fmt.Errorf("aggregate %s(%s): the result has a column %q already", g.Fn, g.Column, o.field.Name))
		}
		seen[o.field.Name] = true
		p.outs = append(p.outs, o)
		p.collect = p.collect || o.acc.op.list()
	}
	return p, errors.Join(errs...)
}

func compileOne(rows *arrow.Schema, g Aggregate, acc func(accOp, int) accumulator) (output, error) {
	o := output{fn: g.Fn, n: -1}
	o.field.Name = g.As
	if g.As == "" {
		return o, errors.New("a name for the result (as) is missing")
	}
	if g.Fn == "count" && g.Column == "" {
		o.field.Type, o.acc = arrow.PrimitiveTypes.Int64, acc(accRows, -1)
		return o, nil
	}
	at := rows.FieldIndices(g.Column)
	if len(at) != 1 {
		return o, fmt.Errorf("%q is not a column of the rows", g.Column)
	}
	col, f := at[0], rows.Field(at[0])
	if g.Fn == "count" {
		o.field.Type, o.acc = arrow.PrimitiveTypes.Int64, acc(accNotNull, col)
		return o, nil
	}
	if v, ok := f.Metadata.GetValue(pipeline.ScaleKey); ok {
		scale, err := strconv.Atoi(v)
		if err != nil || scale < 0 || scale > 18 {
			return o, fmt.Errorf("column %s has scale %q", f.Name, v)
		}
		o.scale = scale
	}
	number := false
	switch f.Type.ID() {
	case arrow.INT64:
		number = true
	case arrow.FLOAT64:
		number, o.float = true, true
	case arrow.TIMESTAMP:
	default:
		return o, fmt.Errorf("column %s has type %s: numbers and times can be aggregated", f.Name, f.Type)
	}
	if f.Nullable {
		o.n = acc(accNotNull, col).word
	}
	o.field.Nullable = f.Nullable
	o.field.Type = f.Type
	if o.scale > 0 {
		o.field.Type = arrow.PrimitiveTypes.Float64
	}
	switch g.Fn {
	case "sum", "mean":
		if !number {
			return o, fmt.Errorf("column %s is no number", f.Name)
		}
		op := accSumInt
		if o.float {
			op = accSumFloat
		}
		o.acc = acc(op, col)
		o.field.Nullable = true // overflow
		if g.Fn == "mean" {
			o.field.Type = arrow.PrimitiveTypes.Float64
			if o.n < 0 {
				o.n = acc(accRows, -1).word
			}
		}
	case "min":
		o.acc = acc(accMin, col)
	case "max":
		o.acc = acc(accMax, col)
	case "first":
		o.acc = acc(accFirst, col)
	case "last":
		o.acc = acc(accLast, col)
	case "collect", "collect_by_ts":
		if f.Type.ID() != arrow.INT64 || o.scale > 0 {
			return o, fmt.Errorf("column %s: %s takes integers", f.Name, g.Fn)
		}
		op := accCollect
		if g.Fn == "collect_by_ts" {
			op = accCollectByTime
		}
		o.acc, o.n, o.field.Nullable = acc(op, col), -1, false
		o.field.Type = arrow.ListOf(arrow.PrimitiveTypes.Int64)
	default:
		return o, errors.New("unknown function; known are count, sum, min, max, mean, first, last, collect, collect_by_ts")
	}
	return o, nil
}

// orderedBits maps a float64 to an int64 with the same order; -0 is taken for 0.
func orderedBits(v float64) int64 {
	if v == 0 {
		v = 0
	}
	b := int64(math.Float64bits(v))
	return b ^ int64(uint64(b>>63)>>1)
}

func fromOrderedBits(b int64) float64 {
	return math.Float64frombits(uint64(b ^ int64(uint64(b>>63)>>1)))
}

// init sets the accumulators of a new or purged row to "nothing seen".
func (p *program) init(row []uint64) {
	clear(row[rowAcc:p.width])
	for _, a := range p.accs {
		switch a.op {
		case accMin:
			row[a.word] = uint64(math.MaxInt64)
		case accMax:
			row[a.word] = 1 << 63 // MinInt64
		case accFirst:
			row[a.word], row[a.word+1] = uint64(math.MaxInt64), math.MaxUint64
		case accLast:
			row[a.word] = 1 << 63
		}
	}
}

// values is one column of a batch, as the folds read it.
type values struct {
	ints   []int64
	floats []float64
	valid  func(int) bool // nil: all
}

func columnValues(c arrow.Array) values {
	var v values
	switch c := c.(type) {
	case *array.Int64:
		v.ints = c.Int64Values()
	case *array.Timestamp:
		v.ints = pipeline.TicksOf(c)
	case *array.Float64:
		v.floats = c.Float64Values()
	default:
		panic(fmt.Sprintf("aggregate over %s passed compile", c.DataType()))
	}
	if c.NullN() > 0 {
		v.valid = c.IsValid
	}
	return v
}

// update folds rows at[i] of a batch into state rows ids[i], in order.
func (p *program) update(s *store, rec arrow.RecordBatch, at []int32, ids []uint32, nodes *nodes) {
	times := pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp))
	splits := rec.Column(pipeline.ColSplit).(*array.Int32).Int32Values()
	offsets := rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values()
	for _, a := range p.accs {
		w := a.word
		if a.op == accRows {
			for _, id := range ids {
				s.row(id)[w]++
			}
			continue
		}
		v := columnValues(rec.Column(a.col))
		if v.valid != nil || v.floats != nil {
			p.updateSlow(a, s, v, times, splits, offsets, at, ids, nodes)
			continue
		}
		ints := v.ints
		switch a.op {
		case accNotNull:
			for _, id := range ids {
				s.row(id)[w]++
			}
		case accSumInt:
			for i, id := range ids {
				addInt(s.row(id)[w:w+2:w+2], ints[at[i]])
			}
		case accMin:
			for i, id := range ids {
				row := s.row(id)
				if x := ints[at[i]]; x < int64(row[w]) {
					row[w] = uint64(x)
				}
			}
		case accMax:
			for i, id := range ids {
				row := s.row(id)
				if x := ints[at[i]]; x > int64(row[w]) {
					row[w] = uint64(x)
				}
			}
		case accLast:
			for i, id := range ids {
				r := at[i]
				takeLast(s.row(id)[w:w+3:w+3], times[r], place(splits[r], offsets[r]), uint64(ints[r]))
			}
		case accFirst:
			for i, id := range ids {
				r := at[i]
				takeFirst(s.row(id)[w:w+3:w+3], times[r], place(splits[r], offsets[r]), uint64(ints[r]))
			}
		case accCollect:
			for i, id := range ids {
				nodes.arrive(s.row(id)[w:w+2:w+2], ints[at[i]])
			}
		case accCollectByTime:
			for i, id := range ids {
				r := at[i]
				nodes.add(s.row(id)[w:w+2:w+2], node{val: ints[r], at: times[r], place: place(splits[r], offsets[r])})
			}
		}
	}
}

// updateSlow is update for columns with nulls and for floats, one row at a time.
func (p *program) updateSlow(a accumulator, s *store, v values, times []int64, splits []int32, offsets []int64, at []int32, ids []uint32, nodes *nodes) {
	w := a.word
	for i, id := range ids {
		r := at[i]
		if v.valid != nil && !v.valid(int(r)) {
			continue
		}
		row := s.row(id)
		var x int64 // ordered like the value
		if v.floats != nil {
			x = orderedBits(v.floats[r])
		} else {
			x = v.ints[r]
		}
		switch a.op {
		case accNotNull:
			row[w]++
		case accSumInt:
			addInt(row[w:w+2:w+2], x)
		case accSumFloat:
			addFloat(row[w:w+floatSumWords:w+floatSumWords], v.floats[r])
		case accMin:
			row[w] = uint64(min(x, int64(row[w])))
		case accMax:
			row[w] = uint64(max(x, int64(row[w])))
		case accLast:
			takeLast(row[w:w+3:w+3], times[r], place(splits[r], offsets[r]), uint64(x))
		case accFirst:
			takeFirst(row[w:w+3:w+3], times[r], place(splits[r], offsets[r]), uint64(x))
		case accCollect:
			nodes.arrive(row[w:w+2:w+2], x)
		case accCollectByTime:
			nodes.add(row[w:w+2:w+2], node{val: x, at: times[r], place: place(splits[r], offsets[r])})
		}
	}
}

// merge folds the accumulators of row src into row dst, as if the rows of src had been
// folded into dst: which of the two came first does not matter. src stays as it is; its
// lists are copied.
func (p *program) merge(dst, src []uint64, nodes *nodes) {
	for _, a := range p.accs {
		w := a.word
		d, s := dst[w:w+a.op.words()], src[w:w+a.op.words()]
		switch a.op {
		case accRows, accNotNull:
			d[0] += s[0]
		case accSumInt:
			var carry uint64
			d[0], carry = bits.Add64(d[0], s[0], 0)
			d[1] += s[1] + carry
		case accSumFloat:
			mergeFloat(d, s)
		case accMin:
			d[0] = uint64(min(int64(d[0]), int64(s[0])))
		case accMax:
			d[0] = uint64(max(int64(d[0]), int64(s[0])))
		case accFirst:
			takeFirst(d, int64(s[0]), s[1], s[2])
		case accLast:
			takeLast(d, int64(s[0]), s[1], s[2])
		case accCollect, accCollectByTime:
			nodes.copy(d, s)
		}
	}
}

// dropLists gives the lists of a row back.
func (p *program) dropLists(row []uint64, nodes *nodes) {
	if !p.collect {
		return
	}
	for _, a := range p.accs {
		if a.op.list() {
			nodes.drop(row[a.word : a.word+2])
		}
	}
}

// show makes shown, the copy of a row that stays as it is while the row goes on, equal to
// the row.
func (p *program) show(shown, row []uint64, nodes *nodes) {
	p.dropLists(shown, nodes)
	p.init(shown)
	p.merge(shown, row, nodes)
}

// place orders rows of equal event time: by split, then by offset. Offsets below 2^48 and
// splits below 2^15 keep their order, which holds for every log that fits a disk.
func place(split int32, offset int64) uint64 { return uint64(split)<<48 | uint64(offset)&(1<<48-1) }

func takeLast(acc []uint64, t int64, place, value uint64) {
	if t > int64(acc[0]) || t == int64(acc[0]) && place >= acc[1] {
		acc[0], acc[1], acc[2] = uint64(t), place, value
	}
}

func takeFirst(acc []uint64, t int64, place, value uint64) {
	if t < int64(acc[0]) || t == int64(acc[0]) && place <= acc[1] {
		acc[0], acc[1], acc[2] = uint64(t), place, value
	}
}

// addInt adds to a signed 128-bit sum, low word first.
func addInt(acc []uint64, v int64) {
	lo := acc[0] + uint64(v)
	hi := acc[1] + uint64(v>>63)
	if lo < acc[0] {
		hi++
	}
	acc[0], acc[1] = lo, hi
}

// sumInt64 returns the sum when it fits.
func sumInt64(acc []uint64) (int64, bool) {
	return int64(acc[0]), int64(acc[1]) == int64(acc[0])>>63
}

func sumBig(acc []uint64) *big.Int {
	b := new(big.Int).Lsh(big.NewInt(int64(acc[1])), 64)
	return b.Add(b, new(big.Int).SetUint64(acc[0]))
}

var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// unscale returns v * 10^-scale, correctly rounded while v is below 2^53.
func unscale(v int64, scale int) float64 { return float64(v) / pow10[scale] }

// build appends the value of one output for one row. It reports an overflow.
func (o *output) build(b array.Builder, row []uint64, nodes *nodes) (overflow bool) {
	if o.n >= 0 && row[o.n] == 0 {
		b.AppendNull()
		return false
	}
	w := o.acc.word
	switch o.fn {
	case "count":
		b.(*array.Int64Builder).Append(int64(row[w]))
	case "sum":
		if o.float {
			b.(*array.Float64Builder).Append(floatSum(row[w : w+floatSumWords]))
			return false
		}
		v, ok := sumInt64(row[w : w+2])
		switch {
		case o.scale > 0 && ok:
			b.(*array.Float64Builder).Append(unscale(v, o.scale))
		case o.scale > 0:
			f, _ := new(big.Float).SetInt(sumBig(row[w : w+2])).Float64()
			b.(*array.Float64Builder).Append(f / pow10[o.scale])
		case ok:
			b.(*array.Int64Builder).Append(v)
		default:
			b.AppendNull()
			return true
		}
	case "mean":
		b.(*array.Float64Builder).Append(o.mean(row))
	case "min", "max":
		o.value(b, int64(row[w]))
	case "first", "last":
		o.value(b, int64(row[w+2]))
	case "collect", "collect_by_ts":
		l := b.(*array.ListBuilder)
		l.Append(true)
		for _, n := range nodes.sorted(row[w : w+2]) {
			l.ValueBuilder().(*array.Int64Builder).Append(n.val)
		}
	}
	return false
}

func (o *output) mean(row []uint64) float64 {
	w := o.acc.word
	n := float64(row[o.n])
	if o.float {
		return floatSum(row[w:w+floatSumWords]) / n
	}
	if v, ok := sumInt64(row[w : w+2]); ok {
		return float64(v) / (n * pow10[o.scale])
	}
	f, _ := new(big.Float).SetInt(sumBig(row[w : w+2])).Float64()
	return f / (n * pow10[o.scale])
}

// same tells whether two rows give the same value.
func (o *output) same(a, b []uint64, nodes *nodes) bool {
	if o.n >= 0 && (a[o.n] == 0 || b[o.n] == 0) {
		return a[o.n] == b[o.n]
	}
	w := o.acc.word
	switch {
	case o.acc.op.list():
		value := func(x, y node) bool { return x.val == y.val }
		return slices.EqualFunc(nodes.sorted(a[w:w+2]), nodes.sorted(b[w:w+2]), value)
	case o.fn == "first" || o.fn == "last":
		return a[w+2] == b[w+2]
	case o.fn == "mean":
		return o.mean(a) == o.mean(b)
	case o.float && o.acc.op == accSumFloat:
		return floatSum(a[w:w+floatSumWords]) == floatSum(b[w:w+floatSumWords])
	}
	n := o.acc.op.words()
	return slices.Equal(a[w:w+n], b[w:w+n])
}

func (o *output) value(b array.Builder, v int64) {
	switch b := b.(type) {
	case *array.Int64Builder:
		b.Append(v)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v))
	case *array.Float64Builder:
		if o.float {
			b.Append(fromOrderedBits(v))
			return
		}
		b.Append(unscale(v, o.scale))
	}
}

// nodes holds the lists of collect for all rows of an operator. A list is the head and
// tail (position + 1) and the length of a chain; chains given back are used again.
type nodes struct {
	all     []node
	free    uint32 // head of the chain of free nodes, 0 for none
	arrived int64  // what the next row to arrive is numbered
}

// node is one value, with its place in the order of the list.
type node struct {
	val, at int64
	place   uint64
	next    uint32
}

const nodeBytes = 32

// arrive appends a value in order of arrival.
func (n *nodes) arrive(acc []uint64, v int64) {
	n.add(acc, node{val: v, at: n.arrived})
	n.arrived++
}

// add appends to the list whose head, and length and tail, are in acc.
func (n *nodes) add(acc []uint64, x node) {
	count := acc[1] >> 32
	if count == CollectCap {
		return
	}
	id := n.free
	x.next = 0
	if id != 0 {
		n.free = n.all[id-1].next
		n.all[id-1] = x
	} else {
		n.all = append(n.all, x)
		id = uint32(len(n.all))
	}
	if acc[0] == 0 {
		acc[0] = uint64(id)
	} else {
		n.all[uint32(acc[1])-1].next = id
	}
	acc[1] = (count+1)<<32 | uint64(id)
}

// each calls yield with the nodes of a list, as many as acc counts.
func (n *nodes) each(acc []uint64, yield func(node)) {
	id := uint32(acc[0])
	for range acc[1] >> 32 {
		x := n.all[id-1]
		yield(x)
		id = x.next
	}
}

// list returns the nodes of a list as they were added, sorted in their order.
func (n *nodes) list(acc []uint64) []node {
	out := make([]node, 0, acc[1]>>32)
	n.each(acc, func(x node) { out = append(out, x) })
	return out
}

func (n *nodes) sorted(acc []uint64) []node { return inOrder(n.list(acc)) }

func inOrder(list []node) []node {
	slices.SortStableFunc(list, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.place, b.place))
	})
	return list
}

// copy appends a copy of the list src to dst. When the two exceed CollectCap the first in
// their order are kept.
func (n *nodes) copy(dst, src []uint64) {
	if src[1]>>32 == 0 {
		return
	}
	if dst[1]>>32+src[1]>>32 <= CollectCap {
		for _, x := range n.list(src) {
			n.add(dst, x)
		}
		return
	}
	all := inOrder(append(n.list(dst), n.list(src)...))
	n.drop(dst)
	for _, x := range all[:CollectCap] {
		n.add(dst, x)
	}
}

// drop gives a list back.
func (n *nodes) drop(acc []uint64) {
	if acc[0] != 0 {
		n.all[uint32(acc[1])-1].next = n.free
		n.free = uint32(acc[0])
	}
	acc[0], acc[1] = 0, 0
}

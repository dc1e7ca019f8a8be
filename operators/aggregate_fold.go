package operators

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

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
		case accMin32:
			setHalf(&row[a.word], a.shift, noMin)
		case accMax32:
			setHalf(&row[a.word], a.shift, noMax)
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

// folding is a batch, and what of it is folded into which state rows: row at[i] into
// ids[i], in order.
type folding struct {
	store   *store
	rec     arrow.RecordBatch
	times   []int64
	splits  []int32
	offsets []int64
	at      []int32
	ids     []uint32
	extras  *extras
}

// place returns the place of row r of the batch among rows of equal time.
func (f *folding) place(r int32) uint64 { return place(f.splits[r], f.offsets[r]) }

// update folds rows at[i] of a batch into state rows ids[i], in order.
func (p *program) update(s *store, rec arrow.RecordBatch, at []int32, ids []uint32, x *extras) {
	f := folding{store: s, rec: rec, at: at, ids: ids, extras: x,
		times:   pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp)),
		splits:  rec.Column(pipeline.ColSplit).(*array.Int32).Int32Values(),
		offsets: rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values()}
	if len(p.filters) > 0 {
		x.choose(p.filters, rec, at, ids)
	}
	if p.extras {
		x.touched += len(ids)
	}
	for _, a := range p.accs {
		f.at, f.ids = at, ids
		if a.filter >= 0 {
			f.at, f.ids = x.chosen[a.filter].at, x.chosen[a.filter].ids
		}
		f.fold(a)
	}
}

// fold updates one accumulator of all state rows.
func (f *folding) fold(a accumulator) {
	s, at, w := f.store, f.at, a.word
	switch a.op {
	case accRows:
		for _, id := range f.ids {
			s.row(id)[w]++
		}
		return
	case accRows32:
		f.countHalf(a)
		return
	case accDistinct:
		f.foldDistinct(a)
		return
	case accIDSum:
		for i, id := range f.ids {
			s.row(id)[w] += RowID(f.splits[at[i]], f.offsets[at[i]])
		}
		return
	case accIDXor:
		for i, id := range f.ids {
			s.row(id)[w] ^= RowID(f.splits[at[i]], f.offsets[at[i]])
		}
		return
	}
	col := f.rec.Column(a.col)
	none := col.NullN() == 0
	switch a.op {
	case accNotNull:
		for i, id := range f.ids {
			if none || col.IsValid(int(at[i])) {
				s.row(id)[w]++
			}
		}
		return
	case accNotNull32:
		if none {
			f.countHalf(a)
			return
		}
		for i, id := range f.ids {
			if col.IsValid(int(at[i])) && !addCount(&s.row(id)[w], a.shift, 1) {
				f.extras.full(a)
			}
		}
		return
	}
	v := columnValues(col)
	if v.valid != nil || v.floats != nil {
		f.foldSlow(a, v)
		return
	}
	ints := v.ints
	switch a.op {
	case accSumInt:
		for i, id := range f.ids {
			addInt(s.row(id)[w:w+2:w+2], ints[at[i]])
		}
	case accSquareInt:
		for i, id := range f.ids {
			addSquare(s.row(id)[w:w+3:w+3], ints[at[i]])
		}
	case accMin:
		for i, id := range f.ids {
			row := s.row(id)
			if x := ints[at[i]]; x < int64(row[w]) {
				row[w] = uint64(x)
			}
		}
	case accMax:
		for i, id := range f.ids {
			row := s.row(id)
			if x := ints[at[i]]; x > int64(row[w]) {
				row[w] = uint64(x)
			}
		}
	case accSum64:
		for i, id := range f.ids {
			if !addShort(&s.row(id)[w], ints[at[i]]) {
				f.extras.full(a)
			}
		}
	case accMin32:
		shift := a.shift & 32
		for i, id := range f.ids {
			word, x := &s.row(id)[w], ints[at[i]]
			if !takeMin(word, shift, x) {
				f.extras.beyond(a, x)
			}
		}
	case accMax32:
		shift := a.shift & 32
		for i, id := range f.ids {
			word, x := &s.row(id)[w], ints[at[i]]
			if !takeMax(word, shift, x) {
				f.extras.beyond(a, x)
			}
		}
	case accLast:
		for i, id := range f.ids {
			r := at[i]
			takeLast(s.row(id)[w:w+3:w+3], f.times[r], f.place(r), uint64(ints[r]))
		}
	case accFirst:
		for i, id := range f.ids {
			r := at[i]
			takeFirst(s.row(id)[w:w+3:w+3], f.times[r], f.place(r), uint64(ints[r]))
		}
	case accCollect:
		for i, id := range f.ids {
			f.extras.arrive(s.row(id)[w:w+2:w+2], ints[at[i]], a.cap)
		}
	case accPoints:
		for i, id := range f.ids {
			r := at[i]
			f.extras.add(s.row(id)[w:w+2:w+2], point{val: ints[r], at: f.times[r], place: f.place(r)}, a.cap)
		}
	case accQuantile:
		for i, id := range f.ids {
			f.extras.addQuantile(s.row(id)[w:w+1:w+1], float64(ints[at[i]]))
		}
	}
}

// countHalf adds 1 to a count of half a word of every row.
func (f *folding) countHalf(a accumulator) {
	s, w := f.store, a.word
	one, most := uint64(1)<<(a.shift&32), uint64(math.MaxUint32)<<(a.shift&32)
	for _, id := range f.ids {
		if word := &s.row(id)[w]; *word&most != most {
			*word += one
		} else {
			f.extras.full(a)
		}
	}
}

// foldSlow is fold for columns with nulls and for floats, one row at a time.
func (f *folding) foldSlow(a accumulator, v values) {
	for i, id := range f.ids {
		r := f.at[i]
		if v.valid != nil && !v.valid(int(r)) {
			continue
		}
		row := f.store.row(id)
		acc := a.of(row)
		var x int64 // ordered like the value
		if v.floats != nil {
			x = orderedBits(v.floats[r])
		} else {
			x = v.ints[r]
		}
		switch a.op {
		case accSumInt:
			addInt(acc, x)
		case accSumFloat:
			addFloat(acc, v.floats[r])
		case accSquareInt:
			addSquare(acc, x)
		case accSquareFloat:
			addFloatSquare(acc, v.floats[r])
		case accMin:
			acc[0] = uint64(min(x, int64(acc[0])))
		case accMax:
			acc[0] = uint64(max(x, int64(acc[0])))
		case accSum64:
			if !addShort(&row[a.word], x) {
				f.extras.full(a)
			}
		case accMin32:
			if !takeMin(&row[a.word], a.shift, x) {
				f.extras.beyond(a, x)
			}
		case accMax32:
			if !takeMax(&row[a.word], a.shift, x) {
				f.extras.beyond(a, x)
			}
		case accLast:
			takeLast(acc, f.times[r], f.place(r), uint64(x))
		case accFirst:
			takeFirst(acc, f.times[r], f.place(r), uint64(x))
		case accCollect:
			f.extras.arrive(acc, x, a.cap)
		case accPoints:
			f.extras.add(acc, point{val: x, at: f.times[r], place: f.place(r)}, a.cap)
		case accQuantile:
			if v.floats != nil {
				f.extras.addQuantile(acc, v.floats[r])
			} else {
				f.extras.addQuantile(acc, float64(x))
			}
		}
	}
}

// foldDistinct adds the hashes of a column's values to the sketches.
func (f *folding) foldDistinct(a accumulator) {
	col := f.rec.Column(a.col)
	f.extras.hashes = appendHashes(f.extras.hashes[:0], col, f.at)
	for i, id := range f.ids {
		if col.IsValid(int(f.at[i])) {
			f.extras.addDistinct(a.of(f.store.row(id)), f.extras.hashes[i])
		}
	}
}

// merge folds the accumulators of row src into row dst, as if the rows of src had been
// folded into dst: which of the two came first does not matter. src stays as it is; its
// extras are copied.
func (p *program) merge(dst, src []uint64, x *extras) {
	x.touched++
	for _, a := range p.accs {
		d, s := a.of(dst), a.of(src)
		switch a.op {
		case accRows, accNotNull, accIDSum:
			d[0] += s[0]
		case accIDXor:
			d[0] ^= s[0]
		case accRows32, accNotNull32:
			if !addCount(&dst[a.word], a.shift, uint32(half(src[a.word], a.shift))) {
				x.full(a)
			}
		case accSum64:
			if !addShort(&dst[a.word], int64(src[a.word])) {
				x.full(a)
			}
		case accMin32:
			setHalf(&dst[a.word], a.shift, min(half(dst[a.word], a.shift), half(src[a.word], a.shift)))
		case accMax32:
			setHalf(&dst[a.word], a.shift, max(half(dst[a.word], a.shift), half(src[a.word], a.shift)))
		case accSumInt, accSquareInt:
			var carry uint64
			for i := range d {
				d[i], carry = bits.Add64(d[i], s[i], carry)
			}
		case accSumFloat, accSquareFloat:
			mergeFloat(d, s)
		case accMin:
			d[0] = uint64(min(int64(d[0]), int64(s[0])))
		case accMax:
			d[0] = uint64(max(int64(d[0]), int64(s[0])))
		case accFirst:
			takeFirst(d, int64(s[0]), s[1], s[2])
		case accLast:
			takeLast(d, int64(s[0]), s[1], s[2])
		case accCollect, accPoints:
			x.mergeList(d, s, a.cap)
		case accDistinct:
			x.mergeDistinct(d, s)
		case accQuantile:
			x.mergeQuantile(d, s)
		}
	}
}

// drop gives the extras of a row back.
func (p *program) drop(row []uint64, x *extras) {
	if !p.extras {
		return
	}
	x.touched++
	for _, a := range p.accs {
		switch {
		case a.op.list():
			x.dropList(a.of(row))
		case a.op == accDistinct:
			x.dropDistinct(a.of(row))
		case a.op == accQuantile:
			x.dropQuantile(a.of(row))
		}
	}
}

// show makes shown, the copy of a row that stays as it is while the row goes on, equal to
// the row.
func (p *program) show(shown, row []uint64, x *extras) {
	p.drop(shown, x)
	p.init(shown)
	p.merge(shown, row, x)
}

// place orders rows of equal event time: by split, then by offset. Offsets below 2^48 and
// splits below 2^15 keep their order, which holds for every log that fits a disk.
func place(split int32, offset int64) uint64 { return uint64(split)<<48 | uint64(offset)&(1<<48-1) }

// RowID is the id of a row in fingerprints: ClickHouse's intHash64 of its place. A set of rows
// that lacks one, or has one twice, has another sum of ids.
func RowID(split int32, offset int64) uint64 {
	x := place(split, offset) ^ 0x4CF2D2BAAE6DA887
	x = (x ^ x>>33) * 0xFF51AFD7ED558CCD
	x = (x ^ x>>33) * 0xC4CEB9FE1A85EC53
	return x ^ x>>33
}

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

// addSquare adds v*v to an unsigned 192-bit sum, low word first, which 2^63 squares of the
// extremes of int64 do not fill.
func addSquare(acc []uint64, v int64) {
	u := uint64(v)
	if v < 0 {
		u = -u
	}
	hi, lo := bits.Mul64(u, u)
	var carry uint64
	acc[0], carry = bits.Add64(acc[0], lo, 0)
	acc[1], carry = bits.Add64(acc[1], hi, carry)
	acc[2] += carry
}

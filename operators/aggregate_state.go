package operators

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// stateFields are the columns of the accumulators in a checkpoint, in the order of the
// program. An accumulator of words has an int64 column for each word of the wide layout,
// whichever layout the program has: so a checkpoint does not depend on it. A list has one of
// (value, order, place) triples and one of the values seen, a sketch one of its bytes.
func (p *program) stateFields(prefix string) []arrow.Field {
	i64 := arrow.PrimitiveTypes.Int64
	var fields []arrow.Field
	for _, a := range p.accs {
		name := prefix + a.name
		switch {
		case a.op.list():
			fields = append(fields, arrow.Field{Name: name, Type: arrow.ListOf(i64)}, arrow.Field{Name: name + "_seen", Type: i64})
		case a.op.extra():
			fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.Binary})
		default:
			for i := range a.op.widen().words() {
				fields = append(fields, arrow.Field{Name: fmt.Sprintf("%s_%d", name, i), Type: i64})
			}
		}
	}
	return fields
}

// appendState appends the accumulators of n rows to columns of stateFields. It returns the
// columns that follow.
func (p *program) appendState(cols []array.Builder, n int, row func(int) []uint64, x *extras) []array.Builder {
	words := make([]int64, n)
	for _, a := range p.accs {
		switch {
		case a.op.list():
			l := cols[0].(*array.ListBuilder)
			v := l.ValueBuilder().(*array.Int64Builder)
			for i := range n {
				l.Append(true)
				for _, q := range x.list(a.of(row(i)), a.cap) {
					v.AppendValues([]int64{q.val, q.at, int64(q.place)}, nil)
				}
				cols[1].(*array.Int64Builder).Append(int64(a.of(row(i))[1]))
			}
			cols = cols[2:]
		case a.op.extra():
			b := cols[0].(*array.BinaryBuilder)
			for i := range n {
				b.Append(x.encode(a, a.of(row(i))))
			}
			cols = cols[1:]
		default:
			for k := range a.op.widen().words() {
				a.column(words, k, row)
				cols[0].(*array.Int64Builder).AppendValues(words, nil)
				cols = cols[1:]
			}
		}
	}
	return cols
}

// column sets words to word k of the wide layout of rows.
func (a *accumulator) column(words []int64, k int, row func(int) []uint64) {
	if a.op.widen() == a.op {
		for i := range words {
			words[i] = int64(row(i)[a.word+k])
		}
		return
	}
	var wide [maxWide]uint64
	for i := range words {
		words[i] = int64(a.wide(row(i), &wide)[k])
	}
}

// restoreState sets the accumulators of a row to those of row i of a checkpoint, whose
// columns of stateFields begin at col. It returns the column that follows.
func (p *program) restoreState(rec arrow.RecordBatch, col, i int, row []uint64, x *extras) (int, error) {
	p.init(row)
	for _, a := range p.accs {
		acc := a.of(row)
		switch {
		case a.op.list():
			x.touched++
			l := rec.Column(col).(*array.List)
			from, to := l.ValueOffsets(i)
			for v := l.ListValues().(*array.Int64).Int64Values()[from:to]; len(v) >= 3; v = v[3:] {
				x.add(acc, point{val: v[0], at: v[1], place: uint64(v[2])}, a.cap)
				if a.op == accCollect {
					x.arrived = max(x.arrived, v[1]+1)
				}
			}
			acc[1] = uint64(rec.Column(col + 1).(*array.Int64).Value(i))
			col += 2
		case a.op.extra():
			if err := x.decode(a, acc, rec.Column(col).(*array.Binary).Value(i)); err != nil {
				return col, fmt.Errorf("column %s, row %d: %w", rec.ColumnName(col), i, err)
			}
			col++
		default:
			var words [maxWide]uint64
			wide := acc
			if a.op.widen() != a.op {
				wide = words[:a.op.widen().words()]
			}
			for k := range wide {
				wide[k] = uint64(rec.Column(col + k).(*array.Int64).Value(i))
			}
			if err := a.setWide(row, wide); err != nil {
				return col, fmt.Errorf("column %s, row %d: %w", rec.ColumnName(col), i, err)
			}
			col += len(wide)
		}
	}
	return col, nil
}

// encode returns the bytes of a sketch, none where there is none.
func (x *extras) encode(a accumulator, acc []uint64) []byte {
	switch {
	case acc[0] == 0:
		return nil
	case a.op == accDistinct:
		return x.distincts.at(acc[0]).append(nil)
	}
	var b []byte
	(*x.quantiles.at(acc[0])).Encode(&b, false)
	return b
}

// decode sets acc to a sketch from its bytes.
func (x *extras) decode(a accumulator, acc []uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	x.touched++
	if a.op == accDistinct {
		if err := x.distinct(acc).restore(b); err != nil {
			return fmt.Errorf("distinct sketch: %w", err)
		}
		return nil
	}
	if err := x.decodeQuantile(acc, b); err != nil {
		return fmt.Errorf("quantile sketch: %w", err)
	}
	return nil
}

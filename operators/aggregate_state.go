package operators

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// stateFields are the columns of the accumulators in a checkpoint, in the order of the
// program: int64 for each word, and a list of (value, order, place) triples for each list.
func (p *program) stateFields(prefix string) []arrow.Field {
	var fields []arrow.Field
	for _, a := range p.accs {
		if a.op.list() {
			fields = append(fields, arrow.Field{Name: prefix + a.name, Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)})
			continue
		}
		for i := range a.op.words() {
			fields = append(fields, arrow.Field{Name: fmt.Sprintf("%s%s_%d", prefix, a.name, i), Type: arrow.PrimitiveTypes.Int64})
		}
	}
	return fields
}

// appendState appends the accumulators of n rows to columns of stateFields. It returns the
// columns that follow.
func (p *program) appendState(cols []array.Builder, n int, row func(int) []uint64, nodes *nodes) []array.Builder {
	for _, a := range p.accs {
		if a.op.list() {
			l := cols[0].(*array.ListBuilder)
			v := l.ValueBuilder().(*array.Int64Builder)
			for i := range n {
				l.Append(true)
				nodes.each(row(i)[a.word:a.word+2], func(x node) {
					v.AppendValues([]int64{x.val, x.at, int64(x.place)}, nil)
				})
			}
			cols = cols[1:]
			continue
		}
		for k := range a.op.words() {
			v := cols[0].(*array.Int64Builder)
			for i := range n {
				v.Append(int64(row(i)[a.word+k]))
			}
			cols = cols[1:]
		}
	}
	return cols
}

// restoreState sets the accumulators of a row to those of row i of a checkpoint, whose
// columns of stateFields begin at col. It returns the column that follows.
func (p *program) restoreState(rec arrow.RecordBatch, col, i int, row []uint64, nodes *nodes) int {
	p.init(row)
	for _, a := range p.accs {
		if !a.op.list() {
			for k := range a.op.words() {
				row[a.word+k] = uint64(rec.Column(col).(*array.Int64).Value(i))
				col++
			}
			continue
		}
		l := rec.Column(col).(*array.List)
		col++
		from, to := l.ValueOffsets(i)
		for v := l.ListValues().(*array.Int64).Int64Values()[from:to]; len(v) >= 3; v = v[3:] {
			nodes.add(row[a.word:a.word+2], node{val: v[0], at: v[1], place: uint64(v[2])})
			if a.op == accCollect {
				nodes.arrived = max(nodes.arrived, v[1]+1)
			}
		}
	}
	return col
}

package operators

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// Filter lets the rows through for which its condition is true. Rows for which it is false
// or unknown, because a column is null, are counted as filtered. It keeps no state and
// copies nothing: it narrows the batch.
type Filter struct {
	cond condition
	rows []int32
}

// NewFilter compiles a condition over rows of the given schema, for example
//
//	rssi_dbm >= -90 and not buffered and gateway_id in ('GW-1', 'GW-2')
//
// Comparisons are = != < <= > >= between a column and a constant, in with a list, is null
// and is not null, and a bare bool column; they combine with and, or, not and
// parentheses. Text stands in single quotes, doubled inside. A number is compared with a
// fixed-point column exactly. An error says where in the text it is.
func NewFilter(text string, rows *arrow.Schema) (*Filter, error) {
	p := &filterParser{text: text, rows: rows}
	cond, err := p.parse()
	if err != nil {
		return nil, fmt.Errorf("filter at %d: %w", p.at+1, err)
	}
	return &Filter{cond: cond}, nil
}

// Process implements pipeline.Operator.
func (f *Filter) Process(in pipeline.Batch, out pipeline.Emitter) error {
	truth := f.cond.eval(in.Rec)
	f.rows = f.rows[:0]
	keep := func(r int32) {
		if truth[r] == isTrue {
			f.rows = append(f.rows, r)
		}
	}
	if in.Rows == nil {
		for r := range int32(len(truth)) {
			keep(r)
		}
	} else {
		for _, r := range in.Rows {
			keep(r)
		}
	}
	n := in.NumRows()
	if dropped := n - len(f.rows); dropped > 0 {
		out.Count(pipeline.Filtered, in.Split, int64(dropped))
		in.Rows = f.rows
	}
	if len(f.rows) == 0 {
		return nil
	}
	return out.Emit(pipeline.Out, in)
}

// Advance implements pipeline.Operator.
func (f *Filter) Advance(pipeline.Mark, pipeline.Emitter) error { return nil }

// Tick implements pipeline.Operator.
func (f *Filter) Tick(int64, pipeline.Emitter) error { return nil }

// truth of a condition for a row: false, true, or unknown because of a null.
type truth uint8

const (
	isFalse truth = iota
	isTrue
	unknown
)

// condition is evaluated for all rows of a batch at once.
type condition interface {
	eval(rec arrow.RecordBatch) []truth
}

// both is a and b, either is a or b: false and unknown is false, true or unknown is true.
type both struct{ a, b condition }
type either struct{ a, b condition }
type negated struct{ a condition }

func (c both) eval(rec arrow.RecordBatch) []truth {
	a, b := c.a.eval(rec), c.b.eval(rec)
	for i := range a {
		switch {
		case a[i] == isFalse || b[i] == isFalse:
			a[i] = isFalse
		case a[i] == unknown || b[i] == unknown:
			a[i] = unknown
		}
	}
	return a
}

func (c either) eval(rec arrow.RecordBatch) []truth {
	a, b := c.a.eval(rec), c.b.eval(rec)
	for i := range a {
		switch {
		case a[i] == isTrue || b[i] == isTrue:
			a[i] = isTrue
		case a[i] == unknown || b[i] == unknown:
			a[i] = unknown
		}
	}
	return a
}

func (c negated) eval(rec arrow.RecordBatch) []truth {
	a := c.a.eval(rec)
	for i, v := range a {
		if v != unknown {
			a[i] = isTrue - v
		}
	}
	return a
}

// nullTest is "is null", or "is not null".
type nullTest struct {
	col  int
	want bool
}

func (c nullTest) eval(rec arrow.RecordBatch) []truth {
	col := rec.Column(c.col)
	out := make([]truth, col.Len())
	for i := range out {
		if col.IsNull(i) == c.want {
			out[i] = isTrue
		}
	}
	return out
}

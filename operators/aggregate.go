package operators

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// Aggregate asks for one aggregate of the rows of a window.
//
//	count          rows; with a column, rows where it is not null
//	sum            exact for integers and fixed point; null, and counted as an overflow,
//	               when the result does not fit int64. For floats reproducible: the same
//	               bits in whatever order the rows came
//	min, max       of a number or a time
//	mean           sum / count, float64
//	variance       of the sample (n - 1), in the unit of the column squared, float64; null
//	               below two values. Computed from the exact sum and sum of squares and
//	               rounded once; for floats see floatsum.go. Null and counted as an
//	               overflow when it does not fit float64
//	first, last    value at the smallest or largest (event time, split, offset)
//	distinct       different values of a column of any type, int64: exact up to 512, above
//	               that a HyperLogLog estimate with a standard error of 1.6 %
//	quantile       value at rank Q * (n - 1) of the sorted numbers, float64, within 1 % of
//	               the value (DDSketch); of floats that span more than 19 decimal orders
//	               of magnitude, the ones closest to 0 are taken for larger ones
//	collect        integers in order of arrival, the first Cap of them
//	collect_by_ts  the same in the order of first and last
//	increase       of a counter, over the values of the window in the order of first and
//	               last: the sum of the steps up, in the type of sum. A step down is a
//	               reset, after which the counter stands as far above 0 as it says; with
//	               Wrap, one from the upper half of [0, Wrap) to the lower is a wrap. What
//	               the counter did before the first and after the last value is unknown and
//	               not guessed. Null below two values; null, and counted as an overflow,
//	               when it does not fit int64; null, and counted as dropped, when the
//	               window has more than CollectCap values
//	rate           increase / (time of the last - time of the first value), per second,
//	               float64; null where increase is, and when the two times are equal
//	id_sum, id_xor the sum modulo 2^64 and the exclusive or of the rows' ids (RowID), int64:
//	               with the count they are the fingerprint of a set of rows
//
// Nulls are no values; an aggregate of no values is null, except that count and distinct
// are 0 and a list is empty. All but collect are the same in whatever order the rows came
// and windows were merged. A fixed-point column of scale 0 gives int64 for sum, min, max,
// first, last and increase, one of a larger scale float64.
type Aggregate struct {
	Fn     string
	Column string   // empty for count of rows
	As     string   // name in the result
	Q      *float64 // quantile: 0 (the smallest value) to 1
	Wrap   int64    // increase and rate: where the counter wraps to 0, in the unit of the column; 0: it does not
	Where  string   // only rows for which this is true, in the language of NewFilter; empty: all
	Cap    int      // collect and collect_by_ts: at most this many; 0: CollectCap
}

// CollectCap bounds the values that an aggregate keeps per key and window. What is beyond
// it is left out and counted (Dropped): the last to arrive for collect, the last in their
// order for all others.
const CollectCap = 10_000

// functions lists what Aggregate.Fn can be.
var functions = [...]string{"count", "sum", "min", "max", "mean", "variance", "first", "last", "distinct", "quantile", "collect", "collect_by_ts", "increase", "rate", "id_sum", "id_xor"}

// An accumulator takes some words of a row. One fold over a batch updates it for all rows.
type accumulator struct {
	op     accOp
	col    int    // index in the row schema, -1 for none
	filter int    // index in program.filters, -1 for none
	cap    int    // of a list
	name   string // column name in a checkpoint
	word   int    // first word in the row
	shift  uint8  // of an accumulator of half a word: 0 or 32
}

type accOp uint8

const (
	accRows        accOp = iota // 1 word: rows
	accNotNull                  // 1: rows where the column is not null
	accSumInt                   // 2: low and high word of a 128-bit sum
	accSumFloat                 // floatSumWords
	accSquareInt                // 3: words of a 192-bit sum of squares, low first
	accSquareFloat              // floatSquareWords
	accMin                      // 1: in the order of orderedBits
	accMax                      // 1
	accFirst                    // 3: time, place, value
	accLast                     // 3
	accRows32                   // half: see aggregate_narrow.go
	accNotNull32                // half
	accSum64                    // 1: signed
	accMin32                    // half: signed
	accMax32                    // half
	accIDSum                    // 1: of RowID, modulo 2^64
	accIDXor                    // 1
	accCollect                  // 2: list in extras, values seen; ordered by arrival
	accPoints                   // 2: the same, ordered by time and place
	accDistinct                 // 1: sketch in extras
	accQuantile                 // 1: sketch in extras
)

// accOps has the words and the name of every accOp. An accumulator of half a word has none
// of its own.
var accOps = [...]struct {
	words int
	name  string
}{
	accRows: {1, "rows"}, accNotNull: {1, "n"}, accSumInt: {2, "sum"}, accSumFloat: {floatSumWords, "sum"},
	accSquareInt: {3, "squares"}, accSquareFloat: {floatSquareWords, "squares"}, accMin: {1, "min"}, accMax: {1, "max"},
	accFirst: {3, "first"}, accLast: {3, "last"},
	accRows32: {0, "rows"}, accNotNull32: {0, "n"}, accSum64: {1, "sum"}, accMin32: {0, "min"}, accMax32: {0, "max"},
	accIDSum: {1, "id_sum"}, accIDXor: {1, "id_xor"},
	accCollect: {2, "collect"}, accPoints: {2, "points"},
	accDistinct: {1, "distinct"}, accQuantile: {1, "quantile"},
}

func (op accOp) words() int { return accOps[op].words }

// list tells whether the accumulator is a list in extras, extra whether it is anything there.
func (op accOp) list() bool { return op == accCollect || op == accPoints }

func (op accOp) extra() bool { return op >= accCollect }

// of returns the words of the accumulator in a row.
func (a accumulator) of(row []uint64) []uint64 {
	n := a.word + a.op.words()
	return row[a.word:n:n]
}

// program is the compiled list of aggregates: what to fold, what to build.
type program struct {
	accs    []accumulator
	outs    []output
	filters []condition // of the accumulators, each text once
	texts   []string    // of the filters
	width   int         // words of a row
	half    int         // word whose upper half is free, 0 for none
	narrow  bool        // accumulators are narrow where they can be
	extras  bool        // some accumulator keeps more than words
}

// compile checks the aggregates against the row schema and lays them out wide. The error
// names every problem.
func compile(rows *arrow.Schema, aggs []Aggregate) (*program, error) {
	return (&program{width: rowAcc}).compileAll(rows, aggs)
}

// compileNarrow is compile with the narrow layout.
func compileNarrow(rows *arrow.Schema, aggs []Aggregate) (*program, error) {
	return (&program{width: rowAcc, narrow: true}).compileAll(rows, aggs)
}

func (p *program) compileAll(rows *arrow.Schema, aggs []Aggregate) (*program, error) {
	var errs []error
	seen := map[string]bool{}
	for _, g := range aggs {
		o, err := p.compile(rows, g)
		if err != nil {
			for _, e := range problems(err) {
				errs = append(errs, fmt.Errorf("aggregate %s: %w", g.name(), e))
			}
			continue
		}
		if seen[o.field.Name] {
			errs = append(errs, fmt.Errorf("aggregate %s: the result has a column %q already", g.name(), o.field.Name))
		}
		seen[o.field.Name] = true
		p.outs = append(p.outs, o)
	}
	return p, errors.Join(errs...)
}

// problems returns the errors that were joined.
func problems(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// Validate returns every problem of an aggregate of rows of the given schema.
func (g Aggregate) Validate(rows *arrow.Schema) error {
	_, err := compile(rows, []Aggregate{g})
	return err
}

func (g Aggregate) name() string {
	text := fmt.Sprintf("%s(%s)", g.Fn, g.Column)
	if g.As != "" {
		text += " as " + g.As
	}
	return text
}

// check returns what is wrong with an aggregate whatever the rows are.
func (g Aggregate) check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains(functions[:], g.Fn) {
		add("unknown function; known are %s", strings.Join(functions[:], ", "))
	}
	if g.As == "" {
		add("a name for the result (as) is missing")
	}
	switch {
	case g.Fn != "quantile" && g.Q != nil:
		add("q belongs to quantile: leave it out")
	case g.Fn == "quantile" && g.Q == nil:
		add("q is missing: a number from 0 to 1, 0.5 for the median")
	case g.Q != nil && !(*g.Q >= 0 && *g.Q <= 1):
		add("q %v: must be 0 to 1", *g.Q)
	}
	switch {
	case g.Wrap != 0 && g.Fn != "increase" && g.Fn != "rate":
		add("wrap belongs to increase and rate: leave it out")
	case g.Wrap < 0:
		add("wrap %d: must be above 0, or left out for a counter that does not wrap", g.Wrap)
	}
	switch {
	case g.Cap != 0 && g.Fn != "collect" && g.Fn != "collect_by_ts":
		add("cap belongs to collect and collect_by_ts: leave it out")
	case g.Cap < 0 || g.Cap > CollectCap:
		add("cap %d: must be 1 to %d, or left out for %d", g.Cap, CollectCap, CollectCap)
	}
	return errors.Join(errs...)
}

// acc returns the accumulator of the program that is like a, and makes it if there is none.
func (p *program) acc(rows *arrow.Schema, a accumulator) accumulator {
	if p.narrow {
		a.op = a.op.narrow(rows, a.col)
	}
	for _, b := range p.accs {
		if b.op == a.op && b.col == a.col && b.filter == a.filter && b.cap == a.cap {
			return b
		}
	}
	p.settle(&a)
	a.name = accOps[a.op].name
	if a.col >= 0 {
		a.name += "_" + rows.Field(a.col).Name
	}
	if a.op.list() {
		a.name += "_" + strconv.Itoa(a.cap)
	}
	if a.filter >= 0 {
		a.name += " where " + p.texts[a.filter]
	}
	p.accs = append(p.accs, a)
	p.extras = p.extras || a.op.extra()
	return a
}

// filter returns the index of a condition, -1 for none.
func (p *program) filter(rows *arrow.Schema, text string) (int, error) {
	if text == "" {
		return -1, nil
	}
	if at := slices.Index(p.texts, text); at >= 0 {
		return at, nil
	}
	f, err := NewFilter(text, rows)
	if err != nil {
		return -1, fmt.Errorf("where: %w", err)
	}
	p.filters, p.texts = append(p.filters, f.cond), append(p.texts, text)
	return len(p.filters) - 1, nil
}

// compile compiles one aggregate.
func (p *program) compile(rows *arrow.Schema, g Aggregate) (output, error) {
	if err := g.check(); err != nil {
		return output{}, err
	}
	filter, err := p.filter(rows, g.Where)
	if err != nil {
		return output{}, err
	}
	o := output{fn: g.Fn, field: arrow.Field{Name: g.As, Type: arrow.PrimitiveTypes.Int64}}
	col := -1
	acc := func(op accOp) accumulator { return p.acc(rows, accumulator{op: op, col: col, filter: filter}) }
	if g.Fn == "count" && g.Column == "" {
		o.acc = acc(accRows)
		return o, nil
	}
	if op, ok := map[string]accOp{"id_sum": accIDSum, "id_xor": accIDXor}[g.Fn]; ok {
		if g.Column != "" {
			return o, fmt.Errorf("%s is of the row, not of column %s: leave the column out", g.Fn, g.Column)
		}
		o.acc = acc(op)
		return o, nil
	}
	at := rows.FieldIndices(g.Column)
	if len(at) != 1 {
		return o, fmt.Errorf("%q is not a column of the rows; there are %s", g.Column, strings.Join(columnNames(rows), ", "))
	}
	f := rows.Field(at[0])
	count := func() { // the number of values
		o.counted = true
		if f.Nullable {
			o.n = acc(accNotNull)
		} else {
			o.n = p.acc(rows, accumulator{op: accRows, col: -1, filter: filter})
		}
	}
	col = at[0]
	switch g.Fn {
	case "count":
		o.acc = acc(accNotNull)
		return o, nil
	case "distinct":
		if !hashable(f.Type) {
			return o, fmt.Errorf("column %s has type %s, whose values are not told apart", f.Name, f.Type)
		}
		o.acc = acc(accDistinct)
		return o, nil
	}
	if o.scale, err = scaleOf(f); err != nil {
		return o, err
	}
	o.float = f.Type.ID() == arrow.FLOAT64
	number := o.float || f.Type.ID() == arrow.INT64
	switch g.Fn {
	case "min", "max", "first", "last":
		if !number && f.Type.ID() != arrow.TIMESTAMP {
			return o, fmt.Errorf("column %s has type %s: %s takes numbers and times", f.Name, f.Type, g.Fn)
		}
	case "collect", "collect_by_ts":
		if f.Type.ID() != arrow.INT64 || o.scale > 0 {
			return o, fmt.Errorf("column %s has type %s, scale %d: %s takes integers", f.Name, f.Type, o.scale, g.Fn)
		}
	default:
		if !number {
			return o, fmt.Errorf("column %s has type %s: %s takes numbers", f.Name, f.Type, g.Fn)
		}
	}
	o.field.Type = f.Type
	if o.scale > 0 {
		o.field.Type = arrow.PrimitiveTypes.Float64
	}
	sum, squares := accSumInt, accSquareInt
	if o.float {
		sum, squares = accSumFloat, accSquareFloat
	}
	if f.Nullable || filter >= 0 {
		o.field.Nullable = true
	}
	switch g.Fn {
	case "sum":
		o.acc = acc(sum)
		o.field.Nullable = true // overflow
	case "mean":
		o.acc = acc(sum)
		count()
		o.field.Type, o.field.Nullable = arrow.PrimitiveTypes.Float64, true
	case "variance":
		o.acc, o.squares = acc(sum), acc(squares)
		count()
		o.field.Type, o.field.Nullable = arrow.PrimitiveTypes.Float64, true
	case "min":
		o.acc = acc(accMin)
	case "max":
		o.acc = acc(accMax)
	case "first":
		o.acc = acc(accFirst)
	case "last":
		o.acc = acc(accLast)
	case "quantile":
		o.acc, o.q = acc(accQuantile), *g.Q
		o.field.Type = arrow.PrimitiveTypes.Float64
	case "collect", "collect_by_ts":
		op := accCollect
		if g.Fn == "collect_by_ts" {
			op = accPoints
		}
		most := g.Cap
		if most == 0 {
			most = CollectCap
		}
		o.acc = p.acc(rows, accumulator{op: op, col: col, filter: filter, cap: most})
		o.field.Type, o.field.Nullable = arrow.ListOf(arrow.PrimitiveTypes.Int64), false
		return o, nil
	case "increase", "rate":
		for range o.scale {
			if g.Wrap > math.MaxInt64/10 {
				return o, fmt.Errorf("wrap %d: with the %d decimals of column %s it must be below 2^63", g.Wrap, o.scale, f.Name)
			}
			g.Wrap *= 10
		}
		o.wrap = g.Wrap
		o.acc = p.acc(rows, accumulator{op: accPoints, col: col, filter: filter, cap: CollectCap})
		o.field.Nullable = true
		if g.Fn == "rate" {
			o.field.Type = arrow.PrimitiveTypes.Float64
		}
		return o, nil
	}
	if o.field.Nullable && (f.Nullable || filter >= 0) {
		count()
	}
	return o, nil
}

// scaleOf returns how many decimals a fixed-point column has.
func scaleOf(f arrow.Field) (int, error) {
	v, ok := f.Metadata.GetValue(pipeline.ScaleKey)
	if !ok {
		return 0, nil
	}
	scale, err := strconv.Atoi(v)
	if err != nil || scale < 0 || scale > 18 {
		return 0, fmt.Errorf("column %s has scale %q: must be 0 to 18", f.Name, v)
	}
	return scale, nil
}

package operators_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

func filterSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "rssi", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "amps", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "3"})},
		arrow.Field{Name: "speed", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "gw", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "buffered", Type: arrow.FixedWidthTypes.Boolean, Nullable: true}), nil)
}

// filterRow is one row in plain Go; nil is null.
type filterRow struct {
	rssi, amps *int64
	speed      *float64
	gw         *string
	buffered   *bool
}

func filterRows(rng *rand.Rand, n int) []filterRow {
	rows := make([]filterRow, n)
	for i := range rows {
		r := &rows[i]
		rssi, amps, speed, gw, buffered := rng.Int64N(5)-2, rng.Int64N(7)*500-1000, float64(rng.IntN(5))/2, string(rune('a'+rng.IntN(3)))+"'", rng.IntN(2) == 0
		for at, set := range []func(){func() { r.rssi = &rssi }, func() { r.amps = &amps }, func() { r.speed = &speed }, func() { r.gw = &gw }, func() { r.buffered = &buffered }} {
			if rng.IntN(6) > 0 || at < 0 {
				set()
			}
		}
	}
	return rows
}

func filterRecord(mem memory.Allocator, rows []filterRow) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, filterSchema())
	defer b.Release()
	for i, r := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		b.Field(1).(*array.Int32Builder).Append(0)
		b.Field(2).(*array.Int64Builder).Append(int64(i))
		b.Field(3).(*array.TimestampBuilder).Append(0)
		appendOr(b.Field(4).(*array.Int64Builder), r.rssi)
		appendOr(b.Field(5).(*array.Int64Builder), r.amps)
		appendOr(b.Field(6).(*array.Float64Builder), r.speed)
		appendOr(b.Field(7).(*array.StringBuilder), r.gw)
		appendOr(b.Field(8).(*array.BooleanBuilder), r.buffered)
	}
	return b.NewRecordBatch()
}

func appendOr[T any](b interface {
	Append(T)
	AppendNull()
}, v *T) {
	if v == nil {
		b.AppendNull()
		return
	}
	b.Append(*v)
}

// kept collects what a filter or dedupe lets through.
type kept struct {
	rows                 []int32
	filtered, duplicates int64
	reported             []int64 // offsets on port Duplicates
}

func (k *kept) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Duplicates {
		k.reported = append(k.reported, b.Rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values()...)
		return nil
	}
	if b.Rows == nil {
		for i := range int32(b.Rec.NumRows()) {
			k.rows = append(k.rows, i)
		}
		return nil
	}
	k.rows = append(k.rows, b.Rows...)
	return nil
}

func (k *kept) Count(f pipeline.Fate, _ int32, n int64) {
	switch f {
	case pipeline.Filtered:
		k.filtered += n
	case pipeline.Duplicate:
		k.duplicates += n
	}
}

// oracle is a random condition with its text and its meaning by three-valued logic; nil is
// unknown.
type oracle struct {
	text string
	of   func(filterRow) *bool
}

func compareOracle(rng *rand.Rand) oracle {
	op := []string{"=", "!=", "<", "<=", ">", ">="}[rng.IntN(6)]
	holds := func(c int) *bool {
		v := map[string]bool{"=": c == 0, "!=": c != 0, "<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[op]
		return &v
	}
	num := []string{"0", "-1", "1.5", "-0.5", "1e0", "99999999999999999999", "-99999999999999999999", "0.0005"}[rng.IntN(8)]
	want, _ := new(big.Rat).SetString(num)
	switch rng.IntN(6) {
	case 0:
		return oracle{"rssi " + op + " " + num, func(r filterRow) *bool {
			if r.rssi == nil {
				return nil
			}
			return holds(new(big.Rat).SetInt64(*r.rssi).Cmp(want))
		}}
	case 1:
		return oracle{"amps" + op + num, func(r filterRow) *bool {
			if r.amps == nil {
				return nil
			}
			return holds(big.NewRat(*r.amps, 1000).Cmp(want))
		}}
	case 2:
		return oracle{"speed " + op + num, func(r filterRow) *bool {
			if r.speed == nil {
				return nil
			}
			f, _ := want.Float64()
			return holds(new(big.Rat).SetFloat64(*r.speed).Cmp(new(big.Rat).SetFloat64(f)))
		}}
	case 3:
		return oracle{"gw " + op + " 'b'''", func(r filterRow) *bool {
			if r.gw == nil {
				return nil
			}
			return holds(strings.Compare(*r.gw, "b'"))
		}}
	case 4:
		return oracle{"buffered", func(r filterRow) *bool { return r.buffered }}
	}
	return oracle{"gw is null", func(r filterRow) *bool { v := r.gw == nil; return &v }}
}

func randomOracle(rng *rand.Rand, depth int) oracle {
	if depth == 0 || rng.IntN(4) == 0 {
		return compareOracle(rng)
	}
	a := randomOracle(rng, depth-1)
	if rng.IntN(3) == 0 {
		return oracle{"not (" + a.text + ")", func(r filterRow) *bool {
			v := a.of(r)
			if v == nil {
				return nil
			}
			n := !*v
			return &n
		}}
	}
	b := randomOracle(rng, depth-1)
	and := rng.IntN(2) == 0
	word := map[bool]string{true: " AND ", false: " or "}[and]
	return oracle{"(" + a.text + word + b.text + ")", func(r filterRow) *bool {
		x, y := a.of(r), b.of(r)
		decides := !and // true decides an or, false an and
		for _, v := range []*bool{x, y} {
			if v != nil && *v == decides {
				return v
			}
		}
		if x == nil || y == nil {
			return nil
		}
		return x
	}}
}

// TestFilterOracle compares random conditions with their meaning, row by row, whatever the
// selection that comes in.
func TestFilterOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for n := range 600 {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		rows := filterRows(rng, 40)
		o := randomOracle(rng, 3)
		f, err := operators.NewFilter(o.text, filterSchema())
		if err != nil {
			t.Fatalf("%s: %v", o.text, err)
		}
		rec := filterRecord(mem, rows)
		var in []int32
		if n%2 == 0 {
			in = []int32{1, 3, 5, 30}
		}
		var want []int32
		for i := range int32(len(rows)) {
			if in != nil && !slices.Contains(in, i) {
				continue
			}
			if v := o.of(rows[i]); v != nil && *v {
				want = append(want, i)
			}
		}
		var got kept
		b := pipeline.Batch{Rec: rec, Rows: in, Passed: pipeline.MinTicks}
		if err := f.Process(b, &got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.rows, want) || got.filtered != int64(b.NumRows()-len(want)) {
			t.Fatalf("%s: kept %v (%d filtered), want %v", o.text, got.rows, got.filtered, want)
		}
		rec.Release()
		mem.AssertSize(t, 0)
	}
}

func TestFilterList(t *testing.T) {
	rows := []filterRow{{}, {}, {}}
	for i, gw := range []string{"GW-1", "GW-2", "GW-3"} {
		rows[i].gw = &gw
	}
	rec := filterRecord(memory.DefaultAllocator, append(rows, filterRow{}))
	defer rec.Release()
	for text, want := range map[string][]int32{
		"gw in ('GW-1', 'GW-3')": {0, 2}, "gw not in ('GW-1','GW-3')": {1}, "gw is not null and not gw = 'GW-2'": {0, 2}, "rssi in (1) or gw in('GW-2')": {1},
	} {
		f, err := operators.NewFilter(text, filterSchema())
		if err != nil {
			t.Fatal(err)
		}
		var got kept
		if err := f.Process(pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}, &got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.rows, want) {
			t.Errorf("%s: kept %v, want %v", text, got.rows, want)
		}
	}
}

// TestFilterMistakes: each is named with its place.
func TestFilterMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "filter at 1: a column name is missing",
		"rsi > 1":                          `filter at 1: "rsi" is no column; there are time, _split, _offset, _ingest, rssi, amps, speed, gw, buffered`,
		"rssi":                             "filter at 5: what rssi is compared with is missing",
		"rssi >":                           `filter at 7: "" is no number`,
		"rssi > 'x'":                       `filter at 8: "'x'" is no number`,
		"rssi > 1e999999999":               `filter at 8: "1e999999999" is no number`,
		"gw = x":                           "filter at 6: text in single quotes is missing",
		"gw = 'x":                          "filter at 6: the text has no closing quote",
		"(rssi > 1":                        "filter at 10: a closing parenthesis is missing",
		"rssi > 1 gw = 'x'":                `filter at 10: unexpected "gw = 'x'"`,
		"rssi not 1":                       "filter at 10: in is missing",
		"gw in 'x'":                        "filter at 7: a list in parentheses is missing",
		"time > 1":                         "filter at 8: column time has type timestamp[us, tz=UTC], which is compared with nothing",
		"buffered < true":                  "filter at 16: < does not go with a bool",
		strings.Repeat("not ", 200) + "gw": "filter at 400: nested deeper than 100",
	} {
		_, err := operators.NewFilter(text, filterSchema())
		if fmt.Sprint(err) != want {
			t.Errorf("%.30s: %v, want %s", text, err, want)
		}
	}
}

// FuzzFilter: no text makes the parser or an evaluation panic.
func FuzzFilter(f *testing.F) {
	f.Add("rssi >= -90 and not buffered or gw in ('a', 'b') and (speed < 1.5e0 or amps is not null)")
	f.Add("((((rssi=1))))")
	rng := rand.New(rand.NewPCG(8, 8))
	rec := filterRecord(memory.DefaultAllocator, filterRows(rng, 5))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := operators.NewFilter(text, filterSchema())
		if err != nil {
			return
		}
		var got kept
		if err := c.Process(pipeline.Batch{Rec: rec, Passed: pipeline.MinTicks}, &got); err != nil {
			t.Fatal(err)
		}
		if int64(len(got.rows))+got.filtered != rec.NumRows() {
			t.Errorf("%q: %d kept, %d filtered of %d", text, len(got.rows), got.filtered, rec.NumRows())
		}
	})
}

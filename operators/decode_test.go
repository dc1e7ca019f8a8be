package operators_test

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cockroachdb/datadriven"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas"
)

// printer renders what a decoder or operator sends.
type printer struct {
	strings.Builder
	t *testing.T
}

func (p *printer) Emit(port pipeline.Port, b pipeline.Batch) error {
	p.t.Helper()
	if b.Split < 0 || b.Rows != nil || b.Behind != nil || b.Passed != pipeline.MinTicks {
		p.t.Errorf("%s batch: split %d rows %v passed %d", port, b.Split, b.Rows, b.Passed)
	}
	for i := range int(b.Rec.NumRows()) {
		fmt.Fprintf(p, "%s", port)
		for c, col := range b.Rec.Columns() {
			f := b.Rec.Schema().Field(c)
			if col.IsNull(i) {
				if !f.Nullable {
					p.t.Errorf("column %s is null and must not be", f.Name)
				}
				continue
			}
			v := col.ValueStr(i)
			switch col := col.(type) {
			case *array.Timestamp:
				v = short(int64(col.Value(i)))
			case *array.Binary:
				v = string(col.Value(i))
			}
			fmt.Fprintf(p, " %s=%s", f.Name, v)
		}
		p.WriteString("\n")
	}
	return nil
}

func (p *printer) Count(f pipeline.Fate, _ int32, _ int64) { p.t.Errorf("fate %s was counted", f) }

// The tests tell time in seconds from noon of 2024-06-01.
const noon = 1717243200 * 1_000_000

func short(ticks int64) string {
	return strconv.FormatFloat(float64(ticks-noon)/1e6, 'f', -1, 64)
}

func testFields() []schemas.Field {
	return []schemas.Field{
		{Name: "id", Type: schemas.String, Path: "$.id", Required: true},
		{Name: "ts", Type: schemas.Time, Unit: schemas.Seconds, Path: "$.ts"},
		{Name: "v", Type: schemas.Int64, Path: "$.v"},
	}
}

func newDecode(t testing.TB, cfg operators.DecodeConfig, mem memory.Allocator) *operators.Decode {
	t.Helper()
	rows, err := schemas.NewDecoder(testFields(), schemas.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	d, err := operators.NewDecode(cfg, rows, mem)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wire builds a run of records: value "-" is null, ingest in ticks.
func wire(split int32, first int64, ingest []int64, values []string) *pipeline.Wire {
	w := &pipeline.Wire{Split: split}
	for i, v := range values {
		span := pipeline.Span{At: int32(len(w.Data)), Len: int32(len(v))}
		if v == "-" {
			span.Len = -1
		} else {
			w.Data = append(w.Data, v...)
		}
		w.Offset = append(w.Offset, first+int64(i))
		w.Ingest = append(w.Ingest, ingest[i])
		w.Values = append(w.Values, span)
		w.Keys = append(w.Keys, pipeline.Span{Len: -1})
	}
	w.Data = append(w.Data, make([]byte, 16)...)
	return w
}

// Lines of a wire are "<ingest> <value>": the ingest time in seconds from noon, or ? for
// one that is not known; in the value, @n stands for noon + n seconds in the payload's
// unit.
func TestDecode(t *testing.T) {
	datadriven.Walk(t, "testdata/decode", func(t *testing.T, path string) {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer mem.AssertSize(t, 0)
		var d *operators.Decode
		offset := int64(0)
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			switch td.Cmd {
			case "config":
				cfg := operators.DefaultDecodeConfig()
				cfg.Time = "ts"
				for _, a := range td.CmdArgs {
					v := a.Vals[0]
					n, _ := strconv.Atoi(v)
					switch a.Key {
					case "missing":
						cfg.Missing = operators.MissingPolicy(v)
					case "future":
						cfg.Future = operators.FuturePolicy(v)
					case "max_ahead":
						cfg.MaxAhead = time.Duration(n) * time.Second
					case "max_record_bytes":
						cfg.MaxRecordBytes = n
					case "raw_limit":
						cfg.RawLimit = n
					default:
						td.Fatalf(t, "unknown setting %s", a.Key)
					}
				}
				d = newDecode(t, cfg, mem)
				offset = 0
				return d.Schema().String() + "\n"
			case "wire":
				var split int
				td.MaybeScanArgs(t, "split", &split)
				var ingest []int64
				var values []string
				for line := range strings.Lines(td.Input) {
					in, v, _ := strings.Cut(strings.TrimSpace(line), " ")
					at := int64(-1000)
					if in != "?" {
						s, err := strconv.ParseFloat(in, 64)
						if err != nil {
							td.Fatalf(t, "%v", err)
						}
						at = noon + int64(s*1e6)
					}
					for {
						before, after, ok := strings.Cut(v, "@")
						if !ok {
							break
						}
						n := strings.IndexAny(after, ",}")
						s, _ := strconv.ParseFloat(after[:n], 64)
						v = before + strconv.FormatFloat(noon/1e6+s, 'f', -1, 64) + after[n:]
					}
					ingest, values = append(ingest, at), append(values, v)
				}
				w := wire(int32(split), offset, ingest, values)
				td.MaybeScanArgs(t, "fault", &w.Fault)
				offset += int64(len(values))
				p := &printer{t: t}
				if err := d.Decode(w, p); err != nil {
					return "error: " + err.Error() + "\n"
				}
				return p.String()
			}
			td.Fatalf(t, "unknown command %s", td.Cmd)
			return ""
		})
	})
}

// The two packages do not know each other and mean the same metadata.
func TestScaleKey(t *testing.T) {
	if schemas.ScaleKey != pipeline.ScaleKey {
		t.Errorf("schemas write %q, the pipeline reads %q", schemas.ScaleKey, pipeline.ScaleKey)
	}
}

func TestDecodeConfig(t *testing.T) {
	err := operators.DecodeConfig{MaxAhead: -1, RawLimit: -1}.Validate()
	for _, want := range []string{"time:", "missing ", "future ", "missing_bound", "max_ahead", "max_record_bytes", "raw_limit"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant a word on %s", err, want)
		}
	}
	cfg := operators.DefaultDecodeConfig()
	for name, want := range map[string]string{"id": `field "id" is a utf8`, "nope": `no field "nope"`} {
		cfg.Time = name
		rows, err := schemas.NewDecoder(testFields(), schemas.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := operators.NewDecode(cfg, rows, memory.DefaultAllocator); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	cfg.Time = "ts"
	rows, err := schemas.NewDecoder(append(testFields(), schemas.Field{Name: "_split", Type: schemas.Int64, Path: "$.s"}), schemas.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operators.NewDecode(cfg, rows, memory.DefaultAllocator); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("got %v for a field named _split", err)
	}
}

// broken fails in a way that is not the record's fault.
type broken struct{ operators.Rows }

func (broken) Append([]byte) error { return errors.ErrUnsupported }

func TestDecodeFatal(t *testing.T) {
	rows, err := schemas.NewDecoder(testFields(), schemas.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	cfg := operators.DefaultDecodeConfig()
	cfg.Time = "ts"
	d, err := operators.NewDecode(cfg, broken{rows}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	err = d.Decode(wire(3, 70, []int64{noon}, []string{"{}"}), &printer{t: t})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "split 3 offset 70") {
		t.Error(err)
	}
}

// keeper retains what it is lent, and stops at the first Out batch if told to.
type keeper struct {
	out, dead []pipeline.Batch
	stop      error
}

func (k *keeper) Emit(p pipeline.Port, b pipeline.Batch) error {
	b.Retain()
	if p == pipeline.Out {
		k.out = append(k.out, b)
		return k.stop
	}
	k.dead = append(k.dead, b)
	return nil
}

func (k *keeper) Count(pipeline.Fate, int32, int64) {}

func (k *keeper) release() {
	for _, b := range append(k.out, k.dead...) {
		b.Release()
	}
}

// Batches that are kept do not change when the decoder goes on, and every record of every
// wire comes out once.
func TestDecodeKeptBatches(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	cfg := operators.DefaultDecodeConfig()
	cfg.Time = "ts"
	d := newDecode(t, cfg, mem)
	k := &keeper{}
	defer k.release()
	next := int64(0)
	for batch := range 20 {
		n := 100 + 37*(batch%5)
		values, ingest := make([]string, n), make([]int64, n)
		for i := range n {
			off := next + int64(i)
			ingest[i] = noon + off
			switch {
			case off%11 == 3:
				values[i] = `{"id":5}`
			case off%13 == 5:
				values[i] = fmt.Sprintf(`{"id":"%d","ts":9000000000,"v":%d}`, off, off) // year 2255: future
			case off%17 == 7:
				values[i] = fmt.Sprintf(`{"id":"%d","v":%d}`, off, off)
			default:
				values[i] = fmt.Sprintf(`{"v":%d,"ts":%d,"id":"%d"}`, off, noon/1000000+off%60, off)
			}
		}
		if err := d.Decode(wire(int32(batch%3), next, ingest, values), k); err != nil {
			t.Fatal(err)
		}
		next += int64(n)
	}
	seen := map[int64]bool{}
	for _, b := range append(append([]pipeline.Batch(nil), k.out...), k.dead...) {
		offs := b.Rec.Column(pipeline.ColOffset).(*array.Int64)
		last := int64(-1)
		for i, off := range offs.Int64Values() {
			if seen[off] || off <= last {
				t.Fatalf("offset %d came twice or out of order", off)
			}
			seen[off], last = true, off
			if s := b.Rec.Column(pipeline.ColSplit).(*array.Int32).Value(i); s != b.Split {
				t.Fatalf("offset %d says split %d in a batch of split %d", off, s, b.Split)
			}
			if in := b.Rec.Column(pipeline.ColIngest).(*array.Timestamp).Value(i); int64(in) != noon+off {
				t.Fatalf("offset %d has ingest time %d", off, in)
			}
		}
	}
	if int64(len(seen)) != next {
		t.Fatalf("%d of %d records came out", len(seen), next)
	}
	for _, b := range k.out {
		for i, off := range b.Rec.Column(pipeline.ColOffset).(*array.Int64).Int64Values() {
			want := arrow.Timestamp(noon + off%60*1000000)
			if off%17 == 7 {
				want = arrow.Timestamp(noon + off)
			}
			if got := b.Rec.Column(pipeline.ColTime).(*array.Timestamp).Value(i); got != want {
				t.Fatalf("offset %d has time %d, want %d", off, got, want)
			}
			if id, v := b.Rec.Column(4).ValueStr(i), b.Rec.Column(5).ValueStr(i); id != fmt.Sprint(off) || v != id {
				t.Fatalf("offset %d has id %s and v %s", off, id, v)
			}
			if r := b.Rec.Column(6).(*array.Boolean).Value(i); r != (off%17 == 7) {
				t.Fatalf("offset %d has ts_replaced %v", off, r)
			}
		}
	}
}

// Whatever the receiver answers, nothing leaks.
func TestDecodeStopped(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	cfg := operators.DefaultDecodeConfig()
	cfg.Time = "ts"
	k := &keeper{stop: errors.ErrUnsupported}
	defer k.release()
	w := wire(0, 0, []int64{noon, noon, noon}, []string{`{"id":"a","ts":1e17}`, `{"id":"a"}`, `x`})
	if err := newDecode(t, cfg, mem).Decode(w, k); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// Ingest times at the ends of int64 overflow nothing.
func TestDecodeExtremeIngest(t *testing.T) {
	for _, future := range []operators.FuturePolicy{operators.FutureDead, operators.FutureClamp, operators.FutureKeep} {
		cfg := operators.DefaultDecodeConfig()
		cfg.Time, cfg.Future = "ts", future
		k := &keeper{}
		w := wire(0, 0, []int64{math.MinInt64, math.MaxInt64, math.MaxInt64}, []string{
			`{"id":"unknown","ts":1717243200}`, `{"id":"huge","ts":1717243200}`, `{"id":"lost"}`})
		if err := newDecode(t, cfg, memory.DefaultAllocator).Decode(w, k); err != nil {
			t.Fatal(err)
		}
		if len(k.out) != 1 || k.out[0].NumRows() != 2 || len(k.dead) != 1 {
			t.Fatalf("%s: %d rows, %d dead batches", future, k.out[0].NumRows(), len(k.dead))
		}
		if r := k.dead[0].Rec.Column(pipeline.NumRowColumns).ValueStr(0); r != operators.ReasonTimeRange {
			t.Errorf("%s: reason %s", future, r)
		}
		k.release()
	}
}

func BenchmarkDecode(b *testing.B) {
	const n = 4096
	values, ingest := make([]string, n), make([]int64, n)
	for i := range n {
		values[i] = fmt.Sprintf(`{"id":"dev%08d","ts":%d,"v":%d}`, i*7919%n, 1717243200+i%60, i)
		ingest[i] = noon + int64(i%60)*1000000
	}
	w := wire(0, 0, ingest, values)
	cfg := operators.DefaultDecodeConfig()
	cfg.Time = "ts"
	d := newDecode(b, cfg, memory.DefaultAllocator)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(w, discard{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
}

type discard struct{}

func (discard) Emit(pipeline.Port, pipeline.Batch) error { return nil }
func (discard) Count(pipeline.Fate, int32, int64)        {}

// Command windows compares operators.Window with the operator that a textbook writes: a map
// from (key, window) to an accumulator and a heap with one timer for each. Both get the load
// of W1 as Arrow batches in memory, answer W1's query, and emit Arrow batches; both pay for
// hashing their keys. It prints the CPU time per event of both and their ratio, the median of
// rounds that alternate, and the memory of an open (key, window), and exits with 1 when a bar
// is missed.
//
//	go run ./benchmarks/windows
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/benchmarks/gen"
	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

const (
	second = 1_000_000 // ticks
	minute = 60 * second
)

// variant is a load, a query, and by how much the engine must be cheaper at least.
type variant struct {
	name string
	load gen.Config
	query
	bar float64
}

func variants() []variant {
	many, few := gen.Default(), gen.Default()
	many.Seconds = 450
	// Few keys are heard every 20 s; hours of them fit into memory.
	few.Devices, few.Rate, few.Seconds = 2000, 400, 5400
	return []variant{
		{"tumbling 10 s, 380k keys", many, query{10 * second, 10 * second, 300 * second}, 2},
		{"tumbling 10 s, 2k keys", few, query{10 * second, 10 * second, 300 * second}, 0},
		{"hopping 1 h by 1 min, 2k keys", few, query{60 * minute, minute, 300 * second}, 10},
	}
}

func main() {
	rounds := flag.Int("rounds", 3, "rounds of each operator; the median counts")
	only := flag.String("only", "", "run the variants whose name contains `text`; memory: the memory alone")
	flag.Parse()
	if err := run(*rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "windows:", err)
		os.Exit(1)
	}
}

func run(rounds int, only string) error {
	var missed []string
	fmt.Println("| variant | events | rows | engine ns/event | rival ns/event | ratio | range | bar |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, v := range variants() {
		if !strings.Contains(v.name, only) {
			continue
		}
		ratio, err := v.compare(rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		if ratio < v.bar {
			missed = append(missed, fmt.Sprintf("%s: %.1f, the bar is %.0f", v.name, ratio, v.bar))
		}
	}
	if only == "" || strings.Contains("memory", only) {
		fmt.Println("\n| aggregates, 380k keys x 6 windows of 10 s | bytes per open (key, window) | bar |")
		fmt.Println("|---|---|---|")
		for _, m := range layouts() {
			per, err := m.measure(380_000, 6)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			fmt.Printf("| %s | %.1f | %s |\n", m.name, per, bar(m.bar))
			if m.bar > 0 && per > m.bar {
				missed = append(missed, fmt.Sprintf("%s: %.1f bytes, the bar is %.0f", m.name, per, m.bar))
			}
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("bars missed: %s", strings.Join(missed, "; "))
	}
	return nil
}

func bar(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", v)
}

// compare runs both operators in turn and prints what an event costs.
func (v variant) compare(rounds int) (ratio float64, err error) {
	mem := memory.NewGoAllocator()
	steps := load(v.load, mem)
	defer release(steps)
	events, rows := int64(0), [2]int64{}
	for _, s := range steps {
		if s.batch.Rec != nil {
			events += s.batch.Rec.NumRows()
		}
	}
	var cost [2][]float64
	var ratios []float64
	for range rounds {
		for i, operator := range []func(query, []step, memory.Allocator, func(arrow.RecordBatch)) (int64, error){runEngine, runRival} {
			rows[i] = 0
			runtime.GC()
			before := cpu()
			_, err := operator(v.query, steps, mem, func(rec arrow.RecordBatch) { rows[i] += rec.NumRows() })
			if err != nil {
				return 0, err
			}
			cost[i] = append(cost[i], float64(cpu()-before)/float64(events))
		}
		if rows[0] != rows[1] {
			return 0, fmt.Errorf("the engine has %d rows, the rival %d", rows[0], rows[1])
		}
		ratios = append(ratios, cost[1][len(ratios)]/cost[0][len(ratios)])
	}
	ratio = median(ratios)
	fmt.Printf("| %s | %d | %d | %.0f | %.0f | %.1f | %.1f to %.1f | %s |\n",
		v.name, events, rows[0], median(cost[0]), median(cost[1]), ratio, slices.Min(ratios), slices.Max(ratios), bar(v.bar))
	return ratio, nil
}

// cpu is the CPU time of this process, the collector's included.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it cannot fail for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// layout is aggregates whose state is weighed.
type layout struct {
	name string
	aggs []operators.Aggregate
	bar  float64
}

func layouts() []layout {
	rssi := func(fn string) operators.Aggregate {
		return operators.Aggregate{Fn: fn, Column: "rssi_dbm", As: fn}
	}
	return []layout{
		{"count, sum, min, max, mean", []operators.Aggregate{{Fn: "count", As: "count"}, rssi("sum"), rssi("min"), rssi("max"), rssi("mean")}, 64},
		{"count, sum, min, max, last (W1)", w1(), 0},
		{"the BLE feed's defaults", []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "min", Column: "time", As: "first_time"}, {Fn: "max", Column: "time", As: "last_time"},
			rssi("min"), rssi("max"), rssi("mean"), {Fn: "last", Column: "battery_mv", As: "battery"}}, 0},
	}
}

// measure returns by how many bytes the heap grows for every open (key, window).
func (l layout) measure(keys, windows int) (float64, error) {
	q := query{10 * second, 10 * second, 0}
	w, err := operators.NewWindow(q.config(l.aggs), schema(), memory.NewGoAllocator())
	if err != nil {
		return 0, err
	}
	keyer, err := pipeline.NewKeyer(schema(), []string{"device_id"}, 1)
	if err != nil {
		return 0, err
	}
	before := heapBytes()
	b := array.NewRecordBuilder(memory.NewGoAllocator(), schema())
	defer b.Release()
	var key []byte
	for win := range windows {
		for from := 0; from < keys; from += batchRows {
			for d := from; d < min(from+batchRows, keys); d++ {
				key = gen.Event{Device: int32(d)}.Key(key[:0])
				b.Field(pipeline.ColTime).(*array.TimestampBuilder).Append(arrow.Timestamp(int64(win) * q.size))
				b.Field(pipeline.ColSplit).(*array.Int32Builder).Append(0)
				b.Field(pipeline.ColOffset).(*array.Int64Builder).Append(int64(d))
				b.Field(pipeline.ColIngest).(*array.TimestampBuilder).Append(0)
				b.Field(colDevice).(*array.StringBuilder).BinaryBuilder.Append(key)
				b.Field(colRSSI).(*array.Int64Builder).Append(int64(-d % 100))
				b.Field(colBattery).(*array.Int64Builder).Append(int64(3000 + d%200))
			}
			rec := b.NewRecordBatch()
			err := w.Process(pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Passed: pipeline.MinTicks}, &results{})
			rec.Release()
			if err != nil {
				return 0, err
			}
		}
	}
	grown := heapBytes() - before
	open := w.Open()
	if open != keys*windows {
		return 0, fmt.Errorf("%d pairs are open, want %d", open, keys*windows)
	}
	return float64(grown) / float64(open), nil
}

// heapBytes is what the heap holds after a collection.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

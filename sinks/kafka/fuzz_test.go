package kafka

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// FuzzValue: any row is JSON, which read back gives the values: text but for broken UTF-8,
// numbers to the bit, fixed point by its decimals.
func FuzzValue(f *testing.F) {
	f.Add("plain", "a\"b\\c\n\x00\u2028\xff", 1.5, int64(-15))
	f.Add("", "", math.Inf(1), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, name, text string, number float64, fixed int64) {
		fields := []arrow.Field{{Name: "a" + name, Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.PrimitiveTypes.Float64},
			{Name: "c", Type: arrow.PrimitiveTypes.Int64, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "2"})}}
		b := array.NewRecordBuilder(memory.NewGoAllocator(), arrow.NewSchema(fields, nil))
		b.Field(0).(*array.StringBuilder).Append(text)
		b.Field(1).(*array.Float64Builder).Append(number)
		b.Field(2).(*array.Int64Builder).Append(fixed)
		e := encoder{rec: b.NewRecordBatch(), fields: fields, members: []int{0, 1, 2}}
		value := e.value(0)
		var back map[string]any
		d := json.NewDecoder(strings.NewReader(string(value)))
		d.UseNumber()
		if err := d.Decode(&back); err != nil || len(back) != 3 {
			t.Fatalf("%q: %v, %v", value, back, err)
		}
		if got := back[string([]rune("a"+name))]; got != string([]rune(text)) {
			t.Fatalf("%q comes back as %q", text, got)
		}
		if n, ok := back["b"].(json.Number); ok {
			if got, err := n.Float64(); err != nil || got != number {
				t.Fatalf("%v comes back as %v, %v", number, got, err)
			}
		} else if !math.IsNaN(number) && !math.IsInf(number, 0) {
			t.Fatalf("%v is %v", number, back["b"])
		}
		whole, cents, _ := strings.Cut(string(back["c"].(json.Number)), ".")
		if got, err := strconv.ParseInt(whole+cents, 10, 64); err != nil || got != fixed || len(cents) != 2 {
			t.Fatalf("%d hundredths are %s", fixed, back["c"])
		}
	})
}

// FuzzReceipt: what open takes is a receipt of this sink whose object is one of its own, and
// says the same when it is written again.
func FuzzReceipt(f *testing.F) {
	cfg := DefaultSinkConfig()
	cfg.Job, cfg.Topic, cfg.Brokers = pipelinetest.SinkJob, "results", []string{"127.0.0.1:9092"}
	s, err := newSink(cfg, pipelinetest.NewMemStore(), readingSchema, slog.New(slog.DiscardHandler), &kafkago.Transport{})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(receipt{Format: receiptFormat, Topic: cfg.Topic, Job: cfg.Job, Lineage: 3, Epoch: 1,
		Object: s.objectName(pipeline.Epoch{Job: cfg.Job, Lineage: 3, N: 1}), Size: 9, XXH64: "0123456789abcdef", Rows: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(strings.Replace(string(good), "sealed/", "sealed/../", 1)))
	f.Add([]byte(strings.Replace(string(good), `"rows":4`, `"rows":-4`, 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := s.open(raw)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if !fs.ValidPath(r.Object) || r.Size < 1 || r.Rows < 1 {
			t.Fatalf("takes object %q of %d bytes and %d rows", r.Object, r.Size, r.Rows)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := s.open(again); err != nil || back != r {
			t.Fatalf("%s\nagain: %+v, %v", raw, back, err)
		}
	})
}

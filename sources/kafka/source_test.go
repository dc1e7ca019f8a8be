package kafka

import (
	"errors"
	"io"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
)

var codecs = []kafkago.Compression{0, kafkago.Gzip, kafkago.Snappy, kafkago.Lz4, kafkago.Zstd}

func TestReadsEveryCodec(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(5, topic))
	const n = 10_000
	for p, codec := range codecs {
		c.write(p, 0, n, codec)
		for o := int64(n); o < n+100; o += 10 {
			c.write(p, o, o+10, codecs[(p+int(o/10))%len(codecs)])
		}
	}
	cfg := c.config()
	cfg.Bounded = true
	s := open(t, cfg, nil)
	r := newReader(t, s)
	for p := range int32(5) {
		if ev := r.take(); ev.Kind != pipeline.NewSplit || ev.Split != part(p) || ev.Position.Offset != 0 || ev.Position.LastBatch != -1 {
			t.Fatalf("event %d: %+v", p, ev)
		}
	}
	r.until(5 * (n + 100))
	ends := 0
	for {
		ev, err := nextOr(t, s)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == pipeline.EndOfSplit {
			ends++
		}
	}
	if ends > 5 {
		t.Fatalf("%d ends", ends)
	}
	if b := s.Buffered(); b != 0 {
		t.Errorf("%d bytes buffered at the end", b)
	}
	for id, l := range s.Lag() {
		if l.Position != n+100 || l.HighWatermark != n+100 {
			t.Errorf("%s: lag %+v", id, l)
		}
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

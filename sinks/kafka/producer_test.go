package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func setup(t *testing.T, edit func(*Config), opts ...kfake.Opt) (*kfake.Cluster, *Producer) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Brokers = c.ListenAddrs()
	if edit != nil {
		edit(&cfg)
	}
	p, err := New(cfg, &kafkago.Transport{MetadataTTL: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		c.Close()
	})
	return c, p
}

// read returns the first n messages of a partition through kafka-go's own reader.
func read(t *testing.T, c *kfake.Cluster, topic string, part, n int) []kafkago.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: c.ListenAddrs(), Topic: topic, Partition: part, MaxWait: 50 * time.Millisecond})
	defer r.Close()
	var out []kafkago.Message
	for range n {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("%s/%d after %d: %v", topic, part, len(out), err)
		}
		out = append(out, m)
	}
	return out
}

func TestCreateTopicTwice(t *testing.T) {
	c, p := setup(t, nil)
	for range 2 {
		if err := p.CreateTopic(t.Context(), "a", 4, map[string]string{"retention.ms": "1000"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.PartitionInfos("a")); n != 4 {
		t.Errorf("%d partitions", n)
	}
	if v := c.TopicInfo("a").Configs["retention.ms"]; v == nil || *v != "1000" {
		t.Errorf("retention %v", v)
	}
	if err := p.CreateTopic(t.Context(), "a", 5, nil); !errors.Is(err, ErrPartitions) {
		t.Error(err)
	}
	if err := p.CreateTopic(t.Context(), "b", 0, nil); err == nil {
		t.Error("no error for 0 partitions")
	}
}

func TestProduceEveryCodecAndPartition(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	for codec := range compressions {
		t.Run(codec, func(t *testing.T) {
			c, p := setup(t, func(cfg *Config) { cfg.Compression = codec; cfg.BatchBytes = 200 }, kfake.SeedTopics(3, "a"))
			var recs []Record
			for i := range 300 {
				recs = append(recs, Record{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i), Time: at, Partition: i % 3})
			}
			recs[3].Key, recs[6].Value, recs[9].Value = nil, nil, []byte{}
			if err := p.Produce(t.Context(), "a", recs); err != nil {
				t.Fatal(err)
			}
			for part := range 3 {
				for i, m := range read(t, c, "a", part, 100) {
					want := recs[3*i+part]
					if string(m.Key) != string(want.Key) || string(m.Value) != string(want.Value) || !m.Time.Equal(at) {
						t.Fatalf("%d/%d: %q %q %v", part, i, m.Key, m.Value, m.Time)
					}
				}
			}
		})
	}
}

// The placement of keys is that of the Java client, and the same in every call.
func TestProduceByKey(t *testing.T) {
	c, p := setup(t, nil, kfake.SeedTopics(7, "a"))
	// murmur2 & 0x7fffffff of org.apache.kafka.common.utils.Utils, mod 7.
	keys := []string{"21", "foobar", "a-little-bit-long-string"}
	hash := []int32{-973932308, -790332482, -985981536}
	for range 2 {
		for _, k := range keys {
			if err := p.Produce(t.Context(), "a", []Record{{Key: []byte(k), Partition: -1}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, k := range keys {
		part := int(hash[i]&0x7fffffff) % 7
		found := 0
		for _, m := range read(t, c, "a", part, int(c.PartitionInfo("a", int32(part)).HighWatermark)) {
			if string(m.Key) == k {
				found++
			}
		}
		if found != 2 {
			t.Errorf("%s: %d in partition %d", k, found, part)
		}
	}
	var many []Record
	for range 70 {
		many = append(many, Record{Value: []byte("x"), Partition: -1})
	}
	if err := p.Produce(t.Context(), "a", many); err != nil {
		t.Fatal(err)
	}
	for part := range int32(7) {
		if n := c.PartitionInfo("a", part).HighWatermark; n < 10 {
			t.Errorf("partition %d: %d", part, n)
		}
	}
}

func TestProduceRetriesAndRefuses(t *testing.T) {
	c, p := setup(t, func(cfg *Config) { cfg.Timeout = 5 * time.Second }, kfake.SeedTopics(1, "a"))
	acks := int16(99)
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		acks = r.(*kmsg.ProduceRequest).Acks
		return nil, nil, false
	})
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 2})
	if err := p.Produce(t.Context(), "a", []Record{{Value: []byte("x"), Partition: -1}}); err != nil {
		t.Fatal(err)
	}
	if acks != -1 {
		t.Errorf("acks %d", acks)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge, Count: 1})
	err := p.Produce(t.Context(), "a", []Record{{Value: []byte("x"), Partition: -1}})
	if !errors.Is(err, kafkago.MessageSizeTooLarge) {
		t.Error(err)
	}
	if err := p.Produce(t.Context(), "a", []Record{{Partition: 3}}); err == nil {
		t.Error("no error for partition 3 of 1")
	}
	p.cfg.Timeout = 2 * time.Second
	if err := p.Produce(t.Context(), "b", []Record{{Partition: 0}}); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	// The connection breaks once in the middle of a call.
	p.cfg.Timeout = 5 * time.Second
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("cut"), true
	})
	if err := p.Produce(t.Context(), "a", []Record{{Value: []byte("y"), Partition: 0}}); err != nil {
		t.Fatal(err)
	}
	if ms := read(t, c, "a", 0, 2); string(ms[1].Value) != "y" {
		t.Errorf("%q", ms[1].Value)
	}
}

func TestValidate(t *testing.T) {
	err := Config{Compression: "rar", BatchBytes: -1}.Validate()
	var n interface{ Unwrap() []error }
	if !errors.As(err, &n) || len(n.Unwrap()) != 4 {
		t.Error(err)
	}
}

package peers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tidemark/tidemark/integration/peers"
	"github.com/tidemark/tidemark/pipeline"
	sink "github.com/tidemark/tidemark/sinks/kafka"
	source "github.com/tidemark/tidemark/sources/kafka"
)

// topic makes a topic named after the test.
func topic(t *testing.T, k *peers.Kafka, partitions int, config map[string]string) (*sink.Producer, string) {
	t.Helper()
	p := producer(t, k)
	must(t, p.CreateTopic(t.Context(), t.Name(), partitions, config))
	return p, t.Name()
}

func producer(t *testing.T, k *peers.Kafka) *sink.Producer {
	t.Helper()
	conn := source.DefaultConnection()
	conn.Brokers = []string{k.Addr()}
	tr, err := conn.Transport()
	must(t, err)
	cfg := sink.DefaultConfig()
	cfg.Brokers = conn.Brokers
	p, err := sink.New(cfg, tr)
	must(t, err)
	t.Cleanup(p.Close)
	return p
}

// records makes records from..to of a partition.
func records(partition, from, to int) []sink.Record {
	var recs []sink.Record
	for i := from; i < to; i++ {
		recs = append(recs, sink.Record{Key: fmt.Appendf(nil, "k%d", i%10), Value: fmt.Appendf(nil, "p%d-%d", partition, i),
			Time: time.UnixMilli(1_700_000_000_000 + int64(i)), Partition: partition})
	}
	return recs
}

func sourceConfig(k *peers.Kafka, topic string) source.Config {
	cfg := source.DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.Bounded = []string{k.Addr()}, topic, true
	cfg.FetchWait, cfg.StallAfter = 100*time.Millisecond, 5*time.Second
	return cfg
}

// got is what a source gave for a split.
type got struct {
	values []string
	ingest []int64
	next   pipeline.Position
	gaps   []string
}

// drain reads a bounded source to its end. Values must come in the order of offsets.
func drain(ctx context.Context, cfg source.Config, from map[pipeline.Split]pipeline.Position) (map[int32]*got, error) {
	src, err := source.Open(ctx, cfg, slog.New(slog.DiscardHandler), from)
	if err != nil {
		return nil, err
	}
	defer src.Close() //nolint:errcheck // its end was read, or another error is returned
	out := map[int32]*got{}
	for {
		ev, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if out[ev.Split.Partition] == nil {
			out[ev.Split.Partition] = &got{}
		}
		if err := out[ev.Split.Partition].take(ev); err != nil {
			return out, err
		}
	}
}

func (g *got) take(ev pipeline.Event) error {
	switch ev.Kind {
	case pipeline.GapFound:
		g.gaps = append(g.gaps, fmt.Sprintf("%s %d..%d", ev.Reason, ev.From, ev.To))
		g.next = ev.Position
	case pipeline.Rows:
		if ev.Wire.Fault != "" {
			return fmt.Errorf("split %s: fault %s", ev.Split, ev.Wire.Fault)
		}
		for i := range ev.Wire.Len() {
			if g.next.Offset > ev.Wire.Offset[i] {
				return fmt.Errorf("split %s: offset %d after position %d", ev.Split, ev.Wire.Offset[i], g.next.Offset)
			}
			g.values = append(g.values, string(ev.Wire.Value(i)))
			g.ingest = append(g.ingest, ev.Wire.Ingest[i])
		}
		g.next = ev.Wire.Next
	}
	return nil
}

// check compares the values of a split with records from..to.
func check(t *testing.T, all map[int32]*got, partition, from, to int) {
	t.Helper()
	g := all[int32(partition)]
	if g == nil {
		t.Fatalf("partition %d gave nothing", partition)
	}
	if len(g.values) != to-from {
		t.Fatalf("partition %d gave %d records, want %d", partition, len(g.values), to-from)
	}
	for i, v := range g.values {
		if want := fmt.Sprintf("p%d-%d", partition, from+i); v != want {
			t.Fatalf("partition %d, record %d: %s, want %s", partition, i, v, want)
		}
	}
}

// Our source reads what our sink wrote, in every compression, with the timestamps that the
// topic's setting says.
func TestKafkaRoundTrip(t *testing.T) {
	k := kafka(t)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, stamp := range []string{"CreateTime", "LogAppendTime"} {
			if codec != "lz4" && stamp == "LogAppendTime" {
				continue
			}
			name := "round-trip-" + codec + "-" + stamp
			conn := source.DefaultConnection()
			conn.Brokers = []string{k.Addr()}
			tr, err := conn.Transport()
			must(t, err)
			cfg := sink.DefaultConfig()
			cfg.Brokers, cfg.Compression, cfg.BatchBytes = conn.Brokers, codec, 10_000
			p, err := sink.New(cfg, tr)
			must(t, err)
			defer p.Close()
			must(t, p.CreateTopic(t.Context(), name, 2, map[string]string{"message.timestamp.type": stamp}))
			before := time.Now().Truncate(time.Millisecond)
			must(t, p.Produce(t.Context(), name, append(records(0, 0, 3000), records(1, 0, 500)...)))
			all, err := drain(t.Context(), sourceConfig(k, name), nil)
			must(t, err)
			check(t, all, 0, 0, 3000)
			check(t, all, 1, 0, 500)
			for i, at := range all[0].ingest {
				if stamp == "CreateTime" && at != (1_700_000_000_000+int64(i))*1000 {
					t.Fatalf("%s: record %d has timestamp %d", name, i, at)
				}
				if stamp == "LogAppendTime" && at < before.UnixMicro() {
					t.Fatalf("%s: record %d has timestamp %d, before it was sent", name, i, at)
				}
			}
		}
	}
}

// SIGKILL loses nothing that was acknowledged, and a source that was reading goes on.
func TestKafkaKill(t *testing.T) {
	k := kafka(t)
	p, name := topic(t, k, 2, nil)
	must(t, p.Produce(t.Context(), name, append(records(0, 0, 5000), records(1, 0, 5000)...)))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg := sourceConfig(k, name)
	cfg.Bounded = false
	cfg.MaxBatchBytes, cfg.FetchMaxBytes = 1<<12, 1<<12 // many fetches
	src, err := source.Open(ctx, cfg, slog.New(slog.DiscardHandler), nil)
	must(t, err)
	defer src.Close() //nolint:errcheck // endless
	all := map[int32]*got{0: {}, 1: {}}
	read := func(until int) {
		t.Helper()
		for len(all[0].values)+len(all[1].values) < until {
			ev, err := src.Next(ctx)
			must(t, err)
			must(t, all[ev.Split.Partition].take(ev))
		}
	}
	read(100)
	must(t, k.Kill())
	must(t, k.Start(ctx))
	must(t, p.Produce(ctx, name, append(records(0, 5000, 6000), records(1, 5000, 6000)...))) // over connections that are dead
	read(12_000)
	check(t, all, 0, 0, 6000)
	check(t, all, 1, 0, 6000)
}

// Stop and Start, with positions of before.
func TestKafkaRestartResumes(t *testing.T) {
	k := kafka(t)
	p, name := topic(t, k, 1, nil)
	must(t, p.Produce(t.Context(), name, records(0, 0, 1000)))
	all, err := drain(t.Context(), sourceConfig(k, name), nil)
	must(t, err)
	must(t, p.Produce(t.Context(), name, records(0, 1000, 1500)))
	must(t, k.Stop())
	must(t, k.Start(t.Context()))
	rest, err := drain(t.Context(), sourceConfig(k, name), map[pipeline.Split]pipeline.Position{{Topic: name}: all[0].next})
	must(t, err)
	check(t, rest, 0, 1000, 1500)
}

// Records of an aborted transaction are not delivered, those of a committed one are, and
// the positions pass over the markers.
func TestKafkaTransactions(t *testing.T) {
	k := kafka(t)
	p, name := topic(t, k, 1, nil)
	tx, err := k.Transactions(t.Context(), name, 0)
	must(t, err)
	must(t, p.Produce(t.Context(), name, records(0, 0, 2)))
	must(t, tx.Write(t.Context(), records(0, 2, 5)))
	must(t, tx.End(t.Context(), true))
	must(t, tx.Write(t.Context(), records(0, 900, 950)))
	must(t, tx.Write(t.Context(), records(0, 950, 960)))
	must(t, tx.End(t.Context(), false))
	must(t, p.Produce(t.Context(), name, records(0, 5, 6)))
	must(t, tx.Write(t.Context(), records(0, 6, 7)))
	must(t, tx.End(t.Context(), true))

	all, err := drain(t.Context(), sourceConfig(k, name), nil)
	must(t, err)
	check(t, all, 0, 0, 7)
	if want := int64(7 + 60 + 3); all[0].next.Offset != want { // seven, aborted, markers
		t.Errorf("position %d at the end, want %d", all[0].next.Offset, want)
	}

	// A transaction that is open at Open is beyond the bounded end: it is not committed.
	must(t, tx.Write(t.Context(), records(0, 7, 9)))
	must(t, p.Produce(t.Context(), name, records(0, 9, 10)))
	open, err := drain(t.Context(), sourceConfig(k, name), nil)
	must(t, err)
	check(t, open, 0, 0, 7)
	must(t, tx.End(t.Context(), true))
	all, err = drain(t.Context(), sourceConfig(k, name), nil)
	must(t, err)
	check(t, all, 0, 0, 10)
}

// Records that the broker has deleted: an error that says so, or a gap by configuration.
func TestKafkaAgedOut(t *testing.T) {
	k := kafka(t)
	p, name := topic(t, k, 1, nil)
	must(t, p.Produce(t.Context(), name, records(0, 0, 100)))
	all, err := drain(t.Context(), sourceConfig(k, name), nil)
	must(t, err)
	at := all[0].next
	must(t, p.Produce(t.Context(), name, records(0, 100, 200)))
	must(t, k.DeleteRecords(t.Context(), name, 0, 150))
	must(t, p.Produce(t.Context(), name, records(0, 200, 210)))

	from := map[pipeline.Split]pipeline.Position{{Topic: name}: at}
	cfg := sourceConfig(k, name)
	if _, err := drain(t.Context(), cfg, from); !errors.Is(err, source.ErrAgedOut) {
		t.Errorf("source at a deleted offset: %v, want %v", err, source.ErrAgedOut)
	}
	cfg.OnGap = source.SkipAndRecord
	all, err = drain(t.Context(), cfg, from)
	must(t, err)
	check(t, all, 0, 150, 210)
	if len(all[0].gaps) != 1 || all[0].gaps[0] != "aged_out 100..150" {
		t.Errorf("gaps %q, want aged_out 100..150", all[0].gaps)
	}
	all, err = drain(t.Context(), sourceConfig(k, name), nil) // a job without positions starts at the log start
	must(t, err)
	check(t, all, 0, 150, 210)
}

// A topic that was deleted and made again is not the one that was read.
func TestKafkaRecreatedTopic(t *testing.T) {
	k := kafka(t)
	p, name := topic(t, k, 1, nil)
	must(t, p.Produce(t.Context(), name, records(0, 0, 100)))
	all, err := drain(t.Context(), sourceConfig(k, name), nil)
	must(t, err)
	client := &kafkago.Client{Addr: kafkago.TCP(k.Addr()), Timeout: 10 * time.Second}
	res, err := client.DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{name}})
	must(t, err)
	must(t, res.Errors[name])
	time.Sleep(time.Second) // the broker deletes in its own time
	must(t, producer(t, k).CreateTopic(t.Context(), name, 1, nil))
	must(t, p.Produce(t.Context(), name, records(0, 500, 700)))
	_, err = drain(t.Context(), sourceConfig(k, name), map[pipeline.Split]pipeline.Position{{Topic: name}: all[0].next})
	if !errors.Is(err, source.ErrReplaced) {
		t.Errorf("source on a topic that was made anew: %v, want %v", err, source.ErrReplaced)
	}
}

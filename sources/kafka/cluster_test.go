package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
)

const topic = "t"

// t0 is the broker timestamp of record 0 in tests, in milliseconds.
const t0 = 1_700_000_000_000

type cluster struct {
	*kfake.Cluster
	t  *testing.T
	tr *kafkago.Transport
}

func newCluster(t *testing.T, opts ...kfake.Opt) *cluster {
	t.Helper()
	k, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Cluster: k, t: t, tr: &kafkago.Transport{MetadataTTL: 200 * time.Millisecond}}
	t.Cleanup(func() {
		c.tr.CloseIdleConnections()
		k.Close()
	})
	return c
}

func (c *cluster) config() Config {
	cfg := DefaultConfig()
	cfg.Brokers = c.ListenAddrs()
	cfg.Topic = topic
	cfg.FetchWait = 20 * time.Millisecond
	cfg.OpenTimeout = 5 * time.Second
	return cfg
}

func (c *cluster) client() *kafkago.Client {
	return &kafkago.Client{Addr: kafkago.TCP(c.ListenAddrs()...), Transport: c.tr}
}

// rec is the record that tests write at an offset: every third key and every fourth value
// is null.
func rec(part int, off int64) kafkago.Record {
	r := kafkago.Record{Time: time.UnixMilli(t0 + off)}
	if off%3 != 0 {
		r.Key = kafkago.NewBytes(fmt.Appendf(nil, "k%d-%d", part, off))
	}
	if off%4 != 0 {
		r.Value = kafkago.NewBytes(fmt.Appendf(nil, `{"part":%d,"off":%d,"pad":"0123456789"}`, part, off))
	}
	if off%5 == 0 {
		r.Headers = []kafkago.Header{{Key: "h", Value: []byte("v")}, {Key: "n"}}
	}
	return r
}

// write appends records from..to of a partition as one batch.
func (c *cluster) write(part int, from, to int64, codec kafkago.Compression) {
	c.t.Helper()
	c.produce(part, codec, func() []kafkago.Record {
		recs := make([]kafkago.Record, 0, to-from)
		for o := from; o < to; o++ {
			recs = append(recs, rec(part, o))
		}
		return recs
	})
}

// produce appends one batch. recs is called for every try, since sending consumes records.
func (c *cluster) produce(part int, codec kafkago.Compression, recs func() []kafkago.Record) {
	c.t.Helper()
	var err error
	for range 50 {
		var res *kafkago.ProduceResponse
		res, err = c.client().Produce(context.Background(), &kafkago.ProduceRequest{
			Topic: topic, Partition: part, RequiredAcks: kafkago.RequireAll,
			Compression: codec, Records: kafkago.NewRecordReader(recs()...),
		})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Error(err)
}

// writeTxn appends one batch of a transaction. kafka-go writes no producer ids, so the
// batch is edited and sent as it is.
func (c *cluster) writeTxn(id string, producer, epoch int, part int, seq int32, recs ...kafkago.Record) {
	c.t.Helper()
	b := edit(batchOf(c.t, 0, kafkago.Lz4, recs...), func(b []byte) {
		attrs(attrTxn, int64(producer))(b)
		binary.BigEndian.PutUint16(b[51:], uint16(epoch))
		binary.BigEndian.PutUint32(b[53:], uint32(seq))
	})
	b = append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	res, err := c.client().RawProduce(c.t.Context(), &kafkago.RawProduceRequest{
		Topic: topic, Partition: part, RequiredAcks: kafkago.RequireAll, TransactionalID: id,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(b)},
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func open(t *testing.T, cfg Config, from map[pipeline.Split]pipeline.Position) *Source {
	t.Helper()
	s, err := Open(t.Context(), cfg, slog.New(slog.NewTextHandler(testLog{t}, nil)), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(string(b[:len(b)-1]))
	}
	return len(b), nil
}

// next returns the next event within ten seconds.
func next(t *testing.T, s *Source) pipeline.Event {
	t.Helper()
	ev, err := nextOr(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func nextOr(t *testing.T, s *Source) (pipeline.Event, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ev, err := s.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("no event for ten seconds")
	}
	return ev, err
}

// reader checks the records it takes against rec, and that offsets follow each other.
type reader struct {
	t    *testing.T
	s    *Source
	at   map[int32]int64
	pos  map[pipeline.Split]pipeline.Position
	skip func(part int32, off int64) bool // offsets that hold no record
	rows int
}

func newReader(t *testing.T, s *Source) *reader {
	return &reader{t: t, s: s, at: map[int32]int64{}, pos: map[pipeline.Split]pipeline.Position{}}
}

// take handles one event and returns it.
func (r *reader) take() pipeline.Event {
	r.t.Helper()
	ev := next(r.t, r.s)
	p := ev.Split.Partition
	switch ev.Kind {
	case pipeline.NewSplit, pipeline.GapFound:
		r.at[p] = ev.Position.Offset
		r.pos[ev.Split] = ev.Position
	case pipeline.Rows:
		r.rows += ev.Wire.Len()
		r.pos[ev.Split] = ev.Wire.Next
		for i, off := range ev.Wire.Offset {
			for r.skip != nil && r.skip(p, r.at[p]) {
				r.at[p]++
			}
			if off != r.at[p] {
				r.t.Fatalf("%s: offset %d after %d", ev.Split, off, r.at[p])
			}
			r.at[p]++
			want := rec(int(p), off)
			checkBytes(r.t, "key", off, ev.Wire.Key(i), want.Key)
			checkBytes(r.t, "value", off, ev.Wire.Value(i), want.Value)
			if ev.Wire.Ingest[i] != (t0+off)*1000 {
				r.t.Fatalf("%s@%d: ingest %d", ev.Split, off, ev.Wire.Ingest[i])
			}
			for _, sp := range []pipeline.Span{ev.Wire.Keys[i], ev.Wire.Values[i]} {
				if sp.Len >= 0 && int(sp.At+sp.Len)+slack > len(ev.Wire.Data) {
					r.t.Fatalf("%s@%d: span %v has no slack", ev.Split, off, sp)
				}
			}
		}
		if n := ev.Wire.Next.Offset; n < r.at[p] {
			r.t.Fatalf("%s: next %d behind %d", ev.Split, n, r.at[p])
		}
	}
	return ev
}

func checkBytes(t *testing.T, what string, off int64, got []byte, want kafkago.Bytes) {
	t.Helper()
	if want == nil {
		if got != nil {
			t.Fatalf("%s@%d: %q, want null", what, off, got)
		}
		return
	}
	w, err := protocol.ReadAll(want)
	if err != nil {
		t.Fatal(err)
	}
	if got == nil || string(got) != string(w) {
		t.Fatalf("%s@%d: %q, want %q", what, off, got, w)
	}
}

// until takes events until n rows have come in all.
func (r *reader) until(n int) {
	r.t.Helper()
	for r.rows < n {
		r.take()
	}
	if r.rows != n {
		r.t.Fatalf("%d rows, want %d", r.rows, n)
	}
}

// kind takes events until one of the kind comes.
func (r *reader) kind(k pipeline.EventKind) pipeline.Event {
	r.t.Helper()
	for {
		if ev := r.take(); ev.Kind == k {
			return ev
		}
	}
}

func part(p int32) pipeline.Split { return pipeline.Split{Topic: topic, Partition: p} }

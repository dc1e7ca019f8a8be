package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/endtxn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark/tidemark/pipeline"
)

// rows returns the positions after n rows in all.
func positions(t *testing.T, s *Source, n int) map[pipeline.Split]pipeline.Position {
	t.Helper()
	r := newReader(t, s)
	r.until(n)
	return r.pos
}

func TestGoesOnWhereItStopped(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, topic))
	for p := range 4 {
		c.write(p, 0, 6000, codecs[p])
	}
	s := open(t, c.config(), nil)
	r := newReader(t, s)
	for r.rows < 9000 {
		r.take()
	}
	s.Close()
	for p := range 4 {
		c.write(p, 6000, 6100, codecs[p])
	}
	r.s = open(t, c.config(), r.pos)
	r.until(4 * 6100)
	// And from the end, where only the check of the last batch reads anything.
	r.s = open(t, c.config(), r.pos)
	for p := range 4 {
		c.write(p, 6100, 6101, 0)
	}
	r.until(4 * 6101)
}

func TestLeaderMovesAndConnectionsBreak(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(6, topic))
	cfg := c.config()
	s := open(t, cfg, nil)
	r := newReader(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := int64(0); i < 60; i++ {
			for p := range 6 {
				c.write(p, i*20, i*20+20, codecs[int(i)%5])
			}
			switch i % 20 {
			case 5:
				c.ShufflePartitionLeaders()
			case 9:
				_ = c.MoveTopicPartition(topic, 2, int32(i/20))
			case 13:
				s.conns.cut(false) // all connections at once
			case 17:
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 3})
			case 19:
				c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
					return nil, errors.New("cut"), true
				})
			}
		}
		close(stop)
	})
	r.until(6 * 60 * 20)
	<-stop
	wg.Wait()
}

func TestBrokerAwayAndBack(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, topic))
	for p := range 3 {
		c.write(p, 0, 100, 0)
	}
	s := open(t, c.config(), nil)
	r := newReader(t, s)
	r.until(300)
	if err := c.RemoveNode(1); err != nil {
		t.Fatal(err)
	}
	for p := range 3 {
		c.write(p, 100, 200, kafkago.Zstd)
	}
	r.until(600)
	if _, _, err := c.AddNode(7, 0); err != nil {
		t.Fatal(err)
	}
	for p := range int32(3) {
		if err := c.MoveTopicPartition(topic, p, 7); err != nil {
			t.Fatal(err)
		}
	}
	for p := range 3 {
		c.write(p, 200, 300, kafkago.Zstd)
	}
	r.until(900)
}

// Connections that go dumb without closing are given up after StallAfter.
func TestStalledConnections(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, topic))
	c.write(0, 0, 10, 0)
	var dumb atomic.Int64 // connections made before are
	hold := make(chan struct{})
	px := newProxy(t, c.ListenAddrs(), func(born time.Time, _ []byte) {
		if born.UnixNano() < dumb.Load() {
			<-hold
		}
	})
	cfg := c.config()
	cfg.StallAfter = 300 * time.Millisecond
	s := openVia(t, cfg, px)
	r := newReader(t, s)
	r.until(10)
	dumb.Store(time.Now().UnixNano())
	c.write(0, 10, 20, 0)
	r.until(20)
	close(hold)
}

func TestAgedOut(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, topic))
	for o := int64(0); o < 100; o += 10 {
		c.write(0, o, o+10, 0)
	}
	at := positions(t, open(t, c.config(), nil), 100)
	pos := at[part(0)]
	pos.Offset, pos.LastBatch = 15, 10
	if err := c.DeleteRecords(topic, 0, 40); err != nil {
		t.Fatal(err)
	}
	from := map[pipeline.Split]pipeline.Position{part(0): pos}
	_, err := Open(t.Context(), c.config(), nil, from)
	if !errors.Is(err, ErrAgedOut) || !strings.Contains(err.Error(), "15..40") || !strings.Contains(err.Error(), "on_gap") {
		t.Fatal(err)
	}
	cfg := c.config()
	cfg.OnGap = SkipAndRecord
	r := newReader(t, open(t, cfg, from))
	r.take()
	if ev := r.take(); ev.Kind != pipeline.GapFound || ev.From != 15 || ev.To != 40 || ev.Reason != GapAgedOut || ev.Position.Offset != 40 {
		t.Fatalf("%+v", ev)
	}
	r.until(60)

	// The position is above the log start and its last batch is gone: nothing to check.
	keep := at[part(0)]
	keep.Offset, keep.LastBatch, keep.LastCRC = 40, 30, 1
	r = newReader(t, open(t, c.config(), map[pipeline.Split]pipeline.Position{part(0): keep}))
	r.until(60)
}

// Offsets age out under a consumer that is paused.
func TestAgesOutWhileRunning(t *testing.T) {
	for _, skip := range []bool{false, true} {
		c := newCluster(t, kfake.SeedTopics(1, topic))
		c.write(0, 0, 10, 0)
		cfg := c.config()
		if skip {
			cfg.OnGap = SkipAndRecord
		}
		s := open(t, cfg, nil)
		r := newReader(t, s)
		r.until(10)
		s.Pause([]pipeline.Split{part(0)})
		time.Sleep(3 * cfg.FetchWait)
		c.write(0, 10, 20, 0)
		c.write(0, 20, 30, 0)
		if err := c.DeleteRecords(topic, 0, 20); err != nil {
			t.Fatal(err)
		}
		s.Pause(nil)
		if skip {
			if ev := r.kind(pipeline.GapFound); ev.From != 10 || ev.To != 20 {
				t.Fatalf("%+v", ev)
			}
			r.until(20)
			continue
		}
		if err := lastError(t, s); !errors.Is(err, ErrAgedOut) {
			t.Fatal(err)
		}
	}
}

func lastError(t *testing.T, s *Source) error {
	t.Helper()
	for {
		if _, err := nextOr(t, s); err != nil {
			return err
		}
	}
}

func TestPastTheEnd(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, topic))
	c.write(0, 0, 10, 0)
	from := map[pipeline.Split]pipeline.Position{part(0): {Offset: 50, LeaderEpoch: -1, LastBatch: 40, LastCRC: 1, LastIngest: 5}}
	_, err := Open(t.Context(), c.config(), nil, from)
	if !errors.Is(err, ErrPastEnd) || !strings.Contains(err.Error(), "50") || !strings.Contains(err.Error(), "truncated") {
		t.Fatal(err)
	}
	cfg := c.config()
	cfg.OnGap = SkipAndRecord
	r := newReader(t, open(t, cfg, from))
	r.take()
	if ev := r.take(); ev.Kind != pipeline.GapFound || ev.From != 10 || ev.To != 50 || ev.Reason != GapTruncated || ev.Position.Offset != 10 || ev.Position.LastIngest != 5 {
		t.Fatalf("%+v", ev)
	}
	c.write(0, 10, 12, 0)
	r.until(2)
}

func TestRecreatedTopic(t *testing.T) {
	for _, fewer := range []bool{true, false} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("fewer=%v running=%v", fewer, running), func(t *testing.T) {
				c := newCluster(t, kfake.SeedTopics(1, topic))
				c.write(0, 0, 50, 0)
				cfg := c.config()
				s := open(t, cfg, nil)
				r := newReader(t, s)
				r.until(50)
				if !running {
					s.Close()
				}
				if err := c.DeleteTopic(topic); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * cfg.FetchWait)
				if err := c.CreateTopic(topic, 1, nil); err != nil {
					t.Fatal(err)
				}
				n := int64(80)
				if fewer {
					n = 20
				}
				c.write(0, 0, n, kafkago.Snappy)
				kind := ErrReplaced
				if fewer && !running {
					kind = ErrPastEnd // else the check of the last batch comes first
				}
				var err error
				if running {
					err = lastError(t, s)
				} else if s, err = Open(t.Context(), cfg, nil, r.pos); err == nil {
					err = lastError(t, s)
					s.Close()
				}
				if !errors.Is(err, kind) || !strings.Contains(err.Error(), "re-created") || !strings.Contains(err.Error(), "t/0") {
					t.Fatal(err)
				}
				cfg.OnGap = SkipAndRecord
				r2 := newReader(t, open(t, cfg, r.pos))
				if ev := r2.kind(pipeline.GapFound); ev.From != 50 || ev.To != 50 || ev.Reason != GapRecreated || ev.Position.Offset != 0 {
					t.Fatalf("%+v", ev)
				}
				r2.until(int(n))
			})
		}
	}
}

func TestCorruptBatch(t *testing.T) {
	for _, skip := range []bool{false, true} {
		c := newCluster(t, kfake.SeedTopics(1, topic))
		for o := int64(0); o < 40; o += 10 {
			c.write(0, o, o+10, 0)
		}
		cfg := c.config()
		if skip {
			cfg.OnGap = SkipAndRecord
		}
		s := open(t, cfg, nil)
		r := newReader(t, s)
		r.until(40)
		pos := r.pos[part(0)]
		s.Close()
		// Read again through a proxy that turns a bit of the third batch.
		px := newProxy(t, c.ListenAddrs(), func(_ time.Time, b []byte) {
			if i := bytes.Index(b, []byte(`"off":22,`)); i >= 0 {
				b[i] ^= 1
			}
		})
		cfg.Brokers = px.addrs
		s = openVia(t, cfg, px)
		r = newReader(t, s)
		if skip {
			if ev := r.kind(pipeline.GapFound); ev.From != 20 || ev.To != 30 || ev.Reason != GapCorrupt {
				t.Fatalf("%+v", ev)
			}
			r.until(30)
			if r.pos[part(0)] != pos {
				t.Errorf("%+v, want %+v", r.pos[part(0)], pos)
			}
			continue
		}
		r.until(20)
		if err := lastError(t, s); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "offset 20") {
			t.Fatal(err)
		}
	}
}

// proxy changes what brokers send.
type proxy struct {
	addrs []string
	to    map[string]string
}

func newProxy(t *testing.T, brokers []string, change func(time.Time, []byte)) *proxy {
	t.Helper()
	p := &proxy{to: map[string]string{}}
	for _, b := range brokers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p.addrs = append(p.addrs, b)
		p.to[b] = l.Addr().String()
		go func() {
			for {
				in, err := l.Accept()
				if err != nil {
					return
				}
				out, err := net.Dial("tcp", b)
				if err != nil {
					in.Close()
					return
				}
				go pipe(out, in, nil)
				go pipe(in, out, change)
			}
		}()
	}
	return p
}

func pipe(to, from net.Conn, change func(time.Time, []byte)) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 1<<20)
	born := time.Now()
	for {
		n, err := from.Read(b)
		if change != nil {
			change(born, b[:n])
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// openVia opens a source whose connections all go through the proxy.
func openVia(t *testing.T, cfg Config, p *proxy) *Source {
	t.Helper()
	s, err := Open(t.Context(), cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, err = openWith(t.Context(), cfg, nil, nil, func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, p.to[address])
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTransactions(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, topic))
	init, err := c.client().InitProducerID(t.Context(), &kafkago.InitProducerIDRequest{
		TransactionalID: "x", TransactionTimeoutMs: 60_000, ProducerID: -1, ProducerEpoch: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if init.Error != nil {
		t.Fatal(init.Error)
	}
	id, epoch := init.Producer.ProducerID, init.Producer.ProducerEpoch
	seq := int32(0)
	txn := func(from, to int64, commit bool) {
		t.Helper()
		add, err := c.client().AddPartitionsToTxn(t.Context(), &kafkago.AddPartitionsToTxnRequest{
			TransactionalID: "x", ProducerID: id, ProducerEpoch: epoch,
			Topics: map[string][]kafkago.AddPartitionToTxn{topic: {{Partition: 0}}},
		})
		if err != nil || add.Topics[topic][0].Error != nil {
			t.Fatal(err, add)
		}
		var rs []kafkago.Record
		for o := from; o < to; o++ {
			rs = append(rs, rec(0, o))
		}
		c.writeTxn("x", id, epoch, 0, seq, rs...)
		seq += int32(to - from)
		m, err := c.tr.RoundTrip(t.Context(), kafkago.TCP(c.ListenAddrs()...), &endtxn.Request{
			TransactionalID: "x", ProducerID: int64(id), ProducerEpoch: int16(epoch), Committed: commit,
		})
		if err != nil {
			t.Fatal(err)
		}
		if code := m.(*endtxn.Response).ErrorCode; code != 0 {
			t.Fatal(kafkago.Error(code))
		}
	}
	txn(0, 5, true)  // marker at 5
	txn(6, 9, false) // marker at 9
	c.write(0, 10, 12, 0)
	txn(12, 15, false) // marker at 15
	txn(16, 20, true)  // marker at 20
	txn(21, 24, false) // marker at 24
	gone := map[int64]bool{5: true, 6: true, 7: true, 8: true, 9: true, 12: true, 13: true, 14: true, 15: true, 20: true, 21: true, 22: true, 23: true, 24: true}
	r := newReader(t, open(t, c.config(), nil))
	r.skip = func(_ int32, off int64) bool { return gone[off] }
	r.until(5 + 2 + 4)
	ev := r.kind(pipeline.LogEnd)
	if p := r.pos[part(0)]; p.Offset != 25 || p.LastIngest != (t0+19)*1000 || ev.Empty {
		t.Fatalf("%+v %+v", p, ev)
	}
	// From the end again: the last batch is a marker.
	r.s = open(t, c.config(), r.pos)
	c.write(0, 25, 26, 0)
	r.skip, r.at[0] = nil, 25
	r.until(12)
}

func TestLogEnd(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, topic))
	c.write(0, 0, 10, 0)
	s := open(t, c.config(), nil)
	r := newReader(t, s)
	ends := map[int32]pipeline.Event{}
	for len(ends) < 3 || ends[2].Seen != (t0+9)*1000 {
		ev := r.kind(pipeline.LogEnd)
		if ev.Seen < ends[ev.Split.Partition].Seen && ends[ev.Split.Partition].Kind == pipeline.LogEnd {
			t.Fatalf("%+v after %+v", ev, ends[ev.Split.Partition])
		}
		ends[ev.Split.Partition] = ev
	}
	if e := ends[0]; e.Empty || e.Seen != pipeline.MinTicks {
		t.Errorf("%+v", e)
	}
	if !ends[1].Empty || !ends[2].Empty {
		t.Errorf("%+v", ends)
	}
	for ends[1].Seen != (t0+9)*1000 {
		ends[1] = r.kind(pipeline.LogEnd)
	}
	// Nothing new, nothing told.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if ev, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%+v %v", ev, err)
	}
	// Rows of split 1 tell the others, and 1 is no longer empty.
	c.write(1, 0, 100, 0)
	got := map[int32]bool{}
	for len(got) < 3 {
		ev := r.kind(pipeline.LogEnd)
		p := ev.Split.Partition
		switch {
		case p == 1 && !ev.Empty && ev.Seen == (t0+9)*1000, p != 1 && ev.Seen == (t0+99)*1000 && r.rows == 110:
			got[p] = true
		}
	}
}

// Seen never runs ahead of the stream: when a LogEnd says s, a record of that broker
// timestamp from another split has been delivered.
func TestSeenIsInTheStream(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(8, topic))
	s := open(t, c.config(), nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := int64(0); i < 40; i++ {
			c.write(int(i%8), i/8*50, i/8*50+50, codecs[i%5])
		}
	})
	r := newReader(t, s)
	newest := map[int32]int64{}
	for r.rows < 40*50 {
		ev := r.take()
		p := ev.Split.Partition
		if ev.Kind == pipeline.Rows {
			for _, ts := range ev.Wire.Ingest {
				newest[p] = max(newest[p], ts)
			}
		}
		if ev.Kind == pipeline.LogEnd && ev.Seen != pipeline.MinTicks {
			best := int64(0)
			for q, ts := range newest {
				if q != p {
					best = max(best, ts)
				}
			}
			if ev.Seen > best {
				t.Fatalf("split %d: seen %d, delivered %d", p, ev.Seen, best)
			}
		}
	}
	wg.Wait()
}

func TestDiscovery(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, topic))
	c.write(0, 0, 5, 0)
	cfg := c.config()
	cfg.DiscoverEvery = 50 * time.Millisecond
	cfg.Start = Latest
	s := open(t, cfg, nil)
	r := newReader(t, s)
	for p := range int32(2) {
		if ev := r.take(); ev.Kind != pipeline.NewSplit || ev.Position.Offset != int64(5-5*p) {
			t.Fatalf("%+v", ev)
		}
	}
	res, err := c.client().CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{Topics: []kafkago.TopicPartitionsConfig{{Name: topic, Count: 4}}})
	if err != nil || res.Errors[topic] != nil {
		t.Fatal(err, res)
	}
	c.write(3, 0, 7, 0)
	found := map[int32]bool{}
	for len(found) < 2 {
		if ev := r.kind(pipeline.NewSplit); ev.Position.Offset != 0 {
			t.Fatalf("%+v", ev)
		} else {
			found[ev.Split.Partition] = true
		}
	}
	r.until(7)
	if !found[2] || !found[3] || len(s.Lag()) != 4 {
		t.Errorf("%v %v", found, s.Lag())
	}
	// After a restart a partition without a position is new, also with start: latest.
	s.Close()
	delete(r.pos, part(3))
	r2 := newReader(t, open(t, cfg, r.pos))
	r2.until(7)
}

func TestStart(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, topic))
	for o := int64(0); o < 100; o += 5 {
		c.write(0, o, o+5, 0)
	}
	for _, tc := range []struct {
		start string
		ms    int64
		want  int64
	}{{Earliest, 0, 0}, {Latest, 0, 100}, {Timestamp, 42, 42}, {Timestamp, -10, 0}, {Timestamp, 1000, 100}} {
		cfg := c.config()
		cfg.Start = tc.start
		if tc.start == Timestamp {
			cfg.StartTime = time.UnixMilli(t0 + tc.ms)
		}
		s := open(t, cfg, nil)
		if ev := next(t, s); ev.Position.Offset != tc.want {
			t.Errorf("%s %d: %d", tc.start, tc.ms, ev.Position.Offset)
		}
		s.Close()
	}
}

func TestBoundedEnds(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, topic))
	c.write(0, 0, 100, 0)
	c.write(1, 0, 50, 0)
	cfg := c.config()
	cfg.Bounded = true
	s := open(t, cfg, map[pipeline.Split]pipeline.Position{part(1): {Offset: 50, LeaderEpoch: -1, LastBatch: -1, LastIngest: 1}})
	c.write(0, 100, 200, 0) // behind the frozen end
	c.write(2, 0, 5, 0)
	r := newReader(t, s)
	ends := []int32{}
	for {
		ev, err := nextOr(t, s)
		if err != nil {
			break
		}
		switch ev.Kind {
		case pipeline.EndOfSplit:
			ends = append(ends, ev.Split.Partition)
		case pipeline.Rows:
			r.rows += ev.Wire.Len()
		case pipeline.LogEnd:
			t.Errorf("%+v", ev)
		}
	}
	if fmt.Sprint(ends) != "[1 2 0]" || r.rows != 100 {
		t.Errorf("ends %v, %d rows", ends, r.rows)
	}
}

// What compaction took at the end of the log cannot be waited for, but is not believed at
// once.
func TestNothingLeftBeforeTheEnd(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, topic))
	c.write(0, 0, 10, 0)
	empty := 0
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req := r.(*kmsg.FetchRequest)
		if req.Topics[0].Partitions[0].FetchOffset >= 10 {
			return nil, nil, false
		}
		c.KeepControl()
		empty++
		res := req.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset, p.RecordBatches = 10, 10, []byte{}
		res.Topics = []kmsg.FetchResponseTopic{{Topic: topic, Partitions: []kmsg.FetchResponseTopicPartition{p}}}
		return res, nil, true
	})
	r := newReader(t, open(t, c.config(), nil))
	ev := r.kind(pipeline.LogEnd)
	if p := r.pos[part(0)]; p.Offset != 10 || p.LastBatch != -1 || !ev.Empty || empty != suspectTries {
		t.Errorf("%+v %+v after %d", p, ev, empty)
	}
	c.write(0, 10, 12, 0)
	r.at[0] = 10
	r.until(2)
}

func TestBackPressure(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, topic))
	pad := bytes.Repeat([]byte("0123456789abcdef"), 64)
	const batches, per = 40, 100
	for p := range 4 {
		for range batches {
			c.produce(p, kafkago.Zstd, func() (rs []kafkago.Record) { // 100 kB in memory
				for range per {
					rs = append(rs, kafkago.Record{Time: time.UnixMilli(t0), Value: kafkago.NewBytes(pad)})
				}
				return rs
			})
		}
	}
	cfg := c.config()
	cfg.BufferBytes = 1 << 20
	cfg.MaxBatchBytes = 64 << 10
	s := open(t, cfg, nil)
	fetches := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	peak, last := int64(0), -1
	for i := 0; ; i++ {
		time.Sleep(50 * time.Millisecond)
		peak = max(peak, s.Buffered())
		if i > 5 && fetches.Hits() == last {
			break
		}
		last = fetches.Hits()
		if i > 200 {
			t.Fatal("it goes on fetching")
		}
	}
	if peak > cfg.BufferBytes/2 || peak < cfg.BufferBytes/4 {
		t.Errorf("%d bytes wait, budget %d", peak, cfg.BufferBytes/2)
	}
	rows := 0
	for rows < 4*batches*per {
		ev := next(t, s)
		if ev.Kind == pipeline.Rows {
			rows += ev.Wire.Len()
		}
		if b := s.Buffered(); b > cfg.BufferBytes/2 {
			t.Fatalf("%d bytes wait", b)
		}
	}
}

// One Wire that is larger than the whole buffer passes alone.
func TestRecordLargerThanLimits(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, topic), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "8000000"}))
	big := bytes.Repeat([]byte("x"), 1<<20)
	one := func() []kafkago.Record { return []kafkago.Record{{Value: kafkago.NewBytes(big)}} }
	for range 3 {
		c.produce(0, 0, one)
	}
	c.produce(0, kafkago.Gzip, one)
	cfg := c.config()
	cfg.BufferBytes, cfg.FetchMaxBytes, cfg.MaxBatchBytes, cfg.DecompressLimit = 1<<17, 1<<12, 1<<10, 1<<19
	s := open(t, cfg, nil)
	for off := int64(0); off < 4; {
		ev := next(t, s)
		if ev.Kind != pipeline.Rows {
			continue
		}
		for i := range ev.Wire.Len() {
			if off < 3 && !bytes.Equal(ev.Wire.Value(i), big) {
				t.Fatal("value")
			}
			if off == 3 && (ev.Wire.Fault != FaultDecompressLimit || ev.Wire.Value(i) != nil || ev.Wire.Offset[i] != 3) {
				t.Fatalf("%+v", ev.Wire)
			}
			off++
		}
	}
}

func TestPause(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, topic))
	s := open(t, c.config(), nil)
	r := newReader(t, s)
	s.Pause([]pipeline.Split{part(0)})
	time.Sleep(100 * time.Millisecond) // the fetch that asked for it ends
	c.write(0, 0, 10, 0)
	c.write(1, 0, 10, 0)
	r.until(10)
	time.Sleep(100 * time.Millisecond)
	if r.at[0] != 0 {
		t.Fatal("rows of a paused split")
	}
	if l := s.Lag()[part(1)]; l.Position != 10 || l.HighWatermark != 10 {
		t.Errorf("%+v", l)
	}
	s.Pause(nil)
	r.until(20)
}

func TestCommit(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, topic))
	c.write(0, 0, 10, 0)
	cfg := c.config()
	cfg.Group = "g"
	s := open(t, cfg, nil)
	r := newReader(t, s)
	r.until(10)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.NotCoordinator, Count: 1})
	if err := s.Commit(t.Context(), r.pos); err != nil {
		t.Fatal(err)
	}
	res, err := c.client().OffsetFetch(t.Context(), &kafkago.OffsetFetchRequest{GroupID: "g", Topics: map[string][]int{topic: {0, 1}}})
	if err != nil || res.Topics[topic][0].CommittedOffset != 10 || res.Topics[topic][1].CommittedOffset != 0 {
		t.Fatal(err, res)
	}
}

func TestCloseIsPromptAndLeavesNothing(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, topic))
	c.write(0, 0, 10, 0)
	time.Sleep(300 * time.Millisecond)
	c.tr.CloseIdleConnections()
	time.Sleep(200 * time.Millisecond)
	before := runtime.NumGoroutine()
	for i := range 5 {
		cfg := c.config()
		cfg.FetchWait = 5 * time.Second
		cfg.BufferBytes = 1 << 16
		s, err := Open(t.Context(), cfg, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			newReader(t, s).until(10)
		}
		blocked := make(chan error)
		go func() {
			var err error
			for err == nil {
				_, err = s.Next(context.Background())
			}
			blocked <- err
		}()
		time.Sleep(100 * time.Millisecond)
		at := time.Now()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(at); d > 500*time.Millisecond {
			t.Errorf("close took %v", d)
		}
		if err := <-blocked; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for i := 0; runtime.NumGoroutine() > before+2; i++ { // kfake may hold a connection or two
		if i > 100 {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// The registry holds our messages, not those of kafka-go's own fetch package.
func TestFetchMessagesAreOurs(t *testing.T) {
	if v := protocol.Fetch.MinVersion(); v != 11 {
		t.Fatalf("fetch starts at version %d", v)
	}
	if v := protocol.Fetch.MaxVersion(); v != 11 {
		t.Fatalf("fetch ends at version %d", v)
	}
}

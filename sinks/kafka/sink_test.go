package kafka

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

var readingSchema = arrow.NewSchema([]arrow.Field{
	{Name: "time", Type: pipeline.Timestamp, Nullable: true},
	{Name: "device", Type: arrow.StructOf(arrow.Field{Name: "uid", Type: arrow.BinaryTypes.String})},
	{Name: "value", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{pipeline.ScaleKey: "1"})},
	{Name: "_tm_final", Type: arrow.FixedWidthTypes.Boolean},
	{Name: "_tm_del", Type: arrow.FixedWidthTypes.Boolean},
	{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
}, nil)

// julyUS is 2026-07-31T23:00:00Z.
const julyUS = 1785538800 * 1000 * 1000

// readingBatch makes rows of an epoch: without times and values here and there, some withdrawn.
func readingBatch(mem memory.Allocator, epoch int64, n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, readingSchema)
	defer b.Release()
	for i := range n {
		if i%11 == 4 {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(julyUS + int64(i)))
		}
		d := b.Field(1).(*array.StructBuilder)
		d.Append(true)
		d.FieldBuilder(0).(*array.StringBuilder).Append(fmt.Sprintf("device-%d-%d", epoch, i))
		if i%7 == 3 {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.Int64Builder).Append(int64(i))
		}
		b.Field(3).(*array.BooleanBuilder).Append(i%2 == 0)
		b.Field(4).(*array.BooleanBuilder).Append(i%5 == 2)
		b.Field(5).(*array.Int32Builder).Append(int32(i % 3))
	}
	return b.NewRecordBatch()
}

// readingTexts are the rows as text gives them.
func readingTexts(epoch int64, n int) []string {
	var out []string
	for i := range n {
		value := fmt.Sprintf(`{"time":"%s","device":{"uid":"device-%d-%d"},"value":%d.%d}`,
			time.UnixMicro(julyUS+int64(i)).UTC().Format("2006-01-02T15:04:05.999999Z"), epoch, i, i/10, i%10)
		if i%11 == 4 {
			value = "{" + value[strings.Index(value, `"device"`):]
		}
		if i%7 == 3 {
			value = value[:strings.Index(value, `,"value"`)] + "}"
		}
		del := ""
		if i%5 == 2 {
			del = " " + HeaderDel + "=true"
		}
		out = append(out, fmt.Sprintf("device-%d-%d %s %s=%d %s=%v%s", epoch, i, value, HeaderRevision, i%3, HeaderFinal, i%2 == 0, del))
	}
	return out
}

// text gives a message with the headers that belong to its row.
func text(m kafkago.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", m.Key, m.Value)
	for _, h := range m.Headers {
		if h.Key != HeaderDedup && h.Key != HeaderLineage && h.Key != HeaderEpoch {
			fmt.Fprintf(&b, " %s=%s", h.Key, h.Value)
		}
	}
	return b.String()
}

func header(m kafkago.Message, name string) string {
	for _, h := range m.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// messages reads a topic from its start, partition by partition. It does not use kafka-go's
// Fetch, whose message sources/kafka replaces.
func messages(c *kfake.Cluster, topic string) ([]kafkago.Message, error) {
	var out []kafkago.Message
	for _, p := range c.PartitionInfos(topic) {
		conn, err := kafkago.DialLeader(context.Background(), "tcp", c.ListenAddrs()[0], topic, int(p.Partition))
		if err != nil {
			return nil, err
		}
		for at := int64(0); at < p.HighWatermark; at++ {
			m, err := conn.ReadMessage(1 << 20)
			if err != nil || m.Offset != at {
				return nil, errors.Join(fmt.Errorf("%s/%d@%d: offset %d: %w", topic, p.Partition, at, m.Offset, err), conn.Close())
			}
			m.Partition = int(p.Partition)
			out = append(out, m)
		}
		if err := conn.Close(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// distinct drops repetitions as a consumer does. A repetition must be one in every byte.
func distinct(all []kafkago.Message) ([]kafkago.Message, error) {
	seen := map[string]string{}
	var out []kafkago.Message
	for _, m := range all {
		id, is := header(m, HeaderDedup), fmt.Sprint(m.Partition, m.Time.UnixMilli(), text(m))
		was, there := seen[id]
		switch {
		case id == "":
			return nil, fmt.Errorf("%s has no %s", text(m), HeaderDedup)
		case there && was != is:
			return nil, fmt.Errorf("%s is two rows:\n%s\n%s", id, was, is)
		case !there:
			seen[id] = is
			out = append(out, m)
		}
	}
	return out, nil
}

// faultTripper makes every produce request a step that can fail, or whose answer can be lost.
type faultTripper struct {
	*kafkago.Transport
	faults *pipelinetest.Faults
}

func (f faultTripper) RoundTrip(ctx context.Context, addr net.Addr, req kafkago.Request) (res kafkago.Response, err error) {
	if _, ok := req.(*produce.Request); !ok || f.faults == nil {
		return f.Transport.RoundTrip(ctx, addr, req)
	}
	err = f.faults.Do(func() (err error) {
		res, err = f.Transport.RoundTrip(ctx, addr, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func testSinkConfig(c *kfake.Cluster, topic string) SinkConfig {
	cfg := DefaultSinkConfig()
	cfg.Job, cfg.Topic, cfg.Brokers, cfg.Partitions = pipelinetest.SinkJob, topic, c.ListenAddrs(), 2
	cfg.Key, cfg.Identity = []string{"device.uid"}, []string{"device.uid"}
	cfg.BatchBytes = 1500
	return cfg
}

func openSink(cfg SinkConfig, store pipeline.Store, mem memory.Allocator, faults *pipelinetest.Faults) (*Sink, error) {
	s, err := newSink(cfg, store, readingSchema, slog.New(slog.DiscardHandler), faultTripper{&kafkago.Transport{MetadataTTL: 100 * time.Millisecond}, faults})
	if err != nil {
		return nil, err
	}
	s.mem, s.pause = mem, func(int) time.Duration { return time.Millisecond }
	return s, nil
}

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestConformance: the suite of all sinks, for a reader that drops repetitions by their header.
func TestConformance(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	c := cluster(t)
	var places atomic.Int64
	pipelinetest.TestSink(t, pipelinetest.SinkTest{
		Place: func(*testing.T) pipelinetest.SinkPlace {
			store, faults := pipelinetest.NewMemStore(), &pipelinetest.Faults{}
			cfg := testSinkConfig(c, fmt.Sprint("results-", places.Add(1)))
			return pipelinetest.SinkPlace{
				Open: func() (pipeline.Sink, error) {
					return openSink(cfg, pipelinetest.FaultStore{Store: store, Faults: faults}, mem, faults)
				},
				Read: func() ([]string, error) {
					all, err := messages(c, cfg.Topic)
					if err == nil {
						all, err = distinct(all)
					}
					var out []string
					for _, m := range all {
						out = append(out, text(m))
					}
					return out, err
				},
				Leftovers: func() ([]string, error) {
					objects, err := store.List(context.Background(), "sealed/")
					var out []string
					for _, o := range objects {
						out = append(out, o.Name)
					}
					return out, err
				},
				Faults: faults,
			}
		},
		Batch: func(n int64) arrow.RecordBatch { return readingBatch(mem, n, 40) },
		Want:  func(n int64) []string { return readingTexts(n, 40) },
	})
	mem.AssertSize(t, 0)
}

// sealed prepares one epoch of 40 rows.
func sealed(t *testing.T, s *Sink, n int64) pipeline.Receipt {
	t.Helper()
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: s.cfg.Job, Lineage: 3, N: n})
	if err != nil {
		t.Fatal(err)
	}
	rec := readingBatch(s.mem, n, 40)
	defer rec.Release()
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	raw, err := st.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func openTest(t *testing.T, cfg SinkConfig, store pipeline.Store) *Sink {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	s, err := openSink(cfg, store, mem, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		mem.AssertSize(t, 0)
	})
	return s
}

// TestPublishedAgain: where nobody recorded that an epoch was sent, it is sent again: the same
// bytes, headers and times, in the same order, to the same partitions. A reader that does not
// drop repetitions sees them, which is what the conformance test would see without its header.
func TestPublishedAgain(t *testing.T) {
	c, store := cluster(t), pipelinetest.NewMemStore()
	cfg := testSinkConfig(c, "again")
	s := openTest(t, cfg, store)
	raw := sealed(t, s, 1)
	r, err := s.open(raw)
	if err != nil {
		t.Fatal(err)
	}
	object, err := store.GetRange(t.Context(), r.Object, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	const times = 3
	for range times {
		if err := errors.Join(store.Put(t.Context(), r.Object, object), s.Publish(t.Context(), raw), store.Delete(t.Context(), s.recordName())); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, cfg, store)
	}
	all, err := messages(c, "again")
	if err != nil || len(all) != times*40 {
		t.Fatalf("%d messages, want %d, %v", len(all), times*40, err)
	}
	byPart := map[int][]string{}
	for _, m := range all {
		to := kafkago.Murmur2Balancer{Consistent: true}.Balance(kafkago.Message{Key: m.Key}, 0, 1)
		if m.Partition != to || !json.Valid(m.Value) || header(m, HeaderLineage) != "3" || header(m, HeaderEpoch) != "1" {
			t.Errorf("partition %d, want %d: %s %v", m.Partition, to, m.Value, m.Headers)
		}
		byPart[m.Partition] = append(byPart[m.Partition], header(m, HeaderDedup)+fmt.Sprint(m.Time.UnixMilli())+text(m))
	}
	for part, of := range byPart {
		n := len(of) / times
		if !slices.Equal(of[:n], of[n:2*n]) || !slices.Equal(of[:n], of[2*n:]) {
			t.Errorf("partition %d: the repetition differs", part)
		}
	}
	if once, err := distinct(all); err != nil || len(once) != 40 {
		t.Errorf("%d rows without repetitions, %v", len(once), err)
	}
}

// TestDroppedAnswers: the broker writes and the connection breaks before its answer. Every row
// is there, some twice; a reader that counts messages would be wrong, and one that drops by the
// header is right.
func TestDroppedAnswers(t *testing.T) {
	c, faults := cluster(t), &pipelinetest.Faults{}
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s, err := openSink(testSinkConfig(c, "dropped"), pipelinetest.NewMemStore(), mem, faults)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it returns nil
	var want []string
	for n := int64(1); n <= 5; n++ {
		raw := sealed(t, s, n)
		faults.Set(pipelinetest.LoseAnswer, int(n)%4+1)
		if err := s.Publish(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		if !faults.Hit() {
			t.Fatalf("epoch %d: no answer was lost", n)
		}
		want = append(want, readingTexts(n, 40)...)
	}
	all, err := messages(c, "dropped")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) <= len(want) {
		t.Errorf("%d messages of %d rows: nothing was repeated, the test tests nothing", len(all), len(want))
	}
	once, err := distinct(all)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range once {
		got = append(got, text(m))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

// TestOutcomes: what the broker says decides whether the sink goes on, and the connection that
// is cut in the middle of a request is gone over.
func TestOutcomes(t *testing.T) {
	for _, tc := range []struct {
		err  *kerr.Error
		want string // of the error, "" for none
	}{
		{kerr.NotLeaderForPartition, ""}, {kerr.NotEnoughReplicas, ""}, {kerr.RequestTimedOut, ""}, {kerr.NotEnoughReplicasAfterAppend, ""}, {kerr.ThrottlingQuotaExceeded, ""},
		{kerr.MessageTooLarge, "no repetition helps"}, {kerr.TopicAuthorizationFailed, "no repetition helps"}, {kerr.InvalidRecord, "no repetition helps"},
	} {
		t.Run(tc.err.Message, func(t *testing.T) {
			c := cluster(t)
			s := openTest(t, testSinkConfig(c, "outcomes"), pipelinetest.NewMemStore())
			raw := sealed(t, s, 1)
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: tc.err, Count: 3})
			err := s.Publish(t.Context(), raw)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("Publish = %v", err)
			}
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: tc.err, Count: 0})
			// Once it is fixed the same receipt is published.
			for range 4 {
				if err = s.Publish(t.Context(), raw); err == nil {
					break
				}
			}
			all, rerr := messages(c, "outcomes")
			once, derr := distinct(all)
			if err = errors.Join(err, rerr, derr); err != nil || len(once) != 40 {
				t.Fatalf("%d rows, want 40, %v", len(once), err)
			}
		})
	}
}

func TestTopicMissing(t *testing.T) {
	c := cluster(t)
	cfg := testSinkConfig(c, "missing")
	cfg.Create = "never"
	s := openTest(t, cfg, pipelinetest.NewMemStore())
	err := s.Ready(t.Context())
	if !errors.Is(err, ErrUnknownTopic) || !strings.Contains(err.Error(), "create: auto") {
		t.Fatalf("Ready = %v", err)
	}
	var said bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&said, nil))
	s.cfg.Create = "auto"
	if err := s.Ready(t.Context()); err != nil || !strings.Contains(said.String(), Promise) {
		t.Fatalf("Ready = %v, log %q", err, said.String())
	}
	if n := len(c.PartitionInfos("missing")); n != 2 {
		t.Errorf("%d partitions", n)
	}
	// One that is there keeps its partitions.
	cfg.Partitions, cfg.Create = 7, "auto"
	if err := openTest(t, cfg, pipelinetest.NewMemStore()).Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDedupIDs: equal rows with an identity have one id, corrections have another even where
// the revision is the same, and rows without an identity have one each.
func TestDedupIDs(t *testing.T) {
	c := cluster(t)
	cfg := testSinkConfig(c, "ids")
	ids := func(cfg SinkConfig, recs ...arrow.RecordBatch) map[string]int {
		s := openTest(t, cfg, pipelinetest.NewMemStore())
		g := &stage{sink: s, epoch: pipeline.Epoch{Job: cfg.Job, Lineage: 1, N: 1}}
		out := map[string]int{}
		for _, rec := range recs {
			b, err := g.encode(pipeline.Result(rec))
			if err != nil {
				t.Fatal(err)
			}
			for i := range int(b.NumRows()) {
				out[strings.Clone(b.Column(2).(*array.String).Value(i))]++
			}
			b.Release()
		}
		return out
	}
	one := readingBatch(memory.NewGoAllocator(), 1, 40)
	if n := ids(cfg, one, one); len(n) != 40 {
		t.Errorf("%d ids of 40 rows that come twice", len(n))
	}
	cfg.Identity = []string{"device.uid"}
	shifted := array.NewRecordBatch(one.Schema(), append(slices.Clone(one.Columns()[:4]), readingBatch(memory.NewGoAllocator(), 9, 41).NewSlice(1, 41).Column(4), one.Column(5)), 40)
	if n := ids(cfg, one, shifted); len(n) <= 40 {
		t.Errorf("%d ids of 40 rows and their withdrawals", len(n))
	}
	cfg.Identity = nil
	if n := ids(cfg, one, one); len(n) != 80 {
		t.Errorf("%d ids of 80 rows without an identity", len(n))
	}
}

func TestSinkConfigValidate(t *testing.T) {
	cfg := SinkConfig{Topic: "a b", Create: "maybe", Format: "avro", Key: []string{"k", "k"}, Compression: "rar"}
	err := cfg.Validate()
	for _, want := range []string{"brokers:", "topic:", "create:", "partitions:", "format:", "named twice", "attempt_timeout:", "compression:", "batch_bytes:", "job:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among the problems: %v", want, err)
		}
	}
	cfg = testSinkConfig(cluster(t), "x")
	cfg.Key = []string{"device.uuid", "value.x", "nothing"}
	if _, err := openSink(cfg, pipelinetest.NewMemStore(), memory.DefaultAllocator, nil); err == nil || strings.Count(err.Error(), "no column") != 3 {
		t.Errorf("columns that are not there: %v", err)
	}
}

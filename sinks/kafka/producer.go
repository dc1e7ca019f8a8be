package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// What callers test with errors.Is.
var (
	ErrUnknownTopic = errors.New("unknown topic")
	ErrPartitions   = errors.New("other number of partitions")
)

// Compressions that Config.Compression may name.
var compressions = map[string]kafkago.Compression{
	"none": 0, "gzip": kafkago.Gzip, "snappy": kafkago.Snappy, "lz4": kafkago.Lz4, "zstd": kafkago.Zstd,
}

// Config says how records are written.
type Config struct {
	Brokers     []string `yaml:"brokers"`
	Compression string   `yaml:"compression"` // none, gzip, snappy, lz4 or zstd
	// BatchBytes bounds keys, values and headers of one batch before compression. A larger record
	// is a batch of its own.
	BatchBytes int `yaml:"batch_bytes"`
	// Timeout bounds a call of Produce or CreateTopic with all its retries.
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultConfig lacks the brokers.
func DefaultConfig() Config {
	return Config{Compression: "lz4", BatchBytes: 900_000, Timeout: 30 * time.Second}
}

// Validate returns every problem.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("brokers: none given; name at least one as host:port"))
	}
	if _, ok := compressions[c.Compression]; !ok {
		errs = append(errs, fmt.Errorf("compression: %q is not one of none, gzip, snappy, lz4, zstd", c.Compression))
	}
	if c.BatchBytes < 1 || c.BatchBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("batch_bytes: %d is not within 1..%d", c.BatchBytes, 1<<30))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is not above 0", c.Timeout))
	}
	return errors.Join(errs...)
}

// Header is one of a record.
type Header = kafkago.Header

// Record is one record to write. A nil Key or Value is null.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Time       time.Time // zero takes the current time
	// Partition is where the record goes; -1 takes the murmur2 hash of the key, as Java
	// producers do, and turns without a key.
	Partition int
}

// Producer writes records. It is safe for concurrent use.
type Producer struct {
	cfg    Config
	tr     kafkago.RoundTripper
	client *kafkago.Client
	turn   atomic.Uint64
}

// New makes a producer over a connection pool, which Close lets go of.
func New(cfg Config, tr kafkago.RoundTripper) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka producer: %w", err)
	}
	return &Producer{cfg: cfg, tr: tr, client: &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: tr}}, nil
}

// Close closes idle connections of the pool.
func (p *Producer) Close() {
	if t, ok := p.tr.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// sendAtOnce bounds the partitions that one Produce writes to at the same time.
const sendAtOnce = 8

// Produce writes all records and returns when every one is acknowledged. After an error
// any of them may have been written.
func (p *Producer) Produce(ctx context.Context, topic string, recs []Record) error {
	if len(recs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	parts, err := p.partitions(ctx, topic)
	if err != nil {
		return err
	}
	byPart, err := p.place(topic, parts, recs)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sendAtOnce)
	for part, rs := range byPart {
		g.Go(func() error {
			for len(rs) > 0 {
				n := p.fit(rs)
				if err := p.send(ctx, topic, part, rs[:n]); err != nil {
					return fmt.Errorf("produce %s/%d: %w", topic, part, err)
				}
				rs = rs[n:]
			}
			return nil
		})
	}
	return g.Wait()
}

// place deals records to partitions, each in their order.
func (p *Producer) place(topic string, parts []int, recs []Record) (map[int][]Record, error) {
	byPart := map[int][]Record{}
	for i, r := range recs {
		to := r.Partition
		switch {
		case to < -1 || to >= 0 && !slices.Contains(parts, to):
			return nil, fmt.Errorf("record %d: topic %s has no partition %d, it has %d", i, topic, to, len(parts))
		case to >= 0:
		case r.Key == nil:
			to = parts[p.turn.Add(1)%uint64(len(parts))]
		default:
			to = kafkago.Murmur2Balancer{Consistent: true}.Balance(kafkago.Message{Key: r.Key}, parts...)
		}
		byPart[to] = append(byPart[to], r)
	}
	return byPart, nil
}

// fit returns how many records make the next batch.
func (p *Producer) fit(rs []Record) int {
	size := 0
	for i, r := range rs {
		size += len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if size > p.cfg.BatchBytes {
			return max(1, i)
		}
	}
	return len(rs)
}

func (p *Producer) send(ctx context.Context, topic string, part int, rs []Record) error {
	now := time.Now()
	return retry(ctx, func() error { return p.attempt(ctx, topic, part, rs, now) })
}

// attempt sends one batch once. now is the time of records that have none.
func (p *Producer) attempt(ctx context.Context, topic string, part int, rs []Record, now time.Time) error {
	out := make([]kafkago.Record, len(rs)) // anew for every try: sending consumes them
	for i, r := range rs {
		out[i] = kafkago.Record{Time: r.Time, Key: bytesOf(r.Key), Value: bytesOf(r.Value), Headers: r.Headers}
		if r.Time.IsZero() {
			out[i].Time = now
		}
	}
	res, err := p.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: topic, Partition: part, RequiredAcks: kafkago.RequireAll,
		Compression: compressions[p.cfg.Compression], Records: kafkago.NewRecordReader(out...),
	})
	if err != nil {
		return err
	}
	return errors.Join(append(recordErrors(res.RecordErrors), res.Error)...)
}

func recordErrors(m map[int]error) []error {
	var errs []error
	for i, err := range m {
		errs = append(errs, fmt.Errorf("record %d of the batch: %w", i, err))
	}
	return errs
}

// bytesOf keeps nil as null, which kafka-go's own conversion of a nil slice does too, and
// an empty slice as empty.
func bytesOf(b []byte) kafkago.Bytes {
	if b == nil {
		return nil
	}
	return kafkago.NewBytes(b)
}

// partitions returns the partitions of a topic in order. A topic that was just created
// is waited for.
func (p *Producer) partitions(ctx context.Context, topic string) ([]int, error) {
	var out []int
	err := retry(ctx, func() (err error) {
		out, err = p.lookUp(ctx, topic)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("partitions of topic %s: %w", topic, err)
	}
	return out, nil
}

// lookUp asks once for the partitions of a topic.
func (p *Producer) lookUp(ctx context.Context, topic string) ([]int, error) {
	m, err := p.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	t := m.Topics[0]
	if errors.Is(t.Error, kafkago.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("%w %q: create it first", ErrUnknownTopic, topic)
	}
	if t.Error != nil {
		return nil, t.Error
	}
	var out []int
	for _, q := range t.Partitions {
		out = append(out, q.ID)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("topic %s: %w", topic, kafkago.LeaderNotAvailable)
	}
	slices.Sort(out)
	return out, nil
}

// CreateTopic makes sure that the topic exists with so many partitions. A topic that is
// there keeps its configuration; another number of partitions is ErrPartitions. The
// replication factor is the broker's default.
func (p *Producer) CreateTopic(ctx context.Context, topic string, partitions int, config map[string]string) error {
	if partitions < 1 {
		return fmt.Errorf("create topic %s: %d partitions, at least 1 is needed", topic, partitions)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	entries := make([]kafkago.ConfigEntry, 0, len(config))
	for k, v := range config {
		entries = append(entries, kafkago.ConfigEntry{ConfigName: k, ConfigValue: v})
	}
	err := retry(ctx, func() error {
		res, err := p.client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{
			Topic: topic, NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: entries,
		}}})
		if err != nil {
			return err
		}
		return res.Errors[topic]
	})
	if err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	parts, err := p.partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	if len(parts) != partitions {
		return fmt.Errorf("create topic %s: %w: it has %d, not %d: delete it or choose another name", topic, ErrPartitions, len(parts), partitions)
	}
	return nil
}

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// retry calls fn until it succeeds, ctx ends, or the broker refuses for good. The error is
// the last one of fn.
func retry(ctx context.Context, fn func() error) error {
	for d := minBackoff; ; d = min(2*d, maxBackoff) {
		err := fn()
		if err == nil || !passing(err) {
			return err
		}
		t := time.NewTimer(d/2 + rand.N(d/2))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// passing tells whether another try can help. Errors that are not Kafka's come from the
// connection.
func passing(err error) bool {
	var k kafkago.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, ErrUnknownTopic):
		return true
	case errors.As(err, &k):
		return k.Temporary() || k == kafkago.NotController
	}
	return true
}

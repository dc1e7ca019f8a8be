package kafka

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	randv2 "math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	kafkago "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pipeline"
)

// Sink writes one topic. It implements pipeline.Sink.
type Sink struct {
	cfg      SinkConfig
	store    pipeline.Store
	schema   *arrow.Schema
	mem      memory.Allocator
	log      *slog.Logger
	producer *Producer
	pause    func(attempt int) time.Duration
	run      string // in the names of what this sink seals

	mu    sync.Mutex
	ready bool // the topic is there
}

// NewSink makes the sink of one topic. Batches must have the schema. It talks to no broker yet:
// Ready does.
func NewSink(cfg SinkConfig, store pipeline.Store, schema *arrow.Schema, log *slog.Logger) (*Sink, error) {
	tr, err := cfg.Transport()
	if err != nil {
		return nil, fmt.Errorf("kafka sink %s: %w", cfg.Topic, err)
	}
	return newSink(cfg, store, schema, log, tr)
}

func newSink(cfg SinkConfig, store pipeline.Store, schema *arrow.Schema, log *slog.Logger, tr kafkago.RoundTripper) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka sink: %w", err)
	}
	if err := CheckColumns(cfg, schema); err != nil {
		return nil, fmt.Errorf("kafka sink %s: %w", cfg.Topic, err)
	}
	p, err := New(cfg.producer(), tr)
	if err != nil {
		return nil, err
	}
	run := make([]byte, 8)
	_, _ = rand.Read(run) // never fails
	return &Sink{cfg: cfg, store: store, schema: schema, mem: memory.DefaultAllocator, producer: p, pause: backoff,
		log: log.With("sink", "kafka", "topic", cfg.Topic), run: hex.EncodeToString(run)}, nil
}

// CheckColumns tells whether rows of a schema can be written.
func CheckColumns(cfg SinkConfig, schema *arrow.Schema) error {
	var errs []error
	for _, f := range schema.Fields() {
		if err := pipeline.CheckJSON(f); err != nil {
			errs = append(errs, fmt.Errorf("field %s: %w", f.Name, err))
		}
	}
	for name, id := range map[string]arrow.Type{colRevision: arrow.INT32, colFinal: arrow.BOOL, colDeleted: arrow.BOOL} {
		if at := schema.FieldIndices(name); len(at) > 0 && schema.Field(at[0]).Type.ID() != id {
			errs = append(errs, fmt.Errorf("column %s: type %s, want %s", name, schema.Field(at[0]).Type, id))
		}
	}
	for what, paths := range map[string][]string{"key": cfg.Key, "identity": cfg.Identity} {
		for _, path := range paths {
			if fieldAt(schema, path).Type == nil {
				errs = append(errs, fmt.Errorf("%s: no column %s in the rows; there are %s", what, path, strings.Join(names(schema), ", ")))
			}
		}
	}
	return errors.Join(errs...)
}

func names(schema *arrow.Schema) []string {
	var out []string
	for _, f := range schema.Fields() {
		out = append(out, f.Name)
	}
	return out
}

// fieldAt finds a column by its name, or by a dotted path through objects; the zero Field says
// that there is none.
func fieldAt(schema *arrow.Schema, path string) arrow.Field {
	if at := schema.FieldIndices(path); len(at) > 0 {
		return schema.Field(at[0])
	}
	fields := schema.Fields()
	for {
		head, rest, dotted := strings.Cut(path, ".")
		at := -1
		for i, f := range fields {
			if f.Name == head {
				at = i
			}
		}
		if at < 0 || !dotted {
			if at < 0 {
				return arrow.Field{}
			}
			return fields[at]
		}
		object, ok := fields[at].Type.(*arrow.StructType)
		if !ok {
			return arrow.Field{}
		}
		fields, path = object.Fields(), rest
	}
}

// column returns the place of a top-level column, -1 for none.
func (s *Sink) column(name string) int {
	if at := s.schema.FieldIndices(name); len(at) > 0 {
		return at[0]
	}
	return -1
}

func backoff(attempt int) time.Duration {
	d := min(firstPause<<min(attempt, 16), maxPause)
	return d/2 + randv2.N(d/2)
}

const (
	// firstPause and maxPause bound the wait before an attempt is repeated: it doubles, and a
	// half of it is random.
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
)

// place is the folder of this job and topic; a job's name may hold anything.
func (s *Sink) place() string { return "j-" + url.PathEscape(s.cfg.Job) + "/kafka/" + s.cfg.Topic }

// sealedPrefix begins the names of all sealed objects of this job and topic.
func (s *Sink) sealedPrefix() string { return "sealed/" + s.place() + "/" }

func (s *Sink) objectName(e pipeline.Epoch) string {
	return fmt.Sprintf("%s%d-%d-%s.arrow", s.sealedPrefix(), e.Lineage, e.N, s.run)
}

// recordName is the object that says up to where epochs were sent.
func (s *Sink) recordName() string { return "sent/" + s.place() + ".json" }

// Begin starts the stage of an epoch.
func (s *Sink) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.Job != s.cfg.Job {
		return nil, fmt.Errorf("kafka sink %s: epoch of job %s, configured for job %s", s.cfg.Topic, e.Job, s.cfg.Job)
	}
	return &stage{sink: s, epoch: e}, nil
}

// sent is what the store keeps of the newest epoch whose records were all acknowledged.
type sent struct {
	Lineage uint16 `json:"lineage"`
	Epoch   int64  `json:"epoch"`
	XXH64   string `json:"xxh64"`
}

// Publish sends the records of a receipt. It may be repeated, by any process, from any point
// where it stopped: it then sends the same records again, in the same order, unless the store
// says that all of them were acknowledged. It returns when they are, when ctx ends, or when
// somebody has to fix something; nothing is ever left out.
func (s *Sink) Publish(ctx context.Context, raw pipeline.Receipt) error {
	if len(raw) == 0 {
		return nil
	}
	r, err := s.open(raw)
	if err == nil {
		err = s.publish(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("publish %s epoch %d: %w", s.cfg.Topic, r.Epoch, err)
	}
	return nil
}

// open decodes a receipt and refuses one that is not of this sink.
func (s *Sink) open(raw pipeline.Receipt) (receipt, error) {
	var r receipt
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("receipt of %d bytes: %w", len(raw), err)
	}
	if r.Format != receiptFormat {
		return r, fmt.Errorf("receipt of format %d, this version reads %d: use the version that wrote the checkpoint", r.Format, receiptFormat)
	}
	if r.Topic != s.cfg.Topic || r.Job != s.cfg.Job {
		return r, fmt.Errorf("receipt of job %s topic %s, this sink is job %s topic %s: the topic was renamed with a receipt pending, restore the old name for one start",
			r.Job, r.Topic, s.cfg.Job, s.cfg.Topic)
	}
	if !strings.HasPrefix(r.Object, s.sealedPrefix()) || !fs.ValidPath(r.Object) || r.Size < 1 || r.Rows < 1 {
		return r, fmt.Errorf("receipt of epoch %d names object %s of %d bytes with %d rows", r.Epoch, r.Object, r.Size, r.Rows)
	}
	return r, nil
}

func (s *Sink) publish(ctx context.Context, r receipt) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	there, err := s.isSent(ctx, r)
	if err != nil {
		return err
	}
	if !there {
		if err := s.sendAll(ctx, r); err != nil {
			return err
		}
		body, err := json.Marshal(sent{r.Lineage, r.Epoch, r.XXH64})
		if err != nil {
			return err
		}
		if err := s.store.Put(ctx, s.recordName(), body); err != nil {
			return err
		}
	}
	return s.store.Delete(ctx, r.Object) // whoever publishes it again finds it recorded
}

// isSent tells whether all records of an epoch were acknowledged. Epochs are published in their
// order, so a later one that was sent says so of those before it.
func (s *Sink) isSent(ctx context.Context, r receipt) (bool, error) {
	b, err := s.store.GetRange(ctx, s.recordName(), 0, -1)
	if errors.Is(err, pipeline.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var last sent
	if err := json.Unmarshal(b, &last); err != nil {
		return false, fmt.Errorf("%s: %w: remove it, and the epoch is sent again", s.recordName(), err)
	}
	if last.Lineage == r.Lineage && last.Epoch == r.Epoch && last.XXH64 != r.XXH64 {
		return false, fmt.Errorf("%s says that this epoch was sent with hash %s, the receipt has %s: another process uses the same job name and lineage: stop one of the two, then replay the epoch",
			s.recordName(), last.XXH64, r.XXH64)
	}
	return last.Lineage > r.Lineage || last.Lineage == r.Lineage && last.Epoch >= r.Epoch, nil
}

func (s *Sink) sendAll(ctx context.Context, r receipt) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	if err := s.verify(ctx, r); err != nil {
		if errors.Is(err, pipeline.ErrNotExist) {
			return fmt.Errorf("epoch is neither in %s nor in the store: %w: somebody removed one of the two, replay from an earlier checkpoint", s.recordName(), err)
		}
		return err
	}
	var parts []int
	err := s.try(ctx, "look for partitions", func(ctx context.Context) (err error) {
		parts, err = s.producer.lookUp(ctx, s.cfg.Topic)
		return err
	})
	if err != nil {
		return err
	}
	return s.readSealed(ctx, r, func(recs []Record) error { return s.send(ctx, parts, recs) })
}

// send sends records until all are acknowledged, those of a partition in their order.
func (s *Sink) send(ctx context.Context, parts []int, recs []Record) error {
	byPart, err := s.producer.place(s.cfg.Topic, parts, recs)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sendAtOnce)
	for part, rs := range byPart {
		g.Go(func() error {
			for len(rs) > 0 {
				n := s.producer.fit(rs)
				err := s.try(ctx, fmt.Sprintf("send to partition %d", part), func(ctx context.Context) error {
					return s.producer.attempt(ctx, s.cfg.Topic, part, rs[:n], time.Time{})
				})
				if err != nil {
					return err
				}
				rs = rs[n:]
			}
			return nil
		})
	}
	return g.Wait()
}

// outcome is what is known after an attempt.
type outcome string

const (
	done outcome = "done"
	// slowDown: the broker refused before it wrote anything; later it may accept.
	slowDown outcome = "slow down"
	// unknown: what was sent may or may not have been written. It is sent again.
	unknown outcome = "unknown"
	// fixNeeded: the broker refused and will again.
	fixNeeded outcome = "fix needed"
)

// classify judges the error of one attempt. The caller has looked at its own context.
func classify(err error) outcome {
	var k kafkago.Error
	switch {
	case err == nil:
		return done
	case errors.Is(err, ErrUnknownTopic):
		return fixNeeded
	case !errors.As(err, &k):
		return unknown // the connection
	}
	switch k {
	case kafkago.RequestTimedOut, kafkago.NotEnoughReplicasAfterAppend, kafkago.NetworkException, kafkago.Unknown:
		return unknown
	case kafkago.LeaderNotAvailable, kafkago.NotLeaderForPartition, kafkago.NotEnoughReplicas, kafkago.BrokerNotAvailable, kafkago.ReplicaNotAvailable,
		kafkago.KafkaStorageError, kafkago.NotController, kafkago.FencedLeaderEpoch, kafkago.UnknownLeaderEpoch, kafkago.ThrottlingQuotaExceeded,
		kafkago.UnknownTopicOrPartition: // a broker that does not know yet; lookUp tells of a topic that is gone
		return slowDown
	}
	if k.Temporary() {
		return unknown
	}
	return fixNeeded
}

// try repeats f until it succeeds, ctx ends or somebody has to fix something.
func (s *Sink) try(ctx context.Context, what string, f func(ctx context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, f)
		o := classify(err)
		switch {
		case o == done:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w (last outcome: %v)", what, ctx.Err(), err)
		case o == fixNeeded:
			return fmt.Errorf("%s: %w: no repetition helps; fix the cause and start again, the rows are in the checkpoint", what, err)
		}
		d := s.pause(attempt)
		s.log.Warn("attempt failed", "what", what, "outcome", o, "attempt", attempt+1, "pause", d, "error", err)
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%s: %w (last outcome: %w)", what, ctx.Err(), err)
		case <-t.C:
		}
	}
}

// attempt makes one attempt within its time.
func (s *Sink) attempt(ctx context.Context, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AttemptTimeout)
	defer cancel()
	return f(ctx)
}

// Ready makes the topic when it is missing and may be made, once, and says what delivery its
// readers can count on. It repeats attempts until ctx ends.
func (s *Sink) Ready(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready {
		return ctx.Err()
	}
	err := s.try(ctx, "look for the topic", func(ctx context.Context) error {
		_, err := s.producer.lookUp(ctx, s.cfg.Topic)
		if !errors.Is(err, ErrUnknownTopic) {
			return err
		}
		if s.cfg.Create == "never" {
			return fmt.Errorf("%w, or set create: auto", err)
		}
		err = s.producer.CreateTopic(ctx, s.cfg.Topic, s.cfg.Partitions, nil)
		if errors.Is(err, ErrPartitions) { // somebody else was faster
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	s.log.Info(Promise)
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	return nil
}

// Inspect tells whether the topic is there, and makes nothing. A topic that is missing and may
// not be made is an error.
func (s *Sink) Inspect(ctx context.Context) (there bool, err error) {
	err = s.attempt(ctx, func(ctx context.Context) error {
		_, err := s.producer.lookUp(ctx, s.cfg.Topic)
		return err
	})
	switch {
	case !errors.Is(err, ErrUnknownTopic):
		return err == nil, err
	case s.cfg.Create == "never":
		return false, fmt.Errorf("%w, or set create: auto", err)
	}
	return false, nil
}

// Sweep removes what earlier runs of this job and topic sealed: epochs that were published are
// recorded, so that a receipt of the last checkpoint needs its object no more.
func (s *Sink) Sweep(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sealed, err := s.store.List(ctx, s.sealedPrefix())
	if err != nil {
		return fmt.Errorf("sweep %s: %w", s.cfg.Topic, err)
	}
	for _, o := range sealed {
		if strings.HasSuffix(o.Name, "-"+s.run+".arrow") {
			continue // sealed by this very sink
		}
		if err := s.store.Delete(ctx, o.Name); err != nil {
			return fmt.Errorf("sweep %s: %w", s.cfg.Topic, err)
		}
	}
	return nil
}

// Close ends the connections.
func (s *Sink) Close() error {
	s.producer.Close()
	return nil
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/tidemark/tidemark/pipeline"
)

// maxQueued bounds the events that wait for Next.
const maxQueued = 4096

// Source reads one topic. It implements pipeline.Source.
type Source struct {
	cfg   Config
	log   *slog.Logger
	addr  net.Addr
	tr    *kafkago.Transport
	conns *conns

	first   []pipeline.Event // what Open found; Next only
	running int              // bounded splits that have not ended; Next only
	queue   chan item
	budget  *semaphore.Weighted // of waiting bytes
	waiting atomic.Int64        // bytes in the queue
	share   int64               // size of budget

	failed chan struct{} // closed when err is set
	closed chan struct{}
	once   sync.Once
	cancel context.CancelFunc
	group  *errgroup.Group

	lastOK atomic.Int64 // unix nanoseconds of the last fetch that was answered

	mu       sync.Mutex
	err      error
	splits   map[int32]*split
	paused   map[int32]bool
	fetchers map[int32]*fetcher
	newest   *split // the split with the largest broker timestamp queued
	second   int64  // the largest of all others
	stamped  bool   // the kind of broker timestamp was logged
}

// split is the state of one partition, guarded by Source.mu. While busy, pos, check and
// the counters are changed by the fetch that holds it alone.
type split struct {
	id        pipeline.Split
	pos       pipeline.Position // behind what was queued
	delivered pipeline.Position // behind what Next returned
	end       int64             // bounded: where the split ends
	high      int64             // high watermark last seen
	leader    int32
	busy      bool // in a fetch
	ended     bool
	check     bool // compare the last batch before going on
	newest    int64
	told      logEnd
	fresh     bool // rows came since told
	retryAt   time.Time
	tries     int
	suspect   int // fetches in a row that found the same impossible thing
	warned    bool
}

// logEnd is the last LogEnd event of a split.
type logEnd struct {
	sent  bool
	seen  int64
	empty bool
}

type item struct {
	ev   pipeline.Event
	size int64
}

// Lag is how far one split is behind. Records that were fetched and not delivered count
// as behind.
type Lag struct {
	Position      int64 // next offset to deliver
	HighWatermark int64
}

// Opener returns the pipeline.OpenSource of a configuration.
func Opener(cfg Config, log *slog.Logger) pipeline.OpenSource {
	return func(ctx context.Context, from map[pipeline.Split]pipeline.Position) (pipeline.Source, error) {
		s, err := Open(ctx, cfg, log, from)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Open connects, finds the splits and where each one starts, and begins to fetch. ctx and
// Config.OpenTimeout bound Open only; Close ends the source. Splits of other topics in
// from are an error, as are partitions that the topic no longer has.
func Open(ctx context.Context, cfg Config, log *slog.Logger, from map[pipeline.Split]pipeline.Position) (*Source, error) {
	return openWith(ctx, cfg, log, from, (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext)
}

func openWith(ctx context.Context, cfg Config, log *slog.Logger, from map[pipeline.Split]pipeline.Position, dial dialFunc) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka source: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tr, err := cfg.Transport()
	if err != nil {
		return nil, fmt.Errorf("kafka source %s: %w", cfg.Topic, err)
	}
	s := &Source{
		cfg: cfg, log: log.With("topic", cfg.Topic), addr: kafkago.TCP(cfg.Brokers...), tr: tr,
		conns:    &conns{connect: dial},
		queue:    make(chan item, maxQueued),
		share:    cfg.BufferBytes / 2,
		budget:   semaphore.NewWeighted(cfg.BufferBytes / 2),
		failed:   make(chan struct{}),
		closed:   make(chan struct{}),
		splits:   map[int32]*split{},
		paused:   map[int32]bool{},
		fetchers: map[int32]*fetcher{},
		second:   pipeline.MinTicks,
	}
	tr.Dial = s.conns.dial
	tr.MetadataTopics = []string{cfg.Topic}
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.group, run = errgroup.WithContext(run)
	if err := s.prepare(ctx, from); err != nil {
		s.Close()
		return nil, fmt.Errorf("kafka source %s: %w", cfg.Topic, err)
	}
	s.lastOK.Store(time.Now().UnixNano())
	s.group.Go(func() error { return s.watch(run) })
	s.log.Info("kafka source open", "splits", len(s.splits), "bounded", cfg.Bounded)
	return s, nil
}

// pastTries is how often an impossible answer is asked for again, since a new leader can
// lag for a moment.
const pastTries = 4

// prepare fills splits and first, retrying what may pass.
func (s *Source) prepare(ctx context.Context, from map[pipeline.Split]pipeline.Position) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.OpenTimeout)
	defer cancel()
	var last error
	for try := 1; ; try++ {
		err := s.find(ctx, from, try >= pastTries)
		if err == nil {
			return nil
		}
		if last != nil && ctx.Err() != nil {
			return fmt.Errorf("not ready after %v: %w", s.cfg.OpenTimeout, s.cfg.Explain(last))
		}
		last = err
		if permanent(err) || isGap(err) && try >= pastTries {
			return err
		}
		if !pause(ctx, backoff(try)) {
			return fmt.Errorf("not ready after %v: %w", s.cfg.OpenTimeout, s.cfg.Explain(last))
		}
		if !isGap(err) {
			s.tr.CloseIdleConnections() // and with them the view of the cluster
		}
	}
}

// isGap tells whether a lagging leader can be the cause.
func isGap(err error) bool { return errors.Is(err, ErrPastEnd) || errors.Is(err, ErrReplaced) }

// find lists the splits and their offsets. An offset past the end is an error until final
// is set; then OnGap decides.
func (s *Source) find(ctx context.Context, from map[pipeline.Split]pipeline.Position, final bool) error {
	leaders, err := s.leaders(ctx)
	if err != nil {
		return err
	}
	parts := make([]int32, 0, len(leaders))
	for p := range leaders {
		parts = append(parts, p)
	}
	slices.Sort(parts)
	for p := range s.cfg.Ranges {
		if _, ok := leaders[p]; !ok {
			return fmt.Errorf("%w: partition %d is gone, the topic has %d: it was re-created", ErrReplaced, p, len(parts))
		}
	}
	if s.cfg.Ranges != nil && s.cfg.Bounded { // what the topic has gained since is not read
		parts = slices.Sorted(maps.Keys(s.cfg.Ranges))
	}
	for id := range from {
		if id.Topic != s.cfg.Topic {
			return fmt.Errorf("%w: position of split %s, which is not of this topic: restore the checkpoint with its own configuration", ErrUnknownTopic, id)
		}
		if _, ok := leaders[id.Partition]; !ok {
			return fmt.Errorf("%w: split %s is gone, the topic has %d partitions: it was re-created; start the job anew", ErrReplaced, id, len(parts))
		}
	}
	logs, err := s.bounds(ctx, parts)
	if err != nil {
		return err
	}
	starts, err := s.starts(ctx, parts, logs, len(from) > 0)
	if err != nil {
		return err
	}
	ends := map[int32]listed{}
	for p, r := range s.cfg.Ranges {
		ends[p] = listed{offset: r.End}
	}
	if s.cfg.Bounded && s.cfg.Ranges == nil {
		if ends, err = s.list(ctx, parts, atEnd, committed); err != nil {
			return err
		}
	}
	var begin, gaps, done []pipeline.Event
	splits := map[int32]*split{}
	for _, p := range parts {
		id := pipeline.Split{Topic: s.cfg.Topic, Partition: p}
		pos, known := from[id]
		if !known {
			pos = onward(pipeline.Position{LastIngest: pipeline.MinTicks}, starts[p])
		}
		var g gap
		switch b := logs[p]; {
		case pos.Offset < b.start:
			g = agedOut(id, pos, b)
		case pos.Offset > b.end:
			g = pastEnd(id, pos, b)
			if !final {
				return g.err
			}
		}
		if g.err != nil {
			if s.cfg.OnGap == Fail {
				return g.err
			}
			pos = g.next
			gaps = append(gaps, g.event(id))
		}
		sp := s.newSplit(id, pos, leaders[p], logs[p].end)
		if s.cfg.Bounded {
			sp.end = ends[p].offset
			if pos.Offset >= sp.end {
				sp.ended = true
				done = append(done, pipeline.Event{Kind: pipeline.EndOfSplit, Split: id})
			}
		}
		splits[p] = sp
		begin = append(begin, pipeline.Event{Kind: pipeline.NewSplit, Split: id, Position: pos})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.splits = splits
	s.running = len(splits)
	for _, sp := range splits {
		t := sp.newest
		sp.newest = pipeline.MinTicks
		s.queued(sp, t)
	}
	s.first = slices.Concat(begin, gaps, done)
	return nil
}

// starts returns where splits without a position start.
func (s *Source) starts(ctx context.Context, parts []int32, logs map[int32]bounds, restart bool) (map[int32]int64, error) {
	out := make(map[int32]int64, len(parts))
	for _, p := range parts {
		out[p] = logs[p].start
		if r, ok := s.cfg.Ranges[p]; ok {
			out[p] = r.Start
		}
	}
	if s.cfg.Ranges != nil {
		return out, nil
	}
	if s.cfg.Start == Earliest || s.cfg.Start == Latest && restart {
		return out, nil
	}
	ends, err := s.list(ctx, parts, atEnd, committed)
	if err != nil {
		return nil, err
	}
	at := map[int32]listed{}
	if s.cfg.Start == Timestamp {
		if at, err = s.list(ctx, parts, s.cfg.StartTime.UnixMilli(), committed); err != nil {
			return nil, err
		}
	}
	for _, p := range parts {
		out[p] = ends[p].offset
		if l, ok := at[p]; ok && l.offset >= 0 {
			out[p] = l.offset
		}
		out[p] = max(out[p], logs[p].start)
	}
	return out, nil
}

func (s *Source) newSplit(id pipeline.Split, pos pipeline.Position, leader int32, high int64) *split {
	return &split{
		id: id, pos: pos, delivered: pos, end: pipeline.MaxTicks, high: high, leader: leader,
		check: pos.LastBatch >= 0, newest: pos.LastIngest,
	}
}

// Next returns the next event. Whatever was queued before a fatal error comes before it.
func (s *Source) Next(ctx context.Context) (pipeline.Event, error) {
	select {
	case <-s.closed:
		return pipeline.Event{}, ErrClosed
	default:
	}
	if len(s.first) > 0 {
		ev := s.first[0]
		s.first = s.first[1:]
		return s.deliver(item{ev: ev}), nil
	}
	select {
	case it := <-s.queue:
		return s.deliver(it), nil
	default:
	}
	if s.cfg.Bounded && s.running == 0 {
		return pipeline.Event{}, io.EOF
	}
	select {
	case it := <-s.queue:
		return s.deliver(it), nil
	case <-s.closed:
		return pipeline.Event{}, ErrClosed
	case <-ctx.Done():
		return pipeline.Event{}, ctx.Err()
	case <-s.failed:
	}
	select {
	case it := <-s.queue:
		return s.deliver(it), nil
	default:
		return pipeline.Event{}, s.err
	}
}

func (s *Source) deliver(it item) pipeline.Event {
	if it.size > 0 {
		s.waiting.Add(-it.size)
		s.budget.Release(min(it.size, s.share))
	}
	switch it.ev.Kind {
	case pipeline.Rows:
		s.mu.Lock()
		s.splits[it.ev.Split.Partition].delivered = it.ev.Wire.Next
		s.mu.Unlock()
	case pipeline.GapFound:
		s.mu.Lock()
		s.splits[it.ev.Split.Partition].delivered = it.ev.Position
		s.mu.Unlock()
	case pipeline.EndOfSplit:
		s.running--
	}
	return it.ev
}

// push queues an event, once there is room for it.
func (s *Source) push(ctx context.Context, ev pipeline.Event, size int64) error {
	if err := s.budget.Acquire(ctx, min(size, s.share)); err != nil {
		return err
	}
	s.waiting.Add(size)
	select {
	case s.queue <- item{ev, size}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fail ends the source with err, the first one wins.
func (s *Source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("kafka source: %w", err)
		close(s.failed)
	}
}

// queued notes a broker timestamp that is in the stream now. The caller holds mu.
func (s *Source) queued(sp *split, t int64) {
	if t <= sp.newest {
		return
	}
	sp.newest = t
	switch {
	case s.newest == nil || s.newest == sp:
		s.newest = sp
	case t > s.newest.newest:
		s.second = s.newest.newest
		s.newest = sp
	default:
		s.second = max(s.second, t)
	}
}

// seen returns the largest broker timestamp in the stream from splits other than sp. The
// caller holds mu.
func (s *Source) seen(sp *split) int64 {
	switch s.newest {
	case nil:
		return pipeline.MinTicks
	case sp:
		return s.second
	}
	return s.newest.newest
}

// Pause implements pipeline.Source. Records of a paused split that were fetched, or asked
// for, are still delivered.
func (s *Source) Pause(splits []pipeline.Split) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.paused)
	for _, id := range splits {
		if id.Topic == s.cfg.Topic {
			s.paused[id.Partition] = true
		}
	}
	for _, f := range s.fetchers {
		f.nudge()
	}
}

// Commit writes the offsets to Config.Group, as a consumer without membership.
func (s *Source) Commit(ctx context.Context, at map[pipeline.Split]pipeline.Position) error {
	if s.cfg.Group == "" || len(at) == 0 {
		return nil
	}
	t := offsetcommit.RequestTopic{Name: s.cfg.Topic}
	for id, p := range at {
		if id.Topic == s.cfg.Topic {
			t.Partitions = append(t.Partitions, offsetcommit.RequestPartition{
				PartitionIndex: id.Partition, CommittedOffset: p.Offset, CommittedLeaderEpoch: p.LeaderEpoch,
			})
		}
	}
	slices.SortFunc(t.Partitions, func(a, b offsetcommit.RequestPartition) int { return int(a.PartitionIndex - b.PartitionIndex) })
	var err error
	for try := 1; try <= commitTries; try++ {
		if err = s.commit(ctx, t); err == nil || !pause(ctx, backoff(try)) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("commit of group %s on topic %s: %w", s.cfg.Group, s.cfg.Topic, err)
	}
	return nil
}

const commitTries = 4

func (s *Source) commit(ctx context.Context, t offsetcommit.RequestTopic) error {
	m, err := s.tr.RoundTrip(ctx, s.addr, &offsetcommit.Request{
		GroupID: s.cfg.Group, GenerationID: -1, RetentionTimeMs: -1,
		Topics: []offsetcommit.RequestTopic{t},
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range m.(*offsetcommit.Response).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				errs = append(errs, fmt.Errorf("%s/%d: %w", t.Name, p.PartitionIndex, kafkago.Error(p.ErrorCode)))
			}
		}
	}
	return errors.Join(errs...)
}

// Lag returns how far every split is behind.
func (s *Source) Lag() map[pipeline.Split]Lag {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[pipeline.Split]Lag, len(s.splits))
	for _, sp := range s.splits {
		out[sp.id] = Lag{sp.delivered.Offset, sp.high}
	}
	return out
}

// Buffered returns the bytes that wait for Next.
func (s *Source) Buffered() int64 { return s.waiting.Load() }

// Close ends all fetches and connections and waits for them.
func (s *Source) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.cancel()
		s.conns.cut(true)
		s.tr.CloseIdleConnections()
	})
	return s.group.Wait()
}

package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tidemark/tidemark/pipeline"
)

// bufferedGroups is how many Wires the buffer can hold, or more.
const bufferedGroups = 8

const (
	minBackoff   = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
	watchEvery   = 200 * time.Millisecond
	minFetch     = 64 << 10 // bytes of a response, however many brokers share the buffer
	suspectTries = 3        // fetches that must agree before the log is called corrupt or empty
	eventBytes   = 256      // what an event costs beside its data
	recordBytes  = 32       // what a record costs beside its data
)

// backoff returns the pause after so many tries, between half and all of a bound that
// doubles.
func backoff(try int) time.Duration {
	d := min(maxBackoff, minBackoff<<min(try-1, 10))
	return d/2 + rand.N(d/2)
}

// pause waits, and returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetcher is the loop of one broker.
type fetcher struct {
	s      *Source
	node   int32
	wake   chan struct{}
	parse  *parser
	after  int32 // partition that the last response ended with
	failed bool  // the last fetch had no answer; Source.mu
	tries  int
}

// nudge makes the fetcher look at the splits again.
func (f *fetcher) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// asked is one split of a fetch as it was when the fetch was sent.
type asked struct {
	sp    *split
	pos   pipeline.Position
	check bool
	seen  int64
}

func (f *fetcher) run(ctx context.Context) error {
	defer f.parse.close()
	for ctx.Err() == nil {
		ask, wait := f.plan(time.Now())
		if len(ask) == 0 {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-f.wake:
			case <-t.C:
			}
			t.Stop()
			continue
		}
		res, err := f.send(ctx, ask)
		if err == nil {
			err = f.take(ctx, ask, res)
		} else {
			err = f.broken(ctx, err, ask)
		}
		f.free(ask)
		if err != nil && ctx.Err() == nil {
			f.s.fail(err)
			return nil // Next returns it
		}
	}
	return nil
}

// plan takes the splits that this broker leads and that are due, and otherwise tells
// how long to wait. The order starts behind the split that the last response ended with,
// since a broker fills a response in the order of the request.
func (f *fetcher) plan(now time.Time) ([]asked, time.Duration) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Hour
	var ask []asked
	for p, sp := range s.splits {
		if sp.leader != f.node || sp.busy || sp.ended || s.paused[p] {
			continue
		}
		if d := sp.retryAt.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		sp.busy = true
		ask = append(ask, asked{sp, sp.pos, sp.check && sp.pos.LastBatch >= 0, s.seen(sp)})
		sp.check = false // until the answer fails to settle it, or something new comes up
	}
	slices.SortFunc(ask, func(a, b asked) int {
		x, y := a.sp.id.Partition, b.sp.id.Partition
		if (x > f.after) != (y > f.after) {
			if x > f.after {
				return -1
			}
			return 1
		}
		return cmp.Compare(x, y)
	})
	return ask, wait
}

func (f *fetcher) free(ask []asked) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for _, a := range ask {
		a.sp.busy = false
		if g := f.s.fetchers[a.sp.leader]; g != nil && g != f {
			g.nudge() // it moved while we had it
		}
	}
}

// send fetches. It is bounded by FetchWait and StallAfter.
func (f *fetcher) send(ctx context.Context, ask []asked) (*fetchResponse, error) {
	s := f.s
	ctx, cancel := context.WithTimeout(ctx, s.cfg.FetchWait+s.cfg.StallAfter)
	defer cancel()
	s.mu.Lock()
	size := max(minFetch, s.share/int64(len(s.fetchers)))
	s.mu.Unlock()
	size = min(size, s.cfg.FetchMaxBytes)
	req := &fetchRequest{
		node: f.node, ReplicaID: -1, SessionEpoch: -1, MinBytes: 1, IsolationLevel: committed,
		MaxWaitTime: int32(s.cfg.FetchWait.Milliseconds()), MaxBytes: int32(size),
		Topics: []fetchTopic{{Topic: s.cfg.Topic}},
	}
	ps := make([]fetchPartition, len(ask))
	for i, a := range ask {
		ps[i] = fetchPartition{
			Partition: a.sp.id.Partition, CurrentLeaderEpoch: -1, FetchOffset: a.pos.Offset,
			LogStartOffset: -1, PartitionMaxBytes: int32(min(size, s.cfg.MaxBatchBytes)),
		}
		if a.check {
			ps[i].FetchOffset = a.pos.LastBatch
		}
	}
	req.Topics[0].Partitions = ps
	m, err := s.tr.RoundTrip(ctx, s.addr, req)
	if err != nil {
		return nil, err
	}
	res := m.(*fetchResponse)
	if res.ErrorCode != 0 {
		return nil, kafkago.Error(res.ErrorCode)
	}
	return res, nil
}

// broken handles a fetch without an answer. Its splits are checked before they go on.
func (f *fetcher) broken(ctx context.Context, err error, ask []asked) error {
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, errRecordSetSize) {
		return fmt.Errorf("broker %d: %w: %w", f.node, ErrLimit, err)
	}
	f.tries++
	f.s.mu.Lock()
	for _, a := range ask {
		a.sp.check = true
	}
	first := !f.failed
	f.failed = true
	f.s.mu.Unlock()
	if first {
		f.s.log.Warn("kafka broker gives no answer, retrying", "broker", f.node, "err", err)
	}
	pause(ctx, backoff(f.tries))
	return nil
}

// take handles an answer, split by split. An error ends the source.
func (f *fetcher) take(ctx context.Context, ask []asked, res *fetchResponse) error {
	s := f.s
	s.lastOK.Store(time.Now().UnixNano())
	f.tries = 0
	s.mu.Lock()
	again := f.failed
	f.failed = false
	s.mu.Unlock()
	if again {
		s.log.Info("kafka broker answers again", "broker", f.node)
	}
	byPart := make(map[int32]asked, len(ask))
	for _, a := range ask {
		byPart[a.sp.id.Partition] = a
	}
	full := false
	for _, t := range res.Topics {
		for i := range t.Partitions {
			full = full || len(t.Partitions[i].RecordSet) > 0
		}
	}
	for _, t := range res.Topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			a, ok := byPart[p.Partition]
			if !ok || t.Topic != s.cfg.Topic {
				continue // not asked for
			}
			delete(byPart, p.Partition) // once
			if len(p.RecordSet) > 0 {
				f.after = p.Partition
			}
			if err := f.split(ctx, a, p, full || res.ThrottleTimeMs > 0); err != nil {
				return err
			}
			p.RecordSet = nil
		}
	}
	for _, a := range byPart { // left out for lack of room
		f.recheck(a)
	}
	return nil
}

// recheck keeps the wish for a check that the answer did not settle.
func (f *fetcher) recheck(a asked) {
	if a.check {
		f.s.mu.Lock()
		a.sp.check = true
		f.s.mu.Unlock()
	}
}

// split handles the answer for one split. crowded says that its share of the response may
// be empty because others filled it.
func (f *fetcher) split(ctx context.Context, a asked, p *fetchedPartition, crowded bool) error {
	switch code := kafkago.Error(p.ErrorCode); code {
	case 0:
	case kafkago.OffsetOutOfRange:
		return f.outOfRange(ctx, a)
	case kafkago.TopicAuthorizationFailed:
		return fmt.Errorf("split %s: %w", a.sp.id, f.s.denied("read"))
	default:
		f.delay(a.sp, code)
		return nil
	}
	f.s.mu.Lock()
	a.sp.high = p.HighWatermark
	f.s.mu.Unlock()
	pos, checked, err := f.rows(ctx, a, p)
	if err != nil {
		return f.unreadable(ctx, a, pos, err)
	}
	f.well(a.sp)
	if !checked {
		f.recheck(a)
	}
	end := min(p.LastStableOffset, a.sp.end)
	hole := pos.Offset == a.pos.Offset && pos.Offset < end && !a.check && (len(p.RecordSet) > 0 || !crowded)
	if !hole {
		a.sp.suspect = 0
		return f.ends(ctx, a, pos, p.HighWatermark, checked)
	}
	// Compaction may have left nothing up to the end of the log. Ask again before
	// believing it.
	if a.sp.suspect++; a.sp.suspect < suspectTries {
		f.rest(a.sp, backoff(1))
		return nil
	}
	a.sp.suspect = 0
	pos.Offset = end
	if err := f.emit(ctx, a.sp, &pipeline.Wire{Next: pos}); err != nil {
		return err
	}
	return f.ends(ctx, a, pos, p.HighWatermark, checked)
}

// rows queues the records of the answer and returns the position behind them, and
// whether the position is that of the log that was read before.
func (f *fetcher) rows(ctx context.Context, a asked, p *fetchedPartition) (pipeline.Position, bool, error) {
	pos := a.pos
	f.parse.start(p.RecordSet, a.pos, a.check, a.sp.end, p.HighWatermark, p.AbortedTransactions)
	for {
		w, err := f.parse.next()
		if w == nil || err != nil {
			return pos, !f.parse.check, err
		}
		if w.Len() == 0 && w.Next == pos {
			continue
		}
		pos = w.Next
		if err := f.emit(ctx, a.sp, w); err != nil {
			return pos, false, err
		}
	}
}

func (f *fetcher) emit(ctx context.Context, sp *split, w *pipeline.Wire) error {
	s := f.s
	if err := s.push(ctx, pipeline.Event{Kind: pipeline.Rows, Split: sp.id, Wire: w}, cost(w)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sp.pos = w.Next
	if w.Len() > 0 {
		sp.fresh = true
		s.queued(sp, slices.Max(w.Ingest))
	}
	if w.Len() > 0 && !s.stamped {
		s.stamped = true
		clock := "producers (CreateTime)"
		if f.parse.appendTime {
			clock = "broker (LogAppendTime)"
		}
		s.log.Info("kafka timestamps", "clock", clock)
	}
	return nil
}

// cost is what a Wire keeps of the heap: its part of Data, and the columns.
func cost(w *pipeline.Wire) int64 {
	n := w.Len()
	low, high := int32(0), int32(0)
	for i := 0; i < n && high == 0; i++ {
		for _, s := range [2]pipeline.Span{w.Values[i], w.Keys[i]} {
			if s.Len >= 0 {
				low, high = s.At, s.At+s.Len
			}
		}
	}
	for i := n - 1; i >= 0 && high > 0; i-- {
		if k, v := w.Keys[i], w.Values[i]; k.Len >= 0 || v.Len >= 0 {
			high = max(high, k.At+k.Len, v.At+v.Len)
			break
		}
	}
	return eventBytes + int64(n)*recordBytes + int64(high-low)
}

// ends tells the end of the split, or of its log.
func (f *fetcher) ends(ctx context.Context, a asked, pos pipeline.Position, high int64, checked bool) error {
	s, sp := f.s, a.sp
	if s.cfg.Bounded {
		if pos.Offset < sp.end {
			return nil
		}
		s.mu.Lock()
		sp.ended = true
		s.mu.Unlock()
		return s.push(ctx, pipeline.Event{Kind: pipeline.EndOfSplit, Split: sp.id}, eventBytes)
	}
	if pos.Offset < high || !checked {
		return nil
	}
	now := logEnd{true, a.seen, pos.LastIngest == pipeline.MinTicks}
	s.mu.Lock()
	same := !sp.fresh && sp.told.sent && sp.told.seen >= now.seen && sp.told.empty == now.empty
	if !same {
		sp.told, sp.fresh = now, false
	}
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.push(ctx, pipeline.Event{Kind: pipeline.LogEnd, Split: sp.id, Seen: now.seen, Empty: now.empty}, eventBytes)
}

// delay keeps the split out of fetches for a while. It will be checked when it goes on.
func (f *fetcher) delay(sp *split, cause error) {
	s := f.s
	s.mu.Lock()
	sp.tries++
	sp.retryAt = time.Now().Add(backoff(sp.tries))
	sp.check = true
	first := !sp.warned
	sp.warned = true
	s.mu.Unlock()
	if first {
		s.log.Warn("kafka split cannot be read, retrying", "split", sp.id.String(), "broker", f.node, "err", cause)
	}
}

// rest keeps the split out of fetches without a warning.
func (f *fetcher) rest(sp *split, d time.Duration) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	sp.retryAt = time.Now().Add(d)
}

// well notes an answer that could be used.
func (f *fetcher) well(sp *split) {
	s := f.s
	s.mu.Lock()
	again := sp.warned
	sp.tries, sp.warned = 0, false
	s.mu.Unlock()
	if again {
		s.log.Info("kafka split is read again", "split", sp.id.String(), "broker", f.node)
	}
}

// outOfRange finds out why the broker does not have the offset.
func (f *fetcher) outOfRange(ctx context.Context, a asked) error {
	b, err := f.limits(ctx, a.sp)
	if err != nil {
		f.delay(a.sp, err)
		return nil
	}
	switch {
	case a.pos.Offset < b.start:
		return f.pass(ctx, a.sp, agedOut(a.sp.id, a.pos, b))
	case a.pos.Offset > b.end:
		if a.sp.suspect++; a.sp.suspect < pastTries {
			f.delay(a.sp, kafkago.OffsetOutOfRange)
			return nil
		}
		return f.pass(ctx, a.sp, pastEnd(a.sp.id, a.pos, b))
	case a.check && a.pos.LastBatch < b.start:
		return nil // retention took the batch: there is nothing to check
	}
	f.delay(a.sp, kafkago.OffsetOutOfRange)
	return nil
}

func (f *fetcher) limits(ctx context.Context, sp *split) (bounds, error) {
	ctx, cancel := context.WithTimeout(ctx, f.s.cfg.StallAfter)
	defer cancel()
	m, err := f.s.bounds(ctx, []int32{sp.id.Partition})
	return m[sp.id.Partition], err
}

// unreadable handles an answer that the parser refuses behind pos.
func (f *fetcher) unreadable(ctx context.Context, a asked, pos pipeline.Position, err error) error {
	var bad *corruptError
	var other *replacedError
	switch {
	case errors.As(err, &bad):
		if a.sp.suspect++; a.sp.suspect < suspectTries {
			f.delay(a.sp, err)
			return nil
		}
		return f.pass(ctx, a.sp, corrupt(a.sp.id, pos, bad))
	case errors.As(err, &other):
		b, err := f.limits(ctx, a.sp)
		if err != nil {
			f.delay(a.sp, err)
			return nil
		}
		return f.pass(ctx, a.sp, replaced(a.sp.id, pos, b, other.Cause))
	case errors.Is(err, errMagic):
		return fmt.Errorf("split %s: %w: %w: records from before Kafka 0.11 cannot be read; produce them again or start behind them", a.sp.id, ErrFormat, err)
	}
	return err
}

// pass goes on behind a gap, when the configuration allows that.
func (f *fetcher) pass(ctx context.Context, sp *split, g gap) error {
	if f.s.cfg.OnGap == Fail {
		return g.err
	}
	s := f.s
	s.log.Warn("kafka gap", "split", sp.id.String(), "from", g.from, "to", g.to, "reason", g.reason, "next", g.next.Offset)
	if err := s.push(ctx, g.event(sp.id), eventBytes); err != nil {
		return err
	}
	s.mu.Lock()
	sp.pos, sp.check, sp.suspect, sp.fresh = g.next, false, 0, true
	s.mu.Unlock()
	f.well(sp)
	return nil
}

// watch follows the cluster: leaders, new partitions, stalls. It starts the fetchers.
func (s *Source) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	discovered := time.Now()
	for {
		now := time.Now()
		look, cancel := context.WithTimeout(ctx, s.cfg.StallAfter)
		leaders, err := s.leaders(look)
		if err == nil {
			s.assign(ctx, leaders)
			if !s.cfg.Bounded && now.Sub(discovered) >= s.cfg.DiscoverEvery && s.discover(look, ctx, leaders) {
				discovered = now
			}
		}
		cancel()
		s.unstall(now)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// assign gives every split to the fetcher of its leader.
func (s *Source) assign(ctx context.Context, leaders map[int32]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, sp := range s.splits {
		leader, ok := leaders[p]
		if !ok {
			continue
		}
		moved := sp.leader != leader
		sp.leader = leader
		f := s.fetchers[leader]
		if f == nil && leader >= 0 {
			f = &fetcher{s: s, node: leader, wake: make(chan struct{}, 1), parse: newParser(int(s.cfg.DecompressLimit), int(min(groupBytes, s.share/bufferedGroups))), after: -1}
			s.fetchers[leader] = f
			s.group.Go(func() error { return f.run(ctx) })
		} else if f != nil && moved {
			sp.check = sp.check || sp.pos.LastBatch >= 0
			sp.retryAt = time.Time{}
			f.nudge()
		}
	}
}

// discover adds partitions that the topic has gained. They start at their log start. It
// returns false when it has to be tried again.
func (s *Source) discover(look, ctx context.Context, leaders map[int32]int32) bool {
	s.mu.Lock()
	var parts []int32
	for p := range leaders {
		if s.splits[p] == nil {
			parts = append(parts, p)
		}
	}
	s.mu.Unlock()
	if len(parts) == 0 {
		return true
	}
	slices.Sort(parts)
	logs, err := s.bounds(look, parts)
	if err != nil {
		return false
	}
	for _, p := range parts {
		id := pipeline.Split{Topic: s.cfg.Topic, Partition: p}
		pos := onward(pipeline.Position{LastIngest: pipeline.MinTicks}, logs[p].start)
		if err := s.push(ctx, pipeline.Event{Kind: pipeline.NewSplit, Split: id, Position: pos}, eventBytes); err != nil {
			return false
		}
		s.mu.Lock()
		s.splits[p] = s.newSplit(id, pos, -1, logs[p].end) // assigned by the next look
		s.mu.Unlock()
		s.log.Info("kafka partition found", "split", id.String(), "offset", pos.Offset)
	}
	return true
}

// unstall connects anew when fetches are under way or failing and none at all has had an
// answer for StallAfter.
func (s *Source) unstall(now time.Time) {
	quiet := now.Sub(time.Unix(0, s.lastOK.Load()))
	if quiet < s.cfg.FetchWait+s.cfg.StallAfter {
		return
	}
	s.mu.Lock()
	stalled := false
	for _, f := range s.fetchers {
		stalled = stalled || f.failed
	}
	s.mu.Unlock()
	s.lastOK.Store(now.UnixNano())
	if stalled {
		s.log.Warn("kafka stalled, connecting anew", "silent", quiet.String())
		s.conns.cut(false)
		s.tr.CloseIdleConnections()
	}
}

package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

const (
	// firstPause and maxPause bound the pauses between attempts, which double.
	firstPause = time.Second
	maxPause   = time.Hour
	// sentFor is how long what was sent is remembered. A finding is not made again later than
	// MaxAge after its event time.
	sentFor = 90 * 24 * time.Hour
)

// pruneEvery is how often what was sent long ago is forgotten.
const pruneEvery = 24 * time.Hour

// outbox sends what is durable in the store, to each receiver by itself.
type outbox struct {
	sink   *Sink
	queues map[string]*queue // by policy and receiver
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// queue is what one receiver is to get: ids alone, the rest is in the store.
type queue struct {
	sender  sender
	box     *outbox
	mu      sync.Mutex
	waiting []attempt
	more    chan struct{}
}

// attempt is the next one of a notification, not before a time.
type attempt struct {
	id     string
	at     time.Time
	failed int
}

func newOutbox(s *Sink, senders map[string]sender) *outbox {
	b := &outbox{sink: s, queues: map[string]*queue{}}
	for to, sender := range senders {
		b.queues[to] = &queue{sender: sender, box: b, more: make(chan struct{}, 1)}
	}
	return b
}

// put makes a notification one that is to be sent, unless it was.
func (b *outbox) put(ctx context.Context, n notification) error {
	if was, err := b.wasSent(ctx, n); was || err != nil {
		return err
	}
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if err := b.sink.store.PutIfAbsent(ctx, n.waits(), body); errors.Is(err, pipeline.ErrExists) {
		b.sink.observe(n.Policy, Repeated)
		return nil // it is in its queue, or comes there with start
	} else if err != nil {
		return fmt.Errorf("notify: %s: %w", n.waits(), err)
	}
	// It may have been sent between the two: then what was put is there once more.
	if was, err := b.wasSent(ctx, n); was || err != nil {
		return errors.Join(err, b.sink.store.Delete(ctx, n.waits()))
	}
	b.enqueue(n)
	return nil
}

// waits is the object of a notification that is to be sent.
func (n notification) waits() string { return outboxDir + n.ID + ".json" }

// wasSent tells whether a notification was sent or given up.
func (b *outbox) wasSent(ctx context.Context, n notification) (bool, error) {
	switch _, err := b.sink.store.GetRange(ctx, sentDir+n.ID, 0, -1); {
	case err == nil:
		b.sink.observe(n.Policy, Repeated)
		return true, nil
	case !errors.Is(err, pipeline.ErrNotExist):
		return false, fmt.Errorf("notify: %s: %w", sentDir+n.ID, err)
	}
	return false, nil
}

// enqueue puts a notification into its queue, where it is once.
func (b *outbox) enqueue(n notification) {
	q := b.queues[n.Policy+"\x00"+n.Receiver]
	if q == nil { // the configuration has changed
		b.sink.log.Warn("a notification is for nobody: no policy has its receiver any more", "policy", n.Policy, "uid", n.UID, "object", n.waits())
		return
	}
	q.mu.Lock()
	if !slices.ContainsFunc(q.waiting, func(a attempt) bool { return a.id == n.ID }) {
		q.waiting = append(q.waiting, attempt{id: n.ID})
	}
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// start reads the outbox and begins to send.
func (b *outbox) start(ctx context.Context) error {
	store := b.sink.store
	was, err := b.prune(ctx)
	if err != nil {
		return err
	}
	waiting, err := store.List(ctx, outboxDir)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	for _, o := range waiting {
		if was[strings.TrimSuffix(path.Base(o.Name), ".json")] { // the process died between the two
			if err := store.Delete(ctx, o.Name); err != nil {
				return fmt.Errorf("notify: %w", err)
			}
			continue
		}
		n, err := b.read(ctx, o.Name)
		if err != nil {
			return err
		}
		b.enqueue(n)
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx)) // until Close
	for _, q := range b.queues {
		b.done.Go(q.run)
	}
	b.done.Go(b.keepPruned)
	return nil
}

// prune forgets what was sent long ago, and returns the ids of the rest.
func (b *outbox) prune(ctx context.Context) (map[string]bool, error) {
	sent, err := b.sink.store.List(ctx, sentDir)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	rest := map[string]bool{}
	for _, o := range sent {
		if b.sink.now().Sub(o.ModTime) > sentFor {
			if err := b.sink.store.Delete(ctx, o.Name); err != nil {
				return nil, fmt.Errorf("notify: %w", err)
			}
			continue
		}
		rest[path.Base(o.Name)] = true
	}
	return rest, nil
}

func (b *outbox) keepPruned() {
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-t.C:
			if _, err := b.prune(b.ctx); err != nil && b.ctx.Err() == nil {
				b.sink.log.Warn("what was sent long ago is not forgotten", "err", err)
			}
		}
	}
}

func (b *outbox) close() {
	if b.cancel != nil {
		b.cancel()
	}
	b.done.Wait()
}

func (b *outbox) read(ctx context.Context, name string) (notification, error) {
	var n notification
	body, err := b.sink.store.GetRange(ctx, name, 0, -1)
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err != nil {
		return n, fmt.Errorf("notify: %s: %w", name, err)
	}
	return n, nil
}

// run sends what is in the queue until the outbox is closed. One that fails waits for its next
// attempt, and lets others pass.
func (q *queue) run() {
	for {
		a, wait, ok := q.next(time.Now())
		switch {
		case ok:
			if err := q.attempt(a.id); err != nil && q.box.ctx.Err() == nil {
				q.again(a, err)
			} else if err == nil {
				q.remove(a.id)
			}
			if q.box.ctx.Err() != nil {
				return
			}
			continue
		case wait == 0:
			wait = maxPause // there is nothing: more says when
		}
		select {
		case <-q.more:
		case <-time.After(wait):
		case <-q.box.ctx.Done():
			return
		}
	}
}

// next returns the first attempt that is due, or how long to wait for one; 0 when there is none.
func (q *queue) next(now time.Time) (a attempt, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.waiting {
		if !a.at.After(now) {
			return a, 0, true
		}
		if left := a.at.Sub(now); wait == 0 || left < wait {
			wait = left
		}
	}
	return attempt{}, wait, false
}

// again notes when a notification is tried again.
func (q *queue) again(a attempt, err error) {
	pause := min(firstPause<<min(a.failed, 30), maxPause)
	pause = pause/2 + rand.N(pause/2)
	if later := (laterError{}); errors.As(err, &later) {
		pause = min(max(pause, later.after), maxPause)
	}
	q.box.sink.log.Warn("notification was not delivered, another attempt follows", "id", a.id, "attempt", a.failed+1, "pause", pause.Round(time.Millisecond), "err", err)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting {
		if w := &q.waiting[i]; w.id == a.id {
			w.at, w.failed = time.Now().Add(pause), w.failed+1
		}
	}
}

func (q *queue) remove(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(a attempt) bool { return a.id == id })
}

// attempt sends a notification once. An error asks for another attempt.
func (q *queue) attempt(id string) error {
	s, ctx := q.box.sink, q.box.ctx
	n, err := q.box.read(ctx, notification{ID: id}.waits())
	if errors.Is(err, pipeline.ErrNotExist) {
		return nil // somebody has taken it out of the store
	}
	if err != nil {
		return err
	}
	actx, cancel := context.WithTimeout(ctx, s.cfg.AttemptTimeout)
	err = q.sender.send(actx, n)
	cancel()
	switch permanent := (permanentError{}); {
	case err == nil:
		if err := s.settle(ctx, n, sentDir+n.ID, []byte(s.now().UTC().Format(time.RFC3339))); err != nil {
			return err // and it is sent again: at least once
		}
		s.observe(n.Policy, Sent)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &permanent), s.now().Sub(n.Queued) > s.cfg.RetryFor:
		return s.bury(ctx, n, err)
	}
	s.observe(n.Policy, Retried)
	return err
}

// bury makes a notification that nobody takes a dead letter.
func (s *Sink) bury(ctx context.Context, n notification, cause error) error {
	body, err := json.Marshal(struct {
		notification
		Error string `json:"error"`
	}{n, cause.Error()})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if err := s.settle(ctx, n, deadDir+n.ID+".json", body); err != nil {
		return err
	}
	s.observe(n.Policy, Dead)
	s.log.Error("notification is given up", "policy", n.Policy, "uid", n.UID, "transition", n.Transition, "object", deadDir+n.ID+".json", "err", cause)
	return nil
}

// settle notes what became of a notification, and takes it out of the outbox.
func (s *Sink) settle(ctx context.Context, n notification, object string, body []byte) error {
	if err := s.store.Put(ctx, object, body); err != nil {
		return fmt.Errorf("notify: %s: %w", object, err)
	}
	if err := s.store.Delete(ctx, n.waits()); err != nil {
		return fmt.Errorf("notify: %s: %w", n.waits(), err)
	}
	return nil
}

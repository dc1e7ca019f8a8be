package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
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

func newOutbox(s *Sink, senders map[string]sender) *outbox {
	b := &outbox{sink: s, lines: map[string]*line{}}
	for to, sender := range senders {
		b.lines[to] = &line{sender: sender, box: b, more: make(chan struct{}, 1)}
	}
	return b
}

// put makes a notification one that is to be sent, unless it was.
func (b *outbox) put(ctx context.Context, n notification) error {
	store := b.sink.store
	switch _, err := store.GetRange(ctx, sentDir+n.ID, 0, -1); {
	case err == nil:
		b.sink.observe(n.Policy, Repeated)
		return nil
	case !errors.Is(err, pipeline.ErrNotExist):
		return fmt.Errorf("notify: %s: %w", sentDir+n.ID, err)
	}
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if err := store.PutIfAbsent(ctx, outboxDir+n.ID+".json", body); errors.Is(err, pipeline.ErrExists) {
		b.sink.observe(n.Policy, Repeated)
		return nil // it is in its line, or comes there with start
	} else if err != nil {
		return fmt.Errorf("notify: %s: %w", outboxDir+n.ID, err)
	}
	b.queue(n)
	return nil
}

// queue puts a notification at the end of its line.
func (b *outbox) queue(n notification) {
	l := b.lines[n.Policy+"\x00"+n.Receiver]
	if l == nil { // the configuration has changed
		b.sink.log.Warn("a notification is for nobody: no policy has its receiver any more", "policy", n.Policy, "uid", n.UID, "object", outboxDir+n.ID+".json")
		return
	}
	l.mu.Lock()
	l.ids = append(l.ids, n.ID)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// start reads the outbox and begins to send. It forgets what was sent long ago.
func (b *outbox) start(ctx context.Context) error {
	store := b.sink.store
	sent, err := store.List(ctx, sentDir)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	was := map[string]bool{}
	for _, o := range sent {
		if b.sink.now().Sub(o.ModTime) > sentFor {
			if err := store.Delete(ctx, o.Name); err != nil {
				return fmt.Errorf("notify: %w", err)
			}
			continue
		}
		was[path.Base(o.Name)] = true
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
		if l := b.lines[n.Policy+"\x00"+n.Receiver]; l == nil || !l.has(n.ID) { // Publish has put some there
			b.queue(n)
		}
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx)) // until Close
	for _, l := range b.lines {
		b.done.Go(l.run)
	}
	return nil
}

func (l *line) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.ids {
		if other == id {
			return true
		}
	}
	return false
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

// run sends what is in the line, one after the other, until the outbox is closed.
func (l *line) run() {
	for {
		l.mu.Lock()
		id := ""
		if len(l.ids) > 0 {
			id = l.ids[0]
		}
		l.mu.Unlock()
		if id == "" {
			select {
			case <-l.more:
				continue
			case <-l.box.ctx.Done():
				return
			}
		}
		if !l.deliver(id) {
			return
		}
		l.mu.Lock()
		l.ids = l.ids[1:]
		l.mu.Unlock()
	}
}

// deliver tries a notification until it was taken or is given up; false says that the outbox
// is closed.
func (l *line) deliver(id string) bool {
	s, ctx := l.box.sink, l.box.ctx
	for attempt := 0; ; attempt++ {
		err := l.attempt(ctx, id)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		pause := min(firstPause<<min(attempt, 30), maxPause)
		pause = pause/2 + rand.N(pause/2)
		if later := (laterError{}); errors.As(err, &later) {
			pause = min(max(pause, later.after), maxPause)
		}
		s.log.Warn("notification was not delivered, another attempt follows", "id", id, "attempt", attempt+1, "pause", pause.Round(time.Millisecond), "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}

// attempt sends a notification once. An error asks for another attempt.
func (l *line) attempt(ctx context.Context, id string) error {
	s := l.box.sink
	name := outboxDir + id + ".json"
	n, err := l.box.read(ctx, name)
	if errors.Is(err, pipeline.ErrNotExist) {
		return nil // somebody has taken it out of the store
	}
	if err != nil {
		return err
	}
	actx, cancel := context.WithTimeout(ctx, s.cfg.AttemptTimeout)
	err = l.sender.send(actx, n)
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
	if err := s.store.Delete(ctx, outboxDir+n.ID+".json"); err != nil {
		return fmt.Errorf("notify: %s: %w", outboxDir+n.ID, err)
	}
	return nil
}

package clickhouse

import (
	"context"
	"time"
)

// This file is the back pressure of a slow or absent server. What is sealed and not in the
// table has a limit; at the limit Write waits, so the queues before it fill up and reading
// stops. One block is sent at a time, so a server has at most one INSERT of a table.
//
// Write waits for earlier epochs only. Their Publish needs nothing of the epoch at hand, so
// it ends, or the job does, and either ends the wait. An epoch that is larger than the limit
// by itself is not held up: nothing else would make room.

// pending is what is sealed and not yet in the table.
type pending struct {
	bytes   map[string]int64 // by object
	changed chan struct{}    // closed when it gets less
}

func (p *pending) total() int64 {
	n := int64(0)
	for _, b := range p.bytes {
		n += b
	}
	return n
}

// sealed remembers an object of which nothing was sent.
func (s *Sink) sealed(object string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh[object] = true
	s.pending.bytes[object] = size
	s.observer.Pending(s.pending.total())
}

// delivered takes an object off what is pending.
func (s *Sink) delivered(object string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending.bytes, object)
	close(s.pending.changed)
	s.pending.changed = make(chan struct{})
	s.observer.Pending(s.pending.total())
}

// room waits until earlier epochs leave room for one that has sealed so many bytes.
func (s *Sink) room(ctx context.Context, own int64) error {
	for {
		s.mu.Lock()
		earlier, changed := s.pending.total(), s.pending.changed
		s.mu.Unlock()
		if earlier == 0 || earlier+own <= s.cfg.MaxPendingBytes {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// headroom tells the observer for how long yet the server remembers the token of a block
// that was sent first at a time.
func (s *Sink) headroom(blocks int, since time.Time) {
	s.mu.Lock()
	window, every := s.window, s.every
	s.mu.Unlock()
	if window.blocks == 0 || every == 0 {
		return // no token is remembered, or nobody knows yet how fast blocks come
	}
	s.observer.Headroom(window.protects(int64(blocks), every) - s.now().Sub(since))
}

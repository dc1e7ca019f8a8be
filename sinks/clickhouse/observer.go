package clickhouse

import "time"

// Observer is told how the sink does; its functions are called from any goroutine.
type Observer struct {
	// Attempt is one request and its outcome.
	Attempt func(outcome string)
	// Pending is the size of what is sealed and not in the table.
	Pending func(bytes int64)
	// Headroom is for how long yet the server remembers the token of the oldest block that
	// is pending.
	Headroom func(left time.Duration)
	// Mismatch is the number of blocks in which an audit found the table wrong.
	Mismatch func(blocks int64)
}

// unobserved is for a sink that nobody observes.
func unobserved() Observer {
	return Observer{Attempt: func(string) {}, Pending: func(int64) {}, Headroom: func(time.Duration) {}, Mismatch: func(int64) {}}
}

// Observe sets the observer, before the first epoch. All of its functions must be there.
func (s *Sink) Observe(o Observer) { s.observer = o }

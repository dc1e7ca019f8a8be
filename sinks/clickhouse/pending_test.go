package clickhouse

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// TestStalledServer: while the server gives no answer the next epoch takes no rows once what
// is pending has reached its limit, and goes on when the server does. With a limit that is
// never reached it does not wait, and an epoch that has nothing before it never does.
func TestStalledServer(t *testing.T) {
	for _, limit := range []int64{1, 1 << 30} {
		r := newRig(t, func(c *Config) { c.MaxPendingBytes = limit })
		stalled, answer := make(chan struct{}), make(chan struct{})
		r.model.script = []func(insertion) error{func(in insertion) error {
			close(stalled)
			<-answer
			r.model.land(in)
			return nil
		}}
		published := make(chan error, 1)
		go func() { published <- r.sink.Publish(t.Context(), r.raw) }()
		<-stalled
		st, err := r.sink.Begin(t.Context(), pipeline.Epoch{Job: r.cfg.Job, Lineage: 3, N: 2})
		if err != nil {
			t.Fatal(err)
		}
		rec := readingBatch(r.mem, readings(2, 10))
		defer rec.Release()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = st.Write(ctx, pipeline.Result(rec))
		cancel()
		if waited := errors.Is(err, context.DeadlineExceeded); waited != (limit == 1) {
			t.Errorf("limit %d: Write = %v", limit, err)
		}
		wrote := make(chan error, 1)
		go func() { wrote <- st.Write(t.Context(), pipeline.Result(rec)) }()
		close(answer)
		if err := errors.Join(<-published, <-wrote); err != nil {
			t.Fatal(err)
		}
		if err := st.Abort(); err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 40)
	}
}

// TestObserver: what an observer hears of an epoch whose first block is refused, then lost.
func TestObserver(t *testing.T) {
	r := newRig(t, nil)
	outcomes := map[string]int{}
	var pending []int64
	var headroom []time.Duration
	mismatches := int64(0)
	r.sink.Observe(Observer{
		Attempt:  func(o string) { outcomes[o]++ },
		Pending:  func(b int64) { pending = append(pending, b) },
		Headroom: func(d time.Duration) { headroom = append(headroom, d) },
		Mismatch: func(n int64) { mismatches += n },
	})
	r.sink.cfg.AuditEvery = 1
	clock := time.Now()
	r.sink.now = func() time.Time { clock = clock.Add(time.Second); return clock }
	if err := r.sink.Publish(t.Context(), r.raw); err != nil {
		t.Fatal(err)
	}
	if mismatches != 0 {
		t.Errorf("%d mismatches in a table as written", mismatches)
	}
	r.model.script = []func(insertion) error{func(insertion) error { return exception(252) }, r.model.lost}
	raw := prepared(t, r, 2, 5, 40)
	r.model.rows = r.model.rows[:39] // somebody deletes a row of the first epoch
	r.sink.cfg.Append = true
	if err := r.sink.Publish(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	if outcomes["slow down"] != 1 || outcomes["unknown"] != 1 || outcomes["done"] < 12 || mismatches != 1 {
		t.Errorf("outcomes %v, %d mismatches", outcomes, mismatches)
	}
	if n := len(pending); n < 3 || pending[n-1] != 0 || pending[n-2] <= 0 {
		t.Errorf("pending bytes %v", pending)
	}
	if len(headroom) == 0 || headroom[1] >= headroom[0] {
		t.Errorf("headroom %v", headroom)
	}
}

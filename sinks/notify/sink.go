package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// Outcome is what became of a notification, for who counts.
type Outcome string

// Outcomes.
const (
	Sent     Outcome = "sent"
	Retried  Outcome = "retried"  // an attempt failed, another follows
	Dead     Outcome = "dead"     // given up
	Stale    Outcome = "stale"    // the finding is of the past
	Silenced Outcome = "silenced" // somebody asked not to be told
	Repeated Outcome = "repeated" // it was sent already
	Excess   Outcome = "excess"   // more than maxOfEpoch of a policy at once
)

// Sink tells the receivers of the policies. It implements pipeline.Sink.
type Sink struct {
	cfg     Config
	store   pipeline.Store
	schema  *arrow.Schema
	log     *slog.Logger
	observe func(policy string, o Outcome)
	now     func() time.Time
	muted   bool
	box     *outbox
}

// Objects of the store.
const (
	outboxDir = "notify/outbox/"
	sentDir   = "notify/sent/"
	deadDir   = "notify/dead/"
)

// notification is one message to one receiver.
type notification struct {
	ID         string          `json:"id"`
	Policy     string          `json:"policy"`
	Receiver   string          `json:"receiver"` // that of a webhook, or an address
	UID        string          `json:"uid"`
	Transition Transition      `json:"transition"`
	Sequence   int64           `json:"sequence,omitempty"` // of an update: there are several
	Queued     time.Time       `json:"queued_at"`
	Event      json.RawMessage `json:"event"`
}

// New makes the sink of events with a schema. Observe is told the outcome of every
// notification; nil for nobody. Nothing is sent before Sweep.
func New(cfg Config, store pipeline.Store, schema *arrow.Schema, log *slog.Logger, observe func(policy string, o Outcome)) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	for _, f := range schema.Fields() {
		if err := pipeline.CheckJSON(f); err != nil {
			return nil, fmt.Errorf("notify: column %s: %w", f.Name, err)
		}
	}
	if !schema.HasField("finding_info") {
		return nil, errors.New("notify: the results are no OCSF findings, of which alone it can tell: set normalize: {to: ocsf} and a section that finds something (power, traffic)")
	}
	if observe == nil {
		observe = func(string, Outcome) {}
	}
	s := &Sink{cfg: cfg, store: store, schema: schema, log: log.With("sink", "notify"), observe: observe, now: time.Now}
	senders, err := s.senders()
	if err != nil {
		return nil, err
	}
	s.box = newOutbox(s, senders)
	return s, nil
}

// Mute makes the sink one that tells nobody of what it is given, for jobs that read the past.
// What is in a checkpoint or in the outbox already waits for a sink that is not muted.
func (s *Sink) Mute() { s.muted = true }

// maxOfEpoch is how many notifications a policy makes of one epoch. What is beyond it is in the
// tables of the job, and nobody reads a thousand letters.
const maxOfEpoch = 1000

// stage collects the notifications of an epoch.
type stage struct {
	sink  *Sink
	epoch pipeline.Epoch
	list  []notification
	made  map[string]int // notifications, by policy
	row   []byte
	ended bool
}

// errEnded is the answer to calls after the end of a stage.
var errEnded = errors.New("notify: the stage has ended")

// usable tells whether a call may go on.
func (st *stage) usable(ctx context.Context) error {
	if st.ended {
		return errEnded
	}
	return ctx.Err()
}

// Begin implements pipeline.Sink.
func (s *Sink) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	return &stage{sink: s, epoch: e, made: map[string]int{}}, ctx.Err()
}

// Write reads the events of a batch.
func (st *stage) Write(ctx context.Context, b pipeline.Batch) error {
	if err := st.usable(ctx); err != nil {
		return err
	}
	if b.Rows == nil {
		for r := range int(b.Rec.NumRows()) {
			if err := st.event(b.Rec, r); err != nil {
				return err
			}
		}
		return nil
	}
	for _, r := range b.Rows {
		if err := st.event(b.Rec, int(r)); err != nil {
			return err
		}
	}
	return nil
}

// event makes the notifications of one event.
func (st *stage) event(rec arrow.RecordBatch, r int) error {
	s := st.sink
	st.row = append(st.row[:0], '{')
	for i, f := range s.schema.Fields() {
		if !strings.HasPrefix(f.Name, "_tm_") {
			st.row = pipeline.AppendJSONMember(st.row, 1, f, rec.Column(i), r)
		}
	}
	st.row = append(st.row, '}')
	e, ok, err := readEvent(st.row)
	if err != nil || !ok {
		return err
	}
	for _, p := range s.cfg.Policies {
		switch {
		case s.muted || !p.takes(e):
		case e.silenced():
			s.observe(p.Name, Silenced)
		case s.now().Sub(e.at()) > s.cfg.MaxAge:
			s.observe(p.Name, Stale)
		case st.made[p.Name] >= maxOfEpoch:
			s.observe(p.Name, Excess)
		default:
			st.made[p.Name]++
			st.add(p, e)
		}
	}
	return nil
}

func (st *stage) add(p Policy, e event) {
	n := notification{Policy: p.Name, UID: e.Info.UID, Transition: e.transition(), Queued: st.sink.now().UTC(), Event: append([]byte(nil), st.row...)}
	if n.Transition == Update {
		n.Sequence = e.Metadata.Sequence
	}
	for _, w := range p.Webhooks {
		n.Receiver = w.receiver()
		st.list = append(st.list, n.named())
	}
	for _, m := range p.Emails {
		n.Receiver = m
		st.list = append(st.list, n.named())
	}
}

// named sets the id, which depends on neither run nor epoch.
func (n notification) named() notification {
	sum := sha256.Sum256([]byte(strings.Join([]string{n.Policy, n.Receiver, n.key()}, "\x00")))
	n.ID = hex.EncodeToString(sum[:16])
	return n
}

// key is the Idempotency-Key: the uid of the finding and the transition, with a number where
// there are several.
func (n notification) key() string {
	key := n.UID + ":" + string(n.Transition)
	if n.Sequence > 0 {
		key += ":" + strconv.FormatInt(n.Sequence, 10)
	}
	return key
}

// receiver names a webhook in the store and in logs without its URL, which may be a secret.
func (w Webhook) receiver() string {
	sum := sha256.Sum256([]byte(w.URL))
	return "webhook " + hex.EncodeToString(sum[:8])
}

// Prepare returns the notifications as a receipt, which the checkpoint keeps: they are few.
func (st *stage) Prepare(ctx context.Context, _ pipeline.Mark) (pipeline.Receipt, error) {
	if err := st.usable(ctx); err != nil {
		return nil, err
	}
	st.ended = true
	if len(st.list) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(st.list)
	if err != nil {
		return nil, fmt.Errorf("notify: epoch %d: %w", st.epoch.N, err)
	}
	return b, nil
}

// Abort drops the notifications.
func (st *stage) Abort() error {
	st.ended = true
	return nil
}

// Publish puts the notifications of a receipt into the outbox, but for those that were sent.
func (s *Sink) Publish(ctx context.Context, r pipeline.Receipt) error {
	if len(r) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(r))
	d.DisallowUnknownFields()
	var list []notification
	if err := d.Decode(&list); err != nil {
		return fmt.Errorf("notify: receipt: %w", err)
	}
	for _, n := range list {
		if n.ID != n.named().ID {
			return fmt.Errorf("notify: receipt: a notification of finding %q is not what was staged", n.UID)
		}
		if err := s.box.put(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Sweep begins to send what is in the outbox.
func (s *Sink) Sweep(ctx context.Context) error {
	if s.muted {
		return nil
	}
	return s.box.start(ctx)
}

// Close ends the sending; what is in the outbox stays there.
func (s *Sink) Close() error {
	s.box.close()
	return nil
}

// sender delivers a notification. The error says why not; permanent ones are not tried again.
type sender interface {
	send(ctx context.Context, n notification) error
}

// permanentError is one that another attempt would meet again.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// laterError names a time before which the receiver wants no other attempt.
type laterError struct {
	error
	after time.Duration
}

func (e laterError) Unwrap() error { return e.error }

// senders returns one for every receiver.
func (s *Sink) senders() (map[string]sender, error) {
	out := map[string]sender{}
	allowed, err := s.cfg.networks()
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	client := newClient(s.cfg, allowed)
	for _, p := range s.cfg.Policies {
		for _, w := range p.Webhooks {
			out[p.Name+"\x00"+w.receiver()] = &webhook{cfg: s.cfg, hook: w, client: client}
		}
		for _, m := range p.Emails {
			e, err := newEmail(s.cfg, m)
			if err != nil {
				return nil, fmt.Errorf("notify: policy %s: %w", p.Name, err)
			}
			out[p.Name+"\x00"+m] = e
		}
	}
	return out, nil
}

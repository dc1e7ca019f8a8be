package clickhouse

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
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/crash"
)

const (
	// firstPause and maxPause bound the wait before an attempt is repeated: it doubles, and
	// a half of it is random.
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
)

// Sink writes one table. It implements pipeline.Sink.
type Sink struct {
	cfg      Config
	store    pipeline.Store
	schema   *arrow.Schema
	sealedAs *arrow.Schema
	cols     []column
	own      ownColumns
	mem      memory.Allocator
	log      *slog.Logger
	server   server
	pause    func(attempt int) time.Duration
	now      func() time.Time
	observer Observer
	run      string // in the names of what this sink seals
	hashes   bool   // records have the keys of their rows

	mu      sync.Mutex
	ready   bool            // the table was made or checked
	fresh   map[string]bool // objects sealed here of which no block was sent yet
	settled []string        // objects whose epochs are recorded
	told    told
	every   time.Duration // between the last two receipts
	window  dedupWindow   // of the table
	pending pending
	audited int // epochs with rows since the last audit
}

// New makes the sink of one table. Batches must have the schema. It talks to no server
// yet: Check and the first Publish do.
func New(cfg Config, store pipeline.Store, schema *arrow.Schema, log *slog.Logger) (*Sink, error) {
	s, err := newSink(cfg, store, schema, log)
	if err != nil {
		return nil, err
	}
	if s.server, err = dial(cfg, s.cols); err != nil {
		return nil, fmt.Errorf("clickhouse sink %s: %w", cfg.Table, redacted(err, string(cfg.Password)))
	}
	return s, nil
}

func newSink(cfg Config, store pipeline.Store, schema *arrow.Schema, log *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("clickhouse sink: %w", err)
	}
	cols, own, err := columnsOf(cfg, schema)
	if err != nil {
		return nil, fmt.Errorf("clickhouse sink %s: %w", cfg.Table, err)
	}
	if err := checkKeys(cfg, schema, cols); err != nil {
		return nil, fmt.Errorf("clickhouse sink %s: %w", cfg.Table, err)
	}
	_, hashable := keyHash(cfg, cols)
	run := make([]byte, 8)
	_, _ = rand.Read(run) // never fails
	return &Sink{
		cfg: cfg, store: store, schema: schema, sealedAs: sealedSchema(cols, own), cols: cols, own: own,
		mem: memory.DefaultAllocator, log: log.With("sink", "clickhouse", "table", cfg.Database+"."+cfg.Table),
		pause: backoff, now: time.Now, observer: unobserved(), run: hex.EncodeToString(run), fresh: map[string]bool{},
		told: told{mark: pipeline.MinTicks}, pending: pending{bytes: map[string]int64{}, changed: make(chan struct{})}, hashes: hashable && cfg.AuditKeys && !cfg.Append,
	}, nil
}

func backoff(attempt int) time.Duration {
	d := min(firstPause<<min(attempt, 16), maxPause)
	return d/2 + randv2.N(d/2)
}

func (s *Sink) tableName() string { return s.cfg.Database + "." + s.cfg.Table }

// sealedPrefix begins the names of all sealed objects of this job and table.
func (s *Sink) sealedPrefix() string {
	return "sealed/" + segment(s.cfg.Job) + "/" + s.tableName() + "/"
}

func (s *Sink) objectName(e pipeline.Epoch) string {
	return fmt.Sprintf("%s%d-%d-%s.arrow", s.sealedPrefix(), e.Lineage, e.N, s.run)
}

// segment makes one path segment of any text.
func segment(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Begin starts the stage of an epoch.
func (s *Sink) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.Job != s.cfg.Job {
		return nil, fmt.Errorf("clickhouse sink %s: epoch of job %s, configured for job %s", s.cfg.Table, e.Job, s.cfg.Job)
	}
	if _, err := pipeline.Version(e.Lineage, e.N, 0); err != nil {
		return nil, fmt.Errorf("clickhouse sink %s: %w", s.cfg.Table, err)
	}
	return &stage{sink: s, epoch: e, order: pipeline.RowOrder{By: s.cfg.PartitionBy, TimeColumn: s.cfg.TimeColumn, Keys: s.cfg.OrderBy}}, nil
}

// Publish sends the blocks of a receipt and records the epoch. It may be repeated, by any
// process, from any point where it stopped. It returns when all is done, when ctx ends, or
// when somebody has to fix something; nothing is ever left out.
func (s *Sink) Publish(ctx context.Context, raw pipeline.Receipt) error {
	if len(raw) == 0 {
		return nil
	}
	r, err := s.open(raw)
	if err != nil {
		return fmt.Errorf("publish %s: %w", s.tableName(), err)
	}
	if err := s.publish(ctx, r); err != nil {
		return fmt.Errorf("publish %s epoch %d: %w", s.tableName(), r.Epoch, err)
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
	if r.Format < 1 || r.Format > receiptFormat {
		return r, fmt.Errorf("receipt of format %d, this version reads 1 to %d: use the version that wrote the checkpoint", r.Format, receiptFormat)
	}
	if r.Table != s.tableName() || r.Job != s.cfg.Job {
		return r, fmt.Errorf("receipt of job %s table %s, this sink is job %s table %s: the table was renamed with a receipt pending, restore the old name for one start",
			r.Job, r.Table, s.cfg.Job, s.tableName())
	}
	named := r.Object != ""
	if named == (len(r.Blocks) == 0) || r.Size < 0 || named && !(strings.HasPrefix(r.Object, s.sealedPrefix()) && fs.ValidPath(r.Object)) {
		return r, fmt.Errorf("receipt of epoch %d names object %s of %d bytes with %d blocks", r.Epoch, r.Object, r.Size, len(r.Blocks))
	}
	for n, b := range r.Blocks {
		if b.Rows < 1 || b.Rows > MaxBlockRows {
			return r, fmt.Errorf("receipt of epoch %d: block %d has %d rows, want 1 to %d", r.Epoch, n, b.Rows, MaxBlockRows)
		}
	}
	return r, nil
}

func (s *Sink) publish(ctx context.Context, r receipt) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	if err := s.forget(ctx, r.Object); err != nil {
		return err
	}
	s.mu.Lock()
	fresh := s.fresh[r.Object]
	delete(s.fresh, r.Object)
	s.mu.Unlock()

	c := commit{
		job: r.Job, table: r.Table, lineage: r.Lineage, epoch: r.Epoch, blocks: uint32(len(r.Blocks)),
		rows: r.rows(), hash: r.XXH64, minTime: r.MinTime, maxTime: r.MaxTime,
		watermark: r.Watermark, completeTo: r.CompleteTo, blockRows: r.blockRows(),
	}
	if !fresh {
		there, err := s.isRecorded(ctx, c)
		if err != nil {
			return err
		}
		if there {
			s.settle(r.Object)
			return nil
		}
	}
	if r.Object != "" {
		var err error
		if c.keys, err = s.deliver(ctx, r, fresh); err != nil {
			return err
		}
	}
	crash.At("clickhouse.inserted")
	err := s.try(ctx, "record the epoch in "+commitsTable, func(ctx context.Context) error {
		c.at = s.now()
		return s.server.record(ctx, c, fmt.Sprintf("tm1c/%s/%d/%s/%d", r.Job, r.Lineage, r.Table, r.Epoch))
	})
	if err != nil {
		return err
	}
	crash.At("clickhouse.recorded")
	s.settle(r.Object)
	if r.Object != "" {
		s.auditIfDue(ctx)
	}
	return nil
}

// deliver sends what is not yet there of a sealed object, and returns its keys.
func (s *Sink) deliver(ctx context.Context, r receipt, fresh bool) ([][]uint64, error) {
	if err := s.verifyObject(ctx, r); err != nil {
		if errors.Is(err, pipeline.ErrNotExist) {
			return nil, fmt.Errorf("epoch is neither in %s nor in the store: %w: somebody removed the sealed object or the commit row, replay from an earlier checkpoint", commitsTable, err)
		}
		return nil, err
	}
	return s.sendAll(ctx, r, fresh)
}

// settle remembers an object that is no longer needed once a later checkpoint is durable.
func (s *Sink) settle(object string) {
	if object == "" {
		return
	}
	s.delivered(object)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = append(s.settled, object)
}

// forget deletes the objects of epochs that were recorded before the one of keep: that
// Publish is called for it says that its checkpoint, which does not name them, is durable.
func (s *Sink) forget(ctx context.Context, keep string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.settled[:0]
	var errs []error
	for _, name := range s.settled {
		if name == keep {
			continue // published again; settle will be called for it
		}
		if err := s.store.Delete(ctx, name); err != nil {
			errs = append(errs, err)
			rest = append(rest, name)
		}
	}
	s.settled = rest
	return errors.Join(errs...)
}

// isRecorded tells whether the epoch is in tm_commits.
func (s *Sink) isRecorded(ctx context.Context, c commit) (there bool, err error) {
	var old commit
	err = s.try(ctx, "look for the epoch in "+commitsTable, func(ctx context.Context) (err error) {
		old, there, err = s.server.recorded(ctx, c.job, c.table, c.lineage, c.epoch)
		return err
	})
	if err != nil || !there {
		return false, err
	}
	if old.hash != c.hash || old.rows != c.rows || old.blocks != c.blocks {
		return false, fmt.Errorf("%s has %d rows in %d blocks with hash %s for job %s lineage %d, the receipt %d in %d with %s: another process uses the same job name and lineage: stop one of the two, then replay the epoch",
			commitsTable, old.rows, old.blocks, old.hash, c.job, c.lineage, c.rows, c.blocks, c.hash)
	}
	return true, nil
}

// sendAll sends the blocks of an epoch that are not in the table, and returns the keys of all.
func (s *Sink) sendAll(ctx context.Context, r receipt, fresh bool) (keys [][]uint64, err error) {
	var there map[uint32]int64
	if !fresh && s.cfg.Delivery == ExactlyOnce {
		if there, err = s.count(ctx, r); err != nil {
			return nil, err
		}
	}
	err = s.readBlocks(ctx, r, func(n int, rec arrow.RecordBatch) error {
		if k := s.keysOf(rec, r.Lineage); k != nil {
			keys = append(keys, k)
		}
		present, err := s.judge(r, n, there)
		if err != nil || present {
			return err
		}
		return s.send(ctx, r, n, rec)
	})
	return keys, err
}

// count asks which blocks of an epoch are in the table.
func (s *Sink) count(ctx context.Context, r receipt) (there map[uint32]int64, err error) {
	err = s.try(ctx, "count the rows of the epoch", func(ctx context.Context) (err error) {
		there, err = s.server.blockRows(ctx, r.Lineage, r.Epoch)
		return err
	})
	return there, err
}

// judge tells from the rows found whether block n was written. One INSERT into one
// partition is atomic, so some rows mean all of them: fewer are left only where the
// engine has replaced rows of the same key meanwhile.
func (s *Sink) judge(r receipt, n int, there map[uint32]int64) (present bool, err error) {
	found, want := there[uint32(n)], r.Blocks[n].Rows
	if found > want || s.cfg.Append && found != 0 && found != want {
		return false, fmt.Errorf("block %d has %d rows in the table and %d in the receipt: another process uses the table with the same lineage, or rows were changed by hand: delete the rows WHERE %s = %d AND %s = %d AND %s = %d, then start again",
			n, found, want, colLineage, r.Lineage, colEpoch, r.Epoch, colBlock, n)
	}
	return found > 0, nil
}

// send sends one block until the server has it. After an outcome that is not known it
// looks before it sends again.
func (s *Sink) send(ctx context.Context, r receipt, n int, rec arrow.RecordBatch) error {
	in := insertion{rec: rec, lineage: r.Lineage, epoch: r.Epoch, n: uint32(n), token: r.token(n)}
	began := s.now()
	for attempt := 0; ; attempt++ {
		s.headroom(len(r.Blocks), began)
		err := s.attempt(ctx, func(ctx context.Context) error { return s.server.insert(ctx, in) })
		what := fmt.Sprintf("insert of block %d", n)
		o, err := s.after(ctx, what, attempt, err)
		if err != nil {
			return err
		}
		crash.At("clickhouse.sent")
		if o == done {
			return nil
		}
		if o != unknown || s.cfg.Delivery != ExactlyOnce {
			continue
		}
		there, err := s.count(ctx, r)
		if err != nil {
			return err
		}
		present, err := s.judge(r, n, there)
		if err != nil || present {
			return err
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
	return redacted(f(ctx), string(s.cfg.Password))
}

// after judges an attempt and waits where another one makes sense. The error is one that
// ends Publish.
func (s *Sink) after(ctx context.Context, what string, attempt int, err error) (outcome, error) {
	o := classify(err)
	s.observer.Attempt(o.String())
	if o == done {
		return done, nil
	}
	if ctx.Err() != nil {
		return o, fmt.Errorf("%s: %w (last outcome: %v)", what, ctx.Err(), err)
	}
	if o == fixNeeded {
		return o, fmt.Errorf("%s: %w: no repetition helps; fix the cause and start again, the rows are in the checkpoint", what, err)
	}
	d := s.pause(attempt)
	s.log.Warn("attempt failed", "what", what, "outcome", o, "attempt", attempt+1, "pause", d, "error", err)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return o, fmt.Errorf("%s: %w (last outcome: %w)", what, ctx.Err(), err)
	case <-t.C:
		return o, nil
	}
}

// try repeats what may be repeated without a look.
func (s *Sink) try(ctx context.Context, what string, f func(ctx context.Context) error) error {
	for attempt := 0; ; attempt++ {
		o, err := s.after(ctx, what, attempt, s.attempt(ctx, f))
		if err != nil || o == done {
			return err
		}
	}
}

// Ready makes what is missing on the server and checks what is there, once. It repeats
// attempts until ctx ends.
func (s *Sink) Ready(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready {
		return ctx.Err()
	}
	if s.cfg.Create == "auto" {
		ddl, err := s.ddl(ctx)
		if err != nil {
			return err
		}
		for _, sql := range ddl {
			if err := s.try(ctx, "create", func(ctx context.Context) error { return s.server.exec(ctx, sql) }); err != nil {
				return err
			}
		}
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	return nil
}

// ddl returns what makes tables and views, by whether anything was decided about lineages.
func (s *Sink) ddl(ctx context.Context) ([]string, error) {
	if s.cfg.Append || s.cfg.ByLineage {
		return DDL(s.cfg, s.schema)
	}
	decided := false
	err := s.try(ctx, "look for decisions in "+RangesTable, func(ctx context.Context) (err error) {
		decided, err = s.server.decided(ctx)
		return err
	})
	if err != nil || !decided {
		ddl, derr := DDL(s.cfg, s.schema)
		return ddl, errors.Join(err, derr)
	}
	return statements(s.cfg, s.schema, switchedView)
}

// Check tells whether the table is there and can keep the promise of the configuration.
func (s *Sink) Check(ctx context.Context) error {
	var info tableInfo
	var found bool
	err := s.try(ctx, "describe the table", func(ctx context.Context) (err error) {
		info, found, err = s.server.table(ctx, s.cfg.Table)
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("table %s does not exist: run the statements of tidemark ddl, or set create: auto", s.tableName())
	}
	if err := info.check(s.cfg, s.cols); err != nil {
		return err
	}
	s.mu.Lock()
	s.window = info.window
	s.mu.Unlock()
	err = s.try(ctx, "describe "+commitsTable, func(ctx context.Context) (err error) {
		info, found, err = s.server.table(ctx, commitsTable)
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("table %s.%s does not exist: run the statements of tidemark ddl, or set create: auto", s.cfg.Database, commitsTable)
	}
	if err := info.checkCommits(s.cfg); err != nil {
		return err
	}
	other := ""
	err = s.try(ctx, "look for other jobs in "+commitsTable, func(ctx context.Context) (err error) {
		other, err = s.server.otherJob(ctx, s.cfg.Job, s.tableName())
		return err
	})
	if err != nil {
		return err
	}
	if other != "" { // blocks are told apart by lineage, epoch and number alone
		return fmt.Errorf("table %s belongs to job %s, this is job %s: give each job a table of its own; if the job was renamed, delete its rows from %s",
			s.tableName(), other, s.cfg.Job, commitsTable)
	}
	return nil
}

// Sweep removes what earlier runs of this job and table sealed. Epochs that were published
// are in tm_commits, so that a receipt of the last checkpoint needs its object no more.
func (s *Sink) Sweep(ctx context.Context) error {
	sealed, err := s.store.List(ctx, s.sealedPrefix())
	if err != nil {
		return fmt.Errorf("sweep %s: %w", s.tableName(), err)
	}
	for _, o := range sealed {
		if strings.HasSuffix(o.Name, "-"+s.run+".arrow") {
			continue // sealed by this very sink
		}
		if err := s.store.Delete(ctx, o.Name); err != nil {
			return fmt.Errorf("sweep %s: %w", s.tableName(), err)
		}
	}
	return nil
}

// Close ends the connections.
func (s *Sink) Close() error {
	if s.server == nil {
		return nil
	}
	return s.server.close()
}

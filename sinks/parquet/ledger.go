package parquet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// ledger is the manifest log as far as Prepare needs it: the hash of its last entry, and
// the partitions that have files and are not complete. It is a function of the receipts
// published so far. Every entry carries it, so a start reads one entry, not the log.
type ledger struct {
	last string           // "" for an empty log
	open map[string]tally // by partition; nil when the table never completes
	// held and since are settled.Held and HeldSince.
	held  []held
	since *int64
}

// tally counts what a partition holds.
type tally struct {
	Files int64 `json:"files"`
	Rows  int64 `json:"rows"`
}

func (t tally) plus(o tally) tally { return tally{t.Files + o.Files, t.Rows + o.Rows} }

// openPartition is one entry of ledger.open as the log has it.
type openPartition struct {
	Partition string `json:"partition"` // dt=…/hour=…
	tally
}

// head names the last entry of the log. It is a hint that saves a listing of the log: an
// entry without its head is published again at the next start, since its receipt is in the
// checkpoint, and then gets it.
type head struct {
	Entry   string `json:"entry"`
	SHA256  string `json:"sha256"`
	Lineage uint16 `json:"lineage"`
	Epoch   int64  `json:"epoch"`
}

// before tells whether work at (lineage, epoch) a precedes that at b.
func before(aLineage uint16, a int64, bLineage uint16, b int64) bool {
	return aLineage < bLineage || aLineage == bLineage && a < b
}

func hashEntry(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

// tracks tells whether partitions of this table become complete.
func (c Config) tracks() bool { return c.CompleteAfter >= 0 && c.PartitionBy != pipeline.PartitionNone }

// partitionOf returns the partition of a final name: its folder below the table's.
func (c Config) partitionOf(final string) string {
	rest := strings.TrimPrefix(final, folder(c.Table)+"/")
	return rest[:max(0, strings.LastIndexByte(rest, '/'))]
}

// partitionEnd returns where a partition ends, in ticks. That of rows without a time, and
// that of rows far away, have no end.
func partitionEnd(partition string) (int64, bool) {
	if t, err := time.Parse("dt=2006-01-02/hour=15", partition); err == nil {
		return t.Add(time.Hour).UnixMicro(), true
	}
	t, err := time.Parse("dt=2006-01-02", partition)
	return t.AddDate(0, 0, 1).UnixMicro(), err == nil
}

// tallies counts files by partition.
func (c Config) tallies(files []file) map[string]tally {
	by := map[string]tally{}
	for _, f := range files {
		p := c.partitionOf(f.Final)
		if _, ends := partitionEnd(p); ends {
			by[p] = by[p].plus(tally{1, f.Rows})
		}
	}
	return by
}

// settle works out which partitions an epoch completes, and leaves the rest in r.Open. It
// must come after Publish of the epoch before, because the marker of a partition that was
// complete already tells its revision.
func (s *Sink) settle(ctx context.Context, l ledger, r *receipt, at int64) error {
	if !s.cfg.tracks() {
		return nil
	}
	open := maps.Clone(l.open)
	added := s.cfg.tallies(r.Files)
	for _, p := range slices.Sorted(maps.Keys(added)) {
		t, known := open[p]
		open[p] = t.plus(added[p])
		if known {
			continue
		}
		// Either new, or complete before: then its marker is out of date with this epoch.
		old, err := s.marker(ctx, p)
		if err != nil {
			return err
		}
		if old.Revision > 0 {
			r.Complete = append(r.Complete, old.next(p, open[p], at))
			delete(open, p)
		}
	}
	r.Open = []openPartition{}
	for _, p := range slices.Sorted(maps.Keys(open)) {
		end, _ := partitionEnd(p)
		if pipeline.AddTicks(end-1, s.cfg.CompleteAfter) > at {
			r.Open = append(r.Open, openPartition{p, open[p]})
			continue
		}
		old, err := s.marker(ctx, p)
		if err != nil {
			return err
		}
		r.Complete = append(r.Complete, old.next(p, open[p], at))
	}
	return nil
}

// ledgerAfter is the ledger once a receipt is published.
func (s *Sink) ledgerAfter(r receipt) (ledger, error) {
	body, err := entryOf(r)
	if err != nil {
		return ledger{}, err
	}
	return ledger{hashEntry(body), openOf(r.Open), r.Held, r.HeldSince}, nil
}

func openOf(list []openPartition) map[string]tally {
	open := map[string]tally{}
	for _, p := range list {
		open[p.Partition] = p.tally
	}
	return open
}

// loadLedger reads the ledger of the log. Every receipt of the checkpoint must have been
// published.
func (s *Sink) loadLedger(ctx context.Context) (ledger, error) {
	h, err := s.readHead(ctx)
	if err != nil {
		return ledger{}, err
	}
	if h.Entry == "" {
		return s.foldLog(ctx)
	}
	e, sum, err := s.readEntry(ctx, h.Entry)
	if err != nil {
		return ledger{}, err
	}
	if sum != h.SHA256 {
		return ledger{}, fmt.Errorf("manifest entry %s has hash %s, its head says %s: it was changed; put the entry back from a copy, or remove %s to have the log read anew", h.Entry, sum, h.SHA256, s.cfg.headName())
	}
	if s.cfg.tracks() && e.Open == nil { // of an epoch when this table never completed
		return s.foldLog(ctx)
	}
	return ledger{sum, openOf(e.Open), e.Held, e.HeldSince}, nil
}

// foldLog works the ledger out from the entries of the log, the last ones that do not carry
// it, or all of them.
func (s *Sink) foldLog(ctx context.Context) (ledger, error) {
	objects, err := s.store.List(ctx, s.cfg.logPrefix())
	if err != nil {
		return ledger{}, err
	}
	l := ledger{open: map[string]tally{}}
	var entries []entry // the newest first
	for _, o := range slices.Backward(objects) {
		if !s.cfg.ownEntry(o.Name) {
			continue
		}
		e, sum, err := s.readEntry(ctx, o.Name)
		if err != nil {
			return ledger{}, err
		}
		if entries = append(entries, e); len(entries) == 1 {
			l.last, l.held, l.since = sum, e.Held, e.HeldSince
		}
		if e.Open != nil || !s.cfg.tracks() {
			break
		}
	}
	for _, e := range slices.Backward(entries) {
		if e.Open != nil {
			l.open = openOf(e.Open)
			continue
		}
		for p, t := range s.cfg.tallies(e.Added) {
			l.open[p] = l.open[p].plus(t)
		}
	}
	return l, nil
}

func (s *Sink) readEntry(ctx context.Context, name string) (entry, string, error) {
	body, err := s.store.GetRange(ctx, name, 0, -1)
	if err != nil {
		return entry{}, "", fmt.Errorf("manifest entry: %w", err)
	}
	var e entry
	if err := json.Unmarshal(body, &e); err != nil {
		return entry{}, "", fmt.Errorf("manifest entry %s: %w: it was changed; put it back from a copy", name, err)
	}
	return e, hashEntry(body), nil
}

// readHead returns the head of the log, zero when there is none.
func (s *Sink) readHead(ctx context.Context) (head, error) {
	body, err := s.store.GetRange(ctx, s.cfg.headName(), 0, -1)
	if errors.Is(err, pipeline.ErrNotExist) {
		return head{}, nil
	}
	if err != nil {
		return head{}, err
	}
	var h head
	if err := json.Unmarshal(body, &h); err != nil {
		return head{}, fmt.Errorf("%s: %w: remove it to have the log read anew", s.cfg.headName(), err)
	}
	return h, nil
}

// advanceHead names an entry as the last one, unless a later one is there: a receipt may
// be published again behind others.
func (s *Sink) advanceHead(ctx context.Context, r receipt, body []byte) error {
	if s.head == nil {
		h, err := s.readHead(ctx)
		if err != nil {
			return err
		}
		s.head = &h
	}
	if s.head.Entry != "" && !before(s.head.Lineage, s.head.Epoch, r.Lineage, r.Epoch) {
		return nil
	}
	next := head{s.cfg.logName(r.Lineage, r.Epoch), hashEntry(body), r.Lineage, r.Epoch}
	text, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("head of the manifest log: %w", err)
	}
	if err := s.store.Put(ctx, s.cfg.headName(), text); err != nil {
		return err
	}
	s.head = &next
	return nil
}

package parquet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/cespare/xxhash/v2"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/crash"
)

// hashPiece is how much of an object is read at a time when its hash is computed.
const hashPiece = 1 << 20

// Sink writes one table. It implements pipeline.Sink.
type Sink struct {
	cfg      Config
	store    pipeline.Store
	schema   *arrow.Schema
	pqSchema *pq.Schema
	fields   []*shape
	revision int // index of _tm_revision, -1 for none
	options  []pq.WriterOption
	run      string // in the names of what this sink stages
	// rowGroupBytes ends a row group that has few rows.
	rowGroupBytes int64
	// ledger is that of the epochs prepared so far; nil until the first Prepare.
	ledger *ledger
	head   *head // of the manifest log; nil until the first Publish
}

// New makes the sink of one table. Batches must have the schema.
func New(cfg Config, store pipeline.Store, schema *arrow.Schema) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("parquet sink: %w", err)
	}
	cfg = cfg.laid()
	pqSchema, fields, revision, err := compile(cfg, schema)
	if err != nil {
		return nil, fmt.Errorf("parquet sink %s: %w", cfg.Table, err)
	}
	if cfg.Layout == LayoutLake {
		if err := checkLake(schema, cfg); err != nil {
			return nil, fmt.Errorf("parquet sink %s: %w", cfg.Table, err)
		}
	}
	if err := pipeline.CheckRowOrder(schema, cfg.PartitionBy, cfg.TimeColumn, cfg.order().Keys); err != nil {
		return nil, fmt.Errorf("parquet sink %s: %w", cfg.Table, err)
	}
	codec, err := codecOf(cfg.Codec)
	if err != nil {
		return nil, fmt.Errorf("parquet sink %s: %w", cfg.Table, err)
	}
	run := make([]byte, 8)
	_, _ = rand.Read(run) // never fails
	return &Sink{
		cfg: cfg, store: store, schema: schema, pqSchema: pqSchema, fields: fields, revision: revision,
		options:       writerOptions(cfg, pqSchema, schema, codec),
		rowGroupBytes: rowGroupBytes,
		run:           hex.EncodeToString(run),
	}, nil
}

// receipt is what the checkpoint keeps of a prepared stage.
type receipt struct {
	Format  int    `json:"format"`
	Table   string `json:"table"`
	Job     string `json:"job"`
	Lineage uint16 `json:"lineage"`
	Epoch   int64  `json:"epoch"`
	Files   []file `json:"files"`
	// Drop are the staged objects whose rows were held and are in Files.
	Drop []string `json:"drop,omitempty"`
	settled
}

// settled is what an epoch says of the table beside its files. Receipt and manifest entry
// have it alike.
type settled struct {
	// Watermark is the merged mark at the end of the epoch; nil before the first.
	Watermark *int64 `json:"watermark_us,omitempty"`
	// Previous is the SHA-256 of the entry before in the manifest log of this job and table.
	Previous string `json:"previous,omitempty"`
	// Complete are the partitions that get a marker, or a new one.
	Complete []completion `json:"complete,omitempty"`
	// Open are the partitions that have files and are not complete; nil when the table
	// never completes.
	Open []openPartition `json:"open,omitzero"`
	// Held are rows of this epoch and earlier ones that are in no file yet, and HeldSince is
	// the first mark that was known when there were some.
	Held      []held `json:"held,omitempty"`
	HeldSince *int64 `json:"held_since_us,omitempty"`
}

// receiptFormat is the version of receipts and manifest entries. Those of format 1 have no
// settled part, and are published as they were. Those of the layout security_lake have
// lakeFormat, so that a version that would lose rows that are held refuses them.
const (
	receiptFormat = 2
	lakeFormat    = 3
)

func (c Config) format() int {
	if c.Layout == LayoutLake {
		return lakeFormat
	}
	return receiptFormat
}

// file is one Parquet file, staged and final.
type file struct {
	Staging string `json:"staging,omitempty"` // not in the manifest log
	Final   string `json:"final"`
	Size    int64  `json:"size"`
	XXH64   string `json:"xxh64"` // 16 hex digits
	Rows    int64  `json:"rows"`
	// MinTime and MaxTime bound the time column, in ticks; nil when no row has a time.
	MinTime *int64 `json:"min_time_us,omitempty"`
	MaxTime *int64 `json:"max_time_us,omitempty"`
}

// entry is one object of the manifest log.
type entry struct {
	Format  int    `json:"format"`
	Table   string `json:"table"`
	Job     string `json:"job"`
	Lineage uint16 `json:"lineage"`
	Epoch   int64  `json:"epoch"`
	Rows    int64  `json:"rows"`
	Added   []file `json:"added"`
	settled
}

// Begin starts the stage of an epoch.
func (s *Sink) Begin(ctx context.Context, e pipeline.Epoch) (pipeline.Stage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.Job != s.cfg.Job {
		return nil, fmt.Errorf("parquet sink %s: epoch of job %s, configured for job %s", s.cfg.Table, e.Job, s.cfg.Job)
	}
	if _, err := pipeline.Version(e.Lineage, e.N, 0); err != nil {
		return nil, fmt.Errorf("parquet sink %s: %w", s.cfg.Table, err)
	}
	return newStage(s, e), nil
}

// Publish links every file of a receipt to its final name and records the epoch in the
// manifest log. It may be repeated, by any process, from any point where it stopped.
func (s *Sink) Publish(ctx context.Context, raw pipeline.Receipt) error {
	if len(raw) == 0 {
		return nil
	}
	r, err := s.open(raw)
	if err != nil {
		return fmt.Errorf("publish %s: %w", s.cfg.Table, err)
	}
	for _, f := range r.Files {
		if err := s.link(ctx, f); err != nil {
			return fmt.Errorf("publish %s epoch %d: %w", s.cfg.Table, r.Epoch, err)
		}
		crash.At("parquet.linked")
	}
	if err := s.log(ctx, r); err != nil {
		return fmt.Errorf("publish %s epoch %d: %w", s.cfg.Table, r.Epoch, err)
	}
	crash.At("parquet.logged")
	// After the files, which are then all there for whoever finds the marker.
	for _, c := range r.Complete {
		if err := s.mark(ctx, r, c); err != nil {
			return fmt.Errorf("publish %s epoch %d: %w", s.cfg.Table, r.Epoch, err)
		}
		crash.At("parquet.marked")
	}
	// Last, because up to here a repeated Publish may need them.
	for _, f := range r.Files {
		r.Drop = append(r.Drop, f.Staging)
	}
	for _, name := range r.Drop {
		if err := s.store.Delete(ctx, name); err != nil {
			return fmt.Errorf("publish %s epoch %d: %w", s.cfg.Table, r.Epoch, err)
		}
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
	if r.Format < 1 || r.Format > lakeFormat {
		return r, fmt.Errorf("receipt of format %d, this version reads 1 to %d: use the version that wrote the checkpoint", r.Format, lakeFormat)
	}
	if r.Table != s.cfg.Table || r.Job != s.cfg.Job {
		return r, fmt.Errorf("receipt of job %s table %s, this sink is job %s table %s: the table was renamed with a receipt pending, restore the old name for one start",
			r.Job, r.Table, s.cfg.Job, s.cfg.Table)
	}
	for _, f := range r.Files {
		inside := strings.HasPrefix(f.Staging, stagingDir+"/") && strings.HasPrefix(f.Final, s.cfg.root()+"/")
		if !inside || !fs.ValidPath(f.Staging) || !fs.ValidPath(f.Final) {
			return r, fmt.Errorf("receipt of epoch %d names %s and %s, outside the table: if its layout or source was changed with a receipt pending, restore the old one for one start", r.Epoch, f.Staging, f.Final)
		}
	}
	staged := slices.Clone(r.Drop)
	for _, h := range r.Held {
		staged = append(staged, h.Staging)
	}
	for _, name := range staged {
		if !strings.HasPrefix(name, s.cfg.stagingPrefix()) || !fs.ValidPath(name) {
			return r, fmt.Errorf("receipt of epoch %d holds rows in %s, outside the table", r.Epoch, name)
		}
	}
	for _, c := range r.Complete {
		if _, ends := partitionEnd(c.Partition); !ends {
			return r, fmt.Errorf("receipt of epoch %d completes %q, which is no partition of the table", r.Epoch, c.Partition)
		}
	}
	return r, nil
}

// link makes one file visible.
func (s *Sink) link(ctx context.Context, f file) error {
	err := s.store.Link(ctx, f.Staging, f.Final)
	if err == nil {
		return nil
	}
	if !errors.Is(err, pipeline.ErrExists) && !errors.Is(err, pipeline.ErrNotExist) {
		return err
	}
	size, sum, herr := hashObject(ctx, s.store, f.Final)
	switch {
	case errors.Is(herr, pipeline.ErrNotExist):
		return fmt.Errorf("%s is lost: neither it nor its staged object %s is in the store: somebody removed the staged object, replay from an earlier checkpoint", f.Final, f.Staging)
	case herr != nil:
		return herr
	case size != f.Size || sum != f.XXH64:
		return fmt.Errorf("%s has %d bytes and hash %s, the receipt says %d and %s: another writer uses the same job name and lineage, or the file was changed: compare, move it away and start again",
			f.Final, size, sum, f.Size, f.XXH64)
	}
	return nil
}

// hashObject reads an object in pieces.
func hashObject(ctx context.Context, store pipeline.Store, name string) (size int64, sum string, err error) {
	found, err := store.List(ctx, name)
	if err != nil {
		return 0, "", err
	}
	if len(found) == 0 || found[0].Name != name {
		return 0, "", fmt.Errorf("%s: %w", name, pipeline.ErrNotExist)
	}
	size = found[0].Size
	h := xxhash.New()
	for off := int64(0); off < size; off += hashPiece {
		b, err := store.GetRange(ctx, name, off, min(hashPiece, size-off))
		if err != nil {
			return 0, "", err
		}
		_, _ = h.Write(b) // never fails
	}
	return size, hashText(h), nil
}

func hashText(h *xxhash.Digest) string { return fmt.Sprintf("%016x", h.Sum64()) }

// entryOf returns the manifest entry of a receipt. The same receipt gives the same bytes.
func entryOf(r receipt) ([]byte, error) {
	e := entry{Format: r.Format, Table: r.Table, Job: r.Job, Lineage: r.Lineage, Epoch: r.Epoch, settled: r.settled}
	for _, f := range r.Files {
		f.Staging = ""
		e.Rows += f.Rows
		e.Added = append(e.Added, f)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("manifest entry: %w", err)
	}
	return body, nil
}

// log records an epoch in the manifest log.
func (s *Sink) log(ctx context.Context, r receipt) error {
	body, err := entryOf(r)
	if err != nil {
		return err
	}
	name := s.cfg.logName(r.Lineage, r.Epoch)
	err = s.store.PutIfAbsent(ctx, name, body)
	if err != nil && !errors.Is(err, pipeline.ErrExists) {
		return err
	}
	if err != nil {
		old, err := s.store.GetRange(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		if !bytes.Equal(old, body) {
			return fmt.Errorf("manifest entry %s differs from the receipt: another writer uses the same job name and lineage: stop it, compare the two, move the entry away and start again", name)
		}
	}
	return s.advanceHead(ctx, r, body)
}

// Sweep removes what earlier runs of this job and table staged, but not rows that are held.
// It must not be called before every receipt of the checkpoint was published.
func (s *Sink) Sweep(ctx context.Context) error {
	staged, err := s.store.List(ctx, s.cfg.stagingPrefix())
	if err != nil {
		return fmt.Errorf("sweep %s: %w", s.cfg.Table, err)
	}
	if len(staged) == 0 {
		return nil
	}
	l, err := s.loadLedger(ctx)
	if err != nil {
		return fmt.Errorf("sweep %s: %w", s.cfg.Table, err)
	}
	for _, o := range staged {
		if strings.HasSuffix(o.Name, "-"+s.run+".inprogress") {
			continue // staged by this very sink
		}
		if slices.ContainsFunc(l.held, func(h held) bool { return h.Staging == o.Name }) {
			continue
		}
		if err := s.store.Delete(ctx, o.Name); err != nil {
			return fmt.Errorf("sweep %s: %w", s.cfg.Table, err)
		}
	}
	return nil
}

// Close ends the sink. Stages that are open must be aborted by their owner.
func (s *Sink) Close() error { return nil }

package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/cespare/xxhash/v2"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/crash"
)

const (
	// pageBytes is the size of a data page before compression.
	pageBytes = 256 << 10
	// dictionaryBytes is where a column of strings gives its dictionary up.
	dictionaryBytes = 1 << 20
)

// stage collects one epoch. Its rows wait in memory, sorted into files when there are
// MaxStageRows of them or MaxStageBytes, and at Prepare.
type stage struct {
	sink    *Sink
	epoch   pipeline.Epoch
	order   pipeline.RowOrder
	columns []column
	files   []file
	ended   bool
}

func newStage(s *Sink, e pipeline.Epoch) *stage {
	columns := columnsOf(s.fields)
	added := &addedColumns{leaf: len(s.pqSchema.Columns()) - 3, epoch: e, revision: s.revision}
	return &stage{
		sink: s, epoch: e, columns: append(columns, added),
		order: pipeline.RowOrder{By: s.cfg.PartitionBy, TimeColumn: s.cfg.TimeColumn, Keys: s.cfg.SortBy},
	}
}

func (g *stage) Write(ctx context.Context, b pipeline.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if g.ended {
		return g.errorf("write after the end of the stage")
	}
	if err := pipeline.SameColumns(g.sink.schema, b.Rec.Schema()); err != nil {
		return g.errorf("%w", err)
	}
	if err := g.order.Add(b); err != nil {
		return g.errorf("%w", err)
	}
	if len(g.order.Rows) < g.sink.cfg.MaxStageRows && g.order.Bytes < g.sink.cfg.MaxStageBytes {
		return nil
	}
	if err := g.cut(ctx); err != nil {
		return g.errorf("%w", err)
	}
	return nil
}

func (g *stage) errorf(format string, args ...any) error {
	return fmt.Errorf("stage %s epoch %d: %w", g.sink.cfg.Table, g.epoch.N, fmt.Errorf(format, args...))
}

// Prepare seals the files and works out what the epoch says of the table. The epoch before
// must have been published.
func (g *stage) Prepare(ctx context.Context, at pipeline.Mark) (pipeline.Receipt, error) {
	if g.ended {
		return nil, g.errorf("stage ended twice")
	}
	raw, err := g.seal(ctx, at)
	if err != nil {
		return nil, errors.Join(g.errorf("%w", err), g.Abort())
	}
	g.ended = true
	crash.At("parquet.prepared")
	return raw, nil
}

func (g *stage) seal(ctx context.Context, at pipeline.Mark) (pipeline.Receipt, error) {
	if err := g.cut(ctx); err != nil {
		return nil, err
	}
	s := g.sink
	if s.ledger == nil {
		l, err := s.loadLedger(ctx)
		if err != nil {
			return nil, err
		}
		s.ledger = &l
	}
	r := receipt{Format: receiptFormat, Table: s.cfg.Table, Job: g.epoch.Job, Lineage: g.epoch.Lineage, Epoch: g.epoch.N, Files: g.files}
	r.Previous = s.ledger.last
	if at.Event != pipeline.MinTicks {
		r.Watermark = &at.Event
	}
	if err := s.settle(ctx, *s.ledger, &r, at.Event); err != nil {
		return nil, err
	}
	if len(r.Files) == 0 && len(r.Complete) == 0 {
		return nil, nil
	}
	next, err := s.ledgerAfter(r)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	s.ledger = &next
	return raw, nil
}

// Abort removes what was staged. It does not listen to a context: it must work after one
// was canceled.
func (g *stage) Abort() error {
	if g.ended {
		return nil
	}
	g.ended = true
	g.order.Reset()
	var errs []error
	for _, f := range g.files {
		errs = append(errs, g.sink.store.Delete(context.Background(), f.Staging))
	}
	if err := errors.Join(errs...); err != nil {
		return g.errorf("abort: %w", err)
	}
	return nil
}

// cut writes the rows that wait to files, one or more for each partition.
func (g *stage) cut(ctx context.Context) error {
	defer g.order.Reset()
	if err := ctx.Err(); err != nil || len(g.order.Rows) == 0 {
		return err
	}
	if err := g.order.Sort(); err != nil {
		return err
	}
	for _, c := range g.columns {
		if err := c.bind(g.order.Recs); err != nil {
			return err
		}
	}
	for rows := g.order.Rows; len(rows) > 0; {
		n := 1
		for n < len(rows) && rows[n].Partition == rows[0].Partition {
			n++
		}
		if err := g.writeFile(ctx, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// writeFile stages one file and verifies it.
func (g *stage) writeFile(ctx context.Context, rows []pipeline.RowRef) error {
	s, n := g.sink, len(g.files)
	f := file{
		Staging: s.cfg.stagingName(g.epoch, n, s.run),
		Final:   s.cfg.finalName(rows[0].Partition, g.epoch, n),
		Rows:    int64(len(rows)),
	}
	if err := g.timeRange(&f, rows); err != nil {
		return err
	}
	w, err := s.store.Create(ctx, f.Staging)
	if err != nil {
		return err
	}
	sum := &hashWriter{w: w, h: xxhash.New()}
	sums, err := g.encode(ctx, sum, rows)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", f.Final, err), w.Abort())
	}
	if err := w.Commit(); err != nil {
		return err
	}
	f.Size, f.XXH64 = sum.n, hashText(sum.h)
	g.files = append(g.files, f) // from here on Abort removes it
	crash.At("parquet.staged")
	if err := s.verify(ctx, f, sums); err != nil {
		return fmt.Errorf("%s, just written, cannot be read: %w: report this as a bug, or check disk and memory", f.Staging, err)
	}
	return nil
}

func (g *stage) timeRange(f *file, rows []pipeline.RowRef) error {
	if g.sink.cfg.PartitionBy == pipeline.PartitionNone && len(g.sink.schema.FieldIndices(g.sink.cfg.TimeColumn)) == 0 {
		return nil
	}
	read := make([]func(int) (int64, bool), len(g.order.Recs))
	for i, rec := range g.order.Recs {
		t, err := pipeline.ColumnTicks(rec, g.sink.cfg.TimeColumn)
		if err != nil {
			return err
		}
		read[i] = t
	}
	low, high, found := pipeline.MaxTicks, pipeline.MinTicks, false
	for _, r := range rows {
		if t, ok := read[r.Rec](int(r.Row)); ok {
			low, high, found = min(low, t), max(high, t), true
		}
	}
	if found {
		f.MinTime, f.MaxTime = &low, &high
	}
	return nil
}

// encode writes a whole Parquet file and returns a digest per column. A panic of the library
// is an error of this file, not the end of the process.
func (g *stage) encode(ctx context.Context, w io.Writer, rows []pipeline.RowRef) (sums []digest, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet encoder: %v", p)
		}
	}()
	options := append(g.sink.options[:len(g.sink.options):len(g.sink.options)],
		pq.KeyValueMetadata("tidemark.lineage", strconv.Itoa(int(g.epoch.Lineage))),
		pq.KeyValueMetadata("tidemark.epoch", strconv.FormatInt(g.epoch.N, 10)))
	out := pq.NewGenericWriter[any](w, options...)
	var columns []columnOut
	for _, w := range out.ColumnWriters() {
		columns = append(columns, columnOut{w: w})
	}
	inGroup := 0
	for len(rows) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(len(rows), pageRows, g.sink.cfg.RowGroupRows-inGroup)
		for _, c := range g.columns {
			if err := c.write(columns, rows[:n]); err != nil {
				return nil, err
			}
		}
		rows, inGroup = rows[n:], inGroup+n
		if inGroup == g.sink.cfg.RowGroupRows && len(rows) > 0 {
			if err := out.Flush(); err != nil {
				return nil, err
			}
			inGroup = 0
		}
	}
	for _, c := range columns {
		sums = append(sums, c.sum)
	}
	return sums, out.Close()
}

func writerOptions(cfg Config, schema *pq.Schema, fields *arrow.Schema, codec compress.Codec) []pq.WriterOption {
	var sorting []pq.SortingColumn
	for _, key := range cfg.SortBy {
		path := []string{key}
		if len(fields.FieldIndices(key)) == 0 {
			path = strings.Split(key, ".")
		}
		sorting = append(sorting, pq.NullsFirst(pq.Ascending(path...)))
	}
	return []pq.WriterOption{
		schema,
		pq.Compression(codec),
		pq.PageBufferSize(pageBytes),
		pq.DictionaryMaxBytes(dictionaryBytes),
		pq.CreatedBy("tidemark", "", ""),
		pq.SortingWriterConfig(pq.SortingColumns(sorting...)),
		pq.KeyValueMetadata("tidemark.job", cfg.Job),
	}
}

// hashWriter counts and hashes what passes.
type hashWriter struct {
	w io.Writer
	h *xxhash.Digest
	n int64
}

func (h *hashWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	_, _ = h.h.Write(p[:n]) // never fails
	h.n += int64(n)
	return n, err
}

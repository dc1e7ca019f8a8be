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
	// rowGroupBytes is what the values of a row group have, before compression, when it ends.
	rowGroupBytes = 240 << 20
	// maxLakeFiles bounds the files of an epoch where a column names the accounts.
	maxLakeFiles = 10_000
)

// stage collects one epoch. Its rows wait in memory, sorted into files when there are
// MaxStageRows of them or MaxStageBytes, and at Prepare.
type stage struct {
	sink    *Sink
	epoch   pipeline.Epoch
	order   pipeline.RowOrder
	columns []column
	files   []file
	held    []held // of this epoch
	ended   bool
}

func newStage(s *Sink, e pipeline.Epoch) *stage {
	columns := columnsOf(s.fields)
	if s.cfg.Layout != LayoutLake {
		columns = append(columns, &addedColumns{leaf: len(s.pqSchema.Columns()) - 3, epoch: e, revision: s.revision})
	}
	return &stage{sink: s, epoch: e, columns: columns, order: s.cfg.order()}
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
	if !g.full() {
		return nil
	}
	end := g.cut
	if g.sink.cfg.holds() {
		end = g.hold
	}
	if err := end(ctx); err != nil {
		return g.errorf("%w", err)
	}
	return nil
}

// full tells whether the rows that wait are as many as may.
func (g *stage) full() bool {
	return len(g.order.Rows) >= g.sink.cfg.MaxStageRows || g.order.Bytes >= g.sink.cfg.MaxStageBytes
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
	s := g.sink
	if s.ledger == nil {
		l, err := s.loadLedger(ctx)
		if err != nil {
			return nil, err
		}
		s.ledger = &l
	}
	r := receipt{Format: s.cfg.format(), Table: s.cfg.Table, Job: g.epoch.Job, Lineage: g.epoch.Lineage, Epoch: g.epoch.N}
	if err := g.roll(ctx, *s.ledger, at.Event, &r); err != nil {
		return nil, err
	}
	r.Files, r.Previous = g.files, s.ledger.last
	if at.Event != pipeline.MinTicks {
		r.Watermark = &at.Event
	}
	if err := s.settle(ctx, *s.ledger, &r, at.Event); err != nil {
		return nil, err
	}
	if len(r.Files)+len(r.Complete)+len(g.held)+len(r.Drop) == 0 && (r.HeldSince == nil || s.ledger.since != nil) {
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
	for _, h := range g.held {
		errs = append(errs, g.sink.store.Delete(context.Background(), h.Staging))
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
	account, err := g.sink.cfg.accounts(g.order.Recs)
	if err != nil {
		return err
	}
	for rows := g.order.Rows; len(rows) > 0; {
		n, of := 1, account(rows[0])
		for n < len(rows) && rows[n].Partition == rows[0].Partition && account(rows[n]) == of {
			n++
		}
		if err := g.writeFile(ctx, rows[:n], of); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// writeFile stages one file and verifies it.
func (g *stage) writeFile(ctx context.Context, rows []pipeline.RowRef, account string) error {
	s, n := g.sink, len(g.files)
	if s.cfg.Layout == LayoutLake && n >= maxLakeFiles {
		return fmt.Errorf("more than %d files in one epoch, the last one in %s: is %s an account? Name one in security_lake.account", maxLakeFiles, s.cfg.place(rows[0].Partition, account), s.cfg.Lake.AccountColumn)
	}
	f := file{
		Staging: g.stagingName(),
		Final:   s.cfg.finalName(rows[0].Partition, account, g.epoch, n),
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

// stagingName names the next staged object.
func (g *stage) stagingName() string {
	return g.sink.cfg.stagingName(g.epoch, len(g.files)+len(g.held), g.sink.run)
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
	run := g.runRows()
	inGroup := 0
	for len(rows) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(len(rows), run, g.sink.cfg.RowGroupRows-inGroup)
		for _, c := range g.columns {
			if err := c.write(columns, rows[:n]); err != nil {
				return nil, err
			}
		}
		rows, inGroup = rows[n:], inGroup+n
		if len(rows) > 0 && (inGroup == g.sink.cfg.RowGroupRows || sizeOf(columns) >= g.sink.rowGroupBytes) {
			if err := out.Flush(); err != nil {
				return nil, err
			}
			inGroup = 0
			for i := range columns {
				columns[i].size = 0
			}
		}
	}
	for _, c := range columns {
		sums = append(sums, c.sum)
	}
	return sums, out.Close()
}

// runRows is how many rows are handed to the columns at a time: fewer where they are long,
// because a row group ends between two runs.
func (g *stage) runRows() int {
	size := g.order.Bytes / int64(len(g.order.Rows))
	return int(max(1, min(pageRows, g.sink.rowGroupBytes/(16*max(1, size)))))
}

func sizeOf(columns []columnOut) (size int64) {
	for i := range columns {
		size += columns[i].size
	}
	return size
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

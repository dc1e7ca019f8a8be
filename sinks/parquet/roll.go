package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/crash"
)

// held is a staged object with rows of an epoch that are durable and not yet in a file: an
// Arrow stream. Its checkpoint counts on it as on a staged file, and every manifest entry
// names all that there are, until one names the files that they went into.
type held struct {
	Staging string `json:"staging"`
	Size    int64  `json:"size"`
	XXH64   string `json:"xxh64"`
	Rows    int64  `json:"rows"`
}

// heldColumn is true in the rows of a batch that are selected.
const heldColumn = "_tm_held"

// holds tells whether rows of several epochs go into one file.
func (c Config) holds() bool { return c.Layout == LayoutLake && c.Lake.Roll > 0 }

// roll ends an epoch in which rows are held or were: either its rows are held too, or all
// of them become files.
func (g *stage) roll(ctx context.Context, l ledger, at int64, r *receipt) error {
	since := l.since
	if since == nil && at != pipeline.MinTicks {
		since = &at
	}
	all := slices.Concat(l.held, g.held)
	if g.sink.cfg.holds() && !g.sink.cfg.Lake.due(all, since, at) {
		if err := g.hold(ctx); err != nil {
			return err
		}
		if r.Held = slices.Concat(l.held, g.held); len(r.Held) > 0 {
			r.HeldSince = since
		}
		return nil
	}
	for _, h := range all {
		if err := g.load(ctx, h); err != nil {
			return fmt.Errorf("rows held in %s: %w", h.Staging, err)
		}
		r.Drop = append(r.Drop, h.Staging)
	}
	return g.cut(ctx)
}

// due tells whether what is held becomes files.
func (l *Lake) due(all []held, since *int64, at int64) bool {
	size := int64(0)
	for _, h := range all {
		size += h.Size
	}
	return size >= l.RollBytes || since != nil && pipeline.AddTicks(*since, l.Roll.Microseconds()) <= at
}

// hold stages the rows that wait.
func (g *stage) hold(ctx context.Context) error {
	defer g.order.Reset()
	if err := ctx.Err(); err != nil || len(g.order.Rows) == 0 {
		return err
	}
	s := g.sink
	h := held{Staging: g.stagingName(), Rows: int64(len(g.order.Rows))}
	w, err := s.store.Create(ctx, h.Staging)
	if err != nil {
		return err
	}
	sum := &hashWriter{w: w, h: xxhash.New()}
	if err := writeHeld(sum, s.schema, &g.order); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", h.Staging, err), w.Abort())
	}
	if err := w.Commit(); err != nil {
		return err
	}
	h.Size, h.XXH64 = sum.n, hashText(sum.h)
	g.held = append(g.held, h) // from here on Abort removes it
	crash.At("parquet.staged")
	return nil
}

// writeHeld writes whole batches, with a column that tells which rows are selected: lists and
// structs need not be gathered then.
func writeHeld(to *hashWriter, schema *arrow.Schema, o *pipeline.RowOrder) (err error) {
	schema = heldSchema(schema)
	out := ipc.NewWriter(to, ipc.WithSchema(schema), ipc.WithZstd())
	defer func() { err = errors.Join(err, out.Close()) }()
	selected := array.NewBooleanBuilder(memory.DefaultAllocator)
	defer selected.Release()
	rows := o.Rows // in the order of arrival, so those of a batch stand together
	for i, rec := range o.Recs {
		next := int64(0)
		for ; len(rows) > 0 && int(rows[0].Rec) == i; rows = rows[1:] {
			for ; next < int64(rows[0].Row); next++ {
				selected.Append(false)
			}
			selected.Append(true)
			next++
		}
		for ; next < rec.NumRows(); next++ {
			selected.Append(false)
		}
		mask := selected.NewArray()
		whole := array.NewRecordBatch(schema, append(slices.Clone(rec.Columns()), mask), rec.NumRows())
		err := out.Write(whole)
		whole.Release()
		mask.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func heldSchema(schema *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(append(schema.Fields(), arrow.Field{Name: heldColumn, Type: arrow.FixedWidthTypes.Boolean}), nil)
}

// load adds rows that were held to those that wait.
func (g *stage) load(ctx context.Context, h held) error {
	body, err := g.sink.store.GetRange(ctx, h.Staging, 0, -1)
	if errors.Is(err, pipeline.ErrNotExist) {
		return fmt.Errorf("%w: somebody removed it: replay from an earlier checkpoint", err)
	}
	if err != nil {
		return err
	}
	if sum := fmt.Sprintf("%016x", xxhash.Sum64(body)); int64(len(body)) != h.Size || sum != h.XXH64 {
		return fmt.Errorf("has %d bytes and hash %s, written with %d and %s: check the disk, and replay from an earlier checkpoint", len(body), sum, h.Size, h.XXH64)
	}
	in, err := ipc.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer in.Release()
	if err := pipeline.SameColumns(heldSchema(g.sink.schema), in.Schema()); err != nil {
		return fmt.Errorf("%w: the columns were changed while rows were held: start once with the old ones and security_lake.roll 0s, stop after a checkpoint, and start again", err)
	}
	rows := int64(0)
	for in.Next() {
		n, err := g.loadBatch(ctx, in.RecordBatch())
		if err != nil {
			return err
		}
		rows += n
	}
	if err := in.Err(); err != nil {
		return err
	}
	if rows != h.Rows {
		return fmt.Errorf("has %d rows, written with %d", rows, h.Rows)
	}
	return nil
}

func (g *stage) loadBatch(ctx context.Context, rec arrow.RecordBatch) (int64, error) {
	last := int(rec.NumCols()) - 1
	selected, ok := rec.Column(last).(*array.Boolean)
	if !ok {
		return 0, fmt.Errorf("column %s: type %s", heldColumn, rec.Column(last).DataType())
	}
	b := pipeline.Result(array.NewRecordBatch(g.sink.schema, rec.Columns()[:last], rec.NumRows()))
	defer b.Release()
	b.Rows = make([]int32, 0, selected.Len())
	for i := range selected.Len() {
		if selected.Value(i) {
			b.Rows = append(b.Rows, int32(i))
		}
	}
	if err := g.order.Add(b); err != nil {
		return 0, err
	}
	n := int64(len(b.Rows))
	if g.full() {
		return n, g.cut(ctx)
	}
	return n, nil
}

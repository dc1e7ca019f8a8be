package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/crash"
)

// minTime64 and maxTime64 bound what goes into a DateTime64: it begins in 1900, and the
// driver's conversion, which goes through int64 nanoseconds, ends on 2262-04-11.
const (
	minTime64 = pipeline.MinEventTime
	maxTime64 = 9223372036854775
)

// receipt is what the checkpoint keeps of a sealed epoch. One without rows has no object.
type receipt struct {
	Format  int     `json:"format"`
	Table   string  `json:"table"` // database.table
	Job     string  `json:"job"`
	Lineage uint16  `json:"lineage"`
	Epoch   int64   `json:"epoch"`
	Object  string  `json:"object"`
	Size    int64   `json:"size"`
	XXH64   string  `json:"xxh64"` // 16 hex digits
	Blocks  []block `json:"blocks"`
	// MinTime and MaxTime bound the time column, in ticks; nil when no row has a time.
	MinTime *int64 `json:"min_time_us,omitempty"`
	MaxTime *int64 `json:"max_time_us,omitempty"`
	// Watermark and CompleteTo are those of the barrier; nil when there is none.
	Watermark  *int64 `json:"watermark_us,omitempty"`
	CompleteTo *int64 `json:"complete_to_us,omitempty"`
}

// receiptFormat is the newest. Format 1 had no watermark and always an object.
const receiptFormat = 2

// block is one INSERT: one partition, at most BlockRows rows. Its number is its place.
type block struct {
	Rows  int64  `json:"rows"`
	XXH64 string `json:"xxh64"` // of its encoded rows
}

func (r receipt) rows() int64 {
	n := int64(0)
	for _, b := range r.Blocks {
		n += b.Rows
	}
	return n
}

func (r receipt) blockRows() []uint32 {
	out := make([]uint32, len(r.Blocks))
	for i, b := range r.Blocks {
		out[i] = uint32(b.Rows)
	}
	return out
}

// token is the deduplication token of a block. It holds the hash, so that a block with
// other rows, which must not be, is at least inserted and found, and not silently dropped.
func (r receipt) token(n int) string {
	return fmt.Sprintf("tm1/%s/%d/%s/%d/%d/%s", r.Job, r.Lineage, r.Table, r.Epoch, n, r.Blocks[n].XXH64)
}

// stage collects one epoch.
type stage struct {
	sink  *Sink
	epoch pipeline.Epoch
	order pipeline.RowOrder
	out   *sealer // nil until the first block
	ended bool
}

func (g *stage) errorf(format string, args ...any) error {
	return fmt.Errorf("stage %s epoch %d: %w", g.sink.cfg.Table, g.epoch.N, fmt.Errorf(format, args...))
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
	own := int64(0)
	if g.out != nil {
		own = g.out.size
	}
	if err := g.sink.room(ctx, own); err != nil {
		return g.errorf("wait for earlier epochs: %w", err)
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

func (g *stage) Prepare(ctx context.Context, at pipeline.Mark) (pipeline.Receipt, error) {
	if g.ended {
		return nil, g.errorf("stage ended twice")
	}
	r, err := g.seal(ctx)
	if err != nil {
		return nil, errors.Join(g.errorf("%w", err), g.Abort())
	}
	g.ended = true
	if !g.sink.tells(at.Event, len(r.Blocks) > 0) {
		return nil, nil
	}
	r.Watermark, r.CompleteTo = watermark(at.Event), g.sink.cfg.completeTo(at.Event)
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, g.errorf("receipt: %w", err)
	}
	if r.Object != "" {
		g.sink.sealed(r.Object, r.Size)
	}
	crash.At("clickhouse.sealed")
	return raw, nil
}

func (g *stage) seal(ctx context.Context) (receipt, error) {
	r := receipt{
		Format: receiptFormat, Table: g.sink.tableName(), Job: g.epoch.Job,
		Lineage: g.epoch.Lineage, Epoch: g.epoch.N,
	}
	if err := g.cut(ctx); err != nil {
		return r, err
	}
	if g.out == nil {
		return r, nil
	}
	if err := g.out.close(); err != nil {
		return r, err
	}
	r.Object, r.Size, r.XXH64 = g.out.name, g.out.size, hashText(g.out.whole)
	r.Blocks, r.MinTime, r.MaxTime = g.out.blocks, g.out.minTime, g.out.maxTime
	return r, nil
}

// Abort removes what was sealed. It does not listen to a context: it must work after one
// was canceled.
func (g *stage) Abort() error {
	if g.ended {
		return nil
	}
	g.ended = true
	g.order.Reset()
	if g.out == nil {
		return nil
	}
	if err := g.out.abort(); err != nil {
		return g.errorf("abort: %w", err)
	}
	return nil
}

// cut seals the rows that wait.
func (g *stage) cut(ctx context.Context) error {
	defer g.order.Reset()
	if err := ctx.Err(); err != nil || len(g.order.Rows) == 0 {
		return err
	}
	if err := g.order.Sort(); err != nil {
		return err
	}
	if g.out == nil {
		out, err := newSealer(ctx, g.sink, g.epoch)
		if err != nil {
			return err
		}
		g.out = out
	}
	if err := g.out.times(&g.order); err != nil {
		return err
	}
	for rows := g.order.Rows; len(rows) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 1
		for n < len(rows) && n < g.sink.cfg.BlockRows && rows[n].Partition == rows[0].Partition {
			n++
		}
		if err := g.out.block(g.order.Recs, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// sealer writes the blocks of an epoch as one Arrow IPC stream.
type sealer struct {
	sink             *Sink
	epoch            pipeline.Epoch
	name             string
	w                pipeline.StoreWriter
	buf              *bufio.Writer // the encoder writes in small pieces
	ipc              *ipc.Writer
	size             int64
	whole            *xxhash.Digest
	part             *xxhash.Digest // of the current block
	blocks           []block
	minTime, maxTime *int64
}

func newSealer(ctx context.Context, s *Sink, e pipeline.Epoch) (*sealer, error) {
	name := s.objectName(e)
	w, err := s.store.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &sealer{sink: s, epoch: e, name: name, w: w, buf: bufio.NewWriterSize(w, 64<<10), whole: xxhash.New(), part: xxhash.New()}
	out.ipc = ipc.NewWriter(out, ipc.WithSchema(s.sealedAs), ipc.WithAllocator(s.mem), ipc.WithLZ4())
	return out, nil
}

// Write takes the encoded stream.
func (s *sealer) Write(p []byte) (int, error) {
	n, err := s.buf.Write(p)
	_, _ = s.whole.Write(p[:n]) // never fails
	_, _ = s.part.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *sealer) block(recs []arrow.RecordBatch, rows []pipeline.RowRef) error {
	rec, err := s.sink.gather(s.epoch, recs, rows)
	if err != nil {
		return err
	}
	defer rec.Release()
	s.part.Reset()
	if err := s.ipc.Write(rec); err != nil {
		return fmt.Errorf("sealed block %d: %w", len(s.blocks), err)
	}
	s.blocks = append(s.blocks, block{Rows: rec.NumRows(), XXH64: hashText(s.part)})
	return nil
}

// times widens the range of the time column.
func (s *sealer) times(o *pipeline.RowOrder) error {
	read := make([]func(int) (int64, bool), len(o.Recs))
	for i, rec := range o.Recs {
		t, err := pipeline.ColumnTicks(rec, s.sink.cfg.TimeColumn)
		if err != nil {
			return err
		}
		read[i] = t
	}
	for _, r := range o.Rows {
		t, ok := read[r.Rec](int(r.Row))
		if !ok {
			continue
		}
		if s.minTime == nil {
			s.minTime, s.maxTime = new(t), new(t)
		}
		*s.minTime, *s.maxTime = min(*s.minTime, t), max(*s.maxTime, t)
	}
	return nil
}

func (s *sealer) close() error {
	if err := errors.Join(s.ipc.Close(), s.buf.Flush()); err != nil {
		return errors.Join(fmt.Errorf("sealed object %s: %w", s.name, err), s.w.Abort())
	}
	return s.w.Commit()
}

func (s *sealer) abort() error {
	_ = s.ipc.Close() // the object goes
	if err := s.w.Abort(); err != nil {
		return err
	}
	return s.sink.store.Delete(context.Background(), s.name) // in case it was committed
}

func hashText(h *xxhash.Digest) string { return fmt.Sprintf("%016x", h.Sum64()) }

// gather copies rows into one record of the sealed schema.
func (s *Sink) gather(e pipeline.Epoch, recs []arrow.RecordBatch, rows []pipeline.RowRef) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, 0, len(s.cols)+2)
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range s.cols {
		a, err := s.cols[i].gather(s.mem, recs, rows)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", s.cols[i].name, err)
		}
		cols = append(cols, a)
	}
	v, err := s.versions(e, recs, rows)
	if err != nil {
		return nil, err
	}
	cols = append(cols, v)
	if s.own.deleted >= 0 {
		d, err := s.deletions(recs, rows)
		if err != nil {
			return nil, err
		}
		cols = append(cols, d)
	}
	return array.NewRecordBatch(s.sealedAs, cols, int64(len(rows))), nil
}

// versions computes _tm_ver.
func (s *Sink) versions(e pipeline.Epoch, recs []arrow.RecordBatch, rows []pipeline.RowRef) (arrow.Array, error) {
	b := array.NewUint64Builder(s.mem)
	defer b.Release()
	b.Reserve(len(rows))
	for _, r := range rows {
		revision := int32(0)
		if s.own.revision >= 0 {
			a, ok := recs[r.Rec].Column(s.own.revision).(*array.Int32)
			if !ok {
				return nil, fmt.Errorf("column %s: array of type %s", colRevision, recs[r.Rec].Column(s.own.revision).DataType())
			}
			if a.IsValid(int(r.Row)) { // additions have none
				revision = a.Value(int(r.Row))
			}
		}
		v, err := pipeline.Version(e.Lineage, e.N, revision)
		if err != nil {
			return nil, err
		}
		b.UnsafeAppend(v)
	}
	return b.NewArray(), nil
}

// deletions computes _tm_del.
func (s *Sink) deletions(recs []arrow.RecordBatch, rows []pipeline.RowRef) (arrow.Array, error) {
	b := array.NewUint8Builder(s.mem)
	defer b.Release()
	b.Reserve(len(rows))
	for _, r := range rows {
		a, ok := recs[r.Rec].Column(s.own.deleted).(*array.Boolean)
		if !ok || a.IsNull(int(r.Row)) {
			return nil, fmt.Errorf("column %s: null", colDeleted)
		}
		del := uint8(0)
		if a.Value(int(r.Row)) {
			del = 1
		}
		b.UnsafeAppend(del)
	}
	return b.NewArray(), nil
}

// bound is a column in one record batch.
type bound struct {
	arr arrow.Array
	// above lists the levels of the path that have nulls, top down.
	above []level
}

type level struct {
	arr      arrow.Array
	required bool
}

func (c *column) bind(rec arrow.RecordBatch) bound {
	var b bound
	for i, at := range c.path {
		if i == 0 {
			b.arr = rec.Column(at)
		} else {
			b.arr = b.arr.(*array.Struct).Field(at)
		}
		if b.arr.NullN() > 0 {
			b.above = append(b.above, level{b.arr, c.required[i]})
		}
	}
	return b
}

var errForbiddenNull = errors.New("null in a field that allows none")

func (b *bound) null(row int) (bool, error) {
	for _, l := range b.above {
		if l.arr.IsNull(row) {
			if l.required {
				return false, errForbiddenNull
			}
			return true, nil
		}
	}
	return false, nil
}

// gather copies the rows of a column.
func (c *column) gather(mem memory.Allocator, recs []arrow.RecordBatch, rows []pipeline.RowRef) (arrow.Array, error) {
	b := array.NewBuilder(mem, c.sealed)
	defer b.Release()
	b.Reserve(len(rows))
	add, err := c.adder(b)
	if err != nil {
		return nil, err
	}
	parts := make([]*bound, len(recs))
	for _, r := range rows {
		p := parts[r.Rec]
		if p == nil {
			p = new(c.bind(recs[r.Rec]))
			parts[r.Rec] = p
		}
		null, err := p.null(int(r.Row))
		if err != nil {
			return nil, err
		}
		switch {
		case !null:
			if err := add(p.arr, int(r.Row)); err != nil {
				return nil, err
			}
		case c.shape == arrays || c.shape == labels:
			b.AppendEmptyValue()
		default:
			b.AppendNull()
		}
	}
	return b.NewArray(), nil
}

// adder returns how a value is appended to a builder.
func (c *column) adder(b array.Builder) (func(arr arrow.Array, i int) error, error) {
	switch c.shape {
	case jsonText:
		sb := b.(*array.StringBuilder)
		var buf []byte
		return func(arr arrow.Array, i int) error {
			buf = pipeline.AppendJSON(buf[:0], c.field, arr, i)
			sb.Append(string(buf))
			return nil
		}, nil
	case arrays:
		lb := b.(*array.ListBuilder)
		elem := column{name: c.name, field: c.field.Type.(*arrow.ListType).ElemField()}
		add, err := elem.adder(lb.ValueBuilder())
		if err != nil {
			return nil, err
		}
		return func(arr arrow.Array, i int) error {
			a := arr.(*array.List)
			lb.Append(true)
			start, end := a.ValueOffsets(i)
			for j := int(start); j < int(end); j++ {
				if a.ListValues().IsValid(j) {
					if err := add(a.ListValues(), j); err != nil {
						return err
					}
					continue
				}
				if !elem.field.Nullable {
					return errForbiddenNull
				}
				lb.ValueBuilder().AppendNull()
			}
			return nil
		}, nil
	case labels:
		mb := b.(*array.MapBuilder)
		keys, items := mb.KeyBuilder().(*array.StringBuilder), mb.ItemBuilder().(*array.StringBuilder)
		return func(arr arrow.Array, i int) error {
			a := arr.(*array.Map)
			mb.Append(true)
			start, end := a.ValueOffsets(i)
			for j := int(start); j < int(end); j++ {
				keys.Append(a.Keys().(*array.String).Value(j))
				if a.Items().IsNull(j) {
					items.Append("") // Map(String, String) has no null
					continue
				}
				items.Append(a.Items().(*array.String).Value(j))
			}
			return nil
		}, nil
	}
	switch b := b.(type) {
	case *array.Int8Builder:
		return adderOf[*array.Int8](b.Append), nil
	case *array.Int16Builder:
		return adderOf[*array.Int16](b.Append), nil
	case *array.Int32Builder:
		return adderOf[*array.Int32](b.Append), nil
	case *array.Int64Builder:
		return adderOf[*array.Int64](b.Append), nil
	case *array.Uint8Builder:
		return adderOf[*array.Uint8](b.Append), nil
	case *array.Uint16Builder:
		return adderOf[*array.Uint16](b.Append), nil
	case *array.Uint32Builder:
		return adderOf[*array.Uint32](b.Append), nil
	case *array.Uint64Builder:
		return adderOf[*array.Uint64](b.Append), nil
	case *array.Float32Builder:
		return adderOf[*array.Float32](b.Append), nil
	case *array.Float64Builder:
		return adderOf[*array.Float64](b.Append), nil
	case *array.BooleanBuilder:
		return adderOf[*array.Boolean](b.Append), nil
	case *array.StringBuilder:
		return adderOf[*array.String](b.Append), nil
	case *array.BinaryBuilder:
		return adderOf[*array.Binary](b.Append), nil
	case *array.TimestampBuilder:
		unit := b.Type().(*arrow.TimestampType).Unit
		return func(arr arrow.Array, i int) error {
			t := arr.(*array.Timestamp).Value(i)
			if at := t.ToTime(unit); at.Before(time.UnixMicro(minTime64)) || at.After(time.UnixMicro(maxTime64)) {
				return fmt.Errorf("time %s is outside 1900 to 2262, which DateTime64 can hold: lower max_ahead, or set its policy to dead", at.Format(time.RFC3339))
			}
			b.Append(t)
			return nil
		}, nil
	}
	return nil, fmt.Errorf("type %s cannot be sealed", c.field.Type)
}

func adderOf[A interface{ Value(int) T }, T any](add func(T)) func(arrow.Array, int) error {
	return func(arr arrow.Array, i int) error {
		add(any(arr).(A).Value(i))
		return nil
	}
}

// readBlocks calls f with each sealed block of an object, in order.
func (s *Sink) readBlocks(ctx context.Context, r receipt, f func(n int, rec arrow.RecordBatch) error) error {
	in, err := ipc.NewReader(pipeline.ReadObject(ctx, s.store, r.Object, r.Size), ipc.WithAllocator(s.mem))
	if err != nil {
		return fmt.Errorf("sealed object %s: %w", r.Object, err)
	}
	defer in.Release()
	if !in.Schema().Equal(s.sealedAs) {
		return fmt.Errorf("sealed object %s holds other columns than the table: the schema changed with a receipt pending, run the old configuration once", r.Object)
	}
	n := 0
	for in.Next() {
		rec := in.RecordBatch()
		if n >= len(r.Blocks) || rec.NumRows() != r.Blocks[n].Rows {
			return fmt.Errorf("sealed object %s: block %d with %d rows is not in the receipt", r.Object, n, rec.NumRows())
		}
		if err := f(n, rec); err != nil {
			return err
		}
		n++
	}
	if err := in.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("sealed object %s block %d: %w", r.Object, n, err)
	}
	if n != len(r.Blocks) {
		return fmt.Errorf("sealed object %s: %d blocks, the receipt has %d", r.Object, n, len(r.Blocks))
	}
	return nil
}

// verifyObject checks size and checksum of a sealed object.
func (s *Sink) verifyObject(ctx context.Context, r receipt) error {
	h := xxhash.New()
	if _, err := io.Copy(h, pipeline.ReadObject(ctx, s.store, r.Object, r.Size)); err != nil {
		return err
	}
	if got := hashText(h); got != r.XXH64 {
		return fmt.Errorf("sealed object %s has hash %s, the receipt says %s: check the disk, then replay from an earlier checkpoint", r.Object, got, r.XXH64)
	}
	return nil
}

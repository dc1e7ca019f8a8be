package kafka

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/cespare/xxhash/v2"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/tidemark/tidemark/pipeline"
)

// Columns of rows that go into headers, not into the value.
const (
	colRevision = "_tm_revision"
	colFinal    = "_tm_final"
	colDeleted  = "_tm_del"
)

// sealedSchema is what a sealed object holds: records as they are sent, so that whichever
// program sends them, sends the same bytes. A header is absent where its column is null.
var sealedSchema = arrow.NewSchema([]arrow.Field{
	{Name: "key", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "value", Type: arrow.BinaryTypes.Binary},
	{Name: HeaderDedup, Type: arrow.BinaryTypes.String},
	{Name: HeaderRevision, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: HeaderFinal, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: HeaderDel, Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// receipt is what the checkpoint keeps of a sealed epoch.
type receipt struct {
	Format  int    `json:"format"`
	Topic   string `json:"topic"`
	Job     string `json:"job"`
	Lineage uint16 `json:"lineage"`
	Epoch   int64  `json:"epoch"`
	Object  string `json:"object"`
	Size    int64  `json:"size"`
	XXH64   string `json:"xxh64"` // 16 hex digits
	Rows    int64  `json:"rows"`
	// SealedMS is the time of all records, in ms. Event times would let a topic's retention
	// remove results of old data at once.
	SealedMS int64 `json:"sealed_ms"`
}

const receiptFormat = 1

// stage collects one epoch: every batch becomes records at once, which go to the store.
type stage struct {
	sink  *Sink
	epoch pipeline.Epoch
	out   *sealer // nil until the first row
	rows  int64
	ended bool
}

func (g *stage) errorf(format string, args ...any) error {
	return fmt.Errorf("stage %s epoch %d: %w", g.sink.cfg.Topic, g.epoch.N, fmt.Errorf(format, args...))
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
	if b.NumRows() == 0 {
		return nil
	}
	rec, err := g.encode(b)
	if err != nil {
		return g.errorf("%w", err)
	}
	defer rec.Release()
	if g.out == nil {
		if g.out, err = newSealer(ctx, g.sink, g.epoch); err != nil {
			return g.errorf("%w", err)
		}
	}
	if err := g.out.ipc.Write(rec); err != nil {
		return g.errorf("%w", err)
	}
	return nil
}

// encode makes records of rows, in their order. The caller releases them.
func (g *stage) encode(b pipeline.Batch) (arrow.RecordBatch, error) {
	e, err := g.sink.encoder(b.Rec)
	if err != nil {
		return nil, err
	}
	out := array.NewRecordBuilder(g.sink.mem, sealedSchema)
	defer out.Release()
	out.Reserve(b.NumRows())
	text := func(col int, s string, ok bool) {
		if c := out.Field(col).(*array.StringBuilder); ok {
			c.Append(s)
		} else {
			c.AppendNull()
		}
	}
	for n := range b.NumRows() {
		row := n
		if b.Rows != nil {
			row = int(b.Rows[n])
		}
		key := e.key(row)
		value := e.value(row)
		out.Field(0).(*array.BinaryBuilder).Append(key) // nil appends null
		out.Field(1).(*array.BinaryBuilder).Append(value)
		revision, final, del := e.headers(row)
		text(2, g.dedup(e.identity(row), key, value, revision+final+del), true)
		text(3, revision, revision != "")
		text(4, final, final != "")
		text(5, del, del != "")
		g.rows++
	}
	return out.NewRecordBatch(), nil
}

// dedup names a row: its identity, and a hash of what is sent, so that a correction is never
// taken for a repetition of what it corrects, whatever became of the revisions. Rows without an
// identity may be equal and yet two: those are told apart by their place in the epoch.
func (g *stage) dedup(identity string, key, value []byte, headers string) string {
	if identity == "" {
		return fmt.Sprintf("%d-%d-%d", g.epoch.Lineage, g.epoch.N, g.rows)
	}
	h := xxhash.New()
	for _, part := range [][]byte{key, value, []byte(headers)} {
		_, _ = fmt.Fprintf(h, "%d:", len(part)) // a hash never fails
		_, _ = h.Write(part)
	}
	return fmt.Sprintf("%s.%016x", identity, h.Sum64())
}

func (g *stage) Prepare(ctx context.Context, _ pipeline.Mark) (pipeline.Receipt, error) {
	if g.ended {
		return nil, g.errorf("stage ended twice")
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, g.Abort())
	}
	if g.out == nil {
		g.ended = true
		return nil, nil
	}
	if err := g.out.close(); err != nil {
		return nil, errors.Join(g.errorf("%w", err), g.Abort())
	}
	g.ended = true
	r := receipt{Format: receiptFormat, Topic: g.sink.cfg.Topic, Job: g.epoch.Job, Lineage: g.epoch.Lineage, Epoch: g.epoch.N, Rows: g.rows,
		Object: g.out.name, Size: g.out.size, XXH64: hashText(g.out.whole), SealedMS: time.Now().UnixMilli()}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, g.errorf("receipt: %w", err)
	}
	return raw, nil
}

// Abort removes what was sealed. It does not listen to a context: it must work after one was
// canceled.
func (g *stage) Abort() error {
	if g.ended {
		return nil
	}
	g.ended = true
	if g.out == nil {
		return nil
	}
	if err := g.out.abort(); err != nil {
		return g.errorf("abort: %w", err)
	}
	return nil
}

// sealer writes the records of an epoch as one Arrow IPC stream.
type sealer struct {
	store pipeline.Store
	name  string
	w     pipeline.StoreWriter
	buf   *bufio.Writer // the encoder writes in small pieces
	ipc   *ipc.Writer
	size  int64
	whole *xxhash.Digest
}

func newSealer(ctx context.Context, s *Sink, e pipeline.Epoch) (*sealer, error) {
	name := s.objectName(e)
	w, err := s.store.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &sealer{store: s.store, name: name, w: w, buf: bufio.NewWriterSize(w, 64<<10), whole: xxhash.New()}
	out.ipc = ipc.NewWriter(out, ipc.WithSchema(sealedSchema), ipc.WithAllocator(s.mem), ipc.WithLZ4())
	return out, nil
}

// Write takes the encoded stream.
func (s *sealer) Write(p []byte) (int, error) {
	n, err := s.buf.Write(p)
	_, _ = s.whole.Write(p[:n]) // never fails
	s.size += int64(n)
	return n, err
}

func (s *sealer) close() error {
	if err := errors.Join(s.ipc.Close(), s.buf.Flush()); err != nil {
		return fmt.Errorf("sealed object %s: %w", s.name, err)
	}
	return s.w.Commit()
}

func (s *sealer) abort() error {
	_ = s.ipc.Close() // the object goes
	if err := s.w.Abort(); err != nil {
		return err
	}
	return s.store.Delete(context.Background(), s.name) // in case it was committed
}

func hashText(h *xxhash.Digest) string { return fmt.Sprintf("%016x", h.Sum64()) }

// encoder turns rows of one record batch into keys, values and headers.
type encoder struct {
	rec                      arrow.RecordBatch
	fields                   []arrow.Field
	members                  []int // columns of the value
	revision, final, deleted int   // columns, -1 for none
	keys, names              []cell
	buf                      []byte
}

// cell is a column by its path.
type cell struct {
	field arrow.Field
	arr   arrow.Array
	above []arrow.Array // with nulls, among them the column itself
}

func (s *Sink) encoder(rec arrow.RecordBatch) (*encoder, error) {
	e := &encoder{rec: rec, fields: s.schema.Fields(), revision: s.column(colRevision), final: s.column(colFinal), deleted: s.column(colDeleted)}
	for i := range e.fields {
		if i != e.revision && i != e.final && i != e.deleted {
			e.members = append(e.members, i)
		}
	}
	for _, to := range []struct {
		cells *[]cell
		paths []string
	}{{&e.keys, s.cfg.Key}, {&e.names, s.cfg.Identity}} {
		for _, path := range to.paths {
			arr, above, err := pipeline.Descend(rec, path)
			if err != nil {
				return nil, fmt.Errorf("key column %w", err)
			}
			*to.cells = append(*to.cells, cell{fieldAt(s.schema, path), arr, above})
		}
	}
	return e, nil
}

func (c cell) null(row int) bool {
	return slices.ContainsFunc(c.above, func(a arrow.Array) bool { return a.IsNull(row) })
}

// plain appends text as it is, all else as JSON without quotes, nothing for null.
func (c cell) plain(b []byte, row int) []byte {
	if c.null(row) {
		return b
	}
	switch a := c.arr.(type) {
	case *array.String:
		return append(b, a.Value(row)...)
	case *array.Timestamp, *array.Binary:
		quoted := pipeline.AppendJSON(nil, c.field, a, row)
		return append(b, quoted[1:len(quoted)-1]...)
	}
	return pipeline.AppendJSON(b, c.field, c.arr, row)
}

// key returns the record's key; nil, which is null, for one column without a value.
func (e *encoder) key(row int) []byte {
	switch {
	case len(e.keys) == 0, len(e.keys) == 1 && e.keys[0].null(row):
		return nil
	case len(e.keys) == 1:
		return e.keys[0].plain([]byte{}, row)
	}
	b := []byte{'['}
	for i, c := range e.keys {
		if i > 0 {
			b = append(b, ',')
		}
		if c.null(row) {
			b = append(b, "null"...)
			continue
		}
		b = pipeline.AppendJSON(b, c.field, c.arr, row)
	}
	return append(b, ']')
}

// identity names the row among all but its own revisions.
func (e *encoder) identity(row int) string {
	var b []byte
	for i, c := range e.names {
		if i > 0 {
			b = append(b, ':')
		}
		b = c.plain(b, row)
	}
	return string(b)
}

// value is lent until the next call.
func (e *encoder) value(row int) []byte {
	e.buf = append(e.buf[:0], '{')
	for _, i := range e.members {
		e.buf = pipeline.AppendJSONMember(e.buf, 1, e.fields[i], e.rec.Column(i), row)
	}
	e.buf = append(e.buf, '}')
	return e.buf
}

// headers returns those that depend on the row, "" for one that it has not.
func (e *encoder) headers(row int) (revision, final, del string) {
	if e.revision >= 0 && e.rec.Column(e.revision).IsValid(row) {
		revision = strconv.Itoa(int(e.rec.Column(e.revision).(*array.Int32).Value(row)))
	}
	if e.final >= 0 && e.rec.Column(e.final).IsValid(row) {
		final = strconv.FormatBool(e.rec.Column(e.final).(*array.Boolean).Value(row))
	}
	if e.deleted >= 0 && e.rec.Column(e.deleted).IsValid(row) && e.rec.Column(e.deleted).(*array.Boolean).Value(row) {
		del = "true"
	}
	return revision, final, del
}

// verify checks size and checksum of a sealed object.
func (s *Sink) verify(ctx context.Context, r receipt) error {
	h := xxhash.New()
	if _, err := io.Copy(h, pipeline.ReadObject(ctx, s.store, r.Object, r.Size)); err != nil {
		return err
	}
	if got := hashText(h); got != r.XXH64 {
		return fmt.Errorf("sealed object %s has hash %s, the receipt says %s: check the disk, then replay from an earlier checkpoint", r.Object, got, r.XXH64)
	}
	return nil
}

// readSealed calls f with the records of a sealed object, batch by batch in their order.
func (s *Sink) readSealed(ctx context.Context, r receipt, f func([]Record) error) error {
	in, err := ipc.NewReader(pipeline.ReadObject(ctx, s.store, r.Object, r.Size), ipc.WithAllocator(s.mem), ipc.WithSchema(sealedSchema))
	if err != nil {
		return fmt.Errorf("sealed object %s: %w", r.Object, err)
	}
	defer in.Release()
	n := int64(0)
	for in.Next() {
		recs := r.records(in.RecordBatch())
		n += int64(len(recs))
		if err := f(recs); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("sealed object %s: %w", r.Object, err)
	}
	if n != r.Rows {
		return fmt.Errorf("sealed object %s has %d rows, the receipt says %d", r.Object, n, r.Rows)
	}
	return nil
}

// records are lent for as long as rec is.
func (r receipt) records(rec arrow.RecordBatch) []Record {
	keys, values := rec.Column(0).(*array.Binary), rec.Column(1).(*array.Binary)
	lineage, epoch := strconv.Itoa(int(r.Lineage)), strconv.FormatInt(r.Epoch, 10)
	out := make([]Record, rec.NumRows())
	for i := range out {
		out[i] = Record{Value: values.Value(i), Time: time.UnixMilli(r.SealedMS), Partition: -1}
		if keys.IsValid(i) {
			out[i].Key = keys.Value(i)
		}
		for c := 2; c < sealedSchema.NumFields(); c++ {
			if h := rec.Column(c).(*array.String); h.IsValid(i) {
				out[i].Headers = append(out[i].Headers, kafkago.Header{Key: sealedSchema.Field(c).Name, Value: []byte(h.Value(i))})
			}
		}
		out[i].Headers = append(out[i].Headers, kafkago.Header{Key: HeaderLineage, Value: []byte(lineage)}, kafkago.Header{Key: HeaderEpoch, Value: []byte(epoch)})
	}
	return out
}

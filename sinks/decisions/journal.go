package decisions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Config bounds each of the two lists.
type Config struct {
	// Off writes neither.
	Off bool `yaml:"off"`
	// Keep is the age, and MaxBytes the size, beyond which the oldest objects are removed.
	Keep     time.Duration `yaml:"keep"`
	MaxBytes int64         `yaml:"max_bytes"`
}

// DefaultConfig keeps a week.
func DefaultConfig() Config { return Config{Keep: 7 * 24 * time.Hour, MaxBytes: 256 << 20} }

// Validate returns every problem.
func (c Config) Validate() error {
	var errs []error
	if c.Keep <= 0 {
		errs = append(errs, fmt.Errorf("keep %v: must be longer than that; off: true keeps nothing", c.Keep))
	}
	if c.MaxBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("max_bytes %d: at least 1 MiB; off: true keeps nothing", c.MaxBytes))
	}
	return errors.Join(errs...)
}

// fullRows is how many rows an object has at most, a batch more aside: rewriting it costs
// some milliseconds.
const fullRows = 8 << 10

// journal is one list.
type journal struct {
	cfg    Config
	store  pipeline.Store
	folder string
	schema *arrow.Schema
	mem    memory.Allocator
	now    func() time.Time

	name string // of the newest object; empty: the next rows begin one
	recs []arrow.RecordBatch
	rows int64
}

// add puts rows of an epoch behind the others, and makes them durable.
func (j *journal) add(ctx context.Context, lineage uint16, epoch int64, recs []arrow.RecordBatch) error {
	for _, rec := range recs {
		rec.Retain()
		j.recs, j.rows = append(j.recs, rec), j.rows+rec.NumRows()
	}
	begins := j.name == ""
	if begins {
		j.name = j.object(lineage, epoch, 0)
	}
	if err := j.put(ctx, j.name, j.recs); err != nil {
		return err
	}
	if j.rows >= fullRows {
		j.forget()
	}
	if begins {
		return j.prune(ctx)
	}
	return nil
}

// forget lets go of the rows at hand; the next ones begin an object.
func (j *journal) forget() {
	for _, rec := range j.recs {
		rec.Release()
	}
	j.recs, j.rows, j.name = nil, 0, ""
}

// object names objects so that their order is that of the rows.
func (j *journal) object(lineage uint16, epoch int64, n int) string {
	return fmt.Sprintf("%s/%05d-%012d-%03d.arrow", j.folder, lineage, epoch, n)
}

// put writes an object. Its rows are one batch, since small ones compress badly.
func (j *journal) put(ctx context.Context, name string, recs []arrow.RecordBatch) error {
	rec, err := concatenate(j.schema, recs, j.mem)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer rec.Release()
	var b bytes.Buffer
	w, err := ipc.NewFileWriter(&b, ipc.WithSchema(j.schema), ipc.WithZstd(), ipc.WithAllocator(j.mem))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return j.store.Put(ctx, name, b.Bytes())
}

func concatenate(schema *arrow.Schema, recs []arrow.RecordBatch, mem memory.Allocator) (arrow.RecordBatch, error) {
	if len(recs) == 1 {
		recs[0].Retain()
		return recs[0], nil
	}
	cols := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	var rows int64
	for _, rec := range recs {
		rows += rec.NumRows()
	}
	for i := range schema.NumFields() {
		var parts []arrow.Array
		for _, rec := range recs {
			parts = append(parts, rec.Column(i))
		}
		c, err := array.Concatenate(parts, mem)
		if err != nil {
			return nil, err
		}
		cols = append(cols, c)
	}
	return array.NewRecordBatch(schema, cols, rows), nil
}

// prune removes what is too old, and the oldest of what is too much.
func (j *journal) prune(ctx context.Context) error {
	objects, err := j.store.List(ctx, j.folder+"/")
	if err != nil {
		return fmt.Errorf("%s: %w", j.folder, err)
	}
	var size int64
	for _, o := range objects {
		size += o.Size
	}
	oldest := j.now().Add(-j.cfg.Keep)
	for _, o := range objects { // in the order of lineages and epochs
		if o.Name == j.name || size <= j.cfg.MaxBytes && o.ModTime.After(oldest) {
			continue
		}
		if err := j.store.Delete(ctx, o.Name); err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
		size -= o.Size
	}
	return nil
}

// read gives visit the rows of every object in their order, as far as wanted. An object that is removed
// meanwhile is passed over, and so is one that cannot be read: it is then told of.
func read(ctx context.Context, store pipeline.Store, folder string, schema *arrow.Schema, mem memory.Allocator, visit func(arrow.RecordBatch)) (damaged []error, err error) {
	objects, err := store.List(ctx, folder+"/")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	for _, o := range objects {
		b, err := store.GetRange(ctx, o.Name, 0, -1)
		if errors.Is(err, pipeline.ErrNotExist) {
			continue
		}
		if err != nil {
			return damaged, fmt.Errorf("%s: %w", o.Name, err)
		}
		if err := readObject(b, schema, mem, visit); err != nil {
			damaged = append(damaged, fmt.Errorf("%s: %w", o.Name, err))
		}
	}
	return damaged, nil
}

// readObject reads one object. The Arrow reader trusts the lengths that it is given, so that it
// may panic over a file that somebody has changed.
func readObject(b []byte, schema *arrow.Schema, mem memory.Allocator, visit func(arrow.RecordBatch)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be read: %v", r)
		}
	}()
	r, err := ipc.NewFileReader(bytes.NewReader(b), ipc.WithAllocator(mem))
	if err != nil {
		return err
	}
	defer r.Close()
	if !r.Schema().Equal(schema) {
		return fmt.Errorf("its columns are %v: another version wrote it", r.Schema().Fields())
	}
	for i := range r.NumRecords() {
		rec, err := r.RecordBatch(i)
		if err != nil {
			return err
		}
		visit(rec)
	}
	return nil
}

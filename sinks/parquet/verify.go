package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"github.com/cespare/xxhash/v2"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
)

// Verify says how a file is checked before it is published.
type Verify string

const (
	// VerifyFull reads everything back and compares the values of every column, and the bytes,
	// with what was written: the first finds a fault of the encoder, the second one of the
	// store, in the indexes too.
	VerifyFull Verify = "full"
	// VerifyFooter opens the file and compares row counts.
	VerifyFooter Verify = "footer"
)

// digest is a hash of the values of a column in their order, with their levels. For a given
// value every step is a bijection of the state, and for a given state of the value: no
// single value that differs goes unnoticed.
type digest uint64

func (d digest) add(vals []pq.Value) digest {
	const odd = 0x9e3779b97f4a7c15
	for i := range vals {
		v := &vals[i]
		var x uint64
		switch v.Kind() {
		case pq.Boolean:
			if v.Boolean() {
				x = 1
			}
		case pq.Int32, pq.Float:
			x = uint64(v.Uint32())
		case pq.Int64, pq.Double:
			x = v.Uint64()
		case pq.ByteArray:
			x = xxhash.Sum64(v.ByteArray())
		}
		levels := digest(v.DefinitionLevel())<<8 | digest(v.RepetitionLevel())
		d = digest(bits.RotateLeft64(uint64((d^digest(x))*odd), 29)) + levels
	}
	return d
}

// columnOut is a column of a file that is being written, and what it has been given.
type columnOut struct {
	w    *pq.ColumnWriter
	sum  digest
	size int64 // of the values of the row group
}

// verifyBuffer is how much of an object verification reads at a time.
const verifyBuffer = 4 << 20

// verify reads a staged object as a reader would, and compares it with what was written. A
// panic of the library is an error of this file.
func (s *Sink) verify(ctx context.Context, f file, sums []digest) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet decoder: %v", p)
		}
	}()
	r := &objectReader{ctx: ctx, store: s.store, name: f.Staging, size: f.Size, sum: xxhash.New()}
	opened, err := pq.OpenFile(r, f.Size, pq.ReadBufferSize(64<<10))
	if err != nil {
		return err
	}
	rows := int64(0)
	for _, g := range opened.RowGroups() {
		rows += g.NumRows()
	}
	if opened.NumRows() != f.Rows || rows != f.Rows {
		return fmt.Errorf("%d rows in the footer, %d in its row groups, %d written", opened.NumRows(), rows, f.Rows)
	}
	if s.cfg.Verify == VerifyFooter {
		return nil
	}
	if got, want := opened.Schema().String(), s.pqSchema.String(); got != want {
		return fmt.Errorf("schema %s, written with %s", got, want)
	}
	got := make([]digest, len(sums))
	buf := make([]pq.Value, pageRows)
	for _, g := range opened.RowGroups() {
		for i, c := range g.ColumnChunks() {
			if got[i], err = readChunk(c, got[i], buf); err != nil {
				return fmt.Errorf("column %s: %w", columnName(opened, i), err)
			}
		}
	}
	for i := range sums {
		if got[i] != sums[i] {
			return fmt.Errorf("column %s: other values than were written", columnName(opened, i))
		}
	}
	if err := r.readRest(); err != nil {
		return err
	}
	if sum := hashText(r.sum); sum != f.XXH64 {
		return fmt.Errorf("hash %s, written with %s", sum, f.XXH64)
	}
	return nil
}

func columnName(f *pq.File, i int) string { return strings.Join(f.Schema().Columns()[i], ".") }

// readChunk adds the values of a column chunk to a digest.
func readChunk(c pq.ColumnChunk, d digest, buf []pq.Value) (digest, error) {
	err := eachValues(c, buf, func(values []pq.Value) error {
		d = d.add(values)
		return nil
	})
	return d, err
}

// eachValues gives the values of a column chunk in their order, as many at a time as buf has room
// for.
func eachValues(c pq.ColumnChunk, buf []pq.Value, use func([]pq.Value) error) error {
	pages := c.Pages()
	defer pages.Close() //nolint:errcheck // nothing was written
	for {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for values := p.Values(); err == nil; {
			var n int
			n, err = values.ReadValues(buf)
			if uerr := use(buf[:n]); uerr != nil {
				err = uerr
			}
		}
		pq.Release(p)
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
}

// objectReader reads an object of a store at any offset, a block at a time: a column chunk
// begins where the one before ends. It lives as long as the call whose context it carries.
type objectReader struct {
	ctx   context.Context
	store pipeline.Store
	name  string
	size  int64

	at    int64 // of block in the object
	block []byte

	sum    *xxhash.Digest // of the first hashed bytes of the object
	hashed int64
}

// load reads the block at an offset.
func (o *objectReader) load(at int64) error {
	b, err := o.store.GetRange(o.ctx, o.name, at, min(verifyBuffer, o.size-at))
	if err != nil {
		return err
	}
	o.at, o.block = at, b
	if at == o.hashed {
		_, _ = o.sum.Write(b) // never fails
		o.hashed += int64(len(b))
	}
	return nil
}

// readRest hashes the blocks that were not read in order.
func (o *objectReader) readRest() error {
	for o.hashed < o.size {
		if err := o.load(o.hashed); err != nil {
			return err
		}
	}
	return nil
}

func (o *objectReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > o.size {
		return 0, fmt.Errorf("read %s at %d of %d: %w", o.name, off, o.size, io.ErrUnexpectedEOF)
	}
	n := 0
	for n < len(p) && off < o.size {
		if off < o.at || off >= o.at+int64(len(o.block)) {
			if err := o.load(off - off%verifyBuffer); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], o.block[off-o.at:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

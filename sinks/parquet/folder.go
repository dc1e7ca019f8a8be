package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
)

// Folder is a folder of Parquet files of any writer that somebody compares: its rows by their
// time, each as the values of its leaves. The files are those that were there when it was
// opened.
type Folder struct {
	store pipeline.Store
	time  string
	files []folderFile
}

// folderFile is one file, with what its footer says.
type folderFile struct {
	name   string
	size   int64
	groups []groupSpan
}

// groupSpan is what is known of the times of a row group, in ticks.
type groupSpan struct {
	min, max    int64 // both inclusive; of no meaning when all rows are without a time
	rows, nulls int64
}

// folderBuffer is how much of a column chunk is read at a time.
const folderBuffer = 256 << 10

// Root is the folder of the table's files.
func (c Config) Root() string { return c.laid().root() }

// OpenFolder reads the footers of the files in a folder of the store, and in the folders in it
// whose names do not begin with _ or a dot. The root of the store is "". timeColumn is a time,
// or an integer of milliseconds; dots lead into structs.
func OpenFolder(ctx context.Context, store pipeline.Store, folder, timeColumn string) (*Folder, error) {
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	objects, err := store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	f := &Folder{store: store, time: timeColumn}
	for _, o := range objects {
		if !isTableFile(strings.TrimPrefix(o.Name, prefix)) {
			continue
		}
		ff := folderFile{name: o.Name, size: o.Size}
		if err := f.open(ctx, ff, func(file *pq.File, at *folderLeaf) error { return ff.spans(file, at) }); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name, err)
		}
		f.files = append(f.files, ff)
	}
	return f, nil
}

// isTableFile tells whether a reader of the folder takes the file for one of its table.
func isTableFile(name string) bool {
	for level := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(level, "_") || strings.HasPrefix(level, ".") {
			return false
		}
	}
	return strings.HasSuffix(name, ".parquet")
}

// open opens a file and finds its time column.
func (f *Folder) open(ctx context.Context, ff folderFile, use func(*pq.File, *folderLeaf) error) error {
	return useStored(ctx, f.store, ff.name, ff.size, func(file *pq.File) error {
		leaf, err := timeLeaf(file, f.time)
		if err != nil {
			return err
		}
		return use(file, leaf)
	})
}

// useStored opens a file of a store. A panic of the library is an error of the file.
func useStored(ctx context.Context, store pipeline.Store, name string, size int64, use func(*pq.File) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet decoder: %v", p)
		}
	}()
	file, err := openStored(ctx, store, name, size)
	if err != nil {
		return err
	}
	return use(file)
}

// openStored opens a file of a store. The library may panic when the file is damaged.
func openStored(ctx context.Context, store pipeline.Store, name string, size int64) (*pq.File, error) {
	return pq.OpenFile(storeReader{ctx, store, name, size}, size, pq.SkipPageIndex(true), pq.SkipBloomFilters(true), pq.ReadBufferSize(folderBuffer))
}

// storeReader reads an object at any offset. It lives as long as the call whose context it
// carries.
type storeReader struct {
	ctx   context.Context
	store pipeline.Store
	name  string
	size  int64
}

func (r storeReader) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), r.size-off)
	if off < 0 || n < 0 {
		return 0, fmt.Errorf("read at %d of %d: %w", off, r.size, io.ErrUnexpectedEOF)
	}
	b, err := r.store.GetRange(r.ctx, r.name, off, n)
	if err != nil {
		return 0, err
	}
	copy(p, b)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func timeLeaf(file *pq.File, name string) (*folderLeaf, error) {
	var found *folderLeaf
	for _, l := range leavesOf(file.Root()) {
		if l.name == name {
			found = l
		}
	}
	if found == nil {
		return nil, fmt.Errorf("it has no column %s: name its time column, or map it", name)
	}
	return found, nil
}

// spans works out the times of the row groups, from the statistics where these have them.
func (ff *folderFile) spans(file *pq.File, at *folderLeaf) error {
	for _, g := range file.RowGroups() {
		chunk := g.ColumnChunks()[at.index].(*pq.FileColumnChunk)
		s := groupSpan{rows: g.NumRows(), nulls: chunk.NullCount()}
		low, high, ok := chunk.Bounds()
		if ok && at.typ.Kind() != pq.Int96 { // bounds of these are not in the order of time
			var okLow, okHigh bool
			s.min, okLow = at.ticks(low)
			s.max, okHigh = at.ticks(high)
			ok = okLow && okHigh
		} else {
			ok = s.nulls > 0 && s.nulls == s.rows
		}
		if !ok {
			if err := s.read(chunk, at); err != nil {
				return err
			}
		}
		ff.groups = append(ff.groups, s)
	}
	return nil
}

// read takes the times themselves.
func (s *groupSpan) read(chunk pq.ColumnChunk, at *folderLeaf) error {
	s.min, s.max, s.nulls = pipeline.MaxTicks, pipeline.MinTicks, 0
	return eachValues(chunk, make([]pq.Value, rowsRead), func(values []pq.Value) error {
		for _, v := range values {
			t, ok := at.ticks(v)
			switch {
			case v.IsNull():
				s.nulls++
			case !ok:
				return fmt.Errorf("column %s is a %v: want a time, or an integer of milliseconds", at.name, v.Kind())
			default:
				s.min, s.max = min(s.min, t), max(s.max, t)
			}
		}
		return nil
	})
}

// Span returns the first and the last time of all rows, how many rows there are, and how many
// of them have no time. Without a row with a time first is above last.
func (f *Folder) Span(context.Context) (first, last, rows, timeless int64, err error) {
	first, last = pipeline.MaxTicks, pipeline.MinTicks
	for _, ff := range f.files {
		for _, g := range ff.groups {
			rows += g.rows
			timeless += g.nulls
			if g.nulls < g.rows {
				first, last = min(first, g.min), max(last, g.max)
			}
		}
	}
	return first, last, rows, timeless, nil
}

// Count estimates how many rows have a time in [from, to): those of a row group are taken for
// evenly spread.
func (f *Folder) Count(_ context.Context, from, to int64) (int64, error) {
	n := 0.0
	for _, ff := range f.files {
		for _, g := range ff.groups {
			low, high := max(from, g.min), min(pipeline.SubTicks(to, 1), g.max)
			if low > high || g.nulls == g.rows {
				continue
			}
			share := (float64(high) - float64(low) + 1) / (float64(g.max) - float64(g.min) + 1)
			n += share * float64(g.rows-g.nulls)
		}
	}
	return int64(n), nil
}

// Scan gives the rows whose time is in [from, to), in no order: leaf is called with every value
// of a row that is not null, then row. A value is a bool, int64, uint64, float32, float64,
// string, time.Time, or json.Number for a decimal. Names have dots into structs, [i] for an
// element of a list, and the key for a value of a map.
func (f *Folder) Scan(ctx context.Context, from, to int64, leaf func(name string, value any), row func() error) error {
	return f.scan(ctx, func(g groupSpan) bool { return g.nulls < g.rows && g.min < to && g.max >= from },
		func(t int64, ok bool) bool { return ok && from <= t && t < to }, leaf, row)
}

// ScanTimeless gives the rows that have no time.
func (f *Folder) ScanTimeless(ctx context.Context, leaf func(name string, value any), row func() error) error {
	return f.scan(ctx, func(g groupSpan) bool { return g.nulls > 0 }, func(_ int64, ok bool) bool { return !ok }, leaf, row)
}

// Files is how many files there are.
func (f *Folder) Files() int { return len(f.files) }

// Close does nothing.
func (f *Folder) Close() error { return nil }

func (f *Folder) scan(ctx context.Context, group func(groupSpan) bool, wanted func(t int64, ok bool) bool, leaf func(string, any), row func() error) error {
	for _, ff := range f.files {
		if !slices.ContainsFunc(ff.groups, group) {
			continue
		}
		err := f.open(ctx, ff, func(file *pq.File, at *folderLeaf) error {
			leaves := leavesOf(file.Root())
			for i, g := range file.RowGroups() {
				if !group(ff.groups[i]) {
					continue
				}
				if err := scanGroup(g, leaves, at, wanted, leaf, row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", ff.name, err)
		}
	}
	return nil
}

func scanGroup(g pq.RowGroup, leaves []*folderLeaf, at *folderLeaf, wanted func(int64, bool) bool, leaf func(string, any), row func() error) error {
	rows := g.Rows()
	defer rows.Close() //nolint:errcheck // nothing was written
	buf := make([]pq.Row, 128)
	for {
		n, err := rows.ReadRows(buf)
		for _, cells := range buf[:n] {
			if !wanted(at.find(cells)) {
				continue
			}
			if err := giveRow(cells, leaves, leaf); err != nil {
				return err
			}
			if err := row(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

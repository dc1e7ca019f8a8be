package parquet

import (
	"fmt"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	pq "github.com/parquet-go/parquet-go"

	"github.com/tidemark/tidemark/pipeline"
)

// pageRows is the number of rows handed to a column at a time. A page ends between two
// such runs, so this bounds by how much a page exceeds its size.
const pageRows = 1024

// column writes one Parquet column, or the several of a list or map, for rows that are
// spread over record batches.
type column interface {
	// bind takes the record batches; rows then refer to them.
	bind(recs []arrow.RecordBatch) error
	// write appends rows, at most pageRows.
	write(out []columnOut, rows []pipeline.RowRef) error
}

// columnsOf returns the columns of a schema in the order of the file.
func columnsOf(fields []*shape) []column {
	var out []column
	var walk func(s *shape, path []*shape)
	walk = func(s *shape, path []*shape) {
		path = append(path[:len(path):len(path)], s)
		switch {
		case s.leaf >= 0:
			out = append(out, s.flat(path, s.leaf, int(s.def)))
		case s.typ.ID() == arrow.STRUCT:
			for _, c := range s.children {
				walk(c, path)
			}
		default:
			out = append(out, &nestedColumn{path: path, shape: s})
		}
	}
	for _, f := range fields {
		walk(f, nil)
	}
	return out
}

// nullCheck is one level of a path in one record batch that has nulls.
type nullCheck struct {
	arr arrow.Array
	// def is the definition level of a row that is null here, -1 when null is not allowed.
	def int
}

// descend follows a path through the structs of a record batch and returns what must be
// checked on the way. A null that its field does not allow is looked for here: rows below
// a null struct do not count.
func descend(rec arrow.RecordBatch, path []*shape) (arrow.Array, []nullCheck) {
	var arr arrow.Array
	var checks []nullCheck
	def := 0
	for _, s := range path {
		if arr == nil {
			arr = rec.Column(s.index)
		} else {
			arr = arr.(*array.Struct).Field(s.index)
		}
		if arr.NullN() > 0 {
			c := nullCheck{arr, def}
			if !s.nullable {
				c.def = -1
			}
			checks = append(checks, c)
		}
		if s.nullable {
			def++
		}
	}
	return arr, checks
}

// nullAt returns the definition level of a row that is null on the path, ok false when it
// is there.
func nullAt(checks []nullCheck, row int, path []*shape) (def int, ok bool, err error) {
	for _, c := range checks {
		if c.arr.IsNull(row) {
			if c.def < 0 {
				return 0, false, fmt.Errorf("column %s: null in a field that allows none", pathName(path))
			}
			return c.def, true, nil
		}
	}
	return 0, false, nil
}

func pathName(path []*shape) string {
	name := path[0].name
	for _, s := range path[1:] {
		name += "." + s.name
	}
	return name
}

// flatColumn is a leaf that no list or map is above.
type flatColumn[A values[T], T any] struct {
	path   []*shape
	leaf   int
	def    int
	make   func(T) pq.Value
	slice  func(A) []T // nil where an array does not keep its values as a slice
	arrs   []A
	vals   [][]T // of arrs, with slice
	checks [][]nullCheck
	nulls  bool // some of checks is not empty
	got    [pageRows]T
	buf    [pageRows]pq.Value
}

type values[T any] interface {
	arrow.Array
	Value(int) T
}

func (c *flatColumn[A, T]) bind(recs []arrow.RecordBatch) error {
	clear(c.arrs)
	clear(c.vals)
	c.arrs, c.vals, c.checks, c.nulls = c.arrs[:0], c.vals[:0], c.checks[:0], false
	for _, rec := range recs {
		arr, checks := descend(rec, c.path)
		typed, ok := arr.(A)
		if !ok {
			return fmt.Errorf("column %s: array of type %s", pathName(c.path), arr.DataType())
		}
		c.arrs, c.checks = append(c.arrs, typed), append(c.checks, checks)
		c.nulls = c.nulls || len(checks) > 0
		if c.slice != nil {
			c.vals = append(c.vals, c.slice(typed))
		}
	}
	return nil
}

func (c *flatColumn[A, T]) write(out []columnOut, rows []pipeline.RowRef) error {
	if c.slice != nil && !c.nulls {
		// Sorted rows are spread over memory; a loop that does nothing else has many reads
		// under way at a time.
		for i, r := range rows {
			c.got[i] = c.vals[r.Rec][r.Row]
		}
		for i := range rows {
			c.buf[i] = c.make(c.got[i]).Level(0, c.def, c.leaf)
		}
		return put(&out[c.leaf], c.buf[:len(rows)], len(rows), c.path)
	}
	for i, r := range rows {
		if checks := c.checks[r.Rec]; len(checks) > 0 {
			def, null, err := nullAt(checks, int(r.Row), c.path)
			if err != nil {
				return err
			}
			if null {
				c.buf[i] = pq.NullValue().Level(0, def, c.leaf)
				continue
			}
		}
		c.buf[i] = c.make(c.arrs[r.Rec].Value(int(r.Row))).Level(0, c.def, c.leaf)
	}
	return put(&out[c.leaf], c.buf[:len(rows)], len(rows), c.path)
}

// put hands the values of whole rows to a column. A page ends between two writes only, so
// what is more than a page goes in pieces.
func put(c *columnOut, vals []pq.Value, rows int, path []*shape) error {
	c.sum = c.sum.add(vals)
	taken := 0
	for len(vals) > 0 {
		piece, size := pageOf(vals)
		n, err := c.w.WriteRowValues(vals[:piece])
		if err != nil {
			return fmt.Errorf("column %s: %w", pathName(path), err)
		}
		taken, c.size, vals = taken+n, c.size+size, vals[piece:]
	}
	if taken != rows {
		return fmt.Errorf("column %s: %d of %d rows taken", pathName(path), taken, rows)
	}
	return nil
}

// pageOf returns how many of the values, which end with a row, make a page, and their size.
func pageOf(vals []pq.Value) (n int, size int64) {
	for i := range vals {
		v := &vals[i]
		if size >= pageBytes && v.RepetitionLevel() == 0 {
			return i, size
		}
		size += 8 // a number, or the length of a text and its levels
		if v.Kind() == pq.ByteArray {
			size += int64(len(v.ByteArray()))
		}
	}
	return len(vals), size
}

// nestedColumn is a list or map, below structs only, with all that is in it.
type nestedColumn struct {
	path   []*shape
	shape  *shape
	arrs   []arrow.Array
	checks [][]nullCheck
	out    map[int][]pq.Value // by leaf
}

func (c *nestedColumn) bind(recs []arrow.RecordBatch) error {
	clear(c.arrs)
	c.arrs, c.checks = c.arrs[:0], c.checks[:0]
	for _, rec := range recs {
		arr, checks := descend(rec, c.path)
		c.arrs, c.checks = append(c.arrs, arr), append(c.checks, checks)
	}
	if c.out == nil {
		c.out = map[int][]pq.Value{}
		c.shape.eachLeaf(func(leaf int) { c.out[leaf] = nil })
	}
	return nil
}

func (c *nestedColumn) write(out []columnOut, rows []pipeline.RowRef) error {
	for leaf, vals := range c.out {
		c.out[leaf] = vals[:0]
	}
	for _, r := range rows {
		def, null, err := nullAt(c.checks[r.Rec], int(r.Row), c.path)
		if err != nil {
			return err
		}
		if null {
			c.nulls(c.shape, 0, def)
			continue
		}
		if err := c.value(c.shape, c.arrs[r.Rec], int(r.Row), 0); err != nil {
			return fmt.Errorf("column %s: %w", pathName(c.path), err)
		}
	}
	for leaf, vals := range c.out {
		if err := put(&out[leaf], vals, len(rows), c.path); err != nil {
			return err
		}
		clear(vals)
	}
	return nil
}

// value appends what is at row i of an array that is not null there.
func (c *nestedColumn) value(s *shape, arr arrow.Array, i int, rep byte) error {
	switch a := arr.(type) {
	case *array.Struct:
		for _, child := range s.children {
			if err := c.nullable(child, a.Field(child.index), i, rep); err != nil {
				return err
			}
		}
	case *array.List:
		start, end := a.ValueOffsets(i)
		return c.elements(s, start, end, rep, a.ListValues())
	case *array.Map:
		start, end := a.ValueOffsets(i)
		return c.elements(s, start, end, rep, a.Keys(), a.Items())
	default:
		c.out[s.leaf] = append(c.out[s.leaf], s.at(arr, i).Level(int(rep), int(s.def), s.leaf))
	}
	return nil
}

// elements appends the elements of a list, or the entries of a map.
func (c *nestedColumn) elements(s *shape, start, end int64, rep byte, arrs ...arrow.Array) error {
	if start == end {
		c.nulls(s, rep, int(s.def)-1)
	}
	for j := start; j < end; j++ {
		for k, child := range s.children {
			if err := c.nullable(child, arrs[k], int(j), rep); err != nil {
				return err
			}
		}
		rep = s.rep
	}
	return nil
}

func (c *nestedColumn) nullable(s *shape, arr arrow.Array, i int, rep byte) error {
	if arr.IsValid(i) {
		return c.value(s, arr, i, rep)
	}
	if !s.nullable {
		return fmt.Errorf("null in %s, which allows none", s.name)
	}
	def := int(s.def) - 1 // one below "there"
	if s.typ.ID() == arrow.LIST || s.typ.ID() == arrow.MAP {
		def-- // whose def says that there is an element
	}
	c.nulls(s, rep, def)
	return nil
}

func (c *nestedColumn) nulls(s *shape, rep byte, def int) {
	s.eachLeaf(func(leaf int) {
		c.out[leaf] = append(c.out[leaf], pq.NullValue().Level(int(rep), def, leaf))
	})
}

func (s *shape) eachLeaf(f func(leaf int)) {
	if s.leaf >= 0 {
		f(s.leaf)
		return
	}
	for _, c := range s.children {
		c.eachLeaf(f)
	}
}

// addedColumns writes _tm_ver, _tm_lineage and _tm_epoch.
type addedColumns struct {
	leaf     int // of the first
	epoch    pipeline.Epoch
	revision int // index of _tm_revision, -1 for none
	arrs     []*array.Int32
	buf      [pageRows]pq.Value
}

func (c *addedColumns) bind(recs []arrow.RecordBatch) error {
	clear(c.arrs)
	c.arrs = c.arrs[:0]
	if c.revision < 0 {
		return nil
	}
	for _, rec := range recs {
		a, ok := rec.Column(c.revision).(*array.Int32)
		if !ok {
			return fmt.Errorf("column %s: array of type %s", colRevision, rec.Column(c.revision).DataType())
		}
		c.arrs = append(c.arrs, a)
	}
	return nil
}

func (c *addedColumns) write(out []columnOut, rows []pipeline.RowRef) error {
	for i, r := range rows {
		revision := int32(0)
		if c.revision >= 0 {
			a := c.arrs[r.Rec]
			if a.IsValid(int(r.Row)) { // additions have none
				revision = a.Value(int(r.Row))
			}
		}
		v, err := pipeline.Version(c.epoch.Lineage, c.epoch.N, revision)
		if err != nil {
			return err
		}
		c.buf[i] = pq.Int64Value(int64(v)).Level(0, 0, c.leaf)
	}
	if err := put(&out[c.leaf], c.buf[:len(rows)], len(rows), []*shape{{name: colVersion}}); err != nil {
		return err
	}
	for i := range rows {
		c.buf[i] = pq.Int32Value(int32(c.epoch.Lineage)).Level(0, 0, c.leaf+1)
	}
	if err := put(&out[c.leaf+1], c.buf[:len(rows)], len(rows), []*shape{{name: colLineage}}); err != nil {
		return err
	}
	for i := range rows {
		c.buf[i] = pq.Int64Value(c.epoch.N).Level(0, 0, c.leaf+2)
	}
	return put(&out[c.leaf+2], c.buf[:len(rows)], len(rows), []*shape{{name: colEpoch}})
}

// leafType makes the writers of one Arrow type.
type leafType struct {
	flat func(path []*shape, leaf, def int) column
	at   func(arr arrow.Array, i int) pq.Value
}

func leafOf[A values[T], T any](make func(T) pq.Value, slice func(A) []T) leafType {
	return leafType{
		flat: func(path []*shape, leaf, def int) column {
			return &flatColumn[A, T]{path: path, leaf: leaf, def: def, make: make, slice: slice}
		},
		at: func(arr arrow.Array, i int) pq.Value { return make(arr.(A).Value(i)) },
	}
}

func smallInt[T int8 | int16 | uint8 | uint16 | uint32](v T) pq.Value { return pq.Int32Value(int32(v)) }

func wideInt[T ~int64 | uint64](v T) pq.Value { return pq.Int64Value(int64(v)) }

// stringValue aliases the string; the column writer copies it.
func stringValue(v string) pq.Value {
	return pq.ByteArrayValue(unsafe.Slice(unsafe.StringData(v), len(v)))
}

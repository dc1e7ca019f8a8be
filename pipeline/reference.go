package pipeline

import (
	"bytes"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Reference is a new content of a reference table, or of another file, on its way to the
// operators that use it.
type Reference struct {
	Name  string
	Table *Table
	// Value is what a file says that is no table: whatever its reader has made of it, immutable
	// since shards share it. Version names the content.
	Value   any
	Version string
}

// Table is an immutable reference table: rows that are looked up by key. Shards share it.
type Table struct {
	// Version names the content: equal versions, equal rows.
	Version string

	rec   arrow.RecordBatch
	width int // key columns, the first of rec
	keys  Keys
	index []uint64 // open addressing: the hash's upper half, then row + 1; 0 is free
}

// tableSeed is the seed of the hashes of a table's keys, which decide nothing but places in
// its index.
const tableSeed = 0x7ab1e

// DuplicateKeyError says that two rows of a table have one key. Rows count from 0.
type DuplicateKeyError struct{ First, Second int }

func (e *DuplicateKeyError) Error() string {
	return fmt.Sprintf("rows %d and %d have the same key", e.First, e.Second)
}

// NewTable indexes rec by its first keys columns, which hold no null. The table keeps rec
// for good and nobody releases it, so that it needs no owner: rec's memory must be Go's.
func NewTable(rec arrow.RecordBatch, keys int, version string) (*Table, error) {
	t := &Table{Version: version, rec: rec, width: keys}
	var names []string
	for i := range keys {
		if c := rec.Column(i); c.NullN() > 0 {
			return nil, fmt.Errorf("key column %s: %d rows without a value", rec.ColumnName(i), c.NullN())
		}
		names = append(names, rec.ColumnName(i))
	}
	keyer, err := NewKeyer(rec.Schema(), names, tableSeed)
	if err != nil {
		return nil, err
	}
	t.keys = keyer.Keys(rec)
	rows := int(rec.NumRows())
	t.index = make([]uint64, 1<<bits.Len(uint(2*rows)))
	for row := range rows {
		key, hash := t.keys.At(int32(row)), t.keys.Hash[row]
		at, found := t.probe(key, hash)
		if found >= 0 {
			return nil, &DuplicateKeyError{int(found), row}
		}
		t.index[at] = hash>>32<<32 | uint64(row+1)
	}
	return t, nil
}

// NumRows returns the number of rows.
func (t *Table) NumRows() int { return int(t.rec.NumRows()) }

// Columns returns the columns behind the key. They are lent for good.
func (t *Table) Columns() []arrow.Array { return t.rec.Columns()[t.width:] }

// Fields are the fields of Columns.
func (t *Table) Fields() []arrow.Field { return t.rec.Schema().Fields()[t.width:] }

// Keyer returns what computes the table's keys from columns of the given schema, named in the
// order of the table's key columns. Their types must be those of the table.
func (t *Table) Keyer(rows *arrow.Schema, columns []string) (*Keyer, error) {
	if len(columns) != t.width {
		return nil, fmt.Errorf("the table has %d key columns, %d are given", t.width, len(columns))
	}
	k, err := NewKeyer(rows, columns, tableSeed)
	if err != nil {
		return nil, err
	}
	for i, f := range k.fields {
		if want := t.rec.Schema().Field(i); !arrow.TypeEqual(f.Type, want.Type) {
			return nil, fmt.Errorf("key column %s has type %s, that of the table is %s", f.Name, f.Type, want.Type)
		}
	}
	return k, nil
}

// Lookup sets found[r], for every selected row r of rec (nil: all), to the table's row with
// the key that k computes, or to -1 where there is none or a part of the key is null. Others
// are set to -1. found has an entry for every row of rec.
func (t *Table) Lookup(k *Keyer, rec arrow.RecordBatch, selected, found []int32) {
	n := len(found)
	if selected != nil {
		for r := range found {
			found[r] = -1
		}
		n = len(selected)
	}
	var offsets []int32
	var data []byte
	if k.plain {
		c := rec.Column(k.cols[0]).(*array.String)
		offsets, data = c.ValueOffsets(), stringData(c)
	}
	for i := range n {
		r := i
		if selected != nil {
			r = int(selected[i])
		}
		found[r] = -1
		if k.anyNull(rec, r) {
			continue
		}
		var key []byte
		if k.plain {
			key = data[offsets[r]:offsets[r+1]]
		} else {
			data = data[:0]
			for _, c := range k.cols {
				data = k.appendValue(data, rec.Column(c), r)
			}
			key = data
		}
		_, found[r] = t.probe(key, k.Hash(key))
	}
}

// anyNull tells whether a part of the key of row r is null.
func (k *Keyer) anyNull(rec arrow.RecordBatch, r int) bool {
	for _, c := range k.cols {
		if rec.Column(c).IsNull(r) {
			return true
		}
	}
	return false
}

// probe returns the row with a key, or -1 and the place in the index where it belongs.
func (t *Table) probe(key []byte, hash uint64) (at uint64, row int32) {
	mask := uint64(len(t.index) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		entry := t.index[at]
		if entry == 0 {
			return at, -1
		}
		if entry>>32 != hash>>32 {
			continue
		}
		if row = int32(uint32(entry)) - 1; bytes.Equal(t.keys.At(row), key) {
			return at, row
		}
	}
}

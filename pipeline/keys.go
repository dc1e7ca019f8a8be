package pipeline

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Keys holds the key of every row of a record batch as bytes, with its hash. Two rows
// have the same key exactly when their bytes are equal; a hash alone decides nothing.
type Keys struct {
	Offsets []int32 // of row i: Data[Offsets[i]:Offsets[i+1]]
	Data    []byte
	Hash    []uint64
}

// At returns the key of row i.
func (k *Keys) At(i int32) []byte { return k.Data[k.Offsets[i]:k.Offsets[i+1]] }

// Group returns the key group of a hash.
func Group(hash uint64) uint8 { return uint8(hash >> 56) }

// NumGroups is the number of key groups.
const NumGroups = 256

// ShardOf returns which of n shards owns a key group: shard i owns a contiguous range.
func ShardOf(group uint8, n int) int { return int(group) * n / NumGroups }

// Keyer computes keys from some columns of a schema. A single text column is used as it
// is, without a copy; null is then the byte 0xFF, which no valid UTF-8 text is. Several
// columns, or one of another type, are encoded one after the other: 0 for null, 1 and the
// value otherwise (text behind its length, numbers as 8 bytes).
type Keyer struct {
	fields []arrow.Field
	cols   []int
	plain  bool
	seed   uint64
}

// nullKey is the key of a null in a single text column.
var nullKey = []byte{0xFF}

// NewKeyer takes the names of the key columns, in order. The seed decides hashes and so
// key groups: it belongs to the job and stays for the life of its state.
func NewKeyer(s *arrow.Schema, columns []string, seed uint64) (*Keyer, error) {
	k := &Keyer{seed: seed}
	if len(columns) == 0 {
		return nil, fmt.Errorf("key without columns")
	}
	for _, name := range columns {
		at := s.FieldIndices(name)
		if len(at) != 1 {
			return nil, fmt.Errorf("key column %q is not a column of the rows", name)
		}
		f := s.Field(at[0])
		switch f.Type.ID() {
		case arrow.STRING, arrow.INT64, arrow.INT32, arrow.BOOL, arrow.TIMESTAMP:
		default:
			return nil, fmt.Errorf("key column %q has type %s: a key is text, an integer, a bool or a time", name, f.Type)
		}
		k.fields = append(k.fields, f)
		k.cols = append(k.cols, at[0])
	}
	k.plain = len(k.fields) == 1 && k.fields[0].Type.ID() == arrow.STRING
	return k, nil
}

// Fields are the key columns.
func (k *Keyer) Fields() []arrow.Field { return k.fields }

// Keys computes the keys of all rows of rec. Nothing in the result is written again.
func (k *Keyer) Keys(rec arrow.RecordBatch) Keys {
	n := int(rec.NumRows())
	out := Keys{Hash: make([]uint64, n)}
	if col, ok := rec.Column(k.cols[0]).(*array.String); ok && k.plain && col.NullN() == 0 {
		out.Offsets, out.Data = col.ValueOffsets(), stringData(col)
		for i := range n {
			out.Hash[i] = k.Hash(out.Data[out.Offsets[i]:out.Offsets[i+1]])
		}
		return out
	}
	out.Offsets = make([]int32, n+1)
	for i := range n {
		for _, c := range k.cols {
			out.Data = k.appendValue(out.Data, rec.Column(c), i)
		}
		out.Offsets[i+1] = int32(len(out.Data))
		out.Hash[i] = k.Hash(out.Data[out.Offsets[i]:])
	}
	return out
}

// stringData returns the bytes behind a text column. The offsets of an array that is a
// slice of another point into the whole of them.
func stringData(c *array.String) []byte {
	if b := c.Data().Buffers()[2]; b != nil {
		return b.Bytes()
	}
	return nil
}

func (k *Keyer) appendValue(b []byte, col arrow.Array, i int) []byte {
	if k.plain {
		if col.IsNull(i) {
			return append(b, nullKey...)
		}
		return append(b, col.(*array.String).Value(i)...)
	}
	if col.IsNull(i) {
		return append(b, 0)
	}
	b = append(b, 1)
	switch c := col.(type) {
	case *array.String:
		v := c.Value(i)
		return append(binary.AppendUvarint(b, uint64(len(v))), v...)
	case *array.Int64:
		return binary.BigEndian.AppendUint64(b, uint64(c.Value(i)))
	case *array.Int32:
		return binary.BigEndian.AppendUint64(b, uint64(int64(c.Value(i))))
	case *array.Timestamp:
		return binary.BigEndian.AppendUint64(b, uint64(c.Value(i)))
	case *array.Boolean:
		var v uint64
		if c.Value(i) {
			v = 1
		}
		return binary.BigEndian.AppendUint64(b, v)
	}
	panic(fmt.Sprintf("key column of type %s passed NewKeyer", col.DataType()))
}

// Append decodes a key into one builder per key column.
func (k *Keyer) Append(to []array.Builder, key []byte) error {
	if k.plain {
		if string(key) == string(nullKey) {
			to[0].AppendNull()
			return nil
		}
		to[0].(*array.StringBuilder).BinaryBuilder.Append(key)
		return nil
	}
	for i, f := range k.fields {
		if len(key) == 0 {
			return fmt.Errorf("key of %d columns ends before column %s", len(k.fields), f.Name)
		}
		null := key[0] == 0
		key = key[1:]
		if null {
			to[i].AppendNull()
			continue
		}
		if f.Type.ID() == arrow.STRING {
			n, w := binary.Uvarint(key)
			if w <= 0 || uint64(len(key)-w) < n {
				return fmt.Errorf("key column %s is cut off", f.Name)
			}
			to[i].(*array.StringBuilder).BinaryBuilder.Append(key[w : w+int(n)])
			key = key[w+int(n):]
			continue
		}
		if len(key) < 8 {
			return fmt.Errorf("key column %s is cut off", f.Name)
		}
		v := int64(binary.BigEndian.Uint64(key))
		key = key[8:]
		switch b := to[i].(type) {
		case *array.Int64Builder:
			b.Append(v)
		case *array.Int32Builder:
			b.Append(int32(v))
		case *array.TimestampBuilder:
			b.Append(arrow.Timestamp(v))
		case *array.BooleanBuilder:
			b.Append(v != 0)
		}
	}
	return nil
}

// Hash returns the hash of a key: multiply and fold over words of 8 bytes.
func (k *Keyer) Hash(key []byte) uint64 {
	const m1, m2 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
	h := k.seed ^ uint64(len(key))*m1
	for len(key) > 16 {
		h = fold(binary.LittleEndian.Uint64(key)^h^m1, binary.LittleEndian.Uint64(key[8:])^m2)
		key = key[16:]
	}
	var lo, hi uint64
	switch n := len(key); {
	case n >= 8:
		lo, hi = binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[n-8:])
	case n >= 4:
		lo, hi = uint64(binary.LittleEndian.Uint32(key)), uint64(binary.LittleEndian.Uint32(key[n-4:]))
	case n > 0:
		lo = uint64(key[0])<<16 | uint64(key[n/2])<<8 | uint64(key[n-1])
	}
	return fold(fold(lo^h^m1, hi^m2), m1)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

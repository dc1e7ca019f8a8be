package operators

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/axiomhq/hyperloglog"
	"github.com/cespare/xxhash/v2"
)

// distinct counts different values by their hashes. Up to distinctExact it keeps the
// hashes and is exact; beyond, it keeps the registers of a HyperLogLog. The library has a
// sparse form of its own, but when it is left depends on the order of the rows, and so
// does the estimate; here it depends on how many different hashes there are.
type distinct struct {
	hashes []uint64            // ascending
	regs   *hyperloglog.Sketch // nil up to distinctExact
}

const (
	distinctPrecision = 12
	// distinctBytes bounds the memory of a sketch: 2^12 registers of a byte. The standard
	// error of an estimate is 1.04 / sqrt(2^12), 1.6 %.
	distinctBytes = 1 << distinctPrecision
	// distinctExact is how many hashes take the memory of the registers.
	distinctExact = distinctBytes / 8
)

func (d *distinct) add(hash uint64) {
	if d.regs != nil {
		d.regs.InsertHash(hash)
		return
	}
	at, found := slices.BinarySearch(d.hashes, hash)
	if found {
		return
	}
	d.hashes = slices.Insert(d.hashes, at, hash)
	if len(d.hashes) > distinctExact {
		d.condense()
	}
}

// condense puts the hashes into registers.
func (d *distinct) condense() {
	d.regs = newRegisters()
	for _, h := range d.hashes {
		d.regs.InsertHash(h)
	}
	d.hashes = nil
}

func newRegisters() *hyperloglog.Sketch {
	regs, err := hyperloglog.NewSketch(distinctPrecision, false)
	if err != nil {
		panic(fmt.Sprintf("hyperloglog of precision %d: %v", distinctPrecision, err))
	}
	return regs
}

// merge adds the values of s.
func (d *distinct) merge(s *distinct) {
	if s.regs == nil {
		for _, h := range s.hashes {
			d.add(h)
		}
		return
	}
	if d.regs == nil {
		d.condense()
	}
	if err := d.regs.Merge(s.regs); err != nil {
		panic(fmt.Sprintf("hyperloglogs of the same precision: %v", err))
	}
}

// count returns how many different values there are. More than distinctExact are never
// estimated to be fewer.
func (d *distinct) count() int64 {
	if d.regs == nil {
		return int64(len(d.hashes))
	}
	return max(int64(d.regs.Estimate()), distinctExact+1)
}

// bytes returns the memory of the sketch, 0 when it is empty.
func (d *distinct) bytes() int64 {
	switch {
	case d.regs != nil:
		return distinctBytes
	case len(d.hashes) > 0:
		return int64(cap(d.hashes)) * 8
	}
	return 0
}

// Forms of a sketch in a checkpoint, its first byte.
const (
	distinctHashes    = 0 // 8 bytes each, little endian, ascending
	distinctRegisters = 1 // the library's encoding, whose first byte is its version
)

// append appends the sketch as a checkpoint holds it.
func (d *distinct) append(b []byte) []byte {
	if d.regs != nil {
		b, err := d.regs.AppendBinary(append(b, distinctRegisters))
		if err != nil {
			panic(fmt.Sprintf("hyperloglog of precision %d: %v", distinctPrecision, err))
		}
		return b
	}
	b = append(b, distinctHashes)
	for _, h := range d.hashes {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	return b
}

// restore sets an empty sketch to one from a checkpoint, which has at least one byte.
func (d *distinct) restore(b []byte) error {
	switch {
	case b[0] == distinctHashes && len(b)%8 == 1 && len(b)/8 <= distinctExact:
		for b = b[1:]; len(b) > 0; b = b[8:] {
			d.add(binary.LittleEndian.Uint64(b))
		}
		return nil
	case b[0] == distinctRegisters:
		var stored hyperloglog.Sketch
		if err := stored.UnmarshalBinary(b[1:]); err != nil {
			return err
		}
		d.condense()
		return d.regs.Merge(&stored) // it refuses another precision
	}
	return fmt.Errorf("%d bytes of form %d", len(b), b[0])
}

func (x *extras) distinct(acc []uint64) *distinct {
	if acc[0] == 0 {
		acc[0] = x.distincts.take()
	}
	return x.distincts.at(acc[0])
}

func (x *extras) addDistinct(acc []uint64, hash uint64) { x.distinct(acc).add(hash) }

func (x *extras) mergeDistinct(dst, src []uint64) {
	if src[0] != 0 {
		d := x.distinct(dst)
		d.merge(x.distincts.at(src[0]))
	}
}

func (x *extras) dropDistinct(acc []uint64) {
	if acc[0] != 0 {
		d := x.distincts.at(acc[0])
		d.hashes, d.regs = d.hashes[:0], nil
		x.distincts.give(acc[0])
	}
	acc[0] = 0
}

// hashable tells whether distinct takes columns of a type.
func hashable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.STRING, arrow.BINARY, arrow.INT64, arrow.INT32, arrow.FLOAT64, arrow.TIMESTAMP, arrow.BOOL:
		return true
	}
	return false
}

// appendHashes appends the hashes of the values at the given rows. The hash of a value is
// the same for ever: checkpoints hold it. Nulls have none of their own.
func appendHashes(out []uint64, col arrow.Array, at []int32) []uint64 {
	switch c := col.(type) {
	case *array.String:
		for _, r := range at {
			out = append(out, xxhash.Sum64String(c.Value(int(r))))
		}
	case *array.Binary:
		for _, r := range at {
			out = append(out, xxhash.Sum64(c.Value(int(r))))
		}
	case *array.Boolean:
		for _, r := range at {
			h := uint64(0)
			if c.Value(int(r)) {
				h = 1
			}
			out = append(out, hashWord(h))
		}
	case *array.Int32:
		for _, r := range at {
			out = append(out, hashWord(uint64(c.Value(int(r)))))
		}
	case *array.Float64:
		for _, r := range at {
			v := c.Value(int(r))
			if v == 0 {
				v = 0 // -0
			}
			out = append(out, hashWord(math.Float64bits(v)))
		}
	default:
		ints := columnValues(c).ints
		for _, r := range at {
			out = append(out, hashWord(uint64(ints[r])))
		}
	}
	return out
}

// hashWord never gives two words the same hash.
func hashWord(w uint64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], w)
	return xxhash.Sum64(b[:])
}

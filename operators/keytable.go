package operators

import (
	"encoding/binary"
	"slices"
)

// A store holds the rows of all slices of one operator in chunks of fixed size, so that
// freeing a slice gives whole chunks back and a row is addressed by one uint32. Nothing in
// it is a pointer that the collector would follow per row.
//
// A row is width words: two of key, one of header, then the accumulators.
//
// A chunk that is frozen is read by whoever writes the checkpoint: it is never written, nor
// cleared; who wants to write a row of it gets a copy of the chunk (own).
type store struct {
	width  int
	chunks [][]uint64
	frozen []bool // by chunk
	free   []uint32
}

const (
	chunkBits = 8
	chunkRows = 1 << chunkBits
	rowKey    = 0 // words 0 and 1
	rowHead   = 2
	rowAcc    = 3
)

// row returns the words of a row.
func (s *store) row(id uint32) []uint64 {
	at := int(id&(chunkRows-1)) * s.width
	return s.chunks[id>>chunkBits][at : at+s.width : at+s.width]
}

func (s *store) newChunk() uint32 {
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		if s.frozen[c] {
			s.chunks[c], s.frozen[c] = make([]uint64, chunkRows*s.width), false
		} else {
			clear(s.chunks[c])
		}
		return c
	}
	s.chunks = append(s.chunks, make([]uint64, chunkRows*s.width))
	s.frozen = append(s.frozen, false)
	return uint32(len(s.chunks) - 1)
}

// own makes a row one that may be written. Words of its chunk that were taken before may be
// those of a checkpoint.
func (s *store) own(id uint32) {
	if c := id >> chunkBits; s.frozen[c] {
		s.thaw(c)
	}
}

func (s *store) thaw(chunk uint32) {
	s.chunks[chunk], s.frozen[chunk] = slices.Clone(s.chunks[chunk]), false
}

// used returns the memory of the chunks in use; bytes that held, used or pooled.
func (s *store) used() int64 {
	return int64(len(s.chunks)-len(s.free)) * chunkRows * int64(s.width) * 8
}

func (s *store) bytes() int64 { return int64(len(s.chunks)) * chunkRows * int64(s.width) * 8 }

// A table finds the row of a key in one slice: open addressing over (32 bits of the hash,
// row + 1), load at most 3/4. Keys are compared by value. Keys of up to 15 bytes live in
// their row, longer ones in the arena.
type table struct {
	store  *store
	index  []uint64
	rows   int
	chunks []uint32
	arena  []byte
}

const (
	inlineKey = 15
	longKey   = uint64(0xFF) << 56
)

func newTable(s *store, expect int) *table {
	size := 16
	for size*3/4 < expect {
		size *= 2
	}
	return &table{store: s, index: make([]uint64, size)}
}

// reserve makes an empty table large enough for rows.
func (t *table) reserve(rows int) {
	for t.rows == 0 && len(t.index)*3 < rows*4 {
		t.index = make([]uint64, 2*len(t.index))
	}
}

// packKey returns the two key words of a short key: its bytes, and its length in the top
// byte.
func packKey(key []byte) (lo, hi uint64) {
	var b [16]byte
	copy(b[:inlineKey], key)
	b[15] = byte(len(key))
	return binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])
}

// find returns the row of the key, to be written, inserting a zero row when it is new.
func (t *table) find(hash uint64, key []byte) (id uint32, added bool) {
	short := len(key) <= inlineKey
	var lo, hi uint64
	if short {
		lo, hi = packKey(key)
	}
	tag := hash << 32 // the top byte of the hash is the key group: alike within a shard
	mask := uint64(len(t.index) - 1)
	at := hash & mask
	for {
		slot := t.index[at]
		if slot == 0 {
			break
		}
		if slot&^0xFFFFFFFF == tag {
			id := uint32(slot) - 1
			row := t.store.row(id)
			if short {
				if row[0] == lo && row[1] == hi {
					t.store.own(id)
					return id, false
				}
			} else if row[1]&longKey == longKey && string(t.long(row)) == string(key) {
				t.store.own(id)
				return id, false
			}
		}
		at = (at + 1) & mask
	}
	if (t.rows+1)*4 > len(t.index)*3 {
		t.index = grown(t.index)
		mask = uint64(len(t.index) - 1)
		for at = hash & mask; t.index[at] != 0; at = (at + 1) & mask {
		}
	}
	id = t.add()
	t.store.own(id)
	row := t.store.row(id)
	if !short {
		lo, hi = uint64(len(t.arena)), longKey|uint64(len(key))
		t.arena = append(t.arena, key...)
	}
	row[0], row[1] = lo, hi
	t.index[at] = tag | uint64(id+1)
	return id, true
}

// lookup returns the row of a key without making one.
func (t *table) lookup(hash uint64, key []byte) (id uint32, ok bool) {
	var lo, hi uint64
	short := len(key) <= inlineKey
	if short {
		lo, hi = packKey(key)
	}
	mask := uint64(len(t.index) - 1)
	for at := hash & mask; t.index[at] != 0; at = (at + 1) & mask {
		if t.index[at]&^0xFFFFFFFF != hash<<32 {
			continue
		}
		id := uint32(t.index[at]) - 1
		row := t.store.row(id)
		if short && row[0] == lo && row[1] == hi || !short && row[1]&longKey == longKey && string(t.long(row)) == string(key) {
			return id, true
		}
	}
	return 0, false
}

// bytes returns the memory that the table holds outside of the store.
func (t *table) bytes() int64 { return int64(len(t.index))*8 + int64(cap(t.arena)) }

func (t *table) add() uint32 {
	if t.rows&(chunkRows-1) == 0 {
		t.chunks = append(t.chunks, t.store.newChunk())
	}
	id := t.chunks[t.rows>>chunkBits]<<chunkBits | uint32(t.rows&(chunkRows-1))
	t.rows++
	return id
}

// grown returns an index of twice the size. The 32 bits of hash kept in a slot are enough to
// place it anew: an index has at most 2^32 slots.
func grown(old []uint64) []uint64 {
	index := make([]uint64, 2*len(old))
	mask := uint64(len(index) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		at := slot >> 32 & mask
		for index[at] != 0 {
			at = (at + 1) & mask
		}
		index[at] = slot
	}
	return index
}

// id returns the nth row of the table in order of insertion.
func (t *table) id(n int) uint32 {
	return t.chunks[n>>chunkBits]<<chunkBits | uint32(n&(chunkRows-1))
}

// key returns the key of a row; scratch holds it when it is short.
func (t *table) key(row []uint64, scratch *[16]byte) []byte { return keyOf(row, t.arena, scratch) }

func (t *table) long(row []uint64) []byte { return keyOf(row, t.arena, nil) }

// keyOf returns the key of a row whose table has the given arena.
func keyOf(row []uint64, arena []byte, scratch *[16]byte) []byte {
	if row[1]&longKey == longKey {
		n := row[1] &^ longKey
		return arena[row[0] : row[0]+n]
	}
	binary.LittleEndian.PutUint64(scratch[:8], row[0])
	binary.LittleEndian.PutUint64(scratch[8:], row[1])
	return scratch[:scratch[15]]
}

// release gives the chunks back to the store. The table is dead afterwards.
func (t *table) release() {
	t.store.free = append(t.store.free, t.chunks...)
	t.chunks, t.index, t.arena = nil, nil, nil
}

// A tableView is what a table was when it was taken. A frozen one may be read by another
// goroutine while the table goes on.
type tableView struct {
	chunks [][]uint64
	ids    []uint32 // of the chunks
	width  int
	n      int    // rows
	arena  []byte // grows behind what is seen here
}

// view returns the table as it is until somebody writes it.
func (t *table) view() tableView {
	v := tableView{ids: slices.Clone(t.chunks), width: t.store.width, n: t.rows, arena: t.arena}
	for _, c := range t.chunks {
		v.chunks = append(v.chunks, t.store.chunks[c])
	}
	return v
}

// freeze returns a view that stays.
func (t *table) freeze() tableView {
	for _, c := range t.chunks {
		t.store.frozen[c] = true
	}
	return t.view()
}

func (v *tableView) row(i int) []uint64 {
	at := i & (chunkRows - 1) * v.width
	return v.chunks[i>>chunkBits][at : at+v.width : at+v.width]
}

func (v *tableView) id(i int) uint32 {
	return v.ids[i>>chunkBits]<<chunkBits | uint32(i&(chunkRows-1))
}

func (v *tableView) key(i int, scratch *[16]byte) []byte { return keyOf(v.row(i), v.arena, scratch) }

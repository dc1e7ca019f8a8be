package operators

import (
	"cmp"
	"math"
	"slices"

	"github.com/tidemark/tidemark/pipeline"
)

// sessions holds the open sessions of all keys. A session is one row of the store; the
// rows of a key form a list, latest start first, and an index like that of a table finds
// the head of the list. Unlike a table it gives single rows back, because every session
// ends at a time of its own.
//
// A row is a row of the program (key, header, accumulators), then five words of the
// session, then, when results are compared or withdrawn, a copy of the row of the program as it was
// shown last.
type sessions struct {
	store store
	acc   int // width of a row of the program: the first word of the session

	index []uint64 // as in a table: 32 bits of the hash, head of the list + 1
	keys  int
	rows  int
	used  int    // rows of the chunks handed out so far
	free  uint32 // head + 1 of the list of rows given back
	arena []byte // long keys
	waste int    // bytes of the arena that no key uses

	perGroup [pipeline.NumGroups]int // open sessions
}

// Words of a session, behind those of the program.
const (
	sesStart = iota // first event time
	sesEnd          // half open
	sesLink         // next row of the list + 1 (32 bits), key group (8 bits)
	sesFiled        // calendar bucket the row is in
	sesDue          // until when rows that no pane has shown wait, by Tick
	sesWords
)

func newSessions(acc int, shown bool) *sessions {
	s := &sessions{acc: acc, index: make([]uint64, 16)}
	s.store.width = acc + sesWords
	if shown {
		s.store.width += acc
	}
	return s
}

func (s *sessions) row(id uint32) []uint64 { return s.store.row(id) }

// prog returns the part of a row that the program knows, shown its copy.
func (s *sessions) prog(row []uint64) []uint64 { return row[:s.acc:s.acc] }

func (s *sessions) shown(row []uint64) []uint64 { return row[s.acc+sesWords:] }

func (s *sessions) start(row []uint64) int64 { return int64(row[s.acc+sesStart]) }

func (s *sessions) end(row []uint64) int64 { return int64(row[s.acc+sesEnd]) }

func (s *sessions) group(row []uint64) uint8 { return uint8(row[s.acc+sesLink] >> 32) }

// next returns the next row of a list + 1, 0 at its end.
func (s *sessions) next(row []uint64) uint32 { return uint32(row[s.acc+sesLink]) }

func (s *sessions) link(row []uint64, next uint32) {
	row[s.acc+sesLink] = row[s.acc+sesLink]&^math.MaxUint32 | uint64(next)
}

// lookup returns the head of a key's list + 1, 0 when the key has no session, and the
// slot where it is or would be.
func (s *sessions) lookup(hash uint64, key []byte) (head uint32, slot uint64) {
	tag, mask := hash<<32, uint64(len(s.index)-1)
	short := len(key) <= inlineKey
	var lo, hi uint64
	if short {
		lo, hi = packKey(key)
	}
	for slot = hash & mask; s.index[slot] != 0; slot = (slot + 1) & mask {
		if s.index[slot]&^math.MaxUint32 != tag {
			continue
		}
		row := s.row(uint32(s.index[slot]) - 1)
		if short && row[0] == lo && row[1] == hi || !short && row[1]&longKey == longKey && string(s.long(row)) == string(key) {
			return uint32(s.index[slot]), slot
		}
	}
	return 0, slot
}

// add makes a session [start, end) of a key and returns its row, in which only the key,
// the bounds and the place in the list are set.
func (s *sessions) add(hash uint64, key []byte, start, end int64) uint32 {
	head, _ := s.lookup(hash, key)
	id := s.newRow()
	row := s.row(id)
	switch {
	case head != 0:
		old := s.row(head - 1)
		row[0], row[1] = old[0], old[1]
	case len(key) <= inlineKey:
		row[0], row[1] = packKey(key)
	default:
		row[0], row[1] = uint64(len(s.arena)), longKey|uint64(len(key))
		s.arena = append(s.arena, key...)
	}
	g := pipeline.Group(hash)
	row[s.acc+sesStart], row[s.acc+sesEnd], row[s.acc+sesLink] = uint64(start), uint64(end), uint64(g)<<32
	s.rows++
	s.perGroup[g]++
	s.insert(hash, key, id)
	return id
}

// insert puts a row in its place of the key's list.
func (s *sessions) insert(hash uint64, key []byte, id uint32) {
	row := s.row(id)
	head, slot := s.lookup(hash, key)
	if head == 0 {
		if (s.keys+1)*4 > len(s.index)*3 {
			s.index = grown(s.index)
			_, slot = s.lookup(hash, key)
		}
		s.keys++
	}
	if head == 0 || s.start(s.row(head-1)) <= s.start(row) {
		s.link(row, head)
		s.index[slot] = hash<<32 | uint64(id+1)
		return
	}
	before := s.row(head - 1)
	for n := s.next(before); n != 0 && s.start(s.row(n-1)) > s.start(row); n = s.next(before) {
		before = s.row(n - 1)
	}
	s.link(row, s.next(before))
	s.link(before, id+1)
}

// unlink takes a row out of its key's list; the last one takes the key along.
func (s *sessions) unlink(hash uint64, key []byte, id uint32) {
	head, slot := s.lookup(hash, key)
	row := s.row(id)
	switch {
	case head != id+1:
		before := s.row(head - 1)
		for s.next(before) != id+1 {
			before = s.row(s.next(before) - 1)
		}
		s.link(before, s.next(row))
	case s.next(row) != 0:
		s.index[slot] = hash<<32 | uint64(s.next(row))
	default:
		s.vacate(slot)
		s.keys--
	}
}

// move gives a session other bounds and its place in the list.
func (s *sessions) move(hash uint64, key []byte, id uint32, start, end int64) {
	row := s.row(id)
	row[s.acc+sesEnd] = uint64(end)
	if s.start(row) == start {
		return
	}
	s.unlink(hash, key, id)
	row[s.acc+sesStart] = uint64(start)
	s.insert(hash, key, id)
}

// remove gives a row back.
func (s *sessions) remove(hash uint64, key []byte, id uint32) {
	keys := s.keys
	s.unlink(hash, key, id)
	row := s.row(id)
	s.rows--
	s.perGroup[s.group(row)]--
	if s.keys < keys && len(key) > inlineKey {
		s.waste += len(key)
	}
	clear(row)
	s.link(row, s.free)
	s.free = id + 1
	if s.waste > 1<<16 && s.waste > len(s.arena)/2 {
		s.compact()
	}
}

func (s *sessions) newRow() uint32 {
	if s.free != 0 {
		id := s.free - 1
		row := s.row(id)
		s.free = s.next(row)
		clear(row)
		return id
	}
	if s.used&(chunkRows-1) == 0 {
		s.store.newChunk()
	}
	s.used++
	return uint32(s.used - 1)
}

// vacate empties a slot and moves up what lies behind it, so that every key is still
// found from its home slot on.
func (s *sessions) vacate(slot uint64) {
	mask := uint64(len(s.index) - 1)
	for at := (slot + 1) & mask; s.index[at] != 0; at = (at + 1) & mask {
		home := s.index[at] >> 32 & mask
		if (at-home)&mask >= (at-slot)&mask {
			s.index[slot] = s.index[at]
			slot = at
		}
	}
	s.index[slot] = 0
}

// compact copies the long keys in use to a new arena.
func (s *sessions) compact() {
	arena := make([]byte, 0, len(s.arena)-s.waste)
	for _, slot := range s.index {
		if slot == 0 || s.row(uint32(slot) - 1)[1]&longKey != longKey {
			continue
		}
		at := uint64(len(arena))
		arena = append(arena, s.long(s.row(uint32(slot)-1))...)
		for id := uint32(slot); id != 0; id = s.next(s.row(id - 1)) {
			s.row(id - 1)[0] = at
		}
	}
	s.arena, s.waste = arena, 0
}

func (s *sessions) long(row []uint64) []byte {
	n := row[1] &^ longKey
	return s.arena[row[0] : row[0]+n]
}

// key returns the key of a row; scratch holds it when it is short.
func (s *sessions) key(row []uint64, scratch *[16]byte) []byte {
	t := table{arena: s.arena}
	return t.key(row, scratch)
}

// each calls yield with every session, key by key, latest start first.
func (s *sessions) each(yield func(id uint32)) {
	for _, slot := range s.index {
		for id := uint32(slot); id != 0; id = s.next(s.row(id - 1)) {
			yield(id - 1)
		}
	}
}

func (s *sessions) bytes() int64 {
	return s.store.bytes() + int64(len(s.index))*8 + int64(cap(s.arena))
}

// waiting is a session that emits at a time of the wall clock at the latest.
type waiting struct {
	id  uint32
	due int64
}

// waitings is a queue of them, the one due first in front. The entry of a session that
// emits before or is given back stays behind until it is due or the queue is full.
type waitings []waiting

// put adds an entry. Where the queue would grow, entries of which live is false go first,
// so that it is at most a few times as long as there are sessions that wait.
func (q *waitings) put(p waiting, live func(waiting) bool) {
	if len(*q) == cap(*q) {
		*q = slices.DeleteFunc(*q, func(p waiting) bool { return !live(p) })
		*q = slices.Grow(*q, len(*q)+1)
	}
	at := len(*q)
	if at > 0 && (*q)[at-1].due > p.due { // of a session that was joined, or restored
		at, _ = slices.BinarySearchFunc(*q, p.due+1, func(p waiting, due int64) int { return cmp.Compare(p.due, due) })
	}
	*q = slices.Insert(*q, at, p)
}

// take removes the entries that are due.
func (q *waitings) take(now int64) []waiting {
	n := 0
	for n < len(*q) && (*q)[n].due <= now {
		n++
	}
	taken := slices.Clone((*q)[:n])
	*q = slices.Delete(*q, 0, n)
	return taken
}

func (q *waitings) bytes() int64 { return int64(cap(*q)) * 16 }

// A calendar files rows under the tick at which something is due for them, in buckets of
// width ticks. It is lazy: a row whose deadline has moved away stays where it is and is
// filed anew when its bucket comes up.
type calendar struct {
	width   int64
	flag    uint64 // in the header of rows that are in this calendar
	buckets map[int64]*bucket
	order   []int64 // starts of the buckets, ascending
}

type bucket struct {
	ids   []uint32
	first int64 // no row is due before
}

func newCalendar(width int64, flag uint64) *calendar {
	return &calendar{width: max(1, width), flag: flag, buckets: map[int64]*bucket{}}
}

func (c *calendar) start(deadline int64) int64 { return FloorStart(deadline, c.width, 0) }

// put files a row under the bucket that starts at start.
func (c *calendar) put(start int64, id uint32, deadline int64) {
	b := c.buckets[start]
	if b == nil {
		b = &bucket{first: deadline}
		c.buckets[start] = b
		at, _ := slices.BinarySearch(c.order, start)
		c.order = slices.Insert(c.order, at, start)
	}
	b.ids = append(b.ids, id)
	b.first = min(b.first, deadline)
}

// take removes the buckets that hold something due at mark and calls yield with their
// rows and their start. What is not due the caller puts back.
func (c *calendar) take(mark int64, yield func(id uint32, start int64)) {
	n := 0
	for n < len(c.order) && c.buckets[c.order[n]].first <= mark {
		n++
	}
	taken := slices.Clone(c.order[:n])
	c.order = slices.Delete(c.order, 0, n)
	for _, start := range taken {
		b := c.buckets[start]
		delete(c.buckets, start)
		for _, id := range b.ids {
			yield(id, start)
		}
	}
}

func (c *calendar) bytes() int64 {
	n := int64(0)
	for _, b := range c.buckets {
		n += int64(cap(b.ids)) * 4
	}
	return n
}

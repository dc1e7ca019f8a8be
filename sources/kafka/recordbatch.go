package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/tidemark/tidemark/pipeline"
)

// Reasons of a Wire's Fault.
const (
	FaultDecompressLimit = "decompress_limit"
	FaultCodec           = "unknown_codec"
	FaultMalformed       = "malformed_batch"
)

const (
	// maxWireRecords bounds the records of one Wire.
	maxWireRecords = 4096
	// groupBytes is where the parser stops putting further batches into one Wire's data, at
	// the latest.
	groupBytes = 1 << 20

	headerSize = 61 // of a batch of magic 2
	frameSize  = 12 // base offset and length, which the length does not count
	crcStart   = 21 // the checksum covers attributes to end
	minRecord  = 7  // bytes of the shortest record, its length included

	attrCodec     = 0x07
	attrAppend    = 0x08 // LogAppendTime
	attrTxn       = 0x10
	attrControl   = 0x20
	controlAbort  = 0
	controlCommit = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// corruptError tells that bytes of the log cannot be trusted. To is the offset behind
// what is lost, as far as that can be told.
type corruptError struct {
	From, To int64
	Cause    string
}

func (e *corruptError) Error() string {
	return fmt.Sprintf("batch at offset %d: %s", e.From, e.Cause)
}

// replacedError tells that the log does not hold the batch that was read before.
type replacedError struct{ Cause string }

func (e *replacedError) Error() string { return e.Cause }

var errMagic = errors.New("unsupported message format")

// header is the head of one batch.
type header struct {
	base, last     int64 // offsets, inclusive
	size           int   // bytes, the whole batch
	epoch          int32
	crc            uint32
	attrs          uint16
	first, maxTime int64 // milliseconds
	producer       int64
	count          int // as claimed
}

func (h *header) ingest() int64 { return ticks(h.maxTime) }

// after returns the position behind the batch.
func (h *header) after(p pipeline.Position) pipeline.Position {
	p.Offset = max(p.Offset, h.last+1)
	p.LeaderEpoch, p.LastBatch, p.LastCRC = h.epoch, h.base, h.crc
	return p
}

// piece is one batch of a group.
type piece struct {
	header
	skip     bool   // control or aborted
	reason   string // fault of the records from next on
	next     int    // index of the next record
	at, end  int    // its place in the group's data
	lastGood int64  // offset of the record before
}

// parser cuts record sets into Wires. It is used by one goroutine; the Wires own or alias
// memory that is not written again.
type parser struct {
	target  int // bytes of batches that a group takes before it ends
	dec     *decompressor
	scratch []byte
	group   []piece
	gi      int
	left    int // records that the rest of the group can hold
	data    []byte
	set     []byte // with slack in its capacity
	at      int
	pos     pipeline.Position
	end     int64 // records from here on are not wanted
	high    int64 // high watermark, above every offset of the set
	seen    int64 // offset behind the last batch loaded
	epoch   int32 // of the last batch loaded
	past    bool  // a batch behind end was seen
	check   bool  // the first batch has to be the last one that was consumed
	aborted []abortedTxn
	// appendTime tells whether the last batch loaded carries the broker's own clock.
	appendTime bool
	producers  map[int64]struct{}
}

func newParser(decompressLimit, target int) *parser {
	return &parser{dec: newDecompressor(decompressLimit), target: target, producers: map[int64]struct{}{}}
}

func (p *parser) close() { p.dec.close() }

// start begins a record set that was fetched for pos: at pos.LastBatch when check is set,
// else at pos.Offset. The parser keeps set, whose capacity holds slack bytes more.
func (p *parser) start(set recordSet, pos pipeline.Position, check bool, end, high int64, aborted []abortedTxn) {
	if cap(set)-len(set) < slack {
		set = append(make(recordSet, 0, len(set)+slack), set...)
	}
	p.set, p.at = set, 0
	p.group, p.gi, p.left, p.data = p.group[:0], 0, 0, nil
	p.pos, p.check, p.end, p.high = pos, check, end, high
	p.seen, p.epoch, p.past = 0, pos.LeaderEpoch, false
	p.aborted = slices.Clone(aborted)
	slices.SortFunc(p.aborted, func(a, b abortedTxn) int {
		switch {
		case a.FirstOffset < b.FirstOffset:
			return -1
		case a.FirstOffset > b.FirstOffset:
			return 1
		}
		return 0
	})
	clear(p.producers)
}

// next returns the next Wire, nil at the end of the set. A Wire may be without records.
// The errors are *corruptError, *replacedError and errMagic; everything before the bad
// batch has been returned then.
func (p *parser) next() (*pipeline.Wire, error) {
	for {
		if p.gi < len(p.group) {
			return p.fill(), nil
		}
		ok, err := p.load()
		if ok {
			continue
		}
		p.release()
		if err == nil && p.past && p.pos.Offset < p.end {
			p.pos.Offset = p.end
			return &pipeline.Wire{Next: p.pos}, nil
		}
		return nil, err
	}
}

// release lets go of the set and the group; Wires keep what they need.
func (p *parser) release() {
	p.set, p.data = nil, nil
	if cap(p.scratch) > 4*groupBytes {
		p.scratch = nil
	}
}

// load reads batches into a group: plain ones that stay where they are, or compressed ones
// that share a buffer.
func (p *parser) load() (bool, error) {
	p.group, p.gi, p.left, p.scratch = p.group[:0], 0, 0, p.scratch[:0]
	plain, packed, total := false, false, 0
	for p.at < len(p.set) && total < p.target {
		pc, err := p.batch()
		if err != nil {
			if len(p.group) > 0 {
				break // found again by the next load
			}
			return false, err
		}
		if pc.size == 0 {
			p.at = len(p.set)
			break
		}
		if !pc.skip {
			zipped := pc.attrs&attrCodec != codecNone
			if zipped && plain || !zipped && packed {
				break
			}
			plain, packed = !zipped, zipped
		}
		body := p.set[p.at+headerSize : p.at+pc.size]
		switch {
		case pc.skip:
		case plain:
			pc.at, pc.end = p.at+headerSize, p.at+pc.size
			total += len(body)
		default:
			pc.at = len(p.scratch)
			p.scratch, err = p.dec.append(p.scratch, body, int(pc.attrs&attrCodec))
			pc.end = len(p.scratch)
			total = pc.end
			switch {
			case errors.Is(err, errDecompressLimit):
				pc.reason = FaultDecompressLimit
			case errors.Is(err, errCodec):
				pc.reason = FaultCodec
			case err != nil:
				pc.reason = FaultMalformed
			}
		}
		p.loaded(&pc)
		p.at += pc.size
		p.group = append(p.group, pc)
	}
	switch {
	case plain:
		p.data = p.set[:len(p.set)+slack]
	case len(p.scratch) > 4*groupBytes: // too large to copy, or to keep
		p.data = slices.Grow(p.scratch, slack)[:len(p.scratch)+slack]
		p.scratch = nil
	default:
		p.data = append(make([]byte, 0, len(p.scratch)+slack), p.scratch...)[:len(p.scratch)+slack]
	}
	for i := range p.group {
		pc := &p.group[i]
		if pc.skip || pc.reason != "" {
			continue
		}
		if pc.count == 0 && pc.at == pc.end {
			pc.skip = true // what compaction leaves of a batch
		} else if !framed(p.data[:pc.end], pc.at, pc.count) { // counts are sound from here on
			pc.reason = FaultMalformed
		} else {
			p.left += pc.count
		}
	}
	return len(p.group) > 0, nil
}

// loaded notes what the order of batches has to hold against.
func (p *parser) loaded(pc *piece) {
	p.check = false
	p.seen = pc.last + 1
	if pc.epoch >= 0 {
		p.epoch = pc.epoch
	}
	if pc.attrs&attrControl != 0 {
		delete(p.producers, pc.producer)
	}
	if !pc.skip {
		p.appendTime = pc.attrs&attrAppend != 0
	}
}

// batch reads the head of the batch at p.at and checks it. A size of 0 means that the set
// ends, or what is wanted of it. It changes nothing but the aborted producers.
func (p *parser) batch() (piece, error) {
	b := p.set[p.at:]
	if len(b) > 16 && b[16] < 2 {
		return piece{}, fmt.Errorf("%w: magic %d at offset %d", errMagic, b[16], int64(binary.BigEndian.Uint64(b)))
	}
	if len(b) < headerSize {
		return piece{}, p.cut(b)
	}
	h := header{
		base:     int64(binary.BigEndian.Uint64(b)),
		size:     int(int32(binary.BigEndian.Uint32(b[8:]))) + frameSize,
		epoch:    int32(binary.BigEndian.Uint32(b[12:])),
		crc:      binary.BigEndian.Uint32(b[17:]),
		attrs:    binary.BigEndian.Uint16(b[21:]),
		first:    int64(binary.BigEndian.Uint64(b[27:])),
		maxTime:  int64(binary.BigEndian.Uint64(b[35:])),
		producer: int64(binary.BigEndian.Uint64(b[43:])),
		count:    int(int32(binary.BigEndian.Uint32(b[57:]))),
	}
	delta := int64(int32(binary.BigEndian.Uint32(b[23:])))
	h.last = h.base + delta
	lost := func(format string, args ...any) error { return p.lost(h, fmt.Sprintf(format, args...)) }
	switch {
	case b[16] != 2:
		return piece{}, lost("magic %d", b[16])
	case h.size < headerSize:
		return piece{}, lost("length %d", h.size-frameSize)
	case h.size > len(b):
		return piece{}, p.cut(b)
	case crc32.Checksum(b[crcStart:h.size], castagnoli) != h.crc:
		return piece{}, lost("checksum does not match")
	case h.base < p.seen || h.base >= p.high || delta < 0 || h.last >= p.high:
		return piece{}, lost("offsets %d..%d do not follow %d below the log end %d", h.base, h.last, p.seen, p.high)
	}
	if p.check && h.base <= p.pos.LastBatch && (h.base != p.pos.LastBatch || h.crc != p.pos.LastCRC) {
		return piece{}, &replacedError{fmt.Sprintf("batch %d (crc %08x) is now batch %d (crc %08x)",
			p.pos.LastBatch, p.pos.LastCRC, h.base, h.crc)}
	}
	if h.epoch >= 0 && h.epoch < p.epoch {
		return piece{}, &replacedError{fmt.Sprintf("leader epoch of batch %d is %d, below %d of the batch before", h.base, h.epoch, p.epoch)}
	}
	if h.base >= p.end {
		p.past = true
		return piece{}, nil
	}
	for len(p.aborted) > 0 && p.aborted[0].FirstOffset <= h.last {
		p.producers[p.aborted[0].ProducerID] = struct{}{}
		p.aborted = p.aborted[1:]
	}
	pc := piece{header: h, lastGood: h.base - 1}
	if h.attrs&attrControl != 0 {
		kind, ok := controlKind(b[headerSize:h.size])
		if !ok {
			return piece{}, lost("control record is malformed")
		}
		if kind != controlAbort && kind != controlCommit {
			pc.attrs &^= attrControl // other markers end no transaction
		}
		pc.skip = true
	}
	if _, gone := p.producers[h.producer]; gone && h.attrs&attrTxn != 0 {
		pc.skip = true
	}
	if h.last < p.pos.Offset {
		pc.skip = true
	}
	return pc, nil
}

// cut tells whether a batch that the set does not hold completely ends it. Brokers may cut
// the last batch of a response, never the first.
func (p *parser) cut(b []byte) error {
	if p.at == 0 {
		return &corruptError{From: p.pos.Offset, To: p.pos.Offset + 1, Cause: fmt.Sprintf("only %d bytes in the response", len(b))}
	}
	p.at = len(p.set)
	return nil
}

// lost describes a batch that cannot be trusted. It reaches to the next batch of the set
// when there is one, else as far as its head says, else over one offset.
func (p *parser) lost(h header, cause string) error {
	from := max(p.seen, p.pos.Offset)
	if h.base >= p.seen && h.base < p.high {
		from = h.base
	}
	low := max(from+1, p.pos.Offset)
	e := &corruptError{From: max(from, p.pos.Offset), To: low, Cause: cause}
	if at := p.at + h.size; h.size >= headerSize && at+8 <= len(p.set) {
		if next := int64(binary.BigEndian.Uint64(p.set[at:])); next >= low && next < p.high {
			e.To = next
			return e
		}
	}
	if h.last >= low && h.last < p.high {
		e.To = h.last + 1
	}
	return e
}

// controlKind reads the type of a control batch: its first record's key is a version and
// a type, two bytes each.
func controlKind(b []byte) (int16, bool) {
	b = append(make([]byte, 0, len(b)+slack), b...)[:len(b)+slack]
	_, i := varint(b, 0)  // length
	_, i = varint(b, i+1) // attributes, timestamp delta
	_, i = varint(b, i)   // offset delta
	n, i := varint(b, i)  // key length
	if i < 0 || n < 4 || i+4 > len(b)-slack {
		return 0, false
	}
	return int16(binary.BigEndian.Uint16(b[i+2:])), true
}

// framed tells whether count records fill b[at:] exactly.
func framed(b []byte, at, count int) bool {
	if count < 0 || count > (len(b)-at)/minRecord {
		return false
	}
	for range count {
		n, i := varint(b, at)
		if i < 0 || n < minRecord-1 || n > int64(len(b)-i) {
			return false
		}
		at = i + int(n)
	}
	return at == len(b)
}

// fill makes one Wire of what the group still holds. It ends where a fault begins or ends.
func (p *parser) fill() *pipeline.Wire {
	w := &pipeline.Wire{Data: p.data}
	for p.gi < len(p.group) && w.Len() < maxWireRecords {
		pc := &p.group[p.gi]
		if !pc.skip {
			if w.Len() > 0 && pc.reason != w.Fault {
				break
			}
			w.Fault = pc.reason
			if pc.reason != "" {
				p.faulty(w, pc)
			} else {
				p.records(w, pc)
			}
			if pc.next < pc.count {
				continue
			}
		}
		p.pos = pc.after(p.pos)
		p.gi++
	}
	p.pos.Offset = min(p.pos.Offset, p.end)
	w.Next = p.pos
	return w
}

// records appends records of a sound batch until the batch ends, the Wire is full, or a
// record is malformed; the rest of the batch is a fault then.
func (p *parser) records(w *pipeline.Wire, pc *piece) {
	if w.Offset == nil {
		n := min(p.left, maxWireRecords)
		w.Offset, w.Ingest = make([]int64, 0, n), make([]int64, 0, n)
		w.Keys, w.Values = make([]pipeline.Span, 0, n), make([]pipeline.Span, 0, n)
	}
	b, i := p.data, pc.at
	want, end := p.pos.Offset, p.end
	fixed := pc.attrs&attrAppend != 0
	ingest := pc.ingest()
	for pc.next < pc.count && len(w.Offset) < maxWireRecords {
		size, at := varint(b, i)
		stop := at + int(size)
		at++ // attributes
		elapsed, at := varint(b, at)
		delta, at := varint(b, at)
		if at < 0 || at > stop {
			pc.reason = FaultMalformed
			break
		}
		key, at := span(b, at, stop)
		val, at := span(b, at, stop)
		off := pc.base + delta
		if at < 0 || at >= stop || off <= pc.lastGood || off > pc.last {
			pc.reason = FaultMalformed
			break
		}
		i, pc.at = stop, stop
		pc.next++
		pc.lastGood = off
		p.left--
		if off < want || off >= end {
			continue
		}
		if !fixed {
			ingest = ticks(pipeline.AddTicks(pc.first, elapsed))
		}
		w.Offset = append(w.Offset, off)
		w.Ingest = append(w.Ingest, ingest)
		w.Keys = append(w.Keys, key)
		w.Values = append(w.Values, val)
	}
	p.passed(w, pc)
}

// faulty appends one row without key and value for every record from pc.next on. When
// the count that the head claims is impossible there is one row for all of them.
func (p *parser) faulty(w *pipeline.Wire, pc *piece) {
	room := pc.last - max(pc.lastGood, pc.base-1)
	if n := int64(pc.count - pc.next); n <= 0 || n > room {
		pc.count = pc.next + 1
		pc.lastGood = min(pc.lastGood, pc.last-1)
	}
	for pc.next < pc.count && len(w.Offset) < maxWireRecords {
		pc.next++
		pc.lastGood++
		if pc.lastGood < p.pos.Offset || pc.lastGood >= p.end {
			continue
		}
		w.Offset = append(w.Offset, pc.lastGood)
		w.Ingest = append(w.Ingest, pc.ingest())
		w.Keys = append(w.Keys, pipeline.Span{Len: -1})
		w.Values = append(w.Values, pipeline.Span{Len: -1})
	}
	p.passed(w, pc)
}

// passed moves the position into the batch.
func (p *parser) passed(w *pipeline.Wire, pc *piece) {
	if n := w.Len(); n > 0 && w.Offset[n-1] >= p.pos.Offset {
		p.pos.Offset = w.Offset[n-1] + 1
		p.pos.LeaderEpoch, p.pos.LastBatch, p.pos.LastCRC = pc.epoch, pc.base, pc.crc
		p.pos.LastIngest = w.Ingest[n-1]
	}
}

// span reads a length and as many bytes of b, which end at stop at the latest. A length
// of -1 is null. The place behind is -1 when they do not.
func span(b []byte, at, stop int) (pipeline.Span, int) {
	n, at := varint(b, at)
	if n == -1 && at >= 0 {
		return pipeline.Span{Len: -1}, at
	}
	if at < 0 || n < 0 || n > int64(stop-at) {
		return pipeline.Span{}, -1
	}
	return pipeline.Span{At: int32(at), Len: int32(n)}, at + int(n)
}

// varint reads a zigzag varint at b[i:]. The place behind is -1 when there is none, and
// when i is negative.
func varint(b []byte, i int) (int64, int) {
	if uint(i) >= uint(len(b)) {
		return 0, -1
	}
	c := b[i]
	if c < 0x80 {
		return int64(c>>1) ^ -int64(c&1), i + 1
	}
	x, s := uint64(c&0x7f), uint(7)
	for i++; i < len(b) && s < 70; i++ {
		c = b[i]
		x |= uint64(c&0x7f) << s
		if c < 0x80 {
			return int64(x>>1) ^ -int64(x&1), i + 1
		}
		s += 7
	}
	return 0, -1
}

// ticks converts milliseconds, saturated.
func ticks(ms int64) int64 {
	switch {
	case ms > math.MaxInt64/1000:
		return math.MaxInt64
	case ms < math.MinInt64/1000:
		return math.MinInt64
	}
	return ms * 1000
}

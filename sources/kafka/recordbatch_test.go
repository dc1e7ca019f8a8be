package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tidemark/tidemark/pipeline"
)

// batchOf lets kafka-go encode records as a batch of magic 2 at base.
func batchOf(t testing.TB, base int64, codec kafkago.Compression, recs ...kafkago.Record) []byte {
	t.Helper()
	var buf bytes.Buffer
	rs := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(codec), Records: kafkago.NewRecordReader(recs...)}
	if _, err := rs.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	b := buf.Bytes()[4:] // length prefix
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[12:], 0)
	return b
}

func recs(from, to int64) []kafkago.Record {
	var out []kafkago.Record
	for o := from; o < to; o++ {
		out = append(out, rec(0, o))
	}
	return out
}

// edit changes a batch and repairs its checksum.
func edit(b []byte, fn func([]byte)) []byte {
	b = bytes.Clone(b)
	fn(b)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[crcStart:], castagnoli))
	return b
}

func attrs(set uint16, producer int64) func([]byte) {
	return func(b []byte) {
		binary.BigEndian.PutUint16(b[21:], binary.BigEndian.Uint16(b[21:])|set)
		binary.BigEndian.PutUint64(b[43:], uint64(producer))
	}
}

// repack replaces the records of a batch by body, as they are.
func repack(b []byte, codec byte, body []byte) []byte {
	b = append(bytes.Clone(b[:headerSize]), body...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-frameSize))
	return edit(b, func(b []byte) { b[22] = b[22]&^attrCodec | codec })
}

// marker is the control batch that ends a transaction.
func marker(t testing.TB, base int64, producer int64, kind byte) []byte {
	b := batchOf(t, base, 0, kafkago.Record{Time: time.UnixMilli(t0), Key: kafkago.NewBytes([]byte{0, 0, 0, kind}), Value: kafkago.NewBytes(make([]byte, 6))})
	return edit(b, attrs(attrControl|attrTxn, producer))
}

var start = pipeline.Position{LeaderEpoch: -1, LastBatch: -1, LastIngest: pipeline.MinTicks}

type parsed struct {
	offsets []int64
	faults  []string // of every row
	next    pipeline.Position
	wires   []*pipeline.Wire
}

type want struct {
	pos     pipeline.Position
	check   bool
	end     int64
	high    int64
	limit   int
	aborted []abortedTxn
}

func parse(set []byte, w want) (parsed, error) {
	if w.limit == 0 {
		w.limit = 1 << 20
	}
	if w.end == 0 {
		w.end = pipeline.MaxTicks
	}
	if w.high == 0 {
		w.high = 1 << 40
	}
	p := newParser(w.limit, groupBytes)
	defer p.close()
	p.start(set, w.pos, w.check, w.end, w.high, w.aborted)
	out := parsed{next: w.pos}
	for {
		wire, err := p.next()
		if wire == nil || err != nil {
			return out, err
		}
		for range wire.Len() {
			out.faults = append(out.faults, wire.Fault)
		}
		out.offsets = append(out.offsets, wire.Offset...)
		out.next = wire.Next
		out.wires = append(out.wires, wire)
	}
}

func (p parsed) check(t *testing.T, offsets []int64, next int64) {
	t.Helper()
	if fmt.Sprint(p.offsets) != fmt.Sprint(offsets) || p.next.Offset != next {
		t.Errorf("offsets %v next %d, want %v next %d", p.offsets, p.next.Offset, offsets, next)
	}
	for i, f := range p.faults {
		if f != "" {
			t.Errorf("offset %d: fault %s", p.offsets[i], f)
		}
	}
}

func seq(from, to int64) []int64 {
	var out []int64
	for ; from < to; from++ {
		out = append(out, from)
	}
	return out
}

func TestParseCodecsAndSkips(t *testing.T) {
	for _, codec := range codecs {
		t.Run(fmt.Sprint("codec", int(codec)), func(t *testing.T) {
			second := batchOf(t, 10, codec, recs(10, 20)...)
			set := append(batchOf(t, 0, codec, recs(0, 10)...), second...)
			p, err := parse(set, want{pos: start})
			if err != nil {
				t.Fatal(err)
			}
			p.check(t, seq(0, 20), 20)
			if len(p.wires) != 1 {
				t.Errorf("%d wires", len(p.wires))
			}
			w := p.wires[0]
			for i, off := range w.Offset {
				checkBytes(t, "key", off, w.Key(i), rec(0, off).Key)
				checkBytes(t, "value", off, w.Value(i), rec(0, off).Value)
				if w.Ingest[i] != (t0+off)*1000 {
					t.Errorf("ingest %d at %d", w.Ingest[i], off)
				}
			}
			if n := w.Next; n.LastBatch != 10 || n.LastIngest != (t0+19)*1000 || n.LastCRC != binary.BigEndian.Uint32(second[17:]) {
				t.Errorf("next %+v", n)
			}
			mid := start
			mid.Offset = 7
			if p, err = parse(set, want{pos: mid, end: 13}); err != nil {
				t.Fatal(err)
			}
			p.check(t, seq(7, 13), 13)
			if p, err = parse(set[:len(set)-3], want{pos: start}); err != nil { // a batch that is cut waits
				t.Fatal(err)
			}
			p.check(t, seq(0, 10), 10)
		})
	}
}

func TestParseCutsLargeBatches(t *testing.T) {
	for _, codec := range codecs {
		set := batchOf(t, 0, codec, recs(0, 10_000)...)
		p, err := parse(set, want{pos: start, limit: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		p.check(t, seq(0, 10_000), 10_000)
		if len(p.wires) != 3 || p.wires[0].Len() != maxWireRecords {
			t.Fatalf("%d wires", len(p.wires))
		}
		// The position inside the batch is good for a restart.
		mid := p.wires[1].Next
		if mid.Offset != 2*maxWireRecords || mid.LastBatch != 0 {
			t.Fatalf("%+v", mid)
		}
		rest, err := parse(set, want{pos: mid, check: true, limit: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		rest.check(t, seq(mid.Offset, 10_000), 10_000)
	}
}

func TestParseLogAppendTime(t *testing.T) {
	set := edit(batchOf(t, 0, 0, recs(0, 3)...), attrs(attrAppend, -1))
	p, err := parse(set, want{pos: start})
	if err != nil {
		t.Fatal(err)
	}
	for _, ts := range p.wires[0].Ingest {
		if ts != (t0+2)*1000 {
			t.Errorf("ingest %d", ts)
		}
	}
}

func TestParseTransactions(t *testing.T) {
	txn := func(base, to, producer int64) []byte {
		return edit(batchOf(t, base, kafkago.Lz4, recs(base, to)...), attrs(attrTxn, producer))
	}
	set := bytes.Join([][]byte{
		txn(0, 3, 1),                    // aborted
		txn(3, 5, 2),                    // committed
		batchOf(t, 5, 0, recs(5, 7)...), // no transaction
		marker(t, 7, 1, controlAbort),
		txn(8, 10, 1), // committed
		marker(t, 10, 2, controlCommit),
		marker(t, 11, 1, controlCommit),
		txn(12, 14, 1), // aborted
		marker(t, 14, 1, controlAbort),
	}, nil)
	p, err := parse(set, want{pos: start, aborted: []abortedTxn{{1, 12}, {1, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	p.check(t, append(seq(3, 7), 8, 9), 15)

	// A set of nothing but markers and aborted records moves the position.
	tail := start
	tail.Offset = 12
	p, err = parse(append(txn(12, 14, 1), marker(t, 14, 1, controlAbort)...), want{pos: tail, aborted: []abortedTxn{{1, 12}}})
	if err != nil {
		t.Fatal(err)
	}
	p.check(t, nil, 15)
	if p.next.LastBatch != 14 || p.next.LastIngest != pipeline.MinTicks {
		t.Errorf("%+v", p.next)
	}
	// Without the list everything counts as committed.
	if p, err = parse(set, want{pos: start}); err != nil || len(p.offsets) != 11 {
		t.Errorf("%v %v", p.offsets, err)
	}
}

func TestParseFaults(t *testing.T) {
	good := batchOf(t, 0, 0, recs(0, 3)...)
	bad := batchOf(t, 3, 0, recs(3, 7)...)
	tail := batchOf(t, 7, kafkago.Gzip, recs(7, 9)...)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := make([]byte, 1<<20)
	var xerial []byte
	xerial = append(xerial, xerialMagic...)
	xerial = append(xerial, 0, 0, 0, 1, 0, 0, 0, 1)
	for range 20 {
		block := snappy.Encode(nil, bomb[:1<<16])
		xerial = binary.BigEndian.AppendUint32(xerial, uint32(len(block)))
		xerial = append(xerial, block...)
	}
	big := batchOf(t, 3, kafkago.Gzip, kafkago.Record{Value: kafkago.NewBytes(bomb)}, kafkago.Record{}, kafkago.Record{}, kafkago.Record{})
	lz := batchOf(t, 3, kafkago.Lz4, kafkago.Record{Value: kafkago.NewBytes(bomb)}, kafkago.Record{}, kafkago.Record{}, kafkago.Record{})
	count := func(n uint32) func([]byte) { return func(b []byte) { binary.BigEndian.PutUint32(b[57:], n) } }
	for _, tc := range []struct {
		name   string
		batch  []byte
		reason string
		rows   string
	}{
		{"gzip bomb", big, FaultDecompressLimit, "[3 4 5 6]"},
		{"lz4 bomb", lz, FaultDecompressLimit, "[3 4 5 6]"},
		{"zstd bomb", repack(bad, codecZstd, enc.EncodeAll(bomb, nil)), FaultDecompressLimit, "[3 4 5 6]"},
		{"snappy bomb", repack(bad, codecSnappy, snappy.Encode(nil, bomb)), FaultDecompressLimit, "[3 4 5 6]"},
		{"xerial bomb", repack(bad, codecSnappy, xerial), FaultDecompressLimit, "[3 4 5 6]"},
		{"unknown codec", repack(bad, 7, []byte("x")), FaultCodec, "[3 4 5 6]"},
		{"not gzip", repack(bad, codecGzip, []byte("no")), FaultMalformed, "[3 4 5 6]"},
		{"not zstd", repack(bad, codecZstd, []byte("no such frame")), FaultMalformed, "[3 4 5 6]"},
		{"not lz4", repack(bad, codecLZ4, []byte("no such frame")), FaultMalformed, "[3 4 5 6]"},
		{"not snappy", repack(bad, codecSnappy, []byte{0x7f, 1}), FaultMalformed, "[3 4 5 6]"},
		{"count too large", edit(bad, count(1<<30)), FaultMalformed, "[3]"},
		{"count negative", edit(bad, count(1<<31)), FaultMalformed, "[3]"},
		{"count too small", edit(bad, count(2)), FaultMalformed, "[3 4]"},
		{"count zero", edit(bad, count(0)), FaultMalformed, "[3]"},
		{"record length", edit(bad, func(b []byte) { b[headerSize] = 0x7e }), FaultMalformed, "[3 4 5 6]"},
		{"offset delta of a record", edit(bad, func(b []byte) { b[headerSize+4] = 40 }), FaultMalformed, "[3 4 5 6]"},
		{"key length", edit(bad, func(b []byte) { b[headerSize+5] = 0x7e }), FaultMalformed, "[3 4 5 6]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := parse(bytes.Join([][]byte{good, tc.batch, tail}, nil), want{pos: start, limit: 256 << 10})
			if err != nil {
				t.Fatal(err)
			}
			var rows []int64
			for i, f := range p.faults {
				if f != "" && f != tc.reason {
					t.Errorf("fault %s", f)
				}
				if f != "" {
					rows = append(rows, p.offsets[i])
				}
			}
			if fmt.Sprint(rows) != tc.rows {
				t.Errorf("faults at %v, want %s", rows, tc.rows)
			}
			if n := len(p.offsets) - len(rows); n != 5 || p.next.Offset != 9 {
				t.Errorf("%d good rows, next %d", n, p.next.Offset)
			}
			for _, w := range p.wires {
				for i := range w.Len() {
					if w.Fault != "" && (w.Value(i) != nil || w.Key(i) != nil) {
						t.Error("a fault has a value")
					}
				}
			}
		})
	}
	// A large xerial batch within the limit is read.
	ok := batchOf(t, 0, 0, recs(0, 5)...)
	framed := append(append([]byte{}, xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1)
	for body := ok[headerSize:]; len(body) > 0; {
		n := min(50, len(body))
		block := snappy.Encode(nil, body[:n])
		framed = append(binary.BigEndian.AppendUint32(framed, uint32(len(block))), block...)
		body = body[n:]
	}
	p, err := parse(repack(ok, codecSnappy, framed), want{pos: start})
	if err != nil {
		t.Fatal(err)
	}
	p.check(t, seq(0, 5), 5)
}

// A fault in the middle of a batch keeps the records before it.
func TestParseFaultKeepsRecordsBefore(t *testing.T) {
	b := batchOf(t, 0, 0, recs(0, 4)...)
	size, at := varint(b, headerSize)
	second := at + int(size)
	b = edit(b, func(b []byte) { _, i := varint(b, second); b[i+3] = 0x7e })
	p, err := parse(b, want{pos: start})
	if err != nil || fmt.Sprint(p.offsets) != "[0 1 2 3]" || fmt.Sprintf("%q", p.faults) != `["" "malformed_batch" "malformed_batch" "malformed_batch"]` {
		t.Fatalf("%v %q %v", p.offsets, p.faults, err)
	}
}

func TestParseErrors(t *testing.T) {
	a, b, c := batchOf(t, 0, 0, recs(0, 3)...), batchOf(t, 3, 0, recs(3, 7)...), batchOf(t, 7, 0, recs(7, 9)...)
	flip := bytes.Clone(b)
	flip[len(flip)-1] ^= 1
	at := func(base int64) []byte { d := bytes.Clone(b); binary.BigEndian.PutUint64(d, uint64(base)); return d }
	for _, tc := range []struct {
		name     string
		set      []byte
		from, to int64
	}{
		{"checksum", bytes.Join([][]byte{a, flip, c}, nil), 3, 7},
		{"checksum of the last", bytes.Join([][]byte{a, flip}, nil), 3, 7},
		{"going back", bytes.Join([][]byte{a, at(1), c}, nil), 3, 7},
		{"past the log end", bytes.Join([][]byte{a, at(98)}, nil), 98, 99},
		{"magic", bytes.Join([][]byte{a, func() []byte { d := bytes.Clone(b); d[16] = 3; return d }()}, nil), 3, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := parse(tc.set, want{pos: start, high: 100})
			var bad *corruptError
			if !errors.As(err, &bad) || bad.From != tc.from || bad.To != tc.to {
				t.Fatalf("%v %+v", err, bad)
			}
			p.check(t, seq(0, 3), 3)
		})
	}
	if _, err := parse(a[:40], want{pos: start}); !errors.As(err, new(*corruptError)) {
		t.Errorf("cut first batch: %v", err)
	}
	old := bytes.Clone(b)
	old[16] = 1
	p, err := parse(append(bytes.Clone(a), old...), want{pos: start})
	if !errors.Is(err, errMagic) {
		t.Errorf("magic 1: %v", err)
	}
	p.check(t, seq(0, 3), 3)
	// A corrupt batch that was consumed already costs nothing to pass.
	pos := start
	pos.Offset, pos.LastBatch = 7, 3
	_, err = parse(append(bytes.Clone(flip), c...), want{pos: pos, check: true, high: 100})
	var bad *corruptError
	if !errors.As(err, &bad) || bad.From != 7 || bad.To != 7 {
		t.Errorf("%v %+v", err, bad)
	}
}

func TestParseNoticesAnotherLog(t *testing.T) {
	set := append(batchOf(t, 0, 0, recs(0, 3)...), batchOf(t, 3, 0, recs(3, 7)...)...)
	p, err := parse(set, want{pos: start})
	if err != nil {
		t.Fatal(err)
	}
	at := p.next
	more := append(bytes.Clone(set), batchOf(t, 7, 0, recs(7, 9)...)...)
	first := int(binary.BigEndian.Uint32(more[8:])) + frameSize
	if p, err = parse(more[first:], want{pos: at, check: true}); err != nil {
		t.Fatal(err)
	}
	p.check(t, seq(7, 9), 9)
	other := batchOf(t, 3, 0, recs(103, 107)...)
	if _, err = parse(other, want{pos: at, check: true}); !errors.As(err, new(*replacedError)) {
		t.Errorf("other content: %v", err)
	}
	if _, err = parse(batchOf(t, 2, 0, recs(2, 7)...), want{pos: at, check: true}); !errors.As(err, new(*replacedError)) {
		t.Errorf("other cuts: %v", err)
	}
	// Compaction took the batch: not to be checked.
	if p, err = parse(batchOf(t, 7, 0, recs(7, 9)...), want{pos: at, check: true}); err != nil {
		t.Error(err)
	}
	p.check(t, seq(7, 9), 9)
	at.LeaderEpoch = 4
	if _, err = parse(batchOf(t, 7, 0, recs(7, 9)...), want{pos: at}); !errors.As(err, new(*replacedError)) {
		t.Errorf("epoch: %v", err)
	}
}

func TestVarintAndTicks(t *testing.T) {
	for _, v := range []int64{0, -1, 1, 63, -64, 64, 1 << 20, -1 << 62, 1<<63 - 1, -1 << 63} {
		b := binary.AppendVarint(nil, v)
		if got, n := varint(b, 0); got != v || n != len(b) {
			t.Errorf("%d: %d %d", v, got, n)
		}
		if _, n := varint(b[:len(b)-1], 0); n != -1 {
			t.Errorf("%d cut: %d", v, n)
		}
	}
	if _, n := varint(bytes.Repeat([]byte{0xff}, 20), 0); n != -1 {
		t.Error("endless varint")
	}
	if ticks(1<<62) != 1<<63-1 || ticks(-1<<62) != -1<<63 || ticks(-3) != -3000 {
		t.Error("ticks")
	}
}

func FuzzRecordBatch(f *testing.F) {
	for _, codec := range codecs {
		f.Add(append(batchOf(f, 0, codec, recs(0, 5)...), marker(f, 5, 1, 0)...), int64(0), int64(20))
	}
	f.Add(edit(batchOf(f, 0, 0, recs(0, 5)...), func(b []byte) { b[headerSize] = 0x40 }), int64(2), int64(4))
	f.Fuzz(func(t *testing.T, set []byte, from, end int64) {
		if from < 0 || end <= from {
			return
		}
		// Repair lengths and checksums, so that the fuzzer gets behind them.
		for b := set; len(b) >= headerSize; {
			n := int(int32(binary.BigEndian.Uint32(b[8:]))) + frameSize
			if n < headerSize || n > len(b) {
				break
			}
			binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[crcStart:n], castagnoli))
			b = b[n:]
		}
		pos := start
		pos.Offset = from
		p, err := parse(set, want{pos: pos, end: end, high: 1000, limit: 1 << 16, aborted: []abortedTxn{{1, 0}}})
		last := from - 1
		for _, w := range p.wires {
			for i, off := range w.Offset {
				if off <= last || off >= end {
					t.Fatalf("offset %d after %d, end %d", off, last, end)
				}
				last = off
				for _, s := range []pipeline.Span{w.Keys[i], w.Values[i]} {
					if s.Len >= 0 && int(s.At)+int(s.Len)+slack > len(w.Data) {
						t.Fatalf("span %v of %d bytes", s, len(w.Data))
					}
				}
			}
			if w.Next.Offset <= last || w.Next.Offset > end {
				t.Fatalf("next %d after %d, end %d", w.Next.Offset, last, end)
			}
		}
		var bad *corruptError
		if errors.As(err, &bad) && (bad.From < p.next.Offset || bad.To < bad.From) {
			t.Fatalf("%+v behind %d", bad, p.next.Offset)
		}
	})
}

func BenchmarkFetch(b *testing.B) {
	value := bytes.Repeat([]byte(`{"device_id":"a1b2c3","rssi":-71}`), 6)[:190]
	for _, codec := range []kafkago.Compression{0, kafkago.Lz4, kafkago.Zstd} {
		var rs []kafkago.Record
		for i := range 5000 {
			v := bytes.Clone(value)
			binary.LittleEndian.PutUint64(v[40:], uint64(i)*0x9E3779B97F4A7C15)
			rs = append(rs, kafkago.Record{Time: time.UnixMilli(t0), Key: kafkago.NewBytes([]byte("a1b2c3")), Value: kafkago.NewBytes(v)})
		}
		set := append(recordSet(batchOf(b, 0, codec, rs...)), make([]byte, slack)...)
		set = set[:len(set)-slack]
		name := codec.String()
		b.Run(name, func(b *testing.B) {
			p := newParser(64<<20, groupBytes)
			defer p.close()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				p.start(set, start, false, pipeline.MaxTicks, 1<<40, nil)
				for {
					w, err := p.next()
					if err != nil {
						b.Fatal(err)
					}
					if w == nil {
						break
					}
					n += w.Len()
				}
			}
			if n != b.N*5000 {
				b.Fatal(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
		})
	}
}

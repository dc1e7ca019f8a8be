package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// detectorVersion is the first byte of the state of a detector.
const detectorVersion = 1

// Codes of values: that of a whole number below 2^53 is the number and firstWhole. Volumes are
// whole as a rule, so that a series takes a few bytes a slot.
const (
	codeMissing = iota
	codeRaw     // the eight bytes of the float follow
	firstWhole
)

// Bits of the byte behind the version.
const (
	bitLive = 1 << iota
	bitExact
	bitOpen
	bitsKnown = bitLive | bitExact | bitOpen
)

// Limits of what is read back.
const (
	mostSlots = 1 << 31
	mostTicks = int64(1) << 61
)

// Append appends all that the detector knows, to the bit, for ReadDetector.
func (d *Detector) Append(dst []byte) []byte {
	var bits byte
	for i, on := range []bool{d.live, d.exact, d.open} {
		if on {
			bits |= 1 << i
		}
	}
	dst = append(dst, detectorVersion, bits)
	dst = binary.AppendVarint(dst, d.first)
	dst = binary.AppendUvarint(dst, uint64(d.n))
	dst = appendFloats(dst, d.predicted)
	for t := max(0, d.n-span); t < d.n; t++ {
		dst = appendSlot(dst, d.x[at(t)], d.y[at(t)])
	}
	if d.live {
		dst = appendFloats(dst, d.dist[:]...)
		dst = appendFloats(dst, d.peak)
		for _, n := range d.pairs {
			dst = append(dst, byte(n))
		}
	}
	if d.open {
		dst = d.appendEvent(dst)
	}
	return dst
}

func (d *Detector) appendEvent(dst []byte) []byte {
	for _, n := range []int{d.start, d.last, d.calm, d.counted, d.event.Counted} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = appendFloats(dst, d.minChange, d.lost, d.expected, d.event.MinChange, d.event.Lost, d.event.Expected, d.event.Magnitude)
	dst = binary.AppendVarint(dst, d.event.DetectedAt)
	for _, text := range []string{string(d.event.Trigger), string(d.verdict)} {
		dst = append(dst, byte(len(text)))
		dst = append(dst, text...)
	}
	for _, j := range d.event.LagDays {
		dst = append(dst, byte(j))
	}
	return dst
}

func appendFloats(dst []byte, vs ...float64) []byte {
	for _, v := range vs {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// appendSlot writes the cleaned value, doubled, odd when the value itself follows, because it
// is another one.
func appendSlot(dst []byte, x, y float64) []byte {
	same := math.Float64bits(x) == math.Float64bits(y) || math.IsNaN(x) && math.IsNaN(y)
	dst = appendValue(dst, y, !same)
	if !same {
		dst = appendValue(dst, x, false)
	}
	return dst
}

func appendValue(dst []byte, v float64, odd bool) []byte {
	code := uint64(codeRaw)
	switch {
	case math.IsNaN(v):
		code = codeMissing
	case v == math.Trunc(v) && v < 1<<53 && !math.Signbit(v):
		code = uint64(v) + firstWhole
	}
	code <<= 1
	if odd {
		code |= 1
	}
	if dst = binary.AppendUvarint(dst, code); code>>1 == codeRaw {
		dst = appendFloats(dst, v)
	}
	return dst
}

// ReadDetector makes a detector go on where the one of Append was.
func ReadDetector(cfg DetectorConfig, b []byte) (*Detector, error) {
	d, err := NewDetector(cfg, 0)
	if err != nil {
		return nil, err
	}
	r := stateReader{b: b}
	if v := r.byte(); r.err == nil && v != detectorVersion {
		return nil, fmt.Errorf("detector: version %d: this program reads %d; run the one that wrote it", v, detectorVersion)
	}
	bits := r.byte()
	r.check(bits&^bitsKnown == 0, "flags")
	d.live, d.exact, d.open = bits&bitLive != 0, bits&bitExact != 0, bits&bitOpen != 0
	d.first = r.ticks()
	d.n = r.int(mostSlots)
	d.predicted = r.float()
	for t := max(0, d.n-span); t < d.n && r.err == nil; t++ {
		d.x[at(t)], d.y[at(t)] = r.slot()
	}
	r.check(d.n >= span || !d.live && !d.open, "a verdict before there can be one")
	r.check(!d.live || !d.open, "an event that is open among sums")
	if d.live {
		for j := range d.dist {
			d.dist[j] = r.float()
		}
		d.peak = r.float()
		for j := range d.pairs {
			d.pairs[j] = int(r.byte())
			r.check(d.pairs[j] <= day, "pairs")
		}
	}
	if d.open {
		d.readEvent(&r)
	}
	r.check(len(r.b) == 0, "bytes behind it")
	if r.err != nil {
		return nil, fmt.Errorf("detector: %w", r.err)
	}
	if d.live {
		d.collect(d.n - 1)
	}
	return d, nil
}

func (d *Detector) readEvent(r *stateReader) {
	d.start, d.last, d.calm = r.int(mostSlots), r.int(mostSlots), r.int(quiet-1)
	d.counted, d.event.Counted = r.int(expiry), r.int(expiry)
	r.check(d.start <= d.last && d.last < d.n && d.n-d.start < expiry, "slots of the event")
	e := &d.event
	for _, v := range []*float64{&d.minChange, &d.lost, &d.expected, &e.MinChange, &e.Lost, &e.Expected, &e.Magnitude} {
		*v = r.float()
		r.check(!math.IsNaN(*v) && !math.IsInf(*v, 0), "number")
	}
	e.Start, e.DetectedAt = d.slotStart(d.start), r.ticks()
	e.Trigger, d.verdict = Trigger(r.text()), Status(r.text())
	r.check(e.Trigger == BySustained || e.Trigger == ByPoint, "trigger")
	r.check(d.verdict == "" || d.verdict.known(), "verdict")
	for range similar {
		e.LagDays = append(e.LagDays, int(r.byte()))
	}
	ascending := slices.IsSorted(e.LagDays) && len(slices.Compact(slices.Clone(e.LagDays))) == similar
	r.check(ascending && e.LagDays[0] >= 1 && e.LagDays[similar-1] <= lags, "days of the forecast")
}

// errShort says that a state ends too soon.
var errShort = errors.New("the state ends too soon")

// stateReader reads a state. After the first error it returns zeros.
type stateReader struct {
	b   []byte
	err error
}

func (r *stateReader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

func (r *stateReader) check(ok bool, what string) {
	if !ok {
		r.fail(fmt.Errorf("%s: impossible", what))
	}
}

func (r *stateReader) take(n int) []byte {
	if len(r.b) < n {
		r.fail(errShort)
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *stateReader) byte() byte { return r.take(1)[0] }

func (r *stateReader) float() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(r.take(8)))
}

func (r *stateReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// int reads a number from 0 to most.
func (r *stateReader) int(most int) int {
	v := r.uint()
	r.check(v <= uint64(most), "number")
	if r.err != nil {
		return 0
	}
	return int(v)
}

func (r *stateReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *stateReader) ticks() int64 {
	v := r.varint()
	r.check(v > -mostTicks && v < mostTicks, "time")
	return v
}

// long reads a text behind its length.
func (r *stateReader) long() string {
	n := r.int(len(r.b))
	return string(r.take(n))
}

// text reads a text of at most 255 bytes.
func (r *stateReader) text() string { return string(r.take(int(r.byte()))) }

// slot reads what appendSlot wrote.
func (r *stateReader) slot() (x, y float64) {
	y, other := r.value()
	if x = y; other {
		x, other = r.value()
		r.check(!other, "value")
	}
	return x, y
}

func (r *stateReader) value() (v float64, odd bool) {
	code := r.uint()
	odd = code&1 != 0
	switch code >>= 1; code {
	case codeMissing:
		return math.NaN(), odd
	case codeRaw:
		v = r.float()
		r.check(v >= 0 && v <= mostVolume, "value")
		return v, odd
	}
	r.check(code-firstWhole < 1<<53, "value")
	return float64(code - firstWhole), odd
}

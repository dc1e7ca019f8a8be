package traffic

import "time"

// SlotTicks is the length of a slot.
const SlotTicks = int64(15 * time.Minute / time.Microsecond)

// Slot is what passed in 15 minutes, as far as deltas cover them.
type Slot struct {
	Start   int64
	Bytes   float64
	Covered int64 // ticks
}

// Coverage is the share of the slot that deltas cover.
func (s Slot) Coverage() float64 { return float64(s.Covered) / float64(SlotTicks) }

// Bps is the rate while it was covered.
func (s Slot) Bps() float64 { return 8 * s.Bytes / seconds(s.Covered) }

// leastCoverage is the share of a slot that must be covered for it to have a value.
const leastCoverage = 0.5

// Value is the volume of the whole slot in bytes; false where too little of it is covered. It is
// never 0 for want of data.
func (s Slot) Value() (float64, bool) {
	if s.Coverage() < leastCoverage {
		return 0, false
	}
	return s.Bps() * seconds(SlotTicks) / 8, true
}

// Slots are the slots of one counter that are not final, by start.
type Slots struct{ Open []Slot }

// Add spreads a delta evenly over its interval.
func (s *Slots) Add(d Delta) {
	if !d.Added || d.At <= d.Since {
		return
	}
	rate := float64(d.Bytes) / float64(d.At-d.Since)
	for from := d.Since; from < d.At; {
		start := floor(from)
		to := min(d.At, start+SlotTicks)
		slot := s.at(start)
		slot.Bytes += rate * float64(to-from)
		slot.Covered += to - from
		from = to
	}
}

// floor returns the start of the slot that t lies in.
func floor(t int64) int64 {
	start := t - t%SlotTicks
	if start > t {
		start -= SlotTicks
	}
	return start
}

// at returns the slot with a start. Deltas come nearly in order.
func (s *Slots) at(start int64) *Slot {
	i := len(s.Open)
	for i > 0 && s.Open[i-1].Start > start {
		i--
	}
	if i > 0 && s.Open[i-1].Start == start {
		return &s.Open[i-1]
	}
	s.Open = append(s.Open, Slot{})
	copy(s.Open[i+1:], s.Open[i:])
	s.Open[i] = Slot{Start: start}
	return &s.Open[i]
}

// finality is how far the mark must be past the end of a slot.
const finality = int64(10 * time.Minute / time.Microsecond)

// Final takes the slots that are final at a mark, in order.
func (s *Slots) Final(mark int64) []Slot {
	n := 0
	for n < len(s.Open) && s.Open[n].Start+SlotTicks+finality <= mark {
		n++
	}
	out := s.Open[:n:n]
	s.Open = s.Open[n:]
	return out
}

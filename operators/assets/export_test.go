package assets

import (
	"math"
	"unsafe"
)

// Kept is how many fixes are kept.
func (m *Movement) Kept() int { return len(m.kept) }

// ForgetMovement is what a checkpoint must not do.
func (s *Asset) ForgetMovement() { s.movement = Movement{} }

// Size is the memory of a state. Texts are shared by all assets.
func (s *Asset) Size() int {
	n := int(unsafe.Sizeof(*s)) + sizeOf(s.sightings.open) + sizeOf(s.heard) + sizeOf(s.nearest.means) + sizeOf(s.tracker.visits) + sizeOf(s.movement.kept) + sizeOf(s.battery.buckets)
	for i := range s.sightings.open {
		n += sizeOf(s.sightings.open[i].hearings)
	}
	for i := range s.heard {
		n += sizeOf(s.heard[i].rssi)
	}
	if s.tracker.candidate != nil {
		n += int(unsafe.Sizeof(*s.tracker.candidate))
	}
	return n
}

func sizeOf[T any](list []T) int {
	var t T
	return cap(list) * int(unsafe.Sizeof(t))
}

// StateSize is what a state takes before anything was seen.
const StateSize = int(unsafe.Sizeof(Asset{}))

// Site is the smallest fence that an asset is inside of.
func (f *Follower) Site(s *Asset) (string, bool) {
	i := f.site(s)
	if i < 0 {
		return "", false
	}
	return f.World.Fences.At(int(i)).ID, true
}

// Box bounds a fence.
func (f *Fence) Box() (low, high Position) { return f.low, f.high }

// Last is the newest fix.
func (s *Asset) Last() (Fix, bool) { return s.tracker.Last() }

// MeanOf is that of a gateway, NaN for none.
func (s *Asset) MeanOf(gateway string) float64 {
	m, ok := s.nearest.Mean(gateway)
	if !ok {
		return math.NaN()
	}
	return m.RSSI
}

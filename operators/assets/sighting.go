package assets

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unique"
)

// SightingConfig says which hearings are of one advertisement.
type SightingConfig struct {
	Join        int64 // ticks after the first hearing, of those with a counter
	JoinPayload int64 // of those without one, which are known by their payload
}

// DefaultSightingConfig is the one of the reference.
func DefaultSightingConfig() SightingConfig {
	return SightingConfig{Join: (2 * time.Second).Microseconds(), JoinPayload: (500 * time.Millisecond).Microseconds()}
}

// Validate returns every problem.
func (c SightingConfig) Validate() error {
	var errs []error
	if c.Join < 0 || c.JoinPayload < 0 || max(c.Join, c.JoinPayload) > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("join %s and %s: must not be negative, nor more than half an hour", spanOf(c.Join), spanOf(c.JoinPayload)))
	}
	return errors.Join(errs...)
}

// within is for how long hearings join.
func (c *SightingConfig) within(hasSeq bool) int64 {
	if hasSeq {
		return c.Join
	}
	return c.JoinPayload
}

// Hearing is an advertisement as one gateway heard it.
type Hearing struct {
	At      int64
	Frame   uint8  // type of the frame
	Seq     uint8  // counter of the tag, when it has one
	HasSeq  bool   //
	Payload uint64 // hash, when it has none
	Gateway string
	RSSI    float64 // dBm
	HasRSSI bool
}

// Heard is how a gateway heard a sighting: its strongest reading.
type Heard struct {
	Gateway string
	RSSI    float64
	HasRSSI bool
}

// Sighting is one advertisement with all gateways that heard it, by name.
type Sighting struct {
	At      int64 // of the first hearing
	Frame   uint8
	Seq     uint8
	HasSeq  bool
	Payload uint64
	Heard   []Heard
}

// Best is the gateway that heard it loudest, of equals the first by name; false when no one
// knows how loud.
func (s *Sighting) Best() (Heard, bool) {
	best, ok := Heard{}, false
	for _, h := range s.Heard {
		if h.HasRSSI && (!ok || h.RSSI > best.RSSI) {
			best, ok = h, true
		}
	}
	return best, ok
}

// Sightings joins the hearings of one asset; the zero value has seen nothing.
type Sightings struct{ open []advert }

// advert is a sighting that more hearings may join.
type advert struct {
	at       int64
	payload  uint64
	frame    uint8
	seq      uint8
	hasSeq   bool
	hearings []hearing // all of them, to know what is delivered again
}

// hearing is small: there are many.
type hearing struct {
	gateway unique.Handle[string]
	after   int32   // ticks after the first one
	dbm     float32 // NaN: not known
}

const (
	mostOpen     = 256  // sightings of one asset; beyond it the oldest are complete
	mostHearings = 1024 // of one sighting; there are not so many gateways in one place
)

// Hear takes a hearing and tells whether it was delivered before.
func (s *Sightings) Hear(cfg *SightingConfig, h Hearing) (redelivered bool) {
	within := cfg.within(h.HasSeq)
	for i := range s.open {
		o := &s.open[i]
		same := o.frame == h.Frame && o.hasSeq == h.HasSeq && o.seq == h.Seq && o.payload == h.Payload
		if same && h.At-o.at <= within && o.at-h.At <= within {
			return o.add(h)
		}
	}
	o := advert{at: h.At, payload: h.Payload, frame: h.Frame, seq: h.Seq, hasSeq: h.HasSeq}
	o.add(h)
	s.open = insert(s.open, len(s.open), o)
	return false
}

func (o *advert) add(h Hearing) (redelivered bool) {
	n := hearing{unique.Make(h.Gateway), int32(h.At - o.at), float32(math.NaN())}
	if h.HasRSSI {
		n.dbm = float32(h.RSSI)
	}
	for _, p := range o.hearings {
		if p.gateway == n.gateway && p.after == n.after {
			return true
		}
	}
	if len(o.hearings) < mostHearings {
		o.hearings = insert(o.hearings, len(o.hearings), n)
	}
	return false
}

// insert is slices.Insert that grows by little: states are many and their lists are short.
func insert[T any](list []T, i int, v T) []T {
	if n := len(list); n == cap(list) {
		grown := make([]T, n, n+1+n/4)
		copy(grown, list)
		list = grown
	}
	return slices.Insert(list, i, v)
}

// sighting is what the hearings come to.
func (o *advert) sighting() Sighting {
	s := Sighting{At: o.at, Frame: o.frame, Seq: o.seq, HasSeq: o.hasSeq, Payload: o.payload}
	for _, h := range o.hearings {
		n := Heard{Gateway: h.gateway.Value()}
		if h.dbm == h.dbm {
			n.RSSI, n.HasRSSI = float64(h.dbm), true
		}
		i, there := slices.BinarySearchFunc(s.Heard, n.Gateway, func(a Heard, g string) int { return strings.Compare(a.Gateway, g) })
		if !there {
			s.Heard = slices.Insert(s.Heard, i, n)
			continue
		}
		if p := &s.Heard[i]; n.HasRSSI && (!p.HasRSSI || n.RSSI > p.RSSI) {
			*p = n
		}
	}
	return s
}

// Final takes the sightings that no hearing at or after a mark can join, by time.
func (s *Sightings) Final(cfg *SightingConfig, mark int64) []Sighting {
	return s.take(cfg, mark, math.MaxInt64)
}

// take is Final for sightings before a time. Where too many are open, the oldest are complete.
func (s *Sightings) take(cfg *SightingConfig, mark, before int64) []Sighting {
	var out []Sighting
	surplus := len(s.open) - mostOpen
	s.open = slices.DeleteFunc(s.open, func(o advert) bool {
		if o.at >= before || mark-o.at <= cfg.within(o.hasSeq) && len(out) >= surplus {
			return false
		}
		out = append(out, o.sighting())
		return true
	})
	if len(s.open) == 0 {
		s.open = nil
	}
	slices.SortStableFunc(out, func(a, b Sighting) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Seq, b.Seq))
	})
	return out
}

// first is the time of the oldest sighting that is open; false when none is.
func (s *Sightings) first() (at int64, ok bool) {
	for i := range s.open {
		if o := &s.open[i]; !ok || o.at < at {
			at, ok = o.at, true
		}
	}
	return at, ok
}

package assets

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
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
	if c.Join < 0 || c.JoinPayload < 0 {
		errs = append(errs, fmt.Errorf("join %d and %d: must not be negative", c.Join, c.JoinPayload))
	}
	return errors.Join(errs...)
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
	seen    []Hearing // to know what is delivered again
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
type Sightings struct{ open []Sighting }

// Hear takes a hearing and tells whether it was delivered before.
func (s *Sightings) Hear(cfg *SightingConfig, h Hearing) (redelivered bool) {
	within := cfg.Join
	if !h.HasSeq {
		within = cfg.JoinPayload
	}
	for i := range s.open {
		o := &s.open[i]
		same := o.Frame == h.Frame && o.HasSeq == h.HasSeq && o.Seq == h.Seq && o.Payload == h.Payload
		if !same || h.At-o.At > within || o.At-h.At > within {
			continue
		}
		if slices.ContainsFunc(o.seen, func(p Hearing) bool { return p.At == h.At && p.Gateway == h.Gateway }) {
			return true
		}
		o.add(h)
		return false
	}
	o := Sighting{Frame: h.Frame, Seq: h.Seq, HasSeq: h.HasSeq, Payload: h.Payload, At: h.At}
	o.add(h)
	s.open = append(s.open, o)
	return false
}

func (s *Sighting) add(h Hearing) {
	s.seen = append(s.seen, h)
	i, there := slices.BinarySearchFunc(s.Heard, h.Gateway, func(a Heard, g string) int { return strings.Compare(a.Gateway, g) })
	if !there {
		s.Heard = slices.Insert(s.Heard, i, Heard{h.Gateway, h.RSSI, h.HasRSSI})
		return
	}
	if o := &s.Heard[i]; h.HasRSSI && (!o.HasRSSI || h.RSSI > o.RSSI) {
		o.RSSI, o.HasRSSI = h.RSSI, true
	}
}

// Final takes the sightings that no hearing at or after a mark can join, by time.
func (s *Sightings) Final(cfg *SightingConfig, mark int64) []Sighting {
	var out []Sighting
	s.open = slices.DeleteFunc(s.open, func(o Sighting) bool {
		within := cfg.Join
		if !o.HasSeq {
			within = cfg.JoinPayload
		}
		if mark-o.At <= within {
			return false
		}
		out = append(out, o)
		return true
	})
	slices.SortStableFunc(out, func(a, b Sighting) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return int(a.Seq) - int(b.Seq)
	})
	return out
}

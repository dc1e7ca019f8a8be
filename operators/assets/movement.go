package assets

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// MovementConfig says when an asset moves.
type MovementConfig struct {
	Apart    int64   // ticks between two fixes that are compared
	Far      float64 // metres that they must differ by at least
	Accurate float64 // times the sum of their accuracies, if that is more
	Speed    float64 // metres a second of the device
	Times    int     // in a row
	Still    int64   // ticks in which all fixes
	Near     float64 // lie within so many metres
}

// DefaultMovementConfig is the one of the reference.
func DefaultMovementConfig() MovementConfig {
	return MovementConfig{Apart: (30 * time.Second).Microseconds(), Far: 50, Accurate: 2, Speed: 2, Times: 2, Still: (5 * time.Minute).Microseconds(), Near: 50}
}

// Validate returns every problem.
func (c MovementConfig) Validate() error {
	var errs []error
	if c.Apart <= 0 || c.Still < c.Apart || c.Still/max(c.Apart, 1) > 100 {
		errs = append(errs, fmt.Errorf("times %s and %s: want the first above 0, the second up to 100 times that", spanOf(c.Apart), spanOf(c.Still)))
	}
	if !(c.Far > 0) || !(c.Near > 0) || !(c.Accurate >= 0) {
		errs = append(errs, fmt.Errorf("metres %v and %v, accuracies %v: want numbers above 0", c.Far, c.Near, c.Accurate))
	}
	if !(c.Speed > 0) || c.Times < 1 || c.Times > 100 {
		errs = append(errs, fmt.Errorf("speed %v m/s %d times: want more than 0, 1 to 100 times", c.Speed, c.Times))
	}
	return errors.Join(errs...)
}

// MovementState is whether an asset moves.
type MovementState uint8

const (
	MovementUnknown MovementState = iota
	Stationary
	Moving
)

func (s MovementState) String() string { return [...]string{"UNKNOWN", "STATIONARY", "MOVING"}[s] }

// moment is a fix that is kept, or several in one place: a gateway gives the same again and again.
type moment struct {
	from     int64
	lasts    uint32 // ticks from the first to the last of them
	lat, lon int32  // 1e-7 degrees
	accuracy float32
}

func (m moment) position() Position { return Position{float64(m.lat) / 1e7, float64(m.lon) / 1e7} }

func (m moment) to() int64 { return m.from + int64(m.lasts) }

// isAt tells whether a later moment belongs to this one.
func (m moment) isAt(o moment) bool {
	return m.lat == o.lat && m.lon == o.lon && m.accuracy == o.accuracy && o.from-m.from <= math.MaxUint32
}

// Movement is the state of one asset; the zero value has seen nothing.
//
// Of the fixes of the last minutes (Still) those are kept that are Apart; the newest is always
// looked at. With them is the newest one before, which is looked at while there is no other.
type Movement struct {
	State MovementState
	moved bool  // ever
	fast  uint8 // how often in a row the device said so
	Since int64 // when it last began to move
	Until int64 // the last time that it is known to have moved
	kept  []moment
}

// MovedIn tells whether the asset was moving at some time from one time to another. Of times long
// ago it knows nothing.
func (m *Movement) MovedIn(from, to int64) bool {
	return m.moved && m.Since <= to && m.Until >= from
}

// Speed takes what the device says of its speed. It comes behind the fix of the same detection.
func (m *Movement) Speed(cfg *MovementConfig, at int64, speed float64) {
	if !(speed >= cfg.Speed) {
		m.fast = 0
		return
	}
	if m.fast = min(m.fast+1, 100); int(m.fast) >= cfg.Times {
		m.moves(at)
	}
}

func (m *Movement) moves(at int64) {
	if m.State != Moving {
		m.State, m.Since = Moving, at
	}
	m.Until, m.moved = at, true
}

// Fix takes the next accepted fix.
func (m *Movement) Fix(cfg *MovementConfig, f Fix) {
	m.forget(f.At - cfg.Still)
	now := moment{from: f.At, lat: int32(math.Round(f.Lat * 1e7)), lon: int32(math.Round(f.Lon * 1e7)), accuracy: float32(f.Accuracy)}
	switch {
	case m.isFar(cfg, now):
		m.moves(f.At)
	case m.isStill(cfg, now):
		m.State = Stationary
	case m.State == Moving:
		m.Until = f.At
	}
	n := len(m.kept)
	switch {
	case n > 0 && m.kept[n-1].isAt(now):
		m.kept[n-1].lasts = uint32(now.from - m.kept[n-1].from)
	case n == 0 || now.from-m.kept[n-1].to() >= cfg.Apart:
		m.kept = insert(m.kept, n, now)
	}
}

// forget drops all fixes before a time but the newest of them.
func (m *Movement) forget(before int64) {
	n := 0
	for n+1 < len(m.kept) && m.kept[n+1].to() < before {
		n++
	}
	m.kept = slices.Delete(m.kept, 0, n)
}

// isFar tells whether a fix is far from one that is Apart from it. The one from before Still
// counts only when no other does: an asset that came to rest is not to be moving for longer.
func (m *Movement) isFar(cfg *MovementConfig, now moment) bool {
	compared := false
	for i := len(m.kept) - 1; i >= 0; i-- {
		k := m.kept[i]
		if now.from-k.from < cfg.Apart || compared && now.from-k.to() > cfg.Still {
			continue
		}
		compared = true
		if Distance(k.position(), now.position()) > max(cfg.Far, cfg.Accurate*(float64(k.accuracy)+float64(now.accuracy))) {
			return true
		}
	}
	return false
}

// isStill tells whether all fixes of the last minutes, two at least, are near each other.
func (m *Movement) isStill(cfg *MovementConfig, now moment) bool {
	n := 1
	for i, a := range m.kept {
		if now.from-a.to() > cfg.Still {
			continue
		}
		n++
		if Distance(a.position(), now.position()) > cfg.Near {
			return false
		}
		for _, b := range m.kept[i+1:] {
			if Distance(a.position(), b.position()) > cfg.Near {
				return false
			}
		}
	}
	return n >= 2
}

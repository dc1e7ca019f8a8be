package assets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unique"
)

// stateVersion is the first byte of an asset's state in a checkpoint. 1 had no quality of times.
const stateVersion = 2

// codec writes or reads a state: one description serves both ways. Reading stops at the first
// error.
type codec struct {
	writes  bool
	version byte // of what is read
	b       []byte
	err     error
}

var errCut = errors.New("the state of an asset is cut off")

func (c *codec) int(v *int64) {
	if c.writes {
		c.b = binary.AppendVarint(c.b, *v)
		return
	}
	x, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail(errCut)
		return
	}
	*v, c.b = x, c.b[n:]
}

func (c *codec) fail(err error) {
	if c.err == nil {
		c.err, c.b = err, nil
	}
}

// small is a whole number that fits its type.
func small[T ~uint8 | ~uint16 | ~uint32 | ~int8 | ~int16 | ~int32 | ~int](c *codec, v *T) {
	x := int64(*v)
	c.int(&x)
	if *v = T(x); int64(*v) != x {
		c.fail(fmt.Errorf("the state of an asset has %d where less is due", x))
	}
}

// below is small for a value that has an upper bound.
func below[T ~uint8](c *codec, v *T, n T) {
	if small(c, v); *v >= n {
		c.fail(fmt.Errorf("the state of an asset has kind %d of %d", *v, n))
		*v = 0
	}
}

func (c *codec) bool(v *bool) {
	x := uint8(0)
	if *v {
		x = 1
	}
	below(c, &x, 2)
	*v = x == 1
}

func (c *codec) real(v *float64) {
	if c.writes {
		c.b = binary.LittleEndian.AppendUint64(c.b, math.Float64bits(*v))
		return
	}
	if len(c.b) < 8 {
		c.fail(errCut)
		return
	}
	*v, c.b = math.Float64frombits(binary.LittleEndian.Uint64(c.b)), c.b[8:]
}

func (c *codec) text(v *string) {
	n := int64(len(*v))
	c.int(&n)
	if c.writes {
		c.b = append(c.b, *v...)
		return
	}
	if n < 0 || n > int64(len(c.b)) {
		c.fail(errCut)
		return
	}
	*v, c.b = shared(string(c.b[:n])), c.b[n:]
}

func (c *codec) handle(v *unique.Handle[string]) {
	text := ""
	if c.writes {
		text = v.Value()
	}
	c.text(&text)
	*v = unique.Make(text)
}

// list writes or reads each element of a list. An element takes at least a byte.
func list[T any](c *codec, v *[]T, each func(*T)) {
	n := int64(len(*v))
	c.int(&n)
	if !c.writes {
		if n < 0 || n > int64(len(c.b)) {
			c.fail(errCut)
			return
		}
		if n > 0 {
			*v = make([]T, n)
		}
	}
	for i := range *v {
		each(&(*v)[i])
	}
}

// Append writes the state of an asset for a checkpoint.
func Append(dst []byte, s *Asset) []byte {
	c := codec{writes: true, version: stateVersion, b: append(dst, stateVersion)}
	c.asset(s, nil)
	return c.b
}

// Read reads what Append has written. Visits of fences that are there no more are forgotten.
func (f *Follower) Read(b []byte, s *Asset) error {
	switch {
	case len(b) == 0:
		return errCut
	case b[0] == 0 || b[0] > stateVersion:
		return fmt.Errorf("the state of an asset has version %d: want 1 to %d; a newer release may have written it", b[0], stateVersion)
	}
	c := codec{version: b[0], b: b[1:]}
	c.asset(s, f.World.Fences)
	if c.err == nil && len(c.b) > 0 {
		c.fail(fmt.Errorf("the state of an asset has %d bytes too many", len(c.b)))
	}
	return c.err
}

func (c *codec) asset(s *Asset, fences *Fences) {
	c.int(&s.seen)
	c.bool(&s.known)
	if c.version > 1 {
		below(c, &s.quality, numQualities)
	}
	list(c, &s.sightings.open, c.sighting)
	c.bool(&s.open)
	c.int(&s.window)
	c.int(&s.first)
	c.bool(&s.windows)
	list(c, &s.heard, func(h *heardBy) {
		c.text(&h.gateway)
		c.int(&h.first)
		c.int(&h.last)
		list(c, &h.rssi, func(l *level) {
			small(c, &l.dbm)
			small(c, &l.n)
		})
	})
	c.nearest(&s.nearest)
	c.int(&s.ownerSince)
	c.int(&s.ownerSeen)
	c.tracker(&s.tracker, fences)
	below(c, &s.movement.State, Moving+1)
	c.int(&s.movement.Since)
	c.int(&s.movement.Until)
	c.bool(&s.movement.moved)
	small(c, &s.movement.fast)
	list(c, &s.movement.kept, func(m *moment) {
		c.int(&m.from)
		small(c, &m.lasts)
		small(c, &m.lat)
		small(c, &m.lon)
		accuracy := float64(m.accuracy)
		c.real(&accuracy)
		m.accuracy = float32(accuracy)
	})
	below(c, &s.bottom.State, BottomUp+1)
	below(c, &s.bottom.Pending, BottomUp+1)
	small(c, &s.bottom.Count)
	c.int(&s.bottom.Since)
	c.bool(&s.hasLoad)
	c.real(&s.load)
	c.transit(&s.transit)
	below(c, &s.availability.State, Offline+1)
	c.int(&s.availability.Since)
	below(c, &s.availability.next, Offline+1)
	c.int(&s.availability.from)
	c.bool(&s.availability.begun)
	c.bool(&s.availability.told)
	c.battery(&s.battery)
}

func (c *codec) sighting(o *advert) {
	c.int(&o.at)
	small(c, &o.frame)
	small(c, &o.seq)
	c.bool(&o.hasSeq)
	payload := int64(o.payload)
	c.int(&payload)
	o.payload = uint64(payload)
	list(c, &o.hearings, func(h *hearing) {
		c.handle(&h.gateway)
		small(c, &h.after)
		dbm := float64(h.dbm)
		c.real(&dbm)
		h.dbm = float32(dbm)
	})
}

func (c *codec) nearest(n *Nearest) {
	c.text(&n.Owner)
	list(c, &n.means, func(m *mean) {
		c.handle(&m.gateway)
		c.real(&m.rssi)
		small(c, &m.unheard)
	})
	c.text(&n.Challenger)
	small(c, &n.Wins)
}

func (c *codec) fix(f *Fix) {
	c.int(&f.At)
	c.real(&f.Lat)
	c.real(&f.Lon)
	c.real(&f.Accuracy)
}

// tracker names fences by their ids: their places in the set may be others after a restart.
func (c *codec) tracker(t *Tracker, fences *Fences) {
	if !c.writes {
		t.set = fences
	}
	visits := t.visits
	list(c, &visits, func(v *visit) {
		id := ""
		if c.writes {
			id = t.set.all[v.fence].ID
		}
		c.text(&id)
		if !c.writes {
			i, there := fences.byID[id]
			if v.fence = i; !there {
				v.fence = -1
			}
		}
		below(c, &v.state, Inside+1)
		small(c, &v.dwelled)
		small(c, &v.count)
		c.int(&v.entered)
		c.int(&v.since)
		c.int(&v.before)
		c.real(&v.metres)
		c.real(&v.hop)
	})
	if !c.writes {
		t.visits = slices.DeleteFunc(visits, func(v visit) bool { return v.fence < 0 })
		t.sort()
	}
	c.fix(&t.last)
	c.real(&t.metres)
	doubt := t.candidate != nil
	c.bool(&doubt)
	if doubt {
		if t.candidate == nil {
			t.candidate = &Fix{}
		}
		c.fix(t.candidate)
	}
	c.bool(&t.seen)
	c.bool(&t.quiet)
}

func (c *codec) transit(t *Transit) {
	below(c, &t.state, legTold+1)
	c.bool(&t.unknown)
	c.bool(&t.lost)
	c.bool(&t.linked)
	c.text(&t.here.Site)
	c.int(&t.here.At)
	c.int(&t.here.Before)
	c.real(&t.here.Metres)
	c.real(&t.here.Hop)
	c.text(&t.left.Site)
	c.int(&t.left.At)
	c.int(&t.left.Seen)
	c.real(&t.left.Metres)
}

func (c *codec) battery(b *Battery) {
	small(c, &b.Percent)
	c.bool(&b.Known)
	c.bool(&b.Low)
	small(c, &b.run)
	c.bool(&b.dated)
	small(c, &b.median)
	c.int(&b.today)
	list(c, &b.buckets, func(k *bucket) {
		small(c, &k.height)
		small(c, &k.n)
	})
}

package power

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// stateVersion is the first byte of a group's state. In version 1 alarms had no time of their last
// reading.
const (
	stateVersion      = 2
	stateWithoutTimes = 1
)

// AppendGroup appends the state of a group as it is in a checkpoint.
func AppendGroup(dst []byte, g *Group) []byte {
	c := coder{b: append(dst, stateVersion), writing: true}
	c.group(g)
	return c.b
}

// ReadGroup reads what AppendGroup has made into the zero Group.
func ReadGroup(b []byte, g *Group) error {
	if len(b) == 0 || b[0] != stateVersion && b[0] != stateWithoutTimes {
		return fmt.Errorf("state of PDUs: version %v, want at most %d: another version of the program wrote it", b[:min(len(b), 1)], stateVersion)
	}
	c := coder{b: b[1:], untimed: b[0] == stateWithoutTimes}
	c.group(g)
	if len(c.b) > 0 {
		c.fail("%d bytes behind its end", len(c.b))
	}
	if c.err != nil {
		*g = Group{}
	}
	return c.err
}

var errState = errors.New("state of PDUs")

// coder writes values to b, or reads them from it: one walk over a state serves both, so that they
// cannot differ. After an error it reads zeros.
type coder struct {
	b       []byte
	writing bool
	untimed bool  // alarms have no time of their last reading: it is heard
	heard   int64 // when the PDU was
	err     error
}

func (c *coder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{errState}, args...)...)
	}
	c.b = nil
}

func (c *coder) int(v *int64) {
	if c.writing {
		c.b = binary.AppendVarint(c.b, *v)
		return
	}
	x, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail("a number is cut off")
		return
	}
	*v, c.b = x, c.b[n:]
}

func (c *coder) count(v *int) {
	x := int64(*v)
	c.int(&x)
	*v = int(x)
}

func (c *coder) float(v *float64) {
	if c.writing {
		c.b = binary.LittleEndian.AppendUint64(c.b, math.Float64bits(*v))
		return
	}
	if len(c.b) < 8 {
		c.fail("a number is cut off")
		return
	}
	*v, c.b = math.Float64frombits(binary.LittleEndian.Uint64(c.b)), c.b[8:]
}

func (c *coder) floats(v ...*float64) {
	for _, f := range v {
		c.float(f)
	}
}

func (c *coder) three(t *Three) { c.floats(&t[0], &t[1], &t[2]) }

func (c *coder) bool(v *bool) {
	x := int64(0)
	if *v {
		x = 1
	}
	if c.int(&x); x < 0 || x > 1 {
		c.fail("%d is neither true nor false", x)
	}
	*v = x == 1
}

// text is a string of any such type.
func text[T ~string](c *coder, v *T) {
	n := len(*v)
	c.length(&n, 1)
	if c.writing {
		c.b = append(c.b, *v...)
		return
	}
	*v, c.b = T(c.b[:n]), c.b[n:]
}

// length is a number of things that take size bytes each at least.
func (c *coder) length(n *int, size int) {
	c.count(n)
	if !c.writing && (*n < 0 || *n > len(c.b)/size) {
		c.fail("%d things in %d bytes", *n, len(c.b))
		*n = 0
	}
}

// list is a slice whose elements take size bytes each at least.
func list[T any](c *coder, v *[]T, size int, each func(*T)) {
	n := len(*v)
	if c.length(&n, size); !c.writing && n > 0 {
		*v = make([]T, n)
	}
	for i := range *v {
		each(&(*v)[i])
	}
}

func (c *coder) group(g *Group) {
	list(c, &g.Members, 8, c.member)
	for i := 1; i < len(g.Members) && c.err == nil; i++ {
		if g.Members[i-1].ID >= g.Members[i].ID {
			c.fail("PDUs are not in order")
		}
	}
}

func (c *coder) member(m *Member) {
	text(c, &m.ID)
	c.int(&m.Heard)
	c.heard = m.Heard
	c.bool(&m.Pending)
	c.int(&m.Instant.At)
	list(c, &m.Instant.Samples, 64, c.sample)
	text(c, &m.Feed)
	text(c, &m.Wiring)
	c.float(&m.RatedA)
	for _, a := range [...]*[3]Alarm{&m.Line, &m.Branch, &m.Continuous} {
		for k := range a {
			c.alarm(&a[k])
		}
	}
	list(c, &m.Banks, 4, func(b *BankAlarms) {
		text(c, &b.Name)
		c.int(&b.At)
		c.alarm(&b.Over)
		c.alarm(&b.Continuous)
	})
	c.alarm(&m.Imbalance)
	c.alarm(&m.Redundancy)
	c.alarm(&m.Energy)
	text(c, &m.Against)
	c.bool(&m.Last.Seen)
	c.int(&m.Last.At)
	c.three(&m.Last.LoadW)
	c.three(&m.Last.Line)
	list(c, &m.Outlets, 10, func(o *OutletPower) {
		text(c, &o.Name)
		c.int(&o.At)
		c.float(&o.W)
	})
	text(c, &m.MeterScope)
	list(c, &m.Meters, 11, func(m *Meter) {
		text(c, &m.Element)
		c.bool(&m.Seen)
		c.int(&m.At)
		c.float(&m.KWh)
	})
	c.bool(&m.Paired)
	c.bool(&m.Integral.Seen)
	c.int(&m.Integral.At)
	c.float(&m.Integral.W)
	c.bool(&m.Balance.Open)
	c.int(&m.Balance.Since)
	c.floats(&m.Balance.Counter, &m.Balance.Integral)
}

func (c *coder) sample(s *Sample) {
	text(c, &s.Scope)
	text(c, &s.Element)
	text(c, &s.Feed)
	text(c, &s.Wiring)
	values := s.values()
	c.floats(values[:]...)
}

// alarm is one byte at rest.
func (c *coder) alarm(a *Alarm) {
	busy := *a != Alarm{}
	if c.bool(&busy); !busy {
		return
	}
	c.bool(&a.Open)
	c.count(&a.Over)
	c.count(&a.Under)
	c.int(&a.Since)
	c.int(&a.Made)
	if c.untimed {
		a.At = c.heard
	} else {
		c.int(&a.At)
	}
	c.float(&a.Highest)
	c.float(&a.Told)
	c.int(&a.Count)
	c.float(&a.Sum)
	c.count(&a.Changes)
}

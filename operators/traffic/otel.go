package traffic

// SumPoint is a point of an OpenTelemetry sum.
type SumPoint struct {
	Start, At int64
	Value     float64
}

// Kinds of points of sums, beside OK, Reset, Gap and Late.
const (
	Start   Kind = "start"   // the first point
	Invalid Kind = "invalid" // it fell without a new start
	Overlap Kind = "overlap" // begins before the one before ended
)

// SumDelta is what a point adds: Value in (Since, At], when Added.
type SumDelta struct {
	At    int64
	Kind  Kind
	Added bool
	Value float64
	Since int64
}

// Cumulative is the state of a cumulative sum; the zero value has seen nothing.
type Cumulative struct {
	Seen bool
	Last SumPoint
}

// Read takes the next point. One whose start is its time has begun at an unknown time before,
// so that it adds nothing.
func (c *Cumulative) Read(p SumPoint) SumDelta {
	d := SumDelta{At: p.At}
	was := c.Last
	switch {
	case c.Seen && p.At <= was.At:
		d.Kind = Late
		return d
	case c.Seen && p.Start == was.Start && p.Value < was.Value:
		d.Kind = Invalid
		return d
	}
	d.Kind, d.Added, d.Value, d.Since = Start, true, p.Value, p.Start
	switch {
	case c.Seen && p.Start == was.Start:
		d.Kind, d.Value, d.Since = OK, p.Value-was.Value, was.At
	case c.Seen:
		d.Kind = Reset
	}
	if d.Kind != OK && p.Start == p.At {
		d.Value = 0
	}
	*c = Cumulative{true, p}
	return d
}

// DeltaSum is the state of a sum of deltas; the zero value has seen nothing.
type DeltaSum struct {
	Seen bool
	End  int64 // of the point before
}

// Read takes the next point.
func (s *DeltaSum) Read(p SumPoint) SumDelta {
	d := SumDelta{At: p.At, Kind: OK, Added: true, Value: p.Value, Since: p.Start}
	switch {
	case s.Seen && p.Start < s.End:
		return SumDelta{At: p.At, Kind: Overlap}
	case s.Seen && p.Start > s.End:
		d.Kind = Gap
	}
	*s = DeltaSum{true, p.At}
	return d
}

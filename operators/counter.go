package operators

import (
	"math/bits"

	"github.com/tidemark/tidemark/pipeline"
)

// A counter only rises, until it is reset to 0 or wraps to 0. What it rose by between two
// values is decided by the two alone.

// rise returns what a counter of integers rose by from prev to cur, which fits uint64. It
// wraps at wrap, 0 for never.
func rise(prev, cur, wrap int64) uint64 {
	switch {
	case cur >= prev:
		return uint64(cur) - uint64(prev)
	case wraps(prev, cur, wrap):
		return uint64(cur) + uint64(wrap) - uint64(prev)
	}
	return uint64(max(cur, 0)) // reset
}

// wraps tells whether a fall is a wrap: from the upper half of the range to the lower.
func wraps[T int64 | float64](prev, cur, wrap T) bool {
	return prev < wrap && prev >= wrap-wrap/2 && cur >= 0 && cur < wrap/2
}

// increase returns what the counter rose by over the points, which are in order.
func (o *output) increase(points []point) value {
	if o.float {
		acc := make([]uint64, floatSumWords)
		wrap := float64(o.wrap)
		for i, p := range points[1:] {
			prev, cur := fromOrderedBits(points[i].val), fromOrderedBits(p.val)
			switch {
			case cur >= prev:
				addFloat(acc, cur)
				addFloat(acc, -prev)
			case wraps(prev, cur, wrap):
				addFloat(acc, cur)
				addFloat(acc, wrap)
				addFloat(acc, -prev)
			default: // reset
				addFloat(acc, max(cur, 0))
			}
		}
		return o.sum(acc)
	}
	acc := make([]uint64, 2)
	for i, p := range points[1:] {
		var carry uint64
		acc[0], carry = bits.Add64(acc[0], rise(points[i].val, p.val, o.wrap), 0)
		acc[1] += carry
	}
	return o.sum(acc)
}

// rate returns the increase per second between the first and the last point; the type of
// its result is float64, so the increase need not fit int64.
func (o *output) rate(points []point) value {
	span := pipeline.SubTicks(points[len(points)-1].at, points[0].at)
	if span == 0 {
		return value{null: true}
	}
	v := o.increase(points)
	v.f = v.f * 1e6 / float64(span) // ticks of a microsecond
	return v
}

package assets

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// BatteryConfig says when a battery is low, and when it was replaced.
type BatteryConfig struct {
	Warm float64 // degrees Celsius at which a reading counts; cold batteries read low
	Low  float64 // mV that the median of a day is under
	Days int     // in a row
	Full float64 // mV that the median of a day is at least
	Rise float64 // mV above the one before
}

// DefaultBatteryConfig is the one of the reference.
func DefaultBatteryConfig() BatteryConfig {
	return BatteryConfig{Warm: 0, Low: 2500, Days: 3, Full: 2700, Rise: 300}
}

// Validate returns every problem.
func (c BatteryConfig) Validate() error {
	var errs []error
	if math.IsNaN(c.Warm) {
		errs = append(errs, errors.New("warm: want degrees"))
	}
	if !(c.Low > 0 && c.Low < c.Full) || !(c.Rise > 0) {
		errs = append(errs, fmt.Errorf("low %v, full %v, rise %v mV: want numbers above 0, low below full", c.Low, c.Full, c.Rise))
	}
	if c.Days < 1 || c.Days > 100 {
		errs = append(errs, fmt.Errorf("days %d: want 1 to 100", c.Days))
	}
	return errors.Join(errs...)
}

// BatteryKind is what happened to a battery.
type BatteryKind string

const (
	BatteryLow      BatteryKind = "low"
	BatteryReplaced BatteryKind = "replaced"
)

// BatteryEvent is known at the end of a day.
type BatteryEvent struct {
	Kind   BatteryKind
	At     int64 // the end of the day
	Median float64
}

const (
	day = int64(24 * time.Hour / time.Microsecond)

	// batteryStep is the width of a bucket in mV. The limits are multiples of it by default, so that a
	// median is on the right side of them.
	batteryStep = 10
	mostBuckets = 512
)

// bucket counts readings of one height.
type bucket struct {
	height uint16 // in steps
	n      uint32
}

// Battery is the state of one asset; the zero value has seen nothing.
type Battery struct {
	Percent int8 // of the newest reading, if Known
	Known   bool
	Low     bool
	run     uint8    // days in a row that were low
	dated   bool     // there is a median before
	median  uint16   // in steps
	today   int64    // start of the day of the buckets
	buckets []bucket // by height
}

// Reading takes a reading, which counts when it is warm; where nobody knows how warm it is, it counts
// too.
func (b *Battery) Reading(cfg *BatteryConfig, at int64, mv, celsius float64, hasTemp bool) {
	b.Percent, b.Known = int8(math.Round(BatteryPercent(mv))), true
	if hasTemp && celsius < cfg.Warm {
		return
	}
	if len(b.buckets) == 0 {
		b.today = at - floorMod(at, day)
	}
	height := uint16(min(max(mv, 0)/batteryStep, math.MaxUint16))
	i, there := slices.BinarySearchFunc(b.buckets, height, func(b bucket, h uint16) int { return int(b.height) - int(h) })
	switch {
	case there:
		b.buckets[i].n++
	case len(b.buckets) < mostBuckets:
		b.buckets = insert(b.buckets, i, bucket{height, 1})
	}
}

// floorMod is never negative.
func floorMod(a, m int64) int64 { return (a%m + m) % m }

// Due is the last tick of the day of which there are readings; MaxInt64 for none.
func (b *Battery) Due() int64 {
	if len(b.buckets) == 0 {
		return math.MaxInt64
	}
	return b.today + day - 1
}

// Advance ends a day.
func (b *Battery) Advance(cfg *BatteryConfig, mark int64) (BatteryEvent, bool) {
	if mark < b.Due() {
		return BatteryEvent{}, false
	}
	before, dated := float64(b.median)*batteryStep, b.dated
	b.median, b.dated, b.buckets = b.dayMedian(), true, nil
	e := BatteryEvent{At: b.today + day, Median: float64(b.median) * batteryStep}
	if e.Median >= cfg.Full && dated && e.Median-before >= cfg.Rise {
		b.run, b.Low = 0, false
		e.Kind = BatteryReplaced
		return e, true
	}
	if e.Median >= cfg.Low {
		b.run = 0
		return e, false
	}
	if b.run = min(b.run+1, 100); int(b.run) < cfg.Days || b.Low {
		return e, false
	}
	b.Low = true
	e.Kind = BatteryLow
	return e, true
}

// dayMedian is the bucket of the median, of two the lower one.
func (b *Battery) dayMedian() uint16 {
	all := uint64(0)
	for _, k := range b.buckets {
		all += uint64(k.n)
	}
	below := uint64(0)
	for _, k := range b.buckets {
		if below += uint64(k.n); below >= (all+1)/2 {
			return k.height
		}
	}
	return 0
}

// BatteryPercent is linear between what a coin cell has left at some voltages.
func BatteryPercent(mv float64) float64 {
	points := [...][2]float64{{2000, 0}, {2500, 10}, {2800, 50}, {3000, 90}, {3200, 100}}
	if mv <= points[0][0] {
		return 0
	}
	for i, p := range points[1:] {
		if q := points[i]; mv <= p[0] {
			return q[1] + (mv-q[0])/(p[0]-q[0])*(p[1]-q[1])
		}
	}
	return 100
}

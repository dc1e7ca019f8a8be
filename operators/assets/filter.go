package assets

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Rule is one of the rules that detections pass, in this order.
type Rule uint8

// Rules. Unknown, Future and Redelivered drop a detection, the others take a value away from it, or
// give it another time.
const (
	RuleUnknown     Rule = iota // the asset is not registered
	RuleReplaced                // no time, or that of a clock that was lost: the broker's instead
	RuleFuture                  // a clock that runs ahead
	RuleRSSI                    // no reading: folded into a mean it would make a tag flap
	RuleRedelivered             // taken before
	RulePlace                   // no position
	RuleAccel                   // no acceleration of a cage
	RuleBattery                 // no voltage of its battery
	Rules                       // how many there are
)

func (r Rule) String() string {
	return [...]string{"unknown_asset", "ts_replaced", "future", "rssi", "redelivered", "gps", "accel", "battery"}[r]
}

// FilterConfig says what a detection must be.
type FilterConfig struct {
	AcceptUnknown bool  // assets that are not registered
	OldestTime    int64 // at or before it a clock was lost
	MaxAhead      int64 // ticks beyond the broker's timestamp
	MinRSSI       float64
	MaxRSSI       float64 // dBm
	MaxAccuracy   float64 // metres
	MinAccel      float64
	MaxAccel      float64 // mg, of the vector
	MinBattery    float64
	MaxBattery    float64 // mV
}

// DefaultFilterConfig is the one of the reference.
func DefaultFilterConfig() FilterConfig {
	return FilterConfig{
		OldestTime: time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), MaxAhead: (120 * time.Second).Microseconds(),
		MinRSSI: -100, MaxRSSI: -20, MaxAccuracy: 1000, MinAccel: 200, MaxAccel: 4000, MinBattery: 1800, MaxBattery: 4200,
	}
}

// Validate returns every problem.
func (c FilterConfig) Validate() error {
	var errs []error
	if c.MaxAhead < 0 {
		errs = append(errs, fmt.Errorf("ahead %s: must not be negative", spanOf(c.MaxAhead)))
	}
	if !(c.MinRSSI <= c.MaxRSSI && c.MaxRSSI < 0 && c.MinRSSI >= -128) {
		errs = append(errs, fmt.Errorf("rssi %v to %v dBm: want the lower one first, from -128 to below 0", c.MinRSSI, c.MaxRSSI))
	}
	if !(c.MaxAccuracy > 0) {
		errs = append(errs, fmt.Errorf("accuracy %v m: want a number above 0", c.MaxAccuracy))
	}
	if !(c.MinAccel >= 0 && c.MinAccel < c.MaxAccel) {
		errs = append(errs, fmt.Errorf("acceleration %v to %v mg: want the lower one first, from 0", c.MinAccel, c.MaxAccel))
	}
	if !(c.MinBattery >= 0 && c.MinBattery < c.MaxBattery) {
		errs = append(errs, fmt.Errorf("battery %v to %v mV: want the lower one first, from 0", c.MinBattery, c.MaxBattery))
	}
	return errors.Join(errs...)
}

// Detection is what one gateway told of one advertisement. Hearing.At is its time.
type Detection struct {
	Hearing
	HasTime  bool
	Quality  Quality // of its time
	Ingest   int64   // the broker's timestamp
	Fix      Fix     // Fix.At is not used
	HasFix   bool
	Speed    float64 // metres a second, of the device
	HasSpeed bool
	Accel    Accel
	HasAccel bool
	Battery  float64 // mV
	HasBatt  bool
	Temp     float64 // degrees Celsius
	HasTemp  bool
	Load     float64 // kg
	HasLoad  bool
}

// FilterCounts is how often each rule held.
type FilterCounts [Rules]int64

// Filter applies all rules to a detection, which it corrects. It returns the rule that drops it,
// if one does. A detection that stays has been joined to its sighting in s: that is where one that
// was taken before is known.
func (c *FilterConfig) Filter(d *Detection, registered bool, join *SightingConfig, s *Sightings, n *FilterCounts) (dropped Rule, drop bool) {
	if !registered && !c.AcceptUnknown {
		n[RuleUnknown]++
		return RuleUnknown, true
	}
	if !d.HasTime || d.At <= c.OldestTime {
		n[RuleReplaced]++
		d.At, d.HasTime = d.Ingest, true
	}
	if d.At > d.Ingest && uint64(d.At)-uint64(d.Ingest) > uint64(c.MaxAhead) {
		n[RuleFuture]++
		return RuleFuture, true
	}
	if d.HasRSSI && !(d.RSSI >= c.MinRSSI && d.RSSI <= c.MaxRSSI) { // 0 and 127 among them
		n[RuleRSSI]++
		d.RSSI, d.HasRSSI = 0, false
	}
	if s.Hear(join, d.Hearing) {
		n[RuleRedelivered]++
		return RuleRedelivered, true
	}
	if d.HasFix && !c.isPlace(&d.Fix) {
		n[RulePlace]++
		d.Fix, d.HasFix = Fix{}, false
	}
	if norm := d.Accel.norm(); d.HasAccel && !(norm >= c.MinAccel && norm <= c.MaxAccel) {
		n[RuleAccel]++
		d.Accel, d.HasAccel = Accel{}, false
	}
	if d.HasBatt && !(d.Battery >= c.MinBattery && d.Battery <= c.MaxBattery) {
		n[RuleBattery]++
		d.Battery, d.HasBatt = 0, false
	}
	return 0, false
}

// isPlace refuses what receivers give that know no place. A negative accuracy is such a one.
func (c *FilterConfig) isPlace(f *Fix) bool {
	nowhere := f.Lat == 0 && f.Lon == 0
	return math.Abs(f.Lat) <= 90 && math.Abs(f.Lon) <= 180 && !nowhere && f.Accuracy >= 0 && f.Accuracy <= c.MaxAccuracy
}

package pipeline

import (
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

const (
	// MinTicks is the mark of a split that has given no row yet.
	MinTicks int64 = math.MinInt64
	// MaxTicks is the mark of a split that has ended.
	MaxTicks int64 = math.MaxInt64

	// MinEventTime and MaxEventTime bound the event times that every sink can hold,
	// 1900-01-01 to 2299-12-31 (half open). A time outside is Dead with reason
	// time_range.
	MinEventTime int64 = -2208988800 * 1e6
	MaxEventTime int64 = 10413792000 * 1e6
)

// Ticks converts a configured duration; fractions of a tick are cut.
func Ticks(d time.Duration) int64 { return d.Microseconds() }

// Timestamp is the type of event time, ingest time and window bounds.
var Timestamp = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

// AddTicks returns a + b, saturated at the ends of int64.
func AddTicks(a, b int64) int64 {
	s := a + b
	if a > 0 && b > 0 && s < 0 {
		return math.MaxInt64
	}
	if a < 0 && b < 0 && s >= 0 {
		return math.MinInt64
	}
	return s
}

// SubTicks returns a - b, saturated at the ends of int64.
func SubTicks(a, b int64) int64 {
	if b == math.MinInt64 {
		if a >= 0 {
			return math.MaxInt64
		}
		return a - b
	}
	return AddTicks(a, -b)
}

package traffic

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Status says whether an anomaly is one.
type Status string

const (
	Unverified    Status = "UNVERIFIED"
	Verified      Status = "VERIFIED"
	FalsePositive Status = "FALSE_POSITIVE"
)

// known tells whether s is a status.
func (s Status) known() bool { return s == Unverified || s == Verified || s == FalsePositive }

// MergeConfig says how the events of an entity's signals become anomalies.
type MergeConfig struct {
	// Gap is by how much, in ticks, events are widened on both sides: those that touch then are
	// one anomaly.
	Gap int64
	// AutoVerify is how many signals must see an anomaly for it to be verified without a
	// person; 0 leaves that to people.
	AutoVerify int
	// Quorum is how many must see it for it to be published.
	Quorum int
}

// DefaultMergeConfig publishes what one signal sees and believes two.
func DefaultMergeConfig() MergeConfig {
	return MergeConfig{Gap: time.Hour.Microseconds(), AutoVerify: 2, Quorum: 1}
}

// Validate returns every problem.
func (c MergeConfig) Validate() error {
	var errs []error
	if c.Gap < 0 {
		errs = append(errs, fmt.Errorf("gap %d: must not be negative", c.Gap))
	}
	if c.AutoVerify < 0 {
		errs = append(errs, fmt.Errorf("auto_verify_sources %d: must not be negative; 0 leaves it to people", c.AutoVerify))
	}
	if c.Quorum < 1 {
		errs = append(errs, fmt.Errorf("quorum %d: want at least 1", c.Quorum))
	}
	return errors.Join(errs...)
}

// SignalEvent is an event that a signal has seen; one without a signal is an entry by hand.
type SignalEvent struct {
	Signal string
	Event
}

// Anomaly is what the signals of one entity have seen together.
type Anomaly struct {
	Start   int64
	End     int64 // means nothing while any event has none (HasEnd)
	HasEnd  bool
	Signals []string // sorted, each once
	Status  Status
	Events  []SignalEvent // by start
}

// Merge makes the anomalies of an entity, by start. Those that fewer signals than the quorum
// have seen are left out. An event without a signal is an entry by hand: it needs no quorum.
func Merge(cfg MergeConfig, events []SignalEvent) []Anomaly {
	return slices.DeleteFunc(group(cfg, events), func(a Anomaly) bool { return len(a.Signals) < cfg.Quorum && !a.byHand() })
}

// byHand tells whether a person has entered it.
func (a Anomaly) byHand() bool {
	return slices.ContainsFunc(a.Events, func(e SignalEvent) bool { return e.Signal == "" })
}

// open tells whether an event goes on.
func (a Anomaly) open() bool {
	return slices.ContainsFunc(a.Events, func(e SignalEvent) bool { return e.Reason == StillOpen })
}

// group is Merge without a quorum.
func group(cfg MergeConfig, events []SignalEvent) []Anomaly {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b SignalEvent) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Signal, b.Signal))
	})
	var out []Anomaly
	var until int64 // what the last anomaly covers; of one that is open, everything
	forever := false
	for _, e := range events {
		if len(out) == 0 || !forever && e.Start-cfg.Gap > until+cfg.Gap {
			out = append(out, Anomaly{Start: e.Start, HasEnd: true})
			until, forever = e.Start, false
		}
		a := &out[len(out)-1]
		a.Events = append(a.Events, e)
		if i, there := slices.BinarySearch(a.Signals, e.Signal); !there && e.Signal != "" {
			a.Signals = slices.Insert(a.Signals, i, e.Signal)
		}
		switch {
		case e.HasEnd:
			until = max(until, e.End)
			a.End = max(a.End, e.End)
		case e.Reason == Expired:
			until = max(until, e.ClosedAt)
			a.HasEnd = false
		default:
			forever, a.HasEnd = true, false
		}
	}
	for i := range out {
		a := &out[i]
		a.Status = Unverified
		if cfg.AutoVerify > 0 && len(a.Signals) >= cfg.AutoVerify || a.byHand() {
			a.Status = Verified
		}
		if !a.HasEnd {
			a.End = 0
		}
	}
	return out
}

// UUID is the name of an anomaly: version 5 of type (LOCATION or AS), entity and start, the same
// in every replay.
func (a Anomaly) UUID(typ, entity string) string {
	space := [16]byte{0x6b, 0xa7, 0xb8, 0x12, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8} // OID, RFC 4122
	sum := sha1.Sum(append(space[:], typ+"|"+entity+"|"+strconv.FormatInt(a.Start/1000, 10)...))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	h := hex.EncodeToString(u)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// EligibilityConfig is for entities of which no number of clients is known: a series with too
// little in it shows drops by chance.
type EligibilityConfig struct {
	Median float64 // of the slots of 14 days, at least
	P5     float64
	// Leave is the part of the limits below which an entity leaves, after LeaveDays in a row.
	Leave     float64
	LeaveDays int
}

// DefaultEligibilityConfig is the choice of the reference.
func DefaultEligibilityConfig() EligibilityConfig {
	return EligibilityConfig{Median: 100, P5: 20, Leave: 0.8, LeaveDays: 3}
}

// Eligibility is the state of one entity; the zero value is not eligible.
type Eligibility struct {
	Eligible bool
	Below    int // days in a row
}

// eligibleDays is how much of a series decides.
const eligibleDays = 14

// Day takes what a day adds: the slots of the last 14 full days, missing ones left out.
func (e *Eligibility) Day(cfg EligibilityConfig, slots []float64) {
	slots = slices.DeleteFunc(slices.Clone(slots), func(v float64) bool { return v != v })
	slices.Sort(slots)
	value := func(i int) float64 { return slots[i] }
	median, p5 := percentile(len(slots), value, 0.5), percentile(len(slots), value, 0.05)
	full := len(slots) >= eligibleDays*day/2
	switch {
	case full && median >= cfg.Median && p5 >= cfg.P5:
		*e = Eligibility{Eligible: true}
	case full && median >= cfg.Leave*cfg.Median && p5 >= cfg.Leave*cfg.P5:
		e.Below = 0
	default:
		if e.Below++; e.Below >= cfg.LeaveDays {
			e.Eligible = false
		}
	}
}

// fewest is how many eligible entities there must be for a common cause to be told from a drop.
const fewest = 3

// CollectorFault tells whether so many of the eligible entities have opened events within two
// slots that the collector is the likelier cause: more than a third, of three or more.
func CollectorFault(opened, eligible int) bool { return eligible >= fewest && 3*opened > eligible }

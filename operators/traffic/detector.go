package traffic

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Sizes of the detector, in slots.
const (
	day       = 96
	lags      = 28               // days before the reference that are compared with it
	window    = 4                // the newest slots, which are judged
	history   = (lags + 1) * day // before the window
	span      = history + window // what the detector remembers
	quiet     = 16               // without a bad one close an event
	expiry    = 14 * day         // of an event that never ends
	similar   = 6                // days that the forecast is made of
	leastPair = 72               // of 96 must be there on both days
)

// WarmUp is how many slots a series needs for its first verdict.
const WarmUp = span

// DetectorConfig has the thresholds, as changes relative to the forecast.
type DetectorConfig struct {
	Sustained float64 // all of an hour is below
	Point     float64 // one slot is below
	Closing   float64 // a smaller drop still counts
	// LeastDrop is the part of the signal's magnitude that a drop must have.
	LeastDrop float64
	// VerifiedOnly replaces what an event lost by the forecast only when somebody had verified
	// it by the time it closed: for series in which holidays are found more often than outages.
	VerifiedOnly bool
}

// DefaultDetectorConfig is the one of the golden cases.
func DefaultDetectorConfig() DetectorConfig {
	return DetectorConfig{Sustained: -0.4, Point: -0.6, Closing: -0.25, LeastDrop: 0.10}
}

// Validate returns every problem.
func (c DetectorConfig) Validate() error {
	var errs []error
	for _, t := range []struct {
		name string
		v    float64
	}{{"sustained", c.Sustained}, {"point", c.Point}, {"closing", c.Closing}} {
		if !(t.v > -1 && t.v < 0) {
			errs = append(errs, fmt.Errorf("%s %v: want a change between -1 and 0", t.name, t.v))
		}
	}
	if c.Closing < c.Sustained {
		errs = append(errs, fmt.Errorf("closing %v: want a smaller drop than sustained %v, or an event ends on half a recovery", c.Closing, c.Sustained))
	}
	if !(c.LeastDrop >= 0 && c.LeastDrop < 1) {
		errs = append(errs, fmt.Errorf("least_drop %v: want 0 or more, below 1", c.LeastDrop))
	}
	return errors.Join(errs...)
}

// Trigger says by what an event was opened.
type Trigger string

const (
	BySustained Trigger = "sustained"
	ByPoint     Trigger = "point"
)

// Close says why an event is over.
type Close string

const (
	StillOpen Close = ""
	Recovered Close = "recovered"
	Expired   Close = "expired" // it became the norm
)

// Event is a drop. Times are ticks.
type Event struct {
	Start      int64 // of the first slot
	End        int64 // of the last bad slot; means nothing while open or when it expired (HasEnd)
	HasEnd     bool
	DetectedAt int64
	ClosedAt   int64 // when Reason is not StillOpen
	Trigger    Trigger
	Reason     Close
	Slots      int // from Start to the end, the last slot while open, the closing one when expired
	// What was seen from Start to the last bad slot, missing slots left out.
	MinChange float64 // relative to the forecast
	Lost      float64
	Expected  float64
	Counted   int // slots
	// What the forecast is made of.
	Magnitude float64
	LagDays   []int // ascending
}

// Detector finds drops in the series of one signal. The series begins with the first slot that
// it is given.
type Detector struct {
	cfg   DetectorConfig
	first int64 // start of slot 0, ticks
	n     int   // slots so far

	x, y   [span]float64 // values and cleaned values of the last slots; NaN is missing
	dist   [lags]float64 // sums of squares over the pairs of the reference and its candidates
	pairs  [lags]int
	peak   float64  // the largest of dist since they were exact
	exact  bool     // dist has been summed anew for the slot at hand
	sorted []uint16 // where in y the history is, by value, without what is missing
	live   bool     // dist, pairs and sorted are of the slot at hand

	predicted float64 // of the newest slot; NaN when there was no forecast
	verdict   Status  // on the event that is open; "" when nobody has said anything

	open  bool
	event Event
	start int // slot
	last  int // bad slot
	calm  int // quiet slots since
	// Since the last bad slot; counted when the next one comes.
	minChange, lost, expected float64
	counted                   int
}

// NewDetector is for a series whose first slot begins at start.
func NewDetector(cfg DetectorConfig, start int64) (*Detector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Detector{cfg: cfg, first: start, predicted: math.NaN()}, nil
}

// Next is the start of the slot that is due.
func (d *Detector) Next() int64 { return d.slotStart(d.n) }

func (d *Detector) slotStart(n int) int64 { return d.first + int64(n)*SlotTicks }

func at(n int) int { return n % span }

// Open returns the event that is open.
func (d *Detector) Open() (Event, bool) {
	if !d.open {
		return Event{}, false
	}
	e := d.event
	e.Slots = d.n - d.start
	e.LagDays = slices.Clone(e.LagDays)
	return e, true
}

// Forecast is what was expected of the newest slot; false where there is no forecast.
func (d *Detector) Forecast() (float64, bool) { return d.predicted, !math.IsNaN(d.predicted) }

// Ready tells whether the newest slot was judged, or followed: the series is long enough.
func (d *Detector) Ready() bool { return d.n >= span }

// Newest appends the values of the newest slots, at most n, in order.
func (d *Detector) Newest(dst []float64, n int) []float64 {
	for t := max(0, d.n-min(n, span)); t < d.n; t++ {
		dst = append(dst, d.x[at(t)])
	}
	return dst
}

// Missing is the value of a slot without data. Negative ones are missing too, and those whose
// squares do not fit.
func Missing() float64 { return math.NaN() }

// mostVolume is the largest value of a slot.
const mostVolume = 1e150

// Add takes the next slot and returns the event that it closes, if it does.
func (d *Detector) Add(v float64) (Event, bool) {
	if !(v >= 0 && v <= mostVolume) {
		v = math.NaN()
	}
	n := d.n
	if d.live {
		d.forget(n)
	}
	d.x[at(n)], d.y[at(n)] = v, v
	d.n++
	d.predicted = math.NaN()
	switch {
	case n < span-1:
		return Event{}, false
	case d.open:
		return d.follow(n)
	}
	if d.live {
		d.advance(n)
	} else {
		d.rebuild(n)
	}
	if n%day == 0 { // exactly, so that errors of rounding do not add up
		d.measure(n)
	}
	d.judge(n)
	return Event{}, false
}

// forget takes what leaves with slot n out of the sums, while its values are there: the oldest
// pair of every lag, and the oldest value of the history.
func (d *Detector) forget(n int) {
	out := n - span // leaves the memory
	for j := range lags {
		d.pair(j, n-1-window-day+1, -1)
	}
	if v := d.y[at(out)]; !math.IsNaN(v) {
		i := d.rank(v)
		for d.sorted[i] != uint16(at(out)) { // among equals
			i++
		}
		d.sorted = slices.Delete(d.sorted, i, i+1)
	}
}

// rank is how many values of the history are below v.
func (d *Detector) rank(v float64) int {
	low, high := 0, len(d.sorted)
	for low < high {
		if mid := (low + high) / 2; d.y[d.sorted[mid]] < v {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// advance takes in what comes with slot n: the reference and the history end before the window.
func (d *Detector) advance(n int) {
	in := n - window
	for j := range lags {
		d.pair(j, in, 1)
		d.peak = max(d.peak, d.dist[j])
	}
	d.exact = false
	if v := d.y[at(in)]; !math.IsNaN(v) {
		d.sorted = slices.Insert(d.sorted, d.rank(v), uint16(at(in)))
	}
}

// pair adds or takes the pair of slot t and the one j+1 days before.
func (d *Detector) pair(j, t, sign int) {
	diff := d.y[at(t)] - d.y[at(t-(j+1)*day)]
	if math.IsNaN(diff) {
		return
	}
	d.dist[j] += float64(sign) * diff * diff
	d.pairs[j] += sign
}

// measure sums the distances anew for slot n.
func (d *Detector) measure(n int) {
	d.peak, d.exact = 0, true
	first := n - window - day + 1
	for j := range lags {
		sum, pairs := 0.0, 0
		reference, candidate := at(first), at(first-(j+1)*day)
		for range day {
			if diff := d.y[reference] - d.y[candidate]; diff == diff { // no NaN
				sum += diff * diff
				pairs++
			}
			reference, candidate = after(reference), after(candidate)
		}
		d.dist[j], d.pairs[j], d.peak = sum, pairs, max(d.peak, sum)
	}
}

// after is the place in the memory behind another one.
func after(place int) int {
	if place++; place == span {
		return 0
	}
	return place
}

// rebuild makes all that is kept for slot n anew.
func (d *Detector) rebuild(n int) {
	d.measure(n)
	d.collect(n)
	d.live = true
}

// collect sorts the history of slot n.
func (d *Detector) collect(n int) {
	if d.sorted == nil {
		d.sorted = make([]uint16, 0, history)
	}
	d.sorted = d.sorted[:0]
	for t := n - window - history + 1; t <= n-window; t++ {
		if !math.IsNaN(d.y[at(t)]) {
			d.sorted = append(d.sorted, uint16(at(t)))
		}
	}
	slices.SortFunc(d.sorted, func(a, b uint16) int { return cmp.Compare(d.y[a], d.y[b]) })
}

// magnitude is by how much the history varies.
func (d *Detector) magnitude() float64 {
	value := func(i int) float64 { return d.y[d.sorted[i]] }
	return percentile(len(d.sorted), value, 0.95) - percentile(len(d.sorted), value, 0.05)
}

// judge decides whether an event begins with slot n.
func (d *Detector) judge(n int) {
	days, ok := d.mostSimilar(n)
	if !ok {
		return
	}
	d.predicted = d.forecast(n, days[:])
	magnitude := d.magnitude()
	if !(magnitude > 0) {
		return
	}
	drop := func(t int, limit float64) bool {
		x, f := d.x[at(t)], d.forecast(t, days[:])
		return f > 0 && (x-f)/f < limit && f-x >= d.cfg.LeastDrop*magnitude // not with NaN
	}
	sustained := true
	for t := n - window + 1; t <= n; t++ {
		sustained = sustained && drop(t, d.cfg.Sustained)
	}
	trigger, start := BySustained, n-window+1
	if !sustained {
		if !drop(n, d.cfg.Point) {
			return
		}
		trigger, start = ByPoint, n
	}
	d.open, d.live, d.start, d.calm, d.verdict = true, false, start, 0, ""
	d.event = Event{Start: d.slotStart(start), DetectedAt: d.slotStart(n + 1), Trigger: trigger, Magnitude: magnitude, LagDays: slices.Clone(days[:])}
	d.minChange, d.lost, d.expected, d.counted = 0, 0, 0, 0
	for t := start; t <= n; t++ {
		f := d.forecast(t, days[:])
		d.count(d.x[at(t)], f)
		d.bad(t)
		d.y[at(t)] = f
	}
}

// rounding is how much of the largest of the sums since they were exact may be errors of
// rounding: a day's sums err by less than 1e-13 of it.
const rounding = 1e-12

// mostSimilar returns the days before whose distance from the reference is least, ascending;
// false when there are too few to compare with. Where rounding might decide which they are, as
// between days that are alike, or after a spike has left the sums, these are made anew.
func (d *Detector) mostSimilar(n int) (days [similar]int, ok bool) {
	days, margin, ok := d.nearest()
	if ok && !d.exact && !(margin > rounding*d.peak) {
		d.measure(n)
		days, _, ok = d.nearest()
	}
	return days, ok
}

// nearest ranks the candidates. Of equal distances the nearer day counts. The margin is by how
// much the best one that is left out is further away.
func (d *Detector) nearest() (days [similar]int, margin float64, ok bool) {
	var best [similar]float64
	left := math.Inf(1) // the least distance that is left out
	k := 0
	for j := range lags {
		if d.pairs[j] < leastPair {
			continue
		}
		distance := d.dist[j] * day / float64(d.pairs[j])
		if k == similar && distance >= best[k-1] {
			left = min(left, distance)
			continue
		}
		if k < similar {
			k++
		} else {
			left = best[k-1]
		}
		i := k - 1
		for ; i > 0 && best[i-1] > distance; i-- {
			best[i], days[i] = best[i-1], days[i-1]
		}
		best[i], days[i] = distance, j+1
	}
	margin = left - best[similar-1]
	slices.Sort(days[:])
	return days, margin, k == similar
}

// forecast is the lower median of what slot t had on the similar days; NaN when all miss.
func (d *Detector) forecast(t int, days []int) float64 {
	var values [similar]float64
	k := 0
	for _, j := range days {
		if v := d.y[at(t-j*day)]; !math.IsNaN(v) {
			values[k] = v
			k++
		}
	}
	if k == 0 {
		return math.NaN()
	}
	slices.Sort(values[:k])
	return values[(k-1)/2]
}

// percentile of n sorted values, with linear interpolation; 0 of none.
func percentile(n int, value func(i int) float64, p float64) float64 {
	if n == 0 {
		return 0
	}
	pos := p * float64(n-1)
	i := int(pos)
	if i+1 == n {
		return value(i)
	}
	return value(i) + (pos-float64(i))*(value(i+1)-value(i))
}

// count adds a slot to what waits for the next bad one.
func (d *Detector) count(x, f float64) {
	if math.IsNaN(x) || math.IsNaN(f) {
		return
	}
	if f > 0 {
		d.minChange = min(d.minChange, (x-f)/f)
	}
	d.lost += f - x
	d.expected += f
	d.counted++
}

// bad notes that slot t is: what waits belongs to the event.
func (d *Detector) bad(t int) {
	d.last, d.calm = t, 0
	d.event.MinChange = min(d.event.MinChange, d.minChange)
	d.event.Lost += d.lost
	d.event.Expected += d.expected
	d.event.Counted += d.counted
	d.minChange, d.lost, d.expected, d.counted = 0, 0, 0, 0
}

// follow looks at slot n while an event is open.
func (d *Detector) follow(n int) (Event, bool) {
	x, f := d.x[at(n)], d.forecast(n, d.event.LagDays)
	d.y[at(n)], d.predicted = f, f
	if !math.IsNaN(x) && !math.IsNaN(f) {
		d.count(x, f)
		if f > 0 && (x-f)/f < d.cfg.Closing && f-x >= d.cfg.LeastDrop*d.event.Magnitude {
			d.bad(n)
		} else {
			d.calm++
		}
	}
	switch {
	case d.calm == quiet:
		d.event.Reason, d.event.HasEnd, d.event.End = Recovered, true, d.slotStart(d.last+1)
		d.event.Slots = d.last + 1 - d.start
		d.restore(d.last+1, n)
	case n-d.start+1 == expiry:
		d.event.Reason, d.event.Slots = Expired, expiry
		d.restore(d.start, n)
	default:
		return Event{}, false
	}
	if d.verdict == FalsePositive || d.cfg.VerifiedOnly && d.verdict != Verified {
		d.restore(d.start, n)
	}
	d.event.ClosedAt, d.open = d.slotStart(n+1), false
	return d.event, true
}

// restore gives slots from..to their real values back, as far as they are remembered.
func (d *Detector) restore(from, to int) {
	for t := max(from, d.n-span); t <= to; t++ {
		d.y[at(t)] = d.x[at(t)]
	}
	d.live = false
}

// Judge takes what a person says of the events that start in [start, end). Of one that was a
// FalsePositive the slots get their real values back: what was found there was no drop. The one
// that is open is followed to its end all the same, or the next slot would open it again.
func (d *Detector) Judge(start, end int64, s Status) {
	if d.open && d.event.Start >= start && d.event.Start < end {
		d.verdict = s
	}
	if s != FalsePositive || end <= start {
		return
	}
	last := int64(d.n - 1)
	if d.open {
		last = int64(d.start - 1)
	}
	d.restore(int(max(floor(start-d.first)/SlotTicks, 0)), int(min(floor(end-1-d.first)/SlotTicks, last)))
}

// Detect runs a detector over a whole series whose first slot begins at start.
func Detect(cfg DetectorConfig, start int64, values []float64) ([]Event, error) {
	d, err := NewDetector(cfg, start)
	if err != nil {
		return nil, err
	}
	var out []Event
	for _, v := range values {
		if e, closed := d.Add(v); closed {
			out = append(out, e)
		}
	}
	if e, open := d.Open(); open {
		out = append(out, e)
	}
	return out, nil
}

package traffic_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/traffic"
)

// plain is the detector word by word, over a series that is kept whole: every slot looks at 29
// days anew.
type plain struct {
	cfg    traffic.DetectorConfig
	x, y   []float64
	open   bool
	start  int
	last   int
	calm   int
	days   []int
	event  traffic.Event
	events []traffic.Event
}

const (
	day  = 96
	slot = traffic.SlotTicks
)

func (p *plain) forecast(t int, days []int) float64 {
	var vs []float64
	for _, j := range days {
		if v := p.y[t-j*day]; !math.IsNaN(v) {
			vs = append(vs, v)
		}
	}
	if len(vs) == 0 {
		return math.NaN()
	}
	slices.Sort(vs)
	return vs[(len(vs)-1)/2]
}

func quantile(vs []float64, q float64) float64 {
	pos := q * float64(len(vs)-1)
	lo := int(math.Floor(pos))
	hi := min(lo+1, len(vs)-1)
	return vs[lo] + (pos-float64(lo))*(vs[hi]-vs[lo])
}

func (p *plain) add(v float64) {
	p.x, p.y = append(p.x, v), append(p.y, v)
	n := len(p.x) - 1
	if n < 29*day+3 {
		return
	}
	if p.open {
		p.follow(n)
		return
	}
	type candidate struct {
		j int
		d float64
	}
	var all []candidate
	for j := 1; j <= 28; j++ {
		sum, pairs := 0.0, 0
		for t := n - 99; t <= n-4; t++ {
			if diff := p.y[t] - p.y[t-j*day]; !math.IsNaN(diff) {
				sum += diff * diff
				pairs++
			}
		}
		if pairs >= 72 {
			all = append(all, candidate{j, sum * 96 / float64(pairs)})
		}
	}
	if len(all) < 6 {
		return
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		switch {
		case a.d < b.d:
			return -1
		case a.d > b.d:
			return 1
		}
		return 0
	})
	var days []int
	for _, c := range all[:6] {
		days = append(days, c.j)
	}
	slices.Sort(days)
	var seen []float64
	for t := n - 4 - 29*day + 1; t <= n-4; t++ {
		if !math.IsNaN(p.y[t]) {
			seen = append(seen, p.y[t])
		}
	}
	slices.Sort(seen)
	magnitude := quantile(seen, 0.95) - quantile(seen, 0.05)
	if magnitude == 0 {
		return
	}
	drop := func(t int, limit float64) bool {
		f := p.forecast(t, days)
		return f > 0 && (p.x[t]-f)/f < limit && f-p.x[t] >= 0.1*magnitude
	}
	trigger, from := traffic.BySustained, n-3
	for t := n - 3; t <= n; t++ {
		if !drop(t, p.cfg.Sustained) {
			trigger, from = traffic.ByPoint, n
		}
	}
	if trigger == traffic.ByPoint && !drop(n, p.cfg.Point) {
		return
	}
	p.open, p.start, p.last, p.calm, p.days = true, from, n, 0, days
	p.event = traffic.Event{Start: int64(from) * slot, DetectedAt: int64(n+1) * slot, Trigger: trigger, Magnitude: magnitude, LagDays: days}
	for t := from; t <= n; t++ {
		p.y[t] = p.forecast(t, days)
	}
}

func (p *plain) follow(n int) {
	f := p.forecast(n, p.days)
	p.y[n] = f
	if !math.IsNaN(p.x[n]) && !math.IsNaN(f) {
		if f > 0 && (p.x[n]-f)/f < p.cfg.Closing && f-p.x[n] >= 0.1*p.event.Magnitude {
			p.last, p.calm = n, 0
		} else {
			p.calm++
		}
	}
	switch {
	case p.calm == 16:
		p.end(n, traffic.Recovered)
		copy(p.y[p.last+1:], p.x[p.last+1:])
	case n-p.start+1 == 14*day:
		p.end(n, traffic.Expired)
		copy(p.y[p.start:], p.x[p.start:])
	}
}

// end closes the event, or tells what it is so far. What it lost is worked out from the
// forecasts of all its slots, which are in y.
func (p *plain) end(n int, why traffic.Close) {
	e := p.event
	e.Reason = why
	switch why {
	case traffic.Recovered:
		e.HasEnd, e.End, e.Slots, e.ClosedAt = true, int64(p.last+1)*slot, p.last+1-p.start, int64(n+1)*slot
	case traffic.Expired:
		e.Slots, e.ClosedAt = 14*day, int64(n+1)*slot
	default:
		e.Slots = n + 1 - p.start
	}
	for t := p.start; t <= p.last; t++ {
		if x, f := p.x[t], p.y[t]; !math.IsNaN(x) && !math.IsNaN(f) {
			if f > 0 {
				e.MinChange = min(e.MinChange, (x-f)/f)
			}
			e.Lost, e.Expected, e.Counted = e.Lost+f-x, e.Expected+f, e.Counted+1
		}
	}
	p.events, p.open = append(p.events, e), false
}

// randomSeries has the rhythm of days and weeks, noise, drops, rises, gaps and shifts.
func randomSeries(rng *rand.Rand) []float64 {
	n := 31*day + rng.IntN(25*day)
	level, noise := math.Pow(10, 1+5*rng.Float64()), 0.02+0.2*rng.Float64()
	whole, weekend := rng.IntN(2) == 0, 0.5+rng.Float64()
	vs := make([]float64, n)
	for i := range vs {
		v := level * (1.1 + math.Sin(2*math.Pi*float64(i%day)/day)) * (1 + noise*rng.NormFloat64())
		if i/day%7 > 4 {
			v *= weekend
		}
		vs[i] = max(0, v)
	}
	for range rng.IntN(12) {
		from, length := 20*day+rng.IntN(n-20*day), 1+rng.IntN(1<<rng.IntN(8))
		if rng.IntN(8) == 0 {
			length = 16 * day
		}
		factor := []float64{0, 0.1, 0.35, 0.45, 0.7, 3, math.NaN()}[rng.IntN(7)]
		for i := from; i < min(n, from+length); i++ {
			vs[i] *= factor
		}
	}
	for range rng.IntN(40) {
		vs[rng.IntN(n)] = math.NaN()
	}
	if whole {
		for i := range vs {
			vs[i] = math.Floor(vs[i])
		}
	}
	return vs
}

// TestDetectorPlain: the detector says what the plain one says.
func TestDetectorPlain(t *testing.T) {
	runs := 15
	if os.Getenv("TIDEMARK_NIGHTLY") != "" {
		runs = 1000
	}
	kinds := map[string]int{}
	for seed := range runs {
		values := randomSeries(rand.New(rand.NewPCG(uint64(seed), 7)))
		cfg := traffic.DefaultDetectorConfig()
		p := plain{cfg: cfg}
		for _, v := range values {
			p.add(v)
		}
		if p.open {
			p.end(len(values)-1, traffic.StillOpen)
		}
		got, err := traffic.Detect(cfg, 0, values)
		if err != nil {
			t.Fatal(err)
		}
		var g, w []string
		for _, e := range got {
			g = append(g, golden(e).text())
			kinds[string(e.Trigger)]++
			kinds[string(e.Reason)]++
		}
		for _, e := range p.events {
			w = append(w, golden(e).text())
		}
		if !slices.Equal(g, w) {
			t.Fatalf("seed %d:\n%s\nwant\n%s", seed, strings.Join(g, "\n"), strings.Join(w, "\n"))
		}
		for i := range got {
			if got[i].Counted != p.events[i].Counted || !golden(got[i]).equals(golden(p.events[i])) {
				t.Fatalf("seed %d: %s\nwant %s", seed, shown(golden(got[i])), shown(golden(p.events[i])))
			}
		}
	}
	for _, k := range []string{"point", "sustained", "recovered", "expired", ""} {
		if kinds[k] == 0 {
			t.Errorf("no event of kind %q among %v: the test proves little", k, kinds)
		}
	}
}

// TestDetectorRounding: neither days that are alike nor a spike that has left the sums a moment
// ago, and its errors of rounding with it not, decide what the forecast is made of.
func TestDetectorRounding(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		vs := week(32 * day)
		for i := range vs {
			vs[i] = 0.1*vs[i] + float64(rng.IntN(2))*0.3 // often as far from one day as from another
		}
		vs[30*day+10] *= 1e9
		scale(vs, 31*day+40, 8, 0.1)
		p := plain{cfg: traffic.DefaultDetectorConfig()}
		for _, v := range vs {
			p.add(v)
		}
		got, err := traffic.Detect(p.cfg, 0, vs)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || len(p.events) != 1 || !slices.Equal(got[0].LagDays, p.events[0].LagDays) {
			t.Fatalf("seed %d: %+v, want %+v", seed, got, p.events)
		}
	}
}

// week is a series without noise: a level by the hour of the day.
func week(slots int) []float64 {
	vs := make([]float64, slots)
	for i := range vs {
		vs[i] = 100 + float64(i%day)
	}
	return vs
}

// TestDetectorEdges: what the choices say at their edges.
func TestDetectorEdges(t *testing.T) {
	const warm = 29*day + 3 // the first slot with a verdict
	nan := math.NaN()
	for name, c := range map[string]struct {
		change func(vs []float64)
		want   string
	}{
		"nothing": {func([]float64) {}, ""},
		"a drop before the first verdict is not judged": {func(vs []float64) { vs[warm-1] = 0 }, ""},
		"the first verdict":                             {func(vs []float64) { vs[warm] = 0 }, "2787 point recovered 1"},
		"a point at the threshold is above it":          {func(vs []float64) { vs[warm+1] *= 0.4 }, ""},
		"a point below it":                              {func(vs []float64) { vs[warm+1] *= 0.399 }, "2788 point recovered 1"},
		"three slots are not sustained":                 {func(vs []float64) { scale(vs, warm+1, 3, 0.5) }, ""},
		"four are":                                      {func(vs []float64) { scale(vs, warm+1, 4, 0.5) }, "2788 sustained recovered 4"},
		"rises are not reported":                        {func(vs []float64) { scale(vs, warm+1, 8, 9) }, ""},
		"missing is no drop":                            {func(vs []float64) { scale(vs, warm+1, 8, nan) }, ""},
		"missing between drops does not make an hour":   {func(vs []float64) { scale(vs, warm+1, 4, 0.5); vs[warm+2] = nan }, ""},
		"a bounce of less than four hours is one event": {func(vs []float64) { scale(vs, warm+1, 2, 0); scale(vs, warm+18, 2, 0) }, "2788 point recovered 19"},
		"of four hours two":                             {func(vs []float64) { scale(vs, warm+1, 2, 0); scale(vs, warm+19, 2, 0) }, "2788 point recovered 2, 2806 point recovered 2"},
		"missing slots do not count as quiet":           {func(vs []float64) { scale(vs, warm+1, 2, 0); scale(vs, warm+3, 5, nan); scale(vs, warm+20, 1, 0) }, "2788 point recovered 20"},
		"half a recovery keeps it open":                 {func(vs []float64) { scale(vs, warm+1, 2, 0); scale(vs, warm+3, 40, 0.7) }, "2788 point recovered 42"},
		"it goes on to the end":                         {func(vs []float64) { scale(vs, warm+1, len(vs)-warm-1, 0.1) }, fmt.Sprintf("2788 point  %d", 40*day-warm-1)},
	} {
		vs := week(40 * day)
		c.change(vs)
		events, err := traffic.Detect(traffic.DefaultDetectorConfig(), 0, vs)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, fmt.Sprintf("%d %s %s %d", e.Start/slot, e.Trigger, e.Reason, e.Slots))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
}

func scale(vs []float64, from, n int, by float64) {
	for i := from; i < from+n; i++ {
		vs[i] *= by
	}
}

// TestJudge: ten mornings with little traffic are ten events as long as each is replaced by what
// was forecast. Where they get their real values back, because they were no drops or nobody has
// verified them, such mornings are what is expected from the fourth one on: three of the six
// most similar days have had one by then.
func TestJudge(t *testing.T) {
	const from, mornings = 31*day + 24, 10
	for name, c := range map[string]struct {
		verdict traffic.Status
		after   int  // slots from when it opened to the verdict
		only    bool // VerifiedOnly
		want    int  // events
	}{
		"nobody says anything":     {"", 0, false, 10},
		"false positives, at once": {traffic.FalsePositive, 1, false, 3},
		"false positives, later":   {traffic.FalsePositive, 60, false, 3},
		"verified":                 {traffic.Verified, 1, false, 10},
		"only what is verified":    {"", 0, true, 3},
		"only that, and it is":     {traffic.Verified, 1, true, 10},
		"too late to be replaced":  {traffic.Verified, 60, true, 3},
	} {
		cfg := traffic.DefaultDetectorConfig()
		cfg.VerifiedOnly = c.only
		d, err := traffic.NewDetector(cfg, 0)
		if err != nil {
			t.Fatal(err)
		}
		vs := week(45 * day)
		for m := range mornings {
			scale(vs, from+m*day, 24, 0.3)
		}
		n, opened := 0, 0
		for i, v := range vs {
			if c.verdict != "" && opened > 0 && i == opened+c.after {
				d.Judge(int64(opened)*slot, int64(opened+24)*slot, c.verdict)
			}
			e, closed := d.Add(v)
			if _, open := d.Open(); open && opened+day <= i {
				opened = i
			}
			if closed {
				if n++; e.Slots != 24 {
					t.Errorf("%s: event %d has %d slots", name, n, e.Slots)
				}
			}
		}
		if n != c.want {
			t.Errorf("%s: %d events, want %d", name, n, c.want)
		}
	}
}

// TestDetectorMemory: 700 entities with three signals fit into 150 MB.
func TestDetectorMemory(t *testing.T) {
	const some, all = 70, 2100
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	vs := week(30 * day)
	scale(vs, 29*day+40, 8, 0.1)
	before := heap()
	ds := make([]*traffic.Detector, some)
	for i := range ds {
		d, err := traffic.NewDetector(traffic.DefaultDetectorConfig(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			d.Add(v)
		}
		ds[i] = d
	}
	bytes := (heap() - before) / some * all
	t.Logf("%d detectors: %.0f MB", all, float64(bytes)/1e6)
	if bytes > 150e6 {
		t.Errorf("%d bytes for %d detectors, want at most 150 MB", bytes, all)
	}
	runtime.KeepAlive(ds)
}

func TestConfigs(t *testing.T) {
	for want, err := range map[string]error{
		"sustained 0":                       traffic.DetectorConfig{Point: -0.6, Closing: -0.25}.Validate(),
		"closing -0.5: want a smaller drop": traffic.DetectorConfig{Sustained: -0.4, Point: -0.6, Closing: -0.5}.Validate(),
		"least_drop 1":                      traffic.DetectorConfig{Sustained: -0.4, Point: -0.6, Closing: -0.25, LeastDrop: 1}.Validate(),
		"quorum 0":                          traffic.MergeConfig{}.Validate(),
		"bits 16":                           traffic.CounterConfig{Bits: 16, MaxGap: 1, Policy: traffic.PolicyGap}.Validate(),
		`policy ""`:                         traffic.CounterConfig{Bits: 32, MaxGap: 1}.Validate(),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestMerge: what touches when widened is one anomaly.
func TestMerge(t *testing.T) {
	const hour = 4 * slot
	ev := func(signal string, start, end int64) traffic.SignalEvent {
		e := traffic.SignalEvent{Signal: signal, Event: traffic.Event{Start: start * hour, End: end * hour, HasEnd: end > 0, Reason: traffic.Recovered}}
		if end <= 0 {
			e.Reason = traffic.StillOpen
		}
		if end < 0 {
			e.Reason, e.ClosedAt = traffic.Expired, -end*hour
		}
		return e
	}
	for name, c := range map[string]struct {
		cfg    traffic.MergeConfig
		events []traffic.SignalEvent
		want   string
	}{
		"two hours apart":           {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("b", 4, 5), ev("a", 1, 2)}, "1-5 [a b] VERIFIED"},
		"more":                      {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", 1, 2), ev("b", 5, 6)}, "1-2 [a] UNVERIFIED; 5-6 [b] UNVERIFIED"},
		"one inside another":        {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", 1, 20), ev("b", 3, 4), ev("a", 21, 22)}, "1-22 [a b] VERIFIED"},
		"one is open":               {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", 1, 0), ev("b", 90, 91)}, "1-? [a b] VERIFIED"},
		"one has become the norm":   {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", 1, -9), ev("b", 90, 91)}, "1-? [a] UNVERIFIED; 90-91 [b] UNVERIFIED"},
		"the same signal twice":     {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", 1, 2), ev("a", 3, 4)}, "1-4 [a] UNVERIFIED"},
		"people verify":             {traffic.MergeConfig{Quorum: 1}, []traffic.SignalEvent{ev("a", 1, 2), ev("b", 1, 2)}, "1-2 [a b] UNVERIFIED"},
		"too few have seen it":      {traffic.MergeConfig{Quorum: 2}, []traffic.SignalEvent{ev("a", 1, 2), ev("b", 1, 2), ev("a", 9, 10)}, "1-2 [a b] UNVERIFIED"},
		"nothing":                   {traffic.DefaultMergeConfig(), nil, ""},
		"an open one ends nowhere":  {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", 1, 0), ev("b", 2, 3)}, "1-? [a b] VERIFIED"},
		"an early one, a later one": {traffic.DefaultMergeConfig(), []traffic.SignalEvent{ev("a", -5, 2)}, "-5-2 [a] UNVERIFIED"},
	} {
		var got []string
		for _, a := range traffic.Merge(c.cfg, c.events) {
			end := "?"
			if a.HasEnd {
				end = fmt.Sprint(a.End / hour)
			}
			got = append(got, fmt.Sprintf("%d-%s %v %s", a.Start/hour, end, a.Signals, a.Status))
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
	a, b := traffic.Anomaly{Start: 1}, traffic.Anomaly{Start: 1e6}
	if u := a.UUID("AS", "AS64500"); u != a.UUID("AS", "AS64500") || u == b.UUID("AS", "AS64500") || u == a.UUID("LOCATION", "AS64500") || len(u) != 36 || u[14] != '5' {
		t.Error(u)
	}
}

func TestEligibility(t *testing.T) {
	cfg := traffic.DefaultEligibilityConfig()
	days := func(level float64) []float64 { return slices.Repeat([]float64{level}, 14*day) }
	var e traffic.Eligibility
	for i, c := range []struct {
		level float64
		want  bool
	}{{99, false}, {100, true}, {85, true}, {79, true}, {79, true}, {85, true}, {79, true}, {79, true}, {79, false}, {85, false}, {100, true}} {
		if e.Day(cfg, days(c.level)); e.Eligible != c.want {
			t.Errorf("day %d at %v: %t", i, c.level, e.Eligible)
		}
	}
	if traffic.CollectorFault(1, 3) || !traffic.CollectorFault(2, 3) || traffic.CollectorFault(0, 0) {
		t.Error("a third is not more than a third")
	}
}

func BenchmarkDetector(b *testing.B) {
	b.Run("random", func(b *testing.B) { benchmarkDetector(b, randomSeries(rand.New(rand.NewPCG(3, 7)))) })
	b.Run("alike", func(b *testing.B) { benchmarkDetector(b, week(60*day)) }) // every slot is measured anew
}

func benchmarkDetector(b *testing.B, values []float64) {
	d, err := traffic.NewDetector(traffic.DefaultDetectorConfig(), 0)
	if err != nil {
		b.Fatal(err)
	}
	for _, v := range values {
		d.Add(v)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		d.Add(values[i%len(values)])
		i++
	}
}

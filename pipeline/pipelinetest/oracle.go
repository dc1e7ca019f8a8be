package pipelinetest

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OracleSpec says what windows an Oracle makes. Times are ticks, within 2^61 of 0.
type OracleSpec struct {
	// Kind is hopping (tumbling with Slide = Size), cumulate (a step of Slide), days (local
	// days of Zone), global or session.
	Kind                string
	Size, Slide, Offset int64
	Zone                *time.Location
	Gap, MaxLength      int64 // MaxLength of a session, math.MaxInt64 for any
	Merge               bool  // sessions that touch are one
	Lateness            int64
	// Bound, QuietAfter and MaxAhead are those of pipeline.FrontConfig; math.MaxInt64 for
	// splits that are never quiet, and for rows that may be ahead as they like.
	Bound, QuietAfter, MaxAhead int64
	Flush                       bool // when all splits are quiet the largest of their marks counts
	// MaxOffline is that of a clock by key, 0 for none; windows only.
	MaxOffline int64
}

// Oracle is the plain version of every kind of window, one row at a time: it keeps all
// rows, frees nothing, knows no batches, slices, shards or panes, and has the rules of
// time written out once more. It shares no code with the engine.
type Oracle struct {
	OracleSpec
	Late    []OracleLate
	Missed  int64 // (row, window) pairs that were late; of sessions, late rows
	Outside int64 // rows that lie in no window

	splits  []*oracleSplit
	merged  int64
	windows map[oracleKey]*OracleWindow
	open    map[string][]*OracleWindow // sessions by key
	days    map[string]int64           // first instant of a local day
	newest  map[string]int64           // largest time of a key that moves its clock
	arrived int
}

type oracleKey struct {
	key        string
	start, end int64
}

type oracleSplit struct {
	mark, last      int64 // last: broker timestamp of the last record
	quiet, trailing bool
}

// OracleWindow is what a window of a key holds.
type OracleWindow struct {
	Key        string
	Start, End int64
	Rows       []Row // in order of arrival
	Late       int64 // of them, those that came after their verdict had passed the end
}

// OracleLate is a late row: why, by how much, and the last window that it missed.
type OracleLate struct {
	Row
	Reason         string
	By, Start, End int64
}

// NewOracle makes an oracle for rows of the given number of splits.
func NewOracle(spec OracleSpec, splits int) *Oracle {
	o := &Oracle{OracleSpec: spec, merged: math.MinInt64, windows: map[oracleKey]*OracleWindow{}, open: map[string][]*OracleWindow{}, days: map[string]int64{}, newest: map[string]int64{}}
	for range splits {
		o.splits = append(o.splits, &oracleSplit{mark: math.MinInt64, last: math.MinInt64})
	}
	return o
}

// plus adds and stays within int64.
func plus(a, b int64) int64 {
	s := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
	switch {
	case s.IsInt64():
		return s.Int64()
	case s.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// floor is the largest multiple of step that is not above t.
func floor(t, step int64) int64 {
	rem := new(big.Int).Mod(big.NewInt(t), big.NewInt(step)) // Euclidean
	return t - rem.Int64()
}

// Add takes the next row that arrives; the rows of a split arrive in offset order.
func (o *Oracle) Add(r Row) {
	s := o.splits[r.Split]
	o.arrived++
	r.arrived = o.arrived
	verdict := s.mark
	if s.mark < o.merged { // it was quiet, or came late: what was given away is gone
		verdict = o.merged
	}
	moves := r.Time <= plus(r.Ingest, o.MaxAhead)
	if o.MaxOffline > 0 {
		verdict = o.clock(r.Key, verdict)
		if newest, heard := o.newest[r.Key]; moves && (!heard || r.Time > newest) {
			o.newest[r.Key] = r.Time
		}
	}
	if o.Kind == "session" {
		o.session(r, verdict, s.mark)
	} else {
		o.window(r, verdict, s.mark)
	}
	if moves {
		s.mark = max(s.mark, plus(r.Time, -o.Bound-1))
	}
	o.returns(s)
	s.last = r.Ingest
	o.merge()
}

// clock is the mark of a key: its split's at most, and at most so far behind that.
func (o *Oracle) clock(key string, mark int64) int64 {
	if mark == math.MinInt64 || mark == math.MaxInt64 {
		return mark
	}
	at := plus(mark, -o.MaxOffline)
	if newest, heard := o.newest[key]; heard {
		at = max(at, plus(newest, -o.Bound-1))
	}
	return min(mark, at)
}

func (o *Oracle) returns(s *oracleSplit) {
	if s.quiet {
		s.quiet, s.trailing = false, s.mark < o.merged
	}
}

// LogEnd takes note that a split was read to its log end by a fetch that was sent after a
// record of another split had come with broker timestamp seen; empty: it never had any.
func (o *Oracle) LogEnd(split int32, seen int64, empty bool) {
	s := o.splits[split]
	if o.QuietAfter == math.MaxInt64 || s.quiet {
		return
	}
	if empty || s.last != math.MinInt64 && seen != math.MinInt64 && plus(seen, -s.last) > o.QuietAfter {
		s.quiet = true
		o.merge()
	}
}

// End takes note that a bounded split has ended.
func (o *Oracle) End(split int32) {
	s := o.splits[split]
	o.returns(s)
	s.mark = math.MaxInt64
	o.merge()
}

// merge raises the merged mark to the least of the splits that count.
func (o *Oracle) merge() {
	least, any := int64(math.MaxInt64), false
	for _, s := range o.splits {
		s.trailing = s.trailing && s.mark < o.merged
		if !s.quiet && !s.trailing {
			least, any = min(least, s.mark), true
		}
	}
	if any {
		o.merged = max(o.merged, least)
	}
	if o.Flush && !slices.ContainsFunc(o.splits, func(s *oracleSplit) bool { return !s.quiet }) {
		for _, s := range o.splits {
			o.merged = max(o.merged, s.mark)
		}
	}
}

// last is the mark that completes a window.
func last(end int64) int64 {
	if end == math.MaxInt64 {
		return end
	}
	return end - 1
}

func (o *Oracle) window(r Row, verdict, own int64) {
	all := o.bounds(r.Time)
	if len(all) == 0 {
		o.Outside++
		return
	}
	taken := false
	for _, b := range all {
		if plus(last(b[1]), o.Lateness) <= verdict {
			o.Missed++
			continue
		}
		taken = true
		at := oracleKey{r.Key, b[0], b[1]}
		w := o.windows[at]
		if w == nil {
			w = &OracleWindow{Key: r.Key, Start: b[0], End: b[1]}
			o.windows[at] = w
		}
		w.take(r, verdict)
	}
	if !taken {
		o.late(r, verdict, own, all[len(all)-1])
	}
}

func (w *OracleWindow) take(r Row, verdict int64) {
	w.Rows = append(w.Rows, r)
	if last(w.End) <= verdict {
		w.Late++
	}
}

func (o *Oracle) late(r Row, verdict, own int64, missed [2]int64) {
	reason := "quiet_split"
	if plus(last(missed[1]), o.Lateness) <= own {
		reason = "late"
	}
	o.Late = append(o.Late, OracleLate{r, reason, plus(verdict, -r.Time), missed[0], missed[1]})
}

// bounds lists the windows that hold t, by end.
func (o *Oracle) bounds(t int64) (out [][2]int64) {
	switch o.Kind {
	case "global":
		return [][2]int64{{math.MinInt64, math.MaxInt64}}
	case "days":
		return [][2]int64{o.day(t)}
	case "cumulate":
		start := floor(t-o.Offset, o.Size) + o.Offset
		for end := start + o.Slide; end <= start+o.Size; end += o.Slide {
			if t < end {
				out = append(out, [2]int64{start, end})
			}
		}
		return out
	}
	for start := floor(t-o.Offset-o.Size, o.Slide) + o.Offset; start <= t; start += o.Slide {
		if t < start+o.Size {
			out = append(out, [2]int64{start, start + o.Size})
		}
	}
	return out
}

// day is the local day of t: it begins when the clock of the zone first shows its date, or
// a later one, and ends when the next begins.
func (o *Oracle) day(t int64) [2]int64 {
	y, m, d := time.UnixMicro(t).In(o.Zone).Date()
	for back := -2; ; back++ { // the first of the days around that has not ended
		if end := o.begins(y, m, d+back+1); t < end {
			start := o.begins(y, m, d+back)
			return [2]int64{start, end}
		}
	}
}

// begins looks at the clock of the zone every minute.
func (o *Oracle) begins(y int, m time.Month, d int) int64 {
	date := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	name := date.Format(time.DateOnly)
	if at, ok := o.days[name]; ok {
		return at
	}
	at := date.Add(-26 * time.Hour)
	for at.In(o.Zone).Format(time.DateOnly) < name {
		at = at.Add(time.Minute)
	}
	o.days[name] = at.UnixMicro()
	return o.days[name]
}

// session puts a row into its session: all those of its key that its own window meets, and
// that its verdict has not passed, become one with it. A session that would grow beyond
// MaxLength is cut, and the row joins the earliest that holds its time.
func (o *Oracle) session(r Row, verdict, own int64) {
	start, end := r.Time, plus(r.Time, o.Gap)
	passed := func(end, more int64) bool { return plus(plus(last(end), more), o.Lateness) <= verdict }
	var meets, others []*OracleWindow
	for _, s := range o.open[r.Key] {
		over := s.Start < end && start < s.End && !passed(s.End, 0)
		touch := o.Merge && (s.Start == end || start == s.End) && !passed(s.End, 1)
		if over || touch {
			meets = append(meets, s)
		} else {
			others = append(others, s)
		}
	}
	slices.SortStableFunc(meets, func(a, b *OracleWindow) int { return int(a.Start - b.Start) })
	into := &OracleWindow{Key: r.Key, Start: start, End: end}
	found := false
	for i, s := range meets {
		if s.Start <= start && start < plus(s.Start, o.MaxLength) {
			s.End = min(max(s.End, end), plus(s.Start, o.MaxLength))
			into, meets, found = s, slices.Delete(meets, i, i+1), true
			break
		}
	}
	for _, s := range meets {
		if max(into.End, s.End)-min(into.Start, s.Start) > o.MaxLength {
			others = append(others, s)
			continue
		}
		found = true
		into.Start, into.End = min(into.Start, s.Start), max(into.End, s.End)
		into.Rows, into.Late = append(into.Rows, s.Rows...), into.Late+s.Late
	}
	if !found && passed(end, 0) {
		o.Missed++
		o.late(r, verdict, own, [2]int64{start, end})
		return
	}
	into.take(r, verdict)
	o.open[r.Key] = append(others, into)
}

// Windows returns every window with the rows that it took, in no order.
func (o *Oracle) Windows() (all []*OracleWindow) {
	for _, w := range o.windows {
		all = append(all, w)
	}
	for _, list := range o.open {
		all = append(all, list...)
	}
	return all
}

// Value renders an aggregate of column value or level, or the count of rows, as a result
// column renders it. Sums are exact and rounded once.
func (w *OracleWindow) Value(fn, column string) string {
	byTime := slices.Clone(w.Rows)
	slices.SortFunc(byTime, func(a, b Row) int {
		switch {
		case before(a, b):
			return -1
		case before(b, a):
			return 1
		}
		return 0
	})
	switch fn {
	case "count":
		return strconv.Itoa(len(w.Rows))
	case "id_sum", "id_xor":
		var sum, xor uint64
		for _, r := range w.Rows {
			sum += rowID(r)
			xor ^= rowID(r)
		}
		if fn == "id_xor" {
			return strconv.FormatInt(int64(xor), 10)
		}
		return strconv.FormatInt(int64(sum), 10)
	case "collect":
		arrived := slices.Clone(w.Rows)
		slices.SortStableFunc(arrived, func(a, b Row) int { return a.arrived - b.arrived })
		return listText(arrived)
	case "collect_by_ts":
		return listText(byTime)
	}
	number := func(r Row) *big.Rat {
		if column == "level" {
			return new(big.Rat).SetFloat64(r.Level)
		}
		return new(big.Rat).SetInt64(r.Value)
	}
	sum := new(big.Rat)
	least, most := byTime[0], byTime[0]
	for _, r := range byTime {
		sum.Add(sum, number(r))
		if number(r).Cmp(number(least)) < 0 {
			least = r
		}
		if number(r).Cmp(number(most)) > 0 {
			most = r
		}
	}
	text := func(r Row) string {
		if column == "level" {
			return floatText(r.Level)
		}
		return strconv.FormatInt(r.Value, 10)
	}
	switch fn {
	case "min":
		return text(least)
	case "max":
		return text(most)
	case "first":
		return text(byTime[0])
	case "last":
		return text(byTime[len(byTime)-1])
	case "variance":
		if len(byTime) < 2 {
			return "(null)"
		}
		n := new(big.Rat).SetInt64(int64(len(byTime)))
		mean := new(big.Rat).Quo(sum, n)
		squares := new(big.Rat)
		for _, r := range byTime {
			d := new(big.Rat).Sub(number(r), mean)
			squares.Add(squares, d.Mul(d, d))
		}
		f, _ := squares.Quo(squares, n.Sub(n, big.NewRat(1, 1))).Float64()
		return floatText(f)
	case "distinct": // exact for so few
		values := map[string]bool{}
		for _, r := range byTime {
			values[text(r)] = true
		}
		return strconv.Itoa(len(values))
	case "increase": // a step down is a new start from 0
		rise := new(big.Rat)
		for i, r := range byTime[1:] {
			step := new(big.Rat).Sub(number(r), number(byTime[i]))
			if step.Sign() < 0 {
				if step = number(r); step.Sign() < 0 {
					step = new(big.Rat) // no counter is below 0
				}
			}
			rise.Add(rise, step)
		}
		if len(byTime) < 2 || !rise.Num().IsInt64() {
			return "(null)"
		}
		return rise.Num().String()
	case "mean":
		f, _ := sum.Float64()
		return floatText(f / float64(len(byTime)))
	case "sum":
		if column == "level" {
			f, _ := sum.Float64()
			return floatText(f)
		}
		if !sum.Num().IsInt64() {
			return "(null)" // does not fit
		}
		return sum.Num().String()
	}
	panic(fmt.Sprintf("the oracle has no aggregate %s", fn))
}

func floatText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func listText(rows []Row) string {
	var parts []string
	for _, r := range rows {
		parts = append(parts, strconv.FormatInt(r.Value, 10))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// before orders rows by event time, split and offset.
func before(a, b Row) bool {
	if a.Time != b.Time {
		return a.Time < b.Time
	}
	if a.Split != b.Split {
		return a.Split < b.Split
	}
	return a.Offset < b.Offset
}

// rowID is the id of a row: the finalizer of MurmurHash3 over split and offset, with the
// constant that ClickHouse's intHash64 begins with.
func rowID(r Row) uint64 {
	h := (uint64(r.Split)<<48 + uint64(r.Offset)) ^ 5544725790478674055
	for _, k := range []uint64{0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53} {
		h ^= h >> 33
		h *= k
	}
	return h ^ h>>33
}

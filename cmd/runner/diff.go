package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// rowSet is a set of rows by their time; times are ticks. Scan gives the rows of [from, to) in
// any order: leaf is called with every value of a row that is not null, then row.
type rowSet interface {
	Span(ctx context.Context) (first, last, rows, timeless int64, err error)
	Count(ctx context.Context, from, to int64) (int64, error)
	Scan(ctx context.Context, from, to int64, leaf func(name string, value any), row func() error) error
	ScanTimeless(ctx context.Context, leaf func(name string, value any), row func() error) error
	Close() error
}

// diffSide is one of the sets that are compared.
type diffSide struct {
	name    string
	replay  *replayPlan // nil: it is of none
	rows    rowSet
	late    rowSet // nil: nobody knows its late rows
	renamed map[string]string
	sum     setSum
}

// diffRun compares two sets, a slice of time after the other, so that what is in memory does
// not grow with the sets. A slice that has too many rows is cut in two; one that cannot be cut
// is compared in parts of its keys, and read as often.
type diffRun struct {
	rule  *diffRule
	sides [2]*diffSide
	// windows finds the window of a row; nil: there are none.
	windows *windowFinder
	most    int // rows of a side in memory
	found   func(rowDifference) error
	counts  map[diffKind]int64
}

// run compares the rows with a time in [from, to); when the range is open, those without a time
// as well.
func (d *diffRun) run(ctx context.Context, from, to int64) error {
	first, last, timeless := pipeline.MaxTicks, pipeline.MinTicks, int64(0)
	for _, s := range d.sides {
		low, high, _, none, err := s.rows.Span(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		first, last, timeless = min(first, low), max(last, high), max(timeless, none)
	}
	if timeless > 0 && from == pipeline.MinTicks && to == pipeline.MaxTicks {
		err := d.inParts(ctx, timeless, func(s *diffSide, t *rowTaker) error { return s.rows.ScanTimeless(ctx, t.leaf, t.end) })
		if err != nil {
			return err
		}
	}
	from, to = max(from, first), min(to, pipeline.AddTicks(last, 1))
	if from >= to {
		return nil
	}
	return d.slice(ctx, from, to)
}

// slice compares the rows of [from, to).
func (d *diffRun) slice(ctx context.Context, from, to int64) error {
	rows := int64(0)
	for _, s := range d.sides {
		n, err := s.rows.Count(ctx, from, to)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		rows = max(rows, n)
	}
	mid := middle(from, to)
	if rows > int64(d.most) && mid > from {
		return d.halves(ctx, from, mid, to)
	}
	scan := func(s *diffSide, t *rowTaker) error { return s.rows.Scan(ctx, from, to, t.leaf, t.end) }
	if mid == from {
		return d.inParts(ctx, rows, scan)
	}
	err := d.compare(ctx, 0, 1, scan)
	if errors.Is(err, errTooManyRows) { // more than was estimated
		return d.halves(ctx, from, mid, to)
	}
	return err
}

func (d *diffRun) halves(ctx context.Context, from, mid, to int64) error {
	if err := d.slice(ctx, from, mid); err != nil {
		return err
	}
	return d.slice(ctx, mid, to)
}

// middle halves a range, at a whole hour where it has some: files end there. A range that cannot
// be halved has its middle at its start.
func middle(from, to int64) int64 {
	const hour = int64(3600e6)
	mid := from + (to-from)/2
	if whole := mid - mid%hour; whole > from {
		return whole
	}
	return mid
}

// inParts compares what scan gives in as many parts of the keys as it takes.
func (d *diffRun) inParts(ctx context.Context, rows int64, scan scanSide) error {
	parts := uint64(rows/int64(d.most)) + 1
	for part := range parts {
		if err := d.part(ctx, part, parts, scan); err != nil {
			return err
		}
	}
	return nil
}

// scanSide gives the rows of a side to a taker.
type scanSide func(*diffSide, *rowTaker) error

// mostParts is how far one tick is divided. What is then still too much has one key.
const mostParts = 1 << 16

func (d *diffRun) part(ctx context.Context, part, parts uint64, scan scanSide) error {
	err := d.compare(ctx, part, parts, scan)
	if !errors.Is(err, errTooManyRows) {
		return err
	}
	if parts >= mostParts {
		return fmt.Errorf("one key and time has more than %d rows: name more columns in --key, so that it tells rows apart", slack*d.most)
	}
	if err := d.part(ctx, part, 2*parts, scan); err != nil {
		return err
	}
	return d.part(ctx, part+parts, 2*parts, scan)
}

// slack is how many times more rows than wanted a slice may have, since most counts are
// estimates.
const slack = 2

// compare compares the rows that scan gives whose keys are of a part.
func (d *diffRun) compare(ctx context.Context, part, parts uint64, scan scanSide) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names := &leafNames{}
	var rows [2][]diffRow
	for i, s := range d.sides {
		t := newRowTaker(d.rule, names, s.renamed)
		t.part, t.parts, t.most = part, parts, slack*d.most
		err := scan(s, t)
		if err == nil {
			rows[i], err = t.settle()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	var found []rowDifference
	d.rule.compareRows(rows[0], rows[1], names, func(r rowDifference) { found = append(found, r) })
	if err := d.explain(ctx, found, names); err != nil {
		return err
	}
	for i, s := range d.sides {
		s.sum.add(rows[i], names)
	}
	for _, r := range found {
		d.counts[r.Kind]++
		if err := d.found(r); err != nil {
			return err
		}
	}
	return nil
}

// windowFinder tells the window of a result, and the key of late rows.
type windowFinder struct {
	op   string   // metadata.uid begins with agg:<op>:; "" when results have the columns of the key
	key  []string // of the window
	end  string   // column
	size int64    // of all windows; 0 when they have no fixed one
	rule *diffRule
}

// resultWindow is the window of a row that differs, and how many late rows of it each side has.
type resultWindow struct {
	start, end int64
	late       [2]int64
}

// of returns the key of a row's window as late rows are known by it, and the window.
func (w *windowFinder) of(r *diffRow, names *leafNames) (key string, win *resultWindow, ok bool) {
	values := map[string]string{}
	for _, v := range names.unpack(r.values) {
		values[v.name] = v.text
	}
	for i, text := range keysOf(r.key) {
		if text != nil {
			values[w.rule.key[i]] = *text
		}
	}
	win = &resultWindow{start: r.time, end: pipeline.AddTicks(r.time, w.size)}
	if w.size == 0 {
		if win.end, ok = ticksOfText(values[w.end]); !ok {
			return "", nil, false
		}
	}
	if w.op != "" {
		rest, found := strings.CutPrefix(values["metadata.uid"], "agg:"+w.op+":")
		i := strings.LastIndexByte(rest, ':')
		if !found || i < 0 {
			return "", nil, false
		}
		return rest[:i], win, true
	}
	parts := make([]string, len(w.key))
	for i, k := range w.key {
		parts[i] = nullKey
		if text, ok := values[k]; ok {
			parts[i] = escapedKey(text)
		}
	}
	return joinKeys(parts), win, true
}

// ticksOfText is the time that a canonical text is.
func ticksOfText(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n * 1000, true
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UnixMicro(), err == nil
}

// explain looks the windows of differences up among the late rows of both sides: a side that
// has less than the other, and more late rows, has it because of these.
func (d *diffRun) explain(ctx context.Context, found []rowDifference, names *leafNames) error {
	if d.windows == nil || len(found) == 0 || d.sides[0].late == nil && d.sides[1].late == nil {
		return nil
	}
	windows, of := map[string][]*resultWindow{}, make([]*resultWindow, len(found))
	from, to := pipeline.MaxTicks, pipeline.MinTicks
	for i := range found {
		key, w, ok := d.windows.of(&found[i].row, names)
		if !ok {
			continue
		}
		windows[key], of[i] = append(windows[key], w), w
		from, to = min(from, w.start), max(to, w.end)
	}
	for side, s := range d.sides {
		if s.late == nil || from >= to {
			continue
		}
		if err := d.countLate(ctx, side, from, to, windows); err != nil {
			return fmt.Errorf("%s: late rows: %w", s.name, err)
		}
	}
	for i := range found {
		if w := of[i]; w != nil {
			d.blame(&found[i], w, names)
		}
	}
	return nil
}

// countLate counts the late rows of a side by window.
func (d *diffRun) countLate(ctx context.Context, side int, from, to int64, windows map[string][]*resultWindow) error {
	t := newRowTaker(&diffRule{key: d.windows.key, time: "time", only: []string{"time"}}, &leafNames{}, nil)
	return d.sides[side].late.Scan(ctx, from, to, t.leaf, func() error {
		for _, w := range windows[joinKeys(t.keys)] {
			if w.start <= t.row.time && t.row.time < w.end {
				w.late[side]++
			}
		}
		t.begin()
		return nil
	})
}

// blame makes a difference one of late rows when they are what explains it.
func (d *diffRun) blame(r *rowDifference, w *resultWindow, names *leafNames) {
	poorer := 1
	switch r.Kind {
	case diffExtra:
		poorer = 0
	case diffValue:
		var known bool
		if poorer, known = r.poorer(names); !known && w.late[0] > w.late[1] {
			poorer = 0
		}
	}
	if poorer >= 0 && w.late[poorer] > w.late[1-poorer] {
		r.Late = &lateReason{Side: d.sides[poorer].name, Rows: w.late[poorer], In: r.Kind}
		r.Kind = diffLate
	}
}

// countColumn is how many rows a window has, as feeds name it unless a job says otherwise.
const countColumn = "count"

// poorer is the side whose window has fewer rows, -1 when both have as many: then late rows
// explain nothing. It is not known when results have no count.
func (r *rowDifference) poorer(names *leafNames) (side int, known bool) {
	for _, c := range r.Columns {
		if c.Column != countColumn || c.A == nil || c.B == nil {
			continue
		}
		a, errA := strconv.ParseFloat(*c.A, 64)
		b, errB := strconv.ParseFloat(*c.B, 64)
		if errA != nil || errB != nil {
			return 1, false
		}
		if a < b {
			return 0, true
		}
		return 1, true
	}
	if slices.ContainsFunc(names.unpack(r.row.values), func(v namedValue) bool { return v.name == countColumn }) {
		return -1, true
	}
	return 1, false
}

// diffReport is what is printed.
type diffReport struct {
	// From and To are the range of a shadow's comparison.
	From        *tick              `json:"from,omitempty"`
	To          *tick              `json:"to,omitempty"`
	A           sideReport         `json:"a"`
	B           sideReport         `json:"b"`
	Equal       bool               `json:"equal"`
	Counts      map[diffKind]int64 `json:"counts"`
	Differences []rowDifference    `json:"differences"`
}

type sideReport struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
	Hash string `json:"hash"`
}

func (s *diffSide) report() sideReport { return sideReport{s.name, s.sum.rows, s.sum.String()} }

// print prints the report as a table.
func (r *diffReport) print(w io.Writer) error {
	if len(r.Differences) > 0 {
		t := newTable(w)
		fmt.Fprintln(t, "WHY\tTIME\tKEY\tWHAT")
		for _, d := range r.Differences {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Kind, d.Time, visible(d.Key), d.what())
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if more := r.total() - int64(len(r.Differences)); more > 0 {
			fmt.Fprintf(w, "... and %d more; --limit shows more\n", more)
		}
		fmt.Fprintln(w)
	}
	t := newTable(w)
	for i, s := range []sideReport{r.A, r.B} {
		fmt.Fprintf(t, "%c\t%s\t%d rows\thash %s\n", 'A'+i, visible(s.Name), s.Rows, s.Hash)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.A.Rows == 0 && r.B.Rows == 0 {
		_, err := fmt.Fprintln(w, "equal: neither has a row of that range, so this proves nothing")
		return err
	}
	verdict := "equal"
	if !r.Equal {
		verdict = fmt.Sprintf("%d differences", r.total())
	}
	var parts []string
	for _, k := range []diffKind{diffLate, diffValue, diffMissing, diffExtra} {
		parts = append(parts, fmt.Sprintf("%s %d", k, r.Counts[k]))
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", verdict, strings.Join(parts, ", "))
	return err
}

func (r *diffReport) total() int64 {
	n := int64(0)
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// what says a difference in words: both values, A first.
func (d *rowDifference) what() string {
	kind := d.Kind
	if d.Late != nil {
		kind = d.Late.In
	}
	var text string
	switch kind {
	case diffMissing:
		text = "in A only"
	case diffExtra:
		text = "in B only"
	default:
		parts := make([]string, len(d.Columns))
		for i, c := range d.Columns {
			parts[i] = fmt.Sprintf("%s: %s | %s", visible(c.Column), shownValue(c.A), shownValue(c.B))
		}
		text = strings.Join(parts, "; ")
	}
	if d.Late != nil {
		text += fmt.Sprintf(" (%d late rows of the window in %s)", d.Late.Rows, visible(d.Late.Side))
	}
	return text
}

func shownValue(s *string) string {
	if s == nil {
		return "null"
	}
	return visible(*s)
}

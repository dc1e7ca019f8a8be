package operators

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// FloorStart returns the start of the window of the given size that holds t: the largest
// start <= t with start = offset (mod size). It is right for negative times and offsets,
// and saturates at the ends of int64. size > 0.
func FloorStart(t, size, offset int64) int64 {
	o := offset % size
	r := t % size // sign of t
	d := r - o    // within (-2 size, 2 size): no overflow for size <= max/2
	if d < 0 {
		d += size
	}
	if d < 0 {
		d += size
	}
	if d >= size {
		d -= size
	}
	return pipeline.SubTicks(t, d)
}

// Windows calls yield with the start of every window of the given size and slide that
// holds t, oldest first; windows begin at offset (mod slide). With slide = size there is
// exactly one.
func Windows(t, size, slide, offset int64, yield func(start int64)) {
	last := FloorStart(t, slide, offset)
	first := last
	for s := pipeline.SubTicks(last, slide); s < first && pipeline.AddTicks(s, size) > t; s = pipeline.SubTicks(s, slide) {
		first = s
	}
	if pipeline.AddTicks(last, size) <= t { // a slide larger than the size leaves holes
		return
	}
	for s := first; ; s += slide {
		yield(s)
		if s == last {
			return
		}
	}
}

// Bounds is a window [Start, End).
type Bounds struct{ Start, End int64 }

// last returns the mark at which a window that ends at end is complete. One whose end is
// the end of time is complete when the input ends.
func last(end int64) int64 {
	if end == pipeline.MaxTicks {
		return end
	}
	return pipeline.SubTicks(end, 1)
}

// Kind says how a Shape's windows lie.
type Kind string

const (
	// Hopping windows are Size long and begin every Slide; with Slide = Size they are
	// tumbling. A Slide above the Size leaves times that are in no window.
	Hopping Kind = "hopping"
	// Cumulate windows begin every Size and end after one, two, ... steps of Slide, up to
	// Size.
	Cumulate Kind = "cumulate"
	// Global is one window for all time; it ends with the input.
	Global Kind = "global"
)

// MaxOverlap is how many windows may hold one row: a day by minutes.
const MaxOverlap = 1440

const dayTicks = 24 * 3600 * 1e6

// Shape places windows on the axis of event time. Sizes are ticks.
type Shape struct {
	Kind        Kind
	Size, Slide int64
	// Offset moves all windows, within one Slide either way (Size for Cumulate).
	Offset int64
	// Zone makes Size, Slide and Offset lengths of local time: a day has 23 to 25 hours
	// where clocks are moved. nil for lengths of real time.
	//
	// A local time begins when the zone's clock first reaches it or leaps over it, so that
	// windows follow each other without a hole, and every row lies in the window that it is
	// counted in.
	Zone *time.Location
}

// TumblingShape places windows of one size, one after the other.
func TumblingShape(size, offset int64) Shape {
	return Shape{Kind: Hopping, Size: size, Slide: size, Offset: offset}
}

// Validate returns every problem.
func (s Shape) Validate() error {
	if s.Kind == Global {
		return nil
	}
	var errs []error
	name := "slide"
	period := s.Slide
	switch s.Kind {
	case Hopping:
	case Cumulate:
		name, period = "step", s.Size
	default:
		return fmt.Errorf("windows %q: known are %s, %s, %s", s.Kind, Hopping, Cumulate, Global)
	}
	if s.Size <= 0 {
		errs = append(errs, fmt.Errorf("window size %v: must be above 0", ticks(s.Size)))
	}
	if s.Slide <= 0 {
		errs = append(errs, fmt.Errorf("window %s %v: must be above 0", name, ticks(s.Slide)))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if s.Offset <= -period || s.Offset >= period {
		errs = append(errs, fmt.Errorf("window offset %v: must be within one %v", ticks(s.Offset), ticks(period)))
	}
	if s.Kind == Cumulate && s.Size%s.Slide != 0 {
		errs = append(errs, fmt.Errorf("window step %v: must divide the size %v", ticks(s.Slide), ticks(s.Size)))
	}
	if n := s.Overlap(); n > MaxOverlap {
		errs = append(errs, fmt.Errorf("window %s %v: puts a row into %d windows of %v, at most %d are possible; choose a larger %s",
			name, ticks(s.Slide), n, ticks(s.Size), MaxOverlap, name))
	}
	if s.Zone != nil {
		if s.Kind != Hopping || s.Slide != s.Size {
			errs = append(errs, fmt.Errorf("windows by zone %s: only tumbling windows follow a zone's clock", s.Zone))
		}
		if s.Size%dayTicks != 0 && (dayTicks%s.Size != 0 || s.Size < dayTicks/12) {
			errs = append(errs, fmt.Errorf("window size %v by zone %s: must be whole days, or 2, 3, 4, 6, 8 or 12 hours; shorter windows are the same in every zone up to an offset", ticks(s.Size), s.Zone))
		}
	}
	return errors.Join(errs...)
}

// text says how the windows lie, for the checkpoint.
func (s Shape) text() string {
	zone := ""
	if s.Zone != nil {
		zone = s.Zone.String()
	}
	return fmt.Sprintf("%s %d %d %d %s", s.Kind, s.Size, s.Slide, s.Offset, zone)
}

// takes tells whether the state of old windows, as by text, can become state of these
// windows: of the same ones, or of the same size with a slide that was a multiple less.
// Then the bounds of these windows are bounds of old ones too.
func (s Shape) takes(old string) error {
	if s.text() == old {
		return nil
	}
	var o Shape
	n, _ := fmt.Sscan(old, (*string)(&o.Kind), &o.Size, &o.Slide, &o.Offset)
	if n == 4 && o.Kind == Hopping && s.Kind == Hopping && s.Zone == nil && s.Size == o.Size && s.Slide <= s.Size &&
		s.Slide%o.Slide == 0 && (s.Offset-o.Offset)%o.Slide == 0 && old == o.text() {
		return nil
	}
	return fmt.Errorf("the state has %s windows of %v every %v (offset %v), the job asks for %s ones of %v every %v (offset %v): they can go on with the same size and a multiple of the old slide; "+
		"otherwise let the old job run until its windows are closed, or give the new one a state directory of its own and let it read again from the start of the oldest open window",
		o.Kind, ticks(o.Size), ticks(o.Slide), ticks(o.Offset), s.Kind, ticks(s.Size), ticks(s.Slide), ticks(s.Offset))
}

// Overlap is how many windows hold one time at most.
func (s Shape) Overlap() int64 {
	if s.Kind == Global {
		return 1
	}
	n := s.Size / s.Slide
	if s.Size%s.Slide != 0 {
		n++
	}
	return n
}

// Span returns the longest [start, end) around t whose times are all in the same windows:
// the window itself when windows do not overlap, else the part of it between two bounds.
func (s Shape) Span(t int64) Bounds {
	switch {
	case s.Kind == Global:
		return Bounds{pipeline.MinTicks, pipeline.MaxTicks}
	case s.Zone != nil:
		return s.civil(t)
	}
	at := FloorStart(t, s.Slide, s.Offset)
	if cut := s.Size % s.Slide; cut > 0 && s.Kind == Hopping {
		mid := pipeline.AddTicks(at, cut)
		if t < mid {
			return Bounds{at, mid}
		}
		return Bounds{mid, pipeline.AddTicks(at, s.Slide)}
	}
	return Bounds{at, pipeline.AddTicks(at, s.Slide)}
}

// Windows appends the windows that hold the times of a span, by end.
func (s Shape) Windows(to []Bounds, span Bounds) []Bounds {
	switch {
	case s.Kind == Global:
		to = append(to, span)
	case s.Zone != nil:
		to = append(to, span)
	case s.Kind == Cumulate:
		base := FloorStart(span.Start, s.Size, s.Offset)
		end := pipeline.AddTicks(base, s.Size)
		for e := span.End; ; e = pipeline.AddTicks(e, s.Slide) {
			to = append(to, Bounds{base, min(e, end)})
			if e >= end {
				break
			}
		}
	default:
		Windows(span.Start, s.Size, s.Slide, s.Offset, func(start int64) {
			to = append(to, Bounds{start, pipeline.AddTicks(start, s.Size)})
		})
	}
	return to
}

// has tells whether b is one of the windows.
func (s Shape) has(b Bounds) bool {
	span := s.Span(last(b.End))
	if s.Kind == Global {
		return b == span
	}
	for _, w := range s.Windows(nil, span) {
		if w == b {
			return true
		}
	}
	return false
}

// civil returns the window that holds t by the zone's clock.
func (s Shape) civil(t int64) Bounds {
	if t < pipeline.MinEventTime || t >= pipeline.MaxEventTime { // no sink can hold it
		at := FloorStart(t, s.Size, s.Offset)
		return Bounds{at, pipeline.AddTicks(at, s.Size)}
	}
	_, off := time.UnixMicro(t).In(s.Zone).Zone()
	at := pipeline.AddTicks(FloorStart(pipeline.AddTicks(t, int64(off)*1e6), s.Size, s.Offset), s.Size)
	start := s.instant(at)
	for start > t {
		at -= s.Size
		start = s.instant(at)
	}
	end := start
	for end <= start { // a local day that a zone left out has no length
		at += s.Size
		end = s.instant(at)
	}
	return Bounds{start, end}
}

// instant returns when the zone's clock first shows the local time or a later one.
func (s Shape) instant(local int64) int64 {
	at := pipeline.SubTicks(local, dayTicks) // no zone is a day away from UTC
	for {
		z := time.UnixMicro(at).In(s.Zone)
		_, off := z.Zone()
		_, end := z.ZoneBounds()
		reached := max(at, pipeline.SubTicks(local, int64(off)*1e6))
		if end.IsZero() || reached < end.UnixMicro() {
			return reached
		}
		at = end.UnixMicro()
	}
}

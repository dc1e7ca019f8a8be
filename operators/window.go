package operators

import "github.com/tidemark/tidemark/pipeline"

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

// lastTick returns the mark at which a window [start, start+size) is complete.
func lastTick(start, size int64) int64 { return pipeline.AddTicks(start, size-1) }

// cleanupTick returns the mark at which it is freed.
func cleanupTick(start, size, lateness int64) int64 {
	return pipeline.AddTicks(lastTick(start, size), lateness)
}

package operators

import (
	"slices"

	"github.com/tidemark/tidemark/pipeline"
)

// maxLinear is how many slices a window merges one by one when it fires.
const maxLinear = 16

// stacks merges the slices of windows that overlap much: every slice is merged about three
// times, however many windows it lies in. It is the queue made of two stacks (Tangwongsan
// et al., "General Incremental Sliding-Window Aggregation"), over tables.
//
// A bound cut divides the slices that windows still need. A slice before the cut holds all
// rows from its start up to the cut; back holds all rows from the cut to upTo. So a window
// that reaches over the cut is the slice at its start and the back. When a window no longer
// reaches over the cut, the cut moves: the slices before the new one are merged backwards,
// each into the one before it.
//
// That works because a slice takes no rows any more when its first window fires. Cuts lie
// on a fixed grid of window starts, so that where they are follows from the mark, in every
// shard and after a restore.
type stacks struct {
	cut  int64
	back *table // nil: no window has been merged
	upTo int64
}

func (w *Window) stacked() bool { return w.cfg.Overlap() > maxLinear }

// cutOf returns the cut that a window reaches over when it fires: the last point of the
// grid that is not behind its end, and for windows that grow from one start that start.
func (w *Window) cutOf(b Bounds) int64 {
	if w.cfg.Kind == Cumulate {
		return b.Start
	}
	grid := w.cfg.Size / w.cfg.Slide * w.cfg.Slide
	return FloorStart(b.End, grid, w.cfg.Offset)
}

// mergeStacks takes the slices of a window into its own table. Windows come in the order
// of their ends.
func (w *Window) mergeStacks(win *window) {
	st := &w.stacks
	if cut := w.cutOf(win.Bounds); st.back == nil || cut != st.cut {
		w.moveCut(cut)
		w.suffix(win.Start, cut)
	}
	w.eachSlice(st.upTo, win.End, func(sl *slice) { w.mergeTable(st.back, sl.tab) })
	st.upTo = win.End
	at, _ := slices.BinarySearch(w.starts, win.Start)
	if at < len(w.starts) && w.starts[at] < st.cut {
		w.mergeTable(win.tab, w.slices[w.starts[at]].tab)
	}
	w.mergeTable(win.tab, st.back)
}

// suffix makes every slice that starts in [from, cut) hold the rows of those behind it too.
func (w *Window) suffix(from, cut int64) {
	var behind *slice
	at, _ := slices.BinarySearch(w.starts, cut)
	for at--; at >= 0 && w.starts[at] >= from; at-- {
		sl := w.slices[w.starts[at]]
		if behind != nil {
			w.mergeTable(sl.tab, behind.tab)
			sl.changed = true
		}
		behind = sl
	}
}

func (w *Window) moveCut(cut int64) {
	w.dropBack()
	w.stacks = stacks{cut: cut, back: newTable(&w.store, 0), upTo: cut}
}

func (w *Window) dropBack() {
	if w.stacks.back != nil {
		w.dropRows(w.stacks.back)
		w.stacks.back = nil
	}
}

// resumeStacks puts the cut where the last window that was merged before a restore had it.
func (w *Window) resumeStacks() {
	at := w.mark
	if w.cfg.Trigger == OnClose {
		at = pipeline.SubTicks(at, w.cfg.Lateness)
	}
	if !w.stacked() || len(w.starts) == 0 || at == pipeline.MinTicks || at == pipeline.MaxTicks {
		return
	}
	if w.cfg.Kind == Cumulate {
		end := FloorStart(at+1, w.cfg.Slide, w.cfg.Offset)
		w.moveCut(FloorStart(end-1, w.cfg.Size, w.cfg.Offset))
		return
	}
	end := FloorStart(at+1, w.cfg.Slide, w.cfg.Offset+w.cfg.Size)
	w.moveCut(w.cutOf(Bounds{End: end}))
	// The slices may come from several shards, which did not have the same ones: a key that
	// a slice before the cut lacks has there what it has in the next.
	var behind *slice
	n, _ := slices.BinarySearch(w.starts, w.stacks.cut)
	for n--; n >= 0; n-- {
		sl := w.slices[w.starts[n]]
		if behind != nil {
			had := sl.tab.rows
			w.mergeMissing(sl.tab, behind.tab)
			sl.changed = sl.changed || sl.tab.rows > had
		}
		behind = sl
	}
}

func (w *Window) mergeMissing(dst, src *table) {
	var scratch [16]byte
	for i := range src.rows {
		from := w.store.row(src.id(i))
		key := src.key(from, &scratch)
		if id, added := dst.find(w.keyer.Hash(key), key); added {
			w.prog.init(w.store.row(id))
			w.prog.merge(w.store.row(id), from, &w.nodes)
		}
	}
}

package operators

import "slices"

// maxLinear is how many slices a window merges one by one when it fires.
const maxLinear = 16

// stacks merges the slices of windows that overlap much: every slice is merged about three
// times, however many windows it lies in. It is the queue made of two stacks (Tangwongsan
// et al., "General Incremental Sliding-Window Aggregation"), over tables.
//
// A bound cut divides the slices that windows still need. For every slice before the cut,
// front has the rows from its start up to the cut; back has the rows from the cut to upTo.
// So a window that reaches over the cut is the front at its start and the back. When a
// window no longer reaches over the cut, the cut moves to its end, and the fronts are made
// from there backwards, each from the next and one slice.
//
// That works because a slice takes no rows any more once a window that it lies in has fired.
// Nothing of it is state: the slices have it all.
type stacks struct {
	cut, upTo int64
	front     map[int64]*table // by start of the slice
	back      *table           // nil: no window has been merged
}

func (w *Window) stacked() bool { return w.cfg.Overlap() > maxLinear }

// mergeStacks takes the slices of a window into its own table. Windows come in the order
// of their ends.
func (w *Window) mergeStacks(win *window) {
	st := &w.stacks
	if st.back == nil || win.Start >= st.cut {
		w.moveCut(win)
	}
	w.eachSlice(st.upTo, win.End, func(sl *slice) { w.mergeTable(st.back, sl.tab) })
	st.upTo = win.End
	at, _ := slices.BinarySearch(w.starts, win.Start)
	if at < len(w.starts) && w.starts[at] < st.cut {
		w.mergeTable(win.tab, st.front[w.starts[at]])
	}
	w.mergeTable(win.tab, st.back)
}

// moveCut puts the cut at the end of a window, or at its start where the next windows begin
// there too.
func (w *Window) moveCut(win *window) {
	w.dropStacks()
	cut := win.End
	if w.cfg.Kind == Cumulate {
		cut = win.Start
	}
	st := &w.stacks
	*st = stacks{cut: cut, upTo: cut, front: map[int64]*table{}, back: newTable(&w.store, 0)}
	var behind *table
	at, _ := slices.BinarySearch(w.starts, cut)
	for at--; at >= 0 && w.starts[at] >= win.Start; at-- {
		tab := newTable(&w.store, 0)
		if behind != nil {
			w.mergeTable(tab, behind)
		}
		w.mergeTable(tab, w.slices[w.starts[at]].tab)
		st.front[w.starts[at]], behind = tab, tab
	}
}

// dropFront forgets the front of a slice that no window needs any more.
func (w *Window) dropFront(start int64) {
	if tab := w.stacks.front[start]; tab != nil {
		w.dropRows(tab)
		delete(w.stacks.front, start)
	}
}

func (w *Window) dropStacks() {
	for start := range w.stacks.front {
		w.dropFront(start)
	}
	if w.stacks.back != nil {
		w.dropRows(w.stacks.back)
		w.stacks.back = nil
	}
}

func (st *stacks) bytes() int64 {
	var n int64
	if st.back != nil {
		n = st.back.bytes()
	}
	for _, tab := range st.front {
		n += tab.bytes()
	}
	return n
}

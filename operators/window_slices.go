package operators

import (
	"slices"
)

// slice holds the rows between two window bounds.
type slice struct {
	Bounds
	tab     *table
	until   int64 // end of its last window
	changed bool
}

// openSlice returns the slice with the given bounds, and makes its windows.
func (w *Window) openSlice(b Bounds) *slice {
	if sl := w.slices[b.Start]; sl != nil {
		return sl
	}
	bounds := w.cfg.Windows(nil, b)
	sl := &slice{Bounds: b, tab: newTable(&w.store, w.expect), until: bounds[len(bounds)-1].End}
	w.slices[b.Start] = sl
	at, _ := slices.BinarySearch(w.starts, b.Start)
	w.starts = slices.Insert(w.starts, at, b.Start)
	if w.settled {
		w.openWindows(bounds, w.shed)
	}
	return sl
}

// openWindows makes those windows that have not taken in their slices and end after shed.
func (w *Window) openWindows(bounds []Bounds, shed int64) {
	for _, b := range bounds {
		if b.End > shed && !w.passed(b) {
			w.open(b)
		}
	}
}

// mergeSlices takes the slices of a window into its own table.
func (w *Window) mergeSlices(win *window) {
	if !w.shares {
		return
	}
	if w.stacked() {
		w.mergeStacks(win)
		return
	}
	w.eachSlice(win.Start, win.End, func(sl *slice) { w.mergeTable(win.tab, sl.tab) })
}

// eachSlice calls yield with the slices that start in [from, to), earliest first.
func (w *Window) eachSlice(from, to int64, yield func(*slice)) {
	at, _ := slices.BinarySearch(w.starts, from)
	for ; at < len(w.starts) && w.starts[at] < to; at++ {
		yield(w.slices[w.starts[at]])
	}
}

// mergeTable folds the rows of src into dst.
func (w *Window) mergeTable(dst, src *table) {
	var scratch [16]byte
	dst.reserve(src.rows)
	for i := range src.rows {
		from := w.store.row(src.id(i))
		key := src.key(from, &scratch)
		id, added := dst.find(w.keyer.Hash(key), key)
		to := w.store.row(id)
		if added {
			w.prog.init(to)
		}
		w.prog.merge(to, from, &w.extras)
	}
}

func (w *Window) freeSlices() {
	freed := 0
	for _, start := range w.starts {
		sl := w.slices[start]
		if !w.merged(Bounds{End: sl.until}) {
			break
		}
		w.dropRows(sl.tab)
		w.dropFront(start)
		delete(w.slices, start)
		freed++
	}
	w.starts = slices.Delete(w.starts, 0, freed)
	if len(w.starts) == 0 {
		w.dropStacks()
	}
}

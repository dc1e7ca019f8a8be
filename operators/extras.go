package operators

import (
	"cmp"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/apache/arrow-go/v18/arrow"
)

// extras holds what the accumulators of all rows of one operator keep beside their words:
// lists and sketches. A word of the row is its handle, 0 while there is nothing, so that
// rows stay free of pointers. What is given back with its row is used again.
type extras struct {
	lists     pool[[]point]
	distincts pool[distinct]
	quantiles pool[*ddsketch.DDSketch]
	mapping   *mapping.LogarithmicMapping // of all quantiles

	arrived   int64 // what the next value to arrive is numbered
	overflows int64 // values of results that did not fit
	dropped   int64 // values that results were made without, beyond a cap
	fault     error // the first value that a narrow accumulator could not take

	size    int64 // bytes, when they were measured last
	touched int   // places that were written since, each as often as it was

	// The truth of every filter for the rows of batch, which is kept to know it again, not
	// to read it; and what each filter lets through of the rows that are being folded.
	batch  arrow.RecordBatch
	truths [][]truth
	chosen []chosen
	hashes []uint64 // scratch
}

// chosen are rows of a batch and the state rows that they are folded into.
type chosen struct {
	at  []int32
	ids []uint32
}

// choose evaluates the filters, once per batch, and keeps the rows that each lets through.
func (x *extras) choose(filters []condition, rec arrow.RecordBatch, at []int32, ids []uint32) {
	if x.batch != rec {
		x.batch = rec
		x.truths = x.truths[:0]
		for _, f := range filters {
			x.truths = append(x.truths, f.eval(rec))
		}
	}
	if x.chosen == nil {
		x.chosen = make([]chosen, len(filters))
	}
	for f, truths := range x.truths {
		c := &x.chosen[f]
		c.at, c.ids = c.at[:0], c.ids[:0]
		for i, r := range at {
			if truths[r] == isTrue {
				c.at, c.ids = append(c.at, r), append(c.ids, ids[i])
			}
		}
	}
}

// remeasure is how many places there are for each that is written before all are measured
// again: a limit of memory is looked at after every batch.
const remeasure = 8

// bytes returns the memory in use, as it was when not yet an eighth of the places had been
// written.
func (x *extras) bytes() int64 {
	if x.touched*remeasure >= len(x.lists.all)+len(x.distincts.all)+len(x.quantiles.all) {
		x.size, x.touched = x.measure(), 0
	}
	return x.size
}

// measure returns the memory in use. What was given back is empty and does not count, so that
// a limit sees what letting rows go has brought.
func (x *extras) measure() int64 {
	n := int64(cap(x.lists.all))*24 + int64(cap(x.distincts.all))*32 + int64(cap(x.quantiles.all))*8
	for _, l := range x.lists.all {
		if len(l) > 0 {
			n += int64(cap(l)) * pointBytes
		}
	}
	for i := range x.distincts.all {
		n += x.distincts.all[i].bytes()
	}
	for _, q := range x.quantiles.all {
		if q != nil {
			n += quantileBytes(q)
		}
	}
	return n
}

// A pool hands out places by handle, position + 1.
type pool[T any] struct {
	all  []T
	free []uint32
}

// take returns the handle of a free place; it holds what it held when it was given back.
func (p *pool[T]) take() uint64 {
	if n := len(p.free); n > 0 {
		h := p.free[n-1]
		p.free = p.free[:n-1]
		return uint64(h)
	}
	var zero T
	p.all = append(p.all, zero)
	return uint64(len(p.all))
}

// at returns the place of a handle, until the next take.
func (p *pool[T]) at(handle uint64) *T { return &p.all[handle-1] }

func (p *pool[T]) give(handle uint64) { p.free = append(p.free, uint32(handle)) }

// point is a value of a list, with its place in the order of the list.
type point struct {
	val, at int64
	place   uint64
}

const (
	pointBytes = 24
	// keepPoints is the length up to which a list that is given back keeps its memory.
	keepPoints = 64
)

// arrive adds a value to a list in order of arrival.
func (x *extras) arrive(acc []uint64, v int64, most int) {
	x.add(acc, point{val: v, at: x.arrived}, most)
	x.arrived++
}

// add adds a value to the list of acc, whose second word counts the values that were ever
// added. The first most in order are kept: the list is sorted and cut when it has grown to
// twice as many.
func (x *extras) add(acc []uint64, p point, most int) {
	if acc[0] == 0 {
		acc[0] = x.lists.take()
	}
	l := x.lists.at(acc[0])
	*l = append(*l, p)
	acc[1]++
	if len(*l) >= 2*most {
		*l = inOrder(*l, most)
	}
}

// list returns the first most values of a list in order, until the next add.
func (x *extras) list(acc []uint64, most int) []point {
	if acc[0] == 0 {
		return nil
	}
	l := x.lists.at(acc[0])
	*l = inOrder(*l, most)
	return *l
}

// inOrder sorts values and cuts them to the first most.
func inOrder(list []point, most int) []point {
	slices.SortFunc(list, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.place, b.place), cmp.Compare(a.val, b.val))
	})
	return list[:min(len(list), most)]
}

// mergeList adds the values of the list src to dst.
func (x *extras) mergeList(dst, src []uint64, most int) {
	if src[0] == 0 {
		return
	}
	if dst[0] == 0 {
		dst[0] = x.lists.take()
	}
	d := x.lists.at(dst[0])
	*d = append(*d, *x.lists.at(src[0])...)
	dst[1] += src[1]
	if len(*d) >= 2*most {
		*d = inOrder(*d, most)
	}
}

func (x *extras) dropList(acc []uint64) {
	if acc[0] != 0 {
		l := x.lists.at(acc[0])
		*l = (*l)[:0]
		if cap(*l) > keepPoints {
			*l = nil
		}
		x.lists.give(acc[0])
	}
	acc[0], acc[1] = 0, 0
}

package operators

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// KeyClock gives every key (device) a clock of its own. All three are ticks.
//
// The clock of a key is min(split mark, max(key's largest event time - Bound - 1, split
// mark - MaxOffline)). It stands in for the split's mark where a row is judged late and
// where the state of a window is freed; windows still fire by the merged mark. So a device
// that was out of reach for hours gets its rows into their windows, while everybody else's
// windows fire and are freed as ever; and what waits for such devices is bounded by
// MaxOffline.
//
// A verdict is a function of the split's content alone only while a key stays in one
// split: key the topic by the window's key. Window.Tally counts the rows that did not, as Moved.
type KeyClock struct {
	Bound      int64 // disorder bound of the rows of one key
	MaxOffline int64 // by how much a key may be behind its split
	MaxAhead   int64 // rows further than this beyond their broker timestamp move no clock
}

// Validate returns every problem.
func (c KeyClock) Validate() error {
	var errs []error
	if c.Bound < 0 {
		errs = append(errs, fmt.Errorf("key clock bound %v: must not be negative", ticks(c.Bound)))
	}
	if c.MaxOffline < c.Bound {
		errs = append(errs, fmt.Errorf("max offline %v: must be at least the disorder bound, %v", ticks(c.MaxOffline), ticks(c.Bound)))
	}
	if c.MaxAhead < 0 {
		errs = append(errs, fmt.Errorf("max ahead %v: must not be negative", ticks(c.MaxAhead)))
	}
	return errors.Join(errs...)
}

// at returns the clock of a key whose largest event time is newest, when its split's mark
// is mark.
func (c KeyClock) at(mark, newest int64) int64 {
	if mark == pipeline.MaxTicks { // the input has ended
		return mark
	}
	return min(mark, max(pipeline.SubTicks(newest, c.Bound+1), pipeline.SubTicks(mark, c.MaxOffline)))
}

// keyClocks holds the largest event time of every key that was heard within MaxOffline. A
// key that is not there has the clock of one that was never heard, mark - MaxOffline, as it
// would have if it were still there.
type keyClocks struct {
	KeyClock
	store store
	tab   *table
	kept  int   // rows that the last sweep left
	moved int64 // rows whose key had come through another split before
}

// Words of a row, behind the key: the header holds the split.
const clockNewest = rowAcc

func newKeyClocks(c KeyClock) *keyClocks {
	k := &keyClocks{KeyClock: c}
	k.store.width = rowAcc + 1
	k.tab = newTable(&k.store, 0)
	return k
}

// judge returns the clock of a key just before a row, whose split's mark is mark, and
// moves it by the row.
func (k *keyClocks) judge(hash uint64, key []byte, mark, time, ingest int64, split int32) int64 {
	id, added := k.tab.find(hash, key)
	row := k.store.row(id)
	newest := int64(row[clockNewest])
	if added {
		newest = pipeline.MinTicks
		row[rowHead] = uint64(split)
	} else if row[rowHead] != uint64(split) {
		row[rowHead] = uint64(split)
		k.moved++
	}
	v := k.at(mark, newest)
	if time <= pipeline.AddTicks(ingest, k.MaxAhead) {
		newest = max(newest, time)
	}
	row[clockNewest] = uint64(newest)
	return v
}

// of returns the clock of a key at the merged mark.
func (k *keyClocks) of(hash uint64, key []byte, mark int64) int64 {
	newest := pipeline.MinTicks
	if id, ok := k.tab.lookup(hash, key); ok {
		newest = int64(k.store.row(id)[clockNewest])
	}
	return k.at(mark, newest)
}

// stale tells whether a key's clock is that of one never heard, now and for ever after.
func (k *keyClocks) stale(newest, mark int64) bool {
	return pipeline.SubTicks(newest, k.Bound+1) <= pipeline.SubTicks(mark, k.MaxOffline)
}

// sweep forgets stale keys once the table has doubled since the last sweep, so that a key
// costs O(1) and the table at most twice what is needed.
func (k *keyClocks) sweep(mark int64, hash func([]byte) uint64) {
	if k.tab.rows < 2*k.kept+chunkRows && mark != pipeline.MaxTicks {
		return
	}
	old := k.tab
	k.tab = newTable(&k.store, k.kept)
	var scratch [16]byte
	for i := range old.rows {
		row := k.store.row(old.id(i))
		if k.stale(int64(row[clockNewest]), mark) {
			continue
		}
		key := old.key(row, &scratch)
		id, _ := k.tab.find(hash(key), key)
		to := k.store.row(id)
		to[rowHead], to[clockNewest] = row[rowHead], row[clockNewest]
	}
	old.release()
	k.kept = k.tab.rows
}

func (k *keyClocks) bytes() int64 { return k.store.bytes() + k.tab.bytes() }

// record appends the clocks to columns of a piece of state: the newest time is in the place
// of the due time, the split in that of the header.
func (k *keyClocks) record(b *array.RecordBuilder, hash func([]byte) uint64) {
	var scratch [16]byte
	for i := range k.tab.rows {
		row := k.store.row(k.tab.id(i))
		key := k.tab.key(row, &scratch)
		for c, f := range b.Fields() {
			switch c {
			case 0:
				f.(*array.Uint8Builder).Append(pipeline.Group(hash(key)))
			case 1:
				f.(*array.BinaryBuilder).Append(key)
			case 3:
				f.(*array.Int64Builder).Append(int64(row[clockNewest]))
			case 4:
				f.(*array.Int64Builder).Append(int64(row[rowHead]))
			default:
				f.AppendEmptyValue()
			}
		}
	}
}

// restore takes back the clock of a key.
func (k *keyClocks) restore(hash uint64, key []byte, newest, split int64) {
	id, _ := k.tab.find(hash, key)
	row := k.store.row(id)
	row[rowHead], row[clockNewest] = uint64(split), uint64(newest)
}

// outliving takes the keys out of a window whose own clock has not passed it, and returns
// a window with them: nil when there is none, the window itself when there is no other.
// Keys are looked at again whenever the time since the window's cleanup has doubled, so
// that one costs O(log MaxOffline), and at the latest when MaxOffline has passed.
func (w *Window) outliving(win *window) *window {
	cleanup := w.cleanup(win.End)
	var scratch [16]byte
	var stay []uint32
	for i := range win.tab.rows {
		id := win.tab.id(i)
		key := win.tab.key(w.store.row(id), &scratch)
		if w.clocks.of(w.keyer.Hash(key), key, w.mark) < cleanup {
			stay = append(stay, id)
		}
	}
	again := pipeline.AddTicks(w.mark, max(pipeline.SubTicks(w.mark, cleanup), w.clocks.Bound+1))
	if end := pipeline.AddTicks(cleanup, w.clocks.MaxOffline); w.mark < end {
		again = min(again, end)
	}
	switch len(stay) {
	case 0:
		return nil
	case win.tab.rows:
		win.again = again
		return win
	}
	rest := &window{Bounds: win.Bounds, tab: newTable(&w.store, len(stay)), fired: true, changed: true, again: again}
	moved := make(map[uint32]uint32, len(stay))
	for _, id := range stay {
		w.store.own(id)
		from := w.store.row(id)
		key := win.tab.key(from, &scratch)
		to, _ := rest.tab.find(w.keyer.Hash(key), key)
		copy(w.store.row(to)[rowHead:], from[rowHead:])
		w.prog.init(from) // its lists have moved
		if w.keeps {
			w.prog.init(w.shown(from))
		}
		from[rowHead] = headGone
		moved[id] = to
	}
	var leave []wait
	for _, p := range win.pending {
		if to, ok := moved[p.id]; ok {
			rest.pending = append(rest.pending, wait{to, p.due})
		} else {
			leave = append(leave, p)
		}
	}
	win.pending = leave
	return rest
}

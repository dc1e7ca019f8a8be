package operators

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSessionTable: sessions come and go by the thousand, with hashes that collide, and
// every key finds its own, latest start first. What was given back is used again.
func TestSessionTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	s := newSessions(rowAcc+1, false)
	type session struct {
		id    uint32
		start int64
	}
	model := map[string][]session{}
	hash := func(key string) uint64 { // few values, in all positions of a small index
		return uint64(key[0])<<56 | uint64(len(key)*7)%5<<3 | uint64(key[len(key)-1])
	}
	keys := make([]string, 3000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%d", i)
		if i%2 == 0 {
			keys[i] = fmt.Sprintf("%d-is-the-number-of-a-device-with-a-long-name-%d", i, i%10)
		}
	}
	rows := 0
	for step := range 60_000 {
		key := keys[rng.IntN(len(keys))]
		grow := step/10_000%2 == 0
		switch all := model[key]; {
		case len(all) > 0 && rng.IntN(10) < 3:
			i := rng.IntN(len(all))
			start := rng.Int64N(2000) - 1000
			s.move(hash(key), []byte(key), all[i].id, start, start+5)
			all[i].start = start
		case rng.IntN(10) < 2 || grow && rng.IntN(10) < 8 || len(all) == 0:
			start := rng.Int64N(2000) - 1000
			model[key] = append(all, session{s.add(hash(key), []byte(key), start, start+1), start})
			rows++
		default:
			i := rng.IntN(len(all))
			s.remove(hash(key), []byte(key), all[i].id)
			model[key] = slices.Delete(all, i, i+1)
			rows--
		}
		if step%9973 != 0 {
			continue
		}
		if s.rows != rows {
			t.Fatalf("step %d: %d rows, want %d", step, s.rows, rows)
		}
		var scratch [16]byte
		for key, all := range model {
			var want, got []int64
			for _, x := range all {
				want = append(want, x.start)
			}
			slices.Sort(want)
			slices.Reverse(want)
			head, _ := s.lookup(hash(key), []byte(key))
			for id := head; id != 0; id = s.next(s.row(id - 1)) {
				got = append(got, s.start(s.row(id-1)))
				if k := string(s.key(s.row(id-1), &scratch)); k != key {
					t.Fatalf("step %d: a session of %q is in the list of %q", step, k, key)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: key %q has sessions at %v, want %v", step, key, got, want)
			}
		}
	}
	for key, all := range model {
		for _, x := range all {
			s.remove(hash(key), []byte(key), x.id)
		}
	}
	if s.rows != 0 || s.keys != 0 || slices.ContainsFunc(s.index, func(slot uint64) bool { return slot != 0 }) {
		t.Errorf("%d rows and %d keys are left", s.rows, s.keys)
	}
	if s.waste > 1<<16 && s.waste > len(s.arena)/2 {
		t.Errorf("%d bytes of %d are wasted", s.waste, len(s.arena))
	}
	if used := s.used; used > 20_000 {
		t.Errorf("%d rows were made for far fewer at a time", used)
	}
}

// TestCalendar: a row comes up at its deadline, not before, however far ahead it lies.
func TestCalendar(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for _, width := range []int64{0, 1, 7, 1000} {
		c := newCalendar(width, 0)
		due := map[uint32]int64{}
		id := uint32(0)
		for mark := int64(-500); mark < 500; mark += rng.Int64N(20) {
			for range rng.IntN(5) {
				d := mark + 1 + rng.Int64N(200)
				c.put(c.start(d), id, d)
				due[id] = d
				id++
			}
			var again []uint32
			c.take(mark, func(id uint32, start int64) {
				d, ok := due[id]
				if !ok || c.start(d) != start {
					t.Fatalf("row %d came up in bucket %d", id, start)
				}
				if d > mark {
					again = append(again, id)
					return
				}
				delete(due, id)
			})
			for _, id := range again {
				c.put(c.start(due[id]), id, due[id])
			}
			for id, d := range due {
				if d <= mark {
					t.Fatalf("width %d: row %d, due at %d, did not come up at %d", width, id, d, mark)
				}
			}
		}
	}
}

package operators

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestTable compares the table with a Go map, with hashes that collide on purpose.
func TestTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, hashes := range []uint64{1, 7, 1 << 40} {
		s := &store{width: rowAcc + 1}
		for round := range 3 { // chunks are used again
			tab := newTable(s, 0)
			want := map[string]uint64{}
			for range 3000 {
				key := fmt.Sprintf("%0*d", rng.IntN(24), rng.IntN(700))
				h := uint64(len(key)) * 31
				for _, c := range []byte(key) {
					h = (h ^ uint64(c)) * 1099511628211
				}
				h %= hashes
				id, added := tab.find(h, []byte(key))
				if _, known := want[key]; known == added {
					t.Fatalf("key %q: added %v, known %v", key, added, known)
				}
				s.row(id)[rowAcc]++
				want[key]++
			}
			if tab.rows != len(want) {
				t.Fatalf("%d rows, want %d", tab.rows, len(want))
			}
			var scratch [16]byte
			for i := range tab.rows {
				row := s.row(tab.id(i))
				if got := row[rowAcc]; got != want[string(tab.key(row, &scratch))] {
					t.Fatalf("round %d, key %q: %d, want %d", round, tab.key(row, &scratch), got, want[string(tab.key(row, &scratch))])
				}
			}
			chunks := len(s.chunks)
			tab.release()
			if len(s.free) != chunks {
				t.Fatalf("%d of %d chunks came back", len(s.free), chunks)
			}
		}
	}
}

// TestFloorStart compares with the definition at the ends and around zero.
func TestFloorStart(t *testing.T) {
	for _, c := range []struct{ t, size, offset, want int64 }{
		{0, 5, 0, 0}, {4, 5, 0, 0}, {5, 5, 0, 5}, {-1, 5, 0, -5}, {-5, 5, 0, -5}, {-6, 5, 0, -10},
		{0, 5, -1, -1}, {3, 5, -1, -1}, {4, 5, -1, 4}, {-1, 5, 2, -3}, {1, 5, 2, -3}, {2, 5, 2, 2},
		{9223372036854775807, 1000, 0, 9223372036854775000}, {-9223372036854775808, 1000, 0, -9223372036854775808},
	} {
		if got := FloorStart(c.t, c.size, c.offset); got != c.want {
			t.Errorf("FloorStart(%d, %d, %d) = %d, want %d", c.t, c.size, c.offset, got, c.want)
		}
	}
}

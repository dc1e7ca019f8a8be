package pipeline

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStamp compares with the definition, row by row: the mark before a row, and after.
func TestStamp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		m := NewMarks(rng.Int64N(30), MaxTicks)
		s := m.Add()
		mark := MinTicks
		for range 5 {
			times := make([]int64, 1+rng.IntN(8))
			ahead := make([]bool, len(times))
			for i := range times {
				times[i], ahead[i] = rng.Int64N(100)-50, rng.IntN(10) == 0
			}
			var want []int64
			anyBehind := false
			at := mark
			for i, x := range times {
				want = append(want, at)
				anyBehind = anyBehind || x <= at
				if !ahead[i] {
					at = max(at, x-m.bound-1)
				}
			}
			behind, after, passed := m.Stamp(s, times, func(i int) bool { return ahead[i] })
			if anyBehind != (behind != nil) || behind != nil && !slices.Equal(behind, want) || after != at || passed != MinTicks {
				t.Fatalf("times %v from mark %d: behind %v, mark %d, passed %d; want %v, %d", times, mark, behind, after, passed, want, at)
			}
			mark = at
			m.Arrive(s, Mark{Event: at}, 0)
			if m.Merged().Event != mark {
				t.Fatalf("merged %d, want %d", m.Merged().Event, mark)
			}
		}
	}
}

// TestQuiet: being at the log end means nothing; a broker timestamp of another split does.
func TestQuiet(t *testing.T) {
	m := NewMarks(0, 60)
	a, b, c := m.Add(), m.Add(), m.Add()
	arrive := func(s int32, event, ingest int64) { m.Arrive(s, Mark{Event: event, Ingest: ingest}, ingest) }
	merged := func(want int64) {
		t.Helper()
		if got := m.Merged().Event; got != want {
			t.Errorf("merged mark %d, want %d", got, want)
		}
	}
	arrive(a, 100, 1000)
	arrive(b, 90, 1000)
	merged(MinTicks) // c has said nothing: it holds
	m.LogEnd(c, MinTicks, true)
	merged(90) // it never held a record
	arrive(a, 500, 1061)
	m.LogEnd(b, 1060, false)
	merged(90) // 60 newer is not more than 60
	m.LogEnd(b, 1061, false)
	merged(500) // b is silent: a alone counts
	if want := []Move{{Split: c, From: MinTicks, To: 90, Seen: MinTicks}, {Split: b, From: 90, To: 500, Seen: 1061}}; !slices.Equal(m.Moves(), want) {
		t.Errorf("moves %v, want %v", m.Moves(), want)
	}
	// b comes back behind what was given away: its rows are judged by that.
	_, mark, passed := m.Stamp(b, []int64{200}, nil)
	if passed != 500 || mark != 199 {
		t.Errorf("passed %d, mark %d; want 500, 199", passed, mark)
	}
	arrive(b, mark, 1100)
	merged(500) // and holds nobody back
	arrive(a, 700, 1100)
	merged(700)
	arrive(b, 650, 1101)
	merged(700)
	arrive(b, 800, 1102) // caught up: it counts again
	merged(700)
	arrive(a, 900, 1103)
	merged(800)
	if m.Holder() != int(b) {
		t.Errorf("held by %d, want %d", m.Holder(), b)
	}
}

// TestAllQuiet: when every split is quiet nothing moves, and never means never.
func TestAllQuiet(t *testing.T) {
	m := NewMarks(0, 10)
	a, b := m.Add(), m.Add()
	m.Arrive(a, Mark{Event: 50, Ingest: 100}, 100)
	m.Arrive(b, Mark{Event: 40, Ingest: 100}, 100)
	m.LogEnd(a, 200, false)
	m.LogEnd(b, 200, false)
	if m.Merged().Event != 40 {
		t.Errorf("merged mark %d, want 40", m.Merged().Event)
	}
	never := NewMarks(0, MaxTicks)
	s := never.Add()
	never.LogEnd(s, MaxTicks-1, true)
	if never.Idle(int(s)) {
		t.Error("quiet with quiet_after never")
	}
}

// TestResume: after a restore marks and verdicts are what they were.
func TestResume(t *testing.T) {
	m := NewMarks(5, 60)
	a, b := m.Add(), m.Add()
	m.Arrive(a, Mark{Event: 100, Ingest: 1000}, 1000)
	m.Arrive(b, Mark{Event: 50, Ingest: 1000}, 1000)
	m.Arrive(a, Mark{Event: 300, Ingest: 2000}, 2000)
	m.LogEnd(b, 2000, false)
	n := NewMarks(5, 60)
	for _, s := range []int32{a, b} {
		n.Add()
		n.Resume(s, m.At(int(s)), m.Last(s), m.Idle(int(s)))
	}
	n.ResumeMerged(m.Merged(), m.Newest(), m.Moves())
	for _, x := range []*Marks{m, n} {
		behind, mark, passed := x.Stamp(b, []int64{40, 120}, nil)
		if !slices.Equal(behind, []int64{50, 50}) || mark != 114 || passed != 300 {
			t.Errorf("behind %v, mark %d, passed %d", behind, mark, passed)
		}
	}
}

// TestTicksSaturate: sums and differences end at the ends of int64.
func TestTicksSaturate(t *testing.T) {
	for _, c := range []struct{ a, b, sum, diff int64 }{
		{1, 2, 3, -1}, {MaxTicks, 1, MaxTicks, MaxTicks - 1}, {MinTicks, -1, MinTicks, MinTicks + 1},
		{MinTicks, 1, MinTicks + 1, MinTicks}, {MaxTicks, -1, MaxTicks - 1, MaxTicks}, {0, MinTicks, MinTicks, MaxTicks}, {-1, MinTicks, MinTicks, MaxTicks},
	} {
		if AddTicks(c.a, c.b) != c.sum || SubTicks(c.a, c.b) != c.diff {
			t.Errorf("%d and %d: sum %d, difference %d; want %d, %d", c.a, c.b, AddTicks(c.a, c.b), SubTicks(c.a, c.b), c.sum, c.diff)
		}
	}
}

// TestFlushMark: with FlushMark the last split that falls quiet raises the mark to the
// largest of the splits' marks, which is noted among the moves; one that comes back trails.
func TestFlushMark(t *testing.T) {
	for _, rule := range []OnAllQuiet{HoldMark, FlushMark} {
		m := NewMarks(0, 60)
		m.OnAllQuiet = rule
		a, b := m.Add(), m.Add()
		m.Arrive(a, Mark{Event: 100, Ingest: 1000}, 1000)
		m.Arrive(b, Mark{Event: 90, Ingest: 1000}, 1000)
		m.LogEnd(a, 1100, false)
		rose := m.LogEnd(b, 1100, false)
		if rule == HoldMark {
			if rose || m.Merged().Event != 90 || len(m.Moves()) != 0 {
				t.Errorf("held mark: rose %v, %d, moves %v", rose, m.Merged().Event, m.Moves())
			}
			continue
		}
		if want := []Move{{Split: b, From: 90, To: 100, Seen: 1100}}; !rose || m.Merged().Event != 100 || !slices.Equal(m.Moves(), want) {
			t.Errorf("flushed mark: rose %v, %d, moves %v, want %v", rose, m.Merged().Event, m.Moves(), want)
		}
		if _, _, passed := m.Stamp(b, []int64{95}, nil); passed != 100 {
			t.Errorf("the split that returns is judged by %d, want 100", passed)
		}
		m.Arrive(b, Mark{Event: 94, Ingest: 1101}, 1101)
		if m.Merged().Event != 100 || m.Holder() >= 0 {
			t.Errorf("mark %d, held by %d: a split that trails holds nobody", m.Merged().Event, m.Holder())
		}
		m.Arrive(b, Mark{Event: 120, Ingest: 1102}, 1102)
		if m.Merged().Event != 120 || m.Holder() != int(b) {
			t.Errorf("mark %d, held by %d: it has caught up", m.Merged().Event, m.Holder())
		}
	}
}

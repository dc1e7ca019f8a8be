package pipelinetest_test

import (
	"math/rand/v2"
	"testing"

	"github.com/tidemark/tidemark/pipeline"
)

// TestSimulator crashes the machine between any two steps, again and again: wires are read
// once more from older positions, in other pieces, by another number of shards, while
// splits stall until they are quiet and shards lag behind. What was published in the end
// is what the oracle makes of the history that survived, every row of it once.
func TestSimulator(t *testing.T) {
	crashes, restarts, moves, ended := 0, 0, 0, 0
	for seed := range seeds(t, 80, 2000) {
		p, h := simCase(seed)
		m := runMachine(p, h, seed)
		report(t, "TestSimulator", seed, p, m)
		if t.Failed() {
			return
		}
		crashes, restarts, moves, ended = crashes+m.crashes, restarts+m.restarts, moves+len(m.prev.Moves), ended+1
	}
	if ended > 50 && (crashes < ended || moves == 0) {
		t.Errorf("%d crashes, %d moves by quiet splits in %d runs prove little", crashes, moves, ended)
	}
	t.Logf("%d runs: %d crashes, %d clean restarts, %d moves by quiet splits", ended, crashes, restarts, moves)
}

// simCase draws a case that crashes.
func simCase(seed uint64) (plan, how) {
	p, h := randomCase(seed + 1<<40)
	rng := rand.New(rand.NewPCG(seed, 2))
	h.crash, h.restart, h.direct = 60+rng.IntN(200), oneOf(rng, 0, 200), false
	h.barrier, h.stall = 5+rng.IntN(30), 5+rng.IntN(30)
	if chance(rng, 4) {
		p.onAllQuiet = pipeline.FlushMark
		p.spec.Flush = true
	}
	return p, h
}

// TestSimulatorNegative: rows that are shown before their checkpoint, and offsets that are
// older than the state beside them, are noticed.
func TestSimulatorNegative(t *testing.T) {
	for _, wrong := range []string{wrongPublish, wrongOffsets, wrongVerdict, wrongTwice} {
		noticed, of := 0, 0
		for seed := range uint64(30) {
			p, h := simCase(seed)
			h.wrong = wrong
			if wrong == wrongOffsets { // no crash, no harm: the offsets are read after one only
				h.crash = 60
			}
			m := runMachine(p, h, seed)
			if m.crashes == 0 {
				continue
			}
			of++
			if len(m.bad) > 0 {
				noticed++
			}
		}
		t.Logf("%s: noticed in %d of %d runs", wrong, noticed, of)
		if noticed*3 < of || of < 10 {
			t.Errorf("%s: noticed in %d of %d runs", wrong, noticed, of)
		}
	}
}

// TestClockJumps moves the wall clock of the ticks forward and back by up to twelve hours,
// among crashes: it wakes and delays, and decides nothing, so the final rows are the oracle's,
// which knows no clock.
func TestClockJumps(t *testing.T) {
	jumps, passed, runs := 0, int64(0), 0
	for seed := range seeds(t, 60, 1500) {
		p, h := simCase(seed)
		h.tick, h.jump = 3, 2
		m := runMachine(p, h, seed)
		report(t, "TestClockJumps", seed, p, m)
		if t.Failed() {
			return
		}
		runs, jumps, passed = runs+1, jumps+m.jumps, passed+m.most-m.least
	}
	if runs > 50 && jumps < 10*runs {
		t.Errorf("%d jumps in %d runs prove little", jumps, runs)
	}
	t.Logf("%d runs, %d jumps of the wall clock", runs, jumps)
	t.Logf("scoreboard: simulated_hours=%d", passed/3600_000_000)
}

// TestClockJumpsNegative: a wall clock that decides when a split is quiet changes rows, and
// that is noticed.
func TestClockJumpsNegative(t *testing.T) {
	noticed, of := 0, 0
	for seed := range uint64(120) {
		p, h := simCase(seed)
		if p.spec.QuietAfter == pipeline.MaxTicks || len(p.input) < 2 {
			continue // nothing is quiet there
		}
		h.tick, h.jump, h.wrong = 3, 2, wrongClock
		of++
		if m := runMachine(p, h, seed); len(m.bad) > 0 {
			noticed++
		}
	}
	if noticed*3 < of || of < 10 {
		t.Errorf("%s: noticed in %d of %d runs", wrongClock, noticed, of)
	}
	t.Logf("%s: noticed in %d of %d runs", wrongClock, noticed, of)
	t.Log("scoreboard: negative_controls_failed=1")
}

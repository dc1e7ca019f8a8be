package traffic_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
)

const (
	minute = int64(time.Minute / time.Microsecond)
	hour   = 60 * minute
	final  = 10 * minute
)

// clock prints a time as days and hours from 0.
func clock(t int64) string {
	return fmt.Sprintf("%d:%02d:%02d", t/(24*hour), t/hour%24, t/minute%60)
}

// registerScript gives a register what the lines of a text say, one instant a line, and returns
// what it says. Times are hours, decimal:
//
//	eligible ENTITY...                    at 0
//	open TIME ENTITY/SIGNAL [START]       an event is known (START: one that began before); signal
//	                                      weak is of a series that is not fit to be published
//	close TIME ENTITY/SIGNAL START END    it is over; END - for one that has become the norm
//	verdict TIME ENTITY START STATUS [BY] what a person says
//	manual TIME ENTITY START END          an entry by hand, END - while nobody knows
//	until TIME                            time passes
func registerScript(t *testing.T, cfg traffic.RegisterConfig, text string) string {
	t.Helper()
	g := &traffic.Register{}
	var verdicts []traffic.Verdict
	configure := func() {
		traffic.SortVerdicts(verdicts)
		g.Configure(cfg, verdicts)
	}
	configure()
	var out []string
	at := func(s string) int64 {
		var h float64
		if _, err := fmt.Sscan(s, &h); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		return int64(h * float64(hour))
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "eligible":
			for _, e := range f[1:] {
				g.Take(traffic.Notice{Kind: traffic.Eligibly, Entity: e, Signal: "http", Eligible: true})
			}
			g.Advance(0)
			continue
		case "open":
			entity, signal, _ := strings.Cut(f[2], "/")
			e := traffic.Event{Start: at(f[1]) - slot, DetectedAt: at(f[1]), MinChange: -0.7}
			if len(f) > 3 {
				e.Start = at(f[3])
			}
			g.Take(traffic.Notice{At: at(f[1]) + final, Kind: traffic.EventOpened, Entity: entity, Signal: signal, Eligible: signal != "weak", Event: e})
		case "close":
			entity, signal, _ := strings.Cut(f[2], "/")
			e := traffic.Event{Start: at(f[3]), DetectedAt: at(f[3]) + slot, ClosedAt: at(f[1]), Reason: traffic.Expired, MinChange: -0.7}
			if f[4] != "-" {
				e.Reason, e.HasEnd, e.End = traffic.Recovered, true, at(f[4])
			}
			g.Take(traffic.Notice{At: at(f[1]) + final, Kind: traffic.EventClosed, Entity: entity, Signal: signal, Eligible: signal != "weak", Event: e})
		case "verdict", "manual":
			v := traffic.Verdict{ID: uint64(len(verdicts) + 1), At: at(f[1]), Entity: f[2], Start: at(f[3]), By: "ann"}
			if f[0] == "manual" {
				v.Manual, v.Status = true, traffic.Verified
				if f[4] != "-" {
					v.HasEnd, v.End = true, at(f[4])
				}
			} else {
				v.Status = traffic.Status(f[4])
			}
			verdicts = append(verdicts, v)
			configure()
		case "until":
			g.Advance(at(f[1]))
		default:
			t.Fatalf("%q", line)
		}
	}
	g.Advance(at("100000"))
	changes, audits := g.TakeChanges()
	for _, c := range changes {
		out = append(out, changeLine(c))
	}
	for _, a := range audits {
		out = append(out, fmt.Sprintf("%s audit %s %s>%s by %s: %s", clock(a.At), a.Entity, a.From, a.To, a.By, a.Reason))
	}
	slices.SortStableFunc(out, func(a, b string) int {
		x, _, _ := strings.Cut(a, " ")
		y, _, _ := strings.Cut(b, " ")
		return strings.Compare(x, y)
	})
	return strings.Join(out, "\n")
}

func changeLine(c traffic.Change) string {
	end := "-"
	if c.Record.HasEnd {
		end = clock(c.Record.End)
	}
	text := fmt.Sprintf("%s %s %d %s %s..%s %v %s", clock(c.At), c.Activity, c.Record.Told, c.Record.Entity, clock(c.Record.Start), end, c.Record.Signals, c.Record.Status)
	for _, x := range []struct {
		is   bool
		word string
	}{{c.Record.Held, "held"}, {c.Record.Withdrawn, "withdrawn"}} {
		if x.is {
			text += " " + x.word
		}
	}
	return text
}

func TestRegister(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(*traffic.RegisterConfig)
		text, out string
	}{
		"opened and closed": {nil, `
			eligible AS1 AS2 AS3
			open 10 AS1/http
			close 16 AS1/http 9.75 12
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:16:10 close 2 AS1 0:09:45..0:12:00 [http] UNVERIFIED
		`},
		"two signals verify it, and its start may still move": {nil, `
			open 10 AS1/http 9.75
			open 10.25 AS1/dns 9.25
			close 16 AS1/http 9.75 12
			close 16.5 AS1/dns 9.25 12.5
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:25 update 2 AS1 0:09:15..- [dns http] VERIFIED
			0:10:25 audit AS1 UNVERIFIED>VERIFIED by rule: auto_verify_sources
			0:16:40 close 3 AS1 0:09:15..0:12:30 [dns http] VERIFIED
		`},
		"two signals at once": {nil, `
			open 10 AS1/http
			open 10 AS1/dns
		`, `
			0:10:10 create 1 AS1 0:09:45..- [dns http] VERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:10 audit AS1 UNVERIFIED>VERIFIED by rule: auto_verify_sources
		`},
		"an event within two hours goes on with it": {nil, `
			open 10 AS1/http
			close 12 AS1/http 9.75 10
			open 12.25 AS1/http 12
			close 17 AS1/http 12 13
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:12:10 close 2 AS1 0:09:45..0:10:00 [http] UNVERIFIED
			0:12:25 update 3 AS1 0:09:45..- [http] UNVERIFIED
			0:17:10 close 4 AS1 0:09:45..0:13:00 [http] UNVERIFIED
		`},
		"what had been taken for a part of one becomes one of its own": {func(c *traffic.RegisterConfig) { c.Merge.AutoVerify = 0 }, `
			open 10 AS1/http
			open 13.25 AS1/dns 13
			close 14 AS1/http 9.75 10
			close 18 AS1/dns 13 14
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:13:25 update 2 AS1 0:09:45..- [dns http] UNVERIFIED
			0:14:10 close 3 AS1 0:09:45..0:10:00 [http] UNVERIFIED
			0:14:10 create 1 AS1 0:13:00..- [dns] UNVERIFIED
			0:14:10 audit AS1 >UNVERIFIED by rule: opened
			0:18:10 close 2 AS1 0:13:00..0:14:00 [dns] UNVERIFIED
		`},
		"one that becomes the norm has no end": {nil, `
			open 10 AS1/http
			close 345.75 AS1/http 9.75 -
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			14:09:55 close 2 AS1 0:09:45..- [http] UNVERIFIED
		`},
		"a series that is not fit is not published": {nil, `
			open 10 AS1/weak
			close 16 AS1/weak 9.75 12
		`, `
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
		`},
		"nor does it verify or widen what another one has seen": {nil, `
			open 10 AS1/weak
			open 10.25 AS1/http
			close 16 AS1/weak 9.75 12
			close 16.5 AS1/http 10 11
		`, `
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:25 create 1 AS1 0:10:00..- [http] UNVERIFIED
			0:10:25 audit AS1 >UNVERIFIED by rule: opened
			0:16:40 close 2 AS1 0:10:00..0:11:00 [http] UNVERIFIED
		`},
		"the quorum": {func(c *traffic.RegisterConfig) { c.Merge.Quorum, c.Merge.AutoVerify = 2, 0 }, `
			open 10 AS1/http
			open 11 AS1/dns
		`, `
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:11:10 create 1 AS1 0:09:45..- [dns http] UNVERIFIED
		`},
		"a person decides for good": {nil, `
			open 10 AS1/http
			until 10.5
			verdict 10.5 AS1 9.75 FALSE_POSITIVE
			open 11 AS1/dns
			until 12
			verdict 12 AS1 9.75 VERIFIED
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:31 update 2 AS1 0:09:45..- [http] FALSE_POSITIVE
			0:10:31 audit AS1 UNVERIFIED>FALSE_POSITIVE by ann: verdict
			0:11:10 update 3 AS1 0:09:45..- [dns http] FALSE_POSITIVE
			0:12:01 update 4 AS1 0:09:45..- [dns http] VERIFIED
			0:12:01 audit AS1 FALSE_POSITIVE>VERIFIED by ann: verdict
		`},
		"a verdict before its anomaly waits for it": {nil, `
			verdict 1 AS1 9.75 FALSE_POSITIVE
			open 10 AS1/http
		`, `
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:10 audit AS1 UNVERIFIED>FALSE_POSITIVE by ann: verdict
		`},
		"entries by hand": {nil, `
			manual 10 AS9 8 -
			until 11
			manual 12 AS9 8 11
			verdict 13 AS9 8 FALSE_POSITIVE
		`, `
			0:10:01 create 1 AS9 0:08:00..- [] VERIFIED
			0:10:01 audit AS9 >UNVERIFIED by rule: opened
			0:10:01 audit AS9 UNVERIFIED>VERIFIED by ann: verdict
			0:12:01 close 2 AS9 0:08:00..0:11:00 [] VERIFIED
			0:12:01 audit AS9 VERIFIED>VERIFIED by ann: verdict
			0:13:01 update 3 AS9 0:08:00..0:11:00 [] FALSE_POSITIVE
			0:13:01 audit AS9 VERIFIED>FALSE_POSITIVE by ann: verdict
		`},
		"a third at once is no fault": {nil, `
			eligible AS1 AS2 AS3 AS4 AS5 AS6
			open 10 AS1/http
			open 10.25 AS2/http
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:25 create 1 AS2 0:10:00..- [http] UNVERIFIED
			0:10:25 audit AS2 >UNVERIFIED by rule: opened
		`},
		"more is, until somebody says that it is none": {nil, `
			eligible AS1 AS2 AS3 AS4 AS5
			open 10 AS1/http
			open 10.25 AS2/http
			until 11
			verdict 11 AS2 10 VERIFIED
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:25 update 2 AS1 0:09:45..- [http] UNVERIFIED held
			0:10:25 audit AS2 >UNVERIFIED by rule: opened
			0:10:25 audit AS1 UNVERIFIED>UNVERIFIED by rule: suspected_collector_fault
			0:10:25 audit AS2 UNVERIFIED>UNVERIFIED by rule: suspected_collector_fault
			0:11:01 create 1 AS2 0:10:00..- [http] VERIFIED
			0:11:01 audit AS2 UNVERIFIED>VERIFIED by ann: verdict
		`},
		"a slot later it is none": {nil, `
			eligible AS1 AS2 AS3 AS4 AS5
			open 10 AS1/http
			open 10.5 AS2/http
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:40 create 1 AS2 0:10:15..- [http] UNVERIFIED
			0:10:40 audit AS2 >UNVERIFIED by rule: opened
		`},
		"nobody holds what should not be held": {func(c *traffic.RegisterConfig) { c.HoldFaults = false }, `
			eligible AS1 AS2 AS3
			open 10 AS1/http
			open 10 AS2/http
		`, `
			0:10:10 create 1 AS1 0:09:45..- [http] UNVERIFIED
			0:10:10 create 1 AS2 0:09:45..- [http] UNVERIFIED
			0:10:10 audit AS1 >UNVERIFIED by rule: opened
			0:10:10 audit AS2 >UNVERIFIED by rule: opened
		`},
	} {
		cfg := traffic.DefaultRegisterConfig()
		if c.change != nil {
			c.change(&cfg)
		}
		var want []string
		for l := range strings.Lines(c.out) {
			if l = strings.TrimSpace(l); l != "" {
				want = append(want, l)
			}
		}
		if got := registerScript(t, cfg, c.text); got != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, strings.Join(want, "\n"))
		}
	}
}

// TestRegisterRandom: what a register says does not depend on the steps in which time comes, nor on
// whether it was written and read; and its anomalies are those that Merge makes of all events.
func TestRegisterRandom(t *testing.T) {
	anomalies, verified := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		cfg := traffic.DefaultRegisterConfig()
		cfg.HoldFaults = seed%2 == 0
		notices, verdicts := randomNotices(rng)
		one := runRegister(t, cfg, notices, verdicts, nil)
		two := runRegister(t, cfg, notices, verdicts, rng)
		if one.said != two.said {
			t.Fatalf("seed %d:\n%s\nwith cuts\n%s", seed, one.said, two.said)
		}
		anomalies += len(one.records)
		for _, entity := range []string{"AS1", "AS2", "AS3"} {
			var events []traffic.SignalEvent
			for _, n := range notices {
				if n.Kind == traffic.EventClosed && n.Entity == entity {
					events = append(events, traffic.SignalEvent{Signal: n.Signal, Event: n.Event})
				}
			}
			var want, got []string
			for _, a := range traffic.Merge(cfg.Merge, events) {
				want = append(want, fmt.Sprint(a.Start, a.End, a.HasEnd, a.Signals))
			}
			for _, r := range one.records {
				if r.Entity == entity && !r.Withdrawn {
					got = append(got, fmt.Sprint(r.Start, r.End, r.HasEnd, r.Signals))
					if r.Status == traffic.Verified {
						verified++
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, %s:\n%s\nwant\n%s", seed, entity, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	if anomalies < 300 || verified < 30 {
		t.Errorf("%d anomalies, %d verified: the test proves little", anomalies, verified)
	}
}

// randomNotices are the events of three entities with two signals each in three days, and what people
// say of them.
func randomNotices(rng *rand.Rand) (notices []traffic.Notice, verdicts []traffic.Verdict) {
	for _, entity := range []string{"AS1", "AS2", "AS3"} {
		notices = append(notices, traffic.Notice{Kind: traffic.Eligibly, Entity: entity, Signal: "a", Eligible: true})
		for _, signal := range []string{"a", "b"} {
			at := int64(rng.IntN(20)) * slot
			for at < 72*hour {
				start := at
				detected := start + slot*int64(1+3*rng.IntN(2))
				end := detected + slot*int64(rng.IntN(20))
				e := traffic.Event{Start: start, DetectedAt: detected, MinChange: -rng.Float64()}
				notices = append(notices, traffic.Notice{At: detected + final, Kind: traffic.EventOpened, Entity: entity, Signal: signal, Eligible: true, Event: e})
				e.HasEnd, e.End, e.ClosedAt, e.Reason = true, end, end+4*hour, traffic.Recovered
				notices = append(notices, traffic.Notice{At: e.ClosedAt + final, Kind: traffic.EventClosed, Entity: entity, Signal: signal, Eligible: true, Event: e})
				if rng.IntN(4) == 0 {
					verdicts = append(verdicts, traffic.Verdict{ID: rng.Uint64(), At: at + rng.Int64N(9*hour), Entity: entity, Start: start,
						Status: []traffic.Status{traffic.Verified, traffic.FalsePositive}[rng.IntN(2)], By: "ann"})
				}
				at = e.ClosedAt + slot*int64(rng.IntN(60))
			}
		}
	}
	slices.SortStableFunc(notices, func(a, b traffic.Notice) int { return int(a.At/minute - b.At/minute) })
	traffic.SortVerdicts(verdicts)
	return notices, verdicts
}

type registerRun struct {
	said    string
	records []traffic.Record
}

// runRegister gives notices to a register; with cuts, time comes in steps and the register is written
// and read in between.
func runRegister(t *testing.T, cfg traffic.RegisterConfig, notices []traffic.Notice, verdicts []traffic.Verdict, cuts *rand.Rand) registerRun {
	t.Helper()
	g := &traffic.Register{}
	g.Configure(cfg, verdicts)
	var said []string
	take := func() {
		changes, audits := g.TakeChanges()
		for _, c := range changes {
			said = append(said, fmt.Sprintf("%d c %+v", c.At, c))
		}
		for _, a := range audits {
			said = append(said, fmt.Sprintf("%d a %+v", a.At, a))
		}
	}
	last := int64(0)
	for _, n := range notices {
		if cuts != nil && cuts.IntN(3) == 0 && n.At > last {
			g.Advance(last + cuts.Int64N(n.At-last))
			take()
			b := g.Append(nil)
			g = &traffic.Register{}
			if err := g.Read(b); err != nil {
				t.Fatal(err)
			}
			g.Configure(cfg, verdicts)
			if !bytes.Equal(g.Append(nil), b) {
				t.Fatal("the state is another one after it was read")
			}
		}
		g.Take(n)
		last = n.At
	}
	g.Advance(last + 10*hour)
	take()
	slices.SortStableFunc(said, func(a, b string) int {
		x, _, _ := strings.Cut(a, " ")
		y, _, _ := strings.Cut(b, " ")
		return strings.Compare(fmt.Sprintf("%20s", x), fmt.Sprintf("%20s", y))
	})
	return registerRun{strings.Join(said, "\n"), g.Records()}
}

// TestRegisterForgets: what is over is forgotten, in time.
func TestRegisterForgets(t *testing.T) {
	g := &traffic.Register{}
	g.Configure(traffic.DefaultRegisterConfig(), nil)
	sizes := map[int]int{}
	for year := range 6 {
		for week := range 52 {
			at := int64(year*52+week) * 7 * 24 * hour
			e := traffic.Event{Start: at, DetectedAt: at + slot}
			g.Take(traffic.Notice{At: at + slot + final, Kind: traffic.EventOpened, Entity: "AS1", Signal: "a", Eligible: true, Event: e})
			e.Reason, e.HasEnd, e.End, e.ClosedAt = traffic.Recovered, true, at+hour, at+5*hour
			g.Take(traffic.Notice{At: at + 5*hour + final, Kind: traffic.EventClosed, Entity: "AS1", Signal: "a", Eligible: true, Event: e})
		}
		sizes[year] = len(g.Append(nil))
	}
	if n := len(g.Records()); n < 57 || n > 64 {
		t.Errorf("%d anomalies of 400 days with one a week", n)
	}
	if sizes[5] > sizes[2]+1000 {
		t.Errorf("the state grows: %v", sizes)
	}
}

func FuzzReadRegister(f *testing.F) {
	cfg := traffic.DefaultRegisterConfig()
	notices, verdicts := randomNotices(rand.New(rand.NewPCG(1, 3)))
	g := &traffic.Register{}
	g.Configure(cfg, verdicts)
	f.Add(g.Append(nil))
	for _, n := range notices[:12] {
		g.Take(n)
	}
	f.Add(g.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &traffic.Register{}
		if g.Read(b) != nil {
			return
		}
		g.Configure(cfg, verdicts[:2])
		again := &traffic.Register{}
		if err := again.Read(g.Append(nil)); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if g.Due() < 1<<60 && g.Due() > -1<<60 {
			g.Advance(g.Due() + 10*hour)
		}
		g.TakeChanges()
	})
}

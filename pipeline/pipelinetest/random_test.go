package pipelinetest_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestRandom draws windows, a stream and a schedule from a seed, and holds the final rows,
// the late rows, the counts and the missed pairs against the oracle. With TIDEMARK_SEED it
// runs that seed alone.
func TestRandom(t *testing.T) {
	kinds, late := map[string]int{}, 0
	for seed := range seeds(t, 250, 20_000) {
		p, h := randomCase(seed)
		m := runMachine(p, h, seed)
		report(t, "TestRandom", seed, p, m)
		kinds[p.spec.Kind]++
		late += m.lateRows()
		if t.Failed() {
			return
		}
	}
	t.Logf("cases by kind %v, %d late rows", kinds, late)
}

// TestRandomNegative: what a machine does wrong is noticed, in most cases that have late
// rows at all.
func TestRandomNegative(t *testing.T) {
	for _, wrong := range []string{wrongVerdict, wrongLate, wrongTwice} {
		noticed, of := 0, 0
		for seed := range uint64(25) {
			p, h := randomCase(seed)
			h.restart = 0
			if m := runMachine(p, h, seed); m.lateRows() == 0 || len(m.input) < 2 {
				continue
			}
			h.wrong = wrong
			of++
			if m := runMachine(p, h, seed); len(m.bad) > 0 {
				noticed++
			}
		}
		t.Logf("%s: noticed in %d of %d cases", wrong, noticed, of)
		if noticed*4 < of || of < 10 {
			t.Errorf("%s: noticed in %d of %d cases: the comparison is blind", wrong, noticed, of)
		}
	}
}

// seeds are those of a test: the one that TIDEMARK_SEED names, or so many.
func seeds(t *testing.T, now, then uint64) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		if s := os.Getenv("TIDEMARK_SEED"); s != "" {
			seed, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				t.Fatalf("TIDEMARK_SEED: %v", err)
			}
			yield(seed)
			return
		}
		for seed := range nightly(now, then) {
			if !yield(seed) {
				return
			}
		}
	}
}

// report says what is wrong with a run and how to see it again.
func report(t *testing.T, test string, seed uint64, p plan, m *machine) {
	t.Helper()
	if len(m.bad) == 0 {
		return
	}
	t.Errorf("seed %d: TIDEMARK_SEED=%d go test ./pipeline/pipelinetest -run '^%s$'\n%s\n%d problems:\n%s", seed, seed, test, p.text,
		len(m.bad), strings.Join(m.bad[:min(4, len(m.bad))], "\n"))
}

// lateRows is how many late rows were published.
func (m *machine) lateRows() int {
	lines, err := m.late.Published()
	must(err)
	return len(lines)
}

func chance(rng *rand.Rand, n int) bool { return rng.IntN(n) == 0 }

func oneOf[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// randomCase draws what a machine runs, and how.
func randomCase(seed uint64) (plan, how) {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := plan{schema: pipelinetest.WideSchema()}
	unit := p.shape(rng)
	p.spec.Lateness = unit * oneOf(rng, 0, 0, rng.Int64N(8), rng.Int64N(60))
	if chance(rng, 20) && p.spec.Kind != "session" {
		p.spec.Lateness = pipeline.MaxTicks
	}
	p.spec.Bound = unit * rng.Int64N(12)
	p.spec.QuietAfter, p.spec.MaxAhead = pipeline.MaxTicks, pipeline.MaxTicks
	if chance(rng, 3) {
		p.spec.QuietAfter = unit * rng.Int64N(30)
	}
	if chance(rng, 4) {
		p.spec.MaxAhead = unit * rng.Int64N(30)
	}
	if p.spec.Kind == "session" {
		p.session(rng, unit)
	} else {
		p.window(rng, unit)
	}
	p.rows(rng, unit)
	p.text = fmt.Sprintf("windows %+v\nemit %s", p.spec, p.text)
	h := how{batch: 1 + rng.IntN(oneOf(rng, 1, 8, 40)), shards: 1 + rng.IntN(5), order: rng.IntN(3),
		tick: 3 + rng.IntN(20), barrier: 20 + rng.IntN(60), restart: oneOf(rng, 0, 40, 100), stall: oneOf(rng, 0, 10, 30), direct: chance(rng, 2)}
	return p, h
}

// shape draws where windows lie, and returns by how much times differ.
func (p *plan) shape(rng *rand.Rand) (unit int64) {
	unit = oneOf[int64](rng, 1, 1, 1000, 1_000_003)
	s := &p.spec
	s.Kind = oneOf(rng, "hopping", "hopping", "hopping", "cumulate", "days", "global", "session", "session")
	s.MaxLength = pipeline.MaxTicks
	switch s.Kind {
	case "hopping":
		s.Size = unit * (1 + rng.Int64N(30))
		s.Slide = s.Size
		switch rng.IntN(6) {
		case 0: // divides or not
			s.Slide = max(1, s.Size/(1+rng.Int64N(8)))
		case 1: // slices enough for stacks
			s.Slide = max(1, s.Size/(16+rng.Int64N(40)))
		case 2: // and holes
			s.Slide = max(s.Size/10, 1+rng.Int64N(2*s.Size))
		}
		s.Offset = rng.Int64N(2*s.Slide-1) - s.Slide + 1
	case "cumulate":
		s.Slide = unit * (1 + rng.Int64N(8))
		s.Size = s.Slide * (1 + rng.Int64N(8))
		s.Offset = rng.Int64N(2*s.Size-1) - s.Size + 1
	case "days":
		unit = 3_600_000_007 // hours, and not on the hour
		s.Size, s.Slide = 86_400_000_000, 86_400_000_000
		name := oneOf(rng, "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo")
		zone, err := time.LoadLocation(name)
		must(err)
		s.Zone = zone
	case "session":
		s.Gap = unit * (1 + rng.Int64N(12))
		s.Merge = chance(rng, 3)
		if chance(rng, 4) {
			s.MaxLength = s.Gap * (1 + rng.Int64N(5))
		}
	}
	return unit
}

// aggregates draws some of those that there are. Panes that are added up have the four
// that can be.
func (p *plan) aggregates(rng *rand.Rand) []operators.Aggregate {
	p.aggs = []operators.Aggregate{{Fn: "count", As: "count"}}
	for _, column := range []string{"value", "level"} {
		for _, fn := range []string{"sum", "min", "max", "mean", "first", "last", "collect", "collect_by_ts", "distinct", "variance", "increase"} {
			switch {
			case p.discard && (column == "level" || fn != "sum" && fn != "min" && fn != "max"):
			case column == "level" && (strings.HasPrefix(fn, "collect") || fn == "increase" || fn == "variance"):
			case p.discard || chance(rng, 3):
				as := fn
				if column == "level" {
					as = "level_" + fn
				}
				p.aggs = append(p.aggs, operators.Aggregate{Fn: fn, Column: column, As: as})
			}
		}
	}
	if !p.discard && chance(rng, 2) {
		p.aggs = append(p.aggs, operators.Aggregate{Fn: "id_sum", As: "id_sum"}, operators.Aggregate{Fn: "id_xor", As: "id_xor"})
	}
	return p.aggs
}

// window draws when windows emit.
func (p *plan) window(rng *rand.Rand, unit int64) {
	s := p.spec
	cfg := operators.WindowConfig{Shape: operators.Shape{Kind: operators.Hopping, Size: s.Size, Slide: s.Slide, Offset: s.Offset, Zone: s.Zone},
		Lateness: s.Lateness, Trigger: oneOf(rng, operators.OnMark, operators.OnMark, operators.OnClose, operators.OnUpdate, operators.OnRule),
		LateRows: oneOf(rng, 0, 1, 1, 3), LateDelay: oneOf[int64](rng, 0, 5, pipeline.MaxTicks), Keys: []string{"key"}}
	switch s.Kind {
	case "cumulate":
		cfg.Kind = operators.Cumulate
	case "global":
		cfg.Shape = operators.Shape{Kind: operators.Global}
	}
	stacks := s.Slide > 0 && s.Size/s.Slide > 16
	if stacks { // others fold every row into every window
		cfg.Trigger = oneOf(rng, operators.OnMark, operators.OnClose)
	}
	if cfg.Trigger == operators.OnRule || cfg.Trigger == operators.OnMark && !stacks && chance(rng, 2) {
		switch rng.IntN(4) {
		case 0:
			cfg.EarlyRows = 1 + rng.IntN(4)
		case 1:
			cfg.EarlyDelay, cfg.EarlyAligned = 1+rng.Int64N(20), chance(rng, 2)
		case 2:
			cfg.EarlyEvery = unit * (1 + rng.Int64N(6))
		case 3:
			cfg.EarlyRows, cfg.EarlyDelay, cfg.EarlyEvery = 2, 10, 7*unit
		}
	}
	cfg.OnTimeIfNew = chance(rng, 4)
	if chance(rng, 4) {
		p.spec.MaxOffline = s.Bound + 1 + unit*rng.Int64N(300)
		cfg.Clock = &operators.KeyClock{Bound: s.Bound, MaxOffline: p.spec.MaxOffline, MaxAhead: s.MaxAhead}
	}
	switch rng.IntN(5) {
	case 0:
		cfg.Discard = true
	case 1:
		cfg.Retract, cfg.SkipUnchanged = true, chance(rng, 2)
	case 2:
		cfg.SkipUnchanged = true
	}
	p.discard, p.retract = cfg.Discard, cfg.Retract
	cfg.Aggregates = p.aggregates(rng)
	p.text = fmt.Sprintf("%+v clock %+v", cfg, cfg.Clock)
	p.open = func(mem memory.Allocator, seed uint64) (pipelinetest.Window, error) {
		cfg.Seed = seed
		return operators.NewWindow(cfg, p.schema, mem)
	}
}

// session draws when sessions emit.
func (p *plan) session(rng *rand.Rand, unit int64) {
	s := p.spec
	cfg := operators.SessionConfig{Gap: s.Gap, Touch: operators.TouchSplit, Lateness: s.Lateness, MaxLength: s.MaxLength,
		Trigger:  oneOf(rng, operators.OnMark, operators.OnMark, operators.OnClose, operators.OnUpdate, operators.OnRule),
		LateRows: oneOf(rng, 0, 1, 1, 3), LateDelay: oneOf[int64](rng, 0, 5, pipeline.MaxTicks), Keys: []string{"key"}}
	if s.Merge {
		cfg.Touch = operators.TouchMerge
	}
	if cfg.Trigger == operators.OnRule || cfg.Trigger == operators.OnMark && chance(rng, 2) {
		switch rng.IntN(4) {
		case 0:
			cfg.EarlyRows = 1 + rng.IntN(4)
		case 1:
			cfg.EarlyDelay, cfg.EarlyAligned = 1+rng.Int64N(20), chance(rng, 2)
		case 2:
			cfg.EarlyEvery = unit * (1 + rng.Int64N(6))
		case 3:
			cfg.EarlyRows, cfg.EarlyDelay, cfg.EarlyEvery = 2, 10, 7*unit
		}
	}
	cfg.OnTimeIfNew = chance(rng, 4)
	switch rng.IntN(5) {
	case 0:
		cfg.Discard = true
	case 1:
		cfg.Retract, cfg.SkipUnchanged = true, chance(rng, 2)
	case 2:
		cfg.SkipUnchanged = true
	}
	p.discard, p.retract = cfg.Discard, cfg.Retract
	cfg.Aggregates = p.aggregates(rng)
	p.text = fmt.Sprintf("%+v", cfg)
	p.open = func(mem memory.Allocator, seed uint64) (pipelinetest.Window, error) {
		cfg.Seed = seed
		return operators.NewSession(cfg, p.schema, mem)
	}
}

// rows draws the splits: out of order, with equal times, gaps, rows beyond the bound and
// rows far off, before and after 1970.
func (p *plan) rows(rng *rand.Rand, unit int64) {
	big := !p.discard && chance(rng, 12) // sums do not fit
	keys := 1 + rng.IntN(6)
	start := -unit * rng.Int64N(200)
	if p.spec.Zone != nil {
		start = time.Date(2011, 12, 26, 0, 0, 0, 0, time.UTC).UnixMicro() + oneOf[int64](rng, 0, 75, 83, 296, 307)*86_400_000_000
	}
	p.input = make([][]pipelinetest.Row, 1+rng.IntN(4))
	for s := range p.input {
		at := start + unit*rng.Int64N(20)
		skew := unit * rng.Int64N(10)
		for i := range 10 + rng.IntN(70) {
			at += unit * rng.Int64N(4)
			if chance(rng, 40) {
				at += unit * rng.Int64N(100)
			}
			t := at - rng.Int64N(p.spec.Bound+1)
			switch rng.IntN(40) {
			case 0, 1, 2, 3, 4:
				t -= unit * rng.Int64N(60)
			case 5:
				t -= unit * rng.Int64N(1000)
			case 6:
				if p.spec.MaxAhead < pipeline.MaxTicks || chance(rng, 10) {
					t += unit * rng.Int64N(1000)
				}
			}
			if unit > 1 && chance(rng, 3) {
				t += rng.Int64N(unit)
			}
			r := pipelinetest.Row{Time: t, Ingest: at + skew, Key: fmt.Sprint("k", rng.IntN(keys)), Value: rng.Int64N(201) - 100, Split: int32(s), Offset: int64(i),
				Level: math.Ldexp(rng.Float64()-0.5, rng.IntN(40)-20)}
			if p.spec.MaxOffline > 0 { // a key with a clock stays in its split
				r.Key = fmt.Sprint(r.Key, "-of-", s)
			}
			if r.Key > "k3" {
				r.Key += "-with-a-name-that-fits-in-no-slot"
			}
			if big {
				r.Value *= math.MaxInt64 / 100
			}
			p.input[s] = append(p.input[s], r)
		}
	}
}

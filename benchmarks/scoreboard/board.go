package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// figure is a name with the value that a rig gave it.
type figure struct {
	name  string
	value float64
}

// result is what a rig has printed: names in the order of their first appearance.
type result struct {
	rig    rig
	commit string // on which it ran
	values []figure
}

var (
	scoreLine = regexp.MustCompile(`scoreboard: (.*)`)
	// largest are figures of which the largest counts; all others add up.
	largest = regexp.MustCompile(`^recovery_p\d+_s$|_mb$|_limit$|_windows$`)
	// aliases are names that rigs give to figures of the board.
	aliases = map[string]string{"doubled": "duplicated", "violations": "wrong", "crashers": "wrong", "crash_points_covered": "crash_points", "stall_heap_peak_mb": "memory_ceiling_mib"}
)

// read adds up the figures in what a rig printed, and tells what speaks against it.
func read(r rig, text []byte) (result, error) {
	res := result{rig: r}
	var errs []error
	for _, line := range scoreLine.FindAllSubmatch(text, -1) {
		for _, pair := range strings.Fields(string(line[1])) {
			name, value, _ := strings.Cut(pair, "=")
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				errs = append(errs, fmt.Errorf("figure %q: want name=number", pair))
				continue
			}
			res.add(name, v)
		}
	}
	for _, name := range r.needs {
		if _, ok := res.value(name); !ok {
			errs = append(errs, fmt.Errorf("%s is missing: did its test run", name))
		}
	}
	for _, f := range res.values {
		if n := boardName(f.name); slices.Contains([]string{"lost", "duplicated", "wrong"}, n) && f.value != 0 {
			errs = append(errs, fmt.Errorf("%s is %s, want 0", f.name, number(f.value)))
		}
	}
	if n, _ := res.value("negative_controls_failed"); int(n) != r.controls {
		errs = append(errs, fmt.Errorf("%s of %d negative controls failed, all must: the rig does not notice what it is for", number(n), r.controls))
	}
	return res, errors.Join(errs...)
}

func boardName(name string) string {
	if to, ok := aliases[name]; ok {
		return to
	}
	return name
}

func (r *result) add(name string, v float64) {
	for i := range r.values {
		if f := &r.values[i]; f.name == name {
			f.value = combine(name, f.value, v)
			return
		}
	}
	r.values = append(r.values, figure{name, v})
}

func combine(name string, a, b float64) float64 {
	if largest.MatchString(name) {
		return max(a, b)
	}
	return a + b
}

func (r result) value(name string) (float64, bool) {
	for _, f := range r.values {
		if f.name == name {
			return f.value, true
		}
	}
	return 0, false
}

// figures are all of a rig, as the table shows them.
func (r result) figures() string {
	var out []string
	for _, f := range r.values {
		out = append(out, f.name+" "+number(f.value))
	}
	return strings.Join(out, ", ")
}

// number writes a figure without digits that say nothing.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// board is the sum of all rigs.
type board struct {
	mode, commit, date string
	results            []result
}

// first and more are the figures of the page, in its order: those that a release is judged by,
// and the others.
var (
	first = []string{"kills", "crash_points", "crash_states", "corruptions", "clickhouse_faults", "simulated_hours",
		"lost", "duplicated", "wrong", "negative_controls_failed", "recovery_p95_s"}
	more = []string{"clickhouse_blocks", "disk_faults", "crash_points_total", "fuzz_targets", "fuzz_execs", "memory_ceiling_mib", "recovery_p50_s"}
)

// total combines a figure of all rigs.
func (b board) total(name string) (sum float64, found bool) {
	for _, r := range b.results {
		for _, f := range r.values {
			switch {
			case boardName(f.name) != name:
			case !found:
				sum, found = f.value, true
			default:
				sum = combine(name, sum, f.value)
			}
		}
	}
	return sum, found
}

// least are the numbers of the release gate.
var least = []figure{{"kills", 600}, {"crash_states", 100_000}, {"corruptions", 50_000}, {"clickhouse_blocks", 10_000}, {"clickhouse_faults", 1000}}

// check tells what is missing for a page: a figure, or in a nightly run a number.
func (b board) check() error {
	var errs []error
	for _, name := range slices.Concat(first, more) {
		if _, ok := b.total(name); !ok {
			errs = append(errs, fmt.Errorf("no rig gave %s", name))
		}
	}
	covered, _ := b.total("crash_points")
	if all, _ := b.total("crash_points_total"); covered != all {
		errs = append(errs, fmt.Errorf("%s of %s crash points are covered, want all", number(covered), number(all)))
	}
	for _, f := range least {
		if got, _ := b.total(f.name); b.mode == "nightly" && got < f.value {
			errs = append(errs, fmt.Errorf("%s is %s, want at least %s", f.name, number(got), number(f.value)))
		}
	}
	return errors.Join(errs...)
}

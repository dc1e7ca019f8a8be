package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// printed is what the rigs of a good run print, by name. Lines are as go test -v prints them.
func printed() map[string]string {
	log := func(lines ...string) string {
		return "=== RUN   TestX\n    x_test.go:7: scoreboard: " + strings.Join(lines, "\n    x_test.go:8: scoreboard: ") + "\n--- PASS: TestX (0.1s)\n"
	}
	return map[string]string{
		"power losses":                        log("crash_states=5000 violations=0 lost=0 doubled=0 wrong=0", "negative_controls_failed=4", "crash_states=12 violations=0"),
		"corruption":                          log("corruptions=40", "corruptions=2", "negative_controls_failed=1"),
		"failing disks":                       log("disk_faults=77 lost=0 doubled=0 wrong=0", "negative_controls_failed=1"),
		"simulated time":                      log("simulated_hours=1234", "negative_controls_failed=1"),
		"oracle":                              "ok\n",
		"deaths of the runtime":               log("kills=100"),
		"two processes":                       log("takeovers=80 fenced=60", "negative_controls_failed=1"),
		"stalled sink":                        log("stall_s=1 stall_rows_held=10 stall_rows_limit=20 stall_heap_peak_mb=33.5", "negative_controls_failed=1"),
		"kills":                               log("kills=10 fingerprint_rows=60 recovery_p50_s=0.2 recovery_p95_s=0.4", "negative_controls_failed=2"),
		"deaths of domains":                   log("kills=12 negative_controls_failed=3"),
		"recovery":                            log("recovery_p50_s=1.00 recovery_p95_s=1.25"),
		"crash points of the program":         log("kills=30 crash_points_covered=30 crash_points_total=30"),
		"crash points of the ClickHouse sink": log("kills=8 crash_points_covered=8 crash_points_total=8"),
		"ClickHouse faults":                   log("fault_stall=5", "clickhouse_blocks=300 clickhouse_faults=57 lost=0 duplicated=0 wrong=0", "negative_controls_failed=4"),
		"fingerprints":                        log("kills=5 fingerprint_rows=1000 negative_controls_failed=8"),
		"hostile bytes":                       "scoreboard: fuzz_targets=20 fuzz_execs=12345 crashers=0\n",
	}
}

// score reads what rigs printed and returns the board with every complaint.
func score(text map[string]string) (board, []string) {
	b := board{mode: "quick", commit: "c0ffee", date: "2026-03-01"}
	var problems []string
	for _, r := range rigs() {
		res, err := read(r, []byte(text[r.name]))
		if err != nil {
			problems = append(problems, r.name+": "+err.Error())
		}
		b.results = append(b.results, res)
	}
	if err := b.check(); err != nil {
		problems = append(problems, err.Error())
	}
	return b, problems
}

func TestPage(t *testing.T) {
	b, problems := score(printed())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	page := b.page()
	const want = `kills: 165
crash_points: 38
crash_states: 5012
corruptions: 42
clickhouse_faults: 57
simulated_hours: 1234
lost: 0
duplicated: 0
wrong: 0
negative_controls_failed: 26
recovery_p95_s: 1.25
commit: c0ffee
clickhouse_blocks: 300
disk_faults: 77
crash_points_total: 38
fuzz_targets: 20
fuzz_execs: 12345
memory_ceiling_mib: 33.5
recovery_p50_s: 1
mode: quick
date: 2026-03-01

# Reliability
`
	if !strings.HasPrefix(page, want) {
		t.Errorf("page:\n%s\nwant it to begin\n%s", page[:min(len(page), len(want))], want)
	}
	for _, r := range rigs() {
		if !strings.Contains(page, "| "+r.name+" | ") {
			t.Errorf("no row of %s", r.name)
		}
	}
	if row := "`go test -count=1 -v -timeout 60m -run 'TestSimulator\\|TestClockJumps' ./pipeline/pipelinetest`"; !strings.Contains(page, row) {
		t.Errorf("no command %s in\n%s", row, page)
	}
}

// TestRefused: what must keep a page from being written.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, rig, from, to, want string }{
		{"no line", "corruption", "corruptions", "korruptions", "corruption: corruptions is missing"},
		{"no number", "kills", "kills=10", "kills=ten", `kills: figure "kills=ten": want name=number`},
		{"a loss", "ClickHouse faults", "lost=0", "lost=1", "ClickHouse faults: lost is 1, want 0"},
		{"a double by another name", "failing disks", "doubled=0", "doubled=2", "failing disks: doubled is 2, want 0"},
		{"a violation", "power losses", "violations=0", "violations=1", "power losses: violations is 2, want 0"},
		{"a crasher", "hostile bytes", "crashers=0", "crashers=1", "hostile bytes: crashers is 1, want 0"},
		{"a control that passed", "power losses", "negative_controls_failed=4", "negative_controls_failed=3", "power losses: 3 of 4 negative controls failed"},
		{"a control that did not run", "stalled sink", "negative_controls_failed=1", "", "stalled sink: 0 of 1 negative controls failed"},
		{"a point that was not reached", "crash points of the program", "covered=30", "covered=29", "37 of 38 crash points are covered"},
	} {
		text := printed()
		text[c.rig] = strings.ReplaceAll(text[c.rig], c.from, c.to)
		_, problems := score(text)
		if all := strings.Join(problems, "\n"); !strings.Contains(all, c.want) {
			t.Errorf("%s: %q, want %q", c.name, all, c.want)
		}
	}
	b, _ := score(printed())
	b.mode = "nightly"
	if err := b.check(); err == nil || !strings.Contains(err.Error(), "clickhouse_blocks is 300, want at least 10000") {
		t.Errorf("a quick run as a nightly one: %v", err)
	}
	b.results = nil
	if err := b.check(); err == nil || !strings.Contains(err.Error(), "no rig gave kills") {
		t.Errorf("no rig at all: %v", err)
	}
}

// TestResume: what has passed on a commit is not run again, and what has failed is.
func TestResume(t *testing.T) {
	git := func(args ...string) string {
		out, err := exec.Command("git", args...).Output()
		if err != nil {
			t.Fatalf("git %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	t.Chdir(t.TempDir())
	git("init", "-q")
	commit := func() string {
		git("-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m")
		return git("rev-parse", "HEAD")
	}
	first, second, third := commit(), commit(), commit()
	b := board{mode: "nightly", commit: second}
	g := gate{nightly: true, resume: true, logs: t.TempDir()}
	good, bad := rig{name: "a rig", quick: []string{"echo", "scoreboard: kills=1"}}, rig{name: "a rig", quick: []string{"false"}}
	if _, _, err := g.result(t.Context(), bad, b); err == nil {
		t.Error("a rig that fails has passed")
	}
	if _, _, err := g.result(t.Context(), good, b); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(g.logs + "/a-rig.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		commit, mode, since string
		again               bool
	}{
		{second, "nightly", "", false}, {second, "quick", "", true}, {third, "nightly", "", true},
		{third, "nightly", first, false}, {third, "nightly", second, false}, {third, "nightly", third, true}, {third, "nightly", "none", true},
	} {
		g.since = c.since
		text, on, err := g.result(t.Context(), bad, board{mode: c.mode, commit: c.commit}) // fails when it runs
		if c.again != (err != nil) {
			t.Errorf("%+v: %v", c, err)
		}
		res, rerr := read(rig{needs: []string{"kills"}}, text)
		if !c.again && (on != second || rerr != nil || len(res.values) != 1) {
			t.Errorf("%+v: %q of %s, %v", c, text, on, rerr)
		}
		if err := os.WriteFile(g.logs+"/a-rig.log", log, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

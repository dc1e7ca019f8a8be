package main

import "strings"

// rig is one run of tests, what it shows, and what it must print.
type rig struct {
	name   string
	proves string
	dir    string   // where the command runs, "" for the root
	quick  []string // the command
	night  []string // that of the nightly run, nil for the same
	seeds  string
	needs  []string // figures
	// controls is how many negative controls it has.
	controls int
}

// rigs are all of them, the quick ones first.
func rigs() []rig {
	return []rig{
		{
			name: "power losses", proves: "after a power loss at any step a checkpoint that counted is found, and the job ends with the oracle's rows",
			quick: goTest("60m", "TestCrashStates", "./pipeline/pipelinetest"), seeds: "3; nightly 60: 0 and up",
			needs: []string{"crash_states", "violations", "lost", "doubled", "wrong"}, controls: 4,
		},
		{
			name: "corruption", proves: "a checkpoint or a published file with a flipped bit or a missing end is refused",
			quick: goTest("60m", "TestCorrupt", "./pipeline/pipelinetest"), seeds: "fixed in corrupt_test.go",
			needs: []string{"corruptions"}, controls: 1,
		},
		{
			name: "failing disks", proves: "a disk that is full, fails or lies stops the job or delays it, and costs no row",
			quick: goTest("60m", "TestDiskFaults", "./pipeline/pipelinetest"), seeds: "0 and up",
			needs: []string{"disk_faults", "lost", "doubled", "wrong"}, controls: 1,
		},
		{
			name: "simulated time", proves: "crashes, quiet splits and a wall clock that jumps by hours leave the rows the oracle's",
			quick: goTest("60m", "TestSimulator|TestClockJumps", "./pipeline/pipelinetest"), seeds: "0 and up",
			needs: []string{"simulated_hours"}, controls: 1,
		},
		{
			name: "oracle", proves: "random jobs have the rows of a plain definition, a month keeps its memory, one input has one hash",
			quick: goTest("120m", "TestRandom|TestOneHash|TestMonth", "./pipeline/pipelinetest"), seeds: "0 and up",
		},
		{
			name: "deaths of the runtime", proves: "a run that ends at any step is taken up by the next",
			quick: goTest("60m", "TestRunSurvives", "./pipeline/pipelinetest"), seeds: "0 and up",
			needs: []string{"kills"},
		},
		{
			name: "two processes", proves: "of processes that run one job side by side, each slow at random, one publishes",
			quick: goTest("60m", "TestTakenOver", "./pipeline/pipelinetest"), seeds: "0 and up",
			needs: []string{"takeovers", "fenced"}, controls: 1,
		},
		{
			name: "stalled sink", proves: "a sink that does not answer stops the reading, and memory does not grow",
			quick: goTest("60m", "TestStalledSink", "./pipeline/pipelinetest"), seeds: "none",
			needs: []string{"stall_heap_peak_mb", "stall_rows_held"}, controls: 1,
		},
		{
			name: "kills", proves: "the program killed by SIGKILL at any moment: no row of results missing or twice, soon at work again",
			quick: goTest("90m", "TestKilled", "./cmd/runner"), seeds: "10 kills, 5 input",
			needs: []string{"kills", "recovery_p50_s", "recovery_p95_s"}, controls: 2,
		},
		{
			name: "deaths of domains", proves: "jobs that follow cages, racks and networks are killed: all their tables say what they say without deaths",
			quick: goTest("60m", "TestDomainsKilled", "./cmd/runner"), seeds: "7; moments of death 1",
			needs: []string{"kills"}, controls: 3,
		},
		{
			name: "recovery", proves: "from a start on a large state to the first new row",
			quick: goTest("60m", "TestRecovery", "./cmd/runner"), seeds: "3",
			needs: []string{"recovery_p50_s", "recovery_p95_s"},
		},
		{
			name: "crash points of the program", proves: "it dies at every named step, and starts again without a cleanup",
			quick: goTest("60m", "TestCrashPoints", "-tags", "crash", "./cmd/runner"), seeds: "1",
			needs: []string{"kills", "crash_points_covered", "crash_points_total"},
		},
		{
			name: "crash points of the ClickHouse sink", proves: "it dies at every named step, and every row is in the table once",
			quick: goTest("60m", "TestCrashPoints", "-tags", "crash", "./sinks/clickhouse"), seeds: "1",
			needs: []string{"kills", "crash_points_covered", "crash_points_total"},
		},
		{
			name: "ClickHouse faults", proves: "blocks into the real engine, which dies, stalls, refuses, and loses answers and connections: every row once, every epoch recorded, the audit clean",
			dir: "integration", quick: goTest("60m", "TestClickHouseFaultRig", "."), seeds: "11; controls 7",
			needs: []string{"clickhouse_blocks", "clickhouse_faults", "lost", "duplicated", "wrong"}, controls: 4,
		},
		{
			name: "fingerprints", proves: "a job that is killed: windows, late and dead rows add up to the ids of every record of the topic, by the engine from the Parquet files, by SQL from the tables, and by a reader of the topic",
			dir: "integration", quick: goTest("20m", "TestFingerprints|TestRowID", "."), seeds: "5",
			needs: []string{"kills", "fingerprint_rows"}, controls: 8,
		},
		{
			name: "hostile bytes", proves: "no input of a fuzzer crashes a reader",
			quick: []string{".ci/fuzz", "1s"}, night: []string{".ci/fuzz", "60s"}, seeds: "testdata/fuzz of each package",
			needs: []string{"fuzz_targets", "fuzz_execs", "crashers"},
		},
	}
}

func goTest(timeout, tests string, more ...string) []string {
	return append([]string{"go", "test", "-count=1", "-v", "-timeout", timeout, "-run", tests}, more...)
}

func (r rig) args(nightly bool) []string {
	if nightly && r.night != nil {
		return r.night
	}
	return r.quick
}

// command is what a person types to run the rig alone.
func (r rig) command(nightly bool) string {
	var b strings.Builder
	if r.dir != "" {
		b.WriteString("cd " + r.dir + " && ")
	}
	if nightly {
		b.WriteString("TIDEMARK_NIGHTLY=1 ")
	}
	for i, a := range r.args(nightly) {
		if i > 0 {
			b.WriteByte(' ')
		}
		if strings.ContainsAny(a, "|$^") {
			a = "'" + a + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

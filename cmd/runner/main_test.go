package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the program, so that it can be killed as a process.
func TestMain(m *testing.M) {
	if os.Getenv("TIDEMARK_TEST_BINARY") == "program" {
		if err := limitFileSize(); err != nil {
			panic(err)
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// program returns a command that runs the program in a process of its own.
func program(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TIDEMARK_TEST_BINARY=program", fastExit)
	return cmd
}

// fastExit keeps a program with the race detector from sleeping for a second before it ends.
const fastExit = "GORACE=atexit_sleep_ms=0"

// run runs the program in this process.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Main(t.Context(), args, streams{&out, &err})
	return code, out.String(), err.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string // in what is printed
	}{
		{nil, exitUsage, "Commands:"},
		{[]string{"help"}, 0, "Commands:"},
		{[]string{"rum"}, exitUsage, `unknown command "rum"`},
		{[]string{"run"}, exitUsage, "-f names no job file"},
		{[]string{"run", "-f", "no-such-file.yaml"}, exitFailed, "no-such-file.yaml"},
		{[]string{"run", "--wrong"}, exitUsage, "run --help"},
		{[]string{"validate", "-f", "../../examples/ble.yaml", "extra"}, exitUsage, `unexpected "extra"`},
		{[]string{"demo", "--for", "-1s"}, exitUsage, "--for"},
		{[]string{"produce", "--topic", "t"}, exitUsage, "--feed"},
		{[]string{"produce", "--feed", "ble", "--topic", "t", "--late", "7"}, exitUsage, "--late"},
		{[]string{"version"}, 0, version},
	} {
		code, stdout, stderr := run(t, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("tidemark %s: code %d, printed %q; want %d and %q", strings.Join(c.args, " "), code, stdout+stderr, c.code, c.want)
		}
	}
}

// TestHelp: every command explains itself, with an example, and exits 0.
func TestHelp(t *testing.T) {
	for _, c := range commands() {
		out, err := program(t.Context(), t.TempDir(), c.name, "--help").Output()
		if err != nil || !strings.Contains(string(out), "Example:\n  tidemark "+c.name) {
			t.Errorf("tidemark %s --help: %v, %q", c.name, err, out)
		}
	}
}

// TestExamples: the job files that we ship are valid, and their tests pass.
func TestExamples(t *testing.T) {
	t.Setenv("TIDEMARK_KAFKA_PASSWORD", "canary-in-the-example")
	t.Chdir("../..") // files that jobs name are found from there
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %d, %v", len(files), err)
	}
	for _, f := range files {
		args := []string{"validate", "-f", f}
		if strings.HasSuffix(f, "-test.yaml") {
			args = []string{"test", f}
		}
		code, stdout, stderr := run(t, args...)
		if code != 0 {
			t.Errorf("%s: %d %s", f, code, stderr)
		}
		if strings.Contains(stdout+stderr, "canary") {
			t.Errorf("%s: a secret was printed", f)
		}
	}
}

// Command scoreboard runs the rigs that kill, cut and corrupt, adds up the figures they
// print and writes RELIABILITY.md. It writes nothing and exits with 1 when a rig fails, a
// figure is missing, a row was lost, there twice or wrong, or a negative control went
// unnoticed.
//
// A rig prints its figures in lines `scoreboard: name=value ...`.
//
//	go run ./benchmarks/scoreboard           as `make test` and `make integration` run them
//	go run ./benchmarks/scoreboard -nightly  with the numbers of the release gate
//
// The gate takes hours. With -logs the output of every rig is kept, and with -resume a rig that
// has passed in the same mode on the same commit is not run again; with -since COMMIT neither is
// one that has passed on that commit or any after it. The page says of each rig on which.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	nightly := flag.Bool("nightly", false, "run with TIDEMARK_NIGHTLY=1; takes hours")
	out := flag.String("out", "RELIABILITY.md", "`file` to write, when all is well")
	logs := flag.String("logs", "", "`folder` to keep what the rigs print; none: it is not kept")
	only := flag.String("only", "", "run the rigs whose name contains `text` and write no page")
	resume := flag.Bool("resume", false, "do not run again what has passed on this commit, by the folder of -logs")
	since := flag.String("since", "", "with -resume: what has passed on this `commit` or after it counts too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *resume && *logs == "" || *since != "" && !*resume {
		fmt.Fprintln(os.Stderr, "scoreboard: -resume needs the folder of -logs, and -since needs -resume")
		os.Exit(2)
	}
	g := gate{nightly: *nightly, out: *out, logs: *logs, only: *only, resume: *resume, since: *since}
	if err := g.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scoreboard:", err)
		os.Exit(1)
	}
}

// gate is one run of the rigs.
type gate struct {
	nightly, resume bool
	out, logs, only string
	since           string
}

func (g gate) run(ctx context.Context) error {
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("commit under test: %w: run it in a clone, at its root", err)
	}
	b := board{mode: "quick", commit: strings.TrimSpace(string(commit)), date: time.Now().UTC().Format(time.DateOnly)}
	if g.nightly {
		b.mode = "nightly"
	}
	var errs []error
	for _, r := range rigs() {
		if !strings.Contains(r.name, g.only) {
			continue
		}
		fmt.Printf("== %s: %s\n", r.name, r.command(g.nightly))
		text, on, err := g.result(ctx, r, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
			continue
		}
		res, err := read(r, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
		res.commit = on
		fmt.Printf("   %s\n", res.figures())
		b.results = append(b.results, res)
	}
	if g.only == "" {
		errs = append(errs, b.check())
	}
	if err := errors.Join(errs...); err != nil || g.only != "" {
		return err
	}
	return os.WriteFile(g.out, []byte(b.page()), 0o644)
}

// result runs a rig, or returns what it printed when it passed before, and the commit.
func (g gate) result(ctx context.Context, r rig, b board) (text []byte, commit string, err error) {
	name := filepath.Join(g.logs, strings.ReplaceAll(r.name, " ", "-")+".log")
	if g.resume {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
		if on, ok := passed(text, b.mode); ok && (on == b.commit || g.counts(ctx, on)) {
			fmt.Printf("   passed on %s\n", on)
			return text, on, nil
		}
	}
	text, err = r.run(ctx, g.nightly)
	if g.logs == "" {
		return text, b.commit, err
	}
	head := fmt.Sprintf(passedLine, b.commit, b.mode) + "\n"
	if err != nil {
		head = "failed\n"
	}
	return text, b.commit, errors.Join(err, os.WriteFile(name, append([]byte(head), text...), 0o644))
}

// counts tells whether a commit lies between since and the one under test.
func (g gate) counts(ctx context.Context, commit string) bool {
	if g.since == "" {
		return false
	}
	before := func(a, b string) bool {
		return exec.CommandContext(ctx, "git", "merge-base", "--is-ancestor", a, b).Run() == nil
	}
	return before(g.since, commit) && before(commit, "HEAD")
}

// passedLine is the first line of the log of a rig that has passed: commit and mode.
const passedLine = "passed on %s %s"

// passed reads it.
func passed(text []byte, mode string) (commit string, ok bool) {
	line, _, _ := strings.Cut(string(text), "\n")
	var was string
	n, err := fmt.Sscanf(line, passedLine, &commit, &was)
	return commit, err == nil && n == 2 && was == mode
}

// run runs a rig to its end and returns all that it printed.
func (r rig) run(ctx context.Context, nightly bool) ([]byte, error) {
	args := r.args(nightly)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = r.dir
	if nightly {
		cmd.Env = append(os.Environ(), "TIDEMARK_NIGHTLY=1")
	}
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return text.Bytes(), fmt.Errorf("%w:\n%s", err, tail(text.Bytes()))
	}
	return text.Bytes(), nil
}

// tail is the end of what a rig printed, as much as a person wants to see.
func tail(text []byte) []byte {
	const most = 4000
	return text[max(len(text)-most, 0):]
}

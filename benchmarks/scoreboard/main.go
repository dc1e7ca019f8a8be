// Command scoreboard runs the rigs that kill, cut and corrupt, adds up the figures they
// print and writes RELIABILITY.md. It writes nothing and exits with 1 when a rig fails, a
// figure is missing, a row was lost, there twice or wrong, or a negative control went
// unnoticed.
//
// A rig prints its figures in lines `scoreboard: name=value ...`.
//
//	go run ./benchmarks/scoreboard           as `make test` and `make integration` run them
//	go run ./benchmarks/scoreboard -nightly  with the numbers of the release gate
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
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
	only := flag.String("only", "", "run the rigs whose name contains `text` and write nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *nightly, *out, *logs, *only); err != nil {
		fmt.Fprintln(os.Stderr, "scoreboard:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, nightly bool, out, logs, only string) error {
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("commit under test: %w: run it in a clone, at its root", err)
	}
	b := board{mode: "quick", commit: strings.TrimSpace(string(commit)), date: time.Now().UTC().Format(time.DateOnly)}
	if nightly {
		b.mode = "nightly"
	}
	var errs []error
	for _, r := range rigs() {
		if !strings.Contains(r.name, only) {
			continue
		}
		fmt.Printf("== %s: %s\n", r.name, r.command(nightly))
		text, err := r.run(ctx, nightly)
		if logs != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(logs, strings.ReplaceAll(r.name, " ", "-")+".log"), text, 0o644))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
			continue
		}
		res, err := read(r, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
		fmt.Printf("   %s\n", res.figures())
		b.results = append(b.results, res)
	}
	if only == "" {
		errs = append(errs, b.check())
	}
	if err := errors.Join(errs...); err != nil || only != "" {
		return err
	}
	return os.WriteFile(out, []byte(b.page()), 0o644)
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

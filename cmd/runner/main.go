// Command tidemark runs streaming jobs over IoT telemetry: Kafka in, event-time windows,
// OCSF rows out as Parquet and ClickHouse.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // zones of windows, on machines without them
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 78 // EX_CONFIG: the job file is wrong
)

// command is one subcommand.
type command struct {
	name, short string
	run         func(ctx context.Context, args []string, out streams) error
}

// streams are where a command writes: data to stdout, all else to stderr.
type streams struct{ stdout, stderr io.Writer }

func commands() []command {
	plain := func(f func([]string, io.Writer) error) func(context.Context, []string, streams) error {
		return func(_ context.Context, args []string, out streams) error { return f(args, out.stdout) }
	}
	return []command{
		{"demo", "run jobs on an embedded broker; nothing else to install", cmdDemo},
		{"run", "run a job until it is stopped", cmdRun},
		{"validate", "check a job file and name every mistake in it", plain(cmdValidate)},
		{"ddl", "print the statements that make a job's ClickHouse tables", plain(cmdDDL)},
		{"check", "check a job against its brokers, ClickHouse and disks", cmdCheck},
		{"checkpoint", "read checkpoints: checkpoint ls, inspect, verify, diff", cmdCheckpoint},
		{"diff", "compare two sets of results: live, of a replay, of any writer", cmdDiff},
		{"dead", "rows that a job has refused: dead ls, show, requeue", cmdDead},
		{"late", "by how much rows were late, and what more lateness would have kept", cmdLate},
		{"promote", "make the results of a replay those that count", cmdPromote},
		{"demote", "make the results of the job those that count again", cmdDemote},
		{"files", "list the Parquet files of a job that count", cmdFiles},
		{"audit", "compare a job's ClickHouse tables with what it has recorded", cmdAudit},
		{"produce", "send generated telemetry, a CSV or a JSONL file to a topic", cmdProduce},
		{"ocsf", "validate events against OCSF, its extensions included", cmdOCSF},
		{"assets", "tell from positions when assets enter and leave fences: assets geofence", cmdAssets},
		{"map", "try a mapping file on events: map test", cmdMap},
		{"pdu", "judge readings of PDUs in a file: pdu analyze, pdu room", cmdPDU},
		{"replay", "make the results of a range of event time again, beside those of the job", cmdReplay},
		{"shadow", "run another version of a job beside it and compare what both say", cmdShadow},
		{"state", "read what a job knows of a key: state get", cmdState},
		{"tap", "show what comes out of a step of a job, as it comes", cmdTap},
		{"test", "run a job on the events of a test file and compare what comes out", cmdTest},
		{"traffic", "find drops in series of traffic: traffic detect", cmdTraffic},
		{"explain", "say what a job will do, and why it did what it did: explain watermark, offset, key", cmdExplain},
		{"version", "print the version", plain(cmdVersion)},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(Main(ctx, os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// Main runs the program and returns its exit code.
func Main(ctx context.Context, args []string, out streams) int {
	if len(args) == 0 {
		usage(out.stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "--help":
		usage(out.stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return exitCode(c.run(ctx, args[1:], out), out)
		}
	}
	fmt.Fprintf(out.stderr, "tidemark: unknown command %q; `tidemark help` lists the commands\n", args[0])
	return exitUsage
}

func exitCode(err error, out streams) int {
	var usage *usageError
	var config *configError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintln(out.stderr, "tidemark: "+usage.Error())
		return exitUsage
	case errors.As(err, &config):
		fmt.Fprintln(out.stderr, config.Error())
		return exitConfig
	}
	fmt.Fprintln(out.stderr, "tidemark: "+err.Error())
	return exitFailed
}

func usage(w io.Writer) {
	fmt.Fprint(w, "tidemark turns out-of-order telemetry on Kafka into final answers in Parquet and ClickHouse.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\n`tidemark COMMAND --help` shows a command's flags and an example.\nExit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong job file.\n")
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// flags is a flag set whose help has an example.
type flags struct {
	*flag.FlagSet
	help strings.Builder
}

func newFlags(name, example, what string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.SetOutput(&f.help)
	f.Usage = func() {
		fmt.Fprintf(&f.help, "tidemark %s: %s\n\nFlags:\n", name, what)
		f.PrintDefaults()
		fmt.Fprintf(&f.help, "\nExample:\n  %s\n", example)
	}
	return f
}

// parse parses args. For --help it prints the help to standard output; a mistake is a
// usageError.
func (f *flags) parse(args []string) error {
	if err := f.parseFlags(args); err != nil {
		return err
	}
	if f.NArg() > 0 && !slices.Contains([]string{"-"}, f.Arg(0)) {
		return &usageError{fmt.Sprintf("%s: unexpected %q; `tidemark %s --help` shows the flags", f.Name(), f.Arg(0), f.Name())}
	}
	return nil
}

// parseFile is parse for a command that takes one file, - for standard input, before, between or
// behind its flags.
func (f *flags) parseFile(args []string) (string, error) {
	files, err := f.parseFiles(args)
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", &usageError{fmt.Sprintf("%s: %d files: want one, or - for standard input", f.Name(), len(files))}
	}
	return files[0], nil
}

// parseFiles is parseFile for any number of files.
func (f *flags) parseFiles(args []string) ([]string, error) {
	var files []string
	for {
		if err := f.parseFlags(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return files, nil
		}
		files, args = append(files, f.Arg(0)), f.Args()[1:]
	}
}

// parseFlags is parse for a command that takes more than flags.
func (f *flags) parseFlags(args []string) error {
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(os.Stdout, f.help.String())
		return err
	case err != nil:
		return &usageError{fmt.Sprintf("%s: %v; `tidemark %s --help` shows the flags", f.Name(), err, f.Name())}
	}
	return nil
}

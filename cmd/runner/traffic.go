package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// cmdTraffic is the group of commands about traffic.
func cmdTraffic(ctx context.Context, args []string, out streams) error {
	commands := map[string]func(context.Context, []string, streams) error{
		"detect": cmdTrafficDetect,
		"synth":  cmdTrafficSynth,
		"report": cmdTrafficReport,
	}
	if len(args) > 0 {
		if run, ok := commands[args[0]]; ok {
			return run(ctx, args[1:], out)
		}
		if slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			return cmdTrafficDetect(ctx, args[:1], out)
		}
	}
	names := []string{"detect", "synth", "report"}
	return &usageError{fmt.Sprintf("traffic: want %s; `tidemark traffic COMMAND --help` shows the flags", strings.Join(names, ", "))}
}

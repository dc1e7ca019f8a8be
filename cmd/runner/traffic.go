package main

import (
	"context"
)

// cmdTraffic is the group of commands about traffic.
func cmdTraffic(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "detect":
			return cmdTrafficDetect(ctx, args[1:], out)
		case "-h", "-help", "--help":
			return cmdTrafficDetect(ctx, args[:1], out)
		}
	}
	return &usageError{"traffic: want detect; `tidemark traffic --help` shows its flags"}
}

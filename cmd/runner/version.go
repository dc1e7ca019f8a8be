package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is that of the product; OCSF rows carry it.
const version = "0.1.0"

// cmdVersion prints the version, the commit and the toolchain.
func cmdVersion(args []string, stdout io.Writer) error {
	fs := newFlags("version", "tidemark version", "prints version, commit and toolchain")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := fs.parse(args); err != nil {
		return err
	}
	v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v["commit"] = s.Value
			}
		}
	}
	if *asJSON {
		return json.NewEncoder(stdout).Encode(v)
	}
	_, err := fmt.Fprintf(stdout, "tidemark %s (%s, %s)\n", v["version"], v["go"], v["platform"])
	return err
}

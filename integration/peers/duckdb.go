package peers

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The reader of Parquet that shares no code with ours or the engine: DuckDB, an npm package
// with its library in it.
const (
	duckdbPackage = "@duckdb/node-api"
	DuckDBVersion = "1.5.6-r.1"
)

//go:embed duckdb.mjs
var duckdbScript []byte

// DuckDB runs statements, each in a process and a database of its own.
type DuckDB struct{ dir string }

// NewDuckDB installs DuckDB, unless that was done before.
func NewDuckDB() (*DuckDB, error) {
	dir, err := cached("duckdb-"+DuckDBVersion, func(dir string) error {
		_, err := tool(dir, "Node.js with npm", "npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", ".", duckdbPackage+"@"+DuckDBVersion)
		return err
	})
	return &DuckDB{dir}, err
}

// Query runs a statement and returns its rows, a line each, with tabs between the values.
func (d *DuckDB) Query(ctx context.Context, sql string) (string, error) {
	// Beside the packages, where Node.js looks for them; written anew, so that a cache of
	// another version of this file does no harm.
	script, err := os.CreateTemp(d.dir, "query-*.mjs")
	if err != nil {
		return "", fmt.Errorf("duckdb: %w", err)
	}
	defer os.Remove(script.Name()) //nolint:errcheck // in a cache
	_, err = script.Write(duckdbScript)
	if cerr := script.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("duckdb: %w", err)
	}
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, "node", filepath.Base(script.Name()), sql)
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("duckdb: %w:\n%s", err, lastLines(stderr.String()))
	}
	return stdout.String(), nil
}

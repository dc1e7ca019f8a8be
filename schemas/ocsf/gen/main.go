// Command gen makes the built-in tables of package ocsf from the official exports in
// $TIDEMARK_SHARED/ocsf/compiled. `go generate ./schemas/ocsf` runs it.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

func main() {
	if err := generate(os.Getenv("TIDEMARK_SHARED")); err != nil {
		panic(err)
	}
}

// generate writes tables/VERSION.gz below the working directory.
func generate(shared string) error {
	if shared == "" {
		return fmt.Errorf("TIDEMARK_SHARED names no folder")
	}
	for _, v := range ocsf.Versions() {
		export, err := os.Open(filepath.Join(shared, "ocsf", "compiled", "ocsf-"+string(v)+".json"))
		if err != nil {
			return err
		}
		defer export.Close()
		s, err := ocsf.ReadSchema(export)
		if err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
		if s.Version() != v {
			return fmt.Errorf("%s: the export is of %s", v, s.Version())
		}
		var b bytes.Buffer
		if err := s.WriteTables(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("tables", string(v)+".gz"), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

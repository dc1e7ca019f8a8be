package mapping_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/ocsf/mapping"
)

var updateDocs = flag.Bool("update-docs", false, "write what comes of the examples into docs/mapping.md")

// TestDocs runs the examples of docs/mapping.md: a comment with a name and a version, then
// the blocks of the mapping file, the events, and what comes of them.
func TestDocs(t *testing.T) {
	const name = "../../../docs/mapping.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	examples := regexp.MustCompile(`<!-- example (\S+) (\S+) -->`).FindAllStringSubmatchIndex(doc, -1)
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for i := len(examples) - 1; i >= 0; i-- {
		at := examples[i]
		t.Run(doc[at[2]:at[3]], func(t *testing.T) {
			blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatchIndex(doc[at[1]:], 3)
			if len(blocks) != 3 {
				t.Fatalf("%d blocks", len(blocks))
			}
			block := func(i int) string { return doc[at[1]+blocks[i][2] : at[1]+blocks[i][3]] }
			got := example(t, ocsf.Version(doc[at[4]:at[5]]), block(0), block(1))
			if *updateDocs {
				doc = doc[:at[1]+blocks[2][2]] + got + doc[at[1]+blocks[2][3]:]
				return
			}
			if want := block(2); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
	if *updateDocs {
		if err := os.WriteFile(name, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// example maps events, one a line, and returns what comes of them, which must be valid.
func example(t *testing.T, version ocsf.Version, file, events string) string {
	s, err := ocsf.NewSchema(version)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.CompileConform("example", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	cfg := mapping.DefaultConfig(m)
	cfg.Mode, cfg.Schema = mapping.Conform, s
	run, err := mapping.NewMapper(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	known := map[int64][]string{}
	classes, err := m.Classes(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range classes {
		known[c.UID] = c.Paths
	}
	var out strings.Builder
	for event := range strings.Lines(events) {
		got, u := run.Event([]byte(event))
		if u != nil {
			fmt.Fprintf(&out, "(not mapped: %s)\n", u.Reason)
			continue
		}
		if rep, err := s.Validate(got.Record); err != nil || len(rep.Errors)+len(rep.Warnings) > 0 {
			t.Errorf("%s: %v %v %v", got.Record, err, rep.Errors, rep.Warnings)
		}
		hasColumns(t, known[got.Class], got.Record)
		fmt.Fprintf(&out, "%s\n", got.Record)
	}
	return out.String()
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// FuzzConfig: a job file is taken or refused with words that name the file on every line; one
// that is taken has a plan, or the plan says why not, and reading it again gives the same.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("examples: %v, %v", files, err)
	}
	bad, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, bad...) {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(validJob))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("window: {tumbling: -1ns, then: {tumbling: 1s}}\nsinks: [{}, null, 3]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte("file")) || len(b) > 1<<14 {
			return // what other files hold is not the fuzzer's business
		}
		cfg, err := parseConfig("job.yaml", b)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "job.yaml:") && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, " ") {
					t.Fatalf("%q says no place:\n%v", line, err)
				}
			}
			return
		}
		if _, err := planOf(cfg); err != nil && err.Error() == "" {
			t.Fatal("a refusal without words")
		}
		again, err := parseConfig("job.yaml", b)
		if err != nil {
			t.Fatalf("refused the second time: %v", err)
		}
		one, err1 := json.Marshal(cfg)
		two, err2 := json.Marshal(again)
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Fatalf("%s\n%s\n%v %v", one, two, err1, err2)
		}
	})
}

// FuzzTable: a reference table has at most a row a line, of the columns asked for, or an error
// that names the file.
func FuzzTable(f *testing.F) {
	for _, text := range []string{"id,n,at\na,1,2026-01-31T14:00:00Z\nb,,\n", "\ufeffid,at,n\n\"a\nb\",,7\n", "id,n,at\na,1\n", "id,id,n,at\n"} {
		f.Add(true, []byte(text))
	}
	for _, text := range []string{"{\"id\":\"a\",\"n\":1}\n\n{\"id\":\"b\",\"at\":\"2026-01-31T14:00:00Z\"}", `{"id":"a","id":"b"}`, `{"id":1}`, `{"id":"a","n":1e2}`, "[]"} {
		f.Add(false, []byte(text))
	}
	keys := []arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}}
	columns := []arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "at", Type: pipeline.Timestamp, Nullable: true}}
	f.Fuzz(func(t *testing.T, isCSV bool, b []byte) {
		file := "t.jsonl"
		if isCSV {
			file = "t.csv"
		}
		table, err := parseTable(file, b, keys, columns)
		if err != nil {
			if !strings.HasPrefix(err.Error(), file) || !utf8.ValidString(err.Error()) {
				t.Fatalf("%q", err)
			}
			return
		}
		lines := bytes.Count(b, []byte("\n")) + bytes.Count(b, []byte("\r")) + 1
		if n := table.NumRows(); n > lines || len(table.Fields()) != len(columns) {
			t.Fatalf("%d rows of %d lines, columns %v", n, lines, table.Fields())
		}
		again, err := parseTable(file, b, keys, columns)
		if err != nil || again.Version != table.Version || again.NumRows() != table.NumRows() {
			t.Fatalf("read again: %+v, %v", again, err)
		}
	})
}

// FuzzProduceRows: rows that produce reads from a file make records whose JSON can be read
// back to the same columns.
func FuzzProduceRows(f *testing.F) {
	for _, text := range []string{"a,b\n1,x\n,\"y\nz\"\n", "\ufeffa,a\n1,2\n", "a\n1e400\n-0\n01\n\xff\n"} {
		f.Add(true, []byte(text))
	}
	for _, text := range []string{"{\"a\":1}\n\n{\"b\":[{}]}\n", `{"a":1,"a":2}`, "{} {}", "[1]"} {
		f.Add(false, []byte(text))
	}
	f.Fuzz(func(t *testing.T, isCSV bool, b []byte) {
		next := jsonlRows(bytes.NewReader(b))
		if isCSV {
			next = csvRows(bytes.NewReader(b))
		}
		for n := 0; ; n++ {
			r, err := next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				if err.Error() == "" {
					t.Fatal("an error without words")
				}
				return
			}
			if n > len(b) {
				t.Fatalf("%d rows of %d bytes", n, len(b))
			}
			for _, m := range r {
				if !json.Valid(m.value) {
					t.Fatalf("column %q is %q", m.name, m.value)
				}
				if text, ok := r.text(m.name); !ok || isCSV && !bytes.Contains(b, []byte(text)) && text != "null" && !strings.ContainsAny(text, "\"\n") {
					t.Fatalf("column %q reads %q", m.name, text)
				}
			}
		}
	})
}

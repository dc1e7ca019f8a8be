package clickhouse

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// FuzzQuoted: an identifier ends where it was meant to, whatever is in it: reading it as the
// server does gives it back. A column so named gives statements in which nothing else changes.
func FuzzQuoted(f *testing.F) {
	for _, name := range []string{"device.uid", "a`b", `a\`, "\\`; DROP TABLE x --", "", "\x00\n", "é"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		text := quoted(name, "x")
		back, rest := unquote(text)
		if back != name || rest != ".`x`" {
			t.Fatalf("%q is %s, read as %q and %q", name, text, back, rest)
		}
		cfg := testConfig()
		cfg.OrderBy, cfg.TimeColumn = []string{"key"}, "time"
		schema := arrow.NewSchema([]arrow.Field{{Name: "time", Type: pipeline.Timestamp}, {Name: "key", Type: arrow.BinaryTypes.String},
			{Name: name, Type: arrow.BinaryTypes.String}}, nil)
		ddl, err := DDL(cfg, schema)
		if err != nil {
			return
		}
		for _, sql := range ddl {
			if strings.Contains(outside(sql), "DROP") {
				t.Fatalf("column %q gets out of its quotes:\n%s", name, sql)
			}
		}
	})
}

// unquote reads a quoted identifier from the start of a text as ClickHouse's lexer does.
func unquote(text string) (name, rest string) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
			b.WriteByte(text[i])
		case '`':
			return b.String(), text[i+1:]
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String(), ""
}

// outside returns what of a statement is no identifier in quotes.
func outside(sql string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(sql, "`")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, sql = unquote("`" + after)
	}
}

// FuzzReceipt: what open takes is a receipt of this sink whose object is one of its own, and
// says the same when it is written again.
func FuzzReceipt(f *testing.F) {
	s, err := newSink(testConfig(), pipelinetest.NewMemStore(), readingSchema, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(receipt{Format: receiptFormat, Table: s.tableName(), Job: s.cfg.Job, Lineage: 3, Epoch: 1,
		Object: s.objectName(pipeline.Epoch{Job: s.cfg.Job, Lineage: 3, N: 1}), Size: 9, XXH64: "0123456789abcdef", Blocks: []block{{Rows: 4, XXH64: "0123456789abcdef"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(strings.Replace(string(good), "sealed/", "sealed/../", 1)))
	f.Add([]byte(strings.Replace(string(good), `"rows":4`, `"rows":-4`, 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := s.open(raw)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if r.Object != "" && !fs.ValidPath(r.Object) || r.Size < 0 || r.rows() < 0 {
			t.Fatalf("takes object %q of %d bytes and %d rows", r.Object, r.Size, r.rows())
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := s.open(again); err != nil || back.Object != r.Object || len(back.Blocks) != len(r.Blocks) {
			t.Fatalf("%s\nagain: %+v, %v", raw, back, err)
		}
	})
}

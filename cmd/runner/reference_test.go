package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tidemark/tidemark/pipeline"
)

// TestParseTable: what a file must be like, and where it is said that it is not.
func TestParseTable(t *testing.T) {
	field := func(name, typ string) arrow.Field {
		return arrow.Field{Name: name, Type: referenceTypes[typ], Nullable: true}
	}
	keys := []arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Int32}}
	columns := []arrow.Field{field("at", "time"), field("on", "bool"), field("pct", "float"), field("site", "text")}
	const head = "id,n,on,at,pct,site,more\n"
	for _, c := range []struct{ file, text, want string }{
		{"t.csv", head + "a,1,true,2026-01-31T14:00:00.5+02:00,0.25,\"x \"\"1\"\",\n2\",\na,2,,,,,-\n", "a 1: 2026-01-31T12:00:00.5Z true 0.25 x \"1\",\n2; a 2: (null) (null) (null) (null)"},
		{"t.csv", "\ufeff" + head + "a,1,false,,,,\n", "a 1: (null) false (null) (null)"},
		{"t.csv", head, ""},
		{"t.csv", "", "t.csv:1: is empty: want a header with the names of the columns"},
		{"t.csv", "id,n,on,at,pct\n", `t.csv:1: has no column site; it has ["id" "n" "on" "at" "pct"]`},
		{"t.csv", "id,n,on,at,pct,site,n\n", "t.csv:1: has column n twice"},
		{"t.csv", head + "a,1,,,,,\na,2,,,,\n", "t.csv:3: wrong number of fields"},
		{"t.csv", head + "a,1,,,,\"x\n\n", `t.csv:3: extraneous or missing " in quoted-field`},
		{"t.csv", head + ",1,,,,,\n", "t.csv:2: id: is missing, and is part of the key"},
		{"t.csv", head + "a,2147483648,,,,,\n", `t.csv:2: n: "2147483648" is not a whole number`},
		{"t.csv", head + "a, 1,,,,,\n", `t.csv:2: n: " 1" is not a whole number`},
		{"t.csv", head + "a,1,yes,,,,\n", `t.csv:2: on: "yes" is not true or false`},
		{"t.csv", head + "a,1,,2026-01-31,,,\n", `t.csv:2: at: "2026-01-31" is not a time such as 2026-01-31T14:00:00Z, from 1900 to 2299`},
		{"t.csv", head + "a,1,,1899-12-31T23:59:59Z,,,\n", `t.csv:2: at: "1899-12-31T23:59:59Z" is not a time such as 2026-01-31T14:00:00Z, from 1900 to 2299`},
		{"t.csv", head + "a,1,,,NaN,,\n", `t.csv:2: pct: "NaN" is not a number`},
		{"t.csv", head + "a,1,,,,\"x\n\",\nb,1,,,,,\na,1,,,,,\n", "t.csv:5: its key is there already, at line 2"},
		{"t.csv", head + "a,1,,,,,\nb\xff,1,,,,,\n", "t.csv:3: is not UTF-8"},
		{"t.jsonl", `{"id":"a","n":1,"site":"x","at":"2026-01-31T14:00:00Z","pct":1e-1,"more":{"a":[1]}}` + "\n\n" + `{"n":2,"id":"a","on":null}`, "a 1: 2026-01-31T14:00:00Z (null) 0.1 x; a 2: (null) (null) (null) (null)"},
		{"t.jsonl", `{"id":"a","n":1}` + "\n[]\n", "t.jsonl:2: is no JSON object"},
		{"t.jsonl", `{"id":"a","n":1} {}`, "t.jsonl:1: has something behind the object"},
		{"t.jsonl", `{"id":"a","n":1`, "t.jsonl:1: the object is cut off: EOF"},
		{"t.jsonl", `{"id":"a","n":1,"id":"b"}`, "t.jsonl:1: has field id twice"},
		{"t.jsonl", `{"id":"a","n":1.5}`, `t.jsonl:1: n: "1.5" is not a whole number`},
		{"t.jsonl", `{"id":"a","n":"1"}`, `t.jsonl:1: n: "1" is not a whole number`},
		{"t.jsonl", `{"id":"a","n":1,"site":{"b":2}}`, `t.jsonl:1: site: {"b":2} is not text`},
		{"t.jsonl", `{"n":1}`, "t.jsonl:1: id: is missing, and is part of the key"},
		{"t.jsonl", `{"id":"a","n":1}` + "\n" + `{"id":"a","n":1}`, "t.jsonl:2: its key is there already, at line 1"},
	} {
		table, err := parseTable(c.file, []byte(c.text), keys, columns)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = tableText(table)
		}
		if got != c.want {
			t.Errorf("%s %q:\n%s\nwant\n%s", c.file, c.text, got, c.want)
		}
	}
}

// tableText prints a table whose keys are a 1, a 2 and so on.
func tableText(t *pipeline.Table) string {
	var rows []string
	for i := range t.NumRows() {
		var cells []string
		for _, c := range t.Columns() {
			cells = append(cells, c.ValueStr(i))
		}
		rows = append(rows, "a "+string(rune('1'+i))+": "+strings.Join(cells, " "))
	}
	return strings.Join(rows, "; ")
}

// TestReferenceReload: a changed file is read once it changes no more, and sent; a broken or
// missing one leaves the table, is counted once, and does not hide what comes after it.
func TestReferenceReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.csv")
	age := time.Now().Add(-time.Hour)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		age = age.Add(time.Second)
		if err := os.Chtimes(file, age, age); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := parseConfig("job.yaml", []byte(validJob+"reference: [{name: devices, file: "+file+", key: [asset_id], columns: {site: text}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	if _, err := openReferences(cfg, log, prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), "reference devices: open "+file) {
		t.Fatalf("began without its file: %v", err)
	}
	write("asset_id,site\nRC-1,north\n")
	reg := prometheus.NewRegistry()
	r, err := openReferences(cfg, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	first := r.status()[0]
	var sent []string
	look := func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case u := <-r.updates:
					sent = append(sent, u.Name+" "+tableText(u.Table))
				case <-ctx.Done():
					return
				}
			}
		}()
		r.look(t.Context(), r.list[0])
		cancel()
		<-done
	}
	steps := []struct {
		what, text string
		sent       int
		failures   float64
		rows       int
	}{
		{what: "nothing", rows: 1},
		{what: "written", text: "asset_id,site\nRC-1,south\nRC-2,east\n", rows: 1},
		{what: "still being written", text: "asset_id,site\nRC-1,south\nRC-2,eastern\n", rows: 1},
		{what: "settled", sent: 1, rows: 2},
		{what: "nothing", sent: 1, rows: 2},
		{what: "broken", text: "asset_id,site\nRC-1\n", sent: 1, rows: 2},
		{what: "settled", sent: 1, failures: 1, rows: 2},
		{what: "still broken", sent: 1, failures: 1, rows: 2},
		{what: "gone", text: "-", sent: 1, failures: 1, rows: 2},
		{what: "still gone", sent: 1, failures: 2, rows: 2},
		{what: "the same again", text: "asset_id,site\nRC-1,south\nRC-2,eastern\n", sent: 1, failures: 2, rows: 2},
		{what: "settled", sent: 1, failures: 2, rows: 2},
		{what: "empty", text: "asset_id,site\n", sent: 1, failures: 2, rows: 2},
		{what: "settled", sent: 2, failures: 2, rows: 0},
	}
	for i, s := range steps {
		switch s.text {
		case "":
		case "-":
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		default:
			write(s.text)
		}
		look()
		st := r.status()[0]
		failures := testutil.ToFloat64(r.metrics.failures.WithLabelValues("devices"))
		if len(sent) != s.sent || failures != s.failures || st.Rows != s.rows || int(testutil.ToFloat64(r.metrics.rows.WithLabelValues("devices"))) != s.rows {
			t.Errorf("step %d, %s: sent %q, %v failures, status %+v, want %d, %v, %d rows", i, s.what, sent, failures, st, s.sent, s.failures, s.rows)
		}
		if strings.HasPrefix(s.what, "still") && s.failures > 0 && st.Failure == "" {
			t.Errorf("step %d, %s: the status does not say so", i, s.what)
		}
	}
	last := r.status()[0]
	if last.Version == first.Version || last.Failure != "" || last.Loaded.Before(first.Loaded) {
		t.Errorf("status %+v after %+v", last, first)
	}
	if n, err := testutil.GatherAndCount(reg, "tidemark_reference_rows", "tidemark_reference_loaded_timestamp_seconds", "tidemark_reference_reload_failures_total"); n != 3 || err != nil {
		t.Errorf("%d metrics, %v", n, err)
	}
	if n := strings.Count(logged.String(), "reference table was not replaced"); n != 2 {
		t.Errorf("%d warnings, want 2: %s", n, &logged)
	}

	// A watch that waits for a job which takes nothing ends with the job.
	write("asset_id,site\nRC-9,west\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.watch(ctx) }()
	time.Sleep(referencePoll / 10)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

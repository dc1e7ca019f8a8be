package ocsf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// noOrigin knows nothing.
func noOrigin() ocsf.Origin {
	return ocsf.Origin{Logged: ocsf.Unknown, Sequence: -1, Time: ocsf.Instant{Millis: ocsf.Unknown}}
}

func conformer(t testing.TB, s *ocsf.Schema, cfg ocsf.ConformConfig) *ocsf.Conformer {
	t.Helper()
	c, err := ocsf.NewConformer(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// odd returns a value that an attribute may not expect.
func odd(r *rand.Rand, depth int) any {
	texts := []string{"", "-", "010", "1b", " 7 ", "99", "Other", "unknown", "High", "true", "yes", "a,b , c", "x\"\\\n\u00e9", "1.5", "1e400", "inf", "0x10",
		"2023-11-14T22:13:20.104Z", "2023-11-14 22:13:20,5 +0100", "1700000000", "1700000000123", "192.0.2.1", "cloud", "v1.1.0", strings.Repeat("long", 20000)}
	numbers := []string{"0", "-0", "1", "7", "99", "-5", "5.0", "5.5", "1e400", "1e3", "65536", "2147483648", "9223372036854775808", "170141183460469231731687303715884105728", "1700000000", "1700000000123456789"}
	switch n := r.IntN(12); {
	case n < 4:
		return texts[r.IntN(len(texts))]
	case n < 7:
		return json.Number(numbers[r.IntN(len(numbers))])
	case n == 7:
		return nil
	case n == 8:
		return r.IntN(2) == 0
	case depth > 3:
		return "deep"
	case n == 9:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = odd(r, depth+1)
		}
		return list
	}
	names := []string{"name", "uid", "type_id", "type", "value", "ip", "provider", "process", "user", "x.y", "time_dt", "", "group", "pid", "status_id", "country"}
	o := map[string]any{}
	for range r.IntN(4) {
		o[names[r.IntN(len(names))]] = odd(r, depth+1)
	}
	return o
}

// mutate changes some values of an event and adds members that its class may have.
func mutate(r *rand.Rand, event map[string]any) {
	for range 1 + r.IntN(5) {
		all := places(event, "")
		p := all[r.IntN(len(all))]
		if p.drop != nil && r.IntN(4) == 0 {
			p.drop()
		} else {
			p.set(odd(r, 0))
		}
	}
	members := []string{"cloud", "osint", "actor", "device", "proxy_endpoint", "tls", "observables", "metadata", "time_dt", "severity", "severity_id", "activity_name",
		"activity_id", "unmapped", "enrichments", "unheard", "action_id", "disposition", "api", "raw_data", "is_alert", "category_ids", "type_uid", "start_time", "evidences", "vulnerabilities"}
	for range r.IntN(4) {
		event[members[r.IntN(len(members))]] = odd(r, 0)
	}
	if meta, ok := event["metadata"].(map[string]any); ok && r.IntN(2) == 0 {
		meta["profiles"] = []any{"cloud,host", []any{"security_control", "osint", "x"}, "datetime", []any{"cloud", json.Number("1")}}[r.IntN(4)]
	}
}

// TestConformProperty: whatever the record, the event is valid or the error says why; the
// same record gives the same event; a value that is nowhere in the event is in a fix.
func TestConformProperty(t *testing.T) {
	files, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	built := builtIn(t)
	made, refused := 0, 0
	for _, version := range ocsf.Versions() {
		s := built[version]
		c := conformer(t, s, ocsf.ConformConfig{Fixes: true, Product: ocsf.Product{Name: "p", Vendor: "v"}})
		again := conformer(t, s, ocsf.ConformConfig{Product: ocsf.Product{Name: "p", Vendor: "v"}})
		v := s.Validator()
		for seed := range 3000 {
			r := rand.New(rand.NewPCG(uint64(seed), 5))
			text, err := os.ReadFile(files[seed%len(files)])
			if err != nil {
				t.Fatal(err)
			}
			event := tree(t, text)
			mutate(r, event)
			record := encode(t, event)
			class := int64(0)
			if r.IntN(4) == 0 {
				class = s.Classes()[r.IntN(len(s.Classes()))]
			}
			got, rep, err := c.Conform([]byte("before"), class, record, noOrigin())
			if err != nil {
				refused++
				var why *ocsf.ConformError
				if !errors.As(err, &why) || why.Cause == "" || string(got) != "before" {
					t.Fatalf("%s: %v, %q", record, err, got)
				}
				continue
			}
			made++
			got = got[len("before"):]
			report, err := v.Validate(got)
			if err != nil || len(report.Errors) > 0 {
				t.Fatalf("OCSF %s, seed %d: %v %v\nrecord %s\n event %s", version, seed, err, report.Errors, record, got)
			}
			same, counts, err := again.Conform(nil, class, record, noOrigin())
			if err != nil || !bytes.Equal(same, got) || counts.Casts != rep.Casts || counts.Filled != rep.Filled || counts.Moved != rep.Moved {
				t.Fatalf("seed %d: another event: %v\n%s\n%s", seed, err, same, got)
			}
			if lost := lost(t, record, got, rep); len(lost) > 0 {
				t.Fatalf("OCSF %s, seed %d: lost %q\nrecord %s\n event %s\nfixes %v", version, seed, lost, record, got, rep.Fixes)
			}
		}
	}
	t.Logf("%d events, %d refused", made, refused)
	if made < refused/4 || refused < 100 {
		t.Errorf("the records are too good or too bad: %d events, %d refused", made, refused)
	}
}

// lost returns the values of a record that are neither in the event nor named in a fix.
func lost(t *testing.T, record, event []byte, rep ocsf.ConformReport) []string {
	t.Helper()
	var out []string
	var walk func(v any)
	walk = func(v any) {
		text := fmt.Sprint(v)
		switch v := v.(type) {
		case nil:
			return
		case map[string]any:
			for _, el := range v {
				walk(el)
			}
			return
		case []any:
			for _, el := range v {
				walk(el)
			}
			return
		case string:
			quoted := encode(t, v)
			text = string(quoted[1 : len(quoted)-1])
		}
		twice := encode(t, text) // inside a list that became text
		if bytes.Contains(event, []byte(text)) || bytes.Contains(event, twice[1:len(twice)-1]) {
			return
		}
		if !slices.ContainsFunc(rep.Fixes, func(f ocsf.Fix) bool {
			return strings.Contains(f.From, fmt.Sprint(v)) || strings.HasSuffix(f.From, "...") && strings.HasPrefix(fmt.Sprint(v), strings.TrimSuffix(f.From, "..."))
		}) {
			out = append(out, text)
		}
	}
	walk(tree(t, record))
	return out
}

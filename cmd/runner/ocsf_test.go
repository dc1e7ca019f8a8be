package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// sample is a valid event of that version on one line.
func sample(t *testing.T, version string) string {
	t.Helper()
	raw, err := os.ReadFile("../../schemas/ocsf/testdata/samples/traffic_window.core." + version + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(raw)), " ")
}

func TestOCSFValidate(t *testing.T) {
	good, newer := sample(t, "1.3.0"), sample(t, "1.8.0")
	bad := strings.Replace(good, `"severity_id": 1`, `"severity_id": "1"`, 1)
	odd := strings.Replace(good, `"Informational"`, `"Mild"`, 1)
	future := strings.Replace(good, `"version": "1.3.0"`, `"version": "2.0.0"`, 1)
	ext := `{"class_uid":98805003,"category_uid":5,"activity_id":2,"type_uid":9880500302,"severity_id":1,"time":1,"metadata":{"version":"1.8.0","product":{"name":"x"}},"device":{"uid":"a","type_id":7}}`
	if bad == good || odd == good || future == good {
		t.Fatal("the sample has changed")
	}
	for _, c := range []struct {
		name, file string
		flags      []string
		code       int
		want       []string // in the output
		not        string
	}{
		{"lines of two versions", good + "\n\n" + newer + "\n", nil, 0, []string{"2 events, 2 valid; unmapped ratio 0.079"}, "error"},
		{"array", "[" + good + ",\n" + newer + "]\n", nil, 0, []string{"2 events, 2 valid"}, "error"},
		{"pretty", strings.ReplaceAll(good, ", ", ",\n"), nil, 0, []string{"1 events, 1 valid"}, "error"},
		{"one bad", good + "\n" + bad + "\n", nil, 1, []string{`:2: event 2: error attribute_wrong_type at severity_id: is "1", want integer_t`, "2 events, 1 valid", "1 error attribute_wrong_type", "1 of 2 events are not valid"}, "warning"},
		{"bad in an array", "[\n" + good + ",\n" + bad + "\n]", nil, 1, []string{":3: event 2: error attribute_wrong_type"}, ""},
		{"broken line", good + "\n{\"a\":\n" + good, nil, 1, []string{":2: event 2: error not_json: not a JSON object", "3 events, 2 valid"}, ""},
		{"cut short", "[" + good + ",", nil, 1, []string{"the array has no end"}, "1 valid"},
		{"behind the array", "[] x", nil, 1, []string{"behind the array"}, ""},
		{"no comma", "[" + good + good + "]", nil, 1, []string{"between the elements"}, ""},
		{"scalars", "[1,\"a,]\",null]", nil, 1, []string{"3 events, 0 valid", "3 error not_json"}, ""},
		{"empty", "", nil, 1, []string{"has no event"}, ""},
		{"empty array", "[]", nil, 1, []string{"has no event"}, ""},
		{"a warning that is not asked for", odd, nil, 0, []string{"1 events, 1 valid"}, "sibling"},
		{"a warning", odd, []string{"--warnings"}, 0, []string{":1: event 1: warning attribute_enum_sibling_incorrect at severity", "1 warning attribute_enum_sibling_incorrect"}, "recommended"},
		{"recommended", good, []string{"--warnings", "--recommended"}, 0, []string{"warning attribute_recommended_missing at "}, ""},
		{"version", good, []string{"--version", "1.8.0", "--warnings"}, 0, []string{"version_earlier"}, ""},
		{"a later version", newer, []string{"--version", "1.3.0"}, 1, []string{"version_incompatible_later at metadata.version"}, ""},
		{"a version that nothing has", future, nil, 1, []string{"version_incompatible_later at metadata.version: the event is of OCSF 2.0.0, the schema is 1.8.0"}, ""},
		{"extension", ext, []string{"--schema", "tidemark"}, 0, []string{"1 events, 1 valid"}, ""},
		{"extension folder", ext, []string{"--schema", "../../schemas/ocsf/extension", "--version=1.8.0"}, 0, []string{"1 events, 1 valid"}, ""},
		{"no extension", ext, nil, 1, []string{"class_uid_unknown at class_uid"}, ""},
		{"json", good + "\n" + bad, []string{"-o", "json"}, 1, []string{`{"event":2,"line":2,"level":"error","code":"attribute_wrong_type","path":"severity_id","message":`, `{"summary":{"events":2,"valid":1,"errors":{"attribute_wrong_type":1},"unmapped_ratio":0.`}, ""},
		{"other version", good, []string{"--version", "1.2.0"}, exitUsage, []string{"--version 1.2.0: there is 1.1.0, 1.3.0, 1.8.0"}, ""},
		{"schema that is none", good, []string{"--schema", "ocsf_test.go"}, exitUsage, []string{"--schema ocsf_test.go: compiled schema"}, ""},
		{"schema that is not there", good, []string{"--schema", "no-such"}, exitUsage, []string{"no-such"}, ""},
		{"output form", good, []string{"-o", "xml"}, exitUsage, []string{`-o "xml"`}, ""},
		{"two files", good, []string{"more"}, exitUsage, []string{"2 files"}, ""},
		{"recommended alone", good, []string{"--recommended"}, exitUsage, []string{"--warnings"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeFile(t, "events.jsonl", c.file)
			// Flags may stand on either side of the file.
			for _, args := range [][]string{append([]string{"ocsf", "validate", file}, c.flags...), append(append([]string{"ocsf", "validate"}, c.flags...), file)} {
				code, stdout, stderr := run(t, args...)
				for _, want := range c.want {
					if code != c.code || !strings.Contains(stdout+stderr, want) {
						t.Errorf("code %d, want %d and %q\n%s%s", code, c.code, want, stdout, stderr)
					}
				}
				if c.not != "" && strings.Contains(stdout, c.not) {
					t.Errorf("%q in\n%s", c.not, stdout)
				}
			}
		})
	}
}

func TestOCSFValidateDropped(t *testing.T) {
	good := sample(t, "1.3.0")
	events := writeFile(t, "events.jsonl", good+"\n"+good+"\n")
	sources := writeFile(t, "sources.jsonl", `{"entity":"AS64500","lost":17.5}`+"\n"+`{"bytes":918273645}`+"\n")
	code, stdout, stderr := run(t, "ocsf", "validate", "--source", sources, events)
	if code != 0 || !strings.Contains(stdout, ":1: event 1: dropped dropped_field at lost:") || !strings.Contains(stdout, "1 values of the source are nowhere") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	for text, want := range map[string]string{"{}\n": "event 2: EOF", "{}\n{}\n{}\n": "more than 2 events"} {
		code, stdout, stderr := run(t, "ocsf", "validate", "--source", writeFile(t, "s", text), events)
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: %d\n%s%s", text, code, stdout, stderr)
		}
	}
}

// TestOCSFUsage: what is no command, and the help of both names.
func TestOCSFUsage(t *testing.T) {
	for _, args := range [][]string{{"ocsf"}, {"ocsf", "map"}, {"ocsf", "validate"}} {
		if code, _, _ := run(t, args...); code != exitUsage {
			t.Errorf("%v: code %d", args, code)
		}
	}
	out, err := program(t.Context(), t.TempDir(), "ocsf", "validate", "--help").Output()
	if err != nil || !strings.Contains(string(out), "Example:\n  tidemark ocsf validate") {
		t.Errorf("%v %q", err, out)
	}
	cmd := program(t.Context(), t.TempDir(), "ocsf", "validate", "-")
	cmd.Stdin = strings.NewReader(sample(t, "1.1.0"))
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), "1 events, 1 valid") {
		t.Errorf("standard input: %v %q", err, out)
	}
}

// The events of a file do not depend on how its bytes come in, and a file of any form gives
// the same ones.
func TestEventReader(t *testing.T) {
	events := []string{`{"a":"}] , \" \\"}`, `{"b":[1,{"c":[]}]}`, `{}`, `{"d":"` + strings.Repeat("x", 70_000) + `"}`}
	files := map[string]string{
		"lines":  strings.Join(events, "\n"),
		"crlf":   strings.Join(events, "\r\n") + "\r\n",
		"array":  "[" + strings.Join(events, ",") + "]",
		"spaced": " [\n" + strings.Join(events, " ,\n ") + "\n] \n",
		"pretty": "{\n\"a\":\"}] , \\\" \\\\\"}" + strings.Join(events[1:], " "),
	}
	for name, text := range files {
		for _, in := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			r := newEventReader(in)
			var got []string
			for {
				event, line, err := r.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || line < 1 {
					t.Fatalf("%s: %v in line %d", name, err, line)
				}
				var v any
				if err := json.Unmarshal(event, &v); err != nil {
					t.Fatalf("%s: %q: %v", name, event, err)
				}
				b, _ := json.Marshal(v)
				got = append(got, string(b))
			}
			if want := strings.Join(events, "|"); strings.Join(got, "|") != want {
				t.Errorf("%s: %.200q", name, got)
			}
		}
	}
	long := `{"a":"` + strings.Repeat("x", maxEventBytes) + `"}`
	for _, text := range []string{long, "[" + long, "{}\n" + long, "{\n" + long} {
		r := newEventReader(strings.NewReader(text))
		var err error
		for err == nil {
			_, _, err = r.next()
		}
		if !errors.Is(err, errTooLong) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	broken := fmt.Errorf("disk")
	if _, _, err := newEventReader(iotest.ErrReader(broken)).next(); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

// The form of a file is found out once, and how its bytes come in does not matter.
func FuzzEventReader(f *testing.F) {
	for _, text := range []string{"{}\n{\n{}", "[{},{}]", "{\n}{}", "[1,\"a,]\"", " 5 6\n7", "[] x", "{\"a\":\"\\\"}\"}"} {
		f.Add([]byte(text))
	}
	all := func(t *testing.T, in io.Reader, size int) string {
		r := newEventReader(in)
		var out strings.Builder
		for n := 0; ; n++ {
			event, line, err := r.next()
			fmt.Fprintf(&out, "%d %q %v\n", line, event, err)
			if err != nil {
				return out.String()
			}
			if len(event) == 0 || n > size {
				t.Fatalf("event %d of %d bytes: %s", n, size, out.String())
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if a, b := all(t, bytes.NewReader(text), len(text)), all(t, iotest.OneByteReader(bytes.NewReader(text)), len(text)); a != b {
			t.Errorf("%s\n%s", a, b)
		}
	})
}

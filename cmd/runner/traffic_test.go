package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/traffic"
)

// TestTrafficDetect: the command prints what the golden cases of the detector expect.
func TestTrafficDetect(t *testing.T) {
	dir := filepath.Join(cmp.Or(os.Getenv("TIDEMARK_GOLDEN"), "../../operators/traffic/testdata"), "detector")
	files, err := filepath.Glob(filepath.Join(dir, "*.expected.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".expected.json")
		t.Run(name, func(t *testing.T) {
			want := readJSONFile(t, file)
			args := []string{"traffic", "detect", filepath.Join(dir, name+".csv")}
			if _, err := os.Stat(args[2]); err != nil {
				args = mergedArgs(t, dir, want)
			}
			code, stdout, stderr := run(t, args...)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			var got []any
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			if args[2] == "--merge" {
				delete(got[0].(map[string]any), "quorum") // which the case may leave out
				delete(want[0].(map[string]any), "quorum")
			}
			if !alike(got, want) {
				t.Errorf("got %s\nwant %v", stdout, want)
			}
		})
	}
}

func readJSONFile(t *testing.T, file string) []any {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v []any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// mergedArgs are the arguments for a case of several signals, which its first element names.
func mergedArgs(t *testing.T, dir string, want []any) []string {
	t.Helper()
	head := want[0].(map[string]any)
	args := []string{"traffic", "detect", "--merge", "--entity", head["entity"].(string)}
	for _, s := range head["signals"].([]any) {
		file, signal, _ := strings.Cut(s.(string), ":")
		args = append(args, filepath.Join(dir, file+".csv")+":"+signal)
	}
	return args
}

// alike compares values of JSON, numbers to 1e-6 of themselves.
func alike(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && math.Abs(a-b) <= 1e-6*max(math.Abs(a), math.Abs(b))
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, alike)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if _, there := b[k]; !there || !alike(a[k], b[k]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// TestOutages: every outage of the set gives what it should.
func TestOutages(t *testing.T) {
	events := 0
	for _, o := range outages2024q2() {
		f, err := o.detect()
		if err != nil {
			t.Fatal(err)
		}
		if o.want == "" {
			if len(f.events) != 0 {
				t.Errorf("%s: %+v, want no event", o.name, f.events)
			}
			continue
		}
		if len(f.events) != 1 {
			t.Errorf("%s: %d events %+v, want one", o.name, len(f.events), f.events)
			continue
		}
		events++
		e := f.events[0]
		start, end := o.span()
		late := ticksTime(e.Start).Sub(start)
		if o.want != "any" && string(e.Trigger) != o.want {
			t.Errorf("%s: %s, want %s", o.name, e.Trigger, o.want)
		}
		// One that deepens slowly is seen on its way down; one that sits on the limit may miss a slot.
		if most := o.drops[0].nadir.Sub(start); late < 0 || late > most && !(o.name == "nepal-worldlink" && late == slotLength) {
			t.Errorf("%s: starts %s, want %s or at most %v later", o.name, minutes(ticksTime(e.Start)), minutes(start), most)
		}
		if !o.drops[0].fades && !ticksTime(e.End).Equal(end) || e.Reason != traffic.Recovered {
			t.Errorf("%s: %s, ends %s, want %s", o.name, e.Reason, minutes(ticksTime(e.End)), minutes(end))
		}
	}
	if events != 21 {
		t.Errorf("%d series with an event, want 21", events)
	}
}

// TestOutagesPage: the page in docs is the one that the command makes now.
func TestOutagesPage(t *testing.T) {
	dir := t.TempDir()
	code, _, stderr := run(t, "traffic", "report", "--set", "outages-2024-q2", filepath.Join(dir, "outages-2024-q2.md"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if want, err := os.ReadFile(filepath.Join("../../docs", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is another one (%v): run `tidemark traffic report docs/outages-2024-q2.md`", name, err)
		}
		return nil
	})
	if err != nil || files != len(outages2024q2())+1 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestTrafficSynth: the files of a set are what traffic detect takes.
func TestTrafficSynth(t *testing.T) {
	dir := t.TempDir()
	if code, _, stderr := run(t, "traffic", "synth", dir); code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := run(t, "traffic", "detect", "--format", "table", filepath.Join(dir, "chad-moov.csv"))
	if code != 0 || !strings.Contains(stdout, "2024-05-25T14:15:00Z  2024-05-25T17:15:00Z") {
		t.Errorf("code %d: %s%s", code, stdout, stderr)
	}
	if code, _, stderr := run(t, "traffic", "synth", "--set", "outages-1999", dir); code != exitUsage || !strings.Contains(stderr, "want outages-2024-q2") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

package main

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
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

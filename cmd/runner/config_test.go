package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestConfigProblems: testdata/config/*.yaml hold mistakes; beside each stands what is
// said about them, all at once, every one at its line and column.
func TestConfigProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("cases: %d, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, got := parseConfig("job.yaml", b)
		want, err := os.ReadFile(strings.TrimSuffix(f, ".yaml") + ".want")
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintln(got); text != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", f, text, want)
		}
		if code := exitCode(got, streams{&strings.Builder{}, &strings.Builder{}}); code != exitConfig {
			t.Errorf("%s: exit code %d, want %d", f, code, exitConfig)
		}
	}
}

// TestSecretsStayHidden puts a canary into every secret of a job file and looks for it in
// every way in which a configuration can be shown.
func TestSecretsStayHidden(t *testing.T) {
	const canary = "canary-4711"
	t.Setenv("CANARY", canary)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"${env:CANARY}", "${file:" + file + "}"} {
		text := strings.ReplaceAll(validJob, "topic: t", `topic: t, sasl: {mechanism: plain, user: me, password: "`+ref+`"}`)
		cfg, err := parseConfig("job.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if string(cfg.Source.Kafka.SASL.Password) != canary {
			t.Fatalf("%s: the secret was not read", ref)
		}
		asJSON, err := json.Marshal(cfg.Source)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(cfg.Source)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg.Source.Kafka.SASL.Password), string(asJSON), string(asYAML)} {
			if strings.Contains(shown, canary) {
				t.Errorf("%s: the secret is shown in %.200s", ref, shown)
			}
		}
	}
}

const validJob = `job: j
feed: ble
source: {kafka: {brokers: ["127.0.0.1:1"], topic: t}}
window: {tumbling: 10s}
sinks: [{parquet: {dir: out}}]
`

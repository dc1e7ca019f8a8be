package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/pipeline"
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

// TestHorizon: duplicates are looked for among all rows that a window can still take.
func TestHorizon(t *testing.T) {
	for window, want := range map[string]time.Duration{
		"{tumbling: 10s, lateness: 1m}":                                      70 * time.Second,
		"{hopping: {size: 20s, slide: 10s}}":                                 20 * time.Second,
		"{cumulate: {size: 1h, step: 10m}, lateness: 1m}":                    61 * time.Minute,
		"{tumbling: 24h, zone: Europe/Amsterdam}":                            48 * time.Hour,
		"{session: {gap: 5m}, lateness: 1h}":                                 25 * time.Hour,
		"{session: {gap: 5m, max_length: 30m, touch: merge}, retract: true}": 30 * time.Minute,
	} {
		cfg, err := parseConfig("job.yaml", []byte(strings.Replace(validJob, "{tumbling: 10s}", window, 1)))
		if err != nil {
			t.Errorf("%s: %v", window, err)
		}
		if got := cfg.horizon(); got != pipeline.Ticks(want) {
			t.Errorf("%s: horizon %d, want %v", window, got, want)
		}
	}
}

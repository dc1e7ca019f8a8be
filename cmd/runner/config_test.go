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

// TestComplete: by how much the mark passes a time column before a row comes out.
func TestComplete(t *testing.T) {
	const s = int64(1e6)
	for _, c := range []struct {
		window, rest, column string
		after, step, offset  int64
	}{
		{"{tumbling: 10s, lateness: 5s, offset: 3s}", "", "time", 15 * s, 10 * s, 3 * s},
		{"{tumbling: 10s, lateness: 5s, offset: 3s}", "", "end_time", 5 * s, 10 * s, 13 * s},
		{"{tumbling: 10s}", "", "last_event_time", -1, 0, 0},
		{"{hopping: {size: 10s, slide: 2s}}", "", "time", 10 * s, 2 * s, 0},
		{"{cumulate: {size: 10s, step: 2s}}", "", "time", 10 * s, 10 * s, 0},
		{"{cumulate: {size: 10s, step: 2s}}", "", "end_time", 0, 2 * s, 10 * s},
		{"{tumbling: 24h, zone: Europe/Berlin}", "normalize: {to: none}", "window_start", 48 * 3600 * s, 0, 0},
		{"{tumbling: 24h, zone: Europe/Berlin}", "normalize: {to: none}", "window_end", 0, 0, 0},
		{"{session: {gap: 1m, max_length: 2h}, lateness: 1s}", "normalize: {to: none}", "window_start", 7201 * s, 0, 0},
		{"{session: {gap: 1m, max_length: 2h, touch: merge}}", "", "end_time", 7200*s + 1 + 1000, 0, 0},
		{"{session: {gap: 1m, max_length: none}}", "", "time", -1, 0, 0},
		{"{global: true, early: {every: 1h}}", "normalize: {to: none}", "window_start", -1, 0, 0},
		{"{tumbling: 10s, trigger: on_ingest}", "", "time", -1, 0, 0},
		{"{tumbling: 10s}", "event_time: {scope: key, max_offline: 1h}", "time", 3610 * s, 10 * s, 0},
		{"{tumbling: 10s, trigger: on_close, lateness: 1s, then: {tumbling: 1m, aggregates: [{fn: count, as: count}]}}", "", "time", 61 * s, 60 * s, 0},
	} {
		text := fmt.Sprintf("job: j\nfeed: ble\nsource: {kafka: {brokers: [h:1], topic: t}}\nwindow: %s\n%s\nsinks: [{parquet: {dir: out}}]\n", c.window, c.rest)
		cfg, err := parseConfig("job.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if after, step, offset := cfg.complete(c.column); after != c.after || step != c.step || offset != c.offset {
			t.Errorf("%s by %s: after %d, step %d, offset %d; want %d, %d, %d", c.window, c.column, after, step, offset, c.after, c.step, c.offset)
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

// TestCompleteAfter: how far the mark must be behind a row's time before nothing more comes
// with that time.
func TestCompleteAfter(t *testing.T) {
	const never = -time.Microsecond
	for _, c := range []struct {
		text   string // in place of the window and what follows it
		column string
		want   time.Duration
	}{
		{"window: {tumbling: 10s, lateness: 2m}", "time", 130 * time.Second},
		{"window: {tumbling: 10s, lateness: 2m}\nnormalize: {to: none}", "window_start", 130 * time.Second},
		{"window: {tumbling: 10s, lateness: 2m}\nnormalize: {to: none}", "window_end", 120 * time.Second},
		{"window: {tumbling: 10s}\nnormalize: {to: none}", "last_event_time", never},
		{"window: {tumbling: 10s}\nnormalize: {to: none}", "time", never},
		{"window: {hopping: {size: 1m, slide: 10s}}\nnormalize: {to: none}", "window_start", time.Minute},
		{"window: {cumulate: {size: 1h, step: 10m}}\nnormalize: {to: none}", "window_start", time.Hour},
		{"window: {tumbling: 24h, zone: Europe/Amsterdam}\nnormalize: {to: none}", "window_start", 48 * time.Hour},
		{"window: {session: {gap: 1m}, lateness: 1m}\nnormalize: {to: none}", "window_start", 24*time.Hour + time.Minute},
		{"window: {session: {gap: 1m, max_length: none}}\nnormalize: {to: none}", "window_start", never},
		{"window: {tumbling: 10s}\nevent_time: {scope: key, max_offline: 3h}\nnormalize: {to: none}", "window_start", 3*time.Hour + 10*time.Second},
		{"window: {tumbling: 10s, trigger: on_ingest}\nnormalize: {to: none}", "window_start", never},
		{"window: {global: true, trigger: on_update}\nnormalize: {to: none}", "window_start", never},
		{"window: {tumbling: 10s, lateness: 5s, trigger: on_close, then: {tumbling: 1m, aggregates: [{fn: max, column: count, as: peak}]}}\nnormalize: {to: none}", "window_start", 65 * time.Second},
	} {
		text := "job: j\nfeed: ble\nsource: {kafka: {brokers: [\"b:9092\"], topic: t}}\n" + c.text + "\n"
		cfg, err := parseConfig("job.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got, _, _ := cfg.complete(c.column); got != pipeline.Ticks(c.want) {
			t.Errorf("%s, by %s: %v, want %v", c.text, c.column, time.Duration(got)*time.Microsecond, c.want)
		}
	}
}

package clickhouse

import (
	"strings"
	"testing"
	"time"
)

// TestInspect: what is said of servers and tables that the real engine cannot be made into.
func TestInspect(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*model, *Config)
		verdict Verdict
		want    string
	}{
		{"old server", func(m *model, _ *Config) { m.server.version = "24.3.1.1" }, Fail, "version 24.3.1.1: upgrade to 24.8"},
		{"oldest server", func(m *model, _ *Config) { m.server.version = "24.8.1.1" }, OK, "version 24.8.1.1"},
		{"odd version", func(m *model, _ *Config) { m.server.version = "head" }, Warn, "cannot be read"},
		{"clock", func(m *model, _ *Config) { m.server.now = m.server.now.Add(-time.Minute) }, Warn, "its clock is -1m"},
		{"replicated for an hour", func(m *model, _ *Config) {
			m.info.engine, m.info.window = "ReplicatedReplacingMergeTree", dedupWindow{10000, 3600}
		}, OK, "protect a block for 1h0m0s"},
		{"replicated for a moment", func(m *model, _ *Config) {
			m.info.engine, m.info.window = "ReplicatedReplacingMergeTree", dedupWindow{10000, 3}
		}, Fail, "remembers tokens for 3 s, and 4 epochs take 4s: ALTER TABLE `default`.`assets` MODIFY SETTING replicated_deduplication_window_seconds = 604800"},
		{"native", func(_ *model, c *Config) { c.Delivery, c.URL = AtLeastOnce, "clickhouse://h:9000" }, Warn, "delivery at_least_once: rows may be there twice"},
		{"view over revisions", func(m *model, _ *Config) {
			m.server.views = []viewTarget{{view: "default.v", target: "default.t", engine: "MergeTree", window: dedupWindow{blocks: 10000}}}
		}, Warn, "adds them all up"},
	} {
		r := newRig(t, nil)
		r.model.made = true
		r.model.server = serverInfo{version: "26.7.2.1", now: time.Now()}
		c.change(r.model, &r.sink.cfg)
		found := r.sink.Inspect(t.Context(), time.Second)
		ok := false
		for _, f := range found {
			ok = ok || f.Verdict == c.verdict && strings.Contains(f.Text, c.want)
		}
		if !ok {
			t.Errorf("%s: %v", c.name, found)
		}
	}
}

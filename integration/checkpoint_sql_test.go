package integration

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestCheckpointSQL: the files of a checkpoint are Arrow files that the engine reads, its sums
// agree with what the job had read (docs/state.md shows the same queries).
func TestCheckpointSQL(t *testing.T) {
	r := newRig(t)
	dir, err := filepath.Abs("../cmd/runner/testdata/checkpoints")
	must(t, err)
	for _, q := range []struct{ query, files, want string }{
		{"SELECT topic, partition, offset, rows_read, rows_aggregated, rows_late FROM %s", "third-windows/state/checkpoints/*/splits.arrow", "t\t0\t8\t8\t7\t1\n"},
		{"SELECT key, fromUnixTimestamp64Micro(start, 'UTC') AS from, fromUnixTimestamp64Micro(end, 'UTC') AS to, rows_0 AS rows, min_rssi_dbm_0 AS lowest FROM %s ORDER BY ALL",
			"third-sessions/state/state/*.arrow", "RC-1\t2026-03-01 12:00:40.000000\t2026-03-01 12:00:55.000000\t1\t-62\n" +
				"RC-2\t2026-03-01 12:00:50.000000\t2026-03-01 12:01:05.000000\t1\t-65\n" +
				"RC-2\t2026-03-01 12:01:20.000000\t2026-03-01 12:01:35.000000\t1\t-64\n" +
				"RC-3\t2026-03-01 12:01:23.000000\t2026-03-01 12:01:38.000000\t1\t-67\n"},
		{"SELECT count(), min(toInt64(_group)) >= 0 FROM %s", "third-windows/state/state/*-0-0.arrow", "7\t1\n"},
	} {
		got, err := r.clickhouse.Query(t.Context(), fmt.Sprintf(q.query, fmt.Sprintf("file('%s', Arrow)", filepath.Join(dir, q.files))))
		must(t, err)
		if got != q.want {
			t.Errorf("%s of %s: %q, want %q", q.query, q.files, got, q.want)
		}
	}
}

package main

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestRealTraffic: real counts through the job. The taxis of New York stay at home on holidays and in
// a blizzard; mentions of companies are a strong enough signal or not.
func TestRealTraffic(t *testing.T) {
	data := pipelinetest.Shared(t, "data/nab-series")
	broker, dir := newBroker(t), t.TempDir()
	volumes := realRecords(t, data, "Twitter_volume_AAPL", "Twitter_volume_GOOG", "Twitter_volume_KO", "elb_request_count_8c0756")
	taxis := realRecords(t, data, "nyc_taxi")
	for topic, lines := range map[string][]string{"volumes": volumes, "taxis": taxis} {
		file := filepath.Join(dir, topic+".jsonl")
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := run(t, "produce", "--brokers", broker, "--topic", topic, "--partitions", "1", "--jsonl", file, "--time", "ts"); code != 0 {
			t.Fatal(stderr)
		}
	}
	found := func(job, topic, section string) []string {
		file := filepath.Join(dir, job+".yaml")
		text := fmt.Sprintf("job: %s\nfeed: traffic\nsource: {kafka: {brokers: [%q], topic: %s, bounded: true}}\ntraffic: %s\nnormalize: {to: none}\nsinks: [{parquet: {dir: %q, partition_by: none}}]\ncheckpoint: {dir: %q, interval: 5s}\nhttp: {listen: \"\"}\n",
			job, broker, topic, section, filepath.Join(dir, "out"), filepath.Join(dir, "state-"+job))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, stdout, stderr := run(t, "run", "-f", file); code != 0 {
			t.Fatalf("%d %s %s", code, stdout, stderr)
		}
		lines, err := tableRows(filepath.Join(dir, "out", job), []string{"entity", "activity", "start_time"})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "create") })
	}
	days := func(lines []string) string {
		var out []string
		for _, l := range lines {
			out = append(out, l[strings.LastIndexByte(l, '|')+2:][:10])
		}
		return strings.Join(slices.Compact(out), " ")
	}

	all := found("all", "taxis", "{}")
	t.Logf("taxis: %d events on %s", len(all), days(all))
	if len(all) != 23 {
		t.Errorf("%d events of taxis, want 23", len(all))
	}
	for _, day := range []string{"2014-09-01", "2014-11-27", "2014-12-25", "2015-01-01", "2015-01-19", "2015-01-26"} {
		if !strings.Contains(days(all), day) {
			t.Errorf("nothing on %s", day)
		}
	}
	verified := found("verified", "taxis", "{detector: {replace: verified_only}}")
	t.Logf("taxis, replaced when verified: %d events on %s", len(verified), days(verified))
	if len(verified) >= len(all) {
		t.Errorf("%d events where only what is verified is replaced, want fewer than %d", len(verified), len(all))
	}
	strong := found("strong", "volumes", "{}")
	weak := found("weak", "volumes", "{eligibility: {median: 0, p5: 0}}")
	t.Logf("mentions: %d events of series that are fit, %d of all: %s", len(strong), len(weak), strings.Join(weak, ", "))
	if len(strong) >= len(weak) || slices.ContainsFunc(strong, func(l string) bool { return strings.HasPrefix(l, "Twitter_volume_KO") }) {
		t.Errorf("weak signals are published: %s", strings.Join(strong, ", "))
	}
}

// realRecords makes records of files of counts, by time. Half hours become two quarters.
func realRecords(t *testing.T, dir string, names ...string) []string {
	t.Helper()
	type record struct {
		at   time.Time
		line string
	}
	var all []record
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(bufio.NewReader(f)).ReadAll()
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		for _, r := range rows[1:] {
			at, err := time.Parse(time.DateTime, r[0])
			if err != nil {
				t.Fatal(err)
			}
			v, err := strconv.ParseFloat(r[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			parts := []int64{int64(v)}
			if name == "nyc_taxi" {
				parts = []int64{int64(v) / 2, (int64(v) + 1) / 2}
			}
			for i, part := range parts {
				at := at.Add(time.Duration(i) * slotLength)
				all = append(all, record{at, fmt.Sprintf(`{"entity":%q,"bytes":%d,"ts":%d}`+"\n", name, part, at.UnixMilli())})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b record) int { return a.at.Compare(b.at) })
	var lines []string
	for _, r := range all {
		lines = append(lines, r.line)
	}
	return lines
}

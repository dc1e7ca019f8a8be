package parquet

import (
	"encoding/json"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// FuzzPath: every table, job and time gives names that a store takes, that stay under their
// folder, and that tell two tables apart.
func FuzzPath(f *testing.F) {
	f.Add("ble_10s", "other", "job", int64(baseUS))
	f.Add("ocsf/5001", "ocsf%2F5001", "../j", int64(-1))
	f.Add("..", ".", "a b\x00", int64(pipeline.MaxTicks))
	f.Fuzz(func(t *testing.T, table, other, job string, at int64) {
		cfg, e := testConfig(), pipeline.Epoch{Job: job, Lineage: 3, N: 7}
		cfg.Table, cfg.Job, cfg.PartitionBy = table, job, pipeline.PartitionHour
		if cfg.Validate() != nil {
			return
		}
		partition := cfg.PartitionBy.Of(at)
		for _, name := range []string{cfg.stagingName(e, 0, "run"), cfg.logName(3, 7), cfg.finalName(partition, "", e, 0)} {
			if !fs.ValidPath(name) || strings.ContainsRune(name, 0) || strings.HasPrefix(name, ".") {
				t.Fatalf("table %q job %q: name %q", table, job, name)
			}
		}
		if name := cfg.stagingName(e, 0, "run"); !strings.HasPrefix(name, stagingDir+"/") {
			t.Fatalf("staged %q", name)
		}
		if back, err := url.PathUnescape(segment(table)); err != nil || back != table {
			t.Fatalf("segment %q of %q is that of %q, %v", segment(table), table, back, err)
		}
		second := cfg
		second.Table = other
		if table != other && cfg.logName(3, 7) == second.logName(3, 7) {
			t.Fatalf("tables %q and %q share %q", table, other, cfg.logName(3, 7))
		}
		if !strings.HasPrefix(path.Base(cfg.finalName(partition, "", e, 0)), "part-") {
			t.Fatalf("final %q", cfg.finalName(partition, "", e, 0))
		}
	})
}

// FuzzReceipt: what open takes is a receipt of this sink that names nothing outside its table,
// and says the same when it is written again.
func FuzzReceipt(f *testing.F) {
	cfg := testConfig()
	s, err := New(cfg, pipelinetest.NewMemStore(), readingSchema)
	if err != nil {
		f.Fatal(err)
	}
	e := pipeline.Epoch{Job: cfg.Job, Lineage: 3, N: 1}
	good, err := json.Marshal(receipt{Format: receiptFormat, Table: cfg.Table, Job: cfg.Job, Lineage: 3, Epoch: 1,
		Files: []file{{Staging: cfg.stagingName(e, 0, "run"), Final: cfg.finalName(0, "", e, 0), Size: 9, XXH64: "0123456789abcdef"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	name := cfg.stagingName(e, 1, "run")
	holding, err := json.Marshal(receipt{Format: lakeFormat, Table: cfg.Table, Job: cfg.Job, Lineage: 3, Epoch: 1, Drop: []string{name},
		settled: settled{Held: []held{{Staging: name, Size: 9, XXH64: "0123456789abcdef", Rows: 1}}, HeldSince: new(int64(7))}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(holding)
	f.Add([]byte(strings.Replace(string(holding), stagingDir, stagingDir+"/../..", 1)))
	f.Add([]byte(strings.Replace(string(good), stagingDir, stagingDir+"/../..", 1)))
	f.Add([]byte(`{"format":1,"files":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := s.open(raw)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		for _, file := range r.Files {
			if !fs.ValidPath(file.Staging) || !fs.ValidPath(file.Final) {
				t.Fatalf("takes %q and %q", file.Staging, file.Final)
			}
		}
		for _, h := range r.Held {
			r.Drop = append(r.Drop, h.Staging)
		}
		for _, name := range r.Drop {
			if !fs.ValidPath(name) || !strings.HasPrefix(name, stagingDir+"/") {
				t.Fatalf("takes %q", name)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := s.open(again); err != nil || len(back.Files) != len(r.Files) || back.Epoch != r.Epoch || back.Lineage != r.Lineage {
			t.Fatalf("%s\nagain: %+v, %v", raw, back, err)
		}
	})
}

package operators_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/cockroachdb/datadriven"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

func TestTumblingScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/tumbling/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenarios: %d, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			pipelinetest.RunScenario(t, f, openTumbling)
		})
	}
}

// openTumbling builds a window from the arguments of an open command.
func openTumbling(mem memory.Allocator, d *datadriven.TestData) (pipelinetest.Window, error) {
	cfg := operators.TumblingConfig{Trigger: operators.OnMark, LateRows: 1, Keys: []string{"key"},
		Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}}}
	for _, a := range d.CmdArgs {
		v := strings.Join(a.Vals, ",")
		var err error
		duration := func(to *int64) {
			var dur time.Duration
			dur, err = time.ParseDuration(v)
			*to = pipeline.Ticks(dur)
		}
		switch a.Key {
		case "size":
			duration(&cfg.Size)
		case "offset":
			duration(&cfg.Offset)
		case "lateness":
			duration(&cfg.Lateness)
		case "late-delay":
			duration(&cfg.LateDelay)
		case "late-rows":
			cfg.LateRows, err = strconv.Atoi(v)
		case "trigger":
			cfg.Trigger = operators.Trigger(v)
		case "discard":
			cfg.Discard = true
		case "aggs":
			cfg.Aggregates = nil
			for _, fn := range a.Vals {
				g := operators.Aggregate{Fn: fn, Column: "value", As: fn}
				cfg.Aggregates = append(cfg.Aggregates, g)
			}
		default:
			err = fmt.Errorf("unknown argument %s", a.Key)
		}
		if err != nil {
			return nil, err
		}
	}
	return operators.NewTumbling(cfg, pipelinetest.RowSchema(), mem)
}

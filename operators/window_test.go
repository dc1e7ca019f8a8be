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

// TestWindowScenarios: every rule of windows as a text, in a folder by their shape.
func TestWindowScenarios(t *testing.T) {
	for _, dir := range []string{"tumbling", "hopping", "cumulate", "global", "civil", "early", "aggregates"} {
		files, err := filepath.Glob("testdata/" + dir + "/*.txt")
		if err != nil || len(files) == 0 {
			t.Fatalf("scenarios in %s: %d, %v", dir, len(files), err)
		}
		for _, f := range files {
			t.Run(dir+"/"+strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
				pipelinetest.RunScenario(t, f, openWindow)
			})
		}
	}
}

// openWindow builds a window from the arguments of an open command.
func openWindow(mem memory.Allocator, d *datadriven.TestData) (pipelinetest.Window, error) {
	cfg := operators.WindowConfig{Shape: operators.TumblingShape(0, 0), Trigger: operators.OnMark, LateRows: 1, Keys: []string{"key"},
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
			cfg.Slide = cfg.Size
		case "slide":
			duration(&cfg.Slide)
		case "step":
			duration(&cfg.Slide)
			cfg.Kind = operators.Cumulate
		case "global":
			cfg.Kind = operators.Global
		case "offset":
			duration(&cfg.Offset)
		case "zone":
			cfg.Zone, err = time.LoadLocation(v)
		case "lateness":
			duration(&cfg.Lateness)
		case "early-rows":
			cfg.EarlyRows, err = strconv.Atoi(v)
		case "early-delay":
			duration(&cfg.EarlyDelay)
		case "early-aligned":
			cfg.EarlyAligned = true
		case "early-every":
			duration(&cfg.EarlyEvery)
		case "late-delay":
			duration(&cfg.LateDelay)
		case "late-rows":
			cfg.LateRows, err = strconv.Atoi(v)
		case "trigger":
			cfg.Trigger = operators.Trigger(v)
		case "discard":
			cfg.Discard = true
		case "retract":
			cfg.Retract = true
		case "skip-unchanged":
			cfg.SkipUnchanged = true
		case "on-time-if-new":
			cfg.OnTimeIfNew = true
		case "aggs":
			cfg.Aggregates = nil
			for _, spec := range a.Vals {
				g, err := parseAggregate(spec)
				if err != nil {
					return nil, err
				}
				cfg.Aggregates = append(cfg.Aggregates, g)
			}
		default:
			err = fmt.Errorf("unknown argument %s", a.Key)
		}
		if err != nil {
			return nil, err
		}
	}
	return operators.NewWindow(cfg, pipelinetest.RowSchema(), mem)
}

// parseAggregate reads FN[:N][|WHERE], an aggregate of column value that is named as it is
// written. N is the q of quantile, the wrap of increase and rate, the cap of collect.
func parseAggregate(spec string) (operators.Aggregate, error) {
	g := operators.Aggregate{Column: "value", As: spec}
	spec, g.Where, _ = strings.Cut(spec, "|")
	fn, param, ok := strings.Cut(spec, ":")
	g.Fn = fn
	if !ok {
		return g, nil
	}
	n, err := strconv.ParseFloat(param, 64)
	switch fn {
	case "quantile":
		g.Q = &n
	case "increase", "rate":
		g.Wrap = int64(n)
	default:
		g.Cap = int(n)
	}
	return g, err
}

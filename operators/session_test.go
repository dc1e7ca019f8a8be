package operators_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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

func TestSessionScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/session/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenarios: %d, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			pipelinetest.RunScenario(t, f, openSession)
		})
	}
}

// sessionConfig is what the scenarios start from.
func sessionConfig() operators.SessionConfig {
	return operators.SessionConfig{Touch: operators.TouchSplit, MaxLength: pipeline.MaxTicks, Trigger: operators.OnMark, LateRows: 1, Keys: []string{"key"},
		Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}}}
}

// openSession builds sessions from the arguments of an open command.
func openSession(mem memory.Allocator, d *datadriven.TestData) (pipelinetest.Window, error) {
	cfg := sessionConfig()
	for _, a := range d.CmdArgs {
		v := strings.Join(a.Vals, ",")
		var err error
		duration := func(to *int64) {
			var dur time.Duration
			dur, err = time.ParseDuration(v)
			*to = pipeline.Ticks(dur)
		}
		switch a.Key {
		case "gap":
			duration(&cfg.Gap)
		case "gap-column":
			cfg.GapColumn = v
		case "touch":
			cfg.Touch = operators.Touch(v)
		case "lateness":
			duration(&cfg.Lateness)
		case "max-length":
			duration(&cfg.MaxLength)
		case "early-every":
			duration(&cfg.EarlyEvery)
		case "early-delay":
			duration(&cfg.EarlyDelay)
		case "aligned":
			cfg.EarlyAligned = true
		case "skip-unchanged":
			cfg.SkipUnchanged = true
		case "early-rows":
			cfg.EarlyRows, err = strconv.Atoi(v)
		case "late-delay":
			duration(&cfg.LateDelay)
		case "late-rows":
			cfg.LateRows, err = strconv.Atoi(v)
		case "trigger":
			cfg.Trigger = operators.Trigger(v)
		case "discard":
			cfg.Discard = true
		case "on-time-if-new":
			cfg.OnTimeIfNew = true
		case "retract":
			cfg.Retract = true
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
	return operators.NewSession(cfg, pipelinetest.RowSchema(), mem)
}

// TestMergeSessions: windows that overlap become one; those that touch, with merge only.
func TestMergeSessions(t *testing.T) {
	for _, c := range []struct {
		in    [][2]int64
		touch operators.Touch
		want  [][2]int64
	}{
		{nil, operators.TouchSplit, nil},
		{[][2]int64{{5, 9}, {0, 6}}, operators.TouchSplit, [][2]int64{{0, 9}}},
		{[][2]int64{{0, 10}, {10, 20}}, operators.TouchSplit, [][2]int64{{0, 10}, {10, 20}}},
		{[][2]int64{{0, 10}, {10, 20}}, operators.TouchMerge, [][2]int64{{0, 20}}},
		{[][2]int64{{0, 1}, {4, 5}, {1, 2}, {5, 6}, {2, 3}}, operators.TouchMerge, [][2]int64{{0, 3}, {4, 6}}},
		{[][2]int64{{0, 100}, {3, 4}, {50, 60}, {99, 101}, {102, 103}}, operators.TouchSplit, [][2]int64{{0, 101}, {102, 103}}},
		{[][2]int64{{-20, -10}, {-10, 0}, {-15, -9}}, operators.TouchSplit, [][2]int64{{-20, 0}}},
	} {
		in := slices.Clone(c.in)
		if got := operators.MergeSessions(c.in, c.touch); !slices.Equal(got, c.want) {
			t.Errorf("%s %v: got %v, want %v", c.touch, c.in, got, c.want)
		}
		if !slices.Equal(in, c.in) {
			t.Errorf("%v was changed to %v", in, c.in)
		}
	}
}

// TestSessionConfig: every problem is named, and none of a good one.
func TestSessionConfig(t *testing.T) {
	good := sessionConfig()
	good.Gap = 10
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := operators.SessionConfig{Gap: -1, Touch: "kiss", Lateness: -1, Trigger: "whim", EarlyEvery: -1, EarlyDelay: -1, SkipUnchanged: true, LateRows: 256, EarlyRows: -1, LateDelay: -1, Discard: true, Retract: true}
	err := bad.Validate()
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) || len(all.Unwrap()) != 11 {
		t.Errorf("of eleven problems: %v", err)
	}
	short := good
	short.MaxLength = 9
	if err := short.Validate(); err == nil || !strings.Contains(err.Error(), "max_length") {
		t.Errorf("a cap below the gap: %v", err)
	}
	for name, change := range map[string]func(*operators.SessionConfig){
		"gap_column":         func(c *operators.SessionConfig) { c.GapColumn = "key" },
		"is not a column":    func(c *operators.SessionConfig) { c.Keys = []string{"nobody"} },
		"is there twice":     func(c *operators.SessionConfig) { c.Aggregates[0].As = "window_start" },
		"needs early rows":   func(c *operators.SessionConfig) { c.Trigger = operators.OnRule },
		"early every belong": func(c *operators.SessionConfig) { c.Trigger, c.EarlyEvery = operators.OnClose, 5 },
		"unknown function; kn": func(c *operators.SessionConfig) {
			c.Aggregates[0] = operators.Aggregate{Fn: "mode", Column: "value", As: "m"}
		},
	} {
		cfg := good
		cfg.Aggregates = slices.Clone(good.Aggregates)
		change(&cfg)
		if _, err := operators.NewSession(cfg, pipelinetest.RowSchema(), memory.DefaultAllocator); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error about %q, got %v", name, err)
		}
	}
}

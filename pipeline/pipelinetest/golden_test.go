package pipelinetest_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

var engine = pipelinetest.Engine{Assign: assign, Window: window, Merge: merge}

func TestGolden(t *testing.T) {
	t.Run("windows", func(t *testing.T) {
		pipelinetest.RunWindowGolden(t, pipelinetest.Golden(t, "window-conformance.json"), engine)
	})
}

// TestWindowCases runs cases of our own, for what the golden file has no case of.
func TestWindowCases(t *testing.T) {
	pipelinetest.RunWindowGolden(t, "testdata/window-cases.json", engine)
}

// shape is where the windows of a case lie.
func shape(w pipelinetest.WindowSpec) (operators.Shape, error) {
	s := operators.TumblingShape(int64(w.Size), int64(w.Offset))
	switch w.Type {
	case "tumbling":
	case "sliding":
		s.Slide = int64(w.Slide)
	case "cumulate":
		s.Kind, s.Size, s.Slide = operators.Cumulate, int64(w.MaxSize), int64(w.Step)
	case "global":
		s.Kind = operators.Global
	default:
		return s, pipelinetest.ErrNotBuilt("not built yet: " + w.Type + " windows")
	}
	var err error
	if w.TZ != "" {
		s.Zone, err = time.LoadLocation(w.TZ)
	}
	return s, err
}

func assign(w pipelinetest.WindowSpec, t int64) ([][2]int64, error) {
	s, err := shape(w)
	if err != nil {
		return nil, err
	}
	unit := int64(1)
	if s.Zone != nil { // a case by zone is in true milliseconds
		unit = 1000
		s.Size, s.Slide, s.Offset = s.Size*unit, s.Slide*unit, s.Offset*unit
	}
	out := [][2]int64{}
	for _, b := range s.Windows(nil, s.Span(t*unit)) {
		out = append(out, [2]int64{b.Start / unit, b.End / unit})
	}
	return out, nil
}

func merge(sessions [][2]int64, touch string) ([][2]int64, error) {
	return operators.MergeSessions(sessions, operators.Touch(touch)), nil
}

func window(s pipelinetest.Spec, mem memory.Allocator) (pipelinetest.Window, error) {
	sh := operators.Shape{}
	if s.Window.Type != "session" {
		var err error
		if sh, err = shape(s.Window); err != nil {
			return nil, err
		}
	}
	switch {
	case s.OutputTS != "" && s.OutputTS != "end":
		return nil, pipelinetest.ErrNotBuilt("not adopted: output_ts " + s.OutputTS)
	case s.OnTime == "fire_always" && s.Accumulation == "discarding":
		return nil, pipelinetest.ErrNotBuilt("not adopted: on-time panes of no rows")
	case s.Closing == "fire_always":
		return nil, pipelinetest.ErrNotBuilt("not adopted: last panes of no rows")
	}
	cfg := operators.WindowConfig{Shape: sh, Lateness: int64(s.AllowedLateness), Trigger: operators.OnMark,
		OnTimeIfNew: s.OnTime == "fire_if_non_empty", Keys: []string{"key"}}
	cfg.SkipUnchanged = s.EmitUnchanged != nil && !*s.EmitUnchanged || s.Trigger.EmitUnchanged != nil && !*s.Trigger.EmitUnchanged
	switch s.Accumulation {
	case "accumulating":
	case "discarding":
		cfg.Discard = true
	case "retracting":
		cfg.Retract = true
	default:
		return nil, pipelinetest.ErrNotBuilt("not built yet: " + s.Accumulation + " panes")
	}
	if err := trigger(&cfg, s); err != nil {
		return nil, err
	}
	switch s.Aggregate {
	case "sum", "max", "collect", "collect_by_ts":
		cfg.Aggregates = []operators.Aggregate{{Fn: s.Aggregate, Column: "value", As: "value"}}
	case "count", "none":
		cfg.Aggregates = []operators.Aggregate{{Fn: "count", As: "value"}}
	case "count_min_max":
		cfg.Aggregates = []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "min", Column: "value", As: "min"}, {Fn: "max", Column: "value", As: "max"}}
	default:
		return nil, pipelinetest.ErrNotBuilt("not built yet: aggregate " + s.Aggregate)
	}
	if s.Window.Type == "session" {
		return session(cfg, s, mem)
	}
	return operators.NewWindow(cfg, s.Rows(), mem)
}

// session builds sessions that emit as cfg says.
func session(cfg operators.WindowConfig, s pipelinetest.Spec, mem memory.Allocator) (pipelinetest.Window, error) {
	c := operators.SessionConfig{Touch: operators.TouchSplit, Lateness: cfg.Lateness, MaxLength: pipeline.MaxTicks, Trigger: cfg.Trigger,
		EarlyRows: cfg.EarlyRows, EarlyDelay: cfg.EarlyDelay, EarlyAligned: cfg.EarlyAligned, EarlyEvery: cfg.EarlyEvery,
		LateRows: cfg.LateRows, LateDelay: cfg.LateDelay, Discard: cfg.Discard, OnTimeIfNew: cfg.OnTimeIfNew, Retract: cfg.Retract,
		SkipUnchanged: cfg.SkipUnchanged, Keys: cfg.Keys, Aggregates: cfg.Aggregates}
	if s.GapPerElement() {
		c.Gap, c.GapColumn = 1, "gap"
	} else {
		var gap pipelinetest.Int
		if err := json.Unmarshal(s.Window.Gap, &gap); err != nil {
			return nil, err
		}
		c.Gap = int64(gap)
	}
	if s.Window.Touch == "merge" {
		c.Touch = operators.TouchMerge
	}
	if s.Window.MaxLength != nil {
		c.MaxLength = int64(*s.Window.MaxLength)
	}
	return operators.NewSession(c, s.Rows(), mem)
}

// trigger sets when the windows of a case emit. What has no end that the mark reaches, and
// what fires once and then closes its window, is not adopted.
func trigger(cfg *operators.WindowConfig, s pipelinetest.Spec) error {
	late := func(t *pipelinetest.TriggerSpec) error {
		cfg.LateRows, cfg.LateDelay = 0, pipeline.MaxTicks
		if t != nil {
			if of, ok := t.Repeated(); ok {
				t = &of
			}
		}
		switch {
		case t == nil:
		case t.Type == "every_element":
			cfg.LateRows = 1
		case t.Type == "count":
			cfg.LateRows = int(t.N)
		case t.Type == "processing_delay":
			cfg.LateDelay = int64(t.MS)
		case t.Type == "processing_time_every" && (t.Aligned == nil || !*t.Aligned):
			cfg.LateDelay = int64(t.Interval)
		default:
			return pipelinetest.ErrNotBuilt("not adopted: late trigger " + t.Type)
		}
		return nil
	}
	early := func(t *pipelinetest.TriggerSpec) error {
		if t == nil {
			return nil
		}
		if of, ok := t.Repeated(); ok {
			t = &of
		}
		switch t.Type {
		case "every_element":
			cfg.EarlyRows = 1
		case "count":
			cfg.EarlyRows = int(t.N)
		case "processing_delay":
			cfg.EarlyDelay = int64(t.MS)
		case "processing_time_every":
			cfg.EarlyDelay, cfg.EarlyAligned = int64(t.Interval), t.Aligned != nil && *t.Aligned
		case "event_time_every":
			cfg.EarlyEvery = int64(t.Interval)
		default:
			return pipelinetest.ErrNotBuilt("not adopted: early trigger " + t.Type)
		}
		return nil
	}
	t := s.Trigger
	if e, l, ok := t.InOrder(); ok {
		t = pipelinetest.TriggerSpec{Type: "after_watermark", Early: e, Late: l}
	}
	once, repeats := t.Repeated()
	if repeats {
		t = once
	}
	if s.BundleAtomic && t.Type != "default" {
		return pipelinetest.ErrNotBuilt("not adopted: triggers judged by bundle, a row has no bundle")
	}
	switch t.Type {
	case "default":
		cfg.LateRows = 1
		if s.BundleAtomic {
			cfg.LateRows = 0
		}
		return nil
	case "end_of_input":
		if cfg.Kind != operators.Global {
			return pipelinetest.ErrNotBuilt("not adopted: windows with an end that wait for the end of input")
		}
		return nil
	case "on_close":
		cfg.Trigger = operators.OnClose
		return nil
	case "on_update":
		cfg.Trigger = operators.OnUpdate
		return nil
	case "event_time_every":
		cfg.LateRows = 1
		return early(&t)
	case "after_watermark":
		if err := early(t.Early); err != nil {
			return err
		}
		return late(t.Late)
	case "watermark":
		if cfg.Lateness > 0 && !repeats {
			break // it would close its window with rows to come
		}
		cfg.LateRows = 1
		return nil
	case "count", "every_element", "processing_delay", "processing_time_every":
		cfg.Trigger = operators.OnRule
		if err := early(&t); err != nil {
			return err
		}
		return late(&t)
	case "first_of":
		parts, err := t.Parts()
		if err != nil || !repeats {
			break
		}
		cfg.Trigger, cfg.LateDelay = operators.OnRule, pipeline.MaxTicks
		for _, p := range parts {
			if p.Type == "watermark" {
				cfg.Trigger, cfg.LateRows = operators.OnMark, 1
				continue
			}
			rows, delay := cfg.LateRows, cfg.LateDelay
			if err := early(&p); err != nil {
				return err
			}
			if err := late(&p); err != nil {
				return err
			}
			if rows > 0 { // the mark has passed: nothing comes before it
				cfg.LateRows = rows
			}
			cfg.LateDelay = min(cfg.LateDelay, delay)
		}
		return nil
	}
	return pipelinetest.ErrNotBuilt("not adopted: trigger " + t.Type)
}

package pipelinetest_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

func TestGolden(t *testing.T) {
	t.Run("windows", func(t *testing.T) {
		pipelinetest.RunWindowGolden(t, pipelinetest.Golden(t, "window-conformance.json"), pipelinetest.Engine{Assign: assign, Window: window})
	})
}

func assign(w pipelinetest.WindowSpec, t int64) ([][2]int64, error) {
	size, slide := int64(w.Size), int64(w.Slide)
	switch {
	case w.TZ != "":
		return nil, pipelinetest.ErrNotBuilt("not built yet: civil-time windows")
	case w.Type == "tumbling":
		slide = size
	case w.Type != "sliding":
		return nil, pipelinetest.ErrNotBuilt("not built yet: " + w.Type + " windows")
	}
	out := [][2]int64{}
	operators.Windows(t, size, slide, int64(w.Offset), func(start int64) {
		if w.MinStart == nil || start >= int64(*w.MinStart) {
			out = append(out, [2]int64{start, pipeline.AddTicks(start, size)})
		}
	})
	return out, nil
}

func window(s pipelinetest.Spec, mem memory.Allocator) (pipelinetest.Window, error) {
	no := func(what string) (pipelinetest.Window, error) {
		return nil, pipelinetest.ErrNotBuilt("not built yet: " + what)
	}
	cfg := operators.TumblingConfig{Size: int64(s.Window.Size), Offset: int64(s.Window.Offset), Lateness: int64(s.AllowedLateness),
		Trigger: operators.OnMark, LateRows: 1, Keys: []string{"key"}}
	switch {
	case s.Window.Type != "tumbling" || s.Window.TZ != "" || s.Window.MinStart != nil:
		return no(s.Window.Type + " windows" + s.Window.TZ)
	case s.OutputTS != "" && s.OutputTS != "end":
		return nil, pipelinetest.ErrNotBuilt("not adopted: output_ts " + s.OutputTS)
	case s.Watermark.Per == "key" && s.Watermark.Policy == "bounded" && s.Watermark.Bound > 0:
		return no("marks by key")
	case s.EmitUnchanged != nil && !*s.EmitUnchanged, s.Trigger.EmitUnchanged != nil && !*s.Trigger.EmitUnchanged:
		return no("suppression of unchanged results")
	}
	switch s.Accumulation {
	case "accumulating":
	case "discarding":
		cfg.Discard = true
	default:
		return no(s.Accumulation + " panes")
	}
	switch tr := s.Trigger; tr.Type {
	case "default":
		if s.BundleAtomic {
			cfg.LateRows, cfg.LateDelay = 0, 0
		}
	case "on_close":
		cfg.Trigger = operators.OnClose
	case "on_update":
		cfg.Trigger = operators.OnUpdate
	case "after_watermark":
		switch {
		case tr.Early != nil:
			return no("early panes")
		case tr.Late == nil:
			cfg.LateRows, cfg.LateDelay = 0, pipeline.MaxTicks
		case tr.Late.Type == "count":
			cfg.LateRows, cfg.LateDelay = int(tr.Late.N), pipeline.MaxTicks
		case tr.Late.Type != "every_element":
			return no("late trigger " + tr.Late.Type)
		}
	default:
		return no("trigger " + tr.Type)
	}
	switch s.Aggregate {
	case "sum", "max", "collect":
		cfg.Aggregates = []operators.Aggregate{{Fn: s.Aggregate, Column: "value", As: "value"}}
	case "count", "none":
		cfg.Aggregates = []operators.Aggregate{{Fn: "count", As: "value"}}
	default:
		return no("aggregate " + s.Aggregate)
	}
	return operators.NewTumbling(cfg, pipelinetest.RowSchema(), mem)
}

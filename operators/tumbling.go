package operators

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TumblingConfig describes windows [start, start+Size) by event time. Sizes are ticks.
type TumblingConfig struct {
	Size, Offset, Lateness int64
	Trigger                Trigger
	// LateRows and LateDelay say when rows accepted after the window fired are emitted: per
	// key as soon as LateRows of them have come (1: each at once, 0: no such rule), and all
	// of a window once LateDelay of wall time has passed. They come out in any case when
	// the window is freed.
	LateRows  int
	LateDelay int64
	// Discard starts the aggregates anew after each pane.
	Discard    bool
	Keys       []string
	Aggregates []Aggregate
	// Seed of the key hash.
	Seed uint64
}

// Validate returns every problem.
func (c TumblingConfig) Validate() error { return c.window().Validate() }

func (c TumblingConfig) window() WindowConfig {
	return WindowConfig{Shape: TumblingShape(c.Size, c.Offset), Lateness: c.Lateness, Trigger: c.Trigger,
		LateRows: c.LateRows, LateDelay: c.LateDelay, Discard: c.Discard, Keys: c.Keys, Aggregates: c.Aggregates, Seed: c.Seed}
}

// NewTumbling compiles tumbling windows for rows of the given schema.
func NewTumbling(cfg TumblingConfig, rows *arrow.Schema, mem memory.Allocator) (*Window, error) {
	return NewWindow(cfg.window(), rows, mem)
}

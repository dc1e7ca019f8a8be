package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/decisions"
)

// decisionsName is the output that keeps what became of rows that did not go the ordinary way.
const decisionsName = "decisions"

// decided adds that output to the ports by which such rows leave.
func (p *plan) decided(out map[pipeline.Port][]pipeline.Output, store pipeline.Store, mem memory.Allocator) pipeline.Sink {
	s := decisions.New(p.cfg.Decisions, store, p.cfg.keyColumns(), mem, time.Now)
	for _, port := range []pipeline.Port{pipeline.Late, pipeline.Dead, pipeline.Duplicates} {
		out[port] = append(out[port], pipeline.Output{Name: decisionsName, Sink: s})
	}
	return s
}

// remember makes a job write the history of its marks. What it returns writes what is left.
func (p *plan) remember(store pipeline.Store, deps *jobDeps, mem memory.Allocator) func() error {
	h := decisions.NewHistory(p.cfg.Decisions, store, deps.newLineage, mem, time.Now)
	then, log := deps.onCheckpoint, deps.log
	failing := false
	deps.onCheckpoint = func(c pipeline.Published) {
		delete(c.Rows, decisionsName) // no results
		failing = noteHistory(h.Take(context.Background(), c), failing, log)
		if then != nil {
			then(c)
		}
	}
	return func() error {
		if err := h.Close(context.Background()); err != nil {
			return fmt.Errorf("history of the marks: %w", err)
		}
		return nil
	}
}

// noteHistory tells when writing the history begins and ends to fail. The job goes on: its
// results do not depend on it.
func noteHistory(err error, failing bool, log *slog.Logger) bool {
	switch {
	case err != nil && !failing:
		log.Error("the history of the marks cannot be written; explain knows less of this time", "err", err)
	case err == nil && failing:
		log.Info("the history of the marks is written again")
	}
	return err != nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// A trial is a job that leaves nothing behind: no sink, no offsets, and a state that is gone with
// it. All else is the job as it runs, so that what a trial shows is what the job would do.
type trial struct {
	plan *plan
	log  *slog.Logger
	open pipeline.OpenSource
	// rows is given what leaves by a port, from one goroutine at a time. The record is lent.
	rows func(port pipeline.Port, rec arrow.RecordBatch) error
	// until is the name of the step behind which the chain ends, the last one of that name; "" for all.
	until string
	// merge reads a source that ends in the order of event time.
	merge bool
}

// run runs the trial until its source ends or ctx is done, and returns the fates of its rows.
func (t trial) run(ctx context.Context) (pipeline.Counts, error) {
	var all pipeline.Counts
	dir, err := os.MkdirTemp("", "tidemark-trial")
	if err != nil {
		return all, err
	}
	store, err := pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	if err != nil {
		return all, errors.Join(err, os.RemoveAll(dir))
	}
	cfg, mem := t.plan.cfg, memory.DefaultAllocator
	front, err := t.plan.front(mem)
	if err != nil {
		return all, errors.Join(err, os.RemoveAll(dir))
	}
	var mu sync.Mutex
	outputs := map[pipeline.Port][]pipeline.Output{}
	for _, port := range t.plan.ports() {
		outputs[port] = []pipeline.Output{{Name: fmt.Sprint("port ", port), Sink: showSink{port, func(p pipeline.Port, rec arrow.RecordBatch) error {
			mu.Lock()
			defer mu.Unlock()
			return t.rows(p, rec)
		}}}}
	}
	err = pipeline.Run(ctx, pipeline.Job{
		Name:         cfg.Job,
		Open:         t.open,
		NewDecoder:   func() (pipeline.Decoder, error) { return t.plan.decoder(mem) },
		KeyColumns:   cfg.keyColumns(),
		NewChain:     func(seed uint64) ([]pipeline.Operator, error) { return t.chain(seed, mem) },
		Outputs:      outputs,
		Front:        front,
		Merge:        t.merge,
		Shards:       cfg.Parallelism.Shards,
		Decoders:     cfg.Parallelism.Decoders,
		Checkpoints:  pipeline.NewCheckpoints(store, 1, mem),
		Lease:        pipeline.Lease{Owner: "trial", Sure: true},
		Interval:     cfg.Checkpoint.Interval,
		StopTimeout:  cfg.StopTimeout,
		MaxStageRows: maxStageRows,
		Log:          t.log,
		OnCheckpoint: func(c pipeline.Published) {
			mu.Lock()
			defer mu.Unlock()
			all = pipeline.Counts{}
			for _, s := range c.Splits {
				all.Add(s.Counts)
			}
		},
	})
	return all, errors.Join(err, os.RemoveAll(dir))
}

// chain is that of the job, up to the step behind which it ends.
func (t trial) chain(seed uint64, mem memory.Allocator) ([]pipeline.Operator, error) {
	steps, err := t.plan.steps(seed, mem)
	if err != nil || t.until == "" {
		return operatorsOf(steps), err
	}
	end, keyed := 0, false
	for i, s := range steps {
		if s.name == t.until {
			end = i + 1
		}
	}
	for _, s := range steps[:end] {
		keyed = keyed || s.name == stepWindow
	}
	chain := operatorsOf(steps[:end])
	if !keyed && t.plan.events == nil { // rows, which leave a chain by this only
		chain = append(chain, operators.NewEach(mem))
	}
	return chain, nil
}

// stepsOf names the steps of a plan in their order, decode first.
func (p *plan) stepsOf() ([]string, error) {
	steps, err := p.steps(0, memory.DefaultAllocator)
	names := []string{stepDecode}
	for _, s := range steps {
		names = append(names, s.name)
	}
	return slices.Compact(names), err
}

// showSink is a sink that shows rows as they come and keeps nothing.
type showSink struct {
	port pipeline.Port
	rows func(pipeline.Port, arrow.RecordBatch) error
}

// Begin implements pipeline.Sink.
func (s showSink) Begin(context.Context, pipeline.Epoch) (pipeline.Stage, error) { return s, nil }

// Publish implements pipeline.Sink: there are no receipts.
func (s showSink) Publish(context.Context, pipeline.Receipt) error { return nil }

// Sweep implements pipeline.Sink.
func (s showSink) Sweep(context.Context) error { return nil }

// Close implements pipeline.Sink.
func (s showSink) Close() error { return nil }

// Write implements pipeline.Stage.
func (s showSink) Write(_ context.Context, b pipeline.Batch) error { return s.rows(s.port, b.Rec) }

// Prepare implements pipeline.Stage.
func (s showSink) Prepare(context.Context, pipeline.Mark) (pipeline.Receipt, error) { return nil, nil }

// Abort implements pipeline.Stage.
func (s showSink) Abort() error { return nil }

// appendRow appends row i of a record as JSON, like a topic of results has it.
func appendRow(b []byte, rec arrow.RecordBatch, i int) []byte {
	b = append(b, '{')
	open := len(b)
	for c, f := range rec.Schema().Fields() {
		b = pipeline.AppendJSONMember(b, open, f, rec.Column(c), i)
	}
	return append(b, '}')
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// cmdAudit compares a job's ClickHouse tables with what it has recorded.
func cmdAudit(ctx context.Context, args []string, out streams) error {
	fs := newFlags("audit", "tidemark audit -f job.yaml", "compares a job's ClickHouse tables with tm_commits, block by block; the job may run meanwhile")
	file := fs.String("f", "", "job `file`")
	last := fs.Int("epochs", 10_000, "compare the last `N` epochs that have rows; 0: all")
	replays := fs.Bool("replays", false, "compare the tables of the job's replays")
	if err := fs.parse(args); err != nil {
		return err
	}
	p, err := planOfFile(*file, fs)
	if err == nil && *replays {
		p, err = planOf(replayPlan{}.staged(p.cfg))
	}
	if err != nil {
		return err
	}
	tables, mismatches := 0, int64(0)
	for _, sc := range p.cfg.Sinks {
		if sc.ClickHouse == nil {
			continue
		}
		for _, port := range p.ports() {
			n, err := p.audit(ctx, sc.ClickHouse.Config, port, *last, out.stdout)
			if err != nil {
				return err
			}
			tables++
			mismatches += n
		}
	}
	switch {
	case tables == 0:
		return fmt.Errorf("%s: the job has no clickhouse sink", *file)
	case mismatches > 0:
		return fmt.Errorf("%d blocks are not in the tables as they were written: replay what is missing from an earlier checkpoint, delete what is surplus by _tm_lineage, _tm_epoch and _tm_block", mismatches)
	}
	return nil
}

// audit prints what the audit of one table found.
func (p *plan) audit(ctx context.Context, cfg clickhouse.Config, port pipeline.Port, last int, w io.Writer) (mismatches int64, err error) {
	table, schema := p.clickhouse(cfg, port)
	s, err := clickhouse.New(table, nil, schema, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	a, err := s.Audit(ctx, last)
	if err != nil {
		return 0, err
	}
	name := table.Database + "." + table.Table
	verdict := clickhouse.OK
	if a.Mismatches > 0 {
		verdict = clickhouse.Fail
	}
	fmt.Fprintf(w, "%-4s  %s: %d epochs, %d blocks, %d rows; %d blocks differ\n", verdict, name, a.Epochs, a.Blocks, a.Rows, a.Mismatches)
	for _, f := range a.Faults {
		fmt.Fprintf(w, "      %s\n", f)
	}
	if a.Unproven > 0 {
		fmt.Fprintf(w, "%-4s  %s: %d blocks have fewer rows than were written; merges explain it, but their keys are forgotten, so nothing proves it\n", clickhouse.Warn, name, a.Unproven)
	}
	return a.Mismatches, nil
}

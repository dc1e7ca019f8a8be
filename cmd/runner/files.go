package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// cmdFiles lists the Parquet files that count.
func cmdFiles(ctx context.Context, args []string, out streams) error {
	fs := newFlags("files", "tidemark files -f job.yaml --from 2026-11-20 --to 2026-11-21",
		"lists the Parquet files of a job that count: its own, and those of a replay where that was promoted. A glob sees the files of the job alone")
	file := fs.String("f", "", "job `file`")
	table := fs.String("table", "", "files of this `table` of the job; as a rule it has one")
	from := fs.String("from", "", "files of partitions from this `time` on")
	to := fs.String("to", "", "files of partitions before this `time`")
	format := fs.String("o", formatTable, "`form` of the output: table, a path a line, or json")
	if err := fs.parse(args); err != nil {
		return err
	}
	if *format != formatTable && *format != formatJSON {
		return &usageError{fmt.Sprintf("files: -o %q: want table or json", *format)}
	}
	bounds := [2]int64{pipeline.MinTicks, pipeline.MaxTicks}
	for i, text := range []string{*from, *to} {
		if text == "" {
			continue
		}
		t, err := timeFlag([]string{"from", "to"}[i], text, time.Now())
		if err != nil {
			return err
		}
		bounds[i] = t.UnixMicro()
	}
	p, err := planOfFile(*file, fs)
	if err != nil {
		return err
	}
	files, err := p.countingFiles(ctx, *table, bounds[0], bounds[1])
	if err != nil {
		return err
	}
	if *format == formatJSON {
		return printJSON(out.stdout, files)
	}
	for _, f := range files {
		if _, err := fmt.Fprintln(out.stdout, f.Name); err != nil {
			return err
		}
	}
	return nil
}

// countingFiles returns the files that count of a table, the first when it is not named, with
// the directory before their names.
func (p *plan) countingFiles(ctx context.Context, table string, from, to int64) ([]parquet.CountingFile, error) {
	var known []string
	for _, sc := range p.cfg.Sinks {
		if sc.Parquet == nil {
			continue
		}
		for _, port := range switchedPorts(p) {
			cfg, _ := p.parquet(sc.Parquet.Config, port)
			if known = append(known, cfg.Table); table != "" && cfg.Table != table {
				continue
			}
			store, err := readStore(ctx, sc.Parquet.Dir, sc.Parquet.S3)
			if err != nil {
				return nil, err
			}
			ranges, err := parquet.Decided(ctx, store, cfg)
			if err != nil {
				return nil, err
			}
			files, err := parquet.CountingFiles(ctx, store, cfg, ranges, from, to)
			for i := range files {
				files[i].Name = below(sc.Parquet.Dir, files[i].Name)
			}
			return files, err
		}
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("job %s has no parquet sink", p.cfg.Job)
	}
	return nil, &usageError{fmt.Sprintf("files: --table %s: the job has %v", table, known)}
}

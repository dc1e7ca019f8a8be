package main

import (
	"fmt"
	"io"

	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// cmdDDL prints the statements that make a job's ClickHouse tables.
func cmdDDL(args []string, stdout io.Writer) error {
	fs := newFlags("ddl", "tidemark ddl -f examples/ble-clickhouse.yaml", "prints the statements that make a job's ClickHouse tables; with create: auto the job runs them itself")
	file := fs.String("f", "", "job `file`")
	if err := fs.parse(args); err != nil {
		return err
	}
	if *file == "" {
		return &usageError{"ddl: -f names no job file"}
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	p, err := planOf(cfg)
	if err != nil {
		return err
	}
	printed := map[string]bool{}
	for _, sc := range cfg.Sinks {
		if sc.ClickHouse == nil {
			continue
		}
		for _, port := range p.ports() {
			table, schema := p.clickhouse(sc.ClickHouse.Config, port)
			statements, err := clickhouse.DDL(table, schema)
			if err != nil {
				return err
			}
			for _, s := range statements {
				if !printed[s] {
					printed[s] = true
					fmt.Fprintf(stdout, "%s;\n\n", s)
				}
			}
		}
	}
	if len(printed) == 0 {
		return fmt.Errorf("%s: the job has no clickhouse sink", *file)
	}
	return nil
}

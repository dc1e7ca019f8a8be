package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// cmdDDL prints the statements that make a job's ClickHouse tables.
func cmdDDL(args []string, stdout io.Writer) error {
	fs := newFlags("ddl", "tidemark ddl -f examples/ble-clickhouse.yaml", "prints the statements that make a job's ClickHouse tables; with create: auto the job runs them itself")
	file := fs.String("f", "", "job `file`")
	cluster := fs.String("cluster", "", "make everything ON CLUSTER `NAME`")
	replicated := fs.Bool("replicated", false, "make replicated tables, with the macros {shard} and {replica}")
	replays := fs.Bool("replays", false, "print those of the tables of replays, and what promote needs")
	if err := fs.parse(args); err != nil {
		return err
	}
	live, err := planOfFile(*file, fs)
	if err != nil {
		return err
	}
	p := live
	if *replays {
		if p, err = planOf(replayPlan{}.staged(live.cfg)); err != nil {
			return err
		}
	}
	printed := map[string]bool{}
	advise := false
	for i, sc := range p.cfg.Sinks {
		if sc.ClickHouse == nil {
			continue
		}
		for _, port := range p.ports() {
			table, schema := p.clickhouse(sc.ClickHouse.Config, port)
			table.Cluster, table.Replicated = cmp.Or(*cluster, table.Cluster), *replicated || table.Replicated
			advise = advise || table.Replicated
			statements, err := clickhouse.DDL(table, schema)
			if err == nil && *replays && !table.Append {
				of, _ := live.clickhouse(live.cfg.Sinks[i].ClickHouse.Config, port)
				of.Cluster, of.Replicated = table.Cluster, table.Replicated
				switching, serr := clickhouse.SwitchDDL(of, schema)
				statements, err = append(statements, switching...), serr
			}
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
	if advise {
		fmt.Fprint(stdout, quorumAdvice)
	}
	return nil
}

// quorumAdvice is for replicated tables.
const quorumAdvice = `-- One replica that has acknowledged a block and is then lost for good takes the block with
-- it. To rule that out let the user of the job insert with a quorum:
-- ALTER USER <user> SETTINGS insert_quorum = 'auto', insert_quorum_parallel = 1;
`

// lowCardinality are the texts of an event that are much the same in all events of a job, beside
// the captions of enums.
var lowCardinality = []string{"metadata.version", "metadata.product.name", "metadata.product.vendor_name", "metadata.product.version",
	"metadata.product.feature.name", "metadata.log_name", "metadata.log_provider"}

// fewValues names the texts of events that have few values: captions, and lowCardinality.
func fewValues(fields []arrow.Field, prefix string) []string {
	var out []string
	for _, f := range fields {
		name := prefix + f.Name
		if s, ok := f.Type.(*arrow.StructType); ok {
			out = append(out, fewValues(s.Fields(), name+".")...)
		} else if f.Type.ID() == arrow.STRING && (isCaption(f.Name, fields) || slices.Contains(lowCardinality, name)) {
			out = append(out, name)
		}
	}
	return out
}

// isCaption tells whether a text stands beside the number that it is the caption of: severity
// beside severity_id, class_name beside class_uid.
func isCaption(name string, fields []arrow.Field) bool {
	base := strings.TrimSuffix(name, "_name")
	return slices.ContainsFunc(fields, func(f arrow.Field) bool {
		number := f.Type.ID() == arrow.INT32 || f.Type.ID() == arrow.INT64
		return number && (f.Name == base+"_id" || f.Name == base+"_uid")
	})
}

// additions says which columns of the results have a part of every late addition: counts
// and sums, least and largest values. Means, quantiles and the like are those of the rows
// that came in time, and so are texts that speak of a count.
func (p *plan) additions() []clickhouse.Addition {
	how := map[string]clickhouse.Combine{"late_count": clickhouse.Sum, "max_event_time": clickhouse.Greatest, "_tm_emitted_at": clickhouse.Greatest}
	for _, a := range p.cfg.Window.last().Aggregates {
		switch a.Fn {
		case "count", "sum", "id_sum":
			how[a.As] = clickhouse.Sum
		case "min":
			how[a.As] = clickhouse.Least
		case "max":
			how[a.As] = clickhouse.Greatest
		}
	}
	var out []clickhouse.Addition
	for _, f := range p.described.Fields() {
		if h, ok := how[f.Name]; ok {
			out = append(out, p.addition(f, h))
		}
	}
	if at := "device.last_seen_time"; p.mapper != nil && how["last_event_time"] == clickhouse.Greatest && hasColumn(p.results, "device", "last_seen_time") {
		out = append(out, clickhouse.Addition{Column: at, How: clickhouse.Greatest})
	}
	return out
}

// addition finds a column of the windows in the results: as it is, in the traffic of an
// event, or among what no attribute holds.
func (p *plan) addition(f arrow.Field, how clickhouse.Combine) clickhouse.Addition {
	if p.results.HasField(f.Name) {
		return clickhouse.Addition{Column: f.Name, How: how}
	}
	if hasColumn(p.results, "traffic", f.Name) {
		return clickhouse.Addition{Column: "traffic." + f.Name, How: how}
	}
	typ := "String"
	switch f.Type.ID() {
	case arrow.FLOAT64:
		typ = "Float64"
	case arrow.INT64, arrow.TIMESTAMP:
		typ = "Int64"
		if scale, ok := f.Metadata.GetValue(pipeline.ScaleKey); ok && scale != "0" {
			typ = fmt.Sprintf("Decimal(38, %s)", scale)
		}
	}
	return clickhouse.Addition{Column: "unmapped", Entry: f.Name, Type: typ, How: how}
}

// hasColumn tells whether a top-level struct has a field.
func hasColumn(schema *arrow.Schema, parent, name string) bool {
	of, ok := schema.FieldsByName(parent)
	if !ok {
		return false
	}
	s, ok := of[0].Type.(*arrow.StructType)
	if !ok {
		return false
	}
	_, ok = s.FieldByName(name)
	return ok
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	"github.com/tidemark/tidemark/sinks/parquet"
)

// landing is a place where a row, or its result, is to be found.
type landing struct {
	Table string `json:"table"`
	Row   string `json:"row"`
	// Files have the row.
	Files []string `json:"files,omitempty"`
	// Query finds it in ClickHouse.
	Query string `json:"query,omitempty"`
	State string `json:"state"`
}

func (l landing) String() string {
	text := fmt.Sprintf("%s: %s: %s", l.Table, l.Row, l.State)
	if len(l.Files) > 0 {
		text += " " + strings.Join(l.Files, ", ")
	}
	if l.Query != "" {
		text += ": " + l.Query
	}
	return text
}

// sought is a row that is looked for in the tables of a port.
type sought struct {
	port  pipeline.Port
	row   string // in words
	where []parquet.Match
	times []string // columns of where that are times
	// at is the time in the column that files are laid out by; MinTicks for not known.
	at func(column string) int64
}

// land finds a record in the tables of late rows or of dead records.
func (e *evidence) land(ctx context.Context, w *offsetWhy, r *traced, port pipeline.Port) error {
	index := int64(0)
	for i, s := range e.newest.Checkpoint.Splits {
		if s.Split == r.split {
			index = int64(i)
		}
	}
	return e.look(ctx, w, sought{port: port, row: fmt.Sprintf("_split %d, _offset %d", index, r.offset),
		where: []parquet.Match{{Column: "_offset", Value: r.offset}, {Column: "_split", Value: index}},
		at: func(column string) int64 {
			if column == "_ingest" {
				return r.ingest
			}
			return r.time
		}})
}

// look notes where the job's sinks have a row.
func (e *evidence) look(ctx context.Context, w *offsetWhy, row sought) error {
	for _, sc := range e.plan.cfg.Sinks {
		l := landing{Row: row.row}
		switch {
		case sc.ClickHouse != nil:
			cfg, _ := e.plan.clickhouse(sc.ClickHouse.Config, row.port)
			l.Table, l.Query = "clickhouse:"+cfg.Database+"."+cfg.Table, row.query(cfg)
			l.State = row.in(ctx, cfg)
		case sc.Kafka != nil:
			cfg, _ := e.plan.kafka(sc.Kafka.SinkConfig, row.port)
			l.Table, l.State = "kafka:"+cfg.Topic, "not looked up here"
		default:
			cfg, _ := e.plan.parquet(sc.Parquet.Config, row.port)
			l.Table = "parquet:" + below(sc.Parquet.Dir, cfg.Table)
			store, err := readStore(ctx, sc.Parquet.Dir, sc.Parquet.S3)
			if err != nil {
				return fmt.Errorf("parquet directory: %w", err)
			}
			err = parquet.Find(ctx, store, cfg, row.at(cfg.TimeColumn), row.where, nil, func(file string, _ []any) error {
				l.Files = append(l.Files, file)
				return nil
			})
			if err != nil {
				return err
			}
			if l.State = "found in"; len(l.Files) == 0 {
				l.State = "not there (yet)"
			}
		}
		w.Landed = append(w.Landed, l)
	}
	return nil
}

// query finds a row in ClickHouse.
func (row sought) query(cfg clickhouse.Config) string {
	var terms []string
	for _, m := range row.where {
		value := fmt.Sprint(m.Value)
		switch text, ok := m.Value.(string); {
		case ok:
			value = "'" + strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), "'", `\'`) + "'"
		case slices.Contains(row.times, m.Column):
			value = "fromUnixTimestamp64Micro(" + value + ")"
		}
		terms = append(terms, fmt.Sprintf("`%s` = %s", m.Column, value))
	}
	return fmt.Sprintf("SELECT * FROM `%s`.`%s` WHERE %s", cfg.Database, cfg.Table, strings.Join(terms, " AND "))
}

// in says what ClickHouse has of a row. That a server does not answer is no error: the query says
// how to look.
func (row sought) in(ctx context.Context, cfg clickhouse.Config) string {
	at := row.at(cfg.TimeColumn)
	if at == pipeline.MinTicks {
		return "not looked up, its time is not known"
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	rows, err := clickhouse.OpenRows(ctx, clickhouse.RowsConfig{Config: cfg, TimeColumn: cfg.TimeColumn})
	if err != nil {
		return fmt.Sprintf("not looked up (%v)", err)
	}
	versions, hits := int64(0), map[string]bool{}
	err = rows.Scan(ctx, at, pipeline.AddTicks(at, 1), func(name string, value any) { hits[name] = row.holds(name, value) }, func() error {
		if !slices.ContainsFunc(row.where, func(m parquet.Match) bool {
			is, there := hits[m.Column]
			return m.Value != nil && !is || m.Value == nil && there
		}) {
			versions++
		}
		clear(hits)
		return nil
	})
	switch err := errors.Join(err, rows.Close()); {
	case err != nil:
		return fmt.Sprintf("not looked up (%v)", err)
	case versions == 0:
		return "not there (yet)"
	}
	return "found, " + plural(versions, "version")
}

// holds tells whether a value of a column is the one that is looked for.
func (row sought) holds(column string, value any) bool {
	at := slices.IndexFunc(row.where, func(m parquet.Match) bool { return m.Column == column })
	if at < 0 {
		return false
	}
	switch v := value.(type) {
	case time.Time:
		value = v.UnixMicro()
	case uint64:
		value = int64(v)
	}
	return value == row.where[at].Value
}

// results finds the results that a row is part of. What they are called the operators themselves
// say: they are given the row alone.
func (e *evidence) results(ctx context.Context, w *offsetWhy, r *traced) error {
	cfg := e.plan.cfg
	if e.plan.dom != nil || cfg.Window.Session != nil && cfg.windowed() {
		return nil // what they make of it depends on other rows
	}
	if open := w.open(); open != "" && cfg.Window.Then == nil {
		w.Answer += "; " + open
	}
	out, err := e.made(r)
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range out {
			m.rec.Release()
		}
	}()
	for _, m := range out {
		for i := range int(m.rec.NumRows()) {
			row, ok := e.identity(m, i)
			took := w.tookBy(m.rec, i)
			if !ok || took == "missed" {
				continue
			}
			if took == "added" {
				row.port = pipeline.Delta
			}
			if err := e.look(ctx, w, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// open says which of the windows has yet to come out.
func (w *offsetWhy) open() string {
	var parts []string
	for _, x := range w.Windows {
		if x.State == "open" && x.Took != "missed" {
			parts = append(parts, fmt.Sprintf("the window that ends at %s is still open", x.End))
		}
	}
	return strings.Join(parts, ", ")
}

// tookBy says how the window of a result took the row; empty where that is not one of them.
func (w *offsetWhy) tookBy(rec arrow.RecordBatch, i int) string {
	start, ok := ticksAt(rec, "window_start", i)
	end, ok2 := ticksAt(rec, "window_end", i)
	if !ok || !ok2 {
		start, ok = ticksAt(rec, "start_time", i)
		end, ok2 = ticksAt(rec, "end_time", i)
	}
	near := func(a, b int64) bool { return max(a, b)-min(a, b) < 1000 } // events have milliseconds
	for _, x := range w.Windows {
		if ok && ok2 && near(x.bounds.Start, start) && near(x.bounds.End, end) {
			return x.Took
		}
	}
	return ""
}

// made is a batch that a row alone makes.
type made struct {
	port pipeline.Port
	rec  arrow.RecordBatch
}

// made gives a row alone to the operators of the job. The caller releases what they make of it.
func (e *evidence) made(r *traced) ([]made, error) {
	rec, err := pipeline.Gather(memory.DefaultAllocator, r.rec, []int32{int32(r.row)})
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	chain, err := e.plan.chain(0, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	keyer, err := pipeline.NewKeyer(e.plan.decoded, e.plan.cfg.keyColumns(), 0)
	if err != nil {
		return nil, err
	}
	var out []made
	task := pipeline.NewTask(chain, func(p pipeline.Port, b pipeline.Batch) error {
		if p != pipeline.Late && p != pipeline.Dead && p != pipeline.Duplicates {
			b.Retain()
			out = append(out, made{p, b.Rec})
		}
		return nil
	})
	m := rowsMessage(rec)
	m.Batch.Keys = keyer.Keys(rec)
	if e.plan.cfg.Window.Trigger == operators.OnIngest {
		m.Batch.Ingest = &pipeline.IngestMarks{Own: []int64{r.ingest}, Merged: []int64{r.ingest}}
	}
	for _, m := range []pipeline.Message{m, {Kind: pipeline.MarkMessage, Mark: pipeline.Mark{Event: pipeline.MaxTicks, Ingest: pipeline.MaxTicks, Newest: r.time}}} {
		if err := task.Step(m); err != nil {
			return out, err
		}
	}
	return out, nil
}

// identity says by which columns a result is known.
func (e *evidence) identity(m made, i int) (sought, bool) {
	cfg := e.plan.cfg
	columns := []string{"metadata.uid"}
	switch {
	case cfg.Normalize.To == "ocsf" && cfg.Mapping == nil, e.plan.events != nil && len(e.plan.events.classes) > 0:
	case cfg.windowless():
		columns = []string{"_offset", "_split"}
	default:
		columns = append(append([]string{}, cfg.Window.Key...), "window_start", "window_end")
	}
	w := sought{port: m.port, at: func(column string) int64 {
		if t, ok := ticksAt(m.rec, column, i); ok {
			return t
		}
		return pipeline.MinTicks
	}}
	var words []string
	for _, name := range columns {
		v, ok := cell(m.rec, name, i)
		if !ok {
			return w, false
		}
		shown := fmt.Sprint(v)
		if t, ok := ticksAt(m.rec, name, i); ok && strings.HasPrefix(name, "window_") {
			shown, w.times = tick(t).String(), append(w.times, name)
		}
		w.where, words = append(w.where, parquet.Match{Column: name, Value: v}), append(words, name+" "+shown)
	}
	w.row = strings.Join(words, ", ")
	return w, true
}

// cell returns a value of a column as parquet.Find gives it; dots lead into structs.
func cell(rec arrow.RecordBatch, name string, i int) (any, bool) {
	head, rest, _ := strings.Cut(name, ".")
	at := rec.Schema().FieldIndices(head)
	if len(at) != 1 {
		return nil, false
	}
	col := rec.Column(at[0])
	for rest != "" {
		s, ok := col.(*array.Struct)
		if !ok {
			return nil, false
		}
		head, rest, _ = strings.Cut(rest, ".")
		k, ok := s.DataType().(*arrow.StructType).FieldIdx(head)
		if !ok {
			return nil, false
		}
		col = s.Field(k)
	}
	if col.IsNull(i) {
		return nil, true
	}
	switch c := col.(type) {
	case *array.String:
		return strings.Clone(c.Value(i)), true
	case *array.Int64:
		return c.Value(i), true
	case *array.Int32:
		return int64(c.Value(i)), true
	case *array.Timestamp:
		return int64(c.Value(i)), true
	}
	return nil, false
}

// ticksAt returns a time of a result: a timestamp, or the milliseconds of an event.
func ticksAt(rec arrow.RecordBatch, name string, i int) (int64, bool) {
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 || rec.Column(at[0]).IsNull(i) {
		return 0, false
	}
	switch c := rec.Column(at[0]).(type) {
	case *array.Timestamp:
		return int64(c.Value(i)), true
	case *array.Int64:
		return c.Value(i) * 1000, true
	}
	return 0, false
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
	"github.com/tidemark/tidemark/sinks/decisions"
	"github.com/tidemark/tidemark/sources/kafka"
)

// sampled is how many of the newest records of a topic are tried.
const sampled = 1000

// recordsTried counts what a job's decoder makes of records.
type recordsTried struct {
	all   int
	first map[string]string // by what is wrong: where, and what in words
	many  map[string]int
	order []string
}

func (t *recordsTried) note(what, where string) {
	if t.many[what] == 0 {
		t.order, t.first[what] = append(t.order, what), where
	}
	t.many[what]++
}

// checkRecords tries the newest records of the topic.
func (p *plan) checkRecords(ctx context.Context) []clickhouse.Finding {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	t, err := p.tryRecords(ctx)
	topic := p.cfg.Source.Kafka.Topic
	switch {
	case err != nil:
		return []clickhouse.Finding{{Verdict: clickhouse.Warn, Text: fmt.Sprintf("kafka: the newest records of %s were not tried: %v", topic, err)}}
	case t.all == 0:
		return []clickhouse.Finding{{Verdict: clickhouse.OK, Text: fmt.Sprintf("kafka: topic %s has no records yet", topic)}}
	case len(t.order) == 0:
		return []clickhouse.Finding{{Verdict: clickhouse.OK, Text: fmt.Sprintf("kafka: the newest %d records can be read, and have a time", t.all)}}
	}
	var out []clickhouse.Finding
	for _, what := range t.order {
		out = append(out, clickhouse.Finding{Verdict: clickhouse.Warn, Text: fmt.Sprintf("kafka: of the newest %d records %d %s: %s", t.all, t.many[what], what, t.first[what])})
	}
	return out
}

func (p *plan) tryRecords(ctx context.Context) (*recordsTried, error) {
	log, err := kafka.Look(p.cfg.Source.Kafka)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	extents, err := log.Extents(ctx)
	if err != nil {
		return nil, err
	}
	e := &evidence{plan: p, log: log, scan: max(1, int64(sampled/max(1, len(extents))))}
	t := &recordsTried{first: map[string]string{}, many: map[string]int{}}
	for n := range int32(len(extents)) {
		s := pipeline.Split{Topic: p.cfg.Source.Kafka.Topic, Partition: n}
		from := &stand{point: &decisions.Point{}, split: pipeline.SplitState{Split: s}}
		err := e.trace(ctx, s, from, extents[n], extents[n].End, func(r *traced) error {
			e.try(t, r)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// try notes what is wrong with a record.
func (e *evidence) try(t *recordsTried, r *traced) {
	t.all++
	where := fmt.Sprintf("%s@%d: ", r.split, r.offset)
	if r.reason != "" {
		text := strings.TrimPrefix(r.err, r.reason+": ")
		if hint := r.deadHint(); hint != "" {
			text += "; " + hint
		}
		t.note("are dead, reason "+r.reason, where+text)
		return
	}
	if note := e.replaced(r); note != "" {
		t.note("have a time that does not count", where+note)
	}
}

// deadHint says so when a time that was refused looks as if its unit were another one.
func (r *traced) deadHint() string {
	switch r.reason {
	case operators.ReasonMissingTime, operators.ReasonTimeRange, operators.ReasonFuture:
		return unitHint(r.time, r.ingest)
	}
	return ""
}

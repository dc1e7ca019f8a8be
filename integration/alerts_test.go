package integration

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/tidemark/tidemark/integration/peers"
)

// TestAlerts provokes what each rule of deploy/alerts.yaml is for, in a job that runs, and
// lets Prometheus' own engine evaluate the rules on what /metrics says: the alert fires once,
// not before its time, and no other does. A healthy job is the control: none fires.
func TestAlerts(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name, alert string
		after       time.Duration // from the fault to the alert, at least
		watch       time.Duration
		fault       func(t *testing.T, j *watched)
	}{
		{"healthy", "", 0, 30 * time.Minute, func(*testing.T, *watched) {}},
		{"stalled sink", "TidemarkCheckpointAge", 110 * time.Second, 10 * time.Minute, func(t *testing.T, j *watched) {
			must(t, r.clickhouse.Inject(t.Context(), peers.Fault{Kind: "stall", N: 1000}))
			t.Cleanup(func() { must(t, r.clickhouse.ClearFaults(context.Background())) })
		}},
		{"stopped feed", "TidemarkMarkDelay", 19 * time.Minute, 25 * time.Minute, func(_ *testing.T, j *watched) { j.stopFeed() }},
		{"deleted block", "TidemarkAuditMismatch", 0, 10 * time.Minute, func(t *testing.T, j *watched) {
			j.await(t, "tidemark_sink_audit_mismatch_total", func(v float64) bool {
				_, err := r.clickhouse.Query(t.Context(), fmt.Sprintf("DELETE FROM %[1]s.%[1]s WHERE 1", j.name))
				must(t, err)
				return v > 0
			})
		}},
		{"retention gap", "TidemarkGap", 0, 10 * time.Minute, func(t *testing.T, j *watched) {
			j.stop(t) // it comes back to a log whose begin it has not read
			time.Sleep(time.Second)
			must(t, r.kafka.DeleteRecords(t.Context(), j.topic, 0, j.sent.Load()-5))
			j.start(t, r)
			j.await(t, "tidemark_source_gap_records_total", func(v float64) bool { return v > 0 })
		}},
		{"poison", "TidemarkDeadRatio", 5 * time.Minute, 10 * time.Minute, func(_ *testing.T, j *watched) { j.poison.Store(true) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := r.watch(t, "alert_"+strings.ReplaceAll(c.name, " ", "_"))
			p := newPrometheus(t)
			for range 3 {
				time.Sleep(500 * time.Millisecond)
				p.take(t, j.scrape(t))
			}
			if len(p.fired) > 0 {
				t.Fatalf("before the fault: %v", p.fired)
			}
			at := time.Now()
			c.fault(t, j)
			time.Sleep(time.Second)
			p.take(t, j.scrape(t))
			time.Sleep(2 * time.Second)
			p.take(t, j.scrape(t))
			p.run(t, c.watch)
			var got []string
			for name, times := range p.fired {
				got = append(got, name)
				if len(times) != 1 || times[0].Sub(at) < c.after {
					t.Errorf("%s fired %d times, first %v after the fault; want once, not before %v", name, len(times), times[0].Sub(at), c.after)
				}
			}
			if text := strings.Join(got, ", "); text != c.alert {
				t.Errorf("fired: %q, want %q", text, c.alert)
			}
			if c.alert != "" && !t.Failed() {
				t.Logf("%s: %v after the fault", c.alert, p.fired[c.alert][0].Sub(at).Round(time.Second))
			}
		})
	}
}

// prometheus is the engine with the rules, and the samples it has taken.
type prometheus struct {
	store  *teststorage.TestStorage
	query  promrules.QueryFunc
	rules  []*promrules.AlertingRule
	scrape [2]scrape // the last two
	firing map[string]bool
	fired  map[string][]time.Time
}

// scrape is what /metrics said at a time.
type scrape struct {
	at     time.Time
	values map[string]sample
}

type sample struct {
	labels labels.Labels
	value  float64
}

func newPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{store: teststorage.New(t), firing: map[string]bool{}, fired: map[string][]time.Time{}}
	parse, log := parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler)
	engine := promql.NewEngine(promql.EngineOpts{Logger: log, MaxSamples: 1e6, Timeout: time.Minute, Parser: parse})
	t.Cleanup(func() { must(t, engine.Close()) })
	p.query = promrules.EngineQueryFunc(engine, p.store)
	groups, errs := rulefmt.ParseFile("../deploy/alerts.yaml", false, model.UTF8Validation, parse, log)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			expr, err := parse.ParseExpr(r.Expr)
			must(t, err)
			if r.Annotations["summary"] == "" || r.Annotations["runbook"] == "" {
				t.Errorf("%s has no summary or runbook", r.Alert)
			}
			p.rules = append(p.rules, promrules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), 0, labels.FromMap(r.Labels),
				labels.FromMap(r.Annotations), labels.EmptyLabels(), "", true, log))
		}
	}
	if len(p.rules) != 5 {
		t.Fatalf("%d rules, want 5", len(p.rules))
	}
	return p
}

// take stores a scrape and evaluates the rules at its time.
func (p *prometheus) take(t *testing.T, s scrape) {
	t.Helper()
	p.scrape = [2]scrape{p.scrape[1], s}
	p.step(t, s)
}

// run lets time pass in steps of 15 seconds. What was seen to move between the last two
// scrapes goes on moving, a time as fast as the clock; what stood stands.
func (p *prometheus) run(t *testing.T, d time.Duration) {
	t.Helper()
	before, last := p.scrape[0], p.scrape[1]
	took := last.at.Sub(before.at).Seconds()
	for at := 15 * time.Second; at <= d; at += 15 * time.Second {
		next := scrape{last.at.Add(at), maps.Clone(last.values)}
		for id, v := range next.values {
			moved := v.value - before.values[id].value
			switch {
			case moved == 0 || before.values[id].labels.IsEmpty():
			case strings.HasSuffix(v.labels.Get(model.MetricNameLabel), "_timestamp_seconds"):
				v.value += at.Seconds()
			default:
				v.value += moved / took * at.Seconds()
			}
			next.values[id] = v
		}
		p.step(t, next)
	}
}

func (p *prometheus) step(t *testing.T, s scrape) {
	t.Helper()
	app := p.store.Appender(t.Context())
	for _, v := range s.values {
		_, err := app.Append(0, v.labels, s.at.UnixMilli(), v.value)
		must(t, err)
	}
	must(t, app.Commit())
	for _, r := range p.rules {
		_, err := r.Eval(t.Context(), 0, s.at, p.query, nil, 0)
		must(t, err)
		alerts := 0
		r.ForEachActiveAlert(func(a *promrules.Alert) {
			if a.State == promrules.StateFiring {
				alerts++
			}
		})
		now := alerts > 0
		if now && !p.firing[r.Name()] {
			p.fired[r.Name()] = append(p.fired[r.Name()], s.at)
		}
		if alerts > 1 {
			t.Errorf("%s: %d alerts of one job", r.Name(), alerts)
		}
		p.firing[r.Name()] = now
	}
}

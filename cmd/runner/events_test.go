package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ocsf"
)

// taken keeps the events that leave by each port, as JSON, and the reasons of dead rows.
type taken struct {
	next    pipeline.Operator // of rows, nil for none
	events  map[pipeline.Port][]string
	reasons map[string]int
	counts  pipeline.Counts
}

func (k *taken) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Out && k.next != nil {
		next := k.next
		k.next = nil
		defer func() { k.next = next }()
		return next.Process(b, k)
	}
	for row := range int(b.Rec.NumRows()) {
		if p == pipeline.Dead {
			k.reasons[b.Rec.Column(pipeline.NumRowColumns).ValueStr(row)]++
			continue
		}
		k.events[p] = append(k.events[p], string(ocsf.AppendEvent(nil, b.Rec, row)))
	}
	return nil
}

func (k *taken) Count(f pipeline.Fate, _ int32, rows int64) { k.counts[f] += rows }

// wireOf makes records of payloads.
func wireOf(payloads [][]byte) *pipeline.Wire {
	w := &pipeline.Wire{Split: 3}
	for i, p := range payloads {
		w.Offset, w.Ingest = append(w.Offset, int64(i)), append(w.Ingest, 1772366400000000)
		w.Values = append(w.Values, pipeline.Span{At: int32(len(w.Data)), Len: int32(len(p))})
		w.Data = append(w.Data, p...)
	}
	w.Data = append(w.Data, make([]byte, 16)...)
	return w
}

// mutants are events of which some have a member cut out or replaced.
func mutants(rng *rand.Rand, events [][]byte, n int) [][]byte {
	var out [][]byte
	for range n {
		var v map[string]any
		if err := json.Unmarshal(events[rng.IntN(len(events))], &v); err != nil {
			panic(err)
		}
		for range rng.IntN(4) {
			mutate(rng, v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		if rng.IntN(50) == 0 {
			b = b[:rng.IntN(len(b))]
		}
		out = append(out, b)
	}
	return out
}

func mutate(rng *rand.Rand, v map[string]any) {
	for name, member := range v { // any of them
		if below, ok := member.(map[string]any); ok && rng.IntN(3) > 0 {
			mutate(rng, below)
			return
		}
		values := []any{nil, "", "x", -1, 1 << 40, 2.5, true, []any{1, "two"}, map[string]any{"a": []any{}}, "2026-03-01T12:00:00Z", strings.Repeat("9", 30)}
		if i := rng.IntN(len(values) + 1); i < len(values) {
			v[name] = values[i]
		} else {
			delete(v, name)
		}
		return
	}
}

// mappingJob is a job over a mapping file of ours.
func mappingJob(t *testing.T, file string, settings string) *plan {
	path, err := filepath.Abs(filepath.Join("../../examples/mappings", file))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := parseConfig("job.yaml", fmt.Appendf(nil, `job: j
feed: mapping
source: {kafka: {brokers: ["127.0.0.1:1"], topic: t}}
mapping: {file: %q%s}
sinks: [{parquet: {dir: out}}]
`, path, settings))
	if err != nil {
		t.Fatal(err)
	}
	p, err := planOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// feedEvents sends records through a job's decoder and chain.
func feedEvents(t *testing.T, p *plan, payloads [][]byte) *taken {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	dec, err := p.decoder(mem)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := p.chain(1, mem)
	if err != nil {
		t.Fatal(err)
	}
	k := &taken{next: chain[0], events: map[pipeline.Port][]string{}, reasons: map[string]int{}}
	for len(payloads) > 0 {
		n := min(len(payloads), 97)
		if err := dec.Decode(wireOf(payloads[:n]), k); err != nil {
			t.Fatal(err)
		}
		payloads = payloads[n:]
	}
	return k
}

// TestMappedEvents: whatever comes, every event that leaves is valid, and every record leaves
// by a port.
func TestMappedEvents(t *testing.T) {
	const n = 3000
	text, err := os.ReadFile("../../examples/network-firewall.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	events := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	p := mappingJob(t, "network_firewall.json", "")
	schema, err := ocsf.NewSchema(ocsf.V130)
	if err != nil {
		t.Fatal(err)
	}
	validator := schema.Validator()
	k := feedEvents(t, p, mutants(rand.New(rand.NewPCG(5, 1)), events, n))
	sum := 0
	for port, all := range k.events {
		class, _ := p.events.class(port)
		sum += len(all)
		for _, e := range all {
			report, err := validator.Validate([]byte(e))
			if err != nil || len(report.Errors) > 0 {
				t.Fatalf("%s: %v %v\n%s", class.name, err, report.Errors, e)
			}
		}
		if len(all) < n/10 {
			t.Errorf("%d events of %s: the test proves little", len(all), class.name)
		}
	}
	dead := 0
	for _, d := range k.reasons {
		dead += d
	}
	if sum+dead != n || k.counts[pipeline.Aggregated] != int64(sum) || len(k.events) != 2 || len(k.reasons) < 3 {
		t.Errorf("%d events of %d classes and %d dead records (%v) of %d; counts %v", sum, len(k.events), dead, k.reasons, n, k.counts)
	}
}

// TestInvalidEvents: what becomes of an event that the validator refuses. conform makes none,
// so the validator is one of an older version.
func TestInvalidEvents(t *testing.T) {
	netflow := []byte(`{"event":{"timestamp":"2026-03-01T12:00:01.000000+0000","event_type":"netflow","src_ip":"192.0.2.7","dest_ip":"192.0.2.1","proto":"TCP"}}`)
	old, err := ocsf.NewSchema(ocsf.V110)
	if err != nil {
		t.Fatal(err)
	}
	for policy, want := range map[InvalidPolicy]struct {
		events, dead int
		err          string
	}{
		InvalidDead: {0, 1, ""},
		InvalidPass: {1, 0, ""},
		InvalidStop: {0, 0, "decode split 3 offset 0: an event is no valid OCSF: version_incompatible_later: metadata.version: "},
	} {
		p := mappingJob(t, "network_firewall.json", ", on_invalid: "+string(policy))
		rows, err := p.events.rows(memory.NewGoAllocator())
		if err != nil {
			t.Fatal(err)
		}
		rows.(*conformRows).validator = old.Validator()
		dec, err := operators.NewDecode(p.cfg.decodeConfig(p.feed), rows, memory.NewGoAllocator())
		if err != nil {
			t.Fatal(err)
		}
		chain, err := p.chain(1, memory.NewGoAllocator())
		if err != nil {
			t.Fatal(err)
		}
		k := &taken{next: chain[0], events: map[pipeline.Port][]string{}, reasons: map[string]int{}}
		err = dec.Decode(wireOf([][]byte{netflow}), k)
		if want.err == "" && err != nil || want.err != "" && (err == nil || !strings.HasPrefix(err.Error(), want.err)) {
			t.Errorf("%s: %v, want %s", policy, err, want.err)
		}
		if got := len(k.events[pipeline.Side(0)]) + len(k.events[pipeline.Side(1)]); got != want.events || k.reasons[reasonInvalid] != want.dead {
			t.Errorf("%s: %d events, dead %v", policy, got, k.reasons)
		}
	}
}

// TestFeedEvents: every event that a job of a feed emits is valid, whatever comes: of windows
// and of rows, in both dialects and all versions.
func TestFeedEvents(t *testing.T) {
	const n = 800
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, feed := range []string{"ble", "pdu", "traffic"} {
		how := disorder{Within: 5 * time.Second, Late: 0.05, LateBy: time.Minute, Duplicate: 0.02, Future: 0.01, Malformed: 0.01}
		g, err := newGenerator(feed, 7, start, 40, 10*time.Second, how)
		if err != nil {
			t.Fatal(err)
		}
		var payloads [][]byte
		in := newTelemetry(7, how, g.next)
		for range n {
			m, ok := in.next()
			if !ok {
				t.Fatal("the generator has ended")
			}
			payloads = append(payloads, m.Value)
		}
		for _, version := range ocsf.Versions() {
			for _, dialect := range []string{"core", "ext"} {
				for _, work := range []string{"rows: true", "window: {tumbling: 10s, early: {rows: 3}}", "window: {session: {gap: 20s}, early: {rows: 2}}"} {
					cfg, err := parseConfig("job.yaml", fmt.Appendf(nil, `job: j
feed: %s
source: {kafka: {brokers: ["127.0.0.1:1"], topic: t}}
event_time: {max_ahead: 24h}
normalize: {version: %s, dialect: %s}
%s
sinks: [{parquet: {dir: out}}]
`, feed, version, dialect, work))
					if err != nil {
						t.Fatal(err)
					}
					p, err := planOf(cfg)
					if err != nil {
						t.Fatal(err)
					}
					schema, err := ocsf.NewSchema(version)
					if err != nil {
						t.Fatal(err)
					}
					if schema, err = schema.Merge(ocsf.Tidemark()); err != nil {
						t.Fatal(err)
					}
					name := fmt.Sprintf("%s %s %s %s", feed, version, dialect, work)
					events := p.run(t, payloads)
					if len(events) < n/20 {
						t.Errorf("%s: %d events prove little", name, len(events))
					}
					validator := schema.Validator()
					for _, e := range events {
						if report, err := validator.Validate([]byte(e)); err != nil || len(report.Errors) > 0 {
							t.Fatalf("%s: %v %v\n%s", name, err, report.Errors, e)
						}
					}
				}
			}
		}
	}
}

// run feeds records to a job's decoder and one shard, to the end of time, and returns its events.
func (p *plan) run(t *testing.T, payloads [][]byte) []string {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	dec, err := p.decoder(mem)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := p.chain(1, mem)
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	task := pipeline.NewTask(chain, func(port pipeline.Port, b pipeline.Batch) error {
		for row := range int(b.Rec.NumRows()) {
			if port == pipeline.Out || port == pipeline.Delta {
				events = append(events, string(ocsf.AppendEvent(nil, b.Rec, row)))
			}
		}
		return nil
	})
	clock, err := p.clock(mem)
	if err != nil {
		t.Fatal(err)
	}
	keyer, err := pipeline.NewKeyer(p.decoded, p.cfg.keyColumns(), 1)
	if err != nil {
		t.Fatal(err)
	}
	front := pipeline.NewFront(pipeline.FrontConfig{Bound: pipeline.Ticks(time.Minute), QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Shards: 1, Keyer: keyer, Clock: clock},
		func(_ int, m pipeline.Message) error { return task.Step(m) })
	split := pipeline.Split{Topic: "t"}
	front.Announce(split, pipeline.Position{})
	for part := range slices.Chunk(payloads, 97) {
		wire := wireOf(part)
		wire.Split = 0
		rows := &kept{}
		if err := dec.Decode(wire, rows); err != nil {
			t.Fatal(err)
		}
		if rows.batch != nil {
			err := front.Rows(wire, rows.batch, 0)
			rows.batch.Release()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := front.End(split); err != nil {
		t.Fatal(err)
	}
	return events
}

// kept is the batch of rows that a decoder gave.
type kept struct{ batch *pipeline.Batch }

func (k *kept) Emit(p pipeline.Port, b pipeline.Batch) error {
	if p == pipeline.Out {
		b.Retain()
		k.batch = &b
	}
	return nil
}

func (k *kept) Count(pipeline.Fate, int32, int64) {}

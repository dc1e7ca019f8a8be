package operators_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// jsonNames makes the names of the format those of Go fields.
var jsonNames = strings.NewReplacer("emitted_at", "EmittedAt", "max_event", "MaxEvent", "open_states", "OpenStates")

func ingestConfig() operators.WindowConfig {
	return operators.WindowConfig{Shape: operators.TumblingShape(10, 0), Trigger: operators.OnIngest, EmitDelay: 5, MaxAge: 900, Keys: []string{"key"}, Seed: 3,
		Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}, {Fn: "sum", Column: "value", As: "sum"}}}
}

// TestIngestCases runs testdata/ingest.json, whose format is that of the cases of cages
// (op windows), with every cut into batches that matters: none, one row each, restarts in
// between.
func TestIngestCases(t *testing.T) {
	raw, err := os.ReadFile("testdata/ingest.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name  string
		Input struct {
			Records      [][3]any
			End          int64
			Accumulation string
		}
		Expect [2]json.RawMessage
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	const maxAhead = 120
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			var want []struct {
				Key, Pane, Side                    string
				Window, Count, EmittedAt, MaxEvent int64
				Revision                           *int
				Event, At                          int64
			}
			fixed := []byte(jsonNames.Replace(string(c.Expect[0])))
			if err := json.Unmarshal(fixed, &want); err != nil {
				t.Fatal(err)
			}
			var open struct{ OpenStates int }
			if err := json.Unmarshal([]byte(jsonNames.Replace(string(c.Expect[1]))), &open); err != nil {
				t.Fatal(err)
			}
			var rows []pipelinetest.Row
			future := 0
			for _, r := range c.Input.Records {
				row := pipelinetest.Row{Ingest: int64(r[0].(float64)), Time: int64(r[1].(float64)), Key: r[2].(string), Value: 1}
				if row.Time-row.Ingest > maxAhead { // refused by the decoder
					future++
					continue
				}
				rows = append(rows, row)
			}
			var lines []string
			for _, w := range want {
				if w.Side == "future" {
					future--
					continue
				}
				port, revision := "out", "(null)"
				if w.Revision != nil {
					revision = fmt.Sprint(*w.Revision)
				} else {
					port = "delta"
				}
				lines = append(lines, fmt.Sprintf("%s %s [%d,%d) %s revision=%s count=%d sum=%d emitted_at=%d max_event=%d",
					port, w.Key, w.Window, w.Window+10, w.Pane, revision, w.Count, w.Count, w.EmittedAt, w.MaxEvent))
			}
			if future != 0 {
				t.Errorf("%d rows too far ahead", future)
			}
			cfg := ingestConfig()
			cfg.Discard = c.Input.Accumulation == "discarding"
			for _, size := range []int{1, 2, len(rows)} {
				for _, restarts := range []bool{false, true} {
					r := newJobRun(t, cfg, 1, 1)
					for part := range slices.Chunk(slices.Clone(rows), size) {
						r.feed(0, part)
						if restarts {
							r.restart(1 + len(part)%3)
						}
					}
					for _, task := range r.tasks {
						r.must(task.Step(pipeline.Message{Kind: pipeline.MarkMessage, Mark: pipeline.Mark{Event: pipeline.MinTicks, Ingest: c.Input.End}}))
					}
					if !slices.Equal(r.out, lines) {
						t.Errorf("batches of %d, restarts %v:\ngot  %q\nwant %q", size, restarts, r.out, lines)
					}
					if n := r.open(); n != open.OpenStates {
						t.Errorf("batches of %d, restarts %v: %d states open, want %d", size, restarts, n, open.OpenStates)
					}
					r.done()
				}
			}
		})
	}
}

// TestIngestModel: whatever the batches, shards, restarts and the interleaving of splits,
// the last revisions are what was in time for its own split, the additions are the rest,
// and nothing is lost. With one split even the emissions are the same.
func TestIngestModel(t *testing.T) {
	for seed := range uint64(9) {
		rng := rand.New(rand.NewPCG(seed, 1))
		cfg := ingestConfig()
		cfg.EmitDelay, cfg.MaxAge = 1+rng.Int64N(20), rng.Int64N(60)
		cfg.Discard = seed%5 == 4
		if seed%4 == 3 {
			cfg.Shape = operators.Shape{Kind: operators.Hopping, Size: 10, Slide: 4, Offset: 1}
		}
		splits := 1 + int(seed%3)
		input := make([][]pipelinetest.Row, splits)
		want, deltas := map[string][2]int64{}, map[string]int64{}
		for s := range input {
			ingest, own := int64(1000), pipeline.MinTicks
			for range 300 {
				ingest += rng.Int64N(4)
				row := pipelinetest.Row{Ingest: ingest - rng.Int64N(3), Time: ingest - rng.Int64N(30), Key: fmt.Sprintf("s%d-%d", s, rng.IntN(5)), Value: rng.Int64N(100)}
				if rng.IntN(5) == 0 {
					row.Time -= rng.Int64N(200)
				}
				input[s] = append(input[s], row)
				own = max(own, row.Ingest)
				for _, b := range cfg.Windows(nil, cfg.Span(row.Time)) {
					at := fmt.Sprintf("%s [%d,%d)", row.Key, b.Start, b.End)
					if own > b.End+cfg.MaxAge {
						deltas[at]++
						continue
					}
					if cfg.Discard {
						deltas["window "+at]++
						continue
					}
					want[at] = [2]int64{want[at][0] + 1, want[at][1] + row.Value}
				}
			}
		}
		var first []string
		for try := range 3 {
			r := newJobRun(t, cfg, 1+try%3, splits)
			next := make([]int, splits)
			for left := splits; left > 0; {
				s := rng.IntN(splits)
				if next[s] == 300 {
					continue
				}
				n := min(1+rng.IntN(40), 300-next[s])
				r.feed(int32(s), input[s][next[s]:next[s]+n])
				if next[s] += n; next[s] == 300 {
					left--
				}
				if rng.IntN(8) == 0 {
					r.restart(1 + rng.IntN(4))
				}
			}
			for s := range splits {
				r.must(r.front.End(pipeline.Split{Topic: "t", Partition: int32(s)}))
			}
			if n := r.open(); n != 0 {
				t.Errorf("seed %d: %d windows are open after the end", seed, n)
			}
			r.done()
			for _, l := range r.out {
				if strings.Contains(l, "emitted_at=-") { // ingest times begin at 1000
					t.Errorf("seed %d try %d: emitted before any row came: %s", seed, try, l)
				}
			}
			for at, v := range want {
				if line := fmt.Sprintf("count=%d sum=%d", v[0], v[1]); r.final[at] != line {
					t.Errorf("seed %d try %d: %s: got %s, want %s", seed, try, at, r.final[at], line)
				}
			}
			if len(r.final) != len(want) || fmt.Sprint(r.deltas) != fmt.Sprint(deltas) {
				t.Errorf("seed %d try %d: %d windows and additions %v, want %d and %v", seed, try, len(r.final), r.deltas, len(want), deltas)
			}
			if splits == 1 && r.splits == 1 {
				lines := slices.Clone(r.out)
				slices.Sort(lines) // shards emit side by side
				if first == nil {
					first = lines
				} else if !slices.Equal(first, lines) {
					t.Errorf("seed %d try %d: one split emitted otherwise", seed, try)
				}
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

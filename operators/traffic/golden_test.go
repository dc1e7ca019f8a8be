package traffic_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/traffic"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestGolden runs the golden cases of this package.
func TestGolden(t *testing.T) {
	t.Run("counters", func(t *testing.T) { goldenCounters(t, pipelinetest.Golden(t, "counters.json")) })
	t.Run("detector", func(t *testing.T) { goldenDetector(t, pipelinetest.Golden(t, "detector")) })
}

// counterInput is the input of every op.
type counterInput struct {
	Samples []struct {
		T    float64     `json:"t"`
		V    json.Number `json:"v"`
		Up   *int64      `json:"up"`
		Disc *int64      `json:"disc"`
	} `json:"samples"`
	Bits        int            `json:"bits"`
	MaxBps      float64        `json:"max_bps"`
	MaxGap      float64        `json:"max_gap"`
	Policy      traffic.Policy `json:"policy"`
	Start       float64        `json:"start"`
	End         float64        `json:"end"`
	Points      [][3]float64   `json:"points"`
	Temporality string         `json:"temporality"`
}

func goldenCounters(t *testing.T, file string) {
	var cases []struct {
		ID     int          `json:"id"`
		Name   string       `json:"name"`
		Op     string       `json:"op"`
		Input  counterInput `json:"input"`
		Expect any          `json:"expect"`
		Note   string       `json:"note"`
	}
	if pipelinetest.Strict(t, file, &cases); len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.ID), func(t *testing.T) {
			got, err := c.Input.result(c.Op)
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			if d := pipelinetest.Difference(got, c.Expect); d != "" {
				t.Errorf("%s: %s", c.Name, d)
			}
		})
	}
}

func ticks(seconds float64) int64 { return int64(math.Round(seconds * 1e6)) }

func inSeconds(ticks int64) float64 { return float64(ticks) / 1e6 }

// deltas reads the samples as a counter.
func (in *counterInput) deltas() ([]traffic.Delta, error) {
	cfg := traffic.DefaultCounterConfig()
	cfg.MaxBps = in.MaxBps
	if in.Bits != 0 {
		cfg.Bits = in.Bits
	}
	if in.Policy != "" {
		cfg.Policy = in.Policy
	}
	if in.MaxGap != 0 {
		cfg.MaxGap = ticks(in.MaxGap)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var c traffic.Counter
	var out []traffic.Delta
	for _, s := range in.Samples {
		v, err := strconv.ParseUint(s.V.String(), 10, 64)
		if err != nil {
			return nil, err
		}
		sample := traffic.Sample{At: ticks(s.T), Value: v}
		if s.Up != nil {
			sample.Up, sample.HasUp = *s.Up*10_000, true
		}
		if s.Disc != nil {
			sample.Discontinuity, sample.HasDiscontinuity = *s.Disc, true
		}
		if d := c.Read(cfg, sample); d.Kind != traffic.First {
			out = append(out, d)
		}
	}
	return out, nil
}

func (in *counterInput) result(op string) (any, error) {
	out := []any{}
	switch op {
	case "deltas":
		deltas, err := in.deltas()
		for _, d := range deltas {
			row := map[string]any{"t": inSeconds(d.At), "kind": string(d.Kind), "delta": nil, "rate_bps": nil, "since": nil}
			if d.Added {
				row["delta"], row["rate_bps"], row["since"] = float64(d.Bytes), d.Bps(), inSeconds(d.Since)
			}
			out = append(out, row)
		}
		return out, err
	case "slots":
		deltas, err := in.deltas()
		var slots traffic.Slots
		for _, d := range deltas {
			slots.Add(d)
		}
		for _, s := range slots.Final(math.MaxInt64) {
			out = append(out, map[string]any{"slot": inSeconds(s.Start), "bytes": s.Bytes, "covered_s": inSeconds(s.Covered), "coverage": s.Coverage(), "bps": s.Bps()})
		}
		return out, err
	case "prom":
		var points []traffic.Point
		for _, s := range in.Samples {
			v, err := s.V.Float64()
			if err != nil {
				return nil, err
			}
			points = append(points, traffic.Point{At: ticks(s.T), Value: v})
		}
		if v, ok := traffic.Increase(points, ticks(in.Start), ticks(in.End)); ok {
			return v, nil
		}
		return nil, nil
	case "otel":
		var cumulative traffic.Cumulative
		var delta traffic.DeltaSum
		for _, p := range in.Points {
			point := traffic.SumPoint{Start: ticks(p[0]), At: ticks(p[1]), Value: p[2]}
			var d traffic.SumDelta
			switch in.Temporality {
			case "cumulative":
				d = cumulative.Read(point)
			case "delta":
				d = delta.Read(point)
			default:
				return nil, fmt.Errorf("temporality %q", in.Temporality)
			}
			row := map[string]any{"t": inSeconds(d.At), "kind": string(d.Kind), "delta": nil, "since": nil}
			if d.Added {
				row["delta"], row["since"] = d.Value, inSeconds(d.Since)
			}
			out = append(out, row)
		}
		return out, nil
	}
	return nil, fmt.Errorf("unknown op %q", op)
}

// series reads a file of slots; those that it leaves out are missing.
func series(t *testing.T, file string) (start int64, values []float64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 || strings.Join(rows[0], ",") != "ts,value" {
		t.Fatalf("%s: %d rows, %v", file, len(rows), err)
	}
	for _, r := range rows[1:] {
		at, err := time.Parse(time.RFC3339, r[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(values) == 0 {
			start = at.UnixMicro()
		}
		v := traffic.Missing()
		if r[1] != "" {
			if v, err = strconv.ParseFloat(r[1], 64); err != nil {
				t.Fatal(err)
			}
		}
		slot := int((at.UnixMicro() - start) / traffic.SlotTicks)
		for len(values) < slot {
			values = append(values, traffic.Missing())
		}
		if values = append(values, v); len(values) != slot+1 {
			t.Fatalf("%s: %s is there twice, or not in order", file, r[0])
		}
	}
	return start, values
}

// goldenEvent is an event as the cases have it.
type goldenEvent struct {
	StartDate         string  `json:"startDate"`
	EndDate           *string `json:"endDate"`
	DetectedAt        string  `json:"detectedAt"`
	ClosedAt          *string `json:"closedAt"`
	Trigger           string  `json:"trigger"`
	CloseReason       *string `json:"closeReason"`
	Slots             int     `json:"slots"`
	MinRelativeChange float64 `json:"minRelativeChange"`
	LostVolume        float64 `json:"lostVolume"`
	ExpectedVolume    float64 `json:"expectedVolume"`
	Magnitude         float64 `json:"magnitude"`
	MatchedLagDays    []int   `json:"matchedLagDays"`
}

func date(ticks int64) string { return time.UnixMicro(ticks).UTC().Format(time.RFC3339) }

// text is the part of an event that is compared exactly.
func (g goldenEvent) text() string {
	or := func(s *string) string {
		if s == nil {
			return "null"
		}
		return *s
	}
	return fmt.Sprint(g.StartDate, or(g.EndDate), g.DetectedAt, or(g.ClosedAt), g.Trigger, or(g.CloseReason), g.Slots, g.MatchedLagDays)
}

func golden(e traffic.Event) goldenEvent {
	g := goldenEvent{StartDate: date(e.Start), DetectedAt: date(e.DetectedAt), Trigger: string(e.Trigger), Slots: e.Slots, MinRelativeChange: e.MinChange,
		LostVolume: e.Lost, ExpectedVolume: e.Expected, Magnitude: e.Magnitude, MatchedLagDays: e.LagDays}
	if e.HasEnd {
		g.EndDate = new(date(e.End))
	}
	if e.Reason != traffic.StillOpen {
		g.ClosedAt, g.CloseReason = new(date(e.ClosedAt)), new(string(e.Reason))
	}
	return g
}

func (g goldenEvent) equals(w goldenEvent) bool {
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(math.Abs(a), math.Abs(b)) }
	return g.text() == w.text() && math.Abs(g.MinRelativeChange-w.MinRelativeChange) <= 1e-6 && near(g.LostVolume, w.LostVolume) &&
		near(g.ExpectedVolume, w.ExpectedVolume) && near(g.Magnitude, w.Magnitude)
}

func goldenDetector(t *testing.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.expected.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".expected.json")
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(dir, name+".csv")); err != nil {
				goldenMerged(t, dir, file)
				return
			}
			var want []goldenEvent
			pipelinetest.Strict(t, file, &want)
			start, values := series(t, filepath.Join(dir, name+".csv"))
			events, err := traffic.Detect(traffic.DefaultDetectorConfig(), start, values)
			if err != nil {
				t.Fatal(err)
			}
			var got []goldenEvent
			for _, e := range events {
				got = append(got, golden(e))
			}
			if !slices.EqualFunc(got, want, goldenEvent.equals) {
				t.Errorf("got %s\nwant %s", shown(got), shown(want))
			}
		})
	}
}

func shown(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err)
	}
	return string(b)
}

// goldenMerged runs a case of several signals of one entity.
func goldenMerged(t *testing.T, dir, file string) {
	var parts []json.RawMessage
	pipelinetest.Strict(t, file, &parts)
	var head struct {
		Entity            string   `json:"entity"`
		Signals           []string `json:"signals"`
		MergeGapSeconds   float64  `json:"mergeGapSeconds"`
		AutoVerifySources *int     `json:"autoVerifySources"`
		Quorum            *int     `json:"quorum"`
	}
	type anomaly struct {
		StartDate            string   `json:"startDate"`
		EndDate              *string  `json:"endDate"`
		VisibleInDataSources []string `json:"visibleInDataSources"`
		Status               string   `json:"status"`
	}
	strictly := func(raw json.RawMessage, v any) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	strictly(parts[0], &head)
	want := []anomaly{}
	for _, p := range parts[1:] {
		var a anomaly
		strictly(p, &a)
		want = append(want, a)
	}
	cfg := traffic.DefaultMergeConfig()
	cfg.Gap = ticks(head.MergeGapSeconds)
	if head.AutoVerifySources != nil {
		cfg.AutoVerify = *head.AutoVerifySources
	}
	if head.Quorum != nil {
		cfg.Quorum = *head.Quorum
	}
	var all []traffic.SignalEvent
	for _, s := range head.Signals {
		name, signal, _ := strings.Cut(s, ":")
		start, values := series(t, filepath.Join(dir, name+".csv"))
		events, err := traffic.Detect(traffic.DefaultDetectorConfig(), start, values)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			all = append(all, traffic.SignalEvent{Signal: signal, Event: e})
		}
	}
	got := []anomaly{}
	for _, a := range traffic.Merge(cfg, all) {
		g := anomaly{StartDate: date(a.Start), VisibleInDataSources: a.Signals, Status: string(a.Status)}
		if a.HasEnd {
			g.EndDate = new(date(a.End))
		}
		got = append(got, g)
	}
	if shown(got) != shown(want) {
		t.Errorf("got %s\nwant %s", shown(got), shown(want))
	}
}

package assets_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestGolden runs the golden cases of this package.
func TestGolden(t *testing.T) {
	t.Run("assets", func(t *testing.T) { goldenAssets(t, pipelinetest.Golden(t, "assets.json")) })
	t.Run("geofence", func(t *testing.T) { goldenGeofence(t, pipelinetest.Golden(t, "geofence.json")) })
}

func ticks(seconds float64) int64 { return int64(math.Round(seconds * 1e6)) }

func inSeconds(ticks int64) float64 { return float64(ticks) / 1e6 }

// assetInput is the input of every op.
type assetInput struct {
	Records      [][]any               `json:"records"`
	End          float64               `json:"end"`
	Accumulation string                `json:"accumulation"`
	Hearings     [][]any               `json:"hearings"`
	Wins         []map[string]*float64 `json:"wins"`
	Samples      [][4]float64          `json:"samples"`
}

func goldenAssets(t *testing.T, file string) {
	var cases []struct {
		ID     int        `json:"id"`
		Name   string     `json:"name"`
		Op     string     `json:"op"`
		Input  assetInput `json:"input"`
		Expect any        `json:"expect"`
		Note   string     `json:"note"`
	}
	if pipelinetest.Strict(t, file, &cases); len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.ID), func(t *testing.T) {
			var got any
			switch c.Op {
			case "windows":
				got = c.Input.windows(t)
			case "dedup":
				got = c.Input.sightings()
			case "nearest":
				got = c.Input.nearest()
			case "bottom":
				got = c.Input.bottom()
			default:
				t.Fatalf("unknown op %q", c.Op)
			}
			if d := pipelinetest.Difference(got, c.Expect); d != "" {
				t.Errorf("%s: %s", c.Name, d)
			}
		})
	}
}

// ingestRun is the hybrid trigger of the engine over one split.
type ingestRun struct {
	t    *testing.T
	rows []any
}

func (r *ingestRun) take(p pipeline.Port, b pipeline.Batch) error {
	s := b.Rec.Schema()
	ts := func(name string, i int) float64 {
		return inSeconds(int64(b.Rec.Column(s.FieldIndices(name)[0]).(*array.Timestamp).Value(i)))
	}
	for i := range b.NumRows() {
		row := map[string]any{"key": b.Rec.Column(s.FieldIndices("key")[0]).ValueStr(i), "window": ts("window_start", i), "pane": b.Rec.Column(s.FieldIndices("_tm_pane")[0]).ValueStr(i),
			"count": float64(b.Rec.Column(s.FieldIndices("count")[0]).(*array.Int64).Value(i)), "emitted_at": ts("_tm_emitted_at", i), "max_event": ts("max_event_time", i), "revision": nil}
		if rev := b.Rec.Column(s.FieldIndices("_tm_revision")[0]).(*array.Int32); rev.IsValid(i) {
			row["revision"] = float64(rev.Value(i))
		}
		if (p == pipeline.Delta) != (row["revision"] == nil) {
			r.t.Errorf("a row with revision %v on port %s", row["revision"], p)
		}
		r.rows = append(r.rows, row)
	}
	return nil
}

// windows runs the records through windows of 10 s with the hybrid trigger, as a job has them.
func (in *assetInput) windows(t *testing.T) any {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	r := &ingestRun{t: t, rows: []any{}}
	cfg := operators.WindowConfig{Shape: operators.TumblingShape(ticks(10), 0), Trigger: operators.OnIngest, EmitDelay: ticks(5), MaxAge: ticks(900), Keys: []string{"key"}, Seed: 1,
		Aggregates: []operators.Aggregate{{Fn: "count", As: "count"}}, Discard: in.Accumulation == "discarding"}
	w, err := operators.NewWindow(cfg, pipelinetest.RowSchema(), mem)
	if err != nil {
		t.Fatal(err)
	}
	task := pipeline.NewTask([]pipeline.Operator{w}, r.take)
	keyer, err := pipeline.NewKeyer(pipelinetest.RowSchema(), cfg.Keys, cfg.Seed)
	if err != nil {
		t.Fatal(err)
	}
	front := pipeline.NewFront(pipeline.FrontConfig{QuietAfter: pipeline.MaxTicks, MaxAhead: pipeline.MaxTicks, Align: pipeline.MaxTicks, Ingest: true, Shards: 1, Keyer: keyer},
		func(_ int, m pipeline.Message) error { return task.Step(m) })
	front.Announce(pipeline.Split{Topic: "t"}, pipeline.Position{})
	const maxAhead = 120
	for i, rec := range in.Records {
		ingest, event, key := rec[0].(float64), rec[1].(float64), rec[2].(string)
		if event-ingest > maxAhead { // the decoder's part: FutureDead
			r.rows = append(r.rows, map[string]any{"key": key, "side": "future", "event": event, "at": ingest})
			continue
		}
		row := pipelinetest.Row{Ingest: ticks(ingest), Time: ticks(event), Key: key, Offset: int64(i)}
		batch := pipelinetest.Record(mem, []pipelinetest.Row{row})
		wire := &pipeline.Wire{Offset: []int64{int64(i)}, Ingest: []int64{row.Ingest}, Next: pipeline.Position{Offset: int64(i) + 1, LastIngest: row.Ingest}}
		err := front.Rows(wire, &pipeline.Batch{Rec: batch, Passed: pipeline.MinTicks}, 0)
		batch.Release()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := task.Step(pipeline.Message{Kind: pipeline.MarkMessage, Mark: pipeline.Mark{Event: pipeline.MinTicks, Ingest: ticks(in.End)}}); err != nil {
		t.Fatal(err)
	}
	return []any{r.rows, map[string]any{"open_states": float64(task.Open())}}
}

func (in *assetInput) sightings() any {
	cfg := assets.DefaultSightingConfig()
	byAsset := map[string]*assets.Sightings{}
	var order []string
	for _, h := range in.Hearings {
		asset := h[1].(string)
		if byAsset[asset] == nil {
			byAsset[asset], order = &assets.Sightings{}, append(order, asset)
		}
		hearing := assets.Hearing{At: ticks(h[0].(float64)), Gateway: h[3].(string)}
		if seq, ok := h[2].(float64); ok {
			hearing.Seq, hearing.HasSeq = uint8(seq), true
		}
		hearing.RSSI, hearing.HasRSSI = h[4].(float64)
		byAsset[asset].Hear(&cfg, hearing)
	}
	out := []any{}
	for _, asset := range order {
		for _, s := range byAsset[asset].Final(&cfg, math.MaxInt64) {
			row := map[string]any{"ts": inSeconds(s.At), "asset": asset, "seq": nil, "best": nil}
			heard := map[string]any{}
			for _, h := range s.Heard {
				heard[h.Gateway] = nil
				if h.HasRSSI {
					heard[h.Gateway] = h.RSSI
				}
			}
			row["heard"] = heard
			if s.HasSeq {
				row["seq"] = float64(s.Seq)
			}
			if best, ok := s.Best(); ok {
				row["best"] = best.Gateway
			}
			out = append(out, row)
		}
	}
	slices.SortStableFunc(out, func(a, b any) int {
		return int(a.(map[string]any)["ts"].(float64) - b.(map[string]any)["ts"].(float64))
	})
	return out
}

func (in *assetInput) nearest() any {
	cfg := assets.DefaultNearestConfig()
	var n assets.Nearest
	changes := []any{}
	for i, win := range in.Wins {
		var heard []assets.Loudness
		for gateway, rssi := range win {
			if rssi != nil {
				heard = append(heard, assets.Loudness{Gateway: gateway, RSSI: *rssi})
			}
		}
		if c, changed := n.Window(&cfg, heard); changed {
			row := map[string]any{"window": float64(i), "owner": c.Owner, "prev": nil, "why": c.Why}
			if c.Before != "" {
				row["prev"] = c.Before
			}
			changes = append(changes, row)
		}
	}
	means := map[string]any{}
	for _, m := range n.Means() {
		means[m.Gateway] = m.RSSI
	}
	return []any{changes, means}
}

func (in *assetInput) bottom() any {
	cfg := assets.DefaultBottomConfig()
	var b assets.Bottom
	events := []any{}
	for _, s := range in.Samples {
		if e, ok := b.Sample(&cfg, ticks(s[0]), assets.Accel{X: s[1], Y: s[2], Z: s[3]}); ok {
			kind := map[assets.BottomState]string{assets.BottomDown: "bottom_down", assets.BottomUp: "bottom_up"}[e.State]
			events = append(events, map[string]any{"type": kind, "ts": inSeconds(e.At), "confirmed": inSeconds(e.Confirmed), "tilt_deg": e.Tilt})
		}
	}
	return []any{events, b.State.String()}
}

// geofenceCase is a case of fences.
type geofenceCase struct {
	ID     int    `json:"id"`
	Name   string `json:"name"`
	Fences []struct {
		ID     string         `json:"id"`
		Type   string         `json:"type"`
		Center [2]float64     `json:"center"`
		Radius float64        `json:"radius_m"`
		Rings  [][][2]float64 `json:"rings"`
	} `json:"fences"`
	Params struct {
		InMargin  float64   `json:"in_margin"`
		OutMargin float64   `json:"out_margin"`
		NIn       int       `json:"n_in"`
		TIn       float64   `json:"t_in"`
		NOut      int       `json:"n_out"`
		TOut      float64   `json:"t_out"`
		AccMax    float64   `json:"acc_max"`
		VMax      float64   `json:"vmax"`
		LostAfter float64   `json:"lost_after"`
		Dwell     []float64 `json:"dwell"`
	} `json:"params"`
	Fixes        [][4]float64      `json:"fixes"`
	WatermarkEnd *float64          `json:"watermark_end"`
	Expect       []any             `json:"expect"`
	Final        map[string]string `json:"final"`
	Note         string            `json:"note"`
}

func (c *geofenceCase) config() assets.GeofenceConfig {
	p := c.Params
	cfg := assets.GeofenceConfig{InMargin: p.InMargin, OutMargin: p.OutMargin, InCount: p.NIn, InSpan: ticks(p.TIn), OutCount: p.NOut, OutSpan: ticks(p.TOut),
		MaxAccuracy: p.AccMax, MaxSpeed: p.VMax, LostAfter: ticks(p.LostAfter)}
	for _, d := range p.Dwell {
		cfg.Dwell = append(cfg.Dwell, ticks(d))
	}
	return cfg
}

func (c *geofenceCase) set(t *testing.T) *assets.Fences {
	var all []assets.Fence
	for _, f := range c.Fences {
		fence := assets.Fence{ID: f.ID}
		switch f.Type {
		case "circle":
			fence.Center, fence.Radius = assets.Position{Lat: f.Center[0], Lon: f.Center[1]}, f.Radius
		case "polygon":
			for _, ring := range f.Rings {
				var r []assets.Position
				for _, p := range ring {
					r = append(r, assets.Position{Lat: p[0], Lon: p[1]})
				}
				fence.Rings = append(fence.Rings, r)
			}
		default:
			t.Fatalf("fence type %q", f.Type)
		}
		all = append(all, fence)
	}
	set, err := assets.NewFences(all, c.Params.OutMargin)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// run plays the case. Between fixes the mark moves in steps, or not at all.
func (c *geofenceCase) run(t *testing.T, steps int) ([]any, map[string]string) {
	cfg, fences := c.config(), c.set(t)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	var tracker assets.Tracker
	var events []assets.GeofenceEvent
	newest := int64(math.MinInt64)
	advance := func(from, to int64) {
		for i := range int64(steps) {
			events = tracker.Advance(&cfg, from+(to-from)*(i+1)/int64(steps+1), events)
		}
	}
	for _, f := range c.Fixes {
		fix := assets.Fix{At: ticks(f[0]), Position: assets.Position{Lat: f[1], Lon: f[2]}, Accuracy: f[3]}
		if newest != math.MinInt64 && fix.At > newest {
			advance(newest, fix.At-1)
		}
		newest = max(newest, fix.At)
		events = tracker.Fix(&cfg, fences, fix, events)
	}
	if c.WatermarkEnd != nil {
		advance(newest, ticks(*c.WatermarkEnd))
		events = tracker.Advance(&cfg, ticks(*c.WatermarkEnd), events)
	}
	out := []any{}
	for _, e := range events {
		row := map[string]any{"type": string(e.Kind), "ts": inSeconds(e.At)}
		if e.Fence >= 0 {
			row["fence"] = fences.At(int(e.Fence)).ID
		}
		switch e.Kind {
		case assets.Enter:
			row["confirmed"] = inSeconds(e.Confirmed)
		case assets.Exit:
			row["confirmed"], row["duration_s"] = inSeconds(e.Confirmed), inSeconds(e.Duration)
		case assets.Dwell:
			row["threshold_s"] = inSeconds(e.Duration)
		case assets.Lost:
			row["last_seen"] = inSeconds(e.LastSeen)
		}
		out = append(out, row)
	}
	final := map[string]string{}
	for i := range fences.Len() {
		final[fences.At(i).ID] = tracker.State(int32(i)).String()
	}
	return out, final
}

func goldenGeofence(t *testing.T, file string) {
	var cases []geofenceCase
	if pipelinetest.Strict(t, file, &cases); len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.ID), func(t *testing.T) {
			for _, steps := range []int{0, 1, 7} {
				got, final := c.run(t, steps)
				want := slices.Clone(c.Expect)
				if steps > 0 { // a mark tells before a fix what the fix tells last
					byText(got)
					byText(want)
				}
				if d := pipelinetest.Difference(got, any(want)); d != "" {
					t.Errorf("%s, %d steps between fixes: %s\n%v", c.Name, steps, d, got)
				}
				for fence, want := range c.Final {
					if final[fence] != want {
						t.Errorf("%s, %d steps between fixes: %s is %s in the end, want %s", c.Name, steps, fence, final[fence], want)
					}
				}
			}
		})
	}
}

// byText sorts events by time, kind and fence.
func byText(events []any) {
	key := func(e any) string {
		m := e.(map[string]any)
		return fmt.Sprintf("%020.3f %v %v", m["ts"], m["type"], m["fence"])
	}
	slices.SortFunc(events, func(a, b any) int { return strings.Compare(key(a), key(b)) })
}

package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/operators/assets"
	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/schemas/ble"
)

// AssetsConfig is section assets of a job: it follows assets by their detections.
type AssetsConfig struct {
	// Fences is a GeoJSON file, Gateways CSV of gateway_id, site, lat, lon, vehicle. Registry is CSV
	// of asset_id: assets that are not in it are not followed unless AcceptUnknown. All three are
	// read again when they change.
	Fences        string `yaml:"fences"`
	Gateways      string `yaml:"gateways"`
	Registry      string `yaml:"registry"`
	AcceptUnknown bool   `yaml:"accept_unknown"`
	// ForgetAfter is how long nothing is heard of an asset that is forgotten; 0 for never.
	ForgetAfter time.Duration `yaml:"forget_after"`

	Clocks       AssetsClocks       `yaml:"clocks"`
	Nearest      AssetsNearest      `yaml:"nearest"`
	Geofence     AssetsGeofence     `yaml:"geofence"`
	Movement     AssetsMovement     `yaml:"movement"`
	Bottom       AssetsBottom       `yaml:"bottom"`
	Transit      AssetsTransit      `yaml:"transit"`
	Availability AssetsAvailability `yaml:"availability"`
	Battery      AssetsBattery      `yaml:"battery"`
}

// AssetsClocks says when the clock of a gateway is off, and when its records are a burst.
type AssetsClocks struct {
	Correct      bool          `yaml:"correct"` // clocks that run ahead
	Limit        time.Duration `yaml:"limit"`   // by which one may be off
	Records      int           `yaml:"records"` // that its offset rests on
	MaxAge       time.Duration `yaml:"max_age"` // of them; older ones were kept back
	BurstRecords int           `yaml:"burst_records"`
	BurstWithin  time.Duration `yaml:"burst_within"` // by the broker
	BurstSpan    time.Duration `yaml:"burst_span"`   // by the gateway
	// MaxGateways bounds the clocks that are known, in each partition.
	MaxGateways int `yaml:"max_gateways"`
}

// AssetsNearest says which gateway an asset belongs to.
type AssetsNearest struct {
	Window  time.Duration `yaml:"window"`    // in which gateways are compared
	Alpha   float64       `yaml:"alpha"`     // weight of the newest window
	Margin  float64       `yaml:"margin_db"` // by which another gateway must be louder
	Windows int           `yaml:"windows"`   // in a row
	Unheard int           `yaml:"unheard"`   // windows after which an owner is given up
	// Weakest is the smoothed RSSI at which an asset is still where its gateway is, give or take
	// Accuracy.
	Weakest  float64 `yaml:"weakest_dbm"`
	Accuracy float64 `yaml:"accuracy_m"`
}

// AssetsGeofence says when an asset is inside of a fence.
type AssetsGeofence struct {
	InMargin    float64         `yaml:"in_margin_m"`
	OutMargin   float64         `yaml:"out_margin_m"`
	EnterFixes  int             `yaml:"enter_fixes"`
	EnterTime   time.Duration   `yaml:"enter_time"`
	ExitFixes   int             `yaml:"exit_fixes"`
	ExitTime    time.Duration   `yaml:"exit_time"`
	MaxAccuracy float64         `yaml:"max_accuracy_m"`
	MaxSpeed    float64         `yaml:"max_speed_mps"`
	LostAfter   time.Duration   `yaml:"lost_after"`
	Dwell       []time.Duration `yaml:"dwell"`
}

// AssetsMovement says when an asset moves.
type AssetsMovement struct {
	Apart time.Duration `yaml:"apart"` // fixes that are compared
	Far   float64       `yaml:"far_m"`
	Speed float64       `yaml:"speed_mps"`
	Still time.Duration `yaml:"still"`
	Near  float64       `yaml:"near_m"`
}

// AssetsBottom says when the bottom plate of a cage is down.
type AssetsBottom struct {
	Rest    [3]float64    `yaml:"rest_mg"` // what the tag measures then
	Still   float64       `yaml:"still_mg"`
	Down    float64       `yaml:"down_deg"`
	Up      float64       `yaml:"up_deg"`
	Samples int           `yaml:"samples"`
	Time    time.Duration `yaml:"time"`
}

// AssetsTransit says when an asset is on its way.
type AssetsTransit struct {
	MoveWithin time.Duration `yaml:"move_within"`
	Shortest   time.Duration `yaml:"shortest"`
	Silence    time.Duration `yaml:"silence"`
}

// AssetsAvailability says when an asset can be used.
type AssetsAvailability struct {
	Offline time.Duration `yaml:"offline"`
	Settled time.Duration `yaml:"settled"`
	Hold    time.Duration `yaml:"hold"`
	Depots  []string      `yaml:"depots"` // kinds of fences
}

// AssetsBattery says when a battery is low.
type AssetsBattery struct {
	Warm float64 `yaml:"warm_c"`
	Low  float64 `yaml:"low_mv"`
	Days int     `yaml:"days"`
	Full float64 `yaml:"full_mv"`
	Rise float64 `yaml:"rise_mv"`
}

func (c *AssetsConfig) setDefaults() {
	d := assets.DefaultConfig()
	c.ForgetAfter = durationOf(d.ForgetAfter)
	k := assets.DefaultClocksConfig()
	c.Clocks = AssetsClocks{k.Correct, durationOf(k.Skew.Limit), k.Skew.Records, durationOf(k.Skew.MaxAge), k.Burst.Records, durationOf(k.Burst.Within), durationOf(k.Burst.Span), k.Gateways}
	n, g, m, b, t, a, p := d.Nearest, d.Geofence, d.Movement, d.Bottom, d.Transit, d.Availability, d.Battery
	c.Nearest = AssetsNearest{durationOf(d.Window), n.Alpha, n.Margin, n.Windows, n.Unheard, d.Weakest, d.Accuracy}
	c.Geofence = AssetsGeofence{InMargin: g.InMargin, OutMargin: g.OutMargin, EnterFixes: g.InCount, EnterTime: durationOf(g.InSpan), ExitFixes: g.OutCount, ExitTime: durationOf(g.OutSpan),
		MaxAccuracy: g.MaxAccuracy, MaxSpeed: g.MaxSpeed, LostAfter: durationOf(g.LostAfter)}
	for _, dwell := range g.Dwell {
		c.Geofence.Dwell = append(c.Geofence.Dwell, durationOf(dwell))
	}
	c.Movement = AssetsMovement{durationOf(m.Apart), m.Far, m.Speed, durationOf(m.Still), m.Near}
	c.Bottom = AssetsBottom{[3]float64{b.Rest.X, b.Rest.Y, b.Rest.Z}, b.Still, b.Down, b.Up, b.Count, durationOf(b.Span)}
	c.Transit = AssetsTransit{durationOf(t.MoveWithin), durationOf(t.Shortest), durationOf(t.Silence)}
	c.Availability = AssetsAvailability{durationOf(a.Offline), durationOf(a.Settled), durationOf(a.Hold), a.Depots}
	c.Battery = AssetsBattery{p.Warm, p.Low, p.Days, p.Full, p.Rise}
}

// config is what the operator follows.
func (c *AssetsConfig) config() assets.Config {
	out := assets.DefaultConfig()
	// The decoder has replaced times that were lost, and sent those from the future away.
	out.Filter.OldestTime, out.Filter.MaxAhead = math.MinInt64, math.MaxInt64
	out.Filter.AcceptUnknown, out.ForgetAfter = c.AcceptUnknown, pipeline.Ticks(c.ForgetAfter)
	n, g, m, b, t, a, p := &c.Nearest, &c.Geofence, &c.Movement, &c.Bottom, &c.Transit, &c.Availability, &c.Battery
	out.Window, out.Weakest, out.Accuracy = pipeline.Ticks(n.Window), n.Weakest, n.Accuracy
	out.Nearest = assets.NearestConfig{Alpha: n.Alpha, Margin: n.Margin, Windows: n.Windows, Unheard: n.Unheard}
	out.Geofence = assets.GeofenceConfig{InMargin: g.InMargin, OutMargin: g.OutMargin, InCount: g.EnterFixes, InSpan: pipeline.Ticks(g.EnterTime), OutCount: g.ExitFixes,
		OutSpan: pipeline.Ticks(g.ExitTime), MaxAccuracy: g.MaxAccuracy, MaxSpeed: g.MaxSpeed, LostAfter: pipeline.Ticks(g.LostAfter)}
	for _, dwell := range g.Dwell {
		out.Geofence.Dwell = append(out.Geofence.Dwell, pipeline.Ticks(dwell))
	}
	out.Movement.Apart, out.Movement.Far, out.Movement.Speed, out.Movement.Still, out.Movement.Near = pipeline.Ticks(m.Apart), m.Far, m.Speed, pipeline.Ticks(m.Still), m.Near
	out.Bottom = assets.BottomConfig{Rest: assets.Accel{X: b.Rest[0], Y: b.Rest[1], Z: b.Rest[2]}, Still: b.Still, Down: b.Down, Up: b.Up, Count: b.Samples, Span: pipeline.Ticks(b.Time)}
	out.Transit = assets.TransitConfig{MoveWithin: pipeline.Ticks(t.MoveWithin), Shortest: pipeline.Ticks(t.Shortest), Silence: pipeline.Ticks(t.Silence)}
	out.Availability = assets.AvailabilityConfig{Offline: pipeline.Ticks(a.Offline), Settled: pipeline.Ticks(a.Settled), Hold: pipeline.Ticks(a.Hold), Depots: a.Depots}
	out.Battery = assets.BatteryConfig{Warm: p.Warm, Low: p.Low, Days: p.Days, Full: p.Full, Rise: p.Rise}
	return out
}

// config is what clocks are held against, in a job that deals with times as decode says.
func (c *AssetsClocks) config(decode operators.DecodeConfig) assets.ClocksConfig {
	return assets.ClocksConfig{Correct: c.Correct, Gateways: c.MaxGateways,
		Skew:   assets.SkewConfig{Records: c.Records, MaxAge: pipeline.Ticks(c.MaxAge), Limit: pipeline.Ticks(c.Limit)},
		Burst:  assets.BurstConfig{Records: c.BurstRecords, Within: pipeline.Ticks(c.BurstWithin), Span: pipeline.Ticks(c.BurstSpan)},
		Future: decode.Future, MaxAhead: pipeline.Ticks(decode.MaxAhead), Time: decode.Time, RawLimit: decode.RawLimit}
}

func (c *AssetsConfig) feed() string { return "ble" }

// Validate returns every problem.
func (c *AssetsConfig) Validate() error {
	cfg := c.config()
	err := errors.Join(cfg.Validate(), c.Clocks.config(operators.DefaultDecodeConfig()).Validate())
	if c.AcceptUnknown && c.Registry == "" {
		err = errors.Join(err, errors.New("accept_unknown: there is no registry, so every asset is followed: name one, or take this out"))
	}
	return err
}

func (c *AssetsConfig) domain(job *Config) domain {
	cfg := c.config()
	d := domain{
		work: "assets by asset_id",
		key:  []string{"asset_id"},
		tables: []domainTable{
			{schema: assets.EventSchema(), sortBy: []string{"asset_id", "time", "kind", "event", "geofence_uid"}, timeColumn: "time", mapper: ble.NewStateMapper, live: 60},
			{suffix: "now", schema: assets.NowSchema(), sortBy: []string{"asset_id"}, timeColumn: "time", live: 1, liveBy: []string{"asset_id"}},
		},
	}
	file := func(name, path string, parse func(b []byte) (any, error)) {
		if path != "" {
			d.files = append(d.files, domainFile{name: name, path: path, parse: func(b []byte) (any, error) {
				v, err := parse(b)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", path, err)
				}
				return v, nil
			}})
		}
	}
	file(assets.FencesFile, c.Fences, func(b []byte) (any, error) {
		fences, err := assets.ParseFences(b)
		if err != nil {
			return nil, err
		}
		return assets.NewFences(fences, cfg.Geofence.OutMargin)
	})
	file(assets.GatewaysFile, c.Gateways, func(b []byte) (any, error) { return assets.ParseGateways(b) })
	file(assets.RegistryFile, c.Registry, func(b []byte) (any, error) { return assets.ParseRegistry(b) })
	var filtered func(assets.FilterCounts)
	var clocked func(assets.ClockCounts)
	d.metrics = func(reg prometheus.Registerer, job string) (err error) {
		if filtered, err = countFiltered(reg, job); err != nil {
			return err
		}
		clocked, err = countClocks(reg, job)
		return err
	}
	d.timed = assets.ClockedSchema
	d.clock = func(rows *arrow.Schema, mem memory.Allocator) (pipeline.Clock, error) {
		clocks, err := assets.NewClocks(c.Clocks.config(job.timeConfig(ble.EventTime)), rows, mem)
		if err != nil {
			return nil, err
		}
		clocks.Seen = clocked
		return clocks, nil
	}
	maxBytes := job.keyedBytes(1)
	d.build = func(rows *arrow.Schema, values map[string]any, seed uint64, mem memory.Allocator) ([]pipeline.Operator, error) {
		var world assets.World
		world.Fences, _ = values[assets.FencesFile].(*assets.Fences)
		world.Gateways, _ = values[assets.GatewaysFile].(*assets.Gateways)
		world.Registry, _ = values[assets.RegistryFile].(*assets.Registry)
		m, err := assets.NewMachine(cfg, world, rows, mem)
		if err != nil {
			return nil, err
		}
		m.Filtered = filtered
		k, err := assets.NewKeyed(m, seed, maxBytes, rows, mem)
		if err != nil {
			return nil, err
		}
		return []pipeline.Operator{k}, nil
	}
	return d
}

// countFiltered makes the metric of what the filter has left out.
func countFiltered(reg prometheus.Registerer, job string) (func(assets.FilterCounts), error) {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_assets_filtered_total", ConstLabels: prometheus.Labels{"job": job},
		Help: "Detections, or readings of them, that a rule of the filter has left out, as of the mark."}, []string{"rule"})
	if err := reg.Register(v); err != nil {
		return nil, fmt.Errorf("asset metrics of job %s: %w", job, err)
	}
	var by [assets.Rules]prometheus.Counter
	for r := range assets.Rules {
		by[r] = v.WithLabelValues(r.String())
	}
	return func(n assets.FilterCounts) {
		for r, held := range n {
			by[r].Add(float64(held))
		}
	}, nil
}

// countClocks makes the metrics of the clocks of gateways.
func countClocks(reg prometheus.Registerer, job string) (func(assets.ClockCounts), error) {
	labels := prometheus.Labels{"job": job}
	records := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_assets_clock_records_total", ConstLabels: labels,
		Help: "Detections by what the clock of their gateway made of them: corrected, skewed (the clock is off, the time as it was), replaced (no time of the gateway), buffered (kept back), burst, future (ahead of the broker all the same)."}, []string{"what"})
	bursts := prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_assets_bursts_total", ConstLabels: labels, Help: "Bursts of detections that a gateway had kept."})
	forgotten := prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_assets_gateways_forgotten_total", ConstLabels: labels, Help: "Gateways whose clock was forgotten, since there were more than assets.clocks.max_gateways."})
	gateways := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tidemark_assets_gateways", ConstLabels: labels,
		Help: "Gateways whose clock is known, one in two partitions twice: right, and skewed."}, []string{"clock"})
	for _, c := range []prometheus.Collector{records, bursts, forgotten, gateways} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("clock metrics of job %s: %w", job, err)
		}
	}
	of := func(what string) prometheus.Counter { return records.WithLabelValues(what) }
	corrected, skewed, replaced := of(assets.TimeCorrected.String()), of(assets.TimeSkewed.String()), of(assets.TimeReplaced.String())
	buffered, burst, future := of("buffered"), of("burst"), of("future")
	right, off := gateways.WithLabelValues("right"), gateways.WithLabelValues("skewed")
	return func(n assets.ClockCounts) {
		corrected.Add(float64(n.Records[assets.TimeCorrected]))
		skewed.Add(float64(n.Records[assets.TimeSkewed]))
		replaced.Add(float64(n.Records[assets.TimeReplaced]))
		buffered.Add(float64(n.KeptBack))
		burst.Add(float64(n.InBurst))
		future.Add(float64(n.Future))
		bursts.Add(float64(n.Bursts))
		forgotten.Add(float64(n.Forgotten))
		right.Set(float64(n.Known - n.Skewed))
		off.Set(float64(n.Skewed))
	}, nil
}

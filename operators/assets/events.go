package assets

import (
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// EventSchema is the schema of changes of state: columns of schemas/ble.StateSchema, and what the
// events of batteries and fences have beside them. time is when a state began, confirmed_time
// when it was proved, time_quality that of the newest detection by then.
func EventSchema() *arrow.Schema {
	text := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true}
	}
	whole := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	}
	real := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	}
	at := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: pipeline.Timestamp, Nullable: true}
	}
	must := func(f arrow.Field) arrow.Field { f.Nullable = false; return f }
	return arrow.NewSchema([]arrow.Field{
		must(at("time")), must(text("kind")), must(text("event")), text("event_code"), text("prev_state"), text("state"), at("last_seen_time"), must(text("asset_id")),
		text("geofence_uid"), text("geofence_name"), text("geofence_type"), text("from_geofence"), text("to_geofence"),
		whole("dwell_ms"), whole("timeout_ms"), whole("hold_ms"), whole("distance_m"), whole("duration_ms"),
		{Name: "inferred", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "accel_mg", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true},
		real("tilt_deg"), real("load_kg"), at("confirmed_time"), whole("battery_mv"), text(ColQuality),
		{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
	}, nil)
}

// rowsOf appends rows by the names of their columns: what a row does not name is null.
type rowsOf struct {
	b      *array.RecordBuilder
	column map[string]int
	named  []bool
}

func newRowsOf(mem memory.Allocator, schema *arrow.Schema) rowsOf {
	r := rowsOf{b: array.NewRecordBuilder(mem, schema), column: map[string]int{}, named: make([]bool, schema.NumFields())}
	for i, f := range schema.Fields() {
		r.column[f.Name] = i
	}
	return r
}

func (r *rowsOf) field(name string) array.Builder {
	i := r.column[name]
	r.named[i] = true
	return r.b.Field(i)
}

func (r *rowsOf) time(name string, at int64) {
	r.field(name).(*array.TimestampBuilder).Append(arrow.Timestamp(at))
}

// text is null when it is empty.
func (r *rowsOf) text(name, v string) {
	if v != "" {
		r.field(name).(*array.StringBuilder).Append(v)
	}
}

func (r *rowsOf) whole(name string, v int64)  { r.field(name).(*array.Int64Builder).Append(v) }
func (r *rowsOf) real(name string, v float64) { r.field(name).(*array.Float64Builder).Append(v) }
func (r *rowsOf) bool(name string, v bool)    { r.field(name).(*array.BooleanBuilder).Append(v) }

// end completes a row.
func (r *rowsOf) end() {
	for i, there := range r.named {
		if !there {
			r.b.Field(i).AppendNull()
		}
		r.named[i] = false
	}
}

const millis = 1000 // ticks

// begin starts a row of an event.
func (m *Machine) begin(asset, kind, event string, at int64) *rowsOf {
	r := &m.events
	r.time("time", at)
	r.text("kind", kind)
	r.text("event", event)
	r.text("event_code", kind+"_"+event)
	r.text("asset_id", asset)
	r.text(ColQuality, m.current.quality.String())
	r.field("_tm_revision").(*array.Int32Builder).Append(1)
	return r
}

// Geofence implements Listener.
func (m *Machine) Geofence(asset string, f *Fence, e *GeofenceEvent) {
	const inside, outside = "inside", "outside"
	r := m.begin(asset, "geofence", string(e.Kind), e.At)
	r.text("geofence_uid", f.ID)
	r.text("geofence_name", f.Name)
	r.text("geofence_type", f.Kind)
	switch e.Kind {
	case Enter:
		if e.Before == Outside {
			r.text("prev_state", outside)
		}
		r.text("state", inside)
		r.time("confirmed_time", e.Confirmed)
	case Exit:
		r.text("prev_state", inside)
		r.text("state", outside)
		r.time("confirmed_time", e.Confirmed)
		r.whole("dwell_ms", e.Duration/millis)
	case Dwell:
		r.text("prev_state", inside)
		r.text("state", inside)
		r.whole("dwell_ms", e.Duration/millis)
	case Lost:
		r.text("prev_state", inside)
		r.time("last_seen_time", e.LastSeen)
		r.whole("timeout_ms", m.Config.Geofence.LostAfter/millis)
	}
	r.end()
}

// Transit implements Listener.
func (m *Machine) Transit(asset string, e *TransitEvent) {
	const rest, moving = "at_rest", "in_transit"
	r := m.begin(asset, "transit", string(e.Kind), e.At)
	r.text("from_geofence", e.Origin)
	switch e.Kind {
	case TransitStart:
		r.text("prev_state", rest)
		r.text("state", moving)
		r.bool("inferred", e.Inferred)
	case TransitEnd:
		r.text("prev_state", moving)
		r.text("state", rest)
		r.text("to_geofence", e.Destination)
		r.whole("distance_m", int64(math.Round(e.Metres)))
		r.whole("duration_ms", (e.At-e.Started)/millis)
		r.bool("inferred", e.Inferred)
	case TransitUnknown:
		r.text("prev_state", moving)
		r.time("last_seen_time", e.LastSeen)
		r.whole("timeout_ms", m.Config.Transit.Silence/millis)
	}
	r.end()
}

// Bottom implements Listener.
func (m *Machine) Bottom(asset string, s *Asset, e *BottomEvent, a Accel) {
	words := [...]string{BottomUnknown: "", BottomDown: "closed", BottomUp: "open"}
	event := "open"
	if e.State == BottomDown {
		event = "close"
	}
	r := m.begin(asset, "bottom", event, e.At)
	r.text("prev_state", words[e.Before])
	r.text("state", words[e.State])
	r.time("confirmed_time", e.Confirmed)
	r.whole("hold_ms", m.Config.Bottom.Span/millis)
	list := r.field("accel_mg").(*array.ListBuilder)
	list.Append(true)
	for _, v := range [...]float64{a.X, a.Y, a.Z} {
		list.ValueBuilder().(*array.Int64Builder).Append(int64(math.Round(v)))
	}
	r.real("tilt_deg", e.Tilt)
	if s.hasLoad {
		r.real("load_kg", s.load)
	}
	r.end()
}

// Availability implements Listener. What cannot be used is unavailable, for one reason or another.
func (m *Machine) Availability(asset string, s *Asset, e *AvailabilityEvent) {
	event := "unavailable"
	if e.State == Available {
		event = "available"
	}
	r := m.begin(asset, "availability", event, e.At)
	r.text("prev_state", strings.ToLower(e.Before.String()))
	r.text("state", strings.ToLower(e.State.String()))
	r.time("last_seen_time", s.seen)
	if e.State == Offline {
		r.whole("timeout_ms", m.Config.Availability.Offline/millis)
	}
	r.end()
}

// Battery implements Listener.
func (m *Machine) Battery(asset string, e *BatteryEvent) {
	r := m.begin(asset, "battery", string(e.Kind), e.At)
	r.text("state", string(e.Kind))
	r.whole("battery_mv", int64(e.Median))
	r.end()
}

// NowSchema is the schema of where assets are: one row an asset is the newest.
func NowSchema() *arrow.Schema {
	text := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true}
	}
	real := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	}
	return arrow.NewSchema([]arrow.Field{
		{Name: "time", Type: pipeline.Timestamp},
		{Name: "asset_id", Type: arrow.BinaryTypes.String},
		real("lat"), real("lon"), real("acc_m"),
		{Name: "fix_time", Type: pipeline.Timestamp, Nullable: true},
		text("site"), text("gateway"), text("availability"), text("movement"), text("bottom"),
		{Name: "in_transit", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "since", Type: pipeline.Timestamp, Nullable: true}, // of availability
		{Name: "last_seen", Type: pipeline.Timestamp},
		{Name: "battery_pct", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "battery_low", Type: arrow.FixedWidthTypes.Boolean},
		text(ColQuality), // of last_seen
	}, nil)
}

// Now implements Listener. The site is the smallest fence that the asset is in, else its gateway's.
func (m *Machine) Now(asset string, at int64, s *Asset) {
	r := &m.now
	r.time("time", at)
	r.text("asset_id", asset)
	if fix, ok := s.tracker.Last(); ok {
		r.real("lat", fix.Lat)
		r.real("lon", fix.Lon)
		r.real("acc_m", fix.Accuracy)
		r.time("fix_time", fix.At)
	}
	site := m.World.Gateways.Get(s.nearest.Owner).Site
	if i := m.site(s); i >= 0 {
		site = m.World.Fences.At(int(i)).ID
	}
	r.text("site", site)
	r.text("gateway", s.nearest.Owner)
	r.text("availability", strings.ToLower(s.availability.State.String()))
	r.text("movement", strings.ToLower(s.movement.State.String()))
	r.text("bottom", strings.ToLower(s.bottom.State.String()))
	r.bool("in_transit", s.transit.InTransit())
	if s.availability.State != AvailabilityUnknown {
		r.time("since", s.availability.Since)
	}
	r.time("last_seen", s.seen)
	if s.battery.Known {
		r.whole("battery_pct", int64(s.battery.Percent))
	}
	r.bool("battery_low", s.battery.Low)
	r.text(ColQuality, s.quality.String())
	r.end()
}

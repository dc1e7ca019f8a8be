package ble

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// Kinds of changes that assets are watched for.
const (
	Geofence     = "geofence"     // enter, exit, dwell, lost
	Availability = "availability" // available, unavailable
	Bottom       = "bottom"       // open, close
	Transit      = "transit"      // start, end, unknown
)

// StateSchema is the schema of rows that say how the state of an asset changed:
//
//   - the columns of ocsf.StateFields. States are the words of their kind: inside, outside;
//     available, in_use, in_transit, offline; open, closed; at_rest, in_transit.
//   - asset_id.
//   - geofence: the fence (geofence_uid, _name, _type) and, on exit, how long the asset was
//     inside (dwell_ms). Fences that overlap are left at one instant, and a stay may come of
//     age just then: fence and event are part of the uid.
//   - availability: after which silence (timeout_ms). state has the exact word.
//   - bottom: the sample that confirmed it (accel_mg, tilt_deg, load_kg) and for how long
//     samples had to agree (hold_ms).
//   - transit: where from and where to (from_geofence, to_geofence), how far and how long
//     (distance_m, duration_ms), and whether it was inferred from where it was seen next.
//   - ocsf.DeviceFields.
//   - _tm_revision, 1 unless the change was told before in another way.
//
// Columns that say nothing of a kind are null. Others may follow those of the device.
func StateSchema() *arrow.Schema {
	fields := ocsf.StateFields()
	add := func(typ arrow.DataType, names ...string) {
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: name != "asset_id"})
		}
	}
	add(arrow.BinaryTypes.String, "asset_id", "geofence_uid", "geofence_name", "geofence_type", "from_geofence", "to_geofence")
	add(arrow.PrimitiveTypes.Int64, "dwell_ms", "timeout_ms", "hold_ms", "distance_m", "duration_ms")
	add(arrow.FixedWidthTypes.Boolean, "inferred")
	add(arrow.ListOf(arrow.PrimitiveTypes.Int64), "accel_mg")
	add(arrow.PrimitiveTypes.Float64, "tilt_deg", "load_kg")
	fields = append(fields, ocsf.DeviceFields()...)
	return arrow.NewSchema(append(fields, ocsf.Revision()), nil)
}

// NewStateMapper maps rows of StateSchema to Device Inventory Info, in dialect ext to Asset
// State Change.
func NewStateMapper(cfg ocsf.Config, in *arrow.Schema) (*ocsf.Mapper, error) {
	return ocsf.NewStateMapper(cfg, ocsf.StateSpec{
		Device: ocsf.IOT(), Entity: "asset_id", Activities: activities(), Key: []string{"geofence_uid", "event"},
		Message: changed, Attrs: fence,
	}, in)
}

func activities() []ocsf.StateActivity {
	return []ocsf.StateActivity{
		{Kind: Geofence, Event: "enter", Enum: ocsf.Enum{ID: 1, Name: "Geofence Enter"}},
		{Kind: Geofence, Event: "exit", Enum: ocsf.Enum{ID: 2, Name: "Geofence Exit"}},
		{Kind: Availability, Event: "available", Enum: ocsf.Enum{ID: 3, Name: "Become Available"}},
		{Kind: Availability, Event: "unavailable", Enum: ocsf.Enum{ID: 4, Name: "Become Unavailable"}},
		{Kind: Bottom, Event: "open", Enum: ocsf.Enum{ID: 5, Name: "Bottom Open"}},
		{Kind: Bottom, Event: "close", Enum: ocsf.Enum{ID: 6, Name: "Bottom Close"}},
		{Kind: Transit, Event: "start", Enum: ocsf.Enum{ID: 7, Name: "Transit Start"}},
		{Kind: Transit, Event: "end", Enum: ocsf.Enum{ID: 8, Name: "Transit End"}},
	}
}

// changed says "RC-0003811 left geofence depot-utrecht" or "RC-0003811 bottom open".
func changed(s *ocsf.State) func(dst []byte, row int) []byte {
	kind, event, geofence := s.Column("kind"), s.Column("event"), s.Column("geofence_uid")
	return func(dst []byte, row int) []byte {
		dst, _ = s.EntityText(dst, row)
		dst = append(dst, ' ')
		if kind.Text(row) != Geofence || !geofence.Has(row) {
			return append(dst, strings.ToLower(s.ActivityName(row))...)
		}
		switch e := event.Text(row); e {
		case "enter":
			dst = append(dst, "entered"...)
		case "exit":
			dst = append(dst, "left"...)
		default:
			dst = append(append(dst, e...), " in"...)
		}
		dst, _ = geofence.AppendText(append(dst, " geofence "...), row)
		return dst
	}
}

// fence is attribute geofence of the extension: the one of the row, else the one that a
// transit left or came to.
func fence(s *ocsf.State) []ocsf.Attr {
	event := s.Column("event")
	own, from, to := s.TakeText("geofence_uid"), s.TakeText("from_geofence"), s.TakeText("to_geofence")
	of := func(row int) *ocsf.Input {
		switch {
		case own.Has(row):
			return own
		case event.Text(row) == "end" && to.Has(row):
			return to
		case event.Text(row) == "start" && from.Has(row):
			return from
		}
		return nil
	}
	for _, in := range []*ocsf.Input{own, from, to} {
		s.HeldIf(in, func(row int) bool { return of(row) == in })
	}
	there := func(row int) bool { return of(row) != nil }
	attrs := []ocsf.Attr{{Name: "uid", Text: func(dst []byte, row int) ([]byte, bool) { return of(row).AppendText(dst, row) }}}
	for _, c := range [...]struct{ name, column string }{{"name", "geofence_name"}, {"type", "geofence_type"}} {
		if in := s.TakeText(c.column); in != nil {
			s.HeldIf(in, there)
			attrs = append(attrs, ocsf.Attr{Name: c.name, Text: in.AppendText})
		}
	}
	return []ocsf.Attr{{Name: "geofence", Of: attrs, Present: there}}
}

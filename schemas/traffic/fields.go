package traffic

import "github.com/tidemark/tidemark/schemas"

// EventTime is the field that is event time: when the counter was read.
const EventTime = "ts"

// Fields are the fields of a delta and where the default payload has them. entity is what
// the traffic belongs to, an autonomous system (AS64500) or an interface; source names
// the signal. bytes and packets count both directions, unless direction says which one. Where
// rows are samples of counters, sys_uptime is how long the device has been up, in 1/100 s, and
// discontinuity when the counter last began anew, in any unit.
func Fields() []schemas.Field {
	return []schemas.Field{
		{Name: "entity", Type: schemas.String, Path: "$.entity", Required: true},
		{Name: "device", Type: schemas.String, Path: "$.device"},
		{Name: "if_name", Type: schemas.String, Path: "$.if_name"},
		{Name: "direction", Type: schemas.String, Path: "$.direction"},
		{Name: "source", Type: schemas.String, Path: "$.source"},
		{Name: "bytes", Type: schemas.Int64, Path: "$.bytes"},
		{Name: "packets", Type: schemas.Int64, Path: "$.packets"},
		{Name: "bytes_in", Type: schemas.Int64, Path: "$.bytes_in"},
		{Name: "bytes_out", Type: schemas.Int64, Path: "$.bytes_out"},
		{Name: "packets_in", Type: schemas.Int64, Path: "$.packets_in"},
		{Name: "packets_out", Type: schemas.Int64, Path: "$.packets_out"},
		{Name: "requests", Type: schemas.Int64, Path: "$.requests"},
		{Name: "sys_uptime", Type: schemas.Int64, Path: "$.sys_uptime"},
		{Name: "discontinuity", Type: schemas.Int64, Path: "$.discontinuity"},
		{Name: EventTime, Type: schemas.Time, Unit: schemas.Millis, Path: "$.ts"},
	}
}

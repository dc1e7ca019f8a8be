package pdu

import "github.com/tidemark/tidemark/schemas"

// EventTime is the field that is event time: the device's own clock.
const EventTime = "ts_device"

// Fields are the fields of a reading and where the default payload has them. A reading is
// of one element (L1, B3, outlet 7) of one scope (unit, inlet, line, phase, branch,
// outlet, neutral). Values are SI; each counts in the resolution that its scale says: mA,
// mV, 0.1 W, Wh.
func Fields() []schemas.Field {
	return []schemas.Field{
		{Name: "pdu_id", Type: schemas.String, Path: "$.pdu_id", Required: true},
		{Name: "scope", Type: schemas.String, Path: "$.scope"},
		{Name: "element", Type: schemas.String, Path: "$.element"},
		{Name: "feed", Type: schemas.String, Path: "$.feed"},
		{Name: "wiring", Type: schemas.String, Path: "$.wiring"},
		{Name: "v", Type: schemas.Int64, Scale: 3, Bits: 31, Path: "$.v"},
		{Name: "a", Type: schemas.Int64, Scale: 3, Bits: 31, Path: "$.a"},
		{Name: "w", Type: schemas.Int64, Scale: 1, Bits: 31, Path: "$.w"},
		{Name: "va", Type: schemas.Int64, Scale: 1, Bits: 31, Path: "$.va"},
		{Name: "var", Type: schemas.Int64, Scale: 1, Bits: 31, Path: "$.var"},
		{Name: "pf", Type: schemas.Int64, Scale: 4, Bits: 31, Path: "$.pf"},
		{Name: "hz", Type: schemas.Int64, Scale: 2, Bits: 31, Path: "$.hz"},
		{Name: "kwh_total", Type: schemas.Int64, Scale: 3, Path: "$.kwh_total"},
		{Name: "state", Type: schemas.String, Path: "$.state"},
		{Name: "rated_a", Type: schemas.Int64, Scale: 1, Bits: 31, Path: "$.rated_a"},
		{Name: EventTime, Type: schemas.Time, Unit: schemas.Millis, Path: "$.ts_device"},
	}
}

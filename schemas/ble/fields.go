package ble

import "github.com/tidemark/tidemark/schemas"

// EventTime is the field that is event time: when the gateway heard the tag, or the tag's
// own clock if it has one.
const EventTime = "ts_event"

// Fields are the fields of a detection and where the default payload has them. Columns
// without a number type below are what their name says; temp_c counts 0.01 degrees, lat
// and lon 1e-7 degrees.
func Fields() []schemas.Field {
	return []schemas.Field{
		{Name: "asset_id", Type: schemas.String, Path: "$.asset_id", Required: true},
		{Name: "gateway_id", Type: schemas.String, Path: "$.gateway_id"},
		{Name: EventTime, Type: schemas.Time, Unit: schemas.Millis, Path: "$.ts_event"},
		{Name: "seq", Type: schemas.Int64, Path: "$.seq"},
		{Name: "rssi_dbm", Type: schemas.Int64, Bits: 16, Path: "$.rssi_dbm"},
		{Name: "tx_power_dbm", Type: schemas.Int64, Bits: 16, Path: "$.tx_power_dbm"},
		{Name: "battery_mv", Type: schemas.Int64, Bits: 31, Path: "$.battery_mv"},
		{Name: "temp_c", Type: schemas.Int64, Scale: 2, Bits: 31, Path: "$.temp_c"},
		{Name: "accel_x_mg", Type: schemas.Int64, Bits: 31, Path: "$.accel_mg[0]"},
		{Name: "accel_y_mg", Type: schemas.Int64, Bits: 31, Path: "$.accel_mg[1]"},
		{Name: "accel_z_mg", Type: schemas.Int64, Bits: 31, Path: "$.accel_mg[2]"},
		{Name: "lat", Type: schemas.Int64, Scale: 7, Path: "$.gps.lat"},
		{Name: "lon", Type: schemas.Int64, Scale: 7, Path: "$.gps.lon"},
		{Name: "acc_m", Type: schemas.Float64, Path: "$.gps.acc_m"},
		{Name: "speed_mps", Type: schemas.Float64, Path: "$.gps.speed_mps"},
		{Name: "buffered", Type: schemas.Bool, Path: "$.buffered"},
		{Name: "boot_count", Type: schemas.Int64, Path: "$.boot_count"},
	}
}

package main

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas"
	"github.com/tidemark/tidemark/schemas/ble"
	"github.com/tidemark/tidemark/schemas/ocsf"
	"github.com/tidemark/tidemark/schemas/pdu"
	"github.com/tidemark/tidemark/schemas/traffic"
)

// A feed is one kind of telemetry: its fields, which of them is event time, and what a
// window over it does unless the job says otherwise.
type feed struct {
	fields     func() []schemas.Field
	time       string
	key        []string
	aggregates []AggregateConfig
	mapper     func(ocsf.WindowConfig, *arrow.Schema) (*ocsf.Mapper, error)
	rowMapper  func(ocsf.RowConfig, *arrow.Schema) (*ocsf.Mapper, error)
}

// feedMapping is the feed whose records a mapping file describes.
const feedMapping = "mapping"

func feedOf(name string) (feed, error) {
	switch name {
	case feedMapping:
		return feed{fields: func() []schemas.Field { return nil }, time: colEventTime}, nil
	case "ble":
		return feed{ble.Fields, ble.EventTime, []string{"asset_id"}, []AggregateConfig{
			{Fn: "count", As: "count"},
			{Fn: "min", Column: "time", As: "first_event_time"},
			{Fn: "max", Column: "time", As: "last_event_time"},
			{Fn: "min", Column: "rssi_dbm", As: "rssi_min_dbm"},
			{Fn: "max", Column: "rssi_dbm", As: "rssi_max_dbm"},
			{Fn: "mean", Column: "rssi_dbm", As: "rssi_avg_dbm"},
			{Fn: "last", Column: "battery_mv", As: "battery_last_mv"},
		}, ble.NewWindowMapper, ble.NewRowMapper}, nil
	case "pdu":
		return feed{pdu.Fields, pdu.EventTime, []string{"pdu_id", "element"}, []AggregateConfig{
			{Fn: "count", As: "count"},
			{Fn: "mean", Column: "a", As: "current_a_avg"},
			{Fn: "max", Column: "a", As: "current_a_max"},
			{Fn: "mean", Column: "v", As: "voltage_v_avg"},
			{Fn: "mean", Column: "w", As: "power_w_avg"},
			{Fn: "last", Column: "kwh_total", As: "energy_kwh_last"},
		}, pdu.NewWindowMapper, pdu.NewRowMapper}, nil
	case "traffic":
		return feed{traffic.Fields, traffic.EventTime, []string{"entity"}, []AggregateConfig{
			{Fn: "count", As: "count"},
			{Fn: "sum", Column: "bytes", As: "bytes"},
			{Fn: "sum", Column: "packets", As: "packets"},
			{Fn: "sum", Column: "bytes_in", As: "bytes_in"},
			{Fn: "sum", Column: "bytes_out", As: "bytes_out"},
			{Fn: "sum", Column: "packets_in", As: "packets_in"},
			{Fn: "sum", Column: "packets_out", As: "packets_out"},
			{Fn: "sum", Column: "requests", As: "requests"},
		}, traffic.NewWindowMapper, traffic.NewRowMapper}, nil
	}
	return feed{}, fmt.Errorf("%q: known are ble, pdu, traffic, mapping", name)
}

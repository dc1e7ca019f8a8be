package ble

import (
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// NewWindowMapper maps window results about assets: to Device Inventory Info, in dialect
// ext to Asset Observation. The columns that it knows, all optional but the key: asset_id
// (else the first key is the asset), count, gateways (number of gateways that heard the
// asset), first_event_time, last_event_time, late_count, those of ocsf.DeviceFields and, in
// dialect ext, statistics of quantities: rssi_avg_dbm, battery_last_mv.
func NewWindowMapper(cfg ocsf.WindowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	spec := ocsf.Spec{
		Class:       ocsf.DeviceInventory(),
		Activity:    ocsf.Collect(),
		Entity:      "asset_id",
		Attrs:       attrs,
		Message:     message,
		Observables: true,
		ShowKind:    true,
	}
	if cfg.Dialect == ocsf.Ext {
		spec = ocsf.Spec{Class: cfg.AssetObservation(), Activity: ocsf.Aggregate(), Entity: "asset_id", Attrs: extAttrs}
	}
	return ocsf.NewWindowMapper(cfg, spec, in)
}

func attrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	return []ocsf.Attr{w.Device(ocsf.IOT())}, nil
}

func extAttrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	out := []ocsf.Attr{w.Device(ocsf.IOT()), w.AggWindow()}
	if m, ok := w.Measurements(statistic, w.Count); ok {
		out = append(out, m)
	}
	return out, nil
}

// quantities are what detections measure, by the names of columns.
func quantities() []struct {
	base, unit string
	ocsf.Quantity
} {
	return []struct {
		base, unit string
		ocsf.Quantity
	}{
		{"rssi", "dbm", ocsf.Quantity{Name: "rssi", Unit: "dB[mW]"}},
		{"tx_power", "dbm", ocsf.Quantity{Name: "tx_power", Unit: "dB[mW]"}},
		{"battery", "mv", ocsf.Quantity{Name: "battery_voltage", Unit: "mV"}},
		{"temp", "c", ocsf.Quantity{Name: "temperature", Unit: "Cel"}},
		{"accel_x", "mg", ocsf.Quantity{Name: "acceleration_x", Unit: "m[g]"}},
		{"accel_y", "mg", ocsf.Quantity{Name: "acceleration_y", Unit: "m[g]"}},
		{"accel_z", "mg", ocsf.Quantity{Name: "acceleration_z", Unit: "m[g]"}},
		{"acc", "m", ocsf.Quantity{Name: "position_accuracy", Unit: "m"}},
		{"speed", "mps", ocsf.Quantity{Name: "speed", Unit: "m/s"}},
	}
}

// statistic reads columns such as rssi_avg_dbm, and gateways.
func statistic(column string) (ocsf.Quantity, string, bool) {
	if column == "gateways" {
		return ocsf.Quantity{Name: "gateways", Unit: "1", Bare: true}, ocsf.ValueLast, true
	}
	q, value, ok := reading(column)
	return q, value, ok && value != ocsf.ValueNum // a window has no readings by themselves
}

// reading reads columns such as rssi_dbm and rssi_avg_dbm.
func reading(column string) (ocsf.Quantity, string, bool) {
	for _, q := range quantities() {
		if value, ok := ocsf.CutStatistic(column, q.base, q.unit); ok {
			return q.Quantity, value, true
		}
	}
	return ocsf.Quantity{}, "", false
}

// message says "41 detections of RC-0003811 by 3 gateways", as far as it is known.
func message(w *ocsf.Window) func(dst []byte, row int) []byte {
	gateways := w.Column("gateways")
	if gateways != nil && !gateways.IsInt() {
		gateways = nil
	}
	return func(dst []byte, row int) []byte {
		if n, ok := w.Count(row); ok {
			dst = ocsf.AppendCount(dst, n, "detection")
		} else {
			dst = append(dst, "detections"...)
		}
		dst = append(dst, " of "...)
		dst, _ = w.EntityText(dst, row)
		if n, ok := gateways.Int(row); ok {
			dst = ocsf.AppendCount(append(dst, " by "...), n, "gateway")
		}
		return dst
	}
}

// NewRowMapper maps detections: to Device Inventory Info, in dialect ext to Asset
// Observation. Besides the fields of the feed and those of ocsf.DeviceFields it knows
// gateway_name, gateway_time (when the gateway heard the tag, if event time is the tag's
// own), original_time and raw_bytes.
func NewRowMapper(cfg ocsf.RowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	spec := ocsf.RowSpec{
		Class:       ocsf.DeviceInventory(),
		Activity:    ocsf.Collect(),
		Entity:      "asset_id",
		Attrs:       func(r *ocsf.Row) ([]ocsf.Attr, error) { return []ocsf.Attr{r.Device(ocsf.IOT())}, nil },
		Metadata:    hops,
		Message:     heard,
		Observables: true,
		Unmapped:    unmappedDetection,
		Names:       []string{"gateway_uid", "accel_mg"},
	}
	if cfg.Dialect == ocsf.Ext {
		spec = ocsf.RowSpec{
			Class: cfg.AssetObservation(), Activity: ocsf.Detect(), Entity: "asset_id",
			Attrs: extDetection, Metadata: sourceUID, Message: heard,
		}
	}
	return ocsf.NewRowMapper(cfg, spec, in)
}

// hops says which gateway passed the detection on.
func hops(r *ocsf.Row) []ocsf.Attr {
	gateway := r.TakeText("gateway_id")
	if gateway == nil {
		return nil
	}
	typ := ocsf.IOT()
	device := []ocsf.Attr{
		{Name: "type_id", Fixed: typ.ID},
		{Name: "type", Fixed: typ.Name},
		{Name: "uid", Text: gateway.AppendText},
	}
	if name := r.TakeText("gateway_name"); name != nil {
		r.HeldIf(name, gateway.Has)
		device = append(device, ocsf.Attr{Name: "name", Text: name.AppendText})
	}
	logger := []ocsf.Attr{
		{Name: "name", Text: gateway.AppendText},
		{Name: "uid", Text: gateway.AppendText},
		{Name: "device", Of: device},
	}
	if at := r.TakeTime("gateway_time"); at != nil {
		r.HeldIf(at, gateway.Has)
		logger = append(logger, ocsf.Attr{Name: "logged_time", Int64: at.Int})
	}
	out := []ocsf.Attr{{Name: "loggers", List: true, Of: logger, Present: gateway.Has}}
	if r.Config.Version == ocsf.V180 { // there since 1.7.0
		out = append(out, ocsf.Attr{Name: "reporter", Of: []ocsf.Attr{
			{Name: "name", Text: gateway.AppendText},
			{Name: "uid", Text: gateway.AppendText},
		}, Present: gateway.Has})
	}
	return append(out, sourceUID(r)...)
}

// sourceUID is the id of the detection where it was made: <gateway>/<seq>. There is no
// place for it before 1.7.0.
func sourceUID(r *ocsf.Row) []ocsf.Attr {
	gateway := r.Column("gateway_id")
	if gateway == nil || r.Config.Version != ocsf.V180 {
		return nil
	}
	seq := r.TakeWhole("seq")
	if seq == nil {
		return nil
	}
	r.HeldIf(seq, gateway.Has)
	return []ocsf.Attr{{Name: "original_event_uid", Text: func(dst []byte, row int) ([]byte, bool) {
		n, ok := seq.Int(row)
		dst, there := gateway.AppendText(dst, row)
		return strconv.AppendInt(append(dst, '/'), n, 10), ok && there
	}}}
}

// unmappedDetection has the gateway under the name that OCSF would give it, and the
// acceleration as one vector.
func unmappedDetection(r *ocsf.Row) func(m *ocsf.Pairs, row int) {
	gateway := r.Column("gateway_id")
	axes := [...]*ocsf.Input{r.TakeWhole("accel_x_mg"), r.TakeWhole("accel_y_mg"), r.TakeWhole("accel_z_mg")}
	return func(m *ocsf.Pairs, row int) {
		if gateway.Has(row) {
			m.AddText("gateway_uid", gateway.Text(row))
		}
		if !axes[0].Has(row) && !axes[1].Has(row) && !axes[2].Has(row) {
			return
		}
		m.Add("accel_mg", func(dst []byte) ([]byte, bool) {
			for i, a := range axes {
				dst = append(dst, "[,,"[i])
				if n, ok := a.Int(row); ok {
					dst = strconv.AppendInt(dst, n, 10)
				} else {
					dst = append(dst, "null"...)
				}
			}
			return append(dst, ']'), true
		})
	}
}

func extDetection(r *ocsf.Row) ([]ocsf.Attr, error) {
	out := []ocsf.Attr{r.Device(ocsf.IOT())}
	if gateway := r.TakeText("gateway_id"); gateway != nil {
		of := []ocsf.Attr{{Name: "uid", Text: gateway.AppendText}, {Name: "type_id", Fixed: ocsf.IOT().ID}}
		if name := r.TakeText("gateway_name"); name != nil {
			r.HeldIf(name, gateway.Has)
			of = append(of, ocsf.Attr{Name: "name", Text: name.AppendText})
		}
		out = append(out, ocsf.Attr{Name: "gateway", Of: of, Present: gateway.Has})
	}
	read := func(column string) (ocsf.Quantity, string, bool) {
		q, value, ok := reading(column)
		return q, value, ok && value == ocsf.ValueNum
	}
	if m, ok := r.Measurements(read, nil); ok {
		out = append(out, m)
	}
	return out, nil
}

// heard says "RC-0003811 heard by GW-UTR-04 at -71 dBm", as far as it is known.
func heard(r *ocsf.Row) func(dst []byte, row int) []byte {
	gateway, rssi := r.Column("gateway_id"), r.Column("rssi_dbm")
	return func(dst []byte, row int) []byte {
		dst, _ = r.EntityText(dst, row)
		dst = append(dst, " heard"...)
		if text, ok := gateway.AppendText(append(dst, " by "...), row); ok {
			dst = text
		}
		if text, ok := rssi.AppendText(append(dst, " at "...), row); ok {
			dst = append(text, " dBm"...)
		}
		return dst
	}
}

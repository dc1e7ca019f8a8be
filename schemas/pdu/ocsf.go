package pdu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// NewWindowMapper maps window results about PDUs: to Device Inventory Info, in dialect ext
// to Device Measurement. The columns that it knows, all optional but the key: pdu_id (else
// the first key is the PDU), count, <element>_current_a_max in A, imbalance_pct_max, those
// of ocsf.DeviceFields and, in dialect ext, first_event_time, last_event_time, late_count
// and statistics of quantities, at least one: total_power_w_avg, or current_a_avg with a
// column element that says of which.
func NewWindowMapper(cfg ocsf.WindowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	spec := ocsf.Spec{
		Class:       ocsf.DeviceInventory(),
		Activity:    ocsf.Collect(),
		Entity:      "pdu_id",
		Attrs:       attrs,
		Message:     message,
		Observables: true,
		ShowKind:    true,
	}
	if cfg.Dialect == ocsf.Ext {
		spec = ocsf.Spec{Class: cfg.DeviceMeasurement(), Activity: ocsf.Aggregate(), Entity: "pdu_id", Attrs: extAttrs}
	}
	return ocsf.NewWindowMapper(cfg, spec, in)
}

// unit is the type of device.
func unit() ocsf.Enum { return ocsf.Other("PDU") }

func attrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	return []ocsf.Attr{w.Inputs.Device(w.Config.Version, unit(), w.EntityText, nil)}, nil
}

func extAttrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	device := w.Inputs.Device(w.Config.Version, unit(), w.EntityText, nil)
	window := w.AggWindow()
	read := func(column string) (ocsf.Quantity, string, bool) {
		q, value, ok := quantity(column, w.Column("element"))
		return q, value, ok && value != ocsf.ValueNum // a window has no readings by themselves
	}
	m, err := w.RequireMeasurements(read, w.Count, "current_a_avg")
	return []ocsf.Attr{device, window, m}, err
}

// quantities are what readings measure: the base of columns of windows and of rows with
// all phases, the unit in their names, and the column of rows with one element.
func quantities() []struct {
	base, unit, field string
	ocsf.Quantity
} {
	return []struct {
		base, unit, field string
		ocsf.Quantity
	}{
		{"current", "a", "a", ocsf.Quantity{Name: "current", Unit: "A"}},
		{"voltage", "v", "v", ocsf.Quantity{Name: "voltage", Unit: "V"}},
		{"power", "w", "w", ocsf.Quantity{Name: "active_power", Unit: "W"}},
		{"apparent_power", "va", "va", ocsf.Quantity{Name: "apparent_power", Unit: "V.A"}},
		{"reactive_power", "var", "var", ocsf.Quantity{Name: "reactive_power", Unit: "V.A"}},
		{"power_factor", "ratio", "pf", ocsf.Quantity{Name: "power_factor", Unit: "1"}},
		{"frequency", "hz", "hz", ocsf.Quantity{Name: "frequency", Unit: "Hz"}},
		{"energy", "kwh", "kwh_total", ocsf.Quantity{Name: "energy", Unit: "kW.h"}},
		{"energy", "wh", "", ocsf.Quantity{Name: "energy", Unit: "W.h", Phase: total}},
		{"imbalance", "pct", "", ocsf.Quantity{Name: "current_imbalance", Unit: "%", Phase: total}},
	}
}

// total is the phase of what all phases have together.
const total = "total"

// quantity reads columns such as L1_L2_voltage_v, total_power_w_avg and a. The phase is in
// front of the name; else that of column element, if there is one.
func quantity(column string, element *ocsf.Input) (ocsf.Quantity, string, bool) {
	phase, name := cutPhase(column)
	for _, q := range quantities() {
		value, ok := ocsf.CutStatistic(name, q.base, q.unit)
		if q.field != "" && column == q.field {
			value, ok = ocsf.ValueNum, true
		}
		if !ok {
			continue
		}
		switch {
		case phase != "":
			q.Phase = phase
		case q.Phase == "":
			q.PhaseOf = element
		}
		return q.Quantity, value, true
	}
	return ocsf.Quantity{}, "", false
}

// cutPhase reads the phase that a column name begins with: L1_current_a, L1_L2_voltage_v.
func cutPhase(column string) (phase, name string) {
	for _, p := range [...]string{"L1_L2", "L2_L3", "L3_L1", "L1", "L2", "L3", "N", total} {
		if rest, ok := strings.CutPrefix(column, p+"_"); ok {
			return strings.ReplaceAll(p, "_", "-"), rest
		}
	}
	return "", column
}

// peak finds the element with the largest current in a row, the first of equals.
type peak []element

type element struct {
	name string
	amps *ocsf.Input
}

// newPeak collects the columns <element><suffix>.
func newPeak(columns []*ocsf.Input, suffix string) peak {
	var p peak
	for _, c := range columns {
		if name, ok := strings.CutSuffix(c.Name, suffix); ok && isElement(name) {
			p = append(p, element{name, c})
		}
	}
	return p
}

// isElement tells limits, which are currents too, from elements.
func isElement(name string) bool { return !slices.Contains([]string{"rated", "fuse"}, name) }

func (p peak) of(row int) (name string, amps float64) {
	for _, e := range p {
		if a, ok := e.amps.Number(row); ok && (name == "" || a > amps) {
			name, amps = e.name, a
		}
	}
	return name, amps
}

// message says "30 readings, L2 max 21.3 A, imbalance 17.0 %", as far as it is known. The
// element is the one with the largest current.
func message(w *ocsf.Window) func(dst []byte, row int) []byte {
	highest := newPeak(w.All(), "_current_a_max")
	imbalance := w.Column("imbalance_pct_max")
	return func(dst []byte, row int) []byte {
		if n, ok := w.Count(row); ok {
			dst = ocsf.AppendCount(dst, n, "reading")
		} else {
			dst = append(dst, "readings"...)
		}
		if name, amps := highest.of(row); name != "" {
			dst = append(append(append(dst, ", "...), name...), " max "...)
			dst = append(tenths(dst, amps), " A"...)
		}
		if pct, ok := imbalance.Number(row); ok {
			dst = append(tenths(append(dst, ", imbalance "...), pct), " %"...)
		}
		return dst
	}
}

// tenths writes a number with one digit behind the point.
func tenths(dst []byte, f float64) []byte { return strconv.AppendFloat(dst, f, 'f', 1, 64) }

// NewRowMapper maps readings: to Device Inventory Info, in dialect ext to Device
// Measurement. A row has one element of a PDU, as the fields of the feed say, or several
// of them side by side: L1_current_a, L1_L2_voltage_v, total_power_w, energy_wh. It also
// knows the columns of ocsf.DeviceFields, original_time and raw_bytes.
func NewRowMapper(cfg ocsf.RowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	spec := ocsf.RowSpec{
		Class:       ocsf.DeviceInventory(),
		Activity:    ocsf.Collect(),
		Entity:      "pdu_id",
		Attrs:       func(r *ocsf.Row) ([]ocsf.Attr, error) { return []ocsf.Attr{readDevice(r)}, nil },
		Message:     draws,
		Observables: true,
	}
	if cfg.Dialect == ocsf.Ext {
		spec = ocsf.RowSpec{Class: cfg.DeviceMeasurement(), Activity: ocsf.Sample(), Entity: "pdu_id", Attrs: extReading}
	}
	return ocsf.NewRowMapper(cfg, spec, in)
}

func readDevice(r *ocsf.Row) ocsf.Attr {
	return r.Inputs.Device(r.Config.Version, unit(), r.EntityText, nil)
}

func extReading(r *ocsf.Row) ([]ocsf.Attr, error) {
	device := readDevice(r)
	read := func(column string) (ocsf.Quantity, string, bool) {
		q, value, ok := quantity(column, r.Column("element"))
		return q, value, ok && value == ocsf.ValueNum
	}
	m, err := r.RequireMeasurements(read, nil, "current_a")
	return []ocsf.Attr{device, m}, err
}

// draws says "PDU-LIS01-R12-A 6.57 kW, peak phase L2 21.3 A", or of one element
// "PDU-LIS01-R12-A B3 1.73 kW, 8.3 A", as far as it is known.
func draws(r *ocsf.Row) func(dst []byte, row int) []byte {
	name, amps := r.Column("element"), r.Column("a")
	all, own := r.Column("total_power_w"), r.Column("w")
	highest := newPeak(r.All(), "_current_a")
	return func(dst []byte, row int) []byte {
		dst, _ = r.EntityText(dst, row)
		if text, ok := name.AppendText(append(dst, ' '), row); ok {
			dst = text
		}
		comma := ""
		watts := own
		if all.Has(row) {
			watts = all
		}
		if w, ok := watts.Number(row); ok {
			dst = append(strconv.AppendFloat(append(dst, ' '), w/1000, 'f', 2, 64), " kW"...)
			comma = ","
		}
		if a, ok := amps.Number(row); ok {
			dst = append(tenths(append(append(dst, comma...), ' '), a), " A"...)
		}
		if phase, a := highest.of(row); phase != "" {
			dst = append(append(append(dst, comma...), " peak phase "...), phase...)
			dst = append(tenths(append(dst, ' '), a), " A"...)
		}
		return dst
	}
}

package power

import (
	"fmt"
	"math"
)

// Quantity is what a reading measures.
type Quantity string

const (
	CurrentA     Quantity = "a"
	VoltageV     Quantity = "v"
	PowerW       Quantity = "w"
	ApparentVA   Quantity = "va"
	ReactiveVar  Quantity = "var"
	PowerFactor  Quantity = "pf"
	FrequencyHz  Quantity = "hz"
	EnergyKWh    Quantity = "kwh_total"
	ApparentKVAh Quantity = "kvah_total"
	RatedA       Quantity = "rated_a"
	// VendorImbalance is the device's own figure in percent; it is never mixed with ours.
	VendorImbalance Quantity = "vendor_imbalance_pct"
	UtilisedPct     Quantity = "utilised_pct"
)

// Scope is the part of a PDU that a reading is of.
type Scope string

const (
	Unit    Scope = "unit"
	Inlet   Scope = "inlet"
	Line    Scope = "line"
	Phase   Scope = "phase"
	Branch  Scope = "branch"
	Outlet  Scope = "outlet"
	Neutral Scope = "neutral"
)

// Scopes are all of them.
func Scopes() []Scope { return []Scope{Unit, Inlet, Line, Phase, Branch, Outlet, Neutral} }

// Object is a numeric object of a vendor's MIB: what it is, and by what its integer is
// multiplied. Exporters of SNMP leave the integers as they are.
type Object struct {
	Quantity Quantity
	Scope    Scope
	Scale    float64
	// Digits says that the scale is 10 to the minus of what the device reports beside it.
	Digits bool
	// None is the integer that stands for "not supported"; HasNone whether there is one.
	None    int64
	HasNone bool
}

// minus1 marks the objects of MIBs whose ranges begin at -1, which is "not supported".
func minus1(q Quantity, s Scope, scale float64) Object {
	return Object{Quantity: q, Scope: s, Scale: scale, None: -1, HasNone: true}
}

// objectOf knows the objects of APC (PowerNet-MIB), ServerTech (Sentry3-MIB, Sentry4-MIB) and
// Raritan (PDU-MIB, of PX1) by their names.
func objectOf(name string) (Object, bool) {
	switch name {
	case "rPDU2DeviceStatusPower":
		return minus1(PowerW, Unit, 10), true
	case "rPDU2DeviceStatusEnergy":
		return minus1(EnergyKWh, Unit, 0.1), true
	case "rPDU2DeviceStatusApparentPower":
		return minus1(ApparentVA, Unit, 10), true
	case "rPDU2DeviceStatusPowerFactor":
		return minus1(PowerFactor, Unit, 0.01), true
	case "rPDU2PhaseStatusCurrent":
		return minus1(CurrentA, Line, 0.1), true
	case "rPDU2PhaseStatusVoltage":
		return minus1(VoltageV, Phase, 1), true
	case "rPDU2PhaseStatusPower":
		return minus1(PowerW, Phase, 10), true
	case "rPDU2BankStatusCurrent":
		return minus1(CurrentA, Branch, 0.1), true
	case "infeedLoadValue":
		return minus1(CurrentA, Line, 0.01), true
	case "infeedCapacity":
		return minus1(RatedA, Line, 1), true
	case "infeedVoltage":
		return minus1(VoltageV, Inlet, 0.1), true
	case "infeedPower":
		return minus1(PowerW, Inlet, 1), true
	case "infeedEnergy":
		return minus1(EnergyKWh, Inlet, 0.1), true
	case "infeedPhaseVoltage":
		return minus1(VoltageV, Phase, 0.1), true
	case "outletLoadValue":
		return minus1(CurrentA, Outlet, 0.01), true
	case "outletPower":
		return minus1(PowerW, Outlet, 1), true
	case "outletEnergy":
		return minus1(EnergyKWh, Outlet, 0.001), true
	case "st4InputCordActivePower":
		return minus1(PowerW, Inlet, 1), true
	case "st4InputCordApparentPower":
		return minus1(ApparentVA, Inlet, 1), true
	case "st4InputCordPowerFactor":
		return minus1(PowerFactor, Inlet, 0.01), true
	case "st4InputCordEnergy":
		return minus1(EnergyKWh, Inlet, 0.1), true
	case "st4InputCordFrequency":
		return minus1(FrequencyHz, Inlet, 0.1), true
	case "st4InputCordOutOfBalance":
		return minus1(VendorImbalance, Inlet, 0.1), true
	case "st4LineCurrent":
		return minus1(CurrentA, Line, 0.01), true
	case "st4LineCurrentUtilized":
		return minus1(UtilisedPct, Line, 0.1), true
	case "st4PhaseVoltage":
		return minus1(VoltageV, Phase, 0.1), true
	case "st4BranchCurrent":
		return minus1(CurrentA, Branch, 0.01), true
	case "st4OutletCurrent":
		return minus1(CurrentA, Outlet, 0.01), true
	case "st4OutletActivePower":
		return minus1(PowerW, Outlet, 1), true
	case "st4OutletEnergy":
		return minus1(EnergyKWh, Outlet, 0.001), true
	case "inletCurrent":
		return Object{Quantity: CurrentA, Scope: Inlet, Scale: 0.001}, true
	case "inletVoltage":
		return Object{Quantity: VoltageV, Scope: Inlet, Scale: 0.001}, true
	case "inletActivePower":
		return Object{Quantity: PowerW, Scope: Inlet, Scale: 1}, true
	case "outletCurrent":
		return Object{Quantity: CurrentA, Scope: Outlet, Scale: 0.001}, true
	case "outletWattHours":
		return Object{Quantity: EnergyKWh, Scope: Outlet, Scale: 0.001}, true
	}
	return Object{}, false
}

// sensorOf knows the sensor types of Raritan's PDU2-MIB (PX2, PX3), whose integers have as many
// decimal digits as the device says.
func sensorOf(typ int) (Quantity, float64, bool) {
	switch typ {
	case 1:
		return CurrentA, 1, true
	case 3:
		return VendorImbalance, 1, true
	case 4, 25: // between lines, and to neutral
		return VoltageV, 1, true
	case 5:
		return PowerW, 1, true
	case 6:
		return ApparentVA, 1, true
	case 7:
		return PowerFactor, 1, true
	case 8: // Wh
		return EnergyKWh, 0.001, true
	case 9: // VAh
		return ApparentKVAh, 0.001, true
	case 23:
		return FrequencyHz, 1, true
	case 29:
		return ReactiveVar, 1, true
	}
	return "", 0, false
}

// Reading is a value in SI; OK is false where the device does not support it.
type Reading struct {
	Quantity Quantity
	Scope    Scope
	Value    float64
	OK       bool
}

// Convert turns the integer of a vendor's object into SI.
func Convert(object string, raw int64) (Reading, error) {
	o, ok := objectOf(object)
	if !ok {
		return Reading{}, fmt.Errorf("object %q is unknown", object)
	}
	if o.HasNone && raw == o.None {
		return Reading{Quantity: o.Quantity, Scope: o.Scope}, nil
	}
	return Reading{o.Quantity, o.Scope, scaled(raw, o.Scale), true}, nil
}

// ConvertSensor turns the integer of a sensor of Raritan's PDU2-MIB into SI. Digits is the
// sensor's DecimalDigits.
func ConvertSensor(typ int, scope Scope, raw int64, digits int) (Reading, error) {
	q, unit, ok := sensorOf(typ)
	if !ok {
		return Reading{}, fmt.Errorf("sensor type %d is unknown", typ)
	}
	if digits < 0 || digits > 9 {
		return Reading{}, fmt.Errorf("sensor type %d: %d decimal digits: want 0 to 9", typ, digits)
	}
	return Reading{q, scope, scaled(raw, unit*math.Pow10(-digits)), true}, nil
}

// scaled multiplies by a power of ten, dividing where that is exact: 2130 at 0.01 is 21.3.
func scaled(raw int64, scale float64) float64 {
	if scale < 1 {
		return float64(raw) / math.Round(1/scale)
	}
	return float64(raw) * scale
}

package pdu

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// NewWindowMapper maps window results about PDUs to Device Inventory Info. The columns
// that it knows, all optional but the key: pdu_id (else the first key is the PDU), count,
// <element>_current_a_max in A, imbalance_pct_max.
func NewWindowMapper(cfg ocsf.WindowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	return ocsf.NewWindowMapper(cfg, ocsf.Spec{
		Class:       ocsf.DeviceInventory(),
		Activity:    ocsf.Collect(),
		Entity:      "pdu_id",
		Attrs:       attrs,
		Message:     message,
		Observables: true,
		ShowKind:    true,
	}, in)
}

func attrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	typ := ocsf.OtherDevice("PDU")
	return []ocsf.Attr{{Name: "device", Of: []ocsf.Attr{
		{Name: "type_id", Fixed: typ.ID},
		{Name: "type", Fixed: typ.Name},
		{Name: "uid", Text: w.EntityText},
	}}}, nil
}

// message says "30 readings, L2 max 21.3 A, imbalance 17.0 %", as far as it is known. The
// element is the one with the largest current, the first of equals.
func message(w *ocsf.Window) func(dst []byte, row int) []byte {
	type element struct {
		name string
		max  *ocsf.Input
	}
	var elements []element
	for _, c := range w.Columns() {
		if name, ok := strings.CutSuffix(c.Name, "_current_a_max"); ok {
			elements = append(elements, element{name, c})
		}
	}
	imbalance := w.Column("imbalance_pct_max")
	return func(dst []byte, row int) []byte {
		if n, ok := w.Count(row); ok {
			dst = ocsf.AppendCount(dst, n, "reading")
		} else {
			dst = append(dst, "readings"...)
		}
		most, amps := -1, 0.0
		for i, e := range elements {
			if a, ok := e.max.Float(row); ok && (most < 0 || a > amps) {
				most, amps = i, a
			}
		}
		if most >= 0 {
			dst = fmt.Appendf(dst, ", %s max %.1f A", elements[most].name, amps)
		}
		if pct, ok := imbalance.Float(row); ok {
			dst = fmt.Appendf(dst, ", imbalance %.1f %%", pct)
		}
		return dst
	}
}

package ble

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// NewWindowMapper maps window results about assets to Device Inventory Info. The columns
// that it knows, all optional but the key: asset_id (else the first key is the asset),
// count, gateways (number of gateways that heard the asset), last_event_time.
func NewWindowMapper(cfg ocsf.WindowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	return ocsf.NewWindowMapper(cfg, ocsf.Spec{
		Class:       ocsf.DeviceInventory(),
		Activity:    ocsf.Collect(),
		Entity:      "asset_id",
		Attrs:       attrs,
		Message:     message,
		Observables: true,
		ShowKind:    true,
	}, in)
}

func attrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	typ := ocsf.IOT()
	device := []ocsf.Attr{
		{Name: "type_id", Fixed: typ.ID},
		{Name: "type", Fixed: typ.Name},
		{Name: "uid", Text: w.EntityText},
	}
	if last := w.Column("last_event_time"); last != nil && last.IsInt() {
		device = append(device, ocsf.Attr{Name: "last_seen_time", Int64: last.Int})
	}
	return []ocsf.Attr{{Name: "device", Of: device}}, nil
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

package traffic

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// NewWindowMapper maps window results about traffic to Network Activity. The columns that
// it knows, all optional but the key: entity (else the first key is the destination),
// direction, and what passed in the window: bytes, packets, bytes_in, bytes_out,
// packets_in, packets_out, whole numbers each.
func NewWindowMapper(cfg ocsf.WindowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	return ocsf.NewWindowMapper(cfg, ocsf.Spec{
		Class:    ocsf.NetworkActivity(),
		Activity: ocsf.Traffic(),
		Entity:   "entity",
		Attrs:    attrs,
		Message:  message,
	}, in)
}

func attrs(w *ocsf.Window) ([]ocsf.Attr, error) {
	var out []ocsf.Attr
	if w.Config.Version == ocsf.V110 { // both ends are required until 1.2.0
		out = append(out, ocsf.Attr{Name: "src_endpoint", Of: []ocsf.Attr{{Name: "name", Fixed: "any"}, {Name: "uid", Fixed: "any"}}})
	}
	dst := []ocsf.Attr{{Name: "uid", Text: w.EntityText}}
	if w.Config.Version != ocsf.V110 {
		number := asNumber(w)
		dst = append(dst, ocsf.Attr{
			Name:    "autonomous_system",
			Of:      []ocsf.Attr{{Name: "number", Int64: number}},
			Present: func(row int) bool { _, ok := number(row); return ok },
		})
	}
	out = append(out, ocsf.Attr{Name: "dst_endpoint", Of: dst})

	if word := w.Take("direction"); word != nil {
		direction := func(row int) ocsf.Enum {
			text, _ := word.AppendText(nil, row)
			return ocsf.Direction(string(text))
		}
		out = append(out, ocsf.Attr{Name: "connection_info", Of: []ocsf.Attr{
			{Name: "direction_id", Int32: func(row int) (int32, bool) { return direction(row).ID, true }, Required: true},
			{Name: "direction", Text: func(dst []byte, row int) ([]byte, bool) { return append(dst, direction(row).Name...), true }},
		}})
	}

	var passed []ocsf.Attr
	var errs []error
	for _, name := range [...]string{"bytes", "packets", "bytes_in", "bytes_out", "packets_in", "packets_out"} {
		c, err := w.TakeInt(name)
		if err != nil {
			errs = append(errs, err)
		} else if c != nil {
			passed = append(passed, ocsf.Attr{Name: name, Int64: c.Int})
		}
	}
	if w.Config.Version == ocsf.V180 {
		span := ocsf.TimeInterval()
		passed = append(passed,
			ocsf.Attr{Name: "start_time", Int64: w.Start},
			ocsf.Attr{Name: "end_time", Int64: w.End},
			ocsf.Attr{Name: "timespan", Of: []ocsf.Attr{
				{Name: "type_id", Fixed: span.ID},
				{Name: "type", Fixed: span.Name},
				{Name: "start_time", Int64: w.Start},
				{Name: "end_time", Int64: w.End},
				{Name: "duration", Int64: w.Duration},
			}})
	}
	if len(passed) > 0 {
		out = append(out, ocsf.Attr{Name: "traffic", Of: passed})
	}
	return out, errors.Join(errs...)
}

// asNumber reads the number of entities that are autonomous systems: AS64500.
func asNumber(w *ocsf.Window) func(row int) (int64, bool) {
	return func(row int) (int64, bool) {
		var buf [16]byte
		text, _ := w.EntityText(buf[:0], row)
		digits, ok := strings.CutPrefix(string(text), "AS")
		n, err := strconv.ParseUint(digits, 10, 32)
		return int64(n), ok && err == nil
	}
}

// message says "AS64500 15 min traffic 918 MB", as far as it is known.
func message(w *ocsf.Window) func(dst []byte, row int) []byte {
	bytes := w.Column("bytes")
	return func(dst []byte, row int) []byte {
		if text, ok := w.EntityText(dst, row); ok {
			dst = append(text, ' ')
		}
		if ms, ok := w.Duration(row); ok {
			dst = append(appendDuration(dst, ms), ' ')
		}
		dst = append(dst, "traffic"...)
		if n, ok := bytes.Int(row); ok {
			dst = appendSize(append(dst, ' '), n)
		}
		return dst
	}
}

// appendDuration writes the largest unit that divides ms.
func appendDuration(dst []byte, ms int64) []byte {
	for _, u := range [...]struct {
		ms   int64
		name string
	}{{86400000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}} {
		if ms != 0 && ms%u.ms == 0 {
			return fmt.Appendf(dst, "%d %s", ms/u.ms, u.name)
		}
	}
	return fmt.Appendf(dst, "%d ms", ms)
}

// appendSize writes a number of bytes with three digits, cut, in decimal units: 918 MB,
// 9.18 GB, 91.8 GB.
func appendSize(dst []byte, n int64) []byte {
	if n < 1000 {
		return fmt.Appendf(dst, "%d B", n)
	}
	unit := int64(1000)
	names := [...]string{"kB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for n/unit >= 1000 {
		unit *= 1000
		i++
	}
	switch whole := n / unit; {
	case whole >= 100:
		return fmt.Appendf(dst, "%d %s", whole, names[i])
	case whole >= 10:
		return fmt.Appendf(dst, "%d.%d %s", whole, n%unit/(unit/10), names[i])
	default:
		return fmt.Appendf(dst, "%d.%02d %s", whole, n%unit/(unit/100), names[i])
	}
}

package traffic

import (
	"bytes"
	"errors"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// NewWindowMapper maps window results about traffic to Network Activity, in both dialects.
// The columns that it knows, all optional but the key: entity (else the first key is the
// destination), direction, what passed in the window (bytes, packets, bytes_in, bytes_out,
// packets_in, packets_out, whole numbers each), those of Describing and, from 1.8.0 on, the
// states of the counters at its end: bytes_total, packets_total and the like.
func NewWindowMapper(cfg ocsf.WindowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	return ocsf.NewWindowMapper(cfg, ocsf.Spec{
		Class:    ocsf.NetworkActivity(),
		Activity: ocsf.Traffic(),
		Entity:   "entity",
		Attrs: func(w *ocsf.Window) ([]ocsf.Attr, error) {
			return attrs(w.Inputs, w.Config.Version, w.EntityText, w.Span())
		},
		Message: message,
	}, in)
}

// NewRowMapper maps deltas of counters to Network Activity, in both dialects. Besides the
// fields of the feed it knows the columns of Describing and, from 1.8.0 on, the states of
// the counters: bytes_total, packets_total and the like.
func NewRowMapper(cfg ocsf.RowConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	return ocsf.NewRowMapper(cfg, ocsf.RowSpec{
		Class:    ocsf.NetworkActivity(),
		Activity: ocsf.Traffic(),
		Entity:   "entity",
		Attrs: func(r *ocsf.Row) ([]ocsf.Attr, error) {
			return attrs(r.Inputs, r.Config.Version, r.EntityText, nil)
		},
		Message: passed,
	}, in)
}

// Describing are the columns in which rows may say more about their entity than its id;
// reference tables have them. A location needs a country, region or city.
func Describing() []arrow.Field {
	var out []arrow.Field
	for _, name := range []string{"entity_name", "as_name", "country", "region", "city"} {
		out = append(out, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
	}
	return out
}

// attrs has the attributes of the class. span are those of traffic that say when it passed.
func attrs(c *ocsf.Inputs, v ocsf.Version, entity text, span []ocsf.Attr) ([]ocsf.Attr, error) {
	var out []ocsf.Attr
	if v == ocsf.V110 { // both ends are required until 1.2.0
		out = append(out, ocsf.Attr{Name: "src_endpoint", Of: []ocsf.Attr{{Name: "name", Fixed: "any"}, {Name: "uid", Fixed: "any"}}})
	}
	out = append(out, ocsf.Attr{Name: "dst_endpoint", Of: append(endpoint(c, v, entity), autonomous(c, v, entity)...)})
	if word := c.TakeText("direction"); word != nil {
		of := func(row int) ocsf.Enum { return ocsf.Direction(word.Text(row)) }
		out = append(out, ocsf.Attr{Name: "connection_info", Of: []ocsf.Attr{
			{Name: "direction_id", Int32: func(row int) (int32, bool) { return of(row).ID, true }, Required: true},
			{Name: "direction", Text: func(dst []byte, row int) ([]byte, bool) { return append(dst, of(row).Name...), true }},
		}})
	}
	delta, err := counters(c, "")
	if delta = append(delta, span...); len(delta) > 0 {
		out = append(out, ocsf.Attr{Name: "traffic", Of: delta})
	}
	if v != ocsf.V180 {
		return out, err
	}
	// There since 1.7.0 and 1.8.0: the state of the counters, and who read them.
	states, errStates := counters(c, "_total")
	if len(states) > 0 {
		out = append(out, ocsf.Attr{Name: "cumulative_traffic", Of: states, Present: anyOf(states)})
	}
	return append(out, observer(c)...), errors.Join(err, errStates)
}

// text appends the text of a row; false for null.
type text = func(dst []byte, row int) ([]byte, bool)

// endpoint has the members of the end that the traffic belongs to.
func endpoint(c *ocsf.Inputs, v ocsf.Version, entity text) []ocsf.Attr {
	of := []ocsf.Attr{{Name: "uid", Text: ocsf.Identity(entity)}}
	if name := c.TakeText("entity_name"); name != nil {
		of = append(of, ocsf.Attr{Name: "name", Text: name.AppendText})
	}
	return append(of, c.Location(v)...)
}

// autonomous is the member of an endpoint that is an autonomous system. There is none in
// 1.1.0.
func autonomous(c *ocsf.Inputs, v ocsf.Version, entity text) []ocsf.Attr {
	if v == ocsf.V110 {
		return nil
	}
	number := asNumber(entity)
	known := func(row int) bool { _, ok := number(row); return ok }
	of := []ocsf.Attr{{Name: "number", Int64: number}}
	if name := c.TakeText("as_name"); name != nil {
		of = append(of, ocsf.Attr{Name: "name", Text: name.AppendText})
		known = func(row int) bool { _, ok := number(row); return ok || name.Has(row) }
	}
	return []ocsf.Attr{{Name: "autonomous_system", Of: of, Present: known}}
}

// counters has the members of a network_traffic. Their columns have a suffix.
func counters(c *ocsf.Inputs, suffix string) ([]ocsf.Attr, error) {
	var out []ocsf.Attr
	var errs []error
	for _, name := range [...]string{"bytes", "packets", "bytes_in", "bytes_out", "packets_in", "packets_out"} {
		in, err := c.TakeInt(name + suffix)
		if err != nil {
			errs = append(errs, err)
		} else if in != nil {
			out = append(out, ocsf.Attr{Name: name, Int64: in.Int})
		}
	}
	return out, errors.Join(errs...)
}

// anyOf tells in which rows one of whole numbers is there.
func anyOf(of []ocsf.Attr) func(row int) bool {
	return func(row int) bool {
		for i := range of {
			if _, ok := of[i].Int64(row); ok {
				return true
			}
		}
		return false
	}
}

// observer has the device that read the counters, which is neither end of the traffic.
func observer(c *ocsf.Inputs) []ocsf.Attr {
	device := c.TakeText("device")
	if device == nil {
		return nil
	}
	return []ocsf.Attr{
		{Name: "network_observation_point", Of: []ocsf.Attr{
			{Name: "name", Text: device.AppendText},
			{Name: "uid", Text: device.AppendText},
		}, Present: device.Has},
		{Name: "observation_point_id", Int32: func(row int) (int32, bool) { return 3, device.Has(row) }},
		{Name: "observation_point", Text: func(dst []byte, row int) ([]byte, bool) { return append(dst, "Neither"...), device.Has(row) }},
	}
}

// asNumber reads the number of entities that are autonomous systems: AS64500. The room for
// their text is used again: a mapper is used by one goroutine.
func asNumber(entity text) func(row int) (int64, bool) {
	var buf []byte
	return func(row int) (int64, bool) {
		buf, _ = entity(buf[:0], row)
		digits, ok := bytes.CutPrefix(buf, []byte("AS"))
		if !ok || len(digits) == 0 || len(digits) > 10 {
			return 0, false
		}
		var n int64
		for _, d := range digits {
			if d < '0' || d > '9' {
				return 0, false
			}
			n = n*10 + int64(d-'0')
		}
		return n, n <= math.MaxUint32
	}
}

// passed says "AS64500 in 918 MB", as far as it is known.
func passed(r *ocsf.Row) func(dst []byte, row int) []byte {
	direction, size := r.Column("direction"), r.Column("bytes")
	return func(dst []byte, row int) []byte {
		dst, _ = r.EntityText(dst, row)
		if text, ok := direction.AppendText(append(dst, ' '), row); ok {
			dst = text
		}
		if n, ok := size.Int(row); ok {
			dst = appendSize(append(dst, ' '), n)
		}
		return dst
	}
}

// message says "AS64500 15 min traffic 918 MB", as far as it is known.
func message(w *ocsf.Window) func(dst []byte, row int) []byte {
	size := w.Column("bytes")
	return func(dst []byte, row int) []byte {
		if text, ok := w.EntityText(dst, row); ok {
			dst = append(text, ' ')
		}
		if ms, ok := w.Duration(row); ok {
			dst = append(ocsf.AppendDuration(dst, ms), ' ')
		}
		dst = append(dst, "traffic"...)
		if n, ok := size.Int(row); ok {
			dst = appendSize(append(dst, ' '), n)
		}
		return dst
	}
}

// appendSize writes a number of bytes with three digits, cut, in decimal units: 918 MB,
// 9.18 GB, 91.8 GB.
func appendSize(dst []byte, n int64) []byte {
	if n < 1000 {
		return append(strconv.AppendInt(dst, n, 10), " B"...)
	}
	unit := int64(1000)
	names := [...]string{" kB", " MB", " GB", " TB", " PB", " EB"}
	i := 0
	for n/unit >= 1000 {
		unit *= 1000
		i++
	}
	whole, rest := n/unit, n%unit
	dst = strconv.AppendInt(dst, whole, 10)
	if whole < 100 {
		dst = append(dst, '.', byte('0'+rest/(unit/10)))
	}
	if whole < 10 {
		dst = append(dst, byte('0'+rest/(unit/100)%10))
	}
	return append(dst, names[i]...)
}

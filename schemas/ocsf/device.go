package ocsf

import (
	"github.com/apache/arrow-go/v18/arrow"
)

// DeviceFields are the columns in which rows may say more about their device than its uid;
// reference tables have them. Longitude and latitude are in degrees. A location needs a
// country, region, city or postal code: OCSF does not know it by its coordinates alone.
func DeviceFields() []arrow.Field {
	var out []arrow.Field
	for _, name := range []string{"device_name", "device_mac", "device_hostname", "country", "region", "city", "postal_code", "location_desc"} {
		out = append(out, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
	}
	return append(out,
		arrow.Field{Name: "lat", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "lon", Type: arrow.PrimitiveTypes.Float64, Nullable: true})
}

// Device is the attribute of what events are about: type, uid, what the rows have of
// DeviceFields, and when it was last heard, unless seen is nil.
func (c *Inputs) Device(v Version, typ Enum, uid textOf, seen func(row int) (int64, bool)) Attr {
	of := []Attr{
		{Name: "type_id", Fixed: typ.ID},
		{Name: "type", Fixed: typ.Name},
		{Name: "uid", Text: Identity(uid)},
	}
	if name := c.TakeText("device_name"); name != nil {
		of = append(of, Attr{Name: "name", Text: name.AppendText})
	}
	of = append(of, c.formed("mac", "device_mac", isMAC[string])...)
	of = append(of, c.formed("hostname", "device_hostname", isHostname[string])...)
	if seen != nil {
		of = append(of, Attr{Name: "last_seen_time", Int64: seen})
	}
	return Attr{Name: "device", Of: append(of, c.Location(v)...)}
}

// formed is a text that has a form. Text of another form goes to unmapped.
func (c *Inputs) formed(name, column string, form func(string) bool) []Attr {
	in := c.TakeText(column)
	if in == nil {
		return nil
	}
	c.HeldIf(in, func(row int) bool { return form(in.Text(row)) })
	return []Attr{{Name: name, Text: func(dst []byte, row int) ([]byte, bool) {
		text := in.Text(row)
		return append(dst, text...), form(text)
	}}}
}

// Location is attribute location, none when the rows cannot have one.
func (c *Inputs) Location(v Version) []Attr {
	var places []*Input
	var of []Attr
	for _, name := range []string{"country", "region", "city", "postal_code"} {
		if in := c.TakeText(name); in != nil {
			places = append(places, in)
			of = append(of, Attr{Name: name, Text: in.AppendText})
		}
	}
	point := v == V110 && c.isNumber("lat") && c.isNumber("lon")
	if len(places) == 0 && !point {
		return nil
	}
	var lat, lon *Input
	if point || v != V110 {
		lat, lon = c.TakeNumber("lat"), c.TakeNumber("lon")
	}
	both := func(row int) bool { return lat.finite(row) && lon.finite(row) }
	known := func(row int) bool {
		for _, in := range places {
			if in.Has(row) {
				return true
			}
		}
		return point && both(row)
	}
	if point { // one list until 1.1.0, deprecated after it
		c.HeldIf(lat, both)
		c.HeldIf(lon, both)
		of = append(of, Attr{Name: "coordinates", Floats: func(dst []float64, row int) ([]float64, bool) {
			x, okX := lon.Number(row)
			y, okY := lat.Number(row)
			return append(dst, x, y), okX && okY
		}})
	} else {
		of = append(of, c.heldNumber("lat", lat, known)...)
		of = append(of, c.heldNumber("long", lon, known)...)
	}
	if in := c.TakeText("location_desc"); in != nil {
		c.HeldIf(in, known)
		of = append(of, Attr{Name: "desc", Text: in.AppendText})
	}
	return []Attr{{Name: "location", Of: of, Present: known}}
}

// heldNumber is the attribute of a column that is there, held where held says so.
func (c *Inputs) heldNumber(name string, in *Input, held func(row int) bool) []Attr {
	if in == nil {
		return nil
	}
	c.HeldIf(in, held)
	return []Attr{{Name: name, Float64: in.Number}}
}

// isNumber tells whether there is a column of numbers of that name.
func (c *Inputs) isNumber(name string) bool {
	in := c.byName[name]
	return in != nil && in.isNumber()
}

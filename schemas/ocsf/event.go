package ocsf

import "strconv"

// textOf appends the text of a row; false for null.
type textOf = func(dst []byte, row int) ([]byte, bool)

// event is what all events of a mapper have, besides the attributes of their class.
type event struct {
	cfg      Config
	class    Class
	activity Enum // the same in every row, unless activityOf is there
	// activityOf is the activity of a row.
	activityOf func(row int) Enum
	severity   func(row int) Enum // nil: all are informational
	time       func(row int) (int64, bool)
	uid        textOf
	sequence   Attr   // member of metadata, without its name
	correlate  textOf // metadata.correlation_uid; nil: none
	metadata   []Attr // more of it
}

// head has the attributes that come first in every event.
func (e *event) head() []Attr {
	category, class := e.class.Category, e.class
	out := []Attr{
		{Name: "category_uid", Fixed: category.ID},
		{Name: "category_name", Fixed: category.Name},
		{Name: "class_uid", Fixed: class.ID},
		{Name: "class_name", Fixed: class.Name},
	}
	out = append(out, e.activities()...)
	if e.severity == nil {
		severity := Informational()
		out = append(out, Attr{Name: "severity_id", Fixed: severity.ID}, Attr{Name: "severity", Fixed: severity.Name})
	} else {
		out = append(out, enumAttrs("severity", e.severity, true)...)
	}
	return append(out,
		Attr{Name: "time", Int64: e.time, Required: true},
		Attr{Name: "timezone_offset", Fixed: int32(0)},
		e.metadataAttr())
}

// activities has the activity and the type, which is class and activity together.
func (e *event) activities() []Attr {
	class, of := e.class, e.activityOf
	if of == nil {
		return []Attr{
			{Name: "activity_id", Fixed: e.activity.ID},
			{Name: "activity_name", Fixed: e.activity.Name},
			{Name: "type_uid", Fixed: class.TypeUID(e.activity)},
			{Name: "type_name", Fixed: class.TypeName(e.activity)},
		}
	}
	return []Attr{
		{Name: "activity_id", Int32: func(row int) (int32, bool) { return of(row).ID, true }, Required: true},
		{Name: "activity_name", Text: func(dst []byte, row int) ([]byte, bool) { return append(dst, of(row).Name...), true }, Required: true},
		{Name: "type_uid", Int64: func(row int) (int64, bool) { return class.TypeUID(of(row)), true }, Required: true},
		{Name: "type_name", Text: func(dst []byte, row int) ([]byte, bool) {
			dst = append(append(dst, class.Name...), ": "...)
			return append(dst, typeCaption(of(row))...), true
		}, Required: true},
	}
}

func (e *event) metadataAttr() Attr {
	sequence := e.sequence
	sequence.Name = "sequence"
	of := []Attr{
		{Name: "version", Fixed: string(e.cfg.Version)},
		{Name: "product", Of: []Attr{
			{Name: "name", Fixed: "Tidemark"},
			{Name: "vendor_name", Fixed: "Tidemark"},
			{Name: "version", Fixed: e.cfg.ProductVersion},
			{Name: "feature", Of: []Attr{{Name: "name", Fixed: e.cfg.Feature}}},
		}},
		{Name: "uid", Text: e.uid, Required: true},
		sequence,
		{Name: "log_name", Fixed: e.cfg.Topic},
		{Name: "log_provider", Fixed: "kafka"},
	}
	if e.correlate != nil {
		of = append(of, Attr{Name: "correlation_uid", Text: e.correlate})
	}
	of = append(of, e.metadata...)
	if e.class.ofExtension() {
		of = append(of, Attr{Name: "extensions", List: true, Of: []Attr{
			{Name: "name", Fixed: extensionName},
			{Name: "uid", Fixed: strconv.Itoa(int(e.cfg.ExtensionUID))},
			{Name: "version", Fixed: extensionVersion},
		}})
	}
	return Attr{Name: "metadata", Of: of}
}

// enumAttrs is a number and its caption by row: name_id and name. An Enum without a name is
// null in both, unless the attribute is required.
func enumAttrs(name string, of func(row int) Enum, required bool) []Attr {
	return []Attr{
		{Name: name + "_id", Int32: func(row int) (int32, bool) {
			e := of(row)
			return e.ID, e.Name != ""
		}, Required: required},
		{Name: name, Text: func(dst []byte, row int) ([]byte, bool) {
			e := of(row)
			return append(dst, e.Name...), e.Name != ""
		}, Required: required},
	}
}

// duration is the attribute of that name, an integer_t until 1.2.0. A length that it does
// not hold is for the caller to keep.
func (c Config) duration(of func(row int) (int64, bool)) Attr {
	if c.Version == V110 {
		return Attr{Name: "duration", Int32: small(of)}
	}
	return Attr{Name: "duration", Int64: of}
}

// keepDuration adds a length that attribute duration does not hold.
func (c Config) keepDuration(m *Pairs, of func(row int) (int64, bool), row int) {
	if ms, ok := of(row); ok && c.Version == V110 && !isSmall(ms, ok) {
		m.Add("duration", func(dst []byte) ([]byte, bool) { return strconv.AppendInt(dst, ms, 10), true })
	}
}

// said is a text that every row has.
func said(name string, say func(dst []byte, row int) []byte) Attr {
	return Attr{Name: name, Text: func(dst []byte, row int) ([]byte, bool) { return say(dst, row), true }, Required: true}
}

// sequence counts revisions from 0.
func sequence(revision *Input) func(row int) (int32, bool) {
	return func(row int) (int32, bool) {
		n, ok := revision.Int(row)
		return int32(n - 1), isSmall(n-1, ok)
	}
}

// Identity is the text of an id where OCSF must have one: a null is told as "unknown".
func Identity(id textOf) textOf {
	return func(dst []byte, row int) ([]byte, bool) {
		if text, ok := id(dst, row); ok {
			return text, true
		}
		return append(dst, "unknown"...), true
	}
}

// observables lists what the event is about as observable device.uid.
func (c Config) observables(uid textOf) Attr {
	typ := c.Version.DeviceUID()
	return Attr{Name: "observables", List: true, Of: []Attr{
		{Name: "name", Fixed: "device.uid"},
		{Name: "type_id", Fixed: typ.ID},
		{Name: "type", Fixed: typ.Name},
		{Name: "value", Text: uid},
	}}
}

// timespan is an object of that name between two times. There is none before 1.8.0.
func timespan(start, end, duration func(row int) (int64, bool)) Attr {
	span := TimeInterval()
	return Attr{Name: "timespan", Of: []Attr{
		{Name: "type_id", Fixed: span.ID},
		{Name: "type", Fixed: span.Name},
		{Name: "start_time", Int64: start},
		{Name: "end_time", Int64: end},
		{Name: "duration", Int64: duration},
	}}
}

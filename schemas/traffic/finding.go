package traffic

import (
	"errors"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// FindingConfig is what the mapper of outages needs to know of the job.
type FindingConfig struct {
	ocsf.Config
	Drop ocsf.Severities // by drop_pct
}

// DefaultFindingConfig lacks Topic and ProductVersion.
func DefaultFindingConfig() FindingConfig {
	return FindingConfig{
		Config: ocsf.DefaultConfig(),
		Drop:   ocsf.Severities{{From: 0, Severity: 2}, {From: 25, Severity: 3}, {From: 50, Severity: 4}, {From: 90, Severity: 5}},
	}
}

// Validate returns every problem.
func (c FindingConfig) Validate() error { return errors.Join(c.Config.Validate(), c.Drop.Validate()) }

// FindingSchema is the schema of rows that say that traffic dropped below its forecast:
//
//   - the columns of ocsf.FindingFields. The span is that of the outage; its end is null
//     while nobody knows it. rule is the name of the detector. verification is UNVERIFIED,
//     VERIFIED or FALSE_POSITIVE.
//   - entity and, where that is not an autonomous system, what it is (entity_type:
//     location, interface).
//   - what was forecast for a slot and what passed (expected_bytes, observed_bytes,
//     drop_pct), the number of slots (blocks), their length (slot_ms) and how the forecast
//     is made (method).
//   - those of Describing.
//   - _tm_revision.
//
// Others may follow those of Describing.
func FindingSchema() *arrow.Schema {
	fields := ocsf.FindingFields()
	add := func(typ arrow.DataType, names ...string) {
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: name != "entity"})
		}
	}
	add(arrow.BinaryTypes.String, "entity", "entity_type", "method")
	add(arrow.PrimitiveTypes.Int64, "expected_bytes", "observed_bytes", "blocks", "slot_ms")
	add(arrow.PrimitiveTypes.Float64, "drop_pct")
	fields = append(fields, Describing()...)
	return arrow.NewSchema(append(fields, ocsf.Revision()), nil)
}

// NewFindingMapper maps rows of FindingSchema to Detection Finding, in both dialects.
func NewFindingMapper(cfg FindingConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return ocsf.NewFindingMapper(cfg.Config, ocsf.FindingSpec{
		Entity:   "entity",
		Analytic: ocsf.Enum{ID: 3, Name: "Statistical"},
		Verified: true,
		Level:    "impact",
		Related:  ocsf.NetworkActivity().TypeUID(ocsf.Traffic()),
		Of:       func(f *ocsf.FindingRow) ocsf.Found { return outage{f, cfg, asNumber(f.EntityText)}.found() },
	}, in)
}

// outage reads what the texts of a finding are made of.
type outage struct {
	*ocsf.FindingRow
	cfg    FindingConfig
	number func(row int) (int64, bool) // of the autonomous system
}

func (o outage) found() ocsf.Found {
	drop := o.Column("drop_pct")
	resource := []ocsf.Attr{{Name: "uid", Text: o.EntityText}, {Name: "type", Text: o.entityType}}
	if name := o.TakeText("as_name"); name != nil {
		resource = append(resource, ocsf.Attr{Name: "name", Text: name.AppendText})
	}
	o.HeldIf(o.TakeText("entity_type"), func(row int) bool { _, ok := o.number(row); return !ok })
	evidence := []ocsf.Attr{{Name: "dst_endpoint", Of: endpoint(o.Inputs, o.Config.Version, o.EntityText)}}
	evidence = append(evidence, o.Data("expected_bytes", "observed_bytes", "drop_pct", "blocks")...)
	return ocsf.Found{
		Rule:     func(dst []byte, row int) []byte { return append(dst, o.Rule.Text(row)...) },
		RuleUID:  func(dst []byte, _ int) []byte { return append(dst, "analytic:traffic_drop"...) },
		Title:    o.title,
		Desc:     o.desc,
		Message:  o.message,
		Types:    func(l *ocsf.Texts, _ int) { l.Add("Availability"); l.Add("Traffic Drop") },
		Severity: func(row int) ocsf.Enum { return o.cfg.Drop.Of(drop.Number(row)) },
		Resource: resource,
		Evidence: evidence,
		Analysis: o.analysis(),
	}
}

// entityType is autonomous_system for AS64500, else what the row says.
func (o outage) entityType(dst []byte, row int) ([]byte, bool) {
	if _, ok := o.number(row); ok {
		return append(dst, "autonomous_system"...), true
	}
	return o.Column("entity_type").AppendText(dst, row)
}

func (o outage) title(dst []byte, row int) []byte {
	dst, _ = o.EntityText(append(dst, "Traffic drop below forecast: "...), row)
	return dst
}

// desc says "Observed traffic stayed under the forecast for 24 h.", as far as it is known.
func (o outage) desc(dst []byte, row int) []byte {
	return append(o.lasting(append(dst, "Observed traffic stayed under the forecast"...), " for ", row), '.')
}

// message says "AS64500 traffic 56.3 % below forecast" and "AS64500 outage closed after
// 24 h", as far as it is known.
func (o outage) message(dst []byte, row int) []byte {
	dst, _ = o.EntityText(dst, row)
	if o.Closed(row) {
		return o.lasting(append(dst, " outage closed"...), " after ", row)
	}
	dst = append(dst, " traffic"...)
	if pct, ok := o.Column("drop_pct").Number(row); ok {
		dst = append(strconv.AppendFloat(append(dst, ' '), pct, 'f', 1, 64), " %"...)
	}
	return o.lasting(append(dst, " below forecast"...), " for ", row)
}

// lasting appends how long the outage lasts, if it is known.
func (o outage) lasting(dst []byte, before string, row int) []byte {
	if ms, ok := o.Duration(row); ok {
		dst = ocsf.AppendDuration(append(dst, before...), ms)
	}
	return dst
}

// analysis compares what passed with the forecast. slot_ms and method are part of its words
// from 1.8.0 on, and in unmapped before that.
func (o outage) analysis() ocsf.Analysis {
	observed, expected := o.Column("observed_bytes"), o.Column("expected_bytes")
	a := ocsf.Analysis{
		Target: o.EntityText,
		TargetType: func(dst []byte, row int) ([]byte, bool) {
			from := len(dst)
			dst, ok := o.entityType(dst, row)
			return capitals(dst, from), ok
		},
		Parameter:         o.perSlot("bytes per "),
		Type:              func(dst []byte, _ int) ([]byte, bool) { return append(dst, "Volume Analysis"...), true },
		Pattern:           func(dst []byte, _ int) ([]byte, bool) { return append(dst, "DROP"...), true },
		Value:             observed.AppendText,
		Count:             o.Column("blocks"),
		BaselineParameter: o.perSlot("forecast bytes per "),
		Baseline:          expected.AppendText,
	}
	if o.Config.Version == ocsf.V180 {
		o.HeldIf(o.TakeWhole("slot_ms"), observed.Has)
		if method := o.TakeText("method"); method != nil {
			o.HeldIf(method, func(row int) bool { return observed.Has(row) && expected.Has(row) })
			a.BaselineType = method.AppendText
		}
	}
	return a
}

// perSlot says "bytes per 15 min".
func (o outage) perSlot(what string) text {
	slot := o.Column("slot_ms")
	return func(dst []byte, row int) ([]byte, bool) {
		dst = append(dst, what...)
		if ms, ok := slot.Int(row); ok {
			return ocsf.AppendDuration(dst, ms), true
		}
		return append(dst, "slot"...), true
	}
}

// capitals turns dst[from:] from autonomous_system into Autonomous System.
func capitals(dst []byte, from int) []byte {
	first := true
	for i := from; i < len(dst); i++ {
		switch c := dst[i]; {
		case c == '_':
			dst[i], first = ' ', true
			continue
		case first && c >= 'a' && c <= 'z':
			dst[i] = c - 'a' + 'A'
		}
		first = false
	}
	return dst
}

package pdu

import (
	"errors"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/schemas/ocsf"
)

// Rules that find something about PDUs.
const (
	Overload   = "pdu_branch_overload"     // a phase or branch draws too much for its fuse
	Continuous = "pdu_continuous_overload" // or too much to do so for hours
	Imbalance  = "pdu_phase_imbalance"     // the phases differ too much
	Redundancy = "pdu_lost_redundancy"     // one feed could not carry both
	Energy     = "pdu_energy_mismatch"     // the energy counter is not what the power adds up to
)

// FindingConfig is what the mapper of findings needs to know of the job.
type FindingConfig struct {
	ocsf.Config
	Load      ocsf.Severities // by load_pct: of Overload, Continuous and Redundancy
	Imbalance ocsf.Severities // by imbalance_pct, and of Energy, whatever it is off by
}

// DefaultFindingConfig lacks Topic and ProductVersion.
func DefaultFindingConfig() FindingConfig {
	return FindingConfig{
		Config:    ocsf.DefaultConfig(),
		Load:      ocsf.Severities{{From: 0, Severity: 2}, {From: 80, Severity: 3}, {From: 100, Severity: 4}},
		Imbalance: ocsf.Severities{{From: 0, Severity: 2}},
	}
}

// Validate returns every problem.
func (c FindingConfig) Validate() error {
	return errors.Join(c.Config.Validate(), c.Load.Validate(), c.Imbalance.Validate())
}

// FindingSchema is the schema of rows that say what a rule found about a PDU:
//
//   - the columns of ocsf.FindingFields. finding_uid is
//     finding:<rule>:<pdu>[:<phase>]:<start of the first window in ms>.
//   - pdu_id, phase (or branch) and the number of readings that show it (count).
//   - Overload, Continuous: the current (avg_a, max_a) against the fuse and the rating (fuse_a, rated_a,
//     load_pct of the fuse). A line has a rating and no fuse: load_pct is of the rating then.
//   - Imbalance: the currents (l1_avg_a, l2_avg_a, l3_avg_a), imbalance_pct and limit_pct.
//   - Redundancy: which feed is thought to fail (failed_feed), what the other one then
//     carries (load_pct of its rating, avg_a, rated_a), the PDU of that (peer_id) and how
//     many devices would lose their power (lost_devices).
//   - Energy: what the counter and the power say of the same time (counter_kwh, power_kwh) and
//     limit_pct, the part of the latter by which they may differ.
//   - ocsf.DeviceFields.
//   - silenced, true where nobody is to be told; null where somebody is.
//   - _tm_revision.
//
// Columns that say nothing of a rule are null. Others may follow those of the device.
func FindingSchema() *arrow.Schema {
	fields := ocsf.FindingFields()
	add := func(typ arrow.DataType, names ...string) {
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: name != "pdu_id"})
		}
	}
	add(arrow.BinaryTypes.String, "pdu_id", "phase", "failed_feed", "peer_id")
	add(arrow.PrimitiveTypes.Int64, "count", "lost_devices")
	add(arrow.PrimitiveTypes.Float64, numbers()...)
	fields = append(fields, ocsf.DeviceFields()...)
	fields = append(fields, arrow.Field{Name: "silenced", Type: arrow.FixedWidthTypes.Boolean, Nullable: true})
	return arrow.NewSchema(append(fields, ocsf.Revision()), nil)
}

func numbers() []string {
	return []string{"avg_a", "max_a", "fuse_a", "rated_a", "load_pct", "l1_avg_a", "l2_avg_a", "l3_avg_a", "imbalance_pct", "limit_pct", "counter_kwh", "power_kwh"}
}

// NewFindingMapper maps rows of FindingSchema to Detection Finding, in both dialects.
func NewFindingMapper(cfg FindingConfig, in *arrow.Schema) (*ocsf.Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	windows := ocsf.DeviceInventory().TypeUID(ocsf.Collect())
	if cfg.Dialect == ocsf.Ext {
		windows = cfg.DeviceMeasurement().TypeUID(ocsf.Aggregate())
	}
	return ocsf.NewFindingMapper(cfg.Config, ocsf.FindingSpec{
		Entity:   "pdu_id",
		Device:   unit(),
		Analytic: ocsf.Enum{ID: 1, Name: "Rule"},
		Level:    "risk_level",
		Related:  windows,
		Alone:    true,
		Of: func(f *ocsf.FindingRow) ocsf.Found {
			return finding{f, f.Column("phase"), cfg}.found()
		},
	}, in)
}

// finding reads what the texts of a finding are made of.
type finding struct {
	*ocsf.FindingRow
	phase *ocsf.Input
	cfg   FindingConfig
}

func (f finding) found() ocsf.Found {
	return ocsf.Found{
		Rule:     func(dst []byte, row int) []byte { return append(dst, f.Rule.Text(row)...) },
		RuleUID:  func(dst []byte, row int) []byte { return append(append(dst, "rule:"...), f.Rule.Text(row)...) },
		Title:    f.title,
		Desc:     f.desc,
		Message:  f.message,
		Types:    f.types,
		Severity: f.severity,
		Resource: f.resource(),
		Evidence: f.Data(append([]string{"phase", "failed_feed", "peer_id", "lost_devices"}, numbers()...)...),
		Analysis: f.analysis(),
	}
}

// number is a column of numbers; null where the rows have none.
func (f finding) number(name string, row int) (float64, bool) { return f.Column(name).Number(row) }

func (f finding) severity(row int) ocsf.Enum {
	switch f.Rule.Text(row) {
	case Energy:
		return f.cfg.Imbalance.Of(0, true)
	case Imbalance:
		return f.cfg.Imbalance.Of(f.number("imbalance_pct", row))
	}
	return f.cfg.Load.Of(f.number("load_pct", row))
}

func (f finding) title(dst []byte, row int) []byte {
	switch rule := f.Rule.Text(row); rule {
	case Overload:
		if !f.hasFuse(row) {
			return append(dst, "PDU line current above rating"...)
		}
		return append(dst, "PDU branch current above fuse rating"...)
	case Continuous:
		return append(dst, "PDU branch current above continuous rating"...)
	case Imbalance:
		return append(dst, "PDU phase imbalance above limit"...)
	case Redundancy:
		return append(dst, "PDU redundancy lost"...)
	case Energy:
		return append(dst, "PDU energy counter and power differ"...)
	default:
		return append(append(dst, "PDU rule "...), rule...)
	}
}

func (f finding) types(l *ocsf.Texts, row int) {
	l.Add("Power")
	switch f.Rule.Text(row) {
	case Overload, Continuous:
		l.Add("Overload")
	case Imbalance:
		l.Add("Imbalance")
	case Redundancy:
		l.Add("Redundancy")
	case Energy:
		l.Add("Data Quality")
	}
}

// hasFuse tells whether a current is against a fuse, and not against the rating of a line.
func (f finding) hasFuse(row int) bool {
	_, fuse := f.number("fuse_a", row)
	_, rated := f.number("rated_a", row)
	return fuse || !rated
}

// desc says "Phase L2 averaged 21.0 A over 5 min against a 20 A fuse.", as far as it is
// known.
func (f finding) desc(dst []byte, row int) []byte {
	switch f.Rule.Text(row) {
	case Overload, Continuous:
		if phase := f.phase.Text(row); phase != "" {
			dst = append(append(dst, "Phase "...), phase...)
		} else {
			dst = append(dst, "The branch"...)
		}
		if amps, ok := f.number("avg_a", row); ok {
			dst = append(tenths(append(dst, " averaged "...), amps), " A"...)
		} else {
			dst = append(dst, " drew too much"...)
		}
		dst = f.lasting(dst, " over ", row)
		if f.hasFuse(row) {
			dst = f.add(dst, " against a ", "fuse_a", " A fuse", row)
		} else {
			dst = f.add(dst, " against a rating of ", "rated_a", " A", row)
		}
	case Imbalance:
		dst = append(dst, "Phase currents differ from their mean"...)
		dst = f.add(dst, " by ", "imbalance_pct", " %", row)
		dst = f.add(dst, ", limit ", "limit_pct", " %", row)
	case Redundancy:
		dst = append(dst, "If "...)
		dst = f.failed(dst, row)
		dst = append(dst, " failed the other one would carry"...)
		if _, ok := f.number("load_pct", row); !ok {
			dst = append(dst, " too much"...)
		}
		dst = f.add(dst, " ", "load_pct", " % of its rating", row)
	case Energy:
		dst = append(dst, "The counter"...)
		dst = f.add(dst, " says ", "counter_kwh", " kWh", row)
		dst = f.add(dst, ", the power adds up to ", "power_kwh", " kWh", row)
		dst = f.add(dst, ", limit ", "limit_pct", " %", row)
	default:
		dst = append(append(dst, "Found by rule "...), f.Rule.Text(row)...)
	}
	return append(dst, '.')
}

// message says "PDU-LIS01-R12-A L2 at 105 % of fuse rating", as far as it is known.
func (f finding) message(dst []byte, row int) []byte {
	dst, _ = f.EntityText(dst, row)
	dst = append(dst, ' ')
	if phase := f.phase.Text(row); phase != "" {
		dst = append(append(dst, phase...), ' ')
	}
	rule := f.Rule.Text(row)
	if f.Closed(row) {
		return f.lasting(append(append(dst, noun(rule)...), " closed"...), " after ", row)
	}
	if _, ok := f.number("load_pct", row); ok && (rule == Overload || rule == Continuous) {
		if !f.hasFuse(row) {
			return f.add(dst, "at ", "load_pct", " % of rating", row)
		}
		return f.add(dst, "at ", "load_pct", " % of fuse rating", row)
	}
	dst = append(dst, noun(rule)...)
	switch rule {
	case Imbalance:
		dst = f.add(dst, " ", "imbalance_pct", " %", row)
	case Redundancy:
		dst = f.add(dst, ": ", "load_pct", " % if ", row)
		dst = append(f.failed(dst, row), " failed"...)
	}
	return dst
}

// noun is what a rule finds.
func noun(rule string) string {
	switch rule {
	case Overload:
		return "overload"
	case Continuous:
		return "continuous overload"
	case Imbalance:
		return "phase imbalance"
	case Redundancy:
		return "lost redundancy"
	case Energy:
		return "energy mismatch"
	}
	return rule
}

// failed names the feed that is thought to fail.
func (f finding) failed(dst []byte, row int) []byte {
	if feed := f.Column("failed_feed").Text(row); feed != "" {
		return append(append(dst, "feed "...), feed...)
	}
	return append(dst, "one feed"...)
}

// add appends a number between two texts, if it is known.
func (f finding) add(dst []byte, before, column, after string, row int) []byte {
	v, ok := f.number(column, row)
	if !ok {
		return dst
	}
	return append(short(append(dst, before...), v), after...)
}

// lasting appends how long the finding lasts, if it is known.
func (f finding) lasting(dst []byte, before string, row int) []byte {
	if ms, ok := f.Duration(row); ok {
		dst = ocsf.AppendDuration(append(dst, before...), ms)
	}
	return dst
}

// short writes a number with at most one digit behind the point.
func short(dst []byte, v float64) []byte {
	if math.Abs(v) < 1e15 {
		return strconv.AppendFloat(dst, math.Round(v*10)/10, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// resource is the phase or branch, else the PDU.
func (f finding) resource() []ocsf.Attr {
	device := f.Column("device_name")
	return []ocsf.Attr{
		{Name: "uid", Text: f.target},
		{Name: "name", Text: func(dst []byte, row int) ([]byte, bool) {
			if phase := f.phase.Text(row); phase != "" {
				return append(append(dst, "branch "...), phase...), true
			}
			return device.AppendText(dst, row)
		}},
		{Name: "type", Text: f.word("pdu_branch", "pdu")},
	}
}

// target appends <pdu>/<phase>, or the PDU alone.
func (f finding) target(dst []byte, row int) ([]byte, bool) {
	dst, ok := f.EntityText(dst, row)
	if phase := f.phase.Text(row); phase != "" {
		dst = append(append(dst, '/'), phase...)
	}
	return dst, ok
}

// word is one word for a phase or branch and one for a PDU.
func (f finding) word(branch, unit string) func(dst []byte, row int) ([]byte, bool) {
	return func(dst []byte, row int) ([]byte, bool) {
		if f.phase.Text(row) != "" {
			return append(dst, branch...), true
		}
		return append(dst, unit...), true
	}
}

// comparison is what a rule compares: columns, and the words of anomaly_analyses for it.
type comparison struct{ column, parameter, pattern, limit, limitName string }

func (f finding) comparison(row int) comparison {
	switch f.Rule.Text(row) {
	case Overload:
		if !f.hasFuse(row) {
			return comparison{"avg_a", "line current (A)", "ABOVE_RATING", "rated_a", "rating (A)"}
		}
		return comparison{"avg_a", "phase current (A)", "ABOVE_FUSE_RATING", "fuse_a", "fuse rating (A)"}
	case Continuous:
		return comparison{"avg_a", "phase current (A)", "ABOVE_CONTINUOUS_RATING", "fuse_a", "fuse rating (A)"}
	case Imbalance:
		return comparison{"imbalance_pct", "phase current imbalance (%)", "ABOVE_LIMIT", "limit_pct", "limit (%)"}
	case Redundancy:
		return comparison{"load_pct", "load after failover (%)", "ABOVE_RATING", "limit_pct", "limit (%)"}
	case Energy:
		return comparison{"counter_kwh", "energy counter (kWh)", "DIFFERS", "power_kwh", "energy by power (kWh)"}
	}
	return comparison{}
}

func (f finding) analysis() ocsf.Analysis {
	word := func(of func(c comparison) string) func(dst []byte, row int) ([]byte, bool) {
		return func(dst []byte, row int) ([]byte, bool) { return append(dst, of(f.comparison(row))...), true }
	}
	number := func(of func(c comparison) string) func(dst []byte, row int) ([]byte, bool) {
		return func(dst []byte, row int) ([]byte, bool) {
			in := f.Column(of(f.comparison(row)))
			if _, ok := in.Number(row); !ok {
				return dst, false
			}
			return in.AppendText(dst, row)
		}
	}
	return ocsf.Analysis{
		Target:            f.target,
		TargetType:        f.word("PDU branch", "PDU"),
		Parameter:         word(func(c comparison) string { return c.parameter }),
		Type:              func(dst []byte, _ int) ([]byte, bool) { return append(dst, "Threshold"...), true },
		Pattern:           word(func(c comparison) string { return c.pattern }),
		Value:             number(func(c comparison) string { return c.column }),
		Count:             f.Column("count"),
		BaselineParameter: word(func(c comparison) string { return c.limitName }),
		Baseline:          number(func(c comparison) string { return c.limit }),
	}
}

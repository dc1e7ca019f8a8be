package ocsf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
)

// Columns of finding rows.
const (
	colFindingUID   = "finding_uid"
	colNumber       = "n"
	colActivity     = "activity"
	colRule         = "rule"
	colRuleVersion  = "rule_version"
	colFrom         = "start_time"
	colTo           = "end_time"
	colModified     = "modified_time"
	colVerification = "verification"
	colRelated      = "related_uid"
	colSources      = "data_sources"
)

// FindingFields are the columns that all finding rows begin with.
//
// time is when the finding was made, an event time; it stays the same when the finding is
// told of again, and modified_time is when that was. finding_uid is its id, n counts what
// is told of it from 1: uid of the event is <finding_uid>/<n>. activity is create, update
// or close. start_time and end_time are the span that the finding is about, as far as it
// is known. related_uid is the uid of the window that shows it.
func FindingFields() []arrow.Field {
	text := func(name string, null bool) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: null}
	}
	at := func(name string, null bool) arrow.Field {
		return arrow.Field{Name: name, Type: timestamp(), Nullable: null}
	}
	return []arrow.Field{
		at(colTime, false), text(colFindingUID, false), {Name: colNumber, Type: arrow.PrimitiveTypes.Int32}, text(colActivity, false),
		text(colRule, false), text(colRuleVersion, true), at(colFrom, true), at(colTo, true), at(colModified, true),
		text(colVerification, true), text(colRelated, true),
		{Name: colSources, Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	}
}

// Severities are the steps by which a number of percent becomes a severity: that of the
// last step that it reaches.
type Severities []SeverityStep

// SeverityStep is a severity_id, 1 to 6, from a number of percent on.
type SeverityStep struct {
	From     float64
	Severity int32
}

// Validate returns every problem.
func (s Severities) Validate() error {
	var errs []error
	if len(s) == 0 {
		errs = append(errs, errors.New("severity: no step"))
	}
	for i, step := range s {
		if step.Severity < 1 || step.Severity > 6 {
			errs = append(errs, fmt.Errorf("severity %d: want 1 to 6", step.Severity))
		}
		if i > 0 && !(step.From > s[i-1].From) {
			errs = append(errs, fmt.Errorf("severity from %g %%: want more than %g %%", step.From, s[i-1].From))
		}
	}
	return errors.Join(errs...)
}

// Of is the severity of a number of percent: Unknown where that is not known, and
// Informational below the first step.
func (s Severities) Of(percent float64, known bool) Enum {
	id := int32(1)
	if !known {
		id = 0
	}
	for _, step := range s {
		if known && percent >= step.From {
			id = step.Severity
		}
	}
	return Enum{id, [...]string{"Unknown", "Informational", "Low", "Medium", "High", "Critical", "Fatal"}[id]}
}

// level is a severity from Low on as a risk or an impact; none for others.
func level(severity Enum) Enum {
	switch {
	case severity.ID < 2:
		return Enum{}
	case severity.ID > 4:
		return Enum{4, "Critical"}
	}
	return Enum{severity.ID - 1, severity.Name}
}

// FindingSpec is what a feed adds to findings.
type FindingSpec struct {
	Entity string // column of what the finding is about
	// Device is the type of the entity where that is a device; the zero value where not.
	Device   Enum
	Analytic Enum // the type of what found it
	// Verified findings are looked into by somebody, and are no surer than what that said.
	Verified bool
	// Level is risk_level or impact: what the severity also is.
	Level string
	// Related is the type_uid of related events, Alone whether the one that a row names is
	// the only one.
	Related int64
	Alone   bool
	// Of reads the rest from the columns.
	Of func(f *FindingRow) Found
}

// Found is what a finding says.
type Found struct {
	Rule, RuleUID        func(dst []byte, row int) []byte
	Title, Desc, Message func(dst []byte, row int) []byte
	Types                func(l *Texts, row int)
	Severity             func(row int) Enum
	Resource             []Attr // members of the one resource
	Evidence             []Attr // members of the one evidence
	Analysis             Analysis
}

// Analysis is what anomaly_analyses says, from 1.5.0 on: of whom which observation was
// compared with which baseline. Value and Baseline append nothing and return false where
// the row has none.
type Analysis struct {
	Target, TargetType       textOf
	Parameter, Type, Pattern textOf
	Value                    textOf
	Count                    *Input // how many times; nil: the rows do not say
	BaselineParameter        textOf
	BaselineType             textOf // nil: none
	Baseline                 textOf
}

// FindingRow gives a feed the columns of finding rows while its mapper is built.
type FindingRow struct {
	*Inputs
	Config Config
	Entity *Input // what the finding is about
	Rule   *Input // what found it

	spec         FindingSpec
	time         *Input
	uid, n       *Input
	word         *Input // activity
	from, to     *Input
	verification *Input
	related      *Input
	revision     *Input
	found        Found
}

// NewFindingMapper maps findings to Detection Finding, in both dialects. The columns of in
// are those of FindingFields, the entity, and others in any order; _tm_revision is the last
// of the event.
func NewFindingMapper(cfg Config, spec FindingSpec, in *arrow.Schema) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newFindingMapper(cfg, spec, in)
	if err != nil {
		return nil, fmt.Errorf("ocsf findings: %w", err)
	}
	return m, nil
}

func newFindingMapper(cfg Config, spec FindingSpec, in *arrow.Schema) (*Mapper, error) {
	c, err := bindInputs(in)
	if err != nil {
		return nil, err
	}
	f := &FindingRow{Inputs: c, Config: cfg, spec: spec}
	if err := f.bind(); err != nil {
		return nil, err
	}
	f.found = spec.Of(f)
	attrs := slices.Concat(f.head(), f.status(), f.info(), f.about())
	if cfg.Version == V180 { // is_alert is there since 1.4.0, the analyses since 1.5.0
		attrs = append(attrs,
			Attr{Name: "is_alert", Bool: func(row int) (bool, bool) { return f.word.Text(row) == "create", true }, Required: true},
			f.analyses(f.found.Analysis))
	}
	unmapped, err := f.unmapped(func(m *Pairs, row int) { cfg.keepDuration(m, f.Duration, row) })
	if err != nil {
		return nil, err
	}
	return newMapper(c, append(attrs, unmapped), []string{colRevision}), nil
}

func (f *FindingRow) bind() error {
	var errs []error
	need := func(name string, typ arrow.Type) *Input {
		c, err := f.need(name, typ)
		errs = append(errs, err)
		return c
	}
	f.time, f.uid, f.n = need(colTime, arrow.TIMESTAMP), need(colFindingUID, arrow.STRING), need(colNumber, arrow.INT32)
	f.word, f.Entity, f.revision = need(colActivity, arrow.STRING), need(f.spec.Entity, arrow.STRING), need(colRevision, arrow.INT32)
	f.Rule = need(colRule, arrow.STRING)
	f.from, f.to = f.TakeTime(colFrom), f.TakeTime(colTo)
	f.verification, f.related = f.TakeText(colVerification), f.TakeText(colRelated)
	return errors.Join(errs...)
}

// EntityText appends the entity.
func (f *FindingRow) EntityText(dst []byte, row int) ([]byte, bool) {
	return f.Entity.AppendText(dst, row)
}

// Closed tells whether the row closes the finding.
func (f *FindingRow) Closed(row int) bool { return f.word.Text(row) == "close" }

// Duration is the length of the span, in milliseconds.
func (f *FindingRow) Duration(row int) (int64, bool) {
	from, okF := f.from.Int(row)
	to, okT := f.to.Int(row)
	return to - from, okF && okT
}

func (f *FindingRow) activity(row int) Enum {
	switch word := f.word.Text(row); word {
	case "create":
		return Enum{1, "Create"}
	case "update":
		return Enum{2, "Update"}
	case "close":
		return Enum{3, "Close"}
	case "":
		return Enum{0, "Unknown"}
	default:
		return Other(word)
	}
}

func (f *FindingRow) head() []Attr {
	e := event{
		cfg: f.Config, class: DetectionFinding(), activityOf: f.activity, severity: f.found.Severity, time: f.time.Int, uid: f.appendUID,
		sequence: Attr{Int32: sequence(f.n), Required: true}, correlate: f.EntityText, metadata: f.profiles(),
	}
	return e.head()
}

// profiles are those that attribute device is of until 1.3.0, and the verdict ever since.
func (f *FindingRow) profiles() []Attr {
	device := f.spec.Device.ID != 0
	switch {
	case f.hasVerdict():
		return []Attr{{Name: "profiles", Texts: func(l *Texts, row int) bool {
			if device {
				l.Add("host")
			}
			if f.refuted(row) {
				l.Add("incident")
			}
			return device || f.refuted(row)
		}}}
	case device:
		return []Attr{{Name: "profiles", Fixed: []string{"host"}}}
	}
	return nil
}

// hasVerdict tells whether events may have one; it is there since 1.4.0.
func (f *FindingRow) hasVerdict() bool { return f.Config.Version == V180 && f.verification != nil }

// appendUID appends <finding uid>/<n>.
func (f *FindingRow) appendUID(dst []byte, row int) ([]byte, bool) {
	dst, okU := f.uid.AppendText(dst, row)
	n, okN := f.n.Int(row)
	return strconv.AppendInt(append(dst, '/'), n, 10), okU && okN
}

// refuted tells whether the finding was looked into and is none.
func (f *FindingRow) refuted(row int) bool { return f.verification.Text(row) == "FALSE_POSITIVE" }

// status has how far the finding is, how sure it is and how bad.
func (f *FindingRow) status() []Attr {
	out := enumAttrs("status", func(row int) Enum {
		switch f.activity(row).ID {
		case 1:
			return Enum{1, "New"}
		case 2:
			return Enum{2, "In Progress"}
		case 3:
			if f.refuted(row) {
				return Enum{3, "Suppressed"}
			}
			return Enum{4, "Resolved"}
		}
		return Enum{0, "Unknown"}
	}, true)
	if f.verification != nil {
		out = append(out, Attr{Name: "status_detail", Text: f.verification.AppendText})
	}
	out = append(out, enumAttrs("confidence", f.confidence, true)...)
	if f.hasVerdict() {
		out = append(out, enumAttrs("verdict", func(row int) Enum {
			if f.refuted(row) {
				return Enum{1, "False Positive"}
			}
			return Enum{}
		}, false)...)
	}
	return append(out, enumAttrs(f.spec.Level, func(row int) Enum { return level(f.found.Severity(row)) }, false)...)
}

// confidence follows what was verified. Where nobody does that, a rule on what was measured
// is sure.
func (f *FindingRow) confidence(row int) Enum {
	switch word := f.verification.Text(row); {
	case word == "UNVERIFIED", word == "FALSE_POSITIVE":
		return Enum{1, "Low"}
	case word == "VERIFIED", !f.spec.Verified && word == "":
		return Enum{3, "High"}
	}
	return Enum{0, "Unknown"}
}

// info has the span and finding_info.
func (f *FindingRow) info() []Attr {
	of := []Attr{
		{Name: "uid", Text: f.uid.AppendText, Required: true},
		said("title", f.found.Title),
		said("desc", f.found.Desc),
		{Name: "types", Texts: f.types, Required: true},
		{Name: "analytic", Of: f.analytic()},
		{Name: "created_time", Int64: f.time.Int, Required: true},
	}
	if in := f.TakeTime(colModified); in != nil {
		of = append(of, Attr{Name: "modified_time", Int64: in.Int})
	}
	of = append(of, Attr{Name: "first_seen_time", Int64: f.from.Int}, Attr{Name: "last_seen_time", Int64: f.to.Int})
	if in := f.takeOf(colSources, (*Input).isTexts); in != nil {
		of = append(of, Attr{Name: "data_sources", Texts: in.AddTo})
	}
	if f.related != nil {
		of = append(of, Attr{Name: "related_events", List: true, Of: []Attr{
			{Name: "uid", Text: f.related.AppendText},
			{Name: "type_uid", Fixed: f.spec.Related},
		}, Present: f.related.Has})
		if f.spec.Alone && f.Config.Version == V180 {
			of = append(of, Attr{Name: "related_events_count", Int32: func(row int) (int32, bool) { return 1, f.related.Has(row) }})
		}
	}
	return []Attr{
		{Name: "start_time", Int64: f.from.Int},
		{Name: "end_time", Int64: f.to.Int},
		f.Config.duration(f.Duration),
		{Name: "finding_info", Of: of},
	}
}

func (f *FindingRow) types(l *Texts, row int) bool {
	f.found.Types(l, row)
	return true
}

func (f *FindingRow) analytic() []Attr {
	of := []Attr{
		{Name: "type_id", Fixed: f.spec.Analytic.ID},
		{Name: "type", Fixed: f.spec.Analytic.Name},
		said("name", f.found.Rule),
		said("uid", f.found.RuleUID),
	}
	if in := f.TakeText(colRuleVersion); in != nil {
		of = append(of, Attr{Name: "version", Text: in.AppendText})
	}
	return of
}

// about has what the finding is about and what shows it.
func (f *FindingRow) about() []Attr {
	var out []Attr
	if f.spec.Device.ID != 0 {
		out = append(out, f.Device(f.Config.Version, f.spec.Device, f.EntityText, nil), f.Config.observables(f.EntityText))
	}
	out = append(out, Attr{Name: "resources", List: true, Of: f.found.Resource})
	if of := f.found.Evidence; len(of) > 0 {
		out = append(out, Attr{Name: "evidences", List: true, Of: of, Present: anyPresent(of)})
	}
	return append(out, said("message", f.found.Message))
}

// anyPresent tells in which rows one of objects is there, nil if one always is: an empty
// evidence is none.
func anyPresent(of []Attr) func(row int) bool {
	always := func(a Attr) bool { return a.Present == nil }
	if slices.ContainsFunc(of, always) {
		return nil
	}
	return func(row int) bool {
		return slices.ContainsFunc(of, func(a Attr) bool { return a.Present(row) })
	}
}

// analyses is attribute anomaly_analyses, there where something was observed.
func (f *FindingRow) analyses(a Analysis) Attr {
	has := func(text textOf) func(row int) bool {
		return func(row int) bool {
			var buf [32]byte
			_, ok := text(buf[:0], row)
			return ok
		}
	}
	span := timespan(f.from.Int, f.to.Int, f.Duration)
	span.Present = func(row int) bool { return f.from.Has(row) || f.to.Has(row) }
	observed := has(a.Value)
	observation := []Attr{{Name: "value", Text: a.Value}, span}
	if a.Count != nil {
		if !f.taken[a.Count.Name] { // else an evidence has it
			f.Take(a.Count.Name)
			f.HeldIf(a.Count, func(row int) bool { return observed(row) && isSmall(a.Count.Int(row)) })
		}
		observation = append(observation, Attr{Name: "count", Int32: small(a.Count.Int)})
	}
	anomaly := []Attr{
		{Name: "observation_parameter", Text: a.Parameter},
		{Name: "observation_type", Text: a.Type},
		{Name: "observed_pattern", Text: a.Pattern},
		{Name: "observations", List: true, Of: observation},
	}
	baseline := []Attr{{Name: "observation_parameter", Text: a.BaselineParameter}}
	if a.BaselineType != nil {
		baseline = append(baseline, Attr{Name: "observation_type", Text: a.BaselineType})
	}
	baseline = append(baseline, Attr{Name: "observations", List: true, Of: []Attr{{Name: "value", Text: a.Baseline}}})
	return Attr{Name: "anomaly_analyses", List: true, Present: observed, Of: []Attr{
		{Name: "analysis_targets", List: true, Of: []Attr{{Name: "name", Text: a.Target}, {Name: "type", Text: a.TargetType}}},
		{Name: "anomalies", List: true, Of: anomaly},
		{Name: "baselines", List: true, Of: baseline, Present: has(a.Baseline)},
	}}
}

// Data is member data of an evidence, an object of the columns named, as far as the rows
// have them. It is null where a row has none of them.
func (f *FindingRow) Data(names ...string) []Attr {
	var of []Attr
	var ins []*Input
	for _, name := range names {
		in := f.TakeText(name)
		if in != nil {
			of = append(of, Attr{Name: name, Text: in.AppendText})
		} else if in = f.TakeWhole(name); in != nil {
			of = append(of, Attr{Name: name, Int64: in.Int})
		} else if in = f.TakeNumber(name); in != nil {
			of = append(of, Attr{Name: name, Float64: in.Number})
		} else {
			continue
		}
		ins = append(ins, in)
	}
	if len(of) == 0 {
		return nil
	}
	return []Attr{{Name: "data", Of: of, Present: func(row int) bool {
		return slices.ContainsFunc(ins, func(in *Input) bool { return in.Has(row) })
	}}}
}

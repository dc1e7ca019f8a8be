package traffic

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Anomalies is a machine with the register of all entities: notices in, findings and audit out.
type Anomalies struct {
	cfg      RegisterConfig
	verdicts []Verdict
	findings *array.RecordBuilder
	audit    *array.RecordBuilder
	// show gets how far time is and, when something has changed, all anomalies; nil: nobody looks.
	show func(at int64, all []Record)
	seen *Register
	dark bool // something has changed that was not shown
}

// NewAnomalies makes the machine. Verdicts are in the order of SortVerdicts.
func NewAnomalies(cfg RegisterConfig, verdicts []Verdict, show func(at int64, all []Record), mem memory.Allocator) (*Anomalies, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Anomalies{cfg: cfg, verdicts: verdicts, show: show, dark: true,
		findings: array.NewRecordBuilder(mem, FindingSchema()), audit: array.NewRecordBuilder(mem, AuditSchema())}, nil
}

// Refer implements what operators.Keyed does with a file that has changed.
func (m *Anomalies) Refer(ref pipeline.Reference) error {
	if vs, ok := ref.Value.([]Verdict); ok {
		m.verdicts = vs
	}
	return nil
}

// Row implements operators.Machine.
func (m *Anomalies) Row(_ string, g *Register, rec arrow.RecordBatch, r int) int64 {
	m.configure(g)
	var n Notice
	d := json.NewDecoder(bytes.NewReader(rec.Column(colNotice).(*array.Binary).Value(r)))
	if err := d.Decode(&n); err != nil {
		panic(fmt.Sprintf("traffic: a notice that cannot be read: %v", err))
	}
	g.Take(n)
	m.collect(g)
	return n.At
}

// configure gives a register what is no state.
func (m *Anomalies) configure(g *Register) {
	if g.entities == nil || m.seen != g {
		g.Configure(m.cfg, m.verdicts)
	}
	g.verdicts, m.seen = m.verdicts, g
}

// Advance implements operators.Machine.
func (m *Anomalies) Advance(_ string, g *Register, at int64) int64 {
	m.configure(g)
	g.Advance(at)
	m.collect(g)
	return g.Due()
}

func (m *Anomalies) collect(g *Register) {
	changes, audits := g.TakeChanges()
	for _, c := range changes {
		appendFinding(m.findings, c)
	}
	for _, a := range audits {
		appendAudit(m.audit, a)
	}
	m.dark = m.dark || len(changes)+len(audits) > 0
}

// Settled implements operators.Machine.
func (m *Anomalies) Settled(at int64) {
	if m.show == nil {
		return
	}
	var all []Record
	if m.dark && m.seen != nil {
		all, m.dark = m.seen.Records(), false
	}
	m.show(at, all)
}

// Flush implements operators.Machine.
func (m *Anomalies) Flush(out pipeline.Emitter) error {
	if err := emit(m.findings, pipeline.Out, out); err != nil {
		return err
	}
	return emit(m.audit, pipeline.Side(AuditTable), out)
}

// AppendRegister and ReadRegister are the state of a register in a checkpoint.
func AppendRegister(dst []byte, g *Register) []byte { return g.Append(dst) }

// ReadRegister reads what AppendRegister has made.
func ReadRegister(b []byte, g *Register) error { return g.Read(b) }

package power

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// Columns of rows that a machine reads, beside those of Sample's values.
const colPDU = "pdu_id"

// Machine judges the rows of feed pdu: it is the operators.Machine of groups of PDUs. Its first
// table are findings, its second one loads.
type Machine struct {
	judge    *Judge
	at       columns
	findings tableBuilder
	loads    tableBuilder
	names    map[string]string // texts of rows that outlive their batch
}

// columns are places of columns in the rows, -1 for none.
type columns struct {
	pdu, scope, element, feed, wiring int
	values                            [8]int // in the order of Sample.values
	scale                             [8]float64
}

// valueColumns are the columns of Sample.values.
var valueColumns = [8]string{"v", "a", "w", "va", "var", "pf", "kwh_total", "rated_a"}

// NewMachine makes the machine for rows of a schema. Findings have the columns of a schema that is
// given by whoever knows what becomes of them; columns that are not known here are null.
func NewMachine(cfg Config, inv *Inventory, rows, findings *arrow.Schema, mem memory.Allocator) (*Machine, error) {
	judge, err := NewJudge(cfg, inv)
	if err != nil {
		return nil, err
	}
	m := &Machine{judge: judge, names: map[string]string{}}
	place := func(name string, typ arrow.Type) int {
		i := rows.FieldIndices(name)
		if len(i) == 1 && rows.Field(i[0]).Type.ID() == typ {
			return i[0]
		}
		return -1
	}
	m.at = columns{pdu: place(colPDU, arrow.STRING), scope: place("scope", arrow.STRING), element: place("element", arrow.STRING), feed: place("feed", arrow.STRING), wiring: place("wiring", arrow.STRING)}
	if m.at.pdu < 0 {
		return nil, fmt.Errorf("rows of PDUs have no text %s", colPDU)
	}
	for k, name := range valueColumns {
		m.at.values[k], m.at.scale[k] = place(name, arrow.INT64), 1
		if i := m.at.values[k]; i >= 0 {
			if text, ok := rows.Field(i).Metadata.GetValue(pipeline.ScaleKey); ok {
				scale, err := strconv.Atoi(text)
				if err != nil {
					return nil, fmt.Errorf("column %s: scale %q", name, text)
				}
				m.at.scale[k] = math.Pow10(scale)
			}
		}
	}
	m.findings = newTableBuilder(findings, mem)
	m.loads = newTableBuilder(LoadSchema(), mem)
	return m, nil
}

// Refer takes another content of a file that is an inventory.
func (m *Machine) Refer(ref pipeline.Reference) error {
	if inv, ok := ref.Value.(*Inventory); ok {
		m.judge.Use(inv)
	}
	return nil
}

// Dropped counts readings of more elements than a PDU has.
func (m *Machine) Dropped() int64 { return m.judge.Dropped }

// Release gives back the memory of the tables.
func (m *Machine) Release() {
	m.findings.rows.Release()
	m.loads.rows.Release()
}

// Together implements operators.Joiner: PDUs of one redundancy group are judged together.
func (m *Machine) Together(pdu string) string { return m.judge.inv.Key(pdu) }

// Row implements operators.Machine.
func (m *Machine) Row(key string, g *Group, rec arrow.RecordBatch, r int) (due int64) {
	at := int64(rec.Column(pipeline.ColTime).(*array.Timestamp).Value(r))
	s := NewSample(Scope(m.text(rec, m.at.scope, r)), m.text(rec, m.at.element, r))
	s.Feed, s.Wiring = m.text(rec, m.at.feed, r), Wiring(m.text(rec, m.at.wiring, r))
	for k, v := range s.values() {
		if i := m.at.values[k]; i >= 0 && rec.Column(i).IsValid(r) {
			*v = float64(rec.Column(i).(*array.Int64).Value(r)) / m.at.scale[k]
		}
	}
	m.judge.Read(key, g, at, m.text(rec, m.at.pdu, r), s)
	return m.judge.Due(g)
}

// maxNames bounds the texts that are kept to be used again.
const maxNames = 1 << 16

// text is that of a row, empty for null.
func (m *Machine) text(rec arrow.RecordBatch, col, r int) string {
	if col < 0 || rec.Column(col).IsNull(r) {
		return ""
	}
	v := rec.Column(col).(*array.String).Value(r)
	name, ok := m.names[v]
	if !ok {
		if len(m.names) == maxNames {
			clear(m.names)
		}
		name = strings.Clone(v)
		m.names[name] = name
	}
	return name
}

// Advance implements operators.Machine.
func (m *Machine) Advance(key string, g *Group, at int64) (due int64) {
	due = m.judge.Advance(key, g, at)
	if len(g.Members) == 0 {
		return operators.Forget
	}
	return due
}

// Settled implements operators.Machine: PDUs that are judged together have one state.
func (m *Machine) Settled(int64) {}

// Flush implements operators.Machine.
func (m *Machine) Flush(out pipeline.Emitter) error {
	for i := range m.judge.Findings {
		m.findings.add(func(name string) any { return m.judge.Findings[i].column(name) })
	}
	for i := range m.judge.Reports {
		m.loads.add(func(name string) any { return m.judge.Reports[i].column(name) })
	}
	m.judge.Findings, m.judge.Reports = m.judge.Findings[:0], m.judge.Reports[:0]
	if err := m.findings.flush(pipeline.Out, out); err != nil {
		return err
	}
	return m.loads.flush(pipeline.Side(0), out)
}

// tableBuilder builds rows whose values are asked for by column.
type tableBuilder struct {
	rows *array.RecordBuilder
	n    int
}

func newTableBuilder(s *arrow.Schema, mem memory.Allocator) tableBuilder {
	return tableBuilder{rows: array.NewRecordBuilder(mem, s)}
}

// tick is a time among the values of a row.
type tick int64

// add appends a row. A number that is not known, an empty text and nil are null.
func (t *tableBuilder) add(value func(column string) any) {
	t.n++
	for i, f := range t.rows.Schema().Fields() {
		switch v := value(f.Name).(type) {
		case float64:
			if b := t.rows.Field(i).(*array.Float64Builder); known(v) && !math.IsInf(v, 0) {
				b.Append(v)
			} else {
				b.AppendNull()
			}
		case string:
			if b := t.rows.Field(i).(*array.StringBuilder); v != "" || !f.Nullable {
				b.Append(v)
			} else {
				b.AppendNull()
			}
		case tick:
			t.rows.Field(i).(*array.TimestampBuilder).Append(arrow.Timestamp(v))
		case int32:
			t.rows.Field(i).(*array.Int32Builder).Append(v)
		case int64:
			t.rows.Field(i).(*array.Int64Builder).Append(v)
		case bool:
			t.rows.Field(i).(*array.BooleanBuilder).Append(v)
		default:
			t.rows.Field(i).AppendNull()
		}
	}
}

func (t *tableBuilder) flush(p pipeline.Port, out pipeline.Emitter) error {
	if t.n == 0 {
		return nil
	}
	t.n = 0
	rec := t.rows.NewRecordBatch()
	defer rec.Release()
	return out.Emit(p, pipeline.Result(rec))
}

// ruleVersion is that of the rules; it changes when they find something else in the same readings.
const ruleVersion = "1"

// column is a value of a finding by its column.
func (f *Finding) column(name string) any {
	switch name {
	case "time":
		return tick(f.Made)
	case "finding_uid":
		return f.UID
	case "n":
		return int32(f.N)
	case "activity":
		return string(f.Change)
	case "rule":
		return string(f.Rule)
	case "rule_version":
		return ruleVersion
	case "start_time":
		return tick(f.Since)
	case "end_time", "modified_time":
		return tick(f.Modified)
	case colPDU:
		return f.PDU.ID
	case "phase":
		return f.Element
	case "failed_feed":
		return f.FailedFeed
	case "peer_id":
		return f.Peer
	case "count":
		return f.Count
	case "lost_devices":
		if f.Rule == RuleRedundancy {
			return f.Lost
		}
	case "device_name":
		return f.PDU.Name
	case "country":
		return f.PDU.Country
	case "silenced":
		if f.Silenced {
			return true
		}
	case "_tm_revision":
		return int32(1)
	default:
		return f.number(name)
	}
	return nil
}

// number is a measured value of a finding by its column.
func (f *Finding) number(name string) any {
	switch name {
	case "avg_a":
		return f.AvgA
	case "max_a":
		return f.MaxA
	case "fuse_a":
		return f.FuseA
	case "rated_a":
		return f.RatedA
	case "load_pct":
		return f.LoadPct
	case "l1_avg_a":
		return f.Line[0]
	case "l2_avg_a":
		return f.Line[1]
	case "l3_avg_a":
		return f.Line[2]
	case "imbalance_pct":
		return f.ImbalancePct
	case "limit_pct":
		return f.LimitPct
	case "counter_kwh":
		return f.CounterKWh
	case "power_kwh":
		return f.PowerKWh
	}
	return nil
}

// LoadSchema is the schema of rows with the load of a PDU at an instant.
func LoadSchema() *arrow.Schema {
	fields := []arrow.Field{{Name: "time", Type: pipeline.Timestamp}, {Name: colPDU, Type: arrow.BinaryTypes.String}}
	add := func(typ arrow.DataType, names ...string) {
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: true})
		}
	}
	text, number, flag := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Boolean
	add(text, "feed", "redundancy_group", "wiring")
	add(number, "l1_a", "l2_a", "l3_a")
	add(flag, "line_computed")
	add(number, "l12_a", "l23_a", "l31_a", "neutral_a", "l1_w", "l2_w", "l3_w", "l12_w", "l23_w", "l31_w", "w", "var", "va", "pf",
		"imbalance_nema_pct", "imbalance_iec_pct")
	add(flag, "low_load")
	add(number, "l1_headroom_a", "l2_headroom_a", "l3_headroom_a", "l12_headroom_a", "l23_headroom_a", "l31_headroom_a",
		"l12_continuous_headroom_a", "l23_continuous_headroom_a", "l31_continuous_headroom_a")
	add(text, "breaker")
	add(number, "breaker_a", "breaker_headroom_a")
	add(text, "over", "over_continuous", "near", "energy_kind")
	add(number, "energy_kwh", "power_kwh")
	add(text, "peer_id", "failover_verdict")
	add(number, "failover_pct")
	add(arrow.PrimitiveTypes.Int64, "failover_lost")
	add(flag, "failover_mirror")
	add(text, "problem")
	return arrow.NewSchema(fields, nil)
}

// column is a value of a report by its column.
func (r *Report) column(name string) any {
	switch name {
	case "time":
		return tick(r.At)
	case colPDU:
		return r.PDU.ID
	case "feed":
		return r.PDU.Feed
	case "redundancy_group":
		return r.PDU.Group
	case "wiring":
		return string(r.PDU.Wiring)
	case "line_computed":
		return r.Computed
	case "low_load":
		return r.Imbalance.LowLoad
	case "breaker":
		if i := r.worstBank(); i >= 0 {
			return r.Banks[i].Name
		}
	case "over":
		return strings.Join(r.Headroom.Over, " ")
	case "over_continuous":
		return strings.Join(r.Headroom.OverContinuous, " ")
	case "near":
		return strings.Join(r.Headroom.Near, " ")
	case "energy_kind":
		return string(r.Energy.Kind)
	case "peer_id":
		return r.Peer
	case "problem":
		return strings.Trim(r.Problem+"; "+r.FailProblem, "; ")
	case "failover_verdict", "failover_pct", "failover_lost", "failover_mirror":
		if r.Fail != nil {
			return r.Fail.column(name)
		}
	default:
		return r.number(name)
	}
	return nil
}

// column is a value of a survivor by its column in a report.
func (s *Survivor) column(name string) any {
	switch name {
	case "failover_verdict":
		return string(s.Verdict)
	case "failover_pct":
		return 100 * s.Utilisation
	case "failover_lost":
		return int64(len(s.Lost))
	}
	return s.AssumedMirror
}

// worstBank is the breaker with the most current, -1 for none.
func (r *Report) worstBank() int {
	worst := -1
	for i, b := range r.Banks {
		if worst < 0 || b.A > r.Banks[worst].A {
			worst = i
		}
	}
	return worst
}

// number is a measured value of a report by its column.
func (r *Report) number(name string) any {
	switch name {
	case "neutral_a":
		return r.Neutral
	case "w":
		return r.W
	case "var":
		return r.Var
	case "va":
		return r.VA
	case "pf":
		return r.PF
	case "imbalance_nema_pct":
		return r.Imbalance.NEMA
	case "imbalance_iec_pct":
		if r.Imbalance.HasIEC {
			return r.Imbalance.IEC
		}
		return nil
	case "energy_kwh":
		return r.Energy.KWh
	case "power_kwh":
		return r.PowerKWh
	}
	element, quantity, _ := strings.Cut(name, "_")
	if element == "breaker" {
		return r.bankNumber(quantity)
	}
	for k := range Lines {
		switch element {
		case strings.ToLower(Lines[k]):
			return r.lineNumber(k, quantity)
		case strings.ToLower(Branches[k]):
			return r.branchNumber(k, quantity)
		}
	}
	return nil
}

func (r *Report) lineNumber(k int, quantity string) any {
	switch {
	case quantity == "a":
		return r.Line[k]
	case quantity == "headroom_a":
		return r.Headroom.Line[k]
	case r.PDU.Wiring.Loads()[k] == Lines[k]:
		return r.LoadW[k]
	}
	return nil
}

func (r *Report) branchNumber(k int, quantity string) any {
	if !r.Delta {
		return nil
	}
	switch quantity {
	case "a":
		return r.Branch[k]
	case "w":
		return r.LoadW[k]
	case "headroom_a":
		return r.Headroom.Branch[k]
	}
	return r.Headroom.Continuous[k]
}

func (r *Report) bankNumber(quantity string) any {
	i := r.worstBank()
	switch {
	case i < 0:
		return nil
	case quantity == "a":
		return r.Banks[i].A
	}
	return r.BankHeadroom[i]
}

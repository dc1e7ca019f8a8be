package traffic

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Ports of the tables beside the findings, as pipeline.Side counts them.
const (
	SlotsTable = iota
	AuditTable
)

func textField(name string, null bool) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: null}
}

func timeField(name string, null bool) arrow.Field {
	return arrow.Field{Name: name, Type: pipeline.Timestamp, Nullable: null}
}

func floatField(name string) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true}
}

func intField(name string, null bool) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: null}
}

// FindingSchema is the schema of findings: that of schemas/traffic, which says what the columns
// mean, and behind it whether a fault of the collector is suspected.
func FindingSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		timeField("time", false), textField("finding_uid", false), {Name: "n", Type: arrow.PrimitiveTypes.Int32}, textField("activity", false),
		textField("rule", false), textField("rule_version", true), timeField("start_time", true), timeField("end_time", true), timeField("modified_time", true),
		textField("verification", true), textField("related_uid", true),
		{Name: "data_sources", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		textField("entity", false), textField("entity_type", true), textField("method", true),
		intField("expected_bytes", true), intField("observed_bytes", true), intField("blocks", true), intField("slot_ms", true), floatField("drop_pct"),
		textField("entity_name", true), textField("as_name", true), textField("country", true), textField("region", true), textField("city", true),
		{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
		{Name: held, Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	}, nil)
}

// Words of findings.
const (
	ruleName    = "traffic_drop_forecast"
	ruleVersion = "1"
	methodName  = "lower median of the 6 most similar of 28 days"
)

// appendFinding appends a row of FindingSchema.
func appendFinding(b *array.RecordBuilder, c Change) {
	r := &c.Record
	w := rowWriter{b: b}
	w.time(r.DetectedAt)
	w.text(r.UUID)
	w.int32(int32(r.Told))
	w.text(string(c.Activity))
	w.text(ruleName)
	w.text(ruleVersion)
	w.time(r.Start)
	w.timeIf(r.End, r.HasEnd)
	w.time(c.At)
	w.text(string(r.Status))
	w.null() // related_uid
	w.texts(r.Signals)
	w.text(r.Entity)
	w.textIf("location", r.Type() == "LOCATION")
	w.text(methodName)
	w.intIf(whole(r.Expected), r.Expected > 0)
	w.intIf(whole(r.Observed), r.Expected > 0)
	w.intIf(int64(r.Slots), r.Slots > 0)
	w.intIf(SlotTicks/1000, true)
	w.floatIf(-100*r.MinChange, r.Expected > 0)
	for range 5 { // what else there is to say of the entity
		w.null()
	}
	w.int32(1)
	w.boolIf(true, r.Held)
}

// whole is a volume as an integer, the largest one if it is larger.
func whole(v float64) int64 {
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Round(v))
}

// rowWriter appends the columns of a row, one by one.
type rowWriter struct {
	b  *array.RecordBuilder
	at int
}

func (w *rowWriter) next() array.Builder {
	w.at++
	return w.b.Field(w.at - 1)
}

func (w *rowWriter) null()          { w.next().AppendNull() }
func (w *rowWriter) text(s string)  { w.next().(*array.StringBuilder).Append(s) }
func (w *rowWriter) int32(v int32)  { w.next().(*array.Int32Builder).Append(v) }
func (w *rowWriter) time(t int64)   { w.next().(*array.TimestampBuilder).Append(arrow.Timestamp(t)) }
func (w *rowWriter) bytes(b []byte) { w.next().(*array.BinaryBuilder).Append(b) }

func (w *rowWriter) timeIf(t int64, is bool) {
	if !is {
		w.null()
		return
	}
	w.time(t)
}

func (w *rowWriter) textIf(s string, is bool) {
	if !is {
		w.null()
		return
	}
	w.text(s)
}

func (w *rowWriter) intIf(v int64, is bool) {
	if !is {
		w.null()
		return
	}
	w.next().(*array.Int64Builder).Append(v)
}

func (w *rowWriter) floatIf(v float64, is bool) {
	if !is {
		w.null()
		return
	}
	w.next().(*array.Float64Builder).Append(v)
}

func (w *rowWriter) boolIf(v, is bool) {
	if !is {
		w.null()
		return
	}
	w.next().(*array.BooleanBuilder).Append(v)
}

func (w *rowWriter) texts(of []string) {
	list := w.next().(*array.ListBuilder)
	list.Append(true)
	for _, s := range of {
		list.ValueBuilder().(*array.StringBuilder).Append(s)
	}
}

// SlotSchema is the schema of the table of slots: what passed in 15 minutes, as the detector took
// it, or what came behind it (revised), which no verdict depends on.
func SlotSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		timeField("slot_start", false), textField("entity", true), textField("signal", true),
		floatField("value"), floatField("coverage"), floatField("forecast"), textField("state", false), textField("counter", true),
	}, nil)
}

// SlotState says what the detector made of a slot.
type SlotState string

const (
	SlotWarming SlotState = "warming" // the series is too short yet
	SlotNormal  SlotState = "normal"
	SlotMissing SlotState = "missing"
	SlotOpen    SlotState = "open" // an event is
	SlotRevised SlotState = "revised"
)

// slotRow is a row of SlotSchema.
type slotRow struct {
	start          int64
	entity, signal string
	value          float64 // NaN is none, as in what follows
	coverage       float64
	forecast       float64
	state          SlotState
	counter        string // whose part of the slot is revised; "" for the whole slot
}

// flushSlots sends rows in an order that depends on them alone.
func flushSlots(mem memory.Allocator, rows []slotRow, out pipeline.Emitter) error {
	if len(rows) == 0 {
		return nil
	}
	slices.SortStableFunc(rows, func(a, b slotRow) int {
		return cmp.Or(cmp.Compare(a.start, b.start), strings.Compare(a.entity, b.entity), strings.Compare(a.signal, b.signal), strings.Compare(a.counter, b.counter))
	})
	b := array.NewRecordBuilder(mem, SlotSchema())
	defer b.Release()
	for _, r := range rows {
		w := rowWriter{b: b}
		w.time(r.start)
		w.text(r.entity)
		w.textIf(r.signal, r.signal != "")
		w.floatIf(r.value, !math.IsNaN(r.value))
		w.floatIf(r.coverage, !math.IsNaN(r.coverage))
		w.floatIf(r.forecast, !math.IsNaN(r.forecast))
		w.text(string(r.state))
		w.textIf(r.counter, r.counter != "")
	}
	return emit(b, pipeline.Side(SlotsTable), out)
}

// emit sends what a builder has, if that is anything.
func emit(b *array.RecordBuilder, port pipeline.Port, out pipeline.Emitter) error {
	if b.Field(0).Len() == 0 {
		return nil
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	return out.Emit(port, pipeline.Result(rec))
}

// AuditSchema is the schema of the table of what has changed of statuses.
func AuditSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		timeField("time", false), textField("finding_uid", false), textField("entity", false), textField("from_status", true),
		textField("to_status", false), textField("by", true), textField("reason", false), textField("note", true),
	}, nil)
}

func appendAudit(b *array.RecordBuilder, a Audit) {
	w := rowWriter{b: b}
	w.time(a.At)
	w.text(a.UUID)
	w.text(a.Entity)
	w.textIf(string(a.From), a.From != "")
	w.text(string(a.To))
	w.textIf(a.By, a.By != "")
	w.text(a.Reason)
	w.textIf(a.Note, a.Note != "")
}

// Columns of rows between the operators, behind those of pipeline.RowFields.
const (
	colScope = pipeline.NumRowColumns + iota // one value: the register has one key
	colNotice
)

// NoticeKey is the column by which notices are keyed.
const NoticeKey = "scope"

// NoticeSchema is the schema of what detectors tell the register. The time of a row is when its
// slot was final.
func NoticeSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(), textField(NoticeKey, false), arrow.Field{Name: "notice", Type: arrow.BinaryTypes.Binary}), nil)
}

// flushNotices sends notices. Their offsets keep the order of those of an instant, all of which
// come in one call.
func flushNotices(mem memory.Allocator, notices []Notice, out pipeline.Emitter) error {
	if len(notices) == 0 {
		return nil
	}
	slices.SortStableFunc(notices, func(a, b Notice) int {
		return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.Entity, b.Entity), strings.Compare(a.Signal, b.Signal))
	})
	b := array.NewRecordBuilder(mem, NoticeSchema())
	defer b.Release()
	for i, n := range notices {
		text, err := json.Marshal(n)
		if err != nil {
			return fmt.Errorf("notice of %s: %w", n.Entity, err)
		}
		w := rowWriter{b: b}
		w.place(n.At, int64(i))
		w.text("all")
		w.bytes(text)
	}
	return emit(b, pipeline.Out, out)
}

// place appends the columns of pipeline.RowFields for a row that comes of others.
func (w *rowWriter) place(at, offset int64) {
	w.time(at)
	w.int32(0)
	w.intIf(offset, true)
	w.time(at)
}

// Columns of slots between the operators, behind those of pipeline.RowFields.
const (
	colSlotEntity = pipeline.NumRowColumns + iota
	colSlotSignal
	colSlotStart
	colSlotValue
	colSlotCoverage
)

// CountedSchema is the schema of the slots that Counters and Volumes give to Series. The time of a row
// is when its slot was final; coverage is null for volumes.
func CountedSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(), textField("entity", false), textField("signal", false),
		timeField("slot_start", false), floatField("value"), floatField("coverage")), nil)
}

package traffic

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// CounterColumns name the columns of rows of counters.
type CounterColumns struct {
	Entity, Signal, Value string // Signal "" for none
	// Up is how long the device has been up, in 1/100 s, and Discontinuity when the counter began
	// anew; "" for columns that are not there.
	Up, Discontinuity string
}

// Counters is a machine that turns samples of counters into slots: rows of CountedSchema, and
// into the table of slots what comes for a slot that was final.
type Counters struct {
	cfg   CounterConfig
	at    counterPlaces
	mem   memory.Allocator
	done  []countedSlot
	late  []slotRow
	kinds map[Kind]int64 // samples by what they were, since the last Flush
	// Counted, unless nil, is told how many samples of each kind there were since it was told last.
	Counted func(map[Kind]int64)
}

type counterPlaces struct{ entity, signal, value, up, discontinuity int } // -1: none

// countedSlot is a row of CountedSchema.
type countedSlot struct {
	entity, signal  string
	start           int64
	value, coverage float64 // NaN: none
}

// CounterState is what is known of a counter; the zero value has seen nothing.
type CounterState struct {
	Counter Counter
	Slots   Slots
	Next    int64 // start of the first slot that is not final, once Seen
	Entity  string
	Signal  string
	Silent  int // final slots without a delta, in a row
	// Final are the last final slots, which a delta over a gap may still change.
	Final []Slot
}

// silentSlots is for how long a counter that says nothing is followed.
const silentSlots = day

// NewCounters makes the machine for rows of a schema.
func NewCounters(cfg CounterConfig, columns CounterColumns, rows *arrow.Schema, mem memory.Allocator) (*Counters, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Counters{cfg: cfg, mem: mem, kinds: map[Kind]int64{}}
	for _, c := range []struct {
		name     string
		at       *int
		of       arrow.Type
		required bool
	}{
		{columns.Entity, &m.at.entity, arrow.STRING, true}, {columns.Signal, &m.at.signal, arrow.STRING, false}, {columns.Value, &m.at.value, arrow.INT64, true},
		{columns.Up, &m.at.up, arrow.INT64, false}, {columns.Discontinuity, &m.at.discontinuity, arrow.INT64, false},
	} {
		var err error
		if *c.at, err = column(rows, c.name, c.required, c.of); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// column finds a column of one of some types; -1 for "" when it is not required.
func column(rows *arrow.Schema, name string, required bool, of ...arrow.Type) (int, error) {
	if name == "" && !required {
		return -1, nil
	}
	at := rows.FieldIndices(name)
	if len(at) != 1 {
		return -1, fmt.Errorf("column %q: the rows have none of that name", name)
	}
	if id := rows.Field(at[0]).Type.ID(); !slices.Contains(of, id) {
		return -1, fmt.Errorf("column %q: has type %s, want %s", name, rows.Field(at[0]).Type, of[0])
	}
	return at[0], nil
}

// textAt is the text of a row's column; "" for null and for none.
func textAt(rec arrow.RecordBatch, column, r int) string {
	if column < 0 || rec.Column(column).IsNull(r) {
		return ""
	}
	return string([]byte(rec.Column(column).(*array.String).Value(r)))
}

// intAt is the integer of a row's column; false for null and for none.
func intAt(rec arrow.RecordBatch, column, r int) (int64, bool) {
	if column < 0 || rec.Column(column).IsNull(r) {
		return 0, false
	}
	return rec.Column(column).(*array.Int64).Value(r), true
}

func timeAt(rec arrow.RecordBatch, column, r int) int64 {
	return int64(rec.Column(column).(*array.Timestamp).Value(r))
}

// Row implements operators.Machine.
func (m *Counters) Row(key string, s *CounterState, rec arrow.RecordBatch, r int) int64 {
	at := timeAt(rec, pipeline.ColTime, r)
	if s.Counter.Seen {
		m.finish(s, at-1)
	}
	if !s.Counter.Seen {
		*s = CounterState{Next: floor(at), Entity: textAt(rec, m.at.entity, r), Signal: cmp.Or(textAt(rec, m.at.signal, r), OneSignal)}
	}
	v, ok := intAt(rec, m.at.value, r)
	if !ok || v < 0 {
		m.kinds[NoValue]++
		if !s.Counter.Seen {
			return operators.Forget
		}
		return m.due(s)
	}
	sample := Sample{At: at, Value: uint64(v)}
	if up, ok := intAt(rec, m.at.up, r); ok && up >= 0 && up < mostTicks/10_000 {
		sample.Up, sample.HasUp = up*10_000, true
	}
	sample.Discontinuity, sample.HasDiscontinuity = intAt(rec, m.at.discontinuity, r)
	d := s.Counter.Read(m.cfg, sample)
	m.kinds[d.Kind]++
	m.spread(key, s, d)
	return m.due(s)
}

// spread adds a delta to its slots. What belongs to final ones is told of apart.
func (m *Counters) spread(key string, s *CounterState, d Delta) {
	if !d.Added || d.Since >= s.Next {
		s.Slots.Add(d)
		return
	}
	var parts Slots
	parts.Add(d)
	for _, p := range parts.Open {
		if p.Start >= s.Next {
			slot := s.Slots.at(p.Start)
			slot.Bytes, slot.Covered = slot.Bytes+p.Bytes, slot.Covered+p.Covered
			continue
		}
		i := slices.IndexFunc(s.Final, func(f Slot) bool { return f.Start == p.Start })
		if i < 0 {
			i = len(s.Final)
			s.Final = append(s.Final, Slot{Start: p.Start})
		}
		f := &s.Final[i]
		f.Bytes, f.Covered = f.Bytes+p.Bytes, f.Covered+p.Covered
		m.late = append(m.late, slotRow{f.Start, s.Entity, s.Signal, valueOf(*f), f.Coverage(), math.NaN(), SlotRevised, strings.ReplaceAll(key, operators.KeySeparator, "/")})
	}
}

func (m *Counters) due(s *CounterState) int64 { return s.Next + SlotTicks + finality }

// Advance implements operators.Machine.
func (m *Counters) Advance(_ string, s *CounterState, at int64) int64 {
	m.finish(s, at)
	if s.Silent > silentSlots {
		return operators.Forget
	}
	return m.due(s)
}

// finish gives away the slots that are final at a time.
func (m *Counters) finish(s *CounterState, at int64) {
	for m.due(s) <= at && s.Silent <= silentSlots {
		slot := Slot{Start: s.Next}
		if len(s.Slots.Open) > 0 && s.Slots.Open[0].Start == s.Next {
			slot = s.Slots.Open[0]
			s.Slots.Open = slices.Delete(s.Slots.Open, 0, 1)
		}
		if s.Silent++; slot.Covered > 0 {
			s.Silent = 0
		}
		m.done = append(m.done, countedSlot{s.Entity, s.Signal, slot.Start, valueOf(slot), slot.Coverage()})
		s.Final = append(s.Final, slot)
		s.Next += SlotTicks
		s.Final = slices.DeleteFunc(s.Final, func(f Slot) bool { return f.Start < s.Next-m.cfg.MaxGap-2*SlotTicks })
	}
	if s.Silent > silentSlots { // as if it had been forgotten
		*s = CounterState{Silent: s.Silent}
	}
}

// valueOf is the volume of a slot, NaN when too little of it is covered.
func valueOf(s Slot) float64 {
	if v, ok := s.Value(); ok {
		return v
	}
	return math.NaN()
}

// Settled implements operators.Machine.
func (m *Counters) Settled(int64) {}

// Flush implements operators.Machine.
func (m *Counters) Flush(out pipeline.Emitter) error {
	if m.Counted != nil {
		m.Counted(m.kinds)
	}
	clear(m.kinds)
	done, late := m.done, m.late
	m.done, m.late = nil, nil
	if err := flushSlots(m.mem, late, out); err != nil {
		return err
	}
	return flushCounted(m.mem, done, out)
}

// flushCounted sends slots on to Series. Their offsets keep the order of those of an instant, all of
// which come in one call.
func flushCounted(mem memory.Allocator, done []countedSlot, out pipeline.Emitter) error {
	if len(done) == 0 {
		return nil
	}
	slices.SortFunc(done, func(a, b countedSlot) int { // those of an entity are added up in this order
		return cmp.Or(cmp.Compare(a.start, b.start), strings.Compare(a.entity, b.entity), strings.Compare(a.signal, b.signal), cmp.Compare(a.value, b.value), cmp.Compare(a.coverage, b.coverage))
	})
	b := array.NewRecordBuilder(mem, CountedSchema())
	defer b.Release()
	for i, s := range done {
		w := rowWriter{b: b}
		w.place(s.start+SlotTicks+finality, int64(i))
		w.text(s.entity)
		w.text(s.signal)
		w.time(s.start)
		w.floatIf(s.value, !math.IsNaN(s.value))
		w.floatIf(s.coverage, !math.IsNaN(s.coverage))
	}
	return emit(b, pipeline.Out, out)
}

// counterVersion is the first byte of the state of a counter.
const counterVersion = 1

// AppendCounter and ReadCounter are the state of a counter in a checkpoint.
func AppendCounter(dst []byte, s *CounterState) []byte {
	c := &s.Counter
	var bits byte
	for i, on := range []bool{c.Seen, c.Last.HasUp, c.Last.HasDiscontinuity} {
		if on {
			bits |= 1 << i
		}
	}
	dst = append(dst, counterVersion, bits)
	dst = binary.AppendUvarint(dst, c.Last.Value)
	dst = binary.AppendUvarint(dst, c.Base)
	for _, v := range []int64{c.Last.At, c.Last.Up, c.Last.Discontinuity, s.Next, int64(s.Silent)} {
		dst = binary.AppendVarint(dst, v)
	}
	for _, text := range []string{s.Entity, s.Signal} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	for _, slots := range [][]Slot{s.Slots.Open, s.Final} {
		dst = binary.AppendUvarint(dst, uint64(len(slots)))
		for _, slot := range slots {
			dst = binary.AppendVarint(dst, slot.Start)
			dst = binary.AppendVarint(dst, slot.Covered)
			dst = appendFloats(dst, slot.Bytes)
		}
	}
	return dst
}

// ReadCounter reads what AppendCounter has made.
func ReadCounter(b []byte, s *CounterState) error {
	r := stateReader{b: b}
	if v := r.byte(); r.err == nil && v != counterVersion {
		return fmt.Errorf("counter: version %d: this program reads %d; run the one that wrote it", v, counterVersion)
	}
	bits := r.byte()
	r.check(bits < 8, "flags")
	c := &s.Counter
	c.Seen, c.Last.HasUp, c.Last.HasDiscontinuity = bits&1 != 0, bits&2 != 0, bits&4 != 0
	c.Last.Value, c.Base = r.uint(), r.uint()
	c.Last.At, c.Last.Up, c.Last.Discontinuity = r.ticks(), r.varint(), r.varint()
	s.Next, s.Silent = r.ticks(), int(r.ticks())
	s.Entity, s.Signal = r.long(), r.long()
	s.Slots.Open, s.Final = r.slots(), r.slots()
	r.check(len(r.b) == 0, "bytes behind it")
	if r.err != nil {
		return fmt.Errorf("counter: %w", r.err)
	}
	return nil
}

// slots reads slots, which come by start.
func (r *stateReader) slots() []Slot {
	n := r.int(len(r.b))
	var out []Slot
	for range n {
		s := Slot{Start: r.ticks(), Covered: r.ticks(), Bytes: r.float()}
		if r.err != nil {
			return nil
		}
		out = append(out, s)
	}
	return out
}

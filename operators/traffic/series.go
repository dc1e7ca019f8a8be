package traffic

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// SeriesConfig says what is made of series of slots.
type SeriesConfig struct {
	// AbsentIsZero takes a slot that nobody tells of for one with nothing in it, not for one that
	// is missing.
	AbsentIsZero bool
	Detector     DetectorConfig
	Eligibility  EligibilityConfig
	// History has what is known of series from before their first row.
	History []History
}

// History is what is known of a series: slots from Start on, one behind the other, NaN where they
// are missing.
type History struct {
	Entity, Signal string
	Start          int64
	Values         []float64
}

// Series is a machine with a detector for every entity and signal, of slots that Counters and Volumes
// give. It tells the register of events and of eligibility (NoticeSchema), and of every slot in a
// table.
type Series struct {
	cfg      SeriesConfig
	mem      memory.Allocator
	history  map[seriesKey]History
	verdicts map[string][]Verdict // by entity
	notices  []Notice
	slots    []slotRow
}

// OneSignal is the name of the signal of rows that name none.
const OneSignal = "traffic"

type seriesKey struct{ entity, signal string }

// SeriesState is what is known of a series; the zero value has seen nothing.
type SeriesState struct {
	Entity, Signal string
	Detector       *Detector
	Open           []openSlot // that are not final, by start
	Eligible       Eligibility
	ToldEligible   bool  // what the register knows
	Told           int64 // start of the event that it knows to be open, if HasTold
	HasTold        bool
	Silent         int      // slots without a row, in a row
	Applied        []uint64 // verdicts, sorted
}

// openSlot is a slot that is not final.
type openSlot struct {
	Start    int64
	Sum      float64
	Missing  bool    // one of the counters has no value
	Coverage float64 // the least of the counters; NaN: there are none
}

// silentSeries is after how many slots without a row a series is forgotten: what happened while
// there were rows is over then, and remembered nowhere.
const silentSeries = span + expiry

// NewSeries makes the machine.
func NewSeries(cfg SeriesConfig, verdicts []Verdict, mem memory.Allocator) (*Series, error) {
	if err := cfg.Detector.Validate(); err != nil {
		return nil, err
	}
	m := &Series{cfg: cfg, mem: mem, history: map[seriesKey]History{}}
	for _, h := range cfg.History {
		m.history[seriesKey{h.Entity, cmp.Or(h.Signal, OneSignal)}] = h
	}
	m.SetVerdicts(verdicts)
	return m, nil
}

// SetVerdicts sets all that people have said.
func (m *Series) SetVerdicts(vs []Verdict) {
	m.verdicts = map[string][]Verdict{}
	for _, v := range vs {
		m.verdicts[v.Entity] = append(m.verdicts[v.Entity], v)
	}
}

// Refer implements what operators.Keyed does with a file that has changed.
func (m *Series) Refer(ref pipeline.Reference) error {
	if vs, ok := ref.Value.([]Verdict); ok {
		m.SetVerdicts(vs)
	}
	return nil
}

// Row implements operators.Machine.
func (m *Series) Row(_ string, s *SeriesState, rec arrow.RecordBatch, r int) int64 {
	at, start := timeAt(rec, pipeline.ColTime, r), timeAt(rec, colSlotStart, r)
	if s.Detector != nil {
		m.finish(s, at-1)
	}
	if s.Detector == nil {
		m.begin(s, start, textAt(rec, colSlotEntity, r), textAt(rec, colSlotSignal, r))
	}
	if start >= s.Detector.Next() {
		s.at(start).take(rec, r)
	}
	return m.due(s)
}

// begin starts a series with what is known of it from before.
func (m *Series) begin(s *SeriesState, start int64, entity, signal string) {
	s.Entity, s.Signal = entity, signal
	h, ok := m.history[seriesKey{entity, signal}]
	if age := start - h.Start - int64(len(h.Values))*SlotTicks; !ok || h.Start >= start || age > silentSeries*SlotTicks {
		h = History{Start: start}
	}
	d, err := NewDetector(m.cfg.Detector, h.Start)
	if err != nil {
		panic(fmt.Sprintf("traffic: a configuration that was valid: %v", err))
	}
	s.Detector = d
	for d.Next() < start {
		v := math.NaN()
		if i := int((d.Next() - h.Start) / SlotTicks); i < len(h.Values) {
			v = h.Values[i]
		}
		d.Add(v)
		m.day(s)
	}
}

// take adds a row to a slot. Several counters of an entity give one each.
func (o *openSlot) take(rec arrow.RecordBatch, r int) {
	if c := rec.Column(colSlotCoverage).(*array.Float64); !c.IsNull(r) && !(o.Coverage <= c.Value(r)) {
		o.Coverage = c.Value(r)
	}
	if v := rec.Column(colSlotValue).(*array.Float64); v.IsNull(r) {
		o.Missing = true
	} else {
		o.Sum += v.Value(r)
	}
}

// at returns the slot with a start, a new one if there is none.
func (s *SeriesState) at(start int64) *openSlot {
	i, there := slices.BinarySearchFunc(s.Open, start, func(o openSlot, t int64) int { return int(min(max(o.Start-t, -1), 1)) })
	if !there {
		s.Open = slices.Insert(s.Open, i, openSlot{Start: start, Coverage: math.NaN()})
	}
	return &s.Open[i]
}

func (m *Series) due(s *SeriesState) int64 { return s.Detector.Next() + SlotTicks + finality }

// Advance implements operators.Machine.
func (m *Series) Advance(_ string, s *SeriesState, at int64) int64 {
	m.finish(s, at)
	if s.Detector == nil {
		return operators.Forget
	}
	return m.due(s)
}

// finish gives the detector the slots that are final at a time. After a long silence it forgets the
// series.
func (m *Series) finish(s *SeriesState, at int64) {
	for m.due(s) <= at {
		m.slot(s)
		if s.Silent < silentSeries {
			continue
		}
		if s.ToldEligible {
			m.tell(s, s.Detector.Next()+finality, Eligibly, Event{}, false)
		}
		*s = SeriesState{}
		return
	}
}

// slot gives the detector the next slot.
func (m *Series) slot(s *SeriesState) {
	d := s.Detector
	start, due := d.Next(), m.due(s)
	row := slotRow{start: start, entity: s.Entity, signal: s.Signal, value: math.NaN(), coverage: math.NaN(), forecast: math.NaN()}
	if m.cfg.AbsentIsZero {
		row.value = 0
	}
	s.Silent++
	if len(s.Open) > 0 && s.Open[0].Start == start {
		open := s.Open[0]
		s.Open = slices.Delete(s.Open, 0, 1)
		row.value, s.Silent = open.Sum, 0
		if open.Missing {
			row.value = math.NaN()
		}
		row.coverage = open.Coverage
	}
	m.judge(s, due)
	event, closed := d.Add(row.value)
	if closed {
		s.HasTold = false
		m.tell(s, due, EventClosed, event, s.Eligible.Eligible)
	}
	open, is := d.Open()
	if is && !(s.HasTold && s.Told == open.Start) {
		s.Told, s.HasTold = open.Start, true
		m.known(s, open.Start, due)
		m.tell(s, due, EventOpened, open, s.Eligible.Eligible)
	}
	if f, ok := d.Forecast(); ok {
		row.forecast = f
	}
	row.state = stateOf(d, row.value, is)
	if s.Silent <= day { // nobody wants to read for weeks that nothing came
		m.slots = append(m.slots, row)
	}
	if m.day(s); s.ToldEligible != s.Eligible.Eligible {
		s.ToldEligible = s.Eligible.Eligible
		m.tell(s, due, Eligibly, Event{}, s.ToldEligible)
	}
}

func stateOf(d *Detector, v float64, open bool) SlotState {
	switch {
	case open:
		return SlotOpen
	case math.IsNaN(v):
		return SlotMissing
	case !d.Ready():
		return SlotWarming
	}
	return SlotNormal
}

// judge does what people have said by the time of the next slot.
func (m *Series) judge(s *SeriesState, due int64) {
	for _, v := range m.verdicts[s.Entity] {
		i, applied := slices.BinarySearch(s.Applied, v.ID)
		if applied || v.takesEffect() > due || v.Start >= s.Detector.Next() || v.Manual {
			continue
		}
		end := s.Detector.Next()
		if v.HasEnd {
			end = min(end, v.End)
		}
		s.Detector.Judge(v.Start, end, v.Status)
		s.Applied = slices.Insert(s.Applied, i, v.ID)
	}
}

// known judges the event that has opened by what people had said before: in a replay verdicts may be
// there first.
func (m *Series) known(s *SeriesState, start, due int64) {
	for _, v := range m.verdicts[s.Entity] {
		if v.takesEffect() <= due && !v.Manual && v.covers(start) {
			s.Detector.Judge(start, start+1, v.Status)
		}
	}
}

// day decides about eligibility when a day has ended.
func (m *Series) day(s *SeriesState) {
	if s.Detector.Next()%(day*SlotTicks) == 0 {
		s.Eligible.Day(m.cfg.Eligibility, s.Detector.Newest(nil, eligibleDays*day))
	}
}

func (m *Series) tell(s *SeriesState, at int64, kind NoticeKind, e Event, eligible bool) {
	m.notices = append(m.notices, Notice{At: at, Kind: kind, Entity: s.Entity, Signal: s.Signal, Eligible: eligible, Event: e})
}

// Settled implements operators.Machine.
func (m *Series) Settled(int64) {}

// Flush implements operators.Machine.
func (m *Series) Flush(out pipeline.Emitter) error {
	slots, notices := m.slots, m.notices
	m.slots, m.notices = nil, nil
	if err := flushSlots(m.mem, slots, out); err != nil {
		return err
	}
	return flushNotices(m.mem, notices, out)
}

// seriesVersion is the first byte of the state of a series.
const seriesVersion = 1

// AppendSeries appends the state of a series for Series.Read.
func AppendSeries(dst []byte, s *SeriesState) []byte {
	dst = append(dst, seriesVersion)
	for _, text := range []string{s.Entity, s.Signal} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	var bits byte
	for i, on := range []bool{s.Eligible.Eligible, s.HasTold, s.ToldEligible} {
		if on {
			bits |= 1 << i
		}
	}
	dst = append(dst, bits)
	dst = binary.AppendVarint(dst, s.Told)
	dst = binary.AppendUvarint(dst, uint64(s.Silent))
	dst = binary.AppendUvarint(dst, uint64(s.Eligible.Below))
	dst = binary.AppendUvarint(dst, uint64(len(s.Open)))
	for _, o := range s.Open {
		dst = binary.AppendVarint(dst, o.Start)
		dst = appendFloats(dst, o.Sum, o.Coverage)
		missing := byte(0)
		if o.Missing {
			missing = 1
		}
		dst = append(dst, missing)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Applied)))
	for _, id := range s.Applied {
		dst = binary.LittleEndian.AppendUint64(dst, id)
	}
	return s.Detector.Append(dst)
}

// Read reads what AppendSeries has made.
func (m *Series) Read(b []byte, s *SeriesState) error { return ReadSeries(m.cfg.Detector, b, s) }

// ReadSeries reads what AppendSeries has made.
func ReadSeries(cfg DetectorConfig, b []byte, s *SeriesState) error {
	r := stateReader{b: b}
	if v := r.byte(); r.err == nil && v != seriesVersion {
		return fmt.Errorf("series: version %d: this program reads %d; run the one that wrote it", v, seriesVersion)
	}
	s.Entity, s.Signal = r.long(), r.long()
	bits := r.byte()
	r.check(bits < 8, "flags")
	s.Eligible.Eligible, s.HasTold, s.ToldEligible = bits&1 != 0, bits&2 != 0, bits&4 != 0
	s.Told, s.Silent, s.Eligible.Below = r.ticks(), r.int(silentSeries), r.int(mostSlots)
	for range r.int(len(r.b)) {
		o := openSlot{Start: r.ticks(), Sum: r.float(), Coverage: r.float(), Missing: r.byte() != 0}
		if r.err != nil {
			break
		}
		s.Open = append(s.Open, o)
	}
	r.check(slices.IsSortedFunc(s.Open, func(a, b openSlot) int { return int(min(max(a.Start-b.Start, -1), 1)) }), "slots")
	for range r.int(len(r.b)) {
		id := binary.LittleEndian.Uint64(r.take(8))
		if r.err != nil {
			break
		}
		s.Applied = append(s.Applied, id)
	}
	r.check(slices.IsSorted(s.Applied), "verdicts")
	if r.err != nil {
		return fmt.Errorf("series: %w", r.err)
	}
	var err error
	if s.Detector, err = ReadDetector(cfg, r.b); err != nil {
		return fmt.Errorf("series: %w", err)
	}
	return nil
}

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

// VolumeColumns name the columns of rows of volumes.
type VolumeColumns struct{ Entity, Signal, Value string } // Signal "" for none

// Volumes is a machine that adds up the volumes of rows by slot: rows of CountedSchema. Its state is small
// and changes with every row; that of Series is large and changes with every slot.
type Volumes struct {
	entity, signal, value int // columns; signal -1 for none
	mem                   memory.Allocator
	done                  []countedSlot
}

// VolumeState are the slots of a series that are not final.
type VolumeState struct {
	Entity, Signal string
	Open           []volumeSlot // by start
}

type volumeSlot struct {
	Start int64
	Sum   float64
}

// NewVolumes makes the machine for rows of a schema.
func NewVolumes(columns VolumeColumns, rows *arrow.Schema, mem memory.Allocator) (*Volumes, error) {
	m := &Volumes{mem: mem}
	var err error
	if m.entity, err = column(rows, columns.Entity, true, arrow.STRING); err != nil {
		return nil, err
	}
	if m.signal, err = column(rows, columns.Signal, false, arrow.STRING); err != nil {
		return nil, err
	}
	if m.value, err = column(rows, columns.Value, true, arrow.INT64, arrow.FLOAT64); err != nil {
		return nil, err
	}
	return m, nil
}

// Row implements operators.Machine.
func (m *Volumes) Row(_ string, s *VolumeState, rec arrow.RecordBatch, r int) int64 {
	at := timeAt(rec, pipeline.ColTime, r)
	m.finish(s, at-1)
	if col := rec.Column(m.value); !col.IsNull(r) {
		if s.Entity == "" {
			s.Entity, s.Signal = textAt(rec, m.entity, r), cmp.Or(textAt(rec, m.signal, r), OneSignal)
		}
		slot := s.at(floor(at))
		switch col := col.(type) {
		case *array.Int64:
			slot.Sum += float64(col.Value(r))
		case *array.Float64:
			slot.Sum += col.Value(r)
		}
	}
	return s.due()
}

// at returns the slot with a start. Rows come in order, so that it is the last one or a new one.
func (s *VolumeState) at(start int64) *volumeSlot {
	if n := len(s.Open); n == 0 || s.Open[n-1].Start != start {
		s.Open = append(s.Open, volumeSlot{Start: start})
	}
	return &s.Open[len(s.Open)-1]
}

// due is when the first slot is final. Without one there is nothing to remember.
func (s *VolumeState) due() int64 {
	if len(s.Open) == 0 {
		return operators.Forget
	}
	return s.Open[0].Start + SlotTicks + finality
}

// Advance implements operators.Machine.
func (m *Volumes) Advance(_ string, s *VolumeState, at int64) int64 {
	m.finish(s, at)
	return s.due()
}

// finish gives away the slots that are final at a time.
func (m *Volumes) finish(s *VolumeState, at int64) {
	n := 0
	for n < len(s.Open) && s.Open[n].Start+SlotTicks+finality <= at {
		m.done = append(m.done, countedSlot{s.Entity, s.Signal, s.Open[n].Start, s.Open[n].Sum, math.NaN()})
		n++
	}
	s.Open = slices.Delete(s.Open, 0, n)
}

// Settled implements operators.Machine.
func (m *Volumes) Settled(int64) {}

// Flush implements operators.Machine.
func (m *Volumes) Flush(out pipeline.Emitter) error {
	done := m.done
	m.done = nil
	return flushCounted(m.mem, done, out)
}

// volumeVersion is the first byte of the state of Volumes.
const volumeVersion = 1

// AppendVolume and ReadVolume are the state of Volumes in a checkpoint.
func AppendVolume(dst []byte, s *VolumeState) []byte {
	dst = append(dst, volumeVersion)
	for _, text := range []string{s.Entity, s.Signal} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	for _, o := range s.Open {
		dst = binary.AppendVarint(dst, o.Start)
		dst = appendFloats(dst, o.Sum)
	}
	return dst
}

// ReadVolume reads what AppendVolume has made.
func ReadVolume(b []byte, s *VolumeState) error {
	r := stateReader{b: b}
	if v := r.byte(); r.err == nil && v != volumeVersion {
		return fmt.Errorf("volumes: version %d: this program reads %d; run the one that wrote it", v, volumeVersion)
	}
	s.Entity, s.Signal = r.long(), r.long()
	for len(r.b) > 0 && r.err == nil {
		o := volumeSlot{Start: r.ticks(), Sum: r.float()}
		r.check(len(s.Open) == 0 || o.Start > s.Open[len(s.Open)-1].Start, "slots")
		s.Open = append(s.Open, o)
	}
	if r.err != nil {
		return fmt.Errorf("volumes: %w", r.err)
	}
	return nil
}

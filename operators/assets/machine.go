package assets

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// Names of the files that a machine takes by Refer: a *Fences, a *Gateways, a *Registry.
const (
	FencesFile   = "assets.fences"
	GatewaysFile = "assets.gateways"
	RegistryFile = "assets.registry"
)

// Machine follows assets over the rows of feed ble, keyed by asset_id. The first table are changes
// of state (EventSchema), the second says where assets are (NowSchema): a row whenever a window
// in which the asset was heard is over, or a state of it is another.
type Machine struct {
	Follower
	// Filtered, unless nil, is told how often each rule of the filter held since it was told last.
	Filtered func(FilterCounts)

	current *Asset // that Row or Advance is called for
	in      inputs
	events  rowsOf
	now     rowsOf
}

// NewMachine makes a machine for rows of the given schema.
func NewMachine(cfg Config, world World, rows *arrow.Schema, mem memory.Allocator) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if world.Fences == nil {
		var err error
		if world.Fences, err = NewFences(nil, 0); err != nil {
			return nil, err
		}
	}
	in, err := newInputs(rows)
	if err != nil {
		return nil, err
	}
	m := &Machine{Follower: Follower{Config: cfg, World: world}, in: in, events: newRowsOf(mem, EventSchema()), now: newRowsOf(mem, NowSchema())}
	m.To = m
	return m, nil
}

// NewKeyed makes the operator of a job.
func NewKeyed(m *Machine, seed uint64, maxBytes int64, rows *arrow.Schema, mem memory.Allocator) (*operators.Keyed[Asset], error) {
	cfg := operators.KeyedConfig[Asset]{Key: []string{"asset_id"}, Seed: seed, Append: Append, Read: m.Read, MaxBytes: maxBytes}
	return operators.NewKeyed(cfg, m, rows, mem)
}

// Row implements operators.Machine.
func (m *Machine) Row(key string, s *Asset, rec arrow.RecordBatch, r int) int64 {
	m.current = s
	d := m.in.detection(rec, r)
	return dueOf(s, m.Detect(key, s, &d))
}

// Advance implements operators.Machine.
func (m *Machine) Advance(key string, s *Asset, at int64) int64 {
	m.current = s
	return dueOf(s, m.Follower.Advance(key, s, at))
}

// Resume implements operators.Resumer: forget_after holds for assets that were silent before it did.
func (m *Machine) Resume(s *Asset) int64 { return m.next(s) }

// dueOf is when an asset is due: one that is not registered, or that was silent for too long, is
// remembered no more.
func dueOf(s *Asset, due int64) int64 {
	if !s.known {
		return operators.Forget
	}
	return due
}

// Settled implements operators.Machine: there are no rules across assets.
func (m *Machine) Settled(int64) {}

// Flush implements operators.Machine.
func (m *Machine) Flush(out pipeline.Emitter) error {
	if m.Filtered != nil {
		m.Filtered(m.Counts)
		m.Counts = FilterCounts{}
	}
	if err := emit(m.events.b, pipeline.Out, out); err != nil {
		return err
	}
	return emit(m.now.b, pipeline.Side(0), out)
}

func emit(b *array.RecordBuilder, port pipeline.Port, out pipeline.Emitter) error {
	if b.Field(0).Len() == 0 {
		return nil
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	return out.Emit(port, pipeline.Result(rec))
}

// Refer takes a new content of a file. Assets go on in the fences of the same ids.
func (m *Machine) Refer(ref pipeline.Reference) error {
	switch v := ref.Value.(type) {
	case *Fences:
		m.World.Fences = v
	case *Gateways:
		m.World.Gateways = v
	case *Registry:
		m.World.Registry = v
	default:
		return fmt.Errorf("file %s: a %T is nothing that assets are followed by", ref.Name, ref.Value)
	}
	return nil
}

// Close gives back the memory of rows that were not sent.
func (m *Machine) Close() {
	m.events.b.Release()
	m.now.b.Release()
}

package pipelinetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// Shards drives copies of a stateful operator, one for each shard, as the runtime does: rows are
// dealt by their key, a mark goes to all, and what a checkpoint has is given back to another
// number of copies.
type Shards struct {
	T     testing.TB
	Keyer *pipeline.Keyer
	Out   pipeline.Emitter

	ops    []pipeline.Stateful
	pieces map[string]pipeline.Piece // of the last checkpoint, by shard and id
}

// Start begins with the operators of all shards, without state.
func (s *Shards) Start(ops ...pipeline.Stateful) { s.ops = ops }

// Rows deals a run of rows of one split, whose mark it moves.
func (s *Shards) Rows(marks *pipeline.Marks, split int32, rec arrow.RecordBatch) {
	s.T.Helper()
	keys := s.Keyer.Keys(rec)
	behind, mark, passed := marks.Stamp(split, pipeline.TicksOf(rec.Column(pipeline.ColTime).(*array.Timestamp)), nil)
	for i, op := range s.ops {
		rows := []int32{}
		for r, hash := range keys.Hash {
			if pipeline.ShardOf(pipeline.Group(hash), len(s.ops)) == i {
				rows = append(rows, int32(r))
			}
		}
		if err := op.Process(pipeline.Batch{Rec: rec, Rows: rows, Split: split, Keys: keys, Behind: behind, Passed: passed}, s.Out); err != nil {
			s.T.Fatal(err)
		}
	}
	marks.Arrive(split, pipeline.Mark{Event: mark, Ingest: mark}, mark)
}

// Advance tells all shards the merged mark.
func (s *Shards) Advance(marks *pipeline.Marks) {
	s.T.Helper()
	m := marks.Merged()
	m.Newest = marks.Newest()
	for _, op := range s.ops {
		if err := op.Advance(m, s.Out); err != nil {
			s.T.Fatal(err)
		}
	}
}

// Checkpoint takes a snapshot. A piece that comes without rows must have been in the one before.
func (s *Shards) Checkpoint(full bool) {
	s.T.Helper()
	next := map[string]pipeline.Piece{}
	for i, op := range s.ops {
		err := op.Snapshot(full, func(p pipeline.Piece) error {
			at := fmt.Sprint(i, "/", p.ID)
			if !p.Changed() {
				old, ok := s.pieces[at]
				if !ok || full {
					return fmt.Errorf("piece %s comes without rows, and was never there", at)
				}
				p = old
			}
			next[at] = p.Made()
			return nil
		})
		if err != nil {
			s.T.Fatal(err)
		}
	}
	s.Drop()
	s.pieces = next
}

// Restore gives the last checkpoint to operators that have just begun, its pieces in an order of
// rng, nil for that of their names, and takes the next one, as the runtime does.
func (s *Shards) Restore(rng *rand.Rand) {
	s.T.Helper()
	order := slices.Sorted(maps.Keys(s.pieces))
	if rng != nil {
		rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
	}
	for _, at := range order {
		for i, op := range s.ops {
			if err := op.Restore(s.pieces[at], func(g uint8) bool { return pipeline.ShardOf(g, len(s.ops)) == i }); err != nil {
				s.T.Fatal(err)
			}
		}
	}
	s.Checkpoint(true)
}

// Pieces returns how many pieces the last checkpoint has.
func (s *Shards) Pieces() int { return len(s.pieces) }

// Drop forgets the last checkpoint.
func (s *Shards) Drop() {
	for _, p := range s.pieces {
		p.Rec.Release()
	}
	s.pieces = nil
}

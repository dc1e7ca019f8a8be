package kafka

import (
	"fmt"

	"github.com/tidemark/tidemark/pipeline"
)

// Reasons of GapFound.
const (
	GapAgedOut   = "aged_out"
	GapTruncated = "truncated"
	GapRecreated = "recreated"
	GapCorrupt   = "corrupt"
)

// gap is what was found, where reading could go on, and the error for those who do not
// want that.
type gap struct {
	from, to int64
	reason   string
	next     pipeline.Position
	err      error
}

// onward is a position without history but for the last broker timestamp.
func onward(p pipeline.Position, offset int64) pipeline.Position {
	return pipeline.Position{Offset: offset, LeaderEpoch: -1, LastBatch: -1, LastIngest: p.LastIngest}
}

func agedOut(id pipeline.Split, p pipeline.Position, b bounds) gap {
	return gap{p.Offset, b.start, GapAgedOut, onward(p, b.start), fmt.Errorf(
		"split %s: %w: %d..%d are gone, the log starts at %d: raise the topic's retention, or set on_gap: %s to go on there",
		id, ErrAgedOut, p.Offset, b.start, b.start, SkipAndRecord)}
}

// recreated tells whether the log that b describes is another one than p was read from. A
// truncation needs an election, which raises the leader epoch; a new topic starts at 0.
func recreated(p pipeline.Position, b bounds) bool {
	return p.LastBatch < 0 || b.epoch <= p.LeaderEpoch
}

func pastEnd(id pipeline.Split, p pipeline.Position, b bounds) gap {
	if recreated(p, b) {
		return anew(id, p, b, ErrPastEnd, fmt.Sprintf("the position is %d, the log ends at %d", p.Offset, b.end))
	}
	return gap{b.end, p.Offset, GapTruncated, onward(p, b.end), fmt.Errorf(
		"split %s: %w: the position is %d, the log ends at %d: it was truncated by an election (leader epoch %d, now %d); "+
			"rewind to an earlier checkpoint, or set on_gap: %s to go on at the log end",
		id, ErrPastEnd, p.Offset, b.end, p.LeaderEpoch, b.epoch, SkipAndRecord)}
}

func replaced(id pipeline.Split, p pipeline.Position, b bounds, cause string) gap {
	if recreated(p, b) {
		return anew(id, p, b, ErrReplaced, cause)
	}
	return gap{p.LastBatch, p.Offset, GapTruncated, onward(p, p.Offset), fmt.Errorf(
		"split %s: %w: %s: it was truncated by an election (leader epoch %d, now %d) and written on; "+
			"rewind to an earlier checkpoint, or set on_gap: %s to go on at %d",
		id, ErrReplaced, cause, p.LeaderEpoch, b.epoch, SkipAndRecord, p.Offset)}
}

func anew(id pipeline.Split, p pipeline.Position, b bounds, kind error, cause string) gap {
	return gap{p.Offset, p.Offset, GapRecreated, onward(p, b.start), fmt.Errorf(
		"split %s: %w: %s: the topic was re-created; start the job anew, or set on_gap: %s to go on at the log start %d",
		id, kind, cause, SkipAndRecord, b.start)}
}

func corrupt(id pipeline.Split, p pipeline.Position, e *corruptError) gap {
	return gap{e.From, e.To, GapCorrupt, onward(p, e.To), fmt.Errorf(
		"split %s: %w: %w: check the broker's disk, or set on_gap: %s to go on at %d",
		id, ErrCorrupt, e, SkipAndRecord, e.To)}
}

func (g gap) event(id pipeline.Split) pipeline.Event {
	return pipeline.Event{Kind: pipeline.GapFound, Split: id, Position: g.next, From: g.from, To: g.to, Reason: g.reason}
}

package operators

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/pipeline"
)

// Snapshot lends one piece per key group that has sessions, with the group as its id. Its
// columns are the key group, the key, the bounds, until when rows wait, the mark, the
// header, and the accumulators' words by name; with Retract or SkipUnchanged the header and the words that
// were shown last follow, as shown_*.
func (w *Session) Snapshot(full bool, piece func(pipeline.Piece) error) error {
	var rows [pipeline.NumGroups][]uint32
	w.ses.each(func(id uint32) {
		if g := w.ses.group(w.ses.row(id)); full || w.changed[g] {
			rows[g] = append(rows[g], id)
		}
	})
	for g, n := range w.ses.perGroup {
		if n == 0 {
			w.changed[g] = false
			continue
		}
		p := pipeline.Piece{ID: fmt.Sprintf("g%03d", g)}
		if full || w.changed[g] {
			p.Rec = w.pieceOf(uint8(g), rows[g])
			w.changed[g] = false
		}
		err := piece(p)
		if p.Rec != nil {
			p.Rec.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Columns of a piece before those of the accumulators.
const (
	stGroup = iota
	stKey
	stStart
	stEnd
	stDue
	stMark
	stShed
	stAcc
)

func (w *Session) stateSchema() *arrow.Schema {
	i64 := arrow.PrimitiveTypes.Int64
	fields := []arrow.Field{
		{Name: "_group", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "key", Type: arrow.BinaryTypes.Binary},
		{Name: "start", Type: i64},
		{Name: "end", Type: i64},
		{Name: "due", Type: i64},
		{Name: "mark", Type: i64},
		{Name: "shed", Type: i64},
	}
	fields = append(fields, w.wordFields("")...)
	if w.keeps {
		fields = append(fields, w.wordFields("shown_")...)
	}
	return arrow.NewSchema(fields, nil)
}

// wordFields are the columns of a row of the program: header and accumulators.
func (w *Session) wordFields(prefix string) []arrow.Field {
	fields := []arrow.Field{{Name: prefix + "head", Type: arrow.PrimitiveTypes.Int64}}
	return append(fields, w.prog.stateFields(prefix)...)
}

func (w *Session) pieceOf(group uint8, ids []uint32) arrow.RecordBatch {
	b := array.NewRecordBuilder(w.mem, w.state)
	defer b.Release()
	b.Reserve(len(ids))
	var scratch [16]byte
	for _, id := range ids {
		row := w.ses.row(id)
		b.Field(stGroup).(*array.Uint8Builder).Append(group)
		b.Field(stKey).(*array.BinaryBuilder).Append(w.ses.key(row, &scratch))
		b.Field(stStart).(*array.Int64Builder).Append(w.ses.start(row))
		b.Field(stEnd).(*array.Int64Builder).Append(w.ses.end(row))
		b.Field(stDue).(*array.Int64Builder).Append(int64(row[w.ses.acc+sesDue]))
		b.Field(stMark).(*array.Int64Builder).Append(w.mark)
		b.Field(stShed).(*array.Int64Builder).Append(w.shed)
	}
	rest := w.appendWords(b.Fields()[stAcc:], len(ids), func(i int) []uint64 { return w.ses.prog(w.ses.row(ids[i])) })
	if w.keeps {
		w.appendWords(rest, len(ids), func(i int) []uint64 { return w.ses.shown(w.ses.row(ids[i])) })
	}
	return b.NewRecordBatch()
}

// appendWords appends rows of the program and returns the builders that follow.
func (w *Session) appendWords(cols []array.Builder, n int, row func(int) []uint64) []array.Builder {
	for i := range n {
		cols[0].(*array.Int64Builder).Append(int64(row(i)[rowHead] &^ (headEnds | headFrees)))
	}
	return w.prog.appendState(cols[1:], n, row, &w.extras)
}

// Restore takes back the rows of a piece that keep accepts.
func (w *Session) Restore(p pipeline.Piece, keep func(group uint8) bool) error {
	if !p.Rec.Schema().Equal(w.state) {
		return fmt.Errorf("session state %s: its columns are %v, this job's aggregates need %v; start a new lineage or restore the old aggregates",
			p.ID, p.Rec.Schema().Fields(), w.state.Fields())
	}
	keys := p.Rec.Column(stKey).(*array.Binary)
	ints := func(col, i int) int64 { return p.Rec.Column(col).(*array.Int64).Value(i) }
	for i := range int(p.Rec.NumRows()) {
		key := keys.Value(i)
		hash := w.keyer.Hash(key)
		if !keep(pipeline.Group(hash)) {
			continue
		}
		start, end := ints(stStart, i), ints(stEnd, i)
		if end < start {
			return fmt.Errorf("session state %s: a session of key %q ends at %d, before its start %d", p.ID, key, end, start)
		}
		id := w.ses.add(hash, key, start, end)
		row := w.ses.row(id)
		w.longest = max(w.longest, pipeline.SubTicks(end, start))
		w.mark, w.shed = max(w.mark, ints(stMark, i)), max(w.shed, ints(stShed, i))
		row[w.ses.acc+sesDue] = uint64(ints(stDue, i))
		rest, err := w.restoreWords(p.Rec, stAcc, i, w.ses.prog(row))
		if err == nil && w.keeps {
			shown := w.ses.shown(row)
			copy(shown[:rowHead], row[:rowHead])
			_, err = w.restoreWords(p.Rec, rest, i, shown)
		}
		if err != nil {
			return fmt.Errorf("session state %s: %w", p.ID, err)
		}
		if row[rowHead]&headPending != 0 {
			w.await(id, ints(stDue, i), row[rowHead]&headFired != 0)
		}
		w.schedule(id, row)
	}
	return nil
}

// restoreWords reads a row of the program and returns the column that follows.
func (w *Session) restoreWords(rec arrow.RecordBatch, col, i int, row []uint64) (int, error) {
	row[rowHead] = uint64(rec.Column(col).(*array.Int64).Value(i)) &^ (headEnds | headFrees) // it is filed by schedule
	return w.prog.restoreState(rec, col+1, i, row, &w.extras)
}

package operators

import (
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// What follows is for people who look into a checkpoint: no operator needs it.

// StateKind says what a piece of state has.
type StateKind string

const (
	StateWindows  StateKind = "windows"
	StateThen     StateKind = "second windows"
	StateSlices   StateKind = "slices of windows"
	StateDeltas   StateKind = "additions to windows"
	StateMark     StateKind = "mark of the windows"
	StateClocks   StateKind = "clocks of keys"
	StateSessions StateKind = "sessions"
	StateDedupe   StateKind = "rows remembered"
	StateTable    StateKind = "version of a table"
	StateKeys     StateKind = "keys of the domain"
	StateHeld     StateKind = "rows that wait"
	StateGateways StateKind = "clocks of gateways"
	StateUnknown  StateKind = "unknown"
)

// StateKindOf tells from its columns and its id what a piece has.
func StateKindOf(p pipeline.Piece) StateKind {
	names := columnNames(p.Rec.Schema())
	begins := func(with ...string) bool { return len(names) >= len(with) && slices.Equal(names[:len(with)], with) }
	id, then := strings.CutPrefix(p.ID, thenPiece)
	switch {
	case begins("_group", "key", "fired", "due", "head"):
		switch {
		case id == markPiece:
			return StateMark
		case id == clocksPiece:
			return StateClocks
		case strings.HasPrefix(id, slicePiece):
			return StateSlices
		case strings.HasPrefix(id, deltaPiece):
			return StateDeltas
		case then:
			return StateThen
		}
		return StateWindows
	case begins("_group", "key", "start", "end", "due", "mark", "shed", "head"):
		return StateSessions
	case p.Rec.Schema().Equal(keyedSchema()):
		return StateKeys
	case p.Rec.Schema().Equal(dedupeSchema()):
		return StateDedupe
	case p.Rec.Schema().Equal(enrichState()):
		return StateTable
	case begins("_split", "gateway_id", "_offset"):
		return StateGateways
	case begins("_group") && strings.HasPrefix(p.ID, heldPiece):
		return StateHeld
	}
	return StateUnknown
}

// PieceBounds returns the window or the slice whose piece has the id.
func PieceBounds(id string) (Bounds, error) {
	b, _, err := parsePieceID(strings.TrimPrefix(id, thenPiece))
	return b, err
}

// Header is what the header word of a window's or a session's row says.
type Header struct {
	Pending bool // it waits to be shown
	Panes   int  // emitted
	Waiting int  // rows that no pane has shown, where they are counted
	Late    int  // rows, in all
}

// HeaderOf reads column head of a piece.
func HeaderOf(word int64) Header {
	w := uint64(word)
	return Header{Pending: w&headPending != 0, Panes: int(w >> headPanes & math.MaxUint16), Waiting: int(w >> headWaiting & maxLateRows), Late: int(w >> headLate)}
}

// StateValue makes a value of the words of an accumulator, whose columns in a piece are NAME_0,
// NAME_1 and so on: nil for none, an int64, a float64, a text where a number fits neither, or the
// words where they are no value. Column is that of the rows; without a type, least and largest
// floats and fixed-point numbers stay words.
func StateValue(name string, words []int64, column arrow.Field) any {
	acc := make([]uint64, len(words))
	for i, w := range words {
		acc[i] = uint64(w)
	}
	o := output{field: column, fn: "sum", float: column.Type != nil && column.Type.ID() == arrow.FLOAT64}
	if column.Type == nil {
		o.field.Type = arrow.PrimitiveTypes.Int64
	}
	if scale, err := scaleOf(column); err == nil && scale > 0 {
		o.scale, o.field.Type = scale, arrow.PrimitiveTypes.Float64
	}
	one := func(v value) any {
		if o.float || o.scale > 0 {
			return v.f
		}
		return v.i
	}
	op, _, _ := strings.Cut(name, "_")
	switch {
	case len(words) == 1 && (op == "min" && words[0] == math.MaxInt64 || op == "max" && words[0] == math.MinInt64):
		return nil
	case len(words) == 1 && (op == "min" || op == "max"):
		return one(o.single(words[0]))
	case len(words) == 1:
		return words[0]
	case len(words) == 2 && op == "sum":
		if v := o.sum(acc); !v.overflow {
			return one(v)
		}
		return sumBig(acc).String()
	case len(words) == floatSumWords && op == "sum":
		return floatSum(acc)
	case len(words) == 3 && (op == "first" && words[0] == math.MaxInt64 || op == "last" && words[0] == math.MinInt64):
		return nil
	case len(words) == 3 && (op == "first" || op == "last"):
		return one(o.single(words[2]))
	case len(words) == 3 && op == "squares":
		return unsignedBig(acc).String()
	}
	return words
}

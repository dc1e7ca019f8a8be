package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// cmdState is the group of commands that read state.
func cmdState(ctx context.Context, args []string, out streams) error {
	if len(args) > 0 {
		switch args[0] {
		case "get":
			return cmdStateGet(ctx, args[1:], out)
		case "-h", "-help", "--help":
			return cmdStateGet(ctx, args[:1], out)
		}
	}
	return &usageError{"state: want get; `tidemark state --help` shows its flags"}
}

// cmdStateGet shows what a checkpoint knows of a key.
func cmdStateGet(ctx context.Context, args []string, out streams) error {
	f := newStateFlags("state get", "tidemark state get -f job.yaml RC-1", "shows what the newest checkpoint knows of KEY, by operator: open windows and sessions with their aggregates, rows that wait, and what the job's domain knows of it. The columns of a key of several stand one behind the other, or with a comma between them")
	epoch := f.Int64("epoch", -1, "the checkpoint of `EPOCH` in place of the newest")
	key, err := f.parse(args)
	if err != nil {
		return err
	}
	if len(key) == 0 {
		return &usageError{"state get: want a key"}
	}
	v, err := f.open(ctx)
	if err != nil {
		return err
	}
	var epochs []int64
	if *epoch >= 0 {
		epochs = append(epochs, *epoch)
	}
	var s *keySearch
	err = v.with(ctx, epochs, func(l pipeline.Listed) error {
		var err error
		if s, err = v.search(l.Checkpoint, strings.Join(key, ",")); err != nil {
			return err
		}
		return v.checkpoints.Look(ctx, l.Checkpoint, s.piece)
	})
	if err != nil {
		return err
	}
	answer := s.answer()
	if len(answer.Found) == 0 {
		return s.missing()
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, answer)
	}
	answer.print(out.stdout)
	return nil
}

// keyAnswer is what a checkpoint knows of a key.
type keyAnswer struct {
	Job     string     `json:"job"`
	Epoch   int64      `json:"epoch"`
	Lineage uint16     `json:"lineage"`
	Mark    tick       `json:"event_mark"`
	Columns []string   `json:"key_columns"`
	Key     string     `json:"key"`
	Found   []keyState `json:"found"`
}

// keyState is what an operator knows of a key: a window, a session, a row that waits.
type keyState struct {
	Op    int                 `json:"operator"`
	Kind  operators.StateKind `json:"kind"`
	Start *tick               `json:"start,omitempty"`
	End   *tick               `json:"end,omitempty"`
	Facts facts               `json:"state"`
}

// facts are values by name, in their order.
type facts []fact

type fact struct {
	name  string
	value any
}

func (f *facts) add(name string, value any) { *f = append(*f, fact{name, value}) }

// MarshalJSON implements json.Marshaler.
func (f facts) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, x := range f {
		name, err := json.Marshal(x.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(x.value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// keySearch looks for a key in the pieces of a checkpoint.
type keySearch struct {
	cp      *pipeline.Checkpoint
	key     string   // its columns with commas between them
	columns []string // of the key; none when nobody has said
	dedupe  []int    // the places of the key among the columns of duplicates; nil: none
	width   int      // columns of duplicates
	rows    *arrow.Schema
	domain  *domainStates

	found      []keyState
	remembered map[int]*rememberedRows // by operator
	newest     map[domainKey]domainRecord
	samples    []string // of keys that are there
}

type rememberedRows struct{ rows, first, last int64 }

// domainKey is a key of an operator; in its pieces the record of the highest number counts.
type domainKey struct {
	op   int
	name string
}

type domainRecord struct {
	piece, due int64
	state      []byte // nil: the key is no more
}

// maxKeySamples is how many keys are shown to somebody who asks for one that is not there.
const maxKeySamples = 5

func (v *stateView) search(cp *pipeline.Checkpoint, key string) (*keySearch, error) {
	config, err := configOf(cp)
	if err != nil {
		return nil, err
	}
	s := &keySearch{cp: cp, key: key, remembered: map[int]*rememberedRows{}, newest: map[domainKey]domainRecord{}}
	list := func(setting string) (out []string) {
		if json.Unmarshal([]byte(config[setting]), &out) != nil {
			return nil // it has none, or it is not ours
		}
		return out
	}
	if v.job != nil {
		p, err := planOf(*v.job)
		if err != nil {
			return nil, err
		}
		s.rows = p.rows
	}
	if s.domain, err = v.domainStates(config); err != nil {
		return nil, err
	}
	if s.columns = list("window.key"); s.domain != nil {
		s.columns = s.domain.key
	}
	duplicates := list("dedupe.columns")
	s.width = len(duplicates)
	for _, name := range s.columns {
		s.dedupe = append(s.dedupe, slices.Index(duplicates, name))
	}
	if slices.Contains(s.dedupe, -1) {
		s.dedupe = nil
	}
	return s, nil
}

// piece looks for the key in a piece.
func (s *keySearch) piece(ref pipeline.PieceRef, p pipeline.Piece) error {
	switch kind := operators.StateKindOf(p); kind {
	case operators.StateWindows, operators.StateThen, operators.StateSlices, operators.StateDeltas:
		b, err := operators.PieceBounds(p.ID)
		if err != nil {
			return err
		}
		s.each(p.Rec, func(i int) {
			st := keyState{Op: ref.Op, Kind: kind, Start: new(tick(b.Start)), End: new(tick(b.End))}
			if kind != operators.StateSlices { // panes are of windows
				st.Facts.add("fired", p.Rec.Column(2).(*array.Boolean).Value(i))
				st.header(intAt(p.Rec, 4, i), intAt(p.Rec, 3, i))
			}
			st.aggregates(p.Rec, 5, i, s.rows)
			s.found = append(s.found, st)
		})
	case operators.StateSessions:
		s.each(p.Rec, func(i int) {
			st := keyState{Op: ref.Op, Kind: kind, Start: new(tick(intAt(p.Rec, 2, i))), End: new(tick(intAt(p.Rec, 3, i)))}
			st.header(intAt(p.Rec, 7, i), intAt(p.Rec, 4, i))
			st.aggregates(p.Rec, 8, i, s.rows)
			s.found = append(s.found, st)
		})
	case operators.StateClocks:
		s.each(p.Rec, func(i int) {
			st := keyState{Op: ref.Op, Kind: kind}
			st.Facts.add("newest", tick(intAt(p.Rec, 3, i)))
			st.Facts.add("split", intAt(p.Rec, 4, i))
			s.found = append(s.found, st)
		})
	case operators.StateDedupe:
		s.duplicates(ref.Op, p.Rec)
	case operators.StateKeys:
		s.domainKeys(ref.Op, p.Rec)
	case operators.StateHeld:
		s.held(ref.Op, p.Rec)
	case operators.StateGateways:
		s.gateway(ref.Op, p.Rec)
	}
	return nil
}

// gateway takes what is known of the clock of a gateway that has the key's name, by partition.
func (s *keySearch) gateway(op int, rec arrow.RecordBatch) {
	names := rec.Column(1).(*array.String)
	for i := range int(rec.NumRows()) {
		if names.Value(i) != s.key {
			continue
		}
		st := keyState{Op: op, Kind: operators.StateGateways}
		for at, c := range rec.Columns() {
			if _, bytes := c.(*array.Binary); !bytes && !c.IsNull(i) {
				st.Facts.add(strings.Clone(rec.ColumnName(at)), strings.ToValidUTF8(valueText(c, i), "?"))
			}
		}
		s.found = append(s.found, st)
	}
}

func intAt(rec arrow.RecordBatch, col, i int) int64 { return rec.Column(col).(*array.Int64).Value(i) }

// each calls yield with the rows of the key in a piece with a column key.
func (s *keySearch) each(rec arrow.RecordBatch, yield func(i int)) {
	keys := rec.Column(1).(*array.Binary)
	for i := range int(rec.NumRows()) {
		k := keys.Value(i)
		if string(k) == s.key && len(s.columns) <= 1 {
			yield(i)
			continue
		}
		if len(k) > 0 && k[0] > 1 && k[0] != 0xFF && len(s.samples) >= maxKeySamples {
			continue // a text, and not this one
		}
		parts := keyParts(k, len(s.columns))
		s.sample(parts)
		if strings.Join(parts, ",") == s.key {
			yield(i)
		}
	}
}

func (s *keySearch) sample(parts []string) {
	if text := strings.Join(parts, ","); len(s.samples) < maxKeySamples && !slices.Contains(s.samples, text) {
		s.samples = append(s.samples, text)
	}
}

// duplicates counts the rows of the key that are remembered, whose own key has more columns.
func (s *keySearch) duplicates(op int, rec arrow.RecordBatch) {
	if s.dedupe == nil {
		return
	}
	keys := rec.Column(1).(*array.Binary)
	for i := range int(rec.NumRows()) {
		all := keyParts(keys.Value(i), s.width)
		var parts []string
		for _, at := range s.dedupe {
			if at < len(all) {
				parts = append(parts, all[at])
			}
		}
		if strings.Join(parts, ",") != s.key {
			continue
		}
		at := intAt(rec, 2, i)
		r := s.remembered[op]
		if r == nil {
			r = &rememberedRows{0, at, at}
			s.remembered[op] = r
		}
		r.rows, r.first, r.last = r.rows+1, min(r.first, at), max(r.last, at)
	}
}

// domainKeys takes the newest record of the key, and of what it is judged together with.
func (s *keySearch) domainKeys(op int, rec arrow.RecordBatch) {
	names, states := rec.Column(2).(*array.Binary), rec.Column(5).(*array.Binary)
	keys := rec.Column(1).(*array.Binary)
	for i := range int(rec.NumRows()) {
		name := string(names.Value(i))
		if states.IsNull(i) { // what is gone has its key alone
			name = strings.Join(keyParts(keys.Value(i), len(s.columns)), operators.KeySeparator)
		}
		state := states.Value(i)
		if states.IsNull(i) {
			state = nil
		} else if s.sample(s.domain.sample(name, state)); !s.domain.of(op, s.key, name, state) {
			continue
		}
		at, piece := domainKey{op, name}, intAt(rec, 3, i)
		if old, there := s.newest[at]; !there || piece > old.piece {
			s.newest[at] = domainRecord{piece, intAt(rec, 4, i), bytes.Clone(state)}
		}
	}
}

// held takes rows that wait, which have the columns of the rows.
func (s *keySearch) held(op int, rec arrow.RecordBatch) {
	var cols []arrow.Array
	for _, name := range s.columns {
		at := rec.Schema().FieldIndices(name)
		if len(at) != 1 {
			return // it is not of rows that have this key
		}
		cols = append(cols, rec.Column(at[0]))
	}
	for i := range int(rec.NumRows()) {
		var parts []string
		for _, c := range cols {
			parts = append(parts, valueText(c, i))
		}
		if s.sample(parts); strings.Join(parts, ",") != s.key {
			continue
		}
		st := keyState{Op: op, Kind: operators.StateHeld}
		for at, c := range rec.Columns()[1:] {
			if !c.IsNull(i) {
				st.Facts.add(strings.Clone(rec.ColumnName(at+1)), strings.ToValidUTF8(valueText(c, i), "?"))
			}
		}
		s.found = append(s.found, st)
	}
}

// valueText is a value of a column.
func valueText(c arrow.Array, i int) string {
	switch c := c.(type) {
	case *array.Timestamp:
		if !c.IsNull(i) {
			return tick(c.Value(i)).String()
		}
	}
	if c.IsNull(i) {
		return "null"
	}
	return strings.Clone(c.ValueStr(i))
}

// header adds what the header of a row says, and until when by the wall clock it waits.
func (st *keyState) header(word, due int64) {
	h := operators.HeaderOf(word)
	st.Facts.add("panes", h.Panes)
	if h.Late > 0 {
		st.Facts.add("late_rows", h.Late)
	}
	if h.Waiting > 0 {
		st.Facts.add("rows_not_shown", h.Waiting)
	}
	if h.Pending {
		st.Facts.add("shown_by", tick(due))
	}
}

// aggregates adds the accumulators of row i, whose columns begin at col.
func (st *keyState) aggregates(rec arrow.RecordBatch, col, i int, rows *arrow.Schema) {
	for n := int(rec.NumCols()); col < n; {
		name := strings.Clone(rec.ColumnName(col))
		switch c := rec.Column(col).(type) {
		case *array.List:
			from, to := c.ValueOffsets(i)
			points := c.ListValues().(*array.Int64).Int64Values()[from:to]
			var values []int64
			for ; len(points) >= 3; points = points[3:] { // value, order, place
				values = append(values, points[0])
			}
			st.Facts.add(name, values)
			col++
		case *array.Binary:
			st.Facts.add(name, fmt.Sprintf("sketch of %d bytes", c.ValueLen(i)))
			col++
		default:
			base, words := name, []int64{intAt(rec, col, i)}
			if before, first := strings.CutSuffix(name, "_0"); first {
				base = before
			}
			for col++; col < n && base != name && rec.ColumnName(col) == base+"_"+strconv.Itoa(len(words)); col++ {
				words = append(words, intAt(rec, col, i))
			}
			st.Facts.add(base, operators.StateValue(strings.TrimPrefix(base, "shown_"), words, columnOf(base, rows)))
		}
	}
}

// columnOf returns the column that an accumulator is of; none when nobody has said.
func columnOf(accumulator string, rows *arrow.Schema) arrow.Field {
	if rows == nil {
		return arrow.Field{}
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(accumulator, "shown_"), " where ")
	_, name, _ = strings.Cut(name, "_")
	if at := rows.FieldIndices(name); len(at) == 1 {
		return rows.Field(at[0])
	}
	return arrow.Field{}
}

// answer puts together what was found.
func (s *keySearch) answer() *keyAnswer {
	a := &keyAnswer{Job: s.cp.Job, Epoch: s.cp.Epoch, Lineage: s.cp.Lineage, Mark: tick(s.cp.Merged.Event), Columns: s.columns, Key: s.key, Found: s.found}
	for _, op := range slices.Sorted(maps.Keys(s.remembered)) {
		r := s.remembered[op]
		st := keyState{Op: op, Kind: operators.StateDedupe}
		st.Facts.add("rows", r.rows)
		st.Facts.add("first", tick(r.first))
		st.Facts.add("last", tick(r.last))
		a.Found = append(a.Found, st)
	}
	for _, at := range slices.SortedFunc(maps.Keys(s.newest), func(x, y domainKey) int { return strings.Compare(x.name, y.name) }) {
		r := s.newest[at]
		if r.state == nil {
			continue
		}
		st := keyState{Op: at.op, Kind: operators.StateKeys}
		st.Facts.add("name", strings.ReplaceAll(at.name, operators.KeySeparator, ","))
		st.Facts.add("due", tick(r.due))
		st.Facts.add("bytes", len(r.state))
		switch value, err := s.domain.decode(at.op, s.key, r.state); {
		case err != nil:
			st.Facts.add("unreadable", err.Error())
		case value != nil:
			st.Facts.add("state", value)
		}
		a.Found = append(a.Found, st)
	}
	slices.SortStableFunc(a.Found, compareStates)
	return a
}

// compareStates puts what was found in the order of the chain, of kinds, and of time.
func compareStates(x, y keyState) int {
	at := func(t *tick) tick {
		if t == nil {
			return 0
		}
		return *t
	}
	return cmp.Or(cmp.Compare(x.Op, y.Op), cmp.Compare(x.Kind, y.Kind), cmp.Compare(at(x.Start), at(y.Start)))
}

// missing says what keys look like.
func (s *keySearch) missing() error {
	if len(s.samples) == 0 {
		return fmt.Errorf("state get: checkpoint %d has no keys at all", s.cp.Epoch)
	}
	what := ""
	if len(s.columns) > 0 {
		what = " (" + strings.Join(s.columns, ",") + ")"
	}
	var shown []string
	for _, k := range s.samples {
		shown = append(shown, visible(k))
	}
	return fmt.Errorf("state get: checkpoint %d knows nothing of key %s: it never came, or is forgotten by now; keys%s look like %s",
		s.cp.Epoch, visible(s.key), visible(what), strings.Join(shown, " or "))
}

func (a *keyAnswer) print(w io.Writer) {
	what := "key"
	if len(a.Columns) > 0 {
		what = strings.Join(a.Columns, ",")
	}
	fmt.Fprintf(w, "%s %s in checkpoint %d of job %s, lineage %d, mark %s\n", visible(what), visible(a.Key), a.Epoch, visible(a.Job), a.Lineage, a.Mark)
	for _, st := range a.Found {
		fmt.Fprintf(w, "\noperator %s, %s", pipeline.OpName(st.Op), st.Kind)
		if st.Start != nil {
			fmt.Fprintf(w, ": %s to %s", *st.Start, *st.End)
		}
		fmt.Fprintln(w)
		for _, f := range st.Facts {
			printFact(w, "  ", f.name, f.value)
		}
	}
}

// printFact prints a value, a state with its parts below it.
func printFact(w io.Writer, indent, name string, value any) {
	if parts, ok := value.(facts); ok {
		fmt.Fprintf(w, "%s%s\n", indent, visible(name))
		for _, f := range parts {
			printFact(w, indent+"  ", f.name, f.value)
		}
		return
	}
	text := fmt.Sprint(value)
	switch v := value.(type) {
	case nil:
		text = "null"
	case string, tick, bool, int, int64, float64:
	default:
		b, err := json.Marshal(v)
		if err == nil {
			text = string(b)
		}
	}
	fmt.Fprintf(w, "%s%s %s\n", indent, visible(name), visible(text))
}

// keyParts returns the texts of the columns of a key (pipeline.Keyer), n of them, 0 for as few as
// can be. Nobody says their types: a text is tried before a number, and a key of one text is just
// that.
func keyParts(key []byte, n int) []string {
	if string(key) == "\xff" {
		return []string{"null"}
	}
	text := []string{strings.ToValidUTF8(string(key), "?")}
	if len(key) == 0 || key[0] > 1 {
		return text
	}
	for least := max(1, n); least <= maxKeyColumns && (n == 0 || least == n); least++ {
		if parts, ok := splitKey(key, least); ok {
			return parts
		}
	}
	return text
}

// maxKeyColumns bounds the work of telling columns apart.
const maxKeyColumns = 12

func splitKey(b []byte, n int) ([]string, bool) {
	if len(b) == 0 || n == 0 {
		return nil, len(b) == n
	}
	behind := func(part string, rest []byte) ([]string, bool) {
		parts, ok := splitKey(rest, n-1)
		if !ok {
			return nil, false
		}
		return append([]string{part}, parts...), true
	}
	switch b[0] {
	case 0:
		return behind("null", b[1:])
	case 1:
		b = b[1:]
	default:
		return nil, false
	}
	if size, w := binary.Uvarint(b); w > 0 && size <= uint64(len(b)-w) {
		text, rest := b[w:w+int(size)], b[w+int(size):]
		if utf8.Valid(text) && !bytes.ContainsFunc(text, unicode.IsControl) {
			if parts, ok := behind(string(text), rest); ok {
				return parts, true
			}
		}
	}
	if len(b) < 8 {
		return nil, false
	}
	return behind(strconv.FormatInt(int64(binary.BigEndian.Uint64(b)), 10), b[8:])
}

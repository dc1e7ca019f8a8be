package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/operators"
	"github.com/tidemark/tidemark/pipeline"
)

// inspection is what a checkpoint says, in words.
type inspection struct {
	Job     string    `json:"job"`
	Epoch   int64     `json:"epoch"`
	Lineage uint16    `json:"lineage"`
	Written time.Time `json:"written"`
	Newest  bool      `json:"newest"`
	Named   bool      `json:"named"`
	Event   tick      `json:"event_mark"`
	Ingest  tick      `json:"ingest_mark"`
	Latest  tick      `json:"newest_mark"`

	Splits   []splitLine       `json:"splits"`
	Rows     fates             `json:"rows"`
	Moves    []moveLine        `json:"moves"`
	Gaps     []gapLine         `json:"gaps"`
	Receipts []receiptLine     `json:"receipts"`
	State    []stateGroup      `json:"state"`
	Files    int               `json:"files"`
	Bytes    int64             `json:"bytes"`
	Config   map[string]string `json:"config"`
}

type splitLine struct {
	Split       string `json:"split"`
	Offset      int64  `json:"offset"`
	LeaderEpoch int32  `json:"leader_epoch"`
	Event       tick   `json:"event_mark"`
	Ingest      tick   `json:"ingest_mark"`
	LastIngest  tick   `json:"last_ingest"`
	Quiet       bool   `json:"quiet"`
	Ended       bool   `json:"ended"`
	Rows        fates  `json:"rows"`
}

// moveLine is a mark that no row has moved: its split was quiet.
type moveLine struct {
	Split string `json:"split"`
	From  tick   `json:"from"`
	To    tick   `json:"to"`
	Seen  tick   `json:"seen"`
}

type gapLine struct {
	Split  string `json:"split"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"`
}

type receiptLine struct {
	Sink  string `json:"sink"`
	Bytes int    `json:"bytes"`
}

// stateGroup are the pieces of an operator that have the same columns.
type stateGroup struct {
	Op      int                 `json:"operator"`
	Kind    operators.StateKind `json:"kind"`
	Columns []string            `json:"columns"`
	Pieces  int                 `json:"pieces"`
	Rows    int64               `json:"rows"`
	Files   int                 `json:"files"`
	Bytes   int64               `json:"bytes"` // of the files
}

// cmdCheckpointInspect shows one checkpoint.
func cmdCheckpointInspect(ctx context.Context, args []string, out streams) error {
	f := newStateFlags("checkpoint inspect", "tidemark checkpoint inspect -f job.yaml", "shows checkpoint EPOCH, or the newest: where every split is, the marks, the rows by fate, what the sinks have prepared, the state by operator, and the configuration that it was made with")
	v, epochs, err := f.start(ctx, args, 1)
	if err != nil {
		return err
	}
	var in *inspection
	err = v.with(ctx, epochs, func(l pipeline.Listed) error {
		var err error
		in, err = v.inspect(ctx, l)
		return err
	})
	if err != nil {
		return err
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, in)
	}
	return in.print(out.stdout)
}

func (v *stateView) inspect(ctx context.Context, l pipeline.Listed) (*inspection, error) {
	cp := l.Checkpoint
	in := &inspection{Job: cp.Job, Epoch: cp.Epoch, Lineage: cp.Lineage, Written: l.Written.UTC(), Newest: l.Newest, Named: l.Named,
		Event: tick(cp.Merged.Event), Ingest: tick(cp.Merged.Ingest), Latest: tick(cp.Newest), Rows: sumFates(cp.Splits),
		Splits: []splitLine{}, Moves: movesOf(cp), Gaps: []gapLine{}, Receipts: []receiptLine{}, Files: len(cp.Files), Bytes: bytesOf(cp.Files)}
	for _, s := range cp.Splits {
		in.Splits = append(in.Splits, splitLine{s.Split.String(), s.Position.Offset, s.Position.LeaderEpoch, tick(s.Mark.Event), tick(s.Mark.Ingest), tick(s.Position.LastIngest),
			s.Quiet, s.Ended, fates(s.Counts)})
	}
	for _, g := range cp.Gaps {
		in.Gaps = append(in.Gaps, gapLine{splitName(cp, g.Split), g.From, g.To, g.Reason})
	}
	for _, r := range cp.Receipts {
		in.Receipts = append(in.Receipts, receiptLine{r.Sink, len(r.Receipt)})
	}
	var err error
	if in.Config, err = configOf(cp); err != nil {
		return nil, err
	}
	in.State, err = v.state(ctx, cp)
	return in, err
}

// splitName names a split of a checkpoint by its place, which a broken one may not have.
func splitName(cp *pipeline.Checkpoint, i int32) string {
	if i < 0 || int(i) >= len(cp.Splits) {
		return fmt.Sprintf("split %d", i)
	}
	return cp.Splits[i].Split.String()
}

// movesOf are the advances of the mark that no row caused.
func movesOf(cp *pipeline.Checkpoint) []moveLine {
	out := []moveLine{} // not null in JSON
	for _, m := range cp.Moves {
		out = append(out, moveLine{splitName(cp, m.Split), tick(m.From), tick(m.To), tick(m.Seen)})
	}
	return out
}

// configOf returns the settings of a checkpoint by their paths.
func configOf(cp *pipeline.Checkpoint) (map[string]string, error) {
	out := map[string]string{}
	if len(cp.Config) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(cp.Config, &out); err != nil {
		return nil, fmt.Errorf("checkpoint %d: its configuration: %w", cp.Epoch, err)
	}
	return out, nil
}

// state reads the pieces of a checkpoint and puts those together that have the same columns.
func (v *stateView) state(ctx context.Context, cp *pipeline.Checkpoint) ([]stateGroup, error) {
	type id struct {
		op      int
		kind    operators.StateKind
		columns string
	}
	groups, files := map[id]*stateGroup{}, map[id]map[string]bool{}
	sizes := map[string]int64{}
	for _, f := range cp.Files {
		sizes[f.Name] = f.Size
	}
	err := v.checkpoints.Look(ctx, cp, func(ref pipeline.PieceRef, p pipeline.Piece) error {
		columns := columnsOf(p.Rec.Schema())
		at := id{ref.Op, operators.StateKindOf(p), strings.Join(columns, "\x00")}
		g := groups[at]
		if g == nil {
			g = &stateGroup{Op: ref.Op, Kind: at.kind, Columns: columns}
			groups[at], files[at] = g, map[string]bool{}
		}
		g.Pieces++
		g.Rows += p.Rec.NumRows()
		if !files[at][ref.File] {
			files[at][ref.File] = true
			g.Files++
			g.Bytes += sizes[ref.File]
		}
		return nil
	})
	out := []stateGroup{}
	for _, g := range groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b stateGroup) int {
		return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Kind, b.Kind), slices.Compare(a.Columns, b.Columns))
	})
	return out, err
}

func columnsOf(s *arrow.Schema) []string {
	var out []string
	for _, f := range s.Fields() {
		out = append(out, strings.Clone(f.Name))
	}
	return out
}

func (in *inspection) print(w io.Writer) error {
	state := "a commit names it"
	switch {
	case in.Newest:
		state = "the newest commit names it"
	case !in.Named:
		state = "no commit names it"
	}
	fmt.Fprintf(w, "checkpoint %d of job %s, lineage %d, written %s; %s\n", in.Epoch, visible(in.Job), in.Lineage, in.Written.Format(time.RFC3339), state)
	fmt.Fprintf(w, "mark %s, by ingest time %s, of the rows %s\n", in.Event, in.Ingest, in.Latest)
	fmt.Fprintf(w, "rows %s\n", in.Rows)
	fmt.Fprintf(w, "%d files, %d bytes\n", in.Files, in.Bytes)

	t := newTable(w)
	fmt.Fprintln(t, "\nSPLIT\tOFFSET\tMARK\tINGEST MARK\tLAST INGEST\tSTATE\tROWS")
	for _, s := range in.Splits {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", visible(s.Split), s.Offset, s.Event, s.Ingest, s.LastIngest, s.status(), s.Rows)
	}
	if len(in.Moves) > 0 {
		fmt.Fprintln(t, "\nMARK MOVED OF\tFROM\tTO\tSEEN ELSEWHERE")
	}
	for _, m := range in.Moves {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", visible(m.Split), m.From, m.To, m.Seen)
	}
	if len(in.Gaps) > 0 {
		fmt.Fprintln(t, "\nGAP IN\tFROM\tTO\tREASON")
	}
	for _, g := range in.Gaps {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\n", visible(g.Split), g.From, g.To, visible(g.Reason))
	}
	fmt.Fprintln(t, "\nOPERATOR\tSTATE\tPIECES\tROWS\tFILES\tBYTES\tCOLUMNS")
	for _, g := range in.State {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", pipeline.OpName(g.Op), g.Kind, g.Pieces, g.Rows, g.Files, g.Bytes, visible(strings.Join(g.Columns, " ")))
	}
	if len(in.Receipts) > 0 {
		fmt.Fprintln(t, "\nSINK\tRECEIPT BYTES")
	}
	for _, r := range in.Receipts {
		fmt.Fprintf(t, "%s\t%d\n", visible(r.Sink), r.Bytes)
	}
	fmt.Fprintln(t, "\nSETTING\tVALUE, WHERE IT IS NOT THE DEFAULT")
	defaults := map[string]string{}
	for _, s := range settings(DefaultConfig()) {
		defaults[s.path] = s.value
	}
	for _, name := range slices.Sorted(maps.Keys(in.Config)) {
		if defaults[name] == in.Config[name] {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\n", visible(name), visible(quoteEmpty(in.Config[name])))
	}
	return t.Flush()
}

func (s splitLine) status() string {
	switch {
	case s.Ended:
		return "ended"
	case s.Quiet:
		return "quiet"
	}
	return "active"
}

// difference is what two checkpoints do not have in common.
type difference struct {
	Epochs [2]int64     `json:"epochs"`
	Values []valueDiff  `json:"values"` // of the checkpoint as a whole
	Splits []splitDiff  `json:"splits"`
	Config []valueDiff  `json:"config"`
	Pieces []piecesDiff `json:"pieces"`
}

// valueDiff is a value of both; empty where one has none.
type valueDiff struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

type splitDiff struct {
	Split  string      `json:"split"`
	Values []valueDiff `json:"values"`
}

// piecesDiff counts the pieces of an operator.
type piecesDiff struct {
	Op        int `json:"operator"`
	New       int `json:"new"`
	Rewritten int `json:"rewritten"`
	Gone      int `json:"gone"`
	Unchanged int `json:"unchanged"`
}

// cmdCheckpointDiff compares two checkpoints.
func cmdCheckpointDiff(ctx context.Context, args []string, out streams) error {
	f := newStateFlags("checkpoint diff", "tidemark checkpoint diff -f job.yaml 41 42", "compares checkpoints A and B, named by their epochs: offsets, marks, counts and settings that differ, and pieces of state that are new in B, rewritten, gone or unchanged")
	rest, err := f.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return &usageError{fmt.Sprintf("checkpoint diff: %d checkpoints: want the epochs of two", len(rest))}
	}
	epochs, err := f.epochsOf(rest)
	if err != nil {
		return err
	}
	v, err := f.open(ctx)
	if err != nil {
		return err
	}
	a, err := v.at(ctx, epochs[0])
	if err != nil {
		return err
	}
	b, err := v.at(ctx, epochs[1])
	if err != nil {
		return err
	}
	d, err := diffCheckpoints(a.Checkpoint, b.Checkpoint)
	if err != nil {
		return err
	}
	if f.format == formatJSON {
		return printJSON(out.stdout, d)
	}
	return d.print(out.stdout)
}

func diffCheckpoints(a, b *pipeline.Checkpoint) (*difference, error) {
	d := &difference{Epochs: [2]int64{a.Epoch, b.Epoch}, Splits: []splitDiff{}, Pieces: diffPieces(a.Pieces, b.Pieces)}
	was, err := configOf(a)
	if err != nil {
		return nil, err
	}
	is, err := configOf(b)
	if err != nil {
		return nil, err
	}
	d.Config = diffValues(was, is)
	d.Values = diffValues(wholeOf(a), wholeOf(b))
	from, to := splitsOf(a), splitsOf(b)
	names := maps.Clone(from)
	maps.Copy(names, to)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if values := diffValues(from[name], to[name]); len(values) > 0 {
			d.Splits = append(d.Splits, splitDiff{name, values})
		}
	}
	return d, nil
}

// wholeOf returns what is compared of a checkpoint as a whole, by name.
func wholeOf(cp *pipeline.Checkpoint) map[string]string {
	m := map[string]string{
		"job": cp.Job, "lineage": strconv.Itoa(int(cp.Lineage)), "seed": strconv.FormatUint(cp.Seed, 16),
		"mark": tick(cp.Merged.Event).String(), "ingest mark": tick(cp.Merged.Ingest).String(), "mark of the rows": tick(cp.Newest).String(),
		"moves of the mark": strconv.Itoa(len(cp.Moves)), "gaps": strconv.Itoa(len(cp.Gaps)),
		"files": strconv.Itoa(len(cp.Files)), "bytes": strconv.FormatInt(bytesOf(cp.Files), 10),
	}
	for i, n := range sumFates(cp.Splits) {
		m["rows "+pipeline.Fate(i).String()] = strconv.FormatInt(n, 10)
	}
	return m
}

// splitsOf returns what is compared of the splits, by their names.
func splitsOf(cp *pipeline.Checkpoint) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, s := range cp.Splits {
		m := map[string]string{
			"offset": strconv.FormatInt(s.Position.Offset, 10), "leader epoch": strconv.Itoa(int(s.Position.LeaderEpoch)),
			"mark": tick(s.Mark.Event).String(), "ingest mark": tick(s.Mark.Ingest).String(), "last ingest": tick(s.Position.LastIngest).String(),
			"state": splitLine{Quiet: s.Quiet, Ended: s.Ended}.status(),
		}
		for i, n := range s.Counts {
			m["rows "+pipeline.Fate(i).String()] = strconv.FormatInt(n, 10)
		}
		out[s.Split.String()] = m
	}
	return out
}

// diffValues returns the values that differ, by name.
func diffValues(a, b map[string]string) []valueDiff {
	out := []valueDiff{}
	names := maps.Clone(a)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, before := a[name]
		is, after := b[name]
		if before != after || was != is {
			out = append(out, valueDiff{name, was, is})
		}
	}
	return out
}

// diffPieces counts pieces by operator. A piece is where it was when nobody has changed it.
func diffPieces(a, b []pipeline.PieceRef) []piecesDiff {
	type id struct {
		op, shard int
		piece     string
	}
	type place struct {
		file  string
		batch int
	}
	was, ops := map[id]place{}, map[int]*piecesDiff{}
	of := func(op int) *piecesDiff {
		if ops[op] == nil {
			ops[op] = &piecesDiff{Op: op}
		}
		return ops[op]
	}
	for _, p := range a {
		was[id{p.Op, p.Shard, p.ID}] = place{p.File, p.Batch}
		of(p.Op).Gone++
	}
	for _, p := range b {
		d := of(p.Op)
		old, there := was[id{p.Op, p.Shard, p.ID}]
		switch {
		case !there:
			d.New++
			continue
		case old == place{p.File, p.Batch}:
			d.Unchanged++
		default:
			d.Rewritten++
		}
		d.Gone--
	}
	out := []piecesDiff{}
	for _, op := range slices.Sorted(maps.Keys(ops)) {
		out = append(out, *ops[op])
	}
	return out
}

func (d *difference) print(w io.Writer) error {
	fmt.Fprintf(w, "checkpoint %d to %d\n", d.Epochs[0], d.Epochs[1])
	t := newTable(w)
	values := func(title string, of []valueDiff) {
		if len(of) == 0 {
			return
		}
		fmt.Fprintf(t, "\n%s\t%d\t%d\n", title, d.Epochs[0], d.Epochs[1])
		for _, v := range of {
			fmt.Fprintf(t, "%s\t%s\t%s\n", visible(v.Name), visible(quoteEmpty(v.A)), visible(quoteEmpty(v.B)))
		}
	}
	values("CHECKPOINT", d.Values)
	for _, s := range d.Splits {
		values(visible(s.Split), s.Values)
	}
	if values("SETTING", d.Config); len(d.Config) == 0 {
		fmt.Fprintln(t, "\nthe settings are the same")
	}
	fmt.Fprintln(t, "\nPIECES OF OPERATOR\tNEW\tREWRITTEN\tGONE\tUNCHANGED")
	for _, p := range d.Pieces {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", pipeline.OpName(p.Op), p.New, p.Rewritten, p.Gone, p.Unchanged)
	}
	return t.Flush()
}

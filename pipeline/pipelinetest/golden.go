package pipelinetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Engine is what the golden cases of windows are run against.
type Engine struct {
	// Assign returns the windows that hold t, by end. It leaves min_start to the runner.
	Assign func(w WindowSpec, t int64) ([][2]int64, error)
	// Window builds a window operator over RowSchema; an error that wraps ErrNotBuilt skips
	// the case.
	Window func(s Spec, mem memory.Allocator) (Window, error)
	// Merge merges sessions, given by start; touching ones too when touch is "merge".
	Merge func(sessions [][2]int64, touch string) ([][2]int64, error)
}

// Window is a window operator under test. Its results have the columns key,
// window_start, window_end, value (or count, min and max), _tm_pane, _tm_revision, and
// _tm_kind when it withdraws results.
type Window interface {
	pipeline.Stateful
	Open() int
	// Missed counts the (row, window) pairs that were late.
	Missed() int64
}

// ErrNotBuilt says that the engine does not have a feature (yet), or has decided against
// a dialect.
type ErrNotBuilt string

func (e ErrNotBuilt) Error() string { return string(e) }

// Int is an integer that may be written as a decimal string.
type Int int64

// UnmarshalJSON implements json.Unmarshaler.
func (i *Int) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*i = Int(v)
	return err
}

// WindowSpec is spec.window of a case.
type WindowSpec struct {
	Type, Touch, TZ           string
	Size, Slide, Offset, Step Int
	MaxSize                   Int             `json:"max_size"`
	Gap                       json.RawMessage `json:"gap"`
	MinStart                  *Int            `json:"min_start"`
	MaxLength                 *Int            `json:"max_length"`
}

// exists tells whether a window that starts at start is one of the case's: those before
// min_start are not. The engine has no such option, since nothing but Kafka's clock that
// starts at 0 asks for it: the runner leaves out what it says of them.
func (w WindowSpec) exists(start int64) bool { return w.MinStart == nil || start >= int64(*w.MinStart) }

// Spec is spec of a window case.
type Spec struct {
	Window          WindowSpec
	Time            string
	AllowedLateness Int    `json:"allowed_lateness"`
	LateOutput      string `json:"late_output"`
	Trigger         TriggerSpec
	Accumulation    string
	Aggregate       string
	Watermark       struct {
		Policy, Per string
		Bound       Int
	}
	OutputTS      string `json:"output_ts"`
	OnTime        string `json:"on_time"`
	Closing       string
	BundleAtomic  bool  `json:"bundle_atomic"`
	EmitUnchanged *bool `json:"emit_unchanged"`
}

// GapPerElement tells whether every element carries the gap of its session, which is
// column gap of the rows.
func (s Spec) GapPerElement() bool { return string(s.Window.Gap) == `"per_element"` }

// Rows is the schema of the rows of a case: RowSchema, and gap where elements have one.
func (s Spec) Rows() *arrow.Schema {
	fields := RowSchema().Fields()
	if s.GapPerElement() {
		fields = append(fields, arrow.Field{Name: "gap", Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// TriggerSpec is a trigger of a case.
type TriggerSpec struct {
	Type          string
	N, MS         Int
	Interval      Int
	Aligned       *bool
	Early, Late   *TriggerSpec
	Of, Until     json.RawMessage
	EmitUnchanged *bool `json:"emit_unchanged"`
}

// InOrder reads "first E again and again until the mark reaches the end, then L", which is
// a pane on time between early and late ones.
func (t TriggerSpec) InOrder() (early, late *TriggerSpec, ok bool) {
	var parts []TriggerSpec
	if t.Type != "each_in_order" || json.Unmarshal(t.Of, &parts) != nil || len(parts) != 2 || parts[0].Type != "or_finally" {
		return nil, nil, false
	}
	var of, until TriggerSpec
	if json.Unmarshal(parts[0].Of, &of) != nil || json.Unmarshal(parts[0].Until, &until) != nil || until.Type != "watermark" {
		return nil, nil, false
	}
	e, ok1 := of.Repeated()
	l, ok2 := parts[1].Repeated()
	return &e, &l, ok1 && ok2
}

// Parts returns the triggers of which a first_of fires with the first, or the trigger itself.
func (t TriggerSpec) Parts() ([]TriggerSpec, error) {
	if t.Type != "first_of" {
		return []TriggerSpec{t}, nil
	}
	var parts []TriggerSpec
	err := json.Unmarshal(t.Of, &parts)
	return parts, err
}

// Repeated returns what a trigger of type repeat repeats.
func (t TriggerSpec) Repeated() (TriggerSpec, bool) {
	var of TriggerSpec
	if t.Type != "repeat" || json.Unmarshal(t.Of, &of) != nil {
		return of, false
	}
	return of, true
}

type goldenCase struct {
	ID, Kind, Tier, Title, Unit, Order string
	Notes, Source, Unused              json.RawMessage
	Spec                               json.RawMessage
	Steps                              []goldenStep
	Final                              *goldenState
	OrderAgnostic                      bool `json:"order_agnostic"`
	RestoreAnywhere                    bool `json:"restore_anywhere"`
	Assign                             []struct {
		TS      Int
		Windows [][2]Int
		Local   json.RawMessage
	}
	Windows, Expected json.RawMessage
}

type goldenStep struct {
	Op        string
	T, By     Int
	SrcT      json.RawMessage `json:"src_t"`
	Key       string
	Value     json.RawMessage
	TS        Int
	Gap       json.RawMessage
	Input     int
	Status    string
	Watermark *Int
	Elements  []goldenElement
	Emit      []goldenEmit
	Late      []goldenElement
	State     *goldenState
	Notes     json.RawMessage
}

type goldenElement struct {
	Key   string
	Value json.RawMessage
	TS    Int
	Gap   json.RawMessage
}

type goldenEmit struct {
	Key         string
	Start, End  *Int
	Value       json.RawMessage
	Pane, Kind  string
	TS          *Int
	First, Last *bool
	Index       *int
	NonSpec     *int `json:"nonspec"`
	Any         bool
	SrcWindow   json.RawMessage `json:"src_window"`
	Watermark   *Int
	Status      string
}

type goldenState struct {
	OpenWindows            *int `json:"open_windows"`
	LateElements           *int `json:"late_elements"`
	LateElementWindowPairs *int `json:"late_element_window_pairs"`
}

// RunWindowGolden runs every case of a window-conformance file as a subtest by its id.
func RunWindowGolden(t *testing.T, path string, e Engine) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []json.RawMessage }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(file.Cases) == 0 {
		t.Fatalf("%s: no cases", path)
	}
	for _, raw := range file.Cases {
		var c goldenCase
		err := strict(raw, &c)
		t.Run(c.ID, func(t *testing.T) {
			if err != nil {
				t.Fatalf("case: %v", err)
			}
			switch c.Kind {
			case "assign":
				runAssign(t, c, e)
			case "watermark_merge":
				runMerge(t, c)
			case "watermark_gen":
				runGen(t, c)
			case "window":
				runWindow(t, c, e)
			case "session_merge":
				runSessionMerge(t, c, e)
			default:
				t.Fatalf("unknown kind %q", c.Kind)
			}
		})
	}
}

func strict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// options decodes the spec of a case; one with an option that is not known here is skipped.
func options(t *testing.T, raw []byte, v any) {
	t.Helper()
	err := strict(raw, v)
	if err == nil {
		return
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		t.Skipf("not adopted: option %s", name)
	}
	t.Fatal(err)
}

func skip(t *testing.T, err error) {
	t.Helper()
	if nb, ok := err.(ErrNotBuilt); ok {
		t.Skip(string(nb))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func runAssign(t *testing.T, c goldenCase, e Engine) {
	var spec struct{ Window WindowSpec }
	options(t, c.Spec, &spec)
	for _, a := range c.Assign {
		got, err := e.Assign(spec.Window, int64(a.TS))
		skip(t, err)
		got = slices.DeleteFunc(got, func(w [2]int64) bool { return !spec.Window.exists(w[0]) })
		want := [][2]int64{}
		for _, w := range a.Windows {
			want = append(want, [2]int64{int64(w[0]), int64(w[1])})
		}
		if !slices.Equal(got, want) {
			t.Errorf("windows of %d: got %v, want %v", a.TS, got, want)
		}
	}
}

func runSessionMerge(t *testing.T, c goldenCase, e Engine) {
	var spec struct {
		Touch string
		Gap   Int
	}
	var windows, want [][2]Int
	for _, p := range []struct {
		raw []byte
		to  any
	}{{c.Spec, &spec}, {c.Windows, &windows}, {c.Expected, &want}} {
		if err := strict(p.raw, p.to); err != nil {
			t.Fatal(err)
		}
	}
	var in [][2]int64
	for _, w := range windows {
		in = append(in, [2]int64{int64(w[0]), int64(w[1])})
	}
	got, err := e.Merge(in, spec.Touch)
	skip(t, err)
	same := func(a [2]int64, b [2]Int) bool { return a[0] == int64(b[0]) && a[1] == int64(b[1]) }
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("sessions %v: merged to %v, want %v", windows, got, want)
	}
}

func runMerge(t *testing.T, c goldenCase) {
	var spec struct {
		Inputs        int
		InitialStatus string `json:"initial_status"`
	}
	options(t, c.Spec, &spec)
	v := pipeline.NewValve()
	if c.Tier == "dialect:flink" {
		v.OnAllQuiet = pipeline.FlushMark
	}
	for range spec.Inputs {
		i := v.Add()
		if spec.InitialStatus == "idle" {
			v.SetIdle(i, true)
		}
	}
	idle := v.AllIdle()
	for n, s := range c.Steps {
		var got []string
		rose := false
		switch s.Op {
		case "in_watermark":
			rose = v.Observe(s.Input, pipeline.Mark{Event: int64(s.T), Ingest: pipeline.MinTicks})
		case "in_status":
			rose = v.SetIdle(s.Input, s.Status == "idle")
		default:
			t.Fatalf("step %d: unknown op %q", n, s.Op)
		}
		if rose {
			got = append(got, fmt.Sprintf("watermark %d", v.Merged().Event))
		}
		if now := v.AllIdle(); now != idle {
			idle = now
			got = append(got, "status "+map[bool]string{true: "idle", false: "active"}[now])
		}
		var want []string
		for _, e := range s.Emit {
			if e.Watermark != nil {
				want = append(want, fmt.Sprintf("watermark %d", *e.Watermark))
			} else {
				want = append(want, "status "+e.Status)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("step %d: got %q, want %q", n, got, want)
		}
	}
}

func runGen(t *testing.T, c goldenCase) {
	var spec struct {
		Policy, Convention string
		Bound              Int
		IdleTimeout        json.RawMessage `json:"idle_timeout"`
		Per                string
	}
	// What another policy's members are is no matter of ours.
	if err := json.Unmarshal(c.Spec, &spec); err == nil && spec.Policy != "bounded" {
		t.Skipf("not adopted: policy %s", spec.Policy)
	}
	options(t, c.Spec, &spec)
	m := pipeline.NewMarks(int64(spec.Bound), pipeline.MaxTicks)
	split := m.Add()
	for n, s := range c.Steps {
		if s.Op == "element" {
			_, mark, _ := m.Stamp(split, []int64{int64(s.TS)}, nil)
			m.Arrive(split, pipeline.Mark{Event: mark, Ingest: pipeline.MinTicks}, pipeline.MinTicks)
		}
		if s.Watermark == nil {
			continue
		}
		got := m.Merged().Event
		if spec.Convention == "exclusive" && got != pipeline.MinTicks {
			got++
		}
		if got != int64(*s.Watermark) {
			t.Errorf("step %d: mark %d, want %d", n, got, *s.Watermark)
		}
	}
}

// ticksPerMS scales a case by zone: the offsets of zones are what they are, so that its
// milliseconds must be true ones. No other case is scaled.
const ticksPerMS = 1000

func (s *Spec) toTicks() {
	w := &s.Window
	for _, v := range []*Int{&w.Size, &w.Slide, &w.Offset, &w.Step, &w.MaxSize, w.MinStart, &s.AllowedLateness, &s.Watermark.Bound} {
		if v != nil {
			*v *= ticksPerMS
		}
	}
	for _, t := range []*TriggerSpec{&s.Trigger, s.Trigger.Early, s.Trigger.Late} {
		if t != nil {
			t.MS, t.Interval = t.MS*ticksPerMS, t.Interval*ticksPerMS
		}
	}
}

func stepsToTicks(steps []goldenStep) {
	first := func(v *Int) { // of its millisecond
		if v != nil {
			*v *= ticksPerMS
		}
	}
	last := func(v *Int) { // of its millisecond: a mark leaves nothing of it
		if v != nil {
			*v = (*v+1)*ticksPerMS - 1
		}
	}
	for i := range steps {
		s := &steps[i]
		last(&s.T)
		first(&s.TS)
		for k := range s.Elements {
			first(&s.Elements[k].TS)
		}
		for k := range s.Late {
			first(&s.Late[k].TS)
		}
		for k := range s.Emit {
			first(s.Emit[k].Start)
			first(s.Emit[k].End)
			last(s.Emit[k].TS)
		}
	}
}

// windowRun is one pass over a window case.
type windowRun struct {
	t    *testing.T
	c    goldenCase
	spec Spec
	e    Engine
	mem  memory.Allocator

	lanes   map[string]*lane // by key with marks per key, else one
	order   []string         // of the lanes: as they came
	all     int64            // the mark that every lane has at least
	now     int64
	offset  int64
	names   map[string]int64 // values that are no integers
	out     []goldenEmit
	late    []goldenElement
	lateAll int
	missed  int64          // by the operators before the last restore, less those of windows that are not
	shown   map[string]int // panes that were not early, by key and window
	total   []string
}

// lane is an operator with its mark, and what its engine holds open that the case does not
// know: pairs of windows before min_start.
type lane struct {
	r    *windowRun
	op   Window
	wm   int64
	none map[string]int64 // cleanup by key and window
}

// lane returns the operator that takes the rows of a key.
func (r *windowRun) lane(key string) *lane {
	if r.spec.Watermark.Per != "key" || r.spec.Watermark.Policy != "bounded" {
		key = ""
	}
	if l := r.lanes[key]; l != nil {
		return l
	}
	op, err := r.e.Window(r.spec, r.mem)
	skip(r.t, err)
	l := &lane{r: r, op: op, wm: pipeline.MinTicks, none: map[string]int64{}}
	r.lanes[key], r.order = l, append(r.order, key)
	l.advance(r.all)
	if r.now != pipeline.MinTicks {
		r.check(op.Tick(r.now, l))
	}
	return l
}

func runWindow(t *testing.T, c goldenCase, e Engine) {
	var spec Spec
	options(t, c.Spec, &spec)
	if spec.Window.TZ != "" {
		if c.Unit != "ms" {
			t.Fatalf("a case by zone in unit %q", c.Unit)
		}
		spec.toTicks()
		stepsToTicks(c.Steps)
	}
	variants := []struct {
		name    string
		on      bool
		restore bool
		steps   []goldenStep
	}{
		{"as is", true, false, c.Steps},
		{"restored after every step", c.RestoreAnywhere, true, c.Steps},
		{"in batches", true, false, batched(c.Steps, spec)},
		{"in reverse", c.OrderAgnostic, false, reversed(c.Steps)},
	}
	for _, v := range variants {
		if !v.on || v.steps == nil {
			continue
		}
		checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
		r := &windowRun{t: t, c: c, spec: spec, e: e, mem: checked, lanes: map[string]*lane{},
			all: pipeline.MinTicks, now: pipeline.MinTicks, names: map[string]int64{}, shown: map[string]int{}}
		r.lane("")
		for n, s := range v.steps {
			r.step(v.name, n, s)
			if v.restore {
				r.restore()
			}
		}
		r.final(v.name)
		checked.AssertSize(t, 0)
		if t.Failed() {
			return
		}
	}
}

// quietElement tells whether a step is an element that is neither emitted for nor late.
func quietElement(s goldenStep) bool {
	return s.Op == "element" && len(s.Emit) == 0 && len(s.Late) == 0 && s.State == nil
}

// batched puts runs of quiet elements into one batch each.
func batched(steps []goldenStep, spec Spec) []goldenStep {
	if spec.Watermark.Policy != "explicit" {
		return nil // the mark moves with every element
	}
	var out []goldenStep
	for _, s := range steps {
		if !quietElement(s) {
			out = append(out, s)
			continue
		}
		el := goldenElement{Key: s.Key, Value: s.Value, TS: s.TS, Gap: s.Gap}
		if n := len(out); n > 0 && out[n-1].Op == "one_batch" {
			out[n-1].Elements = append(out[n-1].Elements, el)
			continue
		}
		out = append(out, goldenStep{Op: "one_batch", Elements: []goldenElement{el}})
	}
	return out
}

func reversed(steps []goldenStep) []goldenStep {
	out := slices.Clone(steps)
	for i := 0; i < len(out); {
		j := i
		for j < len(out) && quietElement(out[j]) {
			j++
		}
		slices.Reverse(out[i:j])
		i = max(j, i+1)
	}
	return out
}

func (r *windowRun) step(variant string, n int, s goldenStep) {
	r.t.Helper()
	r.out, r.late = nil, nil
	switch s.Op {
	case "element":
		r.element(goldenElement{Key: s.Key, Value: s.Value, TS: s.TS, Gap: s.Gap})
	case "batch":
		if r.spec.BundleAtomic {
			r.process(s.Elements)
			r.tick()
			break
		}
		for _, e := range s.Elements {
			r.element(e)
		}
	case "one_batch":
		r.process(s.Elements)
	case "watermark":
		r.advance(int64(s.T))
	case "processing_time":
		r.now = int64(s.T)
		r.tick()
		if r.spec.Time == "processing" {
			r.advance(r.now)
		}
	case "snapshot_restore":
		r.restore()
	case "end_of_input":
		r.advance(pipeline.MaxTicks)
	default:
		r.t.Fatalf("step %d: unknown op %q", n, s.Op)
	}
	got, want := r.lines(r.out, s.Emit), r.wanted(s.Emit)
	switch r.c.Order {
	case "total":
		r.total = append(r.total, got...)
	case "exact":
	default:
		sort.Strings(got)
		sort.Strings(want)
	}
	if r.c.Order != "total" && !slices.Equal(got, want) {
		r.t.Errorf("%s, step %d (%s): emitted\n\t%q, want\n\t%q", variant, n, s.Op, got, want)
	}
	gotLate, wantLate := lateLines(r.late), lateLines(s.Late)
	if !slices.Equal(gotLate, wantLate) {
		r.t.Errorf("%s, step %d (%s): late %q, want %q", variant, n, s.Op, gotLate, wantLate)
	}
	r.state(variant, s.State)
}

func (r *windowRun) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *windowRun) element(e goldenElement) {
	r.process([]goldenElement{e})
	if r.spec.Watermark.Policy == "bounded" {
		r.lane(e.Key).advance(pipeline.SubTicks(int64(e.TS), int64(r.spec.Watermark.Bound)+1))
	}
}

func (r *windowRun) tick() {
	for _, key := range r.order {
		l := r.lanes[key]
		r.check(l.op.Tick(r.now, l))
	}
}

func (r *windowRun) advance(to int64) {
	r.all = max(r.all, to)
	for _, key := range r.order {
		r.lanes[key].advance(to)
	}
}

// process gives elements to the lane of their key: they are of one key when lanes are by
// key.
func (r *windowRun) process(els []goldenElement) {
	if len(els) == 0 {
		return
	}
	l := r.lane(els[0].Key)
	var rows []Row
	behind := make([]int64, len(els))
	for i, e := range els {
		ts := int64(e.TS)
		if r.spec.Time == "processing" {
			ts = r.now
			behind[i] = pipeline.MinTicks
		} else {
			behind[i] = l.wm
		}
		l.withhold(e.Key, ts, behind[i])
		rows = append(rows, Row{Time: ts, Key: e.Key, Value: r.intern(e.Value), Offset: r.offset})
		r.offset++
	}
	rec := Record(r.mem, rows)
	if r.spec.GapPerElement() {
		rec = r.withGaps(rec, els)
	}
	defer rec.Release()
	keyer, err := pipeline.NewKeyer(rec.Schema(), []string{"key"}, 0)
	r.check(err)
	r.check(l.op.Process(pipeline.Batch{Rec: rec, Keys: keyer.Keys(rec), Behind: behind, Passed: pipeline.MinTicks}, l))
}

// withhold notes the windows of a row that the engine has and the case has not.
func (l *lane) withhold(key string, t, mark int64) {
	spec := l.r.spec
	if spec.Window.MinStart == nil {
		return
	}
	windows, err := l.r.e.Assign(spec.Window, t)
	l.r.check(err)
	for _, w := range windows {
		if spec.Window.exists(w[0]) {
			continue
		}
		cleanup := pipeline.AddTicks(pipeline.SubTicks(w[1], 1), int64(spec.AllowedLateness))
		if cleanup <= mark {
			l.r.missed--
			continue
		}
		l.none[fmt.Sprint(key, w)] = cleanup
	}
}

// lacks tells whether a time lies in windows before min_start only.
func (l *lane) lacks(t int64) bool {
	if l.r.spec.Window.MinStart == nil {
		return false
	}
	windows, err := l.r.e.Assign(l.r.spec.Window, t)
	l.r.check(err)
	return !slices.ContainsFunc(windows, func(w [2]int64) bool { return l.r.spec.Window.exists(w[0]) })
}

// open is the number of open windows that the case knows of.
func (l *lane) open() int {
	n := l.op.Open()
	for _, cleanup := range l.none {
		if cleanup > l.wm {
			n--
		}
	}
	return n
}

// withGaps adds column gap to rows, which it takes over.
func (r *windowRun) withGaps(rows arrow.RecordBatch, els []goldenElement) arrow.RecordBatch {
	defer rows.Release()
	b := array.NewInt64Builder(r.mem)
	defer b.Release()
	for _, e := range els {
		var gap Int
		if err := json.Unmarshal(e.Gap, &gap); err != nil {
			r.t.Fatalf("gap %q: %v", e.Gap, err)
		}
		b.Append(int64(gap))
	}
	gaps := b.NewArray()
	defer gaps.Release()
	return array.NewRecordBatch(r.spec.Rows(), append(slices.Clone(rows.Columns()), gaps), rows.NumRows())
}

// intern turns a value into an integer: itself, or a number for its text.
func (r *windowRun) intern(v json.RawMessage) int64 {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n
	}
	id, ok := r.names[string(v)]
	if !ok {
		id = -1_000_000 - int64(len(r.names))
		r.names[string(v)] = id
	}
	return id
}

func (r *windowRun) extern(v int64) string {
	for name, id := range r.names {
		if id == v {
			return name
		}
	}
	return strconv.FormatInt(v, 10)
}

func (l *lane) advance(to int64) {
	if to <= l.wm {
		return
	}
	l.wm = to
	l.r.check(l.op.Advance(pipeline.Mark{Event: l.wm, Ingest: pipeline.MinTicks}, l))
}

func (r *windowRun) restore() {
	for _, key := range r.order {
		r.lanes[key].restore()
	}
}

func (l *lane) restore() {
	r := l.r
	var pieces []pipeline.Piece
	r.check(l.op.Snapshot(true, func(p pipeline.Piece) error {
		pieces = append(pieces, p.Made())
		return nil
	}))
	op, err := r.e.Window(r.spec, r.mem)
	r.check(err)
	for _, p := range pieces {
		r.check(op.Restore(p, func(uint8) bool { return true }))
		p.Rec.Release()
	}
	if op.Open() != l.op.Open() {
		r.t.Errorf("restored %d open windows of %d", op.Open(), l.op.Open())
	}
	r.missed += l.op.Missed()
	l.op = op
	before := len(r.out)
	r.check(op.Advance(pipeline.Mark{Event: l.wm, Ingest: pipeline.MinTicks}, l))
	if r.now != pipeline.MinTicks {
		r.check(op.Tick(r.now, l))
	}
	if len(r.out) > before {
		r.t.Errorf("the restored operator emitted again: %v", r.out[before:])
	}
}

// Emit implements pipeline.Emitter.
func (l *lane) Emit(p pipeline.Port, b pipeline.Batch) error {
	r := l.r
	keys := b.Rec.Column(b.Rec.Schema().FieldIndices("key")[0]).(*array.String)
	if p == pipeline.Late {
		vals := b.Rec.Column(b.Rec.Schema().FieldIndices("value")[0]).(*array.Int64)
		times := b.Rec.Column(pipeline.ColTime).(*array.Timestamp)
		for i := range b.NumRows() {
			if l.lacks(int64(times.Value(i))) {
				continue
			}
			r.lateAll++
			r.late = append(r.late, goldenElement{Key: strings.Clone(keys.Value(i)), Value: json.RawMessage(r.extern(vals.Value(i))), TS: Int(times.Value(i))})
		}
		return nil
	}
	if r.spec.Aggregate == "none" {
		return nil
	}
	has := func(name string) bool { return len(b.Rec.Schema().FieldIndices(name)) == 1 }
	col := func(name string) arrow.Array { return b.Rec.Column(b.Rec.Schema().FieldIndices(name)[0]) }
	for i := range b.NumRows() {
		e := goldenEmit{Key: strings.Clone(keys.Value(i)), Pane: strings.Clone(col("_tm_pane").(*array.String).Value(i))}
		if e.Pane == "retracted" && r.spec.Accumulation != "retracting" {
			continue // the cases list what an absorbed session withdraws in this mode only
		}
		last := l.wm == pipeline.MaxTicks
		end := Int(pipeline.MaxTicks)
		e.TS = &end
		if start := col("window_start").(*array.Timestamp); !start.IsNull(i) {
			from, to := Int(start.Value(i)), Int(col("window_end").(*array.Timestamp).Value(i))
			if !r.spec.Window.exists(int64(from)) {
				continue
			}
			ts := to - 1
			e.Start, e.End, e.TS = &from, &to, &ts
			last = l.wm >= pipeline.AddTicks(int64(ts), int64(r.spec.AllowedLateness))
		}
		index := int(col("_tm_revision").(*array.Int32).Value(i)) - 1
		first, nonspec := index == 0, -1
		if id := fmt.Sprintf("%s [%s,%s)", e.Key, intText(e.Start), intText(e.End)); e.Pane != "early" {
			nonspec = r.shown[id]
			r.shown[id]++
		}
		if has("value") {
			e.Value = json.RawMessage(r.value(col("value"), i))
		} else {
			e.Value = fmt.Appendf(nil, `{"count":%s,"min":%s,"max":%s}`, r.value(col("count"), i), r.value(col("min"), i), r.value(col("max"), i))
		}
		if has("_tm_kind") {
			e.Kind = strings.Clone(col("_tm_kind").(*array.String).Value(i))
		}
		e.First, e.Last, e.Index, e.NonSpec = &first, &last, &index, &nonspec
		r.out = append(r.out, e)
	}
	return nil
}

// Count implements pipeline.Emitter.
func (l *lane) Count(pipeline.Fate, int32, int64) {}

func (r *windowRun) value(c arrow.Array, i int) string {
	switch c := c.(type) {
	case *array.Int64:
		if c.IsNull(i) {
			return "null"
		}
		return r.extern(c.Value(i))
	case *array.List:
		from, to := c.ValueOffsets(i)
		var parts []string
		for _, v := range c.ListValues().(*array.Int64).Int64Values()[from:to] {
			parts = append(parts, r.extern(v))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return fmt.Sprintf("unexpected type %s", c.DataType())
}

// lines renders what was emitted, with the optional members that the first wanted row of
// the same key, window and pane has.
func (r *windowRun) lines(got, want []goldenEmit) []string {
	var out []string
	for _, g := range got {
		like := goldenEmit{}
		for _, w := range want {
			if w.Key == g.Key && equalInt(w.Start, g.Start) && equalInt(w.End, g.End) && w.Pane == g.Pane {
				like = w
				break
			}
		}
		out = append(out, emitLine(g, like))
	}
	return out
}

func (r *windowRun) wanted(want []goldenEmit) []string {
	var out []string
	for _, w := range want {
		out = append(out, emitLine(w, w))
	}
	return out
}

func emitLine(e, like goldenEmit) string {
	var value bytes.Buffer
	if like.Any {
		value.WriteString("any")
	} else if err := json.Compact(&value, e.Value); err != nil {
		value.Write(e.Value)
	}
	s := fmt.Sprintf("%s [%s,%s) %s %s", e.Key, intText(e.Start), intText(e.End), value.String(), e.Pane)
	if k := e.Kind; k != "" && k != "+I" {
		s += " " + k
	}
	if like.TS != nil {
		s += " ts=" + intText(e.TS)
	}
	if like.First != nil {
		s += fmt.Sprintf(" first=%v", *e.First)
	}
	if like.Last != nil {
		s += fmt.Sprintf(" last=%v", *e.Last)
	}
	if like.Index != nil {
		s += fmt.Sprintf(" index=%d", *e.Index)
	}
	if like.NonSpec != nil {
		s += fmt.Sprintf(" nonspec=%d", *e.NonSpec)
	}
	return s
}

func equalInt(a, b *Int) bool { return a == b || a != nil && b != nil && *a == *b }

func intText(i *Int) string {
	if i == nil {
		return "-"
	}
	return strconv.FormatInt(int64(*i), 10)
}

func lateLines(els []goldenElement) []string {
	out := []string{}
	for _, e := range els {
		out = append(out, fmt.Sprintf("%s %s @%d", e.Key, e.Value, e.TS))
	}
	sort.Strings(out)
	return out
}

func (r *windowRun) state(variant string, s *goldenState) {
	if s == nil {
		return
	}
	open, pairs := 0, r.missed
	for _, l := range r.lanes {
		open += l.open()
		pairs += l.op.Missed()
	}
	if s.OpenWindows != nil && open != *s.OpenWindows {
		r.t.Errorf("%s: %d open windows, want %d", variant, open, *s.OpenWindows)
	}
	if s.LateElements != nil && r.lateAll != *s.LateElements {
		r.t.Errorf("%s: %d late elements, want %d", variant, r.lateAll, *s.LateElements)
	}
	if s.LateElementWindowPairs != nil && pairs != int64(*s.LateElementWindowPairs) {
		r.t.Errorf("%s: %d late (element, window) pairs, want %d", variant, pairs, *s.LateElementWindowPairs)
	}
}

func (r *windowRun) final(variant string) {
	r.state(variant, r.c.Final)
	if r.c.Order != "total" {
		return
	}
	var want []string
	for _, s := range r.c.Steps {
		want = append(want, r.wanted(s.Emit)...)
	}
	sort.Strings(r.total)
	sort.Strings(want)
	if !slices.Equal(r.total, want) {
		r.t.Errorf("%s: emitted in all\n\t%q, want\n\t%q", variant, r.total, want)
	}
}

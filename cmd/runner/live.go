package main

import (
	"bytes"
	"container/list"
	"context"
	_ "embed"
	"encoding/json"
	"hash/maphash"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

//go:embed live.html
var livePage []byte

// liveView holds the newest rows of the tables of domains, for the page that draws them. It begins
// empty with every process: who wants more asks the sinks.
type liveView struct {
	mu   sync.Mutex
	jobs []*liveJob
}

type liveJob struct {
	name, domain string
	dom          *domain
	tables       map[string]*liveTable
	files        []*drawnFile
}

// liveTable has the last rows of the keys that changed last.
type liveTable struct {
	by          []string
	keep        int // rows of a key
	size, limit int // bytes
	keys        map[string]*list.Element
	changed     *list.List // of *liveKey, the one that changed last in front
	// hidden are hashes of keys that there was no room for and that have not come again.
	hidden map[uint64]struct{}
	seed   maphash.Seed
	// prepared has what an epoch adds that does not count yet; nil for nothing.
	prepared *liveTable
}

// liveKey has the last rows of a key.
type liveKey struct {
	key  string
	rows []json.RawMessage
	size int
}

// maxLiveBytes bounds the rows of a job that are shown, and those of an epoch that are to be. Its
// tables have equal parts: that which changes all the time must not push out findings.
const maxLiveBytes = 16 << 20

// maxLiveHidden bounds how many hidden keys are told apart: the count ends there.
const maxLiveHidden = 1 << 16

// What a row and a key take beside their bytes, about.
const (
	liveRowCost = 32
	liveKeyCost = 256
)

func newLiveTable(by []string, keep, limit int) *liveTable {
	return &liveTable{by: by, keep: keep, limit: limit, keys: map[string]*list.Element{}, changed: list.New(), hidden: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
}

// add makes the view of a job.
func (l *liveView) add(name, section string, dom *domain) *liveJob {
	j := &liveJob{name: name, domain: section, dom: dom, tables: map[string]*liveTable{}}
	for _, f := range dom.files {
		if strings.HasSuffix(f.path, "json") {
			j.files = append(j.files, &drawnFile{name: f.name, path: f.path})
		}
	}
	shown := 0
	for _, t := range dom.tables {
		if t.live > 0 {
			shown++
		}
	}
	for i, t := range dom.tables {
		if t.live > 0 {
			j.tables[liveName(i, t)] = newLiveTable(t.liveBy, t.live, maxLiveBytes/shown)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs = append(l.jobs, j)
	return j
}

// liveName is what a table is called on the page.
func liveName(i int, t domainTable) string {
	if i == 0 {
		return "events"
	}
	return t.suffix
}

// liveSink puts rows into a table of the page. It implements pipeline.Sink, without receipts: what
// a process shows is nothing that the next one has to publish, and a checkpoint with a receipt
// binds its job to a sink of that name. Rows wait in memory until the job says that its checkpoint
// was published; a process that dies before that begins with an empty page anyway.
type liveSink struct {
	live   *liveView
	table  *liveTable
	schema *arrow.Schema
	// scratch holds a row that is made; only the writer of the job makes any.
	scratch []byte
}

type liveRow struct {
	key string
	row json.RawMessage
}

func (r liveRow) size() int { return len(r.row) + liveRowCost }

// liveStage has of an epoch what a page would that began with it.
type liveStage struct {
	sink *liveSink
	rows *liveTable
}

// Begin implements pipeline.Sink.
func (s *liveSink) Begin(ctx context.Context, _ pipeline.Epoch) (pipeline.Stage, error) {
	t := newLiveTable(s.table.by, s.table.keep, s.table.limit)
	t.seed = s.table.seed
	return &liveStage{s, t}, ctx.Err()
}

// Write implements pipeline.Stage. Only rows that could be shown are made JSON.
func (st *liveStage) Write(ctx context.Context, b pipeline.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	type keyed struct {
		key string
		r   int
	}
	var last []keyed
	rows, cols := map[string]int{}, st.sink.keyColumns(b.Rec)
	for i := b.NumRows() - 1; i >= 0; i-- {
		r := i
		if b.Rows != nil {
			r = int(b.Rows[i])
		}
		key := liveKeyOf(cols, r)
		if rows[key]++; rows[key] <= st.rows.keep {
			last = append(last, keyed{key, r})
		}
	}
	for _, k := range slices.Backward(last) {
		st.rows.show(liveRow{k.key, st.sink.row(b.Rec, k.r)})
	}
	return nil
}

// keyColumns are those of the table's key that a batch has.
func (s *liveSink) keyColumns(rec arrow.RecordBatch) []arrow.Array {
	var cols []arrow.Array
	for _, name := range s.table.by {
		if at := rec.Schema().FieldIndices(name); len(at) == 1 {
			cols = append(cols, rec.Column(at[0]))
		}
	}
	return cols
}

// liveKeyOf may lie in the memory of a batch.
func liveKeyOf(cols []arrow.Array, r int) string {
	var parts []string
	for _, c := range cols {
		if c.IsValid(r) {
			parts = append(parts, c.ValueStr(r))
		}
	}
	return strings.Join(parts, " ")
}

func (s *liveSink) row(rec arrow.RecordBatch, r int) json.RawMessage {
	s.scratch = append(s.scratch[:0], '{')
	for i, f := range s.schema.Fields() {
		if !strings.HasPrefix(f.Name, "_tm_") {
			s.scratch = pipeline.AppendJSONMember(s.scratch, 1, f, rec.Column(i), r)
		}
	}
	s.scratch = append(s.scratch, '}')
	return bytes.Clone(s.scratch) // of no more bytes than are counted
}

// Prepare implements pipeline.Stage. Its receipt is nil, always.
func (st *liveStage) Prepare(ctx context.Context, _ pipeline.Mark) (pipeline.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st.sink.live.mu.Lock()
	defer st.sink.live.mu.Unlock()
	st.sink.table.prepared = st.rows
	return nil, nil
}

// Abort implements pipeline.Stage.
func (st *liveStage) Abort() error { return nil }

// Publish implements pipeline.Sink. There are receipts only in checkpoints of versions that made
// them; their rows were shown by a process that has ended.
func (s *liveSink) Publish(ctx context.Context, _ pipeline.Receipt) error { return ctx.Err() }

// published shows what was prepared: the job prepares the next epoch after it has said that the
// one before was published.
func (j *liveJob) published(l *liveView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range j.tables {
		if t.prepared != nil {
			t.take(t.prepared)
			t.prepared = nil
		}
	}
}

// take adds what an epoch has, in the order in which keys changed.
func (t *liveTable) take(epoch *liveTable) {
	if len(epoch.hidden) > 0 {
		for h := range epoch.hidden {
			t.hide(h)
		}
		for key := range t.keys { // its rows of before are shown
			delete(t.hidden, t.hash(key))
		}
	}
	for at := epoch.changed.Back(); at != nil; at = at.Prev() {
		k := at.Value.(*liveKey)
		for _, row := range k.rows {
			t.show(liveRow{k.key, row})
		}
	}
}

// show adds a row to those of its key. Without room for it the keys that changed longest ago are
// forgotten, and where there is no other key its own oldest rows.
func (t *liveTable) show(row liveRow) {
	at, there := t.keys[row.key]
	if !there {
		delete(t.hidden, t.hash(row.key))
		k := &liveKey{key: strings.Clone(row.key)} // it may lie in a batch
		at = t.changed.PushFront(k)
		t.keys[k.key] = at
		t.resize(at, len(row.key)+liveKeyCost)
	}
	t.changed.MoveToFront(at)
	k := at.Value.(*liveKey)
	if len(k.rows) == t.keep {
		t.dropOldest(at)
	}
	k.rows = append(k.rows, row.row)
	t.resize(at, row.size())
	for t.size > t.limit {
		if oldest := t.changed.Back(); oldest != at || len(k.rows) == 1 {
			t.forget(oldest)
		} else {
			t.dropOldest(at)
		}
	}
}

// resize notes that a key takes so many bytes more.
func (t *liveTable) resize(at *list.Element, by int) {
	at.Value.(*liveKey).size += by
	t.size += by
}

func (t *liveTable) dropOldest(at *list.Element) {
	k := at.Value.(*liveKey)
	t.resize(at, -liveRow{row: k.rows[0]}.size())
	k.rows = slices.Delete(k.rows, 0, 1)
}

// forget hides a key until it comes again.
func (t *liveTable) forget(at *list.Element) {
	k := t.changed.Remove(at).(*liveKey)
	delete(t.keys, k.key)
	t.size -= k.size
	t.hide(t.hash(k.key))
}

func (t *liveTable) hide(key uint64) {
	if len(t.hidden) < maxLiveHidden {
		t.hidden[key] = struct{}{}
	}
}

func (t *liveTable) hash(key string) uint64 { return maphash.String(t.seed, key) }

// Sweep implements pipeline.Sink.
func (s *liveSink) Sweep(context.Context) error { return nil }

// Close implements pipeline.Sink.
func (s *liveSink) Close() error { return nil }

// sinks adds those of the page to the outputs of a job.
func (j *liveJob) sinks(l *liveView, results *arrow.Schema, out map[pipeline.Port][]pipeline.Output) {
	for i, t := range j.dom.tables {
		name := liveName(i, t)
		if j.tables[name] == nil {
			continue
		}
		port, schema := pipeline.Out, results
		if i > 0 {
			port, schema = pipeline.Side(i-1), t.schema
		}
		out[port] = append(out[port], pipeline.Output{Name: "live:" + name, Sink: &liveSink{live: l, table: j.tables[name], schema: schema}})
	}
}

// liveAnswer is a job as /api/v1/live shows it: by table the rows, those of a key together.
type liveAnswer struct {
	Job    string                                  `json:"job"`
	Domain string                                  `json:"domain"`
	Tables map[string]map[string][]json.RawMessage `json:"tables"`
	// Hidden says of a table how many keys are not shown, for there is no room.
	Hidden map[string]int `json:"hidden,omitempty"`
	// Files are those of the domain that are JSON, for drawing: the fences.
	Files map[string]json.RawMessage `json:"files,omitempty"`
}

// answer is what all jobs show.
func (l *liveView) answer() []liveAnswer {
	l.mu.Lock()
	jobs := slices.Clone(l.jobs)
	l.mu.Unlock()
	out := []liveAnswer{}
	for _, j := range jobs {
		a := l.rows(j)
		for _, f := range j.files { // without the lock: a disk may be slow
			if b := f.read(); b != nil {
				a.Files[f.name] = b
			}
		}
		out = append(out, a)
	}
	return out
}

// rows copies what a job shows. Rows themselves do not change, so they are written to the client
// without the lock.
func (l *liveView) rows(j *liveJob) liveAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := liveAnswer{Job: j.name, Domain: j.domain, Tables: map[string]map[string][]json.RawMessage{}, Hidden: map[string]int{}, Files: map[string]json.RawMessage{}}
	for name, t := range j.tables {
		a.Tables[name] = t.rows()
		if n := len(t.hidden); n > 0 {
			a.Hidden[name] = n
		}
	}
	return a
}

func (t *liveTable) rows() map[string][]json.RawMessage {
	out := make(map[string][]json.RawMessage, len(t.keys))
	for key, at := range t.keys {
		out[key] = slices.Clone(at.Value.(*liveKey).rows)
	}
	return out
}

// maxDrawn bounds a file that is drawn.
const maxDrawn = 1 << 20

// drawnFile is a file of the domain that the page draws, as it was when it was read last.
type drawnFile struct {
	name, path string

	mu   sync.Mutex
	time time.Time
	size int64
	text json.RawMessage
}

// read returns what is in the file, nil if that cannot be drawn: the job itself says why. A file
// that is the same is not read again, and a pipe, whose writer may never come, not at all.
func (f *drawnFile) read() json.RawMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxDrawn {
		f.text, f.time = nil, time.Time{}
		return nil
	}
	if !info.ModTime().Equal(f.time) || info.Size() != f.size {
		f.text, f.time, f.size = nil, info.ModTime(), info.Size()
		if b, err := os.ReadFile(f.path); err != nil {
			f.time = time.Time{} // it may be readable next time
		} else if len(b) <= maxDrawn && json.Valid(b) {
			f.text = b
		}
	}
	return f.text
}

// serve adds the page to the routes.
func (l *liveView) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/live", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, l.answer()) })
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { writePage(w, livePage) })
}

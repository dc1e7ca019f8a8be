package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"

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
	order        []string // of tables
}

// liveTable has the last rows of every key.
type liveTable struct {
	by   []string
	keep int
	keys map[string][]json.RawMessage
	// order is that in which keys came; beyond maxLiveKeys there are no new ones.
	order []string
	// prepared are rows of an epoch that does not count yet.
	prepared []liveRow
}

// maxLiveKeys bounds how many keys of a table are shown.
const maxLiveKeys = 2000

// add makes the view of a job.
func (l *liveView) add(name, section string, dom *domain) *liveJob {
	j := &liveJob{name: name, domain: section, dom: dom, tables: map[string]*liveTable{}}
	for i, t := range dom.tables {
		if t.live > 0 {
			name := liveName(i, t)
			j.tables[name] = &liveTable{by: t.liveBy, keep: t.live, keys: map[string][]json.RawMessage{}}
			j.order = append(j.order, name)
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
}

type liveRow struct {
	key string
	row json.RawMessage
}

type liveStage struct {
	sink *liveSink
	rows []liveRow
}

// maxLiveRows bounds the rows of an epoch that are shown: the last of them.
const maxLiveRows = 5000

// Begin implements pipeline.Sink.
func (s *liveSink) Begin(ctx context.Context, _ pipeline.Epoch) (pipeline.Stage, error) {
	return &liveStage{sink: s}, ctx.Err()
}

// Write implements pipeline.Stage.
func (st *liveStage) Write(ctx context.Context, b pipeline.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := b.NumRows()
	for i := max(0, n-maxLiveRows); i < n; i++ {
		r := i
		if b.Rows != nil {
			r = int(b.Rows[i])
		}
		st.rows = append(st.rows, liveRow{st.sink.key(b.Rec, r), st.sink.row(b.Rec, r)})
	}
	if extra := len(st.rows) - maxLiveRows; extra > maxLiveRows {
		st.rows = append(st.rows[:0], st.rows[extra:]...)
	}
	return nil
}

func (s *liveSink) key(rec arrow.RecordBatch, r int) string {
	var parts []string
	for _, name := range s.table.by {
		if at := rec.Schema().FieldIndices(name); len(at) == 1 && rec.Column(at[0]).IsValid(r) {
			parts = append(parts, rec.Column(at[0]).ValueStr(r))
		}
	}
	return strings.Join(parts, " ")
}

func (s *liveSink) row(rec arrow.RecordBatch, r int) json.RawMessage {
	b := []byte{'{'}
	for i, f := range s.schema.Fields() {
		if !strings.HasPrefix(f.Name, "_tm_") {
			b = pipeline.AppendJSONMember(b, 1, f, rec.Column(i), r)
		}
	}
	return append(b, '}')
}

// Prepare implements pipeline.Stage. Its receipt is nil, always.
func (st *liveStage) Prepare(ctx context.Context, _ pipeline.Mark) (pipeline.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st.sink.live.mu.Lock()
	defer st.sink.live.mu.Unlock()
	st.sink.table.prepared = st.rows[max(0, len(st.rows)-maxLiveRows):]
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
		for _, row := range t.prepared {
			t.show(row)
		}
		t.prepared = nil
	}
}

func (t *liveTable) show(row liveRow) {
	list, there := t.keys[row.key]
	if !there {
		if len(t.order) == maxLiveKeys {
			return
		}
		t.order = append(t.order, row.key)
	}
	if list = append(list, row.row); len(list) > 2*t.keep {
		list = append(list[:0:0], list[len(list)-t.keep:]...)
	}
	t.keys[row.key] = list
}

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
	// Files are those of the domain that are JSON, for drawing: the fences.
	Files map[string]json.RawMessage `json:"files,omitempty"`
}

func (l *liveView) answer() []liveAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []liveAnswer{}
	for _, j := range l.jobs {
		a := liveAnswer{Job: j.name, Domain: j.domain, Tables: map[string]map[string][]json.RawMessage{}, Files: j.files()}
		for _, name := range j.order {
			t := j.tables[name]
			a.Tables[name] = map[string][]json.RawMessage{}
			for _, key := range t.order {
				list := t.keys[key]
				a.Tables[name][key] = list[max(0, len(list)-t.keep):]
			}
		}
		out = append(out, a)
	}
	return out
}

// maxDrawn bounds a file that is drawn.
const maxDrawn = 1 << 20

func (j *liveJob) files() map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, f := range j.dom.files {
		if !strings.HasSuffix(f.path, "json") {
			continue
		}
		// What cannot be read is not drawn; the job says so itself.
		if info, err := os.Stat(f.path); err == nil && info.Size() <= maxDrawn {
			if b, err := os.ReadFile(f.path); err == nil && json.Valid(b) {
				out[f.name] = b
			}
		}
	}
	return out
}

// serve adds the page to the routes.
func (l *liveView) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/live", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, l.answer()) })
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { writePage(w, livePage) })
}

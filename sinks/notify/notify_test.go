package notify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/emersion/go-smtp"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// now is the wall clock of the tests.
func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func findings() *arrow.Schema {
	text, i64 := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	resource := arrow.StructOf(arrow.Field{Name: "uid", Type: text}, arrow.Field{Name: "name", Type: text, Nullable: true}, arrow.Field{Name: "type", Type: text})
	return arrow.NewSchema([]arrow.Field{
		{Name: "class_uid", Type: i64}, {Name: "activity_id", Type: i64}, {Name: "time", Type: i64}, {Name: "start_time", Type: i64},
		{Name: "metadata", Type: arrow.StructOf(arrow.Field{Name: "sequence", Type: i64})},
		{Name: "finding_info", Type: arrow.StructOf(arrow.Field{Name: "uid", Type: text}, arrow.Field{Name: "title", Type: text},
			arrow.Field{Name: "analytic", Type: arrow.StructOf(arrow.Field{Name: "name", Type: text})})},
		{Name: "resources", Type: arrow.ListOf(resource)},
		{Name: "unmapped", Type: arrow.MapOf(text, text), Nullable: true},
		{Name: "_tm_revision", Type: arrow.PrimitiveTypes.Int32},
	}, nil)
}

// finding is a row of findings.
type finding struct {
	uid, entity, kind string
	activity          int64
	at                time.Time
	silenced          bool
	class, sequence   int64
}

func rowsOf(t testing.TB, mem memory.Allocator, list ...finding) arrow.RecordBatch {
	t.Helper()
	var b bytes.Buffer
	for _, f := range list {
		row := map[string]any{"class_uid": 2004, "activity_id": f.activity, "time": f.at.UnixMilli(), "start_time": f.at.Add(-time.Hour).UnixMilli(), "_tm_revision": 1, "metadata": map[string]any{"sequence": f.sequence},
			"finding_info": map[string]any{"uid": f.uid, "title": "Drop of <" + f.entity + ">\r\nBcc: x@example.net", "analytic": map[string]any{"name": "traffic_drop_forecast"}},
			"resources":    []any{map[string]any{"uid": f.entity, "name": "EXAMPLE", "type": f.kind}}}
		if f.class != 0 {
			row["class_uid"] = f.class
		}
		if f.silenced {
			row["unmapped"] = []any{map[string]any{"key": "silenced", "value": "true"}}
		}
		if err := json.NewEncoder(&b).Encode(row); err != nil {
			t.Fatal(err)
		}
	}
	rec, _, err := array.RecordFromJSON(mem, findings(), bytes.NewReader([]byte("["+strings.Join(strings.Split(strings.TrimSpace(b.String()), "\n"), ",")+"]")))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// outcomes counts what a sink says.
type outcomes struct {
	mu sync.Mutex
	n  map[Outcome]int
}

func (o *outcomes) observe(_ string, what Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == nil {
		o.n = map[Outcome]int{}
	}
	o.n[what]++
}

func (o *outcomes) of(what Outcome) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n[what]
}

// receiver is a program that takes webhooks, as answer says.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []message
	keys   []string
	tokens []string
	answer func(attempt int) int
	refuse string // a uid that it does not take for now
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{answer: func(int) int { return 204 }}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		var m message
		if err := json.NewDecoder(req.Body).Decode(&m); err != nil {
			t.Errorf("body: %v", err)
		}
		r.got, r.keys, r.tokens = append(r.got, m), append(r.keys, req.Header.Get("Idempotency-Key")), append(r.tokens, req.Header.Get("Authorization"))
		if r.refuse != "" && m.UUID == r.refuse {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if code := r.answer(len(r.got)); code == http.StatusFound {
			http.Redirect(w, req, "http://169.254.169.254/latest", http.StatusFound)
		} else {
			w.WriteHeader(code)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// loopback is where the tests' receivers are.
func loopback() []string { return []string{"127.0.0.0/8"} }

func configOf(p ...Policy) Config {
	cfg := DefaultConfig()
	cfg.Policies, cfg.AllowNetworks, cfg.Link = p, loopback(), "https://tidemark.example.net/f/{uid}"
	return cfg
}

func localStore(t testing.TB) pipeline.Store {
	t.Helper()
	s, err := pipeline.NewLocalStore(t.TempDir(), pipeline.DefaultFS())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, cfg Config, store pipeline.Store, o *outcomes) *Sink {
	t.Helper()
	s, err := New(cfg, store, findings(), slog.New(slog.DiscardHandler), o.observe)
	if err != nil {
		t.Fatal(err)
	}
	s.now = now
	return s
}

// tell takes findings through an epoch.
func tell(t *testing.T, s *Sink, n int64, list ...finding) pipeline.Receipt {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	st, err := s.Begin(t.Context(), pipeline.Epoch{Job: "j", N: n})
	if err != nil {
		t.Fatal(err)
	}
	rec := rowsOf(t, mem, list...)
	defer rec.Release()
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	r, err := st.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	if r != nil {
		if err := s.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func objects(t *testing.T, store pipeline.Store, prefix string) int {
	t.Helper()
	list, err := store.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestConformance: the outbox takes epochs as any sink does.
func TestConformance(t *testing.T) {
	hook := Policy{Name: "p", Webhooks: []Webhook{{URL: "http://127.0.0.1:1/", AllowHTTP: true}}} // nobody listens there
	uid := func(n int64, i int) string { return fmt.Sprintf("f-%d-%d", n, i) }
	pipelinetest.TestSink(t, pipelinetest.SinkTest{
		Place: func(t *testing.T) pipelinetest.SinkPlace {
			local, faults := localStore(t), &pipelinetest.Faults{}
			return pipelinetest.SinkPlace{
				Open: func() (pipeline.Sink, error) {
					return open(t, configOf(hook), pipelinetest.FaultStore{Store: local, Faults: faults}, &outcomes{}), nil
				},
				Read: func() ([]string, error) {
					list, err := local.List(context.WithoutCancel(t.Context()), outboxDir)
					var out []string
					for _, o := range list {
						body, rerr := local.GetRange(context.WithoutCancel(t.Context()), o.Name, 0, -1)
						var n notification
						err = errors.Join(err, rerr, json.Unmarshal(body, &n))
						out = append(out, n.UID)
					}
					return out, err
				},
				Leftovers: func() ([]string, error) { return nil, nil },
				Faults:    faults,
			}
		},
		Batch: func(n int64) arrow.RecordBatch {
			return rowsOf(t, memory.DefaultAllocator, finding{uid: uid(n, 0), entity: "AS1", kind: "autonomous_system", activity: 1, at: now()},
				finding{uid: uid(n, 1), entity: "AS2", kind: "autonomous_system", activity: 1, at: now()})
		},
		Want: func(n int64) []string { return []string{uid(n, 0), uid(n, 1)} },
	})
}

// TestOncePerTransition: a finding is told once per transition that is asked for, however
// often its rows come, also by another process and in another lineage.
func TestOncePerTransition(t *testing.T) {
	r, store := newReceiver(t), localStore(t)
	cfg := configOf(Policy{Name: "ops", Transitions: []Transition{Create, Close}, Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true, Token: "secret-of-the-hook"}}})
	var o outcomes
	s := open(t, cfg, store, &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := finding{uid: "u-1", entity: "AS64500", kind: "autonomous_system", activity: 1, at: now()}
	updated, closed := f, f
	updated.activity, closed.activity = 2, 3
	other := f
	other.class = 4001
	receipt := tell(t, s, 1, f, updated, other)
	tell(t, s, 2, f, closed)
	eventually(t, "two messages", func() bool { return o.of(Sent) == 2 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg, store, &o)
	if err := again.Publish(t.Context(), receipt); err != nil {
		t.Fatal(err)
	}
	if err := again.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	tell(t, again, 3, f, closed)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"u-1:create", "u-1:close"}; !slices.Equal(r.keys, want) {
		t.Errorf("told %v, want %v", r.keys, want)
	}
	m := r.got[0]
	if m.UUID != "u-1" || m.Type != TypeAS || m.Entity != "AS64500" || m.Start != "2026-03-01T11:00:00Z" || m.Link != "https://tidemark.example.net/f/u-1" || m.Policy != "ops" || r.tokens[0] != "Bearer secret-of-the-hook" {
		t.Errorf("message %+v with token %q", m, r.tokens[0])
	}
	if !bytes.Contains(m.Event, []byte(`"finding_info":{"uid":"u-1"`)) || bytes.Contains(m.Event, []byte("_tm_")) {
		t.Errorf("event %s", m.Event)
	}
	if n := o.of(Repeated); n < 3 {
		t.Errorf("%d repetitions counted, want 3 at least", n)
	}
}

// TestUpdates: an update is told as often as the finding gets worse.
func TestUpdates(t *testing.T) {
	r := newReceiver(t)
	var o outcomes
	s := open(t, configOf(Policy{Name: "ops", Transitions: []Transition{Update}, Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true}}}), localStore(t), &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range int64(3) {
		tell(t, s, n+1, finding{uid: "u", entity: "NL", kind: "location", activity: 2, at: now(), sequence: n + 1}, finding{uid: "u", entity: "NL", kind: "location", activity: 2, at: now(), sequence: n + 1})
	}
	eventually(t, "three messages", func() bool { return o.of(Sent) == 3 })
	if want := []string{"u:update:1", "u:update:2", "u:update:3"}; !slices.Equal(r.keys, want) {
		t.Errorf("told %v, want %v", r.keys, want)
	}
}

// TestPassing: a notification that its receiver refuses for now does not hold up the others.
func TestPassing(t *testing.T) {
	r := newReceiver(t)
	r.refuse = "bad"
	var o outcomes
	s := open(t, configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true}}}), localStore(t), &o)
	list := []finding{{uid: "bad", entity: "NL", kind: "location", activity: 1, at: now()}}
	for i := range 20 {
		list = append(list, finding{uid: fmt.Sprint("good", i), entity: "NL", kind: "location", activity: 1, at: now()})
	}
	tell(t, s, 1, list...)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "the good ones", func() bool { return o.of(Sent) == 20 })
	if o.of(Retried) == 0 {
		t.Error("the bad one was not tried")
	}
}

// TestExcess: of one epoch a policy tells so much and no more, and counts the rest.
func TestExcess(t *testing.T) {
	var o outcomes
	s := open(t, configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: "https://hooks.example.net"}}}), localStore(t), &o)
	var list []finding
	for i := range maxOfEpoch + 5 {
		list = append(list, finding{uid: fmt.Sprint(i), entity: "NL", kind: "location", activity: 1, at: now()})
	}
	tell(t, s, 1, list...)
	if o.of(Excess) != 5 {
		t.Errorf("outcomes %v, want 5 in excess", o.n)
	}
}

// TestMuted: a job that reads the past tells nobody, and leaves what waits to the one that does.
func TestMuted(t *testing.T) {
	r, store := newReceiver(t), localStore(t)
	cfg := configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true}}})
	var o outcomes
	first := open(t, cfg, store, &o)
	f := finding{uid: "a", entity: "NL", kind: "location", activity: 1, at: now()}
	st, err := first.Begin(t.Context(), pipeline.Epoch{Job: "j", N: 1})
	if err != nil {
		t.Fatal(err)
	}
	rec := rowsOf(t, memory.DefaultAllocator, f)
	defer rec.Release()
	if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
		t.Fatal(err)
	}
	receipt, err := st.Prepare(t.Context(), pipeline.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	muted := open(t, cfg, store, &o)
	muted.Mute()
	if err := muted.Publish(t.Context(), receipt); err != nil { // it is in the checkpoint
		t.Fatal(err)
	}
	if err := muted.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := f
	other.uid = "b"
	if r := tell(t, muted, 2, other); r != nil {
		t.Errorf("a muted sink has a receipt: %s", r)
	}
	if err := muted.Close(); err != nil {
		t.Fatal(err)
	}
	last := open(t, cfg, store, &o)
	if err := last.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	eventually(t, "the message", func() bool { return o.of(Sent) == 1 })
	if want := []string{"a:create"}; !slices.Equal(r.keys, want) {
		t.Errorf("told %v, want %v", r.keys, want)
	}
}

// TestSecrets: the URL of a webhook is in no object of the store and in no line of the log.
func TestSecrets(t *testing.T) {
	store := localStore(t)
	var log bytes.Buffer
	s, err := New(configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: "http://127.0.0.1:1/secret-path", AllowHTTP: true}}}), store, findings(), slog.New(slog.NewTextHandler(&log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.now = now
	tell(t, s, 1, finding{uid: "u", entity: "NL", kind: "location", activity: 1, at: now()})
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := store.List(t.Context(), "notify/")
	if err != nil || len(list) != 1 {
		t.Fatalf("%d objects, %v", len(list), err)
	}
	body, err := store.GetRange(t.Context(), list[0].Name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "not delivered") || strings.Contains(log.String()+string(body), "secret-path") {
		t.Errorf("log %s\nobject %s", log.String(), body)
	}
}

// TestPast: nobody is told of what is old, as in a replay, or silenced.
func TestPast(t *testing.T) {
	r := newReceiver(t)
	var o outcomes
	s := open(t, configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true}}}), localStore(t), &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	old := finding{uid: "old", entity: "NL", kind: "location", activity: 1, at: now().Add(-24*time.Hour - time.Millisecond)}
	quiet := finding{uid: "quiet", entity: "NL", kind: "location", activity: 1, at: now(), silenced: true}
	young := finding{uid: "young", entity: "NL", kind: "location", activity: 1, at: now().Add(-24 * time.Hour)}
	tell(t, s, 1, old, quiet, young)
	eventually(t, "one message", func() bool { return o.of(Sent) == 1 })
	if o.of(Stale) != 1 || o.of(Silenced) != 1 || r.calls() != 1 || r.keys[0] != "young:create" {
		t.Errorf("outcomes %v, told %v", o.n, r.keys)
	}
}

// TestPolicies: each list of a policy decides.
func TestPolicies(t *testing.T) {
	event := func(uid, kind, country, rule string) event {
		var e event
		e.ActivityID = 1
		e.Info.Analytic.Name = rule
		text := fmt.Sprintf(`{"activity_id": 1, "finding_info": {"analytic": {"name": %q}}, "resources": [{"uid": %q, "type": %q}], "evidences": [{"dst_endpoint": {"location": {"country": %q}}}]}`, rule, uid, kind, country)
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	as, nl, pdu := event("AS1136", "autonomous_system", "NL", "traffic_drop_forecast"), event("NL", "location", "", "traffic_drop_forecast"), event("PDU-1/L2", "pdu_branch", "", "pdu_branch_overload")
	for _, c := range []struct {
		name string
		p    Policy
		want [3]bool // as, nl, pdu
	}{
		{"all", Policy{}, [3]bool{true, true, true}},
		{"as", Policy{Types: []string{TypeAS}}, [3]bool{true, false, false}},
		{"location", Policy{Types: []string{TypeLocation, TypeDevice}}, [3]bool{false, true, true}},
		{"nl", Policy{Locations: []string{"NL"}}, [3]bool{true, true, false}},
		{"de", Policy{Locations: []string{"DE"}}, [3]bool{}},
		{"asn", Policy{ASNs: []uint32{1136}}, [3]bool{true, false, false}},
		{"asns", Policy{ASNs: []uint32{1}}, [3]bool{}},
		{"rule", Policy{Rules: []string{"pdu_branch_overload"}}, [3]bool{false, false, true}},
		{"close", Policy{Transitions: []Transition{Close}}, [3]bool{}},
	} {
		if got := [3]bool{c.p.takes(as), c.p.takes(nl), c.p.takes(pdu)}; got != c.want {
			t.Errorf("%s: takes %v, want %v", c.name, got, c.want)
		}
	}
}

// TestRetries: what is refused for now is tried again, what is refused for good is a dead
// letter, and one receiver does not hold up another.
func TestRetries(t *testing.T) {
	busy, never, redirect, fine, store := newReceiver(t), newReceiver(t), newReceiver(t), newReceiver(t), localStore(t)
	busy.answer = func(attempt int) int {
		if attempt < 2 {
			return 503
		}
		return 200
	}
	never.answer = func(int) int { return 410 }
	redirect.answer = func(int) int { return http.StatusFound }
	hook := func(r *receiver) Webhook { return Webhook{URL: r.URL, AllowHTTP: true} }
	var o outcomes
	s := open(t, configOf(Policy{Name: "ops", Webhooks: []Webhook{hook(busy), hook(never), hook(redirect), hook(fine)}}), store, &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tell(t, s, 1, finding{uid: "u", entity: "NL", kind: "location", activity: 1, at: now()})
	eventually(t, "the answer of the busy one", func() bool { return o.of(Sent) == 2 && o.of(Dead) == 2 })
	if o.of(Retried) != 1 || never.calls() != 1 || redirect.calls() != 1 || busy.calls() != 2 || fine.calls() != 1 {
		t.Errorf("outcomes %v", o.n)
	}
	if busy.keys[0] != busy.keys[1] {
		t.Errorf("two attempts have the keys %v", busy.keys)
	}
	if dead, left := objects(t, store, deadDir), objects(t, store, outboxDir); dead != 2 || left != 0 {
		t.Errorf("%d dead letters and %d in the outbox, want 2 and 0", dead, left)
	}
}

// TestGivenUp: after a day a notification is a dead letter.
func TestGivenUp(t *testing.T) {
	r, store := newReceiver(t), localStore(t)
	r.answer = func(int) int { return 500 }
	var o outcomes
	s := open(t, configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true}}}), store, &o)
	tell(t, s, 1, finding{uid: "u", entity: "NL", kind: "location", activity: 1, at: now()})
	s.now = func() time.Time { return now().Add(24*time.Hour + time.Second) }
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "the dead letter", func() bool { return o.of(Dead) == 1 })
	if r.calls() != 1 {
		t.Errorf("%d attempts, want one", r.calls())
	}
}

// TestDeath: what a process left in the outbox the next one sends, and not what it sent and had
// no time to take out.
func TestDeath(t *testing.T) {
	r, store := newReceiver(t), localStore(t)
	cfg := configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: r.URL, AllowHTTP: true}}})
	var o outcomes
	first := open(t, cfg, store, &o) // it never sends
	tell(t, first, 1, finding{uid: "a", entity: "NL", kind: "location", activity: 1, at: now()}, finding{uid: "b", entity: "NL", kind: "location", activity: 1, at: now()})
	b := notification{Policy: "ops", Receiver: Webhook{URL: r.URL}.receiver(), UID: "b", Transition: Create}.named()
	if err := store.Put(t.Context(), sentDir+b.ID, nil); err != nil {
		t.Fatal(err)
	}
	second := open(t, cfg, store, &o)
	if err := second.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	eventually(t, "the message", func() bool { return o.of(Sent) == 1 })
	if r.calls() != 1 || r.keys[0] != "a:create" || objects(t, store, outboxDir) != 0 {
		t.Errorf("told %v, %d left", r.keys, objects(t, store, outboxDir))
	}
}

// TestGuard: connections leave for public and allowed addresses only.
func TestGuard(t *testing.T) {
	allowed := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for address, want := range map[string]bool{
		"93.184.216.34:443": true, "[2606:2800:220:1::1]:443": true, "10.1.2.3:443": true, "[::ffff:10.1.2.3]:443": true,
		"10.2.0.1:443": false, "127.0.0.1:80": false, "[::1]:80": false, "169.254.169.254:80": false, "[::ffff:169.254.169.254]:80": false,
		"[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": false, "[::]:80": false, "192.168.1.1:443": false, "172.16.0.1:443": false, "100.64.0.1:443": false,
		"[fe80::1%eth0]:443": false, "[fc00::1]:443": false, "[64:ff9b::a9fe:a9fe]:80": false, "[2002:7f00:1::]:80": false, "224.0.0.1:80": false, "255.255.255.255:80": false,
		"[::127.0.0.1]:80": false, "[::a00:1]:80": false, "[::ffff:0:7f00:1]:80": false, "[4000::1]:80": false, "198.18.0.1:80": false, "[fec0::1]:80": false, "nonsense": false,
	} {
		if err := guard(address, allowed); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", address, err, want)
		}
	}
}

// TestRebinding: a name is judged by what it resolves to when the connection is made. Without
// the network in the list the receiver of the other tests is not reached.
func TestRebinding(t *testing.T) {
	r := newReceiver(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := configOf(Policy{Name: "ops", Webhooks: []Webhook{{URL: "http://localhost:" + port, AllowHTTP: true}}})
	cfg.AllowNetworks = nil
	var o outcomes
	s := open(t, cfg, localStore(t), &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tell(t, s, 1, finding{uid: "u", entity: "NL", kind: "location", activity: 1, at: now()})
	eventually(t, "the dead letter", func() bool { return o.of(Dead) == 1 })
	if r.calls() != 0 {
		t.Error("the receiver on a private address was reached")
	}
}

// mailbox is a real SMTP server's memory.
type mailbox struct {
	mu    sync.Mutex
	to    []string
	mails []string
	fail  int // of the first mails, for now
}

// NewSession implements smtp.Backend.
func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{m, ""}, nil }

type mailSession struct {
	box *mailbox
	to  string
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to == "nobody@example.net" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	s.to = to
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if s.box.fail > 0 {
		s.box.fail--
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"}
	}
	s.box.to, s.box.mails = append(s.box.to, s.to), append(s.box.mails, string(b))
	return err
}

func (s *mailSession) Reset()        {}
func (s *mailSession) Logout() error { return nil }

// TestMail: letters reach a real SMTP server, in text and HTML, and nothing of a finding gets
// into their header.
func TestMail(t *testing.T) {
	box := &mailbox{fail: 1}
	srv := smtp.NewServer(box)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }() // ends with Close
	defer srv.Close()
	cfg := configOf(Policy{Name: "noc", Emails: []string{"noc@example.net", "nobody@example.net"}})
	mail := DefaultSMTP()
	mail.Host, mail.Port, mail.TLS, mail.From = "127.0.0.1", l.Addr().(*net.TCPAddr).Port, NoTLS, "Tidemark <tidemark@example.net>"
	cfg.SMTP = &mail
	var o outcomes
	s := open(t, cfg, localStore(t), &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tell(t, s, 1, finding{uid: "u-1", entity: "AS64500", kind: "autonomous_system", activity: 1, at: now()})
	eventually(t, "the letter", func() bool { return o.of(Sent) == 1 && o.of(Dead) == 1 })
	box.mu.Lock()
	defer box.mu.Unlock()
	if len(box.mails) != 1 || box.to[0] != "noc@example.net" {
		t.Fatalf("%d letters to %v", len(box.mails), box.to)
	}
	head, body, _ := strings.Cut(box.mails[0], "\r\n\r\n")
	for _, want := range []string{"From: \"Tidemark\" <tidemark@example.net>", "To: <noc@example.net>", "Subject: [create] Drop of <AS64500> Bcc: x@example.net", "Idempotency-Key: u-1:create", "multipart/alternative"} {
		if !strings.Contains(head, want) {
			t.Errorf("header without %q:\n%s", want, head)
		}
	}
	if strings.Contains(head, "\nBcc:") {
		t.Errorf("a finding wrote into the header:\n%s", head)
	}
	for _, want := range []string{"text/plain", "text/html", "AS AS64500 EXAMPLE", "Start:    2026-03-01T11:00:00Z", "https://tidemark.example.net/f/u-1", "&lt;AS64500&gt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("body without %q:\n%s", want, body)
		}
	}
	if o.of(Retried) != 1 {
		t.Errorf("outcomes %v, want one attempt that failed for now", o.n)
	}
}

// rude takes letters as an SMTP server does, and hangs up when it has said so.
func rude(l net.Listener, taken func()) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
		say("220 rude")
		data := false
		for lines := bufio.NewScanner(c); lines.Scan(); {
			switch text := lines.Text(); {
			case data && text == ".":
				taken()
				say("250 taken")
				_ = c.Close()
			case data:
			case text == "DATA":
				data = true
				say("354 go on")
			default:
				say("250 fine")
			}
		}
	}
}

// TestRudeServer: a letter that the server has taken is sent, however it ends the connection.
func TestRudeServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var letters atomic.Int32
	go rude(l, func() { letters.Add(1) }) // ends with the listener
	cfg := configOf(Policy{Name: "noc", Emails: []string{"noc@example.net"}})
	mail := DefaultSMTP()
	mail.Host, mail.Port, mail.TLS, mail.From = "127.0.0.1", l.Addr().(*net.TCPAddr).Port, NoTLS, "tidemark@example.net"
	cfg.SMTP = &mail
	var o outcomes
	s := open(t, cfg, localStore(t), &o)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 3 {
		tell(t, s, int64(i), finding{uid: fmt.Sprint(i), entity: "NL", kind: "location", activity: 1, at: now()})
	}
	eventually(t, "three letters", func() bool { return o.of(Sent) == 3 })
	if letters.Load() != 3 || o.of(Retried) != 0 {
		t.Errorf("%d letters, outcomes %v", letters.Load(), o.n)
	}
}

// TestValidate: every problem is told.
func TestValidate(t *testing.T) {
	bad := Config{Policies: []Policy{
		{Name: "", Types: []string{"as"}, Locations: []string{"nl"}, Transitions: []Transition{"open"}, Emails: []string{"no address"}},
		{Name: "p", Webhooks: []Webhook{{URL: "ftp://x"}, {URL: "http://x.example.net"}, {URL: "https://u:p@x.example.net"}}},
		{Name: "p"},
	}, SMTP: &SMTP{TLS: "ssl"}, Link: "x", AllowNetworks: []string{"10.0.0.1"}}
	err := bad.Validate()
	for _, want := range []string{"give the policy a name", `types: "as"`, `locations: "nl"`, `transitions: "open"`, `emails: "no address"`, "ftp://x", "without TLS anybody", "has a password in it",
		"is that of another policy", "nobody would be told", "smtp: host", "smtp: port 0", `tls "ssl"`, "from", "max_age", "retry_for", "attempt_timeout", `link "x"`, `allow_networks: "10.0.0.1"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no problem says %q:\n%v", want, err)
		}
	}
	if err := configOf(Policy{Name: "p", Webhooks: []Webhook{{URL: "https://hooks.example.net/1"}}}).Validate(); err != nil {
		t.Error(err)
	}
	if text := fmt.Sprintf("%+v", Webhook{Token: "secret-of-the-hook"}); strings.Contains(text, "secret-of") {
		t.Error("a token is printed")
	}
}

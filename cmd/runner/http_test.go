package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
)

// lockedBuffer is a stream of a program that goes on.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits until ok, at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func get(t *testing.T, url string) (code int, body string, header http.Header) {
	t.Helper()
	return call(t, http.MethodGet, url, "")
}

func call(t *testing.T, method, url, token string) (code int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

// TestServer runs a job and looks at it over HTTP: metrics, status, health, the page.
func TestServer(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	addr := broker.ListenAddrs()[0]
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	event := func(after time.Duration) rawRecord {
		return rawRecord{time: at.Add(after), value: fmt.Appendf(nil, `{"asset_id":"RC-1","ts_event":%d}`, at.Add(after).UnixMilli())}
	}
	behind := event(10 * time.Second)
	behind.time = at.Add(2 * time.Minute)
	for part, recs := range [][]rawRecord{
		{event(0), event(2 * time.Minute), behind, {time: at, value: []byte("{")}, {time: at}},
		{event(time.Minute)},
	} {
		if err := appendBatch(addr, "t", int32(part), recs); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "job.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, `job: j
feed: ble
source: {kafka: {brokers: [%q], topic: t}}
window: {tumbling: 10s}
sinks: [{parquet: {dir: %q}}]
checkpoint: {dir: %q, interval: 20ms}
http: {listen: "127.0.0.1:0"}
`, addr, filepath.Join(dir, "out"), filepath.Join(dir, "state")), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stdout, stderr lockedBuffer
	code := make(chan int, 1)
	go func() { code <- Main(ctx, []string{"run", "-f", file}, streams{&stdout, &stderr}) }()
	var url string
	eventually(t, "status page", func() bool {
		m := regexp.MustCompile(`url=(http://[\d.:]+)`).FindStringSubmatch(stderr.String())
		if m != nil {
			url = m[1]
		}
		return url != ""
	})

	var jobs []jobStatus
	eventually(t, "all rows in a checkpoint", func() bool {
		_, body, _ := get(t, url+"/api/v1/status")
		jobs = nil
		if err := json.Unmarshal([]byte(body), &jobs); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return len(jobs) == 1 && jobs[0].Rows["read"] == 6
	})
	j := jobs[0]
	if j.Job != "j" || j.Epoch < 1 || len(j.Splits) != 2 || j.Interval != 20*time.Millisecond {
		t.Errorf("status: %+v", j)
	}
	for fate, n := range map[string]int64{"read": 6, "aggregated": 3, "late": 1, "dead": 2, "filtered": 0, "duplicate": 0} {
		if j.Rows[fate] != n {
			t.Errorf("status: %d rows %s, want %d", j.Rows[fate], fate, n)
		}
	}
	// Split 1 is at 12:01:00 and holds the mark at max_disorder before that.
	if j.Holder != "t/1" || j.Mark == nil || !j.Mark.Equal(at.Add(30*time.Second-time.Microsecond)) {
		t.Errorf("status: mark %v held by %q", j.Mark, j.Holder)
	}

	_, text, _ := get(t, url+"/metrics")
	for _, want := range []string{
		`tidemark_rows_total{fate="read",job="j",split="t/0"} 5`,
		`tidemark_rows_total{fate="aggregated",job="j",split="t/0"} 2`,
		`tidemark_rows_total{fate="late",job="j",split="t/0"} 1`,
		`tidemark_rows_total{fate="dead",job="j",split="t/0"} 2`,
		`tidemark_rows_total{fate="read",job="j",split="t/1"} 1`,
		`tidemark_rows_total{fate="filtered",job="j",split="t/1"} 0`,
		`tidemark_source_offset{job="j",split="0",topic="t"} 5`,
		`tidemark_source_offset{job="j",split="1",topic="t"} 1`,
		`tidemark_watermark_timestamp_seconds{job="j"} 1.772366429999999e+09`,
		`tidemark_split_quiet{job="j",split="0",topic="t"} 0`,
		`tidemark_checkpoint_failures_total{job="j"} 0`,
		`tidemark_build_info{version="` + version + `"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, name := range []string{"tidemark_checkpoint_duration_seconds_count", "tidemark_checkpoint_bytes", "tidemark_checkpoint_last_success_timestamp_seconds",
		"tidemark_sink_rows_total", "tidemark_sink_commit_duration_seconds_bucket", "tidemark_watermark_delay_seconds"} {
		if !strings.Contains(text, "\n"+name+"{") {
			t.Errorf("metrics lack %s", name)
		}
	}
	if t.Failed() {
		t.Log(text)
	}

	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body, _ := get(t, url+path); code != http.StatusOK || !strings.Contains(body, `"ok":true`) {
			t.Errorf("GET %s: %d %s", path, code, body)
		}
	}
	code1, page, h := get(t, url+"/")
	if code1 != http.StatusOK || !strings.Contains(page, "<title>Tidemark</title>") || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") ||
		h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("GET /: %d, %v", code1, h)
	}
	if code, _, _ := get(t, url+"/nothing"); code != http.StatusNotFound {
		t.Errorf("GET /nothing: %d", code)
	}
	for _, path := range []string{"/", "/api/v1/status", "/metrics"} {
		if code, body, _ := call(t, http.MethodPost, url+path, ""); code != http.StatusUnauthorized || !strings.Contains(body, "http.token_file") {
			t.Errorf("POST %s without a token: %d %s", path, code, body)
		}
	}

	stop()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d: %s", c, stderr.String())
	}
	if got := stdout.String(); !strings.HasPrefix(got, "rows in 6 = aggregated 3 + late 1 + dead 2 + filtered 0 + duplicate 0 ") {
		t.Errorf("printed %q", got)
	}
	if _, err := http.Get(url + "/healthz"); err == nil { //nolint:bodyclose // there is none
		t.Error("the server goes on after its job")
	}
}

// TestStuck: without checkpoints for long a job is first not ready, then not alive, and
// both say why.
func TestStuck(t *testing.T) {
	st := newStatus()
	h := routes(st, newRegistry())
	check := func(path string, want int, reason string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		var body struct {
			OK      bool
			Reasons []string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
		if w.Code != want || body.OK != (want == http.StatusOK) || body.Reasons == nil || !strings.Contains(strings.Join(body.Reasons, ";"), reason) {
			t.Errorf("%s: %d %+v, want %d and %q", path, w.Code, body, want, reason)
		}
	}
	check("/readyz", http.StatusOK, "")
	fresh := &jobStatus{Job: "fresh", Interval: time.Second, At: time.Now()}
	slow := &jobStatus{Job: "slow", Interval: time.Second, At: time.Now().Add(-7 * time.Second)}
	st.jobs = []*jobStatus{fresh, slow}
	check("/readyz", http.StatusOK, "")
	slow.At = time.Now().Add(-9 * time.Second)
	check("/readyz", http.StatusServiceUnavailable, "job slow: no checkpoint for 9s (interval 1s)")
	check("/healthz", http.StatusOK, "")
	slow.At = time.Now().Add(-26 * time.Second)
	check("/healthz", http.StatusServiceUnavailable, "job slow: no checkpoint for 26s (interval 1s)")
	slow.take(pipeline.Published{Epoch: 1})
	check("/healthz", http.StatusOK, "")
	check("/readyz", http.StatusOK, "")
}

// TestStatusIsAList: also before the first job is there.
func TestStatusIsAList(t *testing.T) {
	w := httptest.NewRecorder()
	routes(newStatus(), newRegistry()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/status", nil))
	if w.Body.String() != "[]\n" {
		t.Errorf("%q", w.Body)
	}
}

// TestToken: an address that others can reach wants the token for everything, one of this
// machine only for what is not a GET.
func TestToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(cfg HTTPConfig) string {
		t.Helper()
		srv, err := listenHTTP(cfg, newStatus(), newRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- srv.serve(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		_, port, _ := strings.Cut(srv.addr[strings.LastIndex(srv.addr, ":"):], ":")
		return "http://127.0.0.1:" + port
	}
	open := serve(HTTPConfig{Listen: "0.0.0.0:0", TokenFile: token})
	local := serve(HTTPConfig{Listen: "127.0.0.1:0", TokenFile: token})
	none := serve(HTTPConfig{Listen: "127.0.0.1:0"})
	const right = "Bearer s3cret"
	for _, c := range []struct {
		method, url, token string
		want               int
	}{
		{"GET", open + "/api/v1/status", "", 401},
		{"GET", open + "/metrics", "Bearer wrong", 401},
		{"GET", open + "/metrics", "s3cret", 401},
		{"GET", open + "/metrics", "Bearer ", 401},
		{"GET", open + "/healthz", right, 200},
		{"POST", open + "/metrics", right, 405},
		{"GET", local + "/metrics", "", 200},
		{"HEAD", local + "/metrics", "", 200},
		{"POST", local + "/metrics", "", 401},
		{"DELETE", local + "/metrics", "Bearer wrong", 401},
		{"POST", local + "/metrics", right, 405},
		{"GET", none + "/metrics", "", 200},
		{"POST", none + "/metrics", "Bearer ", 401},
		{"POST", none + "/metrics", right, 401},
	} {
		code, _, h := call(t, c.method, c.url, c.token)
		if code != c.want {
			t.Errorf("%s %s with %q: %d, want %d", c.method, c.url, c.token, code, c.want)
		}
		if code == 401 && h.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %s: a 401 without WWW-Authenticate", c.method, c.url)
		}
	}
}

// TestListenProblems: what is wrong is said before the job begins.
func TestListenProblems(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := listenHTTP(HTTPConfig{Listen: "127.0.0.1:0"}, newStatus(), newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.ln.Close()
	for _, c := range []struct {
		cfg  HTTPConfig
		want string
	}{
		{HTTPConfig{Listen: "127.0.0.1:0", TokenFile: filepath.Join(dir, "none")}, "http.token_file: open "},
		{HTTPConfig{Listen: "127.0.0.1:0", TokenFile: empty}, "empty: is empty"},
		{HTTPConfig{Listen: taken.addr}, "address already in use; choose another address"},
	} {
		if _, err := listenHTTP(c.cfg, newStatus(), newRegistry()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
	for listen, want := range map[string]string{":9464": "http.token_file", "0.0.0.0:9464": "http.token_file", "[::]:9464": "http.token_file", "nine": "host:port"} {
		_, err := parseConfig("job.yaml", []byte(validJob+"http: {listen: \""+listen+"\"}\n"))
		if err == nil || !strings.Contains(err.Error(), "job.yaml:6:16: http.listen") || !strings.Contains(err.Error(), want) {
			t.Errorf("listen %s: %v, want %q", listen, err, want)
		}
	}
}

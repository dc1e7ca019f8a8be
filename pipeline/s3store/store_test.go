package s3store

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pipeline"
)

// The contract of the store is tested against a real service in integration/. Here a script
// stands in for one: what a service answers when it is in trouble, or keeps no word.

// answer is what the scripted service says to one request.
type answer struct {
	request string // METHOD and the beginning of the path
	status  int
	code    string
	write   string // metadata: mine is that of the first put, another is somebody's
	body    string
	length  int // Content-Length, when it is not the body's
}

// scripted returns a store whose service gives these answers, in order.
func scripted(t *testing.T, script ...answer) *Store {
	t.Helper()
	mine := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else a long one breaks the connection
		got := r.Method + " " + r.URL.Path
		if len(script) == 0 || !strings.HasPrefix(got, script[0].request) {
			t.Errorf("request %s, want %v", got, script)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		a := script[0]
		script = script[1:]
		if mine == "" {
			mine = r.Header.Get("X-Amz-Meta-" + writeKey)
		}
		switch a.write {
		case "mine":
			w.Header().Set("X-Amz-Meta-"+writeKey, mine)
		case "another":
			w.Header().Set("X-Amz-Meta-"+writeKey, "another")
		}
		if a.length > 0 {
			w.Header().Set("Content-Length", fmt.Sprint(a.length))
		}
		w.WriteHeader(a.status)
		if a.code != "" && r.Method != http.MethodHead {
			_ = xml.NewEncoder(w).Encode(struct {
				XMLName       xml.Name `xml:"Error"`
				Code, Message string
			}{Code: a.code, Message: "as scripted"})
		}
		fmt.Fprint(w, a.body)
	}))
	t.Cleanup(func() {
		srv.Close()
		if len(script) > 0 {
			t.Errorf("never asked for: %v", script)
		}
	})
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.PathStyle, cfg.MaxAttempts = srv.URL, true, 2
	s, err := New(t.Context(), cfg, "bucket", "pre/fix")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOutcomes: a conditional write whose answer was lost is looked up; what another made is
// never taken for one's own.
func TestOutcomes(t *testing.T) {
	const put, head = "PUT /bucket/pre/fix/name", "HEAD /bucket/pre/fix/name"
	for _, c := range []struct {
		name   string
		script []answer
		want   error // errAny: some error that is not ErrExists
	}{
		{"made", []answer{{request: put, status: 200}}, nil},
		{"exists", []answer{{request: put, status: 412, code: codeExists}, {request: head, status: 200, write: "another"}}, pipeline.ErrExists},
		{"exists, made by other tools", []answer{{request: put, status: 412, code: codeExists}, {request: head, status: 200}}, pipeline.ErrExists},
		{"made, answer lost", []answer{{request: put, status: 500}, {request: put, status: 412, code: codeExists}, {request: head, status: 200, write: "mine"}}, nil},
		{"made, all answers lost", []answer{{request: put, status: 500}, {request: put, status: 503}, {request: head, status: 200, write: "mine"}}, nil},
		{"not made", []answer{{request: put, status: 500}, {request: put, status: 500}, {request: head, status: 404}}, errAny},
		{"unknown, and another made it", []answer{{request: put, status: 500}, {request: put, status: 500}, {request: head, status: 200, write: "another"}}, errAny},
		{"conflict, then made", []answer{{request: put, status: 409, code: codeConflict}, {request: put, status: 200}}, nil},
		{"forbidden", []answer{{request: put, status: 403, code: "AccessDenied"}}, errAny},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := scripted(t, c.script...).PutIfAbsent(t.Context(), "name", []byte("x"))
			switch {
			case c.want == errAny && (err == nil || errors.Is(err, pipeline.ErrExists)),
				c.want != errAny && !errors.Is(err, c.want), c.want == nil && err != nil:
				t.Errorf("PutIfAbsent = %v, want %v", err, c.want)
			}
		})
	}
}

var errAny = errors.New("any error")

// TestHints: an error names bucket, object, cause and next step, and no secret.
func TestHints(t *testing.T) {
	for _, c := range []struct {
		status     int
		code, want string
	}{
		{404, "NoSuchBucket", "make bucket bucket"},
		{403, "AccessDenied", "s3:GetObject"},
		{403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", "does not know these credentials"},
		{400, "ExpiredToken", "get new ones"},
		{400, "AuthorizationHeaderMalformed", "another region"},
		{501, "NotImplemented", "conditional writes"},
		{418, "SomethingElse", "SomethingElse"},
	} {
		err := scripted(t, answer{request: "PUT", status: c.status, code: c.code}).PutIfAbsent(t.Context(), "name", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "s3://bucket/pre/fix/name") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", c.code, err)
		}
		if errors.Is(err, pipeline.ErrNotExist) {
			t.Errorf("%s is taken for a missing object: %v", c.code, err)
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	scripted(t) // for its environment
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.PathStyle, cfg.MaxAttempts = "http://127.0.0.1:1", true, 1
	none, err := New(t.Context(), cfg, "bucket", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Put(t.Context(), "name", nil); err == nil || !strings.Contains(err.Error(), "no credentials were found") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	s, err := New(t.Context(), cfg, "bucket", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "name", nil); err == nil || !strings.Contains(err.Error(), "look at endpoint") {
		t.Errorf("without a service: %v", err)
	}
}

// TestReady: a service that ignores conditions is refused at the start.
func TestReady(t *testing.T) {
	const object = "/bucket/pre/fix/" + probeName
	upload := answer{request: "POST " + object, status: 200, body: "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"}
	done := answer{request: "POST " + object, status: 200, body: "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"}
	for _, c := range []struct {
		name   string
		script []answer
		want   string
	}{
		{"ignores it on puts", []answer{{request: "PUT " + object, status: 200}, {request: "PUT " + object, status: 200}}, "ignores If-None-Match on the put"},
		{"ignores it on uploads", []answer{{request: "PUT " + object, status: 200}, {request: "PUT " + object, status: 412, code: codeExists},
			upload, {request: "PUT " + object, status: 200}, done, {request: "DELETE " + object, status: 404, code: "NoSuchUpload"}}, "ignores If-None-Match on the completion"},
		{"keeps its word", []answer{{request: "PUT " + object, status: 200}, {request: "PUT " + object, status: 412, code: codeExists},
			upload, {request: "PUT " + object, status: 200}, {request: "POST " + object, status: 412, code: codeExists}, {request: "DELETE " + object, status: 204}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := scripted(t, c.script...).Ready(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Ready = %v, want %q", err, c.want)
			}
		})
	}
}

// TestBodies: a body that breaks off is read again, and is never taken for a short object.
func TestBodies(t *testing.T) {
	const get = "GET /bucket/pre/fix/name"
	cut := answer{request: get, status: 200, body: "0123", length: 10}
	whole := answer{request: get, status: 200, body: "0123456789"}
	if b, err := scripted(t, cut, cut, whole).GetRange(t.Context(), "name", 0, -1); string(b) != "0123456789" || err != nil {
		t.Errorf("read behind two that broke off: %q, %v", b, err)
	}
	_, err := scripted(t, cut, cut, cut, cut).GetRange(t.Context(), "name", 0, -1)
	if err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a body that always breaks off: %v", err)
	}
}

// TestAbort: parts are dropped although the context of the write was canceled.
func TestAbort(t *testing.T) {
	const object = "/bucket/pre/fix/large"
	s := scripted(t, answer{request: "POST " + object, status: 200, body: "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"},
		answer{request: "PUT " + object, status: 200}, answer{request: "DELETE " + object, status: 204})
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "large")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, partBytes+1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Write(make([]byte, partBytes)); !errors.Is(err, context.Canceled) {
		t.Errorf("Write after the cancel = %v", err)
	}
	if err := w.Commit(); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit after the cancel = %v", err)
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{Endpoint: "localhost:9000", MaxAttempts: 101}.Validate()
	for _, want := range []string{"endpoint", "attempt_timeout", "max_attempts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not name %s: %v", want, err)
		}
	}
	if err := (Config{Endpoint: "http://me:hunter2@host", AttemptTimeout: 1, MaxAttempts: 1}).Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an endpoint with a password: %v", err)
	}
	for text, want := range map[string]string{
		"s3://bucket": "bucket|", "s3://bucket/": "bucket|", "s3://b-1.x/a/b/": "b-1.x|a/b",
		"bucket/x": "error", "s3://": "error", "s3://UPPER/x": "error", "s3://bucket//x": "error", "s3://bucket/../x": "error",
	} {
		bucket, prefix, err := ParseURL(text)
		got := bucket + "|" + prefix
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("ParseURL(%s) = %s %v, want %s", text, got, err, want)
		}
	}
}

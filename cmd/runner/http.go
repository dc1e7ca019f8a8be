package main

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed page.html
var statusPage []byte

// server is the job's HTTP server.
type server struct {
	addr string
	ln   net.Listener
	srv  *http.Server
}

// listenHTTP binds the address of the configuration.
func listenHTTP(cfg HTTPConfig, st *status, registry *prometheus.Registry) (*server, error) {
	token := ""
	if cfg.TokenFile != "" {
		b, err := os.ReadFile(cfg.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("http.token_file: %w", err)
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return nil, fmt.Errorf("http.token_file %s: is empty", cfg.TokenFile)
		}
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w; choose another address in the job file, or none to go without", err)
	}
	s := &server{addr: ln.Addr().String(), ln: ln}
	s.srv = &http.Server{Handler: guard(token, !loopback(hostOf(cfg.Listen)), routes(st, registry)), ReadHeaderTimeout: 5 * time.Second}
	return s, nil
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

func routes(st *status, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, st.stuck(20)) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, st.stuck(3)) })
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, st.snapshot()) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { writePage(w, statusPage) })
	st.live.serve(mux)
	mux.HandleFunc("/radar/", st.serveRadar)
	return mux
}

// writePage writes one of our pages, which load nothing from elsewhere.
func writePage(w http.ResponseWriter, page []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
	_, _ = w.Write(page)
}

// guard wants the token for everything that is not a GET, and for everything when the
// address can be reached from outside. Without a token file nothing but GET is served.
func guard(token string, always bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !read || always {
			got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if token == "" || !ok || subtle.ConstantTimeCompare([]byte(got), []byte(token)) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "send Authorization: Bearer with the token of http.token_file"})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// stuck names the jobs without a checkpoint for longer than some intervals.
func (s *status) stuck(intervals int) []string {
	reasons := []string{}
	for _, j := range s.snapshot() {
		limit := time.Duration(intervals)*j.Interval + 5*time.Second
		if age := time.Since(j.At); age > limit {
			reasons = append(reasons, fmt.Sprintf("job %s: no checkpoint for %v (interval %v)", j.Job, age.Round(time.Second), j.Interval))
		}
	}
	return reasons
}

func answer(w http.ResponseWriter, reasons []string) {
	code := http.StatusOK
	if len(reasons) > 0 {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, map[string]any{"ok": len(reasons) == 0, "reasons": reasons})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}

// serve serves until ctx is done.
func (s *server) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.srv.Close() })
	defer stop()
	if err := s.srv.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

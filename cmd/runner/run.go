package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/tidemark/tidemark/pipeline"
)

// cmdRun runs one job.
func cmdRun(ctx context.Context, args []string, out streams) error {
	fs := newFlags("run", "tidemark run -f examples/ble.yaml", "runs a job until it is stopped; SIGTERM and Ctrl-C stop it gracefully")
	file := fs.String("f", "", "job `file`")
	level := fs.String("log", "info", "log `level`: debug, info, warn, error")
	if err := fs.parse(args); err != nil {
		return err
	}
	if *file == "" {
		return &usageError{"run: -f names no job file"}
	}
	log, err := newLogger(out.stderr, *level)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	st := newStatus()
	registry := newRegistry()
	job, closeJob, err := st.build(cfg, jobDeps{log: log.With("job", cfg.Job), registry: registry})
	if err != nil {
		return err
	}
	defer func() {
		if err := closeJob(); err != nil {
			log.Error("close sinks", "err", err)
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	done, finish := context.WithCancel(gctx)
	defer finish()
	if cfg.HTTP.Listen != "" {
		srv, err := listenHTTP(cfg.HTTP, st, registry)
		if err != nil {
			return err
		}
		log.Info("status page", "url", "http://"+srv.addr)
		g.Go(func() error { return srv.serve(done) })
	}
	g.Go(func() error {
		defer finish()
		return pipeline.Run(gctx, job)
	})
	g.Go(func() error { st.progress(done, out.stderr); return nil })
	if err := g.Wait(); err != nil {
		return err
	}
	st.summary(out.stdout)
	return nil
}

// cmdValidate checks job files.
func cmdValidate(args []string, stdout io.Writer) error {
	fs := newFlags("validate", "tidemark validate -f examples/ble.yaml", "checks a job file and names every mistake with its line")
	file := fs.String("f", "", "job `file`")
	if err := fs.parse(args); err != nil {
		return err
	}
	if *file == "" {
		return &usageError{"validate: -f names no job file"}
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: job %s is valid: %s from topic %s, windows of %v by %s\n", *file, cfg.Job, cfg.Feed,
		cfg.Source.Kafka.Topic, cfg.Window.Tumbling, strings.Join(cfg.Window.Key, ", "))
	return nil
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, &usageError{fmt.Sprintf("log level %q: want debug, info, warn or error", level)}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	_ = r.Register(info) // a new registry has no other of that name
	return r
}

// isTerminal tells whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress prints how the jobs do until ctx is done: a line that is written over on a
// terminal, one line in 10 s elsewhere.
func (s *status) progress(ctx context.Context, w io.Writer) {
	every, end := 10*time.Second, "\n"
	if isTerminal(w) {
		every, end = time.Second, "\r"
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, j := range s.snapshot() {
				fmt.Fprintf(w, "%s%s", j.line(), end)
			}
		}
	}
}

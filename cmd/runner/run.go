package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/tidemark/tidemark/pipeline"
	topics "github.com/tidemark/tidemark/sinks/kafka"
)

// cmdRun runs one job.
func cmdRun(ctx context.Context, args []string, out streams) error {
	fs := newFlags("run", "tidemark run -f examples/ble.yaml", "runs a job until it is stopped; SIGTERM and Ctrl-C stop it gracefully, SIGHUP reads the job file again")
	file := fs.String("f", "", "job `file`")
	level := fs.String("log", "info", "log `level`: debug, info, warn, error")
	anew := fs.Bool("new-lineage", false, "start over from source.start with no state; new results replace the old ones. For one start: every start with it starts over")
	stats := fs.Bool("stats", false, "say at the end what the process used")
	takeOver := fs.Bool("take-over", false, "take the job over from the process that has it, which then stops without publishing")
	dry := fs.Bool("dry-run", false, "read what the topic has since --from and say what would come of it; nothing is written, committed or kept")
	from := fs.String("from", "-10m", "of --dry-run: `time` where reading begins, by broker timestamp")
	limit := fs.Int("limit", 0, "of --dry-run: end after about so many records, as many of each partition; 0 for all")
	profile := fs.String("cpuprofile", "", "write a CPU profile to `file`")
	if err := fs.parse(args); err != nil {
		return err
	}
	if *file == "" {
		return &usageError{"run: -f names no job file"}
	}
	if *profile != "" {
		stop, err := profileCPU(*profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	log, err := newLogger(out.stderr, *level)
	if err != nil {
		return err
	}
	loaded, err := loadJobFile(*file)
	if err != nil {
		return err
	}
	cfg := loaded.cfg
	if *dry {
		return dryRun{*from, *limit}.run(ctx, cfg, log, out.stdout)
	}
	st := newStatus()
	reload := newReloader(*file, cfg, st, log.With("job", cfg.Job))
	defer reload.close()
	registry := newRegistry()
	refs, err := openReferences(cfg, log.With("job", cfg.Job), registry)
	if err != nil {
		return err
	}
	job, closeJob, err := st.build(cfg, jobDeps{log: log.With("job", cfg.Job), registry: registry, references: refs,
		accept: loaded.accept(log.With("job", cfg.Job)), newLineage: *anew, takeOver: *takeOver, settings: reload.settings})
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
	if refs != nil {
		g.Go(func() error { return refs.watch(done) })
	}
	g.Go(func() error { reload.watch(done); return nil })
	g.Go(func() error { st.progress(done, out.stderr); return nil })
	if err := g.Wait(); err != nil {
		return err
	}
	st.summary(out.stdout)
	if *stats {
		st.printStats(out.stderr)
	}
	return nil
}

// profileCPU writes a CPU profile until stop is called.
func profileCPU(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("cpu profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("cpu profile: %w", err), f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut short says so itself
	}, nil
}

// printStats says what the process and its jobs have used so far.
func (s *status) printStats(w io.Writer) {
	printStats(w)
	for _, j := range s.snapshot() {
		fmt.Fprintf(w, "%s: %d checkpoints, longest pause %.1f ms, at most %d open windows at a barrier\n", j.Job, j.Epoch, j.Pause.Seconds()*1e3, j.most)
	}
}

func printStats(w io.Writer) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	fmt.Fprintf(w, "cpu %.2f s (user %.2f, system %.2f), peak memory %d MiB, allocations %d (%d MiB), collections %d\n",
		seconds(u.Utime)+seconds(u.Stime), seconds(u.Utime), seconds(u.Stime), peakMemory(u)>>20, m.Mallocs, m.TotalAlloc>>20, m.NumGC)
}

// peakMemory is in bytes. What getrusage says begins with the size of the process that
// started this one, so that of the kernel's own page is taken where there is one.
func peakMemory(u syscall.Rusage) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u.Maxrss * 1024
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb * 1024
		}
	}
	return u.Maxrss * 1024
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
	fmt.Fprintf(stdout, "%s: job %s is valid: %s from topic %s, %s\n", *file, cfg.Job, cfg.Feed, cfg.Source.Kafka.Topic, cfg.work())
	for _, s := range cfg.Sinks {
		if s.Kafka != nil {
			fmt.Fprintf(stdout, "%s: topic %s: %s\n", *file, s.Kafka.Topic, topics.Promise)
		}
	}
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

// progress prints how the jobs do until ctx is done: one line that is written over on a
// terminal, a line per job in 10 s elsewhere.
func (s *status) progress(ctx context.Context, w io.Writer) {
	every, width := 10*time.Second, 0
	if f, ok := w.(*os.File); ok && isTerminal(w) {
		every, width = time.Second, 80
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			width = n
		}
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			if width > 0 {
				fmt.Fprintln(w)
			}
			return
		case <-t.C:
			var lines []string
			jobs := s.snapshot()
			for _, j := range jobs {
				if width > 0 && len(jobs) > 1 {
					lines = append(lines, j.brief())
					continue
				}
				lines = append(lines, j.line())
			}
			if width == 0 {
				fmt.Fprintln(w, strings.Join(lines, "\n"))
				continue
			}
			// Back to the start of the line, and what was there is gone.
			one := strings.Join(lines, " | ")
			fmt.Fprintf(w, "\r\x1b[K%s", one[:min(len(one), width-1)])
		}
	}
}

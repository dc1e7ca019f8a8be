package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/tidemark/tidemark/pipeline"
)

// A reloader reads the job file again at SIGHUP. Either all that has changed is live and is
// applied, or nothing is.
type reloader struct {
	path     string
	cfg      Config // in force
	st       *status
	log      *slog.Logger
	signals  chan os.Signal
	settings chan pipeline.Settings
}

// newReloader takes SIGHUP from here on, which would end the process otherwise.
func newReloader(path string, cfg Config, st *status, log *slog.Logger) *reloader {
	r := &reloader{path: path, cfg: cfg, st: st, log: log, signals: make(chan os.Signal, 1), settings: make(chan pipeline.Settings)}
	signal.Notify(r.signals, syscall.SIGHUP)
	return r
}

func (r *reloader) close() { signal.Stop(r.signals) }

// watch serves signals until ctx is done.
func (r *reloader) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.signals:
		}
		err := r.reload(ctx)
		var file *configError
		switch {
		case errors.As(err, &file):
			for _, line := range file.lines {
				r.log.Error("reload refused, the job goes on as it was", "err", line)
			}
		case err != nil:
			r.log.Error("reload refused, the job goes on as it was", "err", err)
		}
	}
}

// reload applies what the file says now.
func (r *reloader) reload(ctx context.Context) error {
	f, err := loadJobFile(r.path)
	if err != nil {
		return err
	}
	running, err := canonical(r.cfg)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	found, err := changes(running, f.cfg)
	if err != nil {
		return err
	}
	if more := slices.DeleteFunc(slices.Clone(found), func(c change) bool { return c.class == live }); len(more) > 0 {
		return f.refusal(more, "nothing was applied: restart the job for these, after `tidemark validate`, or put them back")
	}
	config, err := canonical(f.cfg)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	s := pipeline.Settings{Interval: f.cfg.Checkpoint.Interval, StopTimeout: f.cfg.StopTimeout, Keep: f.cfg.Checkpoint.Keep, Config: config}
	select {
	case r.settings <- s: // the job takes it between two checkpoints
	case <-ctx.Done():
		return nil // the job ends
	}
	r.st.setInterval(r.cfg.Job, s.Interval)
	r.cfg = f.cfg
	for _, c := range found {
		r.log.Info("setting applied", "setting", c.path, "was", c.was, "is", c.value)
	}
	r.log.Info("job file reloaded", "file", r.path, "changes", len(found))
	return nil
}

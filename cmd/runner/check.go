package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tidemark/tidemark/sinks/clickhouse"
	topics "github.com/tidemark/tidemark/sinks/kafka"
	"github.com/tidemark/tidemark/sources/kafka"
)

// inspectTimeout bounds the checks of one server.
const inspectTimeout = 10 * time.Second

// lowDisk is the free space below which a directory is mentioned.
const lowDisk = 1 << 30

// errChecks says that a check failed; the lines have said which.
var errChecks = errors.New("not all is well: see the lines with FAIL")

// cmdCheck checks a job against the world it will run in.
func cmdCheck(ctx context.Context, args []string, out streams) error {
	fs := newFlags("check", "tidemark check -f job.yaml", "checks brokers, topic, its newest records, ClickHouse, its tables, and disks; changes nothing")
	file := fs.String("f", "", "job `file`")
	if err := fs.parse(args); err != nil {
		return err
	}
	p, err := planOfFile(*file, fs)
	if err != nil {
		return err
	}
	failed := false
	for _, f := range p.check(ctx) {
		fmt.Fprintf(out.stdout, "%-4s  %s\n", f.Verdict, f.Text)
		failed = failed || f.Verdict == clickhouse.Fail
	}
	if failed {
		return errChecks
	}
	return nil
}

// planOfFile reads the job file of a command.
func planOfFile(file string, f *flags) (*plan, error) {
	if file == "" {
		return nil, &usageError{f.Name() + ": -f names no job file"}
	}
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	return planOf(cfg)
}

// check returns what was found, in the order of the journey of a row.
func (p *plan) check(ctx context.Context) []clickhouse.Finding {
	out := []clickhouse.Finding{checkSource(ctx, p.cfg.Source.Kafka)}
	if out[0].Verdict == clickhouse.OK {
		out = append(out, p.checkRecords(ctx)...)
	}
	out = append(out, checkStore("checkpoint.dir", p.cfg.Checkpoint.Dir, p.cfg.Checkpoint.S3))
	for _, sc := range p.cfg.Sinks {
		switch {
		case sc.Parquet != nil:
			out = append(out, checkStore("parquet.dir", sc.Parquet.Dir, sc.Parquet.S3))
		case sc.Kafka != nil:
			out = append(out, p.checkTopics(ctx, sc.Kafka.SinkConfig)...)
		default:
			out = append(out, p.checkClickHouse(ctx, sc.ClickHouse.Config)...)
		}
	}
	return out
}

// checkTopics looks for the topic of every port.
func (p *plan) checkTopics(ctx context.Context, cfg topics.SinkConfig) []clickhouse.Finding {
	var out []clickhouse.Finding
	for _, port := range p.ports() {
		topic, schema := p.kafka(cfg, port)
		s, err := topics.NewSink(topic, nil, schema, slog.New(slog.DiscardHandler))
		if err != nil {
			return append(out, clickhouse.Finding{Verdict: clickhouse.Fail, Text: err.Error()})
		}
		ictx, cancel := context.WithTimeout(ctx, inspectTimeout)
		there, err := s.Inspect(ictx)
		cancel()
		switch err = errors.Join(err, s.Close()); {
		case err != nil:
			out = append(out, clickhouse.Finding{Verdict: clickhouse.Fail, Text: fmt.Sprintf("kafka sink %s: %v", topic.Topic, err)})
		case there:
			out = append(out, clickhouse.Finding{Verdict: clickhouse.OK, Text: fmt.Sprintf("kafka: topic %s is there", topic.Topic)})
		default:
			out = append(out, clickhouse.Finding{Verdict: clickhouse.OK, Text: fmt.Sprintf("kafka: topic %s is missing; the job will make it", topic.Topic)})
		}
	}
	return out
}

// checkSource opens the source and closes it.
func checkSource(ctx context.Context, cfg kafka.Config) clickhouse.Finding {
	src, err := kafka.Open(ctx, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return clickhouse.Finding{Verdict: clickhouse.Fail, Text: err.Error()}
	}
	if err := src.Close(); err != nil {
		return clickhouse.Finding{Verdict: clickhouse.Fail, Text: fmt.Sprintf("kafka: %v", err)}
	}
	return clickhouse.Finding{Verdict: clickhouse.OK, Text: fmt.Sprintf("kafka: topic %s can be read", cfg.Topic)}
}

// checkClickHouse checks the table of every port. What is said of the server is said once.
func (p *plan) checkClickHouse(ctx context.Context, cfg clickhouse.Config) []clickhouse.Finding {
	var out []clickhouse.Finding
	said := map[clickhouse.Finding]bool{}
	for i, port := range p.ports() {
		table, schema := p.clickhouse(cfg, port)
		s, err := clickhouse.New(table, nil, schema, slog.New(slog.DiscardHandler))
		if err != nil {
			return append(out, clickhouse.Finding{Verdict: clickhouse.Fail, Text: err.Error()})
		}
		ictx, cancel := context.WithTimeout(ctx, inspectTimeout)
		found := s.Inspect(ictx, p.cfg.Checkpoint.Interval)
		cancel()
		if err := s.Close(); err != nil {
			found = append(found, clickhouse.Finding{Verdict: clickhouse.Warn, Text: err.Error()})
		}
		server := 2 // version and clock
		if len(found) < server || i == 0 {
			server = 0
		}
		for _, f := range found[server:] {
			if !said[f] {
				said[f] = true
				out = append(out, f)
			}
		}
	}
	return out
}

// checkStore checks a directory, or that a bucket can be used.
func checkStore(setting, dir string, s3 *S3Config) clickhouse.Finding {
	if !inBucket(dir) {
		return checkDir(setting, dir)
	}
	if _, err := openStore(dir, s3); err != nil {
		return clickhouse.Finding{Verdict: clickhouse.Fail, Text: fmt.Sprintf("%s: %v", setting, err)}
	}
	return clickhouse.Finding{Verdict: clickhouse.OK, Text: fmt.Sprintf("%s %s: answers, and keeps conditional writes", setting, dir)}
}

// checkDir checks that a directory, or the one above where it will be, can be written and
// has space.
func checkDir(setting, dir string) clickhouse.Finding {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return clickhouse.Finding{Verdict: clickhouse.Fail, Text: fmt.Sprintf("%s %s: %v", setting, dir, err)}
	}
	at := abs
	for {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	const writable = 2 // W_OK of access(2)
	if err := syscall.Access(at, writable); err != nil {
		return clickhouse.Finding{Verdict: clickhouse.Fail, Text: fmt.Sprintf("%s %s: %s cannot be written: %v: give its owner the right, or name another directory", setting, dir, at, err)}
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(at, &st); err != nil {
		return clickhouse.Finding{Verdict: clickhouse.Fail, Text: fmt.Sprintf("%s %s: %v", setting, dir, err)}
	}
	free := uint64(st.Bavail) * uint64(st.Bsize) //nolint:unconvert // differs by platform
	if free < lowDisk {
		return clickhouse.Finding{Verdict: clickhouse.Warn, Text: fmt.Sprintf("%s %s: %d MiB are free: a full disk stops the job without loss; make room", setting, dir, free>>20)}
	}
	return clickhouse.Finding{Verdict: clickhouse.OK, Text: fmt.Sprintf("%s %s: %d GiB free", setting, dir, free>>30)}
}

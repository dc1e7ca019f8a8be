package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Verdict is how a check came out.
type Verdict string

const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "FAIL"
)

// Finding is the outcome of one check. Text has the cause and the next step.
type Finding struct {
	Verdict Verdict
	Text    string
}

const (
	// oldestMajor and oldestMinor are of the oldest server that is supported.
	oldestMajor, oldestMinor = 24, 8
	// maxSkew is how far the clock of the server may be from ours before it is mentioned.
	maxSkew = 5 * time.Second
	// protected is the number of epochs whose blocks the tokens must cover: a retry comes
	// within one, the others are for publishing that lags.
	protected = 4
)

// Inspect checks what the sink will need of its server. every is the time between epochs.
// It makes one attempt of each and changes nothing.
func (s *Sink) Inspect(ctx context.Context, every time.Duration) []Finding {
	var out []Finding
	add := func(v Verdict, format string, args ...any) {
		out = append(out, Finding{v, fmt.Sprintf(format, args...)})
	}
	var about serverInfo
	err := s.attempt(ctx, func(ctx context.Context) (err error) {
		about, err = s.server.about(ctx, s.cfg.Table)
		return err
	})
	if err != nil {
		add(Fail, "clickhouse: %v: check that the server is up and that url, user and password are right", err)
		return out
	}
	out = append(out, about.check(s.now())...)
	if s.cfg.Delivery != ExactlyOnce {
		add(Warn, "table %s: delivery %s: rows may be there twice; %s", s.tableName(), s.cfg.Delivery, s.cfg.promise())
	}
	var info tableInfo
	var found bool
	err = s.attempt(ctx, func(ctx context.Context) (err error) {
		info, found, err = s.server.table(ctx, s.cfg.Table)
		return err
	})
	switch {
	case err != nil:
		add(Fail, "table %s: %v", s.tableName(), err)
		return out
	case !found && s.cfg.Create == "auto":
		add(OK, "table %s does not exist; the job will make it", s.tableName())
		return out
	case !found:
		add(Fail, "table %s does not exist: run the statements of tidemark ddl, or set create: auto", s.tableName())
		return out
	}
	if err := info.check(s.cfg, s.cols); err != nil {
		for line := range strings.Lines(err.Error()) {
			add(Fail, "%s", strings.TrimSuffix(line, "\n"))
		}
		return out
	}
	add(OK, "table %s: %s with %d columns", s.tableName(), info.engine, len(s.cols)+5)
	var commits tableInfo
	err = s.attempt(ctx, func(ctx context.Context) (err error) {
		commits, found, err = s.server.table(ctx, commitsTable)
		return err
	})
	if err == nil && found {
		err = commits.checkCommits(s.cfg)
	}
	switch {
	case err != nil:
		add(Fail, "%v", err)
	case !found && s.cfg.Create != "auto":
		add(Fail, "table %s.%s does not exist: run the statements of tidemark ddl, or set create: auto", s.cfg.Database, commitsTable)
	}
	if s.cfg.Delivery == ExactlyOnce {
		out = append(out, s.protection(ctx, info, about.views, every)...)
	}
	return out
}

// promise says what a weaker delivery means.
func (c Config) promise() string {
	if c.Delivery == Upsert {
		return "read <table>_current or FINAL, which show each once"
	}
	return "count distinct rows, or take exactly_once over HTTP"
}

func (a serverInfo) check(now time.Time) []Finding {
	var out []Finding
	major, minor := 0, 0
	_, err := fmt.Sscanf(a.version, "%d.%d", &major, &minor)
	switch {
	case err != nil:
		out = append(out, Finding{Warn, fmt.Sprintf("clickhouse: version %q cannot be read; %d.%d or later is wanted", a.version, oldestMajor, oldestMinor)})
	case major < oldestMajor || major == oldestMajor && minor < oldestMinor:
		out = append(out, Finding{Fail, fmt.Sprintf("clickhouse: version %s: upgrade to %d.%d or later", a.version, oldestMajor, oldestMinor)})
	default:
		out = append(out, Finding{OK, "clickhouse: version " + a.version})
	}
	skew := a.now.Sub(now).Round(time.Millisecond)
	if skew.Abs() > maxSkew {
		return append(out, Finding{Warn, fmt.Sprintf("clickhouse: its clock is %v off ours: no result depends on it, committed_at and TTLs do; set both by NTP", skew)})
	}
	return append(out, Finding{OK, fmt.Sprintf("clickhouse: its clock is %v off ours", skew)})
}

// protection tells for how long tokens protect the blocks of a table and of the views that
// read it.
func (s *Sink) protection(ctx context.Context, info tableInfo, views []viewTarget, every time.Duration) []Finding {
	pace := int64(0)
	err := s.attempt(ctx, func(ctx context.Context) (err error) {
		pace, err = s.server.pace(ctx)
		return err
	})
	if err != nil { // there is no tm_commits yet
		pace = 0
	}
	pace = max(pace, 1)
	name := quoted(s.cfg.Database, s.cfg.Table)
	var out []Finding
	if f := info.window.enough(pace, every); f != "" {
		out = append(out, Finding{Fail, fmt.Sprintf("table %s: %s: ALTER TABLE %s MODIFY SETTING %s", s.tableName(), f, name, s.remedy(info.engine, info.window, pace))})
	} else {
		out = append(out, Finding{OK, fmt.Sprintf("table %s: tokens protect a block for %v, at %d blocks in %v; after that blocks are verified before they are sent again",
			s.tableName(), info.window.protects(pace, every), pace, every)})
	}
	for _, v := range views {
		if f := v.window.enough(pace, every); f != "" {
			out = append(out, Finding{Fail, fmt.Sprintf("view %s writes to %s (%s): %s, so that a block that is sent twice counts twice there: ALTER TABLE %s MODIFY SETTING %s",
				v.view, v.target, v.engine, f, v.target, s.remedy(v.engine, v.window, pace))})
			continue
		}
		if !s.cfg.Append {
			out = append(out, Finding{Warn, fmt.Sprintf("view %s reads a table whose rows have revisions: it sees every revision and adds them all up; let the job make the coarser windows", v.view)})
			continue
		}
		out = append(out, Finding{OK, fmt.Sprintf("view %s writes to %s, which remembers tokens too", v.view, v.target)})
	}
	return out
}

// remedy is the setting that makes a window large enough.
func (s *Sink) remedy(engine string, w dedupWindow, pace int64) string {
	if w.blocks >= protected*pace {
		return fmt.Sprintf("%s_seconds = %d", windowSetting(engine), replicatedSeconds)
	}
	return fmt.Sprintf("%s = %d", windowSetting(engine), max(int64(s.cfg.DedupWindow), protected*pace))
}

// enough says why a window does not protect the blocks of a few epochs, "" when it does.
func (w dedupWindow) enough(pace int64, every time.Duration) string {
	switch need := protected * every; {
	case w.blocks == 0:
		return "it forgets deduplication tokens at once"
	case w.blocks < protected*pace:
		return fmt.Sprintf("it remembers the tokens of %d blocks, and %d epochs have %d", w.blocks, protected, protected*pace)
	case w.seconds > 0 && time.Duration(w.seconds)*time.Second < need:
		return fmt.Sprintf("it remembers tokens for %d s, and %d epochs take %v", w.seconds, protected, need)
	}
	return ""
}

// protects is for how long a token is remembered.
func (w dedupWindow) protects(pace int64, every time.Duration) time.Duration {
	d := time.Duration(w.blocks/pace) * every
	if w.seconds > 0 {
		d = min(d, time.Duration(w.seconds)*time.Second)
	}
	return d.Round(time.Second)
}

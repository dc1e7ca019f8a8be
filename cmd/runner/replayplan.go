package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/sinks/clickhouse"
)

// This file is the register of a job's replays. It lies beside the job's checkpoints, in a
// directory of the same name with -replays behind it, so that no replay ever writes where the
// job does: plans/NNNNN.json says what replay NNNNN reads and never changes, NNNNN holds the
// checkpoints of that replay.

// replaySuffix ends the names of what replays write: the directory of their checkpoints, and
// tables, folders and topics of their results.
const replaySuffix = clickhouse.ReplaySuffix

// replayPlan says what a replay reads and where its results go. It is made once.
type replayPlan struct {
	Name    string `json:"name"`
	Job     string `json:"job"`
	Lineage uint16 `json:"lineage"` // of all that it writes
	// From and To bound the event time of its results, To exclusive. A shadow has no end: To is
	// zero.
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`
	Made time.Time `json:"made"`
	// Until is the mark at which a partition has given all that belongs to the range.
	Until time.Time `json:"until,omitzero"`
	// Partial says that retention had removed records of the range.
	Partial bool         `json:"partial,omitempty"`
	Topic   string       `json:"topic"`
	Splits  []replayPart `json:"partitions"`
	// Config is the job's configuration as checkpoints have it.
	Config json.RawMessage `json:"config"`
}

// replayPart is what a replay reads of a partition: offsets from Start to End, which is
// exclusive, or less when the range is over before. Expect is where that will be, roughly.
type replayPart struct {
	Partition int32 `json:"partition"`
	Start     int64 `json:"start"`
	Expect    int64 `json:"expect"`
	End       int64 `json:"end"`
}

// replays is the register of a job.
type replays struct {
	cfg   Config
	store pipeline.Store // nil: there is none yet
}

// replayDir is where a job's replays keep plans and checkpoints.
func replayDir(cfg Config) string { return cfg.Checkpoint.Dir + "-replays" }

// openReplays opens the register to add to it, readReplays to read it.
func openReplays(cfg Config) (*replays, error) {
	store, err := openStore(replayDir(cfg), cfg.Checkpoint.S3)
	if err != nil {
		return nil, fmt.Errorf("replays: %w", err)
	}
	return &replays{cfg, store}, nil
}

func readReplays(ctx context.Context, cfg Config) (*replays, error) {
	store, err := readStore(ctx, replayDir(cfg), cfg.Checkpoint.S3)
	if errors.Is(err, fs.ErrNotExist) {
		return &replays{cfg, nil}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("replays: %w", err)
	}
	return &replays{cfg, store}, nil
}

const planFolder = "plans/"

// number is by what a replay is known in names of files.
func (p replayPlan) number() string { return strconv.Itoa(int(p.Lineage)) }

// list returns the plans, oldest first.
func (r *replays) list(ctx context.Context) ([]replayPlan, error) {
	if r.store == nil {
		return nil, nil
	}
	objects, err := r.store.List(ctx, planFolder)
	if err != nil {
		return nil, fmt.Errorf("replays: %w", err)
	}
	var out []replayPlan
	for _, o := range objects {
		if path.Ext(o.Name) != ".json" {
			continue
		}
		b, err := r.store.GetRange(ctx, o.Name, 0, -1)
		if err != nil {
			return nil, fmt.Errorf("replays: %w", err)
		}
		var p replayPlan
		if err := json.Unmarshal(b, &p); err != nil {
			return nil, fmt.Errorf("replay %s: %w: the plan was changed; put it back from a copy", o.Name, err)
		}
		if p.Lineage < pipeline.FirstReplay || o.Name != p.object() {
			return nil, fmt.Errorf("replay %s: lineage %d does not belong to that name: the plan was changed; put it back from a copy", o.Name, p.Lineage)
		}
		out = append(out, p)
	}
	return out, nil
}

func (p replayPlan) object() string { return planFolder + p.number() + ".json" }

// named returns the newest plan of a name, or of a lineage.
func (r *replays) named(ctx context.Context, name string) (replayPlan, error) {
	all, err := r.list(ctx)
	if err != nil {
		return replayPlan{}, err
	}
	for _, p := range slices.Backward(all) {
		if p.Name == name || p.number() == name {
			return p, nil
		}
	}
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	if known == nil {
		return replayPlan{}, fmt.Errorf("job %s has no replay %q, and no other; `tidemark replay -f FILE --from T --to T` makes one", r.cfg.Job, name)
	}
	return replayPlan{}, fmt.Errorf("job %s has no replay %q; there are %s", r.cfg.Job, name, strings.Join(known, ", "))
}

// add gives a plan the next lineage and keeps it.
func (r *replays) add(ctx context.Context, p replayPlan) (replayPlan, error) {
	for {
		all, err := r.list(ctx)
		if err != nil {
			return p, err
		}
		next := pipeline.FirstReplay
		if len(all) > 0 {
			next = int(all[len(all)-1].Lineage) + 1
		}
		if next > 1<<16-1 {
			return p, errors.New("32,768 replays of one job: their lineages are used up; give the job another name")
		}
		p.Lineage = uint16(next)
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return p, fmt.Errorf("replay plan: %w", err)
		}
		err = r.store.PutIfAbsent(ctx, p.object(), append(b, '\n'))
		if errors.Is(err, pipeline.ErrExists) {
			continue // another one was made meanwhile
		}
		return p, err
	}
}

// checkpointDir is where a replay keeps its checkpoints.
func (p replayPlan) checkpointDir(cfg Config) string { return below(replayDir(cfg), p.number()) }

// last returns the newest checkpoint of a replay, nil when it has none.
func (p replayPlan) last(ctx context.Context, cfg Config) (*pipeline.Checkpoint, error) {
	cfg.Checkpoint.Dir = p.checkpointDir(cfg)
	return newestOf(ctx, cfg)
}

// newestOf returns the newest checkpoint of a job, nil when it has none.
func newestOf(ctx context.Context, cfg Config) (*pipeline.Checkpoint, error) {
	store, err := readStore(ctx, cfg.Checkpoint.Dir, cfg.Checkpoint.S3)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints in %s: %w", cfg.Checkpoint.Dir, err)
	}
	cp, _, err := pipeline.NewCheckpoints(store, 1, boundedAllocator{memory.DefaultAllocator}).Load(ctx)
	return cp, err
}

// ended tells whether a replay has read all of its range.
func (p replayPlan) ended(ctx context.Context, cfg Config) (bool, error) {
	cp, err := p.last(ctx, cfg)
	return cp != nil && cp.Ended(), err
}

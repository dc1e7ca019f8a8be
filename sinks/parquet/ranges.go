package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// This file says which files of a table count for which time: those of the job, or those of a
// replay of it, which lie in a folder of their own. _tidemark/ranges/<table>/NNNNNNNNNN-<job>.json
// has all decisions; the one with the largest number counts. It is made by PutIfAbsent, so that
// a decision is one object that is there or not, and of two that are made at once the second
// knows the first. Plain globs do not ask it: they see the folder that they name.
//
// Which files there are is told by the folders: a file has its final name when its epoch is
// published and not before. The manifest log says the same, an object for every epoch there
// ever was.

const rangesDir = "_tidemark/ranges"

// Range is a decision: the files of a lineage count, 0 for those of the job, whose partitions lie
// in [From, To), in ticks.
type Range struct {
	From    int64     `json:"from_us"`
	To      int64     `json:"to_us"`
	Lineage uint16    `json:"lineage"`
	Table   string    `json:"table,omitempty"` // of the replay, as its configuration has it
	Since   time.Time `json:"since"`
}

// rangesFormat is the version of the object.
const rangesFormat = 1

type rangesObject struct {
	Format int     `json:"format"`
	Job    string  `json:"job"`
	Table  string  `json:"table"`
	Ranges []Range `json:"ranges"` // the newest first
}

func (c Config) rangesPrefix() string { return fmt.Sprintf("%s/%s/", rangesDir, segment(c.Table)) }

func (c Config) rangesName(number int64) string {
	return fmt.Sprintf("%s%010d-%s.json", c.rangesPrefix(), number, segment(c.Job))
}

// Decided returns the decisions about a table, the newest first.
func Decided(ctx context.Context, store pipeline.Store, cfg Config) ([]Range, error) {
	ranges, _, err := decided(ctx, store, cfg)
	return ranges, err
}

// decided returns the number of the object too, 0 for none.
func decided(ctx context.Context, store pipeline.Store, cfg Config) ([]Range, int64, error) {
	objects, err := store.List(ctx, cfg.rangesPrefix())
	if errors.Is(err, pipeline.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("decisions about %s: %w", cfg.Table, err)
	}
	for _, o := range slices.Backward(objects) {
		digits, own := strings.CutSuffix(strings.TrimPrefix(o.Name, cfg.rangesPrefix()), "-"+segment(cfg.Job)+".json")
		number, err := strconv.ParseInt(digits, 10, 64)
		if !own || err != nil {
			continue
		}
		body, err := store.GetRange(ctx, o.Name, 0, -1)
		if err != nil {
			return nil, 0, fmt.Errorf("decisions about %s: %w", cfg.Table, err)
		}
		var r rangesObject
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, 0, fmt.Errorf("%s: %w: it was changed; put it back from a copy, or remove it to go back to the decisions before it", o.Name, err)
		}
		if r.Format != rangesFormat {
			return nil, 0, fmt.Errorf("%s has format %d, this version reads %d: use the version that wrote it", o.Name, r.Format, rangesFormat)
		}
		return r.Ranges, number, nil
	}
	return nil, 0, nil
}

// Decide records a decision. Its range must be of whole partitions.
func Decide(ctx context.Context, store pipeline.Store, cfg Config, r Range) error {
	if err := cfg.WholePartitions(r.From, r.To); err != nil {
		return err
	}
	for {
		ranges, number, err := decided(ctx, store, cfg)
		if err != nil {
			return err
		}
		kept := slices.DeleteFunc(slices.Clone(ranges), func(old Range) bool { return r.From <= old.From && old.To <= r.To })
		body, err := json.MarshalIndent(rangesObject{rangesFormat, cfg.Job, cfg.Table, slices.Insert(kept, 0, r)}, "", "  ")
		if err != nil {
			return fmt.Errorf("decisions about %s: %w", cfg.Table, err)
		}
		err = store.PutIfAbsent(ctx, cfg.rangesName(number+1), append(body, '\n'))
		if !errors.Is(err, pipeline.ErrExists) {
			return err
		}
	}
}

// WholePartitions refuses a range that cuts a partition.
func (c Config) WholePartitions(from, to int64) error {
	switch {
	case c.Layout == LayoutLake:
		return fmt.Errorf("table %s: files of layout %s go into the lake as they are made and cannot be switched", c.Table, LayoutLake)
	case c.PartitionBy == pipeline.PartitionNone:
		return fmt.Errorf("table %s: its files are of no partition by time, so none of them is of a range: set partition_by", c.Table)
	}
	wideFrom, wideTo := c.Whole(from, to)
	if wideFrom == from && wideTo == to {
		return nil
	}
	show := func(t int64) string { return time.UnixMicro(t).UTC().Format(time.RFC3339) }
	return fmt.Errorf("table %s: its files are by %s, and %s to %s is not of whole ones: replay %s to %s", c.Table, c.PartitionBy, show(from), show(to), show(wideFrom), show(wideTo))
}

// Whole widens a range to whole partitions.
func (c Config) Whole(from, to int64) (wideFrom, wideTo int64) {
	start := func(t int64) int64 { return c.PartitionBy.Start(c.PartitionBy.Of(t)).UnixMicro() }
	wideFrom, wideTo = start(from), start(to)
	if wideTo < to {
		if wideTo = start(to) + 3600e6; c.PartitionBy == pipeline.PartitionDay {
			wideTo = start(to) + 24*3600e6
		}
	}
	return wideFrom, wideTo
}

// CountingFile is a file that counts.
type CountingFile struct {
	Name    string `json:"name"` // in the store
	Size    int64  `json:"bytes"`
	Lineage uint16 `json:"replay,omitempty"` // 0: of the job
}

// CountingFiles returns the files that count of the partitions that begin or end in [from, to).
// Files without a time count when the range is open.
func CountingFiles(ctx context.Context, store pipeline.Store, cfg Config, ranges []Range, from, to int64) ([]CountingFile, error) {
	tables := []Range{{}}
	for _, r := range ranges {
		if r.Lineage > 0 && !slices.ContainsFunc(tables, func(t Range) bool { return t.Lineage == r.Lineage }) {
			tables = append(tables, r)
		}
	}
	open := from == pipeline.MinTicks && to == pipeline.MaxTicks
	if !open && (cfg.Layout == LayoutLake || cfg.PartitionBy == pipeline.PartitionNone) {
		return nil, fmt.Errorf("table %s: its files are in no folders dt=..., so a range has none: leave the range out", cfg.Table)
	}
	var out []CountingFile
	for _, t := range tables {
		of := cfg
		if t.Lineage > 0 {
			of = cfg.Beside(t.Table)
		}
		files, err := of.published(ctx, store, from, to)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			start, end, ok := partitionSpan(of.partitionOf(f.Name))
			if !ok {
				if t.Lineage == 0 && open {
					out = append(out, CountingFile{f.Name, f.Size, 0})
				}
				continue
			}
			counts, err := lineageOf(ranges, start, end)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			if counts == t.Lineage && start < to && end > from {
				out = append(out, CountingFile{f.Name, f.Size, t.Lineage})
			}
		}
	}
	slices.SortFunc(out, func(a, b CountingFile) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// daysListed is up to how many days are listed one by one.
const daysListed = 400

// published returns the files of the job, those of the days of [from, to) at least.
func (c Config) published(ctx context.Context, store pipeline.Store, from, to int64) ([]pipeline.Object, error) {
	prefixes := []string{c.root() + "/"}
	day := pipeline.PartitionDay
	if first, last := day.Of(from), day.Of(pipeline.SubTicks(to, 1)); first > pipeline.EarlyPartition && last < pipeline.FarPartition && first <= last && last-first < daysListed {
		prefixes = nil
		for d := first; d <= last; d++ {
			prefixes = append(prefixes, fmt.Sprintf("%s/dt=%s/", c.root(), day.Start(d).Format("2006-01-02")))
		}
	}
	var out []pipeline.Object
	for _, prefix := range prefixes {
		objects, err := store.List(ctx, prefix)
		if err != nil && !errors.Is(err, pipeline.ErrNotExist) {
			return nil, fmt.Errorf("files of %s: %w", c.Table, err)
		}
		for _, o := range objects {
			if c.ownFile(o.Name) {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

var numbersOfFile = regexp.MustCompile(`^\d+-\d+-\d+\.parquet$`)

// ownFile tells whether a name is one that finalName gives; others may write the table too.
func (c Config) ownFile(name string) bool {
	rest, ok := strings.CutPrefix(path.Base(name), "part-"+segment(c.Job)+"-")
	return ok && numbersOfFile.MatchString(rest)
}

// CountRows returns how many rows files have, by their footers.
func CountRows(ctx context.Context, store pipeline.Store, files []CountingFile) (rows int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet decoder: %v", p)
		}
	}()
	for _, f := range files {
		file, err := openStored(ctx, store, f.Name, f.Size)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name, err)
		}
		rows += file.NumRows()
	}
	return rows, nil
}

// partitionSpan is when the rows of a partition are of; false for those of no time.
func partitionSpan(partition string) (start, end int64, ok bool) {
	if end, ok = partitionEnd(partition); !ok {
		return 0, 0, false
	}
	if strings.Contains(partition, "/hour=") {
		return end - 3600e6, end, true
	}
	return end - 24*3600e6, end, true
}

// lineageOf returns the lineage of which the files of a partition count.
func lineageOf(ranges []Range, start, end int64) (uint16, error) {
	for _, r := range ranges {
		switch {
		case r.From <= start && end <= r.To:
			return r.Lineage, nil
		case r.From < end && start < r.To:
			return 0, fmt.Errorf("its partition is cut by the decision about %s to %s: partition_by was changed since; replay whole partitions",
				time.UnixMicro(r.From).UTC().Format(time.RFC3339), time.UnixMicro(r.To).UTC().Format(time.RFC3339))
		}
	}
	return 0, nil
}

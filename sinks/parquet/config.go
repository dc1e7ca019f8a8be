package parquet

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tidemark/tidemark/pipeline"
)

// MaxRowGroupRows is the largest RowGroupRows: readers hold a row group in memory.
const MaxRowGroupRows = 1 << 20

// Config describes one table of files.
type Config struct {
	// Job is the job whose epochs will be staged. No two jobs that run at the same time may
	// share job name, store and table: Sweep takes all that the name staged for its own.
	Job string `yaml:"-"`

	// Table is the folder below the store. It may have several levels. In the layout
	// security_lake it names what the sink keeps beside the files, and no folder of files.
	Table string `yaml:"table"`
	// Layout security_lake knows what the files are partitioned by and sorted by first, whatever
	// PartitionBy and TimeColumn say, and its partitions have no markers. It needs Lake, and no
	// other layout does.
	Layout Layout `yaml:"layout"`
	Lake   *Lake  `yaml:"security_lake"`
	// PartitionBy is none, day or hour, of TimeColumn: a top-level timestamp, or an int64
	// of milliseconds as OCSF has it.
	PartitionBy pipeline.PartitionBy `yaml:"partition_by"`
	TimeColumn  string               `yaml:"time_column"`
	// SortBy orders the rows of a file, ascending, nulls first. Dots lead into structs.
	SortBy []string `yaml:"sort_by"`
	// CompleteAfter says when a partition is complete, in ticks: no row whose TimeColumn is t
	// comes once the mark has passed t + CompleteAfter. Negative: never. It is computed by
	// whoever knows where the rows come from.
	CompleteAfter int64 `yaml:"-"`
	// Codec is zstd, snappy or none.
	Codec string `yaml:"codec"`
	// RowGroupRows is the number of rows of a row group, at most MaxRowGroupRows.
	RowGroupRows int `yaml:"row_group_rows"`
	// Verify is full or footer.
	Verify Verify `yaml:"verify"`
	// MaxStageRows and MaxStageBytes bound what an epoch keeps in memory: at either, the
	// rows so far are written to files and sorting starts anew. Bytes are those of the
	// Arrow buffers.
	MaxStageRows  int   `yaml:"max_stage_rows"`
	MaxStageBytes int64 `yaml:"max_stage_bytes"`
}

// DefaultConfig is what a configuration file is decoded onto.
func DefaultConfig() Config {
	return Config{
		PartitionBy:   pipeline.PartitionHour,
		TimeColumn:    "time",
		CompleteAfter: -1,
		Codec:         "zstd",
		RowGroupRows:  262144,
		Verify:        VerifyFull,
		MaxStageRows:  1_000_000,
		MaxStageBytes: 512 << 20,
	}
}

// Validate returns all problems of the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Job == "" {
		bad("job: name missing")
	}
	if c.Table == "" {
		bad("table: name the folder of the table")
	}
	for part := range strings.SplitSeq(c.Table, "/") {
		if c.Table != "" && part == "" || strings.HasPrefix(part, "_") || strings.HasPrefix(part, ".") {
			bad("table %q: no level may be empty or begin with _ or a dot, readers do not look there", c.Table)
			break
		}
	}
	switch {
	case c.Layout != LayoutHive && c.Layout != LayoutLake:
		bad("layout %q: want %s, or leave it out", c.Layout, LayoutLake)
	case c.Layout == LayoutLake && c.Lake == nil:
		bad("security_lake: name source, region and account")
	case c.Layout == LayoutLake:
		if err := c.Lake.Validate(); err != nil {
			bad("security_lake: %w", err)
		}
	case c.Lake != nil:
		bad("security_lake: set layout: %s with it", LayoutLake)
	}
	switch c.PartitionBy {
	case pipeline.PartitionNone:
	case pipeline.PartitionDay, pipeline.PartitionHour:
		if c.TimeColumn == "" {
			bad("time_column: name the column to partition by %s, or set partition_by: none", c.PartitionBy)
		}
	default:
		bad("partition_by %q: want none, day or hour", c.PartitionBy)
	}
	if _, err := codecOf(c.Codec); err != nil {
		errs = append(errs, err)
	}
	if c.RowGroupRows < 1 || c.RowGroupRows > MaxRowGroupRows {
		bad("row_group_rows %d: want 1 to %d", c.RowGroupRows, MaxRowGroupRows)
	}
	if c.Verify != VerifyFull && c.Verify != VerifyFooter {
		bad("verify %q: want %s or %s", c.Verify, VerifyFull, VerifyFooter)
	}
	if c.MaxStageRows < 1 {
		bad("max_stage_rows %d: want at least 1", c.MaxStageRows)
	}
	if c.MaxStageBytes < 1 {
		bad("max_stage_bytes %d: want at least 1", c.MaxStageBytes)
	}
	return errors.Join(errs...)
}

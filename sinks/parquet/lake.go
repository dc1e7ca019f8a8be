package parquet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Layout says where the files of a table lie and what is in them beside its columns.
type Layout string

const (
	// LayoutHive is <table>/dt=YYYY-MM-DD/hour=HH/, with columns of the sink.
	LayoutHive Layout = ""
	// LayoutLake is that of a custom source of Amazon Security Lake:
	// ext/<source>/region=<region>/accountId=<account>/eventDay=<YYYYMMDD>/. Files have the
	// columns of the event and no others, nothing but files lies below ext/, and rows are in
	// the order of their time.
	LayoutLake Layout = "security_lake"
)

// Lake is what the layout security_lake needs to know.
type Lake struct {
	// Source is the name that the custom source was registered with. A source has events of
	// one class.
	Source string `yaml:"source"`
	// Region is the one of the bucket.
	Region string `yaml:"region"`
	// Account is that of all events: twelve digits, external, or external_<name>. Or else
	// AccountColumn names the column that has it, with dots through structs: cloud.account.uid.
	// What is no account there goes to external_<value>, null to external.
	Account       string `yaml:"account"`
	AccountColumn string `yaml:"account_column"`
	// Roll is how far the merged mark goes on before the rows that came meanwhile become
	// files; RollBytes is how much they may take, compressed, before that. With a Roll of 0
	// every checkpoint makes files.
	Roll      time.Duration `yaml:"roll"`
	RollBytes int64         `yaml:"roll_bytes"`
}

// SetDefaults sets what a configuration file is decoded onto.
func (l *Lake) SetDefaults() { *l = Lake{Roll: 5 * time.Minute, RollBytes: 256 << 20} }

// maxSource is how long the name of a custom source may be: the name of its role has it, and
// that of the region.
const maxSource = 20

// lakeTime is the column of the eventDay.
const lakeTime = "time"

// Validate returns all problems.
func (l *Lake) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(l.Source) > maxSource || !isName(l.Source) || strings.HasPrefix(l.Source, ".") || strings.HasPrefix(l.Source, "_") {
		bad("source %q: want the name of the custom source: up to %d letters, digits, hyphens, dots and underscores", l.Source, maxSource)
	}
	if !isName(l.Region) || strings.Trim(l.Region, "._") != l.Region {
		bad("region %q: want that of the bucket, like eu-central-1", l.Region)
	}
	switch {
	case (l.Account == "") == (l.AccountColumn == ""):
		bad("account: name an account, or a column in account_column, and not both")
	case l.Account != "" && accountSegment(l.Account) != l.Account && !isExternal(l.Account):
		bad("account %q: want twelve digits, external or external_<name>", l.Account)
	}
	if l.Roll < 0 {
		bad("roll %v: want 0 or more", l.Roll)
	}
	if l.RollBytes < 1 {
		bad("roll_bytes %d: want at least 1", l.RollBytes)
	}
	return errors.Join(errs...)
}

// isName tells whether s has letters, digits, hyphens, dots and underscores only.
func isName(s string) bool { return s != "" && segment("x"+s) == "x"+s }

func isExternal(account string) bool {
	name, ok := strings.CutPrefix(account, "external_")
	return account == "external" || ok && isName(name)
}

// accountSegment is the account of a path.
func accountSegment(account string) string {
	digits := len(account) == 12
	for _, c := range []byte(account) {
		digits = digits && '0' <= c && c <= '9'
	}
	switch {
	case digits:
		return account
	case account == "":
		return "external"
	}
	return "external_" + segment(account)
}

// LakeEvents is what is known of the events that go to a source.
type LakeEvents struct {
	Source  string
	Version string // of OCSF
	Class   int64
}

// CheckLake tells what Security Lake does not take of the events of a job's sinks: versions
// above 1.3, and more than one class in a source. All problems come joined.
func CheckLake(all []LakeEvents) error {
	var errs []error
	class := map[string]int64{}
	for _, e := range all {
		if !lakeTakes(e.Version) {
			errs = append(errs, fmt.Errorf("source %s: OCSF %s: Security Lake takes custom sources of OCSF 1.3 and earlier: set the version of normalize to 1.3.0", e.Source, e.Version))
		}
		if first, ok := class[e.Source]; ok && first != e.Class {
			errs = append(errs, fmt.Errorf("source %s: has events of class %d and of class %d: Security Lake takes one class a source: register a source for each, and give each a sink", e.Source, first, e.Class))
			continue
		}
		class[e.Source] = e.Class
	}
	return errors.Join(errs...)
}

// lakeTakes compares the first two numbers of a version with 1.3.
func lakeTakes(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(major)
	y, errY := strconv.Atoi(minor)
	return errX == nil && errY == nil && (x < 1 || x == 1 && y <= 3)
}

// Beside returns the configuration of a table that is none of events: late rows, dead
// records. In the layout security_lake, where they have no place, it is one of the other
// layout, in the same store.
func (c Config) Beside(table string) Config {
	if c.Layout == LayoutLake {
		c.Layout, c.Lake, c.PartitionBy = LayoutHive, nil, pipeline.PartitionDay
	}
	c.Table = table
	return c
}

// OfClass returns the configuration of the table of one class, where a job makes events of
// several: the name is added to the table, the class_uid to the source, whose name is short.
func (c Config) OfClass(name string, uid int64) Config {
	c.Table += "_" + name
	if c.Lake != nil {
		lake := *c.Lake
		lake.Source = fmt.Sprintf("%s_%d", lake.Source, uid)
		c.Lake = &lake
	}
	return c
}

// laid is the configuration with what its layout decides.
func (c Config) laid() Config {
	if c.Layout != LayoutLake {
		return c
	}
	c.PartitionBy, c.TimeColumn, c.CompleteAfter = pipeline.PartitionDay, lakeTime, -1
	c.SortBy = slices.DeleteFunc(slices.Clone(c.SortBy), func(k string) bool { return k == lakeTime })
	c.SortBy = slices.Insert(c.SortBy, 0, lakeTime)
	return c
}

// order is that of the rows of an epoch: those of a file stand together.
func (c Config) order() pipeline.RowOrder {
	o := pipeline.RowOrder{By: c.PartitionBy, TimeColumn: c.TimeColumn, Keys: c.SortBy}
	if c.Layout == LayoutLake && c.Lake.AccountColumn != "" {
		o.Keys = slices.Insert(slices.Clone(o.Keys), 0, c.Lake.AccountColumn)
	}
	return o
}

// root is the folder of all files.
func (c Config) root() string {
	if c.Layout == LayoutLake {
		return "ext/" + c.Lake.Source + "/region=" + c.Lake.Region
	}
	return folder(c.Table)
}

// place is the folder of a file below root.
func (c Config) place(partition int64, account string) string {
	if c.Layout != LayoutLake {
		return c.hivePath(partition)
	}
	day := ""
	switch partition {
	case pipeline.NullPartition:
		day = "__null__"
	case pipeline.EarlyPartition, pipeline.FarPartition:
		day = "__far__"
	default:
		day = c.PartitionBy.Start(partition).Format("20060102")
	}
	return "accountId=" + account + "/eventDay=" + day
}

// checkLake tells what keeps a schema from being one of events.
func checkLake(schema *arrow.Schema, cfg Config) error {
	at := schema.FieldIndices(lakeTime)
	if len(at) != 1 || schema.Field(at[0]).Type.ID() != arrow.INT64 {
		return fmt.Errorf("layout security_lake: column %s, int64 milliseconds, is not there: it takes OCSF events: set normalize to ocsf", lakeTime)
	}
	if cfg.Lake.AccountColumn == "" {
		return nil
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	empty := b.NewRecordBatch()
	defer empty.Release()
	_, err := cfg.accounts([]arrow.RecordBatch{empty})
	return err
}

// accounts returns how to read the account of a row, as it is in the path.
func (c Config) accounts(recs []arrow.RecordBatch) (func(r pipeline.RowRef) string, error) {
	if c.Layout != LayoutLake {
		return func(pipeline.RowRef) string { return "" }, nil
	}
	if c.Lake.Account != "" {
		return func(pipeline.RowRef) string { return c.Lake.Account }, nil
	}
	cols, nulls := make([]*array.String, len(recs)), make([][]arrow.Array, len(recs))
	for i, rec := range recs {
		col, above, err := pipeline.Descend(rec, c.Lake.AccountColumn)
		if err != nil {
			return nil, fmt.Errorf("security_lake.account_column %w", err)
		}
		text, ok := col.(*array.String)
		if !ok {
			return nil, fmt.Errorf("security_lake.account_column %q: type %s, want text", c.Lake.AccountColumn, col.DataType())
		}
		cols[i], nulls[i] = text, above
	}
	return func(r pipeline.RowRef) string {
		for _, a := range nulls[r.Rec] {
			if a.IsNull(int(r.Row)) {
				return accountSegment("")
			}
		}
		return accountSegment(cols[r.Rec].Value(int(r.Row)))
	}, nil
}

package pipelinetest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/pipeline"
)

// Row is one row of a test: text key, integer value, and a float where a test wants one.
type Row struct {
	Time   int64
	Key    string
	Value  int64
	Split  int32
	Offset int64
	Ingest int64
	Level  float64

	arrived int // the oracle's number for it
}

// RowSchema is the schema of Rows: the row columns, key and value.
func RowSchema() *arrow.Schema {
	return arrow.NewSchema(append(pipeline.RowFields(),
		arrow.Field{Name: "key", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "value", Type: arrow.PrimitiveTypes.Int64}), nil)
}

// WideSchema is RowSchema and level.
func WideSchema() *arrow.Schema {
	return arrow.NewSchema(append(RowSchema().Fields(), arrow.Field{Name: "level", Type: arrow.PrimitiveTypes.Float64}), nil)
}

// Record builds a record batch of RowSchema. The caller releases it.
func Record(mem memory.Allocator, rows []Row) arrow.RecordBatch {
	return record(mem, RowSchema(), rows)
}

// WideRecord builds a record batch of WideSchema. The caller releases it.
func WideRecord(mem memory.Allocator, rows []Row) arrow.RecordBatch {
	return record(mem, WideSchema(), rows)
}

func record(mem memory.Allocator, schema *arrow.Schema, rows []Row) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.Time))
		b.Field(1).(*array.Int32Builder).Append(r.Split)
		b.Field(2).(*array.Int64Builder).Append(r.Offset)
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(r.Ingest))
		b.Field(4).(*array.StringBuilder).Append(r.Key)
		b.Field(5).(*array.Int64Builder).Append(r.Value)
		if schema.NumFields() > 6 {
			b.Field(6).(*array.Float64Builder).Append(r.Level)
		}
	}
	return b.NewRecordBatch()
}

// Shared returns a folder of the data sets that lie beside the product, or skips the test
// with "absent: name"; with CI=true that is a failure. The place is $TIDEMARK_SHARED, by default ../shared beside go.mod.
func Shared(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TIDEMARK_SHARED")
	if dir == "" {
		root, err := moduleRoot()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(root, "..", "shared")
	}
	dir = filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("absent: %s", name)
		}
		t.Skipf("absent: %s", name)
	}
	return dir
}

// Golden returns the path of a golden file: in $TIDEMARK_GOLDEN, else in testdata. With
// the variable set a missing file is a failure.
func Golden(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("TIDEMARK_GOLDEN"); dir != "" {
		if !filepath.IsAbs(dir) {
			t.Fatalf("TIDEMARK_GOLDEN=%s: must be absolute", dir)
		}
		return filepath.Join(dir, name)
	}
	return filepath.Join("testdata", name)
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = up
	}
}

package parquet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"
)

// TestRead: values of files that others wrote, whatever their units.
func TestRead(t *testing.T) {
	type row struct {
		Micros int64    `parquet:"micros,timestamp(microsecond)"`
		Millis int64    `parquet:"millis,timestamp(millisecond)"`
		Nanos  int64    `parquet:"nanos,timestamp(nanosecond)"`
		Small  int32    `parquet:"small"`
		Float  float32  `parquet:"float"`
		Double *float64 `parquet:"double,optional"`
		Text   *string  `parquet:"text,optional"`
		Price  int64    `parquet:"price,decimal(2:9)"`
		Sure   bool     `parquet:"sure"`
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.parquet")
	two, b := 2.5, "b"
	rows := make([]row, 3000) // more than are read at once
	rows[0] = row{1, 2, 3000, 4, 5, &two, &b, 6, true}
	if err := pq.WriteFile(path, rows); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := Read(path, []string{"text", "micros", "millis", "nanos", "small", "float", "double", "none"}, func(values []any) error {
		if n++; n == 1 {
			if got := fmt.Sprintf("%v", values); got != "[b 1 2000 3 4 5 2.5 <nil>]" {
				t.Errorf("row 1: %s", got)
			}
		}
		if n == 2 && (values[0] != nil || values[6] != nil || values[1] != int64(0)) {
			t.Errorf("row 2: %v", values)
		}
		return nil
	})
	if err != nil || n != len(rows) {
		t.Errorf("%d rows, %v", n, err)
	}
	stop := errors.New("stop")
	bad := filepath.Join(dir, "bad.parquet")
	if err := os.WriteFile(bad, []byte("PAR1 and nothing else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, column, want string
	}{
		{path, "micros", "row 1: stop"}, {path, "price", "column price: is a decimal"}, {path, "sure", "row 1: column sure: is a BOOLEAN"},
		{bad, "x", bad}, {filepath.Join(dir, "none"), "x", "no such file"},
	} {
		err := Read(c.path, []string{c.column}, func([]any) error { return stop })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s: %v, want %s", c.column, c.path, err, c.want)
		}
	}
}

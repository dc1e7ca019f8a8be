package peers_test

import (
	"strings"
	"testing"

	"github.com/tidemark/tidemark/integration/peers"
)

func TestDuckDB(t *testing.T) {
	d, err := peers.NewDuckDB()
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Query(t.Context(), "SELECT to_json({a: 9007199254740993::BIGINT, b: ['x', NULL]}), 'a text', 1.5::DOUBLE, NULL UNION ALL SELECT '{}', '', 0, 7 ORDER BY 2 DESC")
	if want := "{\"a\":9007199254740993,\"b\":[\"x\",null]}\ta text\t1.5\tnull\n{}\t\t0\t7\n"; err != nil || out != want {
		t.Errorf("%v\n%q\nwant\n%q", err, out, want)
	}
	if _, err := d.Query(t.Context(), "SELECT nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a wrong statement: %v", err)
	}
}

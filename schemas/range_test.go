package schemas

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// TestDeclaredRange: a field with Bits takes the integers of its range, at its scale and
// after rounding, and refuses the next one on either side; its column says so.
func TestDeclaredRange(t *testing.T) {
	for _, c := range []struct {
		bits, scale    int
		takes, refuses []string
		want           []int64
	}{
		{1, 0, []string{"0", "-1"}, []string{"1", "-2"}, []int64{0, -1}},
		{8, 0, []string{"127", "-128", "127.4"}, []string{"128", "-129", "127.6", "1e30"}, []int64{127, -128, 127}},
		{16, 2, []string{"327.67", "-327.68", "327.674"}, []string{"327.68", "-327.69", "327.676"}, []int64{32767, -32768, 32767}},
		{64, 0, []string{"9223372036854775807", "-9223372036854775808"}, []string{"9223372036854775808"}, []int64{math.MaxInt64, math.MinInt64}},
		{0, 0, []string{"9223372036854775807"}, []string{"9223372036854775808"}, []int64{math.MaxInt64}},
	} {
		t.Run(fmt.Sprintf("%d bits, scale %d", c.bits, c.scale), func(t *testing.T) {
			d, err := NewDecoder([]Field{{Name: "v", Type: Int64, Bits: c.bits, Scale: c.scale, Path: "$.v"}}, DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := d.Fields()[0].Metadata.GetValue(BitsKey); ok != (c.bits > 0) || ok && v != fmt.Sprint(c.bits) {
				t.Errorf("the column declares %q", v)
			}
			for _, v := range c.refuses {
				var r *Refusal
				if err := d.Append([]byte(`{"v":` + v + `}`)); !errors.As(err, &r) || r.Reason != ReasonOutOfRange {
					t.Errorf("%s: %v, want %s", v, err, ReasonOutOfRange)
				} else if c.bits > 0 && !strings.Contains(r.Detail, fmt.Sprintf("beyond the %d bits at scale %d", c.bits, c.scale)) {
					t.Errorf("%s: %s", v, r.Detail)
				}
			}
			for _, v := range c.takes {
				if err := d.Append([]byte(`{"v":` + v + `}`)); err != nil {
					t.Fatalf("%s: %v", v, err)
				}
			}
			cols := d.Columns()
			defer release(cols)
			if got := cols[0].(*array.Int64).Int64Values(); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestRangeMistakes: a range that cannot be is named.
func TestRangeMistakes(t *testing.T) {
	_, err := NewDecoder([]Field{{Name: "a", Type: Float64, Bits: 8, Path: "$.a"}, {Name: "b", Type: Int64, Bits: 65, Path: "$.b"},
		{Name: "c", Type: Int64, Bits: -1, Path: "$.c"}}, DefaultLimits())
	for _, want := range []string{"8 bits on a float64: only int64 has a range", "65 bits: want 1 to 64", "-1 bits: want 1 to 64"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

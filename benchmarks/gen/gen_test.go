package gen

import (
	"encoding/json"
	"math"
	"testing"
)

// TestCheckValues compares the load with the values of the prototype that the plan was
// made with: within a tenth of a percent for counts, a twentieth of a point for shares.
func TestCheckValues(t *testing.T) {
	if testing.Short() {
		t.Skip("makes ten million events")
	}
	got := Default().Expect()
	near := func(name string, got, want, by float64) {
		if math.Abs(got-want) > by {
			t.Errorf("%s: %v, want %v within %v", name, got, want, by)
		}
	}
	near("events", float64(got.Events), 10_422_488, 10_422)
	near("rows", float64(got.Rows), 2_604_953, 2_604)
	near("reduction", float64(got.Events)/float64(got.Rows), 4, 0.01)
	share := func(n int64) float64 { return 100 * float64(n) / float64(got.Events) }
	near("behind the running maximum, %", share(got.Behind), 99.3, 0.1)
	near("more than 120 s behind, %", share(got.FarBehind), 1.74, 0.05)
	near("in windows already closable, %", share(got.Closable), 1.69, 0.05)
	t.Logf("%+v", got)
}

// TestEach: in order of arrival, each event once, valid JSON of the length promised.
func TestEach(t *testing.T) {
	c := Default()
	c.Devices, c.Rate, c.Seconds = 2000, 300, 400
	last, n, size := int64(0), 0, 0
	seen := map[[2]int64]bool{}
	err := c.Each(func(es []Event) error {
		for _, e := range es {
			if e.Arrive < last {
				t.Fatalf("event %d arrives at %d after %d", n, e.Arrive, last)
			}
			last = e.Arrive
			at := [2]int64{int64(e.Device), e.TS}
			if seen[at] {
				t.Fatalf("event %v comes twice", at)
			}
			seen[at] = true
			b := e.JSON(nil)
			if !json.Valid(b) {
				t.Fatalf("%s", b)
			}
			size += len(b)
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Straight from the pings, without the wheel.
	want := 0
	for d := range int32(c.Devices) {
		for k := int64(0); k*c.period() < int64(c.Seconds)*1000; k++ {
			c.ping(d, k, func(Event) { want++ })
		}
	}
	if n != want {
		t.Errorf("%d events, want %d", n, want)
	}
	if mean := size / n; mean < 100 || mean > 120 {
		t.Errorf("events of %d bytes, want about 110", mean)
	}
}

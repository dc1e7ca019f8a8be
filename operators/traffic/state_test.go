package traffic_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/operators/traffic"
)

// TestDetectorState: a detector that is written and read at random slots goes on as if nothing had
// happened, to the bit.
func TestDetectorState(t *testing.T) {
	cfg := traffic.DefaultDetectorConfig()
	states, open := 0, 0
	for seed := range 12 {
		rng := rand.New(rand.NewPCG(uint64(seed), 11))
		values := randomSeries(rng)
		plain, err := traffic.NewDetector(cfg, -7*slot)
		if err != nil {
			t.Fatal(err)
		}
		again, err := traffic.NewDetector(cfg, -7*slot)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			want, wantClosed := plain.Add(v)
			got, closed := again.Add(v)
			if closed != wantClosed || !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, slot %d: %+v, want %+v", seed, i, got, want)
			}
			if rng.IntN(60) > 0 {
				continue
			}
			b := again.Append(nil)
			if again, err = traffic.ReadDetector(cfg, b); err != nil {
				t.Fatalf("seed %d, slot %d: %v", seed, i, err)
			}
			if !bytes.Equal(again.Append(nil), plain.Append(nil)) {
				t.Fatalf("seed %d, slot %d: the states differ", seed, i)
			}
			states++
			if _, is := again.Open(); is {
				open++
			}
		}
	}
	if states < 100 || open < 5 {
		t.Errorf("%d states, %d of them with an event that is open: the test proves little", states, open)
	}
}

// TestDetectorStateSize: volumes that are whole take a few bytes a slot.
func TestDetectorStateSize(t *testing.T) {
	d, err := traffic.NewDetector(traffic.DefaultDetectorConfig(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range week(30 * day) {
		d.Add(100 * v)
	}
	if n := len(d.Append(nil)); n > 10_000 {
		t.Errorf("%d bytes", n)
	}
}

func TestReadDetector(t *testing.T) {
	cfg := traffic.DefaultDetectorConfig()
	for want, b := range map[string][]byte{
		"ends too soon": {},
		"version 9: this program reads 1; run the one that wrote it": {9},
		"flags: impossible":                             {1, 255},
		"a verdict before there can be one: impossible": append([]byte{1, 1, 0, 0}, make([]byte, 8)...),
		"bytes behind it: impossible":                   append([]byte{1, 0, 0, 0}, make([]byte, 9)...),
	} {
		if _, err := traffic.ReadDetector(cfg, b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", b, err, want)
		}
	}
}

// FuzzReadDetector: a state that was ruined is refused, or is one that can go on.
func FuzzReadDetector(f *testing.F) {
	cfg := traffic.DefaultDetectorConfig()
	for _, factor := range []float64{1, 0.1} {
		d, err := traffic.NewDetector(cfg, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(d.Append(nil))
		vs := week(30 * day)
		scale(vs, 29*day+50, 8, factor)
		for _, v := range vs[:29*day+60] {
			d.Add(v)
		}
		f.Add(d.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := traffic.ReadDetector(cfg, b)
		if err != nil {
			return
		}
		if _, err := traffic.ReadDetector(cfg, d.Append(nil)); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		for range 200 {
			d.Add(5)
		}
		d.Judge(d.Next()-100*slot, d.Next(), traffic.FalsePositive)
		d.Add(7)
	})
}

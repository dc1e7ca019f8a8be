package pipeline

import (
	"math"
	"testing"
)

func TestVersionOrder(t *testing.T) {
	// Every line is larger than the one above: lineage first, then epoch, then revision.
	steps := []struct {
		lineage  uint16
		epoch    int64
		revision int32
	}{
		{0, 0, 0}, {0, 0, 1}, {0, 0, math.MaxUint16}, {0, 1, 0}, {0, math.MaxUint32, math.MaxUint16},
		{1, 0, 0}, {math.MaxUint16, math.MaxUint32, math.MaxUint16},
	}
	last := uint64(0)
	for i, s := range steps {
		v, err := Version(s.lineage, s.epoch, s.revision)
		if err != nil {
			t.Fatalf("Version(%v): %v", s, err)
		}
		if i > 0 && v <= last {
			t.Errorf("Version(%v) = %d, not above %d", s, v, last)
		}
		last = v
	}
	if last != math.MaxUint64 {
		t.Errorf("largest version = %x", last)
	}
	if v, _ := Version(2, 3, 4); v != 2<<48|3<<16|4 {
		t.Errorf("Version(2,3,4) = %x", v)
	}
}

func TestVersionOverflow(t *testing.T) {
	for _, c := range []struct {
		epoch    int64
		revision int32
	}{{-1, 0}, {math.MaxUint32 + 1, 0}, {0, -1}, {0, math.MaxUint16 + 1}} {
		if v, err := Version(1, c.epoch, c.revision); err == nil {
			t.Errorf("Version(1, %d, %d) = %d, want an error", c.epoch, c.revision, v)
		}
	}
}

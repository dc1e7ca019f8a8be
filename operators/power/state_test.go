package power_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/tidemark/tidemark/operators/power"
)

// busy is a group with something in every part of its state.
func busy(t *testing.T) *power.Group {
	t.Helper()
	s := newSite(t, rack(t, nil), nil)
	for m := range 200 {
		at := time.Duration(m) * time.Minute
		s.read(branches(at, "A", 4300, 100, 3400) + branches(at, "B", 1, 1, 1) + fmt.Sprintf("%v A unit - kwh_total=%d\n%v A branch B7 a=21", at, m, at))
	}
	return s.groups[s.inv.Key("A")]
}

// TestState: what is read is what was written, and writes the same again.
func TestState(t *testing.T) {
	g := busy(t)
	b := power.AppendGroup([]byte("before"), g)[len("before"):]
	var back power.Group
	if err := power.ReadGroup(b, &back); err != nil {
		t.Fatal(err)
	}
	if again := power.AppendGroup(nil, &back); !bytes.Equal(again, b) {
		t.Errorf("%d bytes, then %d others", len(b), len(again))
	}
	if len(back.Members) != 2 || len(back.Members[0].Banks) != 1 || !back.Members[0].Branch[0].Open || !back.Members[0].Redundancy.Open || len(back.Members[0].Instant.Samples) != 5 {
		t.Errorf("%+v", back)
	}
	for n := range len(b) {
		var g power.Group
		if err := power.ReadGroup(b[:n], &g); err == nil {
			t.Fatalf("the first %d bytes of %d were taken", n, len(b))
		} else if !reflect.DeepEqual(g, power.Group{}) {
			t.Fatalf("%d bytes leave something behind", n)
		}
	}
	if err := power.ReadGroup(append(bytes.Clone(b), 0), &power.Group{}); err == nil {
		t.Error("bytes behind the end were taken")
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 20_000 {
		bad := bytes.Clone(b)
		for range 1 + rng.IntN(4) {
			bad[rng.IntN(len(bad))] = byte(rng.Uint32())
		}
		var g power.Group
		if power.ReadGroup(bad, &g) == nil && len(power.AppendGroup(nil, &g)) > 2*len(bad) {
			t.Fatal("damaged bytes made a state out of nothing")
		}
	}
}

// TestStateWithoutTimes: alarms of a state of version 1 have been read when their PDU was.
func TestStateWithoutTimes(t *testing.T) {
	g := &power.Group{Members: []power.Member{{ID: "a", Heard: 7, Imbalance: power.Alarm{Open: true, Since: 1, Made: 2, At: 7, Highest: 20}}}}
	now := power.AppendGroup(nil, g)
	made, at := byte(2<<1), byte(7<<1)
	old := bytes.Replace(now, []byte{made, at}, []byte{made}, 1)
	old[0] = 1
	var back power.Group
	if err := power.ReadGroup(old, &back); err != nil || len(old) != len(now)-1 {
		t.Fatalf("%d bytes of %d: %v", len(old), len(now), err)
	}
	if again := power.AppendGroup(nil, &back); !bytes.Equal(again, now) {
		t.Errorf("%+v", back)
	}
}

// FuzzReadGroup: no bytes panic or take much memory, and what is read writes itself.
func FuzzReadGroup(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0})
	f.Add(power.AppendGroup(nil, &power.Group{Members: []power.Member{{ID: "a", Pending: true, Instant: power.Instant{Samples: []power.Sample{power.NewSample("line", "L1")}}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g power.Group
		if power.ReadGroup(b, &g) != nil {
			return
		}
		first := power.AppendGroup(nil, &g)
		var again power.Group
		if err := power.ReadGroup(first, &again); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		if second := power.AppendGroup(nil, &again); !bytes.Equal(first, second) {
			t.Fatal("written twice, it differs")
		}
	})
}

// TestStateFlat: over 30 days the state of a PDU stays as large as it was after a day, even when
// its breakers have other names every time.
func TestStateFlat(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	s := newSite(t, rack(t, nil), nil)
	day, largest := 0, 0
	for at := time.Duration(0); at < 30*24*time.Hour; at += 5 * time.Minute {
		w := func() float64 { return 1000 + 3500*rng.Float64() }
		s.read(branches(at, "A", w(), w(), w()) + branches(at, "B", w(), w(), w()) + fmt.Sprintf("%v A branch B%d a=%v\n%v A unit - kwh_total=%v", at, at/time.Minute, 19*rng.Float64(), at, at.Hours()))
		size := len(power.AppendGroup(nil, s.groups[s.inv.Key("A")]))
		if largest = max(largest, size); at == 24*time.Hour {
			day = largest
		}
		s.judge.Reports, s.judge.Findings = s.judge.Reports[:0], s.judge.Findings[:0]
	}
	t.Logf("%d bytes after a day, %d at most in 30", day, largest)
	if float64(largest) > 1.1*float64(day) || largest > 4096 {
		t.Errorf("%d bytes after a day, %d at most", day, largest)
	}
}

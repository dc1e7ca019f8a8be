package assets_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tidemark/tidemark/operators/assets"
)

// livedStates are states of cages at some time of their lives.
func livedStates(t testing.TB) (*assets.Machine, []*assets.Asset) {
	m, err := assets.NewMachine(assets.DefaultConfig(), town(t), rowSchema(), memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	j := &tagJob{mem: memory.DefaultAllocator}
	var out []*assets.Asset
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		rows := life(rng, "RC-000", 1_772_434_800*second, 5)
		rec := j.record(rows)
		s := &assets.Asset{}
		for i := range 1 + rng.IntN(len(rows)) {
			m.Row("RC-000", s, rec, i)
		}
		out = append(out, s)
	}
	return m, out
}

// TestCodec: a state that is read is the one that was written, and one that is cut is an error.
func TestCodec(t *testing.T) {
	m, states := livedStates(t)
	for i, s := range states {
		b := assets.Append(nil, s)
		var back assets.Asset
		if err := m.Read(b, &back); err != nil {
			t.Fatalf("state %d: %v", i, err)
		}
		if again := assets.Append(nil, &back); !bytes.Equal(again, b) {
			t.Errorf("state %d: %x was read as %x", i, b, again)
		}
		for n := range len(b) {
			if err := m.Read(b[:n], &assets.Asset{}); err == nil {
				t.Fatalf("state %d: %d of %d bytes are read as if they were all", i, n, len(b))
			}
		}
		if err := m.Read(append(b, 0), &assets.Asset{}); err == nil || !strings.Contains(err.Error(), "1 bytes too many") {
			t.Errorf("state %d: %v, want a byte too many", i, err)
		}
	}
	if err := m.Read([]byte{9}, &assets.Asset{}); err == nil || !strings.Contains(err.Error(), "version 9: want 1 to 2") {
		t.Errorf("%v, want another version", err)
	}
}

// TestCodecFences: a visit goes on in the fence of the same id; one of a fence that is gone is forgotten.
func TestCodecFences(t *testing.T) {
	cfg := assets.DefaultConfig()
	set := func(ids ...string) *assets.Fences {
		var all []assets.Fence
		for _, id := range ids {
			all = append(all, assets.Fence{ID: id, Center: depot, Radius: 100 + float64(len(all))})
		}
		fences, err := assets.NewFences(all, 50)
		if err != nil {
			t.Fatal(err)
		}
		return fences
	}
	var told silent
	f := &assets.Follower{Config: cfg, World: assets.World{Fences: set("a", "b")}, To: &told}
	var s assets.Asset
	see := func(s *assets.Asset, at int64) {
		d := assets.Detection{HasTime: true, Fix: assets.Fix{Position: depot, Accuracy: 5}, HasFix: true}
		d.At, d.Ingest, d.Seq, d.HasSeq = at*second, at*second, uint8(at/60), true
		f.Detect("x", s, &d)
	}
	see(&s, 1_700_000_000)
	see(&s, 1_700_000_060)
	if told.events != 2 {
		t.Fatalf("%d events, want two enters", told.events)
	}
	b := assets.Append(nil, &s)
	f.World.Fences = set("new", "b")
	var back assets.Asset
	if err := f.Read(b, &back); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*assets.Asset{"restored": &back, "gone on": &s} {
		told = silent{}
		see(s, 1_700_000_120)
		see(s, 1_700_000_180)
		if site, ok := f.Site(s); !ok || site != "new" { // it is the smaller one
			t.Errorf("%s: in %s", name, site)
		}
		if told.geofence != 1 {
			t.Errorf("%s: %d events of fences, want one: it is still in b", name, told.geofence)
		}
	}
}

// FuzzRead: whatever the bytes, reading them ends with a state or an error.
func FuzzRead(f *testing.F) {
	m, states := livedStates(f)
	for _, s := range states[:4] {
		f.Add(assets.Append(nil, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s assets.Asset
		if m.Read(b, &s) == nil {
			assets.Append(nil, &s)
		}
	})
}

// TestCodecOld: the first version had no quality of times.
func TestCodecOld(t *testing.T) {
	m, states := livedStates(t)
	for i, s := range states {
		b := assets.Append(nil, s)
		_, n := binary.Varint(b[1:]) // when it was seen; then whether it is known, then the quality
		old := append(slices.Clone(b[:n+2]), b[n+3:]...)
		old[0] = 1
		var back assets.Asset
		if err := m.Read(old, &back); err != nil {
			t.Fatalf("state %d: %v", i, err)
		}
		if again := assets.Append(nil, &back); !bytes.Equal(again, b) {
			t.Errorf("state %d: %x was read as %x", i, old, again)
		}
	}
}

package kafka

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark/tidemark/pipeline"
)

// TestLook reads parts of partitions, whatever the batches they are in, finds offsets by
// broker time, and says what is gone.
func TestLook(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, topic))
	for i := range int64(10) {
		c.write(1, 100*i, 100*i+100, codecs[int(i)%5])
	}
	l, err := Look(c.config())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	extents, err := l.Extents(t.Context())
	if err != nil || extents[0] != (Extent{}) || extents[1] != (Extent{0, 1000}) {
		t.Fatalf("extents %v, %v", extents, err)
	}
	read := func(from, to int64, most int) (got []int64) {
		t.Helper()
		err := l.Read(t.Context(), 1, from, to, func(w *pipeline.Wire) (bool, error) {
			got = append(got, w.Offset...)
			for i, o := range w.Offset {
				if want := rec(1, o); o%4 != 0 && string(w.Value(i)) == "" || w.Ingest[i] != (t0+o)*1000 {
					t.Errorf("offset %d: value %q at %d, want %v", o, w.Value(i), w.Ingest[i], want.Time)
				}
			}
			return len(got) < most, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, r := range [][2]int64{{0, 1000}, {0, 1}, {150, 151}, {99, 101}, {950, 2000}, {5, 5}} {
		got := read(r[0], r[1], 1<<20)
		if want := max(0, min(r[1], 1000)-r[0]); int64(len(got)) != want || want > 0 && (got[0] != r[0] || !slices.IsSorted(got)) {
			t.Errorf("%v: %d offsets %v", r, len(got), got)
		}
	}
	if got := read(0, 1000, 1); len(got) == 0 || len(got) == 1000 {
		t.Errorf("%d records came after the end was asked for", len(got))
	}
	at, err := l.From(t.Context(), (t0+250)*1000)
	if err != nil || at[0] != 0 || at[1] != 250 {
		t.Errorf("offsets %v, %v, want 0 of the empty one and 250", at, err)
	}
	if at, err := l.From(t.Context(), (t0+5000)*1000); err != nil || at[1] != 1000 {
		t.Errorf("behind the last record: %v, %v", at, err)
	}
	err = l.Read(t.Context(), 1, 5000, 5001, func(*pipeline.Wire) (bool, error) { return true, nil })
	if !errors.Is(err, ErrAgedOut) {
		t.Errorf("an offset that is not there: %v", err)
	}
	if err := l.Read(t.Context(), 7, 0, 1, nil); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("a partition that is not there: %v", err)
	}
}

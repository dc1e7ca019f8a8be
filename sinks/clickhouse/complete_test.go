package clickhouse

import (
	"testing"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

func TestCompleteTo(t *testing.T) {
	const s = int64(1e6)
	for _, c := range []struct {
		name                string
		after, step, offset int64
		mark                int64
		want                *int64
	}{
		{"nobody knows", -1, 0, 0, 100 * s, nil},
		{"no row yet", 10 * s, 10 * s, 0, pipeline.MinTicks, nil},
		{"the tick before the first window ends", 10 * s, 10 * s, 0, 10*s - 2, new(int64(0))},
		{"the first window ends", 10 * s, 10 * s, 0, 10*s - 1, new(10 * s)},
		{"lateness", 15 * s, 10 * s, 0, 10*s - 1, new(int64(0))},
		{"lateness is over", 15 * s, 10 * s, 0, 15*s - 1, new(10 * s)},
		{"offset", 10 * s, 10 * s, 3 * s, 13*s - 1, new(13 * s)},
		{"negative times", 10 * s, 10 * s, 0, -10*s - 1, new(-10 * s)},
		{"no grid: the row that starts at 0 is there", 10 * s, 0, 0, 10*s - 1, new(int64(1))},
		{"ended", 10 * s, 10 * s, 0, pipeline.MaxTicks, new(int64(maxTime64))},
		{"before DateTime64 begins", 10 * s, 10 * s, 0, pipeline.MinTicks + 5, new(int64(minTime64))},
	} {
		cfg := testConfig()
		cfg.CompleteAfter, cfg.CompleteStep, cfg.CompleteOffset = c.after, c.step, c.offset
		got := cfg.completeTo(c.mark)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %v, want %v", c.name, shown(got), shown(c.want))
		}
	}
}

// prepared is the receipt of an epoch that ends with a mark, with or without rows.
func prepared(t *testing.T, r *rig, n, mark int64, rows int) pipeline.Receipt {
	t.Helper()
	st, err := r.sink.Begin(t.Context(), pipeline.Epoch{Job: r.cfg.Job, Lineage: 3, N: n})
	if err != nil {
		t.Fatal(err)
	}
	if rows > 0 {
		rec := readingBatch(r.mem, readings(n, rows))
		defer rec.Release()
		if err := st.Write(t.Context(), pipeline.Result(rec)); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := st.Prepare(t.Context(), pipeline.Mark{Event: mark})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestEmptyEpochs: one without rows is told when its mark rose, once in CommitEvery.
func TestEmptyEpochs(t *testing.T) {
	r := newRig(t, func(c *Config) { c.CompleteAfter, c.CompleteStep = 10, 10 })
	clock := time.Unix(1000, 0)
	r.sink.now = func() time.Time { return clock }
	for _, c := range []struct {
		epoch, mark int64
		later       time.Duration
		rows        int
		want        bool
	}{
		{2, 1000, 0, 40, true},
		{3, 2000, 59 * time.Second, 0, false}, // too soon
		{4, 2000, time.Second, 0, true},
		{5, 2000, time.Hour, 0, false}, // the mark stands
		{6, 2999, 0, 0, true},
		{7, 3000, time.Second, 5, true}, // rows always
		{8, pipeline.MaxTicks, 0, 0, true},
		{9, pipeline.MaxTicks, time.Hour, 0, false},
	} {
		clock = clock.Add(c.later)
		raw := prepared(t, r, c.epoch, c.mark, c.rows)
		if (raw != nil) != c.want {
			t.Fatalf("epoch %d: receipt %s", c.epoch, raw)
		}
		for range 2 { // the second time as after a crash
			if err := r.sink.Publish(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []int64
	for _, c := range r.model.commits {
		got = append(got, c.epoch, *c.watermark, *c.completeTo, int64(c.blocks))
	}
	want := []int64{2, 1000, 1000, 6, 4, 2000, 2000, 0, 6, 2999, 3000, 0, 7, 3000, 3000, 3, 8, maxTime64, maxTime64, 0}
	if shown(got) != shown(want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
}

// TestOldReceipt: a receipt of the first format is published by this version.
func TestOldReceipt(t *testing.T) {
	r := newRig(t, nil)
	rc, err := r.sink.open(r.raw)
	if err != nil {
		t.Fatal(err)
	}
	rc.Format, rc.Watermark = 1, nil
	raw := encode(t, rc)
	if err := r.sink.Publish(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	r.wantRows(t, 40)
	rc.Format = receiptFormat + 1
	if err := r.sink.Publish(t.Context(), encode(t, rc)); err == nil {
		t.Error("a receipt of a later format was taken")
	}
}

package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark/tidemark/pipeline"
)

// largeObject is larger than one part of an upload of a store that has such.
const largeObject = 21<<20 + 17

// StorePlace is where a store under test keeps its objects: empty at first, and apart from
// any other. Every call opens it anew, as another process would.
type StorePlace func() (pipeline.Store, error)

// TestStore proves that a store keeps the contract of pipeline.Store.
func TestStore(t *testing.T, place func(t *testing.T) StorePlace) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, open func() pipeline.Store)
	}{
		{"Puts", storePuts},
		{"Streams", storeStreams},
		{"LargeStream", storeLargeStream},
		{"Links", storeLinks},
		{"Ranges", storeRanges},
		{"Listings", storeListings},
		{"Pages", storePages},
		{"Names", storeNames},
		{"Race", storeRace},
		{"Cancel", storeCancel},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := place(t)
			c.run(t, func() pipeline.Store {
				t.Helper()
				s, err := p()
				if err != nil {
					t.Fatalf("open: %v", err)
				}
				return s
			})
		})
	}
}

func storeContent(t *testing.T, s pipeline.Store, name string) string {
	t.Helper()
	b, err := s.GetRange(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

func storeList(t *testing.T, s pipeline.Store, prefix string) string {
	t.Helper()
	objects, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var names []string
	for _, o := range objects {
		names = append(names, o.Name)
	}
	return strings.Join(names, " ")
}

func storePuts(t *testing.T, open func() pipeline.Store) {
	ctx, s := t.Context(), open()
	if err := s.PutIfAbsent(ctx, "a/b/one", []byte("1")); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"x", "1", ""} { // the same content is no excuse
		if err := s.PutIfAbsent(ctx, "a/b/one", []byte(body)); !errors.Is(err, pipeline.ErrExists) {
			t.Errorf("PutIfAbsent of %q onto an object = %v, want ErrExists", body, err)
		}
	}
	if got := storeContent(t, open(), "a/b/one"); got != "1" {
		t.Errorf("content after refused puts = %q", got)
	}
	for _, body := range []string{"one", "", "longer than before"} {
		if err := s.Put(ctx, "a/b/one", []byte(body)); err != nil {
			t.Fatal(err)
		}
		if got := storeContent(t, open(), "a/b/one"); got != body {
			t.Errorf("content after Put = %q, want %q", got, body)
		}
	}
	for range 2 {
		if err := s.Delete(ctx, "a/b/one"); err != nil {
			t.Errorf("Delete = %v", err)
		}
	}
	if _, err := open().GetRange(ctx, "a/b/one", 0, -1); !errors.Is(err, pipeline.ErrNotExist) {
		t.Errorf("read of a deleted object = %v, want ErrNotExist", err)
	}
	if err := s.PutIfAbsent(ctx, "a/b/one", nil); err != nil {
		t.Errorf("PutIfAbsent after Delete = %v", err)
	}
}

func storeStreams(t *testing.T, open func() pipeline.Store) {
	ctx, s := t.Context(), open()
	create := func(name string) pipeline.StoreWriter {
		t.Helper()
		w, err := s.Create(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := create("a/stream")
	for _, p := range []string{"first ", "", "second"} {
		if n, err := io.WriteString(w, p); n != len(p) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", p, n, err)
		}
	}
	if _, err := s.GetRange(ctx, "a/stream", 0, -1); !errors.Is(err, pipeline.ErrNotExist) {
		t.Errorf("read before Commit = %v, want ErrNotExist", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit = %v", err)
	}
	if got := storeContent(t, open(), "a/stream"); got != "first second" {
		t.Errorf("stream = %q", got)
	}
	if err := w.Commit(); err == nil {
		t.Error("second Commit returned nil")
	}
	if _, err := io.WriteString(w, "x"); err == nil {
		t.Error("Write after Commit returned nil")
	}
	dropped, over, empty := create("a/dropped"), create("a/stream"), create("a/empty")
	fmt.Fprint(dropped, "gone")
	if err := dropped.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := dropped.Commit(); err == nil {
		t.Error("Commit after Abort returned nil")
	}
	if _, err := io.WriteString(dropped, "x"); err == nil {
		t.Error("Write after Abort returned nil")
	}
	fmt.Fprint(over, "other")
	if err := errors.Join(over.Commit(), empty.Commit()); err != nil {
		t.Fatal(err)
	}
	if got := storeContent(t, open(), "a/stream") + "|" + storeContent(t, s, "a/empty"); got != "other|" {
		t.Errorf("stream over an object, and an empty one: %q", got)
	}
	if got := storeList(t, s, ""); got != "a/empty a/stream" {
		t.Errorf("objects: %s", got)
	}
}

// largeContent is bytes whose order matters.
func largeContent() []byte {
	rng := rand.NewChaCha8([32]byte{1})
	b := make([]byte, largeObject)
	_, _ = rng.Read(b) // never fails
	return b
}

func storeLargeStream(t *testing.T, open func() pipeline.Store) {
	ctx, s, want := t.Context(), open(), largeContent()
	write := func(name string, step int) pipeline.StoreWriter {
		t.Helper()
		w, err := s.Create(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for b := range slices.Chunk(want, step) {
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		return w
	}
	dropped := write("large", 1<<20)
	if got := storeList(t, open(), ""); got != "" {
		t.Errorf("visible before Commit: %s", got)
	}
	if err := dropped.Abort(); err != nil {
		t.Errorf("Abort = %v", err)
	}
	for _, step := range []int{333_333, 8 << 20, len(want)} {
		if err := write("large", step).Commit(); err != nil {
			t.Fatal(err)
		}
		got, err := open().GetRange(ctx, "large", 0, -1)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("written by %d bytes: %d bytes, equal %t, %v", step, len(got), bytes.Equal(got, want), err)
		}
	}
	got, err := s.GetRange(ctx, "large", 9_999_999, 8<<20)
	if err != nil || !bytes.Equal(got, want[9_999_999:][:8<<20]) {
		t.Errorf("a range of it: %d bytes, %v", len(got), err)
	}
	for range 2 {
		if err := s.Link(ctx, "large", "dir+1/large copy=%2F"); err != nil && !errors.Is(err, pipeline.ErrExists) {
			t.Fatalf("Link = %v", err)
		}
		got, err = open().GetRange(ctx, "dir+1/large copy=%2F", 0, -1)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("linked: %d bytes, %v", len(got), err)
		}
	}
}

func storeLinks(t *testing.T, open func() pipeline.Store) {
	ctx, s := t.Context(), open()
	for name, body := range map[string]string{"a/from": "content", "other": "x"} {
		if err := s.Put(ctx, name, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Link(ctx, "a/from", "z/dt=1/hour=__null__/part-j%2F1.parquet"); err != nil {
		t.Fatal(err)
	}
	if err := s.Link(ctx, "other", "z/dt=1/hour=__null__/part-j%2F1.parquet"); !errors.Is(err, pipeline.ErrExists) {
		t.Errorf("Link onto an object = %v, want ErrExists", err)
	}
	if err := s.Link(ctx, "a/nothing", "z/other"); !errors.Is(err, pipeline.ErrNotExist) {
		t.Errorf("Link of nothing = %v, want ErrNotExist", err)
	}
	if err := s.Delete(ctx, "a/from"); err != nil {
		t.Fatal(err)
	}
	if got := storeContent(t, open(), "z/dt=1/hour=__null__/part-j%2F1.parquet"); got != "content" {
		t.Errorf("copy after the original went = %q", got)
	}
	if got := storeList(t, s, ""); got != "other z/dt=1/hour=__null__/part-j%2F1.parquet" {
		t.Errorf("objects: %s", got)
	}
}

func storeRanges(t *testing.T, open func() pipeline.Store) {
	s := open()
	if err := errors.Join(s.Put(t.Context(), "d/f", []byte("0123456789")), s.Put(t.Context(), "empty", nil)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off, n int64
		want   string
		err    error
	}{
		{0, -1, "0123456789", nil},
		{0, 10, "0123456789", nil},
		{3, 4, "3456", nil},
		{3, -1, "3456789", nil},
		{9, 1, "9", nil},
		{10, -1, "", nil},
		{10, 0, "", nil},
		{9, 2, "", io.ErrUnexpectedEOF},
		{10, 1, "", io.ErrUnexpectedEOF},
		{11, -1, "", io.ErrUnexpectedEOF},
		{11, 0, "", io.ErrUnexpectedEOF},
		{-1, 2, "", io.ErrUnexpectedEOF},
		{0, 1<<63 - 1, "", io.ErrUnexpectedEOF},
		{1, 1<<63 - 1, "", io.ErrUnexpectedEOF},
	} {
		got, err := s.GetRange(t.Context(), "d/f", c.off, c.n)
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("GetRange(%d, %d) = %q, %v; want %q, %v", c.off, c.n, got, err, c.want, c.err)
		}
	}
	if got, err := s.GetRange(t.Context(), "empty", 0, -1); len(got) > 0 || err != nil {
		t.Errorf("an empty object: %q, %v", got, err)
	}
	for _, absent := range []string{"g", "d", "d/f/below"} {
		for _, n := range []int64{-1, 0, 1} {
			if _, err := s.GetRange(t.Context(), absent, 0, n); !errors.Is(err, pipeline.ErrNotExist) {
				t.Errorf("GetRange(%s, 0, %d) = %v, want ErrNotExist", absent, n, err)
			}
		}
	}
}

func storeListings(t *testing.T, open func() pipeline.Store) {
	s := open()
	for _, n := range []string{"t/b", "t-1", "t/a/2", "t/a/10", "t/ab", "u"} {
		if err := s.Put(t.Context(), n, []byte(n)); err != nil {
			t.Fatal(err)
		}
	}
	s = open()
	for _, c := range []struct{ prefix, want string }{
		{"", "t-1 t/a/10 t/a/2 t/ab t/b u"}, // byte order of whole names: '-' is before '/'
		{"t", "t-1 t/a/10 t/a/2 t/ab t/b"},
		{"t/", "t/a/10 t/a/2 t/ab t/b"},
		{"t/a", "t/a/10 t/a/2 t/ab"},
		{"t/a/", "t/a/10 t/a/2"},
		{"t/a/1", "t/a/10"},
		{"none/", ""},
		{"u/below", ""},
	} {
		if got := storeList(t, s, c.prefix); got != c.want {
			t.Errorf("List(%q) = %s, want %s", c.prefix, got, c.want)
		}
	}
	objects, err := s.List(t.Context(), "t/a/")
	if err != nil || len(objects) != 2 || objects[0].Size != 6 || objects[1].Size != 5 {
		t.Errorf("List(t/a/) = %+v, %v", objects, err)
	}
}

// storePages lists more objects than a service gives in one answer.
func storePages(t *testing.T, open func() pipeline.Store) {
	const n = 1003
	s := open()
	var want []string
	for i := range n {
		name := fmt.Sprintf("log/%05d.json", i)
		want = append(want, name)
		if err := s.Put(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := storeList(t, open(), "log/"); got != strings.Join(want, " ") {
		t.Errorf("listed %d of %d", len(strings.Fields(got)), n)
	}
}

func storeNames(t *testing.T, open func() pipeline.Store) {
	ctx, s := t.Context(), open()
	for _, n := range []string{"", ".", "..", "../x", "a/../b", "/abs", "a//b", "a/", "./a", "a\x00b", ".tmp/1", ".tmpx", "bad\xff"} {
		_, createErr := s.Create(ctx, n)
		_, rangeErr := s.GetRange(ctx, n, 0, -1)
		for what, err := range map[string]error{
			"PutIfAbsent": s.PutIfAbsent(ctx, n, nil), "Put": s.Put(ctx, n, nil), "Delete": s.Delete(ctx, n),
			"Link from": s.Link(ctx, n, "ok"), "Link to": s.Link(ctx, "ok", n),
			"Create": createErr, "GetRange": rangeErr,
		} {
			if err == nil || errors.Is(err, pipeline.ErrNotExist) {
				t.Errorf("%s(%q) = %v, want a refusal", what, n, err)
			}
		}
	}
	for _, prefix := range []string{"../", "/", "a//", ".tmp/"} {
		if _, err := s.List(ctx, prefix); err == nil {
			t.Errorf("List(%q) returned nil", prefix)
		}
	}
	for _, n := range []string{"ünï/ç", "a b/c+d", "x/..y", "q?r=1&s#t", "50%25"} {
		if err := s.PutIfAbsent(ctx, n, []byte(n)); err != nil {
			t.Errorf("PutIfAbsent(%q) = %v", n, err)
			continue
		}
		if got := storeContent(t, open(), n); got != n {
			t.Errorf("%q holds %q", n, got)
		}
		if got := storeList(t, s, n); got != n {
			t.Errorf("List(%q) = %q", n, got)
		}
	}
}

// storeRace lets several processes make one object by all ways that refuse to replace one.
func storeRace(t *testing.T, open func() pipeline.Store) {
	const writers, rounds = 8, 5
	var stores [writers]pipeline.Store
	for i := range stores {
		stores[i] = open()
		if err := stores[i].Put(t.Context(), fmt.Sprintf("from/%d", i), fmt.Appendf(nil, "writer %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for round := range rounds {
		name := fmt.Sprintf("dir/%d", round)
		var won [writers]bool
		var wg sync.WaitGroup
		for i, s := range stores {
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					err = s.PutIfAbsent(t.Context(), name, fmt.Appendf(nil, "writer %d", i))
				} else {
					err = s.Link(t.Context(), fmt.Sprintf("from/%d", i), name)
				}
				if err != nil && !errors.Is(err, pipeline.ErrExists) {
					t.Error(err)
				}
				won[i] = err == nil
			})
		}
		wg.Wait()
		first := slices.Index(won[:], true)
		if first < 0 || slices.Contains(won[first+1:], true) {
			t.Fatalf("winners: %v, want one", won)
		}
		if got := storeContent(t, stores[0], name); got != fmt.Sprintf("writer %d", first) {
			t.Errorf("content %q, winner %d", got, first)
		}
	}
}

func storeCancel(t *testing.T, open func() pipeline.Store) {
	s := open()
	if err := s.Put(t.Context(), "old", []byte("x")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "half")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "half")
	cancel()
	_, createErr := s.Create(ctx, "ok")
	_, rangeErr := s.GetRange(ctx, "old", 0, -1)
	_, listErr := s.List(ctx, "")
	for what, err := range map[string]error{
		"PutIfAbsent": s.PutIfAbsent(ctx, "ok", nil), "Put": s.Put(ctx, "ok", nil), "Delete": s.Delete(ctx, "old"),
		"Link": s.Link(ctx, "old", "ok"), "Create": createErr, "GetRange": rangeErr, "List": listErr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a canceled context = %v", what, err)
		}
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after the context was canceled = %v", err)
	}
	if got := storeList(t, open(), ""); got != "old" {
		t.Errorf("objects: %s", got)
	}
}

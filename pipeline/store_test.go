package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func openStore(t *testing.T, dir string, fsys FS) *LocalStore {
	t.Helper()
	s, err := NewLocalStore(dir, fsys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func content(t *testing.T, s Store, name string) string {
	t.Helper()
	b, err := s.GetRange(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, s Store, prefix string) []string {
	t.Helper()
	objects, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		out = append(out, o.Name)
	}
	return out
}

// TestLocalStore covers what is its own; pipelinetest has the contract of every store.
func TestLocalStore(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, filepath.Join(t.TempDir(), "new", "deep"), DefaultFS())
	w, err := s.Create(ctx, "a/dropped")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "gone")
	err = errors.Join(w.Abort(), s.Put(ctx, "a/b/one", nil), s.PutIfAbsent(ctx, "a/b/two", nil), s.Link(ctx, "a/b/one", "c/three"))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Dir(), tmpDir)); err != nil || len(left) != 0 {
		t.Errorf("left under .tmp: %v %v", left, err)
	}
	if objects, err := s.List(ctx, "c/"); err != nil || len(objects) != 1 || objects[0].ModTime.IsZero() {
		t.Errorf("List = %+v, %v", objects, err)
	}
	// A directory removed by hand is made again.
	if err := os.RemoveAll(filepath.Join(s.Dir(), "a")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, "a/b/again", []byte("x")); err != nil {
		t.Errorf("Put into a directory that was removed: %v", err)
	}
}

func TestLocalStoreLeftovers(t *testing.T) {
	s := openStore(t, t.TempDir(), DefaultFS())
	young, old := filepath.Join(s.Dir(), tmpDir, "0"), filepath.Join(s.Dir(), tmpDir, "1")
	for _, p := range []string{young, old} {
		if err := os.WriteFile(p, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, s.Dir(), DefaultFS())
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old leftover: %v", err)
	}
	if err := s.Put(t.Context(), "x", []byte("x")); err != nil { // "0" is taken
		t.Fatal(err)
	}
	if b, err := os.ReadFile(young); err != nil || string(b) != "left" {
		t.Errorf("young leftover: %q %v", b, err)
	}
}

func TestLocalStoreHints(t *testing.T) {
	for _, c := range []struct {
		errno syscall.Errno
		want  string
	}{
		{syscall.ENOSPC, "free space"}, {syscall.EROFS, "read-only"}, {syscall.EACCES, "write permission"},
		{syscall.EMFILE, "open files"}, {syscall.EXDEV, "hard links"},
	} {
		fsys := DefaultFS()
		s := openStore(t, t.TempDir(), fsys)
		s.fs.Link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: c.errno} }
		err := s.PutIfAbsent(t.Context(), "dir/name", []byte("x"))
		if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "dir/name") {
			t.Errorf("%v: error %v", c.errno, err)
		}
	}
}

// lossyFS is a file system in memory that forgets, at a crash, all that was not synced:
// contents written since the file's last Sync and entries since the directory's last
// SyncDir. It is the most pessimistic disk that keeps its promises.
type lossyFS struct {
	live, durable map[string]map[string]*lossyNode // directory -> entry
	calls         int
	failAt        int   // number of the call that fails; 0 for none
	fail          error // what it fails with; nil means the machine dies there
	dead          bool
}

// lossyNode is a file, or a directory when dir is set.
type lossyNode struct {
	data, synced []byte
	dir          bool
}

var errDead = errors.New("the machine is down")

func newLossyFS() *lossyFS {
	return &lossyFS{
		live:    map[string]map[string]*lossyNode{"/": {}},
		durable: map[string]map[string]*lossyNode{"/": {}},
	}
}

// step counts a call and tells whether it fails before it had any effect.
func (l *lossyFS) step() error {
	if l.dead {
		return errDead
	}
	l.calls++
	if l.calls != l.failAt {
		return nil
	}
	if l.fail == nil {
		l.dead = true
		return errDead
	}
	return l.fail
}

// crash brings the machine up again with what was durable.
func (l *lossyFS) crash() {
	l.live = map[string]map[string]*lossyNode{}
	var keep func(dir string)
	keep = func(dir string) {
		l.live[dir] = map[string]*lossyNode{}
		for name, n := range l.durable[dir] {
			n.data = bytes.Clone(n.synced)
			l.live[dir][name] = n
			if n.dir {
				keep(filepath.Join(dir, name))
			}
		}
	}
	keep("/")
	l.dead, l.failAt = false, 0
}

func (l *lossyFS) lookup(path string) (*lossyNode, map[string]*lossyNode, error) {
	dir, ok := l.live[filepath.Dir(path)]
	if !ok {
		return nil, nil, fs.ErrNotExist
	}
	return dir[filepath.Base(path)], dir, nil
}

func (l *lossyFS) funcs() FS {
	return FS{
		Create: func(path string) (File, error) {
			if err := l.step(); err != nil {
				return nil, err
			}
			n, dir, err := l.lookup(path)
			if err != nil {
				return nil, err
			}
			if n != nil {
				return nil, fs.ErrExist
			}
			n = &lossyNode{}
			dir[filepath.Base(path)] = n
			return &lossyFile{l, n}, nil
		},
		Open: func(path string) (ReadFile, error) {
			n, _, err := l.lookup(path)
			if err != nil || n == nil {
				return nil, fs.ErrNotExist
			}
			return &lossyReader{*bytes.NewReader(n.data), n}, nil
		},
		Link: func(from, to string) error {
			if err := l.step(); err != nil {
				return err
			}
			n, _, err := l.lookup(from)
			if err != nil || n == nil {
				return fs.ErrNotExist
			}
			old, dir, err := l.lookup(to)
			if err != nil {
				return err
			}
			if old != nil {
				return fs.ErrExist
			}
			dir[filepath.Base(to)] = n
			return nil
		},
		Rename: func(from, to string) error {
			if err := l.step(); err != nil {
				return err
			}
			n, fromDir, err := l.lookup(from)
			if err != nil || n == nil {
				return fs.ErrNotExist
			}
			_, dir, err := l.lookup(to)
			if err != nil {
				return err
			}
			dir[filepath.Base(to)] = n
			delete(fromDir, filepath.Base(from))
			return nil
		},
		Remove: func(path string) error {
			if err := l.step(); err != nil {
				return err
			}
			n, dir, err := l.lookup(path)
			if err != nil || n == nil {
				return fs.ErrNotExist
			}
			delete(dir, filepath.Base(path))
			return nil
		},
		Mkdir: func(path string) error {
			if err := l.step(); err != nil {
				return err
			}
			n, dir, err := l.lookup(path)
			if err != nil {
				return err
			}
			if n != nil {
				return fs.ErrExist
			}
			dir[filepath.Base(path)] = &lossyNode{dir: true}
			l.live[path] = map[string]*lossyNode{}
			return nil
		},
		SyncDir: func(path string) error {
			if err := l.step(); err != nil {
				return err
			}
			if l.live[path] == nil {
				return fs.ErrNotExist
			}
			l.durable[path] = map[string]*lossyNode{}
			for name, n := range l.live[path] {
				l.durable[path][name] = n
			}
			return nil
		},
		ReadDir: func(path string) ([]fs.DirEntry, error) {
			if l.live[path] == nil {
				return nil, fs.ErrNotExist
			}
			var out []fs.DirEntry
			for name, n := range l.live[path] {
				out = append(out, fs.FileInfoToDirEntry(lossyInfo{name, n}))
			}
			return out, nil
		},
	}
}

type lossyFile struct {
	l *lossyFS
	n *lossyNode
}

func (f *lossyFile) Write(p []byte) (int, error) {
	if err := f.l.step(); err != nil {
		return 0, err
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *lossyFile) Sync() error {
	if err := f.l.step(); err != nil {
		return err
	}
	f.n.synced = bytes.Clone(f.n.data)
	return nil
}

func (f *lossyFile) Close() error { return f.l.step() }

type lossyReader struct {
	bytes.Reader
	n *lossyNode
}

func (r *lossyReader) Stat() (fs.FileInfo, error) { return lossyInfo{"", r.n}, nil }
func (r *lossyReader) Close() error               { return nil }

type lossyInfo struct {
	name string
	n    *lossyNode
}

func (i lossyInfo) Name() string { return i.name }
func (i lossyInfo) Size() int64  { return int64(len(i.n.data)) }
func (i lossyInfo) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir
	}
	return 0
}
func (i lossyInfo) ModTime() time.Time { return time.Now() }
func (i lossyInfo) IsDir() bool        { return i.n.dir }
func (i lossyInfo) Sys() any           { return nil }

// storeOps are the writes that the two tests below interrupt. Each leads from the state
// that setUp made to one where name holds after.
var storeOps = []struct {
	op, name      string
	before, after string // content of name; "" for absent
	do            func(ctx context.Context, s Store) error
}{
	{"put new", "a/b/new", "", "body", func(ctx context.Context, s Store) error {
		return s.Put(ctx, "a/b/new", []byte("body"))
	}},
	{"put over", "a/old", "old", "body", func(ctx context.Context, s Store) error {
		return s.Put(ctx, "a/old", []byte("body"))
	}},
	{"put if absent", "c/new", "", "body", func(ctx context.Context, s Store) error {
		return s.PutIfAbsent(ctx, "c/new", []byte("body"))
	}},
	{"stream", "a/stream", "", "body", func(ctx context.Context, s Store) error {
		w, err := s.Create(ctx, "a/stream")
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, "body"); err != nil {
			return errors.Join(err, w.Abort())
		}
		return w.Commit()
	}},
	{"link", "d/e/copy", "", "old", func(ctx context.Context, s Store) error {
		return s.Link(ctx, "a/old", "d/e/copy")
	}},
}

// TestLocalStorePowerLoss lets the machine die before every single call of every write,
// and after the last one. What is found then is the old object or the new one, the new
// one for certain when the write had returned nil; and doing it again ends well. The
// process that repeats it takes ErrExists for done, so the machine dies once more then.
func TestLocalStorePowerLoss(t *testing.T) {
	for _, op := range storeOps {
		for at := 1; ; at++ {
			l := newLossyFS()
			s := openStore(t, "/data", l.funcs())
			if err := s.Put(t.Context(), "a/old", []byte("old")); err != nil {
				t.Fatal(err)
			}
			l.calls, l.failAt = 0, at
			err := op.do(t.Context(), s)
			died := l.dead
			if !died && err != nil {
				t.Fatalf("%s: %v", op.op, err)
			}
			l.crash()
			s = openStore(t, "/data", l.funcs())
			found := ""
			if slices.Contains(names(t, s, ""), op.name) {
				found = content(t, s, op.name)
			}
			if found != op.after && (found != op.before || err == nil) {
				t.Fatalf("%s: died=%v at call %d: found %q", op.op, died, at, found)
			}
			if err := op.do(t.Context(), s); err != nil && !errors.Is(err, ErrExists) {
				t.Fatalf("%s: again after call %d: %v", op.op, at, err)
			}
			l.crash()
			s = openStore(t, "/data", l.funcs())
			if got := content(t, s, op.name); got != op.after {
				t.Fatalf("%s: repeated after call %d, then died: %q", op.op, at, got)
			}
			if !died {
				break
			}
		}
	}
}

// TestLocalStoreErrors fails every single call of every write once. The write says so,
// readers see the old object or the new one, nothing stays under .tmp (unless removing it
// was what failed), and the same store does it at the second try.
func TestLocalStoreErrors(t *testing.T) {
	boom := &fs.PathError{Op: "test", Path: "/data", Err: syscall.ENOSPC}
	for _, op := range storeOps {
		for at := 1; ; at++ {
			l := newLossyFS()
			s := openStore(t, "/data", l.funcs())
			if err := s.Put(t.Context(), "a/old", []byte("old")); err != nil {
				t.Fatal(err)
			}
			l.calls, l.failAt, l.fail = 0, at, boom
			err := op.do(t.Context(), s)
			hit := l.calls >= at
			if !hit {
				if err != nil {
					t.Fatalf("%s: %v", op.op, err)
				}
				break
			}
			if err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%s: call %d failed: error %v hides the cause", op.op, at, err)
			}
			found := ""
			if slices.Contains(names(t, s, ""), op.name) {
				found = content(t, s, op.name)
			}
			if found != op.after && (found != op.before || err == nil) {
				t.Fatalf("%s: call %d failed with %v: found %q", op.op, at, err, found)
			}
			// The only call that may fail unnoticed is the removal of the file under .tmp after
			// the object was linked: nothing depends on it.
			if left := len(l.live["/data/.tmp"]); left > 0 && err != nil && at < l.calls {
				t.Fatalf("%s: call %d failed: %d files under .tmp", op.op, at, left)
			}
			if err := op.do(t.Context(), s); err != nil && !errors.Is(err, ErrExists) {
				t.Fatalf("%s: again after call %d: %v", op.op, at, err)
			}
			if got := content(t, s, op.name); got != op.after {
				t.Fatalf("%s: repeated after call %d: %q", op.op, at, got)
			}
		}
	}
}

// TestLocalStoreRoot: the process that made the directory of a store died, or met a fault,
// before the directory's own entry was durable. The next one finds the directory, and what it
// writes there is durable all the same.
func TestLocalStoreRoot(t *testing.T) {
	for _, fail := range []error{nil, &fs.PathError{Op: "sync", Path: "/", Err: syscall.EIO}} {
		l := newLossyFS()
		l.failAt, l.fail = 2, fail // after Mkdir of the root
		if _, err := NewLocalStore("/data", l.funcs()); err == nil {
			t.Fatal("the root was made in spite of the fault")
		}
		l.dead, l.failAt = false, 0 // another process, the same machine
		s := openStore(t, "/data", l.funcs())
		if err := s.Put(t.Context(), "x", []byte("body")); err != nil {
			t.Fatal(err)
		}
		l.crash()
		if got := content(t, openStore(t, "/data", l.funcs()), "x"); got != "body" {
			t.Errorf("content after the power loss = %q", got)
		}
	}
}

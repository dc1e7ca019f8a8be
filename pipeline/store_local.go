package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tidemark/tidemark/pipeline/crash"
)

const (
	// maxKnownDirs bounds the memory of directories whose parents were synced.
	maxKnownDirs = 4096
	// leftoverAge is the age at which a file under .tmp is what a crash left behind. A
	// process that writes one file for longer finds it gone at Commit and gets an error.
	leftoverAge = 24 * time.Hour
)

// LocalStore is a Store in a directory of one file system that knows hard links.
//
// Every write goes the same way: a file of its own under .tmp, its content, fsync of the
// file, then rename or link to its name, then fsync of the directory. Directories are
// made level by level, each followed by an fsync of its parent. A directory that is found
// gets that fsync too, once per process: the process that made it may have died before.
type LocalStore struct {
	dir string
	fs  FS

	mu    sync.Mutex
	known map[string]bool // directories, absolute, whose entries in their parents are durable
	next  uint64          // number in the name of the next file under .tmp
}

// NewLocalStore opens the store in dir and makes the directory when it is missing. It
// removes what crashed processes left under .tmp a day ago or longer.
func NewLocalStore(dir string, fsys FS) (*LocalStore, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store directory %s: %w", dir, err)
	}
	s := &LocalStore{dir: abs, fs: fsys, known: map[string]bool{}}
	if err := s.makeRoot(abs); err != nil {
		return nil, fileError("open store", abs, err)
	}
	if err := s.makeDir(filepath.Join(abs, tmpDir)); err != nil {
		return nil, fileError("open store", abs, err)
	}
	if err := s.clean(time.Now().Add(-leftoverAge)); err != nil {
		return nil, fileError("clean store", abs, err)
	}
	return s, nil
}

// Dir returns the directory of the store.
func (s *LocalStore) Dir() string { return s.dir }

func (s *LocalStore) PutIfAbsent(ctx context.Context, name string, body []byte) error {
	w, err := s.create(ctx, "put", name)
	if err != nil {
		return err
	}
	defer w.Abort() //nolint:errcheck // does nothing after a commit; otherwise the first error counts
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := w.seal(); err != nil {
		return err
	}
	return s.link(w.tmp, "put", name)
}

func (s *LocalStore) Put(ctx context.Context, name string, body []byte) error {
	w, err := s.create(ctx, "put", name)
	if err != nil {
		return err
	}
	defer w.Abort() //nolint:errcheck // as above
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Commit()
}

func (s *LocalStore) Create(ctx context.Context, name string) (StoreWriter, error) {
	w, err := s.create(ctx, "create", name)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (s *LocalStore) Link(ctx context.Context, from, to string) error {
	if err := errors.Join(ctx.Err(), CheckObjectName(from), CheckObjectName(to)); err != nil {
		return fmt.Errorf("link %s to %s: %w", from, to, err)
	}
	return s.link(s.path(from), "link "+from+" to", to)
}

func (s *LocalStore) GetRange(ctx context.Context, name string, off, n int64) ([]byte, error) {
	if err := errors.Join(ctx.Err(), CheckObjectName(name)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	f, err := s.fs.Open(s.path(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("read %s: %w", name, ErrNotExist)
	}
	if err != nil {
		return nil, fileError("read", name, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, fileError("read", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w", name, ErrNotExist)
	}
	size := info.Size()
	if n < 0 {
		n = size - off
	}
	// Compared this way round because off + n may overflow.
	if off < 0 || n < 0 || off > size || n > size-off {
		return nil, fmt.Errorf("read %s: %d bytes at %d of %d: %w", name, n, off, size, io.ErrUnexpectedEOF)
	}
	b := make([]byte, n)
	if got, err := f.ReadAt(b, off); err != nil && int64(got) < n {
		return nil, fileError("read", name, fmt.Errorf("%d of %d bytes at %d: %w", got, n, off, err))
	}
	return b, nil
}

func (s *LocalStore) List(ctx context.Context, prefix string) ([]Object, error) {
	if err := CheckObjectPrefix(prefix); err != nil {
		return nil, err
	}
	folder := "." // the deepest folder that holds every match
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		folder = prefix[:i]
	}
	var found []Object
	if err := s.walk(ctx, folder, prefix, &found); err != nil {
		return nil, fileError("list", strconv.Quote(prefix), err)
	}
	slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// walk collects the objects of a folder and of those below it. What vanishes meanwhile
// was deleted and is left out.
func (s *LocalStore) walk(ctx context.Context, folder, prefix string, found *[]Object) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := s.fs.ReadDir(s.path(folder))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		switch {
		case strings.HasPrefix(name, tmpDir):
		case e.IsDir():
			if strings.HasPrefix(name+"/", prefix) || strings.HasPrefix(prefix, name+"/") {
				if err := s.walk(ctx, name, prefix, found); err != nil {
					return err
				}
			}
		case strings.HasPrefix(name, prefix):
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			*found = append(*found, Object{Name: name, Size: info.Size(), ModTime: info.ModTime()})
		}
	}
	return nil
}

func (s *LocalStore) Delete(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), CheckObjectName(name)); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	p := s.path(name)
	err := s.fs.Remove(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fileError("delete", name, err)
	}
	if err := s.fs.SyncDir(filepath.Dir(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError("delete", name, err)
	}
	return nil
}

// path returns where an object lies.
func (s *LocalStore) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// create opens a file under .tmp that shall become object name.
func (s *LocalStore) create(ctx context.Context, what, name string) (*localWriter, error) {
	if err := errors.Join(ctx.Err(), CheckObjectName(name)); err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	for {
		s.mu.Lock()
		tmp := filepath.Join(s.dir, tmpDir, strconv.FormatUint(s.next, 10))
		s.next++
		s.mu.Unlock()
		f, err := s.fs.Create(tmp)
		if errors.Is(err, fs.ErrExist) {
			continue // another process's file, or what it left behind; the number grows
		}
		if err != nil {
			return nil, fileError(what, name, err)
		}
		return &localWriter{s: s, name: name, tmp: tmp, f: f, what: what}, nil
	}
}

// link gives the file at path from the name of object to. The file must be synced.
func (s *LocalStore) link(from, what, to string) error {
	at := s.path(to)
	err := s.place(at, func() error { return s.fs.Link(from, at) })
	exists := errors.Is(err, fs.ErrExist)
	switch {
	case err == nil || exists:
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s: %s: %w", what, to, from, ErrNotExist)
	default:
		return fileError(what, to, err)
	}
	crash.At("store.renamed")
	// Also when it exists: the process that linked it may have died before this step, and
	// the caller will take ErrExists for "done".
	if err := s.fs.SyncDir(filepath.Dir(at)); err != nil {
		return fileError(what, to, err)
	}
	crash.At("store.dirsynced")
	if exists {
		return fmt.Errorf("%s %s: %w", what, to, ErrExists)
	}
	return nil
}

// place makes the directory of path at, then calls put. When the directory was known and
// is gone all the same (somebody removed it by hand), it is made again.
func (s *LocalStore) place(at string, put func() error) error {
	dir := filepath.Dir(at)
	if err := s.makeDir(dir); err != nil {
		return err
	}
	err := put()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	clear(s.known)
	s.mu.Unlock()
	if err := s.makeDir(dir); err != nil {
		return err
	}
	return put()
}

// makeDir makes a directory at or below the root, and its parents, durably.
func (s *LocalStore) makeDir(dir string) error {
	s.mu.Lock()
	known := s.known[dir]
	s.mu.Unlock()
	if known || dir == s.dir {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	if err := s.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.fs.SyncDir(parent); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnownDirs {
		clear(s.known)
	}
	s.known[dir] = true
	return nil
}

// makeRoot makes the directory of the store. Its parents belong to somebody else: those
// that exist are not touched, and may be unreadable. A root that is found has its entry
// synced all the same: the process that made it may have died, or have failed, before.
func (s *LocalStore) makeRoot(dir string) error {
	parent := filepath.Dir(dir)
	err := s.fs.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := s.makeRoot(parent); err != nil {
			return err
		}
		err = s.fs.Mkdir(dir)
	}
	found := errors.Is(err, fs.ErrExist) || err != nil && parent == dir
	if found {
		_, err = s.fs.ReadDir(dir)
	}
	if err != nil {
		return err
	}
	err = s.fs.SyncDir(parent)
	if found && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return nil // nor did one of us make the root there: that ends with this very sync
	}
	return err
}

// clean removes files under .tmp that were last written before a time.
func (s *LocalStore) clean(before time.Time) error {
	dir := filepath.Join(s.dir, tmpDir)
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(before) {
			err = s.fs.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// localWriter is a file under .tmp on its way to a name.
type localWriter struct {
	s    *LocalStore
	what string
	name string
	tmp  string
	f    File // nil once closed
	err  error
	done bool
}

func (w *localWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("%s %s: write after the end of the object", w.what, w.name)
	}
	n, err := w.f.Write(p)
	if err != nil {
		w.err = fileError(w.what, w.name, err)
		return n, w.err
	}
	return n, nil
}

// seal makes the content durable and closes the file. After a failed write or sync the
// file is never used: what the kernel kept of it is unknown.
func (w *localWriter) seal() error {
	if w.f == nil {
		return fmt.Errorf("%s %s: object ended twice", w.what, w.name)
	}
	if w.err != nil {
		return w.err
	}
	crash.At("store.written")
	if err := w.f.Sync(); err != nil {
		w.err = fileError(w.what, w.name, err)
		return w.err
	}
	crash.At("store.synced")
	f := w.f
	w.f = nil
	if err := f.Close(); err != nil {
		w.err = fileError(w.what, w.name, err)
		return w.err
	}
	return nil
}

func (w *localWriter) Commit() error {
	if err := w.seal(); err != nil {
		return errors.Join(err, w.Abort())
	}
	at := w.s.path(w.name)
	if err := w.s.place(at, func() error { return w.s.fs.Rename(w.tmp, at) }); err != nil {
		return errors.Join(fileError(w.what, w.name, err), w.Abort())
	}
	w.done = true
	crash.At("store.renamed")
	if err := w.s.fs.SyncDir(filepath.Dir(at)); err != nil {
		return fileError(w.what, w.name, err)
	}
	crash.At("store.dirsynced")
	return nil
}

func (w *localWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	var err error
	if w.f != nil {
		err = w.f.Close()
		w.f = nil
	}
	if rerr := w.s.fs.Remove(w.tmp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return fileError("abort", w.name, err)
	}
	return nil
}

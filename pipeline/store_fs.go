package pipeline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is the part of an operating system's file interface that LocalStore uses. A test
// replaces it to fail a call, or to enumerate what a crash may leave behind. Errors are
// those of package os: they match fs.ErrExist, fs.ErrNotExist and fs.ErrPermission.
type FS struct {
	// Create opens a new file for writing; the file must not exist.
	Create func(path string) (File, error)
	// Open opens a file for reading.
	Open func(path string) (ReadFile, error)
	// Link gives a file a second name, which must not exist.
	Link func(from, to string) error
	// Rename moves a file, over an existing one if need be.
	Rename func(from, to string) error
	Remove func(path string) error
	// Mkdir makes one directory level.
	Mkdir func(path string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir func(path string) error
	ReadDir func(path string) ([]fs.DirEntry, error)
}

// File is a file being written.
type File interface {
	io.Writer
	// Sync makes the content durable.
	Sync() error
	Close() error
}

// ReadFile is a file being read.
type ReadFile interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Close() error
}

// DefaultFS is the file system of the machine.
func DefaultFS() FS {
	return FS{
		Create: func(path string) (File, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		},
		Open:    func(path string) (ReadFile, error) { return os.Open(path) },
		Link:    os.Link,
		Rename:  os.Rename,
		Remove:  os.Remove,
		Mkdir:   func(path string) error { return os.Mkdir(path, 0o755) },
		SyncDir: syncDir,
		ReadDir: os.ReadDir,
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the error of Sync is the one that counts
		return err
	}
	return d.Close()
}

// fileError adds what was done to which object, and what to do about it where the cause
// is known. Errors of package os name the path already.
func fileError(what, name string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: %w: the disk or quota is full, free space and start again; nothing that was acknowledged is affected", what, name, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s %s: %w: the file system is mounted read-only, check the mount and the kernel log for disk errors", what, name, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s: %w: give the user of this process write permission for the directory; hard links must be allowed too", what, name, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%s %s: %w: raise the limit of open files (ulimit -n, LimitNOFILE)", what, name, err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%s %s: %w: shorten the job, table or partition value that is part of the name", what, name, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s %s: %w: a part of the path is a file, choose another directory or move the file away", what, name, err)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%s %s: %w: raise the limit of file sizes (ulimit -f, LimitFSIZE)", what, name, err)
	case errors.Is(err, syscall.EIO):
		return fmt.Errorf("%s %s: %w: the disk reports a fault, look at the kernel log", what, name, err)
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.ENOTSUP):
		return fmt.Errorf("%s %s: %w: the store's directory must be one file system that knows hard links", what, name, err)
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}

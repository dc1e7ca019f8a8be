package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

var (
	// ErrExists says that an object of that name is already there, and durable.
	ErrExists = errors.New("object exists")
	// ErrNotExist says that there is no object of that name.
	ErrNotExist = errors.New("object does not exist")
)

// Object is one entry of a listing.
type Object struct {
	Name    string
	Size    int64
	ModTime time.Time
}

// Store holds durable bytes under names: checkpoints, staged files, manifests. What a
// method made is durable when it returns, and no reader ever sees a part of an object.
//
// Names are relative slash paths in their cleaned form, UTF-8, without "." and ".."
// segments; every method refuses others. Names that begin with ".tmp" are the store's own.
//
// All methods may be called from several goroutines.
type Store interface {
	// PutIfAbsent makes a new object, or returns ErrExists and changes nothing.
	PutIfAbsent(ctx context.Context, name string, body []byte) error
	// Put makes an object or replaces it as a whole.
	Put(ctx context.Context, name string, body []byte) error
	// Create starts an object that is written as a stream. It appears under name, in place
	// of what was there, at Commit and not before.
	Create(ctx context.Context, name string) (StoreWriter, error)
	// Link makes object to with the content of from, or returns ErrExists and changes
	// nothing. ErrNotExist says that from is missing.
	Link(ctx context.Context, from, to string) error
	// GetRange reads n bytes from offset off on, or up to the end when n < 0. A range that
	// ends behind the object is io.ErrUnexpectedEOF; a missing object is ErrNotExist.
	GetRange(ctx context.Context, name string, off, n int64) ([]byte, error)
	// List returns the objects whose names begin with prefix, in byte order of their names.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes an object. That it is absent is no error.
	Delete(ctx context.Context, name string) error
}

// StoreWriter writes one new object. Exactly one of Commit and Abort ends it; Abort after
// Commit does nothing, so that it can be deferred.
type StoreWriter interface {
	io.Writer
	// Commit makes the object durable and readable under its name.
	Commit() error
	// Abort drops what was written.
	Abort() error
}

// tmpDir holds files that are being written. It is no part of the name space.
const tmpDir = ".tmp"

// CheckObjectName tells whether name can name an object.
func CheckObjectName(name string) error {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return fmt.Errorf("object name %q: want a relative slash path in its cleaned form, without \".\" and \"..\"", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("object name %q holds a NUL byte", name)
	case strings.HasPrefix(name, tmpDir):
		return fmt.Errorf("object name %q: names that begin with %s are reserved", name, tmpDir)
	}
	return nil
}

// CheckObjectPrefix tells whether prefix can begin the name of an object.
func CheckObjectPrefix(prefix string) error {
	folder := "." // the deepest folder that holds every match
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		folder = prefix[:i]
	}
	if !fs.ValidPath(folder) || strings.HasPrefix(prefix, tmpDir) {
		return fmt.Errorf("list %q: want the beginning of a relative slash path in its cleaned form", prefix)
	}
	return nil
}

// readPiece is how much of an object is read at a time.
const readPiece = 1 << 20

// ReadObject returns a reader of an object of the given size, a piece at a time, so that its
// memory is bounded. Reads end with ctx.
func ReadObject(ctx context.Context, store Store, name string, size int64) io.Reader {
	return &objectReader{ctx: ctx, store: store, name: name, size: size}
}

// objectReader reads an object from its start. It lives as long as the call whose context
// it carries.
type objectReader struct {
	ctx    context.Context
	store  Store
	name   string
	size   int64
	at     int64
	buffer []byte
}

func (o *objectReader) Read(p []byte) (int, error) {
	if len(o.buffer) == 0 {
		if o.at >= o.size {
			return 0, io.EOF
		}
		b, err := o.store.GetRange(o.ctx, o.name, o.at, min(readPiece, o.size-o.at))
		if err != nil {
			return 0, err
		}
		o.buffer, o.at = b, o.at+int64(len(b))
	}
	n := copy(p, o.buffer)
	o.buffer = o.buffer[n:]
	return n, nil
}

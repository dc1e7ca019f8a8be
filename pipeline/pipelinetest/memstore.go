package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/tidemark/tidemark/pipeline"
)

// MemStore is a Store in memory.
type MemStore struct {
	mu      sync.Mutex
	objects map[string][]byte
}

// NewMemStore returns an empty store.
func NewMemStore() *MemStore { return &MemStore{objects: map[string][]byte{}} }

func check(ctx context.Context, name string) error {
	return errors.Join(ctx.Err(), pipeline.CheckObjectName(name))
}

// PutIfAbsent implements pipeline.Store.
func (s *MemStore) PutIfAbsent(ctx context.Context, name string, body []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; ok {
		return fmt.Errorf("%s: %w", name, pipeline.ErrExists)
	}
	s.objects[name] = bytes.Clone(body)
	return nil
}

// Put implements pipeline.Store.
func (s *MemStore) Put(ctx context.Context, name string, body []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[name] = bytes.Clone(body)
	return nil
}

// Create implements pipeline.Store.
func (s *MemStore) Create(ctx context.Context, name string) (pipeline.StoreWriter, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	return &memWriter{s: s, name: name}, nil
}

type memWriter struct {
	s    *MemStore
	name string
	body []byte
	done bool
}

func (w *memWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, fmt.Errorf("%s: write after the end of the object", w.name)
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

func (w *memWriter) Commit() error {
	if w.done {
		return fmt.Errorf("%s: object ended twice", w.name)
	}
	w.done = true
	return w.s.Put(context.Background(), w.name, w.body)
}

func (w *memWriter) Abort() error {
	w.done = true
	return nil
}

// Link implements pipeline.Store.
func (s *MemStore) Link(ctx context.Context, from, to string) error {
	if err := check(ctx, to); err != nil {
		return err
	}
	b, err := s.GetRange(ctx, from, 0, -1)
	if err != nil {
		return err
	}
	return s.PutIfAbsent(ctx, to, b)
}

// GetRange implements pipeline.Store.
func (s *MemStore) GetRange(ctx context.Context, name string, off, n int64) ([]byte, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, pipeline.ErrNotExist)
	}
	size := int64(len(b))
	if n < 0 {
		n = size - off
	}
	if off < 0 || n < 0 || off > size || n > size-off {
		return nil, fmt.Errorf("%s: %d bytes at %d of %d: %w", name, n, off, size, io.ErrUnexpectedEOF)
	}
	return bytes.Clone(b[off : off+n]), nil
}

// List implements pipeline.Store.
func (s *MemStore) List(ctx context.Context, prefix string) ([]pipeline.Object, error) {
	if err := errors.Join(ctx.Err(), pipeline.CheckObjectPrefix(prefix)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []pipeline.Object
	for name, b := range s.objects {
		if strings.HasPrefix(name, prefix) {
			out = append(out, pipeline.Object{Name: name, Size: int64(len(b))})
		}
	}
	slices.SortFunc(out, func(a, b pipeline.Object) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Delete implements pipeline.Store.
func (s *MemStore) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
	return nil
}

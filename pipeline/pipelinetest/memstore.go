package pipelinetest

import (
	"bytes"
	"context"
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

// PutIfAbsent implements pipeline.Store.
func (s *MemStore) PutIfAbsent(_ context.Context, name string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; ok {
		return fmt.Errorf("%s: %w", name, pipeline.ErrExists)
	}
	s.objects[name] = bytes.Clone(body)
	return nil
}

// Put implements pipeline.Store.
func (s *MemStore) Put(_ context.Context, name string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[name] = bytes.Clone(body)
	return nil
}

// Create implements pipeline.Store.
func (s *MemStore) Create(_ context.Context, name string) (pipeline.StoreWriter, error) {
	return &memWriter{s: s, name: name}, nil
}

type memWriter struct {
	bytes.Buffer
	s    *MemStore
	name string
}

func (w *memWriter) Commit() error { return w.s.Put(context.Background(), w.name, w.Bytes()) }
func (w *memWriter) Abort() error  { return nil }

// Link implements pipeline.Store.
func (s *MemStore) Link(ctx context.Context, from, to string) error {
	b, err := s.GetRange(ctx, from, 0, -1)
	if err != nil {
		return err
	}
	return s.PutIfAbsent(ctx, to, b)
}

// GetRange implements pipeline.Store.
func (s *MemStore) GetRange(_ context.Context, name string, off, n int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, pipeline.ErrNotExist)
	}
	if n < 0 {
		n = int64(len(b)) - off
	}
	if n < 0 || off+n > int64(len(b)) {
		return nil, io.ErrUnexpectedEOF
	}
	return bytes.Clone(b[off : off+n]), nil
}

// List implements pipeline.Store.
func (s *MemStore) List(_ context.Context, prefix string) ([]pipeline.Object, error) {
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
func (s *MemStore) Delete(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
	return nil
}

package pipelinetest_test

import (
	"testing"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/pipelinetest"
)

// TestStores holds the stores of this module to the contract. That in a bucket needs a
// service: integration/ has it.
func TestStores(t *testing.T) {
	t.Run("local", func(t *testing.T) {
		pipelinetest.TestStore(t, func(t *testing.T) pipelinetest.StorePlace {
			dir := t.TempDir()
			fsys := pipeline.DefaultFS()
			fsys.SyncDir = func(string) error { return nil } // what a power loss leaves has tests of its own
			return func() (pipeline.Store, error) { return pipeline.NewLocalStore(dir, fsys) }
		})
	})
	t.Run("memory", func(t *testing.T) {
		pipelinetest.TestStore(t, func(t *testing.T) pipelinetest.StorePlace {
			s := pipelinetest.NewMemStore()
			return func() (pipeline.Store, error) { return s, nil }
		})
	})
}

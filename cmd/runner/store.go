package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tidemark/tidemark/pipeline"
	"github.com/tidemark/tidemark/pipeline/s3store"
)

// S3Config is how to reach the bucket of a dir that begins with s3://.
type S3Config struct {
	s3store.Config `yaml:",inline"`
}

func (c *S3Config) setDefaults() { c.Config = s3store.DefaultConfig() }

// inBucket tells whether a dir is in a bucket.
func inBucket(dir string) bool { return strings.HasPrefix(dir, s3store.Scheme) }

// validateStore checks a dir, and s3 beside it, at their places in the document.
func (d *document) validateStore(dir string, s3 *S3Config, at ...string) {
	path := func(key string) ([]string, string) {
		p := append(at[:len(at):len(at)], key)
		return p, strings.Join(p, ".")
	}
	node, name := path("dir")
	switch {
	case dir == "":
		d.add(d.node(node...), name, "missing: where the files go, a directory or s3://bucket/prefix")
	case inBucket(dir):
		if _, _, err := s3store.ParseURL(dir); err != nil {
			d.add(d.node(node...), name, "%v", err)
		}
	case strings.Contains(dir, "://"):
		d.add(d.node(node...), name, "%q: want a directory or s3://bucket/prefix", dir)
	}
	if s3 == nil {
		return
	}
	node, name = path("s3")
	if !inBucket(dir) {
		d.add(d.node(node...), name, "belongs to a dir in a bucket, s3://bucket/prefix; this one is %q", dir)
		return
	}
	d.invalid(s3.Validate(), node...)
}

// openStore opens the store of a dir, which validateStore has passed. A service is tried out
// first: what is wrong with it is to be said before the job does anything.
func openStore(dir string, s3 *S3Config) (pipeline.Store, error) {
	if !inBucket(dir) {
		return pipeline.NewLocalStore(dir, pipeline.DefaultFS())
	}
	bucket, prefix, err := s3store.ParseURL(dir)
	if err != nil {
		return nil, fmt.Errorf("dir %w", err)
	}
	if s3 == nil {
		s3 = &S3Config{s3store.DefaultConfig()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	s, err := s3store.New(ctx, s3.Config, bucket, prefix)
	if err != nil {
		return nil, err
	}
	return s, s.Ready(ctx)
}

// below names a table in a dir.
func below(dir, table string) string {
	if inBucket(dir) {
		return strings.TrimSuffix(dir, "/") + "/" + table
	}
	return filepath.Join(dir, table)
}

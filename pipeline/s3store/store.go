package s3store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemark/tidemark/pipeline"
)

const (
	// partBytes is the size of a part of an upload, and up to which an object is one put. The
	// protocol allows 10,000 parts.
	partBytes = 8 << 20
	// writeKey is the metadata of an object that tells which write made it.
	writeKey = "tidemark-write"
	// bodyAttempts is how often a body is read whose connection breaks.
	bodyAttempts = 4
)

// Store is a pipeline.Store in a bucket.
type Store struct {
	client *s3.Client
	bucket string
	prefix string // "" or ends in a slash
}

// New makes a store of the objects below prefix in a bucket. It asks nothing of the service;
// Ready does.
func New(ctx context.Context, cfg Config, bucket, prefix string) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("s3 store: %w", err)
	}
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(cfg.AttemptTimeout)),
		config.WithRetryer(func() aws.Retryer {
			standard := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = cfg.MaxAttempts })
			// 409: another conditional write of the same object was under way.
			return retry.AddWithErrorCodes(standard, codeConflict, "OperationAborted")
		}),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("s3 store: %w: look at the AWS_ variables of the environment and at ~/.aws", err)
	}
	if loaded.Region == "" && cfg.Endpoint == "" {
		return nil, errors.New("s3 store: no region: set region beside the bucket, or AWS_REGION")
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = cfg.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
			if o.Region == "" {
				o.Region = "us-east-1" // what other services sign with when nobody cares
			}
		}
	})
	if prefix != "" {
		prefix += "/"
	}
	return &Store{client: client, bucket: bucket, prefix: prefix}, nil
}

// URL names the store.
func (s *Store) URL() string { return Scheme + s.bucket + "/" + strings.TrimSuffix(s.prefix, "/") }

func (s *Store) key(name string) *string { return aws.String(s.prefix + name) }

// newWrite returns the number of a write.
func newWrite() map[string]string { return map[string]string{writeKey: rand.Text()} }

// PutIfAbsent makes a new object. See the package comment for what happens when an answer is
// lost.
func (s *Store) PutIfAbsent(ctx context.Context, name string, body []byte) error {
	if err := check(ctx, name); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return s.putIfAbsent(ctx, "put", name, body)
}

func (s *Store) putIfAbsent(ctx context.Context, what, name string, body []byte) error {
	write := newWrite()
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(name), Body: bytes.NewReader(body),
		IfNoneMatch: aws.String("*"), Metadata: write})
	return s.outcome(ctx, what, name, write, err)
}

// outcome says what became of a write that may have been made more than once: a refusal or a
// lost answer may hide that the first attempt worked.
func (s *Store) outcome(ctx context.Context, what, name string, write map[string]string, err error) error {
	if err == nil {
		return nil
	}
	exists := isCode(err, codeExists) || status(err) == http.StatusPreconditionFailed
	if definite(err) && !exists {
		return s.fail(what, name, err)
	}
	head, herr := s.head(ctx, name)
	switch {
	case herr == nil && head.Metadata[writeKey] == write[writeKey]:
		return nil
	case exists:
		return fmt.Errorf("%s %s: %w", what, s.at(name), pipeline.ErrExists)
	}
	return s.fail(what, name, err)
}

func (s *Store) Put(ctx context.Context, name string, body []byte) error {
	if err := check(ctx, name); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(name), Body: bytes.NewReader(body)})
	if err != nil {
		return s.fail("put", name, err)
	}
	return nil
}

func (s *Store) GetRange(ctx context.Context, name string, off, n int64) ([]byte, error) {
	if err := check(ctx, name); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var b []byte
	var err error
	for range bodyAttempts {
		if b, err = s.get(ctx, name, off, n); !errors.Is(err, errBody) || ctx.Err() != nil {
			break
		}
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, s.fail("read", name, err)
	}
	return b, err
}

// errBody says that a body ended before its length. The SDK repeats requests, not bodies.
var errBody = errors.New("the body was cut short")

func (s *Store) get(ctx context.Context, name string, off, n int64) ([]byte, error) {
	short := func(size int64) error {
		return fmt.Errorf("read %s: %d bytes at %d of %d: %w", s.at(name), n, off, size, io.ErrUnexpectedEOF)
	}
	if off < 0 || n == 0 { // no range says so
		head, err := s.head(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case off < 0 || off > *head.ContentLength:
			return nil, short(*head.ContentLength)
		}
		return []byte{}, nil
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: s.key(name)}
	switch {
	case n > 0 && n <= math.MaxInt64-off:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", off))
	}
	out, err := s.client.GetObject(ctx, in)
	if status(err) == http.StatusRequestedRangeNotSatisfiable { // begins at the end, or behind it
		head, herr := s.head(ctx, name)
		switch {
		case herr != nil:
			return nil, herr
		case off > *head.ContentLength || n > 0:
			return nil, short(*head.ContentLength)
		}
		return []byte{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer out.Body.Close() //nolint:errcheck // nothing was written
	size := sizeOf(out)
	if n < 0 {
		n = size - off
	}
	if n > size-off {
		return nil, short(size)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(out.Body, b); err != nil {
		return nil, fmt.Errorf("%w: %v", errBody, err)
	}
	if _, err := out.Body.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %v", errBody, err) // the checksum is verified at the end
	}
	return b, nil
}

// sizeOf returns the size of the whole object of an answer.
func sizeOf(out *s3.GetObjectOutput) int64 {
	if out.ContentRange != nil {
		_, total, _ := strings.Cut(*out.ContentRange, "/")
		if size, err := strconv.ParseInt(total, 10, 64); err == nil {
			return size
		}
	}
	return aws.ToInt64(out.ContentLength)
}

// head returns what the service knows of an object. Its size is always there.
func (s *Store) head(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.key(name)})
	if err == nil && out.ContentLength == nil {
		out.ContentLength = new(int64)
	}
	return out, err
}

func (s *Store) List(ctx context.Context, prefix string) ([]pipeline.Object, error) {
	if err := errors.Join(ctx.Err(), pipeline.CheckObjectPrefix(prefix)); err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	var found []pipeline.Object
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: s.key(prefix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.fail("list", prefix, err)
		}
		for _, o := range page.Contents {
			name := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
			if pipeline.CheckObjectName(name) != nil {
				continue // not made by a store: a folder's placeholder, the probe of Ready
			}
			found = append(found, pipeline.Object{Name: name, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)})
		}
	}
	// S3 lists in this order; not every service does.
	slices.SortFunc(found, func(a, b pipeline.Object) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(name)})
	if err != nil && !isAbsent(err) {
		return s.fail("delete", name, err)
	}
	return nil
}

func check(ctx context.Context, name string) error {
	return errors.Join(ctx.Err(), pipeline.CheckObjectName(name))
}

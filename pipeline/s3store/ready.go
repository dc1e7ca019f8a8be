package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// probeName is an object of the store's own; listings pass it over.
const probeName = ".tmp-conditional-write"

// Ready tries out that the bucket can be written, and that the service keeps its word on
// conditional writes: one that ignores the condition would let two writers win, silently.
func (s *Store) Ready(ctx context.Context) error {
	// Whoever starts a job wants to know soon what is wrong; retries are for later.
	soon := func(o *s3.Options) { o.RetryMaxAttempts = 2 }
	put := func(condition *string) error {
		_, err := s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(probeName), Body: bytes.NewReader([]byte("probe\n")), IfNoneMatch: condition}, soon)
		return err
	}
	if err := put(nil); err != nil {
		return s.fail("probe", probeName, err)
	}
	if err := s.refused("put", put(aws.String("*"))); err != nil {
		return err
	}
	up, err := s.beginUpload(ctx, probeName)
	if err != nil {
		return s.fail("probe", probeName, err)
	}
	if err := up.add(ctx, []byte("probe\n")); err != nil {
		return errors.Join(s.fail("probe", probeName, err), up.abort(ctx))
	}
	_, err = s.client.CompleteMultipartUpload(ctx, up.completion(true))
	return errors.Join(s.refused("completion of an upload", err), up.abort(ctx))
}

// refused returns an error unless err says that the object exists.
func (s *Store) refused(what string, err error) error {
	if isCode(err, codeExists) || status(err) == http.StatusPreconditionFailed {
		return nil
	}
	if err != nil {
		return s.fail("probe", probeName, err)
	}
	return fmt.Errorf("probe %s: the service ignores If-None-Match on the %s: two writers could both win, so that rows would be lost or doubled unseen; take a service or version that knows conditional writes, or a local directory", s.at(probeName), what)
}

package s3store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tidemark/tidemark/pipeline"
)

const (
	// copyBytes is how much the service copies by one request.
	copyBytes = 256 << 20
	// linkAttempts is how often a copy is made anew that another write got in the way of.
	linkAttempts = 3
)

func (s *Store) Link(ctx context.Context, from, to string) error {
	what := "link " + from + " to"
	if err := errors.Join(ctx.Err(), pipeline.CheckObjectName(from), pipeline.CheckObjectName(to)); err != nil {
		return fmt.Errorf("%s %s: %w", what, to, err)
	}
	head, err := s.head(ctx, from)
	if err != nil {
		return s.fail("link", from, err)
	}
	if *head.ContentLength <= partBytes {
		body, err := s.GetRange(ctx, from, 0, -1)
		if err != nil {
			return err
		}
		return s.putIfAbsent(ctx, what, to, body)
	}
	// Only to save the copy: the condition counts.
	if _, err := s.head(ctx, to); err == nil {
		return fmt.Errorf("%s %s: %w", what, s.at(to), pipeline.ErrExists)
	}
	for range linkAttempts {
		// After a conflict the protocol wants a new upload.
		if err = s.copyParts(ctx, what, from, to, head); !isCode(err, codeConflict) {
			break
		}
	}
	return err
}

// copyParts makes an object of parts that the service copies.
func (s *Store) copyParts(ctx context.Context, what, from, to string, head *s3.HeadObjectOutput) error {
	up, err := s.beginUpload(ctx, to)
	if err != nil {
		return s.fail(what, to, err)
	}
	for off := int64(0); off < *head.ContentLength; off += copyBytes {
		if err := up.copy(ctx, from, head.ETag, off, min(off+copyBytes, *head.ContentLength)-1); err != nil {
			return errors.Join(s.fail(what, to, err), up.abort(ctx))
		}
	}
	if err := up.complete(ctx, what, true); err != nil {
		return errors.Join(err, up.abort(ctx))
	}
	return nil
}

// copy adds a part of another object, first and last byte included.
func (u *upload) copy(ctx context.Context, from string, etag *string, first, last int64) error {
	n := u.next()
	out, err := u.s.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: &u.s.bucket, Key: u.s.key(u.name), UploadId: u.id, PartNumber: n,
		CopySource: aws.String(escapePath(u.s.bucket + "/" + *u.s.key(from))), CopySourceIfMatch: etag,
		CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", first, last))})
	if err != nil {
		return err
	}
	if out.CopyPartResult == nil {
		return errors.New("the service says nothing of the part that it copied")
	}
	u.parts = append(u.parts, types.CompletedPart{PartNumber: n, ETag: out.CopyPartResult.ETag})
	return nil
}

// escapePath percent-encodes all but the slashes and what is never encoded: the header is
// read as a query by some, as a path by others.
func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(url.QueryEscape(p), "+", "%20")
	}
	return strings.Join(parts, "/")
}

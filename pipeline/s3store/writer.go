package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tidemark/tidemark/pipeline"
)

// abortTimeout bounds Abort, which must work after its context was canceled.
const abortTimeout = 30 * time.Second

// upload is a multipart upload that was begun.
type upload struct {
	s     *Store
	name  string
	write map[string]string
	id    *string
	parts []types.CompletedPart
}

func (s *Store) beginUpload(ctx context.Context, name string) (*upload, error) {
	write := newWrite()
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: s.key(name), Metadata: write})
	if err != nil {
		return nil, err
	}
	return &upload{s: s, name: name, write: write, id: out.UploadId}, nil
}

// next is the number of the next part.
func (u *upload) next() *int32 { return aws.Int32(int32(len(u.parts) + 1)) }

func (u *upload) add(ctx context.Context, body []byte) error {
	n := u.next()
	out, err := u.s.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &u.s.bucket, Key: u.s.key(u.name), UploadId: u.id,
		PartNumber: n, Body: bytes.NewReader(body)})
	if err != nil {
		return err
	}
	u.parts = append(u.parts, types.CompletedPart{PartNumber: n, ETag: out.ETag})
	return nil
}

// completion asks for the object, in place of what was there unless absent is set.
func (u *upload) completion(absent bool) *s3.CompleteMultipartUploadInput {
	in := &s3.CompleteMultipartUploadInput{Bucket: &u.s.bucket, Key: u.s.key(u.name), UploadId: u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts}}
	if absent {
		in.IfNoneMatch = aws.String("*")
	}
	return in
}

func (u *upload) complete(ctx context.Context, what string, absent bool) error {
	_, err := u.s.client.CompleteMultipartUpload(ctx, u.completion(absent))
	return u.s.outcome(ctx, what, u.name, u.write, err)
}

// abort drops the parts. It does not listen to ctx.
func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := u.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.s.bucket, Key: u.s.key(u.name), UploadId: u.id})
	if err != nil && !isCode(err, "NoSuchUpload") {
		return u.s.fail("abort", u.name, err)
	}
	return nil
}

func (s *Store) Create(ctx context.Context, name string) (pipeline.StoreWriter, error) {
	if err := check(ctx, name); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return &writer{ctx: ctx, s: s, name: name}, nil
}

// writer is an object that is being written. It keeps the context of its Create, because its
// own methods are those of io.Writer.
type writer struct {
	ctx  context.Context
	s    *Store
	name string
	buf  []byte  // the part at hand, at most partBytes
	up   *upload // nil while the object fits one put
	err  error   // of a Write; the object cannot be whole any more
	done bool
}

func (w *writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, fmt.Errorf("create %s: write after the end of the object", w.s.at(w.name))
	}
	n := 0
	for w.err == nil && n < len(p) {
		if len(w.buf) == partBytes {
			if w.err = w.flush(); w.err != nil {
				break
			}
		}
		k := min(partBytes-len(w.buf), len(p)-n)
		w.buf = append(w.buf, p[n:n+k]...)
		n += k
	}
	return n, w.err
}

// flush uploads the part at hand.
func (w *writer) flush() error {
	if w.up == nil {
		up, err := w.s.beginUpload(w.ctx, w.name)
		if err != nil {
			return w.s.fail("create", w.name, err)
		}
		w.up = up
	}
	if err := w.up.add(w.ctx, w.buf); err != nil {
		return w.s.fail("create", w.name, err)
	}
	w.buf = w.buf[:0]
	return nil
}

func (w *writer) Commit() error {
	if w.done {
		return fmt.Errorf("create %s: object ended twice", w.s.at(w.name))
	}
	if err := w.commit(); err != nil {
		return errors.Join(err, w.Abort())
	}
	w.done, w.buf = true, nil
	return nil
}

func (w *writer) commit() error {
	if w.err != nil {
		return w.err
	}
	if w.up == nil {
		return w.s.Put(w.ctx, w.name, w.buf)
	}
	if err := w.flush(); err != nil { // never empty: a part waits for the byte after it
		return err
	}
	return w.up.complete(w.ctx, "create", false)
}

func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done, w.buf = true, nil
	if w.up == nil {
		return nil
	}
	return w.up.abort(w.ctx)
}

package s3store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/tidemark/tidemark/pipeline"
)

// Codes of the protocol.
const (
	codeExists   = "PreconditionFailed"
	codeConflict = "ConditionalRequestConflict"
)

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func isCode(err error, want string) bool { return err != nil && code(err) == want }

// status returns the HTTP status of an answer, 0 when there was none.
func status(err error) int {
	var re *awshttp.ResponseError
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}

// isAbsent tells whether the object of a request is missing. An answer to HEAD has no code
// of its own.
func isAbsent(err error) bool { return isCode(err, "NoSuchKey") || isCode(err, "NotFound") }

// definite tells whether the service has said no. Without an answer, or with one that says
// that it is in trouble, or that an upload is gone, the request may have worked.
func definite(err error) bool {
	n := status(err)
	return n == http.StatusNotImplemented || n >= 400 && n < 500 && n != http.StatusRequestTimeout && n != http.StatusConflict && n != http.StatusTooManyRequests && !isCode(err, "NoSuchUpload")
}

// at names an object in messages.
func (s *Store) at(name string) string { return Scheme + s.bucket + "/" + s.prefix + name }

// fail adds what was done to which object, and what to do about it where the cause is known.
func (s *Store) fail(what, name string, err error) error {
	if isAbsent(err) {
		return fmt.Errorf("%s %s: %w", what, s.at(name), pipeline.ErrNotExist)
	}
	if hint := s.hint(err); hint != "" {
		return fmt.Errorf("%s %s: %w: %s", what, s.at(name), err, hint)
	}
	return fmt.Errorf("%s %s: %w", what, s.at(name), err)
}

// hint is the next step.
func (s *Store) hint(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch code(err) {
	case "NoSuchBucket":
		return fmt.Sprintf("make bucket %s, or correct its name and the region", s.bucket)
	case "AccessDenied", "Forbidden":
		return "give these credentials s3:GetObject, PutObject, DeleteObject, AbortMultipartUpload and ListBucket; without the last, objects that are missing look forbidden"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure":
		return "the service does not know these credentials: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE"
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return "the credentials have ended: get new ones, or run with a role that renews them"
	case "RequestTimeTooSkewed":
		return "the clock of this machine is wrong: synchronise it"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return "the bucket is in another region: set region to its own"
	case "NotImplemented":
		return "the service lacks what exactly-once needs, conditional writes: take one that has them, or a local directory"
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage":
		return "the service has no room: free some and start again; nothing that was acknowledged is affected"
	}
	switch {
	case errors.Is(err, context.Canceled):
		return ""
	case strings.Contains(err.Error(), "get credentials"), strings.Contains(err.Error(), "get identity"):
		return "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run with a role"
	case status(err) == http.StatusMovedPermanently:
		return "the bucket is in another region: set region to its own"
	case status(err) == http.StatusForbidden:
		return "these credentials may not do that; without s3:ListBucket, objects that are missing look forbidden"
	case errors.As(err, &dns):
		return fmt.Sprintf("%s has no address: look at endpoint and region; services without a name for each bucket need path_style: true", dns.Name)
	case errors.As(err, &op):
		return "look at endpoint, and at the way to it: proxy, firewall, the service itself"
	}
	return ""
}

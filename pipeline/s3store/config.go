package s3store

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// Scheme begins the URL of a store.
const Scheme = "s3://"

// Config says how to reach the service. Credentials never stand here: they come from the
// environment, the files of the AWS tools, a web identity or the machine's role.
type Config struct {
	// Endpoint is the URL of a service other than AWS.
	Endpoint string `yaml:"endpoint"`
	// Region is that of the bucket; empty: AWS_REGION or the profile's.
	Region string `yaml:"region"`
	// PathStyle puts the bucket into the path and not into the host name, which services on
	// one address want.
	PathStyle bool `yaml:"path_style"`
	// AttemptTimeout bounds one request; MaxAttempts is how often it is made before an error
	// is an error, with growing, random pauses of up to 20 s between.
	AttemptTimeout time.Duration `yaml:"attempt_timeout"`
	MaxAttempts    int           `yaml:"max_attempts"`
}

// DefaultConfig is what a configuration file is decoded onto.
func DefaultConfig() Config { return Config{AttemptTimeout: time.Minute, MaxAttempts: 8} }

// Validate returns all problems of the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			bad("endpoint %q: want http://host:port or https://host", c.Endpoint)
		case u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
			bad("endpoint %q: want no more than scheme, host and port; bucket and prefix stand in dir", u.Redacted())
		}
	}
	if c.AttemptTimeout <= 0 {
		bad("attempt_timeout %v: must be longer than that", c.AttemptTimeout)
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > 100 {
		bad("max_attempts %d: want 1 to 100", c.MaxAttempts)
	}
	return errors.Join(errs...)
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ParseURL takes s3://bucket/prefix apart. The prefix may be empty.
func ParseURL(text string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return "", "", fmt.Errorf("%q: want s3://bucket/prefix", text)
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("%q: %q cannot name a bucket: 3 to 63 lower-case letters, digits, dots and dashes", text, bucket)
	}
	if prefix != "" {
		if err := pipeline.CheckObjectName(prefix); err != nil {
			return "", "", fmt.Errorf("%q: %w", text, err)
		}
	}
	return bucket, prefix, nil
}

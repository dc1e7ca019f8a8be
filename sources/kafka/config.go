package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/tidemark/tidemark/pipeline"
)

// Connection says how a cluster is reached.
type Connection struct {
	Brokers  []string `yaml:"brokers"` // host:port; one that answers is enough
	ClientID string   `yaml:"client_id"`
	TLS      TLS      `yaml:"tls"`
	SASL     SASL     `yaml:"sasl"`
	// DialTimeout bounds one connection attempt with TLS handshake and login.
	DialTimeout time.Duration `yaml:"dial_timeout"`
}

// TLS is version 1.2 or later.
type TLS struct {
	Enabled            bool   `yaml:"enabled"`
	CAFile             string `yaml:"ca_file"`   // PEM; empty trusts the system's roots
	CertFile           string `yaml:"cert_file"` // PEM, for client authentication
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"` // empty takes the broker's host
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// SASL mechanisms.
const (
	Plain       = "plain"
	ScramSHA256 = "scram-sha-256"
	ScramSHA512 = "scram-sha-512"
)

// SASL is off when Mechanism is empty.
type SASL struct {
	Mechanism string          `yaml:"mechanism"`
	User      string          `yaml:"user"`
	Password  pipeline.Secret `yaml:"password"`
}

// DefaultConnection is a broker on this machine without TLS and SASL.
func DefaultConnection() Connection {
	return Connection{
		Brokers:     []string{"127.0.0.1:9092"},
		ClientID:    "tidemark",
		DialTimeout: 5 * time.Second,
	}
}

// Validate returns every problem. It reads no file.
func (c Connection) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: none given; name at least one as host:port")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			bad("brokers: %q is not host:port", b)
		}
	}
	if c.DialTimeout <= 0 {
		bad("dial_timeout: %v is not above 0", c.DialTimeout)
	}
	t := c.TLS
	if !t.Enabled && t != (TLS{}) {
		bad("tls: options are set but enabled is false")
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		bad("tls: cert_file and key_file go together")
	}
	switch c.SASL.Mechanism {
	case "":
		if c.SASL.User != "" || c.SASL.Password != "" {
			bad("sasl: user or password without mechanism; set one of %s, %s, %s", Plain, ScramSHA256, ScramSHA512)
		}
	case Plain, ScramSHA256, ScramSHA512:
		if c.SASL.User == "" || c.SASL.Password == "" {
			bad("sasl: mechanism %s needs user and password", c.SASL.Mechanism)
		}
	default:
		bad("sasl: mechanism %q is not one of %s, %s, %s", c.SASL.Mechanism, Plain, ScramSHA256, ScramSHA512)
	}
	return errors.Join(errs...)
}

// Where a split starts that has no position.
const (
	Earliest  = "earliest"
	Latest    = "latest"
	Timestamp = "timestamp" // the first record whose broker timestamp is StartTime or later
)

// What is done about a gap.
const (
	Fail          = "fail"
	SkipAndRecord = "skip_and_record"
)

// Config says what is read and within what limits.
type Config struct {
	Connection `yaml:",inline"`

	Topic string `yaml:"topic"`
	// Start is where splits without a position start: earliest, latest or timestamp.
	// Partitions that discovery finds start at earliest; with Start latest so do those
	// that appeared while the job was down.
	Start     string    `yaml:"start"`
	StartTime time.Time `yaml:"start_time"`
	OnGap     string    `yaml:"on_gap"` // fail or skip_and_record
	// Group is where Commit writes; empty writes nowhere.
	Group string `yaml:"group"`
	// Bounded freezes the end of every split at Open, as the last committed offset.
	Bounded bool `yaml:"bounded"`
	// Ranges, unless nil, says by partition where reading starts, in place of Start, and when
	// Bounded where it ends; then no other partition is read.
	Ranges map[int32]Range `yaml:"-"`

	// BufferBytes bounds what is fetched and not delivered, see doc.go.
	BufferBytes int64 `yaml:"buffer_bytes"`
	// FetchMaxBytes bounds one response, MaxBatchBytes the share of one split in it. A
	// single batch that is larger comes whole.
	FetchMaxBytes int64 `yaml:"fetch_max_bytes"`
	MaxBatchBytes int64 `yaml:"max_batch_bytes"`
	// DecompressLimit bounds what one batch decompresses to, in bytes.
	DecompressLimit int64 `yaml:"decompress_limit"`
	// FetchWait is how long a broker may hold a fetch that finds nothing new.
	FetchWait time.Duration `yaml:"fetch_wait"`
	// DiscoverEvery is the interval of the search for new partitions.
	DiscoverEvery time.Duration `yaml:"discover_every"`
	// StallAfter ends a fetch that has no answer by then beyond FetchWait, and connects
	// anew when no fetch at all has had one.
	StallAfter time.Duration `yaml:"stall_after"`
	// OpenTimeout bounds Open.
	OpenTimeout time.Duration `yaml:"open_timeout"`
}

// DefaultConfig lacks the topic.
func DefaultConfig() Config {
	return Config{
		Connection:      DefaultConnection(),
		Start:           Earliest,
		OnGap:           Fail,
		BufferBytes:     64 << 20,
		FetchMaxBytes:   16 << 20,
		MaxBatchBytes:   1 << 20,
		DecompressLimit: 64 << 20,
		FetchWait:       250 * time.Millisecond,
		DiscoverEvery:   time.Minute,
		StallAfter:      30 * time.Second,
		OpenTimeout:     10 * time.Second,
	}
}

const maxBytes = 1 << 30 // of any limit that the protocol or a Span holds as int32

// Validate returns every problem.
func (c Config) Validate() error {
	errs := []error{c.Connection.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Topic == "" {
		bad("topic: missing")
	}
	switch c.Start {
	case Earliest, Latest:
		if !c.StartTime.IsZero() {
			bad("start_time: only used with start: %s", Timestamp)
		}
	case Timestamp:
		if c.StartTime.IsZero() {
			bad("start_time: missing, start: %s needs it", Timestamp)
		}
	default:
		bad("start: %q is not one of %s, %s, %s", c.Start, Earliest, Latest, Timestamp)
	}
	if c.OnGap != Fail && c.OnGap != SkipAndRecord {
		bad("on_gap: %q is not one of %s, %s", c.OnGap, Fail, SkipAndRecord)
	}
	for _, l := range []struct {
		name string
		v    int64
		low  int64
	}{
		{"buffer_bytes", c.BufferBytes, 1 << 16},
		{"fetch_max_bytes", c.FetchMaxBytes, 1 << 10},
		{"max_batch_bytes", c.MaxBatchBytes, 1 << 10},
		{"decompress_limit", c.DecompressLimit, 1 << 10},
	} {
		if l.v < l.low || l.v > maxBytes && l.name != "buffer_bytes" {
			bad("%s: %d is not within %d..%d", l.name, l.v, l.low, maxBytes)
		}
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"fetch_wait", c.FetchWait}, {"discover_every", c.DiscoverEvery},
		{"stall_after", c.StallAfter}, {"open_timeout", c.OpenTimeout},
	} {
		if d.v < time.Millisecond {
			bad("%s: %v is below 1ms", d.name, d.v)
		}
	}
	if c.FetchWait > maxFetchWait {
		bad("fetch_wait: %v is above %v", c.FetchWait, maxFetchWait)
	}
	return errors.Join(errs...)
}

// maxFetchWait keeps Close, pauses and discovery from waiting for an idle broker.
const maxFetchWait = 10 * time.Second

const (
	// metadataTTL bounds the age of kafka-go's view of the cluster, and with it how long
	// a moved leader goes unnoticed.
	metadataTTL = 2 * time.Second
	// idleTimeout closes connections that were not used.
	idleTimeout = 30 * time.Second
)

// Transport builds the connection pool of a producer or of tools; sources make their own.
// It reads the TLS files.
func (c Connection) Transport() (*kafkago.Transport, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	t := &kafkago.Transport{
		Dial:        (&net.Dialer{Timeout: c.DialTimeout}).DialContext,
		DialTimeout: c.DialTimeout,
		IdleTimeout: idleTimeout,
		MetadataTTL: metadataTTL,
		ClientID:    c.ClientID,
	}
	var err error
	if t.TLS, err = c.TLS.config(); err != nil {
		return nil, err
	}
	if t.SASL, err = c.SASL.mechanism(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // the operator asked for it
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls ca_file: %w: %w", ErrTLS, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls ca_file %s: %w: no PEM certificate in it", t.CAFile, ErrTLS)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls cert_file %s, key_file %s: %w: %w", t.CertFile, t.KeyFile, ErrTLS, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case Plain:
		return plain.Mechanism{Username: s.User, Password: string(s.Password)}, nil
	case ScramSHA256:
		return scramOf(scram.SHA256, s)
	case ScramSHA512:
		return scramOf(scram.SHA512, s)
	}
	return nil, nil
}

// scramOf hides the library's error, which may quote what it refuses.
func scramOf(a scram.Algorithm, s SASL) (sasl.Mechanism, error) {
	m, err := scram.Mechanism(a, s.User, string(s.Password))
	if err != nil {
		return nil, fmt.Errorf("sasl: %w: user or password holds characters that %s does not allow", ErrCredentials, s.Mechanism)
	}
	return m, nil
}

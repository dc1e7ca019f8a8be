package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.yaml.in/yaml/v3"

	"github.com/tidemark/tidemark/pipeline"
)

const password = "hunter2hunter2"

// certificates writes an authority and a certificate for 127.0.0.1 signed by it.
func certificates(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: []string{name},
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.DNSNames, tmpl.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestOpenSecured(t *testing.T) {
	cert, ca := certificates(t, "127.0.0.1")
	_, stranger := certificates(t, "127.0.0.1")
	named, namedCA := certificates(t, "kafka.example")
	secure := func(cert tls.Certificate) []kfake.Opt {
		return []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}), kfake.SeedTopics(1, topic)}
	}
	login := []kfake.Opt{
		kfake.EnableSASL(), kfake.SeedTopics(1, topic), kfake.Superuser("PLAIN", "u", password),
		kfake.Superuser("SCRAM-SHA-256", "u", password), kfake.Superuser("SCRAM-SHA-512", "u", password),
	}
	onlyPlain := []kfake.Opt{kfake.EnableSASL(), kfake.SeedTopics(1, topic), kfake.Superuser("PLAIN", "u", password)}
	user := func(mechanism, name, pass string) func(*Config) {
		return func(c *Config) { c.SASL = SASL{mechanism, name, pipeline.Secret(pass)} }
	}
	for _, tc := range []struct {
		name string
		opts []kfake.Opt
		edit func(*Config)
		want error
		text string
	}{
		{"tls", secure(cert), func(c *Config) { c.TLS = TLS{Enabled: true, CAFile: ca} }, nil, ""},
		{"tls unverified", secure(cert), func(c *Config) { c.TLS = TLS{Enabled: true, InsecureSkipVerify: true} }, nil, ""},
		{"tls by name", secure(named), func(c *Config) { c.TLS = TLS{Enabled: true, CAFile: namedCA, ServerName: "kafka.example"} }, nil, ""},
		{"tls other name", secure(named), func(c *Config) { c.TLS = TLS{Enabled: true, CAFile: namedCA} }, ErrTLS, "tls.server_name"},
		{"tls other authority", secure(cert), func(c *Config) { c.TLS = TLS{Enabled: true, CAFile: stranger} }, ErrTLS, "tls.ca_file"},
		{"tls no authority file", secure(cert), func(c *Config) { c.TLS = TLS{Enabled: true, CAFile: "none.pem"} }, ErrTLS, "none.pem"},
		{"tls wanted, plain given", secure(cert), func(*Config) {}, nil, "tls"},
		{"plain wanted, tls given", []kfake.Opt{kfake.SeedTopics(1, topic)}, func(c *Config) { c.TLS = TLS{Enabled: true, CAFile: ca} }, nil, "tls"},
		{"plain", login, user(Plain, "u", password), nil, ""},
		{"scram 256", login, user(ScramSHA256, "u", password), nil, ""},
		{"scram 512", login, user(ScramSHA512, "u", password), nil, ""},
		{"plain refused", login, user(Plain, "u", password+"x"), ErrCredentials, "sasl.password"},
		{"scram refused", login, user(ScramSHA256, "u", password+"x"), ErrCredentials, "sasl.password"},
		{"unknown user", login, user(ScramSHA512, "v", password), ErrCredentials, `"v"`},
		{"mechanism not offered", onlyPlain, user(ScramSHA512, "u", password), ErrCredentials, "sasl"},
		{"no login", login, func(*Config) {}, ErrUnreachable, "sasl"},
		{"login not wanted", []kfake.Opt{kfake.SeedTopics(1, topic)}, user(Plain, "u", password), ErrCredentials, "sasl"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := kfake.NewCluster(append(tc.opts, kfake.NumBrokers(1))...)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			cfg := DefaultConfig()
			cfg.Brokers, cfg.Topic, cfg.OpenTimeout = k.ListenAddrs(), topic, 3*time.Second
			tc.edit(&cfg)
			s, err := Open(t.Context(), cfg, nil, nil)
			if tc.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				if ev := next(t, s); ev.Kind != pipeline.NewSplit {
					t.Error(ev)
				}
				if ev := next(t, s); ev.Kind != pipeline.LogEnd {
					t.Error(ev)
				}
				s.Close()
				return
			}
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			t.Log(err)
			if tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), password) {
				t.Errorf("%v", err)
			}
			if !strings.Contains(err.Error(), cfg.Brokers[0]) && tc.name != "tls no authority file" {
				t.Errorf("no broker in %v", err)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, topic))
	refused := func(edit func(*Config)) error {
		t.Helper()
		cfg := c.config()
		cfg.OpenTimeout = 2 * time.Second
		edit(&cfg)
		at := time.Now()
		s, err := Open(t.Context(), cfg, nil, nil)
		if err == nil {
			s.Close()
			t.Fatal("opened")
		}
		if d := time.Since(at); d > 4*time.Second {
			t.Errorf("%v for %v", d, err)
		}
		t.Log(err)
		return err
	}
	if err := refused(func(c *Config) { c.Topic = "nope" }); !errors.Is(err, ErrUnknownTopic) || !strings.Contains(err.Error(), `"nope"`) {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := l.Addr().String()
	if err := refused(func(c *Config) { c.Brokers = []string{silent} }); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), silent) {
		t.Error(err)
	}
	l.Close()
	if err := refused(func(c *Config) { c.Brokers = []string{silent} }); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), silent) {
		t.Error(err)
	}
	if err := refused(func(c *Config) { c.BufferBytes = 0; c.Start = "now"; c.Topic = "" }); strings.Count(err.Error(), "\n") != 2 {
		t.Error(err)
	}
	f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable, Count: -1})
	if err := refused(func(*Config) {}); !strings.Contains(err.Error(), "not ready") || !strings.Contains(err.Error(), "t/") {
		t.Error(err)
	}
	f.Remove()
	// What passes in time is waited for.
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition, Count: 3})
	open(t, c.config(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, c.config(), nil, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for id, want := range map[pipeline.Split]error{{Topic: "other"}: ErrUnknownTopic, part(9): ErrReplaced} {
		if _, err := Open(t.Context(), c.config(), nil, map[pipeline.Split]pipeline.Position{id: {}}); !errors.Is(err, want) {
			t.Error(err)
		}
	}
}

func TestNotAuthorized(t *testing.T) {
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic), kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "u", password))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	cfg := DefaultConfig()
	cfg.Brokers, cfg.Topic, cfg.OpenTimeout, cfg.SASL = k.ListenAddrs(), topic, 2*time.Second, SASL{Plain, "u", password}
	if _, err := Open(t.Context(), cfg, nil, nil); !errors.Is(err, ErrCredentials) && !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	c := DefaultConfig()
	c.SASL = SASL{Plain, "u", password}
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "cfg", c)
	for _, s := range []string{string(j), string(y), log.String(), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		if strings.Contains(s, password) {
			t.Error(s)
		}
	}
}

func TestConfigFromYAML(t *testing.T) {
	c := DefaultConfig()
	err := yaml.Unmarshal([]byte(`
brokers: [a:1, b:2]
topic: x
start: timestamp
start_time: 2026-01-02T03:04:05Z
fetch_wait: 100ms
tls: {enabled: true, server_name: k}
sasl: {mechanism: plain, user: u, password: hunter2hunter2}
`), &c)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if len(c.Brokers) != 2 || c.SASL.Password != password || c.FetchWait != 100*time.Millisecond || !c.TLS.Enabled || c.StallAfter != 30*time.Second {
		t.Errorf("%+v", c)
	}
}

func TestValidateFindsAll(t *testing.T) {
	c := Config{Connection: Connection{Brokers: []string{"host"}, SASL: SASL{Mechanism: "gssapi"}, TLS: TLS{CertFile: "x"}}, OnGap: "maybe", Start: Timestamp}
	text := c.Validate().Error()
	for _, s := range []string{"topic", "host", "dial_timeout", "tls: options", "cert_file", "gssapi", "start_time", "maybe", "buffer_bytes", "fetch_max_bytes", "max_batch_bytes", "decompress_limit", "fetch_wait", "discover_every", "stall_after", "open_timeout"} {
		if !strings.Contains(text, s) {
			t.Errorf("%s is missing in\n%s", s, text)
		}
	}
	d := DefaultConfig()
	d.Topic = topic
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
}

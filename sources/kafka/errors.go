package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
)

// What callers test with errors.Is.
var (
	// From Open.
	ErrUnreachable  = errors.New("no broker reachable")
	ErrCredentials  = errors.New("credentials refused")
	ErrTLS          = errors.New("TLS mismatch")
	ErrUnknownTopic = errors.New("unknown topic")

	// From Open and Next; see doc.go.
	ErrAgedOut  = errors.New("offsets aged out of the log")
	ErrPastEnd  = errors.New("offset past the log end")
	ErrReplaced = errors.New("log replaced")
	ErrCorrupt  = errors.New("corrupt log")
	ErrFormat   = errors.New("unsupported message format")
	ErrLimit    = errors.New("record set above the limit")

	// From Next after Close.
	ErrClosed = errors.New("source closed")
)

// Explain wraps an error of the first contact with a cluster into one that says the cause
// and the next step. It names brokers and user, never a password.
func (c Connection) Explain(err error) error {
	at := strings.Join(c.Brokers, ",")
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.Is(err, ErrTLS), errors.Is(err, ErrCredentials), errors.Is(err, ErrUnreachable):
		return err
	case errors.Is(err, kafkago.SASLAuthenticationFailed):
		return fmt.Errorf("%w: %s refuses user %q with %s: check sasl.user and sasl.password", ErrCredentials, at, c.SASL.User, c.SASL.Mechanism)
	case errors.Is(err, kafkago.UnsupportedSASLMechanism):
		return fmt.Errorf("%w: %s does not offer %s: set sasl.mechanism to one that the listener enables", ErrCredentials, at, c.SASL.Mechanism)
	case errors.Is(err, kafkago.IllegalSASLState):
		return fmt.Errorf("%w: %s expects no SASL login now: check sasl.mechanism and the listener's port", ErrCredentials, at)
	case errors.As(err, &host):
		return fmt.Errorf("%w: %s: %w: set tls.server_name to a name in the certificate", ErrTLS, at, err)
	case errors.As(err, &cert):
		return fmt.Errorf("%w: %s: %w: set tls.ca_file to the authority that signed the broker's certificate", ErrTLS, at, err)
	case errors.As(err, &record):
		return fmt.Errorf("%w: %s does not speak TLS: set tls.enabled to false or use the TLS listener's port", ErrTLS, at)
	case errors.As(err, &alert), strings.Contains(fmt.Sprint(err), "remote error: tls"):
		return fmt.Errorf("%w: %s: %w: check tls.cert_file and tls.key_file", ErrTLS, at, err)
	case strings.Contains(fmt.Sprint(err), "expecting TLS"):
		return fmt.Errorf("%w: %s expects TLS: set tls.enabled to true or use the plain listener's port", ErrTLS, at)
	case c.SASL.Mechanism != "" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		// Some brokers refuse a login by closing the connection.
		return fmt.Errorf("%w: %s closed the connection at the login of user %q with %s: check sasl.user, sasl.password, sasl.mechanism and the listener's tls setting", ErrCredentials, at, c.SASL.User, c.SASL.Mechanism)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %s closed the connection without an answer: its listener may expect other tls or sasl settings", ErrUnreachable, at)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s gave no answer in time: check brokers and firewall, and that the listener expects these tls settings", ErrUnreachable, at)
	case errors.As(err, &op):
		return fmt.Errorf("%w: %s: %w: check brokers and that the cluster runs", ErrUnreachable, at, err)
	}
	return fmt.Errorf("cluster %s: %w", at, err)
}

// permanent tells whether the first contact is worth no second try.
func permanent(err error) bool {
	for _, e := range []error{ErrTLS, ErrCredentials, ErrUnreachable, ErrUnknownTopic, ErrAgedOut, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

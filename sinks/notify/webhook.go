package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// message is the body of a webhook.
type message struct {
	UUID       string          `json:"uuid"`
	Transition Transition      `json:"transition"`
	Policy     string          `json:"policy"`
	Type       string          `json:"type"`
	Entity     string          `json:"entity"`
	Title      string          `json:"title"`
	Start      string          `json:"start,omitempty"`
	End        string          `json:"end,omitempty"`
	Link       string          `json:"link,omitempty"`
	Event      json.RawMessage `json:"event"` // in OCSF
}

// messageOf says what there is to say of a notification.
func messageOf(cfg Config, n notification) (message, event, error) {
	e, _, err := readEvent(n.Event)
	if err != nil {
		return message{}, e, permanentError{err}
	}
	typ, id, _ := e.about()
	m := message{UUID: n.UID, Transition: n.Transition, Policy: n.Policy, Type: typ, Entity: id, Title: e.Info.Title, Start: instant(e.StartTime), End: instant(e.EndTime),
		Link: strings.ReplaceAll(cfg.Link, "{uid}", url.PathEscape(n.UID)), Event: n.Event}
	return m, e, nil
}

func instant(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

// webhook posts notifications to one URL.
type webhook struct {
	cfg    Config
	hook   Webhook
	client *http.Client
}

// maxAnswer is how much of an answer is read, so that the connection can be used again.
const maxAnswer = 64 << 10

// newClient connects to public addresses and allowed networks only, whatever names resolve to.
func newClient(cfg Config, allowed []netip.Prefix) *http.Client {
	dialer := &net.Dialer{Timeout: cfg.AttemptTimeout, Control: func(_, address string, _ syscall.RawConn) error { return guard(address, allowed) }}
	return &http.Client{
		Timeout:       cfg.AttemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy of the environment: it would connect in our place.
		Transport: &http.Transport{Proxy: nil, DialContext: dialer.DialContext, TLSHandshakeTimeout: cfg.AttemptTimeout, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer},
	}
}

func (w *webhook) send(ctx context.Context, n notification) error {
	m, _, err := messageOf(w.cfg, n)
	if err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return permanentError{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.hook.URL, bytes.NewReader(body))
	if err != nil {
		return permanentError{err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tidemark")
	req.Header.Set("Idempotency-Key", n.key())
	if w.hook.Token != "" {
		req.Header.Set("Authorization", "Bearer "+string(w.hook.Token))
	}
	resp, err := w.client.Do(req)
	if named := (*url.Error)(nil); errors.As(err, &named) {
		err = named.Err // without the URL, which may be a secret
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // the status decides
	return verdict(resp)
}

// verdict says what a status means.
func verdict(resp *http.Response) error {
	err := fmt.Errorf("the receiver answered %s", resp.Status)
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		if s, perr := strconv.Atoi(resp.Header.Get("Retry-After")); perr == nil && s > 0 {
			return laterError{err, time.Duration(min(s, int(maxPause/time.Second))) * time.Second}
		}
		return err
	case code >= 300 && code < 400:
		return permanentError{fmt.Errorf("%w: redirects are not followed; name the place itself", err)}
	}
	return permanentError{err}
}

// guardError says that a connection would have left the public network.
type guardError struct{ addr netip.Addr }

func (e guardError) Error() string {
	return fmt.Sprintf("the name of the receiver leads to %s, which is no public address; if that is meant, name its network in allow_networks", e.addr)
}

// special are networks, beside those that netip tells, in which no public server is.
// Source: the special-purpose registries of IANA (RFC 6890).
func special() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// guard is asked about every address to which a connection is about to be made.
func guard(address string, allowed []netip.Prefix) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return permanentError{fmt.Errorf("address %q: %w", address, err)}
	}
	addr := ap.Addr().Unmap().WithZone("")
	for _, p := range allowed {
		if p.Contains(addr) {
			return nil
		}
	}
	public := addr.IsGlobalUnicast() && !addr.IsPrivate() && (addr.Is4() || netip.MustParsePrefix("2000::/3").Contains(addr))
	for _, p := range special() {
		public = public && !p.Contains(addr)
	}
	if !public {
		return permanentError{guardError{addr}}
	}
	return nil
}

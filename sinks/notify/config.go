package notify

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pipeline"
)

// Config says who is told what.
type Config struct {
	Policies []Policy `yaml:"policies"`
	// SMTP is the server that takes e-mail.
	SMTP *SMTP `yaml:"smtp"`
	// AllowNetworks are networks, such as 10.1.0.0/16, in which webhooks may be although they
	// are not public.
	AllowNetworks []string `yaml:"allow_networks"`
	// Link is where a person reads on; {uid} in it stands for the uid of the finding.
	Link string `yaml:"link"`
	// MaxAge is how old a finding may be, by its event time, when it is made.
	MaxAge time.Duration `yaml:"max_age"`
	// RetryFor is how long a notification is tried.
	RetryFor time.Duration `yaml:"retry_for"`
	// AttemptTimeout bounds one attempt.
	AttemptTimeout time.Duration `yaml:"attempt_timeout"`
}

// Policy chooses findings. A list that is empty takes all.
type Policy struct {
	Name string `yaml:"name"`
	// Rules are names of what found it: traffic_drop_forecast, pdu_branch_overload.
	Rules []string `yaml:"rules"`
	// Types are LOCATION, AS and DEVICE; Locations country codes; ASNs numbers of autonomous
	// systems.
	Types     []string `yaml:"types"`
	Locations []string `yaml:"locations"`
	ASNs      []uint32 `yaml:"asns"`
	// Transitions are create, update, close; create alone unless said otherwise.
	Transitions []Transition `yaml:"transitions"`
	Webhooks    []Webhook    `yaml:"webhooks"`
	Emails      []string     `yaml:"emails"`
}

// Transition is what happened to a finding.
type Transition string

// Transitions, by the activities of the class.
const (
	Create Transition = "create"
	Update Transition = "update"
	Close  Transition = "close"
)

// Webhook is a receiver of JSON by POST.
type Webhook struct {
	URL string `yaml:"url"`
	// Token is sent as a bearer token.
	Token pipeline.Secret `yaml:"token"`
	// AllowHTTP takes a URL without TLS.
	AllowHTTP bool `yaml:"allow_http"`
}

// SMTP is a mail server.
type SMTP struct {
	Host string `yaml:"host"`
	Port int    `yaml:"port"`
	// TLS is starttls (the default), tls, or none for a server on this machine.
	TLS      string          `yaml:"tls"`
	User     string          `yaml:"user"`
	Password pipeline.Secret `yaml:"password"`
	From     string          `yaml:"from"`
}

// Ways of SMTP.TLS.
const (
	StartTLS = "starttls"
	TLS      = "tls"
	NoTLS    = "none"
)

// DefaultConfig tells nobody.
func DefaultConfig() Config {
	return Config{MaxAge: 24 * time.Hour, RetryFor: 24 * time.Hour, AttemptTimeout: 10 * time.Second}
}

// SetDefaults sets those of DefaultConfig.
func (c *Config) SetDefaults() { *c = DefaultConfig() }

// DefaultSMTP lacks Host and From.
func DefaultSMTP() SMTP { return SMTP{Port: 587, TLS: StartTLS} }

// SetDefaults sets those of DefaultSMTP.
func (s *SMTP) SetDefaults() { *s = DefaultSMTP() }

// networks reads AllowNetworks.
func (c Config) networks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	var errs []error
	for _, text := range c.AllowNetworks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("allow_networks: %q: want a network such as 10.1.0.0/16", text))
			continue
		}
		out = append(out, p.Masked())
	}
	return out, errors.Join(errs...)
}

// Validate returns every problem.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Policies) == 0 {
		add("policies: missing: say who is told what")
	}
	names := map[string]bool{}
	mails := false
	for i, p := range c.Policies {
		if names[p.Name] {
			add("policies %d: name %q is that of another policy", i, p.Name)
		}
		names[p.Name] = true
		mails = mails || len(p.Emails) > 0
		for _, err := range p.problems() {
			add("policies %d: %w", i, err)
		}
	}
	if mails && c.SMTP == nil {
		add("smtp: missing: policies with emails need a server that takes them")
	}
	if c.SMTP != nil {
		for _, err := range c.SMTP.problems() {
			add("smtp: %w", err)
		}
	}
	for name, d := range map[string]time.Duration{"max_age": c.MaxAge, "retry_for": c.RetryFor, "attempt_timeout": c.AttemptTimeout} {
		if d <= 0 {
			add("%s %v: must be above 0", name, d)
		}
	}
	if c.MaxAge > sentFor {
		add("max_age %v: at most %v, for as long as is remembered what was sent", c.MaxAge, sentFor)
	}
	if _, err := c.networks(); err != nil {
		errs = append(errs, err)
	}
	if c.Link != "" {
		if u, err := url.Parse(c.Link); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			add("link %q: want a URL such as https://example.net/findings/{uid}", c.Link)
		}
	}
	return errors.Join(errs...)
}

func (p Policy) problems() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Name == "" || strings.ContainsAny(p.Name, "\n\r") {
		add("name %q: give the policy a name of one line", p.Name)
	}
	if len(p.Webhooks)+len(p.Emails) == 0 {
		add("neither webhooks nor emails: nobody would be told")
	}
	for _, t := range p.Types {
		if !slices.Contains([]string{TypeLocation, TypeAS, TypeDevice}, t) {
			add("types: %q: known are %s, %s, %s", t, TypeLocation, TypeAS, TypeDevice)
		}
	}
	for _, l := range p.Locations {
		if len(l) != 2 || strings.ToUpper(l) != l {
			add("locations: %q: want a country code of two capital letters", l)
		}
	}
	for _, t := range p.Transitions {
		if t != Create && t != Update && t != Close {
			add("transitions: %q: known are %s, %s, %s", t, Create, Update, Close)
		}
	}
	for _, w := range p.Webhooks {
		if err := w.problem(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, m := range p.Emails {
		if a, err := mail.ParseAddress(m); err != nil || a.Address != m {
			add("emails: %q: want an address such as noc@example.net", m)
		}
	}
	return errs
}

func (w Webhook) problem() error {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("webhooks: url %q: want https://host/path", w.URL)
	case u.Scheme == "http" && !w.AllowHTTP:
		return fmt.Errorf("webhooks: url %q: without TLS anybody on the way reads it; take https, or set allow_http", w.URL)
	case u.User != nil:
		return fmt.Errorf("webhooks: url of host %s has a password in it: set token", u.Host)
	}
	return nil
}

func (s SMTP) problems() []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Host == "" {
		add("host: missing")
	}
	if s.Port < 1 || s.Port > 65535 {
		add("port %d: want 1 to 65535", s.Port)
	}
	if s.TLS != StartTLS && s.TLS != TLS && s.TLS != NoTLS {
		add("tls %q: known are %s, %s, %s", s.TLS, StartTLS, TLS, NoTLS)
	}
	if ip := net.ParseIP(s.Host); s.TLS == NoTLS && s.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		add("tls %s: is for a server on this machine, and %q is another: anybody on the way would read the letters and the password", NoTLS, s.Host)
	}
	if a, err := mail.ParseAddress(s.From); err != nil {
		add("from %q: want an address such as Tidemark <tidemark@example.net>", s.From)
	} else if a.Address == "" {
		add("from %q: has no address", s.From)
	}
	return errs
}

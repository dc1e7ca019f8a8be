package notify

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"strings"
	text "text/template"

	"github.com/wneessen/go-mail"
)

// email sends notifications to one address.
type email struct {
	cfg    Config
	to     string
	client *mail.Client
}

func newEmail(cfg Config, to string) (*email, error) {
	opts := []mail.Option{mail.WithPort(cfg.SMTP.Port), mail.WithTimeout(cfg.AttemptTimeout)}
	switch cfg.SMTP.TLS {
	case TLS:
		opts = append(opts, mail.WithSSL())
	case NoTLS:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if cfg.SMTP.User != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(cfg.SMTP.User), mail.WithPassword(string(cfg.SMTP.Password)))
	}
	client, err := mail.NewClient(cfg.SMTP.Host, opts...)
	if err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	return &email{cfg, to, client}, nil
}

// letter is what an e-mail says.
type letter struct {
	message
	Name, Desc, Message, Severity string
}

const textLetter = `{{.Title}}

{{.Message}}
{{with .Desc}}{{.}}
{{end}}
What:     {{.Type}} {{.Name}}
{{with .Severity}}Severity: {{.}}
{{end}}Status:   {{.Transition}}
{{with .Start}}Start:    {{.}}
{{end}}{{with .End}}End:      {{.}}
{{end}}{{with .Link}}
{{.}}
{{end}}
Finding {{.UUID}}, by policy {{.Policy}}
`

const htmlLetter = `<!DOCTYPE html><html><body style="font-family:sans-serif">
<h2>{{.Title}}</h2>
<p>{{.Message}}</p>{{with .Desc}}<p>{{.}}</p>{{end}}
<table>
<tr><td>What</td><td>{{.Type}} {{.Name}}</td></tr>
{{with .Severity}}<tr><td>Severity</td><td>{{.}}</td></tr>{{end}}
<tr><td>Status</td><td>{{.Transition}}</td></tr>
{{with .Start}}<tr><td>Start</td><td>{{.}}</td></tr>{{end}}
{{with .End}}<tr><td>End</td><td>{{.}}</td></tr>{{end}}
</table>
{{with .Link}}<p><a href="{{.}}">{{.}}</a></p>{{end}}
<p style="color:#777">Finding {{.UUID}}, by policy {{.Policy}}</p>
</body></html>
`

func (m *email) send(ctx context.Context, n notification) error {
	said, e, err := messageOf(m.cfg, n)
	if err != nil {
		return err
	}
	_, _, name := e.about()
	l := letter{said, name, e.Info.Desc, e.Message, e.Severity}
	msg, err := m.compose(n, l)
	if err != nil {
		return permanentError{err}
	}
	err = m.client.DialAndSendWithContext(ctx, msg)
	if msg.IsDelivered() {
		return nil // the server has taken it; what it says of the farewell does not matter
	}
	if refused := (*mail.SendError)(nil); errors.As(err, &refused) && !refused.IsTemp() && refused.ErrorCode() >= 500 {
		return permanentError{err} // the server has said that it will not
	}
	return err
}

// compose writes the letter. Its Message-ID is the same in every attempt.
func (m *email) compose(n notification, l letter) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(m.cfg.SMTP.From); err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	if err := msg.To(m.to); err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	msg.Subject(oneLine(fmt.Sprintf("[%s] %s", n.Transition, l.Title)))
	msg.SetMessageIDWithValue(n.ID + "@tidemark")
	msg.SetDateWithValue(n.Queued)
	msg.SetGenHeader("Idempotency-Key", oneLine(n.key()))
	plain, err := text.New("text").Parse(textLetter)
	if err != nil {
		return nil, err
	}
	if err := msg.SetBodyTextTemplate(plain, l); err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	html, err := template.New("html").Parse(htmlLetter)
	if err != nil {
		return nil, err
	}
	if err := msg.AddAlternativeHTMLTemplate(html, l); err != nil {
		return nil, fmt.Errorf("html: %w", err)
	}
	return msg, nil
}

// oneLine keeps what comes from a finding out of the lines behind it.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

package mail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"

	gomail "github.com/wneessen/go-mail"
)

// SMTP sends by a mail server (RFC 5321).
type SMTP struct {
	from   string
	client *gomail.Client
}

// NewSMTP returns a sender on the mail server of the URL: smtps://user:password@host:port, encrypted from the start, or smtp://…, which turns
// encryption on before anything is said; only on loopback it may do without. From is the address that mails come from, with or without a
// name. Its errors hold no password.
func NewSMTP(server, from string) (*SMTP, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "smtps" && u.Scheme != "smtp" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("must be of the form smtps://user:password@host or smtp://user:password@host:587")
	}
	port, mechanism := 465, gomail.SMTPAuthAutoDiscover
	options := []gomail.Option{gomail.WithTimeout(sendTimeout)}
	if u.Scheme == "smtps" {
		options = append(options, gomail.WithSSL())
	} else {
		port = 587
		policy := gomail.TLSMandatory
		if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
			policy, mechanism = gomail.TLSOpportunistic, gomail.SMTPAuthPlainNoEnc
		}
		options = append(options, gomail.WithTLSPolicy(policy))
	}
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
			return nil, errors.New("has no valid port")
		}
	}
	options = append(options, gomail.WithPort(port))
	if u.User != nil {
		password, _ := u.User.Password()
		options = append(options, gomail.WithSMTPAuth(mechanism), gomail.WithUsername(u.User.Username()), gomail.WithPassword(password))
	}
	client, err := gomail.NewClient(u.Hostname(), options...)
	if err != nil {
		return nil, errors.New("cannot be used") // the library's error may hold what it was given
	}
	return &SMTP{from: from, client: client}, nil
}

// Send implements Sender.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg := gomail.NewMsg()
	if err := errors.Join(msg.From(s.from), msg.To(m.To)); err != nil {
		return fmt.Errorf("%w: the address cannot be written to", ErrRefused)
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageID()
	msg.SetGenHeader(gomail.Header("Auto-Submitted"), "auto-generated") // RFC 3834: no out-of-office answers
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	err := s.client.DialAndSendWithContext(ctx, msg)
	var refused *gomail.SendError
	if errors.As(err, &refused) && !refused.IsTemp() && refused.ErrorCode() >= 500 {
		return fmt.Errorf("%w: SMTP %d", ErrRefused, refused.ErrorCode())
	}
	return err
}

// Check connects to the mail server and signs in there, and sends nothing.
func (s *SMTP) Check(ctx context.Context) error {
	if err := s.client.DialWithContext(ctx); err != nil {
		return err
	}
	return s.client.Close()
}

// Printer writes mails to a terminal, for who tries Signet without a mail server.
type Printer struct{ W io.Writer }

// Send implements Sender.
func (p Printer) Send(_ context.Context, m Message) error {
	_, err := fmt.Fprintf(p.W, "\n--- a mail to %s\nSubject: %s\n\n%s---\n\n", m.To, m.Subject, m.Text)
	return err
}

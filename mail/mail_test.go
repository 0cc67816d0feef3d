package mail

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	netmail "net/mail"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Every catalog has the same texts, with the same places to fill in, and none that is another language's.
func TestCatalogsAreComplete(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`\{[a-z]+\}`)
	for i, catalog := range catalogs[1:] {
		for key, english := range catalogs[0] {
			text := catalog[key]
			if text == "" || text == english || strings.Join(names.FindAllString(text, -1), "") == "" != (len(names.FindAllString(english, -1)) == 0) {
				t.Errorf("%s: %s is %q", languages[i+1], key, text)
			}
		}
		if len(catalog) != len(catalogs[0]) {
			t.Errorf("%s has %d texts, English has %d", languages[i+1], len(catalog), len(catalogs[0]))
		}
	}
}

func TestLetters(t *testing.T) {
	t.Parallel()
	s := New(nil, nil, Config{Issuer: "https://auth.example.com", Brand: `A <b> & "c"`}, slog.New(slog.DiscardHandler))
	for _, kind := range []string{"reset", "invitation", "sign_up", "known", string(PasswordChanged), string(PasskeyAdded), string(PasskeyRemoved), string(AppAdded),
		string(AppRemoved), string(RecoveryCodes), string(FactorsRemoved)} {
		notice := !slices.Contains([]string{"reset", "invitation", "sign_up", "known"}, kind)
		for _, locale := range []string{"en", "de-AT", "es", "fr", "zh-CN", "tlh", "", "not a language"} {
			m, err := s.write(letter{kind: kind, to: "ann@example.com", user: `<script>alert("x")</script>`, url: s.ResetURL("sgo_x"), notice: notice}, []string{locale})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(m.Text, "\n\n\n") { // a text that is not there
				t.Errorf("%s in %q: %s", kind, locale, m.Text)
			}
			if m.Subject == "" || strings.ContainsAny(m.Subject, "{}\r\n") || strings.Contains(m.Text, "{") || strings.Contains(m.HTML, "{user}") {
				t.Errorf("%s in %q: %s\n%s", kind, locale, m.Subject, m.Text)
			}
			if strings.Contains(m.HTML, "<script>") || strings.Contains(m.HTML, "<b>") || !strings.Contains(m.HTML, `href="https://auth.example.com/reset?link=sgo_x"`) {
				t.Errorf("%s in %q: %s", kind, locale, m.HTML)
			}
			if !strings.Contains(m.Text, "\nhttps://auth.example.com/reset?link=sgo_x\n") {
				t.Errorf("%s in %q: %s", kind, locale, m.Text)
			}
		}
	}
}

// received is what a mail server has got.
type received struct {
	mu             sync.Mutex
	user, password string
	from, to, data string
	refuse         error
}

func (r *received) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{r}, nil }

type session struct{ *received }

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.user, s.password = username, password
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
	return s.refuse
}

func (s *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = string(b)
	return err
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// serve runs a mail server on loopback for as long as the test lasts, with a certificate that nobody trusts where it has one.
func (r *received) serve(t *testing.T, encrypted bool) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(r)
	server.Domain, server.AllowInsecureAuth = "localhost", true
	address = l.Addr().String()
	if encrypted {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends when it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return address
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestSMTP(t *testing.T) {
	t.Parallel()
	message := Message{To: "ann@example.com", Subject: "Grüße 你好", Text: "plain ü\n", HTML: "<p>html ü</p>"}
	t.Run("sent", func(t *testing.T) {
		t.Parallel()
		var r received
		s, err := NewSMTP("smtp://us%40er:p%3Ass@"+r.serve(t, false), `Example <login@example.com>`)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), message); err != nil {
			t.Fatal(err)
		}
		m, err := netmail.ReadMessage(strings.NewReader(r.data))
		if err != nil {
			t.Fatal(err)
		}
		if r.user != "us@er" || r.password != "p:ss" || r.from != "login@example.com" || r.to != message.To {
			t.Errorf("%+v", &r)
		}
		if m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Message-Id") == "" || !strings.HasPrefix(m.Header.Get("Content-Type"), "multipart/alternative") ||
			!strings.Contains(r.data, "text/html") || !strings.Contains(r.data, "plain =C3=BC") {
			t.Errorf("%s", r.data)
		}
	})
	t.Run("refused for good, or for now", func(t *testing.T) {
		t.Parallel()
		for code, final := range map[int]bool{550: true, 553: true, 450: false, 421: false} {
			r := received{refuse: &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: "no"}}
			s, err := NewSMTP("smtp://"+r.serve(t, false), "login@example.com")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(t.Context(), message); err == nil || errors.Is(err, ErrRefused) != final {
				t.Errorf("%d: %v", code, err)
			}
		}
	})
	t.Run("a certificate that nobody trusts", func(t *testing.T) {
		t.Parallel()
		var r received
		s, err := NewSMTP("smtps://user:password@"+r.serve(t, true), "login@example.com")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), message); err == nil || r.data != "" || r.password != "" {
			t.Errorf("%v, %+v", err, &r)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		s, err := NewSMTP("smtps://user:secret@127.0.0.1:1", "login@example.com")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Send(ctx, message); err == nil || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	})
	for _, bad := range []string{"", "smtp.example.com", "http://smtp.example.com", "smtps://", "smtps://host/path", "smtps://host?x=y", "smtps://host:0", "smtps://host:99999", "smtps://user:secret@host:port"} {
		if _, err := NewSMTP(bad, "login@example.com"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Encryption is wanted wherever the mail server is not on this machine.
func TestSMTPIsEncrypted(t *testing.T) {
	t.Parallel()
	s, err := NewSMTP("smtp://mail.example.com", "login@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if policy := s.client.TLSPolicy(); policy != "TLSMandatory" {
		t.Errorf("%s", policy)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 6: 32 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		if got := Pause(attempts); got != want {
			t.Errorf("%d: %s, want %s", attempts, got, want)
		}
	}
	if sendTimeout >= firstPause {
		t.Error("another replica may make the same attempt")
	}
}

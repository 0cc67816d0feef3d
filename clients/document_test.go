package clients

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// saying is a document.
type saying string

func (s saying) JSON(context.Context, string) ([]byte, *time.Duration, error) {
	return []byte(s), nil, nil
}

// counting is a server whose document is good for that long, and that counts how often it is asked.
type counting struct {
	saying
	maxAge *time.Duration
	asked  int
}

func (c *counting) JSON(context.Context, string) ([]byte, *time.Duration, error) {
	c.asked++
	return []byte(c.saying), c.maxAge, nil
}

// How long a document is taken without another look is for its server to say, within bounds.
func TestDocumentFreshness(t *testing.T) {
	const id = "https://tool.example.com/client.json"
	day, second, half := 24*time.Hour, time.Second, 30*time.Minute
	for _, c := range []struct {
		maxAge *time.Duration
		text   saying
		want   time.Duration
	}{
		{nil, "", 10 * time.Minute}, {&half, "", half}, {&day, "", time.Hour}, {&second, "", time.Minute}, {new(time.Duration), "", time.Minute},
		{&day, "{}", 30 * time.Second}, // what is none is asked for again soon
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &counting{saying: cmp.Or(c.text, `{"client_id": "`+id+`", "redirect_uris": ["https://tool.example.com/cb"]}`), maxAge: c.maxAge}
			s := New(nil, Config{RegistrationScopes: Scope{"openid"}, Documents: d}, slog.New(slog.DiscardHandler))
			_, _ = s.fetchDocument(t.Context(), id, func() error { return nil })
			time.Sleep(c.want - time.Nanosecond)
			_, _ = s.fetchDocument(t.Context(), id, func() error { return nil })
			if d.asked != 1 {
				t.Errorf("%v: asked %d times within %s", c.maxAge, d.asked, c.want)
			}
			time.Sleep(time.Nanosecond)
			if _, err := s.fetchDocument(t.Context(), id, func() error { return nil }); d.asked != 2 || (err != nil) != (c.text != "") {
				t.Errorf("%v: asked %d times in %s, %v", c.maxAge, d.asked, c.want, err)
			}
		})
	}
}

// A document is one for all servers: scopes of others are no reason to turn its client away.
func TestDocumentWithScopesOfOtherServers(t *testing.T) {
	const id = "https://tool.example.com/client.json"
	s := New(nil, Config{RegistrationScopes: Scope{"openid", "profile"}, Documents: saying("")}, slog.New(slog.DiscardHandler))
	c, err := s.parseDocument(id, []byte(`{"client_id": "`+id+`", "redirect_uris": ["https://tool.example.com/cb"], "scope": "mcp:tools openid"}`))
	if err != nil || c.Scope.String() != "openid" {
		t.Errorf("%q, %v", c.Scope, err)
	}
	if _, err = s.parseDocument(id, []byte(`{"client_id": "`+id+`", "redirect_uris": ["https://tool.example.com/cb"], "scope": "openid signet:admin"}`)); err == nil {
		t.Error("a scope of Signet's own is in a document")
	}
}

// Whatever a document or a registration says, a client that comes of it may have no more than what is open to those who come by themselves.
func FuzzParseDocument(f *testing.F) {
	const id = "https://tool.example.com/client.json"
	for _, text := range []string{
		`{"client_id": "` + id + `", "redirect_uris": ["https://tool.example.com/cb"]}`,
		`{"client_id": "` + id + `", "redirect_uris": ["http://127.0.0.1/cb"], "grant_types": ["password", "authorization_code"], "scope": "openid signet:admin"}`,
		`{"client_id": "` + id + `", "client_secret": "x", "skip_consent": true, "resource_server": true, "registered": false, "browser_origins": ["https://a.example"]}`,
		`{"client_id": "` + id + `", "jwks_uri": "http://10.0.0.1/", "token_endpoint_auth_method": "private_key_jwt", "access_token_ttl": "30d"}`,
		`{"client_id": 1}`, `[]`, `null`, `{"client_id": "` + id + `", "client_id": "x"}`,
	} {
		f.Add(text)
	}
	s := New(nil, Config{RegistrationScopes: Scope{"openid", "profile"}, Documents: saying("")}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := s.parseDocument(id, []byte(text))
		if err != nil {
			var field *FieldError
			if !errors.As(err, &field) && !errors.Is(err, ErrSoftwareStatement) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, g := range c.Grants {
			if g != AuthorizationCode && g != RefreshToken {
				t.Errorf("%q has the grant %s", text, g)
			}
		}
		if c.ID != id || c.HasSecret() || c.SkipConsent || c.ResourceServer || !c.Registered || len(c.BrowserOrigins) > 0 || !c.Scope.Within(Scope{"openid", "profile"}) ||
			c.AccessTTL != 0 || strings.HasPrefix(c.JWKSURI, "http:") || c.OptionalPKCE {
			t.Errorf("%q is %+v", text, c)
		}
	})
}

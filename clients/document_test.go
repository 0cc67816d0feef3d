package clients

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// saying is a document.
type saying string

func (s saying) JSON(context.Context, string) ([]byte, error) { return []byte(s), nil }

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

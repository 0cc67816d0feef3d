package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"signet/audit"
	"signet/storage/storagetest"
	"signet/users"
)

// A refresh needs the authenticated client that the token was issued to, not just any with any secret.
func TestRefreshIsBoundToItsClient(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, web := r.app(t, "app"), r.app(t, "web", public)
		token := r.login(t, c, r.user(t, "alice")).RefreshToken
		f := form("grant_type", "refresh_token", "refresh_token", token)
		for name, a := range map[string]answer{
			"wrong secret":           r.do(t, r.request(t.Context(), "/token", f.Encode(), basic(c.ID, "wrong"))),
			"no secret":              r.do(t, r.request(t.Context(), "/token", f.Encode()+"&client_id=app")),
			"no client":              r.do(t, r.request(t.Context(), "/token", f.Encode())),
			"a public client":        r.post(t, "/token", web, f),
			"a public client's id":   r.do(t, r.request(t.Context(), "/token", f.Encode()+"&client_id=web", basic(c.ID, "wrong"))),
			"another client's token": r.refresh(t, r.app(t, "other"), token),
		} {
			if a.status != http.StatusUnauthorized && a.status != http.StatusBadRequest {
				t.Errorf("%s: got %d %s", name, a.status, a.body)
			}
		}
		r.refresh(t, c, token).issued(t)
	})
}

// An unknown client is an error of the caller, with the challenge that RFC 6749 wants, not one of the server.
func TestUnknownClientIsChallenged(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		a := r.do(t, r.request(t.Context(), "/token", "grant_type=client_credentials", basic("nobody", "secret")))
		wellFormed(t, a.want(t, http.StatusUnauthorized, "invalid_client"))
	})
}

// bcryptOf72 is the hash of 72 letters a.
const bcryptOf72 = "$2b$10$7iZbthhraCLzu4qTbf30C.3ywI1TKf9QO8kqcDotcq98q8qnGWmNe"

// bcrypt looks at the first 72 bytes alone: longer passwords that begin alike must not be the same.
func TestLongPasswords(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		long := strings.Repeat("a", 72)
		_, err := r.users.Create(t.Context(), "new", long+"b", false, users.Profile{}, origin)
		check(t, err)
		// As it comes from another server: a bcrypt hash of 72 bytes.
		_, err = r.store.CreateUser(t.Context(), users.User{
			ID: uuid.NewString(), Username: "imported", PasswordHash: bcryptOf72,
		}, "imported", audit.New(audit.UserCreated, origin))
		check(t, err)
		r.passwordGrant(t, c, "new", long+"b").issued(t)
		isRefused(t, r.passwordGrant(t, c, "new", long+"c"))
		isRefused(t, r.passwordGrant(t, c, "new", long))
		isRefused(t, r.passwordGrant(t, c, "imported", long+"b"))
		isRefused(t, r.passwordGrant(t, c, "imported", long[:71]))
		r.passwordGrant(t, c, "imported", long).issued(t)
	})
}

// A pool smaller than the number of callers serves them all: nobody holds one connection while waiting for a second one.
func TestSmallPool(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		if b.Name == "postgres" {
			u, err := url.Parse(b.URL)
			check(t, err)
			q := u.Query()
			q.Set("pool_max_conns", "2")
			u.RawQuery = q.Encode()
			b = &storagetest.Backend{Name: b.Name, URL: u.String()}
		}
		r := start(t, b)
		c := r.app(t, "app")
		u := r.user(t, "alice")
		tokens := make([]string, 64)
		for i := range tokens {
			tokens[i] = r.login(t, c, u).RefreshToken
		}
		for _, a := range together(t, len(tokens), func(i int) (answer, error) { return refreshNow(t, r, c, tokens[i]) }) {
			a.issued(t)
		}
	})
}

// A stored client that cannot be, such as a confidential one without a secret, is let in by no way.
func TestClientWithoutASecretIsNotOpen(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app")
		b.Exec(t, `UPDATE clients SET secret_digest = NULL WHERE id = 'app'`)
		for name, options := range map[string][]option{
			"no secret": nil, "an empty secret": {rawBasic("app", "")}, "the old secret": {basic("app", c.Secret)}, "any": {basic("app", "x")},
		} {
			t.Run(name, func(t *testing.T) {
				body := "grant_type=client_credentials"
				if options == nil {
					body += "&client_id=app"
				}
				r.do(t, r.request(t.Context(), "/token", body, options...)).want(t, http.StatusUnauthorized, "invalid_client")
			})
		}
	})
}

// Whatever a client or a user is named, whatever they send along, an answer is one of the contract's.
func TestOddInputs(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app", scope("read", "'"))
		token := r.login(t, c, r.user(t, "alice")).RefreshToken
		for _, odd := range []string{
			"'; DROP TABLE users; --", "\x00", "a\x00b", "\u202e", "\U0001f600", strings.Repeat("é", 5000), "{}", "%s%n", "../../etc/passwd", "$1", "@id",
		} {
			for _, f := range []url.Values{
				form("grant_type", odd), form("grant_type", "password", "username", odd, "password", "x"),
				form("grant_type", "password", "username", "alice", "password", odd),
				form("grant_type", "client_credentials", "scope", odd), form("grant_type", "client_credentials", "resource", odd),
				form("grant_type", "refresh_token", "refresh_token", odd),
				form("grant_type", "refresh_token", "refresh_token", token, "scope", odd),
				form("grant_type", "refresh_token", "refresh_token", token, "resource", "urn:"+odd),
			} {
				a := r.post(t, "/token", c, f)
				if a.status != http.StatusBadRequest {
					t.Errorf("%v: got %d %s", f, a.status, a.body)
				}
				wellFormed(t, a)
			}
			r.dead(t, odd, c, odd)
			isRevoked(t, r.revoke(t, c, odd))
		}
		for i, agent := range []string{strings.Repeat("é", 300), "\xff\xfe", "'", ""} {
			a := r.post(t, "/token", c, form("grant_type", "refresh_token", "refresh_token", token), func(req *http.Request) {
				req.Header.Set("User-Agent", agent)
			})
			token = a.issued(t).text("refresh_token")
			r.alive(t, fmt.Sprint("after User-Agent ", i), c, token)
		}
	})
}

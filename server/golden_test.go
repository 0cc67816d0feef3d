package server_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet/clients"
	"signet/users"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGoldenErrors compares every error answer, byte by byte, with testdata/errors.golden.
func TestGoldenErrors(t *testing.T) {
	path := filepath.Join("testdata", "errors.golden")
	onBackends(t, func(t *testing.T, b *backend) {
		got := errorAnswers(t, b)
		if *update && b.Name == "sqlite" {
			check(t, os.WriteFile(path, []byte(got), 0o644))
			return
		}
		want, err := os.ReadFile(path)
		check(t, err)
		gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range max(len(gotLines), len(wantLines)) {
			var g, w string
			if i < len(gotLines) {
				g = gotLines[i]
			}
			if i < len(wantLines) {
				w = wantLines[i]
			}
			if g != w {
				t.Errorf("line %d\n got: %s\nwant: %s", i+1, g, w)
			}
		}
	})
}

// errorAnswers returns a line for each error: its name, status, the headers that matter, and the body.
func errorAnswers(t *testing.T, b *backend) string {
	r := start(t, b, func(s *settings) { s.maxFailures, s.proxies = 3, loopback })
	app := r.app(t, "app", audience(api), scope("read", "write", clients.ScopeAdmin))
	narrow := r.app(t, "narrow", grants(clients.ClientCredentials))
	web, other := r.app(t, "web", public), r.app(t, "other")
	u := r.user(t, "alice")
	gone := r.user(t, "disabled")
	_, err := r.users.Update(t.Context(), gone.ID, users.Change{Disabled: new(true)}, origin)
	check(t, err)
	live, theirs := r.login(t, app, u), r.login(t, other, u)
	revoked, idle, stolen := r.login(t, app, u), r.login(t, app, u), r.login(t, app, u)
	isRevoked(t, r.revoke(t, app, revoked.RefreshToken))
	b.Exec(t, `UPDATE sessions SET idle_expires_at = created_at WHERE id = $1`, idle.SessionID)
	second := r.refresh(t, app, stolen.RefreshToken).issued(t).text("refresh_token")
	r.refresh(t, app, second).issued(t)

	var lines strings.Builder
	note := func(name string, a answer) {
		wellFormed(t, a)
		headers := ""
		for _, h := range []string{"Allow", "Retry-After", "WWW-Authenticate"} {
			v := a.header.Get(h)
			if h == "Retry-After" && a.status == http.StatusTooManyRequests {
				v = "*" // what remains of the window
			}
			if v != "" {
				headers += h + ": " + v
			}
		}
		fmt.Fprintf(&lines, "%s\t%d\t%s\t%s\n", name, a.status, headers, a.body)
	}
	raw := func(path, body string, options ...option) answer {
		return r.do(t, r.request(t.Context(), path, body, options...))
	}
	auth := basic(app.ID, app.Secret)

	note("not found", r.get(t, "/nothing"))
	note("method", r.get(t, "/token"))
	note("method of a document", raw("/readyz", ""))
	note("query string", raw("/token?grant_type=password", "", auth))
	note("content type", raw("/token", "{}", auth, contentType("application/json")))
	note("body too large", raw("/token", strings.Repeat("a", 64<<10+1), auth))
	note("malformed form", raw("/token", "%zz", auth))
	note("not UTF-8", raw("/token", "a=%ff", auth))
	note("repeated parameter", raw("/token", "scope=a&scope=b", auth))
	note("repeated unknown parameter", raw("/token", "a=a&a=b", auth))
	note("two authentications", raw("/token", "client_secret=x", auth))
	note("two clients", raw("/token", "client_id=x", auth))
	note("two Authorization headers", raw("/token", "", auth, header("Authorization", "Basic x")))
	note("no authentication", raw("/token", ""))
	note("not Basic", raw("/token", "", header("Authorization", "Bearer x")))
	note("client assertion", raw("/token", "client_assertion=x"))
	note("unknown client", raw("/token", "", basic("nobody", "x")))
	note("wrong secret", raw("/token", "", basic("app", "x")))
	note("public client with a secret", raw("/token", "client_id=web&client_secret=x"))
	note("confidential client without a secret", raw("/token", "client_id=app"))

	note("no grant_type", r.token(t, app))
	note("unknown grant", r.token(t, app, "grant_type", "x"))
	note("unsupported grant", r.token(t, app, "grant_type", "authorization_code"))
	note("unregistered grant", r.token(t, narrow, "grant_type", "password", "username", "alice", "password", password))
	note("no username", r.token(t, app, "grant_type", "password", "password", "x"))
	note("no password", r.token(t, app, "grant_type", "password", "username", "x"))
	note("no refresh_token", r.token(t, app, "grant_type", "refresh_token"))
	note("malformed scope", r.token(t, app, "grant_type", "client_credentials", "scope", "a  b"))
	note("scope beyond the client's", r.token(t, app, "grant_type", "client_credentials", "scope", "delete"))
	note("malformed resource", r.token(t, app, "grant_type", "client_credentials", "resource", "x"))
	note("resource beyond the client's", r.token(t, app, "grant_type", "client_credentials", "resource", issuer))
	note("admin scope", r.passwordGrant(t, app, "alice", password, "scope", "signet:admin"))
	note("refresh token unknown", r.refresh(t, app, "sgr_x"))
	note("refresh token garbled", r.refresh(t, app, garble(live.RefreshToken)))
	note("refresh token another client's", r.refresh(t, app, theirs.RefreshToken))
	note("refresh token revoked", r.refresh(t, app, revoked.RefreshToken))
	note("refresh token expired", r.refresh(t, app, idle.RefreshToken))
	note("refresh token reused", r.refresh(t, app, stolen.RefreshToken))
	note("refresh for more scope", r.refresh(t, app, live.RefreshToken, "scope", "signet:admin"))
	note("refresh for more resources", r.refresh(t, app, live.RefreshToken, "resource", issuer))

	note("introspection without a token", r.post(t, "/introspect", app, form()))
	note("introspection by a public client", r.post(t, "/introspect", web, form("token", "x")))
	note("revocation without a token", r.post(t, "/revoke", app, form()))
	note("revocation by another client", r.revoke(t, other, live.RefreshToken))
	note("revocation of an access token by another client", r.revoke(t, other, live.AccessToken))

	note("wrong password", r.loginFrom(t, app, "203.0.113.1", "alice", "wrong 1"))
	note("unknown user", r.loginFrom(t, app, "203.0.113.2", "nobody", password))
	note("disabled user", r.loginFrom(t, app, "203.0.113.3", "disabled", password))
	for i := range 2 {
		isRefused(t, r.loginFrom(t, app, fmt.Sprintf("203.0.114.%d", i), "alice", fmt.Sprint("wrong again", i)))
	}
	note("too many failures", r.loginFrom(t, app, "203.0.115.1", "alice", password))

	b.Age(t, time.Hour)
	r.closeStore()
	note("database gone", r.passwordGrant(t, app, "alice", password))
	note("database gone at introspection", r.introspect(t, app, live.RefreshToken))
	note("database gone at revocation", r.revoke(t, app, live.RefreshToken))
	return lines.String()
}

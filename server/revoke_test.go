package server_test

import (
	"net/http"
	"testing"
	"time"

	"signet/audit"
)

const revoked = `{}`

// isRevoked checks the answer to a revocation that succeeded or had nothing to do.
func isRevoked(t testing.TB, a answer) {
	t.Helper()
	commonHeaders(t, a)
	if a.status != http.StatusOK || a.body != revoked || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s as %s, want 200 {} as application/json", a.status, a.body, a.header.Get("Content-Type"))
	}
}

func TestRevocation(t *testing.T) {
	for name, hint := range map[string][]string{
		"without a hint": nil, "with the hint access_token": {"token_type_hint", "access_token"},
		"with the hint refresh_token": {"token_type_hint", "refresh_token"}, "with an unknown hint": {"token_type_hint", "pizza"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				c, web := r.app(t, "app"), r.app(t, "web", public)
				u := r.user(t, "alice")
				revoke := func(token string) {
					t.Helper()
					isRevoked(t, r.post(t, "/revoke", c, form(append(hint, "token", token)...)))
				}

				first := r.login(t, c, u)
				revoke(first.AccessToken)
				r.dead(t, "a revoked access token", c, first.AccessToken)
				a := r.refresh(t, c, first.RefreshToken).issued(t) // that token alone
				r.alive(t, "the session's next access token", c, a.text("access_token"))

				revoke(a.text("refresh_token"))
				r.dead(t, "the current refresh token", c, a.text("refresh_token"))
				r.dead(t, "an access token of the session", c, a.text("access_token"))
				r.refresh(t, c, a.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")

				second := r.login(t, c, u)
				a = r.refresh(t, c, second.RefreshToken).issued(t)
				revoke(second.RefreshToken) // a spent one
				r.dead(t, "the current refresh token", c, a.text("refresh_token"))
				r.dead(t, "the first access token", c, second.AccessToken)
				r.dead(t, "the second access token", c, a.text("access_token"))

				clientToken := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
				revoke(clientToken)
				r.dead(t, "a client's token", c, clientToken)

				ofWeb := r.login(t, web, u)
				isRevoked(t, r.post(t, "/revoke", web, form(append(hint, "token", ofWeb.RefreshToken)...)))
				r.refresh(t, web, ofWeb.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")

				// What is not good, or never was, is revoked as well as can be.
				for _, token := range []string{
					first.AccessToken, first.RefreshToken, second.RefreshToken, clientToken, "x", "a.b.c", "sgr_x", garble(second.AccessToken),
					garble(second.RefreshToken),
				} {
					revoke(token)
				}
				if got := len(r.events(t, audit.SessionRevoked)); got != 3 {
					t.Errorf("%d sessions were revoked by the record, want 3", got)
				}
				if got := len(r.events(t, audit.AccessTokenRevoked)); got != 2 {
					t.Errorf("%d access tokens were revoked by the record, want 2", got)
				}
			})
		})
	}
}

func TestRevocationErrors(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		wellFormed(t, r.post(t, "/revoke", c, form()).want(t, http.StatusBadRequest, "invalid_request"))
		wellFormed(t, r.post(t, "/revoke", c, form("token", "")).want(t, http.StatusBadRequest, "invalid_request"))
		wellFormed(t, r.post(t, "/revoke", c, form("token_type_hint", "access_token")).want(t, http.StatusBadRequest, "invalid_request"))
	})
}

func TestRevocationByOthers(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app", audience(api))
		u := r.user(t, "alice")
		others := []*client{r.app(t, "other"), r.app(t, "web", public), r.app(t, "rs", resourceServer(api))}
		issued := r.login(t, c, u)
		clientToken := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
		gone := r.login(t, c, u)
		isRevoked(t, r.revoke(t, c, gone.RefreshToken))
		for _, other := range others {
			for _, token := range []string{issued.AccessToken, issued.RefreshToken, clientToken} {
				wellFormed(t, r.revoke(t, other, token).want(t, http.StatusBadRequest, "unauthorized_client"))
				r.alive(t, "a live token of another client", c, token)
			}
			for _, token := range []string{gone.AccessToken, gone.RefreshToken} { // nothing live
				isRevoked(t, r.revoke(t, other, token))
			}
		}
		spent := issued.RefreshToken
		current := r.refresh(t, c, spent).issued(t).text("refresh_token")
		isRevoked(t, r.revoke(t, others[0], spent)) // another client's, and live no more
		r.alive(t, "its successor", c, current)
		b.Age(t, 31*24*time.Hour)
		isRevoked(t, r.revoke(t, others[0], current))
	})
}

package server_test

import (
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"signet/audit"
	"signet/clients"
)

func TestClientAuthentication(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const odd = "a:b c%+&=é" // what has to be form-encoded inside Basic, but for what cannot be in an id
		app := r.app(t, "app")
		strange := r.app(t, "a:b%20+c&d=e/?")
		web := r.app(t, "web", public)
		off := r.app(t, "off")
		if _, err := r.clients.SetDisabled(t.Context(), off.ID, true, origin); err != nil {
			t.Fatal(err)
		}
		body := func(pairs ...string) string {
			return form(append(pairs, "grant_type", "refresh_token", "refresh_token", "x", "token", "x")...).Encode()
		}
		type request struct {
			name    string
			body    string
			options []option
		}
		authorization := func(v string) []option { return []option{header("Authorization", v)} }
		encoded := base64.StdEncoding.EncodeToString
		for _, c := range []request{
			{"no authentication at all", body(), nil},
			{"a confidential client that sends no secret", body("client_id", "app"), nil},
			{"a confidential client that sends an empty secret", body("client_id", "app", "client_secret", ""), nil},
			{"a confidential client that sends an empty secret by Basic", body(), []option{rawBasic("app", "")}},
			{"a wrong secret by Basic", body(), []option{basic("app", "wrong")}},
			{"a wrong secret in the body", body("client_id", "app", "client_secret", "wrong"), nil},
			{"the beginning of the secret", body(), []option{basic("app", app.Secret[:len(app.Secret)-1])}},
			{"more than the secret", body(), []option{basic("app", app.Secret+"a")}},
			{"another client's secret", body(), []option{basic("app", strange.Secret)}},
			{"a secret without a client", body("client_secret", app.Secret), nil},
			{"Basic without a client", body(), []option{rawBasic("", app.Secret)}},
			{"an unknown client", body(), []option{basic("nobody", app.Secret)}},
			{"an unknown client without a secret", body("client_id", "nobody"), nil},
			{"a client id in other letters", body(), []option{basic("APP", app.Secret)}},
			{"a client id that cannot be", body(), []option{basic(odd, app.Secret)}},
			{"a client id with a NUL", body("client_id", "app\x00", "client_secret", app.Secret), nil},
			{"a disabled client", body(), []option{basic("off", off.Secret)}},
			{"a public client that sends a secret", body("client_id", "web", "client_secret", "x"), nil},
			{"a public client that sends a secret by Basic", body(), []option{basic("web", "x")}},
			{"Basic that is not form-encoded", body(), []option{rawBasic("a:b%20+c&d=e/?", strange.Secret)}},
			{"Basic with a malformed escape", body(), []option{rawBasic("app", "%zz")}},
			{"Basic without a colon", body(), authorization("Basic " + encoded([]byte("app")))},
			{"Basic that is no base64", body(), authorization("Basic app:secret")},
			{"another scheme", body(), authorization("Bearer " + app.Secret)},
			{"another scheme beside a good secret", body("client_id", "app", "client_secret", app.Secret), authorization("Bearer x")},
			{"no scheme", body(), authorization(app.Secret)},
			{"a client assertion", body("client_id", "app", "client_assertion", "x", "client_assertion_type",
				"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), nil},
		} {
			for _, path := range postEndpoints {
				t.Run(path+" "+c.name, func(t *testing.T) {
					a := r.do(t, r.request(t.Context(), path, c.body, c.options...))
					if c.name == "another scheme beside a good secret" && a.status == http.StatusBadRequest {
						a.want(t, http.StatusBadRequest, "invalid_request") // two authentications at once
						return
					}
					wellFormed(t, a.want(t, http.StatusUnauthorized, "invalid_client"))
				})
			}
		}

		// Who the client is was accepted where the refused one is the token.
		for _, c := range []request{
			{"Basic", body(), []option{basic("app", app.Secret)}},
			{"Basic in other letters", body(), authorization("bAsIc " + encoded([]byte("app:"+app.Secret)))},
			{"Basic after several spaces", body(), authorization("Basic   " + encoded([]byte("app:"+app.Secret)))},
			{"Basic, form-encoded", body(), []option{basic(strange.ID, strange.Secret)}},
			{"post", body("client_id", "app", "client_secret", app.Secret), nil},
			{"post, with all kinds of characters", body("client_id", strange.ID, "client_secret", strange.Secret), nil},
			{"none", body("client_id", web.ID), nil},
			{"none, with an empty secret", body("client_id", web.ID, "client_secret", ""), nil},
		} {
			t.Run("/token "+c.name, func(t *testing.T) {
				r.do(t, r.request(t.Context(), "/token", c.body, c.options...)).want(t, http.StatusBadRequest, "invalid_grant")
			})
		}
	})
}

// A client registered for one way to send its secret may use the other.
func TestBasicAndPostAreBothOpen(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		for _, method := range []clients.AuthMethod{clients.SecretBasic, clients.SecretPost} {
			c := r.app(t, string(method), func(c *clients.Client) { c.AuthMethod = method })
			r.do(t, r.request(t.Context(), "/token", "grant_type=client_credentials", basic(c.ID, c.Secret))).issued(t)
			r.do(t, r.request(t.Context(), "/token",
				form("grant_type", "client_credentials", "client_id", c.ID, "client_secret", c.Secret).Encode())).issued(t)
		}
	})
}

func TestSecretRotation(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app")
		try := func(secret string, status int) {
			t.Helper()
			a := r.do(t, r.request(t.Context(), "/token", "grant_type=client_credentials", basic(c.ID, secret)))
			if a.status != status {
				t.Errorf("got %d %s, want %d", a.status, a.body, status)
			}
		}
		second, err := r.clients.RotateSecret(t.Context(), c.ID, time.Hour, origin)
		check(t, err)
		try(c.Secret, http.StatusOK)
		try(second.Secret, http.StatusOK)
		b.Age(t, 2*time.Hour)
		r = start(t, b) // another replica has not read the client a moment ago
		try(c.Secret, http.StatusUnauthorized)
		try(second.Secret, http.StatusOK)
		third, err := r.clients.RotateSecret(t.Context(), c.ID, 0, origin)
		check(t, err)
		try(second.Secret, http.StatusUnauthorized)
		try(third.Secret, http.StatusOK)
	})
}

// Nothing is looked at for a caller that is not a known client: no password is tried, and no token used up.
func TestClientFirst(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		narrow := r.app(t, "narrow", grants(clients.ClientCredentials))
		token := r.login(t, c, r.user(t, "alice")).RefreshToken
		for range 5 {
			for _, f := range []string{
				form("grant_type", "password", "username", "alice", "password", "wrong").Encode(),
				form("grant_type", "password", "username", "alice", "password", password).Encode(),
				form("grant_type", "nonsense").Encode(), "",
				form("grant_type", "refresh_token", "refresh_token", token).Encode(),
			} {
				r.do(t, r.request(t.Context(), "/token", f, basic("app", "wrong"))).want(t, http.StatusUnauthorized, "invalid_client")
			}
			r.do(t, r.request(t.Context(), "/revoke", form("token", token).Encode(), basic("app", "wrong"))).want(t, http.StatusUnauthorized, "invalid_client")
			r.do(t, r.request(t.Context(), "/introspect", form("token", token).Encode(), basic("app", "wrong"))).want(t, http.StatusUnauthorized, "invalid_client")
			// Nor is one for a client that may not use passwords.
			r.passwordGrant(t, narrow, "alice", "wrong").want(t, http.StatusBadRequest, "unauthorized_client")
		}
		if failed := r.events(t, audit.LoginFailed); len(failed) != 0 {
			t.Errorf("%d logins failed that should not have been tried", len(failed))
		}
		r.passwordGrant(t, c, "alice", password).issued(t)
		r.refresh(t, c, token).issued(t)
	}, func(s *settings) { s.maxFailures = 3 })
}

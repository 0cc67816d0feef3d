package server_test

import (
	"net/http"
	"testing"
	"time"

	"signet/clients"
	"signet/users"
)

func TestIntrospectionOfActiveTokens(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app", audience(api))
		alice := r.user(t, "Alice")
		issued := r.login(t, c, alice)
		clientToken := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
		scopeless := r.app(t, "scopeless", scope(), audience(api, issuer))
		ofScopeless := r.login(t, scopeless, alice)

		for _, a := range []struct {
			name   string
			caller *clients.Client
			token  string
			ttl    float64
			jti    string // empty: any
			want   map[string]any
		}{
			{
				"a user's access token", c, issued.AccessToken, 900, "",
				map[string]any{"active": true, "iss": issuer, "sub": alice.ID, "aud": api, "client_id": "app", "username": "Alice",
					"scope": "read write", "token_type": "Bearer", "sid": issued.SessionID},
			}, {
				"a refresh token", c, issued.RefreshToken, 30 * 24 * 3600, "",
				map[string]any{"active": true, "iss": issuer, "sub": alice.ID, "aud": api, "client_id": "app", "username": "Alice",
					"scope": "read write", "token_type": "refresh_token", "sid": issued.SessionID},
			}, {
				"a client's token", c, clientToken, 900, "",
				map[string]any{"active": true, "iss": issuer, "sub": "app", "aud": api, "client_id": "app",
					"scope": "read write", "token_type": "Bearer"},
			}, {
				"an empty scope and two audiences", scopeless, ofScopeless.AccessToken, 900, "",
				map[string]any{"active": true, "iss": issuer, "sub": alice.ID, "aud": []any{api, issuer}, "client_id": "scopeless",
					"username": "Alice", "scope": "", "token_type": "Bearer", "sid": ofScopeless.SessionID},
			},
		} {
			t.Run(a.name, func(t *testing.T) {
				got := r.introspect(t, a.caller, a.token).want(t, http.StatusOK, "")
				commonHeaders(t, got)
				if ct := got.header.Get("Content-Type"); ct != "application/json" {
					t.Errorf("Content-Type is %q", ct)
				}
				wantTimes(t, got.json, time.Now().Unix()-30, a.ttl)
				unique(t, got.json, "jti")
				equal(t, "the answer", got.json, a.want)
				// A hint is a hint.
				for _, hint := range []string{"access_token", "refresh_token", "pizza"} {
					if b := r.post(t, "/introspect", a.caller, form("token", a.token, "token_type_hint", hint)); b.body != got.body {
						t.Errorf("with the hint %s: %s", hint, b.body)
					}
				}
			})
		}
		_, claims := decode(t, issued.AccessToken)
		got := r.introspect(t, c, issued.AccessToken)
		for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope", "sid"} {
			equal(t, name+" of the answer and of the token", got.json[name], claims[name])
		}
	})
}

// Whose business a token is: exactly {"active":false} for anybody else.
func TestIntrospectionByOthers(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const other = "https://other.example.com"
		apiApp, plainApp := r.app(t, "api-app", audience(api)), r.app(t, "plain-app")
		two := r.app(t, "two-app", audience(api, other))
		u := r.user(t, "alice")
		forAPI, forIssuer, forTwo := r.login(t, apiApp, u), r.login(t, plainApp, u), r.login(t, two, u)
		clientToken := r.token(t, apiApp, "grant_type", "client_credentials").issued(t).text("access_token")
		narrowed := r.refresh(t, two, forTwo.RefreshToken, "resource", other).issued(t).text("access_token")

		apiServer, otherServer := r.app(t, "api-server", resourceServer(api)), r.app(t, "other-server", resourceServer(other))
		both := r.app(t, "both-server", resourceServer(other, api))
		issuerServer := r.app(t, "issuer-server", resourceServer())
		noServer := r.app(t, "no-server", audience(api))
		for _, c := range []struct {
			name   string
			caller *clients.Client
			token  string
			sees   bool
		}{
			{"a resource server, its audience", apiServer, forAPI.AccessToken, true},
			{"a resource server, its audience, a client's token", apiServer, clientToken, true},
			{"a resource server, one of the token's audiences is its own", apiServer, forTwo.AccessToken, true},
			{"a resource server, the token's audience is one of its own", both, forAPI.AccessToken, true},
			{"a resource server without an audience stands for the issuer", issuerServer, forIssuer.AccessToken, true},
			{"a foreign resource server", otherServer, forAPI.AccessToken, false},
			{"a foreign resource server, a client's token", otherServer, clientToken, false},
			{"a resource server, a token for the issuer", apiServer, forIssuer.AccessToken, false},
			{"the issuer's resource server, a token for another", issuerServer, forAPI.AccessToken, false},
			{"a resource server, a token narrowed to another", apiServer, narrowed, false},
			{"the other resource server, a token narrowed to it", otherServer, narrowed, true},
			{"a client of the same audience that is no resource server", noServer, forAPI.AccessToken, false},
			{"a resource server, a refresh token", apiServer, forAPI.RefreshToken, false},
			{"another client, a refresh token", noServer, forAPI.RefreshToken, false},
			{"its own client", apiApp, forAPI.AccessToken, true},
			{"its own client, narrowed", two, narrowed, true},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.sees {
					r.alive(t, "the token", c.caller, c.token)
				} else {
					r.dead(t, "the token", c.caller, c.token)
				}
			})
		}
	})
}

func TestIntrospectionErrors(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, web := r.app(t, "app"), r.app(t, "web", public)
		token := r.login(t, web, r.user(t, "alice")).AccessToken
		wellFormed(t, r.post(t, "/introspect", c, form()).want(t, http.StatusBadRequest, "invalid_request"))
		wellFormed(t, r.post(t, "/introspect", c, form("token", "")).want(t, http.StatusBadRequest, "invalid_request"))
		wellFormed(t, r.introspect(t, web, token).want(t, http.StatusUnauthorized, "invalid_client"))
		wellFormed(t, r.post(t, "/introspect", web, form()).want(t, http.StatusUnauthorized, "invalid_client"))
		for _, token := range []string{"x", "a.b.c", "..", "sgr_", "sgr_x", c.Secret, "\x00", "é", " "} {
			r.dead(t, "nonsense", c, token)
		}
	})
}

// ends are the ways in which a session comes to its end.
var ends = map[string]struct {
	end func(r *replica, t *testing.T, c *clients.Client, u users.User, refresh, access string)
	// what survives it
	refreshLives, accessLives, clientTokenLives bool
	// undo takes back what can be; the session must not come back with it.
	undo func(r *replica, t *testing.T, c *clients.Client, u users.User)
}{
	"access token revoked": {
		end: func(r *replica, t *testing.T, c *clients.Client, _ users.User, _, access string) {
			r.revoke(t, c, access).want(t, http.StatusOK, "")
		},
		refreshLives: true, clientTokenLives: true,
	},
	"session revoked by its refresh token": {
		end: func(r *replica, t *testing.T, c *clients.Client, _ users.User, refresh, _ string) {
			r.revoke(t, c, refresh).want(t, http.StatusOK, "")
		},
		clientTokenLives: true,
	},
	"session ended by an admin": {
		end: func(r *replica, t *testing.T, _ *clients.Client, _ users.User, _, access string) {
			_, claims := decode(t, access)
			check(t, r.tokens.EndSession(t.Context(), claims["sid"].(string), origin))
		},
		clientTokenLives: true,
	},
	"user logged out": {
		end: func(r *replica, t *testing.T, _ *clients.Client, u users.User, _, _ string) {
			check(t, r.users.EndSessions(t.Context(), u.ID, origin))
		},
		clientTokenLives: true,
	},
	"user given a new password": {
		end: func(r *replica, t *testing.T, _ *clients.Client, u users.User, _, _ string) {
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Password: new("another password")}, origin)
			check(t, err)
		},
		clientTokenLives: true,
	},
	"user disabled": {
		end: func(r *replica, t *testing.T, _ *clients.Client, u users.User, _, _ string) {
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
			check(t, err)
		},
		undo: func(r *replica, t *testing.T, _ *clients.Client, u users.User) {
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(false)}, origin)
			check(t, err)
		},
		clientTokenLives: true,
	},
	"user deleted": {
		end: func(r *replica, t *testing.T, _ *clients.Client, u users.User, _, _ string) {
			check(t, r.users.Delete(t.Context(), u.ID, origin))
		},
		undo:             func(r *replica, t *testing.T, _ *clients.Client, _ users.User) { r.user(t, "alice") },
		clientTokenLives: true,
	},
	"client disabled": {
		end: func(r *replica, t *testing.T, c *clients.Client, _ users.User, _, _ string) {
			_, err := r.clients.SetDisabled(t.Context(), c.ID, true, origin)
			check(t, err)
		},
		undo: func(r *replica, t *testing.T, c *clients.Client, _ users.User) {
			_, err := r.clients.SetDisabled(t.Context(), c.ID, false, origin)
			check(t, err)
		},
	},
	"client deleted": {
		end: func(r *replica, t *testing.T, c *clients.Client, _ users.User, _, _ string) {
			check(t, r.clients.Delete(t.Context(), c.ID, origin))
		},
		undo: func(r *replica, t *testing.T, c *clients.Client, _ users.User) {
			again := *c
			again.Secret = ""
			_, err := r.clients.CreateWithSecret(t.Context(), again, c.Secret, origin)
			check(t, err)
		},
	},
}

// Each end of a session binds introspection and refresh at the very next call, on a replica that had no part in it, and for good.
func TestEnds(t *testing.T) {
	t.Parallel()
	for name, e := range ends {
		t.Run(name, func(t *testing.T) {
			onBackends(t, func(t *testing.T, b *backend) {
				r, other := start(t, b), start(t, b)
				c, rs := r.app(t, "app", audience(api)), r.app(t, "rs", resourceServer(api))
				u := r.user(t, "alice")
				bystander := r.login(t, r.app(t, "bystander", audience(api)), r.user(t, "bob")).AccessToken
				issued := r.login(t, c, u)
				clientToken := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
				r.refresh(t, c, r.login(t, c, u).RefreshToken).issued(t) // both replicas have the client at hand
				other.alive(t, "before it", rs, issued.AccessToken)
				other.alive(t, "before it", c, issued.RefreshToken)

				e.end(r, t, c, u, issued.RefreshToken, issued.AccessToken)
				expect := func(what, token string, lives bool) {
					t.Helper()
					for _, at := range []*replica{other, r} {
						if lives {
							at.alive(t, what, rs, token)
						} else {
							at.dead(t, what, rs, token)
						}
					}
				}
				expect("the access token", issued.AccessToken, e.accessLives)
				expect("the client's own token", clientToken, e.clientTokenLives)
				expect("somebody else's access token", bystander, true)
				if e.refreshLives {
					other.refresh(t, c, issued.RefreshToken).issued(t)
					return
				}
				// Where the client is gone, authentication may refuse it before the token is looked at.
				refused := func(at *replica) {
					t.Helper()
					a := at.refresh(t, c, issued.RefreshToken)
					if a.text("error") != "invalid_grant" && (e.clientTokenLives || a.text("error") != "invalid_client") {
						t.Errorf("the refresh was answered %d %s", a.status, a.body)
					}
					if a := at.introspect(t, c, issued.RefreshToken); a.body != inactive && (e.clientTokenLives || a.text("error") != "invalid_client") {
						t.Errorf("the refresh token: %d %s", a.status, a.body)
					}
				}
				refused(other)
				refused(r)

				if e.undo != nil {
					e.undo(r, t, c, u)
					expect("the access token, after it was undone", issued.AccessToken, false)
					expect("the client's own token, after it was undone", clientToken, e.clientTokenLives)
					r.refresh(t, c, issued.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
					r.dead(t, "the refresh token, after it was undone", c, issued.RefreshToken)
				}
			})
		})
	}
}

package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"signet/clients"
	"signet/keys"
	"signet/users"
)

// A request to /token that is refused for what the contract's table says.
func TestTokenErrors(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		full := r.app(t, "full", audience(api))
		narrow := r.app(t, "narrow", grants(clients.ClientCredentials))
		web := r.app(t, "web", public)
		r.user(t, "alice")
		disabled := r.user(t, "disabled")
		if _, err := r.users.Update(t.Context(), disabled.ID, users.Change{Disabled: new(true)}, origin); err != nil {
			t.Fatal(err)
		}
		other := r.app(t, "other")
		theirs := r.login(t, other, r.user(t, "bob")).RefreshToken
		mine := r.login(t, full, r.user(t, "carol")).RefreshToken

		login := []string{"grant_type", "password", "username", "alice", "password", password}
		refresh := []string{"grant_type", "refresh_token", "refresh_token", mine}
		for _, c := range []struct {
			name   string
			client *clients.Client
			form   []string
			code   string
		}{
			{"no grant_type", full, nil, "invalid_request"},
			{"an empty grant_type", full, []string{"grant_type", ""}, "invalid_request"},
			{"a grant the server does not know", full, []string{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "unsupported_grant_type"},
			{"a grant the library knows and the server does not", full, []string{"grant_type", "__implicit"}, "unsupported_grant_type"},
			{"a grant this client is not registered for: authorization_code", full, []string{"grant_type", "authorization_code", "code", "x"}, "unauthorized_client"},
			{"a grant in other letters", full, []string{"grant_type", "Password"}, "unsupported_grant_type"},
			{"a grant this client is not registered for: password", narrow, login, "unauthorized_client"},
			{"a grant this client is not registered for: refresh_token", narrow, refresh, "unauthorized_client"},
			{"a grant this client is not registered for: client_credentials", web, []string{"grant_type", "client_credentials"}, "unauthorized_client"},
			{"no username", full, []string{"grant_type", "password", "password", password}, "invalid_request"},
			{"no password", full, []string{"grant_type", "password", "username", "alice"}, "invalid_request"},
			{"no refresh_token", full, []string{"grant_type", "refresh_token"}, "invalid_request"},
			{"wrong password", full, []string{"grant_type", "password", "username", "alice", "password", "wrong"}, "invalid_grant"},
			{"a password that is the beginning of the right one", full, []string{"grant_type", "password", "username", "alice", "password", password[:20]}, "invalid_grant"},
			{"unknown user", full, []string{"grant_type", "password", "username", "nobody", "password", password}, "invalid_grant"},
			{"a username that cannot be", full, []string{"grant_type", "password", "username", "al\x00ice", "password", password}, "invalid_grant"},
			{"a username that is too long", full, []string{"grant_type", "password", "username", strings.Repeat("a", 10000), "password", password}, "invalid_grant"},
			{"disabled user", full, []string{"grant_type", "password", "username", "disabled", "password", password}, "invalid_grant"},
			{"a scope outside the client's", full, append(login, "scope", "read delete"), "invalid_scope"},
			{"a scope outside the client's: client_credentials", full, []string{"grant_type", "client_credentials", "scope", "delete"}, "invalid_scope"},
			{"a malformed scope: two spaces", full, append(login, "scope", "read  write"), "invalid_scope"},
			{"a malformed scope: a space in front", full, append(login, "scope", " read"), "invalid_scope"},
			{"a malformed scope: a tab", full, append(login, "scope", "read\twrite"), "invalid_scope"},
			{"a malformed scope: a quote", full, append(login, "scope", `re"ad`), "invalid_scope"},
			{"a malformed scope: a backslash", full, append(login, "scope", `re\ad`), "invalid_scope"},
			{"a malformed scope: not ASCII", full, append(login, "scope", "réad"), "invalid_scope"},
			{"a malformed scope: refresh_token", full, append(refresh, "scope", "read  write"), "invalid_scope"},
			{"a scope of signet's that the client is not registered for", full, append(login, "scope", "signet:account"), "invalid_scope"},
			{"resource outside the client's audiences", full, append(login, "resource", "https://other.example.com"), "invalid_target"},
			{"resource one of which is outside", full, append(login, "resource", api, "resource", "https://other.example.com"), "invalid_target"},
			{"resource that begins like an audience", full, append(login, "resource", api+"/v1"), "invalid_target"},
			{"resource 21 times", full, append(login, slices.Repeat([]string{"resource", api}, 21)...), "invalid_target"},
			{"resource not absolute", full, append(login, "resource", "/api"), "invalid_target"},
			{"resource with a fragment", full, append(login, "resource", api+"#a"), "invalid_target"},
			{"resource outside: client_credentials", full, []string{"grant_type", "client_credentials", "resource", issuer}, "invalid_target"},
			{"resource outside: refresh_token", full, append(refresh, "resource", issuer), "invalid_target"},
			{"refresh token unknown", full, []string{"grant_type", "refresh_token", "refresh_token", "sgr_unknown"}, "invalid_grant"},
			{"refresh token garbled", full, []string{"grant_type", "refresh_token", "refresh_token", garble(mine)}, "invalid_grant"},
			{"refresh token another client's", full, []string{"grant_type", "refresh_token", "refresh_token", theirs}, "invalid_grant"},
			{"refresh asking for more scope than was granted", full, append(refresh, "scope", "read write delete"), "invalid_scope"},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := r.token(t, c.client, c.form...).want(t, http.StatusBadRequest, c.code)
				wellFormed(t, a)
			})
		}
		r.refresh(t, full, mine).issued(t) // nothing of the above used it up
		r.refresh(t, other, theirs).issued(t)
	})
}

// garble returns the token with one bit changed in its middle.
func garble(token string) string {
	b := []byte(token)
	b[len(b)/2] ^= 1
	return string(b)
}

func TestTokenAnswer(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		full := r.app(t, "full")
		r.user(t, "alice")
		for _, c := range []struct {
			name    string
			client  *clients.Client
			form    []string
			members map[string]any // all but the tokens
			refresh bool
		}{
			{
				"password", full, []string{"grant_type", "password", "username", "alice", "password", password},
				map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": "read write"}, true,
			}, {
				"password by a username in other letters", full, []string{"grant_type", "password", "username", "ALICE", "password", password},
				map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": "read write"}, true,
			}, {
				"password without the refresh_token grant", r.app(t, "once", grants(clients.Password)),
				[]string{"grant_type", "password", "username", "alice", "password", password, "scope", "write"},
				map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": "write"}, false,
			}, {
				"client_credentials never gets a refresh token", full, []string{"grant_type", "client_credentials"},
				map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": "read write"}, false,
			}, {
				"a client without scopes", r.app(t, "scopeless", scope()), []string{"grant_type", "client_credentials"},
				map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": ""}, false,
			}, {
				"an empty scope counts as omitted", full, []string{"grant_type", "client_credentials", "scope", ""},
				map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": "read write"}, false,
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := r.token(t, c.client, c.form...).issued(t)
				if got := a.header.Get("Content-Type"); got != "application/json" {
					t.Errorf("Content-Type is %q", got)
				}
				if got := strings.HasPrefix(a.text("refresh_token"), "sgr_"); got != c.refresh {
					t.Errorf("a refresh token: %v, want %v: %s", got, c.refresh, a.body)
				}
				delete(a.json, "access_token")
				if c.refresh {
					delete(a.json, "refresh_token")
				}
				equal(t, "the answer", a.json, c.members)
			})
		}
	})
}

func TestScopesOfSignet(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "console", scope("read", clients.ScopeAdmin, clients.ScopeAccount))
		r.user(t, "alice")
		r.user(t, "root", true)
		for _, c := range []struct {
			name  string
			a     answer
			scope string // empty: invalid_scope
		}{
			{"omitted: none of signet's own", r.passwordGrant(t, c, "root", password), "read"},
			{"admin asked for by an admin", r.passwordGrant(t, c, "root", password, "scope", "signet:admin"), "signet:admin"},
			{"admin asked for by anybody else", r.passwordGrant(t, c, "alice", password, "scope", "read signet:admin"), ""},
			{"account asked for by anybody", r.passwordGrant(t, c, "alice", password, "scope", "signet:account"), "signet:account"},
			{"one that does not exist", r.passwordGrant(t, c, "root", password, "scope", "signet:root"), ""},
			{"in other letters", r.passwordGrant(t, c, "alice", password, "scope", "Signet:admin"), ""},
			{"client_credentials, omitted", r.token(t, c, "grant_type", "client_credentials"), "read"},
			{"client_credentials, by name", r.token(t, c, "grant_type", "client_credentials", "scope", "signet:admin"), "signet:admin"},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.scope == "" {
					c.a.want(t, http.StatusBadRequest, "invalid_scope")
					return
				}
				if got := c.a.issued(t).text("scope"); got != c.scope {
					t.Errorf("got scope %q, want %q", got, c.scope)
				}
			})
		}
		// Who is no admin learns from the scope nothing about a password.
		r.passwordGrant(t, c, "alice", "wrong", "scope", "signet:admin").want(t, http.StatusBadRequest, "invalid_grant")
	})
}

func TestAccessToken(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		other := "https://other.example.com"
		plain, two := r.app(t, "plain"), r.app(t, "two", audience(api, other))
		u := r.user(t, "alice")
		for _, c := range []struct {
			name   string
			client *clients.Client
			more   []string
			aud    any
		}{
			{"no audience: the issuer, a plain string", plain, nil, issuer},
			{"the client's audiences: an array", two, nil, []any{api, other}},
			{"one resource: a plain string", two, []string{"resource", other}, other},
			{"two resources: an array", two, []string{"resource", other, "resource", api}, []any{other, api}},
			{"an empty resource counts as omitted", two, []string{"resource", ""}, []any{api, other}},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Run("of a user", func(t *testing.T) {
					before := time.Now().Unix()
					a := r.passwordGrant(t, c.client, "alice", password, c.more...).issued(t)
					header, claims := decode(t, a.text("access_token"))
					wantHeader(t, r, header, keys.ES256)
					wantTimes(t, claims, before, 900)
					unique(t, claims, "jti")
					unique(t, claims, "sid")
					equal(t, "claims", claims, map[string]any{
						"iss": issuer, "sub": u.ID, "aud": c.aud, "client_id": c.client.ID, "scope": "read write",
					})
				})
				t.Run("of a client", func(t *testing.T) {
					before := time.Now().Unix()
					a := r.token(t, c.client, append([]string{"grant_type", "client_credentials"}, c.more...)...).issued(t)
					header, claims := decode(t, a.text("access_token"))
					wantHeader(t, r, header, keys.ES256)
					wantTimes(t, claims, before, 900)
					unique(t, claims, "jti")
					equal(t, "claims", claims, map[string]any{
						"iss": issuer, "sub": c.client.ID, "aud": c.aud, "client_id": c.client.ID, "scope": "read write",
					})
				})
			})
		}
		// A refresh may narrow the audience of one access token, not the session's.
		token := r.login(t, two, u).RefreshToken
		a := r.refresh(t, two, token, "resource", api).issued(t)
		_, claims := decode(t, a.text("access_token"))
		equal(t, "aud of a narrowed refresh", claims["aud"], any(api))
		_, claims = decode(t, r.refresh(t, two, a.text("refresh_token")).issued(t).text("access_token"))
		equal(t, "aud of the refresh after it", claims["aud"], any([]any{api, other}))
	})
}

// Two tokens of one moment are two tokens: to revoke one leaves the other.
func TestTokensOfOneSecondDiffer(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		u := r.user(t, "alice")
		seen := map[string]bool{}
		for range 5 {
			for _, token := range []string{
				r.login(t, c, u).AccessToken, r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token"),
			} {
				_, claims := decode(t, token)
				if id := claims["jti"].(string); seen[id] {
					t.Errorf("the jti %q is there twice", id)
				} else {
					seen[id] = true
				}
			}
		}
		first, second := r.login(t, c, u).AccessToken, r.login(t, c, u).AccessToken
		r.revoke(t, c, first).want(t, http.StatusOK, "")
		r.dead(t, "the revoked one", c, first)
		r.alive(t, "the other one", c, second)
	})
}

func TestExpiresIn(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		r.user(t, "alice")
		a := r.passwordGrant(t, c, "alice", password).issued(t)
		if got := a.json["expires_in"].(float64); got < 58 || got > 60 {
			t.Errorf("an access token outlives its session: expires_in is %v, the session lives for 60 s", got)
		}
	}, func(s *settings) { s.sessionTTL = time.Minute })
}

// A client that was deleted a moment ago is an unknown client, not a wrong password; so is one that has its id by now.
func TestClientDeletedAMomentAgo(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		here, there := start(t, b), start(t, b)
		here.user(t, "alice")
		old := here.app(t, "app")
		here.passwordGrant(t, old, "alice", password).issued(t) // here remembers the client for a second
		check(t, there.clients.Delete(t.Context(), "app", origin))
		here.passwordGrant(t, old, "alice", password).want(t, http.StatusUnauthorized, "invalid_client")
		anew := there.app(t, "app")
		here.passwordGrant(t, anew, "alice", password).issued(t)
		here.passwordGrant(t, old, "alice", password).want(t, http.StatusUnauthorized, "invalid_client")
	})
}

// A client that was disabled elsewhere is good as soon as it is enabled again, whatever is remembered of it.
func TestClientEnabledAgain(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		here, there := start(t, b), start(t, b)
		here.user(t, "alice")
		app := here.app(t, "app")
		disable := func(disabled bool) {
			t.Helper()
			_, err := there.clients.SetDisabled(t.Context(), "app", disabled, origin)
			check(t, err)
		}
		before := here.passwordGrant(t, app, "alice", password).issued(t) // here remembers the client for a second
		disable(true)
		disable(false)
		after := here.passwordGrant(t, app, "alice", password).issued(t)
		for name, active := range map[string]bool{before.text("access_token"): false, after.text("access_token"): true} {
			if got := here.introspect(t, app, name); got.json["active"] != active {
				t.Errorf("got %s, want active %t", got.body, active)
			}
		}

		disable(true)
		time.Sleep(clients.Staleness)
		here.passwordGrant(t, app, "alice", password).want(t, http.StatusUnauthorized, "invalid_client")
		disable(false)
		here.passwordGrant(t, app, "alice", password).issued(t)
	})
}

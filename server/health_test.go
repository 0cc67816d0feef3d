package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestHealth(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		commonHeaders(t, r.get(t, "/livez").want(t, http.StatusOK, ""))
		a := r.get(t, "/readyz").want(t, http.StatusOK, "")
		commonHeaders(t, a)
		equal(t, "readyz", a.json, map[string]any{"status": "ok", "database": "ok", "signing_key": "ok"})
		for _, path := range []string{"/livez", "/readyz"} { // the management listener answers the same
			w := httptest.NewRecorder()
			r.management.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if got := r.get(t, path); w.Code != http.StatusOK || w.Body.String() != got.body {
				t.Errorf("%s on the management listener: %d %s", path, w.Code, w.Body)
			}
		}
	})
}

// unavailable checks the answer of a server that cannot.
func unavailable(t testing.TB, a answer) {
	t.Helper()
	wellFormed(t, a.want(t, http.StatusServiceUnavailable, "temporarily_unavailable"))
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// everyCall are calls of the three endpoints that the database has a part in.
func everyCall(r *replica, t testing.TB, c *client, refresh, access string) map[string]func() answer {
	return map[string]func() answer{
		"password":                   func() answer { return r.passwordGrant(t, c, "alice", password) },
		"password, wrong":            func() answer { return r.passwordGrant(t, c, "alice", "wrong password") },
		"refresh":                    func() answer { return r.refresh(t, c, refresh) },
		"introspect a refresh token": func() answer { return r.introspect(t, c, refresh) },
		"introspect an access token": func() answer { return r.introspect(t, c, access) },
		"revoke a refresh token":     func() answer { return r.revoke(t, c, refresh) },
		"revoke an access token":     func() answer { return r.revoke(t, c, access) },
	}
}

func notReady(t testing.TB, r *replica, part, state string) {
	t.Helper()
	r.get(t, "/livez").want(t, http.StatusOK, "")
	a := r.get(t, "/readyz")
	want := map[string]any{"status": "unavailable", "database": "ok", "signing_key": "ok"}
	want[part] = state
	equal(t, "readyz", a.json, want)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("readyz: got %d with Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
}

func TestDatabaseGone(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		issued := r.login(t, c, r.user(t, "alice"))
		calls := everyCall(r, t, c, issued.RefreshToken, issued.AccessToken)
		r.alive(t, "the token", c, issued.AccessToken) // the client is at hand: what fails comes after its authentication
		r.closeStore()
		for name, call := range calls {
			t.Run(name, func(t *testing.T) { unavailable(t, call()) })
		}
		notReady(t, r, "database", "unreachable")
		if n := len(r.jwks(t)); n != 2 {
			t.Errorf("the JWKS holds %d keys without a database", n)
		}
		r.get(t, "/.well-known/oauth-authorization-server").want(t, http.StatusOK, "")
	})
}

// Where not even the client can be read, it is not told that it is none.
func TestDatabaseGoneBeforeTheClientIsKnown(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app")
		issued := r.login(t, c, r.user(t, "alice"))
		other := start(t, b)
		other.closeStore()
		for name, call := range everyCall(other, t, c, issued.RefreshToken, issued.AccessToken) {
			t.Run(name, func(t *testing.T) { unavailable(t, call()) })
		}
	})
}

// A table that is missing is an error of the database in the middle of the work. Its text is nobody's.
func TestDatabaseErrors(t *testing.T) {
	for _, table := range []string{"clients", "users", "sessions", "revoked_access_tokens", "login_failures", "audit_events"} {
		t.Run(table, func(t *testing.T) {
			onBackends(t, func(t *testing.T, b *backend) {
				r := start(t, b)
				c := r.app(t, "app")
				issued := r.login(t, c, r.user(t, "alice"))
				calls := everyCall(r, t, c, issued.RefreshToken, issued.AccessToken)
				b.Exec(t, `ALTER TABLE `+table+` RENAME TO gone`)
				failed := 0
				for name, call := range calls {
					if a := call(); a.status != http.StatusOK && a.status != http.StatusBadRequest {
						unavailable(t, a)
						failed++
					} else if strings.HasPrefix(name, "revoke") && table == "sessions" {
						t.Errorf("%s: got %d %s while the sessions cannot be read", name, a.status, a.body)
					}
				}
				if failed == 0 {
					t.Error("nobody noticed")
				}
			})
		})
	}
}

// The database may go and come back while the server runs.
func TestDatabaseComesBack(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		if b.Name == "sqlite" {
			return // its file is nobody's to take away
		}
		r := start(t, b)
		c := r.app(t, "app")
		issued := r.login(t, c, r.user(t, "alice"))
		server, err := url.Parse(b.URL)
		check(t, err)
		name := strings.TrimPrefix(server.Path, "/")
		server.Path = "/postgres"
		admin, err := pgx.Connect(t.Context(), server.String())
		check(t, err)
		t.Cleanup(func() { _ = admin.Close(context.Background()) })
		exec := func(sql string) {
			t.Helper()
			_, err := admin.Exec(t.Context(), sql)
			check(t, err)
		}
		exec(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS false`)
		exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '` + name + `'`)
		for name, call := range everyCall(r, t, c, issued.RefreshToken, issued.AccessToken) {
			t.Run(name, func(t *testing.T) {
				began := time.Now()
				unavailable(t, call())
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it took %s to say so", took)
				}
			})
		}
		notReady(t, r, "database", "unreachable")
		exec(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS true`)
		r.get(t, "/readyz").want(t, http.StatusOK, "")
		r.alive(t, "the access token", c, issued.AccessToken)
		r.refresh(t, c, issued.RefreshToken).issued(t)
	})
}

func TestKeysNotLoaded(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		notReady(t, r, "signing_key", "not loaded")
		unavailable(t, r.token(t, c, "grant_type", "client_credentials"))
		unavailable(t, r.introspect(t, c, "a.b.c"))
		unavailable(t, r.get(t, "/.well-known/jwks.json"))
		check(t, r.keys.Load(t.Context()))
		r.get(t, "/readyz").want(t, http.StatusOK, "")
		r.token(t, c, "grant_type", "client_credentials").issued(t)
	}, func(s *settings) { s.keysNotLoaded = true })
}

// More logins than can be served in reasonable time are turned away, not queued without end.
func TestOverload(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		turnedAway := make(chan answer, 1)
		together(t, 400, func(int) (answer, error) {
			body, auth := as(c, form("grant_type", "password", "username", "nobody", "password", password))
			a, err := r.try(r.request(ctx, "/token", body, auth))
			if err != nil {
				return a, nil // it was given up: there was an answer to another one
			}
			if a.status == http.StatusServiceUnavailable {
				select {
				case turnedAway <- a:
				default:
				}
				cancel()
			}
			return a, nil
		})
		select {
		case a := <-turnedAway:
			unavailable(t, a)
		default:
			t.Error("400 logins at once were all taken on")
		}
		isRefused(t, r.passwordGrant(t, c, "nobody", password))
	}, dearPasswords)
}

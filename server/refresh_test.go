package server_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/keys"
)

func TestRotation(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app", audience(api))
		first := r.login(t, c, r.user(t, "alice"))
		a := r.refresh(t, c, first.RefreshToken).issued(t)
		second := a.text("refresh_token")
		if second == first.RefreshToken || second == "" {
			t.Errorf("the refresh token was not rotated: %s", a.body)
		}
		r.dead(t, "the spent one", c, first.RefreshToken)
		r.alive(t, "its successor", c, second)
		r.alive(t, "the access token of the login", c, first.AccessToken)
		r.alive(t, "the access token of the refresh", c, a.text("access_token"))
		_, was := decode(t, first.AccessToken)
		_, is := decode(t, a.text("access_token"))
		if is["sid"] != was["sid"] || is["sub"] != was["sub"] || is["jti"] == was["jti"] {
			t.Errorf("the access token is not a new one of the same session: %v and %v", was, is)
		}
		delete(a.json, "access_token")
		delete(a.json, "refresh_token")
		equal(t, "the answer", a.json, map[string]any{"token_type": "Bearer", "expires_in": 900.0, "scope": "read write"})
	})
}

func TestRetry(t *testing.T) {
	forwarded := header("X-Forwarded-For", "203.0.113.7")
	for name, options := range map[string][]option{"from the same place": nil, "from elsewhere": {forwarded}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				c := r.app(t, "app")
				first := r.login(t, c, r.user(t, "alice"))
				use := form("grant_type", "refresh_token", "refresh_token", first.RefreshToken)
				a := r.post(t, "/token", c, use).issued(t)
				again := r.post(t, "/token", c, use, options...).issued(t)
				if got, want := again.text("refresh_token"), a.text("refresh_token"); got != want {
					t.Errorf("the retry got the successor %q, want the same %q", got, want)
				}
				if again.text("access_token") == a.text("access_token") {
					t.Error("the retry got no new access token")
				}
				for _, token := range []string{a.text("access_token"), again.text("access_token"), a.text("refresh_token")} {
					r.alive(t, "what was issued", c, token)
				}
				events := r.events(t, audit.RefreshTokenRetriedElsewhere)
				if len(events) != len(options) {
					t.Fatalf("%d events, want %d", len(events), len(options))
				}
				for _, e := range events {
					if e.Address != "203.0.113.7" || e.ClientID != "app" || e.SessionID != first.SessionID || e.UserID == "" || e.RequestID == "" {
						t.Errorf("the event does not tell who and where: %+v", e)
					}
				}
				r.refresh(t, c, a.text("refresh_token")).issued(t)
			}, func(s *settings) { s.proxies = loopback })
		})
	}
}

func TestReuse(t *testing.T) {
	// Each presents a spent token in a way that is no retry, and returns it.
	for name, reuse := range map[string]func(t *testing.T, b *backend, r *replica, c *clients.Client, spent string) (current string){
		"after the window": func(t *testing.T, b *backend, r *replica, c *clients.Client, spent string) string {
			current := r.refresh(t, c, spent).issued(t).text("refresh_token")
			b.Age(t, 11*time.Second)
			return current
		},
		"after its successor was used": func(t *testing.T, _ *backend, r *replica, c *clients.Client, spent string) string {
			second := r.refresh(t, c, spent).issued(t).text("refresh_token")
			return r.refresh(t, c, second).issued(t).text("refresh_token")
		},
		"generations later": func(t *testing.T, _ *backend, r *replica, c *clients.Client, spent string) string {
			current := spent
			for range 5 {
				current = r.refresh(t, c, current).issued(t).text("refresh_token")
			}
			return current
		},
		"after its successor was used, with a scope that was not granted": func(t *testing.T, _ *backend, r *replica, c *clients.Client, spent string) string {
			second := r.refresh(t, c, spent).issued(t).text("refresh_token")
			return r.refresh(t, c, second, "scope", "read").issued(t).text("refresh_token")
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBackends(t, func(t *testing.T, b *backend) {
				r, second := start(t, b), start(t, b)
				c := r.app(t, "app")
				u := r.user(t, "alice")
				first, other := r.login(t, c, u), r.login(t, c, u)
				current := reuse(t, b, r, c, first.RefreshToken)
				plain := r.refresh(t, c, first.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
				if unknown := r.refresh(t, c, "sgr_x"); plain.body != unknown.body {
					t.Errorf("theft is answered %s, an unknown token %s", plain.body, unknown.body)
				}
				for _, r := range []*replica{r, second} {
					r.dead(t, "the access token", c, first.AccessToken)
					r.dead(t, "the current refresh token", c, current)
					r.refresh(t, c, current).want(t, http.StatusBadRequest, "invalid_grant")
					r.alive(t, "another session of the user", c, other.AccessToken)
				}
				events := r.events(t, audit.RefreshTokenReused)
				if len(events) != 1 {
					t.Fatalf("%d events, want 1", len(events))
				}
				if e := events[0]; e.ClientID != "app" || e.UserID != u.ID || e.SessionID != first.SessionID || e.Address != "127.0.0.1" {
					t.Errorf("the event does not tell client, user, session and address: %+v", e)
				}
			})
		})
	}
}

func TestNoWindow(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		first := r.login(t, c, r.user(t, "alice"))
		second := r.refresh(t, c, first.RefreshToken).issued(t).text("refresh_token")
		r.refresh(t, c, first.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
		r.refresh(t, c, second).want(t, http.StatusBadRequest, "invalid_grant")
		r.dead(t, "the access token", c, first.AccessToken)
	}, func(s *settings) { s.retryWindow = 0 })
}

// Retries do not extend the window that allows them.
func TestRetriedEverySecond(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app")
		first := r.login(t, c, r.user(t, "alice")).RefreshToken
		second := r.refresh(t, c, first).issued(t).text("refresh_token")
		served := 0
		for range 12 {
			b.Age(t, time.Second)
			a := r.refresh(t, c, first)
			if a.status != http.StatusOK {
				a.want(t, http.StatusBadRequest, "invalid_grant")
				break
			}
			if got := a.text("refresh_token"); got != second {
				t.Errorf("retry %d got the successor %q, want %q", served, got, second)
			}
			served++
		}
		// Real time passes as well: on a busy machine a second or two.
		if served < 2 || served > 9 {
			t.Errorf("%d retries, one a second, were served in a window of 10 s", served)
		}
		r.refresh(t, c, second).want(t, http.StatusBadRequest, "invalid_grant")
	})
}

func TestAnotherClientsToken(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, thief, web := r.app(t, "app"), r.app(t, "thief"), r.app(t, "web", public)
		first := r.login(t, c, r.user(t, "alice")).RefreshToken
		for range 3 {
			r.refresh(t, thief, first).want(t, http.StatusBadRequest, "invalid_grant")
			r.refresh(t, web, first).want(t, http.StatusBadRequest, "invalid_grant")
		}
		second := r.refresh(t, c, first).issued(t).text("refresh_token")
		third := r.refresh(t, c, second).issued(t).text("refresh_token")
		r.refresh(t, thief, first).want(t, http.StatusBadRequest, "invalid_grant") // a spent one
		r.alive(t, "the current one", c, third)
		if events := r.events(t, audit.RefreshTokenReused); len(events) != 0 {
			t.Errorf("another client could end the session: %+v", events)
		}
		r.refresh(t, c, third).issued(t)
	})
}

func TestRefreshScope(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app", scope("read", "write", "delete"))
		r.user(t, "alice")
		token := r.passwordGrant(t, c, "alice", password, "scope", "read write").issued(t).text("refresh_token")
		for _, step := range []struct{ name, ask, got string }{
			{"narrower", "read", "read"},
			{"the narrower scope does not stick", "", "read write"},
			{"in another order", "write read", "write read"},
			{"registered for the client, not granted", "read delete", ""},
			{"not registered", "admin", ""},
			{"the refused scope did not use the token up", "write", "write"},
			{"all of it", "read write", "read write"},
		} {
			a := r.refresh(t, c, token, "scope", step.ask)
			if step.got == "" {
				a.want(t, http.StatusBadRequest, "invalid_scope")
				r.alive(t, "the token after "+step.name, c, token)
				continue
			}
			_, claims := decode(t, a.issued(t).text("access_token"))
			if a.text("scope") != step.got || claims["scope"] != step.got {
				t.Errorf("%s: got scope %q and in the token %q, want %q", step.name, a.text("scope"), claims["scope"], step.got)
			}
			token = a.text("refresh_token")
			if got := r.introspect(t, c, token).text("scope"); got != "read write" {
				t.Errorf("%s: the refresh token's scope is %q, want what was granted", step.name, got)
			}
		}
	})
}

func TestSessionEnds(t *testing.T) {
	t.Run("idle for less", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b)
			c := r.app(t, "app")
			token := r.login(t, c, r.user(t, "alice")).RefreshToken
			for range 3 { // in use it goes on
				b.Age(t, 29*24*time.Hour)
				token = r.refresh(t, c, token).issued(t).text("refresh_token")
			}
		})
	})
	t.Run("idle for too long", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b)
			c := r.app(t, "app")
			token := r.login(t, c, r.user(t, "alice")).RefreshToken
			b.Age(t, 31*24*time.Hour)
			r.dead(t, "an idle one", c, token)
			r.refresh(t, c, token).want(t, http.StatusBadRequest, "invalid_grant")
		})
	})
	t.Run("too old", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b)
			c := r.app(t, "app")
			first := r.login(t, c, r.user(t, "alice"))
			token := first.RefreshToken
			for range 4 {
				b.Age(t, 22*24*time.Hour)
				token = r.refresh(t, c, token).issued(t).text("refresh_token")
			}
			b.Age(t, 3*24*time.Hour)
			r.dead(t, "the refresh token", c, token)
			r.dead(t, "an access token", c, first.AccessToken)
			r.refresh(t, c, token).want(t, http.StatusBadRequest, "invalid_grant")
		})
	})
}

// An access token lives on when its refresh token has been idle for too long.
func TestAccessTokenOutlivesIdleRefreshToken(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, func(s *settings) { s.refreshTTL = time.Minute })
		c := r.app(t, "app", audience(api))
		rs := r.app(t, "rs", resourceServer(api))
		issued := r.login(t, c, r.user(t, "alice"))
		b.Age(t, 2*time.Minute)
		r.dead(t, "the refresh token", c, issued.RefreshToken)
		r.refresh(t, c, issued.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
		r.alive(t, "the access token, to its client", c, issued.AccessToken)
		r.alive(t, "the access token, to its resource server", rs, issued.AccessToken)
	})
}

// Of 32 simultaneous uses on two replicas one rotates, and all are answered with its successor.
func TestSimultaneousUses(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		replicas := []*replica{start(t, b), start(t, b)}
		r := replicas[0]
		c := r.app(t, "app")
		issued := r.login(t, c, r.user(t, "alice"))
		token := issued.RefreshToken
		for range 3 {
			successors := map[string]int{}
			for _, a := range together(t, 32, func(i int) (answer, error) { return refreshNow(t, replicas[i%2], c, token) }) {
				successors[a.issued(t).text("refresh_token")]++
			}
			if len(successors) != 1 || successors[token] != 0 {
				t.Fatalf("the chain forked: %v", successors)
			}
			for token = range successors {
			}
		}
		if n := b.Int(t, `SELECT sequence FROM sessions`); n != 3 {
			t.Errorf("the session is at %d after 3 rotations", n)
		}
		r.alive(t, "the session", c, issued.AccessToken)
		r.refresh(t, c, token).issued(t)
	})
}

// Without a window one of many wins, and the others are thieves.
func TestSimultaneousUsesWithoutWindow(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		noWindow := func(s *settings) { s.retryWindow = 0 }
		replicas := []*replica{start(t, b, noWindow), start(t, b, noWindow)}
		r := replicas[0]
		c := r.app(t, "app")
		token := r.login(t, c, r.user(t, "alice")).RefreshToken
		var won []answer
		for _, a := range together(t, 32, func(i int) (answer, error) { return refreshNow(t, replicas[i%2], c, token) }) {
			if a.status == http.StatusOK {
				won = append(won, a)
				continue
			}
			a.want(t, http.StatusBadRequest, "invalid_grant")
		}
		if len(won) != 1 {
			t.Fatalf("%d of 32 uses succeeded, want 1", len(won))
		}
		r.dead(t, "the winner's access token", c, won[0].text("access_token"))
		r.refresh(t, c, won[0].text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		if n := len(r.events(t, audit.RefreshTokenReused)); n != 1 {
			t.Errorf("%d events tell of one theft", n)
		}
	})
}

func refreshNow(t testing.TB, r *replica, c *clients.Client, token string) (answer, error) {
	body, auth := as(c, form("grant_type", "refresh_token", "refresh_token", token))
	return r.try(r.request(t.Context(), "/token", body, auth))
}

// together calls f n times at once.
func together(t testing.TB, n int, f func(i int) (answer, error)) []answer {
	t.Helper()
	answers, errs := make([]answer, n), make([]error, n)
	ready := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-ready
			answers[i], errs[i] = f(i)
		})
	}
	close(ready)
	running.Wait()
	for _, err := range errs {
		check(t, err)
	}
	return answers
}

// After a revocation was answered nothing of the session is active, however a refresh raced it.
func TestRefreshRacesRevocation(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		replicas := []*replica{start(t, b), start(t, b)}
		r := replicas[0]
		c := r.app(t, "app")
		u := r.user(t, "alice")
		races := 300
		if b.Name == "sqlite" {
			races = 100
		}
		refreshed := 0
		for i := range races {
			issued := r.login(t, c, u)
			body, auth := as(c, form("token", issued.RefreshToken))
			other := replicas[(i+1)%2]
			answers := together(t, 2, func(j int) (answer, error) {
				if j == 0 {
					return refreshNow(t, replicas[i%2], c, issued.RefreshToken)
				}
				return other.try(other.request(t.Context(), "/revoke", body, auth))
			})
			tokens := []string{issued.AccessToken, issued.RefreshToken}
			if a := answers[0]; a.status == http.StatusOK {
				refreshed++
				tokens = append(tokens, a.text("access_token"), a.text("refresh_token"))
			} else {
				a.want(t, http.StatusBadRequest, "invalid_grant")
			}
			answers[1].want(t, http.StatusOK, "")
			for _, token := range tokens {
				replicas[i/2%2].dead(t, fmt.Sprintf("race %d", i), c, token)
			}
			if t.Failed() {
				return
			}
		}
		t.Logf("the refresh came first in %d of %d races", refreshed, races)
	})
}

func TestRestart(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app")
		u := r.user(t, "alice")
		stolen, kept, revoked, spoilt := r.login(t, c, u), r.login(t, c, u), r.login(t, c, u), r.login(t, c, u)
		clientToken := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
		current := stolen.RefreshToken
		for range 2 {
			current = r.refresh(t, c, current).issued(t).text("refresh_token")
		}
		r.revoke(t, c, revoked.RefreshToken).want(t, http.StatusOK, "")
		r.revoke(t, c, spoilt.AccessToken).want(t, http.StatusOK, "")
		r.close()
		r.closeStore()

		r = start(t, b)
		r.alive(t, "an access token", c, kept.AccessToken)
		r.alive(t, "a client's token", c, clientToken)
		r.dead(t, "an access token of a revoked session", c, revoked.AccessToken)
		r.dead(t, "a revoked access token", c, spoilt.AccessToken)
		r.alive(t, "the session of a revoked access token", c, spoilt.RefreshToken)
		r.refresh(t, c, revoked.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
		r.refresh(t, c, kept.RefreshToken).issued(t)
		r.refresh(t, c, stolen.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
		r.refresh(t, c, current).want(t, http.StatusBadRequest, "invalid_grant")
		r.dead(t, "an access token of the stolen session", c, stolen.AccessToken)
	})
}

func TestChangeOfSecret(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		older, newer := keys.NewSecret(), keys.NewSecret()
		with := func(secret string) func(*settings) { return func(s *settings) { s.secret = secret } }
		r := start(t, b, with(older))
		c := r.app(t, "app")
		u := r.user(t, "alice")
		used, unused := r.login(t, c, u), r.login(t, c, u)

		r = start(t, b, with(newer+","+older))
		r.alive(t, "an access token", c, used.AccessToken)
		r.alive(t, "a refresh token", c, used.RefreshToken)
		successor := r.refresh(t, c, used.RefreshToken).issued(t).text("refresh_token")

		r = start(t, b, with(newer))
		r.alive(t, "an access token, by a signing key sealed anew", c, used.AccessToken)
		r.refresh(t, c, successor).issued(t)
		r.refresh(t, c, unused.RefreshToken).want(t, http.StatusBadRequest, "invalid_grant")
	})
}

func TestChangeOfAlgorithm(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		with := func(alg keys.Algorithm) func(*settings) {
			return func(s *settings) { s.alg, s.signingSecret = alg, signingSecret }
		}
		r := start(t, b, with(keys.ES256))
		c := r.app(t, "app")
		u := r.user(t, "alice")
		var earlier []string
		for _, alg := range []keys.Algorithm{keys.ES256, keys.EdDSA, keys.HS256, keys.ES256} {
			r = start(t, b, with(alg))
			token := r.login(t, c, u).AccessToken
			header, _ := decode(t, token)
			wantHeader(t, r, header, alg)
			for _, old := range earlier {
				r.alive(t, "a token of an earlier algorithm under "+string(alg), c, old)
			}
			earlier = append(earlier, token)
		}
		r = start(t, b, with(keys.HS256), func(s *settings) { s.signingSecret = "another shared secret of enough bytes" })
		for _, old := range earlier {
			r.alive(t, "a token of an earlier algorithm or secret", c, old)
		}
	})
}

func TestKeyRotation(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c := r.app(t, "app")
		u := r.user(t, "alice")
		old := r.login(t, c, u).AccessToken
		published := r.jwks(t)
		for range 2 { // the first one makes a key current that every replica knows, the second one a new key
			if _, err := r.keys.Rotate(t.Context(), origin); err != nil {
				t.Fatal(err)
			}
			header, _ := decode(t, r.login(t, c, u).AccessToken)
			wantHeader(t, r, header, keys.ES256)
		}
		fresh := r.login(t, c, u).AccessToken
		header, _ := decode(t, fresh)
		if published[header["kid"].(string)] != nil {
			t.Error("the key was published before; this test needs one that the other replica never saw")
		}
		other.alive(t, "a token signed by a key made a moment ago elsewhere", c, fresh)
		other.alive(t, "a token signed by a retired key", c, old)
		if n := len(r.jwks(t)); n != 4 {
			t.Errorf("%d keys are published, want two retired ones, the current and the next", n)
		}
		for kid := range published {
			if r.jwks(t)[kid] == nil {
				t.Error("a key that has signed is published no more while its tokens live")
			}
		}
		b.Age(t, r.keys.KeepForHints()+time.Second)
		if n := len(start(t, b).jwks(t)); n != 2 {
			t.Errorf("%d keys are published when the last token of the retired ones has expired, want 2", n)
		}
	})
}

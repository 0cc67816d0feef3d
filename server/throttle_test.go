package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"signet/audit"
)

// from is a client address, told by a trusted proxy.
func from(address string) option { return header("X-Forwarded-For", address) }

func (r *replica) loginFrom(t testing.TB, c *client, address, username, password string) answer {
	t.Helper()
	return r.post(t, "/token", c, form("grant_type", "password", "username", username, "password", password), from(address))
}

func capOf(n int) func(*settings) {
	return func(s *settings) { s.maxFailures, s.proxies = n, loopback }
}

// isThrottled checks for the answer to too many failures.
func isThrottled(t testing.TB, a answer) {
	t.Helper()
	wellFormed(t, a.want(t, http.StatusTooManyRequests, "temporarily_unavailable"))
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 || n > 900 {
		t.Errorf("Retry-After is %q, want the seconds that remain of 15 minutes", a.header.Get("Retry-After"))
	}
}

func isRefused(t testing.TB, a answer) {
	t.Helper()
	wellFormed(t, a.want(t, http.StatusBadRequest, "invalid_grant"))
}

func TestThrottlingByUsername(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b, capOf(3)), start(t, b, capOf(3))
		c := r.app(t, "app")
		r.user(t, "alice")
		r.user(t, "bob")
		for i := range 3 {
			isRefused(t, r.loginFrom(t, c, fmt.Sprintf("203.0.113.%d", i), "alice", fmt.Sprint("wrong", i)))
		}
		isThrottled(t, r.loginFrom(t, c, "203.0.113.9", "alice", "wrong9"))
		isThrottled(t, r.loginFrom(t, c, "203.0.113.9", "alice", password))
		isThrottled(t, other.loginFrom(t, c, "203.0.113.9", "ALICE", password))
		other.loginFrom(t, c, "203.0.113.9", "bob", password).issued(t)

		// An unknown user is throttled as well: otherwise one could tell.
		for i := range 3 {
			isRefused(t, r.loginFrom(t, c, fmt.Sprintf("203.0.114.%d", i), "nobody", fmt.Sprint("wrong", i)))
		}
		isThrottled(t, r.loginFrom(t, c, "203.0.114.9", "nobody", "wrong9"))

		if n := len(r.events(t, audit.LoginFailed)); n != 6 {
			t.Errorf("%d events tell of 6 failed logins", n)
		}
		if n := len(r.events(t, audit.LoginThrottled)); n != 2 {
			t.Errorf("%d events tell of 2 caps reached", n)
		}
		b.Age(t, 16*time.Minute)
		r.loginFrom(t, c, "203.0.113.9", "alice", password).issued(t)
	})
}

func TestThrottlingByAddress(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b, capOf(3)), start(t, b, capOf(3))
		c := r.app(t, "app")
		r.user(t, "alice")
		for i := range 3 {
			isRefused(t, r.loginFrom(t, c, "203.0.113.7", fmt.Sprint("user", i), "wrong password"))
		}
		isThrottled(t, other.loginFrom(t, c, "203.0.113.7", "alice", password))
		r.loginFrom(t, c, "203.0.113.8", "alice", password).issued(t)
		// A success of somebody else does not clear an address.
		isThrottled(t, r.loginFrom(t, c, "203.0.113.7", "alice", password))
		b.Age(t, 16*time.Minute)
		r.loginFrom(t, c, "203.0.113.7", "alice", password).issued(t)
	})
}

// One subscriber has a whole /64 to himself.
func TestThrottlingByIPv6Network(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		for i := range 3 {
			isRefused(t, r.loginFrom(t, c, fmt.Sprintf("2001:db8::%d", i+1), fmt.Sprint("user", i), "wrong password"))
		}
		isThrottled(t, r.loginFrom(t, c, "2001:db8::ffff:9", "user9", "wrong password"))
		isRefused(t, r.loginFrom(t, c, "2001:db8:0:1::1", "user9", "wrong password"))
	}, capOf(3))
}

// Failures count for the window that began with the first one: the cap is not pushed on by further tries.
func TestThrottlingWindow(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, capOf(2))
		c := r.app(t, "app")
		r.user(t, "alice")
		isRefused(t, r.passwordGrant(t, c, "alice", "wrong 1"))
		b.Age(t, 10*time.Minute)
		isRefused(t, r.passwordGrant(t, c, "alice", "wrong 2"))
		a := r.passwordGrant(t, c, "alice", password)
		isThrottled(t, a)
		if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n > 300 {
			t.Errorf("Retry-After is %q 10 minutes into a window of 15", a.header.Get("Retry-After"))
		}
		for range 3 {
			b.Age(t, time.Minute)
			isThrottled(t, r.passwordGrant(t, c, "alice", password))
		}
		b.Age(t, 3*time.Minute)
		r.passwordGrant(t, c, "alice", password).issued(t)
	})
}

func TestSamePasswordCountsOnce(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		r.user(t, "alice")
		for range 5 {
			isRefused(t, r.passwordGrant(t, c, "alice", "wrong password"))
		}
		r.passwordGrant(t, c, "alice", password).issued(t)
	}, capOf(2))
}

func TestSuccessClearsTheUsername(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		r.user(t, "alice")
		for round := range 3 {
			for i := range 2 {
				isRefused(t, r.loginFrom(t, c, fmt.Sprintf("203.0.113.%d", 2*round+i), "alice", fmt.Sprint("wrong", round, i)))
			}
			r.loginFrom(t, c, "203.0.113.99", "alice", password).issued(t)
		}
	}, capOf(3))
}

// Parallel guesses over two replicas do not pass the counter.
func TestParallelGuesses(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		const most = 10
		replicas := []*replica{start(t, b, capOf(most)), start(t, b, capOf(most))}
		r := replicas[0]
		c := r.app(t, "app")
		// Users with a cheap hash: a hundred of the usual price would queue for too long.
		for _, name := range []string{"alice", "bob", "user0", "user1", "user2", "user3", "user4", "user5", "user6", "user7", "user8", "user9"} {
			r.user(t, name)
		}
		guess := func(address, username func(i int) string) {
			t.Helper()
			refused := 0
			for _, a := range together(t, 100, func(i int) (answer, error) {
				body, auth := as(c, form("grant_type", "password", "username", username(i), "password", fmt.Sprint("wrong", i)))
				at := replicas[i%2]
				return at.try(at.request(t.Context(), "/token", body, auth, from(address(i))))
			}) {
				if a.status == http.StatusBadRequest {
					isRefused(t, a)
					refused++
				} else {
					isThrottled(t, a)
				}
			}
			if refused != most {
				t.Errorf("%d guesses were answered, the cap is %d", refused, most)
			}
		}
		guess(func(int) string { return "203.0.113.1" }, func(int) string { return "alice" })
		guess(func(i int) string { return fmt.Sprintf("203.0.114.%d", i) }, func(int) string { return "bob" })
		guess(func(int) string { return "203.0.113.2" }, func(i int) string { return fmt.Sprint("user", i/10) })
		isThrottled(t, r.loginFrom(t, c, "203.0.113.99", "alice", password))
	})
}

// The most common client library sends every failed first call twice, with the secret by Basic and then in the body.
func TestOAuth2LibrarysDoubleCallCountsOnce(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		r.user(t, "alice")
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
		config := func() *oauth2.Config {
			return &oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, Endpoint: oauth2.Endpoint{TokenURL: r.url + "/token"}}
		}
		if _, err := config().PasswordCredentialsToken(ctx, "alice", "wrong password"); err == nil {
			t.Error("a wrong password was accepted")
		}
		if n := len(r.events(t, audit.LoginFailed)); n != 1 {
			t.Errorf("%d failures were counted for one wrong password", n)
		}
		token, err := config().PasswordCredentialsToken(ctx, "alice", password)
		check(t, err)
		if token.RefreshToken == "" || token.TokenType != "Bearer" || !token.Valid() {
			t.Errorf("the library made %+v of the answer", token)
		}
		token.Expiry = time.Now().Add(-time.Hour)
		fresh, err := config().TokenSource(ctx, token).Token()
		check(t, err)
		if fresh.AccessToken == token.AccessToken || fresh.RefreshToken == token.RefreshToken {
			t.Error("the library's refresh rotated nothing")
		}
	}, capOf(2))
}

// The address is taken from X-Forwarded-For only where a trusted proxy wrote it.
func TestForwardedAddress(t *testing.T) {
	for _, c := range []struct {
		name    string
		trusted []netip.Prefix
		headers []string // of X-Forwarded-For, in this order
		want    string
	}{
		{"no trusted proxies", nil, []string{"203.0.113.7"}, "127.0.0.1"},
		{"an untrusted peer", prefixes("10.0.0.0/8"), []string{"203.0.113.7"}, "127.0.0.1"},
		{"a trusted proxy", loopback, []string{"203.0.113.7"}, "203.0.113.7"},
		{"a trusted proxy without the header", loopback, nil, "127.0.0.1"},
		{"what the client claimed before", loopback, []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{"what the client claimed, in a header of its own", loopback, []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		{"two trusted proxies", prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"198.51.100.1, 203.0.113.7, 10.0.0.1"}, "203.0.113.7"},
		{"a list of trusted proxies alone", prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"10.0.0.2, 10.0.0.1"}, "10.0.0.2"},
		{"nonsense", loopback, []string{"nonsense"}, "127.0.0.1"},
		{"nonsense before the last", loopback, []string{"nonsense, 203.0.113.7"}, "203.0.113.7"},
		{"IPv6", loopback, []string{"2001:db8::7"}, "2001:db8::7"},
		{"with ports", prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"198.51.100.1, 203.0.113.7:4711,10.0.0.1:80"}, "203.0.113.7"},
		{"IPv6 with a port", loopback, []string{"[2001:db8::7]:80"}, "2001:db8::7"},
		{"a port, from an untrusted peer", prefixes("10.0.0.0/8"), []string{"203.0.113.7:80"}, "127.0.0.1"},
		{"a port behind nonsense", loopback, []string{"nonsense:80"}, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				app := r.app(t, "app")
				options := []option{header("X-Real-Ip", "198.51.100.2"), header("Forwarded", "for=198.51.100.3")}
				for _, h := range c.headers {
					options = append(options, header("X-Forwarded-For", h))
				}
				isRefused(t, r.post(t, "/token", app, form("grant_type", "password", "username", "x", "password", "wrong"), options...))
				events := r.events(t, audit.LoginFailed)
				if len(events) != 1 || events[0].Address != c.want {
					t.Errorf("the record says %+v, want the address %s", events, c.want)
				}
			}, func(s *settings) { s.proxies = c.trusted })
		})
	}
}

func prefixes(list ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

package server_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/clients"
	"signet/fetch"
	"signet/users"
)

// onThisMachine lets receivers be called.
var onThisMachine = fetch.Policy{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// receiver is a client that wants to hear of log-outs.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	heard  []url.Values
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	c := &receiver{status: http.StatusOK}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heard = append(c.heard, form)
		w.WriteHeader(c.status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *receiver) answers(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// all returns what was heard since it was asked.
func (c *receiver) all() []url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := c.heard
	c.heard = nil
	return heard
}

// tellsOfLogouts: every client with a session in a login is told of its end, once by all replicas together, whatever ended it.
func tellsOfLogouts(t *testing.T, b *backend, r *replica) {
	other := start(t, b)
	caller := fetch.New(onThisMachine, "test")
	defer caller.Close()
	one, two := newReceiver(t), newReceiver(t)
	u := r.user(t, "alice")
	wired := func(id string, to *receiver) *clients.Client {
		c := r.shop(t, id, trusted, func(c *clients.Client) { c.BackchannelLogoutURI = to.URL + "/backchannel" })
		return c
	}
	c1, c2 := wired("one", one), wired("two", two)
	silent := r.shop(t, "silent", trusted)
	tell := func() {
		t.Helper()
		var telling sync.WaitGroup
		for _, rep := range []*replica{r, other} {
			telling.Go(func() {
				if err := rep.tokens.TellDue(t.Context(), rep.clients, caller); err != nil {
					t.Error(err)
				}
			})
		}
		telling.Wait()
	}
	// login begins two sessions on one, one on two, and returns the ID token of one.
	login := func(s *surfer) string {
		t.Helper()
		token := r.redeem(t, c1, s.grant(ask(c1), u).code(t)).issued(t).text("id_token")
		r.redeem(t, c1, s.authorize(ask(c1, "scope", "openid offline_access")).code(t)).issued(t)
		r.redeem(t, c2, s.authorize(ask(c2)).code(t)).issued(t)
		r.redeem(t, silent, s.authorize(ask(silent)).code(t)).issued(t)
		return token
	}
	logout := func(s *surfer, hint string) {
		t.Helper()
		s.open(http.MethodGet, "/logout?"+form("id_token_hint", hint).Encode(), "").page(t, http.StatusOK)
	}
	want := func(what string, at *receiver, c *clients.Client, hint string) {
		t.Helper()
		heard := at.all()
		if len(heard) != 1 || len(heard[0]) != 1 {
			t.Fatalf("%s: heard %v", what, heard)
		}
		header, claims := verify(t, r.jwks(t), heard[0].Get("logout_token"))
		events, _ := claims["events"].(map[string]any)
		event, isObject := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any)
		if header["typ"] != "logout+jwt" || claims["iss"] != issuer || claims["aud"] != c.ID || claims["sub"] != u.ID || claims["sid"] != payload(t, hint)["sid"] ||
			!isObject || len(event) != 0 || claims["nonce"] != nil || claims["jti"] == "" || claims["exp"].(float64)-claims["iat"].(float64) > 120 {
			t.Errorf("%s: %v %v", what, header, claims)
		}
	}

	s := r.surfer(t)
	token := login(s)
	logout(s, token)
	tell()
	want("log-out", one, c1, token)
	want("log-out", two, c2, token)
	tell()
	if len(one.all())+len(two.all()) > 0 {
		t.Error("told twice")
	}

	for what, end := range map[string]func(){
		"logged out everywhere": func() { check(t, r.users.EndSessions(t.Context(), u.ID, origin)) },
		"a new password": func() {
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Password: new(password)}, origin)
			check(t, err)
		},
		"another user logs in": func() {
			v := s.submit(s.authorize(ask(c1, "prompt", "select_account")), "decision", "other")
			s.enter(v, r.user(t, "bob")).code(t)
		},
	} {
		s = r.surfer(t)
		token = login(s)
		end()
		tell()
		want(what, one, c1, token)
		want(what, two, c2, token)
	}

	// A client that is down is told later; one that refuses is not bothered again.
	s = r.surfer(t)
	token = login(s)
	one.answers(http.StatusServiceUnavailable)
	two.answers(http.StatusBadRequest)
	logout(s, token)
	tell()
	if len(one.all()) != 1 || len(two.all()) != 1 {
		t.Error("not told")
	}
	tell()
	if len(one.all()) != 0 {
		t.Error("told again at once")
	}
	one.answers(http.StatusOK)
	b.Age(t, time.Hour)
	tell()
	want("an hour later", one, c1, token)
	if len(two.all()) != 0 {
		t.Error("who has refused is told again")
	}
	if n := b.Int(t, `SELECT count(*) FROM logout_notices`); n != 0 {
		t.Errorf("%d notices are left", n)
	}

	// Nobody is told for longer than a day, and an address that is not allowed is not called.
	token = login(s)
	logout(s, token)
	stranger := fetch.New(nil, "")
	defer stranger.Close()
	check(t, r.tokens.TellDue(t.Context(), r.clients, stranger))
	b.Age(t, 25*time.Hour)
	tell()
	if len(one.all())+len(two.all()) > 0 {
		t.Error("told after a day, or by a caller that must not")
	}
}

// What a client answers decides whether it is told again.
func TestAnswersToLogoutTokens(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		caller := fetch.New(onThisMachine, "test")
		defer caller.Close()
		to, u := newReceiver(t), r.user(t, "alice")
		c := r.shop(t, "shop", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = to.URL })
		for status, again := range map[int]bool{
			200: false, 202: false, 204: false, 400: false, 401: false, 403: false, 404: false, 405: false, 410: false, 413: false, 501: false,
			302: true, 308: true, 408: true, 429: true, 500: true, 502: true, 503: true, 504: true,
		} {
			s := r.surfer(t)
			r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
			to.answers(status)
			s.logOut()
			for range 2 {
				check(t, r.tokens.TellDue(t.Context(), r.clients, caller))
				b.Age(t, time.Hour)
			}
			if n := len(to.all()); n != map[bool]int{false: 1, true: 2}[again] {
				t.Errorf("%d: told %d times", status, n)
			}
			if n := b.Int(t, `SELECT count(*) FROM logout_notices`); n != 0 == !again {
				t.Errorf("%d: %d notices are left", status, n)
			}
			b.Exec(t, `DELETE FROM logout_notices`)
		}
		for outcome, want := range map[string]string{"delivered": "3", "refused": "8", "failed": "16"} {
			equal(t, outcome, r.metrics(t)[`signet_deliveries_total{kind="logout",outcome="`+outcome+`"}`], want)
		}
	})
}

// A client that takes connections and says nothing holds up the others for one time-out, however much it is to be told.
func TestSilentClientsHoldUpNobody(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		caller := fetch.New(onThisMachine, "test")
		defer caller.Close()
		hole, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer hole.Close()
		to, u := newReceiver(t), r.user(t, "alice")
		silent := r.shop(t, "silent", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = "http://" + hole.Addr().String() })
		c := r.shop(t, "shop", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = to.URL })
		for range 100 {
			b.Exec(t, map[string]string{
				"postgres": `INSERT INTO logout_notices (login_id, client_id, user_id) VALUES ($1, $2, $3)`,
				"sqlite":   `INSERT INTO logout_notices (login_id, client_id, user_id, created_at, due_at) SELECT $1, $2, $3, created_at, created_at FROM users WHERE id = $3`,
			}[b.Name], uuid.NewString(), silent.ID, u.ID)
		}
		s := r.surfer(t)
		r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
		s.logOut()
		began := time.Now()
		check(t, r.tokens.TellDue(t.Context(), r.clients, caller))
		if took := time.Since(began); took > 15*time.Second { // one by one it would be minutes
			t.Errorf("it took %s", took)
		}
		if n := len(to.all()); n != 1 {
			t.Errorf("the other client was told %d times", n)
		}
		if n := b.Int(t, `SELECT count(*) FROM logout_notices WHERE attempts = 1`); n != 100 {
			t.Errorf("%d notices are left", n)
		}
	})
}

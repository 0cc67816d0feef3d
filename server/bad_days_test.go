package server_test

import (
	"context"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/clients"
	"signet/storage/storagetest"
	"signet/users"
)

// parametersOfAuthorize are those that the endpoint knows, and one that it does not.
var parametersOfAuthorize = strings.Fields(`client_id redirect_uri response_type response_mode state scope nonce code_challenge code_challenge_method prompt max_age login_hint
	id_token_hint ui_locales claims_locales acr_values display claims resource request request_uri registration unknown`)

// harmless checks that an answer neither comes of a fault nor leads to where nobody was registered.
func harmless(t *testing.T, what string, v view) {
	t.Helper()
	if v.status >= http.StatusInternalServerError || v.status == 0 {
		t.Errorf("%s: %d %.300s", what, v.status, v.body)
	}
	if l := v.header.Get("Location"); l != "" && !strings.HasPrefix(l, callback+"?") && !strings.HasPrefix(l, callback+"#") && !strings.HasPrefix(l, issuer+"/") {
		t.Errorf("%s: sent to %q", what, l)
	}
	if v.action != "" && !strings.HasPrefix(v.action, "/") && !strings.HasPrefix(v.action, issuer+"/") && v.action != callback {
		t.Errorf("%s: a form to %q", what, v.action)
	}
}

// Who mistypes an address in a browser gets a page in their language; a program gets JSON, as everywhere.
func TestUnknownPathsAnswerBrowsersWithAPage(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		browser := header("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8")
		for _, path := range []string{"/", "/nothing", "/authorize/", "/.well-known/nothing"} {
			v := r.surfer(t).open(http.MethodGet, path, "", browser, header("Accept-Language", "de"))
			if v.page(t, http.StatusNotFound); !strings.Contains(v.body, "Hier ist nichts") {
				t.Errorf("%s: the page says %.300s", path, v.body)
			}
			for _, accept := range []string{"*/*", "application/json", "application/json, text/html", ""} {
				r.get(t, path, header("Accept", accept)).want(t, http.StatusNotFound, "not_found")
			}
			r.send(t, path, "", browser).want(t, http.StatusNotFound, "not_found") // a program: some say that they want pages most, Java's own client among them
		}
	})
}

// Whatever stands in a parameter of a page: no fault, and nobody is sent where they should not be.
func TestBadParametersOfPages(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		in := r.surfer(t)
		token := r.redeem(t, c, in.grant(ask(c), u).code(t)).issued(t).text("id_token")
		huge := strings.Repeat("x", 64<<10)
		bad := []string{huge, "\x00", "\xff", "a\x00b", "\r\n", "\"<script>", "%00", "%", "\u202e", strings.Repeat(" ", 1000), strings.Repeat("\x00", 300), "-1", "{}", "null", "//evil.example.com", "https://evil.example.com/"}
		for _, name := range parametersOfAuthorize {
			for _, value := range bad {
				for _, who := range []*surfer{s, in} {
					q := ask(c, name, value)
					harmless(t, name+" "+value[:min(9, len(value))], who.authorize(q))
					if v := who.open(http.MethodPost, "/authorize", q.Encode()); value == huge {
						v.page(t, http.StatusRequestEntityTooLarge)
					} else {
						harmless(t, name+" by POST", v)
					}
				}
			}
			q := ask(c, name, "x")
			q[name] = []string{q.Get(name), q.Get(name)}
			v := s.authorize(q)
			switch harmless(t, name+" twice", v); name {
			case "client_id", "redirect_uri":
				v.page(t, http.StatusBadRequest)
			case "unknown":
				v.page(t, http.StatusOK)
			case "resource":
				v.refused(t, "invalid_target")
			default:
				v.refused(t, "invalid_request")
			}
		}
		for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales", "logout_hint", "decision", "request", "unknown"} {
			for _, value := range append(bad, token) {
				q := form("id_token_hint", "x", "client_id", "shop", "post_logout_redirect_uri", "https://shop.example.com/bye")
				q.Set(name, value)
				for _, v := range []view{s.open(http.MethodGet, "/logout?"+q.Encode(), ""), s.open(http.MethodPost, "/logout", q.Encode())} {
					if v.location != nil && strings.HasPrefix(v.location.String(), "https://shop.example.com/bye") {
						continue
					}
					harmless(t, "/logout "+name, v)
				}
				q.Add(name, value)
				if v := s.open(http.MethodGet, "/logout?"+q.Encode(), ""); v.location == nil {
					harmless(t, "/logout "+name+" twice", v)
				}
			}
		}
		for _, path := range []string{"/login", "/login/account", "/consent", "/logout"} {
			for _, name := range []string{"request", "username", "password", "decision", "stay"} {
				for _, value := range bad {
					f := url.Values{"request": s.authorize(ask(c)).hidden["request"], "username": {"alice"}, "password": {"x"}, "decision": {"logout"}}
					f.Set(name, value)
					v := s.open(http.MethodPost, path, f.Encode())
					harmless(t, path+" "+name, v)
					if v.status < 400 && path != "/logout" {
						t.Errorf("%s with %s=%.20q: %d", path, name, value, v.status)
					}
				}
			}
			for _, body := range []string{"", "&", "=", "%", "request", "request=%zz", "\x00", `{"request":"x"}`, huge + huge} {
				harmless(t, path, s.open(http.MethodPost, path, body))
			}
			for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, "TRACE", "PROPFIND"} {
				if v := s.open(method, path, ""); v.status != http.StatusMethodNotAllowed && v.status != http.StatusNotFound && v.status != http.StatusOK {
					t.Errorf("%s %s: %d", method, path, v.status)
				}
			}
		}
		code := in.authorize(ask(c)).code(t)
		for _, name := range []string{"code", "redirect_uri", "code_verifier", "scope", "resource", "client_id", "grant_type", "unknown"} {
			for _, value := range bad {
				if a := r.redeem(t, c, code, name, value); a.status >= 500 {
					t.Errorf("/token %s=%.20q: %d %s", name, value, a.status, a.body)
				}
			}
		}
	})
}

// Every byte is a byte of a state, by itself and among others.
func TestEveryByteOfAState(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		s.grant(ask(c), u).code(t)
		for b := range 256 {
			state := string([]byte{byte(b)})
			for _, q := range []url.Values{ask(c, "state", state), ask(c, "state", "a"+state+"b", "scope", "nothing")} {
				if got := s.authorize(q).parameters(t, "query").Get("state"); got != q.Get("state") {
					t.Errorf("the state %q came back as %q", q.Get("state"), got)
				}
			}
		}
	})
}

// A browser without cookies is told what is wrong, and goes round in no circle.
func TestBrowserWithoutCookies(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		v := s.authorize(ask(c))
		clear(s.cookies)
		v = s.enter(v, u)
		if v.page(t, http.StatusBadRequest); v.heading != "Cookies are needed" || strings.Contains(strings.ToLower(v.body), "http-equiv=\"refresh\"") {
			t.Errorf("%q", v.heading)
		}
		clear(s.cookies)
		v = s.open(http.MethodPost, "/authorize", ask(c).Encode(), header("Sec-Fetch-Site", "cross-site"))
		clear(s.cookies)
		s.open(http.MethodGet, strings.TrimPrefix(v.location.String(), issuer), "").page(t, http.StatusOK) // which is the end of it
	})
}

// The back button, a reload, a form that was sent twice, and one that lay open for a day.
func TestBackAndForth(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		login := s.authorize(ask(c))
		consent := s.enter(login, u)
		again := s.enter(login, u) // back, and once more
		if again.page(t, http.StatusOK); !strings.HasSuffix(again.action, "/consent") {
			t.Fatalf("%q", again.heading)
		}
		if v := s.submit(consent, "decision", "allow"); !strings.HasSuffix(v.action, "/consent") { // put to the login of before
			t.Errorf("%d %v", v.status, v.location)
		}
		first, second := s.submit(again, "decision", "allow"), s.submit(again, "decision", "allow")
		one, two := r.redeem(t, c, first.code(t)).issued(t), r.redeem(t, c, second.code(t)).issued(t)
		r.alive(t, "the first", c, one.text("access_token"))
		r.alive(t, "the second", c, two.text("access_token"))
		s.submit(again, "decision", "deny").refused(t, "access_denied")
		s.authorize(ask(c)).code(t) // what was allowed stands
		wrong := s.submit(s.authorize(ask(c, "prompt", "login")), "username", "alice", "password", "wrong")
		wrong = s.submit(wrong, "username", "alice", "password", "wrong")
		s.enter(wrong, u).code(t)
	})
}

// Somebody is disabled, or their client, between consent and code.
func TestDisabledMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		consent := s.enter(s.authorize(ask(c)), u)
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
		check(t, err)
		v := s.submit(consent, "decision", "allow")
		if v.page(t, http.StatusOK); !strings.HasSuffix(v.action, "/login") {
			t.Errorf("%q", v.heading)
		}
		s.enter(v, u).page(t, http.StatusUnauthorized)

		bob := r.user(t, "bob")
		narrow := r.shop(t, "narrow", scope("openid", "read"))
		consent = s.enter(s.authorize(ask(narrow, "scope", "openid read")), bob)
		changed := *narrow
		changed.Secret, changed.Scope = "", clients.Scope{"openid"}
		_, err = r.clients.Update(t.Context(), changed, origin)
		check(t, err)
		time.Sleep(clients.Staleness) // for that long it is cached
		s.submit(consent, "decision", "allow").refused(t, "invalid_scope")

		consent = s.authorize(ask(c))
		moved := *c
		moved.Secret, moved.RedirectURIs = "", []string{"https://shop.example.com/elsewhere"}
		_, err = r.clients.Update(t.Context(), moved, origin)
		check(t, err)
		time.Sleep(clients.Staleness)
		s.submit(consent, "decision", "allow").page(t, http.StatusBadRequest) // the address is the client's no more
		_, err = r.clients.SetDisabled(t.Context(), narrow.ID, true, origin)
		check(t, err)
		time.Sleep(clients.Staleness)
		s.authorize(ask(narrow)).page(t, http.StatusBadRequest)
	})
}

// The database goes away while somebody logs in. They are told, and what they have done so far is not lost: the same form does once it
// is back.
func TestDatabaseGoneWhileLoggingIn(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, cut := start(t, b), start(t, b)
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		away := func(what string, v view) {
			t.Helper()
			v.page(t, http.StatusServiceUnavailable)
			if v.header.Get("Retry-After") == "" || v.header.Get("Cache-Control") != "no-store" || strings.Contains(strings.ToLower(v.body), "sql") || strings.Contains(v.body, "closed") {
				t.Errorf("%s: %v %s", what, v.header, v.body)
			}
		}
		login := s.authorize(ask(c))
		cut.closeStore()
		there := func() *surfer { return s.at(cut) }
		away("a request", there().authorize(ask(c)))
		away("by POST", there().open(http.MethodPost, "/authorize", ask(c).Encode()))
		away("the login", there().enter(login, u))
		consent := s.enter(login, u)
		away("consent", there().submit(consent, "decision", "allow"))
		away("deny", there().submit(consent, "decision", "deny"))
		code := s.submit(consent, "decision", "allow").code(t)
		a := cut.redeem(t, c, code)
		if a.want(t, http.StatusServiceUnavailable, "temporarily_unavailable"); a.header.Get("Retry-After") == "" {
			t.Errorf("%v", a.header)
		}
		tokens := r.redeem(t, c, code).issued(t)
		account := s.authorize(ask(c, "prompt", "select_account"))
		away("the account", there().submit(account, "decision", "continue"))
		s.submit(account, "decision", "continue").code(t)
		cut.get(t, "/userinfo", only("Authorization", "Bearer "+tokens.text("access_token"))).want(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		ask := s.open(http.MethodGet, "/logout", "")
		away("the log-out", there().open(http.MethodGet, "/logout", ""))
		away("its form", there().submit(ask, "decision", "logout"))
		r.alive(t, "the session", c, tokens.text("access_token"))
		s.submit(ask, "decision", "logout").page(t, http.StatusOK)
		r.dead(t, "the session", c, tokens.text("access_token"))
	})
}

// counter counts the round trips to the database.
type counter struct{ trips atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.trips.Add(1)
	return ctx
}
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.trips.Add(1)
	return ctx
}
func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// For somebody who is logged in, a code and the tokens for it, with an ES256 ID token, take two round trips to the database.
func TestRoundTripsOfACode(t *testing.T) {
	t.Parallel()
	var count counter
	b := &storagetest.Backend{Name: "postgres", URL: storagetest.Postgres(t)}
	r := start(t, b, func(s *settings) { s.tracer = &count })
	c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
	s.grant(ask(c), u).code(t)
	least := int64(1 << 30)
	for i := 0; i < 100 && least > 2; i++ { // the client is read anew once a second
		before := count.trips.Load()
		if r.redeem(t, c, s.authorize(ask(c)).code(t)).issued(t).text("id_token") == "" {
			t.Fatal("no ID token")
		}
		least = min(least, count.trips.Load()-before)
	}
	if least != 2 {
		t.Errorf("%d round trips", least)
	}
}

// A login computes one Argon2id, which takes 19 MiB; so does a wrong one, and one of nobody. It runs while no other test does.
func TestLoginsComputeOneHash(t *testing.T) {
	const memory = 19 << 20
	storagetest.EachAlone(t, func(t *testing.T, b *backend) {
		r := start(t, b, dearPasswords)
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		s.grant(ask(c), u).code(t) // the first one hashes anew
		for what, pair := range map[string][2]string{"right": {"alice", password}, "wrong": {"alice", "wrong"}, "nobody": {"nobody", password}} {
			v := s.authorize(ask(c, "prompt", "login"))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s.submit(v, "username", pair[0], "password", pair[1])
			runtime.ReadMemStats(&after)
			if n := (after.TotalAlloc - before.TotalAlloc) / memory; n != 1 {
				t.Errorf("%s: the memory of %d hashes", what, n)
			}
		}
	})
}

// Nothing that a visitor does who is not logged in writes to the database, but what the throttle counts.
func TestVisitorsWriteNothing(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.shop(t, "shop")
		u := r.user(t, "alice")
		there := r.surfer(t)
		hint := r.redeem(t, c, there.grant(ask(c), u).code(t)).issued(t).text("id_token")
		there.logOut()
		writes := b.Writes(t)
		before := writes()
		for range 5 {
			s := r.surfer(t)
			v := s.authorize(ask(c))
			s.submit(v, "decision", "deny").refused(t, "access_denied")
			s.open(http.MethodPost, "/authorize", ask(c).Encode())
			s.open(http.MethodGet, "/logout", "").page(t, http.StatusOK)
			s.open(http.MethodGet, "/logout?id_token_hint="+hint, "").page(t, http.StatusOK)
			s.open(http.MethodPost, "/consent", form("request", v.hidden.Get("request"), "decision", "allow").Encode())
			s.open(http.MethodPost, "/login/account", form("request", v.hidden.Get("request"), "decision", "continue").Encode())
			for _, q := range []url.Values{ask(c, "prompt", "none"), ask(c, "scope", "nothing"), ask(c, "client_id", "nobody"), ask(c, "redirect_uri", "x"), ask(c, "id_token_hint", hint), ask(c, "prompt", "consent select_account")} {
				s.authorize(q)
			}
			r.redeem(t, c, "sgc_x")
			r.get(t, "/userinfo", only("Authorization", "Bearer x"))
			r.get(t, "/.well-known/openid-configuration")
		}
		if now := writes(); now != before {
			t.Errorf("written: %s, before: %s", now, before)
		}
		s := r.surfer(t)
		s.submit(s.authorize(ask(c)), "username", "alice", "password", "wrong")
		if writes() == before {
			t.Error("the throttle counts nothing, or the test sees nothing")
		}
	})
}

// A browser that comes for the first time is told apart once, whatever pages and passkeys are made for it.
func TestOneCookieTellsABrowser(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.shop(t, "shop")
		for what, v := range map[string]view{
			"login": r.surfer(t).authorize(ask(c)), "own account": r.surfer(t).open(http.MethodGet, "/me/", ""),
		} {
			if got := v.header.Values("Set-Cookie"); len(got) != 1 {
				t.Errorf("%s: %q", what, got)
			}
		}
	})
}

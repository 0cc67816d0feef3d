package server_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/users"
)

// home is the origin of the web app in the tests of browser sessions.
const home = "https://app.example.com"

// browser is what keeps cookies and says where it calls from. It is none: it sends its cookies wherever it is told to.
type browser struct {
	*replica

	origin  string
	cookies map[string]*http.Cookie
}

func webApp(c *clients.Client) {
	public(c)
	c.BrowserOrigins = []string{home}
}

func (r *replica) browser(origin string) *browser {
	return &browser{r, origin, map[string]*http.Cookie{}}
}

// tab is another browser with the same cookies.
func (b *browser) tab(origin string) *browser {
	copied := b.browser(origin)
	for name, c := range b.cookies {
		copied.cookies[name] = c
	}
	return copied
}

func (b *browser) prepare(t testing.TB, method, path, body string, options ...option) *http.Request {
	t.Helper()
	req := b.request(t.Context(), path, body)
	req.Method = method
	req.Header.Set("Content-Type", "application/json")
	if b.origin != "" {
		req.Header.Set("Origin", b.origin)
	}
	for _, c := range b.cookies {
		if strings.HasPrefix(path, c.Path) {
			req.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	for _, o := range options {
		o(req)
	}
	return req
}

// keep takes over the cookies of an answer.
func (b *browser) keep(a answer) answer {
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c
		}
	}
	return a
}

func (b *browser) call(t testing.TB, method, path, body string, options ...option) answer {
	t.Helper()
	return b.keep(b.do(t, b.prepare(t, method, path, body, options...)))
}

func (b *browser) login(t testing.TB, clientID, username string) answer {
	t.Helper()
	return b.call(t, "POST", "/session", `{"client_id": "`+clientID+`", "username": "`+username+`", "password": "`+password+`"}`)
}

func TestSession(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		web, other := r.app(t, "web", webApp), r.app(t, "other")
		alice := r.user(t, "alice")
		b := r.browser(home)
		b.call(t, "GET", "/session", "").want(t, 401, "invalid_token")
		b.call(t, "POST", "/session/refresh", "").want(t, 401, "invalid_grant")
		b.call(t, "DELETE", "/session", "").is(t, 204)

		want := map[string]any{"sub": alice.ID, "username": "alice", "scope": "read write", "expires_in": 900.0}
		a := b.login(t, "web", "ALICE").is(t, 200)
		equal(t, "logged in", a.json, want)
		at, rt := b.cookies["signet_at"], b.cookies["signet_rt"]
		if at == nil || rt == nil {
			t.Fatalf("cookies: %v", b.cookies)
		}
		for _, c := range []struct{ got, want string }{
			{a.header.Values("Set-Cookie")[0], "signet_at=" + at.Value + "; Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax"},
			{a.header.Values("Set-Cookie")[1], "signet_rt=" + rt.Value + "; Path=/session; Max-Age=2592000; HttpOnly; Secure; SameSite=Strict"},
		} {
			equal(t, "cookie", c.got, c.want)
		}
		if strings.Contains(a.body, at.Value) || strings.Contains(a.body, rt.Value) {
			t.Error("a script can read a token")
		}
		r.alive(t, "the access token", r.app(t, "api", func(c *clients.Client) { c.ResourceServer = true }), at.Value)
		shown := b.call(t, "GET", "/session", "").is(t, 200)
		delete(shown.json, "expires_in")
		delete(want, "expires_in")
		equal(t, "shown", shown.json, want)

		// A refresh rotates: the same answer, other cookies; the token is good at /token as well.
		refreshed := b.call(t, "POST", "/session/refresh", "").is(t, 200)
		if refreshed.text("sub") != alice.ID || refreshed.text("scope") != "read write" || b.cookies["signet_rt"].Value == rt.Value || b.cookies["signet_at"].Value == at.Value {
			t.Errorf("refreshed: %s", refreshed.body)
		}
		r.refresh(t, web, b.cookies["signet_rt"].Value).issued(t)
		r.refresh(t, other, b.cookies["signet_rt"].Value).want(t, 400, "invalid_grant")

		// Log-out ends the session and clears the cookies, and may be repeated.
		stolen := b.tab(home)
		out := b.call(t, "DELETE", "/session", "").is(t, 204)
		for i, want := range []string{
			"signet_at=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax", "signet_rt=; Path=/session; Max-Age=0; HttpOnly; Secure; SameSite=Strict",
		} {
			equal(t, "cleared", out.header.Values("Set-Cookie")[i], want)
		}
		b.call(t, "DELETE", "/session", "").is(t, 204)
		stolen.call(t, "GET", "/session", "").want(t, 401, "invalid_token")
		dead := stolen.call(t, "POST", "/session/refresh", "").want(t, 401, "invalid_grant")
		if len(stolen.cookies) != 0 || len(dead.header.Values("Set-Cookie")) != 2 || strings.HasPrefix(dead.header.Get("WWW-Authenticate"), "Basic") {
			t.Errorf("a dead session leaves %v; %v", stolen.cookies, dead.header)
		}
		stolen.call(t, "DELETE", "/session", "").is(t, 204)
	})
}

// A form is as good as JSON, and what is wrong with either is named.
func TestSessionLoginRequests(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp, func(c *clients.Client) { c.Scope = clients.Scope{"read", clients.ScopeAdmin} })
		r.app(t, "machine", webApp, func(c *clients.Client) { c.Grants = []clients.Grant{} })
		r.app(t, "short", webApp, func(c *clients.Client) { c.Grants = []clients.Grant{clients.Password} })
		r.app(t, "no-web")
		off := r.app(t, "off", webApp)
		_, err := r.clients.SetDisabled(t.Context(), off.ID, true, origin)
		check(t, err)
		r.user(t, "alice")
		r.user(t, "root", true)
		b := r.browser(home)
		asForm := contentType("application/x-www-form-urlencoded")
		login := form("client_id", "web", "username", "alice", "password", password, "scope", "read")
		equal(t, "by form", b.tab(home).call(t, "POST", "/session", login.Encode(), asForm).is(t, 200).text("scope"), "read")
		equal(t, "default scope", b.tab(home).login(t, "web", "alice").is(t, 200).text("scope"), "read")
		short := b.tab(home)
		short.login(t, "short", "alice").is(t, 200)
		if _, has := short.cookies["signet_rt"]; has {
			t.Error("a client without the grant has a refresh token")
		}
		short.call(t, "DELETE", "/session", "").is(t, 204)
		if e := r.events(t, audit.SessionRevoked); len(e) != 1 || e[0].ClientID != "short" {
			t.Errorf("log-out without a refresh token: %v", e)
		}

		credentials := `"username": "alice", "password": "` + password + `"`
		for name, c := range map[string]struct {
			body   string
			status int
			code   string
		}{
			"no client":        {`{` + credentials + `}`, 401, "invalid_client"},
			"unknown client":   {`{"client_id": "x", ` + credentials + `}`, 401, "invalid_client"},
			"disabled client":  {`{"client_id": "off", ` + credentials + `}`, 401, "invalid_client"},
			"no web app":       {`{"client_id": "no-web", ` + credentials + `}`, 403, "access_denied"},
			"no such grant":    {`{"client_id": "machine", ` + credentials + `}`, 400, "unauthorized_client"},
			"no username":      {`{"client_id": "web", "password": "x"}`, 400, "invalid_request"},
			"no password":      {`{"client_id": "web", "username": "alice"}`, 400, "invalid_request"},
			"wrong password":   {`{"client_id": "web", "username": "alice", "password": "wrong"}`, 400, "invalid_grant"},
			"unknown user":     {`{"client_id": "web", "username": "bob", "password": "wrong"}`, 400, "invalid_grant"},
			"more scope":       {`{"client_id": "web", "scope": "write", ` + credentials + `}`, 400, "invalid_scope"},
			"no admin":         {`{"client_id": "web", "scope": "signet:admin", ` + credentials + `}`, 400, "invalid_scope"},
			"unknown member":   {`{"client_id": "web", "secret": "x", ` + credentials + `}`, 400, "invalid_request"},
			"a number":         {`{"client_id": "web", "username": 1, "password": "x"}`, 400, "invalid_request"},
			"no JSON":          {`client_id=web`, 400, "invalid_request"},
			"too large":        {`{"client_id": "` + strings.Repeat("a", 64<<10) + `"}`, 413, "invalid_request"},
			"another username": {`{"client_id": "web", "username": ["alice"], "password": "x"}`, 400, "invalid_request"},
		} {
			a := b.call(t, "POST", "/session", c.body)
			if a.status != c.status || a.text("error") != c.code || len(b.cookies) > 0 || strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic") {
				t.Errorf("%s: %d %s, cookies %v", name, a.status, a.body, b.cookies)
			}
		}
		b.call(t, "POST", "/session?client_id=web", `{`+credentials+`}`).want(t, 400, "invalid_request")
		b.call(t, "POST", "/session", login.Encode()+"&client_secret=x", asForm).want(t, 400, "invalid_request")
		if a := b.call(t, "POST", "/session", login.Encode(), contentType("text/plain")).want(t, 400, "invalid_request"); !strings.Contains(a.text("error_description"), "application/json") {
			t.Errorf("another content type: %s", a.body)
		}
		equal(t, "an admin", b.call(t, "POST", "/session", `{"client_id": "web", "scope": "signet:admin", "username": "root", "password": "`+password+`"}`).is(t, 200).text("scope"), "signet:admin")
	})
}

// A page of another origin does nothing with the cookies of somebody who is logged in.
func TestSessionFromElsewhere(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const sibling = "https://sibling.example.com"
		web := r.app(t, "web", webApp)
		r.app(t, "sibling", webApp, func(c *clients.Client) { c.BrowserOrigins = []string{sibling} })
		r.user(t, "alice")
		b := r.browser(home)
		b.login(t, "web", "alice").is(t, 200)
		sessions := len(r.events(t, audit.SessionCreated))
		for _, from := range []string{"", "null", "https://evil.example", sibling, home + ".evil.example", "http://app.example.com", home + ":8443", issuer, strings.ToUpper(home)} {
			for _, c := range []struct{ method, path, body string }{
				{"POST", "/session", `{"client_id": "web", "username": "alice", "password": "` + password + `"}`},
				{"POST", "/session/refresh", ""}, {"DELETE", "/session", ""}, {"GET", "/session", ""},
			} {
				if from == "" && c.method == "GET" {
					continue // a page of the server's own origin, which browsers name in no Origin
				}
				a := b.tab(from).call(t, c.method, c.path, c.body).want(t, 403, "access_denied")
				if len(a.header.Values("Set-Cookie")) > 0 || a.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%q: %s %s: %v", from, c.method, c.path, a.header)
				}
			}
		}
		if got := len(r.events(t, audit.SessionCreated)); got != sessions {
			t.Errorf("%d sessions began", got-sessions)
		}
		r.alive(t, "nothing happened to the session", r.app(t, "api", func(c *clients.Client) { c.ResourceServer = true }), b.cookies["signet_at"].Value)
		r.refresh(t, web, b.cookies["signet_rt"].Value).issued(t)
	})
}

// What other sites make a browser send comes without these cookies. It must not clear them.
func TestSessionClearedFromElsewhere(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp)
		for _, c := range []struct{ method, path string }{{"POST", "/session/refresh"}, {"DELETE", "/session"}} {
			for _, from := range []string{"", "null", "https://evil.example"} {
				if a := r.browser(from).call(t, c.method, c.path, "").want(t, 403, "access_denied"); len(a.header.Values("Set-Cookie")) > 0 {
					t.Errorf("%s %s from %q: %v", c.method, c.path, from, a.header)
				}
			}
		}
	})
}

// A login that gives no refresh token leaves none of a login before, and log-out ends the session of the access token where the
// refresh token tells of none.
func TestSessionOfAnotherClient(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		short := r.app(t, "short", webApp, grants(clients.Password))
		r.app(t, "web", webApp)
		r.user(t, "alice")
		b := r.browser(home)
		b.login(t, "web", "alice").is(t, 200)
		b.login(t, "short", "alice").is(t, 200)
		if _, left := b.cookies["signet_rt"]; left {
			t.Error("the refresh token of the other client is left")
		}
		token := b.cookies["signet_at"].Value
		b.cookies["signet_rt"] = &http.Cookie{Name: "signet_rt", Value: "garbled", Path: "/session"}
		b.call(t, "DELETE", "/session", "").is(t, 204)
		r.dead(t, "after the log-out", r.app(t, "api", func(c *clients.Client) { c.ResourceServer = true }), token)
		if e := r.events(t, audit.SessionRevoked); len(e) != 1 || e[0].ClientID != short.ID {
			t.Errorf("the record: %v", e)
		}

		// Nor does a client refresh that may not any more.
		b = r.browser(home)
		b.login(t, "web", "alice").is(t, 200)
		c, err := r.clients.Get(t.Context(), "web")
		check(t, err)
		c.Grants = []clients.Grant{clients.Password}
		_, err = r.clients.Update(t.Context(), c, origin)
		check(t, err)
		b.call(t, "POST", "/session/refresh", "").want(t, 400, "unauthorized_client")
	})
}

// Browsers ask before they let a script call another origin with its cookies.
func TestSessionCORS(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp)
		off := r.app(t, "off", webApp, func(c *clients.Client) { c.BrowserOrigins = []string{"https://off.example.com"} })
		_, err := r.clients.SetDisabled(t.Context(), off.ID, true, origin)
		check(t, err)
		preflight := func(path, from, method string) answer {
			t.Helper()
			return r.browser(from).call(t, "OPTIONS", path, "", header("Access-Control-Request-Method", method), header("Access-Control-Request-Headers", "content-type"))
		}
		for _, path := range []string{"/session", "/session/refresh", "/account", "/account/sessions/" + uuid.NewString()} {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				a := preflight(path, home, method)
				if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != home || a.header.Get("Access-Control-Allow-Credentials") != "true" ||
					a.header.Get("Access-Control-Allow-Methods") != method || !strings.Contains(a.header.Get("Vary"), "Origin") {
					t.Errorf("%s %s: %d %v", method, path, a.status, a.header)
				}
			}
			for _, from := range []string{"https://evil.example", "null", "https://off.example.com", "*", "https://" + strings.Repeat("a", 5000)} {
				if a := preflight(path, from, "POST"); a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s from %.40s: %v", path, from, a.header)
				}
			}
		}
		for asked, want := range map[string]string{"Content-Type": home, "X-Request-Id, Authorization": home, "x-other": "", "": home} {
			a := r.browser(home).call(t, "OPTIONS", "/session", "", header("Access-Control-Request-Method", "POST"), header("Access-Control-Request-Headers", asked))
			if a.header.Get("Access-Control-Allow-Origin") != want {
				t.Errorf("asked for the header %q: %v", asked, a.header)
			}
		}
		for _, path := range []string{"/token", "/introspect", "/admin/keys", "/console/"} {
			if a := preflight(path, home, "POST"); a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %v", path, a.header)
			}
		}
		a := r.browser(home).call(t, "GET", "/session", "").want(t, 401, "invalid_token")
		if a.header.Get("Access-Control-Allow-Origin") != home || a.header.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("an answer: %v", a.header)
		}
	})
}

// Tabs that refresh at once all end with the same live cookies, whichever answer comes last.
func TestSessionTabs(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp)
		r.user(t, "alice")
		b := r.browser(home)
		b.login(t, "web", "alice").is(t, 200)
		for range 5 {
			const tabs = 8
			answers := make([]answer, tabs)
			var refreshing sync.WaitGroup
			for i := range tabs {
				req := b.prepare(t, "POST", "/session/refresh", "")
				refreshing.Go(func() {
					var err error
					if answers[i], err = r.try(req); err != nil {
						t.Error(err)
					}
				})
			}
			refreshing.Wait()
			token := ""
			for _, a := range answers {
				b.keep(a.is(t, 200))
				if now := b.cookies["signet_rt"].Value; token != "" && token != now {
					t.Error("two tabs hold different refresh tokens")
				} else {
					token = now
				}
				b.call(t, "GET", "/session", "").is(t, 200)
			}
		}
		if reused := r.events(t, audit.RefreshTokenReused); len(reused) > 0 {
			t.Errorf("theft was seen: %v", reused)
		}
	})
}

// The cookies of a session that ended in whatever way are cleared, and a thief ends the session of the owner.
func TestBrowserSessionEnds(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		for name, end := range map[string]func(clientID string, u users.User){
			"logged out everywhere": func(_ string, u users.User) { check(t, r.users.EndSessions(t.Context(), u.ID, origin)) },
			"user disabled": func(_ string, u users.User) {
				_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
				check(t, err)
			},
			"client disabled": func(id string, _ users.User) {
				_, err := r.clients.SetDisabled(t.Context(), id, true, origin)
				check(t, err)
			},
			"client deleted": func(id string, _ users.User) { check(t, r.clients.Delete(t.Context(), id, origin)) },
			"user deleted":   func(_ string, u users.User) { check(t, r.users.Delete(t.Context(), u.ID, origin)) },
		} {
			id := strings.ReplaceAll(name, " ", "-")
			r.app(t, id, webApp)
			u := r.user(t, name)
			b := r.browser(home)
			b.login(t, id, name).is(t, 200)
			end(id, u)
			b.call(t, "GET", "/session", "", func(req *http.Request) { req.Header.Del("Origin") }).want(t, 401, "invalid_token")
			if b.call(t, "POST", "/session/refresh", "").want(t, 401, "invalid_grant"); len(b.cookies) > 0 {
				t.Errorf("%s: cookies are left: %v", name, b.cookies)
			}
		}
		r.app(t, "web", webApp)
		r.user(t, "alice")
		b := r.browser(home)
		b.login(t, "web", "alice").is(t, 200)
		thief := b.tab(home)
		b.call(t, "POST", "/session/refresh", "").is(t, 200)
		b.call(t, "POST", "/session/refresh", "").is(t, 200)
		thief.call(t, "POST", "/session/refresh", "").want(t, 401, "invalid_grant")
		b.call(t, "POST", "/session/refresh", "").want(t, 401, "invalid_grant")
		for _, garbled := range []string{"", "x", "sgr_x", strings.Repeat("a", 5000)} {
			b := r.browser(home)
			b.cookies["signet_rt"] = &http.Cookie{Name: "signet_rt", Value: garbled, Path: "/session"}
			b.cookies["signet_at"] = &http.Cookie{Name: "signet_at", Value: garbled, Path: "/"}
			b.tab(home).call(t, "GET", "/session", "").want(t, 401, "invalid_token")
			b.tab(home).call(t, "DELETE", "/session", "").is(t, 204)
			b.call(t, "POST", "/session/refresh", "").want(t, 401, "invalid_grant")
		}
	})
}

// Where the issuer is http on loopback, for development, cookies are not Secure; the domain is the configured one.
func TestSessionCookiesInDevelopment(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp)
		r.user(t, "alice")
		a := r.browser(home).login(t, "web", "alice").is(t, 200)
		for i, want := range []string{"; Path=/; Domain=example.localhost; Max-Age=900; HttpOnly; SameSite=Lax", "; Path=/session; Max-Age=3600; HttpOnly; SameSite=Strict"} {
			if got := a.header.Values("Set-Cookie")[i]; !strings.HasSuffix(got, want) {
				t.Errorf("%s does not end in %s", got, want)
			}
		}
	}, func(s *settings) {
		s.issuer, s.cookieDomain, s.sessionTTL = "http://auth.example.localhost:8080", "example.localhost", time.Hour
	})
}

// A database that is gone logs nobody out.
func TestSessionWithoutADatabase(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp)
		r.user(t, "alice")
		b := r.browser(home)
		b.login(t, "web", "alice").is(t, 200)
		r.closeStore()
		for _, c := range []struct{ method, path string }{{"POST", "/session/refresh"}, {"DELETE", "/session"}, {"GET", "/session"}} {
			b.call(t, c.method, c.path, "").want(t, 503, "temporarily_unavailable")
		}
		if len(b.cookies) != 2 {
			t.Errorf("cookies are left: %v", b.cookies)
		}
	})
}

// A login by cookie is throttled like any other.
func TestSessionLoginIsThrottled(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.app(t, "web", webApp)
		r.user(t, "alice")
		b := r.browser(home)
		for _, guess := range []string{"one", "two", "three"} {
			b.call(t, "POST", "/session", `{"client_id": "web", "username": "alice", "password": "`+guess+`"}`).want(t, 400, "invalid_grant")
		}
		if a := b.login(t, "web", "alice").want(t, 429, "temporarily_unavailable"); a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}, func(s *settings) { s.maxFailures = 3 })
}

package console_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet/activity"
	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/proofs"
	"signet/tokens"
	"signet/users"
)

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// assets finds the addresses of static files in a page.
var assets = regexp.MustCompile(`(?:src|href)="/console(/static/[^"]+)"`)

func TestHeaders(t *testing.T) {
	s := embedded(t)
	w, _ := s.admin(t, "admin")
	for path, status := range map[string]int{
		"/": 200, "/login?why=out": 200, "/clients": 200, "/nothing": 404, "/static/x/nothing": 404, "/client?id=nobody": 404, "/audit/follow": 200,
	} {
		a := w.get(t, path).want(t, status)
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
			"X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script>|https?://[^"]*\.(js|css)`).MatchString(a.text) {
			t.Errorf("%s holds what the policy forbids:\n%s", path, a.text)
		}
	}
	found := assets.FindAllStringSubmatch(w.get(t, "/").text, -1)
	if len(found) < 7 {
		t.Errorf("only %d static files on the overview", len(found))
	}
	for _, m := range found {
		a := w.get(t, m[1]).want(t, 200)
		if got := a.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" || a.Header.Get("Pragma") != "" || a.text == "" {
			t.Errorf("%s: Cache-Control: %s, %d bytes", m[1], got, len(a.text))
		}
		other := regexp.MustCompile(`^/static/[^/]+/`).ReplaceAllString(m[1], "/static/another/")
		if a := w.get(t, other).want(t, 200); a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s of another version may be kept: %s", m[1], a.Header.Get("Cache-Control"))
		}
	}
	w.get(t, "/static/x/vendor/README.md").want(t, 404)
	if a := w.get(t, "").want(t, http.StatusMovedPermanently); a.Header.Get("Location") != "/console/" {
		t.Errorf("/console leads to %q", a.Header.Get("Location"))
	}
}

func TestCookie(t *testing.T) {
	for name, c := range map[string]struct {
		issuer, path string
		secure       bool
	}{
		"http":  {"http://localhost:8080", "/console", false},
		"https": {"https://auth.example.com", "/console", true},
		"path":  {"https://example.com/auth", "/auth/console", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := embedded(t, func(set *settings) { set.issuer = c.issuer })
			s.user(t, "admin", true)
			a := s.surfer(t).logIn(t, "admin").want(t, http.StatusSeeOther)
			if got := a.Header.Get("Location"); got != c.path+"/" {
				t.Errorf("the login leads to %q", got)
			}
			got := a.cookie()
			if got == nil || !got.HttpOnly || got.Secure != c.secure || got.SameSite != http.SameSiteLaxMode || got.Path != c.path ||
				got.Domain != "" || got.MaxAge != 0 || !got.Expires.IsZero() || len(got.Value) > 3500 {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestLogIn(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w := s.surfer(t)
		w.get(t, "/").leads(t, "/login")
		w.get(t, "/clients?q=shop").leads(t, "/login?next=%2Fclients%3Fq%3Dshop")
		w.post(t, "/keys/rotate").leads(t, "/login?why=post")
		w.get(t, "/login?why=post&next=%2Fkeys").want(t, 200, "nothing was changed", "/console/login/start?next=%2Fkeys")

		s.user(t, "alice", false)
		admin := s.user(t, "admin", true)
		if a := w.logInAs(t, "admin", "wrong", ""); a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.text, "Signet console") {
			t.Errorf("a wrong password: %d %s", a.StatusCode, a.text)
		}
		w.logIn(t, "alice").leads(t, "/login?next=%2F&why=admin")
		w.get(t, "/login?why=admin").want(t, 200, "not an admin", "Log in as somebody else", "again=1")
		if n := len(s.events(t, audit.SessionCreated)); n != 0 {
			t.Errorf("%d sessions", n)
		}

		w.logInAs(t, "admin", password, "?why=").leads(t, "/login?next=%2F&why=admin") // still alice, in this browser
		start := w.along(t, w.get(t, "/login/start?again=1&next=%2Fclients%3Fq%3Dshop"))
		form := start.form(t, "/login")
		form.Set("username", "Admin")
		form.Set("password", password)
		w.along(t, w.visit(t, http.MethodPost, s.issuer+"/login", form)).leads(t, "/clients?q=shop")
		w.get(t, "/").want(t, 200, "Overview", "Logged in as", "Register a client")
		sessions, err := s.tokens.Sessions(t.Context(), tokens.Filter{Limit: 10})
		check(t, err)
		if len(sessions) != 1 || sessions[0].ClientID != "signet-console" || sessions[0].UserID != admin.ID || sessions[0].Scope != "openid signet:admin" {
			t.Fatalf("sessions: %+v", sessions)
		}
		if left := time.Until(sessions[0].ExpiresAt); left > 12*time.Hour+time.Minute || left < 11*time.Hour {
			t.Errorf("the session ends in %s", left)
		}
		c, err := s.clients.Get(t.Context(), "signet-console")
		check(t, err)
		if !c.Public() || !slices.Equal(c.Grants, []clients.Grant{clients.AuthorizationCode}) || c.Name != "Signet console" {
			t.Errorf("the console's client is %+v", c)
		}

		w.post(t, "/logout").leads(t, "/login?why=out")
		w.get(t, "/login?why=out").want(t, 200, "You are logged out", "Log in")
		if sessions, err := s.tokens.Sessions(t.Context(), tokens.Filter{Limit: 10}); err != nil || len(sessions) != 0 {
			t.Errorf("after the log-out: %v, %v", sessions, err)
		}
		w.get(t, "/").leads(t, "/login")
		if a := w.along(t, w.get(t, "/login")); !strings.Contains(a.text, `name="password"`) {
			t.Error("the browser is logged in still")
		}
	})
}

// Who is logged in to Signet need not log in again for the console; where that login ends, so does the session of the console.
func TestSingleSignOn(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		other := &surfer{s, &http.Client{Jar: w.http.Jar, Transport: w.http.Transport, CheckRedirect: w.http.CheckRedirect}}
		w.get(t, "/").want(t, 200)
		other.along(t, other.get(t, "/login?next=/keys")).leads(t, "/keys")
		question := w.visit(t, http.MethodGet, s.issuer+"/logout", nil)
		form := question.form(t, "/logout")
		form.Set("decision", "logout")
		w.visit(t, http.MethodPost, s.issuer+"/logout", form).want(t, 200)
		w.get(t, "/").leads(t, "/login?why=ended")
	})
}

// The answer to the authorization request is that of this browser, of its last request, and of this server; and it is good once.
func TestCallback(t *testing.T) {
	s := embedded(t)
	s.user(t, "admin", true)
	w := s.surfer(t)
	page := w.along(t, w.get(t, "/login"))
	form := page.form(t, "/login")
	form.Set("username", "admin")
	form.Set("password", password)
	sent := w.visit(t, http.MethodPost, s.issuer+"/login", form)
	callback, err := url.Parse(sent.Header.Get("Location"))
	check(t, err)
	change := func(name, value string) string {
		q := callback.Query()
		q.Set(name, value)
		return strings.TrimPrefix(callback.Path, "/console") + "?" + q.Encode()
	}
	s.surfer(t).get(t, change("x", "y")).leads(t, "/login?why=stale") // another browser's
	for name, value := range map[string]string{"state": "another", "iss": "https://evil.example"} {
		cookies := w.http.Jar.Cookies(callback)
		w.get(t, change(name, value)).leads(t, "/login?why=stale")
		w.http.Jar.SetCookies(callback, cookies)
	}
	w.get(t, change("x", "y")).leads(t, "/")
	if a := w.get(t, change("x", "y")); a.cookie() != nil {
		t.Error("it is good twice")
	}
	w.along(t, w.get(t, "/login/start"))
	state := w.http.Jar.Cookies(callback)
	for _, c := range state {
		if c.Name == "signet_console_login" {
			answer := url.Values{"error": {"access_denied"}, "state": {strings.Split(c.Value, ".")[0]}, "iss": {s.issuer}}
			w.get(t, "/login/callback?"+answer.Encode()).leads(t, "/login?next=%2F&why=denied")
		}
	}
}

// Whatever became of the console's client, it is put right at the next login; but who disables it turns the console off.
func TestOwnClient(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		c, err := s.clients.Get(t.Context(), "signet-console")
		check(t, err)
		c.RedirectURIs, c.Scope, c.Grants, c.SkipConsent, c.Name = []string{"https://evil.example/cb"}, clients.Scope{"read"}, []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}, false, "Our console"
		_, err = s.clients.Update(t.Context(), c, audit.Origin{})
		check(t, err)
		w.along(t, w.get(t, "/login")).leads(t, "/")
		if c, err = s.clients.Get(t.Context(), "signet-console"); err != nil || !slices.Equal(c.RedirectURIs, []string{s.issuer + "/console/login/callback"}) || !c.SkipConsent || c.Name != "Our console" {
			t.Errorf("%+v, %v", c, err)
		}
		check(t, s.clients.Delete(t.Context(), c.ID, audit.Origin{}))
		w.get(t, "/").leads(t, "/login?why=ended")
		w.along(t, w.get(t, "/login")).leads(t, "/")
		_, err = s.clients.SetDisabled(t.Context(), c.ID, true, audit.Origin{})
		check(t, err)
		w.along(t, w.get(t, "/login")).want(t, http.StatusForbidden, "turned off", "signet client enable signet-console")
	})
}

func TestNextStaysHere(t *testing.T) {
	s := embedded(t)
	s.user(t, "admin", true)
	for _, next := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "evil", "@evil.example", "/\tx", "javascript:alert(1)"} {
		s.surfer(t).logInAs(t, "admin", password, "?next="+url.QueryEscape(next)).leads(t, "/")
	}
}

// Whoever does something stays logged in; a page that only asks for news by itself does not keep its reader logged in.
func TestIdle(t *testing.T) {
	s := embedded(t, func(set *settings) { set.accessTTL = 3 * time.Second })
	w, _ := s.admin(t, "admin")
	until := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("no new cookie came", func() bool { return w.get(t, "/keys").want(t, 200).cookie() != nil })
	var a answer
	until("the session does not end", func() bool {
		a = w.get(t, "/audit/follow?seen=none", "Hx-Request", "true", "Hx-Current-Url", s.url+"/console/audit?type=key.created")
		if c := a.cookie(); c != nil && c.Value != "" {
			t.Fatal("asking for news renewed the session")
		}
		return a.Header.Get("Hx-Redirect") != ""
	})
	if got := a.Header.Get("Hx-Redirect"); got != "/console/login?next=%2Faudit%3Ftype%3Dkey.created&why=idle" {
		t.Errorf("sent to %s", got)
	}
	w.get(t, "/login?why=idle").want(t, 200, "after being idle", "again=1")
}

func TestTurnedAway(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		_, admin := s.admin(t, "admin")
		alice := s.user(t, "alice", false)
		c := s.app(t, "api", func(c *clients.Client) { c.Scope = clients.Scope{"read", clients.ScopeAdmin} })
		own, err := s.clients.Get(t.Context(), "signet-console")
		check(t, err)
		start := func(c clients.Client, u users.User, audience, scope string) string {
			issued, err := s.tokens.StartSession(t.Context(), &c, u, clients.Scope{scope}, []string{audience}, proofs.Key{}, origin)
			check(t, err)
			return issued.AccessToken
		}
		good := start(own, admin, s.tokens.Issuer(), clients.ScopeAdmin)
		for what, token := range map[string]string{
			"garbage":         "garbage",
			"another client":  start(c, admin, s.tokens.Issuer(), clients.ScopeAdmin),
			"other audience":  start(own, admin, "https://api.example.com", clients.ScopeAdmin),
			"another scope":   start(own, admin, s.tokens.Issuer(), "read"),
			"no admin":        start(own, alice, s.tokens.Issuer(), clients.ScopeAdmin),
			"tampered":        good[:len(good)-4] + "AAAA",
			"empty":           "",
			"without session": clientToken(t, s, c),
		} {
			for _, path := range []string{"/", "/clients", "/audit/follow"} {
				a := s.surfer(t).get(t, path, "Cookie", "signet_console="+token)
				if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), "/console/login") {
					t.Errorf("%s: %s: got %d %s", what, path, a.StatusCode, a.text)
				}
			}
		}
		s.surfer(t).get(t, "/", "Cookie", "signet_console="+good).want(t, 200)
	})
}

func clientToken(t testing.TB, s *site, c clients.Client) string {
	t.Helper()
	issued, err := s.tokens.ClientToken(t.Context(), &c, clients.Scope{clients.ScopeAdmin}, []string{s.tokens.Issuer()}, proofs.Key{})
	check(t, err)
	return issued.AccessToken
}

// What takes somebody's rights away takes them away at the next request.
func TestRightsEndAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		why string
		do  func(t *testing.T, s *site, u users.User) error
	}{
		"demoted": {"admin", func(t *testing.T, s *site, u users.User) error {
			_, err := s.users.Update(t.Context(), u.ID, users.Change{Admin: new(false)}, origin)
			return err
		}},
		"disabled": {"ended", func(t *testing.T, s *site, u users.User) error {
			_, err := s.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
			return err
		}},
		"new password": {"ended", func(t *testing.T, s *site, u users.User) error {
			_, err := s.users.Update(t.Context(), u.ID, users.Change{Password: new("another password")}, origin)
			return err
		}},
		"deleted":       {"ended", func(t *testing.T, s *site, u users.User) error { return s.users.Delete(t.Context(), u.ID, origin) }},
		"session ended": {"ended", func(t *testing.T, s *site, _ users.User) error { return endAll(t, s) }},
		"console off": {"ended", func(t *testing.T, s *site, _ users.User) error {
			_, err := s.clients.SetDisabled(t.Context(), "signet-console", true, origin)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *site) {
				w, u := s.admin(t, "admin")
				w.get(t, "/keys").want(t, 200)
				check(t, c.do(t, s, u))
				if a := w.get(t, "/keys").leads(t, "/login?next=%2Fkeys&why="+c.why); a.cookie() == nil || a.cookie().MaxAge >= 0 {
					t.Errorf("the cookie is not deleted: %v", a.Cookies())
				}
				if name == "console off" {
					w.logIn(t, "admin").want(t, http.StatusForbidden, "turned off", "signet client enable signet-console")
				}
			})
		})
	}
}

func endAll(t *testing.T, s *site) error {
	t.Helper()
	sessions, err := s.tokens.Sessions(t.Context(), tokens.Filter{Limit: 10})
	for _, session := range sessions {
		check(t, s.tokens.EndSession(t.Context(), session.ID, origin))
	}
	return err
}

func TestOtherSitesAreRefused(t *testing.T) {
	s := embedded(t)
	w, u := s.admin(t, "admin")
	s.app(t, "shop")
	form := url.Values{"id": {"shop"}, "username": {"admin"}, "password": {password}}
	for what, headers := range map[string][]string{
		"cross-site": {"Sec-Fetch-Site", "cross-site"}, "same-site": {"Sec-Fetch-Site", "same-site"},
		"origin": {"Origin", "https://evil.example"}, "null": {"Origin", "null"},
	} {
		for _, path := range []string{"/client/delete", "/client/disable", "/logout", "/user/password"} {
			a := w.do(t, http.MethodPost, path, form, headers...).want(t, http.StatusForbidden, "another site", "<h1>Refused</h1>")
			if len(a.Cookies()) > 0 {
				t.Errorf("%s: %s set %v", what, path, a.Cookies())
			}
		}
	}
	c, err := s.clients.Get(t.Context(), "shop")
	check(t, err)
	if c.Disabled {
		t.Error("the client was disabled")
	}
	w.do(t, http.MethodPost, "/user/admin", url.Values{"id": {u.ID}}, "Sec-Fetch-Site", "same-origin", "Origin", s.url).want(t, http.StatusSeeOther)
	w.do(t, http.MethodPost, "/users", url.Values{"password": {strings.Repeat("x", 2<<20)}}).want(t, http.StatusRequestEntityTooLarge, "Too large")
}

// What others chose is text, wherever it is shown.
func TestNothingIsMarkup(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>'`
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		u := s.user(t, "mallory"+evil, true)
		c := s.app(t, `a"><svg/onload=alert(3)>/../?x=1&y=%2e#z'`, func(c *clients.Client) { c.Name = "Shop" + evil })
		s.session(t, c, u, "agent"+evil)
		if _, err := s.clients.SetDisabled(t.Context(), c.ID, false, audit.Origin{Actor: "actor" + evil, Address: "address" + evil, RequestID: "request" + evil}); err != nil {
			t.Fatal(err)
		}
		m := s.surfer(t)
		m.logIn(t, "mallory"+evil).leads(t, "/")
		id := url.QueryEscape(c.ID)
		for _, path := range []string{
			"/clients", "/client?id=" + id, "/client/delete?id=" + id, "/users", "/user?id=" + u.ID, "/user/delete?id=" + u.ID, "/sessions",
			"/sessions?user=" + url.QueryEscape(evil) + "&client=" + id, "/audit", "/audit?user=" + url.QueryEscape(evil), "/clients?q=" + url.QueryEscape(evil),
			"/users?q=" + url.QueryEscape(evil), "/?range=" + url.QueryEscape(evil), "/keys?done=" + url.QueryEscape(evil), "/audit/follow",
			"/login?why=out&next=" + url.QueryEscape("/"+evil), "/clients/new?kind=" + url.QueryEscape(evil),
		} {
			a := m.get(t, path).want(t, 200)
			if strings.Contains(a.text, "<script>alert") || strings.Contains(a.text, "<img src=x") || strings.Contains(a.text, "<svg/") {
				t.Errorf("%s: %s", path, a.text)
			}
		}
		w.get(t, "/clients").want(t, 200, html.EscapeString("Shop"+evil), html.EscapeString("/console/client?id="+id))
		w.get(t, "/client?id="+id).want(t, 200, html.EscapeString(c.ID))
		w.get(t, "/sessions").want(t, 200, html.EscapeString("agent"+evil))
		w.post(t, "/client/secret", "id", c.ID, "overlap", "0", "version", fmt.Sprint(version(t, s, c.ID))).want(t, 200, "sgs_", html.EscapeString("curl -u '"+id+":sgs_"))
	})
}

func version(t testing.TB, s *site, id string) int64 {
	t.Helper()
	c, err := s.clients.Get(t.Context(), id)
	check(t, err)
	return c.Version
}

var secretIn = regexp.MustCompile(`sgs_[A-Za-z0-9_-]{43}`)

func TestClients(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, admin := s.admin(t, "admin")
		w.get(t, "/clients").want(t, 200, "No app is registered yet")
		w.get(t, "/clients/new").want(t, 200, "Web app", "Single-page app", "Native app", "Machine", "Resource server", "its own login form", "High-security app")

		// What each kind begins with.
		spare := regexp.MustCompile(`name="spare" value="([^"]+)"`)
		checked := regexp.MustCompile(`value="([a-z_]+)" checked`)
		for kind, want := range map[string]string{
			"web": "[authorization_code refresh_token]", "spa": "[authorization_code refresh_token]", "native": "[authorization_code refresh_token]",
			"machine": "[client_credentials]", "api": "[yes]", "form": "[password refresh_token]",
			"fapi": "[authorization_code refresh_token]",
		} {
			form := w.get(t, "/clients/new?kind="+kind).want(t, 200).text
			var got []string
			for _, m := range checked.FindAllStringSubmatch(form, -1) {
				got = append(got, m[1])
			}
			method, signature := "client_secret_basic", "RS256"
			if kind == "spa" || kind == "native" {
				method = "none"
			}
			if kind == "fapi" {
				method, signature = "private_key_jwt", "ES256"
			}
			logsIn := strings.Contains(want, "authorization_code")
			if strings.Contains(form, `id="redirect_uris"`) != logsIn || strings.Contains(form, `value="openid profile email offline_access"`) != logsIn ||
				strings.Contains(form, `value="native" selected`) != (kind == "native") || strings.Contains(form, `value="`+signature+`" selected`) != logsIn {
				t.Errorf("the form of %s is not for it: %s", kind, form)
			}
			if fmt.Sprint(got) != want || !strings.Contains(form, `value="`+method+`" selected`) {
				t.Errorf("%s begins with %v", kind, got)
			}
		}

		// What is wrong is said beside its field, and what was entered stays.
		for field, c := range map[string]struct {
			pairs   []string
			problem string
		}{
			"client_name":                {[]string{"client_name", " "}, "Name: must be given"},
			"client_id":                  {[]string{"client_id", "a b"}, "Id: must be 1 to 255"},
			"scope":                      {[]string{"scope", `a"b`}, "Scope: must be scope tokens"},
			"audience":                   {[]string{"audience", "https://a.example\nnot-a-uri"}, "Audience: &#34;not-a-uri&#34; must be an absolute URI"},
			"redirect_uris":              {[]string{"redirect_uris", "javascript:alert(1)"}, "Redirect URIs:"},
			"browser_origins":            {[]string{"browser_origins", "http://evil.example"}, "Browser origins:"},
			"grant_types":                {[]string{"grant_types", "magic"}, "Grants: &#34;magic&#34; is unknown"},
			"token_endpoint_auth_method": {[]string{"token_endpoint_auth_method", "magic"}, "Authentication: &#34;magic&#34; is unknown"},
			"application_type":           {[]string{"application_type", "magic"}, "Where it runs: &#34;magic&#34; is unknown"},
			"require_pkce":               {[]string{"application_type", "web", "optional_pkce", "yes", "token_endpoint_auth_method", "none"}, "PKCE: must be true"},
			"post_logout_redirect_uris":  {[]string{"application_type", "web", "post_logout_redirect_uris", "/bye"}, "Addresses after logging out: &#34;/bye&#34;"},
			"logo_uri":                   {[]string{"application_type", "web", "logo_uri", "javascript:x"}, "Logo: &#34;javascript:x&#34;"},
			"backchannel_logout_uri":     {[]string{"application_type", "web", "backchannel_logout_uri", "http://127.0.0.1/"}, "Back-channel logout:"},
			"default_max_age":            {[]string{"application_type", "web", "default_max_age", "soon"}, "Oldest login: must be a duration"},
			"session_ttl":                {[]string{"session_ttl", "soon"}, "Sessions: must be a duration"},
		} {
			pairs := append([]string{"kind", "web", "client_name", "Kept", "scope", "kept"}, "token_endpoint_auth_method", "client_secret_basic", "redirect_uris", "https://kept.example.com/cb",
				"grant_types", "authorization_code", "id_token_signed_response_alg", "RS256")
			form := url.Values{}
			for i := 0; i < len(pairs); i += 2 {
				form.Set(pairs[i], pairs[i+1])
			}
			for i := 0; i < len(c.pairs); i += 2 {
				form.Set(c.pairs[i], c.pairs[i+1])
			}
			a := w.do(t, http.MethodPost, "/clients", form).want(t, http.StatusUnprocessableEntity, c.problem, `role="alert"`, `href="#`+field+`"`, `id="`+field+`-error"`, `aria-invalid="true"`)
			if field != "client_name" && !strings.Contains(a.text, `value="Kept"`) || field != "scope" && !strings.Contains(a.text, `value="kept"`) {
				t.Errorf("%s: what was entered is lost: %s", field, a.text)
			}
		}

		// A machine, and its secret, shown once.
		form := w.get(t, "/clients/new?kind=machine").text
		register := []string{
			"kind", "machine", "spare", spare.FindStringSubmatch(form)[1], "client_name", "Nightly", "scope", " read   write ",
			"grant_types", "client_credentials", "token_endpoint_auth_method", "client_secret_basic", "audience", "https://a.example\r\nhttps://b.example\r\n",
		}
		a := w.post(t, "/clients", register...).want(t, 200, "The client is registered.", "grant_type=client_credentials", `data-back="/console/client?id=`)
		secret, id := secretIn.FindString(a.text), spare.FindStringSubmatch(form)[1]
		c, err := s.clients.Get(t.Context(), id)
		check(t, err)
		if c.Name != "Nightly" || c.Scope.String() != "read write" || fmt.Sprint(c.Audience) != "[https://a.example https://b.example]" {
			t.Errorf("registered %+v", c)
		}
		if _, err := s.clients.Authenticate(t.Context(), id, secret); err != nil {
			t.Errorf("the secret is not good: %v", err)
		}
		if e := s.events(t, audit.ClientCreated); e[0].Actor != admin.ID || e[0].ClientID != id || e[0].RequestID == "" {
			t.Errorf("recorded %+v", e[0])
		}
		w.post(t, "/clients", register...).want(t, http.StatusUnprocessableEntity, "exists already") // the form sent again
		if a := w.get(t, "/client?id="+id).want(t, 200, "Nightly", "Machine"); secretIn.MatchString(a.text) {
			t.Error("the secret is shown again")
		}

		// Editing, also when somebody else does.
		edit := []string{"client_id", id, "client_name", "Nightly 2", "grant_types", "client_credentials", "token_endpoint_auth_method", "client_secret_basic"}
		v := fmt.Sprint(version(t, s, id))
		w.post(t, "/client", append(edit, "version", v)...).leads(t, "/client?done=client-saved&id="+id)
		w.get(t, "/client?done=client-saved&id="+id).want(t, 200, "The client is saved.", "Nightly 2")
		w.post(t, "/client", append(edit, "version", v)...).want(t, http.StatusUnprocessableEntity, "Somebody else changed this client")
		w.post(t, "/client", append(edit, "version", fmt.Sprint(version(t, s, id)), "audience", "x")...).want(t, http.StatusUnprocessableEntity, "Audience:", "Nightly 2")

		// A new secret beside the old one.
		v = fmt.Sprint(version(t, s, id))
		rotated := secretIn.FindString(w.post(t, "/client/secret", "id", id, "overlap", "1h", "version", v).want(t, 200, "The old secret stays good for 1h").text)
		for _, secret := range []string{secret, rotated} {
			if _, err := s.clients.Authenticate(t.Context(), id, secret); err != nil {
				t.Errorf("in the overlap %v", err)
			}
		}
		w.post(t, "/client/secret", "id", id, "overlap", "1h", "version", v).want(t, http.StatusConflict, "nothing was done")
		w.post(t, "/client/secret", "id", id, "overlap", "9y", "version", v).want(t, http.StatusConflict, "Choose for how long")
		w.post(t, "/client/secret", "id", "signet-console", "overlap", "0").want(t, http.StatusConflict, "public")
		w.post(t, "/client/secret", "id", "nobody", "overlap", "0").want(t, http.StatusNotFound)

		w.get(t, "/client/disable?id="+id).want(t, 200, "Disable “Nightly 2”?")
		w.post(t, "/client/disable", "id", id).leads(t, "/client?done=client-disabled&id="+id)
		w.get(t, "/client?id="+id).want(t, 200, "disabled", "Enable")
		edit[3] = "Nightly 3"
		w.post(t, "/client", append(edit, "version", fmt.Sprint(version(t, s, id)))...).want(t, http.StatusSeeOther)
		if c, err := s.clients.Get(t.Context(), id); err != nil || !c.Disabled {
			t.Errorf("editing enabled the client: %v", err)
		}
		w.post(t, "/client/enable", "id", id).leads(t, "/client?done=client-enabled&id="+id)
		w.get(t, "/client/delete?id="+id).want(t, 200, "cannot be undone")
		w.get(t, "/client/disable?id=signet-console").want(t, 200, "logged out of it")
		w.post(t, "/client/delete", "id", id).leads(t, "/clients?done=client-deleted")
		w.get(t, "/client?id="+id).want(t, http.StatusNotFound)
		for _, path := range []string{"/client/delete", "/client/disable", "/client/enable", "/client"} {
			w.post(t, path, "id", id, "client_id", id, "client_name", "x").want(t, http.StatusNotFound)
		}
	})
}

// A web app is registered and edited with all that the form has, and what the form has not stays.
func TestClientsThatLogUsersIn(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		sent := []string{
			"kind", "web", "client_id", "app", "client_name", "App", "scope", "openid read", "redirect_uris", "https://app.example.com/cb\r\nhttps://app.example.com/cb2",
			"grant_types", "authorization_code", "token_endpoint_auth_method", "client_secret_post", "application_type", "web", "optional_pkce", "yes", "skip_consent", "yes",
			"post_logout_redirect_uris", "https://app.example.com/bye", "backchannel_logout_uri", "https://app.example.com/logout", "backchannel_logout_session_required", "yes",
			"id_token_signed_response_alg", "ES256", "default_max_age", "12h", "require_auth_time", "yes", "client_uri", "https://app.example.com",
			"logo_uri", "https://app.example.com/logo.png", "policy_uri", "https://app.example.com/privacy", "tos_uri", "https://app.example.com/terms",
			"contacts", "Ann <ann@example.com>\r\n\r\nbob@example.com", "access_token_ttl", "5m", "refresh_token_ttl", "12h", "session_ttl", "30d",
		}
		w.post(t, "/clients", sent...).want(t, 200, "The client is registered.", "Issuer", s.url)
		got, err := s.clients.Get(t.Context(), "app")
		check(t, err)
		age := 12 * time.Hour
		want := got
		want.Scope, want.RedirectURIs, want.Grants = clients.Scope{"openid", "read"}, []string{"https://app.example.com/cb", "https://app.example.com/cb2"}, []clients.Grant{clients.AuthorizationCode}
		want.AuthMethod, want.ApplicationType, want.OptionalPKCE, want.SkipConsent, want.RequireAuthTime = clients.SecretPost, clients.Web, true, true, true
		want.PostLogoutRedirectURIs, want.BackchannelLogoutURI = []string{"https://app.example.com/bye"}, "https://app.example.com/logout"
		want.BackchannelLogoutSessionRequired, want.IDTokenAlg, want.DefaultMaxAge = true, keys.ES256, &age
		want.ClientURI, want.LogoURI, want.PolicyURI, want.TOSURI = "https://app.example.com", "https://app.example.com/logo.png", "https://app.example.com/privacy", "https://app.example.com/terms"
		want.Contacts, want.AccessTTL, want.RefreshTTL, want.SessionTTL = []string{"Ann <ann@example.com>", "bob@example.com"}, 5*time.Minute, age, 30*24*time.Hour
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("registered (-want +got):\n%s", diff)
		}

		// The form of the client, sent back as it is, changes nothing.
		form := w.get(t, "/client?id=app").want(t, 200, "Web app").form(t, "/console/client")
		w.do(t, http.MethodPost, "/client", form).leads(t, "/client?done=client-saved&id=app")
		want.Version++
		got, err = s.clients.Get(t.Context(), "app")
		check(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sent back (-want +got):\n%s", diff)
		}
		w.post(t, "/client", "client_id", "app", "client_name", "App 2", "grant_types", "authorization_code", "redirect_uris", "https://app.example.com/cb",
			"token_endpoint_auth_method", "client_secret_basic").want(t, http.StatusSeeOther) // such as that of a replica of the version before
		if got, err = s.clients.Get(t.Context(), "app"); err != nil || got.LogoURI == "" || got.Name != "App 2" {
			t.Errorf("%v: %+v", err, got)
		}

		for id, c := range map[string]struct {
			client clients.Client
			kind   string
		}{
			"cli-api":     {clients.Client{ResourceServer: true}, "Resource server"},
			"cli-machine": {clients.Client{Grants: []clients.Grant{clients.ClientCredentials}}, "Machine"},
			"machine-api": {clients.Client{Grants: []clients.Grant{clients.ClientCredentials}, ResourceServer: true}, "Resource server"},
			"cli-form":    {clients.Client{}, "App with its own login form"},
			"cli-web":     {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}}, "Web app"},
			"cli-spa":     {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}, AuthMethod: clients.None}, "Single-page app"},
			"cli-native":  {clients.Client{RedirectURIs: []string{"com.example.app:/cb"}, AuthMethod: clients.None, ApplicationType: clients.Native}, "Native app"},
		} {
			c.client.ID = id
			_, err := s.clients.Create(t.Context(), c.client, origin)
			check(t, err)
			w.get(t, "/client?id="+id).want(t, 200, "<dt>Kind</dt><dd>"+c.kind+"</dd>")
		}
	})
}

// publicKeys is a JWK Set of RFC 7517 appendix A.1.
const publicKeys = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}`

// sameJSON compares JSON by what it says: PostgreSQL writes it in its own way.
var sameJSON = cmp.Transformer("JSON", func(text json.RawMessage) (v any) {
	_ = json.Unmarshal(text, &v)
	return v
})

func TestClientsThatProveThemselvesByKeys(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		send := func(pairs ...string) answer {
			form := map[string]string{
				"kind": "fapi", "client_id": "bank", "client_name": "Bank", "scope": "openid", "redirect_uris": "https://bank.example.com/cb", "grant_types": "authorization_code",
				"token_endpoint_auth_method": "private_key_jwt", "application_type": "web", "id_token_signed_response_alg": "ES256", "profile": "fapi2",
				"jwks": publicKeys, "jwks_uri": "", "token_endpoint_auth_signing_alg": "ES256",
			}
			for i := 0; i < len(pairs); i += 2 {
				form[pairs[i]] = pairs[i+1]
			}
			var sent []string
			for name, value := range form {
				sent = append(sent, name, value)
			}
			return w.post(t, "/clients", sent...)
		}
		for _, c := range []struct {
			name, field, problem string
			pairs                []string
		}{
			{"no keys", "jwks", "Public keys: or jwks_uri is needed", []string{"jwks", ""}},
			{"both", "jwks", "Public keys: and jwks_uri are given both", []string{"jwks_uri", "https://bank.example.com/keys"}},
			{"no JSON", "jwks", "Public keys: must be a JWK Set", []string{"jwks", "-----BEGIN PUBLIC KEY-----"}},
			{"a key without its set", "jwks", "Public keys: must be a JWK Set", []string{"jwks", `{"kty":"EC"}`}},
			{"a private key", "jwks", "Public keys: key 1 is a private or a symmetric one", []string{"jwks", strings.Replace(publicKeys, `"kid"`, `"d":"AA","kid"`, 1)}},
			{"no address", "jwks_uri", "Address of its keys:", []string{"jwks", "", "jwks_uri", "javascript:alert(1)"}},
			{"an address in the clear", "jwks_uri", "must be https", []string{"jwks", "", "jwks_uri", "http://bank.example.com/keys"}},
			{"another profile", "profile", "Profile:", []string{"profile", "fapi9"}},
			{"an algorithm", "token_endpoint_auth_signing_alg", "Signature of assertions:", []string{"token_endpoint_auth_signing_alg", "HS256"}},
			{"one that FAPI does not have", "token_endpoint_auth_signing_alg", "Signature of assertions:", []string{"token_endpoint_auth_signing_alg", "RS256"}},
			{"FAPI with a secret", "token_endpoint_auth_method", "Authentication: must be private_key_jwt with the profile fapi2", []string{"token_endpoint_auth_method", "client_secret_basic"}},
			{"FAPI without PKCE", "require_pkce", "PKCE: must be true with the profile fapi2", []string{"optional_pkce", "yes"}},
			{"DPoP and cookies", "browser_origins", "Browser origins: cannot be with dpop_bound_access_tokens", []string{"profile", "", "dpop_bound_access_tokens", "yes", "browser_origins", "https://bank.example.com"}},
		} {
			send(c.pairs...).want(t, 422, `href="#`+c.field+`"`, `id="`+c.field+`-error"`, html.EscapeString(c.problem))
			if _, err := s.clients.Get(t.Context(), "bank"); !errors.Is(err, clients.ErrNotFound) {
				t.Fatalf("%s: registered all the same: %v", c.name, err)
			}
		}

		send().want(t, 200, "The client is registered.", "Issuer")
		got, err := s.clients.Get(t.Context(), "bank")
		check(t, err)
		want := got
		want.Profile, want.JWKS, want.AssertionAlg, want.AuthMethod = clients.FAPI2, json.RawMessage(publicKeys), "ES256", clients.PrivateKeyJWT
		if diff := cmp.Diff(want, got, sameJSON); diff != "" {
			t.Errorf("registered (-want +got):\n%s", diff)
		}
		page := w.get(t, "/client?id=bank").want(t, 200, "High-security app", "<dt>Proves itself by</dt><dd>keys that are registered; a DPoP proof with each token</dd>",
			"<dt>A log-in needs</dt><dd>PKCE; a pushed request; the user’s consent</dd>", "<dt>Gets tokens</dt><dd>for users who log in at Signet’s page</dd>",
			"<dt>They allow</dt><dd>openid</dd>")

		// The form, sent back as it is, changes nothing; and then to keys that are elsewhere, without the profile.
		form := page.form(t, "/console/client")
		w.do(t, http.MethodPost, "/client", form).leads(t, "/client?done=client-saved&id=bank")
		want.Version++
		got, err = s.clients.Get(t.Context(), "bank")
		check(t, err)
		if diff := cmp.Diff(want, got, sameJSON); diff != "" {
			t.Errorf("sent back (-want +got):\n%s", diff)
		}
		form.Set("version", fmt.Sprint(got.Version))
		for name, value := range map[string]string{
			"jwks": "", "jwks_uri": "https://bank.example.com/keys", "profile": "", "token_endpoint_auth_signing_alg": "",
			"require_pushed_authorization_requests": "yes", "dpop_bound_access_tokens": "yes",
		} {
			form.Set(name, value)
		}
		w.do(t, http.MethodPost, "/client", form).leads(t, "/client?done=client-saved&id=bank")
		want.Version++
		want.JWKS, want.JWKSURI, want.Profile, want.AssertionAlg, want.RequirePAR, want.RequireDPoP = nil, "https://bank.example.com/keys", "", "", true, true
		got, err = s.clients.Get(t.Context(), "bank")
		check(t, err)
		if diff := cmp.Diff(want, got, sameJSON); diff != "" {
			t.Errorf("changed (-want +got):\n%s", diff)
		}
		w.get(t, "/client?id=bank").want(t, 200, "keys that are at https://bank.example.com/keys")

		// A form that was opened before an upgrade has none of these fields.
		w.post(t, "/client", "client_id", "bank", "client_name", "Bank 2", "grant_types", "authorization_code", "redirect_uris", "https://bank.example.com/cb",
			"token_endpoint_auth_method", "private_key_jwt").want(t, http.StatusSeeOther)
		if got, err = s.clients.Get(t.Context(), "bank"); err != nil || got.JWKSURI == "" || !got.RequirePAR || !got.RequireDPoP {
			t.Errorf("%v: %+v", err, got)
		}
	})
}

// Every member of a client has a field on its page, but for those that only the server sets, and those that have buttons.
func TestEveryMemberHasAField(t *testing.T) {
	s := embedded(t)
	w, _ := s.admin(t, "admin")
	age, uri := time.Hour, "https://app.example.com/x"
	c, err := s.clients.Create(t.Context(), clients.Client{
		ID: "all", RedirectURIs: []string{uri}, DefaultMaxAge: &age, AccessTTL: age, RefreshTTL: age, SessionTTL: age, ClientURI: uri, LogoURI: uri, PolicyURI: uri, TOSURI: uri,
		BackchannelLogoutURI: uri, Profile: clients.FAPI2, AuthMethod: clients.PrivateKeyJWT, JWKS: json.RawMessage(publicKeys), AssertionAlg: "ES256",
	}, origin)
	check(t, err)
	text, err := json.Marshal(c)
	check(t, err)
	members := map[string]any{"jwks_uri": nil}
	check(t, json.Unmarshal(text, &members))
	for _, name := range []string{"client_id_issued_at", "client_secret_expires_at", "response_types", "disabled"} {
		delete(members, name)
	}
	page := w.get(t, "/client?id=all").text
	for name := range members {
		if !strings.Contains(page, ` id="`+name+`"`) && !strings.Contains(page, ` name="`+name+`"`) {
			t.Errorf("%s has no field", name)
		}
	}
	if len(members) < 32 {
		t.Errorf("only %d members: %s", len(members), text)
	}
}

// What a client may do is seen at a glance.
func TestAtAGlance(t *testing.T) {
	s := embedded(t)
	w, _ := s.admin(t, "admin")
	age := 12 * time.Hour
	for id, c := range map[string]struct {
		client clients.Client
		want   []string
	}{
		"web": {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}, DefaultMaxAge: &age}, []string{
			"<dt>Gets tokens</dt><dd>for users who log in at Signet’s page; new ones, without a log-in</dd>", "<dt>They allow</dt><dd>openid profile email offline_access</dd>",
			"<dt>They are for</dt><dd>" + s.url, "<dt>Proves itself by</dt><dd>a secret</dd>", "<dt>A log-in needs</dt><dd>PKCE; the user’s consent; a password entered in the last 12h</dd>",
		}},
		"first": {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}, SkipConsent: true, OptionalPKCE: true}, []string{"<dt>A log-in needs</dt><dd>no more than the user</dd>"}},
		"spa": {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}, AuthMethod: clients.None, RequireDPoP: true}, []string{
			"<dt>Proves itself by</dt><dd>nothing: it is a public client; a DPoP proof with each token</dd>",
		}},
		"job": {clients.Client{Grants: []clients.Grant{clients.ClientCredentials, clients.TokenExchange}, Scope: clients.Scope{}, Audience: []string{"https://api.example.com"}}, []string{
			"<dt>Gets tokens</dt><dd>for itself; for other APIs, in exchange for a user’s token</dd>", "<dt>They allow</dt><dd>nothing in particular: it has no scope</dd>",
			"<dt>They are for</dt><dd>https://api.example.com</dd>",
		}},
		"api": {clients.Client{Grants: []clients.Grant{}, ResourceServer: true, Audience: []string{"https://api.example.com"}}, []string{
			"<dt>Gets tokens</dt><dd>none</dd>", "<dt>May introspect</dt><dd>access tokens for https://api.example.com</dd>",
		}},
		"cookies": {clients.Client{BrowserOrigins: []string{"https://app.example.com"}}, []string{"<dt>Tokens in cookies</dt><dd>for pages at https://app.example.com</dd>"}},
		"guest":   {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}, Registered: true}, []string{"<dt>Came by itself</dt><dd>and goes 30 days after it was registered if nobody uses it</dd>"}},
		"https://app.example.com/client": {clients.Client{RedirectURIs: []string{"https://app.example.com/cb"}, AuthMethod: clients.None, Registered: true}, []string{
			"<dt>Came by itself</dt><dd>and is what the document at its id says</dd>",
		}},
	} {
		c.client.ID = id
		_, err := s.clients.Create(t.Context(), c.client, origin)
		check(t, err)
		w.get(t, "/client?id="+url.QueryEscape(id)).want(t, 200, c.want...)
	}
}

func TestRegistrationTokens(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, admin := s.admin(t, "admin")
		w.get(t, "/clients").want(t, 200, `href="/console/registration-tokens"`)
		w.get(t, "/registration-tokens").want(t, 200, "There is none", "<code>off</code>", `value="1"`, `value="24h"`)
		for _, c := range []struct{ uses, ttl, field, problem string }{
			{"0", "24h", "uses", "Uses: must be 1 to 10000"}, {"x", "24h", "uses", "Uses: must be a number"}, {"", "24h", "uses", "Uses: must be a number"},
			{"1", "soon", "ttl", "Good for: must be a duration"}, {"1", "", "ttl", "Good for: must be a duration"}, {"1", "0s", "ttl", "Good for: must be a duration"},
		} {
			w.post(t, "/registration-tokens", "uses", c.uses, "ttl", c.ttl).want(t, 422, c.problem, `id="`+c.field+`-error"`)
		}
		page := w.post(t, "/registration-tokens", "uses", "3", "ttl", "7d").want(t, 200, "Copy the token now", "3 clients", s.url+"/register")
		token := regexp.MustCompile(`sgi_[A-Za-z0-9_-]{43}`).FindString(page.text)
		list := w.get(t, "/registration-tokens").want(t, 200, `<td role="cell" data-label="Uses left">3</td>`)
		if token == "" || strings.Contains(list.text, token) {
			t.Errorf("the token: %q", token)
		}
		form := list.form(t, "/console/registration-token/revoke")
		w.do(t, http.MethodPost, "/registration-token/revoke", form).leads(t, "/registration-tokens?done=registration-revoked")
		w.do(t, http.MethodPost, "/registration-token/revoke", form).leads(t, "/registration-tokens?done=registration-gone")
		w.get(t, "/registration-tokens").want(t, 200, "There is none")
		for _, typ := range []audit.Type{audit.RegistrationTokenCreated, audit.RegistrationTokenRevoked} {
			if e := s.events(t, typ); len(e) != 1 || e[0].Actor != admin.ID {
				t.Errorf("%s: %+v", typ, e)
			}
		}
	})
}

func TestScopes(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, admin := s.admin(t, "admin")
		w.get(t, "/scopes").want(t, 200, "No scope is described yet")
		w.post(t, "/scopes", "name", "a b", "description", "Kept").want(t, http.StatusUnprocessableEntity, "Scope: must be", `value="Kept"`, `id="name-error"`)
		w.post(t, "/scopes", "name", "read", "description", " ").want(t, http.StatusUnprocessableEntity, "Description: must be", `id="description-error"`)
		w.post(t, "/scopes", "name", "orders:read", "description", "See <your> orders").leads(t, "/scopes?done=scope-saved")
		w.get(t, "/scopes?done=scope-saved").want(t, 200, "The scope is described.", "orders:read", "See &lt;your&gt; orders")
		w.get(t, "/scopes?name=orders%3Aread").want(t, 200, `value="See &lt;your&gt; orders"`)
		if e := s.events(t, audit.ScopeUpdated); len(e) != 1 || e[0].Actor != admin.ID || e[0].Detail != "orders:read" {
			t.Errorf("recorded %+v", e)
		}
		w.post(t, "/scope/delete", "name", "orders:read").leads(t, "/scopes?done=scope-deleted")
		w.post(t, "/scope/delete", "name", "orders:read").want(t, http.StatusNotFound)
	})
}

func TestUsers(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, admin := s.admin(t, "admin")
		w.get(t, "/users").want(t, 200, "You are the only one so far")
		for _, c := range []struct{ name, password, field, problem string }{
			{"", password, "username", "Username: must be 1 to 255"}, {" x", password, "username", "Username: must be"},
			{"ADMIN", password, "username", "exists already"}, {"bob", "short", "password", "Password: must be 8 to 1024"},
		} {
			a := w.post(t, "/users", "username", c.name, "password", c.password, "admin", "yes").want(t, http.StatusUnprocessableEntity,
				c.problem, `id="`+c.field+`-error"`, `value="`+c.name+`"`, `value="yes" aria-describedby="admin-hint" checked`)
			if strings.Contains(a.text, password) {
				t.Error("the password is shown")
			}
		}
		made := w.post(t, "/users", "username", "bob").want(t, 200, "The user is created.", "Copy the password now", `data-back="/console/user?id=`)
		bob, err := s.users.Find(t.Context(), "bob")
		check(t, err)
		password1 := regexp.MustCompile(`<code>([A-Za-z0-9_-]{20})</code>`).FindStringSubmatch(made.text)[1]
		if _, err := s.users.Authenticate(t.Context(), "bob", password1, "test", origin); err != nil || bob.Admin {
			t.Errorf("bob's password %q: %v, admin %t", password1, err, bob.Admin)
		}
		if a := w.post(t, "/users", "username", "carol", "password", "carol's password").want(t, 200); strings.Contains(a.text, "carol&#39;s password") {
			t.Error("a password that was typed is shown")
		}
		if a := w.get(t, "/users?q=BO").want(t, 200, "bob"); strings.Contains(a.text, "carol") {
			t.Error("the search found carol")
		}

		c := s.app(t, "shop")
		s.session(t, c, bob, "Firefox")
		w.get(t, "/user?id="+bob.ID).want(t, 200, "Firefox", "Log out everywhere")
		w.get(t, "/user?id=bob").want(t, 200)
		w.get(t, "/user/logout?id="+bob.ID).want(t, 200, "Log bob out everywhere?")
		w.post(t, "/user/logout", "id", bob.ID).leads(t, "/user?done=user-logout&id="+bob.ID)
		w.get(t, "/user?id="+bob.ID).want(t, 200, "Not logged in anywhere")
		w.get(t, "/user?id="+bob.ID).want(t, 200, "Nothing is known.")
		profile := func() string { // the version of bob's
			t.Helper()
			found := regexp.MustCompile(`name="version" value="([^"]*)"`).FindStringSubmatch(w.get(t, "/user/profile?id="+bob.ID).want(t, 200).text)
			if found == nil {
				t.Fatal("the form has no version")
			}
			return html.UnescapeString(found[1])
		}
		first := profile()
		w.post(t, "/user/profile", "id", bob.ID, "version", first, "name", " Bob Builder ", "email", "bob@example.com", "email_verified", "yes", "locale", "de",
			"groups", "staff\r\n\r\nbuilders", "claims", `{"tier": "gold"}`).leads(t, "/user?done=user-saved&id="+bob.ID)
		w.get(t, "/user?id="+bob.ID).want(t, 200, "Bob Builder", "bob@example.com</dd>", "staff, builders")
		w.get(t, "/user/profile?id="+bob.ID).want(t, 200, `value="Bob Builder"`, "staff\nbuilders", "&#34;tier&#34;: &#34;gold&#34;", `value="yes" checked`)
		for member, value := range map[string]string{"email": "nobody", "locale": "!", "claims": `{"tier": `, "picture": "http://x"} {
			w.post(t, "/user/profile", "id", bob.ID, "version", profile(), "name", "Somebody", member, value).want(t, http.StatusUnprocessableEntity, `id="`+member+`-error"`, `value="Somebody"`)
		}
		w.post(t, "/user/profile", "id", bob.ID, "version", first, "family_name", "Builder").want(t, http.StatusUnprocessableEntity, "Somebody else changed this profile", `value="Builder"`)
		w.post(t, "/user/profile", "id", bob.ID, "version", profile(), "name", "Bob", "email", "other@example.com", "email_verified", "yes").leads(t, "/user?done=user-saved&id="+bob.ID)
		if bob, err = s.users.Find(t.Context(), "bob"); err != nil || bob.EmailVerified || bob.Email != "other@example.com" || len(bob.Groups)+len(bob.Claims) > 0 {
			t.Errorf("%+v, %v", bob.Profile, err)
		}
		w.post(t, "/user/admin", "id", bob.ID).leads(t, "/user?done=user-admin&id="+bob.ID)
		w.post(t, "/user/no-admin", "id", bob.ID).leads(t, "/user?done=user-no-admin&id="+bob.ID)
		w.post(t, "/user/password", "id", bob.ID, "password", "short").want(t, http.StatusUnprocessableEntity, "Password: must be 8")
		w.post(t, "/user/password", "id", bob.ID).want(t, 200, "Copy the password now")
		if _, err := s.users.Authenticate(t.Context(), "bob", password1, "test", origin); err == nil {
			t.Error("the password before is still good")
		}
		w.post(t, "/user/disable", "id", bob.ID).leads(t, "/user?done=user-disabled&id="+bob.ID)
		w.get(t, "/user?id="+bob.ID).want(t, 200, "Disabled: cannot log in.")
		w.post(t, "/user/enable", "id", bob.ID).leads(t, "/user?done=user-enabled&id="+bob.ID)
		w.get(t, "/user/delete?id="+bob.ID).want(t, 200, "Delete bob?")
		w.post(t, "/user/delete", "id", bob.ID).leads(t, "/users?done=user-deleted")
		for _, path := range []string{"/user/delete", "/user/disable", "/user/enable", "/user/password", "/user/admin", "/user/logout"} {
			w.post(t, path, "id", bob.ID).want(t, http.StatusNotFound, "There is nothing here")
		}
		for _, typ := range []audit.Type{audit.UserPasswordChanged, audit.UserDisabled, audit.UserEnabled, audit.UserUpdated, audit.UserLoggedOut, audit.UserDeleted} {
			if e := s.events(t, typ); len(e) == 0 || e[0].Actor != admin.ID || e[0].UserID != bob.ID {
				t.Errorf("%s: %+v", typ, e)
			}
		}

		// To oneself: with a warning, and at once.
		w.get(t, "/user/no-admin?id="+admin.ID).want(t, 200, "This is you")
		w.post(t, "/user/no-admin", "id", admin.ID).want(t, http.StatusSeeOther)
		w.get(t, "/users").leads(t, "/login?next=%2Fusers&why=admin")
	})
}

// A form is about the user with that id, and not about one who is called like it.
func TestUserNamedLikeAnother(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		gone := s.user(t, "bob", false)
		namesake := s.user(t, gone.ID, false)
		check(t, s.users.Delete(t.Context(), gone.ID, origin))
		w.post(t, "/user/admin", "id", gone.ID).want(t, http.StatusNotFound)
		if u, err := s.users.Find(t.Context(), namesake.ID); err != nil || u.Admin {
			t.Errorf("%+v, %v", u, err)
		}
	})
}

func TestSessions(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, admin := s.admin(t, "admin")
		c, u := s.app(t, "shop"), s.user(t, "bob", false)
		issued := s.session(t, c, u, "Firefox")
		w.get(t, "/sessions").want(t, 200, "Firefox", "198.51.100.7", "this one", "read write")
		for query, found := range map[string]bool{
			"user=bob": true, "user=" + u.ID: true, "client=shop": true, "user=bob&client=shop": true,
			"user=admin": false, "user=nobody": false, "client=signet-console": false, "user=bob&client=signet-console": false,
		} {
			if a := w.get(t, "/sessions?"+query).want(t, 200); strings.Contains(a.text, "Firefox") != found {
				t.Errorf("%s: found %t", query, !found)
			}
		}
		w.post(t, "/session/end", "id", issued.SessionID, "back", "/sessions?client=shop").leads(t, "/sessions?client=shop&done=session-ended")
		w.post(t, "/session/end", "id", issued.SessionID, "back", "/user?id="+u.ID).leads(t, "/user?done=session-gone&id="+u.ID)
		w.post(t, "/session/end", "id", "x", "back", "https://evil.example/").leads(t, "/sessions?done=session-gone")
		if _, _, err := s.tokens.Refresh(t.Context(), &c, issued.RefreshToken, nil, nil, proofs.Key{}, origin); err == nil {
			t.Error("the session is still good")
		}
		if e := s.events(t, audit.SessionRevoked); len(e) != 1 || e[0].Actor != admin.ID {
			t.Errorf("recorded %+v", e)
		}
		w.get(t, "/sessions?client=shop").want(t, 200, "Nobody is logged in")
	})
}

func TestAudit(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		s.app(t, "shop")
		bob := s.user(t, "bob", false)
		w.post(t, "/user/disable", "id", bob.ID)
		w.get(t, "/audit").want(t, 200, "user.disabled", "client.created", `hx-get="/console/audit/follow?seen=`, `datetime="`)
		for query, found := range map[string]bool{
			"type=user.disabled": true, "user=bob": true, "user=" + bob.ID: true, "since=1h": true, "type=nonsense": true, "since=nonsense": true,
			"type=key.rotated": false, "user=nobody": false, "client=shop": false,
		} {
			if a := w.get(t, "/audit?"+query).want(t, 200); strings.Contains(a.text, `<span class="tag">user.disabled`) != found {
				t.Errorf("%s: found %t", query, !found)
			}
		}
		follow := regexp.MustCompile(`hx-get="/console(/audit/follow[^"]+)"`)
		at := html.UnescapeString(follow.FindStringSubmatch(w.get(t, "/audit?client=shop").text)[1])
		w.get(t, at, "Hx-Request", "true").want(t, http.StatusNoContent)
		_, err := s.clients.SetDisabled(t.Context(), "shop", true, origin)
		check(t, err)
		a := w.get(t, at, "Hx-Request", "true").want(t, 200, "client.disabled", "1 new event", `hx-swap-oob`)
		if strings.Contains(a.text, "<html") {
			t.Error("a whole page")
		}
		w.get(t, html.UnescapeString(follow.FindStringSubmatch(a.text)[1])).want(t, http.StatusNoContent)
		if a := w.get(t, "/audit?live=off").want(t, 200, "Paused"); strings.Contains(a.text, "hx-get") {
			t.Error("it follows, though it is paused")
		}
	})
}

// Lists that are longer than a page lead to their ends.
func TestPages(t *testing.T) {
	s := embedded(t)
	w, admin := s.admin(t, "admin")
	c := s.app(t, "shop")
	for i := range 120 {
		s.app(t, fmt.Sprintf("client-%03d", i))
		s.user(t, fmt.Sprintf("User %03d", i), false)
		s.session(t, c, admin, "agent")
	}
	next := regexp.MustCompile(`href="/console([^"]+)" rel="next"`)
	for path, c := range map[string]struct {
		row  *regexp.Regexp
		want int
	}{
		"/clients":                      {regexp.MustCompile(`href="/console/client\?id=(client-\d+)"`), 120},
		"/clients?q=CLIENT-01":          {regexp.MustCompile(`href="/console/client\?id=(client-\d+)"`), 10},
		"/users":                        {regexp.MustCompile(`>(User \d+)</a>`), 120},
		"/sessions?client=shop":         {regexp.MustCompile(`name="id" value="([^"]+)"`), 120},
		"/audit?type=client.created":    {regexp.MustCompile(`href="/console/client\?id=(client-\d+)"`), 120},
		"/audit?since=1h&client=nobody": {regexp.MustCompile(`<tr`), 0},
	} {
		seen := map[string]bool{}
		pages := 0
		for at := path; at != "" && pages < 20; pages++ {
			text := w.get(t, at).want(t, 200).text
			for _, m := range c.row.FindAllStringSubmatch(text, -1) {
				seen[m[len(m)-1]] = true
			}
			at = ""
			if m := next.FindStringSubmatch(text); m != nil {
				at = html.UnescapeString(m[1])
			}
		}
		if len(seen) != c.want || c.want > 50 && pages < 3 {
			t.Errorf("%s: %d rows on %d pages, want %d", path, len(seen), pages, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, admin := s.admin(t, "admin")
		w.get(t, "/keys").want(t, 200, "current", "next", "ES256", "Rotate…")
		w.get(t, "/keys/rotate").want(t, 200, "Rotate the signing keys?")
		w.post(t, "/keys/rotate").leads(t, "/keys?done=keys-rotated")
		w.get(t, "/keys").want(t, 200, "retired")
		if e := s.events(t, audit.KeyRotated); len(e) != 2 || e[0].Actor != admin.ID { // those of ID tokens, too
			t.Errorf("recorded %+v", e)
		}
		leaked := s.current(t)
		w.get(t, "/keys/revoke?id="+leaked).want(t, 200, "Revoke the current key "+leaked)
		w.post(t, "/keys/revoke", "id", leaked).leads(t, "/keys?done=key-revoked")
		if a := w.get(t, "/keys").want(t, 200); strings.Contains(a.text, leaked) {
			t.Error("the revoked key is still there")
		}
		w.get(t, "/keys/revoke?id="+leaked).leads(t, "/keys?done=key-gone")
		w.post(t, "/keys/revoke", "id", leaked).leads(t, "/keys?done=key-gone")
		if e := s.events(t, audit.KeyRevoked); len(e) != 1 || e[0].Actor != admin.ID || !strings.Contains(e[0].Detail, leaked) {
			t.Errorf("recorded %+v", e)
		}
	})
}

func TestSharedSecret(t *testing.T) {
	s := embedded(t, func(set *settings) { set.alg = keys.HS256 })
	w, _ := s.admin(t, "admin")
	if a := w.get(t, "/keys").want(t, 200, "SIGNET_SIGNING_SECRET"); strings.Contains(a.text, "Rotate…") {
		t.Error("it offers to rotate")
	}
	w.post(t, "/keys/rotate").want(t, http.StatusConflict, "HS256 has no key to rotate")
}

func TestOverview(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		s.counter.Add(activity.Reuses)
		s.counter.Add(activity.Refreshes)
		s.counter.Flush(t.Context())
		check(t, endAll(t, s))
		s.counter.Sample(t.Context()) // at the start of a new server
		w.logIn(t, "admin")
		if a := w.get(t, "/").want(t, 200, `<p class="number">–</p>`); strings.Contains(a.text, `<h2>Live sessions</h2><p class="number">0`) {
			t.Error("there are no sessions, it says to one that there is")
		}
		s.counter.Sample(t.Context())
		for period, steps := range map[string]int{"hour": 12, "day": 96, "week": 84, "month": 120, "nonsense": 96} {
			a := w.get(t, "/?range="+period).want(t, 200, "Look at each", `<p class="number">1</p>`, "Live sessions")
			if n := strings.Count(a.text, "<tr data-t="); n != steps {
				t.Errorf("%s: %d steps", period, n)
			}
			if !regexp.MustCompile(`(?s)<tr data-t="\d+"><th scope="row">[^<]+</th><td>1</td><td>1</td><td>1</td><td>0</td><td>1</td></tr>`).MatchString(a.text) {
				t.Errorf("%s: no row is what happened:\n%s", period, a.text)
			}
		}
	})
}

func TestDatabaseGone(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		s.closeStore()
		for _, path := range []string{"/", "/clients", "/audit"} {
			if a := w.get(t, path).want(t, http.StatusServiceUnavailable, "Unavailable for the moment"); a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		w.logIn(t, "admin").want(t, http.StatusServiceUnavailable, "Unavailable for the moment")
		if a := w.post(t, "/logout").want(t, http.StatusServiceUnavailable); a.cookie() != nil {
			t.Error("the cookie is gone, and the session is not")
		}
		w.get(t, "/login?why=out").want(t, 200)
	})
}

// Neither the log nor an address holds what the console shows once, or what people prove themselves with.
func TestNothingSecretIsLogged(t *testing.T) {
	s := embedded(t)
	w, _ := s.admin(t, "admin")
	s.surfer(t).logInAs(t, "admin", "a wrong password", "")
	cookie := w.logIn(t, "admin").cookie()
	created := w.post(t, "/clients", "client_name", "Shop", "client_id", "shop", "grant_types", "password", "token_endpoint_auth_method", "client_secret_basic")
	rotated := w.post(t, "/client/secret", "id", "shop", "overlap", "0", "version", fmt.Sprint(version(t, s, "shop")))
	w.post(t, "/users", "username", "carol", "password", "carol's own password")
	made := w.post(t, "/users", "username", "bob")
	secrets := []string{
		password, "a wrong password", "carol's own password", cookie.Value, cookie.Value[strings.LastIndexByte(cookie.Value, '.')+1:],
		secretIn.FindString(created.text), secretIn.FindString(rotated.text), regexp.MustCompile(`<code>([A-Za-z0-9_-]{20})</code>`).FindStringSubmatch(made.text)[1],
	}
	log := s.log.String()
	for _, secret := range secrets {
		if len(secret) < 8 || strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if !strings.Contains(log, `"path":"/console/users"`) || !strings.Contains(log, `"client_id":"signet-console"`) {
		t.Errorf("the log does not tell who did what:\n%s", log)
	}
}

// What no database takes for text is refused before one is asked.
func TestNoText(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		for _, bad := range []string{"%00", "a%00b", "%ff", "%zz"} {
			for _, path := range []string{"/clients?q=", "/client?id=", "/users?q=", "/user?id=", "/sessions?user=", "/audit?client="} {
				w.get(t, path+bad).want(t, http.StatusBadRequest, "Bad request")
			}
		}
		for _, path := range []string{
			"/sessions?after=x", "/sessions?user=x'--", "/audit?before=x", "/audit?user=x'--", "/clients?after=%27", "/users?after=%27",
			"/clients?q=%25", "/clients?q=%5C", "/users?q=_",
		} {
			w.get(t, path).want(t, 200)
		}
		w.post(t, "/users", "username", "a\x00b", "password", "x").want(t, http.StatusBadRequest)
	})
}

// The sessions of many users are on several pages, the newest on the first.
func TestSessionPages(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		w, _ := s.admin(t, "admin")
		c, u := s.app(t, "shop"), s.user(t, "alice", false)
		for i := range 60 {
			s.session(t, c, u, fmt.Sprintf("browser-%d.", i))
		}
		first := w.get(t, "/sessions?client=shop").want(t, 200, "browser-59.", "browser-10.")
		next := regexp.MustCompile(`href="/console([^"]*)" rel="next"`).FindStringSubmatch(first.text)
		if next == nil || strings.Contains(first.text, "browser-9.") {
			t.Fatalf("the first page: %s", first.text)
		}
		second := w.get(t, html.UnescapeString(next[1])).want(t, 200, "browser-9.", "browser-0.")
		if strings.Contains(second.text, "browser-10.") || strings.Contains(second.text, `rel="next"`) {
			t.Errorf("the second page: %s", second.text)
		}
	})
}

func TestUnknownMethod(t *testing.T) {
	s := embedded(t)
	req, err := http.NewRequest(http.MethodDelete, s.url+"/console/clients", nil)
	check(t, err)
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got %d", res.StatusCode)
	}
}

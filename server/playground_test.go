package server_test

import (
	"html"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"signet/audit"
	"signet/clients"
	"signet/server/playground"
	"signet/storage/storagetest"
)

func withPlayground(set *settings) { set.playground = true }

// player is somebody at the playground, under one of its names.
type player struct {
	*surfer

	host string
}

func (r *replica) player(t testing.TB, name string) *player {
	t.Helper()
	return &player{r.surfer(t), strings.Replace(strings.TrimPrefix(r.url, "http://"), "127.0.0.1", name, 1)}
}

func (p *player) as(req *http.Request) { req.Host = p.host }

// press presses a button, and returns where that leads.
func (p *player) press(name string) view {
	p.t.Helper()
	v := p.open(http.MethodPost, "/playground/"+name, "", p.as)
	if v.status != http.StatusSeeOther || v.location.Host != p.host {
		p.t.Fatalf("%s: %d to %v, want 303 to %s", name, v.status, v.location, p.host)
	}
	return v
}

// page is what the playground shows, as text.
func (p *player) page() string {
	p.t.Helper()
	v := p.open(http.MethodGet, "/playground", "", p.as)
	if v.status != http.StatusOK || v.heading != "Playground" {
		p.t.Fatalf("the page: %d %s", v.status, v.body)
	}
	return html.UnescapeString(v.body)
}

// says checks that the page says each of the texts.
func (p *player) says(texts ...string) string {
	p.t.Helper()
	page := p.page()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			p.t.Errorf("there is no %q in\n%s", text, page)
		}
	}
	return page
}

// logIn goes all the way, and returns the browser's request with the answer for the app.
func (p *player) logIn(username string) view {
	p.t.Helper()
	v := p.open(http.MethodGet, p.press("login").location.RequestURI(), "", p.as)
	if strings.HasSuffix(v.action, "/login") {
		v = p.submit(v, "username", username, "password", password)
	}
	if strings.HasSuffix(v.action, "/consent") {
		v = p.submit(v, "decision", "allow")
	}
	if v.status != http.StatusSeeOther || v.location.Host != p.host || v.location.Path != "/playground/callback" {
		p.t.Fatalf("the answer: %d to %v\n%s", v.status, v.location, v.body)
	}
	return v
}

// follow has the browser bring the answer to the app.
func (p *player) follow(v view) {
	p.t.Helper()
	if v = p.open(http.MethodGet, v.location.RequestURI(), "", p.as); v.status != http.StatusSeeOther || v.location.Path != "/playground" {
		p.t.Fatalf("the callback: %d to %v", v.status, v.location)
	}
}

// Somebody logs in on the playground, refreshes, asks, plays the thief, logs in again and out, under whatever name they came.
func TestPlayground(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.user(t, "demo")
		for _, name := range []string{"127.0.0.1", "localhost"} {
			p := r.player(t, name)
			p.says("Nothing yet.", "curl -si 'http://"+p.host+"/authorize?response_type=code&client_id=playground&redirect_uri=http%3A%2F%2F")
			p.follow(p.logIn("demo"))
			p.says("You are logged in as <strong>demo</strong>", "GET /authorize?\nresponse_type=code&\nclient_id=playground&", "GET /playground/callback?\ncode=sgc_",
				"grant_type=authorization_code&", "code_verifier=", "200 OK", `"preferred_username": "demo"`, `"typ": "at+jwt"`, `"nonce":`, `"iss": "`+issuer+`"`)

			p.press("userinfo")
			p.says("GET /userinfo", "200 OK", "curl -s -H 'Authorization: Bearer ey")
			p.press("refresh")
			p.says("What happened: Refresh", "grant_type=refresh_token&", "200 OK", "You are logged in as")

			before := len(r.events(t, audit.RefreshTokenReused))
			p.press("thief")
			page := p.says("The thief presents the copy: theft is noticed", "400 Bad Request", `"error": "invalid_grant"`, "And the session is dead for the owner, too", "has ended.")
			if got := strings.Count(page, "200 OK"); got != 2 {
				t.Errorf("%d good answers, want the owner's 2", got)
			}
			if got := len(r.events(t, audit.RefreshTokenReused)); got != before+1 {
				t.Errorf("%d events of reuse, want one", got-before)
			}
			p.press("userinfo")
			p.says("401 Unauthorized", "Log in again")

			p.follow(p.logIn("demo")) // the browser is logged in, still
			p.says("You are logged in as")
			v := p.press("logout")
			if q := v.location.Query(); v.location.Path != "/logout" || q.Get("post_logout_redirect_uri") != "http://"+p.host+"/playground" {
				t.Fatalf("logged out by %v", v.location)
			}
			if v = p.open(http.MethodGet, v.location.RequestURI(), "", p.as); v.status != http.StatusSeeOther || v.location.String() != "http://"+p.host+"/playground" {
				t.Fatalf("the log-out: %d to %v", v.status, v.location)
			}
			p.says("POST /revoke", "GET /logout?\nid_token_hint=ey", "has ended.")
			p.press("userinfo")
			p.says("401 Unauthorized")
			if v = p.open(http.MethodGet, p.press("login").location.RequestURI(), "", p.as); !strings.HasSuffix(v.action, "/login") {
				t.Errorf("after the log-out the login page is not asked for: %d %s", v.status, v.body)
			}
		}
	}, withPlayground)
}

// The lines beside the buttons do, in a shell, what the buttons do.
func TestPlaygroundLines(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.user(t, "demo")
		p := r.player(t, "127.0.0.1")
		line := func(step string) string {
			t.Helper()
			_, rest, _ := strings.Cut(p.page(), `action="/playground/`+step+`"`)
			_, rest, found := strings.Cut(rest, `<pre class="curl">`)
			text, _, _ := strings.Cut(rest, "</pre>")
			if !found {
				t.Fatalf("%s has no line", step)
			}
			return text
		}
		run := func(step string) string {
			t.Helper()
			out, err := exec.Command("sh", "-c", line(step)).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", step, err, out)
			}
			return string(out)
		}
		for _, c := range []struct {
			step  string
			wants []string
		}{
			{"userinfo", []string{`"preferred_username":"demo"`}},
			{"refresh", []string{`"refresh_token":"sgr_`}},
			{"thief", []string{`"refresh_token":"sgr_`, `"invalid_grant"`}},
			{"logout", []string{""}},
		} {
			p.follow(p.logIn("demo"))
			said := run(c.step)
			for _, want := range c.wants {
				if !strings.Contains(said, want) {
					t.Errorf("%s says %q, want %q", c.step, said, want)
				}
			}
			p.press("userinfo")
			if ended := strings.Contains(p.page(), "401 Unauthorized"); ended != (c.step == "thief" || c.step == "logout") {
				t.Errorf("after %s the session has ended: %t", c.step, ended)
			}
		}
		p.press("login")
		if said := run("login"); !strings.HasPrefix(said, "HTTP/1.1 200") || !strings.Contains(said, `action="/login"`) {
			t.Errorf("login says %q", said)
		}
	}, withPlayground)
}

// An answer that this browser has not asked for is left alone, and so is one with another state or from another issuer.
func TestPlaygroundTakesItsOwnAnswers(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.user(t, "demo")
		p := r.player(t, "127.0.0.1")
		answer := p.logIn("demo")
		for name, change := range map[string]func(q url.Values){
			"another state":  func(q url.Values) { q.Set("state", "x") },
			"no state":       func(q url.Values) { q.Del("state") },
			"another issuer": func(q url.Values) { q.Set("iss", "https://evil.example") },
		} {
			forged := *answer.location
			q := forged.Query()
			change(q)
			forged.RawQuery = q.Encode()
			p.follow(view{location: &forged})
			if page := p.says("has not asked for"); strings.Contains(page, "You are logged in") {
				t.Errorf("%s: logged in", name)
			}
		}
		stranger := r.player(t, "127.0.0.1")
		stranger.follow(answer)
		stranger.says("has not asked for")
		p.follow(answer)
		p.says("You are logged in as")
		p.follow(answer) // the same again
		p.says("has not asked for", "You are logged in as")

		asked := p.press("login").location
		if v := p.open(http.MethodGet, asked.RequestURI(), "", p.as); !strings.HasSuffix(v.action, "/consent") {
			t.Fatal("a public client on loopback is not asked for anew")
		}
		q := url.Values{"error": {"access_denied"}, "error_description": {"<b>no</b>"}, "state": asked.Query()["state"], "iss": {issuer}}
		p.follow(view{location: &url.URL{Path: "/playground/callback", RawQuery: q.Encode()}})
		p.says("error=access_denied", "error_description=%3Cb%3Eno")
	}, withPlayground)
}

// Other names for this machine lead to the issuer's; forms of other sites do nothing.
func TestPlaygroundStaysAtItsNames(t *testing.T) {
	t.Parallel()
	r := start(t, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(t)}, withPlayground)
	evil := r.surfer(t).open(http.MethodGet, "/playground", "", func(req *http.Request) { req.Host = "evil.example" })
	if evil.status != http.StatusSeeOther || evil.location.String() != issuer+"/playground" || len(evil.header["Set-Cookie"]) != 0 {
		t.Errorf("under another name: %d to %v", evil.status, evil.location)
	}
	p := r.player(t, "127.0.0.1")
	if v := p.open(http.MethodPost, "/playground/login", "", p.as, header("Sec-Fetch-Site", "cross-site")); v.status != http.StatusForbidden {
		t.Errorf("a form of another site: %d", v.status)
	}
	policy := p.open(http.MethodGet, "/playground", "", p.as).header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	for _, name := range []string{"refresh", "userinfo", "thief", "logout"} { // before a login
		if v := p.press(name); v.location.Path != "/playground" {
			t.Errorf("%s leads to %v", name, v.location)
		}
	}
	p.says("Nothing yet.")
}

// Whoever comes after many others is remembered, and the one who was away the longest is not.
func TestPlaygroundForgets(t *testing.T) {
	t.Parallel()
	r := start(t, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(t)}, withPlayground)
	r.user(t, "demo")
	first, second := r.player(t, "127.0.0.1"), r.player(t, "127.0.0.1")
	first.follow(first.logIn("demo"))
	second.follow(second.logIn("demo"))
	for range 40 {
		second.page()
		r.player(t, "127.0.0.1").page()
	}
	second.says("You are logged in as")
	first.says("Nothing yet.")
}

// The client gets back what it needs, and keeps what else its owner wanted of it; nothing is written where nothing is to be done.
func TestPlaygroundClient(t *testing.T) {
	t.Parallel()
	r := start(t, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(t)}, withPlayground)
	cfg := playground.Config{Addresses: []string{"http://localhost:9"}}
	c, err := r.clients.Get(t.Context(), "playground")
	check(t, err)
	c.Name, c.Scope, c.RedirectURIs = "Mine", clients.Scope{"read"}, []string{"https://app.example.com/"}
	_, err = r.clients.Update(t.Context(), c, origin)
	check(t, err)
	for range 2 {
		check(t, playground.Register(t.Context(), r.clients, cfg, origin))
	}
	c, err = r.clients.Get(t.Context(), "playground")
	check(t, err)
	equal(t, "the scope", c.Scope.String(), "openid profile email")
	equal(t, "the redirect URIs", c.RedirectURIs, []string{"http://localhost:9/playground/callback"})
	equal(t, "the name", c.Name, "Mine")
	if got := len(r.events(t, audit.ClientUpdated)); got != 2 {
		t.Errorf("%d updates, want 2: the owner's, and one back", got)
	}
}

// Without signet dev there is no playground.
func TestNoPlayground(t *testing.T) {
	t.Parallel()
	r := start(t, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(t)})
	for _, path := range []string{"/playground", "/playground/callback", "/playground/playground.css"} {
		r.get(t, path).want(t, http.StatusNotFound, "not_found")
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		if a := r.get(t, path); strings.Contains(a.body, "playground") {
			t.Errorf("%s tells of it: %s", path, a.body)
		}
	}
}

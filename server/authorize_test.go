package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/users"
)

// line is something that a conforming server does.
type line struct {
	name  string
	prove func(t *testing.T, b *backend, r *replica)
}

// lines proves each of them, on a fresh database of either kind.
func lines(t *testing.T, list []line) {
	t.Helper()
	t.Parallel()
	for _, l := range list {
		t.Run(l.name, func(t *testing.T) { onBackends(t, func(t *testing.T, b *backend) { l.prove(t, b, start(t, b)) }) })
	}
}

// What a conforming authorization server does with the authorization code grant, drawn from the certification profiles of OpenID
// Connect, RFC 9700, OAuth 2.1 and RFC 8252.
func TestAuthorizationCodeConformance(t *testing.T) {
	lines(t, []line{
		{"01 optional parameters may be left out or there, and unknown ones too", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
			v := s.authorize(ask(c, "scope", "", "state", "", "redirect_uri", ""))
			if v.page(t, http.StatusOK); !strings.HasSuffix(v.action, "/login") {
				t.Fatalf("no login page: %q", v.heading)
			}
			v = s.enter(v, u)
			if v.page(t, http.StatusOK); v.heading != "App shop asks for access" {
				t.Errorf("after the login: %q", v.heading)
			}
			v = s.submit(v, "decision", "allow")
			if q := v.location.Query(); len(q) != 2 || q.Get("iss") != issuer {
				t.Errorf("the answer is %v", v.location)
			}
			a := r.redeem(t, c, v.code(t), "redirect_uri", "").issued(t)
			if a.text("refresh_token") == "" || a.text("id_token") == "" || a.text("scope") != c.Scope.String() {
				t.Errorf("tokens: %s", a.body)
			}
			v = s.authorize(ask(c, "nonce", "n", "display", "page", "prompt", "", "max_age", "10000", "ui_locales", "de", "claims_locales", "de", "login_hint", "bob",
				"acr_values", "aal1", "claims", `{"userinfo":{"name":null}}`, "response_mode", "query", "resource", issuer, "id_token_hint", a.text("id_token"),
				"unknown", "1", "extra", "foobar"))
			again := r.redeem(t, c, v.code(t), "resource", issuer, "scope", "openid", "unknown", "1").issued(t)
			if payload(t, again.text("id_token"))["nonce"] != "n" {
				t.Errorf("tokens: %s", again.body)
			}
		}},
		{"02 state comes back byte for byte", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c), u).code(t)
			every := make([]byte, 0, 256)
			for b := range 256 {
				every = append(every, byte(b))
			}
			for _, state := range []string{
				"", " ", "a b&c=d+e%20", "&", "+", "=", "%", "%zz", "ü€𝄞", "\x00\x01\xff\n\r\t\"'<>\\", "null", "#", "?code=x&iss=y", strings.Repeat("x", 1024), strings.Repeat("x", 2048), string(every),
			} {
				for _, mode := range []string{"query", "fragment"} {
					for _, responseType := range []string{"code", "token"} {
						got := s.authorize(ask(c, "state", state, "response_mode", mode, "response_type", responseType)).parameters(t, mode)
						if got.Get("state") != state || got.Has("state") != (state != "") || got.Has("code") != (responseType == "code") {
							t.Errorf("%s, %s: the state %q came back as %q", mode, responseType, state, got["state"])
						}
					}
				}
			}
			for _, state := range []string{"", " ", "a b&c=d+e%20", "ü€𝄞", `"><script>`, "'", strings.Repeat("x", 1024)} { // a form brings text alone
				for _, responseType := range []string{"code", "token"} {
					got := s.authorize(ask(c, "state", state, "response_mode", "form_post", "response_type", responseType)).parameters(t, "form_post")
					if got.Get("state") != state || got.Has("state") != (state != "") || got.Has("code") != (responseType == "code") {
						t.Errorf("form_post, %s: the state %q came back as %q", responseType, state, got["state"])
					}
				}
			}
		}},
		{"03 iss is in every answer and is that of the metadata", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c), u).code(t)
			metadata := r.get(t, "/.well-known/oauth-authorization-server")
			if metadata.json["authorization_response_iss_parameter_supported"] != true {
				t.Error("the metadata do not say so")
			}
			for _, mode := range []string{"query", "fragment", "form_post"} {
				for name, q := range map[string]url.Values{
					"a code": ask(c), "a bad request": ask(c, "response_type", "x"), "a bad scope": ask(c, "scope", "nothing"), "login required": ask(c, "prompt", "none", "max_age", "0"),
				} {
					q.Set("response_mode", mode)
					got := s.authorize(q).parameters(t, mode)
					if got.Get("iss") != metadata.text("issuer") || len(got["iss"]) != 1 || got.Has("code") == got.Has("error") {
						t.Errorf("%s by %s: %v", name, mode, got)
					}
				}
				v := s.submit(s.authorize(ask(c, "prompt", "login", "response_mode", mode)), "decision", "deny")
				if got := v.parameters(t, mode); got.Get("error") != "access_denied" || got.Get("iss") != issuer || got.Get("state") != "xyz" {
					t.Errorf("a denial by %s: %v", mode, got)
				}
			}
		}},
		{"04 response_type is code", func(t *testing.T, _ *backend, r *replica) {
			c, s := r.shop(t, "shop"), r.surfer(t)
			s.authorize(ask(c, "response_type", "")).refused(t, "invalid_request")
			for _, wrong := range []string{"token", "id_token", "code token", "code id_token", "id_token token", "none", "CODE", "code ", "code code", "x", "\x00"} {
				want := "unsupported_response_type"
				if wrong == "\x00" {
					want = "invalid_request"
				}
				s.authorize(ask(c, "response_type", wrong)).refused(t, want)
			}
			s.authorize(ask(c, "response_mode", "web_message")).refused(t, "invalid_request")
		}},
		{"05 redirect_uri is the registered one, to the byte, or there is a page", redirectURIs},
		{"06 the query of a registered redirect_uri is kept", func(t *testing.T, _ *backend, r *replica) {
			u, s := r.user(t, "alice"), r.surfer(t)
			for i, uri := range []string{callback + "?a=b", callback + "?", callback + "?a=%20&a=c&", callback + "?z=1&a=%C3%BC+x"} {
				c := r.shop(t, fmt.Sprint("shop-", i), trusted, func(c *clients.Client) { c.RedirectURIs = []string{uri} })
				joint := "&"
				if strings.HasSuffix(uri, "?") || strings.HasSuffix(uri, "&") {
					joint = ""
				}
				q := ask(c, "redirect_uri", uri)
				v := s.grant(q, u)
				if got := v.header.Get("Location"); !strings.HasPrefix(got, uri+joint+"code=") {
					t.Errorf("%s became %s", uri, got)
				}
				r.redeem(t, c, v.code(t), "redirect_uri", uri).issued(t)
				q.Set("response_type", "x")
				if got := s.authorize(q).header.Get("Location"); !strings.HasPrefix(got, uri+joint+"error=") {
					t.Errorf("%s became %s", uri, got)
				}
			}
		}},
		{"07 any port of a loopback address will do", func(t *testing.T, _ *backend, r *replica) {
			u, s := r.user(t, "alice"), r.surfer(t)
			c := r.shop(t, "app", trusted, func(c *clients.Client) {
				c.ApplicationType, c.RedirectURIs = clients.Native, []string{"http://127.0.0.1/cb", "http://[::1]:1/cb", "http://localhost:8000/cb", "http://127.0.0.1:5/q?a=b"}
			})
			for uri, good := range map[string]bool{
				"http://127.0.0.1:51004/cb": true, "http://[::1]:51004/cb": true, "http://localhost:51004/cb": true, "http://127.0.0.1/cb": true, "http://[::1]/cb": true,
				"http://localhost/cb": true, "http://127.0.0.1:65535/cb": true, "http://127.0.0.1:1/q?a=b": true,
				"http://127.0.0.1:51004/cbx": false, "http://127.0.0.1:51004/": false, "http://127.0.0.1.evil.example.com/cb": false, "http://localhost.evil.example.com/cb": false,
				"http://127.0.0.2:51004/cb": false, "https://127.0.0.1:51004/cb": false, "http://127.0.0.1:51004/cb?x=y": false, "http://127.0.0.1:x/cb": false,
				"http://127.0.0.1:/cb": false, "http://127.0.0.1:0/cb": false, "http://127.0.0.1:65536/cb": false, "http://127.0.0.1:-1/cb": false, "http://127.0.0.1:+80/cb": false,
				"http://127.0.0.1@evil.example.com/cb": false, "http://127.0.0.1:80@evil.example.com/cb": false, "http://LOCALHOST:51004/cb": false, "http://127.1:51004/cb": false,
				"http://2130706433:51004/cb": false, "http://[::ffff:127.0.0.1]:51004/cb": false, "http://[0:0:0:0:0:0:0:1]:51004/cb": false, "http://127.0.0.1:51004/q": false,
				"http://localhost:51004/q?a=b": false, "http://127.0.0.1:51004\\@evil.example.com/cb": false, "http://127.0.0.1:51004/cb#f": false,
			} {
				v := s.grant(ask(c, "redirect_uri", uri), u)
				if !good {
					v.page(t, http.StatusBadRequest)
					continue
				}
				code := v.code(t)
				if got := v.header.Get("Location"); !strings.HasPrefix(got, uri) {
					t.Errorf("asked for %s, sent to %s", uri, got)
				}
				r.redeem(t, c, code, "redirect_uri", "http://127.0.0.1:9/cb").want(t, http.StatusBadRequest, "invalid_grant") // it has to be the same port again
				r.redeem(t, c, code, "redirect_uri", uri).issued(t)
			}
			web := r.shop(t, "web", trusted, func(c *clients.Client) { c.RedirectURIs = []string{"http://127.0.0.1/cb"} })
			s.grant(ask(web, "redirect_uri", "http://127.0.0.1:51004/cb"), u).code(t) // a web app under development
		}},
		{"08 a code is good once; a second use ends its session", func(t *testing.T, b *backend, r *replica) {
			other := start(t, b)
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			code := s.grant(ask(c), u).code(t)
			if !strings.HasPrefix(code, "sgc_") || len(code) < 70 {
				t.Errorf("the code is %q", code)
			}
			first := r.redeem(t, c, code).issued(t)
			rotated := r.refresh(t, c, first.text("refresh_token")).issued(t)
			b.Age(t, 30*time.Second)
			if a := other.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant"); !strings.Contains(a.text("error_description"), "was used before") {
				t.Errorf("got %s", a.body)
			}
			for _, token := range []string{first.text("access_token"), rotated.text("access_token"), rotated.text("refresh_token")} {
				r.dead(t, "after the code came again", c, token)
			}
			r.get(t, "/userinfo", only("Authorization", "Bearer "+first.text("access_token"))).want(t, http.StatusUnauthorized, "invalid_token")
			r.refresh(t, c, rotated.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			r.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant")
			if events := r.events(t, audit.CodeReused); len(events) != 1 || events[0].ClientID != c.ID || events[0].UserID != u.ID || events[0].SessionID == "" || events[0].Address == "" {
				t.Errorf("the record: %+v, want one event", events)
			}
			late := s.grant(ask(c), u).code(t)
			old := r.redeem(t, c, late).issued(t)
			b.Age(t, time.Hour)
			r.redeem(t, c, late).want(t, http.StatusBadRequest, "invalid_grant")
			r.refresh(t, c, old.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")

			for range 4 { // 32 at once, on two replicas: one wins, and its tokens die with the second use
				winners := redeemAtOnce(t, []*replica{r, other}, c, s.grant(ask(c), u).code(t))
				if len(winners) != 1 {
					t.Fatalf("%d won", len(winners))
				}
				r.dead(t, "the winner's token", c, winners[0].text("access_token"))
				r.refresh(t, c, winners[0].text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			}
		}},
		{"09 a code of another client is not good, and stays good for its own", func(t *testing.T, _ *backend, r *replica) {
			c, another, open := r.shop(t, "shop", trusted), r.shop(t, "another", trusted), r.shop(t, "open", trusted, func(c *clients.Client) { c.AuthMethod = clients.None })
			u, s := r.user(t, "alice"), r.surfer(t)
			code := s.grant(ask(c), u).code(t)
			for range 10 { // nor is it counted against the code
				r.redeem(t, another, code).want(t, http.StatusBadRequest, "invalid_grant")
				if a := r.redeem(t, open, code).want(t, http.StatusBadRequest, "invalid_grant"); !strings.Contains(a.text("error_description"), "issued to another client") {
					t.Errorf("got %s", a.body)
				}
			}
			first := r.redeem(t, c, code).issued(t)
			r.redeem(t, another, code).want(t, http.StatusBadRequest, "invalid_grant")
			r.redeem(t, open, code).want(t, http.StatusBadRequest, "invalid_grant")
			r.alive(t, "after another client's use", c, first.text("access_token"))
			if events := r.events(t, audit.CodeReused); len(events) > 0 {
				t.Errorf("recorded: %+v", events)
			}
		}},
		{"10 a code needs its redirect_uri again", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			code := s.grant(ask(c), u).code(t)
			for _, uri := range []string{"", callback + "/", strings.Repeat("x", 3000), "\x00"} {
				if a := r.redeem(t, c, code, "redirect_uri", uri).want(t, http.StatusBadRequest, "invalid_grant"); !strings.Contains(a.text("error_description"), "the redirect_uri") {
					t.Errorf("got %s", a.body)
				}
			}
			r.redeem(t, c, code).issued(t)
			for _, uri := range []string{"", callback} {
				code = s.grant(ask(c, "redirect_uri", "", "scope", "read"), u).code(t)
				r.redeem(t, c, code, "redirect_uri", callback+"/").want(t, http.StatusBadRequest, "invalid_grant")
				r.redeem(t, c, code, "redirect_uri", uri).issued(t)
			}
		}},
		{"11 a code is good for a minute", func(t *testing.T, b *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			good, late := s.grant(ask(c), u).code(t), s.grant(ask(c), u).code(t)
			b.Age(t, 50*time.Second)
			r.redeem(t, c, good).issued(t)
			b.Age(t, 11*time.Second)
			r.redeem(t, c, late).want(t, http.StatusBadRequest, "invalid_grant")
			r.redeem(t, c, late).want(t, http.StatusBadRequest, "invalid_grant")
		}},
		{"12 a code is no good when its user, client, login or consent is not what it was", codesAfterAChange},
		{"13 PKCE is S256", func(t *testing.T, _ *backend, r *replica) {
			c, s := r.shop(t, "shop"), r.surfer(t)
			optional := r.shop(t, "old", func(c *clients.Client) { c.OptionalPKCE = true })
			challenge := challengeOf(verifier)
			for name, q := range map[string]url.Values{
				"missing": ask(c, "code_challenge", "", "code_challenge_method", ""), "without a method": ask(c, "code_challenge_method", ""),
				"a method alone": ask(c, "code_challenge", ""), "a method alone, optional": ask(optional, "code_challenge", ""), "without a method, optional": ask(optional, "code_challenge_method", ""),
				"plain": ask(c, "code_challenge", verifier, "code_challenge_method", "plain"), "plain, optional": ask(optional, "code_challenge", verifier, "code_challenge_method", "plain"),
				"s256": ask(c, "code_challenge_method", "s256"), "S512": ask(c, "code_challenge_method", "S512"),
				"42 characters": ask(c, "code_challenge", challenge[:42]), "44 characters": ask(c, "code_challenge", challenge+"A"), "129 characters": ask(c, "code_challenge", strings.Repeat("A", 129)),
				"128 characters": ask(c, "code_challenge", strings.Repeat("A", 128)), "padded": ask(c, "code_challenge", challenge+"="), "padded instead": ask(c, "code_challenge", challenge[:42]+"="),
				"standard base64": ask(c, "code_challenge", strings.Repeat("+", 43)), "a slash": ask(c, "code_challenge", strings.Repeat("/", 43)), "a dot": ask(c, "code_challenge", strings.Repeat("A", 42)+"."),
				"spare bits": ask(c, "code_challenge", strings.Repeat("A", 42)+"B"), "a space": ask(c, "code_challenge", " "+challenge[1:]), "a line break": ask(c, "code_challenge", challenge+"\n"),
			} {
				if s.authorize(q).refused(t, "invalid_request"); t.Failed() {
					t.Fatal(name)
				}
			}
			s.authorize(ask(optional, "code_challenge", "", "code_challenge_method", "")).page(t, http.StatusOK)
		}},
		{"14 PKCE: whatever is wrong with the verifier is invalid_grant", verifiers},
		{"15 form_post", func(t *testing.T, _ *backend, r *replica) {
			const evil = `"><script>alert(1)</script>`
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c), u).code(t)
			for _, q := range []url.Values{ask(c, "state", evil), ask(c, "state", evil, "scope", "nothing")} {
				q.Set("response_mode", "form_post")
				v := s.authorize(q)
				v.page(t, http.StatusOK)
				if v.action != callback || v.hidden.Get("state") != evil || v.hidden.Get("iss") != issuer || v.hidden.Has("code") == v.hidden.Has("error") {
					t.Errorf("the form goes to %q with %v", v.action, v.hidden)
				}
				if f := elements(t, v.body, "form"); len(f) != 1 || !strings.EqualFold(f[0]["method"], "post") || f[0]["enctype"] != "" {
					t.Errorf("the form is %v", f)
				}
				if len(elements(t, v.body, "button")) != 1 {
					t.Error("there is no button for who has no script")
				}
				scripts := elements(t, v.body, "script")
				policy := v.header.Get("Content-Security-Policy")
				if len(scripts) != 1 || scripts[0]["src"] == "" || scripts[0]["text"] != "" || !strings.Contains(policy, "form-action https://shop.example.com https: http:;") || !strings.Contains(policy, "script-src 'self'") || v.header.Get("Cache-Control") != "no-store" {
					t.Errorf("scripts %v, policy %q, cache %q", scripts, policy, v.header.Get("Cache-Control"))
				}
			}
			s.authorize(ask(c, "response_mode", "form_post", "state", "\xff")).refused(t, "invalid_request") // which no form would bring as it is
			app := r.shop(t, "app", func(c *clients.Client) {
				c.ApplicationType, c.RedirectURIs = clients.Native, []string{"com.example.app:/cb"}
			})
			v := s.authorize(ask(app, "redirect_uri", "com.example.app:/cb", "response_mode", "form_post"))
			v.refused(t, "invalid_request") // no browser posts to an app
		}},
		{"16 fragment", func(t *testing.T, _ *backend, r *replica) {
			c := r.shop(t, "shop", trusted, func(c *clients.Client) { c.RedirectURIs = []string{callback + "?a=b"} })
			u, s := r.user(t, "alice"), r.surfer(t)
			q := ask(c, "response_mode", "fragment", "redirect_uri", callback+"?a=b")
			v := s.grant(q, u)
			if got := v.header.Get("Location"); !strings.HasPrefix(got, callback+"?a=b#code=") || v.location.RawQuery != "a=b" {
				t.Errorf("the answer is %q", got)
			}
			q.Set("prompt", "none login")
			if got := s.authorize(q).header.Get("Location"); !strings.HasPrefix(got, callback+"?a=b#error=invalid_request&") {
				t.Errorf("the answer is %q", got)
			}
		}},
		{"17 POST does what GET does, HEAD does nothing", func(t *testing.T, b *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			post := func(s *surfer, q url.Values, more ...option) view {
				return s.open(http.MethodPost, "/authorize", q.Encode(), more...)
			}
			v := post(s, ask(c))
			v.page(t, http.StatusOK)
			r.redeem(t, c, s.enter(v, u).code(t)).issued(t)
			post(s, ask(c)).code(t)
			post(s, ask(c, "prompt", "none", "max_age", "0")).refused(t, "login_required")
			post(s, ask(c, "redirect_uri", callback+"x")).page(t, http.StatusBadRequest)
			// A page of another site brings no cookies along: the browser is sent here once more.
			for name, how := range map[string]option{"fetch metadata": header("Sec-Fetch-Site", "cross-site"), "origin": header("Origin", "https://shop.example.com")} {
				v := post(r.surfer(t), ask(c), how)
				if v.status != http.StatusSeeOther || !strings.HasPrefix(v.location.String(), issuer+"/authorize?") {
					t.Fatalf("%s: %d %v", name, v.status, v.location)
				}
				s.open(http.MethodGet, strings.TrimPrefix(v.location.String(), issuer), "").code(t)
				post(r.surfer(t), ask(c, "state", strings.Repeat("%", 2000), "login_hint", strings.Repeat("%", 1000)), how).page(t, http.StatusOK) // too long for that
			}
			codes := b.Int(t, `SELECT count(*) FROM authorization_codes`)
			if v := s.open(http.MethodHead, "/authorize?"+ask(c).Encode(), ""); v.location != nil || v.status >= 500 {
				t.Errorf("HEAD: %d %v", v.status, v.location)
			}
			if now := b.Int(t, `SELECT count(*) FROM authorization_codes`); now != codes {
				t.Error("HEAD makes a code")
			}
		}},
		{"18 prompt=none is a code or an error, and never a page", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
			s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
			s.enter(s.authorize(ask(c)), u).page(t, http.StatusOK)
			s.authorize(ask(c, "prompt", "none")).refused(t, "consent_required")
			first := payload(t, r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token"))
			again := payload(t, r.redeem(t, c, s.authorize(ask(c, "prompt", "none")).code(t)).issued(t).text("id_token"))
			for _, name := range []string{"sub", "auth_time", "sid"} {
				if again[name] != first[name] {
					t.Errorf("%s is %v, was %v", name, again[name], first[name])
				}
			}
			s.authorize(ask(c, "prompt", "none", "scope", "openid read")).refused(t, "consent_required")
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
			check(t, err)
			s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		}},
		{"19 prompt=login asks for the password", func(t *testing.T, b *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			first := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
			before := payload(t, first)
			for _, hint := range []string{"", first} {
				b.Age(t, time.Hour)
				v := s.authorize(ask(c, "prompt", "login", "id_token_hint", hint))
				if v.page(t, http.StatusOK); !strings.HasSuffix(v.action, "/login") || !strings.Contains(v.body, "alice") {
					t.Fatalf("not asked: %q", v.heading)
				}
				old := s.cookies["__Host-signet_login"]
				claims := payload(t, r.redeem(t, c, s.enter(v, u).code(t)).issued(t).text("id_token"))
				// The login of before is an hour older by now.
				if claims["auth_time"].(float64) < before["auth_time"].(float64) || claims["sub"] != u.ID || claims["sid"] != before["sid"] {
					t.Errorf("after the new login: %v, before: %v", claims, before)
				}
				if now := s.cookies["__Host-signet_login"]; now == old {
					t.Error("the cookie is the old one")
				}
				fixed := r.surfer(t)
				fixed.cookies["__Host-signet_login"] = old
				fixed.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
			}
			bob := r.user(t, "bob")
			s.enter(s.authorize(ask(c, "prompt", "login", "id_token_hint", first)), bob).refused(t, "login_required") // not the one that the client means
			// A login in another tab does not answer the question of this one.
			tab := s.authorize(ask(c, "prompt", "login"))
			s.enter(s.authorize(ask(c, "prompt", "login")), u).code(t)
			s.submit(tab, "username", "alice", "password", "wrong").page(t, http.StatusUnauthorized)
			if v := s.authorize(ask(c, "prompt", "login")); !strings.HasSuffix(v.action, "/login") {
				t.Errorf("reloaded, it is not asked: %d %v", v.status, v.location)
			}
		}},
		{"20 prompt=consent, select_account, and what they cannot be", func(t *testing.T, _ *backend, r *replica) {
			c, first := r.shop(t, "shop"), r.shop(t, "first", trusted)
			alice, bob, s := r.user(t, "alice"), r.user(t, "bob"), r.surfer(t)
			before := payload(t, r.redeem(t, c, s.grant(ask(c), alice).code(t)).issued(t).text("id_token"))
			s.authorize(ask(c)).code(t)
			for _, q := range []url.Values{ask(c, "prompt", "consent"), ask(first, "prompt", "consent")} {
				v := s.authorize(q)
				if !strings.HasSuffix(v.action, "/consent") {
					t.Fatalf("not asked: %d %v", v.status, v.location)
				}
				s.submit(v, "decision", "allow").code(t)
			}
			if v := s.authorize(ask(c, "prompt", "login consent")); !strings.HasSuffix(v.action, "/login") {
				t.Errorf("login consent: %q", v.action)
			} else if v = s.enter(v, alice); !strings.HasSuffix(v.action, "/consent") {
				t.Errorf("login consent: %d %v", v.status, v.location)
			} else {
				s.submit(v, "decision", "allow").code(t)
			}
			v := s.authorize(ask(c, "prompt", "select_account"))
			if !strings.HasSuffix(v.action, "/account") || !strings.Contains(v.body, "alice") {
				t.Fatalf("select_account: %q", v.heading)
			}
			s.submit(v, "decision", "continue").code(t)
			v = s.submit(s.authorize(ask(c, "prompt", "select_account")), "decision", "other")
			open := s.authorize(ask(c, "prompt", "select_account")) // a second tab, which says alice
			v = s.submit(s.enter(v, bob), "decision", "allow")
			if claims := payload(t, r.redeem(t, c, v.code(t)).issued(t).text("id_token")); claims["sub"] != bob.ID || claims["sid"] == before["sid"] {
				t.Errorf("another account: %v", claims)
			}
			if v = s.submit(open, "decision", "continue"); !strings.HasSuffix(v.action, "/account") || !strings.Contains(v.body, "bob") {
				t.Errorf("who is another by now is not asked again: %d %v", v.status, v.location)
			}
			for _, prompt := range []string{"none login", "none consent", "none select_account", "login none", "create", "None", "login,consent", "x"} {
				s.authorize(ask(c, "prompt", prompt)).refused(t, "invalid_request")
			}
		}},
		{"21 max_age", func(t *testing.T, b *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			always := r.shop(t, "always", trusted, func(c *clients.Client) { c.DefaultMaxAge = new(time.Minute) })
			first := payload(t, r.redeem(t, c, s.grant(ask(c, "max_age", "15000"), u).code(t)).issued(t).text("id_token"))
			again := payload(t, r.redeem(t, c, s.authorize(ask(c, "max_age", "10000")).code(t)).issued(t).text("id_token"))
			if again["auth_time"] != first["auth_time"] {
				t.Errorf("auth_time is %v, was %v", again["auth_time"], first["auth_time"])
			}
			s.authorize(ask(always)).code(t)
			b.Age(t, 2*time.Minute)
			s.authorize(ask(c, "prompt", "none", "max_age", "1")).refused(t, "login_required")
			s.authorize(ask(always, "prompt", "none")).refused(t, "login_required")
			s.authorize(ask(always, "prompt", "none", "max_age", "1000")).code(t) // what the request says comes first
			for _, q := range []url.Values{ask(c, "max_age", "1"), ask(c, "max_age", "0"), ask(c, "prompt", "select_account", "max_age", "0"), ask(always)} {
				v := s.authorize(q)
				if !strings.HasSuffix(v.action, "/login") {
					t.Fatalf("%v: not asked to log in: %d %v", q["max_age"], v.status, v.location)
				}
				if v = s.enter(v, u); v.location == nil || v.location.Query().Get("code") == "" {
					t.Fatalf("%v: after the login: %d %v", q["max_age"], v.status, v.location)
				}
				b.Age(t, 2*time.Minute)
			}
			for _, age := range []string{"-1", "x", "1.5", "1e3", " 1", "99999999999", "9999999999999999", "0x1"} {
				s.authorize(ask(c, "max_age", age)).refused(t, "invalid_request")
			}
		}},
		{"22 id_token_hint", func(t *testing.T, b *backend, r *replica) {
			c, another := r.shop(t, "shop", trusted), r.shop(t, "another", trusted)
			alice, bob, s := r.user(t, "alice"), r.user(t, "bob"), r.surfer(t)
			a := r.redeem(t, c, s.grant(ask(c), alice).code(t)).issued(t)
			theirs := r.redeem(t, another, r.surfer(t).grant(ask(another), bob).code(t)).issued(t).text("id_token")
			hinted := func(hint string) view { return s.authorize(ask(c, "prompt", "none", "id_token_hint", hint)) }
			hinted(a.text("id_token")).code(t)
			hinted(theirs).refused(t, "login_required")
			logout, err := r.tokens.LogoutToken(t.Context(), c, alice.ID, "x", time.Now())
			check(t, err)
			parts := strings.Split(a.text("id_token"), ".")
			for name, hint := range map[string]string{
				"garbage": "x", "an access token": a.text("access_token"), "a refresh token": a.text("refresh_token"), "a logout token": logout,
				"alg none": "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + parts[1] + ".", "another signature": parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
				"NUL": "\x00", "dots": "..",
			} {
				if v := hinted(hint); name == "NUL" {
					v.refused(t, "invalid_request")
				} else if v.refused(t, "login_required"); t.Failed() {
					t.Fatal(name)
				}
			}
			s.authorize(ask(c, "id_token_hint", "x")).code(t) // where somebody could be asked, a hint is no more than that
			v := s.authorize(ask(c, "id_token_hint", theirs))
			if !strings.HasSuffix(v.action, "/login") || strings.Contains(v.body, "alice") {
				t.Errorf("of another user: %d %v %q", v.status, v.location, v.heading)
			}
			s.enter(v, alice).refused(t, "login_required")
			v = s.enter(s.authorize(ask(c, "id_token_hint", theirs)), bob)
			v.code(t)
			b.Age(t, 40*24*time.Hour) // it has expired
			_, err = r.keys.Rotate(t.Context(), origin)
			check(t, err)
			s.enter(s.authorize(ask(c)), alice).code(t)
			hinted(a.text("id_token")).code(t)
		}},
		{"23 login_hint, locales, display and acr_values never fail a request", func(t *testing.T, _ *backend, r *replica) {
			const evil = `"><script>alert(1)</script>`
			c, s := r.shop(t, "shop"), r.surfer(t)
			for _, hint := range []string{"bob", evil, "ü", "a b", strings.Repeat("x", 1000)} {
				v := s.authorize(ask(c, "login_hint", hint))
				v.page(t, http.StatusOK)
				filled := ""
				for _, i := range elements(t, v.body, "input") {
					if i["name"] == "username" {
						filled = i["value"]
					}
				}
				if filled != hint || len(elements(t, v.body, "script")) != 1 { // the one that asks for passkeys
					t.Errorf("the name is %q, want %q", filled, hint)
				}
			}
			for _, pair := range [][2]string{
				{"ui_locales", "se"}, {"ui_locales", "xx yy de"}, {"ui_locales", evil}, {"ui_locales", strings.Repeat("de ", 300)}, {"claims_locales", "se"}, {"claims_locales", evil},
				{"display", "page"}, {"display", "popup"}, {"display", "touch"}, {"display", "wap"}, {"display", evil}, {"acr_values", "1 2"}, {"acr_values", "aal1"}, {"acr_values", evil},
			} {
				s.authorize(ask(c, pair[0], pair[1])).page(t, http.StatusOK)
			}
		}},
		{"23 login_hint of somebody else asks for them, not for who is logged in", func(t *testing.T, _ *backend, r *replica) {
			c, alice, bob, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.user(t, "bob"), r.surfer(t)
			_, err := r.users.Update(t.Context(), alice.ID, users.Change{Profile: members(t, `{"email":"ann@example.com"}`)}, origin)
			check(t, err)
			token := r.redeem(t, c, s.grant(ask(c), alice).code(t)).issued(t).text("id_token")
			for _, x := range []struct{ hint, token, name string }{
				{"bob", "", "bob"}, {"", "", "alice"}, {"Alice", "", "alice"}, {"Ann@example.com", "", "alice"}, {"bob", token, "alice"},
			} {
				v := s.authorize(ask(c, "prompt", "login", "login_hint", x.hint, "id_token_hint", x.token))
				v.page(t, http.StatusOK)
				for _, i := range elements(t, v.body, "input") {
					if i["name"] == "username" && i["value"] != x.name {
						t.Errorf("for %q the name is %q, want %q", x.hint, i["value"], x.name)
					}
				}
				if x.name == "bob" && strings.Contains(v.body, "alice") {
					t.Error("the page asks for bob, and names alice")
				}
			}
			claims := payload(t, r.redeem(t, c, s.enter(s.authorize(ask(c, "prompt", "login", "login_hint", "bob")), bob).code(t)).issued(t).text("id_token"))
			if claims["sub"] != bob.ID {
				t.Errorf("logged in: %v", claims)
			}
		}},
		{"24 request objects and registration are not supported", func(t *testing.T, _ *backend, r *replica) {
			c, s := r.shop(t, "shop"), r.surfer(t)
			s.authorize(ask(c, "request", "eyJhbGciOiJub25lIn0.e30.")).refused(t, "request_not_supported")
			s.authorize(ask(c, "request_uri", "https://evil.example.com/r")).refused(t, "request_uri_not_supported")
			s.authorize(ask(c, "registration", "{}")).refused(t, "registration_not_supported")
		}},
		{"25 claims", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"name":"Alice","email":"alice@example.com","phone_number":"+15551234567"}`)}, origin)
			check(t, err)
			s.grant(ask(c), u).code(t)
			a := r.redeem(t, c, s.authorize(ask(c, "claims", `{"userinfo":{"name":{"essential":true},"nickname":{"essential":true},"zoneinfo":null},`+
				`"id_token":{"phone_number":null,"auth_time":{"essential":true},"acr":{"essential":true,"values":["aal9","aal1"]},"x":{"value":1}},"other":[1]}`)).code(t)).issued(t)
			token := payload(t, a.text("id_token"))
			if token["phone_number"] != "+15551234567" || token["name"] != nil || token["email"] != nil || token["x"] != nil {
				t.Errorf("the ID token: %v", token)
			}
			info := r.get(t, "/userinfo", only("Authorization", "Bearer "+a.text("access_token")))
			equal(t, "userinfo", info.json, map[string]any{"sub": u.ID, "name": "Alice"})
			again := r.refresh(t, c, a.text("refresh_token")).issued(t)
			if token = payload(t, again.text("id_token")); token["phone_number"] != "+15551234567" {
				t.Errorf("after a refresh: %v", token)
			}
			s.authorize(ask(c, "claims", `{"id_token":{"sub":{"value":"`+u.ID+`"}}}`)).code(t)
			s.authorize(ask(c, "prompt", "none", "claims", `{"id_token":{"sub":{"value":"somebody else"}}}`)).refused(t, "login_required")
			s.enter(s.authorize(ask(c, "claims", `{"userinfo":{"sub":{"value":"somebody else"}}}`)), u).refused(t, "login_required")
			s.authorize(ask(c, "claims", `{"id_token":{"acr":{"essential":true,"value":"aal9"}}}`)).refused(t, "unmet_authentication_requirements")
			s.authorize(ask(c, "claims", `{"id_token":{"acr":{"value":"aal9"}}}`)).code(t) // it would be nice
			for _, odd := range []string{`{"userinfo":{"a\u0000b":null}}`, `{"id_token":{"acr":{"essential":true,"values":["aal1","\u0000"]}}}`, `{"userinfo":{"'\"\\\ud800\uffff":null}}`} {
				token := payload(t, r.redeem(t, c, s.authorize(ask(c, "claims", odd)).code(t)).issued(t).text("id_token"))
				if fmt.Sprint(token["amr"]) != "[pwd]" || token["acr"] != "aal1" || token["auth_time"] == nil {
					t.Errorf("%s: %v", odd, token)
				}
			}
			for _, claims := range []string{
				"{", "[]", "null", `"x"`, "1", "{}{}", `{"userinfo":1}`, `{"userinfo":{"name":1}}`, `{"id_token":{"sub":{"values":["a","b"]}}}`, `{"id_token":{"acr":{"essential":true,"values":[1]}}}`,
				strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9), "{}" + strings.Repeat(" ", 17<<10),
			} {
				s.authorize(ask(c, "claims", claims)).refused(t, "invalid_request")
			}
		}},
		{"26 scope", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c), u).code(t)
			for _, scope := range []string{"openid nothing", "nothing", "openid signet:admin", "openid signet:nothing", "openid  read", " openid", "openid ", "openid\tread", "openid \"", "ü"} {
				v := s.authorize(ask(c, "scope", scope))
				if v.refused(t, "invalid_scope"); strings.Contains(scope, "nothing") && (!strings.Contains(v.location.Query().Get("error_description"), "nothing") ||
					!strings.Contains(v.location.Query().Get("error_description"), "registered for the client")) {
					t.Errorf("which scope, and why, is not said: %v", v.location)
				}
			}
			for asked, want := range map[string]string{"openid": "openid", "email openid": "email openid", "read openid profile": "read openid profile", "openid openid": "openid"} {
				if got := r.redeem(t, c, s.authorize(ask(c, "scope", asked)).code(t)).issued(t).text("scope"); got != want {
					t.Errorf("asked for %q, granted %q", asked, got)
				}
			}
			code := s.authorize(ask(c, "scope", "openid read")).code(t)
			r.redeem(t, c, code, "scope", "openid write").want(t, http.StatusBadRequest, "invalid_scope") // which does not use it up
			if got := r.redeem(t, c, code, "scope", "read").issued(t); got.text("scope") != "read" || got.text("id_token") != "" {
				t.Errorf("narrowed: %s", got.body)
			}
			admin := r.shop(t, "admin", trusted, scope("openid", clients.ScopeAdmin))
			s.authorize(ask(admin, "scope", "openid signet:admin")).refused(t, "invalid_scope") // alice is none
			s.authorize(ask(admin, "scope", "")).code(t)
			boss := r.surfer(t)
			if a := r.redeem(t, admin, boss.grant(ask(admin, "scope", "openid signet:admin"), r.user(t, "boss", true)).code(t)).issued(t); a.text("scope") != "openid signet:admin" {
				t.Errorf("an admin: %s", a.body)
			}
		}},
		{"27 offline_access outlives log-out", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
			online := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
			v := s.authorize(ask(c, "scope", "openid offline_access"))
			if !strings.HasSuffix(v.action, "/consent") {
				t.Fatalf("it is not asked for: %d %v", v.status, v.location)
			}
			offline := r.redeem(t, c, s.submit(v, "decision", "allow").code(t)).issued(t)
			plain := r.redeem(t, c, s.grant(ask(c, "scope", "read"), u).code(t)).issued(t)
			once := r.shop(t, "once", trusted, grants(clients.AuthorizationCode))
			if a := r.redeem(t, once, s.grant(ask(once, "scope", "openid offline_access"), u).code(t)).issued(t); a.json["refresh_token"] != nil {
				t.Errorf("without the grant: %s", a.body)
			}
			narrow := r.shop(t, "narrow", trusted, scope("openid"))
			s.authorize(ask(narrow, "scope", "openid offline_access")).refused(t, "invalid_scope")
			s.logOut()
			r.refresh(t, c, online.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			r.dead(t, "the session of the login", c, online.text("access_token"))
			r.alive(t, "the offline session", c, offline.text("access_token"))
			r.alive(t, "a session without openid", c, plain.text("access_token"))
			if a := r.refresh(t, c, offline.text("refresh_token")).issued(t); payload(t, a.text("id_token"))["sid"] != payload(t, offline.text("id_token"))["sid"] {
				t.Errorf("refreshed: %s", a.body)
			}
			r.refresh(t, c, plain.text("refresh_token")).issued(t)
		}},
		{"28 who denies, or does not log in, is sent back with access_denied", func(t *testing.T, b *backend, r *replica) {
			c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
			denied := func(v view) {
				t.Helper()
				if v.refused(t, "access_denied"); v.location != nil && v.location.Query().Get("state") != "xyz" {
					t.Errorf("the answer is %v", v.location)
				}
			}
			denied(s.submit(s.authorize(ask(c)), "decision", "deny"))
			denied(s.submit(s.enter(s.authorize(ask(c)), u), "decision", "deny"))
			denied(s.submit(s.authorize(ask(c, "prompt", "select_account")), "decision", "deny"))
			if n := b.Int(t, `SELECT count(*) FROM consents`) + b.Int(t, `SELECT count(*) FROM authorization_codes`); n != 0 {
				t.Errorf("%d consents and codes", n)
			}
			s.authorize(ask(c, "prompt", "none")).refused(t, "consent_required")
		}},
		{"29 the consent page says who wants what and where one goes, and is asked again for more", consents},
		{"30 two tabs end each at its own client", func(t *testing.T, _ *backend, r *replica) {
			one := r.shop(t, "one")
			two := r.shop(t, "two", func(c *clients.Client) { c.RedirectURIs = []string{"https://two.example.com/cb"} })
			u, s := r.user(t, "alice"), r.surfer(t)
			tab1, tab2 := s.authorize(ask(one, "state", "1")), s.authorize(ask(two, "redirect_uri", "https://two.example.com/cb", "state", "2"))
			tab2 = s.enter(tab2, u)
			tab1 = s.enter(tab1, u)
			v2 := s.submit(tab2, "decision", "allow")
			if !strings.HasSuffix(v2.action, "/consent") { // the login is another one since
				t.Fatalf("%d %v %q", v2.status, v2.location, v2.heading)
			}
			v1, v2 := s.submit(tab1, "decision", "allow"), s.submit(v2, "decision", "allow")
			if !strings.HasPrefix(v1.location.String(), callback) || !strings.HasPrefix(v2.location.String(), "https://two.example.com/cb") ||
				v1.location.Query().Get("state") != "1" || v2.location.Query().Get("state") != "2" {
				t.Errorf("%v, %v", v1.location, v2.location)
			}
			a1 := payload(t, r.redeem(t, one, v1.code(t)).issued(t).text("id_token"))
			a2 := payload(t, r.redeem(t, two, v2.code(t), "redirect_uri", "https://two.example.com/cb").issued(t).text("id_token"))
			if a1["aud"] != "one" || a2["aud"] != "two" || a1["sid"] != a2["sid"] {
				t.Errorf("%v, %v", a1, a2)
			}
		}},
		{"30 two tabs that begin at once in a browser without cookies lose neither", restoredTabs},
		{"31 the second client needs no password; log-out is for all replicas", func(t *testing.T, b *backend, r *replica) {
			other := start(t, b)
			one, two := r.shop(t, "one", trusted), r.shop(t, "two", trusted)
			u, s := r.user(t, "alice"), r.surfer(t)
			before := s.cookies["__Host-signet_login"]
			a1 := r.redeem(t, one, s.grant(ask(one), u).code(t)).issued(t)
			if s.cookies["__Host-signet_login"] == before {
				t.Error("no new cookie at the login")
			}
			there := s.at(other)
			a2 := other.redeem(t, two, there.authorize(ask(two, "prompt", "none")).code(t)).issued(t)
			s.logOut()
			for _, rep := range []*replica{r, other} {
				rep.dead(t, "one's token", one, a1.text("access_token"))
				rep.dead(t, "two's token", two, a2.text("access_token"))
				rep.refresh(t, two, a2.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			}
			there.authorize(ask(two, "prompt", "none")).refused(t, "login_required") // with the cookie of before
		}},
		{"32 forms need their token, their browser and their page", forms},
		{"33 the redirect after a form is 303", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
			for _, v := range []view{s.grant(ask(c), u), s.grant(ask(c, "prompt", "login"), u), s.submit(s.authorize(ask(c, "prompt", "consent")), "decision", "deny")} {
				if v.status != http.StatusSeeOther || !strings.HasPrefix(v.location.String(), callback) {
					t.Errorf("%d %v", v.status, v.location)
				}
			}
			if v := s.authorize(ask(c, "prompt", "consent")); strings.Contains(v.header.Get("Content-Security-Policy"), "form-action 'self';") {
				t.Errorf("the policy keeps Chromium from the client: %q", v.header.Get("Content-Security-Policy"))
			}
		}},
		{"34 an error page shows nothing unescaped and links nowhere that the request named", func(t *testing.T, _ *backend, r *replica) {
			const evil = `https://evil.example.com/"><script>alert(1)</script><a href='javascript:alert(1)'>`
			c, s := r.shop(t, "shop"), r.surfer(t)
			for name := range ask(c, "state", evil, "nonce", evil, "login_hint", evil, "prompt", evil, "error", evil, "error_description", evil, "ui_locales", evil) {
				v := s.authorize(ask(c, "redirect_uri", evil, "state", evil, name, evil))
				v.page(t, http.StatusBadRequest)
				if strings.Contains(v.body, "evil.example.com") || len(elements(t, v.body, "script")) > 0 {
					t.Errorf("%s: %s", name, v.body)
				}
				for _, a := range elements(t, v.body, "a") {
					if !strings.HasPrefix(a["href"], "/") && !strings.HasPrefix(a["href"], "#") && !strings.HasPrefix(a["href"], issuer) {
						t.Errorf("%s: a link to %q", name, a["href"])
					}
				}
			}
		}},
		{"35 resource", func(t *testing.T, _ *backend, r *replica) {
			c := r.shop(t, "shop", trusted, audience(api, api+"/2"))
			u, s := r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c), u).code(t)
			for _, resource := range []string{"https://nowhere.example.com", api + "/", "x", api + "#f", "\x01"} {
				s.authorize(ask(c, "resource", resource)).refused(t, "invalid_target")
			}
			both := ask(c, "resource", api)
			both.Add("resource", api+"/2")
			a := r.redeem(t, c, s.authorize(both).code(t)).issued(t)
			equal(t, "aud", payload(t, a.text("access_token"))["aud"], []any{api, api + "/2"})
			code := s.authorize(both).code(t)
			r.redeem(t, c, code, "resource", "https://nowhere.example.com").want(t, http.StatusBadRequest, "invalid_target")
			a = r.redeem(t, c, code, "resource", api+"/2").issued(t)
			equal(t, "narrowed", payload(t, a.text("access_token"))["aud"], any(api+"/2"))
			code = s.authorize(ask(c, "resource", api)).code(t)
			r.redeem(t, c, code, "resource", api+"/2").want(t, http.StatusBadRequest, "invalid_target")
			many := ask(c)
			for range 21 {
				many.Add("resource", api)
			}
			s.authorize(many).refused(t, "invalid_target")
		}},
		{"36 a public client redeems with its client_id, a confidential one proves itself", func(t *testing.T, _ *backend, r *replica) {
			u, s := r.user(t, "alice"), r.surfer(t)
			confidential := r.shop(t, "shop", trusted)
			open := r.shop(t, "open", trusted, func(c *clients.Client) { c.AuthMethod = clients.None })
			code := s.grant(ask(confidential), u).code(t)
			f := form("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
			for name, a := range map[string]answer{
				"nobody":       r.do(t, r.request(t.Context(), "/token", f.Encode())),
				"by name":      r.do(t, r.request(t.Context(), "/token", f.Encode()+"&client_id=shop")),
				"wrong secret": r.do(t, r.request(t.Context(), "/token", f.Encode(), basic("shop", "wrong"))),
			} {
				if a.status != http.StatusUnauthorized && name != "nobody" || a.status == http.StatusOK {
					t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			}
			r.do(t, r.request(t.Context(), "/token", f.Encode()+"&client_id=shop&client_secret="+url.QueryEscape(confidential.Secret))).issued(t)
			f.Set("code", s.grant(ask(open), u).code(t))
			r.do(t, r.request(t.Context(), "/token", f.Encode(), basic("open", "x"))).want(t, http.StatusUnauthorized, "invalid_client")
			r.do(t, r.request(t.Context(), "/token", f.Encode()+"&client_id=open")).issued(t)
		}},
	})
}

// redeemAtOnce has the replicas redeem a code 32 times at once, and returns the answers that have tokens. The others have to be
// invalid_grant.
func redeemAtOnce(t *testing.T, replicas []*replica, c *clients.Client, code string) (won []answer) {
	t.Helper()
	body, auth := as(c, form("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier))
	var mu sync.Mutex
	var redeeming sync.WaitGroup
	for i := range 32 {
		redeeming.Go(func() {
			rep := replicas[i%len(replicas)]
			a, err := rep.try(rep.request(t.Context(), "/token", body, auth))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case a.status == http.StatusOK:
				won = append(won, a)
			case a.status != http.StatusBadRequest || a.text("error") != "invalid_grant":
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	redeeming.Wait()
	return won
}

// redirectURIs asks for many addresses that are not registered, with everything else in order and with every kind of error besides:
// nobody is ever sent there.
func redirectURIs(t *testing.T, _ *backend, r *replica) {
	const query, port, app = "https://shop.example.com/q?a=b", "https://shop.example.com:8443/cb", "com.example.app:/cb"
	c := r.shop(t, "shop", trusted, func(c *clients.Client) {
		c.ApplicationType, c.RedirectURIs = clients.Native, []string{callback, query, port, app, "https://shop.example.com"}
	})
	gone := r.shop(t, "gone")
	_, err := r.clients.SetDisabled(t.Context(), gone.ID, true, origin)
	check(t, err)
	machine := r.shop(t, "machine", func(c *clients.Client) { c.Grants, c.RedirectURIs = []clients.Grant{clients.ClientCredentials}, nil })
	u, s := r.user(t, "alice"), r.surfer(t)
	for _, uri := range c.RedirectURIs {
		if v := s.grant(ask(c, "redirect_uri", uri), u); !strings.HasPrefix(v.header.Get("Location"), uri) {
			t.Errorf("%s is registered: %d %q", uri, v.status, v.header.Get("Location"))
		}
	}
	bad := map[string]url.Values{
		"no client": ask(c, "client_id", ""), "an unknown client": ask(c, "client_id", "nobody"), "NUL in the client": ask(c, "client_id", "shop\x00"), "no text": ask(c, "client_id", "\xff"),
		"a long client": ask(c, "client_id", strings.Repeat("x", 60<<10)), "another case": ask(c, "client_id", "SHOP"), "a disabled client": ask(gone),
		"none of several": ask(c, "redirect_uri", ""), "a client without any": ask(machine), "none registered, none sent": ask(machine, "redirect_uri", ""),
	}
	s.authorize(ask(r.shop(t, "single"), "redirect_uri", "")).page(t, http.StatusBadRequest) // one is registered, but openid wants it named
	for _, name := range []string{"client_id", "redirect_uri"} {
		q := ask(c)
		q.Add(name, q.Get(name))
		bad[name+" twice"] = q
		q = ask(c)
		q.Add(name, "https://evil.example.com")
		bad[name+" and another"] = q
		q = ask(c)
		q.Add(name, "")
		bad[name+" and nothing"] = q
	}
	for _, uri := range []string{
		// another path, query, fragment
		callback + "/", callback + "x", callback + "?", callback + "?a=b", callback + "&a=b", callback + "#", callback + "#f", callback + ";x", callback + "/..", callback + "/../cb",
		callback + "/..;/", callback + "/%2e%2e", callback + "%2f..", callback + "%5c", callback + "\\", callback + "%00", callback + "\x00", callback + "%0a", callback + "\n", callback + "\r\n", callback + "\t",
		callback + " ", " " + callback, "\t" + callback, callback + "%20", callback + "%", callback + "\ufeff", callback + "\u3002", "https://shop.example.com/CB", "https://shop.example.com/c%62", "https://shop.example.com//cb",
		"https://shop.example.com/./cb", "https://shop.example.com/x/../cb", "https://shop.example.com/%2e/cb", "https://shop.example.com/cb,https://evil.example.com", "https://shop.example.com/",
		"https://shop.example.com/q", "https://shop.example.com/q?b=a", "https://shop.example.com/q?A=b", "https://shop.example.com/q?a=B", "https://shop.example.com/q?a=b&", "https://shop.example.com/q?a=b&c=d", "https://shop.example.com/q?a=%62",
		"https://shop.example.com/q?a=b#", "https://shop.example.com/q?&a=b",
		// another scheme, port, host
		"http://shop.example.com/cb", "HTTPS://shop.example.com/cb", "Https://shop.example.com/cb", "https:/shop.example.com/cb", "https:shop.example.com/cb", "https:///shop.example.com/cb", "//shop.example.com/cb",
		"/\\shop.example.com/cb", "/cb", "cb", "shop.example.com/cb", "https://shop.example.com:443/cb", "https://shop.example.com:/cb", "https://shop.example.com:8444/cb", "https://shop.example.com:08443/cb", "https://SHOP.example.com/cb",
		"https://shop.example.com./cb", "https://shop.example.com.evil.example.com/cb", "https://evil-shop.example.com/cb", "https://xshop.example.com/cb", "https://evil.example.com/cb", "https://example.com/cb", "https://a.shop.example.com/cb",
		"https://shop.example.com%2eevil.example.com/cb", "https://shop.example.com%00.evil.example.com/cb", "https://shop\u3002example.com/cb", "https://sh\u043ep.example.com/cb", "https://[::1]/cb", "https://127.0.0.1/cb",
		// a user, which parsers and browsers do not agree on
		"https://shop.example.com@evil.example.com/cb", "https://shop.example.com%2F@evil.example.com/cb", "https://shop.example.com\\@evil.example.com/cb", "https://user@shop.example.com/cb", "https://@shop.example.com/cb",
		"https://a@b@shop.example.com/cb", "https://evil.example.com#@shop.example.com/cb", "https://evil.example.com?@shop.example.com/cb", "https://evil.example.com/https://shop.example.com/cb", "https://evil.example.com\\.shop.example.com/cb",
		// other schemes
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", "\tjavascript:alert(1)", "data:text/html,x", "vbscript:x", "blob:https://shop.example.com/x", "file:///etc/passwd", "about:blank", "com.example.app:/cbx", "com.example.app://cb", "com.example.app:cb",
		"COM.example.app:/cb", "com.example.app.evil:/cb", "com.example.app:/cb?x=y", "com.example.app:/", "urn:ietf:wg:oauth:2.0:oob",
		"*", "https://*.example.com/cb", ".*", "null", "undefined", callback + "|" + query, callback + " " + query, strings.Repeat("x", 3000), callback + strings.Repeat("x", 60<<10), "\xff", "https://shop.example.com/\xff",
	} {
		bad[uri] = ask(c, "redirect_uri", uri)
	}
	for name, q := range bad {
		for _, wrong := range [][2]string{
			{"", ""}, {"prompt", "none"}, {"prompt", "wrong"}, {"scope", "wrong"}, {"response_type", "wrong"}, {"response_type", ""}, {"response_mode", "form_post"}, {"response_mode", "wrong"}, {"request", "x"},
			{"code_challenge", "wrong"}, {"claims", "{"}, {"max_age", "x"}, {"state", strings.Repeat("x", 3000)}, {"resource", "wrong"},
		} {
			if wrong[0] != "" && len(name) > 100 {
				continue
			}
			q := url.Values(cloned(q))
			if wrong[0] != "" {
				q.Set(wrong[0], wrong[1])
			}
			v := s.authorize(q)
			if v.status != http.StatusBadRequest || v.location != nil || strings.HasPrefix(v.action, "http") || len(elements(t, v.body, "meta")) > 0 && strings.Contains(strings.ToLower(v.body), "http-equiv=\"refresh\"") {
				t.Errorf("%.100q with %s=%.20s: %d, Location %v, a form to %q", name, wrong[0], wrong[1], v.status, v.location, v.action)
			}
		}
		if v := s.open(http.MethodPost, "/authorize", q.Encode()); v.location != nil || v.status != http.StatusBadRequest && v.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%.100q by POST: %d, %v", name, v.status, v.location)
		}
	}
}

func cloned(q url.Values) map[string][]string {
	m := map[string][]string{}
	for k, v := range q {
		m[k] = slices.Clone(v)
	}
	return m
}

// A code is no good after its user, client, login or consent is not what it was.
func codesAfterAChange(t *testing.T, _ *backend, r *replica) {
	for name, change := range map[string]func(t *testing.T, c *clients.Client, u users.User, s *surfer){
		"log-out": func(_ *testing.T, _ *clients.Client, _ users.User, s *surfer) {
			s.submit(s.open(http.MethodGet, "/logout", ""), "decision", "logout").page(t, http.StatusOK)
		},
		"disabled": func(t *testing.T, _ *clients.Client, u users.User, _ *surfer) {
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
			check(t, err)
		},
		"new password": func(t *testing.T, _ *clients.Client, u users.User, _ *surfer) {
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Password: new("another password")}, origin)
			check(t, err)
		},
		"logged out everywhere": func(t *testing.T, _ *clients.Client, u users.User, _ *surfer) {
			check(t, r.users.EndSessions(t.Context(), u.ID, origin))
		},
		"deleted": func(t *testing.T, _ *clients.Client, u users.User, _ *surfer) {
			check(t, r.users.Delete(t.Context(), u.ID, origin))
		},
		"consent withdrawn": func(t *testing.T, c *clients.Client, u users.User, _ *surfer) {
			ok, err := r.authorizations.Withdraw(t.Context(), u.ID, c.ID, origin)
			if check(t, err); !ok {
				t.Error("there was no consent")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, u, s := r.shop(t, strings.ReplaceAll(name, " ", "-")), r.user(t, name), r.surfer(t)
			live := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
			code := s.grant(ask(c), u).code(t)
			change(t, c, u, s)
			r.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant")
			r.dead(t, "the session of before", c, live.text("access_token"))
		})
	}
}

// The whole matrix of challenge, verifier and client (PKCE downgrade).
func verifiers(t *testing.T, _ *backend, r *replica) {
	u := r.user(t, "alice")
	optional := func(c *clients.Client) { c.OptionalPKCE = true }
	for name, c := range map[string]*clients.Client{
		"public":       r.shop(t, "public", trusted, func(c *clients.Client) { c.AuthMethod = clients.None }),
		"confidential": r.shop(t, "confidential", trusted), "optional": r.shop(t, "optional", trusted, optional),
	} {
		s := r.surfer(t)
		for what, v := range map[string]string{
			"wrong": strings.Repeat("b", 43), "missing": "", "too short": verifier[:42], "too long": strings.Repeat("a", 129), "with other characters": verifier + "!",
			"the challenge itself": challengeOf(verifier),
		} {
			code := s.grant(ask(c), u).code(t)
			r.redeem(t, c, code, "code_verifier", v).want(t, http.StatusBadRequest, "invalid_grant")
			r.redeem(t, c, code).issued(t) // it is good still
			_ = what
		}
		if name == "optional" {
			code := s.grant(ask(c, "code_challenge", "", "code_challenge_method", ""), u).code(t)
			r.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant") // a verifier without a challenge
			r.redeem(t, c, code, "code_verifier", "").issued(t)
		}
		code := s.grant(ask(c), u).code(t)
		for range 5 {
			r.redeem(t, c, code, "code_verifier", strings.Repeat("b", 43)).want(t, http.StatusBadRequest, "invalid_grant")
		}
		r.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant") // attempts are bounded
	}
}

// Consent is remembered, asked again for more, and anew when the client is not what it was; never for who can be posed as.
func consents(t *testing.T, _ *backend, r *replica) {
	c := r.shop(t, "shop", audience(api, api+"/2"))
	u, s := r.user(t, "alice"), r.surfer(t)
	asked := func(what string, q url.Values, want bool) {
		t.Helper()
		if v := s.authorize(q); strings.HasSuffix(v.action, "/consent") != want {
			t.Errorf("%s: asked: %v, want %v; %d %v", what, !want, want, v.status, v.location)
		}
	}
	s.enter(s.authorize(ask(c)), u)
	v := s.authorize(ask(c, "resource", api))
	if !strings.Contains(v.body, "shop.example.com") || !strings.Contains(v.body, api) {
		t.Errorf("the page says neither where one goes nor what it is for: %s", v.body)
	}
	s.submit(v, "decision", "deny").refused(t, "access_denied")
	asked("after a denial", ask(c, "resource", api), true)
	s.submit(s.authorize(ask(c, "resource", api)), "decision", "allow").code(t)
	asked("the same again", ask(c, "resource", api), false)
	asked("another resource", ask(c, "resource", api+"/2"), true)
	if v := s.authorize(ask(c, "resource", api+"/2")); strings.Contains(v.body, "You have allowed before") { // not there
		t.Errorf("another resource: %s", v.body)
	}
	asked("more scope", ask(c, "resource", api, "scope", "openid email"), true)
	s.submit(s.authorize(ask(c, "resource", api, "scope", "openid email")), "decision", "allow").code(t)
	asked("less scope", ask(c, "resource", api, "scope", "openid"), false)

	changed := *c
	changed.Secret, changed.RedirectURIs = "", append(slices.Clone(c.RedirectURIs), "https://shop.example.com/other")
	_, err := r.clients.Update(t.Context(), changed, origin)
	check(t, err)
	asked("other redirect URIs", ask(c, "resource", api), true)
	s.submit(s.authorize(ask(c, "resource", api)), "decision", "allow").code(t)
	for _, disabled := range []bool{true, false} {
		_, err := r.clients.SetDisabled(t.Context(), c.ID, disabled, origin)
		check(t, err)
	}
	time.Sleep(clients.Staleness) // the client is cached for that long
	asked("disabled and enabled", ask(c, "resource", api), true)

	for _, uri := range []string{"http://127.0.0.1/cb", "com.example.app:/cb"} {
		app := r.shop(t, fmt.Sprintf("native-%.4s", uri), func(c *clients.Client) {
			c.ApplicationType, c.RedirectURIs, c.AuthMethod = clients.Native, []string{uri}, clients.None
		})
		for range 2 {
			v := s.authorize(ask(app, "redirect_uri", uri))
			if !strings.HasSuffix(v.action, "/consent") {
				t.Fatalf("%s: not asked: %d %v", uri, v.status, v.location)
			}
			s.submit(v, "decision", "allow").code(t)
		}
	}
}

// Forms without their token, of another browser, from another origin, of another page, or changed do nothing.
// restoredTabs are what a browser opens when it starts: none of them has a cookie to bring, and the one that is answered last gives it its own.
func restoredTabs(t *testing.T, _ *backend, r *replica) {
	one, two, u := r.shop(t, "one"), r.shop(t, "two"), r.user(t, "alice")
	both := func() (*surfer, view, view) {
		s := r.surfer(t)
		tab1 := s.authorize(ask(one, "state", "1"))
		clear(s.cookies)
		return s, tab1, s.authorize(ask(two, "state", "2"))
	}
	arrives := func(s *surfer, v view, state string) {
		t.Helper()
		if strings.HasSuffix(v.action, "/consent") {
			v = s.submit(v, "decision", "allow")
		}
		if v.code(t); v.location.Query().Get("state") != state {
			t.Errorf("to %v", v.location)
		}
	}
	s, tab1, tab2 := both()
	again := s.enter(tab1, u)
	if again.page(t, http.StatusBadRequest); !strings.Contains(again.body, "Please sign in here again.") || s.cookies["__Host-signet_login"] != "" {
		t.Errorf("the earlier tab: %s", again.body)
	}
	arrives(s, s.enter(again, u), "1")
	arrives(s, s.enter(tab2, u), "2")

	s, tab1, tab2 = both()
	arrives(s, s.enter(tab2, u), "2")
	known := s.enter(tab1, u) // what was typed counts for nothing
	known.page(t, http.StatusBadRequest)
	arrives(s, s.submit(known, "decision", "continue"), "1")

	s, tab1, _ = both()
	s.submit(tab1, "decision", "deny").page(t, http.StatusBadRequest)
	tab1.hidden.Set("anew", tab1.hidden.Get("request"))
	s.enter(tab1, u).page(t, http.StatusBadRequest)
	if v := s.authorize(ask(one)); v.hidden.Has("anew") {
		t.Error("a browser that is told from others could begin in any")
	}
	s = r.surfer(t)
	if v := s.authorize(url.Values{"client_id": {one.ID}, "request_uri": {r.push(t, one, ask(one))}}); !v.hidden.Has("request") || v.hidden.Has("anew") {
		t.Error("a pushed request, which is one browser's, could begin in any")
	}
}

func forms(t *testing.T, _ *backend, r *replica) {
	c, u := r.shop(t, "shop"), r.user(t, "alice")
	s, thief := r.surfer(t), r.surfer(t)
	login := s.authorize(ask(c))
	thief.authorize(ask(c))
	good := func(v view) url.Values {
		return url.Values{"request": v.hidden["request"], "username": {u.Username}, "password": {password}}
	}
	refused := func(what string, who *surfer, path string, f url.Values, status int, more ...option) {
		t.Helper()
		v := who.open(http.MethodPost, path, f.Encode(), more...)
		v.page(t, status)
		if who.cookies["__Host-signet_login"] != "" {
			t.Errorf("%s: logged in", what)
		}
	}
	refused("no token", s, "/login", url.Values{"username": {u.Username}, "password": {password}}, http.StatusBadRequest)
	refused("another browser", thief, "/login", good(login), http.StatusBadRequest)
	refused("another page", s, "/consent", good(login), http.StatusBadRequest)
	refused("another site", s, "/login", good(login), http.StatusForbidden, header("Sec-Fetch-Site", "cross-site"))
	refused("a sibling", s, "/login", good(login), http.StatusForbidden, header("Sec-Fetch-Site", "same-site"))
	refused("another origin", s, "/login", good(login), http.StatusForbidden, header("Origin", "https://evil.example.com"))
	sealed := login.hidden.Get("request")
	for i := 0; i < len(sealed); i += 7 {
		spoilt := []byte(sealed)
		spoilt[i] ^= 1
		f := good(login)
		f.Set("request", string(spoilt))
		refused("a spoilt token", s, "/login", f, http.StatusBadRequest)
	}
	nothing := r.surfer(t)
	v := nothing.open(http.MethodPost, "/login", good(login).Encode())
	v.page(t, http.StatusBadRequest)
	if v.heading != "Cookies are needed" {
		t.Errorf("without cookies: %q", v.heading)
	}
	for _, wrong := range [][2]string{{"alice", "wrong"}, {"nobody", password}, {"", ""}, {"alice\x00", password}, {strings.Repeat("x", 2000), password}} {
		v := s.submit(login, "username", wrong[0], "password", wrong[1])
		v.page(t, http.StatusUnauthorized)
		if !strings.Contains(v.body, "The username or the password is wrong.") {
			t.Errorf("%q: %s", wrong, v.body)
		}
		login = v
	}
	consent := s.enter(login, u)
	refused("consent in another browser", thief, "/consent", url.Values{"request": consent.hidden["request"], "decision": {"allow"}}, http.StatusBadRequest)
	s.open(http.MethodPost, "/consent", url.Values{"request": consent.hidden["request"], "decision": {"maybe"}}.Encode()).page(t, http.StatusBadRequest)
	tampered := s.submit(consent, "decision", "allow", "scope", "openid write", "redirect_uri", "https://evil.example.com", "client_id", "other")
	if tampered.location == nil || !strings.HasPrefix(tampered.location.String(), callback+"?code=") {
		t.Errorf("the form's own fields count: %v", tampered.location)
	}
	if a := r.redeem(t, c, tampered.code(t)).issued(t); a.text("scope") != "openid" {
		t.Errorf("the scope is %q", a.text("scope"))
	}
	// A login that ended while the question was open: it begins anew.
	open := s.authorize(ask(c, "scope", "openid read"))
	s.submit(s.open(http.MethodGet, "/logout", ""), "decision", "logout")
	if v := s.submit(open, "decision", "allow"); !strings.HasSuffix(v.action, "/login") {
		t.Errorf("after the log-out: %d %v %q", v.status, v.location, v.heading)
	}
	two := r.surfer(t)
	two.enter(two.authorize(ask(c)), u)
	v = two.open(http.MethodGet, "/authorize?"+ask(c, "prompt", "none").Encode(), "", header("Cookie", "__Host-signet_login=sgl_x"))
	v.refused(t, "login_required") // of two cookies by one name, neither counts
}

// The modes of the answer; what is shown is escaped, and pages have the headers that keep them from harm.
// A semicolon is a character like others, as RFC 3986 and the URL standard have it; a % that begins no escape is told to the client, if that and
// its redirect URI can be read.
func TestCharactersThatAreNotEncoded(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const odd = "https://shop.example.com/cb;v=1"
		c := r.shop(t, "shop", trusted, func(c *clients.Client) { c.RedirectURIs = []string{callback, odd} })
		single, u, s := r.shop(t, "single", trusted), r.user(t, "alice"), r.surfer(t)
		s.grant(ask(c), u).code(t)
		send := func(byPost bool, query string) view {
			t.Helper()
			if byPost {
				return s.open(http.MethodPost, "/authorize", query)
			}
			return s.open(http.MethodGet, "/authorize?"+query, "")
		}
		for _, byPost := range []bool{false, true} {
			good := ask(c, "state", "", "redirect_uri", "").Encode()
			here := good + "&redirect_uri=" + url.QueryEscape(callback)
			v := send(byPost, here+"&state=a;b&foo=1;bar=2;")
			if v.code(t); v.location.Query().Get("state") != "a;b" {
				t.Errorf("sent to %v", v.location)
			}
			if v := send(byPost, good+"&redirect_uri="+odd); !strings.HasPrefix(v.header.Get("Location"), odd+"?code=") {
				t.Errorf("sent to %v", v.location)
			}
			for _, bad := range []string{"&foo=%", "&foo=%zz", "&%zz", "&scope=%4", "&code_challenge=%%41"} {
				v := send(byPost, here+"&state=x;y"+bad)
				if v.refused(t, "invalid_request"); v.location == nil || v.location.Query().Get("state") != "x;y" {
					t.Errorf("%s: sent to %v", bad, v.location)
				}
			}
			v = send(byPost, here+"&state=%zz%20a")
			if v.refused(t, "invalid_request"); v.location == nil || v.location.Query().Get("state") != "%zz a" {
				t.Errorf("sent to %v", v.location)
			}
			for _, bad := range []string{good + "&redirect_uri=" + odd + "%", "client_id=sho%zz&redirect_uri=" + url.QueryEscape(callback), here + "&redirect_uri=%zz", "client_id=" + single.ID + "&redirect_uri=%zz"} {
				send(byPost, bad).page(t, http.StatusBadRequest)
			}
		}
		// Who has no cookie yet is not sent on with what was sent in another way.
		if v := r.surfer(t).open(http.MethodPost, "/authorize", ask(c).Encode()+"&foo=%zz", header("Sec-Fetch-Site", "cross-site")); v.location == nil || v.location.Query().Get("error") != "invalid_request" {
			t.Errorf("%d, %v", v.status, v.location)
		}
		s.open(http.MethodGet, "/logout?state=a;b&client_id="+c.ID, "").page(t, http.StatusOK)
		s.open(http.MethodGet, "/logout?state=%zz", "").page(t, http.StatusBadRequest)
	})
}

func TestAnswersAndPages(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const evil = `"><script>alert(1)</script>`
		c := r.shop(t, "shop", func(c *clients.Client) {
			c.Name, c.RedirectURIs = "Shop "+evil, []string{"https://shop.example.com/cb?a=b"}
		})
		u, s := r.user(t, "alice"), r.surfer(t)
		check(t, ignore(r.clients.DescribeScope(t.Context(), "read", "Read "+evil, origin)))
		q := func(pairs ...string) url.Values {
			return ask(c, append([]string{"redirect_uri", "https://shop.example.com/cb?a=b", "scope", "openid read"}, pairs...)...)
		}
		login := s.authorize(q("login_hint", evil))
		consent := s.enter(login, u)
		fragment := s.submit(consent, "decision", "allow")
		if !strings.HasPrefix(fragment.header.Get("Location"), "https://shop.example.com/cb?a=b&code=") {
			t.Errorf("the registered query: %q", fragment.header.Get("Location"))
		}
		fragment = s.authorize(q("response_mode", "fragment"))
		if l := fragment.header.Get("Location"); !strings.HasPrefix(l, "https://shop.example.com/cb?a=b#code=") {
			t.Errorf("fragment: %q", l)
		}
		post := s.authorize(q("response_mode", "form_post", "state", evil))
		post.page(t, http.StatusOK)
		if post.action != "https://shop.example.com/cb?a=b" || post.hidden.Get("state") != evil || post.hidden.Get("code") == "" || post.hidden.Get("iss") != issuer {
			t.Errorf("form_post: %q %v", post.action, post.hidden)
		}
		if policy := post.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action https://shop.example.com https: http:;") || !strings.Contains(policy, "script-src 'self'") {
			t.Errorf("form_post: %q", policy)
		}
		failed := s.authorize(ask(c, "redirect_uri", "https://evil.example.com/"+evil))
		for name, v := range map[string]view{"login": login, "consent": consent, "form_post": post, "error": failed} {
			for _, e := range elements(t, v.body, "*") {
				own := name == "form_post" || name == "login" && strings.HasSuffix(e["src"], "/passkey.js") && e["text"] == ""
				if e[""] == "script" && !own || strings.Contains(e["href"], "evil") {
					t.Errorf("%s: %v", name, e)
				}
				for attr := range e {
					if strings.HasPrefix(attr, "on") || attr == "style" {
						t.Errorf("%s: %v", name, e)
					}
				}
			}
			h := v.header
			policy := h.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") ||
				h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %v", name, h)
			}
		}
		for accept, lang := range map[string]string{"de-AT,de;q=0.9": "de", "fr": "fr", "zh-CN": "zh", "es-MX": "es", "xx": "en", "": "en",
			"de-DE,de;q=0.9,xx;q=0.1": "de", "xx, fr;q=0.5, de;q=0.8": "de", "en;q=0, fr;q=x, *;q=0.1, de;q=0.2": "de", ",;,de": "de", "de;q=0.5,fr;q=NaN": "de"} {
			german := r.surfer(t)
			german.headers["Accept-Language"] = accept
			if v := german.authorize(q()); v.header.Get("Content-Language") != lang || !strings.Contains(v.body, `<html lang="`+lang+`"`) {
				t.Errorf("%q: %q", accept, v.header.Get("Content-Language"))
			}
		}
		if v := r.surfer(t).authorize(q("ui_locales", "se de")); v.header.Get("Content-Language") != "de" {
			t.Errorf("ui_locales: %q", v.header.Get("Content-Language"))
		}
		for _, prompt := range []string{"", "wrong"} { // a code, an error
			if v := s.authorize(q("ui_locales", "se de", "response_mode", "form_post", "prompt", prompt)); v.header.Get("Content-Language") != "de" {
				t.Errorf("ui_locales of a form_post: %q", v.header.Get("Content-Language"))
			}
		}
		if v := s.open(http.MethodHead, "/authorize?"+q().Encode(), ""); v.location != nil {
			t.Error("HEAD has an effect")
		}
		again := s.open(http.MethodPost, "/authorize", q().Encode())
		again.code(t)
		cross := r.surfer(t).open(http.MethodPost, "/authorize", q().Encode(), header("Sec-Fetch-Site", "cross-site"))
		if cross.status != http.StatusSeeOther || !strings.HasPrefix(cross.location.String(), issuer+"/authorize?") {
			t.Errorf("a POST from another site, which brings no cookies along: %d %v", cross.status, cross.location)
		}
	})
}

// What a request may hold, the forms of the pages can carry, whatever the characters.
func TestTheLongestRequestFitsIntoTheForms(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop"), r.user(t, "alice")
		for _, text := range []string{"x", "<"} {
			s, long := r.surfer(t), func(n int) string { return strings.Repeat(text, n) }
			v := s.open(http.MethodPost, "/authorize", ask(c, "scope", "openid profile", "state", long(2<<10), "nonce", long(1<<10), "login_hint", long(1<<10),
				"ui_locales", long(1<<10), "acr_values", long(1<<10), "claims", `{"userinfo":{"`+long(8<<10)+`":null}}`).Encode())
			v = s.enter(v, u)
			if strings.HasSuffix(v.action, "/consent") {
				v = s.submit(v, "decision", "allow")
			}
			if a := r.redeem(t, c, v.code(t)).issued(t); payload(t, a.text("id_token"))["nonce"] != long(1<<10) || v.location.Query().Get("state") != long(2<<10) {
				t.Errorf("%s: the state or the nonce is another", text)
			}
		}
	})
}

// A phone puts a space behind a name that it completes.
func TestSpacesAroundAUsernameDoNotMatter(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		u.Username = " Alice\t "
		s.enter(s.authorize(ask(c)), u).code(t)
	})
}

// Login by browser is throttled like any other.
func TestBrowserLoginIsThrottled(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		v := s.authorize(ask(c))
		for i := range 3 {
			v = s.submit(v, "username", "alice", "password", fmt.Sprint("wrong ", i))
			v.page(t, http.StatusUnauthorized)
		}
		v = s.enter(v, u)
		v.page(t, http.StatusTooManyRequests)
		if v.header.Get("Retry-After") == "" || !strings.Contains(v.body, "Too many attempts") {
			t.Errorf("%v %s", v.header, v.body)
		}
	}, func(set *settings) { set.maxFailures = 3 })
}

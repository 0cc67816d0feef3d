package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/users"
)

// A login with every optional parameter left out succeeds; one with all of them, and with unknown ones, succeeds too. State comes
// back byte for byte, and iss is in every answer.
func TestAuthorize(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.shop(t, "shop")
		u := r.user(t, "alice")
		s := r.surfer(t)
		v := s.authorize(ask(c, "scope", "", "state", "", "redirect_uri", ""))
		v.page(t, http.StatusOK)
		before := s.cookies["__Host-signet_login"]
		v = s.enter(v, u)
		v.page(t, http.StatusOK)
		if v.heading != "App shop asks for access" || s.cookies["__Host-signet_login"] == before {
			t.Errorf("after the login: %q", v.heading)
		}
		v = s.submit(v, "decision", "allow")
		if q := v.location.Query(); q.Has("state") || q.Get("iss") != issuer || len(q) != 2 {
			t.Errorf("the answer is %v", v.location)
		}
		a := r.redeem(t, c, v.code(t), "redirect_uri", "").issued(t)
		if a.text("refresh_token") == "" || a.text("id_token") == "" || a.text("scope") != "openid profile email phone groups offline_access read write" {
			t.Errorf("tokens: %s", a.body)
		}
		for _, state := range []string{"", " ", "a b&c=d+e%20", "ü€𝄞", "\x00\x01\xff\n\r\t\"'<>\\", strings.Repeat("x", 1024)} {
			q := ask(c, "state", state, "nonce", "n", "display", "popup", "acr_values", "1 2", "ui_locales", "se de", "claims_locales", "se", "login_hint", "bob",
				"unknown", "1", "claims", `{"userinfo":{"name":{"essential":true}}}`, "max_age", "10000", "response_mode", "query")
			got := s.authorize(q)
			got.code(t)
			if got.location.Query().Get("state") != state || got.location.Query().Has("state") != (state != "") {
				t.Errorf("the state %q came back as %q", state, got.location.Query().Get("state"))
			}
			q.Set("response_type", "token")
			if got = s.authorize(q); got.location.Query().Get("state") != state {
				t.Errorf("with an error, the state %q came back as %q", state, got.location.Query().Get("state"))
			}
			got.refused(t, "unsupported_response_type")
		}
	})
}

// Whatever is wrong with the client or the redirect URI: a page, no redirect, also where all else is wrong as well.
func TestAuthorizeNeverRedirectsElsewhere(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.shop(t, "shop", func(c *clients.Client) { c.RedirectURIs = append(c.RedirectURIs, "https://shop.example.com/q?a=b") })
		gone := r.shop(t, "gone")
		_, err := r.clients.SetDisabled(t.Context(), gone.ID, true, origin)
		check(t, err)
		s := r.surfer(t)
		bad := []url.Values{
			ask(c, "client_id", ""), ask(c, "client_id", "nobody"), ask(c, "client_id", "shop\x00"), ask(gone), ask(c, "redirect_uri", ""),
		}
		for _, uri := range []string{
			callback + "/", callback + "x", callback + "?", callback + "?a=b", callback + "#f", "http://shop.example.com/cb", "HTTPS://shop.example.com/cb",
			"https://SHOP.example.com/cb", "https://shop.example.com:443/cb", "https://shop.example.com./cb", "https://shop.example.com@evil.example.com/cb",
			"https://evil.example.com/https://shop.example.com/cb", "https://shop.example.com/../cb", "https://shop.example.com/%2e%2e/cb", "https://shop.example.com/c%62",
			"https://shop.example.com\\@evil.example.com/cb", "https://shop.example.com/cb\\", "//shop.example.com/cb", "https:shop.example.com/cb", " " + callback, callback + " ",
			callback + "\x00", callback + "\n", "https://shop.example.com/CB", "https://shop.example.com/q?b=a", "https://shop.example.com/q", "javascript:alert(1)", "data:text/html,x",
			strings.Repeat("x", 3000),
		} {
			bad = append(bad, ask(c, "redirect_uri", uri))
		}
		for _, name := range []string{"client_id", "redirect_uri"} {
			q := ask(c)
			q.Add(name, q.Get(name))
			bad = append(bad, q)
		}
		for _, q := range bad {
			for _, wrong := range []string{"", "prompt", "scope", "response_type"} {
				q := url.Values(cloned(q))
				if wrong != "" {
					q.Set(wrong, "wrong")
				}
				v := s.authorize(q)
				v.page(t, http.StatusBadRequest)
				if v = s.open(http.MethodPost, "/authorize", q.Encode()); v.location != nil || v.status != http.StatusBadRequest {
					t.Errorf("by POST: %d, %v", v.status, v.location)
				}
			}
		}
	})
}

func cloned(q url.Values) map[string][]string {
	m := map[string][]string{}
	for k, v := range q {
		m[k] = slices.Clone(v)
	}
	return m
}

// What else is wrong goes back to the client.
func TestAuthorizeErrors(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.shop(t, "shop")
		confidential := r.shop(t, "old", func(c *clients.Client) { c.OptionalPKCE = true })
		machine := r.shop(t, "machine", func(c *clients.Client) { c.Grants = []clients.Grant{clients.ClientCredentials} })
		s := r.surfer(t)
		long := strings.Repeat("x", 17<<10)
		for name, test := range map[string]struct {
			q    url.Values
			code string
		}{
			"response_type missing":           {ask(c, "response_type", ""), "invalid_request"},
			"response_type token":             {ask(c, "response_type", "token"), "unsupported_response_type"},
			"response_type id_token":          {ask(c, "response_type", "id_token"), "unsupported_response_type"},
			"response_type code token":        {ask(c, "response_type", "code token"), "unsupported_response_type"},
			"response_type none":              {ask(c, "response_type", "none"), "unsupported_response_type"},
			"response_mode unknown":           {ask(c, "response_mode", "web_message"), "invalid_request"},
			"challenge missing":               {ask(c, "code_challenge", "", "code_challenge_method", ""), "invalid_request"},
			"challenge without a method":      {ask(c, "code_challenge_method", ""), "invalid_request"},
			"method without a challenge":      {ask(c, "code_challenge", ""), "invalid_request"},
			"method without one, optional":    {ask(confidential, "code_challenge", ""), "invalid_request"},
			"challenge plain":                 {ask(c, "code_challenge", verifier, "code_challenge_method", "plain"), "invalid_request"},
			"challenge s256":                  {ask(c, "code_challenge_method", "s256"), "invalid_request"},
			"challenge S512":                  {ask(c, "code_challenge_method", "S512"), "invalid_request"},
			"challenge of 42 characters":      {ask(c, "code_challenge", challengeOf(verifier)[:42]), "invalid_request"},
			"challenge of 44 characters":      {ask(c, "code_challenge", challengeOf(verifier)+"A"), "invalid_request"},
			"challenge of 129 characters":     {ask(c, "code_challenge", strings.Repeat("A", 129)), "invalid_request"},
			"challenge padded":                {ask(c, "code_challenge", challengeOf(verifier)[:42]+"="), "invalid_request"},
			"challenge in standard base64":    {ask(c, "code_challenge", strings.Repeat("+", 43)), "invalid_request"},
			"scope unknown":                   {ask(c, "scope", "openid nothing"), "invalid_scope"},
			"scope malformed":                 {ask(c, "scope", "openid  read"), "invalid_scope"},
			"resource unknown":                {ask(c, "resource", "https://nowhere.example.com"), "invalid_target"},
			"prompt unknown":                  {ask(c, "prompt", "create"), "invalid_request"},
			"prompt none with another":        {ask(c, "prompt", "none login"), "invalid_request"},
			"prompt none, nobody logged in":   {ask(c, "prompt", "none"), "login_required"},
			"max_age negative":                {ask(c, "max_age", "-1"), "invalid_request"},
			"max_age no number":               {ask(c, "max_age", "x"), "invalid_request"},
			"max_age huge":                    {ask(c, "max_age", "99999999999"), "invalid_request"},
			"claims no JSON":                  {ask(c, "claims", "{"), "invalid_request"},
			"claims no object":                {ask(c, "claims", "[]"), "invalid_request"},
			"claims deep":                     {ask(c, "claims", strings.Repeat(`{"a":`, 9)+"1"+strings.Repeat("}", 9)), "invalid_request"},
			"request object":                  {ask(c, "request", "eyJhbGciOiJub25lIn0.e30."), "request_not_supported"},
			"request_uri of elsewhere":        {ask(c, "request_uri", "https://evil.example.com/r"), "request_uri_not_supported"},
			"registration":                    {ask(c, "registration", "{}"), "registration_not_supported"},
			"a client without the grant":      {ask(machine), "unauthorized_client"},
			"state too long":                  {ask(c, "state", long), "invalid_request"},
			"nonce too long":                  {ask(c, "nonce", long), "invalid_request"},
			"scope too long":                  {ask(c, "scope", long), "invalid_request"},
			"a parameter that is no text":     {ask(c, "nonce", "\xff"), "invalid_request"},
			"form_post and a state of bytes":  {ask(c, "response_mode", "form_post", "state", "\xff"), "invalid_request"},
			"signet:admin is not registered":  {ask(c, "scope", "openid signet:admin"), "invalid_scope"},
			"id_token_hint garbage with none": {ask(c, "prompt", "none", "id_token_hint", "x"), "login_required"},
		} {
			t.Run(name, func(t *testing.T) { s.authorize(test.q).refused(t, test.code) })
		}
		for name := range ask(c, "nonce", "n", "prompt", "login", "max_age", "1", "claims", "{}", "login_hint", "x", "response_mode", "query") {
			if name != "client_id" && name != "redirect_uri" {
				q := ask(c, "nonce", "n", "prompt", "login", "max_age", "1", "claims", "{}", "login_hint", "x", "response_mode", "query")
				q.Add(name, q.Get(name))
				s.authorize(q).refused(t, "invalid_request")
			}
		}
		if v := s.authorize(ask(c, "scope", "openid nothing")); !strings.Contains(v.location.Query().Get("error_description"), "nothing") {
			t.Errorf("which scope is not said: %v", v.location)
		}
		s.authorize(ask(confidential, "code_challenge", "", "code_challenge_method", "")).page(t, http.StatusOK)
		s.open(http.MethodGet, "/authorize?client_id=%zz", "").page(t, http.StatusBadRequest)
	})
}

// The whole matrix of challenge, verifier and client (PKCE downgrade).
func TestPKCE(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
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
	})
}

// A code is good once, for a minute, for its client, with its redirect URI.
func TestCode(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c, another := r.shop(t, "shop", trusted), r.shop(t, "another", trusted)
		u := r.user(t, "alice")
		s := r.surfer(t)

		code := s.grant(ask(c), u).code(t)
		if !strings.HasPrefix(code, "sgc_") || len(code) < 70 {
			t.Errorf("the code is %q", code)
		}
		for i := range code {
			spoilt := []byte(code)
			spoilt[i] ^= 1
			r.redeem(t, c, string(spoilt)).want(t, http.StatusBadRequest, "invalid_grant")
		}
		r.redeem(t, another, code).want(t, http.StatusBadRequest, "invalid_grant")
		r.redeem(t, c, code, "redirect_uri", callback+"/").want(t, http.StatusBadRequest, "invalid_grant")
		r.redeem(t, c, code, "redirect_uri", "").want(t, http.StatusBadRequest, "invalid_grant")
		r.redeem(t, c, code, "scope", "openid write").want(t, http.StatusBadRequest, "invalid_scope")
		r.redeem(t, c, code, "resource", api).want(t, http.StatusBadRequest, "invalid_target")
		first := r.redeem(t, c, code).issued(t)
		r.alive(t, "the access token", c, first.text("access_token"))
		r.redeem(t, another, code).want(t, http.StatusBadRequest, "invalid_grant")
		r.alive(t, "after another client's attempt", c, first.text("access_token"))
		other.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant")
		r.dead(t, "after the code came again", c, first.text("access_token"))
		r.refresh(t, c, first.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		if n := len(r.events(t, audit.CodeReused)); n != 1 {
			t.Errorf("%d events, want 1", n)
		}

		late := s.grant(ask(c), u).code(t)
		b.Age(t, 62*time.Second)
		r.redeem(t, c, late).want(t, http.StatusBadRequest, "invalid_grant")

		// 32 uses at once, on two replicas: one wins, and its tokens die with the second use.
		raced := s.grant(ask(c), u).code(t)
		var won atomic.Int64
		var token atomic.Value
		var working sync.WaitGroup
		body, auth := as(c, form("grant_type", "authorization_code", "code", raced, "redirect_uri", callback, "code_verifier", verifier))
		for i := range 32 {
			working.Go(func() {
				rep := []*replica{r, other}[i%2]
				a, err := rep.try(rep.request(t.Context(), "/token", body, auth))
				switch {
				case err != nil:
					t.Error(err)
				case a.status == http.StatusOK:
					won.Add(1)
					token.Store(a.text("access_token"))
				case a.text("error") != "invalid_grant":
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		working.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d won", won.Load())
		}
		r.dead(t, "the winner's token", c, token.Load().(string))
	})
}

// A code is no good after its user, client, login or consent is not what it was.
func TestCodeAfterAChange(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
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
	})
}

// prompt, max_age and id_token_hint, as conformance profiles have them.
func TestPrompts(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.shop(t, "shop")
		alice, bob := r.user(t, "alice"), r.user(t, "bob")
		s := r.surfer(t)
		first := r.redeem(t, c, s.grant(ask(c), alice).code(t)).issued(t)
		before := payload(t, first.text("id_token"))
		authTime := func(v view) float64 {
			t.Helper()
			claims := payload(t, r.redeem(t, c, v.code(t)).issued(t).text("id_token"))
			if claims["sub"] != alice.ID || claims["sid"] != before["sid"] {
				t.Errorf("another user, or another login: %v", claims)
			}
			return claims["auth_time"].(float64)
		}
		age := func(d time.Duration) { t.Helper(); b.Age(t, d) }

		if at := authTime(s.authorize(ask(c, "prompt", "none"))); at != before["auth_time"] {
			t.Errorf("prompt=none: auth_time %v, was %v", at, before["auth_time"])
		}
		s.authorize(ask(c, "prompt", "none", "scope", "openid read")).refused(t, "consent_required")
		if v := s.authorize(ask(c, "scope", "openid read")); v.heading != "App shop asks for access" || strings.Count(v.body, "<li>") != 2 {
			t.Errorf("more scope: %q", v.heading)
		}
		s.authorize(ask(c, "prompt", "none", "id_token_hint", first.text("id_token"))).code(t)
		age(2 * time.Hour) // the ID token has expired
		s.authorize(ask(c, "prompt", "none", "id_token_hint", first.text("id_token"))).code(t)
		s.authorize(ask(c, "prompt", "none", "max_age", "1")).refused(t, "login_required")
		s.authorize(ask(c, "max_age", "10000")).code(t)
		for _, q := range []url.Values{ask(c, "prompt", "login"), ask(c, "max_age", "1"), ask(c, "max_age", "0")} {
			v := s.authorize(q)
			v.page(t, http.StatusOK)
			if !strings.HasSuffix(v.action, "/login") {
				t.Fatalf("not asked to log in: %q", v.heading)
			}
			old := s.cookies["__Host-signet_login"]
			v = s.enter(v, alice)
			if at := authTime(v); at < before["auth_time"].(float64) { // the one before is hours older by now
				t.Errorf("%v: auth_time %v is not that of the new login", q, at)
			}
			if now := s.cookies["__Host-signet_login"]; now == old {
				t.Error("the cookie stays the same over a login")
			} else {
				fixed := r.surfer(t)
				fixed.cookies["__Host-signet_login"] = old
				fixed.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
			}
			age(2 * time.Second)
		}
		if v := s.authorize(ask(c, "prompt", "consent")); !strings.HasSuffix(v.action, "/consent") {
			t.Errorf("prompt=consent does not ask: %q", v.heading)
		}
		v := s.authorize(ask(c, "prompt", "select_account"))
		if !strings.HasSuffix(v.action, "/account") || !strings.Contains(v.body, "alice") {
			t.Fatalf("prompt=select_account: %q", v.heading)
		}
		s.submit(v, "decision", "continue").code(t)
		v = s.submit(s.authorize(ask(c, "prompt", "select_account")), "decision", "other")
		v = s.submit(s.enter(v, bob), "decision", "allow")
		if claims := payload(t, r.redeem(t, c, v.code(t)).issued(t).text("id_token")); claims["sub"] != bob.ID || claims["sid"] == before["sid"] {
			t.Errorf("another account: %v", claims)
		}
		s.authorize(ask(c, "prompt", "none", "id_token_hint", first.text("id_token"))).refused(t, "login_required")
		v = s.authorize(ask(c, "id_token_hint", first.text("id_token")))
		s.enter(v, bob).refused(t, "login_required") // it is not the one that the client means
		s.authorize(ask(c, "prompt", "none", "claims", `{"id_token":{"sub":{"value":"`+alice.ID+`"}}}`)).refused(t, "login_required")
		s.authorize(ask(c, "prompt", "none", "claims", `{"id_token":{"sub":{"value":"`+bob.ID+`"}}}`)).code(t)
	})
}

// Consent is remembered, asked again for more, and anew when the client is not what it was; never for who can be posed as.
func TestConsent(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
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
		loopback := r.shop(t, "loopback", trusted, func(c *clients.Client) {
			c.ApplicationType, c.RedirectURIs = clients.Native, []string{"http://127.0.0.1/cb", "http://[::1]:1/cb", "http://localhost/cb"}
		})
		for uri, good := range map[string]bool{
			"http://127.0.0.1:51004/cb": true, "http://[::1]:51004/cb": true, "http://localhost:51004/cb": true, "http://127.0.0.1/cb": true,
			"http://127.0.0.1:51004/cbx": false, "http://127.0.0.1.evil.example.com/cb": false, "http://localhost.evil.example.com/cb": false,
			"http://127.0.0.2:51004/cb": false, "https://127.0.0.1:51004/cb": false, "http://127.0.0.1:51004/cb?x=y": false, "http://127.0.0.1:x/cb": false,
			"http://127.0.0.1@evil.example.com/cb": false,
		} {
			if v := s.authorize(ask(loopback, "redirect_uri", uri)); (v.location != nil) != good {
				t.Errorf("%s: %d %v", uri, v.status, v.location)
			}
		}
	})
}

// Forms without their token, of another browser, from another origin, of another page, or changed do nothing.
func TestForms(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
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
	})
}

// Two authorizations in two tabs of one browser end each at its own client with its own code; the second client needs no password.
func TestSingleSignOn(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		one := r.shop(t, "one", trusted)
		two := r.shop(t, "two", trusted, func(c *clients.Client) { c.RedirectURIs = []string{"https://two.example.com/cb"} })
		u, s := r.user(t, "alice"), r.surfer(t)
		tab1, tab2 := s.authorize(ask(one)), s.authorize(ask(two, "redirect_uri", "https://two.example.com/cb"))
		v2, v1 := s.enter(tab2, u), s.enter(tab1, u)
		if !strings.HasPrefix(v1.location.String(), callback) || !strings.HasPrefix(v2.location.String(), "https://two.example.com/cb") {
			t.Errorf("%v, %v", v1.location, v2.location)
		}
		a1 := r.redeem(t, one, v1.code(t)).issued(t)
		a2 := r.redeem(t, two, v2.code(t), "redirect_uri", "https://two.example.com/cb").issued(t)
		offline := r.redeem(t, one, s.authorize(ask(one, "scope", "openid offline_access")).code(t)).issued(t)
		plain := r.redeem(t, one, s.authorize(ask(one, "scope", "read")).code(t)).issued(t)
		if plain.text("id_token") != "" {
			t.Error("an ID token without openid")
		}
		s.authorize(ask(two, "redirect_uri", "https://two.example.com/cb", "prompt", "none")).code(t)

		out := s.open(http.MethodGet, "/logout?"+url.Values{"id_token_hint": {a1.text("id_token")}, "post_logout_redirect_uri": {"https://shop.example.com/bye"}, "state": {"s t"}}.Encode(), "")
		if out.status != http.StatusSeeOther || out.location.String() != "https://shop.example.com/bye?state=s+t" {
			t.Fatalf("the log-out: %d %v %.200s", out.status, out.location, out.body)
		}
		for _, rep := range []*replica{r, other} {
			rep.dead(t, "one's token", one, a1.text("access_token"))
			rep.dead(t, "two's token", two, a2.text("access_token"))
			rep.alive(t, "an offline token", one, offline.text("access_token"))
			rep.alive(t, "a session without openid", one, plain.text("access_token"))
		}
		r.refresh(t, two, a2.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		r.refresh(t, one, offline.text("refresh_token")).issued(t)
		s.authorize(ask(one, "prompt", "none")).refused(t, "login_required")
	})
}

// RP-initiated log-out: nobody is sent to a URI that is not the client's, and no other browser is logged out.
func TestLogout(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const bye = "https://shop.example.com/bye"
		c, another := r.shop(t, "shop", trusted), r.shop(t, "another", trusted, func(c *clients.Client) { c.PostLogoutRedirectURIs = []string{"https://another.example.com/"} })
		u, bob := r.user(t, "alice"), r.user(t, "bob")
		s := r.surfer(t)
		token := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		elsewhere := r.surfer(t)
		foreign := r.redeem(t, c, elsewhere.grant(ask(c), bob).code(t)).issued(t).text("id_token")
		logout := func(pairs ...string) view { return s.open(http.MethodGet, "/logout?"+form(pairs...).Encode(), "") }
		for name, v := range map[string]view{
			"another URI":           logout("id_token_hint", token, "post_logout_redirect_uri", bye+"/"),
			"a query added":         logout("id_token_hint", token, "post_logout_redirect_uri", bye+"?foo=bar"),
			"another client's URI":  logout("id_token_hint", token, "post_logout_redirect_uri", "https://another.example.com/"),
			"URI without a hint":    logout("post_logout_redirect_uri", bye, "state", "x"),
			"URI with a bad hint":   logout("post_logout_redirect_uri", bye, "id_token_hint", "eyJhbGciOiJub25lIn0.e30."),
			"hint of another":       logout("id_token_hint", token, "client_id", another.ID),
			"an unknown client":     logout("client_id", "nobody", "post_logout_redirect_uri", bye),
			"parameters repeated":   logout("id_token_hint", token, "id_token_hint", token),
			"an access token hints": logout("id_token_hint", r.redeem(t, c, s.authorize(ask(c)).code(t)).text("access_token"), "post_logout_redirect_uri", bye),
		} {
			if v.page(t, http.StatusBadRequest); t.Failed() {
				t.Fatal(name)
			}
		}
		for name, v := range map[string]view{
			"nothing": logout(), "state alone": logout("state", "x"), "client_id and URI": logout("client_id", c.ID, "post_logout_redirect_uri", bye),
			"another user's hint": logout("id_token_hint", foreign, "post_logout_redirect_uri", bye),
		} {
			v.page(t, http.StatusOK)
			if v.heading != "Sign out?" {
				t.Errorf("%s: %q", name, v.heading)
			}
			s.submit(v, "decision", "stay").page(t, http.StatusOK)
			s.authorize(ask(c, "prompt", "none")).code(t)
		}
		v := s.submit(logout("client_id", c.ID, "post_logout_redirect_uri", bye, "state", "a&b"), "decision", "logout")
		if v.location == nil || v.location.String() != bye+"?state=a%26b" {
			t.Errorf("%d %v", v.status, v.location)
		}
		s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		elsewhere.authorize(ask(c, "prompt", "none")).code(t)
		if v := logout("id_token_hint", token, "post_logout_redirect_uri", bye); v.location == nil || v.location.String() != bye {
			t.Errorf("logged out before: %d %v", v.status, v.location)
		}
		logout().page(t, http.StatusOK)
		again := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		body := form("id_token_hint", again, "post_logout_redirect_uri", bye).Encode()
		if v := s.open(http.MethodPost, "/logout", body); v.location == nil || v.location.String() != bye {
			t.Errorf("by POST: %d %v", v.status, v.location)
		}
		// A key rotation between login and log-out breaks nothing.
		last := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		_, err := r.keys.Rotate(t.Context(), origin)
		check(t, err)
		if v := logout("id_token_hint", last, "post_logout_redirect_uri", bye); v.location == nil {
			t.Errorf("after a key rotation: %d %q", v.status, v.heading)
		}
	})
}

// ID tokens hold what they should, by each algorithm, and are taken for nothing else.
func TestIDToken(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		u := r.user(t, "alice")
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"name":"Alice","email":"alice@example.com","email_verified":true,"groups":["staff"],"claims":{"tier":"gold"}}`)}, origin)
		check(t, err)
		for _, alg := range []string{"RS256", "ES256", "PS256", "EdDSA"} {
			c := r.shop(t, alg, trusted, func(c *clients.Client) { c.IDTokenAlg = algorithm(alg) })
			s := r.surfer(t)
			nonce := strings.Repeat("n0-", 100)
			a := r.redeem(t, c, s.grant(ask(c, "nonce", nonce, "scope", "openid profile email groups"), u).code(t)).issued(t)
			header, claims := verify(t, r.jwks(t), a.text("id_token"))
			if header["alg"] != alg || header["typ"] != "JWT" {
				t.Errorf("the header is %v", header)
			}
			access := payload(t, a.text("access_token"))
			for name, want := range map[string]any{
				"iss": issuer, "sub": u.ID, "aud": alg, "nonce": nonce, "acr": "aal1", "at_hash": accessHash(alg, a.text("access_token")), "name": "Alice",
				"preferred_username": "alice", "email": "alice@example.com", "email_verified": true, "tier": "gold",
			} {
				if claims[name] != want {
					t.Errorf("%s: %s is %v, want %v", alg, name, claims[name], want)
				}
			}
			if claims["exp"].(float64) <= claims["iat"].(float64) || claims["auth_time"].(float64) > claims["iat"].(float64) || claims["sid"] == "" || claims["phone_number"] != nil {
				t.Errorf("%v", claims)
			}
			if access["groups"] == nil || access["sid"] == claims["sid"] {
				t.Errorf("the access token: %v", access)
			}
			again := r.refresh(t, c, a.text("refresh_token")).issued(t)
			_, later := verify(t, r.jwks(t), again.text("id_token"))
			if later["nonce"] != nil || later["sub"] != claims["sub"] || later["auth_time"] != claims["auth_time"] || later["sid"] != claims["sid"] || later["name"] != "Alice" {
				t.Errorf("after a refresh: %v", later)
			}
			if narrow := r.refresh(t, c, again.text("refresh_token"), "scope", "email").issued(t); narrow.text("id_token") != "" {
				t.Error("an ID token without openid in the narrowed scope")
			}
			info := r.get(t, "/userinfo", only("Authorization", "Bearer "+again.text("access_token")))
			if info.status != http.StatusOK || info.text("sub") != u.ID || info.text("email") != "alice@example.com" || info.text("tier") != "gold" {
				t.Errorf("userinfo: %d %s", info.status, info.body)
			}
			// No kind of token is taken for another.
			for _, kind := range []string{"id_token", "refresh_token"} {
				r.get(t, "/userinfo", only("Authorization", "Bearer "+a.text(kind))).want(t, http.StatusUnauthorized, "invalid_token")
			}
			r.dead(t, "an ID token", c, a.text("id_token"))
			r.refresh(t, c, a.text("id_token")).want(t, http.StatusBadRequest, "invalid_grant")
			r.redeem(t, c, again.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		}
	})
}

// The userinfo endpoint: by header or form, never by query; the truth at the call.
func TestUserInfo(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"name":"Alice","email":"alice@example.com","phone_number":"+15551234567"}`)}, origin)
		check(t, err)
		a := r.redeem(t, c, s.grant(ask(c, "scope", "openid email", "claims", `{"userinfo":{"name":null,"nickname":null},"id_token":{"phone_number":null}}`), u).code(t)).issued(t)
		if claims := payload(t, a.text("id_token")); claims["phone_number"] != "+15551234567" || claims["name"] != nil {
			t.Errorf("the claims parameter: %v", claims)
		}
		token := a.text("access_token")
		want := fmt.Sprintf(`{"email":"alice@example.com","email_verified":false,"name":"Alice","sub":%q}`, u.ID)
		body := form("access_token", token).Encode()
		for name, got := range map[string]answer{
			"GET":          r.get(t, "/userinfo", only("Authorization", "Bearer "+token)),
			"GET, bearer":  r.get(t, "/userinfo", only("Authorization", "bearer "+token)),
			"POST, header": r.do(t, r.request(t.Context(), "/userinfo", "", only("Authorization", "Bearer "+token))),
			"POST, form":   r.do(t, r.request(t.Context(), "/userinfo", body)),
		} {
			if got.status != http.StatusOK || got.body != want || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %s, want %s", name, got.status, got.body, want)
			}
		}
		any := r.get(t, "/userinfo", only("Authorization", "Bearer "+token), header("Origin", "https://anywhere.example.com"))
		if any.header.Get("Access-Control-Allow-Origin") != "*" || any.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("for other origins: %v", any.header)
		}
		r.get(t, "/userinfo?access_token="+token).want(t, http.StatusBadRequest, "invalid_request")
		r.do(t, r.request(t.Context(), "/userinfo", body, only("Authorization", "Bearer "+token))).want(t, http.StatusBadRequest, "invalid_request")
		bare := r.get(t, "/userinfo").want(t, http.StatusUnauthorized, "invalid_token")
		if bare.header.Get("WWW-Authenticate") != `Bearer realm="signet"` {
			t.Errorf("without a token: %q", bare.header.Get("WWW-Authenticate"))
		}
		r.get(t, "/userinfo", only("Authorization", "Bearer x")).want(t, http.StatusUnauthorized, "invalid_token")
		plain := r.redeem(t, c, s.authorize(ask(c, "scope", "email")).code(t)).issued(t)
		r.get(t, "/userinfo", only("Authorization", "Bearer "+plain.text("access_token"))).want(t, http.StatusForbidden, "insufficient_scope")
		isRevoked(t, r.revoke(t, c, token))
		r.get(t, "/userinfo", only("Authorization", "Bearer "+token)).want(t, http.StatusUnauthorized, "invalid_token")
	})
}

// The modes of the answer; what is shown is escaped, and pages have the headers that keep them from harm.
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
		if policy := post.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action https://shop.example.com") || !strings.Contains(policy, "script-src 'self'") {
			t.Errorf("form_post: %q", policy)
		}
		failed := s.authorize(ask(c, "redirect_uri", "https://evil.example.com/"+evil))
		for name, v := range map[string]view{"login": login, "consent": consent, "form_post": post, "error": failed} {
			for _, e := range elements(t, v.body, "*") {
				if e[""] == "script" && name != "form_post" || strings.Contains(e["href"], "evil") {
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
		for accept, lang := range map[string]string{"de-AT,de;q=0.9": "de", "fr": "fr", "zh-CN": "zh", "es-MX": "es", "xx": "en", "": "en"} {
			german := r.surfer(t)
			german.headers["Accept-Language"] = accept
			if v := german.authorize(q()); v.header.Get("Content-Language") != lang || !strings.Contains(v.body, `<html lang="`+lang+`"`) {
				t.Errorf("%q: %q", accept, v.header.Get("Content-Language"))
			}
		}
		if v := r.surfer(t).authorize(q("ui_locales", "se de")); v.header.Get("Content-Language") != "de" {
			t.Errorf("ui_locales: %q", v.header.Get("Content-Language"))
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

// Nothing that a visitor who is not logged in does writes to the database, but what the throttle counts.
func TestVisitorsWriteNothing(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.shop(t, "shop")
		rows := func() (n int64) {
			for _, table := range []string{"logins", "authorization_codes", "consents", "sessions", "audit_events", "logout_notices"} {
				n += b.Int(t, "SELECT count(*) FROM "+table)
			}
			return n
		}
		before := rows()
		for range 20 {
			s := r.surfer(t)
			v := s.authorize(ask(c))
			s.submit(v, "decision", "deny").refused(t, "access_denied")
			s.open(http.MethodGet, "/logout", "").page(t, http.StatusOK)
			s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		}
		if now := rows(); now != before {
			t.Errorf("%d rows, there were %d", now, before)
		}
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

package server_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"signet/clients"
	"signet/fetch"
	"signet/users"
)

// What went wrong in the browser flows of other servers, and does not here. The rows that a line of the conformance tests proves in
// full are there.
func TestBrowserFlowTraps(t *testing.T) {
	register := func(t *testing.T, x *exam, change func(*clients.Client)) error {
		t.Helper()
		x.n++
		c := clients.Client{
			ID: fmt.Sprint("registered-", x.n), Name: "x", ApplicationType: clients.Native, AuthMethod: clients.None,
			Grants: []clients.Grant{clients.AuthorizationCode}, RedirectURIs: []string{callback},
		}
		change(&c)
		_, err := x.clients.Create(t.Context(), c, origin)
		return err
	}
	refused := func(t *testing.T, x *exam, field string, values []string, set func(*clients.Client, string)) {
		t.Helper()
		for _, v := range values {
			if err := register(t, x, func(c *clients.Client) { set(c, v) }); err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("%s %q: %v", field, v, err)
			}
		}
	}
	redirect := func(c *clients.Client, uri string) { c.RedirectURIs = []string{callback, uri} }
	plan(t, []module{
		{"01 an error was redirected before client and URI were looked up", func(t *testing.T, x *exam) {
			for _, wrong := range [][2]string{{"", ""}, {"scope", "x"}, {"response_type", "x"}, {"prompt", "none"}, {"prompt", "x"}, {"max_age", "x"}, {"claims", "{"}, {"id_token_hint", "x"}, {"nonce", "\x00"}} {
				for _, q := range []url.Values{x.request(x.one, "client_id", "nobody"), x.request(x.one, "redirect_uri", "https://evil.example.com/cb")} {
					if wrong[0] != "" {
						q.Set(wrong[0], wrong[1])
					}
					x.s.authorize(q).page(t, http.StatusBadRequest)
				}
			}
		}},
		{"02 hosts were compared by their ends", func(t *testing.T, x *exam) {
			check(t, register(t, x, func(c *clients.Client) { c.ID, c.RedirectURIs = "suffix", []string{"https://example.com/cb"} }))
			for _, uri := range []string{"https://evil-example.com/cb", "https://www.example.com/cb", "https://.example.com/cb", "https://evil.example/example.com/cb", "https:///cb", "/cb"} {
				x.s.authorize(x.request(x.one, "client_id", "suffix", "redirect_uri", uri)).page(t, http.StatusBadRequest)
			}
		}},
		{"04 the registered URI was written anew", func(t *testing.T, x *exam) {
			const uri = "https://shop.example.com/a%2Bb?z=1&a=%c3%bc&a=&b"
			c := x.shop(t, "bytes", trusted, func(c *clients.Client) { c.RedirectURIs = []string{uri} })
			if got := x.s.grant(ask(c, "redirect_uri", uri), x.user).header.Get("Location"); !strings.HasPrefix(got, uri+"&code=") {
				t.Errorf("sent to %s", got)
			}
		}},
		{"07 a missing verifier was an unknown error", func(t *testing.T, x *exam) {
			for _, c := range []*clients.Client{x.one, x.shop(t, "strict", trusted)} {
				code := x.s.grant(ask(c), x.user).code(t)
				refusal(t, x.redeem(t, c, code, "code_verifier", ""), "invalid_grant")
				x.redeem(t, c, code).issued(t)
			}
		}},
		{"09 parameters of query and body were merged", func(t *testing.T, x *exam) {
			q := x.request(x.one)
			x.s.open(http.MethodPost, "/authorize?"+q.Encode(), "").page(t, http.StatusBadRequest)
			body := form("client_id", x.one.ID).Encode()
			x.s.open(http.MethodPost, "/authorize?"+q.Encode(), body).refused(t, "invalid_request") // it has no response_type
			f := form("grant_type", "authorization_code", "redirect_uri", callback)
			a := x.do(t, x.replica.request(t.Context(), "/token?code=x", f.Encode(), basic(x.one.ID, x.one.Secret)))
			a.want(t, http.StatusBadRequest, "invalid_request")
		}},
		{"11 the form of the consent page was believed", func(t *testing.T, x *exam) {
			c := x.shop(t, "believed")
			v := x.s.enter(x.s.authorize(ask(c)), x.user)
			if len(v.hidden) != 1 {
				t.Errorf("hidden fields: %v", v.hidden)
			}
			v = x.s.submit(v, "decision", "allow", "redirect_uri", "https://evil.example.com/", "client_id", "two", "scope", "openid write", "state", "other", "response_mode", "fragment", "code_challenge", "x", "user", "x", "login", "x")
			if got := v.parameters(t, "query"); got.Get("state") != "xyz" || !strings.HasPrefix(v.location.String(), callback+"?") {
				t.Errorf("sent to %v", v.location)
			}
			if a := x.redeem(t, c, v.code(t)).issued(t); a.text("scope") != "openid" {
				t.Errorf("tokens: %s", a.body)
			}
		}},
		{"13 parsers did not agree on who is the host", func(t *testing.T, x *exam) {
			refused(t, x, "redirect_uris", []string{
				"http://shop.example.com@evil.example.com", "https://shop.example.com%2F@evil.example.com/", "https://a@b@c/", "//evil.example.com/", "https:evil.example.com", "https:/evil.example.com",
				"https://evil.example.com\\@shop.example.com/", "https:///evil.example.com", "https://[evil.example.com]/", "https://shop.example.com:x/", "https://shop.example.com:/", "https://sh%6fp.example.com/",
				"https://shop example.com/", "https://sh\u043ep.example.com/", "https://shop.example.com:99999/", "https://",
			}, redirect)
		}},
		{"14 dots and slashes in disguise", func(t *testing.T, x *exam) {
			for _, end := range []string{"/..;/", "/%2e%2e/", "%2f", "%5c", "\\", "/..\\", "/.%2e/", "%252e%252e", "/;/../", "%c0%ae"} {
				x.s.authorize(x.request(x.one, "redirect_uri", callback+end)).page(t, http.StatusBadRequest)
			}
			refused(t, x, "redirect_uris", []string{callback + "/..;/", callback + "/%2e%2e/", callback + "%2f", callback + "%5c", callback + "\\", callback + "/../", callback + "/./x", callback + "%00"}, redirect)
		}},
		{"15 a black list of schemes", func(t *testing.T, x *exam) {
			refused(t, x, "redirect_uris", []string{
				"javascript:alert(1)", "JaVaScRiPt:alert(1)", "javascript://shop.example.com/%0aalert(1)", "\tjavascript:alert(1)", " https://shop.example.com/", "data:text/html,x", "data://x/", "blob:https://x/", "vbscript:x",
				"file:///etc/passwd", "ftp://x/", "ws://x/", "about:blank", "intent://x/", "app:/cb", "myapp://cb", "https://shop.example.com/\x00", "https://shop.example.com/\r\nX: y", "https://*.example.com/", "https://shop.example.com/*",
				"http://shop.example.com/cb", "http://192.168.1.1/cb", "HTTPS://shop.example.com/", "com.example.app:cb", "",
			}, redirect)
			for _, uri := range []string{"https://shop.example.com/x", "http://127.0.0.1/cb", "http://[::1]/cb", "http://localhost:3000/cb", "com.example.app:/cb", "com.example.app://host/cb"} {
				check(t, register(t, x, func(c *clients.Client) { redirect(c, uri) }))
			}
			refused(t, x, "redirect_uris", []string{"com.example.app:/cb"}, func(c *clients.Client, uri string) { c.ApplicationType = clients.Web; redirect(c, uri) })
		}},
		{"18 a registered URI brought its own code or state", func(t *testing.T, x *exam) {
			refused(t, x, "redirect_uris", []string{
				callback + "?code=x", callback + "?a=b&state=x", callback + "?iss=x", callback + "?error=x", callback + "?error_description=x", callback + "#code=x", callback + "?%63ode=x", callback + "?a;code=x", callback + "?response=x",
				callback + "#", callback + "#f",
			}, redirect)
			check(t, register(t, x, func(c *clients.Client) { redirect(c, callback+"?encode=x&estate=y") }))
			check(t, register(t, x, func(c *clients.Client) { c.PostLogoutRedirectURIs = []string{callback + "?state=x&code=y"} })) // there it does no harm
			refused(t, x, "post_logout_redirect_uris", []string{callback + "#f", "javascript:x", "http://shop.example.com/"}, func(c *clients.Client, uri string) { c.PostLogoutRedirectURIs = []string{uri} })
		}},
		{"20 a code was bound to its client or to its time", func(t *testing.T, x *exam) {
			code, late := x.s.grant(ask(x.one), x.user).code(t), x.s.grant(ask(x.one), x.user).code(t)
			refusal(t, x.redeem(t, x.two, code), "invalid_grant")
			x.redeem(t, x.one, code).issued(t)
			x.b.Age(t, 61*time.Second)
			refusal(t, x.redeem(t, x.two, late), "invalid_grant")
			refusal(t, x.redeem(t, x.one, late), "invalid_grant")
		}},
		{"24 what waits for a user was taken over in another browser", func(t *testing.T, x *exam) {
			c, thief := x.shop(t, "waiting"), x.surfer(t)
			thief.authorize(ask(c))
			login := x.s.authorize(ask(c))
			// The password that comes with it is not looked at: the request begins anew, as by the link.
			if v := thief.submit(login, "username", x.user.Username, "password", password); v.status != http.StatusBadRequest || v.action != "/login" || thief.cookies["__Host-signet_login"] != "" {
				t.Errorf("%d, a form to %q, cookies %v", v.status, v.action, thief.cookies)
			}
			consent := x.s.enter(login, x.user)
			thief.submit(consent, "decision", "allow").page(t, http.StatusBadRequest)
			thief.enter(thief.authorize(ask(c)), x.replica.user(t, "thief")).page(t, http.StatusOK)
			thief.submit(consent, "decision", "allow").page(t, http.StatusBadRequest)
			for _, path := range []string{"/login", "/consent", "/login/account"} { // the address alone is worth nothing
				if v := x.s.open(http.MethodGet, path+"?request="+consent.hidden.Get("request"), ""); v.location != nil || v.status != http.StatusNotFound {
					t.Errorf("%s: %d %v", path, v.status, v.location)
				}
			}
			x.s.submit(consent, "decision", "allow").code(t)
		}},
		{"25 a parameter skipped the consent", func(t *testing.T, x *exam) {
			c := x.shop(t, "asked")
			x.s.enter(x.s.authorize(ask(c)), x.user)
			for _, pair := range [][2]string{
				{"skip_consent", "true"}, {"bypass_approval_prompt", "true"}, {"approval_prompt", "auto"}, {"decision", "allow"}, {"confirmed", "1"}, {"trusted", "1"}, {"prompt", "login"}, {"consent", "1"},
				{"request", ""}, {"display", "none"}, {"max_age", "100000"},
			} {
				v := x.s.authorize(ask(c, pair[0], pair[1]))
				if strings.HasSuffix(v.action, "/login") {
					v = x.s.enter(v, x.user)
				}
				if !strings.HasSuffix(v.action, "/consent") {
					t.Errorf("%v: %d %v", pair, v.status, v.location)
				}
			}
			x.s.open(http.MethodGet, "/consent?decision=allow", "").page(t, http.StatusNotFound)
		}},
		{"29 pages could be framed, and the referrer told the code", func(t *testing.T, x *exam) {
			c := x.shop(t, "framed")
			login := x.s.authorize(ask(c))
			consent := x.s.enter(login, x.user)
			for name, v := range map[string]view{
				"login": login, "wrong password": x.surfer(t).authorize(ask(c, "login_hint", "x")), "consent": consent, "account": x.s.authorize(ask(c, "prompt", "select_account")), "log-out": x.s.open(http.MethodGet, "/logout", ""),
				"error": x.s.authorize(ask(c, "client_id", "x")), "stale": x.s.open(http.MethodGet, "/login", ""), "foreign": x.s.open(http.MethodPost, "/consent", "", header("Sec-Fetch-Site", "cross-site")),
				"form_post": x.s.authorize(ask(c, "response_mode", "form_post", "scope", "x")), "a code": x.s.submit(consent, "decision", "allow"), "an error": x.s.authorize(ask(c, "scope", "x")),
				"logged out": x.surfer(t).open(http.MethodGet, "/logout", ""), "logged out and back": x.surfer(t).open(http.MethodGet, "/logout?client_id=framed&post_logout_redirect_uri="+url.QueryEscape("https://shop.example.com/bye"), ""),
				"by POST": x.surfer(t).open(http.MethodPost, "/authorize", ask(c).Encode(), header("Sec-Fetch-Site", "cross-site")),
			} {
				h := v.header
				if h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: %v", name, h)
				}
				if policy := h.Get("Content-Security-Policy"); v.location == nil && (!strings.Contains(policy, "frame-ancestors 'none'") || h.Get("X-Frame-Options") != "DENY" || strings.Contains(policy, "unsafe")) {
					t.Errorf("%s: %v", name, h)
				}
			}
		}},
		{"31 and 32 what a client says of itself ran as a script", func(t *testing.T, x *exam) {
			const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
			set := map[string]func(*clients.Client, string){
				"client_uri": func(c *clients.Client, v string) { c.ClientURI = v }, "logo_uri": func(c *clients.Client, v string) { c.LogoURI = v },
				"policy_uri": func(c *clients.Client, v string) { c.PolicyURI = v }, "tos_uri": func(c *clients.Client, v string) { c.TOSURI = v },
			}
			for field, f := range set {
				refused(t, x, field, []string{"javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:image/svg+xml,x", "http://shop.example.com/", "//x", "x", "https://x/" + evil, "com.example.app:/x"}, f)
			}
			c := x.shop(t, "script", func(c *clients.Client) { c.Name = "Shop " + evil })
			check(t, ignore(x.clients.DescribeScope(t.Context(), "read", "Read "+evil, origin)))
			// Behind the back of registration, as from an older version.
			details := `'{"logo_uri":"javascript:alert(1)","client_uri":"javascript:alert(2)","policy_uri":"data:text/html,x","tos_uri":"javascript:alert(3)","id_token_signed_response_alg":"ES256"}'`
			x.b.Exec(t, `UPDATE clients SET details = `+details+` WHERE id = 'script'`)
			time.Sleep(clients.Staleness)
			login := x.s.authorize(ask(c, "login_hint", evil, "scope", "openid read", "ui_locales", evil, "state", evil))
			for name, v := range map[string]view{"login": login, "consent": x.s.enter(login, x.user)} {
				v.page(t, http.StatusOK)
				for _, e := range elements(t, v.body, "*") {
					for attr, value := range e {
						if e[""] == "script" && e["src"] == "" || strings.HasPrefix(attr, "on") || attr == "style" || (attr == "href" || attr == "src" || attr == "action") && (strings.HasPrefix(value, "javascript:") || strings.HasPrefix(value, "data:")) {
							t.Errorf("%s: %v", name, e)
						}
					}
				}
			}
		}},
		{"33 cookies held the request", func(t *testing.T, x *exam) {
			s := x.surfer(t)
			v := s.enter(s.authorize(ask(x.one, "state", "secret-state", "login_hint", "secret-hint")), x.user, "stay", "1")
			for _, c := range (&http.Response{Header: v.header}).Cookies() {
				if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") || len(c.Value) > 120 || strings.Contains(c.Value, "secret") {
					t.Errorf("%v", c)
				}
			}
			names := []string{}
			for name := range s.cookies {
				names = append(names, name)
			}
			slices.Sort(names)
			equal(t, "cookies", names, []string{"__Host-signet_browser", "__Host-signet_login"})
			if cookies := (&http.Response{Header: v.header}).Cookies(); len(cookies) == 0 || cookies[0].MaxAge != 30*24*3600 {
				t.Errorf("stay signed in: %v", cookies)
			}
		}},
		{"34 prompt=none showed a page", func(t *testing.T, x *exam) {
			for _, s := range []*surfer{x.surfer(t), x.s} {
				for _, q := range []url.Values{x.request(x.one), x.request(x.one, "scope", "openid read write"), x.request(x.one, "max_age", "0"), x.request(x.one, "id_token_hint", "x"), x.request(x.one, "claims", `{"id_token":{"sub":{"value":"x"}}}`)} {
					q.Set("prompt", "none")
					if v := s.authorize(q); v.status != http.StatusSeeOther || !strings.HasPrefix(v.location.String(), callback+"?") {
						t.Errorf("%d %v", v.status, v.location)
					}
				}
			}
		}},
		{"35 parameters of megabytes", func(t *testing.T, x *exam) {
			for name, most := range map[string]int{"scope": 4 << 10, "state": 2 << 10, "nonce": 1 << 10, "claims": 16 << 10, "login_hint": 1 << 10, "resource": 2 << 10, "prompt": 255, "acr_values": 1 << 10} {
				for _, long := range []string{strings.Repeat("x", most+1), strings.Repeat("x", 60<<10)} {
					v := x.s.authorize(x.request(x.one, name, long))
					if v.refused(t, "invalid_request"); name == "state" && v.parameters(t, "query").Get("state") != long {
						t.Errorf("a state of %d bytes came back otherwise", len(long))
					}
				}
			}
			if v := x.s.grant(x.request(x.one, "nonce", strings.Repeat("x", 1<<10)), x.user); payload(t, x.redeem(t, x.one, v.code(t), "code_verifier", "").text("id_token"))["nonce"] != strings.Repeat("x", 1<<10) {
				t.Error("a nonce of 1 KiB is cut off")
			}
		}},
		{"38 a claim of the user's own took the place of a registered one", func(t *testing.T, x *exam) {
			for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "sid", "nonce", "acr", "amr", "at_hash", "scope", "client_id", "email", "email_verified", "groups", "name", "jti", "events", "cnf", "act", "azp", "auth_time"} {
				_, err := x.users.Update(t.Context(), x.user.ID, users.Change{Profile: members(t, `{"claims":{"`+name+`":"x"}}`)}, origin)
				if err == nil {
					t.Errorf("%s is taken", name)
				}
			}
			u := x.replica.user(t, "inventive")
			x.b.Exec(t, `UPDATE users SET profile = $1 WHERE id = $2`, `{"claims":{"sub":"x","groups":["admins"],"email":"x@example.com","tier":"gold","iss":"x"}}`, u.ID)
			s := x.surfer(t)
			a := x.redeem(t, x.one, s.grant(ask(x.one, "scope", "openid profile email groups"), u).code(t)).issued(t)
			claims := payload(t, a.text("id_token"))
			if claims["sub"] != u.ID || claims["iss"] != issuer || claims["groups"] != nil || claims["email"] != nil || claims["tier"] != "gold" || payload(t, a.text("access_token"))["groups"] != nil {
				t.Errorf("%v", claims)
			}
		}},
		{"39 an address stayed verified when it changed", func(t *testing.T, x *exam) {
			u := x.replica.user(t, "mover")
			for _, change := range []string{`{"email":"mover@example.com","email_verified":true}`, `{"email":"moved@example.com"}`} {
				_, err := x.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, change)}, origin)
				check(t, err)
			}
			a := x.redeem(t, x.one, x.surfer(t).grant(ask(x.one, "scope", "openid email"), u).code(t)).issued(t)
			if claims := payload(t, a.text("id_token")); claims["email"] != "moved@example.com" || claims["email_verified"] != false {
				t.Errorf("%v", claims)
			}
			if _, err := x.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"email":"FOO@example.com","email_verified":true}`)}, origin); err == nil {
				t.Error("two users have one verified address")
			}
		}},
		{"40 withdrawn consent went on", func(t *testing.T, x *exam) {
			c := x.shop(t, "withdrawn")
			a := x.redeem(t, c, x.s.grant(ask(c, "scope", "openid offline_access"), x.user).code(t)).issued(t)
			_, err := x.authorizations.Withdraw(t.Context(), x.user.ID, c.ID, origin)
			check(t, err)
			x.get(t, "/userinfo", only("Authorization", "Bearer "+a.text("access_token"))).want(t, http.StatusUnauthorized, "invalid_token")
			refusal(t, x.refresh(t, c, a.text("refresh_token")), "invalid_grant")
			x.s.authorize(ask(c, "prompt", "none")).refused(t, "consent_required")
		}},
		{"43 a log-out left another tab's request alive", func(t *testing.T, x *exam) {
			c := x.shop(t, "tabs")
			account := x.s.authorize(ask(c))
			consent := x.s.enter(account, x.user)
			account = x.s.authorize(ask(c, "prompt", "select_account"))
			x.s.logOut()
			for _, v := range []view{x.s.submit(consent, "decision", "allow"), x.s.submit(account, "decision", "continue")} {
				if v.page(t, http.StatusOK); !strings.HasSuffix(v.action, "/login") {
					t.Errorf("%q", v.heading)
				}
			}
		}},
		{"45 a client that never answers held up the log-out", func(t *testing.T, x *exam) {
			hole, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and says nothing
			check(t, err)
			defer hole.Close()
			to := newReceiver(t)
			silent := x.shop(t, "hole", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = "http://" + hole.Addr().String() })
			told := x.shop(t, "heard", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = to.URL })
			for _, c := range []*clients.Client{silent, told} {
				x.redeem(t, c, x.s.grant(ask(c), x.user).code(t)).issued(t)
			}
			began := time.Now()
			x.s.logOut()
			if took := time.Since(began); took > 4*time.Second { // it would be five: the time-out of a call
				t.Errorf("the log-out took %s", took)
			}
			caller := fetch.New(onThisMachine, "test")
			defer caller.Close()
			check(t, x.tokens.TellDue(t.Context(), x.clients, caller))
			if heard := to.all(); len(heard) != 1 {
				t.Errorf("the other client heard %v", heard)
			}
			if n := x.b.Int(t, `SELECT count(*) FROM logout_notices WHERE client_id = 'hole' AND attempts = 1`); n != 1 {
				t.Errorf("%d notices", n)
			}
		}},
		{"46 a retry came with the token of before", func(t *testing.T, x *exam) {
			to := newReceiver(t)
			to.answers(http.StatusInternalServerError)
			c := x.shop(t, "retried", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = to.URL })
			x.redeem(t, c, x.s.grant(ask(c), x.user).code(t)).issued(t)
			x.s.logOut()
			caller := fetch.New(onThisMachine, "test")
			defer caller.Close()
			seen := map[any]bool{}
			for range 3 {
				check(t, x.tokens.TellDue(t.Context(), x.clients, caller))
				heard := to.all()
				if len(heard) != 1 {
					t.Fatalf("heard %v", heard)
				}
				claims := payload(t, heard[0].Get("logout_token"))
				if seen[claims["jti"]] || claims["exp"].(float64) <= float64(time.Now().Unix()) || claims["exp"].(float64)-claims["iat"].(float64) > 120 {
					t.Errorf("%v", claims)
				}
				seen[claims["jti"]] = true
				x.b.Age(t, time.Minute)
			}
		}},
		{"a log-out was asked for by an image or a form of another site", func(t *testing.T, x *exam) {
			p := x.flow(t, x.one)
			stranger := x.surfer(t)
			if v := stranger.open(http.MethodGet, "/logout", ""); v.header.Get("Set-Cookie") != "" && strings.Contains(v.header.Get("Set-Cookie"), "signet_login") {
				t.Errorf("an image takes the cookie away: %v", v.header)
			}
			// A form of another site brings no cookie along; neither may it take it away, nor may the client believe that it was heard.
			hint := p.tokens.text("id_token")
			f := form("id_token_hint", hint, "post_logout_redirect_uri", "https://shop.example.com/bye", "state", "s").Encode()
			v := stranger.open(http.MethodPost, "/logout", f, header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://shop.example.com"))
			if v.status != http.StatusSeeOther || !strings.HasPrefix(v.location.String(), issuer+"/logout?") || strings.Contains(strings.Join(v.header.Values("Set-Cookie"), " "), "signet_login") {
				t.Fatalf("%d %v %v", v.status, v.location, v.header.Values("Set-Cookie"))
			}
			x.s.authorize(x.request(x.one, "prompt", "none")).code(t)
			v = x.s.open(http.MethodGet, strings.TrimPrefix(v.location.String(), issuer), "")
			if v.location == nil || v.location.String() != "https://shop.example.com/bye?state=s" {
				t.Errorf("%d %v", v.status, v.location)
			}
			x.s.authorize(x.request(x.one, "prompt", "none")).refused(t, "login_required")
			x.dead(t, "its session", x.one, p.tokens.text("access_token"))
			// The question's own form is the page's alone.
			x.flow(t, x.one)
			ask := x.s.open(http.MethodGet, "/logout", "")
			x.s.open(http.MethodPost, "/logout", form("decision", "logout", "request", ask.hidden.Get("request")).Encode(), header("Sec-Fetch-Site", "cross-site")).page(t, http.StatusForbidden)
			x.surfer(t).open(http.MethodPost, "/logout", form("decision", "logout", "request", ask.hidden.Get("request")).Encode()).page(t, http.StatusBadRequest)
			x.s.authorize(x.request(x.one, "prompt", "none")).code(t)
		}},
		{"an id_token_hint was enough to log another browser out", func(t *testing.T, x *exam) {
			hint := x.flow(t, x.one).tokens.text("id_token")
			other := x.surfer(t)
			other.grant(x.request(x.one), x.user).code(t)
			v := other.open(http.MethodGet, "/logout?id_token_hint="+hint, "")
			if v.page(t, http.StatusOK); !strings.HasSuffix(v.action, "/logout") {
				t.Errorf("not asked: %q", v.heading)
			}
			x.surfer(t).open(http.MethodGet, "/logout?id_token_hint="+hint, "").page(t, http.StatusOK)
			x.s.authorize(x.request(x.one, "prompt", "none")).code(t)
			other.authorize(x.request(x.one, "prompt", "none")).code(t)
		}},
		{"names of users were told by the login page", func(t *testing.T, x *exam) {
			gone := x.replica.user(t, "disabled")
			_, err := x.users.Update(t.Context(), gone.ID, users.Change{Disabled: new(true)}, origin)
			check(t, err)
			pages := map[string]bool{}
			for _, try := range [][2]string{{x.user.Username, "wrong"}, {"xxx", "wrong"}, {"xxx", password}, {"disabled", password}, {"disabled", "wrong"}} {
				v := x.s.submit(x.s.authorize(x.request(x.one)), "username", try[0], "password", try[1])
				v.page(t, http.StatusUnauthorized)
				body := strings.ReplaceAll(v.body, `value="`+try[0]+`"`, "")
				for _, b := range elements(t, v.body, "button") {
					if b["data-options"] != "" { // asks a passkey of anybody, by a new challenge each time
						body = strings.ReplaceAll(body, b["data-options"], "")
					}
				}
				for _, name := range []string{"request", "challenge"} {
					body = strings.ReplaceAll(body, v.hidden.Get(name), "")
				}
				pages[body] = true
			}
			if len(pages) != 1 {
				t.Errorf("%d different pages", len(pages))
			}
		}},
		{"an open redirect after the login", func(t *testing.T, x *exam) {
			for _, name := range []string{"next", "return_to", "returnUrl", "redirect", "continue", "url", "target", "r"} {
				for _, to := range []string{"//evil.example.com", "/\\evil.example.com", "https:evil.example.com", "https://evil.example.com", "\t//evil.example.com"} {
					v := x.s.authorize(x.request(x.one, name, to, "prompt", "login"))
					v = x.s.submit(v, "username", x.user.Username, "password", password, name, to)
					if strings.HasSuffix(v.action, "/consent") {
						v = x.s.submit(v, "decision", "allow", name, to)
					}
					if v.location == nil || !strings.HasPrefix(v.location.String(), callback+"?code=") {
						t.Fatalf("%s=%q: %d %v", name, to, v.status, v.location)
					}
				}
			}
		}},
	})
}
